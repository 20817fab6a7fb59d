package node

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/execution"
)

// offer decodes a transaction and offers it to the pool. It returns why it was
// refused, or the empty string.
func (r *rig) offer(raw []byte) string {
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		return err.Error()
	}
	return r.app.pool.Submit([]chain.DecodedTx{tx})[0]
}

// body is that of a good transfer.
func goodBody(from int) chain.TxBody {
	return chain.TxBody{
		ChainID: testChain, Sender: user(from).address(), Expiry: 50_000, GasLimit: chain.GasUnits(1_000_000),
		MaxFee: chain.PricePerGas(50), Messages: chain.Msgs{chain.Transfer{To: user(9).address(), Amount: chain.Nano(1)}},
	}
}

func sign(t *testing.T, body chain.TxBody, from int) chain.Tx {
	t.Helper()
	tx, err := chain.SignTx(body, user(from))
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// malleable returns a transaction whose signature's S has the group's order added
// (RFC 8032 §5.1.7 refuses it): another signature of the same bytes.
func malleable(tx chain.Tx) chain.Tx {
	order := []byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	}
	tx.Signatures = slices.Clone(tx.Signatures)
	s := tx.Signatures[0].Signature[32:]
	carry := 0
	for i := range order {
		carry += int(s[i]) + int(order[i])
		s[i] = byte(carry)
		carry >>= 8
	}
	return tx
}

func TestBadTransactionsAreRefusedByName(t *testing.T) {
	r := newRig(t, testGenesis(t))
	good := sign(t, goodBody(1), 1).Encode()
	change := func(f func(b *chain.TxBody)) []byte {
		b := goodBody(2)
		f(&b)
		return sign(t, b, 2).Encode()
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"malleable":          {malleable(sign(t, goodBody(2), 2)).Encode(), "a signature does not verify"},
		"forged":             {sign(t, goodBody(2), 3).Encode(), "its key is not that of"},
		"oversized":          {make([]byte, chain.MaxTxBytes+1), "limit 131072"},
		"deep":               {bytes.Repeat([]byte{0x81}, 60_000), "nested level"},
		"truncated":          {good[:len(good)-1], "unexpected EOF"},
		"with more bytes":    {append(slices.Clone(good), 0), "1 bytes of extraneous data"},
		"a longer head":      {append([]byte{0x98, 2}, good[1:]...), "not canonical"},
		"of another chain":   {change(func(b *chain.TxBody) { b.ChainID = "other-chain-1" }), "chain_id"},
		"expired":            {change(func(b *chain.TxBody) { b.Expiry = 0 }), "expired"},
		"expires too late":   {change(func(b *chain.TxBody) { b.Expiry = execution.MaxExpiryAhead + 2 }), "expiry_too_far"},
		"under-priced":       {change(func(b *chain.TxBody) { b.MaxFee = chain.PricePerGas(0) }), "max_fee_below_base_fee"},
		"beyond its balance": {change(func(b *chain.TxBody) { b.MaxFee = chain.PricePerGas(1 << 40) }), "insufficient_funds"},
		"too little gas":     {change(func(b *chain.TxBody) { b.GasLimit = chain.GasUnits(10) }), "gas_limit"},
		"a gap of nonces":    {change(func(b *chain.TxBody) { b.Nonce = execution.NonceWindow }), "nonce_gap"},
		"too many messages":  {change(func(b *chain.TxBody) { b.Messages = slices.Repeat(b.Messages, chain.MaxMessages+1) }), "messages has 17, limit 16"},
		"a long memo":        {change(func(b *chain.TxBody) { b.Memo = strings.Repeat("m", chain.MaxMemo+1) }), "memo has 257, limit 256"},
		"no array":           {codec.Marshal("transaction"), "cannot unmarshal"},
	} {
		if got := r.offer(c.raw); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := r.offer(good); got != "" {
		t.Errorf("a good one: %q", got)
	}
	if got := r.offer(good); got != "" {
		t.Errorf("a duplicate, which is there already: %q", got)
	}
	raised := goodBody(1)
	raised.MaxFee = chain.PricePerGas(51)
	if got := r.offer(sign(t, raised, 1).Encode()); !strings.Contains(got, "a replacement pays a tenth more") {
		t.Errorf("another of its nonce: %q", got)
	}
	if txs, _ := r.app.pool.size(); txs != 1 {
		t.Errorf("%d transactions wait, want the good one", txs)
	}
}

// TestASenderWithTenThousandPending has so many places as a sender has, and nobody
// verifies the signatures of the others.
func TestASenderWithTenThousandPending(t *testing.T) {
	r := newRig(t, testGenesis(t))
	accepted := 0
	body := goodBody(1)
	tx := sign(t, body, 1)
	for nonce := range uint64(10_000) {
		if nonce < execution.NonceWindow+10 {
			body.Nonce = nonce
			tx = sign(t, body, 1)
		}
		tx.Body.Nonce = nonce // from some on, not worth a signature
		got := r.offer(tx.Encode())
		if got == "" {
			accepted++
		} else if !strings.Contains(got, "nonce_gap") {
			t.Fatalf("nonce %d: %q", nonce, got)
		}
	}
	if accepted != execution.NonceWindow || r.app.pool.verifier.count.Load() != execution.NonceWindow {
		t.Errorf("%d accepted, %d verified, want %d", accepted, r.app.pool.verifier.count.Load(), execution.NonceWindow)
	}
}
