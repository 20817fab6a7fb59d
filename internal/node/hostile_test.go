package node

import (
	"bytes"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
)

// offer is what a node does with bytes that a client or a peer sends: it returns
// why they were refused, or the empty string.
func (r *rig) offer(raw []byte) string {
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		return err.Error()
	}
	return r.app.pool.Submit([]chain.DecodedTx{tx})[0]
}

// written is a transfer of user 1 whose body was changed before it was signed.
func written(t *testing.T, change func(*chain.TxBody)) []byte {
	t.Helper()
	body := chain.TxBody{
		ChainID: testChain, Sender: user(1).address(), Expiry: 50_000, GasLimit: chain.GasUnits(1_000_000),
		MaxFee: chain.PricePerGas(50), Tip: chain.PricePerGas(2), Messages: chain.Msgs{chain.Transfer{To: user(2).address(), Amount: chain.Hyper(1)}},
	}
	change(&body)
	tx, err := chain.SignTx(body, user(1))
	if err != nil {
		t.Fatal(err)
	}
	return tx.Encode()
}

// order is that of Ed25519's base point (RFC 8032, 5.1).
var order, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// equivalent returns a transaction with S + order for the S of its signature,
// which ends it: the same equation holds.
func equivalent(raw []byte) []byte {
	out := bytes.Clone(raw)
	scalar := out[len(out)-32:]
	slices.Reverse(scalar) // little-endian
	new(big.Int).Add(new(big.Int).SetBytes(scalar), order).FillBytes(scalar)
	slices.Reverse(scalar)
	return out
}

// TestBadTransactionsAreRefusedByName offers a node what it must not take, with
// the words that say why.
func TestBadTransactionsAreRefusedByName(t *testing.T) {
	r := newRig(t, testGenesis(t))
	good := written(t, func(*chain.TxBody) {})
	included := transfer(t, 5, 0, user(2).address())
	r.submit(included)
	r.finalize(1, r.genesisParent(), r.propose(1, r.genesisParent()))
	change := func(f func(*chain.TxBody)) []byte { return written(t, f) }
	cases := []struct {
		name string
		raw  []byte
		want string
	}{
		{"malleable: a longer head", append([]byte{0x98, 0x02}, good[1:]...), "encoding is not canonical"},
		{"malleable: an endless list", append(append([]byte{0x9f}, good[1:]...), 0xff), "indefinite"},
		{"malleable: the signature's other scalar", equivalent(good), "a signature does not verify"},
		{"forged", append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "a signature does not verify"},
		{"oversized", make([]byte, chain.MaxTxBytes+1), "131073 bytes, limit 131072"},
		{"oversized: a list that says that it is", append([]byte{0x9b, 0xff, 0xff, 0xff, 0xff}, good...), "array length 18446744071604693870 is too large"},
		{"deep", bytes.Repeat([]byte{0x81}, 10_000), "nested"},
		{"truncated", good[:len(good)-1], "unexpected EOF"},
		{"nothing", nil, "EOF"},
		{"bytes after it", append(bytes.Clone(good), 0), "extraneous data"},
		{"too many messages", change(func(b *chain.TxBody) { b.Messages = slices.Repeat(b.Messages, 17) }), "messages has 17, limit 16"},
		{"a memo too long", change(func(b *chain.TxBody) { b.Memo = strings.Repeat("m", 257) }), "memo has 257, limit 256"},
		{"replayed from another chain", change(func(b *chain.TxBody) { b.ChainID = "node-test-2" }), `chain_id: "node-test-2", want "node-test-1"`},
		{"replayed", included.Raw(), "nonce_too_low: nonce 0, the next is 1"},
		{"expired", change(func(b *chain.TxBody) { b.Expiry = 1 }), "expired: expired after height 1, this is 2"},
		{"never to expire", change(func(b *chain.TxBody) { b.Expiry = 1 << 40 }), "expiry_too_far"},
		{"under-priced", change(func(b *chain.TxBody) { b.MaxFee, b.Tip = chain.PricePerGas(0), chain.PricePerGas(0) }), "max_fee_below_base_fee: max fee 0, base fee 1"},
		{"with too little gas", change(func(b *chain.TxBody) { b.GasLimit = chain.GasUnits(1_000) }), "gas_limit: gas limit 1000, the transaction needs at least"},
		{"with more gas than a block", change(func(b *chain.TxBody) { b.GasLimit = chain.GasUnits(1 << 40) }), "gas_limit: gas limit 1099511627776, a block's is"},
		{"unpaid", change(func(b *chain.TxBody) { b.MaxFee = chain.PricePerGas(1 << 40) }), "insufficient_funds"},
		{"with a gap before its nonce", change(func(b *chain.TxBody) { b.Nonce = execution.NonceWindow }), "nonce_gap: nonce 64, the next is 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := r.offer(c.raw); got == "" || !strings.Contains(got, c.want) {
				t.Errorf("refused with %q, want %q", got, c.want)
			}
		})
	}
	if txs, _ := r.app.pool.size(); txs != 0 {
		t.Errorf("%d of them wait", txs)
	}
	if why := r.offer(good); why != "" {
		t.Errorf("the good one: %s", why)
	}
	cheap := change(func(b *chain.TxBody) { b.Tip = chain.PricePerGas(3) })
	if why := r.offer(cheap); !strings.Contains(why, "underpriced") && !strings.Contains(why, "replac") {
		t.Errorf("replaced for next to nothing: %q", why)
	}
}

// TestADuplicateInABlockIsRefused: what waits already is no news to its sender,
// but a block that has it twice is invalid.
func TestADuplicateInABlockIsRefused(t *testing.T) {
	r := newRig(t, testGenesis(t))
	tx := transfer(t, 1, 0, user(2).address())
	r.submit(tx)
	r.submit(tx)
	if txs, _ := r.app.pool.size(); txs != 1 {
		t.Errorf("%d wait, want 1", txs)
	}
	verified := r.app.pool.verify([]chain.DecodedTx{tx, tx})
	h := r.app.header(r.round(1), r.keyOfLeader(1), r.app.root)
	if err := r.app.executor.Prepare(r.store.State(), &h); err != nil {
		t.Fatal(err)
	}
	_, err := r.app.executor.Apply(r.store.State(), &h, staking.Extras{}, verified)
	if err == nil || !strings.Contains(err.Error(), "transaction 1: nonce_too_low: nonce 0, the next is 1") {
		t.Errorf("a block with a transaction twice: %v", err)
	}
}

// TestASenderWithTenThousandPending has room for a window of them, and the rest
// are refused before a signature is looked at.
func TestASenderWithTenThousandPending(t *testing.T) {
	r := newRig(t, testGenesis(t))
	const many = 10_000
	txs := make([]chain.DecodedTx, many)
	for i := range txs {
		txs[i] = transfer(t, 1, uint64(i), user(2).address())
	}
	before := r.app.pool.verifier.count.Load()
	taken := 0
	for i, reason := range r.app.pool.Submit(txs) {
		switch {
		case reason == "":
			taken++
		case !strings.Contains(reason, "nonce_gap: nonce "):
			t.Fatalf("transaction %d: %s", i, reason)
		}
	}
	if taken != execution.NonceWindow || r.app.pool.verifier.count.Load()-before != execution.NonceWindow {
		t.Errorf("%d were taken, %d verified, want %d", taken, r.app.pool.verifier.count.Load()-before, execution.NonceWindow)
	}
	// Another's transaction is not behind them.
	r.submit(transfer(t, 3, 0, user(2).address()))
}
