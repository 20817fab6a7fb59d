package devnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// JobOptions say how a cluster is loaded with jobs.
type JobOptions struct {
	RPC      []string // URLs of nodes of the chain
	Nexus    []string // URLs of the cluster's servers
	Genesis  *chain.Genesis
	Cluster  crypto.PublicKey // whose servers they are; zero: any that the chain knows
	Consumer chain.Signer     // who orders and pays
	Count    int              // jobs, 1 to 1,000,000
	InFlight int              // of them submitted and without a receipt at a time, 1 to 100,000
	Settle   bool             // wait for the chain to pay every job, and count what it paid
}

// Check returns an error that names the first option out of range.
func (o *JobOptions) Check() error {
	switch {
	case len(o.Nexus) == 0:
		return errors.New("the network's description names no Nexus server")
	case len(o.RPC) == 0:
		return errors.New("the network's description names no node of the chain")
	case o.Count < 1 || o.Count > 1_000_000:
		return fmt.Errorf("count is %d, want 1 to 1000000", o.Count)
	case o.InFlight < 1 || o.InFlight > 100_000:
		return fmt.Errorf("inflight is %d, want 1 to 100000", o.InFlight)
	}
	return nil
}

// JobResult is what a load of jobs measured. Rates are of the time from the first
// submission to the last answer, placement or receipt of the kind.
type JobResult struct {
	Count    int  `json:"count"`
	InFlight int  `json:"inflight"`
	Settle   bool `json:"settle"`

	Accepted   int    `json:"accepted"`  // answered as accepted, which is durable
	Placed     int    `json:"placed"`    // given to a node, as the cluster's jobs say
	Completed  int    `json:"completed"` // with a receipt whose signatures verify, of a program that ended well
	Failed     int    `json:"failed"`    // ended otherwise; the first of them:
	Failure    string `json:"failure,omitempty"`
	Settled    int    `json:"settled"`    // paid, as proven receipts of the chain say; 0 without settlement
	Lost       int    `json:"lost"`       // accepted, and no receipt or, with settlement, no payment came
	Duplicated int    `json:"duplicated"` // with more than one receipt, or paid more than once

	AcceptedPerSecond  float64     `json:"accepted_per_s"`
	PlacedPerSecond    float64     `json:"placed_per_s"`
	CompletedPerSecond float64     `json:"completed_per_s"`
	SettledPerSecond   float64     `json:"settled_per_s"`
	Latency            Percentiles `json:"latency_ms"` // from submission to receipt
	Seconds            float64     `json:"seconds"`    // from the first submission to the last receipt
}

const (
	jobSenders   = 4                // submissions at a time, each of a share of what may be in flight
	jobQuiet     = 60 * time.Second // without news, after which what is missing is lost
	jobLook      = 2 * time.Second  // without news, after which the cluster is asked job by job
	jobLookMost  = 256              // jobs asked for at a time
	jobPause     = 100 * time.Millisecond
	jobPatience  = 15 * time.Minute // until an order's deadline, and more for many jobs
	jobCapFactor = 2                // of caps and costs over what was quoted: a busy node is dearer
	outboxPage   = 100
	outboxWait   = 2 * time.Second
)

// benchProgram is a WASI program that counts down, for about a millisecond:
//
//	(module (memory (export "memory") 1)
//	  (func (export "_start") (local i32)
//	    (local.set 0 (i32.const 1048576))
//	    (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
var benchProgram = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" +
	"\x0a\x19\x01\x17\x01\x01\x7f\x41\x80\x80\xc0\x00\x21\x00\x03\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0b\x0b")

// benchJob is one job of a bench; times are since its beginning.
type benchJob struct {
	order             api.SignedOrder
	id                crypto.Digest
	sent              time.Duration
	accepted          time.Duration // 0: not
	ended             time.Duration // when its receipt came, or its end without one; 0: not
	claims            [][]byte      // as the outbox has them
	shown             []signedReceipt
	submitted, placed chain.TimeMs // by the cluster's clock; 0: not
	failure           string       // how it ended if not well
	paid              int          // settlements of it on the chain
}

// jobBench is one run. What is not said to be guarded is written before the
// clock starts, or by one goroutine.
type jobBench struct {
	options  JobOptions
	client   *sdk.Client
	cluster  crypto.PublicKey
	consumer chain.Address
	progress Progress
	began    time.Time
	quote    *api.Quote    // of one of the jobs
	spec     job.Spec      // of all of them
	cursor   uint64        // in the outbox
	slots    chan struct{} // one token for each job in flight

	mu     sync.Mutex
	jobs   []*benchJob // guarded by mu, once the clock runs
	byID   map[crypto.Digest]*benchJob
	open   int       // submitted and not ended; guarded by mu
	next   int       // of jobs to submit; guarded by mu
	news   time.Time // when something last happened; guarded by mu
	cancel context.CancelCauseFunc
}

// BenchJobs loads a cluster with jobs of about a millisecond, each with an order
// of its own that was signed before the clock starts, and follows every one of
// them to its receipt, and to its payment if that is asked for.
func BenchJobs(ctx context.Context, o JobOptions, progress Progress) (JobResult, error) {
	if err := o.Check(); err != nil {
		return JobResult{}, err
	}
	b := &jobBench{options: o, progress: progress, byID: map[crypto.Digest]*benchJob{}, slots: make(chan struct{}, o.InFlight)}
	b.consumer = chain.AddressOf(o.Consumer.AccountKey())
	if err := b.prepare(ctx); err != nil {
		return JobResult{}, err
	}
	progress(StageSending, 0.2)
	if err := b.run(ctx); err != nil {
		accepted, ended := b.counts()
		return JobResult{}, fmt.Errorf("after %d of %d jobs were accepted and %d had ended: %w", accepted, o.Count, ended, err)
	}
	progress("verifying receipts", 0.7)
	r, err := b.result(ctx)
	if err != nil || !o.Settle {
		return r, err
	}
	progress("waiting for the chain to pay", 0.8)
	return r, b.settle(ctx, &r)
}

// prepare finds the leader, uploads the program, funds the escrow and signs the
// orders.
func (b *jobBench) prepare(ctx context.Context) error {
	status, err := b.findLeader(ctx)
	if err != nil {
		return err
	}
	spec, err := b.upload(ctx)
	if err != nil {
		return err
	}
	quote, err := b.client.Quote(ctx, spec, chain.PolicyNone{}, 0)
	if err != nil {
		return fmt.Errorf("asking for a quote: %w", err)
	}
	if quote.MaxCost.IsZero() {
		return fmt.Errorf("nobody can take the jobs: %s", quote.Reason)
	}
	b.cluster, b.quote, b.spec = quote.Cluster, &quote, spec
	if err := b.client.CheckTerms(ctx, quote.Cluster, status); err != nil {
		return err
	}
	each, ok := quote.MaxCost.ShareFloor(jobCapFactor, 1)
	if !ok {
		return fmt.Errorf("a job may cost %s: twice that fits no amount", quote.MaxCost)
	}
	b.progress("funding the escrow", 0.05)
	if err := b.fund(ctx, each); err != nil {
		return err
	}
	b.progress("signing the orders", 0.1)
	if err := b.sign(spec, each, status.NowMs); err != nil {
		return err
	}
	return b.skipOutbox(ctx)
}

// findLeader makes a client that asks the leader first, who is spared sending
// requests on.
func (b *jobBench) findLeader(ctx context.Context) (api.NexusStatus, error) {
	var failures []error
	for i, url := range b.options.Nexus {
		client, err := b.clientOf([]string{url})
		if err != nil {
			return api.NexusStatus{}, err
		}
		status, err := client.NexusStatus(ctx)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if status.Leader == status.Server || i == len(b.options.Nexus)-1 && b.client == nil {
			order := append([]string{url}, b.options.Nexus[:i]...)
			b.client, err = b.clientOf(append(order, b.options.Nexus[i+1:]...))
			return status, err
		}
	}
	if len(failures) == len(b.options.Nexus) {
		return api.NexusStatus{}, fmt.Errorf("no server of the cluster can be reached: %w", errors.Join(failures...))
	}
	return api.NexusStatus{}, fmt.Errorf("no server of the cluster leads now: %w", errors.Join(failures...))
}

func (b *jobBench) clientOf(nexus []string) (*sdk.Client, error) {
	return sdk.New(sdk.Config{Nodes: b.options.RPC, Nexus: nexus, Genesis: b.options.Genesis, Cluster: b.options.Cluster, Attempts: 2, HTTP: benchHTTP()})
}

// upload puts the program on the cluster and returns the jobs' specification.
func (b *jobBench) upload(ctx context.Context) (job.Spec, error) {
	module, size, err := b.client.PutBlob(ctx, bytes.NewReader(benchProgram))
	if err != nil {
		return job.Spec{}, fmt.Errorf("uploading the program: %w", err)
	}
	spec := job.Spec{
		Label: "bench", Work: job.WorkField{Work: job.Wasm{Module: module}}, InputBytes: uint64(size),
		Resources: job.Resources{Millicores: 10, MemoryMiB: 1},
		Limits:    job.Limits{Fuel: 100_000_000, MemoryBytes: 1 << 20, WallMs: 10_000, OutputBytes: 4 << 10, OutputFiles: 1, LogBytes: 4 << 10},
	}
	return spec, spec.Check()
}

// fund deposits what the escrow lacks of the caps of all jobs, beside those of
// the consumer's other orders.
func (b *jobBench) fund(ctx context.Context, each chain.Amount) error {
	need, ok := each.ShareFloor(uint64(b.options.Count), 1)
	if !ok {
		return fmt.Errorf("%d jobs of at most %s each fit no amount", b.options.Count, each)
	}
	err := b.client.EnsureEscrowFor(ctx, b.options.Consumer, b.cluster, need)
	if err == nil {
		return nil
	}
	account, accountErr := b.client.Account(ctx, b.consumer)
	if accountErr == nil && account.Balance.Less(need) {
		return fmt.Errorf("account %s has %s, and %d jobs need %s in escrow: fund it, or ask for fewer: %w", b.consumer, account.Balance, b.options.Count, need, err)
	}
	return fmt.Errorf("funding the escrow: %w", err)
}

// sign makes the orders.
func (b *jobBench) sign(spec job.Spec, each chain.Amount, now chain.TimeMs) error {
	patience := jobPatience + time.Duration(b.options.Count)*10*time.Millisecond
	order := chain.Order{
		ChainID: b.options.Genesis.ChainID, Cluster: b.cluster, Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		MaxCost: each, Deadline: now + chain.TimeMs(patience.Milliseconds()),
	}
	for _, resource := range chain.Resources {
		highest := uint64(0)
		for _, bid := range b.quote.Bids {
			for _, p := range bid.Prices {
				if p.Resource == resource {
					highest = max(highest, uint64(p.Price))
				}
			}
		}
		if highest > 0 {
			order.Caps = append(order.Caps, chain.UnitPrice{Resource: resource, Price: jobCapFactor * highest})
		}
	}
	first := rand.Uint64()
	for i := range b.options.Count {
		order.Nonce = first + uint64(i)
		signed, err := sdk.Sign(order, spec, b.options.Consumer)
		if err != nil {
			return err
		}
		j := &benchJob{order: signed, id: signed.Order.ID()}
		b.jobs = append(b.jobs, j)
		b.byID[j.id] = j
	}
	return nil
}

// skipOutbox sets the cursor behind what waits there already.
func (b *jobBench) skipOutbox(ctx context.Context) error {
	for {
		page, err := b.client.Outbox(ctx, b.cursor, outboxPage, 0)
		if err != nil {
			return fmt.Errorf("reading the outbox: %w", err)
		}
		if len(page.Items) == 0 {
			return nil
		}
		b.cursor = uint64(page.Items[len(page.Items)-1].Cursor)
	}
}

func (b *jobBench) counts() (accepted, ended int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range b.jobs {
		if j.accepted != 0 {
			accepted++
		}
		if j.ended != 0 {
			ended++
		}
	}
	return accepted, ended
}
