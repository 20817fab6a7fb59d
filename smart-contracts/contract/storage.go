package contract

import (
	"bytes"
	"errors"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// reach is what a contract reaches while it runs.
type reach struct {
	*run
	*frame
	contract *called
	change   change
}

// change is what a call did to its contract's storage.
type change struct {
	grown   int64  // bytes of room, less those that became free
	removed uint64 // keys
}

var _ Reach = (*reach)(nil)

// points asks for gas.
func (h *reach) points(gas uint64) uint64 {
	return gas * h.env.Prices.Points
}

// ended is why the call goes on no more, nil if it does.
func (h *reach) ended() error {
	if h.env.Ended == nil {
		return nil
	}
	return h.env.Ended()
}

func (h *reach) place(own []byte) []byte { return StorageKey(h.contract.address, own) }

// takes is the room of an entry.
func takes(own, value []byte) int64 { return int64(entryBytes + len(own) + len(value)) }

func (h *reach) Read(own []byte) ([]byte, uint64, error) {
	if err := h.ended(); err != nil {
		return nil, 0, err
	}
	p := &h.env.Prices
	if len(own) > MaxKeyBytes {
		return nil, h.points(p.Read), nil
	}
	value, _ := h.layer.Get(h.place(own))
	return value, h.points(p.Read + p.ReadByte*uint64(len(value))), nil
}

func (h *reach) Write(own, value []byte) (uint64, error) {
	if len(own) > MaxKeyBytes {
		return 0, &Misuse{"a key that is too long"}
	}
	p, at := &h.env.Prices, h.place(own)
	gas := p.Read + p.Write + p.WriteByte*uint64(len(at)+len(value))
	if old, there := h.layer.Get(at); there {
		h.change.grown -= takes(own, old)
	} else {
		gas += p.Insert
	}
	h.change.grown += takes(own, value)
	h.layer.Set(at, value)
	return h.points(gas), nil
}

func (h *reach) Remove(own []byte) (uint64, error) {
	p := &h.env.Prices
	if len(own) > MaxKeyBytes {
		return h.points(p.Read), nil
	}
	at := h.place(own)
	old, there := h.layer.Get(at)
	if !there {
		return h.points(p.Read), nil
	}
	h.change.grown -= takes(own, old)
	h.change.removed++
	if h.removed == nil {
		h.removed = map[chain.Address]uint64{}
	}
	h.removed[h.contract.address]++
	h.layer.Delete(at)
	return h.points(p.Read + p.Write + p.Insert + p.Passed), nil // the store is going to pass it
}

// passed is how many removed keys a walk is held to pass. Where they still are is a node's own: in a layer, a
// block that waits, or the store. So all that the contract removed lately count.
func (h *reach) passed() uint64 {
	return h.contract.removedAt(h.env.Height) + h.removed[h.contract.address]
}

func (h *reach) Scan(start, end []byte, order Order, limit uint64) (Iterator, uint64, error) {
	if err := h.ended(); err != nil {
		return nil, 0, err
	}
	p := &h.env.Prices
	from, to := h.place(start), h.place(end)
	if end == nil {
		to = after(h.place(nil))
	}
	if bytes.Compare(from, to) >= 0 {
		return &backward{reach: h}, h.points(p.Read), nil
	}
	passed := h.passed()
	w, gas := &backward{reach: h}, p.Read+p.Passed*passed
	if order == Ascending {
		return &forward{reach: h, from: from, to: to, passed: passed}, h.points(gas), nil
	}
	most := limit / p.Points
	if gas > most {
		return w, h.points(gas), nil
	}
	for at, value := range h.layer.Iterate(from, to) {
		// What the call cannot pay for is not looked at: it ends here.
		if gas += p.pair(at, value); gas > most {
			break
		}
		w.keys = append(w.keys, at)
	}
	return w, h.points(gas), nil
}

// after is the first key behind all that begin with a prefix.
func after(prefix []byte) []byte {
	out := slices.Clone(prefix)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	panic("contract: a prefix that nothing comes after")
}

// pair is what a walk pays for a pair.
func (p *Prices) pair(at, value []byte) uint64 {
	return p.Read + p.Step + p.ReadByte*uint64(len(at)+len(value))
}

// forward walks over what there is behind the last key: what is written meanwhile is met. It
// keeps nothing open between its steps, which a machine may take on any of its threads.
type forward struct {
	*reach
	from, to []byte
	passed   uint64 // removed keys that are paid for
	over     bool
}

func (w *forward) Next() ([]byte, []byte, uint64, error) {
	if err := w.ended(); err != nil {
		return nil, nil, 0, err
	}
	if w.over { // else the end would be looked for again and again
		return nil, nil, w.points(w.env.Prices.Read), nil
	}
	more := w.reach.passed() - w.passed // the walk itself goes forward, and passes each once
	w.passed += more
	for at, value := range w.layer.Iterate(w.from, w.to) {
		w.from = append(slices.Clone(at), 0) // the first key behind it
		return at[storageKeyBytes:], value, w.points(w.env.Prices.pair(at, value) + w.env.Prices.Passed*more), nil
	}
	w.over = true
	return nil, nil, w.points(w.env.Prices.Read + w.env.Prices.Passed*more), nil
}

func (w *forward) Close() {}

// backward walks over the keys that there were when the walk began, with what is under
// them now; those that are gone are passed over.
type backward struct {
	*reach
	keys [][]byte // the next last
}

func (w *backward) Next() ([]byte, []byte, uint64, error) {
	if err := w.ended(); err != nil {
		return nil, nil, 0, err
	}
	for len(w.keys) > 0 {
		at := w.keys[len(w.keys)-1]
		w.keys = w.keys[:len(w.keys)-1]
		if value, there := w.layer.Get(at); there {
			p := &w.env.Prices
			return at[storageKeyBytes:], value, w.points(p.Read + p.ReadByte*uint64(len(at)+len(value))), nil
		}
	}
	return nil, nil, w.points(w.env.Prices.Read), nil
}

func (w *backward) Close() {}

// Canonical and Human take what addressIn takes, but for capitals: the zero address is none, since no
// message may name it, and what a contract has promised to it would be nobody's for ever.
func (h *reach) Canonical(text string) ([]byte, bool) {
	a, err := chain.ParseAddress(text)
	return a[:], err == nil && !a.IsZero()
}

func (h *reach) Human(canonical []byte) (string, bool) {
	if len(canonical) != len(chain.Address{}) || chain.Address(canonical).IsZero() {
		return "", false
	}
	return chain.Address(canonical).String(), true
}

// room is what was paid for room, and what came back.
type room struct{ paid, refunded chain.Amount }

// settle has the payer pay for the room that a call has taken, or gives him what became
// free of what was paid: its part of the pool, rounded down.
func (r *run) settle(f *frame, c *called, did change) *failure {
	if did == (change{}) {
		return nil
	}
	if did.removed > 0 {
		c.remove(r.env.Height, did.removed)
		r.removed[c.address] -= did.removed
	}
	if did.grown == 0 {
		r.save(f, c)
		if !f.tank.take(r.env.Prices.Write + recordBytes*r.env.Prices.WriteByte) {
			return outOf(f.tank)
		}
		return nil
	}
	grown := did.grown
	event := chain.ContractStored{Contract: c.address, Payer: r.env.Payer}
	if grown > 0 {
		cost, ok := chain.Nano(NanoPerByte).ShareFloor(uint64(grown), 1)
		if !ok {
			panic("contract: a call took more room than there is gas for")
		}
		r.room.paid = sum(r.room.paid, cost)
		if net, more := r.room.paid.Sub(r.room.refunded); more && r.most.Less(net) { // what is agreed to may be any amount: nothing is added to it
			return fail(spaceOurs, oursDeposit, "%d bytes of room: %s has agreed to %s, and with these it would be %s and %s comes back",
				grown, r.env.Payer.Short(), r.most, r.room.paid, r.room.refunded)
		}
		if why := tokens.Debit(f.layer, r.env.Payer, cost, r.env.Now); why != nil {
			return fail(spaceSDK, sdkFunds, "%d bytes of room: %s", grown, why.Reason())
		}
		event.Paid = cost
		c.Pool, c.Bytes = sum(c.Pool, cost), c.Bytes+uint64(grown)
	} else {
		freed := uint64(-grown)
		if freed > c.Bytes {
			panic("contract: more room became free than was taken")
		}
		refund, _ := c.Pool.ShareFloor(freed, c.Bytes)
		tokens.Credit(f.layer, r.env.Payer, refund)
		event.Refunded = refund
		r.room.refunded = sum(r.room.refunded, refund)
		c.Pool, _ = c.Pool.Sub(refund) // a part of it
		c.Bytes -= freed
	}
	event.Bytes, event.Pool = chain.Number(c.Bytes), c.Pool
	r.save(f, c)
	if !f.tank.take(2*r.env.Prices.Write + recordBytes*r.env.Prices.WriteByte) {
		return outOf(f.tank)
	}
	return r.emit(f, event, 0)
}

// sum adds what cannot overflow, since the whole supply fits an amount.
func sum(a, b chain.Amount) chain.Amount {
	total, ok := a.Add(b)
	if !ok {
		panic(&state.Fault{Op: "adding to a pool", Err: errors.New("the sum exceeds every supply")})
	}
	return total
}
