package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// sized makes the next block one of a size.
func (h *history) sized(t testing.TB, bytes int) store.Finalized {
	f := h.next(t)
	f.Block = make([]byte, bytes)
	return f
}

// pointsOf commits blocks of some sizes after an epoch's end at height 3, and returns
// the points since.
func pointsOf(t testing.TB, pointBytes int64, sizes []int) []chain.Height {
	s := must(store.OpenMemory(store.Options{TreeInterval: 100, PointBytes: pointBytes}))(t)
	h := newHistory(s)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	check(t, s.Commit(h.closing(t, 1)))
	for _, size := range sizes {
		check(t, s.Commit(h.sized(t, size)))
	}
	points := must(s.Points(1000))(t)
	for _, height := range points {
		h.checkLeaves(t, leaves(t, s, height-1), int(height)-1)
	}
	check(t, s.Close())
	slices.Reverse(points)
	return points[1:]
}

// Points are no further from one another than half as much again as PointBytes, nor
// much nearer than half, and nodes that differ about the bytes have most in common.
func TestPointsAreOneAfterEachSoManyBytes(t *testing.T) {
	bounded(t)
	var sizes []int
	for i := range 1000 {
		sizes = append(sizes, 1000+i%7*100+i/300*800) // faster and faster
	}
	const most = 100_000
	points := pointsOf(t, most, sizes)
	bytes := func(from, to chain.Height) (sum int) {
		for _, size := range sizes[from-4 : to-4] { // the block of height 4 is the first
			sum += size
		}
		return sum
	}
	last := chain.Height(4)
	for _, p := range points {
		if n := bytes(last, p); n > most*3/2 || n < most/4 {
			t.Errorf("from %d to %d are %d bytes", last, p, n)
		}
		last = p
	}
	if len(points) < 15 {
		t.Errorf("points %d", points)
	}
	for _, other := range []int64{most * 85 / 100, most * 95 / 100, most * 105 / 100, most * 120 / 100, most * 2} {
		same := 0
		theirs := pointsOf(t, other, sizes)
		for _, p := range theirs {
			if slices.Contains(points, p) {
				same++
			}
		}
		t.Logf("of %d and %d points %d are the same", len(points), len(theirs), same)
		if same < min(len(points), len(theirs))*2/3 {
			t.Errorf("nodes of %d and %d bytes share %d points: %d and %d", most, other, same, points, theirs)
		}
	}
}

// Before an epoch has ended nobody could begin at a point, so there is none.
func TestNoPointBeforeAnEpochHasEnded(t *testing.T) {
	s := must(store.OpenMemory(store.Options{PointBytes: 1 << 10}))(t)
	h := newHistory(s)
	for range 20 {
		check(t, s.Commit(h.sized(t, 1000)))
	}
	if points := must(s.Points(9))(t); len(points) > 0 {
		t.Errorf("points %d", points)
	}
	if done := must(s.Prune(t.Context(), store.PruneOptions{KeepVersions: 1, KeepBlocks: 1, Index: none}))(t); done.Blocks > 0 {
		t.Errorf("%d blocks went, with which one would begin", done.Blocks)
	}
	check(t, s.Close())
}

// What a pruned store keeps of blocks is bounded in bytes, and what one needs who
// begins at its point stays, whatever is asked for.
func TestBlocksKeptAreBounded(t *testing.T) {
	bounded(t)
	for _, keep := range []uint64{1, 5, 10_000} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			const most = 20_000
			disk := vfs.NewMem()
			options := store.Options{TreeInterval: 10, PointBytes: most}
			s := must(store.OpenOn(disk, "db", options))(t)
			h := newHistory(s)
			check(t, s.Commit(h.next(t)))
			check(t, s.Commit(h.closing(t, 1)))
			for i := range 200 {
				check(t, s.Commit(h.sized(t, 700)))
				must(s.Prune(t.Context(), store.PruneOptions{KeepVersions: 2, KeepStates: 1, KeepBlocks: keep, Index: none}))(t)
				if i%50 == 33 {
					check(t, s.Close())
					s = must(store.OpenOn(disk, "db", options))(t)
					tip, _ := s.Latest()
					h.tree = must(s.OpenTree(tip.Height))(t)
				}
				points := must(s.Points(9))(t)
				if len(points) != 1 {
					t.Fatalf("points %d", points)
				}
				tip, _ := s.Latest()
				for height := points[0]; height <= tip.Height; height++ {
					if _, ok, err := s.Block(height); !ok || err != nil {
						t.Fatalf("at %d with point %d, block %d: %v, %v", tip.Height, points[0], height, ok, err)
					}
				}
				h.checkLeaves(t, leaves(t, s, points[0]-1), int(points[0])-1)
				first := chain.Height(1) // that of genesis stays
				for _, ok, err := s.Block(first); !ok && first <= tip.Height; _, ok, err = s.Block(first) {
					check(t, err)
					first++
				}
				if n := int(tip.Height-first) * 700; n > most*3/2 {
					t.Fatalf("%d bytes of blocks are kept, from %d to %d, point %d", n, first, tip.Height, points)
				}
				if i == 199 && keep > 100 && int(tip.Height-first)*1000 < most/2 {
					t.Errorf("%d blocks are kept, there is room for more", tip.Height-first+1)
				}
			}
			check(t, s.Close())
		})
	}
}

// A state that is given up cannot be opened before its first node goes: its root goes
// last.
func TestAStateThatGoesIsNotOpened(t *testing.T) {
	bounded(t)
	disk := vfs.NewMem()
	s := must(store.OpenOn(disk, "db", store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	for epoch := range uint64(2) {
		check(t, s.Commit(h.next(t)))
		check(t, s.Commit(h.closing(t, 1+epoch)))
	}
	o := store.PruneOptions{KeepVersions: 1, KeepStates: 2}
	must(s.Prune(t.Context(), o))(t)
	h.checkLeaves(t, leaves(t, s, 1), 1)
	o.KeepStates = 1
	ended, end := context.WithCancel(t.Context())
	end()
	if done := must(s.Prune(ended, o))(t); done.Nodes > 0 {
		t.Errorf("%d nodes went after the end", done.Nodes)
	}
	if _, err := s.OpenTree(1); !errors.Is(err, state.ErrNoVersion) {
		t.Errorf("a state that is about to go: %v", err)
	}
	check(t, s.Close())
}

// none indexes nothing.
func none([]byte) ([]crypto.Digest, []store.OrderEntry, error) { return nil, nil, nil }
