package agent

import (
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// logDelay is how long a piece of a program's output waits for more of it.
const logDelay = 100 * time.Millisecond

// logPipe sends what a program writes to one of its streams, in pieces of at
// most job.MaxLogChunk. The executor bounds the whole.
type logPipe struct {
	send   func(job.Log)
	order  crypto.Digest
	stderr bool

	mu     sync.Mutex
	buf    []byte
	offset uint64 // of buf in the stream
	timer  *time.Timer
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

// emit sends the buffer. The caller holds l.mu.
func (l *logPipe) emit() {
	if len(l.buf) == 0 {
		return
	}
	l.timer.Stop()
	l.send(job.Log{Order: l.order, Stderr: l.stderr, Offset: l.offset, Data: l.buf})
	l.offset += uint64(len(l.buf))
	l.buf = nil
}
