package checked

import "math/bits"

// Wide is an unsigned 192-bit integer: wide enough for amount (48 bits) ×
// duration (40 bits) × price (64 bits) and for a sum of 2⁴⁰ such products.
// The zero value is zero.
type Wide struct {
	hi, mid, lo uint64
}

// WideOf returns n as a Wide.
func WideOf(n uint64) Wide { return Wide{lo: n} }

// Add returns w + v, and false if the sum does not fit in 192 bits.
func (w Wide) Add(v Wide) (Wide, bool) {
	lo, carry := bits.Add64(w.lo, v.lo, 0)
	mid, carry := bits.Add64(w.mid, v.mid, carry)
	hi, carry := bits.Add64(w.hi, v.hi, carry)
	if carry != 0 {
		return Wide{}, false
	}
	return Wide{hi, mid, lo}, true
}

// Mul returns w · n, and false if the product does not fit in 192 bits.
func (w Wide) Mul(n uint64) (Wide, bool) {
	carry0, lo := bits.Mul64(w.lo, n)
	carry1, mid := bits.Mul64(w.mid, n)
	over, hi := bits.Mul64(w.hi, n)
	mid, c := bits.Add64(mid, carry0, 0)
	hi, c = bits.Add64(hi, carry1, c)
	if over != 0 || c != 0 {
		return Wide{}, false
	}
	return Wide{hi, mid, lo}, true
}

// Less reports whether w < v.
func (w Wide) Less(v Wide) bool {
	switch {
	case w.hi != v.hi:
		return w.hi < v.hi
	case w.mid != v.mid:
		return w.mid < v.mid
	}
	return w.lo < v.lo
}

// DivFloor returns ⌊w / div⌋, and false if div is zero or the quotient does
// not fit in 64 bits.
func (w Wide) DivFloor(div uint64) (uint64, bool) {
	if div == 0 || w.hi != 0 || w.mid >= div {
		return 0, false
	}
	quo, _ := bits.Div64(w.mid, w.lo, div)
	return quo, true
}
