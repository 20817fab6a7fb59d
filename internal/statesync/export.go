package statesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// ErrExport says that a file is no export of a state, or a damaged one.
var ErrExport = errors.New("statesync: not the export of a state")

// A file begins with exportMagic. Frames follow, each with its length (4 bytes, big
// endian) before it: an ExportHeader, the chunks from the first position to the
// last, each as a Server would give it, and an exportEnd. One state makes one file.
const (
	exportMagic    = "hypermesh state 2\n"
	maxHeaderFrame = chain.MaxBlockBytes + light.MaxTransitionBytes + light.MaxEvidenceBytes + 64<<10
)

// ExportHeader says of what state a file is.
type ExportHeader struct {
	_       struct{} `cbor:",toarray"`
	ChainID chain.ChainID
	Genesis crypto.Digest
	Height  chain.Height  // of the block after which the state is
	Block   crypto.Digest // its header's
	Root    crypto.Digest

	// The next block's header proves the root, and the certificate the header, or that
	// of the last block of a path that begins with its child. They are empty if that block
	// was not final when the file was made.
	Next        []byte
	Path        [][]byte
	Certificate []byte

	// If an epoch had ended, how the last one did up to the next block, and that block:
	// with them a home begins from the file.
	Transition []byte
	First      []byte
}

// Begins reports whether a home can begin from the file.
func (h *ExportHeader) Begins() bool { return len(h.Transition) > 0 }

// check holds the header's parts against each other.
func (h *ExportHeader) check() error {
	if len(h.Next) == 0 {
		if h.Begins() || len(h.Certificate) > 0 || len(h.Path) > 0 || len(h.First) > 0 {
			return errors.New("a certificate without its header")
		}
		return nil
	}
	next, err := chain.DecodeHeader(h.Next)
	switch {
	case err != nil:
		return fmt.Errorf("the next block's header: %w", err)
	case next.Height != h.Height+1 || next.Parent != h.Block || next.ChainID != h.ChainID:
		return fmt.Errorf("block %d of chain %q is not the one after block %d of chain %q", next.Height, next.ChainID, h.Height, h.ChainID)
	case next.StateRoot != h.Root:
		return fmt.Errorf("block %d says that the root is %s, the file says %s", next.Height, next.StateRoot, h.Root)
	case len(h.Path) > light.MaxPath:
		return fmt.Errorf("path of %d headers, limit %d", len(h.Path), light.MaxPath)
	case !h.Begins():
		return nil
	}
	transition, err := light.DecodeTransition(h.Transition)
	if err != nil {
		return fmt.Errorf("the end of the epoch: %w", err)
	}
	if next.Closing {
		if !bytes.Equal(transition.Header, h.Next) || !bytes.Equal(transition.Certificate, h.Certificate) || len(h.Path) > 0 {
			return errors.New("the end of the epoch is not the next block's")
		}
		return nil
	}
	closing, err := chain.DecodeHeader(transition.Header)
	if err != nil {
		return fmt.Errorf("the end of the epoch: %w", err)
	}
	if closing.Epoch+1 != next.Epoch || closing.NextCommittee != next.Committee {
		return fmt.Errorf("the end is of epoch %d, block %d of epoch %d", closing.Epoch, next.Height, next.Epoch)
	}
	return nil
}

// exportEnd ends a file.
type exportEnd struct {
	_      struct{} `cbor:",toarray"`
	Leaves uint64
	Digest crypto.Digest // of everything before this frame
}

// ExportSum is what is in a file.
type ExportSum struct {
	Leaves, Chunks, Bytes uint64
	Digest                crypto.Digest
}

type exporter struct {
	w      io.Writer
	stream *crypto.Stream
	sum    ExportSum
}

func (x *exporter) write(data []byte) error {
	if _, err := x.stream.Write(data); err != nil {
		return err
	}
	x.sum.Bytes += uint64(len(data))
	_, err := x.w.Write(data)
	return err
}

func (x *exporter) frame(data []byte) error {
	if err := x.write(binary.BigEndian.AppendUint32(nil, uint32(len(data)))); err != nil {
		return err
	}
	return x.write(data)
}

// lastPosition is the highest one there is.
func lastPosition() crypto.Digest { return segment(segments - 1).To }

// WriteExport writes a state with everything that proves it. It reads the tree from
// the first leaf to the last, and holds no more than one chunk.
func WriteExport(w io.Writer, h ExportHeader, tree *state.Tree) (ExportSum, error) {
	if err := h.check(); err != nil {
		return ExportSum{}, fmt.Errorf("statesync: exporting the state after block %d: %w", h.Height, err)
	}
	x := exporter{w: w, stream: crypto.DomainStateExport.NewStream()}
	if err := errors.Join(x.write([]byte(exportMagic)), x.frame(codec.Marshal(h))); err != nil {
		return x.sum, err
	}
	last := lastPosition()
	for asked := (chunkRequest{To: last}); ; {
		raw, chunk, err := makeChunk(tree, asked)
		if err == nil {
			err = x.frame(raw)
		}
		if err != nil {
			return x.sum, err
		}
		x.sum.Chunks++
		x.sum.Leaves += uint64(len(chunk.Leaves))
		if chunk.To == last {
			break
		}
		asked.From = state.After(chunk.To)
	}
	x.sum.Digest = x.stream.Sum()
	return x.sum, x.frame(codec.Marshal(exportEnd{Leaves: x.sum.Leaves, Digest: x.sum.Digest}))
}

// Export is a file being read.
type Export struct {
	Header ExportHeader
	r      io.Reader
	stream *crypto.Stream
	sum    ExportSum // complete after the last chunk
}

// OpenExport reads a file's header, and checks what it says of itself. Whether to
// believe the root is the caller's matter.
func OpenExport(r io.Reader) (*Export, error) {
	x := &Export{r: r, stream: crypto.DomainStateExport.NewStream()}
	magic := make([]byte, len(exportMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != exportMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrExport, exportMagic)
	}
	x.add(magic)
	raw, err := x.frame(maxHeaderFrame)
	if err == nil {
		err = codec.Unmarshal(raw, &x.Header, maxHeaderFrame)
	}
	if err == nil {
		err = x.Header.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrExport, err)
	}
	return x, nil
}

func (x *Export) add(data []byte) {
	if _, err := x.stream.Write(data); err != nil {
		panic("statesync: a digest refuses data: " + err.Error())
	}
	x.sum.Bytes += uint64(len(data))
}

// frame reads the next frame; what it is a part of the digest of.
func (x *Export) frame(limit int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(x.r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("frame of %d bytes, limit %d", n, limit)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(x.r, raw); err != nil {
		return nil, err
	}
	x.add(length[:])
	x.add(raw)
	return raw, nil
}

// Sum returns what was read, once the last chunk was.
func (x *Export) Sum() ExportSum { return x.sum }

// Chunk is all leaves of a range.
type Chunk struct {
	Range  state.Range
	Leaves []state.Entry
}

// Chunks yields the leaves, chunk by chunk in ascending order of positions, each
// shown to be what the root has there. It ends after the first error, which is
// ErrExport, and names the chunk.
func (x *Export) Chunks() iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		last := lastPosition()
		for asked := (chunkRequest{To: last}); ; {
			raw, err := x.frame(maxAnswerBytes)
			var to crypto.Digest
			var leaves []state.Entry
			if err == nil {
				to, leaves, err = decodeChunk(raw, asked, x.Header.Root)
			}
			if err != nil {
				yield(Chunk{}, fmt.Errorf("%w: chunk %d, from position %v on: %w", ErrExport, x.sum.Chunks+1, asked.From, err))
				return
			}
			x.sum.Chunks++
			x.sum.Leaves += uint64(len(leaves))
			if to == last {
				if err := x.end(); err != nil {
					yield(Chunk{}, err)
					return
				}
			}
			if !yield(Chunk{state.Range{From: asked.From, To: to}, leaves}, nil) || to == last {
				return
			}
			asked.From = state.After(to)
		}
	}
}

func (x *Export) end() error {
	x.sum.Digest = x.stream.Sum()
	raw, err := x.frame(256)
	var end exportEnd
	if err == nil {
		err = codec.Unmarshal(raw, &end, 256)
	}
	if err != nil {
		return fmt.Errorf("%w: its end: %w", ErrExport, err)
	}
	if end.Leaves != x.sum.Leaves || end.Digest != x.sum.Digest {
		return fmt.Errorf("%w: it has %d leaves and digest %s, its end says %d and %s", ErrExport, x.sum.Leaves, x.sum.Digest, end.Leaves, end.Digest)
	}
	if n, err := io.ReadFull(x.r, make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it goes on after its end", ErrExport)
	}
	return nil
}

// Leaves yields the leaves one by one, as Chunks does.
func (x *Export) Leaves() iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		for chunk, err := range x.Chunks() {
			if err != nil {
				yield(state.Entry{}, err)
				return
			}
			for _, e := range chunk.Leaves {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
