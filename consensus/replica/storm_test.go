package replica_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// Storms of loss, delay and crashes through several epochs with changing
// committees: nobody signs twice, one height has one digest, nobody is blamed,
// and when the storm ends everybody comes along.
func TestStormsPassAcrossEpochs(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, seed, nil) })
	}
}

// TestStormsOverSentriesPassAcrossEpochs is that with two validators behind sentries,
// of which one has two.
func TestStormsOverSentriesPassAcrossEpochs(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, seed, map[int][]int{0: {5, 6}, 1: {7}}) })
	}
}

func storm(t *testing.T, seed uint64, sentries map[int][]int) {
	r := rand.New(rand.NewPCG(seed, 7))
	seats := func(e consensus.Epoch) []seat {
		if e == 1 {
			return []seat{{0, 0}, {1, 1}, {2, 2}, {3, 3}}
		}
		return changingSeats(e)
	}
	hosts := 5
	for _, nodes := range sentries { // order-free
		hosts += len(nodes)
	}
	w := newWorld(t, hosts, seats)
	w.guard(sentries)
	w.nodes[1].keys = []int{1, 101}
	loss, raging := r.Float64()*0.4, true
	w.cut = func(int, int, consensus.Message) bool { return raging && r.Float64() < loss }
	w.delay = func() consensus.Micros {
		if !raging {
			return hop
		}
		return hop + consensus.Micros(r.IntN(30))*ms
	}
	startAll(w)
	losses := 0
	for range 12 {
		w.pass(consensus.Micros(r.IntN(400)) * ms)
		n := w.nodes[r.IntN(len(w.nodes))]
		if n.r == nil {
			continue
		}
		n.fresh = false
		n.crashIn = 1 + r.IntN(40)
		if losses == 0 && r.IntN(6) == 0 { // one loses its log, or everything
			losses++
			n.stop()
			clear(n.disk.logs)
			if r.IntN(2) == 0 {
				n.disk.chain = nil
			}
			w.after(consensus.Micros(r.IntN(300))*ms, n.start)
		}
	}
	w.pass(2000 * ms)
	raging = false
	for _, n := range w.nodes {
		n.crashIn = 0
	}
	w.pass(100 * ms)
	most := uint64(0)
	for _, n := range w.nodes {
		if n.r == nil {
			t.Fatalf("node %d is down", n.id)
		}
		most = max(most, n.height())
	}
	w.run(20_000*ms, w.everybodyAt(most+12))
	w.nobodyBlamed()
}
