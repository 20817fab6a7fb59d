package contract

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// Ask has a contract answer a query on a state, with so much gas. The answer is JSON of
// the contract's own.
func Ask(on state.Reader, env *Env, to chain.Address, msg []byte, gas uint64) (answer []byte, used uint64, why *chain.Rejection) {
	f := &frame{layer: state.NewOverlay(on), tank: &tank{limit: gas}}
	r := &run{env: env}
	got, failed := r.ask(f, to, msg)
	if r.asked.refused != nil {
		failed = r.asked.refused
	}
	if failed != nil {
		return nil, f.tank.used, chain.Reject("%s", failed.said())
	}
	if text, ok := got.(cosmwasm.Failure); ok {
		return nil, f.tank.used, chain.Reject("%s: %s", to.Short(), text.Text)
	}
	return got.(cosmwasm.Data).Bytes, f.tank.used, nil
}

// ask calls a contract's query.
func (r *run) ask(f *frame, to chain.Address, msg []byte) (cosmwasm.QueryAnswer, *failure) {
	c, why := r.contract(f, to)
	if why != nil {
		return nil, why
	}
	data, why := r.call(f, c, meter.Query, wasmQuery, msg)
	if why != nil {
		return nil, why
	}
	answer, err := cosmwasm.DecodeQueryAnswer(data)
	if err != nil {
		return nil, fail(spaceWasm, wasmQuery, "%s answered what cannot be read: %s", to.Short(), ruleOf(err))
	}
	return answer, nil
}

// Query answers a contract that runs.
func (h *reach) Query(request []byte, limit uint64) ([]byte, uint64, error) {
	if err := h.ended(); err != nil {
		return nil, 0, err
	}
	perGas := h.env.Prices.Points
	f := &frame{layer: h.layer, tank: &tank{limit: limit / perGas}, depth: h.depth, queries: h.queries + 1}
	reached, why := h.reached(f, request)
	if why != nil && why.spent != nil {
		return nil, limit + 1, nil
	}
	if why != nil {
		reached = cosmwasm.Answered{Answer: cosmwasm.Failure{Text: why.told()}}
	}
	return cosmwasm.EncodeReached(reached), f.tank.used * perGas, nil
}

func (r *run) reached(f *frame, request []byte) (cosmwasm.Reached, *failure) {
	if !f.tank.take(r.env.Prices.Read + r.toRead(len(request))) {
		return nil, outOf(f.tank)
	}
	q, err := cosmwasm.DecodeQuery(request)
	if err != nil {
		return cosmwasm.Unanswered(request, refusalOf(err)), nil
	}
	switch q := q.(type) {
	case cosmwasm.BankSupply, cosmwasm.BankBalance, cosmwasm.BankBalances, cosmwasm.BankMetadata, cosmwasm.BankAllMetadata:
		return r.bank(f, q)
	case cosmwasm.Smart, cosmwasm.RawKey, cosmwasm.ContractInfo, cosmwasm.CodeInfo:
		return r.wasmQuery(f, q)
	case cosmwasm.BondedDenom, cosmwasm.AllValidators, cosmwasm.OneValidator, cosmwasm.AllDelegations, cosmwasm.OneDelegation:
		return lacking("staking"), nil
	case cosmwasm.WithdrawAddress, cosmwasm.Rewards, cosmwasm.TotalRewards, cosmwasm.DelegatorValidators:
		return lacking("distribution"), nil
	case cosmwasm.CustomQuery:
		return r.customQuery(f, q.Raw)
	}
	panic("contract: a query outside the sealed sum")
}

func lacking(kind string) cosmwasm.Reached {
	return cosmwasm.NotReached{Why: cosmwasm.UnsupportedRequest{Kind: kind}}
}

func answered(data []byte) cosmwasm.Reached {
	return cosmwasm.Answered{Answer: cosmwasm.Data{Bytes: data}}
}

// bank answers a query about money.
func (r *run) bank(f *frame, q any) (cosmwasm.Reached, *failure) {
	if !f.tank.take(r.env.Prices.Read) {
		return nil, outOf(f.tank)
	}
	coin := func(denom string, amount chain.Amount) cosmwasm.Coin {
		if denom != Denom {
			amount = chain.Amount{}
		}
		return cosmwasm.Coin{Denom: denom, Amount: cosmwasm.Uint128Of(amount.Nano())}
	}
	switch q := q.(type) {
	case cosmwasm.BankSupply:
		supply := tokens.SupplyOf(f.layer)
		total, ok := supply.Minted.Sub(supply.Burned)
		if !ok {
			panic("contract: more was burned than minted")
		}
		return answered(cosmwasm.Encode(cosmwasm.SupplyAnswer{Amount: coin(q.Denom, total)})), nil
	case cosmwasm.BankBalance:
		a, why := addressIn(q.Address)
		if why != nil {
			return nil, why
		}
		return answered(cosmwasm.Encode(cosmwasm.SupplyAnswer{Amount: coin(q.Denom, tokens.AccountOf(f.layer, a).Balance)})), nil
	case cosmwasm.BankBalances:
		a, why := addressIn(q.Address)
		if why != nil {
			return nil, why
		}
		return answered(cosmwasm.Encode(cosmwasm.BalancesAnswer{Amount: coinsOf(tokens.AccountOf(f.layer, a).Balance)})), nil
	case cosmwasm.BankMetadata:
		if q.Denom != Denom {
			return nil, fail(spaceSDK, sdkCoins, "there is no %.40q", q.Denom)
		}
		return answered(cosmwasm.Encode(cosmwasm.MetadataAnswer{Metadata: metadata()})), nil
	case cosmwasm.BankAllMetadata:
		return answered(cosmwasm.Encode(cosmwasm.AllMetadataAnswer{Metadata: []cosmwasm.Metadata{metadata()}})), nil
	}
	panic("contract: a query that is not about money")
}

// metadata is what HYPER is.
func metadata() cosmwasm.Metadata {
	return cosmwasm.Metadata{
		Description: "what work is paid with", Base: Denom, Display: "hyper", Name: "HYPER", Symbol: "HYPER",
		Units: []cosmwasm.Unit{{Denom: Denom}, {Denom: "hyper", Exponent: 9}},
	}
}

// wasmQuery answers a query about contracts and of them.
func (r *run) wasmQuery(f *frame, q any) (cosmwasm.Reached, *failure) {
	switch q := q.(type) {
	case cosmwasm.Smart:
		return r.smart(f, q)
	case cosmwasm.RawKey:
		a, c, gone, why := r.lookedUp(f, q.Contract)
		if c == nil {
			return gone, why
		}
		if len(q.Key) > MaxKeyBytes {
			return answered(nil), nil
		}
		value, _ := f.layer.Get(StorageKey(a, q.Key))
		if !f.tank.take(r.env.Prices.Read + r.env.Prices.ReadByte*uint64(len(value))) {
			return nil, outOf(f.tank)
		}
		return answered(value), nil
	case cosmwasm.ContractInfo:
		_, c, gone, why := r.lookedUp(f, q.Contract)
		if c == nil {
			return gone, why
		}
		if !f.tank.take(3 * r.env.Prices.Read) { // its code, and when that was loaded
			return nil, outOf(f.tank)
		}
		code, _ := CodeOf(f.layer, c.Code)
		last, _ := loaded(f.layer, code.Checksum)
		info := cosmwasm.ContractInfoAnswer{Code: c.Code, Creator: c.Creator.String(), Pinned: last.pinned(r.env)}
		if c.Admin != nil {
			admin := c.Admin.String()
			info.Admin = &admin
		}
		return answered(cosmwasm.Encode(info)), nil
	case cosmwasm.CodeInfo:
		if !f.tank.take(r.env.Prices.Read) {
			return nil, outOf(f.tank)
		}
		code, ok := CodeOf(f.layer, q.Code)
		if !ok {
			return cosmwasm.NotReached{Why: cosmwasm.NoSuchCode(q)}, nil
		}
		return answered(cosmwasm.Encode(cosmwasm.CodeInfoAnswer{Code: q.Code, Creator: code.Creator.String(), Checksum: code.Checksum})), nil
	}
	panic("contract: a query that is not about contracts")
}

// lookedUp returns the contract that a query names, nil if there is none.
func (r *run) lookedUp(f *frame, address string) (a chain.Address, c *Contract, gone cosmwasm.Reached, why *failure) {
	if a, why = addressIn(address); why != nil {
		return a, nil, nil, why
	}
	if !f.tank.take(r.env.Prices.Read + recordBytes*r.env.Prices.ReadByte) {
		return a, nil, nil, outOf(f.tank)
	}
	found, ok := ContractOf(f.layer, a)
	if !ok {
		return a, nil, cosmwasm.NotReached{Why: cosmwasm.NoSuchContract{Address: address}}, nil
	}
	return a, &found, nil, nil
}

func (r *run) smart(f *frame, q cosmwasm.Smart) (cosmwasm.Reached, *failure) {
	a, c, gone, why := r.lookedUp(f, q.Contract)
	if c == nil {
		return gone, why
	}
	if f.queries > MaxQueryDepth {
		return nil, fail(spaceWasm, wasmQueryDepth, "more than %d queries that wait for each other", MaxQueryDepth)
	}
	answer, why := r.ask(f, a, q.Msg)
	if why != nil {
		return nil, why
	}
	if _, failed := answer.(cosmwasm.Failure); failed {
		return nil, fail(spaceWasm, wasmQuery, "%s does not answer", a.Short())
	}
	return cosmwasm.Answered{Answer: answer}, nil
}
