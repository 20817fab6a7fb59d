package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

// Config is everything an engine is told. DefaultConfig fills the limits and
// times.
type Config struct {
	// Replica is the protocol's part: keys, times, limits.
	Replica replica.Config
	Noted   time.Time // when Replica.Since was taken off the clock; zero: when Run begins
	Logger  *slog.Logger

	MaxChecks  int // blocks verified at a time
	Inbox      int // events waiting for the replica
	RewriteLog int // bytes appended to an epoch's log after which it is rewritten

	// UnpackWait is how long a proposal may wait for what its packed form leaves
	// out. Meanwhile its sender's next proposals wait.
	UnpackWait time.Duration
}

// DefaultConfig returns a configuration that lacks only identity and logger.
func DefaultConfig() Config {
	return Config{Replica: replica.DefaultConfig(), MaxChecks: 4, Inbox: 1024, RewriteLog: 16 << 20, UnpackWait: 2 * time.Second}
}

// Validate returns an error that names the first field out of range. Those of
// Replica are checked by New.
func (c Config) Validate() error {
	if c.Logger == nil {
		return errors.New("engine: config: Logger is missing")
	}
	for _, f := range []struct {
		name   string
		n, max int
	}{
		{"MaxChecks", c.MaxChecks, 1 << 10}, {"Inbox", c.Inbox, 1 << 16}, {"RewriteLog", c.RewriteLog, 1 << 40},
	} {
		if f.n < 1 || f.n > f.max {
			return fmt.Errorf("engine: config: %s of %d, want 1 to %d", f.name, f.n, f.max)
		}
	}
	if c.UnpackWait <= 0 || c.UnpackWait > time.Minute {
		return fmt.Errorf("engine: config: UnpackWait of %v, want up to a minute", c.UnpackWait)
	}
	return nil
}

func micros(d time.Duration) consensus.Micros { return consensus.Micros(d.Microseconds()) }

func span(m consensus.Micros) time.Duration { return time.Duration(m) * time.Microsecond }
