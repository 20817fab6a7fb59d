package sdk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// CodeParts returns the messages that store code of contracts: one, or as many as its length
// takes. They go on the chain in this order, each in a transaction of its own.
func CodeParts(code []byte) ([]chain.StoreCode, error) {
	if len(code) == 0 || len(code) > chain.MaxCodeBytes {
		return nil, fmt.Errorf("sdk: code of %d bytes, want 1 to %d", len(code), chain.MaxCodeBytes)
	}
	var out []chain.StoreCode
	sum := sha256.Sum256(code)
	for at := 0; at < len(code); at += chain.MaxCodePart {
		part := code[at:min(at+chain.MaxCodePart, len(code))]
		out = append(out, chain.StoreCode{Checksum: sum, Size: uint64(len(code)), Offset: uint64(at), Part: part})
	}
	return out, nil
}

// PredictableAddress is the address of a contract that a creator makes, with a salt, of code
// of a checksum.
func PredictableAddress(code *api.ContractCode, creator chain.Address, salt []byte) chain.Address {
	return contract.PredictableAddress(code.Checksum, creator, salt)
}

// PinCost is what pinning code for so many periods burns: 1 to chain.MaxPinPeriods of them, and no code that is
// larger than all that is pinned may be.
func PinCost(code *api.ContractCode, periods uint64) (chain.Amount, error) {
	switch native := uint64(code.Native); {
	case periods == 0 || periods > chain.MaxPinPeriods:
		return chain.Amount{}, fmt.Errorf("sdk: %d periods, want 1 to %d", periods, chain.MaxPinPeriods)
	case native > contract.PinnedBytes:
		return chain.Amount{}, fmt.Errorf("sdk: code %d takes %d bytes, and %d are pinned at most", code.Code, native, contract.PinnedBytes)
	default:
		return contract.PinCost(native, periods), nil
	}
}

// Contract returns what the chain keeps of a contract, as a node says.
func (c *Client) Contract(ctx context.Context, address chain.Address) (api.Contract, error) {
	return ask[api.Contract](ctx, c, get(c.nodes, "/v1/contracts/"+address.String(), nil))
}

// ContractCode returns what the chain keeps of code, as a node says.
func (c *Client) ContractCode(ctx context.Context, code uint64) (api.ContractCode, error) {
	return ask[api.ContractCode](ctx, c, get(c.nodes, "/v1/codes/"+strconv.FormatUint(code, 10), nil))
}

// StoreAgainIn is when a part of code may be sent again that was refused because nodes have too much of others' to compile,
// if the chain makes blocks as it does when nobody needs it; false: it was refused for something else. The parts before it
// are kept.
func StoreAgainIn(err error) (time.Duration, bool) {
	rejected, ok := errors.AsType[*RejectedError](err)
	if !ok || !rejected.Included {
		return 0, false
	}
	ms, ok := contract.StoreInMs(rejected.Reason)
	return waitOf(ms), ok
}

// waitOf is a time that a node says.
func waitOf(ms uint64) time.Duration { return time.Duration(min(ms, mostWaitMs)) * time.Millisecond }

// AwaitCode waits until contracts of code run. Before it waits, wait is told for how long, if the chain makes
// blocks as it does when nobody needs it; nil: nobody is told.
func (c *Client) AwaitCode(ctx context.Context, code uint64, wait func(time.Duration)) error {
	for told := false; ; told = true {
		found, err := c.ContractCode(ctx, code)
		if err != nil {
			return err
		}
		if found.Wait == 0 {
			return c.WaitHeight(ctx, found.Callable)
		}
		rest := waitOf(uint64(found.Wait))
		if !told && wait != nil {
			wait(rest)
		}
		select {
		case <-time.After(min(max(rest, shortestWait), longestWait)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Who waits for code asks again after longestWait, since the chain may stand, and not before shortestWait, since a
// millisecond of its progress may be a block away. mostWaitMs is more than any code waits.
const (
	shortestWait = 100 * time.Millisecond
	longestWait  = 5 * time.Second
	mostWaitMs   = 2 * contract.MaxDebtMs
)

// ContractSchema returns what code says of its contracts' messages, as a node says.
func (c *Client) ContractSchema(ctx context.Context, code uint64) (api.ContractSchema, error) {
	return ask[api.ContractSchema](ctx, c, get(c.nodes, "/v1/codes/"+strconv.FormatUint(code, 10)+"/schema", nil))
}

// QueryContract has a contract answer a query, JSON for it to read, as a node says. A
// contract that does not answer is an *api.Problem of type api.ProblemContract.
func (c *Client) QueryContract(ctx context.Context, address chain.Address, query []byte) (api.ContractAnswer, error) {
	if len(query) > api.MaxContractQuery {
		return api.ContractAnswer{}, fmt.Errorf("sdk: a query of %d bytes, limit %d", len(query), api.MaxContractQuery)
	}
	r := call{to: c.nodes, method: http.MethodPost, path: "/v1/contracts/" + address.String() + "/query", body: query, kind: api.ContentJSON, limit: maxBlock, repeatable: true}
	return ask[api.ContractAnswer](ctx, c, r)
}

// errKey says that no contract keeps anything under so long a key.
var errKey = errors.New("sdk: a contract keeps nothing under a key of so many bytes")

// VerifiedContractState returns what a finalized state shows that a contract keeps under a
// key of its own.
func (c *Client) VerifiedContractState(ctx context.Context, address chain.Address, key []byte) (light.Value, error) {
	if len(key) > contract.MaxKeyBytes {
		return light.Value{}, fmt.Errorf("%w: %d, limit %d", errKey, len(key), contract.MaxKeyBytes)
	}
	return c.VerifiedState(ctx, contract.StorageKey(address, key))
}

// VerifiedContract is a contract that a finalized state has, or has not.
type VerifiedContract struct {
	contract contract.Contract
	there    bool
	height   chain.Height
}

// Get returns the contract, and false if there is none of that address.
func (v VerifiedContract) Get() (contract.Contract, bool) { return v.contract, v.there }

// Height returns the height of the block after which the state was this.
func (v VerifiedContract) Height() chain.Height { return v.height }

// VerifiedContract returns what a finalized state knows of a contract.
func (c *Client) VerifiedContract(ctx context.Context, address chain.Address) (VerifiedContract, error) {
	value, err := c.VerifiedState(ctx, contract.ContractKey(address))
	if err != nil {
		return VerifiedContract{}, err
	}
	out := VerifiedContract{height: value.Height()}
	raw, there := value.Get()
	if !there {
		return out, nil
	}
	if out.contract, err = contract.DecodeContract(raw); err != nil {
		return VerifiedContract{}, fmt.Errorf("sdk: contract %s: %w: %w", address.Short(), light.ErrRefused, err)
	}
	out.there = true
	return out, nil
}
