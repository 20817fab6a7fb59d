package engine

import (
	"context"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func peer(n int) crypto.PublicKey { return crypto.PublicKey{byte(n), byte(n >> 8), 1} }

// TestAFloodOfRequestsWaitsForItself: a peer that asks without end delays
// another by one answer, and takes a bounded part of the queue.
func TestAFloodOfRequestsWaitsForItself(t *testing.T) {
	q := newQuestions(100)
	none := func(context.Context) (consensus.Message, error) { return nil, nil }
	taken := 0
	for range 1000 {
		if q.add(peer(1), none) {
			taken++
		}
	}
	if taken != maxRequestsOfPeer {
		t.Errorf("%d requests of one peer wait, limit %d", taken, maxRequestsOfPeer)
	}
	if !q.add(peer(2), none) {
		t.Fatal("no room for another peer")
	}
	for i, want := range []crypto.PublicKey{peer(1), peer(2), peer(1)} {
		if got, _, ok := q.next(t.Context()); !ok || got != want {
			t.Errorf("answer %d goes to %s, want %s", i, got.Short(), want.Short())
		}
	}
	for n := range 200 {
		q.add(peer(3+n), none)
	}
	if q.total != 100 || len(q.byPeer) != len(q.turns) {
		t.Errorf("%d requests of %d peers, %d of them in turn; limit 100", q.total, len(q.byPeer), len(q.turns))
	}
	for range 100 {
		if _, _, ok := q.take(); !ok {
			t.Fatal("a request is lost")
		}
	}
	if _, _, ok := q.take(); ok || len(q.byPeer) != 0 || q.total != 0 {
		t.Errorf("%d requests of %d peers are left", q.total, len(q.byPeer))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, _, ok := q.next(ctx); ok {
		t.Error("a request out of nowhere")
	}
}

func TestExpectedBlocksAreBounded(t *testing.T) {
	x := newExpected()
	if x.take(peer(1)) {
		t.Error("a block that nobody asked for is expected")
	}
	for range 100 {
		x.add(peer(1))
	}
	n := 0
	for x.take(peer(1)) {
		n++
	}
	if n != maxExpectedOfPeer {
		t.Errorf("%d expected, limit %d", n, maxExpectedOfPeer)
	}
	for i := range 3 * maxExpectedPeers {
		x.add(peer(i))
	}
	if len(x.byPeer) > maxExpectedPeers {
		t.Errorf("%d peers, limit %d", len(x.byPeer), maxExpectedPeers)
	}
}

// sizes is a log that notes how large each append is.
type sizes struct {
	WAL
	appends []int
	records int
}

func (s *sizes) Append(records [][]byte) error {
	size := 0
	for _, r := range records {
		size += len(r)
		if want := byte(s.records); r[0] != want {
			panic("records out of order")
		}
		s.records++
	}
	s.appends = append(s.appends, size)
	return nil
}

// TestAppendsAreBounded: a step may hold more than a log takes at once.
func TestAppendsAreBounded(t *testing.T) {
	log := &sizes{}
	e := &Engine{wal: log}
	var records [][]byte
	for i := range 20 {
		r := make([]byte, consensus.MaxPayloadBytes)
		r[0] = byte(i)
		records = append(records, r)
	}
	if err := e.append(records); err != nil {
		t.Fatal(err)
	}
	if log.records != 20 || e.appended != 20*consensus.MaxPayloadBytes {
		t.Errorf("%d records, %d bytes counted", log.records, e.appended)
	}
	for i, size := range log.appends {
		if size > maxAppend {
			t.Errorf("append %d has %d bytes, limit %d", i, size, maxAppend)
		}
	}
	if err := e.append(nil); err != nil || len(log.appends) != 5 {
		t.Errorf("%d appends, error %v", len(log.appends), err)
	}
}

// peers is a network of which only the peers matter.
type peers struct {
	Network
	list []crypto.PublicKey
}

func (p peers) Peers() []crypto.PublicKey { return p.list }

// TestCatchUpIsNotCrowdedOut: however many observers are connected, the
// validators are asked three times out of four, each in its turn.
func TestCatchUpIsNotCrowdedOut(t *testing.T) {
	e := &Engine{signers: map[crypto.PublicKey]consensus.Signer{}}
	var net peers
	for n := range 64 {
		net.list = append(net.list, peer(n))
	}
	e.net = net
	asked := map[crypto.PublicKey]int{}
	for turn := range 64 {
		p, ok := e.whomToAsk(turn)
		if !ok {
			t.Fatal("nobody to ask")
		}
		asked[p]++
	}
	if len(asked) != 64 {
		t.Errorf("without validators %d of 64 peers are asked", len(asked))
	}
	for v := range 4 {
		e.signers[peer(10*v)] = consensus.Signer(v)
	}
	clear(asked)
	validators := 0
	for turn := range 16 {
		p, _ := e.whomToAsk(turn)
		if _, member := e.signers[p]; member {
			validators++
			asked[p]++
		}
	}
	if validators != 12 || len(asked) != 4 {
		t.Errorf("%d of 16 turns, %d of 4 validators; want 12 and 4", validators, len(asked))
	}
	e.net = peers{}
	if _, ok := e.whomToAsk(1); ok {
		t.Error("somebody to ask among nobody")
	}
}
