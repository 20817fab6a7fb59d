package staking

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Bounds of what one account and one validator may make others look at.
const (
	// MaxPositions is how many delegations and redelegations an account has at
	// once.
	MaxPositions = 64
	// MaxTargets is how many validators stake may move to from one validator
	// within an epoch.
	MaxTargets = 32
)

// MinDelegation is the least that is delegated or redelegated at a time.
var MinDelegation = chain.Hyper(1)

// DelegationOf returns what an account has at a validator, without
// redelegations that are still liable elsewhere.
func DelegationOf(r state.Reader, delegator chain.Address, id ID) (Delegation, bool) {
	return state.Load[Delegation](r, DelegationKey(delegator, id))
}

// Delegate adds to the sender's stake at a validator.
func Delegate(kv state.KV, env *Env, from chain.Address, m chain.Delegate) (chain.Event, *chain.Rejection) {
	if m.Amount.Less(MinDelegation) {
		return nil, chain.Reject("delegation of %s, the least is %s", m.Amount, MinDelegation)
	}
	if why := tokens.Debit(kv, from, m.Amount, env.Now); why != nil {
		return nil, why
	}
	if why := addStake(kv, env.Epoch, from, m.Validator, m.Amount); why != nil {
		return nil, why
	}
	return chain.Delegated{Validator: m.Validator, Delegator: from, Amount: m.Amount}, nil
}

// addStake turns an amount, which the caller took from somewhere, into stake of
// an account. A rejection leaves changes behind that the caller discards.
func addStake(kv state.KV, e consensus.Epoch, delegator chain.Address, id ID, amount chain.Amount) *chain.Rejection {
	v, ok := ValidatorOf(kv, id)
	if !ok {
		return chain.Reject("validator %s is not bonded", id.Short())
	}
	shares, why := v.issue(amount)
	if why != nil {
		return why
	}
	d, known := DelegationOf(kv, delegator, id)
	if !known {
		if why := addPosition(kv, delegator); why != nil {
			return why
		}
	}
	t := openTill(kv, id, e)
	d.count(t)
	d.join(t, shares)
	if delegator == v.Owner {
		v.SelfShares += shares
	}
	t.save()
	state.Save(kv, DelegationKey(delegator, id), d)
	state.Save(kv, ValidatorKey(id), v)
	return nil
}

// issue adds an amount to the stake and returns the shares for it:
// ⌊amount · shares / stake⌋, or one for each nHYPER if there are none.
func (v *Validator) issue(amount chain.Amount) (uint64, *chain.Rejection) {
	if v.Tombstoned {
		return 0, chain.Reject("validator %s was convicted and takes no stake", v.ID.Short())
	}
	shares := amount.Nano()
	if v.Shares > 0 {
		var ok bool
		if shares, ok = checked.MulDivFloor(amount.Nano(), v.Shares, v.Stake.Nano()); !ok {
			return 0, chain.Reject("a share of validator %s is worth too little", v.ID.Short())
		}
	}
	total, ok := checked.Add(v.Shares, shares)
	if !ok || shares == 0 {
		return 0, chain.Reject("%s is %d shares of validator %s, which has %d", amount, shares, v.ID.Short(), v.Shares)
	}
	v.Shares, v.Stake = total, sum(v.Stake, amount)
	return shares, nil
}

// addPosition counts one more delegation or redelegation of an account.
func addPosition(kv state.KV, a chain.Address) *chain.Rejection {
	n, _ := state.Load[uint64](kv, positionsKey(a)) // none: zero
	if n >= MaxPositions {
		return chain.Reject("%s has %d delegations and redelegations, the limit", a.Short(), n)
	}
	state.Save(kv, positionsKey(a), n+1)
	return nil
}

func dropPosition(kv state.KV, a chain.Address) {
	n, _ := state.Load[uint64](kv, positionsKey(a)) // none: zero
	if n = sound(checked.Sub(n, 1)); n == 0 {
		kv.Delete(positionsKey(a))
		return
	}
	state.Save(kv, positionsKey(a), n)
}

// takeStake takes an amount, or all if it is zero, out of an account's plain
// delegation and returns how much that is. An account that has nothing left is
// paid its rewards; a validator that has no shares left is gone.
func takeStake(kv state.KV, e consensus.Epoch, delegator chain.Address, id ID, amount chain.Amount) (chain.Amount, *chain.Rejection) {
	v, ok := ValidatorOf(kv, id)
	if !ok {
		return amount, chain.Reject("validator %s is not bonded", id.Short())
	}
	d, ok := DelegationOf(kv, delegator, id)
	if !ok {
		return amount, chain.Reject("%s has no stake at validator %s that may leave it", delegator.Short(), id.Short())
	}
	worth, shares := v.worth(d.Shares), d.Shares
	switch {
	case amount.IsZero():
		amount = worth
	case worth.Less(amount):
		return amount, chain.Reject("%s may take %s out of validator %s, not %s", delegator.Short(), worth, id.Short(), amount)
	default:
		// ⌈amount · shares / stake⌉ ≤ d.Shares, as amount ≤ ⌊d.Shares · stake / shares⌋.
		shares = sound(checked.MulDivCeil(amount.Nano(), v.Shares, v.Stake.Nano()))
	}
	t := openTill(kv, id, e)
	d.count(t)
	d.leave(t, shares)
	v.Shares, v.Stake = v.Shares-shares, less(v.Stake, amount)
	if delegator == v.Owner {
		v.SelfShares -= shares
	}
	if d.Shares == 0 {
		tokens.Credit(kv, delegator, t.pay(d.Owed))
		kv.Delete(DelegationKey(delegator, id))
		dropPosition(kv, delegator)
	} else {
		state.Save(kv, DelegationKey(delegator, id), d)
	}
	if v.Shares == 0 {
		retire(kv, &v, &t.Purse)
		return amount, nil
	}
	t.save()
	state.Save(kv, ValidatorKey(id), v)
	return amount, nil
}

// retire removes a validator whose last share is gone. Its keys stay taken, and
// what has left it stays liable.
func retire(kv state.KV, v *Validator, purse *Purse) {
	tokens.Credit(kv, v.Owner, purse.Commission)
	toPot(kv, sum(purse.Held, v.Stake)) // what rounding left
	kv.Delete(PurseKey(v.ID))
	kv.Delete(ValidatorKey(v.ID))
	kv.Delete(resourceKey(v.ID))
	if onRoll(kv, v.ID) {
		kv.Delete(rollKey(v.ID))
		countRegistered(kv, -1)
	}
}

// Undelegate takes stake out of a validator into the unbonding queue.
func Undelegate(kv state.KV, env *Env, from chain.Address, m chain.Undelegate) (chain.Event, *chain.Rejection) {
	absorb(kv, env, from, m.Validator)
	amount, why := takeStake(kv, env.Epoch, from, m.Validator, m.Amount)
	if why != nil {
		return nil, why
	}
	if why := unbond(kv, env.Epoch, from, m.Validator, amount); why != nil {
		return nil, why
	}
	return chain.Undelegated{Validator: m.Validator, Delegator: from, Amount: amount, Epoch: chain.Number(env.Epoch)}, nil
}

// unbond puts an amount that left a validator into the pool of its epoch. An
// account has at most one part of a pool, so one entry in the queue for each
// validator and epoch.
func unbond(kv state.KV, e consensus.Epoch, delegator chain.Address, id ID, amount chain.Amount) *chain.Rejection {
	if amount.IsZero() {
		return nil
	}
	pool, _ := state.Load[Pool](kv, UnbondingKey(id, e)) // none: empty
	shares, ok := amount.Nano(), true
	if pool.Shares > 0 {
		shares, ok = checked.MulDivFloor(shares, pool.Shares, pool.Stake.Nano()) // a slash leaves some
	}
	total, fits := checked.Add(pool.Shares, shares)
	if !ok || !fits {
		return chain.Reject("stake that left validator %s in epoch %d is worth too little to be joined", id.Short(), e)
	}
	pool.Shares, pool.Stake = total, sum(pool.Stake, amount)
	state.Save(kv, UnbondingKey(id, e), pool)
	key := QueueKey(e, id, delegator)
	own, _ := state.Load[uint64](kv, key) // none: zero
	state.Save(kv, key, own+shares)
	return nil
}

// liableUntil returns until when stake that left a validator in an epoch is
// liable, and false while that is not known: its weight serves to the end of the
// next epoch, and the unbonding period begins then.
func liableUntil(r state.Reader, env *Env, e consensus.Epoch) (chain.TimeMs, bool) {
	if e+1 >= env.Epoch {
		return 0, false
	}
	end, ok := state.Load[ended](r, endedKey(e+1))
	if !ok {
		return 0, true // so long ago that the record is gone
	}
	return chain.TimeMs(sound(checked.Add(uint64(end.At), env.Params.UnbondingMs()))), true
}

// free reports whether stake that left a validator in an epoch is no longer
// liable.
func free(r state.Reader, env *Env, e consensus.Epoch) bool {
	until, known := liableUntil(r, env, e)
	return known && env.Now >= until
}

// Release moves stake that is no longer liable into balances, at most limit
// entries of the queue: in order of epoch, validator and account.
func Release(kv state.KV, env *Env, limit int) chain.Events {
	var events chain.Events
	prefix := []byte{Prefix, kindQueue}
	first := list[uint64](kv, prefix, prefix, 1)
	if len(first) == 0 || !free(kv, env, epochIn(first[0].key)) {
		return nil
	}
	// Whatever is queued with the oldest epoch is due with it; the next epoch's
	// has its turn in the next block.
	oldest := first[0].key[:2+8]
	for _, entry := range list[uint64](kv, oldest, oldest, limit) {
		id, delegator := ID(entry.key[10:42]), chain.Address(entry.key[42:])
		key := UnbondingKey(id, epochIn(entry.key))
		pool, _ := state.Load[Pool](kv, key)
		out := pool.worth(entry.record)
		pool.Shares, pool.Stake = pool.Shares-entry.record, less(pool.Stake, out)
		if pool.Shares == 0 {
			toPot(kv, pool.Stake) // what rounding left
			kv.Delete(key)
		} else {
			state.Save(kv, key, pool)
		}
		kv.Delete(entry.key)
		tokens.Credit(kv, delegator, out)
		events = append(events, chain.Matured{To: delegator, Amount: out})
	}
	return events
}

// epochIn reads the epoch that follows the kind in a key of the queue.
func epochIn(key []byte) consensus.Epoch {
	return consensus.Epoch(binary.BigEndian.Uint64(key[2:10]))
}
