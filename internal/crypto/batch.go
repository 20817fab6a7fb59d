package crypto

import (
	"slices"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// batchSize is how many signatures share one multi-scalar multiplication: eight
// lanes wide, 256 cost 4.3 µs each, 1,024 cost 3.8, and more cost no less. Without
// that, of known keys, it is 10.7 and 8.7.
const batchSize = 1_024

// Signed is one signature to verify: Key's, over Digest.
type Signed struct {
	Key       PublicKey
	Digest    Digest // the domain's digest of what was signed
	Signature Signature
}

// SignedBy returns the item that says: key signed payload under domain.
func SignedBy(key PublicKey, domain *Domain, payload []byte, sig Signature) Signed {
	return Signed{Key: key, Digest: domain.Hash(payload), Signature: sig}
}

// VerifyBatch verifies every item by the ZIP-215 rules, up to parallelism
// groups at a time, and returns one verdict per item: what Verify says of it
// alone.
func VerifyBatch(items []Signed, parallelism int) []bool {
	return (*KeyCache)(nil).VerifyBatch(items, parallelism)
}

// minGroup is the smallest group worth its own multi-scalar multiplication.
const minGroup = 16

// minBatch is the smallest number for which one multi-scalar multiplication
// costs less than verifying each alone.
const minBatch = 4

// VerifyBatch is VerifyBatch with what the cache knows of the keys. A nil cache
// knows nothing.
func (c *KeyCache) VerifyBatch(items []Signed, parallelism int) []bool {
	verdicts := make([]bool, len(items))
	groups := (len(items) + batchSize - 1) / batchSize
	if groups < parallelism && len(items) >= 2*minGroup {
		groups = min(parallelism, len(items)/minGroup)
	}
	var expanded []*ed25519.ExpandedPublicKey
	if !hasFused {
		expanded = c.expand(items)
	}
	ForkJoin(groups, parallelism, func(g int) {
		lo, hi := g*len(items)/groups, (g+1)*len(items)/groups
		if hasFused {
			verifyMessages(messagesOf(items[lo:hi]), verdicts[lo:hi])
		} else {
			verifyGroup(items[lo:hi], expanded[lo:hi], verdicts[lo:hi])
		}
	})
	return verdicts
}

// minAllFused is the smallest number that costs less eight lanes wide than in a batch
// of the library's: five cost 31 µs each, and 26.
const minAllFused = 9

// AllVerify reports whether every item verifies by the ZIP-215 rules. It does not
// look for those that do not: a bad one costs what all cost, and no search.
func AllVerify(items []Signed) bool {
	for part := range slices.Chunk(items, batchSize) {
		if !allVerify(part) {
			return false
		}
	}
	return true
}

func allVerify(items []Signed) bool {
	if len(items) < minBatch {
		for i := range items {
			if it := &items[i]; !verifyMessage(it.Key, it.Digest[:], it.Signature) {
				return false
			}
		}
		return true
	}
	if hasFused && len(items) >= minAllFused {
		verdicts := make([]bool, len(items))
		return verifyFused(messagesOf(items), verdicts) && !slices.Contains(verdicts, false)
	}
	batch := ed25519.NewBatchVerifierWithCapacity(len(items))
	for i := range items {
		it := &items[i]
		addToBatch(batch, it.Key, it.Digest[:], it.Signature)
	}
	return batch.VerifyBatchOnly(nil)
}

func messagesOf(items []Signed) []signedMessage {
	out := make([]signedMessage, len(items))
	for i := range items {
		it := &items[i]
		out[i] = signedMessage{key: (*[PublicKeySize]byte)(&it.Key), message: it.Digest[:], signature: (*[SignatureSize]byte)(&it.Signature)}
	}
	return out
}

// VerifyNarrow has all signatures of this process verified by the library alone, eight
// lanes or not: the same verdicts, for more time. It is called before the first one is.
func VerifyNarrow() { hasFused = false }

// minFused is the smallest number that costs less together, eight lanes wide, than
// each alone.
const minFused = 4

// Where a bad signature is looked for in halves. Below minHalved it costs less to
// verify each alone; and after maxFailed multiplications that did not say which are
// bad, which three bad ones in a thousand do not need, there are many: then all that
// is left is verified alone, or whoever sends bad signatures would have each of them
// multiplied at every size.
const (
	minHalved = 64
	maxFailed = 16
)

// search verifies a batch eight lanes wide. With one bad signature in n, all of it
// costs some three batches; with any number of them little more than each alone.
type search struct{ failed int }

func verifyMessages(items []signedMessage, verdicts []bool) { new(search).verify(items, verdicts) }

func (s *search) verify(items []signedMessage, verdicts []bool) {
	if len(items) >= minFused && s.failed < maxFailed {
		if verifyFused(items, verdicts) {
			return
		}
		s.failed++
		if len(items) >= minHalved {
			half := len(items) / 2
			s.verify(items[:half], verdicts[:half])
			s.verify(items[half:], verdicts[half:])
			return
		}
	}
	for i, it := range items {
		verdicts[i] = verifyMessage(*it.key, it.message, *it.signature)
	}
}

func verifyGroup(items []Signed, expanded []*ed25519.ExpandedPublicKey, verdicts []bool) {
	if len(items) < minBatch {
		for i := range items {
			it := &items[i]
			if expanded[i] != nil {
				verdicts[i] = ed25519.VerifyExpandedWithOptions(expanded[i], it.Digest[:], it.Signature[:], zip215)
			} else {
				verdicts[i] = verifyMessage(it.Key, it.Digest[:], it.Signature)
			}
		}
		return
	}
	batch := ed25519.NewBatchVerifierWithCapacity(len(items))
	for i := range items {
		it := &items[i]
		if expanded[i] != nil {
			batch.AddExpandedWithOptions(expanded[i], it.Digest[:], it.Signature[:], zip215)
		} else {
			addToBatch(batch, it.Key, it.Digest[:], it.Signature)
		}
	}
	copy(verdicts, batchVerdicts(batch))
}

func addToBatch(batch *ed25519.BatchVerifier, k PublicKey, message []byte, sig Signature) {
	batch.AddWithOptions(k[:], message, sig[:], zip215)
}

func batchVerdicts(batch *ed25519.BatchVerifier) []bool {
	// A nil reader is the system's randomness. The verdicts do not depend on it
	// but with probability 2⁻¹²⁸.
	_, each := batch.Verify(nil)
	return each
}
