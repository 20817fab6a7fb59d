package settlement

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/state"
)

// behind is up to which time the queues of this package were worked off, for those in which
// the last block left something: what came before that is gone.
type behind struct {
	_        struct{} `cbor:",toarray"`
	Orders   uint64   // 0: nothing is left from before the last block
	Leases   uint64
	Channels uint64

	Draws     uint64 // heights
	Deadlines uint64
	Marks     uint64
}

func behindKey() []byte { return keyOf(kindBehind) }

// queue is one of this package: entries begin with a time.
type queue struct {
	kind  byte
	place func(*behind) *uint64
	last  uint64 // the time of the block before: what was due by then was due in it
	now   uint64 // what is due: entries up to and with this
}

func expiries(env *Env) queue {
	// An order is over once its millisecond has passed.
	return queue{kindExpiry, func(b *behind) *uint64 { return &b.Orders }, before(uint64(env.Last)), before(uint64(env.Now))}
}

func leaseEnds(env *Env) queue {
	return queue{kindLeaseEnd, func(b *behind) *uint64 { return &b.Leases }, uint64(env.Last), uint64(env.Now)}
}

func channelEnds(env *Env) queue {
	return queue{kindChannelEnd, func(b *behind) *uint64 { return &b.Channels }, before(env.LastProgressMs), before(env.ProgressMs)}
}

func draws(env *Env) queue {
	return queue{kindDraw, func(b *behind) *uint64 { return &b.Draws }, before(uint64(env.Height)), uint64(env.Height)}
}

func deadlines(env *Env) queue {
	return queue{kindDeadline, func(b *behind) *uint64 { return &b.Deadlines }, before(env.LastProgressMs), before(env.ProgressMs)}
}

func markEnds(env *Env) queue {
	return queue{kindMarkEnd, func(b *behind) *uint64 { return &b.Marks }, before(env.LastProgressMs), before(env.ProgressMs)}
}

func before(ms uint64) uint64 { return max(ms, 1) - 1 }

// due returns the keys of what is due in a queue, the oldest first and at most limit, and
// the first beyond, nil if there is none. The search begins where the last block's ended: it
// does not walk over all that was ever deleted.
func (q queue) due(kv state.KV, limit int) (list [][]byte, beyond []byte) {
	for key := range kv.Iterate(keyOf(q.kind, big(q.from(kv))), keyOf(q.kind, big(q.now+1))) {
		if len(list) == limit {
			return list, key
		}
		list = append(list, key)
	}
	return list, nil
}

// from is the time from which on something may be left in a queue.
func (q queue) from(r state.Reader) uint64 {
	at, _ := state.Load[behind](r, behindKey()) // none: nothing is behind
	if left := *q.place(&at); left != 0 {
		return left
	}
	return q.last
}

// leave notes the first of the entries that are due and wait for the next block; nil: none
// does.
func (q queue) leave(kv state.KV, first []byte) {
	at, _ := state.Load[behind](kv, behindKey()) // none: nothing is behind
	was := at
	*q.place(&at) = 0
	if first != nil {
		*q.place(&at) = max(timeIn(first), 1)
	}
	switch {
	case at == was:
	case at == (behind{}):
		kv.Delete(behindKey())
	default:
		state.Save(kv, behindKey(), at)
	}
}

// timeIn is the time that follows the kind in a key of a queue.
func timeIn(key []byte) uint64 { return binary.BigEndian.Uint64(key[2:]) }
