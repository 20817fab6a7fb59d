package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestSubmissionsShareEntries submits many orders at once, through followers and
// the leader, and sees each accepted, once, and fewer entries than orders.
func TestSubmissionsShareEntries(t *testing.T) {
	c := newCluster(t, 3)
	c.chain.set(func() { c.chain.escrow = chain.Hyper(1_000) })
	c.upload(0, blob.Sum([]byte(program)), program)
	before := c.servers[c.waitLeader()].LogIndex()
	bodies := orders(t, 300, 4)
	c.postAll(bodies, 100, []int{0, 1, 2})
	c.postAll(bodies, 100, []int{1, 2, 0}) // again, elsewhere
	leader := c.waitLeader()
	seen, cursor := map[crypto.Digest]bool{}, ""
	for {
		page := get[api.JobList](c, leader, "/v1/jobs?limit=100&cursor="+cursor)
		for _, j := range page.Jobs {
			if seen[j.ID] {
				t.Fatalf("job %s is listed twice", j.ID.Short())
			}
			seen[j.ID] = true
			if a := j.Acceptance; j.AcceptanceSig == (crypto.Signature{}) || a.Sequence == 0 {
				t.Errorf("acceptance: %+v", a)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d jobs, want 300", len(seen))
	}
	if entries := c.servers[leader].LogIndex() - before; entries > 400 {
		t.Errorf("600 submissions took %d entries", entries)
	}
	asked := 0
	c.chain.set(func() { asked = c.chain.escrows })
	if asked > 3*4*3 { // of each consumer by each server, and again when what is known does not cover more
		t.Errorf("the chain was asked for escrows %d times", asked)
	}
}

// TestJobStreamsEndWhenTheirJobDoes watches one job of many while the others
// change.
func TestJobStreamsEndWhenTheirJobDoes(t *testing.T) {
	c := newCluster(t, 1)
	a, b := c.submit(0, chain.PolicyNone{}), c.submit(0, chain.PolicyNone{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if status, _ := c.do(0, http.MethodGet, "/v1/jobs/"+b.String()+"/logs", nil, nil); status != http.StatusOK {
			t.Errorf("logs: %d", status)
		}
	})
	c.cancelJob(0, a)
	c.cancelJob(0, b)
	wg.Wait()
}

// TestEventsTellOfAConsumersJobs follows one consumer's jobs through a server
// while another's change too.
func TestEventsTellOfAConsumersJobs(t *testing.T) {
	c := newCluster(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mine := c.follow(ctx, "/v1/events?account="+address(consumerKey).String(), "")
	all := c.follow(ctx, "/v1/events?detail=true", "")
	c.upload(0, blob.Sum([]byte(program)), program)
	other := orders(t, 1, 1)
	c.postAll(other, 1, []int{0})
	id := c.submit(0, chain.PolicyNone{})
	c.cancelJob(0, id)
	for _, want := range []job.Status{job.Queued, job.Cancelled} {
		var e api.JobEvent
		for got := range mine {
			if err := json.Unmarshal([]byte(got.data), &e); err != nil || got.name != api.EventJob {
				t.Fatalf("%+v %v", got, err)
			}
			if e.ID != id || e.Job != nil {
				t.Fatalf("event: %+v", e)
			}
			if e.Status == want || e.Status == job.Cancelled { // the first may be left out
				break
			}
		}
		if e.Status == job.Cancelled {
			break
		}
	}
	seen := map[crypto.Digest]bool{}
	for len(seen) < 2 {
		var e api.JobEvent
		if err := json.Unmarshal([]byte((<-all).data), &e); err != nil || e.Job == nil || e.Job.Status != e.Status || e.Job.AcceptanceSig == (crypto.Signature{}) {
			t.Fatalf("%+v %v", e, err)
		}
		seen[e.ID] = true
	}
	if status, _ := c.do(0, http.MethodGet, "/v1/events?account=nobody", nil, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("events of no account: %d", status)
	}
}

// cancelJob ends a job as its consumer.
func (c *cluster) cancelJob(i int, id crypto.Digest) {
	c.t.Helper()
	signature := key(consumerKey).Sign(crypto.DomainCancel, api.CancelPayload(testChain, id)).String()
	if status, body := c.do(i, http.MethodDelete, "/v1/jobs/"+id.String(), http.Header{api.SignatureHeader: {signature}}, nil); status != http.StatusOK {
		c.t.Errorf("cancelling: %d %s", status, body)
	}
}
