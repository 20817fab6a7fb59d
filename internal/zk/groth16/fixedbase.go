package groth16

import (
	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// A scalar is read in windows of five bits, each a digit from −15 to 16 after what it
// carries: 51 windows hold the 254 bits of the order, and the last never carries.
const (
	windowBits   = 5
	windows      = (fr.Bits + windowBits) / windowBits
	windowDigits = 1 << (windowBits - 1)
)

// multiples are 1 to 16 times 2^(5w) · P of a fixed point P for each window w: 51 additions
// make any product of P, without a doubling. 52 kB.
type multiples [windows][windowDigits]bn254.G1Affine

// newMultiples takes a point that is not at infinity.
func newMultiples(p *bn254.G1Affine) *multiples {
	flat := make([]bn254.G1Jac, windows*windowDigits)
	var base bn254.G1Jac
	base.FromAffine(p)
	for w := range windows {
		next := flat[w*windowDigits:][:windowDigits]
		next[0].Set(&base)
		for i := 1; i < windowDigits; i++ {
			next[i].Set(&next[i-1]).AddAssign(&base)
		}
		base.Double(&next[windowDigits-1])
	}
	var out multiples
	affine := bn254.BatchJacobianToAffineG1(flat)
	for w := range out {
		copy(out[w][:], affine[w*windowDigits:])
	}
	return &out
}

// addTo adds x · P. Its time depends on x, which is public.
func (m *multiples) addTo(sum *bn254.G1Jac, x *fr.Element) {
	bits, carry := x.Bits(), 0
	for w := range windows {
		at := w * windowBits
		digit := bits[at/64] >> (at % 64)
		if at%64 > 64-windowBits && at/64+1 < len(bits) {
			digit |= bits[at/64+1] << (64 - at%64)
		}
		d := int(digit&(1<<windowBits-1)) + carry
		carry = 0
		if d > windowDigits {
			d, carry = d-(1<<windowBits), 1
		}
		switch {
		case d > 0:
			sum.AddMixed(&m[w][d-1])
		case d < 0:
			var negative bn254.G1Affine
			sum.AddMixed(negative.Neg(&m[w][-d-1]))
		}
	}
	if carry != 0 {
		panic("groth16: a scalar is longer than the order of the curve")
	}
}
