package server_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// apart is a cluster whose node is challenged, and another with a peer who measures it. A second peer is at the node's
// cluster; the third is nowhere.
type apart struct {
	t          *testing.T
	home, away *cluster
	challenge  chain.HardwareChallenge
	first      *fakeAgent // the peer that is away
	second     *fakeAgent
	at, asked  int // of the peer's servers: the one that it is at, and the one that the node's cluster knows

	mu    sync.Mutex
	heard []job.Message // by the first peer
	shows bool          // the node shows its lanes when it is told again; until then it says nothing
}

// here are Measures that the first peer heard, and how many of them say that the node was there.
func (p *apart) here() (measures, here int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.heard {
		if m, ok := m.(job.Measure); ok {
			measures++
			if m.Here {
				here++
			}
		}
	}
	return measures, here
}

func (p *apart) sees(is func(m job.Message) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.heard {
		if is(m) {
			return true
		}
	}
	return false
}

// signShown signs what the node has shown.
func signShown(m job.LanesShown) job.LanesShown {
	m.Signature = key(agentKeys).Sign(crypto.DomainShown, m.Payload())
	return m
}

func signOpened(m job.LaneOpened) job.LaneOpened {
	m.Signature = key(agentKeys).Sign(crypto.DomainOpened, m.Payload())
	return m
}

func signQuestion(n int, m job.LaneQuestion) job.LaneQuestion {
	m.Peer = key(agentKeys + n).Public()
	m.Signature = key(agentKeys+n).Sign(crypto.DomainQuestion, m.Payload())
	return m
}

// node shows lanes, once it is to, and opens what it is asked.
func (p *apart) node(m job.Message) job.Message {
	switch m := m.(type) {
	case job.Measure:
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.shows {
			return nil
		}
		return signShown(job.LanesShown{Challenge: m.Challenge, HeldMiB: m.HeldMiB, Roots: make(job.LaneRoots, 8)})
	case job.LaneQuestion:
		return signOpened(job.LaneOpened{Challenge: m.Challenge, Peer: m.Peer, Nonce: m.Nonce, Opening: hardware.Opening{Seen: []byte{1}}})
	}
	return nil
}

// asksHardware is a peer that asks for what was shown, and misses so many lanes.
func asksHardware(on *fakeChain, n int, missing uint64) func(m job.Message) job.Message {
	return func(m job.Message) job.Message {
		switch m := m.(type) {
		case job.LanesShown:
			return signQuestion(n, job.LaneQuestion{Challenge: m.Challenge, Nonce: crypto.Digest{byte(n)}})
		case job.LaneOpened:
			return verdictOf(on, n, missing)
		}
		return nil
	}
}

// newApart has both clusters on chains that say the same, each with the other as its neighbour. known: the node's cluster
// knows of the challenge from the beginning.
func newApart(t *testing.T, known bool) *apart { return newApartOf(t, known, 1) }

// newApartOf has so many servers in the peer's cluster. Of several it connects to one that follows, and the node's
// cluster knows of another that does.
func newApartOf(t *testing.T, known bool, servers int) *apart {
	t.Helper()
	p := &apart{t: t}
	local := func(c *server.Config) { c.LocalPeers = true }
	began := func() *fakeChain {
		on := challengedChain()
		on.hardware.Hardware.Since = chain.TimeMs(time.Now().Add(time.Hour).UnixMilli()) // nobody is late
		on.neighbour, on.homes = key(clusterKey+1).Public(), map[crypto.PublicKey]settlement.Home{}
		return on
	}
	hers, theirs := began(), began()
	p.challenge = challengeOf(hers)
	theirs.hardware = hers.hardware
	hers.homes[key(agentKeys+1).Public()] = settlement.Home{Cluster: hers.neighbour}
	theirs.homes[hers.challenged] = settlement.Home{Cluster: theirs.neighbour}
	theirs.homes[key(agentKeys+2).Public()] = settlement.Home{Cluster: theirs.neighbour}
	challenged := hers.challenged
	if !known {
		hers.challenged = crypto.PublicKey{}
	}
	p.home = newClusterOn(t, hers, 1, local, nil)
	theirs.endpoints = []string{p.home.url(0)}
	p.away = newClusterOn(t, theirs, servers, local, nil)
	only := 0
	if servers > 1 {
		leader := p.away.waitLeader()
		p.at, p.asked = (leader+1)%servers, (leader+2)%servers
		only = p.at + 1
	}
	hers.set(func() { hers.endpoints = []string{p.away.url(p.asked)} })
	p.home.agent(0, func(a *fakeAgent) { a.measure = p.node })
	p.second = p.home.agent(2, func(a *fakeAgent) { a.measure = asksHardware(hers, 2, 5) })
	p.home.waitNodes(0, 2)
	asks := asksHardware(theirs, 1, 3)
	p.first = p.away.agent(1, func(a *fakeAgent) {
		a.only = only
		a.measure = func(m job.Message) job.Message {
			p.mu.Lock()
			p.heard = append(p.heard, m)
			p.mu.Unlock()
			return asks(m)
		}
	})
	if !known {
		until(t, "the peer is told", func() bool { n, _ := p.here(); return n > 1 })
		hers.set(func() { hers.challenged = challenged })
	}
	return p
}

// TestHardwareIsMeasuredFromAnotherCluster: a peer that is at another cluster than the node hears from the node's own that it
// is there, and what it shows; its question gets there, and what it draws back; and what peers of both miss is listed at both.
func TestHardwareIsMeasuredFromAnotherCluster(t *testing.T) {
	p := newApart(t, true)
	until(t, "word that the node is there", func() bool { _, here := p.here(); return here > 0 })
	p.mu.Lock()
	p.shows = true
	p.mu.Unlock()
	for _, c := range []*cluster{p.home, p.away} {
		until(t, "a report of peers of both clusters", func() bool {
			list := c.votes(0)
			if len(list) != 1 {
				return false
			}
			report, ok := list[0].(chain.ReportHardware)
			return ok && len(report.Verdicts) == 2 && report.Challenge == p.challenge
		})
	}
	if !p.sees(func(m job.Message) bool { o, ok := m.(job.LaneOpened); return ok && o.Peer == p.first.key.Public() }) {
		t.Error("the peer said what is missing, and nothing was opened to it")
	}
}

// TestAPeerAtOneOfItsServersIsReached: what is for a peer that is at a follower alone gets there by way of another follower,
// which is all that the node's cluster knows of the peer's; and the peer hears from it that the node is there.
func TestAPeerAtOneOfItsServersIsReached(t *testing.T) {
	p := newApartOf(t, true, 3)
	p.mu.Lock()
	p.shows = true
	p.mu.Unlock()
	until(t, "what the node shows and opens", func() bool {
		return p.sees(func(m job.Message) bool { _, ok := m.(job.LanesShown); return ok }) &&
			p.sees(func(m job.Message) bool { o, ok := m.(job.LaneOpened); return ok && o.Peer == p.first.key.Public() })
	})
	until(t, "a report of peers of both clusters at the peer's server", func() bool {
		for _, m := range p.away.votes(p.at) {
			if report, ok := m.(chain.ReportHardware); ok && len(report.Verdicts) == 2 && report.Challenge == p.challenge {
				return true
			}
		}
		return false
	})
}

// TestServersHandOnToEachOtherAndNoFurther: what another cluster brings for an agent that is at no server is handed to each of the
// others, and what a server has from another to none; what nobody drawn could say, or has not signed, is handed to none.
func TestServersHandOnToEachOtherAndNoFurther(t *testing.T) {
	p := newApartOf(t, true, 3)
	away := p.away.servers[p.asked]
	until(t, "the challenge is heard of at each server", func() bool {
		return p.away.servers[0].HearsChallenge(p.challenge.Node) && p.away.servers[1].HearsChallenge(p.challenge.Node) && p.away.servers[2].HearsChallenge(p.challenge.Node)
	})
	carry := func(m job.Message) (int, string) {
		status, body := p.away.post(p.asked, "/v1/peers", api.PeerMessage{Message: job.EncodeMessage(m)})
		return status, string(body)
	}
	shown := func(n int) job.LanesShown {
		return signShown(job.LanesShown{Challenge: p.challenge, Peer: key(agentKeys + n).Public(), Roots: make(job.LaneRoots, 8)})
	}
	const nowhere, notHere = "no server of this cluster", "ask another server of the cluster"
	until(t, "all servers are asked", func() bool {
		status, body := carry(shown(3))
		return status == http.StatusNotFound && strings.Contains(body, nowhere)
	})
	for i := range p.away.servers {
		if i == p.asked {
			continue
		}
		if problem := away.HandTo(t.Context(), p.away.servers[i], shown(3)); problem == nil || problem.Status != http.StatusServiceUnavailable || !strings.Contains(problem.Detail, notHere) {
			t.Errorf("server %d, asked by another, answers %v", i, problem)
		}
	}
	if status, body := carry(shown(7)); status != http.StatusServiceUnavailable || !strings.Contains(body, notHere) {
		t.Errorf("what is for a stranger: %d %s", status, body)
	}
	forged := shown(1)
	forged.Roots[0].Fill[0]++
	if status, body := carry(forged); status != http.StatusUnprocessableEntity || !strings.Contains(body, "not signed") {
		t.Errorf("what is forged: %d %s", status, body)
	}
	until(t, "the other takes what is for its peer", func() bool { status, _ := carry(shown(1)); return status == http.StatusOK })
}

// TestAClusterThatDoesNotAnswerMakesNobodySilent: as long as the node's cluster does not say that it is there, no peer of
// another is told that it is; when it says so, they are.
func TestAClusterThatDoesNotAnswerMakesNobodySilent(t *testing.T) {
	p := newApart(t, false)
	if _, here := p.here(); here > 0 || p.away.servers[0].Vouched(p.challenge.Node) {
		t.Fatal("the peer was told that the node is there, which its cluster never said")
	}
	p.home.servers[0].Challenged(p.challenge.Node, p.first.key.Public(), p.second.key.Public())
	until(t, "word that the node is there", func() bool {
		p.home.servers[0].Challenged(p.challenge.Node, p.first.key.Public(), p.second.key.Public())
		_, here := p.here()
		return here > 0
	})
}

// TestAClusterThatLearnedLateSaysNothing: a server that began while a challenge was under way may have kept the node from
// answering: it does not say that the node was there.
func TestAClusterThatLearnedLateSaysNothing(t *testing.T) {
	p := newApart(t, true)
	ask := func() (m job.Measure) {
		status, raw := p.carry(p.home, job.Measure{Challenge: p.challenge, Peer: p.first.key.Public()})
		if status == http.StatusOK {
			answer, err := job.DecodeMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			m, _ = answer.(job.Measure)
		}
		return m
	}
	until(t, "word that the node is there", func() bool { return ask().Here })
	p.home.chain.set(func() {
		p.home.chain.hardware.Hardware.Seed[9]++
		p.home.chain.hardware.Hardware.Since = 1
	})
	p.challenge.Seed[9]++
	until(t, "an answer about the other challenge", func() bool { return ask().Challenge == p.challenge })
	if ask().Here {
		t.Error("a server that learned of a challenge years after it began says that the node was there")
	}
}

// carry brings a message to a cluster as another does, and returns the answer.
func (p *apart) carry(to *cluster, m job.Message) (int, []byte) {
	p.t.Helper()
	status, body := to.post(0, "/v1/peers", api.PeerMessage{Message: job.EncodeMessage(m)})
	var answer api.PeerMessage
	if err := api.DecodeJSON(body, &answer); status == http.StatusOK && err != nil {
		p.t.Fatal(err)
	}
	if status != http.StatusOK {
		return status, body
	}
	return status, answer.Message
}

// TestWhatOthersBringOfChallengesIsRefusedByName: unsigned, of nobody with a part in it, of no challenge.
func TestWhatOthersBringOfChallengesIsRefusedByName(t *testing.T) {
	p := newApart(t, true)
	until(t, "the challenge is known", func() bool {
		status, _ := p.carry(p.home, job.Measure{Challenge: p.challenge, Peer: p.first.key.Public()})
		return status == http.StatusOK
	})
	question := job.LaneQuestion{Challenge: p.challenge, Nonce: crypto.Digest{7}}
	other := p.challenge
	other.Seed[3]++
	forged := signQuestion(3, question) // of the peer that is nowhere
	forged.Signature[5] ^= 1
	lanes := verdictOf(p.home.chain, 3, 9) // of eight
	unsigned := verdictOf(p.home.chain, 3, 2)
	unsigned.Verdict.Missing++
	opened := signOpened(job.LaneOpened{Challenge: p.challenge, Peer: p.second.key.Public(), Opening: hardware.Opening{Seen: []byte{1}}})
	for name, c := range map[string]struct {
		m      job.Message
		status int
		says   string
	}{
		"another challenge":       {job.Measure{Challenge: other, Peer: p.first.key.Public()}, http.StatusServiceUnavailable, "ask another server of the cluster"},
		"asked for a stranger":    {job.Measure{Challenge: p.challenge, Peer: key(agentKeys + 7).Public()}, http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"asked for nobody":        {job.Measure{Challenge: p.challenge}, http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"a stranger's question":   {signQuestion(7, question), http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"a forged question":       {forged, http.StatusUnprocessableEntity, "not signed"},
		"more lanes than it has":  {lanes, http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"a verdict of a stranger": {verdictOf(p.home.chain, 7, 2), http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"a forged verdict":        {unsigned, http.StatusUnprocessableEntity, "not signed"},
		"what nobody asked for":   {opened, http.StatusNotFound, "nothing is heard of that challenge from this node"},
		"word of a home":          {job.AtHome{Home: chain.NodeHome{ChainID: testChain}}, http.StatusUnprocessableEntity, "want a probe"},
	} {
		if status, body := p.carry(p.home, c.m); status != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	forgedShown := signShown(job.LanesShown{Challenge: p.challenge, Peer: key(agentKeys + 1).Public(), Roots: make(job.LaneRoots, 8)})
	forgedShown.Roots[0].Fill[0]++
	on := challengedChain()
	on.hardware.Hardware.Since = chain.TimeMs(time.Now().Add(time.Hour).UnixMilli())
	lone := newClusterOn(t, on, 1, nil, nil)
	lone.agent(1, func(a *fakeAgent) {
		a.measure = func(m job.Message) job.Message {
			if _, ok := m.(job.LanesShown); ok {
				t.Error("what the node did not sign got to a peer")
			}
			return nil
		}
	})
	until(t, "the forged answer is refused", func() bool {
		status, body := p.carry(lone, forgedShown)
		return status == http.StatusUnprocessableEntity && strings.Contains(string(body), "not signed")
	})
}

// TestAgentsAreAskedForTheirHome: of an agent that is not at home at its cluster by the chain the leader lists its word and
// the cluster's, until the chain has it; not while the chain would refuse it.
func TestAgentsAreAskedForTheirHome(t *testing.T) {
	on := newFakeChain()
	on.homes = map[crypto.PublicKey]settlement.Home{}
	c := newClusterOn(t, on, 1, nil, nil)
	node := key(agentKeys).Public()
	now := chain.TimeMs(time.Now().UnixMilli())
	elsewhere := settlement.Home{Cluster: key(clusterKey + 1).Public(), At: now}
	on.set(func() { on.homes[node] = elsewhere })
	c.agent(0, nil)
	c.waitNodes(0, 1)
	look := func() { until(t, "a look", func() bool { return c.servers[0].LookHome(t.Context(), node) }) }
	look()
	elsewhere.At = 1
	on.set(func() {
		on.homes[node], on.challenged = elsewhere, node
		on.hardware = server.Challenge{Open: true}
	})
	look()
	if c.servers[0].AskedHome(node) {
		t.Error("a node that the chain would not let move is asked where it is at home")
	}
	on.set(func() { on.challenged = crypto.PublicKey{} })
	var list []chain.Msg
	until(t, "its word", func() bool {
		look()
		list = c.votes(0)
		return len(list) == 1
	})
	m, ok := list[0].(chain.AnnounceHome)
	if !ok || m.Home.Node != node || m.Home.Cluster != key(clusterKey).Public() {
		t.Fatalf("listed %+v", list)
	}
	payload := chain.HomePayload(m.Home)
	if !node.Verify(crypto.DomainHome, payload, m.NodeSignature) || !m.Home.Cluster.Verify(crypto.DomainHome, payload, m.ClusterSignature) {
		t.Error("what is listed is not signed by both")
	}
	on.set(func() { on.challenged = node })
	look()
	if list = c.votes(0); len(list) != 0 {
		t.Errorf("what the chain would refuse is listed: %+v", list)
	}
	on.set(func() {
		on.challenged, on.homes[node] = crypto.PublicKey{}, settlement.Home{Cluster: m.Home.Cluster, At: m.Home.At}
	})
	look()
	if list = c.votes(0); len(list) != 0 {
		t.Errorf("what the chain has is listed: %+v", list)
	}
}

// TestWordOfAHomeThatIsTooEarlyIsNotListed: an agent whose clock is behind, when it has just become free to move, says that it did
// before: the chain would refuse that, and the relay pay for it.
func TestWordOfAHomeThatIsTooEarlyIsNotListed(t *testing.T) {
	on := newFakeChain()
	node := key(agentKeys).Public()
	moved := time.Now().Add(-chain.HomeMs*time.Millisecond - time.Second)
	on.homes = map[crypto.PublicKey]settlement.Home{node: {Cluster: key(clusterKey + 1).Public(), At: chain.TimeMs(moved.UnixMilli())}}
	c := newClusterOn(t, on, 1, nil, nil)
	c.agent(0, func(a *fakeAgent) { a.behind = 4 * time.Minute })
	c.waitNodes(0, 1)
	until(t, "the agent is asked", func() bool { return c.servers[0].LookHome(t.Context(), node) })
	until(t, "its answer", func() bool { return !c.servers[0].AskedHome(node) })
	if list := c.votes(0); len(list) != 0 {
		t.Errorf("listed: %+v", list)
	}
}
