package state

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MaxProofBytes bounds an encoded Proof. The deepest possible one takes about
// 8 KiB; at 10⁸ keys a proof takes about 1 KB.
const MaxProofBytes = 16 << 10

const maxProofDepth = 8 * crypto.DigestSize

// Proof shows what a state with a known root says of one key. It is the way
// from the root to the smallest subtree around the key's position that holds
// at most one leaf: the key's own, another's, or none.
//
// The encoding of a Proof is canonical: one proof, one encoding; and for one
// root and key there is one proof.
type Proof struct {
	siblings []crypto.Digest // from the root down; zero: an empty subtree
	other    *otherLeaf      // the leaf found, if it is not the key's
}

// otherLeaf is the leaf of another key.
type otherLeaf struct {
	position  crypto.Digest
	valueHash crypto.Digest
}

// Prove returns the proof of key's presence or absence in this version.
func (t *Tree) Prove(key []byte) (Proof, error) {
	assertKey(len(key))
	if err := t.hold.use(); err != nil {
		return Proof{}, err
	}
	defer t.hold.done()
	position := Position(key)
	var p Proof
	var end *leafSlot
	if _, _, err := t.find(&position, func(n *node, nibble int) { end = p.descend(n, nibble) }); err != nil {
		return Proof{}, fmt.Errorf("state: proving %x: %w", key, err)
	}
	if end == nil || end.position == position {
		return p, nil
	}
	e, err := t.entry(end)
	if err != nil {
		return Proof{}, fmt.Errorf("state: proving %x: %w", key, err)
	}
	p.other = &otherLeaf{position: e.Position, valueHash: crypto.DomainStateValue.Hash(e.Value)}
	return p, nil
}

// descend adds the siblings on the way to a slot of a node. It ends at a
// subtree with at most one leaf, and returns that leaf, or at the slot itself.
func (p *Proof) descend(n *node, to int) *leafSlot {
	for lo, width := 0, fanout; ; {
		if leaf := n.loneIn(lo, width); leaf != nil || width == 1 || n.usedIn(lo, width) == 0 {
			return leaf
		}
		width /= 2
		near, far := lo, lo+width
		if to >= far {
			near, far = far, near
		}
		p.siblings = append(p.siblings, n.fold(far, width))
		lo = near
	}
}

func (n *node) usedIn(lo, width int) uint16 { return n.used >> lo & uint16(1<<width-1) }

// loneIn returns the leaf that is alone in [lo, lo+width), or nil.
func (n *node) loneIn(lo, width int) *leafSlot {
	used := n.usedIn(lo, width)
	if used == 0 || used&(used-1) != 0 {
		return nil
	}
	return n.leaf(lo + bits.TrailingZeros16(used))
}

var (
	// ErrProof says that a proof does not show what it is said to show.
	ErrProof = errors.New("state: proof does not hold")
	// ErrProofFormat says that bytes are no canonical proof.
	ErrProofFormat = errors.New("state: malformed proof")
)

// Verify returns nil if p shows that in the state with that root key has this
// value (present), or that key has none (not present, and value is nil). Else
// the error is ErrProof, with the reason.
func (p Proof) Verify(root crypto.Digest, key, value []byte, present bool) error {
	switch {
	case len(key) == 0 || len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: key of %d bytes, want 1 to %d", ErrProof, len(key), MaxKeyBytes)
	case len(value) > MaxValueBytes:
		return fmt.Errorf("%w: value of %d bytes, limit %d", ErrProof, len(value), MaxValueBytes)
	case !present && value != nil:
		return fmt.Errorf("%w: an absent key has no value", ErrProof)
	case present && p.other != nil:
		return fmt.Errorf("%w: it ends at the leaf of another key", ErrProof)
	case len(p.siblings) > maxProofDepth:
		return fmt.Errorf("%w: depth %d, limit %d", ErrProof, len(p.siblings), maxProofDepth)
	}
	position := Position(key)
	var at crypto.Digest
	switch {
	case present:
		at = leafHash(position, value)
	case p.other != nil:
		if common := commonBits(position, p.other.position); common < len(p.siblings) || common == maxProofDepth {
			return fmt.Errorf("%w: the other leaf shares %d bits with the key's position, at depth %d", ErrProof, common, len(p.siblings))
		}
		at = crypto.DomainStateLeaf.HashPair(p.other.position, p.other.valueHash)
	}
	for i := len(p.siblings) - 1; i >= 0; i-- {
		if position[i/8]>>(7-i%8)&1 == 0 {
			at = crypto.DomainStateInner.HashPair(at, p.siblings[i])
		} else {
			at = crypto.DomainStateInner.HashPair(p.siblings[i], at)
		}
	}
	if at != root {
		return fmt.Errorf("%w: it leads to root %v, not %v", ErrProof, at, root)
	}
	return nil
}

// commonBits returns how many leading bits two positions share.
func commonBits(a, b crypto.Digest) int {
	for i := range a {
		if d := a[i] ^ b[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return maxProofDepth
}

// wireProof is the encoding of a Proof.
type wireProof struct {
	_     struct{} `cbor:",toarray"`
	Depth uint16   // siblings, empty ones included: 0 to 256
	// Full has a bit for every sibling, the first in the most significant one:
	// 1 if it is not empty. The last sibling never is.
	Full     []byte
	Siblings []byte // those that are not empty, 32 bytes each
	Other    []byte // none, or position ‖ value digest
}

// Encode returns the canonical encoding.
func (p Proof) Encode() []byte {
	w := wireProof{Depth: uint16(len(p.siblings)), Full: make([]byte, (len(p.siblings)+7)/8)}
	for i := range p.siblings {
		if !p.siblings[i].IsZero() {
			w.Full[i/8] |= 0x80 >> (i % 8)
			w.Siblings = append(w.Siblings, p.siblings[i][:]...)
		}
	}
	if p.other != nil {
		w.Other = append(p.other.position[:], p.other.valueHash[:]...)
	}
	return codec.Marshal(w)
}

// DecodeProof reads the canonical encoding of a proof of at most MaxProofBytes
// bytes.
func DecodeProof(data []byte) (Proof, error) {
	var w wireProof
	if err := codec.Unmarshal(data, &w, MaxProofBytes); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrProofFormat, err)
	}
	depth := int(w.Depth)
	switch {
	case depth > maxProofDepth:
		return Proof{}, fmt.Errorf("%w: depth %d, limit %d", ErrProofFormat, depth, maxProofDepth)
	case len(w.Full) != (depth+7)/8:
		return Proof{}, fmt.Errorf("%w: map of %d bytes for depth %d", ErrProofFormat, len(w.Full), depth)
	case depth > 0 && w.Full[len(w.Full)-1]&(0xff>>((depth-1)%8)) != 0x80>>((depth-1)%8):
		return Proof{}, fmt.Errorf("%w: the last sibling is empty, or the map has bits beyond depth %d", ErrProofFormat, depth)
	case len(w.Other) != 0 && len(w.Other) != 2*crypto.DigestSize:
		return Proof{}, fmt.Errorf("%w: other leaf of %d bytes, want none or %d", ErrProofFormat, len(w.Other), 2*crypto.DigestSize)
	}
	var p Proof
	rest := w.Siblings
	for i := range depth {
		var d crypto.Digest
		if w.Full[i/8]>>(7-i%8)&1 != 0 {
			if len(rest) < crypto.DigestSize {
				return Proof{}, fmt.Errorf("%w: %d bytes of siblings are too few", ErrProofFormat, len(w.Siblings))
			}
			rest = rest[copy(d[:], rest):]
			if d.IsZero() {
				return Proof{}, fmt.Errorf("%w: sibling %d is zero in full", ErrProofFormat, i)
			}
		}
		p.siblings = append(p.siblings, d)
	}
	if len(rest) != 0 {
		return Proof{}, fmt.Errorf("%w: %d bytes of siblings are too many", ErrProofFormat, len(w.Siblings))
	}
	if len(w.Other) != 0 {
		p.other = &otherLeaf{}
		copy(p.other.valueHash[:], w.Other[copy(p.other.position[:], w.Other):])
	}
	return p, nil
}

// MarshalCBOR is Encode.
func (p Proof) MarshalCBOR() ([]byte, error) { return p.Encode(), nil }

// UnmarshalCBOR is DecodeProof.
func (p *Proof) UnmarshalCBOR(data []byte) error {
	got, err := DecodeProof(data)
	*p = got
	return err
}
