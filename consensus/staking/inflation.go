package staking

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/tokens"
)

// Span is a time of the chain's life, in milliseconds.
type Span struct {
	SinceGenesis uint64 // when it began
	Length       uint64
}

// span is how long the epoch lasted, up to twice what it should: nobody is paid
// for a time in which the chain stood.
func (e *Epoch) span(env *Env) Span {
	return Span{
		SinceGenesis: sound(checked.Sub(uint64(e.StartMs), uint64(e.GenesisMs))),
		Length:       min(sound(checked.Sub(uint64(env.Now), uint64(e.StartMs))), 2*env.Params.EpochMs),
	}
}

const yearMs = 365 * 24 * 3600 * 1000

// Inflation returns what is minted for a span of time:
//
//	⌊supply · rate(y) · length / year⌋ · min(1, target / bonded)
//
// where supply is what was minted and not burned, y the whole years since
// genesis, and
//
//	rate(0) = inflation,  rate(y+1) = max(⌊rate(y) · (1 − decay)⌋, floor).
//
// The decay is that of Solana's schedule ("Solana Proposed Inflation Schedule",
// docs.solana.com), the pull toward the target bonded ratio that of Cosmos'
// x/mint: up to the target the same sum is divided among what is bonded, so that
// a share yields more the less is bonded; above it the sum shrinks as well.
// Every division rounds down.
func Inflation(p *chain.Params, s tokens.Supply, bonded chain.Amount, span Span) chain.Amount {
	supply := less(s.Minted, s.Burned)
	product, ok1 := checked.WideOf(supply.Nano()).Mul(annualBps(p, span.SinceGenesis/yearMs))
	product, ok2 := product.Mul(span.Length)
	minted, ok := product.DivFloor(wholeBps * yearMs)
	if !ok1 || !ok2 || !ok {
		return chain.Amount{}
	}
	target := sound(supply.ShareFloor(uint64(p.TargetBondedBps), wholeBps))
	out := chain.Nano(minted)
	if target.Less(bonded) {
		out = sound(out.ShareFloor(target.Nano(), bonded.Nano()))
	}
	if _, ok := s.Minted.Add(out); !ok {
		return chain.Amount{} // what was ever minted fits an Amount
	}
	return out
}

// annualBps returns the rate of a year, in 1/10,000.
func annualBps(p *chain.Params, year uint64) uint64 {
	rate, floor := uint64(p.InflationBps), uint64(p.InflationFloorBps)
	for ; year > 0 && rate > floor; year-- {
		next := max(rate*(wholeBps-uint64(p.InflationDecayBps))/wholeBps, floor)
		if next == rate {
			break
		}
		rate = next
	}
	return rate
}
