package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// importChunk is how many bytes of tree nodes share a batch.
const importChunk = 1 << 20

// Import brings a state in from elsewhere, before the first block: leaf by leaf
// and in any order, then Finish makes the tree. The block after the state, which
// Commit stores as the first one, ends the import. It belongs to one goroutine
// at a time.
type Import struct {
	s       *Store
	version uint64
}

// Import begins an import of the state of a version, or goes on with it: the
// goal names it, in the caller's words. It returns the progress last noted, nil
// at the beginning. Whatever another goal left is thrown away. It is ErrNotEmpty
// if there are blocks.
func (s *Store) Import(goal []byte, version uint64) (*Import, []byte, error) {
	if _, some := s.Latest(); some {
		return nil, nil, ErrNotEmpty
	}
	i := &Import{s: s, version: version}
	named := append(numberBytes(version), goal...)
	stored, ok, err := s.get(metaKey(metaGoal))
	if err != nil {
		return nil, nil, err
	}
	if ok && bytes.Equal(stored, named) {
		progress, _, err := s.get(metaKey(metaImport))
		return i, progress, err
	}
	b := s.db.NewBatch()
	w := writer{b: b}
	for _, table := range []byte{tableState, tableNode, tableTip, tableEpoch} {
		if w.err == nil {
			w.err = b.DeleteRange([]byte{table}, []byte{table + 1}, nil)
		}
	}
	w.imported()
	w.set(metaKey(metaGoal), named)
	s.tree.Store(nil)
	if err := i.apply(b, w.err, s.sync); err != nil {
		return nil, nil, err
	}
	return i, nil, nil
}

// imported removes what is noted of an import.
func (w *writer) imported() {
	w.delete(metaKey(metaGoal))
	w.delete(metaKey(metaImport))
}

func (i *Import) apply(b *pebble.Batch, err error, sync *pebble.WriteOptions) error {
	if err != nil {
		return fmt.Errorf("store: importing a state: %w", errors.Join(err, b.Close()))
	}
	if err := i.s.disk.call(func() error { return i.s.db.Apply(b, sync) }); err != nil {
		return fmt.Errorf("store: importing a state: %w", err)
	}
	return b.Close()
}

// Put adds leaves together with what to note as the progress. A crash may take
// the last Puts, each whole.
func (i *Import) Put(leaves []state.Entry, progress []byte) error {
	b := i.s.db.NewBatch()
	w := writer{b: b}
	for _, e := range leaves {
		w.setIn(tableState, e.Key, e.Value)
		key, record := state.LeafRecord(i.version, e)
		w.setIn(tableNode, key, record)
	}
	w.set(metaKey(metaImport), progress)
	return i.apply(b, w.err, pebble.NoSync)
}

// PutEpoch notes how an epoch ended whose blocks are not stored.
func (i *Import) PutEpoch(end EpochEnd) error {
	b := i.s.db.NewBatch()
	w := writer{b: b}
	w.epochEnd(end.Epoch, end.Height, end.Record)
	return i.apply(b, w.err, pebble.NoSync)
}

// Finish makes the tree of all leaves, durably, and returns it. The block before
// the one to come is said to be before, and the chain to begin with the genesis
// of that digest. It is state.ErrWrongRoot if the leaves do not make before's
// state; doing it again after a crash does no harm.
func (i *Import) Finish(before Tip, genesis crypto.Digest) (*state.Tree, error) {
	if before.Mark().Version != i.version {
		return nil, fmt.Errorf("%w: the state after block %d, imported is version %d", ErrHeight, before.Height, i.version)
	}
	mark, err := i.nodes()
	if err != nil {
		return nil, fmt.Errorf("store: making the tree of an imported state: %w", err)
	}
	if mark != before.Mark() {
		return nil, fmt.Errorf("%w: imported is %s, block %d has %s", state.ErrWrongRoot, mark.Root, before.Height, before.StateRoot)
	}
	b := i.s.db.NewBatch()
	w := writer{b: b}
	w.set(heightKey(tableTip, 0), append(genesis[:], make([]byte, crypto.DigestSize)...))
	w.set(heightKey(tableTip, before.Height), append(before.Digest[:], before.StateRoot[:]...))
	w.set(markKey, numberBytes(mark.Version))
	if err := i.apply(b, w.err, i.s.sync); err != nil {
		return nil, err
	}
	if err := i.s.loadClosings(); err != nil {
		return nil, err
	}
	i.s.tree.Store(&mark)
	return state.OpenTree(i.s, mark, state.DefaultResidentBytes)
}

// nodes writes the tree's nodes above the leaves.
func (i *Import) nodes() (state.Mark, error) {
	b := i.s.db.NewBatch()
	builder := state.NewBuilder(i.version, func(key, record []byte) error {
		if err := b.Set(append([]byte{tableNode}, key...), record, nil); err != nil || b.Len() < importChunk {
			return err
		}
		full := b
		b = i.s.db.NewBatch()
		return i.apply(full, nil, pebble.NoSync)
	})
	lower, upper := state.LeafKeys(i.version)
	for it, err := range scan(i.s.db, append([]byte{tableNode}, lower...), append([]byte{tableNode}, upper...)) {
		var record []byte
		if err == nil {
			record, err = it.ValueAndErr()
		}
		if err == nil {
			err = builder.AddRecord(it.Key()[1:], record)
		}
		if err != nil {
			return state.Mark{}, errors.Join(err, b.Close())
		}
	}
	mark, err := builder.Finish()
	if err != nil {
		return state.Mark{}, errors.Join(err, b.Close())
	}
	return mark, i.apply(b, nil, pebble.NoSync)
}

// boundsOf returns the bounds of a table's keys.
func boundsOf(table byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: []byte{table}, UpperBound: []byte{table + 1}}
}

// joinRead closes an iterator and returns the first of the errors.
func joinRead(err error, it *pebble.Iterator) error {
	return named(errors.Join(err, it.Error(), it.Close()))
}

// ImportGoal returns the goal of the import under way, and false if there is
// none.
func (s *Store) ImportGoal() (goal []byte, version chain.Height, ok bool, err error) {
	stored, ok, err := s.get(metaKey(metaGoal))
	if err != nil || !ok {
		return nil, 0, false, err
	}
	if len(stored) < 8 {
		return nil, 0, false, fmt.Errorf("%w: goal of %d bytes", ErrCorrupt, len(stored))
	}
	n, err := numberOf(stored[:8])
	return stored[8:], chain.Height(n), err == nil, err
}
