package staking

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Extras is what consensus puts into a block beside transactions.
type Extras struct {
	Evidence     []consensus.Evidence
	Finalization *consensus.Certificate // of the header's epoch; nil: none
	LateVotes    []consensus.Vote       // finalize votes of the header's epoch
}

// DecodeExtras reads the consensus items of a body, of which there may not be
// more than a block takes: TakeExtras looks at every one. Signatures are not
// looked at.
func DecodeExtras(b *chain.Body) (Extras, error) {
	var x Extras
	if len(b.Evidence) > MaxEvidence || len(b.LateVotes) > MaxLateVotes {
		return Extras{}, fmt.Errorf("%d pieces of evidence and %d late votes, limits %d and %d", len(b.Evidence), len(b.LateVotes), MaxEvidence, MaxLateVotes)
	}
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

// Block is where consensus items stand: a block of the epoch's committee.
type Block struct {
	Env
	View     consensus.View
	Proposer consensus.Signer
	Members  []Member // of the epoch's committee
}

const (
	// MaxEvidence is how much evidence a block takes.
	MaxEvidence = 4
	// MaxLateVotes is how many late votes a block takes, as chain.DecodeBlock
	// does.
	MaxLateVotes = 64
	// voteWindow is for how many views votes are credited, and voteLag how far
	// back a view must be: a proposer gains nothing by waiting for votes.
	voteWindow = 32
	voteLag    = 2
)

// votes is who was shown to have finalized in a view.
type votes struct {
	_        struct{} `cbor:",toarray"`
	Proposal consensus.Proposal
	Signers  []byte // bitmap, as in certificates
}

// seen is what an epoch's blocks have shown of its committee.
type seen struct {
	_       struct{} `cbor:",toarray"`
	Signers []byte   // who was in a finalization, voted late, or proposed
	Leaders []byte   // whose blocks showed votes
	Views   uint32   // of which votes were shown
}

func has(bitmap []byte, s consensus.Signer) bool { return bitmap[s/8]&(1<<(s%8)) != 0 }

func set(bitmap []byte, s consensus.Signer) { bitmap[s/8] |= 1 << (s % 8) }

func bitmapOf(members []Member) []byte { return make([]byte, (len(members)+7)/8) }

// TakeExtras does what a block's consensus items say: convicts, with the
// proposer's owner as the reporter, and credits votes. It returns the items that
// may stand in the block, and why the first other may not.
func TakeExtras(kv state.KV, b *Block, x Extras) (kept Extras, events chain.Events, refused error) {
	refuse := func(what string, why error) {
		if refused == nil {
			refused = fmt.Errorf("%s: %w", what, why)
		}
	}
	for i, e := range x.Evidence {
		if len(kept.Evidence) == MaxEvidence {
			refuse("evidence", fmt.Errorf("%d pieces, limit %d", len(x.Evidence), MaxEvidence))
			break
		}
		made, why := convict(kv, &b.Env, e, b.Members[b.Proposer].Owner)
		if why != nil {
			refuse(fmt.Sprintf("evidence %d", i), errors.New(why.Reason()))
			continue
		}
		kept.Evidence, events = append(kept.Evidence, e), append(events, made...)
	}
	c := newCrediting(kv, b)
	if x.Finalization != nil {
		if err := c.finalization(x.Finalization); err != nil {
			refuse("finalization", err)
		} else {
			kept.Finalization = x.Finalization
		}
	}
	for i, v := range x.LateVotes {
		if len(kept.LateVotes) == MaxLateVotes {
			refuse("late votes", fmt.Errorf("%d, limit %d", len(x.LateVotes), MaxLateVotes))
			break
		}
		if err := c.late(v); err != nil {
			refuse(fmt.Sprintf("late vote %d", i), err)
			continue
		}
		kept.LateVotes = append(kept.LateVotes, v)
	}
	c.save()
	return kept, events, refused
}

// crediting counts the votes that a block shows.
type crediting struct {
	kv     state.KV
	b      *Block
	seen   seen
	credit uint64
	shown  bool
}

func newCrediting(kv state.KV, b *Block) *crediting {
	c := &crediting{kv: kv, b: b}
	var ok bool
	if c.seen, ok = state.Load[seen](kv, keyOf(kindSeen)); !ok {
		c.seen = seen{Signers: bitmapOf(b.Members), Leaders: bitmapOf(b.Members)}
	}
	return c
}

// inWindow demands a finalize statement of the block's epoch, at least voteLag
// views back and at most voteWindow.
func (c *crediting) inWindow(s consensus.Statement) error {
	round := s.Round()
	switch {
	case s.Kind != consensus.KindFinalize:
		return fmt.Errorf("a %s, want a finalize", s.Kind)
	case round.Epoch != c.b.Epoch:
		return fmt.Errorf("of epoch %d, the block is of %d", round.Epoch, c.b.Epoch)
	case round.View > c.b.View || c.b.View-round.View < voteLag || c.b.View-round.View > voteWindow:
		return fmt.Errorf("of view %d, the block is of %d", round.View, c.b.View)
	}
	return nil
}

// finalization credits the signers of a certificate who were not shown before.
func (c *crediting) finalization(f *consensus.Certificate) error {
	if err := c.inWindow(f.Statement); err != nil {
		return err
	}
	view, known := state.Load[votes](c.kv, votesKey(f.View()))
	if known && view.Proposal != f.Statement.Proposal {
		return fmt.Errorf("of another proposal than was shown for view %d", f.View())
	}
	if !known {
		view = votes{Proposal: f.Statement.Proposal, Signers: bitmapOf(c.b.Members)}
	}
	if err := verifyFinalization(c.b, f); err != nil {
		return err
	}
	fresh := false
	for i := range c.b.Members {
		if s := consensus.Signer(i); f.Has(s) && !has(view.Signers, s) {
			set(view.Signers, s)
			c.show(s)
			fresh = true
		}
	}
	if !fresh {
		return fmt.Errorf("nobody in it was not shown for view %d before", f.View())
	}
	if !known {
		c.seen.Views++
		c.forget()
	}
	state.Save(c.kv, votesKey(f.View()), view)
	return nil
}

// late credits a vote for what was shown to be final in its view.
func (c *crediting) late(v consensus.Vote) error {
	statement := v.Statement()
	if err := c.inWindow(statement); err != nil {
		return err
	}
	signer, signature := v.By()
	view, known := state.Load[votes](c.kv, votesKey(statement.View()))
	switch {
	case !known || view.Proposal != statement.Proposal:
		return fmt.Errorf("for what was not shown to be final in view %d", statement.View())
	case int(signer) >= len(c.b.Members):
		return fmt.Errorf("by signer %d of %d", signer, len(c.b.Members))
	case has(view.Signers, signer):
		return fmt.Errorf("by signer %d, who was shown before", signer)
	case !c.b.Members[signer].ConsensusKey.Verify(statement.Domain(), statement.Payload(string(c.b.ChainID)), signature):
		return fmt.Errorf("by signer %d, whose signature does not hold", signer)
	}
	set(view.Signers, signer)
	c.show(signer)
	state.Save(c.kv, votesKey(statement.View()), view)
	return nil
}

// show credits the proposer with a vote.
func (c *crediting) show(s consensus.Signer) {
	c.shown = true
	set(c.seen.Signers, s)
	c.credit += c.b.Members[s].Weight // at most 33 committees' weight
}

// forget drops what is too far back for any block to come.
func (c *crediting) forget() {
	if c.b.View <= voteWindow {
		return
	}
	prefix := []byte{Prefix, kindVotes}
	for key := range c.kv.Iterate(prefix, votesKey(c.b.View-voteWindow)) {
		c.kv.Delete(key)
	}
}

// save keeps what the block showed. A proposer is there, whatever it shows.
func (c *crediting) save() {
	known := has(c.seen.Signers, c.b.Proposer)
	set(c.seen.Signers, c.b.Proposer)
	if c.shown {
		set(c.seen.Leaders, c.b.Proposer)
		t, _ := state.Load[tally](c.kv, tallyKey(c.b.Proposer)) // none: zero
		t.Credit = sound(checked.Add(t.Credit, c.credit))
		state.Save(c.kv, tallyKey(c.b.Proposer), t)
	}
	if c.shown || !known {
		state.Save(c.kv, keyOf(kindSeen), c.seen)
	}
}

// verifyFinalization is consensus.Certificate's Verify without the schedule of
// leaders, which takes longer to make than all else here.
func verifyFinalization(b *Block, f *consensus.Certificate) error {
	if want := len(bitmapOf(b.Members)); len(f.Signers) != want {
		return fmt.Errorf("bitmap of %d bytes, want %d", len(f.Signers), want)
	}
	digest := f.Statement.Domain().Hash(f.Statement.Payload(string(b.ChainID)))
	items := make([]crypto.Signed, 0, len(f.Signatures))
	weight := uint64(0)
	for i := range len(f.Signers) * 8 {
		if !f.Has(consensus.Signer(i)) {
			continue
		}
		if i >= len(b.Members) || len(items) == len(f.Signatures) {
			return fmt.Errorf("signer %d of %d with %d signatures", i, len(b.Members), len(f.Signatures))
		}
		weight += b.Members[i].Weight
		items = append(items, crypto.Signed{Key: b.Members[i].ConsensusKey, Digest: digest, Signature: f.Signatures[len(items)]})
	}
	if len(items) != len(f.Signatures) {
		return fmt.Errorf("%d signatures for %d signers", len(f.Signatures), len(items))
	}
	if quorum := sound(checked.MulDivFloor(weightOf(b.Members), 2, 3)) + 1; weight < quorum {
		return fmt.Errorf("weight %d, quorum %d", weight, quorum)
	}
	for i, ok := range crypto.VerifyBatch(items, 1) {
		if !ok {
			return fmt.Errorf("signature %d does not hold", i)
		}
	}
	return nil
}
