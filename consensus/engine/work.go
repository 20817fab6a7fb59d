package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// PeersChanged says that a connection came or went. It never blocks.
func (e *Engine) PeersChanged() {
	select {
	case e.peers <- struct{}{}:
	default:
	}
}

// Receive takes a message from an authenticated peer. It blocks while the inbox
// is full, and with blocks until the replica has taken them; it returns at once
// when Run is over. An error says how the peer
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

// accept does in the network's goroutine what needs no replica: the question
// whether the message is of use, and the reading of its blocks.
func (e *Engine) accept(peer crypto.PublicKey, m consensus.Message) error {
	window := e.window.Load()
	admission, err := window.Admit(peer, m)
	if err != nil {
		return err
	}
	in := input{}
	var blocks []consensus.Block
	_, delegates := m.(consensus.Delegation)
	switch admission {
	case replica.Drop:
		e.counters.dropped.Add(1)
		return nil
	case replica.PassWithBlock:
		if blocks, err = e.inspect(peer, m); err != nil {
			return err
		}
		in.taken = make(chan struct{})
	case replica.PassVerified:
		if ok, err := e.strangers.verify(window, m); !ok {
			return err
		}
	case replica.Pass:
		if delegates {
			in.taken = make(chan struct{}) // the votes behind it are to be admitted
		}
	}
	in.event = replica.Received{From: peer, Message: m, Blocks: blocks, Verified: admission == replica.PassVerified}
	inbox := e.inbox
	if !delegates && !window.Member(peer) { // whose delegation holds, and is new, is no stranger
		inbox = e.strangers.inbox
	}
	select {
	case inbox <- in:
	case <-e.done:
		return nil
	}
	if in.taken != nil {
		// The next message of the stream is judged by a window that knows this one:
		// a peer cannot have more blocks read than are of use.
		select {
		case <-in.taken:
		case <-e.done:
		}
	}
	return nil
}

// unpack returns the block of an offer, or none if what it leaves out does not
// come in time: then only the vote in it counts.
func (e *Engine) unpack(peer crypto.PublicKey, offer consensus.Offer) ([]consensus.Block, error) {
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.UnpackWait)
	defer cancel()
	go func() {
		select {
		case <-e.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	block, err := e.app.Unpack(ctx, peer, offer.Payload)
	switch {
	case err != nil && ctx.Err() != nil:
		e.counters.withheld.Add(1)
		e.cfg.Logger.Info("a proposal is not whole", "from", peer.Short(), "view", offer.Vote.Proposal.Round.View, "error", err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("engine: offer: %w", err)
	}
	return []consensus.Block{block}, nil
}

// inspect reads the blocks of a message.
func (e *Engine) inspect(peer crypto.PublicKey, m consensus.Message) ([]consensus.Block, error) {
	if offer, ok := m.(consensus.Offer); ok {
		return e.unpack(peer, offer)
	}
	var payloads [][]byte
	if answer, ok := m.(consensus.BlockAnswer); ok {
		payloads = append(payloads, answer.Payload)
	} else if ancestry, ok := m.(consensus.Ancestry); ok {
		for _, p := range ancestry.Blocks {
			payloads = append(payloads, p.Payload)
		}
	}
	blocks := make([]consensus.Block, len(payloads))
	for i, payload := range payloads {
		var err error
		if blocks[i], err = e.app.Inspect(payload); err != nil {
			return nil, fmt.Errorf("engine: block %d of a message: %w", i, err)
		}
	}
	return blocks, nil
}

// Admits reports whether a message would be of use, and the error whether it breaks
// the protocol; nobody is blamed. Safe for concurrent use.
func (e *Engine) Admits(peer crypto.PublicKey, m consensus.Message) (bool, error) {
	admission, err := e.window.Load().Admit(peer, m)
	return admission != replica.Drop, err
}

// Mandates returns the delegations that this node has as a sentry. Safe for
// concurrent use; nobody may change them.
func (e *Engine) Mandates() []consensus.Delegation { return e.window.Load().Mandates() }

// post hands an event to the loop, unless ctx ends first.
func (e *Engine) post(ctx context.Context, ev replica.Event) {
	select {
	case e.inbox <- input{event: ev}:
	case <-ctx.Done():
	}
}

// finalize is the finalizer's goroutine. It stops between blocks: App.Finalize
// keeps a context that does not end with the engine's, so that a shutdown cannot
// tear a write.
func (e *Engine) finalize(ctx context.Context) error {
	for {
		var f replica.Finalize
		select {
		case f = <-e.final:
		case <-ctx.Done():
			return nil
		}
		b := f.Block
		reigns, err := e.app.Finalize(context.WithoutCancel(ctx), b, f.Certificate)
		if err != nil {
			return fmt.Errorf("block %s at height %d: %w", b.Digest.Short(), b.Height, err)
		}
		e.counters.finalized.Add(1)
		e.post(ctx, replica.Finalized{Height: b.Height, Digest: b.Digest, Empty: b.Empty, Closing: b.Closing, Reigns: reigns})
	}
}

// answer reads the application's store for peers.
func (e *Engine) answer(ctx context.Context) error {
	for {
		var l replica.Lookup
		select {
		case l = <-e.lookups:
		case <-ctx.Done():
			return nil
		}
		m, err := e.find(l.Request)
		if err != nil {
			return err
		}
		in := input{to: l.To, answer: m}
		if m != nil {
			e.counters.answered.Add(1)
			in.data = consensus.EncodeMessage(m)
		}
		in.event = replica.Served{To: l.To, Bytes: len(in.data)}
		select {
		case e.inbox <- in:
		case <-ctx.Done():
		}
	}
}

// find returns the answer to a request, or nil if the application has none.
func (e *Engine) find(request consensus.Message) (consensus.Message, error) {
	if r, ok := request.(consensus.AncestryRequest); ok {
		return e.ancestry(r.From)
	}
	r, ok := request.(consensus.BlockRequest)
	if !ok {
		panic(fmt.Sprintf("engine: a lookup of %T", request))
	}
	payload, ok, err := e.app.FinalizedByDigest(r.Digest)
	if err != nil {
		return nil, fmt.Errorf("reading block %s: %w", r.Digest.Short(), err)
	}
	if !ok {
		return nil, nil
	}
	return consensus.BlockAnswer{Payload: payload}, nil
}

// ancestry collects finalized blocks from the height upward. Certificates that
// are a block's own travel with it.
func (e *Engine) ancestry(from uint64) (consensus.Message, error) {
	out := consensus.Ancestry{From: from}
	size := 0
	for size < consensus.MaxAncestryBytes && len(out.Blocks) < consensus.MaxAncestry {
		p, ok, err := e.app.Finalized(from + uint64(len(out.Blocks)))
		if err != nil {
			return nil, fmt.Errorf("reading block %d: %w", from+uint64(len(out.Blocks)), err)
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

func (e *Engine) cancelBuild() {
	if e.build != nil {
		e.build()
		e.build = nil
	}
}

func (e *Engine) startBuild(ctx context.Context, b replica.Build) {
	e.cancelBuild()
	ctx, stop := context.WithCancel(ctx)
	e.build = stop
	request := ProposeRequest{
		Round:         b.Round,
		Parent:        Parent{View: b.Parent, Digest: b.ParentDigest},
		LastFinalized: Parent{View: b.FinalizedView, Digest: b.FinalizedDigest},
		Idle:          span(b.Idle),
		Finalization:  b.Finalization,
		Late:          b.Late,
	}
	e.tasks.Go(func() {
		defer stop()
		block, err := e.app.Propose(ctx, request)
		if err == nil && len(block.Payload) > consensus.MaxPayloadBytes {
			err = fmt.Errorf("engine: block of %d bytes, limit %d", len(block.Payload), consensus.MaxPayloadBytes)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.cfg.Logger.Error("building a block", "epoch", b.Round.Epoch, "view", b.Round.View, "error", err)
			e.post(ctx, replica.BuildFailed{Round: b.Round})
			return
		}
		e.counters.built.Add(1)
		e.post(ctx, replica.Built{Round: b.Round, Block: block})
	})
}

func (e *Engine) startCheck(ctx context.Context, k replica.Check) {
	ctx, stop := context.WithCancel(ctx)
	e.checks[k.Check] = stop
	round := k.Proposal.Round
	request := VerifyRequest{
		Round: round, Parent: Parent{View: k.Proposal.Parent, Digest: k.ParentDigest}, Block: k.Block, Attested: k.Attested,
	}
	e.tasks.Go(func() {
		defer stop()
		err := e.verify(ctx, request)
		diverged := request.Attested && errors.Is(err, ErrDiverged)
		if diverged || err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrDiverged) && ctx.Err() == nil {
			e.stop(&fault{fmt.Errorf("engine: verifying view %d of epoch %d: %w", round.View, round.Epoch, err)})
			return
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.counters.invalid.Add(1)
			e.cfg.Logger.Warn("invalid block", "epoch", round.Epoch, "view", round.View, "digest", k.Proposal.Digest.Short(), "error", err)
		}
		e.counters.checked.Add(1)
		e.post(ctx, replica.Checked{Check: k.Check, Valid: err == nil})
	})
}

// verify waits for its turn, then asks the application.
func (e *Engine) verify(ctx context.Context, r VerifyRequest) error {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return e.app.Verify(ctx, r)
}
