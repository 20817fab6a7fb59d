package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// AcceptedOrder is an order with an acceptance that its home cluster signed.
type AcceptedOrder struct {
	Order      Order            `json:"order"`
	Acceptance Acceptance       `json:"acceptance"`
	Signature  crypto.Signature `json:"signature" doc:"by the cluster, over the acceptance"`
}

// ReportAcceptance is the data of "report_acceptance".
type ReportAcceptance struct {
	First  AcceptedOrder  `json:"first"`
	Second *AcceptedOrder `json:"second,omitempty" doc:"with the same sequence as the first; without one, the first promises more than the escrow ever held"`
}

func reportToJSON(m chain.ReportAcceptance) ReportAcceptance {
	of := func(a *chain.AcceptedOrder) AcceptedOrder {
		return AcceptedOrder{Order: OrderToJSON(a.Order), Acceptance: AcceptanceToJSON(a.Acceptance), Signature: a.Signature}
	}
	out := ReportAcceptance{First: of(&m.First)}
	if m.Second != nil {
		second := of(m.Second)
		out.Second = &second
	}
	return out
}

func (a *AcceptedOrder) accepted() (chain.AcceptedOrder, error) {
	order, err := OrderFromJSON(a.Order)
	if err != nil {
		return chain.AcceptedOrder{}, within("order", err)
	}
	return chain.AcceptedOrder{Order: order, Acceptance: AcceptanceFromJSON(a.Acceptance), Signature: a.Signature}, nil
}

func (r *ReportAcceptance) message() (chain.Msg, error) {
	first, err := r.First.accepted()
	if err != nil {
		return nil, within("first", err)
	}
	m := chain.ReportAcceptance{First: first}
	if r.Second != nil {
		second, err := r.Second.accepted()
		if err != nil {
			return nil, within("second", err)
		}
		m.Second = &second
	}
	return m, nil
}
