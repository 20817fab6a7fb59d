package cosmwasm

// Query is what a contract asks the chain.
type Query interface{ query() }

// BankSupply asks how much there is of a token: SupplyAnswer.
type BankSupply struct{ Denom string }

// BankBalance asks how much of a token an account has: SupplyAnswer.
type BankBalance struct{ Address, Denom string }

// BankBalances asks for all that an account has: BalancesAnswer.
type BankBalances struct{ Address string }

// BankMetadata asks what a token is: MetadataAnswer.
type BankMetadata struct{ Denom string }

// BankAllMetadata asks for all tokens: AllMetadataAnswer.
type BankAllMetadata struct{ Page *Page }

// Page says which part of a list is asked for.
type Page struct {
	Key     []byte // where it begins; nil: at the beginning
	Limit   uint32
	Reverse bool
}

// BondedDenom asks for the token that is bonded: BondedDenomAnswer.
type BondedDenom struct{}

// AllValidators asks for the validators: ValidatorsAnswer.
type AllValidators struct{}

// OneValidator asks for one: ValidatorAnswer.
type OneValidator struct{ Address string }

// AllDelegations asks for a delegator's bonds: DelegationsAnswer.
type AllDelegations struct{ Delegator string }

// OneDelegation asks for one: DelegationAnswer.
type OneDelegation struct{ Delegator, Validator string }

// WithdrawAddress asks who gets a delegator's rewards: WithdrawAddressAnswer.
type WithdrawAddress struct{ Delegator string }

// Rewards asks for the rewards of one delegation: RewardsAnswer.
type Rewards struct{ Delegator, Validator string }

// TotalRewards asks for those of all: TotalRewardsAnswer.
type TotalRewards struct{ Delegator string }

// DelegatorValidators asks to whom a delegator has bonded: DelegatorValidatorsAnswer.
type DelegatorValidators struct{ Delegator string }

// Smart has a contract answer: its bytes.
type Smart struct {
	Contract string
	Msg      []byte // JSON, for the contract to read
}

// RawKey reads a contract's storage: the value's bytes.
type RawKey struct {
	Contract string
	Key      []byte
}

// ContractInfo asks about a contract: ContractInfoAnswer.
type ContractInfo struct{ Contract string }

// CodeInfo asks about code: CodeInfoAnswer.
type CodeInfo struct{ Code uint64 }

// CustomQuery is of this chain alone.
type CustomQuery struct{ Raw Raw }

func (BankSupply) query()          {}
func (BankBalance) query()         {}
func (BankBalances) query()        {}
func (BankMetadata) query()        {}
func (BankAllMetadata) query()     {}
func (BondedDenom) query()         {}
func (AllValidators) query()       {}
func (OneValidator) query()        {}
func (AllDelegations) query()      {}
func (OneDelegation) query()       {}
func (WithdrawAddress) query()     {}
func (Rewards) query()             {}
func (TotalRewards) query()        {}
func (DelegatorValidators) query() {}
func (Smart) query()               {}
func (RawKey) query()              {}
func (ContractInfo) query()        {}
func (CodeInfo) query()            {}
func (CustomQuery) query()         {}

// queries are the variants of CosmWasm's QueryRequest.
var queries = []variant[Query]{
	group("bank", one[Query, BankSupply]("supply"), one[Query, BankBalance]("balance"), one[Query, BankBalances]("all_balances"),
		one[Query, BankMetadata]("denom_metadata"), one[Query, BankAllMetadata]("all_denom_metadata")),
	one[Query, CustomQuery]("custom"),
	group("staking", one[Query, BondedDenom]("bonded_denom"), one[Query, AllDelegations]("all_delegations"),
		one[Query, OneDelegation]("delegation"), one[Query, AllValidators]("all_validators"), one[Query, OneValidator]("validator")),
	group("distribution", one[Query, WithdrawAddress]("delegator_withdraw_address"), one[Query, Rewards]("delegation_rewards"),
		one[Query, TotalRewards]("delegation_total_rewards"), one[Query, DelegatorValidators]("delegator_validators")),
	group("wasm", one[Query, Smart]("smart"), one[Query, RawKey]("raw"), one[Query, ContractInfo]("contract_info"),
		one[Query, CodeInfo]("code_info"), lacks[Query]("raw_range")),
	lacks[Query]("stargate"), lacks[Query]("grpc"), lacks[Query]("ibc"),
}

func denom(to *string) field { return must("denom", text{to, MaxDenomBytes}) }

func delegatorAddress(to *string) field { return must("delegator_address", address(to)) }

func (q *BankSupply) form() value { return object{denom(&q.Denom)} }
func (q *BankBalance) form() value {
	return object{must("address", address(&q.Address)), denom(&q.Denom)}
}
func (q *BankBalances) form() value  { return object{must("address", address(&q.Address))} }
func (q *BankMetadata) form() value  { return object{denom(&q.Denom)} }
func (q *BondedDenom) form() value   { return object{} }
func (q *AllValidators) form() value { return object{} }
func (q *OneValidator) form() value  { return object{must("address", address(&q.Address))} }

func (q *BankAllMetadata) form() value { return object{optional("pagination", optionOf(&q.Page))} }

func (p *Page) form() value {
	return object{
		optional("key", maybeBinary{&p.Key, MaxKeyBytes}),
		must("limit", number[uint32]{&p.Limit}),
		must("reverse", flag{&p.Reverse}),
	}
}

func (q *AllDelegations) form() value { return object{must("delegator", address(&q.Delegator))} }

func (q *OneDelegation) form() value {
	return object{must("delegator", address(&q.Delegator)), must("validator", address(&q.Validator))}
}

func (q *WithdrawAddress) form() value     { return object{delegatorAddress(&q.Delegator)} }
func (q *TotalRewards) form() value        { return object{delegatorAddress(&q.Delegator)} }
func (q *DelegatorValidators) form() value { return object{delegatorAddress(&q.Delegator)} }

func (q *Rewards) form() value {
	return object{delegatorAddress(&q.Delegator), must("validator_address", address(&q.Validator))}
}

func (q *Smart) form() value { return object{callee(&q.Contract), msg(&q.Msg)} }
func (q *RawKey) form() value {
	return object{callee(&q.Contract), must("key", binary{&q.Key, MaxQueryBytes})}
}
func (q *ContractInfo) form() value { return object{callee(&q.Contract)} }
func (q *CodeInfo) form() value     { return object{code("code_id", &q.Code)} }
func (q *CustomQuery) form() value  { return raw{&q.Raw} }
