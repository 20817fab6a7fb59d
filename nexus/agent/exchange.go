package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// Under fair exchange an output is sealed with a key of its own. The key is in the spool, on
// disk, before anybody gets the receipt that commits to it, and leaves the node when the
// cluster's attestation is there too: from then on the spool has all that the chain asks for,
// and the claim is paid whoever posts it. What seals an output is no proof of anything: the
// digests in the receipt are.

// newOutputKey returns a key that seals one output.
func newOutputKey() *chain.OutputKey {
	var key chain.OutputKey
	if _, err := rand.Read(key[:]); err != nil {
		panic(fmt.Sprintf("agent: no randomness: %v", err))
	}
	return &key
}

// packedOutput is an output on its way into the store.
type packedOutput struct {
	content io.Reader
	size    int64
	to      []string         // recipients of age, who alone can read it; none: it is not encrypted for anybody
	key     *chain.OutputKey // that it is sealed with; nil: it is not

	id     crypto.Digest // of the output
	sealed crypto.Digest // of what is stored, if it is sealed
}

// store puts the output into the store, as the consumer wants it, and sealed in that. What is
// sealed is never stored open: whoever knows its id could ask for it.
func (o *packedOutput) store(ctx context.Context, to *blob.Store) (err error) {
	content, limit := o.content, o.size
	if len(o.to) > 0 {
		encrypted, sealErr := blob.Seal(content, o.to)
		if sealErr != nil {
			return sealErr
		}
		defer func() { err = errors.Join(err, encrypted.Close()) }()
		content, limit = encrypted, blob.SealedBytes(o.size)
	}
	if o.key == nil {
		o.id, o.size, err = to.Put(ctx, content, limit)
		return err
	}
	hash := sdk.NewBlobHash()
	if o.sealed, o.size, err = to.Put(ctx, sdk.SealOutput(io.TeeReader(content, hash), *o.key), limit); err != nil {
		return err
	}
	o.id, err = hash.Sum()
	return err
}

// reveal shows the key of a sealed output once the cluster has attested to its receipt, which is
// made durable first.
func (a *Agent) reveal(e *spoolEntry, attestation crypto.Signature) {
	receipt := &e.Done.Receipt
	if !e.attested() {
		if !e.Order.Cluster.Verify(crypto.DomainAttestation, chain.AttestationPayload(a.genesis.ChainID, receipt.Digest()), attestation) {
			a.log.Warn("agent: a server has a sealed output, and no attestation that verifies: its key is not shown", "order", receipt.Order.Short())
			return
		}
		if err := a.spool.attest(receipt.Order, attestation); err != nil {
			a.log.Error("agent: the key of a sealed output is not shown", "error", err)
			return
		}
	}
	a.broadcast(job.Reveal{Order: receipt.Order, Key: *e.Key})
}

// told is what servers are told of a spooled end: of a sealed output they have the key last.
func (a *Agent) told(e *spoolEntry) job.Message {
	if e.attested() {
		return job.Reveal{Order: e.Done.Receipt.Order, Key: *e.Key}
	}
	return a.ended(e.Done)
}
