package staking

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Redelegate moves stake from one validator to another at once. Until it is no
// longer liable for the first, it can be neither redelegated nor undelegated:
// no second hop.
func Redelegate(kv state.KV, env *Env, from chain.Address, m chain.Redelegate) (chain.Event, *chain.Rejection) {
	if m.From == m.To {
		return nil, chain.Reject("redelegation within validator %s", m.From.Short())
	}
	absorb(kv, env, from, m.From)
	amount, why := takeStake(kv, env.Epoch, from, m.From, m.Amount)
	if why != nil {
		return nil, why
	}
	if amount.Less(MinDelegation) {
		return nil, chain.Reject("redelegation of %s, the least is %s", amount, MinDelegation)
	}
	if why := addHop(kv, env, from, m, amount); why != nil {
		return nil, why
	}
	return chain.Redelegated{From: m.From, To: m.To, Delegator: from, Amount: amount, Epoch: chain.Number(env.Epoch)}, nil
}

// addHop turns an amount that left m.From into stake at m.To that stays liable
// for both.
func addHop(kv state.KV, env *Env, delegator chain.Address, m chain.Redelegate, amount chain.Amount) *chain.Rejection {
	v, ok := ValidatorOf(kv, m.To)
	if !ok {
		return chain.Reject("validator %s is not bonded", m.To.Short())
	}
	shares, why := v.issue(amount)
	if why != nil {
		return why
	}
	key := hopPoolKey(m.From, env.Epoch, m.To)
	pool, known := state.Load[hopPool](kv, key)
	if !known {
		prefix := key[:2+len(m.From)+8]
		if n := len(list[hopPool](kv, prefix, prefix, MaxTargets)); n == MaxTargets {
			return chain.Reject("stake moved from validator %s to %d others in epoch %d, the limit", m.From.Short(), n, env.Epoch)
		}
	}
	units := shares
	if pool.Units > 0 {
		units, ok = checked.MulDivFloor(shares, pool.Units, pool.Shares) // a slash leaves some
		if _, fits := checked.Add(pool.Units, units); !ok || !fits || units == 0 {
			return chain.Reject("what moved from validator %s to %s in epoch %d is worth too little to be joined", m.From.Short(), m.To.Short(), env.Epoch)
		}
	}
	own := hopKey(delegator, m.To, env.Epoch, m.From)
	h, known := state.Load[hop](kv, own)
	if !known {
		if why := addPosition(kv, delegator); why != nil {
			return why
		}
	}
	t := openTill(kv, m.To, env.Epoch)
	t.Fresh = addFresh(t.Fresh, env.Epoch, shares)
	pool.Shares, pool.Units, h.Units = pool.Shares+shares, pool.Units+units, h.Units+units
	t.save()
	state.Save(kv, key, pool)
	state.Save(kv, own, h)
	state.Save(kv, ValidatorKey(m.To), v)
	return nil
}

// hopsOf returns an account's redelegations to a validator.
func hopsOf(r state.Reader, delegator chain.Address, to ID) []found[hop] {
	prefix := keyOf(kindHop, delegator[:], to[:])
	return list[hop](r, prefix, prefix, 0) // bounded by MaxPositions
}

// origin reads what the key of a hop says of where it came from.
func origin(key []byte) (consensus.Epoch, ID) {
	return consensus.Epoch(binary.BigEndian.Uint64(key[66:74])), ID(key[74:])
}

// absorb turns an account's redelegations to a validator that are no longer
// liable elsewhere into plain delegation.
func absorb(kv state.KV, env *Env, delegator chain.Address, to ID) {
	for _, f := range hopsOf(kv, delegator, to) {
		epoch, from := origin(f.key)
		if !free(kv, env, epoch) {
			continue
		}
		v, _ := ValidatorOf(kv, to) // it has shares, the pool's
		t := openTill(kv, to, env.Epoch)
		key := hopPoolKey(from, epoch, to)
		pool, _ := state.Load[hopPool](kv, key)
		h := f.record
		pool.count(t, epoch) // it earns: its weight is in committees since longer than it is liable
		h.count(&pool)
		shares := sound(checked.MulDivFloor(h.Units, pool.Shares, pool.Units))
		pool.Shares, pool.Units = pool.Shares-shares, pool.Units-h.Units
		d, known := DelegationOf(kv, delegator, to)
		d.count(t)
		d.Shares, d.Owed = d.Shares+shares, sum(d.Owed, h.Owed)
		state.Save(kv, DelegationKey(delegator, to), d)
		kv.Delete(f.key)
		if known {
			dropPosition(kv, delegator)
		}
		if delegator == v.Owner {
			v.SelfShares += shares
			state.Save(kv, ValidatorKey(to), v)
		}
		if pool.Units == 0 {
			kv.Delete(key) // the last has all of its shares; what rounding left of rewards is in the purse
			continue
		}
		state.Save(kv, key, pool)
	}
}

// collect takes what an account has earned as a delegator out of a till, which
// the caller saves, and returns it.
func collect(t *till, account chain.Address) chain.Amount {
	var earned chain.Amount
	if d, ok := DelegationOf(t.kv, account, t.id); ok {
		d.count(t)
		earned, d.Owed = d.Owed, chain.Amount{}
		state.Save(t.kv, DelegationKey(account, t.id), d)
	}
	for _, f := range hopsOf(t.kv, account, t.id) {
		epoch, from := origin(f.key)
		key := hopPoolKey(from, epoch, t.id)
		pool, _ := state.Load[hopPool](t.kv, key)
		h := f.record
		pool.count(t, epoch)
		h.count(&pool)
		earned, h.Owed = sum(earned, h.Owed), chain.Amount{}
		state.Save(t.kv, key, pool)
		state.Save(t.kv, f.key, h)
	}
	return t.pay(earned)
}

// WithdrawRewards takes what the sender has earned at a validator.
func WithdrawRewards(kv state.KV, env *Env, from chain.Address, m chain.WithdrawRewards) (chain.Event, *chain.Rejection) {
	v, ok := ValidatorOf(kv, m.Validator)
	if !ok {
		return nil, chain.Reject("validator %s is not bonded", m.Validator.Short())
	}
	absorb(kv, env, from, m.Validator)
	t := openTill(kv, m.Validator, env.Epoch)
	amount := collect(t, from)
	var commission chain.Amount
	if v.Owner == from {
		commission, t.Commission = t.Commission, chain.Amount{}
	}
	t.save()
	amount = sum(amount, commission)
	if amount.IsZero() {
		return nil, chain.Reject("%s has earned nothing at validator %s", from.Short(), m.Validator.Short())
	}
	if !m.Restake {
		tokens.Credit(kv, from, amount)
	} else if why := addStake(kv, env.Epoch, from, m.Validator, amount); why != nil {
		return nil, why
	}
	return chain.RewardsWithdrawn{Validator: m.Validator, Account: from, Amount: amount, Commission: commission, Restaked: m.Restake}, nil
}
