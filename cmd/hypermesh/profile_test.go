package main

import (
	"bytes"
	"cmp"
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
	{"contracts: state", "contract.(*reach)"},
	{"contracts: imports", "vm.(*run).imported"},
	{"contracts: instances", "vm.(*linker).begin"},
	{"contracts: instances", "vm.(*native).end"},
	{"contracts: their code", "vm.(*Machine).Run"},
	{"contracts: answers", "smart-contracts/cosmwasm."},
	{"contracts: beside", "contract.Do"},
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

// tracesOf returns the stacks of a profile as text.
func tracesOf(b *testing.B, profile []byte) []byte {
	b.Helper()
	path := filepath.Join(b.TempDir(), "cpu.pprof")
	if err := os.WriteFile(path, profile, 0o600); err != nil {
		b.Fatal(err)
	}
	traces, err := exec.Command("go", "tool", "pprof", "-traces", path).Output()
	if err != nil {
		b.Fatalf("go tool pprof: %v", err)
	}
	return traces
}

// whereItGoes returns a table of the budget of a transaction, in microseconds of one
// processor: the parts of a validator's profile in which so many transactions were committed,
// what of its whole cost the profile does not see, and its share of the generator.
func whereItGoes(traces []byte, txs, cost, generator float64) string {
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
	names := slices.SortedFunc(maps.Keys(spent), func(x, y string) int {
		return cmp.Or(cmp.Compare(spent[y], spent[x]), strings.Compare(x, y))
	})
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1_000 / txs }
	var out strings.Builder
	row := func(name string, µs float64) {
		fmt.Fprintf(&out, "%-30s %6.2f µs %5.1f %%\n", name, µs, 100*µs/(cost+generator))
	}
	for _, name := range names {
		row(name, each(spent[name]))
	}
	row("not seen by the profile", cost-each(all))
	row("a validator", cost)
	row("its share of the generator", generator)
	row("together", cost+generator)
	return out.String()
}

// TestWhereItGoes adds up a budget of 40 µs.
func TestWhereItGoes(t *testing.T) {
	const line = "-----------+-------------------------------------------------------\n"
	traces := "File: hypermesh\nType: cpu\n" + line +
		"     160ms   crypto.verifyLanes\n             github.com/hypermesh/hypermesh/internal/crypto.(*KeyCache).VerifyBatch\n             node.(*application).execute\n" + line +
		"      50ms   tokens.Credit\n             node.(*application).execute\n" + line +
		"      40ms   crypto.(*KeyCache).VerifyBatch\n" + line +
		"     0.05s   runtime.futex\n"
	want := "signatures                      20.00 µs  50.0 %\n" +
		"execution                        5.00 µs  12.5 %\n" +
		"the rest                         5.00 µs  12.5 %\n" +
		"not seen by the profile          8.00 µs  20.0 %\n" +
		"a validator                     38.00 µs  95.0 %\n" +
		"its share of the generator       2.00 µs   5.0 %\n" +
		"together                        40.00 µs 100.0 %\n"
	if got := whereItGoes([]byte(traces), 10_000, 38, 2); got != want {
		t.Errorf("the budget is\n%swant\n%s", got, want)
	}
}
