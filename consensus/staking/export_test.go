package staking

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// What tests look at from inside.
var (
	StepOf  = stepOf
	Spread  = spread
	RateOf  = rateOf
	FreeNow = free

	Registered = registered
)

// Times is what an index is for a number of shares.
func (i Index) Times(shares uint64) uint64 {
	floor, _ := i.times(shares)
	return floor
}

// PartOf is what a slash of num / den takes of n.
func PartOf(n, num, den uint64) uint64 { return part{num, den}.of(n) }

// UnbondingOf returns what left a validator in an epoch and is held.
func UnbondingOf(r state.Reader, id ID, e consensus.Epoch) Pool {
	pool, _ := state.Load[Pool](r, UnbondingKey(id, e))
	return pool
}

// HopsWorth returns what an account's redelegations to a validator are worth.
func HopsWorth(r state.Reader, delegator chain.Address, to ID) chain.Amount {
	var worth chain.Amount
	v, _ := ValidatorOf(r, to)
	for _, f := range hopsOf(r, delegator, to) {
		epoch, from := origin(f.key)
		pool, _ := state.Load[hopPool](r, hopPoolKey(from, epoch, to))
		worth = sum(worth, v.worth(sound(checked.MulDivFloor(pool.Shares, f.record.Units, pool.Units))))
	}
	return worth
}

// Audit recomputes from the single records what the sums of this package say,
// and returns the first that is wrong. Dust is the most that rounding may have
// left in a purse.
func Audit(r state.Reader, dust uint64) error {
	a := &audit{
		r: r, epoch: EpochOf(r).Number, shares: map[ID]uint64{}, self: map[ID]uint64{}, claims: map[ID]uint64{}, positions: map[chain.Address]uint64{},
		waiting: map[string]uint64{},
	}
	for _, check := range []func() error{a.delegations, a.hops, a.validators, a.fresh, a.queues, a.counters, a.committees, a.conserved} {
		if err := check(); err != nil {
			return err
		}
	}
	for id, claims := range a.claims { // order-free: any breach will do
		purse := PurseOf(r, id)
		if held := purse.Held.Nano() - purse.Carry.Nano(); claims > held || held-claims > dust {
			return fmt.Errorf("purse of %s holds %d for claims of %d", id.Short(), held, claims)
		}
	}
	return nil
}

type audit struct {
	r         state.Reader
	epoch     consensus.Epoch
	waiting   map[string]uint64 // shares that no delegation and no pool has counted since they joined, by startKey
	shares    map[ID]uint64
	self      map[ID]uint64
	claims    map[ID]uint64
	positions map[chain.Address]uint64
}

func all[T any](r state.Reader, kind byte) []found[T] {
	prefix := []byte{Prefix, kind}
	return list[T](r, prefix, prefix, 0)
}

func (a *audit) delegations() error {
	for _, f := range all[Delegation](a.r, kindDelegation) {
		delegator, id := chain.Address(f.key[2:34]), ID(f.key[34:])
		v, ok := ValidatorOf(a.r, id)
		if !ok || f.record.Shares == 0 {
			return fmt.Errorf("delegation of %d shares at %s, which is bonded: %v", f.record.Shares, id.Short(), ok)
		}
		if v.Owner == delegator {
			a.self[id] = f.record.Shares
		}
		last := consensus.Epoch(0)
		for _, fresh := range f.record.Fresh {
			if fresh.Shares == 0 || fresh.Epoch <= last || fresh.Epoch > a.epoch {
				return fmt.Errorf("%d shares of epoch %d in epoch %d after epoch %d's", fresh.Shares, fresh.Epoch, a.epoch, last)
			}
			last = fresh.Epoch
			a.waiting[string(startKey(id, fresh.Epoch))] += fresh.Shares
		}
		f.record.count(openTill(state.NewOverlay(a.r), id, a.epoch))
		a.shares[id] += f.record.Shares
		a.claims[id] += f.record.Owed.Nano()
		a.positions[delegator]++
	}
	return nil
}

func (a *audit) hops() error {
	units := map[string]uint64{}
	for _, f := range all[hop](a.r, kindHop) {
		delegator, to := chain.Address(f.key[2:34]), ID(f.key[34:66])
		epoch, from := origin(f.key)
		pool, _ := state.Load[hopPool](a.r, hopPoolKey(from, epoch, to))
		pool.count(openTill(state.NewOverlay(a.r), to, a.epoch), epoch)
		f.record.count(&pool)
		a.claims[to] += f.record.Owed.Nano()
		units[string(hopPoolKey(from, epoch, to))] += f.record.Units
		a.positions[delegator]++
	}
	for _, f := range all[hopPool](a.r, kindHopPool) {
		to := ID(f.key[42:])
		if f.record.Units != units[string(f.key)] || f.record.Units == 0 || f.record.Shares == 0 {
			return fmt.Errorf("pool of %d units, %d shares; its parts are %d", f.record.Units, f.record.Shares, units[string(f.key)])
		}
		if !f.record.Earns {
			a.waiting[string(startKey(to, movedIn(f.key)))] += f.record.Shares
		}
		f.record.count(openTill(state.NewOverlay(a.r), to, a.epoch), movedIn(f.key))
		a.claims[to] += f.record.Carry.Nano()
		a.shares[to] += f.record.Shares
		delete(units, string(f.key))
	}
	if len(units) > 0 {
		return fmt.Errorf("%d hops without a pool", len(units))
	}
	return nil
}

func (a *audit) validators() error {
	for _, v := range Validators(a.r) {
		if v.Shares != a.shares[v.ID] || v.Shares == 0 || v.Stake.IsZero() || v.SelfShares != a.self[v.ID] {
			return fmt.Errorf("validator %s: %d shares (%d its own) of %s; its parts are %d (%d)",
				v.ID.Short(), v.Shares, v.SelfShares, v.Stake, a.shares[v.ID], a.self[v.ID])
		}
	}
	return nil
}

// fresh: what waits to be counted is, for each validator and epoch, either fresh
// in the purse or the shares of a start.
func (a *audit) fresh() error {
	for _, f := range all[Purse](a.r, kindPurse) {
		id := ID(f.key[2:])
		if len(f.record.Fresh) > 2 {
			return fmt.Errorf("purse of %s has fresh shares of %d epochs", id.Short(), len(f.record.Fresh))
		}
		for _, fresh := range f.record.Fresh {
			key := startKey(id, fresh.Epoch)
			if _, begun := a.r.Get(key); begun || a.waiting[string(key)] != fresh.Shares {
				return fmt.Errorf("%d fresh shares of %s, epoch %d; its parts are %d, begun is %v", fresh.Shares, id.Short(), fresh.Epoch, a.waiting[string(key)], begun)
			}
			delete(a.waiting, string(key))
		}
	}
	for _, f := range all[start](a.r, kindStart) {
		if f.record.Shares == 0 || a.waiting[string(f.key)] != f.record.Shares {
			return fmt.Errorf("a start of %d shares; its parts are %d", f.record.Shares, a.waiting[string(f.key)])
		}
		delete(a.waiting, string(f.key))
	}
	if len(a.waiting) > 0 {
		return fmt.Errorf("fresh shares of %d validators and epochs are nowhere counted", len(a.waiting))
	}
	return nil
}

func (a *audit) queues() error {
	parts := map[string]uint64{}
	for _, f := range all[uint64](a.r, kindQueue) {
		parts[string(UnbondingKey(ID(f.key[10:42]), epochIn(f.key)))] += f.record
	}
	for _, f := range all[Pool](a.r, kindUnbonding) {
		if f.record.Shares != parts[string(f.key)] || f.record.Shares == 0 || f.record.Stake.IsZero() {
			return fmt.Errorf("unbonding pool of %d shares of %s; its parts are %d", f.record.Shares, f.record.Stake, parts[string(f.key)])
		}
		delete(parts, string(f.key))
	}
	if len(parts) > 0 {
		return fmt.Errorf("%d queue entries without a pool", len(parts))
	}
	return nil
}

func (a *audit) counters() error {
	for _, f := range all[uint64](a.r, kindPositions) {
		if got := a.positions[chain.Address(f.key[2:])]; got != f.record {
			return fmt.Errorf("an account has %d positions, its record says %d", got, f.record)
		}
		delete(a.positions, chain.Address(f.key[2:]))
	}
	if len(a.positions) > 0 {
		return fmt.Errorf("%d accounts have positions that are not counted", len(a.positions))
	}
	if n := registered(a.r); int(n) != len(candidates(a.r)) {
		return fmt.Errorf("%d validators are counted, there are %d", n, len(candidates(a.r)))
	}
	for _, v := range Validators(a.r) {
		if !onRoll(a.r, v.ID) && !v.Tombstoned && v.JailedUntil == 0 {
			return fmt.Errorf("validator %s is not on the roll and may serve", v.ID.Short())
		}
	}
	return nil
}

func (a *audit) committees() error {
	epoch := EpochOf(a.r)
	for i, want := range []chain.TxID{epoch.Committee, epoch.Next} {
		committee, members, ok := CommitteeOf(a.r, epoch.Number+consensus.Epoch(i))
		if !ok || committee.Digest() != want {
			return fmt.Errorf("committee of epoch %d is %v, want %s", epoch.Number+consensus.Epoch(i), ok, want.Short())
		}
		for _, m := range members {
			if m.Weight == 0 || m.LeaderWeight < m.Weight || m.LeaderWeight > m.Weight+m.Weight/4+1 {
				return fmt.Errorf("member with weight %d, leader weight %d", m.Weight, m.LeaderWeight)
			}
		}
	}
	return nil
}

func (a *audit) conserved() error {
	var total chain.Amount
	for key, value := range a.r.Iterate([]byte{0}, nil) {
		class, amount := tokens.HoldsNothing, chain.Amount{}
		switch key[0] {
		case tokens.Prefix:
			class, amount = tokens.ValueOf(key, value)
		case Prefix:
			class, amount = ValueOf(key, value)
		}
		if (class == tokens.HoldsNothing) != amount.IsZero() && class == tokens.HoldsNothing {
			return fmt.Errorf("a record of no class holds %s", amount)
		}
		total = sum(total, amount)
	}
	s := tokens.SupplyOf(a.r)
	if want := less(s.Minted, s.Burned); total != want {
		return fmt.Errorf("the records hold %s, minted less burned is %s", total, want)
	}
	return nil
}

// SlashForTest slashes num / den and burns it.
func SlashForTest(kv state.KV, id ID, e consensus.Epoch, num, den uint64) chain.Events {
	tokens.Burn(kv, slash(kv, id, chain.Address{}, leaving{reach(e), 1<<64 - 1, EpochOf(kv).Number}, part{num, den}).all)
	return nil
}

// Since is i − j.
func Since(i, j Index) Index { return i.since(j) }

// Convictable reports whether evidence would convict anybody who is not
// convicted yet.
func Convictable(r state.Reader, env *Env, e consensus.Evidence) bool {
	_, why := accused(r, env, e)
	return why == nil
}
