package devnet_test

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestClientsAndNodesHaveOneCommittee: clients make the first committee from
// the genesis, nodes from the state that the genesis becomes, in the order of
// its keys. Both must be the same members with the same weights.
func TestClientsAndNodesHaveOneCommittee(t *testing.T) {
	public := func(seed byte) crypto.PublicKey { return crypto.PrivateKeyFromSeed([32]byte{seed}).Public() }
	var genesis chain.Genesis
	for i, stake := range []chain.Amount{
		chain.Hyper(7_000), chain.Hyper(20_000_000), chain.Nano(4*chain.NanoPerHyper - 1), chain.Hyper(1), chain.Hyper(9),
	} {
		seed := byte(i + 1)
		genesis.Validators = append(genesis.Validators, chain.GenesisValidator{
			Name: fmt.Sprint("v", i), ConsensusKey: public(seed), NodeKey: public(seed + 100), Stake: stake, Endpoint: "127.0.0.1:7100",
			Owner: chain.AddressOf(crypto.AccountKeyOf(public(200))),
		})
	}
	trusted, err := light.GenesisCommittee(&genesis, light.FirstEpoch)
	if err != nil {
		t.Fatal(err)
	}
	backend := state.NewMemoryBackend()
	if _, err := staking.Genesis(backend, &genesis); err != nil {
		t.Fatal(err)
	}
	var members []consensus.Validator
	for _, v := range staking.Validators(backend) {
		members = append(members, consensus.Validator{Key: v.ConsensusKey, Weight: v.Weight(), LeaderWeight: v.Weight()})
	}
	voting, err := consensus.NewCommittee(light.FirstEpoch, members)
	if err != nil {
		t.Fatal(err)
	}
	if trusted.Digest() != voting.Digest() || trusted.Len() != len(genesis.Validators) {
		t.Errorf("clients trust %d members, %s; nodes have %d, %s", trusted.Len(), trusted.Digest(), voting.Len(), voting.Digest())
	}
}
