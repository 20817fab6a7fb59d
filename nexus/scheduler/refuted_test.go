package scheduler_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// disputable is a policy whose bond covers what submit orders.
var disputable = chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(100)}

// refuted is the word that a node's claim was refuted, of which the chain kept so much.
func refuted(order crypto.Digest, n int, wrong bool, kept uint64) scheduler.Confirmed {
	why := "a panel found another result"
	if !wrong {
		why = "too few judged it"
	}
	return scheduler.Confirmed{
		Order: order, Outcome: scheduler.SettlementRecord{Height: 8, Cost: chain.Nano(kept)}, Failure: why,
		Refuted: &scheduler.Refutation{Node: key(n).Public(), Wrong: wrong},
	}
}

// settling is an optimistic job whose claim, node 1's, waits; nodes 2 and 3 are others'.
func (w *world) settling(t *testing.T) crypto.Digest {
	t.Helper()
	id := w.assign(t, submit(1, disputable), 1)
	w.must(t, traced(id, 1, 7))
	w.status(t, id, job.Settling)
	w.up(t, 2, 2)
	w.up(t, 3, 3)
	return id
}

// rerun gives the job, whose claim was refuted, to a node.
func (w *world) rerun(t *testing.T, id crypto.Digest, n int) {
	t.Helper()
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, n, 50)}})
	w.status(t, id, job.Running)
}

// TestARefutedJobRunsElsewhere: its second claim is the one that is posted and paid, and what is
// said of the first again does not end it.
func TestARefutedJobRunsElsewhere(t *testing.T) {
	w := newWorld()
	id := w.settling(t)
	first, _ := w.state.Job(id)
	cursor := first.Outbox
	w.must(t, refuted(id, 1, true, 0))
	if list := w.state.Outbox(0, 9); len(list) != 0 {
		t.Errorf("a refuted claim is to be posted: %+v", list)
	}
	if n, _ := w.state.Node(key(1).Public()); n.Lost != 1 || n.Strikes != 1 {
		t.Errorf("the node lost %d and has %d strikes", n.Lost, n.Strikes)
	}
	w.restored(t)
	w.must(t, refuted(id, 1, true, 0))
	w.rerun(t, id, 2)
	w.must(t, traced(id, 1, 7)) // which repeats what it said
	w.expect(t, "ack n1 the chain refuted its claim")
	w.must(t, traced(id, 2, 9))
	list := w.state.Outbox(cursor, 9)
	if len(list) != 1 || len(list[0].Claims) != 1 || list[0].Claims[0].Receipt.Node != key(2).Public() || list[0].Claims[0].Receipt.Sequence != 1 {
		t.Fatalf("to be posted: %+v", list)
	}
	w.must(t, refuted(id, 1, true, 0)) // which another leader has read
	w.status(t, id, job.Settling)
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5), Nodes: []crypto.PublicKey{key(2).Public()}}})
	j := w.status(t, id, job.Settled)
	if counted := j.Counted(); len(counted) != 1 || counted[0].Node != key(2).Public() || j.Settlement.Cost != chain.Nano(5) {
		t.Errorf("counted %+v, settled %+v", counted, j.Settlement)
	}
	if left := w.state.Outstanding(j.Consumer()); !left.IsZero() {
		t.Errorf("%s is outstanding", left)
	}
}

// TestARefutedJobEnds: as long as it may run it does, and then it says what was wrong.
func TestARefutedJobEnds(t *testing.T) {
	late := func(w *world, t *testing.T, id crypto.Digest) {
		w.now = 1_000_000
		w.must(t, refuted(id, 1, true, 0))
	}
	attempts := func(w *world, t *testing.T, id crypto.Digest) {
		w.must(t, refuted(id, 1, true, 0))
		for n := 2; n <= 4; n++ {
			w.up(t, n, n)
			w.rerun(t, id, n)
			w.must(t, traced(id, n, 7))
			w.must(t, refuted(id, n, false, 0))
		}
	}
	data := func(w *world, t *testing.T, id crypto.Digest) {
		c := refuted(id, 1, true, 0)
		c.Failure, c.Refuted = "the data could not be had", nil
		w.must(t, c)
	}
	for want, end := range map[string]func(*world, *testing.T, crypto.Digest){
		"a panel found another result; the deadline has passed":                              late,
		"4 assignments were lost, the last because its claim was refuted: too few judged it": attempts,
		"the chain refused the claims: the data could not be had":                            data,
	} {
		w := newWorld()
		id := w.settling(t)
		end(w, t, id)
		if j := w.status(t, id, job.Failed); !strings.Contains(j.Reason, want) {
			t.Errorf("it failed because %q, want %q", j.Reason, want)
		}
		w.restored(t)
	}
}

// TestWhatTheChainKeptCounts: bids are for what is left of the cap, and the consumer is told all
// that it paid.
func TestWhatTheChainKeptCounts(t *testing.T) {
	w := newWorld()
	id := w.settling(t)
	kept := chain.Hyper(1)
	w.must(t, refuted(id, 1, false, kept.Nano()))
	if n, _ := w.state.Node(key(1).Public()); n.Lost != 0 || n.Strikes != 0 {
		t.Errorf("a node whose claim nobody judged lost %d and has %d strikes", n.Lost, n.Strikes)
	}
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 2, 50)}})
	if j = w.status(t, id, job.Queued); !strings.Contains(j.Reason, "no bid counted") {
		t.Errorf("it waits because %q", j.Reason)
	}

	w = newWorld()
	id = w.settling(t)
	w.must(t, refuted(id, 1, false, 3))
	w.restored(t)
	w.rerun(t, id, 2)
	w.must(t, traced(id, 2, 7))
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5)}})
	if j := w.status(t, id, job.Settled); j.Settlement.Cost != chain.Nano(8) {
		t.Errorf("it cost %s", j.Settlement.Cost)
	}
}

// TestRefutationsThatCannotBe are refused, and change nothing.
func TestRefutationsThatCannotBe(t *testing.T) {
	w := newWorld()
	id := w.settling(t)
	plain := w.assign(t, submit(2, chain.PolicyNone{}), 4)
	w.must(t, done(plain, 4, 7))
	unsaid := refuted(id, 1, true, 0)
	unsaid.Failure = ""
	for name, c := range map[string]scheduler.Confirmed{
		"of another policy": refuted(plain, 4, true, 0), "without a reason": unsaid, "above the cap": refuted(id, 1, true, chain.Hyper(1).Nano()+1),
	} {
		if err := w.apply(c); err == nil {
			t.Errorf("%s: it was carried out", name)
		}
	}
	w.must(t, refuted(id, 2, true, 0)) // who has no claim
	w.status(t, id, job.Settling)
	w.status(t, plain, job.Settling)
}

// TestARefutedNodeIsNotAskedUnderAnotherOwner: who owns it now does not matter.
func TestARefutedNodeIsNotAskedUnderAnotherOwner(t *testing.T) {
	w := newWorld()
	id := w.settling(t)
	w.must(t, refuted(id, 1, true, 0))
	w.up(t, 1, 9)
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 10), bid(id, 2, 50)}})
	j = w.status(t, id, job.Running)
	if got := j.Runs[len(j.Runs)-1].Node; got != key(2).Public() {
		t.Errorf("the job was given to %s, want node 2", got.Short())
	}
	w.restored(t)
	w.must(t, traced(id, 2, 9))
	w.must(t, refuted(id, 2, true, 0))
	w.up(t, 2, 8)
	w.must(t, scheduler.NodeDown{Node: key(3).Public()})
	j = w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 10), bid(id, 2, 10)}})
	if j, _ = w.state.Job(id); j.Status == job.Running {
		t.Errorf("the job runs on %s", j.Runs[len(j.Runs)-1].Node.Short())
	}
	w.restored(t) // queued: in the same group as before
}
