package consensus

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// How old the participation is that a block may show, in views before its own.
const (
	shownAfter  = 2  // no leader gains by waiting for votes
	shownWithin = 32 // and none can credit what is long past
)

// show returns what the leader of the view may put into its block: the newest
// finalization of the window, and for each validator that is not in it the
// newest verified finalize vote of the window.
func (c *Core) show(v View) (*Certificate, []Vote) {
	var window []*viewState // descending
	var final *Certificate
	for _, vs := range slices.Backward(c.views) {
		if vs.view+shownAfter > v || vs.view+shownWithin < v {
			continue
		}
		if final == nil {
			final = vs.finalization
		}
		window = append(window, vs)
	}
	if final == nil {
		return nil, nil
	}
	var late []Vote
	for i := range c.cfg.Committee.Len() {
		if s := Signer(i); !final.Has(s) {
			if vote := c.lateVote(window, s); vote != nil {
				late = append(late, vote)
			}
		}
	}
	return final, late
}

// lateVote returns the signer's newest finalize vote for a finalized proposal.
func (c *Core) lateVote(window []*viewState, s Signer) Vote {
	for _, vs := range window {
		vote := vs.finalizes.of(s)
		if vote == nil || vs.finalization == nil || vote.Statement() != vs.finalization.Statement {
			continue
		}
		if c.verifyBallot(&vs.finalizes, s) {
			return vote
		}
	}
	return nil
}

// verifyBallot reports whether the signer's ballot holds; one that does not is
// thrown out, and its sender blocked.
func (c *Core) verifyBallot(t *tally, s Signer) bool {
	b := &t.ballots[s]
	if b.verified {
		return true
	}
	st := b.vote.Statement()
	_, sig := b.vote.By()
	b.verified = c.cfg.Verify([]crypto.Signed{
		crypto.SignedBy(c.cfg.Committee.Validator(s).Key, st.Domain(), st.Payload(c.cfg.ChainID), sig),
	})[0]
	if !b.verified {
		c.throwOut(t, s)
	}
	return b.verified
}
