// Package audit exports resource records so that an auditor verifies them without a node.
//
// An export is two files. The records are CSV or JSON, one a line, in the order of
// the chain. The proof is a stream of frames: what was asked for, the ends of
// epochs (light.Transition), runs of headers with the certificate that finalizes
// them, what those headers commit to, and the end. A complete proof has every
// header from the first block's child to the last block's and the whole receipts of
// every block, so that the verifier computes the records itself and nothing can be
// left out. Any other has, for each block with records that were asked for, the
// header of its child and those receipts alone with their Merkle paths: what it
// shows is true, and it does not show that there is no more. Usage that was settled in
// private has no records on the chain: a complete export counts its batches.
//
// Invariants:
//
//  1. Verify accepts a records file only if it is, byte for byte, what the proven
//     receipts and the filter make of it.
//  2. A complete export's headers follow each other by their parents' digests
//     without a gap, and the receipts of each block have the root that its child's
//     header carries.
//  3. A changed byte of either file is refused.
//  4. VerifyOpening shows a usage record only if it is under the root of a batch that the
//     chain settled, signed by the metering key that the batch was proven for.
//
// Failure modes: errors that match ErrRefused and say which of ErrOtherChain,
// ErrTruncated, ErrRecord, ErrOrder and ErrProof it is, or light.ErrRefused for what
// a committee did not sign. Memory is bounded by two blocks' receipts and a run of
// headers, whatever the length of the export. An Export and a Verify are calls of
// their own: nothing is shared.
//
// It opens no file and reads no clock, and does not judge whether a filter or a
// range is the one that the auditor wanted: Summary says which they are.
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	// ErrRefused is matched by every error that says that the files do not show
	// what they claim.
	ErrRefused = errors.New("audit: refused")
	// ErrOtherChain says that the export is of another chain than genesis is.
	ErrOtherChain = fmt.Errorf("%w: of another chain", ErrRefused)
	// ErrTruncated says that a file ends too early.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrRefused)
	// ErrRecord says that a record is not the one that the chain has.
	ErrRecord = fmt.Errorf("%w: changed record", ErrRefused)
	// ErrOrder says that a record was left out, added or moved.
	ErrOrder = fmt.Errorf("%w: a record is left out, added or moved", ErrRefused)
	// ErrProof says that the proof is damaged or does not prove.
	ErrProof = fmt.Errorf("%w: the proof", ErrRefused)
)

// Version is that of the proof's format.
const Version = 1

const magic = "hypermesh audit proof\n"

// The kinds of frames.
const (
	frameStart = iota + 1
	frameEpoch
	frameHeaders
	frameReceipts
	frameItems
	frameEnd
	frameOpening // of an opening alone
)

// frameLimits are the most bytes of a frame of each kind.
var frameLimits = [...]uint32{
	frameStart: 4 << 10, frameEpoch: light.MaxTransitionBytes, frameHeaders: light.MaxEvidenceBytes,
	frameReceipts: light.MaxReceiptsBytes + 64, frameItems: 2 * light.MaxReceiptsBytes, frameEnd: 256, frameOpening: 16 << 10,
}

// Request says what is exported: the records of the blocks From to To that the
// filter lets through.
type Request struct {
	_        struct{} `cbor:",toarray"`
	From, To chain.Height
	Filter   Filter
	Format   Format
	Complete bool // the proof shows that no record is left out
}

// Check names the first value that makes no sense.
func (r *Request) Check() error {
	switch {
	case r.From == 0 || r.To < r.From:
		return fmt.Errorf("audit: blocks %d to %d are no range from 1 up", r.From, r.To)
	case r.To > 1<<62:
		return fmt.Errorf("audit: block %d is beyond every chain", r.To)
	case r.Format != CSV && r.Format != JSON:
		return fmt.Errorf("audit: format %.20q, want %s or %s", string(r.Format), CSV, JSON)
	}
	return nil
}

// Filter lets a record through that has every value that is not zero.
type Filter struct {
	_            struct{} `cbor:",toarray"`
	Node         crypto.PublicKey
	Consumer     chain.Address
	Provider     chain.Address
	Resource     chain.Resource
	Since, Until chain.TimeMs // of the record's timestamp, Until excluded
}

// lets reports whether a record passes.
func (f *Filter) lets(r *chain.ResourceTransaction) bool {
	return (f.Node.IsZero() || f.Node == r.NodeID) &&
		(f.Consumer == chain.Address{} || f.Consumer == r.Consumer) &&
		(f.Provider == chain.Address{} || f.Provider == r.Provider) &&
		(f.Resource == 0 || f.Resource == r.ResourceType) &&
		r.Timestamp >= f.Since && (f.Until == 0 || r.Timestamp < f.Until)
}

// letsBatch reports whether a batch passes, as a claim that ended when it did would with
// one of its totals.
func (f *Filter) letsBatch(e *chain.BatchSettled) bool {
	r := chain.ResourceTransaction{NodeID: e.Node, Consumer: e.Consumer, Provider: e.Provider, Timestamp: e.Ended}
	if f.Resource == 0 {
		return f.lets(&r)
	}
	for _, t := range e.Totals {
		if r.ResourceType = t.Resource; f.lets(&r) {
			return true
		}
	}
	return false
}

// start is the first frame.
type start struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	ChainID chain.ChainID
	Genesis crypto.Digest
	Request Request
}

// headers is a run: of each header that serves, then on to the one with the
// certificate.
type headers struct {
	_           struct{} `cbor:",toarray"`
	Serve       [][]byte
	Path        [][]byte
	Certificate []byte
}

// items is some of a block's receipts.
type items struct {
	_     struct{} `cbor:",toarray"`
	Count uint64
	Items []item
}

type item struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Bytes []byte
	Path  []crypto.Digest
}

// ending is the last frame: a checksum against accidents, which proves nothing.
type ending struct {
	_    struct{} `cbor:",toarray"`
	Rows uint64
	Sum  []byte // SHA-256 of all bytes before the frame
}

// proofWriter writes frames.
type proofWriter struct {
	to  io.Writer
	sum hash.Hash
}

func newProofWriter(to io.Writer) (*proofWriter, error) { return newFrames(to, magic) }

func newFrames(to io.Writer, magic string) (*proofWriter, error) {
	w := &proofWriter{sum: sha256.New()}
	w.to = io.MultiWriter(to, w.sum)
	_, err := io.WriteString(w.to, magic)
	return w, err
}

func (w *proofWriter) frame(kind byte, v any) error {
	raw, isRaw := v.([]byte)
	if !isRaw {
		raw = codec.Marshal(v)
	}
	if uint64(len(raw)) > uint64(frameLimits[kind]) {
		return fmt.Errorf("audit: a frame of kind %d has %d bytes, limit %d", kind, len(raw), frameLimits[kind])
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(raw)))
	if _, err := w.to.Write(head); err != nil {
		return err
	}
	_, err := w.to.Write(raw)
	return err
}

// proofReader reads frames.
type proofReader struct {
	from io.Reader
	sum  hash.Hash
	seen []byte // the sum before the last frame
}

func newProofReader(from io.Reader) (*proofReader, error) { return newFrameReader(from, magic) }

func newFrameReader(from io.Reader, magic string) (*proofReader, error) {
	r := &proofReader{sum: sha256.New()}
	r.from = io.TeeReader(from, r.sum)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r.from, head); err != nil {
		return nil, ended("proof", err)
	}
	if string(head) != magic {
		return nil, fmt.Errorf("%w is no such file: it does not begin as one", ErrProof)
	}
	return r, nil
}

// ended names an end that came too early.
func ended(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the %s ends too early", ErrTruncated, what)
	}
	return fmt.Errorf("audit: reading the %s: %w", what, err)
}

// next returns the next frame. It takes no more memory than the file has bytes.
func (r *proofReader) next() (kind byte, raw []byte, err error) {
	r.seen = r.sum.Sum(nil)
	var head [5]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, ended("proof", err)
	}
	kind, size := head[0], binary.BigEndian.Uint32(head[1:])
	if kind < frameStart || kind > frameOpening {
		return 0, nil, fmt.Errorf("%w has a frame of kind %d", ErrProof, kind)
	}
	if size > frameLimits[kind] {
		return 0, nil, fmt.Errorf("%w has a frame of kind %d of %d bytes, limit %d", ErrProof, kind, size, frameLimits[kind])
	}
	raw, err = io.ReadAll(io.LimitReader(r.from, int64(size)))
	if err == nil && len(raw) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, ended("proof", err)
	}
	return kind, raw, nil
}

// end reports that nothing follows.
func (r *proofReader) end() error {
	var one [1]byte
	if _, err := io.ReadFull(r.from, one[:]); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w goes on after its end", ErrProof)
	}
	return nil
}

func decodeFrame(raw []byte, v any, what string) error {
	if err := codec.Unmarshal(raw, v, len(raw)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProof, what, err)
	}
	return nil
}

// emptyRoot is the receipts root of a block in which nothing happened.
func emptyRoot() crypto.Digest { return (&chain.BlockReceipts{}).Root() }

// Summary is what an export holds.
type Summary struct {
	ChainID  chain.ChainID   `json:"chain_id"`
	Genesis  crypto.Digest   `json:"genesis"`
	From     chain.Height    `json:"from"`
	To       chain.Height    `json:"to"`
	Complete bool            `json:"complete"`
	Filter   string          `json:"filter,omitempty"`
	Records  uint64          `json:"records"`
	Batches  uint64          `json:"batches"` // of a complete export: settled batches that the filter lets through, whose records the chain does not have
	Blocks   uint64          `json:"blocks"`  // whose receipts it has
	Epoch    consensus.Epoch `json:"epoch"`   // of the last header; 0: none
}

func summaryOf(s *start) Summary {
	r := &s.Request
	return Summary{ChainID: s.ChainID, Genesis: s.Genesis, From: r.From, To: r.To, Complete: r.Complete, Filter: r.Filter.String()}
}
