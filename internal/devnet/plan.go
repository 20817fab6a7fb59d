package devnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/wallet"
)

// Kernel is the zk kernel that a devnet's agents prove and its chain verifies.
const Kernel = "matmul-32"

// Options say which network to run.
type Options struct {
	Dir        string
	KeysDir    string        // of proving keys; empty: DefaultKeysDir
	Binary     string        // this program
	Validators int           // 1 to 32
	Servers    int           // 0, 1, 3 or 5
	Agents     int           // 0 to 64
	Kernels    []string      // zk kernels beside Kernel; a network that is there keeps its own
	Ceremonies []string      // folders of sealed ceremonies, whose kernels there are in place of Kernel; likewise
	Epoch      time.Duration // of consensus, 1 s to a day; 0: DefaultEpoch. A network that is there keeps its own
	// HardwareEvery is the time from one challenge of nodes' hardware to the next, on average; 0:
	// there are none. A network that is there keeps its own.
	HardwareEvery time.Duration
	ClaimWindow   time.Duration // after an order's deadline; 0: half an hour. A network that is there keeps its own
	NoExplorer    bool
	NoRestart     bool
	Progress      Progress
}

// Check returns an error that names the first option out of range.
func (o *Options) Check() error {
	switch {
	case o.Validators < 1 || o.Validators > 32:
		return fmt.Errorf("validators is %d, want 1 to 32", o.Validators)
	case o.Servers != 0 && o.Servers != 1 && o.Servers != 3 && o.Servers != 5:
		return fmt.Errorf("servers is %d, want 0, 1, 3 or 5", o.Servers)
	case o.Agents < 0 || o.Agents > 64:
		return fmt.Errorf("agents is %d, want 0 to 64", o.Agents)
	case o.Agents > 0 && o.Servers == 0:
		return fmt.Errorf("agents is %d, but servers is 0: agents need a cluster", o.Agents)
	case len(o.Ceremonies) > 0 && o.Servers == 0:
		return errors.New("ceremonies are given, but servers is 0: nobody proves")
	case o.Epoch != 0 && (o.Epoch < time.Second || o.Epoch > 24*time.Hour):
		return fmt.Errorf("epoch is %v, want 1s to 24h", o.Epoch)
	case o.HardwareEvery < 0:
		return fmt.Errorf("hardware-every is %v, want 0 or more", o.HardwareEvery)
	case o.ClaimWindow != 0 && (o.ClaimWindow < time.Second || o.ClaimWindow > 59*time.Minute):
		return fmt.Errorf("claim-window is %v, want 1s to 59m", o.ClaimWindow)
	case o.Dir == "":
		return errors.New("dir is empty")
	}
	return nil
}

// Account is a funded account of the network, with its keys in the open.
type Account struct {
	Name       string        `json:"name"`
	Address    chain.Address `json:"address"`
	PrivateKey string        `json:"private_key"`
	Mnemonic   string        `json:"mnemonic"`
	Balance    chain.Amount  `json:"balance_nhyper"` // at genesis
}

// Wallet returns the account as a signer.
func (a *Account) Wallet() (wallet.Account, error) {
	key, err := crypto.ParsePrivateKey(a.PrivateKey)
	if err != nil {
		return wallet.Account{}, fmt.Errorf("account %s: %w", a.Name, err)
	}
	return wallet.NewAccount(a.Name, key), nil
}

// plan is what a network is made of; it is written once.
type plan struct {
	ChainID    chain.ChainID `json:"chain_id"`
	Validators int           `json:"validators"`
	Servers    int           `json:"servers"`
	Agents     int           `json:"agents"`
	BasePort   int           `json:"base_port"`
	Accounts   []Account     `json:"accounts"`
	Kernels    []string      `json:"kernels"` // beside Kernel
	dir        string
	proven     []string // kernels that the agents prove, while homes are written
}

const (
	planFile      = "plan.json"
	faucetHolding = 30_000_000 // HYPER
	userHolding   = 1_000_000
	workerHolding = 100_000
)

// userNames are the ten accounts that a devnet is used with.
var userNames = [...]string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}

// Ports of a network, counted from its base.
const (
	portsPerRole  = 64
	validatorUDP  = 0
	validatorHTTP = 1 * portsPerRole
	serverUDP     = 2 * portsPerRole
	serverHTTP    = 3 * portsPerRole
	agentHTTP     = 4 * portsPerRole
	relayHTTP     = 5 * portsPerRole
	explorerHTTP  = relayHTTP + 1
	portCount     = explorerHTTP + 1
)

func (p *plan) addr(role, index int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.BasePort+role+index))
}

func (p *plan) home(role string, index int) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s-%d", role, index))
}

func (p *plan) account(name string) *Account {
	for i := range p.Accounts {
		if p.Accounts[i].Name == name {
			return &p.Accounts[i]
		}
	}
	panic("devnet: the plan has no account " + name)
}

// loadPlan reads the plan of a directory, or makes the network that the options
// describe. A plan of other counts is an error: the directory is in use.
func loadPlan(o *Options) (*plan, error) {
	data, err := os.ReadFile(filepath.Join(o.Dir, planFile))
	if errors.Is(err, fs.ErrNotExist) {
		return makePlan(o)
	}
	if err != nil {
		return nil, fmt.Errorf("devnet: reading the plan: %w", err)
	}
	p := &plan{dir: o.Dir}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("devnet: %s: %w", planFile, err)
	}
	if p.Validators != o.Validators || p.Servers != o.Servers || p.Agents != o.Agents {
		return nil, fmt.Errorf("devnet: %s holds a network of %d validators, %d servers and %d agents; ask for the same, or add --reset to throw it away",
			o.Dir, p.Validators, p.Servers, p.Agents)
	}
	return p, nil
}

func makePlan(o *Options) (*plan, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("devnet: making the directory: %w", err)
	}
	base, err := freePorts()
	if err != nil {
		return nil, err
	}
	p := &plan{
		ChainID: chain.ChainID(fmt.Sprintf("devnet-%06x", rand.N(1<<24))), Validators: o.Validators, Servers: o.Servers, Agents: o.Agents,
		BasePort: base, Kernels: o.Kernels, dir: o.Dir,
	}
	p.makeAccounts()
	epoch := o.Epoch
	if epoch == 0 {
		epoch = DefaultEpoch
	}
	params := Params(epoch)
	if o.HardwareEvery != 0 {
		params.HardwareEveryMs, params.HardwareStepNs = uint64(o.HardwareEvery.Milliseconds()), hardwareStepNs
	}
	if o.ClaimWindow != 0 {
		params.ClaimWindowMs = uint64(o.ClaimWindow.Milliseconds())
	}
	if err := params.Check(); err != nil {
		return nil, err
	}
	g, err := p.genesis(params)
	if err != nil {
		return nil, err
	}
	if err := p.writeHomes(g, o); err != nil {
		return nil, err
	}
	// The plan is written last: with it the directory is complete.
	return p, writeJSON(filepath.Join(o.Dir, planFile), p)
}

func (p *plan) makeAccounts() {
	add := func(name string, hyper uint64) {
		phrase := wallet.NewPhrase()
		key := wallet.DeriveKey(phrase, 0)
		p.Accounts = append(p.Accounts, Account{
			Name: name, Address: chain.AddressOf(crypto.AccountKeyOf(key.Public())), PrivateKey: key.Hex(), Mnemonic: phrase.Words(), Balance: chain.Hyper(hyper),
		})
	}
	for _, name := range userNames {
		add(name, userHolding)
	}
	add("faucet", faucetHolding)
	add("operator", workerHolding)
	add("relay", workerHolding)
	for i := range p.Agents {
		add(fmt.Sprintf("provider-%d", i), workerHolding)
	}
	for i := range p.Validators {
		add(fmt.Sprintf("validator-%d", i), 0)
	}
	add("reserve", 0)
}

// genesis makes the first state and the validators' key files.
func (p *plan) genesis(params chain.Params) (*chain.Genesis, error) {
	reserve := p.account("reserve").Address
	g := chain.NewGenesis(p.ChainID, chain.TimeMs(time.Now().UnixMilli()), params, chain.Holders{
		Community: reserve, Team: reserve, Foundation: reserve, Validators: reserve, Sale: reserve,
	})
	g.Devnet = true
	for i := range p.Accounts {
		if a := &p.Accounts[i]; !a.Balance.IsZero() {
			bucket := chain.BucketCommunity
			if err := g.Give(bucket, a.Address, a.Balance); err != nil {
				return nil, err
			}
		}
	}
	for i := range p.Validators {
		home := p.home(roleValidator, i)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, fmt.Errorf("devnet: making a home: %w", err)
		}
		nodeKey := crypto.GenerateKey()
		consensusKey, err := node.MakeConsensusKey(home)
		if err := errors.Join(err, node.WriteKey(filepath.Join(home, node.NodeKeyFile), nodeKey)); err != nil {
			return nil, err
		}
		if err := g.AddValidator(chain.GenesisValidator{
			Name: fmt.Sprintf("validator-%d", i), ConsensusKey: consensusKey.Public(), NodeKey: nodeKey.Public(),
			Owner: p.account(fmt.Sprintf("validator-%d", i)).Address, Stake: chain.Hyper(1_000_000), Endpoint: p.addr(validatorUDP, i),
		}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// freePorts returns the base of a run of ports, below those that the system
// gives to outgoing connections, all of which are free now.
func freePorts() (int, error) {
	const low, high, tries = 12_000, 32_000, 64
	for range tries {
		base := low + rand.N(high-low-portCount)
		if portsFree(base) {
			return base, nil
		}
	}
	return 0, errors.New("devnet: found no run of free ports")
}

func portsFree(base int) bool {
	for port := base; port < base+portCount; port++ {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return false
		}
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err := errors.Join(err, l.Close()); err != nil {
			return false
		}
		if err := c.Close(); err != nil {
			return false
		}
	}
	return true
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("devnet: writing %s: %w", filepath.Base(path), err)
	}
	return os.Rename(temporary, path)
}

func writeTOML(home string, config map[string]any) error {
	f, err := os.OpenFile(filepath.Join(home, "config.toml"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("devnet: writing a config file: %w", err)
	}
	return errors.Join(toml.NewEncoder(f).Encode(config), f.Close())
}
