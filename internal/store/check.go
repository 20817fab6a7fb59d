package store

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// StateCheck is what CheckState found.
type StateCheck struct {
	Tip         Tip
	Keys        uint64            // of the flat state
	Bytes       uint64            // of its keys and values
	Root        crypto.Digest     // recomputed from the flat state
	Tree        state.TreeSize    // of the latest version
	Differences uint64            // keys about which the flat state (A) and the tree (B) do not agree
	First       *state.Difference // the first of them by position
}

// Sound reports whether flat state, tree and the root that the block has agree.
func (c *StateCheck) Sound() bool { return c.Differences == 0 && c.Root == c.Tip.StateRoot }

// sortBytes is about how much memory a pass over the flat state takes.
const sortBytes = 256 << 20

// CheckState recomputes the root of the latest state from every key and value,
// and compares these with the tree's, whose records are each held against their
// digests. An error names the record that cannot be read, or does not hold.
func (s *Store) CheckState(ctx context.Context) (c StateCheck, err error) {
	defer recoverFault(&err)
	tip, ok := s.Latest()
	if !ok {
		return c, fmt.Errorf("%w: there is no block", ErrFormat)
	}
	c.Tip = tip
	flat := s.State()
	for key, value := range flat.Iterate(nil, nil) {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		c.Keys++
		c.Bytes += uint64(len(key) + len(value))
	}
	tree, err := s.OpenTree(tip.Height)
	if err != nil {
		return c, err
	}
	builder := state.NewBuilder(uint64(tip.Height), func([]byte, []byte) error { return nil })
	built := func(yield func(state.Entry, error) bool) {
		for e, err := range byPosition(flat, int((c.Bytes+200*c.Keys)/sortBytes)+1) {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				err = builder.Add(e)
			}
			if !yield(e, err) {
				return
			}
		}
	}
	for d, err := range state.Diff(built, tree.Checked(&c.Tree)) {
		if err != nil {
			return c, err
		}
		if c.Differences++; c.First == nil {
			c.First = &d
		}
	}
	mark, err := builder.Finish()
	c.Root = mark.Root
	if c.Keys == 0 {
		c.Root = crypto.Digest{}
	}
	return c, err
}

// byPosition yields a state by ascending position, in so many passes.
func byPosition(r state.Reader, passes int) iter.Seq2[state.Entry, error] {
	passes = min(passes, 256)
	return func(yield func(state.Entry, error) bool) {
		for pass := range passes {
			var part []state.Entry
			for key, value := range r.Iterate(nil, nil) {
				if position := state.Position(key); int(position[0])*passes/256 == pass {
					part = append(part, state.Entry{Position: position, Key: key, Value: value})
				}
			}
			slices.SortFunc(part, func(a, b state.Entry) int { return a.Position.Compare(b.Position) })
			for _, e := range part {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// recoverFault makes an error of the panic of a reader whose disk failed.
func recoverFault(err *error) {
	if p := recover(); p != nil {
		fault, ok := p.(*state.Fault)
		if !ok {
			panic(p)
		}
		*err = fault
	}
}

// FirstBlock returns the height of the first block that is stored whole, and
// false if none is.
func (s *Store) FirstBlock() (chain.Height, bool, error) {
	for it, err := range scan(s.db, heightKey(tableBlock, 0), heightKey(tableBlock+1, 0)) {
		if err != nil {
			return 0, false, fmt.Errorf("store: looking for the first block: %w", err)
		}
		height, err := numberOf(it.Key()[1:])
		return chain.Height(height), err == nil, err
	}
	return 0, false, nil
}

// tableNames says what the tables are, for people.
var tableNames = map[byte]string{
	tableTip: "tips", tableHeader: "headers", tableBlock: "blocks", tableCertificate: "certificates", tableReceipts: "receipts", tableDigest: "digest index",
	tableTx: "transaction index", tableOrder: "order index", tableState: "flat state", tableNode: "tree", tableStale: "stale lists", tableHeld: "held lists", tableChanges: "changes", tableBlockTxs: "transactions of blocks",
	tableEpoch: "epoch ends", tablePoint: "points",
}

// Stat is how large a store is.
type Stat struct {
	DiskBytes  uint64            // of all its files
	LogBytes   uint64            // of the database's log, in use
	Tables     map[string]uint64 // about how many bytes of the disk each kind of record takes, without what is only in the log
	Debt       uint64            // about how many bytes compactions have yet to rewrite
	Pruned     uint64            // the first version of the tree that is whole
	FirstBlock chain.Height      // 0: none
	TreeMark   uint64
}

// Stat measures the store, cheaply.
func (s *Store) Stat() (Stat, error) {
	m, err := s.metrics()
	if err != nil {
		return Stat{}, fmt.Errorf("store: measuring: %w", err)
	}
	out := Stat{DiskBytes: m.DiskSpaceUsage(), LogBytes: m.WAL.Size, Debt: m.Compact.EstimatedDebt, Tables: map[string]uint64{}}
	for _, table := range slices.Sorted(maps.Keys(tableNames)) {
		if out.Tables[tableNames[table]], err = s.db.EstimateDiskUsage([]byte{table}, []byte{table + 1}); err != nil {
			return out, fmt.Errorf("store: measuring the %s: %w", tableNames[table], err)
		}
	}
	if out.Pruned, err = s.PrunedBefore(); err != nil {
		return out, err
	}
	if mark, ok := s.TreeMark(); ok {
		out.TreeMark = mark.Version
	}
	out.FirstBlock, _, err = s.FirstBlock()
	return out, err
}

// metrics returns what the database says of itself.
func (s *Store) metrics() (*pebble.Metrics, error) {
	var m *pebble.Metrics
	if err := s.disk.call(func() error {
		m = s.db.Metrics()
		return nil
	}); err != nil {
		return nil, err // it may still be measuring
	}
	return m, nil
}

// Live returns how many bytes the latest state takes: keys and values of the flat
// state, and the records of the latest version of the tree. It reads all of it.
func (s *Store) Live(ctx context.Context) (uint64, error) {
	c, err := s.CheckState(ctx)
	return c.Bytes + c.Keys + c.Tree.Bytes + c.Tree.Leaves + c.Tree.Nodes, err // and the first byte of each key
}

// Compact rewrites all tables, so that nothing that was deleted or replaced takes
// room. It needs as much room again while it runs.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.disk.call(func() error { return s.db.Compact(ctx, []byte{0}, []byte{0xff}, true) }); err != nil {
		return fmt.Errorf("store: compacting: %w", err)
	}
	return nil
}
