package simulation

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// job is an order and who works for it.
type job struct {
	order   chain.Order
	id      crypto.Digest
	size    uint64
	buyer   *owner
	primary *node
	fair    bool // its primary does not cheat
	flaky   bool // every run of it gives another result
	trivial bool // it costs nothing to run
	bound   map[*node]*bound
	members []*node // of bound, in the order of their commitments
	checked bool
	shown   []chain.Testimony // by its jurors, the latest last
}

// bound is a node's receipt, which it may have committed to.
type bound struct {
	gave    *gave
	receipt chain.UsageReceipt
	salt    [32]byte
	made    bool // nothing was run for it
	copied  bool // its commitment is another's: it has nothing to show
}

func (w *world) newJob(buyer *owner, primary *node, size uint64) *job {
	w.nonce++
	j := &job{size: size, buyer: buyer, primary: primary, bound: map[*node]*bound{}}
	maxCost, fee := w.terms.orderMost(buyer, size), w.terms.priority(buyer)
	j.order = chain.Order{
		ChainID: chainID, Consumer: crypto.AccountKeyOf(buyer.key.Public()), Nonce: w.nonce, Cluster: w.cluster.key.Public(),
		Spec:   crypto.DomainJobSpec.Hash([]byte("spec")),
		Policy: chain.PolicyField{Policy: w.terms.policy(maxCost)}, MaxCost: maxCost, FixedCap: chain.Nano(fee.Above(jobWorth * size)),
		Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: fee.Above(unitPrice)}}, Deadline: w.env.Now + hourMs, PriorityBps: fee,
	}
	w.name(j)
	return j
}

// name gives a job the id of its order, which was changed.
func (w *world) name(j *job) {
	j.id = j.order.ID()
	w.jobs[j.id] = j
}

// gave is what a node says that a run gave and used, and the secret that it has of it.
type gave struct {
	result crypto.Digest
	usage  []chain.Usage
	secret chain.Secret
}

func (g *gave) vote() chain.Vote {
	return chain.Vote{Finding: chain.FoundResult, Result: chain.Yield(chain.Work(g.result, g.usage), g.secret.Trace(0))}
}

func (g *gave) testimony(at chain.Link) chain.Testimony {
	return g.secret.Testify(chain.Work(g.result, g.usage), at)
}

// finds is what a node says that a run gave, by who was asked and how it was done. Accomplices tell
// each other their secrets.
func (w *world) finds(j *job, n *node, how work) *gave {
	if how == backs {
		return j.bound[j.primary].gave
	}
	duration := jobMs * j.size
	switch {
	case n.pads && n == j.primary:
		duration = w.terms.maxCost(j.size).Nano() / coreMs
	case n.starves && n != j.primary && j.buyer.hand:
		duration = 1
	}
	result := w.result(j, n, how)
	return &gave{
		result: result, usage: []chain.Usage{{Resource: chain.CPU, Amount: cores, DurationMs: duration}},
		secret: chain.SecretOf(j.id, crypto.DomainMemory.Hash(result[:])),
	}
}

// result is that of a run.
func (w *world) result(j *job, n *node, how work) crypto.Digest {
	data := slices.Clone(j.id[:])
	switch {
	case how == conspire:
		data = append(data, "conspired"...)
	case how == guess:
		data = append(append(data, "guessed"...), n.id[:]...)
	case j.flaky:
		w.nonce++
		data = binary.BigEndian.AppendUint64(append(data, "flaky"...), w.nonce)
	default:
		data = append(data, "right"...)
	}
	return crypto.DomainResult.Hash(data)
}

// run has a node do a job, or do as if.
func (w *world) run(j *job, n *node, how work) *bound {
	if how == honest {
		w.ran(j, n)
	} else {
		w.tried(n)
	}
	if n.pads && n == j.primary {
		w.tried(n)
	}
	g := w.finds(j, n, how)
	b := &bound{made: how != honest, gave: g, receipt: chain.UsageReceipt{
		ChainID: chainID, Order: j.id, Node: n.id, Sequence: 1, Usage: g.usage,
		Fuel: 1_000_000 * j.size, Result: g.result, Started: w.env.Now - 1, Ended: w.env.Now, Exit: chain.ExitOK,
	}}
	if slices.Contains(verified, w.terms.Policy) {
		trace := g.secret.Trace(w.place(j, n))
		b.receipt.Trace = &trace
	}
	binary.BigEndian.PutUint64(b.salt[:], w.rand.Uint64())
	if how == copies {
		b.copied = true
	}
	if how == honest && n == j.primary && !j.trivial && (!j.flaky || w.play.withholds) {
		j.buyer.got += int64(jobWorth * j.size)
	}
	j.bound[n] = b
	j.members = append(j.members, n)
	return b
}

// place is how many the chain asked to run a job before a node.
func (w *world) place(j *job, n *node) uint8 {
	runs, _ := settlement.RunsOf(w.kv, j.id) // none: it is the primary
	return uint8(max(slices.IndexFunc(runs.Runs, func(r settlement.Run) bool { return r.Bidder.Node == n.id }), 0))
}

// sure reports whether a job's primary knows that it will be checked: by its record, or as the
// last ones were not. What is on its way may be one unchecked more.
func (w *world) sure(j *job) bool {
	p, _ := settlement.ProviderOf(w.kv, j.primary.id) // every node is registered
	facts := p.Record.At(w.env.Now)
	return match.CheckChance(&facts, j.order.MaxCost, j.order.Policy.Policy.(chain.PolicyReplicate).Stake, p.Unchecked+1) == match.One
}

// ran counts a run of a program.
func (w *world) ran(j *job, n *node) {
	w.runs++
	if j.trivial {
		return
	}
	n.owner.spent += int64(jobWorth*j.size) * int64(w.terms.Cost) / 100
}

// tried counts an attempt of the hand's.
func (w *world) tried(n *node) {
	if n.owner.hand {
		w.tries++
	}
}

// offer has a job done by its primary and posted, as its policy has it.
func (w *world) offer(j *job) {
	how := j.primary.asPrimary
	if j.fair {
		how = honest
	}
	b := w.run(j, j.primary, how)
	p := post{by: j.primary.owner, offers: j}
	switch {
	case w.terms.Policy.replicated():
		p.do = carried(w.begin(j, b), settlement.BeginRun)
	case w.terms.Policy == Batch:
		p.do = batched(w.batch(j, b))
	default:
		p.do = claimed(w.claim(j, b))
	}
	w.send(p)
	if w.broke && j.buyer.hand && !p.by.hand {
		w.send(post{by: p.by, do: w.reported(j), after: w.env.Height + patience, own: true})
	}
}

// reported is a provider's evidence that no escrow covered what a cluster accepted.
func (w *world) reported(j *job) act {
	m := chain.ReportAcceptance{First: chain.AcceptedOrder{Order: j.order, Acceptance: w.acceptance(j), Signature: crypto.Signature{1}}}
	return func(w *world, from chain.Address) (chain.Events, *chain.Rejection) {
		event, why := settlement.ReportAcceptance(w.kv, &w.env, from, m, true)
		if why != nil {
			return nil, why
		}
		return chain.Events{event}, nil
	}
}

func (w *world) acceptance(j *job) chain.Acceptance {
	return chain.Acceptance{ChainID: chainID, Order: j.id, Cluster: j.order.Cluster, Sequence: j.order.Nonce, Outstanding: j.order.MaxCost}
}

func (w *world) bid(j *job, n *node) chain.Bid {
	return chain.Bid{ChainID: chainID, Order: j.id, Node: n.id, Prices: j.prices(), Expiry: j.order.Deadline}
}

// prices are those that everybody bids: the order's caps, beside its priority fee.
func (j *job) prices() []chain.UnitPrice {
	limit, _ := j.order.Cap(chain.CPU) // newJob has set it
	return []chain.UnitPrice{{Resource: chain.CPU, Price: limit}}
}

// claim is that of a primary.
func (w *world) claim(j *job, b *bound) chain.Claim {
	c := chain.Claim{Order: j.order, Acceptance: w.acceptance(j), Bid: w.bid(j, j.primary), Receipt: b.receipt, Attestation: crypto.Signature{1}}
	policy, proven := j.order.Policy.Policy.(chain.PolicyZK)
	if !proven {
		return c
	}
	c.Bid.Prices, c.Bid.Fixed, c.Receipt.Outputs, c.Attestation = nil, j.order.FixedPriceCap(), []chain.FieldBytes{{31: 9}}, crypto.Signature{}
	statement := zk.Statement{
		Kernel: zk.Kernel(policy.Kernel), VerifyingKey: policy.VerifyingKey, Inputs: []zk.Field{zk.Field(policy.Inputs[0])},
		Output: []zk.Field{{31: 9}}, Bind: zk.Bind(string(chainID), j.id, 1, j.primary.id),
	}
	digest := statement.Digest()
	if j.primary.asPrimary == guess {
		digest[0] ^= 1 // nobody has a proof of what is not so
	}
	c.Proof = digest[:]
	return c
}

// batch is what a primary's relay makes of its receipt.
func (w *world) batch(j *job, b *bound) chain.SettleBatch {
	n := j.primary
	if n.meter == nil {
		n.meter = zk.NewMeterSecret(crypto.DomainMeterNonce.Hash(n.id[:]))
		sig := n.meter.Possess(string(chainID), n.id)
		w.must(settlement.RegisterMeter(w.kv, &w.env, n.owner.address, chain.RegisterMeter{
			Node: n.id, Key: chain.MeterKey(n.meter.Public()),
			Possession: chain.MeterProof{X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S)},
		}))
	}
	meter, _ := settlement.MeterOf(w.kv, n.id) // it was registered just now, or before
	use := b.receipt.Usage[0]
	s := chain.BatchSummary{
		ChainID: chainID, Order: j.id, Node: n.id, Meter: meter.Key, Last: 1, Count: 1, Root: chain.FieldBytes{31: 7},
		Totals:  []chain.BatchTotal{{Resource: chain.CPU, Low: chain.Number(use.Amount * use.DurationMs)}},
		Started: b.receipt.Started, Ended: b.receipt.Ended,
	}
	totals := settlement.BatchTotals(&s)
	statement := zk.Statement{
		Kernel: meterKernel, VerifyingKey: verifyingKey,
		Inputs: []zk.Field{zk.UsageContextAt(j.id, zk.Field(meter.X), zk.Field(meter.Y))}, Output: []zk.Field{totals.Digest()}, Bind: settlement.BatchBind(&s),
	}
	digest := statement.Digest()
	return chain.SettleBatch{Batch: chain.UsageBatch{
		Order: j.order, Acceptance: w.acceptance(j), Bid: w.bid(j, n), Summary: s, Attestation: crypto.Signature{1}, Kernel: meterKernel, Proof: digest[:],
	}}
}

// begin binds a primary, among bidders that the cluster lists.
func (w *world) begin(j *job, b *bound) chain.BeginRun {
	m := chain.BeginRun{Order: j.order, Acceptance: w.acceptance(j), Commitment: chain.RunCommitment(b.receipt.Digest(), j.primary.id, b.salt)}
	list := []*node{j.primary}
	candidates := slices.Clone(w.nodes)
	for len(list) < w.terms.Bidders && len(candidates) > 0 {
		at := w.rand.Below(len(candidates))
		n := candidates[at]
		candidates = slices.Delete(candidates, at, at+1)
		if n != j.primary && !n.retired && (!w.play.packs || !j.primary.owner.hand || n.owner.hand) {
			list = append(list, n)
		}
	}
	for _, n := range list {
		m.Slate = append(m.Slate, chain.SlateBid{Node: n.id, Prices: j.prices(), Expiry: j.order.Deadline})
	}
	return m
}
