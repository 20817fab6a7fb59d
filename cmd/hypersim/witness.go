package main

import (
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// witness sees every finalization and every vote of honest validators and
// knows the rules by heart: one digest at a height, and no pair of votes for
// which a validator is slashed. It shares no code with the core.
type witness struct {
	chain  []crypto.Digest // what anybody finalized, by height − 1
	signed []map[consensus.View]signedVotes
}

// signedVotes is what a validator signed in a view.
type signedVotes struct {
	notarize, finalize consensus.Proposal // zero: nothing
	nullify            bool
}

func newWitness(validators int) witness {
	w := witness{signed: make([]map[consensus.View]signedVotes, validators)}
	for i := range w.signed {
		w.signed[i] = map[consensus.View]signedVotes{}
	}
	return w
}

// finalized compares a finalized block with what others finalized at its
// height. It returns false and the other digest if they differ, or if a height
// was left out.
func (w *witness) finalized(b consensus.Block) (crypto.Digest, bool) {
	switch have := uint64(len(w.chain)); {
	case b.Height == have+1:
		w.chain = append(w.chain, b.Digest)
	case b.Height == 0 || b.Height > have:
		return crypto.Digest{}, false
	}
	other := w.chain[b.Height-1]
	return other, other == b.Digest
}

// vote takes a vote that left an honest validator. It returns false if its
// signer could be slashed for it.
func (w *witness) vote(v consensus.Vote) bool {
	by, _ := v.By()
	s := v.Statement()
	seen := w.signed[by][s.View()]
	once := func(have *consensus.Proposal) bool {
		first := *have == consensus.Proposal{}
		if first {
			*have = s.Proposal
		}
		return first || *have == s.Proposal
	}
	ok := true
	switch s.Kind {
	case consensus.KindNotarize:
		ok = once(&seen.notarize)
	case consensus.KindFinalize:
		ok = once(&seen.finalize)
	case consensus.KindNullify:
		seen.nullify = true
	}
	w.signed[by][s.View()] = seen
	return ok && !(seen.nullify && seen.finalize != consensus.Proposal{})
}
