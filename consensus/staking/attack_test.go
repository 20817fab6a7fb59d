package staking_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestSmallFaultShieldsNothing: whoever moves its stake away after a fault, and
// lets itself be convicted of a later one that little stands behind, loses of
// what it moved as well once the first fault is known: in either order the same.
func TestSmallFaultShieldsNothing(t *testing.T) {
	final := func(first, second consensus.Epoch) [4]chain.Amount {
		w := newWorld(t, quick(), 100_000, 5_000_000, 5_000_000, 5_000_000)
		w.must(0, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(90_000)})
		w.must(0, chain.Delegate{Validator: id(1), Amount: chain.Hyper(5)})
		w.epochs(2)
		for _, e := range []consensus.Epoch{first, second} {
			w.report(20, w.double(id(0), consensus.Round{Epoch: e, View: 7}))
			w.audit()
		}
		fault, _ := staking.FaultOf(w.kv, id(0))
		if fault.Epoch != 1 || fault.Weight != 100_000 {
			t.Errorf("the record is %+v", fault)
		}
		return [4]chain.Amount{w.validator(0).Stake, staking.UnbondingOf(w.kv, id(0), 1).Stake, w.validator(1).Stake}
	}
	want := final(1, 3)
	if want[1] != chain.Hyper(90_000*95/100) {
		t.Errorf("left is %s", want[1])
	}
	if got := final(3, 1); got != want {
		t.Errorf("with the small fault first: %v, want %v", got, want)
	}
}

// TestOldSmallFaultShieldsNothing: who is convicted of a fault from when it was
// small counts in the company with its full weight once that is known to be at
// fault.
func TestOldSmallFaultShieldsNothing(t *testing.T) {
	final := func(epochs ...consensus.Epoch) [2]chain.Amount {
		w := newWorld(t, quick(), 100, 200_000, 200_000, 200_000)
		w.must(0, chain.Delegate{Validator: id(0), Amount: chain.Hyper(200_000)})
		w.epochs(2)
		for _, e := range epochs {
			w.report(20, w.double(id(0), consensus.Round{Epoch: e, View: 7}))
			w.audit()
		}
		w.report(20, w.double(id(1), consensus.Round{Epoch: 3, View: 7}))
		w.audit()
		return [2]chain.Amount{w.validator(0).Stake, w.validator(1).Stake}
	}
	want := final(3)
	if want != [2]chain.Amount{chain.Nano(1), chain.Nano(1)} {
		t.Errorf("half of the weight at fault: %v is left", want)
	}
	for _, order := range [][]consensus.Epoch{{1, 3}, {3, 1}} {
		if got := final(order...); got != want {
			t.Errorf("order %v: %v, want %v", order, got, want)
		}
	}
}

// TestLaterFaultIsCompany: a convicted validator that breaks the rules again,
// while it still serves, loses nothing for that alone. But whoever does so with it
// is in its company, and it in theirs, even when its first fault has expired: in
// the end it is as if the first were not.
func TestLaterFaultIsCompany(t *testing.T) {
	final := func(earlier bool) [2]uint64 {
		w := newWorld(t, quick(), 200_000, 200_000, 1_000_000)
		w.epochs(5)
		if earlier {
			if why := w.report(20, w.double(id(0), consensus.Round{Epoch: 1, View: 7})); why != "" {
				t.Fatal(why)
			}
		}
		w.epochs(1)
		later := consensus.Round{Epoch: w.env().Epoch, View: 7}
		second, other, stake := w.double(id(0), later), w.double(id(1), later), w.validator(0).Stake
		if why := w.report(20, second); why != "" {
			t.Fatal(why)
		}
		if earlier {
			wantAmount(t, "after the second fault", w.validator(0).Stake, stake)
		}
		if why := w.report(20, second); !strings.Contains(why, "was convicted before") {
			t.Errorf("the same again: %q", why)
		}
		for why := ""; !strings.Contains(why, "was taken until") && !strings.Contains(why, "is not known"); {
			w.epochs(1)
			why = w.report(20, consensus.Evidence{Votes: [2]consensus.Vote{ // of nobody, but of the first fault's epoch
				consensus.SignVote(keyOf('c', 9), 0, testChain, notarize(consensus.Round{Epoch: 1, View: 1}, 1)),
				consensus.SignVote(keyOf('c', 9), 0, testChain, notarize(consensus.Round{Epoch: 1, View: 1}, 2)),
			}})
		}
		if why := w.report(20, other); why != "" {
			t.Fatal(why)
		}
		w.audit()
		return [2]uint64{w.validator(0).Stake.Nano() / hyper, w.validator(1).Stake.Nano() / hyper}
	}
	want := final(false)
	if want[0] != want[1] || want[0] > 200_000/7+1 { // 400,000 of 1,400,000 at fault: 6/7
		t.Fatalf("of 200,000 each %v are left", want)
	}
	if got := final(true); got != want {
		t.Errorf("with an earlier fault on record %v are left, want %v", got, want)
	}
}

// TestNobodyGainsByItsOwnConviction: the reporter's share of what delegators
// lose is not worth a validator's own loss.
func TestNobodyGainsByItsOwnConviction(t *testing.T) {
	p := quick()
	p.ReporterBps = 5_000
	w := newWorld(t, p, 100, 5_000_000, 5_000_000, 5_000_000)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(900_000)})
	w.epochs(2)
	before, balance := w.validator(0), w.balance(20)
	if why := w.report(20, w.double(id(0), consensus.Round{Epoch: 3, View: 7})); why != "" {
		t.Fatal(why)
	}
	after := w.validator(0)
	lost, won := sub(before.SelfBond(), after.SelfBond()), sub(w.balance(20), balance)
	if won.IsZero() || lost.Less(won) {
		t.Errorf("the owner loses %s, the reporter gets %s", lost, won)
	}
	w.audit()
}

// TestItemsAreCounted: a block that carries more than it may is refused before
// anything in it is verified, and a leader that is offered more makes a block
// that decodes.
func TestItemsAreCounted(t *testing.T) {
	stakes := []uint64{1_000_000}
	for range 39 {
		stakes = append(stakes, 1_000)
	}
	w := newWorld(t, quick(), stakes...)
	heavy, _, _ := w.signer(1, id(0))
	w.view = 40
	var late []consensus.Vote
	for _, v := range []consensus.View{37, 38} {
		if err := w.begin(1, staking.Extras{Finalization: w.finalization(v, int(heavy))}); err != nil {
			t.Fatal(err)
		}
		for s := range 40 {
			if s != int(heavy) {
				late = append(late, w.lateVote(v, s, byte(v)))
			}
		}
	}
	_, members, _ := staking.CommitteeOf(w.kv, 1)
	kept, _, err := staking.TakeExtras(w.kv, &staking.Block{Env: *w.env(), View: 42, Members: members}, staking.Extras{LateVotes: late})
	if err == nil || !strings.Contains(err.Error(), "late votes: 78, limit 64") || len(kept.LateVotes) != staking.MaxLateVotes {
		t.Errorf("kept %d of 78: %v", len(kept.LateVotes), err)
	}
	var body chain.Body
	kept.Put(&body)
	block := chain.Block{Body: body}
	block.Header.TxRoot, block.Header.ExtraRoot = chain.ListRoot(crypto.DomainTxRoot, nil), body.ExtraRoot()
	if _, err := chain.DecodeBlock(block.Encode(), nil); err != nil {
		t.Errorf("the leader's block: %v", err)
	}
	many := chain.Body{Evidence: make([][]byte, staking.MaxEvidence+1)}
	if _, err := staking.DecodeExtras(&many); err == nil || !strings.Contains(err.Error(), "5 pieces of evidence") {
		t.Errorf("five pieces: %v", err)
	}
}

// TestDustHoldsNoPlace: validators of which next to nothing is left stand for
// committees no more, and come back with their self-bond; a full roll takes who
// has more than the poorest on it.
func TestDustHoldsNoPlace(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000)
	w.must(9, w.bondOf(9, 9, chain.Hyper(100)))
	w.must(8, chain.Delegate{Validator: id(9), Amount: chain.Hyper(1)})
	w.epochs(3)
	w.must(9, chain.Undelegate{Validator: id(9)})
	w.must(8, chain.Undelegate{Validator: id(9), Amount: chain.Nano(hyper - 1)})
	for range 4 {
		w.epochs(1)
		w.audit()
	}
	if w.validator(9).Stake != chain.Nano(1) || staking.Registered(w.kv) != 2 {
		t.Errorf("%d on the roll", staking.Registered(w.kv))
	}
	node := keyOf('p', 0)
	w.must(9, chain.Affiliate{Validator: id(9), Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id(9)))})
	staking.CountBurned(w.kv, node.Public(), chain.Hyper(10))
	if got := staking.ResourceOf(w.kv, id(9)).Burned; !got.IsZero() {
		t.Errorf("%s counts for the time after", got)
	}
	w.refused(9, chain.Unjail{Validator: id(9)}, "self-bond of validator")
	w.must(9, chain.Delegate{Validator: id(9), Amount: chain.Hyper(200)})
	w.must(9, chain.Unjail{Validator: id(9)})
	w.audit()
	w.epochs(2)
	if _, _, in := w.signer(w.env().Epoch, id(9)); !in || staking.Registered(w.kv) != 3 {
		t.Errorf("serves: %v, %d on the roll", in, staking.Registered(w.kv))
	}
}

func TestFullRoll(t *testing.T) {
	p := quick()
	p.MaxValidators = 2
	w := newWorld(t, p, 1_000, 1_000)
	for n := 2; n < staking.MaxRegistered; n++ {
		w.must(n%40, w.bondOf(n%40, 100+n, chain.Hyper(101+uint64(n%2))))
	}
	w.refused(9, w.bondOf(9, 9, chain.Hyper(101)), "none that does not serve has less than 101 HYPER")
	w.must(9, w.bondOf(9, 9, chain.Hyper(102)))
	w.must(9, chain.Delegate{Validator: id(9), Amount: chain.Hyper(2_000)})
	w.epochs(2)
	w.audit()
	if _, _, in := w.signer(3, id(9)); !in || staking.Registered(w.kv) != staking.MaxRegistered {
		t.Errorf("serves: %v, %d on the roll", in, staking.Registered(w.kv))
	}
}

// TestConsentIsTakenBack: the owner of a node ends an affiliation for good, though
// the consent was signed without an end.
func TestConsentIsTakenBack(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000)
	node := keyOf('p', 0)
	affiliate := func(v int) chain.Affiliate {
		return chain.Affiliate{Validator: id(v), Node: node.Public(), Consent: node.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id(v)))}
	}
	unaffiliate := chain.Unaffiliate{Node: node.Public()}
	w.must(0, affiliate(0))
	w.must(0, unaffiliate)
	w.must(0, affiliate(0)) // whom the validator sent away may come back
	if _, why := staking.Unaffiliate(w.kv, account(9), account(9), unaffiliate); why != nil {
		t.Fatal(why.Reason())
	}
	w.refused(0, affiliate(0), "took back its consent")
	w.must(1, affiliate(1))
	w.audit()
}
