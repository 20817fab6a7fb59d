package zk

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of what travels.
const (
	// MaxDigests is the most inputs and the most outputs of a statement.
	MaxDigests = 8
	// MaxStatementSize is the longest encoding of a statement, in bytes.
	MaxStatementSize = 1024
	// MaxProofSize is the longest proof of any kernel, in bytes.
	MaxProofSize = 512
)

// Why a verifier says no. Each error of Verify wraps exactly one of these.
var (
	// ErrUnknownKernel says that no verifying key is pinned for the kernel.
	ErrUnknownKernel = errors.New("zk: unknown kernel")
	// ErrVerifyingKey says that the statement names another verifying key than
	// the kernel's pinned one.
	ErrVerifyingKey = errors.New("zk: wrong verifying key")
	// ErrPublics says that the statement has not the kernel's number of inputs
	// and outputs.
	ErrPublics = errors.New("zk: wrong number of publics")
	// ErrNotCanonical says that a public is not below the order of the field.
	ErrNotCanonical = errors.New("zk: field element is not below the order of the field")
	// ErrMalformedProof says that the bytes are no proof: wrong length, a point
	// off its curve or subgroup, or the point at infinity.
	ErrMalformedProof = errors.New("zk: malformed proof")
	// ErrFalseProof says that the proof does not prove the statement.
	ErrFalseProof = errors.New("zk: false proof")
)

// Statement is what a proof proves: the kernel's circuit is satisfied by some
// private values and these publics.
type Statement struct {
	_            struct{} `cbor:",toarray"`
	Kernel       Kernel
	VerifyingKey crypto.Digest // under DomainVerifyingKey
	Inputs       []Field       // digests of the kernel's inputs, 1 to MaxDigests
	Output       []Field       // digests of its outputs, 1 to MaxDigests
	Bind         Field         // what Bind returned
}

// Check returns an error that names the first field that is out of bounds or
// not canonical.
func (s Statement) Check() error {
	if err := s.Kernel.Check(); err != nil {
		return err
	}
	if n := len(s.Inputs); n == 0 || n > MaxDigests {
		return fmt.Errorf("%w: statement has %d inputs, want 1 to %d", ErrPublics, n, MaxDigests)
	}
	if n := len(s.Output); n == 0 || n > MaxDigests {
		return fmt.Errorf("%w: statement has %d outputs, want 1 to %d", ErrPublics, n, MaxDigests)
	}
	for i, f := range s.Inputs {
		if err := f.Check(); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	for i, f := range s.Output {
		if err := f.Check(); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	if err := s.Bind.Check(); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// Publics returns the circuit's publics in their order: inputs, outputs, bind.
func (s Statement) Publics() []Field {
	publics := make([]Field, 0, len(s.Inputs)+len(s.Output)+1)
	publics = append(publics, s.Inputs...)
	publics = append(publics, s.Output...)
	return append(publics, s.Bind)
}

// Encode returns the canonical encoding.
func (s Statement) Encode() []byte { return codec.Marshal(s) }

// Digest returns the statement's digest under DomainStatement. It identifies
// what was proven; the proof's own bytes are malleable and identify nothing.
func (s Statement) Digest() crypto.Digest { return crypto.DomainStatement.Hash(s.Encode()) }

// DecodeStatement reads the canonical encoding of a statement that Check
// accepts, at most MaxStatementSize bytes.
func DecodeStatement(data []byte) (Statement, error) {
	var s Statement
	if err := codec.Unmarshal(data, &s, MaxStatementSize); err != nil {
		return Statement{}, fmt.Errorf("zk: statement: %w", err)
	}
	if err := s.Check(); err != nil {
		return Statement{}, fmt.Errorf("zk: statement: %w", err)
	}
	return s, nil
}

// binding is what Bind hashes.
type binding struct {
	_        struct{} `cbor:",toarray"`
	ChainID  string
	Order    crypto.Digest
	Sequence uint64
	Provider crypto.PublicKey
}

// Bind returns the public that ties a proof to one claim: the digest of
// (chain id, order id, sequence, provider's node key) under DomainBind, reduced
// to the field (see Reduce for the bias).
func Bind(chainID string, order crypto.Digest, sequence uint64, provider crypto.PublicKey) Field {
	return Reduce(crypto.DomainBind.Hash(codec.Marshal(binding{
		ChainID: chainID, Order: order, Sequence: sequence, Provider: provider,
	})))
}

// Proof is the encoded proof of a statement, 1 to MaxProofSize bytes. Anyone
// can turn a proof into another valid one of the same statement, so its bytes
// never identify anything.
type Proof []byte

// Check returns ErrMalformedProof unless the length is within bounds.
func (p Proof) Check() error {
	if len(p) == 0 || len(p) > MaxProofSize {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrMalformedProof, len(p), MaxProofSize)
	}
	return nil
}

// Verifier says whether a proof proves a statement: nil, or an error that wraps
// exactly one of ErrUnknownKernel, ErrVerifyingKey, ErrPublics,
// ErrNotCanonical, ErrMalformedProof and ErrFalseProof. It is pure: the same
// arguments give the same answer on every machine. Safe for concurrent use.
type Verifier interface {
	Verify(statement Statement, proof []byte) error
}

// Claim is a statement and what is said to prove it.
type Claim struct {
	Statement Statement
	Proof     []byte
}

// BatchVerifier verifies many proofs in less time than one by one. VerifyAll
// returns the verdict of each claim: the one that Verify has, whatever the others
// are. As pure as Verify, and safe for concurrent use.
type BatchVerifier interface {
	Verifier
	VerifyAll(claims []Claim) []error
}
