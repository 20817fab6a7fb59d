package settlement_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

const serviceEpoch = 10_000 // ms

var serviceTerms = chain.ServiceTerms{
	EpochMs: serviceEpoch, AvailabilityBps: 9_000, StartMs: 5_000, RebateBps: 5_000, Penalty: chain.Nano(2_000), Stake: chain.Nano(100_000),
}

// service is a lease of 1,000 nHYPER a second with service terms, and the peers that were
// drawn for it.
type service struct {
	*market
	deal  chain.LeaseDeal
	id    chain.LeaseID
	since chain.TimeMs
	peers []crypto.PublicKey
	terms []agreed // all that it had, if it is resized
}

// agreed is what a lease is kept by, and since when.
type agreed struct {
	deal  chain.LeaseDeal
	since chain.TimeMs
}

func newService(t testing.TB, terms chain.ServiceTerms) *service {
	t.Helper()
	return newHurriedService(t, terms, 0)
}

// newHurriedService is newService with a priority fee upon what the lease costs.
func newHurriedService(t testing.TB, terms chain.ServiceTerms, fee chain.PriorityFee) *service {
	t.Helper()
	m := newMarket(t)
	m.fee = fee
	m.register(8, 80)
	m.register(9, 90)
	m.env.Params.HardwareEveryMs = 1 << 62 // nodes are challenged, none of these
	m.deposit(consumer, chain.Nano(10_000_000))
	d := promising(m.deal(consumer, 1, 40, 1_000, chain.Nano(3_000_000)), terms)
	s := &service{market: m, deal: d, id: idOf(d), since: m.env.Now, terms: []agreed{{d, m.env.Now}}}
	m.open(d)
	s.peers = s.draw()
	return s
}

// promising gives a deal service terms.
func promising(d chain.LeaseDeal, terms chain.ServiceTerms) chain.LeaseDeal {
	d.Order.Term.Service = &terms
	id := d.Order.ID()
	d.Acceptance.Order, d.Bid.Order = id, id
	return d
}

// blocks makes so many, a millisecond apart, and returns what their draws say.
func (m *market) blocks(n int) (events chain.Events) {
	for range n {
		m.env.Height++
		m.next(1)
		m.env.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(nil, uint64(m.env.Height)))
		said, _ := settlement.RunDraws(m.kv, &m.env, 64)
		events = append(events, said...)
	}
	m.events = append(m.events, events...)
	return events
}

func (s *service) draw() []crypto.PublicKey {
	s.Helper()
	events := s.blocks(settlement.DrawDelay)
	if len(events) != 1 {
		s.Fatalf("drew %+v, want peers", events)
	}
	return events[0].(chain.PeersDrawn).Peers
}

func (s *service) epoch(n uint64) chain.ServiceEpoch {
	return chain.ServiceEpoch{ChainID: testChain, Lease: s.id, Terms: s.deal.Order.ID(), Epoch: n}
}

// after has the block time be a while after the end of an epoch.
func (s *service) after(epoch uint64, ms uint64) {
	s.env.Last, s.env.Now = s.env.Now, s.since+chain.TimeMs((epoch+1)*serviceEpoch+ms)
}

func missed(peers ...crypto.PublicKey) (list []chain.ServiceReport) {
	for _, peer := range peers {
		list = append(list, chain.ServiceReport{Peer: peer, Sent: 10, Answered: 6})
	}
	return list
}

func (s *service) report(epoch uint64, peers ...crypto.PublicKey) (chain.Events, *chain.Rejection) {
	return settlement.ReportMiss(s.kv, &s.env, chain.ReportMiss{Epoch: s.epoch(epoch), Reports: missed(peers...)}, true)
}

func (s *service) refusedReport(part string, epoch uint64, peers ...crypto.PublicKey) {
	s.Helper()
	s.refused(part, func(kv state.KV) *chain.Rejection {
		_, why := settlement.ReportMiss(kv, &s.env, chain.ReportMiss{Epoch: s.epoch(epoch), Reports: missed(peers...)}, true)
		return why
	})
}

func (s *service) miss(epoch uint64, peers ...crypto.PublicKey) chain.ServiceMissed {
	s.Helper()
	events, why := s.report(epoch, peers...)
	if why != nil {
		s.Fatal(why.Reason())
	}
	return events[len(events)-1].(chain.ServiceMissed)
}

// TestPeersAreOthers: nobody who has a part in the lease watches it.
func TestPeersAreOthers(t *testing.T) {
	s := newService(t, serviceTerms)
	if len(s.peers) != 5 {
		t.Fatalf("%d peers, want one of each of five owners", len(s.peers))
	}
	for _, mine := range []byte{40, 41} {
		if slices.Contains(s.peers, key(mine).Public()) {
			t.Errorf("node %d of the provider watches", mine)
		}
	}
	if p := s.provider(40); p.Locked != serviceTerms.Stake {
		t.Errorf("%s is locked, want the stake", p.Locked)
	}
}

// close has all that a lease is kept for after its end be over, and demands that nothing is left of it.
func (s *service) close() {
	s.Helper()
	supply := s.surplus()
	s.events = append(s.events, s.progress(settlement.ReportWindowMs+1)...)
	if left := s.dumpOf('s', 'S', 'l', 'q', 't', 'U'); len(left) != 0 || !s.provider(40).Locked.IsZero() || s.surplus() != supply {
		s.Fatalf("left %x, %s stays locked, surplus %d", left, s.provider(40).Locked, s.surplus())
	}
}

// TestMissedEpochIsRepriced: half of the epoch's 10,000 nHYPER goes back out of what is due, and
// the penalty out of the stake.
func TestMissedEpochIsRepriced(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 0)
	before, supply := s.escrow(consumer).Balance, s.surplus()
	got := s.miss(0, s.peers[:3]...)
	if got.Rebate != chain.Nano(5_000) || got.FromStake != chain.Nano(1_000) || got.Burned != chain.Nano(1_000) || got.Stake != chain.Nano(98_000) || got.Finding != "availability" {
		t.Fatalf("repriced: %+v", got)
	}
	if back := sub(t, s.escrow(consumer).Balance, before); back != chain.Nano(6_000) {
		t.Fatalf("the consumer got %s", back)
	}
	s.refusedReport("was judged", 0, s.peers...)
	if p := s.provider(40); p.Locked != chain.Nano(98_000) || s.surplus() != supply {
		t.Fatalf("%s is locked, surplus %d", p.Locked, s.surplus())
	}
	s.next(1 << 40)
	s.expire(10)
	s.close()
}

// TestEpochsArePaidWhenNobodyMayReportThem: not before a window has passed, so that what goes back is there; what
// was given back is not paid.
func TestEpochsArePaidWhenNobodyMayReportThem(t *testing.T) {
	s := newService(t, serviceTerms)
	s.must(settlement.ExtendLease(s.kv, &s.env, account(consumer), chain.ExtendLease{Lease: s.id, Amount: chain.Nano(6_000_000)}))
	s.after(0, settlement.ReportWindowMs-1)
	s.miss(0, s.peers[:3]...)
	s.refused("nothing is due", func(kv state.KV) *chain.Rejection {
		_, why := settlement.CollectLease(kv, &s.env, chain.CollectLease{Lease: s.id})
		return why
	})
	s.after(1, settlement.ReportWindowMs+9_000)
	events, why := settlement.CollectLease(s.kv, &s.env, chain.CollectLease{Lease: s.id})
	if why != nil {
		t.Fatal(why.Reason())
	}
	if paid := events[0].(chain.LeasePaid); paid.Cost != chain.Nano(15_000) || paid.Until != s.since+2*serviceEpoch {
		t.Fatalf("paid %s until %d, want one epoch and a half", paid.Cost, paid.Until)
	}
	if got := s.miss(1, s.peers[:3]...); got.Rebate != chain.Nano(5_000) { // of what was not due for a window yet
		t.Fatalf("repriced after it was paid: %+v", got)
	}
}

// TestLastEpochIsJudged: what is kept after the lease's end is repriced by reports of the last epochs, the
// last of which is as long as the lease; then the rest is paid, and the stake is free.
func TestLastEpochIsJudged(t *testing.T) {
	s := newService(t, serviceTerms)
	s.must(settlement.ExtendLease(s.kv, &s.env, account(consumer), chain.ExtendLease{Lease: s.id, Amount: chain.Nano(5_000)}))
	l, _ := settlement.LeaseOf(s.kv, s.id)
	end := uint64(l.Expires - s.since)
	last := end / serviceEpoch
	s.after(last-1, end%serviceEpoch-1)
	s.refusedReport("is not over", last, s.peers...)
	s.after(last-1, end%serviceEpoch+3)
	before, supply, paid := s.escrow(consumer).Balance, s.surplus(), s.balance(4)
	s.refusedReport("lease ended", last, s.peers...) // the block has not come to it
	s.expire(10)
	if back := sub(t, s.escrow(consumer).Balance, before); !back.IsZero() || s.balance(4) != paid || s.provider(40).Locked != serviceTerms.Stake {
		t.Fatalf("%s went back, %s of %s is locked", back, s.provider(40).Locked, serviceTerms.Stake)
	}
	part := end % serviceEpoch
	got := s.miss(last, s.peers[:3]...)
	if got.Rebate != chain.Nano(part/2) || got.FromStake != chain.Nano(1_000) {
		t.Fatalf("the last %d ms were repriced: %+v", part, got)
	}
	s.refusedReport("was judged", last, s.peers...)
	s.refusedReport("before epoch", last+1, s.peers...)
	if got = s.miss(last-1, s.peers[:3]...); got.Rebate != chain.Nano(5_000) {
		t.Fatalf("the epoch before was repriced: %+v", got)
	}
	for _, draws := range []byte{consumer, 4} {
		s.refused("has no lease", func(kv state.KV) *chain.Rejection {
			return settlement.DrawPeers(kv, &s.env, account(draws), chain.DrawPeers{Lease: s.id})
		})
	}
	s.progress(settlement.ReportWindowMs - 1)
	s.miss(0, s.peers[2:]...)
	s.close()
	if got := s.events[len(s.events)-2].(chain.LeasePaid); got.Cost != chain.Nano(end-part/2-5_000-5_000) || got.Paid != sub(t, s.balance(4), paid) || s.surplus() != supply {
		t.Fatalf("the provider got %+v; surplus %d", got, s.surplus())
	}
	if closed, ok := s.events[len(s.events)-1].(chain.ServiceClosed); !ok || closed.Stake != chain.Nano(94_000) || closed.Lease != s.id {
		t.Fatalf("at last %+v", s.events[len(s.events)-1])
	}
	s.refusedReport("has no lease", last-2, s.peers...)
}

// TestNobodyWatchedNothingIsKept: where no peers were drawn nothing can be reported, and all is over at
// the end.
func TestNobodyWatchedNothingIsKept(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(10_000_000))
	d := promising(m.deal(consumer, 1, 40, 1_000, chain.Nano(3_000_000)), serviceTerms)
	m.open(d)
	m.next(1 << 40)
	m.expire(10)
	if left := m.dumpOf('s', 'S', 'l', 'q', 't', 'U'); len(left) != 0 || !m.provider(40).Locked.IsZero() {
		t.Fatalf("left %x", left)
	}
}

// TestConsumersWordTips: beside half of the peers it is enough, and beside fewer nothing; alone it is none.
func TestConsumersWordTips(t *testing.T) {
	s := newService(t, serviceTerms)
	own := key(consumer).Public()
	s.after(0, 0)
	s.refusedReport("2 of 5 peers report", 0, s.peers[0], s.peers[1], own)
	s.refusedReport("reports twice", 0, s.peers[0], s.peers[1], s.peers[2], own, own)
	s.refusedReport("is not a peer", 0, s.peers[0], s.peers[1], s.peers[2], key(other).Public())
	out := chain.AccusePeer{Epoch: s.epoch(0), First: missed(s.peers[4])[0], Second: chain.ServiceReport{Peer: s.peers[4], Sent: 10, Answered: 10}}
	s.must(settlement.AccusePeer(s.kv, &s.env, account(12), out, true))
	s.refusedReport("2 of 4 peers report", 0, s.peers[0], s.peers[1])
	s.refusedReport("1 of 4 peers report", 0, s.peers[0], own)
	s.refusedReport("0 of 4 peers report", 0, own)
	if got := s.miss(0, s.peers[0], s.peers[1], own); got.Rebate != chain.Nano(5_000) {
		t.Fatalf("repriced: %+v", got)
	}
}

// TestReportsThatAreRefused, each by its name.
func TestReportsThatAreRefused(t *testing.T) {
	s := newService(t, serviceTerms)
	s.refusedReport("is not over", 0, s.peers...)
	s.after(0, 0)
	s.refusedReport("2 of 5 peers report", 0, s.peers[:2]...)
	s.refusedReport("is not a peer", 0, s.peers[0], s.peers[1], key(41).Public())
	s.refusedReport("reports twice", 0, s.peers[0], s.peers[1], s.peers[1])
	s.refusedReport("is not over", 1<<60, s.peers...)
	s.refusedReport("is not over", 1<<63, s.peers...)
	for part, change := range map[string]func(m *chain.ReportMiss) (signed bool){
		"not signed":      func(*chain.ReportMiss) bool { return false },
		"of chain":        func(m *chain.ReportMiss) bool { m.Epoch.ChainID = "another-1"; return true },
		"of terms":        func(m *chain.ReportMiss) bool { m.Epoch.Terms[0]++; return true },
		"has no lease":    func(m *chain.ReportMiss) bool { m.Epoch.Lease.Node = key(41).Public(); return true },
		"kept the terms":  func(m *chain.ReportMiss) bool { m.Reports[1].Answered = 9; return true },
		"finds that epoc": func(m *chain.ReportMiss) bool { m.Reports[2].Sent, m.Reports[2].Answered = 3, 0; return true },
	} {
		s.refused(part, func(kv state.KV) *chain.Rejection {
			m := chain.ReportMiss{Epoch: s.epoch(0), Reports: missed(s.peers...)}
			signed := change(&m)
			_, why := settlement.ReportMiss(kv, &s.env, m, signed)
			return why
		})
	}
	plain := s.market.deal(consumer, 9, 50, 1_000, chain.Nano(100_000))
	s.open(plain)
	s.refused("nothing is promised", func(kv state.KV) *chain.Rejection {
		e := s.epoch(0)
		e.Lease = idOf(plain)
		_, why := settlement.ReportMiss(kv, &s.env, chain.ReportMiss{Epoch: e, Reports: missed(s.peers...)}, true)
		return why
	})
}

// TestTwoPeersAreTheLeast: one alone is nobody's majority.
func TestTwoPeersAreTheLeast(t *testing.T) {
	for peers, want := range [][2]int{{2, 2}, {2, 2}, {2, 2}, {2, 2}, {3, 2}, {3, 3}} {
		if got := [2]int{chain.Quorum(peers), chain.QuorumWithConsumer(peers)}; got != want {
			t.Errorf("%d of %d peers, want %d", got, peers, want)
		}
	}
}

// TestFindings: what each report says.
func TestFindings(t *testing.T) {
	terms := serviceTerms
	terms.ThroughputKiB = 100
	for _, c := range []struct {
		epoch  uint64
		report chain.ServiceReport
		want   chain.ServiceFinding
	}{
		{0, chain.ServiceReport{Sent: 10, Answered: 9, ThroughputKiB: 100}, chain.ServiceKept},
		{0, chain.ServiceReport{Sent: 10, Answered: 8, ThroughputKiB: 100}, chain.MissedAvailability},
		{0, chain.ServiceReport{Sent: 3}, chain.ServiceKept},
		{0, chain.ServiceReport{Sent: 3, UnstartedMs: 5_001}, chain.MissedStart},
		{1, chain.ServiceReport{Sent: 3, UnstartedMs: 5_001}, chain.MissedStart},
		{2, chain.ServiceReport{Sent: 3, UnstartedMs: 5_001}, chain.ServiceKept},
		{0, chain.ServiceReport{Sent: 3, UnstartedMs: 5_000}, chain.ServiceKept},
		{7, chain.ServiceReport{Sent: 10, Answered: 10, ThroughputKiB: 99}, chain.MissedThroughput},
	} {
		if got := terms.Finds(c.epoch, serviceEpoch, &c.report); got != c.want {
			t.Errorf("epoch %d, %+v: %s, want %s", c.epoch, c.report, got, c.want)
		}
	}
}

// TestOtherPeersAreDrawn: not too often, and those before report of their epochs for a while.
func TestOtherPeersAreDrawn(t *testing.T) {
	s := newService(t, serviceTerms)
	draw := func(who byte) func(kv state.KV) *chain.Rejection {
		return func(kv state.KV) *chain.Rejection {
			return settlement.DrawPeers(kv, &s.env, account(who), chain.DrawPeers{Lease: s.id})
		}
	}
	s.refused("and are for", draw(consumer))
	s.after(1, 100)
	s.refused("has no part", draw(other))
	before := slices.Clone(s.peers)
	if why := draw(4)(s.kv); why != nil {
		t.Fatal(why.Reason())
	}
	s.refused("are being drawn", draw(consumer))
	s.peers = s.draw()
	after, _ := settlement.ServiceOf(s.kv, s.id.Order)
	if !slices.Equal(after.Former, before) || len(after.Peers) != 5 {
		t.Fatalf("%d former peers and %d", len(after.Former), len(after.Peers))
	}
	s.miss(1, before...) // it was theirs
	s.after(3, 200)
	if why := draw(consumer)(s.kv); why != nil {
		t.Fatal(why.Reason())
	}
	s.draw()
	s.refusedReport("too old", 0, before...)
	s.refusedReport("too old", 2, s.peers...) // it began before they were drawn
	s.miss(3, s.peers...)
}

// TestLeavingWithoutNoticeCosts: the penalties of an hour's epochs, as far as the stake goes; with
// notice it costs nothing.
func TestLeavingWithoutNoticeCosts(t *testing.T) {
	s := newService(t, serviceTerms)
	s.refused("is not the lease's provider", func(kv state.KV) *chain.Rejection {
		_, why := settlement.LeaveLease(kv, &s.env, account(consumer), chain.LeaveLease{Lease: s.id})
		return why
	})
	supply := s.surplus()
	s.after(0, 0)
	closing := state.NewOverlay(s.kv)
	if _, why := settlement.CloseLease(closing, &s.env, account(4), chain.CloseLease{Lease: s.id}); why != nil {
		t.Fatal(why.Reason())
	}
	before := s.escrow(consumer).Balance
	events, why := settlement.LeaveLease(s.kv, &s.env, account(4), chain.LeaveLease{Lease: s.id})
	if why != nil {
		t.Fatal(why.Reason())
	}
	left := events[len(events)-2].(chain.LeaseLeft)
	if left.FromStake != chain.Nano(50_000) || left.Burned != chain.Nano(50_000) {
		t.Fatalf("left for %+v, want all of the stake", left)
	}
	if back := sub(t, s.escrow(consumer).Balance, before); back != chain.Nano(3_000_000-10_000+50_000) {
		t.Fatalf("the consumer got %s", back)
	}
	if got := s.miss(0, s.peers[:3]...); got.Rebate != chain.Nano(5_000) { // the epoch in which it left
		t.Fatalf("repriced: %+v", got)
	}
	if s.close(); s.surplus() != supply {
		t.Fatalf("surplus %d", s.surplus())
	}
}

// TestNoticeHasItsEpochs: a provider that serves a part of its notice pays for the rest.
func TestNoticeHasItsEpochs(t *testing.T) {
	s := newService(t, serviceTerms)
	s.must(settlement.CloseLease(s.kv, &s.env, account(4), chain.CloseLease{Lease: s.id}))
	l, _ := settlement.LeaseOf(s.kv, s.id)
	s.env.Now = l.Expires - 15_000
	events, why := settlement.LeaveLease(s.kv, &s.env, account(4), chain.LeaveLease{Lease: s.id})
	if why != nil {
		t.Fatal(why.Reason())
	}
	if left := events[len(events)-2].(chain.LeaseLeft); left.FromStake != chain.Nano(2_000) {
		t.Fatalf("left for %+v, want half of two penalties", left)
	}
}

// TestPeerOfTwoMindsIsSlashed, once, and is a peer no more.
func TestPeerOfTwoMindsIsSlashed(t *testing.T) {
	s := newService(t, serviceTerms)
	s.after(0, 0)
	peer := s.peers[1]
	accusation := chain.AccusePeer{Epoch: s.epoch(0), First: missed(peer)[0], Second: chain.ServiceReport{Peer: peer, Sent: 10, Answered: 10}}
	accuse := func(kv state.KV, signed bool) (chain.Event, *chain.Rejection) {
		return settlement.AccusePeer(kv, &s.env, account(12), accusation, signed)
	}
	s.refused("not signed", func(kv state.KV) *chain.Rejection { _, why := accuse(kv, false); return why })
	before, supply, bond := s.balance(12), s.surplus(), s.provider(numberOf(peer)).Bond
	slashed := s.must(accuse(s.kv, true)).(chain.BondSlashed)
	if slashed.Amount != s.env.Params.JurorSlice || slashed.Node != peer || s.surplus() != supply {
		t.Fatalf("slashed %+v, surplus %d", slashed, s.surplus())
	}
	if reward := sub(t, s.balance(12), before); reward != sub(t, slashed.Amount, slashed.Burned) {
		t.Fatalf("rewarded with %s", reward)
	}
	if p := s.provider(numberOf(peer)); sub(t, bond, p.Bond) != slashed.Amount || !p.Locked.IsZero() {
		t.Fatalf("its bond is %s with %s locked", p.Bond, p.Locked)
	}
	s.refused("is not a peer", func(kv state.KV) *chain.Rejection { _, why := accuse(kv, true); return why })
	s.refusedReport("is not a peer", 0, s.peers...)
}
