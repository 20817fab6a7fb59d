package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const testChain chain.ChainID = "relay-test"

func key(name string) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte(crypto.DomainNexusTie.Hash([]byte(name))))
}

type signer struct{ crypto.PrivateKey }

func (s signer) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(s.Public()) }

func (s signer) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return s.PrivateKey.Sign(d, payload), nil
}

var consumer, cluster, node = key("consumer"), key("cluster"), key("node")

// parts are the unsigned claim of an order, for a test to change.
func parts(nonce uint64) chain.Claim {
	now := chain.TimeMs(time.Now().UnixMilli())
	order := chain.Order{
		ChainID: testChain, Consumer: crypto.AccountKeyOf(consumer.Public()), Nonce: nonce, Cluster: cluster.Public(),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, MaxCost: chain.Hyper(1), Deadline: now + 3_600_000,
	}
	return chain.Claim{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: order.ID(), Cluster: cluster.Public(), Sequence: nonce + 1, Outstanding: chain.Hyper(1)},
		Bid:        chain.Bid{ChainID: testChain, Order: order.ID(), Node: node.Public(), Expiry: now + 60_000},
		Receipt:    chain.UsageReceipt{ChainID: testChain, Order: order.ID(), Node: node.Public(), Sequence: 1, Started: now, Ended: now + 10, Exit: chain.ExitOK},
	}
}

// signed signs a claim with the keys that its parts should have.
func signed(c chain.Claim) chain.Claim {
	c.OrderSig = consumer.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = cluster.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = cluster.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, c.Receipt.Digest()))
	return c
}

func claim(nonce uint64) chain.Claim { return signed(parts(nonce)) }

// fakeOutbox is a cluster's outbox in memory.
type fakeOutbox struct {
	mu      sync.Mutex
	items   []api.OutboxItem
	cursor  uint64
	changed chan struct{}
	err     error
	reads   int
}

func newOutbox() *fakeOutbox { return &fakeOutbox{changed: make(chan struct{})} }

// put lists claims as one item.
func (o *fakeOutbox) put(claims ...chain.Claim) {
	raws := make([][]byte, len(claims))
	for i := range claims {
		raws[i] = codec.Marshal(claims[i])
	}
	o.putRaw(claims[0].Order.ID(), raws...)
}

func (o *fakeOutbox) putRaw(order crypto.Digest, raws ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cursor++
	o.items = append(o.items, api.OutboxItem{Cursor: api.Uint64(o.cursor), Order: order, Claims: raws})
	close(o.changed)
	o.changed = make(chan struct{})
}

// remove takes an order's items off the list.
func (o *fakeOutbox) remove(order crypto.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.items[:0]
	for _, item := range o.items {
		if item.Order != order {
			kept = append(kept, item)
		}
	}
	o.items = kept
}

func (o *fakeOutbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// Outbox implements relay.Outbox.
func (o *fakeOutbox) Outbox(ctx context.Context, after uint64, limit int, wait time.Duration) (api.Outbox, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		o.mu.Lock()
		o.reads++
		var out api.Outbox
		for _, item := range o.items {
			if uint64(item.Cursor) > after && len(out.Items) < limit {
				out.Items = append(out.Items, item)
			}
		}
		changed, err := o.changed, o.err
		o.mu.Unlock()
		if err != nil || len(out.Items) > 0 || wait == 0 {
			return out, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return out, nil
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
}

// fakeChain is a chain in memory: it takes each claim once, in the order of its
// sequence, whoever posts it.
type fakeChain struct {
	mu       sync.Mutex
	balance  chain.Amount
	taken    map[crypto.Digest][]chain.ClaimKey              // by order
	txs      [][]chain.ClaimKey                              // of every final transaction
	refuse   func(c *chain.Claim) string                     // a claim's rejection
	lose     bool                                            // no escrow covers a claim, after a broken acceptance
	refuseTx func(claims []chain.Claim) error                // before it is included
	unpaid   error                                           // of every claim that shows a key
	looked   func(ctx context.Context, c *chain.Claim) error // in place of that
	looks    int                                             // at claims that show a key
	lies     []chain.ClaimKey                                // that are said to be settled
	failures []error                                         // of the next Settles: the transaction is final, its end unknown
	down     error
	votes    int // that were refused
	measured []chain.ReportHardware
	homes    []chain.AnnounceHome
	reports  []chain.ReportAcceptance
	begun    int                      // orders that somebody tried to begin
	bondless bool                     // none is taken
	stuck    map[crypto.Digest]string // nor are these: why
	started  []crypto.Digest          // that were taken
	known    bool                     // they are refused: somebody was faster
	block    chan struct{}            // Settle waits for it, once the transaction is final
}

func newChain() *fakeChain {
	return &fakeChain{balance: chain.Hyper(1), taken: map[crypto.Digest][]chain.ClaimKey{}}
}

func (f *fakeChain) Balance(context.Context) (chain.Amount, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.balance, f.down
}

func (f *fakeChain) CheckPayable(ctx context.Context, c *chain.Claim) error {
	f.mu.Lock()
	f.looks++
	err, looked := f.unpaid, f.looked
	f.mu.Unlock()
	switch {
	case c.OutputKey == nil:
		return errors.New("a claim without a key is looked at")
	case looked != nil:
		return looked(ctx, c)
	}
	return err
}

func (f *fakeChain) Settlements(_ context.Context, order crypto.Digest) (api.Settlements, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := api.NewSettlements(order)
	for _, k := range f.lies {
		out.Settled = append(out.Settled, api.SettledClaim{Claim: chain.ClaimSettled{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}})
	}
	for i, k := range f.taken[order] {
		if f.lose {
			out.Lost = append(out.Lost, api.LostClaim{Claim: chain.ClaimLost{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}})
		} else if i%2 == 0 {
			out.Settled = append(out.Settled, api.SettledClaim{Claim: chain.ClaimSettled{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}})
		} else {
			out.Recorded = append(out.Recorded, api.WaitingClaim{Claim: chain.ClaimRecorded{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}})
		}
	}
	// Somebody posts garbage under every claim's name.
	out.Rejected = append(out.Rejected, api.RefusedClaim{Claim: chain.ClaimRejected{Order: order, Node: node.Public(), Sequence: 1, Reason: "garbage"}})
	return out, f.down
}

func (f *fakeChain) Post(ctx context.Context, messages ...chain.Msg) (*chain.Receipt, error) {
	var claims []chain.Claim
	for _, m := range messages {
		if report, ok := m.(chain.ReportAcceptance); ok {
			f.change(func() { f.reports = append(f.reports, report) })
			if f.known {
				return nil, &sdk.RejectedError{Included: len(messages) == 1, Reason: "acceptance was reported"}
			}
		}
		if report, ok := m.(chain.ReportHardware); ok {
			f.change(func() { f.measured = append(f.measured, report) })
		}
		if home, ok := m.(chain.AnnounceHome); ok {
			f.change(func() { f.homes = append(f.homes, home) })
		}
		if settle, ok := m.(chain.Settle); ok {
			claims = append(claims, settle.Claims...)
		}
		if begin, begins := m.(chain.BeginRun); begins {
			if err := f.begin(begin.Order.ID(), len(messages) > 1); err != nil {
				return nil, err
			}
		}
		if _, vote := m.(chain.CommitVote); vote { // every panel is over
			if len(messages) > 1 {
				return nil, &sdk.RejectedError{Reason: "panel takes no more commitments"}
			}
			f.change(func() { f.votes++ })
			return nil, &sdk.RejectedError{Included: true, Reason: "panel takes no more commitments"}
		}
	}
	receipt, block, err := f.include(claims)
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return receipt, err
}

// begin takes what begins an order, or says why not: at no cost if it is not alone.
func (f *fakeChain) begin(order crypto.Digest, together bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	why := f.stuck[order]
	if f.bondless {
		why = "cluster has 0 HYPER free of its bond"
	}
	if why != "" && together {
		return &sdk.RejectedError{Reason: why}
	}
	f.begun++
	if why != "" {
		return &sdk.RejectedError{Included: true, Reason: why}
	}
	f.started = append(f.started, order)
	return nil
}

func (f *fakeChain) include(claims []chain.Claim) (*chain.Receipt, chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, nil, f.down
	}
	if f.refuseTx != nil {
		if err := f.refuseTx(claims); err != nil {
			return nil, nil, err
		}
	}
	receipt := &chain.Receipt{}
	var keys []chain.ClaimKey
	for i := range claims {
		k := claims[i].Key()
		keys = append(keys, k)
		receipt.Events = append(receipt.Events, f.judge(&claims[i], k))
	}
	f.txs = append(f.txs, keys)
	if len(f.failures) > 0 {
		err := f.failures[0]
		f.failures = f.failures[1:]
		return nil, f.block, err
	}
	return receipt, f.block, nil
}

func (f *fakeChain) judge(c *chain.Claim, k chain.ClaimKey) chain.Event {
	reason := ""
	if f.refuse != nil {
		reason = f.refuse(c)
	}
	for _, known := range f.taken[k.Order] {
		if known == k {
			reason = "sequence is 1, the next is 2"
		}
	}
	if reason != "" {
		return chain.ClaimRejected{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence), Reason: reason}
	}
	f.taken[k.Order] = append(f.taken[k.Order], k)
	if f.lose {
		return chain.ClaimLost{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}
	}
	return chain.ClaimSettled{Order: k.Order, Node: k.Node, Sequence: chain.Number(k.Sequence)}
}

// counts returns the claims that were paid and the final transactions.
func (f *fakeChain) counts() (settled, transactions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, keys := range f.taken { // order-free: counted
		settled += len(keys)
	}
	return settled, len(f.txs)
}

func (f *fakeChain) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// verifier accepts one proof.
type verifier struct{}

func (verifier) Verify(s zk.Statement, proof []byte) error {
	if string(proof) != "a good proof" || s.Kernel != "matmul-4" || s.Check() != nil {
		return fmt.Errorf("%w: %q", zk.ErrFalseProof, proof)
	}
	return nil
}

func config() relay.Config {
	c := relay.DefaultConfig()
	c.Nexus, c.RPC = []string{"http://127.0.0.1:1"}, []string{"http://127.0.0.1:2"}
	return c
}

func newRelay(t *testing.T, p chain.Params, o relay.Outbox, f relay.Chain) *relay.Relay {
	t.Helper()
	r, err := relay.New(config(), relay.Deps{
		Genesis:  &chain.Genesis{ChainID: testChain, Params: p},
		Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: o, Chain: f, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// carry runs a relay in the test's bubble until stop.
func carry(t *testing.T, o relay.Outbox, f relay.Chain) (r *relay.Relay, stop func()) {
	t.Helper()
	r = newRelay(t, chain.DefaultParams(), o, f)
	return r, begin(t, r)
}

// begin runs a relay until stop.
func begin(t *testing.T, r *relay.Relay) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Carry(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// pass lets time pass in the test's bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var errBroken = errors.New("the connection broke")

func rejectedTx(included bool) error {
	return &sdk.RejectedError{Included: included, Reason: "out of gas"}
}
