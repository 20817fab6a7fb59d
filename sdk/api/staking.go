package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The messages of staking in JSON. A validator is named for ever by the
// consensus key that it began with.

// Bond is the data of "bond".
type Bond struct {
	ConsensusKey   crypto.PublicKey `json:"consensus_key"`
	Possession     crypto.Signature `json:"possession" doc:"by the consensus key, over the chain id and the owner"`
	NodeKey        crypto.PublicKey `json:"node_key" doc:"of its transport"`
	NodePossession crypto.Signature `json:"node_possession" doc:"by the node key, over the chain id and the owner"`
	Name           string           `json:"name" maxLength:"64"`
	Endpoint       string           `json:"endpoint" maxLength:"128" doc:"advertised host:port of its transport"`
	CommissionBps  uint16           `json:"commission_bps" maximum:"10000" doc:"of its delegators' rewards, in 1/10,000"`
	Amount         chain.Amount     `json:"amount_nhyper" doc:"the owner's own stake"`
}

// Delegate is the data of "delegate".
type Delegate struct {
	Validator crypto.PublicKey `json:"validator"`
	Amount    chain.Amount     `json:"amount_nhyper"`
}

// Undelegate is the data of "undelegate".
type Undelegate struct {
	Validator crypto.PublicKey `json:"validator"`
	Amount    chain.Amount     `json:"amount_nhyper" doc:"0: all of it"`
}

// Redelegate is the data of "redelegate".
type Redelegate struct {
	From   crypto.PublicKey `json:"from"`
	To     crypto.PublicKey `json:"to"`
	Amount chain.Amount     `json:"amount_nhyper" doc:"0: all of it"`
}

// WithdrawRewards is the data of "withdraw_rewards".
type WithdrawRewards struct {
	Validator crypto.PublicKey `json:"validator"`
	Restake   bool             `json:"restake" doc:"delegate them to the validator"`
}

// SetCommission is the data of "set_commission".
type SetCommission struct {
	Validator crypto.PublicKey `json:"validator"`
	Bps       uint16           `json:"commission_bps" maximum:"10000"`
}

// RotateKeys is the data of "rotate_keys".
type RotateKeys struct {
	Validator      crypto.PublicKey `json:"validator"`
	ConsensusKey   crypto.PublicKey `json:"consensus_key"`
	Possession     crypto.Signature `json:"possession" doc:"by the consensus key, over the chain id and the owner"`
	NodeKey        crypto.PublicKey `json:"node_key"`
	NodePossession crypto.Signature `json:"node_possession" doc:"by the node key, over the chain id and the owner"`
	Endpoint       string           `json:"endpoint" maxLength:"128"`
}

// Unjail is the data of "unjail".
type Unjail struct {
	Validator crypto.PublicKey `json:"validator"`
}

// Affiliate is the data of "affiliate".
type Affiliate struct {
	Validator crypto.PublicKey `json:"validator"`
	Node      crypto.PublicKey `json:"node_id"`
	Consent   crypto.Signature `json:"consent" doc:"by the node's key, over the chain id and the validator"`
}

// Unaffiliate is the data of "unaffiliate".
type Unaffiliate struct {
	Node crypto.PublicKey `json:"node_id"`
}

// ReportEvidence is the data of "report_evidence".
type ReportEvidence struct {
	Evidence []byte `json:"evidence" maxLength:"65536" doc:"base64 of the canonical encoding, at most 49,152 bytes"`
}

func stakingCases() []Case {
	return []Case{
		caseOf[Bond]("bond"), caseOf[Delegate]("delegate"), caseOf[Undelegate]("undelegate"), caseOf[Redelegate]("redelegate"),
		caseOf[WithdrawRewards]("withdraw_rewards"), caseOf[SetCommission]("set_commission"), caseOf[RotateKeys]("rotate_keys"),
		caseOf[Unjail]("unjail"), caseOf[Affiliate]("affiliate"), caseOf[Unaffiliate]("unaffiliate"), caseOf[ReportEvidence]("report_evidence"),
	}
}

func bondData(m chain.Bond) Bond {
	return Bond{
		ConsensusKey: m.ConsensusKey, Possession: m.Possession, NodeKey: m.NodeKey, NodePossession: m.NodePossession,
		Name: m.Name, Endpoint: m.Endpoint, CommissionBps: m.CommissionBps, Amount: m.Amount,
	}
}

func rotationData(m chain.RotateKeys) RotateKeys {
	return RotateKeys{
		Validator: m.Validator, ConsensusKey: m.ConsensusKey, Possession: m.Possession, NodeKey: m.NodeKey,
		NodePossession: m.NodePossession, Endpoint: m.Endpoint,
	}
}

// readStaking reads a message of staking, and is false if the name is of none.
func readStaking(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "bond":
		d, err := dataOf[Bond](t)
		return chain.Bond{
			ConsensusKey: d.ConsensusKey, Possession: d.Possession, NodeKey: d.NodeKey, NodePossession: d.NodePossession,
			Name: d.Name, Endpoint: d.Endpoint, CommissionBps: d.CommissionBps, Amount: d.Amount,
		}, true, err
	case "delegate":
		d, err := dataOf[Delegate](t)
		return chain.Delegate{Validator: d.Validator, Amount: d.Amount}, true, err
	case "undelegate":
		d, err := dataOf[Undelegate](t)
		return chain.Undelegate{Validator: d.Validator, Amount: d.Amount}, true, err
	case "redelegate":
		d, err := dataOf[Redelegate](t)
		return chain.Redelegate{From: d.From, To: d.To, Amount: d.Amount}, true, err
	case "withdraw_rewards":
		d, err := dataOf[WithdrawRewards](t)
		return chain.WithdrawRewards{Validator: d.Validator, Restake: d.Restake}, true, err
	case "set_commission":
		d, err := dataOf[SetCommission](t)
		return chain.SetCommission{Validator: d.Validator, Bps: d.Bps}, true, err
	case "rotate_keys":
		d, err := dataOf[RotateKeys](t)
		return chain.RotateKeys{
			Validator: d.Validator, ConsensusKey: d.ConsensusKey, Possession: d.Possession, NodeKey: d.NodeKey,
			NodePossession: d.NodePossession, Endpoint: d.Endpoint,
		}, true, err
	case "unjail":
		d, err := dataOf[Unjail](t)
		return chain.Unjail{Validator: d.Validator}, true, err
	case "affiliate":
		d, err := dataOf[Affiliate](t)
		return chain.Affiliate{Validator: d.Validator, Node: d.Node, Consent: d.Consent}, true, err
	case "unaffiliate":
		d, err := dataOf[Unaffiliate](t)
		return chain.Unaffiliate{Node: d.Node}, true, err
	case "report_evidence":
		d, err := dataOf[ReportEvidence](t)
		return chain.ReportEvidence{Evidence: d.Evidence}, true, err
	}
	return nil, false, nil
}
