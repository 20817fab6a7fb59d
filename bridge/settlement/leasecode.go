package settlement

import (
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// The records of leases and of escrows are read so often when leases end, by what ends
// them and by the check of supply, that the general decoder's price shows: these are read by
// hand. What does not read so goes to the general decoder, and a test holds the two equal.

func decodeLease(key, value []byte) Lease {
	if l, ok := readLease(value); ok {
		return l
	}
	return state.Decode[Lease](key, value)
}

func readLease(value []byte) (l Lease, ok bool) {
	r := codec.NewReader(value)
	fits := true
	r.Array(19)
	r.Fixed(l.Consumer[:])
	r.Fixed(l.Cluster[:])
	r.Fixed(l.Provider[:])
	r.Fixed(l.Operator[:])
	fee := r.Uint()
	priority := r.Uint()
	l.FeeBps, l.PriorityBps = uint16(fee), chain.PriorityFee(priority)
	r.Fixed(l.Order[:])
	r.Fixed(l.Spec[:])
	l.Resources = make([]chain.Quantity, r.Length(len(chain.Resources)))
	for i := range l.Resources {
		l.Resources[i].Resource, l.Resources[i].Amount = readPair(r, &fits)
	}
	l.Prices = make([]chain.UnitPrice, r.Length(len(chain.Resources)))
	for i := range l.Prices {
		l.Prices[i].Resource, l.Prices[i].Price = readPair(r, &fits)
	}
	l.NoticeMs, l.Rate = r.Uint(), r.Uint()
	l.Since = chain.TimeMs(r.Uint())
	l.Charged = chain.Nano(r.Uint())
	l.Until = chain.TimeMs(r.Uint())
	l.Held = chain.Nano(r.Uint())
	l.Expires = chain.TimeMs(r.Uint())
	l.Closing, l.Promised = r.Bool(), r.Bool()
	return l, r.Done() && fits && fee <= wholeBps && priority <= math.MaxUint16
}

func readPair(r *codec.Reader, fits *bool) (chain.Resource, uint64) {
	r.Array(2)
	resource := r.Uint()
	*fits = *fits && resource <= 255
	return chain.Resource(resource), r.Uint()
}

func decodeEscrow(key, value []byte) Escrow {
	if e, ok := readEscrow(value); ok {
		return e
	}
	return state.Decode[Escrow](key, value)
}

func readEscrow(value []byte) (e Escrow, ok bool) {
	r := codec.NewReader(value)
	r.Array(5)
	e.Balance = chain.Nano(r.Uint())
	e.Withdrawals = make([]chain.TimeMs, r.Length(MaxWithdrawals))
	for i := range e.Withdrawals {
		e.Withdrawals[i] = chain.TimeMs(r.Uint())
	}
	readRecord(r, &e.Record)
	r.Array(3)
	e.Highs.Period = r.Uint()
	e.Highs.Now = chain.Nano(r.Uint())
	e.Highs.Before = chain.Nano(r.Uint())
	e.Elsewhere = chain.Nano(r.Uint())
	return e, r.Done()
}

func readRecord(r *codec.Reader, to *match.Record) {
	r.Array(8)
	for _, field := range []*uint64{&to.Period, &to.Completed, &to.Failed, &to.Late, &to.Disputed, &to.Slashed, &to.Credit, &to.Debt} {
		*field = r.Uint()
	}
}

// loaded is state.Load with a decoder of its own.
func loaded[T any](r state.Reader, key []byte, decode func(key, value []byte) T) (record T, ok bool) {
	value, ok := r.Get(key)
	if !ok {
		return record, false
	}
	return decode(key, value), true
}
