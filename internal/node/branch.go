package node

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// branch is an executed block and the state after it. The last finalized block
// is the root of all branches; its state is a snapshot of the store.
type branch struct {
	digest  crypto.Digest
	parent  *branch // nil for the root
	height  chain.Height
	timeMs  chain.TimeMs
	block   *chain.DecodedBlock // nil for genesis and for the root after a start
	outcome execution.Outcome
	state   *layer
	ids     map[chain.TxID]bool // of its transactions

	hashed      chan struct{} // closed when the next four are set
	tree        atomic.Pointer[state.Tree]
	receipts    []byte // encoded
	receiptRoot crypto.Digest
	hashErr     error
}

// newBranch returns the branch of an executed block.
func newBranch(parent *branch, block *chain.DecodedBlock, outcome execution.Outcome) *branch {
	b := &branch{
		digest: block.Digest(), parent: parent, height: block.Header().Height, timeMs: block.Header().TimeMs, block: block,
		outcome: outcome, state: newLayer(parent.state, outcome.Changes), ids: make(map[chain.TxID]bool, len(block.Txs())),
		hashed: make(chan struct{}),
	}
	for i := range block.Txs() {
		b.ids[block.Txs()[i].ID()] = true
	}
	return b
}

// hash computes the roots after the block once its parent's are there.
func (b *branch) hash() {
	defer close(b.hashed)
	<-b.parent.hashed
	if b.parent.hashErr != nil {
		b.hashErr = b.parent.hashErr
		return
	}
	b.receipts, b.receiptRoot = b.outcome.Receipts.EncodeAndRoot()
	tree, err := b.parent.tree.Load().Next(uint64(b.height), b.outcome.Changes, runtime.GOMAXPROCS(0))
	b.tree.Store(tree)
	b.hashErr = err
}

// roots waits for the hashing and returns the state after the block.
func (b *branch) roots(ctx context.Context) (*state.Tree, crypto.Digest, error) {
	select {
	case <-b.hashed:
	case <-ctx.Done():
		return nil, crypto.Digest{}, ctx.Err()
	}
	if b.hashErr != nil {
		return nil, crypto.Digest{}, fmt.Errorf("hashing the state after block %d: %w", b.height, b.hashErr)
	}
	return b.tree.Load(), b.receiptRoot, nil
}

// layer is the state after a block: the block's changes on its parent's state.
// It never changes but for the parent, which finalization replaces by a snapshot
// that holds the same values. Safe for concurrent use between the application's
// enter and leave.
type layer struct {
	base    atomic.Pointer[reader]
	changes []state.Change // by ascending key
	places  []uint64       // of changes by the hashes of their keys, see place
}

type reader struct{ state.Reader }

// layerSeed makes nobody outside know which keys share a place.
var layerSeed = maphash.MakeSeed()

func newLayer(parent state.Reader, changes []state.Change) *layer {
	l := &layer{changes: changes, places: make([]uint64, 1<<bits.Len(uint(len(changes)+len(changes)/2)))} // at most two thirds are taken
	for i, c := range changes {
		place, hash := l.place(c.Key)
		*place = hash<<32 | uint64(i+1)
	}
	l.base.Store(&reader{parent})
	return l
}

// place returns where the change of a key is named: 0 if there is none, otherwise half of
// the key's hash before the change's number and one. And it returns that half.
func (l *layer) place(key []byte) (place *uint64, half uint64) {
	hash := maphash.Bytes(layerSeed, key)
	half = hash >> 32
	mask := uint64(len(l.places) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		place = &l.places[at]
		if *place == 0 || *place>>32 == half && bytes.Equal(l.changes[uint32(*place)-1].Key, key) {
			return place, half
		}
	}
}

// Get returns the value of key.
func (l *layer) Get(key []byte) ([]byte, bool) {
	if place, _ := l.place(key); *place != 0 {
		c := &l.changes[uint32(*place)-1]
		return c.Value, !c.Deleted
	}
	return l.base.Load().Get(key)
}

// Ahead tells the base which keys are going to be read.
func (l *layer) Ahead(keys [][]byte) { state.Ahead(l.base.Load().Reader, keys) }

// Iterate yields the pairs with start ≤ key < end. What it does before the first of them does
// not grow with what the block changed: messages that look for one pair are many.
func (l *layer) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	own, below := l.changes[l.from(start):], l.base.Load().Iterate(start, end)
	if end != nil {
		own = own[:max(0, l.from(end)-l.from(start))]
	}
	return func(yield func(key, value []byte) bool) {
		rest := own
		for key, value := range below {
			for ; len(rest) > 0 && bytes.Compare(rest[0].Key, key) < 0; rest = rest[1:] {
				if c := &rest[0]; !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
					return
				}
			}
			if len(rest) > 0 && bytes.Equal(rest[0].Key, key) {
				continue // the change comes before the next pair
			}
			if !yield(key, value) {
				return
			}
		}
		for _, c := range rest {
			if !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
				return
			}
		}
	}
}

// from returns the index of the first change at or after a key.
func (l *layer) from(key []byte) int {
	at, _ := slices.BinarySearchFunc(l.changes, key, func(c state.Change, key []byte) int { return bytes.Compare(c.Key, key) })
	return at
}
