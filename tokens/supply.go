package tokens

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
)

// SupplyKey returns the key of the supply's record.
func SupplyKey() []byte { return []byte{Prefix, kindSupply} }

// Supply is all that was ever made and destroyed.
type Supply struct {
	_      struct{} `cbor:",toarray"`
	Minted chain.Amount
	Burned chain.Amount
}

// SupplyOf returns the supply.
func SupplyOf(r state.Reader) Supply {
	supply, _ := state.Load[Supply](r, SupplyKey()) // none before genesis
	return supply
}

// DecodeSupply decodes the supply's record, for those who checked its proof.
func DecodeSupply(value []byte) (Supply, error) {
	var supply Supply
	err := codec.Unmarshal(value, &supply, state.MaxValueBytes)
	return supply, err
}

// Burn counts as destroyed an amount that the caller took from somewhere.
func Burn(kv state.KV, amount chain.Amount) {
	if amount.IsZero() {
		return
	}
	supply := SupplyOf(kv)
	supply.Burned = mustAdd(supply.Burned, amount, "burning")
	state.Save(kv, SupplyKey(), supply)
}

// Mint counts as made an amount that the caller puts somewhere: staking's
// inflation, and nothing else.
func Mint(kv state.KV, amount chain.Amount) {
	if amount.IsZero() {
		return
	}
	supply := SupplyOf(kv)
	supply.Minted = mustAdd(supply.Minted, amount, "minting")
	state.Save(kv, SupplyKey(), supply)
}

// Genesis mints the whole supply: the allocations into balances, and staked
// into the records that the caller makes. It is an error to mint twice.
func Genesis(kv state.KV, allocations []chain.Allocation, staked chain.Amount) error {
	if _, minted := kv.Get(SupplyKey()); minted {
		return errors.New("tokens: the supply was minted before")
	}
	minted := staked
	for i, a := range allocations {
		sum, ok := minted.Add(a.Amount)
		if !ok {
			return fmt.Errorf("tokens: allocation %d: the supply does not fit an amount", i)
		}
		minted = sum
		account := AccountOf(kv, a.Address)
		account.Balance = mustAdd(account.Balance, a.Amount, "allocating")
		if a.Vesting != nil {
			account.Locks = append(account.Locks, Lock{Amount: a.Amount, Vesting: *a.Vesting})
		}
		save(kv, AccountKey(a.Address), account)
	}
	state.Save(kv, SupplyKey(), Supply{Minted: minted})
	return nil
}

// Class says what kind of holding a record is.
type Class uint8

// The classes; HoldsNothing is every record without value.
const (
	HoldsNothing Class = iota
	HoldsBalance
	HoldsEscrow
	HoldsBond
	HoldsStake
	HoldsUnbonding // stake that left its validator and is still liable
	HoldsRewards   // of staking, earned or to be given out
	HoldsMaturing
	HoldsDeposit // for the room that contracts take
)

// ValueOf says what the record under a key of this package holds. The supply's
// own record holds nothing.
func ValueOf(key, value []byte) (Class, chain.Amount) {
	switch key[1] {
	case kindAccount:
		return HoldsBalance, decodeAccount(key, value).Balance
	case kindQueue:
		return HoldsMaturing, state.Decode[Maturing](key, value).Amount
	}
	return HoldsNothing, chain.Amount{}
}
