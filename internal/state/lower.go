package state

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ManyReader is a NodeReader to which many records at a time cost less.
type ManyReader interface {
	NodeReader
	// ReadNodes hands out the records named by keys, which ascend, one by one in
	// that order: nil for one that is not there. A record is valid during the call
	// alone. It ends with the first error, its own or take's.
	ReadNodes(keys [][]byte, take func(i int, record []byte) error) error
}

const (
	// lowerBatch is how many leaves are looked up together before it is known how
	// large they are.
	lowerBatch = 512
	// lowerSlack is how many times the bytes asked for may be read at once.
	lowerSlack = 2
)

// Lower returns the lower end of a range: the leaves from its beginning, in
// ascending order of positions, up to the one that brings them to maxLeaves or to
// maxBytes of keys and values; with less the range is over. What it reads of the
// disk it reads in the order of the disk, and no more at a time than some times
// maxBytes and one value.
func (t *Tree) Lower(r Range, maxLeaves, maxBytes int) ([]Entry, error) {
	if r.From.Compare(r.To) > 0 || maxLeaves < 1 || maxBytes < 1 {
		panic("state: nothing of an empty range")
	}
	if !t.started() {
		return nil, nil
	}
	if err := t.hold.use(); err != nil {
		return nil, err
	}
	defer t.hold.done()
	g := gather{t: t, r: &r, ahead: maxLeaves, places: []place{{kid: &t.top}}}
	var out []Entry
	size := 0
	for batch := min(lowerBatch, maxLeaves); ; {
		slots, err := g.first(batch)
		if err != nil {
			return nil, err
		}
		part, each, err := t.entries(slots, lowerSlack*maxBytes)
		if err != nil {
			return nil, err
		}
		if part == nil && len(slots) > 0 {
			batch = min(max(maxBytes/each, 1), (len(slots)+1)/2)
			continue
		}
		for _, e := range part {
			out = append(out, e)
			if size += len(e.Key) + len(e.Value); size >= maxBytes || len(out) == maxLeaves {
				return out, nil
			}
		}
		if len(part) < batch {
			return out, nil
		}
		g.places = g.places[len(part):]
		batch = min((maxBytes-size)/(size/len(out)+1)+1, maxLeaves-len(out))
	}
}

// gather collects where the first leaves of a range are. It opens nodes together,
// so that the disk is read in its order: those among so many places in front.
type gather struct {
	t      *Tree
	r      *Range
	ahead  int
	places []place // all of the range, in the order of positions
}

// place is a leaf, or a node that is not opened yet.
type place struct {
	leaf  *leafSlot
	kid   *kidSlot
	depth int
	path  crypto.Digest
}

// first returns the first n leaves, or all if there are not so many.
func (g *gather) first(n int) ([]leafSlot, error) {
	for {
		front := g.places[:min(n, len(g.places))]
		if !slices.ContainsFunc(front, func(p place) bool { return p.kid != nil }) {
			slots := make([]leafSlot, len(front))
			for i := range front {
				slots[i] = *front[i].leaf
			}
			return slots, nil
		}
		if err := g.open(g.places[:min(g.ahead, len(g.places))]); err != nil {
			return nil, err
		}
	}
}

// open puts in the place of each node in front what is under it.
func (g *gather) open(front []place) error {
	nodes := make([]*node, len(front))
	var read []int
	for i := range front {
		if kid := front[i].kid; kid != nil {
			if kid.node == 0 {
				read = append(read, i)
				continue
			}
			n := g.t.arena.node(kid.node, uint64(kid.version))
			nodes[i] = &n
		}
	}
	slices.SortFunc(read, func(a, b int) int { // as their records are
		return cmp.Or(cmp.Compare(front[a].kid.version, front[b].kid.version), front[a].depth-front[b].depth, a-b)
	})
	keys := make([][]byte, len(read))
	for k, i := range read {
		keys[k] = appendNodeKey(nil, uint64(front[i].kid.version), front[i].depth, &front[i].path)
	}
	if err := g.t.readMany(keys, func(k int, record []byte) (err error) {
		nodes[read[k]], err = decodeNode(record, uint64(front[read[k]].kid.version), front[read[k]].depth)
		return err
	}); err != nil {
		return err
	}
	places := make([]place, 0, len(g.places)+4*len(front))
	for i := range front {
		if nodes[i] == nil {
			places = append(places, front[i])
		} else {
			places = g.under(places, nodes[i], &front[i])
		}
	}
	g.places = append(places, g.places[len(front):]...)
	return nil
}

// under appends what a node has in the range.
func (g *gather) under(places []place, n *node, at *place) []place {
	if n.page() {
		for i := range n.places {
			if leaf := n.leafAt(i); g.r.Contains(leaf.position) {
				places = append(places, place{leaf: &leaf})
			}
		}
		return places
	}
	for i := range fanout {
		if leaf := n.leaf(i); leaf != nil && g.r.Contains(leaf.position) {
			places = append(places, place{leaf: leaf})
		}
		if kid := n.kid(i); kid != nil {
			path := childPath(&at.path, at.depth, i)
			if g.r.relate(&path, 4*(at.depth+1)) != outside {
				places = append(places, place{kid: kid, depth: at.depth + 1, path: path})
			}
		}
	}
	return places
}

// entries returns the leaves of some slots in their order; or nil if there are
// several and they take more than a number of bytes, and about how many each takes.
func (t *Tree) entries(slots []leafSlot, bytes int) (out []Entry, each int, err error) {
	out = make([]Entry, len(slots))
	var order []int // of those on the disk, by the names of their records
	for i := range slots {
		at := t.layerOf(slots[i].version)
		if at < 0 {
			order = append(order, i)
			continue
		}
		if out[i], err = t.entryOf(t.layers[at], &slots[i].position); err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(slots[a].version, slots[b].version), a-b) })
	keys := make([][]byte, len(order))
	for k, i := range order {
		keys[k] = appendNodeKey(make([]byte, 0, leafKeyBytes), slots[i].version, leafDepth, &slots[i].position)
	}
	read := 0
	err = t.readMany(keys, func(k int, record []byte) error {
		if read += len(record); read > bytes && len(slots) > 1 {
			each = read/(k+1) + 1
			return errTooLarge
		}
		i := order[k]
		key, value, err := decodeLeaf(append([]byte(nil), record...))
		out[i] = Entry{Position: slots[i].position, Key: key, Value: value}
		return err
	})
	if errors.Is(err, errTooLarge) {
		return nil, each, nil
	}
	return out, each, err
}

var errTooLarge = errors.New("state: more than asked for")

// readMany hands out records that are there, by ascending keys.
func (t *Tree) readMany(keys [][]byte, take func(i int, record []byte) error) error {
	if len(keys) == 0 {
		return nil
	}
	checked := func(i int, record []byte) error {
		if record == nil {
			return fmt.Errorf("%w: %x", errMissing, keys[i])
		}
		if err := take(i, record); err != nil {
			return fmt.Errorf("%w: %x", err, keys[i])
		}
		return nil
	}
	if many, ok := t.reader.(ManyReader); ok {
		return many.ReadNodes(keys, checked)
	}
	var record []byte
	for i, key := range keys {
		var ok bool
		var err error
		if record, ok, err = t.reader.AppendNode(record[:0], key); err != nil {
			return fmt.Errorf("state: reading node %x: %w", key, err)
		}
		found := record
		if !ok {
			found = nil
		}
		if err := checked(i, found); err != nil {
			return err
		}
	}
	return nil
}
