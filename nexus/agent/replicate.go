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

// runsState is what a finalized state has of the runs of an order.
type runsState struct {
	runs  settlement.Runs
	there bool
	at    chain.TimeMs // the block's time
}

// runsReader asks the chain about the runs of an order.
type runsReader func(ctx context.Context, order crypto.Digest) (runsState, error)

// runs is the runsReader of the chain.
func (m *market) runs(ctx context.Context, order crypto.Digest) (out runsState, err error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	value, err := m.client.VerifiedState(ctx, settlement.RunsKey(order))
	if err != nil {
		return out, err
	}
	out.at = value.Header().TimeMs()
	raw, there := value.Get()
	if !there {
		return out, nil
	}
	out.runs, err = settlement.DecodeRuns(raw)
	out.there = err == nil
	return out, err
}

// errOtherPlace refuses an assignment of work that was begun, or done, for another place: its receipt
// shows that one's link.
var errOtherPlace = errors.New("this node runs, or ran, the order for another place among its runs")

// placed reports whether a replica's end is of the place that is asked for.
func placed(d *job.Done, place uint8) bool { return d.Salt == [32]byte{} || d.Salt[0] == place }

// saltOf returns what a receipt is pledged with: nothing, unless the order is replicated. Its first byte
// is the place for which the receipt was made, so that what is spooled says it.
func saltOf(as *job.Assignment) (salt [32]byte) {
	if _, replicated := as.Order.Policy.Policy.(chain.PolicyReplicate); replicated {
		if _, err := rand.Read(salt[:]); err != nil {
			panic(fmt.Sprintf("agent: no randomness: %v", err))
		}
		salt[0] = as.Place
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
		Order: order, Commitment: commitment, Place: d.Salt[0],
		Signature: a.key.Sign(crypto.DomainRun, chain.RunPayload(a.genesis.ChainID, order, commitment, d.Salt[0])),
	}
}

// showAttempts is how often the chain is asked whether a receipt is to be shown before a server is told nothing: its
// node of the chain may be a block ahead.
const showAttempts = 5

// show sends the receipt that was pledged, if the chain proves that it is time; without a node of the chain
// to ask, because a server says so.
func (s *session) show(order crypto.Digest) {
	a := s.agent
	done, ok := a.spool.given(order)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ok {
		done, ok = a.remembered.get(order)
	}
	if !ok {
		return
	}
	_, allowed := a.shown.Load(order)
	if allowed || a.runs == nil || done.Salt == [32]byte{} {
		a.shown.Store(order, struct{}{})
		s.send(done)
		return
	}
	if _, asking := a.showing.LoadOrStore(order, struct{}{}); asking || a.stopping {
		return
	}
	a.running.Go(func() {
		defer a.showing.Delete(order)
		for asked := 1; ; asked++ {
			err := a.toShow(a.work, order)
			if err == nil {
				break
			}
			if asked == showAttempts || a.work.Err() != nil {
				a.log.Warn("agent: refusing to show a receipt: the chain does not say that it is time", "order", order.Short(), "error", err)
				return
			}
			sleep(a.work, pauseAfter(asked))
		}
		a.shown.Store(order, struct{}{})
		s.send(done)
	})
}

// toShow demands that the chain has those who are bound to receipts show them, or that this node is late.
func (a *Agent) toShow(ctx context.Context, order crypto.Digest) error {
	said, err := a.runs(ctx, order)
	runs := said.runs
	at := slices.IndexFunc(runs.Runs, func(r settlement.Run) bool { return r.Bidder.Node == a.id })
	switch {
	case err != nil:
		return err
	case !said.there || at < 0:
		return errors.New("it has no run of this node")
	case runs.Stage != settlement.StageReveal && runs.Runs[at].State != settlement.RunSilent && runs.Runs[at].State != settlement.RunUnattested:
		return errors.New("it waits for others to be bound, or for nothing more")
	}
	return nil
}

// Stages of runs, one after the other, of which none takes longer than the order's window or a panel.
const (
	runRounds = 4 // draws of who runs the order
	runPanels = 3 // one of the check, one about the runs, and the larger one
	runShows  = 1
)

// runsLast is how much longer than its claim window nodes may be bound to receipts of an order.
func (a *Agent) runsLast(p chain.PolicyReplicate) chain.TimeMs {
	return chain.TimeMs((runRounds + runPanels + runShows) * max(p.WindowMs, settlement.PanelMs(&a.genesis.Params)))
}

// sweepPatience bounds for how long one sweep asks the chain.
const sweepPatience = time.Minute

// past lists the Dones that nobody takes any more, and why. The chain takes no claim after the claim window; but what is
// pledged it may ask for until the runs of the order are over, since others may take their time for theirs, and whoever
// does not show it then loses its stake. That it has no runs counts from a time on at which none can begin; an agent
// without a node of the chain goes by how long they last at most.
func (a *Agent) past(ctx context.Context, now chain.TimeMs) map[crypto.Digest]string {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	out, unheard := map[crypto.Digest]string{}, false
	for _, e := range append(a.spool.list(), a.spool.retired()...) {
		order := e.Done.Receipt.Order
		policy, replicated := e.Order.Policy.Policy.(chain.PolicyReplicate)
		switch {
		case e.Expires >= now:
		case !replicated:
			out[order] = "no server took it before its claim window ended"
		case a.runs == nil && e.Expires+a.runsLast(policy) < now:
			out[order] = "nobody asked for the pledged receipt for as long as runs last"
		case a.runs != nil && !unheard:
			said, err := a.runs(ctx, order)
			if unheard = err != nil; unheard {
				a.log.Warn("agent: pledged receipts are kept: the chain cannot be asked about their runs", "order", order.Short(), "error", err)
			} else if !said.there && said.at > e.Expires {
				out[order] = "the chain has no runs of the order to which its receipt was pledged"
			}
		}
	}
	return out
}
