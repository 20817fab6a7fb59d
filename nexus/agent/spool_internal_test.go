package agent

import (
	"log/slog"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestAttestationOutlivesARewrittenJournal: it is there after a crash though the write that brought it had the
// journal rewritten.
func TestAttestationOutlivesARewrittenJournal(t *testing.T) {
	dir, key, quiet := t.TempDir(), crypto.PrivateKeyFromSeed([32]byte{7}), slog.New(slog.DiscardHandler)
	s, err := openSpool(dir, key.Public(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	e := spoolEntry{Done: job.Done{Receipt: chain.UsageReceipt{ChainID: "spool-1", Order: crypto.Digest{1}, Node: key.Public()}}, Key: &chain.OutputKey{2}}
	e.Done.ReceiptSig = key.Sign(crypto.DomainUsage, e.Done.Receipt.Payload())
	e.Order.Policy.Policy = chain.PolicyNone{}
	s.enter(e)
	if err := s.commit(e); err != nil {
		t.Fatal(err)
	}
	many := codec.Marshal(spoolRecord{Forget: crypto.Digest{9}})
	for range maxLaterBytes / len(many) {
		s.journal.appendLater(many)
	}
	for len(s.journal.pending)+int(s.journal.size) <= compactBytes {
		s.journal.appendLater(many)
	}
	attestation := crypto.Signature{3}
	if err := s.attest(crypto.Digest{1}, attestation); err != nil {
		t.Fatal(err)
	}
	if s.journal.size > compactBytes/2 {
		t.Fatalf("the journal of %d bytes was not rewritten", s.journal.size)
	}
	if err := s.journal.file.Close(); err != nil { // as a crash does
		t.Fatal(err)
	}
	s, err = openSpool(dir, key.Public(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.sealed(crypto.Digest{1}); !ok || got.Attestation != attestation {
		t.Errorf("after the crash: there %t, attestation %x", ok, got.Attestation[:4])
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}
