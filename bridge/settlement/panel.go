package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Panel is some nodes, drawn from the roll, that run a job again and vote on its result:
// first all commit to their votes, then they show them. Who does not commit in time gives
// way to another, as often as Redraws says, before any vote is shown. It decides by more
// than half of its seats, and is kept until the part that asked for it closes it.
type Panel struct {
	_         struct{} `cbor:",toarray"`
	Of        part     // that asked
	Subject   crypto.Digest
	Round     uint8        // tells panels on one subject apart
	Seats     uint8        // fewer jurors than that may have been found
	Slice     chain.Amount // that each juror is to stake; a roll that is too poor has them stake less
	Fee       chain.Amount // that those who find what is found in the end share
	Due       uint64       // of the chain's progress: the deadline that is queued; 0: none is
	Revealing bool         // all have committed, or the time for that is over
	Redraws   uint8        // how often jurors who are silent may still be replaced
	DrawAt    chain.Height // of the draw of those who take their places; 0: none is queued
	Jurors    []Juror
	Gone      []chain.Address // owners of those who were replaced
	Verdict   *chain.Vote     // of more than half of the seats; once decided, nil: there is none
	Quiet     bool            // there is none because votes are missing that could have made one
}

// Juror is a seat on a panel.
type Juror struct {
	_          struct{} `cbor:",toarray"`
	Node       crypto.PublicKey
	Owner      chain.Address
	Staked     chain.Amount
	Commitment crypto.Digest // zero: none yet
	Vote       *chain.Vote   // nil: not shown yet
}

// panelRedraws is how often the jurors of a panel who are silent are replaced.
const panelRedraws = 2

// PanelMs is how much of the chain's progress a panel takes at most, beside the blocks of its draws.
func PanelMs(p *chain.Params) uint64 { return (1+panelRedraws)*p.CommitMs + p.RevealMs }

// panelOf names the panel of a round on a subject.
func panelOf(of part, subject crypto.Digest, round uint8) crypto.Digest {
	return crypto.DomainPanel.Hash(append(subject[:], byte(of), round))
}

// LinkOf returns the link of a run that a panel of that name, if there is one, has its jurors show, and
// whether it judges an order.
func LinkOf(panel, order crypto.Digest) (at chain.Link, judges bool) {
	for of, rounds := range map[part]uint8{partRuns: roundRunsLarger, partOptimistic: maxTries*roundsOfTry - 1} { // order-free: any of them
		for round := range rounds + 1 {
			if panel == panelOf(of, order, round) {
				return linkOf(of, round), true
			}
		}
	}
	return chain.Link{}, false
}

// linkOf returns the link that a panel has its jurors show: a deeper one than any that was shown
// before they are bound. All jurors of a panel are bound before any of them shows a link; auditors
// follow each other, and so do the two panels on a claim, and the check from the roll and the two
// panels on replicated runs. Those on later claims of an order come after those on earlier ones.
func linkOf(of part, round uint8) chain.Link {
	switch {
	case of == partRuns && round == roundRunsCheck:
		return chain.Link{Strand: chain.StrandPanels, Depth: 1}
	case of == partRuns && round == roundRuns:
		return chain.Link{Strand: chain.StrandPanels, Depth: 2}
	case of == partRuns && round == roundRunsLarger:
		return chain.Link{Strand: chain.StrandPanels, Depth: 3}
	case of == partOptimistic && round%roundsOfTry < roundPanel:
		return chain.Link{Strand: chain.StrandRuns, Depth: round/roundsOfTry*maxAudits + round%roundsOfTry + 1}
	case of == partOptimistic:
		return chain.Link{Strand: chain.StrandPanels, Depth: round/roundsOfTry*panelsOfTry + round%roundsOfTry - roundPanel + 1}
	}
	panic("settlement: a panel of a part that asks for none")
}

// PanelAt returns a panel, and false if there is none, or no longer.
func PanelAt(r state.Reader, id crypto.Digest) (Panel, bool) {
	return state.Load[Panel](r, PanelKey(id))
}

// DecodePanel decodes a panel's record, for those who checked its proof.
func DecodePanel(value []byte) (Panel, error) { return decode[Panel](value) }

// JudgesRuns reports whether the panel judges or checks runs under PolicyReplicate, and else
// judges a claim under PolicyOptimistic.
func (p *Panel) JudgesRuns() bool { return p.Of == partRuns }

// checksRuns reports whether the panel is the node of the roll that checks runs.
func (p *Panel) checksRuns() bool { return p.JudgesRuns() && p.Round == roundRunsCheck }

// openPanel draws a panel of so many seats with this block's randomness: to be called at a
// block's beginning, for what was settled DrawDelay blocks before. p says who asks for it,
// for what, in which round, what its jurors are to stake, and the fee that it holds, which
// the caller has taken from somebody. A panel for which so few are found that they could
// decide nothing has no jurors, and is decided in the next block.
func openPanel(kv state.KV, env *Env, p Panel) (crypto.Digest, chain.Events) {
	id := panelOf(p.Of, p.Subject, p.Round)
	found := p.draw(kv, env, id)
	if 2*len(found.nodes) <= int(p.Seats) {
		found.nodes = nil
	}
	return id, p.seat(kv, env, id, found)
}

// draw draws nodes for the seats that are free.
func (p *Panel) draw(kv state.KV, env *Env, id crypto.Digest) drawn {
	excluded := p.Of.excluded(kv, env, p.Subject)
	return drawNodes(kv, env, draw{
		seed: env.seed(partPanel, id, p.Round), want: int(p.Seats) - len(p.Jurors), stake: p.Slice, least: env.Params.JurorSlice,
		excluded: func(node crypto.PublicKey, at *Provider) bool {
			return slices.Contains(p.Gone, at.Owner) || slices.ContainsFunc(p.Jurors, func(j Juror) bool { return j.Owner == at.Owner }) || excluded(node, at)
		},
	})
}

// seat seats those who were drawn, has them commit, and saves the panel.
func (p *Panel) seat(kv state.KV, env *Env, id crypto.Digest, found drawn) chain.Events {
	for _, node := range found.nodes {
		if why := lockSlice(kv, node, found.stake); why != nil {
			panic("settlement: a juror was drawn without a slice to stake: " + why.Reason())
		}
		juror, _ := ProviderOf(kv, node) // lockSlice found it
		p.Jurors = append(p.Jurors, Juror{Node: node, Owner: juror.Owner, Staked: found.stake})
	}
	commitMs := env.Params.CommitMs
	if len(p.Jurors) == 0 {
		commitMs = 1
	}
	p.Due = queueDeadline(kv, env, commitMs, partPanel, id)
	state.Save(kv, PanelKey(id), *p)
	return chain.Events{chain.PanelDrawn{Panel: id, Subject: p.Subject, Jurors: found.nodes, CommitBy: chain.Number(p.Due)}}
}

// seated returns a panel and a seat of it.
func seated(kv state.KV, id crypto.Digest, node crypto.PublicKey) (*Panel, *Juror, *chain.Rejection) {
	p, ok := PanelAt(kv, id)
	if !ok {
		return nil, nil, chain.Reject("panel %s is not there", id.Short())
	}
	i := slices.IndexFunc(p.Jurors, func(j Juror) bool { return j.Node == node })
	if i < 0 {
		return nil, nil, chain.Reject("node %s is not on panel %s", node.Short(), id.Short())
	}
	return &p, &p.Jurors[i], nil
}

// CommitVote takes a juror's commitment: the first one counts.
func CommitVote(kv state.KV, env *Env, m chain.CommitVote) (chain.Events, *chain.Rejection) {
	p, juror, why := seated(kv, m.Panel, m.Node)
	switch {
	case why != nil:
		return nil, why
	case p.Revealing || p.DrawAt != 0 || p.Due <= env.ProgressMs:
		return nil, chain.Reject("panel %s takes no more commitments", m.Panel.Short())
	case juror.Commitment != (crypto.Digest{}):
		return nil, chain.Reject("node %s has committed already", m.Node.Short())
	case m.Commitment == (crypto.Digest{}):
		return nil, chain.Reject("commitment is zero")
	case !m.Node.Verify(crypto.DomainVote, chain.VotePayload(env.ChainID, m.Panel, m.Commitment), m.Signature):
		return nil, chain.Reject("commitment is not signed by node %s", m.Node.Short())
	}
	juror.Commitment = m.Commitment
	var events chain.Events
	if !slices.ContainsFunc(p.Jurors, func(j Juror) bool { return j.Commitment == (crypto.Digest{}) }) {
		dropDeadline(kv, p.Due, partPanel, m.Panel)
		events = p.reveal(kv, env, m.Panel)
	}
	state.Save(kv, PanelKey(m.Panel), *p)
	return events, nil
}

// reveal has the jurors show their votes. The caller saves the panel.
func (p *Panel) reveal(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	p.Revealing = true
	p.Due = queueDeadline(kv, env, env.Params.RevealMs, partPanel, id)
	return chain.Events{chain.PanelRevealing{Panel: id, RevealBy: chain.Number(p.Due)}}
}

// RevealVote takes a juror's vote. The last one decides.
func RevealVote(kv state.KV, env *Env, m chain.RevealVote) (chain.Events, *chain.Rejection) {
	p, juror, why := seated(kv, m.Panel, m.Node)
	switch {
	case why != nil:
		return nil, why
	case !p.Revealing || p.Due <= env.ProgressMs:
		return nil, chain.Reject("panel %s does not take votes now", m.Panel.Short())
	case juror.Vote != nil:
		return nil, chain.Reject("node %s has shown its vote already", m.Node.Short())
	case m.Testimony.Commitment(m.Panel, m.Node, m.Salt) != juror.Commitment:
		return nil, chain.Reject("vote is not what node %s committed to", m.Node.Short())
	}
	vote := m.Testimony.Vote(linkOf(p.Of, p.Round))
	juror.Vote = &vote
	for i := range p.Jurors {
		if j := &p.Jurors[i]; j.Vote == nil && j.Commitment != (crypto.Digest{}) {
			state.Save(kv, PanelKey(m.Panel), *p)
			return nil, nil
		}
	}
	dropDeadline(kv, p.Due, partPanel, m.Panel)
	return p.decide(kv, env, m.Panel), nil
}

// panelDue ends a panel's commitments or its votes.
func panelDue(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	p, ok := PanelAt(kv, id)
	if !ok || p.Due == 0 {
		panic("settlement: a panel that is not there or decided has a deadline")
	}
	if p.Revealing || len(p.Jurors) == 0 {
		return p.decide(kv, env, id)
	}
	if p.Redraws > 0 {
		return p.replace(kv, env, id)
	}
	return p.goOn(kv, env, id)
}

// goOn has those who have committed show their votes; if nobody has, there are none.
func (p *Panel) goOn(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	if !slices.ContainsFunc(p.Jurors, func(j Juror) bool { return !j.silent() }) {
		return p.decide(kv, env, id)
	}
	events := p.reveal(kv, env, id)
	state.Save(kv, PanelKey(id), *p)
	return events
}

// replace dismisses the jurors who are silent, and has others drawn. No vote has been shown
// yet, so that those who come know no more than those who went.
func (p *Panel) replace(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	var events chain.Events
	p.Jurors = slices.DeleteFunc(p.Jurors, func(j Juror) bool {
		if !j.silent() {
			return false
		}
		events = append(events, p.free(kv, env, &j, j.silentLoss(env))...)
		p.Gone = append(p.Gone, j.Owner)
		return true
	})
	p.Redraws--
	p.Due, p.DrawAt = 0, env.Height+DrawDelay
	queueDraw(kv, env, partPanel, id)
	state.Save(kv, PanelKey(id), *p)
	return events
}

// panelDrawn draws those who take the places of jurors that were silent. If the roll has
// nobody else, it goes on with those who are left.
func panelDrawn(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	p, ok := PanelAt(kv, id)
	if !ok || p.DrawAt == 0 {
		panic("settlement: a draw for a panel that waits for none")
	}
	p.DrawAt = 0
	found := p.draw(kv, env, id)
	if len(found.nodes) == 0 || 2*(len(found.nodes)+len(p.Jurors)) <= int(p.Seats) {
		return p.goOn(kv, env, id)
	}
	return p.seat(kv, env, id, found)
}

// decide counts the votes, and tells the part that asked.
func (p *Panel) decide(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	p.Due = 0
	most, shown := 0, 0
	for i := range p.Jurors {
		vote := p.Jurors[i].Vote
		if vote == nil {
			continue
		}
		shown++
		like := p.votes(*vote)
		most = max(most, like)
		if 2*like > int(p.Seats) {
			p.Verdict = vote
			break
		}
	}
	p.Quiet = p.Verdict == nil && 2*(most+int(p.Seats)-shown) > int(p.Seats)
	state.Save(kv, PanelKey(id), *p)
	events := chain.Events{chain.PanelDecided{Panel: id, Subject: p.Subject, Verdict: p.Verdict}}
	return append(events, p.Of.decided(kv, env, p)...)
}

// lacking reports whether a vote says that the job's data cannot be had.
func lacking(vote *chain.Vote) bool { return vote.Finding == chain.FoundUnavailable }

// lacks reports whether some juror could not have the job's data.
func (p *Panel) lacks() bool { return p.votes(chain.Vote{Finding: chain.FoundUnavailable}) > 0 }

// spare lets jurors of a panel go who saw another state of the job's data than a larger one found
// after it: who keeps data can withhold it from one and show it to the other, or delete it in
// between, and nobody can prove afterwards what was there. A panel that found the data, or found
// it missing, as the larger one did says that it was so: then who voted otherwise was wrong.
func (p *Panel) spare(kv state.KV, env *Env, final *chain.Vote) (events chain.Events) {
	if p.Verdict != nil && lacking(p.Verdict) == lacking(final) {
		return nil
	}
	p.Jurors = slices.DeleteFunc(p.Jurors, func(j Juror) bool {
		if j.Vote == nil || lacking(j.Vote) == lacking(final) {
			return false
		}
		events = append(events, p.free(kv, env, &j, chain.Amount{})...)
		return true
	})
	return events
}

func (p *Panel) votes(like chain.Vote) int {
	n := 0
	for i := range p.Jurors {
		if vote := p.Jurors[i].Vote; vote != nil && *vote == like {
			n++
		}
	}
	return n
}

// What a juror loses.
const (
	// silentShare is one in so many of the least that jurors stake, whatever is judged: for a
	// vote that was never committed to, which may be the fault of whoever did not tell it.
	silentShare = 10
	// wrongShare is one in so many of what it staked: for a vote other than what was found in
	// the end, and for one that was committed to and not shown: who sees the others' would
	// else hide a wrong one.
	wrongShare = 4
)

// silent reports whether a juror has not committed to a vote.
func (j *Juror) silent() bool { return j.Commitment == (crypto.Digest{}) }

// silentLoss is what that costs it.
func (j *Juror) silentLoss(env *Env) chain.Amount {
	if loss := part1of(env.Params.JurorSlice, silentShare); loss.Less(j.Staked) {
		return loss
	}
	return j.Staked
}

// free takes what a juror loses, and frees the rest of its stake.
func (p *Panel) free(kv state.KV, env *Env, j *Juror, loss chain.Amount) (events chain.Events) {
	if !loss.IsZero() {
		slashed := takeSlice(kv, env, j.Node, loss, chain.Amount{})
		slashed.Subject = p.Subject
		events = chain.Events{slashed}
	}
	unlockSlice(kv, j.Node, sound(j.Staked.Sub(loss)))
	return events
}

// closePanel pays the jurors and forgets a panel that has decided. final is what was found
// in the end, which another panel may have decided; nil: nothing was. Those who found it
// share the fee, or if nothing was found, those who voted; what nobody gets is burned.
func closePanel(kv state.KV, env *Env, p *Panel, final *chain.Vote) chain.Events {
	id := panelOf(p.Of, p.Subject, p.Round)
	if p.Due != 0 {
		panic("settlement: a panel is closed before it has decided")
	}
	var events chain.Events
	var paid []*Juror
	for i := range p.Jurors {
		j := &p.Jurors[i]
		var loss chain.Amount
		switch {
		case j.silent():
			loss = j.silentLoss(env)
		case j.Vote == nil, final != nil && *j.Vote != *final:
			loss = part1of(j.Staked, wrongShare)
		default:
			paid = append(paid, j)
		}
		events = append(events, p.free(kv, env, j, loss)...)
	}
	left := p.Fee
	for _, j := range paid {
		share := sound(p.Fee.ShareFloor(1, uint64(len(paid))))
		tokens.Credit(kv, j.Owner, share)
		left = sound(left.Sub(share))
	}
	tokens.Burn(kv, left)
	kv.Delete(PanelKey(id))
	return events
}

// decided tells the part that asked for a panel what it found.
func (of part) decided(kv state.KV, env *Env, p *Panel) chain.Events {
	switch of {
	case partOptimistic:
		return optimisticDecided(kv, env, p)
	case partPanel, partBreach, partService, partFormer, partHardware: // ask for nothing themselves
	case partRuns:
		return runsJudged(kv, env, p)
	}
	panic("settlement: a panel of a part that asks for none")
}

// excluded names those who may not judge a subject of a part.
func (of part) excluded(kv state.KV, env *Env, subject crypto.Digest) func(crypto.PublicKey, *Provider) bool {
	switch of {
	case partOptimistic:
		o, ok := OpenClaimOf(kv, subject)
		if !ok {
			panic("settlement: a panel for a claim that is not there")
		}
		return o.excluded(kv, subject)
	case partPanel, partBreach, partService, partFormer, partHardware: // ask for nothing themselves
	case partRuns:
		return mustRuns(kv, env, subject).excluded()
	}
	panic("settlement: a panel for a part that asks for none")
}
