package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	// logDelay is how long a piece of a program's output waits for more of it.
	logDelay = 100 * time.Millisecond
	// logTail is how much of a stream of running work is kept, for servers that
	// were away when it was written.
	logTail = 64 << 10
)

// logs are the streams of running work that have been written to.
type logs struct {
	mu   sync.Mutex
	open map[*logPipe]struct{}
}

// logPipes returns what a program writes its two streams to, and what ends them.
func (a *Agent) logPipes(order crypto.Digest) (stdout, stderr *logPipe, end func()) {
	begun := timeMs(time.Now())
	stdout = &logPipe{agent: a, order: order, begun: begun}
	stderr = &logPipe{agent: a, order: order, begun: begun, stderr: true}
	return stdout, stderr, func() {
		stdout.close()
		stderr.close()
	}
}

func (l *logs) enter(p *logPipe) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*logPipe]struct{}{}
	}
	l.open[p] = struct{}{}
}

func (l *logs) leave(p *logPipe) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, p)
}

// tails returns the newest of what running work wrote.
func (l *logs) tails() (pieces []job.Log) {
	l.mu.Lock()
	open := make([]*logPipe, 0, len(l.open))
	for p := range l.open {
		open = append(open, p)
	}
	l.mu.Unlock()
	for _, p := range open {
		pieces = append(pieces, p.newest()...)
	}
	return pieces
}

// writeLogs tells a server what running work wrote last, which it may have
// missed. It knows by the offsets what it has.
func (s *session) writeLogs(control *transport.Stream) error {
	for _, piece := range s.agent.logs.tails() {
		if err := writeMessage(control, piece); err != nil {
			return err
		}
	}
	return nil
}

// logPipe sends what a program writes to one of its streams, in pieces of at
// most job.MaxLogChunk. The executor bounds the whole.
type logPipe struct {
	agent  *Agent
	order  crypto.Digest
	begun  chain.TimeMs
	stderr bool

	mu     sync.Mutex
	buf    []byte
	offset uint64 // of buf in the stream
	timer  *time.Timer
	tail   []byte // what was sent last, which ends at offset
}

// Write takes p; it never fails and never waits for a server.
func (l *logPipe) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		if len(l.buf) == 0 {
			l.timer = time.AfterFunc(logDelay, l.flush)
		}
		take := min(len(p), job.MaxLogChunk-len(l.buf))
		l.buf = append(l.buf, p[:take]...)
		p = p[take:]
		if len(l.buf) == job.MaxLogChunk {
			l.emit()
		}
	}
	return n, nil
}

// flush sends what waits.
func (l *logPipe) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit()
}

// close sends what waits and forgets the stream.
func (l *logPipe) close() {
	l.flush()
	l.agent.logs.leave(l)
}

// emit sends the buffer. The caller holds l.mu.
func (l *logPipe) emit() {
	if len(l.buf) == 0 {
		return
	}
	l.timer.Stop()
	if l.offset == 0 {
		l.agent.logs.enter(l)
	}
	l.agent.broadcastLog(job.Log{Order: l.order, Begun: l.begun, Stderr: l.stderr, Offset: l.offset, Data: l.buf})
	l.offset += uint64(len(l.buf))
	if over := len(l.tail) + len(l.buf) - logTail; over > 0 {
		l.tail = slices.Delete(l.tail, 0, min(over, len(l.tail)))
	}
	l.tail = append(l.tail, l.buf...) // a piece is no longer than a tail
	l.buf = nil
}

// newest returns what was sent last, again in pieces.
func (l *logPipe) newest() (pieces []job.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.offset - uint64(len(l.tail))
	for data := range slices.Chunk(slices.Clone(l.tail), job.MaxLogChunk) {
		pieces = append(pieces, job.Log{Order: l.order, Begun: l.begun, Stderr: l.stderr, Offset: at, Data: data})
		at += uint64(len(data))
	}
	return pieces
}
