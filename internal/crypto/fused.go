package crypto

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"sync"

	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// signedMessage is one signature to verify, of a message as it is.
type signedMessage struct {
	key       *[PublicKeySize]byte
	message   []byte
	signature *[SignatureSize]byte
}

// fusedBatch verifies batches eight lanes wide: the sum of z(R + hA − sB) over all
// signatures, for random z of 128 bits, is of small order if each R + hA − sB is
// (ZIP-215, which is the equation of RFC 8032, section 5.1.7, with the cofactor),
// and if one is not, for one z of it at most: 8 times what is wrong is of prime order.
// All z, h and s are taken modulo that order: for B that is no difference, for R and A
// one of small order.
type fusedBatch struct {
	multiplier
	decompressor
	random []byte
	hashed []byte
}

// maxFused bounds a batch: what it needs beside is 1 KiB for a signature.
const maxFused = 2_048

// checkFused verifies a batch of known verdicts before the first other one: a
// processor, or what stands for one, that multiplies wrongly must not decide what
// is signed.
var checkFused = sync.OnceFunc(knowGoodFromBad)

func knowGoodFromBad() {
	key := PrivateKeyFromSeed([SeedSize]byte{1})
	items := make([]Signed, 24)
	for i := range items {
		payload := []byte{byte(i)}
		items[i] = SignedBy(key.Public(), DomainTxBody, payload, key.Sign(DomainTxBody, payload))
	}
	messages, verdicts := messagesOf(items), make([]bool, len(items))
	good := sumFused(messages, verdicts)
	items[7].Digest[0] ^= 1
	if bad := sumFused(messages, verdicts); !good || bad {
		panic("crypto: this processor does not multiply as it should")
	}
}

var fusedBatches = sync.Pool{New: func() any { return new(fusedBatch) }}

// verifyFused writes the verdict of each signature, and returns true; or it returns
// false, if at least one that could be valid is not: then nobody knows which.
func verifyFused(items []signedMessage, verdicts []bool) bool {
	checkFused()
	return sumFused(items, verdicts)
}

func sumFused(items []signedMessage, verdicts []bool) bool {
	if len(items) > maxFused {
		panic("crypto: a batch is larger than it may be")
	}
	b := fusedBatches.Get().(*fusedBatch)
	defer fusedBatches.Put(b)
	n := b.points(items, verdicts)
	return n == 0 || b.sumIsSmall(items, verdicts, n)
}

// points finds the points of all signatures, and sets the verdicts to which have
// them, and an S below the group's order: the others are invalid. It returns how
// many that are.
func (b *fusedBatch) points(items []signedMessage, verdicts []bool) (n int) {
	if rows := 4*len(items) + 6; len(b.table) < rows {
		b.table = make([]niels, rows+rows/4)
		b.table[0] = identityRow
	}
	var found [8][2]niels
	for at := 0; at < len(items); at += 4 { // a key and an R of each
		var encoded [8]*[32]byte
		part := items[at:min(at+4, len(items))]
		for i := range part {
			encoded[2*i], encoded[2*i+1] = part[i].key, (*[32]byte)(part[i].signature[:32])
		}
		ok := b.run(encoded, &found)
		for i := range part {
			verdicts[at+i] = ok[2*i] && ok[2*i+1] && belowOrder(part[i].signature[32:])
			if verdicts[at+i] {
				copy(b.table[4+4*n:], found[2*i][:])
				copy(b.table[6+4*n:], found[2*i+1][:])
				n++
			}
		}
	}
	copy(b.table[4+4*n:], baseRows[:])
	return n
}

// sumIsSmall checks the equation over the n signatures whose verdict is true.
func (b *fusedBatch) sumIsSmall(items []signedMessage, verdicts []bool, n int) bool {
	b.random = slices.Grow(b.random[:0], 16*n)[:16*n]
	if _, err := rand.Read(b.random); err != nil {
		panic("crypto: no randomness: " + err.Error()) // rand.Read never returns one
	}
	b.window = windowOf(n)
	b.long.reset(n+1, longBits, b.window)
	b.short.reset(n, shortBits, b.window)
	var base, z, h, s scalar.Scalar
	var wide [64]byte
	i := 0
	for k := range items {
		if !verdicts[k] {
			continue
		}
		it := &items[k]
		copy(wide[:], b.random[16*i:16*i+16])
		clear(wide[16:])
		short := [4]uint64{binary.LittleEndian.Uint64(wide[0:]), binary.LittleEndian.Uint64(wide[8:])}
		b.short.set(i, b.window, &short)
		b.hashed = append(append(append(b.hashed[:0], it.signature[:32]...), it.key[:]...), it.message...)
		digest := sha512.Sum512(b.hashed)
		_, err1 := z.SetBits(wide[:32])
		_, err2 := s.SetBits(it.signature[32:])
		_, err3 := h.SetBytesModOrderWide(digest[:])
		if err := errors.Join(err1, err2, err3); err != nil {
			panic("crypto: a scalar of another length: " + err.Error())
		}
		base.Add(&base, s.Mul(&s, &z))
		scaled := words(h.Mul(&h, &z))
		b.long.set(i, b.window, &scaled)
		i++
	}
	all := words(base.Neg(&base))
	b.long.set(n, b.window, &all)
	return b.isSmallOrder()
}

func words(s *scalar.Scalar) (out [4]uint64) {
	var raw [32]byte
	if err := s.ToBytes(raw[:]); err != nil {
		panic("crypto: a scalar of another length: " + err.Error())
	}
	for k := range out {
		out[k] = binary.LittleEndian.Uint64(raw[8*k:])
	}
	return out
}

// groupOrder is that of the generator: 2²⁵² + 27742317777372353535851937790883648493.
var groupOrder = [4]uint64{0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000}

// belowOrder reports whether 32 bytes, little-endian, are below the group's order.
func belowOrder(s []byte) bool {
	var borrow uint64
	for k := range groupOrder {
		_, borrow = bits.Sub64(binary.LittleEndian.Uint64(s[8*k:]), groupOrder[k], borrow)
	}
	return borrow == 1
}
