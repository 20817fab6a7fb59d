package settlement

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// DrawDelay is how many blocks after what was committed to a draw on it is made: with the
// VRF outputs of so many leaders, of which those who collude know but their own before.
const DrawDelay = 8

// part is what of this package a draw or a deadline is of: its key's kind.
type part byte

// The parts.
const (
	partPanel    part = kindPanel
	partRuns     part = kindRuns
	partService  part = kindService
	partHardware part = kindHardware
)

// queueDraw has a part's draw on id made DrawDelay blocks from now.
func queueDraw(kv state.KV, env *Env, of part, id crypto.Digest) {
	kv.Set(drawKey(env.Height+DrawDelay, of, id), []byte{})
}

// DrawsWait reports whether a draw is queued in the state after a height: blocks are to
// follow each other until it is made.
func DrawsWait(r state.Reader, height chain.Height) bool {
	at, _ := state.Load[behind](r, behindKey()) // none: nothing is behind
	from := at.Draws
	if from == 0 {
		from = uint64(height) + 1
	}
	for range r.Iterate(keyOf(kindDraw, big(from)), keyOf(kindDraw+1)) {
		return true
	}
	return false
}

// RunDraws makes the draws that are due, the oldest first and at most limit of them; the
// rest waits for the next block. It returns how many there were, too.
func RunDraws(kv state.KV, env *Env, limit int) (chain.Events, int) {
	return draws(env).run(kv, limit, func(of part, id crypto.Digest) chain.Events { return of.draw(kv, env, id) })
}

// run takes what is due out of a queue of parts, and has it done. What one entry's part
// takes back of those after it is not due any more.
func (q queue) run(kv state.KV, limit int, do func(part, crypto.Digest) chain.Events) (events chain.Events, n int) {
	keys, beyond := q.due(kv, limit)
	for _, key := range keys {
		if _, ok := kv.Get(key); !ok {
			continue
		}
		kv.Delete(key)
		events = append(events, do(partOf(key))...)
	}
	q.leave(kv, beyond)
	return events, len(keys)
}

// queueDeadline has a part be told when the chain has progressed by afterMs, and returns
// when that is.
func queueDeadline(kv state.KV, env *Env, afterMs uint64, of part, id crypto.Digest) uint64 {
	at, ok := checked.Add(env.ProgressMs, afterMs)
	if !ok {
		panic("settlement: a deadline beyond time")
	}
	kv.Set(deadlineKey(at, of, id), []byte{})
	return at
}

// dropDeadline takes back what queueDeadline queued.
func dropDeadline(kv state.KV, at uint64, of part, id crypto.Digest) {
	kv.Delete(deadlineKey(at, of, id))
}

// RunDeadlines tells the parts whose deadlines have passed, the oldest first and at most
// limit of them; the rest waits for the next block. It returns how many there were, too.
func RunDeadlines(kv state.KV, env *Env, limit int) (chain.Events, int) {
	return deadlines(env).run(kv, limit, func(of part, id crypto.Digest) chain.Events { return of.due(kv, env, id) })
}

func partOf(key []byte) (part, crypto.Digest) {
	key = key[len(key)-crypto.DigestSize-1:]
	return part(key[0]), crypto.Digest(key[1:])
}

// seed is what the draws on id are made with in this block; round tells several apart.
func (env *Env) seed(of part, id crypto.Digest, round uint8) crypto.Digest {
	data := append(env.Mix[:], byte(of), round)
	return crypto.DomainDraw.Hash(append(binary.BigEndian.AppendUint64(data, uint64(env.Height)), id[:]...))
}

// draw makes the draw of a part on id.
func (of part) draw(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	switch of {
	case partOptimistic:
		return optimisticDraw(kv, env, id)
	case partPanel:
		return panelDrawn(kv, env, id)
	case partService:
		return serviceDrawn(kv, env, id)
	case partRuns:
		return runsDrawn(kv, env, id)
	case partHardware:
		return hardwareDrawn(kv, env, crypto.PublicKey(id))
	case partBreach: // draws nothing
	}
	panic("settlement: a draw of a part that draws nothing")
}

// due tells a part that the deadline of id has passed.
func (of part) due(kv state.KV, env *Env, id crypto.Digest) chain.Events {
	switch of {
	case partPanel:
		return panelDue(kv, env, id)
	case partOptimistic:
		return optimisticDue(kv, env, id)
	case partRuns:
		return runsDue(kv, env, id)
	case partHardware:
		return hardwareDue(kv, crypto.PublicKey(id))
	case partBreach:
		return breachDue(kv, env, crypto.PublicKey(id))
	case partService: // has none
	}
	panic("settlement: a deadline of no part")
}
