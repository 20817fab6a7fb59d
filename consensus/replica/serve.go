package replica

import (
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// requestBytes is what a request costs a peer's budget beside its answer.
	requestBytes = 4 << 10
	// maxExpected is how many blocks one peer may owe: a core asks for up to 16
	// things at a time.
	maxExpected = 32
	// maxPeers is how many peers are remembered, connected or not.
	maxPeers = 4096
)

// peer is what a replica knows of a connection.
type peer struct {
	waiting  []consensus.Message // fetch requests
	budget   int64               // bytes that may be served; below 0 after a large answer
	at       consensus.Micros    // when budget was right
	expected int                 // blocks it was asked for and has not sent
	toldAt   consensus.Micros    // when it was last told how its epoch ended; 0: never
}

func (r *Replica) onPeers(connected []crypto.PublicKey) {
	var fresh []crypto.PublicKey
	for _, k := range connected {
		if r.started && r.sentry.renewAt != never && !r.isConnected(k) {
			fresh = append(fresh, k)
		}
	}
	defer func() { r.handOn(fresh) }()
	if len(r.connected) == 0 && len(connected) > 0 && !r.catch.active {
		r.catch.nextAt = min(r.catch.nextAt, r.now) // the first chance
		r.catch.known = r.taken.height
	}
	r.connected = connected
	if len(r.peers) > maxPeers {
		kept := make(map[crypto.PublicKey]*peer, len(connected))
		for _, k := range connected {
			if p := r.peers[k]; p != nil {
				kept[k] = p
			}
		}
		gone := func(k crypto.PublicKey) bool { return kept[k] == nil }
		r.turns = slices.DeleteFunc(r.turns, gone)
		r.owing = slices.DeleteFunc(slices.Clone(r.owing), gone)
		r.peers, r.stale = kept, true
	}
	if r.catch.active && !r.isConnected(r.catch.peer) {
		r.catch.end(r.now + r.cfg.Timing.Fetch)
		r.stale = true
	}
}

func (r *Replica) isConnected(k crypto.PublicKey) bool {
	_, ok := slices.BinarySearchFunc(r.connected, k, crypto.PublicKey.Compare)
	return ok
}

// peerOf returns what is known of the connection, from now on something.
func (r *Replica) peerOf(k crypto.PublicKey) *peer {
	p := r.peers[k]
	if p == nil {
		p = &peer{budget: 2 * int64(r.cfg.ServeBytes), at: r.now}
		r.peers[k] = p
	}
	return p
}

// ask sends a fetch request to the peer, or to another when it is away.
func (r *Replica) ask(to crypto.PublicKey, request consensus.Message) {
	if !r.isConnected(to) {
		if len(r.connected) == 0 {
			return
		}
		r.rotation++
		to = r.connected[r.rotation%len(r.connected)]
	}
	if _, block := request.(consensus.BlockRequest); block {
		r.expect(to, r.peerOf(to), 1)
	}
	r.emit(Send{To: to, Message: request})
}

// onBlockAnswer takes a block that the peer was asked for.
func (r *Replica) onBlockAnswer(from crypto.PublicKey, blocks []consensus.Block) {
	p := r.peers[from]
	if p == nil || p.expected == 0 || len(blocks) != 1 {
		return // late, perhaps to this node's last life
	}
	r.expect(from, p, -1)
	r.feed(consensus.BlockReceived{Block: blocks[0]})
}

// expect counts a block that the peer owes, or that it brought.
func (r *Replica) expect(key crypto.PublicKey, p *peer, n int) {
	before := p.expected
	p.expected = min(p.expected+n, maxExpected)
	if (before > 0) == (p.expected > 0) {
		return
	}
	at, _ := slices.BinarySearchFunc(r.owing, key, crypto.PublicKey.Compare)
	r.owing = slices.Clone(r.owing)
	if p.expected > 0 {
		r.owing = slices.Insert(r.owing, at, key)
	} else {
		r.owing = slices.Delete(r.owing, at, at+1)
	}
	r.stale = true
}

// request queues a peer's fetch request, unless too many of its own wait.
func (r *Replica) request(from crypto.PublicKey, m consensus.Message) {
	p := r.peerOf(from)
	if len(p.waiting) >= r.cfg.MaxRequests {
		return
	}
	if len(p.waiting) == 0 {
		r.turns = append(r.turns, from)
	}
	p.waiting = append(p.waiting, m)
}

// refill brings the budget of a peer up to now.
func (r *Replica) refill(p *peer) {
	full := 2 * int64(r.cfg.ServeBytes)
	passed := min(r.now-p.at, 3_600_000_000)
	if gained := int64(passed) * int64(r.cfg.ServeBytes) / 1_000_000; gained > 0 {
		p.budget, p.at = min(p.budget+gained, full), r.now
	}
}

// serve answers fetch requests, of one peer after the other, within its budget:
// a peer that asks a lot waits for itself.
func (r *Replica) serve() {
	for skipped := 0; skipped < len(r.turns) && !r.halted; {
		key := r.turns[0]
		p := r.peers[key]
		r.refill(p)
		if p.budget <= 0 || r.atLimit(p.waiting[0]) {
			skipped++
			r.turns = append(r.turns[1:], key)
			continue
		}
		skipped = 0
		m := p.waiting[0]
		p.waiting = p.waiting[1:]
		if r.turns = r.turns[1:]; len(p.waiting) > 0 {
			r.turns = append(r.turns, key)
		}
		p.budget -= requestBytes
		r.answer(key, p, m)
	}
}

// atLimit reports whether the request has to wait for the driver's store.
func (r *Replica) atLimit(m consensus.Message) bool {
	if _, ok := m.(consensus.CertificateRequest); ok || r.lookups < r.cfg.MaxLookups {
		return false
	}
	b, ok := m.(consensus.BlockRequest)
	if !ok {
		return true
	}
	_, held := r.core.Block(b.Digest)
	return !held
}

func (r *Replica) answer(to crypto.PublicKey, p *peer, m consensus.Message) {
	if c, ok := m.(consensus.CertificateRequest); ok {
		if cert := r.certificate(c); cert != nil {
			p.budget -= int64(len(cert.Signatures)) * crypto.SignatureSize
			r.emit(Send{To: to, Message: cert})
		} else {
			r.seek(to, c)
		}
		return
	}
	if b, ok := m.(consensus.BlockRequest); ok {
		if held, ok := r.core.Block(b.Digest); ok {
			p.budget -= int64(len(held.Payload))
			r.emit(Send{To: to, Message: consensus.BlockAnswer{Payload: held.Payload}})
			return
		}
	}
	r.lookups++
	r.emit(Lookup{To: to, Request: m})
}

// certificate finds the answer to a request: any finalization at or above the
// view answers, and for an epoch that is over the one that ended it.
func (r *Replica) certificate(m consensus.CertificateRequest) *consensus.Certificate {
	if m.Round.Epoch < r.epoch {
		return r.finalOf(m.Round.Epoch)
	}
	return r.core.Answer(m)
}

// finalOf returns the certificate that ended the epoch, or nil.
func (r *Replica) finalOf(e consensus.Epoch) *consensus.Certificate {
	if next := r.reigns.of(e + 1); next != nil {
		return next.Final
	}
	return nil
}

func (r *Replica) onServed(ev Served) {
	r.lookups = max(r.lookups-1, 0)
	if p := r.peers[ev.To]; p != nil {
		p.budget -= int64(ev.Bytes)
	}
}

// serveDeadline is when the first waiting peer has a budget again.
func (r *Replica) serveDeadline() consensus.Micros {
	at := never
	for _, key := range r.turns {
		p := r.peers[key]
		if r.atLimit(p.waiting[0]) {
			continue // until Served
		}
		missing := max(1-p.budget, 1)
		at = min(at, p.at+consensus.Micros(missing*1_000_000/int64(r.cfg.ServeBytes)+1))
	}
	return at
}

// tell answers a straggler's vote with the certificate that ended its epoch, or that
// ends its view, at most once per Timing.Retry.
func (r *Replica) tell(to crypto.PublicKey, final *consensus.Certificate) {
	p := r.peerOf(to)
	if final == nil || p.toldAt > 0 && r.now < p.toldAt+r.cfg.Timing.Retry {
		return
	}
	p.toldAt = max(r.now, 1)
	r.emit(Send{To: to, Message: final})
}
