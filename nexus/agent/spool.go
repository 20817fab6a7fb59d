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

// spoolEntry is a Done and until when anybody may still want it: the end of its
// order's claim window.
type spoolEntry struct {
	_       struct{} `cbor:",toarray"`
	Done    job.Done
	Expires chain.TimeMs
}

// spoolRecord is what the spool's journal is made of: a Done that is to be kept,
// or the order of one that is not any more.
type spoolRecord struct {
	_      struct{}    `cbor:",toarray"`
	Entry  *spoolEntry // nil: Forget
	Forget crypto.Digest
}

// spool keeps the Dones that no server has acknowledged. Those that end at the
// same time become durable with one write. Safe for concurrent use.
type spool struct {
	node    crypto.PublicKey
	log     *slog.Logger
	journal *journal

	mu      sync.Mutex
	entries map[crypto.Digest]*spooled
}

// spooled is an entry; nobody but who entered it may see it before it is durable.
type spooled struct {
	spoolEntry
	durable bool
}

// openSpool reads what an earlier process left. What is no Done of this node is
// put aside.
func openSpool(dir string, node crypto.PublicKey, log *slog.Logger) (*spool, error) {
	s := &spool{node: node, log: log, entries: map[crypto.Digest]*spooled{}}
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

// load enters a record that was read.
func (s *spool) load(raw []byte) error {
	var r spoolRecord
	if err := codec.Unmarshal(raw, &r, maxEntryBytes); err != nil {
		return err
	}
	if r.Entry == nil {
		delete(s.entries, r.Forget)
		return nil
	}
	receipt := &r.Entry.Done.Receipt
	switch {
	case receipt.Node != s.node:
		return fmt.Errorf("it is of node %s", receipt.Node.Short())
	case !s.node.Verify(crypto.DomainUsage, receipt.Payload(), r.Entry.Done.ReceiptSig):
		return errors.New("its signature does not verify")
	}
	s.entries[receipt.Order] = &spooled{spoolEntry: *r.Entry, durable: true}
	return nil
}

// encoded returns a record for each entry, those included that are being written.
func (s *spool) encoded() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for _, e := range s.entries {
		out = append(out, codec.Marshal(spoolRecord{Entry: &e.spoolEntry}))
	}
	return out
}

// enter notes a Done that commit will make durable, so that its output counts as
// that of an entry from now on.
func (s *spool) enter(e spoolEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[e.Done.Receipt.Order] = &spooled{spoolEntry: e}
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
	if known := s.entries[order]; known != nil {
		known.durable = true
	}
	return nil
}

// remove forgets a Done, and reports whether its output is that of no other. A
// crash soon afterwards may bring it back: it is sent again then, and
// acknowledged again.
func (s *spool) remove(order crypto.Digest) (entry spoolEntry, lastOfOutput bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.entries[order]
	if !ok {
		return spoolEntry{}, false
	}
	delete(s.entries, order)
	s.journal.appendLater(codec.Marshal(spoolRecord{Forget: order}))
	for _, other := range s.entries {
		if other.Done.Output == known.Done.Output {
			return known.spoolEntry, false
		}
	}
	return known.spoolEntry, !known.Done.Output.IsZero()
}

func (s *spool) get(order crypto.Digest) (job.Done, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[order]
	if !ok || !e.durable {
		return job.Done{}, false
	}
	return e.Done, true
}

func (s *spool) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// list returns the durable entries, the work that ended first before the others.
func (s *spool) list() []spoolEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]spoolEntry, 0, len(s.entries))
	for _, e := range s.entries {
		if e.durable {
			out = append(out, e.spoolEntry)
		}
	}
	slices.SortFunc(out, func(a, b spoolEntry) int {
		return cmp.Or(cmp.Compare(a.Done.Receipt.Ended, b.Done.Receipt.Ended), a.Done.Receipt.Order.Compare(b.Done.Receipt.Order))
	})
	return out
}
