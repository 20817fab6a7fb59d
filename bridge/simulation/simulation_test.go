package simulation_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/simulation"
	"github.com/hypermesh/hypermesh/internal/chain"
)

func TestSum(t *testing.T) {
	attack, _ := simulation.Find("lazy")
	terms := simulation.Defaults(simulation.ZK)
	of := func(profits ...float64) simulation.Cell {
		var list []simulation.Outcome
		for _, p := range profits {
			list = append(list, simulation.Outcome{Tries: 2, Profit: p, Harm: -p})
		}
		return simulation.Sum(&attack, terms, list)
	}
	for _, c := range []struct {
		cell     simulation.Cell
		interval float64 // by hand: the quantile times the standard deviation over the root of n
		text     string
		sign     simulation.Sign
	}{
		{of(), 0, "never tried", simulation.Nothing},
		{of(-1), 0, "−1.00", simulation.Loses},
		{of(1, 3), 12.71, "+2.00 ± 12.71", simulation.Unknown},
		{of(-3, -3, -4, -4), 3.19 * math.Sqrt(1.0/3) / 2, "−3.50 ± 0.92", simulation.Loses},
		{of(0.5, 0.5, 0.5), 0, "+0.50", simulation.Pays},
		{of(0.001, -0.001), 0, "0", simulation.Nothing},
	} {
		if c.sign != simulation.Nothing && math.Abs(c.cell.Interval-c.interval) > 1e-9 || c.cell.String() != c.text || c.cell.Sign() != c.sign {
			t.Errorf("%s ± %g is %s, want %s ± %g, %s", &c.cell, c.cell.Interval, c.cell.Sign(), c.text, c.interval, c.sign)
		}
	}
	some := simulation.Sum(&attack, terms, []simulation.Outcome{{Tries: 3, Profit: 1, Caught: 1}, {}, {Tries: 1, Profit: 1}})
	if some.Profit != 1 || some.Tries != 4 || some.Seeds != 3 || some.Caught != 1 {
		t.Errorf("a seed in which nothing was tried counts: %+v", some)
	}
}

// TestAttacksAreTold: each attack has a name of its own, two sentences, and policies.
func TestAttacksAreTold(t *testing.T) {
	var names []string
	for _, a := range simulation.Attacks {
		if slices.Contains(names, a.Name) || a.Name == "" || !strings.HasSuffix(a.What, ".") || !strings.HasSuffix(a.Why, ".") || len(a.Policies) == 0 {
			t.Errorf("%q is not told: %q %q %v", a.Name, a.What, a.Why, a.Policies)
		}
		for _, p := range a.Pays {
			if !slices.Contains(a.Policies, p) {
				t.Errorf("%s pays under %s, which it is not about", a.Name, p)
			}
		}
		names = append(names, a.Name)
	}
}

// TestPlayIsRepeated: equal seeds give equal markets, other seeds others.
func TestPlayIsRepeated(t *testing.T) {
	cast := simulation.NewCast(simulation.MaxNodes)
	attack, _ := simulation.Find("colluding")
	terms := simulation.Defaults(simulation.TwoOfThree)
	terms.Jobs = 20
	play := func(seed uint64) (simulation.Outcome, string) {
		var text strings.Builder
		o := simulation.Market{Cast: cast, Attack: &attack, Terms: terms, Seed: seed}.Trace(func(line string) { text.WriteString(line + "\n") })
		return o, text.String()
	}
	first, events := play(7)
	if again, same := play(7); again != first || same != events {
		t.Errorf("seed 7 came to %+v and %+v", first, again)
	}
	if _, others := play(8); others == events {
		t.Error("seeds 7 and 8 are one market")
	}
}

// TestShieldingLosesWithAnyStake: a cluster that hides its lazy node's jobs from all who are to look loses by
// it also where the consumers, who may be its own, have runs stake next to nothing.
func TestShieldingLosesWithAnyStake(t *testing.T) {
	cast := simulation.NewCast(simulation.MaxNodes)
	attack, _ := simulation.Find("shielding")
	for _, stake := range []uint64{0, 1} {
		terms, profit, tries := simulation.Defaults(simulation.TwoOfThree), 0.0, uint64(0)
		terms.Jobs, terms.Stake = 12, stake
		for seed := range uint64(3) {
			o := simulation.Market{Cast: cast, Attack: &attack, Terms: terms, Seed: seed + 1}.Play()
			profit, tries = profit+o.Profit*float64(o.Tries), tries+uint64(o.Tries)
		}
		if tries == 0 || profit >= 0 {
			t.Errorf("with a stake of %d max costs it gained %.2f of a job's worth in %d tries", stake, profit, tries)
		}
	}
}

// TestTheCastDecidesNoSign: attacks lose among thirty owners as they do among four times as many, with few bidders and with as many as an
// order may have.
func TestTheCastDecidesNoSign(t *testing.T) {
	cast := simulation.NewCast(simulation.MaxNodes)
	seeds := uint64(4)
	attacks := map[string]simulation.Policy{
		"silent": simulation.TwoOfThree, "framing": simulation.ThreeOfFive, "crying juror": simulation.Optimistic, "starving": simulation.ThreeOfFive,
	}
	if testing.Short() {
		seeds, attacks = 2, map[string]simulation.Policy{"silent": simulation.TwoOfThree, "framing": simulation.ThreeOfFive}
	}
	for name, policy := range attacks {
		attack, _ := simulation.Find(name)
		for _, size := range []struct{ nodes, bidders int }{{30, 10}, {30, 5}, {60, chain.MaxSlate}, {120, 10}} {
			terms := simulation.Defaults(policy)
			terms.Nodes, terms.Bidders, terms.Jobs = size.nodes, size.bidders, 30
			var list []simulation.Outcome
			for seed := range seeds {
				list = append(list, simulation.Market{Cast: cast, Attack: &attack, Terms: terms, Seed: seed + 1}.Play())
			}
			cell := simulation.Sum(&attack, terms, list)
			t.Logf("%s under %s, %d nodes, %d bidders: %s", name, policy, size.nodes, size.bidders, &cell)
			if cell.Tries == 0 || cell.Profit >= 0 {
				t.Errorf("%s under %s with %d nodes and %d bidders comes to %s in %d tries", name, policy, size.nodes, size.bidders, &cell, cell.Tries)
			}
		}
	}
}
