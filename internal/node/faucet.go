package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
)

const (
	faucetGas    = 100_000
	faucetExpiry = 30_000 / chain.FastestPaceMs // heights: half a minute at the fastest pace
)

// faucet pays out of one account of a devnet.
type faucet struct {
	key crypto.PrivateKey
	mu  sync.Mutex // one payment at a time takes a nonce
}

// AccountKey returns the faucet's public key.
func (f *faucet) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(f.key.Public()) }

// Sign signs as the faucet.
func (f *faucet) Sign(domain *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return f.key.Sign(domain, payload), nil
}

// Faucet submits a transfer from the devnet's faucet account.
func (n *Node) Faucet(_ context.Context, to chain.Address, amount chain.Amount) (chain.TxID, error) {
	if n.faucet == nil {
		return chain.TxID{}, errors.New("this node has no faucet")
	}
	n.faucet.mu.Lock()
	defer n.faucet.mu.Unlock()
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return chain.TxID{}, err
	}
	defer n.closeSnapshot(snapshot)
	head, err := execution.HeadOf(snapshot)
	if err != nil {
		return chain.TxID{}, err
	}
	sender := chain.AddressOf(n.faucet.AccountKey())
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: n.genesis.ChainID, Sender: sender, Nonce: n.pool.pendingNonce(sender, execution.NextNonce(snapshot, sender)),
		Expiry: head.Height + faucetExpiry, GasLimit: chain.GasUnits(faucetGas), MaxFee: chain.PricePerGas(10*head.BaseFee.Nano() + 1),
		Messages: chain.Msgs{chain.Transfer{To: to, Amount: amount}}, Memo: "faucet",
	}, n.faucet)
	if err != nil {
		return chain.TxID{}, err
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		return chain.TxID{}, fmt.Errorf("the faucet's own transaction: %w", err)
	}
	if reason := n.pool.Submit([]chain.DecodedTx{decoded})[0]; reason != "" {
		return chain.TxID{}, fmt.Errorf("the faucet's transaction was refused: %s: %w", reason, rpc.ErrBusy)
	}
	return decoded.ID(), nil
}
