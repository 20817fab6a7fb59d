package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// A challenged node and those who measure it may be at different clusters: the chain has the home of each
// (settlement.Home). A server takes what its own agents say to the homes of those who are not here, and
// what comes from elsewhere to its agents, never further. That a node was there counts only as its home says
// it anew each time: of one whose home does not answer nobody here says that it was silent.

const (
	seekAgain = 10 * time.Second // for the home of a node that has said none
	// learnedWithin is how soon after a challenge began a server has to have learned of it to say of its node
	// that it was there: one that began anew meanwhile may have kept it from answering.
	learnedWithin = 10 * time.Second
	// wayTakes is how long what a node shows is on its way to another cluster at most, and seenApart how much sooner than
	// here that may have learned of the challenge: no node is blamed for a way that took longer.
	wayTakes  = 300 * time.Millisecond
	seenApart = 2 * time.Second
)

// participant is a node with a part in a challenge that is not here. What it knows is under challenges.mu,
// but the outpost.
type participant struct {
	outpost
	next    time.Time // when it is asked again where it is
	asked   time.Time // of a peer who is here: when the challenged node's home was asked for it whether that is there
	brought map[parcel]bool
	going   map[parcel]bool
	opened  [][]byte // for it, at most hardware.MaxOpenings: they go one after the other, in one errand
	opening bool     // that errand waits or is under way
	lost    bool     // some of what the node opened did not get there, and nothing after it yet
	slow    bool     // what the node has shown took so long to get there that it may have been late
}

// parcel is what is brought to a node once: whose word, or what a challenged node has shown.
type parcel struct{ of crypto.PublicKey }

// carriage is a parcel and whom it goes to.
type carriage struct {
	to *participant
	parcel
	message job.Message
}

// reachAway learns where those are at home who have a part in a challenge and are not here, and has what is
// for them carried there.
func (s *Server) reachAway(ctx context.Context, c *challenge) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	id, list := s.challenges.toSeek(c, s.id.genesis.ChainID, time.Now(), s.sitsHere)
	for node, p := range list { // order-free: each for itself
		home, err := s.chain.Home(ctx, node)
		if err == nil && !home.Cluster.IsZero() && home.Cluster != s.id.cluster.Public() {
			err = s.findHome(ctx, &p.outpost, home.Cluster)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Info("where a node with a part in a hardware challenge is at home is not known", "node", node.Short(), "error", err)
		}
		if s.abroad.knows(&p.outpost) {
			s.challenges.found(p, time.Now())
		}
	}
	s.carryAway(id)
}

// knows reports whether errands can go to a cluster.
func (a *abroad) knows(o *outpost) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return o.home != nil
}

// toSeek returns those with a part in a challenge whose home is to be asked for now.
func (d *challenges) toSeek(c *challenge, of chain.ChainID, now time.Time, here func(crypto.PublicKey) bool) (chain.HardwareChallenge, map[crypto.PublicKey]*participant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := map[crypto.PublicKey]*participant{}
	if c.seen == nil {
		return chain.HardwareChallenge{}, list
	}
	for _, node := range append([]crypto.PublicKey{c.node}, c.peers...) {
		p := c.away[node]
		if p == nil {
			p = &participant{brought: map[parcel]bool{}, going: map[parcel]bool{}}
			c.away[node] = p
		}
		if !here(node) && !now.Before(p.next) {
			p.next = now.Add(seekAgain)
			list[node] = p
		}
	}
	return c.id(of), list
}

// found notes that a participant's home is known: a challenge is shorter than it takes to move.
func (d *challenges) found(p *participant, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p.next = now.Add(askEndpoints)
}

// carryAway takes to the homes of those who are not here what is for them, and asks the challenged node's
// whether it is there.
func (s *Server) carryAway(id chain.HardwareChallenge) {
	for _, load := range s.challenges.loads(id, time.Now(), s.sitsHere) {
		raw := job.EncodeMessage(load.message)
		sent := s.abroad.send(&load.to.outpost, func(ctx context.Context, home *sdk.Client) {
			answer, err := home.CarryPeer(ctx, raw)
			s.challenges.arrived(id, load, err == nil, time.Now())
			if err != nil {
				s.log.Debug("what is said in a hardware challenge did not get to another cluster", "challenged", id.Node.Short(), "error", err)
				return
			}
			if asked, asks := load.message.(job.Measure); asks {
				s.hearHome(asked, answer)
			}
		})
		if !sent {
			s.challenges.arrived(id, load, false, time.Now())
		}
	}
}

// loads lists what is to be carried now.
func (d *challenges) loads(id chain.HardwareChallenge, now time.Time, here func(crypto.PublicKey) bool) (list []carriage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(id)
	if c == nil {
		return nil
	}
	add := func(to *participant, of crypto.PublicKey, m job.Message) {
		if p := (parcel{of}); !to.brought[p] && !to.going[p] {
			to.going[p] = true
			list = append(list, carriage{to, p, m})
		}
	}
	home := c.away[c.node]
	for _, peer := range c.peers {
		_, said := c.words[peer]
		p := c.away[peer]
		if p == nil {
			continue
		}
		if here(peer) {
			if !said && home != nil && !here(c.node) && now.Sub(p.asked) >= askAgain {
				p.asked = now
				list = append(list, carriage{home, parcel{peer}, job.Measure{Challenge: id, Peer: peer}})
			}
			continue
		}
		if c.shown != nil && here(c.node) {
			shown := *c.shown
			shown.Peer = peer
			add(p, c.node, shown)
		}
		for _, own := range c.peers {
			if v, said := c.words[own]; said && here(own) {
				add(p, own, job.Measured{Challenge: id, Verdict: v})
			}
		}
	}
	return list
}

// arrived notes that a parcel was brought, or was not.
func (d *challenges) arrived(id chain.HardwareChallenge, load carriage, ok bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, asks := load.message.(job.Measure); asks {
		return // at its own pace
	}
	delete(load.to.going, load.parcel)
	if !ok {
		return
	}
	load.to.brought[load.parcel] = true
	if c := d.open(id); c != nil && load.of == c.node {
		load.to.slow = d.tooLate(c, now) || d.soonerThere(c, now)
	}
}

// soonerThere reports whether what a challenged node has shown in time is late at a cluster that learned of the challenge
// as it began, as this one learned of it later: the node began when this one told it. The caller holds d.mu.
func (d *challenges) soonerThere(c *challenge, now time.Time) bool {
	limit := d.limit(c)
	return c.showed.Sub(c.learned) <= limit && now.UnixMilli()-int64(c.seen.Since) > limit.Milliseconds()
}

// tooLate reports whether what a challenged node has shown was kept from a peer until now for so long that it may be late
// there. The caller holds d.mu.
func (d *challenges) tooLate(c *challenge, now time.Time) bool {
	return now.Sub(c.showed) > wayTakes && now.Sub(c.learned) > d.limit(c)-seenApart
}

// limit is within what time a challenged node has to show its lanes. The caller holds d.mu.
func (d *challenges) limit(c *challenge) time.Duration {
	h := c.seen
	task, _ := hardware.TaskOf(h.Seed, h.Lanes, h.MemoryMiB-min(c.heldMiB, h.MemoryMiB), d.params.HardwareLaneMiB)
	return time.Duration(task.LimitMs(d.params.HardwareStepNs)) * time.Millisecond
}

// carryQuestion takes a peer's question to the challenged node's home. Whoever misses an answer asks again; until a
// question got there the peer is not told that the node is.
func (s *Server) carryQuestion(m *job.LaneQuestion) {
	id := m.Challenge
	p := s.challenges.participant(id, id.Node)
	s.challenges.asks(id, m.Peer, false)
	if p == nil {
		return
	}
	raw := job.EncodeMessage(*m)
	s.abroad.send(&p.outpost, func(ctx context.Context, home *sdk.Client) {
		if _, err := home.CarryPeer(ctx, raw); err != nil {
			s.log.Debug("what is said in a hardware challenge did not get to another cluster", "challenged", id.Node.Short(), "error", err)
			return
		}
		s.challenges.asks(id, m.Peer, true)
	})
}

// asks notes whether the newest question of a peer who is here got to the challenged node's home.
func (d *challenges) asks(id chain.HardwareChallenge, peer crypto.PublicKey, there bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.open(id); c != nil {
		c.unasked[peer] = !there
	}
}

// carryOpened takes an opening to the home of the peer who asked for it.
func (s *Server) carryOpened(m *job.LaneOpened) {
	p := s.challenges.participant(m.Challenge, m.Peer)
	if p == nil || !s.challenges.queueOpened(p, job.EncodeMessage(*m)) {
		return
	}
	sent := s.abroad.send(&p.outpost, func(ctx context.Context, home *sdk.Client) {
		for raw := s.challenges.nextOpened(p); raw != nil; raw = s.challenges.nextOpened(p) {
			if _, err := home.CarryPeer(ctx, raw); err != nil {
				s.challenges.dropOpened(p)
				s.log.Debug("what a challenged node opened did not get to another cluster", "challenged", m.Challenge.Node.Short(), "error", err)
				return
			}
		}
	})
	if !sent {
		s.challenges.dropOpened(p)
	}
}

// queueOpened has an opening wait, if there is room, and reports whether an errand is to begin for it.
func (d *challenges) queueOpened(p *participant, raw []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p.opened) >= hardware.MaxOpenings {
		p.lost = true
		return false
	}
	p.opened = append(p.opened, raw)
	begins := !p.opening
	p.opening = true
	return begins
}

// nextOpened takes the opening that waits longest; nil: none does, and the errand ends.
func (d *challenges) nextOpened(p *participant) (raw []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.opening = len(p.opened) > 0; p.opening {
		raw, p.opened = p.opened[0], p.opened[1:]
	} else {
		p.lost = false
	}
	return raw
}

// dropOpened drops what waits: the peer asks again.
func (d *challenges) dropOpened(p *participant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p.opened, p.opening, p.lost = nil, false, true
}

// participant returns one of a challenge that was looked for; nil: there is none.
func (d *challenges) participant(id chain.HardwareChallenge, node crypto.PublicKey) *participant {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.open(id); c != nil {
		return c.away[node]
	}
	return nil
}

// hearHome takes the word of a challenged node's home that it is there, and tells the peer for whom it was asked, if that
// has said nothing.
func (s *Server) hearHome(asked job.Measure, raw []byte) {
	answer, err := job.DecodeMessage(raw)
	m, ok := answer.(job.Measure)
	if err != nil || !ok || m.Challenge != asked.Challenge || m.Peer != asked.Peer {
		s.log.Info("another cluster's answer about a challenged node is none", "node", asked.Challenge.Node.Short(), "error", err)
		return
	}
	if tell, m := s.challenges.vouch(m, s.sitsHere); tell {
		s.pass(m.Peer, m)
	}
}

// vouch notes such a word, and returns what to tell the peer; false: nothing. That the node is there is not told to a peer
// whose question has not got there.
func (d *challenges) vouch(m job.Measure, here func(crypto.PublicKey) bool) (tell bool, _ job.Measure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	if c == nil || here(c.node) {
		return false, m
	}
	c.vouched, c.heldMiB = true, max(c.heldMiB, m.HeldMiB)
	m.HeldMiB, m.Here = c.heldMiB, m.Here && !c.unasked[m.Peer]
	_, said := c.words[m.Peer]
	return !said && slices.Contains(c.peers, m.Peer), m
}

// aboutHardware reports whether a message of another cluster is about a hardware challenge.
func aboutHardware(m job.Message) bool {
	_, asks := m.(job.Measure)
	return asks || !measuredBy(m).IsZero()
}

// takeAway takes what another cluster brings of a challenge in which an agent here has a part, and answers. What
// is signed by who has to sign it goes to agents who are here, and no further. Whoever brings something for an agent
// that is not here, or of a challenge in which nobody here has a part, is told errNotHere.
func (s *Server) takeAway(m job.Message, now time.Time) ([]byte, error) {
	if m, ok := m.(job.Measure); ok {
		answer, err := s.challenges.answerAway(&m, s.sitsHere)
		if err != nil {
			return nil, err
		}
		return job.EncodeMessage(answer), nil
	}
	signed, id := signedIn(m)
	news, err := s.challenges.awaits(m, now, s.sitsHere)
	switch {
	case err != nil:
		return nil, err
	case !news:
		return []byte{}, nil
	case !s.verifier.verify(signed):
		return nil, errNotSigned()
	}
	s.passOn(m, id, now)
	return []byte{}, nil
}

// passOn passes what another cluster brought, and whose signature is good, to agents who are here.
func (s *Server) passOn(m any, id chain.HardwareChallenge, now time.Time) {
	switch m := m.(type) {
	case job.LanesShown:
		for _, peer := range s.challenges.show(&m) {
			s.pass(peer, m)
		}
		if s.challenges.askAnew(id) {
			s.carryAway(id)
		}
	case job.LaneQuestion:
		if s.challenges.question(&m, now) {
			s.pass(id.Node, m)
		}
	case job.LaneOpened:
		if s.challenges.answer(&m) {
			s.pass(m.Peer, m)
		}
	case job.Measured:
		s.challenges.word(&m)
	}
}

// errNotMeasured says that nobody of the cluster hears that.
func errNotMeasured() error { return web.NotFound("nothing is heard of that challenge from this node") }

// errNotHere says that another server of the cluster may take what this one cannot.
var errNotHere = errors.New("nothing is known here of that challenge, or whom it is for is not here: ask another server of the cluster")

// errNotSigned says that a message is not signed by who has to sign it.
func errNotSigned() error {
	return web.Invalid("body.message", errors.New("is not signed by whose word it is"))
}

// signedIn returns what has to be signed of a message that measuredBy knows, and of which challenge it is.
func signedIn(m any) (crypto.Signed, chain.HardwareChallenge) {
	switch m := m.(type) {
	case job.LanesShown:
		return crypto.SignedBy(m.Challenge.Node, crypto.DomainShown, m.Payload(), m.Signature), m.Challenge
	case job.LaneQuestion:
		return crypto.SignedBy(m.Peer, crypto.DomainQuestion, m.Payload(), m.Signature), m.Challenge
	case job.LaneOpened:
		return crypto.SignedBy(m.Challenge.Node, crypto.DomainOpened, m.Payload(), m.Signature), m.Challenge
	case job.Measured:
		return crypto.SignedBy(m.Verdict.Peer, crypto.DomainHardware, chain.HardwarePayload(m.Challenge, m.Verdict), m.Verdict.Signature), m.Challenge
	}
	panic("server: a message about hardware that nobody signs")
}

// answerAway says to a peer of elsewhere whether a challenged node is here, and how much memory jobs hold of it. The error
// says that nothing is known of the challenge here, or that the peer has no part in it. That the node is here is said to no peer to whom
// something that it showed or opened did not get, or not in time: its cluster may be one that nobody reaches.
func (d *challenges) answerAway(m *job.Measure, here func(crypto.PublicKey) bool) (job.Measure, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(m.Challenge)
	switch {
	case c == nil:
		return job.Measure{}, errNotHere
	case !slices.Contains(c.peers, m.Peer):
		return job.Measure{}, errNotMeasured()
	case !c.here && !here(c.node):
		return job.Measure{}, errNotHere
	}
	late := c.learned.UnixMilli()-int64(c.seen.Since) > learnedWithin.Milliseconds()
	return job.Measure{Challenge: m.Challenge, HeldMiB: c.heldMiB, Here: c.here && !late && c.reached(m.Peer), Peer: m.Peer}, nil
}

// reached reports whether a peer of elsewhere has all that the node showed and opened. The caller holds challenges.mu.
func (c *challenge) reached(peer crypto.PublicKey) bool {
	p := c.away[peer]
	return p != nil && !p.lost && !p.slow && (c.shown == nil || p.brought[parcel{c.node}])
}

// awaits reports whether a message is news: a signature is looked at then alone. The error says that it is of no challenge
// that is known here, of one who has no part in it, or for one who is not here.
func (d *challenges) awaits(m any, now time.Time, here func(crypto.PublicKey) bool) (news bool, _ error) {
	_, id := signedIn(m)
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(id)
	if c == nil {
		return false, errNotHere
	}
	peer, to, wanted := crypto.PublicKey{}, crypto.PublicKey{}, true
	switch m := m.(type) {
	case job.LanesShown:
		peer, to, news = m.Peer, m.Peer, c.shown == nil
	case job.LaneQuestion:
		peer, to, news = m.Peer, c.node, now.Sub(c.asked[m.Peer]) >= askAgain/2
	case job.LaneOpened:
		peer, to, news = m.Peer, m.Peer, true
		wanted = !c.asked[m.Peer].IsZero() && c.opened[m.Peer] < openingsCarried
	case job.Measured:
		_, said := c.words[m.Verdict.Peer]
		peer, news, wanted = m.Verdict.Peer, !said, m.Verdict.Missing <= c.seen.Lanes
	}
	switch {
	case !slices.Contains(c.peers, peer):
		return false, errNotMeasured()
	case !to.IsZero() && !here(to):
		return false, errNotHere
	case !wanted:
		return false, errNotMeasured()
	}
	return news, nil
}

// askAnew has a node's home be asked at once how much memory jobs hold, if what the node shows leaves them more.
func (d *challenges) askAnew(id chain.HardwareChallenge) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open(id)
	if c == nil || c.shown == nil || c.here || c.vouched && c.shown.HeldMiB <= c.heldMiB || c.away[c.node] == nil {
		return false
	}
	for _, peer := range c.peers {
		if p := c.away[peer]; p != nil {
			p.asked = time.Time{}
		}
	}
	return true
}
