package sdk

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Errors of sealed outputs.
var (
	// ErrSealed says that the output of a job under fair exchange cannot be read yet: nobody
	// was paid for it.
	ErrSealed = errors.New("sdk: the output is sealed until it is paid")
	// ErrGarbled says that a node was paid for an output that is not the one that its receipt
	// names. Receipt, key and sealed blob together prove it.
	ErrGarbled = errors.New("sdk: what the node sealed is not the output that its receipt names")
)

// SealOutput returns content sealed with a key, of the same length, or what was sealed open
// again. It is AES-256 in counter mode from zero: each key seals one output. It hides, and
// proves nothing: a receipt has digests for that.
func SealOutput(content io.Reader, key chain.OutputKey) io.Reader {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("sdk: " + err.Error()) // a key of 32 bytes fits
	}
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: content}
}

// JobOutput returns the packed output of a job that has one, at most limit bytes of it, under
// the terms of GetBlob: reading ends with io.EOF only if it is the output that the paid receipt
// names. Errors: of a job under fair exchange ErrSealed before it is settled, and ErrGarbled.
func (c *Client) JobOutput(ctx context.Context, j *api.Job, limit int64) (io.ReadCloser, error) {
	if !j.Order.Fair {
		return c.GetBlob(ctx, j.Output, limit)
	}
	receipt, key, err := c.OutputKey(ctx, j)
	if err != nil {
		return nil, err
	}
	sealed, err := c.GetBlob(ctx, receipt.Sealed.Output, limit)
	if err != nil {
		return nil, err
	}
	return OpenOutput(sealed, j.Output, key), nil
}

// OpenOutput returns the output that is sealed in a blob, whose id the receipt names. Reading
// ends with io.EOF only if it is that, else with ErrGarbled or the failure.
func OpenOutput(sealed io.ReadCloser, id crypto.Digest, key chain.OutputKey) io.ReadCloser {
	return &openedOutput{Closer: sealed, content: SealOutput(sealed, key), id: id, hash: NewBlobHash()}
}

type openedOutput struct {
	io.Closer
	content io.Reader
	id      crypto.Digest
	hash    *BlobHash
}

// Read implements io.Reader.
func (o *openedOutput) Read(p []byte) (int, error) {
	n, err := o.content.Read(p)
	if _, hashErr := o.hash.Write(p[:n]); hashErr != nil {
		return n, hashErr
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	got, hashErr := o.hash.Sum()
	if hashErr != nil {
		return n, hashErr
	}
	if got != o.id {
		return n, fmt.Errorf("%w: it is %s, the receipt names %s", ErrGarbled, got, o.id)
	}
	return n, io.EOF
}

// OutputKey returns the key of a settled job's sealed output, and the receipt of the node that
// was paid, which commits to it: what the server tells, or else what a finalized state does. A
// key that the receipt does not commit to is no key.
func (c *Client) OutputKey(ctx context.Context, j *api.Job) (chain.UsageReceipt, chain.OutputKey, error) {
	if j.Settlement == nil {
		return chain.UsageReceipt{}, chain.OutputKey{}, fmt.Errorf("%w: job %s is %s", ErrSealed, j.ID.Short(), j.Status)
	}
	for i := range j.Runs {
		run := &j.Runs[i]
		if run.Receipt == nil || !slices.Contains(j.Settlement.Providers, run.Node) {
			continue
		}
		receipt, err := sealedReceipt(j, run)
		if err != nil {
			return receipt, chain.OutputKey{}, err
		}
		if run.OutputKey != nil && receipt.CheckKey(run.OutputKey) == nil {
			return receipt, *run.OutputKey, nil
		}
		key, err := c.VerifiedKey(ctx, &receipt)
		return receipt, key, err
	}
	return chain.UsageReceipt{}, chain.OutputKey{}, refusef("job %s shows no receipt of a node that was paid", j.ID.Short())
}

// sealedReceipt returns a run's receipt, which its node must have signed for this output.
func sealedReceipt(j *api.Job, run *api.JobRun) (chain.UsageReceipt, error) {
	r := api.ReceiptFromJSON(*run.Receipt)
	result := job.ResultDigest(&job.Outcome{Exit: r.Exit, ExitCode: r.ExitCode, Output: j.Output, Outputs: r.Outputs})
	switch {
	case r.Sealed == nil:
		return r, refusef("the receipt of node %s seals no output", run.Node.Short())
	case r.Order != j.ID || r.Node != run.Node || r.Result != result:
		return r, refusef("the receipt of node %s is not of output %s of job %s", run.Node.Short(), j.Output.Short(), j.ID.Short())
	case run.ReceiptSig == nil || !r.Node.Verify(crypto.DomainUsage, r.Payload(), *run.ReceiptSig):
		return r, refusef("the receipt is not signed by node %s", run.Node.Short())
	}
	return r, nil
}

// VerifiedKey returns the key of a sealed output that a finalized state has: that of a claim
// that was paid for the receipt. The state has it until the order's claim window is over.
// Errors: ErrSealed if there is no such claim.
func (c *Client) VerifiedKey(ctx context.Context, receipt *chain.UsageReceipt) (chain.OutputKey, error) {
	var none chain.OutputKey
	value, err := c.VerifiedState(ctx, settlement.OrderKey(receipt.Order))
	if err != nil {
		return none, err
	}
	raw, ok := value.Get()
	if !ok {
		return none, fmt.Errorf("%w: the state knows no claim of order %s at height %d", ErrSealed, receipt.Order.Short(), value.Height())
	}
	order, err := settlement.DecodeOrder(raw)
	if err != nil {
		return none, err
	}
	claim, inside := order.ClaimOf(receipt.Node, receipt.Sequence)
	if !inside {
		id := chain.ClaimKey{Order: receipt.Order, Node: receipt.Node, Sequence: receipt.Sequence}
		if claim, err = provenRecord(ctx, c, settlement.ClaimKey(id), settlement.DecodeClaim); err != nil {
			return none, err
		}
	}
	if claim.OutputKey == nil || receipt.CheckKey(claim.OutputKey) != nil {
		return none, refusef("the claim of node %s has no key that its receipt commits to", receipt.Node.Short())
	}
	return *claim.OutputKey, nil
}
