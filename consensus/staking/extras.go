package staking

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// Extras is what consensus puts into a block beside transactions.
type Extras struct {
	Evidence     []consensus.Evidence
	Finalization *consensus.Certificate // of the header's epoch; nil: none
	LateVotes    []consensus.Vote       // finalize votes of the header's epoch
}

// DecodeExtras reads the consensus items of a body. Signatures are not looked
// at.
func DecodeExtras(b *chain.Body) (Extras, error) {
	var x Extras
	for i, raw := range b.Evidence {
		e, err := consensus.DecodeEvidence(raw)
		if err != nil {
			return Extras{}, fmt.Errorf("evidence %d: %w", i, err)
		}
		x.Evidence = append(x.Evidence, e)
	}
	if len(b.Finalization) > 0 {
		var err error
		if x.Finalization, err = consensus.DecodeCertificate(b.Finalization); err != nil {
			return Extras{}, fmt.Errorf("finalization: %w", err)
		}
	}
	for i, raw := range b.LateVotes {
		v, err := consensus.DecodeVote(raw)
		if err != nil {
			return Extras{}, fmt.Errorf("late vote %d: %w", i, err)
		}
		x.LateVotes = append(x.LateVotes, v)
	}
	return x, nil
}

// Put writes the items into a body.
func (x *Extras) Put(b *chain.Body) {
	b.Evidence, b.Finalization, b.LateVotes = nil, nil, nil
	for _, e := range x.Evidence {
		b.Evidence = append(b.Evidence, consensus.EncodeEvidence(e))
	}
	if x.Finalization != nil {
		b.Finalization = consensus.EncodeCertificate(x.Finalization)
	}
	for _, v := range x.LateVotes {
		b.LateVotes = append(b.LateVotes, consensus.EncodeVote(v))
	}
}
