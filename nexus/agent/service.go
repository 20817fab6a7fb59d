package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A lease with service terms is probed by peers. As a peer the agent asks the lease's node,
// through the servers, whether the service runs, at times that nobody knows before; of an
// epoch that missed the terms it signs a report, which the servers take to the chain.

const (
	watchPatience  = 40 * time.Second // without having heard that the lease is to be probed
	maxWatches     = 512
	maxPeerReports = 8 // of a lease, that are said again
	maxProbeReply  = 2 // replies with data that are made at a time
	// seatPatience is how long after a session began its server says, by carrying nothing back, that a
	// lease's node is silent, or an epoch if that is less: a server that begins anew is found by one of
	// them before the other.
	seatPatience = time.Minute
)

// watcher has a lease probed, for this node as a peer of it.
type watcher struct {
	Prober // the goroutine's own
	agent  *Agent

	mu      sync.Mutex
	watch   job.Watch
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
		w = newWatcher(a, m)
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
	case w.News <- struct{}{}:
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
		w.Turn(ctx)
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
	if w.reply == nil || m.Nonce != w.asked.Nonce {
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
	a.mu.Lock()
	w := a.watches[m.Lease.Order]
	a.mu.Unlock()
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
