package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Batches is what a private relay asks of the cluster and the chain beside Chain.
type Batches interface {
	// AttestBatch returns the cluster's attestation. A *api.Problem below 500 says that it
	// has a reason not to.
	AttestBatch(ctx context.Context, cluster crypto.PublicKey, summary chain.BatchSummary) (crypto.Signature, error)
	// SettleBatch posts a batch and waits until its transaction is final. The error is a
	// *sdk.RejectedError if it was refused.
	SettleBatch(ctx context.Context, batch chain.UsageBatch) (*chain.Receipt, error)
}

// Prove proves a batch, bound to its place.
type Prove func(kernel zk.Kernel, work *zk.UsageWork, bind zk.Field) (zk.Proof, error)

// PrivateDeps are what a private relay needs beside Deps.
type PrivateDeps struct {
	Batches Batches
	Meter   *zk.MeterSecret // the metering key of its nodes
	Prove   Prove
}

// private carries claims as batches: a Chain that posts no receipt. The receipt's usage is
// signed as records with the metering key, and the chain gets their totals.
type private struct {
	Chain
	PrivateDeps
	genesis *chain.Genesis
	nodes   map[crypto.PublicKey]bool
	vault   *vault
	log     *slog.Logger
}

var _ Chain = (*private)(nil)

func newPrivate(config *Config, deps *Deps) (*private, error) {
	nodes, err := config.nodes()
	if err != nil {
		return nil, err
	}
	vault, err := openVault(config.path("", UsageDir), config.Keep)
	if err != nil {
		return nil, err
	}
	return &private{Chain: deps.Chain, PrivateDeps: *deps.Private, genesis: deps.Genesis, nodes: nodes, vault: vault, log: deps.Log}, nil
}

// takes reports whether a claim is of metered work of the relay's own nodes: of other work
// it has no key to sign, and leaves it to others.
func (p *private) takes(c *chain.Claim) bool {
	_, metered := c.Order.Policy.Policy.(chain.PolicyNone)
	return metered && p.nodes[c.Receipt.Node]
}

// Settlements implements Chain: a batch stands for the claim of its node's one receipt. A
// batch that the chain has is marked so on the disk, if a crash kept that from being done.
func (p *private) Settlements(ctx context.Context, order crypto.Digest) (api.Settlements, error) {
	said, err := p.Chain.Settlements(ctx, order)
	if err != nil {
		return said, err
	}
	for i := range said.Batches {
		b := &said.Batches[i]
		said.Settled = append(said.Settled, api.SettledClaim{Height: b.Height, TimeMs: b.TimeMs, TxID: b.TxID, Claim: claimOf(&b.Batch)})
		if err := p.mark(&b.Batch, b.TxID); err != nil {
			return said, err
		}
	}
	return said, nil
}

// claimOf is the event of a claim that a batch stands for.
func claimOf(b *chain.BatchSettled) chain.ClaimSettled {
	return chain.ClaimSettled{Order: b.Order, Node: b.Node, Sequence: 1}
}

// mark notes that a batch is settled, if it is the one that is kept.
func (p *private) mark(b *chain.BatchSettled, tx chain.TxID) error {
	k, ok, err := p.vault.get(b.Order, b.Node)
	if err != nil || !ok || k.Tx == tx || k.Batch.Summary.Root != b.Root {
		return err
	}
	k.Tx = tx
	return p.vault.put(&k)
}

// Settle implements Chain for one claim.
func (p *private) Settle(ctx context.Context, claims []chain.Claim) (*chain.Receipt, error) {
	if len(claims) != 1 {
		panic(fmt.Sprintf("relay: %d claims in a transaction of one batch", len(claims)))
	}
	kept, err := p.batchOf(ctx, &claims[0])
	if err != nil {
		return nil, err
	}
	receipt, err := p.Batches.SettleBatch(ctx, kept.Batch)
	if err != nil {
		return nil, err
	}
	out := *receipt
	for _, event := range receipt.Events {
		if settled, ok := event.(chain.BatchSettled); ok && settled.Order == kept.File.Order {
			out.Events = append(out.Events, claimOf(&settled))
			if err := p.mark(&settled, receipt.TxID); err != nil {
				p.log.Error("relay: a settled batch is not marked so", "order", settled.Order.Short(), "error", err) // it will be, when it is asked for again
			}
		}
	}
	return &out, nil
}

// batchOf returns the batch of a claim, from the disk if it was made before: another would
// have the same records, and cost another proof.
func (p *private) batchOf(ctx context.Context, c *chain.Claim) (*Kept, error) {
	known, ok, err := p.vault.get(c.Receipt.Order, c.Receipt.Node)
	if err != nil {
		return nil, err
	}
	if ok && known.File.Key == p.Meter.Public() {
		return &known, nil
	}
	file, err := p.records(c)
	if err != nil {
		return nil, refusal("%v", err)
	}
	kernel, err := p.kernel(len(file.Records))
	if err != nil {
		return nil, refusal("%v", err)
	}
	_, size, _ := kernel.Of()
	work, err := zk.NewUsageWork(size, file)
	if err != nil {
		return nil, refusal("%v", err)
	}
	batch := chain.UsageBatch{
		Order: c.Order, OrderSig: c.OrderSig, Acceptance: c.Acceptance, AcceptanceSig: c.AcceptanceSig, Bid: c.Bid, BidSig: c.BidSig,
		Summary: settlement.SummaryOf(work, p.genesis.ChainID, c.Receipt.Node, settlement.Span{Started: c.Receipt.Started, Ended: c.Receipt.Ended}),
		Kernel:  string(kernel),
	}
	batch.Attestation, err = p.Batches.AttestBatch(ctx, c.Order.Cluster, batch.Summary)
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Status < http.StatusInternalServerError {
		return nil, refusal("the cluster does not attest to it: %v", problem)
	}
	if err != nil {
		return nil, err
	}
	if batch.Proof, err = p.Prove(kernel, work, settlement.BatchBind(&batch.Summary)); err != nil {
		return nil, refusal("%v", err)
	}
	kept := &Kept{File: file, Batch: batch}
	return kept, p.vault.put(kept)
}

// refusal is what post takes for the end of one claim's try, so that others go on.
func refusal(format string, args ...any) error {
	return &sdk.RejectedError{Included: true, Reason: fmt.Sprintf(format, args...)}
}

// records signs what a receipt says was used, a record for each resource.
func (p *private) records(c *chain.Claim) (zk.UsageFile, error) {
	file := zk.UsageFile{Order: c.Receipt.Order, Key: p.Meter.Public()}
	context, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		return file, err
	}
	for i, u := range c.Receipt.Usage {
		r := zk.UsageRecord{
			Sequence: uint64(i) + 1, Resource: uint8(u.Resource - chain.CPU), Amount: u.Amount, DurationMs: u.DurationMs, EndedMs: uint64(c.Receipt.Ended),
		}
		if err := r.Check(); err != nil {
			return file, err
		}
		file.Records = append(file.Records, zk.SignedUsage{Record: r, Signature: p.Meter.Sign(context, r)})
	}
	return file, nil
}

// kernel returns the smallest kernel of the chain that takes so many records.
func (p *private) kernel(records int) (zk.Kernel, error) {
	best, least := zk.Kernel(""), 0
	for _, k := range p.genesis.Kernels {
		family, size, ok := zk.Kernel(k.Name).Of()
		if ok && family == zk.UsageBatch && size >= records && (least == 0 || size < least) {
			best, least = zk.Kernel(k.Name), size
		}
	}
	if least == 0 {
		return "", fmt.Errorf("the chain has no kernel that sums up %d records", records)
	}
	return best, nil
}

// provers makes proofs with keys from a folder, which are loaded when one is needed. Those
// of one kernel are held at a time.
type provers struct {
	dir     string
	genesis *chain.Genesis

	mu   sync.Mutex
	held *groth16.Prover
}

// prove implements Prove. It takes every processor.
func (p *provers) prove(kernel zk.Kernel, work *zk.UsageWork, bind zk.Field) (zk.Proof, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil || p.held.Kernel() != kernel {
		p.held = nil
		keys, err := groth16.Load(p.dir, kernel)
		if err != nil {
			return nil, fmt.Errorf("relay: keys of %s: %w", kernel, err)
		}
		for _, k := range p.genesis.Kernels {
			if k.Name == string(kernel) && k.VerifyingKey != keys.Digest() {
				return nil, fmt.Errorf("relay: keys of %s are %s, genesis pins %s", kernel, keys.Digest().Short(), k.VerifyingKey.Short())
			}
		}
		p.held = groth16.NewProver(keys)
	}
	result, err := p.held.Prove(work, bind)
	return result.Proof, err
}

// ReadMeter reads a metering key's file: a seed of 64 hexadecimal digits.
func ReadMeter(path string) (*zk.MeterSecret, error) {
	seed, err := readSeed(path)
	if err != nil {
		return nil, fmt.Errorf("relay: reading the metering key: %w", err)
	}
	return zk.NewMeterSecret(seed), nil
}
