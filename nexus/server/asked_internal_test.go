package server

import (
	"context"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// escrowChain says what consumers have in escrow.
type escrowChain struct {
	Chain
	escrow Escrow
}

func (c escrowChain) Escrow(context.Context, chain.Address) (Escrow, error) { return c.escrow, nil }

// TestAnEscrowFromBeforeALapseIsReadAnew: what the chain said just now, but of a time when a cap that was let go since could be spent, is not
// used again; of a later time it is.
func TestAnEscrowFromBeforeALapseIsReadAnew(t *testing.T) {
	params := chain.DefaultParams()
	config := scheduler.DefaultConfig(&chain.Genesis{ChainID: "test-1", Params: params}, crypto.PublicKey{1})
	limits := job.DefaultLimits()
	limits.MemoryBytes, limits.OutputBytes, limits.OutputFiles = 64<<20, 1<<20, 10
	spec := job.Spec{
		Label: "test", Work: job.WorkField{Work: job.Wasm{Module: blob.Sum([]byte{1}), Deterministic: true}}, InputBytes: 1,
		Resources: job.Resources{Millicores: 1_000, MemoryMiB: 64}, Limits: limits,
	}
	order := chain.Order{
		ChainID: config.ChainID, Consumer: crypto.AccountKeyOf(crypto.PublicKey{2}), Nonce: 1, Cluster: config.Cluster, Spec: spec.Digest(),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(1), Deadline: 1_000, Countersignable: true,
		Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 1}, {Resource: chain.Memory, Price: 1}, {Resource: chain.Network, Price: 1}},
	}
	state := scheduler.New(config)
	apply := func(now chain.TimeMs, c scheduler.Command) {
		t.Helper()
		if _, errs := state.Apply(scheduler.Entry{TimeMs: now, Commands: []scheduler.Command{c}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	apply(1, scheduler.Submit{Order: order, Spec: spec, Escrow: order.MaxCost})
	apply(2, scheduler.CancelJob{Order: order.ID()})
	fresh, over := chain.Hyper(5), order.Deadline+chain.TimeMs(params.ClaimWindowMs)
	apply(over+1, scheduler.Tick{})
	for since, want := range map[chain.TimeMs]chain.Amount{over - 8_000: fresh, over: fresh, over + 1: order.MaxCost} {
		s := &Server{replica: &replica{state: state}, config: config, chain: escrowChain{escrow: Escrow{Balance: fresh, TimeMs: over + 2}}, ctx: t.Context()}
		s.escrows.known = map[chain.Address]knownEscrow{order.ConsumerAddress(): {escrow: Escrow{Balance: order.MaxCost, TimeMs: since}, at: time.Now().Add(time.Hour)}}
		next := order
		next.Nonce, next.Deadline = 2, over+1_000
		if got, err := s.enoughEscrow(t.Context(), []*application{{submit: scheduler.Submit{Order: next}}}); err != nil || got.Balance != want {
			t.Errorf("known of %d, the cap could be spent until %d: %s, want %s, %v", since, over, got.Balance, want, err)
		}
	}
}
