package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// parts are what a validator's time is spent on, each with a function that is on
// the stack then. The first that is found takes the sample.
var parts = []struct{ name, function string }{
	{"signatures", "crypto.(*KeyCache).VerifyBatch"},
	{"decoding", "chain.DecodeTxs"},
	{"collector", "runtime.gcBgMarkWorker"},
	{"collector", "runtime.gcAssistAlloc"},
	{"collector", "runtime.bgsweep"},
	{"collector", "runtime.bgscavenge"},
	{"state tree", "node.(*branch).hash"},
	{"state tree", "state.(*Tree).Next"},
	{"state tree", "crypto.ForkJoin"},
	{"execution", "node.(*application).execute"},
	{"building, as leader", "node.(*application).Propose"},
	{"commit", "node.(*application).commit"},
	{"commit", "cockroachdb/pebble"},
	{"decoding", "api.DecodeSubmission"},
	{"admission", "node.(*pool).add"},
	{"admission", "node.(*pool).gate"},
	{"proposals", "node.(*application).Unpack"},
	{"proposals", "node.(*application).Pack"},
	{"gossip", "node.(*gossip)"},
	{"consensus", "engine.(*Engine)"},
	{"HTTP", "net/http"},
	{"transport", "quic-go"},
	{"transport", "internal/transport"},
}

// profile asks one validator for the samples of so long a time.
func (n *figureNet) profile(b *testing.B, d time.Duration) chan []byte {
	b.Helper()
	if n.profiler == "" {
		return nil
	}
	out := make(chan []byte, 1)
	go func() {
		defer close(out)
		response, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", n.profiler, int(d.Seconds())))
		if err != nil {
			b.Error(err)
			return
		}
		data, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			b.Error(err)
			return
		}
		out <- data
	}()
	return out
}

// whereItGoes returns a table of the parts of a profile in which so many
// transactions were committed: microseconds for each, and shares.
func whereItGoes(b *testing.B, profile []byte, txs float64) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "cpu.pprof")
	if err := os.WriteFile(path, profile, 0o600); err != nil {
		b.Fatal(err)
	}
	traces, err := exec.Command("go", "tool", "pprof", "-traces", path).Output()
	if err != nil {
		b.Fatalf("go tool pprof: %v", err)
	}
	spent, all := map[string]time.Duration{}, time.Duration(0)
	const line = "-----------+-------------------------------------------------------\n"
	for _, trace := range bytes.Split(traces, []byte(line)) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(trace)), " ")
		d, err := time.ParseDuration(first)
		if err != nil {
			continue // what precedes the samples
		}
		name := "the rest"
		for _, p := range parts {
			if bytes.Contains(trace, []byte(p.function)) {
				name = p.name
				break
			}
		}
		spent[name] += d
		all += d
	}
	names := slices.SortedFunc(maps.Keys(spent), func(x, y string) int { return int(spent[y] - spent[x]) })
	var out strings.Builder
	for _, name := range names {
		fmt.Fprintf(&out, "%-20s %6.2f µs %5.1f %%\n", name, float64(spent[name].Nanoseconds())/1_000/txs, 100*spent[name].Seconds()/all.Seconds())
	}
	fmt.Fprintf(&out, "%-20s %6.2f µs\n", "together", float64(all.Nanoseconds())/1_000/txs)
	return out.String()
}
