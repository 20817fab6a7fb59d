package groth16

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/test"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// smallest are the kernels that tests prove; matmul has tests of its own.
var smallest = []zk.Kernel{"mlp-8", "hashchain-1", "merkle-update-1", "usage-batch-4"}

var compiled = func() map[zk.Kernel]func() *circuit {
	out := map[zk.Kernel]func() *circuit{}
	for _, k := range smallest {
		out[k] = sync.OnceValue(func() *circuit {
			c, err := compile(k)
			if err != nil {
				panic(err)
			}
			return c
		})
	}
	return out
}()

// randomWork returns a work of a kernel on random inputs.
func randomWork(t testing.TB, rng *rand.Rand, kernel zk.Kernel) zk.Work {
	t.Helper()
	family, size, ok := kernel.Of()
	if !ok {
		t.Fatalf("no kernel %s", kernel)
	}
	var work zk.Work
	var err error
	switch family {
	case zk.Matmul:
		work, err = zk.NewMatmulWork(randomMatrix(rng, size), randomMatrix(rng, size))
	case zk.MLP:
		model, sample := randomModel(rng)
		work, err = zk.NewMLPWork(model, sample)
	case zk.Hashchain:
		work, err = zk.NewHashchainWork(size, randomField(rng))
	case zk.MerkleState:
		tree, updates := randomTree(t, rng, size)
		work, err = zk.NewTreeWork(tree, updates)
	case zk.UsageBatch:
		work, err = zk.NewUsageWork(size, randomBatch(t, rng, size))
	}
	if err != nil {
		t.Fatal(err)
	}
	return work
}

func randomField(rng *rand.Rand) zk.Field {
	var d crypto.Digest
	for i := range d {
		d[i] = byte(rng.Uint32())
	}
	return zk.Reduce(d)
}

func randomModel(rng *rand.Rand) (*zk.MLPModel, zk.MLPSample) {
	m := &zk.MLPModel{Salt: randomField(rng)}
	var x zk.MLPSample
	for i := range m.Hidden {
		for j := range m.Hidden[i] {
			m.Hidden[i][j] = int8(rng.Uint32())
		}
		m.HiddenBias[i] = int16(rng.Uint32())
	}
	for k := range m.Score {
		for i := range m.Score[k] {
			m.Score[k][i] = int8(rng.Uint32())
		}
		m.ScoreBias[k] = int16(rng.Uint32())
	}
	for i := range x {
		x[i] = int8(rng.Uint32())
	}
	return m, x
}

func randomTree(t testing.TB, rng *rand.Rand, updates int) (zk.Tree, []zk.TreeUpdate) {
	t.Helper()
	var leaves []zk.TreeLeaf
	for index := uint64(rng.Uint32N(1 << 28)); index < 1<<32; index += 1 + uint64(rng.Uint32N(1<<30)) {
		leaves = append(leaves, zk.TreeLeaf{Index: uint32(index), Value: randomField(rng)})
	}
	tree, err := zk.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]zk.TreeUpdate, updates)
	for i := range list {
		list[i] = zk.TreeUpdate{Index: rng.Uint32(), Value: randomField(rng)}
		if i%2 == 0 {
			list[i].Index = leaves[rng.IntN(len(leaves))].Index
		}
	}
	return tree, list
}

// randomBatch has records of every resource and of the largest values.
func randomBatch(t testing.TB, rng *rand.Rand, records int) zk.UsageFile {
	t.Helper()
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rng.Uint32())
	}
	secret := zk.NewMeterSecret(seed)
	file := zk.UsageFile{Order: crypto.Digest(randomField(rng)), Key: secret.Public(), After: rng.Uint64N(1 << 40)}
	context, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		t.Fatal(err)
	}
	sequence := file.After
	for i := range records {
		sequence += 1 + rng.Uint64N(5)
		record := zk.UsageRecord{
			Sequence: sequence, Resource: uint8((i + 3) % zk.UsageResources), Amount: rng.Uint64N(1 << zk.UsageAmountBits),
			DurationMs: rng.Uint64N(1 << zk.UsageDurationBits), EndedMs: rng.Uint64N(1 << zk.UsageEndedBits),
		}
		if i == 0 {
			record.Amount, record.DurationMs = 1<<zk.UsageAmountBits-1, 1<<zk.UsageDurationBits-1
		}
		file.Records = append(file.Records, zk.SignedUsage{Record: record, Signature: secret.Sign(context, record)})
	}
	return file
}

func statementOf(work zk.Work, bind zk.Field) zk.Statement {
	return zk.Statement{Kernel: work.Kernel(), Inputs: work.Inputs(), Output: work.Outputs(), Bind: bind}
}

// TestCircuitsAgreeWithPlainGo: what plain Go computes satisfies the circuit, on
// random inputs, by gnark's solver and by its test engine; with -short the small sizes alone.
func TestCircuitsAgreeWithPlainGo(t *testing.T) {
	rng := seeded(t)
	for _, kernel := range smallest {
		for round := range 3 {
			work := randomWork(t, rng, kernel)
			assignment := assign(statementOf(work, randomField(rng)), work)
			if _, err := solveSystem(compiled[kernel]().system, assignment); err != nil {
				t.Errorf("%s: %v", kernel, err)
			}
			if round == 0 {
				shape, err := define(kernel)
				if err != nil {
					t.Fatal(err)
				}
				if err := test.IsSolved(shape, assignment, ecc.BN254.ScalarField()); err != nil {
					t.Errorf("%s, test engine: %v", kernel, err)
				}
			}
		}
	}
	for _, kernel := range zk.Kernels() {
		if testing.Short() && large[kernel] || slices.Contains(smallest, kernel) {
			continue
		}
		c, err := compile(kernel)
		if err != nil {
			t.Fatal(err)
		}
		work := randomWork(t, rng, kernel)
		if _, err := solveSystem(c.system, assign(statementOf(work, randomField(rng)), work)); err != nil {
			t.Errorf("%s: %v", kernel, err)
		}
	}
}

// TestUpdatesFollowOneAnother: the second half of a list of updates, made to another tree, does not lead
// from the first half's root to its own.
func TestUpdatesFollowOneAnother(t *testing.T) {
	rng := seeded(t)
	const updates = 16
	tree, list := randomTree(t, rng, updates)
	other, _ := randomTree(t, rng, updates)
	var halves [2]*treeCircuit
	for i, from := range []zk.Tree{tree, other} {
		work, err := zk.NewTreeWork(from, list)
		if err != nil {
			t.Fatal(err)
		}
		halves[i] = assignTree(statementOf(work, zk.Field{}), work)
	}
	spliced := halves[0]
	copy(spliced.Steps[updates/2:], halves[1].Steps[updates/2:])
	spliced.After = halves[1].After
	for _, lacks := range [][]string{nil, {groupBefore}} {
		err := test.IsSolved(lacking("merkle-update-16", lacks, map[string]bool{}), spliced, ecc.BN254.ScalarField())
		if (err == nil) != (lacks != nil) {
			t.Errorf("without %q: %v", lacks, err)
		}
	}
}

// TestUnfilledBatches: fewer records than a kernel takes.
func TestUnfilledBatches(t *testing.T) {
	rng := seeded(t)
	for records := 1; records < 4; records++ {
		work, err := zk.NewUsageWork(4, randomBatch(t, rng, records))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := solveSystem(compiled["usage-batch-4"]().system, assign(statementOf(work, zk.Field{}), work)); err != nil {
			t.Errorf("%d records: %v", records, err)
		}
	}
}

// values returns every value of a circuit, publics first, by name.
func values(circuit any) (names []string, at []*frontend.Variable) {
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch kind := v.Kind(); {
		case kind == reflect.Interface:
			names, at = append(names, name), append(at, v.Addr().Interface().(*frontend.Variable))
		case kind == reflect.Slice || kind == reflect.Array:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		case kind == reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(name+"."+f.Name, v.Field(i))
				}
			}
		}
	}
	walk("", reflect.ValueOf(circuit).Elem())
	return names, at
}

// TestEveryChangedValueIsCaught changes one public or private value at a time:
// no such witness satisfies its circuit. Bind alone may have any value, which is
// what proves it to be the prover's own. With -short some of the values.
func TestEveryChangedValueIsCaught(t *testing.T) {
	rng := seeded(t)
	most := math.MaxInt
	if testing.Short() {
		most = 120 // of the 1,600 values of a batch, each a solution of its own
	}
	for _, kernel := range smallest {
		work := randomWork(t, rng, kernel)
		assignment := assign(statementOf(work, randomField(rng)), work)
		names, at := values(assignment)
		order := rng.Perm(len(names))
		slices.SortStableFunc(order, func(a, b int) int { return strings.Count(names[a], "[") - strings.Count(names[b], "[") })
		for _, i := range order[:min(most, len(order))] {
			was := *at[i]
			for _, change := range []int64{1, -1} {
				*at[i] = new(big.Int).Add(toBig(was), big.NewInt(change))
				_, err := solveSystem(compiled[kernel]().system, assignment)
				if (err == nil) != (names[i] == ".Bind") {
					t.Errorf("%s: %s changed by %d: %v", kernel, names[i], change, err)
				}
			}
			*at[i] = was
		}
	}
}

func toBig(v frontend.Variable) *big.Int {
	switch v := v.(type) {
	case []byte:
		return new(big.Int).SetBytes(v)
	case *big.Int:
		return v
	}
	n, ok := new(big.Int).SetString(fmt.Sprint(v), 10)
	if !ok {
		panic(fmt.Sprintf("no number: %v", v))
	}
	return n
}

// TestEveryWireOfEveryKernelIsHeld is TestEveryWireIsHeld for the others.
func TestEveryWireOfEveryKernelIsHeld(t *testing.T) {
	rng := seeded(t)
	for _, kernel := range smallest {
		work := randomWork(t, rng, kernel)
		system := compiled[kernel]().system
		solution, err := solveSystem(system, assign(statementOf(work, randomField(rng)), work))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(string(kernel), func(t *testing.T) { onlyMaskIsFree(t, system, freeWires(system, solution)) })
	}
}

// TestKernelsProveAndVerify goes the whole way, and moves each proof to other
// publics, another order and another kernel.
func TestKernelsProveAndVerify(t *testing.T) {
	rng := seeded(t)
	encoded := map[zk.Kernel][]byte{}
	results := map[zk.Kernel]Result{}
	kernels := smallest
	if testing.Short() {
		kernels = kernels[:2] // keys of the others take seconds
	}
	for _, kernel := range kernels {
		keys, err := setup(compiled[kernel](), nil)
		if err != nil {
			t.Fatal(err)
		}
		encoded[kernel] = keys.VerifyingKey()
		result, err := NewProver(keys).Prove(randomWork(t, rng, kernel), zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{2}))
		if err != nil {
			t.Fatalf("%s: %v", kernel, err)
		}
		results[kernel] = result
		if len(result.Proof) != ProofSize {
			t.Errorf("%s: proof of %d bytes", kernel, len(result.Proof))
		}
		other := randomWork(t, rng, smallest[0])
		if kernel != smallest[0] {
			if _, err := NewProver(keys).Prove(other, zk.Field{}); err == nil {
				t.Errorf("%s proves a work of %s", kernel, smallest[0])
			}
		}
	}
	verifier, err := NewVerifier(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for kernel, good := range results {
		check := func(name string, want error, edit func(*zk.Statement)) {
			t.Helper()
			statement := cloneStatement(good.Statement)
			edit(&statement)
			if err := verifier.Verify(statement, good.Proof); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", kernel, name, err, want)
			}
		}
		check("as proven", nil, func(*zk.Statement) {})
		check("another order", zk.ErrFalseProof, func(s *zk.Statement) {
			s.Bind = zk.Bind("hypermesh-test", crypto.Digest{2}, 1, crypto.PublicKey{2})
		})
		for i := range good.Statement.Inputs {
			check("another input", zk.ErrFalseProof, func(s *zk.Statement) { s.Inputs[i][31] ^= 1 })
		}
		check("another output", zk.ErrFalseProof, func(s *zk.Statement) { s.Output[0][31] ^= 1 })
		check("another key", zk.ErrVerifyingKey, func(s *zk.Statement) { s.VerifyingKey[3] ^= 1 })
		for name := range encoded {
			if name != kernel {
				check("under "+string(name), zk.ErrVerifyingKey, func(s *zk.Statement) { s.Kernel = name })
			}
		}
		check("a kernel without a key", zk.ErrUnknownKernel, func(s *zk.Statement) { s.Kernel = "hashchain-16" })
	}
}
