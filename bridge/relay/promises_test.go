package relay_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// numbered is a claim whose acceptance has a sequence.
func numbered(nonce, sequence uint64) chain.Claim {
	c := parts(nonce)
	c.Acceptance.Sequence = sequence
	return signed(c)
}

// carrying runs a relay until what it can do is done.
func carrying(t *testing.T, o *fakeOutbox, f *fakeChain, do func()) {
	t.Helper()
	r, err := relay.New(config(), relay.Deps{
		Genesis:  &chain.Genesis{ChainID: testChain, Params: chain.DefaultParams()},
		Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: o, Chain: f, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Carry(ctx) })
	time.Sleep(time.Second) // of the bubble
	synctest.Wait()
	do()
	time.Sleep(time.Hour)
	cancel()
	wg.Wait()
}

// TestASequenceGivenTwiceIsReported: a relay that sees two acceptances that contradict each
// other posts them, once, with the claims; it remembers what has left the outbox.
func TestASequenceGivenTwiceIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		first, second := numbered(1, 7), numbered(2, 7)
		third := numbered(3, 8)
		carrying(t, o, f, func() {
			o.put(first)
			o.put(third)
			time.Sleep(time.Minute)
			o.remove(first.Order.ID())
			time.Sleep(time.Minute) // it was swept
			o.put(second)
			time.Sleep(time.Minute)
			o.put(first)
		})
		if settled, _ := f.counts(); settled != 3 || len(f.reports) != 1 {
			t.Fatalf("%d claims, %d reports", settled, len(f.reports))
		}
		report := f.reports[0]
		if report.First.Acceptance != first.Acceptance || report.Second == nil || report.Second.Acceptance != second.Acceptance {
			t.Errorf("reported %+v", report)
		}
		body := chain.TxBody{ChainID: testChain, Sender: chain.AddressOf(signer{key("payer")}.AccountKey()), Messages: chain.Msgs{report}}
		tx, err := chain.SignTx(body, signer{key("payer")})
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := chain.DecodeTx(tx.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0]; verified == nil || !verified.DealSigned(0) {
			t.Error("the chain would not take the signatures of what was posted")
		}
	})
}

// beginning begins the order of a claim, under replicate.
func beginning(nonce, sequence uint64) chain.BeginRun { return beginningAt(nonce, sequence, 0) }

// beginningAt begins one whose deadline is later.
func beginningAt(nonce, sequence uint64, later chain.TimeMs) chain.BeginRun {
	c := numbered(nonce, sequence)
	c.Order.Deadline += later
	c.Order.Policy.Policy = chain.PolicyReplicate{K: 2, N: 3, Stake: chain.Hyper(20), WindowMs: 60_000}
	c.Acceptance.Order, c.Bid.Order = c.Order.ID(), c.Order.ID()
	c = signed(c)
	begin := chain.BeginRun{
		Order: c.Order, OrderSig: c.OrderSig, Acceptance: c.Acceptance, AcceptanceSig: c.AcceptanceSig, Commitment: crypto.Digest{1},
		Slate: chain.Slate{chain.SlateBidOf(&c.Bid, c.BidSig)},
	}
	id := c.Order.ID()
	begin.SlateSig = cluster.Sign(crypto.DomainSlate, chain.SlatePayload(testChain, id, begin.Slate))
	begin.Signature = node.Sign(crypto.DomainRun, chain.RunPayload(testChain, id, begin.Commitment, 0))
	return begin
}

// TestAnOrderBeginsWhenTheBondIsFree: what begins an order is posted again for as long as the chain may take it,
// however often it was refused, holds up no claim meanwhile, and costs few fees.
func TestAnOrderBeginsWhenTheBondIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.bondless = true
		const orders = 40 // more than are free before what is worth nothing is waited for
		for n := range uint64(orders) {
			begin := beginning(100+n, 100+n)
			o.putRuns(begin.Order.ID(), codec.Marshal(chain.Msgs{begin}))
		}
		_, stop := carry(t, o, f)
		pass(time.Minute)
		o.put(claim(1))
		pass(time.Second)
		wantCounts(t, f, 1, 1)
		pass(2 * time.Hour)
		if f.begun < 20 || f.begun > 200 {
			t.Errorf("%d tries in two hours", f.begun)
		}
		f.change(func() { f.bondless, f.begun = false, 0 })
		pass(time.Hour)
		if f.begun != orders {
			t.Errorf("%d orders began, want %d", f.begun, orders)
		}
		stop()
	})
}

// putBeginning lists what begins an order, and returns the order.
func (o *fakeOutbox) putBeginning(n uint64) crypto.Digest {
	begin := beginning(n, n)
	o.putRuns(begin.Order.ID(), codec.Marshal(chain.Msgs{begin}))
	return begin.Order.ID()
}

// TestOrdersThatNeverBeginHoldUpNoOthers: neither one that comes after them, nor one that lacked a bond as they do and
// may begin now; and that others come all the time, which never begin, changes nothing.
func TestOrdersThatNeverBeginHoldUpNoOthers(t *testing.T) {
	for _, stubborn := range []uint64{2, 15} {
		synctest.Test(t, func(t *testing.T) {
			o, f := newOutbox(), newChain()
			f.stuck = map[crypto.Digest]string{}
			lacks := func(n uint64) crypto.Digest {
				id := o.putBeginning(n)
				f.change(func() { f.stuck[id] = "provider has 0 HYPER free of its bond" })
				return id
			}
			for n := range stubborn {
				lacks(100 + n)
			}
			second := lacks(200)
			_, stop := carry(t, o, f)
			pass(time.Hour)
			begun := func(id crypto.Digest) (is bool) {
				f.change(func() { is = slices.Contains(f.started, id) })
				return is
			}
			f.change(func() { delete(f.stuck, second) })
			for n := range uint64(30) {
				lacks(300 + n)
				pass(3 * time.Minute)
			}
			if !begun(second) {
				t.Errorf("%d that never begin: one that lacked a bond had not begun 90 minutes after it was free", stubborn)
			}
			pass(3 * time.Hour)
			fresh := o.putBeginning(201)
			if pass(time.Minute); !begun(fresh) {
				t.Errorf("%d that never begin: one that comes later had not begun after a minute", stubborn)
			}
			stop()
		})
	}
}

// TestWhatLacksNoBondIsNotTriedOn: the chain refused to begin an order for another reason, which no time mends.
func TestWhatLacksNoBondIsNotTriedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.stuck = map[crypto.Digest]string{o.putBeginning(1): "order has begun already"}
		_, stop := carry(t, o, f)
		pass(6 * time.Hour)
		if f.begun != 5 {
			t.Errorf("%d tries, want 5", f.begun)
		}
		stop()
	})
}

// TestNoOrderIsTriedOnForEver: one whose deadline is beyond what the chain takes is tried on for as long as a withdrawal
// takes, and no longer.
func TestNoOrderIsTriedOnForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.bondless = true
		begin := beginningAt(1, 1, 1_000*3_600_000)
		o.putRuns(begin.Order.ID(), codec.Marshal(chain.Msgs{begin}))
		_, stop := carry(t, o, f)
		delay := time.Duration(chain.DefaultParams().WithdrawalDelayMs) * time.Millisecond
		pass(delay + time.Hour)
		tries := f.begun
		pass(delay)
		if f.begun != tries || tries < 10 {
			t.Errorf("%d tries within a withdrawal's time, and %d after it", tries, f.begun-tries)
		}
		stop()
	})
}

// TestAClaimThatLocksABondWaitsForIt: a claim under optimistic is tried for as long as the chain may take it, and holds
// up no claim that locks nothing.
func TestAClaimThatLocksABondWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		free := false
		f.refuse = func(c *chain.Claim) string {
			if _, locks := c.Order.Policy.Policy.(chain.PolicyOptimistic); locks && !free {
				return "cluster has 0 HYPER free of its bond, the job locks 40 HYPER"
			}
			return ""
		}
		for n := range uint64(20) {
			c := parts(100 + n)
			c.Order.Policy.Policy = chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(40)}
			c.Receipt.Trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
			c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = c.Order.ID(), c.Order.ID(), c.Order.ID()
			o.put(signed(c))
		}
		_, stop := carry(t, o, f)
		pass(2 * time.Hour)
		o.put(claim(1))
		pass(time.Second)
		if settled, _ := f.counts(); settled != 1 {
			t.Errorf("%d claims, want the one that locks nothing", settled)
		}
		f.change(func() { free = true })
		pass(time.Hour)
		if settled, _ := f.counts(); settled != 21 {
			t.Errorf("%d claims when the bond was free, want 21", settled)
		}
		stop()
	})
}

// TestAnOrderThatIsOverIsLeftAlone: what would begin it is not tried for ever.
func TestAnOrderThatIsOverIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.bondless = true
		begin := beginning(1, 1)
		o.putRuns(begin.Order.ID(), codec.Marshal(chain.Msgs{begin}))
		_, stop := carry(t, o, f)
		over := time.UnixMilli(int64(begin.Order.Deadline)).Add(time.Duration(chain.DefaultParams().ClaimWindowMs) * time.Millisecond)
		pass(time.Until(over) + time.Hour)
		tries := f.begun
		pass(12 * time.Hour)
		if f.begun != tries || tries < 10 {
			t.Errorf("%d tries, and %d after its window", tries, f.begun-tries)
		}
		stop()
	})
}

// TestARunIsAPromiseToo: the acceptance of a replicated run is compared as that of a claim is.
func TestARunIsAPromiseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		begin := beginning(2, 7)
		id := begin.Order.ID()
		carrying(t, o, f, func() {
			o.put(numbered(1, 7))
			o.putRuns(id, codec.Marshal(chain.Msgs{begin}))
		})
		if len(f.reports) != 1 || f.reports[0].Second.Acceptance.Order != id {
			t.Errorf("%d reports: %+v", len(f.reports), f.reports)
		}
	})
}

// TestEvidenceThatOthersReportedCostsTwoFees: and holds up no claim.
func TestEvidenceThatOthersReportedCostsTwoFees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.known = true
		carrying(t, o, f, func() { o.put(numbered(1, 7), numbered(2, 7)) })
		if settled, _ := f.counts(); settled != 2 || len(f.reports) != 3 { // at first together with the claims
			t.Errorf("%d claims, %d reports", settled, len(f.reports))
		}
	})
}

// TestOtherSequencesAreNoEvidence: of other consumers, or of other numbers, and the same again.
func TestOtherSequencesAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		carrying(t, o, f, func() {
			for n := range uint64(20) {
				o.put(claim(n))
			}
			for range 3 {
				again := claim(5)
				again.Receipt.Sequence = 2
				o.put(signed(again))
			}
		})
		if settled, _ := f.counts(); settled != 21 || len(f.reports) != 0 {
			t.Errorf("%d claims, %d reports", settled, len(f.reports))
		}
	})
}

// putRuns lists messages about runs as one item.
func (o *fakeOutbox) putRuns(order crypto.Digest, raws ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cursor++
	o.items = append(o.items, api.OutboxItem{Cursor: api.Uint64(o.cursor), Order: order, Runs: raws})
	close(o.changed)
	o.changed = make(chan struct{})
}
