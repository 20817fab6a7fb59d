package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Outbox is where a cluster lists the claims that wait; *sdk.Client is one.
type Outbox interface {
	// Outbox returns up to limit items with a cursor above after, ascending; if
	// there are none it may wait for one.
	Outbox(ctx context.Context, after uint64, limit int, wait time.Duration) (api.Outbox, error)
}

// Votes is where a cluster's servers list votes of jurors; *sdk.Client is one.
type Votes interface {
	// Nexus returns the servers that there are now, as far as is known.
	Nexus() []string
	// Votes returns the messages that a server has to be posted now.
	Votes(ctx context.Context, server string) (api.Votes, error)
}

// Chain is what the relay asks of the chain.
type Chain interface {
	// Settlements returns what claims of an order did on the chain.
	Settlements(ctx context.Context, order crypto.Digest) (api.Settlements, error)
	// CheckPayable looks whether a claim would be paid that is posted now: sdk.Client has the errors.
	CheckPayable(ctx context.Context, claim *chain.Claim) error
	// Post posts messages in a transaction and waits until it is final. The
	// error is a *sdk.RejectedError if it was refused as a whole.
	Post(ctx context.Context, messages ...chain.Msg) (*chain.Receipt, error)
	// Balance returns what the account has for fees.
	Balance(ctx context.Context) (chain.Amount, error)
}

// Deps are a relay's dependencies: the real ones come from Open.
type Deps struct {
	Genesis  *chain.Genesis
	Verifier zk.Verifier
	Signer   chain.Signer // the account that pays
	Outbox   Outbox
	Votes    Votes // nil: none are carried
	Chain    Chain
	Private  *PrivateDeps // of a private relay
	Log      *slog.Logger
}

const (
	pageItems    = 100
	maxOfItem    = 3 * chain.MaxReplicas // claims, or commitments, receipts and votes
	longPoll     = sdk.MaxOutboxWait
	rescanEvery  = 15 * time.Second
	balanceEvery = 30 * time.Second
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second

	// After freeWaste transactions in a row that the chain took nothing of, the
	// next ones wait, from firstRetry to longestWaste.
	freeWaste    = 8
	longestWaste = 5 * time.Minute
)

// Relay carries claims. Make it with New, and Carry once.
type Relay struct {
	Deps
	config    Config
	inspector inspector
	book      *book
	metrics   *metrics
	health    health
	promises  *settlement.Promises // readAll's
	private   *private             // nil: claims are posted as they are
	wasted    int                  // transactions in a row that the chain took nothing of, but of votes alone; post's
	begun     atomic.Int64         // when the chain took the last begin_run of this relay, since 1970
	unbegun   int                  // transactions in a row of what locks bonds and nothing else, and which the chain did not take; post's
	vain      atomic.Int64         // transactions of votes alone in a row that the chain did not take
}

// New composes a relay.
func New(config Config, deps Deps) (*Relay, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("relay: config: %w", err)
	}
	r := &Relay{
		Deps: deps, config: config, book: newBook(&deps.Genesis.Params),
		inspector: inspector{genesis: deps.Genesis, verifier: deps.Verifier, signer: deps.Signer},
		promises:  settlement.NewPromises(maxPromises),
	}
	r.metrics = newMetrics(r.book)
	if config.Private {
		var err error
		if r.private, err = newPrivate(&config, &deps); err != nil {
			return nil, err
		}
		r.Chain, r.config.Batch = r.private, 1
	}
	return r, nil
}

// client is the chain as an SDK client sees it.
type client struct {
	*sdk.Client
	builder *sdk.Builder
}

// Post implements Chain. A transaction whose end is not known is given up:
// its nonce is asked for again.
func (c *client) Post(ctx context.Context, messages ...chain.Msg) (*chain.Receipt, error) {
	found, err := c.builder.SendAndWait(ctx, messages...)
	if err != nil {
		c.builder.Reset()
		return nil, err
	}
	return found.Outcome()
}

// SettleBatch implements Batches, as Settle does Chain.
func (c *client) SettleBatch(ctx context.Context, batch chain.UsageBatch) (*chain.Receipt, error) {
	found, err := c.builder.SendAndWait(ctx, chain.SettleBatch{Batch: batch})
	if err != nil {
		c.builder.Reset()
		return nil, err
	}
	return found.Outcome()
}

// Balance implements Chain.
func (c *client) Balance(ctx context.Context) (chain.Amount, error) {
	a, err := c.Account(ctx, c.builder.Sender())
	return a.Spendable, err
}

// Open makes the dependencies that the config and its home describe.
func Open(config Config) (Deps, error) {
	deps := Deps{Log: config.logger()}
	var err error
	if deps.Genesis, err = readGenesis(config.path(config.Genesis, GenesisFile)); err != nil {
		return deps, err
	}
	if deps.Signer, err = readAccount(config.path(config.Key, AccountKeyFile)); err != nil {
		return deps, err
	}
	if deps.Verifier, err = groth16.OpenVerifier(config.Home, deps.Genesis.VerifyingKeys()); err != nil {
		return deps, err
	}
	cluster, err := sdk.ParseCluster(config.Cluster)
	if err != nil {
		return deps, err
	}
	c, err := sdk.NewKept(filepath.Join(config.Home, serversFile), sdk.Config{Nodes: config.RPC, Nexus: config.Nexus, Genesis: deps.Genesis, Cluster: cluster},
		func(err error) { deps.Log.Warn("relay: the cluster's servers", "error", err) })
	if err != nil {
		return deps, err
	}
	deps.Outbox, deps.Votes = c, c
	on := &client{Client: c, builder: c.NewBuilder(deps.Signer, sdk.BuilderOptions{})}
	deps.Chain = on
	if !config.Private {
		return deps, nil
	}
	nodes, err := config.nodes()
	if err != nil {
		return deps, err
	}
	at := &agents{nodes: nodes, client: &http.Client{}}
	proofs := &provers{dir: config.path(config.KeyDir, ProvingKeyDir), genesis: deps.Genesis}
	deps.Private = &PrivateDeps{Batches: on, Records: at.records, Prove: proofs.prove}
	return deps, nil
}

// Run runs the relay that the config and its home describe, until ctx ends.
func Run(ctx context.Context, config Config) error {
	if err := config.Check(); err != nil {
		return fmt.Errorf("relay: config: %w", err)
	}
	deps, err := Open(config)
	if err != nil {
		return err
	}
	r, err := New(config, deps)
	if err != nil {
		return err
	}
	if config.HTTP == "" {
		r.Carry(ctx)
		return nil
	}
	listener, err := net.Listen("tcp", config.HTTP)
	if err != nil {
		return fmt.Errorf("relay: http: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		r.Carry(ctx)
	})
	err = r.serveHTTP(ctx, listener)
	cancel()
	wg.Wait()
	return err
}

// Carry carries claims until ctx ends.
func (r *Relay) Carry(ctx context.Context) {
	payer := chain.AddressOf(r.Signer.AccountKey())
	r.Log.Info("relay: starting", "chain", string(r.Genesis.ChainID), "account", payer.String())
	var wg sync.WaitGroup
	wg.Go(func() { r.readAll(ctx) })
	wg.Go(func() { r.postAll(ctx) })
	wg.Go(func() { r.lookAll(ctx) })
	wg.Go(func() { r.watchAccount(ctx) })
	if r.private == nil && r.Votes != nil {
		wg.Go(func() { r.carryAllVotes(ctx) })
	}
	wg.Wait()
	r.Log.Info("relay: stopped")
}

// reading is how far the outbox has been read.
type reading struct {
	pass  uint64 // counts readings from the start
	after uint64 // cursor
	whole bool   // this pass has seen the end
	since time.Time
}

// readAll reads the outbox: from its start, then what comes, and every so often
// from its start again, to see what has left it.
func (r *Relay) readAll(ctx context.Context) {
	at := reading{pass: 1, since: time.Now()}
	for failed := 0; ctx.Err() == nil; {
		err := r.read(ctx, &at)
		if ctx.Err() != nil {
			return
		}
		r.health.set(partOutbox, err)
		if err == nil {
			failed = 0
			continue
		}
		failed++
		r.Log.Warn("relay: the outbox cannot be read", "error", err)
		sleep(ctx, pauseAfter(failed))
	}
}

// read asks for one page and takes it.
func (r *Relay) read(ctx context.Context, at *reading) error {
	wait := time.Duration(0)
	if at.whole {
		if time.Since(at.since) >= rescanEvery {
			*at = reading{pass: at.pass + 1, since: time.Now()}
		} else {
			wait = min(longPoll, rescanEvery-time.Since(at.since))
		}
	}
	page, err := r.Outbox.Outbox(ctx, at.after, pageItems, wait)
	if err != nil {
		return err
	}
	for i := range page.Items {
		item := &page.Items[i]
		if uint64(item.Cursor) <= at.after {
			return fmt.Errorf("relay: the outbox answered cursor %d after %d", item.Cursor, at.after)
		}
		if !r.take(item, at.pass) {
			*at = reading{pass: at.pass + 1, since: time.Now()} // some may have left the outbox
			return fmt.Errorf("relay: %d claims are held, the limit", maxHeld)
		}
		at.after = uint64(item.Cursor)
	}
	switch {
	case at.whole:
	case len(page.Items) == 0:
		at.whole = true
		r.book.sweep(at.pass, ^uint64(0))
	default:
		r.book.sweep(at.pass, at.after)
	}
	return nil
}

// take holds the claims of an item that are worth posting. It is false if there
// is no room.
func (r *Relay) take(item *api.OutboxItem, pass uint64) bool {
	if n := len(item.Claims) + len(item.Runs); n > maxOfItem {
		r.Log.Warn("relay: leaving out an item with too many claims", "order", item.Order.Short(), "claims", n, "limit", maxOfItem)
		return true
	}
	var fresh []*entry
	if r.private == nil { // it carries what its own nodes are owed, and nothing else
		fresh = r.takeRuns(item, pass)
	}
	for _, raw := range item.Claims {
		id := crypto.DomainClaim.Hash(raw)
		if r.book.known(id, pass) {
			continue
		}
		claim, err := r.inspector.inspect(raw, time.Now())
		if err != nil {
			r.metrics.refused.Inc()
			r.book.refuse(id)
			r.Log.Warn("relay: refusing a claim", "order", item.Order.Short(), "claim", id.Short(), "reason", err)
			continue
		}
		fresh = append(fresh, r.heard(&chain.AcceptedOrder{Order: claim.Order, Acceptance: claim.Acceptance, Signature: claim.AcceptanceSig}, item, pass)...)
		if r.private != nil && !r.private.takes(claim) {
			r.book.refuse(id)
			continue
		}
		fresh = append(fresh, &entry{
			id: id, order: claim.Receipt.Order, claim: claim, bytes: len(raw), cursor: uint64(item.Cursor), pass: pass, locks: r.locksUntil(&claim.Order),
		})
	}
	return r.book.add(fresh)
}

// postAll posts what the book holds.
func (r *Relay) postAll(ctx context.Context) {
	for failed := 0; ctx.Err() == nil; {
		batch, wait := r.book.next(time.Now(), r.config.Batch)
		if len(batch) == 0 {
			idle(ctx, r.book.more, wait)
			continue
		}
		before, unbegun := r.wasted, r.unbegun
		err := r.post(ctx, batch)
		if ctx.Err() != nil {
			return
		}
		r.health.set(partChain, err)
		if err == nil {
			failed = 0
			if pause := wastePause(r.wasted); pause > 0 && r.wasted > before { // votes go on meanwhile: they are of others, and have their time
				r.Log.Warn("relay: the chain takes nothing of what the outbox has", "transactions", r.wasted, "pause", pause)
				r.book.rest(time.Now().Add(pause))
			}
			if pause := wastePause(r.unbegun); pause > 0 && r.unbegun > unbegun { // for want of a bond that is free: claims of others go on
				r.Log.Warn("relay: the chain takes nothing that locks a bond", "transactions", r.unbegun, "pause", pause)
				r.book.pause(batch, time.Now(), pause)
			}
			continue
		}
		failed++
		r.Log.Warn("relay: claims were not posted", "claims", len(batch), "error", err)
		sleep(ctx, pauseAfter(failed))
	}
}

// idle waits for a token, or for so long if wait is not zero.
func idle(ctx context.Context, tokens <-chan struct{}, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-tokens:
	case <-due:
	case <-ctx.Done():
	}
}

// post posts the claims that the chain has not got yet, and reads their
// verdicts. An error says that nothing is known: they are posted again.
func (r *Relay) post(ctx context.Context, batch []*entry) error {
	left, err := r.unsettled(ctx, batch)
	if err != nil || len(left) == 0 {
		return err
	}
	receipt, err := r.Chain.Post(ctx, messagesOf(left)...)
	if err == nil {
		r.waste(left)
		r.judge(left, receipt)
		return nil
	}
	whole, ok := errors.AsType[*sdk.RejectedError](err)
	switch {
	case !ok:
		r.book.doubt(left)
		return err
	case len(left) > 1:
		r.Log.Warn("relay: a transaction was refused; posting its claims one by one", "claims", len(left), "error", err)
		r.book.separate(left)
		return nil
	case whole.Included:
		r.waste(left)
		r.reject(left[0], whole.Reason)
		return nil
	}
	r.book.postpone(left, time.Now().Add(firstRetry)) // the account's fault, such as no balance
	return err
}

// unsettled returns the claims that the chain has not got yet, and notes the
// others. Of one that shows its key that was proven a moment ago.
func (r *Relay) unsettled(ctx context.Context, batch []*entry) (left []*entry, err error) {
	asked := map[crypto.Digest]map[chain.ClaimKey]bool{}
	for _, e := range batch {
		if e.claim == nil || e.shows() { // posted again, a message without a claim changes nothing
			left = append(left, e)
			continue
		}
		key := e.claim.Key()
		has, ok := asked[key.Order]
		if !ok {
			settlements, err := r.Chain.Settlements(ctx, key.Order)
			if err != nil {
				return nil, err
			}
			has = taken(&settlements)
			asked[key.Order] = has
		}
		if has[key] {
			r.book.resolve(e)
			r.Log.Debug("relay: the chain has a claim already", "order", key.Order.Short(), "node", key.Node.Short())
			continue
		}
		left = append(left, e)
	}
	return left, nil
}

// taken lists the claims of an order that were paid, recorded or lost: all of them are final. Those that
// were refused are not among them: whoever was refused may have posted another
// claim of that name.
func taken(s *api.Settlements) map[chain.ClaimKey]bool {
	has := map[chain.ClaimKey]bool{}
	for i := range s.Settled {
		c := &s.Settled[i].Claim
		has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
	}
	for i := range s.Recorded {
		c := &s.Recorded[i].Claim
		has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
	}
	for i := range s.Lost {
		c := &s.Lost[i].Claim
		has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
	}
	return has
}

// judge reads each claim's verdict from the receipt of its transaction.
func (r *Relay) judge(posted []*entry, receipt *chain.Receipt) {
	reasons := map[chain.ClaimKey]string{}
	has := map[chain.ClaimKey]bool{}
	for _, event := range receipt.Events {
		if c, ok := event.(chain.ClaimSettled); ok {
			has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
		}
		if c, ok := event.(chain.ClaimRecorded); ok {
			has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
		}
		if c, ok := event.(chain.ClaimLost); ok {
			has[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = true
			r.Log.Warn("relay: a claim is lost: its escrow does not cover it", "order", c.Order.Short(), "node", c.Node.Short(), "lost", c.Lost, "cluster", c.Cluster.Short())
		}
		if c, ok := event.(chain.ClaimRejected); ok {
			reasons[chain.ClaimKey{Order: c.Order, Node: c.Node, Sequence: uint64(c.Sequence)}] = c.Reason
		}
	}
	for _, e := range posted {
		if e.claim == nil { // it was not refused as a whole
			if e.vote {
				r.vain.Store(0)
			} else {
				r.wasted = 0
			}
			r.metrics.carried.Inc()
			r.book.taken(e)
			if _, begun := e.run.(chain.BeginRun); begun {
				r.begun.Store(time.Now().UnixMilli())
				r.unbegun = 0
			}
			r.Log.Info("relay: the chain took a message", "order", e.order.Short(), "kind", chain.KindOf(e.run), "tx", receipt.TxID.Short())
			continue
		}
		key := e.claim.Key()
		if has[key] {
			r.wasted = 0
			if !e.locks.IsZero() {
				r.unbegun = 0
			}
			r.metrics.carried.Inc()
			r.book.resolve(e)
			r.Log.Info("relay: the chain took a claim", "order", key.Order.Short(), "node", key.Node.Short(), "tx", receipt.TxID.Short())
			continue
		}
		reason, ok := reasons[key]
		if !ok {
			reason = "the receipt says nothing of it"
		}
		r.reject(e, reason)
	}
}

// reject notes that the chain refused a claim.
func (r *Relay) reject(e *entry, reason string) {
	r.metrics.rejected.Inc()
	forGood := r.book.rejected(e, reason, time.Now())
	r.Log.Warn("relay: the chain refused a claim", "order", e.order.Short(),
		"reason", reason, "for_good", forGood)
}

// watchAccount looks at what the account has for fees.
func (r *Relay) watchAccount(ctx context.Context) {
	for failed := 0; ctx.Err() == nil; {
		balance, err := r.Chain.Balance(ctx)
		if err == nil {
			r.metrics.balance.Set(float64(balance.Nano()))
			if balance.IsZero() {
				err = fmt.Errorf("relay: account %s has nothing to pay fees with", chain.AddressOf(r.Signer.AccountKey()))
			}
		}
		if ctx.Err() != nil {
			return
		}
		r.health.set(partAccount, err)
		if err == nil {
			failed = 0
			sleep(ctx, balanceEvery)
			continue
		}
		failed++
		r.Log.Warn("relay: the account", "error", err)
		sleep(ctx, pauseAfter(failed))
	}
}

// waste counts a transaction until judge says that it was none. Votes are counted apart, and so is
// what locks bonds: a panel that is over, a server that lists what is worth nothing, or a cluster
// without a bond that is free, holds up no claims.
func (r *Relay) waste(posted []*entry) {
	switch {
	case slices.ContainsFunc(posted, func(e *entry) bool { return !e.vote && e.locks.IsZero() }):
		r.wasted++
	case slices.ContainsFunc(posted, func(e *entry) bool { return !e.vote }):
		r.unbegun++
	default:
		r.vain.Add(1)
	}
}

// wastePause returns how long to wait after so many transactions in a row whose
// fees bought nothing: a claim may be in order and still worthless, for want of
// an escrow or of a registered node.
func wastePause(wasted int) time.Duration {
	if wasted <= freeWaste {
		return 0
	}
	return min(firstRetry<<min(wasted-freeWaste-1, 10), longestWaste)
}

// pauseAfter returns how long to wait after so many failures in a row.
func pauseAfter(failed int) time.Duration {
	pause := min(firstPause<<min(failed-1, 10), longestPause)
	return pause/2 + rand.N(pause/2)
}

// sleep waits for a pause or the end of ctx.
func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
