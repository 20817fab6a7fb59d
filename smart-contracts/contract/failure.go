package contract

import "fmt"

// tank is gas that several calls share.
type tank struct{ limit, used uint64 }

func (t *tank) left() uint64 { return t.limit - t.used }

// take uses gas, and is false if there is not so much: then none is left.
func (t *tank) take(gas uint64) bool {
	if gas > t.left() {
		t.used = t.limit
		return false
	}
	t.used += gas
	return true
}

// failure is why a message did not take effect.
type failure struct {
	space string // with the code what contracts see: CosmWasm's names and numbers where it has some
	code  uint32
	text  string // for the receipt: the same on every node
	spent *tank  // that is used up; nil: it is something else
}

// Where codes are from.
const (
	spaceSDK  = "sdk"
	spaceWasm = "wasm"
	spaceOurs = "hypermesh"
)

// The codes, as CosmWasm's chains number them, and our own.
const (
	sdkUnauthorized = 4
	sdkFunds        = 5
	sdkAddress      = 7
	sdkCoins        = 10
	sdkGas          = 11

	wasmCreate      = 2
	wasmExists      = 3
	wasmInstantiate = 4
	wasmExecute     = 5
	wasmNotFound    = 8
	wasmQuery       = 9
	wasmMigrate     = 11
	wasmEmpty       = 12
	wasmLimit       = 13
	wasmInvalid     = 14
	wasmNoContract  = 22
	wasmQueryDepth  = 27
	wasmNoCode      = 28
	wasmDepth       = 30

	oursUnsupported = 1  // by this chain
	oursNotYet      = 2  // code that is not yet callable
	oursRefused     = 3  // by the chain's own modules
	oursSaid        = 4  // more than a receipt holds
	oursDeposit     = 5  // more room than who pays has agreed to
	oursPinPeriods  = 6  // no period, or more than there are
	oursPinsFull    = 7  // more pinned code than nodes keep
	oursPinCost     = 8  // more than who pays has agreed to
	oursDebt        = 9  // more code than nodes have time to compile
	oursAsked       = 10 // more code than a query may have read from disk
)

func fail(space string, code uint32, format string, args ...any) *failure {
	return &failure{space: space, code: code, text: fmt.Sprintf(format, args...)}
}

func outOf(t *tank) *failure {
	return &failure{space: spaceSDK, code: sdkGas, text: "out of gas", spent: t}
}

func unsupported(what string) *failure {
	return fail(spaceOurs, oursUnsupported, "this chain has no %s for contracts", what)
}

// told is what contracts are told of it.
func (f *failure) told() string { return fmt.Sprintf("codespace: %s, code: %d", f.space, f.code) }

// said is what a receipt says of it.
func (f *failure) said() string { return fmt.Sprintf("%s %d: %s", f.space, f.code, f.text) }
