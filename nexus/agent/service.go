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
	maxFound       = 8 * probesOfEpoch
	// endMargin is how long before a lease's end probes count no more: clocks differ, and a node may
	// stop a little early.
	endMargin = 5_000 // ms
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
	news    chan struct{} // of one element: watch is newer

	// What follows is the goroutine's own.
	of      job.Watch    // of which all that follows is, without Until and At
	epoch   uint64       // the first that is not reported
	found   []probeFound // since then, in the order of time
	started bool         // a probe found the service
	late    uint64       // the last time since the terms began at which one did not, before
}

// probeFound is what a probe found.
type probeFound struct {
	sent    uint64 // ms since the terms began
	serving bool
	kib     uint64 // a second
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
		w = &watcher{agent: a, watch: *m, heard: time.Now(), news: make(chan struct{}, 1)}
		a.watches[order] = w
		a.running.Go(func() { w.run(a.work, order) })
		a.log.Info("agent: drawn to probe a lease", "order", order.Short(), "node", m.Lease.Node.Short())
	}
	a.mu.Unlock()
	w.mu.Lock()
	if m.At >= w.watch.At { // of several servers one may be behind
		w.watch = *m
	}
	w.heard = time.Now()
	reports := w.reports
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
	for _, r := range reports {
		s.send(r)
	}
}

// run probes until nobody has said for a while that the lease is to be probed.
func (w *watcher) run(ctx context.Context, order crypto.Digest) {
	for ctx.Err() == nil {
		m, heard := w.said()
		// Two turns more than that: a server that begins anew learns by a probe that its agent is a peer.
		if time.Since(heard) > max(watchPatience, 2*time.Duration(m.Service.EpochMs)*time.Millisecond/probesOfEpoch) {
			break
		}
		w.turn(ctx, &m)
	}
	w.agent.mu.Lock()
	defer w.agent.mu.Unlock()
	delete(w.agent.watches, order)
}

// said returns the newest of what servers say, and when one did last.
func (w *watcher) said() (job.Watch, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watch, w.heard
}

// turn probes once, somewhere in a tenth of an epoch, while the lease lives.
func (w *watcher) turn(ctx context.Context, m *job.Watch) {
	every := time.Duration(m.Service.EpochMs) * time.Millisecond / probesOfEpoch
	end := time.Now().Add(every)
	w.pause(ctx, time.Now().Add(mathrand.N(every/2)))
	*m, _ = w.said()
	w.enter(m)
	now := timeMs(time.Now())
	if ctx.Err() == nil && now >= m.Since && now < m.Until {
		if serving, kib, ok := w.probe(ctx, m, min(every/2, probeTimeout)); ok && len(w.found) < maxFound {
			w.found = append(w.found, probeFound{sent: uint64(now - m.Since), serving: serving, kib: kib})
		}
	}
	w.pause(ctx, end)
}

// pause waits for a time or the end of ctx; meanwhile it hears what servers say.
func (w *watcher) pause(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		select {
		case <-w.news:
			m, _ := w.said()
			w.enter(&m)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// enter reports the epochs that are over, by the clock here and by a state of the chain: an earlier one
// does not know whether the lease ended before they did.
func (w *watcher) enter(m *job.Watch) {
	now := timeMs(time.Now())
	if now < m.Since {
		return
	}
	of := *m
	of.Until, of.At = 0, 0
	if w.of != of {
		w.of, w.epoch, w.found, w.started, w.late = of, uint64(now-m.Since)/m.Service.EpochMs, nil, false, 0
		return
	}
	for {
		begin, end, ok := m.Service.Span(m.Since, w.epoch)
		if end = min(end, m.Until); !ok || begin >= m.Until || min(now, m.At) <= end {
			return
		}
		w.report(m, w.count(m, uint64(end-m.Since)))
		w.epoch++
	}
}

// count sums up what was found until the end of an epoch, and forgets it.
func (w *watcher) count(m *job.Watch, endMs uint64) (r chain.ServiceReport) {
	for ; len(w.found) > 0 && w.found[0].sent < endMs; w.found = w.found[1:] {
		p := w.found[0]
		if p.sent+endMargin >= uint64(m.Until-m.Since) {
			continue
		}
		if !p.serving && !w.started {
			w.late = p.sent
		}
		w.started = w.started || p.serving
		if p.sent < m.Service.StartMs {
			continue
		}
		r.Sent++
		if p.serving {
			r.Answered++
			r.ThroughputKiB = max(r.ThroughputKiB, p.kib)
		}
	}
	r.Peer, r.UnstartedMs = w.agent.id, w.late
	return r
}

// report signs what was found of an epoch, if its terms were missed.
func (w *watcher) report(m *job.Watch, r chain.ServiceReport) {
	a := w.agent
	begin, _, ok := m.Service.Span(m.Since, w.epoch)
	if !ok || begin <= timeMs(a.began) {
		return // another process may have reported it
	}
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
	p.Signature = a.key.Sign(crypto.DomainProbe, p.Payload(a.genesis.ChainID))
	reply := make(chan bool, 1)
	sessions, sent := a.connected(), time.Now()
	w.mu.Lock()
	w.nonce, w.reply = nonce, reply
	w.mu.Unlock()
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
			ok = ok || s.conn.Err() == nil && !m.Abroad
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

// unanswered takes the word of the lease's cluster, which is not that of this node's servers, that the
// lease's node gave no answer to a probe.
func (a *Agent) unanswered(m *job.Unanswered) {
	a.mu.Lock()
	w := a.watches[m.Lease.Order]
	a.mu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reply == nil || m.Nonce != w.nonce {
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
