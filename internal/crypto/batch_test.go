package crypto_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// payloadOf is what item i of a batch signs.
func payloadOf(i int) []byte { return fmt.Append(nil, "payload ", i) }

var signedPool = sync.OnceValue(func() []crypto.Signed {
	items := make([]crypto.Signed, 700)
	for i := range items {
		key := keyOf(i % 50)
		items[i] = crypto.SignedBy(key.Public(), crypto.DomainTxBody, payloadOf(i), key.Sign(crypto.DomainTxBody, payloadOf(i)))
	}
	return items
})

// corrupt changes one item in one of the ways that an attacker would.
func corrupt(t *rapid.T, it *crypto.Signed) {
	at := rapid.IntRange(0, 31).Draw(t, "byte")
	bit := byte(1) << rapid.IntRange(0, 7).Draw(t, "bit")
	switch rapid.IntRange(0, 5).Draw(t, "corruption") {
	case 0:
		it.Signature[at] ^= bit // R
	case 1:
		it.Signature[32+at] ^= bit // S
	case 2:
		it.Digest[at] ^= bit
	case 3:
		it.Key[at] ^= bit // often no point at all
	case 4:
		it.Signature[63] |= 0xf0 // S above the group's order
	case 5:
		it.Key = crypto.PublicKey{1} // the identity
	}
}

// TestVerifyBatchAgreesWithVerify draws batches with random corruptions, sizes
// on both sides of every threshold, and compares with one at a time.
func TestVerifyBatchAgreesWithVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 40), rapid.SampledFrom([]int{255, 256, 257, 300})).Draw(t, "size")
		first := rapid.IntRange(0, 300).Draw(t, "first")
		items := slices.Clone(signedPool()[first : first+size])
		for range rapid.IntRange(0, 3).Draw(t, "corruptions") {
			if size > 0 {
				corrupt(t, &items[rapid.IntRange(0, size-1).Draw(t, "item")])
			}
		}
		want := make([]bool, size)
		for i, it := range items {
			want[i] = crypto.VerifyMessage(it.Key, it.Digest[:], it.Signature)
		}
		cache := crypto.NewKeyCache(rapid.SampledFrom([]int{2, 60, 1_000}).Draw(t, "keys"))
		for parallelism := 1; parallelism <= 4; parallelism++ {
			if got := crypto.VerifyBatch(items, parallelism); !slices.Equal(got, want) {
				t.Fatalf("parallelism %d: %v, want %v", parallelism, got, want)
			}
			crypto.WithoutFused(func() {
				if got := cache.VerifyBatch(items, parallelism); !slices.Equal(got, want) {
					t.Fatalf("parallelism %d, with a cache: %v, want %v", parallelism, got, want)
				}
			})
		}
	})
}

func TestVerifyBatchOfValidItems(t *testing.T) {
	for _, parallelism := range []int{-1, 0, 1, 2, 3, 64} {
		for i, ok := range crypto.VerifyBatch(signedPool(), parallelism) {
			if !ok {
				t.Fatalf("parallelism %d: item %d refused", parallelism, i)
			}
		}
	}
}

func TestForkJoinRunsEveryTaskOnceWithinItsBound(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 100} {
		for _, parallelism := range []int{-1, 0, 1, 2, 4, 200} {
			runs := make([]int, n)
			var running, most atomic.Int64
			crypto.ForkJoin(n, parallelism, func(i int) {
				now := running.Add(1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				runs[i]++
				running.Add(-1)
			})
			for i, r := range runs {
				if r != 1 {
					t.Errorf("n = %d, parallelism %d: task %d ran %d times", n, parallelism, i, r)
				}
			}
			if most.Load() > int64(max(1, parallelism)) || running.Load() != 0 {
				t.Errorf("n = %d, parallelism %d: %d at a time, %d left", n, parallelism, most.Load(), running.Load())
			}
		}
	}
}

// TestForkJoinIsParallel deadlocks unless two tasks run at the same time.
func TestForkJoinIsParallel(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	met := 0
	var mu sync.Mutex
	crypto.ForkJoin(2, 2, func(int) {
		both.Done()
		both.Wait()
		mu.Lock()
		met++
		mu.Unlock()
	})
	if met != 2 {
		t.Errorf("%d tasks met, want 2", met)
	}
}

func TestForkJoinRaisesPanicInCaller(t *testing.T) {
	for _, parallelism := range []int{1, 4} {
		var after atomic.Int64
		func() {
			defer func() {
				if p := recover(); p != "task 3" {
					t.Errorf("parallelism %d: recovered %v, want task 3", parallelism, p)
				}
			}()
			crypto.ForkJoin(1000, parallelism, func(i int) {
				if i == 3 {
					panic("task 3")
				}
				after.Add(1)
			})
		}()
		if after.Load() > 999 {
			t.Errorf("parallelism %d: %d other tasks ran", parallelism, after.Load())
		}
	}
}

func BenchmarkVerifyBatch(b *testing.B) {
	for _, size := range []int{1, 4, 16, 64, 256, 700} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			items := signedPool()[:size]
			for b.Loop() {
				if slices.Contains(crypto.VerifyBatch(items, 1), false) {
					b.Fatal("a valid signature was refused")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/signature")
		})
	}
}

// BenchmarkVerifyBatchKnownKeys verifies signatures of keys that came before, as a
// processor without fused multiplication does.
func BenchmarkVerifyBatchKnownKeys(b *testing.B) {
	for _, size := range []int{16, 256} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			crypto.WithoutFused(func() {
				items, cache := signedPool()[:size], crypto.NewKeyCache(1_000)
				cache.VerifyBatch(items, 1)
				for b.Loop() {
					if slices.Contains(cache.VerifyBatch(items, 1), false) {
						b.Fatal("a valid signature was refused")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/signature")
			})
		})
	}
}

func BenchmarkSign(b *testing.B) {
	key, payload := keyOf(0), payloadOf(0)
	for b.Loop() {
		key.Sign(crypto.DomainTxBody, payload)
	}
}

// TestAllVerifyAgreesWithVerify does the same for all together, on both ways.
func TestAllVerifyAgreesWithVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 20), rapid.SampledFrom([]int{64, 255, 300})).Draw(t, "size")
		first := rapid.IntRange(0, 300).Draw(t, "first")
		items := slices.Clone(signedPool()[first : first+size])
		if size > 0 && rapid.Bool().Draw(t, "is corrupted") {
			corrupt(t, &items[rapid.IntRange(0, size-1).Draw(t, "item")])
		}
		want := !slices.Contains(crypto.VerifyBatch(items, 1), false)
		if got := crypto.AllVerify(items); got != want {
			t.Fatalf("all verify: %v, want %v", got, want)
		}
		crypto.WithoutFused(func() {
			if got := crypto.AllVerify(items); got != want {
				t.Fatalf("all verify, without fused multiplication: %v, want %v", got, want)
			}
		})
	})
	large := slices.Concat(signedPool(), signedPool())
	for _, bad := range []int{-1, 0, 1_023, 1_024, len(large) - 1} {
		items := slices.Clone(large)
		if bad >= 0 {
			items[bad].Digest[0] ^= 1
		}
		if got := crypto.AllVerify(items); got != (bad < 0) {
			t.Errorf("all of %d verify, item %d bad: %v", len(items), bad, got)
		}
	}
}
