package staking_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestVotesShown: what a block may show of finalizations and late votes, and
// what it may not.
func TestVotesShown(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000, 1_000)
	w.view = 40
	late := w.lateVote
	must := func(x staking.Extras) {
		t.Helper()
		if err := w.begin(1, x); err != nil {
			t.Fatal(err)
		}
		w.audit()
	}
	must(staking.Extras{Finalization: w.finalization(38, 0, 1, 2)}) // block of view 40
	votes := func(list ...consensus.Vote) staking.Extras { return staking.Extras{LateVotes: list} }
	cert := func(c *consensus.Certificate) staking.Extras { return staking.Extras{Finalization: c} }
	short := w.finalization(39)
	short.Signers, short.Signatures = []byte{0b0011}, short.Signatures[:2]
	forged := w.finalization(39)
	forged.Signatures[2] = forged.Signatures[1]
	wide := w.finalization(39)
	wide.Signers = append(wide.Signers, 0)
	other := w.finalization(38)
	other.Statement.Proposal.Digest = crypto.Digest{99}
	notarization := w.finalization(39)
	notarization.Statement.Kind = consensus.KindNotarize
	foreign := w.finalization(39)
	foreign.Statement.Proposal.Round.Epoch = 2
	for _, c := range []struct { // blocks of view 41
		reason string
		x      staking.Extras
	}{
		{"finalization: of view 40, the block is of 41", cert(w.finalization(40))},
		{"finalization: of view 8, the block is of 41", cert(w.finalization(8))},
		{"finalization: of view 42, the block is of 41", cert(w.finalization(42))},
		{"finalization: of view 18446744073709551615, the block", cert(w.finalization(1<<64 - 1))},
		{"finalization: nobody in it was not shown", cert(w.finalization(38, 0, 1, 2))},
		{"finalization: of another proposal", cert(other)},
		{"finalization: weight 2000, quorum 2667", cert(short)},
		{"finalization: signature 2 does not hold", cert(forged)},
		{"finalization: bitmap of 2 bytes, want 1", cert(wide)},
		{"finalization: a notarize, want a finalize", cert(notarization)},
		{"finalization: of epoch 2, the block is of 1", cert(foreign)},
		{"late vote 0: for what was not shown to be final in view 37", votes(late(37, 3, 37))},
		{"late vote 0: for what was not shown to be final in view 38", votes(late(38, 3, 99))},
		{"late vote 0: by signer 1, who was shown before", votes(late(38, 1, 38))},
		{"late vote 1: by signer 3, who was shown before", votes(late(38, 3, 38), late(38, 3, 38))},
		{"late vote 0: of view 40", votes(late(40, 3, 40))},
		{"late vote 0: by signer 9 of 4", votes(consensus.Finalize{Proposal: finalize(consensus.Round{Epoch: 1, View: 38}, 38).Proposal, Signer: 9})},
		{"late vote 0: by signer 3, whose signature does not hold", votes(consensus.Finalize{Proposal: finalize(consensus.Round{Epoch: 1, View: 38}, 38).Proposal, Signer: 3})},
	} {
		w.shownInVain(t, c.reason, c.x)
	}
	// A leader keeps what may stand.
	w.view = 41
	_, members, _ := staking.CommitteeOf(w.kv, 1)
	kept, _, err := staking.TakeExtras(w.kv, &staking.Block{Env: *w.env(), View: 41, Members: members}, staking.Extras{
		Finalization: forged, LateVotes: []consensus.Vote{late(38, 1, 38), late(38, 3, 38)},
	})
	if err == nil || kept.Finalization != nil || len(kept.LateVotes) != 1 {
		t.Errorf("kept %+v, %v", kept, err)
	}
	must(staking.Extras{Finalization: w.finalization(39, 0, 1, 2), LateVotes: []consensus.Vote{late(39, 3, 39)}})
	w.view = 71
	w.shownInVain(t, "of view 38, the block is of 71", votes(late(38, 3, 38)))
}

// lateVote is a finalize vote of a member for a view of epoch 1.
func (w *world) lateVote(view consensus.View, signer int, content byte) consensus.Vote {
	w.Helper()
	_, members, _ := staking.CommitteeOf(w.kv, 1)
	s := finalize(consensus.Round{Epoch: 1, View: view}, content)
	return consensus.SignVote(w.keyOf(members[signer].ConsensusKey), consensus.Signer(signer), testChain, s)
}

// shownInVain begins a block whose items are refused for a reason, and takes it
// back.
func (w *world) shownInVain(t *testing.T, reason string, x staking.Extras) {
	t.Helper()
	before, view := w.kv, w.view
	w.kv = state.NewOverlay(before)
	if err := w.begin(1, x); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("got %v, want %q", err, reason)
	}
	w.kv, w.view = before, view
}

// silentEpoch shows votes of a number of views in which the members of weight
// 400 have no part, but for one late vote if withLate says so, and closes the
// epoch.
func (w *world) silentEpoch(views int, withLate bool) {
	w.Helper()
	committee, members, _ := staking.CommitteeOf(w.kv, 1)
	var present []int
	silent := 0
	for i, m := range members {
		if m.Weight == 400 {
			silent = i
			continue
		}
		present = append(present, i)
	}
	for range views {
		for members[committee.Leader(w.view)].Weight == 400 {
			w.view++ // its views pass in vain
		}
		x := staking.Extras{}
		if w.view > 2 {
			x.Finalization = w.finalization(w.view-2, present...)
			if withLate && w.view > 10 {
				x.LateVotes = []consensus.Vote{w.lateVote(w.view-2, silent, byte(w.view-2))}
				withLate = false
			}
		}
		if err := w.begin(1, x); err != nil {
			w.Fatal(err)
		}
	}
	w.epochs(1)
	w.audit()
}

// TestSilence: a member that no leader of half the weight showed, of enough
// views, is jailed and loses a little; one that was seen once is not.
func TestSilence(t *testing.T) {
	p := quick()
	p.MaxJailedBps = 2_000
	stakes := []uint64{1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 400, 400}
	run := func(views int, withLate bool) *world {
		w := newWorld(t, p, append([]uint64(nil), stakes...)...)
		w.silentEpoch(views, withLate)
		return w
	}
	jailed := func(w *world) (n int) {
		for _, v := range staking.Validators(w.kv) {
			if v.JailedUntil != 0 {
				n++
			}
		}
		return n
	}
	if n := jailed(run(20, false)); n != 0 {
		t.Errorf("%d jailed after a few views", n)
	}
	if n := jailed(run(60, true)); n != 1 {
		t.Errorf("%d jailed, of two silent one voted late, once", n)
	}
	w := run(60, false)
	if n := jailed(w); n != 2 {
		t.Fatalf("%d jailed, want both", n)
	}
	wantAmount(t, "stake", w.validator(8).Stake, chain.Nano(400*hyper*9_990/10_000))
	w.refused(8, chain.Unjail{Validator: id(8)}, "is jailed until")
	w.refused(1, chain.Unjail{Validator: id(8)}, "belongs to")
	w.refused(1, chain.Unjail{Validator: id(1)}, "is not jailed")
	w.epochs(2)
	if _, _, in := w.signer(3, id(8)); in {
		t.Error("a jailed validator is in the committee that was made then")
	}
	w.must(8, chain.Unjail{Validator: id(8)})
	w.epochs(1)
	if _, _, in := w.signer(w.env().Epoch+1, id(8)); !in {
		t.Error("an unjailed validator does not serve")
	}
	// No more than a part of the weight is jailed in one epoch.
	p.MaxJailedBps = 799
	if n := jailed(run(60, false)); n != 1 {
		t.Errorf("%d jailed, with room for one", n)
	}
	p.MaxJailedBps = 100
	if n := jailed(run(60, false)); n != 0 {
		t.Errorf("%d jailed, with room for none", n)
	}
}

// rewardsWorld has a validator 1 with a commission of 10 %, half of whose stake
// account 9 delegates, and all rewards withdrawn.
func rewardsWorld(t *testing.T, p chain.Params) *world {
	t.Helper()
	w := newWorld(t, p, 1_000, 2_000, 3_000, 1_000)
	for range 10 { // commission of validator 1 becomes 10 %
		w.must(1, chain.SetCommission{Validator: id(1), Bps: min(w.validator(1).Commission.Bps+100, 1_000)})
		w.epochs(1)
	}
	w.must(9, chain.Delegate{Validator: id(1), Amount: chain.Hyper(2_000)})
	w.epochs(2)
	for n := range 4 {
		if why := w.send(n, chain.WithdrawRewards{Validator: id(n)}); why != "" && !strings.Contains(why, "earned nothing") {
			t.Fatal(why)
		}
	}
	w.send(9, chain.WithdrawRewards{Validator: id(1)})
	w.refused(9, chain.WithdrawRewards{Validator: id(1)}, "has earned nothing")
	w.refused(9, chain.WithdrawRewards{Validator: id(60)}, "is not bonded")
	return w
}

// TestRewards divides an epoch's rewards by hand.
func TestRewards(t *testing.T) {
	p := quick()
	p.InflationBps, p.InflationFloorBps, p.TargetBondedBps, p.ProposerBps = 5_000, 5_000, 10_000, 2_000
	w := rewardsWorld(t, p)
	// An epoch with two views shown, by two proposers, and a tip for each.
	epoch := w.env().Epoch
	committee, members, _ := staking.CommitteeOf(w.kv, epoch)
	all, some := w.finalization(1), w.finalization(2, 0, 1, 2, 3)
	weightOf := map[staking.ID]uint64{}
	total := uint64(0)
	for _, m := range members {
		weightOf[m.ID], total = m.Weight, total+m.Weight
	}
	credit, tips := map[staking.ID]uint64{}, map[staking.ID]uint64{}
	for i, c := range []*consensus.Certificate{nil, nil, all, some} {
		view := consensus.View(i + 1)
		proposer := committee.Leader(view)
		if err := w.begin(1, staking.Extras{Finalization: c}); err != nil {
			t.Fatal(err)
		}
		b := &staking.Block{Env: *w.env(), View: view, Proposer: proposer, Members: members}
		tokens.Debit(w.kv, account(30), chain.Nano(700), w.now)
		staking.Tip(w.kv, b, chain.Nano(700))
		tips[members[proposer].ID] += 700
		if c != nil {
			credit[members[proposer].ID] += total
		}
		w.audit()
	}
	pot := staking.PotOf(w.kv)
	supply := tokens.SupplyOf(w.kv)
	w.epochs(1)
	minted := sub(tokens.SupplyOf(w.kv).Minted, supply.Minted)
	if minted.IsZero() {
		t.Fatal("nothing was minted")
	}
	budget := pot.Nano() + minted.Nano()
	proposers := budget * 2_000 / 10_000
	stake := budget - proposers
	income := func(v staking.ID) uint64 {
		return mulDiv(stake, weightOf[v], total) + mulDiv(proposers, credit[v], 2*total) + tips[v]
	}
	given := uint64(0)
	for v := range weightOf { // order-free: a sum
		given += income(v) - tips[v]
	}
	if got := staking.PotOf(w.kv).Nano(); got != budget-given || got > 8 {
		t.Errorf("%d are left in the pot, want the dust, %d", got, budget-given)
	}
	earned, commission := staking.Rewards(w.kv, account(1), id(1))
	theirs, _ := staking.Rewards(w.kv, account(9), id(1))
	whole := income(id(1))
	if want := whole / 10; commission.Nano() != want {
		t.Errorf("commission %s, want a tenth of %d", commission, whole)
	}
	rest := whole - whole/10
	if earned != theirs || earned.Nano() > rest/2 || earned.Nano()+2 < rest/2 {
		t.Errorf("half of the stake each: %s and %s of %d", earned, theirs, rest)
	}
	before := w.balance(9)
	w.must(9, chain.WithdrawRewards{Validator: id(1)})
	wantAmount(t, "withdrawn", sub(w.balance(9), before), theirs)
	was := w.validator(1).Stake
	w.must(1, chain.WithdrawRewards{Validator: id(1), Restake: true})
	wantAmount(t, "restaked", sub(w.validator(1).Stake, was), chain.Nano(earned.Nano()+commission.Nano()))
	w.audit()
}

func mulDiv(a, b, c uint64) uint64 {
	p, _ := chain.Nano(a).ShareFloor(b, c)
	return p.Nano()
}

// TestInflation: the curve falls from year to year to its floor, and above the
// target ratio as its inverse.
func TestInflation(t *testing.T) {
	const year = 365 * 24 * 3600 * 1000
	p := chain.DefaultParams() // 5 %, falling by 15 % a year, to 1 %; target a half
	supply := tokens.Supply{Minted: chain.TotalSupply}
	part := func(bps uint64) chain.Amount { a, _ := chain.TotalSupply.ShareFloor(bps, 10_000); return a }
	for _, c := range []struct {
		year   uint64
		bonded uint64 // in 1/10,000 of the supply
		want   chain.Amount
	}{
		{0, 100, part(500)}, {0, 5_000, part(500)}, {0, 10_000, part(250)}, {0, 6_250, part(400)},
		{1, 5_000, part(425)}, {2, 5_000, part(361)}, {3, 5_000, part(306)}, {9, 5_000, part(113)}, {10, 5_000, part(100)}, {500, 5_000, part(100)},
	} {
		got := staking.Inflation(&p, supply, part(c.bonded), staking.Span{SinceGenesis: c.year * year, Length: year})
		if got != c.want {
			t.Errorf("year %d, %d bonded: %s, want %s", c.year, c.bonded, got, c.want)
		}
	}
	half := staking.Inflation(&p, supply, part(100), staking.Span{Length: year / 2})
	wantAmount(t, "half a year", half, part(250))
	burned := tokens.Supply{Minted: chain.Nano(1<<64 - 1), Burned: chain.Nano(1 << 63)}
	if got := staking.Inflation(&p, burned, chain.Amount{}, staking.Span{Length: year}); !got.IsZero() {
		t.Errorf("%s are minted beyond 64 bits", got)
	}
}
