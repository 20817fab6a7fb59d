package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const testChain chain.ChainID = "nexus-test"

func key(n int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte{byte(n), byte(n >> 8), 7})
}

func accountOf(n int) crypto.AccountKey { return crypto.AccountKeyOf(key(n).Public()) }

func address(n int) chain.Address { return chain.AddressOf(accountOf(n)) }

// Who is who among the keys.
const (
	clusterKey  = 1
	consumerKey = 2
	serverKeys  = 10
	agentKeys   = 100
	ownerKeys   = 200
)

func testGenesis(t testing.TB) *chain.Genesis {
	g := &chain.Genesis{ChainID: testChain, TimeMs: 1, Params: chain.DefaultParams()}
	for i := range 4 {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			ConsensusKey: key(300 + i).Public(), NodeKey: key(310 + i).Public(), Owner: address(300), Stake: chain.Hyper(25_000_000),
		})
	}
	for _, d := range chain.Distribution {
		amount, ok := chain.TotalSupply.ShareFloor(d.Percent, 100)
		if !ok {
			t.Fatal("a share does not fit")
		}
		a := chain.Allocation{Bucket: d.Bucket, Address: address(320), Amount: amount}
		if d.Bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		if d.Bucket == chain.BucketValidators {
			rest, ok := amount.Sub(chain.Hyper(100_000_000))
			if !ok {
				t.Fatal("the stakes are above their bucket")
			}
			a.Amount = rest
		}
		if !a.Amount.IsZero() {
			g.Allocations = append(g.Allocations, a)
		}
	}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g
}

// fakeChain is what the servers know of the chain.
type fakeChain struct {
	mu       sync.Mutex
	down     bool
	escrow   chain.Amount
	escrows  int // questions for one
	outcomes map[crypto.Digest]server.Outcome
	leases   map[crypto.Digest]server.Lease
	services map[crypto.Digest]server.Service
	asked    map[crypto.Digest]int
	panel    crypto.Digest // zero: none was drawn
	untold   bool          // and no event says so
	sitting  server.Sitting
	matter   server.Matter

	probed     chain.LeaseID // of which peers were drawn; zero: none
	peers      []crypto.PublicKey
	challenged crypto.PublicKey // zero: no node is
	hardware   server.Challenge // of it
	records    map[crypto.PublicKey]*scheduler.Capacity
	leased     map[crypto.PublicKey]settlement.Leased // of those
	homes      map[crypto.PublicKey]settlement.Home

	neighbour crypto.PublicKey      // a cluster; zero: there is no other
	endpoints []string              // of it
	looked    map[crypto.Digest]int // panels
	runs      map[crypto.Digest]scheduler.Replication
	locked    chain.Amount                      // of the cluster's bond
	bonds     map[crypto.PublicKey]chain.Amount // what is free of those of nodes; of others: enough
}

func (f *fakeChain) free(node crypto.PublicKey) chain.Amount {
	if free, known := f.bonds[node]; known {
		return free
	}
	return chain.Hyper(1_000)
}

var errDown = errors.New("the chain is down")

func newFakeChain() *fakeChain {
	return &fakeChain{escrow: chain.Hyper(100), outcomes: map[crypto.Digest]server.Outcome{}, asked: map[crypto.Digest]int{}, looked: map[crypto.Digest]int{}, records: map[crypto.PublicKey]*scheduler.Capacity{}}
}

func (f *fakeChain) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeChain) Escrow(context.Context, chain.Address) (server.Escrow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.escrows++
	if f.down {
		return server.Escrow{}, errDown
	}
	return server.Escrow{Balance: f.escrow, TimeMs: chain.TimeMs(time.Now().UnixMilli())}, nil
}

// Owner knows the agents of the tests: two in three have an owner of their own.
func (f *fakeChain) Provider(_ context.Context, node crypto.PublicKey) (server.Provider, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return server.Provider{}, errDown
	}
	for n := range 20 {
		if key(agentKeys+n).Public() == node {
			return server.Provider{Owner: address(ownerKeys + n), Record: f.records[node], Leased: f.leased[node], Height: f.hardware.Height, Free: f.free(node)}, nil
		}
	}
	return server.Provider{}, server.ErrNotRegistered
}

func (f *fakeChain) Own(context.Context) (server.Own, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return server.Own{}, errDown
	}
	return server.Own{Cluster: settlement.Cluster{Bond: chain.Hyper(1_000), Locked: f.locked, FeeBps: 150}, Height: f.hardware.Height}, nil
}

func (f *fakeChain) Lease(_ context.Context, of server.LeaseQuery) (server.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return server.Lease{}, errDown
	}
	return f.leases[of.Order], nil
}

func (f *fakeChain) Outcome(_ context.Context, order crypto.Digest, _ []chain.Claim) (server.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[order]++
	return f.outcomes[order], nil
}

// Service implements server.Chain.
func (f *fakeChain) Service(_ context.Context, id chain.LeaseID) (server.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return server.Service{}, errDown
	}
	return f.services[id.Order], nil
}

// Replication implements server.Chain: what is settled is.
func (f *fakeChain) Replication(ctx context.Context, order *chain.Order) (scheduler.Replication, server.Outcome, error) {
	outcome, err := f.Outcome(ctx, order.ID(), nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs[order.ID()], outcome, err
}

// Panels implements server.Chain: it names the panel, and one that is not there.
func (f *fakeChain) Panels(ctx context.Context, tell server.PanelNews) error {
	f.mu.Lock()
	panel, nodes, neighbour, untold := f.panel, []crypto.PublicKey{}, f.neighbour, f.untold
	challenged, peers := f.challenged, f.hardware.Hardware.Peers
	for _, seat := range f.sitting.Seats {
		nodes = append(nodes, seat.Node)
	}
	f.mu.Unlock()
	if !neighbour.IsZero() {
		tell.Cluster(neighbour)
	}
	if !challenged.IsZero() {
		tell.Challenged(challenged, 0, peers)
		tell.Challenged(key(agentKeys+9).Public(), 0, peers)
	}
	if !panel.IsZero() && !untold {
		tell.Drawn(panel, 0, nodes)
		tell.Drawn(crypto.Digest{1}, 0, nodes)
	}
	f.mu.Lock()
	probed, peers := f.probed, f.peers
	f.mu.Unlock()
	if !probed.Order.IsZero() {
		tell.Peers(probed, peers)
	}
	<-ctx.Done()
	return ctx.Err()
}

// Panel implements server.Chain.
func (f *fakeChain) Panel(_ context.Context, id crypto.Digest) (server.Sitting, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked[id]++
	return f.sitting, id == f.panel, nil
}

// Hardware implements server.Chain.
func (f *fakeChain) Hardware(_ context.Context, node crypto.PublicKey) (server.Challenge, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return server.Challenge{}, errDown
	}
	if node != f.challenged {
		return server.Challenge{}, nil
	}
	return f.hardware, nil
}

// Home implements server.Chain.
func (f *fakeChain) Home(_ context.Context, node crypto.PublicKey) (settlement.Home, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return settlement.Home{}, errDown
	}
	return f.homes[node], nil
}

// Matter implements server.Chain.
func (f *fakeChain) Matter(context.Context, *server.Sitting) (server.Matter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.matter, nil
}

// Endpoints implements server.Chain.
func (f *fakeChain) Endpoints(_ context.Context, cluster crypto.PublicKey) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cluster != f.neighbour {
		return nil, server.ErrNotRegistered
	}
	return f.endpoints, nil
}

func (f *fakeChain) settle(order crypto.Digest) {
	f.set(func() {
		var paid server.Outcome
		paid.Settled = true
		paid.Record.Txs, paid.Record.Height = []crypto.Digest{{5}}, 42
		paid.Record.Cost, paid.Record.Burned = chain.Nano(1_000), chain.Nano(10)
		paid.Record.Nodes = []crypto.PublicKey{key(agentKeys).Public()}
		f.outcomes[order] = paid
	})
}

// cluster is servers in this process.
type cluster struct {
	t       testing.TB
	chain   *fakeChain
	configs []server.Config
	servers []*server.Server
	stops   []func() error
	http    *http.Client
}

func freePort(t testing.TB) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().String()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("HYPERMESH_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newCluster(t testing.TB, n int) *cluster { return newClusterWith(t, n, nil) }

// newClusterWith starts servers of a changed configuration.
func newClusterWith(t testing.TB, n int, change func(*server.Config)) *cluster {
	return newClusterOver(t, n, change, nil)
}

// newClusterOver starts servers that reach each other through a relay, which
// open makes of their addresses, or directly.
func newClusterOver(t testing.TB, n int, change func(*server.Config), open func(nodes []netip.AddrPort) *netem.Relay) *cluster {
	return newClusterOn(t, newFakeChain(), n, change, open)
}

// newClusterOn starts servers that ask a chain.
func newClusterOn(t testing.TB, on *fakeChain, n int, change func(*server.Config), open func(nodes []netip.AddrPort) *netem.Relay) *cluster {
	c := &cluster{t: t, chain: on, http: &http.Client{Timeout: time.Minute}}
	heartbeat := 200 * time.Millisecond
	if n == 1 {
		heartbeat = 50 * time.Millisecond // nobody else could lead
	}
	var addrs []string
	var listens []string
	for i := range n {
		listens = append(listens, freePort(t))
		addrs = append(addrs, key(serverKeys+i).Public().String()+"@"+listens[i])
	}
	var relay *netem.Relay
	if open != nil {
		nodes := make([]netip.AddrPort, n)
		for i := range n {
			nodes[i] = netip.MustParseAddrPort(listens[i])
		}
		relay = open(nodes)
	}
	for i := range n {
		home := c.home(i)
		cfg := server.DefaultConfig()
		cfg.Home, cfg.Log, cfg.Version = home, testLog(t), "test"
		cfg.Listen, cfg.Servers, cfg.HTTP, cfg.RPC = listens[i], addrs, "127.0.0.1:0", []string{"http://127.0.0.1:1"}
		cfg.Heartbeat, cfg.NodeGrace, cfg.MaxBlobMiB, cfg.BlobMiB = heartbeat, 300*time.Millisecond, 4, 64
		if relay != nil {
			cfg.Servers = make([]string, n)
			for j := range n {
				cfg.Servers[j] = addrs[j]
				if j != i {
					cfg.Servers[j] = key(serverKeys+j).Public().String() + "@" + relay.Addr(i, j).String()
				}
			}
		}
		if change != nil {
			change(&cfg)
		}
		c.configs = append(c.configs, cfg)
	}
	c.servers, c.stops = make([]*server.Server, n), make([]func() error, n)
	for i := range n {
		c.start(i)
	}
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { c.stop(i) })
		}
		wg.Wait()
	})
	c.waitLeader()
	return c
}

// home makes the home of the i-th server.
func (c *cluster) home(i int) string {
	c.t.Helper()
	genesis, err := json.Marshal(testGenesis(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	home := c.t.TempDir()
	for name, content := range map[string]string{
		server.GenesisFile: string(genesis), server.NodeKeyFile: key(serverKeys+i).Hex() + "\n", server.ClusterKeyFile: key(clusterKey).Hex(),
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return home
}

func (c *cluster) start(i int) {
	c.t.Helper()
	var s *server.Server
	var err error
	until(c.t, "a server's addresses, which others of the machine may have while it is away", func() bool {
		s, err = server.Open(c.configs[i], c.chain)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers[i] = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c.stops[i] = func() error {
		cancel()
		return <-done
	}
}

// stop ends a server in order.
func (c *cluster) stop(i int) {
	if c.stops[i] == nil {
		return
	}
	if err := c.stops[i](); err != nil {
		c.t.Errorf("server %d: %v", i, err)
	}
	c.stops[i] = nil
}

// kill ends a server without a word to anybody.
func (c *cluster) kill(i int) {
	c.t.Helper()
	if err := c.servers[i].Kill(context.Background()); err != nil {
		c.t.Fatal(err)
	}
	_ = c.stops[i]() // what its ruins say is not our concern
	c.stops[i] = nil
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("in vain: %s", what)
		case <-ticker.C:
		}
	}
}

// waitLeader returns the leading server's index.
func (c *cluster) waitLeader() (leader int) {
	c.t.Helper()
	until(c.t, "a leader that the others know", func() bool {
		leader = -1
		for i, s := range c.servers {
			if c.stops[i] == nil {
				continue
			}
			if s.Leads() {
				leader = i
			}
			if status, _ := c.do(i, http.MethodGet, "/healthz", nil, nil); status != http.StatusOK {
				return false
			}
		}
		return leader >= 0
	})
	return leader
}

func (c *cluster) url(i int) string { return "http://" + c.servers[i].HTTPAddr().String() }

// do sends a request to a server and returns status and body.
func (c *cluster) do(i int, method, path string, header http.Header, body io.Reader) (int, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url(i)+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	out, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, out
}

// get decodes a server's answer.
func get[T any](c *cluster, i int, path string) T {
	c.t.Helper()
	var out T
	status, body := c.patiently(func() (int, []byte) { return c.do(i, http.MethodGet, path, nil, nil) })
	if status != http.StatusOK {
		c.t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal(body, &out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// patiently asks again while the cluster is busy, as it is while another leads: on a
// loaded machine that may be at any time.
func (c *cluster) patiently(ask func() (int, []byte)) (status int, body []byte) {
	c.t.Helper()
	until(c.t, "an answer", func() bool {
		status, body = ask()
		return status != http.StatusServiceUnavailable
	})
	return status, body
}

func (c *cluster) post(i int, path string, value any) (int, []byte) {
	c.t.Helper()
	body, err := json.Marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.do(i, http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, strings.NewReader(string(body)))
}

// upload puts a blob through a server.
func (c *cluster) upload(i int, id crypto.Digest, data string) {
	c.t.Helper()
	if status, body := c.patiently(func() (int, []byte) {
		return c.do(i, http.MethodPut, "/v1/blobs/"+id.String(), nil, strings.NewReader(data))
	}); status != http.StatusCreated {
		c.t.Fatalf("uploading: %d %s", status, body)
	}
}

// waitJob waits for a status of a job, as a server sees it.
func (c *cluster) waitJob(i int, id crypto.Digest, want job.Status) (j api.Job) {
	c.t.Helper()
	until(c.t, "job "+want.String(), func() bool {
		status, body := c.do(i, http.MethodGet, "/v1/jobs/"+id.String(), nil, nil)
		if status != http.StatusOK {
			return false
		}
		j = api.Job{}
		if err := json.Unmarshal(body, &j); err != nil {
			c.t.Fatal(err)
		}
		if j.Status.Final() && j.Status != want {
			c.t.Fatalf("job is %s: %s", j.Status, j.Reason)
		}
		return j.Status == want
	})
	return j
}

func (c *cluster) nodeAddrs() []transport.NodeAddr {
	out := make([]transport.NodeAddr, len(c.configs))
	for i, cfg := range c.configs {
		addr, err := transport.ParseNodeAddr(cfg.Servers[i])
		if err != nil {
			c.t.Fatal(err)
		}
		out[i] = addr
	}
	return out
}
