package state_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/state"
)

// A list of changes says what the changes said, also when it was read from its bytes.
func TestChangeLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes := drawChanges(t)
		if rapid.Bool().Draw(t, "long") {
			changes = append(changes, state.Change{Key: bytes.Repeat([]byte{0xff}, state.MaxKeyBytes), Value: make([]byte, 300)})
		}
		made := state.NewChangeList(changes)
		read, err := state.ReadChangeList(bytes.Clone(made.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []state.ChangeList{made, read} {
			if l.Len() != len(changes) || len(l.Changes()) != len(changes) {
				t.Fatalf("%d of %d changes", l.Len(), len(changes))
			}
			for i, c := range changes {
				got := l.At(i)
				if !bytes.Equal(got.Key, c.Key) || !bytes.Equal(got.Value, c.Value) || got.Deleted != c.Deleted || got.Deleted != (got.Value == nil) {
					t.Fatalf("change %d is %v, want %v", i, got, c)
				}
				if !bytes.Equal(l.Key(i), c.Key) || l.From(c.Key) != i || l.From(append(slices.Clone(c.Key), 0)) != i+1 {
					t.Fatalf("change %d is not found by its key %x", i, c.Key)
				}
			}
		}
	})
}

// What is cut off or says a wrong length is no list.
func TestChangeListsThatAreNone(t *testing.T) {
	whole := state.NewChangeList([]state.Change{{Key: []byte("a"), Value: []byte("first")}, {Key: []byte("b"), Deleted: true}, {Key: []byte("c"), Value: []byte{}}}).Bytes()
	ends := []int{0, 8, 11, 14} // of no, one, two and three changes
	if len(whole) != ends[len(ends)-1] {
		t.Fatalf("the list has %d bytes, want %d", len(whole), ends[len(ends)-1])
	}
	for n := range len(whole) + 1 {
		l, err := state.ReadChangeList(whole[:n])
		if is := slices.Index(ends, n); (err == nil) != (is >= 0) || err == nil && l.Len() != is {
			t.Errorf("%d of %d bytes: %d changes, %v", n, len(whole), l.Len(), err)
		}
	}
	for _, bad := range [][]byte{{0x80}, {1, 'k', 0x80}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'k', 0}, bytes.Repeat([]byte{0xff}, 20)} {
		if l, err := state.ReadChangeList(bad); err == nil {
			t.Errorf("%x is a list: %s", bad, fmt.Sprint(l.Changes()))
		}
	}
}
