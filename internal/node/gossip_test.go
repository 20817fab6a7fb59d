package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// gossipNet is some pools that gossip with each other, and what was said.
type gossipNet struct {
	pools   map[crypto.PublicKey]*pool
	members []crypto.PublicKey

	mu      sync.Mutex
	said    []string // "from→to kind items"
	blocked []string
	deaf    map[crypto.PublicKey]bool // who does not answer
}

func newGossipNet(t testing.TB, n int) *gossipNet {
	t.Helper()
	g := testGenesis(t)
	net := &gossipNet{pools: map[crypto.PublicKey]*pool{}, deaf: map[crypto.PublicKey]bool{}}
	for i := range n {
		net.members = append(net.members, crypto.PublicKey{byte(i + 1)})
	}
	for _, self := range net.members {
		overlay := state.NewOverlay(state.NewMemoryBackend())
		if err := execution.Genesis(overlay, g); err != nil {
			t.Fatal(err)
		}
		p := newPool(mempool.DefaultConfig(), execution.New(g, noKernels(t), nil), overlay, quiet())
		others := slices.DeleteFunc(slices.Clone(net.members), func(k crypto.PublicKey) bool { return k == self })
		p.gossip.peers = func() gossipPeers { return gossipPeers{connected: others, members: len(others)} }
		p.gossip.block = func(peer crypto.PublicKey, reason string) {
			net.mu.Lock()
			defer net.mu.Unlock()
			net.blocked = append(net.blocked, fmt.Sprintf("%d by %d: %s", peer[0], self[0], reason))
		}
		p.gossip.send = func(to crypto.PublicKey, message []byte) { net.deliver(self, to, message) }
		net.pools[self] = p
	}
	return net
}

func (n *gossipNet) deliver(from, to crypto.PublicKey, message []byte) {
	kind, items, err := decodeGossip(message)
	if err != nil {
		panic(err)
	}
	names := map[gossipKind]string{gossipSpread: "spread", gossipRelay: "relay", gossipHave: "have", gossipWant: "want", gossipBodies: "bodies"}
	n.mu.Lock()
	n.said = append(n.said, fmt.Sprintf("%d→%d %s %d", from[0], to[0], names[kind], len(items)))
	deaf := n.deaf[to]
	n.mu.Unlock()
	if n.pools[to] != nil && !deaf {
		n.pools[to].gossip.receive(from, message)
	}
}

func (n *gossipNet) of(i int) *pool { return n.pools[n.members[i]] }

func (n *gossipNet) setDeaf(i int, deaf bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf[n.members[i]] = deaf
}

// heard returns what was said since the last time.
func (n *gossipNet) heard() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	said := strings.Join(n.said, ", ")
	n.said = nil
	return said
}

func (n *gossipNet) submit(t testing.TB, i int, txs ...chain.DecodedTx) {
	t.Helper()
	for k, reason := range n.of(i).Submit(txs) {
		if reason != "" {
			t.Fatalf("transaction %d: %s", k, reason)
		}
	}
}

func TestClientsTransactionsGoToEveryMemberInFewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 4)
		n.submit(t, 0, transfer(t, 1, 0, user(2).address()))
		if got := n.heard(); got != "1→2 spread 1, 1→3 spread 1, 1→4 spread 1" {
			t.Errorf("the first one: %s", got)
		}
		for nonce := range uint64(5) {
			n.submit(t, 0, transfer(t, 2, nonce, user(1).address()))
		}
		if got := n.heard(); got != "" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(gossipDelay)
		synctest.Wait()
		if got := n.heard(); got != "1→2 spread 5, 1→3 spread 5, 1→4 spread 5" {
			t.Errorf("together: %s", got)
		}
		for i := range 4 {
			if txs, _ := n.of(i).size(); txs != 6 {
				t.Errorf("node %d has %d transactions", i, txs)
			}
			if got := n.of(i).verifier.count.Load(); got != 6 {
				t.Errorf("node %d verified %d signatures", i, got)
			}
		}
	})
}

func TestWhatStillWaitsIsAnnouncedAndPulledByWhoLacksIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 3)
		n.setDeaf(2, true)
		n.submit(t, 0, transfer(t, 1, 0, user(2).address()))
		n.setDeaf(2, false)
		n.heard()
		time.Sleep(announceAfter + 2*gossipTick)
		synctest.Wait()
		if txs, _ := n.of(2).size(); txs != 1 {
			t.Errorf("who missed it has %d transactions", txs)
		}
		if got := n.heard(); !strings.Contains(got, "have 1") || strings.Count(got, "want 1") != 1 || strings.Count(got, "bodies 1") != 1 {
			t.Errorf("said: %s", got)
		}
	})
}

func TestAPullThatIsNotAnsweredGoesToAnotherAnnouncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 3)
		tx := transfer(t, 1, 0, user(2).address())
		if reasons, _, _ := n.of(1).add([]chain.DecodedTx{tx}, nil); reasons[0] != "" {
			t.Fatal(reasons[0])
		}
		id := tx.ID()
		liar := crypto.PublicKey{99} // announces, and does not deliver
		for _, message := range encodeGossip(gossipHave, [][]byte{id[:]}) {
			n.of(0).gossip.receive(liar, message)
			n.of(0).gossip.receive(n.members[1], message)
		}
		if got := n.heard(); got != "1→99 want 1" {
			t.Errorf("at first: %s", got)
		}
		time.Sleep(pullPatience + 2*gossipTick)
		synctest.Wait()
		if got := n.heard(); !strings.HasPrefix(got, "1→2 want 1, 2→1 bodies 1") {
			t.Errorf("then: %s", got)
		}
		all, peers, _ := n.of(0).gossip.wanted(liar)
		if txs, _ := n.of(0).size(); txs != 1 || all != 0 || peers != 0 {
			t.Errorf("%d transactions, %d wants of %d peers", txs, all, peers)
		}
	})
}

// wanted returns how many wants there are, of how many peers, and of one of them.
func (g *gossip) wanted(peer crypto.PublicKey) (all, peers, of int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.wants), len(g.wantsOf), g.wantsOf[peer]
}

func TestAPeersAnnouncementsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		g := n.of(0).gossip
		flood := func(peer byte) {
			var ids [][]byte
			for i := range maxWantsOfPeer + 500 {
				id := crypto.DomainTxID.Hash([]byte{peer, byte(i), byte(i >> 8)})
				ids = append(ids, id[:])
			}
			for _, message := range encodeGossip(gossipHave, ids) {
				g.receive(crypto.PublicKey{peer}, message)
			}
		}
		for peer := range byte(12) {
			flood(100 + peer)
			if _, _, got := g.wanted(crypto.PublicKey{100 + peer}); got > maxWantsOfPeer {
				t.Fatalf("%d wants of a peer", got)
			}
		}
		if all, _, _ := g.wanted(crypto.PublicKey{}); all != maxStrangeWants {
			t.Errorf("%d wants of strangers, limit %d", all, maxStrangeWants)
		}
		g.peers = func() gossipPeers { // some turn out to be members
			return gossipPeers{connected: []crypto.PublicKey{{101}, {102}, {103}, {104}, {105}, {106}, {107}, {108}}, members: 8}
		}
		flood(108)
		if _, _, got := g.wanted(crypto.PublicKey{108}); got != maxWantsOfPeer {
			t.Errorf("%d wants of a member while strangers' fill their half", got)
		}
		for peer := range byte(8) {
			flood(101 + peer)
		}
		if all, _, _ := g.wanted(crypto.PublicKey{}); all > maxWants {
			t.Errorf("%d wants, limit %d", all, maxWants)
		}
		time.Sleep(pullPatience + 2*gossipTick)
		synctest.Wait()
		if all, peers, _ := g.wanted(crypto.PublicKey{}); all+peers+g.strange != 0 {
			t.Errorf("%d wants of %d peers, %d of strangers, are left of what nobody has", all, peers, g.strange)
		}
	})
}

func TestAPeerIsAnsweredWithinItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		tx := transfer(t, 1, 0, user(2).address())
		n.submit(t, 0, tx)
		n.heard()
		id := tx.ID()
		ask := encodeGossip(gossipWant, slices.Repeat([][]byte{id[:]}, 10_000))
		bytes := 0
		n.of(0).gossip.send = func(_ crypto.PublicKey, message []byte) { bytes += len(message) }
		for range 50 {
			for _, message := range ask {
				n.of(0).gossip.receive(n.members[1], message)
			}
		}
		if bytes == 0 || bytes > servedBurst+maxGossip {
			t.Errorf("answered with %d bytes, limit %d", bytes, servedBurst)
		}
	})
}

// TestSharesAreBounded: of peers that come and ask no more are remembered than there is
// room for, whoever has used a share does not get another by that, and once others have
// theirs back, a new one is answered.
func TestSharesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGossipNet(t, 1).of(0).gossip
		now := time.Now()
		for i := range maxServed {
			if limiter := g.shareOf(crypto.PublicKey{byte(i), byte(i >> 8), 1}, now); limiter == nil || !limiter.AllowN(now, servedBurst) {
				t.Fatalf("peer %d has no share", i)
			}
		}
		stranger := crypto.PublicKey{2}
		if g.shareOf(stranger, now) != nil || len(g.served) != maxServed {
			t.Fatalf("one more of %d has a share", len(g.served))
		}
		if limiter := g.shareOf(crypto.PublicKey{0, 0, 1}, now); limiter == nil || limiter.AllowN(now, 1) {
			t.Error("who has used a share has another")
		}
		if g.shareOf(stranger, now.Add(time.Second)) == nil || len(g.served) != 1 {
			t.Errorf("%d are remembered who have all of their shares", len(g.served))
		}
	})
}

func TestAPeerThatAsksForMoreThanItsShareGetsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		tx := signedBy(t, 1, 0, slices.Repeat(chain.Msgs{chain.Transfer{To: user(2).address(), Amount: chain.Hyper(1)}}, chain.MaxMessages)...)
		n.of(0).verifier.verify([]*chain.DecodedTx{&tx})
		id := tx.ID()
		bytes := 0
		n.of(0).gossip.send = func(_ crypto.PublicKey, message []byte) { bytes += len(message) }
		asked := servedBurst/len(tx.Raw()) + 1
		n.of(0).gossip.onWant(n.members[1], slices.Repeat([][]byte{id[:]}, asked))
		if bytes < servedBurst-maxGossip {
			t.Errorf("answered with %d bytes, its share is %d", bytes, servedBurst)
		}
	})
}

// TestWhatClientsBroughtIsAnnouncedHoweverMuchItIs has more wait at once than is
// announced in a tick, and a peer that missed all of it.
func TestWhatClientsBroughtIsAnnouncedHoweverMuchItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		g := n.of(0).gossip
		tx := chain.VerifyTxs([]chain.DecodedTx{transfer(t, 1, 0, user(2).address())}, 1)[0]
		if err := n.of(0).txs.Add(tx, mempool.Standing{Funds: chain.Hyper(1)}); err != nil {
			t.Fatal(err)
		}
		announced := 0
		g.send = func(_ crypto.PublicKey, message []byte) {
			_, items, err := decodeGossip(message)
			if err != nil {
				t.Error(err)
			}
			announced += len(items)
		}
		const waiting = 3*lateAnnounced + 7
		g.mu.Lock()
		g.noteLate(n.members[1], slices.Repeat([]*chain.VerifiedTx{tx}, 2*lateAnnounced)) // they see to it
		g.noteLate(crypto.PublicKey{}, slices.Repeat([]*chain.VerifiedTx{tx}, waiting))
		g.mu.Unlock()
		time.Sleep(announceAfter + 6*gossipTick)
		synctest.Wait()
		if announced < waiting {
			t.Errorf("%d of %d were announced", announced, waiting)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.late) != 0 || len(g.later) != waiting {
			t.Errorf("%d are left, %d will be announced again", len(g.late), len(g.later))
		}
		g.closed, g.later = true, nil
	})
}

// TestWhatCouldNotWaitIsTakenWhenItIsAnnounced has a peer that is behind: the sender
// has as many transactions there as may wait.
func TestWhatCouldNotWaitIsTakenWhenItIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		config := mempool.DefaultConfig()
		config.MaxPerSender = 1
		n.of(1).txs = mempool.New(config)
		first, second := transfer(t, 1, 0, user(2).address()), transfer(t, 1, 1, user(2).address())
		n.submit(t, 0, first, second)
		if txs, _ := n.of(1).size(); txs != 1 {
			t.Fatalf("%d transactions wait where one may", txs)
		}
		tokens.SpendNonce(n.of(1).state.(*state.Overlay), user(1).address())
		n.of(1).finalize(1, []chain.DecodedTx{first})
		n.heard()
		time.Sleep(announceAfter + 2*gossipTick)
		synctest.Wait()
		if _, waits := n.of(1).pending(second.ID()); !waits {
			t.Errorf("what could not wait before does not wait now; said: %s", n.heard())
		}
		if got := n.of(1).verifier.count.Load(); got != 2 {
			t.Errorf("%d verifications of two transactions", got)
		}
		n.of(0).gossip.close()
		time.Sleep(time.Second)
	})
}

// TestWhatIsFinalByTheTimeItIsVerifiedDoesNotWait: it would until it expires, first in
// line for each block.
func TestWhatIsFinalByTheTimeItIsVerifiedDoesNotWait(t *testing.T) {
	n := newGossipNet(t, 1)
	p := n.of(0)
	tx := transfer(t, 1, 0, user(2).address())
	p.verifier.turn <- struct{}{}
	reasons := make(chan []string, 1)
	go func() { reasons <- p.Submit([]chain.DecodedTx{tx}) }()
	for waiting := 0; waiting == 0; runtime.Gosched() {
		p.verifier.mu.Lock()
		waiting = len(p.verifier.waiting)
		p.verifier.mu.Unlock()
	}
	tokens.SpendNonce(p.state.(*state.Overlay), user(1).address())
	p.finalize(1, []chain.DecodedTx{tx})
	<-p.verifier.turn
	if got := <-reasons; !strings.Contains(got[0], "nonce") {
		t.Errorf("taken in: %q", got)
	}
	if txs, _ := p.size(); txs != 0 {
		t.Errorf("%d transactions wait that are final", txs)
	}
}

// TestAPullDoesNotWaitBehindWhatIsHeldUp between two nodes.
func TestAPullDoesNotWaitBehindWhatIsHeldUp(t *testing.T) {
	l := newLoopback(t)
	l.start(0, 1)
	full, lacks := l.members[0], l.members[1]
	eventually(t, "connection", func() bool { return lacks.connected(full.addr().ID) })
	wanted, other := transfer(t, 1, 0, user(2).address()), transfer(t, 2, 0, user(2).address())
	full.pool.verifier.verify([]*chain.DecodedTx{&wanted})
	full.pool.mu.Lock()
	full.pool.backlog = -1
	full.pool.mu.Unlock()
	const held = 10
	for range held {
		lacks.pool.gossip.send(full.addr().ID, encodeGossip(gossipSpread, [][]byte{other.Raw()})[0])
	}
	began := time.Now()
	lacks.pool.gossip.pull(full.addr().ID, []chain.TxID{wanted.ID()})
	eventually(t, "answer", func() bool {
		_, came := lacks.pool.Get(wanted.ID())
		return came
	})
	if took := time.Since(began); took > held*backlogWait/2 {
		t.Errorf("the pull took %v", took)
	}
	began = time.Now()
	l.halt(0)
	if took := time.Since(began); took > held*backlogWait/2 {
		t.Errorf("a node with a full pool took %v to stop", took)
	}
}

func TestRubbishIsBlamed(t *testing.T) {
	tx := transfer(t, 1, 0, user(2).address())
	whole := encodeGossip(gossipSpread, [][]byte{tx.Raw()})[0]
	for what, message := range map[string][]byte{
		"nothing":            nil,
		"no array":           {0xff},
		"unknown kind":       {0x82, 0x18, 0x63, 0x80},
		"half a message":     whole[:len(whole)-1],
		"bytes after it":     append(slices.Clone(whole), 0),
		"an id of 31 bytes":  append([]byte{0x82, byte(gossipHave), 0x81, 0x58, 31}, make([]byte, 31)...),
		"no transaction":     encodeGossip(gossipSpread, [][]byte{{1, 2}})[0],
		"a list with no end": {0x82, byte(gossipHave), 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		n := newGossipNet(t, 1)
		n.of(0).gossip.receive(crypto.PublicKey{7}, message)
		if len(n.blocked) != 1 {
			t.Errorf("%s: blamed %q, want once", what, n.blocked)
		}
	}
}

// TestASignatureIsVerifiedOnceWhicheverWayItsTransactionComes has one transaction
// come by HTTP, by gossip and in proposals, and another first in a proposal.
func TestASignatureIsVerifiedOnceWhicheverWayItsTransactionComes(t *testing.T) {
	g := testGenesis(t)
	leader, r := newRig(t, g), newRig(t, g)
	both, late := transfer(t, 1, 0, user(70).address()), transfer(t, 2, 0, user(70).address())
	leader.submit(both, late)
	r.submit(both)
	gossip := encodeGossip(gossipSpread, [][]byte{both.Raw()})[0]
	r.app.pool.gossip.receive(crypto.PublicKey{1}, gossip)
	for v := consensus.View(1); v <= 2; v++ {
		b := leader.propose(v, leader.genesisParent())
		again, err := r.app.Inspect(b.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.verify(v, r.genesisParent(), again); err != nil {
			t.Fatal(err)
		}
		if v == 2 {
			r.finalize(v, r.genesisParent(), again)
		}
	}
	r.app.pool.gossip.receive(crypto.PublicKey{1}, gossip)
	r.app.pool.gossip.receive(crypto.PublicKey{1}, encodeGossip(gossipSpread, [][]byte{late.Raw()})[0])
	for _, tx := range []chain.DecodedTx{both, late} {
		r.app.pool.Submit([]chain.DecodedTx{tx})
	}
	if got := r.app.pool.verifier.count.Load(); got != 2 {
		t.Errorf("%d verifications of two transactions", got)
	}
}

// TestIdsThatBeginAlikeAreTwo: whoever makes two begin alike has each verified as its own.
func TestIdsThatBeginAlikeAreTwo(t *testing.T) {
	v := newVerifier()
	a, b := transfer(t, 1, 0, user(9).address()), transfer(t, 2, 0, user(9).address())
	v.waiting = []*verification{{txs: []*chain.DecodedTx{&a, &b, &a}, out: make([]*chain.VerifiedTx, 3), done: make(chan struct{})}}
	v.seen[beginning(b.ID())] = 0 // of another turn
	requests, fresh := v.take()
	if len(fresh) != 2 || !slices.Equal(requests[0].from, []int{0, 1, 0}) {
		t.Fatalf("%d to verify, from %v", len(fresh), requests[0].from)
	}
}

func TestManyRequestsWaitForOneBatch(t *testing.T) {
	v := newVerifier()
	v.turn <- struct{}{} // somebody verifies
	const requests = 20
	done := make(chan []*chain.VerifiedTx, requests)
	for i := range requests {
		go func() {
			tx := transfer(t, 1+i%5, uint64(i%3), user(9).address())
			done <- v.verify([]*chain.DecodedTx{&tx})
		}()
	}
	for {
		v.mu.Lock()
		waiting := len(v.waiting)
		v.mu.Unlock()
		if waiting == requests {
			break
		}
		runtime.Gosched()
	}
	<-v.turn
	for range requests {
		if out := <-done; len(out) != 1 || out[0] == nil {
			t.Error("a good signature was refused")
		}
	}
	if got := v.count.Load(); got != 15 {
		t.Errorf("%d verifications of 15 transactions", got)
	}
}

func TestAFetchAsksTheLeaderAndThenOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 3)
		// Its sender cannot pay: the mempool does not want it, the proposal does.
		tx := transfer(t, 40, 0, user(2).address())
		n.of(2).verifier.verify([]*chain.DecodedTx{&tx})
		n.setDeaf(1, true) // the leader withholds it
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		found, err := n.of(0).gossip.fetch(ctx, n.members[1], []chain.TxID{tx.ID()})
		if err != nil || len(found) != 1 || found[0].ID() != tx.ID() {
			t.Fatal(found, err)
		}
		if took := time.Since(began); took > fetchDelay+pullPatience {
			t.Errorf("it took %v", took)
		}
		if got := n.heard(); got != "1→2 want 1, 1→3 want 1, 3→1 bodies 1" {
			t.Errorf("said: %s", got)
		}
		if txs, _ := n.of(0).size(); txs != 0 || n.of(0).gossip.fetches() {
			t.Errorf("%d transactions wait, fetching %t", txs, n.of(0).gossip.fetches())
		}
		nobodys := transfer(t, 40, 1, user(2).address())
		if _, err := n.of(0).gossip.fetch(ctx, n.members[1], []chain.TxID{nobodys.ID()}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("what nobody has: %v", err)
		}
	})
}

// TestManyReadyTransactionsHoldOthersUp for a while, unless a block is final or a
// proposal waits.
func TestManyReadyTransactionsHoldOthersUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 1)
		p := n.of(0)
		p.backlog = 2
		txs := []chain.DecodedTx{transfer(t, 1, 0, user(9).address()), transfer(t, 1, 1, user(9).address()), transfer(t, 2, 0, user(9).address())}
		n.submit(t, 0, txs...)
		wait := func(nonce uint64) time.Duration {
			began := time.Now()
			p.hold(t.Context())
			n.submit(t, 0, transfer(t, 3, nonce, user(9).address()))
			return time.Since(began)
		}
		if took := wait(0); took != backlogWait {
			t.Errorf("held up for %v, want %v", took, backlogWait)
		}
		time.AfterFunc(10*time.Millisecond, func() { p.finalize(1, txs) })
		if took := wait(1); took != 10*time.Millisecond {
			t.Errorf("held up for %v, until a block is final", took)
		}
		n.submit(t, 0, transfer(t, 4, 0, user(9).address()), transfer(t, 4, 1, user(9).address()))
		time.AfterFunc(10*time.Millisecond, func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err := p.gossip.fetch(ctx, crypto.PublicKey{9}, []chain.TxID{{1}}); err == nil {
				t.Error("fetched what nobody has")
			}
		})
		if took := wait(2); took != 10*time.Millisecond {
			t.Errorf("held up for %v, until a proposal waits", took)
		}
		time.Sleep(time.Second)
	})
}

// setBacklog says how many ready transactions make a pool busy.
func (p *pool) setBacklog(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backlog = n
}

// TestNobodyAnnouncesOrPullsWhatBlocksHaveNoRoomFor: with more ready than the next
// blocks take, ids would only take their time.
func TestNobodyAnnouncesOrPullsWhatBlocksHaveNoRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		p := n.of(0)
		p.setBacklog(0)
		tx := transfer(t, 1, 0, user(9).address())
		n.setDeaf(1, true)
		n.submit(t, 0, tx)
		n.setDeaf(1, false)
		n.heard()
		unknown := transfer(t, 2, 0, user(9).address())
		other := unknown.ID()
		p.gossip.receive(n.members[1], encodeGossip(gossipHave, [][]byte{other[:]})[0])
		time.Sleep(2 * announceAfter)
		synctest.Wait()
		if got := n.heard(); got != "" {
			t.Errorf("said while busy: %s", got)
		}
		p.setBacklog(maxBacklog)
		time.Sleep(announceAgain + 2*gossipTick)
		synctest.Wait()
		if got := n.heard(); !strings.Contains(got, "1→2 have 1") {
			t.Errorf("said afterwards: %s", got)
		}
	})
}

// TestWhatIsAnnouncedToABusyNodeIsPulledOnceItIsNot, and need not come in a block.
func TestWhatIsAnnouncedToABusyNodeIsPulledOnceItIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		p := n.of(0)
		p.setBacklog(0)
		n.setDeaf(1, true)
		n.submit(t, 0, transfer(t, 1, 0, user(9).address())) // by which it is busy
		n.setDeaf(1, false)
		announced := transfer(t, 2, 0, user(9).address())
		if reasons, _, _ := n.of(1).add([]chain.DecodedTx{announced}, nil); reasons[0] != "" {
			t.Fatal(reasons[0])
		}
		n.heard()
		id := announced.ID()
		have := encodeGossip(gossipHave, [][]byte{id[:]})[0]
		p.gossip.receive(n.members[1], have)
		time.Sleep(3 * gossipTick)
		synctest.Wait()
		if got := n.heard(); got != "" {
			t.Errorf("said while busy: %s", got)
		}
		p.setBacklog(maxBacklog)
		time.Sleep(2 * gossipTick)
		synctest.Wait()
		if got := n.heard(); got != "1→2 want 1, 2→1 bodies 1" {
			t.Errorf("said once it is not: %s", got)
		}
		if _, waits := p.pending(id); !waits {
			t.Error("it does not wait here")
		}
		p.gossip.close()
		n.of(1).gossip.close()
		time.Sleep(time.Second)
	})
}

// TestWhatABusyNodeRemembersIsBounded like what it asks for.
func TestWhatABusyNodeRemembersIsBounded(t *testing.T) {
	n := newGossipNet(t, 2)
	g := n.of(0).gossip
	defer g.close()
	n.of(0).backlog = -1
	announce := func(peer crypto.PublicKey) {
		ids := make([][]byte, maxWantsOfPeer+500)
		for i := range ids {
			id := crypto.DomainTxID.Hash([]byte{peer[0], byte(i), byte(i >> 8)})
			ids[i] = id[:]
		}
		g.onHave(peer, ids)
	}
	for peer := range byte(12) {
		announce(crypto.PublicKey{100 + peer})
	}
	announce(n.members[1])
	g.mu.Lock()
	defer g.mu.Unlock()
	if got := g.postponed.ofThem; got != maxStrangeWants {
		t.Errorf("%d ids of strangers, limit %d", got, maxStrangeWants)
	}
	if got := len(g.postponed.ids[n.members[1]]); got != maxWantsOfPeer || g.postponed.all != maxStrangeWants+maxWantsOfPeer {
		t.Errorf("%d ids of a member, %d in all: strangers' fill their half", got, g.postponed.all)
	}
	for peer := range byte(12) {
		g.postponed.forget(crypto.PublicKey{100 + peer})
	}
	g.postponed.forget(n.members[1])
	if p := &g.postponed; p.all+p.ofThem+len(p.ids)+len(p.strange) != 0 {
		t.Errorf("%d ids are left of peers that are gone, %d of strangers", p.all, p.ofThem)
	}
}

// TestWhatFindsNoRoomIsAnnouncedLater: more of clients waits than is noted, and a peer
// missed all of it.
func TestWhatFindsNoRoomIsAnnouncedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newGossipNet(t, 2)
		g := n.of(0).gossip
		g.room = 3
		n.setDeaf(1, true)
		const waiting = 9
		for from := 1; from <= waiting; from++ {
			n.submit(t, 0, transfer(t, from, 0, user(70).address()))
		}
		time.Sleep(time.Second)
		n.setDeaf(1, false)
		for turn := 0; turn < 2*waiting; turn++ { // what is announced is final, and makes room
			time.Sleep(announceAgain + announceAfter)
			synctest.Wait()
			g.mu.Lock()
			if noted := len(g.late) + len(g.later); noted > g.room {
				t.Errorf("%d are noted, room is for %d", noted, g.room)
			}
			g.mu.Unlock()
			var there []chain.DecodedTx
			for _, id := range n.of(1).ids(waiting, func(id chain.TxID) bool { _, waits := n.of(0).pending(id); return !waits }) {
				if tx, ok := n.of(1).pending(id); ok {
					there = append(there, tx.DecodedTx)
				}
			}
			if len(there) > 0 {
				n.of(0).finalize(chain.Height(turn+1), there)
			}
		}
		if txs, _ := n.of(1).size(); txs != waiting {
			t.Errorf("%d of %d came to the peer that missed them", txs, waiting)
		}
		g.close()
		n.of(1).gossip.close()
		time.Sleep(time.Second)
	})
}

// TestAnswersThatNobodyAskedForAreNotLookedAt, and who sends many is blocked. They go
// past what is held up while the pool is full.
func TestAnswersThatNobodyAskedForAreNotLookedAt(t *testing.T) {
	n := newGossipNet(t, 2)
	g := n.of(0).gossip
	tx, stray := transfer(t, 1, 0, user(9).address()), transfer(t, 2, 0, user(9).address())
	pusher := n.members[1]
	n.setDeaf(1, true)
	g.pull(pusher, []chain.TxID{tx.ID()})
	g.receive(pusher, encodeGossip(gossipBodies, [][]byte{tx.Raw(), stray.Raw()})[0])
	if _, waits := n.of(0).pending(tx.ID()); !waits {
		t.Error("what was asked for is not taken in")
	}
	if _, waits := n.of(0).pending(stray.ID()); waits || n.of(0).verifier.count.Load() != 1 {
		t.Errorf("what was not asked for waits: %t; %d verifications", waits, n.of(0).verifier.count.Load())
	}
	flood := encodeGossip(gossipBodies, slices.Repeat([][]byte{stray.Raw()}, 1_000))
	sent := 1
	for len(n.blocked) == 0 {
		for _, message := range flood {
			g.receive(pusher, message)
		}
		if sent += 1_000; sent > 2*maxStray {
			t.Fatalf("%d transactions that nobody asked for, and nobody is blocked", sent)
		}
	}
	if sent <= maxStray || !strings.Contains(n.blocked[0], "not asked for") {
		t.Errorf("after %d: %q", sent, n.blocked)
	}
	if _, _, counted := g.figures(); counted != uint64(sent) {
		t.Errorf("%d counted of %d", counted, sent)
	}
	g.gone(pusher)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.dues) != 0 {
		t.Errorf("%d peers are remembered that are gone", len(g.dues))
	}
}
