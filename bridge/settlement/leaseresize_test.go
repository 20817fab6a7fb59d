package settlement_test

import (
	"reflect"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// other terms of the same lease: so many cores, and another stake; 0: nothing is promised.
func (s *service) otherTerms(millicores, held, stake uint64) chain.LeaseDeal {
	d := s.market.deal(consumer, uint64(1+len(s.terms)), 40, millicores, chain.Nano(held))
	if stake != 0 {
		terms := serviceTerms
		terms.Stake = chain.Nano(stake)
		d.Order.Term.Service = &terms
	}
	return resizing(d, s.terms[0].deal)
}

// resize puts other terms in the place of the lease's, and goes on with those.
func (s *service) resize(d chain.LeaseDeal) chain.Events {
	s.Helper()
	events, why := settlement.ResizeLease(s.kv, &s.env, chain.ResizeLease{Lease: s.id, Deal: d}, true)
	if why != nil {
		s.Fatal(why.Reason())
	}
	s.events = append(s.events, events...)
	s.terms = append(s.terms, agreed{d, s.env.Now})
	s.under(len(s.terms) - 1)
	return events
}

func (s *service) refusedResize(part string, d chain.LeaseDeal) {
	s.Helper()
	s.refused(part, func(kv state.KV) *chain.Rejection {
		_, why := settlement.ResizeLease(kv, &s.env, chain.ResizeLease{Lease: s.id, Deal: d}, true)
		return why
	})
}

// under has reports be of the lease's first, second or third terms.
func (s *service) under(n int) { s.deal, s.since = s.terms[n].deal, s.terms[n].since }

// TestResizeLeavesTheLastEpochs: what was promised before a lease was resized is repriced by reports of the
// last epochs, the last of which ends with the old terms, out of what was due under those and was not paid
// yet; then the rest is paid, and what was staked for them is free. The new terms are touched by none of it.
func TestResizeLeavesTheLastEpochs(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(2, 3_000)
	paid, supply := s.balance(4), s.surplus()
	s.resize(s.otherTerms(2_000, 1_000_000, 300_000))
	if p := s.provider(40); p.Locked != chain.Nano(400_000) || s.balance(4) != paid {
		t.Fatalf("%s is locked, and %s was paid", p.Locked, sub(t, s.balance(4), paid))
	}
	s.after(0, 0)
	lease := func() settlement.Lease { l, _ := settlement.LeaseOf(s.kv, s.id); return l }
	service := func() settlement.Service { v, _ := settlement.ServiceOf(s.kv, s.id.Order); return v }
	before, terms := lease(), service()
	s.under(0)
	if got := s.miss(3, s.peers[:3]...); got.Rebate != chain.Nano(1_500) || got.FromStake != chain.Nano(1_000) || got.Stake != chain.Nano(98_000) {
		t.Fatalf("the last 3 s were repriced: %+v", got)
	}
	s.refusedReport("was judged", 3, s.peers...)
	s.refusedReport("before epoch", 4, s.peers...)
	if got := s.miss(1, s.peers[2:]...); got.Rebate != chain.Nano(5_000) || got.Stake != chain.Nano(96_000) || got.Terms != s.terms[0].deal.Order.ID() {
		t.Fatalf("an epoch of the old terms was repriced: %+v", got)
	}
	if !reflect.DeepEqual(lease(), before) || !reflect.DeepEqual(service(), terms) {
		t.Fatalf("the new terms were touched: %+v, %+v", lease(), service())
	}
	s.under(1)
	if got := s.miss(0, s.peers...); got.Rebate != chain.Nano(10_000) || got.Stake != chain.Nano(298_000) || got.Terms != s.terms[1].deal.Order.ID() {
		t.Fatalf("an epoch of the new terms was repriced: %+v", got)
	}
	said := s.progress(settlement.ReportWindowMs + 1)
	if len(said) != 2 {
		t.Fatalf("at the end of the old terms: %+v", said)
	}
	if got := said[0].(chain.LeasePaid); got.Cost != chain.Nano(33_000-1_500-5_000) || got.Paid != sub(t, s.balance(4), paid) {
		t.Fatalf("the provider got %+v", got)
	}
	want := chain.TermsClosed{Lease: s.id, Terms: s.id.Order, Consumer: account(consumer), Stake: chain.Nano(96_000)}
	if got := said[1]; got != want {
		t.Fatalf("said %+v, want %+v", got, want)
	}
	if p := s.provider(40); p.Locked != chain.Nano(298_000) || len(s.dumpOf('S', 't')) != 0 || s.surplus() != supply {
		t.Fatalf("%s stays locked, left %x, surplus %d", p.Locked, s.dumpOf('S', 't'), s.surplus())
	}
	s.under(0)
	s.refusedReport("of terms", 2, s.peers...)
}

// TestResizedServiceBeginsAnew: epochs are counted from the resize on, at the new price, and if nothing is promised
// any more nothing is staked for it.
func TestResizedServiceBeginsAnew(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 0)
	s.resize(s.otherTerms(2_000, 1_000_000, 300_000))
	s.refusedReport("is not over", 0, s.peers...)
	s.after(0, 0)
	if got := s.miss(0, s.peers...); got.Rebate != chain.Nano(10_000) {
		t.Fatalf("repriced: %+v, want half of twice the price", got)
	}
	s.progress(settlement.ReportWindowMs + 1)
	s.resize(s.otherTerms(1_000, 1_000_000, 0))
	if p := s.provider(40); p.Locked != chain.Nano(298_000) || len(s.dumpOf('s')) != 0 {
		t.Fatalf("%s stays locked, left %x", p.Locked, s.dumpOf('s'))
	}
	s.refused("nothing is promised", func(kv state.KV) *chain.Rejection {
		return settlement.DrawPeers(kv, &s.env, account(consumer), chain.DrawPeers{Lease: s.id})
	})
	s.progress(settlement.ReportWindowMs + 1)
	if p := s.provider(40); !p.Locked.IsZero() || len(s.dumpOf('S', 't')) != 0 {
		t.Fatalf("%s stays locked", p.Locked)
	}
}

// TestResizedOnceAnHour: as long as terms before may be reported no others are put beside them, however the lease got
// those that it has; so a lease locks two stakes at most, and for no longer than an hour. Where nobody could report
// anything nothing is kept, and a lease is resized as often as its parties want.
func TestResizedOnceAnHour(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 0)
	s.resize(s.otherTerms(2_000, 1_000_000, 300_000))
	s.after(0, 0)
	s.refusedResize("may still be reported", s.otherTerms(1_000, 0, 300_000))
	s.refusedResize("may still be reported", s.otherTerms(1_000, 0, 0))
	s.progress(settlement.ReportWindowMs - 1)
	s.refusedResize("may still be reported", s.otherTerms(1_000, 0, 300_000))
	s.progress(2)
	s.resize(s.otherTerms(1_000, 0, 0))
	s.after(0, 0)
	s.resize(s.otherTerms(1_000, 0, 200_000)) // of terms that promise nothing nothing is kept
	for range 3 {                             // nor of those for which no peers were drawn yet
		s.next(1)
		s.resize(s.otherTerms(1_000, 0, 200_000))
	}
	if p := s.provider(40); p.Locked != chain.Nano(500_000) {
		t.Fatalf("%s is locked, want what was staked an hour ago and what is now", p.Locked)
	}
	s.peers = s.draw()
	s.after(0, 0)
	s.refusedResize("may still be reported", s.otherTerms(1_000, 0, 300_000))
	s.next(1 << 40)
	s.expire(10)
	s.close()
}

// TestResizeNeedsBothStakes: a node without so much free of its bond is not resized.
func TestResizeNeedsBothStakes(t *testing.T) {
	terms := serviceTerms
	bond := func(m *market) uint64 { return m.provider(40).Bond.Nano() }
	s := newService(t, terms)
	s.after(0, 0)
	s.refusedResize("free", s.otherTerms(1_000, 0, bond(s.market)-terms.Stake.Nano()+1))
	s.resize(s.otherTerms(1_000, 0, bond(s.market)-terms.Stake.Nano()))
}

// TestResizeAtTheEnd: in the last millisecond of a lease what was promised until then is kept as at any time, and
// from the next on there is nothing to resize.
func TestResizeAtTheEnd(t *testing.T) {
	s := newService(t, serviceTerms)
	l, _ := settlement.LeaseOf(s.kv, s.id)
	s.env.Last, s.env.Now = s.env.Now, l.Expires
	s.refusedResize("lease ended", s.otherTerms(1_000, 100_000, 100_000))
	s.env.Now--
	s.refusedResize("the least of a lease", s.otherTerms(1_000, 1_000, 100_000))
	supply := s.surplus()
	s.resize(s.otherTerms(1_000, 100_000, 100_000))
	now, _ := settlement.LeaseOf(s.kv, s.id)
	former, _ := settlement.FormerServiceOf(s.kv, s.id.Order)
	if last := uint64(l.Expires - l.Since - 1); former.Over.Held != chain.Nano(last) || now.Held != chain.Nano(100_000+1) || now.Expires != s.env.Now+100_001 {
		t.Fatalf("%s is owed for %d ms, and %s held until %d", former.Over.Held, last, now.Held, now.Expires)
	}
	s.under(0)
	if got := s.miss(uint64(l.Expires-l.Since-1)/serviceEpoch, s.peers...); got.Rebate != chain.Nano(4_999) { // of 9,999 ms
		t.Fatalf("the last epoch was repriced: %+v", got)
	}
	s.next(1 << 40)
	s.expire(10)
	if s.surplus() != supply {
		t.Fatalf("surplus %d", s.surplus())
	}
	s.close()
}

// TestResizedDownAndClosed: what was promised of the larger lease is reported for an hour from the resize, and of the
// smaller one from its end; each is paid for by its own terms, and each stake is free in its turn.
func TestResizedDownAndClosed(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(1, 0)
	s.resize(s.otherTerms(10, 0, 50_000))
	s.after(0, 0)
	s.must(settlement.CloseLease(s.kv, &s.env, account(consumer), chain.CloseLease{Lease: s.id}))
	s.refusedResize("ends at", s.otherTerms(1_000, 0, 50_000))
	l, _ := settlement.LeaseOf(s.kv, s.id)
	s.progress(settlement.ReportWindowMs / 2)
	s.env.Last, s.env.Now = s.env.Now, l.Expires
	s.expire(10)
	if got := s.miss(0, s.peers...); got.Rebate != chain.Nano(50) || got.Stake != chain.Nano(48_000) {
		t.Fatalf("an epoch of the small lease was repriced: %+v", got)
	}
	s.under(0)
	if got := s.miss(0, s.peers...); got.Rebate != chain.Nano(5_000) || got.Stake != chain.Nano(98_000) {
		t.Fatalf("an epoch of the large lease was repriced: %+v", got)
	}
	said := s.progress(settlement.ReportWindowMs/2 + 1)
	if paid := said[0].(chain.LeasePaid); len(said) != 2 || paid.Cost != chain.Nano(15_000) || s.provider(40).Locked != chain.Nano(48_000) {
		t.Fatalf("after the first hour %s stays locked: %+v", s.provider(40).Locked, said)
	}
	s.close()
	if closed, ok := s.events[len(s.events)-1].(chain.ServiceClosed); !ok || closed.Stake != chain.Nano(48_000) {
		t.Fatalf("at last %+v", s.events[len(s.events)-1])
	}
}

// TestAResizeMakesNoMiss: who may end terms does not do so to find in a part of an epoch what the whole would not have
// shown: one probe of five that was missed is two of ten, if the rest of the epoch is counted as kept one of ten.
func TestAResizeMakesNoMiss(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 5_000)
	s.resize(s.otherTerms(1_000, 0, 100_000))
	s.under(0)
	found := func(answered uint64) *chain.Rejection {
		m := chain.ReportMiss{Epoch: s.epoch(1), Reports: missed(s.peers...)}
		for i := range m.Reports {
			m.Reports[i].Sent, m.Reports[i].Answered = 5, answered
		}
		_, why := settlement.ReportMiss(state.NewOverlay(s.kv), &s.env, m, true)
		return why
	}
	if why := found(4); why == nil || why.Reason() == "" {
		t.Error("one probe of five is a miss of an epoch that was cut short")
	}
	if why := found(3); why != nil {
		t.Errorf("two probes of five are none: %s", why.Reason())
	}
}

// TestPeerOfTwoMindsBeforeAResize is slashed as any, once, and counts no more under those terms.
func TestPeerOfTwoMindsBeforeAResize(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 0)
	s.resize(s.otherTerms(1_000, 0, 100_000))
	s.under(0)
	peer := s.peers[1]
	accusation := chain.AccusePeer{Epoch: s.epoch(0), First: missed(peer)[0], Second: chain.ServiceReport{Peer: peer, Sent: 10, Answered: 10}}
	accuse := func(kv state.KV) (chain.Event, *chain.Rejection) {
		return settlement.AccusePeer(kv, &s.env, account(12), accusation, true)
	}
	if slashed := s.must(accuse(s.kv)).(chain.BondSlashed); slashed.Node != peer {
		t.Fatalf("slashed %+v", slashed)
	}
	s.refused("is not a peer", func(kv state.KV) *chain.Rejection { _, why := accuse(kv); return why })
	s.refusedReport("is not a peer", 0, s.peers...)
	s.under(1)
	s.after(0, 0)
	s.miss(0, s.peers...) // it has said nothing twice under these
}
