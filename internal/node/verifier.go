package node

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// knownKeys bounds the points of senders' keys that are kept, 1.5 KiB each.
	knownKeys = 24_576
	// knownBytes bounds the transactions that are remembered as verified, beside
	// those of the pool: each generation's encodings.
	knownBytes = 2 << 20
	// fullTurn is from how many transactions on a turn of verification takes all
	// processors, and takes no more requests in: below, it leaves consensus all but
	// one.
	fullTurn = 1_024
)

// verifier verifies the signatures of every transaction that the node meets,
// whichever way it comes, once: what it has verified it knows by the transaction's
// id, which covers the whole canonical bytes, signatures included. Requests that
// wait for each other become one batch. Safe for concurrent use.
type verifier struct {
	turn  chan struct{}    // held while verifying
	keys  *crypto.KeyCache // belongs to whoever has the turn
	seen  map[uint64]int   // belongs to whoever has the turn: see take
	count atomic.Uint64    // of transactions whose signatures were looked at

	mu      sync.Mutex
	waiting []*verification // guarded by mu
	young   generation      // guarded by mu
	old     generation      // guarded by mu
	news    chan struct{}   // closed and replaced when a transaction was verified; guarded by mu
}

// verification is one request.
type verification struct {
	txs  []*chain.DecodedTx
	out  []*chain.VerifiedTx
	from []int         // where in the batch each is that was not known
	done chan struct{} // closed when out is there
}

// generation is what was verified in a stretch of time.
type generation struct {
	txs   map[chain.TxID]*chain.VerifiedTx
	bytes int
}

func newGeneration() generation { return generation{txs: map[chain.TxID]*chain.VerifiedTx{}} }

func newVerifier() *verifier {
	return &verifier{turn: make(chan struct{}, 1), keys: crypto.NewKeyCache(knownKeys), seen: map[uint64]int{}, young: newGeneration(), old: newGeneration(), news: make(chan struct{})}
}

// known returns a transaction that was verified not long ago.
func (v *verifier) known(id chain.TxID) (*chain.VerifiedTx, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lookUp(id)
}

// knownOf fills in those of the transactions that were verified not long ago.
func (v *verifier) knownOf(txs []chain.DecodedTx, out []*chain.VerifiedTx) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range txs {
		if tx, ok := v.lookUp(txs[i].ID()); ok {
			out[i] = tx
		}
	}
}

// arrived returns a channel that is closed when more is known.
func (v *verifier) arrived() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.news
}

func (v *verifier) lookUp(id chain.TxID) (*chain.VerifiedTx, bool) {
	tx, ok := v.young.txs[id]
	if !ok {
		tx, ok = v.old.txs[id]
	}
	return tx, ok
}

// verify returns for each transaction its verified form, nil if a signature of
// its own does not verify.
func (v *verifier) verify(txs []*chain.DecodedTx) []*chain.VerifiedTx {
	if len(txs) == 0 {
		return nil
	}
	r := &verification{txs: txs, out: make([]*chain.VerifiedTx, len(txs)), done: make(chan struct{})}
	v.mu.Lock()
	v.waiting = append(v.waiting, r)
	v.mu.Unlock()
	for {
		select {
		case <-r.done:
			return r.out
		case v.turn <- struct{}{}:
			v.serve()
			<-v.turn
		}
	}
}

// serve verifies what waits, as far as it fits a turn. The caller has the turn.
func (v *verifier) serve() {
	requests, fresh := v.take()
	verified := chain.VerifyTxsOf(v.keys, fresh, v.parallelism(len(fresh)))
	v.count.Add(uint64(len(fresh)))
	v.mu.Lock()
	defer v.mu.Unlock()
	good := 0
	for _, tx := range verified {
		if tx != nil {
			v.remember(tx)
			good++
		}
	}
	if good > 0 {
		close(v.news)
		v.news = make(chan struct{})
	}
	for _, r := range requests {
		for i := range r.txs {
			if r.out[i] == nil {
				r.out[i] = verified[r.from[i]]
			}
		}
		close(r.done)
	}
}

// take takes requests, and returns with them those of their transactions that
// are not known, each once: they are told apart by the beginnings of their ids, and if
// somebody takes the pains to make two begin alike, both are returned, as often as they
// are there. The caller has the turn.
func (v *verifier) take() (requests []*verification, fresh []*chain.DecodedTx) {
	v.mu.Lock()
	defer v.mu.Unlock()
	size := 0
	for _, r := range v.waiting {
		size += len(r.txs)
	}
	clear(v.seen)
	fresh = make([]*chain.DecodedTx, 0, min(size, 2*fullTurn))
	for len(v.waiting) > 0 && len(fresh) < fullTurn {
		r := v.waiting[0]
		v.waiting[0], v.waiting = nil, v.waiting[1:]
		requests, r.from = append(requests, r), make([]int, len(r.txs))
		for i := range r.txs {
			id := r.txs[i].ID()
			if tx, ok := v.lookUp(id); ok {
				r.out[i] = tx
			} else if at, twice := v.seen[beginning(id)]; twice && fresh[at].ID() == id {
				r.from[i] = at
			} else {
				v.seen[beginning(id)], r.from[i] = len(fresh), len(fresh)
				fresh = append(fresh, r.txs[i])
			}
		}
	}
	return requests, fresh
}

func beginning(id chain.TxID) uint64 { return binary.LittleEndian.Uint64(id[:]) }

func (v *verifier) parallelism(txs int) int {
	if txs < fullTurn {
		return 1
	}
	return runtime.GOMAXPROCS(0)
}

// remember keeps a verified transaction. The caller holds v.mu.
func (v *verifier) remember(tx *chain.VerifiedTx) {
	if v.young.bytes+len(tx.Raw()) > knownBytes {
		v.old, v.young = v.young, v.old
		clear(v.young.txs) // its room is of use again
		v.young.bytes = 0
	}
	v.young.txs[tx.ID()] = tx
	v.young.bytes += len(tx.Raw())
}
