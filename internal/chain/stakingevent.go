package chain

import "github.com/hypermesh/hypermesh/internal/crypto"

// The events of staking.

// ValidatorBonded says that there is a new validator.
type ValidatorBonded struct {
	_             struct{}         `cbor:",toarray"`
	Validator     crypto.PublicKey `json:"validator"`
	Owner         Address          `json:"owner"`
	Amount        Amount           `json:"amount_nhyper"`
	CommissionBps uint16           `json:"commission_bps"`
}

// Delegated says that an account's stake at a validator grew.
type Delegated struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Delegator Address          `json:"delegator"`
	Amount    Amount           `json:"amount_nhyper"`
}

// Undelegated says that stake left a validator; it stays liable until the
// unbonding period after the end of the epoch that follows Epoch is over.
type Undelegated struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Delegator Address          `json:"delegator"`
	Amount    Amount           `json:"amount_nhyper"`
	Epoch     Number           `json:"epoch"`
}

// Redelegated says that stake moved from one validator to another.
type Redelegated struct {
	_         struct{}         `cbor:",toarray"`
	From      crypto.PublicKey `json:"from"`
	To        crypto.PublicKey `json:"to"`
	Delegator Address          `json:"delegator"`
	Amount    Amount           `json:"amount_nhyper"`
	Epoch     Number           `json:"epoch"`
}

// RewardsWithdrawn says that an account took what it had earned at a validator;
// Commission is the part that it earned as the owner.
type RewardsWithdrawn struct {
	_          struct{}         `cbor:",toarray"`
	Validator  crypto.PublicKey `json:"validator"`
	Account    Address          `json:"account"`
	Amount     Amount           `json:"amount_nhyper"`
	Commission Amount           `json:"commission_nhyper"`
	Restaked   bool             `json:"restaked"`
}

// CommissionSet says which commission a validator takes from an epoch on.
type CommissionSet struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Bps       uint16           `json:"commission_bps"`
	Epoch     Number           `json:"epoch"`
}

// KeysRotated says which keys a validator has in committees made from now on.
type KeysRotated struct {
	_            struct{}         `cbor:",toarray"`
	Validator    crypto.PublicKey `json:"validator"`
	ConsensusKey crypto.PublicKey `json:"consensus_key"`
	NodeKey      crypto.PublicKey `json:"node_key"`
	Endpoint     string           `json:"endpoint"`
}

// ValidatorUnjailed says that a validator may be in committees again.
type ValidatorUnjailed struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
}

// NodeAffiliated says that a provider node's burned fees count for a validator.
type NodeAffiliated struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Node      crypto.PublicKey `json:"node_id"`
}

// NodeUnaffiliated says that they do no longer.
type NodeUnaffiliated struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Node      crypto.PublicKey `json:"node_id"`
}

// ValidatorSlashed says that a validator lost stake for a fault, its own and
// its delegators': of what was at stake the part of RatePpm in all since the
// conviction, Amount of it now. Reward of Amount went to the reporter, the rest
// was burned.
type ValidatorSlashed struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Epoch     Number           `json:"epoch"` // of the fault
	View      Number           `json:"view"`
	RatePpm   uint32           `json:"rate_ppm"`
	Amount    Amount           `json:"amount_nhyper"`
	Reporter  Address          `json:"reporter"`
	Reward    Amount           `json:"reward_nhyper"`
}

// ValidatorJailed says that a validator was silent for an epoch and lost Amount,
// or that it served no more and had not enough of its own, with no Amount. It is
// out of committees until it unjails itself, UntilMs or later.
type ValidatorJailed struct {
	_         struct{}         `cbor:",toarray"`
	Validator crypto.PublicKey `json:"validator"`
	Epoch     Number           `json:"epoch"`
	Amount    Amount           `json:"amount_nhyper"`
	UntilMs   TimeMs           `json:"until_ms"`
}

// EpochClosed says that an epoch ended: what was minted and what its committee
// was given, and the committee of the epoch after the next.
type EpochClosed struct {
	_          struct{}      `cbor:",toarray"`
	Epoch      Number        `json:"epoch"`
	Minted     Amount        `json:"minted_nhyper"`
	Rewards    Amount        `json:"rewards_nhyper"`
	Committee  crypto.Digest `json:"committee"` // of Epoch + 2
	Validators uint16        `json:"validators"`
	Weight     Number        `json:"weight"`
}

func (ValidatorBonded) sealedEvent()   {}
func (Delegated) sealedEvent()         {}
func (Undelegated) sealedEvent()       {}
func (Redelegated) sealedEvent()       {}
func (RewardsWithdrawn) sealedEvent()  {}
func (CommissionSet) sealedEvent()     {}
func (KeysRotated) sealedEvent()       {}
func (ValidatorUnjailed) sealedEvent() {}
func (NodeAffiliated) sealedEvent()    {}
func (NodeUnaffiliated) sealedEvent()  {}
func (ValidatorSlashed) sealedEvent()  {}
func (ValidatorJailed) sealedEvent()   {}
func (EpochClosed) sealedEvent()       {}
