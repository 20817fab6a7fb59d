package agent

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	spoolSuffix   = ".done"
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

// spool keeps the Dones that no server has acknowledged, each in a file that is
// named by its order. Safe for concurrent use.
type spool struct {
	dir  string
	node crypto.PublicKey
	log  *slog.Logger

	mu      sync.Mutex
	entries map[crypto.Digest]spoolEntry
}

// openSpool reads what an earlier process left. Files that hold no Done of this
// node are put aside.
func openSpool(dir string, node crypto.PublicKey, log *slog.Logger) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent: opening the spool: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("agent: opening the spool: %w", err)
	}
	s := &spool{dir: dir, node: node, log: log, entries: map[crypto.Digest]spoolEntry{}}
	for _, file := range files {
		path := filepath.Join(dir, file.Name())
		name, isEntry := strings.CutSuffix(file.Name(), spoolSuffix)
		switch {
		case strings.HasPrefix(file.Name(), ".tmp-"): // a write that a crash cut short
			err = os.Remove(path)
		case !isEntry:
			continue
		default:
			err = s.load(path, name)
		}
		if err != nil {
			return nil, fmt.Errorf("agent: opening the spool: %w", err)
		}
	}
	return s, nil
}

// load enters one file, or renames it if it is no Done of this node.
func (s *spool) load(path, name string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	entry, err := s.decode(raw, name)
	if err != nil {
		s.log.Error("agent: putting a damaged file of the spool aside", "file", path, "reason", err)
		return os.Rename(path, path+damagedSuffix)
	}
	s.entries[entry.Done.Receipt.Order] = entry
	return nil
}

func (s *spool) decode(raw []byte, name string) (spoolEntry, error) {
	var e spoolEntry
	if err := codec.Unmarshal(raw, &e, maxEntryBytes); err != nil {
		return e, err
	}
	r := &e.Done.Receipt
	switch {
	case r.Order.String() != name:
		return e, fmt.Errorf("it is of order %s", r.Order.Short())
	case r.Node != s.node:
		return e, fmt.Errorf("it is of node %s", r.Node.Short())
	case !s.node.Verify(crypto.DomainUsage, r.Payload(), e.Done.ReceiptSig):
		return e, errors.New("its signature does not verify")
	}
	return e, nil
}

func (s *spool) path(order crypto.Digest) string {
	return filepath.Join(s.dir, order.String()+spoolSuffix)
}

// put makes a Done durable.
func (s *spool) put(e spoolEntry) error {
	order := e.Done.Receipt.Order
	if err := writeFile(s.path(order), codec.Marshal(e)); err != nil {
		return fmt.Errorf("agent: spooling the end of %s: %w", order.Short(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[order] = e
	return nil
}

// remove forgets a Done, and reports whether its output is that of no other.
func (s *spool) remove(order crypto.Digest) (entry spoolEntry, lastOfOutput bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, ok := s.entries[order]
	if !ok {
		return spoolEntry{}, false
	}
	delete(s.entries, order)
	if err := removeIfThere(s.path(order)); err != nil {
		s.log.Error("agent: removing from the spool; it will be sent again after a restart", "order", order.Short(), "error", err)
	}
	for _, other := range s.entries {
		if other.Done.Output == entry.Done.Output {
			return entry, false
		}
	}
	return entry, !entry.Done.Output.IsZero()
}

func (s *spool) get(order crypto.Digest) (job.Done, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[order]
	return e.Done, ok
}

func (s *spool) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// list returns the entries, the work that ended first before the others.
func (s *spool) list() []spoolEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]spoolEntry, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b spoolEntry) int {
		return cmp.Or(cmp.Compare(a.Done.Receipt.Ended, b.Done.Receipt.Ended), a.Done.Receipt.Order.Compare(b.Done.Receipt.Order))
	})
	return out
}
