package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	probesOfEpoch = 10
	probeTimeout  = 3 * time.Second
	maxFound      = 8 * probesOfEpoch
	// endMargin is how long before a lease's end probes count no more: clocks differ, and a node may
	// stop a little early.
	endMargin = 5_000 // ms
)

// Prober probes a lease with service terms, as a peer that the chain drew or as the lease's consumer, and signs
// what it found of each epoch that missed the terms. An epoch is reported by one Prober alone: the one that was
// there when it began, so that no two reports of an epoch can differ. It is one goroutine's.
type Prober struct {
	ChainID chain.ChainID
	Key     crypto.PrivateKey // of the peer, or the consumer
	Began   time.Time         // when this Prober was there
	// Said returns the newest that is known of the lease; News, of one element, says that there is something.
	Said func() job.Watch
	News chan struct{}
	// Ask has a probe carried to the lease's node. It is not ok if that says nothing of the node.
	Ask func(ctx context.Context, m *job.Watch, p *job.Probe, patience time.Duration) (serving, ok bool)
	// Report takes a signed report of an epoch that is over and missed a term.
	Report func(said job.PeerReport, finding chain.ServiceFinding)

	of      job.Watch    // of which all that follows is, without what changes while the terms hold
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

// Turn probes once, somewhere in a tenth of an epoch, while the lease lives, and reports the epochs that are
// over. It returns at the end of that time, or of ctx.
func (p *Prober) Turn(ctx context.Context) {
	m := p.Said()
	every := time.Duration(m.Service.EpochMs) * time.Millisecond / probesOfEpoch
	end := time.Now().Add(every)
	p.pause(ctx, time.Now().Add(mathrand.N(every/2)))
	m = p.Said()
	p.enter(&m)
	now := timeMs(time.Now())
	if ctx.Err() == nil && now >= m.Since && now < m.Until && m.OwnAt(now) {
		if serving, kib, ok := p.probe(ctx, &m, min(every/2, probeTimeout)); ok && len(p.found) < maxFound {
			p.found = append(p.found, probeFound{sent: uint64(now - m.Since), serving: serving, kib: kib})
		}
	}
	p.pause(ctx, end)
}

// Conclude reports the epochs that are over.
func (p *Prober) Conclude() {
	m := p.Said()
	p.enter(&m)
}

// pause waits for a time or the end of ctx; meanwhile it hears what is known of the lease.
func (p *Prober) pause(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		select {
		case <-p.News:
			p.Conclude()
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// enter reports the epochs that are over, by the clock here and by a state of the chain: an earlier one
// does not know whether the lease ended before they did.
func (p *Prober) enter(m *job.Watch) {
	now := timeMs(time.Now())
	if now < m.Since {
		return
	}
	of := *m
	of.Until, of.At, of.From, of.Before = 0, 0, 0, 0
	if p.of != of {
		p.of, p.epoch, p.found, p.started, p.late = of, uint64(now-m.Since)/m.Service.EpochMs, nil, false, 0
		return
	}
	for {
		begin, end, ok := m.Service.Span(m.Since, p.epoch)
		if end = min(end, m.Until); !ok || begin >= m.Until || min(now, m.At) <= end {
			return
		}
		p.report(m, p.count(m, uint64(end-m.Since)))
		p.epoch++
	}
}

// count sums up what was found until the end of an epoch, and forgets it.
func (p *Prober) count(m *job.Watch, endMs uint64) (r chain.ServiceReport) {
	for ; len(p.found) > 0 && p.found[0].sent < endMs; p.found = p.found[1:] {
		f := p.found[0]
		if f.sent+endMargin >= uint64(m.Until-m.Since) {
			continue
		}
		if !f.serving && !p.started {
			p.late = f.sent
		}
		p.started = p.started || f.serving
		if f.sent < m.Service.StartMs {
			continue
		}
		r.Sent++
		if f.serving {
			r.Answered++
			r.ThroughputKiB = max(r.ThroughputKiB, f.kib)
		}
	}
	r.Peer, r.UnstartedMs = p.Key.Public(), p.late
	return r
}

// report signs what was found of an epoch, if its terms were missed.
func (p *Prober) report(m *job.Watch, r chain.ServiceReport) {
	begin, end, ok := m.Service.Span(m.Since, p.epoch)
	if !ok || begin <= timeMs(p.Began) || !m.Own(begin) {
		return // another process may have reported it, or other peers do
	}
	finding := m.Service.Finds(p.epoch, uint64(min(end, m.Until)-begin), &r)
	if finding == chain.ServiceKept {
		return
	}
	e := chain.ServiceEpoch{ChainID: p.ChainID, Lease: m.Lease, Terms: m.Terms, Epoch: p.epoch}
	r.Signature = p.Key.Sign(crypto.DomainService, chain.ServicePayload(e, r))
	p.Report(job.PeerReport{Epoch: e, Report: r}, finding)
}

// probe asks the lease's node once.
func (p *Prober) probe(ctx context.Context, m *job.Watch, patience time.Duration) (serving bool, kib uint64, ok bool) {
	ask := job.Probe{Lease: m.Lease, Peer: p.Key.Public()}
	if _, err := rand.Read(ask.Nonce[:]); err != nil {
		panic(fmt.Sprintf("agent: no randomness: %v", err))
	}
	if m.Service.ThroughputKiB > 0 {
		ask.Bytes = job.MaxProbeBytes
	}
	ask.Signature = p.Key.Sign(crypto.DomainProbe, ask.Payload(p.ChainID))
	sent := time.Now()
	serving, ok = p.Ask(ctx, m, &ask, patience)
	if took := time.Since(sent); serving && ask.Bytes > 0 {
		kib = uint64(float64(ask.Bytes>>10) / max(took.Seconds(), 1e-6))
	}
	return serving, kib, ok
}

// Answer returns what the answer to a probe says: whether the service runs, and all that was asked for is
// there. The error says that it is not the node's answer to this probe.
func Answer(id chain.ChainID, p *job.Probe, m *job.ProbeReply) (serving bool, err error) {
	switch {
	case m.Nonce != p.Nonce || m.Lease != p.Lease || m.Peer != p.Peer:
		return false, errors.New("agent: it is the answer to another probe")
	case !m.Lease.Node.Verify(crypto.DomainProbe, m.Payload(id), m.Signature):
		return false, fmt.Errorf("agent: the answer to a probe is not signed by node %s", m.Lease.Node.Short())
	}
	return m.Serving && uint64(len(m.Data)) >= p.Bytes, nil
}
