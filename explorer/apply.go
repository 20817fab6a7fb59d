package explorer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxHeight leaves room for the position in a place.
const maxHeight = 1<<(63-positionBits) - 1

// The kinds of parties: who registered with a bond.
const (
	partyProvider = 1
	partyCluster  = 2
)

// errOtherChain says that a block does not continue the index.
var errOtherChain = errors.New("explorer: the block does not continue the index")

// fetched is a block as the index takes it.
type fetched struct {
	block    *chain.DecodedBlock
	receipts chain.BlockReceipts
	bytes    int
}

// decodeFetched checks that a node's answer is a well-formed block of a height,
// with a receipt for each of its transactions.
func decodeFetched(answer *api.Block, height chain.Height) (*fetched, error) {
	block, err := chain.DecodeBlock(answer.Raw, nil)
	if err != nil {
		return nil, fmt.Errorf("explorer: block %d: %w", height, err)
	}
	receipts, err := chain.DecodeBlockReceipts(answer.RawReceipts)
	if err != nil {
		return nil, fmt.Errorf("explorer: receipts of block %d: %w", height, err)
	}
	header := block.Header()
	switch {
	case header.Height != height || height > maxHeight:
		return nil, fmt.Errorf("explorer: block %d was asked for, %d was given", height, header.Height)
	case header.TimeMs > math.MaxInt64:
		return nil, fmt.Errorf("explorer: block %d: its time is %d ms", height, header.TimeMs)
	case len(receipts.Txs) != len(block.Txs()):
		return nil, fmt.Errorf("explorer: block %d has %d transactions and %d receipts", height, len(block.Txs()), len(receipts.Txs))
	}
	for i, tx := range block.Txs() {
		if receipts.Txs[i].TxID != tx.ID() {
			return nil, fmt.Errorf("explorer: block %d: receipt %d is of transaction %s, want %s", height, i, receipts.Txs[i].TxID.Short(), tx.ID().Short())
		}
	}
	return &fetched{block: block, receipts: receipts, bytes: len(answer.Raw) + len(answer.RawReceipts)}, nil
}

// statements of a batch.
const (
	insertBlock    = "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertTx       = "INSERT INTO txs VALUES (?, ?, ?, ?)"
	insertActivity = "INSERT OR IGNORE INTO activity VALUES (?, ?)"
	insertClaim    = "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
	insertRecord   = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertOrder    = "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
	updateOrder    = `UPDATE orders SET last = ?, last_ms = ?, recorded = recorded + ?, settled = settled + ?, cost = cost + ?, paid = paid + ?,
		burned = burned + ?, treasury = treasury + ?, cluster_fee = cluster_fee + ?, priority = priority + ?, proven = max(proven, ?) WHERE id = ? RETURNING settled`
	insertParty = "INSERT OR REPLACE INTO parties VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)"
	removeParty = "UPDATE parties SET gone_ms = ? WHERE kind = ? AND key = ?"
	payParty    = "UPDATE parties SET claims = claims + 1, earned = earned + ? WHERE kind = ? AND key = ?"
	updateTip   = `UPDATE tip SET height = ?, digest = ?, time_ms = ?, first = ?, txs = ?, rejected = ?, fees_burned = ?, tips = ?,
		claims = ?, jobs = ?, settled_cost = ?, settled_burned = ?`
)

// batch writes blocks in one transaction.
type batch struct {
	ctx      context.Context
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
	tip      tip

	// Of the block at work:
	time   chain.TimeMs
	number int // of the next claim in the transaction
}

// append writes consecutive blocks and prunes as many, in one transaction. The
// error wraps errOtherChain if a block does not name the one before it.
func (x *index) append(ctx context.Context, blocks []*fetched, retention uint64) error {
	t, _ := x.now()
	b := &batch{ctx: ctx, prepared: map[string]*sql.Stmt{}, tip: t}
	err := x.transaction(ctx, func(tx *sql.Tx) error {
		b.tx = tx
		for _, f := range blocks {
			if err := b.block(f); err != nil {
				return fmt.Errorf("explorer: indexing block %d: %w", f.block.Header().Height, err)
			}
		}
		if retention > 0 {
			if err := b.prune(retention, 2*len(blocks)); err != nil {
				return fmt.Errorf("explorer: pruning: %w", err)
			}
		}
		return b.saveTip()
	})
	if err != nil {
		return err
	}
	x.publish(b.tip)
	return nil
}

// skip records that no node has the heights from the next one to last.
func (x *index) skip(ctx context.Context, last chain.Height, digest crypto.Digest) error {
	t, _ := x.now()
	b := &batch{ctx: ctx, prepared: map[string]*sql.Stmt{}, tip: t}
	err := x.transaction(ctx, func(tx *sql.Tx) error {
		b.tx = tx
		if err := b.run("INSERT INTO gaps VALUES (?, ?)", t.Height+1, last); err != nil {
			return err
		}
		b.tip.Height, b.tip.Digest = last, digest
		return b.saveTip()
	})
	if err != nil {
		return fmt.Errorf("explorer: recording a gap: %w", err)
	}
	x.publish(b.tip)
	return nil
}

func (b *batch) statement(query string) (*sql.Stmt, error) {
	if s, ok := b.prepared[query]; ok {
		return s, nil
	}
	s, err := b.tx.PrepareContext(b.ctx, query) // the transaction's end closes it
	if err == nil {
		b.prepared[query] = s
	}
	return s, err
}

func (b *batch) run(query string, args ...any) error {
	s, err := b.statement(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(b.ctx, args...)
	return err
}

func (b *batch) saveTip() error {
	t := &b.tip
	return b.run(updateTip, t.Height, t.Digest[:], t.Time, t.First, t.Txs, t.Rejected, columnOf(t.FeesBurned), columnOf(t.Tips),
		t.Claims, t.Jobs, columnOf(t.SettledCost), columnOf(t.SettledBurned))
}

// add adds to a sum that cannot overflow on an honest chain: its supply fits.
func add(sum *chain.Amount, more chain.Amount) error {
	total, ok := sum.Add(more)
	if !ok || total.Nano() > math.MaxInt64 {
		return fmt.Errorf("a sum of %s and %s is above every supply", sum, more)
	}
	*sum = total
	return nil
}

func (b *batch) block(f *fetched) error {
	header, digest := f.block.Header(), f.block.Digest()
	if header.ChainID != b.tip.ChainID || header.Height != b.tip.Height+1 || header.Parent != b.tip.Digest {
		return fmt.Errorf("%w: it is %s of chain %s at height %d on %s, the index is of %s at height %d with %s", errOtherChain,
			digest.Short(), header.ChainID, header.Height, header.Parent.Short(), b.tip.ChainID, b.tip.Height, b.tip.Digest.Short())
	}
	b.time = header.TimeMs
	var gas chain.Gas
	var burned chain.Amount
	for i := range f.receipts.Txs {
		r := &f.receipts.Txs[i]
		sum, ok := gas.Add(r.GasUsed)
		if !ok {
			return errors.New("its gas does not fit")
		}
		gas = sum
		if err := errors.Join(add(&burned, r.Burned), add(&b.tip.FeesBurned, r.Burned), add(&b.tip.Tips, r.Tip)); err != nil {
			return err
		}
		if !r.Accepted() {
			b.tip.Rejected++
		}
		if err := b.transaction(placeOf(header.Height, i+1), &f.block.Txs()[i], r); err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
	}
	if err := b.ownEvents(header.Height, &f.receipts); err != nil {
		return err
	}
	b.tip.Txs += uint64(len(f.receipts.Txs))
	if b.tip.First == 0 {
		b.tip.First = header.Height
	}
	b.tip.Height, b.tip.Digest, b.tip.Time = header.Height, digest, header.TimeMs
	return b.run(insertBlock, header.Height, digest[:], header.TimeMs, header.Proposer[:], len(f.receipts.Txs), int64(gas.Units()),
		columnOf(burned), len(f.block.Raw()), codec.Marshal(*header), codec.Marshal(f.receipts.Begin), codec.Marshal(f.receipts.End))
}

// ownEvents notes whom the events concern that no transaction caused, and what
// leases paid that ended.
func (b *batch) ownEvents(height chain.Height, receipts *chain.BlockReceipts) error {
	b.number = 0
	for _, events := range []chain.Events{receipts.Begin, receipts.End} {
		for _, address := range addressesOf(nil, events) {
			if err := b.run(insertActivity, address[:], placeOf(height, 0)); err != nil {
				return err
			}
		}
		for _, event := range events {
			if err := b.ownEvent(placeOf(height, 0), event); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownEvent writes what an event that no transaction caused says of orders: a lease ended,
// or a claim's window did.
func (b *batch) ownEvent(at place, event chain.Event) error {
	if e, ok := event.(chain.LeasePaid); ok {
		return b.leasePaid(at, &e)
	}
	if e, ok := event.(chain.ClaimSettled); ok {
		key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
		return errors.Join(b.claim(at, nil, key, e, event), b.records(at, e.Order, e.Records, false))
	}
	return nil
}

func (b *batch) transaction(at place, tx *chain.DecodedTx, receipt *chain.Receipt) error {
	id := tx.ID()
	if err := b.run(insertTx, at, id[:], tx.Raw(), codec.Marshal(*receipt)); err != nil {
		return err
	}
	for _, address := range addressesOf(&tx.Tx().Body, receipt.Events) {
		if err := b.run(insertActivity, address[:], at); err != nil {
			return err
		}
	}
	b.number = 0
	for _, event := range receipt.Events {
		if err := b.event(at, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// event writes what an event of a transaction says of orders and parties.
func (b *batch) event(at place, tx *chain.DecodedTx, event chain.Event) error {
	body := &tx.Tx().Body
	switch e := event.(type) {
	case chain.ProviderRegistered:
		return b.run(insertParty, partyProvider, e.Node[:], e.Owner[:], columnOf(e.Bond), codec.Marshal(registrationOf(body, e.Node)), at, b.time)
	case chain.ProviderUnbonded:
		return b.run(removeParty, b.time, partyProvider, e.Node[:])
	case chain.ClusterRegistered:
		return b.run(insertParty, partyCluster, e.Cluster[:], e.Operator[:], columnOf(e.Bond), codec.Marshal(registrationOf(body, e.Cluster)), at, b.time)
	case chain.ClusterUnbonded:
		return b.run(removeParty, b.time, partyCluster, e.Cluster[:])
	case chain.ClaimRecorded:
		key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
		return b.claim(at, tx, key, chain.ClaimSettled{}, event)
	case chain.ClaimSettled:
		key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
		return errors.Join(b.claim(at, tx, key, e, event), b.records(at, e.Order, e.Records, false))
	case chain.LeasePaid:
		return b.leasePaid(at, &e)
	case chain.ClaimRejected:
		key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
		return b.insertClaim(at, tx, key, event, chain.Claim{})
	case chain.Transferred, chain.Deposited, chain.WithdrawalStarted, chain.Matured, chain.LeaseOpened, chain.LeaseChanged, chain.LeaseEnded,
		chain.ChannelChanged, chain.VoucherRedeemed, chain.ChannelClosed, chain.BondAdded, chain.BondSlashed, chain.PanelDrawn, chain.PanelRevealing, chain.PanelDecided,
		chain.ClaimPending, chain.ClaimChallenged, chain.ClaimJudged, chain.ClaimClosed, chain.KeyRevealed,
		chain.RunBegun, chain.RunsDrawn, chain.RunCommitted, chain.RunsRevealing, chain.RunEnded, chain.JurorsPaid,
		chain.PeersDrawn, chain.ServiceMissed, chain.LeaseLeft, chain.ServiceClosed, chain.TermsClosed,
		chain.HardwareChallenged, chain.HardwareJudged, chain.HardwareDeclared, chain.HomeAnnounced,
		chain.CodeUploaded, chain.CodeStored, chain.ContractInstantiated, chain.ContractExecuted, chain.ContractMigrated, chain.ContractAdminSet,
		chain.ContractReplied, chain.ContractEmitted, chain.ContractStored, chain.ContractBurned, chain.CodePinned:
	case chain.ClaimLost:
		key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
		return b.claim(at, tx, key, chain.ClaimSettled{}, event)
	case chain.AcceptanceBroken, chain.BondForfeited, chain.BreachPaid, chain.BreachClosed:
	case chain.MeterRegistered, chain.BatchSettled: // its records are not the chain's
	case chain.ValidatorBonded, chain.Delegated, chain.Undelegated, chain.Redelegated, chain.RewardsWithdrawn, chain.CommissionSet, chain.KeysRotated,
		chain.ValidatorUnjailed, chain.NodeAffiliated, chain.NodeUnaffiliated, chain.ValidatorSlashed, chain.ValidatorJailed, chain.EpochClosed:
	}
	return nil
}

// registrationOf returns the message that registered a key; none if the event
// has no such message.
func registrationOf(body *chain.TxBody, key crypto.PublicKey) chain.Msgs {
	for _, m := range body.Messages {
		if r, ok := m.(chain.RegisterProvider); ok && r.Node == key {
			return chain.Msgs{m}
		}
		if r, ok := m.(chain.RegisterCluster); ok && r.Cluster == key {
			return chain.Msgs{m}
		}
	}
	return nil
}

// claimOf returns the posted claim with a key, which may have been recorded by
// an earlier transaction: then there is none.
func claimOf(body *chain.TxBody, key chain.ClaimKey) (chain.Claim, bool) {
	for _, m := range body.Messages {
		settle, ok := m.(chain.Settle)
		if !ok {
			continue
		}
		for _, c := range settle.Claims {
			if c.Key() == key {
				return c, true
			}
		}
	}
	return chain.Claim{}, false
}

// claim writes a recorded, settled or lost claim and adds it up in its order. The
// money of one that is not settled is zero. tx is nil if no transaction settled it.
func (b *batch) claim(at place, tx *chain.DecodedTx, key chain.ClaimKey, money chain.ClaimSettled, event chain.Event) error {
	var posted chain.Claim
	found := false
	if tx != nil {
		posted, found = claimOf(&tx.Tx().Body, key)
	}
	if err := b.insertClaim(at, tx, key, event, posted); err != nil {
		return err
	}
	if found {
		o := &posted.Order
		consumer := o.ConsumerAddress()
		err := b.run(insertOrder, key.Order[:], consumer[:], o.Cluster[:], o.Policy.String(), columnOf(o.MaxCost), at, b.time, at, b.time)
		if err != nil {
			return err
		}
	}
	_, isSettled := event.(chain.ClaimSettled)
	_, isRecorded := event.(chain.ClaimRecorded)
	recorded, settled := 0, 0
	if isRecorded {
		recorded = 1
	}
	if isSettled {
		settled = 1
	}
	statement, err := b.statement(updateOrder)
	if err != nil {
		return err
	}
	var before int
	err = statement.QueryRowContext(b.ctx, at, b.time, recorded, settled, columnOf(money.Cost), columnOf(money.Paid), columnOf(money.Burned),
		columnOf(money.Treasury), columnOf(money.ClusterFee), columnOf(money.Priority()), money.ProofVerified, key.Order[:]).Scan(&before)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // its first claim is in a gap
	}
	if err != nil || !isSettled {
		return err
	}
	b.tip.Claims++
	if before == 1 {
		b.tip.Jobs++
	}
	return errors.Join(
		add(&b.tip.SettledCost, money.Cost), add(&b.tip.SettledBurned, money.Burned),
		b.run(payParty, columnOf(money.Paid), partyProvider, key.Node[:]),
		b.run(payParty, columnOf(money.ClusterFee), partyCluster, money.Cluster[:]),
	)
}

func (b *batch) insertClaim(at place, tx *chain.DecodedTx, key chain.ClaimKey, event chain.Event, posted chain.Claim) error {
	var raw []byte
	if posted.Order.Policy.Policy != nil {
		raw = codec.Marshal(posted)
	}
	var id chain.TxID
	if tx != nil {
		id = tx.ID()
	}
	b.number++
	return b.run(insertClaim, at, b.number, key.Order[:], key.Node[:], b.time, id[:], codec.Marshal(chain.Events{event}), orEmpty(raw))
}

// orEmpty returns no bytes in place of nil, which SQLite takes for NULL.
func orEmpty(raw []byte) []byte {
	if raw == nil {
		return []byte{}
	}
	return raw
}

// leasePaid writes the records of what a lease paid, as a number of its own in
// the transaction: another payment or claim may be there too.
func (b *batch) leasePaid(at place, e *chain.LeasePaid) error {
	b.number++
	return b.records(at, e.Lease.Order, e.Records, true)
}

// records writes the resource records of a settled claim or of what a lease paid.
func (b *batch) records(at place, order crypto.Digest, records []chain.ResourceTransaction, ofLease bool) error {
	for line, r := range records {
		if r.Timestamp > math.MaxInt64 {
			return fmt.Errorf("a record's time is %d ms", r.Timestamp)
		}
		err := b.run(insertRecord, at, b.number, line, order[:], codec.Marshal(r), r.NodeID[:], r.Consumer[:], r.Provider[:], uint8(r.ResourceType), r.Timestamp, ofLease)
		if err != nil {
			return err
		}
	}
	return nil
}

// prune removes up to limit of the oldest blocks that retention does not keep,
// with their transactions and activity.
func (b *batch) prune(retention uint64, limit int) error {
	if uint64(b.tip.Height) <= retention {
		return nil
	}
	keep := b.tip.Height - chain.Height(retention) + 1
	heights, err := b.heightsBelow(keep, limit)
	if err != nil {
		return err
	}
	for _, h := range heights {
		if err := b.forget(h); err != nil {
			return fmt.Errorf("block %d: %w", h, err)
		}
	}
	return nil
}

func (b *batch) heightsBelow(keep chain.Height, limit int) ([]chain.Height, error) {
	rows, err := b.tx.QueryContext(b.ctx, "SELECT height FROM blocks WHERE height < ? ORDER BY height LIMIT ?", keep, limit)
	if err != nil {
		return nil, err
	}
	return scanRows(rows, scanOne[chain.Height])
}

// forget removes a block and what depends on it.
func (b *batch) forget(height chain.Height) error {
	v := &view{ctx: b.ctx, tx: b.tx}
	txs, err := v.txsBetween(placeOf(height, 0), placeOf(height+1, 0), chain.MaxBlockTxs)
	if err != nil {
		return err
	}
	for i := range txs {
		for _, address := range addressesOf(&txs[i].Tx.Body, txs[i].Receipt.Events) {
			if err := b.run("DELETE FROM activity WHERE address = ? AND place = ?", address[:], txs[i].Place); err != nil {
				return err
			}
		}
	}
	block, err := v.block(height)
	if err != nil {
		return err
	}
	for _, events := range []chain.Events{block.Begin, block.End} {
		for _, address := range addressesOf(nil, events) {
			if err := b.run("DELETE FROM activity WHERE address = ? AND place = ?", address[:], placeOf(height, 0)); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		b.run("DELETE FROM txs WHERE place >= ? AND place < ?", placeOf(height, 0), placeOf(height+1, 0)),
		b.run("DELETE FROM blocks WHERE height = ?", height),
	)
}
