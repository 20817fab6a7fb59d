package staking

import (
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
)

// earnsAfter is how many epochs after the one in which stake joins the first is
// in whose committee it is weighed. The rewards of earlier ones were earned by
// others' weight.
const earnsAfter = 2

// Fresh is shares of stake that joined in an epoch and was in no committee's
// weight yet. They are shares like all others, but earn nothing before the end of
// epoch EarnsFrom.
type Fresh struct {
	_      struct{} `cbor:",toarray"`
	Epoch  consensus.Epoch
	Shares uint64
}

// EarnsFrom returns the first epoch of whose rewards the shares get a part.
func (f Fresh) EarnsFrom() consensus.Epoch { return f.Epoch + earnsAfter }

// start is where an index stood when the shares that had joined in an epoch
// began to earn.
type start struct {
	_      struct{} `cbor:",toarray"`
	Index  Index
	Shares uint64 // of those, what no delegation and no pool has counted since
}

// addFresh adds shares that join in an epoch, the last of the list or a later
// one.
func addFresh(list []Fresh, e consensus.Epoch, shares uint64) []Fresh {
	if n := len(list); n > 0 && list[n-1].Epoch == e {
		list[n-1].Shares += shares // at most all of the validator's
		return list
	}
	return append(list, Fresh{Epoch: e, Shares: shares})
}

// takeFresh takes shares of an epoch out of a list that has them.
func takeFresh(list []Fresh, e consensus.Epoch, shares uint64) []Fresh {
	i := sound(at(list, e))
	if list[i].Shares = sound(checked.Sub(list[i].Shares, shares)); list[i].Shares > 0 {
		return list
	}
	return slices.Delete(list, i, i+1)
}

func at(list []Fresh, e consensus.Epoch) (int, bool) {
	i := slices.IndexFunc(list, func(f Fresh) bool { return f.Epoch == e })
	return i, i >= 0
}

// freshIn returns how many shares of a list there are.
func freshIn(list []Fresh) uint64 {
	total := uint64(0)
	for _, f := range list {
		total += f.Shares // at most all of the validator's
	}
	return total
}

// till is a validator's purse in an epoch. Whatever joined early enough earns:
// the purse's list has fresh shares only.
type till struct {
	Purse
	kv    state.KV
	id    ID
	epoch consensus.Epoch
}

// openTill opens a purse. Shares that are fresh no longer begin to earn where
// its index stands. It has stood there since the last end of an epoch in which
// they were fresh: whatever raises an index opens the till before.
func openTill(kv state.KV, id ID, e consensus.Epoch) *till {
	t := &till{Purse: PurseOf(kv, id), kv: kv, id: id, epoch: e}
	ripe := 0
	for _, f := range t.Fresh {
		if f.EarnsFrom() > e {
			break
		}
		state.Save(kv, startKey(id, f.Epoch), start{Index: t.Index, Shares: f.Shares})
		ripe++
	}
	if ripe > 0 {
		t.Fresh = slices.Delete(t.Fresh, 0, ripe)
		t.save()
	}
	return t
}

func (t *till) save() { state.Save(t.kv, PurseKey(t.id), t.Purse) }

// begun returns where the index stood when shares that had joined in an epoch
// began to earn. They count from there once.
func (t *till) begun(f Fresh) Index {
	key := startKey(t.id, f.Epoch)
	s, _ := state.Load[start](t.kv, key) // none: no shares, which contradicts the caller's
	if s.Shares = sound(checked.Sub(s.Shares, f.Shares)); s.Shares == 0 {
		t.kv.Delete(key)
	} else {
		state.Save(t.kv, key, s)
	}
	return s.Index
}

// earn divides an income: ⌊income · commission⌋ to the owner, the rest among
// the shares that earn. It returns what it kept: if no share earns, not the rest.
func (t *till) earn(v *Validator, income chain.Amount) chain.Amount {
	commission := sound(income.ShareFloor(uint64(v.Commission.Bps), wholeBps))
	t.Commission = sum(t.Commission, commission)
	earning := sound(checked.Sub(v.Shares, freshIn(t.Fresh)))
	if earning == 0 {
		return commission
	}
	rest := less(income, commission)
	t.Held = sum(t.Held, rest)
	t.Index, t.Carry = spread(t.Index, sum(t.Carry, rest), earning)
	return income
}

// pay takes an amount out of the delegators' part.
func (t *till) pay(amount chain.Amount) chain.Amount {
	t.Held = less(t.Held, amount)
	return amount
}

// count brings what is owed up to the purse's index.
func (d *Delegation) count(t *till) {
	earned, _ := t.Index.since(d.Stand).times(d.Shares - freshIn(d.Fresh))
	for len(d.Fresh) > 0 && d.Fresh[0].EarnsFrom() <= t.epoch {
		more, _ := t.Index.since(t.begun(d.Fresh[0])).times(d.Fresh[0].Shares)
		earned = sound(checked.Add(earned, more))
		d.Fresh = d.Fresh[1:]
	}
	d.Owed, d.Stand = sum(d.Owed, chain.Nano(earned)), t.Index
}

// join adds shares, which the caller issued, to a delegation that is counted.
func (d *Delegation) join(t *till, shares uint64) {
	d.Shares += shares // at most all of the validator's
	d.Fresh = addFresh(d.Fresh, t.epoch, shares)
	t.Fresh = addFresh(t.Fresh, t.epoch, shares)
}

// leave takes shares out of a delegation that is counted: what joined last
// leaves first, so that who changes its mind loses nothing.
func (d *Delegation) leave(t *till, shares uint64) {
	d.Shares = sound(checked.Sub(d.Shares, shares))
	for n := len(d.Fresh); shares > 0 && n > 0; n-- {
		last := d.Fresh[n-1]
		taken := min(shares, last.Shares)
		d.Fresh = takeFresh(d.Fresh, last.Epoch, taken)
		t.Fresh = takeFresh(t.Fresh, last.Epoch, taken)
		shares -= taken
	}
}

// count brings a pool's index up to that of its validator's purse. All of its
// shares joined in one epoch.
func (h *hopPool) count(t *till, joined consensus.Epoch) {
	all := Fresh{Epoch: joined, Shares: h.Shares}
	if !h.Earns {
		if all.EarnsFrom() > t.epoch {
			return
		}
		h.Earns, h.Stand = true, t.begun(all)
	}
	earned, _ := t.Index.since(h.Stand).times(h.Shares)
	h.Index, h.Carry = spread(h.Index, sum(h.Carry, chain.Nano(earned)), h.Units)
	h.Stand = t.Index
}

// lose takes shares out of a pool that is counted, and saves the till.
func (h *hopPool) lose(t *till, joined consensus.Epoch, shares uint64) {
	h.Shares = sound(checked.Sub(h.Shares, shares))
	if !h.Earns && shares > 0 {
		t.Fresh = takeFresh(t.Fresh, joined, shares)
		t.save()
	}
}

// count brings what is owed up to the pool's index.
func (h *hop) count(p *hopPool) {
	earned, _ := p.Index.since(h.Stand).times(h.Units)
	h.Owed, h.Stand = sum(h.Owed, chain.Nano(earned)), p.Index
}
