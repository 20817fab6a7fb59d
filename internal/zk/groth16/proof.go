package groth16

import (
	"errors"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	g1Size = bn254.SizeOfG1AffineCompressed // bytes
	g2Size = bn254.SizeOfG2AffineCompressed // bytes
)

// ProofSize is the length of every proof in bytes: the compressed points Ar,
// Bs (on G2) and Krs of Groth16 (eprint 2016/260 §3.2), then the commitment D
// and the proof of knowledge of its opening (eprint 2022/1072).
const ProofSize = 4*g1Size + g2Size

// proofPoints is a decoded proof.
type proofPoints struct {
	ar, krs    bn254.G1Affine
	bs         bn254.G2Affine
	commitment bn254.G1Affine
	knowledge  bn254.G1Affine
}

// decodeProof reads exactly ProofSize bytes: canonical compressed points, each
// on its curve, in its subgroup, and not at infinity.
func decodeProof(data []byte) (proofPoints, error) {
	if len(data) != ProofSize {
		return proofPoints{}, fmt.Errorf("%w: %d bytes, want %d", zk.ErrMalformedProof, len(data), ProofSize)
	}
	var p proofPoints
	r := pointReader{rest: data}
	r.g1("Ar", &p.ar)
	r.g2("Bs", &p.bs)
	r.g1("Krs", &p.krs)
	r.g1("commitment", &p.commitment)
	r.g1("proof of knowledge", &p.knowledge)
	if r.err != nil {
		return proofPoints{}, fmt.Errorf("%w: %w", zk.ErrMalformedProof, r.err)
	}
	return p, nil
}

// encodeProof returns the bytes that decodeProof reads.
func encodeProof(p *backend.Proof) zk.Proof {
	out := make([]byte, 0, ProofSize)
	out = appendG1(out, &p.Ar)
	out = appendG2(out, &p.Bs)
	out = appendG1(out, &p.Krs)
	out = appendG1(out, &p.Commitments[0])
	return appendG1(out, &p.CommitmentPok)
}

func appendG1(out []byte, p *bn254.G1Affine) []byte {
	b := p.Bytes()
	return append(out, b[:]...)
}

func appendG2(out []byte, p *bn254.G2Affine) []byte {
	b := p.Bytes()
	return append(out, b[:]...)
}

var errInfinity = errors.New("is the point at infinity")

// pointReader takes compressed points off a buffer of checked length, and keeps
// the first error, which names the point.
type pointReader struct {
	rest []byte
	err  error
}

func (r *pointReader) take(n int) []byte {
	head := r.rest[:n]
	r.rest = r.rest[n:]
	return head
}

func (r *pointReader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (r *pointReader) g1(name string, p *bn254.G1Affine) {
	if _, err := p.SetBytes(r.take(g1Size)); err != nil {
		r.fail(name, err)
	} else if p.IsInfinity() {
		r.fail(name, errInfinity)
	}
}

func (r *pointReader) g2(name string, p *bn254.G2Affine) {
	if _, err := p.SetBytes(r.take(g2Size)); err != nil {
		r.fail(name, err)
	} else if p.IsInfinity() {
		r.fail(name, errInfinity)
	}
}
