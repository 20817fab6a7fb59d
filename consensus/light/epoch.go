package light

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// MaxTransitionBytes holds the transition to the largest committee.
const MaxTransitionBytes = 48 << 10

// Transition shows the end of an epoch: what leads a verifier to the next one.
type Transition struct {
	_           struct{}              `cbor:",toarray"`
	Header      []byte                // of the closing block, canonical
	Certificate []byte                // of the closing block itself, canonical
	Members     []consensus.Validator // of the next epoch's committee, in its order
}

// Encode returns the canonical bytes.
func (t *Transition) Encode() []byte { return codec.Marshal(*t) }

// DecodeTransition reads what Encode wrote, of at most MaxTransitionBytes. It
// checks form only: use Step.
func DecodeTransition(raw []byte) (Transition, error) {
	var t Transition
	if err := codec.Unmarshal(raw, &t, MaxTransitionBytes); err != nil {
		return Transition{}, refuse("transition: %w", err)
	}
	if len(t.Members) > consensus.MaxValidators {
		return Transition{}, refuse("transition to %d members, limit %d", len(t.Members), consensus.MaxValidators)
	}
	return t, nil
}

// Epoch returns the epoch whose end the transition claims to show.
func (t *Transition) Epoch() (consensus.Epoch, error) {
	h, err := chain.DecodeHeader(t.Header)
	if err != nil {
		return 0, refuse("%w", err)
	}
	return consensus.Epoch(h.Epoch), nil
}

// Step verifies a transition and returns a verifier that knows the committee of
// the epoch after, with the closing block's header. The transition is of an
// epoch whose committee is known; of the newest one to learn anything. At the time
// now the verifier must not have expired: see Check.
func (v *Verifier) Step(t Transition, now chain.TimeMs) (*Verifier, Header, error) {
	if err := v.Check(now); err != nil {
		return nil, Header{}, err
	}
	closing, err := v.VerifyHeader(Evidence{Header: t.Header, Certificate: t.Certificate})
	if err != nil {
		return nil, Header{}, fmt.Errorf("closing header: %w", err)
	}
	committee, err := nextCommittee(closing.h, t.Members)
	if err != nil {
		return nil, Header{}, err
	}
	if committee.Epoch() <= v.Newest() {
		return v, closing, nil // decode has compared the digests
	}
	kept := v.committees[max(0, len(v.committees)+1-KeptEpochs):]
	next := *v
	next.committees, next.named = append(slices.Clone(kept), committee), closing.TimeMs()
	return &next, closing, nil
}

// nextCommittee returns the committee of the epoch after a closing header, if
// the header commits to the members.
func nextCommittee(h *chain.Header, members []consensus.Validator) (*consensus.Committee, error) {
	if !h.Closing {
		return nil, refuse("header of block %d closes no epoch", h.Height)
	}
	committee, err := consensus.NewCommittee(consensus.Epoch(h.Epoch)+1, members)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if committee.Digest() != h.NextCommittee {
		return nil, refuse("the members listed make committee %s of epoch %d, block %d names %s", committee.Digest().Short(), h.Epoch+1, h.Height, h.NextCommittee.Short())
	}
	return committee, nil
}

// At returns a verifier that trusts a checkpoint of a chain, whose transition
// shows what the checkpoint names, and the closing block's header. It knows the
// committee of the epoch after the checkpoint; the certificate in shown proves
// nothing to it and is not looked at. The checkpoint must not be too old at the
// time now: see Checkpoint.Check.
func At(g *chain.Genesis, c Checkpoint, shown Transition, now chain.TimeMs) (*Verifier, Header, error) {
	if err := c.Check(g, now); err != nil {
		return nil, Header{}, err
	}
	h, err := chain.DecodeHeader(shown.Header)
	if err != nil {
		return nil, Header{}, refuse("%w", err)
	}
	digest := h.Digest()
	switch {
	case digest != c.Digest:
		return nil, Header{}, refuse("the block that closes epoch %d is %s there, the checkpoint names %s", h.Epoch, digest.Short(), c.Digest.Short())
	case h.ChainID != c.ChainID, h.Height != c.Height, h.TimeMs != c.TimeMs, consensus.Epoch(h.Epoch) != c.Epoch, h.NextCommittee != c.NextCommittee:
		return nil, Header{}, refuse("the checkpoint contradicts itself: its block %s is %s", digest.Short(), checkpointOf(&h))
	}
	committee, err := nextCommittee(&h, shown.Members)
	if err != nil {
		return nil, Header{}, err
	}
	v := &Verifier{
		chainID: g.ChainID, genesis: g.Digest(), committees: []*consensus.Committee{committee},
		named: h.TimeMs, lasts: g.Params.UnbondingMs(),
	}
	return v, Header{h: &h, digest: digest}, nil
}
