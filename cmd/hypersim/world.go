package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

// cast is the validators of every simulation of a command: keys and committee.
type cast struct {
	keys      []crypto.PrivateKey
	committee *consensus.Committee
}

func newCast(n int) (*cast, error) {
	c := &cast{}
	var members []consensus.Validator
	for i := range n {
		var seed [crypto.SeedSize]byte
		binary.BigEndian.PutUint32(seed[:], uint32(i+1))
		key := crypto.PrivateKeyFromSeed(seed)
		c.keys = append(c.keys, key)
		members = append(members, consensus.Validator{Key: key.Public(), Weight: 1, LeaderWeight: 1})
	}
	var err error
	c.committee, err = consensus.NewCommittee(1, members)
	return c, err
}

// plan is what a simulation shall do. All seeds of a command share it.
type plan struct {
	cast   *cast
	views  consensus.View
	faults faults
	trace  io.Writer // every event and effect, or nil

	// Mutations, for the tests that show what the checks catch.
	skipSync bool // half of the log's syncs are left out
	traitors int  // exactly so many, if a fault is Byzantine; 0: up to a third, drawn
}

// outcome is what a simulation showed.
type outcome struct {
	seed     uint64
	views    consensus.View
	finality []time.Duration // from a block's proposal to its finalization, at each honest validator
	failure  string          // what was violated and when; empty: nothing
	evidence int             // pairs of votes of traitors that were reported
	crashes  int
	traffic  sim.Traffic
}

// world is validators in simulated time. Every delay, loss and crash is drawn
// from the seed.
type world struct {
	plan       plan
	out        outcome
	rand       *sim.Rand
	clock      *sim.Clock
	network    *sim.Network
	validators []*validator
	witness    witness
	proposed   map[crypto.Digest]time.Duration // looked up by digest
	storm      faults
	closing    bool // faults are over: everybody has to get to the goal
	goal       int  // height
	deadline   time.Duration
}

const (
	// A storm is a time with faults; the weather is fair between storms.
	stormMin, stormMax = 200 * ms, 1500 * ms
	fairMin, fairMax   = 20 * ms, 800 * ms
	// The promises of liveness: how long a view may take on average with
	// storms, and how long all honest validators may need for so many blocks
	// more after the last one.
	patiencePerView = 10 * time.Second
	recovery        = 20 * time.Second
	recoveryHeights = 5
)

// simulate runs one seed to the end of its views, or to the first violation. It
// returns an error if the context ends first.
func simulate(ctx context.Context, p plan, seed uint64) (outcome, error) {
	rand := sim.NewRand(seed)
	n := len(p.cast.keys)
	w := &world{
		plan: p, out: outcome{seed: seed}, rand: rand, clock: sim.NewClock(), proposed: map[crypto.Digest]time.Duration{},
		deadline: recovery + time.Duration(p.views)*patiencePerView,
	}
	w.network = sim.NewNetwork(w.clock, rand.Fork(), n)
	w.witness = newWitness(n)
	for i := range n {
		w.validators = append(w.validators, newValidator(w, consensus.Signer(i)))
	}
	for range w.drawTraitors() {
		i := rand.Below(n)
		for w.validators[i].traitor {
			i = (i + 1) % n
		}
		w.validators[i].traitor = true
		w.validators[i].silent = w.plan.faults&faultEquivocate == 0 || w.plan.faults&faultSilent != 0 && rand.Below(2) == 0
	}
	for _, v := range w.validators {
		switch {
		case v.silent:
		case w.plan.faults&faultCrash != 0:
			w.clock.After(rand.Between(0, 100*ms), v.start)
		default:
			w.clock.After(0, v.start)
		}
	}
	w.fair()
	err := w.run(ctx)
	w.out.traffic = w.network.Traffic()
	return w.out, err
}

// drawTraitors returns how many validators are Byzantine.
func (w *world) drawTraitors() int {
	switch {
	case w.plan.faults&byzantine == 0:
		return 0
	case w.plan.traitors > 0:
		return min(w.plan.traitors, len(w.validators))
	}
	return w.rand.Below((len(w.validators)-1)/3 + 1)
}

func (w *world) run(ctx context.Context) error {
	for steps := 0; w.out.failure == ""; steps++ {
		if steps%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case !w.closing && w.out.views >= w.plan.views:
			w.close()
		case w.closing && w.height() >= w.goal:
			return nil
		case w.clock.Now() > w.deadline:
			w.failf("liveness: %s", w.standing())
		case !w.clock.Step():
			w.failf("liveness: nothing is left to happen")
		}
	}
	return nil
}

// fair ends a storm and awaits the next.
func (w *world) fair() {
	w.storm = 0
	w.network.SetWeather(fairWeather())
	w.network.Partition(nil)
	for _, v := range w.validators {
		v.dieIn = 0
	}
	if !w.closing && w.plan.faults&^byzantine != 0 {
		w.clock.After(w.rand.Between(fairMin, fairMax), w.brew)
	}
}

// brew begins a storm of some of the plan's faults.
func (w *world) brew() {
	if w.closing {
		return
	}
	w.storm = w.plan.faults.draw(w.rand) &^ byzantine
	w.tracef("storm: %s", w.storm)
	w.network.SetWeather(w.storm.weather(w.rand))
	if w.storm&faultPartition != 0 {
		w.network.Partition(sides(w.rand, len(w.validators)))
	}
	if w.storm&faultCrash != 0 {
		for _, v := range w.validators {
			v.mayDie()
		}
	}
	w.clock.After(w.rand.Between(stormMin, stormMax), func() {
		if !w.closing {
			w.fair()
		}
	})
}

// close ends the faults; from here all honest validators must go on together.
func (w *world) close() {
	w.closing = true
	w.fair()
	top := 0
	for _, v := range w.honest() {
		top = max(top, v.height())
	}
	w.goal, w.deadline = top+recoveryHeights, w.clock.Now()+recovery
	w.tracef("the faults are over; height %d is due by %v", w.goal, w.deadline)
}

func (w *world) honest() []*validator {
	var out []*validator
	for _, v := range w.validators {
		if !v.traitor {
			out = append(out, v)
		}
	}
	return out
}

// height is the lowest durable height of an honest validator.
func (w *world) height() int {
	least := -1
	for _, v := range w.honest() {
		if h := v.height(); least < 0 || h < least {
			least = h
		}
	}
	return max(least, 0)
}

// standing says where everybody is.
func (w *world) standing() string {
	text := fmt.Sprintf("at %d of %d views, height %d wanted", w.out.views, w.plan.views, w.goal)
	for _, v := range w.validators {
		text += fmt.Sprintf("; validator %d: ", v.index)
		if v.core == nil {
			text += "crashed"
			continue
		}
		f, _ := v.core.LastFinalized()
		text += fmt.Sprintf("view %d, finalized view %d, height %d, behind %t", v.core.View(), f, v.height(), v.core.Behind())
	}
	return text
}

// failf records a violation; the first ends the simulation.
func (w *world) failf(format string, args ...any) {
	if w.out.failure == "" {
		w.out.failure = fmt.Sprintf("%v: %s", w.clock.Now(), fmt.Sprintf(format, args...))
		w.tracef("VIOLATION: "+format, args...)
	}
}

// tracef writes a line of the trace. Arguments are made into text only if
// there is a trace: pass values that print themselves.
func (w *world) tracef(format string, args ...any) {
	if w.plan.trace != nil {
		fmt.Fprintf(w.plan.trace, "%12.3f ms  %s\n", float64(w.clock.Now())/float64(ms), fmt.Sprintf(format, args...))
	}
}

// reached notes that an honest validator is in the view.
func (w *world) reached(v consensus.View) { w.out.views = max(w.out.views, v) }

// finalized notes that an honest validator finalized a block.
func (w *world) finalized(v *validator, b consensus.Block) {
	if other, ok := w.witness.finalized(b); !ok {
		w.failf("agreement: validator %d finalizes %s at height %d, where %s is final", v.index, b.Digest.Short(), b.Height, other.Short())
	}
	if at, ok := w.proposed[b.Digest]; ok {
		w.out.finality = append(w.out.finality, w.clock.Now()-at)
	}
}
