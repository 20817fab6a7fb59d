package groth16

import (
	"fmt"
	"slices"

	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Progress is told each stage of a long call as it begins, and the fraction of
// the expected time, 0 to 1, that is then over. It runs on the caller's
// goroutine. A nil Progress is told nothing.
type Progress func(stage string, fraction float64)

func (p Progress) report(stage string, fraction float64) {
	if p != nil {
		p(stage, fraction)
	}
}

// Keys are a kernel's compiled circuit, proving key and verifying key.
// Immutable.
type Keys struct {
	circuit  *circuit
	proving  *backend.ProvingKey
	verify   *verifyingKey
	encoding []byte // of the verifying key
}

// Setup compiles the kernel and makes keys from the system's randomness, about
// 0.2 ms a constraint on two cores (n = 32: 6 s). INSECURE outside a devnet:
// this process knows the secret with which proofs can be forged.
func Setup(kernel zk.Kernel, progress Progress) (*Keys, error) {
	progress.report("compiling the circuit", 0)
	c, err := compile(kernel)
	if err != nil {
		return nil, err
	}
	keys, err := setup(c, progress)
	if err != nil {
		return nil, err
	}
	progress.report("keys ready", 1)
	return keys, nil
}

func setup(c *circuit, progress Progress) (*Keys, error) {
	progress.report(fmt.Sprintf("making keys for %d constraints", c.system.GetNbConstraints()), 0.05)
	var pk backend.ProvingKey
	var vk backend.VerifyingKey
	if err := backend.Setup(c.system, &pk, &vk); err != nil {
		return nil, fmt.Errorf("groth16: setup of %s: %w", c.kernel, err)
	}
	return newKeys(c, &pk, encodeVerifyingKey(c, &vk))
}

// newKeys puts keys together. The verifying key must be of the same circuit.
func newKeys(c *circuit, pk *backend.ProvingKey, encoding []byte) (*Keys, error) {
	vk, err := decodeVerifyingKey(c.kernel, encoding)
	if err != nil {
		return nil, err
	}
	if vk.circuit != c.digest {
		return nil, fmt.Errorf("%w: %s: of circuit %s, not %s", ErrVerifyingKeyFile, c.kernel, vk.circuit.Short(), c.digest.Short())
	}
	return &Keys{circuit: c, proving: pk, verify: vk, encoding: encoding}, nil
}

// Kernel returns the kernel's name.
func (k *Keys) Kernel() zk.Kernel { return k.circuit.kernel }

// Constraints returns the number of constraints of the circuit.
func (k *Keys) Constraints() int { return k.circuit.system.GetNbConstraints() }

// Circuit returns the digest of the compiled circuit, under DomainCircuit.
func (k *Keys) Circuit() crypto.Digest { return k.circuit.digest }

// VerifyingKey returns a copy of the encoded verifying key, which NewVerifier
// takes.
func (k *Keys) VerifyingKey() []byte { return slices.Clone(k.encoding) }

// Digest returns the digest of the verifying key, as in a Statement.
func (k *Keys) Digest() crypto.Digest { return k.verify.digest }
