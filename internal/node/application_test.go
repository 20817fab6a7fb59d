package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestAnApplicationOpensAtEveryHeight: the store writes the tree of every
// fourth height only, and a node may die at any.
func TestAnApplicationOpensAtEveryHeight(t *testing.T) {
	r := newRig(t, testGenesis(t))
	on := r.genesisParent()
	for v := consensus.View(1); v <= 10; v++ {
		r.submit(transfer(t, 1, uint64(v-1), user(70).address()))
		b := r.propose(v, on)
		r.finalize(v, on, b)
		on = parentOf(v, b)
		r.close()
		r.open()
		last, err := r.app.Last()
		if err != nil {
			t.Fatal(err)
		}
		if last.Height != uint64(v) || last.Digest != b.Digest || last.Empty {
			t.Fatalf("after block %d the floor is %+v", v, last)
		}
		if p, ok, err := r.app.Finalized(uint64(v)); err != nil || !ok || p.Digest != b.Digest {
			t.Fatalf("block %d: %+v, %v, %v", v, p, ok, err)
		}
	}
	supply, err := execution.Recompute(r.store.State())
	if err != nil {
		t.Fatal(err)
	}
	if got := balanceOf(r.store.State(), user(70).address()); got != chain.Hyper(10) || supply.Burned.IsZero() {
		t.Errorf("balance %s after ten transfers, burned %s", got, supply.Burned)
	}
}

func TestADataDirectoryOfAnotherGenesisIsRefused(t *testing.T) {
	r := newRig(t, testGenesis(t))
	other := testGenesis(t)
	other.ChainID = "node-test-2"
	if _, err := openApplication(other, execution.New(other, noKernels(t), nil), r.store); err == nil || !strings.Contains(err.Error(), "another genesis") {
		t.Errorf("error %v", err)
	}
}

// altered returns a block with its header or body changed and, unless the roots
// themselves were, the roots of its body.
func (r *rig) altered(b consensus.Block, change func(*chain.Block)) (consensus.Block, error) {
	r.Helper()
	decoded, err := chain.DecodeBlock(b.Payload, nil)
	if err != nil {
		r.Fatal(err)
	}
	block := *decoded.Block()
	change(&block)
	return r.app.Inspect(block.Encode())
}

func TestHeaderRules(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	first := maker.propose(1, maker.genesisParent())
	for _, m := range []*rig{maker, r} {
		m.finalize(1, m.genesisParent(), first)
	}
	on := parentOf(1, first)
	maker.submit(transfer(t, 1, 0, user(70).address()))
	good := maker.propose(2, on)
	other := keyOf(0, 'c')
	if other.Public() == maker.keyOfLeader(2).Public() {
		other = keyOf(1, 'c')
	}
	elsewhere := other.VRFProve(crypto.DomainVRFInput, chain.VRFInput(testChain, 1, 2))
	for want, change := range map[string]func(*chain.Header){
		"version 2":               func(h *chain.Header) { h.Version++ },
		"does not verify":         func(h *chain.Header) { h.ChainID = "node-test-2" },
		"height 3 on block 1":     func(h *chain.Header) { h.Height++ },
		"its round is (2, 2)":     func(h *chain.Header) { h.Epoch++ },
		"its round is (1, 3)":     func(h *chain.Header) { h.View++ },
		"its parent is 07":        func(h *chain.Header) { h.Parent = crypto.Digest{7} },
		"the parent's is":         func(h *chain.Header) { h.TimeMs = 1 },
		"state is":                func(h *chain.Header) { h.StateRoot = crypto.Digest{7} },
		"the receipts are":        func(h *chain.Header) { h.ReceiptRoot = crypto.Digest{7} },
		"committee 07":            func(h *chain.Header) { h.Committee = crypto.Digest{7} },
		"next committee 07":       func(h *chain.Header) { h.NextCommittee = crypto.Digest{7} },
		"is not the view's leade": func(h *chain.Header) { h.Proposer = other.Public() },
		"that block 2 is final":   func(h *chain.Header) { h.Finalized = 2 },
		"VRF output":              func(h *chain.Header) { h.VRFOutput = crypto.Digest{7} },
		"its VRF":                 func(h *chain.Header) { h.VRFProof = elsewhere },
	} {
		b, err := r.altered(good, func(b *chain.Block) { change(&b.Header) })
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if err := r.verify(2, on, b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for want, change := range map[string]func(*chain.Block){
		"transactions root": func(b *chain.Block) { b.Header.TxRoot = crypto.Digest{7} },
		"extra root":        func(b *chain.Block) { b.Header.ExtraRoot = crypto.Digest{7} },
		"transactions ro":   func(b *chain.Block) { b.Body.Txs = nil },
		"extra roo":         func(b *chain.Block) { b.Body.LateVotes = [][]byte{{1}} },
		"limit":             func(b *chain.Block) { b.Body.Txs = make([]codec.Raw, chain.MaxBlockTxs+1) },
	} {
		if _, err := r.altered(good, change); err == nil || !strings.Contains(err.Error(), want) && want != "limit" {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	extra, err := r.altered(good, func(b *chain.Block) {
		b.Body.LateVotes = [][]byte{{1}}
		b.Header.ExtraRoot = b.Body.ExtraRoot()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.verify(2, on, extra); !errors.Is(err, errInvalid) {
		t.Errorf("late votes that nothing reads: %v", err)
	}
	if err := r.verify(2, on, good); err != nil {
		t.Errorf("the block itself: %v", err)
	}
}

// TestOneDivergenceStopsANode: a wrong root is a leader's mistake until a quorum
// attests it, and what is final must execute.
func TestOneDivergenceStopsANode(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	on := r.genesisParent()
	wrong, err := r.altered(maker.propose(1, on), func(b *chain.Block) { b.Header.StateRoot = crypto.Digest{7} })
	if err != nil {
		t.Fatal(err)
	}
	request := engine.VerifyRequest{Round: r.round(1), Parent: on, Block: wrong}
	if err := r.app.Verify(t.Context(), request); !errors.Is(err, errInvalid) {
		t.Errorf("offered: %v, want invalid", err)
	}
	request.Attested = true
	if err := r.app.Verify(t.Context(), request); !errors.Is(err, engine.ErrDiverged) || errors.Is(err, errInvalid) {
		t.Errorf("attested: %v, want ErrDiverged alone", err)
	}
	if _, err := r.app.Finalize(t.Context(), wrong, r.certificate(1, on, wrong)); !errors.Is(err, engine.ErrDiverged) {
		t.Errorf("final: %v, want ErrDiverged", err)
	}
	early, err := r.altered(maker.propose(1, on), func(b *chain.Block) { b.Header.TimeMs = 1 })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.app.Finalize(t.Context(), early, r.certificate(1, on, early)); !errors.Is(err, engine.ErrDiverged) {
		t.Errorf("final and invalid: %v, want ErrDiverged", err)
	}
}

// TestOnlyVotesWaitForTheClock: a block ahead of the clock is not judged yet,
// but certification ignores the clock.
func TestOnlyVotesWaitForTheClock(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	on := r.genesisParent()
	b, err := r.altered(maker.propose(1, on), func(b *chain.Block) { b.Header.TimeMs += 3_600_000 })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	request := engine.VerifyRequest{Round: r.round(1), Parent: on, Block: b}
	if err := r.app.Verify(ctx, request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an hour ahead: %v, want to wait", err)
	}
	request.Attested = true
	if err := r.app.Verify(t.Context(), request); err != nil {
		t.Errorf("attested: %v", err)
	}
}

// TestSpeculationIsBounded: a leader stops to include, and a validator waits
// whatever the header claims.
func TestSpeculationIsBounded(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	blocks := map[consensus.View]consensus.Block{}
	parents := map[consensus.View]engine.Parent{1: r.genesisParent()}
	for v := consensus.View(1); v <= 8; v++ {
		maker.submit(transfer(t, 1, uint64(v-1), user(70).address()))
		blocks[v] = maker.propose(v, parents[v])
		parents[v+1] = parentOf(v, blocks[v])
		if full := !blocks[v].Empty; full != (v < maxSpeculation) {
			t.Errorf("block %d above genesis has transactions: %v", v, full)
		}
		if err := r.verify(v, parents[v], blocks[v]); err != nil {
			t.Fatal(err)
		}
	}
	tip, ok := maker.app.branch(blocks[8].Digest)
	if !ok {
		t.Fatal("block 8 is not known where it was made")
	}
	tree, receiptRoot, err := tip.roots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	header := maker.app.header(r.round(9), maker.keyOfLeader(9), tip)
	header.StateRoot, header.ReceiptRoot, header.Finalized = tree.Root(), receiptRoot, 8
	liar, _, err := maker.app.build(tip, header, content{budget: execution.MaxBudget, included: maker.app.includedIn(tip)})
	if err != nil || liar.Block().IsEmpty() {
		t.Fatalf("%v, empty %v", err, liar.Block().IsEmpty())
	}
	verdict := make(chan error, 1)
	request := engine.VerifyRequest{Round: r.round(9), Parent: parents[9], Block: consensusBlock(liar)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.app.Verify(ctx, request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nine heights above genesis: %v, want to wait", err)
	}
	go func() { verdict <- r.app.Verify(t.Context(), request) }()
	r.finalize(1, parents[1], blocks[1])
	if err := <-verdict; err != nil {
		t.Errorf("after one more finalization: %v", err)
	}
}

// TestALeaderWaitsForRoom: where finalized blocks wait for the disk, the next one
// waits with its transactions rather than to be empty.
func TestALeaderWaitsForRoom(t *testing.T) {
	r := newRig(t, testGenesis(t))
	blocks := map[consensus.View]consensus.Block{}
	parents := map[consensus.View]engine.Parent{1: r.genesisParent()}
	for v := consensus.View(1); v < maxSpeculation; v++ {
		r.submit(transfer(t, 1, uint64(v-1), user(70).address()))
		blocks[v] = r.propose(v, parents[v])
		parents[v+1] = parentOf(v, blocks[v])
	}
	r.submit(transfer(t, 1, maxSpeculation-1, user(70).address()))
	r.app.roomPatience = time.Minute
	var wg sync.WaitGroup
	waits := watched{t.Context(), sync.OnceFunc(func() {
		wg.Go(func() {
			if _, err := r.app.Finalize(context.Background(), blocks[1], r.certificate(1, parents[1], blocks[1])); err != nil {
				t.Error(err)
			}
		})
	})}
	on := parents[maxSpeculation]
	b, err := r.app.Propose(waits, engine.ProposeRequest{Round: r.round(maxSpeculation), Parent: on, LastFinalized: on})
	wg.Wait()
	if err != nil || b.Empty {
		t.Errorf("%v; the block is empty: %t, although another one has become final meanwhile", err, b.Empty)
	}
}

// watched is a context that tells when somebody waits for its end.
type watched struct {
	context.Context
	told func()
}

func (w watched) Done() <-chan struct{} {
	w.told()
	return w.Context.Done()
}

func TestAStandstillIsProposedEmptyBlocks(t *testing.T) {
	r := newRig(t, testGenesis(t))
	r.submit(transfer(t, 1, 0, user(70).address()))
	for v, empty := range map[consensus.View]bool{maxOpenViews: false, maxOpenViews + 1: true} {
		if b := r.propose(v, r.genesisParent()); b.Empty != empty {
			t.Errorf("in view %d after none was finalized, empty is %v", v, b.Empty)
		}
	}
}

func TestFinalizationDropsWhatLost(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	root := r.genesisParent()
	maker.submit(transfer(t, 1, 0, user(70).address()))
	lost := maker.propose(1, root)
	maker.submit(transfer(t, 2, 0, user(71).address()))
	won := maker.propose(2, root)
	above := maker.propose(3, parentOf(1, lost))
	late := maker.propose(4, parentOf(3, above))
	for _, step := range []struct {
		view consensus.View
		on   engine.Parent
		b    consensus.Block
	}{{1, root, lost}, {2, root, won}, {3, parentOf(1, lost), above}} {
		if err := r.verify(step.view, step.on, step.b); err != nil {
			t.Fatal(err)
		}
	}
	r.finalize(2, root, won)
	if n := len(r.app.branches); n != 1 {
		t.Errorf("%d branches are left, want the finalized one", n)
	}
	if err := r.verify(4, parentOf(3, above), late); !errors.Is(err, errSuperseded) {
		t.Errorf("a block on the lost branch: %v", err)
	}
	if _, err := r.app.Propose(t.Context(), engine.ProposeRequest{Round: r.round(5), Parent: parentOf(1, lost)}); err == nil {
		t.Error("a proposal on the lost branch")
	}
	if err := r.verify(5, parentOf(2, won), maker.propose(5, parentOf(2, won))); err != nil {
		t.Errorf("a block on the finalized one: %v", err)
	}
}

// TestALoserHashedLateIsNoFault: a block on one that lost, whose hashing comes after what that
// stands on was let go of, is superseded, and does not stop the node.
func TestALoserHashedLateIsNoFault(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	root := r.genesisParent()
	maker.submit(transfer(t, 1, 0, user(70).address()))
	lost := maker.propose(1, root)
	above := maker.propose(2, parentOf(1, lost))
	if err := r.verify(1, root, lost); err != nil {
		t.Fatal(err)
	}
	defer r.app.enter()() // an execution on it is under way
	known := r.app.branches[lost.Digest]
	<-known.hashed                                              // else that keeps what it stands on
	slow := newBranch(known.parent, known.block, known.outcome) // nobody hashes it yet
	won := r.propose(3, root)
	r.finalize(3, root, won)
	next := r.propose(4, parentOf(3, won))
	r.finalize(4, parentOf(3, won), next)
	slow.hash()
	if !errors.Is(slow.hashErr, state.ErrReleased) {
		t.Fatalf("what it stands on is there: %v; the test shows nothing", slow.hashErr)
	}
	r.app.branches[slow.digest] = slow // as if it had been looked up before
	if err := r.verify(2, parentOf(1, lost), above); !errors.Is(err, errSuperseded) {
		t.Errorf("a block on it: %v", err)
	}
}

// TestAnExecutionReadsOneState: what began to execute goes on to read the state
// that it began with, whatever is finalized meanwhile, and nothing is retained
// after it.
func TestAnExecutionReadsOneState(t *testing.T) {
	r := newRig(t, testGenesis(t))
	heightOf := func(s state.Reader) chain.Height {
		head, err := execution.HeadOf(s)
		if err != nil {
			t.Fatal(err)
		}
		return head.Height
	}
	leave := r.app.enter()
	genesis := r.app.root.state
	root := r.genesisParent()
	r.submit(transfer(t, 1, 0, user(70).address()))
	lost := r.propose(1, root)
	lostState := r.app.branches[lost.Digest].state
	b := r.propose(2, root)
	r.finalize(2, root, b)
	finalState := r.app.root.state
	r.submit(transfer(t, 2, 0, user(71).address()))
	c := r.propose(3, parentOf(2, b))
	r.finalize(3, parentOf(2, b), c)
	if got := balanceOf(finalState, user(71).address()); !got.IsZero() {
		t.Errorf("balance %s in the state before the transfer", got)
	}
	if h := heightOf(genesis); h != 0 {
		t.Errorf("the state of genesis is of height %d", h)
	}
	if got := balanceOf(genesis, user(70).address()); !got.IsZero() {
		t.Errorf("balance %s before the first block", got)
	}
	if h := heightOf(lostState); h != 1 {
		t.Errorf("the state of block 1 is of height %d", h)
	}
	pairs := 0
	for range lostState.Iterate([]byte{0}, nil) {
		pairs++
	}
	if pairs < 15 {
		t.Errorf("%d pairs in a whole state", pairs)
	}
	if len(r.app.retired) != 2 {
		t.Errorf("%d snapshots wait for the execution, want 2", len(r.app.retired))
	}
	leave()
	if len(r.app.retired) != 0 {
		t.Errorf("%d snapshots are left after it", len(r.app.retired))
	}
}

// TestLosersExecutedDuringCommitsAreNoFaults verifies, while each block is
// finalized, its sibling.
func TestLosersExecutedDuringCommitsAreNoFaults(t *testing.T) {
	g := testGenesis(t)
	maker, r := newRig(t, g), newRig(t, g)
	on := r.genesisParent()
	for v := consensus.View(1); v < 60; v += 2 {
		for n := range 9 {
			maker.submit(transfer(t, n+1, uint64(v/2), user(70).address()))
		}
		won, lost := maker.propose(v, on), maker.propose(v+1, on)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.verify(v+1, on, lost); err != nil && !errors.Is(err, errSuperseded) {
				t.Errorf("view %d: %v", v+1, err)
			}
		})
		r.finalize(v, on, won)
		wg.Wait()
		maker.finalize(v, on, won)
		on = parentOf(v, won)
	}
	if n := len(r.app.branches); n > 2 {
		t.Errorf("%d branches", n)
	}
	if _, err := execution.Recompute(r.store.State()); err != nil {
		t.Error(err)
	}
}

func TestDecodedBlocksAreBounded(t *testing.T) {
	r := newRig(t, testGenesis(t))
	b := r.propose(1, r.genesisParent())
	for n := range uint64(3 * maxDecoded) {
		if _, err := r.altered(b, func(b *chain.Block) { b.Header.Height += chain.Height(n) }); err != nil {
			t.Fatal(err)
		}
	}
	bytes := 0
	for _, d := range r.app.decoded {
		bytes += len(d.Raw())
	}
	if len(r.app.decoded) != maxDecoded || len(r.app.order) != maxDecoded || bytes != r.app.decodedBytes {
		t.Errorf("%d blocks, %d in order, %d bytes counted as %d", len(r.app.decoded), len(r.app.order), bytes, r.app.decodedBytes)
	}
}

func TestForgedGossipBlocksThePeer(t *testing.T) {
	r := newRig(t, testGenesis(t))
	var blocked []string
	r.app.pool.gossip.block = func(_ crypto.PublicKey, reason string) { blocked = append(blocked, reason) }
	receive := func(txs ...[]byte) {
		for _, message := range encodeGossip(gossipSpread, txs) {
			r.app.pool.gossip.receive(crypto.PublicKey{1}, message)
		}
	}
	forge := func(tx chain.DecodedTx) []byte {
		forged := *tx.Tx()
		forged.Signatures = append(forged.Signatures[:0:0], forged.Signatures...)
		forged.Signatures[0].Signature[3] ^= 1
		return forged.Encode()
	}
	good, poor := transfer(t, 1, 0, user(70).address()), transfer(t, 40, 0, user(70).address())
	receive(good.Raw(), poor.Raw())
	receive(good.Raw())
	if len(blocked) != 0 {
		t.Errorf("blocked for %q", blocked)
	}
	if n, _ := r.app.pool.size(); n != 1 {
		t.Errorf("%d transactions wait, want the one that can pay", n)
	}
	receive(forge(transfer(t, 2, 0, user(70).address())))
	if len(blocked) != 1 || !strings.Contains(blocked[0], "1 forged") {
		t.Errorf("blocked for %q, want one forgery", blocked)
	}
}

// A transaction that is twice in one submission, or comes from two clients while
// its signature is verified, is in the pool for both.
func TestATransactionTwiceAtOnceIsAcceptedTwice(t *testing.T) {
	r := newRig(t, testGenesis(t))
	tx := transfer(t, 1, 0, user(2).address())
	for i, reason := range r.app.pool.Submit([]chain.DecodedTx{tx, tx}) {
		if reason != "" {
			t.Errorf("submission %d: %s", i, reason)
		}
	}
	if n, _ := r.app.pool.size(); n != 1 {
		t.Errorf("the pool holds %d transactions", n)
	}
}

// TestWhatABeginningDidIsProvenAtOnce: nothing is sent to the chain, but a bond matures at the
// beginning of a block. Its state is proven by the next one's header, which does not wait.
func TestWhatABeginningDidIsProvenAtOnce(t *testing.T) {
	g := testGenesis(t)
	g.Params.ProviderBond, g.Params.UnbondDelayMs = chain.Hyper(1), 60_000
	r := newRig(t, g)
	node, owner := keyOf(1, 'p'), user(1)
	r.submit(signedBy(t, 1, 0, chain.RegisterProvider{
		Node: node.Public(), Bond: chain.Hyper(1), Region: "eu", Millicores: 1_000, MemoryMiB: 1_024,
		Possession: node.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, owner.address())),
	}, chain.UnbondProvider{Node: node.Public()}))
	first := r.propose(1, r.genesisParent())
	matured := r.proposeAt(2, parentOf(1, first), chain.TimeMs(g.Params.UnbondDelayMs)+1)
	b, _ := r.app.branch(matured.Digest)
	if len(b.outcome.Receipts.Begin) != 1 || len(b.block.Txs()) != 0 {
		t.Fatalf("%v and %d transactions, want a bond that matured, and none", b.outcome.Receipts.Begin, len(b.block.Txs()))
	}
	propose := func(v consensus.View, on engine.Parent, patience time.Duration) (consensus.Block, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return r.app.Propose(ctx, engine.ProposeRequest{Round: r.round(v), Parent: on, LastFinalized: on, Idle: time.Hour})
	}
	next, err := propose(3, parentOf(2, matured), time.Minute)
	if err != nil {
		t.Fatalf("the block after waits: %v", err)
	}
	if b, err := propose(4, parentOf(3, next), 200*time.Millisecond); err == nil {
		t.Errorf("block %s follows an empty one at once", b.Digest.Short())
	}
}
