package staking_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

var update = flag.Bool("update", false, "write the fixtures anew")

func validators() []chain.GenesisValidator {
	var list []chain.GenesisValidator
	for n := byte(9); n > 5; n-- {
		list = append(list, chain.GenesisValidator{
			Name: "v", ConsensusKey: crypto.PublicKey{n}, NodeKey: crypto.PublicKey{n, 1}, Owner: chain.Address{n, 2},
			Stake: chain.Nano(uint64(n)*chain.NanoPerHyper + 999_999_999), Endpoint: "localhost:1",
		})
	}
	return list
}

func TestGenesisValidators(t *testing.T) {
	kv := state.NewMemoryBackend()
	staked, err := staking.Genesis(kv, validators())
	if err != nil {
		t.Fatal(err)
	}
	list := staking.Validators(kv)
	if len(list) != 4 || !slices.IsSortedFunc(list, func(a, b staking.Validator) int { return a.ConsensusKey.Compare(b.ConsensusKey) }) {
		t.Errorf("validators %v, want 4 by ascending key", list)
	}
	var sum uint64
	for _, v := range list {
		if want := uint64(v.ConsensusKey[0]); v.Weight() != want {
			t.Errorf("weight %d, want whole HYPER, %d", v.Weight(), want)
		}
		owner, ok := staking.OwnerOf(kv, v.ConsensusKey)
		if !ok || owner != v.Owner || owner != (chain.Address{v.ConsensusKey[0], 2}) {
			t.Errorf("owner of %s is %s (%v)", v.ConsensusKey.Short(), owner, ok)
		}
		key := staking.ValidatorKey(v.ConsensusKey)
		class, amount := staking.ValueOf(key, codec.Marshal(v))
		if class != tokens.HoldsStake || amount != v.Stake {
			t.Errorf("record holds %v of class %d", amount, class)
		}
		sum += amount.Nano()
	}
	if sum != staked.Nano() {
		t.Errorf("staked %d, records hold %d", staked.Nano(), sum)
	}
	if _, ok := staking.OwnerOf(kv, crypto.PublicKey{1}); ok {
		t.Error("a stranger has an owner")
	}
}

func TestGenesisRefuses(t *testing.T) {
	twice := append(validators(), validators()[0])
	if _, err := staking.Genesis(state.NewMemoryBackend(), twice); err == nil {
		t.Error("one consensus key twice")
	}
	rich := validators()
	rich[0].Stake = chain.Nano(math.MaxUint64)
	if _, err := staking.Genesis(state.NewMemoryBackend(), rich); err == nil {
		t.Error("stakes beyond 64 bits")
	}
}

func TestGolden(t *testing.T) {
	kv := state.NewMemoryBackend()
	if _, err := staking.Genesis(kv, validators()[:1]); err != nil {
		t.Fatal(err)
	}
	key := staking.ValidatorKey(crypto.PublicKey{9})
	value, _ := kv.Get(key)
	got := hex.EncodeToString(key) + " " + hex.EncodeToString(value) + "\n"
	const path = "testdata/records.hex"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("record changed:\n%s\nwant\n%s", got, want)
	}
	v, err := staking.DecodeValidator(value)
	if err != nil || !bytes.Equal(codec.Marshal(v), value) {
		t.Errorf("decoded %+v, %v", v, err)
	}
	if _, err := staking.DecodeValidator(value[1:]); err == nil {
		t.Error("a cut record decoded")
	}
}
