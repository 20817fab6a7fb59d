package state

import (
	"iter"
	"maps"
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
	parent    Reader
	remembers bool // what it read of the parent: NewRemembering
	entries   map[string]*entry
	spare     []*entry // of use again

	// runs hold the entries that change something, but for those in fresh, which were added since the
	// last iteration. No key is in two. Each is more than twice as long as the
	// next, so that an entry moves from run to run but a few times, however often
	// additions and iterations take turns. While iterations run (live > 0)
	// they may read the slice of a run: shared says so, and then neither it nor
	// the entries in it may be changed in place.
	runs  []run
	fresh []*entry
	live  int
}

// run is some entries by key.
type run struct {
	entries []*entry
	shared  bool
}

type entry struct {
	key     string
	value   []byte
	before  []byte // the parent's value, if it was read before it was changed
	deleted bool
	merged  bool // is in a run, where an iteration may read it
	clean   bool // was read and not changed: in no run, and not fresh
	read    bool // before is known
	had     bool // the parent has a value, if before is known
}

var _ KV = (*Overlay)(nil)

// NewOverlay returns an empty overlay on parent.
func NewOverlay(parent Reader) *Overlay { return &Overlay{parent: parent} }

// NewRemembering returns an empty overlay that asks its parent for a key once, and knows
// afterwards what the parent has of those that were read and then changed. It has room for
// so many keys, and more.
func NewRemembering(parent Reader, keys int) *Overlay {
	return &Overlay{parent: parent, remembers: true, entries: make(map[string]*entry, keys)}
}

// Get returns the overlay's value of key, or else the parent's.
func (o *Overlay) Get(key []byte) ([]byte, bool) {
	if e, ok := o.entries[string(key)]; ok {
		return e.value, !e.deleted
	}
	value, ok := o.parent.Get(key)
	if o.remembers {
		o.learn(key, value, ok)
	}
	return value, ok
}

// Knows reports whether the overlay answers for a key without its parent.
func (o *Overlay) Knows(key []byte) bool {
	_, ok := o.entries[string(key)]
	return ok
}

// Learn tells an overlay that remembers what its parent has of a key, as if it had asked for
// it. A key that it knows stays as it is.
func (o *Overlay) Learn(key, value []byte, ok bool) {
	if o.remembers && !o.Knows(key) {
		o.learn(key, value, ok)
	}
}

func (o *Overlay) learn(key, value []byte, ok bool) {
	own := string(key)
	o.entries[own] = &entry{key: own, value: value, deleted: !ok, clean: true}
}

// Reserve makes room for so many keys more.
func (o *Overlay) Reserve(keys int) {
	if keys > len(o.entries) { // or it has grown to as much already
		entries := make(map[string]*entry, len(o.entries)+2*keys)
		maps.Copy(entries, o.entries)
		o.entries = entries
	}
}

// Set gives key a value.
func (o *Overlay) Set(key, value []byte) {
	assertKey(len(key))
	assertValue(len(value))
	if e, ok := o.entries[string(key)]; ok {
		o.replace(e, value, false)
		return
	}
	e := o.entry()
	e.key, e.value = string(key), value
	o.add(e)
}

// entry returns one to fill in.
func (o *Overlay) entry() *entry {
	n := len(o.spare)
	if n == 0 {
		return new(entry)
	}
	e := o.spare[n-1]
	o.spare = o.spare[:n-1]
	return e
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
	if e.clean {
		e.before, e.had, e.read, e.clean = e.value, !e.deleted, true, false
		e.value, e.deleted = value, deleted
		o.fresh = append(o.fresh, e)
		return
	}
	if o.live == 0 || !e.merged {
		e.value, e.deleted = value, deleted
		return
	}
	changed := new(entry)
	*changed = *e
	changed.value, changed.deleted = value, deleted
	o.entries[e.key] = changed
	for i := range o.runs {
		r := &o.runs[i]
		at := lowerBound(r.entries, e.key)
		if at == len(r.entries) || r.entries[at] != e {
			continue
		}
		if r.shared {
			r.entries, r.shared = slices.Clone(r.entries), false
		}
		r.entries[at] = changed
		return
	}
	panic("state: an entry that was merged is in no run")
}

// Len returns how many keys the overlay sets or deletes.
func (o *Overlay) Len() int {
	n := len(o.fresh)
	for i := range o.runs {
		n += len(o.runs[i].entries)
	}
	return n
}

// Flush applies the overlay's changes to a state, in ascending order of keys,
// and empties the overlay. Usually kv is its parent.
func (o *Overlay) Flush(kv KV) {
	below, nested := kv.(*Overlay)
	for _, e := range o.ordered() {
		switch {
		case nested && o.live == 0: // nobody else has the entry
			if left := below.take(e); left != nil {
				*left = entry{}
				o.spare = append(o.spare, left)
			}
		case nested:
			own := *e
			below.take(&own)
		case e.deleted:
			kv.Delete([]byte(e.key))
		default:
			kv.Set([]byte(e.key), e.value)
		}
	}
	o.Discard()
}

// take is Set or Delete of what an overlay on this one did, with its entry. It returns
// the entry if it has no use for it.
func (o *Overlay) take(e *entry) (left *entry) {
	if old, ok := o.entries[e.key]; ok {
		o.replace(old, e.value, e.deleted)
		return e
	}
	e.merged, e.read, e.had, e.before = false, false, false, nil
	o.add(e)
	return nil
}

// Discard forgets every change.
func (o *Overlay) Discard() {
	clear(o.entries)
	clear(o.fresh)
	o.fresh = o.fresh[:0]
	if len(o.runs) == 0 {
		return
	}
	if o.live == 0 && cap(o.runs[0].entries) > cap(o.fresh) { // its room is of use again
		clear(o.runs[0].entries)
		o.fresh = o.runs[0].entries[:0]
	}
	clear(o.runs)
	o.runs = o.runs[:0]
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

// Before returns what the parent has of the key of change i, as Changes numbers them.
func (o *Overlay) Before(i int) (value []byte, ok bool) {
	e := o.ordered()[i]
	if e.read {
		return e.before, e.had
	}
	return o.parent.Get([]byte(e.key))
}

// settle makes a run of the fresh entries.
func (o *Overlay) settle() {
	if len(o.fresh) == 0 {
		return
	}
	slices.SortFunc(o.fresh, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range o.fresh {
		e.merged = true
	}
	o.runs = append(o.runs, run{entries: o.fresh})
	o.fresh = nil
	for n := len(o.runs); n > 1 && len(o.runs[n-2].entries) <= 2*len(o.runs[n-1].entries); n = len(o.runs) {
		o.join()
	}
}

// join makes one run of the last two.
func (o *Overlay) join() {
	n := len(o.runs)
	o.runs[n-2] = run{entries: merged(o.runs[n-2].entries, o.runs[n-1].entries)}
	o.runs[n-1] = run{}
	o.runs = o.runs[:n-1]
}

// merged returns the entries of two lists by key, in a slice of its own.
func merged(a, b []*entry) []*entry {
	out := make([]*entry, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].key < b[0].key {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// ordered returns every entry by key. The slice is the overlay's own.
func (o *Overlay) ordered() []*entry {
	o.settle()
	for len(o.runs) > 1 {
		o.join()
	}
	if len(o.runs) == 0 {
		return nil
	}
	return o.runs[0].entries
}

// parts is entries in order of keys, of several runs that are merged as they are taken: who
// looks for one of thousands does not wait for all.
type parts [][]*entry

// next takes the first entry, nil if there is none.
func (p parts) next() *entry {
	least := -1
	for i := range p {
		if len(p[i]) > 0 && (least < 0 || p[i][0].key < p[least][0].key) {
			least = i
		}
	}
	if least < 0 {
		return nil
	}
	e := p[least][0]
	p[least] = p[least][1:]
	return e
}

// within returns the entries with start ≤ key < end, for an iteration to read: the runs that
// have some of them are shared from then on.
func (o *Overlay) within(start string, end []byte) (out parts) {
	o.settle()
	for i := range o.runs {
		own := o.runs[i].entries
		own = own[lowerBound(own, start):]
		if end != nil {
			own = own[:lowerBound(own, string(end))]
		}
		if len(own) > 0 {
			out, o.runs[i].shared = append(out, own), true
		}
	}
	return out
}

func lowerBound(sorted []*entry, key string) int {
	return sort.Search(len(sorted), func(i int) bool { return sorted[i].key >= key })
}

// Iterate merges the overlay's pairs with the parent's.
func (o *Overlay) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		own := o.within(string(start), end)
		if len(own) == 0 {
			o.parent.Iterate(start, end)(yield)
			return
		}
		o.live++
		defer func() {
			if o.live--; o.live == 0 {
				for i := range o.runs {
					o.runs[i].shared = false
				}
			}
		}()
		e := own.next()
		for key, value := range o.parent.Iterate(start, end) {
			for ; e != nil && e.key < string(key); e = own.next() {
				if !e.deleted && !yield([]byte(e.key), e.value) {
					return
				}
			}
			if e != nil && e.key == string(key) {
				continue // the overlay's own pair comes before the parent's next
			}
			if !yield(key, value) {
				return
			}
		}
		for ; e != nil; e = own.next() {
			if !e.deleted && !yield([]byte(e.key), e.value) {
				return
			}
		}
	}
}
