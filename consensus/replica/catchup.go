package replica

import (
	"bytes"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// catchUp asks peers for finalized blocks above the own ones, in turn: at the
// start, when the core knows of a finalization whose blocks are missing, when
// nothing was finalized for Config.CatchUp, and again at once while answers
// bring progress. It always runs.
type catchUp struct {
	known    uint64           // the height at the last look
	nextAt   consensus.Micros // the next look
	behindAt consensus.Micros // ask then if still behind; never: not behind
	turn     int
	resume   bool // it stopped at a closing block

	// One conversation at a time.
	active bool
	peer   crypto.PublicKey
	asked  bool
	from   uint64
	until  consensus.Micros  // how long its answer is waited for
	run    []consensus.Block // proven by nothing yet
	bytes  int               // in run
	vain   int               // answers in a row that proved nothing and were small or late
}

// maxVain is how many small or late answers in a row may prove nothing: before
// they made MaxRunBytes, they would hold the conversation for hours.
const maxVain = 16

func (c *catchUp) deadline() consensus.Micros {
	if c.active {
		if c.asked {
			return c.until
		}
		return never // until the application is ready
	}
	return min(c.nextAt, c.behindAt)
}

// end ends the conversation.
func (c *catchUp) end(next consensus.Micros) {
	c.active, c.asked, c.run, c.bytes, c.vain = false, false, nil, 0, 0
	c.nextAt, c.behindAt = next, never
}

func (r *Replica) pursueCatchUp() {
	c := &r.catch
	if r.halted {
		return
	}
	if r.between() {
		if c.active {
			c.end(r.now + r.cfg.CatchUp)
			c.resume, r.stale = true, true
		}
		c.nextAt, c.behindAt = max(c.nextAt, r.now+r.cfg.CatchUp), never
		return
	}
	if c.active {
		if c.asked && r.now >= c.until {
			c.end(r.now + r.cfg.CatchUp)
			r.stale = true
		} else if !c.asked {
			r.askAncestry()
		}
		return
	}
	if !r.behind() {
		c.behindAt = never
	} else if c.behindAt == never {
		// The block itself is usually on the way: a moment's patience.
		c.behindAt = r.now + r.cfg.Timing.Fetch
	}
	if r.now < min(c.nextAt, c.behindAt) {
		return
	}
	if r.now < c.behindAt && r.taken.height != c.known {
		c.known, c.nextAt = r.taken.height, r.now+r.cfg.CatchUp
		return
	}
	c.known = r.taken.height
	c.turn++
	peer, ok := r.whomToAsk(c.turn)
	if !ok {
		c.end(r.now + r.cfg.CatchUp)
		return
	}
	c.active, c.peer = true, peer
	r.askAncestry()
}

// askAncestry asks for what follows the run, once the application is ready.
func (r *Replica) askAncestry() {
	c := &r.catch
	if !r.ready() {
		return
	}
	c.from = r.taken.height + 1
	if len(c.run) > 0 {
		if c.run[0].Height != c.from { // the core went on meanwhile
			c.run, c.bytes = nil, 0
		} else {
			c.from = c.run[len(c.run)-1].Height + 1
		}
	}
	c.asked, c.until = true, r.now+r.cfg.Answer
	r.stale = true
	r.emit(Send{To: c.peer, Message: consensus.AncestryRequest{From: c.from}})
}

// whomToAsk takes the connected peers in turn: three validators, then somebody
// else, because anybody can connect as a crowd of observers.
func (r *Replica) whomToAsk(turn int) (crypto.PublicKey, bool) {
	now, next := r.reigns.of(r.epoch), r.reigns.of(r.epoch+1)
	var validators, others []crypto.PublicKey
	for _, p := range r.connected {
		_, member := now.signers[p]
		if !member && next != nil {
			_, member = next.signers[p]
		}
		if member {
			validators = append(validators, p)
		} else {
			others = append(others, p)
		}
	}
	from, at := validators, turn-turn/4
	switch {
	case len(others) == 0:
		at = turn
	case len(validators) == 0:
		from, at = others, turn
	case turn%4 == 3:
		from, at = others, turn/4
	}
	if len(from) == 0 {
		return crypto.PublicKey{}, false
	}
	return from[at%len(from)], true
}

// onAncestry takes the answer that is waited for; another one is late, or a
// second one.
func (r *Replica) onAncestry(from crypto.PublicKey, m consensus.Ancestry, blocks []consensus.Block) {
	c := &r.catch
	if !c.active || !c.asked || from != c.peer || m.From != c.from || len(blocks) != len(m.Blocks) {
		return
	}
	c.asked, r.stale = false, true
	if len(blocks) == 0 {
		c.end(r.now + r.cfg.CatchUp)
		return
	}
	before, took := r.taken.height, r.now+r.cfg.Answer-c.until
	if err := r.takeRun(m, blocks); err != nil {
		c.end(r.now + r.cfg.Timing.Fetch)
		r.blame(from, err.Error())
		return
	}
	if r.taken.height > before {
		c.known, c.vain = r.taken.height, 0
		if took > r.cfg.Answer/8 || !full(m) {
			r.turnToNext()
		}
		return
	}
	if took > r.cfg.Answer/2 || !full(m) {
		c.vain++
	}
	if c.bytes > r.cfg.MaxRunBytes || c.vain >= maxVain {
		c.end(r.now + r.cfg.CatchUp) // a peer's blocks that no certificate in reach proves
	}
}

// full reports whether an answer holds as much as one may.
func full(m consensus.Ancestry) bool {
	size := 0
	for _, b := range m.Blocks {
		size += len(b.Payload) + len(b.Certificate)
	}
	return len(m.Blocks) == consensus.MaxAncestry || size >= consensus.MaxAncestryBytes
}

// turnToNext has the next answer come from another peer, if there is one: whoever
// gives a block at a time, or as late as it may, must not be all that this node
// hears. What the last one left unproven goes, so that nobody is blamed for not going on
// from it.
func (r *Replica) turnToNext() {
	c := &r.catch
	c.run, c.bytes = nil, 0
	if !c.active {
		return
	}
	c.turn++
	if peer, ok := r.whomToAsk(c.turn); ok {
		c.peer = peer
	}
}

// takeRun checks an answer: heights in a row, each block the child of the one
// before, every certificate that of its block. It passes on each proven run and
// keeps what is left unproven. What follows a closing block waits for the next
// epoch.
func (r *Replica) takeRun(m consensus.Ancestry, blocks []consensus.Block) error {
	c := &r.catch
	for i, b := range blocks {
		height := m.From + uint64(i)
		if b.Height != height {
			return fmt.Errorf("replica: forged ancestry: height %d in the place of %d", b.Height, height)
		}
		if n := len(c.run); n > 0 && c.run[n-1].Digest != b.Parent {
			return fmt.Errorf("replica: forged ancestry: block %d is not the child of the one before", b.Height)
		}
		c.run = append(c.run, b)
		c.bytes += len(b.Payload)
		if len(m.Blocks[i].Certificate) == 0 {
			if b.Closing {
				return fmt.Errorf("replica: forged ancestry: block %d closes an epoch and has no finalization", b.Height)
			}
			continue
		}
		cert, err := r.proof(b, m.Blocks[i].Certificate)
		if err != nil {
			return err
		}
		run := c.run
		c.run, c.bytes = nil, 0
		r.prove(run, cert)
		if b.Closing || r.halted {
			return nil
		}
	}
	return nil
}

// prove takes blocks that the certificate of the last one proves. The
// certificate goes to the core first, so that it is in the log before the blocks
// are durable.
func (r *Replica) prove(run []consensus.Block, cert *consensus.Certificate) {
	last := run[len(run)-1]
	r.feed(consensus.CertificateReceived{From: r.catch.peer, Certificate: cert, Verified: true, Known: true})
	if _, final := r.core.LastFinalized(); final != nil && final.Statement.Proposal.Digest == last.Digest {
		cert = final // a closing block may be finalized through several views: the one that is in the log
	}
	r.submit(run, cert, r.cfg.MaxBacklog)
	if r.taken.digest == last.Digest {
		r.feed(consensus.Delivered{Digest: last.Digest, Closing: last.Closing})
	}
}

func (r *Replica) proof(b consensus.Block, encoded []byte) (*consensus.Certificate, error) {
	cert, err := consensus.DecodeCertificate(bytes.Clone(encoded))
	if err != nil {
		return nil, fmt.Errorf("replica: forged ancestry: %w", err)
	}
	if cert.Statement.Kind != consensus.KindFinalize || cert.Statement.Proposal.Digest != b.Digest {
		return nil, fmt.Errorf("replica: forged ancestry: %q does not finalize block %d, %s", cert.Statement, b.Height, b.Digest.Short())
	}
	if err := r.verify(cert, r.reigns.of(r.epoch)); err != nil {
		return nil, fmt.Errorf("replica: forged ancestry: %w", err)
	}
	return cert, nil
}

func (r *Replica) verify(cert *consensus.Certificate, in *reign) error {
	if r.cfg.Verify == nil {
		return cert.Verify(in.Committee, r.cfg.ChainID)
	}
	return cert.VerifyWith(in.Committee, r.cfg.ChainID, r.cfg.Verify)
}
