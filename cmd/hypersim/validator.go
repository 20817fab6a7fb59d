package main

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/sim"
)

// validator drives one core through simulated time: it performs effects in
// their order, and may die between any two of them, before a write, between a
// write and its sync, and after it.
type validator struct {
	world   *world
	index   consensus.Signer
	traitor bool // Byzantine
	silent  bool // a traitor that never starts
	rand    *sim.Rand
	disk    *sim.Disk
	log     *sim.File
	blocks  *sim.File
	dieIn   int // crash at this one of the points to come; 0: never

	// Of the present life. A crashed validator has no core.
	life    *sim.Life
	core    *consensus.Core
	app     *application
	wakeAt  consensus.Micros // the wake that is scheduled; 0: none
	writing bool             // a finalized block is on its way to the disk
	asked   int              // the peer whose ancestry is awaited
	askedAt uint64           // and the height from which
}

const (
	buildMax    = 10 * ms
	verifyMax   = 5 * ms
	writeMax    = 20 * ms
	restartMin  = 5 * ms
	restartMax  = 500 * ms
	crashPoints = 60 // a crash comes at one of so many points
	catchUpTick = 500 * ms
	// One of so many finalized blocks has the log rewritten.
	rewriteOneIn = 16
	retention    = 8
)

func newValidator(w *world, index consensus.Signer) *validator {
	v := &validator{world: w, index: index, rand: w.rand.Fork()}
	v.disk = sim.NewDisk(v.rand.Fork())
	v.log, v.blocks = v.disk.Open(), v.disk.Open()
	return v
}

// mayDie lets the validator crash soon, or not.
func (v *validator) mayDie() {
	if v.rand.Below(2) == 0 {
		v.dieIn = 1 + v.rand.Below(crashPoints)
	}
}

// start begins a life on what the disk holds.
func (v *validator) start() {
	app, err := openApplication(v.blocks)
	if err != nil {
		v.world.failf("validator %d: %v", v.index, err)
		return
	}
	core, err := consensus.Restore(consensus.Config{
		ChainID: chainID, Committee: v.world.plan.cast.committee, Start: genesis,
		Key: v.world.plan.cast.keys[v.index], Timing: consensus.DefaultTiming(), Retention: retention, Fresh: true,
	}, app.floor(), v.log.Records())
	if err != nil {
		v.world.failf("validator %d: %v", v.index, err)
		return
	}
	v.life, v.core, v.app = v.world.clock.NewLife(), core, app
	v.wakeAt, v.writing, v.askedAt = 0, false, 0
	v.world.network.Listen(int(v.index), v.receive)
	if v.world.storm&faultCrash != 0 {
		v.mayDie()
	}
	v.step(consensus.Start{})
	if v.core != nil {
		v.life.After(v.rand.Between(0, catchUpTick), v.catchUp)
	}
}

// survives reports whether the validator lives on at a point where it may die.
func (v *validator) survives() bool {
	if v.dieIn == 0 {
		return true
	}
	if v.dieIn--; v.dieIn > 0 {
		return true
	}
	v.world.tracef("validator %d crashes", v.index)
	v.world.out.crashes++
	v.world.network.Listen(int(v.index), nil)
	v.life.End()
	v.core, v.app = nil, nil
	v.disk.Crash()
	v.world.clock.After(v.rand.Between(restartMin, restartMax), v.start)
	return false
}

// step runs the core on an event and performs what it asks for.
func (v *validator) step(ev consensus.Event) {
	v.world.tracef("validator %d: %v", v.index, shownEvent{ev})
	effects := v.run(ev)
	for i, e := range effects {
		v.world.tracef("validator %d:     %v", v.index, shownEffect{e})
		if _, isAppend := e.(consensus.Append); isAppend && i > 0 {
			v.world.failf("contract: validator %d: an append that is not the first effect", v.index)
		}
		if !v.survives() || !v.perform(e) {
			return
		}
	}
	if !v.traitor {
		v.world.reached(v.core.View())
	}
	if _, ok := ev.(consensus.Durable); ok && v.rand.Below(rewriteOneIn) == 0 {
		v.log.Replace(v.core.Snapshot())
		if !v.survives() {
			return
		}
		v.sync()
	}
	v.scheduleWake()
}

// run calls the core. A panic is an invariant that the core found broken.
func (v *validator) run(ev consensus.Event) (effects []consensus.Effect) {
	defer func() {
		if broken := recover(); broken != nil {
			v.world.failf("validator %d: %v", v.index, broken)
		}
	}()
	return v.core.Step(consensus.Input{Now: consensus.Micros(v.world.clock.Now() / time.Microsecond), Event: ev})
}

func (v *validator) scheduleWake() {
	at, ok := v.core.Deadline()
	if !ok || at == v.wakeAt {
		return
	}
	v.wakeAt = at
	v.life.After(max(time.Duration(at)*time.Microsecond-v.world.clock.Now(), time.Microsecond), func() {
		if v.wakeAt == at {
			v.wakeAt = 0
			v.step(consensus.Wake{})
		}
	})
}

func (v *validator) sync() {
	if !v.world.plan.skipSync || v.rand.Below(2) == 0 {
		v.log.Sync()
	}
}

// perform does one effect and reports whether the validator survived it.
func (v *validator) perform(e consensus.Effect) bool {
	switch e := e.(type) {
	case consensus.Append:
		v.log.Append(e.Records...)
		if !v.survives() {
			return false
		}
		v.sync()
	case consensus.Broadcast:
		v.broadcast(e.Message)
	case consensus.Ask:
		v.send(int(e.To), e.Request)
	case consensus.Build:
		wait := v.rand.Between(0, buildMax)
		if e.Idle > 0 && v.rand.Below(2) == 0 {
			wait = time.Duration(e.Idle) * time.Microsecond
		}
		v.life.After(wait, func() { v.build(e) })
	case consensus.Check:
		v.check(e)
	case consensus.CancelBuild, consensus.CancelCheck: // the answer comes all the same
	case consensus.Commit:
		v.commit(e.Blocks, e.Certificate)
	case consensus.Evidence:
		v.world.out.evidence++
		guilty, err := e.Convict(v.world.plan.cast.committee, chainID)
		if err != nil {
			v.world.failf("evidence without proof: %v: %v", e, err)
		}
		for _, by := range guilty {
			if !v.world.validators[by].traitor {
				v.world.failf("evidence against honest validator %d: %v", by, e)
			}
		}
	case consensus.Halt:
		v.world.failf("validator %d halts: %s", v.index, e.Reason)
	case consensus.BlameSigner:
		v.world.failf("validator %d blames signer %d: %s", v.index, e.Signer, e.Reason)
	case consensus.BlamePeer:
		v.world.failf("validator %d blames peer %s: %s", v.index, e.Peer.Short(), e.Reason)
	}
	return true
}

func (v *validator) build(k consensus.Build) {
	b, err := v.app.build(k, v.rand)
	if err != nil {
		v.world.failf("contract: validator %d: build in view %d: %v", v.index, k.Round.View, err)
		return
	}
	v.world.proposed[b.Digest] = v.world.clock.Now()
	v.step(consensus.Built{Round: k.Round, Block: b})
}

func (v *validator) check(k consensus.Check) {
	b, ok := v.core.Block(k.Proposal.Digest)
	if !ok {
		v.world.failf("contract: validator %d: check in view %d: the block is not held", v.index, k.Proposal.Round.View)
	}
	v.life.After(v.rand.Between(0, verifyMax), func() {
		valid, err := v.app.verify(k, b.Payload)
		if err != nil {
			v.world.failf("contract: validator %d: check in view %d: %v", v.index, k.Proposal.Round.View, err)
			return
		}
		v.step(consensus.Checked{Check: k, Valid: valid})
	})
}

// commit takes finalized blocks from the core or from catch-up.
func (v *validator) commit(blocks []consensus.Block, certificate *consensus.Certificate) {
	_, before := v.app.head()
	v.app.finalize(blocks, certificate)
	_, after := v.app.head()
	for _, b := range blocks {
		if b.Height > before && b.Height <= after && !v.traitor {
			v.world.finalized(v, b)
		}
	}
	v.write()
}

// write has the finalized blocks written, one after the other.
func (v *validator) write() {
	if v.writing || len(v.app.queue) == 0 {
		return
	}
	v.writing = true
	v.life.After(v.rand.Between(0, writeMax), func() {
		v.app.writeNext()
		if !v.survives() {
			return
		}
		b := v.app.syncNext()
		v.writing = false
		if !v.survives() {
			return
		}
		v.step(consensus.Durable{Digest: b.Digest, Empty: b.Empty})
		if v.core != nil {
			v.write()
		}
	})
}

// height is the number of durable blocks; a crashed validator's are on its disk
// too, but it has none until it starts.
func (v *validator) height() int {
	if v.app == nil {
		return 0
	}
	return len(v.app.chain)
}

func (v *validator) send(to int, m consensus.Message) {
	packet := append([]byte{byte(m.Channel())}, consensus.EncodeMessage(m)...)
	v.world.network.Send(int(v.index), to, packet)
}

func (v *validator) broadcast(m consensus.Message) {
	if v.traitor {
		v.betray(m)
		return
	}
	if vote, ok := voteIn(m); ok && !v.world.witness.vote(vote) {
		v.world.failf("slashable: honest validator %d signed %q beside another vote", v.index, vote.Statement())
	}
	packet := append([]byte{byte(m.Channel())}, consensus.EncodeMessage(m)...)
	for to := range v.world.validators {
		if to != int(v.index) {
			v.world.network.Send(int(v.index), to, packet)
		}
	}
}

// voteIn returns the vote that a broadcast message carries.
func voteIn(m consensus.Message) (consensus.Vote, bool) {
	if offer, ok := m.(consensus.Offer); ok {
		return offer.Vote, true
	}
	vote, ok := m.(consensus.Vote)
	return vote, ok
}

// receive takes a packet as the engine takes a message: what is decoded goes to
// the core, requests are answered. Nobody sends malformed packets here.
func (v *validator) receive(from int, packet []byte) {
	m, err := consensus.DecodeMessage(consensus.Channel(packet[0]), packet[1:])
	if err == nil {
		err = v.accept(from, m)
	}
	if err != nil {
		v.world.failf("validator %d receives from %d: %v", v.index, from, err)
	}
}

func (v *validator) accept(from int, m consensus.Message) error {
	switch m := m.(type) {
	case consensus.Vote:
		if by, _ := m.By(); int(by) != from {
			return fmt.Errorf("a vote of signer %d", by)
		}
		if v.traitor {
			v.agree(from, m)
		}
		v.step(consensus.VoteReceived{Vote: m})
	case consensus.Offer:
		b, err := inspect(m.Payload)
		if err != nil {
			return err
		}
		v.step(consensus.OfferReceived{Vote: m.Vote, Block: b})
	case *consensus.Certificate:
		v.step(consensus.CertificateReceived{From: v.world.plan.cast.keys[from].Public(), Certificate: m})
	case consensus.BlockAnswer:
		b, err := inspect(m.Payload)
		if err != nil {
			return err
		}
		v.step(consensus.BlockReceived{Block: b})
	case consensus.Delegation: // nobody has a sentry here
	case consensus.CertificateRequest:
		if certificate := v.core.Answer(m); certificate != nil {
			v.send(from, certificate)
		}
	case consensus.BlockRequest:
		b, ok := v.core.Block(m.Digest)
		if !ok {
			b, ok = v.app.durable(m.Digest)
		}
		if ok {
			v.send(from, consensus.BlockAnswer{Payload: b.Payload})
		}
	case consensus.AncestryRequest:
		v.send(from, v.app.ancestry(m.From))
	case consensus.Ancestry:
		return v.takeAncestry(from, m)
	}
	return nil
}

// catchUp asks a peer for finalized blocks above the own ones, in turn, while
// the core misses some.
func (v *validator) catchUp() {
	if v.core.Behind() && len(v.world.validators) > 1 {
		v.asked = (v.asked + 1) % len(v.world.validators)
		if v.asked == int(v.index) {
			v.asked = (v.asked + 1) % len(v.world.validators)
		}
		_, height := v.app.head()
		v.askedAt = height + 1
		v.send(v.asked, consensus.AncestryRequest{From: v.askedAt})
	}
	v.life.After(catchUpTick, v.catchUp)
}

// takeAncestry passes on each run of blocks that a certificate proves: to the
// core the certificate, so that it is in the log before the blocks are on the
// disk, then the blocks.
func (v *validator) takeAncestry(from int, a consensus.Ancestry) error {
	if from != v.asked || a.From != v.askedAt {
		return nil // late, or a second time
	}
	v.askedAt = 0
	var run []consensus.Block
	for _, p := range a.Blocks {
		b, err := inspect(p.Payload)
		if err != nil {
			return err
		}
		run = append(run, b)
		if len(p.Certificate) == 0 {
			continue
		}
		certificate, err := consensus.DecodeCertificate(p.Certificate)
		if err == nil {
			err = certificate.Verify(v.world.plan.cast.committee, chainID)
		}
		if err != nil {
			return err
		}
		v.step(consensus.CertificateReceived{From: v.world.plan.cast.keys[from].Public(), Certificate: certificate})
		if v.core == nil {
			return nil
		}
		v.commit(run, certificate)
		run = nil
	}
	return nil
}
