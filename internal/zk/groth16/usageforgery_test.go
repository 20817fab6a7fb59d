package groth16

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	bnedwards "github.com/consensys/gnark-crypto/ecc/bn254/twistededwards"
	"github.com/consensys/gnark/frontend"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// usageForger fills a batch with values of any size, signed by a key of its own
// where the forgery is not about the signature.
type usageForger struct {
	rng    *rand.Rand
	params bnedwards.CurveParams
	secret *big.Int
}

func newUsageForger(rng *rand.Rand) *usageForger {
	f := &usageForger{rng: rng, params: bnedwards.GetEdwardsCurve()}
	f.secret = f.scalar()
	return f
}

func (f *usageForger) scalar() *big.Int {
	v := number(randomField(f.rng))
	return v.Mod(v, &f.params.Order)
}

func (f *usageForger) times(scalar *big.Int) bnedwards.PointAffine {
	var p bnedwards.PointAffine
	p.ScalarMultiplication(&f.params.Base, scalar)
	return p
}

// batch returns a batch of four records, edited, with context and leaves.
func (f *usageForger) batch(edit func(c *usageCircuit)) *usageCircuit {
	c := newUsageCircuit(4)
	key := f.times(f.secret)
	c.Bind = 5
	c.Order = [2]frontend.Variable{number(randomField(f.rng)), 9}
	c.Key = [2]frontend.Variable{key.X.BigInt(new(big.Int)), key.Y.BigInt(new(big.Int))}
	c.After = 10
	for i := range c.Slots {
		s := &c.Slots[i]
		s.Active, s.Sequence, s.Amount, s.Duration, s.Ended = 1, 11+i, 1000, 2000, 3000
		s.Resource = [zk.UsageResources]frontend.Variable{0, 0, 0, 0, 1}
	}
	edit(c)
	c.Context = number(zk.Sponge(zk.SpongeUsageContext, elements(c.Order[0], c.Order[1], c.Key[0], c.Key[1])))
	return c
}

func elements(values ...frontend.Variable) []fr.Element {
	out := make([]fr.Element, len(values))
	for i, v := range values {
		out[i] = elementOf(toBig(v))
	}
	return out
}

// leafOf is the leaf of a slot as the circuit packs it.
func leafOf(c *usageCircuit, s *usageSlot) *big.Int {
	record := new(big.Int)
	at := uint(0)
	resource := new(big.Int)
	for k, v := range s.Resource {
		resource.Add(resource, new(big.Int).Mul(toBig(v), big.NewInt(int64(k))))
	}
	for _, part := range []struct {
		v    *big.Int
		bits uint
	}{
		{toBig(s.Sequence), zk.UsageSequenceBits}, {toBig(s.Amount), zk.UsageAmountBits},
		{toBig(s.Duration), zk.UsageDurationBits}, {toBig(s.Ended), zk.UsageEndedBits}, {resource, 0},
	} {
		record.Add(record, new(big.Int).Lsh(part.v, at))
		at += part.bits
	}
	return number(zk.Sponge(zk.SpongeUsageRecord, elements(c.Context, s.X, s.Y, record)))
}

func (s *usageSlot) at(p bnedwards.PointAffine) {
	s.X, s.Y = p.X.BigInt(new(big.Int)), p.Y.BigInt(new(big.Int))
}

// sign signs every slot, and sums up.
func (f *usageForger) sign(c *usageCircuit) *usageCircuit {
	for i := range c.Slots {
		s := &c.Slots[i]
		nonce := f.scalar()
		s.at(f.times(nonce))
		leaf := leafOf(c, s)
		s.setLeaf(fieldOf(leaf))
		e := new(big.Int).And(leaf, lowOnes())
		setBits(s.S[:], e.Mul(e, f.secret).Add(e, nonce).Mod(e, &f.params.Order))
	}
	return summed(c)
}

func lowOnes() *big.Int {
	one := big.NewInt(1)
	return new(big.Int).Sub(new(big.Int).Lsh(one, zk.MeterChallengeBits), one)
}

// summed sets Totals to the digest of what the slots sum up to.
func summed(c *usageCircuit) *usageCircuit {
	mul := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	last, count := toBig(c.After), new(big.Int)
	var totals [zk.UsageResources + 1]*big.Int
	for k := range totals {
		totals[k] = new(big.Int)
	}
	var leaves [zk.TreeArity]zk.Field
	for i := range c.Slots {
		s := &c.Slots[i]
		active := toBig(s.Active)
		last = new(big.Int).Add(last, mul(active, new(big.Int).Sub(toBig(s.Sequence), last)))
		count.Add(count, active)
		used := mul(toBig(s.Amount), toBig(s.Duration))
		for k, v := range s.Resource {
			totals[k].Add(totals[k], mul(toBig(v), used))
		}
		leaves[i] = fieldOf(mul(active, leafOf(c, s)))
	}
	head := new(big.Int).Lsh(count, 2*zk.UsageSequenceBits)
	head.Add(head, new(big.Int).Lsh(last, zk.UsageSequenceBits)).Add(head, toBig(c.After))
	message := []frontend.Variable{head}
	for k := 0; k < len(totals); k += 2 {
		message = append(message, new(big.Int).Add(totals[k], new(big.Int).Lsh(totals[k+1], zk.UsageTotalBits)))
	}
	root := zk.TreeNode(leaves)
	c.Totals = number(zk.Sponge(zk.SpongeUsageTotals, elements(append(message, number(root))...)))
	return c
}

// powerOfTwo is one more than bits hold.
func powerOfTwo(bits uint) frontend.Variable { return new(big.Int).Lsh(big.NewInt(1), bits) }

// usageForgeries claim what was not signed, or more than was.
func usageForgeries(_ *testing.T, rng *rand.Rand) []forgery {
	f := newUsageForger(rng)
	signed := func(edit func(c *usageCircuit)) *usageCircuit { return f.sign(f.batch(edit)) }
	context, totals := signed(func(*usageCircuit) {}), signed(func(*usageCircuit) {})
	context.Order[1] = 1
	totals.Totals = 1
	const cpuAndGPU = 0 // both: their numbers add up to the GPU's
	out := []forgery{
		{[]string{groupContext}, context},
		{[]string{groupTotals}, totals},
		{[]string{groupResource}, signed(func(c *usageCircuit) { c.Slots[1].Resource[cpuAndGPU] = 1 })},
		{[]string{groupActive}, signed(func(c *usageCircuit) { c.Slots[3].Active, c.Slots[3].Resource[cpuAndGPU] = 2, 1 })},
		{[]string{groupSequence}, signed(func(c *usageCircuit) { c.Slots[3].Sequence = powerOfTwo(zk.UsageSequenceBits) })},
		{[]string{groupIncrease}, signed(func(c *usageCircuit) { c.Slots[2].Sequence = c.Slots[1].Sequence })},
		{[]string{groupAmount}, signed(func(c *usageCircuit) { c.Slots[0].Amount = powerOfTwo(zk.UsageAmountBits) })},
		{[]string{groupDuration}, signed(func(c *usageCircuit) { c.Slots[0].Duration = powerOfTwo(zk.UsageDurationBits) })},
		{[]string{groupEnded}, signed(func(c *usageCircuit) { c.Slots[0].Ended = powerOfTwo(zk.UsageEndedBits) })},
		{[]string{groupAfterRange}, signed(func(c *usageCircuit) { c.After = -1 })},
	}
	return append(out, f.signatureForgeries()...)
}

// signatureForgeries have a first record that nobody signed: the forger knows
// no secret for it.
func (f *usageForger) signatureForgeries() []forgery {
	unsigned := func(forge func(c *usageCircuit, s *usageSlot)) *usageCircuit {
		c := f.sign(f.batch(func(*usageCircuit) {}))
		forge(c, &c.Slots[0])
		return summed(c)
	}
	// High is what makes any challenge come from the leaf.
	highFor := func(c *usageCircuit, s *usageSlot) {
		e := new(big.Int)
		for i, bit := range s.E {
			e.Add(e, new(big.Int).Lsh(toBig(bit), uint(i)))
		}
		shift := new(big.Int).ModInverse(powerOfTwo(zk.MeterChallengeBits).(*big.Int), fr.Modulus())
		high := new(big.Int).Mul(new(big.Int).Sub(leafOf(c, s), e), shift)
		s.High = high.Mod(high, fr.Modulus())
	}
	wrong := unsigned(func(c *usageCircuit, s *usageSlot) {
		s.at(f.times(f.scalar()))
		s.setLeaf(fieldOf(leafOf(c, s)))
	})
	split := unsigned(func(c *usageCircuit, s *usageSlot) { // no challenge: S · B = R
		nonce := f.scalar()
		s.at(f.times(nonce))
		s.setLeaf(fieldOf(leafOf(c, s)))
		setBits(s.S[:], nonce)
		setBits(s.E[:], new(big.Int))
	})
	high := unsigned(func(c *usageCircuit, s *usageSlot) {
		nonce := f.scalar()
		s.at(f.times(nonce))
		setBits(s.S[:], nonce)
		setBits(s.E[:], new(big.Int))
		highFor(c, s)
	})
	odd := unsigned(func(c *usageCircuit, s *usageSlot) { // a challenge of a 2
		nonce := f.scalar()
		setBits(s.S[:], nonce)
		setBits(s.E[:], new(big.Int))
		s.E[0] = 2
		r, away := f.times(nonce), bnedwards.NewPointAffine(elementOf(toBig(c.Key[0])), elementOf(toBig(c.Key[1])))
		var one fr.Element
		one.SetOne()
		away.X.Neg(&away.X).Double(&away.X)
		away.Y.Sub(&away.Y, &one).Double(&away.Y).Add(&away.Y, &one)
		s.at(addAffine(&r, &away, &f.params))
		highFor(c, s)
	})
	scalar := unsigned(f.oddScalar)
	return []forgery{
		{[]string{groupSignature}, wrong}, {[]string{groupSplit}, split}, {[]string{groupHigh}, high},
		{[]string{groupChallenge, groupHigh}, odd}, {[]string{groupScalar}, scalar}, {[]string{groupKey}, f.keyOffCurve()},
	}
}

// addAffine is the circuit's addition, for points off the curve as well.
func addAffine(p, q *bnedwards.PointAffine, params *bnedwards.CurveParams) bnedwards.PointAffine {
	var v0, v1, v2, u, one, low, high fr.Element
	one.SetOne()
	u.Add(&p.X, &p.Y) // y₁ − a·x₁ with a = −1
	low.Add(&q.X, &q.Y)
	u.Mul(&u, &low)
	v0.Mul(&p.X, &q.Y)
	v1.Mul(&q.X, &p.Y)
	v2.Mul(&v0, &v1).Mul(&v2, &params.D)
	var sum bnedwards.PointAffine
	high.Add(&one, &v2)
	sum.X.Add(&v0, &v1).Div(&sum.X, &high)
	low.Sub(&one, &v2)
	sum.Y.Sub(&u, &v0).Sub(&sum.Y, &v1).Div(&sum.Y, &low)
	return sum
}

// oddScalar picks R freely and then "bits" of S, two of them and no bits, for
// which the lowest window gives R + e·A: two equations in two unknowns.
func (f *usageForger) oddScalar(c *usageCircuit, s *usageSlot) {
	table := baseTable()[0]
	coefficient := func(coordinate, m int) fr.Element { return elementOf(table[coordinate][m]) }
	for {
		r := f.times(f.scalar())
		s.at(r)
		leaf := leafOf(c, s)
		s.setLeaf(fieldOf(leaf))
		// The circuit's way: at − e·A = R, so at = R + e·A.
		want := bnedwards.NewPointAffine(elementOf(toBig(c.Key[0])), elementOf(toBig(c.Key[1])))
		want.ScalarMultiplication(&want, new(big.Int).And(leaf, lowOnes()))
		want.Add(&want, &r)
		// X: b₁ = (X − x₀ − x₁·b₀) / (x₂ + x₃·b₀), into Y's equation:
		// (y₀ − Y + y₁·b₀)(x₂ + x₃·b₀) + (y₂ + y₃·b₀)(X − x₀ − x₁·b₀) = 0.
		var x, y [4]fr.Element
		for m := range x {
			x[m], y[m] = coefficient(0, m), coefficient(1, m)
		}
		x[0].Sub(&want.X, &x[0]) // X − x₀
		y[0].Sub(&y[0], &want.Y) // y₀ − Y
		times := func(a, b *fr.Element) (out fr.Element) { out.Mul(a, b); return out }
		minus := func(a, b fr.Element) (out fr.Element) { out.Sub(&a, &b); return out }
		plus := func(a, b fr.Element) (out fr.Element) { out.Add(&a, &b); return out }
		quadratic := minus(times(&y[1], &x[3]), times(&y[3], &x[1]))
		linear := plus(minus(plus(times(&y[0], &x[3]), times(&y[1], &x[2])), times(&y[2], &x[1])), times(&y[3], &x[0]))
		constant := plus(times(&y[0], &x[2]), times(&y[2], &x[0]))
		low, ok := root(quadratic, linear, constant)
		if !ok {
			continue
		}
		numerator := minus(x[0], times(&x[1], &low))
		denominator := plus(x[2], times(&x[3], &low))
		numerator.Div(&numerator, &denominator)
		setBits(s.S[:], new(big.Int))
		s.S[0], s.S[1] = low.BigInt(new(big.Int)), numerator.BigInt(new(big.Int))
		return
	}
}

// root solves a·z² + b·z + c = 0, if it can be.
func root(a, b, c fr.Element) (fr.Element, bool) {
	var square, four, out fr.Element
	four.SetUint64(4)
	square.Square(&b)
	four.Mul(&four, &a).Mul(&four, &c)
	square.Sub(&square, &four)
	if out.Sqrt(&square) == nil {
		return fr.Element{}, false
	}
	out.Sub(&out, &b)
	a.Double(&a)
	out.Div(&out, &a)
	return out, true
}

// keyOffCurve signs under A = (0, −2), which is not on the curve. The formulas
// make 2A = A of it and P + A = −2 · P, so e · A multiplies coordinates by
// (−2)^ones(e), and R is found by trying until e has 64 ones.
func (f *usageForger) keyOffCurve() *usageCircuit {
	const ones = zk.MeterChallengeBits / 2
	c := f.batch(func(c *usageCircuit) { c.Key = [2]frontend.Variable{0, -2} })
	var factor fr.Element
	factor.SetInt64(-2)
	factor.Exp(factor, big.NewInt(ones))
	for i := range c.Slots {
		s := &c.Slots[i]
		for found := false; !found; {
			nonce := f.scalar()
			p := f.times(nonce)
			p.X.Mul(&p.X, &factor)
			p.Y.Mul(&p.Y, &factor)
			s.at(p)
			s.setLeaf(fieldOf(leafOf(c, s)))
			setBits(s.S[:], nonce)
			count := 0
			for _, bit := range s.E {
				count += int(toBig(bit).Int64())
			}
			found = count == ones
		}
	}
	return summed(c)
}
