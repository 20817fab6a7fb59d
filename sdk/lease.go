package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// VerifiedLease is a lease that a finalized state has, or has not.
type VerifiedLease struct {
	lease  settlement.Lease
	live   bool
	height chain.Height
	at     chain.TimeMs
}

// Get returns the lease, and false if there is none, or no longer. After its Expires a
// lease is over, whether or not a block has deleted it.
func (v VerifiedLease) Get() (settlement.Lease, bool) { return v.lease, v.live }

// Height returns the height of the block after which the state was this.
func (v VerifiedLease) Height() chain.Height { return v.height }

// TimeMs returns the time of that block.
func (v VerifiedLease) TimeMs() chain.TimeMs { return v.at }

// VerifiedLease returns what a finalized state knows of a lease: both of its sides
// reconcile by that, whichever events they missed.
func (c *Client) VerifiedLease(ctx context.Context, id chain.LeaseID) (VerifiedLease, error) {
	value, err := c.VerifiedState(ctx, settlement.LeaseKey(id))
	if err != nil {
		return VerifiedLease{}, err
	}
	out := VerifiedLease{height: value.Height(), at: value.Header().TimeMs()}
	raw, live := value.Get()
	if !live {
		return out, nil
	}
	if out.lease, err = settlement.DecodeLease(raw); err != nil {
		return VerifiedLease{}, fmt.Errorf("sdk: lease of node %s: %w: %w", id.Node.Short(), light.ErrRefused, err)
	}
	out.live = true
	return out, nil
}

// VerifiedService is what a finalized state has of what is promised of a lease.
type VerifiedService struct {
	service settlement.Service
	there   bool
	height  chain.Height
	at      chain.TimeMs
}

// Get returns what is promised, and false if nothing is, or there is no lease, nor one whose last epochs
// may be reported.
func (v VerifiedService) Get() (settlement.Service, bool) { return v.service, v.there }

// Height returns the height of the block after which the state was this.
func (v VerifiedService) Height() chain.Height { return v.height }

// TimeMs returns the time of that block.
func (v VerifiedService) TimeMs() chain.TimeMs { return v.at }

// VerifiedService returns what a finalized state knows of what is promised of a lease, and
// of the peers who watch it.
func (c *Client) VerifiedService(ctx context.Context, id chain.LeaseID) (VerifiedService, error) {
	value, err := c.VerifiedState(ctx, settlement.ServiceKey(id.Order))
	if err != nil {
		return VerifiedService{}, err
	}
	out := VerifiedService{height: value.Height(), at: value.Header().TimeMs()}
	raw, there := value.Get()
	if !there {
		return out, nil
	}
	if out.service, err = settlement.DecodeService(raw); err != nil {
		return VerifiedService{}, fmt.Errorf("sdk: service of node %s: %w: %w", id.Node.Short(), light.ErrRefused, err)
	}
	out.there = out.service.Node == id.Node
	return out, nil
}

// Promised is what finalized states have of a lease and of what is promised of it.
type Promised struct {
	At      chain.TimeMs // of the block
	Live    bool         // the lease is there with service terms, or its last epochs may be reported
	Lease   settlement.Lease
	Service settlement.Service
	Former  *Promised // under the terms before a resize, as long as their last epochs may be reported; nil: there are none
}

// promisedReads is how often a lease is read again that was resized meanwhile.
const promisedReads = 3

// Watch is what whoever probes the lease has to know.
func (p *Promised) Watch(id chain.LeaseID) job.Watch {
	return job.Watch{Lease: id, Terms: p.Lease.Order, Service: p.Service.Terms, Since: p.Lease.Since, Until: p.Lease.Expires, At: p.At}
}

// WatchBy is Watch for a peer: of the epochs that are its own. Where nobody was drawn before its peers, they have all.
func (p *Promised) WatchBy(id chain.LeaseID, peer crypto.PublicKey) job.Watch {
	m, s := p.Watch(id), &p.Service
	now, before := slices.Contains(s.Peers, peer), slices.Contains(s.Former, peer)
	if now && !before && len(s.Former) > 0 {
		m.From = s.Drawn
	}
	if before && !now {
		m.Before = s.Drawn
	}
	return m
}

// Each returns what is promised now, and under the terms before, of which something may be reported.
func (p *Promised) Each() (list []*Promised) {
	for _, of := range []*Promised{p, p.Former} {
		if of != nil && of.Live {
			list = append(list, of)
		}
	}
	return list
}

// Under is that of Each which is of some terms; nil: there is none.
func (p *Promised) Under(terms crypto.Digest) *Promised {
	for _, of := range p.Each() {
		if of.Lease.Order == terms {
			return of
		}
	}
	return nil
}

// Promised returns a lease with what is promised of it. One that was there and then is not has ended in
// between, and what is kept of it for its last epochs is asked for after that; so is what a resize has put an end to.
func (c *Client) Promised(ctx context.Context, id chain.LeaseID) (Promised, error) {
	for range promisedReads {
		if out, whole, err := c.promised(ctx, id); err != nil || whole {
			return out, err
		}
	}
	return Promised{}, fmt.Errorf("sdk: lease %s is resized again and again while it is read", id.Order.Short())
}

// promised is Promised. It is not whole if the lease was resized between two looks.
func (c *Client) promised(ctx context.Context, id chain.LeaseID) (out Promised, whole bool, err error) {
	lease, err := c.VerifiedLease(ctx, id)
	if err != nil {
		return Promised{}, false, err
	}
	service, err := c.VerifiedService(ctx, id)
	if err != nil {
		return Promised{}, false, err
	}
	out.At = min(lease.TimeMs(), service.TimeMs())
	out.Lease, out.Live = lease.Get()
	terms, promised := service.Get()
	if out.Service = terms; terms.Over != nil {
		out.Lease, out.Live = *terms.Over, true
	}
	if out.Live = out.Live && promised; out.Live && out.Lease.Order != terms.Order {
		return Promised{}, false, nil
	}
	if out.Live && out.Lease.Order == id.Order {
		return out, true, nil // it was never resized
	}
	out.Former, err = c.formerPromised(ctx, id)
	return out, err == nil, err
}

// formerPromised returns a lease as it was until a resize put an end to its terms, with what was promised under
// those; nil: none may be reported any more.
func (c *Client) formerPromised(ctx context.Context, id chain.LeaseID) (*Promised, error) {
	value, err := c.VerifiedState(ctx, settlement.FormerServiceKey(id.Order))
	if err != nil {
		return nil, err
	}
	raw, there := value.Get()
	if !there {
		return nil, nil
	}
	out := &Promised{At: value.Header().TimeMs(), Live: true}
	if out.Service, err = settlement.DecodeService(raw); err == nil && out.Service.Over == nil {
		err = errors.New("its terms are not over")
	}
	if err != nil {
		return nil, fmt.Errorf("sdk: former service of node %s: %w: %w", id.Node.Short(), light.ErrRefused, err)
	}
	if out.Lease = *out.Service.Over; out.Service.Node != id.Node {
		return nil, nil
	}
	return out, nil
}
