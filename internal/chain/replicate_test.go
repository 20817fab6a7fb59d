package chain_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var replicated = chain.PolicyReplicate{K: 2, N: 3, Stake: chain.Nano(2_345_678_910), WindowMs: 60_000}

// signs reports whether all inner signatures of a transaction's message verify.
func signs(t *testing.T, m chain.Msg) bool {
	t.Helper()
	tx, err := chain.DecodeTx(signedTx(t, chain.Msgs{m}).Encode())
	if err != nil {
		t.Fatal(err)
	}
	return chain.VerifyTxs([]chain.DecodedTx{tx}, 1)[0].DealSigned(0)
}

// TestRunsAreFrozen freezes what messages about replicated runs look like.
func TestRunsAreFrozen(t *testing.T) {
	tx := signedTx(t, runMessages())
	roundTrip(t, "tx_runs", tx)
	if _, err := chain.DecodeTx(tx.Encode()); err != nil {
		t.Error(err)
	}
}

// TestEveryRunSignatureCounts: each of them, and whatever they cover.
func TestEveryRunSignatureCounts(t *testing.T) {
	begin := func(change func(*chain.BeginRun)) chain.Msg {
		m := runMessages()[0].(chain.BeginRun)
		m.Slate = slices.Clone(m.Slate)
		change(&m)
		return m
	}
	commit := func(change func(*chain.CommitRun)) chain.Msg {
		m := runMessages()[1].(chain.CommitRun)
		change(&m)
		return m
	}
	reveal := func(change func(*chain.RevealRun)) chain.Msg {
		m := runMessages()[2].(chain.RevealRun)
		change(&m)
		return m
	}
	for i, m := range runMessages()[:3] {
		if !signs(t, m) {
			t.Errorf("message %d: its signatures do not verify", i)
		}
	}
	for name, m := range map[string]chain.Msg{
		"order":               begin(func(m *chain.BeginRun) { m.OrderSig[3] ^= 1 }),
		"order's cost":        begin(func(m *chain.BeginRun) { m.Order.MaxCost = chain.Nano(1) }),
		"order's stake":       begin(func(m *chain.BeginRun) { p := replicated; p.Stake = chain.Nano(1); m.Order.Policy.Policy = p }),
		"acceptance":          begin(func(m *chain.BeginRun) { m.AcceptanceSig[3] ^= 1 }),
		"acceptance's amount": begin(func(m *chain.BeginRun) { m.Acceptance.Outstanding = chain.Nano(1) }),
		"slate":               begin(func(m *chain.BeginRun) { m.SlateSig[3] ^= 1 }),
		"slate without one":   begin(func(m *chain.BeginRun) { m.Slate = m.Slate[:1] }),
		"slate's first":       begin(func(m *chain.BeginRun) { slices.Reverse(m.Slate) }),
		"bid":                 begin(func(m *chain.BeginRun) { m.Slate[1].Signature[3] ^= 1 }),
		"bid's price":         begin(func(m *chain.BeginRun) { m.Slate[1].Prices = nil }),
		"bid's expiry":        begin(func(m *chain.BeginRun) { m.Slate[1].Expiry++ }),
		"commitment":          begin(func(m *chain.BeginRun) { m.Commitment[3] ^= 1 }),
		"primary's signature": begin(func(m *chain.BeginRun) { m.Signature[3] ^= 1 }),
		"node":                commit(func(m *chain.CommitRun) { m.Node = testKey(3).Public() }),
		"chain":               commit(func(m *chain.CommitRun) { m.ChainID = "another-1" }),
		"run's order":         commit(func(m *chain.CommitRun) { m.Order[3] ^= 1 }),
		"run's commitment":    commit(func(m *chain.CommitRun) { m.Commitment[3] ^= 1 }),
		"run's place":         commit(func(m *chain.CommitRun) { m.Place++ }),
		"run's signature":     commit(func(m *chain.CommitRun) { m.Signature[3] ^= 1 }),
		"receipt":             reveal(func(m *chain.RevealRun) { m.Receipt.Fuel++ }),
		"receipt's signature": reveal(func(m *chain.RevealRun) { m.ReceiptSig[3] ^= 1 }),
		"cluster":             reveal(func(m *chain.RevealRun) { m.Cluster = testKey(9).Public() }),
		"attestation":         reveal(func(m *chain.RevealRun) { m.Attestation[3] ^= 1 }),
	} {
		if signs(t, m) {
			t.Errorf("%s changed: the signatures verify still", name)
		}
	}
}

// TestAReceiptWithoutAnAttestationSignsForItsNodeAlone: none is no signature that fails, and the message says that it has none.
func TestAReceiptWithoutAnAttestationSignsForItsNodeAlone(t *testing.T) {
	m := runMessages()[2].(chain.RevealRun)
	attested := m.Attested()
	m.Attestation = crypto.Signature{}
	if !attested || m.Attested() || !signs(t, m) {
		t.Errorf("attested %t; without the attestation attested %t, signed %t", attested, m.Attested(), signs(t, m))
	}
	if m.ReceiptSig[3] ^= 1; signs(t, m) {
		t.Error("it verifies without its node's signature")
	}
}

func TestRunForms(t *testing.T) {
	for want, m := range map[string]chain.Msg{
		"policy is none": func() chain.Msg {
			m := runMessages()[0].(chain.BeginRun)
			m.Order.Policy.Policy = chain.PolicyNone{}
			return m
		}(),
		"replicate window_ms is 999": func() chain.Msg {
			m := runMessages()[0].(chain.BeginRun)
			m.Order.Policy.Policy = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 999}
			return m
		}(),
		"replicate window_ms is 86400001": func() chain.Msg {
			m := runMessages()[0].(chain.BeginRun)
			m.Order.Policy.Policy = chain.PolicyReplicate{K: 2, N: 3, WindowMs: chain.MaxRunWindowMs + 1}
			return m
		}(),
		"slate has 0, limit 16":  func() chain.Msg { m := runMessages()[0].(chain.BeginRun); m.Slate = nil; return m }(),
		"slate has 17, limit 16": func() chain.Msg { m := runMessages()[0].(chain.BeginRun); m.Slate = make(chain.Slate, 17); return m }(),
		"twice": func() chain.Msg {
			m := runMessages()[0].(chain.BeginRun)
			m.Slate = chain.Slate{m.Slate[0], m.Slate[0]}
			return m
		}(),
		"slate prices has resource 0": func() chain.Msg {
			m := runMessages()[0].(chain.BeginRun)
			m.Slate = chain.Slate{{Prices: []chain.UnitPrice{{}}}}
			return m
		}(),
		"commitment is zero": func() chain.Msg { m := runMessages()[1].(chain.CommitRun); m.Commitment = crypto.Digest{}; return m }(),
		"place 16 among":     func() chain.Msg { m := runMessages()[1].(chain.CommitRun); m.Place = chain.MaxReplicas; return m }(),
		"chain id":           func() chain.Msg { m := runMessages()[1].(chain.CommitRun); m.ChainID = "X"; return m }(),
		"exit status 0":      func() chain.Msg { m := runMessages()[2].(chain.RevealRun); m.Receipt.Exit = 0; return m }(),
	} {
		_, err := chain.DecodeTx(signedTx(t, chain.Msgs{m}).Encode())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	begin := runMessages()[0].(chain.BeginRun)
	begin.Commitment = crypto.Digest{}
	if _, err := chain.DecodeTx(signedTx(t, chain.Msgs{begin}).Encode()); err == nil {
		t.Error("a zero commitment begins an order")
	}
}

// A bid of a slate is what its node signed.
func TestSlateBid(t *testing.T) {
	bid := sampleClaim(replicated).Bid
	bid.Fixed = chain.Amount{}
	listed := chain.SlateBidOf(&bid, crypto.Signature{})
	if again := listed.Bid(bid.ChainID, bid.Order); string(codec.Marshal(again)) != string(codec.Marshal(bid)) {
		t.Errorf("the bid became %+v", again)
	}
}
