package contract

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Pinned is how much native code is pinned.
type Pinned struct {
	_     struct{} `cbor:",toarray"`
	From  uint64   // the period in which code was pinned last
	Bytes []uint64 // in that period, and in each behind it; chain.MaxPinPeriods at most
}

// since is what there is of it from a period on: what was before nobody asks for any more.
func (p Pinned) since(period uint64) Pinned {
	if period < p.From {
		panic("contract: pins of a period to come")
	}
	return Pinned{From: period, Bytes: p.Bytes[min(period-p.From, uint64(len(p.Bytes))):]}
}

// add adds code of so many bytes from one period to another, exclusive. If there is no room in one of them,
// that is the one it returns, with what there would be.
func (p *Pinned) add(native, begin, end uint64) (full, bytes uint64, ok bool) {
	sums := make([]uint64, max(uint64(len(p.Bytes)), end-p.From))
	copy(sums, p.Bytes)
	for period := begin; period < end; period++ {
		if sums[period-p.From] += native; sums[period-p.From] > PinnedBytes {
			return period, sums[period-p.From], false
		}
	}
	p.Bytes = sums
	return 0, 0, true
}

// PinPeriod is the period of pins that a time is in.
func PinPeriod(t chain.TimeMs) uint64 { return uint64(t) / PinPeriodMs }

// PinsBegin is when a period of pins begins.
func PinsBegin(period uint64) chain.TimeMs { return chain.TimeMs(period * PinPeriodMs) }

// PinCost is what is burned for pinning so much native code, for so many periods: PinnedBytes and
// chain.MaxPinPeriods at most.
func PinCost(native, periods uint64) chain.Amount {
	if native > PinnedBytes || periods > chain.MaxPinPeriods {
		panic("contract: a pin that there cannot be")
	}
	return chain.Nano(NanoPerPinnedKiB * ((native + 1023) / 1024) * periods)
}

// paid reports whether code is pinned at a time. A pin begins with the period of its block, or where the one
// before ends: so there are no gaps.
func (l Loaded) paid(now chain.TimeMs) bool { return PinPeriod(now) < l.PinnedTo }

// pinned reports whether calls go by that: not before nodes have the code in memory, of which they know when
// the block of the pin is final.
func (l Loaded) pinned(env *Env) bool { return l.paid(env.Now) && env.Height >= l.PinnedFrom }

// pin has every node keep code in memory for some periods more.
func (r *run) pin(f *frame, from chain.Address, m *chain.PinCode) *failure {
	p := &r.env.Prices
	// The code's record, Loads, Loaded, Pinned, the account and the supply are read, and the last four of them written.
	const pinnedBytes = 16 + 9*chain.MaxPinPeriods
	if !f.tank.take(6*p.Read + 4*p.Write + p.Insert + pinnedBytes*(p.ReadByte+p.WriteByte)) {
		return outOf(f.tank)
	}
	code, why := r.code(f, m.Code)
	if why != nil {
		return why
	}
	last, kept := loaded(f.layer, code.Checksum)
	now := PinPeriod(r.env.Now)
	begin := max(last.PinnedTo, now)
	if m.Periods == 0 || m.Periods > chain.MaxPinPeriods-min(begin-now, chain.MaxPinPeriods) {
		return fail(spaceOurs, oursPinPeriods, "code %d pinned for %d periods behind %d, want 1 to %d in all", m.Code, m.Periods, begin-now, chain.MaxPinPeriods)
	}
	end := begin + m.Periods
	pins, _ := state.Load[Pinned](f.layer, PinnedKey()) // none: zero
	pins = pins.since(now)
	if period, bytes, ok := pins.add(last.Native, begin, end); !ok {
		return fail(spaceOurs, oursPinsFull, "with code %d %d bytes would be pinned %d periods from now, limit %d", m.Code, bytes, period-now, PinnedBytes)
	}
	cost := PinCost(last.Native, m.Periods)
	if m.MaxBurn.Less(cost) {
		return fail(spaceOurs, oursPinCost, "to pin code %d for %d periods costs %s, the most that may be burned is %s", m.Code, m.Periods, cost, m.MaxBurn)
	}
	if why := tokens.Debit(f.layer, from, cost, r.env.Now); why != nil {
		return fail(spaceSDK, sdkFunds, "pinning code %d: %s", m.Code, why.Reason())
	}
	tokens.Burn(f.layer, cost)
	if !kept && !last.paid(r.env.Now) && !f.tank.take(p.load(last.Native)) { // every node reads it
		return outOf(f.tank)
	}
	state.Save(f.layer, PinnedKey(), pins)
	if !last.paid(r.env.Now) {
		last.PinnedFrom = r.env.Height + PinnedAfter
	}
	last.PinnedTo = end
	state.Save(f.layer, LoadedKey(code.Checksum), last)
	return r.emit(f, chain.CodePinned{
		Code: chain.Number(m.Code), Checksum: code.Checksum, Sender: from, Native: chain.Number(last.Native), Until: PinsBegin(end), Burned: cost,
	}, 0)
}

// InMemory is what a node is to have of code in memory.
type InMemory struct {
	Native   uint64 // bytes of native code that it is held to be
	Kept     bool   // it counts as kept of what ran last
	PinnedTo uint64 // the first period in which it is pinned no more; past ones too, and 0: it never was
}

// InMemory returns what a node is to have of code in memory.
func (c *Code) InMemory(r state.Reader) InMemory {
	last, kept := loaded(r, c.Checksum)
	return InMemory{Native: last.Native, Kept: kept, PinnedTo: last.PinnedTo}
}

// Pins counts what the records of a whole state say is pinned.
type Pins struct {
	sums Pinned
	ends map[uint64]uint64 // bytes, by the period in which they are pinned no more
}

// PinsOfState returns Pins that have counted nothing.
func PinsOfState() *Pins { return &Pins{ends: map[uint64]uint64{}} }

// Add counts a record under a key of this package.
func (p *Pins) Add(k, value []byte) {
	switch k[1] {
	case kindPinned:
		p.sums = state.Decode[Pinned](k, value)
	case kindLoaded:
		if l := state.Decode[Loaded](k, value); l.PinnedTo > 0 {
			p.ends[l.PinnedTo] += l.Native
		}
	}
}

// Differs says what is wrong if the sums of some period, from that of the last pin on, are not those of the codes, or
// if there are more than nodes keep.
func (p *Pins) Differs() error {
	if n := len(p.sums.Bytes); n > chain.MaxPinPeriods {
		return fmt.Errorf("sums of pins for %d periods, limit %d", n, chain.MaxPinPeriods)
	}
	for i := range uint64(chain.MaxPinPeriods) + 1 {
		period, have, want := p.sums.From+i, uint64(0), uint64(0)
		if i < uint64(len(p.sums.Bytes)) {
			have = p.sums.Bytes[i]
		}
		for end, bytes := range p.ends { // order-free: a sum
			if period < end {
				want += bytes
			}
		}
		if have != want || have > PinnedBytes {
			return fmt.Errorf("%d bytes are said to be pinned in period %d, of codes that have %d, limit %d", have, period, want, PinnedBytes)
		}
	}
	return nil
}
