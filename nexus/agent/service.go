package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A lease with service terms is probed by peers. As a peer the agent asks the lease's node,
// through the servers, whether the service runs, at times that nobody knows before; of an
// epoch that missed the terms it signs a report, which the servers take to the chain. An epoch
// is reported by one process alone: the one that was there when it began, so that no two
// reports of an epoch can differ.

const (
	watchPatience  = 40 * time.Second // without having heard that the lease is to be probed
	probesOfEpoch  = 10
	probeTimeout   = 3 * time.Second
	maxWatches     = 512
	maxPeerReports = 8 // of a lease, that are said again
	maxProbeReply  = 2 // replies with data that are made at a time
)

// watcher probes a lease.
type watcher struct {
	agent *Agent

	mu      sync.Mutex
	watch   job.Watch
	heard   time.Time
	reports []job.PeerReport
	nonce   crypto.Digest // of the probe that is under way
	reply   chan bool     // takes one: whether the service runs

	// What follows is the goroutine's own.
	terms   crypto.Digest
	epoch   uint64
	found   chain.ServiceReport // of the epoch
	started bool                // a probe found the service
	late    uint64              // the last time since the terms began at which one did not, before
}

// watch probes a lease from now on, or goes on.
func (s *session) watch(m *job.Watch) {
	a, order := s.agent, m.Lease.Order
	if m.Lease.Node == a.id {
		return // nobody watches itself
	}
	a.mu.Lock()
	w := a.watches[order]
	if w == nil && (a.stopping || len(a.watches) >= maxWatches) {
		a.mu.Unlock()
		return
	}
	if w == nil {
		w = &watcher{agent: a, watch: *m, heard: time.Now()}
		a.watches[order] = w
		a.running.Go(func() { w.run(a.work, order) })
		a.log.Info("agent: drawn to probe a lease", "order", order.Short(), "node", m.Lease.Node.Short())
	}
	a.mu.Unlock()
	w.mu.Lock()
	w.watch, w.heard = *m, time.Now()
	reports := w.reports
	w.mu.Unlock()
	for _, r := range reports {
		s.send(r)
	}
}

// run probes until nobody has said for a while that the lease is to be probed.
func (w *watcher) run(ctx context.Context, order crypto.Digest) {
	for ctx.Err() == nil {
		w.mu.Lock()
		m, heard := w.watch, w.heard
		w.mu.Unlock()
		if time.Since(heard) > watchPatience {
			break
		}
		w.turn(ctx, &m)
	}
	w.agent.mu.Lock()
	defer w.agent.mu.Unlock()
	delete(w.agent.watches, order)
}

// turn probes once, somewhere in a tenth of an epoch.
func (w *watcher) turn(ctx context.Context, m *job.Watch) {
	every := time.Duration(m.Service.EpochMs) * time.Millisecond / probesOfEpoch
	end := time.Now().Add(every)
	sleep(ctx, mathrand.N(every/2))
	now := timeMs(time.Now())
	if ctx.Err() != nil || now < m.Since {
		sleep(ctx, time.Until(end))
		return
	}
	w.enter(m, now)
	if serving, kib, ok := w.probe(ctx, m, min(every/2, probeTimeout)); ok {
		w.count(m, uint64(now-m.Since), serving, kib)
	}
	sleep(ctx, time.Until(end))
	w.enter(m, timeMs(time.Now()))
}

// enter ends an epoch that is over.
func (w *watcher) enter(m *job.Watch, now chain.TimeMs) {
	if w.terms != m.Terms {
		w.terms, w.epoch, w.found, w.started, w.late = m.Terms, uint64(now-m.Since)/m.Service.EpochMs, chain.ServiceReport{}, false, 0
		return
	}
	if epoch := uint64(now-m.Since) / m.Service.EpochMs; epoch > w.epoch {
		w.report(m)
		w.epoch, w.found = epoch, chain.ServiceReport{}
	}
}

// count adds what a probe found that was sent so long after the terms began.
func (w *watcher) count(m *job.Watch, sentMs uint64, serving bool, kib uint64) {
	if !serving && !w.started {
		w.late = sentMs
	}
	w.started = w.started || serving
	if sentMs < m.Service.StartMs {
		return
	}
	w.found.Sent++
	if serving {
		w.found.Answered++
		w.found.ThroughputKiB = max(w.found.ThroughputKiB, kib)
	}
}

// report signs what was found of an epoch, if its terms were missed.
func (w *watcher) report(m *job.Watch) {
	a := w.agent
	begin, _, ok := m.Service.Span(m.Since, w.epoch)
	if !ok || begin <= timeMs(a.began) {
		return // another process may have reported it
	}
	r := w.found
	r.Peer, r.UnstartedMs = a.id, w.late
	finding := m.Service.Finds(w.epoch, &r)
	if finding == chain.ServiceKept {
		return
	}
	e := chain.ServiceEpoch{ChainID: a.genesis.ChainID, Lease: m.Lease, Terms: m.Terms, Epoch: w.epoch}
	r.Signature = a.key.Sign(crypto.DomainService, chain.ServicePayload(e, r))
	a.log.Info("agent: a lease missed its terms", "order", m.Lease.Order.Short(), "node", m.Lease.Node.Short(), "epoch", w.epoch, "finding", finding.String(),
		"sent", r.Sent, "answered", r.Answered)
	said := job.PeerReport{Epoch: e, Report: r}
	w.mu.Lock()
	if len(w.reports) == maxPeerReports {
		w.reports = w.reports[1:]
	}
	w.reports = append(w.reports[:len(w.reports):len(w.reports)], said)
	w.mu.Unlock()
	a.broadcast(said)
}

// probe asks the lease's node once, through every server. It is not ok if none was
// connected all the time, so that it says nothing of the node.
func (w *watcher) probe(ctx context.Context, m *job.Watch, patience time.Duration) (serving bool, kib uint64, ok bool) {
	a := w.agent
	var nonce crypto.Digest
	if _, err := rand.Read(nonce[:]); err != nil {
		panic(fmt.Sprintf("agent: no randomness: %v", err))
	}
	p := job.Probe{Lease: m.Lease, Peer: a.id, Nonce: nonce}
	if m.Service.ThroughputKiB > 0 {
		p.Bytes = job.MaxProbeBytes
	}
	reply := make(chan bool, 1)
	w.mu.Lock()
	w.nonce, w.reply = nonce, reply
	w.mu.Unlock()
	sessions, sent := a.connected(), time.Now()
	for _, s := range sessions {
		s.send(p)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case serving = <-reply:
		ok = true
	case <-timer.C:
		for _, s := range sessions {
			ok = ok || s.conn.Err() == nil
		}
	case <-ctx.Done():
	}
	if took := time.Since(sent); serving && p.Bytes > 0 {
		kib = uint64(float64(p.Bytes>>10) / max(took.Seconds(), 1e-6))
	}
	w.mu.Lock()
	w.nonce, w.reply = crypto.Digest{}, nil
	w.mu.Unlock()
	return serving, kib, ok
}

// replied takes the answer to a probe, if it is the node's own and has all that was asked for.
func (a *Agent) replied(m *job.ProbeReply) {
	a.mu.Lock()
	w := a.watches[m.Lease.Order]
	a.mu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reply == nil || m.Nonce != w.nonce || m.Lease != w.watch.Lease || m.Peer != a.id {
		return
	}
	if !m.Lease.Node.Verify(crypto.DomainProbe, m.Payload(a.genesis.ChainID), m.Signature) {
		a.log.Warn("agent: an answer to a probe is not the node's", "order", m.Lease.Order.Short(), "node", m.Lease.Node.Short())
		return
	}
	whole := w.watch.Service.ThroughputKiB == 0 || len(m.Data) == job.MaxProbeBytes
	select {
	case w.reply <- m.Serving && whole:
	default: // another server was quicker
	}
}

// probed answers a probe of a lease on this node.
func (s *session) probed(m *job.Probe) {
	a := s.agent
	if m.Lease.Node != a.id {
		return
	}
	a.mu.Lock()
	t := a.tasks[m.Lease.Order]
	a.mu.Unlock()
	r := job.ProbeReply{Lease: m.Lease, Peer: m.Peer, Nonce: m.Nonce, Data: []byte{}}
	r.Serving = t != nil && t.serving != nil && t.serving.Load()
	if r.Serving && m.Bytes > 0 && t.promisesThroughput() {
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

func (t *task) promisesThroughput() bool {
	term := t.assignment.Order.Term
	return term != nil && term.Service != nil && term.Service.ThroughputKiB > 0
}
