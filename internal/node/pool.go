package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/state"
)

// pool is the node's mempool with its lock and its admission.
type pool struct {
	executor *execution.Executor
	state    state.Reader // of the latest committed block
	verifier *verifier
	gossip   *gossip
	log      *slog.Logger
	backlog  int // ready transactions, beyond which others are held up

	mu    sync.Mutex
	txs   *mempool.Pool
	grown chan struct{} // closed and replaced when a transaction comes in
	fell  chan struct{} // closed and replaced when a block is final, or a proposal waits
	final uint64        // how many blocks have become final

	drain    drain          // guarded by mu, like what follows
	entering int            // that passed the gate and are not in yet
	lastTip  chain.GasPrice // the lowest of the last final block with transactions
	baseFee  chain.GasPrice // after that block
}

func newPool(config mempool.Config, executor *execution.Executor, latest state.Reader, log *slog.Logger) *pool {
	p := &pool{
		executor: executor, state: latest, verifier: newVerifier(), log: log, backlog: maxBacklog, txs: mempool.New(config), grown: make(chan struct{}), fell: make(chan struct{}),
	}
	p.gossip = newGossip(p, log)
	return p
}

// memo reads a key once if it comes again at once: that of a sender's account is
// looked at twice in an admission.
type memo struct {
	state.Reader
	key   []byte
	value []byte
	ok    bool
}

// Get returns the value of key.
func (m *memo) Get(key []byte) ([]byte, bool) {
	if m.key == nil || !bytes.Equal(m.key, key) {
		m.key = append(m.key[:0], key...)
		m.value, m.ok = m.Reader.Get(key)
	}
	return m.value, m.ok
}

// Get returns a transaction whose signatures were verified here: it waits, or
// came in not long ago.
func (p *pool) Get(id chain.TxID) (*chain.VerifiedTx, bool) {
	if tx, ok := p.verifier.known(id); ok {
		return tx, true
	}
	return p.pending(id)
}

// pending returns a transaction that waits.
func (p *pool) pending(id chain.TxID) (*chain.VerifiedTx, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Get(id)
}

// look reports whether a transaction waits already, and whether the pool is too full
// for it in any case.
func (p *pool) look(tx *chain.DecodedTx) (known bool, refusal error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.txs.Get(tx.ID()); ok {
		return true, nil
	}
	return false, p.txs.Refuses(tx)
}

// verify returns the verified forms of transactions, nil for those of which a
// signature does not verify.
func (p *pool) verify(txs []chain.DecodedTx) []*chain.VerifiedTx {
	out := make([]*chain.VerifiedTx, len(txs))
	var rest []*chain.DecodedTx
	var places []int
	p.verifier.knownOf(txs, out)
	for i := range txs {
		if out[i] != nil {
			continue
		}
		if tx, ok := p.pending(txs[i].ID()); ok {
			out[i] = tx
			continue
		}
		rest, places = append(rest, &txs[i]), append(places, i)
	}
	for i, tx := range p.verifier.verify(rest) {
		out[places[i]] = tx
	}
	return out
}

// Bounds of the wait for the chain while many transactions are ready: taking more in
// then brings none into a block sooner, and takes the time for blocks.
const (
	maxBacklog  = 2 * chain.MaxBlockTxs
	backlogWait = time.Second
)

// hold returns when few enough transactions are ready for blocks, when a proposal
// waits for some, or after a while.
func (p *pool) hold(ctx context.Context) {
	var limit <-chan time.Time
	for {
		p.mu.Lock()
		full, fell := p.txs.Ready() > p.backlog, p.fell
		p.mu.Unlock()
		if !full || p.gossip.fetches() {
			return
		}
		if limit == nil {
			timer := time.NewTimer(backlogWait)
			defer timer.Stop()
			limit = timer.C
		}
		select {
		case <-fell:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// busy reports whether more transactions are ready than the next blocks take.
func (p *pool) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Ready() > p.backlog
}

// letGo has those who are held look again. The caller holds p.mu.
func (p *pool) letGo() {
	close(p.fell)
	p.fell = make(chan struct{})
}

// Submit takes a client's transactions in and tells the peers of those that are
// new. For each it returns why it was refused, or the empty string.
func (p *pool) Submit(txs []chain.DecodedTx) []string {
	refusals, leave := p.gate(txs)
	defer leave()
	if refusals == nil {
		reasons, fresh, _ := p.add(txs, nil)
		p.gossip.spread(fresh)
		return reasons
	}
	var rest []chain.DecodedTx
	var places []int
	for i, refusal := range refusals {
		if refusal == "" {
			rest, places = append(rest, txs[i]), append(places, i)
		}
	}
	reasons, fresh, _ := p.add(rest, nil)
	p.gossip.spread(fresh)
	for k, i := range places {
		refusals[i] = reasons[k]
	}
	return refusals
}

// candidate is a transaction on its way in.
type candidate struct {
	place int
	at    mempool.Standing
}

// add checks transactions against the latest state, verifies those that could be
// included, and takes them in. Fresh are those that were not here before, and
// forged counts those whose signatures do not verify. What a proposal waits for
// is verified in any case: whether it may be included is for the block to show.
func (p *pool) add(txs []chain.DecodedTx, wanted func(chain.TxID) bool) (reasons []string, fresh []*chain.VerifiedTx, forged int) {
	reasons = make([]string, len(txs))
	p.mu.Lock()
	final := p.final
	p.mu.Unlock()
	reader := &memo{Reader: p.state}
	latest, err := p.executor.Admission(reader)
	if err != nil {
		for i := range reasons {
			reasons[i] = err.Error()
		}
		return reasons, nil, 0
	}
	unknown, candidates := make([]*chain.DecodedTx, 0, len(txs)), make([]candidate, 0, len(txs))
	var only []*chain.DecodedTx // to verify
	for i := range txs {
		known, refusal := p.look(&txs[i])
		if known {
			continue
		}
		// Nobody has signatures verified that he cannot pay for, or that were paid
		// for already.
		if refusal == nil {
			refusal = latest.Admit(&txs[i])
		}
		if refusal != nil {
			reasons[i] = refusal.Error()
			if wanted != nil && wanted(txs[i].ID()) {
				only = append(only, &txs[i])
			}
			continue
		}
		unknown = append(unknown, &txs[i])
		candidates = append(candidates, candidate{place: i, at: standing(latest, reader, &txs[i])})
	}
	verified := p.verifier.verify(append(unknown, only...))
	for _, tx := range verified[len(unknown):] {
		if tx == nil {
			forged++
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, tx := range verified[:len(unknown)] {
		reason := &reasons[candidates[k].place]
		if tx == nil {
			*reason = "a signature does not verify"
			forged++
			continue
		}
		at := candidates[k].at
		if p.final != final { // perhaps with this one in it
			at = standing(latest, p.state, &tx.DecodedTx)
		}
		err := p.txs.Add(tx, at)
		if errors.Is(err, mempool.ErrKnown) { // it came in meanwhile
			continue
		}
		if err != nil {
			*reason = err.Error()
			continue
		}
		fresh = append(fresh, tx)
	}
	if len(fresh) > 0 {
		close(p.grown)
		p.grown = make(chan struct{})
	}
	return reasons, fresh, forged
}

// standing is what a state says of a transaction's sender and payer.
func standing(a *execution.Admission, r state.Reader, tx *chain.DecodedTx) mempool.Standing {
	next, funds := a.Standing(r, tx)
	return mempool.Standing{Next: next, Funds: funds}
}

// maxLarge is how many transactions a leader looks at of those that may need much of a
// block's gas: each, once another is in, may have to wait for the next block, and too
// many of them would stand in the way of all others.
const maxLarge = 16

// selection yields the pending transactions in the order in which a block with so much
// gas takes them, and how many those are, at most so many; what has left the pool
// meanwhile fails in execution.
func (p *pool) selection(most int, gas chain.Gas, included func(chain.TxID) bool) (next func() (*chain.VerifiedTx, bool), count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	large := 0
	offered := p.txs.Select(included, func(tx *chain.VerifiedTx) bool {
		if execution.Large(tx.Tx().Body.GasLimit, gas) {
			large++
		}
		return large <= maxLarge || !execution.Large(tx.Tx().Body.GasLimit, gas)
	})
	var list []*chain.VerifiedTx
	for len(list) < most {
		tx, ok := offered()
		if !ok {
			break
		}
		list = append(list, tx)
	}
	next = func() (*chain.VerifiedTx, bool) {
		if len(list) == 0 {
			return nil, false
		}
		tx := list[0]
		list = list[1:]
		return tx, true
	}
	return next, len(list)
}

// await returns when enough transactions that are not included wait, when the time
// has passed, or when ctx ends.
func (p *pool) await(ctx context.Context, limit time.Duration, enough int, included inclusion) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		grown, waiting := p.waiting(enough, included)
		if waiting {
			return
		}
		select {
		case <-grown:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// waiting reports whether so many transactions that are not included wait, and
// returns a channel that is closed when there are more.
func (p *pool) waiting(enough int, included inclusion) (<-chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.txs.Ready()-included.count >= enough { // whichever of the ready ones are included
		return p.grown, true
	}
	next := p.txs.Select(included.has, func(*chain.VerifiedTx) bool { return true })
	for range enough {
		if _, ok := next(); !ok {
			return p.grown, false
		}
	}
	return p.grown, true
}

// refused takes note of what a block's state refused. That state is not final: what the
// final one refuses too is dropped, and the rest waits for the next block to be final. A
// nonce or a fee that does not fit may fit in the next block already.
func (p *pool) refused(list []execution.Dropped) {
	var txs []*chain.VerifiedTx
	p.mu.Lock()
	for _, d := range list {
		if d.Reason.Rule == execution.RuleExpired || d.Reason.Rule == execution.RuleFunds || d.Reason.Rule == execution.RuleGasLimit {
			if tx, ok := p.txs.Get(d.ID); ok {
				p.txs.Park(d.ID)
				txs = append(txs, tx)
			}
		}
	}
	p.mu.Unlock()
	p.judge(txs)
}

// judge drops those transactions that the final state refuses for good.
func (p *pool) judge(txs []*chain.VerifiedTx) {
	if len(txs) == 0 {
		return
	}
	latest, err := p.executor.Admission(p.state)
	if err != nil {
		p.log.Error("looking for transactions that cannot be paid for", "error", err)
		return
	}
	why := map[chain.TxID]mempool.Reason{}
	for _, tx := range txs {
		refusal, ok := errors.AsType[*execution.Refusal](latest.Admit(&tx.DecodedTx))
		switch {
		case !ok:
		case refusal.Rule == execution.RuleFunds:
			why[tx.ID()] = mempool.Funds
		case refusal.Rule == execution.RuleGasLimit:
			why[tx.ID()] = mempool.GasLimit
		}
	}
	if len(why) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, reason := range why { // order-free: each by itself
		p.txs.Drop(id, reason)
	}
}

// judged is of how many senders the next transaction is looked at after each block:
// whoever does not make blocks learns in no other way what cannot be paid for.
const judged = 16

// finalize tells the pool of a committed block.
func (p *pool) finalize(height chain.Height, txs []chain.DecodedTx) {
	head, err := execution.HeadOf(p.state)
	if err != nil {
		p.log.Error("reading the base fee", "error", err)
	}
	p.mu.Lock()
	p.txs.Finalize(height, head.BaseFee, txs)
	p.noteBlock(txs, head.BaseFee, time.Now())
	heads := p.txs.Heads(judged)
	p.final++
	p.letGo()
	p.mu.Unlock()
	p.judge(heads)
}

// dropped returns why a transaction left the pool, if that was not long ago.
func (p *pool) dropped(id chain.TxID) (mempool.Dropped, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Dropped(id)
}

// droppedFor returns how many transactions have left for a reason.
func (p *pool) droppedFor(why mempool.Reason) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.DroppedFor(why)
}

// ready returns how many transactions wait for no earlier nonce.
func (p *pool) ready() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Ready()
}

// size returns how many transactions wait, and their bytes.
func (p *pool) size() (txs, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Len(), p.txs.Bytes()
}

// ids returns at most n transactions that wait and are not known, whichever.
func (p *pool) ids(n int, known func(chain.TxID) bool) []chain.TxID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.IDs(n, known)
}

// pendingNonce returns the nonce after those of a sender that wait in a row.
func (p *pool) pendingNonce(sender chain.Address, next uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.PendingNonce(sender, next)
}
