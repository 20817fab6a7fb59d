package contract

import (
	"errors"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// Env is where contracts are called.
type Env struct {
	ChainID chain.ChainID
	Height  chain.Height
	Now     chain.TimeMs
	// ProgressMs is the chain's time without that in which it stood, which is what compiling is given.
	ProgressMs uint64
	Tx         *Tx           // nil: outside of any
	Payer      chain.Address // of the transaction's fee: who pays for room
	Prices     Prices
	VM         VM
	Host       Host  // nil: contracts reach nothing but accounts and each other
	Said       *Said // by the messages of the transaction so far; nil: nothing, and nobody asks
	// Ended says why a call goes on no more; nil: it does until it ends itself. Never in a block.
	Ended func() error
}

// Tx is the transaction that contracts are called in.
type Tx struct {
	Index uint32 // in its block
	ID    chain.TxID
}

// Result is what a message came to.
type Result struct {
	Events chain.Events     // none if it was refused
	Why    *chain.Rejection // nil: it took effect
	Gas    uint64
	Spent  bool // there was not enough gas: Gas is all there was
}

// run is the execution of one message of a transaction, or of one query.
type run struct {
	env     *Env
	events  chain.Events
	removed map[chain.Address]uint64 // keys, by calls that have not returned, or failed
	most    chain.Amount             // that the payer pays for room, less what comes back
	room    room
	asked   asked
	said    Said // by this message, and those of its transaction before
}

// mark is where a run stood, which it goes back to when what followed has failed.
type mark struct {
	events int
	said   Said
	room   room
}

func (r *run) mark() mark { return mark{len(r.events), r.said, r.room} }

func (r *run) back(to mark) { r.events, r.said, r.room = r.events[:to.events], to.said, to.room }

// frame is where contracts are called and messages done.
type frame struct {
	layer   *state.Overlay
	tank    *tank
	depth   int // messages that led here
	queries int // calls that wait for this one
}

// Do does a message about contracts on a layer, with so much gas. The layer is of no use
// any more if it is refused.
func Do(layer *state.Overlay, env *Env, from chain.Address, m any, gas uint64) Result {
	r, f := &run{env: env}, &frame{layer: layer, tank: &tank{limit: gas}}
	if env.Said != nil {
		r.said = *env.Said
	}
	why := r.top(f, from, m)
	out := Result{Gas: f.tank.used, Spent: why != nil && why.spent != nil}
	if why != nil {
		out.Why = chain.Reject("%s", why.said())
		return out
	}
	if out.Events = r.events; env.Said != nil {
		*env.Said = r.said
	}
	return out
}

// top does a message of a transaction.
func (r *run) top(f *frame, from chain.Address, m any) (why *failure) {
	if !f.tank.take(r.env.Prices.Message) {
		return outOf(f.tank)
	}
	switch m := m.(type) {
	case chain.StoreCode:
		return r.store(f, from, &m)
	case chain.InstantiateContract:
		r.most = m.MaxDeposit
		_, _, why = r.instantiate(f, from, &making{code: m.Code, admin: m.Admin, label: m.Label, msg: m.Msg, funds: m.Funds, salted: len(m.Salt) > 0, salt: m.Salt})
		return why
	case chain.ExecuteContract:
		r.most = m.MaxDeposit
		_, why = r.execute(f, from, m.Contract, m.Msg, m.Funds)
		return why
	case chain.MigrateContract:
		r.most = m.MaxDeposit
		_, why = r.migrate(f, from, m.Contract, m.Code, m.Msg)
		return why
	case chain.SetContractAdmin:
		return r.setAdmin(f, from, m.Contract, m.Admin)
	case chain.PinCode:
		return r.pin(f, from, &m)
	}
	panic("contract: a message that is not about contracts")
}

// called is a contract that is called, and its code.
type called struct {
	address chain.Address
	Contract
	code Code
}

// contract returns a contract that can be called.
func (r *run) contract(f *frame, a chain.Address) (*called, *failure) {
	if !f.tank.take(2 * (r.env.Prices.Read + recordBytes*r.env.Prices.ReadByte)) {
		return nil, outOf(f.tank)
	}
	c := &called{address: a}
	var ok bool
	if c.Contract, ok = ContractOf(f.layer, a); !ok {
		return nil, fail(spaceWasm, wasmNoContract, "%s is no contract", a)
	}
	var why *failure
	c.code, why = r.code(f, c.Code)
	return c, why
}

// code returns code that runs.
func (r *run) code(f *frame, id uint64) (Code, *failure) {
	code, ok := CodeOf(f.layer, id)
	switch {
	case !ok:
		return Code{}, fail(spaceWasm, wasmNoCode, "there is no code %d", id)
	case r.env.Height < code.Callable:
		return Code{}, fail(spaceOurs, oursNotYet, "code %d runs from height %d on", id, code.Callable)
	case r.env.ProgressMs < code.Ready:
		return Code{}, fail(spaceOurs, oursNotYet, "code %d is being compiled, for which nodes have %d ms more", id, code.Ready-r.env.ProgressMs)
	}
	return code, nil
}

// Program returns what a VM runs of code, whose bytes it reads from r when it needs them.
func (c *Code) Program(r state.Reader) Program {
	id := crypto.DomainContractCode.Hash(append(c.Checksum[:], weightsVersion))
	return Program{ID: id, Load: func() (*meter.Module, error) {
		code, ok := r.Get(BytesKey(c.Checksum))
		if !ok {
			return nil, errors.New("contract: the state has no bytes of code that it lists")
		}
		return meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
	}}
}

// weightsVersion is of the weights that code is prepared with.
const weightsVersion = 1

// call calls an entry of a contract and returns what it answered. code is what its
// failure is told as.
func (r *run) call(f *frame, c *called, entry meter.Entry, code uint32, args ...[]byte) ([]byte, *failure) {
	if !f.tank.take(r.env.Prices.Call) {
		return nil, outOf(f.tank)
	}
	unpaid, ok := r.paidLoad(f, &c.code)
	if !ok {
		return nil, outOf(f.tank)
	}
	reach := &reach{run: r, frame: f, contract: c}
	if err := reach.ended(); err != nil {
		panic(&state.Fault{Op: "running a contract", Err: err})
	}
	args = append([][]byte{cosmwasm.Encode(r.envOf(c.address))}, args...)
	perGas := r.env.Prices.Points
	outcome, err := r.env.VM.Run(c.code.Program(f.layer), Call{Entry: entry, Args: args, Points: f.tank.left() * perGas, Depth: f.queries, Unpaid: unpaid}, reach)
	if err != nil {
		panic(&state.Fault{Op: "running a contract", Err: err})
	}
	if !f.tank.take((outcome.Points + perGas - 1) / perGas) {
		panic("contract: a call used more than it had")
	}
	switch outcome.End {
	case Returned:
		if !f.tank.take(r.toRead(len(outcome.Data))) {
			return nil, outOf(f.tank)
		}
		return outcome.Data, r.settle(f, c, reach.change)
	case Spent:
		return nil, outOf(f.tank)
	case Aborted: // as a contract in a language without errors refuses: its words are told, as those of a Failure are
		if outcome.Detail != "" {
			return nil, fail(spaceWasm, code, "%s: %s", c.address.Short(), outcome.Detail)
		}
	case Trapped, Misused, Overflowed, Refused:
	}
	return nil, fail(spaceWasm, code, "%s of %s %s", entry, c.address.Short(), outcome.End)
}

func (r *run) envOf(a chain.Address) cosmwasm.Env {
	env := cosmwasm.Env{
		Block:    cosmwasm.Block{Height: uint64(r.env.Height), Time: uint64(r.env.Now) * 1_000_000, ChainID: string(r.env.ChainID)},
		Contract: a.String(),
	}
	if r.env.Tx != nil {
		env.Transaction = &cosmwasm.Transaction{Index: r.env.Tx.Index, Hash: r.env.Tx.ID[:]}
	}
	return env
}

// respond does what a contract answered, and returns the data of it all: its own, or that
// of the last reply that has some.
func (r *run) respond(f *frame, c *called, code uint32, answer []byte) ([]byte, *failure) {
	decoded, err := cosmwasm.DecodeAnswer(answer)
	if err != nil {
		return nil, fail(spaceWasm, code, "%s answered what cannot be read: %s", c.address.Short(), ruleOf(err))
	}
	switch a := decoded.(type) {
	case cosmwasm.Failure:
		return nil, fail(spaceWasm, code, "%s: %s", c.address.Short(), a.Text)
	case cosmwasm.Response:
		if why := r.emitAll(f, c.address, &a); why != nil {
			return nil, why
		}
		data := a.Data
		for i := range a.Messages {
			answered, why := r.submessage(f, c.address, &a.Messages[i])
			if why != nil {
				return nil, why
			}
			if answered != nil {
				data = answered
			}
		}
		return data, nil
	}
	panic("contract: an answer outside the sealed sum")
}

// ruleOf is what of a refusal may become known: the rest is for people.
func ruleOf(err error) cosmwasm.Rule { return refusalOf(err).Rule }

func refusalOf(err error) *cosmwasm.Refusal {
	refusal, ok := errors.AsType[*cosmwasm.Refusal](err)
	if !ok {
		panic("contract: an error that is no refusal: " + err.Error())
	}
	return refusal
}

// submessage does a message of a contract on a layer of its own, and tells the contract how
// it ended if it wants to know. It returns the data of its reply, nil if there is none.
func (r *run) submessage(f *frame, from chain.Address, s *cosmwasm.SubMsg) ([]byte, *failure) {
	sub := &frame{layer: state.NewOverlay(f.layer), tank: f.tank, depth: f.depth + 1, queries: f.queries}
	own := s.GasLimit != nil && *s.GasLimit < f.tank.left()
	if own {
		sub.tank = &tank{limit: *s.GasLimit}
	}
	mark, before := r.mark(), f.tank.used
	done, why := r.message(sub, from, s.Msg)
	if own && !f.tank.take(sub.tank.used) {
		panic("contract: a message used more than its limit")
	}
	if why != nil && why.spent != nil && !(own && why.spent == sub.tank) {
		return nil, why // nobody has gas for more
	}
	if why != nil {
		r.back(mark)
		if s.ReplyOn != cosmwasm.ReplyAlways && s.ReplyOn != cosmwasm.ReplyError {
			why.spent = nil // it was the message's own
			return nil, why
		}
		return r.reply(f, from, s, f.tank.used-before, cosmwasm.Failure{Text: why.told()})
	}
	sub.layer.Flush(f.layer)
	if s.ReplyOn != cosmwasm.ReplyAlways && s.ReplyOn != cosmwasm.ReplySuccess {
		return nil, nil
	}
	// It is told again at each level, and paid for before.
	if !f.tank.take(r.env.Prices.Event*uint64(len(r.events)-mark.events) + r.env.Prices.ReadByte*uint64(r.said.Bytes-mark.said.Bytes)) {
		return nil, outOf(f.tank)
	}
	ended := cosmwasm.SubResponse{Events: told(r.events[mark.events:]), Responses: []cosmwasm.MsgResponse{done}}
	if len(done.Value) > 0 {
		ended.Data = done.Value
	}
	return r.reply(f, from, s, f.tank.used-before, ended)
}

// reply tells a contract how its message ended.
func (r *run) reply(f *frame, to chain.Address, s *cosmwasm.SubMsg, used uint64, ended cosmwasm.Ended) ([]byte, *failure) {
	c, why := r.contract(f, to) // it may have other code now
	if why != nil {
		return nil, why
	}
	failed := ""
	if e, ok := ended.(cosmwasm.Failure); ok {
		failed = e.Text
	}
	if why := r.emit(f, chain.ContractReplied{Contract: to, ID: chain.Number(s.ID), Failure: failed}, 0); why != nil {
		return nil, why
	}
	text := cosmwasm.Encode(cosmwasm.Reply{ID: s.ID, Payload: s.Payload, GasUsed: used, Result: ended})
	if !f.tank.take(r.env.Prices.ReadByte * uint64(len(text))) {
		return nil, outOf(f.tank)
	}
	// What it answers to follows from what it is told, as the messages of who is called do from the call.
	led := &frame{layer: f.layer, tank: f.tank, depth: f.depth + 1, queries: f.queries}
	answer, why := r.call(led, c, meter.Reply, wasmExecute, text)
	if why != nil {
		return nil, why
	}
	return r.respond(led, c, wasmExecute, answer)
}
