package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const patience = time.Minute

func seedKey(name string) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte(crypto.DomainNexusTie.Hash([]byte(name))))
}

var (
	consumerKey = seedKey("consumer")
	clusterKey  = seedKey("cluster")
	nodeKey     = seedKey("node")
	ownerAddr   = chain.AddressOf(crypto.AccountKeyOf(seedKey("owner").Public()))
)

var silent = slog.New(slog.DiscardHandler)

// genesis is that of a small network.
func genesis(kernels ...chain.GenesisKernel) *chain.Genesis {
	share := func(percent uint64) chain.Amount {
		part, _ := chain.TotalSupply.ShareFloor(percent, 100)
		return part
	}
	return &chain.Genesis{
		ChainID: "hypermesh-test", TimeMs: 1, Devnet: true, InsecureKeys: true, Params: chain.DefaultParams(),
		Validators: []chain.GenesisValidator{{
			Name: "one", ConsensusKey: seedKey("validator").Public(), NodeKey: seedKey("validator node").Public(), Owner: ownerAddr, Stake: share(10),
		}},
		Allocations: []chain.Allocation{
			{Bucket: chain.BucketCommunity, Address: ownerAddr, Amount: share(40)},
			{Bucket: chain.BucketTeam, Address: ownerAddr, Amount: share(20), Vesting: &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}},
			{Bucket: chain.BucketFoundation, Address: ownerAddr, Amount: share(25)},
			{Bucket: chain.BucketSale, Address: ownerAddr, Amount: share(5)},
		},
		Kernels: kernels,
	}
}

// server is one scripted server of a cluster.
type server struct {
	t        *testing.T
	endpoint *transport.Endpoint
	blobs    *blob.Store
	peers    chan *peer
	gate     chan struct{} // closed: blobs are served
	cancels  atomic.Bool   // the test cancels work, which gives up its fetches
}

// peer is a session as the server sees it.
type peer struct {
	server  *server
	conn    *transport.Conn
	control *transport.Stream
	inbox   chan any  // messages; of Bids each answer
	hello   job.Hello // the first message
}

func newServer(t *testing.T, g *chain.Genesis) *server {
	t.Helper()
	endpoint, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), Network: g.Digest(), ListenAddr: "127.0.0.1:0", Log: silent})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := endpoint.Listen(transport.Protocol{Name: job.Protocol, Admit: func(crypto.PublicKey) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	store, err := blob.Open(blob.Config{Dir: t.TempDir(), MaxBytes: 64 << 20, MaxBlobBytes: 64 << 20, Log: silent})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, endpoint: endpoint, blobs: store, peers: make(chan *peer, 16), gate: make(chan struct{})}
	close(s.gate)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			go s.welcome(conn)
		}
	}()
	t.Cleanup(func() {
		err := endpoint.Close()
		<-done
		if err := errors.Join(err, store.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// welcome reads the control stream, and serves blobs on every other.
func (s *server) welcome(conn *transport.Conn) {
	control, err := conn.AcceptStream(context.Background())
	if err != nil {
		return
	}
	p := &peer{server: s, conn: conn, control: control, inbox: make(chan any, 1024)}
	go func() {
		for {
			stream, err := conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				<-s.gate
				err := s.blobs.Serve(context.Background(), stream)
				if err == nil || s.cancels.Load() {
					return
				}
				select {
				case <-conn.Done(): // a connection's streams end a moment before it
				case <-time.After(10 * time.Second):
					s.t.Errorf("serving a blob: %v", err)
				}
			}()
		}
	}()
	defer close(p.inbox)
	for first := true; ; first = false {
		raw, err := transport.ReadMessage(control, job.MaxMessageBytes)
		if err != nil {
			return
		}
		m, err := job.DecodeMessage(raw)
		if err != nil {
			s.t.Errorf("the agent sent what does not decode: %v", err)
			return
		}
		if !first {
			if bids, ok := m.(job.Bids); ok {
				for _, reply := range bids.List {
					p.inbox <- reply
				}
			} else {
				p.inbox <- m
			}
			continue
		}
		hello, ok := m.(job.Hello)
		if !ok {
			s.t.Errorf("the first message is %T", m)
			return
		}
		p.hello = hello
		s.peers <- p
	}
}

// session waits for the agent's next session.
func (s *server) session() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		return p
	case <-time.After(patience):
		s.t.Fatal("no session")
		return nil
	}
}

func (s *server) put(data []byte) (crypto.Digest, uint64) {
	s.t.Helper()
	id, size, err := s.blobs.Put(context.Background(), bytes.NewReader(data), 64<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	return id, uint64(size)
}

func (p *peer) send(m job.Message) {
	p.server.t.Helper()
	if err := transport.WriteMessage(p.control, job.EncodeMessage(m)); err != nil {
		p.server.t.Fatal(err)
	}
}

// offer asks for a bid on one order.
func offer(auction uint64, order chain.Order, spec job.Spec, closeMs uint64) job.Offers {
	return job.Offers{List: []job.Offer{{Auction: auction, Order: order}}, Specs: []job.Spec{spec}, CloseMs: closeMs}
}

// await returns the next message of a type that want accepts; others are passed
// over.
func await[T any](p *peer, want func(T) bool) T {
	p.server.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case m, open := <-p.inbox:
			if !open {
				p.server.t.Fatalf("the session ended before a %T came", *new(T))
			}
			if found, ok := m.(T); ok && (want == nil || want(found)) {
				return found
			}
		case <-timeout:
			p.server.t.Fatalf("no %T came", *new(T))
		}
	}
}

// home makes an agent's home for a cluster of servers.
func home(t *testing.T, g *chain.Genesis, servers ...*server) agent.Config {
	t.Helper()
	config := agent.DefaultConfig()
	config.Home, config.Log, config.HTTP = t.TempDir(), silent, "127.0.0.1:0"
	config.Owner, config.Region = ownerAddr.String(), "eu"
	config.Millicores, config.MemoryMiB, config.DiskMiB = 2_000, 1_024, 512
	for _, s := range servers {
		config.Servers = append(config.Servers, s.endpoint.NodeAddr().String())
	}
	data, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{agent.GenesisFile: data, agent.NodeKeyFile: []byte(nodeKey.Hex() + "\n")} {
		if err := os.WriteFile(filepath.Join(config.Home, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// running is an agent that runs.
type running struct {
	*agent.Agent
	stop func()
}

// start runs an agent until stop, or the end of the test.
func start(t *testing.T, config agent.Config) *running {
	t.Helper()
	a, err := agent.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, a)
}

// begin has an agent run, which was opened.
func begin(t *testing.T, a *agent.Agent) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop := func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return &running{Agent: a, stop: stop}
}

// limits are small and generous enough for the programs of the tests.
func limits() job.Limits {
	l := job.DefaultLimits()
	l.MemoryBytes, l.OutputBytes = 1<<20, 1<<20
	return l
}

// wasmSpec is a job that runs a module which the server has.
func wasmSpec(module crypto.Digest, inputBytes uint64) job.Spec {
	return job.Spec{
		Label: "test", Work: job.WorkField{Work: job.Wasm{Module: module, Deterministic: true}}, InputBytes: inputBytes,
		Resources: job.Resources{Millicores: 1_000, MemoryMiB: 16}, Limits: limits(),
	}
}

// orderOf is an order that every agent of the tests takes.
func orderOf(spec *job.Spec, nonce uint64) chain.Order {
	const high = 1 << 62
	return chain.Order{
		ChainID: "hypermesh-test", Consumer: crypto.AccountKeyOf(consumerKey.Public()), Nonce: nonce, Cluster: clusterKey.Public(),
		Spec: spec.Digest(), Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		Caps:    []chain.UnitPrice{{Resource: chain.CPU, Price: high}, {Resource: chain.Memory, Price: high}, {Resource: chain.Network, Price: high}},
		MaxCost: chain.Hyper(1_000_000), FixedCap: chain.Hyper(1), Deadline: chain.TimeMs(time.Now().Add(time.Hour).UnixMilli()),
	}
}

// assignmentOf is a valid assignment of an order to the node of the tests.
func assignmentOf(order chain.Order, spec job.Spec) job.Assignment {
	acceptance := chain.Acceptance{ChainID: order.ChainID, Order: order.ID(), Cluster: order.Cluster, Sequence: order.Nonce + 1, Outstanding: order.MaxCost}
	bid := chain.Bid{
		ChainID: order.ChainID, Order: order.ID(), Node: nodeKey.Public(), Expiry: chain.TimeMs(time.Now().Add(time.Minute).UnixMilli()),
		Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 1}, {Resource: chain.Memory, Price: 1}, {Resource: chain.Network, Price: 1}},
	}
	return sign(job.Assignment{Order: order, Acceptance: acceptance, Bid: bid, Spec: spec, Sequence: 1})
}

// sign signs an assignment's forms with the keys that they should have.
func sign(a job.Assignment) job.Assignment {
	a.OrderSig = consumerKey.Sign(crypto.DomainOrder, a.Order.Payload())
	a.AcceptanceSig = clusterKey.Sign(crypto.DomainAcceptance, a.Acceptance.Payload())
	a.BidSig = nodeKey.Sign(crypto.DomainBid, a.Bid.Payload())
	return a
}

// assign gives the agent a job of a module and waits until it is taken.
func (p *peer) assign(module []byte, nonce uint64, change func(*job.Spec)) job.Assignment {
	p.server.t.Helper()
	id, size := p.server.put(module)
	spec := wasmSpec(id, size)
	if change != nil {
		change(&spec)
	}
	a := assignmentOf(orderOf(&spec, nonce), spec)
	p.send(job.Assign{List: []job.Assignment{a}})
	if reply := await[job.AssignReply](p, nil); reply.Refuse != "" || reply.Order != a.Order.ID() {
		p.server.t.Fatalf("the assignment was refused: %q", reply.Refuse)
	}
	return a
}

// finish waits for an order's Done and checks what it says of itself.
func (p *peer) finish(a *job.Assignment) job.Done {
	p.server.t.Helper()
	order := a.Order.ID()
	d := await(p, func(d job.Done) bool { return d.Receipt.Order == order })
	r := &d.Receipt
	if r.ChainID != "hypermesh-test" || r.Node != nodeKey.Public() || r.Sequence != 1 || r.Started > r.Ended {
		p.server.t.Errorf("receipt %+v", r)
	}
	if !nodeKey.Public().Verify(crypto.DomainUsage, r.Payload(), d.ReceiptSig) {
		p.server.t.Error("the receipt's signature does not verify")
	}
	return d
}

// output fetches a Done's output from the agent and returns its files.
func (p *peer) output(d job.Done) map[string]string {
	p.server.t.Helper()
	return p.opened(d, func(b io.Reader) (io.Reader, error) { return b, nil })
}

// opened is output of a blob that has to be opened first.
func (p *peer) opened(d job.Done, open func(io.Reader) (io.Reader, error)) map[string]string {
	t := p.server.t
	t.Helper()
	size, err := p.server.blobs.Fetch(context.Background(), d.Output, 1<<20, p.conn)
	if err != nil || uint64(size) != d.OutputSize {
		t.Fatalf("fetching the output: %d bytes, %v; the Done says %d", size, err, d.OutputSize)
	}
	b, err := p.server.blobs.Open(d.Output)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	packed, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	err = blob.Unpack(packed, dir, blob.Limits{MaxEntries: 10, MaxFileBytes: 1 << 20, MaxBytes: 1 << 20})
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	return files
}

// status is the agent's own account of itself.
func (r *running) status(t *testing.T) agent.Status {
	t.Helper()
	resp, err := r.get(t, "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	var s agent.Status
	if err := json.Unmarshal(resp, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// waitFor polls the agent's status, as a supervisor does, until it is as wanted.
func (r *running) waitFor(t *testing.T, want func(agent.Status) bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		st := r.status(t)
		if want(st) {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("the status stays %+v", st)
		}
	}
}

func (r *running) get(t *testing.T, path string) ([]byte, error) {
	t.Helper()
	resp, err := client.Get("http://" + r.HTTPAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return body, fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return body, nil
}
