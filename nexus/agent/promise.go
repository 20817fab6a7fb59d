package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	// EvidenceDir is where an agent keeps acceptances that contradict each other, in its home.
	EvidenceDir  = "evidence"
	maxPromises  = 4_096
	maxEvidences = 64 // files
)

// promises are the acceptances of the assignments that the node was given last: of each
// sequence the first. Safe for concurrent use.
type promises struct {
	mu    sync.Mutex
	of    map[promiseKey]chain.AcceptedOrder
	order []promiseKey // the oldest first
}

// promiseKey is what a cluster gives once.
type promiseKey struct {
	cluster  crypto.PublicKey
	consumer chain.Address
	sequence uint64
}

// note remembers an acceptance whose signature was verified, and returns one of before that
// contradicts it.
func (p *promises) note(a *chain.AcceptedOrder) (first chain.AcceptedOrder, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := promiseKey{a.Acceptance.Cluster, a.Order.ConsumerAddress(), a.Acceptance.Sequence}
	first, known := p.of[key]
	if known {
		return first, first.Acceptance != a.Acceptance
	}
	if len(p.order) == maxPromises {
		delete(p.of, p.order[0])
		p.order = p.order[1:]
	}
	if p.of == nil {
		p.of = map[promiseKey]chain.AcceptedOrder{}
	}
	p.of[key], p.order = *a, append(p.order, key)
	return first, false
}

// promised keeps an assignment's acceptance, and says so if it shows that the cluster broke its
// word: the node has no account to report it from, and its owner does.
func (a *Agent) promised(as *job.Assignment) {
	second := chain.AcceptedOrder{Order: as.Order, Acceptance: as.Acceptance, Signature: as.AcceptanceSig}
	first, broken := a.promises.note(&second)
	if !broken {
		return
	}
	one, err := a.keepAccepted(&first)
	other, otherErr := a.keepAccepted(&second)
	if err = errors.Join(err, otherErr); err != nil {
		a.log.Error("agent: a cluster gave a sequence twice, and the evidence is not kept", "cluster", as.Order.Cluster.Short(), "error", err)
		return
	}
	a.log.Error("agent: a cluster gave a sequence twice: report it", "cluster", as.Order.Cluster.Short(), "sequence", as.Acceptance.Sequence,
		"command", fmt.Sprintf("hypermesh claim report-acceptance --first %s --second %s", one, other))
}

// keepAccepted writes an order with its acceptance as hypermesh claim report-acceptance reads
// it, and returns where.
func (a *Agent) keepAccepted(o *chain.AcceptedOrder) (string, error) {
	dir := filepath.Join(a.config.Home, EvidenceDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	digest := crypto.DomainAcceptance.Hash(o.Acceptance.Payload())
	path := filepath.Join(dir, digest.String()+".json")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(files) >= maxEvidences {
		return "", fmt.Errorf("%s has %d files, the limit", dir, len(files))
	}
	text, err := json.Marshal(struct {
		Order         api.Order        `json:"order"`
		Acceptance    api.Acceptance   `json:"acceptance"`
		AcceptanceSig crypto.Signature `json:"acceptance_signature"`
	}{api.OrderToJSON(o.Order), api.AcceptanceToJSON(o.Acceptance), o.Signature})
	if err != nil {
		return "", err
	}
	return path, writeFile(path, append(text, '\n'))
}
