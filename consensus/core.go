package consensus

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Config is what a core is made of.
type Config struct {
	ChainID   string // 1 to 64 bytes
	Committee *Committee
	Start     crypto.Digest     // what view 0 stands for: genesis, or the epoch's first parent
	Key       crypto.PrivateKey // consensus key; zero, or none of the committee's: an observer
	// Keys are all consensus keys of the node, Key among them: its log tells what
	// they sign.
	Keys      []crypto.PublicKey
	Timing    Timing
	Retention View // finalized views whose certificates are kept to answer peers, at least 1

	// Fresh are those of Keys that have signed nothing in the epoch yet, so that an
	// empty log is their complete log.
	Fresh []crypto.PublicKey
	// Carried is evidence of the epoch before, for the log and to be reported
	// again. It is read when a log is begun.
	Carried []Evidence
	// Patience and Heard are what the core of the epoch before said at its end:
	// Core.Patience, and by signer Core.Heard; zero and nil: nothing is known.
	Patience Micros
	Heard    []Micros
	// Verify verifies batches of signatures; nil: crypto.VerifyBatch, on one core.
	Verify Verifier
}

// never is an instant that does not come.
const never = ^Micros(0)

// The limits on what a core asks for at a time and how deep it
// walks by digest before it leaves the way to the driver's catch-up by height.
const (
	maxWants     = 16
	maxWalkFetch = 8
)

// Core is one node's part in one epoch. Not safe for concurrent use.
type Core struct {
	cfg      Config
	self     Signer
	complete []crypto.PublicKey // the keys whose every vote of the epoch is in the log
	signs    bool
	started  bool
	now      Micros

	// The view, the certificate that let us in, and what it waits for.
	current   View
	entry     *Certificate
	proposeAt Micros // not before, when it is this node's turn
	leaderAt  Micros // nullify if there is no proposal by then
	certifyAt Micros // nullify if nothing is certified by then
	retryAt   Micros // send the own nullify again
	building  bool
	buildOn   Proposal // round and parent of the running build

	swept  View         // the highest view whose block was let go because it was given up
	views  []*viewState // ascending by view, from lastFinalized − Retention
	stored int          // certificates ever taken

	// Finality, in three stages: proven, handed to the driver, on its disk.
	lastFinalized View
	final         *Certificate // nil at the epoch's start
	delivered     crypto.Digest
	durable       crypto.Digest
	behind        bool

	deliveredClosing, durableClosing, durableEmpty bool

	blocks   map[crypto.Digest]*heldBlock // looked up by digest, never ranged over
	wants    []want
	heard    []Micros // by signer: when its own connection last carried a vote
	blocked  []bool   // by signer
	samples  samples
	accused  []bool     // by signer: evidence is out
	evidence []Evidence // of votes one piece per signer
	halted   bool
	header   *logHeader   // to be written by Start
	carried  []Evidence   // and this
	floored  *Certificate // and this: the application's floor is above the log

	records [][]byte
	out     []Effect
}

type heldBlock struct {
	Block
	view   View // the latest view that named it
	logged bool
}

type certifyState uint8

const (
	certifyWaiting certifyState = iota // for the notarization, the block, its parent or the application
	certifyOK
	certifyFailed
)

// viewState is what a node knows of one view.
type viewState struct {
	view View

	// The leader's first offer.
	offered     bool
	rejected    bool // by the application, before any notarization
	equivocated bool // the leader signed two proposals
	offer       Proposal
	offeredAt   Micros // never: in an earlier life
	certifiedAt Micros

	// What this node signed.
	notarized *Proposal
	nullified bool
	finalized *Proposal

	notarization  *Certificate
	nullification *Certificate
	finalization  *Certificate

	certify  certifyState
	closing  bool            // what was certified is the epoch's last block
	verdict  *bool           // of the certification, as in the log
	checking *Check          // the application is at work on it
	accepted []crypto.Digest // by the application, or built by it

	notarizes, nullifies, finalizes tally
}

// View returns the current view.
func (c *Core) View() View { return c.current }

// Entry returns the certificate that let this node into the current view, nil in the
// epoch's first.
func (c *Core) Entry() *Certificate { return c.entry }

// LastFinalized returns the highest finalized view and its certificate, which
// is nil at the epoch's start.
func (c *Core) LastFinalized() (View, *Certificate) { return c.lastFinalized, c.final }

// Signs reports whether this node votes: its key is in the committee and its
// log of the epoch is complete.
func (c *Core) Signs() bool { return c.signs }

// Patience returns how long proposals took to be certified of late, 0 if
// nothing is known.
func (c *Core) Patience() Micros { return c.samples.upperThird() }

// Heard returns when the validator's own connection last carried a vote.
func (c *Core) Heard(s Signer) Micros { return c.heard[s] }

// Complete returns the keys of this node of which the log holds all that they
// signed in the epoch.
func (c *Core) Complete() []crypto.PublicKey { return slices.Clone(c.complete) }

// Closed reports whether the epoch's closing block is finalized and known: the
// core then only fetches what is missing below it and answers.
func (c *Core) Closed() bool { return c.closed() }

// Evidence returns what was reported in this epoch, for the next epoch's log.
func (c *Core) Evidence() []Evidence {
	var own []Evidence
	for _, e := range c.evidence {
		if e.Round().Epoch == c.cfg.Committee.Epoch() {
			own = append(own, e)
		}
	}
	return own
}

// Behind reports whether a finalization is known whose block, or a block
// below it, is missing.
func (c *Core) Behind() bool { return c.behind }

// Deadline returns the instant at which the core wants a Wake, and false if
// there is none.
func (c *Core) Deadline() (Micros, bool) {
	at := never
	if !c.closed() {
		at = c.retryAt
	}
	if c.signs && !c.closed() {
		vs := c.at(c.current)
		if c.proposeAt > c.now && c.leads(c.current) {
			at = min(at, c.proposeAt)
		}
		if !vs.nullified && vs.finalized == nil {
			at = min(at, c.certifyAt)
			if !vs.offered {
				at = min(at, c.leaderAt)
			}
		}
	}
	for _, w := range c.wants {
		at = min(at, w.nextAt)
	}
	return at, at != never
}

// Block returns a block that is held and not yet durable.
func (c *Core) Block(digest crypto.Digest) (Block, bool) {
	if b := c.blocks[digest]; b != nil {
		return b.Block, true
	}
	return Block{}, false
}

// Answer returns the certificate that answers the request, or nil: one of the
// very kind and view, or a finalization at or above the view.
func (c *Core) Answer(r CertificateRequest) *Certificate {
	if r.Round.Epoch != c.cfg.Committee.Epoch() {
		return nil
	}
	if r.Round.View <= c.lastFinalized {
		return c.final
	}
	vs, ok := c.find(r.Round.View)
	if !ok {
		return nil
	}
	switch r.Kind {
	case KindNotarize:
		return vs.notarization
	case KindNullify:
		return vs.nullification
	case KindFinalize:
		return vs.finalization
	}
	return nil
}

// Held returns the statements of the certificates that are held from the last
// finalized view on: another copy of one is of no use.
func (c *Core) Held() []Statement {
	i, _ := c.search(c.lastFinalized)
	var held []Statement
	for _, vs := range c.views[i:] {
		for _, cert := range []*Certificate{vs.notarization, vs.nullification, vs.finalization} {
			if cert != nil {
				held = append(held, cert.Statement)
			}
		}
	}
	return held
}

func (c *Core) round(v View) Round { return Round{Epoch: c.cfg.Committee.Epoch(), View: v} }

func (c *Core) leads(v View) bool { return c.signs && c.cfg.Committee.Leader(v) == c.self }

func (c *Core) search(v View) (int, bool) {
	return slices.BinarySearchFunc(c.views, v, func(vs *viewState, v View) int {
		if vs.view < v {
			return -1
		}
		if vs.view > v {
			return 1
		}
		return 0
	})
}

func (c *Core) find(v View) (*viewState, bool) {
	i, ok := c.search(v)
	if !ok {
		return nil, false
	}
	return c.views[i], true
}

// at returns the state of the view, made if need be.
func (c *Core) at(v View) *viewState {
	i, ok := c.search(v)
	if !ok {
		c.views = slices.Insert(c.views, i, &viewState{view: v})
	}
	return c.views[i]
}

// since returns the states of the views above v, ascending.
func (c *Core) since(v View) []*viewState {
	i, ok := c.search(v)
	if ok {
		i++
	}
	return c.views[i:]
}

// floor is the lowest view whose votes and certificates are of use.
func (c *Core) floor() View {
	if c.lastFinalized <= c.cfg.Retention {
		return 1
	}
	return c.lastFinalized - c.cfg.Retention
}

func (vs *viewState) hasAccepted(d crypto.Digest) bool { return slices.Contains(vs.accepted, d) }

// hold keeps a block that the view named.
func (c *Core) hold(b Block, v View) *heldBlock {
	held := c.blocks[b.Digest]
	if held == nil {
		held = &heldBlock{Block: b}
		c.blocks[b.Digest] = held
	}
	held.view = max(held.view, v)
	return held
}

// finalDigest is the digest at lastFinalized.
func (c *Core) finalDigest() crypto.Digest {
	if c.final == nil {
		return c.cfg.Start
	}
	return c.final.Statement.Proposal.Digest
}

// enter moves to view v, let in by the certificate of v − 1 or a finalization.
func (c *Core) enter(v View, by *Certificate) {
	if v <= c.current {
		return
	}
	if c.building {
		c.emit(CancelBuild{Round: c.buildOn.Round})
		c.building = false
	}
	if old, ok := c.find(c.current); ok && old.checking != nil && old.notarization == nil {
		c.cancelCheck(old)
	}
	c.current, c.entry = v, by
	c.sweep()
	c.arm()
}

// sweep lets go of the blocks of views that were given up more than Retention
// views ago: a standstill must not fill the memory with what its leaders
// offered. Should one be notarized after all, it is fetched.
func (c *Core) sweep() {
	for _, vs := range c.since(max(c.swept, c.lastFinalized)) {
		if vs.view+c.cfg.Retention >= c.current {
			return
		}
		c.swept = vs.view
		if b := c.blocks[vs.offer.Digest]; vs.offered && vs.nullification != nil && vs.notarization == nil && b != nil &&
			b.view == vs.view && !c.notarizedAnywhere(b.Digest) {
			delete(c.blocks, b.Digest)
		}
	}
}

// notarizedAnywhere reports whether a block was notarized above the last
// finalized view: a closing block may be offered again in views that fail.
func (c *Core) notarizedAnywhere(d crypto.Digest) bool {
	for _, vs := range c.since(c.lastFinalized) {
		if vs.notarization != nil && vs.notarization.Statement.Proposal.Digest == d {
			return true
		}
	}
	return false
}

func (c *Core) cancelCheck(vs *viewState) {
	if vs.checking != nil {
		c.emit(CancelCheck{Check: *vs.checking})
		vs.checking = nil
	}
}

// prune forgets views below the floor and blocks that lost.
func (c *Core) prune() {
	keep := 0
	for keep < len(c.views) && c.views[keep].view < c.floor() {
		keep++
	}
	if keep == 0 {
		return
	}
	chain := map[crypto.Digest]bool{}
	for b := c.blocks[c.finalDigest()]; b != nil; b = c.blocks[b.Parent] {
		chain[b.Digest] = true
	}
	for _, vs := range c.views[:keep] {
		c.forget(vs.offer.Digest, chain)
		if vs.notarization != nil {
			c.forget(vs.notarization.Statement.Proposal.Digest, chain)
		}
	}
	c.views = slices.Delete(c.views, 0, keep)
}

func (c *Core) forget(d crypto.Digest, chain map[crypto.Digest]bool) {
	if b := c.blocks[d]; b != nil && b.view < c.floor() && !chain[d] {
		delete(c.blocks, d)
	}
}

// assertInvariants panics if a numbered invariant of the package is broken.
// I1, I3 and I6 are asserted where a notarize is signed (sign), I4 where a
// notarization is stored.
func (c *Core) assertInvariants() {
	for _, vs := range c.since(c.lastFinalized) {
		c.assertView(vs)
	}
	if vs, ok := c.find(c.lastFinalized); ok {
		c.assertView(vs)
	}
	if c.current <= c.lastFinalized {
		panic(fmt.Sprintf("consensus: in view %d after finalizing view %d", c.current, c.lastFinalized))
	}
}

func (c *Core) assertView(vs *viewState) {
	if vs.nullified && vs.finalized != nil {
		panic(fmt.Sprintf("consensus: I2: nullify and finalize signed in view %d", vs.view))
	}
	f, n, x := vs.finalization, vs.notarization, vs.nullification
	if f != nil && x != nil {
		panic(fmt.Sprintf("consensus: I5: view %d is finalized and nullified: a third of the weight is Byzantine", vs.view))
	}
	if f != nil && n != nil && f.Statement.Proposal != n.Statement.Proposal {
		panic(fmt.Sprintf("consensus: I4: view %d finalized one proposal and notarized another: a third of the weight is Byzantine", vs.view))
	}
}
