package vm_test

import (
	"os"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"
	"github.com/hypermesh/hypermesh/internal/golden"
)

// TestWorstContract: the module that gas is measured of is what its text says.
func TestWorstContract(t *testing.T) {
	text, err := os.ReadFile("testdata/worst.wat")
	if err != nil {
		t.Fatal(err)
	}
	module, err := wasmtime.Wat2Wasm(string(text))
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/worst.wasm", module)
}
