package staking_test

import (
	"fmt"
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// op is one random operation.
type op struct {
	kind         string
	from, v, to  int
	amount       uint64 // nHYPER
	bps          uint16
	back         consensus.View // of views and epochs
	ms           uint64
	restart      bool // the state is read anew from a copy afterwards
	finalization bool
	mask         int // of signers that are missing
}

const people, most = 8, 12 // accounts that act, validators that there ever are

var opKinds = []string{
	"block", "block", "block", "block", "epoch", "epoch", "delegate", "delegate", "delegate", "undelegate", "undelegate", "redelegate", "redelegate",
	"withdraw", "restake", "commission", "rotate", "unjail", "bond", "evidence", "tip", "burn", "fraud",
}

func drawOp(t *rapid.T) op {
	return op{
		kind: rapid.SampledFrom(opKinds).Draw(t, "kind"), from: rapid.IntRange(0, people-1).Draw(t, "from"),
		v: rapid.IntRange(0, most-1).Draw(t, "v"), to: rapid.IntRange(0, most-1).Draw(t, "to"),
		amount: rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(1, 3*hyper), rapid.Uint64Range(hyper, 50_000*hyper)).Draw(t, "amount"),
		bps:    rapid.Uint16Range(0, 300).Draw(t, "bps"), back: consensus.View(rapid.IntRange(0, 3).Draw(t, "back")),
		ms: rapid.Uint64Range(1, 4*second).Draw(t, "ms"), restart: rapid.IntRange(0, 9).Draw(t, "restart") == 0,
		finalization: rapid.Bool().Draw(t, "finalization"), mask: rapid.IntRange(0, 15).Draw(t, "mask"),
	}
}

// apply performs an operation on a world. Whether it is rejected does not
// matter here, only what it leaves behind.
func (o op) apply(w *world) {
	w.Helper()
	switch o.kind {
	case "block":
		x := staking.Extras{}
		if o.finalization && w.view > 4 {
			if x.Finalization = w.someFinalization(w.view-2-o.back%2, o.mask); x.Finalization == nil {
				w.view++ // its leader shows nothing
			}
		}
		_ = w.begin(o.ms, x) // a repeated one is refused
		w.end()
	case "epoch":
		w.block(w.params.EpochMs)
	case "delegate":
		w.send(o.from, chain.Delegate{Validator: id(o.v), Amount: chain.Nano(o.amount)})
	case "undelegate":
		w.send(o.from, chain.Undelegate{Validator: id(o.v), Amount: chain.Nano(o.amount)})
	case "redelegate":
		w.send(o.from, chain.Redelegate{From: id(o.v), To: id(o.to), Amount: chain.Nano(o.amount)})
	case "withdraw", "restake":
		w.send(o.from, chain.WithdrawRewards{Validator: id(o.v), Restake: o.kind == "restake"})
	case "commission":
		w.send(o.v%people, chain.SetCommission{Validator: id(o.v), Bps: o.bps})
	case "rotate":
		w.send(o.v%people, w.rotationOf(o.v%people, o.v, most+o.to, most+o.to))
	case "unjail":
		w.send(o.v%people, chain.Unjail{Validator: id(o.v)})
	case "bond":
		w.send(o.v%people, w.bondOf(o.v%people, o.v, chain.Nano(o.amount)))
	case "evidence":
		epoch := w.env().Epoch
		round := consensus.Round{Epoch: max(epoch, consensus.Epoch(o.back)+1) - consensus.Epoch(o.back), View: 3}
		if _, _, in := w.signer(round.Epoch, id(o.v)); in {
			w.report(o.from, w.double(id(o.v), round))
		}
	case "tip":
		_, members, _ := staking.CommitteeOf(w.kv, w.env().Epoch)
		if why := tokens.Debit(w.kv, account(o.from), chain.Nano(o.amount), w.now); why == nil {
			staking.Tip(w.kv, &staking.Block{Env: *w.env(), Proposer: consensus.Signer(o.to % len(members))}, chain.Nano(o.amount))
		}
	case "burn":
		node := keyOf('p', o.from)
		w.send(o.v%people, chain.Affiliate{
			Validator: id(o.v), Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id(o.v))),
		})
		staking.CountBurned(w.kv, node.Public(), chain.Nano(o.amount))
	case "fraud":
		staking.Fraud(w.kv, keyOf('p', o.from).Public())
	}
}

// someFinalization is the certificate of a view without the masked members, or
// nil if the others are no quorum.
func (w *world) someFinalization(view consensus.View, mask int) *consensus.Certificate {
	committee, members, _ := staking.CommitteeOf(w.kv, w.env().Epoch)
	var signers []int
	weight := uint64(0)
	for i := range members {
		if i >= 4 || mask&(1<<i) == 0 {
			signers = append(signers, i)
			weight += members[i].Weight
		}
	}
	if weight < committee.Quorum() {
		return nil
	}
	return w.finalization(view, signers...)
}

func randomParams(t *rapid.T) chain.Params {
	p := quick()
	p.InflationBps, p.InflationFloorBps = 5_000, 5_000
	p.ReporterBps = rapid.SampledFrom([]uint16{0, 500, 5_000}).Draw(t, "reporter_bps")
	p.MaxJailedBps = 3_333
	p.MaxValidators = uint16(rapid.IntRange(1, 6).Draw(t, "max_validators"))
	p.CommissionStepBps = 100
	return p
}

// TestRandomOperations: whatever accounts, validators and time do, every sum
// holds after every step, supply is conserved, and nothing depends on restarts or
// on where one block ends: a second world that copies its state now and then,
// and keeps each operation in an overlay of its own, is the same to the byte.
func TestRandomOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params := randomParams(t)
		one := newWorld(t, params, 10_000, 5_000, 20_000, 1_000)
		two := newWorld(t, params, 10_000, 5_000, 20_000, 1_000)
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			o := drawOp(t)
			o.apply(one)
			if err := staking.Audit(one.kv, 10_000); err != nil {
				t.Fatalf("after %+v: %v", o, err)
			}
			base := two.kv
			two.kv = state.NewOverlay(base)
			o.apply(two)
			two.kv.Flush(base)
			if two.kv = base; o.restart {
				two.kv = restarted(base)
			}
		}
		if one.log.String() != two.log.String() {
			t.Fatal("the events differ after restarts")
		}
		if dump(one.kv) != dump(two.kv) {
			t.Fatal("the states differ after restarts")
		}
	})
}

func restarted(r state.Reader) *state.Overlay {
	fresh := state.NewMemoryBackend()
	for key, value := range r.Iterate([]byte{0}, nil) {
		fresh.Set(append([]byte(nil), key...), append([]byte(nil), value...))
	}
	return state.NewOverlay(fresh)
}

// TestSharesNeverMakeValue: whoever puts stake in and takes it out again never
// gains, and loses at most a nHYPER for each step, whatever others do between,
// as long as nobody is slashed or rewarded.
func TestSharesNeverMakeValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, quick(), 10_000, 10_000)
		if rapid.Bool().Draw(t, "slashed before") {
			num := rapid.Uint64Range(1, 9_999).Draw(t, "num")
			w.do(func() (chain.Events, *chain.Rejection) { return staking.SlashForTest(w.kv, id(0), 1, num, 10_000), nil })
		}
		var in, out [people]uint64
		steps := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.IntRange(1, people-1).Draw(t, "who")
			amount := rapid.Uint64Range(hyper, 1_000*hyper+7).Draw(t, "amount")
			before := w.validator(0)
			if rapid.Bool().Draw(t, "in") {
				if w.send(n, chain.Delegate{Validator: id(0), Amount: chain.Nano(amount)}) == "" {
					in[n] += amount
				}
			} else if w.send(n, chain.Undelegate{Validator: id(0), Amount: chain.Nano(amount)}) == "" {
				out[n] += amount
			}
			steps++
			// A share's worth never falls: after · shares before ≥ before · shares after.
			after := w.validator(0)
			if lessProduct(after.Stake.Nano(), before.Shares, before.Stake.Nano(), after.Shares) {
				t.Fatalf("a share's worth fell from %s / %d to %s / %d", before.Stake, before.Shares, after.Stake, after.Shares)
			}
		}
		for n := 1; n < people; n++ {
			d, ok := staking.DelegationOf(w.kv, account(n), id(0))
			if ok {
				before := w.validator(0).Stake
				w.must(n, chain.Undelegate{Validator: id(0)})
				out[n] += sub(before, w.validator(0).Stake).Nano()
			}
			// What others' rounding leaves may fall to those who stay, a share's price at most.
			price := w.validator(0).Stake.Nano()/w.validator(0).Shares + 1
			if out[n] > in[n]+uint64(steps)*price {
				t.Fatalf("account %d put in %d and took out %d (%d shares)", n, in[n], out[n], d.Shares)
			}
			if in[n] > out[n]+uint64(steps+1)*price {
				t.Fatalf("account %d put in %d and took out only %d", n, in[n], out[n])
			}
		}
		w.audit()
	})
}

// lessProduct reports a·b < c·d.
func lessProduct(a, b, c, d uint64) bool {
	hi1, lo1 := bits.Mul64(a, b)
	hi2, lo2 := bits.Mul64(c, d)
	return hi1 < hi2 || hi1 == hi2 && lo1 < lo2
}

// TestIndex: rewards that are divided by an index are never more than there
// were, and what the index leaves is less than a nHYPER.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var at staking.Index
		carry := chain.Amount{}
		shares := rapid.Uint64Range(1, 1<<60).Draw(t, "shares")
		mine := rapid.Uint64Range(0, shares).Draw(t, "mine")
		total, whole, part := uint64(0), uint64(0), uint64(0)
		for range rapid.IntRange(1, 5).Draw(t, "rewards") {
			amount := rapid.Uint64Range(0, 1<<50).Draw(t, "amount")
			total += amount
			before := at
			at, carry = staking.Spread(at, chain.Nano(carry.Nano()+amount), shares)
			step := staking.Since(at, before)
			whole += step.Times(shares)
			part += step.Times(mine) + step.Times(shares-mine)
		}
		if whole+carry.Nano() > total || part > whole || total-whole-carry.Nano() > 5 || carry.Nano() > 1 {
			t.Fatalf("%d among %d shares: %d given, %d in two parts, %s carried", total, shares, whole, part, carry)
		}
	})
}

// TestTranscript is a whole story in events; its golden file is read as a diff.
func TestTranscript(t *testing.T) {
	p := quick()
	p.MaxJailedBps = 3_333
	p.ResourceHalf = chain.Hyper(10)
	w := newWorld(t, p, 10_000, 20_000, 30_000, 25_000)
	show := func(mask int) {
		for range 45 {
			x := staking.Extras{}
			if w.view > 2 {
				x.Finalization = w.someFinalization(w.view-2, mask)
			}
			if err := w.begin(100, x); err != nil {
				t.Fatal(err)
			}
			w.end()
		}
		w.epochs(1)
	}
	w.must(9, w.bondOf(9, 9, chain.Hyper(5_000)))
	w.must(10, chain.Delegate{Validator: id(9), Amount: chain.Hyper(10_000)})
	w.must(11, chain.Delegate{Validator: id(0), Amount: chain.Hyper(700)})
	w.must(0, chain.SetCommission{Validator: id(0), Bps: 100})
	node := keyOf('p', 0)
	w.must(1, chain.Affiliate{Validator: id(1), Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id(1)))})
	staking.CountBurned(w.kv, node.Public(), chain.Hyper(10))
	show(0)
	w.must(11, chain.Redelegate{From: id(0), To: id(1), Amount: chain.Hyper(200)})
	w.must(11, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(100)})
	w.must(2, w.rotationOf(2, 2, 20, 21))
	show(0)
	show(0)
	w.must(10, chain.WithdrawRewards{Validator: id(9)})
	w.must(0, chain.WithdrawRewards{Validator: id(0), Restake: true})
	if why := w.report(12, w.double(id(0), consensus.Round{Epoch: 3, View: 4})); why != "" {
		t.Fatal(why)
	}
	if err := w.begin(100, staking.Extras{Evidence: []consensus.Evidence{w.double(id(9), consensus.Round{Epoch: 3, View: 6})}}); err != nil {
		t.Fatal(err)
	}
	w.must(1, chain.Unaffiliate{Node: node.Public()})
	w.must(10, chain.Undelegate{Validator: id(9)})
	w.epochs(12)
	w.audit()
	fmt.Fprintf(&w.log, "state %s\n", crypto.DomainStateValue.Hash([]byte(dump(w.kv))))
	golden.Check(t, "testdata/transcript.txt", w.log.String())
}
