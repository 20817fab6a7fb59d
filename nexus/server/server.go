package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	shutdownTimeout = 3 * time.Second
	peerConns       = 64 // connections of other servers beside those of agents
)

// closeOwner is the code with which an agent is sent away whose owner the chain
// does not confirm.
const closeOwner = transport.CloseOfProtocol

// Server is one server of a cluster.
type Server struct {
	cfg    Config
	log    *slog.Logger
	chain  Chain
	id     identity
	self   crypto.PublicKey
	roster *roster
	config scheduler.Config

	endpoint  *transport.Endpoint
	blobs     *blob.Store
	blobPool  *pool
	peers     *http.Transport
	replica   *replica
	consensus *consensus
	raftInbox *inbox
	peerInbox *inbox
	sessions  *sessions
	batches   *batcher // of commands, on their way to the log
	forwards  *batcher // of commands, on their way to the leader
	verifier  *verifier
	proofs    zk.Verifier
	docket    *docket
	egress    egress
	abroad    *abroad
	guests    guests
	homes     homes

	challenges *challenges
	places     places
	outward    *http.Client // for endpoints that other clusters registered
	signer     *signer
	logs       *jobLogs
	pins       *pins
	tunnels    *tunnels
	http       *http.Server
	peerHTTP   *http.Server
	listener   net.Listener
	metrics    *metrics

	current   atomic.Pointer[reign] // while this server leads
	admitting atomic.Int64          // orders that clients submit now
	elections elections
	readers   readers
	shown     shown
	escrows   escrowCache
	glance    glance
	addresses addresses
	// unfinished are uploads that broke off.
	unfinished *unfinished

	ctx     context.Context // of everything that outlives a reign
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	closing chan struct{} // closed when streams of events should end

	ownersMu sync.Mutex
	owners   map[crypto.PublicKey]knownOwner
	measured map[crypto.PublicKey]chain.Height // nodes of which the chain is to be asked anew, in a state of then or later
	asking   chan struct{}                     // one token for each question to the chain about owners

	ownRecord ownCache // what bonds are promised by
}

// Run runs a server until ctx ends, with the chain that its configuration
// names.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("server: configuration: %w", err)
	}
	id, err := readIdentity(cfg.Home)
	if err != nil {
		return err
	}
	c, err := newSDKChain(cfg.RPC, id)
	if err != nil {
		return err
	}
	s, err := Open(cfg, c)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Open reads the home, opens the stores, and binds the addresses. Run must
// follow: it closes everything.
func Open(cfg Config, c Chain) (_ *Server, err error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("server: configuration: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, chain: c, logs: newJobLogs(), tunnels: newTunnels(), closing: make(chan struct{}),
		addresses: addresses{known: map[crypto.PublicKey]knownURL{}},
		abroad:    newAbroad(),
		homes:     homes{known: map[crypto.PublicKey]*homing{}},
		guests:    guests{waiting: map[crypto.Digest][]chan job.ProbeReply{}},
		owners:    map[crypto.PublicKey]knownOwner{}, measured: map[crypto.PublicKey]chain.Height{}, asking: make(chan struct{}, maxAsking),
	}
	s.batches, s.forwards, s.verifier = newBatcher(s.toLog), newBatcher(s.toLeader), newVerifier()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.openIdentity(); err != nil {
		return nil, err
	}
	if err := s.openStores(); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	if err := s.openHTTP(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) openIdentity() (err error) {
	if s.id, err = readIdentity(s.cfg.Home); err != nil {
		return err
	}
	members, err := s.cfg.members()
	if err != nil {
		return err
	}
	s.self = s.id.node.Public()
	mine := false
	for _, m := range members {
		mine = mine || m.ID == s.self
	}
	if !mine {
		return fmt.Errorf("server: servers does not list this one, %s", s.self)
	}
	s.roster = newRoster(s.self, members)
	s.log = s.cfg.Log.With("server", s.self.Short())
	s.cfg.Log = s.log
	s.config = scheduler.DefaultConfig(s.id.genesis, s.id.cluster.Public())
	lasts := 2 * time.Duration(settlement.PanelMs(&s.id.genesis.Params)) * time.Millisecond
	s.docket = newDocket(lasts, uint64(s.cfg.BlobMiB)*mebibyte/4)
	s.challenges = newChallenges(&s.id.genesis.Params)
	s.outward = outwardClient(s.cfg.LocalPeers)
	s.signer = newSigner(s.id.cluster, s.id.genesis.ChainID)
	if s.proofs, err = groth16.OpenVerifier(s.cfg.Home, s.id.genesis.VerifyingKeys()); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func (s *Server) openStores() (err error) {
	if s.endpoint, err = transport.Open(transport.Config{
		Key: s.id.node, Network: s.id.genesis.Digest(), ListenAddr: s.cfg.Listen, MaxConns: s.cfg.MaxAgents + peerConns + maxTunnels, Log: s.log,
	}); err != nil {
		return err
	}
	if s.blobs, err = blob.Open(blob.Config{
		Dir: filepath.Join(s.cfg.Home, dataDir, blobsDir), MaxBytes: int64(s.cfg.BlobMiB) * mebibyte, MaxBlobBytes: s.maxBlob(), Log: s.log,
	}); err != nil {
		return err
	}
	s.pins = newPins(s.blobs, int64(s.cfg.BlobMiB)*mebibyte/2)
	s.unfinished = newUnfinished(s.blobs.Forget)
	s.blobPool = newPool(s.endpoint, blobProtocol, s.roster)
	s.peers = newPeerTransport(newPool(s.endpoint, peerProtocol, s.roster))
	s.sessions = &sessions{
		log: s.log, chain: s.id.genesis.ChainID, byID: map[crypto.PublicKey]*session{},
		blobs: s.serveAgent, logs: s.takeLog, bids: s.bids, tell: s.hearEnd, poke: s.poke, away: s.probeAbroad, reply: s.guests.answer, ended: s.isOver, roster: s.roster.message,
	}
	s.raftInbox, s.peerInbox = newInbox(s.endpoint.Addr()), newInbox(s.endpoint.Addr())
	s.replica = newReplica(s.config, s.log)
	s.replica.members = s.setMembers
	layer := &streamLayer{inbox: s.raftInbox, pool: newPool(s.endpoint, raftProtocol, s.roster), same: s.checkCluster}
	if s.consensus, err = openRaft(&s.cfg, s.roster.list(), layer, s.replica); err != nil {
		return err
	}
	future := s.consensus.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return fmt.Errorf("server: raft's configuration: %w", err)
	}
	s.setMembers(future.Index(), future.Configuration())
	s.elections.observe(s.consensus.raft)
	return nil
}

// HTTPAddr returns the address that the HTTP API is bound to.
func (s *Server) HTTPAddr() net.Addr { return s.listener.Addr() }

// NodeAddr returns the server's identity and the address that it listens at.
func (s *Server) NodeAddr() transport.NodeAddr { return s.endpoint.NodeAddr() }

// Leads reports whether this server acts as the leader.
func (s *Server) Leads() bool { return s.current.Load() != nil }

// Run serves until ctx ends, hands the leadership over if it has it, stops
// every goroutine and closes everything. It is called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(ctx, s.cancel)()
	var wg sync.WaitGroup
	fail := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			stop(fmt.Errorf("server: %s: %w", what, err))
		}
	}
	for _, l := range []struct {
		protocol string
		admit    func(crypto.PublicKey) bool
		serve    func(context.Context, *transport.Conn)
	}{
		{raftProtocol, s.isMember, s.streamsTo(func(_ context.Context, st *transport.Stream) { s.raftInbox.put(st) })},
		{peerProtocol, s.isMember, s.streamsTo(func(_ context.Context, st *transport.Stream) { s.peerInbox.put(st) })},
		{blobProtocol, s.isMember, s.streamsTo(s.servePeer)},
		{job.Protocol, s.admits, s.sessions.serve},
		{job.TunnelProtocol, s.isAgent, s.tunnels.serve},
	} {
		listener, err := s.endpoint.Listen(transport.Protocol{Name: l.protocol, Admit: l.admit})
		if err != nil {
			stop(err)
			break
		}
		wg.Go(func() { fail(l.protocol, s.accept(ctx, listener, l.serve)) })
	}
	wg.Go(func() { s.batches.run(ctx) })
	wg.Go(func() { s.forwards.run(ctx) })
	wg.Go(func() { s.verifier.run(ctx) })
	wg.Go(func() { s.followRaft(ctx) })
	wg.Go(func() { s.keepBlobs(ctx) })
	wg.Go(func() { s.mendBlobs(ctx) }) // one server may become three
	wg.Go(func() { s.keepAge(ctx) })
	wg.Go(func() { s.keepAddresses(ctx) })
	wg.Go(func() { s.watchPanels(ctx) })
	wg.Go(func() { s.watchAbroad(ctx) })
	wg.Go(func() { s.watchHardware(ctx) })
	wg.Go(func() { s.watchHomes(ctx) })
	wg.Go(func() { fail("state", s.compareAsides(ctx)) })
	wg.Go(func() { fail(ClusterKeyFile, s.compareClusters(ctx)) })
	wg.Go(func() { s.elections.run(ctx) })
	wg.Go(func() { fail("HTTP", s.http.Serve(s.listener)) })
	wg.Go(func() { fail("peers", s.peerHTTP.Serve(s.peerInbox)) })
	s.log.Info("server is up", "listen", s.endpoint.Addr(), "http", s.listener.Addr(), "servers", len(s.roster.list()))
	<-ctx.Done()
	s.stopHTTP()
	s.tunnels.close()
	wg.Wait()
	s.tasks.Wait()
	err := s.close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return err
}

// close releases what Open has opened, in reverse. A leader hands over first.
func (s *Server) close() error {
	s.cancel()
	var failures []error
	if s.listener != nil {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			failures = append(failures, err)
		}
	}
	if s.consensus != nil {
		if len(s.roster.list()) > 1 {
			s.consensus.handOver(s.log)
		}
		failures = append(failures, s.consensus.close(s.endpoint.Close))
	}
	if s.peers != nil {
		s.peers.CloseIdleConnections()
	}
	if s.endpoint != nil {
		failures = append(failures, s.endpoint.Close())
	}
	if s.blobs != nil {
		failures = append(failures, s.blobs.Close())
	}
	return errors.Join(failures...)
}

// isMember reports whether another server may ask this one.
func (s *Server) isMember(id crypto.PublicKey) bool {
	_, ok := s.roster.addr(id)
	return ok && id != s.self
}

// setMembers takes raft's configuration as the cluster's servers.
func (s *Server) setMembers(index uint64, c raft.Configuration) {
	if err := s.roster.set(index, c); err != nil {
		s.log.Error("raft's configuration names a server that cannot be", "index", index, "error", err)
		return
	}
	if m, ok := s.roster.message(); ok {
		encoded := job.EncodeMessage(m)
		for _, agent := range s.sessions.all() {
			agent.sendEncoded(encoded)
		}
	}
	if _, mine := s.roster.addr(s.self); !mine {
		s.log.Warn("this server was removed from its cluster: stop it")
	}
}

// admits lets agents in until there are as many as may be; one that comes back
// before its last session has ended is not one more.
func (s *Server) admits(id crypto.PublicKey) bool {
	return !s.isMember(id) && (s.sessions.get(id) != nil || s.sessions.count() < s.cfg.MaxAgents)
}

// isAgent lets whoever has a session dial tunnels.
func (s *Server) isAgent(id crypto.PublicKey) bool { return s.sessions.get(id) != nil }

// accept serves the connections of one protocol until ctx ends, and returns
// when all have ended.
func (s *Server) accept(ctx context.Context, l *transport.Listener, serve func(context.Context, *transport.Conn)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			return err
		}
		wg.Go(func() { serve(ctx, conn) })
	}
}

// streamsTo serves every stream of a connection.
func (s *Server) streamsTo(handle func(context.Context, *transport.Stream)) func(context.Context, *transport.Conn) {
	return func(ctx context.Context, conn *transport.Conn) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			stream, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { handle(ctx, stream) })
		}
	}
}

// poke tells the leader, if it is this server, that an agent has said
// something. If it is too busy to be told it looks by itself soon.
func (s *Server) poke(from *session) {
	if r := s.current.Load(); r != nil {
		select {
		case r.pokes <- from:
		default:
		}
	}
}

// isOver reports whether a node's assignment is over, as far as this server knows.
func (s *Server) isOver(node crypto.PublicKey, order crypto.Digest) bool {
	over := true
	s.replica.view(func(state *scheduler.State) {
		if j, ok := state.Job(order); ok {
			for i := range j.Runs {
				over = over && (j.Runs[i].Node != node || j.Runs[i].Stage != scheduler.Live)
			}
		}
	})
	return over
}

// elections wakes whoever waits for another leader.
type elections struct {
	observations chan raft.Observation

	mu      sync.Mutex
	changed chan struct{}
}

func (e *elections) observe(r *raft.Raft) {
	e.changed = make(chan struct{})
	e.observations = make(chan raft.Observation, 16)
	r.RegisterObserver(raft.NewObserver(e.observations, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
}

func (e *elections) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.observations:
			e.mu.Lock()
			close(e.changed)
			e.changed = make(chan struct{})
			e.mu.Unlock()
		}
	}
}

// watch returns a channel that is closed when the leader is another.
func (e *elections) watch() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}
