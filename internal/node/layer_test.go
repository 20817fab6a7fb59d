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
	})
}
