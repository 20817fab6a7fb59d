package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var errForged = errors.New("engine: forged ancestry")

// catchUp asks peers for finalized blocks above the own ones, in turn: at the
// start, when the core knows of a finalization whose blocks are missing, when
// nothing was finalized for Config.CatchUp, and again at once while answers
// bring progress.
func (e *Engine) catchUp(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	head, _, _ := e.finalizer.head()
	known, turn := head.Height, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		case <-e.behind.raised:
			// The block itself is usually on the way: a moment's patience.
			if !sleep(ctx, e.cfg.Fetch) {
				return nil
			}
			known, _ = e.progress(known)
		}
		if height, moved := e.progress(known); moved {
			known = height
		} else {
			turn++
			for e.fetchFrom(ctx, turn) {
				e.counters.catchUps.Add(1)
			}
		}
		pause.Reset(e.cfg.CatchUp)
	}
}

// progress returns the height taken by now and whether it differs.
func (e *Engine) progress(known uint64) (uint64, bool) {
	head, _, _ := e.finalizer.head()
	return head.Height, head.Height != known
}

// sleep waits, and reports whether ctx lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetchFrom asks one peer for blocks until it has none left that are new, and
// reports whether any were.
func (e *Engine) fetchFrom(ctx context.Context, turn int) bool {
	peer, ok := e.whomToAsk(turn)
	if !ok {
		return false
	}
	var run []consensus.Block // proven by nothing yet
	for {
		if e.finalizer.admit(ctx) != nil {
			return false
		}
		head, _, _ := e.finalizer.head()
		from := head.Height + 1
		if len(run) > 0 {
			from = run[len(run)-1].Height + 1
		}
		answer, ok := e.askAncestry(ctx, peer, from)
		if !ok || len(answer.Blocks) == 0 {
			return false
		}
		advanced, rest, err := e.take(ctx, peer, run, answer)
		if err != nil {
			e.blame(peer, err.Error())
			return false
		}
		if advanced {
			return true
		}
		run = rest
		size := 0
		for _, b := range run {
			size += len(b.Payload)
		}
		if size > e.cfg.MaxRunByte {
			e.cfg.Logger.Warn("a peer's blocks are proven by no certificate in reach", "peer", peer.Short(), "from", from, "bytes", size)
			return false
		}
	}
}

// whomToAsk takes the connected peers in turn: three validators, then somebody
// else, because anybody can connect as a crowd of observers.
func (e *Engine) whomToAsk(turn int) (crypto.PublicKey, bool) {
	var validators, others []crypto.PublicKey
	for _, p := range e.net.Peers() {
		if _, member := e.signers[p]; member {
			validators = append(validators, p)
		} else {
			others = append(others, p)
		}
	}
	from, at := validators, turn-turn/4
	switch {
	case len(validators) == 0:
		from, at = others, turn
	case turn%4 == 3 && len(others) > 0:
		from, at = others, turn/4
	}
	if len(from) == 0 {
		return crypto.PublicKey{}, false
	}
	slices.SortFunc(from, crypto.PublicKey.Compare)
	return from[at%len(from)], true
}

func (e *Engine) askAncestry(ctx context.Context, peer crypto.PublicKey, from uint64) (consensus.Ancestry, bool) {
	select {
	case <-e.answer: // a late answer to an earlier request
	default:
	}
	e.waiting.Store(&peer)
	defer e.waiting.Store(nil)
	request := consensus.AncestryRequest{From: from}
	if !e.net.Send(peer, request.Channel(), consensus.EncodeMessage(request)) {
		return consensus.Ancestry{}, false
	}
	timer := time.NewTimer(e.cfg.Answer)
	defer timer.Stop()
	for {
		select {
		case r := <-e.answer:
			if r.peer == peer && r.ancestry.From == from {
				return r.ancestry, true
			}
		case <-timer.C:
			return consensus.Ancestry{}, false
		case <-ctx.Done():
			return consensus.Ancestry{}, false
		}
	}
}

// take checks an answer: heights in a row, each block the child of the one
// before, every certificate that of its block. It passes on each proven run and
// returns what is left unproven at the end.
func (e *Engine) take(ctx context.Context, peer crypto.PublicKey, run []consensus.Block, answer consensus.Ancestry) (bool, []consensus.Block, error) {
	advanced := false
	for i, p := range answer.Blocks {
		b, err := e.app.Inspect(p.Payload)
		if err != nil {
			return advanced, run, fmt.Errorf("%w: block %d: %w", errForged, answer.From+uint64(i), err)
		}
		if b.Height != answer.From+uint64(i) {
			return advanced, run, fmt.Errorf("%w: height %d in the place of %d", errForged, b.Height, answer.From+uint64(i))
		}
		if len(run) > 0 && run[len(run)-1].Digest != b.Parent {
			return advanced, run, fmt.Errorf("%w: block %d is not the child of the one before", errForged, b.Height)
		}
		run = append(run, b)
		if len(p.Certificate) == 0 {
			continue
		}
		cert, err := e.proof(b, p.Certificate)
		if err != nil {
			return advanced, run, err
		}
		e.post(ctx, consensus.CertificateReceived{From: peer, Certificate: cert})
		select {
		case e.inbox <- input{commit: consensus.Commit{Blocks: run, Certificate: cert}}:
		case <-ctx.Done():
			return false, nil, nil
		}
		run, advanced = nil, true
	}
	if advanced && !e.settled(ctx) {
		return false, nil, nil
	}
	return advanced, run, nil
}

func (e *Engine) proof(b consensus.Block, encoded []byte) (*consensus.Certificate, error) {
	cert, err := consensus.DecodeCertificate(bytes.Clone(encoded))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForged, err)
	}
	if cert.Statement.Kind != consensus.KindFinalize || cert.Statement.Proposal.Digest != b.Digest {
		return nil, fmt.Errorf("%w: %q does not finalize block %d, %s", errForged, cert.Statement, b.Height, b.Digest.Short())
	}
	if err := cert.Verify(e.cfg.Committee, e.cfg.ChainID); err != nil {
		return nil, fmt.Errorf("%w: %w", errForged, err)
	}
	return cert, nil
}

// settled waits until the core loop has taken everything posted so far.
func (e *Engine) settled(ctx context.Context) bool {
	return query(ctx, e, func(*consensus.Core) *struct{} { return &struct{}{} }) != nil
}
