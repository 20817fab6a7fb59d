package store_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/store"
)

// A point that is made while the pruner plans keeps its state: of the versions since
// the plan began none goes.
func TestAPointMadeWhileThePrunerPlansStays(t *testing.T) {
	bounded(t)
	s := must(store.OpenMemory(store.Options{TreeInterval: 1, PointBytes: 1 << 10}))(t)
	h := newHistory(s)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	check(t, s.Commit(h.closing(t, 1)))
	tip, _ := s.Latest()
	mark, _ := s.TreeMark()
	for range 20 { // each a point
		check(t, s.Commit(h.sized(t, 1000)))
	}
	check(t, s.PruneFrom(t.Context(), tip, mark, store.PruneOptions{KeepVersions: 1, KeepStates: 1}))
	points := must(s.Points(100))(t)
	if len(points) < 10 {
		t.Fatalf("points %d", points)
	}
	for _, height := range points {
		h.checkLeaves(t, leaves(t, s, height-1), int(height)-1)
	}
	check(t, s.Close())
}

// The last points are read without all before them: who asks is a stranger.
func TestTheLastPointsAreReadAlone(t *testing.T) {
	s := must(store.OpenMemory(store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	for height := range byte(6) {
		check(t, s.SetRaw([]byte{'p', 0, 0, 0, 0, 0, 0, 0, height}, make([]byte, 8)))
	}
	check(t, s.SetRaw([]byte{'p', 0}, nil)) // the first one cannot be read
	if points := must(s.Points(2))(t); len(points) != 2 || points[0] != 2 || points[1] != 1 {
		t.Errorf("points %d: the tip is block 2", points)
	}
	check(t, s.Close())
}
