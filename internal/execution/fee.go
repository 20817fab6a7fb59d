package execution

import (
	"errors"
	"fmt"
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Prefix begins every key of this package.
const Prefix = 'x'

const (
	kindHead   = 'h'
	kindParams = 'p'
)

// Head is what the chain's state knows of the last block.
type Head struct {
	_       struct{} `cbor:",toarray"`
	Height  chain.Height
	TimeMs  chain.TimeMs
	BaseFee chain.GasPrice // of the next block
	// ProgressMs is the chain's time without that in which it stood: of the time between two
	// blocks at most twice what an idle chain takes.
	ProgressMs uint64
	// Mix is the VRF outputs of all blocks so far: for draws on what was committed to well
	// before the last of them.
	Mix crypto.Digest
}

// HeadKey returns the key of the Head.
func HeadKey() []byte { return []byte{Prefix, kindHead} }

// ParamsKey returns the key of the parameters, a chain.Params.
func ParamsKey() []byte { return []byte{Prefix, kindParams} }

// ErrNoGenesis says that a state has no genesis: no head or no parameters.
var ErrNoGenesis = errors.New("execution: the state has no genesis")

// HeadOf returns what a state knows of its last block.
func HeadOf(r state.Reader) (Head, error) {
	head, ok := state.Load[Head](r, HeadKey())
	if !ok {
		return Head{}, ErrNoGenesis
	}
	return head, nil
}

// ParamsOf returns a state's parameters.
func ParamsOf(r state.Reader) (chain.Params, error) {
	params, ok := state.Load[chain.Params](r, ParamsKey())
	if !ok {
		return chain.Params{}, ErrNoGenesis
	}
	return params, nil
}

// BaseFee returns the base fee of the block after a state.
func BaseFee(r state.Reader) (chain.GasPrice, error) {
	head, err := HeadOf(r)
	return head.BaseFee, err
}

// DecodeHead decodes the Head's record, for those who checked its proof.
func DecodeHead(value []byte) (Head, error) {
	var head Head
	if err := codec.Unmarshal(value, &head, state.MaxValueBytes); err != nil {
		return Head{}, fmt.Errorf("execution: head: %w", err)
	}
	return head, nil
}

const (
	feeHorizonSec  = 10    // T of ledger.md
	maxBlockTimeMs = 2_000 // the cap of Δt
	feeClamp       = 8     // the fee changes by at most 1/8 a block
)

// nextBaseFee returns the base fee after a block that used gas, sinceMs after
// its parent (ledger.md, "Transactions"):
//
//	base' = base · (1 + clamp((gas − target·Δt) / (target·T), ±1/8))
//
// with Δt ≤ 2 s and T = 10 s. A rise is rounded up and a fall down, both
// against who pays the fee; either is at least 1, and the result is never below
// the floor.
func nextBaseFee(base chain.GasPrice, gas chain.Gas, sinceMs uint64, params *chain.Params) chain.GasPrice {
	// In gas·ms per second; chain.Params.Check bounds gas so that none wraps.
	target := params.TargetGasPerSec.Units()
	used, rest := gas.Units()*1_000, target*min(sinceMs, maxBlockTimeMs)
	whole := target * feeHorizonSec * 1_000
	price, floor := base.Nano(), params.BaseFeeFloor.Nano()
	switch {
	case used > rest:
		price = raised(price, min(used-rest, whole/feeClamp), whole)
	case used < rest:
		step, ok := checked.MulDivFloor(price, min(rest-used, whole/feeClamp), whole)
		if !ok {
			panic("execution: a share of less than the whole does not fit")
		}
		price -= min(price, max(step, 1))
	}
	return chain.PricePerGas(max(price, floor))
}

// raised returns price · (1 + part / whole), at least one more, up to the
// largest price.
func raised(price, part, whole uint64) uint64 {
	step, ok := checked.MulDivCeil(price, part, whole)
	if ok {
		price, ok = checked.Add(price, max(step, 1))
	}
	if !ok {
		return math.MaxUint64
	}
	return price
}
