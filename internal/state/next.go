package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// update is what a version does to one leaf.
type update struct {
	prefix   uint64 // of the position: its first eight bytes, to sort by
	position *crypto.Digest
	leaf     *crypto.Digest // zero: the key is deleted
	change   int32          // index in the version's changes
}

// staleNode names the record of a node that a version superseded, of a depth up
// to 15: such there are many of, so that it takes few bytes and no pointer.
type staleNode struct {
	made uint64
	path uint64 // 15 nibbles from the top, then the depth
}

const staleDepth = 15

func newStaleNode(version uint64, depth int, position *crypto.Digest) staleNode {
	path := binary.BigEndian.Uint64(position[:])
	return staleNode{version, path&^(1<<(64-4*depth)-1) | uint64(depth)}
}

func (s *staleNode) version() uint64 { return s.made }
func (s *staleNode) depth() int      { return int(s.path & 15) }

func (s *staleNode) position() (path crypto.Digest) {
	binary.BigEndian.PutUint64(path[:], s.path&^15)
	return path
}

// staleDeep names the record of a node of any depth.
type staleDeep struct {
	path    crypto.Digest
	version uint64
	depth   int
}

var (
	errVersion = errors.New("state: version does not ascend")
	errOrder   = errors.New("state: changes are not in strictly ascending order of keys")
)

// Next returns the tree's successor: version, which must be higher than the
// tree's own, made of the changes, which must be in strictly ascending order of
// keys (Overlay.Changes gives them so) and are copied. The
// work forks by the first nibble of positions, up to parallelism of them at a
// time. Setting a key to the value it has, or deleting one that is absent,
// changes nothing. An error is a fault of the reader or of the caller.
func (t *Tree) Next(version uint64, changes []Change, parallelism int) (*Tree, error) {
	if version > MaxVersion {
		return nil, fmt.Errorf("%w: %d is beyond the last", errVersion, version)
	}
	if t.started() && version <= t.mark.Version {
		return nil, fmt.Errorf("%w: %d after %d", errVersion, version, t.mark.Version)
	}
	for i := 1; i < len(changes); i++ {
		if bytes.Compare(changes[i-1].Key, changes[i].Key) >= 0 {
			return nil, fmt.Errorf("%w: %x, then %x", errOrder, changes[i-1].Key, changes[i].Key)
		}
	}
	next, err := t.next(version, changes, hashesOf(changes, parallelism), parallelism)
	if err != nil {
		return nil, fmt.Errorf("state: building version %d: %w", version, err)
	}
	return next, nil
}

// tasksEach is into how many tasks for each processor a version is cut: enough that
// none waits long for the last, and few, because each has buffers of its own.
const tasksEach = 4

// next is Next with the changes hashed.
func (t *Tree) next(version uint64, changes []Change, hashed hashes, parallelism int) (*Tree, error) {
	if err := t.hold.use(); err != nil {
		return nil, err
	}
	defer t.hold.done()
	top := t.root()
	groups := hashed.groups()
	var workers [fanout]worker
	var results [fanout]slot
	var faults [fanout]error
	tasks := min(fanout, tasksEach*max(parallelism, 1))
	crypto.ForkJoin(tasks, parallelism, func(task int) {
		p := t.arena.pocket()
		defer t.arena.give(p)
		for i := task; i < fanout; i += tasks {
			if len(groups[i]) == 0 {
				continue
			}
			sortUpdates(groups[i])
			w := &workers[i]
			w.begin(t, version, p, len(groups[i]))
			w.all = groups[i]
			w.fetch(top, i, groups[i])
			results[i], faults[i] = w.below(top, i, 0, groups[i])
			p.sealer.endPages()
			if faults[i] == nil {
				if results[i].kind == isKid {
					w.home(1, &results[i].kid.hash)
				}
				w.hash(&p.sealer)
			}
		}
	})
	p := t.arena.pocket()
	defer t.arena.give(p)
	if err := errors.Join(faults[:]...); err != nil {
		for i := range workers {
			workers[i].giveUp(p)
		}
		return nil, err
	}
	l, all := collect(workers[:], changes)
	all.begin(t, version, p, 0)
	if t.started() {
		all.supersede(&t.top, top, 0, &crypto.Digest{})
		l.staleNodes = append(l.staleNodes, all.staleNodes...)
	}
	var made []change
	for i := range results {
		if results[i].kind != isSame {
			made = append(made, change{i, results[i]})
		}
	}
	at, next := all.replace(top, made, 0)
	l.mark = Mark{Version: version, Root: next.seal()}
	all.count(&next)
	return &Tree{
		reader:    t.reader,
		arena:     t.arena,
		hold:      newHold(t.arena, version, at, t.hold, all.dead),
		mark:      l.mark,
		top:       kidSlot{hash: l.mark.Root, version: stamp(version), node: at},
		memory:    t.memory.after(version, all.written, all.grown),
		positions: t.positions,
		durable:   t.durable,
		isDurable: t.isDurable,
		layers:    append(t.layers[:len(t.layers):len(t.layers)], l),
	}, nil
}

// collect puts together what the workers did, but for the root node, and adds
// up what they counted.
func collect(workers []worker, changes []Change) (l *layer, all worker) {
	entries, nodes, dead := 0, 1, 1
	for i := range workers {
		dead += len(workers[i].dead)
		entries += len(workers[i].changes)
		nodes += len(workers[i].staleNodes)
	}
	l = &layer{
		changes:     NewChangeList(changes),
		written:     make([]int32, 0, entries),
		staleNodes:  make([]staleNode, 0, nodes),
		staleLeaves: make([]uint64, 0, entries),
	}
	all.dead = make([]block, 0, dead)
	for i := range workers {
		w := &workers[i]
		l.written = append(l.written, w.changes...)
		l.staleNodes = append(l.staleNodes, w.staleNodes...)
		l.staleLeaves = append(l.staleLeaves, w.staleLeaves...)
		l.staleDeep = append(l.staleDeep, w.staleDeep...)
		all.dead = append(all.dead, w.dead...)
		all.written += w.written
		all.grown += w.grown
	}
	return l, all
}

// hashes is where changes are in the tree, and what digests their leaves have:
// zero if the key is deleted.
type hashes struct{ positions, leaves []crypto.Digest }

func hashesOf(changes []Change, parallelism int) hashes {
	h := hashes{make([]crypto.Digest, len(changes)), make([]crypto.Digest, len(changes))}
	crypto.ForkJoin((len(changes)+hashChunk-1)/hashChunk, parallelism, func(c int) {
		from, to := c*hashChunk, min((c+1)*hashChunk, len(changes))
		hashChanges(changes[from:to], h.positions[from:to], h.leaves[from:to])
	})
	return h
}

// groups returns the updates by their first nibble. The order in a group is that
// of keys.
func (h hashes) groups() [fanout][]update {
	positions, leaves := h.positions, h.leaves
	var ends [fanout]int
	for i := range positions {
		ends[nibble(&positions[i], 0)]++
	}
	var groups [fanout][]update
	store := make([]update, len(positions))
	for i, size := range ends {
		groups[i], store = store[:0:size], store[size:]
	}
	for i := range positions {
		g := &groups[nibble(&positions[i], 0)]
		*g = append(*g, update{binary.BigEndian.Uint64(positions[i][:]), &positions[i], &leaves[i], int32(i)})
	}
	return groups
}

// hashChunk is how many changes are hashed together.
const hashChunk = 64

// hashChanges computes the positions of changes, and the digests of their leaves,
// which are zero so far.
func hashChanges(changes []Change, positions, leaves []crypto.Digest) {
	var in [hashChunk][]byte
	var hashed [hashChunk]crypto.Digest
	var joins [hashChunk]crypto.Join
	for i := range changes {
		in[i] = changes[i].Key
	}
	crypto.DomainStateKey.HashMany(positions, in[:len(changes)])
	set := 0
	for i := range changes {
		if !changes[i].Deleted {
			in[set], joins[set] = changes[i].Value, crypto.Join{Left: &positions[i], Right: &hashed[set], To: &leaves[i]}
			set++
		}
	}
	crypto.DomainStateValue.HashMany(hashed[:set], in[:set])
	crypto.DomainStateLeaf.HashJoins(joins[:set])
}

func sortUpdates(group []update) {
	slices.SortFunc(group, func(a, b update) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return a.position.Compare(*b.position)
	})
}

// slot is what became of a child.
type slot struct {
	kind kind
	leaf leafSlot
	kid  kidSlot
}

type kind uint8

const (
	isSame kind = iota // what it was
	isEmpty
	isLeaf
	isKid
)

// change is what became of a node's child.
type change struct {
	at int
	slot
}

// worker builds the part of a version under one first nibble.
type worker struct {
	loader  loader
	pocket  *pocket
	version uint64
	kept    uint64 // nodes of earlier versions need not stay in memory

	// The leaves that change, as in layer.
	changes     []int32
	staleLeaves []uint64

	staleNodes []staleNode
	staleDeep  []staleDeep
	dead       []block            // what was in memory of what the version replaced
	made       [][]making         // by depth, in ascending order of paths
	homes      [][]*crypto.Digest // of each of these, where its digest goes: in the node above it
	digests    []crypto.Digest    // room for those of pages until they go there
	all        []update           // of the worker
	done       int                // of these
	stack      []change
	leaves     []leafSlot // room for those of a page that is rewritten
	items      []leafSlot // room for what it becomes
	deleted    int        // leaves that are gone
	written    int        // bytes of nodes made
	grown      int        // by how many bytes there are more in memory
	seen       byte
}

// begin makes the worker one of a tree's next version, and makes room for what so many
// updates usually come to.
func (w *worker) begin(t *Tree, version uint64, p *pocket, updates int) {
	w.loader, w.pocket, w.version, w.kept = t.loader(), p, version, t.kept()
	if updates == 0 {
		return
	}
	w.changes = make([]int32, 0, updates)
	w.staleNodes, w.staleLeaves = make([]staleNode, 0, 3*updates), make([]uint64, 0, updates)
	w.dead = make([]block, 0, 3*updates)
}

// giveUp takes back what the worker made.
func (w *worker) giveUp(p *pocket) {
	for _, nodes := range w.made {
		for i := range nodes {
			p.discard(nodes[i].at, w.version)
		}
	}
}

// count counts a node that was made.
func (w *worker) count(made *node) {
	size := made.size()
	w.written += size
	w.grown += size
}

// supersede notes that a version makes a node's record stale, and the node, if it is in
// memory.
func (w *worker) supersede(at *kidSlot, n *node, depth int, position *crypto.Digest) {
	if at.node != 0 {
		w.grown -= n.size()
		w.dead = append(w.dead, block{at.node, uint64(at.version)})
	}
	if depth <= staleDepth {
		w.staleNodes = append(w.staleNodes, newStaleNode(uint64(at.version), depth, position))
		return
	}
	w.staleDeep = append(w.staleDeep, staleDeep{*position, uint64(at.version), depth})
}

// losePlaces notes that a version does without the places of a page, if that is in
// memory.
func (w *worker) losePlaces(at *kidSlot, n *node) {
	if at.node != 0 {
		w.dead = append(w.dead, block{n.head.places, w.loader.arena.placesBorn(n)})
	}
}

// below returns what the i-th child of a node at some depth becomes under
// updates, sorted by position and all under the child.
func (w *worker) below(above *node, i, depth int, ups []update) (slot, error) {
	at := above.kid(i)
	if at == nil {
		w.pass(len(ups))
		return w.fill(above.leaf(i), depth+1, ups), nil
	}
	depth++
	var old node
	if err := w.loader.load(&old, at, depth, ups[0].position); err != nil {
		return slot{}, err
	}
	if old.page() {
		w.pass(len(ups))
		return w.page(at, &old, depth, ups), nil
	}
	base, deleted := len(w.stack), w.deleted
	for rest := ups; len(rest) > 0; {
		var group []update
		i := nibble(rest[0].position, depth)
		group, rest = splitNibble(rest, depth)
		made, err := w.below(&old, i, depth, group)
		if err != nil {
			return slot{}, err
		}
		if made.kind != isSame {
			w.stack = append(w.stack, change{i, made})
		}
	}
	made := w.stack[base:]
	w.stack = w.stack[:base]
	if len(made) == 0 {
		return slot{}, nil
	}
	w.supersede(at, &old, depth, ups[0].position)
	r, n := w.replace(&old, made, depth)
	if w.deleted != deleted {
		leaves, small, err := w.gather(&n, depth, ups[0].position)
		if err != nil || small {
			w.pocket.discard(r, w.version)
			return w.build(leaves, depth), err
		}
	}
	return w.finish(r, &n, depth), nil
}

// pass says that so many more updates are made now.
func (w *worker) pass(updates int) {
	w.done += updates
	w.ask(w.all, w.done)
}

// page is below for a child that is a page.
func (w *worker) page(at *kidSlot, old *node, depth int, ups []update) slot {
	made, ok := w.revalue(at, old, depth, ups)
	if !ok {
		w.leaves = old.appendLeaves(w.leaves[:0])
		if made = w.rewrite(w.leaves, depth, ups); made.kind != isSame {
			w.losePlaces(at, old)
		}
	}
	if made.kind != isSame {
		w.supersede(at, old, depth, ups[0].position)
	}
	return made
}

// splitNibble cuts off the updates that share the first one's nibble at depth.
func splitNibble(ups []update, depth int) (group, rest []update) {
	i, n := nibble(ups[0].position, depth), 1
	for n < len(ups) && nibble(ups[n].position, depth) == i {
		n++
	}
	return ups[:n], ups[n:]
}

// replace returns a copy of old, a node at some depth, with the changed slots replaced;
// the changes ascend. In the copy, nodes that need not stay in memory are left to the disk.
func (w *worker) replace(old *node, changes []change, depth int) (ref, node) {
	used, leaves, known := old.used, old.leaves, old.known
	var touched uint16 // slots
	for k := range changes {
		c := &changes[k]
		bit := uint16(1) << c.at
		touched |= bit
		used &^= bit
		leaves &^= bit
		known &^= 1 << (c.at / 4)
		switch c.kind {
		case isLeaf:
			used |= bit
			leaves |= bit
		case isKid:
			used |= bit
		case isEmpty, isSame:
		}
	}
	r, n := w.pocket.newNode(w.version, used, leaves)
	if n.quarters != nil && old.quarters != nil {
		*n.quarters, n.known = *old.quarters, known
	}
	pick(n.leafs, leaves, old.leaves, touched, old.leafs)
	pick(n.kids, used&^leaves, old.used&^old.leaves, touched, old.kids)
	for k := range changes {
		c := &changes[k]
		switch c.kind {
		case isLeaf:
			n.leafs[rank(leaves, c.at)] = c.leaf
		case isKid:
			kid := &n.kids[rank(used&^leaves, c.at)]
			*kid = c.kid
			w.home(depth+1, &kid.hash)
		case isEmpty, isSame:
		}
	}
	if w.kept > 0 {
		w.evict(&n)
	}
	return r, n
}

// pick sets the slots of out, of which those that are not touched are the old
// ones and the others are to be set.
func pick[S leafSlot | kidSlot](out []S, now, before, touched uint16, old []S) {
	if now == before {
		copy(out, old)
		return
	}
	for rest := now &^ touched; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros16(rest)
		out[rank(now, i)] = old[rank(before, i)]
	}
}

// evict leaves those of a node's nodes to the disk that need not stay in memory.
func (w *worker) evict(n *node) {
	for i := range n.kids {
		if kid := &n.kids[i]; kid.node != 0 && uint64(kid.version) < w.kept {
			w.lose(kid)
			kid.node = 0
		}
	}
}

// lose notes that a version does without what a node has in memory, itself included.
func (w *worker) lose(at *kidSlot) {
	if at.node == 0 {
		return
	}
	n := w.loader.arena.node(at.node, uint64(at.version))
	w.grown -= n.size()
	w.dead = append(w.dead, block{at.node, uint64(at.version)})
	if n.page() {
		w.losePlaces(at, &n)
	}
	for i := range n.kids {
		w.lose(&n.kids[i])
	}
}

// fewKids is up to how many nodes a node has below it when it is looked whether all
// their leaves fit into a page: of one that has more, nothing is read for that.
const fewKids = 4

// gather returns the leaves below a new node at some depth if they are so few that
// a page holds them, and takes back what else stood for them.
func (w *worker) gather(n *node, depth int, position *crypto.Digest) (leaves []leafSlot, small bool, err error) {
	if len(n.kids) > fewKids {
		return nil, false, nil
	}
	var kids [fanout]node
	count := len(n.leafs)
	for i := range n.kids { // in memory first: a node below ends it
		if kid := &n.kids[i]; kid.node != 0 {
			if kids[i] = w.loader.arena.node(kid.node, uint64(kid.version)); !kids[i].page() {
				return nil, false, nil
			}
			count += len(kids[i].places)
		}
	}
	var paths [fanout]crypto.Digest
	k := 0
	for rest := n.used &^ n.leaves; rest != 0 && count <= pageLeaves; rest &= rest - 1 {
		paths[k] = pathOf(position, depth, bits.TrailingZeros16(rest))
		if kids[k].head == nil {
			if err = w.loader.load(&kids[k], &n.kids[k], depth+1, &paths[k]); err != nil || !kids[k].page() {
				return nil, false, err
			}
			count += len(kids[k].places)
		}
		k++
	}
	if count > pageLeaves {
		return nil, false, nil
	}
	leaf, k := 0, 0
	for rest := n.used; rest != 0; rest &= rest - 1 {
		if n.leaves&rest&-rest != 0 {
			leaves = append(leaves, n.leafs[leaf])
			leaf++
			continue
		}
		leaves = kids[k].appendLeaves(leaves)
		w.dissolve(&n.kids[k], &kids[k], depth+1, &paths[k])
		k++
	}
	return leaves, true, nil
}

// dissolve takes back a page at some depth whose leaves go elsewhere: the last one made
// there, or one of an earlier version.
func (w *worker) dissolve(at *kidSlot, n *node, depth int, position *crypto.Digest) {
	if uint64(at.version) != w.version {
		w.losePlaces(at, n)
		w.supersede(at, n, depth, position)
		return
	}
	w.pocket.sealer.endPages() // the page may be in work, and its memory is going to be another's
	w.written, w.grown = w.written-n.size(), w.grown-n.size()
	w.made[depth] = w.made[depth][:len(w.made[depth])-1]
	w.homes[depth] = w.homes[depth][:len(w.homes[depth])-1]
	if w.loader.arena.placesBorn(n) != w.version {
		w.losePlaces(at, n)
	}
	w.pocket.discard(at.node, w.version)
}

// pathOf returns the path of the i-th child of the node at a depth of the way to a
// position.
func pathOf(position *crypto.Digest, depth, i int) (path crypto.Digest) {
	copy(path[:], position[:depth/2])
	if depth%2 == 1 {
		path[depth/2] = position[depth/2] & 0xf0
	}
	return childPath(&path, depth, i)
}

// fill is below for a child that is empty or a leaf.
func (w *worker) fill(at *leafSlot, depth int, ups []update) slot {
	if u := &ups[0]; len(ups) == 1 && (at == nil || at.position == *u.position) {
		switch {
		case at == nil && u.leaf.IsZero(), at != nil && at.hash == *u.leaf:
			return slot{}
		case u.leaf.IsZero():
			w.note(u, at)
			return slot{kind: isEmpty}
		}
		return slot{kind: isLeaf, leaf: w.note(u, at)}
	}
	var before []leafSlot
	if at != nil {
		before = []leafSlot{*at}
	}
	return w.rewrite(before, depth, ups)
}

// revalue returns a page at some depth with updates made to it that bring no leaf
// and take none, or false if there is another. Such are most.
func (w *worker) revalue(at *kidSlot, old *node, depth int, ups []update) (slot, bool) {
	var places [pageLeaves]uint8
	if len(ups) > len(old.places) {
		return slot{}, false
	}
	same := true
	for i := range ups {
		u := &ups[i]
		at := old.seek(u, depth)
		if at < 0 || u.leaf.IsZero() {
			return slot{}, false
		}
		places[i] = uint8(at)
		same = same && old.digests[at] == *u.leaf
	}
	if same {
		return slot{}, true
	}
	r, n := w.repage(at, old)
	copy(n.versions, old.versions)
	copy(n.digests, old.digests)
	for i := range ups {
		u := &ups[i]
		at := places[i]
		if n.digests[at] == *u.leaf {
			continue
		}
		w.noteAt(u, uint64(n.versions[at]))
		n.digests[at], n.versions[at] = *u.leaf, stamp(w.version)
		n.known &^= 1 << pageQuarter(u.position, depth)
	}
	return w.finishPage(r, &n, depth), true
}

// repage returns a page with the places of another, and all else to be set.
func (w *worker) repage(at *kidSlot, old *node) (ref, node) {
	if at.node != 0 {
		return w.pocket.newValues(w.version, old)
	}
	r, n := w.pocket.newPage(w.version, len(old.places))
	copy(n.places, old.places)
	n.known, n.ends = old.known, old.ends
	return r, n
}

// seek returns which leaf of a page at some depth is at the position of an update,
// and −1 if none is. Positions are spread evenly: it begins to look where such a one
// should be.
func (n *node) seek(u *update, depth int) int {
	at := len(n.places) / 2
	if depth < 2*8 {
		below, _ := bits.Mul64(u.prefix<<(4*depth), uint64(len(n.places)))
		at = int(below)
	}
	for at > 0 && binary.BigEndian.Uint64(n.places[at][:]) >= u.prefix {
		at--
	}
	for at < len(n.places) && binary.BigEndian.Uint64(n.places[at][:]) < u.prefix {
		at++
	}
	for at < len(n.places) && n.places[at].Compare(*u.position) < 0 {
		at++
	}
	if at == len(n.places) || n.places[at] != *u.position {
		return -1
	}
	return at
}

// rewrite returns the subtree at some depth of leaves in ascending order of
// positions with updates made to them.
func (w *worker) rewrite(leaves []leafSlot, depth int, ups []update) slot {
	items, rest, changed := w.items[:0], leaves, false
	for i := range ups {
		u := &ups[i]
		n := 0
		for n < len(rest) && rest[n].position.Compare(*u.position) < 0 {
			n++
		}
		items, rest = append(items, rest[:n]...), rest[n:]
		var before *leafSlot
		if len(rest) > 0 && rest[0].position == *u.position {
			before, rest = &rest[0], rest[1:]
		}
		switch {
		case before != nil && *u.leaf == before.hash:
			items = append(items, *before)
			continue
		case before == nil && u.leaf.IsZero():
			continue
		}
		changed = true
		if made := w.note(u, before); !u.leaf.IsZero() {
			items = append(items, made)
		}
	}
	w.items = append(items, rest...)
	if !changed {
		return slot{}
	}
	return w.build(w.items, depth)
}

// note notes what becomes of a leaf, and returns its slot if it is there.
func (w *worker) note(u *update, before *leafSlot) leafSlot {
	stale := uint64(math.MaxUint64)
	if before != nil {
		stale = before.version
	}
	w.noteAt(u, stale)
	return leafSlot{hash: *u.leaf, position: *u.position, version: w.version}
}

// noteAt notes what becomes of a leaf whose record is of a version, MaxUint64 if there
// is none.
func (w *worker) noteAt(u *update, stale uint64) {
	if u.leaf.IsZero() {
		w.deleted++
	}
	w.changes = append(w.changes, u.change)
	w.staleLeaves = append(w.staleLeaves, stale)
}

// build returns the subtree at some depth of leaves in ascending order of
// positions.
func (w *worker) build(leaves []leafSlot, depth int) slot {
	switch {
	case len(leaves) == 0:
		return slot{kind: isEmpty}
	case len(leaves) == 1:
		return slot{kind: isLeaf, leaf: leaves[0]}
	case depth == leafDepth:
		panic("state: two keys have one position: Blake3 is broken")
	case len(leaves) <= pageLeaves:
		r, n := w.pocket.newPage(w.version, len(leaves))
		n.setLeaves(leaves, depth)
		return w.finishPage(r, &n, depth)
	}
	base := len(w.stack)
	for len(leaves) > 0 {
		var group []leafSlot
		i := nibble(&leaves[0].position, depth)
		group, leaves = splitLeaves(leaves, depth)
		w.stack = append(w.stack, change{i, w.build(group, depth+1)})
	}
	made := w.stack[base:]
	w.stack = w.stack[:base]
	r, n := w.replace(&node{head: &head{}}, made, depth)
	return w.finish(r, &n, depth)
}
