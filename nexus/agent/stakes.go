package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// ownBond is what the chain said last to be free of the node's bond. Safe for concurrent use.
type ownBond struct {
	mu    sync.Mutex
	known bool // false: the chain was not asked yet, or has no such node
	free  chain.Amount
}

func (b *ownBond) set(free chain.Amount, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free, b.known = free, known
}

func (b *ownBond) get() (free chain.Amount, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free, b.known
}

// lookAtBond asks the chain what is free of the node's bond. If it does not answer, what it said before stands.
func (a *Agent) lookAtBond(ctx context.Context) error {
	value, err := a.market.client.VerifiedState(ctx, settlement.ProviderKey(a.id))
	if err != nil {
		return err
	}
	raw, there := value.Get()
	if !there {
		a.market.bond.set(chain.Amount{}, false)
		return nil
	}
	record, err := settlement.DecodeProvider(raw)
	if err != nil {
		return err
	}
	a.market.bond.set(record.Free(), record.UnbondedMs == 0)
	return nil
}

// rest is what is left of an amount: nothing, if more is taken.
func rest(of, taken chain.Amount) chain.Amount {
	if left, ok := of.Sub(taken); ok {
		return left
	}
	return chain.Amount{}
}

// unstaked says why the node cannot stake what an order asks for: its bond has too little free, beside what the orders stake
// that it runs and that the chain knows nothing of yet. Work that cannot begin on the chain is not paid.
func (a *Agent) unstaked(order *chain.Order, _ *job.Spec, _ time.Time) string {
	stake := settlement.NodeSlice(order.Policy.Policy)
	if stake.IsZero() || a.market == nil {
		return ""
	}
	free, known := a.market.bond.get()
	if !known {
		return ""
	}
	left := free
	a.mu.Lock()
	for _, t := range a.tasks { // order-free: a sum
		if !t.judging && t.assignment.Place == 0 { // else the chain asked for it, and has its stake
			left = rest(left, settlement.NodeSlice(t.assignment.Order.Policy.Policy))
		}
	}
	a.mu.Unlock()
	if !left.Less(stake) {
		return ""
	}
	return fmt.Sprintf("the order stakes %s, this node has %s free of its bond, beside what it runs %s", stake, free, left)
}
