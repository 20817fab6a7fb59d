package execution

import (
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Budget is the most that a leader puts into a block, below the chain's limits. Room is
// made for so many transactions beforehand.
type Budget struct {
	Txs   int // ≤ chain.MaxBlockTxs
	Bytes int // of encoded transactions; ≤ MaxBodyBytes
}

// MaxBodyBytes is the most bytes of transactions that Build includes: what the
// block's limit leaves beside the header, the lists' heads and consensus' items.
const MaxBodyBytes = chain.MaxBlockBytes - 1<<20 - 1<<18

// MaxBudget is as much as a block holds.
var MaxBudget = Budget{Txs: chain.MaxBlockTxs, Bytes: MaxBodyBytes}

// Large reports whether a gas limit is more than a quarter of a block's gas.
func Large(limit, block chain.Gas) bool { return limit.Units() > block.Units()/4 }

// Dropped is a transaction that Build was offered and that may not stand in the
// block.
type Dropped struct {
	ID     chain.TxID
	Reason *Refusal
}

// Built is a leader's selection and its outcome.
type Built struct {
	Extras   staking.Extras // of those offered, what may stand in the block
	Included []*chain.VerifiedTx
	Dropped  []Dropped
	Outcome  Outcome
}

// Build fills a block on its parent's state with the transactions that next
// offers, in that order, as far as they may stand in it. It ends when next says
// so, when the budget's count is reached, or at the first transaction that does
// not fit what is left of the block's gas or bytes; that one is neither
// included nor dropped. One whose gas limit is Large is passed over instead: what it
// reserves, and does not use, must not keep others out. Of the extras it leaves out
// what is of no use any more.
// Of the header it reads what Apply reads: call Prepare before.
func (x *Executor) Build(parent state.Reader, h *chain.Header, budget Budget, extras staking.Extras, next func() (*chain.VerifiedTx, bool)) (built Built, err error) {
	defer recoverFault(&err)
	count, bytes := min(budget.Txs, chain.MaxBlockTxs), min(budget.Bytes, MaxBodyBytes)
	r, err := x.begin(parent, h, count)
	if err != nil {
		return Built{}, err
	}
	kept, events, _ := staking.TakeExtras(r.block, &r.stakes, extras) // the rest is of no use
	built.Extras, r.receipts.Begin = kept, append(r.receipts.Begin, events...)
	r.all(&steps{
		next: func() (*chain.VerifiedTx, bool) {
			if len(built.Included) == count {
				return nil, false
			}
			return next()
		},
		do: func(tx *chain.VerifiedTx) bool {
			if len(built.Included) == count || len(tx.Raw()) > bytes {
				return false
			}
			refusal := r.execute(tx)
			switch {
			case refusal == nil:
				built.Included = append(built.Included, tx)
				bytes -= len(tx.Raw())
			case refusal.Rule == RuleBlockGas:
				return Large(tx.Tx().Body.GasLimit, r.at.blockGas)
			default:
				built.Dropped = append(built.Dropped, Dropped{ID: tx.ID(), Reason: refusal})
			}
			return true
		},
		mark: func() func() {
			included, dropped, left := len(built.Included), len(built.Dropped), bytes
			return func() {
				built.Included, built.Dropped, bytes = built.Included[:included], built.Dropped[:dropped], left
			}
		},
	})
	built.Outcome, err = r.end()
	if err != nil {
		return Built{}, err
	}
	return built, nil
}

// Admission judges transactions that would wait for a block after one state.
// It is of use until the state changes.
type Admission struct {
	x  *Executor
	r  state.Reader
	at position
}

// Admission reads what every judgement needs. The error is ErrNoGenesis or a
// fault.
func (x *Executor) Admission(r state.Reader) (a *Admission, err error) {
	defer recoverFault(&err)
	head, err := HeadOf(r)
	if err != nil {
		return nil, err
	}
	params, err := ParamsOf(r)
	if err != nil {
		return nil, err
	}
	at := position{head: head, height: head.Height + 1, now: head.TimeMs, blockGas: params.BlockGas, ahead: NonceWindow - 1}
	return &Admission{x: x, r: r, at: at}, nil
}

// Admit says whether a transaction may wait: nil, a *Refusal, or a fault. It
// looks at no signature, so that it can be asked before the dear ones are
// verified. Beside what a block demands, its nonce may be up to NonceWindow − 1
// ahead; transactions of one payer are not charged against each other here: for that
// there is Standing.
func (a *Admission) Admit(tx *chain.DecodedTx) (err error) {
	defer recoverFault(&err)
	if _, refusal := a.x.check(a.r, tx, &a.at); refusal != nil {
		return refusal
	}
	return nil
}

// Standing returns the nonce of the sender's next transaction after a state, and what the
// payer can spend at the admission's time.
func (a *Admission) Standing(r state.Reader, tx *chain.DecodedTx) (next uint64, funds chain.Amount) {
	b := &tx.Tx().Body
	account := tokens.AccountOf(r, b.Sender)
	if b.FeePayer == nil || *b.FeePayer == b.Sender {
		return account.Nonce, account.Spendable(a.at.now)
	}
	return account.Nonce, tokens.AccountOf(r, *b.FeePayer).Spendable(a.at.now)
}

// NextNonce returns the nonce of an address's next transaction.
func NextNonce(r state.Reader, a chain.Address) uint64 { return tokens.AccountOf(r, a).Nonce }
