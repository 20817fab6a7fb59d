package server

import (
	"context"
	"errors"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk"
)

// ErrNotRegistered says that the chain has no such bonded provider or cluster.
var ErrNotRegistered = errors.New("server: not registered on the chain")

// Chain is what a server asks of the chain. Every answer has been checked
// against a finalized state: nothing is taken on a node's word. Its methods are
// called concurrently; an error that does not match ErrNotRegistered says that
// the chain cannot be asked now.
type Chain interface {
	// Escrow returns what a consumer has in escrow at this cluster.
	Escrow(ctx context.Context, consumer chain.Address) (Escrow, error)

	// Provider returns a bonded provider node, or ErrNotRegistered.
	Provider(ctx context.Context, node crypto.PublicKey) (Provider, error)

	// Own returns this cluster's record, or ErrNotRegistered.
	Own(ctx context.Context) (Own, error)

	// Lease returns what a finalized state has of a lease, and of the order that opens or
	// resizes it.
	Lease(ctx context.Context, of LeaseQuery) (Lease, error)

	// Service returns what a finalized state has of a lease with service terms: the lease, and
	// what is promised of it. Live is false if one of them is not there, and the lease's last epochs
	// cannot be reported any more; beside, what was promised before a resize.
	Service(ctx context.Context, id chain.LeaseID) (Service, error)

	// Outcome returns what the chain made of a job's claims.
	Outcome(ctx context.Context, order crypto.Digest, claims []chain.Claim) (Outcome, error)

	// Replication returns what the chain says of a replicated job: where its runs stand, or
	// what came of them.
	Replication(ctx context.Context, order *chain.Order) (scheduler.Replication, Outcome, error)

	// Hardware returns the challenge of a node's hardware.
	Hardware(ctx context.Context, node crypto.PublicKey) (Challenge, error)

	// Home returns where a node is at home; zero: it did not say.
	Home(ctx context.Context, node crypto.PublicKey) (settlement.Home, error)

	// Panels tells of jurors of panels and of peers in hardware challenges as they are drawn, and of
	// those that were drawn for as long back as either lasts, and of peers of leases alike, until ctx ends or the chain cannot be followed. What it tells may be
	// wrong.
	Panels(ctx context.Context, tell PanelNews) error

	// Panel returns a panel, and false if there is none, or no longer: then the height alone.
	Panel(ctx context.Context, id crypto.Digest) (Sitting, bool, error)

	// Matter returns what a panel judges.
	Matter(ctx context.Context, s *Sitting) (Matter, error)

	// Endpoints returns where a cluster is, or ErrNotRegistered.
	Endpoints(ctx context.Context, cluster crypto.PublicKey) ([]string, error)
}

// PanelNews takes what Chain.Panels tells, one call after another.
type PanelNews struct {
	Drawn      func(panel crypto.Digest, at chain.Height, jurors []crypto.PublicKey)
	Challenged func(node crypto.PublicKey, at chain.Height, peers []crypto.PublicKey)
	Revealing  func(panel crypto.Digest, at chain.Height)
	Cluster    func(crypto.PublicKey) // one that is there
	Peers      func(lease chain.LeaseID, peers []crypto.PublicKey)
}

// Provider is what the chain knows of a bonded provider node.
type Provider struct {
	Owner   chain.Address
	Premium uint64              // match.Premium of its score, as of the block that was asked about
	Record  *scheduler.Capacity // its hardware, on a chain that has it measured
	Leased  settlement.Leased   // what all leases keep of that
	Free    chain.Amount        // of its bond
	Height  chain.Height        // of the block that was asked about
}

// Own is this cluster's record after a block.
type Own struct {
	settlement.Cluster
	Height chain.Height
}

// LeaseQuery asks about a lease for an order, which opens it or, if it is not the lease's own,
// resizes it.
type LeaseQuery struct {
	Lease    chain.LeaseID
	Order    crypto.Digest
	Deadline chain.TimeMs // after which the chain takes the order no more
}

// Lease is what the chain has of a lease for an order.
type Lease struct {
	Height chain.Height // of the state
	Live   bool         // the lease is there, and if the order resizes it, upon that order's terms
	Opened bool         // the order was used
	Late   bool         // it was not, and its deadline has passed
}

// Service is what the chain has of a lease with service terms.
type Service = sdk.Promised

// Escrow is what a consumer has in escrow after a block.
type Escrow struct {
	Balance chain.Amount // without withdrawals on their way
	Height  chain.Height // of the block
	TimeMs  chain.TimeMs // no withdrawal that Balance does not know of began before it
}

// Outcome is what the chain made of a job's claims.
type Outcome struct {
	Settled bool                  // all of them were paid: Record says what
	Refused string                // why they never will be; empty: they may be
	Refuted *scheduler.Refutation // with Refused: the chain takes another node's claim
	Waits   chain.Height          // neither yet, and under optimistic the claim waits in its window: as of this block; zero: it was not seen there
	Record  scheduler.SettlementRecord
}
