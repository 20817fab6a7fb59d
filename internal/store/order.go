package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
)

// group is the first two bytes of a key: a room's prefix and the kind of its
// record. What iterates does so within one.
type group uint16

// groupOf returns the group of a key, and false if it is too short for one.
func groupOf(key []byte) (group, bool) {
	if len(key) < 2 {
		return 0, false
	}
	return group(binary.BigEndian.Uint16(key)), true
}

// groupOfRange returns the group that every key with start ≤ key < end is in, and
// false if that is not one: a key of one byte, which is in none, may be between the last
// group of one first byte and the first of the next.
func groupOfRange(start, end []byte) (group, bool) {
	g, ok := groupOf(start)
	last, some := groupOf(end)
	return g, ok && some && (last == g || last == g+1 && byte(last) != 0 && len(end) == 2)
}

// order is the keys of one group, each once, for who iterates over a part of
// them: without it, they would have to be looked for in hundreds of blocks. Each
// run ascends and is more than twice as long as the next. Runs never change:
// who got some reads on while others take their place.
type order struct {
	runs  [][][]byte
	fresh [][]byte // keys that are in no run yet
}

// settle makes runs of the fresh keys.
func (o *order) settle() {
	if len(o.fresh) == 0 {
		return
	}
	slices.SortFunc(o.fresh, bytes.Compare)
	last, runs := o.fresh, slices.Clone(o.runs)
	for n := len(runs); n > 0 && len(runs[n-1]) <= 2*len(last); n = len(runs) {
		last, runs = mergedKeys(runs[n-1], last), runs[:n-1]
	}
	o.runs, o.fresh = append(runs, last), nil
}

// mergedKeys returns the keys of two lists in ascending order.
func mergedKeys(a, b [][]byte) [][]byte {
	out := make([][]byte, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(a[0], b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// runsOf returns the runs of a group's keys. The first call for a group looks
// through all blocks.
func (p *pending) runsOf(g group) [][][]byte {
	p.mu.RLock()
	o := p.orders[g]
	if o != nil && len(o.fresh) == 0 || len(p.blocks) == 0 {
		defer p.mu.RUnlock()
		if o == nil {
			return nil
		}
		return o.runs
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if o = p.orders[g]; o == nil {
		o = p.orderOf(g)
		if p.orders == nil {
			p.orders = map[group]*order{}
		}
		p.orders[g] = o
	}
	o.settle()
	return o.runs
}

// orderOf collects the keys of a group.
func (p *pending) orderOf(g group) *order {
	first := binary.BigEndian.AppendUint16(nil, uint16(g))
	var keys [][]byte
	for i := range p.blocks {
		changes := p.blocks[i].changes
		for k := changes.From(first); k < changes.Len() && bytes.HasPrefix(changes.Key(k), first); k++ {
			keys = append(keys, changes.Key(k))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return &order{fresh: slices.CompactFunc(keys, bytes.Equal)}
}

// leastOf takes the least key out of some lists that ascend, nil if they are
// empty.
func leastOf(lists [][][]byte) []byte {
	var least []byte
	for _, l := range lists {
		if len(l) > 0 && (least == nil || bytes.Compare(l[0], least) < 0) {
			least = l[0]
		}
	}
	for i, l := range lists {
		if len(l) > 0 && bytes.Equal(l[0], least) {
			lists[i] = l[1:]
		}
	}
	return least
}

func lowerBound(keys [][]byte, key []byte) int {
	return sort.Search(len(keys), func(i int) bool { return bytes.Compare(keys[i], key) >= 0 })
}
