package staking_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestBond follows a new validator into the committee, which it enters one
// epoch after the next, and out of it.
func TestBond(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000)
	good := w.bondOf(9, 9, chain.Hyper(500))
	for reason, change := range map[string]func(b *chain.Bond){
		"the least is 100 HYPER":         func(b *chain.Bond) { b.Amount = chain.Nano(100*hyper - 1) },
		"possession of consensus key":    func(b *chain.Bond) { b.Possession = crypto.Signature{} },
		"possession of node key":         func(b *chain.Bond) { b.NodePossession = b.Possession },
		"consensus key and node key":     func(b *chain.Bond) { b.NodeKey = b.ConsensusKey },
		"is, or was, a validator's":      func(b *chain.Bond) { *b = w.bondOf(9, 0, chain.Hyper(500)) },
		"can spend 1000000 HYPER, needs": func(b *chain.Bond) { b.Amount = chain.Hyper(1_000_001) },
	} {
		b := good
		change(&b)
		w.refused(9, b, reason)
	}
	w.refused(8, good, "possession of consensus key") // signed for another owner
	w.must(9, good)
	w.refused(9, good, "is, or was, a validator's")
	w.audit()
	for e := consensus.Epoch(1); e <= 4; e++ {
		_, m, in := w.signer(e, id(9))
		if in != (e >= 3) {
			t.Errorf("in the committee of epoch %d: %v", e, in)
		}
		if in && (m.Weight != 500 || m.Owner != account(9) || m.NodeKey != good.NodeKey) {
			t.Errorf("member %+v", m)
		}
		w.epochs(1)
	}
	left := w.env().Epoch
	w.must(9, chain.Undelegate{Validator: id(9), Amount: chain.Hyper(401)}) // below the least
	w.epochs(3)
	if _, _, in := w.signer(left+1, id(9)); !in {
		t.Error("the next committee was made before it left")
	}
	if _, _, in := w.signer(left+2, id(9)); in {
		t.Error("a validator below the least self-bond serves")
	}
	w.must(9, chain.Undelegate{Validator: id(9)})
	if _, ok := staking.ValidatorOf(w.kv, id(9)); ok {
		t.Error("a validator without shares is kept")
	}
	w.refused(9, good, "is, or was, a validator's")
	w.audit()
}

// TestCommittee: the richest serve, each with at least a HYPER, and somebody
// always does.
func TestCommittee(t *testing.T) {
	p := quick()
	p.MaxValidators = 3
	w := newWorld(t, p, 400, 200, 300, 100, 200)
	w.epochs(2)
	_, members, _ := staking.CommitteeOf(w.kv, 3)
	var served []staking.ID
	for _, m := range members {
		served = append(served, m.ID)
	}
	// 200 HYPER twice: the lower ID serves.
	third := id(1)
	if id(4).Compare(third) < 0 {
		third = id(4)
	}
	want := []staking.ID{id(0), id(2), third}
	slices.SortFunc(want, staking.ID.Compare)
	if !slices.Equal(served, want) {
		t.Errorf("served by %v, want %v", served, want)
	}
	for n := range 5 {
		w.must(n, chain.Undelegate{Validator: id(n), Amount: chain.Hyper(99)})
	}
	w.must(0, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(250)})
	w.must(2, chain.Undelegate{Validator: id(2), Amount: chain.Hyper(150)})
	for range 5 { // only 1 and 4, with 101 each, may serve; then nobody
		w.epochs(1)
	}
	_, members, _ = staking.CommitteeOf(w.kv, w.env().Epoch)
	if len(members) != 2 {
		t.Fatalf("served by %v", members)
	}
	w.must(1, chain.Undelegate{Validator: id(1), Amount: chain.Hyper(50)})
	w.must(4, chain.Undelegate{Validator: id(4)})
	w.epochs(4)
	if _, members, _ = staking.CommitteeOf(w.kv, w.env().Epoch); len(members) != 2 {
		t.Errorf("served by %v: whoever served last goes on if nobody may", members)
	}
	w.audit()
}

// TestRotation: new keys serve in committees made later; the old consensus key
// stays liable for those that it is in.
func TestRotation(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000, 1_000)
	rotation := w.rotationOf(0, 0, 20, 21)
	w.refused(1, rotation, "belongs to")
	w.refused(0, w.rotationOf(1, 0, 20, 21), "possession of consensus key")
	w.refused(0, w.rotationOf(0, 0, 1, 21), "is, or was, a validator's")
	w.must(0, rotation)
	w.refused(0, rotation, "were changed in epoch 1 already")
	w.refused(1, w.rotationOf(1, 1, 20, 22), "is, or was, a validator's")
	w.epochs(2)
	for e, want := range map[consensus.Epoch]int{1: 0, 2: 0, 3: 20, 4: 20} {
		if _, m, _ := w.signer(e, id(0)); m.ConsensusKey != keyOf('c', want).Public() {
			t.Errorf("epoch %d: consensus key %s, want the %dth", e, m.ConsensusKey.Short(), want)
		}
	}
	w.refused(0, w.rotationOf(0, 0, 0, 21), "is, or was, a validator's") // never back
	if why := w.report(9, w.double(id(0), consensus.Round{Epoch: 2, View: 5})); why != "" {
		t.Fatalf("evidence against the old key: %s", why)
	}
	if v := w.validator(0); !v.Tombstoned {
		t.Errorf("%+v", v)
	}
	w.refused(0, w.rotationOf(0, 0, 30, 31), "was convicted")
	w.audit()
}

// TestCommission: it changes from the next epoch on, once an epoch, by a bounded
// step.
func TestCommission(t *testing.T) {
	w := newWorld(t, quick(), 1_000)
	w.refused(1, chain.SetCommission{Validator: id(0), Bps: 50}, "belongs to")
	w.refused(0, chain.SetCommission{Validator: id(0), Bps: 101}, "the most in an epoch is 100")
	w.must(0, chain.SetCommission{Validator: id(0), Bps: 100})
	w.refused(0, chain.SetCommission{Validator: id(0), Bps: 50}, "was changed in epoch 1 already")
	if c := w.validator(0).Commission; c.Bps != 0 || c.NextBps != 100 {
		t.Errorf("%+v", c)
	}
	w.epochs(1)
	if c := w.validator(0).Commission; c.Bps != 100 {
		t.Errorf("%+v", c)
	}
	w.must(0, chain.SetCommission{Validator: id(0), Bps: 0})
}

// TestResourceFactor: burned fees of affiliated nodes raise the leader weight of
// a later committee, never its voting weight; fraud zeroes it.
func TestResourceFactor(t *testing.T) {
	p := quick()
	p.ResourceHalf = chain.Hyper(10)
	w := newWorld(t, p, 1_000, 1_000)
	node := keyOf('p', 0)
	affiliate := chain.Affiliate{Validator: id(0), Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id(0)))}
	w.refused(1, affiliate, "belongs to")
	w.refused(0, chain.Affiliate{Validator: id(0), Node: node.Public()}, "consent of node")
	w.must(0, affiliate)
	w.refused(0, affiliate, "is affiliated with validator")
	w.refused(1, chain.Unaffiliate{Node: node.Public()}, "belongs to")
	staking.CountBurned(w.kv, keyOf('p', 1).Public(), chain.Hyper(100)) // nobody's
	for _, c := range []struct{ burned, factor, leads uint64 }{
		{10, 1_250, 1_125}, {30, 1_875, 1_187}, {90, 2_250, 1_225}, {1_000_000, 2_499, 1_249}, {0, 0, 1_000},
	} {
		staking.CountBurned(w.kv, node.Public(), chain.Hyper(c.burned))
		w.epochs(1)
		_, m, _ := w.signer(w.env().Epoch+1, id(0))
		if v := w.validator(0); uint64(v.FactorBps) != c.factor || m.LeaderWeight != c.leads || m.Weight != 1_000 {
			t.Errorf("%d HYPER burned: factor %d, member %+v; want %d and %d", c.burned, v.FactorBps, m, c.factor, c.leads)
		}
	}
	staking.CountBurned(w.kv, node.Public(), chain.Hyper(50))
	w.epochs(1)
	staking.CountBurned(w.kv, node.Public(), chain.Hyper(50))
	if v, ok := staking.Fraud(w.kv, node.Public()); !ok || v != id(0) || w.validator(0).FactorBps != 0 {
		t.Errorf("fraud of %s, %v", v.Short(), ok)
	}
	staking.CountBurned(w.kv, node.Public(), chain.Hyper(50))
	w.epochs(1)
	if f := w.validator(0).FactorBps; f != 0 {
		t.Errorf("factor %d after fraud in the epoch", f)
	}
	w.must(0, chain.Unaffiliate{Node: node.Public()})
	w.refused(0, chain.Unaffiliate{Node: node.Public()}, "is not affiliated")
	if _, ok := staking.Fraud(w.kv, node.Public()); ok {
		t.Error("fraud of a node that is nobody's")
	}
	w.audit()
}
