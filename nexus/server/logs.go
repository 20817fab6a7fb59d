package server

import (
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
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
)

// jobLogs is what running programs wrote, as far as it is kept.
type jobLogs struct {
	mu    sync.Mutex
	byJob map[crypto.Digest]*jobLog
	order []crypto.Digest // by first piece
	more  chan struct{}   // closed, and another put in its place, by every piece
}

// jobLog is the newest pieces of one job. They are numbered from 1 without
// gaps; the first that is kept has the number first.
type jobLog struct {
	first  uint64
	pieces []api.JobLog
	bytes  int
}

func newJobLogs() *jobLogs {
	return &jobLogs{byJob: map[crypto.Digest]*jobLog{}, more: make(chan struct{})}
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
	made := &jobLog{first: 1}
	l.byJob[order] = made
	l.order = append(l.order, order)
	return made
}

// add keeps a piece that a node sent.
func (l *jobLogs) add(node crypto.PublicKey, m job.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.of(m.Order)
	j.pieces = append(j.pieces, api.JobLog{Node: node, Stderr: m.Stderr, Offset: api.Uint64(m.Offset), Data: m.Data})
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
	if seen >= end { // of another server, or of another life of this one
		from = j.first
	}
	if from >= end {
		return nil, end - 1, l.more
	}
	return j.pieces[from-j.first:], end - 1, l.more
}
