package match_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
)

func TestCheckChance(t *testing.T) {
	h := chain.Hyper
	for _, c := range []struct {
		name                       string
		credit, debt, value, stake chain.Amount
		unchecked, want            uint64
	}{
		{"without a record", chain.Amount{}, chain.Amount{}, h(1), h(1_000), 0, match.One},
		{"as much debt as credit", h(5), h(5), h(1), h(1_000), 0, match.One},
		{"a good record and a large stake", h(5), h(0), h(1), h(1_000), 0, match.CheckFloor},
		{"a good record and a small stake", h(1_000), h(0), h(1), h(3), 0, match.One / 4},
		{"nothing at stake", h(1_000), h(0), h(1), h(0), 0, match.One},
		{"a small record", h(1), h(0), h(100), h(100_000), 0, match.One / 2},
		{"the longest without a check", h(1_000), h(0), h(1), h(1_000), match.CheckWithin - 2, match.CheckFloor},
		{"too long without a check", h(1_000), h(0), h(1), h(1_000), match.CheckWithin - 1, match.One},
		{"never checked at all", h(1_000), h(0), h(1), h(1_000), math.MaxUint64, match.One},
		{"worth nothing, with nothing at stake", h(1_000), h(0), h(0), h(0), 0, match.One},
		{"largest amounts", chain.Nano(math.MaxUint64), h(0), chain.Nano(math.MaxUint64), chain.Nano(math.MaxUint64), 0, match.One / 2},
	} {
		f := match.Facts{Credit: c.credit, Debt: c.debt}
		got := match.CheckChance(&f, c.value, c.stake, c.unchecked)
		if got < c.want || got > c.want+1 { // it is rounded up
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestCheatingEarnsNothing: the chance is never below value/(value + stake), at which what
// a cheat wins if it is not checked is what it loses if it is; and no good fact raises it.
func TestCheatingEarnsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := func(name string) chain.Amount { return chain.Nano(rapid.Uint64().Draw(t, name)) }
		f := match.Facts{Credit: amount("credit"), Debt: amount("debt")}
		value, stake, unchecked := amount("value"), amount("stake"), rapid.Uint64Range(0, 30).Draw(t, "unchecked")
		p := match.CheckChance(&f, value, stake, unchecked)
		if p < match.CheckFloor || p > match.One {
			t.Fatalf("chance %d", p)
		}
		v, s := float64(value.Nano()), float64(stake.Nano())
		if least := v / (v + s) * match.One; float64(p) < least*(1-1e-12) {
			t.Fatalf("chance %d of a job worth %g with %g at stake, want at least %g", p, v, s, least)
		}
		better := f
		if sum, ok := f.Credit.Add(amount("more")); ok {
			better.Credit = sum
		}
		if q := match.CheckChance(&better, value, stake, unchecked); q > p {
			t.Fatalf("a better record raised the chance from %d to %d", p, q)
		}
	})
}

// replication is what checking cost and found in a market where some nodes turn bad.
type replication struct {
	jobs, runs int
	caught     []int // after how many jobs since each cheat turned
	lost, won  float64
}

// simulateChecks has nodes do jobs of one value, of which each pays a third (the rest of the
// cap is fees, the other runs and slack). One in a hundred turns after some time, and
// returns nothing of use from then on until it is caught, when it loses its stake.
func simulateChecks(seed uint64, nodes, jobsOfEach int, stakes uint64) replication {
	rng := rand.New(rand.NewPCG(seed, 6))
	value := chain.Nano(30_000_000)
	stake, _ := value.ShareFloor(stakes, 1)
	paid, _ := value.ShareFloor(1, 3)
	burned, _ := paid.ShareFloor(1, 100)
	var out replication
	for n := range nodes {
		var record match.Record
		turns, unchecked, since := math.MaxInt, uint64(0), 0
		if n%100 == 0 {
			turns = rng.IntN(jobsOfEach - match.CheckWithin)
		}
		for i := range jobsOfEach {
			now := chain.TimeMs(1_790_000_000_000 + i*3_600_000) // a job an hour
			facts := record.At(now)
			out.jobs, out.runs = out.jobs+1, out.runs+1
			checked := rng.Uint64N(match.One) < match.CheckChance(&facts, value, stake, unchecked)
			unchecked++
			if checked {
				unchecked = 0
				out.runs++ // k = 2
			}
			if i < turns {
				record.Add(now, match.FactCompleted, burned)
				continue
			}
			since++
			if checked {
				out.runs++ // a third run, and then its panel of three
				out.runs += 3
				out.caught = append(out.caught, since)
				out.lost += float64(stake.Nano())
				break // its bond is slashed; it is another node now
			}
			out.won += float64(paid.Nano())
			record.Add(now, match.FactCompleted, burned)
		}
	}
	return out
}

// TestChecksAreFewAndFind: with one cheat in a hundred nodes all work together is at most
// 1.10 times what a run of each job would be, every cheat is caught within 20 jobs, and
// cheating costs more than it wins.
func TestChecksAreFewAndFind(t *testing.T) {
	r := simulateChecks(1, 1_000, 1_000, 19)
	total := float64(r.runs) / float64(r.jobs)
	slices.Sort(r.caught)
	t.Logf("%d jobs, total work %.3f; %d cheats caught after p50 %d, p90 %d, at most %d jobs; they won %.3g and lost %.3g nHYPER",
		r.jobs, total, len(r.caught), r.caught[len(r.caught)/2], r.caught[len(r.caught)*9/10], r.caught[len(r.caught)-1], r.won, r.lost)
	if total > 1.10 {
		t.Errorf("total work is %.3f of one run of each job, want at most 1.10", total)
	}
	if len(r.caught) != 10 || r.caught[len(r.caught)-1] > match.CheckWithin {
		t.Errorf("%d of 10 cheats were caught, the last after %d jobs", len(r.caught), r.caught[len(r.caught)-1])
	}
	if r.won >= r.lost {
		t.Errorf("cheats won %g and lost %g", r.won, r.lost)
	}
}

func BenchmarkAdaptiveReplication(b *testing.B) {
	var r replication
	for i := range b.N {
		r = simulateChecks(uint64(i), 1_000, 1_000, 19)
	}
	slices.Sort(r.caught)
	b.ReportMetric(float64(r.runs)/float64(r.jobs), "work/job")
	b.ReportMetric(float64(r.caught[len(r.caught)/2]), "jobs-to-caught-p50")
	b.ReportMetric(float64(r.caught[len(r.caught)-1]), "jobs-to-caught-max")
	b.ReportMetric(r.won/r.lost, "won/lost")
}
