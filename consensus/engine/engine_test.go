package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const chainID = "engine-test"

var genesis = crypto.DomainGenesis.Hash([]byte("genesis"))

func key(i int, role byte) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{byte(i + 1), role})
}

// toy is the payload of a test block.
type toy struct {
	_      struct{} `cbor:",toarray"`
	Parent crypto.Digest
	Height uint64
	View   consensus.View
	Txs    uint64
	Bulk   []byte
}

func (b toy) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Height: b.Height, Empty: b.Txs == 0, Payload: payload,
	}
}

func readToy(payload []byte) (toy, error) {
	var b toy
	err := codec.Unmarshal(payload, &b, consensus.MaxPayloadBytes)
	return b, err
}

// disk is what survives a kill.
type disk struct {
	mu     sync.Mutex
	blocks []engine.Proven
	infos  []consensus.Block
	log    [][]byte
}

func (d *disk) Append(records [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		d.log = append(d.log, bytes.Clone(r))
	}
	return nil
}

func (d *disk) Replay(fn func([]byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.log {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) Rewrite(records [][]byte) error {
	d.mu.Lock()
	d.log = nil
	d.mu.Unlock()
	return d.Append(records)
}

func (d *disk) height() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(len(d.infos))
}

// toyApp is the smallest application: a chain of counters.
type toyApp struct {
	*disk
	mu       sync.Mutex
	executed map[crypto.Digest]uint64
	txs      chan uint64
	broken   func(consensus.Block) error // asked by Verify
	slow     chan struct{}               // if not nil, Finalize takes one
	lie      bool                        // Finalized alters the payload
	reads    atomic.Int64                // calls of Inspect
}

func newApp(d *disk) *toyApp {
	a := &toyApp{disk: d, executed: map[crypto.Digest]uint64{genesis: 0}, txs: make(chan uint64, 1000)}
	for _, b := range d.infos {
		a.executed[b.Digest] = b.Height
	}
	return a
}

func (a *toyApp) Inspect(payload []byte) (consensus.Block, error) {
	a.reads.Add(1)
	b, err := readToy(payload)
	if err != nil {
		return consensus.Block{}, err
	}
	return b.block(), nil
}

func (a *toyApp) parent(d crypto.Digest) (uint64, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok := a.executed[d]
	return h, ok
}

func (a *toyApp) keep(b consensus.Block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.executed[b.Digest] = b.Height
}

func (a *toyApp) Propose(ctx context.Context, r engine.ProposeRequest) (consensus.Block, error) {
	h, ok := a.parent(r.Parent.Digest)
	if !ok {
		return consensus.Block{}, errors.New("propose on a parent that is not executed")
	}
	b := toy{Parent: r.Parent.Digest, Height: h + 1, View: r.Round.View}
	select {
	case n := <-a.txs:
		b.Txs = n
	case <-time.After(r.Idle):
	case <-ctx.Done():
		return consensus.Block{}, ctx.Err()
	}
	a.keep(b.block())
	return b.block(), nil
}

func (a *toyApp) Verify(_ context.Context, r engine.VerifyRequest) error {
	h, ok := a.parent(r.Parent.Digest)
	if !ok {
		return errors.New("verify on a parent that is not executed")
	}
	b, err := readToy(r.Block.Payload)
	if err != nil {
		return err
	}
	if b.Parent != r.Parent.Digest || b.View != r.Round.View || b.Height != h+1 {
		return fmt.Errorf("block %+v does not follow %+v in %+v", b, r.Parent, r.Round)
	}
	if a.broken != nil {
		if err := a.broken(r.Block); err != nil {
			return err
		}
	}
	a.keep(r.Block)
	return nil
}

func (a *toyApp) Finalize(_ context.Context, b consensus.Block, cert *consensus.Certificate) error {
	if a.slow != nil {
		<-a.slow
	}
	if _, executed := a.parent(b.Digest); !executed && a.broken != nil {
		if err := a.broken(b); err != nil {
			return err
		}
	}
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	want := genesis
	if len(a.infos) > 0 {
		want = a.infos[len(a.infos)-1].Digest
	}
	if b.Parent != want || b.Height != uint64(len(a.infos))+1 {
		return fmt.Errorf("finalizing height %d on %s, have height %d, %s", b.Height, b.Parent.Short(), len(a.infos), want.Short())
	}
	a.keep(b)
	a.infos = append(a.infos, b)
	a.blocks = append(a.blocks, engine.Proven{Digest: b.Digest, Payload: b.Payload, Certificate: cert})
	return nil
}

func (a *toyApp) Last() (engine.Last, error) {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	if len(a.infos) == 0 {
		return engine.Last{Digest: genesis}, nil
	}
	b := a.infos[len(a.infos)-1]
	return engine.Last{Height: b.Height, Digest: b.Digest, Empty: b.Empty, Certificate: a.blocks[len(a.blocks)-1].Certificate}, nil
}

func (a *toyApp) Finalized(height uint64) (engine.Proven, bool, error) {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	if height == 0 || height > uint64(len(a.blocks)) {
		return engine.Proven{}, false, nil
	}
	p := a.blocks[height-1]
	if a.lie {
		b, err := readToy(p.Payload)
		if err != nil {
			return engine.Proven{}, false, err
		}
		b.Txs++
		p.Payload = codec.Marshal(b)
		p.Certificate = &consensus.Certificate{
			Statement: p.Certificate.Statement, Signers: p.Certificate.Signers, Signatures: p.Certificate.Signatures,
		}
		p.Digest = b.block().Digest
		p.Certificate.Statement.Proposal.Digest = p.Digest
	}
	return p, true, nil
}

func (a *toyApp) FinalizedByDigest(d crypto.Digest) ([]byte, bool, error) {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	for i, b := range a.infos {
		if b.Digest == d {
			return a.blocks[i].Payload, true, nil
		}
	}
	return nil, false, nil
}

// hub is the in-memory network: a queue and a goroutine for each ordered pair
// of nodes, and a delay of one millisecond.
type hub struct {
	mu    sync.Mutex
	delay time.Duration
	nodes map[crypto.PublicKey]*port
}

type port struct {
	hub     *hub
	self    crypto.PublicKey
	engine  *engine.Engine
	ctx     context.Context
	wg      sync.WaitGroup
	links   map[crypto.PublicKey]chan letter
	blocked []string
}

type letter struct {
	from crypto.PublicKey
	ch   consensus.Channel
	data []byte
	at   time.Time
}

func (p *port) Broadcast(ch consensus.Channel, data []byte) {
	for _, peer := range p.Peers() {
		p.Send(peer, ch, data)
	}
}

func (p *port) Send(peer crypto.PublicKey, ch consensus.Channel, data []byte) bool {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	to := p.hub.nodes[peer]
	if to == nil || to.ctx.Err() != nil {
		return false
	}
	link := to.links[p.self]
	if link == nil {
		link = make(chan letter, 4096)
		to.links[p.self] = link
		to.wg.Go(func() { to.pump(link) })
	}
	select {
	case link <- letter{p.self, ch, data, time.Now().Add(p.hub.delay)}:
	default:
	}
	return true
}

func (p *port) pump(link chan letter) {
	for {
		select {
		case l := <-link:
			time.Sleep(time.Until(l.at)) // the wire's delay, in the bubble's clock
			if err := p.engine.Receive(l.from, l.ch, l.data); err != nil {
				continue // Block has recorded it
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *port) Peers() []crypto.PublicKey {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	var peers []crypto.PublicKey
	for k, to := range p.hub.nodes {
		if k != p.self && to.ctx.Err() == nil {
			peers = append(peers, k)
		}
	}
	return peers
}

func (p *port) Block(_ crypto.PublicKey, reason string) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.blocked = append(p.blocked, reason)
}

// cluster is up to four validators and observers above that index.
type cluster struct {
	t     testing.TB
	hub   *hub
	disks map[int]*disk
	nodes map[int]*running
	tune  func(*engine.Config)
}

type running struct {
	app    *toyApp
	port   *port
	engine *engine.Engine
	stop   context.CancelFunc
	result chan error
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, hub: &hub{delay: time.Millisecond, nodes: map[crypto.PublicKey]*port{}}, disks: map[int]*disk{}, nodes: map[int]*running{}}
}

func (c *cluster) config(i int) engine.Config {
	cfg := engine.DefaultConfig()
	var vs []consensus.Validator
	for v := range 4 {
		vs = append(vs, consensus.Validator{Key: key(v, 'c').Public(), Weight: 1, LeaderWeight: 1})
		cfg.NodeKeys = append(cfg.NodeKeys, key(v, 'n').Public())
	}
	committee, err := consensus.NewCommittee(1, vs)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg.ChainID, cfg.Committee, cfg.Start = chainID, committee, genesis
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if i < 4 {
		cfg.Key = key(i, 'c')
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

func (c *cluster) start(i int, prepare ...func(*toyApp)) *running {
	c.t.Helper()
	if c.disks[i] == nil {
		c.disks[i] = &disk{}
	}
	ctx, stop := context.WithCancel(c.t.Context())
	r := &running{app: newApp(c.disks[i]), stop: stop, result: make(chan error, 1)}
	for _, p := range prepare {
		p(r.app)
	}
	self := key(i, 'n').Public()
	r.port = &port{hub: c.hub, self: self, ctx: ctx, links: map[crypto.PublicKey]chan letter{}}
	var err error
	r.engine, err = engine.New(c.config(i), r.app, r.port, c.disks[i])
	if err != nil {
		c.t.Fatal(err)
	}
	r.port.engine = r.engine
	c.hub.mu.Lock()
	c.hub.nodes[self] = r.port
	c.hub.mu.Unlock()
	c.nodes[i] = r
	go func() { r.result <- r.engine.Run(ctx) }()
	return r
}

// kill stops a node and returns what Run said.
func (c *cluster) kill(i int) error {
	r := c.nodes[i]
	delete(c.nodes, i)
	r.stop()
	err := <-r.result
	r.port.wg.Wait()
	return err
}

func (c *cluster) stopAll() {
	c.t.Helper()
	for i := range 8 {
		if c.nodes[i] != nil {
			blocked := c.nodes[i].port
			if err := c.kill(i); err != nil {
				c.t.Errorf("node %d: %v", i, err)
			}
			if len(blocked.blocked) > 0 {
				c.t.Errorf("node %d blocked honest peers: %q", i, blocked.blocked)
			}
		}
	}
	c.agree()
}

// agree compares the chains.
func (c *cluster) agree() {
	c.t.Helper()
	var longest []consensus.Block
	for _, d := range c.disks {
		if len(d.infos) > len(longest) {
			longest = d.infos
		}
	}
	for i, d := range c.disks {
		for h, b := range d.infos {
			if b.Digest != longest[h].Digest {
				c.t.Fatalf("node %d disagrees at height %d", i, h+1)
			}
		}
	}
}

// reach waits until the node's height is at least h, within limit.
func (c *cluster) reach(i int, h uint64, limit time.Duration) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for c.disks[i].height() < h {
		if time.Now().After(deadline) {
			c.t.Fatalf("node %d at height %d, want %d within %v; status %+v, metrics %+v", i, c.disks[i].height(), h, limit,
				c.nodes[i].engine.Status(), c.nodes[i].engine.Metrics())
		}
		time.Sleep(5 * time.Millisecond) // the bubble's clock
	}
}

func TestFourValidatorsFinalizeUnderLoadAtNetworkSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			r := c.start(i)
			for n := range 100 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 5, 10*time.Second) // the first leader may have begun before its peers
		began := time.Now()
		c.reach(0, c.disks[0].height()+100, 10*time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("100 blocks took %v of simulated time, want at most 10 ms each", took)
		}
		c.stopAll()
	})
}

func TestAnIdleChainMakesAboutOneBlockPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		time.Sleep(20 * time.Second)
		if h := c.disks[0].height(); h < 18 || h > 24 {
			t.Errorf("%d blocks in 20 idle seconds", h)
		}
		if s := c.nodes[0].engine.Status(); s.View > consensus.View(s.Height)+2 {
			t.Errorf("view %d at height %d: idle views were nullified", s.View, s.Height)
		}
		c.stopAll()
	})
}

func TestATransactionEndsAnIdleWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		time.Sleep(3300 * time.Millisecond)
		before := c.disks[0].height()
		for i := range 4 {
			c.nodes[i].app.txs <- 1
		}
		time.Sleep(50 * time.Millisecond)
		if h := c.disks[0].height(); h < before+2 {
			t.Errorf("height %d after a transaction at height %d: its block and the next are immediate", h, before)
		}
		c.stopAll()
	})
}

func TestOneCrashedValidatorDoesNotStopTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(0, 3, 10*time.Second)
		if err := c.kill(2); err != nil {
			t.Fatal(err)
		}
		c.reach(0, c.disks[0].height()+20, 40*time.Second)
		c.stopAll()
	})
}

func TestAKilledValidatorReturnsWithItsLogAndVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.tune = func(cfg *engine.Config) { cfg.RewriteLog = 1 << 14 }
		for i := range 4 {
			c.start(i)
		}
		for round := range 6 {
			c.reach(0, c.disks[0].height()+3, 20*time.Second)
			if err := c.kill(round % 4); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond)
			r := c.start(round % 4)
			c.reach(round%4, c.disks[round%4].height()+4, 20*time.Second)
			if !r.engine.Status().Signs {
				t.Fatalf("validator %d only observes after its return", round%4)
			}
		}
		c.stopAll()
	})
}

func TestAllKilledAtOnceGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(0, 5, 20*time.Second)
		for i := range 4 {
			if err := c.kill(i); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			c.start(i)
		}
		c.reach(3, c.disks[3].height()+5, 20*time.Second)
		c.stopAll()
	})
}

func TestALateObserverCatchesUpAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			r := c.start(i)
			for n := range 80 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 300, 60*time.Second)
		late := c.start(5)
		c.reach(5, 300, 10*time.Second)
		c.reach(5, c.disks[0].height()+3, 10*time.Second)
		if m := late.engine.Metrics(); m.CatchUps == 0 {
			t.Errorf("300 blocks without catch-up: %+v", m)
		}
		if s := late.engine.Status(); s.Signs {
			t.Error("an observer signs")
		}
		c.stopAll()
	})
}

func TestAValidatorThatLostItsLogOnlyObserves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(1, 4, 20*time.Second)
		for range 2 { // and still does after another restart
			if err := c.kill(1); err != nil {
				t.Fatal(err)
			}
			if len(c.disks[1].log) > 0 && c.disks[1].height() < 6 {
				c.disks[1].log = nil
			}
			r := c.start(1)
			c.reach(1, c.disks[1].height()+6, 30*time.Second)
			if r.engine.Status().Signs {
				t.Fatal("a validator without its log signs")
			}
		}
		c.stopAll()
	})
}

func TestADivergedNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 3 {
			c.start(i)
		}
		r := c.start(3, func(a *toyApp) {
			a.broken = func(b consensus.Block) error {
				if b.Height >= 3 {
					return fmt.Errorf("another state root: %w", engine.ErrDiverged)
				}
				return nil
			}
		})
		if err := <-r.result; !errors.Is(err, engine.ErrDiverged) {
			t.Fatalf("Run returned %v, want ErrDiverged", err)
		}
		r.stop()
		r.port.wg.Wait()
		delete(c.nodes, 3)
		c.reach(0, 10, 30*time.Second)
		c.stopAll()
	})
}

func TestASlowDiskHoldsVotesBackAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		gate := make(chan struct{})
		for i := range 4 {
			r := c.start(i, func(a *toyApp) {
				if i == 3 {
					a.slow = gate
				}
			})
			for n := range 100 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 150, 60*time.Second)
		if h := c.disks[3].height(); h != 0 {
			t.Fatalf("height %d behind a closed gate", h)
		}
		if n := c.nodes[3].engine.Metrics().BlocksChecked; n > 40 {
			t.Errorf("%d blocks executed ahead of the disk", n)
		}
		close(gate)
		c.reach(3, 150, 30*time.Second)
		c.stopAll()
	})
}

func TestConfigNamesTheFieldOutOfRange(t *testing.T) {
	c := newCluster(t)
	for name, spoil := range map[string]func(*engine.Config){
		"Committee":  func(cfg *engine.Config) { cfg.Committee = nil },
		"Logger":     func(cfg *engine.Config) { cfg.Logger = nil },
		"Start":      func(cfg *engine.Config) { cfg.Start = crypto.Digest{} },
		"ChainID":    func(cfg *engine.Config) { cfg.ChainID = "" },
		"NodeKeys":   func(cfg *engine.Config) { cfg.NodeKeys = cfg.NodeKeys[:3] },
		"DeltaMin":   func(cfg *engine.Config) { cfg.DeltaMin = 0 },
		"Retention":  func(cfg *engine.Config) { cfg.Retention = 0 },
		"MaxAhead":   func(cfg *engine.Config) { cfg.MaxAhead = 0 },
		"MaxBacklog": func(cfg *engine.Config) { cfg.MaxBacklog = 1 },
		"Inbox":      func(cfg *engine.Config) { cfg.Inbox = 0 },
	} {
		cfg := c.config(0)
		spoil(&cfg)
		if err := cfg.Validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// BenchmarkFourValidators measures blocks in real time: four validators in one
// process, no delay, a log in memory.
func BenchmarkFourValidators(b *testing.B) {
	c := newCluster(b)
	c.hub.delay = 0
	for i := range 4 {
		r := c.start(i)
		r.app.txs = make(chan uint64, b.N)
		for n := range b.N {
			r.app.txs <- uint64(n + 1)
		}
	}
	b.ResetTimer()
	c.reach(0, uint64(b.N), time.Minute)
	b.StopTimer()
	c.stopAll()
}
