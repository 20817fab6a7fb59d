package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Latest returns the last committed block, and false if there is none.
func (s *Store) Latest() (Tip, bool) {
	if tip := s.view.Load().tip; tip != nil {
		return *tip, true
	}
	return Tip{}, false
}

// Tip returns the digest and the state root of a committed block.
func (s *Store) Tip(height chain.Height) (Tip, bool, error) {
	data, ok, err := s.get(heightKey(tableTip, height))
	if err != nil || !ok {
		return Tip{}, false, err
	}
	if len(data) != tipBytes && len(data) != tipBytes+8 {
		return Tip{}, false, fmt.Errorf("%w: tip %d of %d bytes", ErrCorrupt, height, len(data))
	}
	tip := Tip{Height: height}
	copy(tip.StateRoot[:], data[copy(tip.Digest[:], data):])
	return tip, true, nil
}

// Header returns the encoded header of a committed block.
func (s *Store) Header(height chain.Height) ([]byte, bool, error) {
	return s.get(heightKey(tableHeader, height))
}

// Block returns a committed block, encoded.
func (s *Store) Block(height chain.Height) ([]byte, bool, error) {
	return s.get(heightKey(tableBlock, height))
}

// Certificate returns the encoded certificate of a committed block.
func (s *Store) Certificate(height chain.Height) ([]byte, bool, error) {
	return s.get(heightKey(tableCertificate, height))
}

// Receipts returns the encoded receipts of a committed block.
func (s *Store) Receipts(height chain.Height) ([]byte, bool, error) {
	return s.get(heightKey(tableReceipts, height))
}

// HeightOf returns the height of the block with a header digest.
func (s *Store) HeightOf(digest crypto.Digest) (chain.Height, bool, error) {
	height, ok, err := s.number(digestKey(tableDigest, digest))
	return chain.Height(height), ok, err
}

// OrderPositions returns where the transactions that concern an order are, in
// the order of the chain: the first limit ones at or after from.
func (s *Store) OrderPositions(order crypto.Digest, from Position, limit int) ([]Position, error) {
	prefix := digestKey(tableOrder, order)
	var out []Position
	var fault error
	for key, err := range scan(s.db, appendPosition(bytes.Clone(prefix), from), successor(prefix)) {
		if fault = err; fault != nil || len(out) >= limit {
			break
		}
		p, err := positionOf(key.Key()[len(prefix):])
		if fault = err; fault != nil {
			break
		}
		out = append(out, p)
	}
	if fault != nil {
		return nil, fmt.Errorf("store: transactions of order %s: %w", order.Short(), fault)
	}
	return out, nil
}

// AppendNode appends a record of the state tree to dst: Store is the tree's
// state.NodeReader.
func (s *Store) AppendNode(dst, key []byte) ([]byte, bool, error) {
	var buf [64]byte
	return appendValue(s.db, dst, append(append(buf[:0], tableNode), key...))
}

// ReadNodes hands out records of the state tree, whose keys ascend, in one pass over
// the tables: Store is the tree's state.ManyReader.
func (s *Store) ReadNodes(keys [][]byte, take func(i int, record []byte) error) (err error) {
	it, err := s.db.NewIter(boundsOf(tableNode))
	if err != nil {
		return named(err)
	}
	defer func() { err = joinRead(err, it) }()
	var at []byte
	for i, key := range keys {
		at = append(append(at[:0], tableNode), key...)
		var record []byte
		if it.SeekGE(at) && bytes.Equal(it.Key(), at) {
			if record, err = it.ValueAndErr(); err != nil {
				return fmt.Errorf("store: reading %x: %w", at, err)
			}
		} else if err := it.Error(); err != nil {
			return fmt.Errorf("store: reading %x: %w", at, err)
		}
		if err := take(i, record); err != nil {
			return err
		}
	}
	return nil
}

// NewTree returns the tree of the empty state.
func (s *Store) NewTree() *state.Tree { return state.NewTree(s, s.residentBytes) }

// OpenTree opens the state tree after a committed block: any since TreeMark, and
// older ones that were written and are not pruned. It is state.ErrNoVersion for
// any other.
func (s *Store) OpenTree(height chain.Height) (*state.Tree, error) {
	s.mu.Lock()
	v, mark := s.view.Load(), s.tree.Load()
	s.mu.Unlock()
	if v.tip != nil && height > v.tip.Height {
		return nil, fmt.Errorf("%w: %d", state.ErrNoVersion, height)
	}
	if mark == nil || uint64(height) > mark.Version {
		return s.replay(mark, v.blocks(uint64(height)))
	}
	if pruned, err := s.PrunedBefore(); err != nil || uint64(height) < pruned {
		if point, errPoint := s.IsPoint(height + 1); err != nil || !point {
			return nil, errors.Join(fmt.Errorf("%w: %d, those before %d are pruned", state.ErrNoVersion, height, pruned), err, errPoint)
		}
	}
	tip, ok, err := s.Tip(height)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %d", state.ErrNoVersion, height)
	}
	return state.OpenTree(s, tip.Mark(), s.residentBytes)
}

// replay returns the tree after the last of some blocks, from the version on
// disk.
func (s *Store) replay(mark *state.Mark, blocks []pendingBlock) (tree *state.Tree, err error) {
	tree = s.NewTree()
	if mark != nil {
		if tree, err = state.OpenTree(s, *mark, s.residentBytes); err != nil {
			return nil, err
		}
	}
	for _, b := range blocks {
		if mark != nil && b.height <= mark.Version {
			continue
		}
		tip, _, err := s.Tip(chain.Height(b.height))
		if err != nil {
			return nil, err
		}
		before := tree
		if tree, err = before.Next(b.height, b.changes.Changes(), runtime.GOMAXPROCS(0)); err != nil {
			return nil, err
		}
		before.Release()
		if tree.Root() != tip.StateRoot {
			return nil, fmt.Errorf("%w: changes of block %d lead to root %s, want %s", ErrCorrupt, b.height, tree.Root().Short(), tip.StateRoot.Short())
		}
	}
	return tree, nil
}

// State reads the flat state after the latest committed block, whichever that
// is at the moment of each read. Execution puts its overlays on it; who needs
// several reads to agree takes a Snapshot.
func (s *Store) State() state.Reader { return latest{s} }

type latest struct{ s *Store }

// Get returns the value of key.
func (l latest) Get(key []byte) ([]byte, bool) {
	return flat{
		r: l.s.db, view: l.s.view.Load(), height: math.MaxUint64,
		records: l.s.records, generation: l.s.records.generation.Load(), latest: true,
	}.Get(key)
}

// Iterate yields the pairs with start ≤ key < end.
func (l latest) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		snapshot := l.s.snapshot()
		defer closeRead(snapshot)
		snapshot.Iterate(start, end)(yield)
	}
}

// Snapshot is the flat state after one block. Close it soon: it keeps what is
// overwritten since from being reclaimed.
type Snapshot struct {
	flat
	snapshot *pebble.Snapshot
	disk     *failStop
}

// Snapshot returns the state after the latest committed block.
func (s *Store) Snapshot() (*Snapshot, error) { return s.snapshot(), nil }

func (s *Store) snapshot() *Snapshot {
	s.mu.Lock() // so that no later block is in the tables
	defer s.mu.Unlock()
	v := s.view.Load()
	height := uint64(0)
	if v.tip != nil {
		height = uint64(v.tip.Height)
	}
	generation := s.records.generation.Load()
	snapshot := s.db.NewSnapshot()
	return &Snapshot{
		flat:     flat{r: snapshot, idle: &idle{}, view: v, height: height, gaps: s.gaps, records: s.records, generation: generation},
		snapshot: snapshot, disk: s.disk,
	}
}

// Tip returns the block after which the state is; zero before the first.
func (s *Snapshot) Tip() Tip {
	if s.view.tip == nil {
		return Tip{}
	}
	return *s.view.tip
}

// Close releases the snapshot, of which nothing may be read any more.
func (s *Snapshot) Close() error {
	s.idle.close()
	return s.disk.call(s.snapshot.Close) // the database looks then for what it may compact
}

// flat reads a flat state: the tables' with the pending changes up to a height.
type flat struct {
	r      pebble.Reader
	idle   *idle // who iterates needs some
	view   *view
	height uint64
	gaps   *gaps // who iterates looks into it

	records    *records
	generation uint64 // of the records, not later than r
	latest     bool   // r is the tables themselves
}

var (
	_ state.ScanReader  = flat{}
	_ state.Reader      = latest{}
	_ state.ManyReader  = (*Store)(nil)
	_ state.ArenaReader = (*Store)(nil)
)

// Get returns the value of key.
func (f flat) Get(key []byte) ([]byte, bool) {
	if c, ok := f.view.get(key, f.height); ok {
		return c.Value, !c.Deleted
	}
	if len(key) == 0 {
		return nil, false
	}
	of := f.generation
	if f.latest {
		of = anyGeneration
	}
	if value, ok := f.records.get(key, of); ok {
		return value, true
	}
	if f.records.lacks(key, of) {
		return nil, false
	}
	var buf [1 + state.MaxKeyBytes]byte
	value, ok, err := appendValue(f.r, nil, append(append(buf[:0], tableState), key...))
	if err != nil {
		panic(&state.Fault{Op: fmt.Sprintf("reading %x", key), Err: err})
	}
	if ok {
		f.records.put(key, value, f.generation)
	} else {
		f.records.lack(key, f.generation)
	}
	return value, ok
}

// Iterate yields the pairs with start ≤ key < end.
func (f flat) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for key, value := range f.Scan(start, end) {
			if !yield(bytes.Clone(key), append([]byte{}, value...)) {
				return
			}
		}
	}
}

// scan yields an iterator at every key in [lower, upper). It ends after the
// first error.
func scan(r pebble.Reader, lower, upper []byte) iter.Seq2[*pebble.Iterator, error] {
	return func(yield func(*pebble.Iterator, error) bool) {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			yield(nil, named(err))
			return
		}
		defer closeRead(it) // though the loop's body panics; what went wrong is in Error
		for ok := it.First(); ok; ok = it.Next() {
			if !yield(it, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, named(err))
		}
	}
}

// idle keeps an iterator of a snapshot for the next who wants one: making one
// takes far longer than moving it.
type idle struct {
	mu     sync.Mutex
	it     *tableIter
	closed bool
}

func (i *idle) take(r pebble.Reader, lower, upper []byte) (*tableIter, error) {
	i.mu.Lock()
	it := i.it
	i.it = nil
	i.mu.Unlock()
	if it == nil {
		return newTableIter(r, lower, upper)
	}
	it.SetBounds(lower, upper)
	return it, nil
}

// give takes an iterator back, or closes it.
func (i *idle) give(it *tableIter) {
	it.run = nil
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.it == nil && !i.closed && it.Error() == nil {
		i.it = it
		return
	}
	closeRead(it)
}

func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed = true; i.it != nil {
		closeRead(i.it)
		i.it = nil
	}
}

// closeRead closes an iterator whose reader has what it wanted: an error of
// the part that was not read concerns nobody.
func closeRead(c io.Closer) { _ = c.Close() }

// successor returns the first key after all that begin with prefix, which does
// not end in 0xff bytes alone.
func successor(prefix []byte) []byte {
	next := bytes.Clone(prefix)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return next[:i+1]
		}
	}
	return nil
}

// appendValue appends the value of key to dst. A value that is there is never
// nil.
func appendValue(r pebble.Reader, dst, key []byte) ([]byte, bool, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, fmt.Errorf("store: reading %x: %w", key, named(err))
	}
	if dst == nil {
		dst = make([]byte, 0, len(value))
	}
	dst = append(dst, value...)
	if err := closer.Close(); err != nil {
		return dst, false, fmt.Errorf("store: reading %x: %w", key, err)
	}
	return dst, true, nil
}

func (s *Store) get(key []byte) ([]byte, bool, error) { return appendValue(s.db, nil, key) }

func (s *Store) number(key []byte) (uint64, bool, error) {
	data, ok, err := s.get(key)
	if err != nil || !ok {
		return 0, false, err
	}
	if len(data) != 8 {
		return 0, false, fmt.Errorf("%w: number of %d bytes", ErrCorrupt, len(data))
	}
	return binary.BigEndian.Uint64(data), true, nil
}
