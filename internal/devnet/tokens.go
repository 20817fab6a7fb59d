package devnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

const (
	tokenGas     = 100_000       // a transfer
	tokenFunding = 10            // benchFunding a transfer: fee and room
	tokenRoom    = 10_000_000    // nHYPER at most that a transfer pays for room
	tokenEach    = 5_000_000_000 // that each sender begins with: few transfers change how many digits that has
	tokenMost    = 997           // that a transfer moves at most
	tokenIssue   = 1_000         // HYPER for storing the code and for a balance of each sender
	tokenWait    = 5 * time.Minute
)

// token is a contract of a bench, and what of it each sender has by the receipts.
type token struct {
	contract chain.Address
	have     []uint64
	calls    bool // of blocks that were looked through since it was last asked, some have moved tokens
}

// issueFunding is what issuing a token takes, in nHYPER.
func issueFunding(o *BenchOptions) uint64 {
	if o.Token == nil {
		return 0
	}
	return tokenIssue * chain.NanoPerHyper
}

// tokenAmount is how many tokens transfer i moves.
func tokenAmount(i int) uint64 { return 1 + uint64(i)%tokenMost }

// move returns the message of transfer i.
func (b *bench) move(i int) chain.Msg { return b.pay(b.to(i), tokenAmount(i)) }

// pay returns the call that moves tokens to somebody.
func (b *bench) pay(to chain.Address, amount uint64) chain.ExecuteContract {
	return chain.ExecuteContract{
		Contract: b.token.contract, Msg: fmt.Appendf(nil, `{"transfer":{"recipient":%q,"amount":"%d"}}`, to, amount), MaxDeposit: chain.Nano(tokenRoom),
	}
}

// moved notes that transfer i of so many senders' took effect.
func (t *token) moved(i, senders int) {
	if t.have == nil {
		return // another load
	}
	t.have[i%senders] -= tokenAmount(i)
	t.have[partner(i, senders)] += tokenAmount(i)
	t.calls = true
}

// supply is how many tokens there are.
func (b *bench) supply() uint64 { return tokenEach * uint64(len(b.senders)) }

// issue stores the contract's code, makes a contract of it, and gives every sender
// as many tokens.
func (b *bench) issue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	parts, err := sdk.CodeParts(b.options.Token)
	if err != nil {
		return err
	}
	builder := b.clients[0].NewBuilder(b.master, sdk.BuilderOptions{})
	last := len(parts) - 1
	for i := range parts[:last] {
		if _, err := builder.SendAndWait(ctx, parts[i]); err != nil {
			return fmt.Errorf("storing a part of the code: %w", err)
		}
	}
	stored, err := sent[chain.CodeStored](ctx, builder, parts[last])
	if err != nil {
		return fmt.Errorf("storing the code: %w", err)
	}
	if err := b.clients[0].AwaitCode(ctx, uint64(stored.Code), nil); err != nil {
		return err
	}
	made, err := sent[chain.ContractInstantiated](ctx, builder, chain.InstantiateContract{
		Code: uint64(stored.Code), Label: "bench", MaxDeposit: chain.Hyper(1),
		Msg: fmt.Appendf(nil, `{"name":"Bench token","symbol":"BENCH","decimals":6,"initial_balances":[{"address":%q,"amount":"%d"}]}`, b.master.Address(), b.supply()),
	})
	if err != nil {
		return fmt.Errorf("making the contract: %w", err)
	}
	b.token = token{contract: made.Contract, have: make([]uint64, len(b.senders))}
	for i := range b.token.have {
		b.token.have[i] = tokenEach
	}
	options := sdk.BuilderOptions{ExpiryHeights: 50_000, GasLimit: chain.GasUnits(tokenGas * chain.MaxMessages)}
	return b.fanOut(ctx, options, func(sender chain.Address) chain.Msg { return b.pay(sender, tokenEach) })
}

// errNoEvent says that a transaction did not say what was wanted.
var errNoEvent = errors.New("devnet: a transaction took effect without the event that it is for")

// sent sends a message and returns the first event of a type.
func sent[T chain.Event](ctx context.Context, builder *sdk.Builder, message chain.Msg) (found T, err error) {
	final, err := builder.SendAndWait(ctx, message)
	if err != nil || final.Receipt == nil {
		return found, errors.Join(err, ctx.Err())
	}
	for _, e := range final.Receipt.Events {
		if found, ok := e.(T); ok {
			return found, nil
		}
	}
	return found, errNoEvent
}

// checkTokens holds what the state says that each sender has, after one block, against
// what the receipts of all blocks up to it say, and their sum against the supply.
func (b *bench) checkTokens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	for {
		have, first, last, err := b.balances(ctx)
		if err != nil {
			return err
		}
		ahead := b.read > first
		if err := b.readUpTo(ctx, first); err != nil {
			return err
		}
		b.token.calls = ahead
		if err := b.readUpTo(ctx, last); err != nil {
			return err
		}
		if !b.token.calls { // the balances are of one state, and so is what the receipts say
			return b.compare(ctx, have)
		}
	}
}

// compare says which balance is not what it should be.
func (b *bench) compare(ctx context.Context, have []uint64) error {
	sum := uint64(0)
	for i, got := range have {
		if sum += got; got != b.token.have[i] {
			return fmt.Errorf("sender %d has %d tokens, by the receipts %d", i, got, b.token.have[i])
		}
	}
	var info struct {
		Supply string `json:"total_supply"`
	}
	answer, err := b.clients[0].QueryContract(ctx, b.token.contract, []byte(`{"token_info":{}}`))
	if err == nil {
		err = json.Unmarshal(answer.Data, &info)
	}
	if err == nil && (info.Supply != strconv.FormatUint(sum, 10) || sum != b.supply()) {
		err = fmt.Errorf("the senders have %d tokens, the contract says %s, and %d were issued", sum, info.Supply, b.supply())
	}
	return err
}

// balances reads what every sender has from the state of the node whose blocks are
// looked through, and after which blocks the first and the last was read.
func (b *bench) balances(ctx context.Context) (have []uint64, first, last chain.Height, err error) {
	n := len(b.senders)
	have = make([]uint64, n)
	heights, errs := make([]chain.Height, n), make([]error, n)
	crypto.ForkJoin(n, 2*runtime.GOMAXPROCS(0), func(i int) {
		have[i], heights[i], errs[i] = b.balance(ctx, b.senders[i].Address())
	})
	if err := errors.Join(errs...); err != nil {
		return nil, 0, 0, err
	}
	first = heights[0]
	for _, h := range heights {
		first, last = min(first, h), max(last, h)
	}
	return have, first, last, nil
}

// balance reads one, as cw20 contracts keep it.
func (b *bench) balance(ctx context.Context, of chain.Address) (amount uint64, at chain.Height, err error) {
	const balances = "\x00\x07balance"
	found, err := b.clients[len(b.clients)-1].State(ctx, contract.StorageKey(b.token.contract, []byte(balances+of.String())))
	if err != nil || !found.Present {
		return 0, found.Height, err
	}
	var text string
	if err = json.Unmarshal(found.Value, &text); err == nil {
		amount, err = strconv.ParseUint(text, 10, 64)
	}
	return amount, found.Height, err
}

// readUpTo looks through the blocks up to a height that were not.
func (b *bench) readUpTo(ctx context.Context, height chain.Height) error {
	for b.read < height {
		if err := b.count(ctx, seenBlock{height: b.read + 1, at: time.Since(b.began)}); err != nil {
			return fmt.Errorf("reading block %d: %w", b.read, err)
		}
	}
	return nil
}
