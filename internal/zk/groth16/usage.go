package groth16

import (
	"math/big"
	"sync"

	bnedwards "github.com/consensys/gnark-crypto/ecc/bn254/twistededwards"
	edwards "github.com/consensys/gnark-crypto/ecc/twistededwards"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/algebra/native/twistededwards"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	groupKey        = "key on the curve"
	groupContext    = "context digest"
	groupAfterRange = "range of the sequence before"
	groupActive     = "active or not"
	groupResource   = "one resource"
	groupSequence   = "range of a sequence"
	groupIncrease   = "increasing sequence"
	groupAmount     = "range of an amount"
	groupDuration   = "range of a duration"
	groupEnded      = "range of an end"
	groupScalar     = "bits of S"
	groupChallenge  = "bits of the challenge"
	groupSplit      = "challenge from the leaf"
	groupHigh       = "range of the leaf's high part"
	groupSignature  = "signature"
	groupTotals     = "totals digest"
)

const (
	scalarWindow = 3
	scalarBits   = 252 // a multiple of scalarWindow, not below the order's 251
	keyWindow    = 2   // zk.MeterChallengeBits is a multiple
	highBits     = 126 // of r's part above the challenge's bits
)

// usageSlot is one record of a batch, or none.
type usageSlot struct {
	Active   frontend.Variable
	Resource [zk.UsageResources]frontend.Variable // one-hot, all zero unless active
	Sequence frontend.Variable
	Amount   frontend.Variable
	Duration frontend.Variable
	Ended    frontend.Variable
	X, Y     frontend.Variable             // R
	S        [scalarBits]frontend.Variable // bits, lowest first
	E        [zk.MeterChallengeBits]frontend.Variable
	High     frontend.Variable // leaf = E + 2¹²⁸ · High
}

// usageCircuit states: there are records of the order and key of Context,
// sequences strictly increasing, each signed by the key, and Totals is the
// digest of what they sum up to and of the tree over their leaves.
//
// Soundness, step by step:
//
//  1. Range checks make the packing of a record injective and keep the sums
//     below 2⁹⁶, so nothing wraps.
//  2. A signature is checked as S·B − e·A = R, an equation of points of a
//     complete curve: B is a constant, A is asserted to be on it. So R is on it
//     too, and in the subgroup if A is, which registration checks. S and S plus
//     the order are the same point: signatures are malleable and identify
//     nothing.
//  3. e is the low 128 bits of the leaf. The high part stays below r's own, so
//     that leaf + r is no second way to split it.
//  4. What is not active adds nothing to count, totals or sequence, and its
//     leaf is zero.
type usageCircuit struct {
	Context frontend.Variable `gnark:",public"`
	Totals  frontend.Variable `gnark:",public"`
	Bind    frontend.Variable `gnark:",public"`

	Order [2]frontend.Variable // high and low half
	Key   [2]frontend.Variable // x and y of A
	After frontend.Variable
	Slots []usageSlot

	lacks *omission
}

func newUsageCircuit(size int) *usageCircuit { return &usageCircuit{Slots: make([]usageSlot, size)} }

func assignUsage(s zk.Statement, w *zk.UsageWork) *usageCircuit {
	_, size, _ := w.Kernel().Of()
	file, leaves := w.File(), w.Leaves()
	c := newUsageCircuit(size)
	c.Context, c.Totals, c.Bind = s.Inputs[0][:], s.Output[0][:], s.Bind[:]
	c.Order = [2]frontend.Variable{file.Order[:16], file.Order[16:]}
	x, y, err := file.Key.Point()
	if err != nil {
		panic("groth16: a batch with a key that is none: " + err.Error())
	}
	c.Key = [2]frontend.Variable{x[:], y[:]}
	c.After = file.After
	for i := range c.Slots {
		slot := &c.Slots[i]
		if i < len(file.Records) {
			slot.assign(&file.Records[i], leaves[i])
		} else {
			slot.assignNothing(w.Inputs()[0])
		}
	}
	return c
}

func (s *usageSlot) assign(signed *zk.SignedUsage, leaf zk.Field) {
	r := signed.Record
	s.Active, s.Sequence, s.Amount, s.Duration, s.Ended = 1, r.Sequence, r.Amount, r.DurationMs, r.EndedMs
	for k := range s.Resource {
		s.Resource[k] = 0
	}
	s.Resource[r.Resource] = 1
	s.X, s.Y = signed.Signature.X[:], signed.Signature.Y[:]
	setBits(s.S[:], new(big.Int).SetBytes(signed.Signature.S[:]))
	s.setLeaf(leaf)
}

// assignNothing fills an unused slot: zeros, and the leaf that they have.
func (s *usageSlot) assignNothing(context zk.Field) {
	s.Active, s.Sequence, s.Amount, s.Duration, s.Ended = 0, 0, 0, 0, 0
	for k := range s.Resource {
		s.Resource[k] = 0
	}
	s.X, s.Y = 0, 1
	setBits(s.S[:], new(big.Int))
	s.setLeaf(zk.EmptyUsageLeaf(context))
}

func (s *usageSlot) setLeaf(leaf zk.Field) {
	value := new(big.Int).SetBytes(leaf[:])
	setBits(s.E[:], value)
	s.High = new(big.Int).Rsh(value, zk.MeterChallengeBits)
}

// setBits writes the low bits of a value.
func setBits(to []frontend.Variable, value *big.Int) {
	for i := range to {
		to[i] = value.Bit(i)
	}
}

// Define builds the constraints.
func (c *usageCircuit) Define(api frontend.API) error {
	a := newAsserter(api, c.lacks)
	constrainPublics(api, c.Context, c.Totals)
	if a.asserts(groupBind) {
		constrainPublics(api, c.Bind)
	}
	context, err := sponge(api, zk.SpongeUsageContext, []frontend.Variable{c.Order[0], c.Order[1], c.Key[0], c.Key[1]})
	if err != nil {
		return err
	}
	a.equal(groupContext, context, c.Context)
	meter, err := newMeter(a, c.Key)
	if err != nil {
		return err
	}
	a.below(groupAfterRange, c.After, zk.UsageSequenceBits)
	sums := usageSums{last: c.After, count: 0}
	for k := range sums.totals {
		sums.totals[k] = 0
	}
	leaves := make([]frontend.Variable, len(c.Slots))
	for i := range c.Slots {
		slot := &c.Slots[i]
		slot.add(a, &sums)
		leaf, err := slot.leaf(a, c.Context)
		if err != nil {
			return err
		}
		meter.verify(a, slot)
		leaves[i] = api.Mul(leaf, slot.Active)
	}
	root, err := treeRoot(api, leaves)
	if err != nil {
		return err
	}
	digest, err := sponge(api, zk.SpongeUsageTotals, sums.message(api, c.After, root))
	if err != nil {
		return err
	}
	a.equal(groupTotals, digest, c.Totals)
	return nil
}

// usageSums is what the slots so far sum up to.
type usageSums struct {
	last, count frontend.Variable
	totals      [zk.UsageResources]frontend.Variable
}

// message is what zk.UsageTotals.Digest hashes.
func (s *usageSums) message(api frontend.API, after, root frontend.Variable) []frontend.Variable {
	out := pack(api, []frontend.Variable{after, s.last, s.count}, 3, zk.UsageSequenceBits)
	out = append(out, pack(api, s.totals[:], 2, zk.UsageTotalBits)...)
	return append(out, root)
}

// add checks a slot's ranges and adds it up.
func (s *usageSlot) add(a *asserter, sums *usageSums) {
	api := a.api
	a.boolean(groupActive, s.Active)
	a.boolean(groupResource, s.Resource[:]...)
	a.equal(groupResource, sum(api, s.Resource[:]), s.Active)
	a.below(groupSequence, s.Sequence, zk.UsageSequenceBits)
	a.below(groupAmount, s.Amount, zk.UsageAmountBits)
	a.below(groupDuration, s.Duration, zk.UsageDurationBits)
	a.below(groupEnded, s.Ended, zk.UsageEndedBits)

	step := api.Mul(s.Active, api.Sub(s.Sequence, sums.last))
	a.below(groupIncrease, api.Sub(step, s.Active), zk.UsageSequenceBits)
	sums.last = api.Add(sums.last, step)
	sums.count = api.Add(sums.count, s.Active)

	network := s.Resource[zk.UsageNetwork]
	duration := api.Sub(s.Duration, api.Mul(network, api.Sub(s.Duration, 1)))
	used := api.Mul(s.Amount, duration)
	for k := range s.Resource {
		sums.totals[k] = api.Add(sums.totals[k], api.Mul(s.Resource[k], used))
	}
}

// leaf returns the slot's leaf, with its challenge split off.
func (s *usageSlot) leaf(a *asserter, context frontend.Variable) (frontend.Variable, error) {
	api := a.api
	number := make([]frontend.Variable, zk.UsageResources)
	for k := range number {
		number[k] = api.Mul(s.Resource[k], k)
	}
	record := sum(api, []frontend.Variable{
		s.Sequence,
		shiftLeft(api, s.Amount, zk.UsageSequenceBits),
		shiftLeft(api, s.Duration, zk.UsageSequenceBits+zk.UsageAmountBits),
		shiftLeft(api, s.Ended, zk.UsageSequenceBits+zk.UsageAmountBits+zk.UsageDurationBits),
		shiftLeft(api, sum(api, number), zk.UsageSequenceBits+zk.UsageAmountBits+zk.UsageDurationBits+zk.UsageEndedBits),
	})
	leaf, err := sponge(api, zk.SpongeUsageRecord, []frontend.Variable{context, s.X, s.Y, record})
	if err != nil {
		return nil, err
	}
	terms := []frontend.Variable{shiftLeft(api, s.High, zk.MeterChallengeBits)}
	for i, bit := range s.E {
		terms = append(terms, shiftLeft(api, bit, i))
	}
	a.boolean(groupChallenge, s.E[:]...)
	a.equal(groupSplit, sum(api, terms), leaf)
	a.below(groupHigh, s.High, highBits)
	most := new(big.Int).Rsh(api.Compiler().Field(), zk.MeterChallengeBits)
	a.below(groupHigh, api.Sub(most.Sub(most, big.NewInt(1)), s.High), highBits)
	return leaf, nil
}

// treeRoot returns the root of the tree of arity 4 over leaves, those that lack
// being zero.
func treeRoot(api frontend.API, level []frontend.Variable) (frontend.Variable, error) {
	for len(level) > 1 {
		var up []frontend.Variable
		for at := 0; at < len(level); at += zk.TreeArity {
			children := []frontend.Variable{0, 0, 0, 0}
			copy(children, level[at:min(at+zk.TreeArity, len(level))])
			node, err := sponge(api, zk.SpongeTreeNode, children)
			if err != nil {
				return nil, err
			}
			up = append(up, node)
		}
		level = up
	}
	return level[0], nil
}

// meter verifies signatures of one key.
type meter struct {
	curve twistededwards.Curve
	// key[w] holds −A, −2A and −3A times 4^w.
	key [zk.MeterChallengeBits / keyWindow][3]twistededwards.Point
}

func newMeter(a *asserter, key [2]frontend.Variable) (*meter, error) {
	curve, err := twistededwards.NewEdCurve(a.api, edwards.BN254)
	if err != nil {
		return nil, err
	}
	at := twistededwards.Point{X: key[0], Y: key[1]}
	if a.asserts(groupKey) {
		curve.AssertIsOnCurve(at)
	}
	m := &meter{curve: curve}
	at = curve.Neg(at)
	for w := range m.key {
		double := curve.Double(at)
		m.key[w] = [3]twistededwards.Point{at, double, curve.Add(double, at)}
		at = curve.Double(double)
	}
	return m, nil
}

// verify asserts S · B − e · A = R if the slot is active.
func (m *meter) verify(a *asserter, s *usageSlot) {
	api := a.api
	a.boolean(groupScalar, s.S[:]...)
	var at twistededwards.Point
	for w, table := range baseTable() {
		p := lookupConstant(api, table, [scalarWindow]frontend.Variable(s.S[w*scalarWindow:]))
		if w == 0 {
			at = p
		} else {
			at = m.curve.Add(at, p)
		}
	}
	for w := range m.key {
		at = m.curve.Add(at, lookupKey(api, &m.key[w], s.E[w*keyWindow], s.E[w*keyWindow+1]))
	}
	a.product(groupSignature, s.Active, api.Sub(at.X, s.X), 0)
	a.product(groupSignature, s.Active, api.Sub(at.Y, s.Y), 0)
}

// lookupKey returns the neutral element or one of three points, by two bits.
func lookupKey(api frontend.API, points *[3]twistededwards.Point, low, high frontend.Variable) twistededwards.Point {
	both := api.Mul(low, high)
	pick := func(none, one, two, three frontend.Variable) frontend.Variable {
		return sum(api, []frontend.Variable{
			none,
			api.Mul(low, api.Sub(one, none)),
			api.Mul(high, api.Sub(two, none)),
			api.Mul(both, api.Add(api.Sub(three, one, two), none)),
		})
	}
	return twistededwards.Point{
		X: pick(0, points[0].X, points[1].X, points[2].X),
		Y: pick(1, points[0].Y, points[1].Y, points[2].Y),
	}
}

// window is j · 8^w · B for j = 0 … 7, as coefficients of the products of three
// bits: coefficient m belongs to the product of the bits in m.
type window [2][1 << scalarWindow]*big.Int

// baseTable is computed once: constants only.
var baseTable = sync.OnceValue(func() []window {
	params := bnedwards.GetEdwardsCurve()
	tables := make([]window, scalarBits/scalarWindow)
	base := params.Base
	for w := range tables {
		multiple := bnedwards.NewPointAffine(params.Base.X, params.Base.Y)
		multiple.ScalarMultiplication(&base, new(big.Int)) // the neutral element
		for j := range tables[w][0] {
			tables[w][0][j] = multiple.X.BigInt(new(big.Int))
			tables[w][1][j] = multiple.Y.BigInt(new(big.Int))
			multiple.Add(&multiple, &base)
		}
		for coordinate := range tables[w] {
			monomials(tables[w][coordinate][:])
		}
		base.Double(&base).Double(&base).Double(&base)
	}
	return tables
})

// monomials turns the values of a function of bits into the coefficients of its
// multilinear form: the Möbius transform over subsets.
func monomials(values []*big.Int) {
	for bit := 1; bit < len(values); bit <<= 1 {
		for m := range values {
			if m&bit != 0 {
				values[m] = new(big.Int).Sub(values[m], values[m^bit])
			}
		}
	}
}

// lookupConstant returns the point of a window by its bits: four products.
func lookupConstant(api frontend.API, table window, bits [scalarWindow]frontend.Variable) twistededwards.Point {
	products := [1 << scalarWindow]frontend.Variable{1, bits[0], bits[1], nil, bits[2]}
	for m := range products {
		if products[m] == nil {
			low := m & -m
			products[m] = api.Mul(products[low], products[m^low])
		}
	}
	coordinate := func(coefficients [1 << scalarWindow]*big.Int) frontend.Variable {
		terms := make([]frontend.Variable, len(products))
		for m, p := range products {
			terms[m] = api.Mul(p, coefficients[m])
		}
		return sum(api, terms)
	}
	return twistededwards.Point{X: coordinate(table[0]), Y: coordinate(table[1])}
}
