package scheduler

import (
	"fmt"
	"math"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/nexus/job"
)

func (s *State) submit(c Submit) ([]Effect, error) {
	id := c.Order.ID()
	if _, known := s.jobs[id]; known {
		return nil, nil // submitted again: the answer is the same job
	}
	s.letPastGo()
	if _, past := s.pastOrders[id]; past {
		return nil, reject("late", "the job has ended, and made room for others")
	}
	if err := job.CheckOrder(&c.Order, &c.Spec); err != nil {
		return nil, reject("spec", "%v", err)
	}
	if err := s.checkOrder(&c); err != nil {
		return nil, err
	}
	consumer := c.Order.ConsumerAddress()
	size := len(c.Spec.Encode())
	if err := s.checkRoom(&c, consumer, size); err != nil {
		return nil, err
	}
	if err := s.checkGang(consumer, &c); err != nil {
		return nil, err
	}
	if err := s.checkAfter(consumer, &c.Spec); err != nil {
		return nil, err
	}
	if err := s.checkCircle(consumer, &c.Spec); err != nil {
		return nil, err
	}
	account := s.accounts[consumer]
	if account == nil {
		account = &Account{Consumer: consumer, Sequence: s.floor, Settled: s.settled, Since: s.since}
	}
	outstanding, ok := account.Outstanding.Add(c.Order.MaxCost)
	switch {
	case c.Height < account.Settled:
		return nil, reject("stale", "the escrow was read at height %d, before the settlement of block %d", c.Height, account.Settled)
	case c.TimeMs < account.Since:
		return nil, reject("stale", "the escrow was read as of %d, and could be spent for an order that is over before %d", c.TimeMs, account.Since)
	case !ok || c.Escrow.Less(outstanding):
		return nil, reject("escrow", "escrow of %s does not cover %s outstanding and this order's cap of %s", c.Escrow, account.Outstanding, c.Order.MaxCost)
	}
	s.makeRoom(s.accounts[consumer], size)
	if err := s.checkAfter(consumer, &c.Spec); err != nil {
		return nil, err // what it comes after has made room
	}
	s.accounts[consumer] = account
	account.Sequence = s.nextSequence(account.Sequence, c.TimeMs)
	account.Kept++
	account.Outstanding = outstanding
	acceptance := chain.Acceptance{ChainID: s.config.ChainID, Order: id, Cluster: c.Order.Cluster, Sequence: account.Sequence, Outstanding: outstanding}
	s.arrivals++
	j := &Job{
		Order: c.Order, OrderSig: c.OrderSig, Spec: c.Spec, Acceptance: acceptance, Arrival: s.arrivals, Submitted: s.now,
		id: id, consumer: consumer, size: size,
	}
	s.list(j)
	s.open.put(place{arrival: j.Arrival}, j)
	s.setStatus(j, job.Queued, "")
	if j.Order.Term != nil && !j.Order.Term.Resizes.IsZero() {
		j.resizes = s.jobs[j.Order.Term.Resizes] // which checkOrder found
		j.resizes.resizing = j
	}
	s.count(&j.Spec.Resources)
	s.joinGang(j)
	if !s.await(j) {
		return s.end(j, job.Failed, j.Reason), nil
	}
	return s.advance(j), nil
}

// sequencesAMs is how many sequences a consumer's acceptances have for each millisecond.
const sequencesAMs = 1_000

// nextSequence returns the sequence of a consumer's next acceptance: above the last, and
// not below the time since 1970 in microseconds. A cluster that has lost what it knew, and
// begins anew, so gives none again that it gave before, which would cost it its bond. The
// time is that of the log or of the chain, whichever is later: a clock that was set back is
// not enough to repeat one.
func (s *State) nextSequence(last uint64, chainMs chain.TimeMs) uint64 {
	at, ok := checked.Mul(uint64(max(s.now, chainMs)), sequencesAMs)
	if !ok {
		at = 0
	}
	return max(last+1, at)
}

// checkOrder says why the chain would not pay for the order's work.
func (s *State) checkOrder(c *Submit) error {
	o := &c.Order
	switch {
	case o.ChainID != s.config.ChainID:
		return reject("chain", "order is for chain %s, this is %s", o.ChainID, s.config.ChainID)
	case o.Cluster != s.config.Cluster:
		return reject("cluster", "order's home cluster is %s, this is %s", o.Cluster.Short(), s.config.Cluster.Short())
	case o.Deadline <= s.now:
		return reject("deadline", "deadline %d is past, it is %d", o.Deadline, s.now)
	case o.MaxCost.IsZero():
		return reject("cost", "max cost is zero")
	}
	if err := s.checkResize(c); err != nil {
		return err
	}
	if !s.config.Liable(o, c.TimeMs) {
		return reject("deadline", "deadline %d and the claim window of %d ms end after a withdrawal made now: longer work is a lease", o.Deadline, s.config.ClaimWindowMs)
	}
	if p, ok := o.Policy.Policy.(chain.PolicyZK); ok && (p.VerifyingKey.IsZero() || s.config.Kernels[p.Kernel] != p.VerifyingKey) {
		return reject("kernel", "the chain does not pin verifying key %s for kernel %q", p.VerifyingKey.Short(), p.Kernel)
	}
	return nil
}

// Liable reports whether an escrow that was read at a block of that time is
// liable for an order: what is withdrawn after that block matures at least the
// delay after it, and until then claims reach it (settlement.md).
func (c *Config) Liable(o *chain.Order, at chain.TimeMs) bool {
	expires, ok1 := checked.Add(uint64(o.Deadline), c.ClaimWindowMs)
	liable, ok2 := checked.Add(uint64(at), c.WithdrawalDelayMs)
	return ok1 && ok2 && expires <= liable
}

// checkRoom says which bound of the cluster the order is beyond.
func (s *State) checkRoom(c *Submit, consumer chain.Address, size int) error {
	account := s.accounts[consumer]
	share := account
	if share == nil {
		share = &Account{Consumer: consumer} // one that was forgotten may have a past
	}
	if err := s.checkShare(share, size); err != nil {
		return err
	}
	switch {
	case len(s.jobs) >= s.config.MaxJobs && s.spare() == 0:
		return reject("full", "the cluster keeps %d jobs, its limit", s.config.MaxJobs)
	case s.specBytes+size > s.config.MaxSpecBytes && (s.specBytes-s.doneBytes+size > s.config.MaxSpecBytes || s.spare() < s.done.n):
		return reject("full", "the cluster keeps %d bytes of specifications, limit %d", s.specBytes, s.config.MaxSpecBytes)
	case s.outbox.n >= s.config.MaxOutbox:
		return reject("full", "%d jobs wait for the chain to settle them, the limit", s.outbox.n)
	case s.queue.n >= s.config.MaxRequests:
		return reject("full", "%d different requests wait for capacity, the limit", s.queue.n)
	case account == nil && len(s.accounts) >= s.config.MaxAccounts:
		return reject("full", "the cluster has %d consumers, its limit", s.config.MaxAccounts)
	}
	return nil
}

// full reports whether a consumer may have no more jobs in auctions: each of
// those that it has may come to wait for the chain.
func (s *State) full(a *Account, more int) bool {
	return a.active+more > s.config.MaxActive || a.active+a.outbox+more > s.config.MaxOutboxOf
}

// replicas returns how many agreeing results the policy asks for, and how many
// nodes it allows in all.
func (j *Job) replicas() (k, n int) {
	switch p := j.Order.Policy.Policy.(type) {
	case chain.PolicyNone, chain.PolicyOptimistic:
		return 1, 1
	case chain.PolicyReplicate:
		return int(p.K), int(p.N)
	case chain.PolicyZK:
		return 1, 1
	}
	panic(fmt.Sprintf("scheduler: policy of type %T", j.Order.Policy.Policy))
}

// count returns how many runs are live, ended and lost; those that the cluster
// ended itself do not count.
func (j *Job) count() (live, ended, lost int) {
	for i := range j.Runs {
		switch j.Runs[i].Stage {
		case Live:
			live++
		case Ended, Pledged:
			ended++
		case Lost:
			if !j.Runs[i].Blameless {
				lost++
			}
		case Refuted:
			lost++
		}
	}
	return live, ended, lost
}

// wanted returns how many nodes have to bid for the job, and room to be kept, before it can
// begin; 0 once it has. Under replicate one of them begins it, and the chain draws among
// all who bid.
func (j *Job) wanted() int {
	if live, ended, _ := j.count(); live+ended > 0 {
		return 0
	}
	k, _ := j.replicas()
	return k
}

// advance takes the job as far as it goes now: to its claims, to another
// auction, or to its end. An open auction goes on from where it is closed.
func (s *State) advance(j *Job) []Effect {
	if j.Status.Final() || j.Status == job.Settling {
		return nil
	}
	live, ended, lost := j.count()
	if ended > 0 {
		return s.settle(j)
	}
	if j.Status == job.Bidding {
		s.reschedule(j)
		return nil
	}
	switch {
	case lost >= s.config.MaxAttempts:
		return s.end(j, job.Failed, fmt.Sprintf("%d assignments were lost, the last because %s", lost, j.lastLoss()))
	case live > 0:
		s.unqueue(j)
		if j.Status != job.Running {
			s.setStatus(j, job.Running, "")
		}
		s.reschedule(j)
		return nil
	}
	return s.auction(j, false)
}

func (j *Job) lastLoss() string {
	for i := len(j.Runs) - 1; i >= 0; i-- {
		if stage := j.Runs[i].Stage; stage == Lost || stage == Refuted {
			return j.Runs[i].Reason
		}
	}
	return ""
}

// post lists a job among those whose claims wait for the chain.
func (s *State) post(j *Job) {
	s.outbox.put(place{at: j.Outbox, arrival: j.Arrival}, j)
	s.accounts[j.consumer].outbox++
}

// unpost ends what post began.
func (s *State) unpost(j *Job) {
	s.outbox.drop(place{at: j.Outbox, arrival: j.Arrival})
	account := s.accounts[j.consumer]
	account.outbox--
	s.letGo(account)
}

// letGo notes that a consumer may have one more active job.
func (s *State) letGo(a *Account) {
	if a.parked.n > 0 {
		s.freed = append(s.freed, a)
	}
}

// settle puts the claims of a finished job into the outbox, and ends what still
// runs for it.
func (s *State) settle(j *Job) []Effect {
	s.unqueue(j)
	s.vacate(j)
	effects := s.endRuns(j, "its result is there")
	s.setStatus(j, job.Settling, "")
	s.cursor++
	j.Outbox = s.cursor
	s.post(j)
	s.reschedule(j)
	if !j.replicated() { // else its result does not count before the chain says so
		s.ended = append(s.ended, j)
	}
	return append(effects, Post{Cursor: j.Outbox})
}

// Counted returns the runs whose result counts: the one that ended, or under replicate those
// that the chain paid.
func (j *Job) Counted() []*Run {
	var out []*Run
	for i := range j.Runs {
		run := &j.Runs[i]
		if run.Stage == Ended && (!j.replicated() || j.Settlement != nil && slices.Contains(j.Settlement.Nodes, run.Node)) {
			out = append(out, run)
		}
	}
	return out
}

// Claims returns what is posted for a job that is not replicated, without the cluster's
// signatures, and of a sealed output without its key as long as the node keeps that.
func (j *Job) Claims() []chain.Claim {
	if j.replicated() {
		return nil
	}
	counted := j.Counted()
	out := make([]chain.Claim, 0, len(counted))
	for _, run := range counted {
		assignment := j.assignment(run)
		c := assignment.Claim(run.Done)
		c.OutputKey = run.Key
		out = append(out, c)
	}
	return out
}

func (j *Job) assignment(run *Run) job.Assignment {
	devices := run.Devices
	if j.resizes != nil { // the lease keeps those that it has
		if award := j.resizes.Award(); award != nil {
			devices = award.Devices
		}
	}
	place, _ := j.place(run.Node)
	return job.Assignment{
		Order: j.Order, OrderSig: j.OrderSig, Acceptance: j.Acceptance,
		Bid: run.Bid, BidSig: run.BidSig, Spec: j.Spec, Sequence: 1, Input: j.Input, Devices: devices, Place: place,
	}
}

// end makes a job final: its runs end, and its cap is no longer outstanding,
// unless a node was given the order and may still prove its work to the chain,
// which asks nobody else, or the consumer may have it paid without the cluster.
func (s *State) end(j *Job, status job.Status, reason string) []Effect {
	s.unqueue(j)
	s.vacate(j)
	s.forgo(j)
	effects := append(s.endRuns(j, reason), j.letPledgesGo(reason)...)
	effects = append(effects, s.endResizes(j)...)
	if j.Outbox != 0 {
		s.unpost(j)
	}
	if j.Outbox == 0 || j.replicated() {
		s.ended = append(s.ended, j) // no others wait for one whose result counted before
	}
	s.setStatus(j, status, reason)
	if j.Held = s.spendable(j); j.Held == 0 {
		s.free(j)
		s.retire(j)
	}
	s.countUnopened(j)
	s.open.drop(place{arrival: j.Arrival})
	s.reschedule(j)
	for _, m := range s.leaveGang(j) {
		effects = append(effects, s.end(m, job.Failed, "an order of its gang ended before it began")...)
	}
	return effects
}

// Covered reports whether the chain holds what a job may cost elsewhere than in its consumer's escrow, or did: for its lease, or since
// its runs began. Its cap is not outstanding then.
func (j *Job) Covered() bool { return j.Leased || j.replicated() && j.OnChain.Begun }

// spendable is until when, by the time of its blocks, the chain may spend the cap of a job that has ended, though it is not settled: its cap stays
// outstanding until then. 0: it may not. Of a lease it may as long as the bid of a node that was given it stands: the deals
// were shown.
func (s *State) spendable(j *Job) (until chain.TimeMs) {
	_, zk := j.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case j.Status == job.Settled:
	case zk && len(j.Runs) > 0 || j.Order.Countersignable:
		until = j.Order.Deadline + chain.TimeMs(s.config.ClaimWindowMs)
	case j.IsLease():
		for i := range j.Runs {
			until = max(until, min(j.Order.Deadline, j.Runs[i].Bid.Expiry))
		}
	}
	return until
}

// lapse notes that a job's cap is let go because its time is over. The chain may have spent it until then without a word to the cluster, and its
// clock may be behind: so only what an escrow held after that time, by the chain's blocks, covers another order.
func (s *State) lapse(j *Job, until chain.TimeMs) {
	if j.Covered() {
		return
	}
	account := s.accounts[j.consumer]
	account.Since = max(account.Since, until+1)
}

// letCapGo lets the cap of a job that has ended go, which can be spent no more.
func (s *State) letCapGo(j *Job) {
	j.Held = 0
	s.free(j)
	s.retire(j)
	s.countUnopened(j)
	s.reschedule(j)
}

// free takes a job's cap out of its consumer's outstanding total.
func (s *State) free(j *Job) {
	if j.Covered() {
		return // when that was seen
	}
	account := s.accounts[j.consumer]
	rest, ok := account.Outstanding.Sub(j.Order.MaxCost)
	if !ok {
		panic("scheduler: outstanding total below a job's cap")
	}
	account.Outstanding = rest
}

func (s *State) cancelJob(c CancelJob) ([]Effect, error) {
	j := s.jobs[c.Order]
	switch {
	case j == nil:
		return nil, reject("unknown", "job %s is not known", c.Order.Short())
	case j.Status == job.Settling:
		return nil, reject("late", "it has run, and is settling on the chain")
	case j.Status == job.Settled:
		return nil, reject("late", "it has run, and is settled on the chain")
	case j.Status.Final():
		return nil, nil
	case j.Leased:
		return nil, reject("late", "lease %s is open: the chain ends it, upon notice", c.Order.Short())
	}
	s.letLapse(j, j.OpenUntil()) // so long the bid binds its node
	return s.end(j, job.Cancelled, "cancelled by the consumer"), nil
}

func (s *State) confirmed(c Confirmed) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil || j.Status != job.Settling {
		return nil, nil
	}
	if c.Refuted != nil {
		return s.refuted(j, &c)
	}
	if c.Failure != "" {
		return s.end(j, job.Failed, "the chain refused the claims: "+c.Failure), nil
	}
	record := c.Outcome
	cost, ok := record.Cost.Add(j.Spent)
	if !ok {
		return nil, reject("cost", "%s beside %s for refuted claims does not fit an amount", record.Cost, j.Spent)
	}
	record.Cost = cost
	j.Settlement = &record
	account := s.accounts[j.consumer]
	account.Settled = max(account.Settled, record.Height)
	return s.end(j, job.Settled, ""), nil
}

// setStatus is the only one that changes it.
func (s *State) setStatus(j *Job, status job.Status, reason string) {
	if j.Status.Final() {
		panic(fmt.Sprintf("scheduler: final job %s becomes %s", j.id.Short(), status))
	}
	s.recount(j.Status, status)
	j.Status, j.Reason, j.Changed = status, reason, s.now
	s.changed(j)
}

// recount counts a job whose status changes; zero stands for none.
func (s *State) recount(from, to job.Status) {
	s.byStatus[from]--
	s.byStatus[to]++
	s.byStatus[0] = 0
}

// list adds a job to those that are kept.
func (s *State) list(j *Job) {
	s.jobs[j.id] = j
	s.specBytes += j.size
	s.all.put(j.newest(), j)
	account := s.accounts[j.consumer]
	account.jobs.put(j.newest(), j)
	account.specBytes += j.size
}

// touch notes that the entry under way changed a job.
func (s *State) touch(j *Job) {
	if j.touched != s.entries {
		j.touched = s.entries
		s.touched = append(s.touched, j)
	}
}

// Backed reports whether a part of the cluster's bond, and of a node's, is promised for the job, or locked: it locks some,
// and a node has it, or has done it. Before, it may find nobody, and takes nothing from jobs that do.
func (j *Job) Backed() bool {
	switch j.Order.Policy.Policy.(type) {
	case chain.PolicyReplicate, chain.PolicyOptimistic:
		return !j.Status.Final() && j.Holder() != nil
	case chain.PolicyNone, chain.PolicyZK:
	}
	return false
}

// Holder returns the run of the node that the job was given to; nil: none. Under replicate it is the first. Treat it as read-only.
func (j *Job) Holder() *Run {
	for i := range j.Runs {
		if stage := j.Runs[i].Stage; stage == Live || stage == Pledged || stage == Ended {
			return &j.Runs[i]
		}
	}
	return nil
}

// LockedFrom is from which height on the chain knows of what is promised for the job, and has it locked; the highest of all: it is not
// known to know of it. A state before that may lack it.
func (j *Job) LockedFrom() chain.Height {
	if !j.OnChain.Begun {
		return math.MaxUint64
	}
	return j.OnChain.Height
}

// backs keeps the list of jobs for which a part of the cluster's bond is promised.
func (s *State) backs(j *Job) {
	backed := j.Backed()
	if backed == j.backed {
		return
	}
	if j.backed = backed; backed {
		s.backed.put(place{arrival: j.Arrival}, j)
	} else {
		s.backed.drop(place{arrival: j.Arrival})
	}
}

// changed keeps count of a consumer's active jobs, of what is due when, and of what a part of the cluster's
// bond is promised for.
func (s *State) changed(j *Job) {
	s.touch(j)
	s.reschedule(j)
	s.backs(j)
	s.countUnopened(j)
	live, _, _ := j.count()
	active := !j.Status.Final() && (j.Status == job.Bidding || live > 0)
	if active == j.active {
		return
	}
	account := s.accounts[j.consumer]
	j.active = active
	if active {
		account.active++
		return
	}
	account.active--
	s.letGo(account)
}
