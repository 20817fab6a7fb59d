package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// An order that resizes a lease of this node holds what it wants more than the lease, until
// the chain has resized the lease by it or does so no more. Then the lease's service is ended
// and begun again within the new limits, of programs and of containers alike: neither a
// program's memory nor what a container was started with changes while it runs.

var errSuperseded = errors.New("another order has resized the lease since")

// resized is what a lease is to become.
type resized struct {
	order crypto.Digest // whose terms hold
	spec  job.Spec
	more  need // than the lease held, which is held for it
}

// termsSuffix ends the name of the file that says which order resized a lease last.
const termsSuffix = ".terms"

func (a *Agent) termsFile(lease crypto.Digest) string { return a.leaseFile(lease) + termsSuffix }

// resumed returns what runs of a lease that an earlier process had, if an order had resized it; nil:
// what its own order says.
func (a *Agent) resumed(lease *job.Assignment, list []job.Assignment) *job.Spec {
	raw, err := os.ReadFile(a.termsFile(lease.Order.ID()))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Error("agent: it cannot be read which order resized a lease", "order", lease.Order.ID().Short(), "error", err)
		}
		return nil
	}
	for i := range list {
		id := list[i].Order.ID()
		if bytes.Equal(raw, id[:]) && list[i].Order.Term.Resizes == lease.Order.ID() && job.SameWork(&lease.Spec, &list[i].Spec) {
			return &list[i].Spec
		}
	}
	return nil
}

// leaseToResize returns what an order wants more than the lease has that it resizes, or why
// it cannot resize it. The caller holds a.mu.
func (a *Agent) leaseToResize(order *chain.Order, spec *job.Spec) (t *task, more need, decline string) {
	t = a.tasks[order.Term.Resizes]
	switch {
	case t == nil || t.judging || t.assignment.Order.Term == nil || !t.assignment.Order.Term.Resizes.IsZero():
		return nil, need{}, fmt.Sprintf("no such lease here: %s", order.Term.Resizes.Short())
	case t.assignment.Order.ConsumerAddress() != order.ConsumerAddress():
		return nil, need{}, fmt.Sprintf("lease %s is another consumer's", order.Term.Resizes.Short())
	case !job.SameWork(&t.assignment.Spec, spec):
		return nil, need{}, "the specification differs from the lease's in more than its cores and memory"
	}
	return t, needOf(spec).beyond(t.holds), ""
}

// cannotResize says why the node makes no bid for an order that resizes a lease.
func (a *Agent) cannotResize(order *chain.Order, spec *job.Spec) string {
	a.mu.Lock()
	t, more, decline := a.leaseToResize(order, spec)
	open := t != nil && t.opened
	a.mu.Unlock()
	if decline == "" && !open {
		decline = fmt.Sprintf("lease %s is not open", order.Term.Resizes.Short())
	}
	if decline != "" {
		return decline
	}
	a.capacity.mu.Lock()
	defer a.capacity.mu.Unlock()
	if lack := a.capacity.short(more); lack != "" {
		return "no room: " + lack + " more than the lease has"
	}
	return ""
}

// tendResize holds what a resized lease needs more, until the lease has it, and stays for as
// long as its terms hold. If there is no room it says so and waits for some: this node's bid stands
// until it expires, and whoever has the deal may resize the lease by it.
func (a *Agent) tendResize(ctx context.Context, t *task) error {
	if a.leases == nil {
		return errors.New("no lease is taken here: rpc is empty")
	}
	order := &t.assignment.Order
	a.mu.Lock()
	_, more, decline := a.leaseToResize(order, &t.assignment.Spec)
	a.mu.Unlock()
	if decline != "" {
		return errors.New(decline)
	}
	if err := writeFile(a.leaseFile(t.order), codec.Marshal(t.assignment)); err != nil {
		return err
	}
	r := &resizing{agent: a, task: t, more: more}
	if lack := r.grow(); lack != "" {
		a.log.Warn("agent: there is no room yet for what resizes a lease", "order", t.order.Short(), "reason", lack)
		a.broadcast(job.AssignReply{Order: t.order, Refuse: line("no room: " + lack)})
	}
	defer r.stop()
	ticker := time.NewTicker(leaseEvery)
	defer ticker.Stop()
	for {
		if err := r.look(ctx); err != nil {
			return err
		}
		select {
		case <-ticker.C:
			r.grow()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// resizing is an order that is to resize a lease, or has.
type resizing struct {
	agent  *Agent
	task   *task
	more   need
	height chain.Height // of the newest state that was seen
	lived  bool         // the lease was seen
	held   bool         // more is held
	handed bool         // the lease has what was held for it
}

// grow holds what the lease is to have more, or says what there is too little of.
func (r *resizing) grow() (lack string) {
	if !r.held {
		lack = r.agent.capacity.grow(r.more)
		r.held = lack == ""
	}
	return lack
}

// look asks the chain, and says why there is nothing to wait for any more.
func (r *resizing) look(ctx context.Context) error {
	a, as := r.agent, &r.task.assignment
	seen, err := a.leases(ctx, chain.LeaseID{Node: a.id, Order: as.Order.Term.Resizes})
	switch {
	case err != nil:
		if ctx.Err() == nil {
			a.log.Warn("agent: the chain cannot be asked about a lease", "order", r.task.order.Short(), "error", err)
		}
		return nil
	case seen.height < r.height:
		return nil
	}
	r.height, r.lived = seen.height, r.lived || seen.live
	tooLate := seen.at > min(as.Order.Deadline, as.Bid.Expiry)
	switch {
	case !seen.live && (r.lived || tooLate):
		return errLeaseOver
	case !seen.live:
		return nil
	case seen.lease.Order == r.task.order:
		r.handOver(as.Order.Term.Resizes)
		return nil
	case r.handed:
		return errSuperseded
	case tooLate:
		return errNotOpened
	}
	return nil
}

// handOver gives the lease what was held for it, once, as soon as it takes it.
func (r *resizing) handOver(lease crypto.Digest) {
	if r.handed {
		return
	}
	a := r.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	r.task.opened = true // no server ends it
	if lack := r.grow(); lack != "" {
		a.log.Error("agent: a lease was resized, and there is no room for it yet", "order", lease.Short(), "reason", lack)
		return
	}
	if t := a.tasks[lease]; t != nil {
		select {
		case t.resized <- resized{order: r.task.order, spec: r.task.assignment.Spec, more: r.more}:
			r.handed = true
		default: // it still makes something of another
		}
	}
}

// stop gives back what the lease did not get.
func (r *resizing) stop() {
	if r.held && !r.handed {
		r.agent.capacity.shrink(r.more)
	}
}

// resize ends the service, which begins again as an order that resized the lease says; or it goes
// on, if it was begun as that says. What was held for it may be too little by now, if another resize
// came between: then it waits until there is room.
func (k *tended) resize(to resized) {
	a, now, same := k.agent, needOf(&to.spec), to.spec.Digest() == k.spec.Digest()
	if w := k.wants; w != nil && w.order != to.order { // that has given way
		a.capacity.shrink(w.more)
	}
	has := k.need.plus(to.more)
	more := now.beyond(has)
	if lack := a.capacity.grow(more); lack != "" {
		if k.wants == nil || k.wants.order != to.order {
			a.log.Error("agent: a lease was resized, and there is no room for it yet", "order", k.task.order.Short(), "reason", lack)
		}
		k.wants = &to
		return
	}
	k.wants = nil
	if err := writeFile(a.termsFile(k.task.order), to.order[:]); err != nil {
		a.log.Error("agent: if this agent begins anew, a lease begins with the size that it had", "order", k.task.order.Short(), "error", err)
	}
	if !same {
		k.stop()
	}
	a.capacity.shrink(has.plus(more).beyond(now))
	k.spec, k.need = to.spec, now
	if same {
		return
	}
	k.failed, k.again = 0, time.Time{}
	a.mu.Lock()
	k.task.holds = now
	a.mu.Unlock()
	a.log.Info("agent: a lease was resized, and its service begins again", "order", k.task.order.Short(),
		"millicores", now.millicores, "memory_mib", now.memoryMiB)
	a.sayLoad()
}

// unseen has the lease be what the chain says that it keeps, if an order resized it that no server gave to this node:
// whoever has this node's bid and the cluster's award may post such a deal, and what is paid for from then on is that.
func (k *tended) unseen(lease *settlement.Lease) {
	a := k.agent
	a.mu.Lock()
	_, given := a.tasks[lease.Order]
	a.mu.Unlock()
	if given || lease.Order == k.task.order || k.wants != nil && k.wants.order == lease.Order {
		return
	}
	to := resized{order: lease.Order, spec: k.spec}
	r, limits := &to.spec.Resources, &to.spec.Limits
	r.Millicores, r.MemoryMiB = 0, 0
	for _, q := range lease.Resources {
		switch q.Resource {
		case chain.CPU:
			r.Millicores = q.Amount
		case chain.Memory:
			r.MemoryMiB = q.Amount
		case chain.Storage, chain.Network, chain.GPU: // are what they were: this node bids for no other
		}
	}
	if limits.MemoryBytes = min(limits.MemoryBytes, r.MemoryMiB<<20); to.spec.Resources == k.spec.Resources {
		return
	}
	a.log.Warn("agent: a lease was resized by an order that this node was not given", "order", k.task.order.Short(), "by", lease.Order.Short())
	k.resize(to)
}
