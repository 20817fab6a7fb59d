package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// shortEpochs is a genesis whose epochs take one second.
func shortEpochs(t testing.TB) *chain.Genesis {
	g := testGenesis(t)
	g.Params.EpochMs, g.Params.EvidenceWindowMs, g.Params.UnbondDelayMs = 1_000, 5_000, 10_000
	g.Params.JailMs = 1_000
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g
}

// reignOf picks an epoch's reign.
func reignOf(t testing.TB, reigns []replica.Reign, epoch consensus.Epoch) replica.Reign {
	t.Helper()
	i := slices.IndexFunc(reigns, func(r replica.Reign) bool { return r.Committee.Epoch() == epoch })
	if i < 0 {
		t.Fatalf("no reign of epoch %d among %d", epoch, len(reigns))
	}
	return reigns[i]
}

// proposeAt builds a block as the leader of a view, at a time after the parent's.
func (r *rig) proposeAt(v consensus.View, on engine.Parent, later chain.TimeMs) consensus.Block {
	r.Helper()
	parent, ok := r.app.branch(on.Digest)
	if !ok {
		r.Fatal("the parent is not executed")
	}
	header := r.app.header(r.round(v), r.keyOfLeader(v), parent)
	header.TimeMs = parent.timeMs + later
	tree, receiptRoot, err := parent.roots(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	header.StateRoot, header.ReceiptRoot = tree.Root(), receiptRoot
	block, outcome, err := r.app.build(parent, header, content{budget: execution.MaxBudget, included: r.app.includedIn(parent)})
	if err != nil {
		r.Fatal(err)
	}
	if _, err := r.app.addBranch(newBranch(parent, block, outcome)); err != nil {
		r.Fatal(err)
	}
	return consensusBlock(block)
}

// TestClosingBlocks walks over four epochs: what follows a closing block is of the
// next epoch, whichever view finalized it, and what consensus is told survives a
// restart.
func TestClosingBlocks(t *testing.T) {
	r := newRig(t, shortEpochs(t))
	follower := newRig(t, r.genesis)
	on := r.genesisParent()
	for epoch := consensus.Epoch(1); epoch <= 4; epoch++ {
		if got := r.round(1).Epoch; got != epoch {
			t.Fatalf("epoch %d runs, want %d", got, epoch)
		}
		r.submit(transfer(t, 1, uint64(epoch)-1, user(70).address()))
		for view := consensus.View(1); view <= 3; view++ { // the third is 1,000 ms after the start
			b := r.proposeAt(view, on, 333+chain.TimeMs(view/3))
			request := engine.VerifyRequest{Round: r.round(view), Parent: on, Block: b, Attested: true}
			if err := follower.app.Verify(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			if b.Closing != (view == 3) {
				t.Fatalf("block %d of epoch %d closes it: %v", view, epoch, b.Closing)
			}
			if b.Closing {
				r.checkNothingFollows(view+1, parentOf(view, b))
			}
			certificate := r.certificate(view, on, b)
			if b.Closing && epoch%2 == 0 { // proposed again, and finalized, two views later
				certificate = r.certificate(view+2, parentOf(view, b), b)
			}
			reigns, err := r.app.Finalize(t.Context(), b, certificate)
			if err != nil || (reigns != nil) != b.Closing {
				t.Fatalf("block %d: closing %v with %d reigns: %v", b.Height, b.Closing, len(reigns), err)
			}
			if _, err := follower.app.Finalize(t.Context(), b, certificate); err != nil {
				t.Fatal(err)
			}
			on = parentOf(view, b)
			if b.Closing {
				r.checkReigns(reigns, epoch, b, certificate)
			}
			r.close()
			r.open()
			floor, err := r.app.Last()
			if err != nil || floor.Closing != b.Closing || floor.Digest != b.Digest {
				t.Fatalf("after a restart the floor is %d, closing %v: %v", floor.Height, floor.Closing, err)
			}
			if b.Closing {
				r.checkReigns(floor.Reigns, epoch, b, floor.Certificate)
			}
		}
		on.View = 0 // the closing block is view 0 of the next epoch
	}
}

// checkNothingFollows proposes a block of the same epoch on a closing block.
func (r *rig) checkNothingFollows(view consensus.View, closing engine.Parent) {
	r.Helper()
	request := engine.ProposeRequest{Round: r.round(view), Parent: closing, LastFinalized: closing}
	if _, err := r.app.Propose(r.Context(), request); err == nil || !strings.Contains(err.Error(), "epoch") {
		r.Errorf("a block of epoch %d on the block that closes it: %v", request.Round.Epoch, err)
	}
}

// checkReigns looks at what is known once a block has closed an epoch.
func (r *rig) checkReigns(reigns []replica.Reign, closed consensus.Epoch, b consensus.Block, certificate *consensus.Certificate) {
	r.Helper()
	before, next, after := reignOf(r, reigns, closed), reignOf(r, reigns, closed+1), reignOf(r, reigns, closed+2)
	if next.Start != b.Digest || next.StartHeight != b.Height || next.Final.Statement != certificate.Statement || next.StartMs == 0 {
		r.Errorf("epoch %d starts with %s at height %d, want %s at %d", closed+1, next.Start.Short(), next.StartHeight, b.Digest.Short(), b.Height)
	}
	if before.Start.IsZero() || before.StartHeight >= b.Height || (closed == 1) != (before.Start == r.genesis.Digest()) {
		r.Errorf("epoch %d started with %s at height %d", closed, before.Start.Short(), before.StartHeight)
	}
	if !after.Start.IsZero() {
		r.Errorf("epoch %d starts with %s already", closed+2, after.Start.Short())
	}
	if len(next.NodeKeys) != 4 || next.Committee.Digest() == after.Committee.Digest() {
		r.Errorf("epoch %d has %d node keys", closed+1, len(next.NodeKeys))
	}
}

// TestVerifyAsksTheCommitteeOfTheEpoch offers a block under the round of another
// epoch, and of one that nobody knows.
func TestVerifyAsksTheCommitteeOfTheEpoch(t *testing.T) {
	r := newRig(t, testGenesis(t))
	b := r.propose(1, r.genesisParent())
	request := engine.VerifyRequest{Round: consensus.Round{Epoch: 2, View: 1}, Parent: r.genesisParent(), Block: b}
	if err := r.app.Verify(t.Context(), request); err == nil || !strings.Contains(err.Error(), "its round is (1, 1)") {
		t.Errorf("a block of epoch 1 in epoch 2: %v", err)
	}
}

// peers records whom the application wants to be connected with.
type peers struct{ members []staking.Member }

func (p *peers) follow(members []staking.Member) { p.members = members }

func TestPeersFollowTheCommittee(t *testing.T) {
	r := newRig(t, testGenesis(t))
	p := &peers{}
	r.app.peering = p
	floor, err := r.app.Last()
	if err != nil {
		t.Fatal(err)
	}
	r.app.Enter(floor.Reigns[0], floor.Reigns[1])
	n := network{self: keyOf(0, 't').Public(), members: p.members}
	p.members[1].Endpoint, p.members[5].Endpoint = "nonsense", "nonsense" // of one validator, in both epochs
	sentry := transport.NodeAddr{ID: keyOf(40, 't').Public(), Addr: "127.0.0.1:2"}
	p.members[2].Endpoint, p.members[6].Endpoint = sentry.String(), sentry.String()
	got := n.peers()
	if len(got) != 4 || !slices.Contains(got, sentry) || !slices.Contains(got, transport.NodeAddr{ID: p.members[2].NodeKey}) {
		t.Fatalf("peers %v, want the three others once, one without an address, and its sentry", got)
	}
	got = slices.DeleteFunc(got, func(a transport.NodeAddr) bool { return a == sentry })
	for _, a := range got {
		if a.ID == n.self || a.Addr != "127.0.0.1:1" && a.Addr != "" {
			t.Errorf("peer %+v", a)
		}
	}
}

// TestNobodySaysWhereAnotherMemberIs: a validator advertises as its sentry what it
// likes, and that is dialed; but under another member's key it would keep all others
// from that member.
func TestNobodySaysWhereAnotherMemberIs(t *testing.T) {
	id := func(n int) crypto.PublicKey { return keyOf(n, 't').Public() }
	at := func(n int) string { return fmt.Sprintf("127.0.0.1:%d", 7100+n) }
	n := network{self: id(0), members: []staking.Member{
		{NodeKey: id(1), Endpoint: id(2).String() + "@" + at(9)},
		{NodeKey: id(2), Endpoint: at(2)},
		{NodeKey: id(3), Endpoint: id(4).String() + "@" + at(4)},
	}}
	want := []transport.NodeAddr{{ID: id(1)}, {ID: id(2), Addr: at(2)}, {ID: id(3)}, {ID: id(4), Addr: at(4)}}
	if got := n.peers(); !slices.Equal(got, want) {
		t.Errorf("peers %v, want %v", got, want)
	}
}

// doubleVote is evidence against a validator in epoch 1.
func doubleVote(t testing.TB, c *committee, s consensus.Signer, view consensus.View) consensus.Evidence {
	t.Helper()
	var e consensus.Evidence
	for i := range e.Votes {
		statement := consensus.Statement{Kind: consensus.KindNotarize, Proposal: consensus.Proposal{
			Round: consensus.Round{Epoch: c.Epoch(), View: view}, Digest: crypto.Digest{byte(i + 1)},
		}}
		for n := range 4 {
			if k := keyOf(n, 'c'); k.Public() == c.Validator(s).Key {
				e.Votes[i] = consensus.SignVote(k, s, string(testChain), statement)
			}
		}
	}
	return e
}

func TestEvidencePool(t *testing.T) {
	r := newRig(t, testGenesis(t))
	c := r.committee()
	p := newEvidencePool()
	one := doubleVote(t, c, 1, 5)
	other := consensus.Evidence{Votes: [2]consensus.Vote{one.Votes[1], one.Votes[0]}}
	p.add(one)
	p.add(other) // the same in another order
	p.add(doubleVote(t, c, 2, 9))
	if p.size() != 2 {
		t.Fatalf("%d pieces, want 2", p.size())
	}
	future, err := consensus.NewCommittee(9, []consensus.Validator{c.Validator(0)})
	if err != nil {
		t.Fatal(err)
	}
	p.add(doubleVote(t, &committee{Committee: future}, 0, 1)) // of an epoch that the state does not know
	if got := p.offer(r.store.State()); len(got) != 2 || got[0].Round().View != 5 {
		t.Errorf("%d pieces are offered, want 2, the oldest first", len(got))
	}
	body := chain.Body{}
	(&staking.Extras{Evidence: []consensus.Evidence{other}}).Put(&body)
	p.finalize(r.store.State(), &chain.Block{Body: body})
	if got := p.offer(r.store.State()); len(got) != 1 || got[0].Round().View != 9 {
		t.Errorf("%d pieces are offered after one is on the chain", len(got))
	}
	// Who takes all of its stake out has no record any more; what left is liable.
	gone := state.NewOverlay(r.store.State())
	_, members, _ := staking.CommitteeOf(gone, 1)
	gone.Delete(staking.ValidatorKey(members[2].ID))
	if got := p.offer(gone); len(got) != 1 {
		t.Errorf("%d pieces are offered against a validator that is gone", len(got))
	}
	for view := range consensus.View(2 * maxEvidence) {
		p.add(doubleVote(t, c, 3, view+1))
	}
	if p.size() != maxEvidence {
		t.Errorf("%d pieces wait, limit %d", p.size(), maxEvidence)
	}
}
