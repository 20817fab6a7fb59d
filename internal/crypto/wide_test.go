package crypto_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestHashingManyIsHashingEach compares both ways of hashing, for every count
// around the number of lanes and for lengths around those of blocks and chunks.
func TestHashingManyIsHashingEach(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	lengths := []int{0, 1, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 500, 1023, 1024, 1025, 3000}
	for n := range 70 {
		for same := range len(lengths) + 1 {
			in := make([][]byte, n)
			for i := range in {
				in[i] = bytes(lengths[rng.IntN(len(lengths))])
				if same < len(lengths) {
					in[i] = bytes(lengths[same])
				}
			}
			out := make([]crypto.Digest, n)
			crypto.DomainStateValue.HashMany(out, in)
			for i := range in {
				if want := crypto.DomainStateValue.Hash(in[i]); out[i] != want {
					t.Fatalf("%d inputs: the %d-th, of %d bytes, hashes to %v, want %v", n, i, len(in[i]), out[i], want)
				}
			}
		}
		in, out := make([]crypto.Digest, 2*n), make([]crypto.Digest, n)
		joins := make([]crypto.Join, n)
		for i := range joins {
			copy(in[2*i][:], bytes(32))
			copy(in[2*i+1][:], bytes(32))
			joins[i] = crypto.Join{Left: &in[2*i], Right: &in[2*i+1], To: &out[i]}
		}
		crypto.DomainStateInner.HashJoins(joins)
		for i := range joins {
			if want := crypto.DomainStateInner.HashPair(in[2*i], in[2*i+1]); out[i] != want {
				t.Fatalf("%d joins: the %d-th hashes to %v, want %v", n, i, out[i], want)
			}
			joins[i].To = &in[i] // as the levels of a tree are made, each in the place of the one below
		}
		crypto.DomainStateInner.HashJoins(joins)
		for i := range joins {
			if in[i] != out[i] {
				t.Fatalf("%d joins in place of their children: the %d-th hashes to %v, want %v", n, i, in[i], out[i])
			}
		}
	}
}

func BenchmarkHashPair(b *testing.B) {
	var l, r crypto.Digest
	for b.Loop() {
		l = crypto.DomainStateInner.HashPair(l, r)
	}
}

func BenchmarkHashJoins(b *testing.B) {
	const n = 1024
	in, out := make([]crypto.Digest, 2*n), make([]crypto.Digest, n)
	joins := make([]crypto.Join, n)
	for i := range joins {
		joins[i] = crypto.Join{Left: &in[2*i], Right: &in[2*i+1], To: &out[i]}
	}
	for b.Loop() {
		crypto.DomainStateInner.HashJoins(joins)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*b.N), "ns/join")
}

// TestLongHashesAreAsPublished compares the hash of an input with that of the same
// input through NewStream, which is the library's: for every full tree from 16 KiB
// to beyond 256 KiB, and lengths around them; every byte counts.
func TestLongHashesAreAsPublished(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	data := make([]byte, 512<<10+1)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	check := func(data []byte) crypto.Digest {
		t.Helper()
		s := crypto.DomainBlobChunk.NewStream()
		if _, err := s.Write(data); err != nil {
			t.Fatal(err)
		}
		got := crypto.DomainBlobChunk.Hash(data)
		if want := s.Sum(); got != want {
			t.Fatalf("%d bytes hash to %v, want %v", len(data), got, want)
		}
		return got
	}
	for chunks := 1; chunks <= 512; chunks *= 2 {
		for _, n := range []int{-1024, -1, 0, 1, 1024} {
			check(data[:chunks<<10+min(n, len(data)-chunks<<10)])
		}
	}
	whole := data[1 : 256<<10+1] // at an odd address
	sum := check(whole)
	for range 300 {
		at := rng.IntN(len(whole))
		whole[at] ^= 1 << rng.IntN(8)
		changed := check(whole)
		if changed == sum {
			t.Fatalf("byte %d does not count", at)
		}
		sum = changed
	}
}

// TestHashesAtTheBordersOfChunks compares the same from several goroutines, at addresses that
// are no multiples of anything.
func TestHashesAtTheBordersOfChunks(t *testing.T) {
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 6))
			data := make([]byte, 70<<10+8)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			for chunks := range 70 {
				for n := max(0, chunks<<10-1); n <= chunks<<10+1; n++ {
					part := data[worker+chunks%4:][:n]
					s := crypto.DomainBlobChunk.NewStream()
					if _, err := s.Write(part); err != nil {
						t.Error(err)
					}
					if got, want := crypto.DomainBlobChunk.Hash(part), s.Sum(); got != want {
						t.Errorf("%d bytes hash to %v, want %v", n, got, want)
					}
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkHashBlobChunk(b *testing.B) {
	data := make([]byte, 256<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		crypto.DomainBlobChunk.Hash(data)
	}
}
