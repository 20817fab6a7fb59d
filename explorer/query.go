package explorer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// maxStoredBytes bounds a value that is decoded from the index, which wrote it.
const maxStoredBytes = 64 << 20

// view is one unchanging state of the index, for one page. Its methods return
// sql.ErrNoRows for what is not there.
type view struct {
	ctx context.Context
	tx  *sql.Tx
	now time.Time
}

// blockRow is a block in a list.
type blockRow struct {
	Height   chain.Height
	Digest   crypto.Digest
	Time     chain.TimeMs
	Proposer crypto.PublicKey
	Txs      int
	Gas      uint64
	Burned   chain.Amount
	Bytes    int
}

// blockFull is a block without its transactions.
type blockFull struct {
	blockRow
	Header     chain.Header
	Begin, End chain.Events
}

// txRow is a transaction and what became of it.
type txRow struct {
	Place   place
	ID      crypto.Digest
	Time    chain.TimeMs
	Tx      chain.Tx
	Receipt chain.Receipt
}

// Accepted reports whether the transaction took effect.
func (t txRow) Accepted() bool { return t.Receipt.Accepted() }

// orderRow is an order whose claims the chain has seen.
type orderRow struct {
	ID          crypto.Digest
	Consumer    chain.Address
	Cluster     crypto.PublicKey
	Policy      string
	MaxCost     chain.Amount
	First, Last place
	FirstTime   chain.TimeMs
	LastTime    chain.TimeMs
	Recorded    int
	Settled     int
	Cost        chain.Amount
	Paid        chain.Amount
	Burned      chain.Amount
	Treasury    chain.Amount
	ClusterFee  chain.Amount
	Priority    chain.Amount // in Burned and ClusterFee
	Proven      bool
}

// claimRow is what became of one posted claim. Claim is nil where the posting
// transaction has it not, or it was refused.
type claimRow struct {
	Place place
	Order crypto.Digest
	Node  crypto.PublicKey
	Time  chain.TimeMs
	TxID  crypto.Digest
	Event chain.Event
	Claim *chain.Claim
}

// recordRow is one ResourceTransaction.
type recordRow struct {
	Place  place
	Number int
	Line   int
	Order  crypto.Digest
	Record chain.ResourceTransaction
}

// partyRow is a registered provider node or cluster. Message is a list of one
// RegisterProvider or RegisterCluster, or empty if a gap hides it.
type partyRow struct {
	Kind    int
	Key     crypto.PublicKey
	Owner   chain.Address
	Bond    chain.Amount
	Message chain.Msgs
	Since   place
	Time    chain.TimeMs
	Gone    chain.TimeMs // 0: it is there
	Claims  int
	Earned  chain.Amount
}

// collect runs a query and reads each row with scan.
func collect[T any](v *view, scan func(func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := v.tx.QueryContext(v.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("explorer: reading the index: %w", err)
	}
	out, err := scanRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("explorer: reading the index: %w", err)
	}
	return out, nil
}

// scanRows reads each row with scan, and closes the rows.
func scanRows[T any](rows *sql.Rows, scan func(func(...any) error) (T, error)) (out []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		item, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	return out, rows.Err()
}

// scanOne reads a row of one column.
func scanOne[T any](scan func(...any) error) (v T, err error) {
	err = scan(&v)
	return v, err
}

// only returns the one row of a query.
func only[T any](v *view, scan func(func(...any) error) (T, error), query string, args ...any) (T, error) {
	list, err := collect(v, scan, query, args...)
	if err != nil || len(list) == 0 {
		var none T
		return none, errors.Join(err, sql.ErrNoRows)
	}
	return list[0], nil
}

func decodeStored(raw []byte, v any) error { return codec.Unmarshal(raw, v, maxStoredBytes) }

func (v *view) tip() (tip, error) { return readTip(v.ctx, v.tx) }

const blockColumns = "height, digest, time_ms, proposer, txs, gas, burned, bytes"

func blockTargets(b *blockRow, burned *int64) []any {
	return []any{&b.Height, fixed(b.Digest[:]), &b.Time, fixed(b.Proposer[:]), &b.Txs, &b.Gas, burned, &b.Bytes}
}

func scanBlock(scan func(...any) error) (blockRow, error) {
	var b blockRow
	var burned int64
	err := scan(blockTargets(&b, &burned)...)
	b.Burned = amountOf(burned)
	return b, err
}

// blocks returns blocks below a height, the newest first.
func (v *view) blocks(below chain.Height, limit int) ([]blockRow, error) {
	return collect(v, scanBlock, "SELECT "+blockColumns+" FROM blocks WHERE height < ? ORDER BY height DESC LIMIT ?", min(below, maxHeight), limit)
}

func (v *view) block(height chain.Height) (blockFull, error) {
	return only(v, func(scan func(...any) error) (blockFull, error) {
		var b blockFull
		var burned int64
		var header, begin, end []byte
		err := scan(append(blockTargets(&b.blockRow, &burned), &header, &begin, &end)...)
		b.Burned = amountOf(burned)
		return b, errors.Join(err, decodeStored(header, &b.Header), decodeStored(begin, &b.Begin), decodeStored(end, &b.End))
	}, "SELECT "+blockColumns+", header, begin_events, end_events FROM blocks WHERE height = ?", min(height, maxHeight))
}

// pace returns, over up to limit of the newest blocks, the mean time between
// two in ms, and transactions per second; 0 if there are fewer than two.
func (v *view) pace(limit int) (blockMs, perSecond float64, err error) {
	var blocks, txs, oldest, newest, atOldest int64
	err = v.tx.QueryRowContext(v.ctx, `SELECT count(*), coalesce(sum(txs), 0), coalesce(min(time_ms), 0), coalesce(max(time_ms), 0),
		coalesce((SELECT txs FROM blocks ORDER BY height DESC LIMIT 1 OFFSET ?), 0)
		FROM (SELECT txs, time_ms FROM blocks ORDER BY height DESC LIMIT ?)`, limit-1, limit).Scan(&blocks, &txs, &oldest, &newest, &atOldest)
	if err != nil || blocks < 2 || newest <= oldest {
		return 0, 0, err
	}
	// What the oldest block carries was made before the time that is counted.
	span := float64(newest - oldest)
	return span / float64(blocks-1), float64(txs-atOldest) / span * 1000, nil
}

const txColumns = "txs.place, txs.id, txs.raw, txs.receipt, coalesce((SELECT time_ms FROM blocks WHERE height = txs.place >> 16), 0)"

func scanTx(scan func(...any) error) (txRow, error) {
	var t txRow
	var raw, receipt []byte
	if err := scan(&t.Place, fixed(t.ID[:]), &raw, &receipt, &t.Time); err != nil {
		return t, err
	}
	tx, err := chain.DecodeTx(raw)
	if err == nil {
		t.Tx = *tx.Tx()
	}
	return t, errors.Join(err, decodeStored(receipt, &t.Receipt))
}

// txsBefore returns transactions before a place, the newest first.
func (v *view) txsBefore(at place, limit int) ([]txRow, error) {
	return collect(v, scanTx, "SELECT "+txColumns+" FROM txs WHERE place < ? ORDER BY place DESC LIMIT ?", at, limit)
}

// txsBetween returns the transactions from one place to before another, in
// their order.
func (v *view) txsBetween(from, to place, limit int) ([]txRow, error) {
	return collect(v, scanTx, "SELECT "+txColumns+" FROM txs WHERE place >= ? AND place < ? ORDER BY place LIMIT ?", from, to, limit)
}

func (v *view) transaction(id crypto.Digest) (txRow, error) {
	return only(v, scanTx, "SELECT "+txColumns+" FROM txs WHERE id = ?", id[:])
}

// activity returns the places before one that concern an account, the newest
// first.
func (v *view) activity(address chain.Address, before place, limit int) ([]place, error) {
	return collect(v, func(scan func(...any) error) (p place, err error) { return p, scan(&p) },
		"SELECT place FROM activity WHERE address = ? AND place < ? ORDER BY place DESC LIMIT ?", address[:], before, limit)
}

func (v *view) txAt(at place) (txRow, error) {
	return only(v, scanTx, "SELECT "+txColumns+" FROM txs WHERE place = ?", at)
}

// activityCount returns how often an account is concerned, up to limit.
func (v *view) activityCount(address chain.Address, limit int) (n int, err error) {
	err = v.tx.QueryRowContext(v.ctx, "SELECT count(*) FROM (SELECT 1 FROM activity WHERE address = ? LIMIT ?)", address[:], limit).Scan(&n)
	return n, err
}

const orderColumns = "id, consumer, cluster, policy, max_cost, first, first_ms, last, last_ms, recorded, settled, cost, paid, burned, treasury, cluster_fee, priority, proven"

func scanOrder(scan func(...any) error) (orderRow, error) {
	var o orderRow
	var limit, cost, paid, burned, treasury, clusterFee, priority int64
	err := scan(fixed(o.ID[:]), fixed(o.Consumer[:]), fixed(o.Cluster[:]), &o.Policy, &limit, &o.First, &o.FirstTime, &o.Last, &o.LastTime,
		&o.Recorded, &o.Settled, &cost, &paid, &burned, &treasury, &clusterFee, &priority, &o.Proven)
	o.MaxCost, o.Cost, o.Paid, o.Burned = amountOf(limit), amountOf(cost), amountOf(paid), amountOf(burned)
	o.Treasury, o.ClusterFee, o.Priority = amountOf(treasury), amountOf(clusterFee), amountOf(priority)
	return o, err
}

// ordersBefore returns the orders whose last claim is before a place, the
// newest first: all of as many places as hold limit of them.
func (v *view) ordersBefore(at place, limit int) ([]orderRow, error) {
	return collect(v, scanOrder, "SELECT "+orderColumns+` FROM orders WHERE last < ?1 AND last >=
		coalesce((SELECT last FROM orders WHERE last < ?1 ORDER BY last DESC LIMIT 1 OFFSET ?2), 0) ORDER BY last DESC, id`, at, limit-1)
}

func (v *view) order(id crypto.Digest) (orderRow, error) {
	return only(v, scanOrder, "SELECT "+orderColumns+" FROM orders WHERE id = ?", id[:])
}

const claimColumns = "place, order_id, node, time_ms, tx_id, event, claim"

func scanClaim(scan func(...any) error) (claimRow, error) {
	var c claimRow
	var event, posted []byte
	if err := scan(&c.Place, fixed(c.Order[:]), fixed(c.Node[:]), &c.Time, fixed(c.TxID[:]), &event, &posted); err != nil {
		return c, err
	}
	var events chain.Events
	if err := decodeStored(event, &events); err != nil {
		return c, err
	}
	if len(events) != 1 {
		return c, fmt.Errorf("a claim with %d events", len(events))
	}
	c.Event = events[0]
	if len(posted) == 0 {
		return c, nil
	}
	c.Claim = &chain.Claim{}
	return c, decodeStored(posted, c.Claim)
}

// claimsOf returns an order's claims, the oldest first.
func (v *view) claimsOf(order crypto.Digest, limit int) ([]claimRow, error) {
	return collect(v, scanClaim, "SELECT "+claimColumns+" FROM claims WHERE order_id = ? ORDER BY place, number LIMIT ?", order[:], limit)
}

// claimsBy returns a node's claims, the newest first.
func (v *view) claimsBy(node crypto.PublicKey, limit int) ([]claimRow, error) {
	return collect(v, scanClaim, "SELECT "+claimColumns+" FROM claims WHERE node = ? ORDER BY place DESC, number DESC LIMIT ?", node[:], limit)
}

// recordsBefore returns resource records before a place, the newest first: all
// of as many places as hold limit of them.
func (v *view) recordsBefore(at place, limit int) ([]recordRow, error) {
	return collect(v, func(scan func(...any) error) (recordRow, error) {
		var r recordRow
		var raw []byte
		if err := scan(&r.Place, &r.Number, &r.Line, fixed(r.Order[:]), &raw); err != nil {
			return r, err
		}
		return r, decodeStored(raw, &r.Record)
	}, `SELECT place, number, line, order_id, record FROM records WHERE place < ?1 AND place >=
		coalesce((SELECT place FROM records WHERE place < ?1 ORDER BY place DESC LIMIT 1 OFFSET ?2), 0)
		ORDER BY place DESC, number, line`, at, limit-1)
}

const partyColumns = "kind, key, owner, bond, message, since, since_ms, gone_ms, claims, earned"

func scanParty(scan func(...any) error) (partyRow, error) {
	var p partyRow
	var bond, earned int64
	var message []byte
	if err := scan(&p.Kind, fixed(p.Key[:]), fixed(p.Owner[:]), &bond, &message, &p.Since, &p.Time, &p.Gone, &p.Claims, &earned); err != nil {
		return p, err
	}
	p.Bond, p.Earned = amountOf(bond), amountOf(earned)
	return p, decodeStored(message, &p.Message)
}

// parties returns the registered of a kind, those that earned most first.
func (v *view) parties(kind, limit int) ([]partyRow, error) {
	return collect(v, scanParty, "SELECT "+partyColumns+" FROM parties WHERE kind = ? ORDER BY gone_ms > 0, earned DESC, key LIMIT ?", kind, limit)
}

func (v *view) party(key crypto.PublicKey) (partyRow, error) {
	return only(v, scanParty, "SELECT "+partyColumns+" FROM parties WHERE key = ? AND kind IN (1, 2) ORDER BY kind LIMIT 1", key[:])
}

// ownedBy returns the parties of an account.
func (v *view) ownedBy(owner chain.Address, limit int) ([]partyRow, error) {
	return collect(v, scanParty, "SELECT "+partyColumns+" FROM parties WHERE owner = ? ORDER BY kind, key LIMIT ?", owner[:], limit)
}

// gap is a run of heights that no node had.
type gap struct{ First, Last chain.Height }

func (v *view) gaps(limit int) ([]gap, error) {
	return collect(v, func(scan func(...any) error) (g gap, err error) { return g, scan(&g.First, &g.Last) },
		"SELECT first, last FROM gaps ORDER BY first LIMIT ?", limit)
}

// proposed counts the blocks of each proposer among the newest.
func (v *view) proposed(limit int) (map[crypto.PublicKey]int, int, error) {
	type line struct {
		key   crypto.PublicKey
		count int
	}
	lines, err := collect(v, func(scan func(...any) error) (l line, err error) { return l, scan(fixed(l.key[:]), &l.count) },
		"SELECT proposer, count(*) FROM (SELECT proposer FROM blocks ORDER BY height DESC LIMIT ?) GROUP BY proposer", limit)
	out, total := map[crypto.PublicKey]int{}, 0
	for _, l := range lines {
		out[l.key], total = l.count, total+l.count
	}
	return out, total, err
}

// endOfTime is after every place.
const endOfTime = place(math.MaxInt64)
