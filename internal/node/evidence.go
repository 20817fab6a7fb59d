package node

import (
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

const (
	// maxEvidence bounds the evidence that waits: one piece per validator is
	// enough to convict a whole committee.
	maxEvidence = consensus.MaxValidators
	// maxOffered is how many pieces a leader offers to one block.
	maxOffered = 8
)

// evidencePool keeps evidence until it is on the chain, nobody takes it any more,
// or all whom it convicts are out for ever. The consensus log keeps it over a
// restart.
type evidencePool struct {
	mu    sync.Mutex
	items []evidenceItem // the oldest first
}

type evidenceItem struct {
	consensus.Evidence
	raw string // its encoding
}

func newEvidencePool() *evidencePool { return &evidencePool{} }

// add keeps a piece, unless it is here already or there are too many.
func (p *evidencePool) add(e consensus.Evidence) {
	item := evidenceItem{Evidence: e, raw: string(consensus.EncodeEvidence(e))}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := slices.ContainsFunc(p.items, func(other evidenceItem) bool { return other.raw == item.raw })
	if !known && len(p.items) < maxEvidence {
		p.items = append(p.items, item)
	}
}

// size returns how many pieces wait.
func (p *evidencePool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items)
}

// offer returns what a block may carry, the oldest first.
func (p *evidencePool) offer(r state.Reader) []consensus.Evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropUseless(r)
	var out []consensus.Evidence
	for _, item := range p.items[:min(len(p.items), maxOffered)] {
		out = append(out, item.Evidence)
	}
	return out
}

// finalize forgets what a finalized block carries and what its effects made
// useless.
func (p *evidencePool) finalize(r state.Reader, b *chain.Block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.items) == 0 {
		return
	}
	for _, raw := range b.Body.Evidence {
		p.items = slices.DeleteFunc(p.items, func(item evidenceItem) bool { return item.raw == string(raw) })
	}
	if len(b.Body.Evidence) > 0 || b.Header.Closing {
		p.dropUseless(r)
	}
}

// dropUseless forgets evidence of epochs that the state knows no more, and such
// that makes nobody's record worse. That a validator is gone is no reason: what
// left it is liable. The caller holds p.mu.
func (p *evidencePool) dropUseless(r state.Reader) {
	p.items = slices.DeleteFunc(p.items, func(item evidenceItem) bool {
		members, ok := staking.MembersOf(r, item.Round().Epoch)
		return !ok || !slices.ContainsFunc(accused(item.Evidence, len(members)), func(s consensus.Signer) bool {
			_, worse := staking.Charged(r, members, s, item.Round())
			return worse
		})
	})
}

// accused returns whom evidence from the own consensus, which has verified it, is
// about.
func accused(e consensus.Evidence, members int) []consensus.Signer {
	var out []consensus.Signer
	for s := range consensus.Signer(members) {
		if e.Votes[0] != nil {
			if by, _ := e.Votes[0].By(); by == s {
				out = append(out, s)
			}
		} else if e.Certificates[0].Has(s) && e.Certificates[1].Has(s) {
			out = append(out, s)
		}
	}
	return out
}
