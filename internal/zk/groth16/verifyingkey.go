package groth16

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// MaxVerifyingKeySize is the longest encoding of a verifying key, in bytes.
const MaxVerifyingKeySize = 4096

// ErrVerifyingKeyFile says that bytes are no verifying key of the kernel they
// were given for.
var ErrVerifyingKeyFile = errors.New("groth16: malformed verifying key")

// VerifyingKeyDigest returns what a genesis pins and a statement names: the
// digest of an encoded verifying key.
func VerifyingKeyDigest(encoded []byte) crypto.Digest {
	return crypto.DomainVerifyingKey.Hash(encoded)
}

// keyFile is the encoding of a verifying key.
type keyFile struct {
	_       struct{} `cbor:",toarray"`
	Kernel  zk.Kernel
	Circuit crypto.Digest // of the compiled circuit, under DomainCircuit
	// Points are compressed: α (G1), β, γ, δ (G2); K (G1) of the constant wire,
	// of each public and of the commitment; the commitment key's g and −σ·g (G2).
	Points []byte
}

func pointsSize(s shape) int { return g1Size + 3*g2Size + keyPoints(s)*g1Size + 2*g2Size }

// keyPoints counts K: the constant wire, the publics, the commitment.
func keyPoints(s shape) int { return s.publics() + 2 }

// encodeVerifyingKey returns the bytes that decodeVerifyingKey reads.
func encodeVerifyingKey(c *circuit, vk *backend.VerifyingKey) []byte {
	points := make([]byte, 0, pointsSize(c.shape))
	points = appendG1(points, &vk.G1.Alpha)
	points = appendG2(points, &vk.G2.Beta)
	points = appendG2(points, &vk.G2.Gamma)
	points = appendG2(points, &vk.G2.Delta)
	for i := range vk.G1.K {
		points = appendG1(points, &vk.G1.K[i])
	}
	points = appendG2(points, &vk.CommitmentKeys[0].G)
	points = appendG2(points, &vk.CommitmentKeys[0].GSigmaNeg)
	if len(points) != pointsSize(c.shape) {
		panic(fmt.Sprintf("groth16: verifying key of %s has %d bytes of points, want %d", c.kernel, len(points), pointsSize(c.shape)))
	}
	return codec.Marshal(keyFile{Kernel: c.kernel, Circuit: c.digest, Points: points})
}

// verifyingKey is a decoded key, made ready: the lines of its fixed points, 68 kB
// in all, and the multiples of its K are computed once.
type verifyingKey struct {
	kernel    zk.Kernel
	circuit   crypto.Digest
	digest    crypto.Digest
	shape     shape
	alphaBeta bn254.GT     // e(α, β)
	k         []*multiples // as in keyFile
	lines     []lines      // of −δ, −γ, −σ·g and g
}

// lines are what a pairing needs of a fixed point.
type lines = [2][len(bn254.LoopCounter)]bn254.LineEvaluationAff

// decodeVerifyingKey reads the key of the named kernel: canonical, of the
// kernel's exact length, every point in its subgroup and none at infinity. (A K
// at infinity is a public that no constraint mentions.)
func decodeVerifyingKey(kernel zk.Kernel, encoded []byte) (*verifyingKey, error) {
	s, ok := shapeOf(kernel)
	if !ok {
		return nil, fmt.Errorf("%w: no circuit for %q", zk.ErrUnknownKernel, string(kernel))
	}
	var file keyFile
	if err := codec.Unmarshal(encoded, &file, MaxVerifyingKeySize); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrVerifyingKeyFile, kernel, err)
	}
	if file.Kernel != kernel {
		return nil, fmt.Errorf("%w: %s: kernel is %q", ErrVerifyingKeyFile, kernel, string(file.Kernel))
	}
	if len(file.Points) != pointsSize(s) {
		return nil, fmt.Errorf("%w: %s: points of %d bytes, want %d", ErrVerifyingKeyFile, kernel, len(file.Points), pointsSize(s))
	}
	vk := &verifyingKey{
		kernel: kernel, circuit: file.Circuit, digest: VerifyingKeyDigest(encoded),
		shape: s, k: make([]*multiples, keyPoints(s)),
	}
	k := make([]bn254.G1Affine, keyPoints(s))
	var alpha bn254.G1Affine
	var beta, gamma, delta, g, sigmaNeg bn254.G2Affine
	r := pointReader{rest: file.Points}
	r.g1("alpha", &alpha)
	r.g2("beta", &beta)
	r.g2("gamma", &gamma)
	r.g2("delta", &delta)
	for i := range k {
		r.g1("K "+strconv.Itoa(i), &k[i])
	}
	r.g2("commitment g", &g)
	r.g2("commitment sigma", &sigmaNeg)
	if r.err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrVerifyingKeyFile, kernel, r.err)
	}
	var err error
	if vk.alphaBeta, err = bn254.Pair([]bn254.G1Affine{alpha}, []bn254.G2Affine{beta}); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrVerifyingKeyFile, kernel, err)
	}
	for i := range k {
		vk.k[i] = newMultiples(&k[i])
	}
	delta.Neg(&delta)
	gamma.Neg(&gamma)
	for _, fixed := range []bn254.G2Affine{delta, gamma, sigmaNeg, g} {
		vk.lines = append(vk.lines, bn254.PrecomputeLines(fixed))
	}
	return vk, nil
}
