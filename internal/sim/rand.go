package sim

import (
	"math/bits"
	"time"
)

// Rand draws numbers from a seed: SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014). Not for secrets.
type Rand struct{ state uint64 }

// NewRand returns the generator of the seed.
func NewRand(seed uint64) *Rand { return &Rand{state: seed} }

// Uint64 returns 64 random bits.
func (r *Rand) Uint64() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Fork returns a generator of its own, so that what one part of a world draws
// does not shift what another draws.
func (r *Rand) Fork() *Rand { return NewRand(r.Uint64()) }

// Below returns a number in [0, n), for n of at least 1. The bias is below
// n/2⁶⁴.
func (r *Rand) Below(n int) int {
	if n < 1 {
		panic("sim: a number below 1 was asked for")
	}
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}

// Between returns a span in [lo, hi], for 0 ≤ lo ≤ hi.
func (r *Rand) Between(lo, hi time.Duration) time.Duration {
	if lo < 0 || hi < lo {
		panic("sim: a span between " + lo.String() + " and " + hi.String())
	}
	return lo + time.Duration(r.Below(int(hi-lo)+1))
}

// Chance reports true in perMille of 1,000 cases.
func (r *Rand) Chance(perMille int) bool { return r.Below(1000) < perMille }
