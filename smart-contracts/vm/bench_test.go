package vm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// contractOf is one of the CosmWasm project's contracts, from the module that only
// the peers require.
func contractOf(b testing.TB, name string) []byte {
	b.Helper()
	dir := output(b, "peers", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CosmWasm/wasmvm/v3")
	code, err := os.ReadFile(filepath.Join(dir, "testdata", name))
	if err != nil {
		b.Fatal(err)
	}
	return code
}

func preparedCode(b testing.TB, wasm []byte) vm.Code {
	b.Helper()
	module, err := meter.Prepare(wasm, meter.Capabilities(), meter.WeightsV1())
	if err != nil {
		b.Fatal(err)
	}
	return vm.Code{ID: crypto.DomainBlob.Hash(wasm), Load: func() (*meter.Module, error) { return module, nil }}
}

var benchEnv = cosmwasm.Env{
	Block:       cosmwasm.Block{Height: 12345, Time: 1571797419879305533, ChainID: "hypermesh-1"},
	Transaction: &cosmwasm.Transaction{Index: 3}, Contract: "contract",
}

func sentBy(sender string) cosmwasm.MessageInfo {
	amount, _, _ := cosmwasm.ParseUint128("1000")
	return cosmwasm.MessageInfo{Sender: sender, Funds: []cosmwasm.Coin{{Denom: "earth", Amount: amount}}}
}

// hackatom is a call of CosmWasm's contract, compiled and kept, from an instance of
// its own to its answer, with what it is told written as JSON. peers measures
// wasmvm beside it.
func hackatom(b *testing.B, entry meter.Entry, sender, msg string) {
	m, w, code := newMachine(b, vm.Config{}), newWorld(), preparedCode(b, contractOf(b, "hackatom.wasm"))
	balance := cosmwasm.EncodeReached(cosmwasm.Answered{Answer: cosmwasm.Data{Bytes: []byte(`{"amount":[{"denom":"earth","amount":"1000"}]}`)}})
	w.query = func([]byte, uint64) ([]byte, uint64, error) { return balance, 10, nil }
	run := func(entry meter.Entry, sender, msg string) {
		args := [][]byte{cosmwasm.Encode(benchEnv), cosmwasm.Encode(sentBy(sender)), []byte(msg)}
		if entry == meter.Query {
			args = [][]byte{args[0], args[2]}
		}
		o, err := m.Run(code, vm.Call{Entry: entry, Args: args, Points: 1 << 32}, w)
		if err != nil || o.End != vm.Returned || o.Data[2] != 'o' {
			b.Fatalf("%v %s %s, %v", o.End, o.Detail, o.Data, err)
		}
	}
	run(meter.Instantiate, "creator", hackatomBegins)
	for b.Loop() {
		run(entry, sender, msg)
	}
}

const hackatomBegins = `{"verifier":"fred","beneficiary":"bob"}`

func BenchmarkHackatomInstantiate(b *testing.B) {
	hackatom(b, meter.Instantiate, "creator", hackatomBegins)
}

func BenchmarkHackatomExecute(b *testing.B) {
	hackatom(b, meter.Execute, "fred", `{"release":{"denom":"earth"}}`)
}

func BenchmarkHackatomQuery(b *testing.B) { hackatom(b, meter.Query, "", `{"verifier":{}}`) }

// BenchmarkCompile is checking, rewriting and compiling a contract of 360 KB that was
// never seen, as an upload is.
func BenchmarkCompile(b *testing.B) {
	wasm := contractOf(b, "cyberpunk.wasm")
	m := newMachine(b, vm.Config{})
	code := vm.Code{Load: func() (*meter.Module, error) { return meter.Prepare(wasm, meter.Capabilities(), meter.WeightsV1()) }}
	for b.Loop() {
		code.ID[0]++
		if err := m.Compile(code); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(wasm)), "bytes")
}

// copies are codes that are alike but for their names.
func copies(code vm.Code, count int) (out []vm.Code) {
	for i := range count {
		code.ID[0], code.ID[1] = byte(i), byte(i>>8)
		out = append(out, code)
	}
	return out
}

// BenchmarkLoad is taking a contract's native code from disk, with its tag checked, and
// the first call.
func BenchmarkLoad(b *testing.B) {
	code := preparedCode(b, contractOf(b, "cyberpunk.wasm"))
	m := newMachine(b, vm.Config{Dir: b.TempDir(), CacheBytes: 1})
	both := copies(code, 2)
	call := vm.Call{Entry: meter.Query, Args: [][]byte{cosmwasm.Encode(benchEnv), []byte(`{"mirror_env":{}}`)}, Points: 1 << 32}
	run := func(code vm.Code) {
		if o, err := m.Run(code, call, newWorld()); err != nil || o.End != vm.Returned {
			b.Fatalf("%v %s, %v", o.End, o.Detail, err)
		}
	}
	run(both[0])
	run(both[1])
	for i := 0; b.Loop(); i++ {
		run(both[i%2]) // there is room for one
	}
}

// BenchmarkKept is what a thousand contracts of 230 KB take in memory, compiled.
func BenchmarkKept(b *testing.B) {
	code := preparedCode(b, contractOf(b, "hackatom.wasm"))
	const count = 1000
	module, err := code.Load()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m, err := vm.New(vm.Config{CacheBytes: 4 << 30})
		if err != nil {
			b.Fatal(err)
		}
		_, image, err := vm.Images(m, module)
		if err != nil {
			b.Fatal(err)
		}
		before := resident(b)
		for _, code := range copies(code, count) {
			if err := vm.KeepImage(m, code.ID, image); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(resident(b)-before)/(1<<20), "MiB/1000")
		m.Close()
	}
}
