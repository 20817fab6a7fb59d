package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Under replicate the end of work is told in two steps: first that there is one and, by a
// commitment, which; and what it is when a server asks. A cluster that asks before the chain
// has the commitments of all learns no more than other nodes' runs could be copied from.

// saltOf returns what a receipt is pledged with: nothing, unless the order is replicated.
func saltOf(o *chain.Order) (salt [32]byte) {
	if _, replicated := o.Policy.Policy.(chain.PolicyReplicate); replicated {
		if _, err := rand.Read(salt[:]); err != nil {
			panic(fmt.Sprintf("agent: no randomness: %v", err))
		}
	}
	return salt
}

// ended is what servers are told of work that has ended: its Done, or the pledge of it.
func (a *Agent) ended(d job.Done) job.Message {
	order := d.Receipt.Order
	if _, asked := a.shown.Load(order); asked || d.Salt == [32]byte{} {
		return d
	}
	commitment := chain.RunCommitment(d.Receipt.Digest(), a.id, d.Salt)
	return job.Pledge{
		Order: order, Commitment: commitment,
		Signature: a.key.Sign(crypto.DomainRun, chain.RunPayload(a.genesis.ChainID, order, commitment)),
	}
}

// show sends the receipt that was pledged.
func (s *session) show(order crypto.Digest) {
	a := s.agent
	done, ok := a.spool.get(order)
	if !ok {
		a.mu.Lock()
		done, ok = a.remembered.get(order)
		a.mu.Unlock()
	}
	if ok {
		a.shown.Store(order, struct{}{})
		s.send(done)
	}
}

const (
	maxJudging = 4  // orders that are run as a juror at a time; on servers' word alone, one
	maxBallots = 64 // that are remembered
)

// panelReader asks the chain about a panel; false: a finalized state has no such panel.
type panelReader func(ctx context.Context, id crypto.Digest) (settlement.Panel, bool, error)

// panel is the panelReader of the chain.
func (m *market) panel(ctx context.Context, id crypto.Digest) (settlement.Panel, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	value, err := m.client.VerifiedState(ctx, settlement.PanelKey(id))
	if err != nil {
		return settlement.Panel{}, false, err
	}
	raw, there := value.Get()
	if !there {
		return settlement.Panel{}, false, nil
	}
	p, err := settlement.DecodePanel(raw)
	return p, true, err
}

// judge runs an order as a juror, and votes on its result. It is asked again until the
// vote is there, so that whoever is busy waits.
func (s *session) judge(m *job.Judge) {
	a := s.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	if ballot, voted := a.ballots[m.Panel]; voted {
		s.send(ballot)
		return
	}
	most := maxJudging
	if a.panels == nil {
		most = 1
	}
	if a.stopping || a.tasks[m.Order] != nil || a.judging >= most {
		return
	}
	if err := a.checkJudged(m); err != nil {
		a.log.Warn("agent: refusing to judge an order", "order", m.Order.Short(), "reason", err)
		return
	}
	ctx, cancel := context.WithCancelCause(a.work)
	t := &task{order: m.Order, taken: time.Now(), cancel: cancel, judging: true}
	if m.Assignment != nil {
		t.assignment = *m.Assignment
	}
	a.tasks[m.Order] = t
	a.judging++
	a.running.Go(func() {
		defer cancel(nil)
		vote, err := a.vote(ctx, t, m)
		a.mu.Lock()
		delete(a.tasks, m.Order)
		a.judging--
		var ballot job.Ballot
		if err == nil {
			ballot = a.ballot(m.Order, m.Panel, vote)
		}
		a.mu.Unlock()
		if err != nil {
			a.log.Warn("agent: an order was not judged", "order", m.Order.Short(), "error", err)
			return
		}
		a.log.Info("agent: voted on an order", "order", m.Order.Short(), "finding", vote.Finding, "result", vote.Result.Short())
		a.broadcast(ballot)
	})
}

// checkJudged says why an order is none to judge. A panel's name says which order it judges,
// and that its specification: a server can make its agents run for nothing, but not vote on
// anything else.
func (a *Agent) checkJudged(m *job.Judge) error {
	if !settlement.JudgesOrder(m.Panel, m.Order) {
		return fmt.Errorf("panel %s judges another order, if it is one", m.Panel.Short())
	}
	as := m.Assignment
	if as == nil {
		return nil
	}
	work, deterministic := as.Work().Work.Work.(job.Wasm)
	consumer, err := as.Order.Consumer.Ed25519()
	needs, total := as.Spec.Resources, a.total()
	switch {
	case err != nil:
		return err
	case as.Order.ChainID != a.genesis.ChainID:
		return fmt.Errorf("the order is of chain %s, this node is of %s", as.Order.ChainID, a.genesis.ChainID)
	case !deterministic || !work.Deterministic:
		return errors.New("the work is not deterministic")
	case needs.Millicores > total.Millicores || needs.MemoryMiB > total.MemoryMiB || needs.GPUs > total.GPUs:
		return fmt.Errorf("it needs %+v, this node has %+v", needs, total)
	case !consumer.Verify(crypto.DomainOrder, as.Order.Payload(), as.OrderSig):
		return errors.New("the signature of the order does not verify")
	}
	return nil
}

// sits demands a proof that this node has a seat on a panel. Without a node of the chain to
// ask it takes its servers' word.
func (a *Agent) sits(ctx context.Context, m *job.Judge) error {
	if a.panels == nil {
		return nil
	}
	p, there, err := a.panels(ctx, m.Panel)
	switch {
	case err != nil:
		return err
	case !there || p.Subject != m.Order:
		return errors.New("the chain has no such panel")
	case !slices.ContainsFunc(p.Jurors, func(j settlement.Juror) bool { return j.Node == a.id && j.Commitment.IsZero() }) || p.Revealing:
		return errors.New("the chain asks this node for no vote")
	}
	return nil
}

// vote runs the order.
func (a *Agent) vote(ctx context.Context, t *task, m *job.Judge) (chain.Vote, error) {
	ctx, stop := context.WithTimeout(ctx, time.Duration(a.genesis.Params.CommitMs)*time.Millisecond)
	defer stop()
	if err := a.sits(ctx, m); err != nil {
		return chain.Vote{}, err
	}
	if m.Assignment == nil {
		return chain.Vote{Finding: chain.FoundUnavailable}, nil
	}
	n := needOf(t.assignment.Work())
	if err := a.capacity.acquire(ctx, n); err != nil {
		return chain.Vote{}, err
	}
	defer a.capacity.release(n)
	r, err := a.run(ctx, t)
	if _, missing := errors.AsType[*missingError](err); missing {
		return chain.Vote{Finding: chain.FoundUnavailable}, nil
	}
	if err != nil {
		return chain.Vote{}, err
	}
	if r.Exit == chain.ExitTime { // elsewhere it may not: to vote would be to guess
		return chain.Vote{}, errors.New("it ran into its time limit here")
	}
	return chain.Vote{Finding: chain.FoundResult, Result: job.ResultDigest(&r.Outcome)}, nil
}

// ballot signs a vote, and remembers it. Its salt follows from the node's key and the panel
// alone, so that a node which has lost its memory votes the same again. The caller holds
// a.mu.
func (a *Agent) ballot(order, panel crypto.Digest, vote chain.Vote) job.Ballot {
	secret := a.key.Sign(crypto.DomainVote, panel[:])
	b := job.Ballot{Order: order, Panel: panel, Node: a.id, Vote: vote, Salt: crypto.DomainVote.Hash(secret[:])}
	b.Signature = a.key.Sign(crypto.DomainVote, chain.VotePayload(a.genesis.ChainID, panel, vote.Commitment(panel, a.id, b.Salt)))
	a.ballots[panel] = b
	if a.balloted = append(a.balloted, panel); len(a.balloted) > maxBallots {
		delete(a.ballots, a.balloted[0])
		a.balloted = slices.Delete(a.balloted, 0, 1)
	}
	return b
}

// missingError says that an input of work cannot be had.
type missingError struct{ err error }

func (e *missingError) Error() string { return fmt.Sprintf("agent: fetching an input: %v", e.err) }

func (e *missingError) Unwrap() error { return e.err }
