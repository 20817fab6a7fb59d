package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// sealing has a fake agent seal its outputs.
func sealing(a *fakeAgent, k chain.OutputKey) {
	a.spoil = func(d *job.Done) {
		if d.Output.IsZero() {
			return // the cluster is being stopped
		}
		plain, err := readBlob(a.blobs, d.Output)
		if err != nil {
			a.c.t.Error(err)
			return
		}
		sealed, _, err := a.blobs.Put(context.Background(), sdk.SealOutput(strings.NewReader(plain), k), 1<<20)
		if err != nil {
			a.c.t.Error(err)
			return
		}
		if err := a.blobs.Remove(d.Output); err != nil { // nobody is to have it
			a.c.t.Error(err)
		}
		d.Receipt.Sealed = &chain.SealedOutput{Output: sealed, KeyHash: k.Hash(d.Receipt.Order, d.Receipt.Node)}
		d.ReceiptSig = a.key.Sign(crypto.DomainUsage, d.Receipt.Payload())
	}
}

// TestFairExchangeThroughServers: the cluster attests to a sealed output once it has it, posts
// nothing before the node has shown the key, and tells the key to nobody who asks for the job before
// that is settled.
func TestFairExchangeThroughServers(t *testing.T) {
	c := newCluster(t, 1)
	k := chain.OutputKey{4, 5, 6}
	a := c.agent(0, func(a *fakeAgent) { sealing(a, k) })
	c.waitNodes(0, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	order := testOrder(chain.PolicyNone{})
	order.Fair = true
	request, id := signedJob(t, order, testSpec(program))
	if status, body := c.patiently(func() (int, []byte) { return c.post(0, "/v1/jobs", request) }); status != http.StatusOK {
		t.Fatalf("submitting: %d %s", status, body)
	}
	j := c.waitJob(0, id, job.Settling)
	receipt := api.ReceiptFromJSON(*j.Runs[0].Receipt)
	payload := chain.AttestationPayload(testChain, receipt.Digest())
	until(t, "an attestation", func() bool {
		ack, ok := a.acked(id)
		return ok && key(clusterKey).Public().Verify(crypto.DomainAttestation, payload, ack.Attestation) && !ack.Revealed
	})
	if items := get[api.Outbox](c, 0, "/v1/outbox?limit=100").Items; len(items) != 0 {
		t.Fatalf("posted without a key: %+v", items)
	}
	if status, _ := c.do(0, http.MethodGet, "/v1/blobs/"+receipt.Sealed.Output.String(), nil, nil); status != http.StatusOK {
		t.Errorf("the server that attests does not have the sealed blob: %d", status)
	}
	a.broadcast(job.Reveal{Order: id, Key: chain.OutputKey{9}}) // one that the receipt does not commit to
	until(t, "the key to be taken", func() bool {
		a.broadcast(job.Reveal{Order: id, Key: k})
		j = get[api.Job](c, 0, "/v1/jobs/"+id.String())
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, ack := range a.acks {
			if ack.Revealed {
				return true
			}
		}
		return false
	})
	if j.Runs[0].OutputKey != nil {
		t.Error("the key is told before the job is settled")
	}
	var claim chain.Claim
	if err := codec.Unmarshal(c.outbox(0, 0)[0].Claims[0], &claim, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := claim.Receipt.CheckKey(claim.OutputKey); err != nil || *claim.OutputKey != k {
		t.Errorf("the claim's key: %v", err)
	}
	if !key(clusterKey).Public().Verify(crypto.DomainAttestation, payload, claim.Attestation) {
		t.Error("the claim is not attested")
	}
	c.chain.settle(id)
	if j = c.waitJob(0, id, job.Settled); j.Runs[0].OutputKey == nil || *j.Runs[0].OutputKey != k {
		t.Errorf("settled, with key %v", j.Runs[0].OutputKey)
	}
}

// TestOpenEndsOfFairOrdersAreRefused: a node whose end does not fit the order gets no
// attestation, and is told why.
func TestOpenEndsOfFairOrdersAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	open := c.agent(0, nil)
	c.waitNodes(0, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	order := testOrder(chain.PolicyNone{})
	order.Fair = true
	request, id := signedJob(t, order, testSpec(program))
	if status, body := c.patiently(func() (int, []byte) { return c.post(0, "/v1/jobs", request) }); status != http.StatusOK {
		t.Fatalf("submitting: %d %s", status, body)
	}
	c.waitAck(open, id, "fair exchange is asked for: true, the output is sealed: false")
}

// TestFairOrdersThatOthersJudgeAreRefused: by name, at the door.
func TestFairOrdersThatOthersJudgeAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	request, _ := signedJob(t, testOrder(chain.PolicyReplicate{K: 2, N: 3, Stake: chain.Hyper(1), WindowMs: 60_000}), testSpec(program))
	request.Order.Fair = true
	status, body := c.patiently(func() (int, []byte) { return c.post(0, "/v1/jobs", request) })
	if status != http.StatusUnprocessableEntity || !strings.Contains(string(body), "fair exchange under policy replicate") {
		t.Errorf("%d %s", status, body)
	}
}
