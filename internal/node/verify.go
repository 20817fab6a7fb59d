package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// Verify executes a block on its parent.
func (a *application) Verify(ctx context.Context, r engine.VerifyRequest) error {
	err := a.verify(ctx, r)
	switch {
	case errors.Is(err, errSuperseded) && r.Attested: // so nobody waits for the answer much longer
		<-ctx.Done()
		return ctx.Err()
	case errors.Is(err, errInvalid) || errors.Is(err, execution.ErrInvalidBlock) || errors.Is(err, errSuperseded):
		return fmt.Errorf("%w: %w", engine.ErrInvalid, err)
	}
	return err
}

func (a *application) verify(ctx context.Context, r engine.VerifyRequest) error {
	block, err := a.decodedBlock(r.Block)
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	h := block.Header()
	c, ok := a.committees.of(r.Round.Epoch)
	if !ok {
		return a.fault(fmt.Errorf("node: the state has no committee of epoch %d, which runs", r.Round.Epoch))
	}
	leader := c.Validator(c.Leader(r.Round.View)).Key
	switch {
	case h.Epoch != uint64(r.Round.Epoch) || h.View != uint64(r.Round.View):
		return fmt.Errorf("%w: its round is (%d, %d), proposed in (%d, %d)", errInvalid, h.Epoch, h.View, r.Round.Epoch, r.Round.View)
	case h.Parent != r.Parent.Digest:
		return fmt.Errorf("%w: its parent is %s, proposed on %s", errInvalid, h.Parent.Short(), r.Parent.Digest.Short())
	case h.Proposer != leader:
		return fmt.Errorf("%w: proposer %s is not the view's leader", errInvalid, h.Proposer.Short())
	}
	if !r.Attested { // certification ignores the clock (consensus.md §1)
		if err := a.awaitClock(ctx, h.TimeMs); err != nil {
			return err
		}
	}
	if err := a.awaitFinality(ctx, block); err != nil {
		return err
	}
	_, err = a.execute(ctx, block)
	if errors.Is(err, engine.ErrDiverged) && !r.Attested {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	return err
}

// awaitClock waits until a block's time is no longer too far ahead.
func (a *application) awaitClock(ctx context.Context, at chain.TimeMs) error {
	lead := time.Until(time.UnixMilli(int64(min(at, 1<<62)))) - maxClockLead
	if lead <= 0 {
		return nil
	}
	timer := time.NewTimer(lead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitFinality waits until a block with transactions is not too far above the
// last finalized block here, whatever its header claims: that bounds the layers
// in memory. A block that a quorum notarized was not too far for the honest in
// it, so what this waits for is final.
func (a *application) awaitFinality(ctx context.Context, block *chain.DecodedBlock) error {
	for {
		a.mu.Lock()
		root, advanced := a.root.height, a.advanced
		a.mu.Unlock()
		if block.Block().IsEmpty() || block.Header().Height <= root+maxSpeculation {
			return nil
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// execute returns the branch of a block, executing it unless that has been
// done. It is engine.ErrDiverged if the state before the block is not the one
// that its header attests.
func (a *application) execute(ctx context.Context, block *chain.DecodedBlock) (*branch, error) {
	defer a.enter()()
	if b, ok := a.branch(block.Digest()); ok {
		return b, nil
	}
	h := block.Header()
	parent, ok := a.branch(h.Parent)
	if !ok {
		return nil, errSuperseded
	}
	extras, err := staking.DecodeExtras(&block.Block().Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := a.checkHeader(h, parent, block.Block().IsEmpty()); err != nil {
		return nil, err
	}
	txs := a.pool.verify(block.Txs()) // nil stands for one whose signatures do not
	began := time.Now()
	outcome, err := a.executor.Apply(parent.state, h, extras, txs)
	a.metrics.execution.Observe(time.Since(began).Seconds())
	a.load.observe(len(txs), time.Since(began))
	if errors.Is(err, execution.ErrInvalidBlock) {
		return nil, err
	}
	if err != nil {
		return nil, a.fault(fmt.Errorf("executing block %d: %w", h.Height, err))
	}
	tree, receiptRoot, err := parent.roots(ctx)
	if errors.Is(err, state.ErrReleased) { // it lost before it was hashed, and what it stands on is gone
		return nil, fmt.Errorf("%w: %w", errSuperseded, err)
	}
	if err != nil {
		return nil, err
	}
	if tree.Root() != h.StateRoot || receiptRoot != h.ReceiptRoot {
		return nil, fmt.Errorf("%w: after block %d the state is %s and the receipts are %s here, block %d says %s and %s", engine.ErrDiverged,
			parent.height, tree.Root().Short(), receiptRoot.Short(), h.Height, h.StateRoot.Short(), h.ReceiptRoot.Short())
	}
	return a.addBranch(newBranch(parent, block, outcome))
}

// fault stops the node: its own state is broken. It returns the error.
func (a *application) fault(err error) error {
	a.raise(err)
	return err
}

func (a *application) raise(err error) {
	select {
	case a.faults <- err:
	default: // the node is stopping because of an earlier one
	}
}

// checkHeader checks what a header says of itself and of its parent; the
// executor checks version, chain, height and time.
func (a *application) checkHeader(h *chain.Header, parent *branch, empty bool) error {
	switch {
	case h.Height != parent.height+1:
		return fmt.Errorf("%w: height %d on block %d", errInvalid, h.Height, parent.height)
	case h.Finalized >= h.Height:
		return fmt.Errorf("%w: it says that block %d is final, and is block %d itself", errInvalid, h.Finalized, h.Height)
	case h.Height > h.Finalized+maxSpeculation && !empty:
		return fmt.Errorf("%w: it carries transactions %d heights above the last finalized block that it knows, limit %d", errInvalid, h.Height-h.Finalized, maxSpeculation)
	}
	output, err := h.Proposer.VRFVerify(crypto.DomainVRFInput, chain.VRFInput(h.ChainID, h.Epoch, h.View), h.VRFProof)
	if err != nil || output != h.VRFOutput {
		return fmt.Errorf("%w: its VRF output does not verify", errInvalid)
	}
	return nil
}

// Finalize makes a block and its effects durable.
func (a *application) Finalize(ctx context.Context, b consensus.Block, certificate *consensus.Certificate) ([]replica.Reign, error) {
	if err := a.commit(ctx, b, certificate); err != nil || !b.Closing {
		return nil, err
	}
	return a.reigns()
}

func (a *application) commit(ctx context.Context, b consensus.Block, certificate *consensus.Certificate) error {
	block, err := a.decodedBlock(b)
	if err != nil {
		return fmt.Errorf("decoding finalized block %d: %w", b.Height, err)
	}
	if h := block.Header(); a.trusted != nil && h.Closing && consensus.Epoch(h.Epoch) == a.trusted.Epoch && block.Digest() != a.trusted.Digest {
		return fmt.Errorf("%w: peers show that block %s ended epoch %d, the checkpoint names %s: they follow another history than whoever gave the checkpoint",
			engine.ErrDiverged, block.Digest().Short(), h.Epoch, a.trusted.Digest.Short())
	}
	done, err := a.execute(ctx, block)
	if errors.Is(err, execution.ErrInvalidBlock) || errors.Is(err, errInvalid) {
		return fmt.Errorf("%w: block %d is final and invalid here: %w", engine.ErrDiverged, b.Height, err)
	}
	if err != nil {
		return fmt.Errorf("executing finalized block %d: %w", b.Height, err)
	}
	tree, _, err := done.roots(ctx)
	if err != nil {
		return err
	}
	before, _, err := done.parent.roots(ctx)
	if err != nil {
		return err
	}
	raw := consensus.EncodeCertificate(certificate)
	closing, err := closingOf(block.Header(), raw, before, done.state)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := a.store.Commit(store.Finalized{
		Height: done.height, Digest: done.digest, Header: block.Header().Encode(), Block: block.Raw(),
		Certificate: raw, Receipts: done.receipts,
		Changes: done.outcome.Changes, Tree: tree, Txs: txIDs(block), Orders: orders(block), Closing: closing,
	}); err != nil {
		return fmt.Errorf("committing block %d: %w", b.Height, err)
	}
	a.metrics.commit.Observe(time.Since(began).Seconds())
	a.metrics.finalized(done)
	base, err := a.store.Snapshot()
	if err != nil {
		return err
	}
	a.recent.add(rpc.Outcome{Header: *block.Header(), Digest: done.digest, Receipts: done.outcome.Receipts})
	a.advance(done, base)
	a.forget(done.height)
	a.pool.finalize(done.height, block.Txs())
	a.evidence.finalize(a.store.State(), block.Block())
	latest := func() (closableState, error) { return a.store.Snapshot() }
	a.compiler.begin(block.Header().TimeMs, &done.outcome.Receipts)
	if err := a.foresight.begin(latest); err != nil || !b.Closing {
		return err
	}
	return a.auditor.begin(done.height, latest)
}

// advance makes a committed block the root: what does not descend from it is
// dropped, and what does stands on base, the store's state after it.
func (a *application) advance(root *branch, base *store.Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	mark, _ := a.store.TreeMark()
	old := a.root
	a.root, root.parent = root, nil
	if a.proven != nil {
		a.proven.Release() // whoever still proves from it ends so, or begins again
	}
	a.proven = old.tree.Load()
	a.retired = append(a.retired, a.base)
	a.base = base
	root.state.base.Store(&reader{base})
	a.release()
	for digest, b := range a.branches {
		if !descends(b, root, old) {
			delete(a.branches, digest)
			continue
		}
		select {
		case <-b.hashed:
			if b.hashErr == nil {
				b.tree.Store(b.tree.Load().Persisted(mark))
			}
		default: // its Next builds on a tree that still holds everything
		}
	}
	close(a.advanced)
	a.advanced = make(chan struct{})
}

// provenTree returns the tree that the header at a height proves, and keeps it until done.
func (a *application) provenTree() (tree *state.Tree, height chain.Height, done func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.proven == nil {
		return nil, 0, nil, fmt.Errorf("no header proves a state yet: %w", rpc.ErrBusy)
	}
	done, err = a.proven.Keep()
	return a.proven, a.root.height, done, err
}

func descends(b, root, old *branch) bool {
	for b != nil && b != old {
		if b == root {
			return true
		}
		b = b.parent
	}
	return false
}

func txIDs(block *chain.DecodedBlock) []crypto.Digest {
	ids := make([]crypto.Digest, len(block.Txs()))
	for i := range block.Txs() {
		ids[i] = block.Txs()[i].ID()
	}
	return ids
}

// orders lists which transactions of a block concern which orders.
func orders(block *chain.DecodedBlock) []store.OrderEntry {
	var out []store.OrderEntry
	for i := range block.Txs() {
		seen := map[crypto.Digest]bool{}
		for _, m := range block.Txs()[i].Tx().Body.Messages {
			for _, order := range ordersOf(m) {
				if !seen[order] {
					seen[order] = true
					out = append(out, store.OrderEntry{Order: order, TxIndex: uint32(i)})
				}
			}
		}
	}
	return out
}

// ordersOf returns the orders that a message asks payment for.
func ordersOf(m chain.Msg) []crypto.Digest {
	if settle, ok := m.(chain.Settle); ok {
		out := make([]crypto.Digest, len(settle.Claims))
		for i := range settle.Claims {
			out[i] = settle.Claims[i].Receipt.Order
		}
		return out
	}
	if reveal, ok := m.(chain.RevealRun); ok {
		return []crypto.Digest{reveal.Receipt.Order}
	}
	if batch, ok := m.(chain.SettleBatch); ok {
		return []crypto.Digest{batch.Batch.Summary.Order}
	}
	if collect, ok := m.(chain.CollectRun); ok {
		return []crypto.Digest{collect.Order}
	}
	return nil
}
