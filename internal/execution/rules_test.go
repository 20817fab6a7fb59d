package execution_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

var (
	alice, bob, carol = keyOf(21), keyOf(22), keyOf(23)
	team              = keyOf(30)
)

func (w *world) balance(k key) chain.Amount {
	return tokens.AccountOf(w.state, k.address()).Balance
}

func hyper(n uint64) chain.Amount { return chain.Hyper(n) }

func sub(t testing.TB, a chain.Amount, list ...chain.Amount) chain.Amount {
	t.Helper()
	for _, b := range list {
		rest, ok := a.Sub(b)
		if !ok {
			t.Fatalf("%v is less than %v", a, b)
		}
		a = rest
	}
	return a
}

func TestTransferAndItsFee(t *testing.T) {
	w := newWorld(t)
	rewards := w.rewards()
	out := w.block(1_000, w.tx(alice, chain.Transfer{To: bob.address(), Amount: hyper(3)}))
	r := out.Receipts.Txs[0]
	if !r.Accepted() || len(r.Events) != 1 {
		t.Fatalf("receipt %+v", r)
	}
	gas := r.GasUsed.Units()
	if gas < 1_000 || gas > 10_000 {
		t.Errorf("a transfer used %d gas, want 1,000 to 10,000", gas)
	}
	if r.Burned != chain.Nano(gas) || r.Tip != chain.Nano(2*gas) { // base fee 1, tip 2
		t.Errorf("burned %v, tip %v for %d gas", r.Burned, r.Tip, gas)
	}
	if want := sub(t, hyper(999_997), r.Burned, r.Tip); w.balance(alice) != want {
		t.Errorf("sender has %v, want %v", w.balance(alice), want)
	}
	if w.balance(bob) != hyper(1_000_003) {
		t.Errorf("receiver has %v", w.balance(bob))
	}
	if got := sub(t, w.rewards(), rewards); got != r.Tip {
		t.Errorf("%v are kept for the proposer, want the tip %v", got, r.Tip)
	}
	if got := tokens.SupplyOf(w.state).Burned; got != r.Burned {
		t.Errorf("burned %v, want %v", got, r.Burned)
	}
	if n := execution.NextNonce(w.state, alice.address()); n != 1 {
		t.Errorf("next nonce %d", n)
	}
}

func TestRejectedTransactionPaysAndChangesNothingElse(t *testing.T) {
	for _, c := range []struct {
		reason   string
		messages []chain.Msg
	}{
		{"message 1: hyper1", []chain.Msg{chain.Transfer{To: bob.address(), Amount: hyper(1)}, chain.Transfer{To: bob.address(), Amount: hyper(1_000_000)}}},
		{"can spend", []chain.Msg{chain.Transfer{To: bob.address(), Amount: chain.Nano(math.MaxUint64)}}},
		{"can spend", []chain.Msg{chain.Transfer{To: alice.address(), Amount: hyper(1_000_000)}}}, // the fee is set aside first
		{"transfer of zero", []chain.Msg{chain.Transfer{To: bob.address()}}},
		{"zero address", []chain.Msg{chain.Transfer{Amount: hyper(1)}}},
		{"deposit of zero", []chain.Msg{chain.Deposit{Cluster: crypto.PublicKey{1}}}},
		{"withdrawal of zero", []chain.Msg{chain.Withdraw{Cluster: crypto.PublicKey{1}}}},
		{"escrow holds 0 HYPER", []chain.Msg{chain.Withdraw{Cluster: crypto.PublicKey{1}, Amount: chain.Nano(1)}}},
		{"is not registered", []chain.Msg{chain.UnbondProvider{Node: crypto.PublicKey{1}}}},
		{"is not registered", []chain.Msg{chain.UnbondCluster{Cluster: crypto.PublicKey{1}}}},
	} {
		w := newWorld(t)
		r := w.block(1_000, w.tx(alice, c.messages...)).Receipts.Txs[0]
		if !strings.Contains(r.Rejection, c.reason) || len(r.Events) != 0 {
			t.Errorf("rejection %q with %d events, want %q", r.Rejection, len(r.Events), c.reason)
		}
		if want := sub(t, hyper(1_000_000), r.Burned, r.Tip); w.balance(alice) != want || r.Burned.IsZero() {
			t.Errorf("%s: sender has %v, want %v", c.reason, w.balance(alice), want)
		}
		if w.balance(bob) != hyper(1_000_000) || execution.NextNonce(w.state, alice.address()) != 1 {
			t.Errorf("%s: receiver has %v, nonce is %d", c.reason, w.balance(bob), execution.NextNonce(w.state, alice.address()))
		}
	}
}

func TestSelfTransfer(t *testing.T) {
	w := newWorld(t)
	r := w.block(1_000, w.tx(alice, chain.Transfer{To: alice.address(), Amount: hyper(999_999)})).Receipts.Txs[0]
	if want := sub(t, hyper(1_000_000), r.Burned, r.Tip); !r.Accepted() || w.balance(alice) != want {
		t.Errorf("%q: balance %v, want %v", r.Rejection, w.balance(alice), want)
	}
}

func TestFeePayer(t *testing.T) {
	w := newWorld(t)
	newcomer := keyOf(98)
	w.block(1, w.tx(alice, chain.Transfer{To: newcomer.address(), Amount: hyper(5)}))
	body := w.body(newcomer, chain.Transfer{To: bob.address(), Amount: hyper(5)}) // to the fee payer itself
	payer := bob.address()
	body.FeePayer = &payer
	r := w.block(1, w.sign(body, newcomer, bob)).Receipts.Txs[0]
	if want := sub(t, hyper(1_000_005), r.Burned, r.Tip); !r.Accepted() || w.balance(bob) != want {
		t.Errorf("%q: payer has %v, want %v", r.Rejection, w.balance(bob), want)
	}
	if !w.balance(newcomer).IsZero() {
		t.Errorf("sender has %v, want to have spent all without a fee", w.balance(newcomer))
	}
	if n := execution.NextNonce(w.state, bob.address()); n != 0 {
		t.Errorf("the payer's nonce is %d", n)
	}
}

func TestVestedTokensPayNoFee(t *testing.T) {
	w := newWorld(t)
	tx := w.tx(team, chain.Transfer{To: bob.address(), Amount: hyper(1)})
	wantRule(t, admit(w.x, w.state, &tx.DecodedTx), execution.RuleFunds)
	w.block(chain.TeamCliffMs)
	w.nonces[team.address()] = 0
	if r := w.block(1, w.tx(team, chain.Transfer{To: bob.address(), Amount: hyper(50_000_000 - 100)})).Receipts.Txs[0]; !r.Accepted() {
		t.Errorf("after the cliff: %s", r.Rejection)
	}
	if r := w.block(1, w.tx(team, chain.Transfer{To: bob.address(), Amount: hyper(200)})).Receipts.Txs[0]; r.Accepted() {
		t.Error("a quarter and more was spent after a quarter of the time")
	}
}

func wantRule(t *testing.T, err error, rule execution.Rule) {
	t.Helper()
	refusal, ok := errors.AsType[*execution.Refusal](err)
	if !ok || refusal.Rule != rule {
		t.Errorf("got %v, want a refusal by %s", err, rule)
	}
}

// TestTransactionsThatMayNotStand breaks one rule of position at a time: Apply
// calls the block invalid, Build drops the transaction, Admit refuses it.
func TestTransactionsThatMayNotStand(t *testing.T) {
	for _, c := range []struct {
		rule   execution.Rule
		change func(b *chain.TxBody)
	}{
		{execution.RuleChainID, func(b *chain.TxBody) { b.ChainID = "another-1" }},
		{execution.RuleExpired, func(b *chain.TxBody) { b.Expiry = 1 }},
		{execution.RuleExpiryFar, func(b *chain.TxBody) { b.Expiry = 2 + execution.MaxExpiryAhead + 1 }},
		{execution.RuleExpiryFar, func(b *chain.TxBody) { b.Expiry = math.MaxUint64 }},
		{execution.RuleNonceLow, func(b *chain.TxBody) { b.Nonce = 0 }},
		{execution.RuleNonceGap, func(b *chain.TxBody) { b.Nonce = 1 + execution.NonceWindow }},
		{execution.RuleNonceGap, func(b *chain.TxBody) { b.Nonce = math.MaxUint64 }},
		{execution.RuleMaxFee, func(b *chain.TxBody) { b.MaxFee, b.Tip = chain.GasPrice{}, chain.GasPrice{} }},
		{execution.RuleGasLimit, func(b *chain.TxBody) { b.GasLimit = chain.GasUnits(2_000) }},
		{execution.RuleGasLimit, func(b *chain.TxBody) { b.GasLimit = chain.GasUnits(60_000_001) }},
		{execution.RuleFunds, func(b *chain.TxBody) { b.MaxFee = chain.PricePerGas(math.MaxUint64) }},
		{execution.RuleFunds, func(b *chain.TxBody) { b.MaxFee = chain.PricePerGas(200_000_001) }}, // × 5,000,000 gas
	} {
		w := newWorld(t)
		w.block(1, w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)}))
		body := w.body(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})
		c.change(&body)
		tx := w.sign(body, alice)
		wantRule(t, admit(w.x, w.state, &tx.DecodedTx), c.rule)
		_, err := w.x.Apply(w.state, w.header(1), staking.Extras{}, []*chain.VerifiedTx{tx})
		wantRule(t, err, c.rule)
		if !errors.Is(err, execution.ErrInvalidBlock) {
			t.Errorf("%s: %v is not ErrInvalidBlock", c.rule, err)
		}
		built, err := w.x.Build(w.state, w.header(1), execution.MaxBudget, staking.Extras{}, offer(tx))
		if err != nil || len(built.Included) != 0 || len(built.Dropped) != 1 || built.Dropped[0].Reason.Rule != c.rule {
			t.Errorf("%s: built %+v, %v", c.rule, built, err)
		}
	}
}

func TestAdmitLooksAheadOfTheNonce(t *testing.T) {
	w := newWorld(t)
	body := w.body(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})
	body.Nonce = execution.NonceWindow - 1
	tx := w.sign(body, alice)
	if err := admit(w.x, w.state, &tx.DecodedTx); err != nil {
		t.Error(err)
	}
	_, err := w.x.Apply(w.state, w.header(1), staking.Extras{}, []*chain.VerifiedTx{tx})
	wantRule(t, err, execution.RuleNonceGap)
	if err := admit(w.x, state.NewMemoryBackend(), &tx.DecodedTx); !errors.Is(err, execution.ErrNoGenesis) {
		t.Errorf("without a genesis: %v", err)
	}
}

func TestInvalidBlocks(t *testing.T) {
	w := newWorld(t)
	tx := w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})
	for name, change := range map[string]func(h *chain.Header){
		"version 2, want 1":         func(h *chain.Header) { h.Version = 2 },
		"chain \"another\"":         func(h *chain.Header) { h.ChainID = "another" },
		"height 2 on a state":       func(h *chain.Header) { h.Height++ },
		"height 0 on a state":       func(h *chain.Header) { h.Height-- },
		"the parent's is":           func(h *chain.Header) { h.TimeMs = genesisTime },
		"is not in the committee":   func(h *chain.Header) { h.Proposer = keyOf(5).Public() },
		"signatures do not verify":  nil,
		"nonce_too_low":             nil,
		"10001 transactions, limit": nil,
	} {
		h, txs := w.header(1), []*chain.VerifiedTx{tx}
		switch {
		case change != nil:
			change(h)
		case name == "nonce_too_low":
			txs = append(txs, tx)
		case strings.HasPrefix(name, "signatures"):
			txs = append(txs, nil)
		default:
			txs = make([]*chain.VerifiedTx, chain.MaxBlockTxs+1)
		}
		_, err := w.x.Apply(w.state, h, staking.Extras{}, txs)
		if !errors.Is(err, execution.ErrInvalidBlock) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalidBlock with %q", err, name)
		}
	}
}

func TestOutOfGas(t *testing.T) {
	w := newWorld(t)
	needs := w.block(1, w.tx(alice, chain.Transfer{To: bob.address(), Amount: hyper(1)})).Receipts.Txs[0].GasUsed.Units()
	body := w.body(alice, chain.Transfer{To: bob.address(), Amount: hyper(1)})
	body.GasLimit = chain.GasUnits(needs - 100) // enough to begin, not to end
	r := w.block(1, w.sign(body, alice)).Receipts.Txs[0]
	if !strings.Contains(r.Rejection, fmt.Sprint("out of gas: limit ", needs-100)) || r.GasUsed != body.GasLimit {
		t.Errorf("rejection %q, used %d", r.Rejection, r.GasUsed.Units())
	}
	if w.balance(bob) != hyper(1_000_001) {
		t.Error("the transfer took effect")
	}
}

// TestWhatIsNotPaidForIsNotDone: a message stops at the read or write that its
// gas does not cover, and not at its end.
func TestWhatIsNotPaidForIsNotDone(t *testing.T) {
	w := newWorld(t)
	w.block(1, w.tx(alice, chain.Delegate{Validator: keyOf(1).Public(), Amount: hyper(100)}))
	reads := func(gas uint64) (int, chain.Receipt) {
		body := w.body(alice, chain.Redelegate{From: keyOf(1).Public(), To: keyOf(2).Public(), Amount: hyper(50)})
		body.GasLimit = chain.GasUnits(gas)
		w.nonces[alice.address()]--
		r := &failAfter{Reader: w.state, reads: 1 << 30}
		out, err := w.x.Apply(r, w.header(1), staking.Extras{}, []*chain.VerifiedTx{w.sign(body, alice)})
		if err != nil {
			t.Fatal(err)
		}
		return 1<<30 - r.reads, out.Receipts.Txs[0]
	}
	whole, r := reads(1_000_000)
	if !r.Accepted() {
		t.Fatal(r.Rejection)
	}
	probe := w.body(alice, chain.Redelegate{From: keyOf(1).Public(), To: keyOf(2).Public(), Amount: hyper(50)})
	w.nonces[alice.address()]--
	begun, r := reads(execution.IntrinsicGas(&w.sign(probe, alice).DecodedTx))
	if !strings.Contains(r.Rejection, "out of gas: limit ") || r.GasUsed.Units() != execution.IntrinsicGas(&w.sign(probe, alice).DecodedTx) {
		t.Errorf("rejection %q, used %d", r.Rejection, r.GasUsed.Units())
	}
	empty := &failAfter{Reader: w.state, reads: 1 << 30}
	if _, err := w.x.Apply(empty, w.header(1), staking.Extras{}, nil); err != nil {
		t.Fatal(err)
	}
	if block := 1<<30 - empty.reads; begun-block > (whole-block)/2 {
		t.Errorf("with no gas for it %d records were read, with enough %d, and %d without it", begun, whole, block)
	}
}

func TestProofsArePaidForBeforeTheyAreVerified(t *testing.T) {
	w := newWorld(t)
	w.register()
	settle := chain.Settle{Claims: []chain.Claim{w.claim(multiply, 4, nodeB)}}
	body := w.body(alice, settle)
	body.GasLimit = chain.GasUnits(600_000) // the kernel alone is 700,000
	r := w.block(1, w.sign(body, alice)).Receipts.Txs[0]
	if !strings.Contains(r.Rejection, "out of gas") || r.GasUsed != body.GasLimit {
		t.Errorf("rejection %q, used %d", r.Rejection, r.GasUsed.Units())
	}
	if w.proofs.calls != 0 {
		t.Error("a proof that was not paid for was verified")
	}
	r = w.block(1, w.tx(alice, settle)).Receipts.Txs[0]
	if _, settled := r.Events[0].(chain.ClaimSettled); !settled || r.GasUsed.Units() < 700_000 {
		t.Errorf("events %+v, used %d", r.Events, r.GasUsed.Units())
	}
}

func offer(txs ...*chain.VerifiedTx) func() (*chain.VerifiedTx, bool) {
	return func() (*chain.VerifiedTx, bool) {
		if len(txs) == 0 {
			return nil, false
		}
		tx := txs[0]
		txs = txs[1:]
		return tx, true
	}
}

func TestBuildIncludesWhatApplyAccepts(t *testing.T) {
	w := newWorld(t)
	transfer := func(from key) *chain.VerifiedTx {
		return w.tx(from, chain.Transfer{To: carol.address(), Amount: chain.Nano(5)})
	}
	first, second := transfer(alice), transfer(alice)
	txs := []*chain.VerifiedTx{first, transfer(bob), first, second, w.tx(bob, chain.Transfer{})}
	h := w.header(10)
	built, err := w.x.Build(w.state, h, execution.MaxBudget, staking.Extras{}, offer(txs...))
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Included) != 4 || len(built.Dropped) != 1 || built.Dropped[0].ID != first.ID() {
		t.Fatalf("%d included, dropped %+v", len(built.Included), built.Dropped)
	}
	out, err := w.x.Apply(w.state, h, staking.Extras{}, built.Included)
	if err != nil {
		t.Fatal(err)
	}
	if out.Receipts.Root() != built.Outcome.Receipts.Root() || len(out.Changes) != len(built.Outcome.Changes) || out.GasUsed != built.Outcome.GasUsed {
		t.Error("Apply and Build differ")
	}
	w.commit(h, out)
}

func TestBuildKeepsItsBudget(t *testing.T) {
	w := newWorld(t)
	var txs []*chain.VerifiedTx
	for range 20 { // of 5,000,000 gas each at most: what counts is what was used
		txs = append(txs, w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)}))
	}
	size := len(txs[0].Raw())
	for _, c := range []struct {
		budget execution.Budget
		want   int
	}{
		{execution.MaxBudget, 20},
		{execution.Budget{Txs: 3, Bytes: execution.MaxBodyBytes}, 3},
		{execution.Budget{Txs: 99_999, Bytes: 5*size + 1}, 5},
		{execution.Budget{}, 0},
	} {
		built, err := w.x.Build(w.state, w.header(1), c.budget, staking.Extras{}, offer(txs...))
		if err != nil || len(built.Included) != c.want || len(built.Dropped) != 0 {
			t.Errorf("%+v: %d included, %d dropped, %v; want %d", c.budget, len(built.Included), len(built.Dropped), err, c.want)
		}
	}
}

func TestBlockGasLimit(t *testing.T) {
	w := newWorld(t)
	whole := func(from key) *chain.VerifiedTx {
		body := w.body(from, chain.Transfer{To: carol.address(), Amount: chain.Nano(1)})
		body.GasLimit, body.MaxFee = chain.GasUnits(60_000_000), chain.PricePerGas(10)
		return w.sign(body, from)
	}
	txs := []*chain.VerifiedTx{whole(alice), whole(bob)}
	_, err := w.x.Apply(w.state, w.header(1), staking.Extras{}, txs)
	wantRule(t, err, execution.RuleBlockGas)
	built, err := w.x.Build(w.state, w.header(1), execution.MaxBudget, staking.Extras{}, offer(txs...))
	if err != nil || len(built.Included) != 1 || len(built.Dropped) != 0 {
		t.Errorf("built %d, dropped %d, %v; the second should wait", len(built.Included), len(built.Dropped), err)
	}
}

func TestGenesisRefuses(t *testing.T) {
	g := genesis()
	g.Allocations[0].Amount = chain.Nano(1)
	if err := execution.Genesis(state.NewMemoryBackend(), g); err == nil || !strings.Contains(err.Error(), "bucket community") {
		t.Errorf("a wrong distribution: %v", err)
	}
	full := state.NewMemoryBackend()
	full.Set([]byte{1}, []byte{1})
	if err := execution.Genesis(full, genesis()); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("on a used state: %v", err)
	}
	if _, err := newWorld(t).x.Apply(state.NewMemoryBackend(), &chain.Header{}, staking.Extras{}, nil); !errors.Is(err, execution.ErrNoGenesis) {
		t.Errorf("a block on nothing: %v", err)
	}
}

func TestFaultsAreErrors(t *testing.T) {
	w := newWorld(t)
	txs := []*chain.VerifiedTx{w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})}
	broken := errors.New("the disk is gone")
	failing := &failAfter{Reader: w.state, err: broken, reads: 4}
	_, err := w.x.Apply(failing, w.header(1), staking.Extras{}, txs)
	if !errors.Is(err, broken) || errors.Is(err, execution.ErrInvalidBlock) {
		t.Errorf("a failing backend: %v", err)
	}
	w.state.Set(tokens.AccountKey(alice.address()), []byte{0xff})
	_, err = w.x.Apply(w.state, w.header(1), staking.Extras{}, txs)
	if _, fault := errors.AsType[*state.Fault](err); !fault || errors.Is(err, execution.ErrInvalidBlock) {
		t.Errorf("a broken record: %v", err)
	}
	if _, fault := errors.AsType[*state.Fault](admit(w.x, w.state, &txs[0].DecodedTx)); !fault {
		t.Error("Admit read a broken record")
	}
}

// failAfter is a state whose backend fails after some reads.
type failAfter struct {
	state.Reader
	err   error
	reads int
}

func (f *failAfter) Get(key []byte) ([]byte, bool) {
	if f.reads--; f.reads < 0 {
		panic(&state.Fault{Op: "reading", Err: f.err})
	}
	return f.Reader.Get(key)
}

// TestConservationIsChecked shows the check what a broken module would do.
func TestConservationIsChecked(t *testing.T) {
	w := newWorld(t)
	key := tokens.AccountKey(alice.address())
	account := func(balance chain.Amount) []byte {
		scratch := state.NewMemoryBackend()
		tokens.Credit(scratch, alice.address(), balance)
		value, _ := scratch.Get(key)
		return value
	}
	for name, c := range map[string]struct {
		change state.Change
		wrong  bool
	}{
		"nothing":            {state.Change{Key: key, Value: account(hyper(1_000_000))}, false},
		"one nHYPER made":    {state.Change{Key: key, Value: account(chain.Nano(1_000_000_000_000_001))}, true},
		"an account deleted": {state.Change{Key: key, Deleted: true}, true},
		"a balance made":     {state.Change{Key: tokens.AccountKey(keyOf(77).address()), Value: account(chain.Nano(1))}, true},
		"too much to add up": {state.Change{Key: key, Value: account(chain.Nano(math.MaxUint64))}, true},
	} {
		err := execution.CheckConserved(w.state, []state.Change{c.change})
		if wrong := errors.Is(err, execution.ErrSupply); wrong != c.wrong || wrong != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.state.Set(key, account(chain.Nano(5)))
	supply, err := execution.Recompute(w.state)
	if !errors.Is(err, execution.ErrSupply) || !strings.Contains(err.Error(), "1000000000 HYPER") {
		t.Errorf("recomputed %+v, %v", supply, err)
	}
}

// Many small withdrawals that mature together must not keep others' waiting: on
// an idle chain a block a second is all that empties the queue.
func TestAThousandMatureInOneBlock(t *testing.T) {
	w := newWorld(t)
	spender, amount := keyOf(21).address(), chain.Nano(7)
	for i := range 1_001 {
		if why := tokens.Debit(w.state, spender, amount, w.now); why != nil {
			t.Fatal(why.Reason())
		}
		tokens.Mature(w.state, w.now+1, fmt.Append(nil, "escrow ", i), tokens.Maturing{To: spender, Amount: amount})
	}
	for _, want := range []int{1_000, 1, 0} {
		if got := len(w.block(1_000).Receipts.Begin); got != want {
			t.Errorf("%d amounts matured, want %d", got, want)
		}
	}
}

// admit asks a fresh admission on a state.
func admit(x *execution.Executor, r state.Reader, tx *chain.DecodedTx) error {
	a, err := x.Admission(r)
	if err != nil {
		return err
	}
	return a.Admit(tx)
}
