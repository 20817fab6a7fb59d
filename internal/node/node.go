package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// Deps are a node's dependencies: the real ones come from Open.
type Deps struct {
	Genesis       *chain.Genesis
	ConsensusKeys []crypto.PrivateKey // none: an observer
	Fresh         bool                // the keys never signed on this chain
	Begun         consensus.Epoch     // the highest epoch whose log was begun
	Since         chain.TimeMs        // before it, an earlier life may have signed what the logs do not tell
	Noted         time.Time           // when Since was taken off the clock: to open what a node needs may take long
	FaucetKey     crypto.PrivateKey   // zero: no faucet
	Verifier      zk.Verifier
	VM            *vm.Machine // nil: none that runs contracts
	Store         *store.Store
	Logs          *store.Logs
	Endpoint      *transport.Endpoint
	Log           *slog.Logger

	marks *markers // of the consensus keys; nil: none
}

// Node is a validator, or an observer that follows the chain and serves it.
type Node struct {
	config   Config
	genesis  *chain.Genesis
	store    *store.Store
	logs     *store.Logs
	endpoint *transport.Endpoint
	network  *network
	joiners  *transport.Mesh // over which states are served; nil: it is hidden behind its sentries
	engine   *engine.Engine
	app      *application
	pool     *pool
	faucet   *faucet
	rpc      *rpc.Server
	log      *slog.Logger

	recomputing atomic.Bool  // the supply
	asked       atomic.Int32 // contracts that answer queries from outside
}

// Open makes the dependencies that the config and its home describe.
func Open(config Config, log *slog.Logger) (deps Deps, err error) {
	if err := config.Check(); err != nil {
		return Deps{}, err
	}
	deps.Log = log
	defer func() {
		if err != nil {
			err = errors.Join(err, deps.close())
		}
	}()
	path := func(name string) string { return filepath.Join(config.Home, name) }
	if deps.Genesis, err = ReadGenesisFile(path(GenesisFile)); err != nil {
		return deps, err
	}
	nodeKey, err := ReadKey(path(NodeKeyFile))
	if err != nil {
		return deps, err
	}
	if deps.FaucetKey, err = optionalKey(path(FaucetKeyFile)); err != nil {
		return deps, err
	}
	if deps.Verifier, err = openVerifier(config.Home, deps.Genesis); err != nil {
		return deps, err
	}
	if err = os.MkdirAll(path(dataDir), 0o755); err != nil {
		return deps, fmt.Errorf("making the data directory: %w", err)
	}
	options := store.Options{CacheBytes: max(int64(config.CacheMiB)<<20/3, 1<<20), RecordBytes: int64(config.CacheMiB) << 20 / 3 * 2, TreeBytes: int64(config.TreeMiB) << 20, Logger: log, NodeMemory: config.NodeMemory}
	if deps.Store, err = store.Open(filepath.Join(path(dataDir), "chain"), options); err != nil {
		return deps, err
	}
	if deps.Logs, err = store.OpenLogs(path(dataDir)); err != nil {
		return deps, err
	}
	seed := nodeKey.Seed() // the data are this node's alone by now: the machine removes what it did not write
	if deps.VM, err = vm.New(vm.Config{Dir: filepath.Join(path(dataDir), "contracts"), Key: crypto.DomainCompiledKey.Hash(seed[:]), Log: log}); err != nil {
		return deps, err
	}
	if err = deps.openKeys(config.Home, config.ConsensusKeys); err != nil {
		return deps, err
	}
	deps.Endpoint, err = transport.Open(transport.Config{Key: nodeKey, Network: deps.Genesis.Digest(), ListenAddr: config.Listen, IdleTimeout: peerSilence, Log: log})
	return deps, err
}

// openVerifier reads the verifying keys that genesis pins.
func openVerifier(home string, g *chain.Genesis) (zk.Verifier, error) {
	verifier, err := groth16.OpenVerifier(home, g.VerifyingKeys())
	if err != nil {
		return nil, err
	}
	return newProofVerifier(verifier), nil
}

// executor is the chain's, with what it needs to run contracts.
func (d *Deps) executor() *execution.Executor {
	if d.VM == nil {
		return execution.New(d.Genesis, d.Verifier, nil)
	}
	return execution.New(d.Genesis, d.Verifier, d.VM)
}

func (d *Deps) close() error {
	var errs []error
	if d.Endpoint != nil {
		errs = append(errs, d.Endpoint.Close())
	}
	if d.Logs != nil {
		errs = append(errs, d.Logs.Close())
	}
	if d.Store != nil {
		errs = append(errs, d.Store.Close())
	}
	if d.VM != nil {
		d.VM.Close()
	}
	return errors.Join(errs...)
}

// New composes a node. It owns the dependencies from now on: Run closes them, and
// so does New if it fails.
func New(config Config, deps Deps) (node *Node, err error) {
	n := &Node{config: config, genesis: deps.Genesis, store: deps.Store, logs: deps.Logs, endpoint: deps.Endpoint, log: deps.Log}
	defer func() {
		if err == nil {
			return
		}
		if n.app != nil {
			err = errors.Join(err, n.app.close())
		}
		err = errors.Join(err, deps.close())
	}()
	executor := deps.executor()
	if n.app, err = openApplication(deps.Genesis, executor, deps.Store); err != nil {
		return nil, err
	}
	if config.Checkpoint != "" {
		checkpoint, err := light.ParseCheckpoint(config.Checkpoint)
		if err != nil {
			return nil, err
		}
		n.app.trusted = &checkpoint
	}
	if age, limit := time.Since(time.UnixMilli(int64(n.app.root.timeMs))), deps.Genesis.Params.UnbondingMs(); age > 0 && uint64(age.Milliseconds()) > limit {
		deps.Log.Warn("the last block here is older than stake takes to unbond: whoever was a validator then could show this node another history; start it with a new checkpoint of somebody you trust, which the history is then held against",
			"height", n.app.root.height, "age", age.Round(time.Second))
	}
	metrics := newMetrics()
	metrics.transport(deps.Endpoint.Metrics())
	n.pool = newPool(mempool.DefaultConfig(), executor, deps.Store.State(), deps.Log)
	if deps.VM != nil {
		n.app.compiler.vm, n.app.compiler.log = deps.VM, deps.Log
	}
	n.app.keys, n.app.pool, n.app.metrics, n.app.log = deps.ConsensusKeys, n.pool, metrics, deps.Log
	named, err := config.neighbours()
	if err != nil {
		return nil, err
	}
	if len(named.wards) > 0 && len(deps.ConsensusKeys) > 0 {
		return nil, errors.New("node: sentry_for in the home of a validator: a sentry has no consensus key")
	}
	if n.network, err = newNetwork(deps.Endpoint, &n.config, named, n.pool, deps.Log); err != nil {
		return nil, err
	}
	n.app.peering = n.network
	if n.engine, err = engine.New(n.engineConfig(deps), n.app, n.network, markedLogs{deps.Logs, deps.marks}); err != nil {
		return nil, err
	}
	n.network.engine.Store(n.engine)
	if named.hidden() {
		// It serves nobody.
	} else if n.joiners, err = transport.NewMesh(deps.Endpoint, statesync.NewServer(newSyncSource(deps.Store), deps.Log).Mesh()); err != nil {
		return nil, fmt.Errorf("making the mesh for joiners: %w", err)
	}
	n.observe(metrics)
	rpcConfig := config.rpc()
	if !deps.FaucetKey.IsZero() {
		if !deps.Genesis.Devnet {
			return nil, errors.New("node: a faucet key on a chain that is no devnet")
		}
		n.faucet = &faucet{key: deps.FaucetKey}
		rpcConfig.Faucet = &rpc.FaucetConfig{MaxAmount: chain.Hyper(1_000_000)}
	}
	n.rpc, err = rpc.Listen(rpcConfig, n, metrics.handler(), deps.Log)
	return n, err
}

func (n *Node) engineConfig(deps Deps) engine.Config {
	c := engine.DefaultConfig()
	c.Logger = deps.Log
	c.Replica.ChainID, c.Replica.NodeKey = string(n.genesis.ChainID), n.endpoint.ID()
	c.Replica.Keys, c.Replica.Fresh, c.Replica.Since = deps.ConsensusKeys, deps.Fresh, uint64(deps.Since)
	c.Replica.Begun, c.Noted = deps.Begun, deps.Noted
	for _, a := range n.network.named.sentries {
		c.Replica.Sentries = append(c.Replica.Sentries, a.ID)
	}
	for _, a := range n.network.named.wards {
		c.Replica.Wards = append(c.Replica.Wards, a.ID)
	}
	c.Replica.MaxAhead = maxAhead
	c.Replica.Timing.Idle = consensus.Micros(n.genesis.Params.IdleMs * 1000)
	return c
}

func (n *Node) observe(m *metrics) {
	m.gauge("hypermesh_mempool_transactions", "Transactions that wait.", func() float64 {
		txs, _ := n.pool.size()
		return float64(txs)
	})
	m.dropped(n.pool.droppedFor)
	m.counter("hypermesh_transactions_verified_total", "Transactions whose signatures were verified since the start.", func() float64 {
		return float64(n.pool.verifier.count.Load())
	})
	m.counter("hypermesh_gossip_announced_total", "Transactions that were announced by id since the start.", func() float64 {
		announced, _, _ := n.pool.gossip.figures()
		return float64(announced)
	})
	m.counter("hypermesh_gossip_pulled_total", "Transactions that peers were asked for since the start.", func() float64 {
		_, pulled, _ := n.pool.gossip.figures()
		return float64(pulled)
	})
	m.counter("hypermesh_gossip_stray_total", "Transactions that peers sent as an answer without having been asked, and that were not looked at, since the start.", func() float64 {
		_, _, stray := n.pool.gossip.figures()
		return float64(stray)
	})
	m.counter("hypermesh_proposals_withheld_total", "Proposals that did not become whole in time since the start.", func() float64 {
		return float64(n.engine.Metrics().OffersWithheld)
	})
	m.gauge("hypermesh_peers", "Connected peers.", func() float64 { return float64(len(n.network.Peers())) })
	m.gauge("hypermesh_sentries", "Sentries that hold delegations of validators, and a committee member's place here.", func() float64 {
		return float64(len(n.network.places()))
	})
	m.gauge("hypermesh_delegations", "Delegations that this sentry holds.", func() float64 { return float64(len(n.engine.Mandates())) })
	m.gauge("hypermesh_epoch", "Current epoch of consensus.", func() float64 { return float64(n.engine.Status().Epoch) })
	m.gauge("hypermesh_view", "Current view of the epoch.", func() float64 { return float64(n.engine.Status().View) })
	m.gauge("hypermesh_committee_size", "Validators of the current epoch.", func() float64 {
		if c, ok := n.app.committees.of(n.engine.Status().Epoch); ok {
			return float64(c.Len())
		}
		return 0
	})
	m.gauge("hypermesh_signs", "1 while this node votes in the current epoch.", func() float64 {
		if n.engine.Status().Signs {
			return 1
		}
		return 0
	})
	m.gauge("hypermesh_evidence_pending", "Proven breaches of the rules that wait for a block.", func() float64 { return float64(n.app.evidence.size()) })
	m.gauge("hypermesh_evidence", "Breaches of the rules that this node proved since the start.", func() float64 { return float64(n.engine.Metrics().Evidence) })
	m.gauge("hypermesh_log_syncs", "Syncs of the consensus log since the start.", func() float64 { return float64(n.engine.Metrics().LogSyncs) })
	m.gauge("hypermesh_log_syncs_slow", "Of these, such that took 400 ms or more.", func() float64 { return float64(n.engine.Metrics().SlowSyncs) })
	m.gauge("hypermesh_views_given_up", "Views that this node voted to nullify, since the start.", func() float64 { return float64(n.engine.Metrics().ViewsGivenUp) })
	m.gauge("hypermesh_strangers_certificates_dropped", "Certificates of peers outside of the committee that were not verified, being too many, since the start.", func() float64 {
		return float64(n.engine.Metrics().StrangersDropped)
	})
	m.gauge("hypermesh_messages_dropped", "Messages of peers that were of no use by the time they came, since the start.", func() float64 {
		return float64(n.engine.Metrics().MessagesDropped)
	})
}

// Addr returns the address of the HTTP API.
func (n *Node) Addr() string { return n.rpc.Addr().String() }

// Run runs the node until ctx ends or something in it fails, and returns after
// everything has stopped and all files are closed.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	if n.app.compiler.vm != nil {
		defer n.app.compiler.vm.Close()
	}
	start := func(what string, run func(context.Context) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%s: %w", what, err)
				errs <- err
				cancel(err)
			}
		}()
	}
	defer context.AfterFunc(ctx, n.pool.gossip.close)()
	start("network", n.network.mesh.Run)
	if n.joiners != nil {
		start("state service", n.joiners.Run)
	}
	if n.network.knocks != nil {
		start("sentries", n.network.admitSentries)
	}
	if len(n.network.named.wards) > 0 {
		start("places for this sentry", n.network.seekPlaces)
	}
	start("consensus", func(ctx context.Context) error {
		if err := n.app.compiler.all(ctx); err != nil {
			return err
		}
		return n.engine.Run(ctx)
	})
	start("state machine", n.app.watchFaults)
	start("database", n.watchStore)
	start("HTTP", n.rpc.Run)
	if n.config.Retention == RetentionPruned {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ticker := time.NewTicker(pruneEvery)
			defer ticker.Stop()
			n.prune(ctx, ticker.C)
		}()
	}
	n.log.Info("node is up", "chain", n.genesis.ChainID, "node", n.endpoint.ID().Short(), "transport", n.endpoint.Addr().String(), "http", n.Addr())
	wg.Wait()
	n.pool.gossip.close()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(append(all, n.app.close(), n.endpoint.Close(), n.logs.Close(), n.store.Close())...)
}

// watchStore returns why the database writes no more.
func (n *Node) watchStore(ctx context.Context) error {
	select {
	case <-n.store.Failed():
		return n.store.Err()
	case <-ctx.Done():
		return nil
	}
}

// watchFaults returns the first fault of the state machine.
func (a *application) watchFaults(ctx context.Context) error {
	select {
	case err := <-a.faults:
		return err
	case <-ctx.Done():
		return nil
	}
}

// pruneEvery is how often old versions of the state tree are looked for.
const pruneEvery = 10 * time.Second

// prune gives up, at each tick, what a pruned node need not keep.
func (n *Node) prune(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		done, err := n.store.Prune(ctx, n.config.Prune())
		if err != nil {
			n.log.Error("pruning", "error", err)
		} else if done.Nodes+done.Blocks > 0 {
			n.log.Debug("pruned", "versions", done.Versions, "nodes", done.Nodes, "blocks", done.Blocks)
		}
	}
}
