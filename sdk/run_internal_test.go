package sdk

import (
	"math"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
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

// TestCapsLeaveRoomForTheFee: an order with a priority fee has caps under which the same may bid as without.
func TestCapsLeaveRoomForTheFee(t *testing.T) {
	quote := api.Quote{Bids: []api.QuoteBid{{Prices: []api.UnitPrice{{Resource: chain.CPU, Price: 333}, {Resource: chain.Memory, Price: math.MaxUint64 / 3}}}}}
	for _, fee := range []chain.PriorityFee{0, 1, 2_500, chain.MaxPriorityFee} {
		r := JobRun{Policy: chain.PolicyNone{}, PriorityBps: fee}
		order := orderFor(&r, &quote, api.NexusStatus{})
		if limit, ok := order.Cap(chain.CPU); !ok || limit < capHeadroom*333 || limit > capHeadroom*333+1 || order.PriorityBps != fee {
			t.Errorf("%d bps: a bid of %d is under the cap of %+v", fee, limit, order.Caps)
		}
		if fee > 5_000 && order.Caps[1].Price != math.MaxUint64 {
			t.Errorf("a cap beyond all numbers is %d", order.Caps[1].Price)
		}
		lease := settlement.Lease{PriorityBps: fee, Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 333}}}
		resize := resizeOrder(&lease, &ResizeRequest{}, &job.Spec{Resources: job.Resources{Millicores: 1, MemoryMiB: 1}}, api.NexusStatus{})
		if limit, ok := resize.Cap(chain.CPU); !ok || limit < capHeadroom*333 || resize.PriorityBps != fee {
			t.Errorf("%d bps: a resize has %d bps and caps %+v", fee, resize.PriorityBps, resize.Caps)
		}
	}
}
