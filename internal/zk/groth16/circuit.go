package groth16

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"
	bn254cs "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/logger"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// quiet turns gnark's logger off, once: by default it prints to standard
// output. It is the process's only use of that logger, since nobody else may
// import gnark, and every way into gnark goes through compile.
var quiet = sync.OnceFunc(logger.Disable)

// shape is a kernel's number of public digests.
type shape struct{ inputs, outputs int }

// publics counts a circuit's publics: inputs, outputs, bind.
func (s shape) publics() int { return s.inputs + s.outputs + 1 }

// shapeOf returns the shape of a kernel, and false if there is no such kernel.
func shapeOf(kernel zk.Kernel) (shape, bool) {
	inputs, outputs, ok := kernel.Shape()
	return shape{inputs: inputs, outputs: outputs}, ok
}

// circuit is a kernel's compiled constraint system.
type circuit struct {
	kernel zk.Kernel
	shape  shape
	system *bn254cs.R1CS
	digest crypto.Digest // see circuitDigest
}

// compile builds the constraint system of a kernel, the same on every machine.
// n = 32 takes about 0.4 s.
func compile(kernel zk.Kernel) (*circuit, error) {
	definition, err := define(kernel)
	if err != nil {
		return nil, err
	}
	return compileCircuit(kernel, definition), nil
}

// define returns a kernel's unassigned circuit.
func define(kernel zk.Kernel) (frontend.Circuit, error) {
	family, n, ok := kernel.Of()
	if !ok {
		return nil, fmt.Errorf("%w: no circuit for %.40q", zk.ErrUnknownKernel, string(kernel))
	}
	switch family {
	case zk.Matmul:
		return newMatmulCircuit(n), nil
	case zk.MLP:
		return newMLPCircuit(), nil
	case zk.Hashchain:
		return newHashchainCircuit(n), nil
	case zk.MerkleState:
		return newTreeCircuit(n), nil
	case zk.UsageBatch:
		return newUsageCircuit(n), nil
	}
	panic("groth16: no circuit for family " + string(family))
}

// assign returns the circuit of a work with its witness.
func assign(statement zk.Statement, work zk.Work) frontend.Circuit {
	switch w := work.(type) {
	case *zk.MatmulWork:
		return assignMatmul(statement, w.Left(), w.Right(), w.Product())
	case *zk.MLPWork:
		return assignMLP(statement, w)
	case *zk.HashchainWork:
		return assignHashchain(statement)
	case *zk.TreeWork:
		return assignTree(statement, w)
	case *zk.UsageWork:
		return assignUsage(statement, w)
	}
	panic(fmt.Sprintf("groth16: no circuit for work of type %T", work))
}

// compileCircuit panics if the definition fails or breaks the first invariant
// of the package: no input can cause either.
func compileCircuit(kernel zk.Kernel, definition frontend.Circuit) *circuit {
	quiet()
	compiled, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, definition)
	if err != nil {
		panic(fmt.Sprintf("groth16: kernel %s does not compile: %v", kernel, err))
	}
	system, ok := compiled.(*bn254cs.R1CS)
	if !ok {
		panic(fmt.Sprintf("groth16: kernel %s compiled to %T", kernel, compiled))
	}
	return newCircuit(kernel, system)
}

// newCircuit panics if a system breaks the first invariant of the package.
func newCircuit(kernel zk.Kernel, system *bn254cs.R1CS) *circuit {
	shape, ok := shapeOf(kernel)
	c := &circuit{kernel: kernel, shape: shape, system: system}
	commitment := soleCommitment(system)
	const oneWire = 1
	if !ok || system.GetNbPublicVariables() != c.shape.publics()+oneWire || commitment == nil || len(commitment.PublicAndCommitmentCommitted) != 0 {
		panic(fmt.Sprintf("groth16: kernel %s has %d publics and commitment %+v", kernel, system.GetNbPublicVariables()-oneWire, commitment))
	}
	c.digest = circuitDigest(kernel, system)
	return c
}

// soleCommitment returns the system's commitment, or nil if it has none or
// several.
func soleCommitment(system *bn254cs.R1CS) *constraint.Groth16Commitment {
	all, ok := system.GetCommitments().(constraint.Groth16Commitments)
	if !ok || len(all) != 1 {
		return nil
	}
	return &all[0]
}

// circuitDigest hashes what the keys depend on, under DomainCircuit: the
// kernel's name, the numbers of wires and constraints, the commitment's wires,
// and every constraint as three lists of (wire, coefficient). How wires are
// solved is left out: it is the prover's own business.
func circuitDigest(kernel zk.Kernel, system *bn254cs.R1CS) crypto.Digest {
	h := crypto.DomainCircuit.NewStream()
	var buf []byte
	number := func(n int) { buf = binary.BigEndian.AppendUint32(buf, uint32(n)) } // counts of wires
	flush := func() {
		if _, err := h.Write(buf); err != nil {
			panic("groth16: a hash refused bytes: " + err.Error())
		}
		buf = buf[:0]
	}
	number(len(kernel))
	buf = append(buf, kernel...)
	number(system.GetNbPublicVariables())
	number(system.GetNbSecretVariables())
	number(system.GetNbInternalVariables())
	number(system.GetNbConstraints())
	commitment := soleCommitment(system)
	number(commitment.CommitmentIndex)
	number(len(commitment.PrivateCommitted))
	for _, wire := range commitment.PrivateCommitted {
		number(wire)
	}
	flush()
	coefficients := make([][fr.Bytes]byte, len(system.Coefficients)) // far fewer than terms
	for i := range coefficients {
		coefficients[i] = system.Coefficients[i].Bytes()
	}
	rows := system.GetR1CIterator()
	for row := rows.Next(); row != nil; row = rows.Next() {
		for _, side := range []constraint.LinearExpression{row.L, row.R, row.O} {
			number(len(side))
			for _, term := range side {
				number(term.WireID())
				buf = append(buf, coefficients[term.CoeffID()][:]...)
			}
		}
		flush()
	}
	return h.Sum()
}
