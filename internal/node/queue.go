package node

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// How long what is accepted of clients may have to wait for blocks, by the rate at
// which blocks took transactions of late while more of them waited.
const (
	// fairWait is how long a queue anybody may make longer, mostWait how long a one
	// a sender may of whom nothing waits. Beyond, only who pays more than the last
	// one that got in.
	fairWait = 400 * time.Millisecond
	mostWait = 700 * time.Millisecond
	// leastQueue is accepted however slow the chain is, firstQueue while nobody knows
	// how fast it is.
	leastQueue = 1_000
	firstQueue = 3_000
	// drainStretch is over how long the rate is measured, drainMemory how long it is
	// remembered when nothing waits.
	drainStretch = 250 * time.Millisecond
	drainMemory  = 10 * time.Second
	// takenStretch is over how long what blocks took is counted, whatever waited.
	takenStretch = time.Second
)

// drain measures how many transactions a second leave the queue. The zero value
// knows nothing.
type drain struct {
	began time.Time // of the stretch that is measured; zero: none
	txs   int       // in it
	rate  float64   // a second, an average that follows; 0: not known
	at    time.Time // when it was last measured
	taken taken
}

// taken is the most that blocks took in a second of late, though nothing may have
// waited then: they can do that at least.
type taken struct {
	began time.Time // of the stretch that is counted; zero: none
	txs   int       // in it
	rate  float64   // a second, of the best stretch that is remembered; 0: not known
	at    time.Time // when that ended
}

// finalized counts a block.
func (k *taken) finalized(txs int, now time.Time) {
	if k.began.IsZero() {
		k.began = now
		return
	}
	k.txs += txs
	passed := now.Sub(k.began)
	if passed < takenStretch {
		return
	}
	if rate := float64(k.txs) / passed.Seconds(); rate >= k.rate || now.Sub(k.at) > drainMemory {
		k.rate, k.at = rate, now
	}
	k.began, k.txs = now, 0
}

// finalized notes a block and how many transactions are ready after it. A stretch
// counts only if there were enough for another such block all the time: else it says
// how many came and not how many can go.
func (d *drain) finalized(txs, left int, now time.Time) {
	d.taken.finalized(txs, now)
	if left < txs || left == 0 {
		d.began, d.txs = time.Time{}, 0
		if now.Sub(d.at) > drainMemory {
			d.rate = 0
		}
		return
	}
	if d.began.IsZero() {
		d.began = now
		return
	}
	d.txs += txs
	passed := now.Sub(d.began)
	if passed < drainStretch {
		return
	}
	sample := float64(d.txs) / passed.Seconds()
	if d.rate == 0 {
		d.rate = sample
	} else {
		// The longer the stretch, the more it says.
		d.rate += (sample - d.rate) * min(passed.Seconds(), 1)
	}
	d.began, d.txs, d.at = now, 0, now
}

// most returns how many transactions may wait so long. What blocks took after the rate
// was measured, or in place of it, can only make it more.
func (d *drain) most(wait time.Duration) int {
	rate, least := d.rate, leastQueue
	if rate == 0 {
		least = firstQueue
	}
	if d.taken.at.After(d.at) {
		rate = max(rate, d.taken.rate)
	}
	return max(int(rate*wait.Seconds()), least)
}

// gate decides which of a client's transactions there is room for, in the order in
// which they come, and returns for each of the others why not; it is nil if there is
// room for all. Those that pass are on their way until leave is called.
func (p *pool) gate(txs []chain.DecodedTx) (refusals []string, leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.txs.Ready() + p.entering
	fair, most := p.drain.most(fairWait), p.drain.most(mostWait)
	passed := 0
	var passing map[chain.Address]bool // whose have passed, in this call; from when on it matters
	for i := range txs {
		if _, known := p.txs.Get(txs[i].ID()); known {
			continue // it has its place
		}
		body := &txs[i].Tx().Body
		at := waiting + passed
		if at >= fair && passing == nil {
			passing = sendersOf(txs[:i])
		}
		switch {
		case at < fair, p.paysMore(body):
		case at < most && p.txs.Pending(body.Sender) == 0 && !passing[body.Sender]:
			passing[body.Sender] = true
		default:
			if refusals == nil {
				refusals = make([]string, len(txs))
			}
			refusals[i] = fmt.Sprintf("%s: %d transactions wait, which takes the chain more than %s; the tip is not above %d, the last one's that got in",
				api.ReasonQueueFull, at, fairWait, p.lastTip.Nano())
			continue
		}
		passed++
	}
	p.entering += passed
	return refusals, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.entering -= passed
	}
}

func sendersOf(txs []chain.DecodedTx) map[chain.Address]bool {
	out := map[chain.Address]bool{}
	for i := range txs {
		out[txs[i].Tx().Body.Sender] = true
	}
	return out
}

// paysMore reports whether a transaction pays a higher tip than the last one that
// got into a block: then it is taken before those that wait. The caller holds p.mu.
func (p *pool) paysMore(body *chain.TxBody) bool {
	return p.lastTip.Less(tipAt(body, p.baseFee))
}

// tipAt returns the tip that a transaction pays at a base fee; none below it.
func tipAt(body *chain.TxBody, base chain.GasPrice) chain.GasPrice {
	room, ok := body.MaxFee.Sub(base)
	if !ok {
		return chain.GasPrice{}
	}
	if body.Tip.Less(room) {
		return body.Tip
	}
	return room
}

// noteBlock notes what a final block says of the queue. The caller holds p.mu.
func (p *pool) noteBlock(txs []chain.DecodedTx, base chain.GasPrice, now time.Time) {
	p.drain.finalized(len(txs), p.txs.Ready(), now)
	if len(txs) == 0 {
		return
	}
	last := tipAt(&txs[0].Tx().Body, p.baseFee)
	for i := range txs {
		if tip := tipAt(&txs[i].Tx().Body, p.baseFee); tip.Less(last) {
			last = tip
		}
	}
	p.lastTip, p.baseFee = last, base
}
