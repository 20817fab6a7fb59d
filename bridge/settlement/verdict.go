package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// verdict is the end of a claim in its window.
type verdict struct {
	*OpenClaim
	kv      state.KV
	env     *Env
	id      crypto.Digest
	claimed chain.Vote
	final   *chain.Vote // nil: nothing was found
	audit   *Panel      // nil: there was none that answered
	first   *Panel      // nil: nobody challenged
	appeal  *Panel      // nil: nobody appealed
	events  chain.Events
}

// finish pays a claim, or gives the consumer its money back and slashes; it gives every
// stake to whom it belongs, frees what is locked, and forgets the claim.
func (o *OpenClaim) finish(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	v := &verdict{OpenClaim: o, kv: kv, env: env, id: id, claimed: o.Claimed()}
	v.gather()
	paid, refunded := v.settle()
	v.closeAudit()
	kv.Delete(OpenClaimKey(id))
	v.events = append(v.events, chain.ClaimClosed{
		Order: id, Node: o.Claim.Node, Sequence: chain.Number(o.Claim.Sequence), Consumer: o.Consumer, Provider: o.Claim.Provider,
		Verdict: v.final, Paid: paid, Refunded: refunded,
	})
	return v.events
}

// gather finds the panels and what they found in the end. Without a dispute the claim
// stands as it is, and a panel of appeal that does not agree leaves what the first found:
// a roll that is too small for it must not undo every verdict.
func (v *verdict) gather() {
	if v.Audit == Answered {
		v.audit = v.panelAt(v.Audits - 1)
	}
	if v.Challenger == nil {
		v.final = &v.claimed
		return
	}
	v.first, v.final = v.panelAt(roundPanel), v.First
	if v.Appellant != nil || v.Raised {
		v.appeal = v.panelAt(roundAppeal)
		if v.appeal.Verdict != nil {
			v.final = v.appeal.Verdict
		}
	}
	v.spare()
	if v.final == nil {
		v.dismissAlone()
	}
}

// dismissAlone lets go, without a fee, who voted for what nobody else found, neither who claimed nor any
// juror or auditor, where nothing was found: made-up links would else pay as soon as enough jurors
// made them up for a panel to find nothing. An auditor whose challenge nobody judged loses a fee by it.
func (v *verdict) dismissAlone() {
	times := map[chain.Vote]int{v.claimed: 1}
	panels := []*Panel{v.first, v.appeal, v.audit}
	for _, p := range panels {
		if p == nil {
			continue
		}
		for i := range p.Jurors {
			if vote := p.Jurors[i].Vote; vote != nil {
				times[*vote]++
			}
		}
	}
	if v.byAudit() && v.quiet() {
		panels = panels[:2] // unjudged takes what the auditor loses
	}
	for _, p := range panels {
		if p == nil {
			continue
		}
		p.Jurors = slices.DeleteFunc(p.Jurors, func(j Juror) bool {
			alone := j.Vote != nil && times[*j.Vote] < 2
			if alone {
				v.events = append(v.events, p.free(v.kv, v.env, &j, chain.Amount{})...)
			}
			return alone
		})
	}
}

func (v *verdict) panelAt(round uint8) *Panel {
	p, ok := PanelAt(v.kv, panelOf(partOptimistic, v.id, v.round(round)))
	if !ok {
		panic("settlement: a panel that judged is not there")
	}
	return &p
}

// spare lets the first panel's jurors go who saw another state of the job's data than the larger
// panel did.
func (v *verdict) spare() {
	if v.appeal != nil && v.appeal.Verdict != nil {
		v.events = append(v.events, v.first.spare(v.kv, v.env, v.final)...)
	}
}

// late reports whether the larger panel found a claim right whose data the first could not have.
// Either it was withheld at first or the first panel lied: nobody can tell which.
func (v *verdict) late() bool {
	return v.Appellant != nil && v.First != nil && lacking(v.First) && *v.final == v.claimed
}

// settle divides what is held and what is lost, and returns whether the claim was paid, or
// what went back to the consumer.
func (v *verdict) settle() (paid bool, refunded chain.Amount) {
	switch {
	case v.final == nil && v.quiet():
		return false, v.unjudged()
	case v.final == nil || v.final.Finding == chain.FoundUnstable:
		v.undecided()
	case v.late():
		v.shown()
	case *v.final == v.claimed && v.missed():
		v.undecided()
	case *v.final == v.claimed:
		v.upheld()
	default:
		return false, v.refuted()
	}
	return true, chain.Amount{}
}

// quiet reports whether nothing was found because jurors were silent.
func (v *verdict) quiet() bool {
	if v.Raised { // nobody asked for the second panel: the first was silent
		return v.appeal.Quiet
	}
	return v.first != nil && v.first.Quiet
}

// byAudit reports whether it was an auditor who challenged the claim: it staked its slice.
func (v *verdict) byAudit() bool { return v.Challenger != nil && !v.Challenger.Node.IsZero() }

// missed reports whether it was an auditor who challenged the claim because it could not have
// the job's data. Whoever keeps data can show it to the panel and not to the auditor, and
// is to gain nothing by it; the auditor loses what a wrong vote costs.
func (v *verdict) missed() bool {
	return v.byAudit() && v.audit.votes(chain.Vote{Finding: chain.FoundUnavailable}) > 0
}

// staked is what whoever challenged the claim loses if that was wrong.
func (v *verdict) staked() till {
	if v.byAudit() {
		return till{v.audit.Jurors[0].Staked}
	}
	return till{v.Challenger.Stake}
}

// forfeit burns what is left of what was staked on a challenge. What an auditor staked is
// part of its bond until then.
func (v *verdict) forfeit(lost till) {
	if !v.byAudit() {
		tokens.Burn(v.kv, lost.left)
		return
	}
	auditor := &v.audit.Jurors[0]
	slashed := takeSlice(v.kv, v.env, auditor.Node, auditor.Staked, sound(auditor.Staked.Sub(lost.left)))
	slashed.Subject = v.id
	v.events = append(v.events, slashed)
	v.audit.Jurors = nil
}

// upheld pays the provider; who said that it was wrong loses the stake.
func (v *verdict) upheld() {
	v.pay()
	v.freeSlices()
	if v.Challenger == nil {
		return
	}
	lost := v.staked()
	v.close(v.first, lost.take(v.fees(v.first)))
	if v.overturned() {
		v.rewardAppellant(&lost)
		v.close(v.appeal, v.feesFrom(&lost, v.appeal))
	} else {
		v.appealLost(v.Claim.Provider)
	}
	v.credit(v.Claim.Provider, lost.take(part1of(lost.left, 2)))
	v.forfeit(lost)
}

// refuted slashes whoever answers for what was found: the cluster if the job's data cannot
// be had, which it keeps, and else the node that gave the result. The consumer has the
// whole charge back.
func (v *verdict) refuted() chain.Amount {
	lost := till{v.Bond}
	v.close(v.first, lost.take(v.fees(v.first)))
	tokens.Credit(v.kv, v.Challenger.By, sound(v.Challenger.Stake.Add(lost.take(part1of(v.Bond, rewardParts)))))
	if v.overturned() {
		v.rewardAppellant(&lost)
		v.close(v.appeal, lost.take(v.fees(v.appeal)))
	} else {
		v.appealLost(v.Challenger.By)
	}
	refund := sound(v.Held.Add(lost.take(v.Premium)))
	given := sound(v.Bond.Sub(lost.left))
	why := RefutedResult
	if v.final.Finding == chain.FoundUnavailable {
		why = RefutedData
		unlockSlice(v.kv, v.Claim.Node, v.Bond)
		v.events = append(v.events, v.slice().take(given)...)
	} else {
		slashed := takeSlice(v.kv, v.env, v.Claim.Node, v.Bond, given)
		slashed.Subject = v.id
		v.events = append(v.events, slashed)
		v.freeCluster()
	}
	v.refuse(why, refund)
	return refund
}

// refuse gives the consumer an amount back for a claim that is not paid. Another node may claim.
func (v *verdict) refuse(why Refutation, refund chain.Amount) {
	v.repay(refund)
	c := &v.Claim
	c.Height, c.Records, c.Refuted = v.env.Height, nil, why
	c.Cost = sound(sound(v.Held.Add(v.Premium)).Sub(refund))
	c.Treasury = c.Cost // the audits' fund has it
	book := v.keepOrder()
	book.Spent, book.Closed = sound(book.Spent.Sub(refund)), false
	v.saveClaim(&book)
}

// unjudged ends a claim that was challenged, and that too few would judge: nobody is paid
// for it and nobody slashed. Who challenged it pays those who did vote, and a fee that is
// burned: not less than the consumer gets back, so that no consumer gains by silencing
// jurors.
func (v *verdict) unjudged() chain.Amount {
	v.freeSlices()
	fee, asked := part1of(v.Bond, feeParts), till{v.Challenger.Stake}
	if v.byAudit() {
		auditor := &v.audit.Jurors[0]
		lost := till{auditor.Staked}
		v.events = append(v.events, v.audit.free(v.kv, v.env, auditor, lost.take(fee))...)
	} else {
		tokens.Burn(v.kv, asked.take(fee))
	}
	v.payJurors(asked)
	if v.byAudit() {
		v.audit.Jurors = nil // it has lost what it loses
	}
	v.refuse(RefutedUnjudged, v.Held)
	return v.Held
}

// repay brings an amount back to where the consumer's money came from. The claim holds nothing any more.
func (v *verdict) repay(amount chain.Amount) {
	escrow := openPurse(v.kv, v.env, v.Consumer, v.Cluster)
	escrow.letGo(v.Held)
	escrow.put(amount)
}

// undecided slashes nobody: the consumer pays the provider, as its program gives no one
// result that could be wrong, and who asked for a panel pays its jurors.
func (v *verdict) undecided() {
	v.pay()
	v.freeSlices()
	v.payJurors(till{v.Challenger.Stake})
}

// shown pays the provider of a claim whose data came late. Who challenged it and who appealed bear
// the panels' fees by halves, an auditor's half out of the fund, and lose nothing else: withholding
// data costs whoever does it what it costs the other, and so does buying a panel.
func (v *verdict) shown() {
	v.pay()
	v.freeSlices()
	fees := sound(v.fees(v.first).Add(v.fees(v.appeal)))
	half := part1of(fees, 2)
	challenged, appealed := till{v.Challenger.Stake}, till{v.Appellant.Stake}
	got := challenged.take(half)
	if v.byAudit() {
		got = takeFund(v.kv, v.env, half)
	}
	pool := till{sound(got.Add(appealed.take(sound(fees.Sub(half)))))}
	v.close(v.first, pool.take(v.fees(v.first)))
	v.close(v.appeal, pool.take(v.fees(v.appeal)))
	v.credit(v.Challenger.By, challenged.left)
	v.credit(v.Appellant.By, appealed.left)
}

// payJurors has who asked for a panel pay those of it who voted, where nobody was wrong.
func (v *verdict) payJurors(asked till) {
	v.close(v.first, v.feesFrom(&asked, v.first))
	if v.Appellant == nil { // or the larger one judged unasked
		v.close(v.appeal, v.feesFrom(&asked, v.appeal))
	}
	v.credit(v.Challenger.By, asked.left)
	if v.Appellant != nil {
		asked = till{v.Appellant.Stake}
		v.close(v.appeal, asked.take(v.fees(v.appeal)))
		v.credit(v.Appellant.By, asked.left)
	}
}

// overturned reports whether the panel of appeal found something else than the first.
func (v *verdict) overturned() bool {
	return v.appeal != nil && v.appeal.Verdict != nil && (v.First == nil || *v.First != *v.appeal.Verdict)
}

// rewardAppellant gives an appellant who was right the stake back, and a part of what was
// lost. A claim that was raised has none.
func (v *verdict) rewardAppellant(lost *till) {
	if v.Appellant == nil {
		return
	}
	tokens.Credit(v.kv, v.Appellant.By, sound(v.Appellant.Stake.Add(lost.take(part1of(v.Bond, appealParts)))))
}

// appealLost has an appellant who was wrong, if there is one, pay for it.
func (v *verdict) appealLost(winner chain.Address) {
	if v.Appellant == nil {
		return
	}
	lost := till{v.Appellant.Stake}
	v.close(v.appeal, lost.take(v.fees(v.appeal)))
	v.credit(winner, lost.take(part1of(lost.left, 2)))
	tokens.Burn(v.kv, lost.left)
}

func (v *verdict) credit(to chain.Address, amount chain.Amount) {
	if !amount.IsZero() {
		tokens.Credit(v.kv, to, amount)
	}
}

// fees is what is due to a panel: a fee for each juror who found what was found in the
// end, or if nothing was, who voted, and not alone.
func (v *verdict) fees(p *Panel) chain.Amount {
	if p == nil {
		return chain.Amount{}
	}
	paid := uint64(0)
	for i := range p.Jurors {
		if vote := p.Jurors[i].Vote; vote != nil && (v.final == nil || *vote == *v.final) {
			paid++
		}
	}
	return sound(part1of(v.Bond, feeParts).ShareFloor(paid, 1))
}

// feesFrom takes a panel's fees out of what was staked on a challenge; what is missing of an
// auditor's, out of the fund that audits are paid from.
func (v *verdict) feesFrom(lost *till, p *Panel) chain.Amount {
	fees := v.fees(p)
	got := lost.take(fees)
	if !v.byAudit() {
		return got
	}
	return sound(got.Add(takeFund(v.kv, v.env, sound(fees.Sub(got)))))
}

// close pays a panel, if there is one, a fee that was taken from somebody.
func (v *verdict) close(p *Panel, fee chain.Amount) {
	if p == nil {
		return
	}
	p.Fee = fee
	v.events = append(v.events, closePanel(v.kv, v.env, p, v.final)...)
}

// closeAudit pays the auditor. One that found nothing wrong loses nothing because the data was
// gone when others looked, or the job gave them another result: that does not say that it lied.
// Nor does it that one which could not have the data, as the first panel could not, was followed
// by a panel that could.
func (v *verdict) closeAudit() {
	if v.audit == nil {
		return
	}
	final := v.final
	if final != nil && final.Finding != chain.FoundResult && v.audit.votes(v.claimed) > 0 {
		final = nil
	}
	if v.byAudit() && v.missed() && v.First != nil && lacking(v.First) {
		final = nil
	}
	v.audit.Fee = takeFund(v.kv, v.env, v.fees(v.audit))
	v.events = append(v.events, closePanel(v.kv, v.env, v.audit, final)...)
}

// pay divides the charge as any other claim's, but that the premium goes to the fund: of what the work cost the
// provider bears it, and of the priority fee, of which the provider gets nothing, what would be burned does.
func (v *verdict) pay() {
	cluster, ok := ClusterOf(v.kv, v.Cluster)
	if !ok {
		panic("settlement: a claim of a cluster that was never registered")
	}
	book := v.keepOrder()
	s := splitCost(sound(v.Held.Add(v.Premium)), &v.env.Params, shares{cluster.FeeBps, book.PriorityBps})
	spared := part1of(sound(s.priorityBurned.Add(s.priorityFee)), premiumParts) // MinPriorityBurnBps is more
	s.burned, s.priorityBurned = sound(s.burned.Sub(spared)), sound(s.priorityBurned.Sub(spared))
	s.paid = sound(s.paid.Sub(sound(v.Premium.Sub(spared))))
	c := &v.Claim
	escrow := openPurse(v.kv, v.env, v.Consumer, v.Cluster)
	escrow.letGo(v.Held)
	if fact, known := factOf(c.Exit); known {
		noteNode(v.kv, v.env, c.Node, fact, s.feeBurned)
		escrow.note(v.env, fact, s.feeBurned)
	}
	escrow.save()
	tokens.Credit(v.kv, c.Provider, s.paid)
	tokens.Credit(v.kv, Treasury, s.treasury)
	tokens.Credit(v.kv, cluster.Operator, s.clusterFee)
	tokens.Burn(v.kv, s.burned)
	c.Height, c.Cost, c.Paid, c.Burned, c.ClusterFee = v.env.Height, s.cost, s.paid, s.burned, s.clusterFee
	c.Treasury = sound(s.treasury.Add(v.Premium))
	c.PriorityBurned, c.PriorityFee = s.priorityBurned, s.priorityFee
	v.saveClaim(&book)
	v.events = append(v.events, chain.ClaimSettled{
		Order: v.id, Node: c.Node, Sequence: chain.Number(c.Sequence), Consumer: v.Consumer, Provider: c.Provider, Cluster: v.Cluster,
		Policy: v.Policy.String(), Result: c.Result, Exit: c.Exit,
		Cost: c.Cost, Paid: c.Paid, Burned: c.Burned, Treasury: c.Treasury, ClusterFee: c.ClusterFee,
		PriorityBurned: c.PriorityBurned, PriorityFee: c.PriorityFee, Records: c.Records,
	})
}

func (v *verdict) saveClaim(book *Order) {
	key := chain.ClaimKey{Order: v.id, Node: v.Claim.Node, Sequence: v.Claim.Sequence}
	kept := v.Claim
	kept.Records = nil
	state.Save(v.kv, ClaimKey(key), kept)
	saveOrder(v.kv, v.id, book)
}

// keptMs is how long what became of a claim stays known at least.
const keptMs = 3_600_000

// keepOrder returns the order's record, which stays for a while from now on.
func (v *verdict) keepOrder() Order {
	book, ok := OrderOf(v.kv, v.id)
	if !ok {
		panic("settlement: an order was forgotten before its claim")
	}
	until, fits := checked.Add(uint64(v.env.Now), keptMs)
	if fits && uint64(book.Expires) < until {
		v.kv.Delete(expiryKey(book.Expires, v.id[:]))
		book.Expires = chain.TimeMs(until)
		v.kv.Set(expiryKey(book.Expires, v.id[:]), []byte{})
	}
	return book
}

func (v *verdict) freeSlices() {
	unlockSlice(v.kv, v.Claim.Node, v.Bond)
	v.freeCluster()
}

// slice is what the claim locks of its cluster's bond.
func (v *verdict) slice() *clusterSlice {
	return &clusterSlice{kv: v.kv, env: v.env, cluster: v.Cluster, order: v.id, amount: v.Bond}
}

func (v *verdict) freeCluster() { v.events = append(v.events, v.slice().free()...) }

// till is money that is divided.
type till struct{ left chain.Amount }

// take takes an amount out, or what there is.
func (t *till) take(want chain.Amount) chain.Amount {
	rest, ok := t.left.Sub(want)
	if !ok {
		want, rest = t.left, chain.Amount{}
	}
	t.left = rest
	return want
}

// takeFund takes an amount, or what there is, out of the fund that audits are paid from.
func takeFund(kv state.KV, env *Env, want chain.Amount) chain.Amount {
	fund := till{tokens.AccountOf(kv, AuditFund).Balance}
	got := fund.take(want)
	if got.IsZero() {
		return got
	}
	if why := tokens.Debit(kv, AuditFund, got, env.Now); why != nil {
		panic("settlement: the audits' fund has less than its balance: " + why.Reason())
	}
	return got
}
