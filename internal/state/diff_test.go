package state_test

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// differences is the dumb way to what differs: every key of both, in the order of positions.
func (m model) differences(other model) (out []state.Difference) {
	value := func(of model, key string) []byte {
		if v, ok := of[key]; ok {
			return append([]byte{}, v...)
		}
		return nil
	}
	both := maps.Clone(m)
	maps.Copy(both, other)
	for key := range both { // order-free: sorted below
		d := state.Difference{Position: state.Position([]byte(key)), Key: []byte(key), A: value(m, key), B: value(other, key)}
		if !bytes.Equal(d.A, d.B) || (d.A == nil) != (d.B == nil) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b state.Difference) int { return a.Position.Compare(b.Position) })
	return out
}

// TestDiffAgreesWithMaps: whatever differs between two states is yielded, in order, so
// that the first is the first: a key that one of them lacks, and a value that is empty, too.
func TestDiffAgreesWithMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := model{}.apply(drawChanges(t))
		b := model{}.apply(drawChanges(t))
		if rapid.Bool().Draw(t, "alike") {
			b = a.apply(drawChanges(t))
		}
		leaves := func(m model) iter.Seq2[state.Entry, error] {
			kv := state.NewOverlay(state.NewMemoryBackend())
			for k, v := range m { // order-free: keys of a map
				kv.Set([]byte(k), []byte(v))
			}
			return must1(state.NewTree(state.NewMemoryBackend(), 0).Next(1, kv.Changes(), 1))(t).Iterate(crypto.Digest{})
		}
		var got []state.Difference
		for d, err := range state.Diff(leaves(a), leaves(b)) {
			got = append(got, must(t, d, err))
		}
		same := func(x, y state.Difference) bool {
			return x.Position == y.Position && bytes.Equal(x.Key, y.Key) && bytes.Equal(x.A, y.A) && bytes.Equal(x.B, y.B) && (x.A == nil) == (y.A == nil) && (x.B == nil) == (y.B == nil)
		}
		if want := a.differences(b); !slices.EqualFunc(got, want, same) {
			t.Fatalf("differ about %+v, want %+v", got, want)
		}
	})
}
