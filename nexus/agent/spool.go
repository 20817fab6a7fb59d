package agent

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	spoolFile     = "spool.log"
	damagedSuffix = ".damaged"
	maxEntryBytes = 64 << 10
)

// spoolEntry is a Done, with all that its claim needs beside, and until when anybody may
// still claim it: the end of its order's claim window. A pledged receipt is kept for longer: see past.
type spoolEntry struct {
	_       struct{} `cbor:",toarray"`
	Done    job.Done
	Expires chain.TimeMs

	Order         chain.Order
	OrderSig      crypto.Signature
	Acceptance    chain.Acceptance
	AcceptanceSig crypto.Signature
	Bid           chain.Bid
	BidSig        crypto.Signature
	Key           *chain.OutputKey // of a sealed output: it is nobody's but this node's before it can be paid
	Attestation   crypto.Signature // likewise, by the cluster; zero: there is none yet
}

// attested reports whether a sealed output's claim has all that the chain asks for.
func (e *spoolEntry) attested() bool { return e.Key != nil && e.Attestation != (crypto.Signature{}) }

// pledged reports whether its node is bound to the receipt, and loses its stake if it does not show it when the chain asks.
func (e *spoolEntry) pledged() bool { return e.Done.Salt != [32]byte{} }

// complete reports whether its claim has all that the chain asks for.
func (e *spoolEntry) complete() bool { return complete(&e.Order, e.Attestation) }

// spoolRecord is what the spool's journal is made of: a Done that is to be kept,
// or the order of one that is not any more, or of which servers need not be told any more.
type spoolRecord struct {
	_      struct{}    `cbor:",toarray"`
	Entry  *spoolEntry // nil: Forget
	Forget crypto.Digest
	Retire bool // in place of forgetting: what the claim needs is kept
}

// maxKept and maxKeptBytes bound the claims that are kept after their Dones were acknowledged; see leastWorth for
// what is given up beyond. With so many bytes of Dones as maxSpooledBytes, and those of all tasks,
// a journal that was just rewritten takes less than half of maxJournal.
const (
	maxKept      = 8_192
	maxKeptBytes = 24 << 20
)

// spool keeps the Dones that no server has acknowledged, and what the claims of the others
// need until they are paid. Dones that end at the
// same time become durable with one write. Safe for concurrent use.
type spool struct {
	node    crypto.PublicKey
	log     *slog.Logger
	journal *journal

	mu      sync.Mutex
	entries spooledMap
	kept    spooledMap
	aging   []crypto.Digest // of kept, and some that are gone, the oldest first
}

// spooledMap is entries by their orders, and what their records take.
type spooledMap struct {
	of    map[crypto.Digest]*spooled
	bytes int
}

func (m *spooledMap) put(order crypto.Digest, e *spooled) {
	m.drop(order)
	m.of[order] = e
	m.bytes += e.bytes
}

func (m *spooledMap) drop(order crypto.Digest) {
	if e := m.of[order]; e != nil {
		m.bytes -= e.bytes
		delete(m.of, order)
	}
}

// spooled is an entry; nobody but who entered it may see it before it is durable.
type spooled struct {
	spoolEntry
	bytes   int // of its record
	durable bool
	next    *spoolEntry // what is being written in its place; nil: nothing

	// Of an attested output, since this process began:
	allowed bool   // its key may be shown
	why     string // or why not, as was found last
}

// record is the journal's of an entry, with what is being written of it.
func (e *spooled) record() []byte {
	if e.next != nil {
		return codec.Marshal(spoolRecord{Entry: e.next})
	}
	return codec.Marshal(spoolRecord{Entry: &e.spoolEntry})
}

// openSpool reads what an earlier process left. What is no Done of this node is
// put aside.
func openSpool(dir string, node crypto.PublicKey, log *slog.Logger) (*spool, error) {
	s := newSpool(node, log)
	var err error
	s.journal, err = openJournal(filepath.Join(dir, spoolFile), log, s.load)
	if err != nil {
		return nil, fmt.Errorf("agent: opening the spool: %w", err)
	}
	s.journal.live = s.encoded
	return s, nil
}

// close writes what is not written yet and closes the file.
func (s *spool) close() error { return s.journal.close() }

func newSpool(node crypto.PublicKey, log *slog.Logger) *spool {
	return &spool{
		node: node, log: log, entries: spooledMap{of: map[crypto.Digest]*spooled{}}, kept: spooledMap{of: map[crypto.Digest]*spooled{}},
	}
}

// load enters a record that was read.
func (s *spool) load(raw []byte) error {
	var r spoolRecord
	if err := codec.Unmarshal(raw, &r, maxEntryBytes); err != nil {
		return err
	}
	if r.Entry == nil {
		if e := s.entries.of[r.Forget]; e != nil && r.Retire {
			s.retain(e)
		} else {
			s.kept.drop(r.Forget)
		}
		s.entries.drop(r.Forget)
		return nil
	}
	receipt := &r.Entry.Done.Receipt
	switch {
	case receipt.Node != s.node:
		return fmt.Errorf("it is of node %s", receipt.Node.Short())
	case !s.node.Verify(crypto.DomainUsage, receipt.Payload(), r.Entry.Done.ReceiptSig):
		return errors.New("its signature does not verify")
	}
	s.entries.put(receipt.Order, &spooled{spoolEntry: *r.Entry, bytes: len(raw), durable: true})
	return nil
}

// encoded returns a record for each entry, those included that are being written.
func (s *spool) encoded() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for _, e := range s.entries.of {
		out = append(out, e.record())
	}
	for _, order := range s.aging {
		if e := s.kept.of[order]; e != nil {
			out = append(out, e.record(), codec.Marshal(spoolRecord{Forget: order, Retire: true}))
		}
	}
	return out
}

// retain keeps what a claim needs. The caller holds s.mu, or nobody else has s.
func (s *spool) retain(e *spooled) {
	order := e.Done.Receipt.Order
	if s.kept.of[order] == nil {
		s.aging = append(s.aging, order)
	}
	s.kept.put(order, e)
	for len(s.kept.of) > maxKept || s.kept.bytes > maxKeptBytes {
		old := s.leastWorth()
		s.kept.drop(old)
		s.log.Warn("agent: too many claims are not paid, giving up one of the oldest", "order", old.Short())
	}
	if len(s.aging) > 2*maxKept {
		seen := map[crypto.Digest]bool{}
		s.aging = slices.DeleteFunc(s.aging, func(order crypto.Digest) bool {
			again := seen[order]
			seen[order] = true
			return again || s.kept.of[order] == nil
		})
	}
}

// leastWorth returns which of what is kept gives way: what the chain would not pay as it is before what it would, and of
// these the oldest of the cluster that has most of it: no cluster takes the place of another's. The caller holds s.mu, or
// nobody else has s, and something is kept.
func (s *spool) leastWorth() crypto.Digest {
	type part struct {
		cluster  crypto.PublicKey
		complete bool
	}
	sizes := map[part]int{}
	of := func(e *spooled) part { return part{e.Order.Cluster, e.complete()} }
	for _, e := range s.kept.of { // order-free: sums
		sizes[of(e)] += e.bytes
	}
	var least *spooled
	for _, order := range s.aging {
		e := s.kept.of[order]
		if e == nil {
			continue
		}
		worse := least != nil && (least.complete() && !e.complete() || least.complete() == e.complete() && sizes[of(e)] > sizes[of(least)])
		if least == nil || worse {
			least = e
		}
	}
	return least.Done.Receipt.Order
}

// known returns an entry, whether it is acknowledged or not. The caller holds s.mu.
func (s *spool) known(order crypto.Digest) *spooled {
	if e := s.entries.of[order]; e != nil {
		return e
	}
	return s.kept.of[order]
}

// attest makes the cluster's attestation of a sealed output durable.
func (s *spool) attest(order crypto.Digest, attestation crypto.Signature) error {
	s.mu.Lock()
	known := s.known(order)
	if known == nil || !known.durable || known.Key == nil {
		s.mu.Unlock()
		return nil // it was paid meanwhile, or given up
	}
	e := known.spoolEntry
	e.Attestation = attestation
	known.next = &e // a journal that is rewritten has it from now on
	s.mu.Unlock()
	err := s.journal.append(codec.Marshal(spoolRecord{Entry: &e}))
	s.mu.Lock()
	defer s.mu.Unlock()
	known.next = nil
	if err != nil {
		return fmt.Errorf("agent: spooling the attestation of %s: %w", order.Short(), err)
	}
	known.Attestation = attestation
	if s.kept.of[order] == known { // else a process that comes after would tell it again
		s.journal.appendLater(codec.Marshal(spoolRecord{Forget: order, Retire: true}))
	}
	return nil
}

// sealed returns an entry that is durable and has a key. A server that takes a result after another did not
// asks for one that is kept.
func (s *spool) sealed(order crypto.Digest) (spoolEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known(order)
	if e == nil || !e.durable || e.Key == nil {
		return spoolEntry{}, false
	}
	return e.spoolEntry, true
}

// allow lets the key of an entry be shown.
func (s *spool) allow(order crypto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.known(order); e != nil {
		e.allowed = true
	}
}

func (s *spool) mayShow(order crypto.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known(order)
	return e != nil && e.allowed
}

// withhold notes why the key of an entry is not shown, and reports whether that is news.
func (s *spool) withhold(order crypto.Digest, why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known(order)
	if e == nil || e.why == why {
		return false
	}
	e.why = why
	return true
}

// owes reports whether a claim is kept to which the cluster has attested.
func (s *spool) owes(order crypto.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.kept.of[order]
	return e != nil && e.attested()
}

// settled forgets what a claim needs: it was paid.
func (s *spool) settled(order crypto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(order)
}

// expire forgets the claims that nobody takes any more. Of those that are pledged past says it.
func (s *spool) expire(now chain.TimeMs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for order, e := range s.kept.of {
		if e.Expires < now && !e.pledged() {
			s.drop(order)
		}
	}
}

// retired returns the pledged entries of which servers need not be told any more.
func (s *spool) retired() (out []spoolEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.kept.of { // order-free: each for itself
		if e.pledged() && e.durable {
			out = append(out, e.spoolEntry)
		}
	}
	return out
}

// drop forgets what a claim needs. The caller holds s.mu.
func (s *spool) drop(order crypto.Digest) {
	if s.kept.of[order] != nil {
		s.kept.drop(order)
		s.journal.appendLater(codec.Marshal(spoolRecord{Forget: order}))
	}
}

// enter notes a Done that commit will make durable, so that its output counts as
// that of an entry from now on.
func (s *spool) enter(e spoolEntry) {
	entered := &spooled{spoolEntry: e}
	entered.bytes = len(entered.record())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.put(e.Done.Receipt.Order, entered)
}

// commit makes a Done that was entered durable, with those of others who ask at
// the same time.
func (s *spool) commit(e spoolEntry) error {
	order := e.Done.Receipt.Order
	if err := s.journal.append(codec.Marshal(spoolRecord{Entry: &e})); err != nil {
		return fmt.Errorf("agent: spooling the end of %s: %w", order.Short(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.entries.of[order]; known != nil {
		known.durable = true
	}
	return nil
}

// remove forgets a Done, or retires it so that what its claim needs is kept, and reports
// whether its output is that of no other. A
// crash soon afterwards may bring it back: it is sent again then, and
// acknowledged again.
func (s *spool) remove(order crypto.Digest, retire bool) (entry spoolEntry, lastOfOutput bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.entries.of[order]
	if known == nil {
		return spoolEntry{}, false
	}
	s.entries.drop(order)
	s.journal.appendLater(codec.Marshal(spoolRecord{Forget: order, Retire: retire}))
	if retire {
		s.retain(known)
	}
	for _, other := range s.entries.of {
		if other.Done.Blob() == known.Done.Blob() {
			return known.spoolEntry, false
		}
	}
	return known.spoolEntry, !known.Done.Blob().IsZero()
}

func (s *spool) get(order crypto.Digest) (job.Done, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries.of[order]
	if e == nil || !e.durable {
		return job.Done{}, false
	}
	return e.Done, true
}

// given is get, also of what servers need not be told of any more.
func (s *spool) given(order crypto.Digest) (job.Done, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known(order)
	if e == nil || !e.durable {
		return job.Done{}, false
	}
	return e.Done, true
}

func (s *spool) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries.of)
}

// size returns what the records of the Dones take.
func (s *spool) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries.bytes
}

// list returns the durable entries, the work that ended first before the others.
func (s *spool) list() []spoolEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]spoolEntry, 0, len(s.entries.of))
	for _, e := range s.entries.of {
		if e.durable {
			out = append(out, e.spoolEntry)
		}
	}
	slices.SortFunc(out, func(a, b spoolEntry) int {
		return cmp.Or(cmp.Compare(a.Done.Receipt.Ended, b.Done.Receipt.Ended), a.Done.Receipt.Order.Compare(b.Done.Receipt.Order))
	})
	return out
}
