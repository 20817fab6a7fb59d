package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// A lease with service terms is probed by peers. As a peer the agent asks the lease's node,
// through the servers, whether the service runs, at times that nobody knows before; of an
// epoch that missed the terms it signs a report, which the servers take to the chain.

const (
	watchPatience  = 40 * time.Second // without having heard that the lease is to be probed
	maxWatches     = 512
	maxWatchesOf   = 128         // of which one server alone speaks, and the chain was not seen to have them
	watchAhead     = time.Minute // by which a state of the chain may be ahead of the clock here
	maxPeerReports = 8           // of a lease, that are said again
	maxProbeReply  = 2           // replies with data that are made at a time
	// seatPatience is how long after a session began its server says, by carrying nothing back, that a
	// lease's node is silent, or an epoch if that is less: a server that begins anew is found by one of
	// them before the other.
	seatPatience = time.Minute
)

// watcher has a lease probed, for this node as a peer of it.
type watcher struct {
	Prober // the goroutine's own
	agent  *Agent

	asks, rest int // the goroutine's own: turns until the chain is asked about the lease, and after that

	mu      sync.Mutex
	watch   job.Watch
	proven  bool               // the chain has that promise, and this node as a peer
	tellers []crypto.PublicKey // servers that speak of it
	heard   time.Time
	reports []job.PeerReport
	asked   job.Probe // that is under way
	reply   chan bool // takes one: whether the service runs
}

func newWatcher(a *Agent, m *job.Watch) *watcher {
	w := &watcher{agent: a, watch: *m, heard: time.Now()}
	w.Prober = Prober{
		ChainID: a.genesis.ChainID, Key: a.key, Began: a.began, News: make(chan struct{}, 1), Ask: w.ask, Report: w.tell,
		Said: func() job.Watch { m, _ := w.said(); return m },
	}
	return w
}

// watch probes a lease from now on, or goes on.
func (s *session) watch(m *job.Watch) {
	if m.Lease.Node == s.agent.id || toCome(m, time.Now()) {
		return // nobody watches itself
	}
	w := s.agent.watcherFor(s.conn.Remote(), m)
	if w == nil {
		return
	}
	reports := w.hear(m)
	select {
	case w.News <- struct{}{}:
	default:
	}
	for _, r := range reports {
		s.send(r)
	}
}

// hear takes what a server says of the lease, and returns what was reported of it.
func (w *watcher) hear(m *job.Watch) []job.PeerReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.At >= w.watch.At && (!w.proven || samePromise(m, &w.watch)) { // of several servers one may be behind
		w.watch = *m
	}
	w.heard = time.Now()
	return w.reports
}

// toCome reports whether a watch is said to be by a state of a time to come: it would stand for ever.
func toCome(m *job.Watch, now time.Time) bool { return m.At > timeMs(now.Add(watchAhead)) }

// watcherFor returns what probes the terms of which a server speaks; nil: there is no room. A server has a share of it
// for what it alone speaks of and the chain was not seen to have.
func (a *Agent) watcherFor(server crypto.PublicKey, m *job.Watch) *watcher {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := promise{Lease: m.Lease, Terms: m.Terms}
	w := a.watches[of]
	if w == nil {
		if a.stopping || len(a.watches) >= maxWatches || a.aloneWith(server) >= maxWatchesOf {
			return nil
		}
		w = newWatcher(a, m)
		a.watches[of] = w
		a.running.Go(func() { w.run(a.work, of) })
		a.log.Info("agent: drawn to probe a lease", "order", m.Lease.Order.Short(), "node", m.Lease.Node.Short())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.tellers, server) && len(w.tellers) < 2 {
		w.tellers = append(w.tellers, server)
	}
	return w
}

// aloneWith counts the unproven watches of which a server alone speaks. The caller holds a.mu.
func (a *Agent) aloneWith(server crypto.PublicKey) (n int) {
	for _, w := range a.watches { // order-free: counted
		w.mu.Lock()
		if !w.proven && len(w.tellers) == 1 && w.tellers[0] == server {
			n++
		}
		w.mu.Unlock()
	}
	return n
}

// promiseReader asks the chain what is promised of a lease.
type promiseReader func(ctx context.Context, id chain.LeaseID) (sdk.Promised, error)

// promised is the promiseReader of the chain.
func (m *market) promised(ctx context.Context, id chain.LeaseID) (sdk.Promised, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	return m.client.Promised(ctx, id)
}

// prove asks the chain, if there is one to ask, whether it has the lease with the terms that are probed, and this node
// among its peers: a server that made them up would have the record of what was reported filled. It asks ever less often,
// at last once an epoch.
func (w *watcher) prove(ctx context.Context) {
	if w.agent.services == nil {
		return
	}
	w.mu.Lock()
	m, proven := w.watch, w.proven
	w.mu.Unlock()
	if proven {
		return
	}
	if w.asks > 0 {
		w.asks--
		return
	}
	w.rest = min(max(1, 2*w.rest), probesOfEpoch)
	w.asks = w.rest
	seen, err := w.agent.services(ctx, m.Lease)
	if err != nil {
		w.agent.log.Info("agent: the chain cannot be asked about a lease that is probed", "order", m.Lease.Order.Short(), "error", err)
		return
	}
	of := seen.Under(m.Terms) // also such as a resize has put an end to
	if of == nil || !slices.Contains(slices.Concat(of.Service.Peers, of.Service.Former), w.agent.id) {
		return
	}
	has := of.WatchBy(m.Lease, w.agent.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proven = true
	if !samePromise(&w.watch, &has) {
		has.Abroad = w.watch.Abroad
		w.watch = has // what a server said of it was made up
	}
}

// samePromise reports whether two watches are of the same promise: what does not change while its terms hold.
func samePromise(a, b *job.Watch) bool {
	return a.Lease == b.Lease && a.Terms == b.Terms && a.Service == b.Service && a.Since == b.Since
}

// mayReport reports whether what was found of the lease may be told.
func (w *watcher) mayReport() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proven || w.agent.services == nil
}

// run probes until nobody has said for a while that the lease is to be probed.
func (w *watcher) run(ctx context.Context, of promise) {
	for ctx.Err() == nil {
		m, heard := w.said()
		// Two turns more than that: a server that begins anew learns by a probe that its agent is a peer.
		if time.Since(heard) > max(watchPatience, 2*time.Duration(m.Service.EpochMs)*time.Millisecond/probesOfEpoch) {
			break
		}
		w.prove(ctx)
		w.Turn(ctx)
	}
	w.agent.mu.Lock()
	defer w.agent.mu.Unlock()
	delete(w.agent.watches, of)
}

// said returns the newest of what servers say, and when one did last.
func (w *watcher) said() (job.Watch, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watch, w.heard
}

// ask has a probe carried through every server. It is not ok if none was connected all the time, and for a
// while before, so that it says nothing of the node.
func (w *watcher) ask(ctx context.Context, m *job.Watch, p *job.Probe, patience time.Duration) (serving, ok bool) {
	reply := make(chan bool, 1)
	sessions, sent := w.agent.connected(), time.Now()
	w.mu.Lock()
	w.asked, w.reply = *p, reply
	w.mu.Unlock()
	for _, s := range sessions {
		s.send(*p)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case serving = <-reply:
		ok = true
	case <-timer.C:
		for _, s := range sessions {
			ok = ok || s.conn.Err() == nil && !m.Abroad && seated(sent.Sub(s.since), m)
		}
	case <-ctx.Done():
	}
	w.mu.Lock()
	w.asked, w.reply = job.Probe{}, nil
	w.mu.Unlock()
	return serving, ok
}

// seated reports whether a session is old enough for the silence of a lease's node to count.
func seated(age time.Duration, m *job.Watch) bool {
	return age >= min(seatPatience, time.Duration(m.Service.EpochMs)*time.Millisecond)
}

// tell sends a report, and keeps it to be said again.
func (w *watcher) tell(said job.PeerReport, finding chain.ServiceFinding) {
	if !w.mayReport() {
		w.agent.log.Warn("agent: a missed epoch is not reported: the chain was not seen to have the lease with these terms", "order", said.Epoch.Lease.Order.Short(),
			"epoch", said.Epoch.Epoch)
		return
	}
	may, err := w.agent.reported.may(&said.Epoch, timeMs(time.Now()))
	if err != nil {
		w.agent.log.Error("agent: a missed epoch is not reported", "order", said.Epoch.Lease.Order.Short(), "epoch", said.Epoch.Epoch, "error", err)
	}
	if !may {
		return
	}
	e, r := &said.Epoch, &said.Report
	w.agent.log.Info("agent: a lease missed its terms", "order", e.Lease.Order.Short(), "node", e.Lease.Node.Short(), "epoch", e.Epoch, "finding", finding.String(),
		"sent", r.Sent, "answered", r.Answered)
	w.mu.Lock()
	if len(w.reports) == maxPeerReports {
		w.reports = w.reports[1:]
	}
	w.reports = append(w.reports[:len(w.reports):len(w.reports)], said)
	w.mu.Unlock()
	w.agent.broadcast(said)
}

// asking returns what asked a lease's node a question; nil: nothing does.
func (a *Agent) asking(lease chain.LeaseID, nonce crypto.Digest) *watcher {
	a.mu.Lock()
	defer a.mu.Unlock()
	for of, w := range a.watches { // order-free: a nonce is of one
		if of.Lease == lease && w.waitsFor(nonce) {
			return w
		}
	}
	return nil
}

func (w *watcher) waitsFor(nonce crypto.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reply != nil && w.asked.Nonce == nonce
}

// replied takes the answer to a probe, if it is the node's own and has all that was asked for.
func (a *Agent) replied(m *job.ProbeReply) {
	w := a.asking(m.Lease, m.Nonce)
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reply == nil {
		return
	}
	serving, err := Answer(a.genesis.ChainID, &w.asked, m)
	if err != nil {
		a.log.Warn("agent: an answer to a probe does not count", "order", m.Lease.Order.Short(), "error", err)
		return
	}
	select {
	case w.reply <- serving:
	default: // another server was quicker
	}
}

// unanswered takes the word of the lease's cluster, which is not that of this node's servers, that the
// lease's node gave no answer to a probe.
func (a *Agent) unanswered(m *job.Unanswered) {
	w := a.asking(m.Lease, m.Nonce)
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reply == nil || m.Nonce != w.asked.Nonce {
		return
	}
	select {
	case w.reply <- false:
	default:
	}
}

// probed answers a probe of a lease on this node.
func (s *session) probed(m *job.Probe) {
	a := s.agent
	if m.Lease.Node != a.id {
		return
	}
	a.mu.Lock()
	t, throughput := a.tasks[m.Lease.Order], a.promisesThroughput(m.Lease.Order)
	a.mu.Unlock()
	r := job.ProbeReply{Lease: m.Lease, Peer: m.Peer, Nonce: m.Nonce, Data: []byte{}}
	r.Serving = t != nil && (t.serving != nil && t.serving.Load() || t.lacksInputs(time.Now()))
	if r.Serving && m.Bytes > 0 && throughput {
		select {
		case a.replies <- struct{}{}:
			r.Data = make([]byte, m.Bytes)
			if _, err := rand.Read(r.Data); err != nil {
				panic(fmt.Sprintf("agent: no randomness: %v", err))
			}
			defer func() { <-a.replies }()
		default: // too many ask at a time
			return
		}
	}
	r.Signature = a.key.Sign(crypto.DomainProbe, r.Payload(a.genesis.ChainID))
	s.send(r)
}

// promisesThroughput reports whether a lease's terms do, or those of an order that resizes it: who probes under those
// is to find it. The caller holds a.mu.
func (a *Agent) promisesThroughput(lease crypto.Digest) bool {
	for order, t := range a.tasks { // order-free: any
		term := t.assignment.Order.Term
		if term != nil && term.Service != nil && term.Service.ThroughputKiB > 0 && (order == lease || term.Resizes == lease) {
			return true
		}
	}
	return false
}
