package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestEvidenceIsPaired: of the files in a home those that contradict each other, once for each sequence.
func TestEvidenceIsPaired(t *testing.T) {
	dir := t.TempDir()
	keep := func(name string, change func(o *chain.Order, a *chain.Acceptance, s *crypto.Signature)) string {
		t.Helper()
		path := filepath.Join(dir, name+".json")
		if err := os.Rename(acceptedFile(t, change), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nonce := func(n, sequence uint64) func(o *chain.Order, a *chain.Acceptance, s *crypto.Signature) {
		return func(o *chain.Order, a *chain.Acceptance, _ *crypto.Signature) { o.Nonce, a.Sequence = n, sequence }
	}
	one, two := keep("a", nonce(1, 7)), keep("b", nonce(2, 7))
	keep("c", nonce(3, 7)) // a third of that sequence
	keep("d", nonce(4, 8)) // contradicts nothing
	three, four := keep("e", nonce(5, 9)), keep("f", nonce(6, 9))
	list, err := readEvidence(dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d found, %v", len(list), err)
	}
	if list[0].files != [2]string{one, two} || list[1].files != [2]string{three, four} {
		t.Errorf("found %v and %v", list[0].files, list[1].files)
	}
	if r := list[1].report; r.First.Order.Nonce != 5 || r.Second == nil || r.Second.Order.Nonce != 6 {
		t.Errorf("would report %+v", r)
	}
	if list, err = readEvidence(filepath.Join(dir, "none")); err != nil || len(list) != 0 {
		t.Errorf("%d found where there is nothing, %v", len(list), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "z.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readEvidence(dir); err == nil || !strings.Contains(err.Error(), "z.json") {
		t.Errorf("what does not read is passed over: %v", err)
	}
}
