package groth16

import (
	"math/rand/v2"
	"sync"
	"testing"

	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

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
var sharedResult = sync.OnceValue(func() Result {
	rng := rand.New(rand.NewPCG(1, 2))
	bind := zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{2})
	result, err := proveMatmul(sharedSetup().keys, randomMatrix(rng, testSize), randomMatrix(rng, testSize), bind)
	if err != nil {
		panic(err)
	}
	return result
})

func proveMatmul(keys *Keys, left, right zk.Matrix, bind zk.Field) (Result, error) {
	work, err := zk.NewMatmulWork(left, right)
	if err != nil {
		return Result{}, err
	}
	return NewProver(keys).Prove(work, bind)
}

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
