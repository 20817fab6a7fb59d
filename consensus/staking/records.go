package staking

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Prefix begins every key of this package.
const Prefix = 'v'

const (
	kindValidator  = 'c'
	kindKey        = 'k'
	kindDelegation = 'd'
	kindEpoch      = 'e'
	kindCommittee  = 'm'
	kindEnded      = 'h'
)

// ID names a validator for ever: the consensus key that it began with.
type ID = crypto.PublicKey

func keyOf(kind byte, parts ...[]byte) []byte {
	key := make([]byte, 0, 112)
	key = append(key, Prefix, kind)
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}

func big(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// ValidatorKey returns the key of a validator's record.
func ValidatorKey(id ID) []byte { return keyOf(kindValidator, id[:]) }

// DelegationKey returns the key of what an account delegates to a validator.
func DelegationKey(delegator chain.Address, id ID) []byte {
	return keyOf(kindDelegation, delegator[:], id[:])
}

// EpochKey returns the key of the Epoch.
func EpochKey() []byte { return keyOf(kindEpoch) }

// CommitteeKey returns the key of the members of an epoch's committee.
func CommitteeKey(e consensus.Epoch) []byte { return keyOf(kindCommittee, big(uint64(e))) }

// ownedKey returns the key of the record that says whose a consensus or node
// key is. It is never deleted, so that no key is ever used twice.
func ownedKey(key crypto.PublicKey) []byte { return keyOf(kindKey, key[:]) }

// Validator is a bonded validator. Its delegators hold shares of its stake, the
// owner among them; a share is worth Stake / Shares.
type Validator struct {
	_            struct{} `cbor:",toarray"`
	ID           ID
	ConsensusKey crypto.PublicKey // for committees to come
	NodeKey      crypto.PublicKey // of its transport
	Owner        chain.Address
	Name         string
	Endpoint     string // advertised host:port of its transport
	Stake        chain.Amount
	Shares       uint64
	SelfShares   uint64 // of Shares, the owner's
	Commission   Commission
	FactorBps    uint16          // resource factor r in 1/10,000; at most MaxFactorBps
	JailedUntil  chain.TimeMs    // not zero: out of committees until it unjails itself, then or later
	Tombstoned   bool            // it was convicted: out for ever
	Rotated      consensus.Epoch // in which its keys changed last
}

// Commission is what the owner takes of its delegators' rewards.
type Commission struct {
	_       struct{} `cbor:",toarray"`
	Bps     uint16   // of this epoch's rewards, in 1/10,000
	NextBps uint16   // of the next epoch's
	Changed consensus.Epoch
}

// Weight returns the validator's vote: its stake in whole HYPER.
func (v *Validator) Weight() uint64 { return v.Stake.Nano() / chain.NanoPerHyper }

// LeaderWeight returns the validator's share of views: ⌊stake · (1 + r)⌋ in
// whole HYPER.
func (v *Validator) LeaderWeight() uint64 {
	scaled := sound(v.Stake.ShareFloor(wholeBps+uint64(v.FactorBps), wholeBps))
	return scaled.Nano() / chain.NanoPerHyper
}

// SelfBond returns what the owner's own shares are worth.
func (v *Validator) SelfBond() chain.Amount { return v.worth(v.SelfShares) }

// worth returns ⌊stake · shares / all shares⌋.
func (v *Validator) worth(shares uint64) chain.Amount {
	if shares == 0 {
		return chain.Amount{}
	}
	return sound(v.Stake.ShareFloor(shares, v.Shares))
}

// Delegation is what an account has at a validator.
type Delegation struct {
	_      struct{} `cbor:",toarray"`
	Shares uint64
}

const wholeBps = 10_000

// sound unwraps arithmetic that cannot fail while the records are sound, since
// the whole supply fits an Amount.
func sound[T any](value T, ok bool) T {
	if !ok {
		panic(&state.Fault{Op: "staking", Err: errBroken})
	}
	return value
}

// ValidatorOf returns a validator's record, and false if there is none.
func ValidatorOf(r state.Reader, id ID) (Validator, bool) {
	return state.Load[Validator](r, ValidatorKey(id))
}

// DecodeValidator decodes a validator's record, for those who checked its
// proof.
func DecodeValidator(value []byte) (Validator, error) {
	var v Validator
	err := codec.Unmarshal(value, &v, state.MaxValueBytes)
	return v, err
}

// Validators returns every validator, by ascending ID.
func Validators(r state.Reader) []Validator {
	var list []Validator
	for key, value := range r.Iterate([]byte{Prefix, kindValidator}, []byte{Prefix, kindValidator + 1}) {
		list = append(list, state.Decode[Validator](key, value))
	}
	return list
}

// ValueOf says what the record under a key of this package holds.
func ValueOf(key, value []byte) (tokens.Class, chain.Amount) {
	switch key[1] {
	case kindValidator:
		return tokens.HoldsStake, state.Decode[Validator](key, value).Stake
	}
	return tokens.HoldsNothing, chain.Amount{}
}
