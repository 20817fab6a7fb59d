package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	db     *pebble.DB
	disk   *failStop
	lock   io.Closer
	sync   *pebble.WriteOptions
	latest atomic.Pointer[Tip]        // nil: nothing is committed
	tree   atomic.Pointer[state.Mark] // last version written; nil like latest

	treeInterval uint64 // in blocks
	pending      int    // bytes of changes since the tree was written

	// closings is the heights of the last two blocks that ended epochs: the
	// versions of the tree before them stay, see Prune.
	closings atomic.Pointer[[]uint64]
}

// maxPendingBytes bounds the changes after which the tree is written though the
// interval is not over.
const maxPendingBytes = 16 << 20

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

func open(fs vfs.FS, dir string, options Options) (*Store, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("store: making %s: %w", dir, err)
	}
	lock, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
	}
	disk := newFailStop(fs)
	var db *pebble.DB
	err = disk.call(func() (err error) {
		db, err = pebble.Open(dir, options.pebble(disk))
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening %s: %w", dir, err), lock.Close())
	}
	s := &Store{db: db, disk: disk, lock: lock, sync: options.sync(), treeInterval: uint64(options.TreeInterval)}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening %s: %w", dir, err), s.Close())
	}
	return s, nil
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
	case !ok:
		return s.disk.call(func() error { return s.db.Set(metaKey(metaFormat), []byte{formatVersion}, s.sync) })
	case !bytes.Equal(format, []byte{formatVersion}):
		return fmt.Errorf("%w: version %x, this program has %d", ErrFormat, format, formatVersion)
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
	written, _, err := s.number(metaKey(metaTree))
	if err != nil {
		return err
	}
	treeTip, ok, err := s.Tip(chain.Height(written))
	if err == nil && !ok {
		err = fmt.Errorf("%w: the tree's last height is %d, which has no tip", ErrCorrupt, written)
	}
	if err != nil {
		return err
	}
	mark := treeTip.Mark()
	s.latest.Store(&tip)
	s.tree.Store(&mark)
	return s.loadClosings()
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
		return s.lock.Close()
	}
	return errors.Join(s.disk.call(s.db.Close), s.lock.Close())
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
	// the tree after it, whose version is the height. It descends from OpenTree
	// of this store, or from NewTree if that was empty.
	Changes []state.Change
	Tree    *state.Tree

	Txs    []crypto.Digest // ids of the transactions, in the block's order
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
// blocks the tree goes with it: see TreeMark.
func (s *Store) Commit(f Finalized) error {
	last := s.latest.Load()
	if last != nil && f.Height != last.Height+1 {
		return fmt.Errorf("%w: %d after %d", ErrHeight, f.Height, last.Height)
	}
	tree, err := s.checkTree(&f)
	if err != nil {
		return err
	}
	tip := Tip{Height: f.Height, Digest: f.Digest, StateRoot: tree.Root()}
	b := s.db.NewBatchWithSize(f.sizeHint())
	w := writer{b: b}
	w.block(&f, tip)
	w.indexes(&f)
	w.state(f.Changes)
	written, pending := s.tree.Load(), s.pending
	if f.Closing != nil {
		if written, err = w.closing(&f, written); err != nil {
			return errors.Join(err, b.Close())
		}
		tree, pending = tree.Persisted(*written), 0
	}
	if written == nil || uint64(f.Height)-written.Version >= s.treeInterval || pending >= maxPendingBytes {
		w.tree(tree)
		mark := tip.Mark()
		written, pending = &mark, 0
	} else {
		pending += w.changes(&f)
	}
	if last == nil {
		w.imported()
	}
	if w.err != nil {
		return fmt.Errorf("store: block %d: %w", f.Height, errors.Join(w.err, b.Close()))
	}
	if err := s.disk.call(func() error { return s.db.Apply(b, s.sync) }); err != nil {
		return fmt.Errorf("store: committing block %d: %w", f.Height, err) // the batch may still be in use
	}
	s.tree.Store(written)
	s.pending = pending
	s.latest.Store(&tip)
	if f.Closing != nil {
		s.closed(uint64(f.Height))
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("store: block %d is committed, but: %w", f.Height, err)
	}
	return nil
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
	const perChange, perTx, fixed = 300, 64, 1 << 10
	return len(f.Block) + len(f.Receipts) + len(f.Changes)*perChange + len(f.Txs)*perTx + fixed
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

func (w *writer) block(f *Finalized, tip Tip) {
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
	w.set(heightKey(tableTip, f.Height), append(tip.Digest[:], tip.StateRoot[:]...))
	w.set(metaKey(metaLatest), numberBytes(uint64(f.Height)))
}

func (w *writer) indexes(f *Finalized) {
	for i, id := range f.Txs {
		w.set(digestKey(tableTx, id), appendPosition(nil, Position{f.Height, uint32(i)}))
	}
	for _, o := range f.Orders {
		w.set(appendPosition(digestKey(tableOrder, o.Order), Position{f.Height, o.TxIndex}), nil)
	}
}

func (w *writer) state(changes []state.Change) {
	for _, c := range changes {
		if !c.Deleted {
			w.setIn(tableState, c.Key, c.Value)
		} else if w.err == nil {
			w.err = w.b.Delete(stateKey(c.Key), nil)
		}
	}
}

// changes adds the block's changes, instead of the tree, and returns their
// size in bytes.
func (w *writer) changes(f *Finalized) int {
	data := appendChanges(nil, f.Changes)
	w.set(heightKey(tableChanges, f.Height), data)
	return len(data)
}

// tree adds what is new in the tree since it was written, and removes the
// changes in between.
func (w *writer) tree(tree *state.Tree) {
	version := tree.Version()
	for key, record := range tree.Batch().Nodes() {
		w.setIn(tableNode, key, record)
	}
	if list := tree.Batch().StaleList(); len(list) > 0 {
		w.set(heightKey(tableStale, chain.Height(version)), list)
	}
	w.set(metaKey(metaTree), numberBytes(version))
	if durable, some := tree.Durable(); some {
		for between := durable.Version + 1; between < version && w.err == nil; between++ {
			w.err = w.b.Delete(heightKey(tableChanges, chain.Height(between)), nil)
		}
	}
}
