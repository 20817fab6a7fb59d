package server

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// The chain challenges nodes to show their hardware, and draws peers who measure them; any of them
// may be connected to any cluster. Every server watches for challenges in which an agent of its
// has a part, tells it, carries what the node and its peers say to each other, and lists for
// relays what enough of the peers miss. It keeps all of this in memory, as it does what it
// knows of panels.

// Challenge is what a finalized state has of a node's hardware challenge.
type Challenge struct {
	Height   chain.Height // of the state
	Open     bool         // the node is challenged now
	Hardware settlement.Hardware
}

const (
	challengeLookEvery = time.Second
	maxChallenges      = 1_024
	gatherFor          = 3 * time.Second  // words of peers, once there are enough
	postTogether       = 15 * time.Second // after which they are listed one by one: one that the chain refuses holds up no other
	openingsCarried    = 4 * hardware.MaxOpenings

	measuresASecond = 64 // messages about challenges that are taken of an agent
	measureBurst    = 256
)

// challenges is what a server knows of hardware challenges. Safe for concurrent use; so is what it
// knows of each under its lock alone.
type challenges struct {
	params *chain.Params
	lasts  time.Duration // a challenge, at the longest

	mu    sync.Mutex
	known map[crypto.PublicKey]*challenge // by the challenged node
}

// challenge is one node's.
type challenge struct {
	node   crypto.PublicKey
	peers  []crypto.PublicKey // who was said to be drawn
	since  time.Time          // that was said
	drawn  chain.Height       // of the block that is said to have drawn it
	height chain.Height       // of the newest state that was seen
	looks  time.Time          // when the chain is asked again
	busy   bool               // it is being asked
	seen   *settlement.Hardware

	// What follows is of the challenge that was seen.
	here    bool   // the node was connected when it was
	heldMiB uint64 // the most that jobs held on the node since
	shown   *job.LanesShown
	showed  time.Time // when that came
	told    map[crypto.PublicKey]time.Time
	opened  map[crypto.PublicKey]int       // openings that were carried to a peer
	asked   map[crypto.PublicKey]time.Time // questions of a peer that were carried
	words   map[crypto.PublicKey]chain.HardwareVerdict
	enough  time.Time                 // since when enough of the peers miss something; zero: they do not
	listed  time.Time                 // since when what they say is listed; zero: nothing is
	learned time.Time                 // of it
	vouched bool                      // the node is at another cluster, which has answered
	unasked map[crypto.PublicKey]bool // peers whose newest question did not get to that
	away    map[crypto.PublicKey]*participant
}

func newChallenges(p *chain.Params) *challenges {
	return &challenges{params: p, lasts: 2 * time.Duration(p.HardwareMs) * time.Millisecond, known: map[crypto.PublicKey]*challenge{}}
}

// id names the challenge that was seen.
func (c *challenge) id(of chain.ChainID) chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: of, Node: c.node, Seed: c.seen.Seed}
}

// watchHardware follows challenges until ctx ends.
func (s *Server) watchHardware(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(lookAtPanels)
	defer ticker.Stop()
	slots := make(chan struct{}, maxLooks)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, c := range s.challenges.due(time.Now(), s.sitsHere) {
			wg.Go(func() {
				defer s.challenges.rest(c)
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				if s.lookAtChallenge(ctx, c) {
					s.tellMeasured(c)
					s.reachAway(ctx, c)
				}
				<-slots
			})
		}
	}
}

// challenged notes that a node is said to be challenged.
func (s *Server) challenged(node crypto.PublicKey, at chain.Height, peers []crypto.PublicKey) {
	s.challenges.drawn(node, at, peers, s.sitsHere)
}

// drawn notes a challenge. Whether there is one is for the chain to prove.
func (d *challenges) drawn(node crypto.PublicKey, at chain.Height, peers []crypto.PublicKey, here func(crypto.PublicKey) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.known[node]
	if c == nil {
		if len(d.known) >= maxChallenges && !d.forget(here) {
			return
		}
		c = &challenge{node: node}
		d.known[node] = c
	}
	c.peers, c.since, c.drawn, c.looks = peers[:min(len(peers), chain.MaxHardwarePeers)], time.Now(), at, time.Time{}
}

// forget drops the challenge that was heard of longest ago in which nobody here has a part, and
// reports whether there was one. The caller holds d.mu.
func (d *challenges) forget(here func(crypto.PublicKey) bool) bool {
	var oldest *challenge
	for _, c := range d.known { // order-free: the least
		if !c.busy && !c.concerns(here) && (oldest == nil || c.since.Before(oldest.since)) {
			oldest = c
		}
	}
	if oldest != nil {
		delete(d.known, oldest.node)
	}
	return oldest != nil
}

// concerns reports whether an agent that is here has a part in a challenge.
func (c *challenge) concerns(here func(crypto.PublicKey) bool) bool {
	return len(c.words) > 0 || here(c.node) || slices.ContainsFunc(c.peers, here)
}

// due returns the challenges to look at now, which are busy until rest. Those in which nobody here
// has a part are forgotten when they are over.
func (d *challenges) due(now time.Time, here func(crypto.PublicKey) bool) (list []*challenge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.known { // order-free: each for itself
		switch {
		case c.busy || now.Before(c.looks):
		case c.concerns(here):
			c.busy, c.looks = true, now.Add(challengeLookEvery)
			list = append(list, c)
		case now.Sub(c.since) > d.lasts:
			delete(d.known, c.node)
		}
	}
	return list
}

func (d *challenges) rest(c *challenge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.busy = false
}

// lookAtChallenge asks the chain about a challenge, and reports whether it is open.
func (s *Server) lookAtChallenge(ctx context.Context, c *challenge) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := s.chain.Hardware(ctx, c.node)
	if err != nil {
		s.log.Info("the chain cannot be asked about a hardware challenge", "node", c.node.Short(), "error", err)
		return false
	}
	held := uint64(0)
	s.replica.view(func(state *scheduler.State) { held = state.HeldMiB(c.node) })
	open := s.challenges.learn(c, &seen, held, s.sitsHere(c.node))
	if !open && !s.challenges.has(c) {
		s.noteMeasured(c.node, seen.Height) // it may have been cut
	}
	return open
}

// has reports whether a challenge is not over, as far as is known.
func (d *challenges) has(c *challenge) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[c.node] == c
}

// learn notes what the chain says. A node that is behind what was seen says nothing, nor does one
// that has not come to the block that is said to have drawn the challenge.
func (d *challenges) learn(c *challenge, seen *Challenge, heldMiB uint64, here bool) (open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seen.Height < c.height {
		return false
	}
	c.height = seen.Height
	if !seen.Open {
		awaited := seen.Height < c.drawn && time.Since(c.since) < d.lasts
		if !awaited && d.known[c.node] == c {
			delete(d.known, c.node)
		}
		return false
	}
	if c.seen == nil || c.seen.Seed != seen.Hardware.Seed {
		*c = challenge{
			node: c.node, since: c.since, drawn: c.drawn, height: c.height, looks: c.looks, busy: c.busy, here: here,
			told: map[crypto.PublicKey]time.Time{}, opened: map[crypto.PublicKey]int{}, asked: map[crypto.PublicKey]time.Time{},
			words: map[crypto.PublicKey]chain.HardwareVerdict{}, learned: time.Now(), unasked: map[crypto.PublicKey]bool{}, away: map[crypto.PublicKey]*participant{},
		}
	}
	c.seen, c.peers, c.heldMiB = &seen.Hardware, seen.Hardware.Peers, max(c.heldMiB, heldMiB)
	c.weigh(time.Now())
	return true
}

// tellMeasured tells the challenged node, until it has shown something, and the peers who have said
// nothing.
func (s *Server) tellMeasured(c *challenge) {
	nodes, m, shown := s.challenges.toTell(c, s.id.genesis.ChainID, time.Now(), s.sitsHere)
	for _, node := range nodes {
		agent := s.sessions.get(node)
		if agent == nil {
			continue
		}
		agent.send(m)
		if shown != nil && node != c.node {
			agent.send(*shown)
		}
	}
}

func (d *challenges) toTell(c *challenge, of chain.ChainID, now time.Time, here func(crypto.PublicKey) bool) (nodes []crypto.PublicKey, m job.Measure, shown *job.LanesShown) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.seen == nil {
		return nil, m, nil
	}
	for _, node := range append([]crypto.PublicKey{c.node}, c.peers...) {
		_, said := c.words[node]
		done := said || node == c.node && c.shown != nil
		if !done && here(node) && now.Sub(c.told[node]) >= askAgain {
			c.told[node] = now
			nodes = append(nodes, node)
		}
	}
	return nodes, job.Measure{Challenge: c.id(of), HeldMiB: c.heldMiB, Here: c.here}, c.shown
}

// open returns what is known of a challenge, if it is the one that was seen. The caller holds d.mu.
func (d *challenges) open(id chain.HardwareChallenge) *challenge {
	if c := d.known[id.Node]; c != nil && c.seen != nil && c.seen.Seed == id.Seed {
		return c
	}
	return nil
}

// hearHardware takes what agents say in a challenge, and carries it on. Who says it was looked at.
func (s *Server) hearHardware(from *session, m job.Message) {
	if !from.mayMeasure() {
		return
	}
	if m, ok := m.(job.LanesShown); ok {
		for _, peer := range s.challenges.show(&m) {
			s.pass(peer, m)
		}
		s.carryAway(m.Challenge)
	}
	if m, ok := m.(job.LaneQuestion); ok && s.challenges.question(&m, time.Now()) && !s.pass(m.Challenge.Node, m) {
		s.carryQuestion(&m)
	}
	if m, ok := m.(job.LaneOpened); ok && s.challenges.answer(&m) && !s.pass(m.Peer, m) {
		s.carryOpened(&m)
	}
	if m, ok := m.(job.Measured); ok && s.challenges.wants(&m) {
		v := &m.Verdict
		if !v.Peer.Verify(crypto.DomainHardware, chain.HardwarePayload(m.Challenge, *v), v.Signature) {
			from.log.Warn("a peer sent a verdict that it did not sign", "challenged", m.Challenge.Node.Short())
			return
		}
		s.challenges.word(&m)
		s.carryAway(m.Challenge)
	}
}

// pass sends a message to an agent, and is false if it is not here.
func (s *Server) pass(to crypto.PublicKey, m job.Message) bool {
	agent := s.sessions.get(to)
	if agent != nil {
		agent.send(m)
	}
	return agent != nil
}

// show takes the first that a challenged node shows, and returns who is to have it now. They wait for word of how much
// memory its cluster says that jobs hold: one of several servers may have that, and another what was shown.
func (d *challenges) show(m *job.LanesShown) []crypto.PublicKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	if c == nil || c.shown != nil {
		return nil
	}
	c.shown, c.showed = m, time.Now()
	return c.peers
}

// question reports whether a peer's question is carried.
func (d *challenges) question(m *job.LaneQuestion, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	if c == nil || !slices.Contains(c.peers, m.Peer) || now.Sub(c.asked[m.Peer]) < askAgain/2 {
		return false
	}
	c.asked[m.Peer] = now
	return true
}

// answer reports whether an opening is carried to a peer, who has asked.
func (d *challenges) answer(m *job.LaneOpened) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	if c == nil || c.asked[m.Peer].IsZero() || c.opened[m.Peer] >= openingsCarried {
		return false
	}
	c.opened[m.Peer]++
	return true
}

// wants reports whether a verdict is one that the chain would hear.
func (d *challenges) wants(m *job.Measured) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	if c == nil || !slices.Contains(c.peers, m.Verdict.Peer) {
		return false
	}
	_, said := c.words[m.Verdict.Peer]
	missing := m.Verdict.Missing
	return !said && missing <= c.seen.Lanes && (m.Verdict.Silent || missing > 0)
}

// word takes a verdict that its peer has signed.
func (d *challenges) word(m *job.Measured) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.open(m.Challenge); c != nil {
		c.words[m.Verdict.Peer] = m.Verdict
		c.weigh(time.Now())
	}
}

// fresh returns the words that the chain does not have, in order of their peers.
func (c *challenge) fresh() (list []chain.HardwareVerdict) {
	for _, v := range c.words {
		has := func(w settlement.Word) bool {
			return w.Peer == v.Peer && (w.Silent || !v.Silent && w.Missing >= v.Missing)
		}
		if !slices.ContainsFunc(c.seen.Words, has) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b chain.HardwareVerdict) int { return a.Peer.Compare(b.Peer) })
	return list
}

// weigh notes whether enough of the peers miss something. The caller holds challenges.mu.
func (c *challenge) weigh(now time.Time) {
	accusing := len(c.seen.Words)
	for peer := range c.words { // order-free: counted
		if !slices.ContainsFunc(c.seen.Words, func(w settlement.Word) bool { return w.Peer == peer }) {
			accusing++
		}
	}
	if c.enough.IsZero() && accusing >= chain.Quorum(len(c.peers)) {
		c.enough = now
	}
	all := accusing == len(c.peers)
	switch {
	case c.enough.IsZero() || len(c.fresh()) == 0:
		c.listed = time.Time{}
	case c.listed.IsZero() && (all || now.Sub(c.enough) >= gatherFor):
		c.listed = now
	}
}

// reports lists the messages that are to be posted now.
func (d *challenges) reports(of chain.ChainID, now time.Time) [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := [][]byte{}
	for _, c := range d.known { // order-free: sorted below
		if c.listed.IsZero() {
			continue
		}
		list := c.fresh()
		each := len(list)
		if now.Sub(c.listed) >= postTogether {
			each = 1
		}
		for part := range slices.Chunk(list, max(each, 1)) {
			out = append(out, codec.Marshal(chain.Msgs{chain.ReportHardware{Challenge: c.id(of), Verdicts: part}}))
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// count returns how many challenges are open in which an agent here has a part.
func (d *challenges) count() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.known { // order-free: counted
		if c.seen != nil {
			n++
		}
	}
	return n
}

// mayMeasure reports whether another message about challenges is taken of the agent, and counts it.
func (s *session) mayMeasure() bool {
	return s.may(&s.measures, time.Second/measuresASecond, measureBurst)
}
