package harness

import (
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/tokens"
)

// Tx is what one account wants done: all of it or nothing.
type Tx struct {
	From     Account
	Messages []chain.Msg
	Gas      uint64 // that it may use; 0: its part of what the block has
	OwnFee   bool   // From pays for gas and room, not the harness
}

// Block makes a block of transactions, which is BlockTime later than the last, and returns what each came to: look at
// Refused. The error is of all of them: then there is no block.
func (h *Harness) Block(txs ...Tx) ([]*Result, error) { return h.block(h.config.BlockTime, txs) }

// Blocks makes so many blocks without transactions.
func (h *Harness) Blocks(n int) error {
	for range n {
		if _, err := h.Block(); err != nil {
			return err
		}
	}
	return nil
}

// Pass makes one block that is so much later than the last.
func (h *Harness) Pass(d time.Duration) error {
	_, err := h.block(d, nil)
	return err
}

// Do has an account send messages, in a transaction and a block of its own. The error is a
// *Refused if they did not take effect.
func (h *Harness) Do(from Account, messages ...chain.Msg) (*Result, error) {
	results, err := h.Block(Tx{From: from, Messages: messages})
	if err != nil {
		return nil, err
	}
	if refused := results[0].Refused; refused != nil {
		return nil, refused
	}
	return results[0], nil
}

// Fund gives an account so much of the treasury's money.
func (h *Harness) Fund(to Address, nano uint64) error {
	_, err := h.Do(h.treasury, chain.Transfer{To: to, Amount: chain.Nano(nano)})
	return err
}

func (h *Harness) block(after time.Duration, txs []Tx) ([]*Result, error) {
	header, err := h.header(after)
	if err != nil {
		return nil, err
	}
	verified, err := h.signed(header, txs)
	if err != nil {
		return nil, err
	}
	h.machine.begin()
	out, err := h.executor.Apply(h.state, header, staking.Extras{}, verified)
	calls := h.machine.end()
	if errors.Is(err, execution.ErrInvalidBlock) {
		return nil, fmt.Errorf("%w: %w", ErrNotIncluded, err)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range out.Changes {
		if c.Deleted {
			h.state.Delete(c.Key)
		} else {
			h.state.Set(c.Key, c.Value)
		}
	}
	results := make([]*Result, len(txs))
	for i := range out.Receipts.Txs {
		results[i] = resultOf(header, &out.Receipts.Txs[i], calls, i)
	}
	return results, nil
}

// header is that of the next block.
func (h *Harness) header(after time.Duration) (*chain.Header, error) {
	head := h.head()
	if after < time.Millisecond || after > maxPass || after%time.Millisecond != 0 {
		return nil, fmt.Errorf("%w: %s is not within %s to %s", ErrTime, after, time.Millisecond, maxPass)
	}
	at := head.TimeMs + chain.TimeMs(after.Milliseconds())
	if at > lastTime {
		return nil, fmt.Errorf("%w: %s is behind all that there is", ErrTime, time.UnixMilli(int64(at)).UTC())
	}
	header := &chain.Header{
		Version: chain.BlockVersion, ChainID: chain.ChainID(h.config.ChainID), Height: head.Height + 1,
		Epoch: uint64(staking.EpochOf(h.state).Number), TimeMs: at, Proposer: h.proposer.PublicKey(),
	}
	if err := h.executor.Prepare(h.state, header); err != nil {
		return nil, err
	}
	return header, nil
}

// signed makes transactions as they come out of a mempool: signed, encoded, decoded and verified.
func (h *Harness) signed(header *chain.Header, txs []Tx) ([]*chain.VerifiedTx, error) {
	params, err := execution.ParamsOf(h.state)
	if err != nil {
		return nil, err
	}
	price, nonces := h.head().BaseFee, map[Address]uint64{}
	decoded := make([]chain.DecodedTx, len(txs))
	for i := range txs {
		tx, from := &txs[i], txs[i].From.Address()
		nonce, ok := nonces[from]
		if !ok {
			nonce = tokens.AccountOf(h.state, from).Nonce
		}
		nonces[from] = nonce + 1
		gas := tx.Gas
		if gas == 0 {
			gas = params.BlockGas.Units() / uint64(len(txs))
		}
		body := chain.TxBody{
			ChainID: header.ChainID, Sender: from, Nonce: nonce, Expiry: header.Height, GasLimit: chain.GasUnits(gas), MaxFee: price,
			Messages: tx.Messages,
		}
		signers := []chain.Signer{tx.From}
		if payer := h.treasury.Address(); !tx.OwnFee && from != payer {
			body.FeePayer = &payer
			signers = append(signers, h.treasury)
		}
		if decoded[i], err = decodedTx(body, signers); err != nil {
			return nil, fmt.Errorf("%w: transaction %d: %w", ErrNotIncluded, i, err)
		}
	}
	verified := chain.VerifyTxs(decoded, 1)
	for _, tx := range verified {
		if tx == nil {
			panic("harness: a signature of its own does not verify")
		}
	}
	return verified, nil
}

func decodedTx(body chain.TxBody, signers []chain.Signer) (chain.DecodedTx, error) {
	tx, err := chain.SignTx(body, signers...)
	if err != nil {
		return chain.DecodedTx{}, err
	}
	return chain.DecodeTx(tx.Encode())
}
