package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// RunStage is where an order under PolicyReplicate stands.
type RunStage uint8

// The stages.
const (
	StageDraw      RunStage = iota + 1 // at DrawAt it is drawn whether it is checked, and who runs it besides
	StageRun                           // those who were drawn run it, and commit until Due
	StageReveal                        // those who committed show their receipts until Due
	StagePanelDraw                     // at DrawAt a panel is drawn
	StagePanel                         // a panel judges it
	StageOwed                          // it is known who is paid, and that is yet to be done: at Due a block does it
	StageCheck                         // a node of the roll runs it, and votes on a panel of its own
)

// RunState is what became of one node's run.
type RunState uint8

// The states.
const (
	RunAsked      RunState = iota + 1 // it was drawn
	RunCommitted                      // it is bound to its receipt
	RunShown                          // its receipt is there: a Claim
	RunSilent                         // it committed, and did not show its receipt in time; it may until a panel has decided
	RunMissed                         // it did not commit in time
	RunUnattested                     // its receipt is there, late and without the cluster's word: it saves the stake, and is not paid
)

// Runs is the chain's state of an order under PolicyReplicate, from its primary's
// commitment until it is paid or nobody is.
type Runs struct {
	_       struct{} `cbor:",toarray"`
	Stage   RunStage
	Checked bool         // by others than its primary
	Rounds  uint8        // draws that were made
	Dry     bool         // no bidder is left that could be drawn
	DrawAt  chain.Height // of the draw that is queued; 0: none is
	Due     uint64       // of the chain's progress: the deadline that is queued; 0: none is
	Spec    crypto.Digest
	Slate   []Bidder // that were not asked yet
	Runs    []Run    // in the order in which they were asked; the first is the primary's
	Finding chain.RunFinding
	Owed    []uint8 // which of Runs are paid, in StageOwed
	Check   Check
	Raised  bool            // three jurors did not find the job's data, or not all of them did: nine judge
	Slice   chain.Amount    // of the cluster's bond that is locked; zero: none, any more
	Held    chain.Amount    // out of the consumer's escrow, until it is paid
	Jurors  []chain.Address // in StageOwed: owners of jurors who are paid of what is left
}

// Bidder is a node that may be drawn.
type Bidder struct {
	_      struct{} `cbor:",toarray"`
	Node   crypto.PublicKey
	Prices []chain.UnitPrice
	Expiry chain.TimeMs
}

// Run is one node's run of an order.
type Run struct {
	_          struct{} `cbor:",toarray"`
	Bidder     Bidder
	Owner      chain.Address
	State      RunState
	Staked     bool // the policy's stake of its node's bond is locked
	Commitment crypto.Digest
}

// RunsPanel returns the name of the panel that judges the runs of an order first.
func RunsPanel(order crypto.Digest) crypto.Digest { return panelOf(partRuns, order, roundRuns) }

// DecodeRuns decodes a record of runs, for those who checked its proof.
func DecodeRuns(value []byte) (Runs, error) { return decode[Runs](value) }

// RunsOf returns the runs of an order under PolicyReplicate that is not settled yet.
func RunsOf(r state.Reader, order crypto.Digest) (Runs, bool) {
	return state.Load[Runs](r, RunsKey(order))
}

// replica is an order under PolicyReplicate that is worked on.
type replica struct {
	posted                       // without a claim
	policy chain.PolicyReplicate // with what its runs stake
	runs   Runs
}

// carriedOut is a policy with what runs stake under it.
func carriedOut(p chain.PolicyReplicate) chain.PolicyReplicate {
	p.Stake = NodeSlice(p)
	return p
}

// openRuns returns the runs of an order.
func openRuns(kv state.KV, env *Env, id crypto.Digest) (*replica, *chain.Rejection) {
	runs, ok := RunsOf(kv, id)
	if !ok {
		if o, known := OrderOf(kv, id); known && o.Closed {
			return nil, chain.Reject("order %s is settled", id.Short())
		}
		return nil, chain.Reject("no run of order %s has begun", id.Short())
	}
	r := &replica{posted: posted{kv: kv, env: env, id: id}, runs: runs}
	r.book, ok = OrderOf(kv, id)
	if !ok {
		panic("settlement: runs of an order without its state")
	}
	r.policy = carriedOut(r.book.Policy.Policy.(chain.PolicyReplicate))
	r.cluster, _ = ClusterOf(kv, r.book.Cluster) // it was registered when the order began
	return r, nil
}

// mustRuns returns the runs of an order for which something is queued.
func mustRuns(kv state.KV, env *Env, id crypto.Digest) *replica {
	r, why := openRuns(kv, env, id)
	if why != nil {
		panic("settlement: something is queued for no runs: " + why.Reason())
	}
	return r
}

func (r *replica) save() { state.Save(r.kv, RunsKey(r.id), r.runs) }

// BeginRun begins an order with its primary's commitment. Posted again it changes nothing.
func BeginRun(kv state.KV, env *Env, m chain.BeginRun, signed bool) (chain.Events, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("a signature of the run does not verify")
	}
	o, id := &m.Order, m.Order.ID()
	if why := ofChain(env, o.ChainID, m.Acceptance.ChainID); why != nil {
		return nil, why
	}
	if known, begun := RunsOf(kv, id); begun && known.Runs[0].Commitment == m.Commitment && known.Runs[0].Bidder.Node == m.Slate[0].Node {
		return nil, nil
	}
	if _, known := OrderOf(kv, id); known {
		return nil, chain.Reject("order %s has begun already", id.Short())
	}
	if why := checkAcceptance(o, id, &m.Acceptance); why != nil {
		return nil, why
	}
	cluster, ok := ClusterOf(kv, o.Cluster)
	if !ok || !serves(cluster.UnbondedMs, env) {
		return nil, chain.Reject("cluster %s is not registered", o.Cluster.Short())
	}
	expires, why := expiryOf(env, o.Deadline)
	switch {
	case why != nil:
		return nil, why
	case env.Now > expires:
		return nil, chain.Reject("claim window ended at %d ms, it is %d", expires, env.Now)
	}
	r := &replica{posted: posted{kv: kv, env: env, id: id, cluster: cluster}, policy: carriedOut(o.Policy.Policy.(chain.PolicyReplicate))}
	r.book = Order{
		Consumer: o.ConsumerAddress(), Cluster: o.Cluster, Policy: o.Policy, MaxCost: o.MaxCost, Deadline: o.Deadline, Expires: expires, PriorityBps: o.PriorityBps,
	}
	for i := range m.Slate {
		b := &m.Slate[i]
		if why := withinCaps(o, &chain.Bid{Prices: b.Prices}); why != nil {
			return nil, why
		}
		r.runs.Slate = append(r.runs.Slate, Bidder{Node: b.Node, Prices: b.Prices, Expiry: b.Expiry})
	}
	r.runs.Spec = o.Spec
	r.runs.Slice = ClusterSlice(r.policy, o.MaxCost, &env.Params)
	if why := r.slice().lacks(&cluster); why != nil {
		return nil, why
	}
	escrow := openPurse(kv, env, r.book.Consumer, o.Cluster)
	if available := escrow.available(); available.Less(o.MaxCost) {
		return nil, chain.Reject("the order may cost %s, the escrow holds %s", o.MaxCost, available)
	}
	if why := r.ask(0); why != nil {
		return nil, why
	}
	r.slice().lock()
	r.hold(escrow)
	r.runs.Runs[0].State, r.runs.Runs[0].Commitment = RunCommitted, m.Commitment
	r.queue(StageDraw)
	kv.Set(expiryKey(expires, id[:]), []byte{})
	saveOrder(kv, id, &r.book)
	r.save()
	return chain.Events{chain.RunBegun{
		Order: id, Consumer: r.book.Consumer, Cluster: o.Cluster, Node: m.Slate[0].Node, Stake: r.policy.Stake, DrawAt: chain.Number(r.runs.DrawAt),
	}}, nil
}

// hold takes what the order may cost out of its consumer's escrow. What nodes and jurors do for it may take longer than a
// withdrawal: a consumer whose own node takes its time would else have the others work for nothing.
func (r *replica) hold(escrow *purse) {
	r.runs.Held = r.book.MaxCost
	escrow.take(r.runs.Held)
	escrow.hold(r.runs.Held)
	escrow.save()
}

// letGo gives back what is held for the order, of which it is paid if anybody is.
func (r *replica) letGo() {
	if r.runs.Held.IsZero() {
		return
	}
	escrow := openPurse(r.kv, r.env, r.book.Consumer, r.book.Cluster)
	escrow.takeBack(r.runs.Held)
	escrow.save()
	r.runs.Held = chain.Amount{}
}

// ask moves a bidder from the slate to the runs, and locks its stake.
func (r *replica) ask(at int) *chain.Rejection {
	b := r.runs.Slate[at]
	if why := lockSlice(r.kv, b.Node, r.policy.Stake); why != nil {
		return why
	}
	p, _ := ProviderOf(r.kv, b.Node) // lockSlice found it
	r.runs.Slate = slices.Delete(r.runs.Slate, at, at+1)
	r.runs.Runs = append(r.runs.Runs, Run{Bidder: b, Owner: p.Owner, State: RunAsked, Staked: true})
	return nil
}

// queue has a draw made that begins or ends a stage.
func (r *replica) queue(stage RunStage) {
	r.runs.Stage, r.runs.DrawAt = stage, r.env.Height+DrawDelay
	queueDraw(r.kv, r.env, partRuns, r.id)
}

// await begins a stage that ends with a deadline.
func (r *replica) await(stage RunStage, windowMs uint64) {
	r.runs.Stage, r.runs.Due = stage, queueDeadline(r.kv, r.env, windowMs, partRuns, r.id)
}

// dropDue takes the deadline back that is queued.
func (r *replica) dropDue() {
	dropDeadline(r.kv, r.runs.Due, partRuns, r.id)
	r.runs.Due = 0
}

// count returns how many runs are in a state.
func (r *replica) count(s RunState) int { return len(r.those(s)) }

// those returns the runs that are in a state, in the order in which they were asked.
func (r *replica) those(s RunState) (list []uint8) {
	for i := range r.runs.Runs {
		if r.runs.Runs[i].State == s {
			list = append(list, uint8(i))
		}
	}
	return list
}

func (r *replica) runOf(node crypto.PublicKey) (*Run, *chain.Rejection) {
	i := slices.IndexFunc(r.runs.Runs, func(run Run) bool { return run.Bidder.Node == node })
	if i < 0 {
		return nil, chain.Reject("node %s was not asked to run order %s", node.Short(), r.id.Short())
	}
	return &r.runs.Runs[i], nil
}

// place is how many were asked before a run, by which others can have been shown: a run of that place
// shows a link that follows from none of theirs.
func (r *replica) place(run *Run) uint8 {
	return uint8(slices.IndexFunc(r.runs.Runs, func(other Run) bool { return other.Bidder.Node == run.Bidder.Node })) // ≤ MaxReplicas
}

// CommitRun takes the commitment of a node that was drawn. Posted again it changes nothing.
func CommitRun(kv state.KV, env *Env, m chain.CommitRun, signed bool) (chain.Events, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("the commitment is not signed by node %s", m.Node.Short())
	}
	if why := ofChain(env, m.ChainID); why != nil {
		return nil, chain.Reject("commitment is of chain %.32q, this is %q", m.ChainID, env.ChainID)
	}
	r, why := openRuns(kv, env, m.Order)
	if why != nil {
		return nil, why
	}
	run, why := r.runOf(m.Node)
	switch {
	case why != nil:
		return nil, why
	case run.State != RunMissed && run.Commitment == m.Commitment:
		return nil, nil
	case m.Place != r.place(run):
		return nil, chain.Reject("node %s signed for place %d among the runs of order %s, it has %d", m.Node.Short(), m.Place, m.Order.Short(), r.place(run))
	case run.State != RunAsked:
		return nil, chain.Reject("node %s has committed already, or missed its time", m.Node.Short())
	case r.runs.Stage != StageRun || r.runs.Due <= env.ProgressMs:
		return nil, chain.Reject("order %s takes no commitments now", m.Order.Short())
	}
	run.State, run.Commitment = RunCommitted, m.Commitment
	events := chain.Events{chain.RunCommitted{Order: m.Order, Node: m.Node}}
	if r.count(RunAsked) == 0 {
		r.dropDue()
		events = append(events, r.committed()...)
	}
	r.save()
	return events, nil
}

// committed goes on once all who were asked have committed, or missed their time.
func (r *replica) committed() chain.Events {
	bound := r.count(RunCommitted)
	switch {
	case r.runs.Checked && r.missing() > 0 && r.drawable(r.runs.Rounds+1):
		r.queue(StageDraw)
		return nil
	case r.runs.Checked && r.runs.Check == Undrawn && bound+r.count(RunShown) > 0:
		r.queue(StageDraw) // of the roll, now that all others are bound
		return nil
	case bound > 0:
		r.await(StageReveal, r.env.Params.RevealMs)
		return chain.Events{chain.RunsRevealing{Order: r.id, Checked: r.runs.Checked, RevealBy: chain.Number(r.runs.Due)}}
	}
	return r.conclude()
}

// maxRounds is how many draws an order has, one of them of the roll: what those before did not give, a
// panel judges.
const maxRounds = 4

// drawable reports whether more bidders may be drawn by a draw of a number. One of n is from the roll, if that has one. None
// are once the claim window is over, or in more rounds than the order pays for: bidders who never come would
// else hold the stakes of others for a window of the consumer's choice each, and draws of others up for
// nothing.
func (r *replica) drawable(round uint8) bool {
	most, last := int(r.policy.N), uint8(maxRounds)
	if r.runs.Check.counts() {
		most--
	}
	if r.runs.Check == Undrawn {
		last--
	}
	return !r.runs.Dry && len(r.runs.Slate) > 0 && len(r.runs.Runs) < most && r.env.Now <= r.book.Expires && round <= last
}

// missing is how many bidders more have to run the order, so that as many may agree as are wanted.
// As long as nobody has shown a receipt the check may agree with all.
func (r *replica) missing() int {
	best := r.agreeing()
	n := int(r.policy.K) - r.count(RunCommitted) - best.size()
	if r.runs.Check == Undrawn || r.runs.Check.counts() && len(best.runs) == 0 {
		n--
	}
	return n
}

// RevealRun takes the receipt of a node that committed to it, and pays whoever is owed if
// it is the last one. Posted again it changes nothing.
func RevealRun(kv state.KV, env *Env, m chain.RevealRun, signed bool) (chain.Events, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("a signature of the run does not verify")
	}
	if m.Receipt.ChainID != env.ChainID {
		return nil, chain.Reject("receipt is of chain %.32q, this is %q", m.Receipt.ChainID, env.ChainID)
	}
	r, why := openRuns(kv, env, m.Receipt.Order)
	if why != nil {
		return nil, why
	}
	run, why := r.runOf(m.Receipt.Node)
	switch {
	case why != nil:
		return nil, why
	case chain.RunCommitment(m.Receipt.Digest(), m.Receipt.Node, m.Salt) != run.Commitment:
		return nil, chain.Reject("receipt is not what node %s committed to", m.Receipt.Node.Short())
	case run.State == RunShown, run.State == RunUnattested && !m.Attested():
		return nil, nil
	case r.runs.Stage == StageReveal && run.State == RunCommitted && !m.Attested():
		return nil, chain.Reject("receipt has no attestation by cluster %s, and is not late", r.book.Cluster.Short())
	case r.runs.Stage == StageReveal && run.State == RunCommitted && r.runs.Due > env.ProgressMs:
	case (run.State == RunSilent || run.State == RunUnattested) && r.runs.Stage != StageOwed:
	default:
		return nil, chain.Reject("order %s takes no receipts now", m.Receipt.Order.Short())
	}
	if why := r.checkReceipt(run, &m); why != nil {
		return nil, why
	}
	var events chain.Events
	if run.State != RunUnattested {
		events = r.record(run, &m.Receipt)
	}
	run.State = RunShown
	if !m.Attested() {
		run.State = RunUnattested
	}
	if r.runs.Stage == StageReveal && r.count(RunCommitted) == 0 {
		r.dropDue()
		events = append(events, r.conclude()...)
	}
	r.save()
	if r.runs.Stage == StageOwed {
		events = append(events, r.collect()...)
	}
	return events, nil
}

// record enters the claim of a run whose receipt is there.
func (r *replica) record(run *Run, receipt *chain.UsageReceipt) chain.Events {
	claim := Claim{
		Node: receipt.Node, Provider: run.Owner, Sequence: 1, Result: receipt.Result, Exit: receipt.Exit, Height: r.env.Height,
		Pending: &Replica{Prices: run.Bidder.Prices, Usage: receipt.Usage, Fuel: receipt.Fuel, Ended: receipt.Ended, Begins: receipt.Trace.Begins(r.place(run))},
	}
	r.saveClaim(&claim)
	r.book.advance(claim.Node)
	saveOrder(r.kv, r.id, &r.book)
	return chain.Events{chain.ClaimRecorded{Order: r.id, Node: claim.Node, Sequence: 1, Result: claim.Result}}
}

// checkReceipt demands what a claim's receipt has to keep.
func (r *replica) checkReceipt(run *Run, m *chain.RevealRun) *chain.Rejection {
	receipt := &m.Receipt
	switch {
	case m.Cluster != r.book.Cluster:
		return chain.Reject("attestation is by cluster %s, the order's is %s", m.Cluster.Short(), r.book.Cluster.Short())
	case receipt.Sequence != 1:
		return chain.Reject("sequence is %d, a replica's is 1", receipt.Sequence)
	case receipt.Ended > r.book.Deadline:
		return chain.Reject("work ended at %d ms, the deadline was %d", receipt.Ended, r.book.Deadline)
	case receipt.Started > run.Bidder.Expiry:
		return chain.Reject("work started at %d ms, the bid expired at %d", receipt.Started, run.Bidder.Expiry)
	}
	for _, u := range receipt.Usage {
		if _, priced := chain.PriceOf(run.Bidder.Prices, u.Resource); !priced {
			return chain.Reject("%s was used, the bid has no price for it", u.Resource)
		}
	}
	if _, err := chain.Cost(receipt.Usage, run.Bidder.Prices); err != nil {
		return chain.Reject("%v", err)
	}
	return nil
}

// shown returns the claims of the runs whose receipts are there, by their place among the
// runs.
func (r *replica) shown() map[int]*Claim {
	out := map[int]*Claim{}
	for i := range r.runs.Runs {
		if s := r.runs.Runs[i].State; s != RunShown && s != RunUnattested {
			continue
		}
		key := ClaimKey(chain.ClaimKey{Order: r.id, Node: r.runs.Runs[i].Bidder.Node, Sequence: 1})
		claim, ok := state.Load[Claim](r.kv, key)
		if !ok {
			panic("settlement: a run was shown and has no claim")
		}
		out[i] = &claim
	}
	return out
}

// side is those who agree on what a job gives and uses.
type side struct {
	runs    []uint8 // that were shown, in the order in which they were asked
	vouched bool    // the check from the roll found the same
}

func (s *side) size() int {
	if s.vouched {
		return len(s.runs) + 1
	}
	return len(s.runs)
}

// agreeing returns the largest side; of equally large ones the one that was begun first.
func (r *replica) agreeing() (best side) {
	claims, check := r.shown(), r.checked()
	yields := make(map[int]crypto.Digest, len(claims))
	for i, c := range claims { // order-free: each its own
		yields[i] = c.Yield()
	}
	for i := range r.runs.Runs {
		if r.runs.Runs[i].State != RunShown {
			continue
		}
		group := side{vouched: check != nil && check.votes(chain.Vote{Finding: chain.FoundResult, Result: yields[i]}) > 0}
		for k := range r.runs.Runs {
			if c := claims[k]; r.runs.Runs[k].State == RunShown && c.Exit == claims[i].Exit && yields[k] == yields[i] {
				group.runs = append(group.runs, uint8(k))
			}
		}
		if group.size() > best.size() {
			best = group
		}
	}
	return best
}

// wanted is how many runs have to agree.
func (r *replica) wanted() int {
	if !r.runs.Checked {
		return 1
	}
	return int(r.policy.K)
}

// conclude says how it goes on once all who committed have shown their receipts, or did
// not in time: it is known who is paid, or more are drawn, or a panel judges who dissents.
// Before anybody is contradicted by a panel nobody is paid: those who agree may be in the
// wrong. Nor are they while the check from the roll has not found the same: who bid, the cluster
// says alone.
func (r *replica) conclude() chain.Events {
	best := r.agreeing()
	shown, silent := r.count(RunShown), r.count(RunSilent)+r.count(RunUnattested)
	switch {
	case best.size() >= r.wanted() && r.trusted(&best) && shown == len(best.runs) && silent == 0:
		finding := chain.RunAgreed
		if !r.runs.Checked {
			finding = chain.RunUnchecked
		}
		paid, events := r.payees(&best)
		return append(append(events, r.closeCheck()...), r.owe(finding, paid)...)
	case best.size() < int(r.policy.K) && r.drawable(r.runs.Rounds+1):
		r.runs.Checked = true
		r.queue(StageDraw)
		return nil
	case shown+silent > 0:
		r.queue(StagePanelDraw)
		return nil
	}
	return append(r.closeCheck(), r.owe(chain.RunAbandoned, nil)...)
}

// payees lists who is paid of those who agree, the check from the roll after the first of them.
func (r *replica) payees(s *side) (paid []uint8, events chain.Events) {
	paid = slices.Clone(s.runs)
	if s.vouched {
		at, recorded := r.admit(paid[0])
		paid, events = slices.Insert(paid, 1, at), chain.Events{recorded}
	}
	return paid[:min(len(paid), r.wanted())], events
}

// slice is what the order locks of its cluster's bond.
func (r *replica) slice() *clusterSlice {
	return &clusterSlice{kv: r.kv, env: r.env, cluster: r.book.Cluster, order: r.id, amount: r.runs.Slice}
}

// freeAll frees what is staked still.
func (r *replica) freeAll() (events chain.Events) {
	for i := range r.runs.Runs {
		r.free(&r.runs.Runs[i])
	}
	if !r.runs.Slice.IsZero() {
		events = r.slice().free()
		r.runs.Slice = chain.Amount{}
	}
	return events
}

// owe notes which runs are paid, beside jurors, and frees what is staked still. The consumer has its money back at once if nobody is.
func (r *replica) owe(finding chain.RunFinding, owed []uint8) chain.Events {
	events := r.freeAll()
	r.runs.Stage, r.runs.Finding, r.runs.Owed = StageOwed, finding, owed
	r.book.Finding = finding
	r.remember()
	r.book.Payees, r.book.Closed = uint8(len(owed)), len(owed)+len(r.runs.Jurors) == 0
	if r.book.Closed {
		r.letGo()
	}
	saveOrder(r.kv, r.id, &r.book)
	return append(events, chain.RunEnded{Order: r.id, Finding: finding.String(), Paid: chain.Number(len(owed))})
}

// free unlocks the stake of a run.
func (r *replica) free(run *Run) {
	if run.Staked {
		unlockSlice(r.kv, run.Bidder.Node, r.policy.Stake)
		run.Staked = false
	}
}

// remember has it known for a while what became of the order: the end that is queued is put off when it comes.
func (r *replica) remember() { r.book.Expires = max(r.book.Expires, r.env.Now+keptMs) }

// forget deletes the runs of an order that is closed.
func (r *replica) forget() { r.kv.Delete(RunsKey(r.id)) }

// owedMs is for how long whoever is owed may have the order paid by CollectRun, before a block pays by itself: nobody
// can keep anybody from being paid by posting nothing.
const owedMs = 3_600_000

// settle saves the runs after something that was queued, or forgets them if nobody is paid.
func (r *replica) settle(events chain.Events) chain.Events {
	switch {
	case r.book.Closed:
		r.forget()
		return events
	case r.runs.Stage == StageOwed:
		r.await(StageOwed, owedMs)
	}
	r.save()
	return events
}

// CollectRun pays an order whose payment is owed.
func CollectRun(kv state.KV, env *Env, m chain.CollectRun) (chain.Events, *chain.Rejection) {
	r, why := openRuns(kv, env, m.Order)
	if why != nil {
		return nil, why
	}
	if r.runs.Stage != StageOwed {
		return nil, chain.Reject("it is not known yet who is paid for order %s", m.Order.Short())
	}
	return r.collect(), nil
}

// collect pays those who are owed, and forgets the runs. What is held is enough for all of them.
func (r *replica) collect() chain.Events {
	if r.runs.Due != 0 {
		r.dropDue()
	}
	r.letGo()
	claims := r.shown()
	list := make([]*Claim, len(r.runs.Owed))
	for i, at := range r.runs.Owed {
		list[i] = claims[int(at)]
	}
	fee := r.jurorFee(claims)
	r.remember()
	events := r.payReplicas(list, r.runs.Jurors, fee)
	r.forget()
	return events
}

// runsDrawn makes the draw that is due for an order.
func runsDrawn(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	r := mustRuns(kv, env, id)
	r.runs.DrawAt = 0
	switch r.runs.Stage {
	case StageDraw:
		return r.settle(r.draw())
	case StagePanelDraw:
		return r.settle(r.empanel())
	case StageRun, StageReveal, StagePanel, StageOwed, StageCheck:
	}
	panic("settlement: a draw for runs that wait for none")
}

// draw says whether an order is checked, if that is not known yet, and draws who runs it
// besides: first bidders, and when all of those are bound one of the roll, so that no bidder
// knows who that will be. If the roll has nobody a bidder takes its place.
func (r *replica) draw() chain.Events {
	seed := r.env.seed(partRuns, r.id, r.runs.Rounds)
	r.runs.Rounds++
	if r.runs.Rounds == 1 {
		r.runs.Checked = r.checks(lot(seed, 0))
	}
	if !r.runs.Checked {
		return r.committed()
	}
	nodes := r.drawBidders(seed)
	if len(nodes) == 0 && r.runs.Check == Undrawn {
		if events := r.askRoll(); events != nil {
			return events
		}
		nodes = r.drawBidders(seed)
	}
	if len(nodes) == 0 {
		return r.committed()
	}
	r.await(StageRun, r.policy.WindowMs)
	return chain.Events{chain.RunsDrawn{Order: r.id, Nodes: nodes, CommitBy: chain.Number(r.runs.Due)}}
}

// drawBidders draws as many bidders as are missing, or as there are.
func (r *replica) drawBidders(seed crypto.Digest) (nodes []crypto.PublicKey) {
	for want := r.missing(); len(nodes) < want && r.drawable(r.runs.Rounds); {
		node, found := r.drawOne(lot(seed, uint64(len(nodes))+1))
		r.runs.Dry = !found
		if found {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// checks says whether the primary is checked, and counts how long it was not.
func (r *replica) checks(lot uint64) bool {
	node := r.runs.Runs[0].Bidder.Node
	p, ok := ProviderOf(r.kv, node)
	if !ok {
		panic("settlement: a primary that was never registered")
	}
	facts := p.Record.At(r.env.Now)
	asked := r.book.Policy.Policy.(chain.PolicyReplicate).Stake // who asks for less is checked the more often
	checked := scale(lot, match.One) < match.CheckChance(&facts, r.book.MaxCost, asked, p.Unchecked)
	p.Unchecked++
	if checked {
		p.Unchecked = 0
	}
	state.Save(r.kv, ProviderKey(node), p)
	return checked
}

// drawOne draws a bidder by what is free of its bond, of an owner who has no run of the
// order yet.
func (r *replica) drawOne(lot uint64) (crypto.PublicKey, bool) {
	weights := make([]uint64, len(r.runs.Slate))
	total, partake := chain.Amount{}, r.partakers()
	for i := range r.runs.Slate {
		if p, ok := r.eligible(&r.runs.Slate[i], partake); ok {
			weights[i] = p.Free().Nano()
			total = sound(total.Add(p.Free())) // within the supply
		}
	}
	if total.IsZero() {
		return crypto.PublicKey{}, false
	}
	mark := scale(lot, total.Nano())
	for i, w := range weights {
		if mark < w {
			node := r.runs.Slate[i].Node
			if why := r.ask(i); why != nil {
				panic("settlement: a node was drawn without a stake: " + why.Reason())
			}
			return node, true
		}
		mark -= w
	}
	panic("settlement: a draw beyond all bidders")
}

// eligible reports whether a bidder may be drawn, beside owners who have a part in the order.
func (r *replica) eligible(b *Bidder, partake []chain.Address) (Provider, bool) {
	p, ok := ProviderOf(r.kv, b.Node)
	if !ok || p.UnbondedMs != 0 || b.Expiry < r.env.Now || p.Free().Less(r.policy.Stake) || p.Free().IsZero() {
		return p, false
	}
	return p, !slices.Contains(partake, p.Owner)
}

// partakers lists the owners of those who run the order, and of those on panels about it that were
// drawn before.
func (r *replica) partakers() (owners []chain.Address) {
	for i := range r.runs.Runs {
		owners = append(owners, r.runs.Runs[i].Owner)
	}
	for round := range uint8(roundRunsLarger + 1) {
		before, _ := PanelAt(r.kv, panelOf(partRuns, r.id, round)) // none: nobody
		for i := range before.Jurors {
			owners = append(owners, before.Jurors[i].Owner)
		}
		owners = append(owners, before.Gone...)
	}
	return owners
}

// runsDue ends a stage whose time is over.
func runsDue(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	r := mustRuns(kv, env, id)
	r.runs.Due = 0
	switch r.runs.Stage {
	case StageRun:
		for i := range r.runs.Runs {
			if run := &r.runs.Runs[i]; run.State == RunAsked {
				run.State = RunMissed
				r.free(run)
				noteNode(kv, env, run.Bidder.Node, match.FactLate, chain.Amount{})
			}
		}
		return r.settle(r.committed())
	case StageReveal:
		for i := range r.runs.Runs {
			if run := &r.runs.Runs[i]; run.State == RunCommitted {
				run.State = RunSilent
			}
		}
		return r.settle(r.conclude())
	case StageOwed:
		return r.collect()
	case StageDraw, StagePanelDraw, StagePanel, StageCheck:
	}
	panic("settlement: a deadline of runs that have none")
}
