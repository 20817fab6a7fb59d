package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// acceptedFile writes an order with its acceptance, as a part of something larger.
func acceptedFile(t *testing.T, change func(o *chain.Order, a *chain.Acceptance, s *crypto.Signature)) string {
	t.Helper()
	cluster, consumer := crypto.PrivateKeyFromSeed([32]byte{1}), crypto.PrivateKeyFromSeed([32]byte{2})
	o := chain.Order{
		ChainID: "report-1", Consumer: crypto.AccountKeyOf(consumer.Public()), Cluster: cluster.Public(), Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		MaxCost: chain.Hyper(1), Deadline: 1_790_000_000_000,
	}
	a := chain.Acceptance{ChainID: "report-1", Cluster: cluster.Public(), Sequence: 7, Outstanding: chain.Hyper(1)}
	change(&o, &a, nil)
	if a.Order.IsZero() {
		a.Order = o.ID()
	}
	signature := cluster.Sign(crypto.DomainAcceptance, a.Payload())
	change(&o, &a, &signature)
	text, err := json.Marshal(map[string]any{"order": api.OrderToJSON(o), "acceptance": api.AcceptanceToJSON(a), "acceptance_signature": signature, "status": "running"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "accepted.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAcceptancesAreReadOrRefusedByName: before anything is asked of a chain.
func TestAcceptancesAreReadOrRefusedByName(t *testing.T) {
	first, err := readAccepted(acceptedFile(t, func(*chain.Order, *chain.Acceptance, *crypto.Signature) {}))
	if err != nil || first.Acceptance.Sequence != 7 || first.Order.MaxCost != chain.Hyper(1) {
		t.Fatalf("%+v, %v", first, err)
	}
	for want, change := range map[string]func(o *chain.Order, a *chain.Acceptance, s *crypto.Signature){
		"acceptance_signature is not the cluster's": func(_ *chain.Order, _ *chain.Acceptance, s *crypto.Signature) {
			if s != nil {
				s[0] ^= 1
			}
		},
		"the order is ":     func(_ *chain.Order, a *chain.Acceptance, _ *crypto.Signature) { a.Order = crypto.Digest{9} },
		"the order's is ":   func(o *chain.Order, _ *chain.Acceptance, _ *crypto.Signature) { o.Cluster = crypto.PublicKey{9} },
		"the order of":      func(_ *chain.Order, a *chain.Acceptance, _ *crypto.Signature) { a.ChainID = "another" },
		"its sequence is 8": func(_ *chain.Order, a *chain.Acceptance, _ *crypto.Signature) { a.Sequence = 8 },
		"it says the same":  func(*chain.Order, *chain.Acceptance, *crypto.Signature) {},
		"it is of consumer ": func(o *chain.Order, _ *chain.Acceptance, _ *crypto.Signature) {
			o.Consumer = crypto.AccountKeyOf(crypto.PrivateKeyFromSeed([32]byte{3}).Public())
		},
		"": func(o *chain.Order, _ *chain.Acceptance, _ *crypto.Signature) { o.Nonce = 1 },
	} {
		path := acceptedFile(t, change)
		second, err := readAccepted(path)
		if err == nil {
			err = ofFile(path, conflict(&first, &second))
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("evidence is refused: %v", err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)):
			t.Errorf("got %v, want %q of %s", err, want, path)
		}
	}
	path := filepath.Join(t.TempDir(), "none.json")
	if err := os.WriteFile(path, []byte(`{"order": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAccepted(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("what is no order is read: %v", err)
	}
}
