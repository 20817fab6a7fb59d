package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// Description is all that a user of the network needs: what devnet's
// --config-out writes.
type Description struct {
	ChainID   chain.ChainID    `json:"chain_id"`
	RPC       []string         `json:"rpc"`
	Nexus     []string         `json:"nexus"`
	Servers   []string         `json:"servers,omitempty"` // NODEID@HOST:PORT of the cluster's servers, which agents dial
	Explorer  string           `json:"explorer"`
	Faucet    string           `json:"faucet"`
	Genesis   string           `json:"genesis"`          // path of the genesis file, which clients trust
	Cluster   crypto.PublicKey `json:"cluster,omitzero"` // the home cluster's key
	Accounts  []Account        `json:"accounts"`
	Processes []Running        `json:"processes"`
}

// Network is a running network.
type Network struct {
	plan       *plan
	supervisor *Supervisor
	cluster    crypto.PublicKey
	servers    []string
	lock       *os.File
	cancel     context.CancelFunc
	options    Options

	mu       sync.Mutex
	onChange func() // called when a process came or went, once the network is up
}

// healthEvery is how often a process that is starting is asked for its health.
const healthEvery = 25 * time.Millisecond

// Reset throws away the network in a directory, and nothing else there.
func Reset(dir string) error {
	lock, err := lockDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, pattern := range []string{planFile, node.GenesisFile, groth16.VerifyingKeyDir, "validator-*", "nexus-*", "agent-*", "relay-*", "explorer-*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, path := range paths {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(append(errs, lock.Close())...)
}

// lockDir takes the directory for this process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "plan.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("devnet: a network is running in %s", dir), f.Close())
	}
	return f, nil
}

// Up starts the network and returns once everything is healthy. The network runs
// until Down, or until ctx ends.
func Up(ctx context.Context, o Options, log *slog.Logger) (n *Network, err error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("devnet: %w", err)
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("devnet: making the directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	plan, err := loadPlan(&o)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if !portsFree(plan.BasePort) {
		return nil, errors.Join(fmt.Errorf("devnet: ports %d to %d are not free: another program uses one of them", plan.BasePort, plan.BasePort+portCount-1), lock.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	n = &Network{plan: plan, lock: lock, cancel: cancel, options: o}
	n.supervisor = NewSupervisor(o.Binary, o.NoRestart, log, n.changed)
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Down())
	}
	return n, nil
}

// start brings the roles up, the chain first.
func (n *Network) start(ctx context.Context) error {
	p := n.plan
	for i := range p.Validators {
		n.run(ctx, roleValidator, i, "node", "run")
	}
	if p.Servers > 0 {
		var err error
		if n.cluster, err = p.cluster(); err != nil {
			return err
		}
		if n.servers, err = p.servers(); err != nil {
			return err
		}
		for i := range p.Servers {
			n.run(ctx, roleNexus, i, "nexus", "run")
		}
	}
	if !n.options.NoExplorer {
		n.run(ctx, roleExplorer, 0, "explorer", "run")
	}
	if err := n.healthy(ctx, p.rpc()...); err != nil {
		return err
	}
	if p.Servers > 0 {
		if err := n.register(ctx); err != nil {
			return err
		}
		for i := range p.Agents {
			n.run(ctx, roleAgent, i, "agent", "up")
		}
		n.run(ctx, roleRelay, 0, "relay", "run")
		urls := append(p.nexus(), p.urls(agentHTTP, p.Agents)...)
		if err := n.healthy(ctx, append(urls, p.urls(relayHTTP, 1)...)...); err != nil {
			return err
		}
	}
	if n.options.NoExplorer {
		return nil
	}
	return n.healthy(ctx, p.urls(explorerHTTP, 1)...)
}

func (n *Network) run(ctx context.Context, role string, index int, args ...string) {
	home := n.plan.home(role, index)
	n.supervisor.Start(ctx, Process{Role: role, Index: index, Home: home, Args: append(args, "--home", home)})
}

// healthy returns when every URL's /healthz says so.
func (n *Network) healthy(ctx context.Context, urls ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	client := &http.Client{Timeout: 5 * time.Second}
	for _, url := range urls {
		last := errors.New("not asked yet")
		for last != nil {
			if last = askHealth(ctx, client, url); last == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("devnet: %s is not healthy: %w (see the process.log files in %s)", url, last, n.plan.dir)
			case <-time.After(healthEvery):
			}
		}
	}
	return nil
}

func askHealth(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// Description returns what there is now.
func (n *Network) Description() Description {
	p := n.plan
	d := Description{
		ChainID: p.ChainID, RPC: p.rpc(), Nexus: p.nexus(), Servers: n.servers, Genesis: filepath.Join(p.dir, node.GenesisFile), Cluster: n.cluster,
		Faucet: p.rpc()[0] + "/v1/faucet", Processes: n.supervisor.Running(),
	}
	for _, a := range p.Accounts {
		if !a.Balance.IsZero() {
			d.Accounts = append(d.Accounts, a)
		}
	}
	if !n.options.NoExplorer {
		d.Explorer = "http://" + p.addr(explorerHTTP, 0)
	}
	return d
}

// WriteTo writes the description to a file, atomically, now and whenever a
// process comes or goes.
func (n *Network) WriteTo(path string, log *slog.Logger) error {
	write := func() error { return writeJSON(path, n.Description()) }
	if err := write(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onChange = func() {
		if err := write(); err != nil {
			log.Error("writing the description", "error", err)
		}
	}
	return nil
}

func (n *Network) changed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.onChange != nil {
		n.onChange()
	}
}

// Down ends every process and returns when all are gone.
func (n *Network) Down() error {
	n.cancel()
	n.supervisor.Wait()
	return n.lock.Close()
}
