package staking_test

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestSlashReachesWhatLeft convicts a validator in epoch 3. Its stake loses a
// twentieth, and so does what left it since epoch 2, whose weight served in
// epoch 3, by the queue or to another validator; what left in epoch 1 does not.
func TestSlashReachesWhatLeft(t *testing.T) {
	w := newWorld(t, quick(), 100_000, 5_000_000, 5_000_000, 5_000_000)
	for n := 10; n < 16; n++ {
		w.must(n, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1_000)})
	}
	w.must(10, chain.Undelegate{Validator: id(0)})
	w.must(11, chain.Redelegate{From: id(0), To: id(1)})
	w.epochs(1)
	w.must(12, chain.Undelegate{Validator: id(0)})
	w.must(13, chain.Redelegate{From: id(0), To: id(1)})
	w.epochs(2)
	w.must(14, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(400)})
	w.must(14, chain.Delegate{Validator: id(2), Amount: chain.Hyper(1_000)}) // other stake of the same account
	supply := tokens.SupplyOf(w.kv)
	reporter := w.balance(20)
	evidence := w.double(id(0), consensus.Round{Epoch: 3, View: 7})
	if why := w.report(20, evidence); why != "" {
		t.Fatal(why)
	}
	w.audit()
	after := func(amount uint64) chain.Amount { return chain.Nano(amount * hyper * 95 / 100) }
	wantAmount(t, "stake", w.validator(0).Stake, after(100_000+600+1_000))
	wantAmount(t, "left in epoch 1", staking.UnbondingOf(w.kv, id(0), 1).Stake, chain.Hyper(1_000))
	wantAmount(t, "moved in epoch 1", staking.HopsWorth(w.kv, account(11), id(1)), chain.Hyper(1_000))
	wantAmount(t, "left in epoch 2", staking.UnbondingOf(w.kv, id(0), 2).Stake, after(1_000))
	wantAmount(t, "moved in epoch 2", staking.HopsWorth(w.kv, account(13), id(1)), after(1_000))
	wantAmount(t, "left in epoch 4", staking.UnbondingOf(w.kv, id(0), 4).Stake, after(400))
	wantAmount(t, "others' stake", w.validator(1).Stake, chain.Nano(5_000_000*hyper+1_000*hyper+950*hyper))
	wantAmount(t, "the same account's", w.validator(2).Stake, chain.Hyper(5_001_000))
	lost := chain.Nano((100_000 + 1_600 + 1_000 + 1_000 + 400) * hyper / 20)
	reward, _ := lost.ShareFloor(uint64(w.params.ReporterBps), 10_000)
	wantAmount(t, "reward", sub(w.balance(20), reporter), reward)
	wantAmount(t, "burned", sub(tokens.SupplyOf(w.kv).Burned, supply.Burned), sub(lost, reward))

	// Never twice: neither for the same votes, nor for other votes of the round.
	if why := w.report(21, evidence); !strings.Contains(why, "was convicted before") {
		t.Errorf("reported again: %q", why)
	}
	if why := w.report(21, w.double(id(0), consensus.Round{Epoch: 3, View: 7})); !strings.Contains(why, "was convicted before") {
		t.Errorf("reported again: %q", why)
	}
	w.refused(15, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1)}, "was convicted and takes no stake")
	w.refused(0, chain.Unjail{Validator: id(0)}, "was convicted and stays out")
	w.epochs(3)
	if _, _, in := w.signer(w.env().Epoch, id(0)); in {
		t.Error("a convicted validator serves")
	}
	w.must(15, chain.Undelegate{Validator: id(0)})
	w.audit()
}

// TestEvidenceExpires with the stake that stood behind it, to the millisecond.
func TestEvidenceExpires(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 100_000, 100_000, 100_000)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(100)})
	w.epochs(2)
	left := w.env().Epoch // 3: its weight serves in 4
	w.must(9, chain.Undelegate{Validator: id(0)})
	w.epochs(2)
	until := w.now + chain.TimeMs(w.params.UnbondingMs())
	evidence, third := w.double(id(0), consensus.Round{Epoch: left + 1, View: 1}), w.double(id(1), consensus.Round{Epoch: left + 1, View: 1})
	old := w.double(id(2), consensus.Round{Epoch: 2, View: 1})
	for w.now < until-chain.TimeMs(w.params.EpochMs) {
		w.epochs(1)
	}
	w.block(uint64(until-w.now) - 1)
	if why := w.report(20, old); !strings.Contains(why, "was taken until") && !strings.Contains(why, "committee is not known") {
		t.Errorf("old evidence: %q", why)
	}
	if why := w.report(20, evidence); why != "" {
		t.Fatalf("a millisecond before: %s", why)
	}
	if held := staking.UnbondingOf(w.kv, id(0), left).Stake; held != chain.Hyper(95) {
		t.Errorf("the stake behind it is %s", held)
	}
	w.block(1)
	if why := w.report(20, third); !strings.Contains(why, "was taken until") {
		t.Errorf("after: %q", why)
	}
	if held := staking.UnbondingOf(w.kv, id(0), left).Stake; !held.IsZero() {
		t.Errorf("%s is held for longer than evidence is taken", held)
	}
	w.epochs(1)
	if _, _, known := staking.CommitteeOf(w.kv, left+1); known {
		t.Error("a committee is kept that nobody can be convicted by")
	}
	w.audit()
}

// TestEvidenceRefused: evidence that proves nothing changes nothing.
func TestEvidenceRefused(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000, 1_000)
	r := consensus.Round{Epoch: 1, View: 3}
	good := w.double(id(0), r)
	forged := good
	at, _, _ := w.signer(1, id(0))
	forged.Votes[1] = consensus.SignVote(keyOf('c', 1), at, testChain, notarize(r, 2))
	foreign := good
	for i := range foreign.Votes {
		s, _, _ := w.signer(1, id(0))
		foreign.Votes[i] = consensus.SignVote(keyOf('c', 0), s, "another-chain", notarize(r, byte(i)))
	}
	unknown := w.double(id(0), r)
	for i := range unknown.Votes {
		s, _, _ := w.signer(1, id(0))
		unknown.Votes[i] = consensus.SignVote(keyOf('c', 0), s, testChain, notarize(consensus.Round{Epoch: 3, View: 1}, byte(i)))
	}
	before := dump(w.kv)
	for name, c := range map[string]struct {
		evidence consensus.Evidence
		reason   string
	}{
		"forged": {forged, "signature"}, "of another chain": {foreign, "signature"}, "of an epoch without a committee": {unknown, "committee is not known"},
	} {
		if why := w.report(9, c.evidence); !strings.Contains(why, c.reason) {
			t.Errorf("%s: %q", name, why)
		}
	}
	why := w.do(func() (chain.Events, *chain.Rejection) {
		return staking.ReportEvidence(w.kv, w.env(), account(9), chain.ReportEvidence{Evidence: []byte{1, 2}})
	})
	if !strings.Contains(why, "evidence: ") {
		t.Errorf("rubbish: %q", why)
	}
	if dump(w.kv) != before {
		t.Error("evidence that was refused changed the state")
	}
	if !staking.Convictable(w.kv, w.env(), good) || staking.Convictable(w.kv, w.env(), forged) {
		t.Error("Convictable tells otherwise")
	}
}

// TestCompany: the rate rises with the weight at fault in the window, for those
// convicted earlier too, so that the order in which faults become known does not
// matter.
func TestCompany(t *testing.T) {
	stakes := []uint64{100_000, 50_000, 150_000, 700_000}
	final := func(order ...int) []chain.Amount {
		w := newWorld(t, quick(), append([]uint64(nil), stakes...)...)
		var out []chain.Amount
		for _, n := range order {
			if why := w.report(20, w.double(id(n), consensus.Round{Epoch: 1, View: consensus.View(n + 1)})); why != "" {
				t.Fatal(why)
			}
			w.audit()
		}
		for n := range stakes {
			out = append(out, w.validator(n).Stake)
		}
		return out
	}
	// Alone: 3 × 5 % of the weight; 100,000 of 1,000,000 alone would lose 30 %.
	if got := final(1)[1]; got != chain.Hyper(50_000*85/100) {
		t.Errorf("alone: %s is left of 50,000", got)
	}
	want := []chain.Amount{chain.Hyper(55_000), chain.Hyper(27_500), chain.Hyper(150_000), chain.Hyper(700_000)} // 45 %
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		for n, got := range final(order...) {
			if got != want[n] {
				t.Errorf("order %v: %s is left of validator %d, want %s", order, got, n, want[n])
			}
		}
	}
	// A third of the weight and more: everything but a nHYPER, which keeps shares
	// a price.
	if got := final(0, 3)[3]; got != chain.Nano(1) {
		t.Errorf("with three quarters at fault %s is left", got)
	}
	for total, rate := range map[uint64]uint64{3_000_000_000: 1, 10: 300_000, 3: 1_000_000, 2: 1_000_000} {
		if got := staking.RateOf(1, total); got != rate {
			t.Errorf("1 of %d: rate %d, want %d", total, got, rate)
		}
	}
}

// TestCertificatePair convicts everybody who is in both certificates.
func TestCertificatePair(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000, 1_000)
	committee, members, _ := staking.CommitteeOf(w.kv, 1)
	r := consensus.Round{Epoch: 1, View: 5}
	certificate := func(s consensus.Statement, signers ...int) *consensus.Certificate {
		var votes []consensus.Vote
		for _, i := range signers {
			votes = append(votes, consensus.SignVote(w.keyOf(members[i].ConsensusKey), consensus.Signer(i), testChain, s))
		}
		return consensus.Assemble(committee, s, votes)
	}
	pair := consensus.Evidence{Certificates: [2]*consensus.Certificate{certificate(finalize(r, 1), 0, 1, 2), certificate(nullify(r), 1, 2, 3)}}
	if err := w.begin(second, staking.Extras{Evidence: []consensus.Evidence{pair}}); err != nil {
		t.Fatal(err)
	}
	w.end()
	for i, m := range members {
		v, _ := staking.ValidatorOf(w.kv, m.ID)
		if guilty := i == 1 || i == 2; v.Tombstoned != guilty || (v.Stake == chain.Nano(1)) != guilty {
			t.Errorf("member %d: %+v", i, v)
		}
	}
	w.audit()
	// In the next block it convicts nobody, and the block may not carry it.
	if err := w.begin(second, staking.Extras{Evidence: []consensus.Evidence{pair}}); err == nil || !strings.Contains(err.Error(), "was convicted before") {
		t.Errorf("again: %v", err)
	}
}

// TestReporterOfABlock: the owner of a block's proposer is the reporter of its
// evidence, of which it takes a few pieces.
func TestReporterOfABlock(t *testing.T) {
	w := newWorld(t, quick(), 10, 10, 10, 10, 10, 10, 1_000)
	var all []consensus.Evidence
	for n := range 6 {
		all = append(all, w.double(id(n), consensus.Round{Epoch: 1, View: 2}))
	}
	committee, members, _ := staking.CommitteeOf(w.kv, 1)
	var owner int
	for n := range 7 {
		if members[committee.Leader(1)].Owner == account(n) {
			owner = n
		}
	}
	before := w.balance(owner)
	err := w.begin(second, staking.Extras{Evidence: all})
	if err == nil || !strings.Contains(err.Error(), "6 pieces, limit 4") {
		t.Errorf("six pieces: %v", err)
	}
	if got := w.balance(owner); !before.Less(got) {
		t.Errorf("the proposer's owner has %s, had %s", got, before)
	}
	w.audit()
}

// TestHonestVotesAreNoFault: an honest validator signs whatever the protocol
// lets it — at most one notarize of a view, and then nullify or finalize, of
// whatever was notarized — and no pair of its votes, of all its life, convicts.
func TestHonestVotesAreNoFault(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000, 1_000)
	rapid.Check(t, func(t *rapid.T) {
		var signed []consensus.Statement
		for v := consensus.View(1); v <= 6; v++ {
			r := consensus.Round{Epoch: 1, View: v}
			content := rapid.Byte().Draw(t, "content")
			if rapid.Bool().Draw(t, "notarize") {
				signed = append(signed, notarize(r, content))
			}
			switch rapid.IntRange(0, 2).Draw(t, "then") {
			case 0:
				signed = append(signed, nullify(r))
			case 1:
				// The leader's other proposal may be the one that a quorum notarized.
				signed = append(signed, finalize(r, content))
			}
			// After a restart everything is signed and sent again.
			if rapid.Bool().Draw(t, "again") {
				signed = append(signed, signed[max(0, len(signed)-1):]...)
			}
		}
		s, _, _ := w.signer(1, id(0))
		for _, a := range signed {
			for _, b := range signed {
				e := consensus.Evidence{Votes: [2]consensus.Vote{
					consensus.SignVote(keyOf('c', 0), s, testChain, a), consensus.SignVote(keyOf('c', 0), s, testChain, b),
				}}
				if staking.Convictable(w.kv, w.env(), e) {
					t.Fatalf("%q and %q convict", a, b)
				}
			}
		}
	})
	// The detector is not asleep.
	for _, pair := range [][2]consensus.Statement{
		{notarize(consensus.Round{Epoch: 1, View: 1}, 1), notarize(consensus.Round{Epoch: 1, View: 1}, 2)},
		{finalize(consensus.Round{Epoch: 1, View: 1}, 1), finalize(consensus.Round{Epoch: 1, View: 1}, 2)},
		{finalize(consensus.Round{Epoch: 1, View: 1}, 1), nullify(consensus.Round{Epoch: 1, View: 1})},
	} {
		s, _, _ := w.signer(1, id(0))
		e := consensus.Evidence{Votes: [2]consensus.Vote{
			consensus.SignVote(keyOf('c', 0), s, testChain, pair[0]), consensus.SignVote(keyOf('c', 0), s, testChain, pair[1]),
		}}
		if !staking.Convictable(w.kv, w.env(), e) {
			t.Errorf("%q and %q convict nobody", pair[0], pair[1])
		}
	}
}

// TestSlashArithmetic holds the slash to its rounding: up, but never all.
func TestSlashArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, den := rapid.Uint64().Draw(t, "n"), rapid.Uint64Range(1, 1<<40).Draw(t, "den")
		num := rapid.Uint64Range(0, den).Draw(t, "num")
		got := staking.PartOf(n, num, den)
		exact := bigOf(n, num, den)
		if n > 0 && (got >= n || got > exact || got < exact && got != n-1) {
			t.Fatalf("%d · %d / %d = %d, rounded up it is %d", n, num, den, got, exact)
		}
	})
}

// bigOf is ⌈n · num / den⌉ on integers without bounds.
func bigOf(n, num, den uint64) uint64 {
	q := new(big.Int).Mul(new(big.Int).SetUint64(n), new(big.Int).SetUint64(num))
	q.Add(q, new(big.Int).SetUint64(den-1))
	return q.Quo(q, new(big.Int).SetUint64(den)).Uint64()
}
