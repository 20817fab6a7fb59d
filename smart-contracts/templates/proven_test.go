package templates_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// trueKernel is the circuit of the kernels that people buy, small enough to be proven in a tenth of a second.
const trueKernel = zk.Kernel("matmul-4")

// product is a multiplication of two matrices, of entries that begin at a number.
func product(t *testing.T, begin int16) zk.Work {
	t.Helper()
	n, _ := trueKernel.MatmulSize()
	cells := make([]int16, n*n)
	for i := range cells {
		cells[i] = begin + int16(i)
	}
	m, err := zk.NewMatrix(n, cells)
	if err != nil {
		t.Fatal(err)
	}
	work, err := zk.NewMatmulWork(m, m)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

func proofOf(t *testing.T, k *groth16.Keys, work zk.Work, bind zk.Field) []byte {
	t.Helper()
	result, err := groth16.NewProver(k).Prove(work, bind)
	if err != nil {
		t.Fatal(err)
	}
	return result.Proof
}

// proves proves a work with keys, to a verifier of them.
func proves(t *testing.T, k *groth16.Keys, work zk.Work) prover {
	t.Helper()
	verifier, err := groth16.NewVerifier(map[zk.Kernel][]byte{trueKernel: k.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	policy := chain.PolicyZK{Kernel: string(trueKernel), VerifyingKey: k.Digest()}
	for _, input := range work.Inputs() {
		policy.Inputs = append(policy.Inputs, chain.FieldBytes(input))
	}
	return prover{verifier, policy, func(bind zk.Field) (zk.Field, []byte) { return work.Outputs()[0], proofOf(t, k, work, bind) }}
}

// taskBind is what proofs of an agreement's task are bound to, as the template's page says.
func (c *compute) taskBind(task int) (bind zk.Field) {
	digest := sha256.Sum256(fmt.Appendf(nil, "hypermesh service task %d of %s", task, c.at))
	copy(bind[1:], digest[:])
	return bind
}

func deliver(task int, output zk.Field, proof []byte) string {
	return fmt.Sprintf(`{"deliver":{"task":%d,"outputs":[%q],"proof":%q}}`, task, output, base64.StdEncoding.EncodeToString(proof))
}

// TestServiceIsPaidAgainstTrueProofs: an agreement on the machine lets money go against proofs as provers make them, of the task and
// of its work alone, which the chain's verifier takes.
func TestServiceIsPaidAgainstTrueProofs(t *testing.T) {
	k, err := groth16.LoadOrSetup(t.TempDir(), trueKernel, nil) // as a devnet makes them
	if err != nil {
		t.Fatal(err)
	}
	anew, err := groth16.Setup(trueKernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	work := product(t, 3)
	c := newCompute(t, "service", proves(t, k, work))
	if _, refusal := c.instantiate(t, "erin", serviceBegin); refusal != "" {
		t.Fatal(refusal)
	}
	inputs, output := work.Inputs(), work.Outputs()[0]
	for i := range 2 {
		c.must(t, "alice", fmt.Sprintf(`{"offer":{"evidence":{"proof":{"kernel":%q,"inputs":[%q,%q]}},"stake":"200"}}`, trueKernel, inputs[0], inputs[1]), 1_000)
		c.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, i+1), 200)
	}
	one, two := proofOf(t, k, work, c.taskBind(1)), proofOf(t, k, work, c.taskBind(2))
	other := product(t, 4)
	refused := map[string]string{
		"of another task":         deliver(1, output, two),
		"of no task":              deliver(1, output, proofOf(t, k, work, zk.Field{31: 1})),
		"of other work":           deliver(1, other.Outputs()[0], proofOf(t, k, other, c.taskBind(1))),
		"of another result":       deliver(1, other.Outputs()[0], one),
		"of the factor":           deliver(1, inputs[0], one),
		"of a result, moduli on":  deliver(1, wrapped(t, output), one),
		"under another setup":     deliver(1, output, proofOf(t, anew, work, c.taskBind(1))),
		"with a byte more":        deliver(1, output, append(slices.Clone(one), 0)),
		"with a byte less":        deliver(1, output, one[:len(one)-1]),
		"of nothing":              deliver(1, output, nil),
		"of nothing but the size": deliver(1, output, make([]byte, groth16.ProofSize)),
	}
	for at := range one {
		changed := slices.Clone(one)
		changed[at] ^= 1
		refused[fmt.Sprintf("with byte %d changed", at)] = deliver(1, output, changed)
	}
	for i, point := range [][2]int{{0, 32}, {32, 64}, {96, 32}, {128, 32}, {160, 32}} {
		infinite := slices.Clone(one)
		clear(infinite[point[0] : point[0]+point[1]])
		infinite[point[0]] = 0x40 // compressed, at infinity
		refused[fmt.Sprintf("with point %d at infinity", i)] = deliver(1, output, infinite)
	}
	held, has := c.has("it"), c.has("bob")
	for what, msg := range refused { // order-free: none does anything
		if _, refusal := c.execute(t, "bob", msg); refusal != "the proof does not hold" {
			t.Errorf("a proof %s: %q", what, refusal)
		}
	}
	if c.has("it") != held || c.has("bob") != has {
		t.Fatalf("after false proofs the agreement has %d of %d, bob %d of %d", c.has("it"), held, c.has("bob"), has)
	}
	for i, proof := range [][]byte{one, two} {
		r := c.must(t, "bob", deliver(i+1, output, proof))
		if paid := uint64(1_200 * (i + 1)); said(r, "to_provider") != "1200" || c.has("bob") != has+paid || c.has("it") != held-paid {
			t.Errorf("task %d: the agreement has %d of %d, bob %d of %d", i+1, c.has("it"), held, c.has("bob"), has)
		}
	}
	c.refused(t, "bob", deliver(1, output, one), "the task is paid")
}

// wrapped is the same element with the field's modulus added, which is another way to write it.
func wrapped(t *testing.T, f zk.Field) (out zk.Field) {
	t.Helper()
	modulus, ok := new(big.Int).SetString("21888242871839275222246405745257275088548364400416034343698204186575808495617", 10)
	if !ok {
		t.Fatal("no modulus")
	}
	new(big.Int).Add(new(big.Int).SetBytes(f[:]), modulus).FillBytes(out[:])
	if out.Check() == nil {
		t.Fatal("an element beyond the modulus")
	}
	return out
}

// TestServiceIsPaidAgainstTrueClaims: the same where the chain has verified the proof with the claim of an order.
func TestServiceIsPaidAgainstTrueClaims(t *testing.T) {
	k, err := groth16.Setup(trueKernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	work := product(t, 3)
	p := proves(t, k, work)
	c := newCompute(t, "service", p)
	if _, refusal := c.instantiate(t, "erin", serviceBegin); refusal != "" {
		t.Fatal(refusal)
	}
	claim, moved := c.claim(t, p.policy, "bob"), c.claim(t, p.policy, "bob")
	moved.Proof = claim.Proof // of another order
	for i, one := range []chain.Claim{claim, moved} {
		c.must(t, "alice", fmt.Sprintf(`{"offer":{"evidence":{"order":{"id":"%s"}},"stake":"200"}}`, one.Order.ID()), 1_000)
		c.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, i+1), 200)
	}
	c.settle(t, moved, false)
	c.refused(t, "bob", `{"deliver":{"task":2}}`, "the order has no claim")
	c.settle(t, claim, true)
	if r := c.must(t, "bob", `{"deliver":{"task":1}}`); said(r, "to_provider") != "1200" || c.has("it") != 1_200 {
		t.Errorf("the agreement has %d: %v", c.has("it"), r.Attributes)
	}
}
