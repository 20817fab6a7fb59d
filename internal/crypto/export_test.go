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
	if hasFused {
		items, verdicts := make([]signedMessage, n), make([]bool, n)
		for i := range items {
			items[i] = signedMessage{key: (*[32]byte)(&k), message: message, signature: (*[64]byte)(&sig)}
		}
		verifyMessages(items, verdicts)
		return verdicts
	}
	batch := ed25519.NewBatchVerifierWithCapacity(n)
	for range n {
		addToBatch(batch, k, message, sig)
	}
	return batchVerdicts(batch)
}

// WithoutFused runs f as on a processor without fused multiplication.
func WithoutFused(f func()) {
	had := hasFused
	hasFused = false
	defer func() { hasFused = had }()
	f()
}

// KeepFused restores what VerifyNarrow changes after f.
func KeepFused(f func()) {
	had := hasFused
	defer func() { hasFused = had }()
	f()
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

// Lanes are eight field elements as limbs, for the tests of the arithmetic.
type Lanes = field8

// HasFused reports whether this processor has fused multiplication.
func HasFused() bool { return hasFused }

// Compute returns a·b, a + b, a − b and a^(2^times), of each lane the canonical form.
func Compute(a, b *Lanes, times int) (out [4][8][5]uint64) {
	var results [4]field8
	mul8(&results[0], a, b)
	add8(&results[1], a, b)
	sub8(&results[2], a, b)
	square8(&results[3], a, times)
	for r := range results {
		for i := range 8 {
			for k := range 5 {
				if results[r][k][i] >= 1<<51+1<<14 {
					panic("a limb leaves its bound")
				}
			}
			out[r][i] = results[r].lane(i)
		}
	}
	return out
}

// SmallOrder reports whether the sum of base·B and of the multiples of the points is
// of small order: the first half of the points have long scalars, the others short
// ones. It is false if one of the encodings has no point.
func SmallOrder(window int, base [4]uint64, points [][32]byte, long, short [][4]uint64) bool {
	m := &multiplier{window: window, table: make([]niels, 4*len(points)+6)}
	m.table[0] = identityRow
	m.long.reset(len(long)+1, longBits, window)
	m.short.reset(len(short), shortBits, window)
	var d decompressor
	var found [8][2]niels
	row := func(encoded [32]byte, at int) bool {
		ok := d.run([8]*[32]byte{3: &encoded}, &found)
		copy(m.table[at:], found[3][:])
		return ok[3]
	}
	for i := range long {
		if !row(points[i], 4*i+4) || !row(points[len(long)+i], 4*i+6) {
			return false
		}
		m.long.set(i, window, &long[i])
		m.short.set(i, window, &short[i])
	}
	m.long.set(len(long), window, &base)
	copy(m.table[4*len(long)+4:], baseRows[:])
	return m.isSmallOrder()
}
