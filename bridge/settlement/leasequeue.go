package settlement

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// The ends of leases are queued by time, node and order, in pages: what ends together is in
// few records, which the block that ends it deletes as a whole. A page has the ends that are
// not beyond its bound, which its key names, and beyond that of the page before; the last
// has no bound. One that grows too long is cut in two; one with nothing left is deleted, and
// the page after it has its range.

const (
	endBytes = 8 + crypto.PublicKeySize + crypto.DigestSize
	// pageEnds is how many ends a page has at most.
	pageEnds = 16
)

// leaseEnd is an entry of the queue: when a lease ends, its node, and the order that opened
// it. They sort as their bytes do.
type leaseEnd [endBytes]byte

// endPage is the entries of a page, in ascending order.
type endPage []leaseEnd

func endOf(at chain.TimeMs, id chain.LeaseID) (e leaseEnd) {
	binary.BigEndian.PutUint64(e[:8], uint64(at))
	copy(e[8:], id.Node[:])
	copy(e[8+crypto.PublicKeySize:], id.Order[:])
	return e
}

func (e *leaseEnd) at() chain.TimeMs { return chain.TimeMs(binary.BigEndian.Uint64(e[:8])) }

func (e *leaseEnd) lease() chain.LeaseID {
	return chain.LeaseID{Node: crypto.PublicKey(e[8 : 8+crypto.PublicKeySize]), Order: crypto.Digest(e[8+crypto.PublicKeySize:])}
}

// endPageKey returns the key of the page with a bound.
func endPageKey(bound leaseEnd) []byte { return keyOf(kindLeaseEnd, bound[:]) }

// noBound is the bound of the last page.
func noBound() (e leaseEnd) {
	for i := range e {
		e[i] = 0xff
	}
	return e
}

func readEndPage(value []byte) endPage {
	if len(value) == 0 || len(value)%endBytes != 0 || len(value) > pageEnds*endBytes {
		panic("settlement: a page of the queue of leases' ends that was not written so")
	}
	page := make(endPage, len(value)/endBytes)
	for i := range page {
		page[i] = leaseEnd(value[i*endBytes:])
	}
	return page
}

// save writes a page under its key, or deletes it if it has nothing left.
func (p endPage) save(kv state.KV, key []byte) {
	if len(p) == 0 {
		kv.Delete(key)
		return
	}
	value := make([]byte, 0, len(p)*endBytes)
	for i := range p {
		value = append(value, p[i][:]...)
	}
	kv.Set(key, value)
}

// find returns where an entry is in a page, or would be.
func (p endPage) find(e leaseEnd) (at int, there bool) {
	at = sort.Search(len(p), func(i int) bool { return bytes.Compare(p[i][:], e[:]) >= 0 })
	return at, at < len(p) && p[at] == e
}

// endPageOf returns the page that an entry belongs to, and its key.
func endPageOf(r state.Reader, e leaseEnd) (key []byte, page endPage) {
	for key, value := range r.Iterate(endPageKey(e), keyOf(kindLeaseEnd+1)) {
		return key, readEndPage(value)
	}
	return endPageKey(noBound()), nil
}

// QueueLeaseEnd queues the end of a lease.
func QueueLeaseEnd(kv state.KV, at chain.TimeMs, id chain.LeaseID) {
	e := endOf(at, id)
	key, page := endPageOf(kv, e)
	i, there := page.find(e)
	if there {
		panic("settlement: a lease is queued to end twice")
	}
	if page = slices.Insert(page, i, e); len(page) > pageEnds {
		low := page[:pageEnds/2]
		low.save(kv, endPageKey(low[len(low)-1]))
		page = page[len(low):]
	}
	page.save(kv, key)
}

// dropLeaseEnd takes back what QueueLeaseEnd queued.
func dropLeaseEnd(kv state.KV, at chain.TimeMs, id chain.LeaseID) {
	e := endOf(at, id)
	key, page := endPageOf(kv, e)
	i, there := page.find(e)
	if !there {
		panic("settlement: a lease that is there is not queued to end")
	}
	slices.Delete(page, i, i+1).save(kv, key)
}

// LeaseEndQueued reports whether the end of a lease is queued for a time.
func LeaseEndQueued(r state.Reader, at chain.TimeMs, id chain.LeaseID) bool {
	_, page := endPageOf(r, endOf(at, id))
	_, there := page.find(endOf(at, id))
	return there
}

// takeEnds takes what is due out of the queue, the oldest first and at most limit of it; the
// rest waits for the next block. It reads no page but those that have some of it, and one.
func (q queue) takeEnds(kv state.KV, limit int) (due []leaseEnd) {
	var left []byte // the first that waits
	for key, value := range kv.Iterate(keyOf(q.kind, big(q.from(kv))), keyOf(q.kind+1)) {
		page := readEndPage(value)
		over := sort.Search(len(page), func(i int) bool { return uint64(page[i].at()) > q.now })
		n := min(over, limit-len(due))
		if due = append(due, page[:n]...); n > 0 {
			page[n:].save(kv, key)
		}
		if n < over {
			left = endPageKey(page[n])
		}
		if n < len(page) {
			break
		}
	}
	q.leave(kv, left)
	return due
}
