package replica

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
)

// DefaultConfig returns a configuration that lacks only identity.
func DefaultConfig() Config {
	return Config{
		Timing:    consensus.DefaultTiming(),
		Retention: 32,
		CatchUp:   2_000_000,
		Answer:    3_000_000,

		MaxAhead:    8,
		MaxBacklog:  128,
		MaxRunBytes: 64 << 20,
		MaxEarly:    64,
		MaxRequests: 32,
		MaxLookups:  4,
		ServeBytes:  16 << 20,
	}
}

func (cfg Config) check() error {
	if len(cfg.ChainID) == 0 || len(cfg.ChainID) > 64 {
		return fmt.Errorf("replica: config: ChainID of %d bytes, want 1 to 64", len(cfg.ChainID))
	}
	if cfg.Retention < 1 || cfg.Retention > 1<<16 {
		return fmt.Errorf("replica: config: Retention of %d views, want 1 to %d", cfg.Retention, 1<<16)
	}
	for _, f := range []struct {
		name string
		span consensus.Micros
	}{{"CatchUp", cfg.CatchUp}, {"Answer", cfg.Answer}} {
		if f.span < 1000 || f.span > 3_600_000_000 {
			return fmt.Errorf("replica: config: %s of %d µs, want 1000 to 3600000000", f.name, f.span)
		}
	}
	for _, f := range []struct {
		name   string
		n, max int
	}{
		{"MaxAhead", cfg.MaxAhead, 1 << 10}, {"MaxBacklog", cfg.MaxBacklog, 1 << 16},
		{"MaxRunBytes", cfg.MaxRunBytes, 1 << 40}, {"MaxEarly", cfg.MaxEarly, 1 << 12},
		{"MaxRequests", cfg.MaxRequests, 1 << 12}, {"MaxLookups", cfg.MaxLookups, 1 << 10},
		{"ServeBytes", cfg.ServeBytes, 1 << 40},
	} {
		if f.n < 1 || f.n > f.max {
			return fmt.Errorf("replica: config: %s of %d, want 1 to %d", f.name, f.n, f.max)
		}
	}
	if cfg.MaxBacklog < cfg.MaxAhead {
		return fmt.Errorf("replica: config: MaxBacklog of %d is below MaxAhead of %d", cfg.MaxBacklog, cfg.MaxAhead)
	}
	for i, k := range cfg.Keys {
		if k.IsZero() {
			return errors.New("replica: config: a consensus key is zero")
		}
		for _, other := range cfg.Keys[:i] {
			if k.Public() == other.Public() {
				return errors.New("replica: config: a consensus key is there twice")
			}
		}
	}
	return cfg.checkSentries()
}
