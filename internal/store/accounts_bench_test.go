package store_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// BenchmarkCommitAccounts is what transfers cost below execution, beside 10⁴, 10⁵ and
// 10⁶ accounts: two accounts are read, changed, hashed into the tree and
// committed. What the transfers are is decided before, as they come to a node from
// elsewhere. The three take turns in one process, so that other work on the machine
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
			turn := make([]accountBlock, blocks)
			for k := range turn {
				turn[k] = l.draw(transfers)
			}
			began := processor(b)
			for k := range turn {
				l.block(b, &turn[k])
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

// BenchmarkBuildAccounts is the tree's part of that alone, by one goroutine: versions of
// 2,000 random accounts are made of the one before, which is released. A version's time is
// that of its processor; the median tells programs apart where the machine has other work.
func BenchmarkBuildAccounts(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, n := range accountSizes(b) {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			const updates = 2_000
			s := must(store.OpenMemory(store.Options{TreeBytes: int64(max(state.DefaultResidentBytes, 200*n))}))(b)
			l := &accountLedger{store: s, tree: s.NewTree(), rng: rand.New(rand.NewPCG(3, uint64(n))), keys: accountKeys(n)}
			for part := range slices.Chunk(l.rng.Perm(n), 10_000) {
				l.build(b, l.distinct(part))
			}
			var took []time.Duration
			for b.Loop() {
				some := make([]int, updates)
				for i := range some {
					some[i] = l.rng.IntN(n)
				}
				took = append(took, l.build(b, l.distinct(some)))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000/(updates/2), "core-µs/transfer")
			b.ReportMetric(0, "ns/op")
			check(b, s.Close())
		})
	}
}

// build makes the next version of the tree, as if the one before were on the disk, and
// returns how long the processor took.
func (l *accountLedger) build(b *testing.B, accounts []crypto.Digest) time.Duration {
	changes := l.changes(accounts)
	began := thread(b)
	next := must(l.tree.Next(uint64(l.height), changes, 1))(b)
	l.tree.Release()
	took := thread(b) - began
	l.tree = next.Persisted(next.Mark())
	l.height++
	return took
}

// thread returns the processor time that the thread has used.
func thread(b *testing.B) time.Duration {
	var t unix.Timespec
	check(b, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
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
	l.keys = accountKeys(n)
	for part := range slices.Chunk(l.rng.Perm(n), 10_000) {
		l.commit(b, l.distinct(part))
	}
	check(b, l.store.Rest())
	check(b, l.store.Compact(b.Context())) // what filling left to do is not the transfers'
	for _, k := range l.rng.Perm(n) {      // nor is the first look at each account since
		l.read(b, l.keys[k][:])
	}
	return l
}

func accountKeys(n int) []crypto.Digest {
	keys := make([]crypto.Digest, n)
	for i := range keys {
		keys[i] = id("account %d", i)
	}
	slices.SortFunc(keys, crypto.Digest.Compare)
	return keys
}

// accountBlock is the accounts of a block of transfers: as they are read, and each once
// in ascending order.
type accountBlock struct {
	parties  [][]byte
	distinct []crypto.Digest
}

// draw returns a block of transfers between random accounts.
func (l *accountLedger) draw(transfers int) (block accountBlock) {
	parties := make([]int, 2*transfers)
	for i := range parties {
		parties[i] = l.rng.IntN(len(l.keys))
		block.parties = append(block.parties, bytes.Clone(l.keys[parties[i]][:]))
	}
	block.distinct = l.distinct(parties)
	return block
}

// distinct returns the keys of accounts in ascending order, each once.
func (l *accountLedger) distinct(accounts []int) (keys []crypto.Digest) {
	slices.Sort(accounts)
	for _, k := range slices.Compact(accounts) {
		keys = append(keys, l.keys[k])
	}
	return keys
}

// block reads the accounts of a block, and commits what becomes of them.
func (l *accountLedger) block(b *testing.B, block *accountBlock) {
	state.Ahead(l.store.State(), block.parties)
	for _, key := range block.parties {
		l.read(b, key)
	}
	l.commit(b, block.distinct)
}

func (l *accountLedger) read(b *testing.B, key []byte) {
	if value, ok := l.store.State().Get(key); !ok || len(value) != accountBytes {
		b.Fatalf("account %x has a value of %d bytes", key, len(value))
	}
}

func (l *accountLedger) commit(b *testing.B, accounts []crypto.Digest) {
	l.tree = commitChanges(b, l.store, l.tree, l.height, l.changes(accounts))
	l.height++
}

func (l *accountLedger) changes(accounts []crypto.Digest) []state.Change {
	changes := make([]state.Change, len(accounts))
	for i := range accounts {
		value := make([]byte, accountBytes)
		binary.BigEndian.PutUint64(value, uint64(l.height)+1)
		changes[i] = state.Change{Key: accounts[i][:], Value: value}
	}
	return changes
}
