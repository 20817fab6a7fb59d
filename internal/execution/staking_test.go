package execution_test

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// vote signs a statement as the member of epoch 1 whose consensus key is that of
// key n.
func (w *world) vote(n byte, s consensus.Statement) consensus.Vote {
	w.Helper()
	committee, _, _ := staking.CommitteeOf(w.state, 1)
	signer, ok := committee.IndexOf(keyOf(n).Public())
	if !ok {
		w.Fatalf("key %d is not in the committee", n)
	}
	return consensus.SignVote(keyOf(n).PrivateKey, signer, string(testChain), s)
}

func statement(kind consensus.Kind, view consensus.View, content byte) consensus.Statement {
	return consensus.Statement{Kind: kind, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: 1, View: view}, Parent: view - 1, Digest: crypto.Digest{content},
	}}
}

func (w *world) double(n byte, view consensus.View) consensus.Evidence {
	return consensus.Evidence{Votes: [2]consensus.Vote{
		w.vote(n, statement(consensus.KindNotarize, view, 1)), w.vote(n, statement(consensus.KindNotarize, view, 2)),
	}}
}

func (w *world) finalization(view consensus.View, keys ...byte) *consensus.Certificate {
	committee, members, _ := staking.CommitteeOf(w.state, 1)
	var votes []consensus.Vote
	for _, m := range members {
		for _, n := range keys {
			if m.ConsensusKey == keyOf(n).Public() {
				votes = append(votes, w.vote(n, statement(consensus.KindFinalize, view, byte(view))))
			}
		}
	}
	return consensus.Assemble(committee, votes[0].Statement(), votes)
}

// TestConsensusItemsOfABlock: a leader is offered good and bad items and keeps
// the good ones, in a body that decodes; Apply gives the same outcome, and
// refuses a block with any of the others.
func TestConsensusItemsOfABlock(t *testing.T) {
	w := newWorld(t)
	w.block(10)
	h := w.header(10)
	h.View = 40
	late := w.vote(4, statement(consensus.KindFinalize, 38, 38))
	stray := w.vote(4, statement(consensus.KindFinalize, 38, 99))
	forged := w.double(3, 7)
	forged.Votes[1] = consensus.SignVote(keyOf(1).PrivateKey, mustSigner(w, 3), string(testChain), statement(consensus.KindNotarize, 7, 2))
	offered := staking.Extras{
		Evidence:     []consensus.Evidence{w.double(2, 7), w.double(2, 8), forged},
		Finalization: w.finalization(38, 1, 2, 3), LateVotes: []consensus.Vote{stray, late},
	}
	tx := w.tx(alice, chain.Transfer{To: bob.address(), Amount: hyper(1)})
	built, err := w.x.Build(w.state, h, execution.MaxBudget, offered, offer(tx))
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Extras.Evidence) != 1 || built.Extras.Finalization == nil || len(built.Extras.LateVotes) != 1 || len(built.Included) != 1 {
		t.Fatalf("kept %+v", built.Extras)
	}
	var body chain.Body
	built.Extras.Put(&body)
	extras, err := staking.DecodeExtras(&body)
	if err != nil || !reflect.DeepEqual(extras, built.Extras) {
		t.Fatalf("decoded %+v, %v; want %+v", extras, err, built.Extras)
	}
	out, err := w.x.Apply(w.state, h, extras, built.Included)
	if err != nil || !reflect.DeepEqual(out, built.Outcome) {
		t.Fatalf("applied otherwise than built: %v", err)
	}
	for name, x := range map[string]staking.Extras{
		"evidence 1: ":      {Evidence: offered.Evidence[:2]},
		"evidence 0: ":      {Evidence: offered.Evidence[2:]},
		"late vote 0: ":     {Finalization: offered.Finalization, LateVotes: offered.LateVotes},
		"late vote 0: for ": {LateVotes: []consensus.Vote{late}},
	} {
		if _, err := w.x.Apply(w.state, h, x, nil); !errors.Is(err, execution.ErrInvalidBlock) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalidBlock with %q", err, name)
		}
	}
	before := w.balance(keyOf(11))
	w.commit(h, out)
	slashed, ok := out.Receipts.Begin[0].(chain.ValidatorSlashed)
	if !ok || slashed.Validator != keyOf(2).Public() || slashed.Reporter != keyOf(11).address() {
		t.Fatalf("events %v", out.Receipts.Begin)
	}
	if got := sub(t, w.balance(keyOf(11)), before); got != slashed.Reward || got.IsZero() {
		t.Errorf("the proposer's owner got %s, want %s", got, slashed.Reward)
	}
}

func mustSigner(w *world, n byte) consensus.Signer {
	s, _ := w.vote(n, statement(consensus.KindNotarize, 1, 1)).By()
	return s
}

func TestExtrasThatDoNotDecode(t *testing.T) {
	for name, body := range map[string]chain.Body{
		"evidence 0":   {Evidence: [][]byte{{1}}},
		"finalization": {Finalization: []byte{1}},
		"late vote 0":  {LateVotes: [][]byte{{1}}},
	} {
		if _, err := staking.DecodeExtras(&body); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStakingMessages sends every message of staking through transactions of
// blocks, over epochs, until the stake is back in balances.
func TestStakingMessages(t *testing.T) {
	g := genesis()
	g.Params.EpochMs, g.Params.UnbondDelayMs, g.Params.EvidenceWindowMs, g.Params.ResourceHalf = 60_000, 600_000, 300_000, chain.Nano(36_000)
	w := worldOf(t, g)
	accepted := func(after uint64, from key, m chain.Msg) chain.Event {
		t.Helper()
		r := w.block(after, w.tx(from, m)).Receipts.Txs[0]
		if !r.Accepted() {
			t.Fatalf("%s: %s", chain.KindOf(m), r.Rejection)
		}
		return r.Events[0]
	}
	staker, validator, node := keyOf(25), keyOf(50), keyOf(51)
	accepted(10, bob, chain.Transfer{To: keyOf(11).address(), Amount: chain.Hyper(1_000)})
	possession := chain.PossessionPayload(testChain, alice.address())
	accepted(10, alice, chain.Bond{
		ConsensusKey: validator.Public(), Possession: validator.PrivateKey.Sign(crypto.DomainPossession, possession),
		NodeKey: node.Public(), NodePossession: node.PrivateKey.Sign(crypto.DomainPossession, possession),
		Name: "new", Endpoint: "127.0.0.1:2", CommissionBps: 500, Amount: chain.Hyper(20_000),
	})
	id := validator.Public()
	accepted(10, staker, chain.Delegate{Validator: id, Amount: chain.Hyper(5_000)})
	accepted(10, alice, chain.SetCommission{Validator: id, Bps: 600})
	rotated, other := keyOf(52), keyOf(53)
	w.block(60_000)
	accepted(10, alice, chain.RotateKeys{
		Validator: id, ConsensusKey: rotated.Public(), Possession: rotated.PrivateKey.Sign(crypto.DomainPossession, possession),
		NodeKey: other.Public(), NodePossession: other.PrivateKey.Sign(crypto.DomainPossession, possession), Endpoint: "127.0.0.1:3",
	})
	for range 3 {
		w.block(60_000)
	}
	_, members, _ := staking.CommitteeOf(w.state, staking.EpochOf(w.state).Number)
	found := false
	for _, m := range members {
		found = found || m.ID == id && m.ConsensusKey == rotated.Public() && m.Weight == 25_000
	}
	if !found {
		t.Errorf("the committee is %+v", members)
	}

	affiliate := chain.Affiliate{Validator: id, Node: nodeA.Public(), Consent: nodeA.PrivateKey.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, id))}
	if r := w.block(10, w.tx(alice, affiliate)).Receipts.Txs[0]; !strings.Contains(r.Rejection, "is not registered") {
		t.Errorf("a stranger's node: %q", r.Rejection)
	}
	w.register()
	accepted(10, alice, affiliate)
	accepted(10, ownerA, chain.Unaffiliate{Node: nodeA.Public()}) // the node's owner
	if r := w.block(10, w.tx(alice, affiliate)).Receipts.Txs[0]; !strings.Contains(r.Rejection, "took back its consent") {
		t.Errorf("the same consent again: %q", r.Rejection)
	}

	accepted(10, staker, chain.Redelegate{From: id, To: keyOf(1).Public(), Amount: chain.Hyper(1_000)})
	before := w.balance(staker)
	accepted(10, staker, chain.Undelegate{Validator: id})
	for range 14 {
		w.block(60_000)
	}
	if got := w.balance(staker); got.Nano() < before.Nano()+3_999*chain.NanoPerHyper {
		t.Errorf("%s came back", sub(t, got, before))
	}
	// Nobody shows votes here: only proposers are seen, and validator 1 is the
	// one. Its owner withdraws.
	accepted(10, keyOf(11), chain.WithdrawRewards{Validator: keyOf(1).Public(), Restake: true})
	if r := w.block(10, w.tx(alice, chain.Unjail{Validator: id})).Receipts.Txs[0]; !strings.Contains(r.Rejection, "is not jailed") {
		t.Errorf("unjail: %q", r.Rejection)
	}
}

// TestReportedEvidence: anyone reports, and gets the share; the same again is
// rejected, and charged.
func TestReportedEvidence(t *testing.T) {
	w := newWorld(t)
	raw := consensus.EncodeEvidence(w.double(4, 9))
	before, burned := w.balance(bob), tokens.SupplyOf(w.state).Burned
	r := w.block(10, w.tx(bob, chain.ReportEvidence{Evidence: raw})).Receipts.Txs[0]
	if !r.Accepted() {
		t.Fatal(r.Rejection)
	}
	slashed := r.Events[0].(chain.ValidatorSlashed)
	fee := chain.Nano(r.Burned.Nano() + r.Tip.Nano())
	if got := sub(t, chain.Nano(w.balance(bob).Nano()+fee.Nano()), before); got != slashed.Reward {
		t.Errorf("the reporter got %s, want %s", got, slashed.Reward)
	}
	if got := sub(t, tokens.SupplyOf(w.state).Burned, burned); got.Nano() != slashed.Amount.Nano()-slashed.Reward.Nano()+r.Burned.Nano() {
		t.Errorf("%s was burned of %s", got, slashed.Amount)
	}
	again := w.block(10, w.tx(bob, chain.ReportEvidence{Evidence: raw})).Receipts.Txs[0]
	if !strings.Contains(again.Rejection, "was convicted before") || again.GasUsed.Units() < execution.GasTableV1().ReportEvidence {
		t.Errorf("again: %q for %d gas", again.Rejection, again.GasUsed.Units())
	}
}

// TestOldEvidence: a transaction with evidence that is taken no longer is
// rejected.
func TestOldEvidence(t *testing.T) {
	w := newWorld(t)
	raw := consensus.EncodeEvidence(w.double(2, 3))
	w.block(day)
	w.block(22 * day)
	if r := w.block(10, w.tx(bob, chain.ReportEvidence{Evidence: raw})).Receipts.Txs[0]; !strings.Contains(r.Rejection, "evidence of epoch 1 was taken until") {
		t.Errorf("old evidence: %q", r.Rejection)
	}
}

// affiliate makes nodeA count for validator 1.
func (w *world) affiliate() {
	w.Helper()
	w.register()
	owner, v := keyOf(11), keyOf(1).Public()
	w.block(10, w.tx(bob, chain.Transfer{To: owner.address(), Amount: chain.Hyper(10)}))
	r := w.block(10, w.tx(owner, chain.Affiliate{
		Validator: v, Node: nodeA.Public(), Consent: nodeA.PrivateKey.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, v)),
	})).Receipts.Txs[0]
	if !r.Accepted() {
		w.Fatal(r.Rejection)
	}
}

// TestUnverifiedWorkCountsNothing: only what verified claims burned raises a
// resource factor. What a cluster attests of a node of its own is anything.
func TestUnverifiedWorkCountsNothing(t *testing.T) {
	for _, c := range []struct {
		policy chain.Policy
		counts bool
	}{{attested, false}, {multiply, true}} {
		w := newWorld(t)
		w.affiliate()
		claims := []chain.Claim{w.claim(c.policy, 1, nodeA)}
		out := w.block(3_600_000, w.tx(bob, chain.Settle{Claims: claims}))
		var want chain.Amount
		for _, e := range out.Receipts.Txs[0].Events {
			if settled, ok := e.(chain.ClaimSettled); ok && settled.Node == nodeA.Public() {
				want = settled.Burned
			}
		}
		if want.IsZero() {
			t.Fatalf("%s: nothing was burned", c.policy)
		}
		if !c.counts {
			want = chain.Amount{}
		}
		if got := staking.ResourceOf(w.state, keyOf(1).Public()).Burned; got != want {
			t.Errorf("%s: %s count, want %s", c.policy, got, want)
		}
	}
}

// TestWorkThatABlockPaysCounts: what replicated runs burned that nobody had paid, so that a block did by itself, counts as if a message had.
func TestWorkThatABlockPaysCounts(t *testing.T) {
	w := newWorld(t)
	w.affiliate()
	id, held := crypto.Digest{7}, chain.Nano(1_000_000)
	home := settlement.EscrowKey(consumer.address(), cluster.Public())
	escrow, _ := state.Load[settlement.Escrow](w.state, home)
	escrow.Balance, escrow.Elsewhere = sub(t, escrow.Balance, held), held
	state.Save(w.state, home, escrow)
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	run := settlement.Run{Bidder: settlement.Bidder{Node: nodeA.Public(), Prices: prices}, Owner: ownerA.address(), State: settlement.RunShown, Commitment: crypto.Digest{1}}
	state.Save(w.state, settlement.OrderKey(id), settlement.Order{
		Consumer: consumer.address(), Cluster: cluster.Public(), Policy: chain.PolicyField{Policy: chain.PolicyReplicate{K: 1, N: 1}}, MaxCost: held, Expires: 1 << 50, Payees: 1,
		Assignments: []settlement.Assignment{{Node: nodeA.Public(), Next: 2}},
	})
	state.Save(w.state, settlement.ClaimKey(chain.ClaimKey{Order: id, Node: nodeA.Public(), Sequence: 1}), settlement.Claim{
		Node: nodeA.Public(), Provider: ownerA.address(), Sequence: 1, Exit: chain.ExitOK,
		Pending: &settlement.Replica{Prices: prices, Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1, DurationMs: 1_000}}},
	})
	head, err := execution.HeadOf(w.state)
	if err != nil {
		t.Fatal(err)
	}
	state.Save(w.state, settlement.RunsKey(id), settlement.Runs{Stage: settlement.StageOwed, Runs: []settlement.Run{run}, Owed: []uint8{0}, Held: held, Due: head.ProgressMs + 1})
	due := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 't'}, head.ProgressMs+1)
	w.state.Set(append(append(due, 'g'), id[:]...), []byte{})
	var want chain.Amount
	for _, e := range w.block(1_000).Receipts.Begin {
		if settled, ok := e.(chain.ClaimSettled); ok && settled.Order == id {
			want = settled.Burned
		}
	}
	if got := staking.ResourceOf(w.state, keyOf(1).Public()).Burned; want.IsZero() || got != want {
		t.Errorf("%s count, %s were burned", got, want)
	}
}

// TestBurnedFeesLead: what a verified claim of an affiliated node burns raises
// the validator's leader weight, two epochs on.
func TestBurnedFeesLead(t *testing.T) {
	g := genesis()
	g.Params.ResourceHalf = chain.Nano(10_000_000) // what one proven claim of the scenario burns
	w := worldOf(t, g)
	w.affiliate()
	v := keyOf(1).Public()
	out := w.block(3_600_000, w.tx(bob, chain.Settle{Claims: []chain.Claim{w.claim(multiply, 1, nodeA)}}))
	settled := out.Receipts.Txs[0].Events[0].(chain.ClaimSettled)
	if got := staking.ResourceOf(w.state, v).Burned; got != settled.Burned || got != g.Params.ResourceHalf {
		t.Fatalf("%s count, the claim burned %s", got, settled.Burned)
	}
	w.block(day)
	epoch := staking.EpochOf(w.state)
	_, members, _ := staking.CommitteeOf(w.state, epoch.Number+1)
	for _, m := range members {
		if want := m.Weight + m.Weight/8; m.ID == v && m.LeaderWeight != want {
			t.Errorf("leader weight %d, want %d", m.LeaderWeight, want)
		}
	}
}

// TestLookingCosts: staking looks for redelegations before stake moves; a seek
// that finds nothing is a read like any other.
func TestLookingCosts(t *testing.T) {
	if got, want := execution.GasOfEmptyRange(), execution.GasTableV1().Read; got != want {
		t.Errorf("an empty range costs %d gas, want %d", got, want)
	}
}
