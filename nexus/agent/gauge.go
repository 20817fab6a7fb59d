package agent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A node that was drawn to measure another takes the time from when its server saw the challenge to
// when the other has shown its lanes, asks for some of what they were made of, and says what is
// missing, if anything is. It says nothing of what it did not see from the beginning to the end: that it heard
// nothing of the other counts only if a server to which both were connected has been there all the while, and no other
// one that might have carried something has gone.

const (
	gaugePatience = 40 * time.Second // without having heard of the challenge
	askPatience   = 30 * time.Second // for what a question draws
	askEvery      = 3 * time.Second
	heldPatience  = 10 * time.Second // for word of as much memory as a node has left to jobs
	heldWords     = 2                // after so many of its cluster that say less nothing more is waited for
	proofTries    = 5
	maxGauges     = 64
	maxGaugesOf   = 8                // that one server alone speaks of
	gaugeRest     = 10 * time.Second // until one that the chain knows nothing of gives way to another
)

// gauge measures a node.
type gauge struct {
	agent     *Agent
	challenge chain.HardwareChallenge
	began     time.Time // by the bench's clock
	end       func()
	tellers   []crypto.PublicKey // the servers that speak of it; Agent.mu's, as are the next two
	proven    bool               // by the chain: this node was drawn
	none      time.Time          // since when that is known not to be so; zero: it is not
	from      []*session         // to which this node was connected then
	parted    uint64             // Agent.parted then

	mu       sync.Mutex
	vouching []lasting // of from, whose servers say that the other was there as well
	vouched  int       // by how many words
	heard    time.Time
	heldMiB  uint64 // the most that its cluster spoke of
	shown    *job.LanesShown
	came     time.Time // when it was shown
	nonce    crypto.Digest
	openings map[uint64]hardware.Opening
	news     chan struct{} // has a token when something came
	said     *job.Measured // nil: nothing to say, or not yet
}

// lasting is a session's connection: why it has ended, or nil.
type lasting interface{ Err() error }

// drawn measures a node from now on, or goes on.
func (a *Agent) drawn(s *session, m *job.Measure) {
	g := a.gaugeFor(s.conn.Remote(), m)
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.challenge != m.Challenge {
		return // of one challenge at a time
	}
	g.heard, g.heldMiB = time.Now(), max(g.heldMiB, m.HeldMiB)
	if m.Here && slices.Contains(g.from, s) {
		if !slices.Contains(g.vouching, lasting(s.conn)) {
			g.vouching = append(g.vouching, s.conn)
		}
		g.vouched++
	}
	g.wake()
	if g.said != nil {
		s.send(*g.said)
	}
}

// gaugeFor returns what measures the node of a challenge of which a server speaks; nil: there is no room.
func (a *Agent) gaugeFor(server crypto.PublicKey, m *job.Measure) *gauge {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.gauges[m.Challenge.Node]
	if g != nil && g.challenge != m.Challenge && g.givesWay(server, time.Now()) {
		g.end()
		delete(a.gauges, m.Challenge.Node)
		g = nil
	}
	if g == nil && (a.stopping || !a.roomToGauge(server, time.Now())) {
		return nil
	}
	if g == nil {
		ctx, end := context.WithCancel(a.work)
		g = &gauge{
			agent: a, challenge: m.Challenge, began: a.bench.now(), end: end, from: slices.Collect(maps.Keys(a.sessions)), heard: time.Now(),
			parted: a.parted, openings: map[uint64]hardware.Opening{}, news: make(chan struct{}, 1), nonce: a.nonceOf(m.Challenge),
		}
		a.gauges[m.Challenge.Node] = g
		a.running.Go(func() {
			defer end()
			g.run(ctx)
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.gauges[g.challenge.Node] == g { // else another took its place
				delete(a.gauges, g.challenge.Node)
			}
		})
	}
	if g.challenge == m.Challenge && !slices.Contains(g.tellers, server) && len(g.tellers) < maxGauges {
		g.tellers = append(g.tellers, server)
	}
	return g
}

// givesWay reports whether a gauge leaves its node to another challenge, of which a server speaks: the
// chain knows nothing of its own. A server that makes one up would else keep that node from being
// measured. Its own next one waits a while, so that it cannot have the chain asked without end. The caller
// holds Agent.mu.
func (g *gauge) givesWay(to crypto.PublicKey, now time.Time) bool {
	return !g.proven && !g.none.IsZero() && (!slices.Contains(g.tellers, to) || now.Sub(g.none) >= gaugeRest)
}

// roomToGauge reports whether another challenge may be measured of which a server speaks. A server has
// a share of them; of its own that the chain knows nothing of, one gives way. What the chain has, or
// another server speaks of as well, does not. The caller holds a.mu.
func (a *Agent) roomToGauge(server crypto.PublicKey, now time.Time) bool {
	share := 0
	var oldest *gauge
	for _, g := range a.gauges { // order-free: counted, and the least
		if g.proven || len(g.tellers) != 1 || g.tellers[0] != server {
			continue
		}
		share++
		if !g.none.IsZero() && now.Sub(g.none) >= gaugeRest && (oldest == nil || g.none.Before(oldest.none)) {
			oldest = g
		}
	}
	if share < maxGaugesOf && len(a.gauges) < maxGauges {
		return true
	}
	if oldest == nil {
		return false
	}
	oldest.end()
	delete(a.gauges, oldest.challenge.Node)
	return true
}

// nonceOf is this node's question to a challenged one. It follows from its key, so that a process
// that comes after asks the same.
func (a *Agent) nonceOf(c chain.HardwareChallenge) crypto.Digest {
	secret := a.key.Sign(crypto.DomainQuestion, c.Seed[:])
	return crypto.DomainQuestion.Hash(secret[:])
}

// run measures once, and then says what it found to servers that ask, until none does.
func (g *gauge) run(ctx context.Context) {
	a := g.agent
	h := g.prove(ctx)
	a.mu.Lock()
	if g.proven = h != nil; !g.proven {
		g.none = time.Now()
	}
	a.mu.Unlock()
	if h != nil {
		a.log.Info("agent: drawn to measure a node's hardware", "node", g.challenge.Node.Short(), "lanes", h.Lanes, "memory_mib", h.MemoryMiB)
		a.metrics.challenges.WithLabelValues("measured").Inc()
		if v := g.find(ctx, h); v != nil {
			g.say(v)
		}
	}
	for ctx.Err() == nil { // what is over, or was none, is not looked at again at once
		g.mu.Lock()
		rest := gaugePatience - time.Since(g.heard)
		g.mu.Unlock()
		if rest <= 0 {
			return
		}
		sleep(ctx, rest)
	}
}

// prove asks the chain whether this node is to measure the other; nil: it is not, or what was
// missed of it is too much.
func (g *gauge) prove(ctx context.Context) *settlement.Hardware {
	a := g.agent
	for range proofTries {
		h, there, err := a.hardware(ctx, g.challenge.Node)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && there && h.Open() && h.Seed == g.challenge.Seed && slices.Contains(h.Peers, a.id):
			if late := time.Since(timeOf(h.Since)); late > tooLate {
				a.log.Info("agent: drawn to measure a node's hardware, and heard of it too late", "node", g.challenge.Node.Short())
				return nil
			}
			return &h
		case err == nil:
			a.log.Warn("agent: refusing to measure a node: the chain does not say that this one is drawn", "node", g.challenge.Node.Short())
			return nil
		}
		sleep(ctx, proofAgain)
	}
	return nil
}

// find waits for what the node shows, asks, and returns what is missing; nil: nothing, or nothing is
// known of it.
func (g *gauge) find(ctx context.Context, h *settlement.Hardware) *chain.HardwareVerdict {
	a := g.agent
	unknown := func() *chain.HardwareVerdict { return g.silence(ctx) }
	whole, some := a.taskOf(h, 0)
	if !some {
		return nil
	}
	if !g.await(ctx, a.bench.now, g.began.Add(a.limit(&whole)), func() bool { return g.shown != nil }) {
		return unknown()
	}
	g.mu.Lock()
	shown, took, words := g.shown, g.came.Sub(g.began), g.vouched
	g.mu.Unlock()
	task, _ := a.taskOf(h, shown.HeldMiB) // memory alone makes no task none
	switch {
	case uint64(len(shown.Roots)) != task.Lanes || took > a.limit(&task):
		return unknown() // too late, or an answer to something else
	case len(hardware.Shown(shown.Roots)) == 0:
		return unknown()
	}
	held := func() bool { return shown.HeldMiB <= g.heldMiB }
	g.await(ctx, time.Now, time.Now().Add(heldPatience), func() bool { return held() || g.vouched >= words+heldWords })
	g.mu.Lock()
	leaves := held()
	g.mu.Unlock()
	if !leaves { // unless word of that comes now: then it was shown in time, and is not measured any more
		v := unknown()
		g.mu.Lock()
		defer g.mu.Unlock()
		if held() {
			return nil
		}
		return v
	}
	list := g.ask(ctx, hardware.Openings(len(hardware.Shown(shown.Roots))))
	if list == nil {
		return unknown()
	}
	missing, err := hardware.Check(task, shown.Roots, g.nonce, list)
	if missing == 0 {
		a.log.Info("agent: a node showed its hardware", "node", g.challenge.Node.Short(), "lanes", task.Lanes, "ms", took.Milliseconds())
		return nil
	}
	a.log.Info("agent: a node's hardware is not all there", "node", g.challenge.Node.Short(), "lanes", task.Lanes, "missing", missing, "wrong", err)
	return &chain.HardwareVerdict{Peer: a.id, Missing: missing}
}

// silence is what is said of a node of which nothing was heard that counts; nil: nothing, as no server that would
// have carried it was there from the beginning until now, or one has gone since that may have taken something with it:
// what comes from another cluster goes to one of this node's servers, and what that one had another does not know.
func (g *gauge) silence(ctx context.Context) *chain.HardwareVerdict {
	g.mu.Lock()
	before := g.vouched
	g.mu.Unlock()
	there := func(l lasting) bool { return l.Err() == nil }
	ended := func() bool { return g.vouched > before || !slices.ContainsFunc(g.vouching, there) }
	g.await(ctx, time.Now, time.Now().Add(gaugePatience), ended)
	unbroken := g.agent.unbroken(g.parted)
	g.mu.Lock()
	defer g.mu.Unlock()
	if ctx.Err() != nil || g.vouched == before || !unbroken {
		g.agent.log.Info("agent: nothing is known of a node that is challenged", "node", g.challenge.Node.Short())
		return nil
	}
	return &chain.HardwareVerdict{Peer: g.agent.id, Silent: true}
}

// unbroken reports whether this node is connected to all servers to which it was since so many sessions had ended.
func (a *Agent) unbroken(parted uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.sessions { // order-free: all of them
		if s.conn.Err() != nil {
			return false
		}
	}
	return a.parted == parted
}

// await waits until something is so, or a time by a clock; it reports whether it is.
func (g *gauge) await(ctx context.Context, now func() time.Time, until time.Time, so func() bool) bool {
	for {
		g.mu.Lock()
		is := so()
		g.mu.Unlock()
		left := until.Sub(now())
		if is || left <= 0 {
			return is
		}
		select {
		case <-g.news:
		case <-g.agent.bench.after(left):
		case <-ctx.Done():
			return false
		}
	}
}

// ask sends the question until as many openings as it draws are here; nil: they do not come.
func (g *gauge) ask(ctx context.Context, want int) []hardware.Opening {
	a := g.agent
	q := job.LaneQuestion{Challenge: g.challenge, Peer: a.id, Nonce: g.nonce}
	q.Signature = a.key.Sign(crypto.DomainQuestion, q.Payload())
	all := func() bool {
		for i := range uint64(want) {
			if _, there := g.openings[i]; !there {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(askPatience); time.Now().Before(end) && ctx.Err() == nil; {
		a.broadcast(q)
		if g.await(ctx, time.Now, time.Now().Add(askEvery), all) {
			break
		}
	}
	list := make([]hardware.Opening, want)
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range list {
		o, there := g.openings[uint64(i)]
		if !there {
			return nil
		}
		list[i] = o
	}
	return list
}

// say signs what was found, and tells the servers.
func (g *gauge) say(v *chain.HardwareVerdict) {
	a := g.agent
	v.Signature = a.key.Sign(crypto.DomainHardware, chain.HardwarePayload(g.challenge, *v))
	m := job.Measured{Challenge: g.challenge, Verdict: *v}
	g.mu.Lock()
	g.said = &m
	g.mu.Unlock()
	a.metrics.challenges.WithLabelValues("found").Inc()
	a.log.Info("agent: measured a node's hardware", "node", g.challenge.Node.Short(), "missing", v.Missing, "silent", v.Silent)
	a.broadcast(m)
}

// gaugeOf returns what measures a challenge; nil: nothing here does.
func (a *Agent) gaugeOf(c chain.HardwareChallenge) *gauge {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.gauges[c.Node]; g != nil && g.challenge == c {
		return g
	}
	return nil
}

// lanesShown takes what a node that is measured here has shown: the first that it signed.
func (a *Agent) lanesShown(m *job.LanesShown) {
	g := a.gaugeOf(m.Challenge)
	if g == nil {
		return
	}
	came := a.bench.now()
	g.mu.Lock()
	known := g.shown != nil
	g.mu.Unlock()
	if known {
		return
	}
	if !m.Challenge.Node.Verify(crypto.DomainShown, m.Payload(), m.Signature) {
		a.log.Warn("agent: what a challenged node is said to show is not signed by it", "node", m.Challenge.Node.Short())
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shown == nil {
		g.shown, g.came = m, came
		g.wake()
	}
}

// laneOpened takes a part of the answer to this node's question.
func (a *Agent) laneOpened(m *job.LaneOpened) {
	g := a.gaugeOf(m.Challenge)
	if g == nil || m.Peer != a.id || m.Nonce != g.nonce {
		return
	}
	g.mu.Lock()
	_, known := g.openings[m.Index]
	wanted := g.shown != nil && !known && g.said == nil
	g.mu.Unlock()
	if !wanted {
		return
	}
	if !m.Challenge.Node.Verify(crypto.DomainOpened, m.Payload(), m.Signature) {
		a.log.Warn("agent: what a challenged node is said to open is not signed by it", "node", m.Challenge.Node.Short())
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.openings[m.Index] = m.Opening
	g.wake()
}

// wake tells of news. The caller holds g.mu.
func (g *gauge) wake() {
	select {
	case g.news <- struct{}{}:
	default:
	}
}
