package store_test

import (
	"bytes"
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
		l.commit(b, l.distinct(part))
	}
	check(b, l.store.Rest())
	check(b, l.store.Compact(b.Context())) // what filling left to do is not the transfers'
	for _, k := range l.rng.Perm(n) {      // nor is the first look at each account since
		l.read(b, l.keys[k][:])
	}
	return l
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
	changes := make([]state.Change, len(accounts))
	for i := range accounts {
		value := make([]byte, accountBytes)
		binary.BigEndian.PutUint64(value, uint64(l.height)+1)
		changes[i] = state.Change{Key: accounts[i][:], Value: value}
	}
	l.tree = commitChanges(b, l.store, l.tree, l.height, changes)
	l.height++
}
