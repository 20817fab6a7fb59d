package chain

import (
	"fmt"
	"math"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// OutputKey is what an output travels encrypted with, under an order that asks for a fair
// exchange: whoever is paid for it makes it known.
type OutputKey [32]byte

// String returns the key as 64 hexadecimal digits.
func (k OutputKey) String() string { return crypto.Digest(k).String() }

// MarshalText writes 64 hexadecimal digits.
func (k OutputKey) MarshalText() ([]byte, error) { return crypto.Digest(k).MarshalText() }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits.
func (k *OutputKey) UnmarshalText(text []byte) error { return (*crypto.Digest)(k).UnmarshalText(text) }

// Hash is what a receipt commits to. It covers the order and the node, so that a key that is
// known from one order opens no claim of another.
func (k OutputKey) Hash(order crypto.Digest, node crypto.PublicKey) crypto.Digest {
	dst := codec.AppendArray(make([]byte, 0, 1+2+len(order)+2+len(node)+2+len(k)), 3)
	dst = codec.AppendBytes(codec.AppendBytes(dst, order[:]), node[:])
	return crypto.DomainOutputKey.Hash(codec.AppendBytes(dst, k[:]))
}

// SealedOutput is what a receipt says of an output that travels encrypted.
type SealedOutput struct {
	_       struct{}      `cbor:",toarray"`
	Output  crypto.Digest `json:"output"`   // the encrypted blob; zero: the work left none
	KeyHash crypto.Digest `json:"key_hash"` // OutputKey.Hash of its key
}

// CheckKey returns an error that names what is wrong with a key of a receipt: there is one
// exactly if the output is sealed, and it is the one that the receipt commits to. Without a
// receipt's seal no key is wanted.
func (r *UsageReceipt) CheckKey(key *OutputKey) error {
	switch {
	case r.Sealed == nil && key == nil:
		return nil
	case r.Sealed == nil:
		return fmt.Errorf("a key is shown, and no output is sealed")
	case key == nil:
		return fmt.Errorf("the output is sealed, and no key is shown")
	}
	if hash := key.Hash(r.Order, r.Node); hash != r.Sealed.KeyHash {
		return fmt.Errorf("the key's hash is %s, the receipt commits to %s", hash.Short(), r.Sealed.KeyHash.Short())
	}
	return nil
}

// checkExchange demands that an order under fair exchange is one whose result nobody else has
// to see before it is paid, and one that may be countersigned one that the consumer alone
// judges.
func (o *Order) checkExchange() error {
	if !o.Fair && !o.Countersignable {
		return nil
	}
	asked := "fair exchange"
	if !o.Fair {
		asked = "a countersignature"
	}
	if o.Term != nil {
		return fmt.Errorf("%w: %s is for jobs, not for leases", ErrLimit, asked)
	}
	switch o.Policy.Policy.(type) {
	case PolicyReplicate, PolicyOptimistic:
		return fmt.Errorf("%w: %s under policy %s: others check or judge the result, and have to see it before it is paid", ErrLimit, asked, o.Policy)
	case PolicyNone, PolicyZK:
	}
	return nil
}

// CountersignedFrom returns from when on a countersigned claim of an order is taken: half of the
// claim window after its deadline. Until then whoever did the work has had the cluster's
// attestation paid, and a claim that the consumer makes up with another node finds the order
// settled.
func (p *Params) CountersignedFrom(deadline TimeMs) TimeMs {
	from, ok := checked.Add(uint64(deadline), p.ClaimWindowMs/2)
	if !ok {
		return math.MaxUint64
	}
	return TimeMs(from)
}

// CountersignPayload is what a consumer signs, under DomainCountersign, to say that the
// receipt of work under its order is right: it stands in place of the home cluster's
// attestation.
func CountersignPayload(id ChainID, receipt crypto.Digest) []byte {
	return AttestationPayload(id, receipt) // the same form: the domain tells them apart
}

// KeyRevealed tells the key of an output that was paid for.
type KeyRevealed struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Output   crypto.Digest    `json:"output,omitzero"` // the encrypted blob
	Key      OutputKey        `json:"key"`
}

func (KeyRevealed) sealedEvent() {}

const kindKeyRevealed uint8 = 54
