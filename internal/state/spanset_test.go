package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSpanSet compares a set of spans with a map.
func TestSpanSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spanSet
		want := map[uint32]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			span := rapid.OneOf(rapid.Uint32Range(0, 10), rapid.Uint32Range(0, 300), rapid.Uint32Range(0, 100_000)).Draw(t, "span")
			if least, some := s.least(); some && rapid.Bool().Draw(t, "the least") {
				span = least
			}
			if rapid.Bool().Draw(t, "add") {
				s.add(span)
				want[span] = true
			} else {
				s.remove(span)
				delete(want, span)
			}
			var all []uint32
			for span := range want {
				all = append(all, span)
			}
			least, some := s.least()
			if some != (len(all) > 0) || some && least != slices.Min(all) || s.count != len(all) {
				t.Fatalf("of %v the least is %d (%t), and there are %d", all, least, some, s.count)
			}
		}
	})
}
