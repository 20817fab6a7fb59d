package replica_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	chainID = "test-chain"
	ms      = consensus.Micros(1000)
	hop     = 2 * ms // every message's way
	work    = ms     // every build, check and write
)

var genesis = crypto.DomainGenesis.Hash([]byte(chainID))

// Keys are costly to make.
var consensusKeys, nodeKeys = map[int]crypto.PrivateKey{}, map[int]crypto.PublicKey{}

func consensusKey(i int) crypto.PrivateKey {
	if _, made := consensusKeys[i]; !made {
		consensusKeys[i] = crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{0: byte(i), 1: byte(i >> 8), 2: 7})
	}
	return consensusKeys[i]
}

func nodeKey(i int) crypto.PublicKey {
	if _, made := nodeKeys[i]; !made {
		nodeKeys[i] = crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{0: byte(i), 1: byte(i >> 8), 2: 8}).Public()
	}
	return nodeKeys[i]
}

// toy is the application's block. Every epoch has world.blocks of them.
type toy struct {
	_       struct{} `cbor:",toarray"`
	Height  uint64
	Parent  crypto.Digest
	Round   consensus.Round
	TimeMs  uint64
	Closing bool
	Invalid bool
	Padding []byte
}

func (b toy) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Height: b.Height, Closing: b.Closing, Payload: payload,
	}
}

func readToy(payload []byte) (toy, error) {
	var b toy
	err := codec.Unmarshal(payload, &b, consensus.MaxPayloadBytes)
	return b, err
}

// world is nodes on a perfect network, with one clock.
type world struct {
	t      testing.TB
	now    consensus.Micros
	queue  agenda
	seq    int
	nodes  []*node
	blocks uint64                                       // per epoch
	seats  func(e consensus.Epoch) []seat               // the committee
	cfg    func(replica.Config) replica.Config          // nil: as it is
	cut    func(from, to int, m consensus.Message) bool // nil: nothing is lost
	apart  func(a, b int) bool                          // nil: everybody is connected with everybody

	delay func() consensus.Micros // nil: a hop

	committees map[consensus.Epoch]*consensus.Committee

	final  map[uint64]crypto.Digest
	signed map[signedIn][]consensus.Statement
}

// seat is a node in a committee, with one of its keys.
type seat struct{ node, key int }

type signedIn struct {
	key   crypto.PublicKey
	round consensus.Round
}

type job struct {
	at  consensus.Micros
	seq int
	do  func()
}

type agenda []job

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(a[i].at, a[j].at), cmp.Compare(a[i].seq, a[j].seq)) < 0
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(job)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

func everyEpoch(nodes ...int) func(consensus.Epoch) []seat {
	var seats []seat
	for _, n := range nodes {
		seats = append(seats, seat{node: n, key: n})
	}
	return func(consensus.Epoch) []seat { return seats }
}

func newWorld(t testing.TB, nodes int, seats func(consensus.Epoch) []seat) *world {
	w := &world{
		t: t, blocks: 5, seats: seats, final: map[uint64]crypto.Digest{0: genesis},
		committees: map[consensus.Epoch]*consensus.Committee{},
		signed:     map[signedIn][]consensus.Statement{}, now: 1_000_000 * ms,
	}
	for i := range nodes {
		w.nodes = append(w.nodes, &node{w: w, id: i, keys: []int{i}, disk: disk{logs: map[consensus.Epoch][][]byte{}}, fresh: true})
	}
	return w
}

func (w *world) after(d consensus.Micros, do func()) {
	w.seq++
	heap.Push(&w.queue, job{at: w.now + d, seq: w.seq, do: do})
}

// run goes on until done, or fails after so much simulated time.
func (w *world) run(limit consensus.Micros, done func() bool) {
	w.t.Helper()
	end := w.now + limit
	for !done() {
		if len(w.queue) == 0 || w.queue[0].at > end {
			for _, n := range w.nodes {
				w.t.Logf("%v", n)
			}
			w.t.Fatalf("not done after %d ms", limit/ms)
		}
		j := heap.Pop(&w.queue).(job)
		w.now = max(w.now, j.at)
		j.do()
	}
}

func (w *world) pass(d consensus.Micros) {
	over := false
	w.after(d, func() { over = true })
	w.run(d+1, func() bool { return over })
}

func (w *world) committee(e consensus.Epoch) *consensus.Committee {
	if c := w.committees[e]; c != nil {
		return c
	}
	var vs []consensus.Validator
	for _, s := range w.seats(e) {
		vs = append(vs, consensus.Validator{Key: consensusKey(s.key).Public(), Weight: 1, LeaderWeight: 1})
	}
	c, err := consensus.NewCommittee(e, vs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.committees[e] = c
	return c
}

// disk is what outlives a crash.
type disk struct {
	logs  map[consensus.Epoch][][]byte
	chain []stored        // by height − 1
	begun consensus.Epoch // the marker
}

type stored struct {
	block consensus.Block
	cert  *consensus.Certificate
}

func (d disk) clone() disk {
	out := disk{logs: map[consensus.Epoch][][]byte{}, chain: slices.Clone(d.chain), begun: d.begun}
	for e, records := range d.logs {
		out.logs[e] = slices.Clone(records)
	}
	return out
}

// node is a driver in simulated time.
type node struct {
	w      *world
	id     int
	keys   []int
	fresh  bool
	disk   disk
	r      *replica.Replica
	life   int
	since  uint64
	slow   uint64           // milliseconds that its clock is behind
	passed consensus.Micros // since it looked at the clock, when it starts
	wakeAt consensus.Micros

	crashIn int // at so many effects or writes from now; 0: never
	crashed int
	blamed  []string // "peer: reason"
	halted  string
	effects func(replica.Effect) // a test looks on
	events  func(replica.Event)  // and listens
	onDrop  func(consensus.Epoch)
	entered []consensus.Epoch
	park    bool // blocks are not finalized but parked
	parked  []replica.Finalize
	shows   int // builds that show a finalization
}

func (n *node) String() string {
	if n.r == nil {
		return fmt.Sprintf("node %d down at height %d", n.id, len(n.disk.chain))
	}
	s := n.r.Status()
	return fmt.Sprintf("node %d at height %d, epoch %d, view %d, final %d, signs %t, behind %t, waiting %d",
		n.id, s.Height, s.Epoch, s.View, s.FinalizedView, s.Signs, s.Behind, s.Waiting)
}

func (n *node) height() uint64 { return uint64(len(n.disk.chain)) }

func (n *node) epochAt(height uint64) consensus.Epoch {
	return consensus.Epoch(height/n.w.blocks) + 1 // of the block above
}

// reigns are those that an application at the height knows.
func (n *node) reigns(height uint64) []replica.Reign {
	var out []replica.Reign
	at := n.epochAt(height)
	for e := max(at, 3) - 2; e <= at+1; e++ {
		reign := replica.Reign{Committee: n.w.committee(e)}
		for _, s := range n.w.seats(e) {
			reign.NodeKeys = append(reign.NodeKeys, nodeKey(s.node))
		}
		start := uint64(e-1) * n.w.blocks
		if start == 0 {
			reign.Start = genesis
		} else if start <= height {
			b := n.disk.chain[start-1]
			t, err := readToy(b.block.Payload)
			if err != nil {
				n.w.t.Fatal(err)
			}
			reign.Start, reign.StartHeight, reign.StartMs, reign.Final = b.block.Digest, start, t.TimeMs, b.cert
		}
		out = append(out, reign)
	}
	return out
}

func (n *node) floor() replica.Floor {
	h := n.height()
	f := replica.Floor{Height: h, Digest: genesis, Reigns: n.reigns(h)}
	if h > 0 {
		b := n.disk.chain[h-1]
		f.Digest, f.Empty, f.Closing, f.Certificate = b.block.Digest, b.block.Empty, b.block.Closing, b.cert
	}
	return f
}

func (n *node) config() replica.Config {
	cfg := replica.DefaultConfig()
	cfg.ChainID, cfg.NodeKey, cfg.Fresh, cfg.Since = chainID, nodeKey(n.id), n.fresh, n.since
	cfg.Begun = n.disk.begun
	for _, k := range n.keys {
		cfg.Keys = append(cfg.Keys, consensusKey(k))
	}
	cfg.Timing = consensus.Timing{DeltaMin: 50 * ms, DeltaMax: 10_000 * ms, Idle: 100 * ms, Retry: 100 * ms, Skip: 1500 * ms, Fetch: 40 * ms}
	cfg.CatchUp, cfg.Answer = 500*ms, 300*ms
	cfg.Verify = verifyOnce
	if n.w.cfg != nil {
		cfg = n.w.cfg(cfg)
	}
	return cfg
}

// verified remembers signatures, so that the nodes of a test need not verify each
// other's work again.
var verified = map[crypto.Signed]bool{}

func verifyOnce(items []crypto.Signed) []bool {
	verdicts := make([]bool, len(items))
	for i, it := range items {
		if !verified[it] {
			verified[it] = crypto.VerifyBatch([]crypto.Signed{it}, 1)[0]
		}
		verdicts[i] = verified[it]
	}
	return verdicts
}

func (n *node) restore() error {
	var logs []replica.Log
	for e, records := range n.disk.logs {
		logs = append(logs, replica.Log{Epoch: e, Records: records})
	}
	slices.SortFunc(logs, func(a, b replica.Log) int { return cmp.Compare(a.Epoch, b.Epoch) })
	r, err := replica.Restore(n.config(), n.floor(), logs)
	n.r = r
	return err
}

func (n *node) start() {
	n.w.t.Helper()
	n.life++
	n.wakeAt = 0
	n.since = uint64(n.w.now/ms) - n.slow
	if err := n.restore(); err != nil {
		n.w.t.Fatalf("node %d: %v", n.id, err)
	}
	n.step(replica.Start{Passed: n.passed})
	n.w.connect()
}

func (n *node) stop() {
	n.r = nil
	n.life++
	n.w.connect()
}

func (w *world) parts(a, b int) bool { return w.apart != nil && w.apart(a, b) }

// connect tells everybody who is up.
func (w *world) connect() {
	for _, n := range w.nodes {
		if n.r == nil {
			continue
		}
		var up []crypto.PublicKey
		for _, other := range w.nodes {
			if other.r != nil && other != n && !n.w.parts(n.id, other.id) {
				up = append(up, nodeKey(other.id))
			}
		}
		slices.SortFunc(up, crypto.PublicKey.Compare)
		n.step(replica.Peers{Connected: up})
	}
}

// later has the present life do something.
func (n *node) later(d consensus.Micros, do func()) {
	life := n.life
	n.w.after(d, func() {
		if n.life == life && n.r != nil {
			do()
		}
	})
}

// survives reports whether the node lives on at a point where it may die.
func (n *node) survives() bool {
	if n.crashIn == 0 {
		return true
	}
	if n.crashIn--; n.crashIn > 0 {
		return true
	}
	n.crashed++
	n.r, n.life = nil, n.life+1
	n.w.after(50*ms, n.start)
	return false
}

func (n *node) step(ev replica.Event) {
	if n.r == nil {
		return
	}
	if n.events != nil {
		n.events(ev)
	}
	late := false
	for _, e := range n.r.Step(n.w.now, ev) {
		if _, ok := e.(replica.Append); !ok {
			late = true
		} else if late {
			n.w.t.Fatal("an Append after another effect")
		}
		if n.effects != nil {
			n.effects(e)
		}
		if !n.survives() {
			return
		}
		n.perform(e)
		if n.r == nil {
			return
		}
	}
	if at, ok := n.r.Deadline(); ok && at != n.wakeAt {
		n.wakeAt = at
		n.later(max(at, n.w.now+1)-n.w.now, func() {
			if n.wakeAt == at {
				n.wakeAt = 0
				n.step(replica.Wake{})
			}
		})
	}
}

func (n *node) perform(e replica.Effect) {
	switch e := e.(type) {
	case replica.Append:
		n.disk.logs[e.Epoch] = append(n.disk.logs[e.Epoch], e.Records...)
		if n.survives() {
			n.disk.begun = max(n.disk.begun, e.Epoch)
		}
	case replica.DropLog:
		if n.onDrop != nil {
			n.onDrop(e.Epoch)
		}
		delete(n.disk.logs, e.Epoch)
	case replica.Broadcast:
		for _, to := range n.w.nodes {
			if to != n {
				n.send(to, e.Message)
			}
		}
	case replica.Send:
		if i := n.w.byKey(e.To); i >= 0 {
			n.send(n.w.nodes[i], e.Message)
		}
	case replica.Relay:
		for _, k := range e.To {
			if i := n.w.byKey(k); i >= 0 {
				n.send(n.w.nodes[i], e.Message)
			}
		}
	case replica.Build:
		if e.Finalization != nil {
			n.shows++
		}
		n.later(work+e.Idle, func() { n.build(e) })
	case replica.Check:
		n.later(work, func() { n.step(replica.Checked{Check: e.Check, Valid: n.valid(e)}) })
	case replica.Finalize:
		if n.park {
			n.parked = append(n.parked, e)
			return
		}
		n.later(work, func() { n.finalize(e) })
	case replica.Lookup:
		n.later(work, func() { n.lookup(e) })
	case replica.Blame:
		n.blamed = append(n.blamed, fmt.Sprintf("%d: %s", n.w.byKey(e.Peer), e.Reason))
	case replica.Enter:
		n.entered = append(n.entered, e.Reign.Committee.Epoch())
	case replica.Halt:
		n.halted = e.Reason
	case replica.Evidence, replica.Places, replica.CancelBuild, replica.CancelCheck:
	}
}

// whose returns the node of a key, or −1.
func whose(k crypto.PublicKey) int {
	for i, key := range nodeKeys { // order-free: keys are distinct
		if key == k {
			return i
		}
	}
	return -1
}

func (w *world) byKey(k crypto.PublicKey) int {
	return slices.IndexFunc(w.nodes, func(n *node) bool { return nodeKey(n.id) == k })
}

// send carries a message, and remembers every vote that was ever sent.
func (n *node) send(to *node, m consensus.Message) {
	n.w.witness(n.id, m)
	if n.w.parts(n.id, to.id) {
		return
	}
	if n.w.cut != nil && n.w.cut(n.id, to.id, m) {
		return
	}
	data := consensus.EncodeMessage(m)
	way := hop
	if n.w.delay != nil {
		way = n.w.delay()
	}
	n.w.after(way, func() { to.receive(n.id, m.Channel(), data) })
}

func (n *node) receive(from int, ch consensus.Channel, data []byte) {
	if n.r == nil {
		return
	}
	m, err := consensus.DecodeMessage(ch, data)
	if err != nil {
		n.w.t.Fatal(err)
	}
	way, err := n.r.Window().Admit(nodeKey(from), m)
	if err != nil {
		n.blamed = append(n.blamed, fmt.Sprintf("%d: %s", from, err))
	}
	if way == replica.Drop {
		return
	}
	ev := replica.Received{From: nodeKey(from), Message: m}
	if way == replica.PassWithBlock {
		ev.Blocks = inspect(m)
	}
	if way == replica.PassVerified {
		if err := n.r.Window().Verify(m.(*consensus.Certificate)); err != nil {
			n.blamed = append(n.blamed, fmt.Sprintf("%d: %s", from, err))
			return
		}
		ev.Verified = true
	}
	n.step(ev)
}

// inspect reads the payloads, or returns nil where one cannot be read.
func inspect(m consensus.Message) []consensus.Block {
	var payloads [][]byte
	switch m := m.(type) {
	case consensus.Offer:
		payloads = append(payloads, m.Payload)
	case consensus.BlockAnswer:
		payloads = append(payloads, m.Payload)
	case consensus.Ancestry:
		for _, b := range m.Blocks {
			payloads = append(payloads, b.Payload)
		}
	}
	var blocks []consensus.Block
	for _, p := range payloads {
		b, err := readToy(p)
		if err != nil {
			return nil
		}
		blocks = append(blocks, b.block())
	}
	return blocks
}

func (n *node) build(b replica.Build) {
	parent, ok := n.w.known(b.ParentDigest)
	if !ok {
		n.w.t.Fatalf("node %d builds on unknown block %s", n.id, b.ParentDigest.Short())
	}
	t := toy{Height: parent + 1, Parent: b.ParentDigest, Round: b.Round, TimeMs: uint64(n.w.now / ms)}
	t.Closing = t.Height%n.w.blocks == 0
	made := t.block()
	built[made.Digest] = t.Height
	n.step(replica.Built{Round: b.Round, Block: made})
}

// built is the height of every block that any test ever made, by digest.
var built = map[crypto.Digest]uint64{genesis: 0}

func (w *world) known(d crypto.Digest) (uint64, bool) {
	h, ok := built[d]
	return h, ok
}

func (n *node) valid(k replica.Check) bool {
	parent, ok := n.w.known(k.ParentDigest)
	t, err := readToy(k.Block.Payload)
	return err == nil && ok && !t.Invalid && t.Parent == k.ParentDigest && t.Height == parent+1 && t.Round == k.Proposal.Round &&
		t.Closing == (t.Height%n.w.blocks == 0)
}

func (n *node) finalize(f replica.Finalize) {
	if f.Block.Height != n.height()+1 {
		n.w.t.Fatalf("node %d finalizes height %d after %d", n.id, f.Block.Height, n.height())
	}
	if f.Block.Closing && f.Certificate.Statement.Proposal.Digest != f.Block.Digest {
		n.w.t.Fatalf("node %d: closing block %d without its own finalization", n.id, f.Block.Height)
	}
	if err := f.Certificate.Verify(n.w.committee(n.epochAt(f.Block.Height-1)), chainID); err != nil {
		n.w.t.Fatal(err)
	}
	if d, ok := n.w.final[f.Block.Height]; ok && d != f.Block.Digest {
		n.w.t.Fatalf("height %d has digests %s and %s", f.Block.Height, d.Short(), f.Block.Digest.Short())
	}
	n.w.final[f.Block.Height] = f.Block.Digest
	if !n.survives() { // before the write
		return
	}
	n.disk.chain = append(n.disk.chain, stored{f.Block, f.Certificate})
	if !n.survives() { // after it
		return
	}
	ev := replica.Finalized{Height: f.Block.Height, Digest: f.Block.Digest, Empty: f.Block.Empty, Closing: f.Block.Closing}
	if ev.Closing {
		ev.Reigns = n.reigns(f.Block.Height)
	}
	n.step(ev)
}

func (n *node) lookup(l replica.Lookup) {
	bytes := 0
	answer := func(m consensus.Message) {
		bytes = len(consensus.EncodeMessage(m))
		n.send(n.w.nodes[n.w.byKey(l.To)], m)
	}
	switch m := l.Request.(type) {
	case consensus.BlockRequest:
		for _, b := range n.disk.chain {
			if b.block.Digest == m.Digest {
				answer(consensus.BlockAnswer{Payload: b.block.Payload})
			}
		}
	case consensus.AncestryRequest:
		answer(n.ancestry(m.From, 7))
	}
	n.step(replica.Served{To: l.To, Bytes: bytes})
}

func (n *node) ancestry(from uint64, most int) consensus.Ancestry {
	out := consensus.Ancestry{From: from}
	for h := from; h > 0 && h <= n.height() && len(out.Blocks) < most; h++ {
		b := n.disk.chain[h-1]
		proven := consensus.ProvenBlock{Payload: b.block.Payload}
		if b.cert.Statement.Proposal.Digest == b.block.Digest {
			proven.Certificate = consensus.EncodeCertificate(b.cert)
		}
		out.Blocks = append(out.Blocks, proven)
	}
	return out
}

// witness fails the test if two votes of one key exclude each other, through all
// lives.
func (w *world) witness(from int, m consensus.Message) {
	v, ok := m.(consensus.Vote)
	if o, offer := m.(consensus.Offer); offer {
		v, ok = o.Vote, true
	}
	if !ok {
		return
	}
	by, _ := v.By()
	s := v.Statement()
	key := signedIn{key: w.committee(s.Round().Epoch).Validator(by).Key, round: s.Round()}
	for _, other := range w.signed[key] {
		if consensus.VotesExclude(s, other) {
			w.t.Fatalf("node %d signed %q and %q in epoch %d", from, s, other, s.Round().Epoch)
		}
	}
	if !slices.Contains(w.signed[key], s) {
		w.signed[key] = append(w.signed[key], s)
	}
}

// everybodyAt reports whether all nodes that are up have reached the height.
func (w *world) everybodyAt(height uint64) func() bool {
	return func() bool {
		for _, n := range w.nodes {
			if n.halted != "" {
				w.t.Fatalf("node %d halts: %s", n.id, n.halted)
			}
			if n.height() < height {
				return false
			}
		}
		return true
	}
}

func (w *world) nobodyBlamed() {
	w.t.Helper()
	for _, n := range w.nodes {
		if len(n.blamed) > 0 {
			w.t.Errorf("node %d blames %v", n.id, n.blamed)
		}
	}
}
