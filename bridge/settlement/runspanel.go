package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// empanel draws the panel that judges runs which do not agree: three jurors, and nine if those did
// not find the job's data.
func (r *replica) empanel() chain.Events {
	r.runs.Stage = StagePanel
	p := r.panel(roundRuns, panelSeats)
	if r.runs.Raised {
		p = r.panel(roundRunsLarger, appealSeats)
	}
	_, events := openPanel(r.kv, r.env, p)
	return events
}

// excluded reports whether a node or its owner has a part in the order, or judged or checked it before. A
// node that stakes nothing may leave, and come back with another owner.
func (r *replica) excluded() func(crypto.PublicKey, *Provider) bool {
	owners := map[chain.Address]bool{r.book.Consumer: true, r.cluster.Operator: true}
	for _, owner := range r.partakers() {
		owners[owner] = true
	}
	return func(node crypto.PublicKey, p *Provider) bool {
		return owners[p.Owner] || slices.ContainsFunc(r.runs.Runs, func(run Run) bool { return run.Bidder.Node == node })
	}
}

// jurorShare is the part of a stake that is lost, one in so many, that those share who found it
// out; the rest is burned.
const jurorShare = 4

// runsJudged takes a panel's verdict: the vote of the check, or what was found of runs that do
// not agree.
func runsJudged(kv state.KV, env *Env, panel *Panel) chain.Events {
	r := mustRuns(kv, env, panel.Subject)
	if panel.checksRuns() {
		return r.settle(r.answered(panel))
	}
	if r.runs.Stage != StagePanel || r.runs.Raised != (panel.Round == roundRunsLarger) {
		panic("settlement: a verdict on runs that wait for none")
	}
	if r.raises(panel) {
		r.runs.Raised = true
		r.queue(StagePanelDraw)
		return r.settle(nil)
	}
	return r.settle(r.judged(panel))
}

// raises reports whether nine are to judge what three did: they did not find the data, and the cluster is not to lose a
// slice of its bond by the word of two. One that was convicted has lost it already: three are enough, and no juror of theirs
// has nine others work whom nobody would pay.
func (r *replica) raises(p *Panel) bool {
	if r.runs.Raised || r.cluster.Convicted != nil {
		return false
	}
	return p.lacks() && (p.Verdict == nil || lacking(p.Verdict))
}

// judged ends an order that a panel has judged: whom it contradicts, or who committed and showed
// nothing, loses its stake; those whom it confirms are paid. If the panel found that the
// job gives other results from run to run, or its jurors do not agree, nobody is to blame and the
// consumer pays for what was done: it chose the program. If its data cannot be had the
// cluster that keeps it loses its slice, and the consumer, which chose that cluster, pays too: they
// would else have runs for nothing. If the panel found nothing because jurors were silent, only
// runs that agree, the check among them, are paid: nobody gains by silencing a panel. Those of its jurors who did
// vote are paid by the consumer all the same, as wherever nobody was wrong.
func (r *replica) judged(panel *Panel) chain.Events {
	final, best := panel.Verdict, r.agreeing()
	if r.runs.Raised {
		final = panel.leading()
	}
	finding, pool, lied := chain.RunUnstable, chain.Amount{}, chain.Amount{}
	var events chain.Events
	switch {
	case final != nil && final.Finding == chain.FoundResult:
		finding = chain.RunJudged
		best, pool, events = r.punish(final.Result)
		lied = sound(r.policy.Stake.ShareFloor(uint64(len(events)), 1)) // each lost its stake
	case final != nil && lacking(final):
		finding = chain.RunUnavailable
		pool, events = r.takeCluster()
	case final == nil && panel.Quiet && (best.size() < r.wanted() || !r.trusted(&best)):
		finding, best = chain.RunUnjudged, side{}
	}
	var owed []uint8
	switch {
	case len(best.runs) > 0 && (finding == chain.RunJudged || best.size() >= r.wanted()):
		var recorded chain.Events
		owed, recorded = r.payees(&best)
		events = append(events, recorded...)
	case finding == chain.RunUnstable || finding == chain.RunUnavailable:
		owed = r.those(RunShown)
	}
	if final != nil && final.Finding == chain.FoundResult {
		events = append(events, panel.excuse(r.kv, r.env, lied)...)
	}
	if final != nil && lacking(final) && !r.runs.Raised {
		final = nil // of three, at a convicted cluster, which can have shown the data to one of them alone
	}
	if final == nil {
		r.runs.Jurors = r.unpaid(panel)
	}
	events = append(events, r.closePanels(panel, final, pool)...)
	return append(events, r.owe(finding, owed[:min(len(owed), int(r.policy.K))])...)
}

// unpaid lists the owners of those jurors about the runs, of whom the last panel found nothing, whose vote is what a run gave,
// or what another juror found. The consumer pays them, as it pays the runs. A vote that stands alone may be made up,
// and one for no result proves no run.
func (r *replica) unpaid(last *Panel) (owners []chain.Address) {
	panels := []*Panel{last}
	if r.runs.Raised {
		panels = append(panels, r.panelAt(roundRuns))
	}
	if check := r.checked(); check != nil {
		if _, none := r.runOf(check.Jurors[0].Node); none != nil { // else it is paid as a run
			panels = append(panels, check)
		}
	}
	times := map[chain.Vote]int{}
	for _, c := range r.shown() { // order-free: they are counted
		times[chain.Vote{Finding: chain.FoundResult, Result: c.Yield()}]++
	}
	for _, p := range panels {
		for i := range p.Jurors {
			if vote := p.Jurors[i].Vote; vote != nil {
				times[*vote]++
			}
		}
	}
	for _, p := range panels {
		for i := range p.Jurors {
			if vote := p.Jurors[i].Vote; vote != nil && vote.Finding == chain.FoundResult && times[*vote] > 1 {
				owners = append(owners, p.Jurors[i].Owner)
			}
		}
	}
	return owners
}

// punish slashes the runs that a yield contradicts, and returns those whose yield it is, and what
// is lost for those who found it.
func (r *replica) punish(yield crypto.Digest) (right side, pool chain.Amount, events chain.Events) {
	claims, check := r.shown(), r.checked()
	right.vouched = check != nil && check.votes(chain.Vote{Finding: chain.FoundResult, Result: yield}) > 0
	for i := range r.runs.Runs {
		run := &r.runs.Runs[i]
		switch claim := claims[i]; {
		case claim != nil && claim.Yield() == yield && run.State == RunUnattested: // is not paid, and keeps its stake
		case claim != nil && claim.Yield() == yield:
			right.runs = append(right.runs, uint8(i))
		case run.State == RunShown || run.State == RunUnattested || run.State == RunSilent:
			reward := part1of(r.policy.Stake, jurorShare)
			slashed := takeSlice(r.kv, r.env, run.Bidder.Node, r.policy.Stake, reward)
			slashed.Subject = r.id
			run.Staked = false
			pool = sound(pool.Add(reward))
			events = append(events, slashed)
		}
	}
	return right, pool, events
}

// takeCluster takes the cluster's slice, and returns what of it is for those who found the job's
// data missing: nothing, if all of it is owed to those who lost by the cluster.
func (r *replica) takeCluster() (pool chain.Amount, events chain.Events) {
	if r.runs.Slice.IsZero() {
		return pool, nil // of an order that is worth nothing
	}
	pool = part1of(r.atRisk(), jurorShare)
	events = r.slice().take(pool)
	r.runs.Slice = chain.Amount{}
	return pool, events
}

// leading is what a panel found of which some could not have the job's data, and others could: what
// most of its jurors say, by a third of the seats at least, if more than half of them show a vote: a few
// accomplices are nobody's judges where the others could not vote. Of equally many those count who could
// not: whoever shows the data to some of the jurors alone, so that no side has more than half of
// them, does not get away with it.
func (p *Panel) leading() *chain.Vote {
	if p.Verdict != nil || !p.lacks() {
		return p.Verdict
	}
	best := &chain.Vote{Finding: chain.FoundUnavailable}
	most, shown := p.votes(*best), 0
	for i := range p.Jurors {
		vote := p.Jurors[i].Vote
		if vote == nil {
			continue
		}
		shown++
		if like := p.votes(*vote); like > most {
			best, most = vote, like
		}
	}
	if 2*shown <= int(p.Seats) || 3*most < int(p.Seats) {
		return nil
	}
	return best
}

// held is a panel, and what its jurors are held against; nil: nothing.
type held struct {
	panel *Panel
	final *chain.Vote
}

// panels lists all panels about the runs, of which the last has found what is final, and returns what
// is borne of their fees besides the pool.
func (r *replica) panels(last *Panel, final *chain.Vote, pool chain.Amount) (list []held, borne chain.Amount, events chain.Events) {
	list = []held{{last, final}}
	if r.runs.Raised {
		first := r.panelAt(roundRuns)
		if final != nil && !lacking(final) {
			borne, events = r.bear(first, pool)
		}
		if final != nil {
			events = append(events, first.spare(r.kv, r.env, final)...)
		}
		list = append(list, held{first, final})
	}
	if check := r.checked(); check != nil {
		h := held{check, final}
		if vote := check.Verdict; final != nil {
			gone := vote.Finding == chain.FoundResult && final.Finding != chain.FoundResult
			came := lacking(vote) && !lacking(final)
			if gone || came { // it saw another state of the job's data
				h.final = nil
			}
			if came && !r.runs.Raised {
				var lost chain.Events
				if borne, lost = r.bear(check, pool); len(lost) == 0 {
					lost = check.dismiss(r.kv, r.env)
				}
				events = append(events, lost...)
			}
		}
		list = append(list, h)
	}
	return list, borne, events
}

// bear has panels paid that found data which jurors of one before them could not have, where next to nothing is lost
// by whoever lied: either the cluster showed it late, or those jurors said so in vain, and nobody can tell which. So each of the
// jurors loses what its silence costs, and the cluster as much of its slice as they do together: whoever brings that upon
// the other loses as much, and no minority of jurors gains by it. They lose no more than the cluster can: of one that was
// convicted the slice is owed to those who lost by it, so that it loses nothing, and who could not have the data is let go.
func (r *replica) bear(p *Panel, pool chain.Amount) (borne chain.Amount, events chain.Events) {
	lacked := p.votes(chain.Vote{Finding: chain.FoundUnavailable}) // one at least, or no panel came after it
	most, loss := part1of(r.atRisk(), uint64(lacked)), chain.Amount{}
	each := func(j *Juror) chain.Amount { return lesser(j.silentLoss(r.env), most) }
	for i := range p.Jurors {
		if j := &p.Jurors[i]; j.Vote != nil && lacking(j.Vote) {
			loss = sound(loss.Add(each(j)))
		}
	}
	if both := sound(loss.Add(loss)); loss.IsZero() || !pool.Less(both) {
		return borne, nil
	}
	p.Jurors = slices.DeleteFunc(p.Jurors, func(j Juror) bool {
		if j.Vote == nil || !lacking(j.Vote) {
			return false
		}
		lost := each(&j)
		slashed := takeSlice(r.kv, r.env, j.Node, lost, lost)
		slashed.Subject = r.id
		events = append(events, slashed)
		unlockSlice(r.kv, j.Node, sound(j.Staked.Sub(lost)))
		return true
	})
	part := r.slice()
	part.amount = loss
	events = append(events, part.take(loss)...)
	r.runs.Slice = sound(r.runs.Slice.Sub(loss))
	return sound(loss.Add(loss)), events
}

// atRisk is what the cluster can lose of its slice: nothing once it is convicted, as that is none of its own any more. To
// whoever would be paid out of it, its operator's nodes among them, it would cost those who lost by the cluster.
func (r *replica) atRisk() chain.Amount {
	if r.cluster.Convicted != nil {
		return chain.Amount{}
	}
	return r.runs.Slice
}

// dismiss has the check lose what silence costs: it alone could not have the data. Whoever keeps that can
// show it to three jurors and not to the check; were it to lose more than by its silence, each would be
// silent that cannot have the data.
func (p *Panel) dismiss(kv state.KV, env *Env) chain.Events {
	j := p.Jurors[0]
	p.Jurors = nil
	return p.free(kv, env, &j, j.silentLoss(env))
}

// missedShare is one in so many of its stake, that a juror loses at least which could not have the data
// of a job, as others of its panel could not, if the panel found a result: see excuse.
const missedShare = 32

// excuse frees those of a panel that found a result who could not have the job's data: the cluster can
// have hidden it from them, from one as from more. They lose as much together as those lost whose runs are
// wrong, a quarter of their stakes at most and a part of them, or what silence costs, at least. So whoever hides
// data from jurors loses as much as they do, and whoever would have them say so in vain pays them
// as much as that could save.
func (p *Panel) excuse(kv state.KV, env *Env, lied chain.Amount) (events chain.Events) {
	missed := p.votes(chain.Vote{Finding: chain.FoundUnavailable})
	if missed == 0 {
		return nil
	}
	each := part1of(lied, uint64(missed))
	p.Jurors = slices.DeleteFunc(p.Jurors, func(j Juror) bool {
		if j.Vote == nil || !lacking(j.Vote) {
			return false
		}
		least := larger(part1of(j.Staked, missedShare), j.silentLoss(env))
		events = append(events, p.free(kv, env, &j, lesser(larger(each, least), part1of(j.Staked, wrongShare)))...)
		return true
	})
	return events
}

// closePanels closes all panels about the runs. Those who found what was found in the end share the
// pool, and what is borne besides.
func (r *replica) closePanels(last *Panel, final *chain.Vote, pool chain.Amount) chain.Events {
	list, borne, events := r.panels(last, final, pool)
	pool = sound(pool.Add(borne))
	right := 0
	for _, h := range list {
		if h.final != nil {
			right += h.panel.votes(*h.final)
		}
	}
	left := till{pool}
	for _, h := range list {
		if h.final != nil && right > 0 {
			h.panel.Fee = left.take(sound(pool.ShareFloor(uint64(h.panel.votes(*h.final)), uint64(right))))
		}
		events = append(events, closePanel(r.kv, r.env, h.panel, h.final)...)
	}
	tokens.Burn(r.kv, left.left)
	return events
}
