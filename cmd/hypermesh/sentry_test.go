package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// proposed returns how many of the blocks between two heights a validator proposed,
// as another node tells.
func (n *chaosNet) proposed(t *testing.T, by, at *chaosNode, above, top chain.Height) (count int) {
	t.Helper()
	for h := above + 1; h <= top; h++ {
		block, err := at.client.Block(t.Context(), h, api.BlockHeader)
		if err != nil {
			t.Fatal(err)
		}
		if block.Header.Proposer == by.key {
			count++
		}
	}
	return count
}

// takesPart demands that the chain goes on with a validator's blocks, of which the
// others finalize one in four or nearly so.
func (n *chaosNet) takesPart(t *testing.T, v, at *chaosNode, blocks chain.Height) {
	t.Helper()
	from := n.highest(t.Context())
	began := time.Now()
	n.awaitHeight(t, at, from+blocks, 15*time.Second)
	n.awaitHeight(t, v, from+blocks, 5*time.Second)
	led := n.proposed(t, v, at, from, from+blocks)
	t.Logf("%d of %d blocks are of node %d, in %v", led, blocks, v.index, time.Since(began).Round(time.Millisecond))
	if led < int(blocks)/6 {
		t.Errorf("%d of %d blocks are of node %d, which is one of four validators", led, blocks, v.index)
	}
}

// TestAValidatorBehindSentries: validator 0 of 4 is known to its two sentries alone,
// proposes and votes through them, and goes on when either is killed.
func TestAValidatorBehindSentries(t *testing.T) {
	endToEnd(t)
	n := newChaosNet(t, chaosShape{validators: 4, hosts: 6, sentries: map[int][]int{0: {4, 5}}})
	hidden, other := n.nodes[0], n.nodes[1]
	load := n.startLoad(t)
	n.recovered(t)
	until(t, "both sentries have places", 15*time.Second, func() bool {
		for _, v := range n.nodes[1:4] {
			if v.metric(t, "hypermesh_sentries") != "2" {
				return false
			}
		}
		return true
	})
	n.takesPart(t, hidden, other, 40)
	load.awaitMore(t)
	if got := hidden.metric(t, "hypermesh_peers"); got != "2" {
		t.Errorf("the validator behind sentries has %s connections, want 2", got)
	}
	for _, sentry := range n.nodes[4:] {
		if got := sentry.metric(t, "hypermesh_peers"); got != "5" {
			t.Errorf("sentry %d has %s connections, want 5", sentry.index, got)
		}
	}

	n.nodes[4].kill(t)
	n.takesPart(t, hidden, other, 24)
	n.start(t, n.nodes[4])
	until(t, "the first sentry is back", 15*time.Second, func() bool {
		return n.nodes[4].running() && n.nodes[4].height(t.Context()) > 0 && hidden.metric(t, "hypermesh_peers") == "2" && n.nodes[4].metric(t, "hypermesh_delegations") == "2"
	})
	n.nodes[5].kill(t)
	n.takesPart(t, hidden, other, 24)
	n.nodes[3].kill(t) // from now on there is no quorum without the hidden one's votes
	n.takesPart(t, hidden, other, 12)
	load.awaitMore(t)
	n.agree(t)
	for i := 1; i <= 3; i++ {
		if to, from := n.relay.Traffic(0, i), n.relay.Traffic(i, 0); to.Sent+from.Sent > 0 {
			t.Errorf("%d datagrams went from the validator behind sentries to node %d, %d came from it", to.Sent, i, from.Sent)
		}
	}
	load.checkBalance(t)
}

// metric returns the value that a node shows, empty if it does not answer.
func (v *chaosNode) metric(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	data, err := v.get(ctx, "/metrics")
	if err != nil {
		return ""
	}
	return metricIn(string(data), name)
}

func metricIn(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return value
		}
	}
	return ""
}
