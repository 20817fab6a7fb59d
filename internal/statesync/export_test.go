package statesync

import (
	"bytes"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// ChunkRequest asks for a segment of the state before a block.
func ChunkRequest(height chain.Height, i int) []byte {
	r := segment(i)
	return codec.Marshal(chunkRequest{Height: height, From: r.From, To: r.To})
}

// ProofRequest asks for what proves a block.
func ProofRequest(height chain.Height) []byte { return codec.Marshal(proofRequest{Height: height}) }

// WithOffers returns an answer to an EndsRequest with other offers.
func WithOffers(raw []byte, heights ...chain.Height) []byte {
	a, err := decodeEnds(raw)
	if err != nil {
		return raw
	}
	a.Offers = heights
	return codec.Marshal(a)
}

// WithProof returns an answer to a ProofRequest with changes.
func WithProof(raw []byte, change func(*light.Evidence)) []byte {
	var a proofAnswer
	if err := codec.Unmarshal(raw, &a, maxProofBytes); err != nil {
		return raw
	}
	e := light.Evidence{Header: a.Header, Path: a.Path, Certificate: a.Certificate}
	change(&e)
	return codec.Marshal(proofAnswer{Header: e.Header, Path: e.Path, Certificate: e.Certificate})
}

// EndsRequest asks for the ends of epochs.
func EndsRequest(from consensus.Epoch) []byte { return codec.Marshal(endsRequest{From: from}) }

// DecodeEnds reads the answer to an EndsRequest.
func DecodeEnds(raw []byte) error {
	_, err := decodeEnds(raw)
	return err
}

// DecodeChunk reads the answer to ChunkRequest(_, 5), and returns a function
// that compares it with a tree.
func DecodeChunk(raw []byte, root crypto.Digest) (int, func(*state.Tree) bool, error) {
	r := segment(5)
	to, leaves, err := decodeChunk(raw, chunkRequest{Height: 10, From: r.From, To: r.To}, root)
	return len(leaves), func(tree *state.Tree) bool {
		i := 0
		for e, err := range tree.Iterate(r.From) {
			if err != nil || e.Position.Compare(to) > 0 {
				return err == nil && i == len(leaves)
			}
			if i == len(leaves) || !bytes.Equal(e.Key, leaves[i].Key) || !bytes.Equal(e.Value, leaves[i].Value) {
				return false
			}
			i++
		}
		return i == len(leaves)
	}, err
}

// WithoutEpoch1 returns an answer, empty if it begins with the end of epoch 1.
func WithoutEpoch1(raw []byte) []byte {
	a, err := decodeEnds(raw)
	if err != nil || len(a.Transitions) == 0 {
		return raw
	}
	if t, err := light.DecodeTransition(a.Transitions[0]); err != nil {
		return raw
	} else if epoch, err := t.Epoch(); err == nil && epoch == 1 {
		a.Transitions = nil
	}
	return codec.Marshal(a)
}

// PeerBytesPerSecond is at what rate one peer is served.
const PeerBytesPerSecond = peerBytesPerSecond
