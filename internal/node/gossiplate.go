package node

import (
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// noteLate notes transactions that may have to be announced. Of those of clients that
// find no room, the pool is asked once there is some; of others, whoever has them from
// clients announces them. The caller holds g.mu.
func (g *gossip) noteLate(from crypto.PublicKey, txs []*chain.VerifiedTx) {
	now, most := time.Now(), g.room
	if !from.IsZero() {
		most /= 2
	}
	for _, tx := range txs {
		if len(g.late)+len(g.later) < most {
			g.late = append(g.late, lateTx{id: tx.ID(), from: from, at: now})
		} else if from.IsZero() {
			g.missed = true
		}
	}
	g.tick()
}

// tick has work looked after from time to time for as long as there is some. The
// caller holds g.mu.
func (g *gossip) tick() {
	if g.ticking || g.closed || len(g.wants)+len(g.late)+len(g.later)+len(g.postponed.ids) == 0 && !g.missed {
		return
	}
	g.ticking = true
	time.AfterFunc(gossipTick, g.look)
}

// look asks others for what peers did not deliver, and announces what was sent to
// everybody and still waits: first what clients of this node brought. What of that is
// too much for once has its turn next time; of what others brought, they see to it. What
// was announced while this node was busy is looked at once it is not.
func (g *gossip) look() {
	g.mu.Lock()
	now := time.Now()
	again := g.askOthers(now)
	late := before(&g.late, now.Add(-announceAfter))
	if again := before(&g.later, now.Add(-announceAgain)); len(again) > 0 {
		late = append(late, again...)
	}
	g.ticking = false
	g.tick()
	g.mu.Unlock()
	for peer, ids := range again { // order-free: to each peer its own message
		g.pull(peer, ids)
	}
	waiting := map[crypto.PublicKey][]chain.TxID{}
	var own, rest []lateTx
	n := 0
	busy := g.pool.busy() // then it waits for blocks, and not for want of anybody who knows it
	for _, mine := range []bool{true, false} {
		for _, l := range late {
			if l.from.IsZero() != mine || busy && !mine {
				continue
			}
			if n == lateAnnounced {
				if mine {
					rest = append(rest, l)
				}
				continue
			}
			if _, ok := g.pool.pending(l.id); !ok {
				continue
			}
			if mine {
				own = append(own, lateTx{id: l.id, at: now})
			}
			if !busy {
				waiting[l.from] = append(waiting[l.from], l.id)
				n++
			}
		}
	}
	if !busy {
		g.resume()
	}
	to := g.peers().connected
	for from, ids := range waiting { // order-free
		g.announce(to, from, ids)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(rest) > 0 {
		g.late = append(rest, g.late...)
	}
	g.later = append(g.later, own...)
	g.fillUp(now)
	g.tick()
}

// fillUp looks in the pool for what found no room when it came, once half the room is
// free. The caller holds g.mu.
func (g *gossip) fillUp(now time.Time) {
	noted := len(g.late) + len(g.later)
	if !g.missed || noted > g.room/2 {
		return
	}
	known := make(map[chain.TxID]struct{}, noted)
	for _, list := range [][]lateTx{g.late, g.later} {
		for _, l := range list {
			known[l.id] = struct{}{}
		}
	}
	ids := g.pool.ids(g.room-noted+1, func(id chain.TxID) bool { _, ok := known[id]; return ok })
	g.missed = len(ids) > g.room-noted
	for _, id := range ids[:min(len(ids), g.room-noted)] {
		g.late = append(g.late, lateTx{id: id, at: now})
	}
}

// postponed is what was announced while this node was busy. The bounds are those of
// wants: what is beyond is announced again by whoever has it from a client, or comes in a
// block.
type postponed struct {
	ids     map[crypto.PublicKey][]chain.TxID
	all     int
	strange map[crypto.PublicKey]int // of them, of peers that are no members
	ofThem  int                      // of strange together
}

func newPostponed() postponed {
	return postponed{ids: map[crypto.PublicKey][]chain.TxID{}, strange: map[crypto.PublicKey]int{}}
}

func (p *postponed) add(peer crypto.PublicKey, items [][]byte, strange bool) {
	room := min(maxWantsOfPeer-len(p.ids[peer]), maxWants-p.all)
	if strange {
		room = min(room, maxStrangeWants-p.ofThem)
	}
	n := min(len(items), max(room, 0))
	if n == 0 {
		return
	}
	for _, item := range items[:n] {
		p.ids[peer] = append(p.ids[peer], chain.TxID(item))
	}
	p.all += n
	if strange {
		p.strange[peer] += n
		p.ofThem += n
	}
}

func (p *postponed) forget(peer crypto.PublicKey) {
	p.all -= len(p.ids[peer])
	p.ofThem -= p.strange[peer]
	delete(p.ids, peer)
	delete(p.strange, peer)
}

// resume looks at what was announced while this node was busy.
func (g *gossip) resume() {
	g.mu.Lock()
	announced := g.postponed.ids
	g.postponed = newPostponed()
	g.mu.Unlock()
	for peer, ids := range announced { // order-free: each peer by itself
		items := make([][]byte, len(ids))
		for i := range ids {
			items[i] = ids[i][:]
		}
		g.onHave(peer, items)
	}
}

// before takes off a list what is older than a time. The rest moves to the list's
// beginning, so that what is appended finds room there.
func before(list *[]lateTx, t time.Time) []lateTx {
	n, _ := slices.BinarySearchFunc(*list, t, func(l lateTx, t time.Time) int { return l.at.Compare(t) })
	old := slices.Clone((*list)[:n])
	*list = slices.Delete(*list, 0, n)
	return old
}
