package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// promised keeps an assignment's acceptance, and says so if it shows that the cluster broke its
// word: the node has no account to report it from, and its owner does.
func (a *Agent) promised(as *job.Assignment) {
	second := chain.AcceptedOrder{Order: as.Order, Acceptance: as.Acceptance, Signature: as.AcceptanceSig}
	a.promisesMu.Lock()
	first, broken := a.promises.Note(&second)
	a.promisesMu.Unlock()
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
		"files", []string{one, other}, "command", "hypermesh agent evidence post --home "+a.config.Home)
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
