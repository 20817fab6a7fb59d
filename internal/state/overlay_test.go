package state_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/state"
)

type pair struct{ key, value string }

func collect(seq iter.Seq2[[]byte, []byte]) []pair {
	var out []pair
	for k, v := range seq {
		out = append(out, pair{string(k), string(v)})
	}
	return out
}

func (m model) between(start, end []byte) []pair {
	var out []pair
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k >= string(start) && (end == nil || k < string(end)) {
			out = append(out, pair{k, m[k]})
		}
	}
	return out
}

func smallKey(t *rapid.T) []byte {
	return fmt.Appendf(nil, "k%02d", rapid.IntRange(0, 20).Draw(t, "key"))
}

// mutate does the same random thing to a KV and to its model.
func mutate(t *rapid.T, kv state.KV, m model) {
	key := smallKey(t)
	if rapid.Bool().Draw(t, "delete") {
		kv.Delete(key)
		delete(m, string(key))
		return
	}
	value := fmt.Appendf(nil, "v%d", rapid.IntRange(0, 99).Draw(t, "value"))
	kv.Set(key, value)
	m[string(key)] = string(value)
}

func TestNestedOverlaysAgreeWithMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend := state.NewMemoryBackend()
		kvs, models := []state.KV{backend}, []model{{}}
		for range rapid.IntRange(0, 10).Draw(t, "initial") {
			mutate(t, backend, models[0])
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			top := len(kvs) - 1
			kv, m := kvs[top], models[top]
			switch rapid.SampledFrom([]string{"change", "change", "nest", "flush", "discard", "read", "iterate", "learn"}).Draw(t, "step") {
			case "change":
				mutate(t, kv, m)
			case "nest":
				nested := state.NewOverlay(kv)
				if rapid.Bool().Draw(t, "remembers") {
					nested = state.NewRemembering(kv, 1)
				}
				kvs, models = append(kvs, nested), append(models, maps.Clone(m))
			case "flush":
				if top > 0 {
					kv.(*state.Overlay).Flush(kvs[top-1])
					models[top-1] = maps.Clone(m)
				}
			case "learn":
				if top > 0 {
					o, key := kv.(*state.Overlay), smallKey(t)
					value, ok := kvs[top-1].Get(key)
					o.Reserve(rapid.IntRange(0, 30).Draw(t, "room"))
					o.Learn(key, value, ok)
				}
			case "discard":
				if top > 0 {
					kv.(*state.Overlay).Discard()
					kvs, models = kvs[:top], models[:top]
				}
			case "read":
				key := smallKey(t)
				want, present := m[string(key)]
				if value, ok := kv.Get(key); ok != present || string(value) != want {
					t.Fatalf("Get(%s) = %s, %v; want %s, %v", key, value, ok, want, present)
				}
			case "iterate":
				start, end := smallKey(t), smallKey(t)
				if rapid.Bool().Draw(t, "endless") {
					end = nil
				}
				if got, want := collect(kv.Iterate(start, end)), m.between(start, end); !slices.Equal(got, want) {
					t.Fatalf("Iterate(%s, %s) = %v, want %v", start, end, got, want)
				}
			}
		}
	})
}

// countedReads counts how often each key was asked for.
type countedReads struct {
	state.Reader
	asked map[string]int
}

func (c countedReads) Get(key []byte) ([]byte, bool) {
	c.asked[string(key)]++
	return c.Reader.Get(key)
}

// TestRememberedReads does as execution does: transactions on a block, read, changed, taken or
// thrown away. What the block says of each change's past is what its parent has, which was
// asked once for each key.
func TestRememberedReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend, past := state.NewMemoryBackend(), model{}
		for range rapid.IntRange(0, 10).Draw(t, "initial") {
			mutate(t, backend, past)
		}
		parent := countedReads{backend, map[string]int{}}
		block, now := state.NewRemembering(parent, 4), maps.Clone(past)
		for range rapid.IntRange(1, 20).Draw(t, "transactions") {
			tx, m := state.NewOverlay(block), maps.Clone(now)
			if rapid.Bool().Draw(t, "on the block") {
				tx, m = block, now
			}
			for range rapid.IntRange(1, 4).Draw(t, "steps") {
				key := smallKey(t)
				want, present := m[string(key)]
				switch rapid.SampledFrom([]string{"read", "change", "iterate"}).Draw(t, "step") {
				case "read":
					if value, ok := tx.Get(key); ok != present || string(value) != want {
						t.Fatalf("Get(%s) = %s, %v; want %s, %v", key, value, ok, want, present)
					}
				case "change":
					mutate(t, tx, m)
				case "iterate":
					if got, want := collect(tx.Iterate(key, nil)), m.between(key, nil); !slices.Equal(got, want) {
						t.Fatalf("Iterate(%s) = %v, want %v", key, got, want)
					}
				}
			}
			if tx != block && rapid.Bool().Draw(t, "flush") {
				tx.Flush(block)
				now = m
			}
		}
		for i, c := range block.Changes() {
			was, had := past[string(c.Key)]
			if before, ok := block.Before(i); ok != had || string(before) != was {
				t.Fatalf("before the block %s was %s, %v; want %s, %v", c.Key, before, ok, was, had)
			}
		}
		for key, times := range parent.asked { // order-free: each by itself
			if times > 1 {
				t.Fatalf("%s was asked for %d times", key, times)
			}
		}
	})
}

func TestIterationSeesTheStateAsItBegan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend, m := state.NewMemoryBackend(), model{}
		block := state.NewOverlay(backend)
		tx := state.NewOverlay(block)
		for _, kv := range []state.KV{backend, block, tx} {
			for range rapid.IntRange(0, 20).Draw(t, "initial") {
				mutate(t, kv, m)
				if rapid.Bool().Draw(t, "look") { // which leaves runs of several lengths
					collect(kv.Iterate(nil, nil))
				}
			}
		}
		want := m.between(nil, nil)
		var got []pair
		for k, v := range tx.Iterate(nil, nil) {
			got = append(got, pair{string(k), string(v)})
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				mutate(t, tx, m)
			}
			switch rapid.SampledFrom([]string{"", "flush", "nested"}).Draw(t, "also") {
			case "flush":
				tx.Flush(block)
			case "nested":
				if inner, now := collect(tx.Iterate(nil, nil)), m.between(nil, nil); !slices.Equal(inner, now) {
					t.Fatalf("nested iteration sees %v, want %v", inner, now)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("iteration saw %v, it began at %v", got, want)
		}
		if after := collect(tx.Iterate(nil, nil)); !slices.Equal(after, m.between(nil, nil)) {
			t.Fatalf("afterwards the overlay holds %v, want %v", after, m.between(nil, nil))
		}
	})
}

func TestChangesAreSortedAndComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend, m := state.NewMemoryBackend(), model{}
		overlay := state.NewOverlay(backend)
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			mutate(t, overlay, m)
		}
		changes := overlay.Changes()
		if len(changes) != overlay.Len() {
			t.Fatalf("%d changes, Len is %d", len(changes), overlay.Len())
		}
		for i, c := range changes {
			if i > 0 && bytes.Compare(changes[i-1].Key, c.Key) >= 0 {
				t.Fatalf("change %s after %s", c.Key, changes[i-1].Key)
			}
		}
		overlay.Flush(backend)
		if overlay.Len() != 0 || !slices.Equal(collect(backend.Iterate(nil, nil)), m.between(nil, nil)) {
			t.Fatal("Flush lost changes or kept them")
		}
		if !maps.Equal(model{}.apply(changes), m) {
			t.Fatalf("changes %v do not make %v", changes, m)
		}
	})
}

func TestLimitsOfKeysAndValuesAreAsserted(t *testing.T) {
	for name, broken := range map[string]func(kv state.KV){
		"no key":          func(kv state.KV) { kv.Set(nil, nil) },
		"long key":        func(kv state.KV) { kv.Set(make([]byte, state.MaxKeyBytes+1), nil) },
		"delete no key":   func(kv state.KV) { kv.Delete(nil) },
		"delete long":     func(kv state.KV) { kv.Delete(make([]byte, state.MaxKeyBytes+1)) },
		"long value":      func(kv state.KV) { kv.Set([]byte("k"), make([]byte, state.MaxValueBytes+1)) },
		"changed to long": func(kv state.KV) { kv.Set([]byte("set"), make([]byte, state.MaxValueBytes+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			kv := state.NewOverlay(state.NewMemoryBackend())
			kv.Set([]byte("set"), make([]byte, state.MaxValueBytes))
			kv.Set(make([]byte, state.MaxKeyBytes), nil)
			defer func() {
				if recover() == nil {
					t.Error("nothing panics")
				}
				if kv.Len() != 2 {
					t.Errorf("%d keys are in the overlay, want 2", kv.Len())
				}
			}()
			broken(kv)
		})
	}
}

func TestReusedOverlayDoesNotAllocateForReads(t *testing.T) {
	block := state.NewOverlay(state.NewMemoryBackend())
	key, value := []byte("account/1"), []byte("balance")
	block.Set(key, value)
	tx := state.NewOverlay(block)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := tx.Get(key); !ok {
			t.Fatal("the parent's key is not there")
		}
	}); n != 0 {
		t.Errorf("a read through two overlays allocates %v times", n)
	}
}

func TestRecords(t *testing.T) {
	type record struct {
		_      struct{} `cbor:",toarray"`
		Number uint64
	}
	kv := state.NewMemoryBackend()
	if _, ok := state.Load[record](kv, []byte("k")); ok {
		t.Error("a record is found where none is")
	}
	state.Save(kv, []byte("k"), record{Number: 7})
	if got, ok := state.Load[record](kv, []byte("k")); !ok || got.Number != 7 {
		t.Errorf("loaded %v (%v), saved 7", got, ok)
	}
	kv.Set([]byte("k"), []byte("not a record"))
	defer func() {
		if _, ok := recover().(*state.Fault); !ok {
			t.Error("a value that does not decode is no Fault")
		}
	}()
	state.Load[record](kv, []byte("k"))
}

// TestIterationsAmongAdditionsMoveLittle lets short iterations and additions take
// turns, as the transactions of a block do: an entry moves as often as the whole can
// double, and not each time.
func TestIterationsAmongAdditionsMoveLittle(t *testing.T) {
	const n = 3_000
	rng := rand.New(rand.NewPCG(1, 1))
	kv := state.NewOverlay(state.NewMemoryBackend())
	var before []int
	moved := 0
	for i := range n {
		key := binary.BigEndian.AppendUint64(nil, rng.Uint64())
		kv.Set(key, key)
		for found := range kv.Iterate(key, append(key, 0)) {
			if !bytes.Equal(found, key) {
				t.Fatalf("%x is found from %x on", found, key)
			}
		}
		now := state.RunLengths(kv)
		stayed := 0
		for k := 0; k < min(len(now), len(before)) && now[k] == before[k]; k++ {
			stayed += now[k]
		}
		moved += i + 1 - stayed
		before = now
	}
	if limit := n * bits.Len(n); moved > limit {
		t.Errorf("%d entries moved %d times in all, limit %d; the runs are %v", n, moved, limit, before)
	}
}

// TestTheFirstOfManyRunsIsFoundAtOnce: looking for the first pair at or after a key takes memory
// for as many as there are runs, and not for all that follow.
func TestTheFirstOfManyRunsIsFoundAtOnce(t *testing.T) {
	o := state.NewOverlay(state.NewMemoryBackend())
	look := func() {
		for range o.Iterate([]byte{'q', 0}, []byte{'r'}) {
			return
		}
	}
	for i := range 10_000 {
		o.Set(binary.BigEndian.AppendUint32([]byte{'q'}, uint32(i*7919%10_007)), []byte{1})
		if i%3 == 0 {
			look()
		}
	}
	const looks = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range looks {
		look()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / looks; each > 4_096 {
		t.Errorf("looking for one of ten thousand takes %d bytes", each)
	}
}
