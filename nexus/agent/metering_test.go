package agent_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// TestUsageRecordsAreSigned: with a metering key the agent signs what each receipt says was used, also of an agent
// that began without one, over a restart, and anew under another key; without one it signs nothing.
func TestUsageRecordsAreSigned(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	job := func(nonce uint64) chain.UsageReceipt {
		t.Helper()
		w := p.assign(exiter(0), nonce, nil)
		return p.finish(&w).Receipt
	}
	key := func(digit string) *zk.MeterSecret {
		t.Helper()
		seed := strings.Repeat(digit, 64)
		if err := os.WriteFile(filepath.Join(config.Home, agent.MeterKeyFile), []byte(seed+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := zk.ParseMeterSecret(seed)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	before := job(1)
	first := key("1")
	after := job(2)
	a.signed(t, &after, first)
	for _, path := range []string{before.Order.String(), crypto.Digest{1}.String(), "x", ""} {
		if data, err := a.get(t, "/v1/usage/"+path); err == nil {
			t.Errorf("%q has records: %x", path, data)
		}
	}
	a.stop()
	dir := filepath.Join(config.Home, "work", "usage")
	if err := os.WriteFile(filepath.Join(dir, ".tmp-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = start(t, config)
	s.session()
	a.signed(t, &after, first)
	second := key("2")
	a.signed(t, &after, second)
	a.signed(t, &after, second)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	page, err := a.get(t, "/v1/status")
	if err != nil || bytes.Contains(page, []byte(strings.Repeat("2", 64))) {
		t.Errorf("the page: %v", err)
	}

}

// signed demands that the agent shows the records of a receipt's usage, signed by a key.
func (r *running) signed(t *testing.T, receipt *chain.UsageReceipt, by *zk.MeterSecret) {
	t.Helper()
	data, err := r.get(t, "/v1/usage/"+receipt.Order.String())
	if err != nil {
		t.Fatal(err)
	}
	file, err := zk.DecodeUsageFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zk.NewUsageWork(32, file); err != nil { // looks at every signature
		t.Error(err)
	}
	if file.Order != receipt.Order || file.Key != by.Public() || len(file.Records) != len(receipt.Usage) || len(file.Records) == 0 {
		t.Fatalf("%d records of order %s by %s", len(file.Records), file.Order.Short(), file.Key)
	}
	for i, u := range receipt.Usage {
		r := file.Records[i].Record
		if r.Resource != uint8(u.Resource-chain.CPU) || r.Amount != u.Amount || r.DurationMs != u.DurationMs || r.EndedMs != uint64(receipt.Ended) {
			t.Errorf("record %d is %+v, used %+v", i, r, u)
		}
	}
}
