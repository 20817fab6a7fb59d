package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Config is the same on every replica of a cluster.
type Config struct {
	ChainID           chain.ChainID
	Cluster           crypto.PublicKey
	Kernels           map[string]crypto.Digest // the verifying key that the chain pins of each
	ClaimWindowMs     uint64                   // the chain's parameter
	WithdrawalDelayMs uint64                   // the chain's parameter

	MaxJobs        int    // kept, final ones included
	MaxPerConsumer int    // of them of one consumer
	MaxActive      int    // of these at a time in auctions or running; more wait
	MaxSpecBytes   int    // of their specifications together
	MaxRequests    int    // different ones that wait for capacity when a job comes
	MaxRequestsOf  int    // of them of one consumer: those that a job of its is the first of
	MaxNodes       int    // known, connected or not
	MaxPast        int    // orders of jobs that were forgotten to make room, remembered until their deadlines
	MaxAccounts    int    // consumers with jobs that are kept
	MaxOutbox      int    // jobs whose claims wait for the chain
	MaxAttempts    int    // assignments of one job that may be lost or refused
	RetryMs        uint64 // until the next auction of a job that found too few bids; doubled each time
	FailureMs      uint64 // for which an owner whose node lost a job is not asked for it again; doubled each time
	RetentionMs    uint64 // for which a final job is kept
	Strikes        int    // assignments that a node may fail, less those that it ends, before it is held back
	HoldMs         uint64 // for which it is; doubled with each strike more
	Returns        int    // times in a row that a node may come back or change what it offers
	ReturnMs       uint64 // and then once in so long

	Sample     int // nodes that fit which are looked at for one auction
	Candidates int // of them that are asked for bids, the best

	// By how much a job of a class is put behind an urgent one that came at the
	// same time: when it has waited so long, it comes before every later one.
	StandardMs uint64
	SpareMs    uint64
}

// DefaultConfig returns the bounds of a cluster on a chain.
func DefaultConfig(g *chain.Genesis, cluster crypto.PublicKey) Config {
	kernels := map[string]crypto.Digest{}
	for _, k := range g.Kernels {
		kernels[k.Name] = k.VerifyingKey
	}
	return Config{
		ChainID: g.ChainID, Cluster: cluster, Kernels: kernels,
		ClaimWindowMs: g.Params.ClaimWindowMs, WithdrawalDelayMs: g.Params.WithdrawalDelayMs,
		MaxJobs: 100_000, MaxPerConsumer: 10_000, MaxActive: 4_000, MaxSpecBytes: 256 << 20, MaxRequests: 4_096, MaxRequestsOf: 512,
		MaxNodes: 10_000, MaxPast: 400_000, MaxAccounts: 100_000, MaxOutbox: 10_000,
		MaxAttempts: 8, RetryMs: 1_000, FailureMs: 30_000, RetentionMs: 24 * 3600 * 1000,
		Strikes: 4, HoldMs: 30_000, Returns: 6, ReturnMs: 5_000,
		Sample: 32, Candidates: 16, StandardMs: 60_000, SpareMs: 600_000,
	}
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
