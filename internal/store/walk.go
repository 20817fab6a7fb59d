package store

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/state"
)

// tableIter is an iterator of the tables that tells who has it which keys it passes, those that are
// gone among them.
type tableIter struct {
	*pebble.Iterator
	run *run // nil: nobody has it
}

func newTableIter(r pebble.Reader, lower, upper []byte) (*tableIter, error) {
	t := &tableIter{}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper, SkipPoint: func(key []byte) bool {
		t.run.note(key[1:])
		return false
	}})
	t.Iterator = it
	return t, err
}

// run is what a walk passes without yielding anything, from a key on.
type run struct {
	from   []byte
	passed int      // keys, of the whole walk
	before int      // of these, in earlier runs
	apart  int      // one in so many is marked
	marks  []string // ascending
	steps  int      // that the tables took until it began
	beside bool     // it begins where a gap ends
}

// begin begins another one.
func (w *walk) begin(from []byte, beside bool) {
	r := &w.run
	r.from, r.before, r.marks, r.beside = append(r.from[:0], from...), r.passed, nil, beside
	r.steps = w.steps()
}

// steps is how many the tables took so far: several for a key that they have several times, set or
// removed in each, until these are merged.
func (w *walk) steps() int {
	stats := w.below.Stats()
	return stats.ForwardStepCount[pebble.InternalIterCall]
}

func (r *run) note(key []byte) {
	if r.passed++; (r.passed-r.before)%r.apart != 0 {
		return
	}
	// What the tables have of the key that the run comes after is passed with it, and two may pass the same.
	if n := len(r.marks); n == 0 && string(key) >= string(r.from) || n > 0 && r.marks[n-1] < string(key) {
		r.marks = append(r.marks, string(key))
	}
}

// walk goes through a part of a flat state.
type walk struct {
	f     flat
	end   []byte // nil: none
	own   changesWalk
	below *tableIter
	run   run
	limit []byte // of the tables' keys, its room is used again
}

// Scan yields the pairs with start ≤ key < end, each valid until the next one.
func (f flat) Scan(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if len(start) == 0 {
			start = []byte{0} // after the mark
		}
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		w := f.walk(start, end)
		defer f.idle.give(w.below) // though the loop's body panics
		w.all(start, yield)
	}
}

// walk returns a walk through what there is in start ≤ key < end.
func (f flat) walk(start, end []byte) *walk {
	lower, upper := stateKey(start), []byte{tableState + 1}
	if end != nil {
		upper = stateKey(end)
	}
	below, err := f.idle.take(f.r, lower, upper)
	if err != nil {
		panic(&state.Fault{Op: fmt.Sprintf("iterating from %x", start), Err: named(err)})
	}
	w := &walk{f: f, end: end, own: f.view.inRange(start, end, f.height), below: below}
	w.run.apart, below.run = f.gaps.limits.apart, &w.run
	return w
}

// all yields what there is from start on: it passes what lies between gaps, and jumps over these.
func (w *walk) all(start []byte, yield func(key, value []byte) bool) {
	at, jumped := slices.Clone(start), false
	for w.end == nil || bytes.Compare(at, w.end) < 0 {
		var gap *gap
		if w.remembers() {
			gap = w.f.gaps.next(at, w.end, w.f.height)
		}
		stop := w.end
		if gap != nil {
			if gap.start <= string(at) {
				at, jumped = append(at[:0], gap.end...), true
				continue
			}
			stop = []byte(gap.start)
		}
		w.begin(at, jumped)
		if !w.pass(at, stop, yield) || stop == nil {
			return
		}
		w.close(stop, gap != nil)
		at, jumped = append(at[:0], stop...), false
	}
}

// remembers is false before the first block: there is no height that what is met is true of, and an
// import may be making a state.
func (w *walk) remembers() bool { return w.f.view.tip != nil }

// pass yields what there is in at ≤ key < stop, and false if nobody wants more.
func (w *walk) pass(at, stop []byte, yield func(key, value []byte) bool) bool {
	w.own.seek(at)
	var changed []byte // the key of the last change, which what the tables have of it is older than
	where := w.sound(w.below.SeekGEWithLimit(stateKey(at), w.until(stop)))
	for {
		own := w.own.before(stop)
		if where == pebble.IterValid && stop != nil && bytes.Compare(w.below.Key()[1:], stop) >= 0 {
			where = pebble.IterAtLimit // limits are kept as well as the database can
		}
		switch {
		case where == pebble.IterValid && (!own || bytes.Compare(w.below.Key()[1:], w.own.change.Key) < 0):
			if key := w.below.Key()[1:]; changed == nil || !bytes.Equal(key, changed) {
				value, err := w.below.ValueAndErr()
				if err != nil {
					panic(&state.Fault{Op: fmt.Sprintf("reading %x", key), Err: named(err)})
				}
				w.run.passed-- // it is there
				if !w.yield(key, value, yield) {
					return false
				}
			}
			where = w.sound(w.below.NextWithLimit(w.until(stop)))
		case own:
			c := w.own.change
			if !w.own.later {
				changed = c.Key
			}
			if w.own.later || c.Deleted {
				w.run.note(c.Key)
			} else if !w.yield(c.Key, c.Value, yield) {
				return false
			}
			if w.own.next(); where == pebble.IterAtLimit {
				where = w.sound(w.below.NextWithLimit(w.until(stop)))
			}
		default: // the limit was stop
			return true
		}
	}
}

// until is how far the tables are read before the next change is looked at.
func (w *walk) until(stop []byte) []byte {
	if w.own.before(stop) {
		stop = w.own.change.Key
	}
	if stop == nil {
		return nil
	}
	w.limit = append(append(w.limit[:0], tableState), stop...)
	return w.limit
}

// sound passes on where the iterator is, if it is not there because of an error.
func (w *walk) sound(where pebble.IterValidityState) pebble.IterValidityState {
	if where == pebble.IterExhausted {
		if err := w.below.Error(); err != nil {
			panic(&state.Fault{Op: fmt.Sprintf("iterating from %x", w.run.from), Err: named(err)})
		}
	}
	return where
}

// yield hands out a pair, with which a run ends and another begins.
func (w *walk) yield(key, value []byte, yield func(key, value []byte) bool) bool {
	w.close(key, false)
	if !yield(key, value) {
		return false
	}
	w.begin(key, false)
	w.run.from = append(w.run.from, 0)
	return true
}

// close ends a run at a key. It is remembered if it passed enough, or took twice as many steps for what it passed, or is beside
// a gap.
func (w *walk) close(end []byte, beside bool) {
	r := &w.run
	if n := len(r.marks); n > 0 && r.marks[n-1] >= string(end) { // the key itself was noted
		r.marks = r.marks[:n-1]
	}
	if len(r.marks) == 0 && r.passed > r.before && w.steps()-r.steps >= 2*r.apart {
		r.marks = append(r.marks, string(r.from))
	}
	if w.remembers() && (len(r.marks) > 0 || r.beside || beside) {
		w.f.gaps.learn(string(r.from), string(end), r.marks, w.f.height)
	}
}

// changesWalk goes through the keys that pending blocks changed, by ascending key.
type changesWalk struct {
	v      *view
	height uint64
	lists  [][][]byte // of keys, each ascending

	blocks []pendingBlock // if the keys are not of one group: what all of them changed
	all    []mergedChange

	ok     bool         // there is one more
	change state.Change // the last one of its key up to the height
	later  bool         // there is none: all came after it; only the key is known
}

// inRange walks through the last change of every key with start ≤ key < end up to a
// height.
func (v *view) inRange(start, end []byte, height uint64) changesWalk {
	w := changesWalk{v: v, height: height}
	g, ok := groupOfRange(start, end)
	if !ok {
		w.blocks = v.blocks(height)
		w.all = merge(w.blocks, start, end)
		w.next()
		return w
	}
	runs := v.new.runsOf(g)
	if v.old != nil {
		runs = slices.Concat(v.old.runsOf(g), runs)
	}
	w.lists = make([][][]byte, 0, len(runs))
	for _, r := range runs {
		r = r[lowerBound(r, start):]
		if r = r[:lowerBound(r, end)]; len(r) > 0 {
			w.lists = append(w.lists, r)
		}
	}
	w.next()
	return w
}

// next goes to the next key.
func (w *changesWalk) next() {
	w.ok, w.later = false, false
	if len(w.all) > 0 {
		w.ok, w.change, w.all = true, w.all[0].in(w.blocks), w.all[1:]
		return
	}
	key := leastOf(w.lists)
	if key == nil {
		return
	}
	var known bool
	w.change, known = w.v.get(key, w.height)
	if w.ok = true; !known {
		w.change, w.later = state.Change{Key: key}, true
	}
}

// before reports whether there is one more, below a key; nil: any.
func (w *changesWalk) before(key []byte) bool {
	return w.ok && (key == nil || bytes.Compare(w.change.Key, key) < 0)
}

// seek goes on to the first key at or after one.
func (w *changesWalk) seek(key []byte) {
	if !w.before(key) {
		return
	}
	w.all = w.all[sort.Search(len(w.all), func(i int) bool { return bytes.Compare(w.all[i].key(w.blocks), key) >= 0 }):]
	for i, keys := range w.lists {
		w.lists[i] = keys[lowerBound(keys, key):]
	}
	w.next()
}
