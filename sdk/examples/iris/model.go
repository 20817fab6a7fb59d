//go:build !wasip1

package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// The network's shape is that of the kernel mlp-8.
const (
	features = 4
	hidden   = 8
	classes  = 3
)

var species = []string{"setosa", "versicolor", "virginica"}

// flower is a row: millimetres and the number of its species.
type flower struct {
	x     [features]int
	class int
}

// parse reads the data: a header, then four lengths in centimetres and a name
// to the row.
func parse(data []byte) ([]flower, error) {
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	var flowers []flower
	for i, line := range lines[1:] {
		parts := strings.Split(strings.TrimSpace(line), ",")
		if len(parts) != features+1 {
			return nil, fmt.Errorf("row %d has %d columns, want %d", i+1, len(parts), features+1)
		}
		f := flower{class: slices.Index(species, parts[features])}
		if f.class < 0 {
			return nil, fmt.Errorf("row %d: species %.20q is unknown", i+1, parts[features])
		}
		for k := range f.x {
			v, err := strconv.ParseFloat(parts[k], 64)
			if err != nil || v < 0 || v > 12.7 {
				return nil, fmt.Errorf("row %d: %.20q is no length from 0 to 12.7 cm", i+1, parts[k])
			}
			f.x[k] = int(math.Round(10 * v))
		}
		flowers = append(flowers, f)
	}
	if len(flowers) == 0 {
		return nil, fmt.Errorf("no rows")
	}
	return flowers, nil
}

// split holds back every third row.
func split(flowers []flower) (learn, hold []flower) {
	for i, f := range flowers {
		if i%3 == 2 {
			hold = append(hold, f)
		} else {
			learn = append(learn, f)
		}
	}
	return learn, hold
}

// network holds weights and, at the end of each row, a bias, for lengths in
// centimetres.
type network struct {
	in  [hidden][features + 1]float64
	out [classes][hidden + 1]float64
}

// forward returns the hidden units and the classes' probabilities.
func (n *network) forward(f flower) (units [hidden]float64, p [classes]float64) {
	for i, row := range n.in {
		sum := row[features]
		for k, x := range f.x {
			sum += row[k] * float64(x) / 10
		}
		units[i] = max(sum, 0)
	}
	total := 0.0
	for c, row := range n.out {
		sum := row[hidden]
		for i, u := range units {
			sum += row[i] * u
		}
		p[c] = math.Exp(min(sum, 30))
		total += p[c]
	}
	for c := range p {
		p[c] /= total
	}
	return units, p
}

// train descends along the cross-entropy's gradient, one flower at a time, from
// a fixed seed.
func train(flowers []flower) *network {
	const epochs, rate, decay = 2000, 0.01, 1e-4
	rng := rand.New(rand.NewPCG(1936, 7))
	n := &network{}
	for i := range n.in {
		for k := range n.in[i] {
			n.in[i][k] = rng.NormFloat64() / 2
		}
	}
	for c := range n.out {
		for i := range n.out[c] {
			n.out[c][i] = rng.NormFloat64() / 3
		}
	}
	for epoch := range epochs {
		step := rate / (1 + float64(epoch)/500)
		for _, at := range rng.Perm(len(flowers)) {
			n.learn(flowers[at], step, decay)
		}
	}
	return n
}

func (n *network) learn(f flower, step, decay float64) {
	units, p := n.forward(f)
	var back [hidden]float64
	for c := range n.out {
		err := p[c]
		if c == f.class {
			err--
		}
		for i, u := range units {
			back[i] += err * n.out[c][i]
			n.out[c][i] -= step * (err*u + decay*n.out[c][i])
		}
		n.out[c][hidden] -= step * err
	}
	for i, u := range units {
		if u == 0 {
			continue
		}
		for k, x := range f.x {
			n.in[i][k] -= step * (back[i]*float64(x)/10 + decay*n.in[i][k])
		}
		n.in[i][features] -= step * back[i]
	}
}

// model is the network in whole numbers, for lengths in millimetres: weights
// within 8 bits, biases within 16.
type model struct {
	in  [hidden][features + 1]int
	out [classes][hidden + 1]int
}

// quantize scales each layer as far as its numbers allow.
func quantize(n *network) *model {
	const weightLimit, biasLimit = 127, 32767
	first, second := math.Inf(1), math.Inf(1)
	limit := func(scale *float64, most, v float64) { *scale = min(*scale, most/max(math.Abs(v), 1e-9)) }
	for _, row := range n.in {
		for _, w := range row[:features] {
			limit(&first, weightLimit, w/10)
		}
		limit(&first, biasLimit, row[features])
	}
	for _, row := range n.out {
		for _, w := range row[:hidden] {
			limit(&second, weightLimit, w)
		}
		limit(&second, biasLimit, row[hidden]*first)
	}
	round := func(v float64) int { return int(math.Round(v)) }
	m := &model{}
	for i, row := range n.in {
		for k, w := range row[:features] {
			m.in[i][k] = round(w / 10 * first)
		}
		m.in[i][features] = round(row[features] * first)
	}
	for c, row := range n.out {
		for i, w := range row[:hidden] {
			m.out[c][i] = round(w * second)
		}
		m.out[c][hidden] = round(row[hidden] * first * second)
	}
	return m
}

// infer returns the class of the highest score, the lowest of equals.
func (m *model) infer(f flower) int {
	var units [hidden]int
	for i, row := range m.in {
		sum := row[features]
		for k, x := range f.x {
			sum += row[k] * x
		}
		units[i] = max(sum, 0)
	}
	best, highest := 0, math.MinInt
	for c, row := range m.out {
		sum := row[hidden]
		for i, u := range units {
			sum += row[i] * u
		}
		if sum > highest {
			best, highest = c, sum
		}
	}
	return best
}

// right counts the flowers whose species the model finds.
func (m *model) right(flowers []flower) int {
	n := 0
	for _, f := range flowers {
		if m.infer(f) == f.class {
			n++
		}
	}
	return n
}

// text writes the model as the kernel reads it: a salt of zero, then the rows.
func (m *model) text() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%064x\n", 0)
	write := func(row []int) {
		for i, v := range row {
			if i > 0 {
				out.WriteByte(',')
			}
			out.WriteString(strconv.Itoa(v))
		}
		out.WriteByte('\n')
	}
	for i := range m.in {
		write(m.in[i][:])
	}
	for c := range m.out {
		write(m.out[c][:])
	}
	return out.Bytes()
}
