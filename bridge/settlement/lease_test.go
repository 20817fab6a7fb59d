package settlement_test

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// deal is a node's offer to keep so many millicores at 1 nHYPER a millicore·second, and
// the order of a consumer for it that holds an amount.
func (m *market) deal(who byte, nonce uint64, node byte, millicores uint64, held chain.Amount) chain.LeaseDeal {
	order := m.order(who, nonce, none)
	order.MaxCost = held
	order.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: millicores}}, NoticeMs: hour}
	id := order.ID()
	return chain.LeaseDeal{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: held},
		Bid: chain.Bid{
			ChainID: testChain, Order: id, Node: key(node).Public(), Expiry: order.Deadline,
			Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}},
		},
	}
}

// resizing makes a deal one that gives a lease other terms.
func resizing(d, opened chain.LeaseDeal) chain.LeaseDeal {
	d.Order.Term.Resizes = opened.Order.ID()
	id := d.Order.ID()
	d.Acceptance.Order, d.Bid.Order = id, id
	return d
}

func idOf(d chain.LeaseDeal) chain.LeaseID {
	return chain.LeaseID{Node: d.Bid.Node, Order: d.Order.ID()}
}

func (m *market) open(d chain.LeaseDeal) chain.LeaseOpened {
	m.Helper()
	return m.must(settlement.OpenLease(m.kv, &m.env, chain.OpenLease{Deal: d}, true)).(chain.LeaseOpened)
}

// expire does with leases what begins a block.
func (m *market) expire(limit int) chain.Events {
	events, _ := settlement.ExpireLeases(m.kv, &m.env, limit)
	m.events = append(m.events, events...)
	return events
}

// TestLeaseIsPaidByTheMillisecond follows a lease of 1,000 millicores, 1,000 nHYPER a
// second, from its opening over an extension to its end.
func TestLeaseIsPaidByTheMillisecond(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(200_000))
	d := m.deal(consumer, 1, 40, 1_000, chain.Nano(100_000))
	opened := m.open(d)
	if want := start + 100_000; opened.Expires != want || opened.Held != chain.Nano(100_000) || uint64(opened.Rate) != 1_000_000_000_000 {
		t.Fatalf("opened %+v, want it to hold 100,000 nHYPER until %d", opened, want)
	}
	if held := m.escrow(consumer).Balance; held != chain.Nano(100_000) {
		t.Fatalf("the escrow holds %s, want the other half", held)
	}
	before := m.balance(4)
	m.env.Now += 25_500
	events, why := settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: idOf(d)})
	if why != nil {
		t.Fatal(why.Reason())
	}
	paid := events[0].(chain.LeasePaid)
	if paid.Cost != chain.Nano(25_500) || paid.Until != m.env.Now {
		t.Fatalf("paid %+v, want 25,500 nHYPER", paid)
	}
	if got := sub(t, m.balance(4), before); got != paid.Paid || paid.Paid.IsZero() {
		t.Fatalf("the provider received %s, want %s", got, paid.Paid)
	}
	if r := paid.Records; len(r) != 1 || r[0].Amount != 1_000 || r[0].DurationMs != 25_500 || r[0].Timestamp != m.env.Now {
		t.Fatalf("recorded %+v", r)
	}
	extended := m.must(settlement.ExtendLease(m.kv, &m.env, account(consumer), chain.ExtendLease{Lease: idOf(d), Amount: chain.Nano(50_000)}))
	if end := extended.(chain.LeaseChanged).Expires; end != start+150_000 {
		t.Fatalf("extended until %d, want %d", end, start+150_000)
	}
	m.env.Now = start + 150_000 - 1
	if events := m.expire(10); len(events) != 0 {
		t.Fatalf("a millisecond before its end: %+v", events)
	}
	m.env.Now = start + 200_000 // a block much later charges no more
	ended := m.expire(10)
	if len(ended) != 2 || ended[0].(chain.LeasePaid).Cost != chain.Nano(124_500) || ended[1].(chain.LeaseEnded).At != start+150_000 || ended[1].(chain.LeaseEnded).Closed {
		t.Fatalf("ended with %+v", ended)
	}
	if _, still := settlement.LeaseOf(m.kv, idOf(d)); still {
		t.Fatal("the lease outlived its money")
	}
}

func sub(t *testing.T, a, b chain.Amount) chain.Amount {
	t.Helper()
	d, ok := a.Sub(b)
	if !ok {
		t.Fatalf("%s is below %s", a, b)
	}
	return d
}

// TestNoticeEndsALease: either side may give it, and what is left goes back.
func TestNoticeEndsALease(t *testing.T) {
	for by, who := range map[string]byte{"consumer": consumer, "provider": 4} {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(100))
		d := m.deal(consumer, 1, 40, 1_000, chain.Hyper(50))
		m.open(d)
		m.env.Now += 1_000
		closing := m.must(settlement.CloseLease(m.kv, &m.env, account(who), chain.CloseLease{Lease: idOf(d)})).(chain.LeaseChanged)
		if !closing.Closing || closing.Expires != start+1_000+hour {
			t.Fatalf("%s: %+v, want an end after the notice", by, closing)
		}
		m.refused("upon notice", func(kv state.KV) *chain.Rejection {
			_, why := settlement.ExtendLease(kv, &m.env, account(consumer), chain.ExtendLease{Lease: idOf(d), Amount: chain.Nano(1)})
			return why
		})
		m.refused("upon notice", func(kv state.KV) *chain.Rejection {
			_, why := settlement.CloseLease(kv, &m.env, account(4), chain.CloseLease{Lease: idOf(d)})
			return why
		})
		m.env.Now = closing.Expires
		m.refused("lease ended", func(kv state.KV) *chain.Rejection {
			_, why := settlement.CollectLease(kv, &m.env, chain.CollectLease{Lease: idOf(d)})
			return why
		})
		ended := m.expire(10)[1].(chain.LeaseEnded)
		if cost := chain.Nano(3_601_000); !ended.Closed || ended.Refunded != sub(t, chain.Hyper(50), cost) {
			t.Fatalf("%s: ended with %+v", by, ended)
		}
	}
}

// refused demands that something is rejected for a reason. A message that is rejected
// changes nothing: what it did is dropped with its transaction.
func (m *market) refused(part string, do func(kv state.KV) *chain.Rejection) {
	m.Helper()
	if why := do(state.NewOverlay(m.kv)); why == nil || !strings.Contains(why.Reason(), part) {
		m.Errorf("got %v, want a rejection with %q", why, part)
	}
}

// TestLeaseIsResized: what is due is paid by the old terms, and the new ones hold from then
// on, whatever the rounding.
func TestLeaseIsResized(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(500_000))
	d := m.deal(consumer, 1, 40, 1_000, chain.Nano(200_000))
	m.open(d)
	m.env.Now += 50_000
	bigger := resizing(m.deal(consumer, 2, 40, 3_000, chain.Nano(150_000)), d)
	events, why := settlement.ResizeLease(m.kv, &m.env, chain.ResizeLease{Lease: idOf(d), Deal: bigger}, true)
	if why != nil {
		t.Fatal(why.Reason())
	}
	if paid := events[0].(chain.LeasePaid); paid.Cost != chain.Nano(50_000) || paid.Records[0].Amount != 1_000 {
		t.Fatalf("paid %+v for the time before", paid)
	}
	if changed := events[1].(chain.LeaseChanged); changed.Expires != m.env.Now+100_000 || changed.Held != chain.Nano(300_000) || changed.Order != bigger.Order.ID() {
		t.Fatalf("changed to %+v", changed)
	}
	m.refused("was used", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ResizeLease(kv, &m.env, chain.ResizeLease{Lease: idOf(d), Deal: bigger}, true)
		return why
	})
	m.env.Now += 100_000
	if paid := m.expire(10)[0].(chain.LeasePaid); paid.Cost != chain.Nano(300_000) || paid.Records[0].Amount != 3_000 {
		t.Fatalf("paid %+v for the time after", paid)
	}
}

// TestTimeBeforeAResizeIsNotRecordedAfterIt, though it was too short to cost anything.
func TestTimeBeforeAResizeIsNotRecordedAfterIt(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(10_000))
	d := m.deal(consumer, 1, 40, 1, chain.Nano(1_000))
	m.open(d)
	m.env.Now += 999
	faster := resizing(m.deal(consumer, 2, 40, 10, chain.Nano(1_000)), d)
	m.must(first(settlement.ResizeLease(m.kv, &m.env, chain.ResizeLease{Lease: idOf(d), Deal: faster}, true)))
	m.env.Now += 100
	paid := m.must(first(settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: idOf(d)}))).(chain.LeasePaid)
	if paid.Cost != chain.Nano(1) || paid.Records[0].DurationMs != 100 {
		t.Errorf("paid %s for %d ms, want 1 nHYPER for the 100 ms of these terms", paid.Cost, paid.Records[0].DurationMs)
	}
}

func first(events chain.Events, why *chain.Rejection) (chain.Event, *chain.Rejection) {
	if why != nil {
		return nil, why
	}
	return events[0], nil
}

// TestLeaseOfANodeThatWasSold: its new owner makes no deals that the old one is paid for.
func TestLeaseOfANodeThatWasSold(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(500_000))
	m.register(5, 90)
	d := m.deal(consumer, 1, 90, 1_000, chain.Nano(200_000))
	m.open(d)
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(5), chain.UnbondProvider{Node: key(90).Public()}))
	m.register(6, 90)
	bigger := resizing(m.deal(consumer, 2, 90, 3_000, chain.Nano(150_000)), d)
	m.refused("the lease pays", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ResizeLease(kv, &m.env, chain.ResizeLease{Lease: idOf(d), Deal: bigger}, true)
		return why
	})
}

// TestDealsThatAreRefused names what is wrong with each.
func TestDealsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		part   string
		change func(m *market, d *chain.LeaseDeal)
	}{
		{"order is of chain", func(_ *market, d *chain.LeaseDeal) { d.Order.ChainID = "another-1" }},
		{"acceptance is of chain", func(_ *market, d *chain.LeaseDeal) { d.Acceptance.ChainID = "another-1" }},
		{"bid is of chain", func(_ *market, d *chain.LeaseDeal) { d.Bid.ChainID = "another-1" }},
		{"bid is of order", func(_ *market, d *chain.LeaseDeal) { d.Bid.Order[0]++ }},
		{"acceptance is of order", func(_ *market, d *chain.LeaseDeal) { d.Acceptance.Order[0]++ }},
		{"acceptance is by cluster", func(_ *market, d *chain.LeaseDeal) { d.Acceptance.Cluster[0]++ }},
		{"acceptance has sequence 0", func(_ *market, d *chain.LeaseDeal) { d.Acceptance.Sequence = 0 }},
		{"acceptance covers", func(_ *market, d *chain.LeaseDeal) { d.Acceptance.Outstanding = chain.Nano(1) }},
		{"order's deadline was", func(m *market, d *chain.LeaseDeal) { m.env.Now = d.Order.Deadline + 1 }},
		{"bid expired", func(m *market, d *chain.LeaseDeal) { d.Bid.Expiry = m.env.Now - 1 }},
		{"longer work is a lease", func(m *market, d *chain.LeaseDeal) { m.env.Params.ClaimWindowMs = 1 << 40 }},
		{"cluster", func(m *market, d *chain.LeaseDeal) { m.unbondCluster() }},
		{"provider", func(_ *market, d *chain.LeaseDeal) { d.Bid.Node = key(99).Public() }},
		{"fixed price", func(_ *market, d *chain.LeaseDeal) { d.Bid.Fixed = chain.Nano(1) }},
		{"its cap is", func(_ *market, d *chain.LeaseDeal) { d.Bid.Prices[0].Price++ }},
		{"no cap", func(_ *market, d *chain.LeaseDeal) { d.Order.Term.Resources[0].Resource = chain.Storage }},
		{"no price", func(_ *market, d *chain.LeaseDeal) { d.Bid.Prices = nil }},
		{"rate is outside", func(_ *market, d *chain.LeaseDeal) { d.Bid.Prices[0].Price = 0 }},
		{"the escrow holds", func(_ *market, d *chain.LeaseDeal) { d.Order.MaxCost = chain.Hyper(1_000) }},
		{"the least of a lease", func(_ *market, d *chain.LeaseDeal) { d.Order.MaxCost = chain.Nano(59_999) }},
	} {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(100))
		d := m.deal(consumer, 1, 40, 1_000, chain.Hyper(50))
		c.change(m, &d)
		if id := d.Order.ID(); c.part != "bid is of order" && c.part != "acceptance is of order" { // the forms are of the order as it is now
			d.Bid.Order, d.Acceptance.Order = id, id
		}
		if c.part != "acceptance covers" {
			d.Acceptance.Outstanding = d.Order.MaxCost
		}
		m.refused(c.part, func(kv state.KV) *chain.Rejection {
			_, why := settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: d}, true)
			return why
		})
	}
	m := newMarket(t)
	m.refused("does not verify", func(kv state.KV) *chain.Rejection {
		_, why := settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: m.deal(consumer, 1, 40, 1_000, chain.Hyper(1))}, false)
		return why
	})
}

func (m *market) unbondCluster() {
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
}

// TestStrangersHaveNoPartInALease: nor has a claim, nor the order's second use.
func TestStrangersHaveNoPartInALease(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(100))
	m.deposit(other, chain.Hyper(100))
	d := m.deal(consumer, 1, 40, 1_000, chain.Hyper(50))
	m.open(d)
	id := idOf(d)
	resize := func(deal chain.LeaseDeal, signed bool) func(kv state.KV) *chain.Rejection {
		return func(kv state.KV) *chain.Rejection {
			_, why := settlement.ResizeLease(kv, &m.env, chain.ResizeLease{Lease: id, Deal: deal}, signed)
			return why
		}
	}
	m.refused("was used", func(kv state.KV) *chain.Rejection {
		_, why := settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: d}, true)
		return why
	})
	again := resizing(m.deal(consumer, 2, 40, 500, chain.Nano(0)), d)
	m.refused("to resize lease", func(kv state.KV) *chain.Rejection {
		_, why := settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: again}, true)
		return why
	})
	m.refused("is not to resize", resize(m.deal(consumer, 2, 40, 500, chain.Nano(0)), true))
	m.refused("does not verify", resize(again, false))
	m.refused("the lease's consumer is", resize(resizing(m.deal(other, 2, 40, 500, chain.Nano(0)), d), true))
	m.refused("the lease's is", resize(resizing(m.deal(consumer, 2, 50, 500, chain.Nano(0)), d), true))
	m.refused("has no part", func(kv state.KV) *chain.Rejection {
		_, why := settlement.CloseLease(kv, &m.env, account(other), chain.CloseLease{Lease: id})
		return why
	})
	before := m.escrow(consumer).Balance
	gift := m.must(settlement.ExtendLease(m.kv, &m.env, account(other), chain.ExtendLease{Lease: id, Amount: chain.Nano(700)})).(chain.LeaseChanged)
	if l, _ := settlement.LeaseOf(m.kv, id); l.Consumer != account(consumer) || l.Held != gift.Held || m.escrow(consumer).Balance != before {
		t.Errorf("extended by somebody else it is %+v", l)
	}
	m.refused("can spend", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ExtendLease(kv, &m.env, account(other), chain.ExtendLease{Lease: id, Amount: chain.Hyper(900_000_000)})
		return why
	})
	m.refused("by nothing", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ExtendLease(kv, &m.env, account(consumer), chain.ExtendLease{Lease: id})
		return why
	})
	m.refused("nothing is due", func(kv state.KV) *chain.Rejection {
		_, why := settlement.CollectLease(kv, &m.env, chain.CollectLease{Lease: id})
		return why
	})
	m.refused("has no lease", func(kv state.KV) *chain.Rejection {
		_, why := settlement.CollectLease(kv, &m.env, chain.CollectLease{Lease: chain.LeaseID{Node: id.Node}})
		return why
	})
	claim := m.claim(d.Order, 40, 1)
	m.wantRejected("is for a lease", claim)
}

// TestEndedLeaseIsNotOpenedAgain: the order stays used for as long as its deadline has not
// passed, and after that it is too late.
func TestEndedLeaseIsNotOpenedAgain(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(100))
	d := m.deal(consumer, 1, 40, 1_000, chain.Nano(100_000))
	m.open(d)
	for now := m.env.Now; now < d.Order.Deadline+window+hour; now += hour / 2 {
		m.env.Now = now
		m.expire(10)
		settlement.ExpireOrders(m.kv, &m.env, 10)
		want := "was used"
		if now > d.Order.Deadline {
			want = "deadline was"
		}
		m.refused(want, func(kv state.KV) *chain.Rejection {
			_, why := settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: d}, true)
			return why
		})
	}
}

// TestEndsAreCarriedOver: of more ends than a block takes, the rest ends in the next, as of
// the same millisecond and with no right in between.
func TestEndsAreCarriedOver(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(100))
	var deals []chain.LeaseDeal
	for nonce := range uint64(5) {
		deals = append(deals, m.deal(consumer, nonce, 40, 1_000, chain.Nano(100_000)))
		m.open(deals[nonce])
	}
	m.env.Now += 300_000
	for block, want := range []int{2, 2, 1, 0} {
		ends := 0
		for _, e := range m.expire(2) {
			if ended, ok := e.(chain.LeaseEnded); ok {
				if ended.At != start+100_000 {
					t.Errorf("block %d: ended as of %d", block, ended.At)
				}
				ends++
			}
		}
		if ends != want {
			t.Errorf("block %d ended %d leases, want %d", block, ends, want)
		}
		m.refused("lease", func(kv state.KV) *chain.Rejection {
			_, why := settlement.CollectLease(kv, &m.env, chain.CollectLease{Lease: idOf(deals[4])})
			return why
		})
		m.env.Now += 1_000
	}
	if left := m.dumpOf('l', 'q'); len(left) != 0 {
		t.Errorf("the ended leases left %x", left)
	}
}

// dumpOf is what the state has under kinds of this package's keys.
func (m *market) dumpOf(kinds ...byte) []byte {
	var out []byte
	for _, kind := range kinds {
		for key := range m.kv.Iterate([]byte{settlement.Prefix, kind}, []byte{settlement.Prefix, kind + 1}) {
			out = append(out, key...)
		}
	}
	return out
}

// TestLeasesConserve does random things with leases, and checks after each that no value
// appears or vanishes, that each lease's queue entry is its own, that a lease never
// outlives its money, and that what its provider gets is what its time cost.
func TestLeasesConserve(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.env.Params.HardwareEveryMs = 1 << 62 // nodes are challenged, none of these
		m.deposit(consumer, chain.Nano(40_000_000))
		m.deposit(other, chain.Nano(40_000_000))
		var deals []chain.LeaseDeal
		nonce := uint64(0)
		any := func() chain.LeaseDeal {
			nonce++
			m.anyFee(rt)
			d := m.deal(rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "who"), nonce, rapid.SampledFrom([]byte{40, 41, 50}).Draw(rt, "node"),
				rapid.Uint64Range(1, 5_000).Draw(rt, "millicores"), chain.Nano(rapid.Uint64Range(0, 3_000_000).Draw(rt, "held")))
			d.Bid.Prices[0].Price = rapid.SampledFrom([]uint64{1_000_000_000, 333_333_333, 7}).Draw(rt, "price")
			d.Order.Term.NoticeMs = rapid.Uint64Range(0, 200_000).Draw(rt, "notice")
			id := d.Order.ID()
			d.Bid.Order, d.Acceptance.Order = id, id
			return d
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			m.leaseStep(rt, &deals, any)
			m.checkLeases(rt)
			m.checkConserved(rt)
		}
		for left := len(deals); left > 0; left-- { // of each a block has at least one
			m.next(1)
			m.expire(1)
		}
		m.next(1 << 40)
		for m.expire(2); len(m.dumpOf('z')) > 0; m.expire(2) {
			m.next(1)
		}
		if left := m.dumpOf('l', 'q', 'z'); len(left) != 0 {
			rt.Fatalf("when all leases were over, this was left: %x", left)
		}
	})
}

// next is the next block's time.
func (m *market) next(afterMs uint64) {
	m.env.Last, m.env.Now = m.env.Now, m.env.Now+chain.TimeMs(afterMs)
}

// TestAnEndIsLookedForWhereItMayBe: not among all that were there before.
func TestAnEndIsLookedForWhereItMayBe(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(100))
	for nonce := range uint64(5) {
		m.open(m.deal(consumer, nonce, 40, 1_000, chain.Nano(100_000)))
	}
	m.next(100_000)
	for _, want := range []chain.TimeMs{start, start + 100_000, start + 100_000, start + 100_002} {
		seen := &searched{KV: m.kv}
		if settlement.ExpireLeases(seen, &m.env, 2); seen.from != want {
			t.Fatalf("searched from %d, want %d", seen.from, want)
		}
		m.next(1)
	}
	m.open(m.deal(consumer, 9, 40, 1_000, chain.Nano(100_000)))
	m.next(200_000)
	if _, ended := settlement.ExpireLeases(m.kv, &m.env, 2); ended != 1 {
		t.Fatalf("%d leases ended, want the one that was opened since", ended)
	}
}

// searched notes where the queue of ends is searched from.
type searched struct {
	state.KV
	from chain.TimeMs
}

func (s *searched) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	if start[1] == 'q' {
		s.from = chain.TimeMs(binary.BigEndian.Uint64(start[2:]))
	}
	return s.KV.Iterate(start, end)
}

// TestFeeOfALeaseIsItsOwn: what the operator asks of others later, or who that is then, is
// nothing to a lease that runs.
func TestFeeOfALeaseIsItsOwn(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(100))
	d, closed := m.deal(consumer, 1, 40, 1_000_000, chain.Hyper(40)), m.deal(consumer, 2, 40, 1_000_000, chain.Hyper(40))
	m.open(d)
	m.open(closed)
	m.unbondCluster()
	dearer := m.registerCluster(5)
	dearer.FeeBps = 9_000
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(5), dearer))
	m.next(10_000)
	before := m.balance(operator)
	paid := m.must(first(settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: idOf(d)}))).(chain.LeasePaid)
	if want, _ := paid.Cost.ShareFloor(500, 10_000); paid.ClusterFee != want || sub(t, m.balance(operator), before) != want {
		t.Fatalf("the cluster takes %s of %s, want 5%%, for who it was of", paid.ClusterFee, paid.Cost)
	}
	m.next(40_000_000)
	for _, e := range m.expire(10) {
		if paid, ok := e.(chain.LeasePaid); ok {
			if want, _ := paid.Cost.ShareFloor(500, 10_000); paid.ClusterFee != want {
				t.Fatalf("at its end the cluster takes %s of %s", paid.ClusterFee, paid.Cost)
			}
		}
	}
	more := m.deal(consumer, 3, 41, 1_000, chain.Hyper(1))
	m.open(more)
	m.next(10_000)
	paid = m.must(first(settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: idOf(more)}))).(chain.LeasePaid)
	if left := sub(t, paid.Cost, paid.ClusterFee); paid.Cost.Nano() < 8*left.Nano() {
		t.Fatalf("a new lease pays a fee of %s of %s, want nine tenths", paid.ClusterFee, paid.Cost)
	}
}

func (m *market) leaseStep(rt *rapid.T, deals *[]chain.LeaseDeal, newDeal func() chain.LeaseDeal) {
	kv := state.NewOverlay(m.kv)
	var events chain.Events
	var why *chain.Rejection
	one := func(e chain.Event, w *chain.Rejection) {
		if why = w; w == nil {
			events = chain.Events{e}
		}
	}
	pick := func() chain.LeaseID {
		if len(*deals) == 0 {
			return chain.LeaseID{}
		}
		return idOf(rapid.SampledFrom(*deals).Draw(rt, "lease"))
	}
	who := account(rapid.SampledFrom([]byte{consumer, other, 4, 5}).Draw(rt, "by"))
	switch rapid.IntRange(0, 6).Draw(rt, "step") {
	case 0, 1:
		d := newDeal()
		*deals = append(*deals, d)
		one(settlement.OpenLease(kv, &m.env, chain.OpenLease{Deal: d}, true))
	case 2:
		id, d := pick(), newDeal()
		d.Order.Term.Resizes = id.Order
		terms := d.Order.ID()
		d.Acceptance.Order, d.Bid.Order = terms, terms
		events, why = settlement.ResizeLease(kv, &m.env, chain.ResizeLease{Lease: id, Deal: d}, true)
	case 3:
		more := chain.ExtendLease{Lease: pick(), Amount: chain.Nano(rapid.Uint64Range(0, 100_000).Draw(rt, "more"))}
		lease, _ := settlement.LeaseOf(kv, more.Lease)
		if one(settlement.ExtendLease(kv, &m.env, who, more)); why == nil && who != lease.Consumer {
			m.gifts = append(m.gifts, gift{who, lease.Consumer, more.Amount})
		}
	case 4:
		one(settlement.CloseLease(kv, &m.env, who, chain.CloseLease{Lease: pick()}))
	case 5:
		events, why = settlement.CollectLease(kv, &m.env, chain.CollectLease{Lease: pick()})
	case 6:
		m.next(rapid.Uint64Range(1, 200_000).Draw(rt, "wait"))
		events, _ = settlement.ExpireLeases(kv, &m.env, rapid.IntRange(1, 3).Draw(rt, "limit"))
	}
	if why != nil {
		return // and what was done is dropped
	}
	for _, c := range kv.Changes() {
		if c.Deleted {
			m.kv.Delete(c.Key)
		} else {
			m.kv.Set(c.Key, c.Value)
		}
	}
	m.events = append(m.events, events...)
}

// queuedEnds counts the ends that are queued, all in their order, none twice, and none beyond
// the bound of its page.
func (m *market) queuedEnds(rt *rapid.T) (n int) {
	var last []byte
	for key, value := range m.kv.Iterate([]byte{settlement.Prefix, 'q'}, []byte{settlement.Prefix, 'q' + 1}) {
		if len(value) == 0 || len(value) > 16*72 {
			rt.Fatalf("a page of %d bytes", len(value))
		}
		for end := range slices.Chunk(value, 72) {
			if bytes.Compare(last, end) >= 0 || bytes.Compare(end, key[2:]) > 0 {
				rt.Fatalf("end %x comes after %x in the page up to %x", end, last, key[2:])
			}
			last = end
			n++
		}
	}
	return n
}

func (m *market) checkLeases(rt *rapid.T) {
	leases, keep := 0, map[crypto.PublicKey]settlement.Leased{}
	for key, value := range m.kv.Iterate([]byte{settlement.Prefix, 'l'}, []byte{settlement.Prefix, 'l' + 1}) {
		l := state.Decode[settlement.Lease](key, value)
		leases++
		id := chain.LeaseID{Node: crypto.PublicKey(key[2:34]), Order: crypto.Digest(key[34:])}
		sum := keep[id.Node]
		sum.Millicores += l.Resources[0].Amount
		keep[id.Node] = sum
		if !settlement.LeaseEndQueued(m.kv, l.Expires, id) {
			rt.Fatalf("lease that ends at %d is not queued there", l.Expires)
		}
		atEnd := chain.RateCost(l.Rate, uint64(l.Expires-l.Since))
		if due, ok := atEnd.Sub(l.Charged); !ok || l.Held.Less(due) {
			rt.Fatalf("lease holds %s, and will owe %s at its end", l.Held, due)
		}
		all, _ := l.Held.Add(l.Charged)
		if lasts := chain.RateTime(l.Rate, all); !l.Closing && uint64(l.Expires-l.Since) != lasts {
			rt.Fatalf("lease ends after %d ms, its money lasts for %d", l.Expires-l.Since, lasts)
		}
	}
	if queued := m.queuedEnds(rt); queued != leases {
		rt.Fatalf("%d leases, %d in the queue", leases, queued)
	}
	if m.env.Params.HardwareEveryMs == 0 {
		keep = nil // nobody asks
	}
	for node, sum := range keep {
		if known := settlement.LeasedOf(m.kv, node); known != sum {
			rt.Fatalf("of a node %+v is leased, known is %+v", sum, known)
		}
	}
	if known := len(m.dumpOf('U')) / 34; known != len(keep) {
		rt.Fatalf("%d nodes are leased, %d are known to be", len(keep), known)
	}
	for _, e := range m.events {
		if p, ok := e.(chain.LeasePaid); ok && p.Paid.Nano()+p.Burned.Nano()+p.Treasury.Nano()+p.ClusterFee.Nano() != p.Cost.Nano() {
			rt.Fatal("the parts of a charge are not its sum")
		}
	}
}
