package store

import (
	"bytes"
	"errors"
	"fmt"
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
	// ErrCorrupt says that a record of the database cannot be what was written.
	ErrCorrupt = errors.New("store: record is corrupt")
)

// Store holds what a node has finalized.
type Store struct {
	db     *pebble.DB
	lock   *pebble.Lock
	sync   *pebble.WriteOptions
	latest atomic.Pointer[Tip] // nil: nothing is committed
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

func open(fs vfs.FS, dir string, options Options) (*Store, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("store: making %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
	}
	db, err := pebble.Open(dir, options.pebble(fs, lock))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening %s: %w", dir, err), lock.Close())
	}
	s := &Store{db: db, lock: lock, sync: options.sync()}
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
		return s.db.Set(metaKey(metaFormat), []byte{formatVersion}, s.sync)
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
	s.latest.Store(&tip)
	return err
}

// Close ends the database's work and releases the directory. Snapshots must be
// closed before.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.lock.Close()) }

// Finalized is a block with everything that is stored for it. An empty Header,
// Block, Certificate or Receipts is not stored: genesis has none of some.
type Finalized struct {
	Height chain.Height
	Digest crypto.Digest // of the header

	Header      []byte
	Block       []byte
	Certificate []byte
	Receipts    []byte

	Changes []state.Change // from the state before to the one after the block
	Tree    *state.Tree    // after the block; its version is the height

	Txs    []crypto.Digest // ids of the transactions, in the block's order
	Orders []OrderEntry
}

// OrderEntry says that a transaction of the block concerns an order.
type OrderEntry struct {
	Order   crypto.Digest
	TxIndex uint32
}

// Commit stores a finalized block: all of it is durable when Commit returns
// nil, and none of it otherwise. It is ErrHeight unless the block is the next
// one. The caller then tells later trees, through Tree.Persisted.
func (s *Store) Commit(f Finalized) error {
	last := s.latest.Load()
	if last != nil && f.Height != last.Height+1 {
		return fmt.Errorf("%w: %d after %d", ErrHeight, f.Height, last.Height)
	}
	mark, ok := f.Tree.Batch().Mark()
	if !ok || mark.Version != uint64(f.Height) {
		return fmt.Errorf("%w: the tree to commit with block %d has version %d, or is on disk already", ErrHeight, f.Height, f.Tree.Version())
	}
	tip := Tip{Height: f.Height, Digest: f.Digest, StateRoot: mark.Root}
	b := s.db.NewBatchWithSize(f.sizeHint())
	w := writer{b: b}
	w.block(&f, tip)
	w.indexes(&f)
	w.state(f.Changes)
	w.tree(f.Tree.Batch())
	if w.err != nil {
		return fmt.Errorf("store: block %d: %w", f.Height, errors.Join(w.err, b.Close()))
	}
	if err := s.db.Apply(b, s.sync); err != nil {
		return fmt.Errorf("store: committing block %d: %w", f.Height, errors.Join(err, b.Close()))
	}
	s.latest.Store(&tip)
	if err := b.Close(); err != nil {
		return fmt.Errorf("store: block %d is committed, but: %w", f.Height, err)
	}
	return nil
}

// sizeHint is about how many bytes the batch will take.
func (f *Finalized) sizeHint() int {
	const perChange, perTx, fixed = 1500, 64, 1 << 10
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

func (w *writer) tree(batch state.Batch) {
	for key, record := range batch.Nodes() {
		w.setIn(tableNode, key, record)
	}
	if list := batch.StaleList(); len(list) > 0 {
		mark, _ := batch.Mark()
		w.set(heightKey(tableStale, chain.Height(mark.Version)), list)
	}
}
