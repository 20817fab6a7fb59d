package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// maxBatch is how many waiting inputs share one sync of the log.
	maxBatch = 64
	// maxAppend is how many bytes of records do: more are appended in parts, in
	// order, so that a crash in between leaves a log that ends earlier.
	maxAppend = 16 << 20
)

// Engine is one node's consensus. Make it with New, then call Run once.
type Engine struct {
	cfg     Config
	app     App
	net     Network
	wal     WAL
	signers map[crypto.PublicKey]consensus.Signer // by node key; looked up only

	origin time.Time
	inbox  chan input
	asked  *questions
	answer chan reply
	done   chan struct{} // closed when Run is over, so that Receive lets go

	finalizer *finalizer
	behind    *signal
	waiting   atomic.Pointer[crypto.PublicKey] // whom catch-up waits for
	slots     chan struct{}                    // running checks
	offered   []atomic.Uint64                  // by validator: the highest view whose offered block was read
	expected  *expected

	counters counters
	status   atomic.Pointer[Status]

	// The core loop's own.
	core     *consensus.Core
	build    context.CancelFunc
	checks   map[consensus.Check]context.CancelFunc
	tasks    *sync.WaitGroup
	appended int
	rotation int
}

// New checks the configuration. Nothing runs yet.
func New(cfg Config, app App, net Network, wal WAL) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, app: app, net: net, wal: wal,
		signers: make(map[crypto.PublicKey]consensus.Signer, len(cfg.NodeKeys)),
		inbox:   make(chan input, cfg.Inbox),
		asked:   newQuestions(cfg.Requests),
		answer:  make(chan reply, 1),
		done:    make(chan struct{}),
		behind:  newSignal(),
		slots:   make(chan struct{}, cfg.MaxChecks),
		offered: make([]atomic.Uint64, cfg.Committee.Len()), expected: newExpected(),
		checks: map[consensus.Check]context.CancelFunc{},
	}
	for i, k := range cfg.NodeKeys {
		if _, twice := e.signers[k]; twice {
			return nil, fmt.Errorf("engine: config: NodeKeys: validator %d shares its node key", i)
		}
		e.signers[k] = consensus.Signer(i)
	}
	e.status.Store(&Status{})
	return e, nil
}

// Run restores the core and drives it until ctx ends (nil) or the node must
// stop (why). It returns after every goroutine it started.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.done)
	if err := e.restore(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var tasks sync.WaitGroup
	e.tasks = &tasks
	spawn := func(what string, run func(context.Context) error) {
		tasks.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(&fault{fmt.Errorf("engine: %s: %w", what, err)})
			}
		})
	}
	spawn("finalize", e.finalizer.run)
	spawn("catch up", e.catchUp)
	spawn("answer", e.answerPeers)
	if err := e.loop(ctx, cancel); err != nil {
		cancel(&fault{err})
	}
	tasks.Wait()
	if f, ok := errors.AsType[*fault](context.Cause(ctx)); ok {
		return f.error
	}
	return nil
}

// fault tells a reason to stop from the caller's own cancellation.
type fault struct{ error }

func (e *Engine) restore() error {
	last, err := e.app.Last()
	if err != nil {
		return fmt.Errorf("engine: reading the last finalized block: %w", err)
	}
	if last.Certificate != nil {
		if err := last.Certificate.Verify(e.cfg.Committee, e.cfg.ChainID); err != nil {
			return fmt.Errorf("engine: last finalized block: %w", err)
		}
	}
	var records [][]byte
	err = e.wal.Replay(func(rec []byte) error {
		records = append(records, append([]byte(nil), rec...))
		e.appended += len(rec)
		return nil
	})
	if err != nil {
		return fmt.Errorf("engine: replaying the log: %w", err)
	}
	floor := consensus.Floor{Digest: last.Digest, Empty: last.Empty, Certificate: last.Certificate}
	e.core, err = consensus.Restore(e.cfg.core(), floor, records)
	if err != nil {
		return fmt.Errorf("engine: restoring: %w", err)
	}
	if !e.cfg.Key.IsZero() && !e.core.Signs() {
		e.cfg.Logger.Warn("this node only observes: its key is not in the committee, or its log of the epoch is not complete",
			"epoch", e.cfg.Committee.Epoch())
	}
	e.finalizer = newFinalizer(e, last)
	e.origin = time.Now()
	return nil
}

// loop is the core's goroutine.
func (e *Engine) loop(ctx context.Context, cancel context.CancelCauseFunc) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if err := e.step(ctx, cancel, input{event: consensus.Start{}}); err != nil {
		return err
	}
	for {
		wait := time.Hour
		if at, ok := e.core.Deadline(); ok {
			wait = span(at) - time.Since(e.origin)
		}
		timer.Reset(max(wait, 0))
		var err error
		select {
		case <-ctx.Done():
			return nil
		case in := <-e.inbox:
			err = e.step(ctx, cancel, e.gather(in)...)
		case <-timer.C:
			err = e.step(ctx, cancel, input{event: consensus.Wake{}})
		}
		if err != nil {
			return err
		}
	}
}

// input is an event for the core, a read of it, or blocks that catch-up proved:
// those come through the core loop so that their certificate, which precedes
// them, is in the log before they are on the disk.
type input struct {
	event  consensus.Event
	read   func(*consensus.Core)
	commit consensus.Commit
}

// gather takes what else is waiting, so that it shares the sync.
func (e *Engine) gather(first input) []input {
	batch := []input{first}
	for len(batch) < maxBatch {
		select {
		case in := <-e.inbox:
			batch = append(batch, in)
		default:
			return batch
		}
	}
	return batch
}

// step runs the core on the events, syncs all their records at once, then does
// the rest in order. Reads come last: a vote or a certificate that is not in the
// log yet must not leave the node as an answer either.
func (e *Engine) step(ctx context.Context, cancel context.CancelCauseFunc, inputs ...input) error {
	var records [][]byte
	var effects []consensus.Effect
	var reads []func(*consensus.Core)
	durable := false
	for _, in := range inputs {
		if in.read != nil {
			reads = append(reads, in.read)
			continue
		}
		if in.event == nil {
			effects = append(effects, in.commit)
			continue
		}
		if _, ok := in.event.(consensus.Durable); ok {
			durable = true
		}
		if ev, ok := in.event.(consensus.Checked); ok {
			delete(e.checks, ev.Check)
		}
		out := e.core.Step(consensus.Input{Now: micros(time.Since(e.origin)), Event: in.event})
		if len(out) > 0 {
			if a, ok := out[0].(consensus.Append); ok {
				records, out = append(records, a.Records...), out[1:]
			}
		}
		effects = append(effects, out...)
	}
	if err := e.append(records); err != nil {
		return err
	}
	for _, eff := range effects {
		e.perform(ctx, cancel, eff)
	}
	for _, read := range reads {
		read(e.core)
	}
	if durable && e.appended >= e.cfg.RewriteLog {
		if err := e.wal.Rewrite(e.core.Snapshot()); err != nil {
			return fmt.Errorf("engine: rewriting the log: %w", err)
		}
		e.appended = 0
	}
	e.publish()
	return nil
}

// append makes records durable.
func (e *Engine) append(records [][]byte) error {
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size+len(records[n]) <= maxAppend) {
			size += len(records[n])
			n++
		}
		if err := e.wal.Append(records[:n]); err != nil {
			return fmt.Errorf("engine: log: %w", err)
		}
		e.counters.syncs.Add(1)
		e.appended += size
		records = records[n:]
	}
	return nil
}

func (e *Engine) publish() {
	final, cert := e.core.LastFinalized()
	last := e.finalizer.tip()
	e.status.Store(&Status{
		View: e.core.View(), FinalizedView: final, Certificate: cert,
		Height: last.Height, Digest: last.Digest, Signs: e.core.Signs(), Behind: e.core.Behind(),
	})
	if e.core.Behind() {
		e.behind.raise()
	}
}

// perform does one effect. Messages to peers never block it.
func (e *Engine) perform(ctx context.Context, cancel context.CancelCauseFunc, eff consensus.Effect) {
	switch eff := eff.(type) {
	case consensus.Append:
		panic("engine: an append that is not the first effect of its step")
	case consensus.Broadcast:
		e.counters.sent.Add(1)
		e.net.Broadcast(eff.Message.Channel(), consensus.EncodeMessage(eff.Message))
	case consensus.Ask:
		e.ask(e.cfg.NodeKeys[eff.To], eff.Request)
	case consensus.Build:
		e.startBuild(ctx, eff)
	case consensus.CancelBuild:
		if e.build != nil {
			e.build()
		}
	case consensus.Check:
		e.startCheck(ctx, cancel, eff)
	case consensus.CancelCheck:
		if stop := e.checks[eff.Check]; stop != nil {
			stop()
			delete(e.checks, eff.Check)
		}
	case consensus.Commit:
		e.finalizer.submit(eff.Blocks, eff.Certificate)
	case consensus.BlameSigner:
		e.blame(e.cfg.NodeKeys[eff.Signer], eff.Reason)
	case consensus.BlamePeer:
		e.blame(eff.Peer, eff.Reason)
	case consensus.Evidence:
		e.counters.evidence.Add(1)
		e.cfg.Logger.Error("votes or certificates that exclude each other", "evidence", eff.String())
	case consensus.Halt:
		cancel(&fault{errors.New("engine: " + eff.Reason)})
	}
}

func (e *Engine) blame(peer crypto.PublicKey, reason string) {
	e.counters.blamed.Add(1)
	e.cfg.Logger.Warn("blocking a peer", "peer", peer.Short(), "reason", reason)
	e.net.Block(peer, reason)
}

// ask sends a fetch request to the peer, or to another when it is away.
func (e *Engine) ask(to crypto.PublicKey, request consensus.Message) {
	e.counters.fetches.Add(1)
	data := consensus.EncodeMessage(request)
	if !e.send(to, request, data) {
		if peers := e.net.Peers(); len(peers) > 0 {
			e.rotation++
			e.send(peers[e.rotation%len(peers)], request, data)
		}
	}
}

// send sends a fetch request. An answer with a block is expected before it can
// come.
func (e *Engine) send(to crypto.PublicKey, request consensus.Message, data []byte) bool {
	if _, block := request.(consensus.BlockRequest); block {
		e.expected.add(to)
	}
	return e.net.Send(to, request.Channel(), data)
}

// post hands an event to the core loop, unless ctx ends first.
func (e *Engine) post(ctx context.Context, ev consensus.Event) {
	select {
	case e.inbox <- input{event: ev}:
	case <-ctx.Done():
	}
}

func (e *Engine) startBuild(ctx context.Context, b consensus.Build) {
	if e.build != nil {
		e.build()
	}
	ctx, stop := context.WithCancel(ctx)
	e.build = stop
	final, cert := e.core.LastFinalized()
	request := ProposeRequest{
		Round:         b.Round,
		Parent:        Parent{View: b.Parent, Digest: b.ParentDigest},
		LastFinalized: Parent{View: final, Digest: e.cfg.Start},
		Idle:          span(b.Idle),
	}
	if cert != nil {
		request.LastFinalized.Digest = cert.Statement.Proposal.Digest
	}
	e.tasks.Go(func() {
		defer stop()
		err := e.finalizer.admit(ctx)
		var block consensus.Block
		if err == nil {
			block, err = e.app.Propose(ctx, request)
		}
		if err == nil && len(block.Payload) > consensus.MaxPayloadBytes {
			err = fmt.Errorf("engine: block of %d bytes, limit %d", len(block.Payload), consensus.MaxPayloadBytes)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.cfg.Logger.Error("building a block", "view", b.Round.View, "error", err)
			e.post(ctx, consensus.BuildFailed{Round: b.Round})
			return
		}
		e.counters.built.Add(1)
		e.post(ctx, consensus.Built{Round: b.Round, Block: block})
	})
}

func (e *Engine) startCheck(ctx context.Context, cancel context.CancelCauseFunc, k consensus.Check) {
	block, ok := e.core.Block(k.Proposal.Digest)
	if !ok {
		return // made durable by a later step of the same batch; its check is cancelled there
	}
	ctx, stop := context.WithCancel(ctx)
	e.checks[k] = stop
	request := VerifyRequest{
		Round:    k.Proposal.Round,
		Parent:   Parent{View: k.Proposal.Parent, Digest: k.ParentDigest},
		Block:    block,
		Attested: k.Attested,
	}
	e.tasks.Go(func() {
		defer stop()
		err := e.verify(ctx, request)
		if request.Attested && errors.Is(err, ErrDiverged) {
			cancel(&fault{fmt.Errorf("engine: verifying view %d: %w", k.Proposal.Round.View, err)})
			return
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.counters.invalid.Add(1)
			e.cfg.Logger.Warn("invalid block", "view", k.Proposal.Round.View, "digest", k.Proposal.Digest.Short(), "error", err)
		}
		e.counters.checked.Add(1)
		e.post(ctx, consensus.Checked{Check: k, Valid: err == nil})
	})
}

// verify waits for its turn and for the disk, then asks the application.
func (e *Engine) verify(ctx context.Context, r VerifyRequest) error {
	if err := e.finalizer.admit(ctx); err != nil {
		return err
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return e.app.Verify(ctx, r)
}
