package agent

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A node that is challenged runs the benchmark, one lane on each core at a time, and begins no
// other work meanwhile; jobs that run give way, leases are left out by the chain. It holds the
// lanes until its peers have asked, and then gives the memory back.

const (
	showBefore    = 500 * time.Millisecond // the end of the time: what is shown has a way to go
	holdFor       = 30 * time.Second       // after what was run was shown: peers ask
	holdOn        = 5 * time.Second        // after all have asked: an answer may be lost
	seizePatience = time.Second            // for what jurors' work gives back
	answerAgain   = 2 * time.Second
	roomPause     = 50 * time.Millisecond
)

// errMeasured ends a juror's work: it is asked for again.
var errMeasured = errors.New("the node's hardware is challenged")

// trial is a challenge of this node. What follows answers is under Agent.mu.
type trial struct {
	challenge chain.HardwareChallenge
	state     settlement.Hardware
	heldMiB   uint64 // that it leaves to jobs
	freeMiB   uint64 // that the owner allows for it
	task      hardware.Task
	began     time.Time
	answers   chan struct{} // has a token when a peer has asked

	lanes []*hardware.Lane // nil: not run
	ended int              // of lanes
	shown *job.LanesShown  // nil: not yet
	asked map[crypto.PublicKey]*asked
	note  string // what to say of it
	over  bool
}

// asked is a peer's question, the first: a peer has one. Each server that brings it has an answer, since none knows what
// becomes of what another carries.
type asked struct {
	nonce    crypto.Digest
	answered map[crypto.PublicKey]time.Time // by server
}

// challenged looks whether this node is challenged, as a server says, or says again what it has
// shown.
func (a *Agent) challenged(s *session, m *job.Measure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.trial; t != nil && t.challenge == m.Challenge {
		if t.shown != nil {
			s.send(*t.shown)
		}
		return
	}
	now := time.Now()
	if a.stopping || a.trial != nil && !a.trial.over || now.Before(a.trialLook) {
		return
	}
	a.trialLook = now.Add(chainTimeout + proofAgain) // unless it answers before
	a.running.Go(func() {
		h, there, err := a.hardware(a.work, a.id)
		a.mu.Lock()
		a.trialLook = time.Now().Add(proofAgain)
		a.mu.Unlock()
		if err != nil || !there || !h.Open() {
			a.log.Warn("agent: refusing a hardware challenge: the chain does not say that there is one", "error", err)
			return
		}
		if t := a.stand(h, now); t != nil {
			a.sayLoad()
			a.meet(t)
			a.measured.Store(false)
			a.sayLoad()
		}
	})
}

// stand begins with a challenge that the chain has; nil: there is nothing to run for it, or one is
// being met.
func (a *Agent) stand(h settlement.Hardware, heard time.Time) *trial {
	t := &trial{
		challenge: chain.HardwareChallenge{ChainID: a.genesis.ChainID, Node: a.id, Seed: h.Seed}, state: h, began: heard,
		answers: make(chan struct{}, 1), asked: map[crypto.PublicKey]*asked{}, note: "runs",
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping || a.trial != nil && (!a.trial.over || a.trial.challenge == t.challenge) {
		return nil
	}
	a.trial = t
	held := uint64(0)
	for _, task := range a.tasks { // order-free: a sum, and all of them
		switch leased := task.assignment.Order.Term != nil; {
		case task.judging:
			task.cancel(errMeasured)
		case !leased:
			t.heldMiB += needOf(task.assignment.Work()).memoryMiB
		case task.opened:
			held += task.holds.memoryMiB
		}
	}
	t.freeMiB = a.config.MemoryMiB - min(a.config.MemoryMiB, held+t.heldMiB)
	var some bool
	t.task, some = a.taskOf(&h, t.heldMiB)
	switch {
	case heard.Sub(timeOf(h.Since)) > tooLate:
		t.note, t.over = "it began too long ago", true
	case !some:
		t.note, t.over = "there is nothing to show beside what runs here", true
	default:
		t.lanes = make([]*hardware.Lane, t.task.Lanes)
	}
	a.log.Info("agent: this node's hardware is challenged", "lanes", h.Lanes, "memory_mib", h.MemoryMiB, "held_mib", t.heldMiB, "peers", len(h.Peers), "note", t.note)
	if t.over {
		return nil
	}
	a.measured.Store(true)
	return t
}

// meet runs the lanes, shows what they gave, and holds them until the peers have asked.
func (a *Agent) meet(t *trial) {
	taken := a.capacity.seize(a.work, need{millicores: a.config.Millicores, memoryMiB: a.config.MemoryMiB}, seizePatience)
	defer func() {
		a.mu.Lock()
		t.lanes, t.over = nil, true
		a.mu.Unlock()
		debug.FreeOSMemory()
		a.capacity.shrink(taken)
	}()
	ctx, cancel := context.WithDeadline(a.work, t.began.Add(a.limit(&t.task)-showBefore))
	defer cancel()
	lanes := a.fitting(t)
	var wg sync.WaitGroup
	next := atomic.Uint64{}
	for range min(lanes, uint64(a.bench.cores)) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < lanes; n = next.Add(1) - 1 {
				l := a.bench.run(t.task, n, func() bool { return ctx.Err() != nil })
				a.mu.Lock()
				if t.lanes[n] = l; l != nil {
					t.ended++
				}
				a.mu.Unlock()
				if l == nil {
					return // the time is over
				}
			}
		})
	}
	wg.Wait()
	if a.work.Err() == nil && a.showLanes(t) {
		a.hold(t)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.metrics.challenges.WithLabelValues("met").Inc()
	t.note = "is over"
	a.log.Info("agent: the challenge of this node's hardware is over here", "lanes", t.task.Lanes, "shown", t.ended, "peers", len(t.state.Peers), "asked", len(t.asked))
}

// fitting is how many of the lanes the machine, and what its owner allows, have room for: to run
// more would have the system end something.
func (a *Agent) fitting(t *trial) uint64 {
	each := t.task.LaneBytes()
	available := a.bench.memory()
	lanes := min(t.task.Lanes, a.config.Millicores/chain.LaneMillicores, t.freeMiB<<20/each, available<<20/each)
	if lanes < t.task.Lanes {
		a.log.Error("agent: less is here than the node declares: the rest will be found missing", "lanes", t.task.Lanes, "bytes_each", each, "here", lanes,
			"millicores", a.config.Millicores, "memory_mib", t.freeMiB, "available_mib", available)
	}
	return lanes
}

// showLanes tells the servers what the lanes gave; false: none has ended.
func (a *Agent) showLanes(t *trial) bool {
	a.mu.Lock()
	m := job.LanesShown{Challenge: t.challenge, HeldMiB: t.heldMiB, Roots: make(job.LaneRoots, len(t.lanes))}
	for i, l := range t.lanes {
		if l != nil {
			m.Roots[i] = l.Roots()
		}
	}
	m.Signature = a.key.Sign(crypto.DomainShown, m.Payload())
	t.shown, t.note = &m, "waits for the questions of those who measure it"
	ended := t.ended
	a.mu.Unlock()
	a.broadcast(m)
	return ended > 0
}

// hold keeps the lanes until all peers have asked, and no longer than they may take to.
func (a *Agent) hold(t *trial) {
	most := time.NewTimer(holdFor)
	defer most.Stop()
	var enough <-chan time.Time
	for {
		select {
		case <-t.answers:
			a.mu.Lock()
			all := len(t.asked) == len(t.state.Peers)
			a.mu.Unlock()
			if all && enough == nil {
				enough = time.After(holdOn)
			}
		case <-enough:
			return
		case <-most.C:
			return
		case <-a.work.Done():
			return
		}
	}
}

// question answers a peer of the challenge that is met: the first question that it has, and that
// one again.
func (s *session) question(m *job.LaneQuestion) {
	a := s.agent
	list, why := a.answerOf(m, s.conn.Remote())
	if why != "" {
		a.log.Warn("agent: refusing a question about this node's hardware", "peer", m.Peer.Short(), "reason", why)
		return
	}
	if len(list) == 0 {
		return
	}
	a.running.Go(func() {
		for i := range list {
			o := job.LaneOpened{Challenge: m.Challenge, Peer: m.Peer, Nonce: m.Nonce, Index: uint64(i), Opening: list[i]}
			o.Signature = a.key.Sign(crypto.DomainOpened, o.Payload())
			for len(s.out) > maxQueue/2 && s.conn.Err() == nil && a.work.Err() == nil { // other messages go between
				sleep(a.work, roomPause)
			}
			s.send(o)
		}
	})
}

// answerOf returns what a question draws that a server has brought, nothing if it was just answered, or why it is none.
func (a *Agent) answerOf(m *job.LaneQuestion, server crypto.PublicKey) (list []hardware.Opening, why string) {
	signed := m.Peer.Verify(crypto.DomainQuestion, m.Payload(), m.Signature)
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.trial
	switch {
	case a.stopping || t == nil || t.over || t.challenge != m.Challenge || t.shown == nil || t.ended == 0:
		return nil, "this node has nothing to open for such a challenge now"
	case !slices.Contains(t.state.Peers, m.Peer):
		return nil, "it is no peer of the challenge"
	case !signed:
		return nil, "it is not signed"
	}
	known := t.asked[m.Peer]
	switch {
	case known != nil && known.nonce != m.Nonce:
		return nil, "it has asked another one before"
	case known != nil && time.Since(known.answered[server]) < answerAgain:
		return nil, ""
	case known == nil:
		known = &asked{nonce: m.Nonce, answered: map[crypto.PublicKey]time.Time{}}
		t.asked[m.Peer] = known
	}
	known.answered[server] = time.Now()
	select {
	case t.answers <- struct{}{}:
	default:
	}
	return hardware.Open(t.task, t.lanes, m.Nonce), ""
}

// HardwareStatus is the newest challenge of this node's hardware.
type HardwareStatus struct {
	Seed      crypto.Digest `json:"seed"`
	SinceMs   chain.TimeMs  `json:"since_ms"`
	Lanes     uint64        `json:"lanes"`      // that it is asked for
	MemoryMiB uint64        `json:"memory_mib"` // that they take, all together
	Shown     int           `json:"shown"`      // of the lanes
	Peers     int           `json:"peers"`
	Asked     int           `json:"asked"` // of the peers
	Note      string        `json:"note"`
}

// trialStatus returns the newest challenge; nil: there was none. The caller holds a.mu.
func (a *Agent) trialStatus() *HardwareStatus {
	t := a.trial
	if t == nil {
		return nil
	}
	return &HardwareStatus{
		Seed: t.challenge.Seed, SinceMs: t.state.Since, Lanes: t.task.Lanes, MemoryMiB: t.task.Lanes * t.task.LaneBytes() >> 20,
		Shown: t.ended, Peers: len(t.state.Peers), Asked: len(t.asked), Note: t.note,
	}
}
