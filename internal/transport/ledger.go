package transport

import "sync"

// ledger bounds what waits in the queues of many peers together: those of
// members, and those of observers. When a sum is above its limit, the messages
// that have waited longest go, whoever they are for: who takes what it is sent
// has none that old.
type ledger struct {
	metrics *Metrics

	mu        sync.Mutex
	sequence  uint64
	members   account
	observers account
}

// account is one sum. It belongs to ledger.mu.
type account struct {
	limit, used int
	holders     map[*peer]struct{} // who has something waiting
}

func newLedger(members, observers int, metrics *Metrics) *ledger {
	return &ledger{
		metrics:   metrics,
		members:   account{limit: members, holders: map[*peer]struct{}{}},
		observers: account{limit: observers, holders: map[*peer]struct{}{}},
	}
}

// number returns the place of a new message in the order of all messages.
func (g *ledger) number() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sequence++
	return g.sequence
}

// membersWait reports whether anything waits for a member.
func (g *ledger) membersWait() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.members.used > 0
}

// charge books a change of what waits for a peer, and drops messages if the sum
// is too large.
func (g *ledger) charge(p *peer, delta int) {
	g.mu.Lock()
	a := p.account
	g.book(p, a, delta)
	excess := a.used > a.limit
	g.mu.Unlock()
	for excess {
		excess = g.shed(a)
	}
}

// book changes what a peer holds in an account. The caller holds g.mu.
func (g *ledger) book(p *peer, a *account, delta int) {
	a.used += delta
	p.held += delta
	if p.held > 0 {
		a.holders[p] = struct{}{}
	} else {
		delete(a.holders, p)
	}
}

// shed drops the message of an account that has waited longest, and reports
// whether there is still too much.
func (g *ledger) shed(a *account) bool {
	g.mu.Lock()
	holders := make([]*peer, 0, len(a.holders))
	for p := range a.holders {
		holders = append(holders, p)
	}
	g.mu.Unlock()
	var victim *queue
	var whose *peer
	oldest := ^uint64(0)
	for _, p := range holders {
		for _, q := range p.queues {
			if number, ok := q.head(); ok && number < oldest {
				victim, whose, oldest = q, p, number
			}
		}
	}
	if victim == nil {
		return false // others have taken it all meanwhile
	}
	freed := victim.dropHead(oldest)
	if freed > 0 {
		g.metrics.add(QueueSum)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.book(whose, whose.account, -freed)
	return a.used > a.limit
}

// move books what a peer holds in another account.
func (g *ledger) move(p *peer, to *account) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := p.held
	if p.account != nil {
		g.book(p, p.account, -held)
	}
	p.account = to
	g.book(p, to, held)
}
