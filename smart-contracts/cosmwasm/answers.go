package cosmwasm

// What the chain answers to queries, as contracts read it.

// SupplyAnswer is an amount: of all that there is, or of what an account has.
type SupplyAnswer struct{ Amount Coin }

// BalancesAnswer is what an account has.
type BalancesAnswer struct{ Amount []Coin }

// MetadataAnswer is what a token is.
type MetadataAnswer struct{ Metadata Metadata }

// AllMetadataAnswer is what tokens are.
type AllMetadataAnswer struct {
	Metadata []Metadata
	Next     []byte // where the next page begins; nil: there is none
}

// Metadata is what a token is.
type Metadata struct {
	Description                               string
	Units                                     []Unit
	Base, Display, Name, Symbol, URI, URIHash string
}

// Unit is a unit that a token is counted in.
type Unit struct {
	Denom    string
	Exponent uint32
	Aliases  []string
}

// BondedDenomAnswer is the token that is bonded.
type BondedDenomAnswer struct{ Denom string }

// ValidatorsAnswer is the validators.
type ValidatorsAnswer struct{ Validators []Validator }

// ValidatorAnswer is one, nil if there is none of that address.
type ValidatorAnswer struct{ Validator *Validator }

// Validator is a validator.
type Validator struct {
	Address                                  string
	Commission, MaxCommission, MaxChangeRate Decimal
}

// DelegationsAnswer is a delegator's bonds.
type DelegationsAnswer struct{ Delegations []Delegation }

// Delegation is a bond.
type Delegation struct {
	Delegator, Validator string
	Amount               Coin
}

// DelegationAnswer is one bond, nil if there is none.
type DelegationAnswer struct{ Delegation *FullDelegation }

// FullDelegation is a bond and what came of it.
type FullDelegation struct {
	Delegator, Validator string
	Amount               Coin
	CanRedelegate        Coin
	Rewards              []Coin
}

// WithdrawAddressAnswer is who gets a delegator's rewards.
type WithdrawAddressAnswer struct{ Address string }

// RewardsAnswer is the rewards of a bond.
type RewardsAnswer struct{ Rewards []DecCoin }

// DecCoin is an amount with places behind its point.
type DecCoin struct {
	Denom  string
	Amount Decimal
}

// TotalRewardsAnswer is the rewards of all of a delegator's bonds.
type TotalRewardsAnswer struct {
	Rewards []ValidatorRewards
	Total   []DecCoin
}

// ValidatorRewards is the rewards from one validator.
type ValidatorRewards struct {
	Validator string
	Rewards   []DecCoin
}

// DelegatorValidatorsAnswer is to whom a delegator has bonded.
type DelegatorValidatorsAnswer struct{ Validators []string }

// ContractInfoAnswer is what the chain keeps of a contract.
type ContractInfoAnswer struct {
	Code    uint64
	Creator string
	Admin   *string // nil: none
	Pinned  bool
}

// CodeInfoAnswer is what the chain keeps of code.
type CodeInfoAnswer struct {
	Code     uint64
	Creator  string
	Checksum [32]byte // SHA-256 of the code as it was uploaded
}

func (a *SupplyAnswer) form() value   { return object{must("amount", a.Amount.form())} }
func (a *BalancesAnswer) form() value { return object{must("amount", listOf(&a.Amount, maxElements))} }
func (a *MetadataAnswer) form() value { return object{must("metadata", a.Metadata.form())} }

func (a *AllMetadataAnswer) form() value {
	return object{must("metadata", listOf(&a.Metadata, maxElements)), optional("next_key", maybeBinary{&a.Next, MaxKeyBytes})}
}

func (m *Metadata) form() value {
	words := func(to *string) value { return text{to, MaxTextBytes} }
	return object{
		must("description", words(&m.Description)), must("denom_units", listOf(&m.Units, maxElements)),
		must("base", words(&m.Base)), must("display", words(&m.Display)), must("name", words(&m.Name)),
		must("symbol", words(&m.Symbol)), must("uri", words(&m.URI)), must("uri_hash", words(&m.URIHash)),
	}
}

func texts(to *[]string, most int) value {
	return list[string]{to, maxElements, func(v *string) value { return text{v, most} }}
}

func (u *Unit) form() value {
	return object{denom(&u.Denom), must("exponent", number[uint32]{&u.Exponent}), must("aliases", texts(&u.Aliases, MaxDenomBytes))}
}

func (a *BondedDenomAnswer) form() value { return object{denom(&a.Denom)} }

func (a *ValidatorsAnswer) form() value {
	return object{must("validators", listOf(&a.Validators, maxElements))}
}

func (a *ValidatorAnswer) form() value { return object{optional("validator", optionOf(&a.Validator))} }

func (v *Validator) form() value {
	return object{
		must("address", address(&v.Address)), must("commission", decimal{&v.Commission}),
		must("max_commission", decimal{&v.MaxCommission}), must("max_change_rate", decimal{&v.MaxChangeRate}),
	}
}

func (a *DelegationsAnswer) form() value {
	return object{must("delegations", listOf(&a.Delegations, maxElements))}
}

func (b *Delegation) form() value {
	return object{must("delegator", address(&b.Delegator)), must("validator", address(&b.Validator)), must("amount", b.Amount.form())}
}

func (a *DelegationAnswer) form() value {
	return object{optional("delegation", optionOf(&a.Delegation))}
}

func (b *FullDelegation) form() value {
	return object{
		must("delegator", address(&b.Delegator)), must("validator", address(&b.Validator)), must("amount", b.Amount.form()),
		must("can_redelegate", b.CanRedelegate.form()), must("accumulated_rewards", listOf(&b.Rewards, maxElements)),
	}
}

func (a *WithdrawAddressAnswer) form() value {
	return object{must("withdraw_address", address(&a.Address))}
}

func (a *RewardsAnswer) form() value { return object{must("rewards", listOf(&a.Rewards, maxElements))} }

func (c *DecCoin) form() value { return object{denom(&c.Denom), must("amount", decimal{&c.Amount})} }

func (a *TotalRewardsAnswer) form() value {
	return object{must("rewards", listOf(&a.Rewards, maxElements)), must("total", listOf(&a.Total, maxElements))}
}

func (r *ValidatorRewards) form() value {
	return object{must("validator_address", address(&r.Validator)), must("reward", listOf(&r.Rewards, maxElements))}
}

func (a *DelegatorValidatorsAnswer) form() value {
	return object{must("validators", texts(&a.Validators, MaxAddressBytes))}
}

// The port for IBC is null: there is none.
func (a *ContractInfoAnswer) form() value {
	none := (*string)(nil)
	return object{
		code("code_id", &a.Code), must("creator", address(&a.Creator)), admin(&a.Admin),
		must("pinned", flag{&a.Pinned}), optional("ibc_port", optionalText(&none, MaxAddressBytes)),
	}
}

func (a *CodeInfoAnswer) form() value {
	return object{code("code_id", &a.Code), must("creator", address(&a.Creator)), must("checksum", digest{&a.Checksum})}
}
