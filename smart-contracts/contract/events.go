package contract

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// emit makes an event known, which has so many bytes of a contract's choice.
func (r *run) emit(f *frame, e chain.Event, bytes int) *failure {
	if !f.tank.take(r.env.Prices.Event + r.env.Prices.EventByte*uint64(bytes)) {
		return outOf(f.tank)
	}
	if why := r.say(1, bytes); why != nil {
		return why
	}
	r.events = append(r.events, e)
	return nil
}

// Said is what the contracts of a transaction have made known.
type Said struct{ Events, Bytes int }

// say counts what becomes known: what is beyond the bounds is not said, so that every receipt can be read.
func (r *run) say(events, bytes int) *failure {
	r.said.Events, r.said.Bytes = r.said.Events+events, r.said.Bytes+bytes
	switch {
	case r.said.Events > MaxTxEvents:
		return fail(spaceOurs, oursSaid, "more than %d events of a transaction's contracts", MaxTxEvents)
	case r.said.Bytes > MaxTxEventBytes:
		return fail(spaceOurs, oursSaid, "more than %d bytes in the events of a transaction's contracts", MaxTxEventBytes)
	}
	return nil
}

// The words that CosmWasm's chains have for what contracts say.
const (
	eventWasm    = "wasm"
	attrContract = "_contract_address"
)

// emitAll makes known what a contract says: its attributes first.
func (r *run) emitAll(f *frame, c chain.Address, a *cosmwasm.Response) *failure {
	if len(a.Attributes) > 0 {
		if why := r.emitted(f, c, eventWasm, a.Attributes); why != nil {
			return why
		}
	}
	for i := range a.Events {
		if why := r.emitted(f, c, eventWasm+"-"+a.Events[i].Type, a.Events[i].Attributes); why != nil {
			return why
		}
	}
	return nil
}

func (r *run) emitted(f *frame, c chain.Address, kind string, attributes []cosmwasm.Attribute) *failure {
	out := chain.ContractEmitted{Contract: c, Type: kind, Attributes: make([]chain.ContractAttribute, len(attributes))}
	bytes := len(kind)
	for i, a := range attributes {
		out.Attributes[i] = chain.ContractAttribute{Key: a.Key, Value: a.Value}
		bytes += 4 + len(a.Key) + len(a.Value)
	}
	return r.emit(f, out, bytes)
}

// answered adds the data that a call came to to its event, which stands at a place.
func (r *run) answered(f *frame, at int, data []byte) *failure {
	if !f.tank.take(r.env.Prices.EventByte * uint64(len(data))) {
		return outOf(f.tank)
	}
	if why := r.say(0, len(data)); why != nil {
		return why
	}
	if e, ok := r.events[at].(chain.ContractExecuted); ok {
		e.Data = data
		r.events[at] = e
	} else if e, ok := r.events[at].(chain.ContractInstantiated); ok {
		e.Data = data
		r.events[at] = e
	} else if e, ok := r.events[at].(chain.ContractMigrated); ok {
		e.Data = data
		r.events[at] = e
	} else {
		panic("contract: a call without its event")
	}
	return nil
}

// told is what contracts are told of events. What only this chain has is told by name.
func told(events chain.Events) []cosmwasm.Event {
	out := make([]cosmwasm.Event, 0, len(events))
	for _, e := range events {
		if e, known := toldAs(e); known {
			out = append(out, e)
		}
	}
	return out
}

func toldAs(event any) (cosmwasm.Event, bool) {
	say := func(kind string, words ...string) (cosmwasm.Event, bool) {
		e := cosmwasm.Event{Type: kind}
		for i := 0; i < len(words); i += 2 {
			e.Attributes = append(e.Attributes, cosmwasm.Attribute{Key: words[i], Value: words[i+1]})
		}
		return e, true
	}
	switch e := event.(type) {
	case chain.ContractStored: // nothing that a contract did
		return cosmwasm.Event{}, false
	case chain.Transferred:
		return say("transfer", "recipient", e.To.String(), "sender", e.From.String(), "amount", coinText(e.Amount))
	case chain.ContractBurned:
		return say("burn", "burner", e.Contract.String(), "amount", coinText(e.Amount))
	case chain.ContractInstantiated:
		return say("instantiate", attrContract, e.Contract.String(), "code_id", fmt.Sprint(uint64(e.Code)))
	case chain.ContractExecuted:
		return say("execute", attrContract, e.Contract.String())
	case chain.ContractMigrated:
		return say("migrate", attrContract, e.Contract.String(), "code_id", fmt.Sprint(uint64(e.Code)))
	case chain.ContractAdminSet:
		admin := ""
		if e.Admin != nil {
			admin = e.Admin.String()
		}
		return say("update_contract_admin", attrContract, e.Contract.String(), "new_admin_address", admin)
	case chain.ContractReplied:
		return say("reply", attrContract, e.Contract.String())
	case chain.ContractEmitted:
		out, _ := say(e.Type, attrContract, e.Contract.String())
		for _, a := range e.Attributes {
			out.Attributes = append(out.Attributes, cosmwasm.Attribute{Key: a.Key, Value: a.Value})
		}
		return out, true
	}
	return say(chain.EventName(event.(chain.Event)))
}

func coinText(a chain.Amount) string { return fmt.Sprint(a.Nano()) + Denom }

// field is a field of a message of protocol buffers, as CosmWasm's chains answer with
// them: nothing if it is empty.
func field(number byte, value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	out := []byte{number<<3 | 2}
	n := uint64(len(value))
	for ; n >= 1<<7; n >>= 7 {
		out = append(out, byte(n)|1<<7)
	}
	return append(append(out, byte(n)), value...)
}
