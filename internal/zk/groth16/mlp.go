package groth16

import (
	"math/big"

	"github.com/consensys/gnark/frontend"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	groupWeights = "range of weights"
	groupBiases  = "range of biases"
	groupSample  = "range of the sample"
	groupRelu    = "one of sum and zero"
	groupUnit    = "range of a unit"
	groupSlack   = "range of a unit's slack"
	groupScores  = "scores"
	groupAnswer  = "one answer"
	groupHighest = "highest score"
	groupModel   = "model digest"
	groupX       = "sample digest"
	groupResult  = "result digest"
)

// mlpCircuit states: there is a model with the digest Model and a sample with
// the digest X, and the network's class and scores have the digest Result.
//
//  1. Range checks make the packing of parameters and sample injective.
//  2. A unit is max(sum, 0): it and its slack unit − sum are not negative, and
//     their product is zero. Every sum is below 2¹⁸ in size, so nothing wraps.
//  3. Answer is one-hot, and the score it picks is no less than any other, and
//     more than those of lower classes.
type mlpCircuit struct {
	Model  frontend.Variable `gnark:",public"`
	X      frontend.Variable `gnark:",public"`
	Result frontend.Variable `gnark:",public"`
	Bind   frontend.Variable `gnark:",public"`

	Salt   frontend.Variable
	Params [zk.MLPParams]frontend.Variable // as zk.MLPModel.Params
	Sample [zk.MLPFeatures]frontend.Variable
	Units  [zk.MLPHidden]frontend.Variable
	Scores [zk.MLPClasses]frontend.Variable
	Answer [zk.MLPClasses]frontend.Variable // one-hot

	lacks *omission
}

func newMLPCircuit() *mlpCircuit { return &mlpCircuit{} }

func assignMLP(s zk.Statement, w *zk.MLPWork) *mlpCircuit {
	model, sample, result := w.Model(), w.Sample(), w.Result()
	c := &mlpCircuit{Model: s.Inputs[0][:], X: s.Inputs[1][:], Result: s.Output[0][:], Bind: s.Bind[:], Salt: model.Salt[:]}
	for i, v := range model.Params() {
		c.Params[i] = int64(v)
	}
	for i, v := range sample {
		c.Sample[i] = int64(v)
	}
	for i, row := range model.Hidden {
		sum := int64(model.HiddenBias[i])
		for j, w := range row {
			sum += int64(w) * int64(sample[j])
		}
		c.Units[i] = max(sum, 0)
	}
	for k, v := range result.Scores {
		c.Scores[k], c.Answer[k] = v, 0
	}
	c.Answer[result.Class] = 1
	return c
}

// Define builds the constraints.
func (c *mlpCircuit) Define(api frontend.API) error {
	a := newAsserter(api, c.lacks)
	constrainPublics(api, c.Model, c.X, c.Result)
	if a.asserts(groupBind) {
		constrainPublics(api, c.Bind)
	}
	packed, sample := c.ranges(a)
	c.infer(a)
	answer := c.answer(a)
	for _, d := range []struct {
		group   string
		use     zk.SpongeUse
		message []frontend.Variable
		public  frontend.Variable
	}{
		{groupModel, zk.SpongeMLPModel, append([]frontend.Variable{c.Salt}, packed...), c.Model},
		{groupX, zk.SpongeMLPSample, sample, c.X},
		{groupResult, zk.SpongeMLPResult, append([]frontend.Variable{answer}, c.offsetScores(api)...), c.Result},
	} {
		digest, err := sponge(api, d.use, d.message)
		if err != nil {
			return err
		}
		a.equal(d.group, digest, d.public)
	}
	return nil
}

// ranges checks every parameter and feature and returns them packed.
func (c *mlpCircuit) ranges(a *asserter) (params, sample []frontend.Variable) {
	offset := new(big.Int).Lsh(big.NewInt(1), zk.MLPBiasBits-1)
	shifted := make([]frontend.Variable, 0, zk.MLPParams)
	for i, v := range c.Params {
		if isBias(i) {
			a.signed(groupBiases, v, zk.MLPBiasBits)
		} else {
			a.signed(groupWeights, v, zk.MLPWeightBits)
		}
		shifted = append(shifted, a.api.Add(v, offset))
	}
	features := make([]frontend.Variable, 0, zk.MLPFeatures)
	for _, v := range c.Sample {
		a.signed(groupSample, v, zk.MLPWeightBits)
		features = append(features, a.api.Add(v, offset))
	}
	return pack(a.api, shifted, zk.MLPParamsPack, zk.MLPBiasBits), pack(a.api, features, zk.MLPParamsPack, zk.MLPBiasBits)
}

// isBias reports whether parameter i is the last of its row.
func isBias(i int) bool {
	const hiddenRow, scoreRow = zk.MLPFeatures + 1, zk.MLPHidden + 1
	if i < zk.MLPHidden*hiddenRow {
		return i%hiddenRow == zk.MLPFeatures
	}
	return (i-zk.MLPHidden*hiddenRow)%scoreRow == zk.MLPHidden
}

// infer holds units and scores to the parameters and the sample.
func (c *mlpCircuit) infer(a *asserter) {
	at := 0
	row := func(x []frontend.Variable) frontend.Variable {
		terms := make([]frontend.Variable, 0, len(x)+1)
		for _, v := range x {
			terms = append(terms, a.api.Mul(c.Params[at], v))
			at++
		}
		terms = append(terms, c.Params[at])
		at++
		return sum(a.api, terms)
	}
	for i := range c.Units {
		slack := a.api.Sub(c.Units[i], row(c.Sample[:]))
		a.product(groupRelu, c.Units[i], slack, 0)
		a.below(groupUnit, c.Units[i], zk.MLPHiddenBits)
		a.below(groupSlack, slack, zk.MLPHiddenBits)
	}
	for k := range c.Scores {
		a.equal(groupScores, c.Scores[k], row(c.Units[:]))
	}
}

// answer holds the answer to the scores and returns the class.
func (c *mlpCircuit) answer(a *asserter) frontend.Variable {
	a.boolean(groupAnswer, c.Answer[:]...)
	a.equal(groupAnswer, sum(a.api, c.Answer[:]), 1)
	var picked, class, above []frontend.Variable // above[k]: 1 if the class is above k
	for k := range c.Answer {
		picked = append(picked, a.api.Mul(c.Answer[k], c.Scores[k]))
		class = append(class, a.api.Mul(c.Answer[k], k))
		above = append(above, sum(a.api, append([]frontend.Variable{0}, c.Answer[k+1:]...)))
	}
	highest := sum(a.api, picked)
	for k, score := range c.Scores {
		a.below(groupHighest, a.api.Sub(highest, score, above[k]), zk.MLPScoreBits+1)
	}
	return sum(a.api, class)
}

func (c *mlpCircuit) offsetScores(api frontend.API) []frontend.Variable {
	out := make([]frontend.Variable, 0, zk.MLPClasses)
	for _, s := range c.Scores {
		out = append(out, api.Add(s, zk.MLPScoreOffset))
	}
	return out
}
