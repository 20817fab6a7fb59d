package contract

import "github.com/hypermesh/hypermesh/internal/crypto"

// asked is what a query from outside has had loaded, for which nobody pays.
type asked struct {
	codes   map[crypto.Digest]bool
	bytes   uint64
	refused *failure // the query has ended for it
}

// freeLoad lets who asks from outside have code that neither counts as kept nor is pinned read from disk, once each: one whatever it
// is, and several of AskedBytes together. It reports whether it may be; else the query has ended, since
// what its contracts would make of a failure is not what they answer in a transaction.
func (r *run) freeLoad(f *frame, code *Code) bool {
	last, kept := loaded(f.layer, code.Checksum)
	if kept || last.pinned(r.env) || r.asked.codes[code.Checksum] {
		return true
	}
	if len(r.asked.codes) > 0 && r.asked.bytes+last.Native > AskedBytes {
		r.asked.refused = fail(spaceOurs, oursAsked, "a query that has %d codes read from disk, of %d bytes, limit %d", len(r.asked.codes)+1, r.asked.bytes+last.Native, AskedBytes)
		f.tank.used = f.tank.limit
		return false
	}
	if r.asked.codes == nil {
		r.asked.codes = map[crypto.Digest]bool{}
	}
	r.asked.codes[code.Checksum] = true
	r.asked.bytes += last.Native
	return true
}
