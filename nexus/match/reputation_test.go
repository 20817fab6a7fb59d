package match_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
)

const (
	day     = 24 * 3_600_000
	someDay = chain.TimeMs(650*match.HalfLifeMs + 5*day)
)

var allFacts = []match.Fact{
	match.FactCompleted, match.FactPaid, match.FactFailed, match.FactLate, match.FactDisputed, match.FactSlashed,
}

// happening is a fact of a day.
type happening struct {
	at     chain.TimeMs
	fact   match.Fact
	burned chain.Amount
}

func anyHappening(t *rapid.T, span uint64) happening {
	most := rapid.SampledFrom([]uint64{10, 1_000_000_000, 1 << 50, math.MaxUint64}).Draw(t, "most")
	return happening{
		at:     someDay + chain.TimeMs(rapid.Uint64Max(span).Draw(t, "at")),
		fact:   rapid.SampledFrom(allFacts).Draw(t, "fact"),
		burned: chain.Nano(rapid.Uint64Max(most).Draw(t, "burned")),
	}
}

func anyRecord(t *rapid.T) match.Record {
	var r match.Record
	for range rapid.IntRange(0, 12).Draw(t, "facts") {
		h := anyHappening(t, 3*match.HalfLifeMs)
		r.Add(max(h.at, chain.TimeMs(r.Period*match.HalfLifeMs)), h.fact, h.burned)
	}
	return r
}

func score(r match.Record, at chain.TimeMs) uint64 {
	f := r.At(at)
	return f.Score()
}

// A completion never lowers a score, anything bad never raises it, and both stay
// within bounds whatever the numbers.
func TestReputationIsMonotoneAndBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, h := anyRecord(t), anyHappening(t, 0)
		h.at = someDay + chain.TimeMs(3*match.HalfLifeMs+rapid.Uint64Max(match.HalfLifeMs).Draw(t, "after"))
		before := score(r, h.at)
		r.Add(h.at, h.fact, h.burned)
		after := score(r, h.at)
		good := h.fact == match.FactCompleted || h.fact == match.FactPaid
		if good && after < before || !good && after > before {
			t.Fatalf("fact %d of %s took the score from %d to %d", h.fact, h.burned, before, after)
		}
		if after > match.One {
			t.Fatalf("the score is %d", after)
		}
		if low, high := match.Premium(after), match.Premium(before); good && low > high || !good && low < high {
			t.Fatalf("fact %d took the premium from %d to %d", h.fact, high, low)
		}
	})
}

// What is left of the facts falls with time, halves in a half-life, and is nothing in
// the end: a score goes to Neutral, and never past it.
func TestReputationDecaysToNeutral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		at := someDay + chain.TimeMs(3*match.HalfLifeMs)
		first := r.At(at)
		half := r.At(at + match.HalfLifeMs)
		if got, want := half.Credit.Nano(), first.Credit.Nano()/2; got > want || want-got > 1 {
			t.Fatalf("credit %d became %d in a half-life", first.Credit.Nano(), got)
		}
		for range 200 {
			next := at + chain.TimeMs(rapid.Uint64Max(2*day).Draw(t, "wait"))
			a, b := r.At(at), r.At(next)
			if a.Credit.Less(b.Credit) || a.Debt.Less(b.Debt) || a.Completed < b.Completed || a.Slashed < b.Slashed {
				t.Fatalf("%+v became %+v", a, b)
			}
			at = next
		}
		if end := r.At(at + 65*match.HalfLifeMs); end != (match.Facts{}) || end.Score() != match.Neutral {
			t.Fatalf("%+v are left, score %d", end, end.Score())
		}
	})
}

// Records of the same facts are equal: neither the order within a day counts, nor that of
// days within a period, nor looking in between.
func TestReputationDependsOnFactsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var facts []happening
		for range rapid.IntRange(0, 12).Draw(t, "facts") {
			facts = append(facts, anyHappening(t, match.HalfLifeMs-5*day-1))
		}
		shuffled := rapid.Permutation(facts).Draw(t, "order")
		var a, b match.Record
		for i := range facts {
			a.Add(facts[i].at, facts[i].fact, facts[i].burned)
			b.Add(shuffled[i].at, shuffled[i].fact, shuffled[i].burned)
			b.At(shuffled[i].at + 9*match.HalfLifeMs)
		}
		if a != b {
			t.Fatalf("%+v and %+v", a, b)
		}
		// Touching by a fact that burned nothing ages it no further.
		late := someDay + chain.TimeMs(rapid.Uint64Max(20*match.HalfLifeMs).Draw(t, "late"))
		for at := late; at < late+5*match.HalfLifeMs; at += match.HalfLifeMs / 3 {
			b.Add(at, match.FactPaid, chain.Amount{})
		}
		if late += 5 * match.HalfLifeMs; a.At(late) != b.At(late) {
			t.Fatalf("touched it is %+v, else %+v", b.At(late), a.At(late))
		}
	})
}

// The growth within a period is the exact power of two, rounded down: 2³² is credited on
// each day, and seen at the period's first.
func TestReputationHalfLifeTable(t *testing.T) {
	for d := range int64(32) {
		var r match.Record
		r.Add(chain.TimeMs(700*match.HalfLifeMs+d*day), match.FactPaid, chain.Nano(1<<32))
		// ⌊2³² 2^(d/32)⌋ is the largest number whose 32nd power is not above 2^(32·32+d).
		n, bound := new(big.Int).SetUint64(r.Credit), new(big.Int).Lsh(big.NewInt(1), uint(32*32+d))
		power := new(big.Int).Exp(n, big.NewInt(32), nil)
		above := new(big.Int).Exp(n.Add(n, big.NewInt(1)), big.NewInt(32), nil)
		if power.Cmp(bound) > 0 || above.Cmp(bound) <= 0 {
			t.Errorf("day %d grows by %d", d, r.Credit)
		}
	}
}

// Sums stop at the largest number: they do not begin again.
func TestReputationSaturates(t *testing.T) {
	var r match.Record
	end := someDay + 26*day // the last of its period
	for range 3 {
		r.Add(end, match.FactCompleted, chain.Nano(math.MaxUint64))
	}
	if r.Credit != math.MaxUint64 || score(r, end) < match.One-1 {
		t.Errorf("credit is %d, score %d", r.Credit, score(r, end))
	}
	f := r.At(end)
	if sum := f.Plus(f).Plus(f); sum.Credit.Nano() != math.MaxUint64 || sum.Completed != 3*f.Completed {
		t.Errorf("three times %+v is %+v", f, sum)
	}
}

// Credit is bought at par, and debt redeemed at par: whoever trades with itself has in
// the record what it burned, and not more, in however many trades.
func TestSelfDealingBuysWhatItBurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owed := chain.Nano(rapid.Uint64Max(1<<40).Draw(t, "owed"))
		var r match.Record
		r.Add(someDay, match.FactDisputed, owed)
		var burned uint64
		for range rapid.IntRange(0, 100).Draw(t, "trades") {
			fee := rapid.Uint64Max(1<<34).Draw(t, "fee")
			r.Add(someDay, match.FactCompleted, chain.Nano(fee))
			burned += fee
		}
		f := r.At(someDay)
		if f.Credit.Nano() > burned {
			t.Fatalf("%d were burned, the credit is %s", burned, f.Credit)
		}
		if f.Score() > match.Neutral && burned <= owed.Nano()-min(owed.Nano(), 2) {
			t.Fatalf("a debt of %s is forgotten for %d", owed, burned)
		}
	})
}

// A pair of nodes trades with itself n times, and then sells to others whatever it can,
// each job as dear as its premium lets it be. It earns no more by that than it burned,
// as against selling to others from the beginning, for the parameters of a chain as it is
// by default and any pace of business.
func TestSelfDealingCostsWhatItEarns(t *testing.T) {
	most := 0.0
	for _, price := range []uint64{1_000_000_000, 20_000_000_000, 100_000_000_000} { // up to 100 HYPER
		for _, own := range []uint64{1_000_000_000, 100_000_000_000, 100_000_000_000_000} {
			for _, n := range []int{1, 10, 100} {
				for _, pace := range []chain.TimeMs{1_000, day / 10, day, 10 * day} {
					earned, burned := selfDealing(price, own, n, pace)
					if most = max(most, earned/burned); earned > burned {
						t.Errorf("%d trades of %d, then jobs of %d every %d ms: %.0f were burned, %.0f earned", n, own, price, pace, burned, earned)
					}
				}
			}
		}
	}
	if t.Logf("what was earned is at most %.2f of what was burned", most); most < 0.25 {
		t.Errorf("nothing that was tried earns more than %.2f of what was burned: this shows little", most)
	}
}

// selfDealing returns what a pair earns by n trades with itself, and what it burned by them.
func selfDealing(price, own uint64, n int, pace chain.TimeMs) (earned, burned float64) {
	params := chain.DefaultParams()
	fee := func(price uint64) chain.Amount {
		return chain.Nano(price / 10_000 * uint64(params.ProtocolFeeBps) / 10_000 * uint64(params.BurnBps))
	}
	var sybil, honest match.Record
	now := someDay
	for range n {
		sybil.Add(now, match.FactCompleted, fee(own))
		burned += float64(fee(own).Nano())
	}
	for range 3_000 {
		less := float64(match.Premium(score(honest, now))) - float64(match.Premium(score(sybil, now)))
		earned += float64(price) * less / match.One
		sybil.Add(now, match.FactCompleted, fee(price))
		honest.Add(now, match.FactCompleted, fee(price))
		now += pace
	}
	return earned, burned
}
