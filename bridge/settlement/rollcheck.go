package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Who bids for an order its cluster says alone: it may list accomplices and nobody else. So one of
// those who check a run is drawn from the roll of all nodes, when all others are bound. It learns of
// that as a juror does, from the chain and not from the cluster; it runs the job and votes, on a
// panel of one seat.

// Check is how far the check of an order's runs by a node of the roll has come.
type Check uint8

// The states of a check.
const (
	Undrawn Check = iota
	Checking
	CheckVoted  // its panel is closed with the order's runs
	CheckSilent // nobody who was drawn has shown a vote, or the bonds of all who could be drawn are locked
	CheckNobody // the roll has nobody else
)

// RunsCheck returns the name of the panel of one that checks the runs of an order.
func RunsCheck(order crypto.Digest) crypto.Digest { return panelOf(partRuns, order, roundRunsCheck) }

// RunsAppeal returns the name of the panel of nine that judges the runs of an order.
func RunsAppeal(order crypto.Digest) crypto.Digest {
	return panelOf(partRuns, order, roundRunsLarger)
}

// counts reports whether the check is one of the n who may run an order.
func (c Check) counts() bool { return c == Undrawn || c == Checking || c == CheckVoted }

// The rounds of panels about an order's runs.
const (
	roundRuns      = 0 // three jurors
	roundRunsCheck = 1
	// roundRunsLarger is the panel of nine, unasked, where the three do not find the job's data: a
	// cluster is not to lose a slice of its bond by the word of two.
	roundRunsLarger = 2
)

// panel asks for a panel about the runs.
func (r *replica) panel(round, seats uint8) Panel {
	return Panel{Of: partRuns, Subject: r.id, Round: round, Seats: seats, Slice: atStake(r.policy, r.book.MaxCost), Redraws: panelRedraws}
}

// askRoll draws who checks the runs; nil: nobody can. Where somebody could who has not enough free of a
// bond it is as if who was drawn were silent: else whoever has the bonds of the others locked would be
// paid by the bidders' word.
func (r *replica) askRoll() chain.Events {
	p, id := r.panel(roundRunsCheck, 1), RunsCheck(r.id)
	found := p.draw(r.kv, r.env, id)
	switch {
	case len(found.nodes) > 0:
		r.runs.Stage, r.runs.Check = StageCheck, Checking
		return p.seat(r.kv, r.env, id, found)
	case found.others:
		r.runs.Check = CheckSilent
	default:
		r.runs.Check = CheckNobody
	}
	return nil
}

// answered takes the vote of the check. Without one a bidder may take its place, and a panel
// judges what is shown: else who silences the check would be paid as if nobody had been drawn.
func (r *replica) answered(p *Panel) (events chain.Events) {
	if r.runs.Stage != StageCheck {
		panic("settlement: a check of runs that wait for none")
	}
	r.runs.Check = CheckVoted
	if p.Verdict == nil {
		r.runs.Check = CheckSilent
		events = closePanel(r.kv, r.env, p, nil)
	}
	return append(events, r.committed()...)
}

// checked returns the panel of the check that has voted; nil: there is none.
func (r *replica) checked() *Panel {
	if r.runs.Check != CheckVoted {
		return nil
	}
	return r.panelAt(roundRunsCheck)
}

func (r *replica) panelAt(round uint8) *Panel {
	p, ok := PanelAt(r.kv, panelOf(partRuns, r.id, round))
	if !ok {
		panic("settlement: a panel about runs is not there")
	}
	return &p
}

// trusted reports whether a side may be paid without a panel's word: the order is not checked, or
// the check from the roll is on it, or the roll has nobody else.
func (r *replica) trusted(s *side) bool {
	return !r.runs.Checked || s.vouched || r.runs.Check == CheckNobody
}

// closeCheck frees what the check staked, where nobody was found wrong.
func (r *replica) closeCheck() chain.Events {
	p := r.checked()
	if p == nil {
		return nil
	}
	return closePanel(r.kv, r.env, p, nil)
}

// admit adds the check to the runs, with a claim for what one of them claims, at the same prices:
// it found the same. It returns its place.
func (r *replica) admit(like uint8) (uint8, chain.Event) {
	juror, prices := &r.checked().Jurors[0], r.runs.Runs[like].Bidder
	if slices.ContainsFunc(r.runs.Runs, func(other Run) bool { return other.Owner == juror.Owner }) {
		panic("settlement: the check of runs is of an owner who has one")
	}
	claim := *r.shown()[int(like)]
	claim.Node, claim.Provider, claim.Height = juror.Node, juror.Owner, r.env.Height
	r.saveClaim(&claim)
	r.book.advance(claim.Node)
	prices.Node = juror.Node
	r.runs.Runs = append(r.runs.Runs, Run{Bidder: prices, Owner: juror.Owner, State: RunShown, Commitment: juror.Commitment})
	return uint8(len(r.runs.Runs) - 1), chain.ClaimRecorded{Order: r.id, Node: claim.Node, Sequence: chain.Number(claim.Sequence), Result: claim.Result}
}
