// Package peers holds the contract machine against what others wrote: the
// WebAssembly specification's own tests, as the wazero module carries them, and
// the CosmWasm project's contracts, as the wasmvm module carries them. The template cw20
// is held against the token that it has the messages of, as the wasmd module carries it.
//
// It is a module of its own, so that nothing of theirs is required by, or linked
// into, what this project ships. Their files are found in the module cache at
// test time; one that is not there is a failure.
package peers

import (
	// Required for what lies beside their code.
	_ "github.com/CosmWasm/wasmd/x/wasm/ioutils"
	_ "github.com/CosmWasm/wasmvm/v3/types"
	_ "github.com/tetratelabs/wazero/api"
)
