package scheduler_test

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// What histories have of leases, of those that resize them, and of what the chain says.

// lease makes an order one for a lease, or for what an open one is to be resized to.
func (h *history) lease(s scheduler.Submit) scheduler.Submit {
	s.Order.Policy = chain.PolicyField{Policy: chain.PolicyNone{}}
	s.Order.Caps = append(slices.Clone(s.Order.Caps), chain.UnitPrice{Resource: chain.GPU, Price: 10})
	slices.SortFunc(s.Order.Caps, func(a, b chain.UnitPrice) int { return int(a.Resource) - int(b.Resource) })
	s.Spec = spec()
	s.Spec.Work = job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}}}
	term := &chain.Term{NoticeMs: 60_000}
	if open := h.leases(func(j *scheduler.Job) bool { return j.Leased }); len(open) > 0 && h.number(0, 3, "resizes") > 0 {
		had := rapid.SampledFrom(open).Draw(h.t, "lease")
		s.Spec, s.Order.Consumer, term.Resizes = had.Spec, had.Order.Consumer, had.ID()
	} else if h.number(0, 2, "lease gpu") == 0 {
		s.Spec.Resources.GPUs, s.Spec.Resources.GPUMilli = uint64(h.number(1, 2, "gpus")), job.GPUWhole
	}
	s.Spec.Resources.Millicores = uint64(500 * h.number(1, 5, "cpu"))
	s.Spec.Resources.MemoryMiB = uint64(256 * h.number(1, 4, "memory"))
	term.Resources = job.Kept(&s.Spec)
	s.Order.Term, s.Order.Spec = term, s.Spec.Digest()
	h.ids = append(h.ids, s.Order.ID())
	return s
}

// nextOfLease brings an order for a lease further: bids for it, or the word that the chain has
// it; nil if there is none.
func (h *history) nextOfLease() scheduler.Command {
	var bidding []crypto.Digest
	for _, j := range h.state.Open() {
		if j.IsLease() && j.Status == job.Bidding {
			bidding = append(bidding, j.ID())
		}
	}
	given := h.leases(func(j *scheduler.Job) bool { return !j.Leased })
	switch {
	case len(given) > 0 && (len(bidding) == 0 || h.number(0, 1, "word") == 0):
		j := rapid.SampledFrom(given).Draw(h.t, "given")
		h.height++
		return scheduler.LeaseSeen{Order: j.ID(), Node: j.Award().Node, Height: h.height, Live: true, Opened: true}
	case len(bidding) > 0:
		return h.bids(rapid.SampledFrom(bidding).Draw(h.t, "bidding"))
	}
	return nil
}

// leases are the open orders for leases that were given to nodes, of one kind.
func (h *history) leases(of func(*scheduler.Job) bool) (list []*scheduler.Job) {
	for _, j := range h.state.Open() {
		if j.Award() != nil && of(j) {
			list = append(list, j)
		}
	}
	return list
}

// leaseSeen is what the chain says of a lease, or of what was to resize one; now and then of
// another.
func (h *history) leaseSeen(id crypto.Digest) scheduler.Command {
	seen := scheduler.LeaseSeen{Order: id, Node: h.node(1, 1), Height: h.height}
	if given := h.leases(func(*scheduler.Job) bool { return true }); len(given) > 0 && h.number(0, 9, "stray") > 0 {
		j := rapid.SampledFrom(given).Draw(h.t, "given")
		seen.Order, seen.Node = j.ID(), j.Award().Node
	}
	switch h.number(0, 9, "seen") {
	case 0, 1, 2, 3, 4, 5, 6:
		seen.Live, seen.Opened = true, true
	case 7:
		seen.Opened = true
	case 8:
		seen.Late = true
	}
	if seen.Opened && h.number(0, 9, "old") > 0 {
		h.height++
		seen.Height = h.height
	}
	return seen
}

// reported is what is said of a lease's service, or of a replicated job.
func (h *history) reported(id crypto.Digest) scheduler.Command {
	n := h.number(1, 6, "reporter")
	epoch := chain.ServiceEpoch{Lease: chain.LeaseID{Node: h.node(n, n), Order: id}, Terms: id, Epoch: uint64(h.number(0, 2, "epoch"))}
	if given := h.leases(func(*scheduler.Job) bool { return true }); len(given) > 0 {
		j := rapid.SampledFrom(given).Draw(h.t, "served")
		epoch.Lease, epoch.Terms = chain.LeaseID{Node: j.Award().Node, Order: j.ID()}, j.ID()
	}
	replicated := func(status job.Status) crypto.Digest {
		for _, j := range h.state.Open() {
			if _, ok := j.Order.Policy.Policy.(chain.PolicyReplicate); ok && j.Status == status {
				return j.ID()
			}
		}
		return id
	}
	switch h.number(0, 5, "reported") {
	case 0:
		return scheduler.FoundMiss{Report: chain.ReportMiss{Epoch: epoch, Reports: make(chain.ServiceReports, 3)}}
	case 1:
		return scheduler.ClosedMiss{Order: epoch.Lease.Order, Terms: epoch.Terms, Epoch: epoch.Epoch}
	case 2, 3:
		of := replicated(job.Running)
		if j, ok := h.state.Job(of); ok {
			for i := range j.Runs {
				for k := 1; k <= 6; k++ {
					if key(k).Public() == j.Runs[i].Node && j.Runs[i].Stage == scheduler.Live {
						n = k
					}
				}
			}
		}
		place := h.number(0, 2, "place")
		if j, ok := h.state.Job(of); ok && h.number(0, 3, "its own place") > 0 {
			place = max(slices.IndexFunc(j.OnChain.Replicas, func(r scheduler.Replica) bool { return r.Node == key(n).Public() }), 0)
		}
		return pledge(of, n, byte(place), 1)
	}
	c := scheduler.Observed{Order: replicated(job.Settling)}
	c.OnChain.Begun, c.OnChain.Revealing, c.OnChain.Owed = true, h.number(0, 1, "revealing") == 0, h.number(0, 3, "owed") == 0
	if j, ok := h.state.Job(c.Order); ok && h.number(0, 3, "other replicas") > 0 { // else the chain would be another
		for _, r := range j.OnChain.Replicas {
			c.OnChain.Replicas = append(c.OnChain.Replicas, scheduler.Replica{Node: r.Node, State: scheduler.ReplicaState(h.number(1, 5, "of one"))})
		}
		if n := len(c.OnChain.Replicas); n > 0 && h.number(0, 3, "behind") == 0 {
			c.OnChain.Replicas = c.OnChain.Replicas[:n-1]
		}
	}
	for k := 1; k <= 6; k++ {
		known := slices.ContainsFunc(c.OnChain.Replicas, func(r scheduler.Replica) bool { return r.Node == key(k).Public() })
		if state := scheduler.ReplicaState(h.number(0, 5, "replica")); state > 0 && !known {
			c.OnChain.Replicas = append(c.OnChain.Replicas, scheduler.Replica{Node: key(k).Public(), State: state})
		}
	}
	return c
}

// nextOfDispute brings an optimistic job further: bids for it, its end, or what the chain says of
// its claim; nil: there is none.
func (h *history) nextOfDispute() scheduler.Command {
	var list []*scheduler.Job
	for _, j := range h.state.Open() {
		if _, ok := j.Order.Policy.Policy.(chain.PolicyOptimistic); ok && j.Status != job.Queued {
			list = append(list, j)
		}
	}
	if len(list) == 0 {
		return nil
	}
	j := rapid.SampledFrom(list).Draw(h.t, "disputed")
	switch {
	case j.Status == job.Bidding:
		return h.bids(j.ID())
	case j.Status == job.Running:
		return h.ended(j.ID())
	case h.number(0, 2, "paid") == 0:
		return scheduler.Confirmed{Order: j.ID()}
	case h.number(0, 2, "seen") == 0:
		o := scheduler.Observed{Order: j.ID(), OnChain: scheduler.Replication{Begun: true, Height: 7}}
		for range h.number(0, 2, "claims") {
			o.OnChain.Replicas = append(o.OnChain.Replicas, scheduler.Replica{Node: key(h.number(1, 6, "whose")).Public(), State: scheduler.ReplicaShown})
		}
		return o
	}
	return h.refuted(j.ID())
}

// refuted is the word that a claim which waits was refuted; now and then of another node's, or of
// a job that has none.
func (h *history) refuted(id crypto.Digest) scheduler.Command {
	n := h.number(1, 6, "whose")
	if j, ok := h.state.Job(id); ok && len(j.Counted()) > 0 && h.number(0, 9, "stray") > 0 {
		for n = 1; key(n).Public() != j.Counted()[0].Node; {
			n++
		}
	}
	return refuted(id, n, h.number(0, 1, "wrong") == 0, uint64(h.number(0, 2, "kept"))*400_000_000)
}
