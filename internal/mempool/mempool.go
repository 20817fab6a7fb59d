// Package mempool decides which transactions come next.
//
// A Pool holds verified transactions until they are final, expire, are replaced
// or are evicted. For each sender they form a queue by nonce; what is offered to
// a block is, again and again, the ready transaction (the one whose predecessors
// are all in) with the highest effective tip, the earlier arrival first among
// equals. The effective tip is what a proposer would get at the base fee of the
// latest block: the tip, or what the price ceiling leaves of it. A ceiling below
// the base fee counts less than no tip.
//
// Invariants:
//
//  1. All bytes, and each sender's and each fee payer's share, stay within the
//     Config; a full pool evicts the lowest effective tip, and if that is the
//     newcomer's, says so to its sender.
//  2. At most one transaction per (sender, nonce); a replacement must raise both
//     the tip and the price ceiling by a tenth.
//  3. Selection never yields a sender's nonce before the one below it.
//  4. At most an eighth of the bytes is of transactions that wait for an earlier
//     nonce: those may never pay, whatever they offer.
//
// A finalized block removes its own transactions and moves its senders' nonces;
// nothing else is checked again on commit, because nonce and fees are checked
// when a block is built. A new base fee ranks the transactions anew when the rank
// is next asked for.
//
// The pool has no lock and no clock: its owner serialises calls. It does not
// verify signatures, talk to peers, or read state: whoever adds a transaction has
// checked it against the latest state and says what the sender's next nonce is.
package mempool

import (
	"container/heap"
	"errors"
	"fmt"
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// Config bounds a Pool.
type Config struct {
	MaxBytes       int // of all transactions' encodings
	MaxPerSender   int
	MaxSenderBytes int // of one sender's transactions' encodings
	MaxPerPayer    int // of transactions that somebody else pays for
}

// DefaultConfig suits a validator with 100 MiB to spare: in memory, a transfer takes
// five times its bytes. It holds the transfers of some seconds at the pace of a
// loaded chain.
func DefaultConfig() Config {
	return Config{MaxBytes: 16 << 20, MaxPerSender: 64, MaxSenderBytes: 1 << 20, MaxPerPayer: 256}
}

// Check returns an error that names the first field out of range.
func (c Config) Check() error {
	switch {
	case c.MaxBytes < chain.MaxTxBytes:
		return fmt.Errorf("mempool: MaxBytes is %d, want at least %d", c.MaxBytes, chain.MaxTxBytes)
	case c.MaxPerSender < 1:
		return fmt.Errorf("mempool: MaxPerSender is %d, want at least 1", c.MaxPerSender)
	case c.MaxSenderBytes < chain.MaxTxBytes || c.MaxSenderBytes > c.MaxBytes:
		return fmt.Errorf("mempool: MaxSenderBytes is %d, want %d to %d", c.MaxSenderBytes, chain.MaxTxBytes, c.MaxBytes)
	case c.MaxPerPayer < 0:
		return fmt.Errorf("mempool: MaxPerPayer is %d, want at least 0", c.MaxPerPayer)
	}
	return nil
}

// Why a transaction is not taken.
var (
	ErrKnown        = errors.New("mempool: transaction is already known")
	ErrFull         = errors.New("mempool: pool is full")
	ErrSenderFull   = errors.New("mempool: too many pending transactions of the sender")
	ErrWaitingFull  = errors.New("mempool: too many transactions wait for an earlier nonce")
	ErrPayerFull    = errors.New("mempool: too many pending transactions of the fee payer")
	ErrUnderpriced  = errors.New("mempool: a pending transaction has this nonce; a replacement pays a tenth more")
	ErrNonceTooLow  = errors.New("mempool: nonce is already used")
	errInvalidState = "mempool: broken invariant: "
)

// waitingShare is the part of the bytes that transactions may take which wait for
// an earlier nonce.
const waitingShare = 8

type entry struct {
	tx      *chain.VerifiedTx
	arrival uint64
	gain    uint64 // 1 and the effective tip; 0: the price ceiling is below the base fee
	removed bool
	waiting bool // for an earlier nonce
}

func (e *entry) body() *chain.TxBody { return &e.tx.Tx().Body }

func (e *entry) size() int { return len(e.tx.Raw()) }

// rank sets the gain at a base fee.
func (e *entry) rank(base chain.GasPrice) {
	body := e.body()
	room, ok := body.MaxFee.Sub(base)
	if !ok {
		e.gain = 0
		return
	}
	if body.Tip.Less(room) {
		room = body.Tip
	}
	e.gain = 1 + min(room.Nano(), math.MaxUint64-1)
}

// dearer orders by effective tip, and the earlier arrival first among equals.
func (e *entry) dearer(o *entry) bool {
	if e.gain != o.gain {
		return e.gain > o.gain
	}
	return e.arrival < o.arrival
}

// precedes reports whether o cannot be included before e.
func (e *entry) precedes(o *entry) bool {
	return e.body().Sender == o.body().Sender && e.body().Nonce < o.body().Nonce
}

type sender struct {
	next    uint64 // nonce of the next transaction to include
	row     uint64 // the first nonce from next on that is not pending
	bytes   int
	byNonce map[uint64]*entry
}

// Pool is the set of pending transactions. Make it with New.
type Pool struct {
	config   Config
	byID     map[chain.TxID]*entry
	senders  map[chain.Address]*sender
	payers   map[chain.Address]int
	bytes    int
	waiting  int // bytes of those that wait for an earlier nonce
	idle     int // how many those are
	arrivals uint64
	base     chain.GasPrice // at which the transactions are ranked
	latest   chain.GasPrice // the latest block's
	cheapest entryHeap      // the least dear first; removed entries are dropped lazily
	expiring entryHeap      // the earliest expiry first; likewise
}

// New returns an empty pool. It panics if the config does not check.
func New(config Config) *Pool {
	if err := config.Check(); err != nil {
		panic(err)
	}
	return &Pool{
		config:   config,
		byID:     map[chain.TxID]*entry{},
		senders:  map[chain.Address]*sender{},
		payers:   map[chain.Address]int{},
		cheapest: entryHeap{less: func(a, b *entry) bool { return b.dearer(a) }},
		expiring: entryHeap{less: func(a, b *entry) bool { return a.body().Expiry < b.body().Expiry }},
	}
}

// rerank ranks the transactions at the latest base fee.
func (p *Pool) rerank() {
	if p.base == p.latest {
		return
	}
	p.base = p.latest
	for _, e := range p.byID { // order-free: each entry by itself
		e.rank(p.base)
	}
	p.cheapest.dropRemoved()
}

// Ready returns how many transactions wait for no earlier nonce.
func (p *Pool) Ready() int { return len(p.byID) - p.idle }

// Len returns how many transactions are pending.
func (p *Pool) Len() int { return len(p.byID) }

// Bytes returns the size of all pending transactions.
func (p *Pool) Bytes() int { return p.bytes }

// Get returns a pending transaction: its signatures need no second look.
func (p *Pool) Get(id chain.TxID) (*chain.VerifiedTx, bool) {
	e, ok := p.byID[id]
	if !ok {
		return nil, false
	}
	return e.tx, true
}

// PendingNonce returns the nonce after the sender's pending transactions that
// follow each other from next on.
func (p *Pool) PendingNonce(from chain.Address, next uint64) uint64 {
	s := p.senders[from]
	if s == nil {
		return next
	}
	for s.byNonce[next] != nil {
		next++
	}
	return next
}

// Refuses says why a transaction would not be taken in however its signatures are:
// the pool is full, and none that waits is worth less. Whoever verifies signatures
// asks before.
func (p *Pool) Refuses(tx *chain.DecodedTx) error {
	if p.bytes+len(tx.Raw()) <= p.config.MaxBytes {
		return nil
	}
	p.rerank()
	e := entry{tx: &chain.VerifiedTx{DecodedTx: *tx}}
	e.rank(p.base)
	if lowest, ok := p.cheapest.live(); ok && e.gain <= lowest.gain {
		return p.full()
	}
	return nil
}

func (p *Pool) full() error {
	return fmt.Errorf("%w: %d bytes of %d in use, and its effective tip at a base fee of %d is not above the lowest", ErrFull, p.bytes, p.config.MaxBytes, p.base.Nano())
}

// Add takes a transaction in, or says why not. Next is the nonce of the sender's
// next transaction after the latest state, against which the caller has checked
// the transaction.
func (p *Pool) Add(tx *chain.VerifiedTx, next uint64) error {
	if _, ok := p.byID[tx.ID()]; ok {
		return ErrKnown
	}
	e := &entry{tx: tx, arrival: p.arrivals}
	e.rank(p.base)
	body := e.body()
	if s := p.senders[body.Sender]; s != nil {
		p.advance(body.Sender, s, next) // the state may be ahead of Finalize
		next = max(next, s.next)
	}
	if body.Nonce < next {
		return fmt.Errorf("%w: nonce %d, next is %d", ErrNonceTooLow, body.Nonce, next)
	}
	s := p.senders[body.Sender]
	var old *entry
	if s != nil {
		old = s.byNonce[body.Nonce]
	}
	if err := p.checkBounds(e, s, old); err != nil {
		return err
	}
	if err := p.checkWaiting(e, s, next); err != nil {
		return err
	}
	if err := p.makeRoom(e, old); err != nil {
		return err
	}
	if old != nil && !old.removed { // making room may have taken it
		p.drop(old)
	}
	p.insert(e, next)
	return nil
}

func (p *Pool) checkBounds(e *entry, s *sender, old *entry) error {
	body := e.body()
	if old != nil && !(raised(old.body().Tip, body.Tip) && raised(old.body().MaxFee, body.MaxFee)) {
		return ErrUnderpriced
	}
	if s != nil && old == nil && len(s.byNonce) >= p.config.MaxPerSender {
		return fmt.Errorf("%w: limit %d", ErrSenderFull, p.config.MaxPerSender)
	}
	if bytes := e.size() + senderBytes(s, old); bytes > p.config.MaxSenderBytes {
		return fmt.Errorf("%w: %d bytes with this one, limit %d", ErrSenderFull, bytes, p.config.MaxSenderBytes)
	}
	if payer := body.FeePayer; payer != nil {
		pending := p.payers[*payer]
		if old != nil && old.body().FeePayer != nil && *old.body().FeePayer == *payer {
			pending--
		}
		if pending >= p.config.MaxPerPayer {
			return fmt.Errorf("%w: limit %d", ErrPayerFull, p.config.MaxPerPayer)
		}
	}
	return nil
}

// senderBytes returns what a sender's transactions take beside one that is
// replaced.
func senderBytes(s *sender, old *entry) int {
	switch {
	case s == nil:
		return 0
	case old == nil:
		return s.bytes
	}
	return s.bytes - old.size()
}

// checkWaiting refuses a transaction that would wait for an earlier nonce when
// too many do.
func (p *Pool) checkWaiting(e *entry, s *sender, next uint64) error {
	row, limit := next, p.config.MaxBytes/waitingShare
	if s != nil {
		row = s.row
	}
	if e.body().Nonce > row && p.waiting+e.size() > limit {
		return fmt.Errorf("%w: %d bytes, limit %d; the sender's next is %d", ErrWaitingFull, p.waiting, limit, row)
	}
	return nil
}

// raised reports whether a price rose by a tenth of the old, and at least by 1.
func raised(old, new chain.GasPrice) bool {
	step, ok := old.Add(chain.PricePerGas(old.Nano()/10 + 1))
	return ok && !new.Less(step)
}

// makeRoom evicts cheaper transactions until e fits beside all but old. If it
// would have to evict one as dear as e, or one that e comes after, it evicts
// nothing and refuses e.
func (p *Pool) makeRoom(e, old *entry) error {
	need := p.bytes + e.size() - p.config.MaxBytes
	if old != nil {
		need -= old.size()
	}
	if need > 0 && p.base != p.latest {
		p.rerank()
		e.rank(p.base)
	}
	var victims []*entry
	defer func() {
		for _, v := range victims { // those that stay go back
			if !v.removed {
				heap.Push(&p.cheapest, v)
			}
		}
	}()
	freed := 0
	for freed < need {
		v, ok := p.cheapest.popLive()
		if !ok || e.gain <= v.gain || v.precedes(e) {
			if ok {
				victims = append(victims, v)
			}
			return p.full()
		}
		victims = append(victims, v)
		if v != old {
			freed += v.size()
		}
	}
	for _, v := range victims {
		if !v.removed && v != old {
			p.evict(v)
		}
	}
	return nil
}

// evict drops a transaction and the sender's later ones, which cannot be
// included without it.
func (p *Pool) evict(e *entry) {
	body := e.body()
	s := p.senders[body.Sender]
	last := body.Nonce
	for s.byNonce[last+1] != nil {
		last++
	}
	for nonce := last; ; nonce-- {
		p.drop(s.byNonce[nonce])
		if nonce == body.Nonce {
			return
		}
	}
}

func (p *Pool) insert(e *entry, next uint64) {
	body := e.body()
	p.arrivals++
	s := p.senders[body.Sender]
	if s == nil {
		s = &sender{next: next, row: next, byNonce: map[uint64]*entry{}}
		p.senders[body.Sender] = s
	}
	s.byNonce[body.Nonce] = e
	p.byID[e.tx.ID()] = e
	p.bytes += e.size()
	s.bytes += e.size()
	p.wait(e, true)
	p.extend(s)
	if body.FeePayer != nil {
		p.payers[*body.FeePayer]++
	}
	heap.Push(&p.cheapest, e)
	heap.Push(&p.expiring, e)
}

// wait notes whether a transaction waits for an earlier nonce.
func (p *Pool) wait(e *entry, waiting bool) {
	if e.waiting == waiting {
		return
	}
	e.waiting = waiting
	if waiting {
		p.waiting += e.size()
		p.idle++
	} else {
		p.waiting -= e.size()
		p.idle--
	}
}

// extend brings the sender's row up to its first gap.
func (p *Pool) extend(s *sender) {
	for {
		e := s.byNonce[s.row]
		if e == nil {
			return
		}
		p.wait(e, false)
		s.row++
	}
}

// advance drops a sender's transactions below a nonce, which the chain has used.
func (p *Pool) advance(from chain.Address, s *sender, next uint64) {
	for ; s.next < next; s.next++ {
		if e := s.byNonce[s.next]; e != nil {
			p.remove(e, s)
		}
	}
	s.row = max(s.row, s.next)
	p.extend(s)
	if len(s.byNonce) == 0 {
		delete(p.senders, from)
	}
}

// drop takes a transaction out. The sender's later ones wait from now on.
func (p *Pool) drop(e *entry) {
	body := e.body()
	s := p.senders[body.Sender]
	if s == nil || s.byNonce[body.Nonce] != e || e.removed {
		panic(errInvalidState + "dropping a transaction that is not pending")
	}
	p.remove(e, s)
	if body.Nonce >= s.next && body.Nonce < s.row {
		for nonce := body.Nonce + 1; nonce < s.row; nonce++ {
			p.wait(s.byNonce[nonce], true)
		}
		s.row = body.Nonce
	}
	if len(s.byNonce) == 0 {
		delete(p.senders, body.Sender)
	}
}

// remove forgets an entry, and leaves its sender's row to the caller.
func (p *Pool) remove(e *entry, s *sender) {
	body := e.body()
	p.wait(e, false)
	e.removed = true
	delete(s.byNonce, body.Nonce)
	delete(p.byID, e.tx.ID())
	p.bytes -= e.size()
	s.bytes -= e.size()
	if body.FeePayer != nil {
		if p.payers[*body.FeePayer]--; p.payers[*body.FeePayer] == 0 {
			delete(p.payers, *body.FeePayer)
		}
	}
}

// Finalize tells the pool of a finalized block's transactions, which leave it
// together with everything that they make impossible: lower nonces of their
// senders, and what expires at height or before. Base is the base fee after it.
func (p *Pool) Finalize(height chain.Height, base chain.GasPrice, txs []chain.DecodedTx) {
	p.latest = base
	for i := range txs {
		body := &txs[i].Tx().Body
		if s := p.senders[body.Sender]; s != nil {
			p.advance(body.Sender, s, body.Nonce+1)
		}
	}
	for {
		e, ok := p.expiring.popLive()
		if !ok {
			break
		}
		if e.body().Expiry > height {
			heap.Push(&p.expiring, e)
			break
		}
		p.drop(e)
	}
	p.cheapest.compact(p.Len())
	p.expiring.compact(p.Len())
}

// Drop removes a transaction that proved to be of no use, such as one whose
// sender can no longer pay, and the sender's later ones.
func (p *Pool) Drop(id chain.TxID) {
	if e, ok := p.byID[id]; ok {
		p.evict(e)
	}
}

// Select yields the pending transactions in the order in which a block should
// take them, passing over those that are included already, in a block that is
// not final yet. The pool must not change while the selection is in use.
func (p *Pool) Select(included func(chain.TxID) bool) func() (*chain.VerifiedTx, bool) {
	p.rerank()
	ready := entryHeap{less: (*entry).dearer}
	advance := func(s *sender, nonce uint64) *entry {
		for {
			e, ok := s.byNonce[nonce]
			if !ok {
				return nil
			}
			if !included(e.tx.ID()) {
				return e
			}
			nonce++
		}
	}
	for _, s := range p.senders { // order-free: the heap orders by tip and arrival
		if e := advance(s, s.next); e != nil {
			ready.entries = append(ready.entries, e)
		}
	}
	heap.Init(&ready)
	return func() (*chain.VerifiedTx, bool) {
		if len(ready.entries) == 0 {
			return nil, false
		}
		e := ready.entries[0]
		body := e.body()
		if next := advance(p.senders[body.Sender], body.Nonce+1); next != nil {
			ready.entries[0] = next
			heap.Fix(&ready, 0)
		} else {
			heap.Pop(&ready)
		}
		return e.tx, true
	}
}

// entryHeap is a heap of entries whose removed ones are dropped lazily.
type entryHeap struct {
	entries []*entry
	less    func(a, b *entry) bool
}

func (h *entryHeap) Len() int           { return len(h.entries) }
func (h *entryHeap) Less(i, j int) bool { return h.less(h.entries[i], h.entries[j]) }
func (h *entryHeap) Swap(i, j int)      { h.entries[i], h.entries[j] = h.entries[j], h.entries[i] }
func (h *entryHeap) Push(x any)         { h.entries = append(h.entries, x.(*entry)) }

func (h *entryHeap) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	return e
}

func (h *entryHeap) popLive() (*entry, bool) {
	for len(h.entries) > 0 {
		if e := heap.Pop(h).(*entry); !e.removed {
			return e, true
		}
	}
	return nil, false
}

// live returns the first live entry, which stays.
func (h *entryHeap) live() (*entry, bool) {
	e, ok := h.popLive()
	if ok {
		heap.Push(h, e)
	}
	return e, ok
}

// compact rebuilds the heap once removed entries outnumber the live ones.
func (h *entryHeap) compact(live int) {
	if len(h.entries) >= 2*live+64 {
		h.dropRemoved()
	}
}

// dropRemoved rebuilds the heap of the live entries.
func (h *entryHeap) dropRemoved() {
	kept := h.entries[:0]
	for _, e := range h.entries {
		if !e.removed {
			kept = append(kept, e)
		}
	}
	clear(h.entries[len(kept):])
	h.entries = kept
	heap.Init(h)
}
