package transport

import (
	"sync"

	"github.com/quic-go/quic-go"
)

// windowGrowth bounds by how much the receive windows of accepted connections
// grow together, so that many peers that are slowed down by not being read
// cannot make us hold a full window for each. Preferred connections are free of
// it.
type windowGrowth struct {
	mu       sync.Mutex
	sum      uint64
	of       map[*quic.Conn]uint64
	favoured map[*quic.Conn]struct{}
}

// allow is quic-go's question whether a connection's window may grow.
func (g *windowGrowth) allow(q *quic.Conn, delta uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, free := g.favoured[q]; free {
		return true
	}
	if _, counted := g.of[q]; !counted || g.sum+delta > maxWindowGrowth {
		return false
	}
	g.of[q] += delta
	g.sum += delta
	return true
}

// enter begins to count a connection, which grows by nothing before; favoured
// says that it is free of the bound.
func (g *windowGrowth) enter(q *quic.Conn, favoured bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if favoured {
		g.favoured[q] = struct{}{}
	} else {
		g.of[q] = 0
	}
}

// forget returns what a connection that has ended grew by.
func (g *windowGrowth) forget(q *quic.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sum -= g.of[q]
	delete(g.of, q)
	delete(g.favoured, q)
}
