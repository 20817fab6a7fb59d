package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	applyTimeout   = 5 * time.Second // until raft takes an entry into its queue
	barrierTimeout = 10 * time.Second
	tickEvery      = time.Second
	strangerTime   = 30 * time.Second // for a registration to be final and proven
)

// errNoLeader says that a command found no leader, or lost it under way: it may
// or may not have been carried out. Commands may be repeated.
var errNoLeader = errors.New("server: the cluster has no leader now")

// propose has raft carry out a command of the leader's own. The error is a
// *scheduler.Rejection or wraps errNoLeader.
func (s *Server) propose(c scheduler.Command) error { return (<-s.queue(c)).err }

// queue is propose that does not wait.
func (s *Server) queue(c scheduler.Command) <-chan outcome {
	err := s.replica.suspects.check(c)
	var raw []byte
	if err == nil {
		raw, err = encodeCommand(c)
	}
	if err == nil {
		return s.batches.queueOwn(raw)
	}
	refused := make(chan outcome, 1)
	refused <- outcome{err: err}
	return refused
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func encodeCommand(c scheduler.Command) ([]byte, error) {
	raw := scheduler.EncodeCommand(c)
	if len(raw) > scheduler.MaxCommandBytes {
		return nil, &scheduler.Rejection{Rule: "size", Text: fmt.Sprintf("command of %d bytes, limit %d", len(raw), scheduler.MaxCommandBytes)}
	}
	return raw, nil
}

// now returns the clock's time in ms.
func (s *Server) now() chain.TimeMs { return chain.TimeMs(time.Now().UnixMilli()) }

// reign is the time in which this server leads: it owns every goroutine that
// acts for the cluster, and ends with the leadership.
type reign struct {
	*Server
	ctx     context.Context
	began   time.Time
	term    uint64        // of raft, in which all of the terms before it was carried out
	idle    atomic.Uint64 // the entries from the newest command that is carried out to this one are no commands
	effects *effectQueue
	wg      sync.WaitGroup
	pokes   chan *session

	mu       sync.Mutex
	auctions map[uint64]*auction            // that are open
	declared map[*session]uint64            // version of the Hello that the state has
	busy     map[assignment]bool            // refusals, Dones and Hellos being seen to
	gone     map[crypto.PublicKey]time.Time // since when; the loop's own
	answered chan struct{}                  // has a token when auctions have closed

	services   services
	awards     awards
	auctioneer auctioneer    // the loop's own
	quotes     chan struct{} // one token for each dry run
}

// assignment names an order's part of a node; a zero order stands for the node.
type assignment struct {
	order crypto.Digest
	node  crypto.PublicKey
}

// followRaft watches raft and reigns while this server leads.
func (s *Server) followRaft(ctx context.Context) {
	var end func()
	defer func() {
		if end != nil {
			end()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-s.consensus.raft.LeaderCh():
			if end != nil {
				end()
				end = nil
			}
			if leads {
				end = s.begin(ctx)
			}
		}
	}
}

// begin starts a reign and returns how to end it.
func (s *Server) begin(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	r := &reign{
		Server: s, ctx: ctx, began: time.Now(), effects: newEffectQueue(), pokes: make(chan *session, 1_024),
		auctions: map[uint64]*auction{}, declared: map[*session]uint64{}, busy: map[assignment]bool{},
		gone: map[crypto.PublicKey]time.Time{}, quotes: make(chan struct{}, maxQuotes), answered: make(chan struct{}, 1),
		services: services{known: map[crypto.Digest]*watchedService{}},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run()
	}()
	return func() {
		cancel()
		<-done
	}
}

// run leads until the reign's context ends.
func (r *reign) run() {
	for {
		r.term = r.consensus.raft.CurrentTerm()
		err := r.consensus.await(r.consensus.raft.Barrier(barrierTimeout))
		if r.ctx.Err() != nil || errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrRaftShutdown) {
			return
		}
		if err == nil && r.consensus.raft.CurrentTerm() == r.term {
			break // the barrier was of this term
		}
		r.log.Warn("leader waits for its log", "error", err)
	}
	r.log.Info("leading", "term", r.term)
	r.replica.lead(r.effects)
	r.current.Store(r)
	defer func() {
		r.current.Store(nil)
		r.replica.follow()
		r.wg.Wait()
		r.log.Info("no longer leading")
	}()
	r.wg.Go(r.settleAll)
	r.wg.Go(r.watchLeases)
	r.wg.Go(r.watchRuns)
	r.wg.Go(r.watchServices)
	r.wg.Go(r.adopt)
	r.attend()
}

// attend is the reign's loop: effects, what agents say, and the clock.
func (r *reign) attend() {
	ticker := time.NewTicker(min(tickEvery, r.cfg.NodeGrace/2))
	defer ticker.Stop()
	r.survey()
	look := time.NewTimer(time.Hour)
	defer look.Stop()
	for {
		if again := r.openAuctions(); again > 0 {
			look.Reset(again)
		}
		select {
		case <-r.ctx.Done():
			return
		case <-r.answered:
		case <-look.C:
		case <-r.effects.ready:
			for _, e := range r.effects.take() {
				r.execute(e)
			}
			r.sessions.flush()
		case session := <-r.pokes:
			r.hear(session, false)
		case <-ticker.C:
			r.survey()
			r.tick()
		}
	}
}

// async runs f within the reign.
func (r *reign) async(f func()) {
	if r.ctx.Err() == nil {
		r.wg.Go(f)
	}
}

// once runs f within the reign unless it is running for that assignment.
func (r *reign) once(a assignment, f func()) {
	r.mu.Lock()
	busy := r.busy[a]
	r.busy[a] = true
	r.mu.Unlock()
	if busy {
		return
	}
	r.async(func() {
		defer func() {
			r.mu.Lock()
			delete(r.busy, a)
			r.mu.Unlock()
		}()
		f()
	})
}

// execute does one effect. It does not wait for anybody.
func (r *reign) execute(e scheduler.Effect) {
	switch e := e.(type) {
	case scheduler.OpenAuction:
		r.auctioneer.waiting = append(r.auctioneer.waiting, opening{effect: e, since: time.Now()})
	case scheduler.SendAssign:
		if s := r.sessions.get(e.Node); s != nil {
			e.Assignment.AcceptanceSig = r.signer.acceptance(&e.Assignment.Acceptance)
			s.assign(e.Assignment)
		}
	case scheduler.SendCancel:
		r.tell(e.Node, job.Cancel{Order: e.Order, Reason: short(e.Reason)})
	case scheduler.SendAck:
		if s := r.sessions.get(e.Node); s != nil {
			s.settled(e.Order)
			s.flush()
			s.send(r.ackOf(&e))
		}
	case scheduler.Post: // readers of the outbox watch the state
	}
}

// tell sends to a node that is here. One that is not is told when it comes
// back, or its work is given to others.
func (r *reign) tell(node crypto.PublicKey, m job.Message) {
	if s := r.sessions.get(node); s != nil {
		s.flush() // what is told may be of an assignment
		s.send(m)
	}
}

// maxReason is what a message takes of a reason.
const maxReason = 512

// short cuts a reason to that, between characters: who is told could not read a half one, nor
// what came with it.
func short(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// tick lets time pass for the state if it matters.
func (r *reign) tick() {
	due := false
	now := r.now()
	r.replica.view(func(s *scheduler.State) { due = s.Due(now) })
	if due {
		r.async(func() { r.report("tick", r.propose(scheduler.Tick{})) })
	}
}

// report logs what a command of the leader's own met. A lost leadership is the
// next leader's business.
func (r *reign) report(what string, err error) {
	if err != nil && r.ctx.Err() == nil {
		r.log.Warn("command failed", "command", what, "error", err)
	}
}

// survey looks at every session, and at the nodes that have none.
func (r *reign) survey() {
	present := map[crypto.PublicKey]bool{}
	for _, s := range r.sessions.all() {
		present[s.node] = true
		r.hear(s, true)
		r.noteLeased(s.node)
		if r.wasMeasured(s.node) {
			r.once(assignment{node: s.node}, func() { r.readRecord(s) })
		}
	}
	r.mu.Lock()
	for s := range r.declared {
		if s.conn.Err() != nil {
			delete(r.declared, s)
		}
	}
	r.mu.Unlock()
	var away []crypto.PublicKey
	r.replica.view(func(s *scheduler.State) {
		s.EachNode(func(n *scheduler.Node) {
			if n.Connected && !present[n.ID] {
				away = append(away, n.ID)
			}
		})
	})
	r.miss(away)
}

// miss gives up nodes that have been away for longer than the grace.
func (r *reign) miss(away []crypto.PublicKey) {
	now := time.Now()
	still := make(map[crypto.PublicKey]time.Time, len(away))
	for _, node := range away {
		since, known := r.gone[node]
		if !known {
			since = now
		}
		still[node] = since
		if now.Sub(since) < r.cfg.NodeGrace {
			continue
		}
		r.once(assignment{node: node}, func() {
			r.log.Info("node given up", "node", node.Short(), "away", now.Sub(since))
			r.report("node down", r.propose(scheduler.NodeDown{Node: node}))
		})
	}
	r.gone = still
}

// hear sees to what an agent has said and the state does not know: to all of it,
// or to what is new.
func (r *reign) hear(s *session, all bool) {
	hello, version := s.said()
	r.mu.Lock()
	known, first := r.declared[s] == version, r.declared[s] == 0
	r.mu.Unlock()
	if !known && (first || s.mayDeclare()) {
		r.once(assignment{node: s.node}, func() { r.declare(s, hello, version) })
	}
	dones, refusals := s.waiting(all)
	for order, reason := range refusals {
		r.once(assignment{order: order, node: s.node}, func() { r.refuse(s, order, reason) })
	}
	for _, d := range dones {
		r.once(assignment{order: d.Receipt.Order, node: s.node}, func() { r.finish(s, d) })
	}
}

// declare tells the state of a node, once the chain has confirmed its owner.
func (r *reign) declare(s *session, hello job.Hello, version uint64) {
	provider, err := r.providerOf(r.ctx, s.node, offer{&hello}.within)
	switch {
	case r.ctx.Err() != nil:
		return
	case errors.Is(err, ErrNotRegistered):
		if time.Since(s.since) > strangerTime {
			s.conn.Close(closeOwner, "the node is not registered on the chain")
			return
		}
		s.log.Info("agent is not registered on the chain (yet)")
		return // asked again by the next survey
	case err != nil:
		s.log.Warn("cannot ask the chain for a node's owner", "error", err)
		return
	case provider.Owner != hello.Owner:
		s.log.Warn("agent names another owner than the chain", "named", hello.Owner, "chain", provider.Owner)
		s.conn.Close(closeOwner, fmt.Sprintf("node %s belongs to %s on the chain", s.node.Short(), provider.Owner))
		return
	}
	err = r.propose(scheduler.NodeUp{Node: s.node, Hello: hello, Premium: provider.Premium, Record: r.recordOf(s.node, &provider)})
	if rejected, ok := errors.AsType[*scheduler.Rejection](err); ok {
		s.conn.Close(closeOwner, rejected.Text)
		return
	}
	if err != nil {
		r.report("node up", err)
		return
	}
	r.mu.Lock()
	r.declared[s] = version
	r.mu.Unlock()
	s.log.Info("node is up", "owner", provider.Owner, "millicores", hello.Total.Millicores, "memory_mib", hello.Total.MemoryMiB)
	s.recall() // what came meanwhile
	r.poke(s)
}

// refuse tells the state that a node did not take its assignment.
func (r *reign) refuse(s *session, order crypto.Digest, reason string) {
	s.log.Info("assignment refused", "job", order.Short(), "reason", reason)
	if err := r.propose(scheduler.Refused{Order: order, Node: s.node, Reason: reason}); err != nil {
		r.report("refused", err)
		return
	}
	s.settled(order)
}
