package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of replicated work.
const (
	MaxSlate       = 16 // bids
	MinRunWindowMs = 1_000
	MaxRunWindowMs = 24 * 3600 * 1000
)

// BeginRun begins an order under PolicyReplicate: its primary, the first node of the
// slate, has run it and is bound to its receipt without showing it. From then on the
// chain says who runs it besides, and when receipts are shown. Anyone may send it.
type BeginRun struct {
	_             struct{} `cbor:",toarray"`
	Order         Order
	OrderSig      crypto.Signature
	Acceptance    Acceptance
	AcceptanceSig crypto.Signature
	Slate         Slate            // who bid: whoever runs the order is among them
	SlateSig      crypto.Signature // by the cluster, over SlatePayload under DomainSlate
	Commitment    crypto.Digest    // RunCommitment of the primary's receipt
	Signature     crypto.Signature // by the primary, over RunPayload under DomainRun
}

// Slate lists the bids of an order's auction, the primary's first.
type Slate []SlateBid

// UnmarshalCBOR decodes at most MaxSlate bids.
func (s *Slate) UnmarshalCBOR(data []byte) error {
	return unmarshalList(data, (*[]SlateBid)(s), "slate", MaxSlate)
}

// SlateBid is a Bid for metered work without what all bids of an order share.
type SlateBid struct {
	_         struct{} `cbor:",toarray"`
	Node      crypto.PublicKey
	Prices    []UnitPrice // by ascending resource
	Expiry    TimeMs
	Signature crypto.Signature // of the Bid
}

// SlateBidOf returns a bid for metered work as a slate lists it.
func SlateBidOf(b *Bid, signature crypto.Signature) SlateBid {
	return SlateBid{Node: b.Node, Prices: b.Prices, Expiry: b.Expiry, Signature: signature}
}

// Bid returns what the node signed.
func (b *SlateBid) Bid(id ChainID, order crypto.Digest) Bid {
	return Bid{ChainID: id, Order: order, Node: b.Node, Prices: b.Prices, Expiry: b.Expiry}
}

// SlatePayload is what the home cluster signs under DomainSlate, to say that these were
// the bids and that the first is the primary's. Without it whoever sees an acceptance
// could begin the order itself, among bidders of its choice.
func SlatePayload(id ChainID, order crypto.Digest, s Slate) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID ChainID
		Order   crypto.Digest
		Slate   Slate
	}{ChainID: id, Order: order, Slate: s})
}

// CommitRun binds a node that was drawn to run an order to its receipt, without showing
// it. Anyone may send it.
type CommitRun struct {
	_          struct{} `cbor:",toarray"`
	ChainID    ChainID
	Order      crypto.Digest
	Node       crypto.PublicKey
	Commitment crypto.Digest    // RunCommitment of the node's receipt
	Place      uint8            // how many were asked to run it before the node
	Signature  crypto.Signature // by the node, over RunPayload under DomainRun
}

// RunCommitment is what a node commits to: its receipt, itself and a salt without which
// the receipt could be guessed.
func RunCommitment(receipt crypto.Digest, node crypto.PublicKey, salt [32]byte) crypto.Digest {
	data := make([]byte, 0, len(receipt)+len(node)+len(salt))
	data = append(append(append(data, receipt[:]...), node[:]...), salt[:]...)
	return crypto.DomainCommitment.Hash(data)
}

// RunPayload is what a node signs under DomainRun. Its receipt shows the link of its place among those who
// run the order, 0 for the primary: what it signed for one place binds it to nothing at another.
func RunPayload(id ChainID, order, commitment crypto.Digest, place uint8) []byte {
	return codec.Marshal(struct {
		_          struct{} `cbor:",toarray"`
		ChainID    ChainID
		Order      crypto.Digest
		Commitment crypto.Digest
		Place      uint8
	}{ChainID: id, Order: order, Commitment: commitment, Place: place})
}

// RevealRun shows the receipt that a node committed to. Anyone who has it may send it.
type RevealRun struct {
	_           struct{} `cbor:",toarray"`
	Receipt     UsageReceipt
	ReceiptSig  crypto.Signature // by the node
	Salt        [32]byte
	Cluster     crypto.PublicKey // the order's home cluster
	Attestation crypto.Signature // by it, over the receipt; zero: there is none
}

// Attested reports whether the cluster's word comes with the receipt. Without it a receipt is taken only late, and saves
// its node's stake alone.
func (m *RevealRun) Attested() bool { return m.Attestation != (crypto.Signature{}) }

// CollectRun pays an order of which it has been found who is to be paid, by a block's own doing: that
// pays nobody before an hour has passed. Anyone may send it.
type CollectRun struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
}

func (BeginRun) sealedMsg()   {}
func (CommitRun) sealedMsg()  {}
func (RevealRun) sealedMsg()  {}
func (CollectRun) sealedMsg() {}

// signatures lists what the message's parties signed.
func (m *BeginRun) signatures() ([]crypto.Signed, error) {
	consumer, err := m.Order.Consumer.Ed25519()
	if err != nil {
		return nil, err
	}
	id, order := m.Order.ChainID, m.Order.ID()
	list := []crypto.Signed{
		crypto.SignedBy(consumer, crypto.DomainOrder, m.Order.Payload(), m.OrderSig),
		crypto.SignedBy(m.Acceptance.Cluster, crypto.DomainAcceptance, m.Acceptance.Payload(), m.AcceptanceSig),
		crypto.SignedBy(m.Order.Cluster, crypto.DomainSlate, SlatePayload(id, order, m.Slate), m.SlateSig),
		crypto.SignedBy(m.Slate[0].Node, crypto.DomainRun, RunPayload(id, order, m.Commitment, 0), m.Signature),
	}
	for i := range m.Slate {
		b := &m.Slate[i]
		list = append(list, crypto.SignedBy(b.Node, crypto.DomainBid, b.Bid(id, order).Payload(), b.Signature))
	}
	return list, nil
}

func (m *CommitRun) signatures() ([]crypto.Signed, error) {
	return []crypto.Signed{crypto.SignedBy(m.Node, crypto.DomainRun, RunPayload(m.ChainID, m.Order, m.Commitment, m.Place), m.Signature)}, nil
}

func (m *RevealRun) signatures() ([]crypto.Signed, error) {
	list := []crypto.Signed{crypto.SignedBy(m.Receipt.Node, crypto.DomainUsage, m.Receipt.Payload(), m.ReceiptSig)}
	if m.Attested() {
		attested := AttestationPayload(m.Receipt.ChainID, m.Receipt.Digest())
		list = append(list, crypto.SignedBy(m.Cluster, crypto.DomainAttestation, attested, m.Attestation))
	}
	return list, nil
}

func (m *BeginRun) check() error {
	if err := m.Order.Check(); err != nil {
		return err
	}
	if _, replicated := m.Order.Policy.Policy.(PolicyReplicate); !replicated {
		return fmt.Errorf("%w: the order's policy is %s, want replicate", ErrLimit, m.Order.Policy)
	}
	if len(m.Slate) == 0 || len(m.Slate) > MaxSlate {
		return limitError("slate", len(m.Slate), MaxSlate)
	}
	nodes := make(map[crypto.PublicKey]bool, len(m.Slate))
	for i := range m.Slate {
		b := &m.Slate[i]
		if err := checkPrices("slate prices", b.Prices); err != nil {
			return err
		}
		if nodes[b.Node] {
			return fmt.Errorf("%w: slate has node %s twice", ErrLimit, b.Node.Short())
		}
		nodes[b.Node] = true
	}
	return checkCommitment(m.Commitment)
}

func (m *CommitRun) check() error {
	if err := m.ChainID.Check(); err != nil {
		return err
	}
	if m.Place >= MaxReplicas {
		return fmt.Errorf("%w: place %d among the runs of an order, want less than %d", ErrLimit, m.Place, MaxReplicas)
	}
	return checkCommitment(m.Commitment)
}

func (m *RevealRun) check() error {
	if m.Receipt.Sealed != nil {
		return fmt.Errorf("%w: the receipt of a replicated run is sealed: others compare what it says", ErrLimit)
	}
	if err := m.Receipt.CheckTrace(PolicyReplicate{}); err != nil {
		return err
	}
	return m.Receipt.Check()
}

func checkCommitment(c crypto.Digest) error {
	if c.IsZero() {
		return fmt.Errorf("%w: commitment is zero", ErrLimit)
	}
	return nil
}

// checkReplicate returns an error that names the first field of the policy that is outside
// its limits.
func checkReplicate(p PolicyReplicate) error {
	if p.K < 2 || p.K > p.N || p.N > MaxReplicas {
		return fmt.Errorf("%w: replicate %d of %d, want 2 ≤ k ≤ n ≤ %d", ErrLimit, p.K, p.N, MaxReplicas)
	}
	if p.WindowMs < MinRunWindowMs || p.WindowMs > MaxRunWindowMs {
		return fmt.Errorf("%w: replicate window_ms is %d, want %d to %d", ErrLimit, p.WindowMs, MinRunWindowMs, MaxRunWindowMs)
	}
	return nil
}

// RunBegun says that an order under PolicyReplicate has begun: Node is bound to what it
// found, with Stake of its bond. At DrawAt the chain says whether others run it too.
type RunBegun struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Consumer Address          `json:"consumer"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Node     crypto.PublicKey `json:"node_id"`
	Stake    Amount           `json:"stake_nhyper"`
	DrawAt   Number           `json:"draw_at"` // height
}

// RunsDrawn says which nodes run an order besides. Until CommitBy they commit to what they
// find.
type RunsDrawn struct {
	_        struct{}           `cbor:",toarray"`
	Order    crypto.Digest      `json:"order"`
	Nodes    []crypto.PublicKey `json:"nodes"`
	CommitBy Number             `json:"commit_by_ms"` // of the chain's progress
}

// RunCommitted says that a node is bound to what it found.
type RunCommitted struct {
	_     struct{}         `cbor:",toarray"`
	Order crypto.Digest    `json:"order"`
	Node  crypto.PublicKey `json:"node_id"`
}

// RunsRevealing says that those who are bound show their receipts until RevealBy. An order
// that is not checked is its primary's alone.
type RunsRevealing struct {
	_        struct{}      `cbor:",toarray"`
	Order    crypto.Digest `json:"order"`
	Checked  bool          `json:"checked"`
	RevealBy Number        `json:"reveal_by_ms"` // of the chain's progress
}

// RunEnded says what was found of an order in the end, and how many of its nodes are paid.
type RunEnded struct {
	_       struct{}      `cbor:",toarray"`
	Order   crypto.Digest `json:"order"`
	Finding string        `json:"finding"` // RunFinding.String
	Paid    Number        `json:"paid"`
}

// JurorsPaid says that an order's consumer paid jurors where nobody was wrong who could: no panel found anything, and each of these votes is
// what a run gave, or what another juror found.
type JurorsPaid struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Consumer Address          `json:"consumer"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Jurors   []Address        `json:"jurors"` // the nodes' owners
	Each     Amount           `json:"each_nhyper"`
	Cost     Amount           `json:"cost_nhyper"` // of all of them
}

// RunFinding is what was found of an order.
type RunFinding uint8

// The findings.
const (
	RunUnchecked    RunFinding = iota + 1 // nothing: its primary is paid by its word
	RunAgreed                             // as many as were asked for agree, and nobody dissents
	RunJudged                             // a panel found the result
	RunUnstable                           // it gives other results from run to run, or a panel found nothing: nobody is to blame
	RunUnavailable                        // its program or inputs cannot be had
	RunAbandoned                          // nobody who was asked ran it
	RunUnjudged                           // too few agree, and too few jurors voted: nobody is to blame, or paid
	runFindingCount = iota + 1
)

// String names the finding.
func (f RunFinding) String() string {
	names := [runFindingCount]string{"", "unchecked", "agreed", "judged", "unstable", "unavailable", "abandoned", "unjudged"}
	if f == 0 || int(f) >= runFindingCount {
		return fmt.Sprintf("RunFinding(%d)", uint8(f))
	}
	return names[f]
}

func (RunBegun) sealedEvent()      {}
func (RunsDrawn) sealedEvent()     {}
func (RunCommitted) sealedEvent()  {}
func (RunsRevealing) sealedEvent() {}
func (RunEnded) sealedEvent()      {}
func (JurorsPaid) sealedEvent()    {}
