package server

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestDrawsAskNoMoreOfPeers: however often other peers are drawn for a lease, each epoch is probed by those who can report it and by
// nobody else.
func TestDrawsAskNoMoreOfPeers(t *testing.T) {
	const epoch = chain.TimeMs(10_000)
	terms := chain.ServiceTerms{EpochMs: uint64(epoch), AvailabilityBps: 9_000, RebateBps: 1}
	id := chain.LeaseID{Node: crypto.PublicKey{200}, Order: crypto.Digest{1}}
	seen := Service{Live: true, Lease: settlement.Lease{Order: id.Order, Since: 5_000, Expires: 1 << 40}, Service: settlement.Service{Node: id.Node, Terms: terms}}
	drawn := byte(0)
	for now := chain.TimeMs(8_000); now < 500_000; now += 500 {
		s := &seen.Service
		if s.Drawn == 0 || now-s.Drawn >= 2*epoch { // as soon as the chain takes it
			if s.Drawn != 0 {
				s.Former = s.Peers
			}
			s.Drawn, s.Peers = now, nil
			for range chain.MaxServicePeers { // three of five that were peers before, now and then
				drawn++
				s.Peers = append(s.Peers, crypto.PublicKey{drawn % 7})
			}
		}
		begin := seen.Lease.Since + (now-seen.Lease.Since)/epoch*epoch
		var probes []crypto.PublicKey
		for _, peer := range peersOf(&seen, now) {
			if m := seen.WatchBy(id, peer); m.OwnAt(now) && !slices.Contains(probes, peer) {
				probes = append(probes, peer)
			}
		}
		for _, peer := range seen.Service.PeersOf(begin) {
			if !slices.Contains(probes, peer) {
				t.Fatalf("at %d nobody has peer %x probe, which is to report the epoch", now, peer[:1])
			}
		}
		for _, peer := range probes {
			both := slices.Contains(s.Peers, peer) && slices.Contains(s.Former, peer)
			if !both && !slices.Contains(seen.Service.PeersOf(begin), peer) {
				t.Fatalf("at %d peer %x probes an epoch that others report", now, peer[:1])
			}
		}
		if len(probes) > chain.MaxServicePeers {
			t.Fatalf("at %d %d peers probe", now, len(probes))
		}
	}
}
