package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

var seeds = flag.Int("seeds", 40, "simulated networks with all faults")

func testPlan(t *testing.T, n int, views consensus.View, names string) plan {
	t.Helper()
	c, err := newCast(n)
	if err != nil {
		t.Fatal(err)
	}
	set, err := parseFaults(names)
	if err != nil {
		t.Fatal(err)
	}
	return plan{cast: c, views: views, faults: set}
}

// total adds up the outcomes of seeds 1 to n.
func total(t *testing.T, p plan, n int) (sum outcome, failures []string) {
	t.Helper()
	s := series{plan: p, first: 1, seeds: n}
	err := s.each(t.Context(), func(o outcome) {
		sum.views += o.views
		sum.evidence += o.evidence
		sum.crashes += o.crashes
		sum.traffic.Lost += o.traffic.Lost
		sum.traffic.Cut += o.traffic.Cut
		sum.traffic.Duplicated += o.traffic.Duplicated
		sum.finality = append(sum.finality, o.finality...)
		if o.failure != "" {
			failures = append(failures, o.failure+"\n  again: "+s.replay(o.seed))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum, failures
}

func TestValidatorsAgreeAndGoOnUnderAllFaults(t *testing.T) {
	sum, failures := total(t, testPlan(t, 4, 20, "all"), *seeds)
	for _, f := range failures {
		t.Error(f)
	}
	if sum.crashes == 0 || sum.evidence == 0 || sum.traffic.Lost == 0 || sum.traffic.Cut == 0 || sum.traffic.Duplicated == 0 {
		t.Errorf("a fault never came: %d crashes, %d pieces of evidence, %+v", sum.crashes, sum.evidence, sum.traffic)
	}
}

// Each fault alone does what it says, and nothing else.
func TestFaultsOneByOne(t *testing.T) {
	for _, known := range faultNames {
		sum, failures := total(t, testPlan(t, 4, 10, known.name), 5)
		for _, f := range failures {
			t.Error(f)
		}
		for name, n := range map[string]int{
			"crash": sum.crashes, "equivocate": sum.evidence, "loss": sum.traffic.Lost,
			"partition": sum.traffic.Cut, "duplicate": sum.traffic.Duplicated,
		} {
			if (n > 0) != (name == known.name) {
				t.Errorf("--faults %s: %s happened %d times", known.name, name, n)
			}
		}
	}
}

func TestCommitteesOfOtherSizes(t *testing.T) {
	for n, count := range map[int]int{1: 2, 2: 2, 3: 2, 7: 2, 10: 1} {
		sum, failures := total(t, testPlan(t, n, 10, "all"), count)
		for _, f := range failures {
			t.Errorf("%d validators: %s", n, f)
		}
		if int(sum.views) < 10*count {
			t.Errorf("%d validators: %d views", n, sum.views)
		}
	}
}

// Three hops of at most 8 ms, a check of at most 5 and no fault: finality is at
// most 8 + 5 + 8 + 8 ms after the proposal, wherever and whenever.
func TestFinalityTakesThreeHops(t *testing.T) {
	sum, failures := total(t, testPlan(t, 4, 30, "none"), 3)
	for _, f := range failures {
		t.Error(f)
	}
	if len(sum.finality) < 4*3*28 {
		t.Fatalf("%d finalizations of %d views", len(sum.finality), sum.views)
	}
	if least, most := slices.Min(sum.finality), slices.Max(sum.finality); least < 3*ms || most > 29*ms {
		t.Fatalf("finality takes %v to %v, want 3 ms to 29 ms", least, most)
	}
}

func TestASeedRepeatsItself(t *testing.T) {
	trace := func(seed uint64) string {
		var out bytes.Buffer
		p := testPlan(t, 4, 15, "all")
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
	for _, want := range []string{"storm: ", "receives vote notarize", "append", "commit", "durable"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in the trace", want)
		}
	}
}

// What the checks are worth: each of these must be caught by one of the first
// seeds.
func TestMutationsAreCaught(t *testing.T) {
	for name, c := range map[string]struct {
		faults string
		change func(*plan)
		want   string // in some failure
	}{
		"a log that is not always synced":    {"crash", func(p *plan) { p.skipSync = true }, "slashable: "},
		"more liars than a third":            {"equivocate,delay", func(p *plan) { p.traitors = 2 }, "a third of the weight is Byzantine"},
		"fewer at work than a quorum":        {"silent", func(p *plan) { p.traitors = 2 }, "liveness: "},
		"fewer at work than a quorum, storm": {"silent,loss,crash", func(p *plan) { p.traitors = 2 }, "liveness: "},
	} {
		p := testPlan(t, 4, 20, c.faults)
		c.change(&p)
		found := false
		for seed := uint64(1); seed <= 200 && !found; seed++ {
			o, err := simulate(t.Context(), p, seed)
			if err != nil {
				t.Fatal(err)
			}
			found = strings.Contains(o.failure, c.want)
		}
		if !found {
			t.Errorf("%s: no %q", name, c.want)
		}
	}
}

func TestAFailingSeedIsPrintedWithItsReplay(t *testing.T) {
	p := testPlan(t, 4, 2, "silent,loss")
	p.traitors = 2
	var messages bytes.Buffer
	r, err := series{plan: p, first: 7, seeds: 2}.run(t.Context(), &messages)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(messages.String(), "\n")
	if r.Violations != 2 || len(lines) != 5 {
		t.Fatalf("%d violations:\n%s", r.Violations, messages.String())
	}
	for i, want := range []string{
		"seed 7: ", "  again: hypersim consensus --seed 7 --validators 4 --views 2 --faults loss,silent --trace",
		"seed 8: ", "  again: hypersim consensus --seed 8 --validators 4 --views 2 --faults loss,silent --trace",
	} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
}

func TestTheWitnessKnowsWhatIsSlashable(t *testing.T) {
	c, err := newCast(2)
	if err != nil {
		t.Fatal(err)
	}
	block := func(salt uint64) consensus.Block { return toyBlock{Height: 1, View: 3, Salt: salt}.block() }
	vote := func(k consensus.Kind, signer consensus.Signer, salt uint64) consensus.Vote {
		p := consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 3}}
		if k != consensus.KindNullify {
			p.Digest = block(salt).Digest
		}
		return consensus.SignVote(c.keys[signer], signer, chainID, consensus.Statement{Kind: k, Proposal: p})
	}
	const n, x, f = consensus.KindNotarize, consensus.KindNullify, consensus.KindFinalize
	for _, votes := range []struct {
		a, b consensus.Vote
		ok   bool
	}{
		{vote(n, 0, 1), vote(n, 0, 1), true},
		{vote(n, 0, 1), vote(n, 0, 2), false},
		{vote(n, 0, 1), vote(n, 1, 2), true},
		{vote(n, 0, 1), vote(f, 0, 1), true},
		{vote(n, 0, 1), vote(x, 0, 0), true},
		{vote(f, 0, 1), vote(f, 0, 1), true},
		{vote(f, 0, 1), vote(f, 0, 2), false},
		{vote(f, 0, 1), vote(x, 0, 0), false},
		{vote(x, 0, 0), vote(f, 0, 1), false},
		{vote(x, 0, 0), vote(x, 0, 0), true},
	} {
		w := newWitness(2)
		if !w.vote(votes.a) || w.vote(votes.b) != votes.ok {
			t.Errorf("%q, then %q: want %t", votes.a.Statement(), votes.b.Statement(), votes.ok)
		}
	}
	w := newWitness(2)
	_, gap := w.finalized(toyBlock{Height: 2}.block())
	_, first := w.finalized(block(1))
	_, again := w.finalized(block(1))
	other, fork := w.finalized(block(2))
	if gap || !first || !again || fork || other != block(1).Digest {
		t.Errorf("gap %t, first %t, again %t, fork %t", gap, first, again, fork)
	}
}

func TestFaultLists(t *testing.T) {
	for _, text := range []string{"all", "none", "loss", "delay,crash", "loss,duplicate,equivocate"} {
		set, err := parseFaults(text)
		if err != nil || set.String() != text {
			t.Errorf("%q is read as %q, %v", text, set, err)
		}
	}
	if set, err := parseFaults(allFaults.list()); err != nil || set != allFaults {
		t.Errorf("the list of all faults: %q, %v", set, err)
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
		{"consensus --help", 0, "Example: hypersim consensus"},
		{"consensus --seeds 2 --views 3 --faults none", 0, "violations      0"},
		{"consensus --seed 9 --views 3", 0, "seeds           1"},
		{"consensus --seed 9 --views 3 --trace", 0, "validator 0: start"},
		{"weather", 2, `"weather" is no command`},
		{"consensus --rain", 2, "Try: hypersim consensus --help"},
		{"consensus --seeds 0", 2, "seeds is 0, want 1 to 10000000"},
		{"consensus --seed 18446744073709551615", 2, "want at most"},
		{"consensus --seed -1", 2, "invalid value"},
		{"consensus --validators 0", 2, "validators is 0, want 1 to 256"},
		{"consensus --validators 257", 2, "validators is 257, want 1 to 256"},
		{"consensus --views 0", 2, "views is 0, want 1 to 1000000"},
		{"consensus --faults rain", 2, `fault "rain" is unknown`},
		{"consensus --trace", 2, "give --seed"},
		{"consensus --seed 1 --trace --json", 2, "standard output"},
		{"consensus now", 2, `"now" is not expected`},
	} {
		code, stdout, stderr := invoke(t, c.args)
		text := stderr
		if code == 0 {
			text = stdout
		}
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: exit code %d, want %d; %q, want %q in it", c.args, code, c.code, text, c.want)
		}
		if code != 0 && stdout != "" || code == 0 && stderr != "" {
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
	want := []string{"finality_ms", "seeds", "views", "views_per_hour", "violations"}
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Errorf("fields %v, want %v", got, want)
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Seeds != 3 || r.Views < 15 || r.Violations != 0 || r.ViewsPerHour <= 0 || r.Finality.P50 <= 0 || r.Finality.P99 < r.Finality.P50 {
		t.Errorf("%+v", r)
	}
}

func TestAnEndedContextEndsTheCommand(t *testing.T) {
	p := testPlan(t, 4, maxViews, "all")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (series{plan: p, first: 1, seeds: 1000}).run(ended, io.Discard); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Fatalf("error %v", err)
	}
}
