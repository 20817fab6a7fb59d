package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk"
)

// The chain draws peers of leases among all nodes, whichever cluster they are connected to. Every server
// follows the draws, has the chain prove those in which its agents are, tells these what to probe, and
// takes their probes and reports to the lease's own cluster. Nothing of it is on a disk: a server that
// starts looks back as for panels, and learns of what is older by a probe of its agent.

const (
	abroadTick   = time.Second
	maxErrands   = 256              // probes, reports, and what is said in hardware challenges, that wait to be taken to other clusters
	maxErrandsOf = 8                // of one lease, or of one node with a part in a challenge
	maxErrandsTo = 64               // to one cluster: one that is slow holds up no other's
	errandSlots  = 4 * maxErrandsTo // that are taken at a time
	errandTime   = 4 * time.Second  // of one
	awaitLease   = time.Minute      // for a state that has a lease of which peers were said to be drawn
	askEndpoints = 10 * time.Minute // after so long a cluster's endpoints may be others
)

// abroad is the leases of other clusters that agents of this server may be drawn to probe.
type abroad struct {
	errands chan func(context.Context)

	mu     sync.Mutex
	going  map[crypto.PublicKey]int        // errands to a cluster that wait or are under way; none: 0
	leases map[chain.LeaseID]*foreignLease // by what was said: one that is not there stands for no other
}

func newAbroad() *abroad {
	return &abroad{
		leases: map[chain.LeaseID]*foreignLease{}, going: map[crypto.PublicKey]int{}, errands: make(chan func(context.Context), maxErrands),
	}
}

// foreignLease is a lease of which peers were said to be drawn.
type foreignLease struct {
	id    chain.LeaseID
	peers []crypto.PublicKey // who was said to be drawn, and then who is
	since time.Time          // when that was heard first
	at    time.Time          // of the next look
	busy  bool
	seen  *Service // as the chain has it; nil: not known yet
	outpost
}

// outpost is a cluster to which errands go. What it knows is under abroad.mu.
type outpost struct {
	cluster crypto.PublicKey
	home    *sdk.Client // nil: not known yet
	asked   time.Time   // for home
	going   int         // errands that wait or are under way
}

// peersDrawn notes what is said of the peers of a lease.
func (s *Server) peersDrawn(id chain.LeaseID, peers []crypto.PublicKey) {
	s.abroad.drawn(id, peers, s.sitsHere)
}

func (a *abroad) drawn(id chain.LeaseID, peers []crypto.PublicKey, here func(crypto.PublicKey) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.leases[id]
	if f == nil {
		if len(a.leases) >= maxPanels && !a.forget(here) {
			return
		}
		f = &foreignLease{id: id, since: time.Now()}
		a.leases[id] = f
	}
	for _, peer := range peers[:min(len(peers), chain.MaxServicePeers)] {
		if !slices.Contains(f.peers, peer) {
			f.peers = append(f.peers, peer)
		}
	}
	f.peers = f.peers[max(0, len(f.peers)-4*chain.MaxServicePeers):]
	f.at = time.Now()
}

// forget drops the lease that was heard of longest ago of those that nobody here probes, and reports whether
// there was one. The caller holds a.mu.
func (a *abroad) forget(here func(crypto.PublicKey) bool) bool {
	var oldest *foreignLease
	for _, f := range a.leases { // order-free: the least
		if !f.busy && !slices.ContainsFunc(f.peers, here) && (oldest == nil || f.since.Before(oldest.since)) {
			oldest = f
		}
	}
	if oldest != nil {
		delete(a.leases, oldest.id)
	}
	return oldest != nil
}

// due returns the leases to look at now, which are busy until rest: those that an agent probes who is here.
func (a *abroad) due(now time.Time, here func(crypto.PublicKey) bool) (list []*foreignLease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.leases { // order-free: each for itself
		if f.busy || now.Before(f.at) || !slices.ContainsFunc(f.peers, here) {
			continue
		}
		wait := firstService
		if f.seen != nil {
			wait = lookAgain(f.seen)
		}
		f.busy, f.at = true, now.Add(wait)
		list = append(list, f)
	}
	return list
}

func (a *abroad) rest(f *foreignLease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.busy = false
}

// watchAbroad looks after such leases until ctx ends.
func (s *Server) watchAbroad(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range errandSlots {
		wg.Go(func() {
			for {
				select {
				case errand := <-s.abroad.errands:
					errand(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	ticker := time.NewTicker(abroadTick)
	defer ticker.Stop()
	looks := make(chan struct{}, maxLooks)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, f := range s.abroad.due(time.Now(), s.sitsHere) {
			wg.Go(func() {
				defer s.abroad.rest(f)
				select {
				case looks <- struct{}{}:
					s.lookAbroad(ctx, f)
					<-looks
				case <-ctx.Done():
				}
			})
		}
	}
}

// lookAbroad asks the chain about a lease, and tells the peers who are here.
func (s *Server) lookAbroad(ctx context.Context, f *foreignLease) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := s.chain.Service(ctx, f.id)
	each := seen.Each()
	if err == nil && len(each) > 0 && each[0].Lease.Cluster != s.id.cluster.Public() {
		err = s.findHome(ctx, &f.outpost, each[0].Lease.Cluster) // a resize changes no cluster
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.Info("what agents are drawn to probe of another cluster is not known", "order", f.id.Order.Short(), "error", err)
		}
		return
	}
	now := chain.TimeMs(time.Now().UnixMilli())
	if !s.abroad.learn(f, &seen, s.id.cluster.Public()) {
		return
	}
	for _, of := range each {
		for _, peer := range peersOf(of, now) {
			m := of.WatchBy(f.id, peer)
			m.Abroad = true
			if agent := s.sessions.get(peer); agent != nil {
				agent.send(m)
			}
		}
	}
}

// findHome learns where a cluster is.
func (s *Server) findHome(ctx context.Context, o *outpost, cluster crypto.PublicKey) error {
	s.abroad.mu.Lock()
	known := o.home != nil && o.cluster == cluster && time.Since(o.asked) < askEndpoints
	s.abroad.mu.Unlock()
	if known {
		return nil
	}
	endpoints, err := s.chain.Endpoints(ctx, cluster)
	if err != nil {
		return err
	}
	home, err := sdk.New(sdk.Config{Nexus: endpoints, Genesis: s.id.genesis, HTTP: s.outward, Timeout: errandTime, Attempts: len(endpoints)})
	if err != nil {
		return err
	}
	s.abroad.mu.Lock()
	defer s.abroad.mu.Unlock()
	o.cluster, o.home, o.asked = cluster, home, time.Now()
	return nil
}

// learn notes what the chain says of a lease, and reports whether its peers are to be told. One of which nothing can be
// reported any more, that was never there, or is of this cluster is forgotten.
func (a *abroad) learn(f *foreignLease, seen *Service, own crypto.PublicKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	each := seen.Each()
	if len(each) == 0 || each[0].Lease.Cluster == own {
		awaited := len(each) == 0 && f.seen == nil && time.Since(f.since) < awaitLease
		if !awaited && a.leases[f.id] == f {
			delete(a.leases, f.id)
		}
		return false
	}
	if f.seen != nil && seen.At < f.seen.At {
		return false // of a node that is behind
	}
	f.seen, f.peers = seen, nil
	for _, of := range each {
		f.peers = append(append(f.peers, of.Service.Peers...), of.Service.Former...)
	}
	return true
}

// probedBy returns a lease that a node is proven to probe; nil: not known.
func (a *abroad) probedBy(id chain.LeaseID, peer crypto.PublicKey) *foreignLease {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.leases[id]
	if f == nil || f.seen == nil || f.home == nil || !slices.Contains(f.peers, peer) {
		return nil
	}
	return f
}

// send has an errand to a cluster run, if that is known and not too many wait; false: it does not.
func (a *abroad) send(o *outpost, errand func(ctx context.Context, home *sdk.Client)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.home == nil || o.going >= maxErrandsOf || a.going[o.cluster] >= maxErrandsTo {
		return false
	}
	cluster, home := o.cluster, o.home
	run := func(ctx context.Context) {
		defer a.back(o, cluster)
		ctx, cancel := context.WithTimeout(ctx, errandTime)
		defer cancel()
		errand(ctx, home)
	}
	select {
	case a.errands <- run:
		o.going++
		a.going[cluster]++
		return true
	default:
		return false
	}
}

// back notes that an errand has ended.
func (a *abroad) back(o *outpost, cluster crypto.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o.going--
	if a.going[cluster]--; a.going[cluster] == 0 {
		delete(a.going, cluster)
	}
}

// probeAbroad takes a probe to the lease's cluster, and the answer back. A probe of a lease that is not known
// here says that its peer may have been drawn before this server began.
func (s *Server) probeAbroad(from *session, m job.Probe) {
	own := false
	s.replica.view(func(state *scheduler.State) { _, own = state.Job(m.Lease.Order) })
	if own {
		return // its node is away
	}
	lease := s.abroad.probedBy(m.Lease, from.node)
	if lease == nil {
		if from.mayRecall() {
			s.abroad.drawn(m.Lease, []crypto.PublicKey{from.node}, s.sitsHere)
		}
		return
	}
	s.abroad.send(&lease.outpost, func(ctx context.Context, home *sdk.Client) {
		raw, err := home.CarryPeer(ctx, job.EncodeMessage(m))
		switch {
		case err != nil:
			s.log.Debug("a probe did not get to the lease's cluster", "order", m.Lease.Order.Short(), "error", err)
			return
		case len(raw) == 0:
			from.send(job.Unanswered{Lease: m.Lease, Nonce: m.Nonce})
			return
		}
		answer, err := job.DecodeMessage(raw)
		if reply, ok := answer.(job.ProbeReply); err == nil && ok && reply.Peer == from.node {
			from.send(reply) // the agent checks that it is the node's
		}
	})
}

// reportAbroad takes a peer's report to the lease's cluster.
func (s *Server) reportAbroad(from *session, p *job.PeerReport) {
	lease := s.abroad.probedBy(p.Epoch.Lease, from.node)
	if lease == nil {
		return
	}
	raw := job.EncodeMessage(*p)
	s.abroad.send(&lease.outpost, func(ctx context.Context, home *sdk.Client) {
		if _, err := home.CarryPeer(ctx, raw); err != nil { // it is said again
			s.log.Debug("a report did not get to the lease's cluster", "order", p.Epoch.Lease.Order.Short(), "error", err)
		}
	})
}
