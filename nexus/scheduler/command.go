package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Bounds of what raft replicates.
const (
	MaxCommandBytes = 1 << 20 // of one encoded Command
	MaxEntryBytes   = 4 << 20 // of an encoded Entry
	MaxCommands     = 1_024   // of an Entry
	MaxBids         = 1_024   // of a CloseAuction
)

// Command changes the state. The sum is sealed: switch over it exhaustively,
// without default.
type Command interface{ sealedCommand() }

// Submit accepts an order. The leader has verified its signature and that a
// majority of servers holds its blobs.
type Submit struct {
	_        struct{} `cbor:",toarray"`
	Order    chain.Order
	OrderSig crypto.Signature
	Spec     job.Spec
	Escrow   chain.Amount // the balance of the consumer's escrow at this cluster, without its withdrawals, as proven by the chain
	Height   chain.Height // of the state that the proof is of
	TimeMs   chain.TimeMs // of that block
}

// NodeUp says that an agent has a session with the leader. The leader has
// checked on the chain that its owner registered it.
type NodeUp struct {
	_     struct{} `cbor:",toarray"`
	Node  crypto.PublicKey
	Hello job.Hello
	// Premium is match.Premium of the node's score on the chain; what is above the
	// largest counts as that.
	Premium uint64
	Record  *Capacity
}

// NodeDown says that an agent's last session ended and the time to come back is
// over: what it runs is given to others.
type NodeDown struct {
	_    struct{} `cbor:",toarray"`
	Node crypto.PublicKey
}

// NodeLoad says whether an agent accepts work now, and what the chain has of its node.
type NodeLoad struct {
	_         struct{} `cbor:",toarray"`
	Node      crypto.PublicKey
	Accepting bool
	Record    *Capacity
}

// Capacity is what the chain has of a node's hardware, which others measure; nil stands for
// one of which it says nothing.
type Capacity struct {
	_          struct{} `cbor:",toarray"`
	Millicores uint64
	MemoryMiB  uint64
}

// same reports whether two say the same.
func (c *Capacity) same(other *Capacity) bool {
	return c == other || c != nil && other != nil && *c == *other
}

// SignedBid is a bid whose signature the leader verified.
type SignedBid struct {
	_      struct{} `cbor:",toarray"`
	Bid    chain.Bid
	BidSig crypto.Signature
}

// CloseAuction ends an auction with the bids that came in time.
type CloseAuction struct {
	_       struct{} `cbor:",toarray"`
	Order   crypto.Digest
	Auction uint64
	Bids    []SignedBid
	Checks  []SignedBid // of nodes that may not begin the work, and check it if it lacks others for that
}

// Refused says that a node did not take its assignment.
type Refused struct {
	_      struct{} `cbor:",toarray"`
	Order  crypto.Digest
	Node   crypto.PublicKey
	Reason string
}

// Finished brings an assignment's signed end. The leader has verified the
// signature and that a majority of servers holds the output.
type Finished struct {
	_    struct{} `cbor:",toarray"`
	Done job.Done
}

// CancelJob ends a job on its consumer's request, whose signature the leader
// verified.
type CancelJob struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
}

// Confirmed says what the chain made of a job's claims, which the leader read
// from the chain with proof. A claim window that ended without payment is a
// Failure.
type Confirmed struct {
	_       struct{} `cbor:",toarray"`
	Order   crypto.Digest
	Outcome SettlementRecord
	Failure string      // empty: settled; else why no claim of the job will be paid
	Refuted *Refutation // with Failure: the chain takes another node's claim
}

// SetSettings changes the settings. The leader has verified the operator's
// signature.
type SetSettings struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64   // of the settings that are changed: one that was overtaken is refused
	Settings job.Settings
}

// Tick lets time pass.
type Tick struct {
	_ struct{} `cbor:",toarray"`
}

func (Submit) sealedCommand()       {}
func (NodeUp) sealedCommand()       {}
func (NodeDown) sealedCommand()     {}
func (NodeLoad) sealedCommand()     {}
func (CloseAuction) sealedCommand() {}
func (Refused) sealedCommand()      {}
func (Finished) sealedCommand()     {}
func (CancelJob) sealedCommand()    {}
func (Confirmed) sealedCommand()    {}
func (Tick) sealedCommand()         {}
func (SetSettings) sealedCommand()  {}
func (MadePledge) sealedCommand()   {}
func (Observed) sealedCommand()     {}

// Entry is commands with the leader's time: what raft replicates. It is one
// write to the log however many commands it carries.
type Entry struct {
	TimeMs   chain.TimeMs
	Commands []Command // 1 to MaxCommands
}

type entryWire struct {
	_        struct{} `cbor:",toarray"`
	TimeMs   chain.TimeMs
	Commands []commandWire
}

type commandWire struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body codec.Raw
}

const (
	kindSubmit uint8 = iota + 1
	kindNodeUp
	kindNodeDown
	kindNodeLoad
	kindCloseAuction
	kindRefused
	kindFinished
	kindCancelJob
	kindConfirmed
	kindTick
	kindSetSettings
	kindLeaseSeen
	kindMadePledge
	kindObserved
)

// Kinds about service terms: between the last above and these, others have theirs.
const (
	kindFoundMiss uint8 = iota + 24
	kindClosedMiss
)

func commandKind(c Command) uint8 {
	switch c.(type) {
	case Submit:
		return kindSubmit
	case NodeUp:
		return kindNodeUp
	case NodeDown:
		return kindNodeDown
	case NodeLoad:
		return kindNodeLoad
	case CloseAuction:
		return kindCloseAuction
	case Refused:
		return kindRefused
	case Finished:
		return kindFinished
	case CancelJob:
		return kindCancelJob
	case Confirmed:
		return kindConfirmed
	case Tick:
		return kindTick
	case SetSettings:
		return kindSetSettings
	case LeaseSeen:
		return kindLeaseSeen
	case MadePledge:
		return kindMadePledge
	case Observed:
		return kindObserved
	case FoundMiss:
		return kindFoundMiss
	case ClosedMiss:
		return kindClosedMiss
	case Revealed:
		return kindRevealed
	}
	panic(fmt.Sprintf("scheduler: command of type %T", c))
}

// Encode returns the canonical bytes.
func (e Entry) Encode() []byte {
	commands := make([][]byte, len(e.Commands))
	for i, c := range e.Commands {
		commands[i] = EncodeCommand(c)
	}
	return EncodeEntry(e.TimeMs, commands)
}

// EncodeCommand returns the canonical bytes of one command of an entry.
func EncodeCommand(c Command) []byte {
	return codec.Marshal(commandWire{Kind: commandKind(c), Body: codec.Marshal(c)})
}

// EncodeEntry returns the canonical bytes of the entry of these encoded
// commands.
func EncodeEntry(timeMs chain.TimeMs, commands [][]byte) []byte {
	wire := struct {
		_        struct{} `cbor:",toarray"`
		TimeMs   chain.TimeMs
		Commands []codec.Raw
	}{TimeMs: timeMs, Commands: make([]codec.Raw, len(commands))}
	for i, c := range commands {
		wire.Commands[i] = c
	}
	return codec.Marshal(wire)
}

// DecodeCommand decodes the canonical bytes of one command.
func DecodeCommand(raw []byte) (Command, error) {
	var wire commandWire
	if err := codec.Unmarshal(raw, &wire, MaxCommandBytes); err != nil {
		return nil, fmt.Errorf("scheduler: command: %w", err)
	}
	return wire.decode(canonical)
}

// decoder decodes bytes into the value that v points to.
type decoder func(data []byte, v any) error

func canonical(data []byte, v any) error { return codec.Unmarshal(data, v, MaxEntryBytes) }

func (c *commandWire) decode(with decoder) (Command, error) {
	decode, ok := commandDecoders[c.Kind]
	switch {
	case !ok:
		return nil, fmt.Errorf("scheduler: command kind %d is unknown", c.Kind)
	case len(c.Body) > MaxCommandBytes:
		return nil, fmt.Errorf("scheduler: command of %d bytes, limit %d", len(c.Body), MaxCommandBytes)
	}
	command, err := decode(c.Body, with)
	if err != nil {
		return nil, fmt.Errorf("scheduler: command kind %d: %w", c.Kind, err)
	}
	return command, nil
}

// DecodeEntry decodes canonical bytes.
func DecodeEntry(raw []byte) (Entry, error) { return decodeEntry(raw, canonical) }

// ReadEntry decodes an entry of the log. Its commands were encoded, or decoded with
// DecodeCommand, by the leader that put them there, so they are not compared with
// their encoding again: all servers decode the same bytes to the same.
func ReadEntry(raw []byte) (Entry, error) { return decodeEntry(raw, codec.UnmarshalPart) }

func decodeEntry(raw []byte, with decoder) (Entry, error) {
	if len(raw) > MaxEntryBytes {
		return Entry{}, fmt.Errorf("scheduler: entry of %d bytes, limit %d", len(raw), MaxEntryBytes)
	}
	var wire entryWire
	if err := with(raw, &wire); err != nil {
		return Entry{}, fmt.Errorf("scheduler: entry: %w", err)
	}
	if n := len(wire.Commands); n == 0 || n > MaxCommands {
		return Entry{}, fmt.Errorf("scheduler: entry of %d commands, want 1 to %d", n, MaxCommands)
	}
	e := Entry{TimeMs: wire.TimeMs, Commands: make([]Command, len(wire.Commands))}
	for i := range wire.Commands {
		var err error
		if e.Commands[i], err = wire.Commands[i].decode(with); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

var commandDecoders = map[uint8]func([]byte, decoder) (Command, error){
	kindSubmit:       decodeCommand[Submit],
	kindNodeUp:       decodeCommand[NodeUp],
	kindNodeDown:     decodeCommand[NodeDown],
	kindNodeLoad:     decodeCommand[NodeLoad],
	kindCloseAuction: decodeCommand[CloseAuction],
	kindRefused:      decodeCommand[Refused],
	kindFinished:     decodeCommand[Finished],
	kindCancelJob:    decodeCommand[CancelJob],
	kindConfirmed:    decodeCommand[Confirmed],
	kindTick:         decodeCommand[Tick],
	kindSetSettings:  decodeCommand[SetSettings],
	kindLeaseSeen:    decodeCommand[LeaseSeen],
	kindMadePledge:   decodeCommand[MadePledge],
	kindObserved:     decodeCommand[Observed],
	kindFoundMiss:    decodeCommand[FoundMiss],
	kindClosedMiss:   decodeCommand[ClosedMiss],
	kindRevealed:     decodeCommand[Revealed],
}

func decodeCommand[T Command](body []byte, with decoder) (Command, error) {
	var c T
	if err := with(body, &c); err != nil {
		return nil, err
	}
	return c, nil
}
