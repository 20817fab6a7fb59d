package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk"
)

// Files of a relay's home, beside its config.
const (
	AccountKeyFile = "account.key" // seed of 64 hexadecimal digits; pays the fees
	GenesisFile    = "genesis.json"
	ProvingKeyDir  = "proving-keys" // as agents have them
	serversFile    = "servers.json" // what the cluster said of its servers
)

// Config says how a relay runs. Its home holds account.key, genesis.json and
// the verifying keys of the kernels that genesis pins.
type Config struct {
	Home string       `toml:"-"`
	Log  *slog.Logger `toml:"-"` // nil: standard error, from log_level up

	Nexus    []string `toml:"nexus" usage:"URLs of the cluster's servers, read in turn"`
	Cluster  string   `toml:"cluster" usage:"public key of the cluster that nexus are servers of, by which it learns of others; empty: it learns of none"`
	RPC      []string `toml:"rpc" usage:"URLs of nodes of the chain, asked in turn"`
	Key      string   `toml:"key" usage:"key file of the account that pays the fees; empty: account.key in the home"`
	Genesis  string   `toml:"genesis" usage:"genesis file; empty: genesis.json in the home"`
	Batch    int      `toml:"batch" usage:"claims in one transaction, at most"`
	HTTP     string   `toml:"http" usage:"loopback host:port of /healthz and /metrics; empty: none"`
	LogLevel string   `toml:"log_level" usage:"debug, info, warn or error"`

	Private bool     `toml:"private" usage:"settle the metered work of own nodes by proofs over usage records, which stay in the home"`
	Nodes   []string `toml:"nodes" usage:"with private: KEY@URL of own nodes, the URL being that of the agent's page, which signs their usage records"`
	KeyDir  string   `toml:"key_dir" usage:"with private: directory of the usage-batch kernels' proving keys; empty: proving-keys in the home"`
	Keep    int      `toml:"keep" usage:"with private: settled batches whose records are kept, at most"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Batch: chain.MaxClaims, HTTP: "127.0.0.1:7480", LogLevel: "info", Keep: 100_000}
}

// Check returns an error that names the first field out of range.
func (c *Config) Check() error {
	for _, list := range []struct {
		field string
		urls  []string
	}{{"nexus", c.Nexus}, {"rpc", c.RPC}} {
		if len(list.urls) == 0 {
			return fmt.Errorf("%s names no URL", list.field)
		}
		for _, text := range list.urls {
			if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return fmt.Errorf("%s: %.100q is not an http or https URL", list.field, text)
			}
		}
	}
	if _, err := sdk.ParseCluster(c.Cluster); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if c.Batch < 1 || c.Batch > chain.MaxClaims {
		return fmt.Errorf("batch is %d, want 1 to %d", c.Batch, chain.MaxClaims)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("log_level is %.20q, want debug, info, warn or error", c.LogLevel)
	}
	if c.Keep < 1 || c.Keep > maxKeep {
		return fmt.Errorf("keep is %d, want 1 to %d", c.Keep, maxKeep)
	}
	if nodes, err := c.nodes(); err != nil {
		return err
	} else if c.Private && len(nodes) == 0 {
		return errors.New("nodes names no node, and private is for the work of own nodes")
	}
	if c.HTTP == "" {
		return nil
	}
	return web.CheckLoopback("http", c.HTTP)
}

// maxKeep bounds the files of a vault: 20 GB.
const maxKeep = 1_000_000

// nodes are those whose work is settled privately, and where each one's agent is.
func (c *Config) nodes() (map[crypto.PublicKey]string, error) {
	out := map[crypto.PublicKey]string{}
	for _, text := range c.Nodes {
		key, at, _ := strings.Cut(text, "@")
		node, err := crypto.ParsePublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("nodes: %.80q: %w", text, err)
		}
		if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("nodes: %.160q has no address of its agent, such as KEY@http://127.0.0.1:7380", text)
		}
		out[node] = at
	}
	return out, nil
}

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

func (c *Config) path(configured, inHome string) string {
	if configured != "" {
		return configured
	}
	return filepath.Join(c.Home, inHome)
}

// account signs with the key of the account that pays.
type account struct{ key crypto.PrivateKey }

var _ chain.Signer = account{}

// AccountKey returns the public key, tagged.
func (a account) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(a.key.Public()) }

// Sign signs the domain's digest of payload.
func (a account) Sign(domain *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return a.key.Sign(domain, payload), nil
}

func readAccount(path string) (account, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return account{}, fmt.Errorf("relay: reading the account's key: %w", err)
	}
	key, err := crypto.ParsePrivateKey(strings.TrimSpace(string(text)))
	if err != nil {
		return account{}, fmt.Errorf("relay: %s: %w", path, err)
	}
	return account{key}, nil
}

func readGenesis(path string) (*chain.Genesis, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("relay: opening genesis: %w", err)
	}
	g, err := chain.ReadGenesis(f)
	return g, errors.Join(err, f.Close())
}
