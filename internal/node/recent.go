package node

import (
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/rpc"
)

// maxRecent is how many finalized blocks' outcomes stay in memory, for the event
// streams of clients that are at the head of the chain.
const maxRecent = 4

// recent holds the outcomes of the last finalized blocks. Safe for concurrent
// use; the zero value is ready.
type recent struct {
	mu   sync.Mutex
	list [maxRecent]rpc.Outcome // by height mod maxRecent
}

func (r *recent) add(o rpc.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[o.Header.Height%maxRecent] = o
}

func (r *recent) of(height chain.Height) (rpc.Outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.list[height%maxRecent]
	return o, height > 0 && o.Header.Height == height
}
