// Package staking is bonds, delegations, committees, evidence, slashing and
// rewards.
//
// It is a typed view over the keys that begin with Prefix:
//
//	'v' 'c' ‖ consensus key → Validator
//
// Invariants:
//
//  1. A validator's record holds its stake; ValueOf says so to the check that
//     supply is conserved.
//  2. Validators lists in ascending order of consensus keys, so every node
//     derives one committee from one state.
//
// Failure modes: Genesis returns an error that names what is wrong; a record
// that does not decode panics with *state.Fault.
//
// Everything is a pure function of its arguments. Today the validators are
// those of genesis, and none of them ever changes: the package has no messages.
package staking

import (
	"bytes"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Prefix begins every key of this package.
const Prefix = 'v'

const kindValidator = 'c'

// ValidatorKey returns the key of a validator's record.
func ValidatorKey(consensusKey crypto.PublicKey) []byte {
	key := make([]byte, 0, 2+len(consensusKey))
	return append(append(key, Prefix, kindValidator), consensusKey[:]...)
}

// Validator is a member of the committee.
type Validator struct {
	_            struct{} `cbor:",toarray"`
	ConsensusKey crypto.PublicKey
	NodeKey      crypto.PublicKey // of its transport
	Owner        chain.Address    // receives its tips
	Stake        chain.Amount
	Name         string
	Endpoint     string // advertised host:port of its transport
}

// Weight returns the validator's vote: its stake in whole HYPER.
func (v *Validator) Weight() uint64 { return v.Stake.Nano() / chain.NanoPerHyper }

// DecodeValidator decodes a validator's record, for those who checked its
// proof.
func DecodeValidator(value []byte) (Validator, error) {
	var v Validator
	err := codec.Unmarshal(value, &v, state.MaxValueBytes)
	return v, err
}

// Genesis records the first validators and returns the sum of their stakes,
// which the caller mints.
func Genesis(kv state.KV, validators []chain.GenesisValidator) (chain.Amount, error) {
	var staked chain.Amount
	for i, v := range validators {
		key := ValidatorKey(v.ConsensusKey)
		if _, taken := kv.Get(key); taken {
			return chain.Amount{}, fmt.Errorf("staking: validator %d: consensus key %s appears twice", i, v.ConsensusKey.Short())
		}
		sum, ok := staked.Add(v.Stake)
		if !ok {
			return chain.Amount{}, fmt.Errorf("staking: validator %d: the stakes do not fit an amount", i)
		}
		staked = sum
		state.Save(kv, key, Validator{
			ConsensusKey: v.ConsensusKey, NodeKey: v.NodeKey, Owner: v.Owner, Stake: v.Stake,
			Name: v.Name, Endpoint: v.Endpoint,
		})
	}
	return staked, nil
}

// Validators returns every validator, by ascending consensus key.
func Validators(r state.Reader) []Validator {
	var list []Validator
	for key, value := range r.Iterate([]byte{Prefix, kindValidator}, []byte{Prefix, kindValidator + 1}) {
		list = append(list, state.Decode[Validator](key, value))
	}
	return list
}

// OwnerOf returns who owns the validator of a consensus key, and false if there
// is none.
func OwnerOf(r state.Reader, consensusKey crypto.PublicKey) (chain.Address, bool) {
	v, ok := state.Load[Validator](r, ValidatorKey(consensusKey))
	return v.Owner, ok
}

// ValueOf says what the record under a key of this package holds.
func ValueOf(key, value []byte) (tokens.Class, chain.Amount) {
	if bytes.HasPrefix(key, []byte{Prefix, kindValidator}) {
		return tokens.HoldsStake, state.Decode[Validator](key, value).Stake
	}
	return tokens.HoldsNothing, chain.Amount{}
}
