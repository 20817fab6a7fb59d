package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Panel is some nodes, drawn from the roll, that run a job again and vote on its result:
// first all commit to their votes, then they show them. It decides by more than half of
// its seats, and is kept until the part that asked for it closes it.
type Panel struct {
	_         struct{} `cbor:",toarray"`
	Of        part     // that asked
	Subject   crypto.Digest
	Round     uint8        // tells panels on one subject apart
	Seats     uint8        // fewer jurors than that may have been found
	Slice     chain.Amount // that each juror has staked
	Fee       chain.Amount // that those who find what is found in the end share
	Due       uint64       // of the chain's progress: the deadline that is queued; 0 once decided
	Revealing bool         // all have committed, or the time for that is over
	Jurors    []Juror
	Verdict   *chain.Vote // of more than half of the seats; once decided, nil: there is none
}

// Juror is a seat on a panel.
type Juror struct {
	_          struct{} `cbor:",toarray"`
	Node       crypto.PublicKey
	Owner      chain.Address
	Commitment crypto.Digest // zero: none yet
	Vote       *chain.Vote   // nil: not shown yet
}

// panelOf names the panel of a round on a subject.
func panelOf(of part, subject crypto.Digest, round uint8) crypto.Digest {
	return crypto.DomainPanel.Hash(append(subject[:], byte(of), round))
}

// PanelAt returns a panel, and false if there is none, or no longer.
func PanelAt(r state.Reader, id crypto.Digest) (Panel, bool) {
	return state.Load[Panel](r, PanelKey(id))
}

// DecodePanel decodes a panel's record, for those who checked its proof.
func DecodePanel(value []byte) (Panel, error) { return decode[Panel](value) }

// openPanel draws a panel of so many seats with this block's randomness: to be called at a
// block's beginning, for what was settled DrawDelay blocks before. p says who asks for it,
// for what, in which round, and the fee that it holds, which the caller has taken from
// somebody. Whoever excluded names, and other nodes of their owners if it names those, has
// no part. A panel that finds no juror is decided at its deadline.
func openPanel(kv state.KV, env *Env, p Panel, excluded func(crypto.PublicKey, *Provider) bool) (crypto.Digest, chain.Events) {
	id := panelOf(p.Of, p.Subject, p.Round)
	p.Slice = env.Params.JurorSlice
	drawn := drawNodes(kv, env, draw{seed: env.seed(partPanel, id, p.Round), want: int(p.Seats), least: p.Slice, excluded: excluded})
	for _, node := range drawn {
		if why := lockSlice(kv, node, p.Slice); why != nil {
			panic("settlement: a juror was drawn without a slice to stake: " + why.Reason())
		}
		juror, _ := ProviderOf(kv, node) // lockSlice found it
		p.Jurors = append(p.Jurors, Juror{Node: node, Owner: juror.Owner})
	}
	p.Due = queueDeadline(kv, env, env.Params.CommitMs, partPanel, id)
	state.Save(kv, PanelKey(id), p)
	return id, chain.Events{chain.PanelDrawn{Panel: id, Subject: p.Subject, Jurors: drawn, CommitBy: chain.Number(p.Due)}}
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
	case p.Revealing || p.Due <= env.ProgressMs:
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
	case m.Vote.Commitment(m.Panel, m.Node, m.Salt) != juror.Commitment:
		return nil, chain.Reject("vote is not what node %s committed to", m.Node.Short())
	}
	juror.Vote = &m.Vote
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
	committed := func(j Juror) bool { return j.Commitment != (crypto.Digest{}) }
	if p.Revealing || !slices.ContainsFunc(p.Jurors, committed) {
		return p.decide(kv, env, id)
	}
	events := p.reveal(kv, env, id)
	state.Save(kv, PanelKey(id), p)
	return events
}

// decide counts the votes, and tells the part that asked.
func (p *Panel) decide(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	p.Due = 0
	for i := range p.Jurors {
		if vote := p.Jurors[i].Vote; vote != nil && 2*p.votes(*vote) > int(p.Seats) {
			p.Verdict = vote
			break
		}
	}
	state.Save(kv, PanelKey(id), *p)
	events := chain.Events{chain.PanelDecided{Panel: id, Subject: p.Subject, Verdict: p.Verdict}}
	return append(events, p.Of.decided(kv, env, p)...)
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

// The shares of its slice that a juror loses.
const (
	silentShare = 10 // one in so many: for a vote that was never committed to
	// wrongShare is one in so many: for a vote other than what was found in the end, and for
	// one that was committed to and not shown: who sees the others' would else hide a wrong one.
	wrongShare = 4
)

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
		lost := uint64(0)
		switch {
		case j.Vote == nil && j.Commitment == (crypto.Digest{}):
			lost = silentShare
		case j.Vote == nil:
			lost = wrongShare
		case final != nil && *j.Vote != *final:
			lost = wrongShare
		default:
			paid = append(paid, j)
		}
		kept := p.Slice
		if lost != 0 {
			amount := sound(p.Slice.ShareFloor(1, lost))
			kept = sound(kept.Sub(amount))
			slashed := takeSlice(kv, env, j.Node, amount, chain.Amount{})
			slashed.Subject = p.Subject
			events = append(events, slashed)
		}
		unlockSlice(kv, j.Node, kept)
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
	case partPanel: // asks for nothing itself
	}
	panic("settlement: a panel of a part that asks for none")
}
