package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The messages of staking. A validator is named for ever by the consensus key
// that it began with.

// Bond makes the sender the owner of a new validator, with Amount as its own
// stake.
type Bond struct {
	_              struct{} `cbor:",toarray"`
	ConsensusKey   crypto.PublicKey
	Possession     crypto.Signature // by ConsensusKey, over (chain id, owner) under DomainPossession
	NodeKey        crypto.PublicKey
	NodePossession crypto.Signature // by NodeKey, the same
	Name           string           // ≤ MaxValidatorName bytes
	Endpoint       string           // advertised host:port of its transport
	CommissionBps  uint16           // of its delegators' rewards, in 1/10,000
	Amount         Amount
}

// Delegate adds Amount of the sender's balance to its stake at a validator.
type Delegate struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
	Amount    Amount
}

// Undelegate takes Amount of the sender's stake out of a validator. It comes to
// the sender's balance when it is no longer liable.
type Undelegate struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
	Amount    Amount // zero: all of it
}

// Redelegate moves Amount of the sender's stake to another validator at once.
// It stays liable for the first one, and where it is, as long as if it had been
// undelegated.
type Redelegate struct {
	_      struct{} `cbor:",toarray"`
	From   crypto.PublicKey
	To     crypto.PublicKey
	Amount Amount // zero: all of it
}

// WithdrawRewards takes what the sender has earned at a validator: as a
// delegator, and commission if it is the owner.
type WithdrawRewards struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
	Restake   bool // delegate it to the validator, in place of the balance
}

// SetCommission changes a validator's commission from the next epoch on. Its
// owner sends it.
type SetCommission struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
	Bps       uint16
}

// RotateKeys gives a validator keys and an endpoint for the committees that are
// made from now on. Keys that stay the same are signed for again. What the old
// consensus key signs in the committees that it is in stays the validator's
// fault. The owner sends it.
type RotateKeys struct {
	_              struct{} `cbor:",toarray"`
	Validator      crypto.PublicKey
	ConsensusKey   crypto.PublicKey
	Possession     crypto.Signature // by ConsensusKey, over (chain id, owner) under DomainPossession
	NodeKey        crypto.PublicKey
	NodePossession crypto.Signature // by NodeKey, the same
	Endpoint       string
}

// Unjail lets a validator that was jailed for silence back into committees. Its
// owner sends it.
type Unjail struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
}

// Affiliate counts a provider node's burned fees for a validator. The
// validator's owner sends it, the node consents.
type Affiliate struct {
	_         struct{} `cbor:",toarray"`
	Validator crypto.PublicKey
	Node      crypto.PublicKey
	Consent   crypto.Signature // by Node, over (chain id, validator) under DomainAffiliation
}

// Unaffiliate ends an affiliation. The owner of the validator or of the node
// sends it.
type Unaffiliate struct {
	_    struct{} `cbor:",toarray"`
	Node crypto.PublicKey
}

// ReportEvidence convicts validators. Anyone may send it, for a share of what
// is slashed.
type ReportEvidence struct {
	_        struct{} `cbor:",toarray"`
	Evidence []byte   // package consensus reads it; ≤ MaxEvidence bytes
}

func (Bond) sealedMsg()            {}
func (Delegate) sealedMsg()        {}
func (Undelegate) sealedMsg()      {}
func (Redelegate) sealedMsg()      {}
func (WithdrawRewards) sealedMsg() {}
func (SetCommission) sealedMsg()   {}
func (RotateKeys) sealedMsg()      {}
func (Unjail) sealedMsg()          {}
func (Affiliate) sealedMsg()       {}
func (Unaffiliate) sealedMsg()     {}
func (ReportEvidence) sealedMsg()  {}

// AffiliationPayload is what a provider node's key signs, under
// DomainAffiliation, to let its burned fees count for a validator.
func AffiliationPayload(id ChainID, validator crypto.PublicKey) []byte {
	return codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		ChainID   ChainID
		Validator crypto.PublicKey
	}{ChainID: id, Validator: validator})
}

func checkKeys(consensusKey, nodeKey crypto.PublicKey, endpoint string) error {
	if err := consensusKey.Check(); err != nil {
		return fmt.Errorf("consensus key: %w", err)
	}
	if err := nodeKey.Check(); err != nil {
		return fmt.Errorf("node key: %w", err)
	}
	return checkText("endpoint", endpoint, MaxEndpoint)
}

func checkBond(m Bond) error {
	if err := checkText("name", m.Name, MaxValidatorName); err != nil {
		return err
	}
	if m.CommissionBps > wholeBps {
		return limitError("commission_bps", int(m.CommissionBps), wholeBps)
	}
	return checkKeys(m.ConsensusKey, m.NodeKey, m.Endpoint)
}

func checkCommission(m SetCommission) error {
	if m.Bps > wholeBps {
		return limitError("commission_bps", int(m.Bps), wholeBps)
	}
	return nil
}

func checkReport(m ReportEvidence) error {
	if len(m.Evidence) == 0 || len(m.Evidence) > MaxEvidence {
		return limitError("evidence", len(m.Evidence), MaxEvidence)
	}
	return nil
}
