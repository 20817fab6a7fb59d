package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MeterKey is a public metering key: a compressed point of the twisted Edwards curve over
// the proof system's scalar field. Package zk checks it.
type MeterKey [32]byte

// String returns the key as 64 hexadecimal digits.
func (k MeterKey) String() string { return crypto.Digest(k).String() }

// MarshalText is String.
func (k MeterKey) MarshalText() ([]byte, error) { return crypto.Digest(k).MarshalText() }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits.
func (k *MeterKey) UnmarshalText(text []byte) error { return (*crypto.Digest)(k).UnmarshalText(text) }

// MarshalText writes 64 hexadecimal digits.
func (f FieldBytes) MarshalText() ([]byte, error) { return crypto.Digest(f).MarshalText() }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits.
func (f *FieldBytes) UnmarshalText(text []byte) error { return (*crypto.Digest)(f).UnmarshalText(text) }

// MeterProof is a signature by a metering key, as package zk has it.
type MeterProof struct {
	_ struct{}   `cbor:",toarray"`
	X FieldBytes `json:"x"` // of R
	Y FieldBytes `json:"y"`
	S FieldBytes `json:"s"`
}

// RegisterMeter gives a node of the sender the key that its usage records are signed with
// from now on; batches under the one before are refused.
type RegisterMeter struct {
	_          struct{}         `cbor:",toarray"`
	Node       crypto.PublicKey `json:"node_id"`
	Key        MeterKey         `json:"key"`
	Possession MeterProof       `json:"possession"` // by Key, of chain and node
}

// BatchTotal is what the records of a batch sum up to for one resource: unit·ms, or units
// for Network, below 2⁹⁶.
type BatchTotal struct {
	_        struct{} `cbor:",toarray"`
	Resource Resource `json:"resource"`
	High     Number   `json:"high"` // times 2⁶⁴, below 2³²
	Low      Number   `json:"low"`
}

// BatchSummary is what is known of a batch of usage records of one order and node, whose
// records stay with its parties.
type BatchSummary struct {
	_       struct{}         `cbor:",toarray"`
	ChainID ChainID          `json:"chain_id"`
	Order   crypto.Digest    `json:"order"`
	Node    crypto.PublicKey `json:"node_id"`
	Meter   MeterKey         `json:"meter"`  // that signed the records
	After   Number           `json:"after"`  // every sequence is above it
	Last    Number           `json:"last"`   // the highest sequence
	Count   uint16           `json:"count"`  // records, 1 to MaxBatchRecords
	Totals  []BatchTotal     `json:"totals"` // of what was used at all, by ascending resource
	Root    FieldBytes       `json:"root"`   // of the tree over the records
	Started TimeMs           `json:"started_ms"`
	Ended   TimeMs           `json:"ended_ms"`
}

// Payload is what the home cluster signs, under DomainBatch, to say that it measured what
// the summary says.
func (s BatchSummary) Payload() []byte { return codec.Marshal(s) }

// UsageBatch asks for the payment of a batch: everything that the chain needs to check it.
type UsageBatch struct {
	_             struct{} `cbor:",toarray"`
	Order         Order
	OrderSig      crypto.Signature
	Acceptance    Acceptance
	AcceptanceSig crypto.Signature
	Bid           Bid
	BidSig        crypto.Signature
	Summary       BatchSummary
	Attestation   crypto.Signature // by the home cluster, over the summary
	Kernel        string           // usage-batch of some size
	Proof         []byte           // ≤ MaxProof
}

// SettleBatch pays one batch. Anyone may send it.
type SettleBatch struct {
	_     struct{} `cbor:",toarray"`
	Batch UsageBatch
}

func (RegisterMeter) sealedMsg() {}
func (SettleBatch) sealedMsg()   {}

// MeterRegistered says which key a node's usage records are signed with from now on.
type MeterRegistered struct {
	_     struct{}         `cbor:",toarray"`
	Node  crypto.PublicKey `json:"node_id"`
	Owner Address          `json:"owner"`
	Key   MeterKey         `json:"key"`
}

// BatchSettled says that a batch of usage records was proven, and paid out of the
// consumer's escrow: Cost = Paid + Burned + Treasury + ClusterFee, the order's priority fee PriorityBurned + PriorityFee of that. Whoever has a record
// shows with a path that it is under Root.
type BatchSettled struct {
	_              struct{}         `cbor:",toarray"`
	Order          crypto.Digest    `json:"order"`
	Node           crypto.PublicKey `json:"node_id"`
	Consumer       Address          `json:"consumer"`
	Provider       Address          `json:"provider"`
	Cluster        crypto.PublicKey `json:"cluster"`
	Meter          MeterKey         `json:"meter"`
	After          Number           `json:"after"`
	Last           Number           `json:"last"`
	Count          uint16           `json:"count"`
	Totals         []BatchTotal     `json:"totals"`
	Root           FieldBytes       `json:"root"`
	Kernel         string           `json:"kernel"`
	Ended          TimeMs           `json:"ended_ms"`
	Cost           Amount           `json:"cost_nhyper"`
	Paid           Amount           `json:"paid_nhyper"`
	Burned         Amount           `json:"burned_nhyper"`
	Treasury       Amount           `json:"treasury_nhyper"`
	ClusterFee     Amount           `json:"cluster_fee_nhyper"`
	PriorityBurned Amount           `json:"priority_burned_nhyper"` // of Burned
	PriorityFee    Amount           `json:"priority_fee_nhyper"`    // of ClusterFee
}

func (MeterRegistered) sealedEvent() {}
func (BatchSettled) sealedEvent()    {}

// signatures lists what the batch's parties signed. The records' own are in its proof.
func (b *UsageBatch) signatures() ([]crypto.Signed, error) {
	consumer, err := b.Order.Consumer.Ed25519()
	if err != nil {
		return nil, err
	}
	return []crypto.Signed{
		crypto.SignedBy(consumer, crypto.DomainOrder, b.Order.Payload(), b.OrderSig),
		crypto.SignedBy(b.Acceptance.Cluster, crypto.DomainAcceptance, b.Acceptance.Payload(), b.AcceptanceSig),
		crypto.SignedBy(b.Bid.Node, crypto.DomainBid, b.Bid.Payload(), b.BidSig),
		crypto.SignedBy(b.Order.Cluster, crypto.DomainBatch, b.Summary.Payload(), b.Attestation),
	}, nil
}

// Check returns an error that names the first field of the batch that is outside its
// limits. Signatures, the proof and state are not looked at.
func (b *UsageBatch) Check() error {
	if len(b.Proof) > MaxProof {
		return limitError("proof", len(b.Proof), MaxProof)
	}
	if err := checkText("kernel", b.Kernel, MaxKernelName); err != nil {
		return err
	}
	if err := b.Order.Check(); err != nil {
		return err
	}
	if err := b.Bid.Check(); err != nil {
		return err
	}
	return b.Summary.Check()
}

// Check returns an error that names the first field of the summary that is outside its
// limits.
func (s *BatchSummary) Check() error {
	if s.Last <= s.After {
		return fmt.Errorf("%w: batch after %d ends at %d", ErrLimit, s.After, s.Last)
	}
	if s.Count == 0 || s.Count > MaxBatchRecords || uint64(s.Count) > uint64(s.Last-s.After) {
		return fmt.Errorf("%w: batch of %d records in %d sequences, want 1 to %d", ErrLimit, s.Count, s.Last-s.After, MaxBatchRecords)
	}
	if len(s.Totals) > len(Resources) {
		return limitError("batch totals", len(s.Totals), len(Resources))
	}
	last := Resource(0)
	for _, t := range s.Totals {
		if err := checkResource("batch totals", &last, t.Resource); err != nil {
			return err
		}
		if t.High > maxTotalHigh || t.High == 0 && t.Low == 0 {
			return fmt.Errorf("%w: batch total of %s is %d · 2^64 + %d, want 1 to 2^96 - 1", ErrLimit, t.Resource, t.High, t.Low)
		}
	}
	if s.Ended < s.Started {
		return fmt.Errorf("%w: batch ended at %d, before its start at %d", ErrLimit, s.Ended, s.Started)
	}
	return nil
}

// MaxBatchRecords is the most records of a batch: those of the largest kernel.
const MaxBatchRecords = 112

const maxTotalHigh = 1<<32 - 1

// BatchCost returns what totals cost at prices: one floor on the sum, against the provider.
// It is what Cost returns of the records that they are the totals of.
func BatchCost(totals []BatchTotal, prices []UnitPrice) (Amount, error) {
	b := bill{prices: prices}
	for _, t := range totals {
		used, ok := checked.WideOf(uint64(t.High)).Mul(1 << 63)
		if ok {
			used, ok = used.Mul(2)
		}
		if ok {
			used, ok = used.Add(checked.WideOf(uint64(t.Low)))
		}
		if err := b.add(t.Resource, used, ok); err != nil {
			return Amount{}, err
		}
	}
	return b.total()
}
