package settlement

import (
	"bytes"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// EndsAhead has what ends of leases read be read before the block comes that ends them: of a
// million leases it lies anywhere on the disk, and a block waits for nothing else as long.
// Nothing depends on it. The zero value has looked at nothing.
type EndsAhead struct {
	last leaseEnd // up to which it has looked
}

// Read looks at leases that are over by a time, the first to be over first, and at most limit
// that it has not looked at. read is told what to read, and returns the values, nil if there is
// none. It returns how many leases there were.
func (a *EndsAhead) Read(r state.Reader, now, until chain.TimeMs, limit int, read func(keys [][]byte) [][]byte) int {
	due := a.next(r, now, until, limit)
	if len(due) == 0 {
		return 0
	}
	keys := make([][]byte, len(due))
	for i := range due {
		keys[i] = LeaseKey(due[i].lease())
	}
	var touched touchedKeys
	for i, value := range read(keys) {
		if value != nil { // else the block that ends it says what is wrong
			l := decodeLease(keys[i], value)
			touched.add(due[i], &l)
		}
	}
	read(touched.keys)
	return len(due)
}

// next returns the next ends to look at.
func (a *EndsAhead) next(r state.Reader, now, until chain.TimeMs, limit int) (due []leaseEnd) {
	from := queue{place: func(b *behind) *uint64 { return &b.Leases }, last: uint64(now)}.from(r)
	var first leaseEnd // all before it are gone
	copy(first[:], big(from))
	if bytes.Compare(first[:], a.last[:]) < 0 {
		first = a.last
	}
	for _, value := range r.Iterate(endPageKey(first), keyOf(kindLeaseEnd+1)) {
		for _, e := range readEndPage(value) {
			switch {
			case e.at() > until || len(due) == limit:
				return due
			case bytes.Compare(e[:], first[:]) > 0:
				due = append(due, e)
				a.last = e
			}
		}
	}
	return due
}

// touchedKeys are the keys of the records that ends of leases change beside their own, each once.
type touchedKeys struct {
	known map[string]bool
	keys  [][]byte
}

// add adds those of a lease.
func (t *touchedKeys) add(end leaseEnd, l *Lease) {
	t.key(ProviderKey(end.lease().Node))
	t.key(EscrowKey(l.Consumer, l.Cluster))
	t.key(tokens.AccountKey(l.Provider))
	if l.Promised {
		t.key(ServiceKey(end.lease().Order))
	}
}

func (t *touchedKeys) key(key []byte) {
	if t.known == nil {
		t.known = map[string]bool{}
	}
	if !t.known[string(key)] {
		t.known[string(key)] = true
		t.keys = append(t.keys, key)
	}
}
