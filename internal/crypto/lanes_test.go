package crypto_test

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// randomly returns a generator whose seed a failure shows.
func randomly(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func limbsOf(v *big.Int) (out [5]uint64) {
	mask := big.NewInt(1<<51 - 1)
	for k := range out {
		out[k] = new(big.Int).And(new(big.Int).Rsh(v, uint(51*k)), mask).Uint64()
	}
	return out
}

// TestReduceHasOneForm gives each value in all forms that the routines can leave it
// in: at the prime, twice it, and with the carry going through every limb.
func TestReduceHasOneForm(t *testing.T) {
	rng := randomly(t)
	const most = 1<<51 + 1<<14 - 1
	edges := []uint64{0, 1, 18, 19, 20, 37, 38, 1<<51 - 39, 1<<51 - 38, 1<<51 - 20, 1<<51 - 19, 1<<51 - 18, 1<<51 - 2, 1<<51 - 1, 1 << 51, 1<<51 + 1, 1<<51 + 18, most}
	check := func(limbs [5]uint64) {
		if got, want := crypto.Reduce(limbs), limbsOf(modP(valueOf(limbs))); got != want {
			t.Fatalf("%x becomes %x, want %x", limbs, got, want)
		}
	}
	for _, lowest := range edges {
		for _, middle := range edges {
			for _, highest := range edges {
				check([5]uint64{lowest, middle, middle, middle, highest})
			}
		}
	}
	for range 20_000 {
		var limbs [5]uint64
		for k := range limbs {
			if limbs[k] = edges[rng.IntN(len(edges))]; rng.IntN(4) == 0 {
				limbs[k] = rng.Uint64N(most + 1)
			}
		}
		check(limbs)
	}
}

// drawn returns the lanes of eight values whose limbs pick draws.
func drawn(pick func() uint64) (lanes crypto.Lanes, values [8]*big.Int) {
	for i := range 8 {
		var limbs [5]uint64
		for k := range limbs {
			limbs[k] = pick()
			lanes[k][i] = limbs[k]
		}
		values[i] = valueOf(limbs)
	}
	return lanes, values
}

// TestArithmeticAtItsLimits takes factors up to 2⁵² − 1, as the multiplication may,
// and first operands of sums and differences up to twice the bound, as TWICE leaves
// them.
func TestArithmeticAtItsLimits(t *testing.T) {
	needFused(t)
	rng := randomly(t)
	among := func(most uint64) func() uint64 {
		return func() uint64 {
			edge := []uint64{0, 1, 18, 19, 1<<51 - 19, 1<<51 - 1, 1 << 51, 1<<51 + 1<<14 - 1, 1<<52 - 38, most}
			if v := edge[rng.IntN(len(edge))]; rng.IntN(3) > 0 {
				return min(v, most)
			}
			return rng.Uint64N(most + 1)
		}
	}
	always := func(v uint64) func() uint64 { return func() uint64 { return v } }
	const factor, loose, twice = 1<<52 - 1, 1<<51 + 1<<14 - 1, 2 * (1<<51 + 1<<14 - 1)
	rounds := 3_000
	if testing.Short() {
		rounds = 1_000
	}
	for round := range rounds {
		a, av := drawn(among(factor))
		b, bv := drawn(among(factor))
		first, firstv := drawn(among(twice))
		second, secondv := drawn(among(loose))
		if round == 0 {
			a, av = drawn(always(factor))
			b, bv = a, av
			first, firstv = drawn(always(twice))
			second, secondv = drawn(always(loose))
		}
		if round == 1 {
			first, firstv = drawn(always(0))
		}
		product, square := crypto.ComputeOne(0, &a, &b), crypto.ComputeOne(3, &a, nil)
		sum, difference := crypto.ComputeOne(1, &first, &second), crypto.ComputeOne(2, &first, &second)
		for i := range 8 {
			for what, pair := range map[string][2]*big.Int{
				"product":    {valueOf(product[i]), mulP(av[i], bv[i])},
				"square":     {valueOf(square[i]), mulP(av[i], av[i])},
				"sum":        {valueOf(sum[i]), modP(plus(firstv[i], secondv[i]))},
				"difference": {valueOf(difference[i]), modP(minus(firstv[i], secondv[i]))},
			} {
				if pair[0].Cmp(pair[1]) != 0 {
					t.Fatalf("round %d, %s, lane %d: %v, want %v", round, what, i, pair[0], pair[1])
				}
			}
		}
	}
}

// rowOf is a point as the table has it.
func rowOf(p *refPoint) (row [3][5]uint64) {
	x, y := p.affine()
	for c, v := range []*big.Int{plus(y, x), minus(y, x), mulP(big.NewInt(2), curveD, x, y)} {
		row[c] = limbsOf(modP(v))
	}
	return row
}

// oddEncodings are those at the edges of decompression: every y from p − 30 to
// 2²⁵⁵ − 1 and from 0 to 60, the points of small order and their neighbours, and
// points with an x of few bits, which the arithmetic leaves above the prime.
func oddEncodings() (out [][32]byte) {
	var ys []*big.Int
	for i := range int64(61) {
		ys = append(ys, big.NewInt(i))
	}
	for i := int64(-30); i < 19; i++ {
		ys = append(ys, plus(prime, big.NewInt(i)))
	}
	half := new(big.Int).Rsh(prime, 1)
	for _, p := range refTorsion() {
		_, y := p.affine()
		ys = append(ys, y)
	}
	ys = append(ys, half, plus(half, big.NewInt(1)), sqrtM1, modP(minus(prime, sqrtM1)), curveD)
	for x := int64(1); x <= 60; x++ { // y² = (1 + x²)/(1 − dx²)
		square := big.NewInt(x * x)
		below := new(big.Int).ModInverse(modP(minus(big.NewInt(1), mulP(curveD, square))), prime)
		if y := new(big.Int).ModSqrt(mulP(plus(big.NewInt(1), square), below), prime); y != nil {
			ys = append(ys, y, minus(prime, y))
		}
	}
	for _, y := range ys {
		out = append(out, encodingOf(y, 0), encodingOf(y, 1))
	}
	return out
}

// TestDecompression compares with big integers, of every encoding at the edges and of
// random ones, in lanes beside others and beside empty ones: that a point is found
// where there is one and nowhere else, which of the two it is, and both rows of it.
func TestDecompression(t *testing.T) {
	needFused(t)
	rng := randomly(t)
	all := oddEncodings()
	for range 300 {
		var raw [32]byte
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		all = append(all, raw)
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	points := 0
	for at := 0; at < len(all); {
		var part [8]*[32]byte
		for i := range part {
			if at < len(all) && rng.IntN(5) > 0 {
				part[i] = &all[at]
				at++
			}
		}
		ok, rows := crypto.Decompress(part)
		for i, raw := range part {
			if raw == nil {
				if ok[i] {
					t.Errorf("a point of no encoding in lane %d", i)
				}
				continue
			}
			want, exists := refDecode(*raw)
			if ok[i] != exists {
				t.Fatalf("%x: a point is %v, want %v", *raw, ok[i], exists)
			}
			if !exists {
				continue
			}
			points++
			if rows[i] != [2][3][5]uint64{rowOf(want), rowOf(want.negated())} {
				t.Fatalf("%x: rows %x, want %x", *raw, rows[i], rowOf(want))
			}
		}
	}
	if points < len(all)/4 || points > len(all)*3/4 {
		t.Errorf("%d of %d encodings have points", points, len(all))
	}
	if crypto.BaseRows() != [2][3][5]uint64{rowOf(base), rowOf(base.negated())} {
		t.Error("the generator's rows are of another point")
	}
}

// oddPoints are those whose sums are special: the small order, the generator, its
// multiples and opposites, and all of them with points of small order added.
func oddPoints() (out []*refPoint) {
	torsion := refTorsion()
	for _, n := range []int64{0, 1, 2, 3} {
		for _, t := range torsion {
			p := base.times(big.NewInt(n)).add(t)
			out = append(out, p, p.negated())
		}
	}
	return out
}

// extended are eight points, each with a z of its own.
func extended(rng *rand.Rand, points []*refPoint) (out crypto.Points) {
	for i, p := range points {
		x, y := p.affine()
		z := big.NewInt(1)
		if rng.IntN(4) > 0 {
			z = modP(plus(new(big.Int).Lsh(new(big.Int).SetUint64(rng.Uint64()), uint(rng.IntN(190))), z))
		}
		for c, v := range []*big.Int{mulP(x, z), mulP(y, z), z, mulP(x, y, z)} {
			for k, limb := range limbsOf(v) {
				out[c][k][i] = limb
			}
		}
	}
	return out
}

func mustBePoints(t *testing.T, what string, got [8][4][5]uint64, want []*refPoint) {
	t.Helper()
	for i, w := range want {
		x, y := w.affine()
		z := valueOf(got[i][2])
		switch {
		case z.Sign() == 0:
			t.Fatalf("%s: lane %d has z = 0", what, i)
		case valueOf(got[i][0]).Cmp(mulP(x, z)) != 0, valueOf(got[i][1]).Cmp(mulP(y, z)) != 0, valueOf(got[i][3]).Cmp(mulP(x, y, z)) != 0:
			t.Fatalf("%s: lane %d is another point", what, i)
		}
	}
}

// TestAdditionIsComplete adds every odd point to every other, itself and its opposite,
// both ways, and doubles each: there is no pair for which the formulas do not hold.
func TestAdditionIsComplete(t *testing.T) {
	needFused(t)
	rng := randomly(t)
	points := oddPoints()
	table := make([][3][5]uint64, len(points))
	for i, p := range points {
		table[i] = rowOf(p)
	}
	for shift := range points {
		for at := 0; at < len(points); at += 8 {
			left := points[at : at+8]
			var right, sums, thrice []*refPoint
			var rows []uint32
			for i := range left {
				j := (at + i + shift) % len(points)
				right, rows = append(right, points[j]), append(rows, uint32(j))
				sums = append(sums, left[i].add(points[j]))
				thrice = append(thrice, sums[i].add(points[j]).add(points[j]))
			}
			p, q := extended(rng, left), extended(rng, right)
			mustBePoints(t, "sum", crypto.AddPoints(&p, &q), sums)
			mustBePoints(t, "sum with a row", crypto.AccumulatePoints(&p, table, rows), sums)
			mustBePoints(t, "sum with a row thrice", crypto.AccumulatePoints(&p, table, slices.Concat(rows, rows, rows)), thrice)
		}
	}
	for at := 0; at < len(points); at += 8 {
		for times := 1; times <= 3; times++ {
			p := extended(rng, points[at:at+8])
			var doubled []*refPoint
			for _, q := range points[at : at+8] {
				doubled = append(doubled, q.times(big.NewInt(1<<times)))
			}
			mustBePoints(t, "double", crypto.DoublePoints(&p, times), doubled)
		}
	}
}

func wordsOf(v *big.Int) (out [4]uint64) {
	for k := range out {
		out[k] = new(big.Int).Rsh(v, uint(64*k)).Uint64()
	}
	return out
}

// oddScalars have every digit at an edge, for every window: none, the largest, the
// one above it, which becomes negative and carries, and carries through all.
func oddScalars(limit *big.Int) []*big.Int {
	one := big.NewInt(1)
	out := []*big.Int{new(big.Int), one, minus(limit, one), minus(limit, big.NewInt(2)), new(big.Int).Rsh(limit, 1)}
	for window := 4; window <= 9; window++ {
		for _, digit := range []int64{1<<(window-1) - 1, 1 << (window - 1), 1<<(window-1) + 1, 1<<window - 1} {
			v := new(big.Int)
			for at := 0; at < limit.BitLen(); at += window {
				v.Or(v, new(big.Int).Lsh(big.NewInt(digit), uint(at)))
			}
			out = append(out, v.Mod(v, limit))
		}
	}
	for bit := range limit.BitLen() {
		if v := new(big.Int).Lsh(one, uint(bit)); v.Cmp(limit) < 0 {
			out = append(out, v)
		}
	}
	return out
}

// TestDigitsAreTheScalar sums the digits up again, and has them refuse what is too
// large.
func TestDigitsAreTheScalar(t *testing.T) {
	one := big.NewInt(1)
	limits := map[bool]*big.Int{false: new(big.Int).Lsh(one, 128), true: order}
	for window := 4; window <= 9; window++ {
		for long, limit := range limits {
			scalars := oddScalars(limit)
			for bit := range uint(256) {
				power := new(big.Int).Lsh(one, bit+1)
				scalars = append(scalars, minus(power, one), new(big.Int).Rsh(power, 1))
			}
			for _, scalar := range scalars {
				var digits []int
				refused := panics(func() { digits = crypto.Digits(2, 3, window, long, wordsOf(scalar)) })
				if refused {
					if scalar.Cmp(limit) < 0 {
						t.Fatalf("%v is refused in windows of %d", scalar, window)
					}
					continue
				}
				sum := new(big.Int)
				for w, digit := range digits {
					if digit <= -1<<(window-1) || digit > 1<<(window-1) {
						t.Fatalf("digit %d of %v in a window of %d", digit, scalar, window)
					}
					sum.Add(sum, new(big.Int).Lsh(big.NewInt(int64(digit)), uint(window*w)))
				}
				if sum.Cmp(scalar) != 0 {
					t.Fatalf("digits of %v in windows of %d are those of %v", scalar, window, sum)
				}
			}
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// TestBucketsOfEqualAndOppositePoints has whole batches in one bucket: the same point,
// points and their opposites, which cancel, and points of small order, with scalars
// whose digits are all at an edge. Were the table known beforehand, this is what an
// attacker would send.
func TestBucketsOfEqualAndOppositePoints(t *testing.T) {
	needFused(t)
	torsion := refTorsion()
	longs, shorts := oddScalars(order), oddScalars(new(big.Int).Lsh(big.NewInt(1), 128))
	encode := func(exponent int64, small int) [32]byte {
		return base.times(modulo(exponent)).add(torsion[small]).encoded()
	}
	exponents := map[string]func(i int) (exponent int64, small int){
		"equal":       func(int) (int64, int) { return 5, 0 },
		"opposite":    func(i int) (int64, int) { return 5 - 10*int64(i%2), 0 },
		"small order": func(i int) (int64, int) { return 0, i % 8 },
		"all of it":   func(i int) (int64, int) { return int64(i%3) - 1, i % 8 },
	}
	for name, exponent := range exponents {
		known := map[int][32]byte{}
		for window := 4; window <= 9; window++ {
			for _, n := range []int{1, 8, 9, 30} {
				points := make([][32]byte, 2*n)
				for i := range points {
					if _, ok := known[i]; !ok {
						known[i] = encode(exponent(i))
					}
					points[i] = known[i]
				}
				for k := range 12 {
					long, short := longs[5*k+window], shorts[(7*k+n)%len(shorts)]
					sum := new(big.Int)
					var l, s [][4]uint64
					for i := range points {
						e, _ := exponent(i)
						scalar := long
						if i >= n {
							scalar = short
							s = append(s, wordsOf(short))
						} else {
							l = append(l, wordsOf(long))
						}
						sum.Add(sum, new(big.Int).Mul(big.NewInt(e), scalar))
					}
					for _, off := range []int64{0, 1 + int64(k)} {
						rest := minus(big.NewInt(off), sum)
						if got := crypto.SmallOrder(window, wordsOf(rest.Mod(rest, order)), points, l, s); got != (off == 0) {
							t.Fatalf("%s, window %d, %d points, scalars %v and %v, off by %d: of small order is %v", name, window, 2*n, long, short, off, got)
						}
					}
				}
			}
		}
	}
}

func modulo(v int64) *big.Int {
	out := big.NewInt(v)
	return out.Mod(out, order)
}

// TestBelowOrder is S's rule, at the order and around, and at each word's borrow.
func TestBelowOrder(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 256)
	for bit := -1; bit < 256; bit++ {
		step := new(big.Int)
		if bit >= 0 {
			step.Lsh(big.NewInt(1), uint(bit))
		}
		for _, v := range []*big.Int{plus(order, step), minus(order, step), step, minus(step, big.NewInt(1)), minus(minus(limit, big.NewInt(1)), step)} {
			if v.Sign() < 0 || v.Cmp(limit) >= 0 {
				continue
			}
			var raw [32]byte
			v.FillBytes(raw[:])
			slices.Reverse(raw[:])
			if got := crypto.BelowOrder(raw); got != (v.Cmp(order) < 0) {
				t.Errorf("%x is below the order: %v", raw, got)
			}
		}
	}
}
