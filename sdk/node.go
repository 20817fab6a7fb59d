package sdk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Status returns what a node says of itself and its chain.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return ask[api.Status](ctx, c, get(c.nodes, "/v1/status", nil))
}

// SubmitTxs submits 1 to chain.MaxBatchTxs transactions and returns one verdict
// each, in order. Submitting one again is harmless: its id is its bytes'.
func (c *Client) SubmitTxs(ctx context.Context, txs ...chain.Tx) ([]api.Verdict, error) {
	raws := make([][]byte, len(txs))
	for i := range txs {
		raws[i] = txs[i].Encode()
	}
	return c.SubmitRaw(ctx, raws)
}

// SubmitRaw is SubmitTxs for the canonical bytes of transactions.
func (c *Client) SubmitRaw(ctx context.Context, raws [][]byte) ([]api.Verdict, error) {
	if len(raws) == 0 || len(raws) > chain.MaxBatchTxs {
		return nil, fmt.Errorf("sdk: %d transactions, want 1 to %d", len(raws), chain.MaxBatchTxs)
	}
	r := call{to: c.nodes, method: http.MethodPost, path: "/v1/txs", body: api.EncodeSubmission(raws), kind: api.ContentCBOR, repeatable: true,
		header: http.Header{"Accept": {api.ContentCBOR}}}
	out, err := ask[[]api.Verdict](ctx, c, r)
	if err != nil {
		return nil, err
	}
	if len(out) != len(raws) {
		return nil, fmt.Errorf("sdk: %d verdicts for %d transactions", len(out), len(raws))
	}
	return out, nil
}

// Tx returns what a node knows of a transaction.
func (c *Client) Tx(ctx context.Context, id chain.TxID) (api.TxLookup, error) {
	return ask[api.TxLookup](ctx, c, get(c.nodes, "/v1/txs/"+id.String(), nil))
}

// Block returns a finalized block; detail is api.BlockFull, api.BlockHeader or
// api.BlockEncoded.
func (c *Client) Block(ctx context.Context, height chain.Height, detail string) (api.Block, error) {
	r := get(c.nodes, "/v1/blocks/"+strconv.FormatUint(uint64(height), 10), url.Values{"detail": {detail}})
	r.limit = maxBlock
	return ask[api.Block](ctx, c, r)
}

// Account returns an account as a node says it is.
func (c *Client) Account(ctx context.Context, address chain.Address) (api.Account, error) {
	return ask[api.Account](ctx, c, get(c.nodes, "/v1/accounts/"+address.String(), nil))
}

// State returns the value of a key as a node says it is.
func (c *Client) State(ctx context.Context, key []byte) (api.State, error) {
	return ask[api.State](ctx, c, get(c.nodes, "/v1/state/"+api.Hex(key).String(), nil))
}

// Settlements returns what claims of an order did on chain, as a node says.
func (c *Client) Settlements(ctx context.Context, order crypto.Digest) (api.Settlements, error) {
	return ask[api.Settlements](ctx, c, get(c.nodes, "/v1/settlements/"+order.String(), nil))
}

// Validators returns the committee, as a node says.
func (c *Client) Validators(ctx context.Context) (api.Validators, error) {
	return ask[api.Validators](ctx, c, get(c.nodes, "/v1/validators", nil))
}

// Supply returns the supply as a node says it is; with verify, the node has
// recomputed the parts from its whole state.
func (c *Client) Supply(ctx context.Context, verify bool) (api.Supply, error) {
	return ask[api.Supply](ctx, c, get(c.nodes, "/v1/supply", url.Values{"verify": {strconv.FormatBool(verify)}}))
}

// Params returns the rules' numbers, as a node says.
func (c *Client) Params(ctx context.Context) (api.ChainParams, error) {
	return ask[api.ChainParams](ctx, c, get(c.nodes, "/v1/params", nil))
}

// Faucet asks a devnet's faucet for HYPER and returns the transaction that
// pays. It is not repeated once it may have reached a node.
func (c *Client) Faucet(ctx context.Context, to chain.Address, amount chain.Amount) (chain.TxID, error) {
	r, err := post(c.nodes, "/v1/faucet", api.FaucetRequest{Address: to, Amount: amount})
	if err != nil {
		return chain.TxID{}, err
	}
	out, err := ask[api.FaucetResponse](ctx, c, r)
	return out.TxID, err
}

// RejectedError says that a transaction was not accepted, or that it is final
// and its messages took no effect.
type RejectedError struct {
	TxID     chain.TxID
	Included bool // it is final and paid its fee
	Reason   string
}

// Error says what became of the transaction and why.
func (e *RejectedError) Error() string {
	if e.Included {
		return fmt.Sprintf("sdk: transaction %s was rejected in its block: %s", e.TxID.Short(), e.Reason)
	}
	return fmt.Sprintf("sdk: transaction %s was not accepted: %s", e.TxID.Short(), e.Reason)
}

// DroppedError says that the node that was asked had a transaction in its mempool and
// has it no longer, and that it is not in a finalized block. If Final, it will never be
// in one; otherwise it may, until its expiry, if another node has it: send it again as
// it is, or another with its nonce.
type DroppedError struct {
	TxID chain.TxID
	api.Dropped
}

// Error says what became of the transaction and why.
func (e *DroppedError) Error() string {
	text := fmt.Sprintf("sdk: transaction %s was dropped from the mempool after block %d: %s", e.TxID.Short(), e.Height, e.Reason)
	if !e.By.IsZero() {
		text += ", by " + e.By.Short()
	}
	if !e.Final() {
		text += "; until its expiry another node may still include it"
	}
	return text
}

// Is reports that what was dropped for being expired is ErrExpired.
func (e *DroppedError) Is(target error) bool {
	return target == ErrExpired && e.Reason == api.DropExpired
}

// ErrExpired says that a transaction can no longer be included.
var ErrExpired = errors.New("sdk: transaction expired before it was included")

// NoExpiry is for WaitFinal of a transaction whose expiry the caller does not
// know.
const NoExpiry chain.Height = math.MaxUint64

// lookAgain bounds how long WaitFinal believes a silent stream.
const lookAgain = 5 * time.Second

// WaitFinal waits until a transaction is in a finalized block and returns it
// with its receipt. It listens to the event stream, and looks the transaction up
// again when the stream is silent or broken. Errors: *DroppedError as soon as the
// node drops it; ErrExpired once the chain is beyond expiry without it;
// *RejectedError if its messages took no effect, along with the lookup; ctx's.
func (c *Client) WaitFinal(ctx context.Context, id chain.TxID, expiry chain.Height) (api.TxLookup, error) {
	return c.waitFinal(ctx, id, expiry, nil)
}

// WaitFinalOf is WaitFinal of a transaction that the caller has: a node that does not
// know it, because it is another or was restarted, is given it again. The error is also
// a *RejectedError if that one does not accept it, which leaves open what others do.
func (c *Client) WaitFinalOf(ctx context.Context, tx *chain.Tx) (api.TxLookup, error) {
	raw := tx.Encode()
	return c.waitFinal(ctx, crypto.DomainTxID.Hash(raw), tx.Body.Expiry, raw)
}

func (c *Client) waitFinal(ctx context.Context, id chain.TxID, expiry chain.Height, raw []byte) (api.TxLookup, error) {
	refusal := ""          // the node's that did not know the transaction
	var notSubmitted error // to that node
	for {
		// The height is read before the lookup, so that an inclusion between the
		// two is after the stream's cursor.
		status, err := c.Status(ctx)
		if err != nil {
			return api.TxLookup{}, err
		}
		found, err := c.Tx(ctx, id)
		if err == nil { // from elsewhere: what the node said before is over
			refusal, notSubmitted = "", nil
		}
		switch {
		case err == nil && found.Status == api.TxIncluded:
			return outcome(found)
		case err == nil && found.Status == api.TxDropped && found.Dropped != nil:
			return found, &DroppedError{TxID: id, Dropped: *found.Dropped}
		case err != nil && !IsNotFound(err):
			return api.TxLookup{}, err
		case status.Height >= expiry:
			return api.TxLookup{}, fmt.Errorf("%w: %s at height %d, expiry %d", ErrExpired, id.Short(), status.Height, expiry)
		case err != nil && notSubmitted != nil:
			return api.TxLookup{}, notSubmitted
		case err != nil && refusal != "": // and it has not become final meanwhile
			return api.TxLookup{}, fmt.Errorf("sdk: the node that was asked does not know the transaction; until its expiry another may include it: %w",
				&RejectedError{TxID: id, Reason: refusal})
		case err != nil && raw != nil:
			verdicts, err := c.SubmitRaw(ctx, [][]byte{raw})
			if notSubmitted = err; err != nil { // a full node's, say: it may be final by now
				continue
			}
			if refusal = verdicts[0].Reason; !verdicts[0].Accepted {
				continue
			}
		}
		if err := c.listen(ctx, id, status.Height); err != nil {
			return api.TxLookup{}, err
		}
	}
}

func outcome(found api.TxLookup) (api.TxLookup, error) {
	receipt, err := found.Outcome()
	if err != nil {
		return found, err
	}
	if !receipt.Accepted() {
		return found, &RejectedError{TxID: found.TxID, Included: true, Reason: receipt.Rejection}
	}
	return found, nil
}

// listen returns once the transaction's event came or nothing was heard for a
// while.
func (c *Client) listen(ctx context.Context, id chain.TxID, after chain.Height) error {
	quiet, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	cursor := api.CursorAfter(after)
	for _, err := range c.Events(quiet, EventFilter{Cursor: &cursor, TxID: id}) {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && quiet.Err() == nil:
			return err
		}
		return nil
	}
	return nil
}

// IsNotFound reports whether a server answered that there is no such thing.
func IsNotFound(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Status == http.StatusNotFound
}
