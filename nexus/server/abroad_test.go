package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// probed is a cluster with a lease on its node, and another cluster with an agent that the chain has
// drawn to probe it, beside two that are nowhere.
type probed struct {
	home, away *cluster
	id         chain.LeaseID
	node, peer crypto.PrivateKey
	agent      *fakeAgent // the peer's

	mu     sync.Mutex
	mute   bool // the node answers no probe
	watch  job.Watch
	reply  *job.ProbeReply
	silent *job.Unanswered
	probes map[crypto.Digest]int // that the node got, by nonce
}

// set has what agents do change between two messages.
func (p *probed) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *probed) is(what func() bool) func() bool {
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return what()
	}
}

// serve is the lease's node.
func (p *probed) serve(m job.Message) job.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	ask, ok := m.(job.Probe)
	if !ok || p.mute {
		return nil
	}
	if p.probes != nil {
		p.probes[ask.Nonce]++
	}
	r := job.ProbeReply{Lease: ask.Lease, Peer: ask.Peer, Nonce: ask.Nonce, Serving: true, Data: []byte{}}
	r.Signature = p.node.Sign(crypto.DomainProbe, r.Payload(testChain))
	return r
}

// hear is the peer.
func (p *probed) hear(m job.Message) job.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m := m.(type) {
	case job.Watch:
		p.watch = m
	case job.ProbeReply:
		p.reply = &m
	case job.Unanswered:
		p.silent = &m
	}
	return nil
}

// ask is a probe of the peer's.
func (p *probed) ask(nonce byte) job.Probe {
	m := job.Probe{Lease: p.id, Peer: p.peer.Public(), Nonce: crypto.Digest{nonce}}
	m.Signature = p.peer.Sign(crypto.DomainProbe, m.Payload(testChain))
	return m
}

func newProbed(t *testing.T) *probed {
	t.Helper()
	p := &probed{home: newCluster(t, 1), node: key(agentKeys + 5), peer: key(agentKeys)}
	p.home.waitLeader()
	p.home.agent(5, func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
		a.probe = p.serve
	})
	p.home.waitNodes(0, 1)
	p.home.upload(0, blob.Sum([]byte(program)), program)
	spec := testSpec(program)
	spec.Work = job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte(program))}}
	order := testOrder(chain.PolicyNone{})
	terms := chain.ServiceTerms{EpochMs: 80_000, AvailabilityBps: 9_000, RebateBps: 1}
	order.Term = &chain.Term{Resources: job.Kept(&spec), NoticeMs: 1_000, Service: &terms}
	order.Caps, order.MaxCost = order.Caps[:2], chain.Hyper(20)
	request, id := signedJob(t, order, spec)
	p.id = chain.LeaseID{Node: p.node.Public(), Order: id}
	now := chain.TimeMs(time.Now().UnixMilli())
	seen := server.Service{
		At: now, Live: true,
		Lease: settlement.Lease{
			Order: id, Since: now - 100_000, Expires: now + 3_600_000, Cluster: key(clusterKey + 1).Public(), Consumer: address(ownerKeys + 9), Promised: true,
		},
		Service: settlement.Service{Node: p.id.Node, Terms: terms, Peers: []crypto.PublicKey{p.peer.Public(), {8}, {9}}},
	}
	p.home.chain.set(func() {
		p.home.chain.leases = map[crypto.Digest]server.Lease{id: {Live: true, Opened: true}}
		p.home.chain.services = map[crypto.Digest]server.Service{id: seen}
	})
	if status, body := p.home.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("submitting: %d %s", status, body)
	}
	on := newFakeChain()
	on.probed, on.peers = p.id, seen.Service.Peers
	on.services = map[crypto.Digest]server.Service{id: seen}
	on.neighbour, on.endpoints = seen.Lease.Cluster, []string{p.home.url(0)}
	p.away = newClusterOn(t, on, 1, func(c *server.Config) { c.LocalPeers = true }, nil)
	p.agent = p.away.agent(0, func(a *fakeAgent) { a.probe = p.hear })
	until(t, "the peer of another cluster is told", p.is(func() bool { return p.watch.Lease == p.id }))
	if !p.watch.Abroad || p.watch.Until != seen.Lease.Expires || p.watch.Service != terms {
		t.Fatalf("told %+v", p.watch)
	}
	return p
}

// TestPeersAreAtAnyCluster: a peer that is connected to another cluster is told of the lease by its own
// servers, and its probes go to the lease's node, and the answers back; that the node gives none it hears from
// the lease's cluster alone.
func TestPeersAreAtAnyCluster(t *testing.T) {
	p := newProbed(t)
	nonce := byte(0)
	probe := func(what string, answered func() bool) {
		t.Helper()
		until(t, what, func() bool {
			nonce++
			p.agent.broadcast(p.ask(nonce)) // a lost one says nothing
			ticker := time.NewTicker(300 * time.Millisecond)
			defer ticker.Stop()
			<-ticker.C
			return p.is(answered)()
		})
	}
	probe("the node's answer", func() bool { return p.reply != nil })
	if r := p.reply; !r.Serving || !p.id.Node.Verify(crypto.DomainProbe, r.Payload(testChain), r.Signature) {
		t.Errorf("answered %+v", r)
	}
	p.set(func() { p.mute = true })
	probe("word that the node gives no answer", func() bool { return p.silent != nil })
	if p.silent.Lease != p.id {
		t.Errorf("told %+v", p.silent)
	}
	epoch := chain.ServiceEpoch{ChainID: testChain, Lease: p.id, Terms: p.id.Order, Epoch: 0}
	r := chain.ServiceReport{Peer: p.peer.Public(), Sent: 10}
	r.Signature = p.peer.Sign(crypto.DomainService, chain.ServicePayload(epoch, r))
	until(t, "the report is at the lease's cluster", func() bool {
		p.agent.broadcast(job.PeerReport{Epoch: epoch, Report: r})
		return p.home.servers[0].Reported(&epoch, p.peer.Public())
	})
}

// TestProbesOfOthersAreRefused by name: a cluster carries what a peer has signed, and what is heard.
func TestProbesOfOthersAreRefused(t *testing.T) {
	p := newProbed(t)
	carry := func(m job.Message) (int, string) {
		status, body := p.home.post(0, "/v1/peers", api.PeerMessage{Message: job.EncodeMessage(m)})
		return status, string(body)
	}
	refused := func(what string, status int, m job.Message) {
		t.Helper()
		got, body := carry(m)
		if got != status || !strings.Contains(body, what) {
			t.Errorf("%d %s, want %d and %q", got, body, status, what)
		}
	}
	until(t, "a probe is answered", func() bool { status, _ := carry(p.ask(1)); return status == http.StatusOK })
	forged := p.ask(2)
	forged.Signature[3] ^= 1
	refused("not signed by its peer", http.StatusUnprocessableEntity, forged)
	stranger := p.ask(3)
	stranger.Peer = key(agentKeys + 3).Public()
	stranger.Signature = key(agentKeys+3).Sign(crypto.DomainProbe, stranger.Payload(testChain))
	refused("which the peer probes", http.StatusNotFound, stranger)
	elsewhere := p.ask(4)
	elsewhere.Lease.Order[0]++
	refused("which the peer probes", http.StatusNotFound, elsewhere)
	epoch := chain.ServiceEpoch{ChainID: testChain, Lease: p.id, Terms: p.id.Order, Epoch: 1 << 20}
	refused("nothing is heard of that epoch", http.StatusNotFound, job.PeerReport{Epoch: epoch, Report: chain.ServiceReport{Peer: p.peer.Public(), Sent: 10}})
	refused("want a probe, a report, or", http.StatusUnprocessableEntity, p.watch)
	status, body := p.home.post(0, "/v1/peers", api.PeerMessage{Message: []byte("x")})
	if status != http.StatusUnprocessableEntity || !strings.Contains(string(body), "body.message") {
		t.Errorf("%d %s", status, body)
	}
}

// TestAProbeIsCarriedOnce: whoever repeats what a peer has signed does not have the node answer again and again,
// until it has no word left for others.
func TestAProbeIsCarriedOnce(t *testing.T) {
	p := newProbed(t)
	carry := func(m job.Probe) int {
		status, _ := p.home.post(0, "/v1/peers", api.PeerMessage{Message: job.EncodeMessage(m)})
		return status
	}
	until(t, "a probe is answered", func() bool { return carry(p.ask(1)) == http.StatusOK || carry(p.ask(2)) == http.StatusOK })
	p.set(func() { p.probes = map[crypto.Digest]int{} })
	nonce := byte(2)
	until(t, "another", func() bool { nonce++; return carry(p.ask(nonce)) == http.StatusOK })
	for range 100 {
		if status := carry(p.ask(nonce)); status != http.StatusServiceUnavailable {
			t.Fatalf("a probe that was answered is carried again: %d", status)
		}
	}
	p.set(func() {
		if n := p.probes[crypto.Digest{nonce}]; n != 1 {
			t.Errorf("the node was asked %d times", n)
		}
	})
}
