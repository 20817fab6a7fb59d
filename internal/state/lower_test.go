package state_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// orderly is a reader of many records at a time, which come in ascending order.
type orderly struct {
	*state.MemoryBackend
	t rapid.TB
}

func (o orderly) ReadNodes(keys [][]byte, take func(i int, record []byte) error) error {
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 {
			o.t.Fatalf("%x is asked for after %x", key, keys[i-1])
		}
		record, ok, err := o.AppendNode(nil, key)
		if err != nil || !ok {
			record = nil
		}
		if err := take(i, record); err != nil {
			return err
		}
		for n := range record { // it was valid during the call alone
			record[n] = 0xee
		}
	}
	return nil
}

// The lower end of a range is what the model has there, however the tree came to
// be, from the disk and from memory.
func TestLowerEndOfARangeAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend := state.NewMemoryBackend()
		reader := orderly{backend, t}
		tree, m := state.NewTree(reader, 0), model{}
		for version := range rapid.IntRange(1, 5).Draw(t, "versions") {
			changes := drawChanges(t)
			m = m.apply(changes)
			tree = must1(tree.Next(uint64(version), changes, 1))(t)
			if rapid.Bool().Draw(t, "persist") {
				backend.ApplyBatch(tree.Batch())
				if tree = tree.Persisted(tree.Mark()); rapid.Bool().Draw(t, "reopen") {
					tree = must1(state.OpenTree(reader, tree.Mark(), 0))(t)
				}
			}
		}
		r := drawRange(t, m.within(state.Range{To: lastPosition}))
		leaves, size := rapid.IntRange(1, 20).Draw(t, "leaves"), rapid.IntRange(1, 400).Draw(t, "bytes")
		want := m.within(r)
		for sum, i := 0, 0; i < len(want); i++ {
			if sum += len(want[i].Key) + len(want[i].Value); sum >= size || i+1 == leaves {
				want = want[:i+1]
			}
		}
		got := must1(tree.Lower(r, leaves, size))(t)
		if !slices.EqualFunc(got, want, func(a, b state.Entry) bool {
			return a.Position == b.Position && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
		}) {
			t.Fatalf("%d leaves, want %d", len(got), len(want))
		}
	})
}

// Large values are read in proportion to what was asked for, and missing records
// are an error.
func TestLowerEndReadsLittleOfLargeValues(t *testing.T) {
	backend := state.NewMemoryBackend()
	counter := &counting{orderly: orderly{backend, t}}
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := range 300 {
		kv.Set(fmt.Appendf(nil, "key %d", i), make([]byte, 100_000))
	}
	tree := must1(state.NewTree(counter, 0).Next(1, kv.Changes(), 2))(t)
	backend.ApplyBatch(tree.Batch())
	tree = must1(state.OpenTree(counter, tree.Mark(), 0))(t)
	r := state.Range{To: lastPosition}
	total := 0
	for {
		part := must1(tree.Lower(r, 4096, 500_000))(t)
		total += len(part)
		if len(part) < 5 {
			break
		}
		r.From = state.After(part[len(part)-1].Position)
	}
	if total != 300 || counter.read > 5*300*100_000 {
		t.Errorf("%d leaves, %d bytes read", total, counter.read)
	}
	counter.gone = true
	if part, err := tree.Lower(state.Range{To: lastPosition}, 10, 1<<20); err == nil {
		t.Errorf("%d leaves of records that are gone", len(part))
	}
}

// counting counts the bytes that are read.
type counting struct {
	orderly
	read int
	gone bool
}

func (c *counting) ReadNodes(keys [][]byte, take func(i int, record []byte) error) error {
	return c.orderly.ReadNodes(keys, func(i int, record []byte) error {
		if c.gone {
			return take(i, nil)
		}
		c.read += len(record)
		return take(i, record)
	})
}

func TestAfter(t *testing.T) {
	for from, want := range map[crypto.Digest]crypto.Digest{{}: {31: 1}, {30: 7, 31: 0xff}: {30: 8}} {
		if got := state.After(from); got != want {
			t.Errorf("%v after %v", got, from)
		}
	}
}
