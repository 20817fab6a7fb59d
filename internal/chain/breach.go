package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// AcceptedOrder is an order with an acceptance that its home cluster signed. Whether its
// consumer signed the order does not matter: a cluster accepts none that is not signed.
type AcceptedOrder struct {
	_          struct{} `cbor:",toarray"`
	Order      Order
	Acceptance Acceptance
	Signature  crypto.Signature // by the cluster, over the acceptance
}

// ReportAcceptance shows that a cluster broke its word. With a second acceptance: that it
// gave one sequence of a consumer's twice. Alone: that it promised more than the
// consumer's escrow held since the order can have been accepted. Anyone may send it.
type ReportAcceptance struct {
	_      struct{} `cbor:",toarray"`
	First  AcceptedOrder
	Second *AcceptedOrder
}

func (ReportAcceptance) sealedMsg() {}

// Kinds of broken acceptances, among others' numbers.
const (
	kindReportAcceptance uint8 = 47
	kindAcceptanceBroken uint8 = 55
	kindClaimLost        uint8 = 56
	kindBreachPaid       uint8 = 52
	kindBondForfeited    uint8 = 53
	kindBreachClosed     uint8 = 61
)

// AcceptanceBroken says that a cluster lost its bond for a broken acceptance: Amount =
// Held + Reward + what was burned.
type AcceptanceBroken struct {
	_        struct{}         `cbor:",toarray"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Consumer Address          `json:"consumer"`
	Sequence Number           `json:"sequence"`
	Reporter Address          `json:"reporter"`
	Amount   Amount           `json:"amount_nhyper"`
	Held     Amount           `json:"held_nhyper"` // for those who lost by it
	Reward   Amount           `json:"reward_nhyper"`
	Burned   Amount           `json:"burned_nhyper"`
	Locked   Amount           `json:"locked_nhyper"`   // what claims lock of the bond, which is taken when it is free
	Due      Number           `json:"due_progress_ms"` // when it is divided
}

// BondForfeited says that something was taken of what claims locked of a bond when its cluster
// was shown to have broken its word: Amount = Held + Reward + what was burned.
type BondForfeited struct {
	_        struct{}         `cbor:",toarray"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Subject  crypto.Digest    `json:"subject"` // the order whose claim locked it
	Reporter Address          `json:"reporter"`
	Amount   Amount           `json:"amount_nhyper"`
	Held     Amount           `json:"held_nhyper"`
	Reward   Amount           `json:"reward_nhyper"`
	Burned   Amount           `json:"burned_nhyper"`
	Locked   Amount           `json:"locked_nhyper"` // what is still to come
}

// ClaimLost says that a claim was in order, and its escrow too small because of a broken
// acceptance: the provider has a part in what the cluster lost.
type ClaimLost struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Provider Address          `json:"provider"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Lost     Amount           `json:"lost_nhyper"` // what the escrow did not cover of it
}

// BreachPaid says that some of those who lost by a cluster were paid out of what it lost.
type BreachPaid struct {
	_       struct{}         `cbor:",toarray"`
	Cluster crypto.PublicKey `json:"cluster"`
	Paid    []BreachPayment  `json:"paid"`
}

// BreachPayment is what somebody got of what a node of theirs lost.
type BreachPayment struct {
	_      struct{} `cbor:",toarray"`
	To     Address  `json:"to"`
	Lost   Amount   `json:"lost_nhyper"` // and not paid before
	Amount Amount   `json:"amount_nhyper"`
}

// BreachClosed says that what a cluster lost was divided among those who lost by it.
type BreachClosed struct {
	_       struct{}         `cbor:",toarray"`
	Cluster crypto.PublicKey `json:"cluster"`
	Paid    Amount           `json:"paid_nhyper"` // in all
	Burned  Amount           `json:"burned_nhyper"`
}

func (AcceptanceBroken) sealedEvent() {}
func (BondForfeited) sealedEvent()    {}
func (ClaimLost) sealedEvent()        {}
func (BreachPaid) sealedEvent()       {}
func (BreachClosed) sealedEvent()     {}

func (m *ReportAcceptance) check() error {
	if err := m.First.Order.Check(); err != nil {
		return fmt.Errorf("first: %w", err)
	}
	if m.Second == nil {
		return nil
	}
	if err := m.Second.Order.Check(); err != nil {
		return fmt.Errorf("second: %w", err)
	}
	return nil
}

func (m *ReportAcceptance) signatures() []crypto.Signed {
	of := func(a *AcceptedOrder) crypto.Signed {
		return crypto.SignedBy(a.Acceptance.Cluster, crypto.DomainAcceptance, a.Acceptance.Payload(), a.Signature)
	}
	list := []crypto.Signed{of(&m.First)}
	if m.Second != nil {
		list = append(list, of(m.Second))
	}
	return list
}
