package scheduler_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const testChain chain.ChainID = "test-1"

func key(n int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte{byte(n), byte(n >> 8), 42})
}

var (
	clusterKey   = key(1_000)
	verifyingKey = crypto.Digest{0xee}
)

// world drives one State as a leader would, with a clock of its own.
type world struct {
	state   *scheduler.State
	now     chain.TimeMs
	entries []scheduler.Entry
	effects []scheduler.Effect
	names   map[crypto.PublicKey]string
}

func config() scheduler.Config {
	c := scheduler.DefaultConfig(&chain.Genesis{
		ChainID: testChain, Params: chain.DefaultParams(), Kernels: []chain.GenesisKernel{{Name: "matmul-32", VerifyingKey: verifyingKey}},
	}, clusterKey.Public())
	c.MaxAttempts = 4
	return c
}

func newWorld() *world { return worldWith(config()) }

func worldWith(c scheduler.Config) *world {
	return &world{state: scheduler.New(c), now: 1_000, names: map[crypto.PublicKey]string{}}
}

func (w *world) apply(c scheduler.Command) error {
	e := scheduler.Entry{TimeMs: w.now, Commands: []scheduler.Command{c}}
	w.entries = append(w.entries, e)
	var before []crypto.PublicKey
	if o, ok := c.(scheduler.Observed); ok {
		before = w.listed(o.Order)
	}
	effects, errs := w.state.Apply(e)
	w.state.Audit()
	w.effects = effects
	w.checkPlaces(c, before)
	return errs[0]
}

// mustBeRuled checks that a command was applied or refused by a rule.
func mustBeRuled(t rapid.TB, err error) {
	t.Helper()
	if _, ruled := errors.AsType[*scheduler.Rejection](err); err != nil && !ruled {
		t.Fatal(err)
	}
}

func (w *world) must(t *testing.T, c scheduler.Command) {
	t.Helper()
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
}

// trace writes the last effects, a line each.
func (w *world) trace() string {
	var out []string
	for _, e := range w.effects {
		switch e := e.(type) {
		case scheduler.OpenAuction:
			line := fmt.Sprintf("auction %d among", e.Auction)
			for _, c := range e.Candidates {
				line += " " + w.names[c]
			}
			out = append(out, line)
		case scheduler.SendAssign:
			out = append(out, "assign "+w.names[e.Node])
		case scheduler.SendCancel:
			out = append(out, "cancel "+w.names[e.Node])
		case scheduler.SendAck:
			out = append(out, strings.TrimSpace("ack "+w.names[e.Node]+" "+e.Refuse))
		case scheduler.Post:
			out = append(out, fmt.Sprintf("post %d", e.Cursor))
		}
	}
	return strings.Join(out, "; ")
}

func (w *world) expect(t *testing.T, want string) {
	t.Helper()
	if got := w.trace(); got != want {
		t.Errorf("effects are %q, want %q", got, want)
	}
}

// node is one agent of an owner.
func (w *world) node(n, owner int) crypto.PublicKey {
	id := key(n).Public()
	w.names[id] = fmt.Sprintf("n%d", n)
	return id
}

func hello(owner int) job.Hello {
	return job.Hello{
		ChainID: testChain, Owner: chain.AddressOf(crypto.AccountKeyOf(key(2_000 + owner).Public())), Region: "eu",
		Total: job.Resources{Millicores: 2_000, MemoryMiB: 1_024}, Kernels: []string{"matmul-32", job.KindContainer}, Accepting: true,
	}
}

func (w *world) up(t *testing.T, n, owner int) {
	t.Helper()
	w.must(t, scheduler.NodeUp{Node: w.node(n, owner), Hello: hello(owner)})
}

func spec() job.Spec {
	limits := job.DefaultLimits()
	limits.MemoryBytes = 256 << 20
	return job.Spec{
		Work:      job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}, Deterministic: true}},
		Resources: job.Resources{Millicores: 1_000, MemoryMiB: 256}, Limits: limits, InputBytes: 1,
	}
}

var prices = []chain.UnitPrice{{Resource: chain.CPU, Price: 100_000_000}, {Resource: chain.Memory, Price: 10_000}, {Resource: chain.Network, Price: 1}}

var proven = chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: verifyingKey, Inputs: []chain.FieldBytes{{31: 1}}}

func submit(nonce uint64, policy chain.Policy) scheduler.Submit {
	s := spec()
	if _, zk := policy.(chain.PolicyZK); zk {
		s.Work = job.WorkField{Work: job.Kernel{Name: "matmul-32", Inputs: []crypto.Digest{{1}, {2}}}}
	}
	order := chain.Order{
		ChainID: testChain, Consumer: crypto.AccountKeyOf(key(3_000).Public()), Nonce: nonce, Cluster: clusterKey.Public(), Spec: s.Digest(),
		Policy: chain.PolicyField{Policy: policy}, Caps: prices, FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(1), Deadline: 1_000_000,
	}
	return scheduler.Submit{Order: order, Spec: s, Escrow: chain.Hyper(10)}
}

func bid(order crypto.Digest, n int, cpu uint64) scheduler.SignedBid {
	p := append([]chain.UnitPrice(nil), prices...)
	p[0].Price = cpu * 1_000_000
	return scheduler.SignedBid{Bid: chain.Bid{ChainID: testChain, Order: order, Node: key(n).Public(), Prices: p, Expiry: 900_000}}
}

// done is the end of a run with an output of one MiB that begins with result.
func done(order crypto.Digest, n int, result byte) scheduler.Finished {
	s := spec()
	o := job.Outcome{Exit: chain.ExitOK, Fuel: 5, PeakMemoryBytes: 1 << 20, OutputBytes: 1 << 20, Output: crypto.Digest{result}}
	return scheduler.Finished{Done: job.Done{
		Receipt: chain.UsageReceipt{
			ChainID: testChain, Order: order, Node: key(n).Public(), Sequence: 1, Usage: job.Meter(&s, &o), Fuel: o.Fuel,
			Result: job.ResultDigest(&o), Started: 2_000, Ended: 3_000, Exit: o.Exit,
		},
		Output: o.Output, OutputSize: o.OutputBytes,
	}}
}

// proof is the end of a run of a kernel.
func proof(order crypto.Digest, n int) scheduler.Finished {
	f := done(order, n, 1)
	f.Done.Proof = []byte{1}
	return f
}

func fixedBid(order crypto.Digest, n int) scheduler.SignedBid {
	return scheduler.SignedBid{Bid: chain.Bid{ChainID: testChain, Order: order, Node: key(n).Public(), Fixed: chain.Hyper(1), Expiry: 900_000}}
}

// assign submits an order and gives it to nodes 1 … k.
func (w *world) assign(t *testing.T, s scheduler.Submit, nodes ...int) crypto.Digest {
	t.Helper()
	id := s.Order.ID()
	var bids []scheduler.SignedBid
	for _, n := range nodes {
		w.up(t, n, n)
		if _, zk := s.Order.Policy.Policy.(chain.PolicyZK); zk {
			bids = append(bids, fixedBid(id, n))
		} else {
			bids = append(bids, bid(id, n, 50))
		}
	}
	w.must(t, s)
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: bids})
	w.status(t, id, job.Running)
	return id
}

func (w *world) status(t *testing.T, id crypto.Digest, want job.Status) *scheduler.Job {
	t.Helper()
	j, ok := w.state.Job(id)
	if !ok || j.Status != want {
		t.Fatalf("job is %+v, want %s", j, want)
	}
	return j
}

func TestReplicatedJobSettles(t *testing.T) {
	w := newWorld()
	for n := 1; n <= 3; n++ {
		w.up(t, n, n)
	}
	s := submit(1, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	id := s.Order.ID()
	w.must(t, s)
	if got := w.trace(); !strings.HasPrefix(got, "auction 1 among ") || len(strings.Fields(got)) != 6 {
		t.Fatalf("effects are %q", got)
	}
	j := w.status(t, id, job.Bidding)
	if a := j.Acceptance; a.Order != id || a.Cluster != clusterKey.Public() || a.Sequence < 1_000*uint64(w.now) || a.Outstanding != s.Order.MaxCost {
		t.Errorf("acceptance: %+v", a)
	}
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 90), bid(id, 2, 80), bid(id, 3, 70)}})
	w.expect(t, "assign n3")
	w.must(t, pledge(id, 3, 0, 7))
	w.expect(t, "post 1")
	w.status(t, id, job.Settling)
	begin := w.posted(t, id)[0].(chain.BeginRun)
	if len(begin.Slate) != 3 || begin.Slate[0].Node != key(3).Public() {
		t.Errorf("slate: %+v", begin.Slate)
	}
	says := func(state scheduler.ReplicaState, revealing bool) scheduler.Observed {
		return scheduler.Observed{Order: id, OnChain: scheduler.Replication{Begun: true, Revealing: revealing, Replicas: []scheduler.Replica{
			{Node: key(3).Public(), State: scheduler.ReplicaCommitted}, {Node: key(1).Public(), State: state},
		}}}
	}
	w.must(t, says(scheduler.ReplicaAsked, false))
	w.expect(t, "assign n1; post 2")
	if left := w.posted(t, id); len(left) != 0 {
		t.Errorf("posted while n1 runs it: %+v", left)
	}
	w.must(t, pledge(id, 1, 0, 7)) // as if it were the primary
	if got := w.trace(); !strings.Contains(got, "of place 0 among the job's runs") || len(w.posted(t, id)) != 0 {
		t.Errorf("effects are %q, posted %v", got, w.posted(t, id))
	}
	w.must(t, pledge(id, 1, 1, 7))
	w.expect(t, "post 3")
	if commit := w.posted(t, id)[0].(chain.CommitRun); commit.Node != key(1).Public() || commit.Place != 1 {
		t.Errorf("commitment of %s, at place %d", commit.Node.Short(), commit.Place)
	}
	w.must(t, says(scheduler.ReplicaCommitted, true))
	if j := w.status(t, id, job.Settling); len(j.ToShow()) != 2 || len(w.posted(t, id)) != 0 {
		t.Errorf("asked %v for receipts, posted %v", j.ToShow(), w.posted(t, id))
	}
	w.must(t, shown(id, 3, 8))
	if got := w.trace(); !strings.Contains(got, "not the receipt that the node is bound to") {
		t.Errorf("effects are %q", got)
	}
	w.must(t, shown(id, 1, 7))
	w.expect(t, "ack n1; post 5")
	if reveal := w.posted(t, id); len(reveal) != 1 || reveal[0].(chain.RevealRun).Receipt.Node != key(1).Public() {
		t.Errorf("posted %+v", reveal)
	}
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5), Nodes: []crypto.PublicKey{key(1).Public()}}})
	if j := w.status(t, id, job.Settled); len(j.Counted()) != 1 {
		t.Errorf("counted %v", j.Counted())
	}
	if len(w.state.Outbox(0, 10)) != 0 || !w.state.Outstanding(s.Order.ConsumerAddress()).IsZero() {
		t.Error("something is left of the settled job")
	}
}

// TestReplicatedJobsComeInParts: whoever looks at some of them at a time comes to all, however long the first ones stay.
func TestReplicatedJobsComeInParts(t *testing.T) {
	w := newWorld()
	const jobs = 5
	for n := 1; n <= 2; n++ {
		w.up(t, n, n)
	}
	for n := range uint64(jobs) {
		s := submit(n, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
		id := s.Order.ID()
		w.must(t, s)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: w.status(t, id, job.Bidding).Auction, Bids: []scheduler.SignedBid{bid(id, 1, 50), bid(id, 2, 80)}})
		w.must(t, pledge(id, 1, 0, 7))
		w.status(t, id, job.Settling)
	}
	for limit := 1; limit <= jobs+1; limit++ {
		seen, after, parts := map[crypto.Digest]bool{}, uint64(0), 0
		for parts == 0 || after != 0 {
			var list []*scheduler.Job
			if list, after = w.state.Replicated(after, limit); len(list) > limit {
				t.Fatalf("%d jobs, at most %d were asked for", len(list), limit)
			}
			for _, j := range list {
				seen[j.ID()] = true
			}
			if parts++; parts > jobs+1 {
				t.Fatalf("%d at a time: no end after %d parts", limit, parts)
			}
		}
		if len(seen) != jobs {
			t.Errorf("%d at a time: %d jobs were seen, want %d", limit, len(seen), jobs)
		}
	}
}

// TestUnsettledJobsComeInParts: as those, of jobs whose claims the chain pays or does not.
func TestUnsettledJobsComeInParts(t *testing.T) {
	w := newWorld()
	const jobs = 5
	w.up(t, 1, 1)
	for n := range uint64(jobs) {
		s := submit(n, chain.PolicyNone{})
		id := s.Order.ID()
		w.must(t, s)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: w.status(t, id, job.Bidding).Auction, Bids: []scheduler.SignedBid{bid(id, 1, 50)}})
		w.must(t, done(id, 1, 7))
		w.status(t, id, job.Settling)
	}
	for limit := 1; limit <= jobs+1; limit++ {
		seen, after, parts := map[crypto.Digest]bool{}, uint64(0), 0
		for parts == 0 || after != 0 {
			var list []scheduler.OutboxItem
			if list, after = w.state.Unsettled(after, limit); len(list) > limit {
				t.Fatalf("%d jobs, at most %d were asked for", len(list), limit)
			}
			for _, item := range list {
				seen[item.Order] = true
			}
			if parts++; parts > jobs+1 {
				t.Fatalf("%d at a time: no end after %d parts", limit, parts)
			}
		}
		if len(seen) != jobs {
			t.Errorf("%d at a time: %d jobs were seen, want %d", limit, len(seen), jobs)
		}
	}
}

// TestWhatIsPromisedForJobs: a part of bonds is promised for a job once a node has it, until it is over or lost; and that the chain
// has it locked is known once the chain was seen to have it, of the one that has it now, whoever leads.
func TestWhatIsPromisedForJobs(t *testing.T) {
	for _, policy := range []chain.Policy{chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000}, chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(10_000)}} {
		_, replicated := policy.(chain.PolicyReplicate)
		w := newWorld()
		w.up(t, 1, 1)
		w.up(t, 2, 2)
		s := submit(1, policy)
		p := promise{t, w, policy, s.Order.ID()}
		w.must(t, s)
		p.check("accepted", false, 0)
		p.close(bid(p.order, 1, 50), bid(p.order, 2, 60))
		p.check("given out", true, neverLocked)
		w.must(t, scheduler.Refused{Order: p.order, Node: key(1).Public(), Reason: "no"})
		p.check("refused", false, 0)
		if j, _ := w.state.Job(p.order); j.Status != job.Bidding {
			w.now += chain.TimeMs(config().FailureMs) + chain.TimeMs(config().RetryMs)
			w.must(t, scheduler.Tick{})
		}
		p.close(bid(p.order, 1, 50), bid(p.order, 2, 60))
		p.check("given out again", true, neverLocked)
		w.must(t, p.seen(3, 1))
		p.check("the chain cannot have it yet", true, neverLocked)
		j, _ := w.state.Job(p.order)
		node := 1
		if j.Holder().Node == key(2).Public() {
			node = 2
		}
		if replicated {
			w.must(t, pledge(p.order, node, 0, 7))
		} else {
			w.must(t, traced(p.order, node, 7))
			w.must(t, p.seen(4, 3-node))
			w.must(t, p.seen(4, node, 3-node))
			w.must(t, scheduler.Observed{Order: p.order, OnChain: scheduler.Replication{Height: 4, Replicas: p.seen(4, node).OnChain.Replicas}})
		}
		p.check("done", true, neverLocked)
		w.must(t, p.seen(5, node))
		p.check("on the chain", true, 5)
		w.must(t, p.seen(6, node))
		p.check("and still", true, 5)
		if !replicated {
			p.refute(node)
		}
		w.must(t, scheduler.Confirmed{Order: p.order, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5)}})
		p.check("over", false, 0)
	}
}

// neverLocked is LockedFrom of what no state was seen to have.
const neverLocked = chain.Height(math.MaxUint64)

// promise is a job that parts of bonds are promised for.
type promise struct {
	*testing.T
	w      *world
	policy chain.Policy
	order  crypto.Digest
}

// check holds what is promised for the job, also after a restart.
func (p *promise) check(when string, backed bool, from chain.Height) {
	p.Helper()
	p.w.restored(p.T)
	n := 0
	p.w.state.Backed(func(j *scheduler.Job) {
		if n++; j.LockedFrom() != from || j.Holder() == nil {
			p.Errorf("%s, %s: it is locked from %d on", p.policy, when, j.LockedFrom())
		}
	})
	if (n == 1) != backed {
		p.Errorf("%s, %s: %d jobs are backed", p.policy, when, n)
	}
}

func (p *promise) close(bids ...scheduler.SignedBid) {
	p.Helper()
	j := p.w.status(p.T, p.order, job.Bidding)
	p.w.must(p.T, scheduler.CloseAuction{Order: p.order, Auction: j.Auction, Bids: bids})
}

// seen is that a state of the chain has the job with some nodes.
func (p *promise) seen(height chain.Height, nodes ...int) scheduler.Observed {
	o := scheduler.Observed{Order: p.order, OnChain: scheduler.Replication{Begun: true, Height: height}}
	for _, n := range nodes {
		o.OnChain.Replicas = append(o.OnChain.Replicas, scheduler.Replica{Node: key(n).Public(), State: scheduler.ReplicaCommitted})
	}
	return o
}

// refute has a node's claim refuted, and the job done by another.
func (p *promise) refute(node int) {
	p.Helper()
	p.w.must(p.T, refuted(p.order, node, false, 0))
	p.check("refuted", false, 0)
	p.w.up(p.T, 3, 3)
	p.close(bid(p.order, 3, 50))
	p.w.must(p.T, p.seen(7, node))
	p.w.must(p.T, traced(p.order, 3, 7))
	p.w.must(p.T, p.seen(8, node)) // by a node of the chain that is behind
	p.check("done by another", true, neverLocked)
	p.w.must(p.T, p.seen(9, 3))
	p.check("on the chain again", true, 9)
}

// pledge is a node's with a place among the runs, bound to the receipt of shown.
func pledge(id crypto.Digest, node int, place, result byte) scheduler.MadePledge {
	d := shown(id, node, result).Done
	commitment := chain.RunCommitment(d.Receipt.Digest(), d.Receipt.Node, d.Salt)
	return scheduler.MadePledge{Node: key(node).Public(), Pledge: job.Pledge{Order: id, Commitment: commitment, Place: place}}
}

// shown is done by a node that was bound to it.
func shown(id crypto.Digest, node int, result byte) scheduler.Finished {
	f := traced(id, node, result)
	f.Done.Salt = [32]byte{byte(node)}
	return f
}

// traced is done, of a job whose claim others may judge.
func traced(id crypto.Digest, node int, result byte) scheduler.Finished {
	f := done(id, node, result)
	trace := chain.SecretOf(id, crypto.Digest{result}).Trace(0)
	f.Done.Receipt.Trace = &trace
	return f
}

// posted is what is to be posted for a replicated job.
func (w *world) posted(t *testing.T, id crypto.Digest) []chain.Msg {
	t.Helper()
	j, _ := w.state.Job(id)
	return j.Messages()
}

func TestLostNodeIsReplacedByAnotherOwner(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	w.up(t, 2, 1)
	w.up(t, 3, 3)
	s := submit(1, chain.PolicyNone{})
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 50), bid(id, 3, 60)}})
	w.expect(t, "assign n1")
	w.must(t, scheduler.NodeDown{Node: key(1).Public()})
	w.expect(t, "auction 2 among n3")
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 2, Bids: []scheduler.SignedBid{bid(id, 3, 60)}})
	w.expect(t, "assign n3")
	w.must(t, done(id, 1, 7))
	w.expect(t, "ack n1 the assignment was given to others")
	w.must(t, done(id, 3, 7))
	w.expect(t, "ack n3; post 1")
	claim := w.state.Outbox(0, 1)[0].Claims[0]
	if claim.Receipt.Node != key(3).Public() || claim.Bid.Node != key(3).Public() {
		t.Errorf("claim of node %s", claim.Receipt.Node.Short())
	}
}

func TestReconnectedNodeGetsItsAssignmentAgain(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyNone{})
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 50)}})
	w.up(t, 1, 1)
	w.expect(t, "assign n1")
	h := hello(1)
	h.Running = []crypto.Digest{id}
	w.must(t, scheduler.NodeUp{Node: key(1).Public(), Hello: h})
	w.expect(t, "")
}

func TestWaitingJobSaysWhyAndStartsWhenCapacityComes(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000})
	id := s.Order.ID()
	w.must(t, s)
	w.expect(t, "")
	if j := w.status(t, id, job.Queued); !strings.Contains(w.state.Reason(j), "nodes of 2 owners are needed, those of 1 fit") {
		t.Errorf("reason is %q", w.state.Reason(j))
	}
	w.up(t, 2, 2)
	if got := w.trace(); !strings.HasPrefix(got, "auction 1 among") {
		t.Errorf("effects are %q", got)
	}
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1})
	w.expect(t, "")
	if j := w.status(t, id, job.Queued); !strings.Contains(j.Reason, "no bid counted, those of 2 owners are needed") {
		t.Errorf("reason is %q", j.Reason)
	}
	w.now += 999
	w.must(t, scheduler.Tick{})
	w.expect(t, "")
	w.now++
	w.must(t, scheduler.Tick{})
	if got := w.trace(); !strings.HasPrefix(got, "auction 2 among") {
		t.Errorf("effects are %q", got)
	}
	w.now = 1_000_001
	w.must(t, scheduler.Tick{})
	w.status(t, id, job.Failed)
}

func TestSubmitRefusals(t *testing.T) {
	w := newWorld()
	w.must(t, scheduler.Tick{})
	for rule, change := range map[string]func(*scheduler.Submit){
		"spec":     func(s *scheduler.Submit) { s.Spec.Label = "another" },
		"chain":    func(s *scheduler.Submit) { s.Order.ChainID = "other-1" },
		"cluster":  func(s *scheduler.Submit) { s.Order.Cluster = key(5).Public() },
		"deadline": func(s *scheduler.Submit) { s.Order.Deadline = 1_000 },
		"escrow":   func(s *scheduler.Submit) { s.Escrow = chain.Nano(5) },
		"cost":     func(s *scheduler.Submit) { s.Order.MaxCost = chain.Amount{} },
		"kernel": func(s *scheduler.Submit) {
			other := proven
			other.VerifyingKey[1]++
			*s = submit(1, other)
		},
	} {
		s := submit(1, chain.PolicyNone{})
		change(&s)
		before := w.state.Encode()
		err := w.apply(s)
		if r, ok := errors.AsType[*scheduler.Rejection](err); !ok || r.Rule != rule {
			t.Errorf("%s: %v", rule, err)
		}
		if !bytes.Equal(before, w.state.Encode()) {
			t.Errorf("%s: a refused order changed the state", rule)
		}
	}
	for nonce := range uint64(10) {
		w.must(t, submit(nonce, chain.PolicyNone{}))
	}
	if err := w.apply(submit(11, chain.PolicyNone{})); err == nil {
		t.Error("an eleventh order was accepted on an escrow for ten")
	}
	w.must(t, submit(3, chain.PolicyNone{}))
	w.must(t, scheduler.CancelJob{Order: submit(3, chain.PolicyNone{}).Order.ID()})
	w.must(t, submit(11, chain.PolicyNone{}))
}

// TestRandomHistories drives random commands, and holds each replica, and one
// restored from a snapshot half-way, to the same bytes; Apply asserts the
// package's invariants.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var ids []crypto.Digest
		open := map[crypto.Digest]uint64{}
		steps := rapid.IntRange(5, 80).Draw(t, "steps")
		half, snapshot := steps/2, []byte(nil)
		for i := range steps {
			if i == half {
				snapshot = w.state.Encode()
				w.entries = nil
			}
			w.now += chain.TimeMs(rapid.SampledFrom([]int{0, 1, 1_000, 2_000, 2_000, 400_000, 90_000_000}).Draw(t, "ms"))
			mustBeRuled(t, w.apply(drawCommand(t, w, &ids, open)))
			for _, e := range w.effects {
				if a, ok := e.(scheduler.OpenAuction); ok {
					open[a.Order] = a.Auction
				}
			}
		}
		replica, err := scheduler.Restore(config(), snapshot)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range w.entries {
			again, err := scheduler.DecodeEntry(e.Encode())
			if err != nil {
				t.Fatal(err)
			}
			_, errs := replica.Apply(again)
			mustBeRuled(t, errs[0])
			replica.Pending()
		}
		if !bytes.Equal(replica.Encode(), w.state.Encode()) {
			t.Fatal("a replica restored half-way is in another state")
		}
		for _, id := range ids {
			checkOwners(t, w, id)
		}
	})
}

func drawCommand(t *rapid.T, w *world, ids *[]crypto.Digest, open map[crypto.Digest]uint64) scheduler.Command {
	n := rapid.IntRange(1, 5).Draw(t, "node")
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	if kind <= 1 || len(*ids) == 0 {
		policy := rapid.SampledFrom([]chain.Policy{chain.PolicyNone{}, proven, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, chain.PolicyReplicate{K: 3, N: 3, WindowMs: 60_000}}).Draw(t, "policy")
		s := submit(uint64(len(*ids)), policy)
		*ids = append(*ids, s.Order.ID())
		return s
	}
	id := rapid.SampledFrom(*ids).Draw(t, "job")
	switch kind {
	case 2, 3:
		return scheduler.NodeUp{Node: w.node(n, n), Hello: hello((n + 1) / 2)}
	case 4:
		return scheduler.NodeDown{Node: w.node(n, n)}
	case 5, 6:
		var bids []scheduler.SignedBid
		for b := 1; b <= 5; b++ {
			bids = append(bids, bid(id, b, uint64(rapid.IntRange(50, 110).Draw(t, "price"))), fixedBid(id, b))
		}
		return scheduler.CloseAuction{Order: id, Auction: open[id], Bids: bids}
	case 7, 8:
		if rapid.IntRange(0, 4).Draw(t, "proven") == 0 {
			return proof(id, n)
		}
		return done(id, n, byte(rapid.IntRange(1, 2).Draw(t, "result")))
	}
	return rapid.SampledFrom([]scheduler.Command{
		scheduler.Tick{}, scheduler.CancelJob{Order: id}, scheduler.Refused{Order: id, Node: w.node(n, n), Reason: "busy"},
		scheduler.Confirmed{Order: id}, scheduler.NodeLoad{Node: w.node(n, n)},
	}).Draw(t, "other")
}

// checkOwners is invariant 3: no owner has two runs of a job that count.
func checkOwners(t *rapid.T, w *world, id crypto.Digest) {
	j, ok := w.state.Job(id)
	if !ok {
		return
	}
	seen := map[chain.Address]bool{}
	for i := range j.Runs {
		if j.Runs[i].Stage == scheduler.Lost {
			continue
		}
		if seen[j.Runs[i].Owner] {
			t.Fatalf("an owner runs job %s twice", id.Short())
		}
		seen[j.Runs[i].Owner] = true
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(scheduler.Entry{TimeMs: 1, Commands: []scheduler.Command{submit(1, chain.PolicyNone{}), scheduler.Tick{}}}.Encode())
	f.Add(scheduler.Entry{TimeMs: 1, Commands: []scheduler.Command{done(crypto.Digest{1}, 1, 1)}}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := scheduler.DecodeEntry(raw)
		if err == nil && !bytes.Equal(e.Encode(), raw) {
			t.Fatal("decoded entry encodes otherwise")
		}
	})
}
