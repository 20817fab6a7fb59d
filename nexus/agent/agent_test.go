package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

var client = &http.Client{Timeout: patience}

func TestBilledTimeIsTheProgramsTime(t *testing.T) {
	if job.FuelPerMs != executor.FuelPerMillisecond {
		t.Errorf("a millisecond is billed as %d units of fuel, a program's clock counts %d", job.FuelPerMs, executor.FuelPerMillisecond)
	}
}

func TestOrderToReceipt(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	p := s.session()
	if h := p.hello; h.Owner != ownerAddr || h.Region != "eu" || h.Total.Millicores != 2_000 || h.Free != h.Total || !h.Accepting || len(h.Running)+len(h.Finished) != 0 {
		t.Fatalf("Hello %+v", h)
	}
	module, size := s.put(writer("result.txt", "what it found\n"))
	spec := wasmSpec(module, size)
	order := orderOf(&spec, 1)
	p.send(offer(7, order, spec, 50))
	reply := await[job.BidReply](p, nil)
	if reply.Auction != 7 || reply.Decline != "" || !a.ID().Verify(crypto.DomainBid, reply.Bid.Payload(), reply.BidSig) {
		t.Fatalf("the answer to the offer: %+v", reply)
	}
	assignment := assignmentOf(order, spec)
	assignment.Bid, assignment.BidSig = reply.Bid, reply.BidSig
	p.send(job.Assign{List: []job.Assignment{assignment}})
	if r := await[job.AssignReply](p, nil); r.Refuse != "" {
		t.Fatalf("refused: %s", r.Refuse)
	}
	log := await[job.Log](p, nil)
	if string(log.Data) != "what it found\n" || log.Stderr || log.Offset != 0 || log.Order != order.ID() {
		t.Errorf("log %+v", log)
	}
	d := p.finish(&assignment)
	if d.Receipt.Exit != chain.ExitOK || d.Receipt.Fuel == 0 || d.Detail != "" {
		t.Errorf("the receipt: exit %s, fuel %d, %q", d.Receipt.Exit, d.Receipt.Fuel, d.Detail)
	}
	if files := p.output(d); len(files) != 1 || files["result.txt"] != "what it found\n" {
		t.Errorf("the output has %q", files)
	}
	o := job.Outcome{Exit: chain.ExitOK, Fuel: d.Receipt.Fuel, PeakMemoryBytes: 64 << 10, OutputBytes: d.OutputSize, Output: d.Output}
	if d.Receipt.Result != job.ResultDigest(&o) || !slices.Equal(d.Receipt.Usage, job.Meter(&spec, &o)) {
		t.Errorf("the receipt does not follow from the outcome: %+v", d.Receipt)
	}
	claim := assignment.Claim(&d)
	if err := claim.Check(); err != nil {
		t.Errorf("the claim: %v", err)
	}
	if st := a.status(t); !slices.Equal(st.Unacked, []crypto.Digest{order.ID()}) || len(st.Running) != 0 {
		t.Errorf("before the Ack: %+v", st)
	}
	p.send(job.Ack{Order: order.ID()})
	p.send(job.Assign{List: []job.Assignment{assignment}}) // handled after the Ack
	again := p.finish(&assignment)
	if again.ReceiptSig != d.ReceiptSig {
		t.Error("an order that was acknowledged ran again")
	}
	if st := a.status(t); len(st.Unacked) != 0 || st.Free != st.Total {
		t.Errorf("after the Ack: %+v", st)
	}
}

func TestHowWorkEnds(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	s.cancels.Store(true) // the fetch of what is too large
	start(t, home(t, g, s))
	p := s.session()
	fuel := func(spec *job.Spec) { spec.Limits.Fuel = 10_000_000 }
	for i, c := range []struct {
		name   string
		module []byte
		change func(*job.Spec)
		exit   chain.ExitStatus
		code   uint32
		detail string
	}{
		{"exits with a code", exiter(3), nil, chain.ExitFailed, 3, ""},
		{"loops for ever", spinner(), fuel, chain.ExitFuel, 0, "fuel"},
		{"takes too long", spinner(), func(spec *job.Spec) { spec.Limits.WallMs = 20 }, chain.ExitTime, 0, ""},
		{"is no program", []byte("not wasm at all"), nil, chain.ExitInvalid, 0, ""},
		{"writes too much", writer("f", "0123456789"), func(spec *job.Spec) { spec.Limits.OutputBytes = 5 }, chain.ExitOutput, 0, "output_bytes"},
		{"leaves a name that no archive has", writer(`a\b`, "x"), nil, chain.ExitOutput, 0, "cannot be packed"},
		{"has larger inputs than it says", exiter(0), func(spec *job.Spec) { spec.InputBytes-- }, chain.ExitInvalid, 0, "larger than input_bytes"},
		{"has smaller inputs than it says", exiter(0), func(spec *job.Spec) { spec.InputBytes++ }, chain.ExitInvalid, 0, "input_bytes is"},
	} {
		a := p.assign(c.module, uint64(i), c.change)
		d := p.finish(&a)
		if d.Receipt.Exit != c.exit || d.Receipt.ExitCode != c.code || !strings.Contains(d.Detail, c.detail) || !d.Output.IsZero() {
			t.Errorf("%s: %s, code %d, %q, output %s", c.name, d.Receipt.Exit, d.Receipt.ExitCode, d.Detail, d.Output.Short())
		}
		worst, err := job.WorstCost(&a.Spec, a.Bid.Prices)
		cost, err2 := chain.Cost(d.Receipt.Usage, a.Bid.Prices)
		if err != nil || err2 != nil || worst.Less(cost) {
			t.Errorf("%s: it costs %s (%v), the worst is %s (%v)", c.name, cost, err2, worst, err)
		}
		p.send(job.Ack{Order: a.Order.ID()})
	}
}

func TestInputThatIsNoDirectory(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	input, size := s.put([]byte("not packed"))
	a := p.assign(exiter(0), 1, func(spec *job.Spec) {
		w := spec.Work.Work.(job.Wasm)
		w.Input = input
		spec.Work.Work, spec.InputBytes = w, spec.InputBytes+size
	})
	if d := p.finish(&a); d.Receipt.Exit != chain.ExitInvalid || !strings.Contains(d.Detail, "no packed directory") {
		t.Errorf("%s, %q", d.Receipt.Exit, d.Detail)
	}
}

func TestReplicasAgreeToTheUnit(t *testing.T) {
	g := genesis()
	var results [2]job.Done
	for i := range results {
		s := newServer(t, g)
		start(t, home(t, g, s))
		p := s.session()
		id, size := s.put(writer("result", "the same\n"))
		spec := wasmSpec(id, size)
		order := orderOf(&spec, 5)
		order.Deadline = 1 << 50 // the same order both times
		a := assignmentOf(order, spec)
		p.send(job.Assign{List: []job.Assignment{a}})
		results[i] = p.finish(&a)
	}
	x, y := results[0].Receipt, results[1].Receipt
	if x.Result != y.Result || x.Fuel != y.Fuel || !slices.Equal(x.Usage, y.Usage) || results[0].Output != results[1].Output {
		t.Errorf("two runs of one order differ:\n%+v\n%+v", x, y)
	}
}

func TestCancelEndsTheRun(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	p := s.session()
	as := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = job.MaxFuel })
	s.cancels.Store(true)
	p.send(job.Cancel{Order: as.Order.ID(), Reason: "not wanted any more"})
	await(p, func(l job.Load) bool { return l.Free.Millicores == 2_000 })
	if st := a.status(t); len(st.Running)+len(st.Unacked) != 0 {
		t.Errorf("after the Cancel: %+v", st)
	}
	// Nothing came but Load, and the node takes the next job.
	next := p.assign(exiter(0), 2, nil)
	p.finish(&next)
}

func TestServerOutageEndsNothing(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	a := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = 1_000_000_000 })
	p.conn.Close(transport.CloseShutdown, "restarting")
	p = s.session()
	order := a.Order.ID()
	if !slices.Contains(p.hello.Running, order) && !slices.Contains(p.hello.Finished, order) {
		t.Errorf("after the outage: Hello %+v", p.hello)
	}
	if d := p.finish(&a); d.Receipt.Exit != chain.ExitFuel {
		t.Errorf("the job ended with %s", d.Receipt.Exit)
	}
	p.conn.Close(transport.CloseShutdown, "restarting before the Ack")
	p = s.session()
	if !slices.Equal(p.hello.Finished, []crypto.Digest{order}) {
		t.Errorf("after the second outage: Hello %+v", p.hello)
	}
	p.finish(&a)
}

func TestInputsAreAwaitedThroughAnOutage(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	s.gate = make(chan struct{})
	start(t, home(t, g, s))
	p := s.session()
	a := p.assign(writer("f", "text"), 1, nil)
	p.conn.Close(transport.CloseShutdown, "restarting") // before a byte of the module was served
	p = s.session()
	close(s.gate)
	if d := p.finish(&a); d.Receipt.Exit != chain.ExitOK {
		t.Errorf("the job ended with %s, %s", d.Receipt.Exit, d.Detail)
	}
}

func TestTwoServersAssignOneRun(t *testing.T) {
	g := genesis()
	s1, s2 := newServer(t, g), newServer(t, g)
	a := start(t, home(t, g, s1, s2))
	p1, p2 := s1.session(), s2.session()
	module := writer("f", "once")
	s2.put(module)
	as := p1.assign(module, 1, nil)
	p2.send(job.Assign{List: []job.Assignment{as}})
	if r := await[job.AssignReply](p2, nil); r.Refuse != "" {
		t.Errorf("the second server's assignment: %q", r.Refuse)
	}
	d1, d2 := p1.finish(&as), p2.finish(&as)
	if d1.ReceiptSig != d2.ReceiptSig {
		t.Error("the servers got different receipts: it ran twice")
	}
	p2.send(job.Ack{Order: as.Order.ID()})
	p2.send(offer(1, as.Order, as.Spec, 0)) // handled after the Ack
	await[job.BidReply](p2, nil)
	if st := a.status(t); len(st.Unacked) != 0 || len(st.Servers) != 2 || !st.Servers[0].Connected || !st.Servers[1].Connected {
		t.Errorf("status %+v", st)
	}
}

func TestRestartWithASpool(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	finished := p.assign(writer("f", "kept\n"), 1, nil)
	first := p.finish(&finished)
	interrupted := p.assign(spinner(), 2, func(spec *job.Spec) { spec.Limits.Fuel = job.MaxFuel })
	s.cancels.Store(true) // the module may still be on its way
	a.stop()

	// What a crash may leave: a half-written record, and the directory of a run.
	spoolDir := filepath.Join(config.Home, "work", "spool")
	journal, err := os.OpenFile(filepath.Join(spoolDir, "spool.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = journal.WriteString("\x00\x00\x01\x00torn")
	}
	if err := errors.Join(err, journal.Close()); err != nil {
		t.Fatal(err)
	}
	leftover := filepath.Join(config.Home, "work", "runs", "leftover")
	if err := os.MkdirAll(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	a = start(t, config)
	p = s.session()
	if len(p.hello.Running) != 0 || !slices.Equal(p.hello.Finished, []crypto.Digest{finished.Order.ID()}) {
		t.Errorf("Hello after the restart: %+v", p.hello)
	}
	again := p.finish(&finished)
	if again.ReceiptSig != first.ReceiptSig {
		t.Error("the Done changed over the restart")
	}
	if files := p.output(again); files["f"] != "kept\n" {
		t.Errorf("the output after the restart: %q", files)
	}
	p.send(job.Assign{List: []job.Assignment{interrupted}}) // as the server does, not finding it in Hello
	if r := await[job.AssignReply](p, nil); r.Refuse != "" {
		t.Errorf("the interrupted job: %q", r.Refuse)
	}
	p.send(job.Ack{Order: finished.Order.ID()})
	p.send(job.Cancel{Order: interrupted.Order.ID(), Reason: "done with it"})
	await(p, func(l job.Load) bool { return l.Free.Millicores == 2_000 })
	a.stop()
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("the directory of a run outlived the restart: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(spoolDir, "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "spool.log" || filepath.Base(left[1]) != "spool.log.damaged" {
		t.Errorf("the spool holds %q, %v", left, err)
	}
	start(t, config)
	if p = s.session(); len(p.hello.Finished) != 0 {
		t.Errorf("acknowledged, and still in Hello: %+v", p.hello)
	}
}

func TestDoneThatServersRefuseIsForgotten(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	p := s.session()
	as := p.assign(exiter(0), 1, nil)
	first := p.finish(&as)
	p.send(job.Ack{Order: as.Order.ID(), Refuse: "the assignment was given to others"})
	p.send(job.Assign{List: []job.Assignment{as}})
	if second := p.finish(&as); second.ReceiptSig == first.ReceiptSig {
		t.Error("a refused Done was sent again for a new assignment")
	}
	if st := a.status(t); len(st.Unacked) != 1 {
		t.Errorf("status %+v", st)
	}
}

func TestDeclinesSayWhy(t *testing.T) {
	g := genesis(chain.GenesisKernel{Name: "matmul-4", VerifyingKey: crypto.Digest{9}, FixedGas: chain.GasUnits(1)})
	s := newServer(t, g)
	config := home(t, g, s)
	start(t, config)
	p := s.session()
	for i, c := range []struct {
		want  string
		order func(*chain.Order)
		spec  func(*job.Spec)
	}{
		{"the order is of chain elsewhere", func(o *chain.Order) { o.ChainID = "elsewhere" }, nil},
		{`region "us" is wanted, this node is in "eu"`, nil, func(s *job.Spec) { s.Region = "us" }},
		{"the work may end at", func(o *chain.Order) { o.Deadline = chain.TimeMs(time.Now().Add(time.Minute).UnixMilli()) }, nil},
		{"3000 millicores needed, 2000 free", nil, func(s *job.Spec) { s.Resources.Millicores = 3_000 }},
		{"2048 MiB of memory needed, 1024 free", nil, func(s *job.Spec) { s.Resources.MemoryMiB = 2_048 }},
		{"MiB of disk needed, this node has 256", nil, func(s *job.Spec) { s.Limits.OutputBytes = 300 << 20 }},
		{"the order has no cap for Network", func(o *chain.Order) { o.Caps = o.Caps[:2] }, nil},
		{"Memory costs 300000000 here, the order's cap is 5", func(o *chain.Order) { o.Caps[1].Price = 5 }, nil},
		{"the work may cost", func(o *chain.Order) { o.MaxCost = chain.Nano(100) }, nil},
		{"Memory costs 300000000 here, the order's cap is 299999999", func(o *chain.Order) { o.Caps[1].Price, o.PriorityBps = 599_999_999, 10_000 }, nil},
		{"the work may cost", func(o *chain.Order) {
			o.MaxCost, o.PriorityBps = chain.Nano(2*worst(t, config, o.Spec).Nano()-1), 10_000
		}, nil},
		{"for each of 2 replicas", func(o *chain.Order) {
			o.Policy.Policy = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}
			o.MaxCost = worst(t, config, o.Spec)
		}, nil},
		{"limits.wall_ms is 150001 under policy replicate(2 of 3)", func(o *chain.Order) {
			o.Policy.Policy = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}
		}, func(s *job.Spec) { s.Limits.WallMs = 150_001 }},
		{"kernel matmul-4 is not proven here", func(o *chain.Order) {
			o.Policy.Policy = chain.PolicyZK{Kernel: "matmul-4", Inputs: []chain.FieldBytes{{}, {}}}
		}, func(s *job.Spec) {
			s.Work.Work = job.Kernel{Name: "matmul-4", Inputs: []crypto.Digest{{1}, {2}}}
		}},
	} {
		spec := wasmSpec(crypto.Digest{1}, 100)
		if c.spec != nil {
			c.spec(&spec)
		}
		order := orderOf(&spec, uint64(i))
		order.Caps = slices.Clone(order.Caps)
		if c.order != nil {
			c.order(&order)
		}
		p.send(offer(uint64(i), order, spec, 0))
		if r := await[job.BidReply](p, nil); r.Auction != uint64(i) || !strings.Contains(r.Decline, c.want) {
			t.Errorf("offer %d: %q, want %q", i, r.Decline, c.want)
		}
	}
}

// worst is what one run of the tests' specification may cost at the config's
// prices.
func worst(t *testing.T, c agent.Config, digest crypto.Digest) chain.Amount {
	t.Helper()
	spec := wasmSpec(crypto.Digest{1}, 100)
	cost, err := job.WorstCost(&spec, []chain.UnitPrice{
		{Resource: chain.CPU, Price: c.CPUPriceAtto}, {Resource: chain.Memory, Price: c.MemoryPriceAtto}, {Resource: chain.Network, Price: c.NetworkPriceAtto},
	})
	if err != nil || spec.Digest() != digest {
		t.Fatalf("%v; of another specification: %v", err, spec.Digest() != digest)
	}
	return cost
}

func TestBusyNodeIsDearerAndThenFull(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	spec := wasmSpec(crypto.Digest{1}, 100)
	order := orderOf(&spec, 100)
	offer := func(order chain.Order) job.BidReply {
		p.send(offer(0, order, spec, 0))
		return await[job.BidReply](p, nil)
	}
	endless := func(spec *job.Spec) { spec.Limits.Fuel = job.MaxFuel }
	if r := offer(order); r.Decline != "" || r.Bid.Prices[0].Price != config.CPUPriceAtto {
		t.Errorf("idle: %+v", r)
	}
	p.assign(spinner(), 1, endless)
	a.waitFor(t, func(st agent.Status) bool { return st.Free.Millicores == 1_000 })
	if r := offer(order); r.Decline != "" || r.Bid.Prices[0].Price != config.CPUPriceAtto*5/4 {
		t.Errorf("half busy, surcharge 50 %%: %+v", r)
	}
	capped := order
	capped.Caps = slices.Clone(order.Caps)
	capped.Caps[0].Price = config.CPUPriceAtto + 1
	if r := offer(capped); r.Decline != "" || r.Bid.Prices[0].Price != config.CPUPriceAtto+1 {
		t.Errorf("half busy, with a cap between: %+v", r)
	}
	p.assign(spinner(), 2, endless)
	a.waitFor(t, func(st agent.Status) bool { return st.Free.Millicores == 0 })
	if r := offer(order); !strings.Contains(r.Decline, "no capacity: 1000 millicores needed, 0 free") {
		t.Errorf("full: %+v", r)
	}
}

func TestHostileAssignmentsAreRefused(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	p := s.session()
	other := seedKey("stranger")
	for i, c := range []struct {
		want   string
		change func(*job.Assignment)
	}{
		{"signature of the order", func(a *job.Assignment) { a.OrderSig[3] ^= 1 }},
		{"signature of the acceptance", func(a *job.Assignment) { a.AcceptanceSig = other.Sign(crypto.DomainAcceptance, a.Acceptance.Payload()) }},
		{"signature of the bid", func(a *job.Assignment) { a.BidSig = crypto.Signature{} }},
		{"signature of the bid", func(a *job.Assignment) { a.Bid.Prices[0].Price = 0 }}, // a price that the node did not bid
		{"gives gpus", func(a *job.Assignment) {
			a.Spec.Resources.GPUs, a.Spec.Resources.GPUMilli, a.Devices = 1, job.GPUWhole, []byte{0}
			*a = assignmentOf(orderOf(&a.Spec, 1), a.Spec)
			a.Devices = []byte{0}
		}},
		{"the bid is by node", func(a *job.Assignment) {
			a.Bid.Node = other.Public()
			a.BidSig = other.Sign(crypto.DomainBid, a.Bid.Payload())
		}},
		{"of one order", func(a *job.Assignment) { a.Bid.Order[0] ^= 1; *a = sign(*a) }},
		{"of one order", func(a *job.Assignment) { a.Acceptance.Order[0] ^= 1; *a = sign(*a) }},
		{"the acceptance is by cluster", func(a *job.Assignment) {
			a.Acceptance.Cluster = other.Public()
			a.AcceptanceSig = other.Sign(crypto.DomainAcceptance, a.Acceptance.Payload())
		}},
		{"the acceptance covers", func(a *job.Assignment) { a.Acceptance.Outstanding = chain.Nano(1); *a = sign(*a) }},
		{"the acceptance has sequence 0", func(a *job.Assignment) { a.Acceptance.Sequence = 0; *a = sign(*a) }},
		{"of chain hypermesh-test", func(a *job.Assignment) { a.Bid.ChainID = "another"; *a = sign(*a) }},
		{"the sequence is 0", func(a *job.Assignment) { a.Sequence = 0 }},
		{"the bid expired", func(a *job.Assignment) { a.Bid.Expiry = 1; *a = sign(*a) }},
	} {
		spec := wasmSpec(crypto.Digest{1}, 100)
		as := assignmentOf(orderOf(&spec, uint64(i)), spec)
		c.change(&as)
		p.send(job.Assign{List: []job.Assignment{as}})
		if r := await[job.AssignReply](p, nil); r.Order != as.Order.ID() || !strings.Contains(r.Refuse, c.want) {
			t.Errorf("assignment %d: %q, want %q", i, r.Refuse, c.want)
		}
	}
	if st := a.status(t); len(st.Running)+len(st.Unacked) != 0 {
		t.Errorf("a refused assignment left something: %+v", st)
	}
}

// TestReplayedAssignmentRunsOnce assigns a finished job again: before its result
// was acknowledged, after that, and after a restart has forgotten both.
func TestReplayedAssignmentRunsOnce(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	as := p.assign(writer("f", "once\n"), 1, nil)
	first := p.finish(&as)
	replay := func(when string) {
		t.Helper()
		p.send(job.Assign{List: []job.Assignment{as}})
		if r := await[job.AssignReply](p, nil); r.Refuse != "" {
			t.Errorf("%s: %q", when, r.Refuse)
		}
		if again := p.finish(&as); again.ReceiptSig != first.ReceiptSig {
			t.Errorf("%s: another receipt, so it ran twice", when)
		}
	}
	replay("before the Ack")
	p.send(job.Ack{Order: as.Order.ID()})
	replay("after the Ack")
	a.stop()
	start(t, config)
	p = s.session()
	p.send(job.Assign{List: []job.Assignment{as}})
	if r := await[job.AssignReply](p, nil); !strings.Contains(r.Refuse, "signed and handed over before") {
		t.Errorf("after a restart: %q", r.Refuse)
	}
}

func TestServerThatBreaksTheProtocolLosesItsSession(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	for name, frame := range map[string][]byte{
		"garbage":                      []byte("\x00\x00\x00\x05hello"),
		"a length beyond the limit":    {0xff, 0xff, 0xff, 0xff},
		"what only agents send":        framed(job.AssignReply{}),
		"an assignment of another job": framed(job.Assign{List: []job.Assignment{mismatched()}}),
		"a Cancel with a long reason":  framed(job.Cancel{Reason: strings.Repeat("x", 600)}),
		"an offer of another job":      framed(offer(0, mismatched().Order, mismatched().Spec, 0)),
	} {
		p := s.session()
		if _, err := p.control.Write(frame); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.conn.Done():
		case <-time.After(patience):
			t.Fatalf("%s: the session goes on", name)
		}
		if err, want := p.conn.Err(), fmt.Sprintf("code %d", transport.CloseViolation); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: closed with %v", name, err)
		}
	}
	s.session() // and it comes back
}

func framed(m job.Message) []byte {
	var out strings.Builder
	if err := transport.WriteMessage(&out, job.EncodeMessage(m)); err != nil {
		panic(err)
	}
	return []byte(out.String())
}

func mismatched() job.Assignment {
	spec := wasmSpec(crypto.Digest{1}, 1)
	order := orderOf(&spec, 1)
	spec.Label = "another"
	return assignmentOf(order, spec)
}
