module github.com/hypermesh/hypermesh/smart-contracts/vm/peers

go 1.26.0

require (
	github.com/CosmWasm/wasmvm/v3 v3.0.7
	github.com/bytecodealliance/wasmtime-go/v44 v44.0.0
	github.com/hypermesh/hypermesh v0.0.0
	github.com/tetratelabs/wazero v1.9.0
)

require github.com/shamaton/msgpack/v2 v2.2.0 // indirect

replace github.com/hypermesh/hypermesh => ../../..
