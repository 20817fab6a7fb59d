package contract

import (
	"cmp"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Loads is how many bytes of native code transactions have had loaded: of code that was stored, and of
// code that was called while it did not count as kept.
type Loads struct {
	_     struct{} `cbor:",toarray"`
	Bytes uint64
}

// Loaded is where Loads stood when code had been loaded last, and how many bytes of native code it
// is held to be; when, of Env.ProgressMs, it is compiled; to which period it is pinned, exclusive, 0 if it never was, and from
// which block on calls go by that.
type Loaded struct {
	_          struct{} `cbor:",toarray"`
	At         uint64
	Native     uint64
	Ready      uint64
	PinnedTo   uint64
	PinnedFrom chain.Height
}

// kept reports whether code counts as kept: with all that was loaded since it comes to keptBytes at
// most. A call moves nothing unless it loads, so only who pays for as many bytes makes as many of others'
// count as gone.
func (l Loaded) kept(now Loads) bool { return now.Bytes-l.At+l.Native <= keptBytes }

// loaded returns when code was loaded last, and whether it counts as kept.
func loaded(r state.Reader, checksum crypto.Digest) (last Loaded, kept bool) {
	now, _ := state.Load[Loads](r, LoadsKey()) // none: zero
	last, ok := state.Load[Loaded](r, LoadedKey(checksum))
	if !ok || last.At > now.Bytes || last.Native > last.At {
		panic("contract: code of which nobody knows when it was loaded")
	}
	return last, last.kept(now)
}

// paidLoad pays for having code read from disk, if it does not count as kept, and notes that
// it is loaded. It reports whether there was enough gas, and whether nobody pays for a load: then nothing may go
// from memory for it.
//
// Code that counts as kept was run last, or loaded, since at most keptBytes were loaded. What ran
// since counted as kept itself, so it was loaded within keptBytes before: all that is twice keptBytes, and
// a node that keeps as much of what it ran last has it. What transactions that failed have loaded
// is not noted, and was paid for each time. Code that is called because it is pinned is kept beside: to run it
// moves nothing of that.
func (r *run) paidLoad(f *frame, code *Code) (unpaid, ok bool) {
	if r.env.Tx == nil { // who asks from outside has no fee, but a second, and so many bytes
		return true, r.freeLoad(f, code)
	}
	p := &r.env.Prices
	if !f.tank.take(2 * p.Read) {
		return false, false
	}
	last, kept := loaded(f.layer, code.Checksum)
	switch {
	case kept:
		return false, true
	case last.pinned(r.env):
		return true, true
	case !f.tank.take(p.load(last.Native) + 2*p.Write):
		return false, false
	}
	noteLoad(f, code.Checksum, last)
	return false, true
}

// load is what loading so many bytes of native code costs.
func (p *Prices) load(native uint64) uint64 { return p.LoadKiB * ((native + 1023) / 1024) }

// noteLoad notes that code is loaded: it was called, or has just been stored, which is to be compiled
// and kept.
func noteLoad(f *frame, checksum crypto.Digest, l Loaded) {
	now, _ := state.Load[Loads](f.layer, LoadsKey()) // none: zero
	now.Bytes += l.Native
	state.Save(f.layer, LoadsKey(), now)
	l.At = now.Bytes
	state.Save(f.layer, LoadedKey(checksum), l)
}

// ByLoad returns the numbers of all code, that first which was not loaded for longest: who
// reads it in this order has in the end what calls do not pay for.
func ByLoad(r state.Reader) []uint64 {
	codes := make([]uint64, NumbersOf(r).Codes)
	at := make(map[uint64]uint64, len(codes))
	for i := range codes {
		id := uint64(i) + 1
		code, _ := CodeOf(r, id)
		last, _ := loaded(r, code.Checksum)
		codes[i], at[id] = id, last.At
	}
	slices.SortFunc(codes, func(a, b uint64) int { return cmp.Or(cmp.Compare(at[a], at[b]), cmp.Compare(a, b)) })
	return codes
}
