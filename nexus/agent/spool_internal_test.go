package agent

import (
	"log/slog"
	"path/filepath"
	"strings"
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

// TestSpoolIsBoundByBytes: claims that are kept take no more than so many bytes, however large each
// is, the oldest give way, and the journal that is rewritten can be read again.
func TestSpoolIsBoundByBytes(t *testing.T) {
	dir, key, quiet := t.TempDir(), crypto.PrivateKeyFromSeed([32]byte{7}), slog.New(slog.DiscardHandler)
	s, err := openSpool(dir, key.Public(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	order := func(n int) crypto.Digest { return crypto.Digest{byte(n), byte(n >> 8), 1} }
	const each = 60 << 10
	many := maxKeptBytes/each + 50
	for n := range many {
		e := spoolEntry{Done: job.Done{
			Receipt: chain.UsageReceipt{ChainID: "spool-1", Order: order(n), Node: key.Public()}, Proof: make([]byte, each),
		}}
		e.Done.ReceiptSig = key.Sign(crypto.DomainUsage, e.Done.Receipt.Payload())
		e.Order.Policy.Policy = chain.PolicyNone{}
		s.enter(e)
		if s.size() < each {
			t.Fatalf("a Done of %d bytes counts as %d", each, s.size())
		}
		s.remove(order(n), true)
		if s.size() != 0 {
			t.Fatalf("what servers have counts as %d bytes", s.size())
		}
	}
	if s.kept.bytes > maxKeptBytes || s.kept.bytes < maxKeptBytes-2*each {
		t.Errorf("%d bytes are kept, limit %d", s.kept.bytes, maxKeptBytes)
	}
	if s.kept.of[order(0)] != nil || s.kept.of[order(many-1)] == nil {
		t.Error("it is not the oldest that gave way")
	}
	kept := len(s.kept.of)
	if err := s.journal.compact(); err != nil {
		t.Fatal(err)
	}
	if s.journal.size > maxJournal/2 {
		t.Errorf("the journal of what is kept has %d bytes", s.journal.size)
	}
	if err := s.journal.file.Close(); err != nil { // as a crash does
		t.Fatal(err)
	}
	if s, err = openSpool(dir, key.Public(), quiet); err != nil {
		t.Fatal(err)
	}
	if len(s.kept.of) != kept || s.kept.bytes > maxKeptBytes || s.count() != 0 {
		t.Errorf("after the crash %d are kept with %d bytes, of %d", len(s.kept.of), s.kept.bytes, kept)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestNoClusterTakesTheRoomOfAnothersClaims: what the chain would not pay as it is gives way first, and of what is
// alike the oldest of whoever has most.
func TestNoClusterTakesTheRoomOfAnothersClaims(t *testing.T) {
	dir, key, quiet := t.TempDir(), crypto.PrivateKeyFromSeed([32]byte{7}), slog.New(slog.DiscardHandler)
	s, err := openSpool(dir, key.Public(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	const each = 60 << 10
	const many = maxKeptBytes/each + 20
	keep := func(cluster byte, n int, attested bool) crypto.Digest {
		order := crypto.Digest{byte(n), byte(n >> 8), cluster}
		if attested {
			order[3] = 1
		}
		e := spoolEntry{Done: job.Done{Receipt: chain.UsageReceipt{ChainID: "spool-1", Order: order, Node: key.Public()}, Proof: make([]byte, each)}}
		e.Order.Policy.Policy, e.Order.Cluster = chain.PolicyNone{}, crypto.PublicKey{cluster}
		if attested {
			e.Key, e.Attestation = &chain.OutputKey{1}, crypto.Signature{1}
		}
		s.enter(e)
		s.remove(order, true)
		return order
	}
	bare, owed := keep(1, 0, false), []crypto.Digest{keep(1, 1, true), keep(1, 2, true)}
	there := func(when string) {
		t.Helper()
		for _, order := range owed {
			if s.kept.of[order] == nil {
				t.Errorf("%s: claim %s gave way", when, order.Short())
			}
		}
	}
	for n := range many {
		keep(2, n, false)
	}
	there("another cluster attests to nothing")
	if s.kept.of[bare] == nil {
		t.Error("another cluster's claims without an attestation took the room of one")
	}
	for n := range many {
		keep(2, n, true)
	}
	there("another cluster attests to all")
	if s.kept.of[bare] != nil {
		t.Error("what the chain would not pay is kept in place of what it would")
	}
	if s.kept.bytes > maxKeptBytes || s.kept.bytes < maxKeptBytes-2*each {
		t.Errorf("%d bytes are kept, limit %d", s.kept.bytes, maxKeptBytes)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestAnAttestationComesAfterARefusal: of a result that one server did not take and another did, the claim that is kept
// has it, also after a crash, and is told no more.
func TestAnAttestationComesAfterARefusal(t *testing.T) {
	dir, key, quiet := t.TempDir(), crypto.PrivateKeyFromSeed([32]byte{7}), slog.New(slog.DiscardHandler)
	s, err := openSpool(dir, key.Public(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	order, attestation := crypto.Digest{1}, crypto.Signature{3}
	e := spoolEntry{Done: job.Done{Receipt: chain.UsageReceipt{ChainID: "spool-1", Order: order, Node: key.Public()}}, Key: &chain.OutputKey{2}}
	e.Done.ReceiptSig = key.Sign(crypto.DomainUsage, e.Done.Receipt.Payload())
	e.Order.Policy.Policy = chain.PolicyNone{}
	s.enter(e)
	if err := s.commit(e); err != nil {
		t.Fatal(err)
	}
	s.remove(order, true)
	if err := s.attest(order, attestation); err != nil {
		t.Fatal(err)
	}
	s.allow(order)
	if !s.owes(order) || !s.mayShow(order) || s.count() != 0 {
		t.Errorf("attested %t, its key may be shown %t, %d are told", s.owes(order), s.mayShow(order), s.count())
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openSpool(dir, key.Public(), quiet); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.sealed(order); !ok || got.Attestation != attestation || !s.owes(order) || s.count() != 0 {
		t.Errorf("after a restart: there %t, attested %t, %d are told", ok, s.owes(order), s.count())
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestAJournalIsNeverLongerThanCanBeRead: what would make it so is refused.
func TestAJournalIsNeverLongerThanCanBeRead(t *testing.T) {
	j, err := openJournal(filepath.Join(t.TempDir(), "j.log"), slog.New(slog.DiscardHandler), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	j.size = maxJournal - recordHead - 10
	if err := j.append(make([]byte, 11)); err == nil || !strings.Contains(err.Error(), "beyond its limit") {
		t.Errorf("one byte too many: %v", err)
	}
	if err := j.append(make([]byte, 10)); err != nil {
		t.Errorf("what fits: %v", err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}
