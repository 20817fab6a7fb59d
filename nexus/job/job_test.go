package job_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

var consumer = crypto.PrivateKeyFromSeed([32]byte{1})

func wasmSpec() job.Spec {
	return job.Spec{
		Label:      "render",
		Work:       job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}, Input: crypto.Digest{2}, Args: []string{"-v", "x"}, Env: []string{"A=1"}, Deterministic: true}},
		InputBytes: 3 << 20, Resources: job.Resources{Millicores: 1_000, MemoryMiB: 512}, Limits: job.DefaultLimits(), Region: "eu",
	}
}

func kernelSpec() job.Spec {
	s := wasmSpec()
	s.Work = job.WorkField{Work: job.Kernel{Name: "matmul-32", Inputs: []crypto.Digest{{1}, {2}}}}
	return s
}

func containerSpec() job.Spec {
	s := wasmSpec()
	s.Work = job.WorkField{Work: job.Container{
		Image: crypto.Digest{1}, Input: crypto.Digest{2}, Command: []string{"/serve", "-v"}, Env: []string{"A=1"}, Processes: 16,
		Service: job.Service{Restart: job.RestartAlways, Restarts: 5, Health: job.HealthCheck{Port: 80, Path: "/healthz", StartMs: 1_000, IntervalMs: 500, TimeoutMs: 200, Failures: 3}},
	}}
	return s
}

func orderFor(s job.Spec, p chain.Policy) chain.Order {
	return chain.Order{
		ChainID: "fixture-1", Consumer: crypto.AccountKeyOf(consumer.Public()), Cluster: consumer.Public(), Spec: s.Digest(), Policy: chain.PolicyField{Policy: p},
		Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 1}}, MaxCost: chain.Nano(5), Deadline: 9,
	}
}

var (
	replicate = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}
	proven    = chain.PolicyZK{Kernel: "matmul-32", Inputs: []chain.FieldBytes{{31: 1}}}
)

// messages is one of every kind.
func messages() map[string]job.Message {
	spec := wasmSpec()
	order := orderFor(spec, replicate)
	bid := chain.Bid{ChainID: "fixture-1", Order: order.ID(), Node: consumer.Public(), Prices: order.Caps, Expiry: 8}
	assignment := job.Assignment{Order: order, Bid: bid, Spec: spec, Sequence: 1, Place: 3}
	challenge := chain.HardwareChallenge{ChainID: "job-test-1", Node: consumer.Public(), Seed: crypto.Digest{9}}
	outcome := job.Outcome{Exit: chain.ExitOK, Fuel: 7, PeakMemoryBytes: 1 << 20, OutputBytes: 9, Output: crypto.Digest{3}, Memory: crypto.Digest{12}}
	return map[string]job.Message{
		"hello":         job.Hello{ChainID: "fixture-1", Region: "eu", Total: job.Resources{Millicores: 4, MemoryMiB: 5}, Kernels: []string{"matmul-32"}, Running: []crypto.Digest{{1}}, Accepting: true},
		"offers":        job.Offers{List: []job.Offer{{Auction: 3, Order: order}}, Specs: []job.Spec{spec}, CloseMs: 50},
		"bids":          job.Bids{List: []job.BidReply{{Auction: 3, Bid: bid}}},
		"assign":        job.Assign{List: []job.Assignment{assignment}},
		"assign_reply":  job.AssignReply{Order: order.ID(), Refuse: "busy"},
		"cancel":        job.Cancel{Order: order.ID(), Reason: "late"},
		"log":           job.Log{Order: order.ID(), Begun: 3, Offset: 4, Data: []byte("hello\n")},
		"done":          job.Done{Receipt: assignment.Receipt(&outcome, 1, 2), Output: crypto.Digest{3}, OutputSize: 9},
		"ack":           job.Ack{Order: order.ID()},
		"load":          job.Load{Free: job.Resources{Millicores: 1}, Accepting: true},
		"roster":        job.Roster{Index: 7, Servers: []string{"a@nexus-1.example:7200", "b@nexus-2.example:7200"}},
		"watch":         job.Watch{Lease: chain.LeaseID{Order: order.ID()}, Terms: order.ID(), Service: chain.ServiceTerms{EpochMs: 60_000, AvailabilityBps: 9_900, RebateBps: 5_000}, Since: 7, Until: 9, At: 8, Abroad: true, From: 5, Before: 6},
		"probe":         job.Probe{Lease: chain.LeaseID{Order: order.ID()}, Nonce: crypto.Digest{4}, Bytes: 5, Signature: crypto.Signature{7}},
		"probe_reply":   job.ProbeReply{Lease: chain.LeaseID{Order: order.ID()}, Nonce: crypto.Digest{4}, Serving: true, Data: []byte{1, 2}},
		"peer_report":   job.PeerReport{Epoch: chain.ServiceEpoch{ChainID: "job-test-1", Epoch: 3}, Report: chain.ServiceReport{Sent: 10, Answered: 2}},
		"measure":       job.Measure{Challenge: challenge, HeldMiB: 5, Here: true, Peer: consumer.Public()},
		"lanes_shown":   job.LanesShown{Challenge: challenge, HeldMiB: 5, Roots: job.LaneRoots{{Fill: crypto.Digest{6}, Walk: crypto.Digest{7}}, {}}, Signature: crypto.Signature{8}},
		"lane_question": job.LaneQuestion{Challenge: challenge, Peer: consumer.Public(), Nonce: crypto.Digest{4}, Signature: crypto.Signature{8}},
		"lane_opened":   job.LaneOpened{Challenge: challenge, Peer: consumer.Public(), Nonce: crypto.Digest{4}, Index: 1, Opening: hardware.Opening{From: [][]byte{{1}}, Seen: []byte{2}}},
		"measured":      job.Measured{Challenge: challenge, Verdict: chain.HardwareVerdict{Peer: consumer.Public(), Missing: 3}},
		"ask_home":      job.AskHome{Cluster: consumer.Public()},
		"at_home":       job.AtHome{Home: chain.NodeHome{ChainID: "job-test-1", Node: consumer.Public(), Cluster: consumer.Public(), At: 9}, Signature: crypto.Signature{8}},
		"tunnel":        job.Tunnel{Order: order.ID(), ID: crypto.Digest{4}},
		"pledge":        job.Pledge{Order: order.ID(), Commitment: crypto.Digest{5}, Place: 7, Signature: crypto.Signature{6}},
		"show":          job.Show{Order: order.ID()},
		"judge":         job.Judge{Panel: crypto.Digest{7}, Order: order.ID(), Assignment: &assignment},
		"judge_open":    job.Judge{Panel: crypto.Digest{7}, Order: order.ID(), Open: true},
		"ballot":        job.Ballot{Order: order.ID(), Panel: crypto.Digest{7}, Node: consumer.Public(), Commitment: crypto.Digest{5}, Signature: crypto.Signature{6}},
		"opening":       job.Opening{Panel: crypto.Digest{7}, Node: consumer.Public(), Testimony: chain.Testimony{Finding: chain.FoundResult, Work: crypto.Digest{8}, Other: crypto.Digest{1}, Link: crypto.Digest{2}}, Salt: [32]byte{9}},
		"unanswered":    job.Unanswered{Lease: chain.LeaseID{Order: order.ID()}, Nonce: crypto.Digest{4}},
		"ack_sealed":    job.Ack{Order: order.ID(), Attestation: crypto.Signature{7}, Revealed: true},
		"reveal":        job.Reveal{Order: order.ID(), Key: chain.OutputKey{8}},
	}
}

// frozen compares an encoding with its fixture.
func frozen(t *testing.T, name string, got []byte) {
	t.Helper()
	golden.CheckHex(t, filepath.Join("testdata", name+".hex"), got)
}

func TestFixtures(t *testing.T) {
	for name, spec := range map[string]job.Spec{"spec_wasm": wasmSpec(), "spec_kernel": kernelSpec(), "spec_container": containerSpec()} {
		frozen(t, name, spec.Encode())
		again, err := job.DecodeSpec(spec.Encode())
		if err != nil || again.Digest() != spec.Digest() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range messages() {
		raw := job.EncodeMessage(m)
		frozen(t, "message_"+name, raw)
		again, err := job.DecodeMessage(raw)
		if err != nil || !bytes.Equal(job.EncodeMessage(again), raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpecRefusesByName(t *testing.T) {
	for want, change := range map[string]func(*job.Spec){
		"label has 65 bytes":               func(s *job.Spec) { s.Label = strings.Repeat("l", 65) },
		"region has 33 bytes":              func(s *job.Spec) { s.Region = strings.Repeat("r", 33) },
		"input_bytes is 0":                 func(s *job.Spec) { s.InputBytes = 0 },
		"limits.fuel is 0":                 func(s *job.Spec) { s.Limits.Fuel = 0 },
		"limits.memory_bytes is":           func(s *job.Spec) { s.Limits.MemoryBytes = job.MaxMemoryBytes + 1 },
		"limits.wall_ms is 0":              func(s *job.Spec) { s.Limits.WallMs = 0 },
		"limits.output_bytes is":           func(s *job.Spec) { s.Limits.OutputBytes = 1 << 60 },
		"resources.millicores is 0":        func(s *job.Spec) { s.Resources.Millicores = 0 },
		"below limits.memory_bytes":        func(s *job.Spec) { s.Resources.MemoryMiB = 1 },
		"work.module is zero":              func(s *job.Spec) { s.Work.Work = job.Wasm{} },
		"work.args has 257 entries":        func(s *job.Spec) { s.Work.Work = job.Wasm{Module: crypto.Digest{1}, Args: make([]string, 257)} },
		"work.env has a zero byte":         func(s *job.Spec) { s.Work.Work = job.Wasm{Module: crypto.Digest{1}, Env: []string{"A=\x00"}} },
		"resources.gpus is 17":             func(s *job.Spec) { s.Resources.GPUs = 17 },
		"resources.gpu_milli is 5 without": func(s *job.Spec) { s.Resources.GPUMilli = 5 },
		"resources.gpu_milli is 1001":      func(s *job.Spec) { s.Resources.GPUs, s.Resources.GPUMilli = 1, 1_001 },
		"of several gpus all is taken":     func(s *job.Spec) { s.Resources.GPUs, s.Resources.GPUMilli = 2, 500 },
		"scheduling.class 3":               func(s *job.Spec) { s.Scheduling.Class = 3 },
		"scheduling.gpu_kind has 33 bytes": func(s *job.Spec) { s.Scheduling.GPUKind = strings.Repeat("k", 33) },
		"scheduling.gang.size is 65":       func(s *job.Spec) { s.Scheduling.Gang = job.Gang{ID: crypto.Digest{1}, Size: 65} },
		"scheduling.gang.size is 1":        func(s *job.Spec) { s.Scheduling.Gang.Size = 1 },
		"scheduling.gang wants an id":      func(s *job.Spec) { s.Scheduling.Gang.Size = 2 },
		"scheduling.after has 17 orders":   func(s *job.Spec) { s.Scheduling.After = make([]crypto.Digest, 17) },
		"scheduling.after is not in":       func(s *job.Spec) { s.Scheduling.After = []crypto.Digest{{2}, {1}} },
		"input_of is not one of": func(s *job.Spec) {
			s.Work.Work = job.Wasm{Module: crypto.Digest{1}}
			s.Scheduling.InputOf = crypto.Digest{1}
		},
		"input_of is for programs without": func(s *job.Spec) { s.Scheduling.After = []crypto.Digest{{1}}; s.Scheduling.InputOf = crypto.Digest{1} },
		"output_to has 9 entries":          func(s *job.Spec) { s.OutputTo = slices.Repeat([]string{"age1x"}, 9) },
		"output_to has \"ssh-ed25519 A\"":  func(s *job.Spec) { s.OutputTo = []string{"age1x", "ssh-ed25519 A"} },
		"output_to has \"age1\"":           func(s *job.Spec) { s.OutputTo = []string{"age1"} },
		"output_to has \"age1\\n":          func(s *job.Spec) { s.OutputTo = []string{"age1\nage1"} },
		"of at most 2048 bytes":            func(s *job.Spec) { s.OutputTo = []string{"age1" + strings.Repeat("q", 2_045)} },
		"work.inputs has 0":                func(s *job.Spec) { s.Work.Work = job.Kernel{Name: "matmul-32"} },
		"work.name":                        func(s *job.Spec) { s.Work.Work = job.Kernel{Name: "No Such", Inputs: []crypto.Digest{{1}}} },
	} {
		s := wasmSpec()
		change(&s)
		err := s.Check()
		if !errors.Is(err, job.ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrSpec with %q", err, want)
		}
	}
	if _, err := job.DecodeSpec(make([]byte, job.MaxSpecBytes+1)); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("an oversized specification: %v", err)
	}
}

func TestOrderAndSpecBelongTogether(t *testing.T) {
	live := wasmSpec()
	live.Work.Work = job.Wasm{Module: crypto.Digest{1}}
	sealed := wasmSpec()
	sealed.OutputTo = []string{"age1qqq"}
	drawing := wasmSpec()
	drawing.Resources.GPUs, drawing.Resources.GPUMilli = 1, 1_000
	reading := wasmSpec()
	reading.Work.Work = job.Wasm{Module: crypto.Digest{1}, Deterministic: true}
	reading.Scheduling.After, reading.Scheduling.InputOf = []crypto.Digest{{9}}, crypto.Digest{9}
	other := kernelSpec()
	other.Work.Work = job.Kernel{Name: "matmul-16", Inputs: []crypto.Digest{{1}}}
	for name, c := range map[string]struct {
		spec   job.Spec
		policy chain.Policy
		good   bool
	}{
		"none, live":                   {live, chain.PolicyNone{}, true},
		"none, deterministic":          {wasmSpec(), chain.PolicyNone{}, true},
		"none, encrypted":              {sealed, chain.PolicyNone{}, true},
		"replicate, encrypted":         {sealed, replicate, false},
		"replicate, deterministic":     {wasmSpec(), replicate, true},
		"replicate, gpus":              {drawing, replicate, false},
		"optimistic, gpus":             {drawing, chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(10)}, false},
		"none, another's output":       {reading, chain.PolicyNone{}, true},
		"replicate, another's output":  {reading, replicate, false},
		"optimistic, another's output": {reading, chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(10)}, false},
		"none, gpus":                   {drawing, chain.PolicyNone{}, true},
		"zk, kernel":                   {kernelSpec(), proven, true},
		"replicate, live":              {live, replicate, false},
		"replicate, kernel":            {kernelSpec(), replicate, false},
		"none, kernel":                 {kernelSpec(), chain.PolicyNone{}, false},
		"zk, program":                  {wasmSpec(), proven, false},
		"zk, a kernel of other size":   {other, proven, false},
	} {
		order := orderFor(c.spec, c.policy)
		if err := job.CheckOrder(&order, &c.spec); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec := wasmSpec()
	order := orderFor(spec, replicate)
	spec.Label = "another"
	if err := job.CheckOrder(&order, &spec); err == nil {
		t.Error("an order was taken with a specification that it does not name")
	}
	spec = wasmSpec()
	lease := orderFor(spec, chain.PolicyNone{})
	lease.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1}}}
	if err := job.CheckOrder(&lease, &spec); !errors.Is(err, job.ErrSpec) {
		t.Errorf("an order for a lease was taken as a job: %v", err)
	}
}

// TestJudgedWorkFitsJurors: work that a panel may have to run again takes no more than a quarter
// of the time that its jurors have; other work takes what it likes.
func TestJudgedWorkFitsJurors(t *testing.T) {
	p := chain.DefaultParams()
	for _, c := range []struct {
		policy chain.Policy
		wallMs uint64
		good   bool
	}{
		{replicate, p.CommitMs / 4, true},
		{replicate, p.CommitMs/4 + 1, false},
		{chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(10)}, p.CommitMs / 4, true},
		{chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(10)}, p.CommitMs/4 + 1, false},
		{chain.PolicyNone{}, 2 * p.CommitMs, true},
	} {
		if limits := job.LimitsUnder(c.policy, &chain.Params{CommitMs: 60_000}); limits.WallMs != 15_000 && job.Judged(c.policy) {
			t.Errorf("%s: by default %d ms", c.policy, limits.WallMs)
		}
		spec := wasmSpec()
		spec.Limits.WallMs = c.wallMs
		order := orderFor(spec, c.policy)
		err := job.CheckJudged(&order, &spec, &p)
		if (err == nil) != c.good || err != nil && (!errors.Is(err, job.ErrSpec) || !strings.Contains(err.Error(), "limits.wall_ms")) {
			t.Errorf("%s, %d ms: %v", c.policy, c.wallMs, err)
		}
	}
}

func TestMeterOfDeterministicWorkIgnoresTheClock(t *testing.T) {
	spec := wasmSpec()
	fast := job.Outcome{Exit: chain.ExitOK, Fuel: 10*job.FuelPerMs + 1, PeakMemoryBytes: 5<<20 + 1, WallMs: 3, OutputBytes: 1}
	slow := fast
	slow.WallMs = 9_000
	for _, o := range []job.Outcome{fast, slow} {
		usage := job.Meter(&spec, &o)
		want := []chain.Usage{
			{Resource: chain.CPU, Amount: 1_000, DurationMs: 11}, {Resource: chain.Memory, Amount: 6, DurationMs: 11}, {Resource: chain.Network, Amount: 4, DurationMs: 11},
		}
		for i := range want {
			if usage[i] != want[i] {
				t.Errorf("usage %d is %+v, want %+v", i, usage[i], want[i])
			}
		}
	}
	live := spec
	live.Work.Work = job.Wasm{Module: crypto.Digest{1}}
	if got := job.Meter(&live, &slow)[0].DurationMs; got != 9_000 {
		t.Errorf("live work is billed for %d ms, want 9000", got)
	}
}

func TestWorstCostBoundsEveryRun(t *testing.T) {
	spec := wasmSpec()
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1 << 40}, {Resource: chain.Memory, Price: 1 << 40}, {Resource: chain.Network, Price: 1 << 40}}
	worst, err := job.WorstCost(&spec, prices)
	if err != nil {
		t.Fatal(err)
	}
	o := job.Outcome{Fuel: spec.Limits.Fuel, PeakMemoryBytes: spec.Limits.MemoryBytes, WallMs: 1 << 39, OutputBytes: spec.Limits.OutputBytes}
	cost, err := chain.Cost(job.Meter(&spec, &o), prices)
	if err != nil || worst.Less(cost) {
		t.Errorf("a run at every limit costs %s, %v, the bound is %s", cost, err, worst)
	}
}

func TestResultDigestCoversWhatReplicasCompare(t *testing.T) {
	base := job.Outcome{Exit: chain.ExitOK, Output: crypto.Digest{1}, Outputs: []chain.FieldBytes{{1}}}
	same := base
	same.Fuel, same.WallMs, same.PeakMemoryBytes = 1, 2, 3
	if job.ResultDigest(&base) != job.ResultDigest(&same) {
		t.Error("what was used is part of the result")
	}
	for name, change := range map[string]func(*job.Outcome){
		"exit":    func(o *job.Outcome) { o.Exit = chain.ExitFailed },
		"code":    func(o *job.Outcome) { o.ExitCode = 1 },
		"output":  func(o *job.Outcome) { o.Output = crypto.Digest{2} },
		"outputs": func(o *job.Outcome) { o.Outputs = nil },
	} {
		other := base
		change(&other)
		if job.ResultDigest(&base) == job.ResultDigest(&other) {
			t.Errorf("%s is no part of the result", name)
		}
	}
}

func TestMessageBounds(t *testing.T) {
	for name, m := range map[string]job.Message{
		"log":      job.Log{Data: make([]byte, job.MaxLogChunk+1)},
		"reason":   job.Cancel{Reason: strings.Repeat("r", 513)},
		"held":     job.Hello{ChainID: "fixture-1", Running: make([]crypto.Digest, job.MaxHeld+1)},
		"kernel":   job.Hello{ChainID: "fixture-1", Kernels: []string{strings.Repeat("k", chain.MaxKernelName+1)}},
		"proof":    job.Done{Receipt: chain.UsageReceipt{Exit: chain.ExitOK}, Proof: make([]byte, chain.MaxProof+1)},
		"chain":    job.Hello{},
		"offer":    job.Offers{List: []job.Offer{{Order: orderFor(wasmSpec(), replicate)}}, Specs: []job.Spec{kernelSpec()}},
		"no offer": job.Offers{},
		"strange":  job.Offers{List: []job.Offer{{Order: orderFor(wasmSpec(), replicate)}}, Specs: []job.Spec{wasmSpec(), kernelSpec()}},
		"twice":    job.Offers{List: []job.Offer{{Order: orderFor(wasmSpec(), replicate)}}, Specs: []job.Spec{wasmSpec(), wasmSpec()}},
		"many":     job.Bids{List: make([]job.BidReply, job.MaxList+1)},
		"nothing":  job.Assign{},

		"no lane":     job.LanesShown{Challenge: chain.HardwareChallenge{ChainID: "fixture-1"}},
		"lanes":       job.LanesShown{Challenge: chain.HardwareChallenge{ChainID: "fixture-1"}, Roots: make(job.LaneRoots, hardware.MaxLanes+1)},
		"index":       job.LaneOpened{Challenge: chain.HardwareChallenge{ChainID: "fixture-1"}, Index: hardware.MaxOpenings},
		"opening":     job.LaneOpened{Challenge: chain.HardwareChallenge{ChainID: "fixture-1"}, Opening: hardware.Opening{Seen: make([]byte, 8*hardware.BlockBytes)}},
		"both":        job.Measured{Challenge: chain.HardwareChallenge{ChainID: "fixture-1"}, Verdict: chain.HardwareVerdict{Missing: 1, Silent: true}},
		"no chain":    job.Measure{},
		"no question": job.LaneQuestion{},
		"no home":     job.AtHome{},
	} {
		if _, err := job.DecodeMessage(job.EncodeMessage(m)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A node makes a receipt with the link of its place: a server that gave it one that no replica has would
// have it fail.
func TestPlacesAreOfReplicas(t *testing.T) {
	with := func(policy chain.Policy, place uint8) error {
		spec := wasmSpec()
		order := orderFor(spec, policy)
		bid := chain.Bid{ChainID: "fixture-1", Order: order.ID(), Node: consumer.Public(), Prices: order.Caps, Expiry: 8}
		m := job.Assign{List: []job.Assignment{{Order: order, Bid: bid, Spec: spec, Sequence: 1, Place: place}}}
		_, err := job.DecodeMessage(job.EncodeMessage(m))
		return err
	}
	for _, policy := range []chain.Policy{replicate, chain.PolicyNone{}} {
		for place := range 256 {
			_, replicated := policy.(chain.PolicyReplicate)
			want := place == 0 || replicated && place < chain.MaxReplicas
			if err := with(policy, uint8(place)); (err == nil) != want || err != nil && !strings.Contains(err.Error(), "place") {
				t.Errorf("%s: place %d: %v", policy, place, err)
			}
		}
	}
}

func TestStatusText(t *testing.T) {
	for s := job.Queued; s <= job.Cancelled; s++ {
		var back job.Status
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%s reads back as %s, %v", s, back, err)
		}
	}
	if final := []bool{job.Queued.Final(), job.Settling.Final(), job.Settled.Final(), job.Failed.Final(), job.Cancelled.Final()}; final[0] || final[1] || !final[2] || !final[3] || !final[4] {
		t.Errorf("final: %v", final)
	}
}

func FuzzSpec(f *testing.F) {
	for _, s := range []job.Spec{wasmSpec(), kernelSpec(), containerSpec()} {
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := job.DecodeSpec(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), raw) {
			t.Fatal("a specification has two encodings")
		}
		if _, err := job.WorstCost(&s, []chain.UnitPrice{{Resource: chain.CPU, Price: 1}, {Resource: chain.Memory, Price: 1}, {Resource: chain.Network, Price: 1}}); err != nil {
			t.Fatalf("a specification within its bounds has no worst cost: %v", err)
		}
	})
}

func FuzzSessionMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(job.EncodeMessage(m))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := job.DecodeMessage(raw)
		if err == nil && !bytes.Equal(job.EncodeMessage(m), raw) {
			t.Fatal("a message has two encodings")
		}
	})
}
