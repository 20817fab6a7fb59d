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
	partFormer   part = kindFormer // a service, before a resize
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

// A queue of parts is limited by what the dearest of its entries takes: others are a share of
// that, so that what is cheap to do, and cheap to queue, holds up nobody's panel. A share is of
// about a tenth of a millisecond.
const (
	drawShares     = 10
	deadlineShares = 18

	lotShares    = 2 // whether a claim is audited, which one in sixteen is at most
	panelShares  = 7 // a panel of three
	checkShares  = 5 // an auditor, or who checks runs
	peerShares   = 5 // five peers
	windowShares = 3 // the end of one in which nobody challenged a claim: it is paid
	judgedShares = 5 // and of one in which nobody appealed; of an auditor's time, and of three jurors'
	breachShares = 8 // some of those who lost by it are paid
)

// Queued is what something puts into the queues of draws and deadlines.
type Queued struct{ draws, deadlines int }

// What messages put there, and what draws of it put there in turn, as long as all who are drawn
// do their part: whoever is silent, or wrong, loses a stake for what that adds.
var (
	QueuedByClaim     = Queued{lotShares, windowShares} // under PolicyOptimistic
	QueuedByChallenge = Queued{panelShares, judgedShares}
	QueuedByAppeal    = Queued{drawShares, 0} // what was judged is paid for
)

// QueuedByRuns is that of an order under PolicyReplicate which so many nodes bid for: the draw of the
// roll, as many of bidders as there may be, the ends of what those are given, and that of the check. Bidders
// who never come lose nothing: the order pays for the rounds that they cost. One that asks for less than runs stake at least pays
// for the panels, too.
func QueuedByRuns(bids int, p chain.PolicyReplicate) Queued {
	rounds := max(min(bids, int(p.N), maxRounds)-1, 0)
	draws := runShares(bids) + checkShares
	if p.K > 2 { // the roll is asked after them, and may be in each
		draws *= 1 + rounds
	} else {
		draws += rounds * runShares(bids)
	}
	if p.Stake.Less(leastStake) {
		draws += panelShares + drawShares
	}
	return Queued{draws, max(rounds, 1)*runShares(bids) + judgedShares}
}

// Weight is what it takes, if the dearest draw and the dearest deadline take so much.
func (q Queued) Weight(draw, deadline uint64) uint64 {
	up := func(shares int, whole, of uint64) uint64 { return (uint64(shares)*whole + of - 1) / of }
	return up(q.draws, draw, drawShares) + up(q.deadlines, deadline, deadlineShares)
}

// RunDraws makes the draws that are due, the oldest first and as many as take what limit of
// the dearest do at most; the rest waits for the next block. It returns how many of those that
// came to, too.
func RunDraws(kv state.KV, env *Env, limit int) (chain.Events, int) {
	return draws(env).run(kv, limit*drawShares, drawShares, func(of part, id crypto.Digest) (int, func() chain.Events) {
		return of.drawShare(kv, env, id), func() chain.Events { return of.draw(kv, env, id) }
	})
}

// run takes what is due out of a queue of parts, as long as there is room for its shares, and
// has it done. What one entry's part takes back of those after it is not due any more.
func (q queue) run(kv state.KV, room, whole int, entry func(part, crypto.Digest) (int, func() chain.Events)) (events chain.Events, n int) {
	keys, beyond := q.due(kv, room) // each takes one share at least
	used := 0
	for _, key := range keys {
		share, do := 1, func() chain.Events { return nil }
		_, ok := kv.Get(key)
		if ok {
			share, do = entry(partOf(key))
		}
		if used > 0 && used+share > room {
			beyond = key
			break
		}
		if used += share; ok {
			kv.Delete(key)
			events = append(events, do()...)
		}
	}
	q.leave(kv, beyond)
	return events, (used + whole - 1) / whole
}

// drawShare is what a part's draw on id takes.
func (of part) drawShare(kv state.KV, env *Env, id crypto.Digest) int {
	switch of {
	case partOptimistic:
		switch o, ok := OpenClaimOf(kv, id); {
		case !ok || o.Draw == 0 || env.Height < o.Draw:
			return 1 // another draw took its place
		case o.Stage == InDispute:
			return panelShares
		case o.Stage == InAppeal:
			return drawShares
		case o.Stage == InWindow && o.Audits == 0:
			return lotShares
		default:
			return checkShares // or the claim is paid
		}
	case partService:
		return peerShares
	case partHardware:
		return 8
	case partRuns:
		switch runs, ok := RunsOf(kv, id); {
		case ok && runs.Stage == StageDraw && runs.Check == Undrawn:
			return runs.share() + checkShares
		case ok && runs.Stage == StageDraw:
			return runs.share()
		case ok && runs.Stage == StagePanelDraw && !runs.Raised:
			return panelShares
		}
	case partPanel, partBreach, partFormer:
	}
	return drawShares
}

// dueShare is what telling a part of the deadline of id takes.
func (of part) dueShare(kv state.KV, id crypto.Digest) int {
	switch of {
	case partOptimistic:
		switch o, ok := OpenClaimOf(kv, id); {
		case ok && o.Stage == InWindow:
			return windowShares
		case ok && o.Stage == Judged:
			return judgedShares
		}
	case partPanel:
		switch p, ok := PanelAt(kv, id); {
		case ok && p.Seats <= panelSeats && !p.JudgesRuns() || p.checksRuns():
			return judgedShares
		case ok && p.Seats > panelSeats && p.JudgesRuns():
			return deadlineShares + judgedShares // thirteen who voted, beside the runs
		}
	case partHardware:
		if h, _ := HardwareOf(kv, crypto.PublicKey(id)); len(h.Words) > 0 {
			return 3 + len(h.Words) // each may be slashed, and the node
		}
		return 1
	case partService, partFormer:
		return 3 // it pays one provider
	case partRuns:
		if runs, ok := RunsOf(kv, id); ok {
			return runs.share()
		}
	case partBreach:
		return breachShares
	}
	return deadlineShares
}

// share is what a stage of runs takes that no panel judges: asking for them, or paying them and jurors, of which a run takes
// as much as two that are asked.
func (r *Runs) share() int {
	if r.Stage == StageOwed {
		return runShares(2*len(r.Runs) + len(r.Jurors))
	}
	return runShares(len(r.Slate) + len(r.Runs))
}

func runShares(nodes int) int { return 1 + (nodes+3)/4 }

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

// RunDeadlines tells the parts whose deadlines have passed, the oldest first, with a limit as
// that of RunDraws; the rest waits for the next block. It returns how many of the dearest they
// came to, too.
func RunDeadlines(kv state.KV, env *Env, limit int) (chain.Events, int) {
	return deadlines(env).run(kv, limit*deadlineShares, deadlineShares, func(of part, id crypto.Digest) (int, func() chain.Events) {
		return of.dueShare(kv, id), func() chain.Events { return of.due(kv, env, id) }
	})
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
	case partBreach, partFormer: // draw nothing
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
		return hardwareDue(kv, env, crypto.PublicKey(id))
	case partBreach:
		return breachDue(kv, env, crypto.PublicKey(id))
	case partService:
		return serviceDue(kv, env, id)
	case partFormer:
		return formerDue(kv, env, id)
	}
	panic("settlement: a deadline of no part")
}
