package server_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// challengedChain challenges agent 0; agents 1 to 3 measure it.
func challengedChain() *fakeChain {
	on := newFakeChain()
	on.challenged = key(agentKeys).Public()
	h := settlement.Hardware{Seed: crypto.Digest{4}, Lanes: 8, MemoryMiB: 64, Since: chain.TimeMs(1), Due: 1 << 40}
	for n := range 3 {
		h.Peers = append(h.Peers, key(agentKeys+1+n).Public())
	}
	on.hardware = server.Challenge{Open: true, Hardware: h}
	return on
}

func challengeOf(on *fakeChain) chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: testChain, Node: on.challenged, Seed: on.hardware.Hardware.Seed}
}

// verdictOf is what agent n says is missing.
func verdictOf(on *fakeChain, n int, missing uint64) job.Measured {
	k := key(agentKeys + n)
	m := job.Measured{Challenge: challengeOf(on), Verdict: chain.HardwareVerdict{Peer: k.Public(), Missing: missing, Silent: missing == 0}}
	m.Verdict.Signature = k.Sign(crypto.DomainHardware, chain.HardwarePayload(m.Challenge, m.Verdict))
	return m
}

// measures is a peer that asks for what the node has shown, and says that some of it is missing.
func measures(on *fakeChain, n int, missing uint64) func(a *fakeAgent) {
	return func(a *fakeAgent) {
		a.measure = func(m job.Message) job.Message {
			switch m := m.(type) {
			case job.LanesShown:
				return job.LaneQuestion{Challenge: m.Challenge, Peer: a.key.Public(), Nonce: crypto.Digest{byte(n)}}
			case job.LaneOpened:
				if m.Nonce != (crypto.Digest{byte(n)}) || m.Peer != a.key.Public() {
					a.c.t.Errorf("peer %d got what was opened for %s", n, m.Peer.Short())
				}
				return verdictOf(on, n, missing)
			}
			return nil
		}
	}
}

// TestHardwareIsMeasured: the node and its peers are told of a challenge by the server that they
// are connected to, it carries what they say, and lists what a quorum of the peers miss until the
// chain has it.
func TestHardwareIsMeasured(t *testing.T) {
	on := challengedChain()
	c := newClusterOn(t, on, 1, nil, nil)
	told := make(chan job.Measure, 64)
	c.agent(0, func(a *fakeAgent) {
		a.measure = func(m job.Message) job.Message {
			if m, ok := m.(job.Measure); ok {
				told <- m
				return job.LanesShown{Challenge: m.Challenge, HeldMiB: m.HeldMiB, Roots: make(job.LaneRoots, 8)}
			}
			if m, ok := m.(job.LaneQuestion); ok {
				return job.LaneOpened{Challenge: m.Challenge, Peer: m.Peer, Nonce: m.Nonce, Opening: hardware.Opening{Seen: []byte{1}}}
			}
			t.Errorf("the challenged node got a %T", m)
			return nil
		}
	})
	c.agent(1, measures(on, 1, 3))
	if m := <-told; m.Challenge != challengeOf(on) || !m.Here {
		t.Errorf("told of %+v", m)
	}
	second := c.agent(2, measures(on, 2, 5))
	var list []chain.Msg
	until(t, "a report of two", func() bool {
		list = c.votes(0)
		return len(list) > 0
	})
	report, ok := list[0].(chain.ReportHardware)
	if !ok || len(list) != 1 || len(report.Verdicts) != 2 || report.Challenge != challengeOf(on) {
		t.Fatalf("listed %+v", list)
	}
	c.servers[0].ListSingly(on.challenged)
	if list = c.votes(0); len(list) != 2 {
		t.Errorf("after a while %d messages are listed, want each word", len(list))
	}
	on.set(func() {
		on.hardware.Hardware.Words = []settlement.Word{{Peer: key(agentKeys + 1).Public(), Missing: 3}, {Peer: second.key.Public(), Missing: 4}}
	})
	until(t, "the rest", func() bool {
		list = c.votes(0)
		if len(list) != 1 {
			return false
		}
		report, ok = list[0].(chain.ReportHardware)
		return ok && len(report.Verdicts) == 1 && report.Verdicts[0].Peer == second.key.Public()
	})
	on.set(func() { on.hardware.Hardware.Words[1].Silent = true })
	until(t, "nothing to post", func() bool { return len(c.votes(0)) == 0 })
	on.set(func() { on.hardware = server.Challenge{Height: 9} })
	until(t, "the end", func() bool { return !c.servers[0].HearsChallenge(on.challenged) })
}

// TestWordsThatAreNotListed: of one peer alone, of one that is none, unsigned, of another challenge, of
// more lanes than there are, or of nothing; and a session that speaks for another ends.
func TestWordsThatAreNotListed(t *testing.T) {
	on := challengedChain()
	c := newClusterOn(t, on, 1, nil, nil)
	heard := make(chan struct{}, 64)
	peer := func(n int) *fakeAgent {
		return c.agent(n, func(a *fakeAgent) {
			a.measure = func(m job.Message) job.Message {
				if _, ok := m.(job.Measure); ok {
					heard <- struct{}{}
				}
				return nil
			}
		})
	}
	first, second, third, stranger := peer(1), peer(2), peer(3), peer(5)
	for range 3 {
		<-heard
	}
	unsigned := verdictOf(on, 2, 3)
	unsigned.Verdict.Missing++
	other := verdictOf(on, 2, 3)
	other.Challenge.Seed[7]++
	second.broadcast(unsigned)
	second.broadcast(other)
	second.broadcast(verdictOf(on, 2, 9)) // of eight
	stranger.broadcast(verdictOf(on, 5, 3))
	first.broadcast(verdictOf(on, 1, 3))
	third.broadcast(verdictOf(on, 2, 3)) // of another: its session ends
	until(t, "a new session", func() bool {
		select {
		case <-heard:
			return true
		default:
			return false
		}
	})
	if list := c.votes(0); len(list) != 0 {
		t.Errorf("listed %+v", list)
	}
	until(t, "a report", func() bool { // sessions may begin anew
		third.broadcast(verdictOf(on, 3, 0))
		return len(c.votes(0)) == 1
	})
	report := c.votes(0)[0].(chain.ReportHardware)
	peers := []crypto.PublicKey{report.Verdicts[0].Peer, report.Verdicts[1].Peer}
	if !slices.Contains(peers, first.key.Public()) || !slices.Contains(peers, third.key.Public()) {
		t.Errorf("reported by %v", peers)
	}
}

// TestWhatIsNotCarried: questions of those who are no peers, what nobody has asked to be opened, and
// more than an agent may say.
func TestWhatIsNotCarried(t *testing.T) {
	on := challengedChain()
	c := newClusterOn(t, on, 1, nil, nil)
	var questions, opened atomic.Int64
	ready := make(chan struct{}, 64)
	node := c.agent(0, func(a *fakeAgent) {
		a.measure = func(m job.Message) job.Message {
			if q, ok := m.(job.LaneQuestion); ok {
				questions.Add(1)
				if q.Peer != key(agentKeys+1).Public() {
					t.Errorf("a question of %s was carried", q.Peer.Short())
				}
			}
			ready <- struct{}{}
			return nil
		}
	})
	peer := c.agent(1, func(a *fakeAgent) {
		a.measure = func(m job.Message) job.Message {
			if o, ok := m.(job.LaneOpened); ok {
				opened.Add(1)
				if o.Peer != key(agentKeys+1).Public() {
					t.Error("what another asked for was carried")
				}
			}
			return nil
		}
	})
	c.agent(2, func(a *fakeAgent) { // who asks nothing
		a.measure = func(m job.Message) job.Message {
			if _, ok := m.(job.LaneOpened); ok {
				t.Error("what nobody asked for was carried")
			}
			return nil
		}
	})
	stranger := c.agent(5, nil)
	<-ready
	ask := func(a *fakeAgent) job.LaneQuestion {
		return job.LaneQuestion{Challenge: challengeOf(on), Peer: a.key.Public(), Nonce: crypto.Digest{1}}
	}
	open := job.LaneOpened{Challenge: challengeOf(on), Peer: peer.key.Public(), Nonce: crypto.Digest{1}, Opening: hardware.Opening{Seen: []byte{1}}}
	unasked := open
	unasked.Peer = key(agentKeys + 2).Public()
	for range 10 {
		stranger.broadcast(ask(stranger))
		node.broadcast(unasked)
	}
	until(t, "a question", func() bool {
		peer.broadcast(ask(peer))
		return questions.Load() > 0
	})
	for range 2_000 {
		node.broadcast(open)
	}
	until(t, "an opening", func() bool { return opened.Load() > 0 })
	if n := opened.Load(); n > 4*hardware.MaxOpenings {
		t.Errorf("%d openings were carried", n)
	}
}

// TestChallengesOfOthersAreForgotten: challenges in which nobody here has a part take no place from
// those that come.
func TestChallengesOfOthersAreForgotten(t *testing.T) {
	c := newCluster(t, 1)
	for n := range server.MaxChallenges + 10 {
		c.servers[0].Challenged(key(5_000+n).Public(), key(agentKeys+9).Public())
	}
	if last := key(5_000 + server.MaxChallenges + 9).Public(); !c.servers[0].HearsChallenge(last) || c.servers[0].HearsChallenge(key(5_000).Public()) {
		t.Error("a challenge that was just drawn is not heard of, or the oldest is")
	}
}

// TestACutNodeIsGivenNoMore: what is left of a node's hardware on the chain counts as soon as a
// challenge of it has ended, though it offers what it did.
func TestACutNodeIsGivenNoMore(t *testing.T) {
	on := challengedChain()
	c := newClusterOn(t, on, 1, nil, nil)
	c.agent(0, func(a *fakeAgent) { a.measure = func(job.Message) job.Message { return nil } })
	c.waitNodes(0, 1)
	until(t, "the challenge", func() bool { return c.servers[0].HearsChallenge(on.challenged) })
	c.waitJob(0, c.submit(0, chain.PolicyNone{}), job.Settling)
	on.set(func() {
		on.records[on.challenged] = &scheduler.Capacity{Millicores: 500, MemoryMiB: 4_096}
		on.hardware = server.Challenge{Height: 9}
	})
	node := func() *scheduler.Capacity { return c.servers[0].RecordOf(on.challenged) }
	until(t, "the cut", func() bool { return node() != nil })
	if cut := node(); *cut != (scheduler.Capacity{Millicores: 500, MemoryMiB: 4_096}) {
		t.Errorf("the cluster knows %+v of the node", cut)
	}
	id := c.submit(0, chain.PolicyNone{})
	if j := c.waitJob(0, id, job.Queued); !strings.Contains(j.Reason, "1 less hardware on the chain than it offers") {
		t.Errorf("the job waits because %q", j.Reason)
	}
}

// TestAnOfferBeyondTheRecordIsHeldAgainstANewOne: what the chain has of a node may have grown since it was asked.
func TestAnOfferBeyondTheRecordIsHeldAgainstANewOne(t *testing.T) {
	c := newCluster(t, 1)
	node := key(agentKeys).Public()
	less, all := &scheduler.Capacity{Millicores: 500, MemoryMiB: 4_096}, &scheduler.Capacity{Millicores: 4_000, MemoryMiB: 4_096}
	c.chain.set(func() { c.chain.records[node] = less })
	a := c.agent(0, nil)
	c.waitNodes(0, 1)
	until(t, "the record", func() bool { r := c.servers[0].RecordOf(node); return r != nil && *r == *less })
	c.chain.set(func() { c.chain.records[node] = all })
	accepting := true
	until(t, "the record as it is now", func() bool {
		accepting = !accepting
		h := a.hello()
		h.Accepting = accepting
		a.broadcast(h)
		r := c.servers[0].RecordOf(node)
		return r != nil && *r == *all
	})
}

// TestWhatOthersLeaseIsNotThere: what leases of other clusters keep of a node no challenge measures, and it is not given to orders here. What
// leases of this one keep is counted once.
func TestWhatOthersLeaseIsNotThere(t *testing.T) {
	w := &resizeWorld{cluster: newCluster(t, 1), spec: testSpec(program)}
	w.node = key(agentKeys).Public()
	record := func(leased settlement.Leased) {
		w.chain.set(func() {
			w.chain.records[w.node] = &scheduler.Capacity{Millicores: 4_000, MemoryMiB: 4_096}
			w.chain.leased = map[crypto.PublicKey]settlement.Leased{w.node: leased}
		})
	}
	knows := func(want scheduler.Capacity) {
		t.Helper()
		until(t, "what is left of the node", func() bool {
			w.servers[0].Measured(w.node) // so that the chain is asked
			r := w.servers[0].RecordOf(w.node)
			return r != nil && *r == want
		})
	}
	record(settlement.Leased{Millicores: 3_500, MemoryMiB: 96})
	w.agent(0, func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	})
	knows(scheduler.Capacity{Millicores: 500, MemoryMiB: 4_000})
	record(settlement.Leased{})
	knows(scheduler.Capacity{Millicores: 4_000, MemoryMiB: 4_096})
	w.upload(0, blob.Sum([]byte(program)), program)
	w.spec.Work = job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte(program))}}
	own := w.spec.Resources
	request, id := w.order(crypto.Digest{}, own.Millicores)
	if status, body := w.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	w.waitJob(0, id, job.Running)
	record(settlement.Leased{Millicores: own.Millicores + 100, MemoryMiB: own.MemoryMiB}) // of others: the award here is not opened
	knows(scheduler.Capacity{Millicores: 3_900 - own.Millicores, MemoryMiB: 4_096 - own.MemoryMiB})
	w.opened(id) // and that is what they were; nobody measures the node
	found := func(want scheduler.Capacity) {
		t.Helper()
		until(t, "what the survey finds", func() bool { r := w.servers[0].RecordOf(w.node); return r != nil && *r == want })
	}
	found(scheduler.Capacity{Millicores: 3_900, MemoryMiB: 4_096})
	record(settlement.Leased{Millicores: own.Millicores + 300, MemoryMiB: own.MemoryMiB})
	w.servers[0].Leased(w.node)
	found(scheduler.Capacity{Millicores: 3_700, MemoryMiB: 4_096})
}
