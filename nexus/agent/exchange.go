package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

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

// reveal has the key of a sealed output shown once the cluster has attested to its receipt, which
// is made durable first.
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
	if a.shows(receipt.Order) {
		a.broadcast(job.Reveal{Order: receipt.Order, Key: *e.Key})
		return
	}
	a.withheld.want(receipt.Order)
}

// shows reports whether an attested output's key may leave the node: the chain would pay for it, or
// there is nobody to ask.
func (a *Agent) shows(order crypto.Digest) bool { return a.payable == nil || a.spool.mayShow(order) }

// told is what servers are told of a spooled end: of a sealed output they have the key last. A server
// that is told the end again gives the attestation again, and the chain is asked again.
func (a *Agent) told(e *spoolEntry) job.Message {
	if e.attested() && a.shows(e.Done.Receipt.Order) {
		return job.Reveal{Order: e.Done.Receipt.Order, Key: *e.Key}
	}
	return a.ended(e.Done)
}

// payer asks the chain whether a claim would be paid now. Errors: sdk.ErrClaimed, *sdk.UnpayableError; any
// other says that nothing is known.
type payer func(ctx context.Context, claim *chain.Claim) error

// withheld is the orders whose keys may be shown if the chain pays for them. Safe for concurrent use.
type withheld struct {
	more chan struct{} // holds a token when there is another

	mu     sync.Mutex
	orders map[crypto.Digest]bool // of spooled entries
	asked  map[crypto.Digest]bool // about which the chain is being asked
}

func newWithheld() *withheld {
	return &withheld{more: make(chan struct{}, 1), orders: map[crypto.Digest]bool{}, asked: map[crypto.Digest]bool{}}
}

func (w *withheld) want(order crypto.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[order] = true
	w.signal()
}

// signal says that there is another. The caller holds w.mu.
func (w *withheld) signal() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next returns an order about which the chain is not being asked, and forgets it until over.
func (w *withheld) next() (order crypto.Digest, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for order := range w.orders { // in any order
		if !w.asked[order] {
			delete(w.orders, order)
			w.asked[order] = true
			w.signal()
			return order, true
		}
	}
	return order, false
}

func (w *withheld) over(order crypto.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asked, order)
	w.signal()
}

const (
	maxPayableAsks = 4           // claims about which the chain is asked at a time
	payableTimeout = time.Minute // of each
)

// showKeys shows the keys of attested outputs that the chain would pay for: a claim that is refused shows its key
// all the same. The others wait until servers ask again, or their claim window is over.
func (a *Agent) showKeys(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range maxPayableAsks {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-a.withheld.more:
				}
				if order, ok := a.withheld.next(); ok {
					if e, there := a.spool.sealed(order); there && e.attested() {
						a.showIfPaid(ctx, &e)
					}
					a.withheld.over(order)
				}
			}
		})
	}
}

func (a *Agent) showIfPaid(ctx context.Context, e *spoolEntry) {
	owed, order := e.owed(), e.Done.Receipt.Order
	asking, cancel := context.WithTimeout(ctx, payableTimeout)
	defer cancel()
	err := a.payable(asking, &owed.Claim)
	if err == nil || errors.Is(err, sdk.ErrClaimed) { // the owner posts claims too
		a.spool.allow(order)
		a.broadcast(job.Reveal{Order: order, Key: *e.Key})
		return
	}
	if a.spool.withhold(order, err.Error()) && ctx.Err() == nil {
		a.log.Warn("agent: the key of a sealed output is not shown yet", "order", order.Short(), "error", err)
	}
}
