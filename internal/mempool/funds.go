package mempool

import (
	"fmt"
	"math"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// sponsor is what waits that an account pays for in others' stead.
type sponsor struct {
	pending int
	owed    chain.Amount // at most
}

// Standing is what the latest state says of a transaction's sender and payer.
type Standing struct {
	Next  uint64       // nonce of the sender's next transaction
	Funds chain.Amount // that the payer can spend
}

// mostOf returns what a transaction may cost its payer.
func mostOf(body *chain.TxBody) chain.Amount {
	most, ok := body.GasLimit.Cost(body.MaxFee)
	if !ok { // more than anybody has
		return chain.Nano(math.MaxUint64)
	}
	return most
}

// checkFunds demands that the payer can pay for all that waits: admitted each for itself,
// thousands could be held and passed on by everybody, of which one is ever paid for. If a
// sender pays for a replacement, it returns which of the later ones give way to it, the
// last first: nobody whose funds are all spoken for shall have to wait until the first
// one expires, once the base fee is above what that offers.
func (p *Pool) checkFunds(e, old *entry, s *sender, funds chain.Amount) (yielding []*entry, err error) {
	payer := e.body().Payer()
	owed := saturated(p.owedBy(payer).Add(e.most))
	if old != nil && old.body().Payer() == payer {
		owed = sound(owed.Sub(old.most))
	}
	wanted := owed
	if old != nil && e.body().FeePayer == nil && funds.Less(owed) {
		for _, waits := range slices.Backward(s.pending) {
			if waits.nonce == e.body().Nonce || !funds.Less(owed) {
				break
			}
			later := waits.entry
			yielding = append(yielding, later)
			if later.body().FeePayer == nil {
				owed = sound(owed.Sub(later.most))
			}
		}
	}
	if funds.Less(owed) {
		return nil, fmt.Errorf("%w: %s with this one, %s can spend %s", ErrPayerFunds, wanted, payer.Short(), funds)
	}
	return yielding, nil
}

// owedBy returns what an account may have to pay for all that waits.
func (p *Pool) owedBy(payer chain.Address) chain.Amount {
	var owed chain.Amount
	if s := p.senders[payer]; s != nil {
		owed = s.owed
	}
	if len(p.payers) == 0 {
		return owed
	}
	return saturated(owed.Add(p.payers[payer].owed))
}

func saturated(sum chain.Amount, ok bool) chain.Amount {
	if !ok {
		return chain.Nano(math.MaxUint64)
	}
	return sum
}

// sound unwraps a difference of sums that are at most what accounts have.
func sound(rest chain.Amount, ok bool) chain.Amount {
	if !ok {
		panic(errInvalidState + "less is owed than one transaction's part of it")
	}
	return rest
}

// owe counts what a transaction that comes in may cost.
func (p *Pool) owe(e *entry, s *sender) {
	payer := e.body().FeePayer
	if payer == nil {
		s.owed = sound(s.owed.Add(e.most))
		return
	}
	g := p.payers[*payer]
	p.payers[*payer] = sponsor{pending: g.pending + 1, owed: sound(g.owed.Add(e.most))}
}

// settle takes it off when the transaction leaves.
func (p *Pool) settle(e *entry, s *sender) {
	payer := e.body().FeePayer
	if payer == nil {
		s.owed = sound(s.owed.Sub(e.most))
		return
	}
	g := p.payers[*payer]
	if g.pending == 1 {
		delete(p.payers, *payer)
		return
	}
	p.payers[*payer] = sponsor{pending: g.pending - 1, owed: sound(g.owed.Sub(e.most))}
}
