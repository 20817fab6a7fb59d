package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// market is a chain and a cluster on which a job is run, and what the cluster's
// server says, for a test to change.
type market struct {
	chain   *fakeChain
	quote   api.Quote
	status  api.NexusStatus
	settled func(*api.Job) // changes the settled job that the server shows
	record  func(*settlement.Order, *settlement.Claim)
	first   *settlement.Claim // that was refuted; nil: none was
	claims  int               // orders that were submitted
	outcome job.Outcome
}

const marketFee = 2

func newMarket(t *testing.T) *market {
	cluster := testKey(3).Public()
	m := &market{
		chain:   newFakeChain(t),
		quote:   api.Quote{Cluster: cluster, MaxCost: chain.Nano(500)},
		status:  api.NexusStatus{ChainID: testChain, NowMs: 2_000},
		settled: func(*api.Job) {}, record: func(*settlement.Order, *settlement.Claim) {},
		outcome: job.Outcome{Exit: chain.ExitFailed, ExitCode: 3, Output: crypto.Digest{8}},
	}
	m.chain.records = map[string][]byte{
		string(settlement.ClusterKey(cluster)):            codec.Marshal(settlement.Cluster{Operator: address(4), Bond: chain.Hyper(1)}),
		string(settlement.EscrowKey(address(1), cluster)): codec.Marshal(settlement.Escrow{Balance: chain.Nano(1_000)}),
	}
	m.chain.seal()
	m.chain.seal() // proves the state after the first
	return m
}

// client returns a client that trusts the market's genesis.
func (m *market) client(t *testing.T, cluster crypto.PublicKey) *sdk.Client {
	nexus := newFakeNexus(t)
	mux := http.NewServeMux()
	mux.Handle("/v1/blobs/", nexus.mux)
	mux.HandleFunc("/v1/quotes", func(w http.ResponseWriter, _ *http.Request) { nexus.send(w, m.quote) })
	mux.HandleFunc("/v1/status", func(w http.ResponseWriter, _ *http.Request) { nexus.send(w, m.status) })
	var submitted api.Job
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		var request api.SubmitJobRequest
		nexus.read(r, &request)
		signed, err := request.Verify()
		if err != nil {
			t.Error(err)
		}
		m.claims++
		o := signed.Order()
		submitted = m.settle(&o, request)
		nexus.send(w, api.Job{ID: o.ID(), Status: job.Queued, Policy: "none", Order: request.Order, Spec: request.Spec})
	})
	mux.HandleFunc("GET /v1/jobs/", func(w http.ResponseWriter, _ *http.Request) { nexus.send(w, submitted) })
	return newClient(t, sdk.Config{Nodes: []string{server(t, m.chain)}, Nexus: []string{server(t, mux)}, Genesis: m.chain.genesis, Cluster: cluster, Timeout: time.Second})
}

// settle writes an order's settlement to the chain and returns the job.
func (m *market) settle(o *chain.Order, request api.SubmitJobRequest) api.Job {
	node := testKey(7).Public()
	result := job.ResultDigest(&m.outcome)
	order := settlement.Order{Consumer: address(1), Cluster: o.Cluster, Policy: o.Policy, MaxCost: o.MaxCost, Spent: chain.Nano(100)}
	claim := settlement.Claim{Node: node, Sequence: 1, Result: result, Exit: m.outcome.Exit, Cost: chain.Nano(100), Paid: chain.Nano(98), Burned: chain.Nano(marketFee)}
	j := api.Job{
		ID: o.ID(), Status: job.Settled, Policy: "none", Order: request.Order, Spec: request.Spec, Result: result, Output: m.outcome.Output,
		Settlement: &api.JobSettlement{Height: 3, Cost: claim.Cost, Burned: claim.Burned, Providers: []crypto.PublicKey{node}},
	}
	receipt := api.ReceiptToJSON(chain.UsageReceipt{ChainID: testChain, Order: o.ID(), Node: node, Sequence: 1, Result: result, Exit: m.outcome.Exit, ExitCode: m.outcome.ExitCode})
	j.Runs = []api.JobRun{{Node: node, Stage: "ended", Receipt: &receipt, Detail: "as it ended"}}
	if m.first != nil {
		j.Runs = append([]api.JobRun{{Node: m.first.Node, Stage: api.StageRefuted, Detail: "its claim was refuted"}}, j.Runs...)
	}
	m.settled(&j)
	m.record(&order, &claim)
	m.chain.set(func() {
		m.chain.records = map[string][]byte{
			string(settlement.OrderKey(o.ID())):                                                 codec.Marshal(order),
			string(settlement.ClaimKey(chain.ClaimKey{Order: o.ID(), Node: node, Sequence: 1})): codec.Marshal(claim),
		}
		if m.first != nil {
			m.chain.records[string(settlement.ClaimKey(chain.ClaimKey{Order: o.ID(), Node: m.first.Node, Sequence: 1}))] = codec.Marshal(*m.first)
		}
	})
	m.chain.seal()
	m.chain.seal()
	return j
}

func run() sdk.JobRun {
	return sdk.JobRun{
		Spec: spec(), Blobs: []io.ReadSeeker{bytes.NewReader([]byte("program"))}, Policy: chain.PolicyNone{}, Consumer: testKey(1),
		Bind: func(ids []crypto.Digest) job.Work { return job.Wasm{Module: ids[0]} },
	}
}

func TestRunJob(t *testing.T) {
	m := newMarket(t)
	for _, cluster := range []crypto.PublicKey{{}, testKey(3).Public()} {
		done, err := m.client(t, cluster).RunJob(t.Context(), run())
		if err != nil {
			t.Fatal(err)
		}
		r := done.Report()
		if r.Status != job.Settled || r.Exit != chain.ExitFailed || r.ExitCode != 3 || r.Detail != "as it ended" || r.Cost != chain.Nano(100) {
			t.Errorf("the report is %+v", r)
		}
	}
}

// What no panel of the chain could judge in its time is not uploaded.
func TestRunJobThatNobodyCouldJudge(t *testing.T) {
	m := newMarket(t)
	r := run()
	r.Policy, r.Spec.Limits.WallMs = chain.PolicyReplicate{K: 2, N: 3}, m.chain.genesis.Params.CommitMs/4+1
	if _, err := m.client(t, testKey(3).Public()).RunJob(t.Context(), r); !errors.Is(err, job.ErrSpec) || !strings.Contains(err.Error(), "limits.wall_ms") || m.claims > 0 {
		t.Errorf("%v, %d orders", err, m.claims)
	}
}

// A server that lies about itself gets neither a deposit nor an order.
func TestTermsAreChecked(t *testing.T) {
	for want, lie := range map[string]func(*market){
		"configured is":      func(m *market) { m.quote.Cluster = testKey(4).Public() },
		"of chain":           func(m *market) { m.status.ChainID = "another" },
		"its clock":          func(m *market) { m.status.NowMs = 2_000 + 6*60*1000 },
		"nobody can take it": func(m *market) { m.quote.MaxCost = chain.Amount{} },
		"0 bid; 3 of 4 nodes: other region": func(m *market) {
			m.quote = api.Quote{Reason: "0 bid", Nodes: 4, Looked: 4, Excluded: []api.Exclusion{{Reason: "other region", Nodes: 3}}}
		},
		"the cluster knows no node": func(m *market) { m.quote = api.Quote{Reason: "0 bid"} },
	} {
		m := newMarket(t)
		lie(m)
		_, err := m.client(t, testKey(3).Public()).RunJob(t.Context(), run())
		if err == nil || !strings.Contains(err.Error(), want) || m.claims > 0 || m.chain.count("POST /v1/txs") > 0 {
			t.Errorf("%v, %d orders, want %q", err, m.claims, want)
		}
	}
	m := newMarket(t)
	m.quote.Cluster = testKey(4).Public()
	if _, err := m.client(t, crypto.PublicKey{}).RunJob(t.Context(), run()); !errors.Is(err, sdk.ErrTerms) || !strings.Contains(err.Error(), "knows no cluster") {
		t.Errorf("a cluster that the chain does not know: %v", err)
	}
}

// A server that says settled is believed as far as the chain shows it.
func TestSettlementsAreVerified(t *testing.T) {
	for want, lie := range map[string]func(*market){
		"no settlement":  func(m *market) { m.settled = func(j *api.Job) { j.Settlement = nil } },
		"no receipt":     func(m *market) { m.settled = func(j *api.Job) { j.Runs = nil } },
		"is result":      func(m *market) { m.settled = func(j *api.Job) { j.Output = crypto.Digest{9} } },
		"no such record": func(m *market) { m.settled = func(j *api.Job) { j.Runs[0].Receipt.Sequence = 2 } },
		"the chain has":  func(m *market) { m.settled = func(j *api.Job) { j.Settlement.Cost = chain.Nano(7) } },
		"settled true": func(m *market) {
			m.record = func(_ *settlement.Order, c *settlement.Claim) { c.Result = crypto.Digest{1} }
		},
		"settled false": func(m *market) {
			m.record = func(_ *settlement.Order, c *settlement.Claim) { c.Pending = &settlement.Replica{} }
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t)
			lie(m)
			done, err := m.client(t, testKey(3).Public()).RunJob(t.Context(), run())
			if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), want) || done.ID.IsZero() {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// TestWhatARefutedClaimKeptIsVerified: the chain says what it could not give back of a claim before
// the one that was paid, and the cluster may not say more or less.
func TestWhatARefutedClaimKeptIsVerified(t *testing.T) {
	const kept = 6
	for name, c := range map[string]struct {
		change func(*market)
		want   string // empty: it is settled
	}{
		"as it is":    {func(*market) {}, ""},
		"more":        {func(m *market) { m.first.Cost = chain.Nano(kept + 1) }, "the chain has"},
		"not refuted": {func(m *market) { m.first.Refuted = 0 }, "the chain has not refuted its claim"},
		"another node's": {func(m *market) {
			m.settled = func(j *api.Job) { j.Runs[0].Node = testKey(9).Public(); j.Settlement.Cost = chain.Nano(100 + kept) }
		}, "no such record"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t)
			m.first = &settlement.Claim{Node: testKey(8).Public(), Sequence: 1, Refuted: settlement.RefutedUnjudged, Cost: chain.Nano(kept), Treasury: chain.Nano(kept)}
			m.settled = func(j *api.Job) { j.Settlement.Cost = chain.Nano(100 + kept) }
			m.record = func(o *settlement.Order, _ *settlement.Claim) { o.Spent = chain.Nano(100 + kept) }
			c.change(m)
			done, err := m.client(t, testKey(3).Public()).RunJob(t.Context(), run())
			if c.want != "" {
				if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if r := done.Report(); err != nil || r.Cost != chain.Nano(100+kept) || len(r.Refuted) != 1 || r.Refuted[0] != m.first.Node {
				t.Errorf("%v in %+v", err, r)
			}
		})
	}
}

// TestWhatHasBegunIsNotDepositedAgain: what orders may cost that the chain has begun, or leased, has left the escrow; beside others the escrow has
// to cover those alone that have not. A cluster that says so of all of them has the consumer deposit less, and refuses the order.
func TestWhatHasBegunIsNotDepositedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*api.Job)
		deposit bool
	}{
		"begun":  {func(j *api.Job) { j.Begun = true }, false},
		"leased": {func(j *api.Job) { j.Leased = true }, false},
		"queued": {func(*api.Job) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, nexus := newMarket(t), newFakeNexus(t)
			for n, cap := range map[uint64]chain.Amount{1: chain.Nano(400), 2: chain.Nano(900)} { // of 1,000
				o := order()
				o.Nonce, o.MaxCost = n, cap
				signature, err := testKey(1).Sign(crypto.DomainOrder, o.Payload())
				if err != nil {
					t.Fatal(err)
				}
				j := api.Job{ID: o.ID(), Status: job.Settling, Order: api.OrderToJSON(o), OrderSig: signature, Spec: api.SpecToJSON(spec())}
				if n == 2 {
					c.change(&j)
				}
				nexus.jobs = append(nexus.jobs, j)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			deposits := 0
			node := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					deposits++
					cancel()
				}
				m.chain.ServeHTTP(w, r)
			}))
			client := newClient(t, sdk.Config{Nodes: []string{node}, Nexus: []string{server(t, nexus.mux)}, Genesis: m.chain.genesis})
			err := client.EnsureEscrowFor(ctx, testKey(1), testKey(3).Public(), chain.Nano(600))
			if (deposits > 0) != c.deposit || (err != nil) != c.deposit {
				t.Errorf("%d deposits were sent: %v", deposits, err)
			}
		})
	}
}
