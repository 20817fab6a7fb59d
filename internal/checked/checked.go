// Package checked is integer arithmetic that cannot wrap.
//
// Every function either returns the mathematically exact result (or, for the
// division helpers, the exactly rounded one) together with true, or zero and
// false. Nothing here panics. Rounding is in the name: Floor rounds toward
// zero, Ceil away from it; callers pick the direction that is against whoever
// asked (ledger.md, "Hashes, keys, addresses").
package checked

import "math/bits"

// Add returns a + b, and false if the sum does not fit in 64 bits.
func Add(a, b uint64) (uint64, bool) {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return 0, false
	}
	return sum, true
}

// Sub returns a − b, and false if b is larger than a.
func Sub(a, b uint64) (uint64, bool) {
	if b > a {
		return 0, false
	}
	return a - b, true
}

// Mul returns a · b, and false if the product does not fit in 64 bits.
func Mul(a, b uint64) (uint64, bool) {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 {
		return 0, false
	}
	return lo, true
}

// MulDivFloor returns ⌊a·b / div⌋ with a 128-bit intermediate. It is false if
// div is zero or the quotient does not fit in 64 bits.
func MulDivFloor(a, b, div uint64) (uint64, bool) {
	quo, _, ok := mulDiv(a, b, div)
	return quo, ok
}

// MulDivCeil returns ⌈a·b / div⌉ with a 128-bit intermediate. It is false if
// div is zero or the quotient does not fit in 64 bits.
func MulDivCeil(a, b, div uint64) (uint64, bool) {
	quo, rem, ok := mulDiv(a, b, div)
	if !ok || rem == 0 {
		return quo, ok
	}
	return Add(quo, 1)
}

func mulDiv(a, b, div uint64) (quo, rem uint64, ok bool) {
	hi, lo := bits.Mul64(a, b)
	if hi >= div {
		return 0, 0, false
	}
	quo, rem = bits.Div64(hi, lo, div)
	return quo, rem, true
}
