package store_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// steady is a store under a load that changes a state of one size, with blocks,
// and epochs that end.
type steady struct {
	*store.Store
	load   *treeLoad
	tree   *state.Tree
	height chain.Height
	epochs uint64
}

// steadyTx is how long a transaction of a steady load is, which begins with its id.
const steadyTx = 6 * crypto.DigestSize

// indexOf is what the blocks of a steady load are indexed under.
func indexOf(block []byte) (txs []crypto.Digest, orders []store.OrderEntry, err error) {
	for i := 0; i+steadyTx <= len(block); i += steadyTx {
		txs = append(txs, crypto.Digest(block[i:]))
	}
	return txs, []store.OrderEntry{{Order: id("order"), TxIndex: 1}}, nil
}

// commit commits a block of updates; every so many blocks it ends an epoch.
func (s *steady) commit(t testing.TB, updates int, epoch chain.Height) time.Duration {
	s.height++
	f := store.Finalized{Height: s.height, Digest: id("block %d", s.height), Header: make([]byte, 400), Certificate: make([]byte, 300), Changes: s.load.version(updates)}
	for i := range updates / 2 {
		tx := id("tx %d/%d", s.height, i)
		f.Txs = append(f.Txs, tx)
		f.Receipts = append(append(f.Receipts, tx[:]...), make([]byte, 48)...)
		for range steadyTx / crypto.DigestSize { // as hard to compress as signatures
			f.Block = append(f.Block, tx[:]...)
			tx = crypto.DomainBlob.Hash(tx[:])
		}
	}
	f.Orders = []store.OrderEntry{{Order: id("order"), TxIndex: 1}}
	before := s.tree
	if mark, ok := s.TreeMark(); ok {
		s.tree = s.tree.Persisted(mark)
	}
	s.tree = must(s.tree.Next(uint64(s.height), f.Changes, 2))(t)
	f.Tree = s.tree
	if s.height%epoch == 0 {
		s.epochs++
		f.Closing = &store.Closing{Epoch: s.epochs, Record: []byte("end"), Before: before}
	}
	began := time.Now()
	check(t, s.Commit(f))
	return time.Since(began)
}

func newSteady(t testing.TB, keys int, o store.Options) (*steady, string) {
	dir := filepath.Join(t.TempDir(), "db")
	s := &steady{Store: must(store.Open(dir, o))(t), load: newTreeLoad(keys)}
	s.tree = s.load.fill(t, s.Store)
	s.height = chain.Height(s.tree.Version())
	return s, dir
}

func diskOf(t testing.TB, dir string) (sum uint64) {
	check(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if info, errInfo := d.Info(); err == nil && errInfo == nil && !d.IsDir() { // else it was deleted meanwhile
			sum += uint64(info.Size())
		}
		return nil
	}))
	return sum
}

// A pruned store stays below twice its live state, whatever number of versions and
// blocks it has seen since an epoch ended: what is asked for is kept as far as there
// is room, and what one needs who joins.
func TestPrunedDiskStaysBelowTwiceTheLiveState(t *testing.T) {
	bounded(t)
	keys, versions, updates, times := 300_000, 1000, 500, uint64(2)
	if testing.Short() { // files on their way out weigh more beside a small state
		keys, versions, updates, times = 60_000, 300, 100, 4
	}
	small := int64(keys) * 20 // in the proportion of the defaults to a million keys
	s, dir := newSteady(t, keys, store.Options{MemtableBytes: max(small, 1<<20), PendingBytes: max(small, 1<<20), PointBytes: 1 << 20})
	s.commit(t, updates, 1)
	live := must(s.Live(t.Context()))(t)
	var most, sum uint64
	for i := range versions {
		s.commit(t, updates, 1<<40)
		if i%20 != 19 {
			continue
		}
		_, err := s.Prune(t.Context(), store.PruneOptions{KeepVersions: 10_000, KeepStates: 1, KeepBlocks: 10_000, Index: indexOf})
		check(t, err)
		used := diskOf(t, dir)
		if i%100 == 99 {
			points, stat := must(s.Points(9))(t), must(s.Stat())(t)
			t.Logf("version %d: %.2f, first block %d, first version %d, point %d", i, float64(used)/float64(live), stat.FirstBlock, stat.Pruned, points)
		}
		sum += used
		if i > 200 {
			most = max(most, used)
		}
	}
	t.Logf("live %d bytes, disk at most %d (%.2f times), on average %.2f times", live, most, float64(most)/float64(live), float64(sum)/float64(versions/20)/float64(live))
	if most > times*live {
		t.Errorf("the disk holds %d bytes, the live state is %d", most, live)
	}
	stat := must(s.Stat())(t)
	t.Logf("%+v", stat)
	check(t, s.Close())
}

// BenchmarkCommitWhilePruning commits blocks with a pruner beside them and without, by
// turns of twenty blocks on one disk and in alternating order, and reports how much
// later they are with it: the difference of the quantiles of all, and the medians of
// what the two turns of a pair differ by in their middle block and in their slowest,
// which what else the machine does disturbs less. Before a turn the database has
// done what the turn before left it to do.
func BenchmarkCommitWhilePruning(b *testing.B) {
	s, _ := newSteady(b, 300_000, store.Options{})
	s.commit(b, 2000, 1)
	const turn, pairs = 20, 50
	var all [2][]time.Duration
	var later, worst []time.Duration
	for b.Loop() {
		for n := range pairs {
			var took [2][]time.Duration
			for i := range took {
				pruning := (i + n) % 2
				stop := s.prunes(b, pruning == 1)
				for range turn {
					took[pruning] = append(took[pruning], s.commit(b, 2000, 1<<40)) // an epoch's end waits for the disk, pruning or not
				}
				stop()
				s.settle(b)
			}
			for i := range took {
				all[i] = append(all[i], took[i]...)
				slices.Sort(took[i])
			}
			later = append(later, took[1][turn/2]-took[0][turn/2])
			worst = append(worst, took[1][turn-1]-took[0][turn-1])
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	slices.Sort(later)
	slices.Sort(worst)
	b.ReportMetric(ms(worst[len(worst)/2]), "max-pairs-later-ms")
	b.ReportMetric(ms(later[len(later)/2]), "p50-pairs-later-ms")
	for i, name := range []string{"off", "on"} {
		slices.Sort(all[i])
		b.ReportMetric(ms(all[i][len(all[i])/2]), "p50-"+name+"-ms")
		b.ReportMetric(ms(all[i][len(all[i])*99/100]), "p99-"+name+"-ms")
	}
	b.ReportMetric(ms(all[1][len(all[1])*99/100]-all[0][len(all[0])*99/100]), "p99-later-ms")
	b.ReportMetric(float64(len(all[0])), "blocks")
	check(b, s.Close())
}

// settle waits for a while until the database compacts no more.
func (s *steady) settle(b *testing.B) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(500 * time.Millisecond); s.Busy() && time.Now().Before(end); {
		<-ticker.C
	}
}

// prunes prunes without a rest until the function that it returns is called.
func (s *steady) prunes(b *testing.B, really bool) (stop func()) {
	if !really {
		return func() {}
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			_, err = s.Prune(ctx, store.PruneOptions{KeepVersions: 20, KeepStates: 1, KeepBlocks: 20, Index: indexOf, NodesPerSecond: 200_000})
		}
		done <- err
	}()
	return func() {
		cancel()
		check(b, <-done)
	}
}

// What the state before an epoch's end needs is held while that is kept and given
// back after it; the versions between are gone.
func TestHeldStatesAreWholeAndThenGone(t *testing.T) {
	bounded(t)
	s := must(store.OpenMemory(store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	nodes := func(height chain.Height) uint64 {
		var size state.TreeSize
		for _, err := range must(s.OpenTree(height))(t).Checked(&size) {
			check(t, err)
		}
		return size.Nodes + size.Leaves
	}
	for height := range 60 {
		f := h.next(t)
		if height == 10 || height == 40 {
			f = h.closed(f, uint64(height))
		}
		check(t, s.Commit(f))
		_, err := s.Prune(t.Context(), store.PruneOptions{KeepVersions: 3, KeepStates: 1})
		check(t, err)
		kept := chain.Height(0)
		switch {
		case height >= 40:
			kept = 39
		case height >= 10:
			kept = 9
		}
		if height < 6 {
			continue
		}
		nodes(chain.Height(height))
		nodes(chain.Height(height - 2))
		if kept > 0 {
			h.checkLeaves(t, leaves(t, s, kept), int(kept))
		}
		if _, err := s.OpenTree(chain.Height(height - 5)); chain.Height(height-5) != kept && !errors.Is(err, state.ErrNoVersion) {
			t.Fatalf("at %d, version %d: %v", height, height-5, err)
		}
		if height == 45 {
			if _, err := s.OpenTree(9); !errors.Is(err, state.ErrNoVersion) {
				t.Errorf("the state that was held: %v", err)
			}
		}
	}
	c := must(s.CheckState(t.Context()))(t)
	if !c.Sound() || c.Keys == 0 {
		t.Errorf("%+v", c)
	}
	if all := must(s.Nodes())(t); all > nodes(59)+nodes(58)+nodes(57)+nodes(39) {
		t.Errorf("%d records are left, the versions have %d, %d, %d and %d", all, nodes(59), nodes(58), nodes(57), nodes(39))
	}
	check(t, s.Close())
}

// A key that differs between the flat state and the tree is named.
func TestCheckStateNamesTheKey(t *testing.T) {
	s := must(store.OpenMemory(store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	for range 5 {
		check(t, s.Commit(h.next(t)))
	}
	if c := must(s.CheckState(t.Context()))(t); !c.Sound() || c.Tree.Leaves != c.Keys {
		t.Fatalf("%+v", c)
	}
	check(t, s.SetRaw([]byte("skey/00"), []byte("forged")))
	c := must(s.CheckState(t.Context()))(t)
	if c.Sound() || c.Differences != 1 || string(c.First.Key) != "key/00" || string(c.First.A) != "forged" {
		t.Errorf("%+v", c)
	}
	check(t, s.Close())
}
