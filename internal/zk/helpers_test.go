package zk_test

import (
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// seeded returns a generator and prints its seed.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomMatrix(rng *rand.Rand, n int) zk.Matrix {
	cells := make([]int16, n*n)
	for i := range cells {
		cells[i] = int16(rng.Uint32())
	}
	return mustMatrix(n, cells)
}

func filledMatrix(n int, v int16) zk.Matrix {
	cells := make([]int16, n*n)
	for i := range cells {
		cells[i] = v
	}
	return mustMatrix(n, cells)
}

// countedMatrix has the entries start, start + 1, …
func countedMatrix(n int, start int16) zk.Matrix {
	cells := make([]int16, n*n)
	for i := range cells {
		cells[i] = start + int16(i)
	}
	return mustMatrix(n, cells)
}

func mustMatrix(n int, cells []int16) zk.Matrix {
	m, err := zk.NewMatrix(n, cells)
	if err != nil {
		panic(err)
	}
	return m
}

func exampleStatement() zk.Statement {
	return zk.Statement{
		Kernel:       "matmul-32",
		VerifyingKey: crypto.Digest{0: 1, 31: 2},
		Inputs:       []zk.Field{{31: 3}, {31: 4}},
		Output:       []zk.Field{{31: 5}},
		Bind:         zk.Field{31: 6},
	}
}
