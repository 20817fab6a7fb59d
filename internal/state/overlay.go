package state

import (
	"iter"
	"slices"
	"sort"
	"strings"
)

// Overlay is a set of changes on top of a parent that stays as it is until
// Flush. Overlays nest: one per block, one per transaction on it. An empty
// overlay costs no allocation but its own, and one that was flushed or
// discarded is ready for use again.
//
// The zero value is not usable; call NewOverlay.
type Overlay struct {
	parent  Reader
	entries map[string]*entry

	// sorted holds the entries by key, but for those in fresh, which were
	// added since the last iteration. While iterations run (live > 0) they read
	// a slice of their own: shared says that it is still this one, and then
	// neither it nor the entries in it may be changed in place.
	sorted []*entry
	fresh  []*entry
	live   int
	shared bool
}

type entry struct {
	key     string
	value   []byte
	deleted bool
	merged  bool // is in sorted, where an iteration may read it
}

var _ KV = (*Overlay)(nil)

// NewOverlay returns an empty overlay on parent.
func NewOverlay(parent Reader) *Overlay { return &Overlay{parent: parent} }

// Get returns the overlay's value of key, or else the parent's.
func (o *Overlay) Get(key []byte) ([]byte, bool) {
	if e, ok := o.entries[string(key)]; ok {
		return e.value, !e.deleted
	}
	return o.parent.Get(key)
}

// Set gives key a value.
func (o *Overlay) Set(key, value []byte) {
	assertKey(len(key))
	assertValue(len(value))
	if e, ok := o.entries[string(key)]; ok {
		o.replace(e, value, false)
		return
	}
	o.add(&entry{key: string(key), value: value})
}

// Delete removes key, if it is there.
func (o *Overlay) Delete(key []byte) {
	assertKey(len(key))
	if e, ok := o.entries[string(key)]; ok {
		o.replace(e, nil, true)
		return
	}
	o.add(&entry{key: string(key), deleted: true})
}

func (o *Overlay) add(e *entry) {
	if o.entries == nil {
		o.entries = make(map[string]*entry)
	}
	o.entries[e.key] = e
	o.fresh = append(o.fresh, e)
}

// replace changes an entry, leaving the old one to the iterations that run.
func (o *Overlay) replace(e *entry, value []byte, deleted bool) {
	if o.live == 0 || !e.merged {
		e.value, e.deleted = value, deleted
		return
	}
	changed := &entry{key: e.key, value: value, deleted: deleted, merged: true}
	o.entries[e.key] = changed
	if o.shared {
		o.sorted, o.shared = slices.Clone(o.sorted), false
	}
	o.sorted[lowerBound(o.sorted, e.key)] = changed
}

// Len returns how many keys the overlay sets or deletes.
func (o *Overlay) Len() int { return len(o.entries) }

// Flush applies the overlay's changes to a state, in ascending order of keys,
// and empties the overlay. Usually kv is its parent.
func (o *Overlay) Flush(kv KV) {
	below, nested := kv.(*Overlay)
	for _, e := range o.ordered() {
		switch {
		case nested:
			below.take(e)
		case e.deleted:
			kv.Delete([]byte(e.key))
		default:
			kv.Set([]byte(e.key), e.value)
		}
	}
	o.Discard()
}

// take is Set or Delete without a new copy of the key.
func (o *Overlay) take(e *entry) {
	if old, ok := o.entries[e.key]; ok {
		o.replace(old, e.value, e.deleted)
		return
	}
	o.add(&entry{key: e.key, value: e.value, deleted: e.deleted})
}

// Discard forgets every change.
func (o *Overlay) Discard() {
	clear(o.entries)
	if o.live > 0 {
		o.sorted, o.fresh, o.shared = nil, nil, false
		return
	}
	clear(o.sorted)
	clear(o.fresh)
	o.sorted, o.fresh = o.sorted[:0], o.fresh[:0]
}

// Changes returns what the overlay does to each key it touches, in ascending
// order of keys. Later changes of the overlay do not show in it.
func (o *Overlay) Changes() []Change {
	ordered := o.ordered()
	out := make([]Change, len(ordered))
	for i, e := range ordered {
		out[i] = Change{Key: []byte(e.key), Value: e.value, Deleted: e.deleted}
	}
	return out
}

// ordered returns every entry by key. The slice is the overlay's own.
func (o *Overlay) ordered() []*entry {
	if len(o.fresh) == 0 {
		return o.sorted
	}
	slices.SortFunc(o.fresh, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range o.fresh {
		e.merged = true
	}
	n, k := len(o.sorted), len(o.fresh)
	if o.shared {
		o.sorted, o.shared = append(make([]*entry, 0, 2*(n+k)), o.sorted...), false
	}
	merged := slices.Grow(o.sorted, k)[:n+k]
	// Merge from the back, in place: the part that is not yet merged never
	// overlaps what is written.
	for i, at := n, n+k-1; k > 0; at-- {
		if i > 0 && merged[i-1].key > o.fresh[k-1].key {
			i--
			merged[at] = merged[i]
			continue
		}
		k--
		merged[at] = o.fresh[k]
	}
	clear(o.fresh)
	o.sorted, o.fresh = merged, o.fresh[:0]
	return merged
}

func lowerBound(sorted []*entry, key string) int {
	return sort.Search(len(sorted), func(i int) bool { return sorted[i].key >= key })
}

// Iterate merges the overlay's pairs with the parent's.
func (o *Overlay) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		own := o.ordered()
		own = own[lowerBound(own, string(start)):]
		if end != nil {
			own = own[:lowerBound(own, string(end))]
		}
		if len(own) == 0 {
			o.parent.Iterate(start, end)(yield)
			return
		}
		o.live++
		o.shared = true
		defer func() {
			o.live--
			o.shared = o.shared && o.live > 0
		}()
		for key, value := range o.parent.Iterate(start, end) {
			for len(own) > 0 && own[0].key < string(key) {
				if !own[0].deleted && !yield([]byte(own[0].key), own[0].value) {
					return
				}
				own = own[1:]
			}
			if len(own) > 0 && own[0].key == string(key) {
				continue // the overlay's own pair comes before the parent's next
			}
			if !yield(key, value) {
				return
			}
		}
		for _, e := range own {
			if !e.deleted && !yield([]byte(e.key), e.value) {
				return
			}
		}
	}
}
