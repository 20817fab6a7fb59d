package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestWhoHasNoBondFreeGetsNoOrder: a node that has less free of its bond than an order stakes is given none, however low
// it bids: the order could not begin.
func TestWhoHasNoBondFreeGetsNoOrder(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.bonds = map[crypto.PublicKey]chain.Amount{key(agentKeys).Public(): chain.Nano(chain.Hyper(1).Nano() - 1), key(agentKeys + 1).Public(): chain.Hyper(1)}
	c.chain.mu.Unlock()
	for n := range 3 {
		c.agent(n, nil)
	}
	c.waitNodes(0, 3)
	id := c.submit(0, chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(1), WindowMs: 60_000})
	var j api.Job
	until(t, "a node has the job", func() bool {
		j = get[api.Job](c, 0, "/v1/jobs/"+id.String())
		return len(j.Runs) > 0
	})
	if lowest := key(agentKeys).Public(); j.Runs[0].Node == lowest {
		t.Errorf("who bids lowest runs it, and has too little of its bond free: %s", lowest.Short())
	}
}

// TestAClaimOnItsWayHoldsItsNodesBond: a node whose bond is enough for one order under optimistic is given the next only when the
// chain has the claim of the first, and what the chain says of the node is of a state that has it.
func TestAClaimOnItsWayHoldsItsNodesBond(t *testing.T) {
	c := newCluster(t, 1)
	node := key(agentKeys).Public()
	c.chain.set(func() {
		c.chain.bonds = map[crypto.PublicKey]chain.Amount{node: chain.Hyper(40)}
		c.chain.hardware.Height = 3
	})
	a := c.agent(0, nil)
	c.waitNodes(0, 1)
	policy := chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(40)}
	first := c.submit(0, policy)
	c.waitJob(0, first, job.Settling)
	var more []crypto.Digest
	waits := func(why string) {
		t.Helper()
		id := c.submit(0, policy) // whose first auction is decided by what is known now
		more = append(more, id)
		until(t, "an order more is not given out "+why, func() bool {
			return strings.HasPrefix(get[api.Job](c, 0, "/v1/jobs/"+id.String()).Reason, "no bid counted")
		})
	}
	ran := func() (n int) {
		for _, id := range more {
			n += a.ran(id)
		}
		return n
	}
	waits("while nothing is known of the claim")
	c.chain.set(func() { c.chain.outcomes[first] = server.Outcome{Waits: 5} })
	waits("while what is known of the node is of block 3")
	c.stop(0)
	c.start(0)
	c.waitLeader()
	c.waitNodes(0, 1)
	waits("whoever leads")
	if n := ran(); n > 0 {
		t.Fatalf("%d were given out though the node's bond is promised", n)
	}
	c.chain.set(func() { c.chain.hardware.Height = 5 })
	until(t, "one of them runs", func() bool { return ran() > 0 })
}

// TestConsumersAreToldWhatHasBegun: a replicated job says that the chain holds what it may cost, as soon as the cluster counts it as outstanding no more.
func TestConsumersAreToldWhatHasBegun(t *testing.T) {
	c := newCluster(t, 1)
	agents := []*fakeAgent{c.agent(0, nil), c.agent(1, nil)}
	c.waitNodes(0, 2)
	id := c.submit(0, chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(1), WindowMs: 60_000})
	until(t, "one of them runs it, and is bound", func() bool {
		for _, a := range agents {
			if a.ran(id) > 0 {
				payload := chain.RunPayload(testChain, id, crypto.Digest{1}, 0)
				a.broadcast(job.Pledge{Order: id, Commitment: crypto.Digest{1}, Signature: a.key.Sign(crypto.DomainRun, payload)})
			}
		}
		return get[api.Job](c, 0, "/v1/jobs/"+id.String()).Status == job.Settling
	})
	j := get[api.Job](c, 0, "/v1/jobs/"+id.String())
	if j.Begun {
		t.Fatal("it is said to have begun before the chain says so")
	}
	c.chain.set(func() {
		begun := scheduler.Replication{Begun: true, Height: 7, Replicas: []scheduler.Replica{{Node: j.Runs[0].Node, State: scheduler.ReplicaCommitted}}}
		c.chain.runs = map[crypto.Digest]scheduler.Replication{id: begun}
	})
	until(t, "it has begun", func() bool { return get[api.Job](c, 0, "/v1/jobs/"+id.String()).Begun })
}

// TestAConsumerWithANodeLeavesAPartOfTheBond: whatever a node's bids, and however many consumers order, an owner's nodes get no more of the
// cluster's bond for what they do not stake themselves than is left for others' nodes. Where nobody else bids, who has its share checks what
// the others begin: no order waits for want of an owner.
func TestAConsumerWithANodeLeavesAPartOfTheBond(t *testing.T) {
	for name, agents := range map[string]int{"three owners": 3, "two alone": 2} {
		t.Run(name, func(t *testing.T) { leavesAPart(t, agents) })
	}
}

func leavesAPart(t *testing.T, agents int) {
	c := newCluster(t, 1)
	c.chain.set(func() {
		c.chain.escrow = chain.Hyper(1_000)
		c.chain.locked = chain.Hyper(900)
	})
	hang := func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	}
	var bidders []*fakeAgent // the first bids the least
	for n := range agents {
		bidders = append(bidders, c.agent(n, hang))
	}
	c.waitNodes(0, agents)
	c.upload(0, blob.Sum([]byte(program)), program)
	spec, policy := testSpec(program), chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(1), WindowMs: 60_000}
	submit := func(consumer int) crypto.Digest {
		order := testOrder(policy)
		order.MaxCost = chain.Hyper(10) // locks 20 HYPER, 19 of them beyond the stake
		request, err := sdk.SignOrder(order, spec, signer{key(consumerKey + consumer)})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := request.Verify()
		if err != nil {
			t.Fatal(err)
		}
		if status, body := c.patiently(func() (int, []byte) { return c.post(0, "/v1/jobs", request) }); status != http.StatusOK {
			t.Fatalf("submitting: %d %s", status, body)
		}
		final := signed.Order()
		return final.ID()
	}
	var ids []crypto.Digest
	for n := range 4 {
		ids = append(ids, submit(n))
	}
	runs := func(a *fakeAgent) (n int) {
		for _, id := range ids {
			n += min(a.ran(id), 1)
		}
		return n
	}
	until(t, "three orders run, of which one owner has two", func() bool { return runs(bidders[0]) == 2 && runs(bidders[1]) == 1 })
}
