package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// BeginRun is the data of "begin_run".
type BeginRun struct {
	Order               Order            `json:"order"`
	OrderSignature      crypto.Signature `json:"order_signature" doc:"by the consumer"`
	Acceptance          Acceptance       `json:"acceptance"`
	AcceptanceSignature crypto.Signature `json:"acceptance_signature" doc:"by the home cluster"`
	Slate               []SlateBid       `json:"slate" minItems:"1" maxItems:"16" doc:"who bid; the first has run the order"`
	SlateSignature      crypto.Signature `json:"slate_signature" doc:"by the home cluster"`
	Commitment          crypto.Digest    `json:"commitment" doc:"of the first node's receipt, its key and a salt"`
	Signature           crypto.Signature `json:"signature" doc:"by the first node, over chain id, order and commitment"`
}

// SlateBid is a bid of a slate.
type SlateBid struct {
	Node      crypto.PublicKey `json:"node_id"`
	Prices    []UnitPrice      `json:"prices"`
	Expiry    chain.TimeMs     `json:"expiry_ms"`
	Signature crypto.Signature `json:"signature" doc:"of the bid, by the node"`
}

// CommitRun is the data of "commit_run".
type CommitRun struct {
	ChainID    chain.ChainID    `json:"chain_id"`
	Order      crypto.Digest    `json:"order"`
	Node       crypto.PublicKey `json:"node_id"`
	Commitment crypto.Digest    `json:"commitment" doc:"of the node's receipt, its key and a salt"`
	Place      uint8            `json:"place" maximum:"15" doc:"how many nodes were asked to run the order before it"`
	Signature  crypto.Signature `json:"signature" doc:"by the node, over chain id, order, commitment and place"`
}

// RevealRun is the data of "reveal_run".
type RevealRun struct {
	Receipt          UsageReceipt     `json:"receipt"`
	ReceiptSignature crypto.Signature `json:"receipt_signature" doc:"by the node"`
	Salt             crypto.Digest    `json:"salt" doc:"that the commitment was made with"`
	Cluster          crypto.PublicKey `json:"cluster"`
	Attestation      crypto.Signature `json:"attestation" doc:"by the cluster, over the receipt"`
}

// CollectRun is the data of "collect_run".
type CollectRun struct {
	Order crypto.Digest `json:"order"`
}

func runCases() []Case {
	return []Case{caseOf[BeginRun]("begin_run"), caseOf[CommitRun]("commit_run"), caseOf[RevealRun]("reveal_run"), caseOf[CollectRun]("collect_run")}
}

// runData is the data of a message about a replicated run.
func runData(m any) any {
	switch m := m.(type) {
	case chain.BeginRun:
		slate := make([]SlateBid, len(m.Slate))
		for i, b := range m.Slate {
			slate[i] = SlateBid{Node: b.Node, Prices: pricesToJSON(b.Prices), Expiry: b.Expiry, Signature: b.Signature}
		}
		return BeginRun{
			Order: OrderToJSON(m.Order), OrderSignature: m.OrderSig, Acceptance: AcceptanceToJSON(m.Acceptance), AcceptanceSignature: m.AcceptanceSig,
			Slate: slate, SlateSignature: m.SlateSig, Commitment: m.Commitment, Signature: m.Signature,
		}
	case chain.CommitRun:
		return CommitRun{ChainID: m.ChainID, Order: m.Order, Node: m.Node, Commitment: m.Commitment, Place: m.Place, Signature: m.Signature}
	case chain.RevealRun:
		return RevealRun{Receipt: ReceiptToJSON(m.Receipt), ReceiptSignature: m.ReceiptSig, Salt: m.Salt, Cluster: m.Cluster, Attestation: m.Attestation}
	case chain.CollectRun:
		return CollectRun{Order: m.Order}
	}
	return nil
}

// readRun reads a message about a replicated run, and is false if the name is of none.
func readRun(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "begin_run":
		d, err := dataOf[BeginRun](t)
		if err != nil {
			return nil, true, err
		}
		order, err := OrderFromJSON(d.Order)
		m := chain.BeginRun{
			Order: order, OrderSig: d.OrderSignature, Acceptance: AcceptanceFromJSON(d.Acceptance), AcceptanceSig: d.AcceptanceSignature,
			SlateSig: d.SlateSignature, Commitment: d.Commitment, Signature: d.Signature,
		}
		for _, b := range d.Slate {
			m.Slate = append(m.Slate, chain.SlateBid{Node: b.Node, Prices: pricesFromJSON(b.Prices), Expiry: b.Expiry, Signature: b.Signature})
		}
		return m, true, err
	case "commit_run":
		d, err := dataOf[CommitRun](t)
		return chain.CommitRun{ChainID: d.ChainID, Order: d.Order, Node: d.Node, Commitment: d.Commitment, Place: d.Place, Signature: d.Signature}, true, err
	case "reveal_run":
		d, err := dataOf[RevealRun](t)
		return chain.RevealRun{Receipt: ReceiptFromJSON(d.Receipt), ReceiptSig: d.ReceiptSignature, Salt: d.Salt, Cluster: d.Cluster, Attestation: d.Attestation}, true, err
	case "collect_run":
		d, err := dataOf[CollectRun](t)
		return chain.CollectRun{Order: d.Order}, true, err
	}
	return nil, false, nil
}
