package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

// plan is what a simulation shall do. All seeds of a command share it.
type plan struct {
	cast    *cast
	views   consensus.View
	faults  faults
	storm   time.Duration // the longest
	atlas   *atlas        // where the validators are; nil: in one place
	crashed int           // validators that never start
	busy    bool          // no block is empty, so that no leader waits
	trace   io.Writer     // every event and effect, or nil

	// To show what the checks catch.
	mutation mutation
	traitors int    // exactly so many, if a fault is Byzantine; 0: up to a third, drawn
	blind    []rule // violations that are overlooked
}

// newPlan casts the validators of a plan, and spare ones who may join.
func newPlan(validators int, views consensus.View, set faults) plan {
	spares := 0
	if set&faultEpoch != 0 {
		spares = 1 + validators/8
	}
	return plan{cast: newCast(validators, spares), views: views, faults: set, storm: stormMax}
}

// The simulated speed of machines. Without faults and with an atlas, only the
// network is slow.
func (p plan) buildTime(rand *sim.Rand) time.Duration  { return rand.Between(0, buildMax) }
func (p plan) verifyTime(rand *sim.Rand) time.Duration { return rand.Between(0, verifyMax) }
func (p plan) writeTime(rand *sim.Rand) time.Duration  { return rand.Between(0, writeMax) }

func (p plan) syncTime(rand *sim.Rand) time.Duration {
	if rand.Below(2) == 0 {
		return 0
	}
	return rand.Between(0, syncMax)
}

// violation is what a simulation found wrong.
type violation struct {
	rule rule
	at   time.Duration
	text string
}

func (v *violation) String() string {
	return fmt.Sprintf("%.3f ms: %s: %s", float64(v.at)/float64(ms), v.rule, v.text)
}

// outcome is what a simulation showed.
type outcome struct {
	seed      uint64
	views     consensus.View // of all epochs
	heights   uint64
	epochs    consensus.Epoch
	simulated time.Duration
	finality  []time.Duration // from a block's proposal to its finalization, at each honest node
	intervals []time.Duration // between the first finalizations of one block and the next
	changes   []time.Duration // those from an epoch's closing block to the first of the next epoch
	failure   *violation
	evidence  map[string]int // that replicas reported, by offence
	cases     map[offence]int
	blames    map[string]int // of traitors, by reason
	lies      map[string]int // that traitors told
	crashes   [points]int
	stops     map[string]int // processes that ended with an error, by error
	lost      int            // logs lost
	alone     int            // of the newest epoch, the one before it is there
	old       int            // old copies of logs restored
	torn      int
	jumps     int
	twins     int // storms in which twins were kept apart
	traffic   sim.Traffic
}

// world is nodes in simulated time. Every delay, loss and crash is drawn from
// the seed.
type world struct {
	plan     plan
	cast     *cast
	out      outcome
	rand     *sim.Rand
	clock    *sim.Clock
	network  *sim.Network[*packet]
	nodes    []*node
	traitor  []bool // by person
	realm    *realm
	witness  *witness
	court    *court
	proposed map[crypto.Digest]time.Duration // looked up by digest
	accused  map[crypto.Digest]bool          // evidence judged
	verified map[crypto.Signed]bool          // looked up only
	reached  map[consensus.Epoch]consensus.View
	previous time.Duration // when the last block was finalized
	storm    faults
	closing  bool   // faults are over: everybody has to get to the goal
	goal     uint64 // height
	deadline time.Duration
}

const (
	// A storm is a time with faults; the weather is fair between storms.
	stormMin, stormMax = 200 * ms, 1500 * ms
	fairMin, fairMax   = 20 * ms, 800 * ms
	// The promises of liveness: how long a view may take on average with
	// storms, and how long all honest nodes may need for so many blocks more
	// after the last one.
	patiencePerView = 10 * time.Second
	recovery        = 20 * time.Second
	recoveryHeights = 5
)

// simulate runs one seed to the end of its views, or to the first violation. It
// returns an error if the context ends first.
func simulate(ctx context.Context, p plan, seed uint64) (outcome, error) {
	w := newWorld(p, seed)
	w.begin()
	err := w.run(ctx)
	w.out.traffic, w.out.cases, w.out.simulated = w.network.Traffic(), w.court.cases, w.clock.Now()
	for _, v := range w.reached { // order-free: a sum
		w.out.views += v
	}
	for _, n := range w.nodes {
		w.out.torn += n.disk.Torn()
	}
	return w.out, err
}

func newWorld(p plan, seed uint64) *world {
	rand := sim.NewRand(seed)
	w := &world{
		plan: p, cast: p.cast, rand: rand, clock: sim.NewClock(), out: outcome{
			seed: seed, evidence: map[string]int{}, blames: map[string]int{}, lies: map[string]int{}, stops: map[string]int{},
		},
		traitor: make([]bool, len(p.cast.people)), proposed: map[crypto.Digest]time.Duration{},
		accused: map[crypto.Digest]bool{}, verified: map[crypto.Signed]bool{}, reached: map[consensus.Epoch]consensus.View{},
		deadline: recovery + time.Duration(p.views)*patiencePerView,
	}
	var twins []int
	behaves := map[int]faults{}
	for range w.drawTraitors() {
		who := rand.Below(p.cast.validators)
		for w.traitor[who] {
			who = (who + 1) % p.cast.validators
		}
		w.traitor[who] = true
		b := p.faults & byzantine & faults(rand.Uint64())
		if b == 0 {
			b = p.faults & byzantine
		}
		if b&faultTwins != 0 && (b == faultTwins || rand.Below(2) == 0) {
			b = faultTwins
			twins = append(twins, who)
		}
		behaves[who] = b &^ faultTwins
	}
	w.realm = newRealm(p.cast, rand.Fork(), p, w.traitor)
	w.witness = newWitness(p.cast, w.realm, w.failf)
	w.court = newCourt(w)
	w.network = sim.NewNetwork[*packet](w.clock, rand.Fork(), len(p.cast.people)+len(twins))
	for who := range p.cast.people {
		w.nodes = append(w.nodes, newNode(w, who, who))
	}
	for _, who := range twins {
		w.nodes = append(w.nodes, newNode(w, len(w.nodes), who))
	}
	for _, n := range w.nodes {
		if w.traitor[n.who] {
			n.traitor = w.corrupt(n, behaves[n.who])
		}
	}
	return w
}

// corrupt makes a node a traitor's.
func (w *world) corrupt(n *node, behaves faults) *traitor {
	t := &traitor{node: n, behaves: behaves, betrays: behaves != 0}
	t.mute = behaves == faultSilent || behaves&faultSilent != 0 && w.rand.Below(3) == 0
	return t
}

// drawTraitors returns how many persons are Byzantine.
func (w *world) drawTraitors() int {
	switch {
	case w.plan.faults&byzantine == 0:
		return 0
	case w.plan.traitors > 0:
		return min(w.plan.traitors, w.cast.validators)
	}
	return w.rand.Below((w.cast.validators-1)/3 + 1)
}

// begin has everybody start.
func (w *world) begin() {
	if w.plan.atlas != nil {
		w.network.SetDistance(w.plan.atlas.distance)
	}
	for _, n := range w.nodes {
		switch {
		case w.plan.sleeps(n.index):
		case n.traitor != nil && n.traitor.mute && w.rand.Below(2) == 0:
		case w.plan.faults&faultCrash != 0:
			w.clock.After(w.rand.Between(0, 100*ms), n.start)
		default:
			w.clock.After(0, n.start)
		}
	}
	w.fair()
}

// sleeps reports whether the node never starts: the crashed ones are spread
// evenly over the validators.
func (p plan) sleeps(index int) bool {
	n := p.cast.validators
	return index < n && (index+1)*p.crashed/n > index*p.crashed/n
}

func (w *world) run(ctx context.Context) error {
	for steps := 0; w.out.failure == nil; steps++ {
		if steps%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case !w.closing && w.views() >= w.plan.views:
			w.close()
		case w.closing && w.height() >= w.goal:
			return nil
		case w.clock.Now() > w.deadline:
			w.failf(ruleLiveness, "%s", w.standing())
			return nil
		case !w.clock.Step():
			w.failf(ruleLiveness, "nothing is left to happen")
			return nil
		}
	}
	return nil
}

// verify is crypto.VerifyBatch for a hundred nodes that look at the same
// signatures: what one of them has verified is not computed again.
func (w *world) verify(items []crypto.Signed) []bool {
	verdicts := make([]bool, len(items))
	var fresh []crypto.Signed
	for i, item := range items {
		good, known := w.verified[item]
		if verdicts[i] = good; !known {
			fresh = append(fresh, item)
		}
	}
	for i, good := range crypto.VerifyBatch(fresh, 1) {
		w.verified[fresh[i]] = good
	}
	for i, item := range items {
		verdicts[i] = w.verified[item]
	}
	return verdicts
}

func (w *world) views() consensus.View {
	sum := consensus.View(0)
	for _, v := range w.reached { // order-free: a sum
		sum += v
	}
	return sum
}

// fair ends a storm and awaits the next.
func (w *world) fair() {
	w.storm = 0
	w.network.SetWeather(w.plan.weather())
	w.part(nil)
	for _, n := range w.nodes {
		n.doom = doom{}
		n.disk.SetFull(false)
		n.disk.SetFailing(false)
		if w.plan.faults&faultSkew != 0 {
			n.watch.Drift(0)
			n.jump(0, -n.wall)
		}
	}
	if !w.closing && w.plan.faults&stormy != 0 {
		w.clock.After(w.rand.Between(fairMin, fairMax), w.brew)
	}
}

func (p plan) weather() sim.Weather {
	if p.atlas != nil {
		return p.atlas.weather()
	}
	return fairWeather()
}

// part cuts the network into sides, or heals it.
func (w *world) part(sides []int) {
	w.network.Partition(sides)
	for _, n := range w.nodes {
		n.meet()
	}
}

// brew begins a storm of some of the plan's faults.
func (w *world) brew() {
	if w.closing {
		return
	}
	w.storm = w.plan.faults.draw(w.rand) & stormy
	if w.plan.trace != nil {
		w.tracef("storm: %s", w.storm)
	}
	w.network.SetWeather(w.storm.weather(w.rand))
	if w.storm&faultPartition != 0 {
		w.part(sides(w.rand, len(w.nodes)))
	}
	for _, n := range w.nodes {
		n.doom.draw(n)
		if w.storm&faultDisk != 0 && w.rand.Below(4) == 0 {
			n.disk.SetFull(w.rand.Below(2) == 0)
			n.disk.SetFailing(w.rand.Below(2) == 0)
		}
		if w.storm&faultSkew != 0 {
			w.skew(n)
		}
	}
	length := w.rand.Between(min(stormMin, w.plan.storm), w.plan.storm)
	if w.storm&faultTwins != 0 && len(w.nodes) > len(w.cast.people) {
		w.out.twins++
		w.keepApart(length)
	}
	w.clock.After(length, func() {
		if !w.closing {
			w.fair()
		}
	})
}

// skew has the node's clocks disagree with the others', drift and jump.
func (w *world) skew(n *node) {
	w.out.jumps++
	n.watch.Drift(w.rand.Below(200_001) - 100_000)
	n.jump(w.rand.Between(0, 300*ms), w.rand.Between(0, 600*ms)-300*ms-n.wall)
	if w.rand.Below(3) == 0 { // and once more, in the midst of the storm
		w.clock.After(w.rand.Between(0, 500*ms), func() {
			if w.storm&faultSkew != 0 {
				n.jump(w.rand.Between(0, 2*time.Second), w.rand.Between(0, 600*ms)-300*ms-n.wall)
			}
		})
	}
}

// keepApart is the script of the twins: partition after partition, of a view's
// length each, with two nodes of one key on different sides.
func (w *world) keepApart(length time.Duration) {
	for at := time.Duration(0); at < length; at += w.rand.Between(10*ms, 250*ms) {
		script := sides(w.rand, len(w.nodes))
		for i := len(w.cast.people); i < len(w.nodes); i++ {
			script[i] = 1 - script[w.nodes[i].who]
		}
		w.clock.After(at, func() {
			if w.storm&faultTwins != 0 {
				w.part(script)
			}
		})
	}
}

// loseLog takes a crashed honest node's logs away, or puts an old copy in their
// place, as long as a quorum is left without it.
func (n *node) loseLog() {
	w := n.world
	if w.storm&faultLostLog == 0 || !n.honest() || w.realm.muted[n.who] || n.rand.Below(3) != 0 || !w.canSpare(n) {
		return
	}
	app, err := openApplication(w.realm, n.disk.Open("blocks"))
	if err != nil {
		n.failf(ruleContract, "opens its blocks: %v", err)
		return
	}
	w.realm.muted[n.who] = true
	if clear(n.accused); n.begun > 0 {
		n.silent = w.out.epochs
	}
	if n.loseNewest() {
		return
	}
	old := len(n.backup) > 0 && n.rand.Below(2) == 0 && n.outdated(app)
	for _, l := range n.logs() {
		n.disk.Put(logName(l.Epoch))
	}
	if !old {
		w.out.lost++
		w.tracef("node %d loses its logs", n.index)
		return
	}
	w.out.old++
	w.tracef("node %d has an old copy of its logs restored", n.index)
	for _, l := range n.backup {
		n.disk.Put(logName(l.Epoch), l.Records...)
	}
}

// loseNewest takes the log of the last epoch alone away, if the node may have
// spoken in it. The deletion of the one before did not last, so that the node
// looks as if it had not come to that epoch.
func (n *node) loseNewest() bool {
	logs := n.logs()
	if len(logs) == 0 || logs[len(logs)-1].Epoch != n.begun || n.rand.Below(2) == 0 {
		return false
	}
	n.world.out.alone++
	n.world.tracef("node %d loses its log of epoch %d alone", n.index, n.begun)
	n.disk.Put(logName(n.begun))
	if n.dropped.Epoch > 0 && n.dropped.Epoch < n.begun {
		n.disk.Put(logName(n.dropped.Epoch), n.dropped.Records...)
	}
	return true
}

// outdated reports whether the marker or the application knows better than the
// copy of the logs. A copy from after the last durable finalization cannot be told from the
// log itself, by nobody who has nothing else.
func (n *node) outdated(app *application) bool {
	newest := n.backup[len(n.backup)-1]
	if newest.Epoch < n.begun {
		return true
	}
	if app.head().height == 0 {
		return false
	}
	book := newNotebook(crypto.PublicKey{}, newest.Epoch, genesis)
	n.world.witness.reopen(book, newest.Records)
	known := app.chain[len(app.chain)-1].certificate.Statement
	return newest.Epoch < known.Round().Epoch || newest.Epoch == known.Round().Epoch && book.final < known.View()
}

// canSpare reports whether a quorum of every epoch that may come can do without
// the node.
func (w *world) canSpare(n *node) bool {
	for _, r := range w.realm.all {
		bad, total := r.weights(func(who int) bool { return w.realm.absent(who) || who == n.who })
		if 3*bad >= total && r.committee.Epoch()+1 >= w.out.epochs {
			return false
		}
	}
	return true
}

// close ends the faults; from here all honest nodes must go on together.
func (w *world) close() {
	w.closing = true
	w.fair()
	w.goal, w.deadline = uint64(len(w.witness.chain))+recoveryHeights, w.clock.Now()+recovery
	w.tracef("the faults are over; height %d is due by %v", w.goal, w.deadline)
}

// height is the lowest durable height of an honest node.
func (w *world) height() uint64 {
	least := ^uint64(0)
	for _, n := range w.nodes {
		if n.honest() && !w.plan.sleeps(n.index) {
			if !n.alive() {
				return 0
			}
			least = min(least, uint64(len(n.app.chain)))
		}
	}
	return least
}

// standing says where everybody is.
func (w *world) standing() string {
	var text strings.Builder
	fmt.Fprintf(&text, "at %d of %d views, height %d wanted", w.views(), w.plan.views, w.goal)
	for _, n := range w.nodes {
		fmt.Fprintf(&text, "; node %d: ", n.index)
		if !n.alive() {
			text.WriteString("down")
			continue
		}
		s := n.replica.Status()
		fmt.Fprintf(&text, "epoch %d, view %d, finalized view %d, height %d, signs %t, behind %t", s.Epoch, s.View, s.FinalizedView, s.Height, s.Signs, s.Behind)
		if !n.honest() {
			text.WriteString(", Byzantine")
		}
	}
	return text.String()
}

// failf records a violation; the first ends the simulation.
func (w *world) failf(r rule, format string, args ...any) {
	if w.out.failure == nil && !slices.Contains(w.plan.blind, r) {
		w.out.failure = &violation{rule: r, at: w.clock.Now(), text: fmt.Sprintf(format, args...)}
		w.tracef("VIOLATION: %s", w.out.failure)
	}
}

// tracef writes a line of the trace. Arguments are made into text only if
// there is a trace: pass values that print themselves.
func (w *world) tracef(format string, args ...any) {
	if w.plan.trace != nil {
		fmt.Fprintf(w.plan.trace, "%12.3f ms  %s\n", float64(w.clock.Now())/float64(ms), fmt.Sprintf(format, args...))
	}
}

// observe notes where an honest node is.
func (w *world) observe(n *node) {
	if !n.honest() {
		return
	}
	s := n.replica.Status()
	w.reached[s.Epoch] = max(w.reached[s.Epoch], s.View)
	w.out.epochs = max(w.out.epochs, s.Epoch)
	if w.realm.muted[n.who] && n.app.head().startMs > n.since {
		w.realm.muted[n.who] = false
	}
}

// finalized notes that an honest node has made a finalized block durable.
func (w *world) finalized(s *state) {
	at, ok := w.proposed[s.block.Digest]
	if !ok {
		return
	}
	w.out.finality = append(w.out.finality, w.clock.Now()-at)
	if s.height <= w.out.heights {
		return
	}
	if w.out.heights > 0 && s.height == w.out.heights+1 {
		w.out.intervals = append(w.out.intervals, w.clock.Now()-w.previous)
		if s.before != nil && s.height == s.startHeight+1 {
			w.out.changes = append(w.out.changes, w.clock.Now()-w.previous)
		}
	}
	w.out.heights, w.previous = s.height, w.clock.Now()
}

// blamed notes whom an honest node blames.
func (w *world) blamed(n *node, who int, reason string) {
	w.tracef("node %d ends the connection with person %d: %s", n.index, who, reason)
	if !w.traitor[who] {
		w.failf(ruleBlame, "node %d blames honest person %d: %s", n.index, who, reason)
	}
	w.out.blames[plainly(reason)]++
}

// quoted and numbered are what differs from case to case.
var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	numbered = regexp.MustCompile(`\b[0-9a-f]{8}\b|[0-9]+`)
)

func plainly(reason string) string {
	return numbered.ReplaceAllString(quoted.ReplaceAllString(reason, "…"), "#")
}
