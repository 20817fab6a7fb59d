package groth16

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The tests' kernel: the same circuit as the large ones, small enough to prove
// in a tenth of a second.
const (
	testSize   = 4
	testKernel = zk.Kernel("matmul-4")
)

// testSetup has gnark's own verifying key beside the keys, to compare verdicts.
type testSetup struct {
	keys  *Keys
	gnark *backend.VerifyingKey
}

var sharedSetup = sync.OnceValue(func() testSetup {
	c, err := compile(testKernel)
	if err != nil {
		panic(err)
	}
	var pk backend.ProvingKey
	var vk backend.VerifyingKey
	if err := backend.Setup(c.system, &pk, &vk); err != nil {
		panic(err)
	}
	keys, err := newKeys(c, &pk, encodeVerifyingKey(c, &vk))
	if err != nil {
		panic(err)
	}
	return testSetup{keys: keys, gnark: &vk}
})

// sharedResult is one proof that several tests take apart.
var sharedResult = sync.OnceValue(func() MatmulResult {
	rng := rand.New(rand.NewPCG(1, 2))
	bind := zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{2})
	result, err := NewProver(sharedSetup().keys).Matmul(randomMatrix(rng, testSize), randomMatrix(rng, testSize), bind)
	if err != nil {
		panic(err)
	}
	return result
})

func sharedVerifier(t testing.TB) *Verifier {
	t.Helper()
	return verifierOf(t, sharedSetup().keys)
}

func verifierOf(t testing.TB, keys *Keys) *Verifier {
	t.Helper()
	v, err := NewVerifier(map[zk.Kernel][]byte{keys.Kernel(): keys.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// seeded returns a generator and prints its seed.
func seeded(t testing.TB) *rand.Rand {
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

func mustMatrix(n int, cells []int16) zk.Matrix {
	m, err := zk.NewMatrix(n, cells)
	if err != nil {
		panic(err)
	}
	return m
}

// goldenText compares text with a file under testdata.
func goldenText(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s changed:\n%s\nfrozen as\n%s", path, got, fmt.Sprint(string(want)))
	}
}
