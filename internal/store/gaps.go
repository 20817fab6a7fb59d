package store

import (
	"slices"
	"sort"
	"sync"

	"github.com/hypermesh/hypermesh/internal/state"
)

const (
	// markApart is of how many removed keys that a walk passed one is marked, and how many it
	// passes at least before a range is remembered for them, or for fewer that took the tables twice as many steps.
	markApart = 16
	// mostMarks bounds the marks of all gaps: more than twice those of what may wait for a flush, which
	// is passed twice where the database has it too, since walks that go beyond the bound
	// pass again what is forgotten, each of them. As many of keys of fifty bytes take some 20 MB.
	mostMarks = 1 << 18
	// mostGaps bounds their number: each that comes or goes moves those behind it. What is forgotten
	// beyond it are the smallest, of a mark or two, which whoever walks pays for with the pair between.
	mostGaps = 1 << 14
	// gapMarks is the most marks of one gap; a longer one becomes several.
	gapMarks = 1 << 10
	// keptFlushes is after how many flushes a gap is forgotten: the database has merged away
	// what was removed before, or is going to be asked once more.
	keptFlushes = 8
	// recentBlocks is how much older than the latest block a snapshot may be for what it meets
	// to be remembered.
	recentBlocks = 4
)

// gaps remembers where the state has no key, though who walks there would pass many that were
// removed: they stay in the changes that wait for a flush, and in the database until it merges
// them away. Each is passed once; then walks jump. It is a memory and nothing else: gone with the
// process, and a walk yields the same without it.
//
// Invariants:
//
//  1. In no state after a block from a gap's since on up to height is there a key in it.
//  2. Gaps ascend, and no two overlap. A gap in the list never changes; another takes its place.
type gaps struct {
	mu      sync.RWMutex
	list    []*gap
	marks   int                        // of all
	height  uint64                     // of the latest block
	recent  [recentBlocks]pendingBlock // the last ones, each at its height modulo
	flushes uint64
	limits  gapLimits
}

// gapLimits are mostMarks, mostGaps, gapMarks and markApart, but in tests.
type gapLimits struct{ most, gaps, each, apart int }

// gap is the range start ≤ key < end. Where in it removed keys are, and how many, is known by the
// marks: what is cut off keeps those within it, so that nobody can have a gap counted as
// smaller or larger than it is by setting keys in it.
type gap struct {
	start, end string
	since      uint64   // height
	learnt     uint64   // after how many flushes
	marks      []string // one in so many of the removed keys, ascending
}

func newGaps() *gaps {
	return &gaps{limits: gapLimits{most: mostMarks, gaps: mostGaps, each: gapMarks, apart: markApart}}
}

// next returns the first gap of a state that has keys at or after from, below end (nil: all are), and
// nil if there is none.
func (g *gaps) next(from, end []byte, height uint64) *gap {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for i := g.behind(from); i < len(g.list); i++ {
		switch x := g.list[i]; {
		case end != nil && x.start >= string(end):
			return nil
		case x.since <= height:
			return x
		}
	}
	return nil
}

// behind returns the index of the first gap that ends after a key.
func (g *gaps) behind(key []byte) int {
	return sort.Search(len(g.list), func(i int) bool { return g.list[i].end > string(key) })
}

// learn remembers that the state after a block has no key in a range, in which a walk passed
// the marks. Without any, the range is of use only beside a gap, which it makes longer.
func (g *gaps) learn(start, end string, marks []string, height uint64) {
	if start >= end {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if height+recentBlocks < g.height {
		return
	}
	empty := []*gap{{start: start, end: end, since: height, learnt: g.flushes, marks: marks}}
	for h := height + 1; h <= g.height; h++ { // what came after the state that was read
		b := &g.recent[h%recentBlocks]
		if b.height != h {
			return
		}
		var still []*gap
		for _, x := range empty {
			pieces, _ := x.without(b.changes, 0)
			still = append(still, pieces...)
		}
		empty = still
	}
	for _, x := range empty {
		g.add(x)
	}
	g.shrink()
}

// add puts a gap into the list, as one with those that it touches.
func (g *gaps) add(x *gap) {
	first := sort.Search(len(g.list), func(i int) bool { return g.list[i].end >= x.start })
	last := first
	union := *x
	union.marks = slices.Clone(x.marks)
	for ; last < len(g.list) && g.list[last].start <= x.end; last++ {
		near := g.list[last]
		union.start, union.end = min(union.start, near.start), max(union.end, near.end)
		union.since, union.learnt = max(union.since, near.since), min(union.learnt, near.learnt)
		union.marks = append(union.marks, near.marks...)
		g.marks -= len(near.marks)
	}
	slices.Sort(union.marks)
	union.marks = slices.Compact(union.marks)
	var parts []*gap
	if len(union.marks) > 0 {
		parts = union.parts(g.limits.each)
		g.marks += len(union.marks)
	}
	g.list = slices.Replace(g.list, first, last, parts...)
}

// parts cuts a gap at its marks, into such as have no more of them than that. Each has marks of its own: what
// is forgotten of the whole takes no memory, whatever is kept.
func (x *gap) parts(most int) (parts []*gap) {
	rest := *x
	for len(rest.marks) > most {
		part, at := rest, rest.marks[most/2]
		part.end, part.marks = at, slices.Clone(rest.marks[:most/2])
		parts = append(parts, &part)
		rest.start, rest.marks = at, rest.marks[most/2:]
	}
	rest.marks = slices.Clone(rest.marks)
	return append(parts, &rest)
}

// shrink forgets the gaps with the fewest marks, if there are more of either than there may be, until
// an eighth is free.
func (g *gaps) shrink() {
	if g.marks <= g.limits.most && len(g.list) <= g.limits.gaps {
		return
	}
	order := slices.Clone(g.list)
	slices.SortStableFunc(order, func(a, b *gap) int { return len(a.marks) - len(b.marks) })
	gone := map[*gap]bool{}
	for _, x := range order {
		if g.marks <= g.limits.most-g.limits.most/8 && len(g.list)-len(gone) <= g.limits.gaps-g.limits.gaps/8 {
			break
		}
		gone[x] = true
		g.marks -= len(x.marks)
	}
	g.list = slices.DeleteFunc(g.list, func(x *gap) bool { return gone[x] })
}

// publish makes the state after a block the latest: what it set is in no gap any more.
func (g *gaps) publish(height uint64, changes state.ChangeList) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.height = height
	g.recent[height%recentBlocks] = pendingBlock{height, changes}
	var out []*gap
	taken := 0 // of the list, that is in out or gone
	for i, at := 0, 0; i < len(g.list); i++ {
		if at = firstFrom(changes, g.list[i].start, at); at == changes.Len() {
			break
		}
		key := changes.Key(at)
		if i = g.behind(key); i == len(g.list) {
			break
		}
		x := g.list[i]
		if string(key) < x.start {
			i-- // this gap again, from its own start on
			continue
		}
		var pieces []*gap
		pieces, at = x.without(changes, at)
		if len(pieces) == 1 && pieces[0] == x {
			continue
		}
		out = append(out, g.list[taken:i]...)
		taken = i + 1
		g.marks -= len(x.marks)
		for _, p := range pieces {
			if len(p.marks) > 0 {
				out = append(out, p)
				g.marks += len(p.marks)
			}
		}
	}
	if taken > 0 {
		g.list = append(out, g.list[taken:]...)
		g.shrink() // one that is cut is several
	}
}

// without returns what is left of a gap between the keys that a block set, itself if there are none: it
// looks at changes from an index on. The other result is the index of the first change behind the gap.
func (x *gap) without(changes state.ChangeList, from int) (pieces []*gap, behind int) {
	rest, cut := *x, false
	at := firstFrom(changes, x.start, from)
	for ; at < changes.Len(); at++ {
		c := changes.At(at)
		if string(c.Key) >= x.end {
			break
		}
		if c.Deleted {
			continue
		}
		cut = true
		if key := string(c.Key); rest.start < key {
			pieces = append(pieces, rest.between(rest.start, key))
		}
		rest.start = string(c.Key) + "\x00"
	}
	if !cut {
		return []*gap{x}, at
	}
	if rest.start < x.end {
		pieces = append(pieces, rest.between(rest.start, x.end))
	}
	return pieces, at
}

// between returns a part of a gap, with marks of its own.
func (x *gap) between(start, end string) *gap {
	part := *x
	part.start, part.end = start, end
	first, _ := slices.BinarySearch(x.marks, start)
	last, _ := slices.BinarySearch(x.marks, end)
	part.marks = slices.Clone(x.marks[first:last])
	return &part
}

// firstFrom returns the index of the first change at or after a key, and not before an index.
func firstFrom(changes state.ChangeList, key string, from int) int {
	return from + sort.Search(changes.Len()-from, func(i int) bool { return string(changes.Key(from+i)) >= key })
}

// flushed forgets the gaps that were remembered some flushes ago.
func (g *gaps) flushed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flushes++
	g.list = slices.DeleteFunc(g.list, func(x *gap) bool {
		if x.learnt+keptFlushes > g.flushes {
			return false
		}
		g.marks -= len(x.marks)
		return true
	})
}
