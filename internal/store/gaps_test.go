package store_test

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// walked is a store and the dumb model of it: what each block left.
type walked struct {
	t interface { // of the testing package, or of rapid
		Helper()
		Fatal(...any)
		Fatalf(string, ...any)
	}
	s    *store.Store
	tree *state.Tree
	past []map[string]string // by height
}

// newWalked is one of a store that flushes each so many blocks.
func newWalked(t testing.TB, interval int) *walked {
	s := must(store.OpenMemory(store.Options{TreeInterval: interval}))(t)
	return &walked{t: t, s: s, tree: s.NewTree()}
}

// commit adds a block; no value: the key goes.
func (w *walked) commit(set map[string]string, gone ...string) {
	w.t.Helper()
	now := map[string]string{}
	if len(w.past) > 0 {
		now = maps.Clone(w.past[len(w.past)-1])
	}
	for _, key := range gone {
		delete(now, key)
	}
	maps.Copy(now, set)
	w.commitAs(now, set, gone...)
}

// commitAs is commit of changes after which the state is so; nil if nobody is going to look.
func (w *walked) commitAs(now, set map[string]string, gone ...string) {
	w.t.Helper()
	kv := state.NewOverlay(state.NewMemoryBackend())
	for _, key := range gone {
		kv.Delete([]byte(key))
	}
	for key, value := range set { // order-free: each by itself
		kv.Set([]byte(key), []byte(value))
	}
	if mark, ok := w.s.TreeMark(); ok {
		w.tree = w.tree.Persisted(mark)
	}
	height := uint64(len(w.past))
	var err error
	w.tree, err = w.tree.Next(height, kv.Changes(), 1)
	check(w.t, err)
	check(w.t, w.s.Commit(store.Finalized{Height: chain.Height(height), Digest: id("block %d", height), Changes: kv.Changes(), Tree: w.tree}))
	w.past = append(w.past, now)
}

// sound checks what the store remembers against every state that it is about.
func (w *walked) sound() {
	w.t.Helper()
	gaps, height := w.s.Gaps()
	if len(w.past) > 0 && height != uint64(len(w.past))-1 {
		w.t.Fatalf("gaps are said to hold up to height %d, the latest is %d", height, len(w.past)-1)
	}
	for i, g := range gaps {
		if g.Start >= g.End || i > 0 && gaps[i-1].End > g.Start || len(g.Marks) == 0 || !slices.IsSorted(g.Marks) ||
			g.Marks[0] < g.Start || g.Marks[len(g.Marks)-1] >= g.End {
			w.t.Fatalf("gap %d of %d is %+v", i, len(gaps), g)
		}
		for h := g.Since; h <= height; h++ {
			for key := range w.past[h] { // order-free: any will do
				if g.Start <= key && key < g.End {
					w.t.Fatalf("%q is in the state of height %d, and in a gap from %q to %q since %d", key, h, g.Start, g.End, g.Since)
				}
			}
		}
	}
}

// between is what an iteration of a model is to yield.
func between(m map[string]string, start string, end []byte) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key >= start && (end == nil || key < string(end)) {
			fmt.Fprintf(&out, "%s=%s ", key, m[key])
		}
	}
	return out.String()
}

// first yields no more than n pairs.
func first(seq iter.Seq2[[]byte, []byte], n int) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		left := n
		for key, value := range seq {
			if left--; left < 0 || !yield(key, value) {
				return
			}
		}
	}
}

// TestWalksAgreeWithAMap: whatever was written, removed and walked over before, flushed in between or
// not, closed and opened again, a walk yields what the state of its height has, and so does one through an
// overlay. What the store remembers is true of every state that it is about. It remembers little here, and of
// few removed keys, so that it forgets, cuts and joins all the time.
func TestWalksAgreeWithAMap(t *testing.T) {
	met := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newRandomWalks(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step := rapid.SampledFrom([]func(){w.block, w.block, w.fill, w.clear, w.clear, w.hold, w.hold, w.walk, w.walk, w.walk, w.walk, w.reopen})
			step.Draw(t, "step")()
			w.sound()
			if gaps, _ := w.s.Gaps(); len(gaps) > 1 {
				met++
			}
		}
		w.letGo()
		check(t, w.s.Close())
	})
	if met == 0 {
		t.Error("nothing was ever remembered")
	}
}

// randomWalks is a random history: what it does next is drawn.
type randomWalks struct {
	walked
	t    *rapid.T
	open func() *store.Store
	held []heldAt
}

// heldAt is an open snapshot.
type heldAt struct {
	*store.Snapshot
	height int
}

func newRandomWalks(t *rapid.T) *randomWalks {
	disk := vfs.NewMem()
	options := store.Options{TreeInterval: rapid.SampledFrom([]int{1, 5, 40}).Draw(t, "interval")}
	most, all := rapid.IntRange(2, 40).Draw(t, "marks"), rapid.IntRange(2, 20).Draw(t, "gaps")
	each, apart := rapid.IntRange(2, 6).Draw(t, "marks of one"), rapid.IntRange(1, 4).Draw(t, "apart")
	w := &randomWalks{t: t, walked: walked{t: t}, open: func() *store.Store {
		s, err := store.OpenOn(disk, "db", options)
		check(t, err)
		s.LimitGaps(most, all, each, apart)
		return s
	}}
	w.s = w.open()
	w.tree = w.s.NewTree()
	w.commit(nil)
	return w
}

var walkedKeys = rapid.Custom(func(t *rapid.T) string {
	return fmt.Sprintf("%s%02d", rapid.SampledFrom([]string{"ws", "ws", "wt", "x"}).Draw(t, "kind"), rapid.IntRange(0, 40).Draw(t, "number"))
})

func (w *randomWalks) keys(most int, what string) []string {
	return rapid.SliceOfN(walkedKeys, 0, most).Draw(w.t, what)
}

func (w *randomWalks) block() {
	set := map[string]string{}
	for _, key := range w.keys(3, "set") {
		set[key] = fmt.Sprint(len(w.past))
	}
	w.commit(set, w.keys(6, "gone")...)
}

// fill sets all keys of a kind.
func (w *randomWalks) fill() {
	set := map[string]string{}
	for i := range 41 {
		set[fmt.Sprintf("ws%02d", i)] = fmt.Sprint(len(w.past))
	}
	w.commit(set)
}

// clear removes some of them that are beside each other.
func (w *randomWalks) clear() {
	from, to := rapid.IntRange(0, 40).Draw(w.t, "from"), rapid.IntRange(0, 40).Draw(w.t, "to")
	var gone []string
	for i := from; i < to; i++ {
		gone = append(gone, fmt.Sprintf("ws%02d", i))
	}
	w.commit(nil, gone...)
}

func (w *randomWalks) hold() {
	if len(w.held) == 4 {
		w.letGo()
	}
	snapshot, err := w.s.Snapshot()
	check(w.t, err)
	w.held = append(w.held, heldAt{snapshot, len(w.past) - 1})
}

func (w *randomWalks) letGo() {
	for _, h := range w.held {
		check(w.t, h.Close())
	}
	w.held = nil
}

// walk walks through a part of the latest state, or of one that is held, with changes on top or not, to
// the end or not.
func (w *randomWalks) walk() {
	t := w.t
	of, height := w.s.State(), len(w.past)-1
	if n := rapid.IntRange(0, 4).Draw(t, "of"); n < len(w.held) {
		of, height = w.held[n].Snapshot, w.held[n].height
	}
	start, end := walkedKeys.Draw(t, "start"), []byte(walkedKeys.Draw(t, "end"))
	switch rapid.IntRange(0, 3).Draw(t, "bounds") {
	case 0:
		start, end = "ws", []byte("wt")
	case 1:
		end = nil
	case 2:
		start, end = "", nil
	}
	want := w.past[height]
	if rapid.Bool().Draw(t, "changed") {
		o := state.NewOverlay(of)
		want = maps.Clone(want)
		for _, key := range w.keys(6, "changes") {
			if _, there := want[key]; there {
				o.Delete([]byte(key))
				delete(want, key)
			} else {
				o.Set([]byte(key), []byte("own"))
				want[key] = "own"
			}
		}
		of = o
	}
	few := rapid.SampledFrom([]int{1, 3, 1000}).Draw(t, "few")
	all := between(want, start, end)
	wanted := strings.Join(strings.SplitAfter(all, " ")[:min(few, strings.Count(all, " "))], "")
	if got := pairs(first(of.Iterate([]byte(start), end), few)); got != wanted {
		t.Fatalf("height %d, from %q to %q: %q, want %q", height, start, end, got, wanted)
	}
}

// reopen closes the store, and opens it again.
func (w *randomWalks) reopen() {
	w.letGo()
	check(w.t, w.s.Close())
	w.s = w.open()
	if gaps, _ := w.s.Gaps(); len(gaps) > 0 {
		w.t.Fatalf("a store that was opened remembers %+v", gaps)
	}
	var err error
	w.tree, err = w.s.OpenTree(chain.Height(len(w.past) - 1))
	check(w.t, err)
}

func removed(from, to int) (keys []string) {
	for i := from; i < to; i++ {
		keys = append(keys, fmt.Sprintf("ws%06d", i))
	}
	return keys
}

func filled(from, to int) map[string]string {
	m := map[string]string{}
	for _, key := range removed(from, to) {
		m[key] = "v"
	}
	return m
}

// passes is what a walk over the whole range takes in the latest state.
func (w *walked) passes() (pairs, passed, steps int) {
	w.t.Helper()
	snapshot, err := w.s.Snapshot()
	check(w.t, err)
	pairs, passed, steps = snapshot.Passed([]byte("ws"), []byte("wt"))
	check(w.t, snapshot.Close())
	if want := strings.Count(between(w.past[len(w.past)-1], "ws", []byte("wt")), " "); pairs != want {
		w.t.Fatalf("a walk yields %d pairs, want %d", pairs, want)
	}
	return pairs, passed, steps
}

// TestRemovedKeysArePassedOnce: the first walk after ten thousand removals passes them, later ones jump: where the
// changes wait in memory, where they are in the database, and where they come to be there in between. So
// it stays as one more goes at the end, and as somebody sets a key among them.
func TestRemovedKeysArePassedOnce(t *testing.T) {
	const keys, few = 10_000, 40
	for name, at := range map[string]struct{ interval, idle int }{"pending": {1024, 64}, "flushed": {1, 0}, "flushed between": {20, 64}} {
		t.Run(name, func(t *testing.T) {
			w := newWalked(t, at.interval)
			w.commit(filled(0, keys))
			w.commit(nil, removed(0, keys-1)...)
			if _, passed, _ := w.passes(); passed < keys-1 {
				t.Errorf("the first walk passes %d", passed)
			}
			for range at.idle {
				w.commit(nil)
			}
			for _, step := range []struct {
				what string
				do   func()
			}{
				{"nothing", func() {}},
				{"the last one goes", func() { w.commit(nil, removed(keys-1, keys)...) }},
				{"one is set", func() { w.commit(filled(500, 501)) }},
				{"and it goes", func() { w.commit(nil, removed(500, 501)...) }},
				{"one is set, and goes", func() { w.commit(filled(7_000, 7_001)); w.commit(nil, removed(7_000, 7_001)...) }},
			} {
				step.do()
				if _, passed, steps := w.passes(); passed > 4 || steps > few {
					t.Errorf("%s: a walk passes %d, in %d steps", step.what, passed, steps)
				}
				if pairs, passed, steps := w.passes(); passed > pairs || steps > 4 {
					t.Errorf("%s: the next walk passes %d, in %d steps", step.what, passed, steps)
				}
			}
			w.sound()
			check(t, w.s.Close())
		})
	}
}

// TestNobodyMakesWalksPassAgain: who sets and removes keys where many were removed, at the edge or all
// over, makes the next walk pass a few more for each that he has set, and not what was there.
func TestNobodyMakesWalksPassAgain(t *testing.T) {
	const keys, rounds = 4_000, 200
	for name, next := range map[string]func(rng *rand.Rand, i int) int{
		"at the left edge":  func(_ *rand.Rand, i int) int { return i },
		"at the right edge": func(_ *rand.Rand, i int) int { return keys - 1 - i },
		"all over":          func(rng *rand.Rand, _ int) int { return rng.IntN(keys) },
		"at one place":      func(*rand.Rand, int) int { return keys / 2 },
	} {
		for _, goes := range []bool{false, true} {
			w := newWalked(t, 1024)
			w.commit(filled(0, keys))
			w.commit(nil, removed(0, keys)...)
			w.passes()
			rng := rand.New(rand.NewPCG(1, 1))
			total, most := 0, 0 // beyond what there is to each pair
			for i := range rounds {
				at := next(rng, i)
				w.commit(filled(at, at+1))
				if goes {
					w.commit(nil, removed(at, at+1)...)
				}
				snapshot := must(w.s.Snapshot())(t)
				for _, from := range [][2]string{{"ws", "wt"}, {fmt.Sprintf("ws%06d\x00", at), "wt"}} {
					pairs, passed, _ := snapshot.Passed([]byte(from[0]), []byte(from[1]))
					passed = max(0, passed-17*pairs)
					total, most = total+passed, max(most, passed)
				}
				check(t, snapshot.Close())
			}
			w.sound()
			t.Logf("%s, going %v: %d keys in all, %d at most", name, goes, total, most)
			if total > 64*rounds || most > 96 {
				t.Errorf("%s, going %v: %d rounds make walks pass %d keys, at most %d at once", name, goes, rounds, total, most)
			}
			check(t, w.s.Close())
		}
	}
}

// TestTheLargestGapsStay: what is remembered is bounded, and the ranges with the fewest removed keys go
// first, however many there are.
func TestTheLargestGapsStay(t *testing.T) {
	for _, most := range []int{100, 20} { // gaps
		theLargestStay(t, most)
	}
}

func theLargestStay(t *testing.T, most int) {
	t.Helper()
	w := newWalked(t, 1024)
	w.s.LimitGaps(100, most, 16, 8)
	w.commit(filled(0, 10_000))
	gone := removed(0, 400) // a large one of 50 marks, and small ones of two
	for from := 500; from < 10_000; from += 20 {
		gone = append(gone, removed(from, from+19)...)
	}
	w.commit(nil, gone...)
	w.passes()
	w.passes()
	gaps, _ := w.s.Gaps()
	marks := 0
	for _, g := range gaps {
		if g.Start < "ws000400" {
			marks += len(g.Marks)
		}
	}
	if marks < 49 {
		t.Errorf("%d marks are left of the largest gap: %d gaps", marks, len(gaps))
	}
	check(t, w.s.Close())
}

// TestWhatWaitsIsRemembered: as many removed keys as may wait for a flush, all of which are in the database too, are
// passed once.
func TestWhatWaitsIsRemembered(t *testing.T) {
	const keys, block = 285_000, 12_000
	w := newWalked(t, 64)
	ranged := func(do func(from, to int)) {
		for from := 0; from < keys; from += block {
			do(from, min(keys, from+block))
		}
	}
	ranged(func(from, to int) { w.commitAs(nil, filled(from, to)) })
	for len(w.past)%64 != 1 { // a flush
		w.commitAs(nil, map[string]string{"a": fmt.Sprint(len(w.past))})
	}
	check(t, w.s.Rest())
	ranged(func(from, to int) { w.commitAs(nil, nil, removed(from, to)...) })
	for walk, most := range []int{2 * keys, 0, 0} {
		snapshot := must(w.s.Snapshot())(t)
		pairs, passed, _ := snapshot.Passed([]byte("ws"), []byte("wt"))
		if pairs != 0 || passed > most || walk == 0 && passed < keys {
			t.Errorf("walk %d meets %d pairs and passes %d keys, %d at most", walk, pairs, passed, most)
		}
		check(t, snapshot.Close())
	}
	check(t, w.s.Close())
}

// TestWalksJumpInManyLevels: the database is deep, and has each of thirty thousand keys several times, set and removed, in a
// level each. The first walk passes them, later ones jump: in the state of before a flush, after it, as a key among them
// comes and goes, and once all tables are merged. The database merges nothing by itself: a flush makes a table, which lies in
// the lowest level above all that have its keys.
func TestWalksJumpInManyLevels(t *testing.T) {
	const keys, stay, times, deepest = 30_000, 1_000, 3, 6
	options := store.Options{TreeInterval: 1, PendingBytes: 1 << 20} // a sixteenth, and a flush makes tables
	options.Tune(func(p *pebble.Options) {
		p.DisableAutomaticCompactions, p.L0StopWritesThreshold, p.LBaseMaxBytes = true, 1<<20, 1
	})
	w := &walked{t: t, s: must(store.OpenMemory(options))(t)}
	w.tree = w.s.NewTree()
	all, stays, gone := map[string]string{}, map[string]string{}, []string(nil)
	for i, key := range removed(0, keys) {
		if all[key] = strings.Repeat("v", 100); i%stay == 0 {
			stays[key] = all[key]
		} else {
			gone = append(gone, key)
		}
	}
	settle := func() { check(t, w.s.Rest()); check(t, w.s.Flush()) }
	for range times {
		for _, goes := range []bool{false, true} {
			if goes {
				w.commitAs(stays, nil, gone...)
			} else {
				w.commitAs(all, all)
			}
			settle()
		}
	}
	for i, deep := range []struct {
		what string
		do   func()
	}{
		{"at first", func() {}},
		{"the next", func() {}},
		{"after a flush", func() { w.commit(map[string]string{"a": "1"}); settle() }},
		{"one is set", func() { w.commit(filled(500, 501)) }},
		{"and goes", func() { w.commit(nil, removed(500, 501)...); settle() }},
		{"after merges", func() { check(t, w.s.Compact(t.Context())) }},
	} {
		deep.do()
		levels := w.s.Levels()
		pairs, passed, steps := w.passes()
		t.Logf("%s: %d levels, a walk meets %d pairs, passes %d keys in %d steps", deep.what, levels, pairs, passed, steps)
		if i < 5 && levels < deepest {
			t.Fatalf("%s: %d levels are not deep", deep.what, levels)
		}
		if i == 0 && (passed != len(gone) || steps < 2*times*len(gone)) {
			t.Errorf("the first walk passes %d, in %d steps", passed, steps)
		}
		if i > 0 && (passed > pairs || steps > (2*times+4)*pairs) {
			t.Errorf("%s: a walk of %d pairs passes %d keys in %d steps", deep.what, pairs, passed, steps)
		}
	}
	w.sound()
	check(t, w.s.Close())
}

// TestCutGapsTakeTheirOwnMemory: the marks of a part are not in an array with those of others, which it would keep for as long as
// it stays.
func TestCutGapsTakeTheirOwnMemory(t *testing.T) {
	w := newWalked(t, 1024)
	w.s.LimitGaps(1_000, 100, 64, 2)
	w.commit(filled(0, 200))
	w.commit(nil, removed(0, 200)...)
	w.passes()
	arrays := w.s.HeldMarks()
	if len(arrays) < 3 {
		t.Fatalf("%d ranges are remembered", len(arrays))
	}
	gaps, _ := w.s.Gaps()
	at := gaps[1].Marks[len(gaps[1].Marks)/2]
	w.commit(map[string]string{at: "v"}) // in the middle of the second
	runtime.GC()
	if arrays[1].Value() != nil {
		t.Error("the marks of a range that was cut are kept whole")
	}
	if arrays[0].Value() == nil || len(w.s.HeldMarks()) != len(arrays)+1 {
		t.Errorf("%d ranges are remembered, of %d", len(w.s.HeldMarks()), len(arrays))
	}
	w.sound()
	check(t, w.s.Close())
}

// TestFewKeysTakeFewSteps: before each of some keys there are fewer removed ones than are remembered for their number. Where the
// database has each of them once, a walk passes them each time; where it has them several times, in tables that are not
// merged yet, it passes them once.
func TestFewKeysTakeFewSteps(t *testing.T) {
	const pairs, apart = 100, 16
	for times, again := range map[int]int{1: pairs * (apart - 1), 2: 0, 5: 0} { // order-free: each by itself
		w := newUnmerged(t)
		w.fewLeft(pairs, apart, times)
		_, first, before := w.passes()
		_, second, steps := w.passes()
		t.Logf("%d times: %d keys in %d steps, and then %d in %d", times, first, before, second, steps)
		if first != pairs*(apart-1) || before < 2*times*first || second != again || steps > (2*apart+8)*pairs {
			t.Errorf("%d times: a walk of %d pairs passes %d keys in %d steps, and the next %d in %d", times, pairs, first, before, second, steps)
		}
		w.sound()
		check(t, w.s.Close())
	}
}

// newUnmerged is one of a store that flushes each block, and whose database merges nothing.
func newUnmerged(t testing.TB) *walked {
	options := store.Options{TreeInterval: 1}
	options.Tune(func(p *pebble.Options) { p.DisableAutomaticCompactions, p.L0StopWritesThreshold = true, 1<<20 })
	s := must(store.OpenMemory(options))(t)
	return &walked{t: t, s: s, tree: s.NewTree()}
}

// fewLeft is where one in so many keys is left, after the others were set and removed so many times, in a table each.
func (w *walked) fewLeft(pairs, apart, times int) {
	w.t.Helper()
	table := func(now, set map[string]string, gone ...string) {
		w.commitAs(now, set, gone...)
		check(w.t, w.s.Rest())
		check(w.t, w.s.Flush())
	}
	stays, all, gone := map[string]string{}, filled(0, pairs*apart), removed(0, pairs*apart)
	for i := apart - 1; i < len(gone); i += apart {
		stays[gone[i]] = "v"
	}
	gone = slices.DeleteFunc(gone, func(key string) bool { return stays[key] != "" })
	for range times {
		table(nil, all)
		table(stays, nil, gone...)
	}
}

// TestGapsAreForgotten: what is remembered goes some flushes later.
func TestGapsAreForgotten(t *testing.T) {
	w := newWalked(t, 1)
	w.commit(filled(0, 1_000))
	w.commit(nil, removed(0, 1_000)...)
	w.passes()
	for i := range 9 {
		if gaps, _ := w.s.Gaps(); (len(gaps) == 0) != (i >= 8) {
			t.Errorf("after %d flushes there are %d gaps", i, len(gaps))
		}
		w.commit(map[string]string{"a": fmt.Sprint(i)})
	}
	check(t, w.s.Close())
}

// TestNothingIsLearntBeforeTheFirstBlock: an import may be under way, whose state no block has changed.
func TestNothingIsLearntBeforeTheFirstBlock(t *testing.T) {
	w := newWalked(t, 1)
	for _, key := range removed(0, 1_000) {
		check(t, w.s.SetRaw(store.StateKey([]byte(key)), []byte("v")))
	}
	for _, key := range removed(0, 1_000) {
		check(t, w.s.DeleteRaw(store.StateKey([]byte(key))))
	}
	for range 2 {
		snapshot := must(w.s.Snapshot())(t)
		if _, passed, _ := snapshot.Passed([]byte("ws"), []byte("wt")); passed != 1_000 {
			t.Errorf("%d keys are passed", passed)
		}
		check(t, snapshot.Close())
	}
	if gaps, _ := w.s.Gaps(); len(gaps) > 0 {
		t.Errorf("the state before all blocks is remembered: %+v", gaps)
	}
	check(t, w.s.Close())
}

// TestWalksBesideCommits: walks of several states at a time, beside the commits of blocks that fill and clear
// what they walk over, yield what the state of their height has.
func TestWalksBesideCommits(t *testing.T) {
	w := newWalked(t, 7)
	w.s.LimitGaps(30, 20, 4, 2)
	var mu sync.Mutex // of past
	past := []map[string]string{{}}
	w.commit(nil)
	done := make(chan struct{})
	var walkers sync.WaitGroup
	for n := range 3 {
		walkers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 2))
			for {
				select {
				case <-done:
					return
				default:
				}
				snapshot, _ := w.s.Snapshot()
				for range rng.IntN(30) {
					start, end := fmt.Sprintf("ws%06d", rng.IntN(100)), []byte(fmt.Sprintf("ws%06d", rng.IntN(100)))
					got := pairs(snapshot.Iterate([]byte(start), end))
					mu.Lock()
					want := past[snapshot.Tip().Height]
					mu.Unlock()
					if want := between(want, start, end); got != want {
						t.Errorf("height %d, from %s to %s: %q, want %q", snapshot.Tip().Height, start, end, got, want)
					}
				}
				if err := snapshot.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 400 {
		from := rng.IntN(100)
		to := min(100, from+rng.IntN(60))
		next := maps.Clone(past[len(past)-1])
		set, gone := filled(from, from+rng.IntN(3)), removed(from+3, to)
		for _, key := range gone {
			delete(next, key)
		}
		maps.Copy(next, set)
		mu.Lock()
		past = append(past, next)
		mu.Unlock()
		w.commit(set, gone...)
	}
	close(done)
	walkers.Wait()
	w.sound()
	check(t, w.s.Close())
}

// BenchmarkWalkPastRemoved is a walk over ten thousand removed keys, remembered and not.
func BenchmarkWalkPastRemoved(b *testing.B) {
	for _, interval := range []int{1, 1024} {
		for _, remembered := range []bool{false, true} {
			b.Run(fmt.Sprintf("interval=%d/remembered=%v", interval, remembered), func(b *testing.B) {
				w := newWalked(b, interval)
				w.commit(filled(0, 10_000))
				w.commit(nil, removed(0, 10_000)...)
				if !remembered {
					w.s.LimitGaps(1, 1, 2, 1<<40)
				}
				for b.Loop() {
					for range w.s.State().Iterate([]byte("ws"), []byte("wt")) {
						b.Fatal("a key is left")
					}
				}
				check(b, w.s.Close())
			})
		}
	}
}

// BenchmarkWalkPastFew is a step of a walk, each of which looks for the next pair from where the last was, past as many removed
// keys as are not remembered for their number: where there are none, where they wait for a flush, where they are in the
// database, and where they are there several times, remembered and not.
func BenchmarkWalkPastFew(b *testing.B) {
	const pairs, apart = 1_000, 16
	for _, of := range []struct {
		name         string
		waits        bool
		apart, times int
		unremembered bool
	}{
		{"none", false, 1, 1, false}, {"waiting", true, apart, 1, false}, {"in the database", false, apart, 1, false},
		{"in the database 4 times", false, apart, 4, false}, {"in the database 4 times/unremembered", false, apart, 4, true},
	} {
		b.Run(of.name, func(b *testing.B) {
			w := newUnmerged(b)
			if of.waits {
				w = newWalked(b, 1024)
			}
			if of.unremembered {
				w.s.LimitGaps(1, 1, 2, 1<<40)
			}
			w.fewLeft(pairs, of.apart, of.times)
			snapshot := must(w.s.Snapshot())(b)
			from, met := []byte("ws"), 0
			for b.Loop() {
				before := met
				for key := range snapshot.Iterate(from, []byte("wt")) {
					from, met = append(append(from[:0], key...), 0), met+1
					break
				}
				if met == before { // the end
					from = append(from[:0], "ws"...)
				}
			}
			if met == 0 {
				b.Fatal("a walk that meets nothing")
			}
			check(b, snapshot.Close())
			check(b, w.s.Close())
		})
	}
}
