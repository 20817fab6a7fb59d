package groth16

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"
	bn254cs "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/constraint/solver"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs"
	"github.com/consensys/gnark/test"

	"github.com/hypermesh/hypermesh/internal/zk"
)

func TestUnknownKernelHasNoCircuit(t *testing.T) {
	for _, kernel := range []zk.Kernel{"", "matmul-5", "matmul-32-v2", "mlp-1", "hashchain-2", "tee-4"} {
		if _, err := compile(kernel); err == nil {
			t.Errorf("%q compiles", kernel)
		}
	}
}

// witness is a matmul witness that need not be honest.
type witness struct {
	a, b, c                    []*big.Int
	left, right, product, bind *big.Int
}

func (w witness) circuit() *matmulCircuit {
	out := newMatmulCircuit(testSize)
	for i := range out.A {
		out.A[i], out.B[i], out.C[i] = w.a[i], w.b[i], w.c[i]
	}
	out.Left, out.Right, out.Product, out.Bind = w.left, w.right, w.product, w.bind
	return out
}

// multiply sets c = a · b.
func (w *witness) multiply() {
	for i := range testSize {
		for k := range testSize {
			sum := new(big.Int)
			for j := range testSize {
				sum.Add(sum, new(big.Int).Mul(w.a[i*testSize+j], w.b[j*testSize+k]))
			}
			w.c[i*testSize+k] = sum
		}
	}
}

func honestWitness(rng *rand.Rand) witness {
	left, right := randomMatrix(rng, testSize), randomMatrix(rng, testSize)
	product, err := zk.Multiply(left, right)
	if err != nil {
		panic(err)
	}
	number := func(f zk.Field) *big.Int { return new(big.Int).SetBytes(f[:]) }
	w := witness{
		left: number(zk.LeftDigest(left)), right: number(zk.RightDigest(right)),
		product: number(zk.ProductDigest(product)), bind: big.NewInt(rng.Int64()),
	}
	for i := range testSize * testSize {
		w.a = append(w.a, big.NewInt(int64(left.Cells()[i])))
		w.b = append(w.b, big.NewInt(int64(right.Cells()[i])))
		w.c = append(w.c, big.NewInt(product.Cells()[i]))
	}
	return w
}

// provable says whether gnark's solver, with honest hints, finds the witness to
// satisfy the circuit.
func provable(w witness) error {
	_, err := solve(w)
	return err
}

func solve(w witness, opts ...solver.Option) (*bn254cs.R1CSSolution, error) {
	return solveSystem(sharedSetup().keys.circuit.system, w.circuit(), opts...)
}

// solveSystem has gnark's solver find every wire from an assignment.
func solveSystem(system *bn254cs.R1CS, assignment frontend.Circuit, opts ...solver.Option) (*bn254cs.R1CSSolution, error) {
	full, err := frontend.NewWitness(assignment, ecc.BN254.ScalarField())
	if err != nil {
		panic(err)
	}
	// The commitment's wire: any value does, as a hash would give.
	challenge := solver.OverrideHint(solver.GetHintID(cs.Bsb22CommitmentComputePlaceholder),
		func(_ *big.Int, _, out []*big.Int) error {
			out[0].SetString("7426034951284760239857623904857629384756293847569238475692384756293", 10)
			return nil
		})
	solution, err := system.Solve(full, append(opts, challenge)...)
	if err != nil {
		return nil, err
	}
	return solution.(*bn254cs.R1CSSolution), nil
}

func TestHonestWitnessesSolve(t *testing.T) {
	rng := seeded(t)
	for range 10 {
		if err := provable(honestWitness(rng)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCircuitAgreesWithTheTestEngine(t *testing.T) {
	w := honestWitness(seeded(t))
	field := ecc.BN254.ScalarField()
	if err := test.IsSolved(newMatmulCircuit(testSize), w.circuit(), field); err != nil {
		t.Errorf("honest witness: %v", err)
	}
	w.c[3] = new(big.Int).Add(w.c[3], big.NewInt(1))
	if err := test.IsSolved(newMatmulCircuit(testSize), w.circuit(), field); err == nil {
		t.Error("a wrong entry of C satisfies the circuit")
	}
}

func TestEveryChangedValueBreaksTheWitness(t *testing.T) {
	rng := seeded(t)
	honest := honestWitness(rng)
	plus := func(v *big.Int, d int64) *big.Int { return new(big.Int).Add(v, big.NewInt(d)) }
	for i := range testSize * testSize {
		for name, edit := range map[string]func(w *witness){
			"A": func(w *witness) { w.a[i] = plus(w.a[i], 1) },
			"B": func(w *witness) { w.b[i] = plus(w.b[i], -1) },
			"C": func(w *witness) { w.c[i] = plus(w.c[i], 1) },
			"A with its product": func(w *witness) {
				w.a[i] = plus(w.a[i], 1)
				w.multiply()
			},
		} {
			w := honest.clone()
			edit(&w)
			if provable(w) == nil {
				t.Errorf("changed entry %d of %s: still provable", i, name)
			}
		}
	}
	for name, edit := range map[string]func(w *witness){
		"left digest":     func(w *witness) { w.left = plus(w.left, 1) },
		"right digest":    func(w *witness) { w.right = plus(w.right, 1) },
		"product digest":  func(w *witness) { w.product = plus(w.product, 1) },
		"swapped factors": func(w *witness) { w.left, w.right = w.right, w.left },
	} {
		w := honest.clone()
		edit(&w)
		if provable(w) == nil {
			t.Errorf("changed %s: still provable", name)
		}
	}
}

func (w witness) clone() witness {
	w.a, w.b, w.c = slices.Clone(w.a), slices.Clone(w.b), slices.Clone(w.c)
	return w
}

// forgeries are witnesses of false statements whose digests are right: only the
// group of constraints that each is named for stands in the way.
func forgeries(rng *rand.Rand) map[string]witness {
	honest := honestWitness(rng)
	out := map[string]witness{}
	carry := func(entries []*big.Int, i, bits int) { // the same packed element
		entries[i] = new(big.Int).Add(entries[i], new(big.Int).Lsh(big.NewInt(1), uint(bits)))
		entries[i+1] = new(big.Int).Sub(entries[i+1], big.NewInt(1))
	}
	w := honest.clone()
	carry(w.a, 0, zk.MatmulFactorBits)
	w.multiply()
	w.product = digestOf(w.c)
	out["range of A"] = w

	w = honest.clone()
	carry(w.b, 5, zk.MatmulFactorBits)
	w.multiply()
	w.product = digestOf(w.c)
	out["range of B"] = w

	w = honest.clone()
	carry(w.c, 2, zk.MatmulProductBits)
	out["range of C"] = w

	w = honest.clone()
	w.c[7] = new(big.Int).Add(w.c[7], big.NewInt(1))
	w.product = digestOf(w.c)
	out["Freivalds"] = w

	w = honest.clone()
	w.c[0], w.c[1] = w.c[1], w.c[0]
	w.product = digestOf(w.c)
	out["Freivalds, two entries swapped"] = w
	return out
}

// digestOf is the product digest of entries of any size, packed as the circuit
// packs them: Σ (v + 2³⁹) · 2^(40 i).
func digestOf(entries []*big.Int) *big.Int {
	var cells []int64
	for _, v := range entries {
		cells = append(cells, v.Int64())
	}
	var csv strings.Builder
	for i, v := range cells {
		fmt.Fprintf(&csv, "%d%s", v, map[bool]string{true: "\n", false: ","}[i%testSize == testSize-1])
	}
	p, err := zk.ParseProductCSV([]byte(csv.String()))
	if err != nil {
		panic(err)
	}
	f := zk.ProductDigest(p)
	return new(big.Int).SetBytes(f[:])
}

func TestForgedWitnessesDoNotSolve(t *testing.T) {
	for name, w := range forgeries(seeded(t)) {
		if provable(w) == nil {
			t.Errorf("%s: provable", name)
		}
	}
}

// TestLyingHintsDoNotHelp gives the prover hints of its own for the range
// checks' limbs and multiplicities, which is what a cheating prover may do.
func TestLyingHintsDoNotHelp(t *testing.T) {
	lies := lyingHints(t)
	rng := seeded(t)
	if _, err := solve(honestWitness(rng), lies...); err != nil {
		t.Fatalf("the hints fail on an honest witness: %v", err)
	}
	for name, w := range forgeries(rng) {
		if _, err := solve(w, lies...); err == nil {
			t.Errorf("%s: provable", name)
		} else if !strings.Contains(err.Error(), "is not satisfied") {
			t.Errorf("%s: fails in the hints, not in a constraint: %v", name, err)
		}
	}
}

// lyingHints cut a value into limbs whatever its size, the last taking what is
// left, and count only limbs that are in the table.
func lyingHints(t *testing.T) []solver.Option {
	t.Helper()
	var out []solver.Option
	for _, hint := range solver.GetRegisteredHints() {
		switch name := solver.GetHintName(hint); {
		case strings.HasSuffix(name, "rangecheck.DecomposeHint"):
			out = append(out, solver.OverrideHint(solver.GetHintID(hint), lyingLimbs))
		case strings.HasSuffix(name, "logderivarg.countHint"):
			out = append(out, solver.OverrideHint(solver.GetHintID(hint), lyingCount))
		}
	}
	if len(out) != 2 {
		t.Fatalf("found %d of the 2 hints of the range checks", len(out))
	}
	return out
}

func lyingLimbs(field *big.Int, in, out []*big.Int) error {
	width := uint(in[1].Uint64())
	rest := new(big.Int).Set(in[2])
	if half := new(big.Int).Rsh(field, 1); rest.Cmp(half) > 0 {
		rest.Sub(rest, field) // a negative number, as the forger means it
	}
	mask := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), width), big.NewInt(1))
	for i := range out {
		if i == len(out)-1 {
			out[i].Mod(rest, field)
			return nil
		}
		out[i].And(rest, mask)
		rest.Rsh(rest, width)
	}
	return nil
}

func lyingCount(_ *big.Int, in, out []*big.Int) error {
	table := int(in[0].Int64())
	for _, query := range in[2+table:] {
		if query.IsInt64() && query.Int64() < int64(table) {
			out[query.Int64()].Add(out[query.Int64()], big.NewInt(1))
		}
	}
	return nil
}

// TestEveryWireIsHeld changes one wire of a solution at a time: some constraint
// must notice. The commitment's mask is free by design, and nothing else.
func TestEveryWireIsHeld(t *testing.T) {
	solution, err := solve(honestWitness(seeded(t)))
	if err != nil {
		t.Fatal(err)
	}
	system := sharedSetup().keys.circuit.system
	onlyMaskIsFree(t, system, freeWires(system, solution))
}

// freeWires returns the wires of a solution that no constraint holds.
func freeWires(system *bn254cs.R1CS, solution *bn254cs.R1CSSolution) []int {
	rows := system.GetR1Cs()
	touching := make([][]int, len(solution.W))
	for i, row := range rows {
		for _, side := range []constraint.LinearExpression{row.L, row.R, row.O} {
			for _, term := range side {
				touching[term.WireID()] = append(touching[term.WireID()], i)
			}
		}
	}
	value := func(side constraint.LinearExpression) fr.Element {
		var total fr.Element
		for _, term := range side {
			var x fr.Element
			x.Mul(&system.Coefficients[term.CoeffID()], &solution.W[term.WireID()])
			total.Add(&total, &x)
		}
		return total
	}
	holds := func(i int) bool {
		l, r, o := value(rows[i].L), value(rows[i].R), value(rows[i].O)
		l.Mul(&l, &r)
		return l.Equal(&o)
	}
	var free []int
	for wire := range solution.W {
		was := solution.W[wire]
		solution.W[wire].SetUint64(0xfeedface)
		if !slices.ContainsFunc(touching[wire], func(i int) bool { return !holds(i) }) {
			free = append(free, wire)
		}
		solution.W[wire] = was
	}
	return free
}

func onlyMaskIsFree(t *testing.T, system *bn254cs.R1CS, free []int) {
	t.Helper()
	if len(free) != 1 || !slices.Contains(soleCommitment(system).PrivateCommitted, free[0]) || free[0] < system.GetNbPublicVariables()+system.GetNbSecretVariables() {
		t.Errorf("wires %v can be changed alone, want the commitment's mask alone", free)
	}
}

// TestProofNeedsTheWholeWitness goes through the real prover rather than the
// solver alone.
func TestProofNeedsTheWholeWitness(t *testing.T) {
	keys := sharedSetup().keys
	for name, w := range forgeries(seeded(t)) {
		if proof, err := keys.prove(w.circuit()); err == nil {
			t.Errorf("%s: proof of %d bytes", name, len(proof))
		}
	}
	if _, err := keys.prove(honestWitness(seeded(t)).circuit()); err != nil {
		t.Errorf("honest witness: %v", err)
	}
}
