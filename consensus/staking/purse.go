package staking

import (
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Index is rewards per share since the beginning, in nHYPER · 2⁻⁶⁴: 128 bits,
// so that what a step rounds off is less than a nHYPER over all shares.
type Index struct {
	_        struct{} `cbor:",toarray"`
	Whole    uint64
	Fraction uint64
}

// stepOf returns ⌊amount · 2⁶⁴ / shares⌋; shares must not be zero.
func stepOf(amount, shares uint64) Index {
	whole, rest := amount/shares, amount%shares
	fraction, _ := bits.Div64(rest, 0, shares)
	return Index{Whole: whole, Fraction: fraction}
}

func (i Index) add(j Index) (Index, bool) {
	fraction, carry := bits.Add64(i.Fraction, j.Fraction, 0)
	whole, over := bits.Add64(i.Whole, j.Whole, carry)
	return Index{Whole: whole, Fraction: fraction}, over == 0
}

// since returns i − j. An index never falls.
func (i Index) since(j Index) Index {
	fraction, borrow := bits.Sub64(i.Fraction, j.Fraction, 0)
	whole, under := bits.Sub64(i.Whole, j.Whole, borrow)
	return sound(Index{Whole: whole, Fraction: fraction}, under == 0)
}

// times returns what the index is for a number of shares, rounded down, and
// whether something was rounded off.
func (i Index) times(shares uint64) (floor uint64, rounded bool) {
	high, low := bits.Mul64(i.Fraction, shares)
	whole := sound(checked.Mul(i.Whole, shares))
	return sound(checked.Add(whole, high)), low != 0
}

// spread divides an amount among shares: how far the index rises, and what is
// left of the amount. If there are no shares, or the index is at its end, all of
// it is left.
func spread(at Index, amount chain.Amount, shares uint64) (Index, chain.Amount) {
	if shares == 0 {
		return at, amount
	}
	step := stepOf(amount.Nano(), shares)
	next, ok := at.add(step)
	if !ok {
		return at, amount
	}
	spent, rounded := step.times(shares)
	if rounded {
		spent++ // step · shares ≤ amount · 2⁶⁴, so that rounding up stays within the amount
	}
	return next, less(amount, chain.Nano(spent))
}

// Purse is what a validator's delegators and owner have earned and not
// withdrawn.
type Purse struct {
	_          struct{}     `cbor:",toarray"`
	Held       chain.Amount // the delegators', and Carry
	Carry      chain.Amount // of Held, what is not yet in Index
	Index      Index        // rewards per share that earns
	Commission chain.Amount // the owner's
	Fresh      []Fresh      // by ascending epoch, at most of two: shares that earn nothing yet, delegations' and pools'
}

// PurseOf returns a validator's purse.
func PurseOf(r state.Reader, id ID) Purse {
	purse, _ := state.Load[Purse](r, PurseKey(id)) // none: empty
	return purse
}

// PotOf returns what is to be given out with the next rewards.
func PotOf(r state.Reader) chain.Amount {
	pot, _ := state.Load[chain.Amount](r, keyOf(kindPot)) // none: empty
	return pot
}

// toPot adds what the caller took from somewhere.
func toPot(kv state.KV, amount chain.Amount) {
	if !amount.IsZero() {
		savePot(kv, sum(PotOf(kv), amount))
	}
}

func savePot(kv state.KV, amount chain.Amount) { state.Save(kv, keyOf(kindPot), amount) }

// tally is what a member of the epoch's committee did as a proposer.
type tally struct {
	_      struct{} `cbor:",toarray"`
	Tips   chain.Amount
	Credit uint64 // voting weight that its blocks were the first to show
}

// Tip keeps an amount, which the caller took from somewhere, for the block's
// proposer until the epoch ends.
func Tip(kv state.KV, b *Block, amount chain.Amount) {
	if amount.IsZero() {
		return
	}
	t, _ := state.Load[tally](kv, tallyKey(b.Proposer)) // none: zero
	t.Tips = sum(t.Tips, amount)
	state.Save(kv, tallyKey(b.Proposer), t)
}

// Rewards returns what an account could withdraw at a validator: as a
// delegator, and as the owner.
func Rewards(r state.Reader, account chain.Address, id ID) (earned, commission chain.Amount) {
	kv := state.NewOverlay(r)
	t := openTill(kv, id, EpochOf(kv).Number)
	earned = collect(t, account)
	if v, ok := ValidatorOf(kv, id); ok && v.Owner == account {
		commission = t.Commission
	}
	return earned, commission
}
