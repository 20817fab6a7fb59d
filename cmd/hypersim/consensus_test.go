package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/sim"
)

var (
	seedsFlag = flag.Int("seeds", 210, "simulated networks with all faults")
	firstSeed = flag.Uint64("first", 1, "the first of them")
)

func testPlan(t *testing.T, n int, views consensus.View, names string) plan {
	t.Helper()
	set, err := parseFaults(names)
	if err != nil {
		t.Fatal(err)
	}
	return newPlan(n, views, set)
}

// total runs seeds and reports the failures.
func total(t *testing.T, p plan, seeds int) (report, outcome) {
	t.Helper()
	s := series{plan: p, first: *firstSeed, seeds: seeds}
	r := newReport(s)
	var sum outcome
	complete := s.each(t.Context(), func(o outcome) {
		r.add(o)
		sum.twins += o.twins
		sum.jumps += o.jumps
		sum.finality = append(sum.finality, o.finality...)
		sum.intervals = append(sum.intervals, o.intervals...)
		sum.changes = append(sum.changes, o.changes...)
		if o.failure != nil {
			t.Errorf("seed %d: %s\n  again: %s", o.seed, o.failure, p.command(o.seed))
		}
	})
	if !complete {
		t.Fatal("interrupted")
	}
	return r, sum
}

func TestValidatorsAgreeAndGoOnUnderAllFaults(t *testing.T) {
	r, sum := total(t, testPlan(t, 4, 100, "all"), *seedsFlag)
	if r.Seeds < 200 || r.Views < 20_000 {
		t.Errorf("%d views over %d seeds, want 20,000 over 200", r.Views, r.Seeds)
	}
	if int(r.Epochs) < 3*r.Seeds {
		t.Errorf("%d epochs in %d seeds", r.Epochs, r.Seeds)
	}
	for p := range points {
		if r.Crashes[p.String()] == 0 {
			t.Errorf("nobody crashed at %q", p)
		}
	}
	for _, err := range []error{sim.ErrFull, sim.ErrSync} {
		if r.Stops[err.Error()] == 0 {
			t.Errorf("nobody stopped for: %v", err)
		}
	}
	for name, count := range map[string]int{
		"lost logs": r.LogsLost, "last logs lost alone": r.LogsLast, "old logs": r.LogsOld, "torn records": r.Torn, "jumps of clocks": sum.jumps, "storms for twins": sum.twins,
		"lost packets": r.Packets.Lost, "cut packets": r.Packets.Cut, "packets that came twice": r.Packets.Duplicated,
		"late packets": r.Packets.Late, "packets that overtook": r.Packets.Overtook,
	} {
		if count == 0 {
			t.Errorf("there were no %s", name)
		}
	}
	// The evidence detector speaks for each fault that is one, and every other
	// lie is told.
	for _, o := range []offence{offenceNotarizes, offenceFinalizes, offenceBoth} {
		if r.Offences[string(o)] == 0 || r.Evidence[string(o)] == 0 {
			t.Errorf("%s: committed %d times, reported %d times", o, r.Offences[string(o)], r.Evidence[string(o)])
		}
	}
	for _, l := range []lie{
		lieShortWeight, lieDuplicate, lieBitmap, lieCommittee, lieStatement, lieSignature, lieBlock, lieSkip, lieAncestry, lieOwnName,
		lieOtherName, lieOld, lieFlood, lieOther, lieDouble, lieNowhere, lieEcho, lieWithheld,
	} {
		if r.Lies[string(l)] == 0 {
			t.Errorf("nobody told: %s", l)
		}
	}
	if len(r.Blames) < 6 {
		t.Errorf("blamed only for %v", r.Blames)
	}
	t.Logf("%d views, %d epochs, crashes %v, evidence %v, blames %v", r.Views, r.Epochs, r.Crashes, r.Evidence, r.Blames)
}

// Each fault alone does what it says, and nothing else.
func TestFaultsOneByOne(t *testing.T) {
	for _, known := range faultNames {
		r, sum := total(t, testPlan(t, 4, 30, known.name), 6)
		crashes := 0
		for _, n := range r.Crashes { // order-free: a sum
			crashes += n
		}
		for name, n := range map[string]int{
			"loss": r.Packets.Lost, "delay": r.Packets.Late, "duplicate": r.Packets.Duplicated, "crash": crashes, "skew": sum.jumps,
			"disk": len(r.Stops), "twins": sum.twins,
		} {
			if (n > 0) != (name == known.name) {
				t.Errorf("--faults %s: %s happened %d times", known.name, name, n)
			}
		}
		if (r.Packets.Cut > 0) != (known.fault == faultPartition || known.fault == faultTwins) {
			t.Errorf("--faults %s: %d packets cut", known.name, r.Packets.Cut)
		}
		if slashable := known.fault&(faultEquivocate|faultFlood|faultTwins|faultForge) != 0; (len(r.Offences) > 0) != slashable {
			t.Errorf("--faults %s: %v", known.name, r.Offences)
		}
		if known.fault&(faultEpoch|faultLostLog) == 0 && int(r.Epochs) != r.Seeds || known.fault == faultEpoch && int(r.Epochs) < 2*r.Seeds {
			t.Errorf("--faults %s: %d epochs", known.name, r.Epochs)
		}
	}
}

func TestCommitteesOfOtherSizes(t *testing.T) {
	for n, count := range map[int]int{1: 4, 2: 4, 3: 4, 5: 4, 7: 4, 10: 2} {
		if r, _ := total(t, testPlan(t, n, 30, "all"), count); int(r.Views) < 30*count {
			t.Errorf("%d validators: %d views", n, r.Views)
		}
	}
}

// Three hops of at most 8 ms, a check of at most 5, five syncs of at most 3, the
// write of the block before and the own of at most 10, and no fault.
func TestFinalityTakesThreeHops(t *testing.T) {
	_, sum := total(t, testPlan(t, 4, 30, "none"), 3)
	if len(sum.finality) < 4*3*28 {
		t.Fatalf("%d finalizations", len(sum.finality))
	}
	if least, most := slices.Min(sum.finality), slices.Max(sum.finality); least < 3*ms || most > 75*ms {
		t.Fatalf("finality takes %v to %v, want 3 ms to 75 ms", least, most)
	}
}

// While nothing fails, the first block of an epoch comes as soon after the last
// of the one before as two ordinary blocks would.
func TestNoStallAtAnEpochChange(t *testing.T) {
	p := testPlan(t, 4, 400, "epoch")
	p.busy = true
	r, sum := total(t, p, 6)
	if len(sum.changes) < 100 {
		t.Fatalf("%d changes of epochs in %d views", len(sum.changes), r.Views)
	}
	slices.Sort(sum.intervals)
	slices.Sort(sum.changes)
	block, longest := sum.intervals[len(sum.intervals)/2], sum.changes[len(sum.changes)-1]
	t.Logf("%d changes: median %v, longest %v; a block every %v", len(sum.changes), sum.changes[len(sum.changes)/2], longest, block)
	if longest > 3*block {
		t.Errorf("a stall of %v beyond the usual %v, want at most two block times", longest-block, block)
	}
}

func TestASeedRepeatsItself(t *testing.T) {
	trace := func(seed uint64) string {
		var out bytes.Buffer
		p := testPlan(t, 4, 60, "all")
		p.trace = &out
		if _, err := simulate(t.Context(), p, seed); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	first := trace(5)
	if first != trace(5) {
		t.Error("one seed gives two traces")
	}
	if first == trace(6) {
		t.Error("two seeds give one trace")
	}
	for _, want := range []string{"storm: ", "vote notarize", "append", "finalize", "enter epoch 2"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in the trace", want)
		}
	}
}

// What the checks are worth: each rule that is broken on purpose is found, as
// what it is.
func TestMutationsAreCaught(t *testing.T) {
	all := []rule{ruleI1, ruleI2, ruleI3, ruleI6, ruleVote, ruleCertificate, ruleDurable, ruleLog, ruleSlashable, ruleConviction, ruleHalt, ruleBlame, rulePanic, ruleContract, ruleLiveness}
	blindBut := func(seen ...rule) []rule {
		return slices.DeleteFunc(slices.Clone(all), func(r rule) bool { return slices.Contains(seen, r) })
	}
	for _, c := range []struct {
		name   string
		faults string
		change func(*plan)
		want   []rule // one of them, and no other
	}{
		{"a weakened quorum", "none", func(p *plan) { p.mutation = mutateQuorum }, []rule{ruleCertificate}},
		{"a weakened quorum, seen by its consequences alone", "partition,equivocate",
			func(p *plan) { p.mutation, p.traitors, p.blind = mutateQuorum, 1, blindBut() }, []rule{ruleAgreement, ruleI4, ruleI5}},
		{"one node with other weights", "none", func(p *plan) { p.mutation = mutateWeights }, []rule{ruleCertificate}},
		{"a skipped fsync", "none", func(p *plan) { p.mutation = mutateSync }, []rule{ruleDurable}},
		{"a skipped fsync, seen by its consequences alone", "crash,partition",
			func(p *plan) { p.mutation, p.blind = mutateSync, blindBut(ruleI1, ruleI2, ruleI3, ruleSlashable) }, []rule{ruleI1, ruleI2, ruleI3, ruleSlashable}},
		{"a log that drops the own votes before a restart", "crash,partition",
			func(p *plan) { p.mutation, p.blind = mutateMemory, blindBut(ruleI1, ruleI2, ruleI3, ruleSlashable) }, []rule{ruleI1, ruleI2, ruleI3, ruleSlashable}},
		{"a rewritten log without the own votes", "crash", func(p *plan) { p.mutation = mutateRewrite }, []rule{ruleLog}},
		{"a marker that is not read", "crash,lostlog,epoch", func(p *plan) { p.mutation = mutateMarker }, []rule{ruleVote}},
		{"I1 forgotten", "none", func(p *plan) { p.mutation = mutateI1 }, []rule{ruleI1}},
		{"I1 forgotten, seen by the evidence detector alone", "none", func(p *plan) { p.mutation, p.blind = mutateI1, blindBut(ruleSlashable) }, []rule{ruleSlashable}},
		{"I2 forgotten", "none", func(p *plan) { p.mutation = mutateI2 }, []rule{ruleI2}},
		{"I2 forgotten, seen by the evidence detector alone", "none", func(p *plan) { p.mutation, p.blind = mutateI2, blindBut(ruleSlashable) }, []rule{ruleSlashable}},
		{"I3 forgotten", "loss", func(p *plan) { p.mutation = mutateI3 }, []rule{ruleI3}},
		{"I4 broken by more liars than a third", "equivocate,delay",
			func(p *plan) { p.traitors, p.blind = 2, append(blindBut(), ruleI5) }, []rule{ruleI4}},
		{"I5 broken by all who forget I2", "none",
			func(p *plan) { p.mutation, p.blind = mutateI2, blindBut() }, []rule{ruleI5}},
		{"I6 forgotten", "none", func(p *plan) { p.mutation = mutateI6 }, []rule{ruleI6}},
		{"fewer at work than a quorum", "silent", func(p *plan) { p.traitors = 2 }, []rule{ruleLiveness}},
		{"fewer at work than a quorum, in storms", "silent,loss,crash", func(p *plan) { p.traitors = 2 }, []rule{ruleLiveness}},
	} {
		p := testPlan(t, 4, 20, c.faults)
		c.change(&p)
		found := false
		for seed := uint64(1); seed <= 200 && !found; seed++ {
			o, err := simulate(t.Context(), p, seed)
			if err != nil {
				t.Fatal(err)
			}
			if found = o.failure != nil; found && !slices.Contains(c.want, o.failure.rule) {
				t.Errorf("%s: seed %d: %v, want %v", c.name, seed, o.failure, c.want)
			}
		}
		if !found {
			t.Errorf("%s: nothing is found, want %v", c.name, c.want)
		}
	}
}

// The harness without a mutation is silent where the mutated one is not.
func TestTheFaultsOfTheMutationsAloneAreHarmless(t *testing.T) {
	for _, names := range []string{"partition,equivocate", "crash,partition", "equivocate,delay", "silent,loss,crash"} {
		total(t, testPlan(t, 4, 20, names), 20)
	}
}

func TestAFailingSeedIsPrintedReplayedAndShrunk(t *testing.T) {
	code, stdout, stderr := invoke(t, "consensus --seed 7 --seeds 2 --validators 7 --views 40 --faults all --mutate notarize --json")
	if code != exitFailed {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Violations != 2 || len(r.Failures) != 2 || r.Seeds != 2 {
		t.Fatalf("%+v", r)
	}
	for i, f := range r.Failures {
		if f.Rule != "I1" || f.Seed != uint64(7+i) || !strings.Contains(stderr, f.Command) || !strings.Contains(stderr, "  smaller: "+f.Smaller) {
			t.Errorf("%+v\n%s", f, stderr)
		}
		if len(f.Trace) == 0 || !strings.Contains(f.Trace[len(f.Trace)-1], "VIOLATION") {
			t.Errorf("trace ends with %q", f.Trace)
		}
		for _, command := range []string{f.Command, f.Smaller} {
			again, trace, _ := invoke(t, strings.TrimPrefix(command, programName+" "))
			if again != exitFailed || !strings.Contains(trace, "VIOLATION") || !strings.Contains(trace, ": I1: ") {
				t.Errorf("%s: exit code %d", command, again)
			}
		}
		if !strings.Contains(f.Smaller, "--views 1 ") || !strings.Contains(f.Smaller, "--faults none") || !strings.Contains(f.Smaller, "--validators 1 ") {
			t.Errorf("not small: %s", f.Smaller)
		}
	}
}

func TestTheWitnessKnowsWhatIsSlashable(t *testing.T) {
	block := func(salt uint64) consensus.Block { return toyBlock{Height: 1, View: 3, Salt: salt}.block() }
	statement := func(k consensus.Kind, salt uint64) consensus.Statement {
		p := consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 3}}
		if k != consensus.KindNullify {
			p.Digest = block(salt).Digest
		}
		return consensus.Statement{Kind: k, Proposal: p}
	}
	const n, x, f = consensus.KindNotarize, consensus.KindNullify, consensus.KindFinalize
	for _, pair := range []struct {
		a, b consensus.Statement
		want offence
	}{
		{statement(n, 1), statement(n, 1), ""},
		{statement(n, 1), statement(n, 2), offenceNotarizes},
		{statement(n, 1), statement(f, 1), ""},
		{statement(n, 1), statement(f, 2), ""},
		{statement(n, 1), statement(x, 0), ""},
		{statement(f, 1), statement(f, 1), ""},
		{statement(f, 1), statement(f, 2), offenceFinalizes},
		{statement(f, 1), statement(x, 0), offenceBoth},
		{statement(x, 0), statement(f, 1), offenceBoth},
		{statement(x, 0), statement(x, 0), ""},
	} {
		if got := offenceOf(pair.a, pair.b); got != pair.want {
			t.Errorf("%q, then %q: %q, want %q", pair.a, pair.b, got, pair.want)
		}
	}
	var broken []rule
	w := newWitness(newCast(1, 0), &realm{}, func(r rule, _ string, _ ...any) { broken = append(broken, r) })
	next := &reign{committee: newCast(1, 0).reign(2, []member{{weight: 1, leading: 1}}).committee}
	for _, b := range []consensus.Block{toyBlock{Height: 2}.block(), block(1), block(1), block(2)} {
		w.finalized(0, &state{block: b, next: next})
	}
	if !slices.Equal(broken, []rule{ruleOrder, ruleAgreement}) {
		t.Errorf("a gap, a block, the same and another at its height: %v", broken)
	}
}

func TestFaultLists(t *testing.T) {
	for _, text := range []string{"all", "none", "loss", "delay,crash", "loss,duplicate,equivocate", "skew,disk,lostlog,epoch,twins,flood"} {
		set, err := parseFaults(text)
		if err != nil || set.String() != text {
			t.Errorf("%q is read as %q, %v", text, set, err)
		}
	}
	if set, err := parseFaults(allFaults.list()); err != nil || set != allFaults || len(faultNames) != 18 {
		t.Errorf("the list of all %d faults: %q, %v", len(faultNames), set, err)
	}
	for _, text := range []string{"", "rain", "loss,", "all,loss", "loss crash"} {
		if set, err := parseFaults(text); err == nil {
			t.Errorf("%q is read as %q", text, set)
		}
	}
}

// invoke runs one command line in this process.
func invoke(t *testing.T, args string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{programName}, strings.Fields(args)...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // in standard output if the code is 0, else in standard error
	}{
		{"", 0, "consensus"},
		{"--help", 0, "consensus"},
		{"consensus --help", 0, "Examples: hypersim consensus"},
		{"consensus --seeds 2 --views 3 --faults none", 0, "violations      0"},
		{"consensus --seed 9 --views 3", 0, "seeds           1"},
		{"consensus --seed 9 --views 3 --trace", 0, "node 0: start"},
		{"consensus --views 3 --for 1ms --faults none", 0, "violations      0"},
		{"consensus --views 3 --seed 3 --wan testdata/wan_rtt_ms.csv", 0, "seeds           1"},
		{"weather", 2, `"weather" is no command`},
		{"consensus --rain", 2, "Try: hypersim consensus --help"},
		{"consensus --rain", 2, "-rain"},
		{"consensus --seeds 0", 2, "seeds is 0, want 1 to 10000000"},
		{"consensus --seed 18446744073709551615", 2, "want at most"},
		{"consensus --seed -1", 2, "invalid value"},
		{"consensus --validators 0", 2, "validators is 0, want 1 to 256"},
		{"consensus --validators 257", 2, "validators is 257, want 1 to 256"},
		{"consensus --views 0", 2, "views is 0, want 1 to 1000000"},
		{"consensus --faults rain", 2, `fault "rain" is unknown`},
		{"consensus --storm 1h", 2, "storm is 1h0m0s"},
		{"consensus --mutate rain", 2, `mutate: "rain" is unknown`},
		{"consensus --crashed 2", 2, "crashed is 2 of 4 validators"},
		{"consensus --wan nowhere.csv", 2, "wan: open nowhere.csv"},
		{"consensus --for 1s --seeds 3", 2, "for is 1s"},
		{"consensus --trace", 2, "give --seed"},
		{"consensus --seed 1 --trace --json", 2, "standard output"},
		{"consensus now", 2, `"now" is not expected`},
		{"consensus --seed 1 --views 2 --faults none --mutate fsync", 1, "durability"},
	} {
		code, stdout, stderr := invoke(t, c.args)
		text := stderr
		if code == 0 {
			text = stdout
		}
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: exit code %d, want %d; %q, want %q in it", c.args, code, c.code, text, c.want)
		}
		if code == 2 && stdout != "" || code == 0 && stderr != "" {
			t.Errorf("%s: exit code %d with %q on the wrong stream", c.args, code, stdout+stderr)
		}
	}
}

func TestJSON(t *testing.T) {
	code, stdout, stderr := invoke(t, "consensus --seeds 3 --views 5 --json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(stdout), &fields); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"finality_ms", "seeds", "views", "views_per_hour", "violations", "failures", "evidence", "crashes", "epochs", "block_interval_ms"} {
		if _, ok := fields[want]; !ok {
			t.Errorf("no field %s in %v", want, slices.Sorted(maps.Keys(fields)))
		}
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Seeds != 3 || r.Views < 15 || r.Violations != 0 || r.ViewsPerHour <= 0 || r.Finality.P50 <= 0 || r.Finality.P99 < r.Finality.P50 {
		t.Errorf("%+v", r)
	}
}

// Who interrupts the command sees what was done so far.
func TestAnInterruptedCommandReports(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	news := writerFunc(func(text []byte) (int, error) {
		cancel()
		return errs.Write(text)
	})
	code := run(ended, strings.Fields(programName+" consensus --views 2 --mutate fsync --faults none --seeds 100000"), &out, news)
	if code != exitFailed || !strings.Contains(errs.String(), "interrupted") || !strings.Contains(out.String(), "violations      ") {
		t.Fatalf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestHistogram(t *testing.T) {
	var h histogram
	var spans []time.Duration
	for i := range 1000 {
		spans = append(spans, time.Duration(i+1)*ms)
	}
	h.add(spans)
	h.add([]time.Duration{3 * time.Hour})
	if got, want := h.percentiles(), (percentiles{P50: 501, P99: 991, Mean: 11289.2, Max: 10_800_000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (&histogram{}).percentiles(); got != (percentiles{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
