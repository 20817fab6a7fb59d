package scheduler_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

func (w *world) nodeOf(t *testing.T, n int) *scheduler.Node {
	t.Helper()
	for _, node := range w.state.Nodes() {
		if node.ID == key(n).Public() {
			return node
		}
	}
	t.Fatalf("no node n%d", n)
	return nil
}

// restart puts the state through a snapshot.
func (w *world) restart(t *testing.T, c scheduler.Config) {
	t.Helper()
	raw := w.state.Encode()
	restored, err := scheduler.Restore(c, raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.Encode(), raw) {
		t.Fatal("a restored state encodes otherwise")
	}
	w.state = restored
}

// A node that bids for what the books say it has not gets nothing, whatever it
// says is free.
func TestRoomIsAsTheBooksSay(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	w.up(t, 2, 2)
	first := w.submit(t, with(1, big))
	taken := 1
	if w.status(t, first, job.Bidding).Places[0].Node != key(1).Public() {
		taken = 2
	}
	w.win(t, first, taken)
	second := w.submit(t, with(2, big))
	liar := hello(taken)
	liar.Free, liar.Running = job.Resources{Millicores: 1 << 19, MemoryMiB: 1 << 20}, []crypto.Digest{first}
	w.must(t, scheduler.NodeUp{Node: key(taken).Public(), Hello: liar})
	j := w.status(t, second, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: second, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(second, taken, 1), bid(second, 3-taken, 90)}})
	if got := w.status(t, second, job.Running).Runs[0].Node; got != key(3-taken).Public() {
		t.Error("the job is given to a node whose room is taken")
	}
	more := w.submit(t, with(3, func(s *job.Spec) { s.Resources.Millicores = 2_001 }))
	w.expect(t, "") // no node offers as much
	w.must(t, scheduler.CloseAuction{Order: more, Auction: 9, Bids: []scheduler.SignedBid{bid(more, 1, 1)}})
	w.status(t, more, job.Queued)
}

// A node that learns after its bid that the cluster has too little to lose, as often as it
// may, is not held back, and its bids stand as they did: the job goes to others, and it may bid
// for the next.
func TestDoubtingTheClusterIsNoStrike(t *testing.T) {
	c := config()
	c.Strikes = 1
	w := worldWith(c)
	w.up(t, 1, 1)
	for nonce := range uint64(3) {
		id := w.submit(t, with(nonce+1, func(*job.Spec) {}))
		w.win(t, id, 1)
		w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: job.ClusterDoubted + "cluster 1234 has no bond that is free"})
		if n := w.nodeOf(t, 1); n.Strikes != 0 || n.HeldUntil != 0 || n.Lost != 0 {
			t.Fatalf("after %d refusals: %d strikes, held until %d for %q, %d lost", nonce+1, n.Strikes, n.HeldUntil, n.HeldFor, n.Lost)
		}
		w.status(t, id, job.Queued)
	}
}

// A node that takes work and refuses it, again and again, is held back, longer
// each time; neither a new session nor a pause ends that, and work that it ends
// counts for it.
func TestNodeThatRefusesWhatItBidForIsHeldBack(t *testing.T) {
	c := config()
	c.Strikes, c.FailureMs = 3, 1
	w := worldWith(c)
	w.up(t, 1, 1)
	nonce := uint64(0)
	send := func() crypto.Digest {
		nonce++
		s := with(nonce, func(*job.Spec) {})
		s.Order.MaxCost = chain.Nano(1_000_000)
		return w.submit(t, s)
	}
	refuse := func() {
		t.Helper()
		id := send()
		w.win(t, id, 1)
		w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: "busy"})
		w.must(t, scheduler.CancelJob{Order: id})
	}
	for range 2 {
		refuse()
	}
	id := send()
	w.win(t, id, 1)
	w.must(t, done(id, 1, 7)) // takes a strike back
	for held := c.HoldMs; held <= 4*c.HoldMs; held *= 2 {
		for range 2 {
			refuse()
			if n := w.nodeOf(t, 1); n.Strikes > uint64(c.Strikes) || n.HeldUntil != 0 {
				break // already held before, so each one counts
			}
		}
		n := w.nodeOf(t, 1)
		if n.HeldUntil != w.now+chain.TimeMs(held) || !strings.Contains(n.HeldFor, "refused what it had bid for") {
			t.Fatalf("with %d strikes it is held back until %d for %q, it is %d", n.Strikes, n.HeldUntil, n.HeldFor, w.now)
		}
		waiting := send()
		w.expect(t, "")
		if why := w.state.Reason(w.status(t, waiting, job.Queued)); !strings.Contains(why, "1 held back by the cluster") {
			t.Errorf("reason is %q", why)
		}
		w.restart(t, c)
		w.up(t, 1, 1)
		w.must(t, scheduler.NodeLoad{Node: key(1).Public()})
		w.must(t, scheduler.NodeLoad{Node: key(1).Public(), Accepting: true})
		w.must(t, scheduler.NodeDown{Node: key(1).Public()})
		w.up(t, 1, 1)
		w.expect(t, "")
		w.now += chain.TimeMs(held) - 1
		w.must(t, scheduler.Tick{})
		w.expect(t, "")
		w.now++
		if !w.state.Due(w.now) {
			t.Fatal("no tick is due at the end of the time")
		}
		w.must(t, scheduler.Tick{})
		if got := w.trace(); !strings.HasSuffix(got, "among n1") {
			t.Fatalf("it is not asked again: %q", got)
		}
		w.must(t, scheduler.CancelJob{Order: waiting})
	}
}

// What a node fails while it is held back was given to it before; and one that
// goes away with much work fails once.
func TestManyFailuresAtOnceAreOneMatter(t *testing.T) {
	c := config()
	c.Strikes = 2
	w := worldWith(c)
	h := hello(1)
	h.Total = job.Resources{Millicores: 20_000, MemoryMiB: 20_000}
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	var ids []crypto.Digest
	for nonce := range uint64(5) {
		id := w.submit(t, with(nonce, func(*job.Spec) {}))
		w.win(t, id, 1)
		ids = append(ids, id)
	}
	for _, id := range ids {
		w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: "no disk"})
	}
	if n := w.nodeOf(t, 1); n.Strikes != 2 || n.HeldUntil != w.now+chain.TimeMs(c.HoldMs) {
		t.Errorf("%d strikes, held back until %d", n.Strikes, n.HeldUntil)
	}
	w = worldWith(c)
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	for nonce := range uint64(5) {
		w.win(t, w.submit(t, with(nonce, func(*job.Spec) {})), 1)
	}
	w.must(t, scheduler.NodeDown{Node: key(1).Public()})
	if n := w.nodeOf(t, 1); n.Strikes != 1 || n.HeldUntil != 0 {
		t.Errorf("%d strikes, held back until %d", n.Strikes, n.HeldUntil)
	}
}

// A node that pauses and resumes, or changes what it offers, again and again has
// nobody look at it more often than it may.
func TestToggledNodesWakeNobodyTooOften(t *testing.T) {
	c := config()
	toggles := map[string]func(w *world, i int){
		"pause": func(w *world, _ int) {
			w.must(t, scheduler.NodeLoad{Node: key(1).Public()})
			w.must(t, scheduler.NodeLoad{Node: key(1).Public(), Accepting: true})
		},
		"offer": func(w *world, i int) {
			h := hello(1)
			h.Total.MemoryMiB += uint64(i%2 + 1)
			w.must(t, scheduler.NodeUp{Node: key(1).Public(), Hello: h})
		},
		"session": func(w *world, _ int) {
			w.must(t, scheduler.NodeDown{Node: key(1).Public()})
			w.up(t, 1, 1)
		},
	}
	for name, toggle := range toggles {
		w := newWorld()
		w.up(t, 1, 1)
		s := submit(1, chain.PolicyNone{})
		w.must(t, s)
		auctions := 0
		const seconds = 60
		for i := range 10 * seconds {
			if j, _ := w.state.Job(s.Order.ID()); j.Status == job.Bidding { // it declines
				auctions++
				w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: j.Auction})
			}
			toggle(w, i)
			if w.state.Due(w.now) {
				w.must(t, scheduler.Tick{})
			}
			w.now += 100
		}
		most := c.Returns + 1 + seconds*1_000/int(c.ReturnMs) + 7 // and the retries of the job itself
		if auctions > most {
			t.Errorf("%s: %d auctions in %d s, at most %d", name, auctions, seconds, most)
		}
		if n := w.nodeOf(t, 1); n.HeldUntil == 0 || !strings.Contains(n.HeldFor, "too often") {
			t.Errorf("%s: held back until %d for %q", name, n.HeldUntil, n.HeldFor)
		}
		w.restart(t, config())
	}
}

// A node that says the same again wakes nobody, and is held back for nothing.
func TestSayingTheSameAgainIsNoReturn(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyNone{})
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: 1})
	for range 100 {
		w.up(t, 1, 1)
		w.expect(t, "")
	}
	if n := w.nodeOf(t, 1); n.HeldUntil != 0 {
		t.Error("it is held back")
	}
}

// Auctions whose nodes come and go meanwhile follow one another at once a few
// times, and then wait as any that found nobody.
func TestAuctionsThatBreakDoNotFollowOneAnotherForEver(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyNone{})
	id := s.Order.ID()
	w.must(t, s)
	for rounds := 0; ; rounds++ {
		j, _ := w.state.Job(id)
		if j.Status != job.Bidding {
			if !j.Backoff || rounds < 3 {
				t.Errorf("after %d rounds: %+v", rounds, j)
			}
			break
		}
		if rounds > 20 {
			t.Fatal("an auction follows each that its node breaks")
		}
		w.up(t, 1, 1) // a new session: its place is given up
		w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction})
	}
	w.now += chain.TimeMs(config().RetryMs)
	w.must(t, scheduler.Tick{})
	w.win(t, id, 1)
	w.expect(t, "assign n1")
}
