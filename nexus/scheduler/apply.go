package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
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
	switch {
	case c.Order.ChainID != s.config.ChainID:
		return nil, reject("chain", "order is for chain %s, this is %s", c.Order.ChainID, s.config.ChainID)
	case c.Order.Cluster != s.config.ClusterKey.Public():
		return nil, reject("cluster", "order's home cluster is %s, this is %s", c.Order.Cluster.Short(), s.config.ClusterKey.Public().Short())
	case c.Order.Deadline <= s.now:
		return nil, reject("deadline", "deadline %d is past, it is %d", c.Order.Deadline, s.now)
	case len(s.jobs) >= s.config.MaxJobs:
		return nil, reject("full", "the cluster keeps %d jobs, its limit", s.config.MaxJobs)
	case len(s.outbox) >= s.config.MaxOutbox:
		return nil, reject("full", "%d jobs wait for the chain to settle them, the limit", len(s.outbox))
	}
	consumer := c.Order.ConsumerAddress()
	outstanding, ok := s.Outstanding(consumer).Add(c.Order.MaxCost)
	if !ok || c.Escrow.Less(outstanding) {
		return nil, reject("escrow", "escrow of %s does not cover %s outstanding and this order's cap of %s", c.Escrow, s.Outstanding(consumer), c.Order.MaxCost)
	}
	account := s.accounts[consumer]
	if account == nil {
		if len(s.accounts) >= s.config.MaxAccounts {
			return nil, reject("full", "the cluster has %d consumers, its limit", s.config.MaxAccounts)
		}
		account = &Account{Consumer: consumer}
		s.accounts[consumer] = account
	}
	account.Sequence++
	account.Outstanding = outstanding
	acceptance := chain.Acceptance{ChainID: s.config.ChainID, Order: id, Cluster: c.Order.Cluster, Sequence: account.Sequence, Outstanding: outstanding}
	j := &Job{
		Order: c.Order, OrderSig: c.OrderSig, Spec: c.Spec, Acceptance: acceptance, Submitted: s.now,
		AcceptanceSig: s.config.ClusterKey.Sign(crypto.DomainAcceptance, acceptance.Payload()),
	}
	s.jobs[id] = j
	s.open = append(s.open, id)
	s.setStatus(j, job.Queued, "")
	return s.advance(j), nil
}

func (s *State) nodeUp(c NodeUp) ([]Effect, error) {
	h := &c.Hello
	n := s.nodes[c.Node]
	if n == nil {
		if len(s.nodes) >= s.config.MaxNodes {
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
	var effects []Effect
	for _, id := range s.open {
		effects = append(effects, s.resend(s.jobs[id], c.Node, h)...)
	}
	return append(effects, s.retryQueued(anyTime)...), nil
}

// anyTime makes every waiting job try again.
const anyTime = chain.TimeMs(1<<64 - 1)

// resend repeats an assignment that the node does not hold: it was sent and not
// received, or the node lost its memory of it.
func (s *State) resend(j *Job, node crypto.PublicKey, h *job.Hello) []Effect {
	id := j.ID()
	for i := range j.Runs {
		run := &j.Runs[i]
		if run.Node == node && run.Stage == Live && !slices.Contains(h.Running, id) && !slices.Contains(h.Finished, id) {
			return []Effect{SendAssign{Node: node, Assignment: j.assignment(run)}}
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
	n.Accepting = c.Accepting
	return s.retryQueued(anyTime), nil
}

// lose ends a live run without a result, and reports whether there was one.
func (s *State) lose(j *Job, node crypto.PublicKey, reason string) bool {
	for i := range j.Runs {
		run := &j.Runs[i]
		if run.Node != node || run.Stage != Live {
			continue
		}
		run.Stage, run.Reason, run.Since = Lost, reason, s.now
		s.release(run, j)
		s.nodes[node].Lost++
		return true
	}
	return false
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
	case j.Order.FixedCap.Less(b.Fixed):
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
	return append(effects, s.retryQueued(anyTime)...), nil
}

// checkDone says why a signed end is no end of the run.
func (s *State) checkDone(j *Job, run *Run, d *job.Done) error {
	r := &d.Receipt
	switch {
	case r.ChainID != s.config.ChainID || r.Sequence != 1:
		return reject("receipt", "receipt is for chain %s, sequence %d", r.ChainID, r.Sequence)
	case r.Ended > j.Order.Deadline:
		return reject("receipt", "work ended at %d, after the deadline %d", r.Ended, j.Order.Deadline)
	case r.Exit == chain.ExitCancelled:
		return reject("receipt", "the node cancelled the work")
	case r.Started > run.Bid.Expiry:
		return reject("receipt", "work started at %d, after the bid expired at %d", r.Started, run.Bid.Expiry)
	}
	if _, ok := j.Order.Policy.Policy.(chain.PolicyZK); ok && (r.Exit != chain.ExitOK || len(d.Proof) == 0) {
		return reject("receipt", "the kernel ended with %q: %s", r.Exit, d.Detail)
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
	return s.end(j, job.Settled, ""), nil
}

func (s *State) tick() ([]Effect, error) {
	var effects []Effect
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		if j.Status != job.Settling && j.Order.Deadline < s.now {
			effects = append(effects, s.end(j, job.Failed, "the deadline passed: "+j.Reason)...)
		}
	}
	s.forget()
	return append(effects, s.retryQueued(s.now)...), nil
}

// forget drops final jobs whose retention is over. Accounts stay: the sequence
// of their acceptances goes on.
func (s *State) forget() {
	for id, j := range s.jobs { // order-free: each is judged alone
		if s.forgettable(j, s.now) {
			delete(s.jobs, id)
		}
	}
}

func (s *State) forgettable(j *Job, now chain.TimeMs) bool {
	return j.Status.Final() && now >= j.Changed+chain.TimeMs(s.config.RetentionMs)
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
