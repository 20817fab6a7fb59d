package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

// toyBlock is what the simulated application puts into a payload.
type toyBlock struct {
	_       struct{} `cbor:",toarray"`
	Height  uint64
	Parent  crypto.Digest
	Epoch   consensus.Epoch
	View    consensus.View // in which it was first proposed
	TimeMs  uint64
	Salt    uint64 // two blocks of one view differ by it
	Empty   bool
	Closing bool // the epoch's last
}

// maxToyBytes holds a toyBlock.
const maxToyBytes = 160

func (b toyBlock) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Height: b.Height,
		Empty: b.Empty, Closing: b.Closing, Payload: payload,
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

// state is what the toy application knows after a block: it is a function of
// the chain up to there.
type state struct {
	block  consensus.Block // the zero block before the first
	height uint64
	timeMs uint64
	// The epoch of the next block, its beginning, its reign and the one after.
	epoch       consensus.Epoch
	start       crypto.Digest
	startHeight uint64
	startMs     uint64
	now, next   *reign
	before      *state // the last one of the epoch before; nil in the first epoch
}

func (r *realm) genesis() *state {
	return &state{epoch: 1, start: genesis, now: r.first[0], next: r.first[1]}
}

// closes reports whether the block on the state is the last of its epoch.
func (r *realm) closes(s *state) bool { return r.length > 0 && s.height+1-s.startHeight >= r.length }

// execute returns the state after a valid block.
func (r *realm) execute(parent *state, b toyBlock, block consensus.Block) *state {
	s := *parent
	s.block, s.height, s.timeMs = block, b.Height, b.TimeMs
	if b.Closing {
		s.before, s.now, s.next = parent, parent.next, r.succession(parent.next, block.Digest)
		s.epoch, s.start, s.startHeight, s.startMs = parent.epoch+1, block.Digest, b.Height, b.TimeMs
	}
	return &s
}

// final is a finalized block with the certificate that proves it: its own, or
// that of a block above it.
type final struct {
	state       *state
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
	realm  *realm
	file   *sim.File
	states map[crypto.Digest]*state // after what is executed; looked up by digest
	chain  []final                  // durable, by height − 1
}

// openApplication reads the file that an earlier life left.
func openApplication(r *realm, file *sim.File) (*application, error) {
	first := r.genesis()
	a := &application{realm: r, file: file, states: map[crypto.Digest]*state{genesis: first}}
	for i, data := range file.Records() {
		var record finalRecord
		if err := codec.Unmarshal(data, &record, maxToyBytes+consensus.MaxCertificateBytes+16); err != nil {
			return nil, fmt.Errorf("stored block %d: %w", i+1, err)
		}
		b, err := readToy(record.Payload)
		if err != nil {
			return nil, fmt.Errorf("stored block %d: %w", i+1, err)
		}
		a.keep(r.execute(a.head(), b, b.block()), record.Certificate)
	}
	return a, nil
}

func (a *application) keep(s *state, certificate *consensus.Certificate) {
	a.chain = append(a.chain, final{state: s, certificate: certificate})
	a.states[s.block.Digest] = s
}

// head is the state after the last durable block.
func (a *application) head() *state {
	if len(a.chain) == 0 {
		return a.states[genesis]
	}
	return a.chain[len(a.chain)-1].state
}

// floor is what Restore is told.
func (a *application) floor() replica.Floor {
	s := a.head()
	f := replica.Floor{Height: s.height, Digest: genesis, Reigns: a.reigns()}
	if len(a.chain) > 0 {
		f.Digest, f.Empty, f.Closing = s.block.Digest, s.block.Empty, s.block.Closing
		f.Certificate = a.chain[len(a.chain)-1].certificate
	}
	return f
}

// reigns are those that the replica is to know: of the last certificate, of the
// next block and of the epoch after.
func (a *application) reigns() []replica.Reign {
	s := a.head()
	out := []replica.Reign{a.begun(s), {Committee: s.next.committee, NodeKeys: s.next.nodeKeys}}
	if s.before != nil {
		out = append([]replica.Reign{a.begun(s.before)}, out...)
	}
	return out
}

// begun is the reign of the block after the state.
func (a *application) begun(s *state) replica.Reign {
	r := replica.Reign{
		Committee: s.now.committee, NodeKeys: s.now.nodeKeys,
		Start: s.start, StartHeight: s.startHeight, StartMs: s.startMs,
	}
	if s.startHeight > 0 {
		r.Final = a.chain[s.startHeight-1].certificate
	}
	return r
}

var errNotExecuted = errors.New("the parent is not executed")

// build completes a block on its executed parent.
func (a *application) build(b toyBlock, now time.Duration) (consensus.Block, error) {
	s := a.states[b.Parent]
	if s == nil {
		return consensus.Block{}, errNotExecuted
	}
	if b.Epoch != s.epoch {
		return consensus.Block{}, fmt.Errorf("a block of epoch %d on one that is followed by epoch %d", b.Epoch, s.epoch)
	}
	b.Height, b.TimeMs, b.Closing = s.height+1, max(millis(now), s.timeMs+1), a.realm.closes(s)
	block := b.block()
	a.states[block.Digest] = a.realm.execute(s, b, block)
	return block, nil
}

func millis(wall time.Duration) uint64 { return uint64(max(0, wall/ms)) }

// maxAheadMs is how far a block may be ahead of the clock of who verifies it.
const maxAheadMs = 500

// verify reports whether the block of the payload may follow its executed
// parent in the round. It returns for how long the answer has to wait.
func (a *application) verify(round consensus.Round, parent crypto.Digest, payload []byte, now time.Duration) (bool, time.Duration, error) {
	s := a.states[parent]
	if s == nil {
		return false, 0, errNotExecuted
	}
	b, err := readToy(payload)
	if err != nil {
		return false, 0, err
	}
	if b.Height != s.height+1 || b.Parent != parent || b.Epoch != round.Epoch || b.Epoch != s.epoch ||
		b.View != round.View || b.TimeMs <= s.timeMs || b.Closing != a.realm.closes(s) {
		return false, 0, nil
	}
	if limit := millis(now) + maxAheadMs; b.TimeMs > limit {
		return false, time.Duration(b.TimeMs-limit) * ms, nil
	}
	block := b.block()
	a.states[block.Digest] = a.realm.execute(s, b, block)
	return true, 0, nil
}

// write puts a finalized block into the file, unsynced, and returns the state
// after it.
func (a *application) write(b consensus.Block, certificate *consensus.Certificate) (*state, error) {
	toy, err := readToy(b.Payload)
	if err != nil {
		return nil, err
	}
	err = a.file.Append(codec.Marshal(finalRecord{Payload: b.Payload, Certificate: certificate}))
	return a.realm.execute(a.head(), toy, b), err
}

// durable returns the durable block with the digest.
func (a *application) durable(digest crypto.Digest) (consensus.Block, bool) {
	s := a.states[digest]
	if s == nil || s.height == 0 || s.height > uint64(len(a.chain)) || a.chain[s.height-1].state.block.Digest != digest {
		return consensus.Block{}, false
	}
	return a.chain[s.height-1].state.block, true
}

// ancestry answers a peer that catches up.
func (a *application) ancestry(from uint64) consensus.Ancestry {
	out := consensus.Ancestry{From: from}
	for h := max(from, 1); h <= uint64(len(a.chain)) && len(out.Blocks) < consensus.MaxAncestry; h++ {
		f := a.chain[h-1]
		proven := consensus.ProvenBlock{Payload: f.state.block.Payload}
		if f.certificate.Statement.Proposal.Digest == f.state.block.Digest {
			proven.Certificate = consensus.EncodeCertificate(f.certificate)
		}
		out.Blocks = append(out.Blocks, proven)
	}
	return out
}
