package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// Files of a node's home. Keys are seeds of 64 hexadecimal digits, readable by
// their owner alone; verifying keys are named by their kernel.
const (
	GenesisFile      = "genesis.json"
	NodeKeyFile      = "node.key"
	ConsensusKeyFile = "consensus.key" // absent, and no other named: an observer
	FaucetKeyFile    = "faucet.key"    // absent: no faucet
	dataDir          = "data"

	maxConsensusKeys = 16
	maxObservers     = 1024
	maxObserversMiB  = 16 << 10
)

// Config says how a node runs. Its home holds genesis and keys.
type Config struct {
	Home    string `toml:"-"`
	Version string `toml:"-"` // of the program, for /v1/status

	Listen         string   `toml:"listen" usage:"UDP host:port of the node's transport"`
	HTTP           string   `toml:"http" usage:"TCP host:port of the HTTP API"`
	TLSCert        string   `toml:"tls_cert" usage:"PEM file of the HTTP API's certificate"`
	TLSKey         string   `toml:"tls_key" usage:"PEM file of the certificate's key"`
	InsecureHTTP   bool     `toml:"insecure_http" usage:"allow plain HTTP on an address that is not loopback"`
	Peers          []string `toml:"peers" usage:"NODEID@HOST:PORT of peers beside genesis' validators, or in place of their endpoints"`
	Sentries       []string `toml:"sentries" usage:"NODEID@HOST:PORT of this validator's sentries, at most 4: it connects with nobody else, and signs for each epoch that they may carry its votes"`
	SentryFor      []string `toml:"sentry_for" usage:"NODEID of each validator, at most 4, that this node is a sentry of: it carries the validator's votes and proposals to the committee, and the committee's to it; with @HOST:PORT if it is to dial the validator too"`
	MaxObservers   int      `toml:"max_observers" usage:"places for peers that are not in the committee; when they are taken, one from a network that has few displaces one from a network that has many"`
	ObserversMiB   int      `toml:"observers_mib" usage:"MiB a second that all observers are sent together, and a quarter of it to one; the committee goes first"`
	Checkpoint     string   `toml:"checkpoint" usage:"a node without blocks joins from here instead of replaying from genesis: CHAIN:EPOCH:HEIGHT:TIME_MS:DIGEST:NEXT_COMMITTEE, as hypermesh query checkpoint prints it on a machine that you trust"`
	CacheMiB       int      `toml:"cache_mib" usage:"memory for what is read: two thirds for values of the state, a million accounts in 64 MiB, the rest for blocks of the database's tables"`
	TreeMiB        int      `toml:"tree_mib" usage:"memory for the state tree, of which a thousand keys take about 0.1; blocks that change keys beyond it read the disk"`
	Retention      string   `toml:"retention" usage:"archive keeps every block and every version of the state that was written; pruned keeps what keep_versions says"`
	KeepVersions   uint64   `toml:"keep_versions" usage:"for how many heights back at most a pruned node keeps blocks and versions of the state: fewer if they take more than a part of the state; the blocks since its last point stay in any case, for who joins there"`
	ConsensusKeys  []string `toml:"consensus_keys" usage:"files of the validator's consensus keys, in the home; the committee's one signs, so that a key that replaces another is here before it is rotated on chain"`
	WideSignatures bool     `toml:"wide_signatures" usage:"verify signatures eight at a time where the processor can (AVX-512 with IFMA); false: by the library alone, with the same verdicts, for more time"`
	// NodeMemory, if it is set, is told after each flush how many bytes outside of the Go
	// heap the nodes of the state tree take.
	NodeMemory func(bytes int) `toml:"-"`

	Pprof    string `toml:"pprof" usage:"loopback IP:PORT of the Go profiler; empty: none"`
	LogLevel string `toml:"log_level" usage:"debug, info, warn or error"`
}

// The values of Config.Retention.
const (
	RetentionArchive = "archive"
	RetentionPruned  = "pruned"
)

// prunedPerSecond is how many records a node that runs deletes at most.
const prunedPerSecond = 200_000

// Prune returns what a pruned node keeps, and how fast it deletes the rest.
func (c *Config) Prune() store.PruneOptions {
	return store.PruneOptions{KeepVersions: c.KeepVersions, KeepStates: 1, KeepBlocks: c.KeepVersions, Index: IndexOf, NodesPerSecond: prunedPerSecond}
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7100", HTTP: "127.0.0.1:7180", MaxObservers: 64, ObserversMiB: 64, CacheMiB: 96, TreeMiB: 128, Retention: RetentionArchive, KeepVersions: 10_000,
		ConsensusKeys: []string{ConsensusKeyFile}, WideSignatures: true, LogLevel: "info",
	}
}

// Check returns an error that names the first field out of range.
func (c *Config) Check() error {
	if c.CacheMiB < 1 || c.CacheMiB > 64<<10 {
		return fmt.Errorf("cache_mib is %d, want 1 to %d", c.CacheMiB, 64<<10)
	}
	if c.TreeMiB < 1 || c.TreeMiB > 64<<10 {
		return fmt.Errorf("tree_mib is %d, want 1 to %d", c.TreeMiB, 64<<10)
	}
	if c.MaxObservers < 0 || c.MaxObservers > maxObservers {
		return fmt.Errorf("max_observers is %d, want 0 to %d", c.MaxObservers, maxObservers)
	}
	if c.ObserversMiB < 1 || c.ObserversMiB > maxObserversMiB {
		return fmt.Errorf("observers_mib is %d, want 1 to %d", c.ObserversMiB, maxObserversMiB)
	}
	if c.Retention != RetentionArchive && c.Retention != RetentionPruned {
		return fmt.Errorf("retention is %q, want %q or %q", c.Retention, RetentionArchive, RetentionPruned)
	}
	if c.KeepVersions == 0 {
		return errors.New("keep_versions is 0, want at least 1")
	}
	if len(c.ConsensusKeys) > maxConsensusKeys {
		return fmt.Errorf("consensus_keys has %d files, limit %d", len(c.ConsensusKeys), maxConsensusKeys)
	}
	for i, name := range c.ConsensusKeys {
		if name == "" || slices.Contains(c.ConsensusKeys[:i], name) {
			return fmt.Errorf("consensus_keys: %q is empty or there twice", name)
		}
	}
	if c.Checkpoint != "" {
		if _, err := light.ParseCheckpoint(c.Checkpoint); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	for _, p := range c.Peers {
		if _, err := transport.ParseNodeAddr(p); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	_, err := c.neighbours()
	return err
}

// rpc is how the HTTP API is served.
func (c *Config) rpc() rpc.Config {
	return rpc.Config{Listen: c.HTTP, TLSCert: c.TLSCert, TLSKey: c.TLSKey, InsecureHTTP: c.InsecureHTTP}
}

// ReadKey reads a key file: a seed of 64 hexadecimal digits.
func ReadKey(path string) (crypto.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("reading a key: %w", err)
	}
	key, err := crypto.ParsePrivateKey(strings.TrimSpace(string(text)))
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// WriteKey writes a key file that only its owner can read, as a whole. It
// refuses to replace one.
func WriteKey(path string, key crypto.PrivateKey) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // of mode 0600
	if err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(key.Hex() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike Rename it replaces nothing
		return fmt.Errorf("writing a key: %w", err)
	}
	return nil
}

// writeDurably makes a small file, or replaces one, durably and as a whole: after
// a crash there is the old one or the new.
func writeDurably(path, text string) error {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// optionalKey reads a key file, or returns the zero key if there is none.
func optionalKey(path string) (crypto.PrivateKey, error) {
	key, err := ReadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return crypto.PrivateKey{}, nil
	}
	return key, err
}

// ReadGenesisFile reads and checks a genesis file.
func ReadGenesisFile(path string) (*chain.Genesis, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening genesis: %w", err)
	}
	g, err := chain.ReadGenesis(f)
	return g, errors.Join(err, f.Close())
}

// WriteVerifyingKey stores a kernel's verifying key in a home.
func WriteVerifyingKey(home, kernel string, key []byte) error {
	dir := filepath.Join(home, groth16.VerifyingKeyDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing a verifying key: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, kernel+".vk"), []byte(hex.EncodeToString(key)+"\n"), 0o644)
}
