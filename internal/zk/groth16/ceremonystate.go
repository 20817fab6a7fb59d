package groth16

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// gnark's decoders allocate what a length in the file asks for. Each file has
// one length and its inner lengths one place, both known from the circuit, so
// they are compared before gnark reads anything.

// phase1Size is the length of a contribution to phase 1: three proofs, the
// domain, β on G2, 2N − 2 + N + N points of G1, N − 1 of G2, the challenge.
func (z *Ceremony) phase1Size() int {
	return 3*updateProofSize + z.commonsSize() + 1 + challengeSize
}

func (z *Ceremony) commonsSize() int {
	n := int(z.domain()) // a few million
	return 8 + g2Size + (4*n-2)*g1Size + (n-1)*g2Size
}

// phase2Lengths are the lengths of the lists in a contribution to phase 2: of
// private wires, of powers, of committed wires.
func (z *Ceremony) phase2Lengths() [3]int {
	system := z.circuit.system
	committed := len(soleCommitment(system).PrivateCommitted)
	const challengeWire = 1
	private := system.GetNbInternalVariables() + system.GetNbSecretVariables() - committed - challengeWire
	return [3]int{private, int(z.domain()) - 1, committed}
}

// phase2Size is the length of a contribution to phase 2: the number of
// commitments, δ, the lists of wires and powers, δ on G2, the list of the
// committed, σ, two proofs, the challenge.
func (z *Ceremony) phase2Size() int {
	size := 2 + g1Size + g2Size + g2Size + 2*updateProofSize + 1 + challengeSize
	for _, n := range z.phase2Lengths() {
		size += 4 + n*g1Size
	}
	return size
}

// read1 reads a contribution to phase 1.
func (z *Ceremony) read1(i int) (*mpcsetup.Phase1, crypto.Digest, error) {
	state := new(mpcsetup.Phase1)
	digest, err := z.readState(contributionName(1, i), z.phase1Size(), state, func(payload []byte) error {
		return z.checkDomain(payload[3*updateProofSize:])
	})
	return state, digest, err
}

func (z *Ceremony) checkDomain(payload []byte) error {
	if n := binary.BigEndian.Uint64(payload); n != z.domain() {
		return fmt.Errorf("domain of %d, want %d", n, z.domain())
	}
	return nil
}

// read2 reads a contribution to phase 2.
func (z *Ceremony) read2(i int) (*mpcsetup.Phase2, crypto.Digest, error) {
	state := new(mpcsetup.Phase2)
	digest, err := z.readState(contributionName(2, i), z.phase2Size(), state, func(payload []byte) error {
		if n := binary.BigEndian.Uint16(payload); n != 1 {
			return fmt.Errorf("%d commitments, want 1", n)
		}
		at := 2 + g1Size
		for k, want := range z.phase2Lengths() {
			if k == 2 {
				at += g2Size // δ stands before the committed
			}
			if n := binary.BigEndian.Uint32(payload[at:]); n != uint32(want) {
				return fmt.Errorf("list %d of %d points, want %d", k, n, want)
			}
			at += 4 + want*g1Size
		}
		return nil
	})
	return state, digest, err
}

// commons reads the sealed phase 1, whose file's digest it returns.
func (z *Ceremony) commons() (*mpcsetup.SrsCommons, crypto.Digest, error) {
	commons := new(mpcsetup.SrsCommons)
	digest, err := z.readState(phase1Sealed, z.commonsSize(), commons, z.checkDomain)
	return commons, digest, err
}

// readState reads a step whose payload has one length, and lets check look at
// it before it is decoded. Its challenge, if it has one, is of its full length.
func (z *Ceremony) readState(step string, size int, state io.ReaderFrom, check func([]byte) error) (crypto.Digest, error) {
	_, payload, digest, err := z.read(step)
	if err != nil {
		return crypto.Digest{}, err
	}
	refuse := func(why error) (crypto.Digest, error) {
		return crypto.Digest{}, fmt.Errorf("%w: %s: %w", ErrCeremonyFile, step, why)
	}
	if len(payload) != size {
		return refuse(fmt.Errorf("%d bytes, want %d", len(payload), size))
	}
	if err := check(payload); err != nil {
		return refuse(err)
	}
	if step != phase1Sealed && payload[size-challengeSize-1] != challengeSize {
		return refuse(fmt.Errorf("challenge of %d bytes, want %d", payload[size-challengeSize-1], challengeSize))
	}
	n, err := state.ReadFrom(bytes.NewReader(payload))
	if err != nil {
		return refuse(err)
	}
	if n != int64(size) {
		return refuse(fmt.Errorf("%d bytes were read of %d", n, size))
	}
	return digest, nil
}
