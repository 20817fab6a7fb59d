package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	// logBytes bounds what is kept of one job's output; the oldest goes first.
	logBytes = 512 << 10
	// logJobs bounds the jobs whose output is kept; the oldest goes first.
	logJobs = 256
	// pieceOverhead counts for a piece beside its data, so that many small ones
	// are bounded too.
	pieceOverhead = 128

	// What comes of work that this server has not heard of yet is held, so much of
	// one node, and of so many pieces of work.
	heldBytes = 256 << 10
	heldWorks = 256

	// logStreams bounds the streams that the nodes of one job may name.
	logStreams = 256
)

// jobLogs is what running programs wrote, as far as it is kept.
type jobLogs struct {
	life string // of this process: numbers of another mean nothing

	mu    sync.Mutex
	byJob map[crypto.Digest]*jobLog
	order []crypto.Digest // by first piece
	more  chan struct{}   // closed, and another put in its place, by every piece

	held      map[work][]job.Log
	heldOrder []work
	heldOf    map[crypto.PublicKey]int // bytes
}

// work is a job on a node.
type work struct {
	order crypto.Digest
	node  crypto.PublicKey
}

// jobLog is the newest pieces of one job. They are numbered from 1 without
// gaps; the first that is kept has the number first.
type jobLog struct {
	first  uint64
	pieces []api.JobLog
	bytes  int
	next   map[logStream]uint64 // offset after the newest piece
}

// logStream is one stream of a run of a job.
type logStream struct {
	node   crypto.PublicKey
	begun  chain.TimeMs
	stderr bool
}

func newJobLogs() *jobLogs {
	var life [4]byte
	if _, err := rand.Read(life[:]); err != nil {
		panic(fmt.Sprintf("server: no randomness: %v", err)) // crypto/rand never fails
	}
	return &jobLogs{
		life: hex.EncodeToString(life[:]), byJob: map[crypto.Digest]*jobLog{}, more: make(chan struct{}),
		held: map[work][]job.Log{}, heldOf: map[crypto.PublicKey]int{},
	}
}

// eventID names a piece for whoever resumes after it.
func (l *jobLogs) eventID(number uint64) string { return strconv.FormatUint(number, 10) + "-" + l.life }

// number returns what an event id says, 0 for one of another server or life.
func (l *jobLogs) number(id string) (uint64, error) {
	text, life, _ := strings.Cut(id, "-")
	if life != l.life {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("is %.40q, want an id of this stream", id)
	}
	return n, nil
}

// of returns a job's log, which it begins. The caller holds l.mu.
func (l *jobLogs) of(order crypto.Digest) *jobLog {
	if found := l.byJob[order]; found != nil {
		return found
	}
	if len(l.order) == logJobs {
		delete(l.byJob, l.order[0])
		l.order = l.order[1:]
	}
	made := &jobLog{first: 1, next: map[logStream]uint64{}}
	l.byJob[order] = made
	l.order = append(l.order, order)
	return made
}

// add keeps a piece that a node sent, as far as it is new.
func (l *jobLogs) add(node crypto.PublicKey, m job.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.of(m.Order)
	stream := logStream{node, m.Begun, m.Stderr}
	next, known := j.next[stream]
	if !known && len(j.next) >= logStreams {
		return
	}
	end := m.Offset + uint64(len(m.Data))
	if end <= next || end < m.Offset {
		return
	}
	if m.Offset < next {
		m.Offset, m.Data = next, m.Data[next-m.Offset:]
	}
	j.next[stream] = end
	j.pieces = append(j.pieces, api.JobLog{Node: node, Begun: m.Begun, Stderr: m.Stderr, Offset: api.Uint64(m.Offset), Data: m.Data})
	j.bytes += len(m.Data) + pieceOverhead
	for j.bytes > logBytes {
		j.bytes -= len(j.pieces[0].Data) + pieceOverhead
		j.pieces = j.pieces[1:]
		j.first++
	}
	close(l.more)
	l.more = make(chan struct{})
}

// after returns the pieces after a number, the number of the last piece there
// is, and a channel that the next piece of any job closes.
func (l *jobLogs) after(order crypto.Digest, seen uint64) (pieces []api.JobLog, last uint64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.byJob[order]
	if j == nil {
		return nil, seen, l.more
	}
	end := j.first + uint64(len(j.pieces)) // the number of the next piece
	from := max(seen+1, j.first)
	if seen >= end { // the job was forgotten and has begun anew
		from = j.first
	}
	if from >= end {
		return nil, end - 1, l.more
	}
	return j.pieces[from-j.first:], end - 1, l.more
}

// hold keeps a piece of work that is not known here yet: this server may be behind.
func (l *jobLogs) hold(w work, m job.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := len(m.Data) + pieceOverhead
	if l.heldOf[w.node]+size > heldBytes {
		return
	}
	if l.held[w] == nil {
		if len(l.heldOrder) == heldWorks {
			l.drop(l.heldOrder[0])
		}
		l.heldOrder = append(l.heldOrder, w)
	}
	l.held[w] = append(l.held[w], m)
	l.heldOf[w.node] += size
}

// drop forgets what is held of some work, and returns it. The caller holds l.mu.
func (l *jobLogs) drop(w work) []job.Log {
	list := l.held[w]
	if list == nil {
		return nil
	}
	for _, m := range list {
		l.heldOf[w.node] -= len(m.Data) + pieceOverhead
	}
	if l.heldOf[w.node] == 0 {
		delete(l.heldOf, w.node)
	}
	delete(l.held, w)
	for i := range l.heldOrder {
		if l.heldOrder[i] == w {
			l.heldOrder = append(l.heldOrder[:i:i], l.heldOrder[i+1:]...)
			break
		}
	}
	return list
}

// release returns what was held of some work, the oldest first.
func (l *jobLogs) release(w work) []job.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drop(w)
}

// runningOn returns the nodes that run a job, or ran it to its end.
func (s *Server) runningOn(order crypto.Digest) (nodes []crypto.PublicKey) {
	s.replica.view(func(state *scheduler.State) {
		j, ok := state.Job(order)
		if !ok {
			return
		}
		for i := range j.Runs {
			if j.Runs[i].Stage != scheduler.Lost {
				nodes = append(nodes, j.Runs[i].Node)
			}
		}
	})
	return nodes
}

// takeLog keeps what a program writes, if the node runs it.
func (s *Server) takeLog(node crypto.PublicKey, m job.Log) {
	w := work{m.Order, node}
	if !slices.Contains(s.runningOn(m.Order), node) {
		s.logs.hold(w, m)
		return
	}
	for _, held := range s.logs.release(w) {
		s.logs.add(node, held)
	}
	s.logs.add(node, m)
}

// admitLogs keeps what was held of a job, of the nodes that are known to run it
// by now.
func (s *Server) admitLogs(order crypto.Digest) {
	for _, node := range s.runningOn(order) {
		for _, held := range s.logs.release(work{order, node}) {
			s.logs.add(node, held)
		}
	}
}
