package zk_test

import (
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares bytes with testdata/name.hex.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		t.Errorf("%s is %x, frozen as %s", name, got, want)
	}
}

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
