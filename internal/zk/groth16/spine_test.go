package groth16_test

import (
	"math/rand/v2"
	"sync"
	"syscall"
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
	result, err := groth16.NewProver(keys).Matmul(left, right, bind)
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

var benchKeys = sync.OnceValues(func() (*groth16.Keys, error) { return groth16.Setup(spineKernel, nil) })

func BenchmarkMatmulSetup32(b *testing.B) {
	for b.Loop() {
		if _, err := groth16.Setup(spineKernel, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatmulProve32(b *testing.B) {
	keys, err := benchKeys()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	prover, left, right := groth16.NewProver(keys), spineMatrix(rng), spineMatrix(rng)
	for b.Loop() {
		if _, err := prover.Matmul(left, right, zk.Field{31: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatmulVerify32(b *testing.B) {
	keys, err := benchKeys()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	result, err := groth16.NewProver(keys).Matmul(spineMatrix(rng), spineMatrix(rng), zk.Field{31: 1})
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := groth16.NewVerifier(map[zk.Kernel][]byte{spineKernel: keys.VerifyingKey()})
	if err != nil {
		b.Fatal(err)
	}
	processor := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	begun := processor()
	for b.Loop() {
		if err := verifier.Verify(result.Statement, result.Proof); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processor()-begun)/float64(b.N), "processor-ns/op") // what its gas is derived from
}

func BenchmarkMatmulDigest32(b *testing.B) {
	m := spineMatrix(rand.New(rand.NewPCG(9, 10)))
	for b.Loop() {
		zk.LeftDigest(m)
	}
}
