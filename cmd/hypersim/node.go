package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

// node is a process that drives one replica through simulated time, as the
// engine drives it through real time: events wait in a queue while the log is
// synced, those that waited share the next sync, and effects are performed in
// their order. It may die between any two of them.
type node struct {
	world   *world
	index   int // of the network
	who     int // of the cast; twins are two nodes of one person
	traitor *traitor
	rand    *sim.Rand
	disk    *sim.Disk
	blocks  *sim.File
	watch   *sim.Watch      // for timers
	wall    time.Duration   // how much the wall clock is ahead
	begun   consensus.Epoch // the marker beside the keys: the highest epoch whose log was begun
	doom    doom
	backup  []replica.Log                     // an old copy of the logs
	dropped replica.Log                       // the last one that was deleted
	silent  consensus.Epoch                   // it lost its logs when this epoch had begun somewhere: no vote of it or of an earlier one
	accused map[crypto.Digest]consensus.Epoch // evidence that it reported and has to report again; looked up only
	books   map[consensus.Epoch]*notebook

	// Of the present life. A crashed node has no replica.
	life    *sim.Life
	replica *replica.Replica
	app     *application
	signer  consensus.Signer // in the epoch that Enter named
	since   uint64           // chain time before which an earlier life may have signed
	queue   []replica.Event
	busy    bool
	wakeAt  consensus.Micros // the wake that is scheduled; 0: none
	height  uint64           // of the last Finalize
	blocked map[int]bool     // persons whose connection was ended; looked up only
}

const (
	buildMax    = 10 * ms
	verifyMax   = 5 * ms
	writeMax    = 10 * ms
	syncMax     = 3 * ms
	answerMax   = 2 * ms
	restartMin  = 5 * ms
	restartMax  = 500 * ms
	blockedFor  = 2 * time.Second
	maxBatch    = 64
	clockMargin = 1500 // milliseconds that clocks and block times may be wrong by
	// One of so many finalized blocks has the log rewritten, and another of so
	// many has it copied.
	rewriteOneIn = 6
	backupOneIn  = 8
	retention    = 8
)

func newNode(w *world, index, who int) *node {
	n := &node{world: w, index: index, who: who, rand: w.rand.Fork(), watch: w.clock.NewWatch(), accused: map[crypto.Digest]consensus.Epoch{}}
	n.disk = sim.NewDisk(n.rand.Fork())
	return n
}

func (n *node) honest() bool { return n.traitor == nil }

func (n *node) alive() bool { return n.replica != nil }

func (n *node) now() consensus.Micros { return consensus.Micros(n.watch.Now() / time.Microsecond) }

// wallClock is what the node takes for the time of day.
func (n *node) wallClock() time.Duration { return epochOfTime + n.world.clock.Now() + n.wall }

// epochOfTime keeps wall clocks that run behind above zero.
const epochOfTime = time.Hour

const logPrefix = "log-"

func logName(e consensus.Epoch) string { return logPrefix + strconv.FormatUint(uint64(e), 10) }

// logs returns what the disk holds of them, ascending.
func (n *node) logs() []replica.Log {
	var logs []replica.Log
	for _, name := range n.disk.Names() {
		text, isLog := strings.CutPrefix(name, logPrefix)
		if !isLog {
			continue
		}
		epoch, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic("hypersim: a log of the name " + name)
		}
		logs = append(logs, replica.Log{Epoch: consensus.Epoch(epoch), Records: n.disk.Open(name).Records()})
	}
	slices.SortFunc(logs, func(a, b replica.Log) int { return int(a.Epoch) - int(b.Epoch) })
	return logs
}

func (n *node) config() replica.Config {
	cfg := replica.DefaultConfig()
	cfg.ChainID, cfg.Keys, cfg.NodeKey = chainID, n.world.cast.people[n.who].keys, n.world.cast.people[n.who].node
	cfg.Fresh, cfg.Since, cfg.Retention = n.begun == 0, n.since, retention
	cfg.Begun = n.world.plan.mutation.marked(n.begun)
	if n.world.plan.atlas != nil {
		cfg.Verify = n.world.verify
	}
	return cfg
}

// start begins a life on what the disk holds.
func (n *node) start() {
	if n.alive() {
		return
	}
	n.blocks = n.disk.Open("blocks")
	app, err := openApplication(n.world.realm, n.blocks)
	if err != nil {
		n.failf(ruleContract, "opens its blocks: %v", err)
		return
	}
	n.since = millis(n.wallClock()) + clockMargin
	logs := n.world.plan.mutation.replayed(n.logs())
	if len(logs) > 0 && len(logs[len(logs)-1].Records) > 0 { // the crash came before the marker
		n.begun = max(n.begun, logs[len(logs)-1].Epoch)
	}
	floor := app.floor()
	floor.Reigns = n.world.plan.mutation.misled(n, floor.Reigns)
	r, err := replica.Restore(n.config(), floor, logs)
	if err != nil {
		n.failf(ruleContract, "restores: %v", err)
		return
	}
	n.life, n.replica, n.app = n.world.clock.NewLife(), r, app
	n.queue, n.busy, n.wakeAt, n.blocked = nil, false, 0, map[int]bool{}
	n.height = app.head().height
	n.reopenBooks(logs)
	n.world.network.Listen(n.index, n.receive)
	n.doom.draw(n)
	if !n.survives(pointReplayed) {
		return
	}
	n.post(replica.Start{})
	if n.alive() {
		n.post(replica.Peers{Connected: n.peers()})
	}
}

func (n *node) reopenBooks(logs []replica.Log) {
	n.books = map[consensus.Epoch]*notebook{}
	if !n.honest() {
		return
	}
	for _, l := range logs {
		n.world.witness.reopen(n.book(l.Epoch), l.Records)
		n.world.witness.survived(n.book(l.Epoch))
	}
}

// book is what the witness has read of the node's log of an epoch.
func (n *node) book(e consensus.Epoch) *notebook {
	if b := n.books[e]; b != nil {
		return b
	}
	var key crypto.PublicKey
	start := genesis
	if r := n.world.witness.reigns[e]; r != nil {
		if signer, member := r.signer(n.who); member {
			key = r.committee.Validator(signer).Key
		}
	}
	for s := n.app.head(); s != nil; s = s.before {
		if s.epoch == e {
			start = s.start
			break
		}
	}
	b := newNotebook(key, e, start)
	n.books[e] = b
	return b
}

// peers are the node keys of whom the node is connected with, ascending.
func (n *node) peers() []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, other := range n.world.nodes {
		if other.who != n.who && !n.blocked[other.who] && n.world.network.Connected(n.index, other.index) {
			out = append(out, n.world.cast.people[other.who].node)
		}
	}
	slices.SortFunc(out, crypto.PublicKey.Compare)
	return slices.Compact(out)
}

// meet tells the replica who is there, some time after that changed.
func (n *node) meet() {
	if n.alive() {
		n.life.After(n.rand.Between(0, 300*ms), func() { n.post(replica.Peers{Connected: n.peers()}) })
	}
}

// end ends a life: the machine forgets what was not synced.
func (n *node) end() {
	n.world.network.Listen(n.index, nil)
	n.life.End()
	n.replica, n.app, n.queue = nil, nil, nil
	n.disk.Crash()
}

// stop ends the process for an error, as the engine does; it is started again
// and again, until there is room on its disk.
func (n *node) stop(err error) {
	n.world.tracef("node %d stops: %v", n.index, err)
	n.world.out.stops[err.Error()]++
	n.end()
	n.world.clock.After(n.rand.Between(restartMin, restartMax), n.start)
}

func (n *node) failf(r rule, format string, args ...any) {
	if n.honest() {
		n.world.failf(r, "node %d: %s", n.index, fmt.Sprintf(format, args...))
	}
}

// post queues an event, and works off the queue unless the log is being synced.
func (n *node) post(ev replica.Event) {
	n.queue = append(n.queue, ev)
	if !n.busy {
		n.work()
	}
}

// work steps through the queue, a batch at a time.
func (n *node) work() {
	n.busy = true
	for n.alive() && len(n.queue) > 0 {
		if !n.survives(pointIdle) {
			return
		}
		batch := n.queue[:min(len(n.queue), maxBatch)]
		n.queue = n.queue[len(batch):]
		var effects []replica.Effect
		for _, ev := range batch {
			more, ok := n.step(ev)
			if !ok {
				return
			}
			effects = append(effects, more...)
		}
		order := replica.Order(effects)
		appends, others := order.Appends, order.Rest
		if !n.performAll(order.Own) {
			return
		}
		if len(appends) == 0 {
			if !n.performAll(others) {
				return
			}
			continue
		}
		if !n.append(appends) {
			return
		}
		wait := n.world.plan.syncTime(n.rand)
		if wait > 0 {
			n.life.After(wait, func() {
				if n.sync(appends) && n.performAll(others) {
					n.work()
				}
			})
			return
		}
		if !n.sync(appends) || !n.performAll(others) {
			return
		}
	}
	n.busy = false
	n.scheduleWake()
}

// step runs the replica on an event.
func (n *node) step(ev replica.Event) (effects []replica.Effect, ok bool) {
	if n.world.plan.trace != nil {
		n.world.tracef("node %d: %s", n.index, showEvent(ev))
	}
	others := false
	effects = n.run(ev)
	for _, e := range effects {
		if n.world.plan.trace != nil {
			n.world.tracef("node %d:     %s", n.index, showEffect(e))
		}
		if a, isAppend := e.(replica.Append); isAppend {
			if others {
				n.failf(ruleContract, "an append after another effect")
			}
			if n.honest() {
				n.world.witness.write(n.book(a.Epoch), a.Records)
			}
			continue
		}
		others = true
	}
	if _, begins := ev.(replica.Start); begins {
		n.remembers(effects)
	}
	return effects, n.world.out.failure == nil
}

// remembers asks of a restart that it reports all evidence of its epoch again.
func (n *node) remembers(effects []replica.Effect) {
	again := map[crypto.Digest]bool{}
	for _, e := range effects {
		if evidence, ok := e.(replica.Evidence); ok {
			again[evidenceID(evidence.Evidence)] = true
		}
	}
	for id, epoch := range n.accused { // order-free: at most the text of the failure depends on it
		if epoch == n.replica.Status().Epoch && !again[id] {
			n.failf(ruleConviction, "evidence %s of epoch %d is forgotten at a restart", id.Short(), epoch)
		}
	}
}

// run calls the replica. A panic is an invariant that it found broken.
func (n *node) run(ev replica.Event) (effects []replica.Effect) {
	defer func() {
		if broken := recover(); broken != nil {
			n.world.failf(rulePanic, "node %d: %v", n.index, broken)
		}
	}()
	return n.replica.Step(n.now(), ev)
}

func (n *node) append(appends []replica.Append) bool {
	if !n.survives(pointBeforeAppend) {
		return false
	}
	for _, a := range appends {
		fresh := len(n.disk.Open(logName(a.Epoch)).Records()) == 0
		if err := n.disk.Open(logName(a.Epoch)).Append(a.Records...); err != nil {
			n.stop(err)
			return false
		}
		if fresh && !n.survives(pointNewLog) {
			return false
		}
	}
	return n.survives(pointAppended)
}

// sync makes the logs durable. In a mutation it lies.
func (n *node) sync(appends []replica.Append) bool {
	for _, a := range appends {
		if n.world.plan.mutation.skipsSync(n) {
			continue
		}
		if err := n.disk.Open(logName(a.Epoch)).Sync(); err != nil {
			n.stop(err)
			return false
		}
		if n.honest() {
			n.world.witness.synced(n.book(a.Epoch))
		}
	}
	return n.mark(appends[len(appends)-1].Epoch) && n.survives(pointSynced)
}

// mark has the marker name the epoch, if its log is a new one.
func (n *node) mark(e consensus.Epoch) bool {
	if e > n.begun {
		if !n.survives(pointUnmarked) {
			return false
		}
		n.begun = e
	}
	return true
}

func (n *node) performAll(effects []replica.Effect) bool {
	for _, e := range effects {
		if !n.perform(e) || !n.survives(pointBetween) {
			return false
		}
	}
	n.world.observe(n)
	return n.world.out.failure == nil
}

// perform does one effect and reports whether the node survived it.
func (n *node) perform(e replica.Effect) bool {
	switch e := e.(type) {
	case replica.Append:
	case replica.DropLog:
		n.dropped = replica.Log{Epoch: e.Epoch, Records: n.disk.Open(logName(e.Epoch)).Synced()}
		n.disk.Remove(logName(e.Epoch))
		delete(n.books, e.Epoch)
		return n.survives(pointDropped)
	case replica.Broadcast:
		m := n.world.plan.mutation.twisted(n, e.Message)
		n.leave(m)
		n.broadcast(m)
	case replica.Send:
		n.leave(e.Message)
		n.sendTo(e.To, e.Message)
	case replica.Relay:
		n.leave(e.Message)
		for _, to := range e.To {
			n.sendTo(to, e.Message)
		}
	case replica.Places: // whoever is up is connected
	case replica.Build:
		n.build(e)
	case replica.Check:
		n.check(e)
	case replica.CancelBuild, replica.CancelCheck: // the answer comes all the same
	case replica.Finalize:
		n.finalize(e)
	case replica.Lookup:
		n.life.After(n.rand.Between(0, answerMax), func() { n.lookup(e) })
	case replica.Blame:
		n.blame(e)
	case replica.Evidence:
		n.accused[evidenceID(e.Evidence)] = e.Round().Epoch
		n.world.accuse(n, e.Evidence)
	case replica.Enter:
		n.signer, _ = e.Reign.Committee.IndexOf(n.book(e.Reign.Committee.Epoch()).key)
	case replica.Halt:
		n.failf(ruleHalt, "halts: %s", e.Reason)
	}
	return true
}

func (n *node) scheduleWake() {
	at, ok := n.replica.Deadline()
	if !ok || at == n.wakeAt {
		return
	}
	n.wakeAt = at
	wait := n.watch.Until(time.Duration(min(at, 1<<40)) * time.Microsecond)
	n.life.After(max(wait, time.Microsecond), func() {
		if n.wakeAt == at {
			n.wakeAt = 0
			n.post(replica.Wake{})
		}
	})
}

// jump moves the node's clocks.
func (n *node) jump(watch, wall time.Duration) {
	n.watch.Jump(watch)
	n.wall += wall
	if n.alive() && !n.busy {
		n.wakeAt = 0
		n.scheduleWake()
	}
}

func (n *node) build(k replica.Build) {
	wait := n.world.plan.buildTime(n.rand)
	if k.Idle > 0 && n.rand.Below(2) == 0 {
		wait = time.Duration(k.Idle) * time.Microsecond
	}
	n.life.After(wait, func() {
		if n.world.plan.faults != 0 && n.rand.Below(200) == 0 {
			n.post(replica.BuildFailed{Round: k.Round})
			return
		}
		empty := n.rand.Below(3) == 0 && !n.world.plan.busy
		b, err := n.app.build(toyBlock{Epoch: k.Round.Epoch, View: k.Round.View, Parent: k.ParentDigest, Salt: n.rand.Uint64(), Empty: empty}, n.wallClock())
		if err != nil {
			n.failf(ruleContract, "build in view %d: %v", k.Round.View, err)
			return
		}
		n.world.proposed[b.Digest] = n.world.clock.Now()
		n.world.witness.block(b)
		n.post(replica.Built{Round: k.Round, Block: b})
	})
}

func (n *node) check(k replica.Check) {
	n.life.After(n.world.plan.verifyTime(n.rand), func() { n.verify(k) })
}

func (n *node) verify(k replica.Check) {
	valid, wait, err := n.app.verify(k.Proposal.Round, k.ParentDigest, k.Block.Payload, n.wallClock())
	switch {
	case err != nil:
		n.failf(ruleContract, "check in view %d: %v", k.Proposal.Round.View, err)
	case wait > 0: // the block is ahead of the clock
		n.life.After(wait, func() { n.verify(k) })
	default:
		if k.Attested && !valid {
			n.failf(ruleContract, "a quorum notarized an invalid block in view %d", k.Proposal.Round.View)
		}
		n.post(replica.Checked{Check: k.Check, Valid: valid})
	}
}

// finalize writes a block, syncs it, and tells the replica.
func (n *node) finalize(f replica.Finalize) {
	head := n.app.head()
	if f.Block.Height != head.height+1 || head.height > 0 && f.Block.Parent != head.block.Digest || f.Block.Height != n.height+1 {
		n.failf(ruleOrder, "finalizes height %d on %s, its head is %d", f.Block.Height, f.Block.Parent.Short(), head.height)
		return
	}
	if s := f.Certificate.Statement; f.Block.Closing && s.Proposal.Digest != f.Block.Digest || s.Kind != consensus.KindFinalize {
		n.failf(ruleContract, "closing block %d comes with %q", f.Block.Height, s)
	}
	n.height = f.Block.Height
	n.life.After(n.world.plan.writeTime(n.rand), func() {
		if !n.survives(pointBeforeCommit) {
			return
		}
		s, err := n.app.write(f.Block, f.Certificate)
		if n.honest() && s != nil {
			n.world.witness.finalized(n.index, s)
		}
		if err != nil {
			n.stop(err)
			return
		}
		if !n.survives(pointBlockWritten) {
			return
		}
		if err := n.blocks.Sync(); err != nil {
			n.stop(err)
			return
		}
		n.app.keep(s, f.Certificate)
		if n.honest() {
			n.world.finalized(s)
		}
		if !n.survives(pointBlockSynced) {
			return
		}
		n.post(replica.Finalized{
			Height: s.height, Digest: s.block.Digest, Empty: s.block.Empty, Closing: s.block.Closing,
			Reigns: n.world.plan.mutation.misled(n, n.app.reigns()),
		})
		n.maintain()
	})
}

// maintain rewrites the log now and then, and copies it.
func (n *node) maintain() {
	if !n.alive() || n.world.plan.faults == 0 {
		return
	}
	if n.busy {
		n.life.After(ms, n.maintain)
		return
	}
	if n.rand.Below(rewriteOneIn) == 0 && !n.rewrite(n.replica.Status().Epoch) {
		return
	}
	if n.world.plan.faults&faultLostLog != 0 && n.rand.Below(backupOneIn) == 0 {
		n.backup = nil
		for _, l := range n.logs() {
			n.backup = append(n.backup, replica.Log{Epoch: l.Epoch, Records: slices.Clone(l.Records)})
		}
	}
}

func (n *node) rewrite(e consensus.Epoch) bool {
	records := n.world.plan.mutation.rewritten(n.replica.Snapshot(e))
	if records == nil {
		return true
	}
	file := n.disk.Open(logName(e))
	if n.honest() {
		n.world.witness.rewritten(n.book(e), records)
	}
	if err := file.Replace(records); err != nil {
		n.stop(err)
		return false
	}
	if !n.survives(pointRewritten) {
		return false
	}
	if err := file.Sync(); err != nil {
		n.stop(err)
		return false
	}
	return n.survives(pointRewriteSynced)
}

// lookup answers a peer from the application.
func (n *node) lookup(l replica.Lookup) {
	var answer consensus.Message
	switch request := l.Request.(type) {
	case consensus.BlockRequest:
		if b, ok := n.app.durable(request.Digest); ok {
			answer = consensus.BlockAnswer{Payload: b.Payload}
		}
	case consensus.AncestryRequest:
		answer = n.app.ancestry(request.From)
	case consensus.Notarize, consensus.Nullify, consensus.Finalize, *consensus.Certificate, consensus.Offer, consensus.Delegation,
		consensus.CertificateRequest, consensus.BlockAnswer, consensus.Ancestry:
		n.failf(ruleContract, "a lookup of %T", l.Request)
	}
	bytes := 0
	if answer != nil {
		bytes = len(consensus.EncodeMessage(answer))
		n.sendTo(l.To, answer)
	}
	n.post(replica.Served{To: l.To, Bytes: bytes})
}

// blame ends the connection with a peer for a while.
func (n *node) blame(b replica.Blame) { n.block(n.world.cast.byNode[b.Peer], b.Reason) }

func (n *node) block(who int, reason string) {
	if !n.honest() {
		return
	}
	n.world.blamed(n, who, reason)
	n.blocked[who] = true
	n.meet()
	n.life.After(blockedFor, func() {
		delete(n.blocked, who)
		n.meet()
	})
}

// leave shows the witness and the court what an honest node says, and the court
// what a twin says.
func (n *node) leave(m consensus.Message) {
	if !n.honest() {
		if v, ok := voteIn(m); ok && !n.traitor.betrays {
			n.world.court.hear(n.who, v)
		}
		return
	}
	if c, ok := m.(*consensus.Certificate); ok {
		n.world.witness.certificateLeaves(n.who, c)
	}
	if v, ok := voteIn(m); ok {
		n.says(v)
	}
}

func (n *node) says(v consensus.Vote) {
	if e := v.Statement().Round().Epoch; e <= n.silent {
		n.failf(ruleVote, "%q of epoch %d, after its logs were lost in epoch %d", v.Statement(), e, n.silent)
	}
	n.world.witness.leaves(n.book(v.Statement().Round().Epoch), v)
	n.world.court.hear(n.who, v)
}

func (n *node) broadcast(m consensus.Message) {
	if n.traitor != nil && n.traitor.betrays {
		n.traitor.broadcast(m)
		return
	}
	p := newPacket(m)
	for _, other := range n.world.nodes {
		if other.who != n.who {
			n.world.network.Send(n.index, other.index, p)
		}
	}
	n.world.plan.mutation.spoke(n, m)
}

func (n *node) sendTo(key crypto.PublicKey, m consensus.Message) {
	n.sendPacket(n.world.cast.byNode[key], newPacket(m))
}

func (n *node) sendPacket(who int, p *packet) {
	if n.traitor != nil && n.traitor.mute {
		return
	}
	for _, other := range n.world.nodes {
		if other.who == who && other.who != n.who {
			n.world.network.Send(n.index, other.index, p)
		}
	}
}

// packet is an encoded message, which is decoded once for all who receive it:
// messages are immutable.
type packet struct {
	channel consensus.Channel
	data    []byte
	message consensus.Message
	blocks  []consensus.Block
	err     error // of decoding, or of reading the blocks
	decoded bool
	read    bool
}

func newPacket(m consensus.Message) *packet {
	return &packet{channel: m.Channel(), data: consensus.EncodeMessage(m)}
}

func (p *packet) decode() (consensus.Message, error) {
	if !p.decoded {
		p.decoded = true
		p.message, p.err = consensus.DecodeMessage(p.channel, p.data)
	}
	return p.message, p.err
}

// inspect reads the blocks of the payloads, as the application does.
func (p *packet) inspect() ([]consensus.Block, error) {
	if p.read {
		return p.blocks, p.err
	}
	p.read = true
	var payloads [][]byte
	switch m := p.message.(type) {
	case consensus.Offer:
		payloads = append(payloads, m.Payload)
	case consensus.BlockAnswer:
		payloads = append(payloads, m.Payload)
	case consensus.Ancestry:
		for _, b := range m.Blocks {
			payloads = append(payloads, b.Payload)
		}
	case consensus.Notarize, consensus.Nullify, consensus.Finalize, *consensus.Certificate, consensus.Delegation,
		consensus.CertificateRequest, consensus.BlockRequest, consensus.AncestryRequest:
	}
	for _, payload := range payloads {
		b, err := inspect(payload)
		if err != nil {
			p.err = fmt.Errorf("a payload that is no block: %w", err)
			break
		}
		p.blocks = append(p.blocks, b)
	}
	return p.blocks, p.err
}

// receive takes a packet as the engine takes a message.
func (n *node) receive(from int, p *packet) {
	who := n.world.nodes[from].who
	if n.blocked[who] {
		return
	}
	m, err := p.decode()
	if err != nil {
		n.block(who, err.Error())
		return
	}
	if n.traitor != nil {
		n.traitor.heard(who, m)
	}
	sender := n.world.cast.people[who].node
	admission, err := n.replica.Window().Admit(sender, m)
	if err != nil {
		n.block(who, err.Error())
		return
	}
	switch admission {
	case replica.Drop:
	case replica.Pass:
		n.post(replica.Received{From: sender, Message: m})
	case replica.PassVerified:
		if err := n.replica.Window().Verify(m.(*consensus.Certificate)); err != nil {
			n.block(who, err.Error())
			return
		}
		n.post(replica.Received{From: sender, Message: m, Verified: true})
	case replica.PassWithBlock:
		blocks, err := p.inspect()
		if err != nil {
			n.block(who, err.Error())
			return
		}
		n.post(replica.Received{From: sender, Message: m, Blocks: blocks})
	}
}
