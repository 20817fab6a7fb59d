package groth16

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	bnedwards "github.com/consensys/gnark-crypto/ecc/bn254/twistededwards"
	"github.com/consensys/gnark/frontend"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// attempt is a witness of a kernel that somebody changes as they like, with the second implementation
// that its constraints are held against.
type attempt struct {
	kernel  zk.Kernel
	circuit frontend.Circuit
	// holds reports whether the values are those of a true statement, by plain Go alone.
	holds func() bool
	// repair makes all that follows from the private inputs follow from them, publics too, whatever they are:
	// so that one rule alone stands in the way of a forgery.
	repair func()
	// finish is repair that leaves alone what is computed first, where something is between inputs and publics.
	finish func()

	at   []*frontend.Variable // every value, in the circuit's order
	rank []int                // into at: what there is little of first, bits and entries last
}

var attemptKernels = append([]zk.Kernel{testKernel}, smallest...)

func newAttempt(t testing.TB, rng *rand.Rand, kernel zk.Kernel) *attempt {
	t.Helper()
	a := &attempt{kernel: kernel}
	if family, _, _ := kernel.Of(); family == zk.UsageBatch {
		f := newUsageForger(rng)
		c := f.sign(f.batch(func(c *usageCircuit) { randomSlots(rng, c) }))
		c.Totals = number(c.totals())
		a.circuit, a.holds, a.repair = c, c.holds, func() { c.repair(f) }
	} else {
		work := randomWork(t, rng, kernel)
		a.circuit = assign(statementOf(work, randomField(rng)), work)
		switch c := a.circuit.(type) {
		case *matmulCircuit:
			a.holds, a.repair = c.holds, c.repair
		case *hashchainCircuit:
			a.holds, a.repair = c.holds, c.repair
		case *treeCircuit:
			a.holds, a.repair = c.holds, c.repair
		case *mlpCircuit:
			a.holds, a.repair, a.finish = c.holds, c.repair, c.finish
		}
	}
	if a.finish == nil {
		a.finish = a.repair
	}
	names, at := values(a.circuit)
	a.at = at
	for i := range at {
		a.rank = append(a.rank, i)
	}
	slices.SortStableFunc(a.rank, func(i, j int) int { return strings.Count(names[i], "[") - strings.Count(names[j], "[") })
	a.reduce()
	return a
}

// randomSlots has records of every resource, and slots without one among them.
func randomSlots(rng *rand.Rand, c *usageCircuit) {
	for i := range c.Slots {
		s := &c.Slots[i]
		s.Sequence, s.Amount, s.Duration = 11+i, rng.Int64N(1<<zk.UsageAmountBits), rng.Int64N(1<<zk.UsageDurationBits)
		s.Resource = [zk.UsageResources]frontend.Variable{0, 0, 0, 0, 0}
		if s.Active = rng.IntN(4); s.Active != 0 {
			s.Active, s.Resource[rng.IntN(zk.UsageResources)] = 1, 1
		}
	}
}

// reduce writes every value as the number of the least size that it stands for.
func (a *attempt) reduce() {
	half := new(big.Int).Rsh(fr.Modulus(), 1)
	for _, at := range a.at {
		v := new(big.Int).Mod(toBig(*at), fr.Modulus())
		if v.Cmp(half) > 0 {
			v.Sub(v, fr.Modulus())
		}
		*at = v
	}
}

// editBytes is how long one change of a script is.
const editBytes = 5

// follow changes values as a script says, and takes some of another true witness.
func (a *attempt) follow(script []byte, other *attempt) {
	for n := 0; len(script) >= editBytes && n < 8; n++ {
		op, index, x, y := script[0]%8, int(script[1])<<8|int(script[2]), int(script[3]), script[4]
		script = script[editBytes:]
		first := a.rank[index%max(1, len(a.rank)>>(y>>5))]
		v := toBig(*a.at[first])
		switch op {
		case 0:
			*a.at[first] = new(big.Int).Add(v, big.NewInt(int64(int8(x))))
		case 1:
			*a.at[first] = big.NewInt(int64(x))
		case 2:
			*a.at[first] = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(x)))
		case 3:
			*a.at[first] = new(big.Int).Neg(v)
		case 4:
			*a.at[first] = *a.at[a.rank[x%len(a.rank)]]
		case 5:
			for i := first; i < min(len(a.at), first+1+x%32); i++ {
				*a.at[i] = *other.at[i]
			}
		case 6:
			a.finish()
		default:
			a.repair()
		}
		a.reduce()
	}
}

// judge holds the constraints against plain Go: they are satisfied by nothing but true statements, and by each of
// them, also if the hints lie. It returns what both say.
func (a *attempt) judge(t *testing.T) bool {
	t.Helper()
	system := sharedSetup().keys.circuit.system
	if a.kernel != testKernel {
		system = compiled[a.kernel]().system
	}
	_, err := solveSystem(system, a.circuit, lyingHints(t)...)
	holds := a.holds()
	if holds != (err == nil) {
		t.Errorf("%s: plain Go says %v, the constraints %v, of %s", a.kernel, holds, err, a)
	}
	return holds
}

// String lists the values that are not bits.
func (a *attempt) String() string {
	names, at := values(a.circuit)
	var out strings.Builder
	for i, name := range names {
		if v := toBig(*at[i]); v.BitLen() > 1 {
			fmt.Fprintf(&out, "%s = %d, ", name, v)
		}
	}
	return out.String()
}

// TestConstraintsHoldWhatPlainGoHolds changes witnesses at random, some so that all follows anew from what was changed.
func TestConstraintsHoldWhatPlainGoHolds(t *testing.T) {
	rng := seeded(t)
	for _, kernel := range attemptKernels {
		taken, rounds := 0, 4_000
		if len(newAttempt(t, rng, kernel).at) > 100 {
			rounds = 200 // each takes longer
		}
		if testing.Short() {
			rounds /= 10
		}
		for range rounds {
			a := newAttempt(t, rng, kernel)
			var script []byte
			for range 1 + rng.IntN(3) {
				for range editBytes {
					script = append(script, byte(rng.Uint32()))
				}
			}
			if rng.IntN(2) == 0 {
				script = append(script, byte(6+rng.IntN(2)), 0, 0, 0, 0)
			}
			a.follow(script, newAttempt(t, rng, kernel))
			if a.judge(t) {
				taken++
			}
		}
		t.Logf("%s: %d of %d statements are true", kernel, taken, rounds)
		if taken == 0 || taken == rounds {
			t.Errorf("%s: %d of %d statements are true, so the others show nothing", kernel, taken, rounds)
		}
	}
}

// FuzzWitness looks for a witness of any kernel that its constraints and plain Go judge differently.
func FuzzWitness(f *testing.F) {
	for kernel := range attemptKernels {
		f.Add(byte(kernel), uint64(1), []byte{})
		f.Add(byte(kernel), uint64(2), []byte{7, 0, 0, 0, 0})
		f.Add(byte(kernel), uint64(3), []byte{0, 0, 9, 1, 0, 7, 0, 0, 0, 0})
		f.Add(byte(kernel), uint64(4), []byte{5, 0, 0, 31, 0, 2, 0, 7, 40, 64, 7, 0, 0, 0, 0})
		f.Add(byte(kernel), uint64(5), []byte{2, 0, 5, 64, 64, 3, 0, 3, 0, 96})
	}
	f.Fuzz(func(t *testing.T, kernel byte, seed uint64, script []byte) {
		rng := rand.New(rand.NewPCG(seed, 0))
		name := attemptKernels[int(kernel)%len(attemptKernels)]
		a := newAttempt(t, rng, name)
		a.follow(script, newAttempt(t, rng, name))
		a.judge(t)
	})
}

// within reports whether 0 ≤ v < 2^bits.
func within(v frontend.Variable, bits int) bool {
	n := toBig(v)
	return n.Sign() >= 0 && n.BitLen() <= bits
}

// signedWithin reports whether −2^(bits−1) ≤ v < 2^(bits−1).
func signedWithin(v frontend.Variable, bits int) bool {
	return within(new(big.Int).Add(toBig(v), new(big.Int).Lsh(big.NewInt(1), uint(bits-1))), bits)
}

// equals reports whether a value is an element of the field.
func equals(v frontend.Variable, f zk.Field) bool { return fieldOf(toBig(v)) == f }

// packed lays numbers of any size into elements as zk lays those that are within their bits.
func packed(values []frontend.Variable, per, bits int) []fr.Element {
	half := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	out := make([]fr.Element, (len(values)+per-1)/per)
	for i, v := range values {
		part := new(big.Int).Add(toBig(v), half)
		e := elementOf(part.Lsh(part, uint(bits*(i%per))))
		out[i/per].Add(&out[i/per], &e)
	}
	return out
}

func (c *hashchainCircuit) end() zk.Field {
	work, err := zk.NewHashchainWork(1, fieldOf(toBig(c.First)))
	if err != nil {
		panic(err)
	}
	return work.Outputs()[0]
}

func (c *hashchainCircuit) holds() bool {
	return equals(c.Start, fieldOf(toBig(c.First))) && equals(c.End, c.end())
}

func (c *hashchainCircuit) repair() { c.Start, c.End = c.First, number(c.end()) }

// matrixOf is a factor of 16-bit entries, and false if one is larger.
func matrixOf(entries []frontend.Variable) (zk.Matrix, bool) {
	cells := make([]int16, len(entries))
	for i, v := range entries {
		if !signedWithin(v, zk.MatmulFactorBits) {
			return zk.Matrix{}, false
		}
		cells[i] = int16(toBig(v).Int64())
	}
	return mustMatrix(testSize, cells), true
}

func (c *matmulCircuit) holds() bool {
	left, ok := matrixOf(c.A)
	right, both := matrixOf(c.B)
	if !ok || !both {
		return false
	}
	product, err := zk.Multiply(left, right)
	if err != nil {
		panic(err)
	}
	for i, v := range product.Cells() {
		if toBig(c.C[i]).Cmp(big.NewInt(v)) != 0 {
			return false
		}
	}
	return equals(c.Left, zk.LeftDigest(left)) && equals(c.Right, zk.RightDigest(right)) && equals(c.Product, zk.ProductDigest(product))
}

func (c *matmulCircuit) repair() {
	for i := range testSize {
		for k := range testSize {
			sum := new(big.Int)
			for j := range testSize {
				sum.Add(sum, new(big.Int).Mul(toBig(c.A[i*testSize+j]), toBig(c.B[j*testSize+k])))
			}
			c.C[i*testSize+k] = sum
		}
	}
	c.Left = number(zk.Sponge(zk.SpongeMatmulLeft, packed(c.A, zk.MatmulFactorPack, zk.MatmulFactorBits)))
	c.Right = number(zk.Sponge(zk.SpongeMatmulRight, packed(c.B, zk.MatmulFactorPack, zk.MatmulFactorBits)))
	c.Product = number(zk.Sponge(zk.SpongeMatmulProduct, packed(c.C, zk.MatmulProductPack, zk.MatmulProductBits)))
}

// holds rebuilds the witness from model and sample: every value follows from them.
func (c *mlpCircuit) holds() bool {
	model, sample, fits := &zk.MLPModel{Salt: fieldOf(toBig(c.Salt))}, zk.MLPSample{}, true
	small := func(v frontend.Variable, bits int) int16 {
		fits = fits && signedWithin(v, bits)
		return int16(toBig(v).Int64())
	}
	at := 0
	row := func(weights []int8) (bias int16) {
		for i := range weights {
			weights[i] = int8(small(c.Params[at], zk.MLPWeightBits))
			at++
		}
		at++
		return small(c.Params[at-1], zk.MLPBiasBits)
	}
	for i := range model.Hidden {
		model.HiddenBias[i] = row(model.Hidden[i][:])
	}
	for k := range model.Score {
		model.ScoreBias[k] = row(model.Score[k][:])
	}
	for i, v := range c.Sample {
		sample[i] = int8(small(v, zk.MLPWeightBits))
	}
	if !fits {
		return false
	}
	work, err := zk.NewMLPWork(model, sample)
	if err != nil {
		panic(err)
	}
	names, want := values(assignMLP(statementOf(work, zk.Field{}), work))
	_, is := values(c)
	for i, name := range names {
		if name != ".Bind" && fieldOf(toBig(*is[i])) != fieldOf(toBig(*want[i])) {
			return false
		}
	}
	return true
}

func (c *mlpCircuit) repair() {
	c.inferred()
	c.finish()
}

// finish goes on from the units.
func (c *mlpCircuit) finish() {
	c.scored()
	model := append([]fr.Element{elementOf(toBig(c.Salt))}, packed(c.Params[:], zk.MLPParamsPack, zk.MLPBiasBits)...)
	c.Model = number(zk.Sponge(zk.SpongeMLPModel, model))
	c.X = number(zk.Sponge(zk.SpongeMLPSample, packed(c.Sample[:], zk.MLPParamsPack, zk.MLPBiasBits)))
}

// position is a leaf's at its level, and false if its bits are none.
func (s *treeStep) position(level int) (int, bool) {
	low, high := s.Bits[level][0], s.Bits[level][1]
	return int(toBig(low).Bit(0) + 2*toBig(high).Bit(0)), within(low, 1) && within(high, 1)
}

// walk follows the path from both values of the leaf to the roots; place puts the old one on it.
func (s *treeStep) walk(place bool) (before, after zk.Field, index uint32, ok bool) {
	before, after, ok = fieldOf(toBig(s.Old)), fieldOf(toBig(s.New)), true
	for l := range zk.TreeDepth {
		at, are := s.position(l)
		if place {
			s.Path[l][at] = number(before)
		}
		var children [zk.TreeArity]zk.Field
		for i, v := range s.Path[l] {
			children[i] = fieldOf(toBig(v))
		}
		ok = ok && are && children[at] == before
		index |= uint32(at) << (treeBits * l)
		before = zk.TreeNode(children)
		children[at] = after
		after = zk.TreeNode(children)
	}
	return before, after, index, ok
}

func (c *treeCircuit) holds() bool {
	root := fieldOf(toBig(c.Before))
	var updates []zk.TreeUpdate
	for i := range c.Steps {
		before, after, index, ok := c.Steps[i].walk(false)
		if !ok || before != root {
			return false
		}
		root = after
		updates = append(updates, zk.TreeUpdate{Index: index, Value: fieldOf(toBig(c.Steps[i].New))})
	}
	return equals(c.After, root) && equals(c.Updates, zk.UpdatesDigest(updates))
}

func (c *treeCircuit) repair() {
	step := &c.Steps[0] // there is no other
	before, after, _, _ := step.walk(true)
	index := new(big.Int)
	for l, bits := range step.Bits {
		for b, bit := range bits {
			index.Add(index, new(big.Int).Lsh(toBig(bit), uint(treeBits*l+b)))
		}
	}
	c.Before, c.After = number(before), number(after)
	c.Updates = number(zk.Sponge(zk.SpongeTreeUpdates, elements(index, step.New)))
}

// totals is the digest of what plain Go makes of the records, which are within their bits.
func (c *usageCircuit) totals() zk.Field {
	after := toBig(c.After).Uint64()
	out := zk.UsageTotals{After: after, Last: after}
	var sums [zk.UsageResources]big.Int
	var leaves [zk.TreeArity]zk.Field
	for i := range c.Slots {
		s := &c.Slots[i]
		if toBig(s.Active).Sign() == 0 {
			continue
		}
		out.Count++
		out.Last = toBig(s.Sequence).Uint64()
		leaves[i] = fieldOf(leafOf(c, s))
		for k, v := range s.Resource {
			used := new(big.Int).Set(toBig(s.Amount))
			if k != zk.UsageNetwork {
				used.Mul(used, toBig(s.Duration))
			}
			sums[k].Add(&sums[k], used.Mul(used, toBig(v)))
		}
	}
	for k := range sums {
		out.Totals[k] = zk.UsageTotal{High: new(big.Int).Rsh(&sums[k], 64).Uint64(), Low: new(big.Int).And(&sums[k], ones(64)).Uint64()}
	}
	out.Root = zk.TreeNode(leaves)
	return out.Digest()
}

func ones(bits uint) *big.Int {
	return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(1))
}

func (c *usageCircuit) holds() bool {
	key := bnedwards.NewPointAffine(elementOf(toBig(c.Key[0])), elementOf(toBig(c.Key[1])))
	if !key.IsOnCurve() || !within(c.After, zk.UsageSequenceBits) || !equals(c.Context, c.context()) {
		return false
	}
	last := toBig(c.After)
	for i := range c.Slots {
		s := &c.Slots[i]
		if _, bits := bitsOf(s.S[:]); !bits || !s.bounded() || !s.split(leafOf(c, s)) {
			return false
		}
		if toBig(s.Active).Sign() == 0 {
			continue
		}
		if toBig(s.Sequence).Cmp(last) <= 0 || !s.signed(&key) {
			return false
		}
		last = toBig(s.Sequence)
	}
	return equals(c.Totals, c.totals())
}

func (c *usageCircuit) context() zk.Field {
	return zk.Sponge(zk.SpongeUsageContext, elements(c.Order[0], c.Order[1], c.Key[0], c.Key[1]))
}

// bounded reports whether a slot's numbers are within their bits, and one resource is used if any.
func (s *usageSlot) bounded() bool {
	resources := new(big.Int)
	for _, v := range s.Resource {
		if !within(v, 1) {
			return false
		}
		resources.Add(resources, toBig(v))
	}
	return within(s.Active, 1) && resources.Cmp(toBig(s.Active)) == 0 && within(s.Sequence, zk.UsageSequenceBits) &&
		within(s.Amount, zk.UsageAmountBits) && within(s.Duration, zk.UsageDurationBits) && within(s.Ended, zk.UsageEndedBits)
}

// bitsOf is the number that bits are, and false if one is none.
func bitsOf(bits []frontend.Variable) (*big.Int, bool) {
	n := new(big.Int)
	for i, bit := range bits {
		if !within(bit, 1) {
			return nil, false
		}
		n.SetBit(n, i, toBig(bit).Bit(0))
	}
	return n, true
}

// split reports whether the challenge and the high part are those of the leaf.
func (s *usageSlot) split(leaf *big.Int) bool {
	e, ok := bitsOf(s.E[:])
	most := new(big.Int).Rsh(fr.Modulus(), zk.MeterChallengeBits)
	high := new(big.Int).Rsh(leaf, zk.MeterChallengeBits)
	return ok && e.Cmp(new(big.Int).And(leaf, lowOnes())) == 0 && toBig(s.High).Cmp(high) == 0 && high.Cmp(most) < 0
}

// signed reports whether S · B = R + e · A.
func (s *usageSlot) signed(key *bnedwards.PointAffine) bool {
	scalar, ok := bitsOf(s.S[:])
	e, both := bitsOf(s.E[:])
	r := bnedwards.NewPointAffine(elementOf(toBig(s.X)), elementOf(toBig(s.Y)))
	if !ok || !both || !r.IsOnCurve() {
		return false
	}
	params := bnedwards.GetEdwardsCurve()
	var left, right bnedwards.PointAffine
	left.ScalarMultiplication(&params.Base, scalar)
	right.ScalarMultiplication(key, e)
	right.Add(&right, &r)
	return left.Equal(&right)
}

// repair signs all records anew, whatever they say.
func (c *usageCircuit) repair(f *usageForger) {
	c.Context = number(c.context())
	f.sign(c)
	for i := range c.Slots {
		if !c.Slots[i].bounded() {
			return // summed up as sign does it
		}
	}
	if within(c.After, zk.UsageSequenceBits) {
		c.Totals = number(c.totals())
	}
}
