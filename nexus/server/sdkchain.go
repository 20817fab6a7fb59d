package server

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	// maxClaimTxs bounds the transactions that are looked at for one job.
	maxClaimTxs = 64
	// windowMargin is how long after its claim window a job is given up: clocks
	// differ, and blocks take their time.
	windowMargin = time.Minute
)

// sdkChain asks nodes, and believes proofs and certificates alone.
type sdkChain struct {
	client   *sdk.Client
	cluster  crypto.PublicKey
	windowMs uint64
	measures bool   // the chain has nodes' hardware measured
	drawnMs  uint64 // that a panel lasts, or a hardware challenge
}

func newSDKChain(nodes []string, id identity) (*sdkChain, error) {
	client, err := sdk.New(sdk.Config{Nodes: nodes, Genesis: id.genesis, Timeout: 5 * time.Second, Attempts: 2 * len(nodes)})
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return &sdkChain{client: client, cluster: id.cluster.Public(), windowMs: id.genesis.Params.ClaimWindowMs, measures: id.genesis.Params.HardwareEveryMs > 0, drawnMs: max(settlement.PanelMs(&id.genesis.Params), id.genesis.Params.HardwareMs)}, nil
}

var _ Chain = (*sdkChain)(nil)

// record returns what a finalized state has under a key, nil for nothing, and of which block that is.
func (c *sdkChain) record(ctx context.Context, key []byte) ([]byte, chain.Height, error) {
	value, err := c.client.VerifiedState(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	raw, ok := value.Get()
	if !ok {
		return nil, value.Height(), nil
	}
	return raw, value.Height(), nil
}

// Escrow implements Chain.
func (c *sdkChain) Escrow(ctx context.Context, consumer chain.Address) (Escrow, error) {
	value, err := c.client.VerifiedState(ctx, settlement.EscrowKey(consumer, c.cluster))
	if err != nil {
		return Escrow{}, err
	}
	out := Escrow{Height: value.Height(), TimeMs: value.Header().TimeMs()}
	if raw, ok := value.Get(); ok {
		escrow, err := settlement.DecodeEscrow(raw)
		if err != nil {
			return Escrow{}, err
		}
		out.Balance = escrow.Balance
	}
	return out, nil
}

// Provider implements Chain.
func (c *sdkChain) Provider(ctx context.Context, node crypto.PublicKey) (Provider, error) {
	value, err := c.client.VerifiedState(ctx, settlement.ProviderKey(node))
	if err != nil {
		return Provider{}, err
	}
	raw, ok := value.Get()
	if !ok {
		return Provider{}, fmt.Errorf("%w: provider %s", ErrNotRegistered, node.Short())
	}
	provider, err := settlement.DecodeProvider(raw)
	if err == nil && provider.UnbondedMs != 0 {
		err = fmt.Errorf("%w: provider %s is unbonded", ErrNotRegistered, node.Short())
	}
	facts := provider.Record.At(value.Header().TimeMs())
	out := Provider{Owner: provider.Owner, Premium: match.Premium(facts.Score()), Height: value.Height(), Free: provider.Free()}
	if c.measures {
		out.Record = &scheduler.Capacity{Millicores: provider.Millicores, MemoryMiB: provider.MemoryMiB}
	}
	if err != nil || !c.measures {
		return out, err
	}
	if raw, _, err = c.record(ctx, settlement.LeasedKey(node)); err == nil && raw != nil {
		out.Leased, err = settlement.DecodeLeased(raw)
	}
	return out, err
}

// Own implements Chain.
func (c *sdkChain) Own(ctx context.Context) (Own, error) {
	raw, height, err := c.record(ctx, settlement.ClusterKey(c.cluster))
	if err != nil {
		return Own{}, err
	}
	if raw == nil {
		return Own{}, fmt.Errorf("%w: cluster %s", ErrNotRegistered, c.cluster.Short())
	}
	record, err := settlement.DecodeCluster(raw)
	return Own{Cluster: record, Height: height}, err
}

// Lease implements Chain. The order is asked about first: one that was used by then, and
// whose lease is not there later, had one that is over.
func (c *sdkChain) Lease(ctx context.Context, of LeaseQuery) (Lease, error) {
	order, err := c.client.VerifiedState(ctx, settlement.OrderKey(of.Order))
	if err != nil {
		return Lease{}, err
	}
	v, err := c.client.VerifiedLease(ctx, of.Lease)
	if err != nil {
		return Lease{}, err
	}
	if v.Height() < order.Height() {
		return Lease{}, fmt.Errorf("server: a node that knows block %d was asked about lease %s, and then one that knows %d", order.Height(), of.Lease.Order.Short(), v.Height())
	}
	_, used := order.Get()
	lease, live := v.Get()
	live = live && (of.Order == of.Lease.Order || of.Order == lease.Order)
	return Lease{Height: v.Height(), Live: live, Opened: live || used, Late: !live && v.TimeMs() > of.Deadline}, nil
}

// Service implements Chain.
func (c *sdkChain) Service(ctx context.Context, id chain.LeaseID) (Service, error) {
	return c.client.Promised(ctx, id)
}

// Outcome implements Chain. The node is believed as to where to look; what is
// there is checked: receipts against the headers that commit to them.
func (c *sdkChain) Outcome(ctx context.Context, order crypto.Digest, claims []chain.Claim) (Outcome, error) {
	said, err := c.client.Settlements(ctx, order)
	if err != nil {
		return Outcome{}, err
	}
	txs := make([]chain.TxID, 0, len(said.Settled)+len(said.Batches))
	for _, s := range said.Settled {
		txs = append(txs, s.TxID)
	}
	for _, b := range said.Batches {
		txs = append(txs, b.TxID)
	}
	out, err := c.paid(ctx, order, txs)
	if err != nil {
		return Outcome{}, err
	}
	if len(out.Nodes) >= len(claims) && len(said.Lost) == 0 {
		return Outcome{Settled: true, Record: out}, nil
	}
	for i := range claims {
		if lost, err := c.lost(ctx, &claims[i], &said); err != nil || lost {
			return Outcome{Refused: lostReason}, err
		}
	}
	if _, ok := claims[0].Order.Policy.Policy.(chain.PolicyOptimistic); ok {
		if outcome, known, err := c.closed(ctx, &claims[0]); known || err != nil {
			return outcome, err
		}
	}
	for i := range claims {
		reason, err := c.refused(ctx, &claims[i], &said)
		if err != nil || reason != "" {
			return Outcome{Refused: reason}, err
		}
	}
	window := uint64(claims[0].Order.Deadline) + c.windowMs + uint64(windowMargin.Milliseconds())
	if uint64(time.Now().UnixMilli()) > window {
		return Outcome{Refused: "the claim window has passed"}, nil
	}
	return Outcome{}, nil
}

// closed returns what became of a claim that waits in its window, or waited, and false if
// the chain knows no such claim. The claim's record tells, which outlives the window; what
// pays it is no transaction.
func (c *sdkChain) closed(ctx context.Context, claim *chain.Claim) (out Outcome, known bool, err error) {
	key := claim.Key()
	raw, height, err := c.record(ctx, settlement.ClaimKey(key))
	if err != nil || raw == nil {
		return out, false, err
	}
	record, err := settlement.DecodeClaim(raw)
	if err != nil {
		return out, false, err
	}
	out.Record = scheduler.SettlementRecord{Height: record.Height, Cost: record.Cost, Burned: record.Burned, Priority: record.Priority(), Nodes: []crypto.PublicKey{key.Node}}
	switch {
	case record.Settled():
		out.Settled = true
	case record.Refuted != 0:
		out.Refused = record.Refuted.String()
	case !record.Final():
		out.Waits = height
	}
	if wrong := record.Refuted == settlement.RefutedResult; wrong || record.Refuted == settlement.RefutedUnjudged {
		out.Refuted = &scheduler.Refutation{Node: key.Node, Wrong: wrong} // else this cluster lacks data, and would for any node
	}
	return out, true, nil
}

// paid sums up what verified receipts say was paid for an order, by claims or by batches.
func (c *sdkChain) paid(ctx context.Context, order crypto.Digest, txs []chain.TxID) (scheduler.SettlementRecord, error) {
	var out scheduler.SettlementRecord
	for _, tx := range txs[:min(len(txs), maxClaimTxs)] {
		if slices.Contains(out.Txs, tx) {
			continue
		}
		receipt, height, err := c.client.VerifiedReceipt(ctx, tx)
		if err != nil {
			return out, err
		}
		out.Txs = append(out.Txs, tx)
		for _, event := range receipt.Events {
			settled, ok := event.(chain.ClaimSettled)
			if batch, isBatch := event.(chain.BatchSettled); isBatch {
				settled, ok = chain.ClaimSettled{Order: batch.Order, Node: batch.Node, Cost: batch.Cost, Burned: batch.Burned, PriorityBurned: batch.PriorityBurned, PriorityFee: batch.PriorityFee}, true
			}
			if !ok || settled.Order != order {
				continue
			}
			cost, okCost := out.Cost.Add(settled.Cost)
			burned, okBurned := out.Burned.Add(settled.Burned)
			priority, okPriority := out.Priority.Add(settled.Priority())
			if !okCost || !okBurned || !okPriority {
				return out, fmt.Errorf("server: what was paid for order %s does not fit an amount", order.Short())
			}
			out.Cost, out.Burned, out.Priority, out.Height = cost, burned, priority, max(out.Height, height)
			out.Nodes = append(out.Nodes, settled.Node)
			out.Proof = out.Proof || settled.ProofVerified
		}
	}
	return out, nil
}

// lostReason is why no more will be paid of a claim that was lost.
const lostReason = "the escrow does not cover it after a broken acceptance: the provider has a part in the cluster's bond"

// lost reports whether a verified receipt says that a claim was lost.
func (c *sdkChain) lost(ctx context.Context, claim *chain.Claim, said *api.Settlements) (bool, error) {
	key := claim.Key()
	for i := range said.Lost[:min(len(said.Lost), maxClaimTxs)] {
		receipt, _, err := c.client.VerifiedReceipt(ctx, said.Lost[i].TxID)
		if err != nil {
			return false, err
		}
		for _, event := range receipt.Events {
			if l, ok := event.(chain.ClaimLost); ok && l.Order == key.Order && l.Node == key.Node && uint64(l.Sequence) == key.Sequence {
				return true, nil
			}
		}
	}
	return false, nil
}

// refused returns why the chain refused exactly this claim, or nothing. A claim
// that waits for others, or was paid, is refused when it is posted again, which
// means nothing; and anybody can post another claim of the same name, to have
// it refused.
func (c *sdkChain) refused(ctx context.Context, claim *chain.Claim, said *api.Settlements) (string, error) {
	key := claim.Key()
	for _, r := range said.Recorded {
		if r.Claim.Node == key.Node && r.Claim.Sequence == chain.Number(key.Sequence) {
			return "", nil
		}
	}
	for _, s := range said.Settled {
		if s.Claim.Node == key.Node && s.Claim.Sequence == chain.Number(key.Sequence) {
			return "", nil
		}
	}
	for _, r := range said.Rejected[:min(len(said.Rejected), maxClaimTxs)] {
		if r.Claim.Node != key.Node || r.Claim.Sequence != chain.Number(key.Sequence) || settlement.WantsBond(r.Claim.Reason) {
			continue // of the last, the relay posts it again while the chain may take it
		}
		ours, err := c.posted(ctx, r.TxID, claim)
		if err != nil {
			return "", err
		}
		if ours == "" || settlement.WantsBond(ours) {
			continue
		}
		return ours, nil
	}
	return "", nil
}

// posted returns why a transaction's receipt refuses a claim, or nothing if the
// transaction posted another.
func (c *sdkChain) posted(ctx context.Context, id chain.TxID, claim *chain.Claim) (string, error) {
	receipt, height, err := c.client.VerifiedReceipt(ctx, id)
	if err != nil {
		return "", err
	}
	block, err := c.client.VerifiedBlock(ctx, height)
	if err != nil {
		return "", err
	}
	if !postsClaim(block.Txs(), id, claim) {
		return "", nil
	}
	key := claim.Key()
	for _, event := range receipt.Events {
		rejected, ok := event.(chain.ClaimRejected)
		if ok && rejected.Order == key.Order && rejected.Node == key.Node && rejected.Sequence == chain.Number(key.Sequence) {
			return rejected.Reason, nil
		}
	}
	return "", nil
}

// postsClaim reports whether a transaction of the block posts this claim and no
// other of its name.
func postsClaim(txs []chain.DecodedTx, id chain.TxID, claim *chain.Claim) bool {
	want, found := codec.Marshal(*claim), false
	for i := range txs {
		if txs[i].ID() != id {
			continue
		}
		for _, m := range txs[i].Tx().Body.Messages {
			settle, ok := m.(chain.Settle)
			if !ok {
				continue
			}
			for k := range settle.Claims {
				if settle.Claims[k].Key() != claim.Key() {
					continue
				}
				if found = bytes.Equal(codec.Marshal(settle.Claims[k]), want); !found {
					return false
				}
			}
		}
	}
	return found
}

// Replication implements Chain.
func (c *sdkChain) Replication(ctx context.Context, order *chain.Order) (scheduler.Replication, Outcome, error) {
	id := order.ID()
	raw, height, err := c.record(ctx, settlement.RunsKey(id))
	if err != nil {
		return scheduler.Replication{}, Outcome{}, err
	}
	if raw == nil {
		outcome, err := c.replicated(ctx, order, id)
		return scheduler.Replication{}, outcome, err
	}
	runs, err := settlement.DecodeRuns(raw)
	if err != nil {
		return scheduler.Replication{}, Outcome{}, err
	}
	out := scheduler.Replication{Begun: true, Height: height, Revealing: runs.Stage == settlement.StageReveal, Owed: runs.Stage == settlement.StageOwed}
	for i := range runs.Runs {
		out.Replicas = append(out.Replicas, scheduler.Replica{Node: runs.Runs[i].Bidder.Node, State: replicaState(runs.Runs[i].State)})
	}
	return out, Outcome{}, nil
}

func replicaState(s settlement.RunState) scheduler.ReplicaState {
	switch s {
	case settlement.RunAsked:
		return scheduler.ReplicaAsked
	case settlement.RunCommitted:
		return scheduler.ReplicaCommitted
	case settlement.RunShown:
		return scheduler.ReplicaShown
	case settlement.RunSilent, settlement.RunUnattested: // which is paid if the cluster's word comes after all
		return scheduler.ReplicaSilent
	case settlement.RunMissed:
		return scheduler.ReplicaMissed
	}
	panic(fmt.Sprintf("server: a run in state %d", s))
}

// replicated returns what came of a replicated job whose runs the chain does not have: not
// yet, or not any more.
func (c *sdkChain) replicated(ctx context.Context, order *chain.Order, id crypto.Digest) (Outcome, error) {
	window := uint64(order.Deadline) + c.windowMs + uint64(windowMargin.Milliseconds())
	raw, _, err := c.record(ctx, settlement.OrderKey(id))
	switch {
	case err != nil:
		return Outcome{}, err
	case raw == nil && uint64(time.Now().UnixMilli()) > window:
		return Outcome{Refused: "the claim window has passed"}, nil
	case raw == nil:
		return Outcome{}, nil
	}
	book, err := settlement.DecodeOrder(raw)
	if err != nil || !book.Closed {
		return Outcome{}, err // begun between the two questions
	}
	if book.Payees == 0 {
		return Outcome{Refused: "the chain found nobody to pay: " + book.Finding.String()}, nil
	}
	said, err := c.client.Settlements(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	txs := make([]chain.TxID, len(said.Settled))
	for i, s := range said.Settled {
		txs[i] = s.TxID
	}
	out, err := c.paid(ctx, id, txs)
	if err == nil && len(out.Nodes) < int(book.Payees) {
		out, err = c.paidByBlock(ctx, id, &book)
	}
	return Outcome{Settled: len(out.Nodes) == int(book.Payees), Record: out}, err
}

// paidByBlock sums up what the records of an order's runs say was paid for them: nobody had that done, and no
// transaction has a receipt of it.
func (c *sdkChain) paidByBlock(ctx context.Context, order crypto.Digest, book *settlement.Order) (out scheduler.SettlementRecord, err error) {
	for i := range book.Assignments {
		node := book.Assignments[i].Node
		raw, _, err := c.record(ctx, settlement.ClaimKey(chain.ClaimKey{Order: order, Node: node, Sequence: 1}))
		if err != nil {
			return out, err
		}
		if raw == nil {
			continue // forgotten with its order, after that was asked for
		}
		claim, err := settlement.DecodeClaim(raw)
		if err != nil {
			return out, err
		}
		if !claim.Settled() {
			continue
		}
		cost, okCost := out.Cost.Add(claim.Cost)
		burned, okBurned := out.Burned.Add(claim.Burned)
		priority, okPriority := out.Priority.Add(claim.Priority())
		if !okCost || !okBurned || !okPriority {
			return out, fmt.Errorf("server: what was paid for order %s does not fit an amount", order.Short())
		}
		out.Cost, out.Burned, out.Priority, out.Height = cost, burned, priority, max(out.Height, claim.Height)
		out.Nodes = append(out.Nodes, node)
	}
	return out, nil
}
