package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A lease that this node was given waits until somebody opens it on the chain. Then its
// service runs until the millisecond at which the lease ends, by what finalized states prove:
// no server begins it, prolongs it or ends it.

const (
	leaseEvery   = 2 * time.Second // looks at the chain
	leaseTimeout = 10 * time.Second
	// leaseWallMs stands for no time limit: a lease has an end of its own.
	leaseWallMs = uint64(100 * 365 * 24 * 3_600_000)
	leaseFuel   = 1 << 62
	// leaseSteady is after how long a service that ends by itself counts as having run.
	leaseSteady  = time.Minute
	maxLeaseFile = 1 << 20
)

var (
	errLeaseOver = errors.New("the lease is over")
	errNotOpened = errors.New("nobody opened the lease before its order's deadline and its bid's expiry")
)

// leaseState is what a finalized state has of a lease.
type leaseState struct {
	lease  settlement.Lease
	live   bool
	height chain.Height
	at     chain.TimeMs // the block's time
}

// leaseReader asks the chain about a lease.
type leaseReader func(ctx context.Context, id chain.LeaseID) (leaseState, error)

// lease is the leaseReader of the chain.
func (m *market) lease(ctx context.Context, id chain.LeaseID) (leaseState, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	v, err := m.client.VerifiedLease(ctx, id)
	if err != nil {
		return leaseState{}, err
	}
	out := leaseState{height: v.Height(), at: v.TimeMs()}
	out.lease, out.live = v.Get()
	return out, nil
}

// leasePrices returns the prices of what an order leases, or why there are none.
func (a *Agent) leasePrices(order *chain.Order, spec *job.Spec) ([]chain.UnitPrice, string) {
	if a.leases == nil {
		return nil, "no lease is taken here: rpc is empty, and nobody else can say when one begins and ends"
	}
	base := map[chain.Resource]uint64{chain.CPU: a.config.CPUPriceAtto, chain.Memory: a.config.MemoryPriceAtto, chain.GPU: a.config.GPUPriceAtto}
	if why := a.checkService(order.Term.Service, spec.InputBytes); why != "" {
		return nil, why
	}
	load := a.capacity.load()
	var table []chain.UnitPrice
	for _, q := range order.Term.Resources {
		limit, capped := order.Cap(q.Resource)
		own, offered := base[q.Resource]
		if !capped || !offered {
			return nil, fmt.Sprintf("%s is not leased here, or the order has no cap for it", q.Resource)
		}
		price, ok := priceAt(own, limit, a.config.SurchargePercent, load)
		if !ok {
			return nil, fmt.Sprintf("%s costs %d here, the order's cap is %d", q.Resource, own, limit)
		}
		table = append(table, chain.UnitPrice{Resource: q.Resource, Price: price})
	}
	rate, err := order.Rate(table)
	if err != nil {
		return nil, err.Error()
	}
	if least := chain.RateCost(rate, job.MinLeaseMs); order.MaxCost.Less(least) {
		return nil, fmt.Sprintf("the least of a lease costs %s here, the order holds %s", least, order.MaxCost)
	}
	return table, ""
}

// checkService says why service terms are not agreed to. Those of a resize begin with it, as those of a new lease
// do, and the service begins again: what nobody could keep from the first moment on would have the epochs be missed
// for which nothing is paid then. A bid binds, and the inputs come after it: there has to be time and room for them.
func (a *Agent) checkService(t *chain.ServiceTerms, inputBytes uint64) string {
	if t == nil {
		return ""
	}
	most, store := chain.Hyper(a.config.LeaseStakeHyper), a.config.storeBytes()
	fetch := a.config.fetchMs(inputBytes)
	least := uint64(a.config.LeaseStart.Milliseconds()) + fetch
	switch {
	case most.Less(t.Stake):
		return fmt.Sprintf("the service terms lock %s of the node's bond, at most %s is staked here (lease_stake_hyper)", t.Stake, most)
	case t.StartMs < least:
		return fmt.Sprintf("the service has to run %d ms after its terms begin, %d ms are wanted here at least: lease_start, and %d ms for %d bytes of inputs at %d KiB a second (bandwidth_kib)", t.StartMs, least, fetch, inputBytes, a.config.lineKiB())
	case inputBytes > store/2:
		return fmt.Sprintf("the inputs have %d bytes, half of the room for inputs and outputs is %d (disk_mib)", inputBytes, store/2)
	case t.ThroughputKiB > a.config.LeaseThroughputKiB:
		return fmt.Sprintf("the service terms promise %d KiB a second, at most %d are promised here (lease_throughput_kib)", t.ThroughputKiB, a.config.LeaseThroughputKiB)
	}
	return ""
}

func (a *Agent) leaseFile(order crypto.Digest) string {
	return filepath.Join(a.leaseDir, order.String())
}

// restoreLeases takes up the leases that an earlier process had.
func (a *Agent) restoreLeases() error {
	entries, err := os.ReadDir(a.leaseDir)
	if err != nil {
		return fmt.Errorf("agent: reading the leases: %w", err)
	}
	var list []job.Assignment
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), termsSuffix) {
			continue
		}
		as, err := a.readLease(e.Name())
		if err != nil {
			a.log.Error("agent: a lease cannot be read", "file", e.Name(), "error", err)
			continue
		}
		list = append(list, as)
	}
	slices.SortStableFunc(list, func(x, y job.Assignment) int { // what resizes a lease after it
		return x.Order.Term.Resizes.Compare(y.Order.Term.Resizes)
	})
	for i := range list {
		as := list[i]
		if _, _, refuse := a.takeAs(as, as.Order.ID(), a.resumed(&as, list)); refuse != "" {
			a.log.Error("agent: a lease is not taken up", "order", as.Order.ID().Short(), "reason", refuse)
		}
	}
	return nil
}

func (a *Agent) readLease(name string) (as job.Assignment, err error) {
	raw, err := os.ReadFile(filepath.Join(a.leaseDir, name))
	if err != nil {
		return as, err
	}
	if err := codec.Unmarshal(raw, &as, maxLeaseFile); err != nil {
		return as, err
	}
	if as.Order.Term == nil || as.Bid.Node != a.id || as.Order.ID().String() != name {
		return as, errors.New("it is not a lease of this node")
	}
	return as, job.CheckOrder(&as.Order, &as.Spec)
}

// keepLease sees a lease to its end. It is on disk until then.
func (a *Agent) keepLease(ctx context.Context, t *task) {
	log := a.log.With("order", t.order.Short())
	tend := a.tendLease
	if !t.assignment.Order.Term.Resizes.IsZero() {
		tend = a.tendResize
	}
	err := tend(ctx, t)
	_, unwanted := errors.AsType[*cancelled](err)
	if over := errors.Is(err, errLeaseOver); over || unwanted || errors.Is(err, errNotOpened) || errors.Is(err, errSuperseded) {
		if err := errors.Join(removeIfThere(a.leaseFile(t.order)), removeIfThere(a.termsFile(t.order))); err != nil {
			log.Error("agent: a lease that is over stays on disk", "error", err)
		}
	} else if !errors.Is(err, errStopping) {
		a.broadcast(job.AssignReply{Order: t.order, Refuse: line(err.Error())})
	}
	log.Info("agent: a lease is no longer kept", "reason", err)
	a.forget(t)
	select {
	case to := <-t.resized: // nobody makes anything of it any more
		a.capacity.shrink(to.more)
	default:
	}
	a.sayLoad()
}

// tended is a lease that the node waits for, or serves.
type tended struct {
	agent   *Agent
	task    *task
	spec    job.Spec     // what is run: the lease's, or of the order that resized it last
	need    need         // that is held for it
	height  chain.Height // of the newest state that was seen
	opened  bool
	expires chain.TimeMs

	end    context.CancelCauseFunc // of the service; nil: it does not run
	clock  *time.Timer             // ends it
	ended  chan error              // takes one: how it ended; nil: it does not run
	begun  time.Time
	failed int       // times in a row that it did not run for long
	again  time.Time // not before
	quit   bool      // it ended well, and is not begun again
	wants  *resized  // what the lease was resized to, as long as there is no room for it; nil: nothing
}

func (a *Agent) tendLease(ctx context.Context, t *task) error {
	if a.leases == nil {
		return errors.New("no lease is taken here: rpc is empty")
	}
	if err := writeFile(a.leaseFile(t.order), codec.Marshal(t.assignment)); err != nil {
		return err
	}
	n := needOf(t.resumed)
	waiting, stop := context.WithTimeoutCause(ctx, time.Minute, errExpired)
	err := a.capacity.acquire(waiting, n)
	stop()
	if err != nil {
		return err
	}
	k := &tended{agent: a, task: t, spec: *t.resumed, need: n}
	defer func() {
		if k.wants != nil {
			a.capacity.shrink(k.wants.more)
		}
		a.capacity.release(k.need)
	}()
	defer k.stop()
	ticker := time.NewTicker(leaseEvery)
	defer ticker.Stop()
	for {
		over, err := k.look(ctx)
		if over != nil {
			return over
		}
		if err != nil && ctx.Err() == nil {
			a.log.Warn("agent: the chain cannot be asked about a lease", "order", t.order.Short(), "error", err)
		}
		k.tend(ctx)
		select {
		case <-ticker.C:
			if k.wants != nil {
				k.resize(*k.wants)
			}
		case err := <-k.ended:
			k.rest(err)
		case to := <-t.resized:
			k.resize(to)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look asks the chain. over says why there is nothing to wait for any more; a state that is
// older than one that was seen says nothing.
func (k *tended) look(ctx context.Context) (over, err error) {
	a, order := k.agent, &k.task.assignment.Order
	seen, err := a.leases(ctx, chain.LeaseID{Node: a.id, Order: k.task.order})
	switch {
	case err != nil:
		return nil, err
	case seen.height < k.height:
		return nil, nil
	}
	k.height = seen.height
	switch {
	case seen.live:
		if !k.opened {
			a.log.Info("agent: a lease is open", "order", k.task.order.Short(), "until_ms", seen.lease.Expires)
		}
		a.mu.Lock()
		k.task.opened = true
		a.mu.Unlock()
		k.opened = true
		if k.expires != seen.lease.Expires {
			k.stopAt(seen.lease.Expires)
		}
		k.unseen(&seen.lease)
	case k.opened:
		return errLeaseOver, nil
	case seen.at > min(order.Deadline, k.task.assignment.Bid.Expiry): // the chain opens it no more
		return errNotOpened, nil
	}
	return nil, nil
}

// stopAt notes when the lease ends. A service that runs ends then, whatever else goes on.
func (k *tended) stopAt(expires chain.TimeMs) {
	k.expires = expires
	if k.clock != nil {
		k.clock.Reset(time.Until(timeOf(expires)))
	}
}

// tend has the service run, or not, as the lease says now.
func (k *tended) tend(ctx context.Context) {
	now := time.Now()
	if !k.opened || k.ended != nil || k.quit || now.Before(k.again) || timeMs(now) >= k.expires {
		return
	}
	ctx, end := context.WithCancelCause(ctx)
	k.end, k.begun, k.ended = end, now, make(chan error, 1)
	k.clock = time.AfterFunc(time.Until(timeOf(k.expires)), func() { end(errLeaseOver) })
	served := k.served()
	k.agent.running.Go(func() {
		r, err := k.agent.run(ctx, served)
		if err == nil && r.Exit != chain.ExitOK {
			err = fmt.Errorf("it ended with %s: %s", r.Exit, r.detail)
		}
		k.ended <- err
	})
}

// rest takes note that the service has ended. One that ended badly is begun again after a
// while, which is longer each time; one that ended well is not.
func (k *tended) rest(err error) {
	k.clock.Stop()
	k.end(nil)
	k.end, k.clock, k.ended = nil, nil, nil
	log := k.agent.log.With("order", k.task.order.Short())
	switch {
	case errors.Is(err, errLeaseOver):
		log.Info("agent: a leased service ended with its lease")
		return
	case err == nil:
		k.quit = true
		log.Info("agent: a leased service ended by itself")
		return
	}
	if time.Since(k.begun) > leaseSteady {
		k.failed = 0
	}
	k.failed++
	k.again = time.Now().Add(pauseAfter(k.failed))
	log.Warn("agent: a leased service failed, and is begun again", "error", err)
}

// stop ends the service, and waits until it has.
func (k *tended) stop() {
	if k.ended == nil {
		return
	}
	k.clock.Stop()
	k.end(errLeaseOver)
	if err := <-k.ended; err != nil && !errors.Is(err, errLeaseOver) && !errors.Is(err, errStopping) {
		k.agent.log.Warn("agent: a leased service that was ended failed", "order", k.task.order.Short(), "error", err)
	}
	k.ended = nil
}

// served is the task as it is run while its lease lives: without limits of time.
func (k *tended) served() *task {
	t := k.task
	as := t.assignment
	as.Spec = k.spec
	as.Spec.Limits.WallMs, as.Spec.Limits.Fuel = leaseWallMs, leaseFuel
	return &task{assignment: as, order: t.order, taken: t.taken, cancel: t.cancel, serving: t.serving, withheld: t.withheld}
}
