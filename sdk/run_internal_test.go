package sdk

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestOthersThanTheCheapestMayBid: an order that was quoted by who is cheapest leaves room for
// who is dearer, should that one fail; but no more than its policy covers.
func TestOthersThanTheCheapestMayBid(t *testing.T) {
	const quoted = 1_000
	for _, test := range []struct {
		policy chain.Policy
		most   uint64
	}{
		{chain.PolicyNone{}, 2 * quoted},
		{chain.PolicyZK{Kernel: "matmul-32"}, 2 * quoted},
		{chain.PolicyOptimistic{WindowMs: 1, Bond: chain.Nano(100 * chain.OptimisticCover * quoted)}, 2 * quoted},
		{chain.PolicyOptimistic{WindowMs: 1, Bond: chain.Nano(chain.OptimisticCover * quoted * 3 / 2)}, quoted * 3 / 2},
		{chain.PolicyOptimistic{WindowMs: 1, Bond: chain.Nano(chain.OptimisticCover * quoted / 2)}, quoted}, // refused by name
		{chain.PolicyReplicate{K: 2, N: 3}, quoted},
	} {
		r := JobRun{Policy: test.policy, MaxCost: mostFor(test.policy, chain.Nano(quoted))}
		order := orderFor(&r, &api.Quote{MaxCost: chain.Nano(quoted)}, api.NexusStatus{})
		if order.MaxCost != chain.Nano(test.most) {
			t.Errorf("%s: the order may cost %s, want %d", test.policy, order.MaxCost, test.most)
		}
		if _, zk := test.policy.(chain.PolicyZK); zk && order.FixedCap != order.MaxCost || !zk && !order.FixedCap.IsZero() {
			t.Errorf("%s: a proof may cost %s, the order %s", test.policy, order.FixedCap, order.MaxCost)
		}
	}
	if most := mostFor(chain.PolicyNone{}, chain.Nano(1<<63)); most != chain.Nano(1<<63) {
		t.Errorf("twice what does not fit an amount is %s", most)
	}
}
