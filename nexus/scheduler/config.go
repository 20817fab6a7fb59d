package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Config is the same on every replica of a cluster. Bounds of all have shares of
// one consumer in the settings.
type Config struct {
	ChainID           chain.ChainID
	Cluster           crypto.PublicKey
	Kernels           map[string]crypto.Digest // the verifying key that the chain pins of each
	ClaimWindowMs     uint64                   // the chain's parameter
	WithdrawalDelayMs uint64                   // the chain's parameter

	MaxJobs      int // kept, final ones included
	MaxSpecBytes int // of their specifications together
	MaxRequests  int // different ones that wait for capacity when a job comes
	MaxNodes     int // known, connected or not
	MaxPast      int // orders of jobs that were forgotten to make room, remembered until their deadlines
	MaxAccounts  int // consumers with jobs that are kept

	job.Settings // until SetSettings says otherwise
}

// DefaultConfig returns the bounds of a cluster on a chain.
func DefaultConfig(g *chain.Genesis, cluster crypto.PublicKey) Config {
	return Config{
		ChainID: g.ChainID, Cluster: cluster, Kernels: g.VerifyingKeys(),
		ClaimWindowMs: g.Params.ClaimWindowMs, WithdrawalDelayMs: g.Params.WithdrawalDelayMs,
		MaxJobs: 100_000, MaxSpecBytes: 256 << 20, MaxRequests: 4_096, MaxNodes: 10_000, MaxPast: 400_000, MaxAccounts: 100_000,
		Settings: job.DefaultSettings(),
	}
}

// headStartMs is how far a priority fee puts a job before others of its class. It goes before no job of the class above that came when it
// did, and aging overtakes it: whatever comes more than PriorityMs after a job without a fee goes after it.
func (c *Config) headStartMs(class job.Class, fee chain.PriorityFee) uint64 {
	most := c.PriorityMs
	switch class {
	case job.Standard:
		most = min(most, c.StandardMs)
	case job.Spare:
		most = min(most, c.SpareMs-c.StandardMs) // Settings.Check
	case job.Urgent:
	}
	return most * uint64(min(fee, chain.MaxPriorityFee)) / uint64(chain.MaxPriorityFee)
}

// HeadStartMs is by how much a priority fee puts a job of a class before others of it.
func (s *State) HeadStartMs(class job.Class, fee chain.PriorityFee) uint64 {
	return s.config.headStartMs(class, fee)
}

// delayMs is how far a class is put behind the urgent one.
func (c *Config) delayMs(class job.Class) uint64 {
	switch class {
	case job.Standard:
		return c.StandardMs
	case job.Spare:
		return c.SpareMs
	default:
		return 0
	}
}
