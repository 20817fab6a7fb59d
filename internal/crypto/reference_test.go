package crypto_test

import (
	"crypto/sha512"
	"math/big"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Edwards25519 in big integers, by other formulas than those tested: the judge that
// has nothing in common with either way of verifying.

var (
	prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	order = func() *big.Int {
		tail, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
		return tail.Add(tail, new(big.Int).Lsh(big.NewInt(1), 252))
	}()
	// curveD is −121665/121666, sqrtM1 is 2^((p−1)/4): RFC 8032, section 5.1.
	curveD = modP(new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), prime)))
	sqrtM1 = new(big.Int).Exp(big.NewInt(2), new(big.Int).Rsh(prime, 2), prime)
	base   = func() *refPoint {
		y := modP(new(big.Int).Mul(big.NewInt(4), new(big.Int).ModInverse(big.NewInt(5), prime)))
		p, _ := refDecode(encodingOf(y, 0))
		return p
	}()
)

// refPoint is x = X/Z, y = Y/Z.
type refPoint struct{ x, y, z *big.Int }

func modP(v *big.Int) *big.Int { return v.Mod(v, prime) }

func mulP(factors ...*big.Int) *big.Int {
	out := big.NewInt(1)
	for _, f := range factors {
		modP(out.Mul(out, f))
	}
	return out
}

func plus(a, b *big.Int) *big.Int  { return new(big.Int).Add(a, b) }
func minus(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }

func refIdentity() *refPoint { return &refPoint{new(big.Int), big.NewInt(1), big.NewInt(1)} }

// encodingOf encodes any y below 2²⁵⁵, and a sign.
func encodingOf(y *big.Int, sign byte) (out [32]byte) {
	y.FillBytes(out[:])
	slices.Reverse(out[:])
	out[31] |= sign << 7
	return out
}

// littleInt reads a number from its bytes, the lowest first.
func littleInt(raw []byte) *big.Int {
	raw = slices.Clone(raw)
	slices.Reverse(raw)
	return new(big.Int).SetBytes(raw)
}

// refDecode finds the point of an encoding by the rules of ZIP-215.
func refDecode(raw [32]byte) (*refPoint, bool) {
	sign := raw[31] >> 7
	raw[31] &= 0x7f
	y := modP(littleInt(raw[:]))
	square := mulP(y, y)
	v := modP(plus(mulP(curveD, square), big.NewInt(1)))
	square = mulP(minus(square, big.NewInt(1)), new(big.Int).ModInverse(v, prime))
	x := new(big.Int).ModSqrt(square, prime)
	if x == nil {
		return nil, false
	}
	if byte(x.Bit(0)) != sign {
		modP(x.Neg(x))
	}
	return &refPoint{x, y, big.NewInt(1)}, true
}

// add is Bernstein, Birkner, Joye, Lange and Peters, "Twisted Edwards Curves",
// section 6, with a = −1.
func (p *refPoint) add(q *refPoint) *refPoint {
	a, c, d := mulP(p.z, q.z), mulP(p.x, q.x), mulP(p.y, q.y)
	b, e := mulP(a, a), mulP(curveD, c, d)
	f, g := minus(b, e), plus(b, e)
	mixed := minus(minus(mulP(plus(p.x, p.y), plus(q.x, q.y)), c), d)
	return &refPoint{mulP(a, f, mixed), mulP(a, g, plus(d, c)), mulP(f, g)}
}

func (p *refPoint) negated() *refPoint { return &refPoint{modP(new(big.Int).Neg(p.x)), p.y, p.z} }

// times doubles and adds.
func (p *refPoint) times(n *big.Int) *refPoint {
	out := refIdentity()
	for i := n.BitLen() - 1; i >= 0; i-- {
		if out = out.add(out); n.Bit(i) == 1 {
			out = out.add(p)
		}
	}
	return out
}

func (p *refPoint) affine() (x, y *big.Int) {
	inverse := new(big.Int).ModInverse(p.z, prime)
	return mulP(p.x, inverse), mulP(p.y, inverse)
}

func (p *refPoint) encoded() [32]byte {
	x, y := p.affine()
	return encodingOf(y, byte(x.Bit(0)))
}

// refHash is SHA-512(R ‖ A ‖ M) modulo the group's order.
func refHash(it *crypto.Signed) *big.Int {
	digest := sha512.Sum512(slices.Concat(it.Signature[:32], it.Key[:], it.Digest[:]))
	h := littleInt(digest[:])
	return h.Mod(h, order)
}

// refVerify is ZIP-215: S below the order, and 8SB = 8R + 8hA.
func refVerify(it *crypto.Signed) bool {
	s := littleInt(it.Signature[32:])
	key, keyOK := refDecode(it.Key)
	r, rOK := refDecode([32]byte(it.Signature[:32]))
	if !keyOK || !rOK || s.Cmp(order) >= 0 {
		return false
	}
	sum := base.times(s).add(key.times(refHash(it)).add(r).negated())
	x, y := sum.times(big.NewInt(8)).affine()
	return x.Sign() == 0 && y.Cmp(big.NewInt(1)) == 0
}

// refTorsion returns the eight points of small order: the multiples of one whose y is
// such that 4 times it is not the identity.
func refTorsion() (out [8]*refPoint) {
	for y := int64(2); ; y++ {
		p, ok := refDecode(encodingOf(big.NewInt(y), 0))
		if !ok {
			continue
		}
		t := p.times(order)
		if x, _ := t.times(big.NewInt(4)).affine(); x.Sign() != 0 {
			continue
		}
		if _, y := t.times(big.NewInt(4)).affine(); y.Cmp(big.NewInt(1)) == 0 {
			continue
		}
		for i := range out {
			out[i] = t.times(big.NewInt(int64(i)))
		}
		return out
	}
}
