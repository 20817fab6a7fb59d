package executor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// TestMemoryIsTheRuns: however a deterministic program ends, what it left in its memory is told, the same
// each time, and another thing when the program did another.
func TestMemoryIsTheRuns(t *testing.T) {
	for name, end := range map[string]string{
		"returns": `nop`, "exits with 0": `(call $proc_exit (i32.const 0))`, "exits with 3": `(call $proc_exit (i32.const 3))`,
		"traps": `unreachable`, "has no fuel left": `(loop (br 0))`, "reaches a limit": openF + `(loop (drop (call $fd_write (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`,
		"has no memory left": `(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable`,
	} {
		limits := generous()
		limits.Fuel, limits.MemoryBytes = 50e6, 4<<20
		left := func(value int) crypto.Digest {
			o, _ := run(t, executor.Task{Module: wat(t, body(fmt.Sprintf(`(i32.store (i32.const 5000) (i32.const %d)) %s`, value, end))), Limits: limits, Digest: true})
			return o.Memory
		}
		one, again, two := left(1), left(1), left(2)
		if one != again || one == two || one.IsZero() {
			t.Errorf("a program that %s left %s, %s and, when it did another thing, %s", name, one.Short(), again.Short(), two.Short())
		}
	}
}

// TestMemoryIsNoResult of what depends on the machine.
func TestMemoryIsNoResult(t *testing.T) {
	short := generous()
	short.Fuel, short.WallTime = executor.MaxFuel, 50*time.Millisecond
	recursion := `(module (memory (export "memory") 1) (func $f (call $f) (call $f)) (func (export "_start") (call $f)))`
	for name, task := range map[string]executor.Task{
		"its time was over":       {Module: wat(t, body(`(loop (br 0))`)), Limits: short},
		"it ran live":             {Module: wat(t, body(`nop`)), Mode: executor.ModeLive},
		"its stack was exhausted": {Module: wat(t, recursion)},
		"it was not asked for":    {Module: wat(t, body(`nop`))},
		"it was refused":          {Module: []byte("nothing")},
	} {
		task.Digest = name != "it was not asked for"
		if o, _ := run(t, task); !o.Memory.IsZero() {
			t.Errorf("%s, and it left %s: %+v", name, o.Memory.Short(), o)
		}
	}
	// A store beyond the end may be done in part.
	whole, _ := run(t, executor.Task{Module: wat(t, body(`nop`)), Digest: true})
	torn, _ := run(t, executor.Task{Module: wat(t, body(`(i64.store (i32.const 65528) (i64.const -1))`)), Digest: true})
	before, _ := run(t, executor.Task{Module: wat(t, body(`(i64.store (i32.const 65512) (i64.const -1))`)), Digest: true})
	if torn.Memory != whole.Memory || before.Memory == whole.Memory {
		t.Errorf("left %s, %s at the very end, %s before it", whole.Memory.Short(), torn.Memory.Short(), before.Memory.Short())
	}
}

func memoryDigest(t testing.TB, memory []byte) crypto.Digest {
	t.Helper()
	sum, err := executor.MemoryDigest(t.Context(), memory, len(memory))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestMemoryDigestEnds with its context, and with the bytes that are allowed: pages that are zero take none.
func TestMemoryDigestEnds(t *testing.T) {
	const page = 64 << 10
	memory := make([]byte, 4*page)
	memory[page], memory[2*page], memory[3*page] = 1, 1, 1
	two := func() crypto.Digest {
		sum, err := executor.MemoryDigest(t.Context(), memory, 2*page)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := two()
	memory[3*page] = 2
	if two() != before {
		t.Error("a third page counts of two")
	}
	if memory[2*page] = 2; two() == before {
		t.Error("the second page counts nothing")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := executor.MemoryDigest(ctx, memory, 2*page); !errors.Is(err, why) {
		t.Errorf("after its end: %v", err)
	}
}

// TestMemoryDigest: every byte counts but the last ones, and so does how many there are.
func TestMemoryDigest(t *testing.T) {
	const page = 64 << 10
	memory := make([]byte, 3*page)
	zero := memoryDigest(t, memory)
	seen := map[crypto.Digest]int{zero: -1, memoryDigest(t, memory[:2*page]): -2, memoryDigest(t, nil): -3}
	for _, at := range []int{0, 1, page - 1, page, 2*page - 1, 2 * page, 3*page - 17} {
		memory[at] = 1
		if other, twice := seen[memoryDigest(t, memory)]; twice {
			t.Errorf("a byte at %d is as one at %d", at, other)
		}
		seen[memoryDigest(t, memory)] = at
		memory[at] = 0
	}
	memory[3*page-16] = 1
	if memoryDigest(t, memory) != zero {
		t.Error("the last bytes count")
	}
}

// BenchmarkMemoryDigest is what it costs to digest a memory that is full, and one that nobody wrote to.
func BenchmarkMemoryDigest(b *testing.B) {
	for _, mib := range []int{1, 64, 512} {
		for _, full := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d MiB, full %t", mib, full), func(b *testing.B) {
				memory := make([]byte, mib<<20)
				for i := 0; full && i < len(memory); i += 4096 {
					memory[i] = byte(i>>12) | 1
				}
				b.SetBytes(int64(len(memory)))
				for b.Loop() {
					memoryDigest(b, memory)
				}
			})
		}
	}
}
