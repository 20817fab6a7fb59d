package contract

import (
	"cmp"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Calls is how many bytes of native code transactions have called. Code that was called so lately
// that no more than an eighth of keptBytes has come since is not counted again.
type Calls struct {
	_     struct{} `cbor:",toarray"`
	Bytes uint64
}

// Called is where Calls stood when code was called last, or stored, and how many bytes of native
// code it is held to be.
type Called struct {
	_      struct{} `cbor:",toarray"`
	At     uint64
	Native uint64
}

// paidLoad pays for having code read from disk, if a node may have to, and notes that it is
// called. It reports whether there was enough gas.
//
// A node keeps what it has run last. Between two calls of a code it has run no other code than
// what Calls has counted since the first, what was called within an eighth of keptBytes before it,
// and what transactions that failed have called: those have paid for what was not kept, each
// time. So who calls what counts as kept makes a node read at most as much as others have paid for.
func (r *run) paidLoad(f *frame, code *Code) bool {
	if r.env.Tx == nil { // who asks from outside has no fee, but a second
		return true
	}
	p := &r.env.Prices
	if !f.tank.take(2 * p.Read) {
		return false
	}
	calls, _ := state.Load[Calls](f.layer, CallsKey()) // none: zero
	called, ok := state.Load[Called](f.layer, CalledKey(code.Checksum))
	if !ok || called.At > calls.Bytes {
		panic("contract: code of which nobody knows when it was called")
	}
	since := calls.Bytes - called.At
	if since <= keptBytes/8 {
		return true
	}
	gas := 2 * p.Write
	if since > keptBytes {
		gas += p.LoadKiB * ((called.Native + 1023) / 1024)
	}
	if !f.tank.take(gas) {
		return false
	}
	noteCall(f, code.Checksum, called.Native)
	return true
}

// noteCall notes that code is called, or has just been stored, which is to be compiled and kept.
func noteCall(f *frame, checksum crypto.Digest, native uint64) {
	calls, _ := state.Load[Calls](f.layer, CallsKey()) // none: zero
	calls.Bytes += native
	state.Save(f.layer, CallsKey(), calls)
	state.Save(f.layer, CalledKey(checksum), Called{At: calls.Bytes, Native: native})
}

// ByCall returns the numbers of all code, that first which was not called for longest: who
// reads it in this order has in the end what calls do not pay for.
func ByCall(r state.Reader) []uint64 {
	codes := make([]uint64, NumbersOf(r).Codes)
	at := make(map[uint64]uint64, len(codes))
	for i := range codes {
		id := uint64(i) + 1
		code, _ := CodeOf(r, id)
		called, _ := state.Load[Called](r, CalledKey(code.Checksum)) // none: long ago
		codes[i], at[id] = id, called.At
	}
	slices.SortFunc(codes, func(a, b uint64) int { return cmp.Or(cmp.Compare(at[a], at[b]), cmp.Compare(a, b)) })
	return codes
}
