package replica

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// never is an instant that does not come.
const never = ^consensus.Micros(0)

// Replica is one node's consensus. Not safe for concurrent use; only Windows
// may be shared.
type Replica struct {
	cfg     Config
	now     consensus.Micros
	born    consensus.Micros // of the Start
	passed  consensus.Micros // before it, since Config.Since was taken off the clock
	started bool
	halted  bool

	reigns   reigns
	epoch    consensus.Epoch // the core's
	core     *consensus.Core
	logs     map[consensus.Epoch][][]byte // of epochs to come, found at the restore
	outlived []consensus.Epoch            // logs to drop at the start
	begun    consensus.Epoch              // the highest epoch whose log an earlier life began
	observes string                       // why this node does not sign in the core's epoch
	early    early

	connected   []crypto.PublicKey // ascending
	peers       map[crypto.PublicKey]*peer
	turns       []crypto.PublicKey // who waits to be served, each once
	lookups     int                // at the driver
	rotation    int                // over the connected, for what its first choice is away
	delegations []delegation       // never changed in place, as the next two: windows share them
	owing       []crypto.PublicKey // the peers that owe blocks, ascending
	offers      []consensus.View   // by signer of the epoch: the highest view whose block was taken
	sentry      sentry

	// The finalized chain: durable, handed to the queue, and known to the core.
	stable, taken, tip head
	queue              []Finalize // the first one is at the application if finalizing
	finalizing         bool
	held               []Effect // Build and Check that wait for the application
	catch              catchUp

	window  *Window
	stale   bool // the window lacks something
	appends []Append
	out     []Effect
}

// head is a block of the finalized chain.
type head struct {
	height  uint64
	digest  crypto.Digest
	closing bool
}

// Step takes one event at an instant and returns what to do about it. An instant
// before the last one counts as the last.
func (r *Replica) Step(now consensus.Micros, ev Event) []Effect {
	if r.halted {
		return nil
	}
	r.now = max(r.now, now)
	switch ev := ev.(type) {
	case Start:
		r.start(ev.Passed)
	case Wake:
		if at, ok := r.core.Deadline(); ok && at <= r.now {
			r.feed(consensus.Wake{})
		}
	case Peers:
		r.onPeers(ev.Connected)
	case Received:
		r.receive(ev)
	case Built:
		r.feed(consensus.Built{Round: ev.Round, Block: ev.Block})
	case BuildFailed:
		r.feed(consensus.BuildFailed{Round: ev.Round})
	case Checked:
		r.feed(consensus.Checked{Check: ev.Check, Valid: ev.Valid})
	case Finalized:
		r.onFinalized(ev)
	case Served:
		r.onServed(ev)
	}
	if r.started {
		r.release()
		r.finalizeNext()
		r.pursueCatchUp()
		r.serve()
		r.renew()
		r.publish()
	}
	return r.flush()
}

func (r *Replica) start(passed consensus.Micros) {
	if r.started {
		return
	}
	r.started, r.born, r.passed = true, r.now, passed
	r.catch.known, r.catch.nextAt = r.taken.height, r.now
	for _, e := range r.outlived {
		r.emit(DropLog{Epoch: e})
		delete(r.logs, e)
	}
	r.outlived = nil
	r.enter()
	r.enterSentry()
	r.feed(consensus.Start{})
}

// enter tells the driver the epoch that the core is in.
func (r *Replica) enter() {
	next := Reign{}
	if n := r.reigns.of(r.epoch + 1); n != nil {
		next = n.Reign
	}
	r.emit(Enter{Reign: r.reigns.of(r.epoch).Reign, Next: next})
}

// begin follows the closing block, now durable, into the next epoch. The log of
// the old epoch goes when the new one's header is on the disk.
func (r *Replica) begin(ev Finalized) {
	known, err := r.reigns.merge(ev.Reigns, r.epoch+1)
	if err != nil {
		r.halt(err.Error())
		return
	}
	r.reigns = known
	in := known.of(r.epoch + 1)
	if in == nil || in.Start != ev.Digest || known.of(r.epoch+2) == nil {
		r.halt(fmt.Sprintf("replica: the application does not know the epochs after block %s, which closes epoch %d", ev.Digest.Short(), r.epoch))
		return
	}
	old := r.core
	if _, final := old.LastFinalized(); final != nil {
		r.remember(final)
	}
	cfg := r.coreConfig(in)
	cfg.Fresh = r.unsigned(in, old.Complete())
	cfg.Carried, cfg.Patience, cfg.Heard = old.Evidence(), old.Patience(), r.heard(in)
	core, err := consensus.Restore(cfg, consensus.Floor{Digest: ev.Digest, Empty: ev.Empty}, r.logs[r.epoch+1])
	if err != nil {
		r.halt(fmt.Sprintf("replica: log of epoch %d: %v", r.epoch+1, err))
		return
	}
	r.emit(DropLog{Epoch: r.epoch})
	r.epoch++
	r.core, r.held, r.stale = core, nil, true
	r.observe()
	r.offers = make([]consensus.View, in.Committee.Len())
	delete(r.logs, r.epoch)
	r.catch.known = r.taken.height
	if r.catch.resume {
		r.catch.nextAt, r.catch.resume = r.now, false
		r.catch.turn-- // with the same peer
	}
	r.enter()
	r.enterSentry()
	r.feed(consensus.Start{})
	for _, m := range r.early.take() {
		if cert, ok := m.Message.(*consensus.Certificate); ok {
			r.feed(consensus.CertificateReceived{From: m.From, Certificate: cert, Verified: true})
		} else {
			r.takeVote(m.Received, m.vote, m.verified)
		}
	}
}

// heard returns when each member of the epoch to come last voted in this one.
func (r *Replica) heard(in *reign) []consensus.Micros {
	was := r.reigns.of(r.epoch).Committee
	heard := make([]consensus.Micros, in.Committee.Len())
	for i := range heard {
		heard[i] = r.now
		if s, ok := was.IndexOf(in.Committee.Validator(consensus.Signer(i)).Key); ok {
			heard[i] = r.core.Heard(s)
		}
	}
	return heard
}

// Deadline returns the instant at which the replica wants a Wake, and false if
// there is none. It may lie in the past.
func (r *Replica) Deadline() (consensus.Micros, bool) {
	if !r.started || r.halted {
		return 0, false
	}
	at := min(r.catch.deadline(), r.serveDeadline(), r.sentry.renewAt)
	if coreAt, ok := r.core.Deadline(); ok {
		at = min(at, coreAt)
	}
	return at, at != never
}

// Status returns where the replica stands.
func (r *Replica) Status() Status {
	final, cert := r.core.LastFinalized()
	return Status{
		Epoch: r.epoch, View: r.core.View(), FinalizedView: final, Certificate: cert,
		Height: r.stable.height, Digest: r.stable.digest,
		Signs: r.core.Signs(), Observes: r.observes, Behind: r.behind(), Waiting: len(r.queue),
	}
}

// Snapshot returns a log of the epoch that restores to the same core, for the
// driver to put in the place of the whole log between two steps; nil if the
// epoch is not the current one.
func (r *Replica) Snapshot(e consensus.Epoch) [][]byte {
	if e != r.epoch || !r.started {
		return nil
	}
	return r.core.Snapshot()
}

// feed runs the core and takes its effects.
func (r *Replica) feed(ev consensus.Event) {
	if r.halted {
		return
	}
	for _, e := range r.core.Step(consensus.Input{Now: r.now, Event: ev}) {
		r.take(e)
	}
}

func (r *Replica) take(e consensus.Effect) {
	in := r.reigns.of(r.epoch)
	switch e := e.(type) {
	case consensus.Append:
		r.append(e.Records)
	case consensus.Broadcast:
		r.emit(Broadcast{Message: e.Message})
	case consensus.Ask:
		r.ask(r.door(in, e.To), e.Request)
	case consensus.Build:
		r.build(e)
	case consensus.CancelBuild:
		if !r.unhold(func(h Effect) bool { b, ok := h.(Build); return ok && b.Round == e.Round }) {
			r.emit(CancelBuild{Round: e.Round})
		}
	case consensus.Check:
		r.check(e)
	case consensus.CancelCheck:
		if !r.unhold(func(h Effect) bool { k, ok := h.(Check); return ok && k.Check == e.Check }) {
			r.emit(CancelCheck{Check: e.Check})
		}
	case consensus.Commit:
		last := e.Blocks[len(e.Blocks)-1]
		r.tip = head{height: last.Height, digest: last.Digest, closing: last.Closing}
		// All or none: when a long run becomes final at once, nobody has more of it
		// than the cores, to be caught up on.
		if len(r.queue) < r.cfg.MaxBacklog {
			r.submit(e.Blocks, e.Certificate, len(r.queue)+len(e.Blocks))
		}
	case consensus.BlameSigner:
		r.blame(in.NodeKeys[e.Signer], e.Reason)
	case consensus.BlamePeer:
		r.blame(e.Peer, e.Reason)
	case consensus.Evidence:
		r.emit(Evidence{Evidence: e})
	case consensus.Halt:
		r.halt(e.Reason)
	}
}

// append adds records of the current epoch's log to the step's.
func (r *Replica) append(records [][]byte) {
	if n := len(r.appends); n > 0 && r.appends[n-1].Epoch == r.epoch {
		r.appends[n-1].Records = append(r.appends[n-1].Records, records...)
		return
	}
	r.appends = append(r.appends, Append{Epoch: r.epoch, Records: records})
}

func (r *Replica) build(b consensus.Build) {
	final, cert := r.core.LastFinalized()
	full := Build{Build: b, FinalizedView: final, FinalizedDigest: r.reigns.of(r.epoch).Start}
	if cert != nil {
		full.FinalizedDigest = cert.Statement.Proposal.Digest
	}
	r.hold(full)
}

func (r *Replica) check(k consensus.Check) {
	b, ok := r.core.Block(k.Proposal.Digest)
	if !ok { // finalized past it in the same step
		return
	}
	r.hold(Check{Check: k, Block: b})
}

func (r *Replica) emit(e Effect) {
	if !r.halted {
		r.out = append(r.out, e)
	}
}

func (r *Replica) halt(reason string) {
	r.emit(Halt{Reason: reason})
	r.halted = true
}

func (r *Replica) blame(p crypto.PublicKey, reason string) {
	r.emit(Blame{Peer: p, Reason: reason})
	if r.catch.active && r.catch.peer == p {
		r.catch.end(r.now + r.cfg.Timing.Fetch)
		r.stale = true
	}
}

// flush returns the step's effects, Appends first.
func (r *Replica) flush() []Effect {
	if len(r.appends) == 0 {
		out := r.out
		r.out = nil
		return out
	}
	out := make([]Effect, 0, len(r.appends)+len(r.out))
	for _, a := range r.appends {
		out = append(out, a)
	}
	out = append(out, r.out...)
	r.appends, r.out = nil, nil
	return out
}
