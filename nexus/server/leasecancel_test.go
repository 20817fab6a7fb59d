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
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestLeasesThatWereOpenedAreNotCancelled has a consumer cancel leases that nodes were
// given: one that the chain has opened, which the servers have not heard yet, stays; one
// that cannot be asked about is not cancelled now; one that is not open is.
func TestLeasesThatWereOpenedAreNotCancelled(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	c.agent(0, func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	})
	c.waitNodes(0, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	lease := func() crypto.Digest {
		spec := testSpec(program)
		spec.Work = job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte(program))}}
		order := testOrder(chain.PolicyNone{})
		order.Term = &chain.Term{Resources: job.Kept(&spec), NoticeMs: 1_000}
		order.Caps, order.MaxCost = order.Caps[:2], chain.Hyper(20)
		request, id := signedJob(t, order, spec)
		if status, body := c.post(0, "/v1/jobs", request); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		return id
	}
	first := lease()
	c.waitJob(0, first, job.Running)
	var second crypto.Digest // which waits until the first is open, as the one node is small
	for _, x := range []struct {
		name   string
		of     *crypto.Digest
		chain  func(f *fakeChain, id crypto.Digest)
		status int
		says   string
	}{
		{"open", &first, func(f *fakeChain, id crypto.Digest) {
			f.leases = map[crypto.Digest]server.Lease{id: {Live: true, Opened: true}}
		}, http.StatusConflict, "is open"},
		{"unknown", &second, func(f *fakeChain, _ crypto.Digest) { f.down = true }, http.StatusServiceUnavailable, "cannot be asked"},
		{"not open", &second, func(f *fakeChain, _ crypto.Digest) { f.down = false }, http.StatusOK, "cancelled"},
	} {
		if x.of.IsZero() {
			*x.of = lease()
		}
		id := *x.of
		c.waitJob(0, id, job.Running)
		c.chain.set(func() { x.chain(c.chain, id) })
		signature := http.Header{api.SignatureHeader: {key(consumerKey).Sign(crypto.DomainCancel, api.CancelPayload(testChain, id)).String()}}
		if status, body := c.do(0, http.MethodDelete, "/v1/jobs/"+id.String(), signature, nil); status != x.status || !strings.Contains(string(body), x.says) {
			t.Errorf("%s: %d %s, want %d and %q", x.name, status, body, x.status, x.says)
		}
		c.chain.set(func() { c.chain.down = false })
	}
}
