package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func readBlob(s *blob.Store, id crypto.Digest) (string, error) {
	b, err := s.Open(id)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(b)
	return string(data), errors.Join(err, b.Close())
}

type signer struct{ crypto.PrivateKey }

func (s signer) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(s.Public()) }

func (s signer) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return s.PrivateKey.Sign(d, payload), nil
}

const program = "a program that shouts"

var nonces atomic.Uint64

func testSpec(module string) job.Spec {
	limits := job.DefaultLimits()
	limits.MemoryBytes, limits.OutputBytes, limits.OutputFiles = 64<<20, 1<<20, 10
	return job.Spec{
		Label: "test", Work: job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte(module)), Deterministic: true}}, InputBytes: uint64(len(module)),
		Resources: job.Resources{Millicores: 1_000, MemoryMiB: 64}, Limits: limits,
	}
}

func testOrder(policy chain.Policy) chain.Order {
	return chain.Order{
		ChainID: testChain, Nonce: nonces.Add(1), Cluster: key(clusterKey).Public(), Policy: chain.PolicyField{Policy: policy}, Caps: prices(1_000_000_000_000),
		FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(1), Deadline: chain.TimeMs(time.Now().Add(time.Hour).UnixMilli()),
	}
}

func signedJob(t testing.TB, order chain.Order, spec job.Spec) (api.SubmitJobRequest, crypto.Digest) {
	t.Helper()
	request, err := sdk.SignOrder(order, spec, signer{key(consumerKey)})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := request.Verify()
	if err != nil {
		t.Fatal(err)
	}
	final := signed.Order()
	return request, final.ID()
}

// submit uploads the test's program and submits a job through a server.
func (c *cluster) submit(i int, policy chain.Policy) crypto.Digest {
	c.t.Helper()
	c.upload(i, blob.Sum([]byte(program)), program)
	request, id := signedJob(c.t, testOrder(policy), testSpec(program))
	status, body := c.patiently(func() (int, []byte) { return c.post(i, "/v1/jobs", request) })
	if status != http.StatusOK {
		c.t.Fatalf("submitting: %d %s", status, body)
	}
	return id
}

// waitNodes waits until so many nodes are up, as a server sees it.
func (c *cluster) waitNodes(i, n int) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("%d nodes", n), func() bool { return get[api.NexusStatus](c, i, "/v1/status").Nodes == n })
}

// outbox waits for items of the outbox.
func (c *cluster) outbox(i int, after uint64) (items []api.OutboxItem) {
	c.t.Helper()
	until(c.t, "something in the outbox", func() bool {
		items = get[api.Outbox](c, i, fmt.Sprintf("/v1/outbox?after=%d&limit=100&wait_ms=10000", after)).Items
		return len(items) > 0
	})
	return items
}

func TestOneServerTakesAJobToItsEnd(t *testing.T) {
	c := newCluster(t, 1)
	a := c.agent(0, nil)
	c.waitNodes(0, 1)
	id := c.submit(0, chain.PolicyNone{})
	items := c.outbox(0, 0)
	if len(items) != 1 || items[0].Order != id || len(items[0].Claims) != 1 {
		t.Fatalf("outbox: %+v", items)
	}
	var claim chain.Claim
	if err := codec.Unmarshal(items[0].Claims[0], &claim, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := claim.Check(); err != nil {
		t.Error(err)
	}
	checkSignatures(t, &claim)
	j := c.waitJob(0, id, job.Settling)
	if j.Output != blob.Sum([]byte(strings.ToUpper(program))) || j.Result != claim.Receipt.Result || len(j.Runs) != 1 || j.Runs[0].Stage != "ended" {
		t.Fatalf("job: %+v", j)
	}
	c.waitAck(a, id, "")
	if status, body := c.do(0, http.MethodGet, "/v1/blobs/"+j.Output.String(), nil, nil); status != http.StatusOK || string(body) != strings.ToUpper(program) {
		t.Errorf("output: %d %q", status, body)
	}
	c.chain.settle(id)
	j = c.waitJob(0, id, job.Settled)
	report := j.Report()
	if report.Cost != chain.Nano(1_000) || report.Height != 42 || len(report.SettlementTx) != 1 || report.Policy != "none" {
		t.Errorf("report: %+v", report)
	}
	if left := get[api.Outbox](c, 0, "/v1/outbox").Items; len(left) != 0 {
		t.Errorf("outbox of a settled job: %+v", left)
	}
	if a.ran(id) != 1 {
		t.Errorf("the agent was told %d times", a.ran(id))
	}
}

// waitAck waits until an agent may forget a job, for a reason or, if want is
// empty, for none.
func (c *cluster) waitAck(a *fakeAgent, id crypto.Digest, want string) {
	c.t.Helper()
	var ack job.Ack
	until(c.t, "an acknowledgement", func() (ok bool) {
		ack, ok = a.acked(id)
		return ok
	})
	if want == "" && ack.Refuse != "" || !strings.Contains(ack.Refuse, want) {
		c.t.Errorf("agent %d: %q, want %q", a.n, ack.Refuse, want)
	}
}

// checkSignatures verifies what the chain will verify of a claim.
func checkSignatures(t *testing.T, c *chain.Claim) {
	t.Helper()
	consumer, err := c.Order.Consumer.Ed25519()
	if err != nil {
		t.Fatal(err)
	}
	attested := chain.AttestationPayload(testChain, c.Receipt.Digest())
	for name, ok := range map[string]bool{
		"order":       consumer.Verify(crypto.DomainOrder, c.Order.Payload(), c.OrderSig),
		"acceptance":  c.Order.Cluster.Verify(crypto.DomainAcceptance, c.Acceptance.Payload(), c.AcceptanceSig),
		"bid":         c.Bid.Node.Verify(crypto.DomainBid, c.Bid.Payload(), c.BidSig),
		"receipt":     c.Receipt.Node.Verify(crypto.DomainUsage, c.Receipt.Payload(), c.ReceiptSig),
		"attestation": c.Order.Cluster.Verify(crypto.DomainAttestation, attested, c.Attestation),
	} {
		if !ok {
			t.Errorf("the claim's %s is not signed", name)
		}
	}
}

// TestLeaderKilledMidJob submits through a follower, kills the leader while two
// agents run the job, and sees the others settle it, once.
func TestLeaderKilledMidJob(t *testing.T) {
	c := newCluster(t, 3)
	finish := make(chan struct{})
	agents := make([]*fakeAgent, 3)
	for n := range agents {
		agents[n] = c.agent(n, func(a *fakeAgent) {
			a.run = func(context.Context, job.Assignment) string {
				<-finish
				return "the result"
			}
		})
	}
	leader := c.waitLeader()
	follower, other := (leader+1)%3, (leader+2)%3
	c.waitNodes(follower, 3)
	id := c.submit(follower, chain.PolicyNone{})
	running := func() (n int) {
		for _, a := range agents {
			n += min(1, a.ran(id))
		}
		return n
	}
	until(t, "an agent that runs the job", func() bool { return running() == 1 })
	began := time.Now()
	c.kill(leader)
	c.waitLeader()
	t.Logf("another leader after %s", time.Since(began))
	close(finish)
	items := c.outbox(follower, 0)
	if len(items) != 1 || items[0].Order != id || len(items[0].Claims) != 1 {
		t.Fatalf("outbox: %+v", items)
	}
	c.chain.settle(id)
	for _, i := range []int{follower, other} {
		j := c.waitJob(i, id, job.Settled)
		if j.Output != blob.Sum([]byte("the result")) || len(j.Runs) != 1 {
			t.Errorf("server %d: %+v", i, j)
		}
	}
	if running() != 1 {
		t.Errorf("%d agents ran the job, want 1", running())
	}
	if more := get[api.Outbox](c, other, "/v1/outbox?after=0").Items; len(more) != 0 {
		t.Errorf("outbox after settlement: %+v", more)
	}
	c.start(leader)
	c.waitJob(leader, id, job.Settled)
}

// TestWhoWaitsForTheOutboxAsksTheLeader: others hear later of what was decided last,
// and one that waited there for each job would be told a whole beat late. Who does not
// wait is answered by whomever it asks, and so is everybody while nobody leads.
func TestWhoWaitsForTheOutboxAsksTheLeader(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	follower := (leader + 1) % 3
	asked := func(query string) bool {
		return c.servers[follower].ForLeader(httptest.NewRequest(http.MethodGet, "/v1/outbox"+query, nil))
	}
	for query, want := range map[string]bool{"": false, "?after=3": false, "?wait_ms=0": false, "?wait_ms=1": true, "?after=3&limit=5&wait_ms=30000": true} {
		if asked(query) != want {
			t.Errorf("%q: sent on %t, want %t", query, !want, want)
		}
	}
	id := c.submit(follower, chain.PolicyNone{})
	c.agent(0, nil)
	if items := c.outbox(follower, 0); len(items) != 1 || items[0].Order != id {
		t.Errorf("outbox: %+v", items)
	}
	until(t, "the follower hears of it", func() bool { return len(get[api.Outbox](c, follower, "/v1/outbox").Items) == 1 })
	c.kill(leader)
	c.kill((leader + 2) % 3)
	until(t, "a server alone", func() bool { return !asked("?wait_ms=1") })
	if items := get[api.Outbox](c, follower, "/v1/outbox?after=0&wait_ms=1").Items; len(items) != 1 || items[0].Order != id {
		t.Errorf("outbox without a leader: %+v", items)
	}
}

// TestFollowersForward asks a follower for everything that only the leader does.
func TestFollowersForward(t *testing.T) {
	c := newCluster(t, 3)
	follower := (c.waitLeader() + 1) % 3
	for n := range 2 {
		c.agent(n, func(a *fakeAgent) {
			if n == 1 {
				a.declined = "too cheap"
			}
		})
	}
	c.waitNodes(follower, 2)
	status, raw := c.post(follower, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(testSpec(program)), Policy: api.Policy{Policy: chain.PolicyNone{}}})
	var quote api.Quote
	if err := json.Unmarshal(raw, &quote); err != nil || status != http.StatusOK {
		t.Fatalf("quote: %d %s %v", status, raw, err)
	}
	if len(quote.Bids) != 1 || quote.Bids[0].Owner != address(ownerKeys) || quote.MaxCost != quote.Bids[0].Cost || quote.MaxCost.IsZero() ||
		len(quote.Excluded) != 1 || quote.Excluded[0] != (api.Exclusion{Reason: "declined: too cheap", Nodes: 1}) {
		t.Errorf("quote: %s", raw)
	}
	spec := testSpec(program)
	spec.Region = "us"
	status, raw = c.post(follower, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(spec), Policy: api.Policy{Policy: chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}}})
	quote = api.Quote{}
	if err := json.Unmarshal(raw, &quote); err != nil || status != http.StatusOK {
		t.Fatalf("quote: %d %s %v", status, raw, err)
	}
	if quote.Reason != "bids of 2 owners are needed, and none bid" || len(quote.Excluded) != 1 || quote.Excluded[0] != (api.Exclusion{Reason: "other region", Nodes: 2}) {
		t.Errorf("quote: %s", raw)
	}
	id := c.submit(follower, chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000}) // waits: one bids, two are needed
	j := get[api.Job](c, follower, "/v1/jobs/"+id.String()+"?leader=true")
	if j.ID != id || j.Status.Final() {
		t.Errorf("job by the leader: %+v", j)
	}
	c.checkCancel(follower, id)
	list := get[api.JobList](c, follower, "/v1/jobs?leader=true&account="+address(consumerKey).String())
	if len(list.Jobs) != 1 || list.Jobs[0].ID != id || list.Next != "" {
		t.Errorf("list: %+v", list)
	}
}

// TestWhatNobodyCouldJudgeIsRefused: work that takes longer than a panel has to judge it is
// neither quoted nor accepted, alone or among others; under none it is.
func TestWhatNobodyCouldJudgeIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	spec := testSpec(program)
	spec.Limits.WallMs = testGenesis(t).Params.CommitMs/4 + 1
	c.upload(0, blob.Sum([]byte(program)), program)
	for _, policy := range []chain.Policy{chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000}, chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(100)}} {
		request, id := signedJob(t, testOrder(policy), spec)
		if status, body := c.post(0, "/v1/jobs", request); status == http.StatusOK || !strings.Contains(string(body), "limits.wall_ms") {
			t.Errorf("%s: %d %s", policy, status, body)
		}
		status, body := c.post(0, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(spec), Policy: api.Policy{Policy: policy}})
		if status == http.StatusOK || !strings.Contains(string(body), "limits.wall_ms") {
			t.Errorf("%s: a quote: %d %s", policy, status, body)
		}
		if status, _ := c.do(0, http.MethodGet, "/v1/jobs/"+id.String(), nil, nil); status != http.StatusNotFound {
			t.Errorf("%s: the job is there: %d", policy, status)
		}
	}
	request, _ := signedJob(t, testOrder(chain.PolicyNone{}), spec)
	if status, body := c.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Errorf("none: %d %s", status, body)
	}
}

// TestWhatTheClustersBondDoesNotCoverIsRefused: an order that locks more of the cluster's bond than is
// free could not begin after its run: it is refused before, and no quote is made for it. Nor may it have more than half of
// what is free, if its consumer wants more to be locked than it is worth.
func TestWhatTheClustersBondDoesNotCoverIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.locked = chain.Hyper(960)
	c.chain.mu.Unlock()
	c.upload(0, blob.Sum([]byte(program)), program)
	spec := testSpec(program)
	const none, half = "40 HYPER free of its bond, of which 0 HYPER", "40 HYPER free of its bond, half of it for orders that lock more than they are worth"
	told := func(body []byte, why string) bool {
		return strings.Contains(string(body), why) && (why != "" || !strings.Contains(string(body), "free of its bond"))
	}
	for _, test := range []struct {
		policy chain.Policy
		why    string
	}{
		{chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(41), WindowMs: 60_000}, none},
		{chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(21), WindowMs: 60_000}, half},
		{chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(100)}, none},
		{chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(33)}, half},
		{chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(20), WindowMs: 60_000}, ""},
	} {
		status, body := c.post(0, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(spec), Policy: api.Policy{Policy: test.policy}})
		if status != http.StatusOK || test.why != half && !told(body, test.why) { // nobody bids: what it is worth is not known

			t.Errorf("%v: a quote: %d %s", test.policy, status, body)
		}
		request, _ := signedJob(t, testOrder(test.policy), spec)
		status, body = c.post(0, "/v1/jobs", request)
		if (status == http.StatusOK) != (test.why == "") || !told(body, test.why) {
			t.Errorf("%v: %d %s", test.policy, status, body)
		}
	}
}

// TestOrdersThatNobodyRunsTakeNothingOfTheBond: two consumers of one hand order more than all that is free of the cluster's bond,
// and nobody bids for it; another's order is accepted, and run at once.
func TestOrdersThatNobodyRunsTakeNothingOfTheBond(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.locked = chain.Hyper(960)
	c.chain.mu.Unlock()
	c.upload(0, blob.Sum([]byte(program)), program)
	agents := []*fakeAgent{c.agent(0, nil), c.agent(1, nil)}
	c.waitNodes(0, 2)
	policy := chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(15), WindowMs: 60_000}
	spec := testSpec(program)
	for consumer := range 2 {
		batch := &api.Orders{Specs: []job.Spec{spec}}
		for range 3 {
			order := testOrder(policy)
			order.Caps = prices(1) // which nobody runs it for
			request, err := sdk.SignOrder(order, spec, signer{key(consumerKey + 1 + consumer)})
			if err != nil {
				t.Fatal(err)
			}
			one, err := request.Verify()
			if err != nil {
				t.Fatal(err)
			}
			batch.List = append(batch.List, api.SignedOrder{Order: one.Order(), Signature: one.Signature()})
		}
		for _, v := range c.submitOrders(0, batch) {
			if v.Rule != "" {
				t.Fatalf("%+v", v)
			}
		}
	}
	id := c.submit(0, policy)
	until(t, "it runs", func() bool { return agents[0].ran(id)+agents[1].ran(id) > 0 })
}

// TestOrdersWaitForTheBond: of orders that could not begin beside each other some are run, and the others when the bond is free.
func TestOrdersWaitForTheBond(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.locked = chain.Hyper(910)
	c.chain.mu.Unlock()
	hang := func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	}
	agents := []*fakeAgent{c.agent(0, hang), c.agent(1, hang)}
	c.waitNodes(0, 2)
	policy := chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(20), WindowMs: 60_000} // 90 HYPER are free
	var ids []crypto.Digest
	for range 3 {
		ids = append(ids, c.submit(0, policy))
	}
	running := func() (list []crypto.Digest) {
		for _, id := range ids {
			if agents[0].ran(id)+agents[1].ran(id) > 0 {
				list = append(list, id)
			}
		}
		return list
	}
	until(t, "two orders run", func() bool { return len(running()) == 2 })
	first := running()
	waiting := ids[slices.IndexFunc(ids, func(id crypto.Digest) bool { return !slices.Contains(first, id) })]
	until(t, "the third was not given out", func() bool {
		return strings.HasPrefix(get[api.Job](c, 0, "/v1/jobs/"+waiting.String()).Reason, "no bid counted")
	})
	if n := len(running()); n != 2 {
		t.Fatalf("%d orders run that lock 40 HYPER each, 90 are free", n)
	}
	payload := api.CancelPayload(testChain, first[0])
	header := http.Header{api.SignatureHeader: {key(consumerKey).Sign(crypto.DomainCancel, payload).String()}}
	if status, body := c.patiently(func() (int, []byte) { return c.do(0, http.MethodDelete, "/v1/jobs/"+first[0].String(), header, nil) }); status != http.StatusOK {
		t.Fatalf("cancelling: %d %s", status, body)
	}
	until(t, "the third runs", func() bool { return len(running()) == 3 })
}

// TestAStakeThatNoNodeHasIsRefused: at once, and with the reason; while no node is there it may be that one comes.
func TestAStakeThatNoNodeHasIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.bonds = map[crypto.PublicKey]chain.Amount{key(agentKeys).Public(): chain.Hyper(5), key(agentKeys + 1).Public(): chain.Hyper(6)}
	c.chain.mu.Unlock()
	c.upload(0, blob.Sum([]byte(program)), program)
	order := func(stake uint64) (int, string) {
		request, _ := signedJob(t, testOrder(chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(stake), WindowMs: 60_000}), testSpec(program))
		status, body := c.post(0, "/v1/jobs", request)
		return status, string(body)
	}
	if status, body := order(7); status != http.StatusOK {
		t.Errorf("nobody is there: %d %s", status, body)
	}
	c.agent(0, nil)
	c.agent(1, nil)
	c.waitNodes(0, 2)
	if status, body := order(7); status == http.StatusOK || !strings.Contains(body, "none of the 2 nodes that are connected has 7 HYPER free of its bond") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := order(6); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}

// TestWhoHasNoEscrowTakesNoneOfTheBond: an order that its escrow does not cover is refused for that, and those
// beside it find the cluster's bond free.
func TestWhoHasNoEscrowTakesNoneOfTheBond(t *testing.T) {
	c := newCluster(t, 1)
	c.chain.mu.Lock()
	c.chain.locked = chain.Hyper(960)
	c.chain.mu.Unlock()
	c.upload(0, blob.Sum([]byte(program)), program)
	spec, policy := testSpec(program), chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(20), WindowMs: 60_000}
	poor := testOrder(policy)
	poor.MaxCost = chain.Hyper(1 << 30)
	batch := &api.Orders{Specs: []job.Spec{spec}}
	for _, o := range []chain.Order{poor, testOrder(policy)} {
		request, _ := signedJob(t, o, spec)
		one, err := request.Verify()
		if err != nil {
			t.Fatal(err)
		}
		batch.List = append(batch.List, api.SignedOrder{Order: one.Order(), Signature: one.Signature()})
	}
	if v := c.submitOrders(0, batch); v[0].Rule == "" || v[0].Rule == "policy" || v[1].Rule != "" {
		t.Errorf("%+v", v)
	}
}

// TestAnOrderThatLocksTheBondIsSubmittedAgain: submitting an order again changes nothing, also where it
// has itself locked what was free of the cluster's bond; another order is refused.
func TestAnOrderThatLocksTheBondIsSubmittedAgain(t *testing.T) {
	c := newCluster(t, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	spec, policy := testSpec(program), chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(20), WindowMs: 60_000}
	orders := func(another byte) *api.Orders {
		order := testOrder(policy)
		order.Nonce += uint64(another)
		signed, err := sdk.SignOrder(order, spec, signer{key(consumerKey)})
		if err != nil {
			t.Fatal(err)
		}
		one, err := signed.Verify()
		if err != nil {
			t.Fatal(err)
		}
		return &api.Orders{Specs: []job.Spec{spec}, List: []api.SignedOrder{{Order: one.Order(), Signature: one.Signature()}}}
	}
	first, others := orders(0), byte(0)
	if v := c.submitOrders(0, first); v[0].Rule != "" {
		t.Fatalf("%+v", v)
	}
	c.chain.mu.Lock()
	c.chain.locked = chain.Hyper(981)
	c.chain.mu.Unlock()
	until(t, "the server knows what is locked", func() bool {
		others++
		return strings.Contains(c.submitOrders(0, orders(others))[0].Reason, "19 HYPER free of its bond")
	})
	if v := c.submitOrders(0, first); v[0].Rule != "" {
		t.Errorf("submitted again: %+v", v)
	}
}

// checkCancel sees that only the consumer ends a job.
func (c *cluster) checkCancel(i int, id crypto.Digest) {
	c.t.Helper()
	path := "/v1/jobs/" + id.String()
	payload := api.CancelPayload(testChain, id)
	for name, signature := range map[string]string{
		"another's":         key(99).Sign(crypto.DomainCancel, payload).String(),
		"of another domain": key(consumerKey).Sign(crypto.DomainOrder, payload).String(),
		"of another job":    key(consumerKey).Sign(crypto.DomainCancel, api.CancelPayload(testChain, crypto.Digest{1})).String(),
	} {
		if status, body := c.do(i, http.MethodDelete, path, http.Header{api.SignatureHeader: {signature}}, nil); status != http.StatusForbidden {
			c.t.Errorf("signature %s: %d %s", name, status, body)
		}
	}
	for name, header := range map[string]http.Header{"none": nil, "short": {api.SignatureHeader: {"ab"}}, "no hex": {api.SignatureHeader: {strings.Repeat("x", 128)}}} {
		if status, body := c.do(i, http.MethodDelete, path, header, nil); status != http.StatusUnprocessableEntity {
			c.t.Errorf("signature %s: %d %s", name, status, body)
		}
	}
	good := http.Header{api.SignatureHeader: {key(consumerKey).Sign(crypto.DomainCancel, payload).String()}}
	for range 2 { // the second time it is cancelled already
		status, body := c.do(i, http.MethodDelete, path, good, nil)
		var j api.Job
		if err := json.Unmarshal(body, &j); err != nil || status != http.StatusOK || j.Status != job.Cancelled {
			c.t.Errorf("cancelling: %d %s %v", status, body, err)
		}
	}
	if status, _ := c.do(i, http.MethodDelete, "/v1/jobs/"+crypto.Digest{1}.String(), good, nil); status != http.StatusNotFound {
		c.t.Errorf("cancelling an unknown job: %d", status)
	}
}

func TestAgentLostMidJob(t *testing.T) {
	c := newCluster(t, 1)
	first := c.agent(0, func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string { <-ctx.Done(); return "" }
	})
	second := c.agent(1, nil)
	c.waitNodes(0, 2)
	id := c.submit(0, chain.PolicyNone{})
	until(t, "the cheaper agent at work", func() bool { return first.ran(id) == 1 })
	first.cancel() // its connections end
	if err := first.endpoint.Close(); err != nil {
		t.Fatal(err)
	}
	j := c.waitJob(0, id, job.Settling)
	if len(j.Runs) != 2 || j.Runs[0].Stage != "lost" || j.Runs[0].Detail != "its node went away" || second.ran(id) != 1 {
		t.Errorf("runs: %+v", j.Runs)
	}
}

// TestBadEndsAreRefused has one agent after another send an end that does not
// hold, and an honest one end the job.
func TestBadEndsAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	large := strings.Repeat("x", 3<<20)
	bad := []*fakeAgent{
		c.agent(0, func(a *fakeAgent) { a.spoil = func(d *job.Done) { d.ReceiptSig[3] ^= 1 } }),
		c.agent(1, func(a *fakeAgent) { a.spoil = func(d *job.Done) { d.Output = crypto.Digest{1} } }),
		c.agent(2, func(a *fakeAgent) { a.run = func(context.Context, job.Assignment) string { return large } }),
	}
	good := c.agent(3, nil)
	c.waitNodes(0, 4)
	id := c.submit(0, chain.PolicyNone{})
	j := c.waitJob(0, id, job.Settling)
	for i, want := range []string{"not signed by its node", "not the digest of this output", "limit"} {
		c.waitAck(bad[i], id, want)
		if !strings.Contains(j.Runs[i].Detail, want) {
			t.Errorf("run %d: %q, want %q", i, j.Runs[i].Detail, want)
		}
	}
	if len(j.Runs) != 4 || j.Runs[3].Node != good.key.Public() {
		t.Errorf("runs: %+v", j.Runs)
	}
}

func TestLogsStream(t *testing.T) {
	c := newCluster(t, 1)
	finish := make(chan struct{})
	a := c.agent(0, func(a *fakeAgent) {
		a.run = func(context.Context, job.Assignment) string { <-finish; return "done" }
	})
	c.waitNodes(0, 1)
	id := c.submit(0, chain.PolicyNone{})
	until(t, "work", func() bool { return a.ran(id) == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events := c.follow(ctx, "/v1/jobs/"+id.String()+"/logs", "")
	lastID := ""
	for i := range 3 {
		a.broadcast(job.Log{Order: id, Offset: uint64(i / 2), Stderr: i == 1, Data: []byte{byte('a' + i)}})
		var piece api.JobLog
		e := <-events
		if err := json.Unmarshal([]byte(e.data), &piece); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		lastID = e.id
		if e.name != api.EventLog || !strings.HasPrefix(e.id, fmt.Sprint(i+1)+"-") || string(piece.Data) != string(rune('a'+i)) || piece.Stderr != (i == 1) || piece.Node != a.key.Public() {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	a.broadcast(job.Log{Order: crypto.Digest{1}, Data: []byte("of no job of this agent")})
	life := lastID[1:]
	if e := <-c.follow(ctx, "/v1/jobs/"+id.String()+"/logs", "2"+life); e.id != "3"+life {
		t.Errorf("resumed with %+v", e)
	}
	close(finish)
	c.waitJob(0, id, job.Settling)
	c.chain.settle(id)
	var j api.Job
	e := <-events
	if err := json.Unmarshal([]byte(e.data), &j); err != nil || e.name != api.EventEnd || j.Status != job.Settled {
		t.Errorf("last event: %+v %v", e, err)
	}
	if _, open := <-events; open {
		t.Error("the stream goes on after its end")
	}
	if status, _ := c.do(0, http.MethodGet, "/v1/jobs/"+crypto.Digest{1}.String()+"/logs", nil, nil); status != http.StatusNotFound {
		t.Errorf("logs of an unknown job: %d", status)
	}
}

type event struct{ id, name, data string }

// follow reads server-sent events until the stream ends.
func (c *cluster) follow(ctx context.Context, path, last string) <-chan event {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(0)+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // the reading goroutine does
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != api.ContentEventStream {
		c.t.Fatalf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	out := make(chan event, 100)
	go func() {
		defer close(out)
		defer func() { _ = resp.Body.Close() }() // the stream has ended
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			}
			if lines.Text() == "" && e.name != "" {
				out <- e
				e = event{}
			}
		}
	}()
	return out
}

// TestRestart stops a server with a job on its way to the chain, and sees it
// there after the next start: once from the log, once from a snapshot.
func TestRestart(t *testing.T) {
	c := newCluster(t, 1)
	c.agent(0, nil)
	c.waitNodes(0, 1)
	id := c.submit(0, chain.PolicyNone{})
	before := c.waitJob(0, id, job.Settling)
	for _, snapshot := range []bool{false, true} {
		if snapshot {
			if err := c.servers[0].SnapshotNow(); err != nil {
				t.Fatal(err)
			}
		}
		c.stop(0)
		c.start(0)
		c.waitLeader()
		after := get[api.Job](c, 0, "/v1/jobs/"+id.String())
		if after.Acceptance != before.Acceptance || after.AcceptanceSig != before.AcceptanceSig || after.Status != job.Settling {
			t.Fatalf("after a restart (snapshot %v): %+v", snapshot, after)
		}
		if items := c.outbox(0, 0); len(items) != 1 || items[0].Order != id {
			t.Fatalf("outbox: %+v", items)
		}
	}
	c.waitNodes(0, 1)
	c.chain.settle(id)
	c.waitJob(0, id, job.Settled)
	status, body := c.do(0, http.MethodGet, "/v1/blobs/"+before.Output.String(), nil, nil)
	if status != http.StatusOK || string(body) != strings.ToUpper(program) {
		t.Errorf("output: %d %q", status, body)
	}
}

// TestNodesComeInPages lists three nodes, one and two at a time.
func TestNodesComeInPages(t *testing.T) {
	c := newCluster(t, 1)
	for n := range 3 {
		c.agent(n, nil)
	}
	c.waitNodes(0, 3)
	all := get[api.NodeList](c, 0, "/v1/nodes")
	if len(all.Nodes) != 3 || all.Next != "" {
		t.Fatalf("%d nodes, then %q", len(all.Nodes), all.Next)
	}
	for _, limit := range []int{1, 2, 3} {
		var seen []api.NexusNode
		for path := fmt.Sprintf("/v1/nodes?limit=%d", limit); path != ""; {
			page := get[api.NodeList](c, 0, path)
			if len(page.Nodes) == 0 || len(page.Nodes) > limit {
				t.Fatalf("a page of %d nodes, limit %d", len(page.Nodes), limit)
			}
			seen = append(seen, page.Nodes...)
			if path = ""; page.Next != "" {
				path = fmt.Sprintf("/v1/nodes?limit=%d&cursor=%s", limit, page.Next)
			}
		}
		if !slices.EqualFunc(seen, all.Nodes, func(a, b api.NexusNode) bool { return a.ID == b.ID }) {
			t.Errorf("in pages of %d: %d nodes", limit, len(seen))
		}
	}
	for i := range all.Nodes[1:] {
		if all.Nodes[i].ID.Compare(all.Nodes[i+1].ID) >= 0 {
			t.Error("nodes are not in the order of their ids")
		}
	}
	for _, bad := range []string{"limit=0", "limit=1001", "cursor=zz"} {
		if status, _ := c.do(0, http.MethodGet, "/v1/nodes?"+bad, nil, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, status)
		}
	}
}
