package scheduler_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

func (w *world) sized(t *testing.T, n int, millicores uint64) {
	t.Helper()
	h := hello(n)
	h.Total = job.Resources{Millicores: millicores, MemoryMiB: 64 << 10}
	w.must(t, scheduler.NodeUp{Node: w.node(n, n), Hello: h})
}

// member asks for so much as one of a gang.
func member(nonce uint64, gang byte, size, millicores uint64) scheduler.Submit {
	return with(nonce, func(s *job.Spec) {
		s.Resources.Millicores = millicores
		s.Scheduling.Gang = job.Gang{ID: crypto.Digest{gang}, Size: size}
	})
}

// Nothing is preempted for a gang before all its members are picked, and nothing
// at all if one of them is not.
func TestGangPreemptsNothingBeforeAllArePicked(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	spare := w.submit(t, with(1, func(s *job.Spec) { big(s); s.Scheduling.Preemptible = true }))
	w.win(t, spare, 1)
	w.up(t, 2, 2)
	a, b := w.submit(t, member(2, 7, 2, 2_000)), w.submit(t, member(3, 7, 2, 2_000))
	evictor, other := a, b
	if !w.status(t, a, job.Bidding).Places[0].Evict {
		evictor, other = b, a
	}
	w.win(t, evictor, 1)
	w.expect(t, "")
	w.status(t, spare, job.Running)
	w.restart(t, config())
	j := w.status(t, other, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: other, Auction: j.Auction}) // nobody wants it
	w.expect(t, "")
	w.status(t, spare, job.Running)
	w.now += chain.TimeMs(config().RetryMs)
	w.must(t, scheduler.Tick{})
	evictor, other = a, b
	if !w.status(t, a, job.Bidding).Places[0].Evict {
		evictor, other = b, a
	}
	w.win(t, evictor, 1)
	w.expect(t, "")
	w.win(t, other, 2)
	if got := w.trace(); !strings.HasPrefix(got, "cancel n1; assign n") || strings.Count(got, "assign") != 2 {
		t.Errorf("effects are %q", got)
	}
	w.status(t, spare, job.Queued)
}

// What a picked member would preempt may be gone by the time the last is picked,
// and its room given to others: then nothing is preempted, and all begin anew.
func TestGangWhoseRoomIsGoneBeginsAnew(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	spare := w.submit(t, with(1, func(s *job.Spec) { big(s); s.Scheduling.Preemptible = true }))
	w.win(t, spare, 1)
	w.up(t, 2, 2)
	a, b := w.submit(t, member(2, 7, 2, 2_000)), w.submit(t, member(3, 7, 2, 2_000))
	evictor, other := a, b
	if !w.status(t, a, job.Bidding).Places[0].Evict {
		evictor, other = b, a
	}
	w.win(t, evictor, 1)
	w.must(t, done(spare, 1, 1)) // its room is free now
	small := w.submit(t, with(5, func(*job.Spec) {}))
	w.win(t, small, 1)
	w.win(t, other, 2)
	w.expect(t, "")
	w.status(t, a, job.Queued)
	w.status(t, b, job.Queued)
	w.must(t, done(small, 1, 1))
	w.status(t, a, job.Bidding)
}

// A member that may be preempted does not give way to another of its own gang.
func TestGangDoesNotPreemptItself(t *testing.T) {
	w := newWorld()
	w.sized(t, 1, 3_000)
	spare := w.submit(t, with(1, func(s *job.Spec) { s.Resources.Millicores = 1_500; s.Scheduling.Preemptible = true }))
	w.win(t, spare, 1)
	soft := with(2, func(s *job.Spec) {
		s.Resources.Millicores = 1_000
		s.Scheduling.Preemptible = true
		s.Scheduling.Gang = job.Gang{ID: crypto.Digest{7}, Size: 2}
	})
	w.submit(t, soft)
	firm := w.submit(t, member(3, 7, 2, 2_000))
	w.win(t, soft.Order.ID(), 1)
	w.win(t, firm, 1)
	w.expect(t, "cancel n1; assign n1; assign n1")
	w.status(t, soft.Order.ID(), job.Running)
	w.status(t, spare, job.Queued)
}

// A gang is seated where only one way to seat it fits, whichever node is looked
// at first.
func TestGangIsSeatedTheOneWayItFits(t *testing.T) {
	for order := range uint64(12) {
		w := newWorld()
		w.sized(t, 1, 5_000)
		w.sized(t, 2, 4_000)
		for i, size := range []uint64{2_000, 3_000, 2_000, 2_000} { // 3 + 2 and 2 + 2
			w.submit(t, member(100*order+uint64(i), 7, 4, size))
		}
		if got := strings.Count(w.trace(), "auction"); got != 4 {
			t.Errorf("order %d: %d of 4 auctions", order, got)
		}
	}
}

// A gang that cannot begin is tried again when what it lacked may be there, and
// not before: neither for other members' sake than the one that no node has room
// for, nor before as many places may be free as were missing.
func TestGangIsNotTriedInVain(t *testing.T) {
	for name, sizes := range map[string][]uint64{"hopeless": {1_000, 1_000, 5_000}, "short": {1_000, 1_000, 1_000, 1_000, 1_000}} {
		w := newWorld()
		var fill []crypto.Digest
		for n := 1; n <= 9; n++ {
			w.sized(t, n, 1_000)
			fill = append(fill, w.submit(t, with(uint64(n), func(*job.Spec) {})))
			w.win(t, fill[n-1], n)
		}
		for i, size := range sizes {
			s := member(uint64(100+i), 7, uint64(len(sizes)), size)
			s.Order.MaxCost = chain.Nano(1)
			w.submit(t, s)
		}
		samples := w.state.Samples()
		for n := 1; n <= 4; n++ {
			w.must(t, done(fill[n-1], n, 1))
			if n == 2 {
				w.restart(t, config())
				samples = w.state.Samples()
			}
		}
		if got := w.state.Samples() - samples; got != 0 {
			t.Errorf("%s: nodes were sampled %d times for a gang that could not begin", name, got)
		}
		w.must(t, done(fill[4], 5, 1))
		if began := strings.Contains(w.trace(), "auction"); began != (name == "short") {
			t.Errorf("%s: effects are %q", name, w.trace())
		}
		w.sized(t, 10, 5_000)
		if name == "hopeless" && strings.Count(w.trace(), "auction") != 3 {
			t.Errorf("%s: effects are %q", name, w.trace())
		}
	}
}

// A gang of another consumer that chose the same id does not stand in the way.
func TestGangsOfTwoConsumersWithOneID(t *testing.T) {
	w := newWorld()
	for nonce := range uint64(2) {
		s := member(nonce, 7, 2, 2_000-nonce*500)
		s.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
		w.submit(t, s)
	}
	var ids []crypto.Digest
	for nonce := range uint64(2) {
		ids = append(ids, w.submit(t, member(nonce, 7, 2, 2_000-nonce*1_500)))
	}
	w.sized(t, 1, 2_500)
	if got := strings.Count(w.trace(), "auction"); got != 2 {
		t.Fatalf("effects are %q", w.trace())
	}
	for _, id := range ids {
		w.status(t, id, job.Bidding)
	}
}

// An order that would wait for its own gang is refused, however long the way.
func TestOrderThatWaitsForItsOwnGangIsRefused(t *testing.T) {
	after := func(s scheduler.Submit, ids ...crypto.Digest) scheduler.Submit {
		s.Spec.Scheduling.After = ids
		s.Order.Spec = s.Spec.Digest()
		return s
	}
	w := newWorld()
	first := w.submit(t, member(1, 7, 2, 1_000))
	w.refused(t, "gang", after(member(2, 7, 2, 1_000), first))
	between := w.submit(t, after(with(3, func(*job.Spec) {}), first))
	w.refused(t, "gang", after(member(2, 7, 2, 1_000), between))
	// By another gang: one of whose members comes after ours.
	w.submit(t, after(member(4, 8, 2, 1_000), first))
	second := w.submit(t, member(5, 8, 2, 1_000))
	err := w.apply(after(member(2, 7, 2, 1_000), second))
	if err == nil || !strings.Contains(err.Error(), "is of its own gang "+crypto.Digest{7}.Short()) {
		t.Errorf("got %v", err)
	}
	w.submit(t, member(2, 7, 2, 1_000))
	// One that has begun is waited for as any other.
	w = newWorld()
	w.up(t, 1, 1)
	w.up(t, 2, 2)
	a, b := w.submit(t, member(1, 7, 2, 1_000)), w.submit(t, member(2, 7, 2, 1_000))
	w.win(t, a, 1)
	w.win(t, b, 1)
	w.submit(t, after(member(3, 7, 2, 1_000), a))
	// And a way that is too long to follow is refused as well.
	c := config()
	c.MaxPerConsumer = 20_000
	w = worldWith(c)
	before := w.submitted(t, 1, func(*job.Spec, *chain.Order) {})
	for nonce := range uint64(4_097) {
		before = w.submitted(t, 10+nonce, func(s *job.Spec, _ *chain.Order) { s.Scheduling.After = []crypto.Digest{before} })
	}
	w.refused(t, "gang", after(member(3, 7, 2, 1_000), before))
}

// Gangs that find no room make every node that comes cost little.
func TestManyGangsThatFindNoRoomCostLittle(t *testing.T) {
	const gangs = 400
	w := newWorld()
	for i := range uint64(2 * gangs) {
		w.submitted(t, i, func(s *job.Spec, _ *chain.Order) {
			var id crypto.Digest
			binary.BigEndian.PutUint64(id[:], i/2+1)
			s.Scheduling.Gang = job.Gang{ID: id, Size: 2}
			s.Resources.Millicores = 1_200 + i%2*700
		})
	}
	samples := w.state.Samples()
	for n := 1; n <= 20; n++ { // room for one member each, and never for both of two
		h := hello(n)
		h.Total.Millicores = 1_200
		w.quick(t, scheduler.NodeUp{Node: key(n).Public(), Hello: h})
	}
	if got := w.state.Samples() - samples; got > 20 {
		t.Errorf("%d samples", got)
	}
	w.state.Audit()
}
