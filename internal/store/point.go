package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// A point is a height before whose block the state was written, so that another
// node can begin with that block (ADR 26): every end of an epoch, and, once one has
// ended, one after each so many bytes of blocks. Nodes choose for themselves, from
// what is about the same in all of them, and mostly the same heights.
//
// The record of a point is written at once with the version of the tree before it,
// or after it, and goes before the first node of that version does. So a version
// that has one is whole.

const (
	// pointState is to which part of the flat state the blocks between two points may
	// come. That is a twelfth of the live state, roughly: most of that is the tree.
	pointState = 4
	// blockBytes and txBytes are about what a block and a transaction take in the
	// indexes.
	blockBytes = 256
	txBytes    = 64
)

// lastPoint is what the next point is chosen from. It belongs to who commits.
type lastPoint struct {
	height chain.Height // 0: there is none, and none is made before an epoch has ended
	made   uint64       // bytes of the blocks before it
}

// PointBytes is how many bytes of blocks come between two points at most, but for once
// half as much more when the load changes.
func (s *Store) PointBytes() uint64 {
	return max(s.leastPoint, s.flatBytes.Load()/pointState)
}

// measureState notes how large the flat state is: as all nodes have it, but for what
// the levels of the database hold twice.
func (s *Store) measureState() error {
	used, err := s.db.EstimateDiskUsage([]byte{tableState}, []byte{tableState + 1})
	if err != nil {
		return fmt.Errorf("store: measuring the state: %w", err)
	}
	s.flatBytes.Store(used)
	return nil
}

// size is about how much room the block takes, without the changes.
func (f *Finalized) size() uint64 {
	return uint64(len(f.Header)+len(f.Block)+len(f.Certificate)+len(f.Receipts)) + uint64(len(f.Txs))*txBytes + blockBytes
}

// pointDue reports whether the block after the latest is to be a point: at a multiple
// of a power of two that many blocks after which came to half of PointBytes, or
// without one at one and a half. Under a steady load these are all multiples of one
// power, whatever the points before; nodes that differ about the bytes take another
// power at most, every second multiple of which is one of the others'.
func (s *Store) pointDue(latest chain.Height, made uint64) (bool, error) {
	last := s.lastPoint
	if last.height == 0 || latest < last.height {
		return false, nil
	}
	most := s.PointBytes()
	since := made - last.made
	if since < most/2 || since >= most+most/2 {
		return since >= most/2, nil
	}
	next := uint64(latest) + 1
	if back := uint64(1) << bits.TrailingZeros64(next); back < next-uint64(last.height) {
		before, err := s.madeAt(chain.Height(next - back - 1))
		return made-before >= most/2, err
	}
	return true, nil
}

// loadPoint reads the last point and how much the blocks came to.
func (s *Store) loadPoint(latest chain.Height) (err error) {
	if s.made, err = s.madeAt(latest); err != nil {
		return err
	}
	it, err := s.db.NewIter(boundsOf(tablePoint))
	if err != nil {
		return fmt.Errorf("store: reading the last point: %w", named(err))
	}
	if it.Last() {
		s.lastPoint, err = pointOf(it.Key(), it.Value())
	}
	return errors.Join(joinRead(err, it), s.measureState())
}

func pointOf(key, value []byte) (p lastPoint, err error) {
	height, errKey := numberOf(key[1:])
	made, errValue := numberOf(value)
	return lastPoint{chain.Height(height), made}, errors.Join(errKey, errValue)
}

// madeAt returns to how many bytes the blocks up to a stored one came. It is 0 for
// those of databases that did not note it.
func (s *Store) madeAt(height chain.Height) (uint64, error) {
	data, ok, err := s.get(heightKey(tableTip, height))
	if err != nil || !ok || len(data) < tipBytes+8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(data[tipBytes:]), nil
}

// Points returns the heights, up to the latest block's, before which the state is
// whole and stays, the newest first, at most limit of them.
func (s *Store) Points(limit int) (heights []chain.Height, err error) {
	tip, some := s.Latest()
	if !some {
		return nil, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tablePoint}, UpperBound: heightKey(tablePoint, tip.Height+1)})
	if err != nil {
		return nil, fmt.Errorf("store: reading the last points: %w", named(err))
	}
	for ok := it.Last(); ok && err == nil && len(heights) < limit; ok = it.Prev() { // an archive has any number
		var height uint64
		height, err = numberOf(it.Key()[1:])
		heights = append(heights, chain.Height(height))
	}
	if err := joinRead(err, it); err != nil {
		return nil, fmt.Errorf("store: reading the last points: %w", err)
	}
	return heights, nil
}

// IsPoint reports whether the state before a block is whole and stays.
func (s *Store) IsPoint(height chain.Height) (bool, error) {
	_, ok, err := s.get(heightKey(tablePoint, height))
	return ok, err
}

// points returns the heights of the points up to one, ascending.
func (s *Store) points(latest chain.Height) (heights []chain.Height, err error) {
	for it, err := range scan(s.db, []byte{tablePoint}, heightKey(tablePoint, latest+1)) {
		if err != nil {
			return nil, fmt.Errorf("store: reading the points: %w", err)
		}
		height, err := numberOf(it.Key()[1:])
		if err != nil {
			return nil, fmt.Errorf("store: reading the points: %w", err)
		}
		heights = append(heights, chain.Height(height))
	}
	return heights, nil
}

func (w *writer) point(height chain.Height, made uint64) {
	w.set(heightKey(tablePoint, height), numberBytes(made))
}
