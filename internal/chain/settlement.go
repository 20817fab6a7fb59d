package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Resource is a kind of what providers sell.
type Resource uint8

// The resources and the unit of their amounts. A usage's charge is amount ×
// duration × price, but for Network, whose duration does not count.
const (
	CPU     Resource = iota + 1 // millicores
	Memory                      // MiB
	Storage                     // MiB stored
	Network                     // MiB moved
	GPU                         // slots
)

// Resources lists every resource in its order.
var Resources = [...]Resource{CPU, Memory, Storage, Network, GPU}

// String names the resource as ResourceTransaction records do.
func (r Resource) String() string {
	switch r {
	case CPU:
		return "CPU"
	case Memory:
		return "Memory"
	case Storage:
		return "Storage"
	case Network:
		return "Network"
	case GPU:
		return "GPU"
	}
	return fmt.Sprintf("Resource(%d)", uint8(r))
}

// MarshalText is String.
func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a resource's name.
func (r *Resource) UnmarshalText(text []byte) error {
	for _, known := range Resources {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("chain: resource %.20q is unknown", text)
}

// UnitPrice is a price in 10⁻¹⁸ HYPER per unit·second of a resource (per unit
// for Network).
type UnitPrice struct {
	_        struct{} `cbor:",toarray"`
	Resource Resource `json:"resource"`
	Price    uint64   `json:"price_atto"`
}

// Usage is a measured amount of one resource over a time.
type Usage struct {
	_          struct{} `cbor:",toarray"`
	Resource   Resource `json:"resource"`
	Amount     uint64   `json:"amount"`      // in the resource's unit, < 2⁴⁸
	DurationMs uint64   `json:"duration_ms"` // < 2⁴⁰
}

// attoMsPerNano is how many 10⁻¹⁸ HYPER·ms per second make one nHYPER.
const attoMsPerNano = 1_000_000_000 * 1_000

// Cost returns what usage costs at prices: one floor on the sum, against the
// provider. It is an error if a used resource has no price or the sum does not
// fit an Amount.
func Cost(usage []Usage, prices []UnitPrice) (Amount, error) {
	b := bill{prices: prices}
	for _, u := range usage {
		duration := u.DurationMs
		if u.Resource == Network {
			duration = 1 // the price is per unit
		}
		used, ok := checked.WideOf(u.Amount).Mul(duration)
		if err := b.add(u.Resource, used, ok); err != nil {
			return Amount{}, err
		}
	}
	return b.total()
}

// bill adds up what usage costs at prices, in 10⁻¹⁸ HYPER·ms per second.
type bill struct {
	prices []UnitPrice
	sum    checked.Wide
}

// add charges for what was used of a resource: unit·ms, or units of Network. fits says whether
// that is a number at all.
func (b *bill) add(r Resource, used checked.Wide, fits bool) error {
	price, ok := PriceOf(b.prices, r)
	if !ok {
		return fmt.Errorf("chain: no price for %s", r)
	}
	if r == Network && fits {
		used, fits = used.Mul(1_000) // the price is per unit, not per unit·second
	}
	if fits {
		used, fits = used.Mul(price)
	}
	if fits {
		b.sum, fits = b.sum.Add(used)
	}
	if !fits {
		return fmt.Errorf("chain: the charge for %s overflows", r)
	}
	return nil
}

// total is the charge: one floor on the sum.
func (b *bill) total() (Amount, error) {
	nano, ok := b.sum.DivFloor(attoMsPerNano)
	if !ok {
		return Amount{}, fmt.Errorf("chain: the charge does not fit an amount")
	}
	return Nano(nano), nil
}

// PriceOf returns the price of a resource in a list.
func PriceOf(prices []UnitPrice, r Resource) (uint64, bool) {
	for _, p := range prices {
		if p.Resource == r {
			return p.Price, true
		}
	}
	return 0, false
}

// Policy says how the result of an order is verified before it is paid. The
// sum is sealed: switch over it exhaustively, without default.
type Policy interface {
	sealedPolicy()
	// String is the policy as people and the JSON of jobs write it.
	String() string
}

// PolicyNone pays on the home cluster's attestation, or on the consumer's own word.
type PolicyNone struct {
	_ struct{} `cbor:",toarray"`
}

// PolicyReplicate has a provider's deterministic run checked at random, by others of
// different owners that the chain draws: then K whose digests are equal are paid, out of
// at most N that are asked.
type PolicyReplicate struct {
	_ struct{} `cbor:",toarray"`
	K uint8    // 2 ≤ K ≤ N
	N uint8    // ≤ 16
	// Stake is what each run locks of its node's bond: the more it is, the less often a
	// node with a good record is checked.
	Stake    Amount
	WindowMs uint64 // of the chain's progress, for a node that was drawn to run the order
}

// PolicyZK pays for a proof of one statement of a kernel.
type PolicyZK struct {
	_            struct{}      `cbor:",toarray"`
	Kernel       string        // name and size, such as "matmul-32"
	VerifyingKey crypto.Digest // which genesis pins
	Inputs       []FieldBytes  // the kernel's public input digests, 1 to 8
}

// FieldBytes is an element of the proof system's scalar field, big-endian.
// Package zk checks its range.
type FieldBytes [32]byte

func (PolicyNone) sealedPolicy()      {}
func (PolicyReplicate) sealedPolicy() {}
func (PolicyZK) sealedPolicy()        {}

func (PolicyNone) String() string        { return "none" }
func (p PolicyReplicate) String() string { return fmt.Sprintf("replicate(%d of %d)", p.K, p.N) }
func (p PolicyZK) String() string        { return "zk(" + p.Kernel + ")" }

const (
	kindPolicyNone uint8 = iota + 1
	kindPolicyReplicate
	kindPolicyZK
)

// PolicyField holds a Policy in an encoded struct.
type PolicyField struct{ Policy }

// MarshalCBOR encodes the policy as [kind, body].
func (f PolicyField) MarshalCBOR() ([]byte, error) {
	switch p := f.Policy.(type) {
	case PolicyNone:
		return appendSum(nil, kindPolicyNone, p)
	case PolicyReplicate:
		return appendSum(nil, kindPolicyReplicate, p)
	case PolicyZK:
		return appendSum(nil, kindPolicyZK, p)
	case PolicyOptimistic:
		return appendSum(nil, kindPolicyOptimistic, p)
	}
	return nil, fmt.Errorf("chain: policy of type %T", f.Policy)
}

// UnmarshalCBOR decodes what MarshalCBOR wrote.
func (f *PolicyField) UnmarshalCBOR(data []byte) error {
	head, err := decodeHead(data, "policy")
	if err != nil {
		return err
	}
	switch head.Kind {
	case kindPolicyNone:
		f.Policy, err = decodeAs[PolicyNone, Policy](head.Body)
	case kindPolicyReplicate:
		f.Policy, err = decodeAs[PolicyReplicate, Policy](head.Body)
	case kindPolicyZK:
		f.Policy, err = decodeAs[PolicyZK, Policy](head.Body)
	case kindPolicyOptimistic:
		f.Policy, err = decodeAs[PolicyOptimistic, Policy](head.Body)
	default:
		return fmt.Errorf("chain: policy kind %d is unknown", head.Kind)
	}
	return err
}

// MarshalText is the policy's String.
func (f PolicyField) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Order is what a consumer asks for, signed by the consumer's account key
// under DomainOrder. Every cap includes all fees.
type Order struct {
	_        struct{} `cbor:",toarray"`
	ChainID  ChainID
	Consumer crypto.AccountKey
	Nonce    uint64           // free choice; makes equal orders different
	Cluster  crypto.PublicKey // home cluster, whose escrow pays
	Spec     crypto.Digest    // of the job's specification
	Policy   PolicyField
	Caps     []UnitPrice // the highest acceptable prices, the priority fee included, by ascending resource
	FixedCap Amount      // the highest acceptable price of a proven statement, the priority fee included
	MaxCost  Amount      // over all assignments and replicas
	Deadline TimeMs      // no work that ends later is paid; a lease must have begun
	Term     *Term       // of a lease; nil of a job
	Fair     bool        // its output travels encrypted, and the claim that is paid tells the key
	// Countersignable lets the consumer's countersignature stand for the cluster's attestation,
	// late in the claim window: see CountersignedFrom.
	Countersignable bool
	PriorityBps     PriorityFee // above what the work costs, and within every cap
}

// ID returns the order's id: it covers the consumer's key, the home cluster and
// the nonce, so nobody can use up another's id.
func (o Order) ID() crypto.Digest { return crypto.DomainOrder.Hash(o.Payload()) }

// Payload is what the consumer signs under DomainOrder.
func (o Order) Payload() []byte { return o.append(make([]byte, 0, formBytes)) }

// ConsumerAddress returns the address of the consumer's account.
func (o Order) ConsumerAddress() Address { return AddressOf(o.Consumer) }

// Acceptance is the home cluster's promise, signed by the cluster's key under
// DomainAcceptance, that an order is covered: Outstanding, the consumer's total
// of accepted and unsettled orders with this one, is within the escrow.
type Acceptance struct {
	_           struct{} `cbor:",toarray"`
	ChainID     ChainID
	Order       crypto.Digest
	Cluster     crypto.PublicKey
	Sequence    uint64 // of this consumer's acceptances at this cluster: ascending, each given once
	Outstanding Amount
}

// Payload is what the cluster signs under DomainAcceptance.
func (a Acceptance) Payload() []byte { return a.append(make([]byte, 0, formBytes)) }

// Bid is a provider's offer for an order, signed by the node's key under
// DomainBid.
type Bid struct {
	_       struct{} `cbor:",toarray"`
	ChainID ChainID
	Order   crypto.Digest
	Node    crypto.PublicKey
	Prices  []UnitPrice // by ascending resource
	Fixed   Amount      // the price of a proven statement; zero for metered work
	Expiry  TimeMs      // the work must have started by then
}

// Payload is what the node signs under DomainBid.
func (b Bid) Payload() []byte { return b.append(make([]byte, 0, formBytes)) }

// ExitStatus says how a workload ended.
type ExitStatus uint8

// The ways to end.
const (
	ExitOK          ExitStatus = iota + 1
	ExitFailed                 // the program ended with a code other than 0
	ExitTrapped                // the program broke a rule of its machine
	ExitFuel                   // fuel limit
	ExitMemory                 // memory limit
	ExitTime                   // wall-clock limit
	ExitOutput                 // output limit
	ExitInvalid                // no valid program
	ExitCancelled              // ended on request
	exitStatusCount = iota + 1
)

// String names the status.
func (s ExitStatus) String() string {
	names := [exitStatusCount]string{"", "ok", "failed", "trapped", "fuel limit", "memory limit", "time limit", "output limit", "invalid program", "cancelled"}
	if s == 0 || int(s) >= exitStatusCount {
		return fmt.Sprintf("ExitStatus(%d)", uint8(s))
	}
	return names[s]
}

// MarshalText is String.
func (s ExitStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status by its name.
func (s *ExitStatus) UnmarshalText(text []byte) error {
	for known := ExitOK; known < exitStatusCount; known++ {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("chain: exit status %.20q is unknown", text)
}

// UsageReceipt is a provider's account of the work it did, signed by the node's
// key under DomainUsage.
type UsageReceipt struct {
	_        struct{} `cbor:",toarray"`
	ChainID  ChainID
	Order    crypto.Digest
	Node     crypto.PublicKey
	Sequence uint64 // of this assignment's receipts, from 1
	Usage    []Usage
	Fuel     uint64        // executed instructions, for deterministic work
	Result   crypto.Digest // of the output and the exit status
	Outputs  []FieldBytes  // the kernel's public output digests
	Started  TimeMs
	Ended    TimeMs
	Exit     ExitStatus
	ExitCode uint32
	Sealed   *SealedOutput // under an order that asks for a fair exchange; else nil
	Trace    *Trace        // under a policy by which others judge what a run gives; else nil
}

// Payload is what the node signs under DomainUsage.
func (r UsageReceipt) Payload() []byte { return r.append(make([]byte, 0, formBytes)) }

// Digest identifies the receipt; the home cluster attests to it.
func (r UsageReceipt) Digest() crypto.Digest { return crypto.DomainUsage.Hash(r.Payload()) }

// AttestationPayload is what the home cluster signs, under DomainAttestation,
// to say that it measured what the receipt says, and holds the output, sealed or not.
func AttestationPayload(id ChainID, receipt crypto.Digest) []byte {
	dst := codec.AppendArray(make([]byte, 0, 2+len(id)+2+len(receipt)), 2)
	return codec.AppendBytes(codec.AppendText(dst, string(id)), receipt[:])
}

// formBytes is about what the largest form of a claim under PolicyNone takes.
const formBytes = 512

// Claim asks for the payment of one receipt: everything that the chain needs to
// check it. A zero Attestation is none.
type Claim struct {
	_             struct{} `cbor:",toarray"`
	Order         Order
	OrderSig      crypto.Signature
	Acceptance    Acceptance
	AcceptanceSig crypto.Signature
	Bid           Bid
	BidSig        crypto.Signature
	Receipt       UsageReceipt
	ReceiptSig    crypto.Signature
	Attestation   crypto.Signature // by the home cluster, over the receipt
	Proof         []byte           // ≤ MaxProof; for PolicyZK
	Countersigned bool             // Attestation is the consumer's, under DomainCountersign, in the cluster's place
	OutputKey     *OutputKey       // of a sealed output, which the claim makes known
}

// Key identifies the claim: the order, the assigned node and the sequence.
func (c Claim) Key() ClaimKey {
	return ClaimKey{Order: c.Receipt.Order, Node: c.Receipt.Node, Sequence: c.Receipt.Sequence}
}

// ClaimKey names a claim whatever its bytes: it is paid once.
type ClaimKey struct {
	_        struct{} `cbor:",toarray"`
	Order    crypto.Digest
	Node     crypto.PublicKey
	Sequence uint64
}

// signatures lists what the claim's parties signed. The attestation, the home cluster's or
// the consumer's, is last and absent when zero.
func (c *Claim) signatures() ([]crypto.Signed, error) {
	consumer, err := c.Order.Consumer.Ed25519()
	if err != nil {
		return nil, err
	}
	var buf [formBytes]byte // each form is hashed before the next is written
	list := make([]crypto.Signed, 4, 5)
	list[0] = crypto.SignedBy(consumer, crypto.DomainOrder, c.Order.append(buf[:0]), c.OrderSig)
	list[1] = crypto.SignedBy(c.Acceptance.Cluster, crypto.DomainAcceptance, c.Acceptance.append(buf[:0]), c.AcceptanceSig)
	list[2] = crypto.SignedBy(c.Bid.Node, crypto.DomainBid, c.Bid.append(buf[:0]), c.BidSig)
	list[3] = crypto.SignedBy(c.Receipt.Node, crypto.DomainUsage, c.Receipt.append(buf[:0]), c.ReceiptSig)
	if c.Attestation != (crypto.Signature{}) {
		by, domain := c.Order.Cluster, crypto.DomainAttestation
		if c.Countersigned {
			by, domain = consumer, crypto.DomainCountersign
		}
		payload := AttestationPayload(c.Order.ChainID, list[3].Digest) // the receipt's own digest
		list = append(list, crypto.SignedBy(by, domain, payload, c.Attestation))
	}
	return list, nil
}

// Unsigned names the form of the claim whose signature does not verify, by what was found of them; empty: all do.
func (c *Claim) Unsigned(found Signing) string {
	last := "the attestation"
	if c.Countersigned {
		last = "the countersignature"
	}
	forms := [...]string{"a form", "", "the order", "the acceptance", "the bid", "the receipt", last}
	if int(found) >= len(forms) {
		panic("chain: a claim has no so many signatures")
	}
	return forms[found]
}

// ResourceTransaction is one usage record as the chain keeps it.
type ResourceTransaction struct {
	_            struct{}         `cbor:",toarray"`
	NodeID       crypto.PublicKey `json:"node_id"`
	ResourceType Resource         `json:"resource_type"`
	Amount       uint64           `json:"amount"`
	DurationMs   uint64           `json:"duration_ms"`
	PricePerUnit Number           `json:"price_per_unit"` // 10⁻¹⁸ HYPER per unit·second
	Consumer     Address          `json:"consumer"`
	Provider     Address          `json:"provider"`
	Timestamp    TimeMs           `json:"timestamp"`
}
