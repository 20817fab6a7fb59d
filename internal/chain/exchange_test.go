package chain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// fairClaim is a claim for a sealed output that its consumer has countersigned.
func fairClaim() chain.Claim {
	consumer, cluster, node := testKey(1), testKey(2), testKey(3)
	c := sampleClaim(chain.PolicyNone{})
	c.Order.Fair, c.Order.Countersignable = true, true
	id := c.Order.ID()
	c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = id, id, id
	key := chain.OutputKey{1, 2, 3}
	c.OutputKey = &key
	c.Receipt.Sealed = &chain.SealedOutput{Output: crypto.DomainBlob.Hash([]byte("sealed")), KeyHash: key.Hash(id, c.Receipt.Node)}
	c.OrderSig = consumer.PrivateKey.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = cluster.PrivateKey.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.PrivateKey.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.PrivateKey.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Countersigned = true
	c.Attestation = consumer.PrivateKey.Sign(crypto.DomainCountersign, chain.CountersignPayload(testChain, c.Receipt.Digest()))
	return c
}

// TestFairFixtures: the forms of a fair exchange, frozen.
func TestFairFixtures(t *testing.T) {
	claim := fairClaim()
	roundTrip(t, "claim_fair", claim)
	roundTrip(t, "usage_receipt_sealed", claim.Receipt)
	roundTrip(t, "order_fair", claim.Order)
	hash := claim.OutputKey.Hash(claim.Receipt.Order, claim.Receipt.Node)
	frozen(t, "output_key_hash", hash[:])
	told := chain.KeyRevealed{Order: claim.Receipt.Order, Node: claim.Receipt.Node, Sequence: 1, Output: claim.Receipt.Sealed.Output, Key: *claim.OutputKey}
	roundTrip(t, "events_fair", chain.Events{told})
}

// TestWhoCountersigns: the consumer, for this receipt, under a domain of its own, and with all
// that the receipt and the order say of the exchange.
func TestWhoCountersigns(t *testing.T) {
	signed := func(c chain.Claim) bool {
		t.Helper()
		tx, err := chain.DecodeTx(signedTx(t, chain.Msgs{chain.Settle{Claims: []chain.Claim{c}}}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		got := chain.VerifyTxs([]chain.DecodedTx{tx}, 1)
		return got[0] != nil && got[0].ClaimsSigned(0)[0] == chain.AllSigned
	}
	if !signed(fairClaim()) {
		t.Fatal("the claim is signed, and was not taken as such")
	}
	attested := fairClaim()
	attested.Countersigned = false
	attested.Attestation = testKey(2).PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, attested.Receipt.Digest()))
	if !signed(attested) {
		t.Fatal("the claim is attested, and was not taken as such")
	}
	payload := chain.CountersignPayload(testChain, attested.Receipt.Digest())
	for name, forge := range map[string]func(*chain.Claim){
		"signature":                       func(c *chain.Claim) { c.Attestation[3] ^= 1 },
		"cluster in the consumer's place": func(c *chain.Claim) { c.Attestation = testKey(2).PrivateKey.Sign(crypto.DomainCountersign, payload) },
		"cluster's attestation":           func(c *chain.Claim) { c.Attestation = attested.Attestation },
		"consumer's, in another domain":   func(c *chain.Claim) { c.Attestation = testKey(1).PrivateKey.Sign(crypto.DomainAttestation, payload) },
		"consumer's, as an attestation":   func(c *chain.Claim) { c.Countersigned = false },
		"sealed output":                   func(c *chain.Claim) { c.Receipt.Sealed.Output[0] ^= 1 },
		"hash of the key":                 func(c *chain.Claim) { c.Receipt.Sealed.KeyHash[0] ^= 1 },
		"seal left out":                   func(c *chain.Claim) { c.Receipt.Sealed = nil },
		"order that is not fair":          func(c *chain.Claim) { c.Order.Fair = false },
		"order not to be countersigned":   func(c *chain.Claim) { c.Order.Countersignable = false },
	} {
		c := fairClaim()
		forge(&c)
		if signed(c) {
			t.Errorf("%s: was taken as signed", name)
		}
	}
}

// TestKeysOfReceipts: a key is of one order and node, and is wanted exactly where one is
// committed to.
func TestKeysOfReceipts(t *testing.T) {
	c := fairClaim()
	if err := c.Receipt.CheckKey(c.OutputKey); err != nil {
		t.Fatal(err)
	}
	other := *c.OutputKey
	other[31] ^= 1
	open := c.Receipt
	open.Sealed = nil
	replayed := c.Receipt
	replayed.Order[0] ^= 1
	for want, err := range map[string]error{
		"no key is shown":     c.Receipt.CheckKey(nil),
		"the key's hash is":   c.Receipt.CheckKey(&other),
		"no output is sealed": open.CheckKey(c.OutputKey),
		"the receipt commits": replayed.CheckKey(c.OutputKey),
		"<nil>":               nil,
	} {
		if err == nil && want != "<nil>" || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if a, b := c.OutputKey.Hash(c.Receipt.Order, testKey(4).Public()), c.Receipt.Sealed.KeyHash; a == b {
		t.Error("two nodes commit to the same key alike")
	}
}

// TestOrdersThatOthersJudgeAreNotSealed: who checks or judges a result sees it before it is paid.
func TestOrdersThatOthersJudgeAreNotSealed(t *testing.T) {
	optimistic := chain.PolicyOptimistic{WindowMs: 5_000, Bond: chain.Hyper(100)}
	for _, policy := range []chain.Policy{replicated, optimistic} {
		for name, ask := range map[string]func(*chain.Order){
			"fair exchange":      func(o *chain.Order) { o.Fair = true },
			"a countersignature": func(o *chain.Order) { o.Countersignable = true },
		} {
			order := sampleOrder(policy)
			if err := order.Check(); err != nil {
				t.Fatal(err)
			}
			ask(&order)
			if err := order.Check(); !errors.Is(err, chain.ErrLimit) || !strings.Contains(err.Error(), name+" under policy") {
				t.Errorf("%s under %s: %v", name, policy, err)
			}
		}
	}
	lease := sampleDeal().Order
	lease.Fair = true
	if err := lease.Check(); !errors.Is(err, chain.ErrLimit) || !strings.Contains(err.Error(), "fair exchange is for jobs") {
		t.Errorf("a lease: %v", err)
	}
	shown := runMessages()[2].(chain.RevealRun)
	shown.Receipt.Sealed = &chain.SealedOutput{}
	if _, err := chain.DecodeTx(signedTx(t, chain.Msgs{shown}).Encode()); !errors.Is(err, chain.ErrLimit) || !strings.Contains(err.Error(), "replicated run is sealed") {
		t.Errorf("a run that is shown sealed: %v", err)
	}
}
