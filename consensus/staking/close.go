package staking

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// minShown is of how many views a block of the epoch must have shown votes
// before anybody is called silent: as many as a vote may be late.
const minShown = voteWindow

// closing is the end of one epoch.
type closing struct {
	kv         state.KV
	env        *Env
	epoch      Epoch
	members    []Member // of the epoch's committee
	seen       seen
	validators []Validator // on the roll, by ascending ID; the members that are bonded are
	changed    []bool      // of validators, by index
	index      map[ID]int  // of validators
	events     chain.Events
}

// CloseEpoch ends the epoch with its last block, in this order: the silent are
// jailed; rewards are minted and divided; commissions change; resource factors
// are made; the committee of the epoch after the next is chosen; who cannot serve
// leaves the roll; what nobody can be convicted by any more is forgotten; the
// next epoch begins.
func CloseEpoch(kv state.KV, env *Env) chain.Events {
	c := &closing{kv: kv, env: env, epoch: EpochOf(kv), index: map[ID]int{}}
	members, ok := MembersOf(kv, c.epoch.Number)
	c.members = sound(members, ok)
	if c.seen, ok = state.Load[seen](kv, keyOf(kindSeen)); !ok {
		c.seen = seen{Signers: bitmapOf(c.members), Leaders: bitmapOf(c.members)}
	}
	c.jailSilent()
	c.validators = candidates(kv)
	c.changed = make([]bool, len(c.validators))
	for i := range c.validators {
		c.index[c.validators[i].ID] = i
	}
	minted, given := c.reward()
	c.renew()
	digest, chosen := c.elect()
	c.strike()
	for i := range c.validators {
		if c.changed[i] {
			state.Save(kv, ValidatorKey(c.validators[i].ID), c.validators[i])
		}
	}
	state.Save(kv, endedKey(c.epoch.Number), ended{At: env.Now})
	c.forget()
	next := Epoch{
		Number: c.epoch.Number + 1, StartHeight: env.Height, StartMs: env.Now, GenesisMs: c.epoch.GenesisMs,
		Committee: c.epoch.Next, Next: digest,
	}
	state.Save(kv, EpochKey(), next)
	return append(c.events, chain.EpochClosed{
		Epoch: chain.Number(c.epoch.Number), Minted: minted, Rewards: given,
		Committee: digest, Validators: uint16(len(chosen)), Weight: chain.Number(weightOf(chosen)),
	})
}

// jailSilent jails, and slashes a little, members that were absent from all
// votes shown by leaders of at least half the weight: in the order of the
// committee, as long as those jailed together stay within the parameter's share
// of the weight.
func (c *closing) jailSilent() {
	total, led := weightOf(c.members), uint64(0)
	for i := range c.members {
		if has(c.seen.Leaders, consensus.Signer(i)) {
			led += c.members[i].Weight
		}
	}
	if c.seen.Views < minShown || led < total-led {
		return
	}
	room := sound(checked.MulDivFloor(total, uint64(c.env.Params.MaxJailedBps), wholeBps))
	for i := range c.members {
		m := &c.members[i]
		if has(c.seen.Signers, consensus.Signer(i)) || m.Weight > room {
			continue
		}
		v, ok := ValidatorOf(c.kv, m.ID)
		if !ok || v.Tombstoned || v.JailedUntil != 0 {
			continue
		}
		room -= m.Weight
		lost := slash(c.kv, m.ID, m.Owner, leftSince(c.env, c.epoch.Number), part{uint64(c.env.Params.SilenceBps), wholeBps}).all
		tokens.Burn(c.kv, lost)
		v, _ = ValidatorOf(c.kv, m.ID)
		v.JailedUntil = chain.TimeMs(sound(checked.Add(uint64(c.env.Now), max(c.env.Params.JailMs, 1))))
		state.Save(c.kv, ValidatorKey(m.ID), v)
		c.events = append(c.events, chain.ValidatorJailed{Validator: m.ID, Epoch: chain.Number(c.epoch.Number), Amount: lost, UntilMs: v.JailedUntil})
	}
}

// reward mints the epoch's inflation into the pot and gives the pot out: to
// members that were seen, by weight, and to proposers, by the votes that they
// were the first to show; and tips to their proposers. Shares are rounded down,
// the pot keeps the rest. It returns what was minted, and what was given out.
func (c *closing) reward() (minted, given chain.Amount) {
	bonded := chain.Amount{}
	for i := range c.validators {
		bonded = sum(bonded, c.validators[i].Stake)
	}
	minted = Inflation(&c.env.Params, tokens.SupplyOf(c.kv), bonded, c.epoch.span(c.env))
	tokens.Mint(c.kv, minted)
	pot := sum(PotOf(c.kv), minted)
	tallies, credits := make([]tally, len(c.members)), uint64(0)
	for i := range tallies {
		key := tallyKey(consensus.Signer(i))
		if t, ok := state.Load[tally](c.kv, key); ok {
			c.kv.Delete(key)
			tallies[i], credits = t, sound(checked.Add(credits, t.Credit))
		}
	}
	forProposers := sound(pot.ShareFloor(uint64(c.env.Params.ProposerBps), wholeBps))
	forStake, rest, total := less(pot, forProposers), pot, weightOf(c.members)
	for i, t := range tallies {
		var income chain.Amount
		if has(c.seen.Signers, consensus.Signer(i)) {
			income = sound(forStake.ShareFloor(c.members[i].Weight, total))
		}
		if t.Credit > 0 {
			income = sum(income, sound(forProposers.ShareFloor(t.Credit, credits)))
		}
		kept := c.earn(c.members[i].ID, sum(income, t.Tips))
		rest, given = less(sum(rest, t.Tips), kept), sum(given, kept)
	}
	savePot(c.kv, rest)
	return minted, given
}

// earn gives an income to a validator and returns what it kept: nothing if it is
// gone or was convicted.
func (c *closing) earn(id ID, income chain.Amount) chain.Amount {
	i, ok := c.index[id]
	if !ok || c.validators[i].Tombstoned || income.IsZero() {
		return chain.Amount{}
	}
	t := openTill(c.kv, id, c.epoch.Number)
	kept := t.earn(&c.validators[i], income)
	t.save()
	return kept
}

// renew makes the commissions and the resource factors of the next epoch.
func (c *closing) renew() {
	for i := range c.validators {
		v := &c.validators[i]
		factor := uint16(0)
		if r, ok := state.Load[Resource](c.kv, resourceKey(v.ID)); ok {
			if !v.Tombstoned {
				factor = r.factorBps(&c.env.Params)
			}
			if !r.Burned.IsZero() || r.Barred {
				r.Burned, r.Barred = chain.Amount{}, false
				state.Save(c.kv, resourceKey(v.ID), r)
			}
		}
		if v.FactorBps != factor || v.Commission.Bps != v.Commission.NextBps {
			v.FactorBps, v.Commission.Bps = factor, v.Commission.NextBps
			c.changed[i] = true
		}
	}
}

// elect makes the committee of the epoch after the next. If nobody may serve,
// whoever serves in the next goes on, so that the chain does.
func (c *closing) elect() (digest [32]byte, members []Member) {
	members = choose(c.validators, &c.env.Params)
	if len(members) == 0 {
		last, ok := MembersOf(c.kv, c.epoch.Number+1)
		members = sound(last, ok)
	}
	made, err := saveCommittee(c.kv, c.epoch.Number+2, members)
	if err != nil {
		panic(&state.Fault{Op: fmt.Sprintf("making the committee of epoch %d", c.epoch.Number+2), Err: err})
	}
	return made, members
}

// strike takes off the roll who was convicted or has not enough of its own, and
// serves no more: a nHYPER of a forgetful delegator would keep it there for ever.
func (c *closing) strike() {
	serve := serving(c.kv, c.epoch.Number+1, c.epoch.Number+2)
	for i := range c.validators {
		v := &c.validators[i]
		if serve[v.ID] || !v.Tombstoned && v.Weight() > 0 && !v.SelfBond().Less(c.env.Params.MinSelfBond) {
			continue
		}
		if !v.Tombstoned && v.JailedUntil == 0 {
			c.events = append(c.events, chain.ValidatorJailed{Validator: v.ID, Epoch: chain.Number(c.epoch.Number), UntilMs: c.env.Now})
		}
		strike(c.kv, c.env, v)
		c.changed[i] = true
	}
}

// forget drops what the epoch counted, and the committees of epochs whose
// evidence is taken no longer and whose stake has left the queue.
func (c *closing) forget() {
	c.kv.Delete(keyOf(kindSeen))
	prefix := []byte{Prefix, kindVotes}
	for key := range c.kv.Iterate(prefix, prefixEnd(prefix)) {
		c.kv.Delete(key)
	}
	held := consensus.Epoch(1<<64 - 1) // of the stake that waits longest
	queue := []byte{Prefix, kindQueue}
	if first := list[uint64](c.kv, queue, queue, 1); len(first) > 0 {
		held = epochIn(first[0].key)
	}
	ends := []byte{Prefix, kindEnded}
	for _, f := range list[ended](c.kv, ends, ends, 0) { // bounded by the unbonding period
		e := epochIn(f.key)
		if _, over := expiry(c.kv, c.env, e); !over || held < e {
			break
		}
		c.kv.Delete(f.key)
		c.kv.Delete(CommitteeKey(e))
	}
}
