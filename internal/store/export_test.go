package store

import (
	"context"
	"errors"
	"fmt"
	"weak"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/state"
)

// OpenOn is Open on a file system of the test's.
func OpenOn(fs vfs.FS, dir string, options Options) (*Store, error) { return open(fs, dir, options) }

// OpenLogOn opens one log on a file system of the test's.
func OpenLogOn(fs vfs.FS, path string) (*Log, error) { return openLog(fs, path) }

// OpenLogsOn is OpenLogs on a file system of the test's.
func OpenLogsOn(fs vfs.FS, dir string) (*Logs, error) { return openLogs(fs, dir) }

// SetFormat makes the database one of another format.
func (s *Store) SetFormat(version byte) error {
	return s.db.Set(metaKey(metaFormat), []byte{version}, s.sync)
}

// SetRaw writes a key of the database.
func (s *Store) SetRaw(key, value []byte) error { return s.db.Set(key, value, s.sync) }

// Raw reads a key of the database.
func (s *Store) Raw(key []byte) ([]byte, error) {
	value, _, err := s.get(key)
	return value, err
}

// Tune has the database opened with changed settings.
func (o *Options) Tune(change func(*pebble.Options)) { o.tune = change }

// WithDefaults returns the options as Open uses them.
func (o Options) WithDefaults() (Options, error) { return o.withDefaults() }

// Flush moves what is in memory to tables.
func (s *Store) Flush() error { return s.db.Flush() }

// CheckRecords is checkRecords.
func CheckRecords(data []byte) (at int, whole bool) { return checkRecords(data) }

// Nodes counts the records of the tree, of whatever version.
func (s *Store) Nodes() (n uint64, err error) {
	for _, err := range scan(s.db, []byte{tableNode}, []byte{tableNode + 1}) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Lists returns the heights of the blocks whose changes are on the disk as lists.
func (s *Store) Lists() ([]uint64, error) { return s.heights(tableChanges) }

// TxLists returns the heights of the blocks whose transactions are on the disk as lists.
func (s *Store) TxLists() ([]uint64, error) { return s.heights(tableBlockTxs) }

func (s *Store) heights(table byte) (heights []uint64, err error) {
	for it, err := range scan(s.db, heightKey(table, 0), heightKey(table+1, 0)) {
		if err != nil {
			return nil, err
		}
		height, err := numberOf(it.Key()[1:])
		if err != nil {
			return nil, err
		}
		heights = append(heights, height)
	}
	return heights, nil
}

// Rest waits for the flush under way.
func (s *Store) Rest() error { return s.endFlush() }

// Records is a cache of records by itself, as of an even generation.
type Records struct{ c *records }

// NewRecords returns a cache of so many bytes.
func NewRecords(bytes int64) (Records, error) {
	c, err := newRecords(bytes)
	c.stand()
	return Records{c}, err
}

// Generation returns what the cache stands at.
func (r Records) Generation() uint64 { return r.c.generation.Load() }

// Get looks a key up.
func (r Records) Get(key []byte, generation uint64) ([]byte, bool) { return r.c.get(key, generation) }

// Put takes in what was read.
func (r Records) Put(key, value []byte, generation uint64) { r.c.put(key, value, generation) }

// Lacks is lacks.
func (r Records) Lacks(key []byte, generation uint64) bool { return r.c.lacks(key, generation) }

// Lack is lack.
func (r Records) Lack(key []byte, generation uint64) { r.c.lack(key, generation) }

// Change begins and ends a change of the table; between does what others do meanwhile.
func (r Records) Change(changes []*state.Change, between func()) {
	r.c.begin()
	between()
	all := make([]state.Change, len(changes))
	for i, c := range changes {
		all[i] = *c
	}
	list := state.NewChangeList(all)
	named := make([]mergedChange, len(changes))
	for i := range named {
		named[i] = mergedChange{place: list.Place(i)}
	}
	r.c.end([]pendingBlock{{changes: list}}, named)
}

// Close gives the memory back.
func (r Records) Close() error { return r.c.close() }

// Served counts the records that are kept.
func (s *Store) Served() (n int) {
	for i := range s.records.shards {
		shard := &s.records.shards[i]
		shard.mu.Lock()
		n += shard.count
		shard.mu.Unlock()
	}
	return n
}

// LimitGaps has the store remember fewer and smaller ranges without a key, before it remembers any.
func (s *Store) LimitGaps(most, gaps, each, apart int) {
	s.gaps.limits = gapLimits{most: most, gaps: gaps, each: each, apart: apart}
}

// Gap is a range of which the store remembers that no state since a block's has a key there.
type Gap struct {
	Start, End string
	Since      uint64
	Marks      []string
}

// Gaps returns what the store remembers, and the height up to which it holds. Its own account of how much
// that is is checked.
func (s *Store) Gaps() (gaps []Gap, height uint64) {
	s.gaps.mu.RLock()
	defer s.gaps.mu.RUnlock()
	marks := 0
	for _, g := range s.gaps.list {
		gaps = append(gaps, Gap{g.start, g.end, g.since, g.marks})
		marks += len(g.marks)
	}
	if l := s.gaps.limits; marks != s.gaps.marks || marks > l.most || len(gaps) > l.gaps {
		panic(fmt.Sprintf("store: %d gaps have %d marks, %d are counted, the limits are %+v", len(gaps), marks, s.gaps.marks, l))
	}
	return gaps, s.gaps.height
}

// HeldMarks points to the arrays that the marks of the remembered ranges are in, and keeps none of them.
func (s *Store) HeldMarks() (arrays []weak.Pointer[string]) {
	s.gaps.mu.RLock()
	defer s.gaps.mu.RUnlock()
	for _, g := range s.gaps.list {
		arrays = append(arrays, weak.Make(&g.marks[0]))
	}
	return arrays
}

// Levels returns how many levels of the database have tables.
func (s *Store) Levels() (levels int) {
	m := s.db.Metrics()
	for i := range m.Levels {
		if m.Levels[i].TablesCount > 0 {
			levels++
		}
	}
	return levels
}

// Passed walks through a range, and returns how many pairs it has, how many other keys were passed, each once
// for the changes that wait and once for the database, and in how many steps that was read.
func (s *Snapshot) Passed(start, end []byte) (pairs, passed, steps int) {
	w := s.walk(start, end)
	defer s.idle.give(w.below)
	w.below.ResetStats()
	w.all(start, func(key, value []byte) bool { pairs++; return true })
	stats := w.below.Stats()
	return pairs, w.run.passed, stats.ForwardStepCount[pebble.InternalIterCall] + stats.ForwardSeekCount[pebble.InternalIterCall]
}

// DeleteRaw deletes a key of the database.
func (s *Store) DeleteRaw(key []byte) error { return s.db.Delete(key, s.sync) }

// StateKey is the database's key of a key of the flat state.
func StateKey(key []byte) []byte { return stateKey(key) }

// Busy reports whether the database flushes or compacts.
func (s *Store) Busy() bool {
	m := s.db.Metrics()
	return m.Compact.NumInProgress > 0 || m.Flush.NumInProgress > 0
}

// PruneFrom is Prune of one who read the tip and the mark a while ago.
func (s *Store) PruneFrom(ctx context.Context, tip Tip, mark state.Mark, o PruneOptions) error {
	p := pruner{s: s, index: o.Index, limiter: rate.NewLimiter(rate.Inf, pruneChunk)}
	return errors.Join(p.plan(tip, mark, o), p.run(ctx))
}
