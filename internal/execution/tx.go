package execution

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// Rule is a rule that a transaction must keep to stand in a block at all.
type Rule uint8

// The rules. Breaking RuleNonceGap or RuleBlockGas may be a matter of position;
// the others are final, but for funds and fees, which may change.
const (
	RuleChainID   Rule = iota + 1 // the transaction is of this chain
	RuleExpired                   // height ≤ expiry
	RuleExpiryFar                 // expiry ≤ height + MaxExpiryAhead
	RuleNonceLow                  // the nonce was not used before
	RuleNonceGap                  // the nonces before it were used; at admission, NonceWindow ahead
	RuleMaxFee                    // max fee ≥ base fee
	RuleGasLimit                  // intrinsic gas ≤ gas limit ≤ block gas
	RuleFunds                     // the payer can spend gas limit · max fee
	RuleBlockGas                  // the gas limit fits what is left of the block
)

// String names the rule, for metrics and answers.
func (r Rule) String() string {
	names := [...]string{
		RuleChainID: "chain_id", RuleExpired: "expired", RuleExpiryFar: "expiry_too_far",
		RuleNonceLow: "nonce_too_low", RuleNonceGap: "nonce_gap", RuleMaxFee: "max_fee_below_base_fee",
		RuleGasLimit: "gas_limit", RuleFunds: "insufficient_funds", RuleBlockGas: "block_gas",
	}
	if r == 0 || int(r) >= len(names) {
		return fmt.Sprintf("Rule(%d)", uint8(r))
	}
	return names[r]
}

// Refusal says why a transaction may not stand in a block, or in a mempool.
type Refusal struct {
	Rule   Rule
	Detail string // the value that broke it
}

// Error names the rule and the value.
func (r *Refusal) Error() string { return r.Rule.String() + ": " + r.Detail }

func refuse(rule Rule, format string, args ...any) *Refusal {
	return &Refusal{Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

// Bounds of admission.
const (
	// MaxExpiryAhead is how many heights ahead a transaction may expire.
	MaxExpiryAhead = chain.MaxExpiryAhead
	// NonceWindow is how many transactions of one sender may wait.
	NonceWindow = 64
)

// position is where in the chain a transaction would stand.
type position struct {
	head     Head // after the parent
	height   chain.Height
	now      chain.TimeMs
	blockGas chain.Gas
	used     chain.Gas // of the block so far
	ahead    uint64    // how far a nonce may be ahead: 0 in a block
}

var errOutOfGas = errors.New("execution: out of gas")

// standing is what check found of a transaction that may stand at its position.
type standing struct {
	intrinsic uint64 // gas
	sender    tokens.Account
}

// check returns the refusal of a transaction at a position, or what it found.
func (x *Executor) check(r state.Reader, tx *chain.DecodedTx, at *position) (found standing, refusal *Refusal) {
	b := &tx.Tx().Body
	switch {
	case b.ChainID != x.chainID:
		return standing{}, refuse(RuleChainID, "%.32q, want %q", b.ChainID, x.chainID)
	case b.Expiry < at.height:
		return standing{}, refuse(RuleExpired, "expired after height %d, this is %d", b.Expiry, at.height)
	case b.Expiry-at.height > MaxExpiryAhead:
		return standing{}, refuse(RuleExpiryFar, "expires %d heights ahead, limit %d", b.Expiry-at.height, MaxExpiryAhead)
	case b.MaxFee.Less(at.head.BaseFee):
		return standing{}, refuse(RuleMaxFee, "max fee %d, base fee %d nHYPER per gas", b.MaxFee.Nano(), at.head.BaseFee.Nano())
	}
	found.intrinsic = x.gas.intrinsic(tx)
	left, _ := at.blockGas.Sub(at.used) // used ≤ blockGas
	switch {
	case b.GasLimit.Units() < found.intrinsic:
		return standing{}, refuse(RuleGasLimit, "gas limit %d, the transaction needs at least %d", b.GasLimit.Units(), found.intrinsic)
	case at.blockGas.Less(b.GasLimit):
		return standing{}, refuse(RuleGasLimit, "gas limit %d, a block's is %d", b.GasLimit.Units(), at.blockGas.Units())
	case left.Less(b.GasLimit):
		return standing{}, refuse(RuleBlockGas, "gas limit %d, the block has %d left", b.GasLimit.Units(), left.Units())
	}
	found.sender, refusal = checkAccounts(r, b, at)
	return found, refusal
}

// checkAccounts returns the sender's account beside a refusal.
func checkAccounts(r state.Reader, b *chain.TxBody, at *position) (sender tokens.Account, refusal *Refusal) {
	account := tokens.AccountOf(r, b.Sender)
	sender = account
	switch {
	case b.Nonce < account.Nonce:
		return sender, refuse(RuleNonceLow, "nonce %d, the next is %d", b.Nonce, account.Nonce)
	case b.Nonce-account.Nonce > at.ahead:
		return sender, refuse(RuleNonceGap, "nonce %d, the next is %d", b.Nonce, account.Nonce)
	}
	if b.FeePayer != nil {
		account = tokens.AccountOf(r, *b.FeePayer)
	}
	free := account.Spendable(at.now)
	most, ok := b.GasLimit.Cost(b.MaxFee)
	if !ok {
		return sender, refuse(RuleFunds, "gas limit %d at max fee %d exceeds every balance", b.GasLimit.Units(), b.MaxFee.Nano())
	}
	if free.Less(most) {
		return sender, refuse(RuleFunds, "%s can spend %s, gas may cost %s", b.Payer().Short(), free, most)
	}
	return sender, nil
}

// execute gives a transaction its place in the block and its receipt, or
// refuses it and changes nothing.
func (r *run) execute(tx *chain.VerifiedTx) *Refusal {
	found, refusal := r.x.check(r.block, &tx.DecodedTx, &r.at)
	if refusal != nil {
		return refusal
	}
	b := &tx.Tx().Body
	base, tip := r.at.head.BaseFee, b.Tip
	if room := must(b.MaxFee.Sub(base)); room.Less(tip) {
		tip = room
	}
	// The whole limit is taken before the messages run, so that they cannot
	// spend it, and what was not used comes back.
	price := must(base.Add(tip))
	if why := r.include(b, found.sender, must(b.GasLimit.Cost(price))); why != nil {
		panic("execution: a payer was checked and cannot pay: " + why.Reason())
	}
	r.meter.limit, r.meter.used = b.GasLimit.Units(), found.intrinsic
	r.said = contract.Said{}
	r.kv.begin(tokens.AccountKey(b.Sender))
	events, why := r.messages(tx)
	used := chain.GasUnits(min(r.meter.used, r.meter.limit))
	unused := must(b.GasLimit.Sub(used))
	tokens.Credit(r.block, b.Payer(), must(unused.Cost(price)))
	receipt := chain.Receipt{
		TxID: tx.ID(), GasUsed: used, Events: events,
		Burned: must(used.Cost(base)), Tip: must(used.Cost(tip)),
	}
	if why != nil {
		receipt.Rejection = why.Reason()
	}
	r.at.used = must(r.at.used.Add(used))
	r.burned = must(r.burned.Add(receipt.Burned))
	r.tips = must(r.tips.Add(receipt.Tip))
	r.receipts.Txs = append(r.receipts.Txs, receipt)
	return nil
}

// include counts the transaction and takes what its gas may cost, from the account that
// check has just read if the sender pays.
func (r *run) include(b *chain.TxBody, sender tokens.Account, cost chain.Amount) *chain.Rejection {
	if b.FeePayer != nil {
		return tokens.Include(r.block, b.Sender, b.Payer(), cost, r.at.now)
	}
	return tokens.IncludeKnown(r.block, b.Sender, sender, cost, r.at.now)
}

// messages runs the messages on an overlay of their own, which reaches the
// block only if none is rejected.
func (r *run) messages(tx *chain.VerifiedTx) (chain.Events, *chain.Rejection) {
	var events chain.Events
	for i := range tx.Tx().Body.Messages {
		made, why := r.metered(tx, i)
		if why != nil {
			r.tx.Discard()
			if len(tx.Tx().Body.Messages) > 1 {
				why = chain.Reject("message %d: %s", i, why.Reason())
			}
			return nil, why
		}
		if events == nil { // most transactions have one message
			events = made
		} else {
			events = append(events, made...)
		}
	}
	r.tx.Flush(r.block)
	return events, nil
}

// metered runs a message as far as there is gas for it.
func (r *run) metered(tx *chain.VerifiedTx, i int) (events chain.Events, why *chain.Rejection) {
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(exhausted); !ours {
				panic(p)
			}
		}
		if why == nil && r.meter.exceeded() { // by what it did, or by a proof that it could not pay for
			events, why = nil, chain.Reject("out of gas: limit %d", r.meter.limit)
		}
	}()
	return r.message(tx, i)
}

// must unwraps arithmetic that check has shown to stay within what the payer
// has, which is within the supply.
func must[T any](value T, ok bool) T {
	if !ok {
		panic("execution: a fee that was checked does not fit")
	}
	return value
}
