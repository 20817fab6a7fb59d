package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// sweepEvery is how often the spool is searched for what nobody can claim.
const sweepEvery = 10 * time.Minute

// Agent is a provider's node. Make it with Open, and Run it once.
type Agent struct {
	config  Config
	log     *slog.Logger
	key     crypto.PrivateKey
	id      crypto.PublicKey
	owner   chain.Address
	genesis *chain.Genesis
	token   string
	dirs    workDirs

	blobs      *blob.Store
	spool      *spool
	book       *book
	market     *market       // what the chain says; nil: rpc is empty
	leases     leaseReader   // of the same; nil: no lease is taken
	services   promiseReader // of the same; nil: what servers say of leases to probe is believed
	payable    payer         // likewise; nil: keys are shown upon the cluster's word
	withheld   *withheld
	panels     panelReader
	runs       runsReader     // likewise
	hardware   hardwareReader // likewise
	leaseDir   string
	metering   *metering
	wasm       *executor.Wasm
	kernels    *executor.Kernels
	containers *executor.Containers // nil: none are run here
	endpoint   *transport.Endpoint
	listener   net.Listener // of HTTP; nil: none
	capacity   *capacity
	metrics    *metrics
	links      *links
	pace       *pace
	moved      moved
	starts     *starts
	hours      hours
	programs   chan struct{} // one element for each price program that runs

	mode        atomic.Pointer[Mode]
	modeWrite   sync.Mutex    // held while the mode changes
	modeChanged chan struct{} // of one element
	loading     *kernelStates

	work    context.Context // of tasks; ends with errStopping
	stop    context.CancelCauseFunc
	running sync.WaitGroup // tasks

	mu         sync.Mutex
	stopping   bool
	sessions   map[*session]struct{}
	parted     uint64        // how many of them have ended
	joined     chan struct{} // closed when a session begins
	tasks      map[crypto.Digest]*task
	remembered memory
	promisesMu sync.Mutex
	promises   *settlement.Promises  // under promisesMu
	tunnels    map[crypto.Digest]int // that are open, by order
	jury       jury
	watches    map[promise]*watcher // of leases
	reported   *reported
	trial      *trial    // the newest challenge of this node's hardware; nil: there was none
	trialLook  time.Time // before which the chain is not asked for another
	homeSaid   time.Time // when this node last said where it is at home
	gauges     map[crypto.PublicKey]*gauge

	bench    bench
	measured atomic.Bool // a challenge of this node's hardware is being met
	unproven sync.Once   // a server spoke of a challenge, and nobody can be asked

	began   time.Time     // of this process
	replies chan struct{} // one element for each probe that is answered with data

	showing sync.Map // orders of which the chain is asked whether their receipts are shown
	shown   sync.Map // orders whose pledged receipt a server has asked for

	logs logs
}

// Run runs the agent that the config and its home describe, until ctx ends.
func Run(ctx context.Context, config Config) error {
	a, err := Open(config)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// Open reads the home and the work directory, and opens the sockets.
func Open(config Config) (*Agent, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("agent: config: %w", err)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	a := &Agent{
		pace: newPace(config.BandwidthKiB), starts: newStarts(), programs: make(chan struct{}, maxPrograms), modeChanged: make(chan struct{}, 1),
		config: config, log: config.logger(), capacity: newCapacity(&config), kernels: executor.NewKernels(),
		loading: newKernelStates(config.Kernels), promises: settlement.NewPromises(maxPromises), sessions: map[*session]struct{}{}, joined: make(chan struct{}),
		tasks: map[crypto.Digest]*task{}, tunnels: map[crypto.Digest]int{}, jury: jury{panels: map[crypto.Digest]*summons{}}, watches: map[promise]*watcher{}, withheld: newWithheld(), began: time.Now(), bench: newBench(), gauges: map[crypto.PublicKey]*gauge{}, replies: make(chan struct{}, maxProbeReply), remembered: memory{dones: map[crypto.Digest]job.Done{}},
	}
	a.work, a.stop = context.WithCancelCause(context.Background())
	a.jury.gone = a.dropVote
	a.metrics = newMetrics(a)
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *Agent) open() (err error) {
	if err := a.readHome(); err != nil {
		return err
	}
	if err := a.openWork(a.config.path(a.config.WorkDir, "work")); err != nil {
		return err
	}
	if a.reported, err = openReported(a.config.Home, a.log); err != nil {
		return err
	}
	if err := a.readVotes(); err != nil {
		return err
	}
	if a.metering, err = openMetering(a.config.Home, a.config.path(a.config.WorkDir, "work")); err != nil {
		return err
	}
	if a.wasm, err = executor.NewWasm(executor.Config{ModuleBytes: maxModuleBytes, Compiler: a.config.Compiler, Nice: a.config.Nice}); err != nil {
		return err
	}
	if a.market, err = newMarket(&a.config, a.genesis); err != nil {
		return err
	}
	if a.market != nil {
		a.leases, a.panels, a.runs, a.hardware, a.payable = a.market.lease, a.market.panel, a.market.runs, a.market.hardware, a.market.client.CheckPayable
		a.services = a.market.promised
	}
	if a.endpoint, err = transport.Open(transport.Config{Key: a.key, Network: a.genesis.Digest(), Log: a.log}); err != nil {
		return err
	}
	if a.config.HTTP == "" {
		return nil
	}
	if a.listener, err = net.Listen("tcp", a.config.HTTP); err != nil {
		return fmt.Errorf("agent: http: %w", err)
	}
	return a.writeAddress()
}

// readHome reads identity, genesis and token.
func (a *Agent) readHome() (err error) {
	home := func(name string) string { return filepath.Join(a.config.Home, name) }
	if a.key, err = readKey(home(NodeKeyFile)); err != nil {
		return err
	}
	a.id = a.key.Public()
	if a.owner, err = chain.ParseAddress(a.config.Owner); err != nil {
		return fmt.Errorf("agent: owner: %w", err)
	}
	if a.genesis, err = readGenesis(a.config.GenesisPath()); err != nil {
		return err
	}
	var configured []transport.NodeAddr
	for _, text := range a.config.Servers {
		addr, err := transport.ParseNodeAddr(text)
		if err != nil {
			return fmt.Errorf("agent: servers: %w", err)
		}
		configured = append(configured, addr)
	}
	a.links = newLinks(a.config.Home, configured)
	if err := a.links.load(); err != nil {
		a.log.Error("agent: which servers there are beside those of the configuration is not known", "error", err)
	}
	if a.token, err = openToken(a.config.Home); err != nil {
		return err
	}
	if a.hours, err = parseHours(a.config.Hours); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	mode, err := readMode(a.config.Home)
	if err != nil {
		a.log.Error("agent: what the owner wants is not known", "error", err)
	}
	a.mode.Store(&mode)
	return nil
}

// openWork opens the blob store, whose lock keeps a second agent out, and the
// spool, and removes what an earlier process was running. A spooled Done whose output is gone cannot be handed
// over: its order is given up, and may be run again.
func (a *Agent) openWork(dir string) (err error) {
	bytes := int64(a.config.storeBytes())
	a.blobs, err = blob.Open(blob.Config{
		Dir: filepath.Join(dir, "blobs"), MaxBytes: bytes, MaxBlobBytes: min(bytes, blob.MaxBytes), Log: a.log,
	})
	if errors.Is(err, blob.ErrInUse) {
		return fmt.Errorf("agent: another one runs in this home already (hypermesh agent status says what it does): %w", err)
	}
	if err != nil {
		return err
	}
	a.capacity.spooled = func() uint64 { return uint64(a.blobs.PinnedBytes()) }
	if err := a.openContainers(dir); err != nil {
		return err
	}
	a.leaseDir = filepath.Join(dir, "leases")
	if err := os.MkdirAll(a.leaseDir, 0o700); err != nil {
		return fmt.Errorf("agent: opening the work directory: %w", err)
	}
	a.dirs.root = filepath.Join(dir, "runs")
	if err := errors.Join(os.RemoveAll(a.dirs.root), os.MkdirAll(a.dirs.root, 0o700)); err != nil {
		return fmt.Errorf("agent: opening the work directory: %w", err)
	}
	if a.spool, err = openSpool(filepath.Join(dir, "spool"), a.id, a.log); err != nil {
		return err
	}
	if a.book, err = openBook(dir, false, a.log); err != nil {
		return err
	}
	if err := a.unpinStrays(); err != nil {
		return err
	}
	for _, e := range a.spool.list() {
		if e.attested() {
			continue // the cluster has it
		}
		if err := a.keepOutput(e.Done.Blob()); err != nil {
			a.log.Error("agent: giving up a finished job", "order", e.Done.Receipt.Order.Short(), "error", err)
			a.spool.remove(e.Done.Receipt.Order, false)
		}
	}
	return nil
}

// unpinStrays lets outputs go that a crash kept from getting into the spool.
func (a *Agent) unpinStrays() error {
	wanted := map[crypto.Digest]bool{}
	for _, e := range a.spool.list() {
		wanted[e.Done.Blob()] = true
	}
	for _, id := range a.blobs.Pinned() {
		if !wanted[id] {
			if err := a.blobs.Unpin(id); err != nil {
				return fmt.Errorf("agent: opening the spool: %w", err)
			}
		}
	}
	return nil
}

// HTTPAddr returns where the status page is, or nil.
func (a *Agent) HTTPAddr() net.Addr {
	if a.listener == nil {
		return nil
	}
	return a.listener.Addr()
}

// ID returns the node's id.
func (a *Agent) ID() crypto.PublicKey { return a.id }

// Run serves until ctx ends or the HTTP server fails. Work that runs then is
// abandoned, and done again when a server assigns it again; what has finished
// is in the spool.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.log.Info("agent: starting", "node", a.id.String(), "chain", string(a.genesis.ChainID), "owner", a.owner.String(),
		"servers", len(a.links.all()), "spooled", a.spool.count())
	if err := a.restoreLeases(); err != nil {
		return errors.Join(err, a.close())
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.keepLinks(ctx) })
	wg.Go(func() { a.loadKernels(ctx) })
	wg.Go(func() { a.keepMode(ctx) })
	wg.Go(func() { a.followClaims(ctx) })
	wg.Go(func() { a.followClusters(ctx) })
	wg.Go(func() { a.showKeys(ctx) })
	wg.Go(func() { a.sweepRegularly(ctx) })
	if a.listener != nil {
		wg.Go(func() {
			if err := a.serveHTTP(ctx); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	a.stop(errStopping)
	a.running.Wait()
	wg.Wait()
	err := a.close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	a.log.Info("agent: stopped")
	return err
}

// close closes what Open opened.
func (a *Agent) close() error {
	a.stop(errStopping)
	var failures []error
	if a.endpoint != nil {
		failures = append(failures, a.endpoint.Close())
	}
	if a.listener != nil {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			failures = append(failures, err)
		}
		failures = append(failures, removeIfThere(filepath.Join(a.config.Home, AddressFile)))
	}
	if a.wasm != nil {
		a.wasm.Close()
	}
	if a.containers != nil {
		failures = append(failures, a.containers.Close())
	}
	if a.book != nil {
		failures = append(failures, a.book.close())
	}
	if a.spool != nil {
		failures = append(failures, a.spool.close())
	}
	if a.reported != nil {
		failures = append(failures, a.reported.close())
	}
	if a.blobs != nil {
		failures = append(failures, a.blobs.Close())
	}
	return errors.Join(failures...)
}

func (a *Agent) sweepRegularly(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		a.sweep(ctx, time.Now())
		a.endVotes(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// kernelStates says of each configured kernel whether it can be proven.
type kernelStates struct {
	names []string

	mu     sync.Mutex
	states map[string]string
}

// What a kernel's state may be, beside the error that its loading met.
const (
	kernelLoading = "loading"
	kernelReady   = "ready"
)

func newKernelStates(names []string) *kernelStates {
	k := &kernelStates{names: names, states: map[string]string{}}
	for _, name := range names {
		k.states[name] = kernelLoading
	}
	return k
}

func (k *kernelStates) set(name, state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states[name] = state
}

func (k *kernelStates) get(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[name]
}

// pinned returns the digest of the verifying key that genesis pins for a
// kernel.
func (a *Agent) pinned(kernel string) (crypto.Digest, bool) {
	for _, k := range a.genesis.Kernels {
		if k.Name == kernel {
			return k.VerifyingKey, true
		}
	}
	return crypto.Digest{}, false
}

// loadKernels looks at the proving keys, which takes a moment each, and tells the
// servers of each kernel that can be proven from then on. The keys themselves
// are loaded when a job needs them: an idle agent holds none.
func (a *Agent) loadKernels(ctx context.Context) {
	dir := a.config.path(a.config.KeyDir, "proving-keys")
	for _, name := range a.config.Kernels {
		if ctx.Err() != nil {
			return
		}
		kernel := zk.Kernel(name)
		if err := a.checkKernel(dir, kernel); err != nil {
			a.loading.set(name, err.Error())
			a.log.Error("agent: a kernel cannot be proven", "kernel", name, "error", err)
			continue
		}
		a.kernels.Add(kernel, func() (*groth16.Keys, error) {
			if err := a.checkKernel(dir, kernel); err != nil {
				return nil, err
			}
			return groth16.Load(dir, kernel)
		})
		a.loading.set(name, kernelReady)
		a.log.Info("agent: a kernel can be proven", "kernel", name)
		a.sayHello()
	}
}

// checkKernel returns an error unless a kernel's stored keys are intact and those
// that genesis pins.
func (a *Agent) checkKernel(dir string, kernel zk.Kernel) error {
	pinned, ok := a.pinned(string(kernel))
	if !ok {
		return fmt.Errorf("agent: genesis pins no kernel %s", kernel)
	}
	stored, err := groth16.Stored(dir, kernel)
	if err != nil {
		return err
	}
	if stored != pinned {
		return fmt.Errorf("agent: the keys of %s in %s are %s, genesis pins %s", kernel, dir, stored.Short(), pinned.Short())
	}
	return nil
}
