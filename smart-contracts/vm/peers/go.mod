module github.com/hypermesh/hypermesh/smart-contracts/vm/peers

go 1.26.0

require (
	github.com/CosmWasm/wasmd v0.53.3
	github.com/CosmWasm/wasmvm/v3 v3.0.7
	github.com/bytecodealliance/wasmtime-go/v44 v44.0.0
	github.com/hypermesh/hypermesh v0.0.0
	github.com/tetratelabs/wazero v1.9.0
)

require (
	cosmossdk.io/errors v1.0.1 // indirect
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/consensys/gnark-crypto v0.20.1 // indirect
	github.com/fxamacker/cbor/v2 v2.9.6 // indirect
	github.com/google/btree v1.1.2 // indirect
	github.com/klauspost/cpuid/v2 v2.3.0 // indirect
	github.com/oasisprotocol/curve25519-voi v0.0.0-20230904125328-1f23a7beb09a // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/shamaton/msgpack/v2 v2.2.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20240709173604-40e1e62336c5 // indirect
	google.golang.org/grpc v1.64.1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/hypermesh/hypermesh => ../../..
