package job

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Protocol is the transport's name of the connections between agents and
// servers.
const Protocol = "hypermesh/nexus/1"

// A session is one connection of Protocol. The agent dials every server of its
// cluster. The first stream that it opens is the control stream: it sends
// Hello, and both sides then exchange length-prefixed messages of at most
// MaxMessageBytes. Every other stream of the connection, whoever opens it, asks
// for one blob and is answered with blob.Store.Serve: agents fetch inputs,
// servers fetch outputs.
//
// An agent sends Hello again when what it offers has changed; the newest counts.
// It may answer an Assign twice: taken, and later a refusal, if the work could
// not be done for reasons of its own. Only the leader asks for bids and assigns;
// an agent is connected to followers as well, so that a new leader finds it
// there, and sends each of them its refusals, logs and Dones. A server says with
// Roster which servers there are, first of all and whenever they change.

// MaxMessageBytes bounds an encoded Message.
const MaxMessageBytes = 256 << 10

// MaxLogChunk bounds the data of one Log.
const MaxLogChunk = 32 << 10

// MaxServers bounds the servers of a Roster, and maxServerAddr each of them.
const (
	MaxServers    = 16
	maxServerAddr = 400
)

// MaxHeld bounds the assignments that an agent reports on connecting.
const MaxHeld = 2_048

// MaxList bounds the offers, bids or assignments of one message.
const MaxList = 256

// Message is what travels on the control stream. The sum is sealed: switch over
// it exhaustively, without default.
type Message interface{ sealedMessage() }

// Hello is the agent's first message: who it is, what it offers, and what it
// holds, so that both sides reconcile by state.
type Hello struct {
	_         struct{} `cbor:",toarray"`
	ChainID   chain.ChainID
	Owner     chain.Address
	Region    string
	Total     Resources
	Free      Resources
	GPUKind   string          // of its GPUs, which are of one kind
	Kernels   []string        // zk kernels that it can prove, and KindContainer if it runs containers
	Running   []crypto.Digest // order ids
	Finished  []crypto.Digest // order ids whose Done was not acknowledged
	Accepting bool            // false: paused or draining
}

// Offers asks the agent for sealed bids, one for each order. Auctions that open
// at the same time go together.
type Offers struct {
	_       struct{} `cbor:",toarray"`
	List    []Offer  // 1 to MaxList
	Specs   []Spec   // that the orders name by digest, each once
	CloseMs uint64   // how long the auctions stay open
}

// Offer is one auction's order.
type Offer struct {
	_       struct{} `cbor:",toarray"`
	Auction uint64
	Order   chain.Order
}

// Bids answers Offers, in one message or several.
type Bids struct {
	_    struct{}   `cbor:",toarray"`
	List []BidReply // 1 to MaxList
}

// BidReply answers an Offer: a signed bid, or a reason for none.
type BidReply struct {
	_       struct{} `cbor:",toarray"`
	Auction uint64
	Bid     chain.Bid // zero with Decline
	BidSig  crypto.Signature
	Decline string // empty: the bid stands
}

// Assign gives the agent orders that it bid for.
type Assign struct {
	_    struct{}     `cbor:",toarray"`
	List []Assignment // 1 to MaxList
}

// AssignReply says whether the agent took an assignment.
type AssignReply struct {
	_      struct{} `cbor:",toarray"`
	Order  crypto.Digest
	Refuse string // empty: taken, or already running
}

// ClusterDoubted begins the Refuse of an agent that learned after its bid that the home cluster
// has too little to lose: it is no failure of its node's.
const ClusterDoubted = "cluster doubted: "

// Cancel ends an assignment.
type Cancel struct {
	_      struct{} `cbor:",toarray"`
	Order  crypto.Digest
	Reason string
}

// Log is a piece of a running program's output. An agent that has no session
// keeps the newest for the next one, and then sends it again: order, beginning,
// stream and offset say which bytes are meant.
type Log struct {
	_      struct{} `cbor:",toarray"`
	Order  crypto.Digest
	Begun  chain.TimeMs // of the work, by the agent's clock: what is run again is another stream
	Stderr bool
	Offset uint64 // of Data within its stream
	Data   []byte // ≤ MaxLogChunk
}

// Done is the signed end of an assignment. The agent repeats it on every new
// session until it is acknowledged, and keeps the output until then.
type Done struct {
	_          struct{} `cbor:",toarray"`
	Receipt    chain.UsageReceipt
	ReceiptSig crypto.Signature
	Proof      []byte
	Output     crypto.Digest // blob; zero: none
	OutputSize uint64
	Detail     string   // one line for people
	Salt       [32]byte // under replicate: that the receipt was pledged with
}

// Blob returns the blob that the node hands over: the output, or under a fair exchange what
// it is sealed in; zero: there is none.
func (d *Done) Blob() crypto.Digest {
	if d.Receipt.Sealed != nil {
		return d.Receipt.Sealed.Output
	}
	return d.Output
}

// Pledge is the end of an assignment under replicate: the node is bound to its receipt, and
// shows it, in a Done, when it is asked to by Show. The agent repeats it until then.
type Pledge struct {
	_          struct{} `cbor:",toarray"`
	Order      crypto.Digest
	Commitment crypto.Digest    // chain.RunCommitment of its receipt
	Place      uint8            // of the assignment
	Signature  crypto.Signature // by the node, over chain.RunPayload under DomainRun
}

// Show asks for the Done of a Pledge: all who run the order are bound to what they found.
type Show struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
}

// Judge asks the agent, whose node was drawn for a panel, to run an order that others ran,
// and to vote on its result. It is repeated until the Ballot is there, and then, when the
// chain has the panel's jurors show their votes, until the Opening is.
type Judge struct {
	_          struct{} `cbor:",toarray"`
	Panel      crypto.Digest
	Order      crypto.Digest
	Assignment *Assignment // of another node: its bid, if there is one, is not this node's; nil: the job's data could not be had yet
	Open       bool        // the jurors show their votes
}

// Ballot answers Judge: the node is bound to a vote, of which nobody knows more.
type Ballot struct {
	_          struct{} `cbor:",toarray"`
	Order      crypto.Digest
	Panel      crypto.Digest
	Node       crypto.PublicKey
	Commitment crypto.Digest    // chain.Testimony.Commitment
	Signature  crypto.Signature // by the node, over chain.VotePayload, under DomainVote
}

// Opening answers Judge.Open: the vote that the node is bound to.
type Opening struct {
	_         struct{} `cbor:",toarray"`
	Panel     crypto.Digest
	Node      crypto.PublicKey
	Testimony chain.Testimony
	Salt      [32]byte
}

// Ack tells the agent that a majority of servers holds its Done and output, or
// why they never will; either way it may forget them. Of a sealed output it brings the
// cluster's attestation, for which the agent shows the key, and is repeated with Revealed
// when a majority has that.
type Ack struct {
	_           struct{} `cbor:",toarray"`
	Order       crypto.Digest
	Refuse      string
	Attestation crypto.Signature // by the cluster, over a receipt with a sealed output; else zero
	Revealed    bool
}

// Reveal shows the key of a sealed output: the node has all that it needs to be paid,
// whatever becomes of the cluster. It is repeated until it is acknowledged.
type Reveal struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
	Key   chain.OutputKey
}

// Load tells the servers that what the agent has free, or whether it accepts
// work, has changed in a way that they could not know from its other messages.
type Load struct {
	_         struct{} `cbor:",toarray"`
	Free      Resources
	Accepting bool
}

// Roster is the servers of the cluster, as the sender knows them. The newest
// counts, by whichever of them it was sent: the connection says that it is one.
type Roster struct {
	_       struct{} `cbor:",toarray"`
	Index   uint64   // of the configuration in the cluster's log
	Servers []string // NODEID@HOST:PORT, 1 to MaxServers
}

func (Hello) sealedMessage()       {}
func (Offers) sealedMessage()      {}
func (Bids) sealedMessage()        {}
func (Assign) sealedMessage()      {}
func (AssignReply) sealedMessage() {}
func (Cancel) sealedMessage()      {}
func (Log) sealedMessage()         {}
func (Done) sealedMessage()        {}
func (Ack) sealedMessage()         {}
func (Reveal) sealedMessage()      {}
func (Load) sealedMessage()        {}
func (Roster) sealedMessage()      {}
func (Tunnel) sealedMessage()      {}
func (Pledge) sealedMessage()      {}
func (Show) sealedMessage()        {}
func (Judge) sealedMessage()       {}
func (Ballot) sealedMessage()      {}
func (Opening) sealedMessage()     {}

const (
	kindHello uint8 = iota + 1
	kindOffers
	kindBids
	kindAssign
	kindAssignReply
	kindCancel
	kindLog
	kindDone
	kindAck
	kindLoad
	kindRoster
	kindTunnel
	kindPledge
	kindShow
	kindJudge
	kindBallot
	kindOpening
)

// kindReveal is apart from those that follow each other: others have theirs between.
const kindReveal uint8 = 48

type messageHead struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body codec.Raw
}

// EncodeMessage returns the canonical bytes of a message.
func EncodeMessage(m Message) []byte {
	return codec.Marshal(messageHead{Kind: messageKind(m), Body: codec.Marshal(m)})
}

func messageKind(m Message) uint8 {
	switch m.(type) {
	case Hello:
		return kindHello
	case Offers:
		return kindOffers
	case Bids:
		return kindBids
	case Assign:
		return kindAssign
	case AssignReply:
		return kindAssignReply
	case Cancel:
		return kindCancel
	case Log:
		return kindLog
	case Done:
		return kindDone
	case Ack:
		return kindAck
	case Reveal:
		return kindReveal
	case Load:
		return kindLoad
	case Roster:
		return kindRoster
	case Tunnel:
		return kindTunnel
	case Pledge:
		return kindPledge
	case Show:
		return kindShow
	case Judge:
		return kindJudge
	case Ballot:
		return kindBallot
	case Opening:
		return kindOpening
	case Watch:
		return kindWatch
	case Probe:
		return kindProbe
	case ProbeReply:
		return kindProbeReply
	case PeerReport:
		return kindPeerReport
	case Unanswered:
		return kindUnanswered
	case Measure:
		return kindMeasure
	case LanesShown:
		return kindLanesShown
	case LaneQuestion:
		return kindLaneQuestion
	case LaneOpened:
		return kindLaneOpened
	case Measured:
		return kindMeasured
	case AskHome:
		return kindAskHome
	case AtHome:
		return kindAtHome
	}
	panic(fmt.Sprintf("job: message of type %T", m))
}

// DecodeMessage decodes canonical bytes and checks the message's bounds.
func DecodeMessage(raw []byte) (Message, error) {
	var head messageHead
	if err := codec.Unmarshal(raw, &head, MaxMessageBytes); err != nil {
		return nil, fmt.Errorf("job: message: %w", err)
	}
	decode, ok := messageDecoders[head.Kind]
	if !ok {
		return nil, fmt.Errorf("job: message kind %d is unknown", head.Kind)
	}
	return decode(head.Body)
}

var messageDecoders = map[uint8]func([]byte) (Message, error){
	kindHello:       decodeMessage[Hello],
	kindOffers:      decodeOffers,
	kindBids:        decodeBids,
	kindAssign:      decodeAssign,
	kindAssignReply: decodeMessage[AssignReply],
	kindCancel:      decodeMessage[Cancel],
	kindLog:         decodeMessage[Log],
	kindDone:        decodeMessage[Done],
	kindAck:         decodeMessage[Ack],
	kindReveal:      decodeMessage[Reveal],
	kindLoad:        decodeMessage[Load],
	kindRoster:      decodeMessage[Roster],
	kindTunnel:      decodeMessage[Tunnel],
	kindPledge:      decodeMessage[Pledge],
	kindShow:        decodeMessage[Show],
	kindJudge:       decodeMessage[Judge],
	kindBallot:      decodeMessage[Ballot],
	kindOpening:     decodeMessage[Opening],
	kindWatch:       decodeMessage[Watch],
	kindProbe:       decodeMessage[Probe],
	kindProbeReply:  decodeMessage[ProbeReply],
	kindPeerReport:  decodeMessage[PeerReport],
	kindUnanswered:  decodeMessage[Unanswered],

	kindMeasure:      decodeMessage[Measure],
	kindLanesShown:   decodeMessage[LanesShown],
	kindLaneQuestion: decodeMessage[LaneQuestion],
	kindLaneOpened:   decodeMessage[LaneOpened],
	kindMeasured:     decodeMessage[Measured],
	kindAskHome:      decodeMessage[AskHome],
	kindAtHome:       decodeMessage[AtHome],
}

func decodeMessage[T Message](body []byte) (Message, error) {
	var m T
	if err := codec.Unmarshal(body, &m, MaxMessageBytes); err != nil {
		return nil, fmt.Errorf("job: message %T: %w", m, err)
	}
	return checked(m)
}

// The lists of a message are decoded apart, because their lengths are looked at
// before they are made.

func decodeOffers(body []byte) (Message, error) {
	var parts struct {
		_           struct{} `cbor:",toarray"`
		List, Specs codec.Raw
		CloseMs     uint64
	}
	if err := codec.Unmarshal(body, &parts, MaxMessageBytes); err != nil {
		return nil, fmt.Errorf("job: offers: %w", err)
	}
	m := Offers{CloseMs: parts.CloseMs}
	var err error
	if m.List, err = decodeList[Offer](parts.List); err != nil {
		return nil, fmt.Errorf("job: offers: %w", err)
	}
	if m.Specs, err = decodeList[Spec](parts.Specs); err != nil {
		return nil, fmt.Errorf("job: specifications of offers: %w", err)
	}
	return checked(m)
}

func decodeBids(body []byte) (Message, error) {
	list, err := decodeOnly[BidReply](body)
	if err != nil {
		return nil, fmt.Errorf("job: bids: %w", err)
	}
	return checked(Bids{List: list})
}

func decodeAssign(body []byte) (Message, error) {
	list, err := decodeOnly[Assignment](body)
	if err != nil {
		return nil, fmt.Errorf("job: assignments: %w", err)
	}
	return checked(Assign{List: list})
}

// decodeOnly decodes a message that is one list.
func decodeOnly[T any](body []byte) ([]T, error) {
	var parts struct {
		_    struct{} `cbor:",toarray"`
		List codec.Raw
	}
	if err := codec.Unmarshal(body, &parts, MaxMessageBytes); err != nil {
		return nil, err
	}
	return decodeList[T](parts.List)
}

func decodeList[T any](raw []byte) ([]T, error) {
	list, err := codec.UnmarshalList[T](raw, MaxList, MaxMessageBytes)
	if err == nil && len(list) == 0 {
		err = errors.New("an empty list")
	}
	return list, err
}

func checked(m Message) (Message, error) {
	if err := checkMessage(m); err != nil {
		return nil, fmt.Errorf("job: message %T: %w", m, err)
	}
	return m, nil
}

const maxReason = 512

func checkMessage(m Message) error {
	switch m := m.(type) {
	case Hello:
		return checkHello(m)
	case Offers:
		_, err := m.Work()
		return err
	case Bids:
		for i := range m.List {
			if err := m.List[i].check(); err != nil {
				return err
			}
		}
		return nil
	case Assign:
		for i := range m.List {
			if err := m.List[i].check(); err != nil {
				return err
			}
		}
		return nil
	case AssignReply:
		return checkReason(m.Refuse)
	case Cancel:
		return checkReason(m.Reason)
	case Log:
		if len(m.Data) > MaxLogChunk {
			return fmt.Errorf("log data has %d bytes, limit %d", len(m.Data), MaxLogChunk)
		}
		return nil
	case Done:
		return m.check()
	case Ack:
		return checkReason(m.Refuse)
	case Load, Tunnel, Show, Opening, Unanswered, Reveal, AskHome:
		return nil
	case Ballot:
		if m.Commitment.IsZero() {
			return errors.New("the commitment is zero")
		}
		return nil
	case Pledge:
		if m.Commitment.IsZero() {
			return errors.New("the commitment is zero")
		}
		return nil
	case Judge:
		return m.Check()
	case Watch:
		return m.check()
	case Probe:
		return m.check()
	case ProbeReply:
		return m.check()
	case PeerReport:
		return m.check()
	case Measure, LanesShown, LaneQuestion, LaneOpened, Measured:
		return checkHardware(m)
	case AtHome:
		return m.Home.ChainID.Check()
	case Roster:
		return checkRoster(m)
	}
	panic(fmt.Sprintf("job: message of type %T", m))
}

func (d *Done) check() error {
	if len(d.Proof) > chain.MaxProof {
		return fmt.Errorf("proof has %d bytes, limit %d", len(d.Proof), chain.MaxProof)
	}
	if err := checkReason(d.Detail); err != nil {
		return err
	}
	return d.Receipt.Check()
}

// Work returns the specification of each offer. It is an error if one is missing,
// is nobody's, or does not belong to its order.
func (m *Offers) Work() ([]*Spec, error) {
	specs := make(map[crypto.Digest]*Spec, len(m.Specs))
	for i := range m.Specs {
		if err := m.Specs[i].Check(); err != nil {
			return nil, err
		}
		specs[m.Specs[i].Digest()] = &m.Specs[i]
	}
	if len(specs) < len(m.Specs) {
		return nil, errors.New("a specification is there twice")
	}
	out := make([]*Spec, len(m.List))
	named := map[crypto.Digest]bool{}
	for i := range m.List {
		order := &m.List[i].Order
		if out[i] = specs[order.Spec]; out[i] == nil {
			return nil, fmt.Errorf("%w: the order names %s, which is not there", ErrSpec, order.Spec.Short())
		}
		named[order.Spec] = true
		if err := order.Check(); err != nil {
			return nil, err
		}
		if err := CheckTogether(order, out[i], order.Spec); err != nil {
			return nil, err
		}
	}
	if len(named) < len(specs) {
		return nil, errors.New("no order names one of the specifications")
	}
	return out, nil
}

func (r *BidReply) check() error {
	if r.Decline == "" {
		return r.Bid.Check()
	}
	return checkReason(r.Decline)
}

// Check returns an error that says what of the matter does not fit together. An agent ends
// the session of a server that sends such a one.
func (m *Judge) Check() error {
	if m.Assignment == nil {
		return nil
	}
	if m.Assignment.Order.ID() != m.Order {
		return errors.New("the assignment is of another order than is judged")
	}
	return m.Assignment.checkWork()
}

func (a *Assignment) check() error {
	if err := a.Bid.Check(); err != nil {
		return err
	}
	return a.checkWork()
}

func (a *Assignment) checkWork() error {
	if err := CheckOrder(&a.Order, &a.Spec); err != nil {
		return err
	}
	if a.Input.IsZero() != a.Spec.Scheduling.InputOf.IsZero() {
		return errors.New("the assignment has an input that the specification does not ask for, or lacks it")
	}
	if uint64(len(a.Devices)) != a.Spec.Resources.GPUs {
		return fmt.Errorf("the assignment gives %d gpus, the specification asks for %d", len(a.Devices), a.Spec.Resources.GPUs)
	}
	if _, replicated := a.Order.Policy.Policy.(chain.PolicyReplicate); a.Place > 0 && (!replicated || a.Place >= chain.MaxReplicas) {
		return fmt.Errorf("the assignment has place %d under policy %s, want less than %d, and 0 of all but replicas", a.Place, a.Order.Policy, chain.MaxReplicas)
	}
	return nil
}

func checkReason(s string) error {
	if len(s) > maxReason {
		return fmt.Errorf("reason has %d bytes, limit %d", len(s), maxReason)
	}
	return nil
}

func checkHello(m Hello) error {
	if err := m.ChainID.Check(); err != nil {
		return err
	}
	if len(m.Region) > chain.MaxRegion {
		return fmt.Errorf("region has %d bytes, limit %d", len(m.Region), chain.MaxRegion)
	}
	if len(m.GPUKind) > MaxGPUKind {
		return fmt.Errorf("gpu kind has %d bytes, limit %d", len(m.GPUKind), MaxGPUKind)
	}
	if m.Total.GPUs > MaxGPUs {
		return fmt.Errorf("it has %d gpus, limit %d", m.Total.GPUs, MaxGPUs)
	}
	if len(m.Kernels) > 64 {
		return fmt.Errorf("kernels has %d, limit 64", len(m.Kernels))
	}
	for _, k := range m.Kernels {
		if len(k) > chain.MaxKernelName {
			return fmt.Errorf("kernel name has %d bytes, limit %d", len(k), chain.MaxKernelName)
		}
	}
	if len(m.Running)+len(m.Finished) > MaxHeld {
		return fmt.Errorf("it holds %d assignments, limit %d", len(m.Running)+len(m.Finished), MaxHeld)
	}
	return nil
}

func checkRoster(m Roster) error {
	if n := len(m.Servers); n == 0 || n > MaxServers {
		return fmt.Errorf("a roster of %d servers, want 1 to %d", n, MaxServers)
	}
	for _, s := range m.Servers {
		if len(s) > maxServerAddr {
			return fmt.Errorf("a server of %d bytes, limit %d", len(s), maxServerAddr)
		}
	}
	return nil
}
