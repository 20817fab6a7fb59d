package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Import brings a state in from elsewhere, before the first block: range by range
// and in any order, then Finish makes the tree. The block after the state, which
// Commit stores as the first one, ends the import. It belongs to one goroutine
// at a time.
//
// What is put waits in memory until it is importPart of PendingBytes. Then it goes
// to the disk, beside what is put next, as tables: of the tree's leaves, which lie
// where no others come, one for each stretch of positions, and one of the flat state.
type Import struct {
	s       *Store
	version uint64

	parts    []importPart
	bytes    int    // of the parts in memory
	progress []byte // that the parts make
	number   int    // of writes
	under    *flushing
}

// importPart is all leaves of a range.
type importPart struct {
	r      state.Range
	leaves []state.Entry
}

const (
	// importShare is which part of PendingBytes waits in memory: it is there twice,
	// once waiting and once being written.
	importShare = 2
	// leafBytes is about what a leaf takes in memory beside its key and value.
	leafBytes = 96
)

// Import begins an import of the state of a version, or goes on with it: the
// goal names it, in the caller's words. It returns the progress last noted, nil
// at the beginning. Whatever another goal left is thrown away. It is ErrNotEmpty
// if there are blocks, and state.ErrNoVersion of a version that no tree can have.
func (s *Store) Import(goal []byte, version uint64) (*Import, []byte, error) {
	if version > state.MaxVersion {
		return nil, nil, fmt.Errorf("%w: %d is beyond the last", state.ErrNoVersion, version)
	}
	if _, some := s.Latest(); some {
		return nil, nil, ErrNotEmpty
	}
	if err := s.endImport(); err != nil {
		return nil, nil, err
	}
	i := &Import{s: s, version: version}
	named := append(numberBytes(version), goal...)
	stored, ok, err := s.get(metaKey(metaGoal))
	if err != nil {
		return nil, nil, err
	}
	if ok && bytes.Equal(stored, named) {
		progress, _, err := s.get(metaKey(metaImport))
		s.importing = i
		return i, progress, err
	}
	b := s.db.NewBatch()
	w := writer{b: b}
	for _, table := range []byte{tableState, tableNode, tableTip, tableEpoch, tablePoint} {
		some, err := s.has(table)
		if err != nil {
			return nil, nil, errors.Join(err, b.Close())
		}
		if some && w.err == nil {
			w.err = b.DeleteRange([]byte{table}, []byte{table + 1}, nil)
		}
	}
	w.imported()
	w.set(metaKey(metaGoal), named)
	s.tree.Store(nil)
	if err := i.apply(b, w.err, s.sync); err != nil {
		return nil, nil, err
	}
	s.importing = i
	return i, nil, nil
}

// endImport writes what waits of an import, if there is one, whose owner is done
// with it.
func (s *Store) endImport() error {
	i := s.importing
	s.importing = nil
	if i == nil {
		return nil
	}
	return i.Flush()
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

// Put adds all leaves that there are in a range, in ascending order of positions,
// together with what to note as the progress, nil: nothing. A crash may take the last Puts, each
// whole, up to PendingBytes of them.
func (i *Import) Put(r state.Range, leaves []state.Entry, progress []byte) error {
	for _, p := range i.parts {
		if p.r.From.Compare(r.To) <= 0 && r.From.Compare(p.r.To) <= 0 { // what is there twice cannot be in one table
			if err := i.flush(); err != nil {
				return err
			}
			break
		}
	}
	i.parts, i.progress = append(i.parts, importPart{r, leaves}), progress
	for n := range leaves {
		i.bytes += leafBytes + len(leaves[n].Key) + len(leaves[n].Value)
	}
	if i.bytes < i.s.pendingBytes/importShare {
		return nil
	}
	return i.flush()
}

// Flush puts on the disk what waits, and the State shows it.
func (i *Import) Flush() error { return errors.Join(i.flush(), i.end()) }

// flush begins to write the parts that wait, after those before them.
func (i *Import) flush() error {
	if err := i.end(); err != nil || len(i.parts) == 0 {
		return err
	}
	parts, progress := i.parts, i.progress
	i.parts, i.bytes = nil, 0
	i.number++
	number, under := i.number, &flushing{done: make(chan struct{})}
	i.under = under
	go func() {
		defer close(under.done)
		under.err = i.s.disk.call(func() error { return i.write(parts, progress, number) })
	}()
	return nil
}

// end waits for what is being written.
func (i *Import) end() error {
	if i.under == nil {
		return nil
	}
	select {
	case <-i.under.done:
	case <-i.s.disk.failed:
		return i.s.disk.err
	}
	if i.under.err != nil {
		return fmt.Errorf("store: importing a state: %w", i.under.err)
	}
	i.under = nil
	return nil
}

// write makes tables of some parts, and notes the progress once they are durable.
func (i *Import) write(parts []importPart, progress []byte, number int) error {
	slices.SortFunc(parts, func(a, b importPart) int { return a.r.From.Compare(b.r.From) })
	var paths []string
	var all []*state.Entry
	var w *sstable.Writer
	for n := range parts {
		p := &parts[n]
		if len(p.leaves) == 0 {
			continue
		}
		if w == nil || state.After(parts[n-1].r.To) != p.r.From {
			if err := closeTable(w); err != nil {
				return err
			}
			var path string
			var err error
			if w, path, err = i.s.newTable(fmt.Sprintf("import-%d-%d", number, n), tableNode, false); err != nil {
				return err
			}
			paths = append(paths, path)
		}
		for l := range p.leaves {
			e := &p.leaves[l]
			key, record := state.LeafRecord(i.version, *e)
			if err := w.Set(append([]byte{tableNode}, key...), record); err != nil {
				return errors.Join(err, w.Close())
			}
			all = append(all, e)
		}
	}
	if err := closeTable(w); err != nil {
		return err
	}
	path, err := i.writeFlat(all, number)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		if err := i.s.db.Ingest(context.Background(), append(paths, path)); err != nil {
			return err
		}
	}
	if progress == nil {
		return nil
	}
	return i.s.db.Set(metaKey(metaImport), progress, i.s.sync) // else it may wait in memory for the next record
}

func closeTable(w *sstable.Writer) error {
	if w == nil {
		return nil
	}
	return w.Close()
}

// writeFlat makes the table of the flat state of some leaves.
func (i *Import) writeFlat(all []*state.Entry, number int) (string, error) {
	if len(all) == 0 {
		return "", nil
	}
	slices.SortFunc(all, func(a, b *state.Entry) int { return bytes.Compare(a.Key, b.Key) })
	w, path, err := i.s.newTable(fmt.Sprintf("import-%d-flat", number), tableState, false)
	if err != nil {
		return "", err
	}
	var key []byte
	for _, e := range all {
		key = append(append(key[:0], tableState), e.Key...)
		if err := w.Set(key, e.Value); err != nil {
			return "", errors.Join(err, w.Close())
		}
	}
	return path, w.Close()
}

// has reports whether a table has any record.
func (s *Store) has(table byte) (bool, error) {
	for _, err := range scan(s.db, []byte{table}, []byte{table + 1}) {
		return err == nil, err
	}
	return false, nil
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
	err := i.Flush()
	var mark state.Mark
	if err == nil {
		mark, err = i.nodes()
	}
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
	i.s.tree.Store(&mark)
	return state.OpenTree(i.s, mark, i.s.residentBytes)
}

// nodes writes the tree's nodes above the leaves, as tables: at each depth they come
// with ascending paths, but for the pages of a node, which come after its other
// parts. Those that are late go into tables of their own.
func (i *Import) nodes() (mark state.Mark, err error) {
	turns := [2]nodeTables{{name: "first"}, {name: "late"}}
	builder := state.NewBuilder(i.version, func(key, record []byte) error {
		at := &turns[0]
		if !at.takes(key) {
			at = &turns[1]
		}
		return at.put(i.s, key, record)
	})
	err = i.s.disk.call(func() (err error) {
		mark, err = i.build(builder)
		for n := range turns {
			err = errors.Join(err, turns[n].end(i.s, err == nil))
		}
		return err
	})
	return mark, err
}

// nodeTables is a table for each depth of the tree.
type nodeTables struct {
	name string
	w    [1 << 8]*sstable.Writer
	last [1 << 8][]byte
	made []string
}

// takes reports whether a node is after those at its depth.
func (t *nodeTables) takes(key []byte) bool { return bytes.Compare(t.last[key[8]], key) < 0 }

func (t *nodeTables) put(s *Store, key, record []byte) (err error) {
	depth := key[8]
	if t.w[depth] == nil {
		var path string
		if t.w[depth], path, err = s.newTable(fmt.Sprintf("import-%s-%d", t.name, depth), tableNode, false); err != nil {
			return err
		}
		t.made = append(t.made, path)
	}
	t.last[depth] = append(t.last[depth][:0], key...)
	return t.w[depth].Set(append([]byte{tableNode}, key...), record)
}

// end closes the tables, and has the database take them in.
func (t *nodeTables) end(s *Store, ingest bool) (err error) {
	for _, w := range t.w {
		if w != nil {
			err = errors.Join(err, w.Close())
		}
	}
	if err != nil || !ingest || len(t.made) == 0 {
		return err
	}
	return s.db.Ingest(context.Background(), t.made)
}

// build gives the leaves to a builder.
func (i *Import) build(builder *state.Builder) (state.Mark, error) {
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
			return state.Mark{}, err
		}
	}
	return builder.Finish()
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
