package explorer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk"
)

// Config says where the explorer listens, whom it asks and what it keeps.
type Config struct {
	Home    string       `toml:"-"` // holds the index
	Version string       `toml:"-"` // of the program, for the pages' foot
	Log     *slog.Logger `toml:"-"` // nil: to standard error, by LogLevel

	Listen          string        `toml:"listen" usage:"TCP host:port of the pages"`
	TLSCert         string        `toml:"tls_cert" usage:"PEM file of the certificate"`
	TLSKey          string        `toml:"tls_key" usage:"PEM file of the certificate's key"`
	InsecureHTTP    bool          `toml:"insecure_http" usage:"allow plain HTTP on an address that is not loopback"`
	RPC             []string      `toml:"rpc" usage:"URLs of nodes' HTTP APIs; the first that answers is asked"`
	Nexus           []string      `toml:"nexus" usage:"URLs of Nexus servers' HTTP APIs; may be empty"`
	Cluster         string        `toml:"cluster" usage:"public key of the cluster that nexus are servers of, by which it learns of others; empty: it learns of none"`
	RetentionBlocks uint64        `toml:"retention_blocks" usage:"blocks to keep with their transactions; 0 keeps all"`
	CacheMiB        int           `toml:"cache_mib" usage:"memory for the index's page cache"`
	AskTimeout      time.Duration `toml:"ask_timeout" usage:"for one answer of a node or server while a page waits"`
	LogLevel        string        `toml:"log_level" usage:"debug, info, warn or error"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7190", RPC: []string{"http://127.0.0.1:7180"}, CacheMiB: 64, AskTimeout: 2 * time.Second, LogLevel: "info",
	}
}

// minRetention keeps what the overview shows.
const minRetention = 100

// Check returns an error that names the first field out of range.
func (c *Config) Check() error {
	if err := c.address().Check("listen"); err != nil {
		return err
	}
	if len(c.RPC) == 0 {
		return errors.New("rpc is empty: want the URL of at least one node")
	}
	if err := checkURLs("rpc", c.RPC); err != nil {
		return err
	}
	if err := checkURLs("nexus", c.Nexus); err != nil {
		return err
	}
	if _, err := sdk.ParseCluster(c.Cluster); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	var level slog.Level
	switch {
	case c.RetentionBlocks != 0 && c.RetentionBlocks < minRetention:
		return fmt.Errorf("retention_blocks is %d, want 0 or at least %d", c.RetentionBlocks, minRetention)
	case c.CacheMiB < 1 || c.CacheMiB > 64<<10:
		return fmt.Errorf("cache_mib is %d, want 1 to %d", c.CacheMiB, 64<<10)
	case c.AskTimeout < 10*time.Millisecond || c.AskTimeout > time.Minute:
		return fmt.Errorf("ask_timeout is %s, want 10ms to 1m", c.AskTimeout)
	case level.UnmarshalText([]byte(c.LogLevel)) != nil:
		return fmt.Errorf("log_level is %.20q, want debug, info, warn or error", c.LogLevel)
	}
	return nil
}

func checkURLs(field string, list []string) error {
	for _, text := range list {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(text, "?#") {
			return fmt.Errorf("%s: %.80q is not an http or https URL without query", field, text)
		}
	}
	return nil
}

func (c *Config) address() web.Address {
	return web.Address{Listen: c.Listen, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Insecure: c.InsecureHTTP}
}
