package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A node that the chain drew for a panel runs what is judged, and gives its servers no more
// than a commitment to what it found. They are told what that is when the chain has all jurors
// show their votes: else a cluster that has a part in the matter knew votes before they are
// bound, and could carry those alone that it likes.

const (
	maxJudging = 4  // orders that are run as a juror at a time; on servers' word alone, one
	maxBallots = 64 // panels that are remembered
)

// jury is what a node knows of the panels on which it sits. The holder of Agent.mu uses it.
type jury struct {
	running int // orders that are run
	panels  map[crypto.Digest]*summons
	order   []crypto.Digest // of panels, the oldest first
	gone    func(crypto.Digest)
}

// summons is a panel that a server told of.
type summons struct {
	heard   time.Time    // first
	seated  time.Time    // since when this node is known to sit on it: its patience begins; zero: it is not known to
	ballot  *job.Ballot  // nil: this node has not voted yet
	opening *job.Opening // of ballot
	height  chain.Height // of a state in which it has its seat; 0: the chain was not asked
	asking  bool         // the chain is asked whether votes are shown
	shown   bool         // it said that they are
}

// of returns what is known of a panel, from now on at the latest.
func (j *jury) of(panel crypto.Digest) *summons {
	if s := j.panels[panel]; s != nil {
		return s
	}
	if len(j.order) >= maxBallots { // a vote that was given is remembered for longer than what a server only said
		i := max(slices.IndexFunc(j.order, func(id crypto.Digest) bool { return j.panels[id].ballot == nil }), 0)
		if id := j.order[i]; j.panels[id].ballot != nil {
			j.gone(id)
		}
		j.forget(j.order[i])
	}
	s := &summons{heard: time.Now()}
	j.panels[panel], j.order = s, append(j.order, panel)
	return s
}

// forget drops a panel.
func (j *jury) forget(panel crypto.Digest) {
	delete(j.panels, panel)
	j.order = slices.DeleteFunc(j.order, func(id crypto.Digest) bool { return id == panel })
}

// given returns the ballots on panels that may not be over: a server which begins, or was away,
// knows of none.
func (j *jury) given(lasts time.Duration) (list []job.Ballot) {
	for _, id := range j.order {
		if s := j.panels[id]; s.ballot != nil && time.Since(s.heard) < lasts {
			list = append(list, *s.ballot)
		}
	}
	return list
}

// panelState is a panel as a finalized state has it.
type panelState struct {
	settlement.Panel
	there  bool // in that state
	height chain.Height
}

// awaits reports whether the panel is not over, and waits for a juror's vote.
func (p *panelState) awaits(juror crypto.PublicKey) bool {
	over := !p.there || p.Due == 0 && p.DrawAt == 0
	return !over && slices.ContainsFunc(p.Jurors, func(j settlement.Juror) bool { return j.Node == juror && j.Vote == nil })
}

// panelReader asks the chain about a panel.
type panelReader func(ctx context.Context, id crypto.Digest) (panelState, error)

// panel is the panelReader of the chain.
func (m *market) panel(ctx context.Context, id crypto.Digest) (out panelState, err error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	value, err := m.client.VerifiedState(ctx, settlement.PanelKey(id))
	if err != nil {
		return out, err
	}
	out.height = value.Height()
	raw, there := value.Get()
	if !there {
		return out, nil
	}
	out.Panel, err = settlement.DecodePanel(raw)
	out.there = err == nil
	return out, err
}

// judge has this node vote as a juror, or show its vote. It is asked again until that is
// there, so that whoever is busy waits.
func (s *session) judge(m *job.Judge) {
	a := s.agent
	if err := a.checkJudged(m); err != nil {
		a.log.Warn("agent: refusing to judge an order", "order", m.Order.Short(), "reason", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.jury.of(m.Panel)
	switch {
	case known.ballot != nil && m.Open:
		a.showVote(s, known)
		return
	case known.ballot != nil:
		s.send(*known.ballot)
		return
	}
	most := maxJudging
	if a.panels == nil {
		most = 1
	}
	if a.panels == nil && known.seated.IsZero() { // its servers' word is all that it has
		known.seated = time.Now()
	}
	if m.Assignment == nil && !m.Open && !a.waited(known) {
		a.askSeat(known, m)
		return
	}
	if a.stopping || a.tasks[m.Order] != nil || a.jury.running >= most {
		return
	}
	ctx, cancel := context.WithCancelCause(a.work)
	t := &task{order: m.Order, taken: time.Now(), cancel: cancel, judging: true}
	if m.Assignment != nil {
		t.assignment = *m.Assignment
	}
	a.tasks[m.Order] = t
	a.jury.running++
	a.running.Go(func() {
		defer cancel(nil)
		found, err := a.testify(ctx, t, m)
		var kept keptVote
		if err == nil {
			kept, err = a.seal(m, found)
		}
		a.mu.Lock()
		delete(a.tasks, m.Order)
		a.jury.running--
		var ballot job.Ballot
		if err == nil {
			ballot = a.remember(kept)
		}
		a.mu.Unlock()
		if err != nil {
			a.log.Warn("agent: an order was not judged", "order", m.Order.Short(), "error", err)
			return
		}
		a.log.Info("agent: voted on an order", "order", m.Order.Short(), "finding", found.Finding, "work", found.Work.Short())
		a.broadcast(ballot)
	})
}

// waited reports whether a juror has waited for what it judges for as long as it does. The caller
// holds a.mu.
func (a *Agent) waited(known *summons) bool {
	return !known.seated.IsZero() && time.Since(known.seated) >= a.dataPatience()
}

// askSeat asks the chain whether this node sits on a panel of which a server says that what it
// judges cannot be had: until the chain says so there is nothing to wait for. The caller holds a.mu.
func (a *Agent) askSeat(known *summons, m *job.Judge) {
	if !known.seated.IsZero() || known.asking || a.stopping {
		return
	}
	known.asking = true
	a.running.Go(func() {
		_, err := a.sits(a.work, m)
		a.mu.Lock()
		defer a.mu.Unlock()
		known.asking = false
		if err == nil && known.seated.IsZero() {
			known.seated = time.Now()
		}
	})
}

// patientUntil returns until when a juror waits for what it judges; it is known to have a seat.
func (a *Agent) patientUntil(panel crypto.Digest) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.jury.of(panel)
	if known.seated.IsZero() {
		known.seated = time.Now()
	}
	return known.seated.Add(a.dataPatience())
}

// panelLasts is how long a panel may not be over: the chain may stand for as long as it takes.
func (a *Agent) panelLasts() time.Duration {
	return 2 * time.Duration(settlement.PanelMs(&a.genesis.Params)) * time.Millisecond
}

// dataPatience is how long a juror waits for what it judges: half of the time that it has.
func (a *Agent) dataPatience() time.Duration {
	return time.Duration(a.genesis.Params.CommitMs) * time.Millisecond / 2
}

// checkJudged says why an order is none to judge. A panel's name says which order it judges,
// and that its specification: a server can make its agents run for nothing, but not vote on
// anything else.
func (a *Agent) checkJudged(m *job.Judge) error {
	if _, judges := settlement.LinkOf(m.Panel, m.Order); !judges {
		return fmt.Errorf("panel %s judges another order, if it is one", m.Panel.Short())
	}
	as := m.Assignment
	if as == nil {
		return nil
	}
	work, deterministic := as.Work().Work.Work.(job.Wasm)
	consumer, err := as.Order.Consumer.Ed25519()
	needs, total, disk := as.Spec.Resources, a.total(), needOf(&as.Spec).diskMiB
	switch {
	case err != nil:
		return err
	case as.Order.ChainID != a.genesis.ChainID:
		return fmt.Errorf("the order is of chain %s, this node is of %s", as.Order.ChainID, a.genesis.ChainID)
	case !deterministic || !work.Deterministic:
		return errors.New("the work is not deterministic")
	case needs.Millicores > total.Millicores || needs.MemoryMiB > total.MemoryMiB || needs.GPUs > total.GPUs:
		return fmt.Errorf("it needs %+v, this node has %+v", needs, total)
	case disk > a.capacity.total.diskMiB:
		return fmt.Errorf("it needs %d MiB of disk, this node has %d for running work", disk, a.capacity.total.diskMiB)
	case !consumer.Verify(crypto.DomainOrder, as.Order.Payload(), as.OrderSig):
		return errors.New("the signature of the order does not verify")
	}
	return nil
}

// sits demands a proof that this node has a seat on a panel and is to vote, or to show what it
// voted, and returns what it is bound to: zero, if to nothing yet. Without a node of the chain
// to ask it takes its servers' word.
func (a *Agent) sits(ctx context.Context, m *job.Judge) (bound crypto.Digest, err error) {
	if a.panels == nil {
		return bound, nil
	}
	p, err := a.panels(ctx, m.Panel)
	if err != nil {
		return bound, err
	}
	if !p.there || p.Subject != m.Order {
		return bound, errors.New("the chain has no such panel")
	}
	i := slices.IndexFunc(p.Jurors, func(j settlement.Juror) bool { return j.Node == a.id })
	if i < 0 || p.Jurors[i].Vote != nil || p.Revealing && p.Jurors[i].Commitment.IsZero() {
		return bound, errors.New("the chain asks this node for no vote")
	}
	a.mu.Lock()
	a.jury.of(m.Panel).height = p.height
	a.mu.Unlock()
	return p.Jurors[i].Commitment, nil
}

// testify finds what this node votes. If it has lost its memory and its disk, and the chain
// has what it is bound to, it votes that and nothing else.
func (a *Agent) testify(ctx context.Context, t *task, m *job.Judge) (chain.Testimony, error) {
	ctx, stop := context.WithTimeout(ctx, time.Duration(a.genesis.Params.CommitMs)*time.Millisecond)
	defer stop()
	bound, err := a.sits(ctx, m)
	if err != nil {
		return chain.Testimony{}, err
	}
	t.fetchBy = a.patientUntil(m.Panel)
	missing := chain.Testimony{Finding: chain.FoundUnavailable}
	switch salt := a.voteSalt(m.Panel); {
	case !bound.IsZero() && missing.Commitment(m.Panel, a.id, salt) == bound:
		return missing, nil
	case m.Assignment == nil && (m.Open || !bound.IsZero()):
		return chain.Testimony{}, errors.New("this node does not remember its vote, and what is judged is not there")
	case m.Assignment == nil:
		return missing, nil
	}
	at, _ := settlement.LinkOf(m.Panel, m.Order) // checkJudged has seen that there is one
	found, err := a.runJudged(ctx, t, at)
	if err == nil && !bound.IsZero() && found.Commitment(m.Panel, a.id, a.voteSalt(m.Panel)) != bound {
		err = errors.New("it does not give what this node is bound to")
	}
	return found, err
}

// runJudged runs an order. That its data is missing counts only if all servers said so, until
// half of the time was over: what fails here, or on the way, is no fault of who keeps it.
func (a *Agent) runJudged(ctx context.Context, t *task, at chain.Link) (chain.Testimony, error) {
	n := needOf(t.assignment.Work())
	// For half of its time it waits for what comes free, and then before work that is bid for.
	if err := a.capacity.acquireLate(ctx, n, a.dataPatience()); err != nil {
		return chain.Testimony{}, err
	}
	defer a.capacity.release(n)
	r, err := a.run(ctx, t)
	if _, missing := errors.AsType[*missingError](err); missing && errors.Is(err, blob.ErrNotFound) {
		return chain.Testimony{Finding: chain.FoundUnavailable}, nil
	}
	if err != nil {
		return chain.Testimony{}, err
	}
	if r.Exit == chain.ExitTime { // elsewhere it may not: to vote would be to guess
		return chain.Testimony{}, errors.New("it ran into its time limit here")
	}
	return job.Testimony(t.order, &t.assignment.Spec, &r.Outcome, at), nil
}

// voteSalt is what a vote on a panel is sealed with. It follows from the node's key and the
// panel alone, so that a node which has lost its memory votes the same again.
func (a *Agent) voteSalt(panel crypto.Digest) [32]byte {
	secret := a.key.Sign(crypto.DomainVote, panel[:])
	return crypto.DomainVote.Hash(secret[:])
}

// showVote shows a vote if the chain proves that it has the jurors show theirs; without a node of
// the chain to ask, because a server says so. The caller holds a.mu.
func (a *Agent) showVote(s *session, known *summons) {
	if known.shown || a.panels == nil {
		s.send(*known.opening)
		return
	}
	if known.asking || a.stopping {
		return
	}
	known.asking = true
	panel := known.opening.Panel
	a.running.Go(func() {
		p, err := a.panels(a.work, panel)
		revealing := err == nil && p.there && p.Revealing
		a.mu.Lock()
		known.asking, known.shown = false, known.shown || revealing
		a.mu.Unlock()
		if !revealing {
			a.log.Warn("agent: refusing to show a vote: the chain does not say that it is time", "panel", panel.Short(), "error", err)
			return
		}
		a.broadcast(*known.opening)
	})
}

// missingError says that an input of work cannot be had.
type missingError struct{ err error }

func (e *missingError) Error() string { return fmt.Sprintf("agent: fetching an input: %v", e.err) }

func (e *missingError) Unwrap() error { return e.err }
