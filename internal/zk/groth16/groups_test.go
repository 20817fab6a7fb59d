package groth16

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/test"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// forgery is a witness of a false statement that only some groups of
// constraints stand in the way of: any one of them.
type forgery struct {
	groups  []string
	circuit frontend.Circuit
}

// lacking returns an unassigned circuit of the forgery's shape that leaves out
// what lacks says, and notes every group that it meets.
func lacking(kernel zk.Kernel, lacks []string, met map[string]bool) frontend.Circuit {
	leave := &omission{groups: lacks, met: met}
	shape, err := define(kernel)
	if err != nil {
		panic(err)
	}
	switch c := shape.(type) {
	case *matmulCircuit:
		c.lacks = leave
	case *hashchainCircuit:
		c.lacks = leave
	case *treeCircuit:
		c.lacks = leave
	case *mlpCircuit:
		c.lacks = leave
	case *usageCircuit:
		c.lacks = leave
	}
	return shape
}

// TestEveryGroupOfEveryKernelIsNeeded drops each group of assertions in turn:
// the witness forged for it is then accepted, and the whole circuit catches it.
// Every group that a circuit names has a forgery, but for bind, whose loss makes
// no key (TestUnconstrainedBindMakesNoKey).
func TestEveryGroupOfEveryKernelIsNeeded(t *testing.T) {
	rng := seeded(t)
	for kernel, forgeries := range map[zk.Kernel][]forgery{
		testKernel:        matmulForgeries(rng),
		"hashchain-1":     hashchainForgeries(rng),
		"merkle-update-1": treeForgeries(t, rng),
		"mlp-8":           mlpForgeries(rng),
		"usage-batch-4":   usageForgeries(t, rng),
	} {
		met, shown := map[string]bool{}, map[string]bool{groupBind: true}
		for _, f := range forgeries {
			if err := test.IsSolved(lacking(kernel, nil, met), f.circuit, ecc.BN254.ScalarField()); err == nil {
				t.Errorf("%s, %v: the whole circuit accepts the forgery", kernel, f.groups)
			}
			if err := test.IsSolved(lacking(kernel, f.groups, met), f.circuit, ecc.BN254.ScalarField()); err != nil {
				t.Errorf("%s, %v: without them the forgery is still caught, so it shows nothing: %v", kernel, f.groups, err)
			}
			for _, group := range f.groups {
				shown[group] = true
			}
		}
		for group := range met {
			if !shown[group] {
				t.Errorf("%s: nothing shows what %q is for", kernel, group)
			}
		}
	}
}

// TestAnUnboundKernelMakesNoKey is TestUnconstrainedBindMakesNoKey for every
// kernel: no constraint of the rest mentions bind.
func TestAnUnboundKernelMakesNoKey(t *testing.T) {
	for _, kernel := range smallest {
		system := compileCircuit(kernel, lacking(kernel, []string{groupBind}, map[string]bool{})).system
		bind := system.GetNbPublicVariables() - 1
		for _, row := range system.GetR1Cs() {
			for _, term := range slices.Concat(row.L, row.R, row.O) {
				if term.WireID() == bind {
					t.Fatalf("%s: %s", kernel, row.String(system))
				}
			}
		}
	}
}

func hashchainForgeries(rng *rand.Rand) []forgery {
	work, err := zk.NewHashchainWork(1, randomField(rng))
	if err != nil {
		panic(err)
	}
	honest := func() *hashchainCircuit { return assignHashchain(statementOf(work, zk.Field{})) }
	start, end := honest(), honest()
	start.Start = 7
	end.End = 7
	return []forgery{{[]string{groupStart}, start}, {[]string{groupEnd}, end}}
}

func treeForgeries(t *testing.T, rng *rand.Rand) []forgery {
	tree, updates := randomTree(t, rng, 1)
	updates[0].Index = 0xfffffff1 // bits 01 at the lowest level
	work, err := zk.NewTreeWork(tree, updates)
	if err != nil {
		t.Fatal(err)
	}
	of := func(w *zk.TreeWork) *treeCircuit { return assignTree(statementOf(w, zk.Field{}), w) }
	before, digest, after := of(work), of(work), of(work)
	before.Before, digest.Updates, after.After = 7, 7, 7

	// Position: the bits 3 and 0 stand for 1 + 2, as 1 and 1 do, and so name
	// the same index; the way that they take writes the leaf elsewhere.
	position := of(work)
	position.forgePosition(t, work, updates[0])

	// Child: the old leaf is said to be another, so the way leads to nothing.
	child := of(work)
	child.Steps[0].Old = 12345
	return []forgery{
		{[]string{groupBefore}, before}, {[]string{groupUpdates}, digest}, {[]string{groupAfter}, after},
		{[]string{groupPosition}, position},
		{[]string{groupChild}, child.withLooseChild(work, updates[0])},
	}
}

// forgePosition names the leaf's index by bits that are none: 1 + 2·0 as
// (−1) + 2·1 at the lowest level. One-hot then gives (−1, 0, 2, 0 …) instead.
func (c *treeCircuit) forgePosition(t *testing.T, work *zk.TreeWork, u zk.TreeUpdate) {
	t.Helper()
	bits := [treeBits]*big.Int{big.NewInt(-1), big.NewInt(1)}
	both := new(big.Int).Mul(bits[0], bits[1])
	at := [zk.TreeArity]*big.Int{
		new(big.Int).Add(new(big.Int).Sub(new(big.Int).Sub(big.NewInt(1), bits[0]), bits[1]), both),
		new(big.Int).Sub(bits[0], both), new(big.Int).Sub(bits[1], both), both,
	}
	step := work.Steps()[0]
	old := new(big.Int)
	for i, child := range step.Path[0] {
		old.Add(old, new(big.Int).Mul(at[i], number(child)))
	}
	old.Mod(old, fr.Modulus())
	change := new(big.Int).Sub(number(u.Value), old)
	var children [zk.TreeArity]zk.Field
	for i, child := range step.Path[0] {
		v := new(big.Int).Add(number(child), new(big.Int).Mul(at[i], change))
		children[i] = fieldOf(v)
	}
	c.Steps[0].Bits[0] = [treeBits]frontend.Variable{bits[0], bits[1]}
	c.Steps[0].Old = old
	c.After = number(rootAlong(step, 1, nodeOf(children)))
}

// withLooseChild sets After to where a wrong old leaf leads.
func (c *treeCircuit) withLooseChild(work *zk.TreeWork, u zk.TreeUpdate) *treeCircuit {
	step := work.Steps()[0]
	position := step.Index % zk.TreeArity
	children := step.Path[0]
	v := new(big.Int).Sub(number(u.Value), toBig(c.Steps[0].Old))
	children[position] = fieldOf(v.Add(v, number(children[position])))
	c.After = number(rootAlong(step, 1, nodeOf(children)))
	return c
}

// rootAlong follows a step's path from a node of a level up to the root.
func rootAlong(step zk.TreeStep, level int, node zk.Field) zk.Field {
	for l := level; l < zk.TreeDepth; l++ {
		children := step.Path[l]
		children[step.Index>>(treeBits*l)%zk.TreeArity] = node
		node = nodeOf(children)
	}
	return node
}

// nodeOf is a tree's node, from a tree of the four leaves at its left edge.
func nodeOf(children [zk.TreeArity]zk.Field) zk.Field { return zk.TreeNode(children) }

func number(f zk.Field) *big.Int { return new(big.Int).SetBytes(f[:]) }

func fieldOf(v *big.Int) zk.Field {
	return zk.Field(new(big.Int).Mod(v, fr.Modulus()).FillBytes(make([]byte, zk.FieldSize)))
}

// mlpForgeries break one rule of inference each and are right in all else.
func mlpForgeries(rng *rand.Rand) []forgery {
	model, sample := randomModel(rng)
	model.Hidden[0], model.HiddenBias[0] = [4]int8{}, 100 // unit 0 has the sum 100
	model.Hidden[1], model.HiddenBias[1] = [4]int8{}, -50 // unit 1 has the sum −50
	for k := range model.Score {
		model.Score[k][0], model.Score[k][1] = int8(k+1), int8(k+1)
	}
	work, err := zk.NewMLPWork(model, sample)
	if err != nil {
		panic(err)
	}
	honest := func() *mlpCircuit { return assignMLP(statementOf(work, zk.Field{}), work) }
	out := []forgery{
		{[]string{groupModel}, honest()}, {[]string{groupX}, honest()}, {[]string{groupResult}, honest()},
	}
	out[0].circuit.(*mlpCircuit).Model = 1
	out[1].circuit.(*mlpCircuit).X = 1
	out[2].circuit.(*mlpCircuit).Result = 1

	unit := func(i int, value int64) *mlpCircuit {
		c := honest()
		c.Units[i] = value
		return c.scored()
	}
	out = append(out,
		forgery{[]string{groupRelu}, unit(0, 105)},
		forgery{[]string{groupUnit}, unit(1, -50)},
		forgery{[]string{groupSlack}, unit(0, 0)},
	)
	scores := honest()
	scores.Scores[0] = new(big.Int).Add(toBig(scores.Scores[0]), big.NewInt(1<<20))
	out = append(out, forgery{[]string{groupScores}, scores.answered()})

	lower := honest()
	lower.Answer = [zk.MLPClasses]frontend.Variable{0, 0, 0}
	lower.Answer[(work.Result().Class+1)%zk.MLPClasses] = 1
	out = append(out, forgery{[]string{groupHighest}, lower.hashed()})

	none := honest() // half of two answers that are not there: 2 · a + (−1) · b
	none.Answer = [zk.MLPClasses]frontend.Variable{0, 0, 0}
	class := work.Result().Class
	none.Answer[class], none.Answer[(class+1)%zk.MLPClasses] = 2, -1
	out = append(out, forgery{[]string{groupAnswer, groupHighest}, none.hashed()})

	return append(out, mlpRangeForgeries(honest)...)
}

// mlpRangeForgeries move a unit of packing between neighbours, which leaves the
// digests as they are.
func mlpRangeForgeries(honest func() *mlpCircuit) []forgery {
	carry := func(a, b *frontend.Variable) {
		*a = new(big.Int).Add(toBig(*a), new(big.Int).Lsh(big.NewInt(1), zk.MLPBiasBits))
		*b = new(big.Int).Sub(toBig(*b), big.NewInt(1))
	}
	weights, biases, sample := honest(), honest(), honest()
	// Weights 0 and 1 of unit 0; the bias of unit 0 and the weight after it.
	// Sums change by much, so the units are recomputed; biases reach beyond.
	carry(&weights.Params[0], &weights.Params[1])
	carry(&biases.Params[zk.MLPFeatures], &biases.Params[zk.MLPFeatures+1])
	carry(&sample.Sample[0], &sample.Sample[1])
	return []forgery{
		{[]string{groupWeights, groupUnit, groupSlack, groupHighest}, weights.inferred()},
		{[]string{groupBiases, groupUnit, groupSlack, groupWeights, groupHighest}, biases.inferred()},
		{[]string{groupSample, groupUnit, groupSlack, groupHighest}, sample.inferred()},
	}
}

// inferred recomputes units from parameters and sample of any size.
func (c *mlpCircuit) inferred() *mlpCircuit {
	at := 0
	for i := range c.Units {
		sum := new(big.Int)
		for _, x := range c.Sample {
			sum.Add(sum, new(big.Int).Mul(toBig(c.Params[at]), toBig(x)))
			at++
		}
		sum.Add(sum, toBig(c.Params[at]))
		at++
		if sum.Sign() < 0 {
			sum.SetInt64(0)
		}
		c.Units[i] = sum
	}
	return c.scored()
}

// scored recomputes scores from units.
func (c *mlpCircuit) scored() *mlpCircuit {
	at := zk.MLPHidden * (zk.MLPFeatures + 1)
	for k := range c.Scores {
		sum := new(big.Int)
		for _, u := range c.Units {
			sum.Add(sum, new(big.Int).Mul(toBig(c.Params[at]), toBig(u)))
			at++
		}
		c.Scores[k] = sum.Add(sum, toBig(c.Params[at]))
		at++
	}
	return c.answered()
}

// answered sets the answer to the highest score.
func (c *mlpCircuit) answered() *mlpCircuit {
	best := 0
	for k := range c.Scores {
		if toBig(c.Scores[k]).Cmp(toBig(c.Scores[best])) > 0 {
			best = k
		}
	}
	c.Answer = [zk.MLPClasses]frontend.Variable{0, 0, 0}
	c.Answer[best] = 1
	return c.hashed()
}

// hashed sets the result's digest to that of answer and scores.
func (c *mlpCircuit) hashed() *mlpCircuit {
	class := new(big.Int)
	for k, v := range c.Answer {
		class.Add(class, new(big.Int).Mul(toBig(v), big.NewInt(int64(k))))
	}
	message := []fr.Element{elementOf(class)}
	for _, s := range c.Scores {
		message = append(message, elementOf(new(big.Int).Add(toBig(s), big.NewInt(zk.MLPScoreOffset))))
	}
	c.Result = number(zk.Sponge(zk.SpongeMLPResult, message))
	return c
}

func elementOf(v *big.Int) fr.Element { return element(fieldOf(v)) }
