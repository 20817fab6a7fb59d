package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

var (
	// ErrLocked says that another Store or Log owns the directory or file.
	ErrLocked = errors.New("store: in use by another process")
	// ErrFormat says that the database has another layout.
	ErrFormat = errors.New("store: database of another format")
	// ErrHeight says that a block is not the one after the latest.
	ErrHeight = errors.New("store: not the next height")
	// ErrTree says that a tree is not the one after the block.
	ErrTree = errors.New("store: not the tree after the block")
	// ErrNotEmpty says that there are blocks already.
	ErrNotEmpty = errors.New("store: not empty")
	// ErrCorrupt says that a record of the database cannot be what was written.
	ErrCorrupt = errors.New("store: record is corrupt")
)

// Store holds what a node has finalized.
type Store struct {
	db      *pebble.DB
	options *pebble.Options
	disk    *failStop
	dir     string
	lock    io.Closer
	sync    *pebble.WriteOptions

	mu   sync.Mutex                 // held while the next two change, and while a reader takes them with a snapshot
	view atomic.Pointer[view]       // never nil
	tree atomic.Pointer[state.Mark] // the version that the tables hold; nil: none

	records *records
	gaps    *gaps
	arena   *state.Arena
	told    func(bytes int) // see Options.NodeMemory

	treeInterval  uint64 // in blocks
	residentBytes int
	pendingBytes  int // of changes, after which the tree is written though the interval is not over
	pendingGrows  bool
	flushing      *flushing
	importing     *Import // the last one that was begun; nil: none

	garbage atomic.Int64 // bytes of nodes that were deleted since their tables were last rewritten, see reclaim

	leastPoint uint64        // see PointBytes
	flatBytes  atomic.Uint64 // of the flat state, about
	made       uint64        // bytes of all blocks; this and the next belong to who commits
	lastPoint  lastPoint
}

// view is what is committed: the state after the tip is the tables' with the
// changes of old, which a flush is bringing into them, and of new on top.
type view struct {
	tip *Tip     // nil: nothing is committed
	old *pending // nil: no flush is under way
	new *pending
}

// blocks returns the pending blocks up to a height.
func (v *view) blocks(height uint64) []pendingBlock {
	if v.old == nil {
		return v.new.upTo(height)
	}
	return slices.Concat(v.old.upTo(height), v.new.upTo(height))
}

// get returns the last pending change of a key up to a height, and false if there is
// none.
func (v *view) get(key []byte, height uint64) (state.Change, bool) {
	hash := pendingHash(key)
	if c, ok := v.new.get(key, hash, height); ok || v.old == nil {
		return c, ok
	}
	return v.old.get(key, hash, height)
}

// Tip names a committed block and the state after it.
type Tip struct {
	Height    chain.Height
	Digest    crypto.Digest // of the block's header
	StateRoot crypto.Digest // after this block
}

// Mark returns the version of the state tree after the block.
func (t Tip) Mark() state.Mark {
	return state.Mark{Version: uint64(t.Height), Root: t.StateRoot}
}

// Open opens the database in dir, which is made if it is not there.
func Open(dir string, options Options) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", dir, err)
	}
	return open(vfs.Default, abs, options)
}

// OpenMemory opens an empty database in memory, for tests.
func OpenMemory(options Options) (*Store, error) { return open(vfs.NewMem(), "memory", options) }

// lockDir makes its caller the owner of dir until the result is closed. It is
// ErrLocked while there is another, and fs.ErrNotExist without the directory.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	lock, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: nothing is stored in %s: %w", dir, err)
	}
	if vfs.IsNoSpaceError(err) {
		return nil, diskError("making the lock of", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
	}
	return lock, nil
}

func open(fs vfs.FS, dir string, options Options) (*Store, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if options.ReadOnly {
		_, err = fs.Stat(dir)
	} else if err = makeDir(fs, dir); vfs.IsNoSpaceError(err) {
		err = diskError("making", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("store: making %s: %w", dir, err)
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	disk := newFailStop(fs)
	o := options.pebble(disk)
	var db *pebble.DB
	err = disk.call(func() (err error) {
		if err := begin(disk, dir, options.ReadOnly); err != nil {
			return err
		}
		if err := checkManifests(disk, dir); err != nil {
			return err
		}
		if err := checkOptions(disk, dir, o); err != nil {
			return err
		}
		db, err = pebble.Open(dir, o)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening %s: %w", dir, unopened(fs, dir, err)), lock.Close())
	}
	s := &Store{
		db: db, options: o, disk: disk, dir: dir, lock: lock, sync: options.sync(),
		treeInterval: uint64(options.TreeInterval), residentBytes: int(options.TreeBytes), pendingBytes: int(options.PendingBytes), pendingGrows: options.pendingGrows,
		leastPoint: uint64(options.PointBytes), arena: newArena(), gaps: newGaps(), told: options.NodeMemory,
	}
	s.view.Store(&view{new: newPending(nil)})
	if s.records, err = newRecords(options.RecordBytes); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// begin checks what the last owner of the database left, and takes away what is of
// no use while it is open.
func begin(fs vfs.FS, dir string, readOnly bool) error {
	if err := checkSeal(fs, dir); err != nil || readOnly {
		return err
	}
	return errors.Join(removeSeal(fs, dir), cleanDir(fs, fs.PathJoin(dir, flushDir)))
}

// makeDir makes a directory and its parents, durably.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

// cleanDir makes a directory empty, or makes it.
func cleanDir(fs vfs.FS, dir string) error {
	if err := fs.RemoveAll(dir); err != nil {
		return err
	}
	return fs.MkdirAll(dir, 0o755)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load checks the format, or marks a new database with it, and reads the tip.
func (s *Store) load() error {
	format, ok, err := s.get(metaKey(metaFormat))
	switch {
	case err != nil:
		return err
	case !ok && s.options.ReadOnly:
		return fmt.Errorf("%w: it was never written", ErrFormat)
	case !ok:
		return s.disk.call(func() error { return s.db.Set(metaKey(metaFormat), []byte{formatVersion}, s.sync) })
	case len(format) != 1 || format[0] < formatNoPoints || format[0] > formatVersion:
		return fmt.Errorf("%w: version %x, this program has %d", ErrFormat, format, formatVersion)
	case format[0] != formatVersion && !s.options.ReadOnly:
		if err := s.disk.call(func() error { return s.db.Set(metaKey(metaFormat), []byte{formatVersion}, s.sync) }); err != nil {
			return err
		}
	}
	if err := s.loadMark(); err != nil {
		return err
	}
	latest, ok, err := s.number(metaKey(metaLatest))
	if err != nil || !ok {
		return err
	}
	tip, ok, err := s.Tip(chain.Height(latest))
	if err == nil && !ok {
		err = fmt.Errorf("%w: the latest height is %d, which has no tip", ErrCorrupt, latest)
	}
	if err != nil {
		return err
	}
	s.view.Store(&view{tip: &tip, new: newPending(nil)})
	s.records.stand()
	s.gaps.height = latest
	if err := s.loadPending(); err != nil {
		return err
	}
	return s.loadPoint(tip.Height)
}

// loadMark reads which version the tables hold.
func (s *Store) loadMark() error {
	version, ok, err := s.number(markKey)
	if err != nil || !ok {
		return err
	}
	tip, ok, err := s.Tip(chain.Height(version))
	if err == nil && !ok {
		err = fmt.Errorf("%w: the state is that of height %d, which has no tip", ErrCorrupt, version)
	}
	mark := tip.Mark()
	s.tree.Store(&mark)
	return err
}

// loadPending reads the changes, and the transactions, since the version that the tables hold.
func (s *Store) loadPending() error {
	v := s.view.Load()
	want := uint64(0)
	if mark, some := s.TreeMark(); some {
		want = mark.Version + 1
	}
	latest := uint64(v.tip.Height)
	for it, err := range scan(s.db, heightKey(tableChanges, chain.Height(want)), heightKey(tableChanges+1, 0)) {
		if err != nil {
			return err
		}
		height, err := numberOf(it.Key()[1:])
		if err != nil || height != want || height > latest {
			return errors.Join(fmt.Errorf("%w: changes of block %x, want block %d, the latest is %d", ErrCorrupt, it.Key()[1:], want, latest), err)
		}
		list, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("store: changes of block %d: %w", height, err)
		}
		changes, err := state.ReadChangeList(bytes.Clone(list))
		if err != nil {
			return fmt.Errorf("%w: changes of block %d: %w", ErrCorrupt, height, err)
		}
		txs, err := s.pendingTxsOf(height)
		if err != nil {
			return err
		}
		v.new.add(height, changes, noteBytes*changes.Len(), txs)
		want++
	}
	if want != latest+1 {
		return fmt.Errorf("%w: the changes of block %d are missing, the latest is %d", ErrCorrupt, want, latest)
	}
	return nil
}

// TreeMark returns the last version of the state tree that is on disk, for
// Tree.Persisted; false if there is none.
func (s *Store) TreeMark() (state.Mark, bool) {
	mark := s.tree.Load()
	if mark == nil {
		return state.Mark{}, false
	}
	return *mark, true
}

// Failed returns a channel that is closed once a write of the database failed,
// in whatever goroutine. Nothing is written from then on; Err says why.
func (s *Store) Failed() <-chan struct{} { return s.disk.failed }

// Err returns why the database writes no more, nil while it does.
func (s *Store) Err() error {
	select {
	case <-s.disk.failed:
		return s.disk.err
	default:
		return nil
	}
}

// Close ends the database's work and releases the directory. Snapshots must be
// closed before. A database that failed is left as it is, since its goroutines
// wait on the disk for ever: the process is to end.
func (s *Store) Close() error {
	if s.Err() != nil {
		return errors.Join(s.records.close(), s.lock.Close())
	}
	err := errors.Join(s.endImport(), s.endFlush(), s.disk.call(s.db.Close), s.records.close())
	if err == nil && !s.options.ReadOnly {
		err = s.disk.call(func() error { return writeSeal(s.disk, s.dir) })
	}
	return errors.Join(err, s.lock.Close())
}

// Finalized is a block with everything that is stored for it. An empty Header,
// Block, Certificate or Receipts is not stored: genesis has none of some.
type Finalized struct {
	Height chain.Height
	Digest crypto.Digest // of the header

	Header      []byte
	Block       []byte
	Certificate []byte
	Receipts    []byte

	// Changes lead from the state before to the one after the block, and Tree is
	// the tree after it that was made of them, whose version is the height. It
	// descends from OpenTree of this store, or from NewTree if that was empty.
	Changes []state.Change
	Tree    *state.Tree
	list    state.ChangeList // the tree's

	Txs    []crypto.Digest // ids of the transactions, in the block's order; not to be modified afterwards
	Orders []OrderEntry

	Closing *Closing // nil: the block ends no epoch
}

// OrderEntry says that a transaction of the block concerns an order.
type OrderEntry struct {
	Order   crypto.Digest
	TxIndex uint32
}

// Commit stores a finalized block: all of it is durable when Commit returns
// nil, and all of it or nothing otherwise. It is ErrHeight unless the block is the next
// one, and ErrTree if the tree is not the one after it. Every TreeInterval
// blocks, or when many changes wait, the state and the tree are written: beside
// the commits that follow if that is much, see TreeMark.
func (s *Store) Commit(f Finalized) error {
	last := s.view.Load().tip
	if last != nil && f.Height != last.Height+1 {
		return fmt.Errorf("%w: %d after %d", ErrHeight, f.Height, last.Height)
	}
	if f.Closing != nil {
		if err := s.writeBefore(&f); err != nil {
			return err
		}
	}
	if _, err := s.checkTree(&f); err != nil {
		return err
	}
	var ok bool
	if f.list, ok = f.Tree.Changes(); !ok || f.list.Len() != len(f.Changes) {
		return fmt.Errorf("%w: block %d of %d changes with a tree of %d", ErrTree, f.Height, len(f.Changes), f.list.Len())
	}
	tip := Tip{Height: f.Height, Digest: f.Digest, StateRoot: f.Tree.Root()}
	made := s.made + f.size()
	b := s.db.NewBatchWithSize(f.sizeHint())
	w := writer{b: b}
	w.block(&f, tip, made)
	w.indexes(&f)
	w.changes(&f)
	w.txs(&f)
	if f.Closing != nil {
		w.epochEnd(f.Closing.Epoch, f.Height, f.Closing.Record)
	}
	mark, some := s.TreeMark()
	point := (f.Closing != nil || last == nil) && some && mark.Version+1 == uint64(f.Height)
	if point {
		w.point(f.Height, s.made)
	}
	if last == nil {
		if err := s.endImport(); err != nil {
			return errors.Join(err, b.Close())
		}
		w.imported()
	}
	if w.err != nil {
		return fmt.Errorf("store: block %d: %w", f.Height, errors.Join(w.err, b.Close()))
	}
	if err := s.disk.call(func() error { return s.db.Apply(b, s.sync) }); err != nil {
		return fmt.Errorf("store: committing block %d: %w", f.Height, err) // the batch may still be in use
	}
	if point {
		s.lastPoint = lastPoint{f.Height, s.made}
	}
	s.made = made
	s.publish(&f, tip)
	if err := errors.Join(b.Close(), s.writeTree(&f)); err != nil {
		return fmt.Errorf("store: block %d is committed, but: %w", f.Height, err)
	}
	return nil
}

// publish makes a block that is durable the latest, and settles its version of the tree.
func (s *Store) publish(f *Finalized, tip Tip) {
	noted := f.Tree.Settle(s.begun())
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.view.Load()
	v.new.add(uint64(f.Height), f.list, noted, f.Txs)
	s.gaps.publish(uint64(f.Height), f.list)
	if v.tip == nil {
		s.records.stand()
	}
	v.tip = &tip
	s.view.Store(&v)
}

// writeTree begins a flush after a block if it is time, or if the next block is to be
// a point. For one, and when twice as much waits as should, it waits for the one
// before.
func (s *Store) writeTree(f *Finalized) error {
	waiting := s.view.Load().new.bytes
	mark, some := s.TreeMark()
	point, err := s.pointDue(f.Height, s.made)
	if err != nil {
		return err
	}
	most := s.mostPending()
	if !point && some && uint64(f.Height)-mark.Version < s.treeInterval && waiting < most {
		return nil
	}
	if free, err := s.flushed(); err != nil || !free && !point && waiting < 2*most {
		return err
	}
	if err := s.endFlush(); err != nil {
		return err
	}
	tree, err := s.checkTree(f)
	if err != nil {
		return err
	}
	if err := s.beginFlush(tree, point); err != nil {
		return err
	}
	_, err = s.flushed()
	return err
}

// mostPending returns after how many bytes of changes the tree is written. Beside a
// large tree it is more: what changes then is spread over as many more records, and so
// is what a flush writes and merges for each change.
func (s *Store) mostPending() int {
	if !s.pendingGrows {
		return s.pendingBytes
	}
	nodes, _ := s.arena.Bytes()
	return pendingBeside(nodes)
}

// pendingBeside returns what may wait by default beside nodes of so many bytes.
func pendingBeside(nodes int) int {
	return max(defaultPendingBytes, min(nodes/pendingPart, mostPendingBytes))
}

// checkTree returns the block's tree, knowing which version is on disk.
func (s *Store) checkTree(f *Finalized) (*state.Tree, error) {
	if f.Tree.Version() != uint64(f.Height) || f.Tree.Batch().Empty() {
		return nil, fmt.Errorf("%w: block %d with a tree of version %d, or one that is on disk", ErrTree, f.Height, f.Tree.Version())
	}
	tree := f.Tree
	written, some := s.TreeMark()
	if some {
		tree = tree.Persisted(written)
	}
	if durable, ok := tree.Durable(); ok != some || durable != written {
		return nil, fmt.Errorf("%w: block %d with a tree that descends from version %d, the last on disk is %d", ErrTree, f.Height, durable.Version, written.Version)
	}
	return tree, nil
}

// sizeHint is about how many bytes the batch will take.
func (f *Finalized) sizeHint() int {
	const perTx, fixed = crypto.DigestSize, 1 << 10
	return len(f.Block) + len(f.Receipts) + len(f.list.Bytes()) + len(f.Txs)*perTx + fixed
}

// writer fills a batch; after the first error it does nothing.
type writer struct {
	b   *pebble.Batch
	err error
}

func (w *writer) set(key, value []byte) {
	if w.err == nil {
		w.err = w.b.Set(key, value, nil)
	}
}

// setIn adds prefix ‖ key → value without a copy of its own.
func (w *writer) setIn(table byte, key, value []byte) {
	if w.err != nil {
		return
	}
	op := w.b.SetDeferred(1+len(key), len(value))
	op.Key[0] = table
	copy(op.Key[1:], key)
	copy(op.Value, value)
	w.err = op.Finish()
}

func (w *writer) block(f *Finalized, tip Tip, made uint64) {
	for table, data := range map[byte][]byte{
		tableHeader:      f.Header,
		tableBlock:       f.Block,
		tableCertificate: f.Certificate,
		tableReceipts:    f.Receipts,
	} {
		if len(data) > 0 {
			w.set(heightKey(table, f.Height), data)
		}
	}
	w.set(digestKey(tableDigest, f.Digest), numberBytes(uint64(f.Height)))
	w.set(heightKey(tableTip, f.Height), slices.Concat(tip.Digest[:], tip.StateRoot[:], numberBytes(made)))
	w.set(metaKey(metaLatest), numberBytes(uint64(f.Height)))
}

func (w *writer) indexes(f *Finalized) {
	for _, o := range f.Orders {
		w.set(appendPosition(digestKey(tableOrder, o.Order), Position{f.Height, o.TxIndex}), nil)
	}
}

// changes adds the list of the block's changes.
func (w *writer) changes(f *Finalized) {
	if w.err != nil {
		return
	}
	op := w.b.SetDeferred(9, len(f.list.Bytes()))
	op.Key[0] = tableChanges
	binary.BigEndian.PutUint64(op.Key[1:], uint64(f.Height))
	copy(op.Value, f.list.Bytes())
	w.err = op.Finish()
}
