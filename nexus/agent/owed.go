package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Owed is the claim of a job that the node has done, as far as it is there: with the cluster's
// attestation and the key of a sealed output, if the cluster attested to that.
type Owed struct {
	Claim   chain.Claim
	Expires chain.TimeMs // the end of its claim window
}

// Complete reports whether the chain asks for nothing more: whoever has the claim may post it.
func (o *Owed) Complete() bool { return complete(&o.Claim.Order, o.Claim.Attestation) }

func complete(order *chain.Order, attestation crypto.Signature) bool {
	_, proven := order.Policy.Policy.(chain.PolicyZK)
	return proven && !order.Fair || attestation != (crypto.Signature{})
}

// owed returns an entry's claim.
func (e *spoolEntry) owed() Owed {
	as := job.Assignment{Order: e.Order, OrderSig: e.OrderSig, Acceptance: e.Acceptance, AcceptanceSig: e.AcceptanceSig, Bid: e.Bid, BidSig: e.BidSig}
	o := Owed{Claim: as.Claim(&e.Done), Expires: e.Expires}
	o.Claim.Attestation, o.Claim.OutputKey = e.Attestation, e.Key
	return o
}

// ReadOwed returns the claims that an agent keeps because nothing says yet that they were paid,
// the work that ended first before the others. It reads the spool of an agent that runs, or does
// not. Orders under replicate have none: their runs are shown, and not claimed.
func ReadOwed(config *Config) ([]Owed, error) {
	s, err := readSpool(config)
	if err != nil || s == nil {
		return nil, err
	}
	return s.owed(), nil
}

// ReadPledged returns the receipts of replicated runs that an agent's node is bound to, each as the message that shows
// it without its cluster's word, by their orders. It reads the spool of an agent that runs, or does not.
func ReadPledged(config *Config) ([]chain.RevealRun, error) {
	s, err := readSpool(config)
	if err != nil || s == nil {
		return nil, err
	}
	var out []chain.RevealRun
	for _, e := range append(s.list(), s.retired()...) {
		if e.pledged() {
			out = append(out, chain.RevealRun{Receipt: e.Done.Receipt, ReceiptSig: e.Done.ReceiptSig, Salt: e.Done.Salt, Cluster: e.Order.Cluster})
		}
	}
	slices.SortFunc(out, func(a, b chain.RevealRun) int { return a.Receipt.Order.Compare(b.Receipt.Order) })
	return out, nil
}

// readSpool reads what an agent keeps; nil: it never kept anything.
func readSpool(config *Config) (*spool, error) {
	key, err := readKey(filepath.Join(config.Home, NodeKeyFile))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(config.path(config.WorkDir, "work"), "spool", spoolFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxJournal {
		err = fmt.Errorf("it has %d bytes, limit %d", info.Size(), int64(maxJournal))
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("agent: reading the spool: %w", err)
	}
	s := newSpool(key.Public(), slog.New(slog.DiscardHandler))
	s.journal = &journal{} // nothing is written
	for rest := data; ; {
		record, why := nextRecord(rest)
		if why != "" { // its end, or what the agent is writing
			break
		}
		if err := s.load(record); err != nil {
			return nil, fmt.Errorf("agent: reading the spool: %w", err)
		}
		rest = rest[recordHead+len(record):]
	}
	return s, nil
}

// owed lists what is durable and not known to be paid.
func (s *spool) owed() []Owed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Owed
	add := func(e *spoolEntry) {
		if _, replicated := e.Order.Policy.Policy.(chain.PolicyReplicate); !replicated {
			out = append(out, e.owed())
		}
	}
	for _, e := range s.entries.of {
		if e.durable {
			add(&e.spoolEntry)
		}
	}
	for _, e := range s.kept.of {
		add(&e.spoolEntry)
	}
	slices.SortFunc(out, func(a, b Owed) int {
		x, y := &a.Claim.Receipt, &b.Claim.Receipt
		return cmp.Or(cmp.Compare(x.Ended, y.Ended), x.Order.Compare(y.Order))
	})
	return out
}
