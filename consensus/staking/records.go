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
	kindAffiliate  = 'a'
	kindResource   = 'b'
	kindValidator  = 'c'
	kindDelegation = 'd'
	kindEpoch      = 'e'
	kindFault      = 'f'
	kindHop        = 'g'
	kindEnded      = 'h'
	kindRegistered = 'i'
	kindKey        = 'k'
	kindRoll       = 'l'
	kindCommittee  = 'm'
	kindPositions  = 'n'
	kindHopPool    = 'o'
	kindPurse      = 'p'
	kindQueue      = 'q'
	kindPot        = 'r'
	kindSeen       = 's'
	kindTally      = 't'
	kindUnbonding  = 'u'
	kindVotes      = 'w'
	kindWithdrawn  = 'x'
	kindStart      = 'y'
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

// PurseKey returns the key of a validator's rewards.
func PurseKey(id ID) []byte { return keyOf(kindPurse, id[:]) }

// UnbondingKey returns the key of the stake that left a validator in an epoch.
func UnbondingKey(id ID, e consensus.Epoch) []byte {
	return keyOf(kindUnbonding, id[:], big(uint64(e)))
}

// QueueKey returns the key of an account's part of that stake.
func QueueKey(e consensus.Epoch, id ID, delegator chain.Address) []byte {
	return keyOf(kindQueue, big(uint64(e)), id[:], delegator[:])
}

// hopPoolKey returns the key of the stake that moved from one validator to
// another in an epoch.
func hopPoolKey(from ID, e consensus.Epoch, to ID) []byte {
	return keyOf(kindHopPool, from[:], big(uint64(e)), to[:])
}

// hopKey returns the key of an account's part of that stake.
func hopKey(delegator chain.Address, to ID, e consensus.Epoch, from ID) []byte {
	return keyOf(kindHop, delegator[:], to[:], big(uint64(e)), from[:])
}

func faultKey(id ID) []byte                     { return keyOf(kindFault, id[:]) }
func endedKey(e consensus.Epoch) []byte         { return keyOf(kindEnded, big(uint64(e))) }
func positionsKey(a chain.Address) []byte       { return keyOf(kindPositions, a[:]) }
func tallyKey(s consensus.Signer) []byte        { return keyOf(kindTally, []byte{byte(s >> 8), byte(s)}) }
func votesKey(v consensus.View) []byte          { return keyOf(kindVotes, big(uint64(v))) }
func rollKey(id ID) []byte                      { return keyOf(kindRoll, id[:]) }
func affiliateKey(node crypto.PublicKey) []byte { return keyOf(kindAffiliate, node[:]) }
func resourceKey(id ID) []byte                  { return keyOf(kindResource, id[:]) }
func startKey(id ID, e consensus.Epoch) []byte  { return keyOf(kindStart, id[:], big(uint64(e))) }

// withdrawnKey returns the key of the record that says that a node took back its
// consent to a validator.
func withdrawnKey(node crypto.PublicKey, id ID) []byte { return keyOf(kindWithdrawn, node[:], id[:]) }

// ownedKey returns the key of the record that says whose a consensus or node
// key is. It is never deleted, so that no key is ever used twice.
func ownedKey(key crypto.PublicKey) []byte { return keyOf(kindKey, key[:]) }

// prefixEnd returns the first key after all those that begin with a prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- { // a kind is below 0xff, so that it ends
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

// found is a record with its key.
type found[T any] struct {
	key    []byte
	record T
}

// list returns the records from a key on that begin with a prefix, at most
// limit of them; 0 is no limit.
func list[T any](r state.Reader, prefix, from []byte, limit int) []found[T] {
	var out []found[T]
	for key, value := range r.Iterate(from, prefixEnd(prefix)) {
		out = append(out, found[T]{key: key, record: state.Decode[T](key, value)})
		if len(out) == limit {
			break
		}
	}
	return out
}

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
	JailedUntil  chain.TimeMs    // not zero: out of committees until it unjails itself, then or later; so is who left the roll
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

// WorthOf returns what a delegation to the validator is worth, rounded down. A
// delegation that does not fit the validator's record is worth nothing.
func (v *Validator) WorthOf(d Delegation) chain.Amount {
	if d.Shares > v.Shares {
		return chain.Amount{}
	}
	return v.worth(d.Shares)
}

// Delegation is what an account has at a validator.
type Delegation struct {
	_      struct{} `cbor:",toarray"`
	Shares uint64
	Stand  Index        // of the validator's purse when Owed was last counted
	Owed   chain.Amount // rewards
	Fresh  []Fresh      // of Shares, by ascending epoch, at most of two: what joined last when Owed was counted
}

// Pool is stake of one liability that accounts have shares of: what left a
// validator in an epoch.
type Pool struct {
	_      struct{} `cbor:",toarray"`
	Stake  chain.Amount
	Shares uint64
}

func (p *Pool) worth(shares uint64) chain.Amount {
	return sound(p.Stake.ShareFloor(shares, p.Shares))
}

// hopPool is stake that moved from one validator to another in an epoch:
// shares of the second, liable for the first as well. Accounts have units.
type hopPool struct {
	_      struct{} `cbor:",toarray"`
	Shares uint64   // at the second validator
	Units  uint64   // that accounts have
	Stand  Index    // of the second's purse
	Index  Index    // rewards per unit
	Carry  chain.Amount
	Earns  bool // the shares were seen to be fresh no longer
}

// hop is an account's part of a hopPool.
type hop struct {
	_     struct{} `cbor:",toarray"`
	Units uint64
	Stand Index // of the pool
	Owed  chain.Amount
}

// ended is when an epoch ended.
type ended struct {
	_  struct{} `cbor:",toarray"`
	At chain.TimeMs
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

// DecodeDelegation decodes a delegation's record, for those who checked its
// proof.
func DecodeDelegation(value []byte) (Delegation, error) {
	var d Delegation
	err := codec.Unmarshal(value, &d, state.MaxValueBytes)
	return d, err
}

// Validators returns every validator, by ascending ID.
func Validators(r state.Reader) []Validator {
	var list []Validator
	for key, value := range r.Iterate([]byte{Prefix, kindValidator}, []byte{Prefix, kindValidator + 1}) {
		list = append(list, state.Decode[Validator](key, value))
	}
	return list
}

// candidates returns the validators on the roll, by ascending ID.
func candidates(r state.Reader) []Validator {
	prefix := []byte{Prefix, kindRoll}
	roll := list[ID](r, prefix, prefix, 0) // MaxRegistered bounds it
	out := make([]Validator, len(roll))
	for i, f := range roll {
		v, ok := ValidatorOf(r, f.record)
		out[i] = sound(v, ok)
	}
	return out
}

// ValueOf says what the record under a key of this package holds.
func ValueOf(key, value []byte) (tokens.Class, chain.Amount) {
	switch key[1] {
	case kindValidator:
		return tokens.HoldsStake, state.Decode[Validator](key, value).Stake
	case kindUnbonding:
		return tokens.HoldsUnbonding, state.Decode[Pool](key, value).Stake
	case kindPurse:
		purse := state.Decode[Purse](key, value)
		return tokens.HoldsRewards, sum(purse.Held, purse.Commission)
	case kindTally:
		return tokens.HoldsRewards, state.Decode[tally](key, value).Tips
	case kindPot:
		return tokens.HoldsRewards, state.Decode[chain.Amount](key, value)
	}
	return tokens.HoldsNothing, chain.Amount{}
}

// sum adds amounts that are parts of the supply.
func sum(a, b chain.Amount) chain.Amount { return sound(a.Add(b)) }

// less takes away what is part of an amount.
func less(a, b chain.Amount) chain.Amount { return sound(a.Sub(b)) }
