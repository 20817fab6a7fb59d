package mempool

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// Reason is why a transaction left the pool without being in a finalized block.
type Reason uint8

// The reasons. After Expired and NonceUsed a transaction can never be included;
// after the others it can be, if another node still has it.
const (
	Expired        Reason = 1 + iota // the chain has reached its expiry
	NonceUsed                        // a finalized block has another transaction of this nonce
	Replaced                         // another of its sender and nonce, which pays more, took its place
	Evicted                          // the pool was full, and others offered a higher tip
	EarlierDropped                   // one of the sender's before it left, or never came
	Funds                            // the fee payer of the finalized state cannot pay for it, or not beside a replacement of one before it
	GasLimit                         // the finalized parameters do not allow its gas limit
	reasons                          // how many there are, and one
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{Expired, NonceUsed, Replaced, Evicted, EarlierDropped, Funds, GasLimit}
}

// String names the reason, for metrics and answers.
func (r Reason) String() string {
	names := [...]string{
		Expired: "expired", NonceUsed: "nonce_used", Replaced: "replaced", Evicted: "evicted",
		EarlierDropped: "earlier_dropped", Funds: "insufficient_funds", GasLimit: "gas_limit",
	}
	if r == 0 || int(r) >= len(names) {
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
	return names[r]
}

// MaxDropped is how many transactions are remembered that left: some 4 MiB.
const MaxDropped = 32_768

// Dropped says how a transaction left the pool.
type Dropped struct {
	Reason Reason
	Height chain.Height // of the latest finalized block at the time
	By     chain.TxID   // what took its place, or left before it; zero: nothing to name
}

type record struct {
	Dropped
	turn uint64
}

// dropped remembers the last MaxDropped transactions that left.
type dropped struct {
	byID   map[chain.TxID]record
	order  []chain.TxID // a ring, by turn
	turn   uint64
	counts [reasons]uint64
}

func (d *dropped) add(id chain.TxID, why Dropped) {
	d.counts[why.Reason]++
	at := d.turn % MaxDropped
	if d.turn < MaxDropped {
		d.order = append(d.order, id)
	} else {
		oldest := d.order[at]
		if r, ok := d.byID[oldest]; ok && r.turn == d.turn-MaxDropped {
			delete(d.byID, oldest)
		}
		d.order[at] = id
	}
	d.byID[id] = record{Dropped: why, turn: d.turn}
	d.turn++
}

// forget is for what is there again, or final.
func (d *dropped) forget(id chain.TxID) { delete(d.byID, id) }

func (p *Pool) record(e *entry, why Reason, by chain.TxID) {
	p.dropped.add(e.tx.ID(), Dropped{Reason: why, Height: p.height, By: by})
}

// Dropped returns how a transaction left the pool, if it is among the last MaxDropped
// that did without being in a finalized block, and is not back.
func (p *Pool) Dropped(id chain.TxID) (Dropped, bool) {
	r, ok := p.dropped.byID[id]
	return r.Dropped, ok
}

// DroppedFor returns how many transactions have left for a reason.
func (p *Pool) DroppedFor(why Reason) uint64 { return p.dropped.counts[why] }
