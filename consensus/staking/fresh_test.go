package staking_test

import (
	"maps"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// earned returns what an account could withdraw at a validator as a delegator.
func (w *world) earned(n, v int) chain.Amount {
	earned, _ := staking.Rewards(w.kv, account(n), id(v))
	return earned
}

// seenEpochs closes epochs in which everybody was seen to vote.
func (w *world) seenEpochs(n int) {
	w.Helper()
	for range n {
		for range 2 {
			w.block(1)
		}
		if err := w.begin(1, staking.Extras{Finalization: w.finalization(w.view - 2)}); err != nil {
			w.Fatal(err)
		}
		w.end()
		w.block(w.params.EpochMs)
	}
}

// TestLateJoinerEarnsNothing: stake that joins in an epoch, in whichever way,
// takes no part of its rewards nor of the next's, whose committees it is not in,
// and a part by its shares of those after. Nobody else earns less for it.
func TestLateJoinerEarnsNothing(t *testing.T) {
	p := quick()
	p.InflationBps, p.InflationFloorBps = 5_000, 5_000
	start := func() *world {
		w := newWorld(t, p, 10_000, 10_000)
		w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1_000)})
		w.must(8, chain.Delegate{Validator: id(1), Amount: chain.Hyper(90_000)})
		w.seenEpochs(4)
		return w
	}
	for _, c := range []struct {
		name   string
		joiner int
		join   func(w *world)
	}{
		{"delegation", 10, func(w *world) { w.must(10, chain.Delegate{Validator: id(0), Amount: chain.Hyper(50_000)}) }},
		{"redelegation", 8, func(w *world) { w.must(8, chain.Redelegate{From: id(1), To: id(0), Amount: chain.Hyper(50_000)}) }},
		{"twice", 10, func(w *world) {
			w.must(10, chain.Delegate{Validator: id(0), Amount: chain.Hyper(20_000)})
			w.must(10, chain.Delegate{Validator: id(0), Amount: chain.Hyper(30_000)})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			with, without := start(), start()
			c.join(with)
			for epoch := range 2 {
				with.seenEpochs(1)
				without.seenEpochs(1)
				with.audit()
				wantAmount(t, "what the late joiner earned", with.earned(c.joiner, 0), chain.Amount{})
				for _, n := range []int{0, 9} {
					if got, want := with.earned(n, 0), without.earned(n, 0); got != want || want.IsZero() {
						t.Errorf("after %d epochs account %d earned %s, without the late joiner %s", epoch+1, n, got, want)
					}
				}
			}
			before := map[int]uint64{}
			for _, n := range []int{0, 9, c.joiner} {
				before[n] = with.earned(n, 0).Nano()
			}
			with.seenEpochs(1)
			old, late := with.earned(9, 0).Nano()-before[9], with.earned(c.joiner, 0).Nano()-before[c.joiner]
			if late < 50*old-50 || late > 50*old+50 { // 50,000 to 1,000, each rounded down
				t.Errorf("then it earned %d, a 50th of its stake %d", late, old)
			}
			with.must(c.joiner, chain.WithdrawRewards{Validator: id(0), Restake: true})
			with.audit()
			old = with.earned(9, 0).Nano()
			with.seenEpochs(1)
			old = with.earned(9, 0).Nano() - old
			if got := with.earned(c.joiner, 0).Nano(); got > 50*old+50 {
				t.Errorf("what was restaked a moment before earned: %d, a 50th of its stake %d", got, old)
			}
			with.audit()
		})
	}
}

// TestANewValidatorEarnsWithItsCommittee: a bond's first rewards are those of the
// first epoch that it serves in.
func TestANewValidatorEarnsWithItsCommittee(t *testing.T) {
	w := newWorld(t, quick(), 10_000, 10_000)
	w.must(5, w.bondOf(5, 5, chain.Hyper(20_000)))
	joined := w.env().Epoch
	for !w.serves(5) {
		w.epochs(1)
		wantAmount(t, "before it serves", w.earned(5, 5), chain.Amount{})
	}
	if epoch := w.env().Epoch; epoch != (staking.Fresh{Epoch: joined}).EarnsFrom() {
		t.Fatalf("it serves from epoch %d on", epoch)
	}
	w.epochs(1)
	if w.earned(5, 5).IsZero() {
		t.Error("it earned nothing in the epoch that it served in")
	}
	w.audit()
}

// serves reports whether a validator is in the present committee.
func (w *world) serves(n int) bool {
	_, _, in := w.signer(w.env().Epoch, id(n))
	return in
}

// TestWhoJoinedLastLeavesFirst: who adds stake and takes as much out again goes on
// earning for the rest as if nothing had been.
func TestWhoJoinedLastLeavesFirst(t *testing.T) {
	one, two := newWorld(t, quick(), 10_000), newWorld(t, quick(), 10_000)
	for _, w := range []*world{one, two} {
		w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1_000)})
		w.epochs(3)
	}
	one.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(700)})
	one.epochs(1)
	two.epochs(1)
	one.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(300)})
	one.must(9, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(400)}) // of two epochs
	one.audit()
	d, _ := staking.DelegationOf(one.kv, account(9), id(0))
	if len(d.Fresh) != 1 || d.Fresh[0].Shares != 600*hyper {
		t.Fatalf("fresh are %+v, want 600 HYPER of the first time", d.Fresh)
	}
	one.must(9, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(600)})
	one.epochs(3)
	two.epochs(3)
	one.audit()
	got, want := one.earned(9, 0), two.earned(9, 0).Nano()
	if got.Nano() > want || got.Nano() < want-3 { // each time that it is counted rounds down
		t.Errorf("it earned %s, without coming and going %d", got, want)
	}
}

// TestNobodyEarns: if all that earned has left, an income waits in the pot, not
// for who joins.
func TestNobodyEarns(t *testing.T) {
	p := quick()
	p.InflationBps, p.InflationFloorBps = 5_000, 5_000
	w := newWorld(t, p, 10_000)
	w.epochs(1)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(5_000)})
	w.must(0, chain.Undelegate{Validator: id(0)})
	before, held := staking.PotOf(w.kv), staking.PurseOf(w.kv, id(0)).Held
	w.epochs(2)
	wantAmount(t, "what the late joiner earned", w.earned(9, 0), chain.Amount{})
	if pot := staking.PotOf(w.kv); !before.Less(pot) {
		t.Errorf("the pot held %s and holds %s", before, pot)
	}
	wantAmount(t, "the purse", staking.PurseOf(w.kv, id(0)).Held, held)
	w.audit()
}

// TestSlashesReachFreshStake: what joined a moment ago loses what all else does,
// where it is, after it moved and in the queue.
func TestSlashesReachFreshStake(t *testing.T) {
	p := quick()
	p.ReporterBps, p.EquivocationBps = 0, 1_000
	w := newWorld(t, p, 1_000, 100_000, 100_000)
	w.epochs(2)
	for n := 8; n < 11; n++ {
		w.must(n, chain.Delegate{Validator: id(0), Amount: chain.Hyper(100)})
	}
	w.must(9, chain.Redelegate{From: id(0), To: id(1)})
	w.must(10, chain.Undelegate{Validator: id(0)})
	round := consensus.Round{Epoch: w.env().Epoch, View: 1}
	if why := w.report(30, w.double(id(0), round)); why != "" {
		t.Fatal(why)
	}
	w.audit()
	d, _ := staking.DelegationOf(w.kv, account(8), id(0))
	v := w.validator(0)
	wantAmount(t, "where it was", v.WorthOf(d), chain.Hyper(90))
	wantAmount(t, "where it moved", staking.HopsWorth(w.kv, account(9), id(1)), chain.Hyper(90))
	wantAmount(t, "in the queue", staking.UnbondingOf(w.kv, id(0), round.Epoch).Stake, chain.Hyper(90))
	w.epochs(3)
	w.must(9, chain.WithdrawRewards{Validator: id(1)})
	w.audit()
}

// lots is a dumb second account of who earns: every share with the epoch in
// which it joined.
type lots map[[2]int]map[consensus.Epoch]uint64 // of account and validator

func (l lots) join(n, v int, e consensus.Epoch, shares uint64) {
	if l[[2]int{n, v}] == nil {
		l[[2]int{n, v}] = map[consensus.Epoch]uint64{}
	}
	l[[2]int{n, v}][e] += shares
}

func (l lots) leave(n, v int, shares uint64) {
	lot := l[[2]int{n, v}]
	for _, e := range slices.Backward(slices.Sorted(maps.Keys(lot))) {
		taken := min(shares, lot[e])
		lot[e] -= taken
		shares -= taken
	}
}

func (l lots) of(n, v int) (total uint64) {
	for _, shares := range l[[2]int{n, v}] {
		total += shares
	}
	return total
}

// TestRewardsAgainstLots: who earns what is what a list of every share ever
// issued says, to a few nHYPER of rounding.
func TestRewardsAgainstLots(t *testing.T) {
	const validators, accounts = 2, 6
	rapid.Check(t, func(t *rapid.T) {
		p := quick()
		p.InflationBps, p.InflationFloorBps = 5_000, 5_000
		w := newWorld(t, p, 10_000, 20_000)
		list, want := lots{}, map[[2]int]*big.Rat{}
		for n := range accounts {
			for v := range validators {
				want[[2]int{n, v}] = new(big.Rat)
			}
		}
		list.join(0, 0, 0, 10_000*hyper)
		list.join(1, 1, 0, 20_000*hyper)
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			n, v := rapid.IntRange(0, accounts-1).Draw(t, "n"), rapid.IntRange(0, 1).Draw(t, "v")
			amount := chain.Nano(rapid.Uint64Range(hyper, 5_000*hyper).Draw(t, "amount"))
			before := list.of(n, v)
			switch rapid.SampledFrom([]string{"in", "in", "out", "withdraw", "epoch", "epoch"}).Draw(t, "what") {
			case "in":
				w.must(n, chain.Delegate{Validator: id(v), Amount: amount})
			case "out":
				w.send(n, chain.Undelegate{Validator: id(v), Amount: amount})
			case "withdraw":
				owed := w.earned(n, v)
				if w.send(n, chain.WithdrawRewards{Validator: id(v), Restake: true}) == "" {
					want[[2]int{n, v}].Sub(want[[2]int{n, v}], nano(owed))
				}
			case "epoch":
				list.close(w, want)
				continue
			}
			d, _ := staking.DelegationOf(w.kv, account(n), id(v))
			if d.Shares >= before {
				list.join(n, v, w.env().Epoch, d.Shares-before)
			} else {
				list.leave(n, v, before-d.Shares)
			}
			if d.Shares == 0 {
				want[[2]int{n, v}] = new(big.Rat) // it was paid
			}
		}
		for pair, owed := range want { // order-free: each is looked at alone
			got := nano(w.earned(pair[0], pair[1]))
			off := new(big.Rat).Sub(owed, got)
			if off.Abs(off).Cmp(big.NewRat(int64(2*steps+2), 1)) > 0 {
				t.Fatalf("account %d earned %s at validator %d, its lots say %s", pair[0], got, pair[1], owed.FloatString(1))
			}
		}
		w.audit()
	})
}

func nano(a chain.Amount) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(a.Nano())) }

// close ends an epoch, and divides what each validator's delegators were given
// among the lots that joined two epochs ago or earlier.
func (l lots) close(w *world, want map[[2]int]*big.Rat) {
	epoch := w.env().Epoch
	var before [2]chain.Amount
	for v := range before {
		before[v] = staking.PurseOf(w.kv, id(v)).Held
	}
	w.seenEpochs(1)
	for v := range before {
		given := nano(sub(staking.PurseOf(w.kv, id(v)).Held, before[v]))
		earning, total := map[[2]int]uint64{}, uint64(0)
		for pair, lot := range l { // order-free: sums
			for e, shares := range lot {
				if pair[1] == v && (e == 0 || e+2 <= epoch) { // 0: genesis
					earning[pair] += shares
					total += shares
				}
			}
		}
		for pair, shares := range earning { // order-free: each its own
			part := new(big.Rat).SetFrac(new(big.Int).SetUint64(shares), new(big.Int).SetUint64(max(total, 1)))
			want[pair].Add(want[pair], part.Mul(part, given))
		}
	}
}
