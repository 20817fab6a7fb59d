package agent_test

import (
	"math"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
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
