package staking_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// bigWorld has 100 validators and a number of delegations to each, a hundredth
// of them unbonding.
func bigWorld(b *testing.B, delegators int) *world {
	b.Helper()
	stakes := make([]uint64, 100)
	for i := range stakes {
		stakes[i] = 100_000 + uint64(i)
	}
	for n := range 100 {
		privateKeys[keyOf('c', n).Public()] = keyOf('c', n)
	}
	w := newWorld(b, chain.DefaultParams(), stakes...)
	for n := range delegators {
		who := chain.Address{'d', byte(n), byte(n >> 8), byte(n >> 16)}
		env := w.env()
		tokens.Mint(w.kv, chain.Hyper(100))
		tokens.Credit(w.kv, who, chain.Hyper(100))
		if _, why := staking.Delegate(w.kv, env, who, chain.Delegate{Validator: id(n % 100), Amount: chain.Hyper(50)}); why != nil {
			b.Fatal(why.Reason())
		}
		if n%100 == 0 {
			if _, why := staking.Undelegate(w.kv, env, who, chain.Undelegate{Validator: id(n % 100), Amount: chain.Hyper(10)}); why != nil {
				b.Fatal(why.Reason())
			}
		}
	}
	return w
}

// BenchmarkBeginBlock100 is what staking adds to every block of a committee of
// 100: the members read, a finalization of 67 signatures verified and credited,
// the queue looked at.
func BenchmarkBeginBlock100(b *testing.B) {
	for _, c := range []struct {
		name   string
		extras bool
	}{{"finalization", true}, {"empty", false}} {
		b.Run(c.name, func(b *testing.B) {
			w := bigWorld(b, 10_000)
			signers := make([]int, 68)
			for i := range signers {
				signers[i] = i
			}
			x := staking.Extras{}
			if c.extras {
				x.Finalization = w.finalization(38, signers...)
			}
			b.ReportAllocs()
			for b.Loop() {
				kv := state.NewOverlay(w.kv)
				members, _ := staking.MembersOf(kv, 1)
				block := &staking.Block{Env: *w.env(), View: 40, Members: members}
				staking.Release(kv, &block.Env, 1_000)
				if _, _, err := staking.TakeExtras(kv, block, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEpochEnd100x10000 closes an epoch of 100 validators with 10,000
// delegations, which are fresh no longer with this end, in which everybody voted
// and every proposer has a tip.
func BenchmarkEpochEnd100x10000(b *testing.B) {
	w := bigWorld(b, 10_000)
	w.epochs(2)
	_, members, _ := staking.CommitteeOf(w.kv, w.env().Epoch)
	for i := range members {
		block := &staking.Block{Env: *w.env(), View: consensus.View(i + 1), Proposer: consensus.Signer(i), Members: members}
		if _, _, err := staking.TakeExtras(w.kv, block, staking.Extras{}); err != nil {
			b.Fatal(err)
		}
		tokens.Mint(w.kv, chain.Nano(1_000_000))
		staking.Tip(w.kv, block, chain.Nano(1_000_000))
		node := keyOf('p', i)
		if _, why := staking.Affiliate(w.kv, w.env(), members[i].Owner, chain.Affiliate{
			Validator: members[i].ID, Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, members[i].ID)),
		}); why != nil {
			b.Fatal(why.Reason())
		}
		staking.CountBurned(w.kv, node.Public(), chain.Hyper(uint64(i)))
	}
	w.height, w.now = 1_000, w.now+chain.TimeMs(w.params.EpochMs)
	b.ReportAllocs()
	for b.Loop() {
		staking.CloseEpoch(state.NewOverlay(w.kv), w.env())
	}
}

// BenchmarkSlash convicts a validator whose stake left in 60 epochs and moved to
// 30 others in each.
func BenchmarkSlash(b *testing.B) {
	p := quick()
	p.UnbondDelayMs = 60 * p.EpochMs
	w := newWorld(b, p, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000)
	for range 30 {
		for n := 10; n < 14; n++ {
			w.must(n, chain.Delegate{Validator: id(0), Amount: chain.Hyper(20)})
			w.must(n, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(5)})
			if n == 10 {
				w.must(n, chain.Redelegate{From: id(0), To: id(4), Amount: chain.Hyper(5)})
			}
		}
		w.epochs(1)
	}
	evidence := consensus.EncodeEvidence(w.double(id(0), consensus.Round{Epoch: 1, View: 1}))
	b.ReportAllocs()
	for b.Loop() {
		if _, why := staking.ReportEvidence(state.NewOverlay(w.kv), w.env(), account(30), chain.ReportEvidence{Evidence: evidence}); why != nil {
			b.Fatal(why.Reason())
		}
	}
}
