package crypto

import (
	"errors"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"
)

// VRFProofSize is the length of a VRF proof in bytes.
const VRFProofSize = ecvrf.ProofSize

// ErrVRF says that a VRF proof does not verify.
var ErrVRF = errors.New("crypto: VRF proof does not verify")

// VRFProve returns the proof of k's random output on the domain's digest of
// input: ECVRF-EDWARDS25519-SHA512-ELL2 (RFC 9381 §5.5).
func (k PrivateKey) VRFProve(domain *Domain, input []byte) []byte {
	alpha := domain.Hash(input)
	return ecvrf.Prove(ed25519.PrivateKey(k.secret()), alpha[:])
}

// VRFVerify checks a proof and returns the output that it proves: the first 32
// bytes of the VRF hash. It is ErrVRF if the proof is not k's on the input.
func (k PublicKey) VRFVerify(domain *Domain, input, proof []byte) (Digest, error) {
	if len(proof) != VRFProofSize {
		return Digest{}, ErrVRF
	}
	alpha := domain.Hash(input)
	ok, beta := ecvrf.Verify(k[:], proof, alpha[:])
	if !ok {
		return Digest{}, ErrVRF
	}
	return Digest(beta[:DigestSize]), nil
}

// VRFOutput returns the output that a proof of one's own proves.
func VRFOutput(proof []byte) (Digest, error) {
	beta, err := ecvrf.ProofToHash(proof)
	if err != nil {
		return Digest{}, errors.Join(ErrVRF, err)
	}
	return Digest(beta[:DigestSize]), nil
}
