package engine

import (
	"context"
	"sync"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds for one peer: a core asks for up to 16 things at a time.
const (
	maxRequestsOfPeer = 32
	maxExpectedOfPeer = 32
	maxExpectedPeers  = 512
)

// finder finds the answer to a fetch request, or nil if this node has none.
type finder func(context.Context) (consensus.Message, error)

// questions are the peers' fetch requests that wait for an answer. Peers take
// turns, so that none can crowd out the others.
type questions struct {
	limit int
	ready chan struct{} // holds a token while there may be some

	mu     sync.Mutex
	total  int
	byPeer map[crypto.PublicKey][]finder
	turns  []crypto.PublicKey // those who wait, each once
}

func newQuestions(limit int) *questions {
	return &questions{limit: limit, ready: make(chan struct{}, 1), byPeer: map[crypto.PublicKey][]finder{}}
}

// add queues a request, unless there are too many of the peer or of all.
func (q *questions) add(peer crypto.PublicKey, find finder) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := q.byPeer[peer]
	if q.total >= q.limit || len(waiting) >= maxRequestsOfPeer {
		return false
	}
	if len(waiting) == 0 {
		q.turns = append(q.turns, peer)
	}
	q.byPeer[peer] = append(waiting, find)
	q.total++
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// next waits for a request, and returns false when ctx ends first.
func (q *questions) next(ctx context.Context) (crypto.PublicKey, finder, bool) {
	for {
		if peer, find, ok := q.take(); ok {
			return peer, find, true
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return crypto.PublicKey{}, nil, false
		}
	}
}

func (q *questions) take() (crypto.PublicKey, finder, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.turns) == 0 {
		return crypto.PublicKey{}, nil, false
	}
	peer := q.turns[0]
	q.turns = q.turns[1:]
	waiting := q.byPeer[peer]
	if q.total--; len(waiting) == 1 {
		delete(q.byPeer, peer)
	} else {
		q.byPeer[peer] = waiting[1:]
		q.turns = append(q.turns, peer)
	}
	return peer, waiting[0], true
}

// expected counts the blocks that peers were asked for and have not sent.
type expected struct {
	mu     sync.Mutex
	byPeer map[crypto.PublicKey]int
}

func newExpected() *expected { return &expected{byPeer: map[crypto.PublicKey]int{}} }

func (x *expected) add(peer crypto.PublicKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.byPeer) >= maxExpectedPeers { // most have gone and will never answer
		clear(x.byPeer)
	}
	x.byPeer[peer] = min(x.byPeer[peer]+1, maxExpectedOfPeer)
}

// take reports whether a block of the peer is expected, and counts it.
func (x *expected) take(peer crypto.PublicKey) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.byPeer[peer]
	if n <= 1 {
		delete(x.byPeer, peer)
	} else {
		x.byPeer[peer] = n - 1
	}
	return n > 0
}
