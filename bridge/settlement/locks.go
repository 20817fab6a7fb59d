package settlement

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Locks is what is locked of the bonds of nodes and clusters, by the key of their records: as those say, and as
// the records of whatever locks it do. The two are equal.
type Locks map[string]*lockedSums

type lockedSums struct{ said, held chain.Amount }

func (l Locks) of(key []byte) *lockedSums {
	sums := l[string(key)]
	if sums == nil {
		sums = &lockedSums{}
		l[string(key)] = sums
	}
	return sums
}

func (l Locks) hold(key []byte, amount chain.Amount) {
	if !amount.IsZero() {
		sums := l.of(key)
		sums.held = sound(sums.held.Add(amount))
	}
}

// Add counts what the record under a key says is locked, or locks. Orders are looked up in r. It is an error if a record holds
// what it may not.
func (l Locks) Add(r state.Reader, key, value []byte) error {
	switch key[1] {
	case kindProvider:
		l.say(key, decodeProvider(key, value).Locked)
	case kindCluster:
		l.say(key, state.Decode[Cluster](key, value).Locked)
	case kindOpenClaim:
		o := state.Decode[OpenClaim](key, value)
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
	case kindPanel:
		p := state.Decode[Panel](key, value)
		for i := range p.Jurors {
			l.hold(ProviderKey(p.Jurors[i].Node), p.Jurors[i].Staked)
		}
	case kindService, kindFormer:
		s := state.Decode[Service](key, value)
		l.hold(ProviderKey(s.Node), s.Stake)
	case kindHardware:
		h := state.Decode[Hardware](key, value)
		for i := range h.Words {
			l.hold(ProviderKey(h.Words[i].Peer), h.Words[i].Stake)
		}
	}
	return nil
}

func (l Locks) say(key []byte, locked chain.Amount) {
	if !locked.IsZero() {
		l.of(key).said = locked
	}
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

// Differs says of what bonds more or less is locked than what locks it; nil: of none.
func (l Locks) Differs() error {
	for _, key := range l.keys() {
		if sums := l[key]; sums.said != sums.held {
			return fmt.Errorf("of the bond under key %x %s is locked, what locks it holds %s", key, sums.said, sums.held)
		}
	}
	return nil
}

// Changed says of what bonds something else became of what is locked than of what locks it, between the sums before and now of the
// same records; nil: of none.
func (l Locks) Changed(before Locks) error {
	for _, key := range slices.Compact(slices.Sorted(slices.Values(append(l.keys(), before.keys()...)))) {
		var was, is lockedSums
		if sums := before[key]; sums != nil {
			was = *sums
		}
		if sums := l[key]; sums != nil {
			is = *sums
		}
		if sound(is.said.Add(was.held)) != sound(is.held.Add(was.said)) {
			return fmt.Errorf("of the bond under key %x %s was locked and %s is, what locks it held %s and holds %s", key, was.said, is.said, was.held, is.held)
		}
	}
	return nil
}

func (l Locks) keys() []string {
	keys := make([]string, 0, len(l))
	for key := range l { // order-free: sorted
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// LocksSomething reports whether the record under a key of this package counts in Locks.
func LocksSomething(key []byte) bool {
	switch key[1] {
	case kindProvider, kindCluster, kindOpenClaim, kindRuns, kindPanel, kindService, kindFormer, kindHardware:
		return true
	}
	return false
}
