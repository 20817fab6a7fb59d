package job

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A consumer runs a command in a container of a job in three steps, which trust
// the servers with nothing but delivery.
//
// With a ticket, signed under DomainExecTicket, a consumer asks a server for a
// tunnel to the node. The server tells the agent so (Tunnel); the agent dials a
// connection of TunnelProtocol, opens a stream, and sends the tunnel's ID in the
// first message. What then comes is relayed as it is: TLS 1.3 between the
// consumer and the node, which presents its own key, under the ALPN ExecProtocol.
// In it the consumer sends an ExecRequest in the first frame, signed under
// DomainExec together with a secret of that TLS connection (RFC 9266, with
// ExecBinding as the label): whoever repeats it, in another connection, has no
// signature for it. No server reads a stream or adds to it.

// TunnelProtocol is the transport's name of the connections that carry tunnels.
const TunnelProtocol = "hypermesh/nexus-tunnel/1"

// ExecProtocol names what is spoken in a tunnel, for TLS and for HTTP's Upgrade.
const ExecProtocol = "hypermesh-exec/1"

// ExecBinding is the label under which the keying material of a TLS connection
// is exported that an ExecRequest's signature covers.
const ExecBinding = "EXPORTER-hypermesh-exec"

// Bounds of commands that are run in a container.
const (
	MaxTicketMs       = 60_000 // a ticket or request is made out for the near future
	MaxExecFrame      = 32 << 10
	maxExecRequest    = MaxArgBytes + 16<<10
	execFrameOverhead = 5
	maxTerminalSide   = 10_000
	maxTerminalType   = 64
)

// Tunnel asks the agent to dial the server that sent it for TunnelProtocol, open
// a stream, and send ID, in bytes, as a message: a consumer of the order wants to
// talk to it.
type Tunnel struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
	ID    crypto.Digest // drawn at random
}

// ExecTicketPayload is what a consumer signs, under DomainExecTicket, to be let
// through to a node that runs a job of theirs.
func ExecTicketPayload(id chain.ChainID, order crypto.Digest, node crypto.PublicKey, expires chain.TimeMs) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Order   crypto.Digest
		Node    crypto.PublicKey
		Expires chain.TimeMs
	}{ChainID: id, Order: order, Node: node, Expires: expires})
}

// CheckTicketTime says why a ticket or request does not count at a time.
func CheckTicketTime(expires, now chain.TimeMs) error {
	switch {
	case expires < now:
		return fmt.Errorf("expired at %d, it is %d", expires, now)
	case expires-now > MaxTicketMs:
		return fmt.Errorf("expires in %d ms, limit %d", expires-now, MaxTicketMs)
	}
	return nil
}

// ExecRequest is a command to run in a container.
type ExecRequest struct {
	_       struct{} `cbor:",toarray"`
	ChainID chain.ChainID
	Order   crypto.Digest
	Node    crypto.PublicKey
	Expires chain.TimeMs
	Command []string
	// Terminal, unless it is zero, is what the command's three streams are
	// together. There is no ExecStderr then.
	Terminal Terminal
}

// Terminal is one that a command is run in.
type Terminal struct {
	_    struct{} `cbor:",toarray"`
	Type string   // the variable TERM; at most 64 of letters, digits, '.', '_', '+' and '-'
	Size TerminalSize
}

// TerminalSize is in characters, 1 to 10,000 each way.
type TerminalSize struct {
	_       struct{} `cbor:",toarray"`
	Columns uint16
	Rows    uint16
}

// Check refuses a size that no terminal has.
func (s TerminalSize) Check() error {
	if s.Columns == 0 || s.Columns > maxTerminalSide || s.Rows == 0 || s.Rows > maxTerminalSide {
		return fmt.Errorf("job: a terminal of %d columns and %d rows, want 1 to %d each", s.Columns, s.Rows, maxTerminalSide)
	}
	return nil
}

func (t *Terminal) check() error {
	if *t == (Terminal{}) {
		return nil
	}
	if t.Type == "" || len(t.Type) > maxTerminalType {
		return fmt.Errorf("job: a terminal's type has %d bytes, want 1 to %d", len(t.Type), maxTerminalType)
	}
	for _, c := range []byte(t.Type) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._+-", rune(c)) {
			return fmt.Errorf("job: a terminal's type is %q: letters, digits, and . _ + - alone", t.Type)
		}
	}
	return t.Size.Check()
}

// Encode returns the data of an ExecResize.
func (s TerminalSize) Encode() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Columns), s.Rows)
}

// DecodeTerminalSize decodes and checks the data of an ExecResize.
func DecodeTerminalSize(data []byte) (s TerminalSize, err error) {
	if len(data) != 4 {
		return s, fmt.Errorf("job: a terminal's size has %d bytes, want 4", len(data))
	}
	s = TerminalSize{Columns: binary.BigEndian.Uint16(data), Rows: binary.BigEndian.Uint16(data[2:])}
	return s, s.Check()
}

// SignedExec is the first frame of a tunnel.
type SignedExec struct {
	_         struct{} `cbor:",toarray"`
	Request   ExecRequest
	Signature crypto.Signature // by the consumer, under DomainExec, of Request.Payload
}

// Payload is what the consumer signs: the request, and the binding to the TLS
// connection that it is sent in.
func (r *ExecRequest) Payload(binding [32]byte) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		Request ExecRequest
		Binding [32]byte
	}{Request: *r, Binding: binding})
}

// Check refuses a command that nobody runs.
func (r *ExecRequest) Check() error {
	if len(r.Command) == 0 || r.Command[0] == "" {
		return errors.New("job: the command is empty")
	}
	if len(r.Command) > MaxArgs {
		return fmt.Errorf("job: the command has %d words, limit %d", len(r.Command), MaxArgs)
	}
	total := 0
	for i, word := range r.Command {
		total += len(word)
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("job: word %d of the command has a zero byte", i)
		}
	}
	if total > MaxArgBytes {
		return fmt.Errorf("job: the command has %d bytes, limit %d", total, MaxArgBytes)
	}
	return r.Terminal.check()
}

// Encode returns the canonical bytes.
func (s *SignedExec) Encode() []byte { return codec.Marshal(*s) }

// DecodeSignedExec decodes canonical bytes and checks the command.
func DecodeSignedExec(raw []byte) (s SignedExec, err error) {
	if err := codec.Unmarshal(raw, &s, maxExecRequest); err != nil {
		return SignedExec{}, fmt.Errorf("job: a request to run a command: %w", err)
	}
	return s, s.Request.Check()
}

// ExecKind says what a frame of a tunnel is. The zero kind is none.
type ExecKind uint8

// The kinds. The first frame is ExecBegin; the last is ExecExit or ExecRefuse.
const (
	ExecBegin    ExecKind = iota + 1 // from the consumer: a SignedExec
	ExecStdin                        // from the consumer
	ExecStdinEnd                     // from the consumer, empty
	ExecStdout                       // from the node
	ExecStderr                       // from the node
	ExecExit                         // from the node: the exit code, 4 bytes, big endian
	ExecRefuse                       // from the node: why there is no exit code, for people
	ExecAlive                        // from the node, empty: it is still there
	ExecResize                       // from the consumer: a TerminalSize; without a terminal it breaks the protocol
	execKinds    = iota + 1
)

// limit bounds a frame's data.
func (k ExecKind) limit() int {
	switch k {
	case ExecBegin:
		return maxExecRequest
	case ExecStdin, ExecStdout, ExecStderr:
		return MaxExecFrame
	case ExecRefuse:
		return maxReason
	case ExecExit, ExecResize:
		return 4
	case ExecStdinEnd, ExecAlive:
		return 0
	}
	return 0
}

// WriteExecFrame writes a frame: its kind, the length of its data in 4 bytes
// (big endian), and its data. It is written in one piece. Data beyond the kind's
// limit is the caller's mistake.
func WriteExecFrame(w io.Writer, kind ExecKind, data []byte) error {
	if len(data) > kind.limit() {
		return fmt.Errorf("job: a frame of kind %d has %d bytes, limit %d", kind, len(data), kind.limit())
	}
	frame := binary.BigEndian.AppendUint32(append(make([]byte, 0, execFrameOverhead+len(data)), byte(kind)), uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}

// ReadExecFrame reads a frame into buf, which grows at need, and returns its data,
// valid until the next call with the same buf. Errors: the reader's; one that
// names what is wrong with the frame.
func ReadExecFrame(r io.Reader, buf *[]byte) (ExecKind, []byte, error) {
	var head [execFrameOverhead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, length := ExecKind(head[0]), binary.BigEndian.Uint32(head[1:])
	if kind == 0 || kind >= execKinds {
		return 0, nil, fmt.Errorf("job: a frame is of kind %d, which is none", kind)
	}
	if uint64(length) > uint64(kind.limit()) {
		return 0, nil, fmt.Errorf("job: a frame of kind %d has %d bytes, limit %d", kind, length, kind.limit())
	}
	if cap(*buf) < int(length) {
		*buf = make([]byte, length)
	}
	data := (*buf)[:length]
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("job: a frame is cut off: %w", err)
	}
	return kind, data, nil
}
