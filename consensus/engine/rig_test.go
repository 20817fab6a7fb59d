package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/replica"
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
	Round  consensus.Round
	Txs    uint64
	Last   bool // of its epoch
}

func (b toy) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Height: b.Height, Empty: b.Txs == 0, Closing: b.Last, Payload: payload,
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
	logs   map[consensus.Epoch][][]byte
	fail   func(op string) error // asked before every write
	fresh  bool                  // nothing was ever signed
}

func newDisk() *disk { return &disk{logs: map[consensus.Epoch][][]byte{}, fresh: true} }

// write does one write. The caller holds nothing.
func (d *disk) write(op string, do func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(op); err != nil {
			return err
		}
	}
	do()
	return nil
}

func (d *disk) Epochs() ([]consensus.Epoch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.logs)), nil
}

func (d *disk) Append(epoch consensus.Epoch, records [][]byte) error {
	return d.write("append", func() {
		for _, r := range records {
			d.logs[epoch] = append(d.logs[epoch], bytes.Clone(r))
		}
	})
}

func (d *disk) Replay(epoch consensus.Epoch, fn func([]byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.logs[epoch] {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) Rewrite(epoch consensus.Epoch, records [][]byte) error {
	return d.write("rewrite", func() {
		d.logs[epoch] = nil
		for _, r := range records {
			d.logs[epoch] = append(d.logs[epoch], bytes.Clone(r))
		}
	})
}

func (d *disk) Delete(epoch consensus.Epoch) error {
	return d.write("delete", func() { delete(d.logs, epoch) })
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
	executed map[crypto.Digest]uint64          // heights
	closed   map[crypto.Digest]consensus.Epoch // by closing blocks
	rules    *rules
	inside   atomic.Int64 // running calls of Finalize
	evidence []consensus.Evidence
	entered  []consensus.Epoch
	txs      chan uint64
	broken   func(consensus.Block) error // asked by Verify
	slow     chan struct{}               // if not nil, Finalize takes one
	lie      bool                        // Finalized alters the payload
	reads    atomic.Int64                // calls of Inspect
	withheld atomic.Bool                 // what packed proposals leave out does not come
}

// rules are what all nodes agree on beforehand.
type rules struct {
	epochBlocks uint64                      // 0: one epoch for ever
	members     func(consensus.Epoch) []int // nil: validators 0 … 3
}

func (r *rules) reign(epoch consensus.Epoch) (replica.Reign, error) {
	members := []int{0, 1, 2, 3}
	if r.members != nil {
		members = r.members(epoch)
	}
	var reign replica.Reign
	var vs []consensus.Validator
	for _, i := range members {
		vs = append(vs, consensus.Validator{Key: key(i, 'c').Public(), Weight: 1, LeaderWeight: 1})
		reign.NodeKeys = append(reign.NodeKeys, key(i, 'n').Public())
	}
	var err error
	reign.Committee, err = consensus.NewCommittee(epoch, vs)
	return reign, err
}

func newApp(d *disk, r *rules) *toyApp {
	a := &toyApp{disk: d, rules: r, executed: map[crypto.Digest]uint64{genesis: 0}, closed: map[crypto.Digest]consensus.Epoch{}, txs: make(chan uint64, 1000)}
	for _, b := range d.infos {
		a.keep(b)
	}
	return a
}

// last reports whether a block of the height is its epoch's last.
func (a *toyApp) last(height uint64) bool {
	return a.rules.epochBlocks > 0 && height%a.rules.epochBlocks == 0
}

// reigns returns those of the epochs before, of and after the next block. The
// caller holds a.disk.mu.
func (a *toyApp) reigns() ([]replica.Reign, error) {
	epoch, starts := consensus.Epoch(1), map[consensus.Epoch]int{1: 0}
	for i, b := range a.infos {
		if b.Closing {
			epoch++
			starts[epoch] = i + 1
		}
	}
	var out []replica.Reign
	for e := max(epoch, 2) - 1; e <= epoch+1; e++ {
		reign, err := a.rules.reign(e)
		if err != nil {
			return nil, err
		}
		if start, ok := starts[e]; ok {
			reign.Start, reign.StartHeight, reign.StartMs = genesis, uint64(start), uint64(start)
			if start > 0 {
				reign.Start, reign.Final = a.infos[start-1].Digest, a.blocks[start-1].Certificate
			}
		}
		out = append(out, reign)
	}
	return out, nil
}

func (a *toyApp) Evidence(e consensus.Evidence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.evidence = append(a.evidence, e)
}

func (a *toyApp) Enter(reign, next replica.Reign) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entered = append(a.entered, reign.Committee.Epoch())
	if next.Committee.Epoch() != reign.Committee.Epoch()+1 {
		panic("the epoch after the next is not the next")
	}
}

func (a *toyApp) Inspect(payload []byte) (consensus.Block, error) {
	a.reads.Add(1)
	b, err := readToy(payload)
	if err != nil {
		return consensus.Block{}, err
	}
	return b.block(), nil
}

func (a *toyApp) Pack(_ crypto.Digest, payload []byte) []byte { return payload }

func (a *toyApp) Unpack(ctx context.Context, _ crypto.PublicKey, packed []byte) (consensus.Block, error) {
	if a.withheld.Load() {
		<-ctx.Done()
		return consensus.Block{}, ctx.Err()
	}
	return a.Inspect(packed)
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
	if t, err := readToy(b.Payload); err == nil && b.Closing {
		a.closed[b.Digest] = t.Round.Epoch
	}
}

func (a *toyApp) Propose(ctx context.Context, r engine.ProposeRequest) (consensus.Block, error) {
	h, ok := a.parent(r.Parent.Digest)
	if !ok {
		return consensus.Block{}, errors.New("propose on a parent that is not executed")
	}
	if a.closes(r.Parent.Digest, r.Round.Epoch) {
		return consensus.Block{}, errors.New("propose on a closing block in its epoch")
	}
	b := toy{Parent: r.Parent.Digest, Height: h + 1, Round: r.Round, Last: a.last(h + 1)}
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
		return fmt.Errorf("%w: %w", engine.ErrInvalid, err)
	}
	if b.Parent != r.Parent.Digest || b.Round != r.Round || b.Height != h+1 || b.Last != a.last(b.Height) || a.closes(b.Parent, b.Round.Epoch) {
		return fmt.Errorf("%w: %+v does not follow %+v in %+v", engine.ErrInvalid, b, r.Parent, r.Round)
	}
	if a.broken != nil {
		if err := a.broken(r.Block); err != nil {
			return err
		}
	}
	a.keep(r.Block)
	return nil
}

// closes reports whether the block is the last of the epoch.
func (a *toyApp) closes(d crypto.Digest, epoch consensus.Epoch) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed[d] == epoch
}

func (a *toyApp) Finalize(_ context.Context, b consensus.Block, cert *consensus.Certificate) ([]replica.Reign, error) {
	if a.inside.Add(1) > 1 {
		return nil, errors.New("Finalize runs twice at a time")
	}
	defer a.inside.Add(-1)
	if a.slow != nil {
		<-a.slow
	}
	if _, executed := a.parent(b.Digest); !executed && a.broken != nil {
		if err := a.broken(b); err != nil {
			return nil, err
		}
	}
	if err := a.disk.write("commit", func() {}); err != nil {
		return nil, err
	}
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	want := genesis
	if len(a.infos) > 0 {
		want = a.infos[len(a.infos)-1].Digest
	}
	if b.Parent != want || b.Height != uint64(len(a.infos))+1 {
		return nil, fmt.Errorf("finalizing height %d on %s, have height %d, %s", b.Height, b.Parent.Short(), len(a.infos), want.Short())
	}
	a.keep(b)
	a.infos = append(a.infos, b)
	a.blocks = append(a.blocks, engine.Proven{Digest: b.Digest, Payload: b.Payload, Certificate: cert})
	if !b.Closing {
		return nil, nil
	}
	return a.reigns()
}

func (a *toyApp) Last() (replica.Floor, error) {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	reigns, err := a.reigns()
	if err != nil || len(a.infos) == 0 {
		return replica.Floor{Digest: genesis, Reigns: reigns}, err
	}
	b := a.infos[len(a.infos)-1]
	return replica.Floor{
		Height: b.Height, Digest: b.Digest, Empty: b.Empty, Closing: b.Closing, Certificate: a.blocks[len(a.blocks)-1].Certificate, Reigns: reigns,
	}, nil
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

// changed tells everybody that a connection came or went.
func (h *hub) changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.nodes {
		p.engine.PeersChanged()
	}
}

type port struct {
	hub     *hub
	self    crypto.PublicKey
	engine  *engine.Engine
	ctx     context.Context
	wg      sync.WaitGroup
	links   map[crypto.PublicKey]chan letter
	blocked []string
	sent    int
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
	p.sent++
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

func (p *port) Favour([]crypto.PublicKey) {}

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
	rules rules
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
	cfg.Replica.ChainID, cfg.Replica.NodeKey = chainID, key(i, 'n').Public()
	cfg.Replica.Keys, cfg.Replica.Fresh = []crypto.PrivateKey{key(i, 'c')}, c.disks[i] == nil || c.disks[i].fresh
	cfg.Replica.Since = 1 // only genesis is as early
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

func (c *cluster) start(i int, prepare ...func(*toyApp)) *running {
	c.t.Helper()
	if c.disks[i] == nil {
		c.disks[i] = newDisk()
	}
	ctx, stop := context.WithCancel(c.t.Context())
	r := &running{app: newApp(c.disks[i], &c.rules), stop: stop, result: make(chan error, 1)}
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
	c.disks[i].fresh = false
	c.hub.mu.Lock()
	c.hub.nodes[self] = r.port
	c.hub.mu.Unlock()
	c.hub.changed()
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
	c.hub.changed()
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

// count returns how many messages were given to the network.
func (p *port) count() int {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	return p.sent
}

// leader returns who leads a view of the first epoch.
func (c *cluster) leader(v consensus.View) consensus.Signer {
	c.t.Helper()
	reign, err := c.rules.reign(1)
	if err != nil {
		c.t.Fatal(err)
	}
	return reign.Committee.Leader(v)
}
