package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/state"
)

// pool is the node's mempool with its lock, its admission, and its gossip: what
// is taken in from a client goes to every peer once.
type pool struct {
	executor *execution.Executor
	state    state.Reader // of the latest committed block
	gossip   func(message []byte)
	relay    func(from crypto.PublicKey, message []byte) // a sentry's way on; to nobody else's
	block    func(peer crypto.PublicKey, reason string)
	log      *slog.Logger
	turn     chan struct{} // held while verifying: admission never takes more than one processor from consensus

	mu    sync.Mutex
	txs   *mempool.Pool
	grown chan struct{} // closed and replaced when a transaction comes in
}

func newPool(config mempool.Config, executor *execution.Executor, latest state.Reader, log *slog.Logger) *pool {
	return &pool{executor: executor, state: latest, log: log, turn: make(chan struct{}, 1), txs: mempool.New(config), grown: make(chan struct{})}
}

// admission is a mempool.Checker against the latest committed state.
type admission struct {
	*execution.Admission
	state state.Reader
}

// Check returns the sender's next nonce, or why the transaction is refused.
func (a admission) Check(tx *chain.VerifiedTx) (nextNonce uint64, err error) {
	if err := a.Admit(&tx.DecodedTx); err != nil {
		return 0, err
	}
	return execution.NextNonce(a.state, tx.Tx().Body.Sender), nil
}

// Get returns a pending transaction.
func (p *pool) Get(id chain.TxID) (*chain.VerifiedTx, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Get(id)
}

// Submit verifies transactions in one batch, takes them in, and tells the peers
// of those that are new. For each it returns why it was refused, or the empty
// string.
func (p *pool) Submit(txs []chain.DecodedTx) []string {
	reasons, fresh, _ := p.add(txs)
	if len(fresh) > 0 {
		for _, message := range gossipMessages(fresh) {
			p.gossip(message)
		}
	}
	return reasons
}

// add verifies and takes in; fresh are the encodings of those that were not here
// before, and forged counts those whose signatures do not verify.
func (p *pool) add(txs []chain.DecodedTx) (reasons []string, fresh [][]byte, forged int) {
	reasons = make([]string, len(txs))
	latest, err := p.executor.Admission(p.state)
	if err != nil {
		for i := range reasons {
			reasons[i] = err.Error()
		}
		return reasons, nil, 0
	}
	checker := admission{Admission: latest, state: p.state}
	var unknown []chain.DecodedTx
	var places []int
	for i := range txs {
		if _, ok := p.Get(txs[i].ID()); ok {
			continue
		}
		// A claim has five signatures, and a transaction room for many claims:
		// who cannot pay for them has none verified.
		if txs[i].Claims() > 0 {
			if err := latest.Admit(&txs[i]); err != nil {
				reasons[i] = err.Error()
				continue
			}
		}
		unknown, places = append(unknown, txs[i]), append(places, i)
	}
	p.turn <- struct{}{}
	verified := chain.VerifyTxs(unknown, 1)
	<-p.turn
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, tx := range verified {
		if tx == nil {
			reasons[places[k]] = "a signature does not verify"
			forged++
			continue
		}
		err := p.txs.Add(tx, checker)
		if errors.Is(err, mempool.ErrKnown) { // it came in meanwhile
			continue
		}
		if err != nil {
			reasons[places[k]] = err.Error()
			continue
		}
		fresh = append(fresh, tx.Raw())
	}
	if len(fresh) > 0 {
		close(p.grown)
		p.grown = make(chan struct{})
	}
	return reasons, fresh, forged
}

// gossipMessages packs encoded transactions into messages within the channel's
// limit.
func gossipMessages(raws [][]byte) [][]byte {
	var out [][]byte
	var batch [][]byte
	size := 0
	flush := func() {
		if len(batch) > 0 {
			out = append(out, codec.Marshal(batch))
		}
		batch, size = nil, 0
	}
	for _, raw := range raws {
		if size+len(raw)+16 > maxGossip-16 {
			flush()
		}
		batch, size = append(batch, raw), size+len(raw)+16
	}
	flush()
	return out
}

// receive takes a peer's gossip. What does not decode is dropped, and what is not
// admitted too: a peer may be ahead or behind. A signature that does not verify
// is forged by the peer, which passes on only what it verified.
func (p *pool) receive(peer crypto.PublicKey, message []byte) {
	var raws [][]byte
	if err := codec.Unmarshal(message, &raws, maxGossip); err != nil {
		p.log.Debug("gossip refused", "peer", peer.Short(), "error", err)
		return
	}
	txs := make([]chain.DecodedTx, 0, len(raws))
	for _, raw := range raws {
		tx, err := chain.DecodeTx(raw)
		if err != nil {
			p.log.Debug("gossip refused", "peer", peer.Short(), "error", err)
			return
		}
		txs = append(txs, tx)
	}
	_, fresh, forged := p.add(txs)
	if forged > 0 {
		p.block(peer, fmt.Sprintf("gossip with %d forged transactions of %d", forged, len(txs)))
	}
	for _, message := range gossipMessages(fresh) {
		p.relay(peer, message)
	}
}

// selection yields the pending transactions in the order a block takes them.
// The pool is locked while the next one is looked for, and what has left it
// meanwhile fails in execution.
func (p *pool) selection(included func(chain.TxID) bool) func() (*chain.VerifiedTx, bool) {
	const most = 2 * chain.MaxBlockTxs
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.txs.Select(included)
	var list []*chain.VerifiedTx
	for len(list) < most {
		tx, ok := next()
		if !ok {
			break
		}
		list = append(list, tx)
	}
	return func() (*chain.VerifiedTx, bool) {
		if len(list) == 0 {
			return nil, false
		}
		tx := list[0]
		list = list[1:]
		return tx, true
	}
}

// await returns when enough transactions that are not included wait, when the time
// has passed, or when ctx ends.
func (p *pool) await(ctx context.Context, limit time.Duration, enough int, included func(chain.TxID) bool) {
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
func (p *pool) waiting(enough int, included func(chain.TxID) bool) (<-chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.txs.Select(included)
	for range enough {
		if _, ok := next(); !ok {
			return p.grown, false
		}
	}
	return p.grown, true
}

// drop removes what no later block can take either. A nonce or a fee that does
// not fit may fit later.
func (p *pool) drop(list []execution.Dropped) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range list {
		if d.Reason.Rule == execution.RuleExpired || d.Reason.Rule == execution.RuleFunds || d.Reason.Rule == execution.RuleGasLimit {
			p.txs.Drop(d.ID)
		}
	}
}

// finalize tells the pool of a committed block.
func (p *pool) finalize(height chain.Height, txs []chain.DecodedTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.txs.Finalize(height, txs)
}

// size returns how many transactions wait, and their bytes.
func (p *pool) size() (txs, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.Len(), p.txs.Bytes()
}

// pendingNonce returns the nonce after those of a sender that wait in a row.
func (p *pool) pendingNonce(sender chain.Address, next uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txs.PendingNonce(sender, next)
}
