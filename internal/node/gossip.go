package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Times and limits of gossip (docs/adr/0018-gossip.md).
const (
	// gossipDelay is how long what comes in waits for company, unless nothing was
	// sent for as long.
	gossipDelay = 2 * time.Millisecond
	// gossipFull is from how many bytes on nothing waits.
	gossipFull = 128 << 10
	// maxPushed is the largest number of peers to which transactions of clients go
	// whole. Of more, somePushed get them and the others their ids.
	maxPushed  = 32
	somePushed = 8
	// announceAfter is how long a transaction that everybody was sent may wait
	// before its id is announced all the same, announceAgain how often that of a
	// client of this node is then, and lateAnnounced how many are in a tick.
	announceAfter = 500 * time.Millisecond
	announceAgain = 5 * time.Second
	gossipTick    = 100 * time.Millisecond
	lateAnnounced = 1_000
	maxLate       = 1 << 16 // of both kinds that are remembered
	// underWay is how long a transaction that was pushed may take to get there, or
	// half of it.
	underWay = 50 * time.Millisecond
	// pullPatience is how long a peer has to answer a pull before another one that
	// announced the transaction is asked.
	pullPatience = 300 * time.Millisecond
	// maxAnnouncers is how many peers are remembered for a transaction, and asked
	// in turn, once each.
	maxAnnouncers = 4
	// maxWantsOfPeer and maxWants bound what is asked for, maxStrangeWants what of it
	// is asked of peers that are not members: what is announced beyond them is not
	// looked at.
	maxWantsOfPeer  = 8_192
	maxWants        = 65_536
	maxStrangeWants = maxWants / 2
	// maxStray is how many transactions a peer may send as an answer that nobody asked it
	// for, as many as a proposal names: it may be late, or this node forgetful.
	maxStray = chain.MaxBlockTxs
	// maxDues is of how many peers is remembered what they were asked for, and
	// maxServed of how many what they were answered with: more than there are
	// connections.
	maxDues   = 4_096
	maxServed = 4_096
	// servedRate and servedBurst bound the bytes of transactions that a peer is
	// answered with.
	servedRate  = 16 << 20
	servedBurst = 8 << 20
)

// gossip spreads transactions: those of clients are pushed, many in a message;
// what a node has from others it announces, and who lacks it pulls it. Safe for
// concurrent use.
//
// A peer that sends what does not decode, or a signature that does not verify, is
// blocked: an honest one passes on only what it verified. A peer that announces
// what it does not deliver loses its place in the queue of those to ask, and what
// it has announced beyond its share is not looked at.
type gossip struct {
	pool  *pool
	log   *slog.Logger
	peers func() gossipPeers
	send  func(peer crypto.PublicKey, message []byte)
	block func(peer crypto.PublicKey, reason string)
	// onward returns to whom what came from a peer goes whole and at once: a sentry
	// stands between some nodes and the others.
	onward func(from crypto.PublicKey) []crypto.PublicKey

	running context.Context // until close
	end     context.CancelFunc

	mu        sync.Mutex
	outbox    [][]byte // encoded transactions of clients; guarded by mu, like what follows
	outBytes  int
	relayed   map[crypto.PublicKey][]chain.TxID // to announce to all but the peer who sent them
	flushed   time.Time
	flushing  bool
	late      []lateTx                   // that may have to be announced, the oldest first
	later     []lateTx                   // of clients, that were and may have to be again
	pushed    [2]map[chain.TxID]struct{} // of clients, by generations of underWay
	pushedAt  time.Time                  // when the younger generation began
	room      int                        // of late and later together: maxLate but in tests
	missed    bool                       // a client's transaction waits that is in neither
	postponed postponed
	dues      map[crypto.PublicKey]*dues
	stray     uint64 // transactions that came as an answer and were not asked for
	wants     map[chain.TxID]*want
	wantsOf   map[crypto.PublicKey]int
	strange   int                // wants that were asked of peers that are not members
	fetching  map[chain.TxID]int // by how many proposals
	served    map[crypto.PublicKey]*rate.Limiter
	ticking   bool
	closed    bool
	announced uint64 // ids sent
	pulled    uint64 // ids asked for
}

// gossipPeers are the connected members, and how many members there are beside
// this node.
type gossipPeers struct {
	connected []crypto.PublicKey
	members   int
}

// lateTx is a transaction that everybody was sent.
type lateTx struct {
	id   chain.TxID
	from crypto.PublicKey
	at   time.Time
}

// dues are how many transactions a peer was asked for and has not sent, and how many
// it has sent beyond.
type dues struct{ asked, stray int }

// want is a transaction that was asked for.
type want struct {
	asked      crypto.PublicKey
	at         time.Time
	announcers []crypto.PublicKey // not asked yet
	tries      int
	strange    bool // asked is not a member
}

func newGossip(p *pool, log *slog.Logger) *gossip {
	running, end := context.WithCancel(context.Background())
	return &gossip{
		pool: p, log: log, running: running, end: end,
		peers: func() gossipPeers { return gossipPeers{} }, send: func(crypto.PublicKey, []byte) {}, block: func(crypto.PublicKey, string) {},
		onward:  func(crypto.PublicKey) []crypto.PublicKey { return nil },
		relayed: map[crypto.PublicKey][]chain.TxID{}, wants: map[chain.TxID]*want{}, wantsOf: map[crypto.PublicKey]int{},
		pushed: [2]map[chain.TxID]struct{}{{}, {}}, pushedAt: time.Now(), room: maxLate, dues: map[crypto.PublicKey]*dues{}, postponed: newPostponed(), fetching: map[chain.TxID]int{}, served: map[crypto.PublicKey]*rate.Limiter{},
	}
}

// spread sends a client's transactions to the peers, at once or with what comes
// soon.
func (g *gossip) spread(txs []*chain.VerifiedTx) {
	if len(txs) == 0 {
		return
	}
	g.mu.Lock()
	for _, tx := range txs {
		g.outbox = append(g.outbox, tx.Raw())
		g.outBytes += len(tx.Raw())
	}
	g.noteLate(crypto.PublicKey{}, txs)
	g.notePushed(txs)
	now := g.due()
	g.mu.Unlock()
	if now {
		g.flush()
	}
}

// due reports whether what waits is to be sent now; if not, it will be soon. The
// caller holds g.mu.
func (g *gossip) due() bool {
	if g.flushing || g.closed {
		return false
	}
	rest := gossipDelay - time.Since(g.flushed)
	if g.outBytes >= gossipFull || rest <= 0 {
		return true
	}
	g.flushing = true
	time.AfterFunc(rest, g.flush)
	return false
}

// flush sends what waits.
func (g *gossip) flush() {
	peers := g.peers()
	g.mu.Lock()
	txs, relayed := g.outbox, g.relayed
	g.outbox, g.outBytes, g.relayed = nil, 0, map[crypto.PublicKey][]chain.TxID{}
	g.flushed, g.flushing = time.Now(), false
	g.mu.Unlock()
	g.push(peers, txs)
	for from, ids := range relayed { // order-free: to each peer its own message
		g.announce(peers.connected, from, ids)
	}
}

// push sends transactions to all members if they are few, and else to some, which
// announce them further.
func (g *gossip) push(peers gossipPeers, txs [][]byte) {
	if len(txs) == 0 {
		return
	}
	to, kind := peers.connected, gossipSpread
	if len(to) < peers.members {
		kind = gossipRelay
	}
	if len(to) > maxPushed {
		kind = gossipRelay
		to = slices.Clone(to)
		rand.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
		ids := make([]chain.TxID, len(txs))
		for i, raw := range txs {
			ids[i] = crypto.DomainTxID.Hash(raw)
		}
		g.announce(to[somePushed:], crypto.PublicKey{}, ids)
		to = to[:somePushed]
	}
	for _, message := range encodeGossip(kind, txs) {
		for _, peer := range to {
			g.send(peer, message)
		}
	}
}

// announce tells peers what they may pull from here.
func (g *gossip) announce(to []crypto.PublicKey, except crypto.PublicKey, ids []chain.TxID) {
	items := make([][]byte, len(ids))
	for i := range ids {
		items[i] = ids[i][:]
	}
	for _, message := range encodeGossip(gossipHave, items) {
		for _, peer := range to {
			if peer != except {
				g.send(peer, message)
			}
		}
	}
	g.mu.Lock()
	g.announced += uint64(len(ids))
	g.mu.Unlock()
}

// receive takes a peer's message.
func (g *gossip) receive(peer crypto.PublicKey, message []byte) {
	if !pulls(message) {
		g.pool.hold(g.running)
	}
	if g.running.Err() != nil { // many a message may be left that was read
		return
	}
	kind, items, err := decodeGossip(message)
	if err != nil {
		g.block(peer, err.Error())
		return
	}
	switch kind {
	case gossipBodies:
		g.onTxs(peer, kind, items[:g.answered(peer, len(items))])
	case gossipSpread, gossipRelay:
		g.onTxs(peer, kind, items)
	case gossipHave:
		g.onHave(peer, items)
	case gossipWant:
		g.onWant(peer, items)
	}
}

// onTxs takes transactions in. What is not admitted is dropped: the peer may be
// ahead or behind.
func (g *gossip) onTxs(peer crypto.PublicKey, kind gossipKind, items [][]byte) {
	txs, errs := chain.DecodeTxs(items)
	for _, err := range errs {
		if err != nil {
			g.block(peer, fmt.Sprintf("gossip: %v", err))
			return
		}
	}
	_, fresh, forged := g.pool.add(txs, g.isFetching)
	g.arrived(txs)
	if forged > 0 {
		g.block(peer, fmt.Sprintf("gossip with %d forged transactions of %d", forged, len(txs)))
	}
	g.pass(peer, kind, fresh)
}

// pass announces what is new here: at once if the others may lack it, and else
// if it still waits after a while. A sentry also sends it to the other side.
func (g *gossip) pass(from crypto.PublicKey, kind gossipKind, fresh []*chain.VerifiedTx) {
	if len(fresh) == 0 {
		return
	}
	if to := g.onward(from); len(to) > 0 {
		raws := make([][]byte, len(fresh))
		for i, tx := range fresh {
			raws[i] = tx.Raw()
		}
		for _, message := range encodeGossip(gossipSpread, raws) {
			for _, peer := range to {
				g.send(peer, message)
			}
		}
	}
	g.mu.Lock()
	if kind == gossipSpread {
		g.noteLate(from, fresh)
		g.mu.Unlock()
		return
	}
	for _, tx := range fresh {
		g.relayed[from] = append(g.relayed[from], tx.ID())
	}
	now := g.due()
	g.mu.Unlock()
	if now {
		g.flush()
	}
}

// notePushed notes what may still be under way to the peers. The caller holds g.mu.
func (g *gossip) notePushed(txs []*chain.VerifiedTx) {
	g.agePushed()
	for _, tx := range txs {
		g.pushed[0][tx.ID()] = struct{}{}
	}
}

// agePushed forgets what was pushed long enough ago. The caller holds g.mu.
func (g *gossip) agePushed() {
	for range g.pushed {
		if time.Since(g.pushedAt) < underWay {
			return
		}
		g.pushed[1], g.pushed[0] = g.pushed[0], g.pushed[1]
		clear(g.pushed[0])
		g.pushedAt = g.pushedAt.Add(underWay)
	}
	g.pushedAt = time.Now()
}

// mayLack reports whether peers may not have a client's transaction yet.
func (g *gossip) mayLack(id chain.TxID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.agePushed()
	for _, generation := range g.pushed {
		if _, ok := generation[id]; ok {
			return true
		}
	}
	return false
}

// onHave asks a peer for what it announces and is not here. What was here and could not
// wait then, when this node was behind, or the sender's place was taken, may do so now.
// While this node is busy it is put off.
func (g *gossip) onHave(peer crypto.PublicKey, items [][]byte) {
	strange := !slices.Contains(g.peers().connected, peer)
	if g.pool.busy() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.postponed.add(peer, items, strange)
		g.tick()
		return
	}
	var ids []chain.TxID
	var known []chain.DecodedTx
	for _, item := range items {
		id := chain.TxID(item)
		if _, waits := g.pool.pending(id); waits {
			continue
		}
		if tx, ok := g.pool.verifier.known(id); ok {
			known = append(known, tx.DecodedTx)
		} else {
			ids = append(ids, id)
		}
	}
	if len(known) > 0 {
		_, fresh, _ := g.pool.add(known, nil)
		g.pass(peer, gossipSpread, fresh)
	}
	g.mu.Lock()
	asked := ids[:0]
	for _, id := range ids {
		if g.want(id, peer, strange) {
			asked = append(asked, id)
		}
	}
	g.mu.Unlock()
	g.pull(peer, asked)
}

// want notes that a transaction can be had from a peer, who may be none of the members,
// and reports whether to ask that peer now. The caller holds g.mu.
func (g *gossip) want(id chain.TxID, peer crypto.PublicKey, strange bool) bool {
	if w := g.wants[id]; w != nil {
		if w.asked != peer && !slices.Contains(w.announcers, peer) && len(w.announcers)+w.tries < maxAnnouncers {
			w.announcers = append(w.announcers, peer)
		}
		return false
	}
	if len(g.wants) >= maxWants || g.wantsOf[peer] >= maxWantsOfPeer || strange && g.strange >= maxStrangeWants {
		return false
	}
	w := &want{at: time.Now()}
	g.wants[id] = w
	g.ask(w, peer, strange)
	g.tick()
	return true
}

// ask notes whom a want is asked of. The caller holds g.mu.
func (g *gossip) ask(w *want, peer crypto.PublicKey, strange bool) {
	w.asked, w.strange = peer, strange
	w.tries++
	g.wantsOf[peer]++
	if strange {
		g.strange++
	}
}

func (g *gossip) pull(peer crypto.PublicKey, ids []chain.TxID) {
	g.mu.Lock()
	g.duesOf(peer).asked += len(ids)
	g.mu.Unlock()
	items := make([][]byte, len(ids))
	for i := range ids {
		items[i] = ids[i][:]
	}
	for _, message := range encodeGossip(gossipWant, items) {
		g.send(peer, message)
	}
	g.mu.Lock()
	g.pulled += uint64(len(ids))
	g.mu.Unlock()
}

// duesOf returns a peer's dues. The caller holds g.mu.
func (g *gossip) duesOf(peer crypto.PublicKey) *dues {
	d := g.dues[peer]
	if d == nil {
		if len(g.dues) >= maxDues { // more than there are connections: most are gone
			clear(g.dues)
		}
		d = &dues{}
		g.dues[peer] = d
	}
	return d
}

// answered returns how many of a peer's answers it was asked for. Others are not looked
// at: answers do not wait behind what is held up, so that they come in whatever this
// node's load is. Who sends too many of them is blocked.
func (g *gossip) answered(peer crypto.PublicKey, items int) int {
	g.mu.Lock()
	d := g.duesOf(peer)
	answers := min(items, d.asked)
	d.asked -= answers
	d.stray += items - answers
	g.stray += uint64(items - answers)
	stray := d.stray
	g.mu.Unlock()
	if stray > maxStray {
		g.block(peer, fmt.Sprintf("gossip with %d transactions that it was not asked for, limit %d", stray, maxStray))
	}
	return answers
}

// onWant answers a pull with what is here, as far as the peer's share goes.
func (g *gossip) onWant(peer crypto.PublicKey, items [][]byte) {
	now := time.Now()
	limiter := g.shareOf(peer, now)
	if limiter == nil {
		g.log.Debug("a peer pulls while too many others do", "peer", peer.Short(), "asked", len(items))
		return
	}
	var raws [][]byte
	for i, item := range items {
		tx, ok := g.pool.Get(chain.TxID(item))
		if !ok {
			continue
		}
		if !limiter.AllowN(now, len(tx.Raw())) {
			g.log.Debug("a peer pulls more than its share", "peer", peer.Short(), "asked", len(items), "answered", i)
			break
		}
		raws = append(raws, tx.Raw())
	}
	for _, message := range encodeGossip(gossipBodies, raws) {
		g.send(peer, message)
	}
}

// shareOf returns what bounds the answers to a peer; nil if as many others have used
// theirs as are remembered. Nobody gets a new share by being forgotten: only who has all of
// it left is.
func (g *gossip) shareOf(peer crypto.PublicKey, now time.Time) *rate.Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	if limiter := g.served[peer]; limiter != nil {
		return limiter
	}
	if len(g.served) >= maxServed {
		maps.DeleteFunc(g.served, func(_ crypto.PublicKey, l *rate.Limiter) bool { return l.TokensAt(now) >= servedBurst })
	}
	if len(g.served) >= maxServed {
		return nil
	}
	limiter := rate.NewLimiter(servedRate, servedBurst)
	g.served[peer] = limiter
	return limiter
}

// arrived forgets the wants of what has come.
func (g *gossip) arrived(txs []chain.DecodedTx) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.wants) == 0 {
		return
	}
	for i := range txs {
		g.unwant(txs[i].ID())
	}
}

// unwant forgets a want. The caller holds g.mu.
func (g *gossip) unwant(id chain.TxID) {
	w := g.wants[id]
	if w == nil {
		return
	}
	delete(g.wants, id)
	g.release(w)
}

// release gives the peer that was asked back the place of a want. The caller holds
// g.mu.
func (g *gossip) release(w *want) {
	if g.wantsOf[w.asked]--; g.wantsOf[w.asked] == 0 {
		delete(g.wantsOf, w.asked)
	}
	if w.strange {
		g.strange--
	}
}

// close ends the timers and lets go of what is held up. What fires once more finds
// nobody to send to.
func (g *gossip) close() {
	g.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// figures returns how many transactions were announced, pulled, and sent by peers that
// were not asked for them.
func (g *gossip) figures() (announced, pulled, stray uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.announced, g.pulled, g.stray
}

// gone forgets a peer that is no longer connected.
func (g *gossip) gone(peer crypto.PublicKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.served, peer)
	delete(g.dues, peer)
	g.postponed.forget(peer)
}

// askOthers returns what to ask of whom in place of peers that did not deliver.
// The caller holds g.mu.
func (g *gossip) askOthers(now time.Time) map[crypto.PublicKey][]chain.TxID {
	again := map[crypto.PublicKey][]chain.TxID{}
	members := g.peers().connected
	for id, w := range g.wants { // order-free: each by itself
		if now.Sub(w.at) < pullPatience {
			continue
		}
		if len(w.announcers) == 0 {
			g.unwant(id)
			continue
		}
		g.release(w)
		next := w.announcers[0]
		w.announcers, w.at = w.announcers[1:], now
		g.ask(w, next, !slices.Contains(members, next))
		again[w.asked] = append(again[w.asked], id)
	}
	return again
}

// fetches reports whether a proposal waits for transactions.
func (g *gossip) fetches() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.fetching) > 0
}

func (g *gossip) isFetching(id chain.TxID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fetching[id] > 0
}

// fetch returns transactions that a peer's proposal names once they are here and
// verified. If ctx ends first, it is ctx's error. The peer is asked first, and then
// others.
func (g *gossip) fetch(ctx context.Context, from crypto.PublicKey, ids []chain.TxID) ([]*chain.VerifiedTx, error) {
	g.mu.Lock()
	for _, id := range ids {
		g.fetching[id]++
	}
	g.mu.Unlock()
	g.pool.mu.Lock()
	g.pool.letGo()
	g.pool.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, id := range ids {
			if g.fetching[id]--; g.fetching[id] == 0 {
				delete(g.fetching, id)
			}
		}
	}()
	ask := time.NewTimer(fetchDelay)
	defer ask.Stop()
	whom := append([]crypto.PublicKey{from}, slices.DeleteFunc(slices.Clone(g.peers().connected), func(k crypto.PublicKey) bool { return k == from })...)
	found, left := make([]*chain.VerifiedTx, len(ids)), len(ids)
	for turn := 0; ; {
		arrived := g.pool.verifier.arrived()
		for i, id := range ids {
			if found[i] != nil {
				continue
			}
			if tx, ok := g.pool.Get(id); ok {
				found[i] = tx
				left--
			}
		}
		if left == 0 {
			return found, nil
		}
		select {
		case <-arrived:
		case <-ask.C:
			var missing []chain.TxID
			for i, id := range ids {
				if found[i] == nil {
					missing = append(missing, id)
				}
			}
			g.pull(whom[turn%len(whom)], missing)
			turn++
			ask.Reset(pullPatience)
		case <-ctx.Done():
			return nil, fmt.Errorf("%d transactions of a proposal are missing: %w", left, context.Cause(ctx))
		}
	}
}

// fetchDelay is how long a proposal waits for transactions that may be under way
// before it asks for them.
const fetchDelay = 5 * time.Millisecond
