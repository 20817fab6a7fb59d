package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Term makes an order one for a lease: what a node keeps for the consumer for as long
// as it is paid, by the millisecond.
type Term struct {
	_         struct{}      `cbor:",toarray"`
	Resources []Quantity    // what is kept, by ascending resource, at least one; not Network
	Resizes   crypto.Digest // the order of the lease that it gives other terms; zero: it opens one
	NoticeMs  uint64        // from either party's word that the lease shall end to its end; ≤ MaxNoticeMs
	Service   *ServiceTerms // nil: nothing is promised beside
}

// Quantity is an amount of a resource that is kept for somebody.
type Quantity struct {
	_        struct{} `cbor:",toarray"`
	Resource Resource `json:"resource"`
	Amount   uint64   `json:"amount"` // in the resource's unit, ≥ 1
}

// Rate returns what quantities cost at prices, in 10⁻¹⁸ HYPER per second. It is an error
// if one has no price, or if all of them cost nothing or 2⁶⁴ (18 HYPER) a second or more.
func Rate(quantities []Quantity, prices []UnitPrice) (uint64, error) {
	var sum checked.Wide
	for _, q := range quantities {
		price, ok := PriceOf(prices, q.Resource)
		if !ok {
			return 0, fmt.Errorf("chain: no price for %s", q.Resource)
		}
		term, ok := checked.WideOf(q.Amount).Mul(price)
		if ok {
			sum, ok = sum.Add(term)
		}
		if !ok {
			return 0, fmt.Errorf("chain: the rate for %s overflows", q.Resource)
		}
	}
	rate, ok := sum.DivFloor(1)
	if !ok || rate == 0 {
		return 0, fmt.Errorf("chain: the rate is outside 1 to 2⁶⁴−1 attoHYPER a second")
	}
	return rate, nil
}

// RateCost returns what a time at a rate costs, in whole nHYPER: the floor.
func RateCost(rate, durationMs uint64) Amount {
	product, _ := checked.WideOf(rate).Mul(durationMs) // 128 bits: it fits
	nano, ok := product.DivFloor(attoMsPerNano)
	if !ok {
		panic("chain: a lease longer than time")
	}
	return Nano(nano)
}

// RateTime returns for how many whole milliseconds an amount lasts at a rate, at most
// MaxUsageMs. What RateCost asks for that time is within the amount.
func RateTime(rate uint64, amount Amount) uint64 {
	product, _ := checked.WideOf(amount.nano).Mul(attoMsPerNano) // 104 bits: it fits
	ms, ok := product.DivFloor(rate)
	if !ok {
		return MaxUsageMs
	}
	return min(ms, MaxUsageMs)
}

// LeaseID names a lease: the node, and the order that it was opened with. Leases of a
// node are next to each other in the state.
type LeaseID struct {
	_     struct{}         `cbor:",toarray"`
	Node  crypto.PublicKey `json:"node_id"`
	Order crypto.Digest    `json:"order"`
}

// LeaseDeal is what a lease rests on: an order with a Term, its cluster's acceptance, the
// node's bid, and the cluster's word that this bid is the one: without it any node that sees
// a deal could open the lease itself.
type LeaseDeal struct {
	_             struct{} `cbor:",toarray"`
	Order         Order
	OrderSig      crypto.Signature
	Acceptance    Acceptance
	AcceptanceSig crypto.Signature
	Bid           Bid
	BidSig        crypto.Signature
	AwardSig      crypto.Signature // by the cluster, over the bid, under DomainAward
}

// OpenLease moves the order's max cost out of the consumer's escrow into a lease, which
// lives for as long as that lasts. Anyone may send it.
type OpenLease struct {
	_    struct{} `cbor:",toarray"`
	Deal LeaseDeal
}

// ResizeLease replaces what a lease rests on, from now on, and adds the new order's max
// cost to what it holds. Anyone may send it.
type ResizeLease struct {
	_     struct{} `cbor:",toarray"`
	Lease LeaseID
	Deal  LeaseDeal // of the same consumer, cluster and node
}

// ExtendLease adds to what a lease holds out of the sender's balance. Anyone may send it: what is left in the
// end is the lease's consumer's.
type ExtendLease struct {
	_      struct{} `cbor:",toarray"`
	Lease  LeaseID
	Amount Amount
}

// CloseLease is the sender's notice that the lease shall end. The sender is its consumer
// or its provider.
type CloseLease struct {
	_     struct{} `cbor:",toarray"`
	Lease LeaseID
}

// CollectLease pays the provider what is due by now. Anyone may send it.
type CollectLease struct {
	_     struct{} `cbor:",toarray"`
	Lease LeaseID
}

func (OpenLease) sealedMsg()    {}
func (ResizeLease) sealedMsg()  {}
func (ExtendLease) sealedMsg()  {}
func (CloseLease) sealedMsg()   {}
func (CollectLease) sealedMsg() {}

// LeaseOpened says that a node keeps resources for a consumer until Expires, if nobody
// ends it before or adds to what it holds.
type LeaseOpened struct {
	_        struct{}         `cbor:",toarray"`
	Lease    LeaseID          `json:"lease"`
	Consumer Address          `json:"consumer"`
	Provider Address          `json:"provider"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Spec     crypto.Digest    `json:"spec"`
	Rate     Number           `json:"rate"` // 10⁻¹⁸ HYPER per second
	Held     Amount           `json:"held_nhyper"`
	Expires  TimeMs           `json:"expires_ms"`
}

// LeaseChanged says what became of a lease that was extended or resized, or of which
// notice was given.
type LeaseChanged struct {
	_       struct{}      `cbor:",toarray"`
	Lease   LeaseID       `json:"lease"`
	Order   crypto.Digest `json:"order"` // whose terms hold
	Rate    Number        `json:"rate"`
	Held    Amount        `json:"held_nhyper"`
	Expires TimeMs        `json:"expires_ms"`
	Closing bool          `json:"closing"`
}

// LeasePaid says that a lease paid for the time up to Until: Cost = Paid + Burned +
// Treasury + ClusterFee. The order's priority fee is PriorityBurned + PriorityFee of that.
type LeasePaid struct {
	_              struct{}              `cbor:",toarray"`
	Lease          LeaseID               `json:"lease"`
	Consumer       Address               `json:"consumer"`
	Provider       Address               `json:"provider"`
	Cluster        crypto.PublicKey      `json:"cluster"`
	Until          TimeMs                `json:"until_ms"`
	Cost           Amount                `json:"cost_nhyper"`
	Paid           Amount                `json:"paid_nhyper"`
	Burned         Amount                `json:"burned_nhyper"`
	Treasury       Amount                `json:"treasury_nhyper"`
	ClusterFee     Amount                `json:"cluster_fee_nhyper"`
	PriorityBurned Amount                `json:"priority_burned_nhyper"` // of Burned
	PriorityFee    Amount                `json:"priority_fee_nhyper"`    // of ClusterFee
	Records        []ResourceTransaction `json:"records"`
}

// LeaseEnded says that a lease is over since At, and what went back into the escrow.
type LeaseEnded struct {
	_        struct{} `cbor:",toarray"`
	Lease    LeaseID  `json:"lease"`
	At       TimeMs   `json:"at_ms"`
	Closed   bool     `json:"closed"` // upon notice; otherwise its money ran out
	Refunded Amount   `json:"refunded_nhyper"`
}

func (LeaseOpened) sealedEvent()  {}
func (LeaseChanged) sealedEvent() {}
func (LeasePaid) sealedEvent()    {}
func (LeaseEnded) sealedEvent()   {}

// append is the canonical encoding, as a thousand of these may end a block's leases. A test
// holds it equal to the codec's.
func (e LeasePaid) append(dst []byte) []byte {
	dst = codec.AppendBytes(e.Lease.append(codec.AppendArray(dst, 13)), e.Consumer[:])
	dst = codec.AppendBytes(codec.AppendBytes(dst, e.Provider[:]), e.Cluster[:])
	dst = codec.AppendUint(dst, uint64(e.Until))
	for _, part := range [...]Amount{e.Cost, e.Paid, e.Burned, e.Treasury, e.ClusterFee, e.PriorityBurned, e.PriorityFee} {
		dst = codec.AppendUint(dst, part.nano)
	}
	return appendRecords(dst, e.Records)
}

// append is LeasePaid's, of a lease's end.
func (e LeaseEnded) append(dst []byte) []byte {
	dst = codec.AppendUint(e.Lease.append(codec.AppendArray(dst, 4)), uint64(e.At))
	return codec.AppendUint(codec.AppendBool(dst, e.Closed), e.Refunded.nano)
}

func (id *LeaseID) append(dst []byte) []byte {
	return codec.AppendBytes(codec.AppendBytes(codec.AppendArray(dst, 2), id.Node[:]), id.Order[:])
}

// signatures lists what the deal's parties signed.
func (d *LeaseDeal) signatures() ([]crypto.Signed, error) {
	consumer, err := d.Order.Consumer.Ed25519()
	if err != nil {
		return nil, err
	}
	return []crypto.Signed{
		crypto.SignedBy(consumer, crypto.DomainOrder, d.Order.Payload(), d.OrderSig),
		crypto.SignedBy(d.Acceptance.Cluster, crypto.DomainAcceptance, d.Acceptance.Payload(), d.AcceptanceSig),
		crypto.SignedBy(d.Bid.Node, crypto.DomainBid, d.Bid.Payload(), d.BidSig),
		crypto.SignedBy(d.Acceptance.Cluster, crypto.DomainAward, d.Bid.Payload(), d.AwardSig),
	}, nil
}

// Check returns an error that names the first field of the deal that is outside its
// limits. Signatures and state are not looked at.
func (d *LeaseDeal) Check() error {
	if err := d.Order.Check(); err != nil {
		return err
	}
	if d.Order.Term == nil {
		return fmt.Errorf("%w: order has no term: it is not for a lease", ErrLimit)
	}
	return d.Bid.Check()
}

// Check returns an error that names the first field of the term that is outside its
// limits.
func (t *Term) Check() error {
	if len(t.Resources) == 0 || len(t.Resources) > len(Resources) {
		return limitError("term resources", len(t.Resources), len(Resources))
	}
	last := Resource(0)
	for _, q := range t.Resources {
		if err := checkResource("term resources", &last, q.Resource); err != nil {
			return err
		}
		if q.Resource == Network {
			return fmt.Errorf("%w: term resources: Network is moved, not kept", ErrLimit)
		}
		if q.Amount == 0 || q.Amount > MaxUsageAmount {
			return fmt.Errorf("%w: term keeps %d of %s, want 1 to %d", ErrLimit, q.Amount, q.Resource, uint64(MaxUsageAmount))
		}
	}
	if t.NoticeMs > MaxNoticeMs {
		return fmt.Errorf("%w: notice_ms is %d, limit %d", ErrLimit, t.NoticeMs, uint64(MaxNoticeMs))
	}
	if t.Service != nil {
		return t.Service.Check()
	}
	return nil
}
