package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestAuditExport runs a job and a lease on a network, exports their records, and
// verifies the export after the network is gone; then it tampers.
func TestAuditExport(t *testing.T) {
	endToEnd(t)
	w := newLeaseWorld(t)
	d := w.net.describe(t)
	_, fractal := programs(t)
	if _, err := hypermesh(t, "job", "run", fractal, "--config", w.net.path, "--out", t.TempDir()+"/out"); err != nil {
		t.Fatal(err)
	}
	w.do("lease", "open", "--config", w.net.path, "--json", "--deal", w.deal(crypto.Digest{}, 1_000, chain.Hyper(10)))
	w.do(w.lease("collect")...)

	dir := t.TempDir()
	all, cpu := filepath.Join(dir, "all.csv"), filepath.Join(dir, "cpu.csv")
	export := func(path string, args ...string) (records uint64) {
		t.Helper()
		var result auditResult
		out, err := hypermesh(t, append([]string{"audit", "export", "--rpc", d.RPC[0], "--out", path, "--json"}, args...)...)
		if err != nil || json.Unmarshal(out, &result) != nil {
			t.Fatalf("audit export %q: %v: %s", args, err, out)
		}
		return result.Records
	}
	ofNode, none := filepath.Join(dir, "node.json"), filepath.Join(dir, "none.csv")
	records, nodes := export(all), export(ofNode, "--node", w.provider.Public().String(), "--format", "json", "--genesis", d.Genesis)
	cpus, nothing := export(cpu, "--resource", "CPU", "--complete"), export(none, "--since", "2100-01-01T00:00:00Z")
	if records < 3 || nodes != records || cpus == 0 || cpus >= records || nothing != 0 {
		t.Fatalf("%d records, %d of the node, %d of CPU, %d of the future", records, nodes, cpus, nothing)
	}
	w.net.stop(t)

	for _, path := range []string{all, ofNode, cpu, none} {
		if out, err := hypermesh(t, "audit", "verify", path, "--genesis", d.Genesis); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
	tamper(t, all, d.Genesis)
	foreign(t, cpu, d.Genesis, d.ChainID)
}

// tamper changes an export in several ways: each is refused by name.
func tamper(t *testing.T, all, genesis string) {
	t.Helper()
	raw, err := os.ReadFile(all)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(",claim,")) || !bytes.Contains(raw, []byte(",lease,")) {
		t.Errorf("the records are not of a claim and a lease: %s", raw)
	}
	lines := strings.SplitAfter(string(raw), "\n")
	fields := strings.Split(lines[1], ",")
	const amount = 12
	n, err := strconv.ParseUint(fields[amount], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	fields[amount] = strconv.FormatUint(n+1, 10)
	for name, c := range map[string]struct{ records, want string }{
		"changed amount": {lines[0] + strings.Join(fields, ",") + strings.Join(lines[2:], ""), "amount is"},
		"left out":       {lines[0] + strings.Join(lines[2:], ""), "left out, added or moved"},
		"truncated":      {strings.Join(lines[:2], ""), "truncated"},
	} {
		if err := os.WriteFile(all, []byte(c.records), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := invoke(t, "audit", "verify", all, "--genesis", genesis); code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
	}
}

// foreign verifies an export by the genesis of another chain.
func foreign(t *testing.T, path, genesis string, id chain.ChainID) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "genesis.json")
	data, err := os.ReadFile(genesis)
	if err == nil {
		err = os.WriteFile(other, bytes.Replace(data, []byte(id), []byte("another-chain"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, "audit", "verify", path, "--genesis", other); code != 1 || !strings.Contains(stderr, "another chain") {
		t.Errorf("by another genesis: exit code %d: %s", code, stderr)
	}
}
