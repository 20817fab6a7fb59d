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

// Result is what was proven and its proof.
type Result struct {
	Statement zk.Statement
	Proof     zk.Proof
}

// Prove proves a work of the prover's kernel, bound to one claim by bind
// (zk.Bind). The proof has been verified when it returns. Proving uses all
// processors and cannot be interrupted: about a second for each 130,000
// constraints on two.
func (p *Prover) Prove(work zk.Work, bind zk.Field) (Result, error) {
	if work.Kernel() != p.Kernel() {
		return Result{}, fmt.Errorf("groth16: keys of %s cannot prove %s", p.Kernel(), work.Kernel())
	}
	statement := zk.Statement{
		Kernel: p.Kernel(), VerifyingKey: p.keys.Digest(), Inputs: work.Inputs(), Output: work.Outputs(), Bind: bind,
	}
	if err := statement.Check(); err != nil {
		return Result{}, err
	}
	proof, err := p.keys.prove(assign(statement, work))
	if err != nil {
		return Result{}, err
	}
	if err := p.keys.verify.verify(statement, proof); err != nil {
		return Result{}, fmt.Errorf("groth16: own proof of %s does not verify, its keys do not fit together: %w", p.Kernel(), err)
	}
	return Result{Statement: statement, Proof: proof}, nil
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
