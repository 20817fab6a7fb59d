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
//     Config; a full pool evicts the lowest effective tip for one that is higher by a
//     tenth of what is paid with it, and refuses all others by name.
//  2. At most one transaction per (sender, nonce); a replacement must raise the price
//     ceiling by a tenth, and the tip by a tenth of what is paid with it, the base fee
//     included: each replacement is verified and passed on by everybody.
//  3. Selection never yields a sender's nonce before the one below it.
//  4. At most an eighth of the bytes is of transactions that wait for an earlier
//     nonce: those may never pay, whatever they offer. Of senders that compete for
//     it, the one with the most there gives way.
//  5. Whatever leaves without being in a finalized block is recorded with a Reason,
//     of the last MaxDropped such transactions.
//  6. What all pending transactions of a payer may cost is at most what it could spend
//     when the last of them came in.
//  7. What the pool holds of transactions that left is at most as much again as of
//     those that wait.
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
	ErrPayerFunds   = errors.New("mempool: the payer's pending transactions may cost more than it can spend")
	ErrPayerFull    = errors.New("mempool: too many pending transactions of the fee payer")
	ErrUnderpriced  = errors.New("mempool: a pending transaction has this nonce; a replacement's max fee is a tenth more, and its tip more by a tenth of base fee and tip")
	ErrNonceTooLow  = errors.New("mempool: nonce is already used")
	errInvalidState = "mempool: broken invariant: "
)

// waitingShare is the part of the bytes that transactions may take which wait for
// an earlier nonce.
const waitingShare = 8

type entry struct {
	tx       *chain.VerifiedTx
	arrival  uint64
	most     chain.Amount // that it may cost its payer
	gain     uint64       // 1 and the effective tip; 0: the price ceiling is below the base fee
	removed  bool
	waiting  bool // for an earlier nonce
	parked   bool // not offered until the next block is final
	included bool // in a finalized block
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
	owed    chain.Amount // at most, for those that it pays for itself
	waiting int          // how many wait for an earlier nonce
	pending queue
}

// Pool is the set of pending transactions. Make it with New.
type Pool struct {
	config   Config
	byID     map[chain.TxID]*entry
	senders  map[chain.Address]*sender
	payers   map[chain.Address]sponsor
	bytes    int
	waiting  int // bytes of those that wait for an earlier nonce
	idle     int // how many those are
	arrivals uint64
	base     chain.GasPrice            // at which the transactions are ranked
	latest   chain.GasPrice            // the latest block's
	cheapest entryHeap                 // the least dear first; removed entries are dropped lazily
	expiring entryHeap                 // the earliest expiry first; likewise
	height   chain.Height              // of the latest finalized block
	gapped   map[chain.Address]*sender // those of whom some wait for an earlier nonce
	parked   []*entry
	passed   []*entry // that Add found below the state's nonce: Finalize says why
	dropped  dropped
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
		payers:   map[chain.Address]sponsor{},
		gapped:   map[chain.Address]*sender{},
		dropped:  dropped{byID: map[chain.TxID]record{}},
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
	for s.pending.at(next) != nil {
		next++
	}
	return next
}

// Pending returns how many transactions of a sender are pending.
func (p *Pool) Pending(from chain.Address) int {
	if s := p.senders[from]; s != nil {
		return len(s.pending)
	}
	return 0
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
	if lowest, ok := p.cheapest.live(); ok && !p.outbids(&e, lowest) {
		return p.full()
	}
	return nil
}

func (p *Pool) full() error {
	return fmt.Errorf("%w: %d bytes of %d in use, and its effective tip at a base fee of %d is not above the lowest by a tenth of what that pays",
		ErrFull, p.bytes, p.config.MaxBytes, p.base.Nano())
}

// outbids reports whether a transaction may take another's place: it offers more by a
// tenth of all that the other would pay per gas. For less, who fills the pool and fills
// it again has everybody verify and pass on what nobody pays for.
func (p *Pool) outbids(e, other *entry) bool {
	if other.gain == 0 {
		return e.gain > 0
	}
	tip, base := other.gain-1, p.base.Nano()
	step := tip/10 + base/10 + (tip%10+base%10)/10 + 1
	return e.gain > other.gain && e.gain-other.gain >= step
}

// Add takes a transaction in, or says why not. The standing is that after the latest
// state, against which the caller has checked the transaction.
func (p *Pool) Add(tx *chain.VerifiedTx, at Standing) error {
	next := at.Next
	if _, ok := p.byID[tx.ID()]; ok {
		return ErrKnown
	}
	e := &entry{tx: tx, arrival: p.arrivals, most: mostOf(&tx.Tx().Body)}
	e.rank(p.base)
	body := e.body()
	if s := p.senders[body.Sender]; s != nil { // the state may be ahead of Finalize
		p.passed = p.advance(body.Sender, s, next, p.passed)
		next = max(next, s.next)
	}
	if body.Nonce < next {
		return fmt.Errorf("%w: nonce %d, next is %d", ErrNonceTooLow, body.Nonce, next)
	}
	s := p.senders[body.Sender]
	var old *entry
	if s != nil {
		old = s.pending.at(body.Nonce)
	}
	if err := p.checkBounds(e, s, old); err != nil {
		return err
	}
	yielding, err := p.checkFunds(e, old, s, at.Funds)
	if err != nil {
		return err
	}
	if err := p.checkWaiting(e, s, old, next); err != nil {
		return err
	}
	if err := p.makeRoom(e, old); err != nil {
		return err
	}
	for _, later := range yielding {
		if !later.removed {
			p.drop(later, Funds, chain.TxID{})
		}
	}
	if old != nil && !old.removed { // making room may have taken it
		p.remove(old, s)
		p.record(old, Replaced, tx.ID())
	}
	p.dropped.forget(tx.ID())
	p.insert(e, next)
	return nil
}

func (p *Pool) checkBounds(e *entry, s *sender, old *entry) error {
	body := e.body()
	if old != nil && !(raised(old.body().Tip, body.Tip, p.latest) && raised(old.body().MaxFee, body.MaxFee, chain.GasPrice{})) {
		return ErrUnderpriced
	}
	if s != nil && old == nil && len(s.pending) >= p.config.MaxPerSender {
		return fmt.Errorf("%w: limit %d", ErrSenderFull, p.config.MaxPerSender)
	}
	if bytes := e.size() + senderBytes(s, old); bytes > p.config.MaxSenderBytes {
		return fmt.Errorf("%w: %d bytes with this one, limit %d", ErrSenderFull, bytes, p.config.MaxSenderBytes)
	}
	if payer := body.FeePayer; payer != nil {
		pending := p.payers[*payer].pending
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

// checkWaiting refuses a transaction that would wait for an earlier nonce when too
// many do, unless another sender has more there, whose last one then makes room.
func (p *Pool) checkWaiting(e *entry, s *sender, old *entry, next uint64) error {
	row, has := next, 0
	if s != nil {
		row, has = s.row, s.waiting
	}
	if e.body().Nonce <= row {
		return nil
	}
	size := e.size()
	if old != nil {
		size -= old.size()
		has--
	}
	for p.waiting+size > p.waitingLimit() {
		most := p.mostWaiting()
		if most == nil || most == s || most.waiting <= has+1 || p.bytes+size > p.config.MaxBytes {
			return fmt.Errorf("%w: %d bytes, limit %d; the sender's next is %d", ErrWaitingFull, p.waiting, p.waitingLimit(), row)
		}
		p.drop(most.last(), EarlierDropped, chain.TxID{})
	}
	return nil
}

func (p *Pool) waitingLimit() int { return p.config.MaxBytes / waitingShare }

// maxLooked bounds the senders among whom the one with the most waiting
// transactions is looked for.
const maxLooked = 32

// mostWaiting returns the sender of whom the most wait for an earlier nonce, of those
// that it looks at. Nil: nobody's do.
func (p *Pool) mostWaiting() *sender {
	var most *sender
	looked := 0
	for _, s := range p.gapped { // order-free: the most, and of equals the last to come
		if most == nil || s.waiting > most.waiting || s.waiting == most.waiting && s.last().arrival > most.last().arrival {
			most = s
		}
		if looked++; looked == maxLooked {
			break
		}
	}
	return most
}

// last returns the sender's transaction of the highest nonce.
func (s *sender) last() *entry {
	return s.pending[len(s.pending)-1].entry
}

// raised reports whether a price rose by a tenth of the old and of what is paid
// beside it, and at least by 1.
func raised(old, new, beside chain.GasPrice) bool {
	paid, ok := old.Add(beside)
	if !ok {
		return false
	}
	step, ok := old.Add(chain.PricePerGas(paid.Nano()/10 + 1))
	return ok && !new.Less(step)
}

// makeRoom evicts cheaper transactions until e fits beside all but old. If it
// would have to evict one that e does not outbid, or one that e comes after, it
// evicts nothing and refuses e.
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
		if !ok || !p.outbids(e, v) || v.precedes(e) {
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
			p.evict(v, Evicted)
		}
	}
	return nil
}

// evict drops a transaction for a reason and the sender's later ones, which cannot
// be included without it.
func (p *Pool) evict(e *entry, why Reason) {
	body := e.body()
	s := p.senders[body.Sender]
	last := body.Nonce
	for s.pending.at(last+1) != nil {
		last++
	}
	for nonce := last; nonce > body.Nonce; nonce-- {
		p.drop(s.pending.at(nonce), EarlierDropped, e.tx.ID())
	}
	p.drop(e, why, chain.TxID{})
}

func (p *Pool) insert(e *entry, next uint64) {
	body := e.body()
	p.arrivals++
	s := p.senders[body.Sender]
	if s == nil {
		s = &sender{next: next, row: next}
		p.senders[body.Sender] = s
	}
	s.pending.put(body.Nonce, e)
	p.byID[e.tx.ID()] = e
	p.bytes += e.size()
	s.bytes += e.size()
	p.wait(e, s, body.Nonce > s.row)
	p.extend(s)
	p.owe(e, s)
	heap.Push(&p.cheapest, e)
	heap.Push(&p.expiring, e)
	p.compact() // blocks may be long in coming
}

func (p *Pool) compact() {
	p.cheapest.compact(p.Len())
	p.expiring.compact(p.Len())
}

// wait notes whether a transaction of s waits for an earlier nonce.
func (p *Pool) wait(e *entry, s *sender, waiting bool) {
	if e.waiting == waiting {
		return
	}
	e.waiting = waiting
	if waiting {
		p.waiting += e.size()
		p.idle++
		if s.waiting++; s.waiting == 1 {
			p.gapped[e.body().Sender] = s
		}
		return
	}
	p.waiting -= e.size()
	p.idle--
	if s.waiting--; s.waiting == 0 {
		delete(p.gapped, e.body().Sender)
	}
}

// extend brings the sender's row up to its first gap.
func (p *Pool) extend(s *sender) {
	for {
		e := s.pending.at(s.row)
		if e == nil {
			return
		}
		p.wait(e, s, false)
		s.row++
	}
}

// advance takes out a sender's transactions below a nonce, which the chain has used,
// and appends them to a list.
func (p *Pool) advance(from chain.Address, s *sender, next uint64, passed []*entry) []*entry {
	for ; s.next < next && len(s.pending) > 0; s.next++ {
		if e := s.pending.at(s.next); e != nil {
			p.remove(e, s)
			passed = append(passed, e)
		}
	}
	s.next = max(s.next, next)
	s.row = max(s.row, s.next)
	p.extend(s)
	if len(s.pending) == 0 {
		delete(p.senders, from)
	}
	return passed
}

// drop takes a transaction out for a reason. The sender's later ones wait from now
// on, as far as there is room for those that wait: the last ones leave too.
func (p *Pool) drop(e *entry, why Reason, by chain.TxID) {
	body := e.body()
	s := p.senders[body.Sender]
	if s == nil || s.pending.at(body.Nonce) != e || e.removed {
		panic(errInvalidState + "dropping a transaction that is not pending")
	}
	p.remove(e, s)
	p.record(e, why, by)
	if body.Nonce >= s.next && body.Nonce < s.row {
		for nonce := body.Nonce + 1; nonce < s.row; nonce++ {
			p.wait(s.pending.at(nonce), s, true)
		}
		s.row = body.Nonce
	}
	for s.waiting > 0 && p.waiting > p.waitingLimit() {
		last := s.last()
		p.remove(last, s)
		p.record(last, EarlierDropped, e.tx.ID())
	}
	if len(s.pending) == 0 {
		delete(p.senders, body.Sender)
	}
}

// remove forgets an entry, and leaves its sender's row to the caller.
func (p *Pool) remove(e *entry, s *sender) {
	body := e.body()
	p.wait(e, s, false)
	e.removed = true
	s.pending.remove(body.Nonce)
	delete(p.byID, e.tx.ID())
	p.bytes -= e.size()
	s.bytes -= e.size()
	p.settle(e, s)
}

// Finalize tells the pool of a finalized block's transactions, which leave it
// together with everything that they make impossible: lower nonces of their
// senders, and what expires at height or before. Base is the base fee after it.
func (p *Pool) Finalize(height chain.Height, base chain.GasPrice, txs []chain.DecodedTx) {
	p.latest, p.height = base, height
	for _, e := range p.parked {
		e.parked = false
	}
	p.parked = nil
	for _, e := range p.leave(txs) {
		if !e.included {
			p.record(e, NonceUsed, chain.TxID{})
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
		p.drop(e, Expired, chain.TxID{})
	}
	p.compact()
}

// leave takes out a block's transactions, and what their senders have below them. It
// returns these, marked whether the block has them, and those that Add found so since
// the last block.
func (p *Pool) leave(txs []chain.DecodedTx) []*entry {
	passed := p.passed
	p.passed = nil
	early := make(map[chain.TxID]*entry, len(passed))
	for _, e := range passed {
		early[e.tx.ID()] = e
	}
	for i := range txs {
		id, body := txs[i].ID(), &txs[i].Tx().Body
		p.dropped.forget(id)
		e := p.byID[id]
		if e == nil {
			e = early[id]
		}
		if e != nil {
			e.included = true
		}
		if s := p.senders[body.Sender]; s != nil {
			passed = p.advance(body.Sender, s, body.Nonce+1, passed)
		}
	}
	return passed
}

// Drop removes a transaction that the finalized state refuses, for a reason, and the
// sender's later ones.
func (p *Pool) Drop(id chain.TxID, why Reason) {
	if e, ok := p.byID[id]; ok {
		p.evict(e, why)
	}
}

// Park has a transaction, and with it the sender's later ones, not offered until the
// next block is final: a state that is not final refuses it.
func (p *Pool) Park(id chain.TxID) {
	if e, ok := p.byID[id]; ok && !e.parked {
		e.parked = true
		p.parked = append(p.parked, e)
	}
}

// Heads returns the next transaction of up to n senders, whichever: each of them
// would be the sender's next to be included.
func (p *Pool) Heads(n int) []*chain.VerifiedTx {
	var out []*chain.VerifiedTx
	for _, s := range p.senders { // order-free: whichever
		if len(out) >= n {
			break
		}
		if e := s.pending.at(s.next); e != nil {
			out = append(out, e.tx)
		}
	}
	return out
}

// IDs returns at most n pending transactions, whichever, but those to leave out.
func (p *Pool) IDs(n int, leaveOut func(chain.TxID) bool) []chain.TxID {
	var out []chain.TxID
	for id := range p.byID { // order-free: whichever
		if len(out) >= n {
			break
		}
		if !leaveOut(id) {
			out = append(out, id)
		}
	}
	return out
}

// Select yields the pending transactions in the order in which a block should
// take them, passing over those that are included already, in a block that is
// not final yet. It yields neither one that is parked, or that takes refuses, nor the
// sender's later ones. The pool must not change while the selection is in use.
func (p *Pool) Select(included func(chain.TxID) bool, takes func(*chain.VerifiedTx) bool) func() (*chain.VerifiedTx, bool) {
	p.rerank()
	ready := entryHeap{less: (*entry).dearer}
	advance := func(s *sender, nonce uint64) *entry {
		for {
			e := s.pending.at(nonce)
			if e == nil || e.parked {
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
		for len(ready.entries) > 0 {
			e := ready.entries[0]
			body := e.body()
			taken := takes(e.tx)
			if next := advance(p.senders[body.Sender], body.Nonce+1); taken && next != nil {
				ready.entries[0] = next
				heap.Fix(&ready, 0)
			} else {
				heap.Pop(&ready)
			}
			if taken {
				return e.tx, true
			}
		}
		return nil, false
	}
}
