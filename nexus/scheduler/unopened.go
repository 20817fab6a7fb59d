package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// From its award until somebody opens it on the chain a lease holds room that nobody pays for: its bid binds the node, and
// binds no consumer. So what a consumer's leases hold that are not open yet is bounded twice, and more of its leases wait:
//
//   - together they hold no more than a quarter of what the connected nodes have, but that a first one is always given room: who
//     opens what it is given has the next at once;
//   - for each time for which it let some lapse the consumer is given none for unopenedWeight times as long, once that
//     adds up to more than unopenedBurst (a leaky bucket; ITU-T I.371, the generic cell rate algorithm). What lapsed at
//     the same time counts once: a consumer whose way to the chain fails is not held back for each lease.

const (
	unopenedShare  = 4
	unopenedWeight = 16
	unopenedBurst  = chain.TimeMs(3_600_000)
)

// heldRoom is what jobs hold of nodes.
type heldRoom struct{ millicores, memoryMiB, gpuMilli uint64 }

func roomOf(r *job.Resources) heldRoom { return heldRoom{r.Millicores, r.MemoryMiB, usedGPU(r)} }

func (r heldRoom) plus(o heldRoom) heldRoom {
	return heldRoom{r.millicores + o.millicores, r.memoryMiB + o.memoryMiB, r.gpuMilli + o.gpuMilli}
}

func (r heldRoom) minus(o heldRoom) heldRoom {
	return heldRoom{r.millicores - o.millicores, r.memoryMiB - o.memoryMiB, r.gpuMilli - o.gpuMilli}
}

// unopened is what a job's nodes hold for a lease that the chain was not seen to have: from its auction on until it has, or
// until no bid can be posted any more, of a job that has ended too. Of a resize it is all that the lease is to have.
func (j *Job) unopened() heldRoom {
	if !j.IsLease() || j.Leased || j.Status != job.Bidding && j.Award() == nil && j.Held == 0 {
		return heldRoom{}
	}
	return roomOf(&j.Spec.Resources)
}

// countUnopened keeps the sum of what a consumer's leases hold that are not open.
func (s *State) countUnopened(j *Job) {
	now := j.unopened()
	if now == j.counted {
		return
	}
	account := s.accounts[j.consumer]
	account.unopened = account.unopened.minus(j.counted).plus(now)
	j.counted = now
	if now == (heldRoom{}) {
		s.letGo(account)
	}
}

// unopenedLimit says why a consumer is given no room for another lease now, and until when at least, if that is known; empty: it is.
func (s *State) unopenedLimit(a *Account, j *Job) (why string, until chain.TimeMs) {
	if a.Lapsed > s.now+unopenedBurst {
		until = a.Lapsed - unopenedBurst
		return fmt.Sprintf("leases that the consumer was given and did not open held room for nothing: it is given no other before %d", until), until
	}
	with, total := a.unopened.plus(roomOf(&j.Spec.Resources)), s.census.total
	for _, r := range []struct {
		what             string
		with, has, total uint64
	}{
		{"millicores", with.millicores, a.unopened.millicores, total.Millicores},
		{"MiB of memory", with.memoryMiB, a.unopened.memoryMiB, total.MemoryMiB},
		{"thousandths of GPUs", with.gpuMilli, a.unopened.gpuMilli, total.GPUs * job.GPUWhole},
	} {
		if a.unopened != (heldRoom{}) && r.with > r.has && r.with > r.total/unopenedShare {
			return fmt.Sprintf("leases of the consumer that are not open yet hold %d %s, and would with this one hold more than a quarter of the cluster's %d", r.has, r.what, r.total), 0
		}
	}
	return "", 0
}

// letLapse notes that nobody opens the lease that a job was awarded, for which its node holds room until then.
func (s *State) letLapse(j *Job, until chain.TimeMs) {
	run := j.Award()
	if run == nil || j.Leased {
		return
	}
	a := s.accounts[j.consumer]
	since := max(run.Since, a.LapsedTo)
	if until <= since {
		return
	}
	a.Lapsed, a.LapsedTo = max(a.Lapsed, s.now)+unopenedWeight*(until-since), until
}

// auditUnopened checks countUnopened.
func (s *State) auditUnopened() {
	sums := map[chain.Address]heldRoom{}
	for _, j := range s.jobs { // order-free: sums commute
		sums[j.consumer] = sums[j.consumer].plus(j.unopened())
	}
	for consumer, a := range s.accounts { // order-free: each is judged alone
		if a.unopened != sums[consumer] {
			panic(fmt.Sprintf("scheduler: leases of %s that are not open hold %+v, counted %+v", consumer, a.unopened, sums[consumer]))
		}
	}
}
