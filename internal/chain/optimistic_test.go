package chain_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func disputeMessages() chain.Msgs {
	return chain.Msgs{
		chain.Challenge{Order: crypto.Digest{9}, Stake: chain.Hyper(4)},
		chain.Appeal{Order: crypto.Digest{9}, Stake: chain.Hyper(4)},
	}
}

// disputeEvents has one of each.
func disputeEvents() chain.Events {
	a, b, node, cluster := testKey(1).address(), testKey(4).address(), testKey(3).Public(), testKey(2).Public()
	vote := chain.Vote{Finding: chain.FoundResult, Result: crypto.Digest{5}}
	return chain.Events{
		chain.ClaimPending{
			Order: crypto.Digest{2}, Node: node, Sequence: 1, Consumer: a, Provider: b, Cluster: cluster, Spec: crypto.Digest{3}, Result: crypto.Digest{4},
			Held: chain.Nano(15), Premium: chain.Nano(1), Bond: chain.Hyper(1), EndsMs: 99,
		},
		chain.ClaimChallenged{Order: crypto.Digest{2}, By: a, Node: node, Stake: chain.Nano(8), Appeal: true},
		chain.ClaimJudged{Order: crypto.Digest{2}, Verdict: &vote, AppealBy: 100},
		chain.ClaimClosed{Order: crypto.Digest{2}, Node: node, Sequence: 1, Consumer: a, Provider: b, Verdict: &vote, Paid: true, Refunded: chain.Nano(16)},
	}
}

func TestDisputesAreFrozen(t *testing.T) {
	tx := signedTx(t, disputeMessages())
	roundTrip(t, "tx_disputes", tx)
	if _, err := chain.DecodeTx(tx.Encode()); err != nil {
		t.Error(err)
	}
	roundTrip(t, "receipts_disputes", chain.BlockReceipts{Begin: disputeEvents()})
	order := sampleOrder(chain.PolicyOptimistic{WindowMs: 90_000, Bond: chain.Nano(4_000_000_000)})
	roundTrip(t, "order_optimistic", order)
	if err := order.Check(); err != nil {
		t.Error(err)
	}
}

func TestOptimisticPolicyLimits(t *testing.T) {
	for want, p := range map[string]chain.PolicyOptimistic{
		"optimistic(1m30s,4)":        {WindowMs: 90_000, Bond: chain.Hyper(4)},
		"optimistic(1.5s,4.25)":      {WindowMs: 1_500, Bond: chain.Nano(4_250_000_000)},
		"optimistic(2160h0m0s,1)":    {WindowMs: chain.MaxNoticeMs, Bond: chain.Hyper(1)},
		"optimistic(7776000001ms,1)": {WindowMs: chain.MaxNoticeMs + 1, Bond: chain.Hyper(1)},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	good := chain.PolicyOptimistic{WindowMs: 1_000, Bond: chain.Hyper(1)}
	for want, change := range map[string]func(*chain.Order, *chain.PolicyOptimistic){
		"window is 999 ms":                    func(_ *chain.Order, p *chain.PolicyOptimistic) { p.WindowMs = 999 },
		"window is 7776000001 ms":             func(_ *chain.Order, p *chain.PolicyOptimistic) { p.WindowMs = chain.MaxNoticeMs + 1 },
		"want at least 32 times the max cost": func(o *chain.Order, _ *chain.PolicyOptimistic) { o.MaxCost = chain.Nano(31_250_001) },
		"the least is 1 HYPER": func(o *chain.Order, p *chain.PolicyOptimistic) {
			o.MaxCost, p.Bond = chain.Nano(1), chain.Nano(999_999_999)
		},
		"policy is optimistic(1s,1), want none": func(o *chain.Order, _ *chain.PolicyOptimistic) {
			o.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1}}, NoticeMs: 1}
		},
	} {
		order, policy := sampleOrder(good), good
		order.MaxCost = chain.Nano(31_250_000)
		if err := order.Check(); err != nil {
			t.Fatal(err)
		}
		change(&order, &policy)
		order.Policy.Policy = policy
		if err := order.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if got := good.MostCovered(); got != chain.Nano(31_250_000) {
		t.Errorf("covers %v", got)
	}
}
