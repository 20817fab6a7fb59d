package staking

import (
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Fault is a conviction. A validator has at most one: it is out for ever, and
// what it did in other rounds changes nothing.
type Fault struct {
	_       struct{} `cbor:",toarray"`
	Epoch   consensus.Epoch
	View    consensus.View
	Weight  uint64 // the validator's, in the epoch's committee
	Total   uint64 // the committee's
	RatePpm uint64 // what it has lost of its stake at the time, in 1/1,000,000
}

// FaultOf returns a validator's conviction, and false if it has none.
func FaultOf(r state.Reader, id ID) (Fault, bool) { return state.Load[Fault](r, faultKey(id)) }

const (
	wholePpm = 1_000_000
	// companyFactor is how the rate rises: at a third of the weight all is lost.
	companyFactor = 3
)

// ReportEvidence convicts validators; the sender gets the reporter's share.
func ReportEvidence(kv state.KV, env *Env, from chain.Address, m chain.ReportEvidence) (chain.Events, *chain.Rejection) {
	e, err := consensus.DecodeEvidence(m.Evidence)
	if err != nil {
		return nil, chain.Reject("evidence: %v", err)
	}
	return convict(kv, env, e, from)
}

// charge is a member to convict.
type charge struct {
	id    ID
	fault Fault
}

// accused verifies evidence and returns the charges that are new.
func accused(r state.Reader, env *Env, e consensus.Evidence) ([]charge, *chain.Rejection) {
	round := e.Round()
	if until, over := expiry(r, env, round.Epoch); over {
		return nil, chain.Reject("evidence of epoch %d was taken until %d ms, it is %d", round.Epoch, until, env.Now)
	}
	committee, members, ok := CommitteeOf(r, round.Epoch)
	if !ok {
		return nil, chain.Reject("evidence of epoch %d, whose committee is not known", round.Epoch)
	}
	signers, err := e.Convict(committee, string(env.ChainID))
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	total := weightOf(members)
	var charges []charge
	for _, s := range signers {
		m := &members[s]
		if _, known := FaultOf(r, m.ID); !known {
			charges = append(charges, charge{m.ID, Fault{Epoch: round.Epoch, View: round.View, Weight: m.Weight, Total: total}})
		}
	}
	if len(charges) == 0 {
		return nil, chain.Reject("everybody whom the evidence of round (%d, %d) convicts was convicted before", round.Epoch, round.View)
	}
	return charges, nil
}

// expiry returns until when evidence of an epoch is taken, and whether that is
// over: for the unbonding period after the epoch ended, so for as long as the
// stake that stood behind its votes is held.
func expiry(r state.Reader, env *Env, e consensus.Epoch) (chain.TimeMs, bool) {
	if e >= env.Epoch {
		return 0, false
	}
	end, ok := state.Load[ended](r, endedKey(e))
	if !ok {
		return 0, true
	}
	until := chain.TimeMs(sound(checked.Add(uint64(end.At), env.Params.UnbondingMs())))
	return until, env.Now >= until
}

func weightOf(members []Member) uint64 {
	total := uint64(0)
	for i := range members {
		total += members[i].Weight // a committee's weights fit
	}
	return total
}

// convict slashes and tombstones whom the evidence shows at fault. It changes
// nothing if it rejects.
func convict(kv state.KV, env *Env, e consensus.Evidence, reporter chain.Address) (chain.Events, *chain.Rejection) {
	charges, why := accused(kv, env, e)
	if why != nil {
		return nil, why
	}
	for _, c := range charges {
		state.Save(kv, faultKey(c.id), c.fault)
		if v, ok := ValidatorOf(kv, c.id); ok {
			v.Tombstoned, v.FactorBps = true, 0
			state.Save(kv, ValidatorKey(c.id), v)
		}
	}
	return level(kv, env, reporter), nil
}

// level raises what every validator convicted of a fault within the window has
// lost to the rate of the company it is in, max(least, 3 · weight at fault / W).
// So it does not matter in which order faults become known.
func level(kv state.KV, env *Env, reporter chain.Address) chain.Events {
	prefix := []byte{Prefix, kindFault}
	var recent []found[Fault]
	company := uint64(0)
	for _, f := range list[Fault](kv, prefix, prefix, 0) {
		if _, over := expiry(kv, env, f.record.Epoch); !over {
			recent = append(recent, f)
			company += f.record.Weight // at most the supply for each epoch of the window
		}
	}
	var events chain.Events
	for _, f := range recent {
		fault, id := f.record, ID(f.key[2:])
		rate := max(uint64(env.Params.EquivocationBps)*(wholePpm/wholeBps), rateOf(company, fault.Total))
		if rate <= fault.RatePpm {
			continue
		}
		// What is left after the earlier slash loses so much that the whole has
		// lost the rate.
		lost := slash(kv, id, fault.Epoch, part{rate - fault.RatePpm, wholePpm - fault.RatePpm})
		fault.RatePpm = rate
		state.Save(kv, f.key, fault)
		reward := sound(lost.ShareFloor(uint64(env.Params.ReporterBps), wholeBps))
		tokens.Credit(kv, reporter, reward)
		tokens.Burn(kv, less(lost, reward))
		events = append(events, chain.ValidatorSlashed{
			Validator: id, Epoch: uint64(fault.Epoch), View: uint64(fault.View), RatePpm: uint32(rate),
			Amount: lost, Reporter: reporter, Reward: reward,
		})
	}
	return events
}

// rateOf returns ⌈3 · company / total⌉ in 1/1,000,000, at most the whole.
func rateOf(company, total uint64) uint64 {
	tripled, ok := checked.Mul(company, companyFactor)
	if !ok {
		return wholePpm
	}
	rate, ok := checked.MulDivCeil(tripled, wholePpm, total)
	if !ok {
		return wholePpm
	}
	return min(rate, wholePpm)
}

// part is a fraction, at most one.
type part struct{ num, den uint64 }

// of returns ⌈n · part⌉, but leaves one of n: a share always has a price.
func (p part) of(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return min(sound(checked.MulDivCeil(n, p.num, p.den)), n-1)
}

func (p part) ofAmount(a chain.Amount) chain.Amount { return chain.Nano(p.of(a.Nano())) }

// slash takes a part of all stake that may have stood behind a validator's votes
// in an epoch: what it has, what left it since the epoch before, and what moved
// from it to others since then, because the weight of stake that leaves serves
// for another epoch. It returns how much that was.
func slash(kv state.KV, id ID, e consensus.Epoch, p part) chain.Amount {
	var lost chain.Amount
	if v, ok := ValidatorOf(kv, id); ok {
		lost = p.ofAmount(v.Stake)
		v.Stake = less(v.Stake, lost)
		state.Save(kv, ValidatorKey(id), v)
	}
	from := max(e, 1) - 1
	for _, f := range list[Pool](kv, keyOf(kindUnbonding, id[:]), UnbondingKey(id, from), 0) {
		pool := f.record
		cut := p.ofAmount(pool.Stake)
		pool.Stake, lost = less(pool.Stake, cut), sum(lost, cut)
		state.Save(kv, f.key, pool)
	}
	for _, f := range list[hopPool](kv, keyOf(kindHopPool, id[:]), keyOf(kindHopPool, id[:], big(uint64(from))), 0) {
		lost = sum(lost, slashHops(kv, f, p))
	}
	return lost
}

// slashHops takes a part of the shares of stake that moved on, and what they are
// worth where they are.
func slashHops(kv state.KV, f found[hopPool], p part) chain.Amount {
	pool, to := f.record, ID(f.key[42:])
	v, _ := ValidatorOf(kv, to) // it has shares, the pool's
	purse := PurseOf(kv, to)
	pool.count(&purse)
	shares := p.of(pool.Shares)
	cut := v.worth(shares)
	pool.Shares -= shares
	v.Shares, v.Stake = v.Shares-shares, less(v.Stake, cut)
	state.Save(kv, f.key, pool)
	state.Save(kv, ValidatorKey(to), v)
	return cut
}
