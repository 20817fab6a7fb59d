package scheduler_test

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// Of two nodes that are alike and bid alike, the one with the better reputation on the
// chain wins, whichever of them it is; and no premium is taken to be above the largest.
func TestReputationOnTheChainCounts(t *testing.T) {
	for better := 1; better <= 2; better++ {
		w := newWorld()
		for n := 1; n <= 2; n++ {
			premium := uint64(1 << 63)
			if n == better {
				premium = match.Premium(match.Neutral)
			}
			w.must(t, scheduler.NodeUp{Node: w.node(n, n), Hello: hello(n), Premium: premium})
		}
		s := submit(1, chain.PolicyNone{})
		w.must(t, s)
		id := s.Order.ID()
		w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 50), bid(id, 2, 50)}})
		w.expect(t, fmt.Sprintf("assign n%d", better))
	}
}
