package vm_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"
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
	const path = "testdata/worst.wasm"
	if *update {
		if err := os.WriteFile(path, module, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, module) {
		t.Errorf("%s is not made of worst.wat: -update writes it anew (%v)", path, err)
	}
}
