package staking

import (
	"cmp"
	"encoding/binary"
	"math/bits"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Fault is a validator's conviction. It is out for ever, and has one record:
// the rate rises with the weight that is at fault, not with how often it is, for
// breaking the rules once more with the same weight endangers nothing that once
// did not. So what else it did adds nothing, unless it was earlier, when stake
// stood behind it that has left since; later, so that it is company for whoever
// is at fault then; or when more of the weight was its own. Otherwise whoever is
// about to be convicted of a great fault would report a small one, or one about
// to be forgotten, of its own before.
type Fault struct {
	_       struct{} `cbor:",toarray"`
	Owner   chain.Address
	Epoch   consensus.Epoch // of its earliest fault that is known
	View    consensus.View  // of the same
	Last    consensus.Epoch // of its latest: it is company for as long as evidence of that is taken
	Weight  uint64          // the validator's, in the committee in which its part was greatest
	Total   uint64          // that committee's
	RatePpm uint64          // what it has lost of its stake since Epoch, in 1/1,000,000
}

// with returns the record with one more fault in it, and whether that makes it
// worse.
func (f Fault) with(g Fault) (worse Fault, ok bool) {
	worse = f
	if g.Epoch < f.Epoch {
		worse.Epoch, worse.View = g.Epoch, g.View
	}
	worse.Last = max(f.Last, g.Last)
	if g.part().cmp(f.part()) > 0 {
		worse.Weight, worse.Total = g.Weight, g.Total
	}
	return worse, worse != f
}

func (f *Fault) part() part { return part{f.Weight, f.Total} }

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

// Charged is the record of a validator if a member of an epoch's committee is
// convicted of a round of the epoch, and whether that is worse than what is on
// record. The evidence is not looked at.
func Charged(r state.Reader, members []Member, s consensus.Signer, round consensus.Round) (Fault, bool) {
	m := &members[s]
	fault := Fault{Owner: m.Owner, Epoch: round.Epoch, View: round.View, Last: round.Epoch, Weight: m.Weight, Total: weightOf(members)}
	known, ok := FaultOf(r, m.ID)
	if !ok {
		return fault, true
	}
	return known.with(fault)
}

// charge is a member to convict.
type charge struct {
	id    ID
	fault Fault
}

// accused verifies evidence and returns the charges that change a record.
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
	var charges []charge
	for _, s := range signers {
		if fault, worse := Charged(r, members, s, round); worse {
			charges = append(charges, charge{members[s].ID, fault})
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
	var events chain.Events
	for _, c := range charges {
		if known, ok := FaultOf(kv, c.id); ok && c.fault.Epoch < known.Epoch {
			// What left before the fault on record, but not before this one, has lost
			// nothing yet.
			lost := slashLeft(kv, c.id, known.Owner, leaving{reach(c.fault.Epoch), reach(known.Epoch), env.Epoch}, part{known.RatePpm, wholePpm})
			events = append(events, settle(kv, env, reporter, c, lost))
		}
		state.Save(kv, faultKey(c.id), c.fault)
		if v, ok := ValidatorOf(kv, c.id); ok {
			v.Tombstoned, v.FactorBps = true, 0
			state.Save(kv, ValidatorKey(c.id), v)
		}
	}
	return append(events, level(kv, env, reporter)...), nil
}

// level raises what every validator convicted of a fault within the window has
// lost to the rate of the company it is in, max(least, 3 · weight at fault / W).
// So it does not matter in which order faults become known.
func level(kv state.KV, env *Env, reporter chain.Address) chain.Events {
	prefix := []byte{Prefix, kindFault}
	var recent []found[Fault]
	company := uint64(0)
	for _, f := range list[Fault](kv, prefix, prefix, 0) {
		if _, over := expiry(kv, env, f.record.Last); !over {
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
		lost := slash(kv, id, fault.Owner, leftSince(env, fault.Epoch), part{rate - fault.RatePpm, wholePpm - fault.RatePpm})
		fault.RatePpm = rate
		state.Save(kv, f.key, fault)
		events = append(events, settle(kv, env, reporter, charge{id, fault}, lost))
	}
	return events
}

// loss is what a slash took.
type loss struct {
	all chain.Amount
	own chain.Amount // of it, out of the owner's stake where it was or in the queue; at most
}

func (l loss) plus(all, own chain.Amount) loss { return loss{sum(l.all, all), sum(l.own, own)} }

// settle gives a reporter its share of what was lost, and burns the rest. The
// share is at most half of what the owner itself lost: else a validator with
// little stake of its own would report itself for a share of its delegators'.
func settle(kv state.KV, env *Env, reporter chain.Address, c charge, lost loss) chain.ValidatorSlashed {
	reward := sound(lost.all.ShareFloor(uint64(env.Params.ReporterBps), wholeBps))
	if most := chain.Nano(lost.own.Nano() / 2); most.Less(reward) {
		reward = most
	}
	tokens.Credit(kv, reporter, reward)
	tokens.Burn(kv, less(lost.all, reward))
	return chain.ValidatorSlashed{
		Validator: c.id, Epoch: chain.Number(c.fault.Epoch), View: chain.Number(c.fault.View), RatePpm: uint32(c.fault.RatePpm),
		Amount: lost.all, Reporter: reporter, Reward: reward,
	}
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

// cmp orders fractions by how much they are, then by their numerators, so that
// of two the greater does not depend on which came first.
func (p part) cmp(q part) int {
	high, low := bits.Mul64(p.num, q.den)
	otherHigh, otherLow := bits.Mul64(q.num, p.den)
	return cmp.Or(cmp.Compare(high, otherHigh), cmp.Compare(low, otherLow), cmp.Compare(p.num, q.num))
}

// of returns ⌈n · part⌉, but leaves one of n: a share always has a price.
func (p part) of(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return min(sound(checked.MulDivCeil(n, p.num, p.den)), n-1)
}

func (p part) ofAmount(a chain.Amount) chain.Amount { return chain.Nano(p.of(a.Nano())) }

// reach returns the first epoch such that stake which left a validator in it
// served in an epoch: the weight of stake that leaves serves for another epoch.
func reach(e consensus.Epoch) consensus.Epoch { return max(e, 1) - 1 }

// slash takes a part of all stake that may have stood behind a validator's
// votes: what it has, fresh or not, and what left it or moved from it to others
// in some epochs.
func slash(kv state.KV, id ID, owner chain.Address, in leaving, p part) loss {
	var lost loss
	if v, ok := ValidatorOf(kv, id); ok {
		cut, own := p.ofAmount(v.Stake), v.SelfBond()
		v.Stake = less(v.Stake, cut)
		state.Save(kv, ValidatorKey(id), v)
		lost = lost.plus(cut, less(own, v.SelfBond()))
	}
	left := slashLeft(kv, id, owner, in, p)
	return lost.plus(left.all, left.own)
}

// leaving is the epochs from the first on and before the end, looked at from
// the present one.
type leaving struct{ first, end, now consensus.Epoch }

// leftSince is when stake left that may have stood behind votes since an epoch.
func leftSince(env *Env, e consensus.Epoch) leaving { return leaving{reach(e), 1<<64 - 1, env.Epoch} }

// slashLeft takes a part of the stake that left a validator, or moved from it to
// others, in some epochs.
func slashLeft(kv state.KV, id ID, owner chain.Address, in leaving, p part) loss {
	var lost loss
	for _, f := range list[Pool](kv, keyOf(kindUnbonding, id[:]), UnbondingKey(id, in.first), 0) {
		e := consensus.Epoch(binary.BigEndian.Uint64(f.key[34:]))
		if e >= in.end {
			break
		}
		pool := f.record
		cut := p.ofAmount(pool.Stake)
		shares, _ := state.Load[uint64](kv, QueueKey(e, id, owner)) // none: zero
		own := sound(cut.ShareFloor(shares, pool.Shares))
		pool.Stake, lost = less(pool.Stake, cut), lost.plus(cut, own)
		state.Save(kv, f.key, pool)
	}
	for _, f := range list[hopPool](kv, keyOf(kindHopPool, id[:]), keyOf(kindHopPool, id[:], big(uint64(in.first))), 0) {
		if movedIn(f.key) >= in.end {
			break
		}
		lost = lost.plus(slashHops(kv, f, in.now, p), chain.Amount{})
	}
	return lost
}

// slashHops takes a part of the shares of stake that moved on, and what they are
// worth where they are.
func slashHops(kv state.KV, f found[hopPool], now consensus.Epoch, p part) chain.Amount {
	pool, to := f.record, ID(f.key[42:])
	v, _ := ValidatorOf(kv, to) // it has shares, the pool's
	t := openTill(kv, to, now)
	pool.count(t, movedIn(f.key))
	shares := p.of(pool.Shares)
	cut := v.worth(shares)
	pool.lose(t, movedIn(f.key), shares)
	v.Shares, v.Stake = v.Shares-shares, less(v.Stake, cut)
	state.Save(kv, f.key, pool)
	state.Save(kv, ValidatorKey(to), v)
	return cut
}

// movedIn reads the epoch in a key of stake that moved.
func movedIn(key []byte) consensus.Epoch {
	return consensus.Epoch(binary.BigEndian.Uint64(key[34:42]))
}
