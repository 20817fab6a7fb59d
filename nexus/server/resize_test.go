package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// resizeWorld is a cluster of one server with two nodes, of which one has a lease.
type resizeWorld struct {
	*cluster
	spec  job.Spec
	lease crypto.Digest
	node  crypto.PublicKey
}

// order signs an order for a lease, or to resize the one that is there.
func (w *resizeWorld) order(resizes crypto.Digest, millicores uint64) (api.SubmitJobRequest, crypto.Digest) {
	spec := w.spec
	spec.Resources.Millicores = millicores
	order := testOrder(chain.PolicyNone{})
	order.Term = &chain.Term{Resources: job.Kept(&spec), NoticeMs: 1_000, Resizes: resizes}
	order.Caps, order.MaxCost = order.Caps[:2], chain.Hyper(20)
	return signedJob(w.t, order, spec)
}

// used waits until so many thousandths of the lease's node are used.
func (w *resizeWorld) used(want uint64) {
	w.t.Helper()
	var got uint64
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		var list api.NodeList
		status, body := w.do(0, http.MethodGet, "/v1/nodes", nil, nil)
		if status != http.StatusOK || api.DecodeJSON(body, &list) != nil {
			w.t.Fatalf("%d %s", status, body)
		}
		for _, n := range list.Nodes {
			if n.ID == w.node {
				got = n.Used.Millicores
			}
		}
		if got == want {
			return
		}
	}
	w.t.Fatalf("%d thousandths are used, want %d", got, want)
}

// opened has the chain use an order.
func (w *resizeWorld) opened(id crypto.Digest) {
	w.chain.set(func() {
		if w.chain.leases == nil {
			w.chain.leases = map[crypto.Digest]server.Lease{}
		}
		w.chain.leases[id] = server.Lease{Live: true, Opened: true}
	})
}

// TestLeaseIsResized has the lease's node alone asked, though the other is cheaper, makes the
// deal with it, and counts what the lease keeps once the chain has resized it.
func TestLeaseIsResized(t *testing.T) {
	w := &resizeWorld{cluster: newCluster(t, 1), spec: testSpec(program)}
	w.waitLeader()
	wait := func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	}
	dear := w.agent(5, wait)
	w.waitNodes(0, 1)
	w.upload(0, blob.Sum([]byte(program)), program)
	w.spec.Work = job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte(program))}}
	before := w.spec.Resources.Millicores
	request, id := w.order(crypto.Digest{}, before)
	if status, body := w.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	w.node, w.lease = w.waitJob(0, id, job.Running).Runs[0].Node, id
	w.agent(0, wait) // from now on, and cheaper
	w.waitNodes(0, 2)
	early, _ := w.order(id, before/2)
	if status, body := w.post(0, "/v1/jobs", early); status == http.StatusOK || !strings.Contains(string(body), "not open yet") {
		t.Errorf("resized before it is open: %d %s", status, body)
	}
	w.opened(id)
	for limit := time.Now().Add(time.Minute); !w.waitJob(0, id, job.Running).Leased; {
		if time.Now().After(limit) {
			t.Fatal("the cluster does not see that the lease is open")
		}
	}
	request, resize := w.order(id, before+500)
	if status, body := w.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	j := w.waitJob(0, resize, job.Running)
	if j.Deal == nil || j.Deal.Bid.Node != w.node || dear.key.Public() != w.node {
		t.Fatalf("the deal is %+v, the lease's node %s", j.Deal, w.node)
	}
	w.used(before + 500)
	w.opened(resize)
	for limit := time.Now().Add(time.Minute); !w.waitJob(0, resize, job.Running).Leased; {
		if time.Now().After(limit) {
			t.Fatal("the cluster does not see that the lease is resized")
		}
	}
	w.used(before + 500)
	request, smaller := w.order(id, before/2)
	if status, body := w.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	w.waitJob(0, smaller, job.Running)
	w.used(before + 500) // until the chain has it
	w.opened(smaller)
	w.used(before / 2)
	w.waitJob(0, resize, job.Settled)
	large, over := w.order(id, 1<<20)
	if status, body := w.post(0, "/v1/jobs", large); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if j := w.waitJob(0, over, job.Failed); !strings.Contains(j.Reason, "no room") {
		t.Errorf("it failed because %s", j.Reason)
	}
	w.chain.set(func() { w.chain.leases[id] = server.Lease{Opened: true} })
	w.waitJob(0, id, job.Settled)
	w.waitJob(0, smaller, job.Settled)
	w.used(0)
}
