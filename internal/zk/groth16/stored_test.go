package groth16

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/frontend"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// TestCircuitsAreReadBack: a circuit from disk is the one that was compiled, and solves what that solves.
func TestCircuitsAreReadBack(t *testing.T) {
	rng := seeded(t)
	for _, kernel := range zk.Kernels() {
		if large[kernel] && (testing.Short() || kernel == "matmul-128") {
			continue
		}
		dir := t.TempDir()
		var seen stages
		made, err := storedCircuit(dir, kernel, seen.note)
		if err != nil {
			t.Fatal(err)
		}
		read, err := storedCircuit(dir, kernel, seen.note)
		if err != nil {
			t.Fatal(err)
		}
		if n := seen.count("compiling"); n != 1 || seen.count("not kept") != 0 {
			t.Errorf("%s: told %q", kernel, seen.names)
		}
		if read.digest != made.digest || read.shape != made.shape || read.kernel != kernel {
			t.Errorf("%s: read circuit %s, compiled %s", kernel, read.digest.Short(), made.digest.Short())
		}
		w := randomWork(t, rng, kernel)
		statement := zk.Statement{Kernel: kernel, Inputs: w.Inputs(), Output: w.Outputs(), Bind: zk.Field{31: 7}}
		witness, err := frontend.NewWitness(assign(statement, w), ecc.BN254.ScalarField())
		if err != nil {
			t.Fatal(err)
		}
		first, firstErr := made.system.Solve(witness)
		second, secondErr := read.system.Solve(witness)
		if said := func(err error) string { return fmt.Sprint(err) }; said(firstErr) != said(secondErr) || firstErr == nil && (first == nil || second == nil) {
			t.Errorf("%s: compiled %v, read %v", kernel, firstErr, secondErr) // the commitment is the prover's to solve
		}
	}
}

// TestKeysOfAReadCircuitProve: the second time nothing is compiled.
func TestKeysOfAReadCircuitProve(t *testing.T) {
	for _, kernel := range []zk.Kernel{testKernel, "mlp-8", "hashchain-1"} {
		dir := filepath.Join(t.TempDir(), "keys")
		made, err := LoadOrSetup(dir, kernel, nil)
		if err != nil {
			t.Fatal(err)
		}
		var seen stages
		loaded, err := LoadOrSetup(dir, kernel, seen.note)
		if err != nil {
			t.Fatal(err)
		}
		if seen.count("compiling") != 0 || seen.count("reading") != 1 {
			t.Errorf("%s: told %q", kernel, seen.names)
		}
		result, err := NewProver(loaded).Prove(randomWork(t, rand.New(rand.NewPCG(5, 6)), kernel), zk.Field{31: 9})
		if err != nil {
			t.Fatal(err)
		}
		if err := verifierOf(t, made).Verify(result.Statement, result.Proof); err != nil {
			t.Errorf("%s: %v", kernel, err)
		}
	}
}

// TestDamagedCircuitsAreCompiledAnew, and what is no circuit of this kernel, of this version, is not taken for one.
func TestDamagedCircuitsAreCompiledAnew(t *testing.T) {
	dir := t.TempDir()
	digest, err := frozen(testKernel)
	if err != nil {
		t.Fatal(err)
	}
	path := circuitFile(dir, testKernel, digest)
	if _, err := readCircuit(path, testKernel, digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("from nowhere: %v", err)
	}
	intact := sharedSetup().keys.circuit
	if err := writeCircuit(path, intact); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		out := slices.Clone(whole)
		out[at] ^= 1
		return out
	}
	signed := func(body []byte) []byte { // its own digest is right
		digest := crypto.DomainCircuitFile.Hash(body)
		return append(digest[:], body...)
	}
	format := appendBlock(nil, []byte(circuitFormat()))
	for name, contents := range map[string][]byte{
		"empty":                {},
		"digest changed":       flip(3),
		"format changed":       flip(40),
		"circuit changed":      flip(len(whole) / 2),
		"cut":                  whole[:len(whole)-100],
		"longer":               append(slices.Clone(whole), 1),
		"keys under this name": signed(appendBlock(appendBlock(nil, []byte(cacheFormat())), nil)),
		"another version":      signed(append(appendBlock(nil, []byte("hypermesh circuit 0")), whole[crypto.DigestSize+len(format):]...)),
		"a long format":        signed(bytes.Repeat([]byte{0xff}, 8)),
		"no circuit":           signed(format),
		"noise":                signed(append(slices.Clone(format), bytes.Repeat([]byte("no circuit at all "), 100)...)),
		"half a circuit":       signed(whole[crypto.DigestSize : len(whole)/2]),
		"another's circuit":    signed(append(slices.Clone(format), encodedCircuit(t, "hashchain-1", nil)...)),
		"a coefficient more": signed(append(slices.Clone(format), encodedCircuit(t, testKernel, func(c *circuit) {
			one := c.system.Coefficients[1]
			c.system.Coefficients[2].Add(&c.system.Coefficients[2], &one)
		})...)),
	} {
		if err := os.WriteFile(path, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readCircuit(path, testKernel, digest); !errors.Is(err, ErrDamagedKeys) {
			t.Errorf("%s: %v", name, err)
		}
		var seen stages
		if c, err := storedCircuit(dir, testKernel, seen.note); err != nil || c.digest != digest || seen.count("compiling") != 1 {
			t.Errorf("%s: %v, told %q", name, err, seen.names)
		}
		if _, err := readCircuit(path, testKernel, digest); err != nil {
			t.Errorf("%s, the next time: %v", name, err)
		}
	}
}

// encodedCircuit is a circuit as gnark writes it, changed.
func encodedCircuit(t *testing.T, kernel zk.Kernel, change func(*circuit)) []byte {
	t.Helper()
	c, err := compile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	var out bytes.Buffer
	if _, err := c.system.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestACircuitThatCannotBeKeptIsUsed: who cannot write pays with time alone, and leaves nothing behind.
func TestACircuitThatCannotBeKeptIsUsed(t *testing.T) {
	dir := t.TempDir()
	keys := sharedSetup().keys
	if err := writeKeys(cachePath(dir, keys.circuit), keys); err != nil {
		t.Fatal(err)
	}
	inTheWay := circuitFile(dir, testKernel, keys.Circuit())
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var seen stages
	if _, err := LoadOrSetup(dir, testKernel, seen.note); err != nil || seen.count("not kept") != 1 {
		t.Errorf("%v, told %q", err, seen.names)
	}
	if loaded, err := Load(dir, testKernel); err != nil || loaded.Digest() != keys.Digest() {
		t.Errorf("loaded: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestNothingIsCompiledForKeysThatAreNotThere: nor kept.
func TestNothingIsCompiledForKeysThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, testKernel); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "stored keys") {
		t.Error(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// BenchmarkLoadCircuit is what keys cost to load beside themselves: with the circuit compiled, and from disk.
func BenchmarkLoadCircuit(b *testing.B) {
	for _, kernel := range []zk.Kernel{"matmul-32", "matmul-64", "matmul-128", "usage-batch-32", "usage-batch-112"} {
		b.Run(string(kernel)+"/compiled", func(b *testing.B) {
			for b.Loop() {
				if _, err := compile(kernel); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(string(kernel)+"/stored", func(b *testing.B) {
			dir := b.TempDir()
			if _, err := storedCircuit(dir, kernel, nil); err != nil {
				b.Fatal(err)
			}
			digest, err := frozen(kernel)
			if err != nil {
				b.Fatal(err)
			}
			size := int64(0)
			for b.Loop() {
				if _, err := readCircuit(circuitFile(dir, kernel, digest), kernel, digest); err != nil {
					b.Fatal(err)
				}
			}
			if f, err := os.Stat(circuitFile(dir, kernel, digest)); err == nil {
				size = f.Size()
			}
			b.ReportMetric(float64(size), "file-bytes")
		})
	}
}
