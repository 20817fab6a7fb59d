package store_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// BenchmarkCommitAccounts is what transfers cost below execution, beside 10⁴, 10⁵ and
// 10⁶ accounts: two accounts are read, changed, hashed into the tree and
// committed. The three take turns in one process, so that other work on the machine
// disturbs them alike; ratio is the largest's processor time over the smallest's.
// HYPERMESH_BENCH_ACCOUNTS is a list of other numbers of accounts, with commas between.
func BenchmarkCommitAccounts(b *testing.B) {
	const transfers, blocks = 1_000, 100 // a turn
	sizes := accountSizes(b)
	ledgers := make([]*accountLedger, len(sizes))
	for i, n := range sizes {
		ledgers[i] = newAccountLedger(b, n)
	}
	used := make([]time.Duration, len(sizes))
	defer profiled(b)()
	for b.Loop() {
		for i, l := range ledgers {
			began := processor(b)
			for range blocks {
				l.block(b, transfers)
			}
			check(b, l.store.Rest())
			used[i] += processor(b) - began
		}
	}
	each := func(i int) float64 {
		return float64(used[i].Nanoseconds()) / 1000 / float64(b.N*blocks*transfers)
	}
	for i, n := range sizes {
		b.ReportMetric(each(i), fmt.Sprintf("core-µs/transfer@%d", n))
		check(b, ledgers[i].store.Close())
	}
	b.ReportMetric(each(len(sizes)-1)/each(0), "ratio")
	b.ReportMetric(0, "ns/op")
}

func accountSizes(b *testing.B) (sizes []int) {
	asked, some := os.LookupEnv("HYPERMESH_BENCH_ACCOUNTS")
	if !some {
		return []int{10_000, 100_000, 1_000_000}
	}
	for _, n := range strings.Split(asked, ",") {
		sizes = append(sizes, must(strconv.Atoi(n))(b))
	}
	return sizes
}

// accountLedger is a store of accounts alone.
type accountLedger struct {
	store  *store.Store
	tree   *state.Tree
	height chain.Height
	keys   []crypto.Digest // ascending
	rng    *rand.Rand
}

// accountBytes is what an account's record takes: nonce, balance, and no locks
// (tokens.Account).
const accountBytes = 14

func newAccountLedger(b *testing.B, n int) *accountLedger {
	options := store.Options{TreeBytes: int64(max(state.DefaultResidentBytes, 100*n)), RecordBytes: int64(max(64<<20, 64*n))}
	l := &accountLedger{store: must(store.Open(b.TempDir(), options))(b), rng: rand.New(rand.NewPCG(3, uint64(n)))}
	l.tree = l.store.NewTree()
	l.keys = make([]crypto.Digest, n)
	for i := range l.keys {
		l.keys[i] = id("account %d", i)
	}
	slices.SortFunc(l.keys, crypto.Digest.Compare)
	for part := range slices.Chunk(l.rng.Perm(n), 10_000) {
		l.commit(b, part)
	}
	check(b, l.store.Rest())
	check(b, l.store.Compact(b.Context())) // what filling left to do is not the transfers'
	for _, k := range l.rng.Perm(n) {      // nor is the first look at each account since
		l.read(b, k)
	}
	return l
}

// block commits transfers between random accounts, each of which it reads before.
func (l *accountLedger) block(b *testing.B, transfers int) {
	parties := make([]int, 2*transfers)
	for i := range parties {
		parties[i] = l.rng.IntN(len(l.keys))
	}
	for _, k := range parties {
		l.read(b, k)
	}
	l.commit(b, parties)
}

func (l *accountLedger) read(b *testing.B, k int) {
	if value, ok := l.store.State().Get(l.keys[k][:]); !ok || len(value) != accountBytes {
		b.Fatalf("account %d has a value of %d bytes", k, len(value))
	}
}

func (l *accountLedger) commit(b *testing.B, parties []int) {
	slices.Sort(parties)
	parties = slices.Compact(parties)
	changes := make([]state.Change, len(parties))
	for i, k := range parties {
		value := make([]byte, accountBytes)
		binary.BigEndian.PutUint64(value, uint64(l.height)+1)
		changes[i] = state.Change{Key: l.keys[k][:], Value: value}
	}
	l.tree = commitChanges(b, l.store, l.tree, l.height, changes)
	l.height++
}
