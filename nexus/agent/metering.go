package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	// MeterKeyFile is the key that usage records are signed with: a seed of 64 hexadecimal
	// digits. An agent without it signs none.
	MeterKeyFile = "meter.key"

	meteringDir    = "usage"
	meteringSuffix = ".records"
	maxMetered     = 10_000 // orders; the oldest are forgotten
)

// metering keeps the signed usage records of what the agent did, an order to a file, for the private
// relay of its owner to ask for. The key is read when it is needed, so that it may come after the
// agent has begun. Safe for concurrent use.
type metering struct {
	key string // file
	dir string

	mu    sync.Mutex
	names []string // of the files, the oldest first
}

// openMetering opens the folder of records, if there is one. What a crash left half written is removed.
func openMetering(home, work string) (*metering, error) {
	m := &metering{key: filepath.Join(home, MeterKeyFile), dir: filepath.Join(work, meteringDir)}
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agent: folder of usage records: %w", err)
	}
	at := map[string]int64{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), meteringSuffix) {
			if err := os.Remove(filepath.Join(m.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("agent: removing what was half written: %w", err)
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("agent: usage records: %w", err)
		}
		at[e.Name()] = info.ModTime().UnixNano()
		m.names = append(m.names, e.Name())
	}
	slices.SortFunc(m.names, func(a, b string) int { return cmp.Or(cmp.Compare(at[a], at[b]), strings.Compare(a, b)) })
	return m, nil
}

// secret returns the metering key, nil if the agent has none.
func (m *metering) secret() (*zk.MeterSecret, error) {
	text, err := os.ReadFile(m.key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agent: reading the metering key: %w", err)
	}
	secret, err := zk.ParseMeterSecret(string(text))
	if err != nil {
		return nil, fmt.Errorf("agent: %s: %w", m.key, err)
	}
	return secret, nil
}

// keep signs what a receipt says was used, a record for each resource, and makes the records
// durable. Without a metering key it does nothing.
func (m *metering) keep(receipt *chain.UsageReceipt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	secret, err := m.secret()
	if err != nil || secret == nil || len(receipt.Usage) == 0 {
		return err
	}
	records := make([]zk.UsageRecord, len(receipt.Usage))
	for i, u := range receipt.Usage {
		records[i] = zk.UsageRecord{
			Sequence: uint64(i) + 1, Resource: uint8(u.Resource - chain.CPU), Amount: u.Amount, DurationMs: u.DurationMs, EndedMs: uint64(receipt.Ended),
		}
	}
	file, err := secret.SignUsage(receipt.Order, records)
	if err != nil {
		return fmt.Errorf("agent: signing usage records: %w", err)
	}
	return m.write(&file)
}

// write makes a file durable and forgets the oldest. The caller holds m.mu.
func (m *metering) write(file *zk.UsageFile) error {
	name := file.Order.String() + meteringSuffix
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("agent: folder of usage records: %w", err)
	}
	if err := writeFile(filepath.Join(m.dir, name), file.Encode()); err != nil {
		return fmt.Errorf("agent: keeping usage records: %w", err)
	}
	if !slices.Contains(m.names, name) {
		m.names = append(m.names, name)
	}
	for len(m.names) > maxMetered {
		if err := removeIfThere(filepath.Join(m.dir, m.names[0])); err != nil {
			return fmt.Errorf("agent: removing old usage records: %w", err)
		}
		m.names = m.names[1:]
	}
	return nil
}

// get returns the records of an order under the key that the agent has now: what another key
// signed is signed anew. The error is fs.ErrNotExist if there are none.
func (m *metering) get(order crypto.Digest) (zk.UsageFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(m.dir, order.String()+meteringSuffix))
	if err != nil {
		return zk.UsageFile{}, err
	}
	file, err := zk.DecodeUsageFile(data)
	if err != nil {
		return zk.UsageFile{}, err
	}
	secret, err := m.secret()
	if err != nil || secret == nil || file.Key == secret.Public() {
		return file, err
	}
	records := make([]zk.UsageRecord, len(file.Records))
	for i, r := range file.Records {
		records[i] = r.Record
	}
	if file, err = secret.SignUsage(order, records); err != nil {
		return zk.UsageFile{}, err
	}
	return file, m.write(&file)
}

// usage answers with the signed records of an order.
func (a *Agent) usage(w http.ResponseWriter, r *http.Request) {
	order, err := crypto.ParseDigest(r.PathValue("order"))
	if err != nil {
		a.writeJSON(w, http.StatusBadRequest, map[string]string{"error": "order: " + err.Error()})
		return
	}
	file, err := a.metering.get(order)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.writeJSON(w, http.StatusNotFound, map[string]string{"error": "this node has no usage records of the order"})
	case err != nil:
		a.log.Error("agent: usage records cannot be had", "order", order.Short(), "error", err)
		a.writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the records cannot be read"})
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err := w.Write(file.Encode()); err != nil {
			a.log.Debug("agent: an answer was not sent", "error", err)
		}
	}
}
