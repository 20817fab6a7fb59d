package agent

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	lookEvery   = 10 * time.Second
	maxClusters = 64 // that are watched at one time
)

// unbounded is the max cost of a draft that a quote asks with: no escrow covers as much, and
// the order that follows names its own.
var unbounded = chain.Nano(math.MaxUint64)

// Standing is what a cluster has to lose, as the chain proves it.
type Standing struct {
	Known bool         // false: the chain was not asked yet, or did not answer
	Bond  chain.Amount // that no claim locks; zero: it was lost, or the cluster is not registered
	Broke bool         // it broke its word, and what it lost is not divided yet
}

// Doubt says why no work is done for an order of a cluster, whose bond must be so many times
// the order's max cost: what its word is worth if no escrow covers the order. Of a cluster
// that is not known nothing is said.
func (s *Standing) Doubt(order *chain.Order, cover uint64) string {
	cluster := order.Cluster.Short()
	switch {
	case !s.Known:
		return ""
	case s.Broke:
		return fmt.Sprintf("cluster %s broke its word, and what it lost is not divided yet", cluster)
	case s.Bond.IsZero():
		return fmt.Sprintf("cluster %s has no bond that is free", cluster)
	case cover == 0 || order.MaxCost == unbounded:
		return ""
	}
	if part, ok := s.Bond.ShareFloor(1, cover); !ok || part.Less(order.MaxCost) {
		return fmt.Sprintf("cluster %s has a free bond of %s, below %d times the order's max cost of %s", cluster, s.Bond, cover, order.MaxCost)
	}
	return ""
}

// doubt says why the node does no work for an order's home cluster. It asks nobody: one that
// it did not hear of yet is looked up from now on.
func (m *market) doubt(order *chain.Order, cover uint64) string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	standing, heard := m.clusters[order.Cluster]
	if !heard {
		if len(m.clusters) >= maxClusters {
			clear(m.clusters)
		}
		m.clusters[order.Cluster] = standing
		select {
		case m.heard <- struct{}{}:
		default:
		}
	}
	return standing.Doubt(order, cover)
}

// followClusters asks the chain for the standing of the clusters that the node heard of.
func (a *Agent) followClusters(ctx context.Context) {
	if a.market == nil {
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.market.heard:
		}
		if err := a.market.look(ctx); err != nil && ctx.Err() == nil {
			a.log.Debug("agent: asking the chain for a cluster's bond", "error", err)
		}
	}
}

// look asks for the standing of every cluster that is watched. One of which the chain says
// nothing now keeps what it had.
func (m *market) look(ctx context.Context) error {
	m.mu.Lock()
	list := slices.Collect(maps.Keys(m.clusters))
	m.mu.Unlock()
	for _, cluster := range list {
		standing, err := m.standingOf(ctx, cluster)
		if err != nil {
			return err
		}
		m.mu.Lock()
		if _, watched := m.clusters[cluster]; watched {
			m.clusters[cluster] = standing
		}
		m.mu.Unlock()
	}
	return nil
}

func (m *market) standingOf(ctx context.Context, cluster crypto.PublicKey) (Standing, error) {
	value, err := m.client.VerifiedState(ctx, settlement.ClusterKey(cluster))
	if err != nil {
		return Standing{}, err
	}
	out := Standing{Known: true}
	if raw, there := value.Get(); there {
		record, err := settlement.DecodeCluster(raw)
		if err != nil {
			return Standing{}, err
		}
		out.Bond = record.Free() // what claims lock can be out of reach of evidence
	}
	if value, err = m.client.VerifiedState(ctx, settlement.BreachKey(cluster)); err != nil {
		return Standing{}, err
	}
	_, out.Broke = value.Get()
	return out, nil
}
