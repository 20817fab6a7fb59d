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
	s.see(id, &seen)
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
	if m := seen.Watch(id); m.Until != seen.Lease.Expires || m.At != seen.At || m.Since != seen.Lease.Since {
		t.Errorf("peers are told %+v", m)
	}
	if s.see(id, &Service{At: seen.At - 1}) || len(s.known) != 1 {
		t.Error("a node that is behind is believed")
	}
	if s.see(id, &Service{At: seen.At}); len(s.known) != 0 {
		t.Error("a lease is watched that the chain has forgotten")
	}
}

// resizedFrom is a lease that was resized when another lease's terms ended, and what was promised before.
func resizedFrom(old *Service) Service {
	now := *old
	now.Lease.Order, now.Lease.Since, now.Lease.Expires = crypto.Digest{9}, old.Lease.Expires, old.Lease.Expires+1<<40
	now.Service.Over, now.Service.Judged, now.Service.Order = nil, nil, now.Lease.Order
	former := *old
	now.Former = &former
	return now
}

// TestReportsOfTermsBeforeAResize are taken and posted beside those of the terms that hold, until the chain has
// forgotten the old ones, whether or not a server knew the lease before, and whatever is promised of it since.
func TestReportsOfTermsBeforeAResize(t *testing.T) {
	now := time.Now()
	id, old := ended(now)
	lives := old
	lives.Service.Over, lives.Lease.Expires = nil, old.Lease.Expires+1<<40
	resized := resizedFrom(&old)
	plain := Service{At: resized.At, Lease: resized.Lease, Former: resized.Former}
	report := func(terms crypto.Digest, epoch uint64, peer byte) *job.PeerReport {
		return &job.PeerReport{
			Epoch:  chain.ServiceEpoch{Lease: id, Terms: terms, Epoch: epoch},
			Report: chain.ServiceReport{Peer: crypto.PublicKey{peer}, Sent: 4},
		}
	}
	for _, after := range []Service{resized, plain} {
		for _, watched := range []bool{true, false} {
			s := services{known: map[crypto.Digest]*watchedService{}}
			s.add([]chain.LeaseID{id}, now)
			if watched {
				s.see(id, &lives)
				if s.keep(report(id.Order, 0, 3)) != nil {
					t.Fatal("one of three peers is enough")
				}
			}
			s.see(id, &after)
			for epoch, want := range []bool{true, false, true, false} { // the second was judged
				if e := report(id.Order, uint64(epoch), 4); s.wants(e, now) != want {
					t.Errorf("a report of epoch %d is wanted: %t", epoch, !want)
				}
			}
			if m := s.keep(report(id.Order, 0, 5)); (m != nil) != watched {
				t.Errorf("with what was reported before, %+v would be posted", m)
			}
			if s.keep(report(crypto.Digest{9}, 0, 3)) != nil {
				t.Error("reports of other terms count")
			}
			if s.wants(report(crypto.Digest{9}, 0, 3), now) != after.Live || s.wants(report(crypto.Digest{8}, 0, 3), now) {
				t.Error("a report of terms that do not hold is wanted")
			}
			gone := after
			gone.Former = nil
			s.see(id, &gone)
			if s.wants(report(id.Order, 2, 3), now) || (len(s.known) == 1) != after.Live {
				t.Error("a report is wanted of terms that the chain has forgotten")
			}
		}
	}
}

// TestTheConsumerTipsTermsBeforeAResize as it does those that hold, also when nothing is promised any more.
func TestTheConsumerTipsTermsBeforeAResize(t *testing.T) {
	now := time.Now()
	id, old := ended(now)
	own := chain.ServiceReport{Peer: crypto.PublicKey{7}, Sent: 4}
	old.Lease.Consumer, old.Service.Peers = own.By(), append(old.Service.Peers, crypto.PublicKey{6})
	s := services{known: map[crypto.Digest]*watchedService{}}
	s.add([]chain.LeaseID{id}, now)
	s.see(id, &Service{Former: &old})
	for i, peer := range []byte{3, 4, 7} {
		p := &job.PeerReport{Epoch: chain.ServiceEpoch{Lease: id, Terms: id.Order}, Report: chain.ServiceReport{Peer: crypto.PublicKey{peer}, Sent: 4}}
		if !s.wants(p, now) {
			t.Errorf("a report by %d is not wanted", peer)
		}
		if m := s.keep(p); (m != nil) != (i == 2) {
			t.Errorf("after report %d %+v would be posted", i, m)
		}
	}
}
