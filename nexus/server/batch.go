package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// Commands go into the log in batches: an entry is one write to a majority of
// disks however many commands it carries. While one entry is on its way the
// commands that come meanwhile make up the next; when none is, a command goes at
// once. Batches come from two lanes: what the leader itself has to say, such as
// the end of an auction, and what clients ask for. Neither can keep the other
// waiting, and clients take turns.

const (
	maxBatchBytes = 1 << 20 // of an entry's commands, unless one alone is longer
	maxWaiting    = 8_192   // commands of clients
	maxWaitingOf  = 2_048   // of them of one consumer
	batchShare    = scheduler.MaxCommands / 2
	// batchesAhead is how many entries may be on their way: one is being written
	// while the one before it is carried out.
	batchesAhead = 2
)

// proposal is a command that waits for its entry.
type proposal struct {
	command []byte // encoded
	from    chain.Address
	done    chan outcome // takes one
}

// outcome is what became of a command.
type outcome struct {
	index uint64    // of its entry
	took  *accepted // an order, if another server leads
	err   error     // a *scheduler.Rejection, or wraps errNoLeader
}

// batcher collects commands and has carry take them away.
type batcher struct {
	// carry sends encoded commands on their way, at most batchesAhead calls at a
	// time, begun one after the other; await returns what became of each.
	carry func(ctx context.Context, commands [][]byte) (await func() []outcome)

	mu      sync.Mutex
	own     []*proposal
	clients turns
	closed  bool          // nothing is carried any more
	ready   chan struct{} // has a token while something waits
}

func newBatcher(carry func(context.Context, [][]byte) func() []outcome) *batcher {
	return &batcher{carry: carry, clients: turns{of: map[chain.Address]*turn{}}, ready: make(chan struct{}, 1)}
}

// turns is a queue in which those who have something in it take turns.
type turns struct {
	of   map[chain.Address]*turn
	ring []*turn // who has something, the next first
	n    int
}

type turn struct {
	from chain.Address
	list []*proposal
}

func (t *turns) put(p *proposal) error {
	who := t.of[p.from]
	switch {
	case t.n >= maxWaiting:
		return &scheduler.Rejection{Rule: "full", Text: fmt.Sprintf("%d commands wait for the log, the limit", maxWaiting)}
	case who != nil && len(who.list) >= maxWaitingOf:
		return &scheduler.Rejection{Rule: "quota", Text: fmt.Sprintf("%d commands of this consumer wait for the log, its limit", maxWaitingOf)}
	case who == nil:
		who = &turn{from: p.from}
		t.of[p.from] = who
		t.ring = append(t.ring, who)
	}
	who.list = append(who.list, p)
	t.n++
	return nil
}

// peek returns whose turn it is, or nil.
func (t *turns) peek() *proposal {
	if t.n == 0 {
		return nil
	}
	return t.ring[0].list[0]
}

// next takes what peek returned.
func (t *turns) next() {
	who := t.ring[0]
	t.ring = t.ring[1:]
	who.list = who.list[1:]
	t.n--
	if len(who.list) > 0 {
		t.ring = append(t.ring, who)
		return
	}
	delete(t.of, who.from)
}

// queueOwn queues a command of the leader's own and returns what takes its outcome.
func (b *batcher) queueOwn(raw []byte) <-chan outcome {
	p := &proposal{command: raw, done: make(chan outcome, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		p.done <- outcome{err: errNoLeader}
		return p.done
	}
	b.own = append(b.own, p) // bounded by what the state has open
	b.wake()
	return p.done
}

// queueFor queues a client's command and returns what takes its outcome. What is
// refused because too much waits is a *scheduler.Rejection.
func (b *batcher) queueFor(from chain.Address, raw []byte) <-chan outcome {
	p := &proposal{command: raw, from: from, done: make(chan outcome, 1)}
	b.mu.Lock()
	err := errNoLeader
	if !b.closed {
		err = b.clients.put(p)
	}
	b.mu.Unlock()
	if err != nil {
		p.done <- outcome{err: err}
	} else {
		b.wake()
	}
	return p.done
}

func (b *batcher) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take returns the next batch: up to batchShare of each lane, or more if the
// other has less.
func (b *batcher) take() (batch []*proposal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := 0
	fits := func(p *proposal) bool {
		if len(batch) > 0 && size+len(p.command) > maxBatchBytes {
			return false
		}
		size += len(p.command)
		batch = append(batch, p)
		return true
	}
	own := min(len(b.own), max(batchShare, scheduler.MaxCommands-b.clients.n))
	for i := range own {
		if size >= maxBatchBytes/2 && b.clients.n > 0 || !fits(b.own[i]) {
			own = i
			break
		}
	}
	b.own = b.own[own:]
	for p := b.clients.peek(); p != nil && len(batch) < scheduler.MaxCommands && fits(p); p = b.clients.peek() {
		b.clients.next()
	}
	if len(b.own)+b.clients.n > 0 {
		b.wake()
	}
	return batch
}

// run carries batches until ctx ends; whatever waits then is answered.
func (b *batcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ahead := make(chan struct{}, batchesAhead)
	for {
		select {
		case ahead <- struct{}{}:
		case <-ctx.Done():
			b.refuse()
			return
		}
		select {
		case <-b.ready:
		case <-ctx.Done():
			b.refuse()
			return
		}
		batch := b.take()
		if len(batch) == 0 {
			<-ahead
			continue
		}
		commands := make([][]byte, len(batch))
		for i, p := range batch {
			commands[i] = p.command
		}
		await := b.carry(ctx, commands)
		wg.Go(func() {
			outcomes := await()
			<-ahead
			for i, p := range batch {
				p.done <- outcomes[i]
			}
		})
	}
}

// refuse answers what waits when the server ends, and what still comes.
func (b *batcher) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.own {
		p.done <- outcome{err: errNoLeader}
	}
	for p := b.clients.peek(); p != nil; p = b.clients.peek() {
		p.done <- outcome{err: errNoLeader}
		b.clients.next()
	}
	b.own, b.closed = nil, true
}

// each is what a whole batch came to.
func each(n int, o outcome) []outcome {
	out := make([]outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

// toLog has raft carry out a batch.
func (s *Server) toLog(_ context.Context, commands [][]byte) func() []outcome {
	future := s.consensus.raft.Apply(scheduler.EncodeEntry(s.now(), commands), applyTimeout)
	return func() []outcome {
		if err := s.consensus.await(future); err != nil {
			return each(len(commands), outcome{err: fmt.Errorf("%w: %w", errNoLeader, err)})
		}
		answers, ok := future.Response().([]error)
		if !ok || len(answers) != len(commands) {
			err, _ := future.Response().(error) // the entry does not decode
			return each(len(commands), outcome{err: fmt.Errorf("server: an entry of %d commands came to %T: %w", len(commands), future.Response(), err)})
		}
		out := make([]outcome, len(commands))
		for i, err := range answers {
			out[i] = outcome{index: future.Index(), err: err}
		}
		return out
	}
}
