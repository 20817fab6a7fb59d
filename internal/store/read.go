package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Latest returns the last committed block, and false if there is none.
func (s *Store) Latest() (Tip, bool) {
	tip := s.latest.Load()
	if tip == nil {
		return Tip{}, false
	}
	return *tip, true
}

// Tip returns the digest and the state root of a committed block.
func (s *Store) Tip(height chain.Height) (Tip, bool, error) {
	data, ok, err := s.get(heightKey(tableTip, height))
	if err != nil || !ok {
		return Tip{}, false, err
	}
	if len(data) != 2*crypto.DigestSize {
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

// TxPosition returns where a transaction is.
func (s *Store) TxPosition(id crypto.Digest) (Position, bool, error) {
	data, ok, err := s.get(digestKey(tableTx, id))
	if err != nil || !ok {
		return Position{}, false, err
	}
	p, err := positionOf(data)
	return p, err == nil, err
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

// OpenTree opens the state tree after a committed block: any since TreeMark, and
// older ones that were written and are not pruned. It is state.ErrNoVersion for
// any other.
func (s *Store) OpenTree(height chain.Height) (*state.Tree, error) {
	from, replay := height, false
	if written, ok := s.TreeMark(); ok && uint64(height) > written.Version {
		from, replay = chain.Height(written.Version), true
	}
	tip, ok, err := s.Tip(from)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %d", state.ErrNoVersion, height)
	}
	tree, err := state.OpenTree(s, tip.Mark(), state.DefaultResidentNodes)
	for replay && err == nil && from < height {
		from++
		tree, err = s.replayChanges(tree, from)
	}
	return tree, err
}

// replayChanges returns the tree after a block, from the one before it.
func (s *Store) replayChanges(tree *state.Tree, height chain.Height) (*state.Tree, error) {
	data, ok, err := s.get(heightKey(tableChanges, height))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %d", state.ErrNoVersion, height)
	}
	changes, err := changesOf(data)
	if err != nil {
		return nil, fmt.Errorf("store: changes of block %d: %w", height, err)
	}
	tip, _, err := s.Tip(height)
	if err != nil {
		return nil, err
	}
	next, err := tree.Next(uint64(height), changes, 1)
	if err == nil && next.Root() != tip.StateRoot {
		err = fmt.Errorf("%w: changes of block %d lead to root %s, want %s", ErrCorrupt, height, next.Root().Short(), tip.StateRoot.Short())
	}
	return next, err
}

// State reads the flat state after the latest committed block, whichever that
// is at the moment of each read. Execution puts its overlays on it; who needs
// several reads to agree takes a Snapshot.
func (s *Store) State() state.Reader { return flat{s.db} }

// Snapshot is the flat state after one block. Close it soon: it keeps what is
// overwritten since from being reclaimed.
type Snapshot struct {
	flat
	snapshot *pebble.Snapshot
	tip      Tip
}

// Snapshot returns the state after the latest committed block.
func (s *Store) Snapshot() (*Snapshot, error) {
	snapshot := s.db.NewSnapshot()
	tip, err := tipOf(snapshot)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: taking a snapshot: %w", err), snapshot.Close())
	}
	return &Snapshot{flat: flat{snapshot}, snapshot: snapshot, tip: tip}, nil
}

// tipOf reads the latest tip from the snapshot itself, since a block may have
// been committed in between.
func tipOf(r pebble.Reader) (Tip, error) {
	data, ok, err := appendValue(r, nil, metaKey(metaLatest))
	if err != nil || !ok {
		return Tip{}, err
	}
	height, err := numberOf(data)
	if err != nil {
		return Tip{}, err
	}
	roots, ok, err := appendValue(r, nil, heightKey(tableTip, chain.Height(height)))
	if err == nil && (!ok || len(roots) != 2*crypto.DigestSize) {
		err = fmt.Errorf("%w: tip %d of %d bytes", ErrCorrupt, height, len(roots))
	}
	if err != nil {
		return Tip{}, err
	}
	tip := Tip{Height: chain.Height(height)}
	copy(tip.StateRoot[:], roots[copy(tip.Digest[:], roots):])
	return tip, nil
}

// Tip returns the block after which the state is; zero before the first.
func (s *Snapshot) Tip() Tip { return s.tip }

// Close releases the snapshot.
func (s *Snapshot) Close() error { return s.snapshot.Close() }

// flat reads the flat state of a database or a snapshot of it.
type flat struct{ r pebble.Reader }

var (
	_ state.Reader     = flat{}
	_ state.NodeReader = (*Store)(nil)
)

// Get returns the value of key.
func (f flat) Get(key []byte) ([]byte, bool) {
	var buf [1 + state.MaxKeyBytes]byte
	value, ok, err := appendValue(f.r, nil, append(append(buf[:0], tableState), key...))
	if err != nil {
		panic(&state.Fault{Op: fmt.Sprintf("reading %x", key), Err: err})
	}
	return value, ok
}

// Iterate yields the pairs with start ≤ key < end.
func (f flat) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		upper := []byte{tableState + 1}
		if end != nil {
			upper = stateKey(end)
		}
		for it, err := range scan(f.r, stateKey(start), upper) {
			var value []byte
			if err == nil {
				value, err = it.ValueAndErr()
			}
			if err != nil {
				panic(&state.Fault{Op: fmt.Sprintf("iterating from %x", start), Err: err})
			}
			if !yield(bytes.Clone(it.Key()[1:]), append([]byte{}, value...)) {
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
			yield(nil, err)
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			if !yield(it, nil) {
				closeRead(it)
				return
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			yield(nil, err)
		}
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
		return dst, false, fmt.Errorf("store: reading %x: %w", key, err)
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
