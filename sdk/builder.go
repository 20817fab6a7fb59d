package sdk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// BuilderOptions are how a Builder makes transactions. A zero field is its
// default.
type BuilderOptions struct {
	Tip           chain.GasPrice // per gas, to the proposer: 0
	MaxFee        chain.GasPrice // per gas: four times the base fee, and the tip
	GasLimit      chain.Gas      // what the messages may need (EstimateGas), and what the code of contracts that they call takes to be loaded
	ExpiryHeights chain.Height   // after the latest height: DefaultExpiryHeights
	Memo          string
	FeePayer      chain.Signer // nil: the sender pays
}

// DefaultExpiryHeights is for how many heights a transaction may wait: two minutes at
// the fastest pace of blocks, chain.FastestPaceMs, and longer at a slower one. What
// waits on a chain that is not busy waits for a fee that fits, and can be replaced.
const DefaultExpiryHeights chain.Height = 2 * 60 * 1_000 / chain.FastestPaceMs

// feeHeadroom is how many times the base fee may rise before a transaction is
// included.
const feeHeadroom = 4

// headAge is how long the base fee and height of an answer are used.
const headAge = 2 * time.Second

// Builder makes one account's transactions: it counts nonces, sets fees and
// expiry, and signs. Use one Builder for an account: two would use the same
// nonces.
type Builder struct {
	client  *Client
	signer  chain.Signer
	sender  chain.Address
	options BuilderOptions

	mu    sync.Mutex
	next  uint64 // nonce; if known
	known bool
	head  api.Status
	at    time.Time // of head
}

// NewBuilder returns a builder for the signer's account.
func (c *Client) NewBuilder(signer chain.Signer, options BuilderOptions) *Builder {
	setDefault(&options.ExpiryHeights, DefaultExpiryHeights)
	return &Builder{client: c, signer: signer, sender: chain.AddressOf(signer.AccountKey()), options: options}
}

// Sender returns the account's address.
func (b *Builder) Sender() chain.Address { return b.sender }

// Build returns a signed transaction with the next nonce.
func (b *Builder) Build(ctx context.Context, messages ...chain.Msg) (chain.Tx, error) {
	body, err := b.body(ctx, messages)
	if err != nil {
		return chain.Tx{}, err
	}
	signers := []chain.Signer{b.signer}
	if b.options.FeePayer != nil {
		payer := chain.AddressOf(b.options.FeePayer.AccountKey())
		body.FeePayer = &payer
		signers = append(signers, b.options.FeePayer)
	}
	if b.options.GasLimit == (chain.Gas{}) {
		if body.GasLimit, err = b.client.estimate(ctx, messages); err != nil {
			b.Reset()
			return chain.Tx{}, err
		}
	}
	tx, err := chain.SignTx(body, signers...)
	if err != nil {
		b.Reset()
		return chain.Tx{}, err
	}
	return tx, nil
}

// body takes a nonce and fills in what the chain says.
func (b *Builder) body(ctx context.Context, messages []chain.Msg) (chain.TxBody, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() || time.Since(b.at) > headAge {
		head, err := b.client.Status(ctx)
		if err != nil {
			return chain.TxBody{}, err
		}
		if g := b.client.config.Genesis; g != nil && head.ChainID != g.ChainID {
			return chain.TxBody{}, fmt.Errorf("sdk: the node is of chain %q, trusted is %q", head.ChainID, g.ChainID)
		}
		b.head, b.at = head, time.Now()
	}
	if !b.known {
		account, err := b.client.Account(ctx, b.sender)
		if err != nil {
			return chain.TxBody{}, err
		}
		b.next, b.known = max(uint64(account.Nonce), uint64(account.Pending)), true
	}
	body := chain.TxBody{
		ChainID: b.head.ChainID, Sender: b.sender, Nonce: b.next, Expiry: b.head.Height + b.options.ExpiryHeights,
		GasLimit: b.options.GasLimit, MaxFee: b.options.MaxFee, Tip: b.options.Tip, Messages: messages, Memo: b.options.Memo,
	}
	if body.MaxFee == (chain.GasPrice{}) {
		body.MaxFee = withHeadroom(b.head.BaseFee, b.options.Tip)
	}
	b.next++
	return body, nil
}

func withHeadroom(base, tip chain.GasPrice) chain.GasPrice {
	if base.Nano() > math.MaxUint64/feeHeadroom {
		return base
	}
	price, ok := chain.PricePerGas(base.Nano() * feeHeadroom).Add(tip)
	if !ok {
		return base
	}
	return price
}

// Reset forgets the nonce: the next transaction asks for it again. Call it when
// a transaction that was built will not be included.
func (b *Builder) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.at = false, time.Time{}
}

// Sent is a transaction that a node's mempool took.
type Sent struct {
	ID     chain.TxID
	Expiry chain.Height
}

// Send builds a transaction and submits it. The error is a *RejectedError if
// the node did not accept it.
func (b *Builder) Send(ctx context.Context, messages ...chain.Msg) (Sent, error) {
	sent, _, err := b.send(ctx, messages)
	return sent, err
}

func (b *Builder) send(ctx context.Context, messages []chain.Msg) (Sent, *chain.Tx, error) {
	tx, err := b.Build(ctx, messages...)
	if err != nil {
		return Sent{}, nil, err
	}
	verdicts, err := b.client.SubmitTxs(ctx, tx)
	if err != nil {
		b.Reset()
		return Sent{}, nil, err
	}
	if v := verdicts[0]; !v.Accepted {
		b.Reset()
		return Sent{}, nil, &RejectedError{TxID: v.TxID, Reason: v.Reason}
	}
	return Sent{ID: verdicts[0].TxID, Expiry: tx.Body.Expiry}, &tx, nil
}

// SendAndWait is Send, and WaitFinalOf what was sent. After an error that is no
// *RejectedError of an included transaction the builder asks for its nonce again.
func (b *Builder) SendAndWait(ctx context.Context, messages ...chain.Msg) (api.TxLookup, error) {
	_, tx, err := b.send(ctx, messages)
	if err != nil {
		return api.TxLookup{}, err
	}
	found, err := b.client.WaitFinalOf(ctx, tx)
	if rejected, ok := errors.AsType[*RejectedError](err); err != nil && !(ok && rejected.Included) {
		b.Reset()
	}
	return found, err
}

// EstimateGas returns a gas limit that is enough for messages in the usual
// case: what is not used is not paid for. A call of a contract whose code is large may take more if nobody
// has called it lately: what nodes say of that a Builder adds.
func EstimateGas(messages ...chain.Msg) chain.Gas {
	const (
		perTx      = 40_000
		perMessage = 100_000
		perClaim   = 200_000
		perWindow  = 300_000 // its lot, and its end
		perBid     = 10_000
		perBond    = 4_000_000 // looking for the poorest of a full roll
		perProof   = 3_000_000
		perDraw    = 1_000_000 // of nodes from the whole roll, or a division, in a block to come
		// Verifying evidence, and what is written of those whom it convicts.
		perReport       = 2_000_000
		perEvidenceByte = 400
	)
	sum := uint64(perTx)
	for _, m := range messages {
		sum += perMessage
		if begin, ok := m.(chain.BeginRun); ok {
			sum += perBid * uint64(len(begin.Slate))
		}
		if draws(m) {
			sum += perDraw
		}
		if pays(m) {
			sum += perClaim * chain.MaxReplicas
		}
		if report, ok := m.(chain.ReportEvidence); ok {
			sum += perReport + perEvidenceByte*uint64(len(report.Evidence))
		}
		_, bonds := m.(chain.Bond)
		if _, unjails := m.(chain.Unjail); bonds || unjails {
			sum += perBond
		}
		if _, batch := m.(chain.SettleBatch); batch {
			sum += perClaim + perProof
		}
		sum += ofContracts(m)
		settle, ok := m.(chain.Settle)
		if !ok {
			continue
		}
		for i := range settle.Claims {
			sum += perClaim
			if _, waits := settle.Claims[i].Order.Policy.Policy.(chain.PolicyOptimistic); waits {
				sum += perWindow
			}
			if len(settle.Claims[i].Proof) > 0 {
				sum += perProof
			}
		}
	}
	return chain.GasUnits(sum)
}

// ofContracts is what a message about contracts may use. What a call does nobody knows before.
func ofContracts(m chain.Msg) uint64 {
	const perCall, perPart, perPartByte, perCode, perCodeByte = 3_000_000, 20_000, 8, 200_000, 70
	if store, ok := m.(chain.StoreCode); ok {
		gas := perPart + perPartByte*uint64(len(store.Part))
		if store.Offset+uint64(len(store.Part)) == store.Size { // it is the last, with which the whole is checked
			gas += perCode + perCodeByte*store.Size
		}
		return gas
	}
	_, makes := m.(chain.InstantiateContract)
	_, calls := m.(chain.ExecuteContract)
	_, migrates := m.(chain.MigrateContract)
	_, changes := m.(chain.SetContractAdmin)
	_, pins := m.(chain.PinCode)
	switch {
	case makes || calls || migrates || pins:
		return perCall
	case changes:
		return perPart
	}
	return 0
}

// estimate is EstimateGas, and what loading the code takes that messages call.
func (c *Client) estimate(ctx context.Context, messages []chain.Msg) (chain.Gas, error) {
	sum := EstimateGas(messages...)
	for _, m := range messages {
		load, err := c.loadGas(ctx, m)
		if err != nil {
			return chain.Gas{}, err
		}
		var ok bool
		if sum, ok = sum.Add(chain.GasUnits(load)); !ok {
			return chain.Gas{}, errors.New("sdk: messages that may use more gas than can be counted")
		}
	}
	return sum, nil
}

// loadGas is what loading the code takes that a message calls or pins; nothing of what is not there, or not yet.
func (c *Client) loadGas(ctx context.Context, m chain.Msg) (uint64, error) {
	code, err := c.codeOf(ctx, m)
	if code == 0 || err != nil {
		return 0, err
	}
	found, err := c.ContractCode(ctx, code)
	if IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kib := uint64(found.Native)/1024 + 1 // as a node says
	return min(kib, maxNativeKiB) * contract.PricesV1().LoadKiB, nil
}

// codeOf is the code that a message calls or pins; 0: none, as a node says.
func (c *Client) codeOf(ctx context.Context, m chain.Msg) (uint64, error) {
	if makes, ok := m.(chain.InstantiateContract); ok {
		return makes.Code, nil
	}
	if migrates, ok := m.(chain.MigrateContract); ok {
		return migrates.Code, nil
	}
	if pins, ok := m.(chain.PinCode); ok {
		return pins.Code, nil
	}
	calls, ok := m.(chain.ExecuteContract)
	if !ok {
		return 0, nil
	}
	called, err := c.Contract(ctx, calls.Contract)
	if IsNotFound(err) { // perhaps not yet
		return 0, nil
	}
	return uint64(called.Code), err
}

// maxNativeKiB is more than any code becomes.
const maxNativeKiB = 1 << 20

// draws reports whether a message has nodes drawn, or a breach or a challenge of hardware
// ended, and pays for that at once.
func draws(m chain.Msg) bool {
	promises := func(d *chain.LeaseDeal) bool { return d.Order.Term != nil && d.Order.Term.Service != nil }
	if open, ok := m.(chain.OpenLease); ok {
		return promises(&open.Deal)
	}
	if resize, ok := m.(chain.ResizeLease); ok {
		return promises(&resize.Deal)
	}
	_, peers := m.(chain.DrawPeers)
	_, hardware := m.(chain.DeclareHardware)
	_, node := m.(chain.RegisterProvider)
	_, words := m.(chain.ReportHardware)
	_, breach := m.(chain.ReportAcceptance)
	_, challenges := m.(chain.Challenge)
	_, appeals := m.(chain.Appeal)
	_, begins := m.(chain.BeginRun)
	return peers || hardware || node || words || breach || challenges || appeals || begins
}

// pays reports whether a message may pay as many as run an order.
func pays(m chain.Msg) bool {
	_, reveals := m.(chain.RevealRun)
	_, collects := m.(chain.CollectRun)
	return reveals || collects
}
