package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

const (
	shortEpoch   = 3 * time.Second
	longestStall = 5 * time.Second
	memberWithin = 10 * shortEpoch // of its transaction
)

// TestEpochsUnderLoad changes the committee of a running network whose epochs are
// short: a validator joins, one leaves, one rotates its key, one loses its data and
// votes again in a later epoch, all are killed at once, and one that signs twice is
// slashed out of it.
func TestEpochsUnderLoad(t *testing.T) {
	endToEnd(t)
	const joiner, leaver, rotator, loser, sinner, twin = 4, 3, 1, 0, 2, 5
	n := newChaosNet(t, chaosShape{validators: 4, hosts: 6, params: map[string]any{
		"epoch_ms": shortEpoch.Milliseconds(), "evidence_window_ms": 4 * shortEpoch.Milliseconds(), "unbond_delay_ms": 8 * shortEpoch.Milliseconds(),
	}})
	for _, v := range n.nodes[:5] {
		n.fund(t, v)
	}
	n.start(t, n.nodes[joiner]) // it follows until it is a member
	n.run(t, []chaosFault{
		{"epochs end", goesOn, n.calm(func(t *testing.T, n *chaosNet) { n.awaitEpochs(t, 3) })},
		{"one joins", goesOn, n.calm(joins(joiner))},
		{"one leaves", goesOn, n.calm(leaves(leaver))},
		{"one rotates its key", goesOn, n.calm(rotates(rotator))},
		{"one is killed over an epoch's end", goesOn, killed(2*shortEpoch, joiner)},
		{"one loses its data, and votes again", goesOn, losesData(loser)},
		{"all are killed over an epoch's end", stands, killed(shortEpoch, loser, rotator, sinner, joiner)},
		{"one signs twice, and is slashed", goesOn, slashed(sinner, twin)},
	})
}

// calm is a change during which the height never stalls.
func (n *chaosNet) calm(do func(*testing.T, *chaosNet)) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		watch := n.watch(t.Context())
		do(t, n)
		if stall, risen := watch(); stall > longestStall {
			t.Errorf("no block in %v, of %d", stall, risen)
		}
	}
}

// must sends messages through any node that runs, and wants them to take effect.
func (n *chaosNet) must(t *testing.T, from wallet.Account, messages ...chain.Msg) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	builder := n.up()[0].client.NewBuilder(from, sdk.BuilderOptions{})
	if _, err := builder.SendAndWait(ctx, messages...); err != nil {
		t.Fatalf("%T: %v", messages[0], err)
	}
}

// fund gives a validator's owner what it needs.
func (n *chaosNet) fund(t *testing.T, v *chaosNode) {
	t.Helper()
	n.must(t, n.rest, chain.Transfer{To: v.owner.Address(), Amount: chain.Hyper(1_100_000)})
}

// committee returns the current one.
func (n *chaosNet) committee(t *testing.T) api.Validators {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	committee, err := n.up()[0].client.Validators(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return committee
}

// until repeats a question until the answer is yes.
func until(t *testing.T, what string, patience time.Duration, yes func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
	t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
}

func (n *chaosNet) awaitEpochs(t *testing.T, count uint64) {
	t.Helper()
	goal := n.committee(t).Epoch + count
	until(t, "the epochs have ended", memberWithin, func() bool { return n.committee(t).Epoch >= goal })
}

// awaitMember waits until a key is in the committee, or is not.
func (n *chaosNet) awaitMember(t *testing.T, key crypto.PublicKey, is bool) {
	t.Helper()
	what := "it is in the committee"
	if !is {
		what = "it is not in the committee"
	}
	until(t, what, memberWithin, func() bool {
		return slices.ContainsFunc(n.committee(t).Validators, func(v api.Validator) bool { return v.ConsensusKey == key }) == is
	})
}

// awaitProposal waits until a key has proposed a block above a height.
func (n *chaosNet) awaitProposal(t *testing.T, key crypto.PublicKey, above chain.Height) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), memberWithin)
	defer cancel()
	at := n.up()[len(n.up())-1]
	until(t, "it has proposed a block", memberWithin, func() bool {
		for top := at.height(ctx); above < top; above++ {
			block, err := at.client.Block(ctx, above+1, api.BlockHeader)
			if err != nil {
				t.Fatal(err)
			}
			if block.Header.Proposer == key {
				return true
			}
		}
		return false
	})
}

func (n *chaosNet) possession(v *chaosNode, key crypto.PrivateKey) crypto.Signature {
	return key.Sign(crypto.DomainPossession, chain.PossessionPayload(n.genesis.ChainID, v.owner.Address()))
}

func readKey(t *testing.T, path string) crypto.PrivateKey {
	t.Helper()
	key, err := node.ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// joins bonds a node that follows the chain.
func joins(i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v := n.nodes[i]
		votes, name := readKey(t, filepath.Join(v.home, node.ConsensusKeyFile)), readKey(t, filepath.Join(v.home, node.NodeKeyFile))
		n.must(t, v.owner, chain.Bond{
			ConsensusKey: votes.Public(), Possession: n.possession(v, votes), NodeKey: name.Public(), NodePossession: n.possession(v, name),
			Name: "joiner", Endpoint: v.endpoint(), CommissionBps: 500, Amount: chain.Hyper(1_000_000),
		})
		n.awaitMember(t, v.key, true)
		n.awaitProposal(t, v.key, n.highest(t.Context()))
	}
}

// leaves takes a validator's stake out. Its process follows on.
func leaves(i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v := n.nodes[i]
		n.must(t, v.owner, chain.Undelegate{Validator: v.key})
		n.awaitMember(t, v.key, false)
	}
}

// rotates gives a validator another key, which its node has before.
func rotates(i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v, next := n.nodes[i], crypto.GenerateKey()
		const file = "next.key"
		if err := node.WriteKey(filepath.Join(v.home, file), next); err != nil {
			t.Fatal(err)
		}
		v.args = []string{"--consensus-keys", node.ConsensusKeyFile, "--consensus-keys", file}
		v.stop(t)
		n.start(t, v)
		name := readKey(t, filepath.Join(v.home, node.NodeKeyFile))
		n.must(t, v.owner, chain.RotateKeys{
			Validator: v.key, ConsensusKey: next.Public(), Possession: n.possession(v, next), NodeKey: name.Public(),
			NodePossession: n.possession(v, name), Endpoint: v.endpoint(),
		})
		old := v.key
		v.key = next.Public()
		n.awaitMember(t, v.key, true)
		n.awaitMember(t, old, false)
		n.awaitProposal(t, v.key, n.highest(t.Context()))
	}
}

// losesData kills a validator and takes its data away. It comes back, follows,
// and votes in an epoch that begins after its start.
func losesData(i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v := n.nodes[i]
		v.signal(t, syscall.SIGKILL)
		v.awaitEnd(t, 10*time.Second)
		if err := os.RemoveAll(filepath.Join(v.home, "data")); err != nil {
			t.Fatal(err)
		}
		from := n.highest(t.Context())
		n.start(t, v)
		n.awaitHeight(t, v, from, 20*time.Second)
		n.awaitProposal(t, v.key, from)
	}
}

// slashed runs a validator twice until it is slashed and out of the committee.
func slashed(sinner, twin int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v := n.nodes[sinner]
		n.startTwin(t, v, n.nodes[twin])
		honest := slices.DeleteFunc(n.up(), func(u *chaosNode) bool { return u.index == sinner || u.index == twin })
		n.awaitAccusation(t, honest)
		n.awaitMember(t, v.key, false)
		n.nodes[twin].kill(t)
	}
}
