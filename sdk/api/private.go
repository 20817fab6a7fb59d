package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// RegisterMeter is the data of "register_meter".
type RegisterMeter struct {
	Node       crypto.PublicKey `json:"node_id" doc:"a node of the sender"`
	Key        chain.MeterKey   `json:"key" doc:"compressed point of the twisted Edwards curve over the BN254 scalar field"`
	Possession chain.MeterProof `json:"possession" doc:"by the metering key, of chain and node"`
}

// UsageBatch asks for the payment of a batch of usage records.
type UsageBatch struct {
	Order         Order              `json:"order"`
	OrderSig      crypto.Signature   `json:"order_signature"`
	Acceptance    Acceptance         `json:"acceptance"`
	AcceptanceSig crypto.Signature   `json:"acceptance_signature"`
	Bid           Bid                `json:"bid"`
	BidSig        crypto.Signature   `json:"bid_signature"`
	Summary       chain.BatchSummary `json:"summary"`
	Attestation   crypto.Signature   `json:"attestation" doc:"by the home cluster, over the summary"`
	Kernel        string             `json:"kernel" maxLength:"32" doc:"usage-batch-32 or usage-batch-112"`
	Proof         []byte             `json:"proof" doc:"at most 4,096 bytes"`
}

// SettleBatch is the data of "settle_batch".
type SettleBatch struct {
	Batch UsageBatch `json:"batch"`
}

// BatchToJSON returns the batch as JSON has it.
func BatchToJSON(b chain.UsageBatch) UsageBatch {
	b.Summary.Totals = listOf(b.Summary.Totals)
	return UsageBatch{
		Order: OrderToJSON(b.Order), OrderSig: b.OrderSig, Acceptance: AcceptanceToJSON(b.Acceptance), AcceptanceSig: b.AcceptanceSig,
		Bid: BidToJSON(b.Bid), BidSig: b.BidSig, Summary: b.Summary, Attestation: b.Attestation, Kernel: b.Kernel, Proof: b.Proof,
	}
}

// BatchFromJSON returns the batch of package chain, or a *FieldError if its order has no
// policy. Its limits are not checked: see chain.UsageBatch.Check.
func BatchFromJSON(b UsageBatch) (chain.UsageBatch, error) {
	order, err := OrderFromJSON(b.Order)
	if err != nil {
		return chain.UsageBatch{}, within("order", err)
	}
	return chain.UsageBatch{
		Order: order, OrderSig: b.OrderSig, Acceptance: AcceptanceFromJSON(b.Acceptance), AcceptanceSig: b.AcceptanceSig,
		Bid: BidFromJSON(b.Bid), BidSig: b.BidSig, Summary: b.Summary, Attestation: b.Attestation, Kernel: b.Kernel, Proof: b.Proof,
	}, nil
}

func privateCases() []Case {
	return []Case{caseOf[RegisterMeter]("register_meter"), caseOf[SettleBatch]("settle_batch"), caseOf[ReportAcceptance]("report_acceptance")}
}

// readPrivate reads a message of private settlement, and is false if the name is of none.
func readPrivate(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "register_meter":
		d, err := dataOf[RegisterMeter](t)
		return chain.RegisterMeter{Node: d.Node, Key: d.Key, Possession: d.Possession}, true, err
	case "report_acceptance":
		d, err := dataOf[ReportAcceptance](t)
		if err != nil {
			return nil, true, err
		}
		m, err := d.message()
		return m, true, err
	case "settle_batch":
		d, err := dataOf[SettleBatch](t)
		if err != nil {
			return nil, true, err
		}
		batch, err := BatchFromJSON(d.Batch)
		if err != nil {
			return nil, true, within("data.batch", err)
		}
		return chain.SettleBatch{Batch: batch}, true, nil
	}
	return nil, false, nil
}

// BatchRequest is the body of POST /v1/batches of a cluster's server.
type BatchRequest struct {
	Summary chain.BatchSummary `json:"summary"`
}

// BatchAttestation is its answer.
type BatchAttestation struct {
	Attestation crypto.Signature `json:"attestation" doc:"by the cluster, over the summary"`
}

// SettledBatch is a batch that was paid, and where.
type SettledBatch struct {
	Height chain.Height       `json:"height"`
	TimeMs chain.TimeMs       `json:"time_ms"`
	TxID   crypto.Digest      `json:"tx_id"`
	Batch  chain.BatchSettled `json:"batch"`
}
