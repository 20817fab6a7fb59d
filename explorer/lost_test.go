package explorer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// TestALostClaimIsNotShownAsPaid: neither one that the escrow covered a part of, nor one
// that it covered nothing of.
func TestALostClaimIsNotShownAsPaid(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	part, whole := order(50, chain.PolicyNone{}), order(51, chain.PolicyNone{})
	lost := func(o chain.Order) chain.ClaimLost {
		return chain.ClaimLost{Order: o.ID(), Node: testKey(nodeKey).Public(), Sequence: 1, Provider: address(ownerKey), Cluster: o.Cluster, Lost: chain.Hyper(7)}
	}
	node.seal(entry{
		tx:     node.sign(40, "", chain.Settle{Claims: []chain.Claim{claim(part, 0), claim(whole, 0)}}),
		events: chain.Events{settled(part, 0), lost(part), lost(whole)},
	})
	node.seal()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(2)
	for _, o := range []chain.Order{part, whole} {
		status, page, _ := r.get("/jobs/" + o.ID().String())
		plain := text(page)
		_, head, _ := strings.Cut(page, `<div id="head"`)
		head, _, _ = strings.Cut(head, "</div>")
		if status != http.StatusOK || !strings.Contains(plain, "did not cover 7 HYPER") || !strings.Contains(head, "lost") {
			t.Errorf("order %d: %d: %s", o.Nonce, status, plain)
		}
	}
}
