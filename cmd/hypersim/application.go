package main

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

const chainID = "simulation"

var genesis = crypto.DomainGenesis.Hash([]byte(chainID))

// toyBlock is what the simulated application puts into a payload.
type toyBlock struct {
	_      struct{} `cbor:",toarray"`
	Height uint64
	Parent crypto.Digest
	View   consensus.View
	Salt   uint64 // two blocks of one view differ by it
	Empty  bool
}

// maxToyBytes holds a toyBlock.
const maxToyBytes = 128

func (b toyBlock) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Height: b.Height, Empty: b.Empty, Payload: payload,
	}
}

func readToy(payload []byte) (toyBlock, error) {
	var b toyBlock
	err := codec.Unmarshal(payload, &b, maxToyBytes)
	return b, err
}

func inspect(payload []byte) (consensus.Block, error) {
	b, err := readToy(payload)
	return b.block(), err
}

// final is a finalized block with the certificate that proves it: its own, or
// that of a block above it.
type final struct {
	block       consensus.Block
	certificate *consensus.Certificate
}

// finalRecord is a final in the application's file.
type finalRecord struct {
	_           struct{} `cbor:",toarray"`
	Payload     []byte
	Certificate *consensus.Certificate
}

// application executes toy blocks and keeps the finalized ones in a file.
type application struct {
	file    *sim.File
	heights map[crypto.Digest]uint64 // of what is executed; looked up by digest
	chain   []final                  // durable, by height − 1
	queue   []final                  // finalized and not yet durable, the next heights
}

// openApplication reads the file that an earlier life left.
func openApplication(file *sim.File) (*application, error) {
	a := &application{file: file, heights: map[crypto.Digest]uint64{genesis: 0}}
	for i, data := range file.Records() {
		var r finalRecord
		if err := codec.Unmarshal(data, &r, maxToyBytes+consensus.MaxCertificateBytes+16); err != nil {
			return nil, fmt.Errorf("stored block %d: %w", i+1, err)
		}
		b, err := inspect(r.Payload)
		if err != nil {
			return nil, fmt.Errorf("stored block %d: %w", i+1, err)
		}
		a.chain = append(a.chain, final{block: b, certificate: r.Certificate})
		a.heights[b.Digest] = b.Height
	}
	return a, nil
}

// floor is what Restore is told.
func (a *application) floor() consensus.Floor {
	if len(a.chain) == 0 {
		return consensus.Floor{Digest: genesis}
	}
	last := a.chain[len(a.chain)-1]
	return consensus.Floor{Digest: last.block.Digest, Empty: last.block.Empty, Certificate: last.certificate}
}

var errNotExecuted = errors.New("the parent is not executed")

// build makes a block on an executed parent.
func (a *application) build(k consensus.Build, rand *sim.Rand) (consensus.Block, error) {
	height, ok := a.heights[k.ParentDigest]
	if !ok {
		return consensus.Block{}, errNotExecuted
	}
	b := toyBlock{
		Height: height + 1, Parent: k.ParentDigest, View: k.Round.View, Salt: rand.Uint64(), Empty: rand.Below(3) == 0,
	}.block()
	a.heights[b.Digest] = b.Height
	return b, nil
}

// verify reports whether the block of the payload may follow its executed
// parent.
func (a *application) verify(k consensus.Check, payload []byte) (bool, error) {
	height, ok := a.heights[k.ParentDigest]
	if !ok {
		return false, errNotExecuted
	}
	b, err := readToy(payload)
	if err != nil {
		return false, err
	}
	if b.Height != height+1 || b.Parent != k.ParentDigest || b.View != k.Proposal.Round.View {
		return false, nil
	}
	a.heights[k.Proposal.Digest] = b.Height
	return true, nil
}

// head returns the digest and the height of what was finalized last.
func (a *application) head() (crypto.Digest, uint64) {
	height := uint64(len(a.chain) + len(a.queue))
	switch {
	case len(a.queue) > 0:
		return a.queue[len(a.queue)-1].block.Digest, height
	case len(a.chain) > 0:
		return a.chain[len(a.chain)-1].block.Digest, height
	}
	return genesis, height
}

// finalize queues the blocks that follow the head, skips those below and leaves
// those above a gap to catch-up.
func (a *application) finalize(blocks []consensus.Block, certificate *consensus.Certificate) {
	for _, b := range blocks {
		digest, height := a.head()
		if b.Height > height && b.Parent == digest {
			a.queue = append(a.queue, final{block: b, certificate: certificate})
		}
	}
}

// writeNext writes the first block of the queue into the file, unsynced.
func (a *application) writeNext() {
	next := a.queue[0]
	a.file.Append(codec.Marshal(finalRecord{Payload: next.block.Payload, Certificate: next.certificate}))
}

// syncNext makes it durable.
func (a *application) syncNext() consensus.Block {
	next := a.queue[0]
	a.file.Sync()
	a.queue, a.chain = a.queue[1:], append(a.chain, next)
	a.heights[next.block.Digest] = next.block.Height
	return next.block
}

// durable returns the durable block with the digest.
func (a *application) durable(digest crypto.Digest) (consensus.Block, bool) {
	height := a.heights[digest]
	if height == 0 || height > uint64(len(a.chain)) || a.chain[height-1].block.Digest != digest {
		return consensus.Block{}, false
	}
	return a.chain[height-1].block, true
}

// ancestry answers a peer that catches up.
func (a *application) ancestry(from uint64) consensus.Ancestry {
	out := consensus.Ancestry{From: from}
	for h := max(from, 1); h <= uint64(len(a.chain)) && len(out.Blocks) < consensus.MaxAncestry; h++ {
		f := a.chain[h-1]
		proven := consensus.ProvenBlock{Payload: f.block.Payload}
		if f.certificate.Statement.Proposal.Digest == f.block.Digest {
			proven.Certificate = consensus.EncodeCertificate(f.certificate)
		}
		out.Blocks = append(out.Blocks, proven)
	}
	return out
}
