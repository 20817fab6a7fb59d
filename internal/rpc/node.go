package rpc

import (
	"context"
	"errors"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// What a Node's errors wrap to be answered as such. Any other error is logged
// and answered as internal.
var (
	// ErrNotFound: there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrPruned: the node had it, and no longer has.
	ErrPruned = errors.New("pruned")
	// ErrBusy: the node cannot answer now; later it may.
	ErrBusy = errors.New("busy")
)

// ContractError says why a contract does not answer.
type ContractError struct{ Why string }

func (e *ContractError) Error() string { return e.Why }

// Node answers the API's questions. Everything is about finalized blocks, but
// for the mempool. Its methods are called concurrently.
type Node interface {
	// Status describes the node and its chain.
	Status(ctx context.Context) (api.Status, error)

	// Hold returns when the node can take transactions in, after a while, or when
	// ctx ends. A submission is decoded after it.
	Hold(ctx context.Context)

	// Submit verifies the transactions' signatures in one batch and offers them
	// to the mempool. reasons[i] is empty if txs[i] was accepted (or was there
	// already), and says why not otherwise.
	Submit(ctx context.Context, txs []chain.DecodedTx) (reasons []string, err error)

	// Tx finds a transaction in a finalized block, in the mempool, or among those that
	// Dropped knows. The error wraps ErrNotFound if it is in none of them.
	Tx(ctx context.Context, id chain.TxID) (api.TxLookup, error)

	// Dropped says why a transaction left the mempool without being in a finalized
	// block, if it is one of the last that did.
	Dropped(id chain.TxID) (api.Dropped, bool)

	// Block returns a finalized block. The error wraps ErrNotFound above the
	// finalized height and at 0, and ErrPruned below what is kept.
	Block(ctx context.Context, height chain.Height) (Block, error)

	// Outcome returns what a finalized block's execution made, for the event
	// stream. Its errors are those of Block.
	Outcome(ctx context.Context, height chain.Height) (Outcome, error)

	// Finalized returns the highest finalized height, 0 at genesis, and a
	// channel that is closed once it is higher.
	Finalized() (chain.Height, <-chan struct{})

	// Account returns an account of the latest finalized state or, to prove
	// it, of the latest state whose root a certified header carries. ErrBusy if
	// there is no such header yet.
	Account(ctx context.Context, address chain.Address, prove bool) (api.Account, error)

	// State returns the value of a key of 1 to state.MaxKeyBytes bytes, of the
	// same states as Account.
	State(ctx context.Context, key []byte, prove bool) (api.State, error)

	// Settlements returns what claims of an order did on chain, oldest first;
	// nothing is no error.
	Settlements(ctx context.Context, order crypto.Digest) (api.Settlements, error)

	// NodeReputation returns what settlements say of a node; the error wraps ErrNotFound
	// if it was never registered.
	NodeReputation(ctx context.Context, node crypto.PublicKey) (api.Reputation, error)

	// AccountReputation returns what settlements say of an account's nodes, and of it as
	// a consumer; nothing is no error.
	AccountReputation(ctx context.Context, account chain.Address) (api.Reputation, error)

	// Validators returns the committee of an epoch, 0 being the current one. The
	// error wraps ErrNotFound if the state does not know it, or not any more.
	Validators(ctx context.Context, epoch uint64) (api.Validators, error)

	// Epoch returns how an epoch ended, 0 being the last one that did. The error
	// wraps ErrNotFound if the epoch goes on, or how it ended is not kept.
	Epoch(ctx context.Context, epoch uint64) (api.EpochEnd, error)

	// Contract returns what the chain keeps of a contract; its errors are those of Account,
	// and ErrNotFound.
	Contract(ctx context.Context, address chain.Address, prove bool) (api.Contract, error)

	// ContractState returns what a contract keeps under a key of its own, as State does.
	ContractState(ctx context.Context, address chain.Address, key []byte, prove bool) (api.State, error)

	// ContractCode returns what the chain keeps of code; its errors are those of Contract.
	ContractCode(ctx context.Context, code uint64, prove bool) (api.ContractCode, error)

	// ContractSchema returns what code says of its contracts' messages; ErrNotFound if there
	// is no such code, or it says nothing that can be read.
	ContractSchema(ctx context.Context, code uint64) (api.ContractSchema, error)

	// AskContract has a contract answer a query. A contract that does not answer is a
	// *ContractError; ErrBusy if too many are asked.
	AskContract(ctx context.Context, address chain.Address, query []byte) (api.ContractAnswer, error)

	// Params returns the current parameters.
	Params(ctx context.Context) (api.ChainParams, error)

	// Supply returns the supply and, to verify it, its parts recomputed from the
	// whole state. ErrBusy if another request is recomputing it.
	Supply(ctx context.Context, verify bool) (api.Supply, error)

	// Faucet submits a transfer from the devnet's faucet account.
	Faucet(ctx context.Context, to chain.Address, amount chain.Amount) (chain.TxID, error)
}

// Block is a finalized block with its receipts and the certificate that shows
// it.
type Block struct {
	Decoded     *chain.DecodedBlock
	Receipts    chain.BlockReceipts
	Certificate api.Certificate
}

// Outcome is what a finalized block's execution made.
type Outcome struct {
	Header   chain.Header
	Digest   crypto.Digest
	Receipts chain.BlockReceipts
}

// Proven is what one certified state says of a key: Proof leads from the key
// to Header.StateRoot.
type Proven struct {
	Key         []byte
	Value       []byte // nil if not present
	Present     bool
	Proof       state.Proof
	Header      chain.Header
	Certificate api.Certificate
}

// JSON returns the proof as the API writes it.
func (p Proven) JSON() *api.StateProof {
	return &api.StateProof{
		Key: p.Key, Value: p.Value, Present: p.Present, Proof: p.Proof.Encode(),
		Header: api.HeaderToJSON(p.Header), Certificate: p.Certificate,
	}
}
