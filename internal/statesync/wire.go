package statesync

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Protocol is the name of the mesh over which states are served.
const Protocol = "hypermesh/sync/2"

// The services of the mesh.
const (
	ServiceEnds  uint8 = 1 // how epochs ended
	ServiceChunk uint8 = 2 // a part of a state
	ServiceBlock uint8 = 3 // the block that a joiner begins with
	ServiceProof uint8 = 4 // what proves that block
)

// Limits of one answer.
const (
	maxTransitions = 16
	maxOffers      = 4
	// A chunk ends with the leaf that brings it to maxChunkBytes or
	// maxChunkLeaves, or with its range.
	maxChunkBytes  = 512 << 10
	maxChunkLeaves = 4096

	maxRequestBytes = 128
	maxEndsBytes    = maxTransitions*(light.MaxTransitionBytes+8) + 256
	maxBlockBytes   = chain.MaxBlockBytes
	maxProofBytes   = light.MaxEvidenceBytes + 64
	maxAnswerBytes  = maxChunkBytes + state.MaxKeyBytes + state.MaxValueBytes + maxChunkLeaves*8 + state.MaxRangeProofBytes + 256
)

// endsRequest asks for the transitions of an epoch and those after it.
type endsRequest struct {
	_    struct{} `cbor:",toarray"`
	From consensus.Epoch
}

// endsAnswer has the transitions that there are, in order and without gaps, and
// the heights of the points: the blocks before which the state is served, the newest
// first.
type endsAnswer struct {
	_           struct{} `cbor:",toarray"`
	Transitions [][]byte // at most maxTransitions
	Offers      []chain.Height
}

func decodeEnds(raw []byte) (endsAnswer, error) {
	var a endsAnswer
	if err := codec.Unmarshal(raw, &a, maxEndsBytes); err != nil {
		return a, err
	}
	if len(a.Transitions) > maxTransitions || len(a.Offers) > maxOffers {
		return a, fmt.Errorf("%d transitions and %d offers, limits %d and %d", len(a.Transitions), len(a.Offers), maxTransitions, maxOffers)
	}
	return a, nil
}

// chunkRequest asks for the lower end of a range of the state before a point's block.
type chunkRequest struct {
	_        struct{} `cbor:",toarray"`
	Height   chain.Height
	From, To crypto.Digest // positions, both included
}

// chunkAnswer is the leaves from the request's From to To, which is the
// request's or the last leaf's position.
type chunkAnswer struct {
	_      struct{} `cbor:",toarray"`
	To     crypto.Digest
	Leaves []wireLeaf
	Proof  state.RangeProof
}

type wireLeaf struct {
	_          struct{} `cbor:",toarray"`
	Key, Value []byte
}

// blockRequest asks for a point's block; the answer is its canonical bytes.
type blockRequest struct {
	_      struct{} `cbor:",toarray"`
	Height chain.Height
}

// proofRequest asks for what proves a point's header; the answer is a proofAnswer.
type proofRequest struct {
	_      struct{} `cbor:",toarray"`
	Height chain.Height
}

// proofAnswer is a light.Evidence.
type proofAnswer struct {
	_           struct{} `cbor:",toarray"`
	Header      []byte
	Path        [][]byte
	Certificate []byte
}

var errShortChunk = errors.New("the chunk neither ends its range nor is full")

// decodeChunk reads and verifies the answer to a request against the state's
// root.
func decodeChunk(raw []byte, asked chunkRequest, root crypto.Digest) (crypto.Digest, []state.Entry, error) {
	var a chunkAnswer
	if err := codec.Unmarshal(raw, &a, maxAnswerBytes); err != nil {
		return a.To, nil, err
	}
	if len(a.Leaves) > maxChunkLeaves {
		return a.To, nil, fmt.Errorf("chunk of %d leaves, limit %d", len(a.Leaves), maxChunkLeaves)
	}
	size := 0
	leaves := make([]state.Entry, len(a.Leaves))
	for i, l := range a.Leaves {
		leaves[i] = state.Entry{Position: state.Position(l.Key), Key: l.Key, Value: l.Value}
		size += len(l.Key) + len(l.Value)
	}
	full := size >= maxChunkBytes || len(leaves) >= maxChunkLeaves
	if a.To != asked.To && (!full || a.To != leaves[len(leaves)-1].Position || a.To.Compare(asked.To) > 0) {
		return a.To, nil, errShortChunk
	}
	err := a.Proof.Verify(root, state.Range{From: asked.From, To: a.To}, leaves)
	return a.To, leaves, err
}

// makeChunk is the answer of a tree to a request, encoded, and how far it goes.
func makeChunk(tree *state.Tree, asked chunkRequest) ([]byte, chunkAnswer, error) {
	a := chunkAnswer{To: asked.To}
	leaves, err := tree.Lower(state.Range{From: asked.From, To: asked.To}, maxChunkLeaves, maxChunkBytes)
	if err != nil {
		return nil, a, err
	}
	size := 0
	a.Leaves = make([]wireLeaf, len(leaves))
	for i, e := range leaves {
		a.Leaves[i] = wireLeaf{Key: e.Key, Value: e.Value}
		size += len(e.Key) + len(e.Value)
	}
	if size >= maxChunkBytes || len(leaves) == maxChunkLeaves {
		a.To = leaves[len(leaves)-1].Position
	}
	a.Proof, err = tree.ProveRange(state.Range{From: asked.From, To: a.To})
	return codec.Marshal(a), a, err
}

// segments is into how many equal parts the positions are cut: a power of two,
// at most 256.
const segments = 64

// segment returns the positions of a segment.
func segment(i int) state.Range {
	var r state.Range
	for b := range r.To {
		r.To[b] = 0xff
	}
	r.From[0] = byte(i * (256 / segments))
	r.To[0] = byte((i+1)*(256/segments) - 1)
	return r
}

// progress says how far each segment has come.
type progress struct {
	_    struct{} `cbor:",toarray"`
	Done uint64   // a bit for each segment
	Next []crypto.Digest
}

func newProgress() *progress {
	p := &progress{Next: make([]crypto.Digest, segments)}
	for i := range p.Next {
		p.Next[i] = segment(i).From
	}
	return p
}

const maxProgressBytes = segments*(crypto.DigestSize+2) + 64

func decodeProgress(raw []byte) (*progress, error) {
	if len(raw) == 0 {
		return newProgress(), nil
	}
	p := &progress{}
	if err := codec.Unmarshal(raw, p, maxProgressBytes); err != nil {
		return nil, fmt.Errorf("statesync: stored progress: %w", err)
	}
	if len(p.Next) != segments {
		return nil, fmt.Errorf("statesync: stored progress has %d segments, want %d", len(p.Next), segments)
	}
	return p, nil
}

func (p *progress) done(i int) bool { return p.Done>>i&1 == 1 }

// advance notes that from a segment on all is complete up to a position.
func (p *progress) advance(i int, to crypto.Digest) {
	for ; i < segments && segment(i).To.Compare(to) <= 0; i++ {
		p.Done |= 1 << i
	}
	if i < segments && segment(i).From.Compare(to) <= 0 {
		if next := state.After(to); next.Compare(p.Next[i]) > 0 {
			p.Next[i] = next
		}
	}
}
