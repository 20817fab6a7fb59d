package state

import (
	"errors"
	"runtime"
	"slices"
)

// ErrReleased says that nobody holds the version any more, so that its nodes are gone.
var ErrReleased = errors.New("state: version was released")

// version is the lifetime of what one version has in an arena. Versions make a tree of
// their own: each is made of its parent, of which it says what it replaced. A block
// that version b made and version d replaced is needed by those of the line from b up
// to before d, and when none of them is left, it is of use again. What is said here of
// versions is the arena's to lock.
type version struct {
	arena  *Arena
	number uint64
	top    ref
	parent *version
	kids   []*version
	dead   []block // of those before it, which it does without

	owned bool // Release was not called
	uses  int
}

// block is a block with the version that made it.
type block struct {
	at   ref
	born uint64
}

// hold is what trees of a version have in common. If nobody has one any more, the
// version is released.
type hold struct{ v *version }

// newHold returns a hold of a new version made of its parent, nil if of none.
func newHold(a *Arena, number uint64, top ref, parent *hold, dead []block) *hold {
	v := &version{arena: a, number: number, top: top, dead: dead, owned: true}
	a.mu.Lock()
	defer a.mu.Unlock()
	if parent != nil {
		v.parent = parent.v
		v.parent.kids = append(v.parent.kids, v)
	}
	h := &hold{v}
	runtime.AddCleanup(h, (*version).forget, v)
	return h
}

// forget releases a version that nobody can ask for any more.
func (v *version) forget() {
	v.arena.mu.Lock()
	defer v.arena.mu.Unlock()
	if v.owned || v.uses > 0 {
		v.owned, v.uses = false, 0
		v.settle()
	}
}

// use makes the version stay until done. It is ErrReleased if it did not.
func (h *hold) use() error {
	if h == nil {
		return nil
	}
	h.v.arena.mu.Lock()
	defer h.v.arena.mu.Unlock()
	if !h.v.owned && h.v.uses == 0 {
		return ErrReleased
	}
	h.v.uses++
	return nil
}

func (h *hold) done() {
	if h == nil {
		return
	}
	h.v.arena.mu.Lock()
	defer h.v.arena.mu.Unlock()
	if h.v.uses--; h.v.uses < 0 {
		panic("state: a version is done with more often than used")
	}
	h.v.settle()
}

// settle gives back what nobody needs once a version may not be needed.
func (v *version) settle() {
	for v != nil && !v.owned && v.uses == 0 {
		switch len(v.kids) {
		case 0:
			v.freeOwn()
			up := v.parent
			if v.parent = nil; up != nil {
				at := slices.Index(up.kids, v)
				up.kids = slices.Delete(up.kids, at, at+1)
			}
			v = up
		case 1:
			v.join(v.kids[0])
			return
		default:
			return
		}
	}
}

// freeOwn gives back what only this version needs, which has no other made of it: all
// that is newer than its parent.
func (v *version) freeOwn() {
	v.freeBelow(v.top, v.number)
	v.dead = nil
}

// since reports whether a block is newer than what the version was made of.
func (v *version) since(born uint64) bool { return v.parent == nil || born > v.parent.number }

func (v *version) freeBelow(r ref, born uint64) {
	if r == 0 || !v.since(born) {
		return
	}
	n := v.arena.node(r, born)
	for i := range n.kids {
		v.freeBelow(n.kids[i].node, uint64(n.kids[i].version))
	}
	if n.page() && v.since(v.arena.placesBorn(&n)) {
		v.arena.release(n.head.places)
	}
	v.arena.release(r)
}

// join makes the only version that is made of this one a child of its parent: nobody
// asks for what lies between.
func (v *version) join(kid *version) {
	kept := v.dead // older than this version, and needed before it
	for i, d := range kid.dead {
		if i%fetchAhead == 0 {
			v.arena.fetch(kid.dead[i:min(i+fetchAhead, len(kid.dead))])
		}
		if v.since(d.born) {
			v.arena.release(d.at)
		} else {
			kept = append(kept, d)
		}
	}
	kid.dead, kid.parent = kept, v.parent
	if v.parent != nil {
		v.parent.kids[slices.Index(v.parent.kids, v)] = kid
	}
	v.parent, v.kids, v.dead = nil, nil, nil
}

// Release says that the tree, and others of its version, are of no use any more: what
// they alone need of memory is of use again. Reads that are under way end as they
// began; others are ErrReleased. What was made of the tree stays as it is. A
// tree that nobody has any more is released as well, but later.
func (t *Tree) Release() {
	if t.hold == nil {
		return
	}
	a := t.hold.v.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := t.hold.v; v.owned {
		v.owned = false
		v.settle()
	}
}

// Keep keeps the tree from being released until done is called, once. It is
// ErrReleased if it was.
func (t *Tree) Keep() (done func(), err error) {
	if err := t.hold.use(); err != nil {
		return nil, err
	}
	return t.hold.done, nil
}
