package relay

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	maxHeld       = 20_000
	maxRemembered = 10_000
	maxRefusals   = 5 // of one claim by the chain, until it is left alone
	// maxStubborn bounds what locks a bond, is held though the chain refused it, and is tried on: a server
	// that lists what can never be taken fills no more of the book with it.
	maxStubborn  = 1_024
	firstRetry   = 5 * time.Second
	longestRetry = 320 * time.Second // the fourth
	// yields is how much later than its turn that is tried again which its own node's bond kept from being taken: what the
	// cluster promised to others since goes first, should that bond be free again, and what never has one is tried all the same.
	yields = 2 * longestRetry
	// freshPace is how much sooner than what the chain refused that is tried which it never saw: one in so
	// many of the pause.
	freshPace = 16
	// txRoom is what a transaction needs beside its claims.
	txRoom = 4 << 10
	// mostCleared is for how long a claim that shows a key may be posted after it was found that the chain would pay
	// it, and mostHeld how long one waits until it is looked at again, both at most: a short claim window has less.
	mostCleared = 10 * time.Second
	mostHeld    = 5 * time.Minute
	partOfClaim = 8 // of the window
)

// entry is a claim that waits in the outbox.
type entry struct {
	id       crypto.Digest // of its bytes
	order    crypto.Digest // what it is of
	claim    *chain.Claim  // nil: run
	run      chain.Msg
	vote     bool // of a panel
	bytes    int
	evidence bool // run shows that a cluster broke its word
	cursor   uint64
	pass     uint64    // the reading of the outbox that saw it last
	resolved bool      // the chain has it: settled, or recorded until others agree
	alone    bool      // a transaction with others was refused
	refusals int       // by the chain
	withheld int       // how often in a row it was not posted though it is in order: the chain would not pay it
	unknown  int       // likewise: nobody said whether it would
	cleared  time.Time // when the chain was last found to pay it, if it shows a key
	due      time.Time
	locks    time.Time // of what locks a bond, as an order that begins: until when the chain may take it; zero: it locks none
	tried    time.Time // when the chain refused it last; zero: never
	poor     bool      // for want of its node's bond, then or before
}

// book is what the relay knows of the claims in the outbox. Safe for concurrent
// use.
type book struct {
	mu      sync.Mutex
	entries map[crypto.Digest]*entry
	refused map[crypto.Digest]bool
	order   []crypto.Digest // of refused, the oldest first
	resting time.Time       // until when nothing but votes is posted
	pausing time.Time       // until when nothing is posted again that locks a bond and was refused
	pacing  time.Time       // and until when nothing is posted for the first time that locks one
	more    chan struct{}   // holds a token when there may be something to post
	looks   chan struct{}   // likewise, to look at

	clearedFor, longestHeld time.Duration
}

func newBook(p *chain.Params) *book {
	part := time.Duration(min(p.ClaimWindowMs, uint64(mostHeld.Milliseconds())*partOfClaim)) * time.Millisecond / partOfClaim
	return &book{
		entries: map[crypto.Digest]*entry{}, refused: map[crypto.Digest]bool{}, more: make(chan struct{}, 1), looks: make(chan struct{}, 1),
		clearedFor: min(mostCleared, part), longestHeld: max(firstRetry, part),
	}
}

// known notes that a claim was seen in the outbox, and reports whether it needs
// no look: it is held, or refused.
func (b *book) known(id crypto.Digest, pass uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		e.pass = pass
		return true
	}
	return b.refused[id]
}

// add holds the claims of an item, in one step so that they are posted together,
// unless as many are held as may be.
func (b *book) add(entries []*entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries)+len(entries) > maxHeld {
		return false
	}
	for _, e := range entries {
		b.entries[e.id] = e
	}
	if len(entries) > 0 {
		b.wake()
	}
	return true
}

func (b *book) wake() {
	for _, tokens := range []chan struct{}{b.more, b.looks} {
		select {
		case tokens <- struct{}{}:
		default:
		}
	}
}

// shows reports whether posting the claim shows a key, so that it is looked at first.
func (e *entry) shows() bool { return e.claim != nil && e.claim.OutputKey != nil }

// refuse remembers that a claim is not to be posted.
func (b *book) refuse(id crypto.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remember(id)
}

func (b *book) remember(id crypto.Digest) {
	delete(b.entries, id)
	if b.refused[id] {
		return
	}
	b.refused[id] = true
	if b.order = append(b.order, id); len(b.order) > maxRemembered {
		delete(b.refused, b.order[0])
		b.order = b.order[1:]
	}
}

// sweep drops the claims up to a cursor that the last reading did not see: they
// have left the outbox.
func (b *book) sweep(pass, upTo uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.entries {
		if e.pass < pass && e.cursor <= upTo && !e.vote && !e.evidence { // the outbox lists neither
			delete(b.entries, id)
		}
	}
}

// next returns the claims to post now, in the order of the outbox, and when
// there is something to do if there is nothing now; zero: not until more comes.
func (b *book) next(now time.Time, most int) (batch []*entry, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []*entry
	others := b.others()
	for _, e := range b.entries {
		at := b.dueAt(e)
		if e.poor && at.Before(others) {
			at = earlier(others, at.Add(longestRetry))
		}
		switch {
		case e.resolved || e.shows() && now.Sub(e.cleared) >= b.clearedFor: // the latter is looked at
		case !at.After(now):
			due = append(due, e)
		case wait == 0 || at.Sub(now) < wait:
			wait = at.Sub(now)
		}
	}
	slices.SortFunc(due, inTurn)
	bytes := txRoom
	for _, e := range due {
		switch {
		case e.alone && len(batch) == 0:
			return []*entry{e}, 0
		case e.alone || bytes+e.bytes > chain.MaxTxBytes || len(batch) == min(most, chain.MaxMessages):
			return batch, 0
		}
		batch = append(batch, e)
		bytes += e.bytes
	}
	return batch, wait
}

// others is when all will have been tried again that wait for the cluster's bond alone. The caller holds b.mu.
func (b *book) others() (last time.Time) {
	for _, e := range b.entries { // order-free: the latest
		if e.resolved || e.poor || e.locks.IsZero() || e.tried.IsZero() {
			continue
		}
		if at := b.dueAt(e); last.Before(at) {
			last = at
		}
	}
	return last
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// dueAt is when an entry may be posted. The caller holds b.mu.
func (b *book) dueAt(e *entry) time.Time {
	at := e.due
	if !e.vote && at.Before(b.resting) {
		at = b.resting
	}
	if pause := b.pauseOf(e); at.Before(pause) {
		at = pause
	}
	return at
}

// toLookAt returns the claim that shows a key to look at now, those first that were held back least often, and when
// there is one if there is none now; zero: not until more comes.
func (b *book) toLookAt(now time.Time) (first *entry, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries { // order-free: the least
		if e.resolved || !e.shows() {
			continue
		}
		at := b.dueAt(e)
		if end := e.cleared.Add(b.clearedFor); at.Before(end) {
			at = end
		}
		switch {
		case at.After(now):
			if wait == 0 || at.Sub(now) < wait {
				wait = at.Sub(now)
			}
		case first == nil || cmp.Or(cmp.Compare(e.withheld+e.unknown, first.withheld+first.unknown), cmp.Compare(e.cursor, first.cursor), e.id.Compare(first.id)) < 0:
			first = e
		}
	}
	return first, wait
}

// clear notes that the chain would pay a claim now.
func (b *book) clear(e *entry, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.cleared, e.withheld, e.unknown = now, 0, 0
	b.wake()
}

// doubt has claims that show keys be looked at again: it is not known whether the chain took them.
func (b *book) doubt(entries []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		e.cleared = time.Time{}
	}
	b.wake()
}

// inTurn orders what is due as the outbox has it, and after it what locks a bond and was refused: whatever was
// not tried the longest goes first, so that what never gets a bond keeps nothing else from being tried; see yields.
func inTurn(x, y *entry) int {
	turn := func(e *entry) time.Time {
		switch {
		case e.locks.IsZero():
			return time.Time{}
		case e.poor:
			return e.tried.Add(yields)
		}
		return e.tried
	}
	return cmp.Or(turn(x).Compare(turn(y)), cmp.Compare(x.cursor, y.cursor), x.id.Compare(y.id))
}

// pauseOf is until when an entry waits because the chain takes nothing of what locks a bond.
func (b *book) pauseOf(e *entry) time.Time {
	switch {
	case e.locks.IsZero():
		return time.Time{}
	case e.tried.IsZero():
		return b.pacing
	}
	return b.pausing
}

// resolve notes that the chain has the claims.
func (b *book) resolve(entries ...*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		e.resolved = true
	}
}

// taken notes that the chain has a message. A vote may be listed for a little longer, and
// evidence be seen again.
func (b *book) taken(e *entry) {
	if e.vote || e.evidence {
		b.refuse(e.id)
		return
	}
	b.resolve(e)
}

// maxVotes bounds the votes that are held: they take no room from claims.
const maxVotes = 1_024

// roomForVotes is how many more votes may be held.
func (b *book) roomForVotes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := maxVotes
	for _, e := range b.entries { // order-free: counted
		if e.vote {
			room--
		}
	}
	return max(room, 0)
}

// rejected notes that the chain refused a claim, and reports whether it is left
// alone from now on. Else it waits, four times as long each time up to longestRetry: what it lacks
// may come. What lacks nothing but a bond that is free is tried as long as the chain may take it:
// its work is done, and not paid else. Of so many at a time, that is: see maxStubborn.
func (b *book) rejected(e *entry, reason string, now time.Time) (forGood bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := maxRefusals
	switch {
	case e.vote: // one that comes too late stays so
		limit = 1
	case now.Before(e.locks) && settlement.WantsBond(reason) && b.stubborn(e) < maxStubborn:
		limit = math.MaxInt
	case e.evidence: // somebody reported it, or what the cluster lost is being divided
		limit = 2
	}
	if e.refusals++; e.refusals >= limit {
		b.remember(e.id)
		return true
	}
	e.poor = e.poor || settlement.WantsNodesBond(reason)
	e.due, e.tried = now.Add(min(firstRetry<<(2*min(e.refusals-1, maxRefusals)), longestRetry)), now
	if !e.locks.IsZero() { // what is taken beside it is not refused with it
		e.alone = true
	}
	return false
}

// stubborn counts what is held beside an entry that locks a bond, and was refused too often for anything else.
func (b *book) stubborn(beside *entry) (n int) {
	for _, e := range b.entries { // order-free: counted
		if e != beside && !e.locks.IsZero() && e.refusals >= maxRefusals {
			n++
		}
	}
	return n
}

// separate has claims posted one by one, because a transaction of all of them
// was refused.
func (b *book) separate(entries []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		e.alone = true
	}
	b.wake()
}

// rest has all but votes wait.
func (b *book) rest(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resting = until
}

// pause has what locks bonds wait, after the chain refused some of it: what it never saw for a part of the time only,
// and if that was refused, only that. So neither keeps the other from being tried.
func (b *book) pause(batch []*entry, now time.Time, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pacing = now.Add(pause / freshPace)
	if slices.ContainsFunc(batch, func(e *entry) bool { return e.refusals > 1 }) {
		b.pausing = now.Add(pause)
	}
}

// postpone has claims wait, through no fault of theirs.
func (b *book) postpone(entries []*entry, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		e.due = until
	}
}

// withhold has a claim wait that the chain would not pay now, each time longer, and reports whether that is news. If it
// is not known whether it would, that is no fault of the claim's.
func (b *book) withhold(e *entry, unpayable bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !unpayable {
		e.unknown++
		e.due = now.Add(firstRetry)
		return true
	}
	e.due = now.Add(min(firstRetry<<(2*min(e.withheld, maxRefusals)), b.longestHeld))
	e.withheld++
	return e.withheld == 1
}

// counts returns how many claims wait for the chain, and how many it has that
// the outbox still lists.
func (b *book) counts() (waiting, resolved int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.resolved {
			resolved++
		} else {
			waiting++
		}
	}
	return waiting, resolved
}
