package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Why a task's context ends before its work does.
var (
	errStopping = errors.New("the agent is stopping")
	errDeadline = errors.New("the order's deadline passed")
	errExpired  = errors.New("the bid expired")
)

// cancelled is a server's Cancel.
type cancelled struct{ reason string }

func (c *cancelled) Error() string { return "cancelled: " + c.reason }

// task is an assignment that the node has taken and not finished.
type task struct {
	assignment job.Assignment
	order      crypto.Digest
	taken      time.Time
	cancel     context.CancelCauseFunc
	unwanted   bool             // cancelled, and not ended yet; under Agent.mu
	opened     bool             // the chain has its lease; under Agent.mu
	judging    bool             // as a juror: nothing but the result is told
	again      bool             // for Again: to prove what it gives
	fetchBy    time.Time        // of a juror: until when inputs that servers lack are asked for again
	serving    *atomic.Bool     // of a lease: its service runs
	withheld   *atomic.Uint64   // of a lease: from when on, in ms, it is for its servers to answer that its inputs are not here; 0: they are not asked for
	resumed    *job.Spec        // of a lease: what is run of it at first
	stores     need             // of a job: its room in the store, once it has that; its own
	holds      need             // of a lease: what it has acquired, or waits for; under Agent.mu
	resized    chan resized     // of a lease: takes what to make of it
	key        *chain.OutputKey // under fair exchange: that the output is sealed with
}

// assign takes assignments, or refuses them and says why. What is known already
// is not run again.
func (a *Agent) assign(from *session, list []job.Assignment) {
	a.starts.yield(len(list))
	orders := make([]crypto.Digest, len(list))
	faults := make([]error, len(list))
	now := time.Now()
	for i := range list {
		orders[i] = list[i].Order.ID()
		faults[i] = a.checkAssignment(&list[i], orders[i], now)
	}
	checkSignatures(list, faults)
	for i, order := range orders {
		if err := faults[i]; err != nil {
			a.log.Warn("agent: refusing an assignment", "order", order.Short(), "reason", err)
			a.metrics.refused.Inc()
			from.send(job.AssignReply{Order: order, Refuse: line(err.Error())})
			continue
		}
		a.promised(&list[i])
		done, finished, refuse := a.take(list[i], order)
		from.send(job.AssignReply{Order: order, Refuse: refuse})
		if finished {
			from.send(a.ended(done))
		}
	}
}

// take begins a task, unless the order is known. It returns the order's Done if
// there is one already, and why the task was refused if it was.
func (a *Agent) take(assignment job.Assignment, order crypto.Digest) (done job.Done, finished bool, refuse string) {
	return a.takeAs(assignment, order, nil)
}

// takeAs is take for a lease that was resized, of which that is run.
func (a *Agent) takeAs(assignment job.Assignment, order crypto.Digest, resumed *job.Spec) (done job.Done, finished bool, refuse string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	done, finished = a.spool.get(order)
	if !finished {
		done, finished = a.remembered.get(order)
	}
	known := a.tasks[order]
	switch {
	case finished && !placed(&done, assignment.Place), known != nil && known.assignment.Place != assignment.Place:
		return job.Done{}, false, errOtherPlace.Error()
	case finished:
		return done, true, ""
	}
	switch {
	case known == nil && (a.book.signed(order, assignment.Sequence) || a.spool.owes(order)):
		return job.Done{}, false, "its receipt was signed and handed over before"
	case known != nil && known.unwanted:
		return job.Done{}, false, "the work was cancelled and is still ending"
	case known != nil:
		return job.Done{}, false, ""
	case a.stopping:
		return job.Done{}, false, errStopping.Error()
	case len(a.tasks) >= maxHeldTasks || len(a.tasks)+a.spool.count() >= job.MaxHeld:
		return job.Done{}, false, fmt.Sprintf("%d assignments are held, the limit", len(a.tasks))
	}
	ctx, cancel := context.WithCancelCause(a.work)
	t := &task{assignment: assignment, order: order, taken: time.Now(), cancel: cancel, serving: &atomic.Bool{}, withheld: &atomic.Uint64{}}
	if t.resumed = resumed; resumed == nil {
		t.resumed = &t.assignment.Spec
	}
	t.holds, t.resized = needOf(t.resumed), make(chan resized, 1)
	a.tasks[order] = t
	a.running.Go(func() {
		defer cancel(nil)
		if assignment.Order.Term != nil {
			a.keepLease(ctx, t)
			return
		}
		a.carryOut(ctx, t)
	})
	return job.Done{}, false, ""
}

// checkAssignment says why an assignment is not this node's to run. The message
// was checked: order and specification belong together.
func (a *Agent) checkAssignment(as *job.Assignment, order crypto.Digest, now time.Time) error {
	ms := timeMs(now)
	doubt := a.market.doubt(&as.Order, a.config.ClusterCover)
	switch {
	case as.Order.ChainID != a.genesis.ChainID || as.Acceptance.ChainID != a.genesis.ChainID || as.Bid.ChainID != a.genesis.ChainID:
		return fmt.Errorf("not all of order, acceptance and bid are of chain %s", a.genesis.ChainID)
	case as.Acceptance.Order != order || as.Bid.Order != order:
		return errors.New("not all of order, acceptance and bid are of one order")
	case as.Acceptance.Cluster != as.Order.Cluster:
		return fmt.Errorf("the acceptance is by cluster %s, the order's is %s", as.Acceptance.Cluster.Short(), as.Order.Cluster.Short())
	case as.Acceptance.Sequence == 0:
		return errors.New("the acceptance has sequence 0")
	case as.Acceptance.Outstanding.Less(as.Order.MaxCost):
		return fmt.Errorf("the acceptance covers %s, the order's max cost is %s", as.Acceptance.Outstanding, as.Order.MaxCost)
	case doubt != "" && as.Order.Term == nil: // the chain holds a lease's money
		return errors.New(job.ClusterDoubted + doubt)
	case as.Bid.Node != a.id:
		return fmt.Errorf("the bid is by node %s", as.Bid.Node.Short())
	case as.Sequence == 0:
		return errors.New("the sequence is 0")
	case ms > as.Bid.Expiry && as.Order.Term == nil: // whether a lease was opened in time the chain says
		return fmt.Errorf("the bid expired at %d, it is %d", as.Bid.Expiry, ms)
	case slices.ContainsFunc(as.Devices, func(gpu byte) bool { return uint64(gpu) >= a.config.GPUs }):
		return fmt.Errorf("the assignment gives gpus %v, this node has %d", as.Devices, a.config.GPUs)
	case ms > as.Order.Deadline && as.Order.Term == nil:
		return fmt.Errorf("the deadline was %d, it is %d", as.Order.Deadline, ms)
	}
	return nil
}

// checkSignatures demands that consumer, cluster and this node signed. Those of
// all assignments without a fault yet are verified together.
func checkSignatures(list []job.Assignment, faults []error) {
	forms := [...]string{"order", "acceptance", "bid"}
	var claims []crypto.Signed
	var of []int
	for i := range list {
		if faults[i] != nil {
			continue
		}
		as := &list[i]
		consumer, err := as.Order.Consumer.Ed25519()
		if err != nil {
			faults[i] = err
			continue
		}
		of = append(of, i)
		claims = append(claims,
			crypto.SignedBy(consumer, crypto.DomainOrder, as.Order.Payload(), as.OrderSig),
			crypto.SignedBy(as.Acceptance.Cluster, crypto.DomainAcceptance, as.Acceptance.Payload(), as.AcceptanceSig),
			crypto.SignedBy(as.Bid.Node, crypto.DomainBid, as.Bid.Payload(), as.BidSig))
	}
	for k, valid := range crypto.VerifyBatch(claims, 1) {
		if at := of[k/len(forms)]; !valid && faults[at] == nil {
			faults[at] = fmt.Errorf("the signature of the %s does not verify", forms[k%len(forms)])
		}
	}
}

// carryOut sees a task to its end: a spooled Done, a refusal, or nothing if
// nobody wants it any more.
func (a *Agent) carryOut(ctx context.Context, t *task) {
	log := a.log.With("order", t.order.Short())
	log.Info("agent: work begins", "label", t.assignment.Spec.Label, "policy", t.assignment.Order.Policy.String())
	ctx, stop := context.WithDeadlineCause(ctx, timeOf(t.assignment.Order.Deadline), errDeadline)
	defer stop()
	done, err := a.perform(ctx, t)
	defer func() { a.capacity.shrink(t.stores) }()
	if err == nil {
		err = a.finish(t, done)
	}
	_, unwanted := errors.AsType[*cancelled](err)
	switch {
	case err == nil:
		log.Info("agent: work ended", "exit", done.Receipt.Exit.String(), "fuel", done.Receipt.Fuel, "ms", done.Receipt.Ended-done.Receipt.Started)
		a.metrics.jobs.WithLabelValues(done.Receipt.Exit.String()).Inc()
		a.broadcast(a.ended(done))
		return // a Done says what is free again
	case errors.Is(err, errStopping):
		a.forget(t)
		log.Info("agent: work is abandoned", "reason", err)
		return
	case unwanted:
		a.forget(t)
		log.Info("agent: work ended", "reason", err)
	default:
		a.forget(t)
		log.Warn("agent: work was not done", "error", err)
		a.metrics.refused.Inc()
		a.broadcast(job.AssignReply{Order: t.order, Refuse: line(err.Error())})
	}
	a.sayLoad()
}

// finish makes a Done durable and its output safe, and ends the task afterwards,
// so that Hello always names the order.
func (a *Agent) finish(t *task, done job.Done) error {
	as := &t.assignment
	entry := spoolEntry{
		Done: done, Expires: as.Order.Deadline + chain.TimeMs(a.genesis.Params.ClaimWindowMs), Order: as.Order, OrderSig: as.OrderSig,
		Acceptance: as.Acceptance, AcceptanceSig: as.AcceptanceSig, Bid: as.Bid, BidSig: as.BidSig, Key: t.key,
	}
	a.mu.Lock()
	a.spool.enter(entry)
	err := a.keepOutput(done.Blob())
	a.mu.Unlock()
	if err == nil {
		err = a.spool.commit(entry) // with others, and without a.mu: the disk takes its time
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.release(t.order, false)
		return err
	}
	delete(a.tasks, t.order)
	a.book.finished(&t.assignment, &done, &a.genesis.Params)
	return nil
}

// keepOutput pins an output, which must still be there.
func (a *Agent) keepOutput(output crypto.Digest) error {
	if output.IsZero() {
		return nil
	}
	if err := a.blobs.Pin(output); err != nil {
		return fmt.Errorf("agent: keeping the output: %w", err)
	}
	if !a.blobs.Has(output) {
		return errors.Join(fmt.Errorf("agent: the output %s is gone: the store is too small", output.Short()), a.blobs.Unpin(output))
	}
	return nil
}

func (a *Agent) forget(t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tasks, t.order)
}

// cancelTask ends a running task on a server's request. What has finished stays
// finished: its Done will be refused.
func (a *Agent) cancelTask(order crypto.Digest, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch t := a.tasks[order]; {
	case t == nil:
	case t.opened:
		a.log.Warn("agent: a server would end a lease that the chain says is open", "order", order.Short(), "reason", reason)
	case t.assignment.Order.Term != nil && !t.judging:
		// This node's bid stands: until that expires, whoever has the deal may open it,
		// or has, in a block that is not seen here yet.
		a.log.Info("agent: a lease is kept for as long as it can be opened", "order", order.Short(), "reason", reason)
	default:
		t.unwanted = true
		t.cancel(&cancelled{reason: line(reason)})
	}
}

// acknowledged forgets a Done that the servers have, or never will. What its claim, or the chain, may ask for is kept.
func (a *Agent) acknowledged(ack job.Ack) {
	if e, ok := a.spool.sealed(ack.Order); ok && ack.Refuse == "" && (!ack.Revealed || !e.attested()) {
		a.reveal(&e, ack.Attestation)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	entry, ok := a.release(ack.Order, true)
	if !ok {
		return
	}
	if ack.Refuse != "" && entry.pledged() { // which the chain decides, and not a server
		a.log.Warn("agent: the servers do not take a pledged receipt: it is kept for as long as the chain may ask for it", "order", ack.Order.Short(), "reason", ack.Refuse)
		return
	}
	if ack.Refuse != "" {
		a.log.Warn("agent: the servers do not take a result", "order", ack.Order.Short(), "reason", ack.Refuse)
		a.book.add(bookLine{Kind: lineUnpaid, Order: ack.Order, AtMs: timeMs(time.Now())})
		return
	}
	a.remembered.put(ack.Order, entry.Done)
}

// release takes a Done out of the spool and lets its output go; if it is retired, what its claim
// needs is kept: servers that have it may come to nothing, or refuse it, and others have it
// paid. The caller holds a.mu.
func (a *Agent) release(order crypto.Digest, retire bool) (spoolEntry, bool) {
	a.shown.Delete(order)
	entry, last := a.spool.remove(order, retire)
	if entry.Done.Receipt.Order != order {
		return spoolEntry{}, false
	}
	if last {
		if err := a.blobs.Unpin(entry.Done.Blob()); err != nil {
			a.log.Error("agent: letting an output go", "order", order.Short(), "error", err)
		}
		a.capacity.shrink(need{}) // whoever waits looks again
	}
	return entry, true
}

// sweep drops the Dones that nobody takes any more.
func (a *Agent) sweep(ctx context.Context, now time.Time) {
	past := a.past(ctx, timeMs(now)) // without a.mu: the chain takes its time
	a.mu.Lock()
	defer a.mu.Unlock()
	for order, why := range past { // order-free: each for itself
		if e, there := a.release(order, false); there {
			a.log.Warn("agent: dropping a result", "order", order.Short(), "cluster", e.Order.Cluster.Short(), "reason", why)
		}
		a.spool.settled(order) // if servers need not be told of it
	}
	a.spool.expire(timeMs(now))
}

// memory keeps the Dones acknowledged last. The holder of Agent.mu uses it.
type memory struct {
	dones map[crypto.Digest]job.Done
	order []crypto.Digest // the oldest first
}

func (m *memory) get(order crypto.Digest) (job.Done, bool) {
	d, ok := m.dones[order]
	return d, ok
}

func (m *memory) put(order crypto.Digest, d job.Done) {
	if _, known := m.dones[order]; !known {
		m.order = append(m.order, order)
	}
	m.dones[order] = d
	if len(m.order) > maxRemembered {
		delete(m.dones, m.order[0])
		m.order = m.order[1:]
	}
}

func timeOf(t chain.TimeMs) time.Time { return time.UnixMilli(int64(min(t, 1<<52))) }

// line makes text one line of at most 512 bytes of UTF-8, as messages demand.
func line(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	const most = 512
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}
