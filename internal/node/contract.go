package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
)

// maxAsked is how many contracts answer queries from outside at one time: fewer than there are
// processors, but for one.
var maxAsked = int32(min(4, max(1, runtime.GOMAXPROCS(0)-1)))

// askedFor is how long a contract may take to answer who is outside.
const askedFor = time.Second

// Contract returns what the chain keeps of a contract.
func (n *Node) Contract(ctx context.Context, address chain.Address, prove bool) (api.Contract, error) {
	value, err := n.State(ctx, contract.ContractKey(address), prove)
	if err != nil {
		return api.Contract{}, err
	}
	if !value.Present {
		return api.Contract{}, fmt.Errorf("contract %s: %w", address, rpc.ErrNotFound)
	}
	c, err := contract.DecodeContract(value.Value)
	if err != nil {
		return api.Contract{}, fmt.Errorf("contract %s: %w", address, err)
	}
	account, err := n.Account(ctx, address, false)
	if err != nil {
		return api.Contract{}, err
	}
	return api.Contract{
		Address: address, Code: api.Uint64(c.Code), Creator: c.Creator, Admin: c.Admin, Label: c.Label, Created: c.Created,
		Balance: account.Balance, Bytes: api.Uint64(c.Bytes), Pool: c.Pool, Height: value.Height, Proof: value.Proof,
	}, nil
}

// ContractState returns what a contract keeps under a key of its own; a key that is too long
// has nothing, which there is no proof of.
func (n *Node) ContractState(ctx context.Context, address chain.Address, key []byte, prove bool) (api.State, error) {
	if len(key) > contract.MaxKeyBytes {
		return api.State{}, fmt.Errorf("a key of %d bytes, of which none has more than %d: %w", len(key), contract.MaxKeyBytes, rpc.ErrNotFound)
	}
	return n.State(ctx, contract.StorageKey(address, key), prove)
}

// ContractCode returns what the chain keeps of code.
func (n *Node) ContractCode(ctx context.Context, code uint64, prove bool) (api.ContractCode, error) {
	value, err := n.State(ctx, contract.CodeKey(code), prove)
	if err != nil {
		return api.ContractCode{}, err
	}
	if !value.Present {
		return api.ContractCode{}, fmt.Errorf("code %d: %w", code, rpc.ErrNotFound)
	}
	c, err := contract.DecodeCode(value.Value)
	if err != nil {
		return api.ContractCode{}, fmt.Errorf("code %d: %w", code, err)
	}
	out := api.ContractCode{
		Code: api.Uint64(code), Creator: c.Creator, Checksum: c.Checksum, Size: api.Uint64(c.Size), Callable: c.Callable, Ready: api.Uint64(c.Ready), Height: value.Height, Proof: value.Proof,
	}
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.ContractCode{}, err
	}
	defer n.closeSnapshot(snapshot)
	return out, ofNodes(snapshot, &c, &out)
}

// ofNodes fills in how long code waits for nodes to compile it, and what they have of it in memory, as of a state.
func ofNodes(r state.Reader, code *contract.Code, out *api.ContractCode) (err error) {
	defer recoverFault(&err)
	head, err := execution.HeadOf(r)
	if err != nil {
		return err
	}
	is := code.InMemory(r)
	out.Wait, out.Native = api.Uint64(code.WaitMs(head.ProgressMs)), api.Uint64(is.Native)
	if is.PinnedTo > contract.PinPeriod(head.TimeMs) {
		out.PinnedTo = contract.PinsBegin(is.PinnedTo)
	}
	return nil
}

// ContractSchema returns what code says of its contracts' messages.
func (n *Node) ContractSchema(ctx context.Context, code uint64) (api.ContractSchema, error) {
	record, err := n.ContractCode(ctx, code, false)
	if err != nil {
		return api.ContractSchema{}, err
	}
	module, err := n.State(ctx, contract.BytesKey(record.Checksum), false) // which is kept for good
	if err != nil {
		return api.ContractSchema{}, err
	}
	s, err := schema.Of(module.Value)
	if err != nil {
		return api.ContractSchema{}, fmt.Errorf("code %d: %w: %w", code, rpc.ErrNotFound, err)
	}
	return api.ContractSchema{Code: record.Code, Checksum: record.Checksum, Schema: s.JSON(), Height: record.Height}, nil
}

// AskContract has a contract answer a query on the latest state.
func (n *Node) AskContract(ctx context.Context, address chain.Address, query []byte) (api.ContractAnswer, error) {
	if n.app.compiler.vm == nil {
		return api.ContractAnswer{}, fmt.Errorf("this node runs no contracts: %w", rpc.ErrNotFound)
	}
	if n.asked.Add(1) > maxAsked {
		n.asked.Add(-1)
		return api.ContractAnswer{}, fmt.Errorf("%d contracts are being asked: %w", maxAsked, rpc.ErrBusy)
	}
	defer n.asked.Add(-1)
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return api.ContractAnswer{}, err
	}
	defer n.closeSnapshot(snapshot)
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	answer, gas, why, err := n.app.executor.AskContract(ctx, snapshot, address, query)
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return api.ContractAnswer{}, fmt.Errorf("the contract has not answered in time: %w", rpc.ErrBusy)
	case err != nil:
		return api.ContractAnswer{}, err
	case why != nil:
		return api.ContractAnswer{}, &rpc.ContractError{Why: why.Reason()}
	}
	return api.ContractAnswer{Data: answer, GasUsed: gas, Height: snapshot.Tip().Height}, nil
}
