package settlement

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Locks is what is locked of the bonds of nodes and clusters, and what is held for consumers elsewhere than in their escrows, by the
// key of those records: as they say, and as the records of whatever locks or holds it do. The two are equal.
type Locks struct {
	sums map[string]*lockedSums
	all  *scales // of the escrows, if a whole state is counted; nil: they are among the sums
}

type lockedSums struct{ said, held chain.Amount }

// LocksOfChanges counts the records that a block changed.
func LocksOfChanges() Locks { return Locks{sums: map[string]*lockedSums{}} }

// LocksOfState counts a whole state. Of a million leases there are as many escrows: what these say and what is held for them are
// weighed against each other, in no more memory than two numbers take.
func LocksOfState() Locks { return Locks{sums: map[string]*lockedSums{}, all: &scales{}} }

func (l *Locks) of(key []byte) *lockedSums {
	sums := l.sums[string(key)]
	if sums == nil {
		sums = &lockedSums{}
		l.sums[string(key)] = sums
	}
	return sums
}

func (l *Locks) hold(key []byte, amount chain.Amount) {
	switch {
	case amount.IsZero():
	case l.all != nil && key[1] == kindEscrow:
		l.all.held.add(key, amount)
	default:
		sums := l.of(key)
		sums.held = sound(sums.held.Add(amount))
	}
}

func (l *Locks) say(key []byte, locked chain.Amount) {
	switch {
	case locked.IsZero():
	case l.all != nil && key[1] == kindEscrow:
		l.all.said.add(key, locked)
	default:
		l.of(key).said = locked
	}
}

// scales weigh amounts of many escrows against each other: each counts as often as a number that its escrow's key gives.
type scales struct{ said, held weight }

// weight is a number of 128 bits: amounts are together within the supply, and what they are multiplied by is below 2⁶⁴.
type weight struct{ high, low uint64 }

func (w *weight) add(key []byte, amount chain.Amount) {
	hash := crypto.DomainStateKey.Hash(key)
	high, low := bits.Mul64(binary.BigEndian.Uint64(hash[:8]), amount.Nano())
	var carry uint64
	w.low, carry = bits.Add64(w.low, low, 0)
	w.high, _ = bits.Add64(w.high, high, carry)
}

// Add counts what the record under a key says is locked, or locks. Orders are looked up in r. It is an error if a record holds
// what it may not.
func (l *Locks) Add(r state.Reader, key, value []byte) error {
	switch key[1] {
	case kindProvider:
		l.say(key, decodeProvider(key, value).Locked)
	case kindCluster:
		l.say(key, state.Decode[Cluster](key, value).Locked)
	case kindEscrow:
		l.say(key, decodeEscrow(key, value).Elsewhere)
	case kindLease:
		lease := decodeLease(key, value)
		l.hold(EscrowKey(lease.Consumer, lease.Cluster), lease.Held)
	case kindOpenClaim:
		o := state.Decode[OpenClaim](key, value)
		l.hold(EscrowKey(o.Consumer, o.Cluster), o.Held)
		l.hold(ProviderKey(o.Claim.Node), o.Bond)
		l.hold(ClusterKey(o.Cluster), o.Bond)
		return o.within(r, crypto.Digest(key[2:]))
	case kindRuns:
		runs, id := state.Decode[Runs](key, value), crypto.Digest(key[2:])
		book, ok := OrderOf(r, id)
		if !ok {
			return fmt.Errorf("order %s has runs and no record", id.Short())
		}
		policy, ok := book.Policy.Policy.(chain.PolicyReplicate)
		if !ok {
			return fmt.Errorf("order %s under %s has runs", id.Short(), book.Policy)
		}
		for i := range runs.Runs {
			if run := &runs.Runs[i]; run.Staked {
				l.hold(ProviderKey(run.Bidder.Node), NodeSlice(policy))
			}
		}
		l.hold(ClusterKey(book.Cluster), runs.Slice)
		l.hold(EscrowKey(book.Consumer, book.Cluster), runs.Held)
	case kindPanel:
		p := state.Decode[Panel](key, value)
		for i := range p.Jurors {
			l.hold(ProviderKey(p.Jurors[i].Node), p.Jurors[i].Staked)
		}
	case kindService, kindFormer:
		s := state.Decode[Service](key, value)
		l.hold(ProviderKey(s.Node), s.Stake)
		if s.Over != nil {
			l.hold(EscrowKey(s.Over.Consumer, s.Over.Cluster), s.Over.Held)
		}
	case kindHardware:
		h := state.Decode[Hardware](key, value)
		for i := range h.Words {
			l.hold(ProviderKey(h.Words[i].Peer), h.Words[i].Stake)
		}
	}
	return nil
}

// within demands that what a claim in its window holds was taken from its order's consumer, within the order's max cost.
func (o *OpenClaim) within(r state.Reader, id crypto.Digest) error {
	taken, fits := o.Held.Add(o.Premium)
	if fits && taken.IsZero() {
		return nil
	}
	book, ok := OrderOf(r, id)
	switch {
	case !ok || !fits:
		return fmt.Errorf("the claim of order %s is open, and the order is not there", id.Short())
	case book.Consumer != o.Consumer || book.Cluster != o.Cluster:
		return fmt.Errorf("the claim of order %s holds money of %s, the order is of %s", id.Short(), o.Consumer, book.Consumer)
	case book.Spent.Less(taken) || book.MaxCost.Less(book.Spent):
		return fmt.Errorf("the claim of order %s holds %s, the order spent %s of %s", id.Short(), taken, book.Spent, book.MaxCost)
	}
	return nil
}

// Differs says of what bond or escrow more or less is locked, or held elsewhere, than what does; nil: of none.
func (l *Locks) Differs() error {
	for _, key := range l.keys() {
		if sums := l.sums[key]; sums.said != sums.held {
			return fmt.Errorf("of %s %s is locked, what locks it holds %s", lockedOf(key), sums.said, sums.held)
		}
	}
	if l.all != nil && l.all.said != l.all.held {
		return errors.New("of some consumer's escrow more or less is said to be held elsewhere than leases and claims hold")
	}
	return nil
}

// Changed says of what bond or escrow something else became of what is locked than of what locks it, between the sums before and now
// of the same records; nil: of none.
func (l *Locks) Changed(before *Locks) error {
	for _, key := range slices.Compact(slices.Sorted(slices.Values(append(l.keys(), before.keys()...)))) {
		var was, is lockedSums
		if sums := before.sums[key]; sums != nil {
			was = *sums
		}
		if sums := l.sums[key]; sums != nil {
			is = *sums
		}
		if sound(is.said.Add(was.held)) != sound(is.held.Add(was.said)) {
			return fmt.Errorf("of %s %s was locked and %s is, what locks it held %s and holds %s", lockedOf(key), was.said, is.said, was.held, is.held)
		}
	}
	return nil
}

// lockedOf names what a sum is of.
func lockedOf(key string) string {
	if key[1] == kindEscrow {
		return fmt.Sprintf("the escrow under key %x", key)
	}
	return fmt.Sprintf("the bond under key %x", key)
}

func (l *Locks) keys() []string {
	keys := make([]string, 0, len(l.sums))
	for key := range l.sums { // order-free: sorted
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// LocksSomething reports whether the record under a key of this package counts in Locks.
func LocksSomething(key []byte) bool {
	switch key[1] {
	case kindProvider, kindCluster, kindEscrow, kindLease, kindOpenClaim, kindRuns, kindPanel, kindService, kindFormer, kindHardware:
		return true
	}
	return false
}
