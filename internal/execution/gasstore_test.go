package execution_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/tokens"
)

// The store that operations are measured on holds its state in tables and what the last
// blocks changed in memory, almost as much as may wait.
const (
	treeInterval   = 64 // blocks between two flushes
	pendingChanges = 1_500
)

// gasStore is that store.
type gasStore struct {
	*gasWorld
	store  *store.Store
	tree   *state.Tree
	height uint64
	cores  int // that hash
}

// onStore has blocks executed on a store in a directory, with the whole crowd in it.
func (w *gasWorld) onStore() *gasStore {
	w.Helper()
	s := w.emptyStore(state.DefaultResidentBytes)
	account, ok := w.state.Get(tokens.AccountKey(crowdOf(0)))
	if !ok {
		w.Fatal("nobody is in the crowd")
	}
	const perBlock = 50_000
	for first := warm; first < w.crowd; first += perBlock {
		s.change(first, min(perBlock, w.crowd-first), func(i int) state.Change {
			return state.Change{Key: tokens.AccountKey(crowdOf(i)), Value: account}
		})
	}
	s.fillRolls()
	for s.height%treeInterval != treeInterval-4 {
		s.change(int(s.height)*pendingChanges, pendingChanges, func(i int) state.Change {
			c := s.updated(0)(i)
			c.Value = codec.Marshal(tokens.Account{Balance: chain.Nano(1_000_000_000 + uint64(i))})
			return c
		})
	}
	snapshot, err := s.store.Snapshot()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := snapshot.Close(); err != nil {
			w.Error(err)
		}
	})
	w.reader = snapshot
	return s
}

// emptyStore is a store in a directory with the state that is in memory, whose tree may take
// so many bytes.
func (w *gasWorld) emptyStore(treeBytes int) *gasStore {
	w.Helper()
	st, err := store.Open(w.TempDir(), store.Options{UnsafeNoSync: true, TreeInterval: treeInterval, TreeBytes: int64(treeBytes)})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := st.Close(); err != nil {
			w.Error(err)
		}
	})
	s := &gasStore{gasWorld: w, store: st, tree: state.NewTree(st, treeBytes), cores: 1}
	all := state.NewOverlay(state.NewMemoryBackend())
	for key, value := range w.state.Iterate([]byte{0}, nil) {
		all.Set(key, value)
	}
	s.commit(store.Finalized{Changes: all.Changes()})
	return s
}

// updated changes accounts of the crowd, all over it.
func (s *gasStore) updated(size int) func(i int) state.Change {
	return func(i int) state.Change {
		n := int(uint64(i) * 0x9e3779b97f4a7c15 >> 20 % uint64(s.crowd))
		return state.Change{Key: tokens.AccountKey(crowdOf(n)), Value: fmt.Appendf(make([]byte, 0, size+20), "%0*d", size, i)}
	}
}

// change commits a block with some changes.
func (s *gasStore) change(first, count int, of func(i int) state.Change) {
	s.commit(store.Finalized{Changes: changesOf(first, count, of)})
}

func changesOf(first, count int, of func(i int) state.Change) []state.Change {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := first; i < first+count; i++ {
		if c := of(i); c.Deleted {
			kv.Delete(c.Key)
		} else {
			kv.Set(c.Key, c.Value)
		}
	}
	return kv.Changes()
}

func (s *gasStore) commit(f store.Finalized) {
	s.Helper()
	if mark, ok := s.store.TreeMark(); ok {
		s.tree = s.tree.Persisted(mark)
	}
	var err error
	if s.tree, err = s.tree.Next(s.height, f.Changes, s.cores); err != nil {
		s.Fatal(err)
	}
	f.Height, f.Digest, f.Tree = chain.Height(s.height), crypto.DomainBlob.Hash(fmt.Append(nil, s.height)), s.tree
	if err := s.store.Commit(f); err != nil {
		s.Fatal(err)
	}
	s.height++
}

// disk is what committing takes on one core, in nanoseconds: the state tree, the
// database, and what that does in the background.
type disk struct {
	Update, Insert, Delete float64 // each key
	ByteOf                 float64 // of values, beyond those of accounts
	Record                 float64 // each byte of transactions and receipts
	Tx                     float64 // each, in the index
}

// of returns what committing a block takes.
func (d disk) of(k work) float64 {
	beyond := k.changed - (k.updates+k.inserts+k.deletes)*accountBytes
	return d.Update*float64(k.updates) + d.Insert*float64(k.inserts) + d.Delete*float64(k.deletes) +
		d.ByteOf*float64(max(beyond, 0)) + d.Record*float64(int(k.bytes)+k.receipts) + d.Tx*float64(k.txs)
}

// accountBytes is about how long the key and the record of an account are.
const accountBytes = 46

// The names of what a disk takes, among the measures.
func (d *disk) named() map[string]*float64 {
	return map[string]*float64{
		"disk/update": &d.Update, "disk/insert": &d.Insert, "disk/delete": &d.Delete, "disk/byte": &d.ByteOf, "disk/record byte": &d.Record, "disk/tx": &d.Tx,
	}
}

// steady returns the processor time of committing blocks, without what making them takes:
// the lesser of two windows with a flush each.
func (s *gasStore) steady(block func(n int) store.Finalized) float64 {
	var took []time.Duration
	for window := range 3 {
		var sum time.Duration
		for n := range treeInterval {
			f := block(window*treeInterval + n)
			start := processor()
			s.commit(f)
			sum += processor() - start
		}
		if window > 0 { // the first ends what was there before
			took = append(took, sum)
		}
	}
	return float64(slices.Min(took))
}

// disk measures on the store, whose state is another afterwards.
func (s *gasStore) disk() disk {
	const perBlock, large, record = 1_250, 512, 1 << 20
	size := accountBytes - len(tokens.AccountKey(crowdOf(0)))
	at := func(n int) int { return (int(s.height) + 1_000_000) * perBlock } // other keys in each
	updates := func(size int) func(n int) store.Finalized {
		return func(n int) store.Finalized {
			return store.Finalized{Changes: changesOf(at(n), perBlock, s.updated(size))}
		}
	}
	const keys = perBlock * treeInterval
	inserted := func(deleted bool) func(n int) store.Finalized {
		return func(n int) store.Finalized {
			return store.Finalized{Changes: changesOf(n*perBlock, perBlock, func(i int) state.Change {
				return state.Change{Key: tokens.AccountKey(crowdOf(1<<30 + i)), Value: make([]byte, size), Deleted: deleted}
			})}
		}
	}
	plain := s.steady(updates(size))
	d := disk{Update: plain / keys}
	d.ByteOf = max(s.steady(updates(large))-plain, 0) / keys / float64(large-size)
	d.Insert = s.steady(inserted(false)) / keys
	d.Delete = s.steady(inserted(true)) / keys
	block := make([]byte, record)
	d.Record = max(s.steady(func(n int) store.Finalized {
		f := updates(size)(n)
		for i := range block { // no two blocks alike, or of one byte
			block[i] = byte(uint64(i+n*record) * 0x9e3779b97f4a7c15 >> 40)
		}
		f.Block = slices.Clone(block)
		return f
	})-plain, 0) / treeInterval / record
	d.Tx = max(s.steady(func(n int) store.Finalized {
		f := updates(size)(n)
		for i := range perBlock {
			f.Txs = append(f.Txs, crypto.DomainBlob.Hash(fmt.Append(nil, "tx", n, i)))
		}
		return f
	})-plain, 0) / keys
	return d
}

// The measures of reads on a store.
const (
	readCold      = "read"         // an account that is not in memory
	iteration     = "iterate"      // beginning one, over nothing
	iterationStep = "iterate/step" // each pair
)

// reads returns what a read takes, the beginning of an iteration, and each step of one, in
// nanoseconds.
func (w *gasWorld) reads() (read, begin, step float64) {
	const times, steps = 1_000, 64
	var gets, begins, walks []time.Duration
	for range 10 {
		keys := make([][]byte, times)
		for i := range keys {
			keys[i] = tokens.AccountKey(w.cold())
		}
		start := processor()
		for _, key := range keys {
			if _, ok := w.reader.Get(key); !ok {
				panic("one of the crowd has no account")
			}
		}
		read := processor()
		for _, key := range keys { // of redelegations, which nobody of the crowd has
			from := append([]byte{'v', 'g'}, key[2:]...)
			for range w.reader.Iterate(from, append(slices.Clone(from), 0xff)) {
				panic("somebody has a redelegation")
			}
		}
		begun := processor()
		for i := range times {
			from, n := tokens.AccountKey(crowdOf(i)), 0
			for range w.reader.Iterate(from, []byte{from[0], from[1] + 1}) {
				if n++; n == steps {
					break
				}
			}
		}
		gets, begins, walks = append(gets, read-start), append(begins, begun-read), append(walks, processor()-begun)
	}
	begin = float64(slices.Min(begins)) / times
	return float64(slices.Min(gets)) / times, begin, (float64(slices.Min(walks))/times - begin) / steps
}
