package main

import (
	"context"

	"github.com/hypermesh/hypermesh/consensus"
)

const (
	// shrinkTries bounds the simulations of one shrinking, and shrinkSeeds those
	// of one smaller plan: a plan that is smaller draws differently, so its seed
	// is looked for.
	shrinkTries = 300
	shrinkSeeds = 12
)

// shrink looks for a smaller plan that violates the same rule: fewer views,
// fewer faults, fewer validators, shorter storms. It returns the smallest found
// with its seed.
func shrink(ctx context.Context, p plan, seed uint64, r rule) (plan, uint64) {
	tries := shrinkTries
	fails := func(candidate plan) (uint64, bool) {
		for i := range uint64(shrinkSeeds) {
			other := seed
			if i > 0 {
				other = i
			}
			if tries--; tries < 0 {
				return 0, false
			}
			o, err := simulate(ctx, candidate, other)
			if err != nil {
				tries = 0
			} else if o.failure != nil && o.failure.rule == r {
				return other, true
			}
		}
		return 0, false
	}
	p.trace = nil
	for again := true; again; {
		again = false
		for _, candidate := range p.smaller() {
			if found, ok := fails(candidate); ok {
				p, seed, again = candidate, found, true
				break
			}
		}
	}
	return p, seed
}

// smaller returns plans that are one step smaller, the boldest first.
func (p plan) smaller() []plan {
	var out []plan
	for _, views := range []consensus.View{1, p.views / 4, p.views / 2, p.views - 1} {
		if views > 0 && views < p.views {
			q := p
			q.views = views
			out = append(out, q)
		}
	}
	for _, known := range faultNames {
		if p.faults&known.fault != 0 {
			out = append(out, p.recast(p.cast.validators, p.faults&^known.fault))
		}
	}
	for _, n := range []int{p.cast.validators / 2, p.cast.validators - 1} {
		if n > 0 && n < p.cast.validators && 3*p.crashed < n {
			out = append(out, p.recast(n, p.faults))
		}
	}
	if half := p.storm / 2; half >= 50*ms {
		q := p
		q.storm = half
		out = append(out, q)
	}
	return out
}

// recast is the plan with other validators and faults.
func (p plan) recast(validators int, set faults) plan {
	q := p
	fresh := newPlan(validators, p.views, set)
	q.cast, q.faults = fresh.cast, fresh.faults
	return q
}
