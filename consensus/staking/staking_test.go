package staking_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

const genesisMs chain.TimeMs = 1_000_000

// keyOf returns the n-th private key of a kind.
func keyOf(kind byte, n int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte{kind, byte(n), byte(n >> 8)})
}

func genesis(stakes ...uint64) *chain.Genesis {
	g := &chain.Genesis{ChainID: "staking-test", TimeMs: genesisMs, Params: chain.DefaultParams()}
	for n, stake := range stakes {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: fmt.Sprint("v", n), ConsensusKey: keyOf('c', n).Public(), NodeKey: keyOf('n', n).Public(),
			Owner: chain.Address{'o', byte(n)}, Stake: chain.Nano(stake), Endpoint: "localhost:1",
		})
	}
	return g
}

const hyper = chain.NanoPerHyper

func TestGenesis(t *testing.T) {
	kv := state.NewMemoryBackend()
	stakes := []uint64{9*hyper + 999_999_999, 8 * hyper, 7 * hyper, 6 * hyper}
	staked, err := staking.Genesis(kv, genesis(stakes...))
	if err != nil {
		t.Fatal(err)
	}
	list := staking.Validators(kv)
	if len(list) != 4 || !slices.IsSortedFunc(list, func(a, b staking.Validator) int { return a.ID.Compare(b.ID) }) {
		t.Errorf("validators %v, want 4 by ascending id", list)
	}
	var sum uint64
	for _, v := range list {
		class, amount := staking.ValueOf(staking.ValidatorKey(v.ID), codec.Marshal(v))
		if class != tokens.HoldsStake || amount != v.Stake || v.SelfBond() != v.Stake {
			t.Errorf("record holds %v of class %d, its owner %s", amount, class, v.SelfBond())
		}
		sum += amount.Nano()
	}
	if sum != staked.Nano() {
		t.Errorf("staked %d, records hold %d", staked.Nano(), sum)
	}
	epoch := staking.EpochOf(kv)
	for i, want := range []crypto.Digest{epoch.Committee, epoch.Next} {
		committee, members, ok := staking.CommitteeOf(kv, staking.FirstEpoch+consensus.Epoch(i))
		if !ok || committee.Digest() != want || committee.Len() != 4 || len(members) != 4 {
			t.Fatalf("committee %d: %v, want %s", i+1, committee, want.Short())
		}
		for j, m := range members {
			weight := stakes[m.Owner[1]] / hyper
			if m.Weight != weight || m.LeaderWeight != weight || committee.Validator(consensus.Signer(j)).Key != m.ConsensusKey {
				t.Errorf("member %d has weight %d, want %d", j, m.Weight, weight)
			}
		}
	}
	if _, _, ok := staking.CommitteeOf(kv, 3); ok || epoch.Number != 1 || epoch.StartMs != genesisMs {
		t.Errorf("epoch %+v, a third committee %v", epoch, ok)
	}
}

func TestGenesisRefuses(t *testing.T) {
	twice := genesis(hyper, hyper)
	twice.Validators[1].NodeKey = twice.Validators[0].ConsensusKey
	if _, err := staking.Genesis(state.NewMemoryBackend(), twice); err == nil {
		t.Error("one key twice")
	}
	if _, err := staking.Genesis(state.NewMemoryBackend(), genesis(math.MaxUint64, hyper)); err == nil {
		t.Error("stakes beyond 64 bits")
	}
	if _, err := staking.Genesis(state.NewMemoryBackend(), genesis(hyper-1)); err == nil {
		t.Error("a validator without weight")
	}
}

func TestGolden(t *testing.T) {
	kv := state.NewMemoryBackend()
	if _, err := staking.Genesis(kv, genesis(5*hyper)); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for key, value := range kv.Iterate([]byte{staking.Prefix}, []byte{staking.Prefix + 1}) {
		fmt.Fprintln(&got, hex.EncodeToString(key), hex.EncodeToString(value))
	}
	golden.Check(t, "testdata/genesis.hex", got.String())
	value, _ := kv.Get(staking.ValidatorKey(keyOf('c', 0).Public()))
	v, err := staking.DecodeValidator(value)
	if err != nil || !bytes.Equal(codec.Marshal(v), value) {
		t.Errorf("decoded %+v, %v", v, err)
	}
	if _, err := staking.DecodeValidator(value[1:]); err == nil {
		t.Error("a cut record decoded")
	}
}
