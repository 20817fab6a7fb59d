package node

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/state"
)

// TestLayerAgreesWithAnOverlay compares what a block's changes say of each key with an
// overlay that has them, for any number of changes: none, and where the places are full.
func TestLayerAgreesWithAnOverlay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backend := state.NewMemoryBackend()
		key := func(n int) []byte { return binary.BigEndian.AppendUint32([]byte("k"), uint32(n)) }
		keys := rapid.OneOf(rapid.IntRange(0, 8), rapid.SampledFrom([]int{21, 42, 85, 300})).Draw(t, "keys")
		overlay := state.NewOverlay(backend)
		for n := range keys {
			if n%3 == 0 {
				backend.Set(key(n), []byte("before"))
			}
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				overlay.Delete(key(n))
			case 1, 2:
				overlay.Set(key(n), rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(t, "value"))
			}
		}
		layer := newLayer(backend, overlay.Changes())
		for n := range keys + 3 {
			want, has := overlay.Get(key(n))
			if value, ok := layer.Get(key(n)); ok != has || !slices.Equal(value, want) {
				t.Fatalf("key %d is %x, %v; want %x, %v", n, value, ok, want, has)
			}
		}
		start, end := key(rapid.IntRange(0, keys+1).Draw(t, "start")), key(rapid.IntRange(0, keys+1).Draw(t, "end"))
		if rapid.Bool().Draw(t, "all") {
			end = nil
		}
		if want, got := pairs(overlay, start, end), pairs(layer, start, end); !slices.Equal(got, want) {
			t.Fatalf("from %x to %x there are %q, want %q", start, end, got, want)
		}
	})
}

// pairs lists what is in a range, and stops after some.
func pairs(r state.Reader, start, end []byte) (list []string) {
	for key, value := range r.Iterate(start, end) {
		if list = append(list, string(key), string(value)); len(list) == 200 {
			break
		}
	}
	return list
}

// TestTheFirstPairIsFoundAtOnce: looking for the first pair at or after a key takes as much
// beside a block that changed ten thousand as beside one that changed two: a block full of
// messages that look for their place in a queue must not take the square of that.
func TestTheFirstPairIsFoundAtOnce(t *testing.T) {
	took := map[int]float64{}
	for _, n := range []int{2, 10_000} {
		overlay := state.NewOverlay(state.NewMemoryBackend())
		for i := range n {
			overlay.Set(binary.BigEndian.AppendUint32([]byte{'q'}, uint32(i)), []byte{1})
		}
		layer := newLayer(state.NewMemoryBackend(), overlay.Changes())
		took[n] = testing.AllocsPerRun(10, func() {
			for range layer.Iterate([]byte{'q', 0}, []byte{'r'}) {
				return
			}
			t.Error("nothing is found")
		})
	}
	if took[10_000] > took[2]+2 {
		t.Errorf("the first of ten thousand takes %v allocations, of two %v", took[10_000], took[2])
	}
}
