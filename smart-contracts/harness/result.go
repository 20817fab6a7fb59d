package harness

import (
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// Result is what a transaction came to.
type Result struct {
	Height   uint64
	ID       Digest
	Gas      uint64 // used
	Fee      uint64 // for it, in nHYPER; what room took is in the events
	Events   chain.Events
	Calls    []Call  // of contracts, in the order in which they began
	Contract Address // that was made or called, the first if there are several
	Code     uint64  // that was stored
	Data     []byte  // that the contract answered, with what replies had to say
	Refused  *Refused
}

// Call is one call of a contract's code.
type Call struct {
	Contract Address
	Entry    string // "instantiate", "execute", "migrate", "reply", "query"
	Waiting  int    // how many calls wait for it: queries have some
	Msg      []byte // JSON; what a reply is told
	Gas      uint64 // that the code used, with what it asked for
	Ended    string // "returned", "aborted", …
	Answer   []byte // JSON, if it returned
	Why      string // it did not take effect, in the contract's or the machine's words

	tx int // of the block
}

// Response reads what a call answered that was no query.
func (c *Call) Response() (cosmwasm.Response, error) {
	answer, err := cosmwasm.DecodeAnswer(c.Answer)
	if err != nil {
		return cosmwasm.Response{}, err
	}
	switch a := answer.(type) {
	case cosmwasm.Response:
		return a, nil
	case cosmwasm.Failure:
		return cosmwasm.Response{}, &Refused{Text: a.Text, Words: a.Text, Contract: c.Contract}
	}
	panic("harness: an answer outside the sealed sum")
}

// Refused is what did not take effect, and why. Nothing of it is left but the fee.
type Refused struct {
	Text     string  // what the receipt says: codespace, code and words
	Words    string  // of the contract that refused; Text if none did, or its words did not fit a receipt
	Contract Address // that refused; zero if Words are Text
	Gas      uint64  // used
	Calls    []Call  // up to there
}

func (r *Refused) Error() string { return r.Text }

// resultOf is what transaction i of a block came to.
func resultOf(header *chain.Header, receipt *chain.Receipt, calls []Call, i int) *Result {
	r := &Result{
		Height: uint64(header.Height), ID: receipt.TxID, Gas: receipt.GasUsed.Units(), Fee: receipt.Burned.Nano() + receipt.Tip.Nano(), Events: receipt.Events,
	}
	for _, c := range calls {
		if c.tx == i {
			r.Calls = append(r.Calls, c)
		}
	}
	if !receipt.Accepted() {
		r.Refused = refusedOf(receipt.Rejection, r.Gas, r.Calls)
		return r
	}
	for _, event := range receipt.Events {
		at, data, ok := calledBy(event)
		if stored, is := event.(chain.CodeStored); is {
			r.Code = uint64(stored.Code)
		} else if ok && r.Contract.IsZero() {
			r.Contract, r.Data = at, data
		}
	}
	return r
}

// calledBy says which contract an event is the call of, and what that answered.
func calledBy(event any) (at Address, data []byte, ok bool) {
	switch e := event.(type) {
	case chain.ContractInstantiated:
		return e.Contract, e.Data, true
	case chain.ContractExecuted:
		return e.Contract, e.Data, true
	case chain.ContractMigrated:
		return e.Contract, e.Data, true
	}
	return at, nil, false
}

// refusedOf is a refusal, whose words are those of the last call that the receipt tells of.
func refusedOf(text string, gas uint64, calls []Call) *Refused {
	r := &Refused{Text: text, Words: text, Gas: gas, Calls: calls}
	for _, c := range calls {
		if c.Why != "" && strings.HasSuffix(text, c.Contract.Short()+": "+c.Why) {
			r.Words, r.Contract = c.Why, c.Contract
		}
	}
	return r
}

// Attributes returns what a contract said in its event "wasm", all of them in their order.
func (r *Result) Attributes(of Address) []cosmwasm.Attribute { return r.Said(of, "wasm") }

// Said returns what a contract said in its events of a type, which begins with "wasm".
func (r *Result) Said(of Address, kind string) (out []cosmwasm.Attribute) {
	for _, event := range r.Events {
		if e, ok := event.(chain.ContractEmitted); ok && e.Contract == of && e.Type == kind {
			for _, a := range e.Attributes {
				out = append(out, cosmwasm.Attribute{Key: a.Key, Value: a.Value})
			}
		}
	}
	return out
}

// Attribute returns the first of a contract's attributes that has a key, and "" if none has it.
func (r *Result) Attribute(of Address, key string) string {
	for _, a := range r.Attributes(of) {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// Room returns what the transaction paid for room, and what it got back, in nHYPER.
func (r *Result) Room() (paid, refunded uint64) {
	for _, event := range r.Events {
		if e, ok := event.(chain.ContractStored); ok {
			paid, refunded = paid+e.Paid.Nano(), refunded+e.Refunded.Nano()
		}
	}
	return paid, refunded
}

// gasOf is the gas that points are.
func gasOf(points uint64) uint64 {
	perGas := contract.PricesV1().Points
	return points/perGas + min(points%perGas, 1)
}
