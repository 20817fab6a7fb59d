package settlement

import (
	"encoding/binary"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// OpenClaim is a claim under PolicyOptimistic from when it was posted until it is paid or
// found wrong. It holds the consumer's money and what was staked about it; the slices of
// the node and the cluster, of Bond each, are locked for it. An order has one at a time: once
// that is refuted, another node may claim.
type OpenClaim struct {
	_          struct{} `cbor:",toarray"`
	Claim      Claim    // as it will be when it is paid, but for the money
	Consumer   chain.Address
	Cluster    crypto.PublicKey
	Policy     chain.PolicyField
	Spec       crypto.Digest
	Begins     chain.Trace  // of the claim's run
	Held       chain.Amount // out of the escrow, without Premium
	Premium    chain.Amount // which the audits' fund has
	Bond       chain.Amount
	WindowMs   uint64
	Stage      Stage
	Due        uint64       // of the chain's progress: the deadline that is queued; 0: none
	Draw       chain.Height // of the draw that is queued; 0: none
	Audits     uint8        // auditors drawn so far
	Audit      Audit
	Challenger *Party      // nil: nobody holds the claim for wrong
	First      *chain.Vote // what the first panel found; nil: nothing, or it has not decided
	Appellant  *Party      // nil: nobody holds the first panel for wrong
	Raised     bool        // the first panel was silent, and the larger one judges unasked
	Try        uint8       // claims of the order that were refuted before
}

// Stage is how far a claim in its window has come.
type Stage uint8

// The stages.
const (
	InWindow   Stage = iota + 1 // until Due anybody may challenge
	InDispute                   // a panel is drawn, or judges
	Judged                      // until Due anybody may appeal
	InAppeal                    // the larger panel is drawn, or judges
	AwaitAudit                  // nothing else is left to wait for
)

// String names the stage.
func (s Stage) String() string {
	names := [...]string{"", "in its window", "before a panel", "judged", "before a panel of appeal", "waiting for its audit"}
	if int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}

// Audit is how far an audit has come.
type Audit uint8

// The states of an audit.
const (
	NoAudit  Audit = iota + 1 // the lot fell against one, or nobody answered
	Drawing                   // the lot is to be drawn
	Asked                     // an auditor was drawn
	Answered                  // its panel is closed with the claim
)

// Party is who challenged a claim or appealed.
type Party struct {
	_     struct{} `cbor:",toarray"`
	By    chain.Address
	Node  crypto.PublicKey // the auditor; zero: it was no audit
	Stake chain.Amount
}

// AuditFund is the module account that premiums go to, and that auditors are paid from.
var AuditFund = chain.ModuleAddress("audits")

// What is paid, in parts of the bond. The bond is OptimisticCover times the order's max
// cost or more, so that a juror's fee is never below what the run was paid. Whoever loses
// pays all of the others: of a bond 3 + 9 fees, both rewards and the premium are 18 parts
// of 32, of a stake 3 + 9 fees and a reward 14 parts of 16. The rest is burned.
const (
	feeParts       = 32 // of a juror or an auditor: one in so many
	stakeParts     = 2  // of a challenger or an appellant, the same
	rewardParts    = 8  // of who challenged a wrong claim
	appealParts    = 16 // of who appealed against a wrong verdict
	jurorParts     = 8  // that each juror and auditor stakes, of which it loses a quarter, or an auditor who challenges in vain all
	premiumParts   = 16 // of the claim's cost: at least the rate of audits times their fee
	maxAudits      = 3  // auditors drawn for one claim, as long as none answers
	panelSeats     = 3
	appealSeats    = 9
	roundPanel     = maxAudits
	roundAppeal    = maxAudits + 1
	roundsOfTry    = roundAppeal + 1
	panelsOfTry    = roundsOfTry - roundPanel
	auditedTwoFold = 2 // see audited
)

// maxTries is how many claims an order may have, each after the one before was refuted. Their
// panels have names of their own: a vote on one claim is none on another.
const maxTries = 16

const partOptimistic part = kindOpenClaim

// OpenClaimKey returns the key of the record of an order's claim in its window.
func OpenClaimKey(order crypto.Digest) []byte { return keyOf(kindOpenClaim, order[:]) }

// OpenClaimOf returns an order's claim in its window, and false if there is none, or no
// longer.
func OpenClaimOf(r state.Reader, order crypto.Digest) (OpenClaim, bool) {
	return state.Load[OpenClaim](r, OpenClaimKey(order))
}

// DecodeOpenClaim decodes the record of a claim in its window, for those who checked its
// proof.
func DecodeOpenClaim(value []byte) (OpenClaim, error) { return decode[OpenClaim](value) }

// StakeAsked is what challenging a claim, or appealing, costs whoever is wrong.
func (o *OpenClaim) StakeAsked() chain.Amount { return part1of(o.Bond, stakeParts) }

// Claimed is the vote of who finds the claim right.
func (o *OpenClaim) Claimed() chain.Vote {
	return chain.Vote{Finding: chain.FoundResult, Result: chain.Yield(o.Work(), o.Begins)}
}

// Work is the chain.Work of the run that is claimed.
func (o *OpenClaim) Work() crypto.Digest {
	usage := make([]chain.Usage, len(o.Claim.Records))
	for i := range o.Claim.Records {
		r := &o.Claim.Records[i]
		usage[i] = chain.Usage{Resource: r.ResourceType, Amount: r.Amount, DurationMs: r.DurationMs}
	}
	return chain.Work(o.Claim.Result, usage)
}

// PanelOf names the panel that judges the first claim of an order: the first, or the one of
// appeal.
func PanelOf(order crypto.Digest, appeal bool) crypto.Digest {
	if appeal {
		return panelOf(partOptimistic, order, roundAppeal)
	}
	return panelOf(partOptimistic, order, roundPanel)
}

// round is the number of a round among those of all the order's claims.
func (o *OpenClaim) round(r uint8) uint8 { return o.Try*roundsOfTry + r }

func part1of(a chain.Amount, parts uint64) chain.Amount { return sound(a.ShareFloor(1, parts)) }

// held is what the record holds of others' money.
func (o *OpenClaim) held() chain.Amount {
	sum := o.Held
	for _, p := range []*Party{o.Challenger, o.Appellant} {
		if p != nil {
			sum = sound(sum.Add(p.Stake))
		}
	}
	return sum
}

// optimistic records a claim under PolicyOptimistic: the consumer's money leaves the
// escrow, so that it is there when the window is over.
func (p *posted) optimistic(policy chain.PolicyOptimistic) (chain.Events, *chain.Rejection) {
	if exit := p.Receipt.Exit; exit == chain.ExitTime || exit == chain.ExitCancelled {
		return nil, chain.Reject("work ended with %q: nobody could run it again to the same end", exit)
	}
	if why := p.mayTry(); why != nil {
		return nil, why
	}
	cost, err := p.Cost()
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	escrow, why := p.afford(cost)
	if why != nil {
		return nil, why
	}
	slice := clusterSlice{kv: p.kv, env: p.env, cluster: p.Order.Cluster, order: p.id, amount: policy.Bond}
	if why := slice.lacks(&p.cluster); why != nil {
		return nil, why
	}
	if why := lockSlice(p.kv, p.Receipt.Node, policy.Bond); why != nil { // the last check
		return nil, why
	}
	slice.lock()
	premium := part1of(cost, premiumParts)
	escrow.take(cost)
	escrow.hold(sound(cost.Sub(premium)))
	escrow.save()
	tokens.Credit(p.kv, AuditFund, premium)
	record := p.record()
	begins := p.Receipt.Trace.Begins(0)
	record.Pending = &Replica{Prices: p.Bid.Prices, Usage: p.Receipt.Usage, Fuel: p.Receipt.Fuel, Ended: p.Receipt.Ended, Begins: begins}
	p.saveClaim(&record)
	try := uint8(p.book.claims()) // mayTry bounds it
	p.book.Spent, p.book.Closed = sound(p.book.Spent.Add(cost)), true
	p.book.advance(record.Node)
	p.kv.Set(expiryKey(p.book.Expires, p.id[:]), []byte{}) // of its own: it may be put off
	saveOrder(p.kv, p.id, &p.book)
	o := OpenClaim{
		Claim: record, Consumer: p.book.Consumer, Cluster: p.book.Cluster, Policy: p.book.Policy, Spec: p.Order.Spec, Begins: begins,
		Held: sound(cost.Sub(premium)), Premium: premium, Bond: policy.Bond, WindowMs: policy.WindowMs, Stage: InWindow, Audit: Drawing, Try: try,
	}
	o.Claim.Pending, o.Claim.Records = nil, p.resources(&record, p.Receipt.Usage, p.Bid.Prices, p.Receipt.Ended)
	o.wait(p.kv, p.env, p.id)
	o.queueDraw(p.kv, p.env, p.id)
	o.save(p.kv, p.id)
	sequence := chain.Number(record.Sequence)
	return chain.Events{
		chain.ClaimRecorded{Order: p.id, Node: record.Node, Sequence: sequence, Result: record.Result},
		chain.ClaimPending{
			Order: p.id, Node: record.Node, Sequence: sequence, Consumer: o.Consumer, Provider: record.Provider, Cluster: o.Cluster, Spec: o.Spec,
			Result: record.Result, Held: o.Held, Premium: premium, Bond: o.Bond, EndsMs: chain.Number(o.Due),
		},
	}, nil
}

// mayTry demands that the node had no claim of the order, and that the order did not have too many.
func (p *posted) mayTry() *chain.Rejection {
	switch tries := p.book.claims(); {
	case p.book.next(p.Receipt.Node) != 1:
		return chain.Reject("node %s had its claim of order %s, which was refuted: another node's is taken", p.Receipt.Node.Short(), p.id.Short())
	case tries >= maxTries:
		return chain.Reject("order %s had %d claims that were refuted, the limit", p.id.Short(), maxTries)
	}
	return nil
}

func (o *OpenClaim) save(kv state.KV, id crypto.Digest) { state.Save(kv, OpenClaimKey(id), *o) }

// wait queues the end of the window that begins now. The caller saves.
func (o *OpenClaim) wait(kv state.KV, env *Env, id crypto.Digest) {
	o.Due = queueDeadline(kv, env, o.WindowMs, partOptimistic, id)
}

// queueDraw queues a draw. One that is queued already comes to nothing. The caller saves.
func (o *OpenClaim) queueDraw(kv state.KV, env *Env, id crypto.Digest) {
	queueDraw(kv, env, partOptimistic, id)
	o.Draw = env.Height + DrawDelay
}

// Challenge has a panel look at a claim in its window.
func Challenge(kv state.KV, env *Env, from chain.Address, m chain.Challenge) (chain.Event, *chain.Rejection) {
	o, ok := OpenClaimOf(kv, m.Order)
	switch {
	case !ok:
		return nil, chain.Reject("order %s has no claim in its window", m.Order.Short())
	case o.Challenger != nil:
		return nil, chain.Reject("claim of order %s is challenged already", m.Order.Short())
	case o.Stage != InWindow || o.Due <= env.ProgressMs:
		return nil, chain.Reject("window of the claim of order %s is over", m.Order.Short())
	}
	party, why := o.stake(kv, env, from, m.Stake)
	if why != nil {
		return nil, why
	}
	event := o.challenge(kv, env, m.Order, party)
	o.save(kv, m.Order)
	return event, nil
}

// stake takes what is asked out of an account.
func (o *OpenClaim) stake(kv state.KV, env *Env, from chain.Address, most chain.Amount) (*Party, *chain.Rejection) {
	asked := o.StakeAsked()
	if most.Less(asked) {
		return nil, chain.Reject("stake is %s, %s is asked", most, asked)
	}
	if why := tokens.Debit(kv, from, asked, env.Now); why != nil {
		return nil, why
	}
	return &Party{By: from, Stake: asked}, nil
}

// challenge begins a dispute. The caller saves.
func (o *OpenClaim) challenge(kv state.KV, env *Env, id crypto.Digest, by *Party) chain.Event {
	o.endWait(kv, id)
	if o.Audit == Drawing {
		o.Audit = NoAudit // the panel takes its place
	}
	o.Challenger, o.Stage = by, InDispute
	o.queueDraw(kv, env, id)
	return chain.ClaimChallenged{Order: id, By: by.By, Node: by.Node, Stake: by.Stake}
}

func (o *OpenClaim) endWait(kv state.KV, id crypto.Digest) {
	if o.Due != 0 {
		dropDeadline(kv, o.Due, partOptimistic, id)
		o.Due = 0
	}
}

// Appeal has a larger panel look at a claim that one has judged.
func Appeal(kv state.KV, env *Env, from chain.Address, m chain.Appeal) (chain.Event, *chain.Rejection) {
	o, ok := OpenClaimOf(kv, m.Order)
	switch {
	case !ok:
		return nil, chain.Reject("order %s has no claim in its window", m.Order.Short())
	case o.Appellant != nil:
		return nil, chain.Reject("appeal about the claim of order %s was made already", m.Order.Short())
	case o.Stage != Judged || o.Due <= env.ProgressMs:
		return nil, chain.Reject("claim of order %s is not to be appealed about now: it is %s", m.Order.Short(), o.Stage)
	}
	party, why := o.stake(kv, env, from, m.Stake)
	if why != nil {
		return nil, why
	}
	o.endWait(kv, m.Order)
	o.Appellant, o.Stage = party, InAppeal
	o.queueDraw(kv, env, m.Order)
	o.save(kv, m.Order)
	return chain.ClaimChallenged{Order: m.Order, By: from, Stake: party.Stake, Appeal: true}, nil
}

// optimisticDraw draws whether a claim is audited and by whom, or a panel.
func optimisticDraw(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	o, ok := OpenClaimOf(kv, id)
	if !ok || o.Draw == 0 || env.Height < o.Draw {
		return nil // another draw took its place
	}
	o.Draw = 0
	var events chain.Events
	switch o.Stage {
	case InWindow, AwaitAudit:
		events = o.audit(kv, env, id)
		if o.Stage == AwaitAudit && o.Audit == NoAudit {
			return append(events, o.finish(kv, env, id)...)
		}
	case InDispute:
		_, events = openPanel(kv, env, o.panel(id, o.round(roundPanel), panelSeats))
	case InAppeal:
		_, events = openPanel(kv, env, o.panel(id, o.round(roundAppeal), appealSeats))
	case Judged:
		panic("settlement: a draw for a claim that is judged")
	}
	o.save(kv, id)
	return events
}

// panel asks for a panel. Its fee is what is due when it is closed. The place of an auditor
// who is silent is taken by the next audit.
func (o *OpenClaim) panel(id crypto.Digest, round, seats uint8) Panel {
	p := Panel{Of: partOptimistic, Subject: id, Round: round, Seats: seats, Slice: part1of(o.Bond, jurorParts)}
	if seats > 1 {
		p.Redraws = panelRedraws
	}
	return p
}

// excluded names those who may not judge: who has a part in the claim, and who judged it
// before.
func (o *OpenClaim) excluded(kv state.KV, id crypto.Digest) func(crypto.PublicKey, *Provider) bool {
	cluster, ok := ClusterOf(kv, o.Cluster)
	if !ok {
		panic("settlement: a claim of a cluster that was never registered")
	}
	owners := map[chain.Address]bool{o.Claim.Provider: true, o.Consumer: true, cluster.Operator: true}
	for _, p := range []*Party{o.Challenger, o.Appellant} {
		if p != nil {
			owners[p.By] = true
		}
	}
	for round := range uint8(roundsOfTry) {
		before, _ := PanelAt(kv, panelOf(partOptimistic, id, o.round(round))) // none: nobody
		for i := range before.Jurors {
			owners[before.Jurors[i].Owner] = true
		}
		for _, owner := range before.Gone {
			owners[owner] = true
		}
	}
	return func(_ crypto.PublicKey, p *Provider) bool { return owners[p.Owner] }
}

// audit draws an auditor: the first time by a lot, and another one when nobody answered.
// The caller saves.
func (o *OpenClaim) audit(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	if o.Audits == 0 && !o.audited(env.seed(partOptimistic, id, 0)) {
		o.Audit = NoAudit
		return nil
	}
	panel, events := openPanel(kv, env, o.panel(id, o.round(o.Audits), 1))
	o.Audits++
	o.Audit = Asked
	if p, ok := PanelAt(kv, panel); !ok || len(p.Jurors) == 0 {
		o.Audit = NoAudit // the roll has nobody else
		dropDeadline(kv, p.Due, partPanel, panel)
		p.Due = 0
		events = append(events, closePanel(kv, env, &p, nil)...)
	}
	return events
}

// audited is true with probability 2v / (v + bond), or a little more, for a claim of v: of
// which a cheater gains v if nobody looks, and loses most of its bond if somebody does.
// The factor of two is for auditors who collude with the cheater.
func (o *OpenClaim) audited(lot crypto.Digest) bool {
	v := sound(o.Held.Add(o.Premium))
	all := sound(o.Bond.Add(v))
	floor, _ := bits.Mul64(binary.BigEndian.Uint64(lot[:8]), all.Nano())
	return floor < auditedTwoFold*v.Nano() // v ≤ bond / 32
}

// optimisticDue ends a claim's window, or that of an appeal.
func optimisticDue(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	o, ok := OpenClaimOf(kv, id)
	if !ok || o.Due == 0 || o.Stage != InWindow && o.Stage != Judged {
		panic("settlement: a claim that waits for nothing has a deadline")
	}
	o.Due = 0
	return o.end(kv, env, id)
}

// end finishes a claim of which everything but its audit is known.
func (o *OpenClaim) end(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	if o.Audit == Drawing || o.Audit == Asked {
		o.Stage = AwaitAudit
		o.save(kv, id)
		return nil
	}
	return o.finish(kv, env, id)
}

// optimisticDecided takes what a panel found about a claim.
func optimisticDecided(kv state.KV, env *Env, p *Panel) chain.Events {
	o, ok := OpenClaimOf(kv, p.Subject)
	if !ok {
		panic("settlement: a panel decided about a claim that is not there")
	}
	switch p.Round {
	case o.round(roundPanel):
		if p.Quiet {
			return o.raise(kv, env, p.Subject)
		}
		o.First, o.Stage = p.Verdict, Judged
		o.wait(kv, env, p.Subject)
		o.save(kv, p.Subject)
		return chain.Events{chain.ClaimJudged{Order: p.Subject, Verdict: o.First, AppealBy: chain.Number(o.Due)}}
	case o.round(roundAppeal):
		return o.end(kv, env, p.Subject)
	}
	return o.answered(kv, env, p)
}

// raise has the larger panel judge a claim that the first was too silent to judge.
func (o *OpenClaim) raise(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	o.Raised, o.Stage = true, InAppeal
	o.queueDraw(kv, env, id)
	o.save(kv, id)
	return chain.Events{chain.ClaimJudged{Order: id}}
}

// answered takes what an auditor found. One that was silent gives way to another, while
// nobody else looks at the claim.
func (o *OpenClaim) answered(kv state.KV, env *Env, p *Panel) chain.Events {
	id := p.Subject
	var events chain.Events
	quiet := o.Challenger == nil
	switch {
	case p.Verdict == nil:
		events, o.Audit = closePanel(kv, env, p, nil), NoAudit
		if quiet && o.Audits < maxAudits {
			o.Audit = Drawing
			o.queueDraw(kv, env, id)
		}
	case *p.Verdict != o.Claimed() && quiet:
		o.Audit = Answered
		auditor := &p.Jurors[0]
		events = append(events, o.challenge(kv, env, id, &Party{By: auditor.Owner, Node: auditor.Node}))
	default:
		o.Audit = Answered
	}
	if o.Stage == AwaitAudit && o.Audit != Drawing {
		return append(events, o.finish(kv, env, id)...)
	}
	o.save(kv, id)
	return events
}
