package server

import (
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// ended is a lease with service terms that lasted for 25 s, from 100 s ago, with three peers.
func ended(now time.Time) (chain.LeaseID, Service) {
	id := chain.LeaseID{Node: crypto.PublicKey{1}, Order: crypto.Digest{2}}
	over := settlement.Lease{Order: id.Order, Since: chain.TimeMs(now.UnixMilli() - 100_000), Promised: true}
	over.Expires = over.Since + 25_000
	s := settlement.Service{
		Node: id.Node, Terms: chain.ServiceTerms{EpochMs: 10_000, AvailabilityBps: 9_000}, Peers: []crypto.PublicKey{{3}, {4}, {5}}, Over: &over, Judged: []uint64{1},
	}
	return id, Service{Live: true, Lease: over, Service: s, At: chain.TimeMs(now.UnixMilli())}
}

// TestReportsOfALeaseThatIsOver are taken of the epochs that it had, the last one too, and posted when
// there are enough; its peers are told when it ended.
func TestReportsOfALeaseThatIsOver(t *testing.T) {
	now := time.Now()
	id, seen := ended(now)
	s := services{known: map[crypto.Digest]*watchedService{}}
	s.add([]chain.LeaseID{id, id}, now)
	if due := s.due(now); !slices.Equal(due, []chain.LeaseID{id}) {
		t.Fatalf("%v are due", due)
	}
	if due := s.due(now); len(due) != 0 {
		t.Fatalf("%v are due again", due)
	}
	s.see(id, seen)
	report := func(epoch uint64, peer byte) *job.PeerReport {
		return &job.PeerReport{
			Epoch:  chain.ServiceEpoch{Lease: id, Terms: id.Order, Epoch: epoch},
			Report: chain.ServiceReport{Peer: crypto.PublicKey{peer}, Sent: 4},
		}
	}
	for epoch, want := range []bool{true, false, true, false} { // the second was judged
		if got := s.wants(report(uint64(epoch), 3), now); got != want {
			t.Errorf("a report of epoch %d is wanted: %t", epoch, got)
		}
	}
	if s.wants(report(2, 9), now) {
		t.Error("a report of no peer is wanted")
	}
	if s.keep(report(2, 3)) != nil {
		t.Error("one of three peers is enough")
	}
	if m := s.keep(report(2, 5)); m == nil || len(m.Reports) != 2 || m.Epoch.Epoch != 2 {
		t.Errorf("would post %+v", m)
	}
	if m := seen.watch(id); m.Until != seen.Lease.Expires || m.At != seen.At || m.Since != seen.Lease.Since {
		t.Errorf("peers are told %+v", m)
	}
	s.see(id, Service{})
	if len(s.known) != 0 {
		t.Error("a lease is watched that the chain has forgotten")
	}
}
