package execution_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/tokens"
)

// The leases of BenchmarkLeaseEnds.
const (
	liveLeases = 1_000_000
	leaseNodes = 100_000
	leaseDue   = 1_000 // in each block
	// leaseTree is the memory of the state tree, as tree_mib says that so many keys take it:
	// three for each lease, which are the lease, its end and an escrow.
	leaseTree = 384 << 20
)

// leaseWorld is a store with many live leases, of each consumer one.
type leaseWorld struct {
	*gasStore
	sight execution.Foresight
	ends  int // blocks that have so many leases end
	start chain.TimeMs
}

func (w *leaseWorld) node(i int) (id crypto.PublicKey) {
	binary.BigEndian.PutUint64(id[:], uint64(i%leaseNodes+1)*0x9e3779b97f4a7c15)
	return id
}

// lease is the i-th: the first are due in the blocks to come, so many in each, and spread
// over the second before it.
func (w *leaseWorld) lease(i int) (chain.LeaseID, settlement.Lease) {
	id := chain.LeaseID{Node: w.node(i * 37)}
	binary.BigEndian.PutUint64(id.Order[:], uint64(i+1)*0xbf58476d1ce4e5b9)
	l := settlement.Lease{
		Consumer: crowdOf(i), Cluster: cluster.Public(), Provider: crowdOf(liveLeases + i*37%leaseNodes), Order: id.Order, Rate: 1_000_000_000_000,
		Since: w.start, Until: w.start, Held: chain.Hyper(1), Expires: w.start + day + chain.TimeMs(i),
	}
	for _, r := range chain.Resources {
		if r != chain.Network {
			l.Prices = append(l.Prices, chain.UnitPrice{Resource: r, Price: 100})
			l.Resources = append(l.Resources, chain.Quantity{Resource: r, Amount: 1_000})
		}
	}
	if block := i / leaseDue; block < w.ends {
		l.Expires = w.start + chain.TimeMs(2_000*block+i%leaseDue) + 1
		l.Held = chain.RateCost(l.Rate, uint64(l.Expires-l.Since))
		if i%2 == 0 { // upon notice: there is something to give back
			l.Closing, l.Held = true, chain.Hyper(1)
		}
	}
	return id, l
}

func newLeaseWorld(b *testing.B, live, blocks int) *leaseWorld {
	g := newGasWorld(b, warm)
	g.run(1_000, g.txOf(operator, g.registerCluster()))
	w := &leaseWorld{gasStore: g.emptyStore(leaseTree), ends: blocks, start: g.now}
	w.cores = runtime.GOMAXPROCS(0)
	const perBlock = 10_000
	ends := state.NewOverlay(state.NewMemoryBackend()) // the pages of the queue, before each is written once
	for first := 0; first < live; first += perBlock {
		kv := state.NewOverlay(state.NewMemoryBackend())
		for i := first; i < first+perBlock; i++ {
			id, l := w.lease(i)
			state.Save(kv, settlement.LeaseKey(id), l)
			settlement.QueueLeaseEnd(ends, l.Expires, id)
			state.Save(kv, settlement.EscrowKey(l.Consumer, l.Cluster), settlement.Escrow{Balance: chain.Hyper(1), Elsewhere: l.Held})
			if i < leaseNodes {
				owner := crowdOf(liveLeases + i)
				state.Save(kv, settlement.ProviderKey(w.node(i)), settlement.Provider{Owner: owner, Bond: chain.Hyper(100), Region: "eu", Millicores: 4_000, MemoryMiB: 4_096})
				state.Save(kv, tokens.AccountKey(owner), tokens.Account{Balance: chain.Hyper(1)})
			}
		}
		w.commit(store.Finalized{Changes: kv.Changes()})
	}
	for part := range slices.Chunk(ends.Changes(), 3*perBlock) {
		w.commit(store.Finalized{Changes: part})
	}
	return w
}

// look does what a node does after a block: it reads what is due soon. It returns how long that
// took.
func (w *leaseWorld) look() time.Duration {
	snapshot, err := w.store.Snapshot()
	if err != nil {
		w.Fatal(err)
	}
	start := time.Now()
	_, err = w.sight.Look(snapshot)
	took := time.Since(start)
	if err = errors.Join(err, snapshot.Close()); err != nil {
		w.Fatal(err)
	}
	return took
}

// block executes and commits one, and returns what of each that took.
func (w *leaseWorld) block() (execute, commit time.Duration, changed int) {
	snapshot, err := w.store.Snapshot()
	if err != nil {
		w.Fatal(err)
	}
	h := w.header(1_000)
	start := time.Now()
	out, err := w.x.Apply(snapshot, h, staking.Extras{}, nil)
	if err != nil {
		w.Fatal(err)
	}
	receipts, _ := out.Receipts.EncodeAndRoot()
	execute = time.Since(start)
	w.commit(store.Finalized{Changes: out.Changes, Receipts: receipts})
	commit = time.Since(start) - execute
	if err := snapshot.Close(); err != nil {
		w.Fatal(err)
	}
	for _, c := range out.Changes {
		if c.Deleted {
			w.state.Delete(c.Key)
		} else {
			w.state.Set(c.Key, c.Value)
		}
	}
	w.gasWorld.height, w.now = h.Height, h.TimeMs
	return execute, commit, len(out.Changes)
}

// BenchmarkLeaseEnds has a thousand leases end in a block, of a million that live, on a
// store: what a block takes until it is executed, and until it is in the state tree and the
// store, less what the block after it takes, in which none ends. What was read ahead after the
// blocks before is told apart, and is among the processor time. The medians: a flush of the
// state, which writes what many blocks changed, falls into few.
func BenchmarkLeaseEnds(b *testing.B) {
	const most = 400 // blocks
	w := newLeaseWorld(b, liveLeases, most)
	runtime.GC()
	var aheads, executes, commits, both, cores, idle []float64
	w.look()
	for b.Loop() {
		var ahead, execute, commit, cpu [2]time.Duration
		for i := range execute {
			var changed int
			before := processor()
			execute[i], commit[i], changed = w.block()
			cpu[i] = processor() - before
			ahead[i] = w.look()
			cpu[0] += processor() - before - cpu[i]
			if ended := changed > 3*leaseDue; ended != (i == 0) {
				b.Fatalf("%d keys changed, leases ended: %v; there are %d blocks in which they do", changed, ended, most)
			}
		}
		more := func(d [2]time.Duration) float64 { return float64((d[0] - d[1]).Microseconds()) / 1_000 }
		aheads = append(aheads, float64((ahead[0]+ahead[1]).Microseconds())/1_000)
		executes, commits, cores = append(executes, more(execute)), append(commits, more(commit)), append(cores, more(cpu))
		both = append(both, more(execute)+more(commit))
		idle = append(idle, float64((execute[1]+commit[1]).Microseconds())/1_000)
	}
	b.ReportMetric(middle(aheads), "ms-ahead/block")
	b.ReportMetric(middle(executes), "ms-execute/block")
	b.ReportMetric(middle(commits), "ms-commit/block")
	b.ReportMetric(middle(both), "ms/block")
	b.ReportMetric(middle(cores), "core-ms/block")
	b.ReportMetric(middle(idle), "ms/idle-block")
	b.ReportMetric(0, "ns/op")
}

func middle(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}
