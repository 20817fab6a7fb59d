package replica

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// offerWindow is how far above the current view an offered block is read: what
// leads there may be on the way.
const offerWindow = 64

// Window is what a network goroutine has to know to sort out messages before
// they queue up for Step: a snapshot, immutable. It only saves work: Step checks
// everything again. A peer may get more read than is of use while the snapshot
// is old, never more than its own connection brings in one step's time.
type Window struct {
	epoch       consensus.Epoch
	view        consensus.View
	finalized   consensus.View
	closed      bool
	reigns      reigns
	cfg         *Config
	carriers    carriers
	mandates    []consensus.Delegation
	offered     []consensus.View // by signer: the highest view whose block was taken
	earlyOffers [maxEarlyViews]bool
	held        []consensus.Statement
	early       []consensus.Statement
	expected    []crypto.PublicKey // who owe blocks, ascending
	asked       bool
	askedOf     crypto.PublicKey // whose ancestry is awaited
	askedFrom   uint64
}

// Window returns the newest snapshot; another pointer when it changed. The
// pointer may be shared between goroutines.
func (r *Replica) Window() *Window { return r.window }

// publish makes a new window if something in it changed.
func (r *Replica) publish() {
	final, _ := r.core.LastFinalized()
	closed := r.core.Closed()
	if w := r.window; w != nil && !r.stale && w.epoch == r.epoch && w.view == r.core.View() && w.finalized == final && w.closed == closed {
		return
	}
	r.stale = false
	w := &Window{
		epoch: r.epoch, view: r.core.View(), finalized: final, closed: closed,
		reigns: r.reigns, cfg: &r.cfg, carriers: r.carriers(), mandates: r.sentry.mandates, offered: r.offers, expected: r.owing, earlyOffers: r.early.offers,
		held: r.core.Held(), early: slices.Clip(r.early.certificates),
		asked: r.catch.active && r.catch.asked, askedOf: r.catch.peer, askedFrom: r.catch.from,
	}
	r.window = w
}

// Admit says what to do with a message from an authenticated peer. An error says
// how the peer broke the protocol: it is to be blamed, and the message dropped.
// Safe for concurrent use.
func (w *Window) Admit(from crypto.PublicKey, m consensus.Message) (Admission, error) {
	switch m := m.(type) {
	case consensus.Vote:
		return w.vote(from, m)
	case consensus.Offer:
		return w.offer(from, m.Vote)
	case *consensus.Certificate:
		return w.certificate(from, m), nil
	case consensus.BlockAnswer:
		if _, ok := slices.BinarySearchFunc(w.expected, from, crypto.PublicKey.Compare); ok {
			return PassWithBlock, nil
		}
		return Drop, nil // late, perhaps to this node's last life
	case consensus.Ancestry:
		if w.asked && from == w.askedOf && m.From == w.askedFrom {
			return PassWithBlock, nil
		}
		return Drop, nil
	case consensus.Delegation:
		return w.delegation(from, m)
	case consensus.CertificateRequest, consensus.BlockRequest, consensus.AncestryRequest:
		return Pass, nil
	}
	return Drop, nil
}

// delegation has forged ones refused here: anybody can make any number of them.
func (w *Window) delegation(from crypto.PublicKey, d consensus.Delegation) (Admission, error) {
	in := w.reigns.of(d.Epoch)
	if in == nil || d.Epoch < w.epoch || d.Epoch > w.epoch+1 || holds(w.carriers.held, w.mandates, d) {
		return Drop, nil
	}
	useful, err := checkDelegation(in, w.cfg, from, d)
	if !useful || err != nil {
		return Drop, err
	}
	return Pass, nil
}

// Mandates returns the delegations of this sentry's wards for the running epoch and
// the next. Safe for concurrent use; nobody may change them.
func (w *Window) Mandates() []consensus.Delegation { return w.mandates }

func (w *Window) vote(from crypto.PublicKey, v consensus.Vote) (Admission, error) {
	e := v.Statement().Round().Epoch
	in := w.reigns.of(e)
	if in == nil || e > w.epoch+1 {
		return Drop, nil
	}
	signer, _ := v.By()
	how, err := w.carriers.of(in, from, signer)
	_, gaveUp := v.(consensus.Nullify)
	switch {
	case e < w.epoch && (how != byOwner || !gaveUp):
		return Drop, nil
	case how != uncarried:
		return Pass, nil
	}
	return Drop, err
}

// offer has one block of each view read, of the views that the core may soon be
// in.
func (w *Window) offer(from crypto.PublicKey, n consensus.Notarize) (Admission, error) {
	way, err := w.vote(from, n)
	if way == Drop || err != nil {
		return way, err
	}
	round := n.Proposal.Round
	if round.Epoch < w.epoch {
		return Pass, nil
	}
	if leader := w.reigns.of(round.Epoch).Committee.Leader(round.View); leader != n.Signer {
		return Drop, fmt.Errorf("replica: offer of view %d by signer %d, its leader is %d", round.View, n.Signer, leader)
	}
	switch {
	case round.Epoch > w.epoch:
		if round.View <= maxEarlyViews && !w.earlyOffers[round.View-1] {
			return PassWithBlock, nil
		}
	case !w.closed && round.View > w.finalized && round.View <= w.view+offerWindow && round.View > w.offered[n.Signer]:
		return PassWithBlock, nil
	}
	return Pass, nil
}

// certificate has a stranger's verified away from Step, where the committee waits:
// anybody can be many strangers, each with a certificate that is forged. What is
// final already is not taken from them, so that old certificates, which are good,
// cost nothing; a pair that is evidence comes from a member.
func (w *Window) certificate(from crypto.PublicKey, cert *consensus.Certificate) Admission {
	s := cert.Statement
	member := w.Member(from)
	switch s.Round().Epoch {
	case w.epoch:
		if slices.Contains(w.held, s) || !member && (w.closed || s.View() <= w.finalized) {
			return Drop
		}
	case w.epoch + 1:
		if slices.Contains(w.early, s) || len(w.early) >= maxEarlyCertificates {
			return Drop
		}
	default:
		return Drop
	}
	if member {
		return Pass
	}
	return PassVerified
}

// Member reports whether a peer is in the committee of this epoch or of the next,
// or carries the votes of one who is. All others are strangers: nobody vouches
// for their number.
func (w *Window) Member(peer crypto.PublicKey) bool {
	for e := w.epoch; e <= w.epoch+1; e++ {
		if in := w.reigns.of(e); in != nil {
			if _, ok := in.signers[peer]; ok {
				return true
			}
		}
	}
	return slices.Contains(w.carriers.own, peer) || slices.ContainsFunc(w.carriers.held, func(d delegation) bool { return d.node == peer })
}

// Verify returns nil if a certificate of this epoch or the next is good: for
// PassVerified. Safe for concurrent use.
func (w *Window) Verify(cert *consensus.Certificate) error {
	in := w.reigns.of(cert.Statement.Round().Epoch)
	if in == nil {
		return fmt.Errorf("replica: certificate of epoch %d, which is not known", cert.Statement.Round().Epoch)
	}
	return cert.Verify(in.Committee, w.cfg.ChainID)
}
