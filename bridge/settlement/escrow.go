package settlement

import (
	"errors"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// MaxWithdrawals bounds the withdrawals of one escrow that are on their way at
// one time.
const MaxWithdrawals = 16

// Escrow is a consumer's money at a home cluster. Its withdrawals are in
// tokens' queue, under the escrow's key as their origin, and stay liable for
// claims until they mature.
type Escrow struct {
	_           struct{} `cbor:",toarray"`
	Balance     chain.Amount
	Withdrawals []chain.TimeMs // when each matures; ascending, no two equal
	Record      match.Record   // of the consumer at the cluster; it outlives the money
	Highs       Highs          // of the balance
	Elsewhere   chain.Amount   // held for the consumer by its leases, their terms that are over, and its claims in their windows
}

// Highs is the most that a balance was in the period in which it changed last, and in the
// one before that: periods are as long as a withdrawal takes to mature. What is older is
// gone, so that nobody can promise for ever what was there once.
type Highs struct {
	_      struct{} `cbor:",toarray"`
	Period uint64   // since 1970
	Now    chain.Amount
	Before chain.Amount
}

// to moves on to the period of a time. The balance has not changed since the last.
func (h *Highs) to(period uint64, balance chain.Amount) {
	if period > h.Period {
		h.Before = balance
		if period == h.Period+1 {
			h.Before = h.Now
		}
		h.Period, h.Now = period, balance
	}
}

// highest returns the most that an escrow's balance was from a time on, and false if that
// is longer ago than is known.
func (e *Escrow) highest(env *Env, since chain.TimeMs) (chain.Amount, bool) {
	h := e.Highs
	h.to(periodOf(env), e.Balance)
	first := max(h.Period, 1) - 1
	if uint64(since)/env.Params.WithdrawalDelayMs < first {
		return chain.Amount{}, false
	}
	return largest(h.Now, h.Before), true
}

// periodOf is the period that the block is in.
func periodOf(env *Env) uint64 { return uint64(env.Now) / env.Params.WithdrawalDelayMs }

func largest(a, b chain.Amount) chain.Amount {
	if a.Less(b) {
		return b
	}
	return a
}

// EscrowOf returns a consumer's escrow at a cluster.
func EscrowOf(r state.Reader, consumer chain.Address, cluster crypto.PublicKey) Escrow {
	e, _ := loaded(r, EscrowKey(consumer, cluster), decodeEscrow) // none: nothing in it
	return e
}

// DecodeEscrow decodes an escrow's record, for those who checked its proof.
func DecodeEscrow(value []byte) (Escrow, error) { return decode[Escrow](value) }

// Deposit moves an amount from the consumer's balance into the escrow.
func Deposit(kv state.KV, env *Env, consumer chain.Address, m chain.Deposit) (chain.Event, *chain.Rejection) {
	if m.Amount.IsZero() {
		return nil, chain.Reject("deposit of zero")
	}
	c, ok := ClusterOf(kv, m.Cluster)
	switch {
	case !ok || c.UnbondedMs != 0:
		return nil, chain.Reject("cluster %s is not registered", m.Cluster.Short())
	case c.Bond.IsZero():
		return nil, chain.Reject("cluster %s has lost its bond", m.Cluster.Short())
	}
	if _, broke := BreachOf(kv, m.Cluster); broke {
		return nil, chain.Reject("cluster %s broke its word, and what it lost is not divided yet", m.Cluster.Short())
	}
	if why := tokens.Debit(kv, consumer, m.Amount, env.Now); why != nil {
		return nil, why
	}
	p := openPurse(kv, env, consumer, m.Cluster)
	p.put(m.Amount)
	return chain.Deposited{Consumer: consumer, Cluster: m.Cluster, Amount: m.Amount}, nil
}

// Withdraw takes an amount out of the escrow; it matures to the consumer's
// balance after the withdrawal delay. It needs no cluster's consent.
func Withdraw(kv state.KV, env *Env, consumer chain.Address, m chain.Withdraw) (chain.Event, *chain.Rejection) {
	if m.Amount.IsZero() {
		return nil, chain.Reject("withdrawal of zero")
	}
	matures, why := later(env.Now, env.Params.WithdrawalDelayMs)
	if why != nil {
		return nil, why
	}
	p := openPurse(kv, env, consumer, m.Cluster)
	rest, ok := p.escrow.Balance.Sub(m.Amount)
	if !ok {
		return nil, chain.Reject("escrow holds %s, withdrawal is %s", p.escrow.Balance, m.Amount)
	}
	at, known := slices.BinarySearch(p.escrow.Withdrawals, matures)
	if !known {
		if len(p.escrow.Withdrawals) >= MaxWithdrawals {
			return nil, chain.Reject("%d withdrawals are on their way, limit %d", len(p.escrow.Withdrawals), MaxWithdrawals)
		}
		p.escrow.Withdrawals = slices.Insert(p.escrow.Withdrawals, at, matures)
	}
	p.escrow.Balance = rest
	tokens.Mature(kv, matures, p.key, tokens.Maturing{To: consumer, Amount: m.Amount})
	p.save()
	return chain.WithdrawalStarted{Consumer: consumer, Cluster: m.Cluster, Amount: m.Amount, Matures: matures}, nil
}

// purse is an escrow that is being worked on.
type purse struct {
	kv      state.KV
	key     []byte
	escrow  Escrow // without the withdrawals that have matured; its highs are of this period
	changed bool   // by a claim, since it was saved
}

func openPurse(kv state.KV, env *Env, consumer chain.Address, cluster crypto.PublicKey) *purse {
	p := &purse{kv: kv, key: EscrowKey(consumer, cluster), escrow: EscrowOf(kv, consumer, cluster)}
	p.escrow.Highs.to(periodOf(env), p.escrow.Balance)
	p.escrow.Withdrawals = slices.DeleteFunc(p.escrow.Withdrawals, func(at chain.TimeMs) bool { return at <= env.Now })
	return p
}

func (p *purse) save() {
	p.changed = false
	highs := &p.escrow.Highs
	highs.Now = largest(highs.Now, p.escrow.Balance)
	if highs.Now.IsZero() && highs.Before.IsZero() && len(p.escrow.Withdrawals) == 0 && p.escrow.Record.IsZero() && p.escrow.Elsewhere.IsZero() {
		p.kv.Delete(p.key)
		return
	}
	state.Save(p.kv, p.key, p.escrow)
}

func (p *purse) put(amount chain.Amount) {
	p.escrow.Balance = sound(p.escrow.Balance.Add(amount))
	p.save()
}

// hold counts an amount that left the escrow, or the consumer's account, for a lease or a claim in its window, which holds it
// from now on. The caller saves.
func (p *purse) hold(amount chain.Amount) {
	p.escrow.Elsewhere = sound(p.escrow.Elsewhere.Add(amount))
}

// letGo counts an amount that a lease or a claim held, and holds no longer: it was paid, or is given back. The caller saves.
func (p *purse) letGo(amount chain.Amount) {
	p.escrow.Elsewhere = sound(p.escrow.Elsewhere.Sub(amount))
}

// takeBack puts an amount that a lease or a claim held into the balance. The caller saves.
func (p *purse) takeBack(amount chain.Amount) {
	p.letGo(amount)
	p.escrow.Balance = sound(p.escrow.Balance.Add(amount))
}

// available is what claims can be paid from: the balance and the withdrawals
// that have not matured.
func (p *purse) available() chain.Amount {
	sum := p.escrow.Balance
	for _, at := range p.escrow.Withdrawals {
		sum = sound(sum.Add(tokens.MaturingOf(p.kv, at, p.key)))
	}
	return sum
}

// take removes an amount that is available: from the balance first, then from
// the youngest withdrawal on. The caller saves.
func (p *purse) take(amount chain.Amount) {
	p.changed = true
	if rest, ok := p.escrow.Balance.Sub(amount); ok {
		p.escrow.Balance = rest
		return
	}
	missing := sound(amount.Sub(p.escrow.Balance))
	p.escrow.Balance = chain.Amount{}
	for _, at := range slices.Backward(p.escrow.Withdrawals) {
		if missing.IsZero() {
			break
		}
		missing = sound(missing.Sub(tokens.TakeMaturing(p.kv, at, p.key, missing)))
	}
	if !missing.IsZero() {
		panic("settlement: more was taken from an escrow than it had")
	}
}

// sound unwraps arithmetic on amounts that a sound ledger holds: all of them
// together are within the supply, which fits.
func sound(a chain.Amount, ok bool) chain.Amount {
	if !ok {
		panic(&state.Fault{Op: "settlement", Err: errors.New("an escrow's sum is outside every supply")})
	}
	return a
}
