package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The index of transactions goes to the disk with the state: until then each block
// has the list of its transactions' ids beside the list of its changes, and readers
// look into what waits first. Ids come in no order, so that one key for each in every
// block's batch would be a search in the memtable each, and a merge for each memtable.

// pendingTxs is the transactions of one block, by id.
type pendingTxs struct {
	height chain.Height
	ids    []crypto.Digest // in the block's order
	places []txPlace       // ascending
}

// txPlace is the beginning of an id and where in the block it is.
type txPlace struct {
	beginning uint64
	index     uint32
}

// txBytesPending is what a transaction that waits takes in memory.
const txBytesPending = crypto.DigestSize + 16

func beginningOf(id *crypto.Digest) uint64 { return binary.BigEndian.Uint64(id[:]) }

func newPendingTxs(height uint64, ids []crypto.Digest) pendingTxs {
	t := pendingTxs{height: chain.Height(height), ids: ids, places: make([]txPlace, len(ids))}
	for i := range ids {
		t.places[i] = txPlace{beginningOf(&ids[i]), uint32(i)}
	}
	slices.SortFunc(t.places, func(a, b txPlace) int {
		return cmp.Or(cmp.Compare(a.beginning, b.beginning), cmp.Compare(a.index, b.index))
	})
	return t
}

// find returns where in the block a transaction is.
func (t *pendingTxs) find(id *crypto.Digest) (index uint32, ok bool) {
	want := beginningOf(id)
	at := sort.Search(len(t.places), func(i int) bool { return t.places[i].beginning >= want })
	for ; at < len(t.places) && t.places[at].beginning == want; at++ {
		if t.ids[t.places[at].index] == *id {
			return t.places[at].index, true
		}
	}
	return 0, false
}

// tx returns where a transaction of the pending blocks is.
func (p *pending) tx(id *crypto.Digest) (Position, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i := len(p.txs) - 1; i >= 0; i-- {
		if index, ok := p.txs[i].find(id); ok {
			return Position{p.txs[i].height, index}, true
		}
	}
	return Position{}, false
}

// eachTx hands out the transactions by ascending id, each once. Nothing may be added
// meanwhile.
func (p *pending) eachTx(to func(id *crypto.Digest, at Position) error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	type found struct {
		beginning    uint64
		block, index uint32
	}
	count := 0
	for i := range p.txs {
		count += len(p.txs[i].places)
	}
	all := make([]found, 0, count)
	for i := range p.txs {
		for _, place := range p.txs[i].places {
			all = append(all, found{place.beginning, uint32(i), place.index})
		}
	}
	idOf := func(f found) *crypto.Digest { return &p.txs[f.block].ids[f.index] }
	slices.SortFunc(all, func(a, b found) int {
		if c := cmp.Compare(a.beginning, b.beginning); c != 0 {
			return c
		}
		if c := idOf(a).Compare(*idOf(b)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(b.block, a.block), cmp.Compare(b.index, a.index)) // the last one is where it is
	})
	for i, f := range all {
		if id := idOf(f); i == 0 || *idOf(all[i-1]) != *id {
			if err := to(id, Position{p.txs[f.block].height, f.index}); err != nil {
				return err
			}
		}
	}
	return nil
}

// tx returns where a transaction is that is not in the tables yet.
func (v *view) tx(id *crypto.Digest) (Position, bool) {
	if at, ok := v.new.tx(id); ok || v.old == nil {
		return at, ok
	}
	return v.old.tx(id)
}

// TxPosition returns where a transaction is.
func (s *Store) TxPosition(id crypto.Digest) (Position, bool, error) {
	if at, ok := s.view.Load().tx(&id); ok { // before the tables: a flush may end meanwhile
		return at, true, nil
	}
	data, ok, err := s.get(digestKey(tableTx, id))
	if err != nil || !ok {
		return Position{}, false, err
	}
	p, err := positionOf(data)
	return p, err == nil, err
}

// txs adds the list of the block's transactions.
func (w *writer) txs(f *Finalized) {
	if w.err != nil || len(f.Txs) == 0 {
		return
	}
	op := w.b.SetDeferred(9, len(f.Txs)*crypto.DigestSize)
	op.Key[0] = tableBlockTxs
	binary.BigEndian.PutUint64(op.Key[1:], uint64(f.Height))
	list := op.Value[:0]
	for i := range f.Txs {
		list = append(list, f.Txs[i][:]...)
	}
	w.err = op.Finish()
}

// pendingTxsOf reads the list of a block's transactions.
func (s *Store) pendingTxsOf(height uint64) ([]crypto.Digest, error) {
	list, ok, err := s.get(heightKey(tableBlockTxs, chain.Height(height)))
	if err != nil || !ok {
		return nil, err
	}
	if len(list)%crypto.DigestSize != 0 {
		return nil, fmt.Errorf("%w: list of the transactions of block %d of %d bytes", ErrCorrupt, height, len(list))
	}
	ids := make([]crypto.Digest, 0, len(list)/crypto.DigestSize)
	for id := range slices.Chunk(list, crypto.DigestSize) {
		ids = append(ids, crypto.Digest(bytes.Clone(id)))
	}
	return ids, nil
}
