package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

const (
	carryTime      = 4 * time.Second // of a message, to the lease's cluster and back
	firstReport    = 3 * time.Second // from an epoch's end to when its report is taken
	shortestLook   = time.Second     // between two looks at the chain
	longestLook    = 10 * time.Second
	maxSaidReports = 8  // that are said again
	lastRounds     = 60 // in which reports are said after a lease's end
)

func leaseProbeCommand() *cli.Command {
	return &cli.Command{
		Name: "probe", Usage: "probe a lease with service terms as its consumer, and report the epochs that missed them",
		Description: "Probes the lease's node through its cluster's servers, ten times in each epoch, as peers do, and prints a line for each probe. When an epoch\n" +
			"that missed a term is over, the report of it is signed with the consumer's key and sent to the cluster. It is a tip and no more: it counts only\n" +
			"where exactly half of the peers, two at least, find a miss as well. The epoch that is under way at first is not reported. Where a resize ends\n" +
			"the terms, their last epoch ends with them, and those of the new ones are probed. Ends with the lease, or with Ctrl-C; one process at a time\n" +
			"is enough for a lease.\n" +
			"Example: hypermesh lease probe --node 0a1b… --order 9f86… --key-file consumer.key --genesis genesis.json --nexus https://nexus.example:7280",
		Flags: append(append(append(leaseFlags(), clusterURLFlag()), accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			id, err := parseLease(c)
			if err != nil {
				return err
			}
			s, err := openSender(c, "")
			if err != nil {
				return err
			}
			nexus, err := clusterURLs(c)
			if err != nil {
				return err
			}
			return leaseProbe(c, s, nexus, id)
		},
	}
}

func leaseProbe(c *cli.Context, s *sender, nexus []string, id chain.LeaseID) error {
	seen, err := s.client.Promised(c.Context, id)
	if err != nil {
		return err
	}
	if err := mayProbe(&seen, id, s.account.Address()); err != nil {
		return err
	}
	p := newLeaseProber(s, id, &seen)
	p.out, p.json = c.App.Writer, c.Bool("json")
	p.cluster, err = sdk.New(sdk.Config{Nexus: nexus, Genesis: s.genesis, Cluster: seen.Lease.Cluster, Timeout: carryTime, Attempts: sdk.EachOnce})
	if err != nil {
		return err
	}
	return p.run(c.Context)
}

// mayProbe refuses what no consumer's probe is of.
func mayProbe(seen *sdk.Promised, id chain.LeaseID, account chain.Address) error {
	l := &seen.Lease
	switch {
	case !seen.Live && (l.Order.IsZero() || l.Promised):
		return fmt.Errorf("node %s has no lease of order %s, or it is over", id.Node.Short(), id.Order.Short())
	case l.Consumer != account:
		return fmt.Errorf("%s is not the lease's consumer, who is %s", account, l.Consumer)
	case !seen.Live:
		return fmt.Errorf("nothing is promised of lease %s: one without service terms is not probed", id.Order.Short())
	case seen.Service.Over != nil || seen.At >= l.Expires:
		return fmt.Errorf("the lease was over at %s", leaseTime(l.Expires))
	}
	return nil
}

// leaseProber probes a lease for its consumer.
type leaseProber struct {
	*sender
	id      chain.LeaseID
	cluster *sdk.Client
	prober  agent.Prober
	out     io.Writer
	json    bool

	writing sync.Mutex

	mu      sync.Mutex
	gone    bool // nothing of the lease can be reported any more
	seen    sdk.Promised
	probed  job.Watch     // what the prober has to know of the terms that it probes, the newest
	reports []*saidReport // the latest, until nothing is heard of their epochs any more
}

// saidReport is a report that is said to the cluster, and what became of it.
type saidReport struct {
	job.PeerReport
	end     chain.TimeMs // of its epoch
	taken   bool
	refused bool
}

func (r *saidReport) number() *chain.Number {
	n := chain.Number(r.Epoch.Epoch)
	return &n
}

func newLeaseProber(s *sender, id chain.LeaseID, seen *sdk.Promised) *leaseProber {
	p := &leaseProber{sender: s, id: id, seen: *seen, probed: seen.Watch(id)}
	p.prober = agent.Prober{
		ChainID: s.genesis.ChainID, Key: s.account.PrivateKey(), Began: time.Now(), News: make(chan struct{}, 1),
		Said: p.watch, Ask: p.ask, Report: p.found,
	}
	return p
}

// turnTerms has the prober report the last epochs of terms that a resize has put an end to, and go on with those
// that hold.
func (p *leaseProber) turnTerms() {
	p.mu.Lock()
	now := p.seen.Watch(p.id)
	resized := p.seen.Live && now.Terms != p.probed.Terms
	p.mu.Unlock()
	if !resized {
		return
	}
	p.prober.Conclude()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probed = now
	p.say(probeLine{Said: fmt.Sprintf("the lease was resized at %s, and is probed under its new terms", leaseTime(now.Since))})
}

// run probes while the lease lives, or until ctx ends, and then has the cluster take the last reports.
func (p *leaseProber) run(ctx context.Context) error {
	probing, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		p.follow(probing)
	})
	for probing.Err() == nil {
		p.prober.Turn(probing)
		p.turnTerms()
	}
	wg.Wait()
	if ctx.Err() != nil || p.gone {
		return nil // Ctrl-C is how it ends
	}
	p.say(probeLine{Said: "the lease is over"})
	p.prober.Conclude()
	return p.conclude(ctx)
}

// conclude has the cluster take the reports of the last epochs.
func (p *leaseProber) conclude(ctx context.Context) error {
	for range lastRounds {
		if p.send(ctx); len(p.waiting(false)) == 0 || !pauseFor(ctx, shortestLook) {
			return nil
		}
		if seen, err := p.client.Promised(ctx, p.id); err == nil {
			p.learn(&seen)
		}
	}
	return fmt.Errorf("the cluster did not take %d reports of the last epochs", len(p.waiting(false)))
}

// pauseFor waits, and is false if ctx ended before.
func pauseFor(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch is what the prober has to know of the lease.
func (p *leaseProber) watch() job.Watch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probed
}

// follow looks at the chain, and says reports, until the lease is over.
func (p *leaseProber) follow(ctx context.Context) {
	for {
		every := time.Duration(p.watch().Service.EpochMs) * time.Millisecond / 8
		if !pauseFor(ctx, min(max(every, shortestLook), longestLook)) {
			return
		}
		seen, err := p.client.Promised(ctx, p.id)
		if err != nil {
			if ctx.Err() == nil {
				p.say(probeLine{Said: fmt.Sprintf("the chain cannot be asked, and will be again: %v", err)})
			}
			continue
		}
		if p.learn(&seen) {
			return
		}
		select {
		case p.prober.News <- struct{}{}:
		default:
		}
		p.send(ctx)
	}
}

// learn notes what the chain has of the lease, and reports whether nothing of it is to be probed any more.
func (p *leaseProber) learn(seen *sdk.Promised) (over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case seen.At < p.seen.At:
		return false // of a node that is behind
	case len(seen.Each()) == 0:
		p.reports, p.gone = nil, true
		p.say(probeLine{Said: "nothing is promised of the lease any more, or nobody may report of it"})
		return true
	}
	p.seen = *seen
	if of := seen.Under(p.probed.Terms); of != nil {
		p.probed = of.Watch(p.id)
	}
	p.reports = slices.DeleteFunc(p.reports, func(r *saidReport) bool {
		of := seen.Under(r.Epoch.Terms)
		closed := of == nil || of.Service.Closed(r.Epoch.Epoch)
		if closed {
			p.say(probeLine{Epoch: r.number(), Said: "was repriced, or can be reported no more"})
		}
		return closed
	})
	return !seen.Live || seen.At > seen.Lease.Expires
}

// ask has a probe carried by the lease's cluster. That the cluster cannot be reached says nothing of the node.
func (p *leaseProber) ask(ctx context.Context, m *job.Watch, probe *job.Probe, _ time.Duration) (serving, ok bool) {
	epoch := chain.Number(uint64(max(time.Now().UnixMilli()-int64(m.Since), 0)) / m.Service.EpochMs)
	carried, cancel := context.WithTimeout(ctx, carryTime)
	defer cancel()
	raw, err := p.cluster.CarryPeer(carried, job.EncodeMessage(*probe))
	if err == nil && len(raw) > 0 {
		serving, err = p.answer(probe, raw)
	}
	line := probeLine{Epoch: &epoch, Probe: probeUnknown}
	switch {
	case ctx.Err() != nil:
		return false, false
	case err != nil:
		line.Said = err.Error()
	case serving:
		line.Probe = probeRuns
	case len(raw) == 0:
		line.Probe = probeUnanswered
	default:
		line.Probe = probeAway
	}
	p.say(line)
	return serving, err == nil
}

// answer reads what the cluster brought from the node.
func (p *leaseProber) answer(probe *job.Probe, raw []byte) (serving bool, err error) {
	m, err := job.DecodeMessage(raw)
	if err != nil {
		return false, fmt.Errorf("the cluster's answer: %w", err)
	}
	reply, ok := m.(job.ProbeReply)
	if !ok {
		return false, fmt.Errorf("the cluster answers a probe with a %T", m)
	}
	return agent.Answer(p.genesis.ChainID, probe, &reply)
}

// found takes the report of an epoch that is over.
func (p *leaseProber) found(said job.PeerReport, finding chain.ServiceFinding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, end, ok := p.probed.Service.Span(p.probed.Since, said.Epoch.Epoch)
	if !ok {
		panic("hypermesh: a report of an epoch beyond time")
	}
	if len(p.reports) == maxSaidReports {
		p.reports = p.reports[1:]
	}
	r := &saidReport{PeerReport: said, end: min(end, p.probed.Until)}
	p.reports = append(p.reports, r)
	p.say(probeLine{Epoch: r.number(), Finding: finding.String(), Report: &said.Report})
}

// waiting lists the reports to be said: also again those that were taken, if so asked, as a leader that is gone
// may have been the only one to hear them.
func (p *leaseProber) waiting(again bool) (list []*saidReport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.reports {
		if again || !r.taken {
			list = append(list, r)
		}
	}
	return list
}

// send says reports to the lease's cluster.
func (p *leaseProber) send(ctx context.Context) {
	for _, r := range p.waiting(true) {
		if time.Now().Add(-firstReport).UnixMilli() < int64(r.end) {
			continue
		}
		carried, cancel := context.WithTimeout(ctx, carryTime)
		_, err := p.cluster.CarryPeer(carried, job.EncodeMessage(r.PeerReport))
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.sent(r, err)
	}
}

// sent notes what became of a report, and says it when it is news.
func (p *leaseProber) sent(r *saidReport, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil && !r.refused && !r.taken:
		r.refused = true
		p.say(probeLine{Epoch: r.number(), Said: fmt.Sprintf("the report was not taken, and is sent again: %v", err)})
	case err == nil && !r.taken:
		r.taken = true
		p.say(probeLine{Epoch: r.number(), Said: "the cluster has the report, a tip: it counts only where exactly half of the peers, two at least, find a miss as well"})
	}
}

// What a probe finds.
const (
	probeRuns       = "runs"
	probeAway       = "does not run"
	probeUnanswered = "no answer"
	probeUnknown    = "not asked" // it says nothing of the node
)

// probeLine is what is printed of a probe, an epoch or the lease.
type probeLine struct {
	At      chain.TimeMs         `json:"at_ms"`
	Epoch   *chain.Number        `json:"epoch,omitempty"`
	Probe   string               `json:"probe,omitempty"`
	Finding string               `json:"finding,omitempty"` // of an epoch that missed a term
	Report  *chain.ServiceReport `json:"report,omitempty"`
	Said    string               `json:"said,omitempty"`
}

// say prints a line.
func (p *leaseProber) say(line probeLine) {
	line.At, line.Said = chain.TimeMs(time.Now().UnixMilli()), strings.ReplaceAll(line.Said, "\n", "; ")
	p.writing.Lock()
	defer p.writing.Unlock()
	if !p.json {
		fmt.Fprintln(p.out, line.text())
		return
	}
	data, err := json.Marshal(line)
	if err != nil {
		panic(fmt.Sprintf("hypermesh: a line of a probe: %v", err))
	}
	fmt.Fprintf(p.out, "%s\n", data)
}

// text is the line for a person.
func (l *probeLine) text() string {
	words := []string{leaseTime(l.At)}
	if l.Epoch != nil {
		words = append(words, fmt.Sprintf("epoch %d", *l.Epoch))
	}
	if l.Probe != "" {
		words = append(words, l.Probe)
	}
	if r := l.Report; r != nil {
		words = append(words, fmt.Sprintf("missed its terms (%s): %d of %d probes answered, %d KiB a second; the report is signed", l.Finding, r.Answered, r.Sent, r.ThroughputKiB))
	}
	if l.Said != "" {
		words = append(words, l.Said)
	}
	return strings.Join(words, "  ")
}
