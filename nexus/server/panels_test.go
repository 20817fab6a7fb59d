package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// votes returns what a server lists for relays.
func (c *cluster) votes(i int) (list []chain.Msg) {
	c.t.Helper()
	status, body := c.do(i, http.MethodGet, "/v1/votes", nil, nil)
	var out api.Votes
	if err := json.Unmarshal(body, &out); err != nil || status != http.StatusOK {
		c.t.Fatalf("%d %s: %v", status, body, err)
	}
	for _, raw := range out.Messages {
		var m chain.Msgs
		if err := codec.Unmarshal(raw, &m, chain.MaxTxBytes); err != nil || len(m) != 1 {
			c.t.Fatalf("%d messages, %v", len(m), err)
		}
		list = append(list, m[0])
	}
	return list
}

// elsewhere is a cluster with an order that a panel judges, and another one, to which a juror
// is connected.
func elsewhere(t *testing.T, change func(*fakeChain), judge func(job.Judge) job.Message) (order crypto.Digest, juror crypto.PublicKey, here *cluster) {
	t.Helper()
	return elsewhereOf(t, testSpec(program), change, judge)
}

func elsewhereOf(t *testing.T, spec job.Spec, change func(*fakeChain), judge func(job.Judge) job.Message) (order crypto.Digest, juror crypto.PublicKey, here *cluster) {
	return elsewhereWith(t, spec, change, judge, true)
}

// elsewhereWith says whether the servers ask endpoints on this machine.
func elsewhereWith(
	t *testing.T, spec job.Spec, change func(*fakeChain), judge func(job.Judge) job.Message, local bool,
) (order crypto.Digest, juror crypto.PublicKey, here *cluster) {
	home := newCluster(t, 1)
	home.upload(0, blob.Sum([]byte(program)), program)
	request, order := signedJob(t, testOrder(chain.PolicyNone{}), spec)
	if status, body := home.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("submitting: %d %s", status, body)
	}
	juror = key(agentKeys).Public()
	on := newFakeChain()
	on.panel = crypto.Digest{7}
	on.sitting = server.Sitting{Order: order, Seats: []server.Seat{{Node: juror}, {Node: key(agentKeys + 1).Public()}}}
	on.matter = server.Matter{Spec: spec.Digest(), Endpoints: []string{home.url(0)}}
	if change != nil {
		change(on)
	}
	here = newClusterOn(t, on, 1, func(c *server.Config) { c.LocalPeers = local }, nil)
	here.agent(0, func(a *fakeAgent) { a.judge = judge })
	return order, juror, here
}

// ballotOf is an agent's vote on a panel, and openingOf what it seals.
func ballotOf(n int, m job.Judge, shown chain.Testimony) job.Ballot {
	k := key(agentKeys + n)
	b := job.Ballot{Order: m.Order, Panel: m.Panel, Node: k.Public(), Commitment: shown.Commitment(m.Panel, k.Public(), voteSalt)}
	b.Signature = k.Sign(crypto.DomainVote, chain.VotePayload(testChain, m.Panel, b.Commitment))
	return b
}

func openingOf(n int, m job.Judge, shown chain.Testimony) job.Opening {
	return job.Opening{Panel: m.Panel, Node: key(agentKeys + n).Public(), Testimony: shown, Salt: voteSalt}
}

var voteSalt = [32]byte{3}

var found = chain.Testimony{Finding: chain.FoundResult, Work: crypto.Digest{8}, Other: crypto.Digest{1}, Link: crypto.Digest{2}}

// TestJurorsAreAtAnyCluster: an agent is told of a panel in which it sits by the server that
// it is connected to, with what it has to run, whoever's order it is; its vote is listed
// sealed, and it is asked for the vote itself once all are to show theirs.
func TestJurorsAreAtAnyCluster(t *testing.T) {
	asked := make(chan job.Judge, 16)
	order, juror, here := elsewhere(t, nil, func(m job.Judge) job.Message {
		asked <- m
		if m.Open {
			return openingOf(0, m, found)
		}
		return ballotOf(0, m, found)
	})
	m := <-asked
	if m.Order != order || m.Panel != (crypto.Digest{7}) || m.Assignment == nil || m.Assignment.Order.ID() != order || m.Open {
		t.Fatalf("asked to judge %+v", m)
	}
	id := blob.Sum([]byte(program))
	if status, body := here.do(0, http.MethodGet, "/v1/blobs/"+id.String(), nil, nil); status != http.StatusOK || string(body) != program {
		t.Errorf("the program is not here: %d", status)
	}
	if !here.servers[0].Lends(id) {
		t.Error("the program is not kept for those who ask for it")
	}
	var list []chain.Msg
	until(t, "a sealed vote", func() bool { list = here.votes(0); return len(list) > 0 })
	commit, ok := list[0].(chain.CommitVote)
	if !ok || len(list) != 1 || commit.Node != juror || commit.Commitment != found.Commitment(m.Panel, juror, voteSalt) {
		t.Fatalf("listed: %+v", list)
	}
	here.chain.set(func() {
		here.chain.sitting.Seats = []server.Seat{{Node: juror, Commitment: commit.Commitment}, {Node: key(agentKeys + 1).Public()}}
	})
	until(t, "nothing to post", func() bool { return len(here.votes(0)) == 0 })
	here.chain.set(func() { here.chain.sitting.Reveals = true })
	until(t, "the vote itself", func() bool { list = here.votes(0); return len(list) > 0 })
	if reveal, ok := list[0].(chain.RevealVote); !ok || reveal.Testimony != found || reveal.Node != juror {
		t.Fatalf("listed: %+v", list)
	}
	here.chain.set(func() { here.chain.sitting.Decided = true })
	until(t, "nothing to post", func() bool { return len(here.votes(0)) == 0 && !here.servers[0].Hears(m.Panel) })
}

// TestAServerThatBegan asks those who are bound for their votes, though it has heard of none:
// it was another, or itself before it began, that brought what they are bound to.
func TestAServerThatBegan(t *testing.T) {
	_, juror, here := elsewhere(t, nil, func(m job.Judge) job.Message {
		if m.Open {
			return openingOf(0, m, found)
		}
		return ballotOf(0, m, found)
	})
	here.chain.set(func() {
		here.chain.sitting.Reveals = true
		here.chain.sitting.Seats = []server.Seat{{Node: juror, Commitment: found.Commitment(crypto.Digest{7}, juror, voteSalt)}}
	})
	here.stop(0)
	here.start(0)
	var list []chain.Msg
	until(t, "the vote itself", func() bool { list = here.votes(0); return len(list) > 0 })
	if reveal, ok := list[0].(chain.RevealVote); !ok || reveal.Testimony != found || reveal.Node != juror {
		t.Fatalf("listed: %+v", list)
	}
}

// TestVotesOfOthers: what an agent says in the name of another, or does not sign, is not
// listed.
func TestVotesOfOthers(t *testing.T) {
	said := make(chan struct{}, 64)
	spoiled := 0
	_, _, here := elsewhere(t, nil, func(m job.Judge) job.Message {
		b := ballotOf(0, m, chain.Testimony{Finding: chain.FoundUnstable})
		switch spoiled++; spoiled {
		case 1:
			b.Commitment[0] ^= 1
		case 2:
			b = ballotOf(1, m, found)
		}
		said <- struct{}{}
		return b
	})
	<-said
	<-said
	if list := here.votes(0); len(list) != 0 {
		t.Errorf("listed: %+v", list)
	}
	<-said
	until(t, "the vote that is the agent's", func() bool { return len(here.votes(0)) == 1 })
}

// without is an agent that is to be told that what is judged cannot be had, and nothing else.
func without(t *testing.T) (judge func(m job.Judge) job.Message, told chan struct{}) {
	told = make(chan struct{}, 64)
	return func(m job.Judge) job.Message {
		if m.Assignment != nil {
			t.Errorf("asked to judge %+v", m)
		}
		told <- struct{}{}
		return nil
	}, told
}

// TestMatterIsChecked: agents are not given an order that is another than the chain names:
// neither program nor order is believed on a cluster's word.
func TestMatterIsChecked(t *testing.T) {
	judge, told := without(t)
	_, _, here := elsewhere(t, func(on *fakeChain) { on.matter.Spec[0]++ }, judge)
	<-told
	if list := here.votes(0); len(list) != 0 || !here.servers[0].Refused(crypto.Digest{7}) {
		t.Errorf("listed: %+v", list)
	}
}

// TestAMatterThatIsNoneIsNotSent: agents end the session of a server that sends them what does
// not fit together; a server that was given it does not send it on.
func TestAMatterThatIsNoneIsNotSent(t *testing.T) {
	spec := testSpec(program)
	spec.Resources.GPUs, spec.Resources.GPUMilli = 1, 1_000 // and nobody gives jurors any
	judge, told := without(t)
	elsewhereOf(t, spec, nil, judge)
	<-told
}

// TestEndpointsOfOthersAreOutside: a server asks nothing on its own machine or network because
// somebody has registered it as an endpoint, unless it is told that its network is for tests;
// and it goes nowhere that an endpoint sends it.
func TestEndpointsOfOthersAreOutside(t *testing.T) {
	judge, told := without(t)
	_, _, here := elsewhereWith(t, testSpec(program), nil, judge, false)
	<-told
	if here.servers[0].Lends(blob.Sum([]byte(program))) {
		t.Error("the program is here")
	}
	var asked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer inside.Close()
	sends := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
	defer sends.Close()
	for _, local := range []bool{false, true} {
		answer, err := server.OutwardClient(local).Get(sends.URL)
		if err == nil {
			t.Errorf("got %s: %v", answer.Status, answer.Body.Close())
		}
		if asked.Load() != 0 {
			t.Errorf("local %v: an endpoint sent this server elsewhere", local)
		}
	}
}

// TestOwnFaultsAreNoOthers: a cluster that gives no answer lacks what its panel judges only if
// somebody else answers: a server whose way out is closed says nothing of anybody.
func TestOwnFaultsAreNoOthers(t *testing.T) {
	neighbour := key(clusterKey + 1).Public()
	status := api.NexusStatus{ChainID: testChain, Cluster: neighbour}
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(&status); err != nil {
			t.Error(err)
		}
	}))
	defer alive.Close()
	gone := httptest.NewServer(http.NotFoundHandler()) // which is no server of ours
	defer gone.Close()
	told, panel := make(chan struct{}, 64), crypto.Digest{7}
	_, _, here := elsewhere(t, func(on *fakeChain) {
		on.matter.Endpoints = []string{gone.URL}
		on.neighbour, on.endpoints = neighbour, []string{gone.URL}
	}, func(m job.Judge) job.Message {
		told <- struct{}{}
		return nil
	})
	until(t, "a fetch that fails", func() bool { return here.servers[0].Refused(panel) })
	if here.servers[0].Lacks(panel) || len(told) != 0 {
		t.Error("a cluster is held to lack what it was not asked for")
	}
	here.chain.set(func() { here.chain.endpoints = []string{alive.URL} })
	<-told
	if !here.servers[0].Lacks(panel) {
		t.Error("a juror is told what its server does not know")
	}
}

// TestWhatIsJudgedIsKept until its panel is over, however long that takes, and fetched again if it
// is lost.
func TestWhatIsJudgedIsKept(t *testing.T) {
	asked := make(chan job.Judge, 64)
	_, _, here := elsewhere(t, nil, func(m job.Judge) job.Message {
		asked <- m
		return nil
	})
	for m := <-asked; m.Assignment == nil; m = <-asked {
		t.Logf("asked to judge %+v", m)
	}
	s, id := here.servers[0], blob.Sum([]byte(program))
	if !s.Keeps(id) {
		t.Error("what is judged is not kept")
	}
	if err := s.LoseBlob(id); err != nil {
		t.Fatal(err)
	}
	until(t, "the program again", func() bool {
		status, body := here.do(0, http.MethodGet, "/v1/blobs/"+id.String(), nil, nil)
		return status == http.StatusOK && string(body) == program
	})
	here.chain.set(func() { here.chain.sitting.Decided = true })
	until(t, "the end of the panel", func() bool { return !s.Hears(crypto.Digest{7}) })
	if s.Keeps(id) {
		t.Error("what was judged is kept for ever")
	}
}

// TestBallotsAreGivenAgain: a server that was away for too long to hear of a panel learns of it from
// its juror, and asks the chain once about those that are none.
func TestBallotsAreGivenAgain(t *testing.T) {
	order, juror := crypto.Digest{5}, key(agentKeys).Public()
	on := newFakeChain()
	on.panel, on.untold = settlement.PanelOf(order, false), true
	on.sitting = server.Sitting{Order: order, Seats: []server.Seat{{Node: juror}, {Node: key(agentKeys + 1).Public()}}}
	on.matter = server.Matter{Endpoints: []string{"http://127.0.0.1:1"}}
	here := newClusterOn(t, on, 1, nil, nil)
	agent := here.agent(0, func(a *fakeAgent) { a.judge = func(job.Judge) job.Message { return nil } })
	m := job.Judge{Panel: on.panel, Order: order}
	until(t, "a sealed vote", func() bool { // its session may begin anew
		agent.broadcast(ballotOf(0, m, found))
		return len(here.votes(0)) > 0
	})
	commit, ok := here.votes(0)[0].(chain.CommitVote)
	if !ok || commit.Panel != on.panel || commit.Commitment != found.Commitment(m.Panel, juror, voteSalt) {
		t.Fatalf("listed: %+v", commit)
	}
	misnamed := ballotOf(0, job.Judge{Panel: crypto.Digest{8}, Order: order}, found)
	agent.broadcast(misnamed) // no panel about that order is named so
	name := func(n byte) job.Judge {
		return job.Judge{Panel: settlement.PanelOf(crypto.Digest{n, 1}, false), Order: crypto.Digest{n, 1}}
	}
	const others = 20
	var again time.Time
	until(t, "an end of what the chain does not have", func() bool {
		var lost []byte // neither looked after nor heard of
		done := true
		here.chain.set(func() {
			for n := range byte(others) {
				looked, heard := here.chain.looked[name(n).Panel] > 0, here.servers[0].Hears(name(n).Panel)
				if done = done && looked && !heard; !looked && !heard {
					lost = append(lost, n)
				}
			}
		})
		if len(lost) > 0 && time.Now().After(again) { // its session may begin anew, and takes so many ballots and no more
			again = time.Now().Add(10 * time.Second)
			for _, n := range lost {
				agent.broadcast(ballotOf(0, name(n), found))
			}
		}
		return done
	})
	if here.servers[0].Hears(misnamed.Panel) || len(here.votes(0)) != 1 {
		t.Errorf("listed: %+v", here.votes(0))
	}
}

// TestPanelsOfOthersAreForgotten: panels whose jurors are elsewhere take no place from those
// that come.
func TestPanelsOfOthersAreForgotten(t *testing.T) {
	c := newCluster(t, 1)
	name := func(n int) crypto.Digest { return crypto.Digest{byte(n >> 8), byte(n), 1} }
	for n := range server.MaxPanels + 10 {
		c.servers[0].Drawn(name(n), key(agentKeys).Public())
	}
	if last := server.MaxPanels + 9; !c.servers[0].Hears(name(last)) || c.servers[0].Hears(name(0)) {
		t.Error("a panel that was just drawn is not heard of, or the oldest is")
	}
}
