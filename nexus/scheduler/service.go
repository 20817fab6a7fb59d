package scheduler

import (
	"cmp"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// maxMisses bounds the misses that wait to be posted; the oldest gives way.
const maxMisses = 256

// Miss is an epoch of a lease in which its service missed its terms, as enough of its peers
// report: it is posted until the chain has judged the epoch.
type Miss struct {
	_      struct{} `cbor:",toarray"`
	Cursor uint64
	Report chain.ReportMiss
}

// FoundMiss brings the reports of an epoch. The leader has verified them, and that they are
// enough of the peers whom the chain drew.
type FoundMiss struct {
	_      struct{} `cbor:",toarray"`
	Report chain.ReportMiss
}

// ClosedMiss says that the chain has judged an epoch, or never will, which the leader read with
// proof.
type ClosedMiss struct {
	_     struct{}      `cbor:",toarray"`
	Order crypto.Digest // that the lease was opened with
	Terms crypto.Digest
	Epoch uint64
}

func (s *State) foundMiss(c FoundMiss) ([]Effect, error) {
	e := &c.Report.Epoch
	j := s.jobs[e.Lease.Order]
	if j == nil || !j.Leased || j.lastNode() != e.Lease.Node || s.Missed(e) {
		return nil, nil
	}
	if len(c.Report.Reports) > chain.MaxServicePeers {
		return nil, reject("size", "%d reports, limit %d", len(c.Report.Reports), chain.MaxServicePeers)
	}
	if len(s.misses) == maxMisses {
		s.misses = slices.Delete(s.misses, 0, 1)
	}
	s.cursor++
	s.misses = append(s.misses, Miss{Cursor: s.cursor, Report: c.Report})
	return []Effect{Post{Cursor: s.cursor}}, nil
}

func (s *State) closedMiss(c ClosedMiss) ([]Effect, error) {
	s.dropMisses(func(m *Miss) bool {
		e := &m.Report.Epoch
		return e.Lease.Order == c.Order && e.Terms == c.Terms && e.Epoch == c.Epoch
	})
	return nil, nil
}

func (s *State) dropMisses(of func(*Miss) bool) {
	s.misses = slices.DeleteFunc(s.misses, func(m Miss) bool { return of(&m) })
}

// lastNode is the node that the job was given to last.
func (j *Job) lastNode() crypto.PublicKey {
	if len(j.Runs) == 0 {
		return crypto.PublicKey{}
	}
	return j.Runs[len(j.Runs)-1].Node
}

// EndedTerms lists the leases of which service terms are over since a time, with the lease or by a resize: their
// last epochs may still be reported.
func (s *State) EndedTerms(since chain.TimeMs) (list []chain.LeaseID) {
	for _, j := range s.jobs { // order-free: sorted below
		over := j.Status.Final() && j.Changed >= since || j.resized != nil
		if term := j.Order.Term; over && j.Leased && term != nil && term.Service != nil {
			id := chain.LeaseID{Node: j.lastNode(), Order: j.id}
			if !term.Resizes.IsZero() {
				id.Order = term.Resizes
			}
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b chain.LeaseID) int { return a.Order.Compare(b.Order) })
	return slices.Compact(list)
}

// Missed reports whether the miss of an epoch waits to be posted.
func (s *State) Missed(e *chain.ServiceEpoch) bool {
	return slices.ContainsFunc(s.misses, func(m Miss) bool { return m.Report.Epoch == *e })
}

// MissesOf lists the epochs of a lease whose misses wait to be posted.
func (s *State) MissesOf(order crypto.Digest) (list []chain.ServiceEpoch) {
	for i := range s.misses {
		if e := s.misses[i].Report.Epoch; e.Lease.Order == order {
			list = append(list, e)
		}
	}
	return list
}

// withMisses adds to items of the outbox the misses with a cursor above after.
func (s *State) withMisses(items []OutboxItem, after uint64, limit int) []OutboxItem {
	for i := range s.misses {
		m := &s.misses[i]
		if m.Cursor > after {
			items = append(items, OutboxItem{Cursor: m.Cursor, Order: m.Report.Epoch.Lease.Order, Runs: []chain.Msg{m.Report}})
		}
	}
	slices.SortFunc(items, func(a, b OutboxItem) int { return cmp.Compare(a.Cursor, b.Cursor) })
	return items[:min(len(items), limit)]
}

func (FoundMiss) sealedCommand()  {}
func (ClosedMiss) sealedCommand() {}
