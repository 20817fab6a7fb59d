package engine

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// reply is a peer's answer to catch-up.
type reply struct {
	peer     crypto.PublicKey
	ancestry consensus.Ancestry
}

// Receive takes a message from an authenticated peer. It blocks while the inbox
// is full, and returns at once when Run is over. An error says how the peer
// broke the protocol; the peer is blocked already.
func (e *Engine) Receive(peer crypto.PublicKey, ch consensus.Channel, data []byte) error {
	e.counters.received.Add(1)
	m, err := consensus.DecodeMessage(ch, data)
	if err == nil {
		err = e.accept(peer, m)
	}
	if err != nil {
		e.blame(peer, err.Error())
	}
	return err
}

// accept does in the network's goroutine what needs no core: bindings to the
// connection, and the digests of blocks.
func (e *Engine) accept(peer crypto.PublicKey, m consensus.Message) error {
	switch m := m.(type) {
	case consensus.Vote:
		if err := e.own(peer, m); err != nil {
			return err
		}
		e.deliver(consensus.VoteReceived{Vote: m})
	case *consensus.Certificate:
		e.deliver(consensus.CertificateReceived{From: peer, Certificate: m})
	case consensus.Offer:
		if err := e.own(peer, m.Vote); err != nil {
			return err
		}
		worth, err := e.worthReading(m.Vote)
		if err != nil {
			return err
		}
		if !worth { // it may still count, or be evidence
			e.deliver(consensus.VoteReceived{Vote: m.Vote})
			return nil
		}
		b, err := e.app.Inspect(m.Payload)
		if err != nil {
			return fmt.Errorf("engine: offered block: %w", err)
		}
		if b.Digest != m.Vote.Proposal.Digest {
			return fmt.Errorf("engine: offered block %s under the vote for %s", b.Digest.Short(), m.Vote.Proposal.Digest.Short())
		}
		e.deliver(consensus.OfferReceived{Vote: m.Vote, Block: b})
	case consensus.BlockAnswer:
		if !e.expected.take(peer) {
			e.counters.dropped.Add(1) // late, perhaps to this node's last life
			return nil
		}
		b, err := e.app.Inspect(m.Payload)
		if err != nil {
			return fmt.Errorf("engine: fetched block: %w", err)
		}
		e.deliver(consensus.BlockReceived{Block: b})
	case consensus.Ancestry:
		if who := e.waiting.Load(); who != nil && *who == peer {
			select {
			case e.answer <- reply{peer: peer, ancestry: m}:
			default: // a second answer to one request
			}
		}
	case consensus.Delegation: // this engine takes votes over their signers' own connections alone
	case consensus.CertificateRequest:
		e.queue(peer, func(ctx context.Context) (consensus.Message, error) { return e.certificate(ctx, m), nil })
	case consensus.BlockRequest:
		e.queue(peer, func(ctx context.Context) (consensus.Message, error) { return e.block(ctx, m.Digest) })
	case consensus.AncestryRequest:
		e.queue(peer, func(context.Context) (consensus.Message, error) { return e.ancestry(m.From) })
	}
	return nil
}

// offerWindow is how far above the current view an offered block is read: the
// inbox may hold what leads there.
const offerWindow = 64

// worthReading reports whether the block under a leader's vote is to be read,
// which is expensive: one for each view that it leads, in ascending order, of
// the views that the core may soon be in. An offer by another validator than the
// view's leader is a breach.
func (e *Engine) worthReading(v consensus.Notarize) (bool, error) {
	round := v.Proposal.Round
	if round.Epoch != e.cfg.Committee.Epoch() {
		return false, nil
	}
	if leader := e.cfg.Committee.Leader(round.View); leader != v.Signer {
		return false, fmt.Errorf("engine: offer of view %d by signer %d, its leader is %d", round.View, v.Signer, leader)
	}
	status := e.status.Load()
	if round.View <= status.FinalizedView || round.View > status.View+offerWindow || uint64(round.View) <= e.offered[v.Signer].Load() {
		return false, nil
	}
	e.offered[v.Signer].Store(uint64(round.View))
	return true, nil
}

// own refuses a vote that did not come over its signer's own connection.
func (e *Engine) own(peer crypto.PublicKey, v consensus.Vote) error {
	by, _ := v.By()
	if signer, ok := e.signers[peer]; !ok || signer != by {
		return fmt.Errorf("engine: vote of signer %d over another node's connection", by)
	}
	return nil
}

// deliver hands an event to the core loop, unless Run is over.
func (e *Engine) deliver(ev consensus.Event) {
	select {
	case e.inbox <- input{event: ev}:
	case <-e.done:
	}
}

func (e *Engine) queue(peer crypto.PublicKey, find finder) {
	if !e.asked.add(peer, find) {
		e.counters.dropped.Add(1)
	}
}

// answerPeers answers fetch requests, one at a time, of one peer after the
// other: a peer that asks a lot waits for itself, never the core.
func (e *Engine) answerPeers(ctx context.Context) error {
	for {
		peer, find, ok := e.asked.next(ctx)
		if !ok {
			return nil
		}
		answer, err := find(ctx)
		if err != nil {
			return err
		}
		if answer != nil {
			e.counters.answered.Add(1)
			e.net.Send(peer, answer.Channel(), consensus.EncodeMessage(answer))
		}
	}
}

func (e *Engine) certificate(ctx context.Context, r consensus.CertificateRequest) consensus.Message {
	if cert := query(ctx, e, func(c *consensus.Core) *consensus.Certificate { return c.Answer(r) }); cert != nil {
		return cert
	}
	return nil
}

func (e *Engine) block(ctx context.Context, digest crypto.Digest) (consensus.Message, error) {
	held := query(ctx, e, func(c *consensus.Core) *consensus.Block {
		if b, ok := c.Block(digest); ok {
			return &b
		}
		return nil
	})
	if held != nil {
		return consensus.BlockAnswer{Payload: held.Payload}, nil
	}
	payload, ok, err := e.app.FinalizedByDigest(digest)
	if err != nil {
		return nil, fmt.Errorf("engine: reading block %s: %w", digest.Short(), err)
	}
	if !ok {
		return nil, nil
	}
	return consensus.BlockAnswer{Payload: payload}, nil
}

// query runs a read of the core in the core loop. It returns nil when ctx ends
// first.
func query[T any](ctx context.Context, e *Engine, read func(*consensus.Core) *T) *T {
	result := make(chan *T, 1)
	select {
	case e.inbox <- input{read: func(c *consensus.Core) { result <- read(c) }}:
	case <-ctx.Done():
		return nil
	}
	select {
	case r := <-result:
		return r
	case <-ctx.Done():
		return nil
	}
}

// ancestry collects finalized blocks from the height upward. Certificates that
// are a block's own travel with it.
func (e *Engine) ancestry(from uint64) (consensus.Message, error) {
	out := consensus.Ancestry{From: from}
	size := 0
	for size < consensus.MaxAncestryBytes && len(out.Blocks) < consensus.MaxAncestry {
		p, ok, err := e.app.Finalized(from + uint64(len(out.Blocks)))
		if err != nil {
			return nil, fmt.Errorf("engine: reading block %d: %w", from+uint64(len(out.Blocks)), err)
		}
		if !ok {
			break
		}
		proven := consensus.ProvenBlock{Payload: p.Payload}
		if p.Certificate.Statement.Proposal.Digest == p.Digest {
			proven.Certificate = consensus.EncodeCertificate(p.Certificate)
		}
		size += len(p.Payload) + len(proven.Certificate)
		out.Blocks = append(out.Blocks, proven)
	}
	return out, nil
}
