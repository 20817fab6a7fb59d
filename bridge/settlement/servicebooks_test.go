package settlement_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestServiceConserves does anything in any order with a lease with service terms, which is resized, topped up
// and closed at any moment, and demands that no value appears or vanishes, that its consumer's money is in its escrow,
// in the lease, in terms that are over or paid, that what is locked is what is staked, that no
// epoch of any terms is judged twice, and that none gives back more than it cost, nor all of some terms more
// of the bond than was staked for them.
func TestServiceConserves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newHurriedService(t, drawTerms(rt), rapid.SampledFrom([]chain.PriorityFee{0, 0, 1, 2_500, chain.MaxPriorityFee}).Draw(rt, "priority fee"))
		b := &serviceBooks{service: s, judged: map[judgedEpoch]bool{}, taken: map[crypto.Digest]uint64{}, in: s.escrow(consumer).Balance.Nano() + s.heldNow()}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			for _, e := range s.serviceStep(rt, b) {
				b.note(rt, e)
			}
			s.checkLeases(rt)
			s.checkConserved(rt)
			b.check(rt)
		}
		s.next(1 << 40)
		events, _ := settlement.ExpireLeases(s.kv, &s.env, 10)
		for _, e := range append(events, s.progress(settlement.ReportWindowMs+1)...) {
			b.note(rt, e)
		}
		b.check(rt)
		if left := s.dumpOf('s', 'S', 'l', 'q', 't', 'U'); len(left) != 0 || !s.provider(40).Locked.IsZero() {
			rt.Fatalf("left %x", left)
		}
		s.checkConserved(rt)
	})
}

// drawTerms draws what is promised, and at what stake.
func drawTerms(rt *rapid.T) chain.ServiceTerms {
	terms := serviceTerms
	terms.RebateBps = rapid.SampledFrom([]uint16{1, 3_333, 10_000}).Draw(rt, "rebate")
	terms.Penalty = chain.Nano(rapid.Uint64Range(0, 30_000).Draw(rt, "penalty"))
	terms.Stake = chain.Nano(terms.Penalty.Nano() + rapid.Uint64Range(0, 60_000).Draw(rt, "stake"))
	return terms
}

// judgedEpoch is an epoch under some terms.
type judgedEpoch struct {
	terms crypto.Digest
	epoch chain.Number
}

// serviceBooks is what a lease's consumer had and gave, and what was taken of its node.
type serviceBooks struct {
	*service
	judged map[judgedEpoch]bool
	taken  map[crypto.Digest]uint64 // of the stake of terms
	in     uint64                   // of the consumer's, nHYPER
	paid   uint64
}

// note enters what an event says. A miss is of the terms that s.deal has.
func (b *serviceBooks) note(rt *rapid.T, e chain.Event) {
	switch e := e.(type) {
	case chain.LeasePaid:
		b.paid += e.Cost.Nano()
	case chain.LeaseLeft:
		b.taken[b.terms[len(b.terms)-1].deal.Order.ID()] += e.FromStake.Nano() + e.Burned.Nano()
		b.in += e.FromStake.Nano()
	case chain.ServiceMissed:
		terms := e.Terms
		if terms != b.deal.Order.ID() {
			rt.Fatalf("an epoch of terms %s was judged, and %s are named", b.deal.Order.ID().Short(), terms.Short())
		}
		if of := (judgedEpoch{terms, e.Epoch}); b.judged[of] {
			rt.Fatalf("epoch %d was judged twice", e.Epoch)
		} else {
			b.judged[of] = true
		}
		b.taken[terms] += e.FromStake.Nano() + e.Burned.Nano()
		b.in += e.FromStake.Nano()
		cost, penalty := 10*b.deal.Order.Term.Resources[0].Amount, b.deal.Order.Term.Service.Penalty.Nano()
		charge, _ := b.fee.Charge(chain.Nano(cost))
		back, stake := e.Rebate.Nano(), e.FromStake.Nano()
		if back > charge.Nano() || back+stake > charge.Nano()+penalty || stake > cost+penalty {
			rt.Fatalf("epoch %d, which cost %d, gives back %+v", e.Epoch, cost, e)
		}
	}
}

// heldNow is what the lease, and terms of it that are over, hold.
func (s *service) heldNow() (sum uint64) {
	if l, ok := settlement.LeaseOf(s.kv, s.id); ok {
		sum += l.Held.Nano()
	}
	for _, of := range s.promises() {
		if of.Over != nil {
			sum += of.Over.Held.Nano()
		}
	}
	return sum
}

// promises lists what is promised of the lease, and what was before a resize.
func (s *service) promises() (list []settlement.Service) {
	if now, ok := settlement.ServiceOf(s.kv, s.id.Order); ok {
		list = append(list, now)
	}
	if former, ok := settlement.FormerServiceOf(s.kv, s.id.Order); ok {
		list = append(list, former)
	}
	return list
}

func (b *serviceBooks) check(rt *rapid.T) {
	var staked uint64
	for _, of := range b.promises() {
		staked += of.Stake.Nano()
		if !slices.IsSorted(of.Judged) || len(of.Judged) > 33 || len(of.Judged) > 0 && of.Judged[0] < of.Floor {
			rt.Fatalf("judged %v, floor %d", of.Judged, of.Floor)
		}
	}
	if locked := b.provider(40).Locked; locked != chain.Nano(staked) {
		rt.Fatalf("%s is locked, %d staked", locked, staked)
	}
	for _, of := range b.terms {
		service := of.deal.Order.Term.Service
		if taken := b.taken[of.deal.Order.ID()]; service == nil && taken > 0 || service != nil && taken > service.Stake.Nano() {
			rt.Fatalf("%d of a stake was taken of terms with %+v", taken, service)
		}
	}
	if has := b.escrow(consumer).Balance.Nano() + b.heldNow() + b.paid; has != b.in {
		rt.Fatalf("the consumer had %d, and %d are in escrow, held or paid", b.in, has)
	}
}

// serviceStep does something that anybody may try, and returns what it says if it is taken.
func (s *service) serviceStep(rt *rapid.T, b *serviceBooks) (events chain.Events) {
	kv := state.NewOverlay(s.kv)
	who := account(rapid.SampledFrom([]byte{consumer, other, 4}).Draw(rt, "by"))
	var why *chain.Rejection
	switch rapid.IntRange(0, 12).Draw(rt, "step") {
	case 10, 11:
		events, why = s.resizeStep(rt, kv)
	case 12:
		if rapid.IntRange(0, 3).Draw(rt, "close") > 0 {
			return nil
		}
		_, why = settlement.CloseLease(kv, &s.env, who, chain.CloseLease{Lease: s.id})
	case 0:
		return s.blocks(rapid.IntRange(1, settlement.DrawDelay).Draw(rt, "blocks"))
	case 1, 2, 3:
		events, why = s.reportStep(rt, kv)
	case 4:
		why = settlement.DrawPeers(kv, &s.env, who, chain.DrawPeers{Lease: s.id})
	case 5:
		events, why = settlement.CollectLease(kv, &s.env, chain.CollectLease{Lease: s.id})
	case 6:
		if rapid.IntRange(0, 5).Draw(rt, "leave") > 0 {
			return nil
		}
		events, why = settlement.LeaveLease(kv, &s.env, who, chain.LeaveLease{Lease: s.id})
	case 7:
		s.waitStep(rt)
		events, _ = settlement.ExpireLeases(kv, &s.env, 2)
	case 8:
		s.env.LastProgressMs, s.env.ProgressMs = s.env.ProgressMs, s.env.ProgressMs+rapid.Uint64Range(1, settlement.ReportWindowMs).Draw(rt, "progress")
		events, _ = settlement.RunDeadlines(kv, &s.env, 2)
	case 9:
		amount := rapid.Uint64Range(1, 2_000_000).Draw(rt, "extension")
		if _, why = settlement.ExtendLease(kv, &s.env, who, chain.ExtendLease{Lease: s.id, Amount: chain.Nano(amount)}); why == nil {
			b.in += amount
		}
	}
	if why != nil {
		return nil
	}
	s.apply(kv)
	return events
}

// apply keeps what was changed.
func (s *service) apply(kv *state.Overlay) {
	for _, c := range kv.Changes() {
		if c.Deleted {
			s.kv.Delete(c.Key)
		} else {
			s.kv.Set(c.Key, bytes.Clone(c.Value))
		}
	}
}

// waitStep has time go on, at times to the last millisecond of the lease, or the first after it.
func (s *service) waitStep(rt *rapid.T) {
	l, ok := settlement.LeaseOf(s.kv, s.id)
	switch to := rapid.IntRange(0, 7).Draw(rt, "to the end"); {
	case to == 0:
		s.next(rapid.Uint64Range(1, 10_000_000).Draw(rt, "long wait"))
	case to < 3 && ok && l.Expires > s.env.Now+1:
		s.next(uint64(l.Expires-s.env.Now) - uint64(to%2))
	}
}

// resizeStep tries to resize the lease: to more, to less, with terms or without.
func (s *service) resizeStep(rt *rapid.T, kv state.KV) (chain.Events, *chain.Rejection) {
	d := s.market.deal(consumer, uint64(1+len(s.terms)), 40, rapid.SampledFrom([]uint64{0, 1, 1_000, 7_777}).Draw(rt, "millicores"),
		chain.Nano(rapid.SampledFrom([]uint64{0, 300_000, 3_000_000}).Draw(rt, "hold")))
	if rapid.IntRange(0, 3).Draw(rt, "plain") > 0 {
		terms := drawTerms(rt)
		d.Order.Term.Service = &terms
	}
	d = resizing(d, s.terms[0].deal)
	events, why := settlement.ResizeLease(kv, &s.env, chain.ResizeLease{Lease: s.id, Deal: d}, true)
	if why == nil {
		s.terms = append(s.terms, agreed{d, s.env.Now})
	}
	return events, why
}

// reportStep reports an epoch of any of the terms that the lease had.
func (s *service) reportStep(rt *rapid.T, kv state.KV) (chain.Events, *chain.Rejection) {
	s.next(rapid.Uint64Range(1, 25_000).Draw(rt, "wait"))
	of := rapid.SampledFrom(s.terms).Draw(rt, "terms")
	s.deal, s.since = of.deal, of.since
	var peers []crypto.PublicKey
	for _, known := range s.promises() {
		if known.Order == of.deal.Order.ID() {
			peers = slices.Concat(known.Peers, known.Former)
		}
	}
	n := rapid.IntRange(0, len(peers)).Draw(rt, "reports")
	epoch := rapid.Uint64Range(0, uint64(s.env.Now-s.since)/serviceEpoch).Draw(rt, "epoch")
	return settlement.ReportMiss(kv, &s.env, chain.ReportMiss{Epoch: s.epoch(epoch), Reports: missed(peers[:n]...)}, true)
}
