package crypto

import "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

// VerifyMessage verifies a signature of the raw message, as the published
// vectors have it, by the rules of Verify.
func VerifyMessage(k PublicKey, message []byte, sig Signature) bool {
	return verifyMessage(k, message, sig)
}

// VerifyMessages verifies n copies of a signature of the raw message in one
// batch, by the rules of VerifyBatch.
func VerifyMessages(n int, k PublicKey, message []byte, sig Signature) []bool {
	batch := ed25519.NewBatchVerifierWithCapacity(n)
	for range n {
		addToBatch(batch, k, message, sig)
	}
	return batchVerdicts(batch)
}

// DomainOf returns a domain with a whole context of its own, for the vectors.
func DomainOf(context string) *Domain { return domainOf(context) }

// NewDomain registers a domain.
func NewDomain(purpose string) *Domain { return newDomain(purpose) }

// DomainContexts lists the registered contexts, in no order.
func DomainContexts() []string {
	out := make([]string, 0, len(contexts))
	for c := range contexts {
		out = append(out, c)
	}
	return out
}
