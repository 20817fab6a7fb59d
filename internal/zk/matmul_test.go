package zk_test

import (
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/zk"
)

func TestMultiplyIsTheSumOfProducts(t *testing.T) {
	rng := seeded(t)
	for _, n := range []int{4, 8, 16, 32} {
		a, b := randomMatrix(rng, n), randomMatrix(rng, n)
		p, err := zk.Multiply(a, b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for k := range n {
				want := new(big.Int)
				for j := range n {
					want.Add(want, new(big.Int).Mul(big.NewInt(int64(a.At(i, j))), big.NewInt(int64(b.At(j, k)))))
				}
				if got := p.At(i, k); !want.IsInt64() || want.Int64() != got {
					t.Fatalf("n = %d, row %d, column %d: %d, want %s", n, i, k, got, want)
				}
			}
		}
	}
}

func TestLargestProductFitsItsBits(t *testing.T) {
	const limit = int64(1) << (zk.MatmulProductBits - 1)
	low, high := filledMatrix(128, -32768), filledMatrix(128, 32767)
	for _, pair := range [][2]zk.Matrix{{low, low}, {low, high}, {high, high}} {
		p, err := zk.Multiply(pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if v := p.At(0, 0); v >= limit || v < -limit {
			t.Errorf("%d does not fit in %d bits", v, zk.MatmulProductBits)
		}
	}
}

func TestMatricesOfOtherSizesAreRefused(t *testing.T) {
	if _, err := zk.NewMatrix(5, make([]int16, 25)); err == nil {
		t.Error("a 5 × 5 matrix")
	}
	if _, err := zk.NewMatrix(4, make([]int16, 15)); err == nil {
		t.Error("a 4 × 4 matrix of 15 entries")
	}
	if _, err := zk.Multiply(filledMatrix(4, 1), filledMatrix(8, 1)); err == nil {
		t.Error("4 × 4 by 8 × 8")
	}
	if _, err := zk.Multiply(zk.Matrix{}, zk.Matrix{}); err == nil {
		t.Error("the zero values")
	}
}

// TestDigestsAgreeWithThePaper computes the digests a second time from nothing
// but the constants: big integers, dense matrices, bit by bit packing.
func TestDigestsAgreeWithThePaper(t *testing.T) {
	rng := seeded(t)
	for _, n := range []int{4, 16} {
		a, b := randomMatrix(rng, n), randomMatrix(rng, n)
		p, err := zk.Multiply(a, b)
		if err != nil {
			t.Fatal(err)
		}
		var left, right, product []int64
		for i := range n * n {
			left = append(left, int64(a.At(i/n, i%n)))
			right = append(right, int64(b.At(i/n, i%n)))
			product = append(product, p.At(i/n, i%n))
		}
		for _, c := range []struct {
			name string
			got  zk.Field
			want zk.Field
		}{
			{"left", zk.LeftDigest(a), paperSponge(1, paperPack(left, 15, 16))},
			{"right", zk.RightDigest(b), paperSponge(2, paperPack(right, 15, 16))},
			{"product", zk.ProductDigest(p), paperSponge(3, paperPack(product, 6, 40))},
		} {
			if c.got != c.want {
				t.Errorf("n = %d: %s digest %s, want %s", n, c.name, c.got, c.want)
			}
		}
	}
}

// paperPack puts per entries of bits each into one number, lowest first.
func paperPack(entries []int64, per, bits int) []*big.Int {
	var out []*big.Int
	for i, v := range entries {
		if i%per == 0 {
			out = append(out, new(big.Int))
		}
		shifted := new(big.Int).Add(big.NewInt(v), new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
		last := out[len(out)-1]
		last.Add(last, shifted.Lsh(shifted, uint(bits*(i%per))))
	}
	return out
}

func paperSponge(use int64, message []*big.Int) zk.Field {
	state := make([]*big.Int, 8)
	for i := range state {
		state[i] = new(big.Int)
	}
	state[7].Add(new(big.Int).Lsh(big.NewInt(use), 32), big.NewInt(int64(len(message))))
	for i, m := range message {
		if i > 0 && i%7 == 0 {
			state = paperPermutation(state)
		}
		state[i%7].Add(state[i%7], m)
	}
	return fieldOf(paperPermutation(state)[0])
}

// paperPermutation is Poseidon2 as eprint 2023/323 §5 writes it: an external
// layer, 4 full rounds, 57 partial rounds, 4 full rounds.
func paperPermutation(state []*big.Int) []*big.Int {
	const width, full, partial = 8, 8, 57
	constants := poseidon2.NewParameters(width, full, partial)
	m4 := [4][4]int64{{5, 7, 1, 3}, {4, 6, 1, 1}, {1, 3, 5, 7}, {1, 1, 4, 6}}
	external, internal := make([][]*big.Int, width), make([][]*big.Int, width)
	for i := range width {
		external[i], internal[i] = make([]*big.Int, width), make([]*big.Int, width)
		for j := range width {
			times := int64(1)
			if i/4 == j/4 {
				times = 2
			}
			external[i][j] = big.NewInt(times * m4[i%4][j%4])
			internal[i][j] = big.NewInt(1)
		}
		internal[i][i] = new(big.Int).Add(constants.DiagM1[i].BigInt(new(big.Int)), big.NewInt(1))
	}
	state = paperTimes(external, state)
	for round := range full + partial {
		for i, key := range constants.RoundKeys[round] {
			state[i].Add(state[i], key.BigInt(new(big.Int)))
		}
		if round < full/2 || round >= full/2+partial {
			for i := range state {
				state[i].Exp(state[i], big.NewInt(5), order)
			}
			state = paperTimes(external, state)
		} else {
			state[0].Exp(state[0], big.NewInt(5), order)
			state = paperTimes(internal, state)
		}
	}
	return state
}

func paperTimes(matrix [][]*big.Int, state []*big.Int) []*big.Int {
	out := make([]*big.Int, len(state))
	for i := range out {
		out[i] = new(big.Int)
		for j := range state {
			out[i].Add(out[i], new(big.Int).Mul(matrix[i][j], state[j]))
		}
		out[i].Mod(out[i], order)
	}
	return out
}

func TestDigestsAreFrozen(t *testing.T) {
	m := countedMatrix(32, -512)
	p, err := zk.Multiply(m, m)
	if err != nil {
		t.Fatal(err)
	}
	left, right, product := zk.LeftDigest(m), zk.RightDigest(m), zk.ProductDigest(p)
	golden.CheckHex(t, "testdata/matmul-left.hex", left[:])
	golden.CheckHex(t, "testdata/matmul-right.hex", right[:])
	golden.CheckHex(t, "testdata/matmul-product.hex", product[:])
	if left == right {
		t.Error("a matrix has one digest as left and right factor")
	}
}

func TestEveryEntryAndTheSizeMoveTheDigest(t *testing.T) {
	seen := map[zk.Field]string{}
	note := func(name string, f zk.Field) {
		if was, ok := seen[f]; ok {
			t.Errorf("%s has the digest of %s", name, was)
		}
		seen[f] = name
	}
	note("zeros of 4", zk.LeftDigest(filledMatrix(4, 0)))
	note("zeros of 8", zk.LeftDigest(filledMatrix(8, 0)))
	note("lowest of 8", zk.LeftDigest(filledMatrix(8, -32768)))
	for i := range 64 {
		for _, v := range []int16{-32768, -1, 1, 32767} {
			cells := make([]int16, 64)
			cells[i] = v
			note("an entry", zk.LeftDigest(mustMatrix(8, cells)))
		}
	}
}
