package store

import (
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Closing is what is stored beside a block that ends an epoch.
type Closing struct {
	Epoch  uint64      // that the block ends
	Record []byte      // for those who ask how it ended
	Before *state.Tree // the tree before the block, which goes to the disk with it
}

// writeBefore makes the version of the tree before a block that ends an epoch
// the one that the tables hold.
func (s *Store) writeBefore(f *Finalized) error {
	if err := s.endFlush(); err != nil {
		return err
	}
	mark, some := s.TreeMark()
	before := f.Closing.Before
	if f.Height == 0 || before.Version() != uint64(f.Height)-1 {
		return fmt.Errorf("%w: block %d ends an epoch, the tree before it is said to be version %d", ErrTree, f.Height, before.Version())
	}
	if some {
		before = before.Persisted(mark)
	}
	if durable, known := before.Durable(); known != some || durable != mark {
		return fmt.Errorf("%w: block %d ends an epoch, the tree before it descends from version %d, the last on disk is %d", ErrTree, f.Height, durable.Version, mark.Version)
	}
	if some && before.Mark() == mark {
		return nil
	}
	if err := s.beginFlush(before, false); err != nil {
		return err
	}
	return s.endFlush()
}

func (w *writer) epochEnd(epoch uint64, height chain.Height, record []byte) {
	w.set(heightKey(tableEpoch, chain.Height(epoch)), append(numberBytes(uint64(height)), record...))
}

func (w *writer) delete(key []byte) {
	if w.err == nil {
		w.err = w.b.Delete(key, nil)
	}
}

// EpochEnd is the end of an epoch as it was stored.
type EpochEnd struct {
	Epoch  uint64
	Height chain.Height // of its last block
	Record []byte
}

// EpochEnd returns how an epoch ended, and false if that is not known.
func (s *Store) EpochEnd(epoch uint64) (EpochEnd, bool, error) {
	data, ok, err := s.get(heightKey(tableEpoch, chain.Height(epoch)))
	if err != nil || !ok {
		return EpochEnd{}, false, err
	}
	end, err := epochEndOf(epoch, data)
	return end, err == nil, err
}

func epochEndOf(epoch uint64, data []byte) (EpochEnd, error) {
	if len(data) < 8 {
		return EpochEnd{}, fmt.Errorf("%w: end of epoch %d of %d bytes", ErrCorrupt, epoch, len(data))
	}
	return EpochEnd{Epoch: epoch, Height: chain.Height(binary.BigEndian.Uint64(data)), Record: data[8:]}, nil
}

// LastEpochEnds returns the ends of the last epochs of which they are known, the
// newest first, at most limit of them.
func (s *Store) LastEpochEnds(limit int) (ends []EpochEnd, err error) {
	it, err := s.db.NewIter(boundsOf(tableEpoch))
	if err != nil {
		return nil, fmt.Errorf("store: reading the ends of epochs: %w", err)
	}
	for ok := it.Last(); ok && err == nil && len(ends) < limit; ok = it.Prev() {
		var data []byte
		if data, err = it.ValueAndErr(); err != nil {
			break
		}
		var end EpochEnd
		end, err = epochEndOf(binary.BigEndian.Uint64(it.Key()[1:]), append([]byte{}, data...))
		ends = append(ends, end)
	}
	if err := joinRead(err, it); err != nil {
		return nil, fmt.Errorf("store: reading the ends of epochs: %w", err)
	}
	return ends, nil
}
