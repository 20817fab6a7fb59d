package contract

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// Answers to messages, by the names of their types on CosmWasm's chains.
const (
	typeSend         = "/cosmos.bank.v1beta1.MsgSendResponse"
	typeBurn         = "/cosmos.bank.v1beta1.MsgBurnResponse"
	typeExecute      = "/cosmwasm.wasm.v1.MsgExecuteContractResponse"
	typeInstantiate  = "/cosmwasm.wasm.v1.MsgInstantiateContractResponse"
	typeInstantiate2 = "/cosmwasm.wasm.v1.MsgInstantiateContract2Response"
	typeMigrate      = "/cosmwasm.wasm.v1.MsgMigrateContractResponse"
	typeUpdateAdmin  = "/cosmwasm.wasm.v1.MsgUpdateAdminResponse"
	typeClearAdmin   = "/cosmwasm.wasm.v1.MsgClearAdminResponse"
)

// message does a message of a contract.
func (r *run) message(f *frame, from chain.Address, m cosmwasm.Message) (done cosmwasm.MsgResponse, why *failure) {
	switch {
	case f.depth > MaxDepth:
		return done, fail(spaceWasm, wasmDepth, "more than %d messages that lead to each other", MaxDepth)
	case !f.tank.take(r.env.Prices.Message):
		return done, outOf(f.tank)
	}
	switch m := m.(type) {
	case cosmwasm.BankSend:
		return cosmwasm.MsgResponse{TypeURL: typeSend}, r.send(f, from, m)
	case cosmwasm.BankBurn:
		return cosmwasm.MsgResponse{TypeURL: typeBurn}, r.burn(f, from, m)
	case cosmwasm.Execute, cosmwasm.Instantiate, cosmwasm.Instantiate2, cosmwasm.Migrate, cosmwasm.UpdateAdmin, cosmwasm.ClearAdmin:
		return r.wasm(f, from, m)
	case cosmwasm.Delegate, cosmwasm.Undelegate, cosmwasm.Redelegate:
		return done, unsupported("staking")
	case cosmwasm.SetWithdrawAddress, cosmwasm.WithdrawReward, cosmwasm.FundCommunityPool:
		return done, unsupported("distribution")
	case cosmwasm.Vote, cosmwasm.VoteWeighted:
		return done, unsupported("gov")
	case cosmwasm.CustomMessage:
		return r.custom(f, from, m.Raw)
	}
	panic("contract: a message outside the sealed sum")
}

// wasm does a message about contracts.
func (r *run) wasm(f *frame, from chain.Address, m any) (done cosmwasm.MsgResponse, why *failure) {
	switch m := m.(type) {
	case cosmwasm.Execute:
		done.TypeURL = typeExecute
		to, funds, why := toWith(m.Contract, m.Funds)
		if why != nil {
			return done, why
		}
		data, why := r.execute(f, from, to, m.Msg, funds)
		done.Value = field(1, data)
		return done, why
	case cosmwasm.Instantiate:
		done.TypeURL = typeInstantiate
		return r.make(f, from, done, &making{code: m.Code, told: m.Admin, coins: m.Funds, label: m.Label, msg: m.Msg})
	case cosmwasm.Instantiate2:
		done.TypeURL = typeInstantiate2
		return r.make(f, from, done, &making{code: m.Code, told: m.Admin, coins: m.Funds, label: m.Label, msg: m.Msg, salted: true, salt: m.Salt})
	case cosmwasm.Migrate:
		done.TypeURL = typeMigrate
		to, why := addressIn(m.Contract)
		if why != nil {
			return done, why
		}
		data, why := r.migrate(f, from, to, m.Code, m.Msg)
		done.Value = field(1, data)
		return done, why
	case cosmwasm.UpdateAdmin:
		done.TypeURL = typeUpdateAdmin
		to, why := addressIn(m.Contract)
		if why != nil {
			return done, why
		}
		admin, why := addressIn(m.Admin)
		if why != nil {
			return done, why
		}
		return done, r.setAdmin(f, from, to, &admin)
	case cosmwasm.ClearAdmin:
		done.TypeURL = typeClearAdmin
		to, why := addressIn(m.Contract)
		if why != nil {
			return done, why
		}
		return done, r.setAdmin(f, from, to, nil)
	}
	panic("contract: a message that is not about contracts")
}

func toWith(contract string, coins []cosmwasm.Coin) (to chain.Address, funds chain.Amount, why *failure) {
	if to, why = addressIn(contract); why == nil {
		funds, why = amountOf(coins)
	}
	return to, funds, why
}

// amountOf adds up coins, of which there is one kind.
func amountOf(coins []cosmwasm.Coin) (total chain.Amount, why *failure) {
	for _, c := range coins {
		n, fits := c.Amount.Uint64()
		if c.Denom != Denom {
			return total, fail(spaceSDK, sdkCoins, "there is no %.40q, only %s", c.Denom, Denom)
		}
		if fits {
			total, fits = total.Add(chain.Nano(n))
		}
		if !fits {
			return total, fail(spaceSDK, sdkFunds, "%s%s is more than there is", c.Amount, Denom)
		}
	}
	return total, nil
}

func coinsOf(a chain.Amount) []cosmwasm.Coin {
	if a.IsZero() {
		return nil
	}
	return []cosmwasm.Coin{{Denom: Denom, Amount: cosmwasm.Uint128Of(a.Nano())}}
}

// pay moves money, of which there is some.
func (r *run) pay(f *frame, from, to chain.Address, amount chain.Amount) *failure {
	p := &r.env.Prices
	if !f.tank.take(2*p.Read + 2*p.Write + p.Insert) {
		return outOf(f.tank)
	}
	event, why := tokens.Transfer(f.layer, from, chain.Transfer{To: to, Amount: amount}, r.env.Now)
	if why != nil {
		return fail(spaceSDK, sdkFunds, "%s", why.Reason())
	}
	return r.emit(f, event, 0)
}

func (r *run) send(f *frame, from chain.Address, m cosmwasm.BankSend) *failure {
	to, amount, why := toWith(m.To, m.Amount)
	switch {
	case why != nil:
		return why
	case amount.IsZero():
		return fail(spaceSDK, sdkCoins, "nothing is sent")
	}
	return r.pay(f, from, to, amount)
}

func (r *run) burn(f *frame, from chain.Address, m cosmwasm.BankBurn) *failure {
	amount, why := amountOf(m.Amount)
	if why == nil && amount.IsZero() {
		why = fail(spaceSDK, sdkCoins, "nothing is burned")
	}
	if why != nil {
		return why
	}
	p := &r.env.Prices
	if !f.tank.take(2*p.Read + 2*p.Write) {
		return outOf(f.tank)
	}
	if why := tokens.Debit(f.layer, from, amount, r.env.Now); why != nil {
		return fail(spaceSDK, sdkFunds, "%s", why.Reason())
	}
	tokens.Burn(f.layer, amount)
	return r.emit(f, chain.ContractBurned{Contract: from, Amount: amount}, 0)
}

// execute calls a contract with money.
func (r *run) execute(f *frame, from, to chain.Address, msg []byte, funds chain.Amount) ([]byte, *failure) {
	c, why := r.contract(f, to)
	if why != nil {
		return nil, why
	}
	if !funds.IsZero() {
		if why := r.pay(f, from, to, funds); why != nil {
			return nil, why
		}
	}
	at := len(r.events)
	if why := r.emit(f, chain.ContractExecuted{Contract: to, Sender: from, Funds: funds}, 0); why != nil {
		return nil, why
	}
	answer, why := r.call(f, c, meter.Execute, wasmExecute, infoOf(from, funds), msg)
	if why != nil {
		return nil, why
	}
	data, why := r.respond(f, c, wasmExecute, answer)
	if why != nil {
		return nil, why
	}
	return data, r.answered(f, at, data)
}

func infoOf(from chain.Address, funds chain.Amount) []byte {
	return cosmwasm.Encode(cosmwasm.MessageInfo{Sender: from.String(), Funds: coinsOf(funds)})
}

// making is what a contract is made of.
type making struct {
	code   uint64
	admin  *chain.Address
	label  string
	msg    []byte
	funds  chain.Amount
	salted bool
	salt   []byte

	told  *string // the admin, as a contract wrote it
	coins []cosmwasm.Coin
}

// make makes a contract for another.
func (r *run) make(f *frame, from chain.Address, done cosmwasm.MsgResponse, m *making) (cosmwasm.MsgResponse, *failure) {
	var why *failure
	if m.told != nil {
		a, why := addressIn(*m.told)
		if why != nil {
			return done, why
		}
		m.admin = &a
	}
	if m.funds, why = amountOf(m.coins); why != nil {
		return done, why
	}
	made, data, why := r.instantiate(f, from, m)
	done.Value = append(field(1, []byte(made.String())), field(2, data)...)
	return done, why
}

// instantiate makes a contract, and returns its address and what it answered.
func (r *run) instantiate(f *frame, from chain.Address, m *making) (chain.Address, []byte, *failure) {
	p := &r.env.Prices
	if !f.tank.take(4*p.Read + 3*p.Write + 2*p.Insert + recordBytes*p.WriteByte) {
		return chain.Address{}, nil, outOf(f.tank)
	}
	code, why := r.code(f, m.code)
	if why != nil {
		return chain.Address{}, nil, why
	}
	c, why := r.found(f, from, m, &code)
	if why != nil {
		return chain.Address{}, nil, why
	}
	if !m.funds.IsZero() {
		if why := r.pay(f, from, c.address, m.funds); why != nil {
			return chain.Address{}, nil, why
		}
	}
	at := len(r.events)
	event := chain.ContractInstantiated{Contract: c.address, Code: chain.Number(m.code), Creator: from, Admin: m.admin, Label: m.label, Funds: m.funds}
	if why := r.emit(f, event, len(m.label)); why != nil {
		return chain.Address{}, nil, why
	}
	if why := r.settle(f, c, change{grown: recordBytes}); why != nil {
		return chain.Address{}, nil, why
	}
	answer, why := r.call(f, c, meter.Instantiate, wasmInstantiate, infoOf(from, m.funds), m.msg)
	if why != nil {
		return chain.Address{}, nil, why
	}
	data, why := r.respond(f, c, wasmInstantiate, answer)
	if why != nil {
		return chain.Address{}, nil, why
	}
	return c.address, data, r.answered(f, at, data)
}

// found gives a contract an address and its record.
func (r *run) found(f *frame, from chain.Address, m *making, code *Code) (*called, *failure) {
	switch {
	case m.label == "":
		return nil, fail(spaceWasm, wasmEmpty, "the label is empty")
	case m.salted && (len(m.salt) == 0 || len(m.salt) > chain.MaxContractSalt):
		return nil, fail(spaceWasm, wasmInvalid, "a salt of %d bytes, want 1 to %d", len(m.salt), chain.MaxContractSalt)
	}
	numbers := NumbersOf(f.layer)
	numbers.Contracts++
	state.Save(f.layer, NumbersKey(), numbers)
	c := &called{
		address: AddressOf(m.code, numbers.Contracts), code: *code,
		Contract: Contract{Code: m.code, Creator: from, Admin: m.admin, Label: m.label, Created: r.env.Height},
	}
	if m.salted {
		c.address = PredictableAddress(code.Checksum, from, m.salt)
	}
	if _, taken := ContractOf(f.layer, c.address); taken {
		return nil, fail(spaceWasm, wasmExists, "%s is a contract already", c.address)
	}
	r.save(f, c)
	return c, nil
}

func (r *run) save(f *frame, c *called) { state.Save(f.layer, ContractKey(c.address), c.Contract) }

// administered returns a contract that its admin changes.
func (r *run) administered(f *frame, from, to chain.Address) (*called, *failure) {
	c, why := r.contract(f, to)
	if why != nil {
		return nil, why
	}
	if c.Admin == nil || *c.Admin != from {
		return nil, fail(spaceSDK, sdkUnauthorized, "%s is not the admin of %s", from.Short(), to.Short())
	}
	p := &r.env.Prices
	if !f.tank.take(p.Write + recordBytes*p.WriteByte) {
		return nil, outOf(f.tank)
	}
	return c, nil
}

// migrate gives a contract other code, which is told.
func (r *run) migrate(f *frame, from, to chain.Address, id uint64, msg []byte) ([]byte, *failure) {
	c, why := r.administered(f, from, to)
	if why != nil {
		return nil, why
	}
	old := c.Code
	if c.code, why = r.code(f, id); why != nil {
		return nil, why
	}
	c.Code = id
	r.save(f, c)
	at := len(r.events)
	if why := r.emit(f, chain.ContractMigrated{Contract: to, Sender: from, From: chain.Number(old), Code: chain.Number(id)}, 0); why != nil {
		return nil, why
	}
	info := cosmwasm.Encode(cosmwasm.MigrateInfo{Sender: from.String()})
	answer, why := r.call(f, c, meter.Migrate, wasmMigrate, msg, info)
	if why != nil {
		return nil, why
	}
	data, why := r.respond(f, c, wasmMigrate, answer)
	if why != nil {
		return nil, why
	}
	return data, r.answered(f, at, data)
}

// setAdmin gives a contract another admin, or none.
func (r *run) setAdmin(f *frame, from, to chain.Address, admin *chain.Address) *failure {
	c, why := r.administered(f, from, to)
	if why != nil {
		return why
	}
	c.Admin = admin
	r.save(f, c)
	return r.emit(f, chain.ContractAdminSet{Contract: to, Admin: admin}, 0)
}
