package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Config is everything an engine is told. DefaultConfig fills the limits and
// times; the first block has no defaults but the zero key of an observer.
type Config struct {
	ChainID   string
	Committee *consensus.Committee
	Start     crypto.Digest      // what view 0 stands for: the genesis block's digest
	Key       crypto.PrivateKey  // consensus key; zero: observer
	NodeKeys  []crypto.PublicKey // by validator: the key its connections are authenticated with
	Logger    *slog.Logger

	DeltaMin   time.Duration // least patience for one message round
	DeltaMax   time.Duration // most
	Idle       time.Duration // how long a leader waits after an empty block
	Retry      time.Duration // between repetitions in a standing view
	Skip       time.Duration // silence after which a leader is not waited for
	Fetch      time.Duration // between requests for one missing thing
	CatchUp    time.Duration // without progress for so long, peers are asked for more blocks
	Answer     time.Duration // how long catch-up waits for one peer's answer
	Retention  uint64        // finalized views whose votes still count
	MaxAhead   int           // finalized blocks waiting for the disk beyond which no new ones are executed
	MaxBacklog int           // finalized blocks waiting for the disk beyond which they are dropped and fetched later
	MaxChecks  int           // blocks verified at a time
	Inbox      int           // messages waiting for the core
	Requests   int           // fetch requests waiting for an answer, of all peers; of one at most 32
	RewriteLog int           // bytes appended after which the log is rewritten
	MaxRunByte int           // bytes of blocks without a certificate that catch-up holds
}

// DefaultConfig returns a configuration that lacks only identity.
func DefaultConfig() Config {
	t := consensus.DefaultTiming()
	return Config{
		DeltaMin:   span(t.DeltaMin),
		DeltaMax:   span(t.DeltaMax),
		Idle:       span(t.Idle),
		Retry:      span(t.Retry),
		Skip:       span(t.Skip),
		Fetch:      span(t.Fetch),
		CatchUp:    2 * time.Second,
		Answer:     3 * time.Second,
		Retention:  32,
		MaxAhead:   8,
		MaxBacklog: 128,
		MaxChecks:  4,
		Inbox:      1024,
		Requests:   1024,
		RewriteLog: 16 << 20,
		MaxRunByte: 64 << 20,
	}
}

// Validate returns an error that names the first field out of range.
func (c Config) Validate() error {
	if c.Committee == nil {
		return errors.New("engine: config: Committee is missing")
	}
	if c.Logger == nil {
		return errors.New("engine: config: Logger is missing")
	}
	if c.Start.IsZero() {
		return errors.New("engine: config: Start is missing")
	}
	if len(c.ChainID) == 0 || len(c.ChainID) > 64 {
		return fmt.Errorf("engine: config: ChainID of %d bytes, want 1 to 64", len(c.ChainID))
	}
	if len(c.NodeKeys) != c.Committee.Len() {
		return fmt.Errorf("engine: config: NodeKeys: %d keys for %d validators", len(c.NodeKeys), c.Committee.Len())
	}
	for _, f := range []struct {
		name string
		span time.Duration
	}{
		{"DeltaMin", c.DeltaMin}, {"DeltaMax", c.DeltaMax}, {"Idle", c.Idle}, {"Retry", c.Retry},
		{"Skip", c.Skip}, {"Fetch", c.Fetch}, {"CatchUp", c.CatchUp}, {"Answer", c.Answer},
	} {
		if f.span < time.Millisecond || f.span > time.Hour {
			return fmt.Errorf("engine: config: %s of %v, want 1ms to 1h", f.name, f.span)
		}
	}
	if c.Retention < 1 || c.Retention > 1<<16 {
		return fmt.Errorf("engine: config: Retention of %d views, want 1 to %d", c.Retention, 1<<16)
	}
	for _, f := range []struct {
		name   string
		n, max int
	}{
		{"MaxAhead", c.MaxAhead, 1 << 10}, {"MaxBacklog", c.MaxBacklog, 1 << 16}, {"MaxChecks", c.MaxChecks, 1 << 10},
		{"Inbox", c.Inbox, 1 << 16}, {"Requests", c.Requests, 1 << 16},
		{"RewriteLog", c.RewriteLog, 1 << 40}, {"MaxRunByte", c.MaxRunByte, 1 << 40},
	} {
		if f.n < 1 || f.n > f.max {
			return fmt.Errorf("engine: config: %s of %d, want 1 to %d", f.name, f.n, f.max)
		}
	}
	if c.MaxBacklog < c.MaxAhead {
		return fmt.Errorf("engine: config: MaxBacklog of %d is below MaxAhead of %d", c.MaxBacklog, c.MaxAhead)
	}
	return nil
}

func (c Config) core() consensus.Config {
	return consensus.Config{
		ChainID:   c.ChainID,
		Committee: c.Committee,
		Start:     c.Start,
		Key:       c.Key,
		Fresh:     true,
		Retention: consensus.View(c.Retention),
		Timing: consensus.Timing{
			DeltaMin: micros(c.DeltaMin), DeltaMax: micros(c.DeltaMax), Idle: micros(c.Idle),
			Retry: micros(c.Retry), Skip: micros(c.Skip), Fetch: micros(c.Fetch),
		},
	}
}

func micros(d time.Duration) consensus.Micros { return consensus.Micros(d.Microseconds()) }

func span(m consensus.Micros) time.Duration { return time.Duration(m) * time.Microsecond }
