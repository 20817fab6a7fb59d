package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"crypto/rand"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Files of an agent's home, beside its config.
const (
	NodeKeyFile = "node.key" // seed of 64 hexadecimal digits
	GenesisFile = "genesis.json"
	TokenFile   = "http.token" // made by the agent; lets its reader pause and resume
	AddressFile = "http.addr"  // where the running agent's page is
	modeFile    = "mode.json"  // what the owner wants of the agent
)

// Config says how an agent runs. Its home holds node.key and, unless genesis
// says otherwise, genesis.json.
type Config struct {
	Home string       `toml:"-"`
	Log  *slog.Logger `toml:"-"` // nil: standard error, from log_level up
	// Compiler is the command of a process that runs executor.ServeCompiler.
	// Empty: programs are compiled in the agent's process, where nothing ends it.
	Compiler []string `toml:"-"`
	// Now is the clock by which hours are kept; nil: the system's.
	Now func() time.Time `toml:"-"`

	Servers            []string      `toml:"servers" usage:"NODEID@HOST:PORT of every server of the cluster"`
	Owner              string        `toml:"owner" usage:"address of the account that registered this node and is paid"`
	Region             string        `toml:"region" usage:"where the node is, as consumers may ask for it"`
	Millicores         uint64        `toml:"millicores" usage:"CPU to sell, in thousandths of a core"`
	MemoryMiB          uint64        `toml:"memory_mib" usage:"memory to sell, in MiB"`
	DiskMiB            uint64        `toml:"disk_mib" usage:"disk to use for inputs, outputs and running work, in MiB"`
	MaxJobs            int           `toml:"max_jobs" usage:"jobs to run at the same time"`
	Nice               int           `toml:"nice" usage:"how much programs that run here give way to everything else on the machine, 0 to 19"`
	BandwidthKiB       uint64        `toml:"bandwidth_kib" usage:"most KiB a second for inputs and outputs, each way; 0: no limit"`
	Hours              []string      `toml:"hours" usage:"HH:MM-HH:MM, local time, after a day or days if not all (sat 00:00-24:00, mon-fri 18:00-08:00): work is accepted within these alone, and goes on to its end; empty: always"`
	GPUs               uint64        `toml:"gpus" usage:"GPUs to sell, all of one kind"`
	GPUKind            string        `toml:"gpu_kind" usage:"kind of the GPUs, as consumers may ask for it"`
	CPUPriceAtto       uint64        `toml:"cpu_price_atto" usage:"price of a millicore for a second, in 10^-18 HYPER"`
	MemoryPriceAtto    uint64        `toml:"memory_price_atto" usage:"price of a MiB for a second, in 10^-18 HYPER"`
	NetworkPriceAtto   uint64        `toml:"network_price_atto" usage:"price of a MiB moved, in 10^-18 HYPER"`
	GPUPriceAtto       uint64        `toml:"gpu_price_atto" usage:"price of a GPU for a second, in 10^-18 HYPER"`
	ProofPriceNHyper   uint64        `toml:"proof_price_nhyper" usage:"price of a proven statement of a kernel, in nHYPER"`
	LeaseStakeHyper    uint64        `toml:"lease_stake_hyper" usage:"most of the node's bond, in HYPER, that one lease with service terms may lock, and as much again for an hour after it is resized; a missed term costs of it"`
	LeaseStart         time.Duration `toml:"lease_start" usage:"how long service terms have to leave a service to begin at least, from when they begin, with a lease or its resize, beside the time that its inputs take at bandwidth_kib (at 1024 KiB a second if that is 0): until the node has seen the chain say so and has begun what is run"`
	LeaseThroughputKiB uint64        `toml:"lease_throughput_kib" usage:"most KiB a second that service terms may have this node promise to send to who probes; 0: it promises none"`
	ClusterCover       uint64        `toml:"cluster_cover" usage:"a home cluster's bond is so many times an order's max cost at least, or the node bids for none of it; 0: any bond will do; without rpc nobody is asked"`
	SurchargePercent   uint64        `toml:"surcharge_percent" usage:"how much dearer the last free core is than the first, in percent"`
	PriceProgram       []string      `toml:"price_program" usage:"command that prices each offer, JSON on its standard input and output; empty: the table with its surcharge"`
	PriceTimeout       time.Duration `toml:"price_timeout" usage:"how long price_program may take, at most until the auction closes"`
	BidExpiry          time.Duration `toml:"bid_expiry" usage:"how long a bid binds"`
	Kernels            []string      `toml:"kernels" usage:"zk kernels to prove, such as matmul-32"`
	Containers         bool          `toml:"containers" usage:"run containers as well, which needs root, control groups and an OCI runtime"`
	ContainerRuntime   string        `toml:"container_runtime" usage:"command of the OCI runtime, with runc's flags"`
	KeyDir             string        `toml:"key_dir" usage:"directory of the kernels' proving keys; empty: proving-keys in the home"`
	Genesis            string        `toml:"genesis" usage:"genesis file; empty: genesis.json in the home"`
	RPC                []string      `toml:"rpc" usage:"URL of a node of the chain, for earnings, leases, hardware challenges and doctor; empty: none of them asks the chain, and a challenge finds this node silent"`
	WorkDir            string        `toml:"work_dir" usage:"directory of blobs, running work and the spool; empty: work in the home"`
	HTTP               string        `toml:"http" usage:"loopback host:port of the status page, /healthz and /metrics; empty: none"`
	LogLevel           string        `toml:"log_level" usage:"debug, info, warn or error"`
}

// DefaultConfig returns the defaults: all processors, 2 GiB of memory, prices
// of about 0.011 HYPER a core·hour, 0.0011 a GiB·hour, 0.001 a GiB moved and
// 0.108 a GPU·hour.
func DefaultConfig() Config {
	return Config{
		Millicores: uint64(runtime.GOMAXPROCS(0)) * 1_000, MemoryMiB: 2_048, DiskMiB: 8_192, MaxJobs: 8, Nice: 10,
		CPUPriceAtto: 3_000_000_000, MemoryPriceAtto: 300_000_000, NetworkPriceAtto: 1_000_000_000_000,
		GPUPriceAtto: 30_000_000_000_000, ProofPriceNHyper: 1_000_000, ClusterCover: 2, SurchargePercent: 50, PriceTimeout: time.Second, BidExpiry: 2 * time.Minute,
		LeaseStart:       time.Minute,
		ContainerRuntime: "runc", HTTP: "127.0.0.1:7380", LogLevel: "info",
	}
}

// Bounds of a config.
const (
	maxServers      = 16
	maxJobs         = 1_024
	maxNice         = 19
	maxKernels      = 16
	minDiskMiB      = 16
	maxDiskMiB      = 1 << 24
	maxSurcharge    = 10_000
	minBandwidth    = 128 // KiB/s: a chunk of a blob has to arrive within half a minute, whatever else does
	maxBandwidth    = 1 << 30
	maxHours        = 32
	maxCover        = 1_000_000
	maxRPC          = 16
	maxProgram      = 64 // words of price_program
	maxLeaseStart   = chain.MaxServiceStartMs * time.Millisecond
	maxPriceTime    = 30 * time.Second
	minBidExpiry    = time.Second
	maxBidExpiry    = 24 * time.Hour
	maxHeldTasks    = 1_152 // max_jobs, and some whose ends are being written
	maxSpooled      = 768
	maxSpooledBytes = 24 << 20
	maxRemembered   = 1_024
)

// Check returns an error that names the first field out of range.
func (c *Config) Check() error {
	if err := c.checkNames(); err != nil {
		return err
	}
	for _, n := range []struct {
		field           string
		value, min, max uint64
	}{
		{"millicores", c.Millicores, 1, 1 << 20},
		{"memory_mib", c.MemoryMiB, 1, 1 << 24},
		{"disk_mib", c.DiskMiB, minDiskMiB, maxDiskMiB},
		{"max_jobs", uint64(max(c.MaxJobs, 0)), 1, maxJobs},
		{"nice", uint64(c.Nice), 0, maxNice},
		{"surcharge_percent", c.SurchargePercent, 0, maxSurcharge},
		{"cluster_cover", c.ClusterCover, 0, maxCover},
		{"lease_throughput_kib", c.LeaseThroughputKiB, 0, chain.MaxThroughputKiB},
		{"gpus", c.GPUs, 0, job.MaxGPUs},
		{"bandwidth_kib", max(c.BandwidthKiB, minBandwidth), minBandwidth, maxBandwidth},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.field, n.value, n.min, n.max)
		}
	}
	if c.BandwidthKiB > 0 && c.BandwidthKiB < minBandwidth {
		return fmt.Errorf("bandwidth_kib is %d, want 0 (no limit) or at least %d", c.BandwidthKiB, minBandwidth)
	}
	if c.BidExpiry < minBidExpiry || c.BidExpiry > maxBidExpiry {
		return fmt.Errorf("bid_expiry is %v, want %v to %v", c.BidExpiry, minBidExpiry, maxBidExpiry)
	}
	if c.LeaseStart < 0 || c.LeaseStart > maxLeaseStart {
		return fmt.Errorf("lease_start is %v, want 0s to %v", c.LeaseStart, maxLeaseStart)
	}
	if c.PriceTimeout <= 0 || c.PriceTimeout > maxPriceTime {
		return fmt.Errorf("price_timeout is %v, want up to %v", c.PriceTimeout, maxPriceTime)
	}
	return c.checkHTTP()
}

// checkOffer checks what the node offers beside its numbers, and asks whom.
func (c *Config) checkOffer() error {
	if len(c.GPUKind) > job.MaxGPUKind {
		return fmt.Errorf("gpu_kind has %d bytes, limit %d", len(c.GPUKind), job.MaxGPUKind)
	}
	if (c.GPUs > 0) != (c.GPUKind != "") {
		return errors.New("gpus and gpu_kind go together: one of them is empty")
	}
	if _, err := parseHours(c.Hours); err != nil {
		return err
	}
	if len(c.PriceProgram) > maxProgram {
		return fmt.Errorf("price_program has %d words, limit %d", len(c.PriceProgram), maxProgram)
	}
	if len(c.RPC) > maxRPC {
		return fmt.Errorf("rpc has %d entries, limit %d", len(c.RPC), maxRPC)
	}
	for _, text := range c.RPC {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("rpc: %.80q is no URL such as https://node.example:7180", text)
		}
	}
	return nil
}

func (c *Config) checkNames() error {
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return fmt.Errorf("servers has %d entries, want 1 to %d", len(c.Servers), maxServers)
	}
	seen := map[crypto.PublicKey]bool{}
	for _, text := range c.Servers {
		addr, err := transport.ParseNodeAddr(text)
		if err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		if seen[addr.ID] {
			return fmt.Errorf("servers: %s appears twice", addr.ID.Short())
		}
		seen[addr.ID] = true
	}
	if _, err := chain.ParseAddress(c.Owner); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if len(c.Region) > chain.MaxRegion {
		return fmt.Errorf("region has %d bytes, limit %d", len(c.Region), chain.MaxRegion)
	}
	if len(c.Kernels) > maxKernels {
		return fmt.Errorf("kernels has %d entries, limit %d", len(c.Kernels), maxKernels)
	}
	for _, name := range c.Kernels {
		if err := zk.Kernel(name).Check(); err != nil {
			return fmt.Errorf("kernels: %w", err)
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("log_level is %.20q, want debug, info, warn or error", c.LogLevel)
	}
	return c.checkOffer()
}

// checkHTTP refuses an address that others can reach: what the page shows is
// its owner's business.
func (c *Config) checkHTTP() error {
	if c.HTTP == "" {
		return nil
	}
	return web.CheckLoopback("http", c.HTTP)
}

// logger returns the configured logger.
func (c *Config) logger() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // Check has refused it
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// GenesisPath is where the genesis is that the config trusts.
func (c *Config) GenesisPath() string { return c.path(c.Genesis, GenesisFile) }

func (c *Config) path(configured, inHome string) string {
	if configured != "" {
		return configured
	}
	return filepath.Join(c.Home, inHome)
}

// readKey reads the node's key.
func readKey(path string) (crypto.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("agent: reading the node key: %w", err)
	}
	key, err := crypto.ParsePrivateKey(strings.TrimSpace(string(text)))
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("agent: %s: %w", path, err)
	}
	return key, nil
}

func readGenesis(path string) (*chain.Genesis, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("agent: opening genesis: %w", err)
	}
	g, err := chain.ReadGenesis(f)
	return g, errors.Join(err, f.Close())
}

// openToken returns the token of the home, which it makes if there is none.
func openToken(home string) (string, error) {
	path := filepath.Join(home, TokenFile)
	text, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(text))) == tokenDigits {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("agent: reading the token: %w", err)
	}
	token := make([]byte, tokenDigits/2)
	rand.Read(token) // documented never to fail
	digits := hex.EncodeToString(token)
	if err := writeFile(path, []byte(digits+"\n")); err != nil {
		return "", fmt.Errorf("agent: writing the token: %w", err)
	}
	return digits, nil
}

const tokenDigits = 64

// writeFile replaces a file, whole or not at all, durably; only its owner can
// read it.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
