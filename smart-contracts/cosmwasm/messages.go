package cosmwasm

// Message is what a contract has the chain do.
type Message interface{ message() }

// BankSend sends coins of the contract.
type BankSend struct {
	To     string
	Amount []Coin
}

// BankBurn destroys coins of the contract.
type BankBurn struct{ Amount []Coin }

// Delegate bonds coins to a validator.
type Delegate struct {
	Validator string
	Amount    Coin
}

// Undelegate takes bonded coins back.
type Undelegate struct {
	Validator string
	Amount    Coin
}

// Redelegate moves bonded coins to another validator.
type Redelegate struct {
	From, To string
	Amount   Coin
}

// SetWithdrawAddress says who gets the contract's rewards.
type SetWithdrawAddress struct{ Address string }

// WithdrawReward takes the rewards of a delegation.
type WithdrawReward struct{ Validator string }

// FundCommunityPool gives coins to the community.
type FundCommunityPool struct{ Amount []Coin }

// VoteOption is what a vote says.
type VoteOption uint8

// The options of a vote.
const (
	VoteYes VoteOption = 1 + iota
	VoteNo
	VoteAbstain
	VoteNoWithVeto
)

var voteWords = []string{"yes", "no", "abstain", "no_with_veto"}

// Vote votes on a proposal.
type Vote struct {
	Proposal uint64
	Option   VoteOption
}

// VoteWeighted votes with parts of a weight.
type VoteWeighted struct {
	Proposal uint64
	Options  []WeightedOption
}

// WeightedOption is a part of a vote.
type WeightedOption struct {
	Option VoteOption
	Weight Decimal
}

// Execute calls a contract.
type Execute struct {
	Contract string
	Msg      []byte // JSON, for the contract to read
	Funds    []Coin
}

// Instantiate makes a contract of code.
type Instantiate struct {
	Admin *string // nil: nobody
	Code  uint64
	Msg   []byte
	Funds []Coin
	Label string
}

// Instantiate2 makes one at an address that can be told before.
type Instantiate2 struct {
	Admin *string
	Code  uint64
	Label string
	Msg   []byte
	Funds []Coin
	Salt  []byte
}

// Migrate gives a contract other code.
type Migrate struct {
	Contract string
	Code     uint64
	Msg      []byte
}

// UpdateAdmin gives a contract another admin.
type UpdateAdmin struct{ Contract, Admin string }

// ClearAdmin leaves a contract without one, for good.
type ClearAdmin struct{ Contract string }

// CustomMessage is of this chain alone.
type CustomMessage struct{ Raw Raw }

func (BankSend) message()           {}
func (BankBurn) message()           {}
func (Delegate) message()           {}
func (Undelegate) message()         {}
func (Redelegate) message()         {}
func (SetWithdrawAddress) message() {}
func (WithdrawReward) message()     {}
func (FundCommunityPool) message()  {}
func (Vote) message()               {}
func (VoteWeighted) message()       {}
func (Execute) message()            {}
func (Instantiate) message()        {}
func (Instantiate2) message()       {}
func (Migrate) message()            {}
func (UpdateAdmin) message()        {}
func (ClearAdmin) message()         {}
func (CustomMessage) message()      {}

// messages are the variants of CosmWasm's CosmosMsg.
var messages = []variant[Message]{
	group("bank", one[Message, BankSend]("send"), one[Message, BankBurn]("burn")),
	one[Message, CustomMessage]("custom"),
	group("staking", one[Message, Delegate]("delegate"), one[Message, Undelegate]("undelegate"), one[Message, Redelegate]("redelegate")),
	group("distribution", one[Message, SetWithdrawAddress]("set_withdraw_address"),
		one[Message, WithdrawReward]("withdraw_delegator_reward"), one[Message, FundCommunityPool]("fund_community_pool")),
	group("gov", one[Message, Vote]("vote"), one[Message, VoteWeighted]("vote_weighted")),
	group("wasm", one[Message, Execute]("execute"), one[Message, Instantiate]("instantiate"), one[Message, Instantiate2]("instantiate2"),
		one[Message, Migrate]("migrate"), one[Message, UpdateAdmin]("update_admin"), one[Message, ClearAdmin]("clear_admin")),
	lacks[Message]("any"), lacks[Message]("stargate"), lacks[Message]("ibc"), lacks[Message]("ibc2"),
}

func callee(to *string) field { return must("contract_addr", address(to)) }
func msg(to *[]byte) field    { return must("msg", binary{to, MaxMessageBytes}) }
func funds(to *[]Coin) field  { return must("funds", coins(to)) }
func amount(to *[]Coin) field { return must("amount", coins(to)) }
func label(to *string) field  { return must("label", text{to, MaxLabelBytes}) }
func admin(to **string) field { return optional("admin", optionalText(to, MaxAddressBytes)) }

func code(name string, to *uint64) field { return must(name, number[uint64]{to}) }

func (m *BankSend) form() value {
	return object{must("to_address", address(&m.To)), amount(&m.Amount)}
}

func (m *BankBurn) form() value { return object{amount(&m.Amount)} }

func (m *Delegate) form() value {
	return object{must("validator", address(&m.Validator)), must("amount", m.Amount.form())}
}

func (m *Undelegate) form() value {
	return object{must("validator", address(&m.Validator)), must("amount", m.Amount.form())}
}

func (m *Redelegate) form() value {
	return object{must("src_validator", address(&m.From)), must("dst_validator", address(&m.To)), must("amount", m.Amount.form())}
}

func (m *SetWithdrawAddress) form() value { return object{must("address", address(&m.Address))} }
func (m *WithdrawReward) form() value     { return object{must("validator", address(&m.Validator))} }
func (m *FundCommunityPool) form() value  { return object{amount(&m.Amount)} }

// The option was named "vote" before CosmWasm 2.0.
func (m *Vote) form() value {
	return object{
		must("proposal_id", number[uint64]{&m.Proposal}),
		field{name: "option", also: "vote", of: word[VoteOption]{&m.Option, voteWords}},
	}
}

func (m *VoteWeighted) form() value {
	return object{must("proposal_id", number[uint64]{&m.Proposal}), must("options", listOf(&m.Options, MaxOptions))}
}

func (w *WeightedOption) form() value {
	return object{must("option", word[VoteOption]{&w.Option, voteWords}), must("weight", decimal{&w.Weight})}
}

func (m *Execute) form() value {
	return object{callee(&m.Contract), msg(&m.Msg), funds(&m.Funds)}
}

func (m *Instantiate) form() value {
	return object{admin(&m.Admin), code("code_id", &m.Code), msg(&m.Msg), funds(&m.Funds), label(&m.Label)}
}

func (m *Instantiate2) form() value {
	return object{admin(&m.Admin), code("code_id", &m.Code), label(&m.Label), msg(&m.Msg), funds(&m.Funds), must("salt", binary{&m.Salt, MaxSaltBytes})}
}

func (m *Migrate) form() value {
	return object{callee(&m.Contract), code("new_code_id", &m.Code), msg(&m.Msg)}
}

func (m *UpdateAdmin) form() value {
	return object{callee(&m.Contract), must("admin", address(&m.Admin))}
}

func (m *ClearAdmin) form() value    { return object{callee(&m.Contract)} }
func (m *CustomMessage) form() value { return raw{&m.Raw} }
