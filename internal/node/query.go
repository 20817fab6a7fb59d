package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

var _ rpc.Node = (*Node)(nil)

// maxSettlementTxs bounds what is read for one order.
const maxSettlementTxs = 256

// Status describes the node and its chain.
func (n *Node) Status(context.Context) (api.Status, error) {
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.Status{}, err
	}
	defer n.closeSnapshot(snapshot)
	head, err := execution.HeadOf(snapshot)
	if err != nil {
		return api.Status{}, err
	}
	at := n.engine.Status()
	txs, bytes := n.pool.size()
	status := api.Status{
		ChainID: n.genesis.ChainID, Height: snapshot.Tip().Height, Digest: snapshot.Tip().Digest, Epoch: uint64(at.Epoch),
		FinalizedView: uint64(at.FinalizedView), Signs: at.Signs, Evidence: n.app.evidence.size(), BlockTimeMs: head.TimeMs, BaseFee: head.BaseFee,
		Peers: len(n.network.Peers()), MempoolTxs: txs, MempoolBytes: bytes, Syncing: at.Behind, Devnet: n.genesis.Devnet,
		GenesisDigest: n.genesis.Digest(), NodeKey: n.endpoint.ID(), Version: n.config.Version,
	}
	if c, ok := n.app.committees.of(at.Epoch); ok {
		status.CommitteeSize = c.Len()
	}
	if !at.Signs {
		status.Observes = n.observes(at.Observes)
	}
	return status, nil
}

// observes says why a node does not vote, which consensus knows of a committee's
// member.
func (n *Node) observes(member string) string {
	switch {
	case len(n.network.named.wards) > 0:
		return "a sentry, without a consensus key"
	case len(n.app.keys) == 0:
		return "no consensus key"
	case member != "":
		return member
	}
	return "its consensus key is not in the committee of this epoch"
}

func (n *Node) closeSnapshot(s *store.Snapshot) {
	if err := s.Close(); err != nil {
		n.log.Error("closing a snapshot", "error", err)
	}
}

// Hold returns when the node can take transactions in, or after a while.
func (n *Node) Hold(ctx context.Context) { n.pool.hold(ctx) }

// Submit offers transactions to the mempool.
func (n *Node) Submit(_ context.Context, txs []chain.DecodedTx) ([]string, error) {
	return n.pool.Submit(txs), nil
}

// Tx finds a transaction.
func (n *Node) Tx(_ context.Context, id chain.TxID) (api.TxLookup, error) {
	tip, _ := n.store.Latest()
	lookup := api.TxLookup{TxID: id, Finalized: tip.Height, Status: api.TxPending}
	at, ok, err := n.store.TxPosition(id)
	if err != nil {
		return api.TxLookup{}, err
	}
	if !ok {
		if lookup, ok = n.waiting(lookup); ok {
			return lookup, nil
		}
		// It may have become final between the two looks.
		if at, ok, err = n.store.TxPosition(id); err != nil {
			return api.TxLookup{}, err
		}
	}
	if why, was := n.Dropped(id); !ok && was {
		lookup.Status, lookup.Dropped = api.TxDropped, &why
		return lookup, nil
	}
	if !ok {
		return api.TxLookup{}, fmt.Errorf("transaction %s: %w", id, rpc.ErrNotFound)
	}
	block, receipts, err := n.stored(at.Height)
	if err != nil {
		return api.TxLookup{}, err
	}
	tx := api.TxToJSON(*block.Txs()[at.Index].Tx())
	lookup.Status, lookup.Tx, lookup.Height, lookup.Index = api.TxIncluded, &tx, at.Height, at.Index
	lookup.TimeMs, lookup.Receipt = block.Header().TimeMs, &receipts.Txs[at.Index]
	return lookup, nil
}

// waiting fills in a lookup of a transaction that waits in the pool, or in a block that
// is not final.
func (n *Node) waiting(lookup api.TxLookup) (api.TxLookup, bool) {
	pending, ok := n.pool.pending(lookup.TxID)
	if !ok && n.app.stands(lookup.TxID) {
		if pending, ok = n.pool.Get(lookup.TxID); !ok { // what it says is forgotten here
			return lookup, true
		}
	}
	if !ok {
		return lookup, false
	}
	tx := api.TxToJSON(*pending.Tx())
	lookup.Tx = &tx
	return lookup, true
}

// Dropped says why a transaction left the mempool.
func (n *Node) Dropped(id chain.TxID) (api.Dropped, bool) {
	why, ok := n.pool.dropped(id)
	return api.Dropped{Reason: why.Reason.String(), Height: why.Height, By: why.By}, ok
}

// stored reads a finalized block and its receipts.
func (n *Node) stored(height chain.Height) (*chain.DecodedBlock, chain.BlockReceipts, error) {
	raw, ok, err := n.store.Block(height)
	if err != nil {
		return nil, chain.BlockReceipts{}, err
	}
	if !ok {
		return nil, chain.BlockReceipts{}, fmt.Errorf("block %d: %w", height, rpc.ErrNotFound)
	}
	block, err := chain.DecodeBlock(raw, nil)
	if err != nil {
		return nil, chain.BlockReceipts{}, fmt.Errorf("stored block %d: %w", height, err)
	}
	receipts, err := n.receipts(height)
	return block, receipts, err
}

func (n *Node) receipts(height chain.Height) (chain.BlockReceipts, error) {
	raw, ok, err := n.store.Receipts(height)
	if err != nil || !ok {
		return chain.BlockReceipts{}, errors.Join(fmt.Errorf("receipts of block %d: %w", height, rpc.ErrNotFound), err)
	}
	return chain.DecodeBlockReceipts(raw)
}

// Block returns a finalized block.
func (n *Node) Block(_ context.Context, height chain.Height) (rpc.Block, error) {
	block, receipts, err := n.stored(height)
	if err != nil {
		return rpc.Block{}, err
	}
	certificate, err := n.certificate(height)
	return rpc.Block{Decoded: block, Receipts: receipts, Certificate: certificate}, err
}

// certificate returns what shows that a block is final: a certificate of it, or
// of a block above it with the headers that lead there.
func (n *Node) certificate(height chain.Height) (api.Certificate, error) {
	e, c, ok, err := finality(n.store, height)
	switch {
	case err != nil:
		return api.Certificate{}, err
	case !ok && len(e.Certificate) == 0:
		return api.Certificate{}, fmt.Errorf("certificate of block %d: %w", height, rpc.ErrNotFound)
	case !ok:
		return api.Certificate{}, fmt.Errorf("headers from block %d to the certified one: %w", height, rpc.ErrBusy)
	}
	proposal := c.Statement.Proposal
	out := api.Certificate{Bytes: e.Certificate, Path: e.Path, Epoch: uint64(proposal.Round.Epoch), View: uint64(proposal.Round.View), Digest: proposal.Digest}
	if signers, ok := n.app.committees.of(proposal.Round.Epoch); ok {
		for i := range signers.Len() {
			if c.Has(consensus.Signer(i)) {
				out.Signers = append(out.Signers, signers.Validator(consensus.Signer(i)).Key)
			}
		}
	}
	return out, nil
}

// Outcome returns what a finalized block's execution made.
func (n *Node) Outcome(_ context.Context, height chain.Height) (rpc.Outcome, error) {
	if o, ok := n.app.recent.of(height); ok {
		return o, nil
	}
	tip, ok, err := n.store.Tip(height)
	if err != nil {
		return rpc.Outcome{}, err
	}
	if !ok || height == 0 {
		return rpc.Outcome{}, fmt.Errorf("block %d: %w", height, rpc.ErrNotFound)
	}
	header, err := storedHeader(n.store, height)
	if err != nil {
		return rpc.Outcome{}, err
	}
	receipts, err := n.receipts(height)
	return rpc.Outcome{Header: header, Digest: tip.Digest, Receipts: receipts}, err
}

// Finalized returns the highest finalized height and a channel that is closed
// once it is higher.
func (n *Node) Finalized() (chain.Height, <-chan struct{}) {
	n.app.mu.Lock()
	defer n.app.mu.Unlock()
	return n.app.root.height, n.app.advanced
}

// Account returns an account.
func (n *Node) Account(ctx context.Context, address chain.Address, prove bool) (api.Account, error) {
	value, err := n.State(ctx, tokens.AccountKey(address), prove)
	if err != nil {
		return api.Account{}, err
	}
	var account tokens.Account
	if value.Present {
		if account, err = tokens.DecodeAccount(value.Value); err != nil {
			return api.Account{}, fmt.Errorf("account %s: %w", address, err)
		}
	}
	header, err := storedHeader(n.store, max(value.Height, 1))
	if value.Height == 0 {
		header, err = chain.Header{TimeMs: n.genesis.TimeMs}, nil
	}
	if err != nil {
		return api.Account{}, err
	}
	return api.Account{
		Address: address, Balance: account.Balance, Spendable: account.Spendable(header.TimeMs), Nonce: api.Uint64(account.Nonce),
		Pending: api.Uint64(n.pool.pendingNonce(address, account.Nonce)), Height: value.Height, Proof: value.Proof,
	}, nil
}

// State returns the value of a key, of the latest state or of the latest that a
// certified header proves.
func (n *Node) State(_ context.Context, key []byte, prove bool) (api.State, error) {
	if prove {
		return n.provenState(key)
	}
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.State{}, err
	}
	defer n.closeSnapshot(snapshot)
	value, ok, err := readState(snapshot, key)
	return api.State{Key: key, Value: value, Present: ok, Height: snapshot.Tip().Height}, err
}

// readState reads one key; a fault of the store becomes an error.
func readState(r state.Reader, key []byte) (value []byte, ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			fault, isFault := p.(*state.Fault)
			if !isFault {
				panic(p)
			}
			err = fault
		}
	}()
	value, ok = r.Get(key)
	return value, ok, nil
}

func (n *Node) provenState(key []byte) (api.State, error) {
	tree, height, done, err := n.app.provenTree()
	if err != nil {
		return api.State{}, err
	}
	defer done()
	value, present, err := tree.Get(key)
	if err != nil {
		return api.State{}, err
	}
	proof, err := tree.Prove(key)
	if err != nil {
		return api.State{}, err
	}
	header, err := storedHeader(n.store, height)
	if err != nil {
		return api.State{}, err
	}
	certificate, err := n.certificate(height)
	if err != nil {
		return api.State{}, err
	}
	proven := rpc.Proven{Key: key, Value: value, Present: present, Proof: proof, Header: header, Certificate: certificate}
	return api.State{Key: key, Value: value, Present: present, Height: height - 1, Proof: proven.JSON()}, nil
}

// Settlements returns what claims of an order did on chain.
func (n *Node) Settlements(_ context.Context, order crypto.Digest) (api.Settlements, error) {
	out := api.NewSettlements(order)
	positions, err := n.store.OrderPositions(order, store.Position{}, maxSettlementTxs)
	if err != nil {
		return out, err
	}
	for _, at := range positions {
		header, err := storedHeader(n.store, at.Height)
		if err != nil {
			return out, err
		}
		receipts, err := n.receipts(at.Height)
		if err != nil {
			return out, err
		}
		receipt := &receipts.Txs[at.Index]
		for _, event := range receipt.Events {
			if err := out.Add(api.SettledClaim{Height: at.Height, TimeMs: header.TimeMs, TxID: receipt.TxID}, event); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// Validators returns the committee of an epoch; 0 is the current one.
func (n *Node) Validators(_ context.Context, epoch uint64) (api.Validators, error) {
	if epoch == 0 {
		epoch = uint64(n.engine.Status().Epoch)
	}
	c, ok := n.app.committees.of(consensus.Epoch(epoch))
	if !ok {
		return api.Validators{}, fmt.Errorf("the committee of epoch %d is not known, or not any more: %w", epoch, rpc.ErrNotFound)
	}
	out := api.Validators{Epoch: epoch, Committee: c.Digest(), Quorum: api.Uint64(c.Quorum())}
	for i, m := range c.members {
		stake, ok := chain.Hyper(1).ShareFloor(m.Weight, 1)
		if !ok {
			return api.Validators{}, n.app.fault(fmt.Errorf("member %d of epoch %d has weight %d", i, epoch, m.Weight))
		}
		out.TotalWeight += api.Uint64(m.Weight)
		out.Validators = append(out.Validators, api.Validator{
			Index: i, Name: m.Name, ConsensusKey: m.ConsensusKey, NodeKey: m.NodeKey, Owner: m.Owner, Stake: stake,
			Weight: api.Uint64(m.Weight), LeaderWeight: api.Uint64(m.LeaderWeight), Endpoint: m.Endpoint,
		})
	}
	return out, nil
}

// Params returns the current parameters.
func (n *Node) Params(context.Context) (api.ChainParams, error) {
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.ChainParams{}, err
	}
	defer n.closeSnapshot(snapshot)
	params, err := execution.ParamsOf(snapshot)
	return api.ChainParams{Height: snapshot.Tip().Height, Params: params, Kernels: n.genesis.Kernels, InsecureKeys: n.genesis.InsecureKeys}, err
}

// Supply returns the supply and, to verify it, its parts recomputed from the
// whole state: one request at a time, off the commit path.
func (n *Node) Supply(_ context.Context, verify bool) (api.Supply, error) {
	if verify {
		if !n.recomputing.CompareAndSwap(false, true) {
			return api.Supply{}, fmt.Errorf("the supply is being recomputed: %w", rpc.ErrBusy)
		}
		defer n.recomputing.Store(false)
	}
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.Supply{}, err
	}
	defer n.closeSnapshot(snapshot)
	raw, _, err := readState(snapshot, tokens.SupplyKey())
	if err != nil {
		return api.Supply{}, err
	}
	supply, err := tokens.DecodeSupply(raw)
	if err != nil {
		return api.Supply{}, err
	}
	total, ok := supply.Minted.Sub(supply.Burned)
	if !ok {
		return api.Supply{}, n.app.fault(fmt.Errorf("%s burned of %s minted", supply.Burned, supply.Minted))
	}
	out := api.Supply{Height: snapshot.Tip().Height, Minted: supply.Minted, Burned: supply.Burned, Total: total}
	if !verify {
		return out, nil
	}
	parts, err := execution.Recompute(snapshot)
	if err != nil {
		return api.Supply{}, n.app.fault(fmt.Errorf("recomputing the supply after block %d: %w", out.Height, err))
	}
	out.Parts = &api.SupplyParts{
		Balances: parts.Balances, Escrow: parts.Escrow, Bonds: parts.Bonds, Stakes: parts.Stakes,
		Unbonding: parts.Unbonding, Rewards: parts.Rewards, Maturing: parts.Maturing, Deposits: parts.Deposits, Sum: parts.Total,
	}
	return out, nil
}
