package node

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/store"
)

// loaded is a pruned node's state machine on the disk, under a load that fills its
// blocks and changes accounts that are there.
type loaded struct {
	*producer
	home  string
	sent  [9]uint64
	count int // of payments
}

// newLoaded has a state of some accounts, and is at the beginning of a long epoch.
func newLoaded(t testing.TB, accounts int, options store.Options) *loaded {
	g := testGenesis(t)
	g.Params.EpochMs, g.Params.UnbondDelayMs = 100_000_000, 600_000_000
	g.Params.EvidenceWindowMs = 500_000_000
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	l := &loaded{home: t.TempDir()}
	writeGenesis(t, g, l.home)
	st, err := store.Open(chainDir(l.home), options)
	if err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, g, st)
	l.producer = &producer{rig: r, on: r.genesisParent(), pace: chain.TimeMs(g.Params.EpochMs)}
	l.pay(1, accounts) // a block that ends the epoch
	l.pace = 2_500
	for l.count < accounts {
		l.pay(32, accounts)
	}
	return l
}

// writeGenesis writes a genesis to a home.
func writeGenesis(t testing.TB, g *chain.Genesis, home string) {
	t.Helper()
	text, err := json.Marshal(g)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, GenesisFile), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pay makes a block in which each of nine users sends some transactions of sixteen
// payments, in turn to each of the accounts.
func (l *loaded) pay(each, accounts int) {
	l.Helper()
	for n := range l.sent {
		txs := make([]chain.DecodedTx, each)
		for i := range txs {
			messages := make([]chain.Msg, chain.MaxMessages)
			for m := range messages {
				to := user(1).address()
				k := l.count * 7919 % accounts // a prime: neighbours in time are not in the tree
				to[0], to[1], to[2], to[3] = byte(k), byte(k>>8), byte(k>>16), 0xa5
				l.count++
				messages[m] = chain.Transfer{To: to, Amount: chain.Nano(1_000)}
			}
			txs[i] = signedBy(l, n+1, l.sent[n], messages...)
			l.sent[n]++
		}
		l.submit(txs...)
	}
	l.view++
	b := l.proposeAt(l.view, l.on, l.pace)
	l.finalize(l.view, l.on, b)
	l.on = parentOf(l.view, b)
	if b.Closing {
		l.on.View, l.view = 0, 0
	}
}

// A pruned node under steady load, long after an epoch has ended, keeps blocks of a
// bounded size, its files and blocks are whole, and it goes on after a restart. With
// HYPERMESH_RETENTION_ACCOUNTS=200000 its directory is below twice its live state, too:
// beside a smaller one the database's log and what it is about to merge weigh more.
func TestDirectoryStaysBelowTwiceTheLiveState(t *testing.T) {
	accounts, blocks, each, memory, long := 5_000, 100, 1, int64(1<<20), false
	if text := os.Getenv("HYPERMESH_RETENTION_ACCOUNTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		accounts, blocks, each, long = n, n/200, 2, true
		memory = max(memory, int64(n)*20) // in the proportion of the defaults to a million keys
	}
	options := store.Options{MemtableBytes: memory, PendingBytes: memory, PointBytes: 128 << 10}
	l := newLoaded(t, accounts, options)
	live, err := l.store.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig()
	disk := &Home{home: l.home}
	var most, sum uint64
	seen := map[chain.Height]bool{}
	for i := range blocks {
		l.pay(each, accounts)
		if i%5 < 4 {
			continue
		}
		if _, err := l.store.Prune(t.Context(), config.Prune()); err != nil {
			t.Fatal(err)
		}
		points, err := l.store.Points(9)
		_, used, errDisk := disk.Disk()
		if err := errors.Join(err, errDisk); err != nil || len(points) == 0 {
			t.Fatalf("points %d: %v", points, err)
		}
		seen[points[0]] = true
		if kept := bytesOfBlocks(t, l.store); kept > l.store.PointBytes()*3/2+bytesOfBlock(t, l.store, points[0]) {
			t.Fatalf("after %d blocks those that are kept have %d bytes, a point is made after each %d", i, kept, l.store.PointBytes())
		}
		sum += used
		if i > blocks/3 {
			most = max(most, used)
		}
	}
	ratio := func(n uint64) float64 { return float64(n) / float64(live) }
	t.Logf("live %d bytes, the directory at most %d, %.2f times that, on average %.2f; points at %v", live, most, ratio(most), ratio(sum/uint64(blocks/5)), seen)
	if long && most > 2*live || len(seen) < 5 {
		t.Errorf("the directory has %d bytes, the live state is %d; points at %v", most, live, seen)
	}
	checkPrunedHome(t, l)
}

// bytesOfBlocks is what the blocks take that are kept, but for the first, after which
// the state is that is kept.
func bytesOfBlocks(t *testing.T, st *store.Store) (sum uint64) {
	t.Helper()
	first, _, err := st.FirstBlock()
	if err != nil {
		t.Fatal(err)
	}
	tip, _ := st.Latest()
	for height := first + 1; height <= tip.Height; height++ {
		sum += bytesOfBlock(t, st, height)
	}
	return sum
}

func bytesOfBlock(t *testing.T, st *store.Store, height chain.Height) (sum uint64) {
	t.Helper()
	for _, read := range []func(chain.Height) ([]byte, bool, error){st.Block, st.Header, st.Receipts, st.Certificate} {
		data, ok, err := read(height)
		if err != nil || !ok {
			t.Fatalf("block %d: %v, %v", height, ok, err)
		}
		sum += uint64(len(data))
	}
	return sum
}

// checkPrunedHome stops a node and looks at its home as its operator may.
func checkPrunedHome(t *testing.T, l *loaded) {
	t.Helper()
	l.close()
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := VerifyHome(t.Context(), l.home, quiet())
	if err != nil || len(report.Faults) > 0 || report.First < 3 || report.Point <= report.First {
		t.Errorf("verifying: %+v, %v", report, err)
	}
	st, err := store.Open(chainDir(l.home), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.store = st
	l.open()
	floor, err := l.app.Last()
	if err != nil || len(floor.Reigns) < 3 || floor.Reigns[1].Start.IsZero() || floor.Reigns[1].Final == nil {
		t.Errorf("what consensus begins with: %+v, %v", floor, err)
	}
	l.pay(1, 1000)
}
