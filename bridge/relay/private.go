package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

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

// Records returns the usage records of a node's work under an order, signed with the node's
// metering key. The relay has no such key: whoever runs the work signs for it.
type Records func(ctx context.Context, node crypto.PublicKey, order crypto.Digest) (zk.UsageFile, error)

// Prove proves a batch, bound to its place.
type Prove func(kernel zk.Kernel, work *zk.UsageWork, bind zk.Field) (zk.Proof, error)

// PrivateDeps are what a private relay needs beside Deps.
type PrivateDeps struct {
	Batches Batches
	Records Records
	Prove   Prove
}

// private carries claims as batches: a Chain that posts no receipt. The node has signed what the
// receipt says was used as records, and the chain gets their totals.
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
	named, err := config.nodes()
	if err != nil {
		return nil, err
	}
	nodes := map[crypto.PublicKey]bool{}
	for node := range named {
		nodes[node] = true
	}
	vault, err := openVault(config.path("", UsageDir), config.Keep)
	if err != nil {
		return nil, err
	}
	return &private{Chain: deps.Chain, PrivateDeps: *deps.Private, genesis: deps.Genesis, nodes: nodes, vault: vault, log: deps.Log}, nil
}

// takes reports whether a claim is of metered work of the relay's own nodes: of other work
// it has no records, and a batch tells no key: it leaves these to others.
func (p *private) takes(c *chain.Claim) bool {
	_, metered := c.Order.Policy.Policy.(chain.PolicyNone)
	return metered && !c.Order.Fair && p.nodes[c.Receipt.Node]
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

// Post implements Chain for one claim, and for evidence of a broken word: its orders and acceptances
// are what a batch shows of its own, and anybody can read them in the outbox.
func (p *private) Post(ctx context.Context, messages ...chain.Msg) (*chain.Receipt, error) {
	if _, ok := messages[0].(chain.ReportAcceptance); ok && len(messages) == 1 {
		return p.Chain.Post(ctx, messages...)
	}
	settle, ok := messages[0].(chain.Settle)
	if !ok || len(messages) != 1 || len(settle.Claims) != 1 {
		panic(fmt.Sprintf("relay: %d messages in a transaction of one batch", len(messages)))
	}
	kept, err := p.batchOf(ctx, &settle.Claims[0])
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
// have the same records, and cost another proof, unless the node's metering key is another now.
func (p *private) batchOf(ctx context.Context, c *chain.Claim) (*Kept, error) {
	known, ok, err := p.vault.get(c.Receipt.Order, c.Receipt.Node)
	if err != nil {
		return nil, err
	}
	file, err := p.Records(ctx, c.Receipt.Node, c.Receipt.Order)
	if ok && (err != nil || known.File.Key == file.Key) {
		return &known, nil
	}
	if err == nil {
		err = recordsOf(&file, c)
	}
	if err != nil {
		return nil, refusal("usage records: %v", err)
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

// recordsOf demands that records are of a claim's order, and of what its receipt says was used: the
// cluster attests to nothing else. That they are signed is checked with their sum.
func recordsOf(file *zk.UsageFile, c *chain.Claim) error {
	if file.Order != c.Receipt.Order || file.After != 0 {
		return fmt.Errorf("they are of order %s after sequence %d", file.Order.Short(), file.After)
	}
	same := func(r zk.SignedUsage, u chain.Usage) bool {
		return r.Record.Resource == uint8(u.Resource-chain.CPU) && r.Record.Amount == u.Amount && r.Record.DurationMs == u.DurationMs
	}
	if !slices.EqualFunc(file.Records, c.Receipt.Usage, same) {
		return errors.New("they are not what the receipt says was used")
	}
	return nil
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

// agentTimeout bounds a question to an agent, which is on this machine or near.
const agentTimeout = 10 * time.Second

// agents asks nodes for their usage records, each at the address that its owner configured.
type agents struct {
	nodes  map[crypto.PublicKey]string
	client *http.Client
}

// records implements Records.
func (a *agents) records(ctx context.Context, node crypto.PublicKey, order crypto.Digest) (file zk.UsageFile, err error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(a.nodes[node], "/")+"/v1/usage/"+order.String(), http.NoBody)
	if err != nil {
		return file, err
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return file, fmt.Errorf("asking the agent of node %s: %w", node.Short(), err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, MaxKeptBytes+1))
	switch {
	case err != nil:
		return file, fmt.Errorf("asking the agent of node %s: %w", node.Short(), err)
	case answer.StatusCode != http.StatusOK:
		return file, fmt.Errorf("the agent of node %s answers %s: %.200q", node.Short(), answer.Status, data)
	case len(data) > MaxKeptBytes:
		return file, fmt.Errorf("the agent of node %s answers more than %d bytes", node.Short(), MaxKeptBytes)
	}
	return zk.DecodeUsageFile(data)
}
