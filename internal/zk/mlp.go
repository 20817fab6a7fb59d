package zk

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// The network: features → hidden units with ReLU → a score for each class; the
// class of the highest score is the answer, the lowest of equals. Weights,
// features and biases are integers, sums are exact, nothing is rounded.
const (
	MLPFeatures = 4
	MLPHidden   = 8
	MLPClasses  = 3

	MLPWeightBits  = 8  // of a weight and a feature, signed
	MLPBiasBits    = 16 // of a bias, signed
	MLPHiddenBits  = 18 // what a hidden unit's sum fits in, signed: 4 · 2¹⁴ + 2¹⁵
	MLPScoreBits   = 30 // what a score fits in, signed: 8 · 2¹⁷ · 2⁷ + 2¹⁵
	MLPParamsPack  = 15 // weights and biases in one element, 16 bits each
	mlpScoresShift = MLPScoreBits + 2
)

// MLPModel is a quantized network and the salt that hides it behind its digest.
type MLPModel struct {
	Salt       Field
	Hidden     [MLPHidden][MLPFeatures]int8
	HiddenBias [MLPHidden]int16
	Score      [MLPClasses][MLPHidden]int8
	ScoreBias  [MLPClasses]int16
}

// MLPSample is what is classified.
type MLPSample [MLPFeatures]int8

// MLPResult is a class, from 0, and the scores of all.
type MLPResult struct {
	Class  int
	Scores [MLPClasses]int64
}

// Infer is the plain reference that the circuit must agree with.
func (m *MLPModel) Infer(x MLPSample) MLPResult {
	var hidden [MLPHidden]int64
	for i := range hidden {
		sum := int64(m.HiddenBias[i])
		for j, w := range m.Hidden[i] {
			sum += int64(w) * int64(x[j])
		}
		hidden[i] = max(sum, 0)
	}
	var r MLPResult
	for k := range r.Scores {
		sum := int64(m.ScoreBias[k])
		for i, w := range m.Score[k] {
			sum += int64(w) * hidden[i]
		}
		r.Scores[k] = sum
		if sum > r.Scores[r.Class] {
			r.Class = k
		}
	}
	return r
}

// Params returns weights and biases in the order in which they are packed: of
// each hidden unit and then of each class, the weights and the bias.
func (m *MLPModel) Params() []int16 {
	var all []int16
	for i, row := range m.Hidden {
		for _, w := range row {
			all = append(all, int16(w))
		}
		all = append(all, m.HiddenBias[i])
	}
	for k, row := range m.Score {
		for _, w := range row {
			all = append(all, int16(w))
		}
		all = append(all, m.ScoreBias[k])
	}
	return all
}

// MLPParams is the number of weights and biases of a model.
const MLPParams = MLPHidden*(MLPFeatures+1) + MLPClasses*(MLPHidden+1)

// mlpPack packs signed numbers, MLPBiasBits each, the way that models and
// samples are packed before they are hashed: each shifted to be positive.
func mlpPack(values []int16) []fr.Element {
	return pack(len(values), MLPParamsPack, MLPBiasBits, func(i int) uint64 {
		return uint64(int64(values[i]) + 1<<(MLPBiasBits-1)) // never negative
	})
}

// Digest returns the digest of the model, input 0 of the statement. The salt
// keeps anyone from finding the weights by trial.
func (m *MLPModel) Digest() Field {
	return Sponge(SpongeMLPModel, append([]fr.Element{element(m.Salt)}, mlpPack(m.Params())...))
}

// Digest returns the digest of the sample, input 1 of the statement.
func (x MLPSample) Digest() Field {
	values := make([]int16, len(x))
	for i, v := range x {
		values[i] = int16(v)
	}
	return Sponge(SpongeMLPSample, mlpPack(values))
}

// Digest returns the digest of the result, output 0 of the statement: class and
// scores as elements, each score plus 2³².
func (r MLPResult) Digest() Field {
	message := make([]fr.Element, 1+MLPClasses)
	message[0].SetUint64(uint64(r.Class))
	for k, s := range r.Scores {
		message[1+k].SetUint64(uint64(s + 1<<mlpScoresShift)) // scores are within 30 bits
	}
	return Sponge(SpongeMLPResult, message)
}

// MLPScoreOffset is what is added to a score before it is hashed.
const MLPScoreOffset = 1 << mlpScoresShift

// ParseMLPModel reads a model: a line with the salt, 64 hexadecimal digits; a
// line for each hidden unit, its 4 weights and its bias; a line for each class,
// its 8 weights and its bias. Numbers are plain decimal integers separated by
// commas, weights within 8 bits and biases within 16; lines end in LF.
func ParseMLPModel(data []byte) (*MLPModel, error) {
	const lines = 1 + MLPHidden + MLPClasses
	rows := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if len(rows) != lines {
		return nil, fmt.Errorf("zk: model of %d lines, want %d", len(rows), lines)
	}
	m := &MLPModel{}
	var err error
	if m.Salt, err = ParseField(string(rows[0])); err != nil {
		return nil, fmt.Errorf("zk: model line 1: %w", err)
	}
	for i := range m.Hidden {
		if m.HiddenBias[i], err = parseUnit(rows[1+i], m.Hidden[i][:]); err != nil {
			return nil, fmt.Errorf("zk: model line %d: %w", 2+i, err)
		}
	}
	for k := range m.Score {
		if m.ScoreBias[k], err = parseUnit(rows[1+MLPHidden+k], m.Score[k][:]); err != nil {
			return nil, fmt.Errorf("zk: model line %d: %w", 2+MLPHidden+k, err)
		}
	}
	return m, nil
}

// parseUnit reads weights and returns the bias behind them.
func parseUnit(row []byte, weights []int8) (int16, error) {
	entries := bytes.Split(row, []byte(","))
	if len(entries) != len(weights)+1 {
		return 0, fmt.Errorf("%d numbers, want %d weights and a bias", len(entries), len(weights))
	}
	for i := range weights {
		v, err := parseEntry(string(entries[i]), MLPWeightBits)
		if err != nil {
			return 0, fmt.Errorf("weight %d: %w", i+1, err)
		}
		weights[i] = int8(v) // parsed at 8 bits
	}
	bias, err := parseEntry(string(entries[len(weights)]), MLPBiasBits)
	if err != nil {
		return 0, fmt.Errorf("bias: %w", err)
	}
	return int16(bias), nil // parsed at 16 bits
}

// ParseMLPSample reads one line of 4 plain decimal integers within 8 bits,
// separated by commas.
func ParseMLPSample(data []byte) (MLPSample, error) {
	var x MLPSample
	entries := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte(","))
	if len(entries) != len(x) {
		return MLPSample{}, fmt.Errorf("zk: sample of %d numbers, want %d", len(entries), len(x))
	}
	for i := range x {
		v, err := parseEntry(string(entries[i]), MLPWeightBits)
		if err != nil {
			return MLPSample{}, fmt.Errorf("zk: sample number %d: %w", i+1, err)
		}
		x[i] = int8(v) // parsed at 8 bits
	}
	return x, nil
}

// MLPWork is one inference.
type MLPWork struct {
	model  *MLPModel
	sample MLPSample
	result MLPResult
}

// NewMLPWork classifies a sample. The model's salt must be below the order of
// the field.
func NewMLPWork(model *MLPModel, sample MLPSample) (*MLPWork, error) {
	if err := model.Salt.Check(); err != nil {
		return nil, fmt.Errorf("zk: salt of the model: %w", err)
	}
	own := *model
	return &MLPWork{model: &own, sample: sample, result: own.Infer(sample)}, nil
}

func readMLP(files [][]byte) (Work, error) {
	model, err := ParseMLPModel(files[0])
	if err != nil {
		return nil, refused(0, err)
	}
	sample, err := ParseMLPSample(files[1])
	if err != nil {
		return nil, refused(1, err)
	}
	return NewMLPWork(model, sample)
}

// Kernel implements Work.
func (w *MLPWork) Kernel() Kernel { return Kernel(string(MLP) + "-" + strconv.Itoa(MLPHidden)) }

// Model returns a copy of the network.
func (w *MLPWork) Model() MLPModel { return *w.model }

// Sample returns what is classified.
func (w *MLPWork) Sample() MLPSample { return w.sample }

// Result returns class and scores.
func (w *MLPWork) Result() MLPResult { return w.result }

// Inputs implements Work: the digests of model and sample.
func (w *MLPWork) Inputs() []Field { return []Field{w.model.Digest(), w.sample.Digest()} }

// Outputs implements Work: the digest of the result.
func (w *MLPWork) Outputs() []Field { return []Field{w.result.Digest()} }

// Output implements Work: a line with the class and a line with the scores,
// separated by commas.
func (w *MLPWork) Output() []byte {
	out := strconv.AppendInt(nil, int64(w.result.Class), 10)
	out = append(out, '\n')
	for k, s := range w.result.Scores {
		if k > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, s, 10)
	}
	return append(out, '\n')
}

// OutputName implements Work.
func (*MLPWork) OutputName() string { return "result.csv" }

func (*MLPWork) sealedWork() {}
