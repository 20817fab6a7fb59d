package job_test

import (
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

func meteredSpec(deterministic bool) job.Spec {
	return job.Spec{
		Work:       job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}, Deterministic: deterministic}},
		InputBytes: 3 << 20,
		Resources:  job.Resources{Millicores: 1_000, MemoryMiB: 512},
		Limits:     job.DefaultLimits(),
	}
}

func meteredPrices() []chain.UnitPrice {
	return []chain.UnitPrice{
		{Resource: chain.CPU, Price: 7_000_000_000}, {Resource: chain.Memory, Price: 3_000_000_000}, {Resource: chain.Network, Price: 1 << 40},
	}
}

func TestDeterministicWorkIsBilledByFuel(t *testing.T) {
	spec := meteredSpec(true)
	o := job.Outcome{Fuel: 2*job.FuelPerMs + 1, WallMs: 5_000, PeakMemoryBytes: 1<<20 + 1, OutputBytes: 1}
	want := []chain.Usage{
		{Resource: chain.CPU, Amount: 1_000, DurationMs: 3},
		{Resource: chain.Memory, Amount: 2, DurationMs: 3},
		{Resource: chain.Network, Amount: 4, DurationMs: 3},
	}
	for i, got := range job.Meter(&spec, &o) {
		if got != want[i] {
			t.Errorf("deterministic: %+v, want %+v", got, want[i])
		}
	}
	spec = meteredSpec(false)
	if got := job.Meter(&spec, &o)[0]; got.DurationMs != 5_000 {
		t.Errorf("other work: %d ms, want the wall clock's 5000", got.DurationMs)
	}
}

func TestNoOutcomeCostsMoreThanTheWorst(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, deterministic := range []bool{true, false} {
		spec := meteredSpec(deterministic)
		worst, err := job.WorstCost(&spec, meteredPrices())
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			o := job.Outcome{
				Fuel: rng.Uint64() >> rng.IntN(40), PeakMemoryBytes: rng.Uint64() >> rng.IntN(40),
				WallMs: rng.Uint64() >> rng.IntN(64), OutputBytes: rng.Uint64() >> rng.IntN(64),
			}
			cost, err := chain.Cost(job.Meter(&spec, &o), meteredPrices())
			if err != nil || worst.Less(cost) {
				t.Fatalf("%+v costs %s (%v), the worst is %s", o, cost, err, worst)
			}
		}
	}
}
