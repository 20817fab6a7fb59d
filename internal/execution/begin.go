package execution

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/tokens"
)

// Entries of each queue that a block works off at most; what is left waits for the next. A
// block of full gas queues some 8,000 withdrawals, but no chain can keep that up: the base
// fee holds it to target gas, which at the pace of loaded blocks is below these bounds. So
// nobody's money waits behind another's spam.
const (
	maxReleases    = 1_000
	maxLeaseEnds   = 1_000
	maxChannelEnds = 1_000
	maxExpiries    = 2_000 // records: an order has one, and one for each claim but its first
	maxDraws       = 1_000 // of the dearest, as are deadlines
	maxDeadlines   = 1_000
	maxMarks       = 1_000
)

// All queues together work for a share of a block's gas at most, by what their entries weigh
// in the gas table: what nobody pays for in a block must not keep its own transactions out
// of time.
const (
	queueShare = 1
	queueWhole = 3
)

// queue is work that begins blocks.
type queue struct {
	weight uint64 // gas of an entry
	most   int    // entries of one block
	// work does up to so many entries and returns how many there were, and what there is to
	// say of them.
	work func(limit int) (chain.Events, int)
}

// queues returns those of a block in their order.
func (r *run) queues() []queue {
	kv, env, stakes, table := r.block, &r.env, &r.stakes.Env, &r.x.gas
	untold := func(n int) (chain.Events, int) { return nil, n }
	counted := func(events chain.Events) (chain.Events, int) { return events, len(events) }
	return []queue{
		{table.QueueMatured, maxReleases, func(n int) (chain.Events, int) { return counted(tokens.ReleaseMatured(kv, env.Now, n)) }},
		{table.QueueReleased, maxReleases, func(n int) (chain.Events, int) { return counted(staking.Release(kv, stakes, n)) }},
		{table.QueueExpired, maxExpiries, func(n int) (chain.Events, int) { return untold(settlement.ExpireOrders(kv, env, n)) }},
		{table.QueueLease, maxLeaseEnds, func(n int) (chain.Events, int) { return settlement.ExpireLeases(kv, env, n) }},
		{table.QueueChannel, maxChannelEnds, func(n int) (chain.Events, int) { return counted(settlement.EndChannels(kv, env, n)) }},
		{table.QueueDraw, maxDraws, func(n int) (chain.Events, int) { return settlement.RunDraws(kv, env, n) }},
		{table.QueueDeadline, maxDeadlines, func(n int) (chain.Events, int) { return settlement.RunDeadlines(kv, env, n) }},
		{table.QueueMatured, maxMarks, func(n int) (chain.Events, int) { return untold(settlement.ExpireMarks(kv, env, n)) }},
	}
}

// workOff does what is due at the beginning of a block, within the budget that all queues
// have together.
func (r *run) workOff() {
	r.receipts.Begin = shareOut(r.queues(), queueGas(r.at.blockGas).Units(), int(r.at.height))
	countBurned(r.block, r.receipts.Begin) // of replicated runs that nobody had paid
	r.receipts.Begin = append(r.receipts.Begin, settlement.ChallengeHardware(r.block, &r.env)...)
}

// queueGas is the budget of the queues in blocks of so much gas.
func queueGas(block chain.Gas) chain.Gas {
	return chain.GasUnits(block.Units() / queueWhole * queueShare)
}

// shareOut has each queue work for an equal part of a budget, and then those for which that
// was too little for what others left, the first in turn first: so the entries at the head
// of every queue go in every block, and nothing is left while there is budget for it. A
// queue takes one entry at least, whatever it weighs.
func shareOut(queues []queue, budget uint64, turn int) (events chain.Events) {
	said := make([]chain.Events, len(queues))
	left, part := budget, budget/uint64(len(queues))
	waiting := make([]int, 0, len(queues)) // those that may have more to do
	done := make([]int, len(queues))
	do := func(i int, gas uint64) {
		q := &queues[i]
		limit := min(q.most-done[i], int(min(gas/max(q.weight, 1), uint64(q.most))))
		if limit = max(limit, min(1-done[i], 1)); limit <= 0 {
			return
		}
		more, n := q.work(limit)
		said[i] = append(said[i], more...)
		done[i] += n
		left -= min(left, uint64(n)*q.weight)
		if n >= limit && done[i] < q.most {
			waiting = append(waiting, i)
		}
	}
	for i := range queues {
		do(i, part)
	}
	again := waiting
	waiting = nil
	for k := range again {
		do(again[(turn+k)%len(again)], left)
	}
	for _, s := range said {
		events = append(events, s...)
	}
	return events
}

// ahead reads what will be asked for into what the block knows of its parent.
func (r *run) ahead(keys [][]byte) {
	type found struct {
		value []byte
		ok    bool
	}
	list := make([]found, len(keys))
	readAll(keys, func(i int) {
		if !r.block.Knows(keys[i]) {
			list[i].value, list[i].ok = r.parent.Get(keys[i])
		}
	})
	r.block.Reserve(len(keys))
	for i, key := range keys {
		r.block.Learn(key, list[i].value, list[i].ok)
	}
}
