package scheduler_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// sealedDone is the end of a fair exchange's work.
func sealedDone(id crypto.Digest, node int, k chain.OutputKey) scheduler.Finished {
	f := done(id, node, 7)
	f.Done.Receipt.Sealed = &chain.SealedOutput{Output: crypto.Digest{9}, KeyHash: k.Hash(id, f.Done.Receipt.Node)}
	return f
}

func fairSubmit(nonce uint64) scheduler.Submit {
	s := submit(nonce, chain.PolicyNone{})
	s.Order.Fair = true
	return s
}

func (w *world) assigned(t *testing.T, s scheduler.Submit) crypto.Digest {
	t.Helper()
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: s.Order.Nonce, Bids: []scheduler.SignedBid{bid(id, 1, 50)}})
	return id
}

// TestSealedOutputsAreSettledWithTheirKeys: the cluster attests first, the key comes then, and
// nothing is posted without it; but the chain is asked all the while, as the node may post alone.
func TestSealedOutputsAreSettledWithTheirKeys(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	id := w.assigned(t, fairSubmit(1))
	k := chain.OutputKey{1, 2}
	w.must(t, sealedDone(id, 1, k))
	w.status(t, id, job.Settling)
	attested := func(revealed bool) {
		t.Helper()
		for _, e := range w.effects {
			if a, ok := e.(scheduler.SendAck); ok {
				if a.Attest == nil || a.Attest.Order != id || a.Revealed != revealed || a.Refuse != "" {
					t.Errorf("acknowledged with %+v", a)
				}
				return
			}
		}
		t.Error("nothing is acknowledged")
	}
	attested(false)
	if n := len(w.state.Outbox(0, 10)); n != 0 {
		t.Errorf("%d claims are posted without a key", n)
	}
	waiting, _ := w.state.Unsettled(0, 10)
	if len(waiting) != 1 || len(waiting[0].Claims) != 1 || waiting[0].Claims[0].OutputKey != nil {
		t.Errorf("the chain is asked about %+v", waiting)
	}
	wrong := k
	wrong[0] ^= 1
	if err := w.apply(scheduler.Revealed{Order: id, Node: key(1).Public(), Key: wrong}); err == nil || !strings.Contains(err.Error(), "the key's hash is") {
		t.Errorf("another key: %v", err)
	}
	w.must(t, scheduler.Revealed{Order: id, Node: key(2).Public(), Key: k})
	if a, ok := w.effects[0].(scheduler.SendAck); !ok || a.Refuse == "" {
		t.Errorf("another node's key: %+v", w.effects)
	}
	w.must(t, sealedDone(id, 1, k)) // told again
	attested(false)
	w.must(t, scheduler.Revealed{Order: id, Node: key(1).Public(), Key: k})
	attested(true)
	box := w.state.Outbox(waiting[0].Cursor, 10)
	if len(box) != 1 || box[0].Claims[0].OutputKey == nil || *box[0].Claims[0].OutputKey != k {
		t.Fatalf("posted %+v", box)
	}
	w.must(t, scheduler.Revealed{Order: id, Node: key(1).Public(), Key: k}) // and again
	attested(true)
	if again := w.state.Outbox(0, 10); len(again) != 1 || again[0].Cursor != box[0].Cursor {
		t.Errorf("a key that is repeated posts again: %+v", again)
	}
	restored, err := scheduler.Restore(config(), w.state.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if after := restored.Outbox(0, 10); len(after) != 1 || *after[0].Claims[0].OutputKey != k {
		t.Errorf("after a snapshot %+v is posted", after)
	}
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5), Nodes: []crypto.PublicKey{key(1).Public()}}})
	w.status(t, id, job.Settled)
}

// TestEndsThatDoNotFitTheExchange: the cluster attests to nothing that the chain would refuse.
func TestEndsThatDoNotFitTheExchange(t *testing.T) {
	for name, c := range map[string]struct {
		fair bool
		end  func(crypto.Digest) scheduler.Finished
		want string
	}{
		"open":   {true, func(id crypto.Digest) scheduler.Finished { return done(id, 1, 7) }, "fair exchange is asked for: true"},
		"sealed": {false, func(id crypto.Digest) scheduler.Finished { return sealedDone(id, 1, chain.OutputKey{1}) }, "fair exchange is asked for: false"},
		"nothing there": {true, func(id crypto.Digest) scheduler.Finished {
			f := sealedDone(id, 1, chain.OutputKey{1})
			f.Done.Receipt.Sealed.Output = crypto.Digest{}
			return f
		}, "one is missing"},
	} {
		w := newWorld()
		w.up(t, 1, 1)
		s := submit(1, chain.PolicyNone{})
		s.Order.Fair = c.fair
		id := w.assigned(t, s)
		w.must(t, c.end(id))
		if got := w.trace(); !strings.Contains(got, c.want) {
			t.Errorf("%s: effects are %q, want %q", name, got, c.want)
		}
	}
}

// TestNobodyTakesASealedOutputAsInput: the node that runs the other order could not read it.
func TestNobodyTakesASealedOutputAsInput(t *testing.T) {
	w := newWorld()
	first := fairSubmit(1)
	w.must(t, first)
	second := submit(2, chain.PolicyNone{})
	second.Spec.Scheduling.After = []crypto.Digest{first.Order.ID()}
	second.Order.Spec = second.Spec.Digest()
	w.must(t, second)
	third := submit(3, chain.PolicyNone{})
	third.Spec.Scheduling.After, third.Spec.Scheduling.InputOf = second.Spec.Scheduling.After, first.Order.ID()
	if wasm, ok := third.Spec.Work.Work.(job.Wasm); ok {
		wasm.Input = crypto.Digest{}
		third.Spec.Work.Work = wasm
	}
	third.Order.Spec = third.Spec.Digest()
	if err := w.apply(third); err == nil || !strings.Contains(err.Error(), "is under fair exchange") {
		t.Errorf("an order that takes its output: %v", err)
	}
}

// TestCountersignableCapsStayOutstanding: the consumer may have such an order paid without the
// cluster until its claim window is over, so that its cap covers no other until then.
func TestCountersignableCapsStayOutstanding(t *testing.T) {
	for _, countersignable := range []bool{false, true} {
		w := newWorld()
		s := submit(1, chain.PolicyNone{})
		s.Order.Countersignable = countersignable
		w.must(t, s)
		w.must(t, scheduler.CancelJob{Order: s.Order.ID()})
		if left := w.state.Outstanding(s.Order.ConsumerAddress()); left.IsZero() == countersignable {
			t.Errorf("countersignable %v: %v outstanding after it was cancelled", countersignable, left)
		}
		w.state.Audit()
	}
}
