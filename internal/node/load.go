package node

import (
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/execution"
)

const (
	// blockWork is how long executing a block may take here, as far as that can
	// be foretold. Its leader does so, then everybody else before they vote; hashing
	// and writing take as long again, and a block that takes longer than a view's
	// patience comes to nothing.
	blockWork = 50 * time.Millisecond
	// measuredTxs is the smallest block whose execution says how long a
	// transaction takes.
	measuredTxs = 32
	// leastTxs is what a leader puts into a block however slow execution is.
	leastTxs = 64
)

// load is what a leader knows of how much its committee can execute. Safe for
// concurrent use.
type load struct {
	mu    sync.Mutex
	perTx time.Duration // an average that follows; 0: not known
}

// observe notes how long the execution of a block took.
func (l *load) observe(txs int, took time.Duration) {
	if txs < measuredTxs {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := took / time.Duration(txs)
	if l.perTx == 0 {
		l.perTx = now
		return
	}
	l.perTx += (now - l.perTx) / 4
}

// budget returns how much to put into the block of a view on a parent's: what can
// be executed in time, and half of it for each view between the two that came to
// nothing.
func (l *load) budget(view, parent consensus.View) execution.Budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := execution.MaxBudget
	if l.perTx > 0 {
		b.Txs = min(b.Txs, int(blockWork/max(l.perTx, 1)))
	}
	if view > parent+1 {
		b.Txs >>= min(view-parent-1, 16)
	}
	b.Txs = max(b.Txs, leastTxs)
	return b
}
