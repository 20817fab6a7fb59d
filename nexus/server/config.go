package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Files of a server's home. Keys are seeds of 64 hexadecimal digits, readable by
// their owner alone.
const (
	GenesisFile    = "genesis.json"
	NodeKeyFile    = "node.key"    // this server's
	ClusterKeyFile = "cluster.key" // the same on every server of the cluster

	dataDir  = "data"
	raftDir  = "raft"
	blobsDir = "blobs"
)

const (
	maxServers = 5
	mebibyte   = 1 << 20
)

// Config says how a server runs. Its home holds genesis and keys.
type Config struct {
	Home    string       `toml:"-"`
	Version string       `toml:"-"` // of the program, for /v1/status
	Log     *slog.Logger `toml:"-"` // nil: none

	Listen       string   `toml:"listen" usage:"UDP host:port for agents and the other servers"`
	Servers      []string `toml:"servers" usage:"NODEID@HOST:PORT of every server of the cluster, this one included, as the others reach it: 1, 3 or 5"`
	Join         bool     `toml:"join" usage:"wait to be added to a running cluster (hypermesh nexus add-server) in place of beginning one"`
	HTTP         string   `toml:"http" usage:"TCP host:port of the HTTP API"`
	TLSCert      string   `toml:"tls_cert" usage:"PEM file of the HTTP API's certificate"`
	TLSKey       string   `toml:"tls_key" usage:"PEM file of the certificate's key"`
	HTTPURL      string   `toml:"http_url" usage:"URL under which clients reach the HTTP API, told to them; empty: that of http, unless it is of every address"`
	InsecureHTTP bool     `toml:"insecure_http" usage:"allow plain HTTP on an address that is not loopback"`
	LocalPeers   bool     `toml:"local_peers" usage:"networks of tests alone: ask endpoints of other clusters that are on this machine or in its network, whoever registered them"`
	RPC          []string `toml:"rpc" usage:"URLs of nodes of the chain, asked in turn; their answers are checked"`

	AuctionWindow time.Duration `toml:"auction_window" usage:"how long bids are awaited, until hypermesh nexus settings set says otherwise"`
	NodeGrace     time.Duration `toml:"node_grace" usage:"how long an agent may be gone before its work is given to others"`
	Retention     time.Duration `toml:"retention" usage:"how long a job that has ended is kept, unless it has to make room for others; until hypermesh nexus settings set says otherwise"`
	Heartbeat     time.Duration `toml:"heartbeat" usage:"how long a silent leader is borne, the same on every server"`
	BlobMiB       int           `toml:"blob_mib" usage:"disk for inputs and outputs of jobs"`
	MaxBlobMiB    int           `toml:"max_blob_mib" usage:"largest input or output"`
	MaxAgents     int           `toml:"max_agents" usage:"agents connected at a time"`
	MaxOutbox     int           `toml:"max_outbox" usage:"jobs whose claims may wait for the chain; while there are as many, new ones are refused; until hypermesh nexus settings set says otherwise"`
	LogLevel      string        `toml:"log_level" usage:"debug, info, warn or error"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7200", HTTP: "127.0.0.1:7280", AuctionWindow: 50 * time.Millisecond, NodeGrace: 5 * time.Second,
		Retention: 24 * time.Hour, Heartbeat: 700 * time.Millisecond, BlobMiB: 4 << 10, MaxBlobMiB: 1 << 10, MaxAgents: 1_000, MaxOutbox: 10_000,
		LogLevel: "info",
	}
}

// Check returns an error that names the first field out of range.
func (c *Config) Check() error {
	if err := c.address().Check("http"); err != nil {
		return err
	}
	if c.HTTPURL != "" {
		if err := checkURL(c.HTTPURL); err != nil {
			return fmt.Errorf("http_url %.100q: %w", c.HTTPURL, err)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen %q: %w", c.Listen, err)
	}
	if _, err := c.members(); err != nil {
		return err
	}
	if len(c.RPC) == 0 {
		return errors.New("rpc names no node of the chain")
	}
	for _, text := range c.RPC {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("rpc %.100q is not an http or https URL", text)
		}
	}
	for _, d := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"auction_window", c.AuctionWindow, time.Millisecond, time.Minute},
		{"node_grace", c.NodeGrace, 100 * time.Millisecond, time.Hour},
		{"retention", c.Retention, time.Second, 365 * 24 * time.Hour},
		{"heartbeat", c.Heartbeat, 50 * time.Millisecond, time.Minute},
	} {
		if d.value < d.min || d.value > d.max {
			return fmt.Errorf("%s is %s, want %s to %s", d.name, d.value, d.min, d.max)
		}
	}
	for _, n := range []struct {
		name            string
		value, min, max int
	}{
		{"blob_mib", c.BlobMiB, 1, 1 << 30},
		{"max_blob_mib", c.MaxBlobMiB, 1, job.MaxInputBytes / mebibyte},
		{"max_agents", c.MaxAgents, 1, 100_000},
		{"max_outbox", c.MaxOutbox, 1, 100_000},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.name, n.value, n.min, n.max)
		}
	}
	return nil
}

// members returns the servers of the cluster, as configured.
func (c *Config) members() ([]transport.NodeAddr, error) {
	switch n := len(c.Servers); {
	case c.Join && (n < 2 || n > maxServers+1):
		return nil, fmt.Errorf("servers has %d, want this one and those that it joins, at most %d", n, maxServers+1)
	case !c.Join && (n == 0 || n > maxServers || n%2 == 0):
		return nil, fmt.Errorf("servers has %d, want 1, 3 or 5", n)
	}
	out := make([]transport.NodeAddr, len(c.Servers))
	seen := map[crypto.PublicKey]bool{}
	for i, text := range c.Servers {
		addr, err := transport.ParseNodeAddr(text)
		if err != nil {
			return nil, fmt.Errorf("servers: %w", err)
		}
		if seen[addr.ID] {
			return nil, fmt.Errorf("servers: %s is there twice", addr.ID.Short())
		}
		seen[addr.ID] = true
		out[i] = addr
	}
	return out, nil
}

// identity is what a server's home holds.
type identity struct {
	genesis *chain.Genesis
	node    crypto.PrivateKey
	cluster crypto.PrivateKey
}

func readIdentity(home string) (identity, error) {
	var id identity
	var err error
	if id.node, err = readKey(filepath.Join(home, NodeKeyFile)); err != nil {
		return id, err
	}
	if id.cluster, err = readKey(filepath.Join(home, ClusterKeyFile)); err != nil {
		return id, err
	}
	f, err := os.Open(filepath.Join(home, GenesisFile))
	if err != nil {
		return id, fmt.Errorf("server: opening genesis: %w", err)
	}
	id.genesis, err = chain.ReadGenesis(f)
	return id, errors.Join(err, f.Close())
}

// readKey reads a key file that nobody but its owner may read.
func readKey(path string) (crypto.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("server: reading a key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return crypto.PrivateKey{}, fmt.Errorf("server: %s may be read by others (mode %s): %w", path, info.Mode().Perm(), fs.ErrPermission)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("server: reading a key: %w", err)
	}
	key, err := crypto.ParsePrivateKey(strings.TrimSpace(string(text)))
	if err != nil {
		return crypto.PrivateKey{}, fmt.Errorf("server: %s: %w", path, err)
	}
	return key, nil
}

func (c *Config) address() web.Address {
	return web.Address{Listen: c.HTTP, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Insecure: c.InsecureHTTP}
}
