package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Term makes an order one for a lease.
type Term struct {
	Resources []Quantity    `json:"resources" minItems:"1" maxItems:"5" doc:"what is kept, by ascending resource; not Network"`
	Resizes   crypto.Digest `json:"resizes,omitzero" doc:"the order of the lease that it gives other terms; without, it opens one"`
	NoticeMs  Uint64        `json:"notice_ms" doc:"from either party's word that the lease shall end to its end; at most 90 days"`
	Service   *ServiceTerms `json:"service,omitempty" doc:"what the node promises beside; without, nothing"`
}

// Quantity is an amount of a resource that is kept for somebody.
type Quantity struct {
	Resource chain.Resource `json:"resource" enum:"CPU,Memory,Storage,GPU"`
	Amount   Uint64         `json:"amount" doc:"in the resource's unit, from 1 to below 2⁴⁸"`
}

func termToJSON(t *chain.Term) *Term {
	if t == nil {
		return nil
	}
	out := &Term{Resources: make([]Quantity, len(t.Resources)), Resizes: t.Resizes, NoticeMs: Uint64(t.NoticeMs), Service: serviceToJSON(t.Service)}
	for i, q := range t.Resources {
		out.Resources[i] = Quantity{Resource: q.Resource, Amount: Uint64(q.Amount)}
	}
	return out
}

func (t *Term) chain() *chain.Term {
	if t == nil {
		return nil
	}
	out := &chain.Term{Resizes: t.Resizes, NoticeMs: uint64(t.NoticeMs), Service: t.Service.chain()}
	for _, q := range t.Resources {
		out.Resources = append(out.Resources, chain.Quantity{Resource: q.Resource, Amount: uint64(q.Amount)})
	}
	return out
}

// LeaseDeal is what a lease rests on.
type LeaseDeal struct {
	Order         Order            `json:"order"`
	OrderSig      crypto.Signature `json:"order_signature"`
	Acceptance    Acceptance       `json:"acceptance"`
	AcceptanceSig crypto.Signature `json:"acceptance_signature"`
	Bid           Bid              `json:"bid"`
	BidSig        crypto.Signature `json:"bid_signature"`
	AwardSig      crypto.Signature `json:"award_signature"`
}

// DealToJSON returns the deal as JSON has it.
func DealToJSON(d chain.LeaseDeal) LeaseDeal {
	return LeaseDeal{
		Order: OrderToJSON(d.Order), OrderSig: d.OrderSig, Acceptance: AcceptanceToJSON(d.Acceptance), AcceptanceSig: d.AcceptanceSig,
		Bid: BidToJSON(d.Bid), BidSig: d.BidSig, AwardSig: d.AwardSig,
	}
}

// DealFromJSON returns the deal of package chain, or a *FieldError if its order has no
// policy. Its limits are not checked: see chain.LeaseDeal.Check.
func DealFromJSON(d LeaseDeal) (chain.LeaseDeal, error) {
	order, err := OrderFromJSON(d.Order)
	if err != nil {
		return chain.LeaseDeal{}, within("order", err)
	}
	return chain.LeaseDeal{
		Order: order, OrderSig: d.OrderSig, Acceptance: AcceptanceFromJSON(d.Acceptance), AcceptanceSig: d.AcceptanceSig,
		Bid: BidFromJSON(d.Bid), BidSig: d.BidSig, AwardSig: d.AwardSig,
	}, nil
}

// OpenLease is the data of "open_lease".
type OpenLease struct {
	Deal LeaseDeal `json:"deal"`
}

// ResizeLease is the data of "resize_lease".
type ResizeLease struct {
	Lease chain.LeaseID `json:"lease"`
	Deal  LeaseDeal     `json:"deal" doc:"of the same consumer, cluster and node"`
}

// ExtendLease is the data of "extend_lease".
type ExtendLease struct {
	Lease  chain.LeaseID `json:"lease"`
	Amount chain.Amount  `json:"amount_nhyper"`
}

// CloseLease is the data of "close_lease".
type CloseLease struct {
	Lease chain.LeaseID `json:"lease"`
}

// CollectLease is the data of "collect_lease".
type CollectLease struct {
	Lease chain.LeaseID `json:"lease"`
}

func leaseCases() []Case {
	return []Case{
		caseOf[OpenLease]("open_lease"), caseOf[ResizeLease]("resize_lease"), caseOf[ExtendLease]("extend_lease"),
		caseOf[CloseLease]("close_lease"), caseOf[CollectLease]("collect_lease"),
	}
}

// readLease reads a message about a lease, and is false if the name is of none.
func readLease(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "open_lease":
		d, err := dataOf[OpenLease](t)
		if err != nil {
			return nil, true, err
		}
		deal, err := DealFromJSON(d.Deal)
		if err != nil {
			return nil, true, within("data.deal", err)
		}
		return chain.OpenLease{Deal: deal}, true, nil
	case "resize_lease":
		d, err := dataOf[ResizeLease](t)
		if err != nil {
			return nil, true, err
		}
		deal, err := DealFromJSON(d.Deal)
		if err != nil {
			return nil, true, within("data.deal", err)
		}
		return chain.ResizeLease{Lease: d.Lease, Deal: deal}, true, nil
	case "extend_lease":
		d, err := dataOf[ExtendLease](t)
		return chain.ExtendLease{Lease: d.Lease, Amount: d.Amount}, true, err
	case "close_lease":
		d, err := dataOf[CloseLease](t)
		return chain.CloseLease{Lease: d.Lease}, true, err
	case "collect_lease":
		d, err := dataOf[CollectLease](t)
		return chain.CollectLease{Lease: d.Lease}, true, err
	}
	return nil, false, nil
}
