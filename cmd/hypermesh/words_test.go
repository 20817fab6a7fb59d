package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestProgramsAreLookedAt: what is plainly not what the flags say is refused by name, before
// any network is asked for.
func TestProgramsAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Size: 2}), writeAll(w, "[]"), w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"p.wasm": "\x00asm\x01\x00\x00\x00", "image.tar": image.String(), "image.tgz": "\x1f\x8b\x08\x00", "elf": "\x7fELF\x02", "empty": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(dir, "none.json")
	for _, c := range []struct{ flags, file, want string }{
		{"job run --container", "p.wasm", "is a WebAssembly program, no image: leave --container out"},
		{"job quote --container", "p.wasm", "is a WebAssembly program, no image"},
		{"lease request --hold 1 --container", "p.wasm", "is a WebAssembly program, no image"},
		{"job run --container", "image.tgz", "gunzip it first"},
		{"job run --container", "elf", "wants the image that it is in"},
		{"job run --container", "empty", "is empty"},
		{"job run --container", "", "is a directory"},
		{"job run", "image.tar", "--container runs an image"},
		{"job run", "image.tgz", "--container runs an image"},
		{"job run", "empty", "is empty"},
		{"job run", "", "is a directory"},
	} {
		code, _, stderr := invoke(t, append(strings.Fields(c.flags), "--config", none, filepath.Join(dir, c.file))...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%s %s: exit code %d, %q, want %q", c.flags, c.file, code, stderr, c.want)
		}
	}
	for flags, file := range map[string]string{"job run --container": "image.tar", "job run": "p.wasm"} {
		if code, _, stderr := invoke(t, append(strings.Fields(flags), "--config", none, filepath.Join(dir, file))...); code != exitFailed || !strings.Contains(stderr, "none.json") {
			t.Errorf("%s %s: exit code %d, %q", flags, file, code, stderr)
		}
	}
}

func writeAll(w *tar.Writer, text string) error {
	_, err := w.Write([]byte(text))
	return err
}

// TestTooLateToCancel: why a job is not cancelled is said in words alone.
func TestTooLateToCancel(t *testing.T) {
	id := crypto.Digest{7}
	late := fmt.Errorf("sdk: DELETE http://x: %w", &api.Problem{Status: http.StatusConflict, Title: "Conflict", Detail: "it has run, and is settled on the chain"})
	if got, want := notCancelled(id, late).Error(), "job "+id.String()+" is not cancelled: it has run, and is settled on the chain"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	busy := fmt.Errorf("sdk: DELETE http://x: %w", &api.Problem{Status: http.StatusServiceUnavailable, Title: "Busy"})
	if got := notCancelled(id, busy); !errors.Is(got, busy) {
		t.Errorf("%v", got)
	}
}

// TestLeaseText: a lease is shown in HYPER and dates, as elsewhere.
func TestLeaseText(t *testing.T) {
	line := leaseLine{
		Live: true, Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 2_000}, {Resource: chain.Memory, Amount: 512}},
		Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 1_500_000_000}, {Resource: chain.Memory, Price: 600_000_000}},
		Rate:   2_000*1_500_000_000 + 512*600_000_000, Held: chain.Hyper(3), PaidUntil: 1_700_000_000_123, Expires: 1_700_003_600_000, Closing: true, Height: 9,
	}
	var out bytes.Buffer
	line.print(&out)
	for _, want := range []string{
		"keeps       2000 millicores for 0.0108 HYPER an hour\n", "keeps       512 MiB of memory for 0.00110592 HYPER an hour\n", "costs       0.01190592 HYPER an hour\n",
		"holds       3 HYPER\npaid until  2023-11-14 22:13:20 UTC\nends        2023-11-14 23:13:20 UTC, upon notice\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}
