package groth16_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

const spineKernel = zk.Kernel("matmul-32")

func spineMatrix(rng *rand.Rand) zk.Matrix {
	cells := make([]int16, 32*32)
	for i := range cells {
		cells[i] = int16(rng.Uint32())
	}
	m, err := zk.NewMatrix(32, cells)
	if err != nil {
		panic(err)
	}
	return m
}

// TestMatmul32 is a zk job as consumer, provider and chain see it: matrices
// from CSV, keys from the cache, a proof, and a verifier that has only the
// verifying key's bytes.
func TestMatmul32(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	made, err := groth16.LoadOrSetup(dir, spineKernel, func(stage string, fraction float64) {
		t.Logf("%3.0f %% %s", 100*fraction, stage)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("setup of %d constraints: %v", made.Constraints(), time.Since(start))
	start = time.Now()
	keys, err := groth16.LoadOrSetup(dir, spineKernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("load: %v", time.Since(start))

	rng := rand.New(rand.NewPCG(3, 4))
	left, err := zk.ParseMatrixCSV(spineMatrix(rng).CSV())
	if err != nil {
		t.Fatal(err)
	}
	right, err := zk.ParseMatrixCSV(spineMatrix(rng).CSV())
	if err != nil {
		t.Fatal(err)
	}
	bind := zk.Bind("hypermesh-test", crypto.Digest{5}, 0, crypto.PublicKey{6})
	start = time.Now()
	work, err := zk.NewMatmulWork(left, right)
	if err != nil {
		t.Fatal(err)
	}
	result, err := groth16.NewProver(keys).Prove(work, bind)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("prove: %v", time.Since(start))

	verifier, err := groth16.NewVerifier(map[zk.Kernel][]byte{spineKernel: made.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	product, err := zk.Multiply(left, right)
	if err != nil {
		t.Fatal(err)
	}
	statement := zk.Statement{
		Kernel: spineKernel, VerifyingKey: groth16.VerifyingKeyDigest(made.VerifyingKey()),
		Inputs: []zk.Field{zk.LeftDigest(left), zk.RightDigest(right)},
		Output: []zk.Field{zk.ProductDigest(product)},
		Bind:   bind,
	}
	if err := verifier.Verify(statement, result.Proof); err != nil {
		t.Error(err)
	}
	statement.Bind = zk.Bind("hypermesh-test", crypto.Digest{5}, 1, crypto.PublicKey{6})
	if err := verifier.Verify(statement, result.Proof); err == nil {
		t.Error("the proof holds for another sequence")
	}
}
