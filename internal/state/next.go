package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// update is what a version does to one leaf.
type update struct {
	prefix   uint64 // of the position: its first eight bytes, to sort by
	position *crypto.Digest
	leaf     crypto.Digest // zero: the key is deleted
	change   int           // index in the version's changes
}

// staleNode is a record that a version superseded.
type staleNode struct {
	position *crypto.Digest
	version  uint64
	depth    int
}

var (
	errVersion = errors.New("state: version does not ascend")
	errOrder   = errors.New("state: changes are not in strictly ascending order of keys")
)

// Next returns the tree's successor: version, which must be higher than the
// tree's own, made of the changes, which must be in strictly ascending order of
// keys and must not be modified afterwards (Overlay.Changes gives them so). The
// work forks by the first nibble of positions, up to parallelism of them at a
// time. Setting a key to the value it has, or deleting one that is absent,
// changes nothing. An error is a fault of the reader or of the caller.
func (t *Tree) Next(version uint64, changes []Change, parallelism int) (*Tree, error) {
	if t.started() && version <= t.mark.Version {
		return nil, fmt.Errorf("%w: %d after %d", errVersion, version, t.mark.Version)
	}
	for i := 1; i < len(changes); i++ {
		if bytes.Compare(changes[i-1].Key, changes[i].Key) >= 0 {
			return nil, fmt.Errorf("%w: %x, then %x", errOrder, changes[i-1].Key, changes[i].Key)
		}
	}
	top := &node{}
	if t.started() {
		top = t.top.node
	}
	groups := updatesOf(changes, parallelism)
	var workers [fanout]worker
	var results [fanout]slot
	var changed [fanout]bool
	var faults [fanout]error
	crypto.ForkJoin(fanout, parallelism, func(i int) {
		group := groups[i]
		if len(group) == 0 {
			return
		}
		sortUpdates(group)
		w := &workers[i]
		w.loader.reader, w.version, w.kept = t.reader, version, t.kept()
		w.entries = make([]update, 0, len(group))
		w.stale = make([]staleNode, 0, 3*len(group))
		var at slot
		if child := top.at(i); child != nil {
			at = *child
		}
		results[i], changed[i], faults[i] = w.apply(at, 1, group)
	})
	if err := errors.Join(faults[:]...); err != nil {
		return nil, fmt.Errorf("state: building version %d: %w", version, err)
	}
	l, all := collect(workers[:], changes)
	if t.started() {
		l.stale = append(l.stale, staleNode{position: &crypto.Digest{}, version: t.top.version})
		all.grown--
	}
	all.kept = t.kept()
	next := all.replace(top, &results, &changed)
	all.count(1)
	l.mark = Mark{Version: version, Root: next.seal()}
	return &Tree{
		reader:    t.reader,
		mark:      l.mark,
		top:       slot{hash: l.mark.Root, version: version, node: next},
		memory:    t.memory.after(version, all.written, all.grown),
		durable:   t.durable,
		isDurable: t.isDurable,
		layers:    append(t.layers[:len(t.layers):len(t.layers)], l),
	}, nil
}

// collect puts together what the workers did, but for the root node, and adds
// up what they counted.
func collect(workers []worker, changes []Change) (*layer, worker) {
	entries, stale := 0, 0
	for i := range workers {
		entries += len(workers[i].entries)
		stale += len(workers[i].stale)
	}
	l := &layer{
		changes: changes,
		entries: make([]update, 0, entries),
		stale:   make([]staleNode, 0, stale+1),
	}
	var all worker
	for i := range workers {
		l.entries = append(l.entries, workers[i].entries...)
		l.stale = append(l.stale, workers[i].stale...)
		all.written += workers[i].written
		all.grown += workers[i].grown
	}
	return l, all
}

// updatesOf hashes the changes and groups them by their first nibble. The
// order in a group is that of keys.
func updatesOf(changes []Change, parallelism int) [fanout][]update {
	const chunk = 64
	hashed := make([]update, len(changes))
	positions := make([]crypto.Digest, len(changes))
	crypto.ForkJoin((len(changes)+chunk-1)/chunk, parallelism, func(c int) {
		for i := c * chunk; i < min((c+1)*chunk, len(changes)); i++ {
			positions[i] = Position(changes[i].Key)
			hashed[i] = update{
				prefix:   binary.BigEndian.Uint64(positions[i][:]),
				position: &positions[i],
				change:   i,
			}
			if !changes[i].Deleted {
				hashed[i].leaf = leafHash(positions[i], changes[i].Value)
			}
		}
	})
	var sizes [fanout]int
	for i := range positions {
		sizes[nibble(&positions[i], 0)]++
	}
	var groups [fanout][]update
	store := make([]update, len(changes))
	for i, size := range sizes {
		groups[i], store = store[:0:size], store[size:]
	}
	for i := range hashed {
		g := &groups[nibble(&positions[i], 0)]
		*g = append(*g, hashed[i])
	}
	return groups
}

func sortUpdates(group []update) {
	slices.SortFunc(group, func(a, b update) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return a.position.Compare(*b.position)
	})
}

// worker builds the part of a version under one first nibble.
type worker struct {
	loader  loader
	version uint64
	kept    uint64 // nodes of earlier versions need not stay in memory

	entries []update
	stale   []staleNode
	written int // nodes made
	grown   int // by how many there are more in memory
}

func (w *worker) count(made int) {
	w.written += made
	w.grown += made
}

// apply returns what a slot at some depth becomes under updates, sorted by
// position and all under the slot, and whether that is a change.
func (w *worker) apply(at slot, depth int, ups []update) (slot, bool, error) {
	if at.empty() || at.leaf != nil {
		made, changed := w.fill(at, depth, ups)
		return made, changed, nil
	}
	old, err := w.loader.load(&at, depth, ups[0].position)
	if err != nil {
		return slot{}, false, err
	}
	var results [fanout]slot
	var changed [fanout]bool
	touched := false
	for rest := ups; len(rest) > 0; {
		var group []update
		i := nibble(rest[0].position, depth)
		group, rest = splitNibble(rest, depth)
		var child slot
		if c := old.at(i); c != nil {
			child = *c
		}
		if results[i], changed[i], err = w.apply(child, depth+1, group); err != nil {
			return slot{}, false, err
		}
		touched = touched || changed[i]
	}
	if !touched {
		return at, false, nil
	}
	w.stale = append(w.stale, staleNode{position: ups[0].position, version: at.version, depth: depth})
	if at.node != nil {
		w.grown--
	}
	return w.finish(w.replace(old, &results, &changed)), true, nil
}

// splitNibble cuts off the updates that share the first one's nibble at depth.
func splitNibble(ups []update, depth int) (group, rest []update) {
	i, n := nibble(ups[0].position, depth), 1
	for n < len(ups) && nibble(ups[n].position, depth) == i {
		n++
	}
	return ups[:n], ups[n:]
}

// replace returns a copy of old with the changed slots replaced. In the copy,
// nodes that need not stay in memory are left to the disk.
func (w *worker) replace(old *node, results *[fanout]slot, changed *[fanout]bool) *node {
	n := &node{used: old.used, leaves: old.leaves, known: old.known, quarters: old.quarters}
	for i := range fanout {
		if !changed[i] {
			continue
		}
		bit := uint16(1) << i
		n.used &^= bit
		n.leaves &^= bit
		n.known &^= 1 << (i / 4)
		if !results[i].empty() {
			n.used |= bit
			if results[i].leaf != nil {
				n.leaves |= bit
			}
		}
	}
	n.slots = make([]slot, bits.OnesCount16(n.used))
	from, to := 0, 0
	for rest := old.used | n.used; rest != 0; rest &= rest - 1 {
		i, bit := bits.TrailingZeros16(rest), rest&-rest
		switch {
		case !changed[i]:
			n.slots[to] = old.slots[from]
			if s := &n.slots[to]; s.node != nil && s.version < w.kept {
				w.grown -= s.node.resident()
				s.node = nil
			}
			to++
		case n.used&bit != 0:
			n.slots[to] = results[i]
			to++
		}
		if old.used&bit != 0 {
			from++
		}
	}
	return n
}

// finish turns a built node into the slot that stands for it: empty or the
// lone leaf if there is no more in it.
func (w *worker) finish(n *node) slot {
	if n.used == 0 {
		return slot{}
	}
	if leaf := n.lone(); leaf != nil {
		return *leaf
	}
	w.count(1)
	return slot{hash: n.seal(), version: w.version, node: n}
}

// fill is apply for a slot that is empty or a leaf.
func (w *worker) fill(at slot, depth int, ups []update) (slot, bool) {
	if len(ups) == 1 && at.leaf == nil && !ups[0].leaf.IsZero() {
		return w.leaf(&ups[0]), true
	}
	items := make([]slot, 0, len(ups)+1)
	changed, placed := false, at.leaf == nil
	for i := range ups {
		u := &ups[i]
		order := -1
		if !placed {
			order = u.position.Compare(*at.leaf)
		}
		if order > 0 {
			items, placed = append(items, at), true
		}
		if order == 0 {
			placed = true
			if u.leaf == at.hash {
				items = append(items, at)
				continue
			}
			w.stale = append(w.stale, staleNode{position: at.leaf, version: at.version, depth: leafDepth})
			changed = true
		}
		if !u.leaf.IsZero() {
			items, changed = append(items, w.leaf(u)), true
		}
	}
	if !placed {
		items = append(items, at)
	}
	if !changed {
		return at, false
	}
	return w.build(items, depth), true
}

// leaf notes a leaf to be written and returns its slot.
func (w *worker) leaf(u *update) slot {
	w.entries = append(w.entries, *u)
	return slot{hash: u.leaf, version: w.version, leaf: u.position}
}

// build returns the subtree at some depth of leaves in ascending order of
// positions.
func (w *worker) build(leaves []slot, depth int) slot {
	switch {
	case len(leaves) == 0:
		return slot{}
	case len(leaves) == 1:
		return leaves[0]
	case depth == leafDepth:
		panic("state: two keys have one position: Blake3 is broken")
	}
	var results [fanout]slot
	var changed [fanout]bool
	for len(leaves) > 0 {
		i, n := nibble(leaves[0].leaf, depth), 1
		for n < len(leaves) && nibble(leaves[n].leaf, depth) == i {
			n++
		}
		results[i], changed[i] = w.build(leaves[:n], depth+1), true
		leaves = leaves[n:]
	}
	return w.finish(w.replace(&node{}, &results, &changed))
}
