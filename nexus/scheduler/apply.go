package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// Rejection says which rule a command broke; the state is as it was.
type Rejection struct {
	Rule string // short and stable, for programs
	Text string // for people
}

// Error returns the text.
func (r *Rejection) Error() string { return r.Text }

func reject(rule, format string, args ...any) error {
	return &Rejection{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

// Apply carries out one command. The error, if any, is a *Rejection.
func (s *State) Apply(e Entry) ([]Effect, error) {
	s.now = max(s.now, e.TimeMs)
	effects, err := s.dispatch(e.Command)
	if err == nil {
		s.assertInvariants()
	}
	return effects, err
}

func (s *State) dispatch(c Command) ([]Effect, error) {
	switch c := c.(type) {
	case Submit:
		return s.submit(c)
	case NodeUp:
		return s.nodeUp(c)
	case NodeDown:
		return s.nodeDown(c)
	case NodeLoad:
		return s.nodeLoad(c)
	case CloseAuction:
		return s.closeAuction(c)
	case Refused:
		return s.refused(c)
	case Finished:
		return s.finished(c)
	case CancelJob:
		return s.cancelJob(c)
	case Confirmed:
		return s.confirmed(c)
	case Tick:
		return s.tick()
	}
	panic(fmt.Sprintf("scheduler: command of type %T", c))
}

func (s *State) submit(c Submit) ([]Effect, error) {
	id := c.Order.ID()
	if _, known := s.jobs[id]; known {
		return nil, nil // submitted again: the answer is the same job
	}
	if err := job.CheckOrder(&c.Order, &c.Spec); err != nil {
		return nil, reject("spec", "%v", err)
	}
	if err := s.checkOrder(&c); err != nil {
		return nil, err
	}
	size := len(c.Spec.Encode())
	if err := s.checkRoom(&c, size); err != nil {
		return nil, err
	}
	consumer := c.Order.ConsumerAddress()
	account := s.accounts[consumer]
	if account == nil {
		account = &Account{Consumer: consumer, Sequence: s.floor}
	}
	outstanding, ok := account.Outstanding.Add(c.Order.MaxCost)
	switch {
	case c.Height < account.Settled:
		return nil, reject("stale", "the escrow was read at height %d, before the settlement of block %d", c.Height, account.Settled)
	case !ok || c.Escrow.Less(outstanding):
		return nil, reject("escrow", "escrow of %s does not cover %s outstanding and this order's cap of %s", c.Escrow, account.Outstanding, c.Order.MaxCost)
	}
	s.accounts[consumer] = account
	account.Sequence++
	account.Kept++
	account.Outstanding = outstanding
	acceptance := chain.Acceptance{ChainID: s.config.ChainID, Order: id, Cluster: c.Order.Cluster, Sequence: account.Sequence, Outstanding: outstanding}
	j := &Job{
		Order: c.Order, OrderSig: c.OrderSig, Spec: c.Spec, Acceptance: acceptance, Submitted: s.now,
		AcceptanceSig: s.config.ClusterKey.Sign(crypto.DomainAcceptance, acceptance.Payload()),
	}
	s.jobs[id] = j
	s.specBytes += size
	s.open = append(s.open, id)
	s.setStatus(j, job.Queued, "")
	return s.advance(j), nil
}

// checkOrder says why the chain would not pay for the order's work.
func (s *State) checkOrder(c *Submit) error {
	o := &c.Order
	switch {
	case o.ChainID != s.config.ChainID:
		return reject("chain", "order is for chain %s, this is %s", o.ChainID, s.config.ChainID)
	case o.Cluster != s.config.ClusterKey.Public():
		return reject("cluster", "order's home cluster is %s, this is %s", o.Cluster.Short(), s.config.ClusterKey.Public().Short())
	case o.Deadline <= s.now:
		return reject("deadline", "deadline %d is past, it is %d", o.Deadline, s.now)
	case o.MaxCost.IsZero():
		return reject("cost", "max cost is zero")
	}
	// What is withdrawn after the block that the escrow was read at matures at
	// least the delay after it: until then claims reach it (settlement.md).
	expires, ok1 := checked.Add(uint64(o.Deadline), s.config.ClaimWindowMs)
	liable, ok2 := checked.Add(uint64(c.TimeMs), s.config.WithdrawalDelayMs)
	if !ok1 || !ok2 || expires > liable {
		return reject("deadline", "deadline %d and the claim window of %d ms end after a withdrawal made now: longer work is a lease", o.Deadline, s.config.ClaimWindowMs)
	}
	if p, ok := o.Policy.Policy.(chain.PolicyZK); ok && (p.VerifyingKey.IsZero() || s.config.Kernels[p.Kernel] != p.VerifyingKey) {
		return reject("kernel", "the chain does not pin verifying key %s for kernel %q", p.VerifyingKey.Short(), p.Kernel)
	}
	return nil
}

// checkRoom says which bound of the cluster the order is beyond.
func (s *State) checkRoom(c *Submit, size int) error {
	account := s.accounts[c.Order.ConsumerAddress()]
	switch {
	case len(s.jobs) >= s.config.MaxJobs:
		return reject("full", "the cluster keeps %d jobs, its limit", s.config.MaxJobs)
	case s.specBytes+size > s.config.MaxSpecBytes:
		return reject("full", "the cluster keeps %d bytes of specifications, limit %d", s.specBytes, s.config.MaxSpecBytes)
	case len(s.outbox) >= s.config.MaxOutbox:
		return reject("full", "%d jobs wait for the chain to settle them, the limit", len(s.outbox))
	case account == nil && len(s.accounts) >= s.config.MaxAccounts:
		return reject("full", "the cluster has %d consumers, its limit", s.config.MaxAccounts)
	case account != nil && account.Kept >= uint64(s.config.MaxPerConsumer):
		return reject("quota", "the cluster keeps %d jobs of this consumer, its limit", s.config.MaxPerConsumer)
	}
	return nil
}

func (s *State) nodeUp(c NodeUp) ([]Effect, error) {
	h := &c.Hello
	n := s.nodes[c.Node]
	if n == nil {
		if len(s.nodes) >= s.config.MaxNodes && !s.forgetNode() {
			return nil, reject("full", "the cluster has %d nodes, its limit", s.config.MaxNodes)
		}
		n = &Node{ID: c.Node}
		s.nodes[c.Node] = n
	}
	if h.Total.Millicores < n.Used.Millicores || h.Total.MemoryMiB < n.Used.MemoryMiB {
		return nil, reject("capacity", "node offers less than its running work holds")
	}
	n.Owner, n.Region, n.Total, n.Kernels = h.Owner, h.Region, h.Total, h.Kernels
	n.Connected, n.Accepting = true, h.Accepting
	effects := s.reconcile(n, h)
	return append(effects, s.retryOn(n)...), nil
}

// forgetNode makes room for a node: of those that are not connected, and so run
// nothing, the one that ended the least work goes.
func (s *State) forgetNode() bool {
	var least *Node
	for _, n := range s.nodes { // order-free: the least of a total order
		if !n.Connected && (least == nil || cmp.Or(cmp.Compare(n.Finished, least.Finished), n.ID.Compare(least.ID)) < 0) {
			least = n
		}
	}
	if least == nil {
		return false
	}
	delete(s.nodes, least.ID)
	return true
}

// reconcile compares what a node says it holds with its live runs. An assignment
// that it does not hold was sent and not received, or the node lost its memory
// of it: it is sent again, unless its bid has expired and no such work would be
// paid. What it runs without an assignment is ended.
func (s *State) reconcile(n *Node, h *job.Hello) []Effect {
	var effects []Effect
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		run := j.liveOn(n.ID)
		switch {
		case run == nil || slices.Contains(h.Running, id) || slices.Contains(h.Finished, id):
		case run.Bid.Expiry < s.now:
			s.lose(j, n.ID, "the bid expired before the node had the assignment")
			effects = append(effects, s.advance(j)...)
		default:
			effects = append(effects, SendAssign{Node: n.ID, Assignment: j.assignment(run)})
		}
	}
	for _, id := range h.Running {
		if j := s.jobs[id]; j == nil || j.liveOn(n.ID) == nil {
			effects = append(effects, SendCancel{Node: n.ID, Order: id, Reason: "the assignment was given to others"})
		}
	}
	return effects
}

// liveOn returns the job's live run on a node, or nil.
func (j *Job) liveOn(node crypto.PublicKey) *Run {
	for i := range j.Runs {
		if j.Runs[i].Node == node && j.Runs[i].Stage == Live {
			return &j.Runs[i]
		}
	}
	return nil
}

func (s *State) nodeDown(c NodeDown) ([]Effect, error) {
	n := s.nodes[c.Node]
	if n == nil || !n.Connected {
		return nil, nil
	}
	n.Connected = false
	var effects []Effect
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		if s.lose(j, c.Node, "its node went away") {
			effects = append(effects, s.advance(j)...)
		}
	}
	return effects, nil
}

func (s *State) nodeLoad(c NodeLoad) ([]Effect, error) {
	n := s.nodes[c.Node]
	if n == nil {
		return nil, reject("node", "node %s is not known", c.Node.Short())
	}
	if n.Accepting == c.Accepting {
		return nil, nil
	}
	n.Accepting = c.Accepting
	return s.retryOn(n), nil
}

// lose ends a live run without a result, and reports whether there was one.
func (s *State) lose(j *Job, node crypto.PublicKey, reason string) bool {
	run := j.liveOn(node)
	if run == nil {
		return false
	}
	run.Stage, run.Reason, run.Since = Lost, reason, s.now
	s.release(run, j)
	s.nodes[node].Lost++
	return true
}

func (s *State) release(run *Run, j *Job) {
	n := s.nodes[run.Node]
	n.Used.Millicores -= j.Spec.Resources.Millicores
	n.Used.MemoryMiB -= j.Spec.Resources.MemoryMiB
}

func (s *State) closeAuction(c CloseAuction) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil || j.Status.Final() || j.Auction != c.Auction || j.Status != job.Bidding {
		return nil, nil // closed already, or the job is gone
	}
	want, request := j.wanted(), s.request(j)
	var offers []match.Offer
	bids := map[crypto.PublicKey]SignedBid{}
	for _, b := range c.Bids {
		n := s.nodes[b.Bid.Node]
		if n == nil || s.checkBid(j, &b.Bid) != nil {
			continue
		}
		view := n.view()
		if match.Check(&request, &view) != match.Fits {
			continue
		}
		cost, ok := j.bidCost(&b.Bid)
		if _, twice := bids[b.Bid.Node]; twice || !ok {
			continue
		}
		bids[b.Bid.Node] = b
		offers = append(offers, match.Offer{Node: b.Bid.Node, Owner: n.Owner, Cost: cost})
	}
	picked := match.Pick(c.Order, offers, want)
	if len(picked) < want && !j.enough(len(picked)) {
		fit, excluded := s.Explain(&j.Spec)
		return s.wait(j, fmt.Sprintf("%d of %d bids needed; %d nodes fit, %s", len(picked), want, len(fit), describe(excluded))), nil
	}
	effects := make([]Effect, 0, len(picked))
	for _, p := range picked {
		b := bids[p.Node]
		n := s.nodes[p.Node]
		n.Used.Millicores += j.Spec.Resources.Millicores
		n.Used.MemoryMiB += j.Spec.Resources.MemoryMiB
		j.Runs = append(j.Runs, Run{Node: p.Node, Owner: p.Owner, Bid: b.Bid, BidSig: b.BidSig, Stage: Live, Since: s.now})
		effects = append(effects, SendAssign{Node: p.Node, Assignment: j.assignment(&j.Runs[len(j.Runs)-1])})
	}
	s.setStatus(j, job.Running, "")
	return append(effects, s.advance(j)...), nil
}

func describe(excluded []match.Exclusion) string {
	if len(excluded) == 0 {
		return "none excluded"
	}
	text := ""
	for i, e := range excluded {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", e.Nodes, e.Reason)
	}
	return text
}

// checkBid says why a bid does not count.
func (s *State) checkBid(j *Job, b *chain.Bid) error {
	switch {
	case b.ChainID != s.config.ChainID || b.Order != j.ID():
		return reject("bid", "bid is for another order")
	case b.Expiry <= s.now:
		return reject("bid", "bid has expired")
	}
	if err := b.Check(); err != nil {
		return reject("bid", "%v", err)
	}
	_, zk := j.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case !zk && !b.Fixed.IsZero():
		return reject("bid", "fixed price %s for metered work", b.Fixed)
	case zk && j.Order.FixedCap.Less(b.Fixed):
		return reject("bid", "fixed price %s is above the cap of %s", b.Fixed, j.Order.FixedCap)
	}
	for _, p := range b.Prices {
		if limit, ok := chain.PriceOf(j.Order.Caps, p.Resource); !ok || p.Price > limit {
			return reject("bid", "price of %s is above its cap", p.Resource)
		}
	}
	return nil
}

// BidCost is what ranking compares: the fixed price of a proof, else the cost
// of the worst case at the bid's prices. It is an error if the bid has no price
// for something that the job uses.
func BidCost(order *chain.Order, spec *job.Spec, b *chain.Bid) (chain.Amount, error) {
	if _, ok := order.Policy.Policy.(chain.PolicyZK); ok {
		return b.Fixed, nil
	}
	return job.WorstCost(spec, b.Prices)
}

// bidCost is BidCost, and false for a bid that could cost more than the order's
// cap, all replicas together: no work is begun that the chain would not pay in
// full.
func (j *Job) bidCost(b *chain.Bid) (chain.Amount, bool) {
	cost, err := BidCost(&j.Order, &j.Spec, b)
	if err != nil {
		return chain.Amount{}, false
	}
	k, _ := j.replicas()
	all, ok := cost.ShareFloor(uint64(k), 1)
	return cost, ok && !j.Order.MaxCost.Less(all)
}

func (s *State) refused(c Refused) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil || j.Status.Final() || !s.lose(j, c.Node, "refused: "+c.Reason) {
		return nil, nil
	}
	return s.advance(j), nil
}

func (s *State) finished(c Finished) ([]Effect, error) {
	id, node := c.Done.Receipt.Order, c.Done.Receipt.Node
	j := s.jobs[id]
	if j == nil {
		return []Effect{SendAck{Node: node, Order: id, Refuse: "the job is not known"}}, nil
	}
	i := slices.IndexFunc(j.Runs, func(r Run) bool { return r.Node == node && r.Stage != Lost })
	switch {
	case i < 0:
		return []Effect{SendAck{Node: node, Order: id, Refuse: "the assignment was given to others"}}, nil
	case j.Runs[i].Stage == Ended:
		return []Effect{SendAck{Node: node, Order: id}}, nil
	}
	run := &j.Runs[i]
	if err := s.checkDone(j, run, &c.Done); err != nil {
		s.lose(j, node, err.Error())
		return append([]Effect{SendAck{Node: node, Order: id, Refuse: err.Error()}}, s.advance(j)...), nil
	}
	done := c.Done
	run.Stage, run.Done, run.Since = Ended, &done, s.now
	s.release(run, j)
	s.nodes[node].Finished++
	effects := append([]Effect{SendAck{Node: node, Order: id}}, s.advance(j)...)
	return append(effects, s.retryOn(s.nodes[node])...), nil
}

// checkDone says why a signed end is no end of the run. What passes is what the
// chain will pay: the cluster attests to it.
func (s *State) checkDone(j *Job, run *Run, d *job.Done) error {
	r := &d.Receipt
	if err := r.Check(); err != nil {
		return reject("receipt", "%v", err)
	}
	result := job.Outcome{Exit: r.Exit, ExitCode: r.ExitCode, Output: d.Output, Outputs: r.Outputs}
	_, zk := j.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case r.ChainID != s.config.ChainID || r.Sequence != 1:
		return reject("receipt", "receipt is for chain %s, sequence %d", r.ChainID, r.Sequence)
	case r.Ended > j.Order.Deadline:
		return reject("receipt", "work ended at %d, after the deadline %d", r.Ended, j.Order.Deadline)
	case r.Exit == chain.ExitCancelled:
		return reject("receipt", "the node cancelled the work")
	case r.Started > run.Bid.Expiry:
		return reject("receipt", "work started at %d, after the bid expired at %d", r.Started, run.Bid.Expiry)
	case r.Result != job.ResultDigest(&result):
		return reject("receipt", "the result is not that of the output")
	case zk && (r.Exit != chain.ExitOK || len(d.Proof) == 0 || len(d.Proof) > chain.MaxProof):
		return reject("receipt", "the kernel ended with %q and a proof of %d bytes: %s", r.Exit, len(d.Proof), d.Detail)
	case !zk && len(d.Proof) != 0:
		return reject("receipt", "a proof of %d bytes for work without one", len(d.Proof))
	}
	return s.checkUsage(j, run, d)
}

// clockSlackMs is how much longer than the cluster saw it a run may say it took.
const clockSlackMs = 10_000

// checkUsage demands that a run used no more than the specification's limits
// allow, nor more than follows from its fuel, its output and the time since it
// was assigned: the cluster attests to no more than it could see.
func (s *State) checkUsage(j *Job, run *Run, d *job.Done) error {
	seen := job.Outcome{
		Fuel: d.Receipt.Fuel, PeakMemoryBytes: j.Spec.Limits.MemoryBytes, WallMs: uint64(s.now-run.Since) + clockSlackMs,
	}
	if !d.Output.IsZero() {
		seen.OutputBytes = d.OutputSize
	}
	most := job.Meter(&j.Spec, &seen)
	for _, u := range d.Receipt.Usage {
		i := slices.IndexFunc(most, func(m chain.Usage) bool { return m.Resource == u.Resource })
		switch {
		case i < 0:
			return reject("receipt", "%s is not what this work uses", u.Resource)
		case u.Amount > most[i].Amount || u.DurationMs > most[i].DurationMs:
			return reject("receipt", "usage of %s is %d over %d ms, at most %d over %d ms", u.Resource, u.Amount, u.DurationMs, most[i].Amount, most[i].DurationMs)
		}
	}
	return nil
}

func (s *State) cancelJob(c CancelJob) ([]Effect, error) {
	j := s.jobs[c.Order]
	switch {
	case j == nil:
		return nil, reject("unknown", "job %s is not known", c.Order.Short())
	case j.Status == job.Settling || j.Status == job.Settled:
		return nil, reject("late", "job %s is %s", c.Order.Short(), j.Status)
	case j.Status.Final():
		return nil, nil
	}
	return s.end(j, job.Cancelled, "cancelled by the consumer"), nil
}

func (s *State) confirmed(c Confirmed) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil || j.Status != job.Settling {
		return nil, nil
	}
	if c.Failure != "" {
		return s.end(j, job.Failed, "the chain refused the claims: "+c.Failure), nil
	}
	record := c.Outcome
	j.Settlement = &record
	account := s.accounts[j.Order.ConsumerAddress()]
	account.Settled = max(account.Settled, record.Height)
	return s.end(j, job.Settled, ""), nil
}

func (s *State) tick() ([]Effect, error) {
	var effects []Effect
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		switch {
		case s.over(j, s.now) && j.Status == job.Settling:
			effects = append(effects, s.end(j, job.Failed, "the claim window ended and the chain's verdict did not come")...)
		case s.over(j, s.now):
			effects = append(effects, s.end(j, job.Failed, "the deadline passed: "+j.Reason)...)
		case j.Status != job.Settling && j.hasOverdue(s.now):
			effects = append(effects, s.loseOverdue(j)...)
		}
	}
	s.letGo()
	s.forget()
	return append(effects, s.retryQueued(s.now)...), nil
}

// over reports whether a job that is not final has no time left: for its work,
// or, long after its claims could be paid, for the chain's verdict on them.
func (s *State) over(j *Job, now chain.TimeMs) bool {
	last := j.Order.Deadline
	if j.Status == job.Settling {
		last += chain.TimeMs(s.config.ClaimWindowMs + s.config.RetentionMs)
	}
	return last < now
}

// A run may take until its start, twice its time limit, and a second for each
// MiB that is moved, and then some: a node that never ends one would otherwise
// hold the job until its deadline.
const (
	maxStartMs = 600_000
	spareMs    = 60_000
)

func (j *Job) overdue(run *Run, now chain.TimeMs) bool {
	moved := (j.Spec.InputBytes + j.Spec.Limits.OutputBytes) >> 20
	start := max(run.Since, min(run.Bid.Expiry, run.Since+maxStartMs))
	return run.Stage == Live && start+chain.TimeMs(2*j.Spec.Limits.WallMs+1_000*moved+spareMs) < now
}

func (j *Job) hasOverdue(now chain.TimeMs) bool {
	return slices.ContainsFunc(j.Runs, func(r Run) bool { return j.overdue(&r, now) })
}

func (s *State) loseOverdue(j *Job) []Effect {
	var effects []Effect
	for i := range j.Runs {
		if run := &j.Runs[i]; j.overdue(run, s.now) {
			const reason = "it took too long"
			s.lose(j, run.Node, reason)
			effects = append(effects, SendCancel{Node: run.Node, Order: j.ID(), Reason: reason})
		}
	}
	return append(effects, s.advance(j)...)
}

// letGo frees the caps of final jobs that no claim can spend any more.
func (s *State) letGo() {
	s.held = slices.DeleteFunc(s.held, func(id crypto.Digest) bool {
		j := s.jobs[id]
		if j.Held >= s.now {
			return false
		}
		j.Held = 0
		s.free(j)
		return true
	})
}

// free takes a job's cap out of its consumer's outstanding total.
func (s *State) free(j *Job) {
	account := s.accounts[j.Order.ConsumerAddress()]
	rest, ok := account.Outstanding.Sub(j.Order.MaxCost)
	if !ok {
		panic("scheduler: outstanding total below a job's cap")
	}
	account.Outstanding = rest
}

// forget drops final jobs whose retention is over, and the accounts that have no
// other. The sequence of an account that comes back goes on above the floor.
func (s *State) forget() {
	for id, j := range s.jobs { // order-free: each is judged alone, and sums and maxima commute
		if !s.forgettable(j, s.now) {
			continue
		}
		delete(s.jobs, id)
		s.specBytes -= len(j.Spec.Encode())
		account := s.accounts[j.Order.ConsumerAddress()]
		if account.Kept--; account.Kept == 0 {
			s.floor = max(s.floor, account.Sequence)
			delete(s.accounts, account.Consumer)
		}
	}
}

// forgettable reports whether a job may be dropped. Until its deadline it is
// kept in any case: were it not known, its order could be submitted again.
func (s *State) forgettable(j *Job, now chain.TimeMs) bool {
	return j.Status.Final() && j.Held == 0 && now > j.Order.Deadline && now >= j.Changed+chain.TimeMs(s.config.RetentionMs)
}

func (s *State) setStatus(j *Job, status job.Status, reason string) {
	j.Status, j.Reason, j.Changed = status, reason, s.now
}

// assertInvariants panics if an invariant of the package comment is broken.
func (s *State) assertInvariants() {
	used := map[crypto.PublicKey]job.Resources{}
	outstanding := map[chain.Address]chain.Amount{}
	for _, id := range s.open {
		j := s.jobs[id]
		consumer := j.Order.ConsumerAddress()
		sum, ok := outstanding[consumer].Add(j.Order.MaxCost)
		if !ok || j.Status.Final() {
			panic(fmt.Sprintf("scheduler: open job %s is %s", id.Short(), j.Status))
		}
		outstanding[consumer] = sum
		for i := range j.Runs {
			if j.Runs[i].Stage == Live {
				u := used[j.Runs[i].Node]
				u.Millicores += j.Spec.Resources.Millicores
				u.MemoryMiB += j.Spec.Resources.MemoryMiB
				used[j.Runs[i].Node] = u
			}
		}
	}
	for _, id := range s.held {
		j := s.jobs[id]
		consumer := j.Order.ConsumerAddress()
		sum, ok := outstanding[consumer].Add(j.Order.MaxCost)
		if !ok || !j.Status.Final() || j.Held == 0 {
			panic(fmt.Sprintf("scheduler: held job %s is %s", id.Short(), j.Status))
		}
		outstanding[consumer] = sum
	}
	for id, n := range s.nodes { // order-free: each is judged alone
		if u := used[id]; u != n.Used || u.Millicores > n.Total.Millicores || u.MemoryMiB > n.Total.MemoryMiB {
			panic(fmt.Sprintf("scheduler: node %s uses %+v of %+v, its live work holds %+v", id.Short(), n.Used, n.Total, u))
		}
	}
	for consumer, a := range s.accounts { // order-free: each is judged alone
		if a.Outstanding != outstanding[consumer] {
			panic(fmt.Sprintf("scheduler: %s has %s outstanding, its jobs sum to %s", consumer, a.Outstanding, outstanding[consumer]))
		}
	}
}
