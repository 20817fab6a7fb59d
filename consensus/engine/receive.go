package engine

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// question is a fetch request waiting for an answer: find returns it, or nil if
// this node has none.
type question struct {
	peer crypto.PublicKey
	find func(context.Context) (consensus.Message, error)
}

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
		b, err := e.app.Inspect(m.Payload)
		if err != nil {
			return fmt.Errorf("engine: offered block: %w", err)
		}
		if b.Digest != m.Vote.Proposal.Digest {
			return fmt.Errorf("engine: offered block %s under the vote for %s", b.Digest.Short(), m.Vote.Proposal.Digest.Short())
		}
		e.deliver(consensus.OfferReceived{Vote: m.Vote, Block: b})
	case consensus.BlockAnswer:
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
	case consensus.CertificateRequest:
		e.queue(peer, func(ctx context.Context) (consensus.Message, error) { return e.certificate(ctx, m), nil })
	case consensus.BlockRequest:
		e.queue(peer, func(ctx context.Context) (consensus.Message, error) { return e.block(ctx, m.Digest) })
	case consensus.AncestryRequest:
		e.queue(peer, func(context.Context) (consensus.Message, error) { return e.ancestry(m.From) })
	}
	return nil
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

func (e *Engine) queue(peer crypto.PublicKey, find func(context.Context) (consensus.Message, error)) {
	select {
	case e.asked <- question{peer: peer, find: find}:
	default:
		e.counters.dropped.Add(1)
	}
}

// answerPeers answers fetch requests, one at a time: a peer that asks a lot
// waits for itself and others, never the core.
func (e *Engine) answerPeers(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-e.asked:
			answer, err := q.find(ctx)
			if err != nil {
				return err
			}
			if answer != nil {
				e.counters.answered.Add(1)
				e.net.Send(q.peer, answer.Channel(), consensus.EncodeMessage(answer))
			}
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
		b, err := e.app.Inspect(p.Payload)
		if err != nil {
			return nil, fmt.Errorf("engine: stored block %d: %w", from+uint64(len(out.Blocks)), err)
		}
		proven := consensus.ProvenBlock{Payload: p.Payload}
		if p.Certificate.Statement.Proposal.Digest == b.Digest {
			proven.Certificate = consensus.EncodeCertificate(p.Certificate)
		}
		size += len(p.Payload) + len(proven.Certificate)
		out.Blocks = append(out.Blocks, proven)
	}
	return out, nil
}
