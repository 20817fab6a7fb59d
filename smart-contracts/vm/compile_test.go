package vm_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// withFunctions is a contract with a function so often.
func withFunctions(t testing.TB, text string, times int) []byte {
	t.Helper()
	more := "(table 10 funcref) (type $nothing (func)) " + manyType + "(func $nothing) (func $one (param i64) (result i64) local.get 0) (func $hundred (param" + strings.Repeat(" i32", 100) + ")) "
	code, err := wasmtime.Wat2Wasm(strings.Replace(source(msg, "unreachable"), "(func $again", more+strings.Repeat(text+" ", times)+" (func $again", 1))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// each is text for each number from 0, below n.
func each(n int, format string, args ...int) string {
	var out strings.Builder
	for i := range n {
		numbers := make([]any, len(args))
		for j, a := range args {
			numbers[j] = i*8 + a
			if a < 8 {
				numbers[j] = i + a
			}
		}
		fmt.Fprintf(&out, format+" ", numbers...)
	}
	return out.String()
}

// TestSlowCode: what takes a compiler seconds is refused by name; the shapes that are held to their price can be
// uploaded; and a function may move twice as many values as any of CosmWasm's.
func TestSlowCode(t *testing.T) {
	for name, c := range map[string]struct{ function, why string }{
		"a loop of 900 locals, 1,000 branches": {turning(900, 1_000), "values are moved where ways meet"},
		"a loop of 100 locals, 5,000 branches": {turning(100, 5_000), "values are moved where ways meet"},
		"10,000 branches past 3,900 values":    {heightened(3_900, branching(10_000)), "ways past 2 locals, 60 and what is on the operand stack"},
	} {
		_, err := meter.Prepare(withFunctions(t, c.function, 1), meter.Capabilities(), meter.WeightsV1())
		if refusal, ok := errors.AsType[*meter.Refusal](err); !ok || refusal.Rule != meter.RuleSize || !strings.Contains(refusal.Detail, c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range slow {
		if gas := uploadGas(t, withFunctions(t, c.function, c.times)); gas > chain.DefaultParams().BlockGas.Units() {
			t.Errorf("%s: %d gas are more than a block has: nobody can upload it", c.name, gas)
		}
	}
	if _, err := meter.Prepare(withFunctions(t, turning(20, 4_998), 1), meter.Capabilities(), meter.WeightsV1()); err != nil {
		t.Errorf("a function that moves 100,000 values: %v", err)
	}
}

// uploadGas is what it costs to store code, but for what the state costs.
func uploadGas(t testing.TB, code []byte) uint64 {
	t.Helper()
	kv, from := state.NewOverlay(state.NewMemoryBackend()), chain.ModuleAddress("somebody")
	tokens.Credit(kv, from, chain.Hyper(1_000))
	tokens.Mint(kv, chain.Hyper(1_000))
	env := contract.Env{ChainID: "a-chain", Height: 1, Now: 1, Payer: from, Prices: contract.PricesV1(), Tx: &contract.Tx{}}
	did := contract.Do(kv, &env, from, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}, 1<<40)
	if did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	return did.Gas
}
