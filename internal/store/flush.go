package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

const (
	// A flush of up to this part of PendingBytes goes through the database's log,
	// within Commit; a larger one makes tables of its own, beside it.
	smallFlushPart = 16
	// roomyPending bounds for how many changes room is made ahead.
	roomyPending = 1 << 18
	// staleChunk is about how long one value of tableStale is, in bytes.
	staleChunk = 32 << 10
	// flushDir holds the tables of a flush under way.
	flushDir = "flush"
)

// markKey has the version of the flat state and of the tree that the tables hold.
// It is the empty key of the state's table, which no state has.
var markKey = []byte{tableState}

// flushing is a flush under way.
type flushing struct {
	version uint64        // up to which
	done    chan struct{} // closed after err is set
	err     error
}

// flush is what takes the tables from one version to a later one.
type flush struct {
	s       *Store
	tree    *state.Tree
	done    func()         // with the tree; nil: it was called
	changes *pending       // up to the tree's version
	point   *uint64        // bytes of the blocks up to the version, if the next block is a point
	merged  []mergedChange // of these
	seen    byte
}

// put is one entry of the tables; a nil value deletes.
type put func(table byte, key, value []byte) error

// each hands out every entry, in ascending order of keys.
func (f *flush) each(to put) error {
	for key, record := range f.tree.Batch().Nodes() {
		if err := to(tableNode, key, record); err != nil {
			return err
		}
	}
	f.letGo()
	if f.point != nil {
		if err := to(tablePoint, numberBytes(f.tree.Version()+1), numberBytes(*f.point)); err != nil {
			return err
		}
	}
	if err := to(tableState, nil, numberBytes(f.tree.Version())); err != nil {
		return err
	}
	f.merged = f.changes.merged()
	for i := range f.merged {
		f.seen ^= lookAhead(f.changes.blocks, f.merged, i)
		c := f.merged[i].in(f.changes.blocks)
		if err := to(tableState, c.Key, c.Value); err != nil { // no value: deleted
			return err
		}
	}
	var key [crypto.DigestSize]byte
	var at [positionBytes]byte
	if err := f.changes.eachTx(func(id *crypto.Digest, p Position) error {
		key = *id
		return to(tableTx, key[:], appendPosition(at[:0], p))
	}); err != nil {
		return err
	}
	return f.stale(to)
}

// stale hands out the list of the records that the version made stale, in parts:
// version ‖ number of the part (4 bytes) → keys.
func (f *flush) stale(to put) error {
	var list []byte
	number := uint32(0)
	out := func() error {
		key := binary.BigEndian.AppendUint32(numberBytes(f.tree.Version()), number)
		err := to(tableStale, key, list)
		list, number = list[:0], number+1
		return err
	}
	for key := range f.tree.Batch().Stale() {
		if list = append(list, key...); len(list) >= staleChunk {
			if err := out(); err != nil {
				return err
			}
		}
	}
	if len(list) > 0 {
		return out()
	}
	return nil
}

// run makes the tables those of the tree's version, all at once.
func (f *flush) run() error {
	write := f.ingest
	if f.changes.bytes <= f.s.pendingBytes/smallFlushPart {
		write = f.batch
	}
	err := f.s.disk.call(write)
	if f.s.Err() == nil {
		defer f.ended() // else the writing may be under way still, with the tree: nobody ends it any more
	}
	if err != nil {
		return fmt.Errorf("store: writing the state of version %d: %w", f.tree.Version(), err)
	}
	mark := f.tree.Mark()
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.tree.Store(&mark)
	v := *f.s.view.Load()
	v.old = nil
	f.s.view.Store(&v)
	return f.s.measureState()
}

// letGo lets go of the tree's nodes: what the next versions replaced is of use again.
func (f *flush) letGo() {
	if f.done != nil {
		f.done()
		f.done = nil
	}
}

// ended lets go of the tree, and says how much memory trees take.
func (f *flush) ended() {
	f.letGo()
	if f.s.told != nil {
		_, bytes := f.s.arena.Bytes()
		f.s.told(bytes)
	}
}

// batch writes through the database's log. What the next sync makes durable is
// durable with it.
func (f *flush) batch() error {
	b := f.s.db.NewBatchWithSize(4 * f.changes.bytes)
	err := f.each(func(table byte, key, value []byte) error {
		if value == nil {
			return b.Delete(append([]byte{table}, key...), nil)
		}
		w := writer{b: b}
		w.setIn(table, key, value)
		return w.err
	})
	if err == nil {
		w := writer{b: b}
		f.dropLists(&w)
		err = w.err
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := f.change(func() error { return f.s.db.Apply(b, pebble.NoSync) }); err != nil {
		return err
	}
	return b.Close()
}

// change does what changes the tables, and the records in memory after it.
func (f *flush) change(do func() error) error {
	f.s.records.begin()
	if err := do(); err != nil {
		return err // the records are of no use from now on: the store stops
	}
	f.s.records.end(f.changes.blocks, f.merged)
	return nil
}

// ingest makes tables and hands them to the database: they go around its log and
// its memtables, and those of the tree, whose keys ascend, around its compactions.
func (f *flush) ingest() error {
	// The blocks up to this version must be durable before the state is; they
	// are not yet if the store does not sync.
	if err := f.s.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	t := tables{s: f.s, version: f.tree.Version()}
	err := f.each(t.put)
	if err = errors.Join(err, t.end()); err != nil {
		return err
	}
	if err := f.change(func() error { return f.s.db.Ingest(context.Background(), t.paths) }); err != nil {
		return err
	}
	w := writer{b: f.s.db.NewBatch()}
	f.dropLists(&w)
	if w.err != nil {
		return errors.Join(w.err, w.b.Close())
	}
	return errors.Join(f.s.db.Apply(w.b, pebble.NoSync), w.b.Close())
}

// dropLists removes the lists of changes and of transactions that the flush makes
// needless: from the first on, since a crash may have come between an earlier flush
// and the removal of its lists.
func (f *flush) dropLists(w *writer) {
	for _, table := range []byte{tableChanges, tableBlockTxs} {
		w.deleteRange(heightKey(table, 0), heightKey(table, chain.Height(f.tree.Version())+1))
	}
}

// tables writes tables of the database, one for each first byte of the keys.
type tables struct {
	s       *Store
	version uint64
	table   byte
	w       *sstable.Writer
	key     []byte
	paths   []string
}

func (t *tables) put(table byte, key, value []byte) error {
	if t.w == nil || table != t.table {
		if err := t.begin(table); err != nil {
			return err
		}
	}
	t.key = append(append(t.key[:0], table), key...)
	if value == nil {
		return t.w.Delete(t.key)
	}
	return t.w.Set(t.key, value)
}

func (t *tables) begin(table byte) error {
	if err := t.end(); err != nil {
		return err
	}
	// The state is merged and read soon; the rest hardly ever is.
	w, path, err := t.s.newTable(fmt.Sprintf("%d-%c", t.version, table), table, table != tableState)
	if err != nil {
		return err
	}
	t.table, t.w, t.paths = table, w, append(t.paths, path)
	return nil
}

// newTable begins a table in flushDir of keys of one first byte, for the database to take
// in. A cold one goes around the page cache.
func (s *Store) newTable(name string, of byte, cold bool) (*sstable.Writer, string, error) {
	path := s.disk.PathJoin(s.dir, flushDir, name+".sst")
	file, err := s.disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, path, err
	}
	o := s.options.MakeWriterOptions(0, s.db.TableFormat())
	o.Compression = sstable.NoCompression // the tree is digests, and the state is merged, and compressed, soon
	if of == tableNode || of == tableStale {
		o.FilterPolicy = pebble.NoFilterPolicy // what is asked for is there, and versions tell in which table
	}
	return sstable.NewWriter(newTableFile(file, cold), o), path, nil
}

func (t *tables) end() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close()
	t.w = nil
	return err
}

// beginFlush begins a flush up to a tree's version, the one after the latest block,
// which makes the next one a point or not. None may be under way.
func (s *Store) beginFlush(tree *state.Tree, point bool) error {
	done, err := tree.Keep()
	if err != nil {
		return fmt.Errorf("store: writing the state of version %d: %w", tree.Version(), err)
	}
	s.mu.Lock()
	v := *s.view.Load()
	v.old, v.new = v.new, newPending(v.new)
	s.view.Store(&v)
	s.mu.Unlock()
	s.gaps.flushed()
	f := flush{s: s, tree: tree, done: done, changes: v.old}
	if point {
		made := s.made
		f.point, s.lastPoint = &made, lastPoint{chain.Height(tree.Version()) + 1, made}
	}
	under := &flushing{version: tree.Version(), done: make(chan struct{})}
	run := func() {
		defer close(under.done)
		under.err = f.run()
	}
	s.flushing = under
	if v.old.bytes <= s.pendingBytes/smallFlushPart {
		run()
		return nil
	}
	go run()
	return nil
}

// endFlush waits for the flush under way, if there is one, and returns its error.
func (s *Store) endFlush() error {
	if s.flushing == nil {
		return nil
	}
	select {
	case <-s.flushing.done:
	case <-s.disk.failed:
		return s.disk.err
	}
	if s.flushing.err != nil {
		return s.flushing.err
	}
	s.flushing = nil
	return nil
}

// begun returns the last version that was written, or is being written; false: none was.
func (s *Store) begun() (version uint64, some bool) {
	if s.flushing != nil {
		return s.flushing.version, true
	}
	mark, some := s.TreeMark()
	return mark.Version, some
}

// flushed reports whether no flush is under way any more.
func (s *Store) flushed() (bool, error) {
	if s.flushing == nil {
		return true, nil
	}
	select {
	case <-s.flushing.done:
		return true, s.endFlush()
	default:
		return false, nil
	}
}
