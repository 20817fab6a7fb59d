package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	serviceTick    = time.Second
	firstService   = time.Second
	longestService = 10 * time.Second // between two looks at one: agents stop probing what they do not hear of
	// reportAfter is how long after an epoch's end its miss is taken to the chain: the chain's
	// time has to be past it.
	reportAfter = 2 * time.Second
	// maxReported bounds the epochs of a lease of which reports are kept.
	maxReported = 16

	probesASecond = 32 // that are carried from or to an agent
	probeBurst    = 64
)

// services is the leases with service terms that the leader watches.
type services struct {
	mu    sync.Mutex
	known map[crypto.Digest]*watchedService // by the order that opened them
}

// watchedService is a lease with service terms.
type watchedService struct {
	at      time.Time // of the next look
	id      chain.LeaseID
	seen    Service
	reports map[epochOf]map[crypto.PublicKey]chain.ServiceReport // of epochs, each of which finds a miss
	asked   map[crypto.PublicKey]guestProbe                      // by peers of other clusters, the last of each
}

// epochOf is an epoch of a lease under some terms.
type epochOf struct {
	terms crypto.Digest
	epoch uint64
}

// watchServices learns from the chain what is promised of leases and by whom they are probed,
// until the reign ends, and tells the peers that are here, also for a while after the end of a lease, or of terms. Reports
// that it has lost with an earlier leader are said again.
func (r *reign) watchServices() {
	r.replica.view(func(s *scheduler.State) { // the chain may not have progressed all the time
		r.services.add(s.EndedTerms(r.now()-min(r.now(), 2*settlement.ReportWindowMs)), time.Now())
	})
	r.watch(serviceTick, func(now time.Time, see func(assignment, func())) {
		r.services.add(r.promised(), now)
		for _, id := range r.services.due(now) {
			see(assignment{order: id.Order, node: id.Node}, func() { r.lookAtService(id) })
		}
	})
}

// promised lists the open leases that were ordered with service terms.
func (r *reign) promised() (list []chain.LeaseID) {
	r.replica.view(func(s *scheduler.State) {
		for after := uint64(0); ; {
			leases := s.Leases(after, lookBatch)
			for _, j := range leases {
				if j.Leased && j.Promised() {
					list = append(list, j.LeaseID())
				}
			}
			if len(leases) < lookBatch {
				return
			}
			after = leases[len(leases)-1].Arrival
		}
	})
	return list
}

// add notes leases that are to be watched.
func (s *services) add(list []chain.LeaseID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range list {
		if s.known[id.Order] == nil {
			s.known[id.Order] = &watchedService{at: now, id: id, reports: map[epochOf]map[crypto.PublicKey]chain.ServiceReport{}, asked: map[crypto.PublicKey]guestProbe{}}
		}
	}
}

// due returns the leases that are to be looked at now, and notes when they are next.
func (s *services) due(now time.Time) (list []chain.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.known { // order-free: each for itself
		if now.Before(w.at) {
			continue
		}
		w.at = now.Add(lookAgain(&w.seen))
		list = append(list, w.id)
	}
	return list
}

// lookAgain is how long it is to the next look at a lease of which so much is known.
func lookAgain(seen *Service) time.Duration {
	wait := firstService
	for _, of := range seen.Each() {
		wait = max(wait, time.Duration(of.Service.Terms.EpochMs)*time.Millisecond/8)
	}
	return min(wait, longestService)
}

// lookAtService asks the chain about one lease, tells its peers, and drops what the chain has
// judged.
func (r *reign) lookAtService(id chain.LeaseID) {
	ctx, cancel := context.WithTimeout(r.ctx, lookTimeout)
	defer cancel()
	seen, err := r.chain.Service(ctx, id)
	if err != nil {
		if r.ctx.Err() == nil {
			r.log.Info("the chain cannot be asked about a lease's service", "job", id.Order.Short(), "error", err)
		}
		return
	}
	if !r.services.see(id, &seen) {
		return
	}
	for _, of := range seen.Each() {
		r.tellPeers(id, of)
	}
	var waiting []chain.ServiceEpoch
	r.replica.view(func(s *scheduler.State) { waiting = s.MissesOf(id.Order) })
	for _, e := range waiting {
		if of := seen.Under(e.Terms); of == nil || of.Service.Closed(e.Epoch) {
			r.report("closed miss", r.propose(scheduler.ClosedMiss{Order: id.Order, Terms: e.Terms, Epoch: e.Epoch}))
		}
	}
}

// see notes what the chain has of a lease, and is false if more is known already. One of which nothing can be
// reported any more is forgotten.
func (s *services) see(id chain.LeaseID, seen *Service) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.known[id.Order]
	switch {
	case w != nil && seen.At < w.seen.At:
		return false // of a node that is behind
	case len(seen.Each()) == 0:
		delete(s.known, id.Order)
	case w != nil:
		w.seen = *seen
		maps.DeleteFunc(w.reports, func(at epochOf, _ map[crypto.PublicKey]chain.ServiceReport) bool {
			of := seen.Under(at.terms)
			return of == nil || of.Service.Closed(at.epoch)
		})
	}
	return true
}

// peersOf lists who is told of a lease: the peers of now, and those before them until their last epoch is over and reported.
func peersOf(seen *Service, now chain.TimeMs) []crypto.PublicKey {
	if since := now - seen.Service.Drawn; uint64(since) < 2*seen.Service.Terms.EpochMs {
		return slices.Concat(seen.Service.Peers, seen.Service.Former)
	}
	return seen.Service.Peers
}

// tellPeers has those who are here probe a lease.
func (r *reign) tellPeers(id chain.LeaseID, seen *Service) {
	for _, peer := range peersOf(seen, r.now()) {
		if s := r.sessions.get(peer); s != nil {
			s.send(seen.WatchBy(id, peer))
		}
	}
}

// hearPeer takes a peer's report of an epoch. Once enough of the peers report a miss, it is
// posted.
func (r *reign) hearPeer(p *job.PeerReport) {
	peer := p.Report.Peer
	if !r.services.wants(p, time.Now()) {
		return
	}
	r.once(assignment{order: p.Epoch.Lease.Order, node: peer}, func() {
		if !r.verifier.verify(crypto.SignedBy(peer, crypto.DomainService, chain.ServicePayload(p.Epoch, p.Report), p.Report.Signature)) {
			r.log.Warn("a report of a peer is not signed by it", "peer", peer.Short(), "job", p.Epoch.Lease.Order.Short())
			return
		}
		m := r.services.keep(p)
		known := false
		r.replica.view(func(s *scheduler.State) { known = m != nil && s.Missed(&m.Epoch) })
		if m == nil || known {
			return
		}
		r.log.Info("lease missed its terms", "job", m.Epoch.Lease.Order.Short(), "node", m.Epoch.Lease.Node.Short(), "epoch", m.Epoch.Epoch, "reports", len(m.Reports))
		r.report("found miss", r.propose(scheduler.FoundMiss{Report: *m}))
	})
}

// wants reports whether a report says something that the chain would hear.
func (s *services) wants(p *job.PeerReport, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &p.Epoch
	w := s.known[e.Lease.Order]
	if w == nil || w.id != e.Lease {
		return false
	}
	seen := w.seen.Under(e.Terms)
	if seen == nil || seen.Service.Closed(e.Epoch) {
		return false
	}
	begin, end, ok := seen.Service.Span(&seen.Lease, e.Epoch)
	return ok && now.Add(-reportAfter).UnixMilli() > int64(end) && (slices.Contains(seen.Service.PeersOf(begin), p.Report.Peer) || p.Report.By() == seen.Lease.Consumer) &&
		seen.Service.Terms.Finds(e.Epoch, uint64(end-begin), &p.Report) != chain.ServiceKept
}

// keep keeps a report whose signature is good, and returns what to post once there are
// enough.
func (s *services) keep(p *job.PeerReport) *chain.ReportMiss {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := p.Epoch
	w := s.known[e.Lease.Order]
	if w == nil {
		return nil
	}
	seen := w.seen.Under(e.Terms)
	if seen == nil {
		return nil
	}
	at := epochOf{e.Terms, e.Epoch}
	of := w.reports[at]
	if of == nil {
		of = map[crypto.PublicKey]chain.ServiceReport{}
		w.reports[at] = of
	}
	of[p.Report.Peer] = p.Report
	w.bound(e.Terms)
	begin, _, _ := seen.Service.Span(&seen.Lease, e.Epoch) // wants looked
	peers := seen.Service.PeersOf(begin)
	m := &chain.ReportMiss{Epoch: e}
	for _, peer := range peers {
		if r, ok := of[peer]; ok {
			m.Reports = append(m.Reports, r)
		}
	}
	said := len(m.Reports)
	if said >= chain.Quorum(len(peers)) {
		return m
	}
	if own, ok := consumersOf(of, seen.Lease.Consumer); ok && said >= chain.QuorumWithConsumer(len(peers)) {
		m.Reports = append(m.Reports, own)
		return m
	}
	return nil
}

// bound drops the reports of the first epoch under some terms, if there are of too many.
func (w *watchedService) bound(terms crypto.Digest) {
	var epochs []uint64
	for of := range w.reports { // order-free: the least is sought
		if of.terms == terms {
			epochs = append(epochs, of.epoch)
		}
	}
	if len(epochs) > maxReported {
		delete(w.reports, epochOf{terms, slices.Min(epochs)})
	}
}

// consumersOf returns the consumer's own of the reports of an epoch, if there is one.
func consumersOf(of map[crypto.PublicKey]chain.ServiceReport, consumer chain.Address) (own chain.ServiceReport, ok bool) {
	for _, r := range of { // order-free: there is one at most
		if r.By() == consumer {
			own, ok = r, true
		}
	}
	return own, ok
}

// carryProbe takes a peer's probe to the lease's node, if it is here.
func (ss *sessions) carryProbe(from *session, m job.Probe) error {
	if m.Peer != from.node {
		return fmt.Errorf("probe of peer %s", m.Peer.Short())
	}
	if !from.mayProbe() {
		return nil
	}
	if to := ss.get(m.Lease.Node); to != nil {
		to.send(m)
	} else {
		ss.away(from, m)
	}
	return nil
}

// carryReply takes the answer back.
func (ss *sessions) carryReply(from *session, m job.ProbeReply) error {
	if m.Lease.Node != from.node {
		return fmt.Errorf("answer for node %s", m.Lease.Node.Short())
	}
	if !from.mayProbe() {
		return nil
	}
	ss.reply(m)
	if to := ss.get(m.Peer); to != nil {
		to.send(m)
	}
	return nil
}

// mayProbe reports whether another probe, or answer, of the agent is carried, and counts it.
func (s *session) mayProbe() bool {
	return s.may(&s.probes, time.Second/probesASecond, probeBurst)
}
