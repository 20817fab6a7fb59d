package groth16

import (
	"fmt"
	"maps"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Verifier verifies proofs of the kernels whose keys it was made with. It
// implements zk.BatchVerifier.
type Verifier struct {
	keys map[zk.Kernel]*verifyingKey // never written after NewVerifier
}

var _ zk.BatchVerifier = (*Verifier)(nil)

// NewVerifier returns a verifier for the given encoded verifying keys. It
// checks each for its form, and that it says to be of the kernel's circuit; that
// a key is the one that a genesis pins is for the caller to compare, by Digest. No
// keys at all is a verifier that knows no kernel.
func NewVerifier(keys map[zk.Kernel][]byte) (*Verifier, error) {
	v := &Verifier{keys: make(map[zk.Kernel]*verifyingKey, len(keys))}
	for _, kernel := range slices.Sorted(maps.Keys(keys)) {
		key, err := decodeVerifyingKey(kernel, keys[kernel])
		if err != nil {
			return nil, err
		}
		circuit, err := frozen(kernel)
		if err != nil {
			return nil, err
		}
		if key.circuit != circuit {
			return nil, fmt.Errorf("%w: %s: of circuit %s, the kernel's is %s", ErrVerifyingKeyFile, kernel, key.circuit.Short(), circuit.Short())
		}
		v.keys[kernel] = key
	}
	return v, nil
}

// Kernels returns the names of the kernels it has keys for, sorted.
func (v *Verifier) Kernels() []zk.Kernel { return slices.Sorted(maps.Keys(v.keys)) }

// Digest returns the digest of a kernel's verifying key, and false if there is
// none.
func (v *Verifier) Digest(kernel zk.Kernel) (crypto.Digest, bool) {
	key, ok := v.keys[kernel]
	if !ok {
		return crypto.Digest{}, false
	}
	return key.digest, true
}

// Verify returns nil if the proof proves the statement, and otherwise an error
// that wraps one of zk's rejections. About a millisecond.
func (v *Verifier) Verify(statement zk.Statement, proof []byte) error {
	key, ok := v.keys[statement.Kernel]
	if !ok {
		return fmt.Errorf("%w: %q", zk.ErrUnknownKernel, shortened(statement.Kernel))
	}
	return key.verify(statement, proof)
}

func shortened(kernel zk.Kernel) string { return string(kernel[:min(len(kernel), zk.MaxKernelLength)]) }

func (k *verifyingKey) verify(statement zk.Statement, proof []byte) error {
	c, err := k.read(statement, proof)
	if err != nil {
		return err
	}
	return verdict([]claim{c})
}

// claim is a statement and a proof that are well formed.
type claim struct {
	key     *verifyingKey
	points  proofPoints
	publics []fr.Element // and the challenge
	said    []byte       // statement and proof, which factors are drawn from
}

// read checks the form of a statement and its proof.
func (k *verifyingKey) read(statement zk.Statement, proof []byte) (claim, error) {
	if statement.VerifyingKey != k.digest {
		return claim{}, fmt.Errorf("%w: statement names %s, %s has %s",
			zk.ErrVerifyingKey, statement.VerifyingKey.Short(), k.kernel, k.digest.Short())
	}
	if len(statement.Inputs) != k.shape.inputs || len(statement.Output) != k.shape.outputs {
		return claim{}, fmt.Errorf("%w: %d inputs and %d outputs, %s has %d and %d", zk.ErrPublics,
			len(statement.Inputs), len(statement.Output), k.kernel, k.shape.inputs, k.shape.outputs)
	}
	if err := statement.Check(); err != nil {
		return claim{}, err
	}
	points, err := decodeProof(proof)
	if err != nil {
		return claim{}, err
	}
	publics := make([]fr.Element, 0, k.shape.publics()+1)
	for _, f := range statement.Publics() {
		publics = append(publics, element(f))
	}
	challenge, err := commitmentChallenge(&points.commitment)
	if err != nil {
		return claim{}, err
	}
	digest := statement.Digest()
	return claim{key: k, points: points, publics: append(publics, challenge), said: append(digest[:], proof...)}, nil
}

// combine returns K₀ · x₀ + Σ xᵢ · Kᵢ.
func (k *verifyingKey) combine(x []fr.Element) bn254.G1Jac {
	var total bn254.G1Jac
	for i := range x {
		k.k[i].addTo(&total, &x[i])
	}
	return total
}

// commitmentChallenge is the value of the commitment's wire: gnark's hash to
// the field (RFC 9380 §5.2) of the uncompressed point.
func commitmentChallenge(commitment *bn254.G1Affine) (fr.Element, error) {
	out, err := fr.Hash(commitment.Marshal(), []byte(constraint.CommitmentDst), 1)
	if err != nil {
		return fr.Element{}, fmt.Errorf("%w: %w", zk.ErrMalformedProof, err)
	}
	return out[0], nil
}

// element converts a field element that Check accepts.
func element(f zk.Field) fr.Element {
	var e fr.Element
	if err := e.SetBytesCanonical(f[:]); err != nil {
		panic("groth16: a checked field element is not canonical: " + err.Error())
	}
	return e
}
