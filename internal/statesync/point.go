package statesync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// point is a block to begin with, proven final.
type point struct {
	header      light.Header
	certificate []byte // of it or a later block; nil: that of the end of the epoch which it is
	ends        int    // how many of the joiner's ends are up to it
}

// maxRemembered bounds what is remembered of heights, each of which a peer has
// shown to be final.
const maxRemembered = 256

// choose returns the point to begin with. Those come first whose state was never
// offered in vain by a peer that offers them, then what most peers offer, since it is
// had from all of them, then the latest. What a peer says decides whom to ask for the
// proof. It returns false if nothing that is offered can be proven.
func (j *joiner) choose(ctx context.Context) (point, bool) {
	type candidate struct {
		height       chain.Height
		vain, failed int
		peers        int
	}
	offered := map[chain.Height]*candidate{}
	for _, peer := range j.Network.Peers() {
		for _, height := range j.offers[peer] {
			c := offered[height]
			if c == nil {
				c = &candidate{height: height, vain: j.vain[peer], failed: j.failed[height]}
				offered[height] = c
			}
			c.vain = min(c.vain, j.vain[peer])
			c.peers++
		}
	}
	list := make([]*candidate, 0, len(offered))
	for height, c := range offered { // order-free: sorted below
		if height >= j.ends[0].Closing.Height() {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.vain, b.vain), cmp.Compare(a.failed, b.failed), cmp.Compare(b.peers, a.peers), cmp.Compare(b.height, a.height))
	})
	for _, c := range list {
		if at, ok := j.prove(ctx, c.height); ok {
			return at, true
		}
		if ctx.Err() != nil {
			break
		}
	}
	return point{}, false
}

// offering returns the connected peers that offer the state before a block.
func (j *joiner) offering(height chain.Height) []crypto.PublicKey {
	return slices.DeleteFunc(j.Network.Peers(), func(peer crypto.PublicKey) bool { return !slices.Contains(j.offers[peer], height) })
}

// prove returns the point of a height: an end of an epoch that was followed, or what
// a peer that offers it can show to be final.
func (j *joiner) prove(ctx context.Context, height chain.Height) (point, bool) {
	ends := 0
	for ends < len(j.ends) && j.ends[ends].Closing.Height() <= height {
		ends++
	}
	last := j.ends[ends-1].Closing
	if last.Height() == height {
		return point{header: last, ends: ends}, true
	}
	if known, ok := j.proven[height]; ok {
		return known, true
	}
	for _, peer := range j.offering(height) {
		if time.Now().Before(j.tired[peer]) {
			continue
		}
		at, err := j.askProof(ctx, peer, height, j.Checkpoint.Epoch+consensus.Epoch(ends))
		if err != nil {
			j.blame(peer, "proving a block", err)
			continue
		}
		if len(j.proven) >= maxRemembered || len(j.failed) >= maxRemembered {
			clear(j.proven)
			clear(j.failed)
		}
		at.ends = ends
		j.proven[height] = at
		return at, true
	}
	return point{}, false
}

// askProof asks a peer to show that a block of an epoch is final.
func (j *joiner) askProof(ctx context.Context, peer crypto.PublicKey, height chain.Height, epoch consensus.Epoch) (point, error) {
	raw, err := j.request(ctx, peer, ServiceProof, proofRequest{Height: height})
	if err != nil {
		return point{}, err
	}
	var shown proofAnswer
	if err := codec.Unmarshal(raw, &shown, maxProofBytes); err != nil {
		return point{}, rubbish{err}
	}
	header, err := j.verifier.VerifyHeader(light.Evidence{Header: shown.Header, Path: shown.Path, Certificate: shown.Certificate})
	switch {
	case errors.Is(err, light.ErrAhead):
		return point{}, err // an epoch may have ended since
	case err != nil:
		return point{}, rubbish{fmt.Errorf("the proof of block %d: %w", height, err)}
	case header.Height() != height:
		return point{}, rubbish{fmt.Errorf("the proof of block %d is of block %d", height, header.Height())}
	}
	h, err := header.Header()
	if err != nil {
		return point{}, err
	}
	if consensus.Epoch(h.Epoch) > epoch {
		return point{}, fmt.Errorf("block %d is of epoch %d: %w", height, h.Epoch, light.ErrAhead)
	}
	if consensus.Epoch(h.Epoch) < epoch {
		return point{}, rubbish{fmt.Errorf("block %d is of epoch %d, which ended before it", height, h.Epoch)}
	}
	return point{header: header, certificate: shown.Certificate}, nil
}

// fetchBlock fetches the block to begin with. It returns false if nobody gives it.
func (j *joiner) fetchBlock(ctx context.Context, at point) (Result, bool, error) {
	certificate := at.certificate
	if certificate == nil {
		transition, err := light.DecodeTransition(j.ends[at.ends-1].Transition)
		if err != nil {
			return Result{}, false, err
		}
		certificate = transition.Certificate
	}
	for began := time.Now(); time.Since(began) < requestTimeout; {
		for _, peer := range j.fresh() {
			raw, err := j.request(ctx, peer, ServiceBlock, blockRequest{Height: at.header.Height()})
			if err == nil {
				var block light.Block
				if block, err = at.header.VerifyBlock(raw); err == nil {
					return Result{Verifier: j.verifier, Block: block, Raw: raw, Certificate: certificate}, true, nil
				}
				err = rubbish{err}
			}
			j.blame(peer, "fetching the block to begin with", err)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return Result{}, false, err
		}
	}
	return Result{}, false, nil
}
