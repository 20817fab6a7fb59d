package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// tally is the first vote of one kind of every signer in a view. Signatures
// are verified when a quorum is in sight, in one batch.
type tally struct {
	ballots []ballot
	counts  []count // one per statement, in order of arrival; nearly always one
}

type ballot struct {
	vote     Vote // nil: none
	verified bool
}

// count is the weight of the ballots for one statement.
type count struct {
	statement Statement
	weight    uint64 // cannot wrap: distinct members of a checked total
}

func (t *tally) has(s Signer) bool { return t.ballots != nil && t.ballots[s].vote != nil }

// of returns the signer's ballot, or nil.
func (t *tally) of(s Signer) Vote {
	if t.ballots == nil {
		return nil
	}
	return t.ballots[s].vote
}

// countOf returns the count of the statement, made if need be.
func (t *tally) countOf(s Statement) *count {
	for i := range t.counts {
		if t.counts[i].statement == s {
			return &t.counts[i]
		}
	}
	t.counts = append(t.counts, count{statement: s})
	return &t.counts[len(t.counts)-1]
}

func (vs *viewState) tallyOf(k Kind) *tally {
	switch k {
	case KindNotarize:
		return &vs.notarizes
	case KindNullify:
		return &vs.nullifies
	case KindFinalize:
		return &vs.finalizes
	}
	panic("consensus: a tally of " + k.String())
}

func (vs *viewState) certificateOf(k Kind) *Certificate {
	switch k {
	case KindNotarize:
		return vs.notarization
	case KindNullify:
		return vs.nullification
	case KindFinalize:
		return vs.finalization
	}
	panic("consensus: a certificate of " + k.String())
}

func (c *Core) onVote(v Vote, verified bool) {
	s := v.Statement()
	signer, _ := v.By()
	if c.closed() || s.Round().Epoch != c.cfg.Committee.Epoch() || int(signer) >= c.cfg.Committee.Len() || c.blocked[signer] || c.signs && signer == c.self {
		return
	}
	c.heard[signer] = c.now
	if s.View() < c.floor() || s.View() > c.current+1 {
		return
	}
	if s.Kind == KindNullify && s.View() == c.current && signer == c.cfg.Committee.Leader(c.current) {
		c.expire()
	}
	c.count(v, verified)
}

// Needs reports whether a vote that has yet to be verified is worth it: it may count,
// be evidence against who is not convicted yet, or say that its signer, not heard of
// for half of Timing.Retry, is alive. A second copy does not.
func (c *Core) Needs(v Vote, now Micros) bool {
	s := v.Statement()
	signer, _ := v.By()
	if c.closed() || s.Round().Epoch != c.cfg.Committee.Epoch() || int(signer) >= c.cfg.Committee.Len() || c.blocked[signer] || c.signs && signer == c.self {
		return false
	}
	if now >= c.heard[signer]+c.cfg.Timing.Retry/2 {
		return true
	}
	if s.View() < c.floor() || s.View() > c.current+1 {
		return false
	}
	vs, known := c.find(s.View())
	if !known {
		return true
	}
	first := vs.tallyOf(s.Kind).of(signer)
	if first == nil || first.Statement() == s {
		return first == nil
	}
	return c.firstTwice(vs, s, signer) || !c.accused[signer]
}

// firstTwice reports whether a second notarize would be the first sign that the view's
// leader equivocates.
func (c *Core) firstTwice(vs *viewState, s Statement, signer Signer) bool {
	return s.Kind == KindNotarize && signer == c.cfg.Committee.Leader(vs.view) && !vs.equivocated
}

// count adds a vote of a view in the window to its tally, and certifies the
// statement if that makes a quorum.
func (c *Core) count(v Vote, verified bool) {
	s := v.Statement()
	signer, _ := v.By()
	vs := c.at(s.View())
	t := vs.tallyOf(s.Kind)
	if t.ballots == nil {
		t.ballots = make([]ballot, c.cfg.Committee.Len())
	}
	if first := t.ballots[signer]; first.vote == nil {
		t.ballots[signer] = ballot{vote: v, verified: verified}
		t.countOf(s).weight += c.cfg.Committee.Validator(signer).Weight
	} else if first.vote.Statement() != s {
		leads := c.firstTwice(vs, s, signer)
		if (leads || !c.accused[signer]) && c.accuse(first.vote, v) && leads {
			vs.equivocated = true
		}
		return
	}
	switch s.Kind {
	case KindNullify:
		c.accusePair(vs, signer)
	case KindFinalize:
		c.accusePair(vs, signer)
	case KindNotarize:
	}
	tallied := t.countOf(s)
	if vs.certificateOf(s.Kind) == nil && tallied.weight >= c.cfg.Committee.Quorum() {
		c.verifyTally(t, s)
		if tallied.weight >= c.cfg.Committee.Quorum() {
			c.store(Assemble(c.cfg.Committee, s, t.votesFor(s)), false)
		}
	}
}

func (c *Core) accusePair(vs *viewState, signer Signer) {
	if !c.accused[signer] && vs.nullifies.has(signer) && vs.finalizes.has(signer) {
		c.accuse(vs.nullifies.ballots[signer].vote, vs.finalizes.ballots[signer].vote)
	}
}

func (t *tally) votesFor(s Statement) []Vote {
	var votes []Vote
	for _, b := range t.ballots {
		if b.vote != nil && b.vote.Statement() == s {
			votes = append(votes, b.vote)
		}
	}
	return votes
}

// verifyTally verifies the statement's unverified votes in one batch, throws
// out those that do not hold and blocks who sent them. The batch gives one
// verdict per vote, so the bisection is its own.
func (c *Core) verifyTally(t *tally, s Statement) {
	digest := s.Domain().Hash(s.Payload(c.cfg.ChainID))
	var items []crypto.Signed
	var signers []Signer
	for i, b := range t.ballots {
		if b.vote != nil && !b.verified && b.vote.Statement() == s {
			_, sig := b.vote.By()
			items = append(items, crypto.Signed{Key: c.cfg.Committee.Validator(Signer(i)).Key, Digest: digest, Signature: sig})
			signers = append(signers, Signer(i))
		}
	}
	for i, ok := range c.cfg.Verify(items) {
		signer := signers[i]
		if ok {
			t.ballots[signer].verified = true
			continue
		}
		c.throwOut(t, signer)
	}
}

// throwOut takes a ballot that does not hold out of the tally and blocks its
// sender.
func (c *Core) throwOut(t *tally, signer Signer) {
	s := t.ballots[signer].vote.Statement()
	t.ballots[signer] = ballot{}
	t.countOf(s).weight -= c.cfg.Committee.Validator(signer).Weight
	c.block(signer, "bad signature on "+s.String())
}

func (c *Core) block(s Signer, reason string) {
	if !c.blocked[s] {
		c.blocked[s] = true
		c.emit(BlameSigner{Signer: s, Reason: reason})
	}
}

// accuse reports two votes that exclude each other, once per signer in the
// epoch, and writes them down in the same step. It reports whether both hold.
func (c *Core) accuse(a, b Vote) bool {
	signer, _ := a.By()
	for _, v := range []Vote{a, b} {
		if err := VerifyVote(v, c.cfg.Committee, c.cfg.ChainID); err != nil {
			c.block(signer, err.Error())
			return false
		}
	}
	if !c.accused[signer] {
		c.accused[signer] = true
		c.report(Evidence{Votes: [2]Vote{a, b}})
	}
	return true
}

// report logs evidence and hands it to the driver.
func (c *Core) report(e Evidence) {
	e = e.normal()
	c.evidence = append(c.evidence, e)
	c.log(evidenceRecord(e))
	c.emit(e)
}

// condemn halts on two certificates that exclude each other: a third of the
// weight is Byzantine, and nothing that this chain finalizes is final.
func (c *Core) condemn(a, b *Certificate) {
	c.report(Evidence{Certificates: [2]*Certificate{a, b}})
	c.halt(fmt.Sprintf("consensus: %q and %q are both certified: at least a third of the weight is Byzantine", a.Statement, b.Statement))
}

// halt ends the core: it does nothing any more.
func (c *Core) halt(reason string) {
	c.emit(Halt{Reason: reason})
	c.halted = true
}

// excluded returns a certificate that is held and that the statement excludes.
func (vs *viewState) excluded(s Statement) *Certificate {
	for _, held := range []*Certificate{vs.notarization, vs.nullification, vs.finalization} {
		if held != nil && CertificatesExclude(held.Statement, s) {
			return held
		}
	}
	return nil
}

func (c *Core) onCertificate(ev CertificateReceived) {
	s := ev.Certificate.Statement
	v := s.View()
	if s.Round().Epoch != c.cfg.Committee.Epoch() || v < c.floor() {
		return
	}
	var conflict *Certificate
	if vs, ok := c.find(v); ok {
		conflict = vs.excluded(s)
		if held := vs.certificateOf(s.Kind); held != nil && conflict == nil {
			return
		}
	}
	if conflict == nil && (v < c.lastFinalized || c.closed()) {
		return
	}
	if !ev.Verified {
		if err := ev.Certificate.VerifyWith(c.cfg.Committee, c.cfg.ChainID, c.cfg.Verify); err != nil {
			c.emit(BlamePeer{Peer: ev.From, Reason: err.Error()})
			return
		}
	}
	c.store(ev.Certificate, ev.Known)
}
