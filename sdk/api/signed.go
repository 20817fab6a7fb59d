package api

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The signed forms of settlement as JSON. Their meaning, and what is signed, is
// package chain's.

// AccountKey is an account's public key, tagged with its scheme.
type AccountKey struct {
	Scheme uint8 `json:"scheme" minimum:"1" maximum:"1" doc:"1: Ed25519"`
	Key    Hex   `json:"key" pattern:"^[0-9a-f]{64}$"`
}

func accountKeyToJSON(k crypto.AccountKey) AccountKey {
	return AccountKey{Scheme: uint8(k.Scheme), Key: k.Key}
}

func (k AccountKey) chain() crypto.AccountKey {
	return crypto.AccountKey{Scheme: crypto.Scheme(k.Scheme), Key: k.Key}
}

// Policy is how an order's result is verified: {"type": "replicate", "data":
// {"k": 2, "n": 3, "stake_nhyper": "570000000", "window_ms": "60000"}}.
type Policy struct{ chain.Policy }

// PolicyNone is the data of "none".
type PolicyNone struct{}

// PolicyReplicate is the data of "replicate".
type PolicyReplicate struct {
	K uint8 `json:"k" minimum:"2" maximum:"16" doc:"equal digests wanted"`
	N uint8 `json:"n" minimum:"2" maximum:"16" doc:"providers asked at most"`

	Stake    chain.Amount `json:"stake_nhyper" doc:"what each run locks of its node's bond: the more, the less often a node with a good record is checked"`
	WindowMs Uint64       `json:"window_ms" doc:"for a node that was drawn to run it; a second to a day"`
}

// PolicyZK is the data of "zk".
type PolicyZK struct {
	Kernel       string         `json:"kernel" maxLength:"32" doc:"name and size, such as matmul-32"`
	VerifyingKey crypto.Digest  `json:"verifying_key" doc:"which genesis pins"`
	Inputs       []FieldElement `json:"inputs" minItems:"1" maxItems:"8" doc:"the kernel's public input digests"`
}

func policyCases() []Case {
	return []Case{caseOf[PolicyNone]("none"), caseOf[PolicyReplicate]("replicate"), caseOf[PolicyZK]("zk"), caseOf[PolicyOptimistic]("optimistic")}
}

// MarshalJSON writes the policy with its name.
func (p Policy) MarshalJSON() ([]byte, error) {
	switch p := p.Policy.(type) {
	case chain.PolicyNone:
		return marshalTagged("none", PolicyNone{})
	case chain.PolicyReplicate:
		return marshalTagged("replicate", PolicyReplicate{K: p.K, N: p.N, Stake: p.Stake, WindowMs: Uint64(p.WindowMs)})
	case chain.PolicyZK:
		return marshalTagged("zk", PolicyZK{Kernel: p.Kernel, VerifyingKey: p.VerifyingKey, Inputs: fieldsToJSON(p.Inputs)})
	case chain.PolicyOptimistic:
		return marshalTagged("optimistic", PolicyOptimistic{WindowMs: Uint64(p.WindowMs), Bond: p.Bond})
	}
	return nil, fmt.Errorf("api: policy is missing")
}

// UnmarshalJSON reads what MarshalJSON wrote. Its errors are *FieldError.
func (p *Policy) UnmarshalJSON(data []byte) error {
	var t tagged
	if err := DecodeJSON(data, &t); err != nil {
		return err
	}
	switch t.Type {
	case "none":
		if _, err := dataOf[PolicyNone](t); err != nil {
			return err
		}
		p.Policy = chain.PolicyNone{}
	case "replicate":
		d, err := dataOf[PolicyReplicate](t)
		if err != nil {
			return err
		}
		p.Policy = chain.PolicyReplicate{K: d.K, N: d.N, Stake: d.Stake, WindowMs: uint64(d.WindowMs)}
	case "zk":
		d, err := dataOf[PolicyZK](t)
		if err != nil {
			return err
		}
		p.Policy = chain.PolicyZK{Kernel: d.Kernel, VerifyingKey: d.VerifyingKey, Inputs: fieldsFromJSON(d.Inputs)}
	case "optimistic":
		d, err := dataOf[PolicyOptimistic](t)
		if err != nil {
			return err
		}
		p.Policy = chain.PolicyOptimistic{WindowMs: uint64(d.WindowMs), Bond: d.Bond}
	default:
		return &FieldError{Location: "type", Message: fmt.Sprintf("policy type %.40q is unknown", t.Type)}
	}
	return nil
}

// FieldElement is an element of the proof system's scalar field: 32 bytes as
// hexadecimal, big-endian.
type FieldElement chain.FieldBytes

// MarshalText writes 64 hexadecimal digits.
func (f FieldElement) MarshalText() ([]byte, error) { return Hex(f[:]).MarshalText() }

// UnmarshalText reads 64 lower-case hexadecimal digits.
func (f *FieldElement) UnmarshalText(text []byte) error {
	return (*crypto.Digest)(f).UnmarshalText(text)
}

func fieldsToJSON(fields []chain.FieldBytes) []FieldElement {
	out := make([]FieldElement, len(fields))
	for i, f := range fields {
		out[i] = FieldElement(f)
	}
	return out
}

func fieldsFromJSON(list []FieldElement) []chain.FieldBytes {
	out := make([]chain.FieldBytes, len(list))
	for i, f := range list {
		out[i] = chain.FieldBytes(f)
	}
	return out
}

// UnitPrice is a price of one resource.
type UnitPrice struct {
	Resource chain.Resource `json:"resource" enum:"CPU,Memory,Storage,Network,GPU"`
	Price    Uint64         `json:"price_atto" doc:"10⁻¹⁸ HYPER per unit·second; per unit for Network"`
}

func pricesToJSON(prices []chain.UnitPrice) []UnitPrice {
	out := make([]UnitPrice, len(prices))
	for i, p := range prices {
		out[i] = UnitPrice{Resource: p.Resource, Price: Uint64(p.Price)}
	}
	return out
}

func pricesFromJSON(prices []UnitPrice) []chain.UnitPrice {
	out := make([]chain.UnitPrice, len(prices))
	for i, p := range prices {
		out[i] = chain.UnitPrice{Resource: p.Resource, Price: uint64(p.Price)}
	}
	return out
}

// Order is what a consumer asks for.
type Order struct {
	ChainID     chain.ChainID     `json:"chain_id" minLength:"3" maxLength:"32"`
	Consumer    AccountKey        `json:"consumer"`
	Nonce       Uint64            `json:"nonce" doc:"free choice; makes equal orders different"`
	Cluster     crypto.PublicKey  `json:"cluster" doc:"home cluster, whose escrow pays"`
	Spec        crypto.Digest     `json:"spec" doc:"digest of the job's specification"`
	Policy      Policy            `json:"policy"`
	Caps        []UnitPrice       `json:"caps" maxItems:"5" doc:"highest acceptable prices, the priority fee included, by ascending resource"`
	FixedCap    chain.Amount      `json:"fixed_cap_nhyper" doc:"highest acceptable price of a proven statement, the priority fee included"`
	MaxCost     chain.Amount      `json:"max_cost_nhyper" doc:"over all assignments and replicas, fees included"`
	DeadlineMs  Uint64            `json:"deadline_ms" doc:"no work that ends later is paid; a lease must have begun"`
	Term        *Term             `json:"term,omitempty" doc:"of a lease"`
	Fair        bool              `json:"fair_exchange,omitempty" doc:"the output travels encrypted, and the claim that is paid tells the key; for none and zk"`
	PriorityBps chain.PriorityFee `json:"priority_bps,omitempty" maximum:"10000" doc:"the fee above what the work costs, in 1/10,000, to be taken up before others of its class; within every cap"`
	Late        bool              `json:"countersignable,omitempty" doc:"late in the claim window the consumer's countersignature stands for the cluster's attestation; for none and zk"`
}

// OrderToJSON returns the order as JSON has it.
func OrderToJSON(o chain.Order) Order {
	return Order{
		ChainID: o.ChainID, Consumer: accountKeyToJSON(o.Consumer), Nonce: Uint64(o.Nonce), Cluster: o.Cluster, Spec: o.Spec,
		Policy: Policy{o.Policy.Policy}, Caps: pricesToJSON(o.Caps), FixedCap: o.FixedCap, MaxCost: o.MaxCost, DeadlineMs: Uint64(o.Deadline),
		Term: termToJSON(o.Term), Fair: o.Fair, Late: o.Countersignable, PriorityBps: o.PriorityBps,
	}
}

// OrderFromJSON returns the order of package chain, or a *FieldError if it has
// no policy. Its limits are not checked: see chain.Order.Check.
func OrderFromJSON(o Order) (chain.Order, error) {
	if o.Policy.Policy == nil {
		return chain.Order{}, &FieldError{Location: "policy", Message: "missing"}
	}
	return chain.Order{
		ChainID: o.ChainID, Consumer: o.Consumer.chain(), Nonce: uint64(o.Nonce), Cluster: o.Cluster, Spec: o.Spec,
		Policy: chain.PolicyField{Policy: o.Policy.Policy}, Caps: pricesFromJSON(o.Caps), FixedCap: o.FixedCap, MaxCost: o.MaxCost,
		Deadline: chain.TimeMs(o.DeadlineMs), Term: o.Term.chain(), Fair: o.Fair, Countersignable: o.Late, PriorityBps: o.PriorityBps,
	}, nil
}

// Acceptance is a home cluster's promise that an order is covered.
type Acceptance struct {
	ChainID     chain.ChainID    `json:"chain_id"`
	Order       crypto.Digest    `json:"order"`
	Cluster     crypto.PublicKey `json:"cluster"`
	Sequence    Uint64           `json:"sequence" doc:"of this consumer's acceptances at this cluster, ascending"`
	Outstanding chain.Amount     `json:"outstanding_nhyper" doc:"the consumer's accepted and unsettled orders with this one"`
}

// AcceptanceToJSON returns the acceptance as JSON has it.
func AcceptanceToJSON(a chain.Acceptance) Acceptance {
	return Acceptance{ChainID: a.ChainID, Order: a.Order, Cluster: a.Cluster, Sequence: Uint64(a.Sequence), Outstanding: a.Outstanding}
}

// AcceptanceFromJSON returns the acceptance of package chain.
func AcceptanceFromJSON(a Acceptance) chain.Acceptance {
	return chain.Acceptance{ChainID: a.ChainID, Order: a.Order, Cluster: a.Cluster, Sequence: uint64(a.Sequence), Outstanding: a.Outstanding}
}

// Bid is a provider's offer for an order.
type Bid struct {
	ChainID  chain.ChainID    `json:"chain_id"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Prices   []UnitPrice      `json:"prices" maxItems:"5"`
	Fixed    chain.Amount     `json:"fixed_nhyper" doc:"price of a proven statement; 0 for metered work"`
	ExpiryMs Uint64           `json:"expiry_ms" doc:"the work must have started by then"`
}

// BidToJSON returns the bid as JSON has it.
func BidToJSON(b chain.Bid) Bid {
	return Bid{ChainID: b.ChainID, Order: b.Order, Node: b.Node, Prices: pricesToJSON(b.Prices), Fixed: b.Fixed, ExpiryMs: Uint64(b.Expiry)}
}

// BidFromJSON returns the bid of package chain.
func BidFromJSON(b Bid) chain.Bid {
	return chain.Bid{ChainID: b.ChainID, Order: b.Order, Node: b.Node, Prices: pricesFromJSON(b.Prices), Fixed: b.Fixed, Expiry: chain.TimeMs(b.ExpiryMs)}
}

// Usage is a measured amount of one resource over a time.
type Usage struct {
	Resource   chain.Resource `json:"resource" enum:"CPU,Memory,Storage,Network,GPU"`
	Amount     Uint64         `json:"amount" doc:"in the resource's unit, below 2⁴⁸"`
	DurationMs Uint64         `json:"duration_ms" doc:"below 2⁴⁰"`
}

// UsageReceipt is a provider's account of the work it did.
type UsageReceipt struct {
	ChainID   chain.ChainID    `json:"chain_id"`
	Order     crypto.Digest    `json:"order"`
	Node      crypto.PublicKey `json:"node_id"`
	Sequence  Uint64           `json:"sequence" doc:"of this assignment's receipts, from 1"`
	Usage     []Usage          `json:"usage" maxItems:"5"`
	Fuel      Uint64           `json:"fuel" doc:"executed instructions, for deterministic work"`
	Result    crypto.Digest    `json:"result" doc:"of the output and the exit status"`
	Outputs   []FieldElement   `json:"outputs" maxItems:"8" doc:"the kernel's public output digests"`
	StartedMs Uint64           `json:"started_ms"`
	EndedMs   Uint64           `json:"ended_ms"`
	Exit      chain.ExitStatus `json:"exit"`
	ExitCode  uint32           `json:"exit_code"`
	Sealed    *SealedOutput    `json:"sealed,omitempty" doc:"under fair exchange"`
	Trace     *chain.Trace     `json:"trace,omitempty" doc:"of the run, under policies by which others judge what it gives"`
}

// SealedOutput is what a receipt says of an output that travels encrypted.
type SealedOutput struct {
	Output  crypto.Digest `json:"output" doc:"the encrypted blob; all zeros: the work left none"`
	KeyHash crypto.Digest `json:"key_hash" doc:"of order, node and key"`
}

// ReceiptToJSON returns the receipt as JSON has it.
func ReceiptToJSON(r chain.UsageReceipt) UsageReceipt {
	out := UsageReceipt{
		ChainID: r.ChainID, Order: r.Order, Node: r.Node, Sequence: Uint64(r.Sequence), Fuel: Uint64(r.Fuel), Result: r.Result,
		Usage: make([]Usage, len(r.Usage)), Outputs: fieldsToJSON(r.Outputs),
		StartedMs: Uint64(r.Started), EndedMs: Uint64(r.Ended), Exit: r.Exit, ExitCode: r.ExitCode, Trace: r.Trace,
	}
	if r.Sealed != nil {
		out.Sealed = &SealedOutput{Output: r.Sealed.Output, KeyHash: r.Sealed.KeyHash}
	}
	for i, u := range r.Usage {
		out.Usage[i] = Usage{Resource: u.Resource, Amount: Uint64(u.Amount), DurationMs: Uint64(u.DurationMs)}
	}
	return out
}

// ReceiptFromJSON returns the receipt of package chain.
func ReceiptFromJSON(r UsageReceipt) chain.UsageReceipt {
	out := chain.UsageReceipt{
		ChainID: r.ChainID, Order: r.Order, Node: r.Node, Sequence: uint64(r.Sequence), Fuel: uint64(r.Fuel), Result: r.Result,
		Usage: make([]chain.Usage, len(r.Usage)), Outputs: fieldsFromJSON(r.Outputs),
		Started: chain.TimeMs(r.StartedMs), Ended: chain.TimeMs(r.EndedMs), Exit: r.Exit, ExitCode: r.ExitCode, Trace: r.Trace,
	}
	if r.Sealed != nil {
		out.Sealed = &chain.SealedOutput{Output: r.Sealed.Output, KeyHash: r.Sealed.KeyHash}
	}
	for i, u := range r.Usage {
		out.Usage[i] = chain.Usage{Resource: u.Resource, Amount: uint64(u.Amount), DurationMs: uint64(u.DurationMs)}
	}
	return out
}

// Claim asks for the payment of one receipt.
type Claim struct {
	Order         Order            `json:"order"`
	OrderSig      crypto.Signature `json:"order_signature"`
	Acceptance    Acceptance       `json:"acceptance"`
	AcceptanceSig crypto.Signature `json:"acceptance_signature"`
	Bid           Bid              `json:"bid"`
	BidSig        crypto.Signature `json:"bid_signature"`
	Receipt       UsageReceipt     `json:"receipt"`
	ReceiptSig    crypto.Signature `json:"receipt_signature"`
	Attestation   crypto.Signature `json:"attestation,omitzero" doc:"by the home cluster, over the receipt; left out: none"`
	Proof         []byte           `json:"proof,omitempty" doc:"at most 4,096 bytes; for the zk policy"`
	Countersigned bool             `json:"countersigned,omitempty" doc:"the attestation is the consumer's, in the cluster's place"`
	OutputKey     *chain.OutputKey `json:"output_key,omitempty" doc:"of a sealed output"`
}

// ClaimToJSON returns the claim as JSON has it.
func ClaimToJSON(c chain.Claim) Claim {
	return Claim{
		Order: OrderToJSON(c.Order), OrderSig: c.OrderSig,
		Acceptance: AcceptanceToJSON(c.Acceptance), AcceptanceSig: c.AcceptanceSig,
		Bid: BidToJSON(c.Bid), BidSig: c.BidSig,
		Receipt: ReceiptToJSON(c.Receipt), ReceiptSig: c.ReceiptSig,
		Attestation: c.Attestation, Proof: c.Proof, Countersigned: c.Countersigned, OutputKey: c.OutputKey,
	}
}

// ClaimFromJSON returns the claim of package chain, or a *FieldError if its
// order has no policy. Its limits are not checked: see chain.Claim.Check.
func ClaimFromJSON(c Claim) (chain.Claim, error) {
	order, err := OrderFromJSON(c.Order)
	if err != nil {
		return chain.Claim{}, within("order", err)
	}
	return chain.Claim{
		Order: order, OrderSig: c.OrderSig,
		Acceptance: AcceptanceFromJSON(c.Acceptance), AcceptanceSig: c.AcceptanceSig,
		Bid: BidFromJSON(c.Bid), BidSig: c.BidSig,
		Receipt: ReceiptFromJSON(c.Receipt), ReceiptSig: c.ReceiptSig,
		Attestation: c.Attestation, Proof: c.Proof, Countersigned: c.Countersigned, OutputKey: c.OutputKey,
	}, nil
}
