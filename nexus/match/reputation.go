package match

import (
	"math"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// HalfLifeMs is the block time in which a fact comes to count half: 32 days, in
// steps of one day. Within a step nothing ages.
const (
	HalfLifeMs = halfSteps * stepMs
	halfSteps  = 32
	stepMs     = 24 * 3_600_000
)

// growth[i] is ⌊2³² · 2^(i/32)⌋: by how much more than at a period's first day a
// fact of day i weighs in a record's sums.
var growth = [halfSteps]uint64{
	4294967296, 4389014833, 4485121743, 4583333121, 4683695047, 4786254614, 4891059943, 4998160209,
	5107605667, 5219447667, 5333738689, 5450532358, 5569883475, 5691848041, 5816483284, 5943847683,
	6074000999, 6207004302, 6342919998, 6481811860, 6623745058, 6768786188, 6917003306, 7068465955,
	7223245205, 7381413679, 7543045592, 7708216782, 7877004751, 8049488695, 8225749546, 8405870006,
}

// Fact is what a settlement says of each of its two sides.
type Fact uint8

// The facts.
const (
	FactCompleted Fact = iota + 1 // work ended well and was paid
	FactPaid                      // a lease's time was paid; it is one completed work at its end
	FactFailed                    // work ended badly and was paid: nobody can tell through whom
	FactLate                      // work was ended by its time limit
	FactDisputed                  // a result that enough others, who agree, contradict
	FactSlashed                   // a bond was cut
)

// Record is what the chain remembers of a node, or of a consumer at a cluster.
// Its sums are as of the first day of a period of HalfLifeMs: a fact of a later
// day weighs more, and all are halved when the next period begins. So a record
// depends on its facts and their days alone: on neither how often it was looked at
// nor, within a period, their order.
type Record struct {
	_         struct{} `cbor:",toarray"`
	Period    uint64   // of the newest fact: block time / HalfLifeMs
	Completed uint64   // in parts of a million, as those below
	Failed    uint64
	Late      uint64
	Disputed  uint64
	Slashed   uint64
	Credit    uint64 // nHYPER that were burned as fees of what went well
	Debt      uint64 // nHYPER that were burned with what did not
}

// Facts is a record as of some time, or the sum of several.
type Facts struct {
	Completed uint64 // in parts of a million, as those below; aged
	Failed    uint64
	Late      uint64
	Disputed  uint64
	Slashed   uint64
	Credit    chain.Amount
	Debt      chain.Amount
}

// IsZero reports whether nothing is left of any fact.
func (r *Record) IsZero() bool {
	return r.Completed|r.Failed|r.Late|r.Disputed|r.Slashed|r.Credit|r.Debt == 0
}

// sums lists what ages.
func (r *Record) sums() [7]*uint64 {
	return [...]*uint64{&r.Completed, &r.Failed, &r.Late, &r.Disputed, &r.Slashed, &r.Credit, &r.Debt}
}

// reach brings the sums to the period of a time, and returns the day in it. A time
// before the record's period counts as its first day.
func (r *Record) reach(now chain.TimeMs) uint64 {
	period, day := uint64(now)/HalfLifeMs, uint64(now)%HalfLifeMs/stepMs
	if period < r.Period {
		return 0
	}
	for _, sum := range r.sums() {
		*sum >>= period - r.Period // a shift by 64 or more leaves 0
	}
	r.Period = period
	return day
}

// Add notes a fact with the fees that were burned with it, or for FactSlashed what
// was burned of the bond. Sums stop at the largest number.
func (r *Record) Add(now chain.TimeMs, fact Fact, burned chain.Amount) {
	day := r.reach(now)
	weigh := func(sum *uint64, n uint64) {
		hi, lo := bits.Mul64(n, growth[day])
		grown := hi<<32 | lo>>32
		if hi>>32 != 0 {
			grown = math.MaxUint64
		}
		total, carry := bits.Add64(*sum, grown, 0)
		if carry != 0 {
			total = math.MaxUint64
		}
		*sum = total
	}
	sums, money := &r.Completed, &r.Debt
	switch fact {
	case FactCompleted:
		money = &r.Credit
	case FactPaid:
		weigh(&r.Credit, burned.Nano())
		return
	case FactFailed:
		sums = &r.Failed
	case FactLate:
		sums = &r.Late
	case FactDisputed:
		sums = &r.Disputed
	case FactSlashed:
		sums = &r.Slashed
	default:
		panic("match: a fact that there is not")
	}
	weigh(sums, One)
	weigh(money, burned.Nano())
}

// At returns what is left of the facts at a time.
func (r Record) At(now chain.TimeMs) Facts {
	day := r.reach(now)
	for _, sum := range r.sums() {
		// Below 2⁶⁴: growth is at least 2³².
		*sum, _ = bits.Div64(*sum>>32, *sum<<32, growth[day])
	}
	return Facts{
		Completed: r.Completed, Failed: r.Failed, Late: r.Late, Disputed: r.Disputed, Slashed: r.Slashed,
		Credit: chain.Nano(r.Credit), Debt: chain.Nano(r.Debt),
	}
}

// Plus returns the facts of both, as of one owner's nodes.
func (f Facts) Plus(g Facts) Facts {
	add := func(a, b uint64) uint64 {
		sum, carry := bits.Add64(a, b, 0)
		if carry != 0 {
			return math.MaxUint64
		}
		return sum
	}
	return Facts{
		Completed: add(f.Completed, g.Completed), Failed: add(f.Failed, g.Failed), Late: add(f.Late, g.Late),
		Disputed: add(f.Disputed, g.Disputed), Slashed: add(f.Slashed, g.Slashed),
		Credit: chain.Nano(add(f.Credit.Nano(), g.Credit.Nano())), Debt: chain.Nano(add(f.Debt.Nano(), g.Debt.Nano())),
	}
}

// Scores, in parts of a million.
const (
	Neutral = One / 2 // of whoever has no facts
	// scoreScale is how many nHYPER of credit or debt move a score half of its way:
	// 1 HYPER, the fees burned by work that costs 100 HYPER.
	scoreScale = 1_000_000_000
	// unknownWeight is by how much whoever has no facts looks dearer than the best: half
	// of the share of a charge that is burned. See ADR 34 for why not more.
	unknownWeight = 5_000
	owedWeight    = 200_000 // and the worst, than whoever has no facts
)

// Score is the formula of reputation: from 0, the worst, over Neutral to One, in parts
// of a million. Credit that is not owed raises it from Neutral; debt beyond the credit
// lowers it. Both weigh what was burned for them and nothing else: not how many
// settlements there were, nor what they cost.
func (f *Facts) Score() uint64 {
	credit, debt := f.Credit.Nano(), f.Debt.Nano()
	if debt > credit {
		return Neutral - share(debt-credit, Neutral)
	}
	return Neutral + share(credit-debt, One-Neutral)
}

// share returns ⌊of · n / (n + scoreScale)⌋.
func share(n, of uint64) uint64 {
	all, carry := bits.Add64(n, scoreScale, 0)
	if carry != 0 {
		return of
	}
	hi, lo := bits.Mul64(n, of)
	quo, _ := bits.Div64(hi, lo, all) // below of, as n < all
	return quo
}

// Premium returns by how much a node of a score looks dearer than the best, in parts of a
// million. A score above One counts as One.
func Premium(score uint64) uint64 {
	if score >= Neutral {
		return unknownWeight * (One - min(score, One)) / (One - Neutral)
	}
	return unknownWeight + owedWeight*(Neutral-score)/Neutral
}
