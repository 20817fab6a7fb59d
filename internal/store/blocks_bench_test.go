package store_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// BenchmarkCommitBlocks commits whole blocks of transfers between 10,000 accounts, as a
// node under load does: bodies, receipts, indexes and changes, with the tree and with
// all that the database does in the background. An iteration is a block; let it have some
// hundreds, so that there are merges in them.
func BenchmarkCommitBlocks(b *testing.B) {
	const transfers, accounts = 600, 10_000
	const bodyBytes, receiptBytes = 240, 80 // of a transfer, about
	s := must(store.Open(b.TempDir(), store.Options{}))(b)
	rng := rand.New(rand.NewPCG(3, 5))
	keys := make([]crypto.Digest, accounts)
	for i := range keys {
		keys[i] = id("account %d", i)
	}
	slices.SortFunc(keys, crypto.Digest.Compare)
	noise := make([]byte, 1<<22)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	ids := make([]crypto.Digest, transfers)
	parties := make([]int, 2*transfers)
	tree := s.NewTree()
	height := chain.Height(0)
	defer profiled(b)()
	began := processor(b)
	var hashed time.Duration
	for b.Loop() {
		for i := range ids {
			binary.LittleEndian.PutUint64(ids[i][:], rng.Uint64())
			binary.LittleEndian.PutUint64(ids[i][8:], rng.Uint64())
		}
		for i := range parties {
			parties[i] = rng.IntN(accounts)
		}
		sorted := slices.Clone(parties)
		slices.Sort(sorted)
		sorted = slices.Compact(sorted)
		changes := make([]state.Change, len(sorted))
		for i, k := range sorted {
			value := make([]byte, accountBytes)
			binary.BigEndian.PutUint64(value, uint64(height)+1)
			changes[i] = state.Change{Key: keys[k][:], Value: value}
		}
		if mark, ok := s.TreeMark(); ok {
			tree = tree.Persisted(mark)
		}
		before := tree
		hashing := processor(b)
		tree = must(before.Next(uint64(height), changes, 1))(b)
		hashed += processor(b) - hashing
		body := noise[rng.IntN(len(noise)-transfers*bodyBytes):][:transfers*bodyBytes]
		receipts := noise[rng.IntN(1000):][:transfers*receiptBytes]
		check(b, s.Commit(store.Finalized{
			Height: height, Digest: id("block %d", height), Header: noise[:600], Certificate: noise[:300], Block: body, Receipts: receipts,
			Changes: changes, Tree: tree, Txs: slices.Clone(ids),
		}))
		before.Release()
		height++
	}
	used := processor(b) - began
	count := float64(b.N * transfers)
	b.ReportMetric(float64(used.Nanoseconds())/1000/count, "core-µs/transfer")
	b.ReportMetric(float64((used-hashed).Nanoseconds())/1000/count, "about-without-tree")
	b.ReportMetric(float64(b.N*transfers)/b.Elapsed().Seconds(), "transfers/s")
	b.ReportMetric(0, "ns/op")
	check(b, s.Close())
}
