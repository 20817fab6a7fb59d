package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// maxBatch is how many waiting events share one sync of the log.
	maxBatch = 64
	// maxAppend is how many bytes of records do: more are appended in parts, in
	// order, so that a crash in between leaves a log that ends earlier.
	maxAppend = 16 << 20
)

// Engine is one node's consensus. Make it with New, then call Run once.
type Engine struct {
	cfg  Config
	app  App
	net  Network
	logs Logs

	inbox     chan input
	strangers *strangers    // who are not in the committee
	peers     chan struct{} // holds a token when the connections changed
	done      chan struct{} // closed when Run is over, so that Receive lets go
	final     chan replica.Finalize
	lookups   chan replica.Lookup
	slots     chan struct{} // running checks

	counters counters
	status   atomic.Pointer[replica.Status]
	window   atomic.Pointer[replica.Window]

	// The loop's own.
	replica  *replica.Replica
	origin   time.Time
	build    context.CancelFunc
	checks   map[consensus.Check]context.CancelFunc
	appended map[consensus.Epoch]int // bytes, since the log was begun or rewritten
	entered  time.Time               // into the view of status
	givenUp  consensus.Round         // the last one whose nullify was sent
	tasks    sync.WaitGroup
	stop     context.CancelCauseFunc
}

// New restores the node's consensus from the application's floor and the logs.
// Nothing runs yet.
func New(cfg Config, app App, net Network, logs Logs) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, app: app, net: net, logs: logs,
		inbox:     make(chan input, cfg.Inbox),
		strangers: newStrangers(),
		peers:     make(chan struct{}, 1),
		done:      make(chan struct{}),
		final:     make(chan replica.Finalize, 1),
		lookups:   make(chan replica.Lookup, max(cfg.Replica.MaxLookups, 1)),
		slots:     make(chan struct{}, cfg.MaxChecks),
		checks:    map[consensus.Check]context.CancelFunc{},
		appended:  map[consensus.Epoch]int{},
	}
	if err := e.restore(); err != nil {
		return nil, err
	}
	e.publish()
	return e, nil
}

func (e *Engine) restore() error {
	floor, err := e.app.Last()
	if err != nil {
		return fmt.Errorf("engine: reading the last finalized block: %w", err)
	}
	epochs, err := e.logs.Epochs()
	if err != nil {
		return fmt.Errorf("engine: listing the logs: %w", err)
	}
	var logs []replica.Log
	for _, epoch := range epochs {
		log := replica.Log{Epoch: epoch}
		err := e.logs.Replay(epoch, func(rec []byte) error {
			log.Records = append(log.Records, slices.Clone(rec))
			e.appended[epoch] += len(rec)
			return nil
		})
		if err != nil {
			return fmt.Errorf("engine: replaying the log of epoch %d: %w", epoch, err)
		}
		if len(log.Records) > 0 { // else made, and never begun
			logs = append(logs, log)
		}
	}
	if e.replica, err = replica.Restore(e.cfg.Replica, floor, logs); err != nil {
		return fmt.Errorf("engine: restoring: %w", err)
	}
	return nil
}

// Run drives the replica until ctx ends (nil) or the node must stop (why). It
// returns after every goroutine it started.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.done)
	ctx, e.stop = context.WithCancelCause(ctx)
	defer e.stop(nil)
	spawn := func(what string, run func(context.Context) error) {
		e.tasks.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				e.stop(&fault{fmt.Errorf("engine: %s: %w", what, err)})
			}
		})
	}
	spawn("finalizing", e.finalize)
	spawn("answering a peer", e.answer)
	e.origin = time.Now()
	if err := e.loop(ctx); err != nil {
		e.stop(&fault{err})
	}
	e.tasks.Wait()
	if f, ok := errors.AsType[*fault](context.Cause(ctx)); ok {
		return f.error
	}
	return nil
}

// fault tells a reason to stop from the caller's own cancellation.
type fault struct{ error }

// loop is the replica's goroutine.
func (e *Engine) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	start := replica.Start{}
	if !e.cfg.Noted.IsZero() {
		start.Passed = micros(max(time.Since(e.cfg.Noted), 0))
	}
	if err := e.step(ctx, input{event: start}, e.connected()); err != nil {
		return err
	}
	for {
		wait := time.Hour
		if at, ok := e.replica.Deadline(); ok {
			wait = span(at) - time.Since(e.origin)
		}
		timer.Reset(max(wait, 0))
		var err error
		select {
		case <-ctx.Done():
			return nil
		case in := <-e.inbox:
			err = e.step(ctx, e.gather(in)...)
		case in := <-e.strangers.inbox: // one at a time, and whatever the committee has sent with it
			err = e.step(ctx, e.gather(in)...)
		case <-e.peers:
			err = e.step(ctx, e.connected())
		case <-timer.C:
			err = e.step(ctx, input{event: replica.Wake{}})
		}
		if err != nil {
			return err
		}
	}
}

// connected is the event of the peers as they are now.
func (e *Engine) connected() input {
	peers := slices.Clone(e.net.Peers())
	slices.SortFunc(peers, crypto.PublicKey.Compare)
	return input{event: replica.Peers{Connected: peers}}
}

// input is an event for the replica and, with it, what answers a peer's request:
// nothing leaves the node but by the loop.
type input struct {
	event  replica.Event
	to     crypto.PublicKey
	answer consensus.Message // nil: none
	data   []byte            // the answer's encoding
	taken  chan struct{}     // if not nil, closed once the window tells of the event
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

// step runs the replica on the events, puts the application to work, syncs all
// records at once, then does the rest in order. A fault elsewhere that came
// meanwhile silences it: a node whose disk or state is in doubt says nothing more.
func (e *Engine) step(ctx context.Context, inputs ...input) error {
	var effects []replica.Effect
	settled := false
	for _, in := range inputs {
		if ev, ok := in.event.(replica.Checked); ok {
			delete(e.checks, ev.Check)
		}
		if _, ok := in.event.(replica.Finalized); ok {
			settled = true
		}
		effects = append(effects, e.replica.Step(micros(time.Since(e.origin)), in.event)...)
	}
	work := replica.Order(effects)
	if err := e.performAll(ctx, work.Own); err != nil {
		return err
	}
	if err := e.append(work.Appends); err != nil {
		return err
	}
	if err := e.performAll(ctx, work.Rest); err != nil {
		return err
	}
	for _, in := range inputs {
		if in.answer != nil && ctx.Err() == nil {
			e.net.Send(in.to, in.answer.Channel(), in.data)
		}
	}
	e.publish()
	for _, in := range inputs {
		if in.taken != nil {
			close(in.taken)
		}
	}
	if settled {
		return e.rewrite()
	}
	return nil
}

// append makes records durable: those of one epoch in a row with one sync.
func (e *Engine) append(appends []replica.Append) error {
	for len(appends) > 0 {
		epoch := appends[0].Epoch
		var records [][]byte
		size := 0
		for len(appends) > 0 && appends[0].Epoch == epoch {
			first := &appends[0]
			for len(first.Records) > 0 && (len(records) == 0 || size+len(first.Records[0]) <= maxAppend) {
				size += len(first.Records[0])
				records, first.Records = append(records, first.Records[0]), first.Records[1:]
			}
			if len(first.Records) > 0 {
				break
			}
			appends = appends[1:]
		}
		began := time.Now()
		if err := e.logs.Append(epoch, records); err != nil {
			return fmt.Errorf("engine: log of epoch %d: %w", epoch, err)
		}
		e.synced(time.Since(began), size)
		e.appended[epoch] += size
	}
	return nil
}

// rewrite makes the log of the running epoch short again when it has become
// long: after a block became durable there is less to remember.
func (e *Engine) rewrite() error {
	epoch := e.replica.Status().Epoch
	if e.appended[epoch] < e.cfg.RewriteLog {
		return nil
	}
	records := e.replica.Snapshot(epoch)
	if records == nil {
		return nil
	}
	if err := e.logs.Rewrite(epoch, records); err != nil {
		return fmt.Errorf("engine: log of epoch %d: %w", epoch, err)
	}
	e.appended[epoch] = 0
	return nil
}

func (e *Engine) publish() {
	status := e.replica.Status()
	if old := e.status.Swap(&status); old == nil || old.Epoch != status.Epoch || old.View != status.View {
		e.entered = time.Now()
	}
	e.window.Store(e.replica.Window())
}

// performAll does effects in order until ctx ends.
func (e *Engine) performAll(ctx context.Context, effects []replica.Effect) error {
	for _, eff := range effects {
		if ctx.Err() != nil {
			return nil
		}
		if err := e.perform(ctx, eff); err != nil {
			return err
		}
	}
	return nil
}

// perform does one effect. Messages to peers never block it.
func (e *Engine) perform(ctx context.Context, eff replica.Effect) error {
	switch eff := eff.(type) {
	case replica.Append:
		panic("engine: an append among the effects")
	case replica.DropLog:
		delete(e.appended, eff.Epoch)
		if err := e.logs.Delete(eff.Epoch); err != nil {
			return fmt.Errorf("engine: log of epoch %d: %w", eff.Epoch, err)
		}
	case replica.Broadcast:
		e.counters.sent.Add(1)
		e.notice(eff.Message)
		e.net.Broadcast(eff.Message.Channel(), e.encode(eff.Message))
	case replica.Send:
		e.counters.sent.Add(1)
		e.net.Send(eff.To, eff.Message.Channel(), e.encode(eff.Message))
	case replica.Relay:
		data := consensus.EncodeMessage(eff.Message) // as it came: an offer's block is packed
		for _, to := range eff.To {
			e.counters.sent.Add(1)
			e.net.Send(to, eff.Message.Channel(), data)
		}
	case replica.Places:
		e.cfg.Logger.Info("sentries of the committee", "nodes", len(eff.Nodes))
		e.net.Favour(eff.Nodes)
	case replica.Build:
		e.startBuild(ctx, eff)
	case replica.CancelBuild:
		e.cancelBuild()
	case replica.Check:
		e.startCheck(ctx, eff)
	case replica.CancelCheck:
		if stop := e.checks[eff.Check]; stop != nil {
			stop()
			delete(e.checks, eff.Check)
		}
	case replica.Finalize:
		e.final <- eff // there is room: one at a time
	case replica.Lookup:
		e.lookups <- eff // there is room: at most MaxLookups
	case replica.Blame:
		e.blame(eff.Peer, eff.Reason)
	case replica.Evidence:
		e.counters.evidence.Add(1)
		e.cfg.Logger.Error("a validator broke the rules", "evidence", eff.Evidence.String())
		e.app.Evidence(eff.Evidence)
	case replica.Enter:
		e.enter(eff)
	case replica.Halt:
		return fmt.Errorf("%w: %s", ErrHalted, eff.Reason)
	}
	return nil
}

// encode returns a message's bytes, the block of an offer packed.
func (e *Engine) encode(m consensus.Message) []byte {
	if offer, ok := m.(consensus.Offer); ok {
		offer.Payload = e.app.Pack(offer.Vote.Proposal.Digest, offer.Payload)
		m = offer
	}
	return consensus.EncodeMessage(m)
}

func (e *Engine) enter(eff replica.Enter) {
	e.counters.epochs.Add(1)
	status := e.replica.Status()
	e.cfg.Logger.Info("an epoch begins", "epoch", eff.Reign.Committee.Epoch(), "validators", eff.Reign.Committee.Len(), "signs", status.Signs)
	if status.Observes != "" {
		e.cfg.Logger.Warn("this node only observes in this epoch", "epoch", eff.Reign.Committee.Epoch(), "reason", status.Observes)
	}
	e.app.Enter(eff.Reign, eff.Next)
}

func (e *Engine) blame(peer crypto.PublicKey, reason string) {
	e.counters.blamed.Add(1)
	e.cfg.Logger.Warn("blocking a peer", "peer", peer.Short(), "reason", reason)
	e.net.Block(peer, reason)
}
