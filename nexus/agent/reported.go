package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Two reports of an epoch that differ cost a peer's bond, and when epochs begin and end is a server's word, which
// it may give anew after this agent began anew. So which epoch of a lease was reported last is on the disk before the
// report leaves.

const (
	// ReportedFile is where an agent keeps which epochs it reported, in its home.
	ReportedFile   = "reported.log"
	maxReportedOf  = 1 << 16             // terms of which epochs were reported
	forgetReported = 30 * 24 * time.Hour // after which terms give way to others if there are as many
	maxReported    = 1 << 10             // bytes of a record
)

// promise is terms of a lease.
type promise struct {
	_     struct{} `cbor:",toarray"`
	Lease chain.LeaseID
	Terms crypto.Digest
}

// lastReport is the last epoch of a promise that was reported, as the file has it.
type lastReport struct {
	_     struct{} `cbor:",toarray"`
	Of    promise
	Epoch uint64
	At    chain.TimeMs
}

// reported is what this node has reported as a peer of leases. Safe for concurrent use.
type reported struct {
	journal *journal

	mu   sync.Mutex
	last map[promise]lastReport
}

// openReported reads what earlier processes reported.
func openReported(home string, log *slog.Logger) (*reported, error) {
	r := &reported{last: map[promise]lastReport{}}
	var err error
	if r.journal, err = openJournal(filepath.Join(home, ReportedFile), log, r.load); err != nil {
		return nil, fmt.Errorf("agent: opening what was reported: %w", err)
	}
	r.journal.live = r.encoded
	return r, nil
}

func (r *reported) close() error { return r.journal.close() }

func (r *reported) load(raw []byte) error {
	var l lastReport
	if err := codec.Unmarshal(raw, &l, maxReported); err != nil {
		return err
	}
	if known, ok := r.last[l.Of]; ok && l.Epoch <= known.Epoch {
		return nil // a rewritten file has the newer first
	}
	if len(r.last) >= maxReportedOf && !r.forget(l.At) {
		return errors.New("there are more than were ever kept")
	}
	r.last[l.Of] = l
	return nil
}

// encoded returns a record for each promise.
func (r *reported) encoded() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([][]byte, 0, len(r.last))
	for _, l := range r.last { // order-free: each is of another
		out = append(out, codec.Marshal(l))
	}
	return out
}

// forget drops the promise that was reported of longest ago, if that is long ago, and reports whether it was. The caller
// holds r.mu, or nobody else has r.
func (r *reported) forget(now chain.TimeMs) bool {
	var oldest *lastReport
	for _, l := range r.last { // order-free: the least
		if oldest == nil || l.At < oldest.At || l.At == oldest.At && l.Of.Lease.Order.Compare(oldest.Of.Lease.Order) < 0 {
			oldest = &l
		}
	}
	if oldest == nil || oldest.At+chain.TimeMs(forgetReported.Milliseconds()) > now {
		return false
	}
	delete(r.last, oldest.Of)
	return true
}

// may makes durable that an epoch is reported now; false: it was, or a later one of the same terms.
func (r *reported) may(e *chain.ServiceEpoch, now chain.TimeMs) (bool, error) {
	l := lastReport{Of: promise{Lease: e.Lease, Terms: e.Terms}, Epoch: e.Epoch, At: now}
	r.mu.Lock()
	known, ok := r.last[l.Of]
	switch {
	case ok && e.Epoch <= known.Epoch:
		r.mu.Unlock()
		return false, nil
	case !ok && len(r.last) >= maxReportedOf && !r.forget(now):
		r.mu.Unlock()
		return false, fmt.Errorf("agent: epochs of %d terms were reported, the limit", maxReportedOf) // rather silent than slashed
	}
	r.last[l.Of] = l // a journal that is rewritten has it from now on
	r.mu.Unlock()
	if err := r.journal.append(codec.Marshal(l)); err != nil {
		return false, fmt.Errorf("agent: keeping what is reported: %w", err)
	}
	return true, nil
}
