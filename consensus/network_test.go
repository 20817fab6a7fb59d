package consensus_test

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	seeds    = flag.Int("seeds", 200, "simulated networks to run")
	oneSeed  = flag.Uint64("seed", 0, "run this one simulated network")
	testID   = "test-chain"
	genesis  = crypto.DomainGenesis.Hash([]byte("genesis"))
	ms       = consensus.Micros(1000)
	testTime = consensus.Timing{
		DeltaMin: 50 * ms, DeltaMax: 10_000 * ms, Idle: 150 * ms,
		Retry: 100 * ms, Skip: 1500 * ms, Fetch: 60 * ms,
	}
)

func testKey(i int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{0: byte(i + 1), 1: 7})
}

func testCommittee(t testing.TB, weights ...uint64) *consensus.Committee {
	t.Helper()
	var vs []consensus.Validator
	for i, w := range weights {
		vs = append(vs, consensus.Validator{Key: testKey(i).Public(), Weight: w, LeaderWeight: w})
	}
	c, err := consensus.NewCommittee(1, vs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// toyBlock is what the simulated application puts into a payload.
type toyBlock struct {
	_      struct{} `cbor:",toarray"`
	Parent crypto.Digest
	View   consensus.View
	Salt   uint64
	Empty  bool
}

func (b toyBlock) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Empty: b.Empty, Payload: payload,
	}
}

func readToy(payload []byte) consensus.Block {
	var b toyBlock
	if err := codec.Unmarshal(payload, &b, 1<<10); err != nil {
		panic(err)
	}
	return b.block()
}

type happening struct {
	at  consensus.Micros
	seq int
	do  func()
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// network is validators in simulated time: every delay, loss and crash is
// drawn from the seed.
type network struct {
	t         *testing.T
	rng       *rand.Rand
	now       consensus.Micros
	seq       int
	agenda    agenda
	committee *consensus.Committee
	nodes     []*node
	chain     []crypto.Digest // what anybody finalized, by height − 1
	lossy     bool
	evidence  int
}

type stored struct {
	block consensus.Block
	cert  *consensus.Certificate
}

type node struct {
	net       *network
	index     consensus.Signer
	byzantine bool
	core      *consensus.Core // nil: crashed
	life      int             // counts restarts; what an earlier life started is lost
	log       [][]byte        // synced
	disk      []stored        // finalized
	pending   []consensus.Commit
	wakeAt    consensus.Micros
	appended  int
	dieAt     int // crash instead of the append with this number
	sent      map[consensus.View]int
}

func newNetwork(t *testing.T, seed uint64, weights ...uint64) *network {
	n := &network{t: t, rng: rand.New(rand.NewPCG(seed, 1)), committee: testCommittee(t, weights...)}
	for i := range weights {
		n.nodes = append(n.nodes, &node{net: n, index: consensus.Signer(i), sent: map[consensus.View]int{}})
	}
	return n
}

func (n *network) after(d consensus.Micros, do func()) {
	n.seq++
	heap.Push(&n.agenda, happening{at: n.now + d, seq: n.seq, do: do})
}

// later runs do in the same life of the node, or never.
func (nd *node) later(d consensus.Micros, do func()) {
	life := nd.life
	nd.net.after(d, func() {
		if nd.core != nil && nd.life == life {
			do()
		}
	})
}

func (n *network) between(lo, hi consensus.Micros) consensus.Micros {
	return lo + consensus.Micros(n.rng.Uint64N(uint64(hi-lo+1)))
}

func (n *network) run(until consensus.Micros) {
	for len(n.agenda) > 0 && n.agenda[0].at <= until {
		h := heap.Pop(&n.agenda).(happening)
		n.now = h.at
		h.do()
	}
	n.now = until
}

func (nd *node) config() consensus.Config {
	return consensus.Config{
		ChainID: testID, Committee: nd.net.committee, Start: genesis,
		Key: testKey(int(nd.index)), Timing: testTime, Retention: 8,
	}
}

func (nd *node) floor() consensus.Floor {
	if len(nd.disk) == 0 {
		return consensus.Floor{Digest: genesis}
	}
	last := nd.disk[len(nd.disk)-1]
	return consensus.Floor{Digest: last.block.Digest, Empty: last.block.Empty, Certificate: last.cert}
}

func (nd *node) start() {
	core, err := consensus.Restore(nd.config(), nd.floor(), nd.log)
	if err != nil {
		nd.net.t.Fatalf("node %d: %v", nd.index, err)
	}
	nd.core, nd.pending, nd.wakeAt = core, nil, 0
	nd.life++
	nd.step(consensus.Start{})
	nd.catchUp()
}

func (nd *node) crash() {
	nd.core = nil
	nd.life++
}

func (nd *node) step(ev consensus.Event) {
	if nd.core == nil {
		return
	}
	effects := nd.core.Step(consensus.Input{Now: nd.net.now, Event: ev})
	for _, e := range effects {
		if nd.core == nil {
			return
		}
		nd.perform(e)
	}
	if nd.core == nil {
		return
	}
	if at, ok := nd.core.Deadline(); ok && at != nd.wakeAt {
		nd.wakeAt = at
		nd.later(max(at, nd.net.now+1)-nd.net.now, func() {
			if nd.wakeAt == at {
				nd.wakeAt = 0
				nd.step(consensus.Wake{})
			}
		})
	}
}

func (nd *node) perform(e consensus.Effect) {
	switch e := e.(type) {
	case consensus.Append:
		nd.appended++
		if nd.appended == nd.dieAt { // the records never reached the disk
			nd.crash()
			nd.net.after(nd.net.between(50*ms, 800*ms), nd.start)
			return
		}
		nd.log = append(nd.log, e.Records...)
		if nd.net.rng.IntN(40) == 0 {
			nd.log = nd.core.Snapshot()
		}
	case consensus.Broadcast:
		nd.sent[nd.core.View()]++
		nd.broadcast(e.Message)
	case consensus.Ask:
		nd.ask(e)
	case consensus.Build:
		toy := toyBlock{Parent: e.ParentDigest, View: e.Round.View, Salt: nd.net.rng.Uint64(), Empty: nd.net.rng.IntN(3) == 0}
		wait := nd.net.between(0, 10*ms)
		if !nd.net.lossy {
			toy.Empty = true
		}
		if e.Idle > 0 && nd.net.rng.IntN(2) == 0 {
			wait = e.Idle
		}
		nd.later(wait, func() { nd.step(consensus.Built{Round: e.Round, Block: toy.block()}) })
	case consensus.Check:
		nd.verify(e)
	case consensus.Commit:
		nd.pending = append(nd.pending, e)
		nd.later(nd.net.between(0, 20*ms), nd.finalizeOne)
	case consensus.Evidence:
		nd.net.evidence++
		a, _ := e.A.By()
		if !nd.net.nodes[a].byzantine {
			nd.net.t.Errorf("evidence against honest node %d: %q, %q", a, e.A.Statement(), e.B.Statement())
		}
	case consensus.BlameSigner:
		nd.net.t.Errorf("node %d blames signer %d: %s", nd.index, e.Signer, e.Reason)
	case consensus.BlamePeer:
		nd.net.t.Errorf("node %d blames a peer: %s", nd.index, e.Reason)
	case consensus.CancelBuild, consensus.CancelCheck:
	}
}

func (nd *node) verify(k consensus.Check) {
	b, ok := nd.core.Block(k.Proposal.Digest)
	if !ok {
		nd.net.t.Fatalf("node %d checks a block it does not hold", nd.index)
	}
	var toy toyBlock
	if err := codec.Unmarshal(b.Payload, &toy, 1<<10); err != nil {
		nd.net.t.Fatal(err)
	}
	valid := toy.Parent == k.ParentDigest && toy.View == k.Proposal.Round.View
	nd.later(nd.net.between(0, 5*ms), func() { nd.step(consensus.Checked{Check: k, Valid: valid}) })
}

func (nd *node) finalizeOne() {
	c := nd.pending[0]
	nd.pending = nd.pending[1:]
	nd.toDisk(c.Blocks, c.Certificate)
}

// toDisk finalizes blocks that are not on the disk yet and checks that the
// chain is one and everybody's.
func (nd *node) toDisk(blocks []consensus.Block, cert *consensus.Certificate) {
	for _, b := range blocks {
		if nd.has(b.Digest) {
			continue
		}
		if b.Parent != nd.floor().Digest {
			return // a gap that catch-up is filling
		}
		nd.disk = append(nd.disk, stored{b, cert})
		h := len(nd.disk)
		if h > len(nd.net.chain) {
			nd.net.chain = append(nd.net.chain, b.Digest)
		} else if nd.net.chain[h-1] != b.Digest {
			nd.net.t.Fatalf("node %d finalized %s at height %d, another node %s", nd.index, b.Digest.Short(), h, nd.net.chain[h-1].Short())
		}
		nd.step(consensus.Durable{Digest: b.Digest, Empty: b.Empty})
	}
}

func (nd *node) has(d crypto.Digest) bool {
	for i := len(nd.disk) - 1; i >= 0; i-- {
		if nd.disk[i].block.Digest == d {
			return true
		}
	}
	return false
}

// catchUp is the driver's part: fetch by height from anybody while behind.
func (nd *node) catchUp() {
	from := nd.net.nodes[nd.net.rng.IntN(len(nd.net.nodes))]
	if nd.core.Behind() && from != nd && from.core != nil {
		next := len(nd.disk)
		for next < len(from.disk) && next < len(nd.disk)+16 {
			s := from.disk[next]
			next++
			if s.cert.Statement.Proposal.Digest == s.block.Digest {
				run := from.disk[len(nd.disk):next]
				blocks := make([]consensus.Block, len(run))
				for i, r := range run {
					blocks[i] = r.block
				}
				nd.step(consensus.CertificateReceived{Certificate: s.cert})
				nd.toDisk(blocks, s.cert)
				next = len(nd.disk)
				break
			}
		}
	}
	nd.later(100*ms, nd.catchUp)
}

func (nd *node) ask(a consensus.Ask) {
	to := nd.net.nodes[a.To]
	nd.net.carry(nd, to, func() {
		switch r := a.Request.(type) {
		case consensus.CertificateRequest:
			if cert := to.core.Answer(r); cert != nil {
				nd.net.carry(to, nd, func() { nd.step(consensus.CertificateReceived{Certificate: cert}) })
			}
		case consensus.BlockRequest:
			b, ok := to.core.Block(r.Digest)
			for _, s := range to.disk {
				if s.block.Digest == r.Digest {
					b, ok = s.block, true
				}
			}
			if ok {
				nd.net.carry(to, nd, func() { nd.step(consensus.BlockReceived{Block: b}) })
			}
		}
	})
}

// carry moves something from node to node, or loses it.
func (n *network) carry(from, to *node, arrive func()) {
	delay := n.between(1*ms, 8*ms)
	copies := 1
	if n.lossy {
		switch n.rng.IntN(12) {
		case 0, 1:
			copies = 0
		case 2:
			copies = 2
		case 3, 4:
			delay = n.between(10*ms, 400*ms)
		}
	}
	for range copies {
		n.after(delay, func() {
			if to.core != nil {
				arrive()
			}
		})
	}
}

func (nd *node) broadcast(m consensus.Message) {
	for _, to := range nd.net.nodes {
		if to == nd {
			continue
		}
		out := m
		if nd.byzantine {
			out = nd.twist(m, to)
		}
		nd.send(to, out)
	}
}

func (nd *node) send(to *node, m consensus.Message) {
	data := consensus.EncodeMessage(m)
	nd.net.carry(nd, to, func() {
		m, err := consensus.DecodeMessage(m.Channel(), data)
		if err != nil {
			nd.net.t.Fatal(err)
		}
		switch m := m.(type) {
		case consensus.Vote:
			to.step(consensus.VoteReceived{Vote: m})
		case *consensus.Certificate:
			to.step(consensus.CertificateReceived{Certificate: m})
		case consensus.Offer:
			to.step(consensus.OfferReceived{Vote: m.Vote, Block: readToy(m.Payload)})
		}
	})
}

// twist is the Byzantine node: it offers different blocks to different peers,
// notarizes all of them, and nullifies what it finalizes.
func (nd *node) twist(m consensus.Message, to *node) consensus.Message {
	key := testKey(int(nd.index))
	switch m := m.(type) {
	case consensus.Offer:
		if to.index%2 == 0 {
			return m
		}
		var toy toyBlock
		if err := codec.Unmarshal(m.Payload, &toy, 1<<10); err != nil {
			nd.net.t.Fatal(err)
		}
		toy.Salt++
		p := m.Vote.Proposal
		p.Digest = toy.block().Digest
		vote := consensus.SignVote(key, nd.index, testID, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
		for _, peer := range nd.net.nodes {
			if peer != nd {
				nd.send(peer, vote)
			}
		}
		return consensus.Offer{Vote: vote.(consensus.Notarize), Payload: toy.block().Payload}
	case consensus.Finalize:
		if nd.net.rng.IntN(2) == 0 {
			return consensus.SignVote(key, nd.index, testID, consensus.Statement{
				Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: m.Proposal.Round},
			})
		}
	}
	return m
}

func (n *network) height() int {
	least := len(n.chain)
	for _, nd := range n.nodes {
		if !nd.byzantine {
			least = min(least, len(nd.disk))
		}
	}
	return least
}

// TestChaosThenCalm crashes, loses, delays and equivocates for a while and then
// lets the network heal: nobody may disagree, and all must go on together.
func TestChaosThenCalm(t *testing.T) {
	t.Parallel()
	lo, hi := uint64(1), uint64(*seeds)
	if *oneSeed != 0 {
		lo, hi = *oneSeed, *oneSeed
	}
	for seed := lo; seed <= hi; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, seed, 1, 1, 1, 1)
			n.lossy = true
			n.nodes[3].byzantine = seed%2 == 0
			for _, nd := range n.nodes {
				nd.dieAt = 5 + n.rng.IntN(60)
				n.after(n.between(0, 100*ms), nd.start)
			}
			n.run(1200 * ms)
			n.lossy = false
			n.run(1600 * ms)
			healed := n.height()
			for n.now < 20_000*ms && n.height() < healed+5 {
				n.run(n.now + 100*ms)
			}
			if n.height() < healed+5 {
				for _, nd := range n.nodes {
					if nd.core == nil {
						t.Logf("node %d: crashed", nd.index)
						continue
					}
					f, _ := nd.core.LastFinalized()
					t.Logf("node %d: view %d, finalized view %d, height %d, behind %t", nd.index, nd.core.View(), f, len(nd.disk), nd.core.Behind())
				}
				t.Fatalf("seed %d: height %d soon after healing, %d at the end", seed, healed, n.height())
			}
		})
	}
}
