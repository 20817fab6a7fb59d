package server

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// acks is raft's network, and notes what the servers that are reached through it
// have acknowledged of this one's leadership. VerifyLeader counts answers to
// beats that were sent before it was asked: one that was long under way says
// that its sender followed then, and by now it may have elected another.
type acks struct {
	*raft.NetworkTransport
	exchange func(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error // the network's AppendEntries

	beats gate

	mu       sync.Mutex
	pipes    map[*pipe]bool           // that are open
	stopped  bool                     // no other is opened
	asked    uint64                   // questions so far whether this server leads
	term     uint64                   // the newest in which a server answered
	answered map[raft.ServerID]uint64 // in that term: the newest question that had been asked when an exchange began that was answered since
	more     chan struct{}            // closed when another has answered
}

func newAcks(net *raft.NetworkTransport) *acks {
	return &acks{NetworkTransport: net, exchange: net.AppendEntries, pipes: map[*pipe]bool{}, answered: map[raft.ServerID]uint64{}, more: make(chan struct{})}
}

// AppendEntries implements raft.Transport.
func (a *acks) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	a.mu.Lock()
	before, exchange := a.asked, a.exchange
	a.mu.Unlock()
	if err := exchange(id, target, args, resp); err != nil {
		return err
	}
	if resp.Success && resp.Term == args.Term {
		a.note(id, args.Term, before)
	}
	return nil
}

func (a *acks) note(id raft.ServerID, term, question uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if term > a.term {
		a.term = term
		clear(a.answered)
	}
	if term < a.term || question <= a.answered[id] {
		return
	}
	a.answered[id] = question
	close(a.more)
	a.more = make(chan struct{})
}

// ask returns the number of a new question whether this server leads.
func (a *acks) ask() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return a.asked
}

// confirmed reports whether a majority of the voters followed this server in a
// term after a question was asked; otherwise more is closed when there is
// another answer.
func (a *acks) confirmed(self raft.ServerID, voters []raft.ServerID, term, question uint64) (ok bool, more <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, id := range voters {
		if id == self || a.term == term && a.answered[id] >= question {
			n++
		}
	}
	return n > len(voters)/2, a.more
}

// SetHeartbeatHandler implements raft.Transport. Raft takes beats on the
// goroutines of its network, for which its Shutdown does not wait.
func (a *acks) SetHeartbeatHandler(take func(raft.RPC)) {
	a.NetworkTransport.SetHeartbeatHandler(a.beats.before(take))
}

// gate lets calls through until it is shut.
type gate struct {
	mu   sync.RWMutex
	shut bool
}

func (g *gate) before(take func(raft.RPC)) func(raft.RPC) {
	return func(rpc raft.RPC) {
		g.mu.RLock()
		defer g.mu.RUnlock()
		if g.shut {
			rpc.Respond(nil, raft.ErrRaftShutdown)
			return
		}
		take(rpc)
	}
}

// close waits for the calls that were let through.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// pipe is a pipeline that is closed when raft is stopped: who sends into one whose
// answers raft takes no more waits until it is closed, and raft, which would close
// it, waits for who sends.
type pipe struct {
	raft.AppendPipeline
	of *acks
}

// AppendEntriesPipeline implements raft.Transport.
func (a *acks) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := a.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipe{inner, a}
	a.mu.Lock()
	stopped := a.stopped
	if !stopped {
		a.pipes[p] = true
	}
	a.mu.Unlock()
	if stopped {
		return nil, errors.Join(raft.ErrTransportShutdown, inner.Close())
	}
	return p, nil
}

// Close implements raft.AppendPipeline.
func (p *pipe) Close() error {
	p.of.mu.Lock()
	delete(p.of.pipes, p)
	p.of.mu.Unlock()
	return p.AppendPipeline.Close()
}

// cutPipes closes every pipeline, and those that would be opened.
func (a *acks) cutPipes() (err error) {
	a.mu.Lock()
	a.stopped = true
	open := slices.Collect(maps.Keys(a.pipes))
	a.mu.Unlock()
	for _, p := range open {
		err = errors.Join(err, p.Close())
	}
	return err
}
