package agent_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// TestClustersThatHaveTooLittleToLose: an agent does no work for them, and says why.
func TestClustersThatHaveTooLittleToLose(t *testing.T) {
	order := chain.Order{MaxCost: chain.Hyper(100)}
	for _, c := range []struct {
		standing agent.Standing
		cover    uint64
		want     string
	}{
		{agent.Standing{}, 10, ""}, // nobody was asked
		{agent.Standing{Known: true}, 0, "has no bond that is free"},
		{agent.Standing{Known: true, Bond: chain.Hyper(1_000), Broke: true}, 0, "broke its word"},
		{agent.Standing{Known: true, Bond: chain.Hyper(1_000)}, 10, ""},
		{agent.Standing{Known: true, Bond: chain.Nano(chain.Hyper(1_000).Nano() - 1)}, 10, "below 10 times the order's max cost of 100 HYPER"},
		{agent.Standing{Known: true, Bond: chain.Nano(1)}, 0, ""},
	} {
		got := c.standing.Doubt(&order, c.cover)
		if got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%+v, %d times: %q, want %q", c.standing, c.cover, got, c.want)
		}
	}
	order.MaxCost = chain.Nano(math.MaxUint64) // a quote's draft
	known := agent.Standing{Known: true, Bond: chain.Hyper(1_000)}
	if why := known.Doubt(&order, 10); why != "" {
		t.Errorf("a quote is declined: %s", why)
	}
}

// TestMadeUpClustersTakeNoPlace: whoever names clusters that nobody registered, as many as it
// likes, makes the agent forget nothing of those that the chain knows.
func TestMadeUpClustersTakeNoPlace(t *testing.T) {
	broke, poor := crypto.PublicKey{1}, crypto.PublicKey{2}
	asked := 0
	s := agent.NewStandings(func(_ context.Context, cluster crypto.PublicKey) (agent.Standing, error) {
		asked++
		switch cluster {
		case broke:
			return agent.Standing{Known: true, Registered: true, Broke: true}, nil
		case poor:
			return agent.Standing{Known: true, Registered: true}, nil
		}
		return agent.Standing{Known: true}, nil
	})
	s.Offered(broke)
	s.Offered(poor)
	for n := range 1_000 {
		made := crypto.PublicKey{3, byte(n), byte(n >> 8)}
		s.Offered(made)
		if why := s.Doubt(&chain.Order{Cluster: made}); !strings.Contains(why, "no bond that is free") {
			t.Fatalf("made up cluster %d: %q", n, why)
		}
	}
	if why := s.Doubt(&chain.Order{Cluster: broke}); !strings.Contains(why, "broke its word") {
		t.Errorf("of the cluster that broke its word it says %q", why)
	}
	if why := s.Doubt(&chain.Order{Cluster: poor}); why == "" || asked != 1_002 {
		t.Errorf("of the poor cluster %q; %d questions", why, asked)
	}
	if asked = 0; s.Refresh() != nil || asked > 66 {
		t.Errorf("%d clusters are watched", asked)
	}
}

// TestAnOfferWaitsForWhatItsClusterHasToLose: the first bid for a cluster is not given before
// the chain was asked; a chain that does not answer keeps nobody from working, and what it
// said before stands.
func TestAnOfferWaitsForWhatItsClusterHasToLose(t *testing.T) {
	order, silent := chain.Order{Cluster: crypto.PublicKey{1}, MaxCost: chain.Hyper(1)}, true
	s := agent.NewStandings(func(context.Context, crypto.PublicKey) (agent.Standing, error) {
		if silent {
			return agent.Standing{}, errors.New("no answer")
		}
		return agent.Standing{Known: true, Registered: true, Broke: true}, nil
	})
	if s.Offered(order.Cluster); s.Doubt(&order) != "" || s.Unheard(order.Cluster) {
		t.Errorf("a chain that is silent: %q", s.Doubt(&order))
	}
	silent = false
	if err := s.Refresh(); err != nil || !strings.Contains(s.Doubt(&order), "broke its word") {
		t.Errorf("%v, %q", err, s.Doubt(&order))
	}
	silent = true
	if err := s.Refresh(); err == nil || !strings.Contains(s.Doubt(&order), "broke its word") {
		t.Errorf("%v, %q: what was known is forgotten", err, s.Doubt(&order))
	}
	first := chain.Order{Cluster: crypto.PublicKey{2}}
	silent = false
	if s.Offered(first.Cluster); !strings.Contains(s.Doubt(&first), "broke its word") {
		t.Errorf("the first offer is answered with %q", s.Doubt(&first))
	}
}

// TestAChainThatIsSlowCostsNoAuction: the agent answers while bids are still taken.
func TestAChainThatIsSlowCostsNoAuction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := agent.NewStandings(func(ctx context.Context, _ crypto.PublicKey) (agent.Standing, error) {
			<-ctx.Done()
			return agent.Standing{}, ctx.Err()
		})
		for closeMs, most := range map[uint64]time.Duration{300: 150 * time.Millisecond, 0: 2 * time.Second, 1 << 63: 2 * time.Second} {
			begun := time.Now() // of the bubble
			s.Hear(crypto.PublicKey{byte(closeMs), 1, byte(closeMs >> 60)}, closeMs)
			if took := time.Since(begun); took != most {
				t.Errorf("bids are taken for %d ms, the answer came after %v, want %v", closeMs, took, most)
			}
		}
	})
}
