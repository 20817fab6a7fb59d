package meter

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// The contract interface is CosmWasm's, version 8: what a module may import, and
// what it exports.
const (
	importModule    = "env"
	interfacePrefix = "interface_version_"
	interfaceMarker = "interface_version_8"
	requiresPrefix  = "requires_"
	reservedPrefix  = "hypermesh."
)

// HostCall is a function that contracts may import. Its parameters are i32.
type HostCall struct {
	Name   string
	Params int
	Result byte // its type, 0 for none
}

// HostCalls are the imports there are, in the order of their names. One that is
// not among them is not offered: a contract that asks for it is refused.
func HostCalls() []HostCall { return hostCalls }

var hostCalls = []HostCall{
	{"abort", 1, 0},
	{"addr_canonicalize", 2, wasm.I32},
	{"addr_humanize", 2, wasm.I32},
	{"addr_validate", 1, wasm.I32},
	{"bls12_381_aggregate_g1", 2, wasm.I32},
	{"bls12_381_aggregate_g2", 2, wasm.I32},
	{"bls12_381_hash_to_g1", 4, wasm.I32},
	{"bls12_381_hash_to_g2", 4, wasm.I32},
	{"bls12_381_pairing_equality", 4, wasm.I32},
	{"db_next", 1, wasm.I32},
	{"db_next_key", 1, wasm.I32},
	{"db_next_value", 1, wasm.I32},
	{"db_read", 1, wasm.I32},
	{"db_remove", 1, 0},
	{"db_scan", 3, wasm.I32},
	{"db_write", 2, 0},
	{"debug", 1, 0},
	{"ed25519_batch_verify", 3, wasm.I32},
	{"ed25519_verify", 3, wasm.I32},
	{"query_chain", 1, wasm.I32},
	{"secp256k1_recover_pubkey", 3, wasm.I64},
	{"secp256k1_verify", 3, wasm.I32},
	{"secp256r1_recover_pubkey", 3, wasm.I64},
	{"secp256r1_verify", 3, wasm.I32},
}

// Capabilities are what contracts may require of this chain, as Prepare takes
// them. Each of CosmWasm's versions asks for those before it: 2.0 adds messages and
// queries of types that the chain registers, of which it has none, 2.1 the imports
// on BLS12-381, and 2.2 who migrates.
func Capabilities() []string {
	return []string{
		"cosmwasm_1_1", "cosmwasm_1_2", "cosmwasm_1_3", "cosmwasm_1_4", "cosmwasm_2_0", "cosmwasm_2_1", "cosmwasm_2_2",
		"iterator", "staking",
	}
}

// hostCallType is the type of an import, if there is one of that name.
func hostCallType(name string) (functionType, bool) {
	for _, call := range hostCalls {
		if call.Name == name {
			return typeOf(call.Params, call.Result), true
		}
	}
	return functionType{}, false
}

// typeOf is (i32 × params) → result, 0 for none.
func typeOf(params int, result byte) functionType {
	t := functionType{}
	for range params {
		t.params = append(t.params, wasm.I32)
	}
	if result != 0 {
		t.results = []byte{result}
	}
	return t
}

// Entry is a function of a contract that the chain calls.
type Entry string

// The entries of a contract. All but the first two take (env, msg).
const (
	Instantiate Entry = "instantiate" // (env, info, msg)
	Execute     Entry = "execute"     // (env, info, msg)
	Query       Entry = "query"       // storage cannot be written
	Migrate     Entry = "migrate"     // or (env, msg, info), since version 2.2
	Sudo        Entry = "sudo"
	Reply       Entry = "reply"
)

var entries = []Entry{Instantiate, Execute, Query, Migrate, Sudo, Reply}

// Known reports whether the chain calls a function of that name.
func (e Entry) Known() bool { return slices.Contains(entries, e) }

// params tells whether a contract may export an entry with so many parameters.
func (e Entry) params(n int) bool {
	switch e {
	case Instantiate, Execute:
		return n == 3
	case Migrate:
		return n == 2 || n == 3
	default:
		return n == 2
	}
}

const (
	exportMemory     = "memory"
	exportAllocate   = "allocate"
	exportDeallocate = "deallocate"
)

type requirement struct {
	name string
	of   functionType
}

// required are the functions that every contract exports, with their types.
var required = []requirement{
	{exportAllocate, typeOf(1, wasm.I32)},
	{exportDeallocate, typeOf(1, 0)},
	{interfaceMarker, typeOf(0, 0)},
}
