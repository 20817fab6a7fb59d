package groth16

import (
	"fmt"

	"github.com/consensys/gnark-crypto/ecc"
	backend "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/frontend"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// Prover proves statements of one kernel.
type Prover struct{ keys *Keys }

// NewProver returns a prover with the given keys.
func NewProver(keys *Keys) *Prover { return &Prover{keys: keys} }

// Kernel returns the kernel's name.
func (p *Prover) Kernel() zk.Kernel { return p.keys.Kernel() }

// MatmulResult is a product, what was proven of it, and the proof.
type MatmulResult struct {
	Product   zk.Product
	Statement zk.Statement
	Proof     zk.Proof
}

// Matmul multiplies two matrices of the kernel's size and proves it, bound to
// one claim by bind (zk.Bind). The proof has been verified when it returns.
// Proving uses all processors and cannot be interrupted: n = 32 takes half a
// second on two cores, each doubling of n four times as long.
func (p *Prover) Matmul(left, right zk.Matrix, bind zk.Field) (MatmulResult, error) {
	n, ok := p.Kernel().MatmulSize()
	if !ok || left.Size() != n || right.Size() != n {
		return MatmulResult{}, fmt.Errorf("groth16: kernel %s cannot take matrices of size %d and %d", p.Kernel(), left.Size(), right.Size())
	}
	product, err := zk.Multiply(left, right)
	if err != nil {
		return MatmulResult{}, err
	}
	statement := zk.Statement{
		Kernel:       p.Kernel(),
		VerifyingKey: p.keys.Digest(),
		Inputs:       []zk.Field{zk.LeftDigest(left), zk.RightDigest(right)},
		Output:       []zk.Field{zk.ProductDigest(product)},
		Bind:         bind,
	}
	if err := statement.Check(); err != nil {
		return MatmulResult{}, err
	}
	proof, err := p.keys.prove(assignMatmul(statement, left, right, product))
	if err != nil {
		return MatmulResult{}, err
	}
	if err := p.keys.verify.verify(statement, proof); err != nil {
		return MatmulResult{}, fmt.Errorf("groth16: own proof of %s does not verify, its keys do not fit together: %w", p.Kernel(), err)
	}
	return MatmulResult{Product: product, Statement: statement, Proof: proof}, nil
}

// prove solves the circuit for an assignment and proves it. It fails if the
// assignment breaks a constraint.
func (k *Keys) prove(assignment frontend.Circuit) (zk.Proof, error) {
	witness, err := frontend.NewWitness(assignment, ecc.BN254.ScalarField())
	if err != nil {
		return nil, fmt.Errorf("groth16: witness of %s: %w", k.Kernel(), err)
	}
	proof, err := backend.Prove(k.circuit.system, k.proving, witness)
	if err != nil {
		return nil, fmt.Errorf("groth16: proving %s: %w", k.Kernel(), err)
	}
	return encodeProof(proof), nil
}
