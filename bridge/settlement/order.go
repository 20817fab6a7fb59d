package settlement

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// MaxOrderClaims bounds the claims of one order, and with them what its
// deletion costs.
const MaxOrderClaims = 64

// Order is the chain's state of an order that had a claim. It is deleted once
// the block time is past Expires; after that its claims are refused.
type Order struct {
	_           struct{} `cbor:",toarray"`
	Consumer    chain.Address
	Cluster     crypto.PublicKey
	Policy      chain.PolicyField
	MaxCost     chain.Amount
	Deadline    chain.TimeMs
	Expires     chain.TimeMs     // the deadline and the claim window, or when what became of it need not be known any more
	Spent       chain.Amount     // ≤ MaxCost
	Closed      bool             // paid in full: under replicate and zk it is paid once
	Assignments []Assignment     // in the order of their first claims
	Finding     chain.RunFinding // under replicate, once it is known who is paid
	Payees      uint8            // likewise: how many are
	First       *Claim           // its first claim, if it was paid at once
	PriorityBps chain.PriorityFee
}

// Assignment is one node's part of an order.
type Assignment struct {
	_    struct{} `cbor:",toarray"`
	Node crypto.PublicKey
	Next uint64 // sequence of its next claim
	Last uint64 // highest sequence of usage records that batches settled; 0: none did
}

// Claim is the chain's state of one claim that was in order: recorded, or
// settled with Cost = Paid + Burned + Treasury + ClusterFee.
type Claim struct {
	_              struct{} `cbor:",toarray"`
	Node           crypto.PublicKey
	Provider       chain.Address // the node's owner
	Sequence       uint64
	Result         crypto.Digest
	Exit           chain.ExitStatus
	Height         chain.Height // of the block that recorded it, then of the one that settled it
	Pending        *Replica     // nil once settled
	Cost           chain.Amount
	Paid           chain.Amount
	Burned         chain.Amount
	Treasury       chain.Amount
	ClusterFee     chain.Amount
	PriorityBurned chain.Amount // of Burned
	PriorityFee    chain.Amount // of ClusterFee
	ProofVerified  bool
	Records        []chain.ResourceTransaction // while it waits in its window; else the event alone tells them
	Refuted        Refutation                  // under PolicyOptimistic: why nothing was paid; 0: it was not refuted. Cost is then what the consumer did not get back
	Lost           chain.Amount                // what its escrow did not cover, because of a broken acceptance; no claim of it is left
	OutputKey      *chain.OutputKey            // of the sealed output that was paid for
}

// Refutation says why a claim under PolicyOptimistic is not paid.
type Refutation uint8

// The reasons.
const (
	RefutedResult   Refutation = iota + 1 // a panel found another result: its node was slashed
	RefutedData                           // the job's data could not be had: its cluster was slashed
	RefutedUnjudged                       // it was challenged, and too few judged it
)

// String says it for people.
func (r Refutation) String() string {
	names := [...]string{"not refuted", "a panel found another result", "the job's data could not be had", "it was challenged, and too few judged it"}
	if int(r) >= len(names) {
		return "unknown"
	}
	return names[r]
}

// Yield is the chain.Yield of the run that is claimed, for a claim that waits for others' word.
func (c *Claim) Yield() crypto.Digest {
	return chain.Yield(chain.Work(c.Result, c.Pending.Usage), c.Pending.Begins)
}

// Priority is the order's priority fee in Cost.
func (c *Claim) Priority() chain.Amount { return sound(c.PriorityBurned.Add(c.PriorityFee)) }

// Settled reports whether the claim was paid, all of it.
func (c *Claim) Settled() bool { return c.Final() && c.Refuted == 0 && c.Lost.IsZero() }

// Final reports whether the claim waits for nothing more: it was paid, as far as it ever
// will be.
func (c *Claim) Final() bool { return c.Pending == nil }

// Replica is what a recorded claim will be paid by, once k agree.
type Replica struct {
	_      struct{} `cbor:",toarray"`
	Prices []chain.UnitPrice
	Usage  []chain.Usage
	Fuel   uint64 // as the receipt has it
	Ended  chain.TimeMs
	Begins chain.Trace // where the run's strands begin
}

// DecodeOrder decodes an order's record, for those who checked its proof.
func DecodeOrder(value []byte) (Order, error) { return decode[Order](value) }

// DecodeClaim decodes a claim's record, for those who checked its proof.
func DecodeClaim(value []byte) (Claim, error) { return decode[Claim](value) }

// Settlement returns an order and its claims, by node and sequence, and false
// if the order had no claim yet or is past its claim window.
func Settlement(r state.Reader, id crypto.Digest) (Order, []Claim, bool) {
	order, ok := OrderOf(r, id)
	if !ok {
		return Order{}, nil, false
	}
	var claims []Claim
	if order.First != nil {
		claims = append(claims, *order.First)
	}
	for key, value := range claimsOf(r, id) {
		claims = append(claims, state.Decode[Claim](key, value))
	}
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(a.Node.Compare(b.Node), cmp.Compare(a.Sequence, b.Sequence))
	})
	return order, claims, true
}

// OrderOf returns the state of an order, and false if it had no claim yet or is past its
// claim window.
func OrderOf(r state.Reader, id crypto.Digest) (Order, bool) {
	return loaded(r, OrderKey(id), decodeOrder)
}

func saveOrder(kv state.KV, id crypto.Digest, o *Order) { kv.Set(OrderKey(id), encodeOrder(o)) }

// ClaimOf returns a claim that is kept in its order's record, which is the first one paid;
// false: it has a record of its own, under ClaimKey, or there is none.
func (o *Order) ClaimOf(node crypto.PublicKey, sequence uint64) (Claim, bool) {
	if o.First == nil || o.First.Node != node || o.First.Sequence != sequence {
		return Claim{}, false
	}
	return *o.First, true
}

func claimsOf(r state.Reader, id crypto.Digest) func(func(key, value []byte) bool) {
	first := keyOf(kindClaim, id[:])
	after := keyOf(kindClaim, id[:], bytes.Repeat([]byte{0xff}, crypto.PublicKeySize+9))
	return r.Iterate(first, after)
}

// next returns the sequence that a node's next claim must have.
func (o *Order) next(node crypto.PublicKey) uint64 {
	if i := o.assignment(node); i < len(o.Assignments) {
		return o.Assignments[i].Next
	}
	return 1
}

// Claimed reports whether a node's claim with a sequence was paid, or counted as lost.
func (o *Order) Claimed(node crypto.PublicKey, sequence uint64) bool { return sequence < o.next(node) }

// Batched reports whether a node is paid by batches.
func (o *Order) Batched(node crypto.PublicKey) bool {
	i := o.assignment(node)
	return i < len(o.Assignments) && o.Assignments[i].Last != 0
}

// assignment returns the index of a node's part, or where it would be added.
func (o *Order) assignment(node crypto.PublicKey) int {
	for i := range o.Assignments {
		if o.Assignments[i].Node == node {
			return i
		}
	}
	return len(o.Assignments)
}

// advance counts one claim of a node.
func (o *Order) advance(node crypto.PublicKey) {
	i := o.assignment(node)
	if i == len(o.Assignments) {
		o.Assignments = append(o.Assignments, Assignment{Node: node, Next: 2})
		return
	}
	o.Assignments[i].Next++
}

// claims returns how many claims the order has.
func (o *Order) claims() uint64 {
	var n uint64
	for _, a := range o.Assignments {
		n += a.Next - 1
	}
	return n
}

// ExpireOrders deletes the state of orders whose claim window is over at the block's
// time, oldest first, until at least limit records are gone, and returns how many those
// are; the rest waits for the next block. The last order may go beyond by MaxOrderClaims + 1.
// Orders that began in one message go with the last of them.
func ExpireOrders(kv state.KV, env *Env, limit int) (deleted int) {
	queue := expiries(env)
	due, left := queue.due(kv, limit)
	for i, key := range due {
		if deleted >= limit {
			left = due[i]
			break
		}
		others, _ := kv.Get(key) // it was found a moment ago
		for ids := slices.Concat(key[len(key)-crypto.DigestSize:], others); len(ids) > 0 && deleted < limit; ids = others {
			others = ids[crypto.DigestSize:]
			deleted += expireOrder(kv, env, crypto.Digest(ids[:crypto.DigestSize]))
		}
		if len(others) > 0 {
			kv.Set(key, others)
			left = due[i]
			break
		}
		kv.Delete(key)
		deleted++
	}
	queue.leave(kv, left)
	return deleted
}

// expireOrder deletes the state of an order, and returns how many records it wrote: none
// if it is gone already. An order whose claim waits in its window, or whose runs have
// not been paid or were an hour ago at most, stays, and is queued anew.
func expireOrder(kv state.KV, env *Env, id crypto.Digest) (written int) {
	order, ok := OrderOf(kv, id)
	if !ok {
		return 0
	}
	if _, open := OpenClaimOf(kv, id); open { // it is queued when that is closed
		return 0
	}
	if putOff(kv, env, id, &order) {
		return 1
	}
	if order.First == nil || order.claims() > 1 {
		var claims [][]byte
		for claim := range claimsOf(kv, id) {
			claims = append(claims, claim)
		}
		for _, claim := range claims {
			kv.Delete(claim)
		}
		written += len(claims)
	}
	kv.Delete(OrderKey(id))
	return written + 1
}

// endedLaterMs is by how much the end of an order is put off while its runs are not.
const endedLaterMs = 3_600_000

// putOff puts off the end of an order that has runs still, or that has to be known for longer than was queued, and
// reports whether it has: each stage of runs ends by itself, and whoever waits for the window to end must not save a stake
// by it, or what it owes.
func putOff(kv state.KV, env *Env, id crypto.Digest, order *Order) bool {
	until := order.Expires
	if _, ok := RunsOf(kv, id); ok {
		until = env.Now + endedLaterMs
	}
	if until < env.Now {
		return false
	}
	kv.Set(expiryKey(until, id[:]), []byte{})
	return true
}
