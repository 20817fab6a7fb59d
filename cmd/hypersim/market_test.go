package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/simulation"
)

// marketed runs hypersim market and returns what it printed.
func marketed(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, messages bytes.Buffer
	if code := run(t.Context(), append([]string{programName, "market"}, args...), &out, &messages); code != wantCode {
		t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, wantCode, out.String(), messages.String())
	}
	return out.String(), messages.String()
}

func TestMarketRefusesByName(t *testing.T) {
	for want, args := range map[string][]string{
		`attack "bribing" is unknown`:              {"--attack", "bribing"},
		`policy "tee" is unknown`:                  {"--policy", "tee"},
		"attack griefing is not about policy none": {"--attack", "griefing", "--policy", "none"},
		"seeds is 0":                             {"--seeds", "0"},
		"seed is 4294967296":                     {"--seed", "4294967296"},
		"nodes is 11, want 12 to 256":            {"--nodes", "11"},
		"bidders is 4, want 5 to 16":             {"--bidders", "4"},
		"jobs is 0":                              {"--jobs", "0"},
		"share is 51":                            {"--share", "51"},
		"stake is 2001":                          {"--stake", "2001"},
		"bond is 31":                             {"--bond", "31"},
		"slack is 99":                            {"--slack", "99"},
		"record is 100001":                       {"--record", "100001"},
		"wrong is -1":                            {"--wrong", "-1"},
		"follow is 101":                          {"--follow", "101"},
		"cost is 101":                            {"--cost", "101"},
		"priority is 10001, want 0 to 10000":     {"--priority", "10001"},
		`mutate: "all" is unknown`:               {"--mutate", "all"},
		"trace is of one attack":                 {"--trace"},
		"markdown is of all attacks":             {"--markdown", "--share", "10"},
		"\"more\" is not expected":               {"more"},
		"Try: hypersim market --help":            {"--seeds", "0"},
		"flag provided but not defined: -profit": {"--profit"},
		`invalid value "many" for flag -seeds: parse error`: {"--seeds", "many"},
	} {
		if _, messages := marketed(t, exitUsage, args...); !strings.Contains(messages, want) {
			t.Errorf("%v: %q lacks %q", args, messages, want)
		}
	}
}

// verdict says what is wrong with a cell's sign, if something is: an attack loses, with its whole
// interval, or is known to pay, or to change nothing but when things happen.
func verdict(cell *simulation.Cell) error {
	attack, _ := simulation.Find(cell.Attack)
	pays, idle := slices.Contains(attack.Pays, cell.Terms.Policy), slices.Contains(attack.Idle, cell.Terms.Policy)
	switch {
	case cell.Tries == 0:
		return fmt.Errorf("%s under %s is never tried", cell.Attack, cell.Terms.Policy)
	case pays && cell.Profit <= 0:
		return fmt.Errorf("%s under %s does not pay any more: %s: say so in its text, and in docs/ECONOMICS.md", cell.Attack, cell.Terms.Policy, cell)
	case idle && cell.Profit < luck && cell.Profit-cell.Interval <= 0: // nothing comes of it
	case !pays && cell.Profit > 0:
		return fmt.Errorf("%s under %s pays: %s of %d seeds, %g", cell.Attack, cell.Terms.Policy, cell, cell.Seeds, cell.Profit)
	case !pays && !idle && cell.Profit+cell.Interval >= 0:
		return fmt.Errorf("%s under %s may pay: %s of %d seeds", cell.Attack, cell.Terms.Policy, cell, cell.Seeds)
	}
	return nil
}

// luck is the most that an attack of which nothing comes may show: messages that come in other blocks have other
// orders checked than in the honest twin, and who checks is paid. An interval around 0 shrinks to it, but takes more
// seeds than there are.
const luck = 0.002

// enough is how many jobs tell the sign of an expectation: more where who cheats is found out
// seldom, and loses much.
func enough(s stall) int {
	seldom := slices.Contains([]string{
		"lazy", "colluding", "opportunist", "sybil", "exit scam", "padding", "padding together", "bought jurors", "shielding", "packed slate", "packed and shielded",
	}, s.attack.Name)
	switch s.terms.Policy {
	case simulation.Optimistic:
		switch {
		case seldom:
			return 240
		case s.attack.Name == "follower":
			return 160
		}
		return 30
	case simulation.TwoOfThree, simulation.ThreeOfFive:
		if seldom {
			return 80
		}
		return 30
	case simulation.None, simulation.Batch, simulation.ZK:
	}
	return 15
}

// seedsUpTo is how many pinned seeds an attack is played with, at last, until its interval tells the sign of its
// expectation. They are the same in each run, so that what was found once is found again.
var seedsUpTo = []int{2, 4, 8, 16, 32}

// TestNoAttackPays: every attack's expectation has the sign that is told of it, with its whole interval; among
// the short tests the mean has it, with as few seeds as show that.
func TestNoAttackPays(t *testing.T) {
	cast, played := simulation.NewCast(simulation.MaxNodes), 0
	left := mainStalls()
	for i := range left {
		left[i].terms.Jobs = enough(left[i])
	}
	outcomes := make([][]simulation.Outcome, len(left))
	for round, seeds := range seedsUpTo {
		b := &bazaar{cast: cast, first: uint64(played + 1), seeds: seeds - played}
		var open []stall
		var had [][]simulation.Outcome
		for i, cell := range b.play(t.Context(), left) {
			all := slices.Concat(outcomes[i], cell.Outcomes)
			sum := simulation.Sum(left[i].attack, left[i].terms, all)
			err := verdict(&sum)
			if testing.Short() && sum.Profit < 0 && !slices.Contains(left[i].attack.Pays, sum.Terms.Policy) {
				err = nil
			}
			if err != nil && round == len(seedsUpTo)-1 {
				t.Error(err)
			} else if err != nil {
				t.Logf("%d seeds: %v", seeds, err)
				open, had = append(open, left[i]), append(had, all)
			}
		}
		left, outcomes, played = open, had, seeds
	}
}

// clearly is the least profit that says of an attack without the rule against it that it pays.
const clearly = 0.02

// TestRulesTakenAwayPay: without the rule that an attack breaks itself on it pays, in the same
// markets in which the test above finds that it does not: that could fail.
func TestRulesTakenAwayPay(t *testing.T) {
	cast := simulation.NewCast(simulation.MaxNodes)
	for _, c := range []struct {
		rule   simulation.Mutation
		attack string
		policy simulation.Policy
	}{
		{simulation.MutateChecks, "lazy", simulation.TwoOfThree},
		{simulation.MutateChecks, "silent", simulation.TwoOfThree},
		{simulation.MutateChecks, "colluding", simulation.ThreeOfFive},
		{simulation.MutateChecks, "exit scam", simulation.TwoOfThree},
		{simulation.MutateAudits, "lazy", simulation.Optimistic},
		{simulation.MutateAudits, "colluding", simulation.Optimistic},
		{simulation.MutateAudits, "sybil", simulation.Optimistic},
		{simulation.MutateChecks, "padding", simulation.TwoOfThree},
		{simulation.MutateAudits, "padding", simulation.Optimistic},
		{simulation.MutateSlashes, "lazy", simulation.TwoOfThree},
		{simulation.MutateSlashes, "lazy", simulation.Optimistic},
		{simulation.MutateSlashes, "colluding", simulation.Optimistic},
		{simulation.MutateCommits, "copying", simulation.ThreeOfFive},
		{simulation.MutateProofs, "lazy", simulation.ZK},
		{simulation.MutateEscrow, "overdraft", simulation.None},
		{simulation.MutateEscrow, "overdraft", simulation.Optimistic},
		{simulation.MutateReceipts, "replaying", simulation.None},
		{simulation.MutateReceipts, "replaying", simulation.Batch},
		{simulation.MutateReceipts, "replaying", simulation.ZK},
	} {
		attack, ok := simulation.Find(c.attack)
		if !ok {
			t.Fatal(c.attack)
		}
		b := &bazaar{cast: cast, first: 1, seeds: 2, broken: c.rule}
		s := stall{&attack, simulation.Defaults(c.policy)}
		s.terms.Jobs = enough(s)
		cell := b.play(t.Context(), []stall{s})[0]
		err := verdict(&cell)
		if err == nil || !strings.Contains(err.Error(), " pays: ") || cell.Profit < clearly {
			t.Errorf("without %s, %s under %s: %v, want that it pays", c.rule, c.attack, c.policy, err)
			continue
		}
		t.Logf("without %s: %v", c.rule, err)
	}
}

// TestTurning: with one cheat in a hundred nodes all work together is at most 1.10 times what
// a run of each job would be, and the cheat is caught within 20 jobs.
func TestTurning(t *testing.T) {
	r := simulation.Turn(simulation.NewCast(simulation.MaxNodes), simulation.TwoOfThree, 1)
	t.Logf("%+v", r)
	if r.Work > 1.10 || r.Work < 1.02 || r.After < 1 || r.After > 20 || r.Jobs == 0 {
		t.Errorf("%+v", r)
	}
}

func TestMarketReports(t *testing.T) {
	args := []string{"--attack", "lazy,silent", "--policy", "zk,replicate=2/3", "--jobs", "40", "--seeds", "2", "--json"}
	out, _ := marketed(t, 0, args...)
	var r marketReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Cells) != 3 || len(r.Cells[0].Outcomes) != 2 || r.Cells[0].Terms.Jobs != 40 {
		t.Errorf("%v: %s", err, out)
	}
	if again, _ := marketed(t, 0, args...); again != out {
		t.Errorf("equal seeds printed\n%s\nand\n%s", out, again)
	}
	replay, _ := marketed(t, 0, append(slices.Clone(args[:6]), "--seed", "2", "--json")...)
	var alone marketReport
	if err := json.Unmarshal([]byte(replay), &alone); err != nil || len(alone.Cells[0].Outcomes) != 1 || alone.Cells[0].Outcomes[0] != r.Cells[0].Outcomes[1] {
		t.Errorf("%v: seed 2 alone is\n%s, among others\n%s", err, replay, out)
	}
	trace, _ := marketed(t, 0, "--attack", "lazy", "--policy", "replicate=2/3", "--seed", "3", "--trace")
	for _, want := range []string{" run_begun {", " runs_drawn {", " bond_slashed {", "profit of a try"} {
		if !strings.Contains(trace, want) {
			t.Errorf("the trace lacks %q", want)
		}
	}
	text, messages := marketed(t, exitFailed, "--attack", "lazy", "--policy", "zk", "--jobs", "5", "--seeds", "2", "--mutate", "proofs")
	if !strings.Contains(text, "pays") || !strings.Contains(messages, "what should not pay does: lazy under zk") {
		t.Errorf("%s%s", text, messages)
	}
}

// TestMarketStops: an interrupt prints what there is.
func TestMarketStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, messages bytes.Buffer
	if code := run(ctx, []string{programName, "market", "--attack", "lazy", "--seeds", "100000", "--json"}, &out, &messages); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	var r marketReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || !r.Stopped || len(r.Cells) != 6 || !strings.Contains(messages.String(), "interrupted") {
		t.Errorf("%v: %s%s", err, out.String(), messages.String())
	}
}

const economicsPage = "../../docs/ECONOMICS.md"

// generated is the part of docs/ECONOMICS.md that hypersim market --markdown prints.
func generated(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(economicsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(page), "<!-- hypersim market --markdown -->\n\n")
	part, _, ends := strings.Cut(rest, "\n<!-- end -->")
	if !begins || !ends {
		t.Fatalf("%s has no generated part", economicsPage)
	}
	return part
}

// TestMarketPage: the tables of docs/ECONOMICS.md are what the command prints, of which the
// whole takes minutes: in a short run the cheapest rows, and all that is not measured.
func TestMarketPage(t *testing.T) {
	page := generated(t)
	if !testing.Short() {
		if out, _ := marketed(t, 0, "--markdown"); out != page {
			t.Errorf("hypersim market --markdown prints\n%s\nthe page has\n%s", out, page)
		}
		return
	}
	var text strings.Builder
	explained(&text)
	if !strings.HasSuffix(page, text.String()) || !strings.HasPrefix(page, fmt.Sprintf("Seeds 1 to %d.\n", marketSeeds)) {
		t.Error("the page is not what hypersim market --markdown prints: print it anew")
	}
	b := &bazaar{cast: simulation.NewCast(simulation.MaxNodes), first: 1, seeds: marketSeeds}
	for _, c := range []struct {
		attack string
		column int // of the policies
	}{{"lazy", 0}, {"lazy", 5}, {"self-dealing", 5}, {"overdraft", 0}} {
		attack, _ := simulation.Find(c.attack)
		cell := b.play(t.Context(), []stall{{&attack, simulation.Defaults(simulation.Policies[c.column])}})[0]
		for line := range strings.SplitSeq(page, "\n") {
			if strings.HasPrefix(line, "| "+c.attack+" |") {
				if got := strings.TrimSpace(strings.Split(line, "|")[2+c.column]); got != bold(&cell) {
					t.Errorf("%s under %s: the page has %q, it is %q", c.attack, simulation.Policies[c.column], got, bold(&cell))
				}
				break
			}
		}
	}
}
