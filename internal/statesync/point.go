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

// nextBlockAfter is after how long another peer is asked for the block as well.
const nextBlockAfter = time.Second

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
	peers := slices.DeleteFunc(j.offering(height), func(peer crypto.PublicKey) bool { return time.Now().Before(j.tired[peer]) })
	at, ok := firstOf(ctx, peers, pollEvery, func(ctx context.Context, peer crypto.PublicKey) (point, error) {
		return j.askProof(ctx, peer, height, j.Checkpoint.Epoch+consensus.Epoch(ends))
	}, func(peer crypto.PublicKey, err error) {
		if errors.Is(err, context.DeadlineExceeded) {
			j.vain[peer]++
		}
		j.blame(peer, "proving a block", err)
	})
	if ok {
		if len(j.proven) >= maxRemembered || len(j.failed) >= maxRemembered {
			clear(j.proven)
			clear(j.failed)
		}
		at.ends = ends
		j.proven[height] = at
	}
	return at, ok
}

// firstOf asks peers, the next one after a while, or when one fails, and takes the first
// answer that holds: any number of them may be silent. Asking changes nothing of the
// joiner, to whom each failure is told.
func firstOf[T any](ctx context.Context, peers []crypto.PublicKey, every time.Duration, ask func(context.Context, crypto.PublicKey) (T, error), failed func(crypto.PublicKey, error)) (first T, ok bool) {
	type answer struct {
		peer crypto.PublicKey
		got  T
		err  error
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(peers))
	begin := time.NewTimer(0)
	defer begin.Stop()
	begun, ended := 0, 0
	for ended < begun || begun < len(peers) && !ok && ctx.Err() == nil {
		select {
		case <-begin.C:
			if begun == len(peers) || asking.Err() != nil {
				continue
			}
			peer := peers[begun]
			begun++
			go func() {
				got, err := ask(asking, peer)
				answers <- answer{peer, got, err}
			}()
			begin.Reset(every)
		case a := <-answers:
			ended++
			switch {
			case a.err == nil && !ok:
				first, ok = a.got, true
				cancel() // of the others
			case a.err != nil && asking.Err() == nil:
				failed(a.peer, a.err)
				begin.Reset(0)
			}
		}
	}
	return first, ok
}

// askProof asks a peer to show that a block of an epoch is final. It changes nothing.
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
		got, ok := firstOf(ctx, j.giversFirst(at.header.Height()), nextBlockAfter, func(ctx context.Context, peer crypto.PublicKey) (fetchedBlock, error) {
			raw, err := j.request(ctx, peer, ServiceBlock, blockRequest{Height: at.header.Height()})
			if err != nil {
				return fetchedBlock{}, err
			}
			block, err := at.header.VerifyBlock(raw)
			if err != nil {
				return fetchedBlock{}, rubbish{err}
			}
			return fetchedBlock{block, raw}, nil
		}, func(peer crypto.PublicKey, err error) { j.blame(peer, "fetching the block to begin with", err) })
		if ok {
			return Result{Verifier: j.verifier, Block: got.block, Raw: got.raw, Certificate: certificate}, true, nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return Result{}, false, err
		}
	}
	return Result{}, false, nil
}

// fetchedBlock is a block that its header proves.
type fetchedBlock struct {
	block light.Block
	raw   []byte
}

// giversFirst returns the peers that are not left alone, those first that gave some of
// the state before a point.
func (j *joiner) giversFirst(height chain.Height) []crypto.PublicKey {
	peers := j.fresh()
	slices.SortStableFunc(peers, func(a, b crypto.PublicKey) int {
		switch gaveA, gaveB := j.gave[a] == height, j.gave[b] == height; {
		case gaveA == gaveB:
			return 0
		case gaveA:
			return -1
		}
		return 1
	})
	return peers
}
