package devnet

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

const (
	marketNodes  = 64        // provider nodes, and their owners; as many consumers
	claimGas     = 120_000   // of each claim
	claimFunding = 20        // benchFunding a claim: fees
	claimCost    = 3_600_000 // nHYPER: an hour of a core at a nHYPER a millicore·second
	claimBatch   = 16        // transactions with claims of one submission
	msPerHour    = 3_600_000
)

// market is whom the claims of a bench are of: one cluster, some nodes, some consumers,
// among the senders.
type market struct {
	cluster crypto.PrivateKey
	nodes   []crypto.PrivateKey
	now     chain.TimeMs
}

// batch is how many transactions are submitted together at most.
func (o *BenchOptions) batch() int {
	if o.Claims > 0 {
		return claimBatch
	}
	return chain.MaxBatchTxs
}

// marketFunding is what each sender needs, in nHYPER, to have a node or the cluster and an
// escrow for all of its claims.
func marketFunding(o *BenchOptions) uint64 {
	if o.Claims == 0 {
		return 0
	}
	bonds := Params(DefaultEpoch)
	return bonds.ProviderBond.Nano() + bonds.ClusterBond.Nano() + escrowOf(o).Nano() + chain.NanoPerHyper
}

// escrowOf is what each consumer deposits: for its part of the claims.
func escrowOf(o *BenchOptions) chain.Amount {
	return chain.Nano(uint64(o.transactions()*o.Claims/marketNodes+o.Claims+1) * claimCost)
}

// openMarket registers the cluster and the nodes, and has the consumers deposit.
func (b *bench) openMarket(ctx context.Context) error {
	if len(b.senders) < marketNodes {
		return fmt.Errorf("there are %d senders, want %d at least", len(b.senders), marketNodes)
	}
	b.market = market{cluster: crypto.GenerateKey(), now: b.status.BlockTimeMs}
	for range marketNodes {
		b.market.nodes = append(b.market.nodes, crypto.GenerateKey())
	}
	possession := func(key crypto.PrivateKey, owner wallet.Account) crypto.Signature {
		return key.Sign(crypto.DomainPossession, chain.PossessionPayload(b.status.ChainID, owner.Address()))
	}
	params, at := Params(DefaultEpoch), b.market.cluster.Public()
	errs := make(chan error, marketNodes)
	open := func(i int, owner wallet.Account) error {
		builder := b.clients[i%len(b.clients)].NewBuilder(owner, sdk.BuilderOptions{})
		node := b.market.nodes[i]
		_, err := builder.SendAndWait(ctx,
			chain.RegisterProvider{Node: node.Public(), Possession: possession(node, owner), Bond: params.ProviderBond, Region: agentRegion, Millicores: 1_000, MemoryMiB: 1_024},
			chain.Deposit{Cluster: at, Amount: escrowOf(&b.options)})
		return err
	}
	operator := b.senders[0]
	if _, err := b.clients[0].NewBuilder(operator, sdk.BuilderOptions{}).SendAndWait(ctx, chain.RegisterCluster{
		Cluster: at, Possession: possession(b.market.cluster, operator), Bond: params.ClusterBond, FeeBps: clusterFeeBps,
	}); err != nil {
		return err
	}
	b.used[0]++
	for i := range marketNodes {
		b.used[i]++
		go func() { errs <- open(i, b.senders[i]) }()
	}
	for range marketNodes {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// settlement returns the claims of transaction i, each of an order of its own.
func (b *bench) settlement(i int) chain.Settle {
	claims := make(chain.Claims, b.options.Claims)
	for k := range claims {
		claims[k] = b.claim(i*b.options.Claims + k)
	}
	return chain.Settle{Claims: claims}
}

// claim is the n-th: an hour of a core.
func (b *bench) claim(n int) chain.Claim {
	consumer, node, cluster := b.senders[n%marketNodes], b.market.nodes[(n/marketNodes+n)%marketNodes], b.market.cluster
	id, now := b.status.ChainID, b.market.now
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	order := chain.Order{
		ChainID: id, Consumer: consumer.AccountKey(), Nonce: uint64(n), Cluster: cluster.Public(), Spec: crypto.DomainJobSpec.Hash([]byte("bench")),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: prices, MaxCost: chain.Nano(claimCost), Deadline: now + msPerHour/4,
	}
	c := chain.Claim{Order: order}
	of := order.ID()
	c.Acceptance = chain.Acceptance{ChainID: id, Order: of, Cluster: order.Cluster, Sequence: uint64(n + 1), Outstanding: order.MaxCost}
	c.Bid = chain.Bid{ChainID: id, Order: of, Node: node.Public(), Prices: prices, Expiry: order.Deadline}
	c.Receipt = chain.UsageReceipt{
		ChainID: id, Order: of, Node: node.Public(), Sequence: 1, Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: msPerHour}}, Fuel: 1,
		Result: crypto.DomainResult.Hash([]byte("bench")), Started: now - msPerHour, Ended: now, Exit: chain.ExitOK,
	}
	c.OrderSig = consumer.PrivateKey().Sign(crypto.DomainOrder, order.Payload())
	c.AcceptanceSig = cluster.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = cluster.Sign(crypto.DomainAttestation, chain.AttestationPayload(id, c.Receipt.Digest()))
	return c
}

// settled counts the claims of a receipt that were paid in full.
func (b *bench) settled(receipt *chain.Receipt) int {
	paid := 0
	for _, e := range receipt.Events {
		if s, ok := e.(chain.ClaimSettled); ok && s.Cost == chain.Nano(claimCost) {
			paid++
		}
	}
	b.paid += paid
	return paid
}
