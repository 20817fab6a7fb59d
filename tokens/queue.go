package tokens

import (
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Maturing is an amount on its way to a balance.
type Maturing struct {
	_      struct{} `cbor:",toarray"`
	To     chain.Address
	Amount chain.Amount
}

// MaturingKey returns the key of what an origin has maturing at a time. An
// origin is the key of the record that the amount came from, so that amounts of
// different origins never mix.
func MaturingKey(at chain.TimeMs, origin []byte) []byte {
	key := make([]byte, 0, 10+len(origin))
	key = append(key, Prefix, kindQueue)
	key = binary.BigEndian.AppendUint64(key, uint64(at))
	return append(key, origin...)
}

// Mature queues an amount, which the caller took from somewhere, for an
// account. Equal times and origins add up, so an origin tells accounts apart: it
// panics with *state.Fault if the origin's amount is queued for another account.
func Mature(kv state.KV, at chain.TimeMs, origin []byte, m Maturing) {
	if m.Amount.IsZero() {
		return
	}
	key := MaturingKey(at, origin)
	if queued, ok := state.Load[Maturing](kv, key); ok {
		if queued.To != m.To {
			panic(&state.Fault{Op: "queueing", Err: fmt.Errorf("an amount of %s would go to %s", queued.To, m.To)})
		}
		m.Amount = mustAdd(m.Amount, queued.Amount, "queueing")
	}
	state.Save(kv, key, m)
}

// MaturingOf returns how much of an origin is queued for a time.
func MaturingOf(r state.Reader, at chain.TimeMs, origin []byte) chain.Amount {
	queued, _ := state.Load[Maturing](r, MaturingKey(at, origin)) // none: zero
	return queued.Amount
}

// TakeMaturing takes up to an amount back out of the queue and returns how much
// that was. What becomes of it is the caller's duty.
func TakeMaturing(kv state.KV, at chain.TimeMs, origin []byte, amount chain.Amount) chain.Amount {
	key := MaturingKey(at, origin)
	queued, ok := state.Load[Maturing](kv, key)
	if !ok {
		return chain.Amount{}
	}
	rest, more := queued.Amount.Sub(amount)
	if !more || rest.IsZero() {
		kv.Delete(key)
		return queued.Amount
	}
	queued.Amount = rest
	state.Save(kv, key, queued)
	return amount
}

// ReleaseMatured moves what has matured at a block time into balances, at most
// limit entries of the queue.
func ReleaseMatured(kv state.KV, now chain.TimeMs, limit int) chain.Events {
	type due struct {
		key   []byte
		entry Maturing
	}
	var list []due
	end := MaturingKey(now+1, nil)
	for key, value := range kv.Iterate(MaturingKey(0, nil), end) {
		if len(list) == limit {
			break
		}
		list = append(list, due{key: key, entry: state.Decode[Maturing](key, value)})
	}
	var events chain.Events
	for _, d := range list {
		kv.Delete(d.key)
		Credit(kv, d.entry.To, d.entry.Amount)
		events = append(events, chain.Matured{To: d.entry.To, Amount: d.entry.Amount})
	}
	return events
}
