package server

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk"
)

// That a cluster gives no answer is its fault only if others do: a server whose own way out is
// closed would have its jurors find every honest cluster's data missing. So whoever got no answer
// asks other clusters, and the nodes of the chain that it knows, by the same way.

const (
	maxKnownClusters = 256
	maxAskedClusters = 8
	egressTimeout    = 10 * time.Second
)

// egress is the clusters that the chain named last, whom a server can ask whether its way out is
// open. Safe for concurrent use.
type egress struct {
	mu       sync.Mutex
	clusters []crypto.PublicKey // the one that was named first first
}

// note takes note of a cluster that is there.
func (e *egress) note(cluster crypto.PublicKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.Contains(e.clusters, cluster) {
		return
	}
	if len(e.clusters) == maxKnownClusters {
		e.clusters = slices.Delete(e.clusters, 0, 1)
	}
	e.clusters = append(e.clusters, cluster)
}

// some returns a few clusters by lot, without those that are left out.
func (e *egress) some(without ...crypto.PublicKey) []crypto.PublicKey {
	e.mu.Lock()
	list := slices.Clone(e.clusters)
	e.mu.Unlock()
	list = slices.DeleteFunc(list, func(c crypto.PublicKey) bool { return slices.Contains(without, c) })
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	return list[:min(len(list), maxAskedClusters)]
}

// reachesOthers reports whether a cluster other than one that gave no answer gives one now, or a
// node of the chain does, by the way that clusters are asked: not one inside this network.
func (s *Server) reachesOthers(ctx context.Context, silent crypto.PublicKey) bool {
	asked := s.egress.some(silent, s.id.cluster.Public())
	answers := make(chan bool, len(asked)+1)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	wg.Go(func() { answers <- s.nodeAnswers(ctx) })
	for _, cluster := range asked {
		wg.Go(func() { answers <- s.clusterAnswers(ctx, cluster) })
	}
	for range len(asked) + 1 {
		if <-answers {
			return true
		}
	}
	return false
}

// clusterAnswers reports whether a cluster says of itself what it is.
func (s *Server) clusterAnswers(ctx context.Context, cluster crypto.PublicKey) bool {
	endpoints, err := s.chain.Endpoints(ctx, cluster)
	if err != nil || len(endpoints) == 0 {
		return false
	}
	from, err := sdk.New(sdk.Config{Nexus: endpoints, Genesis: s.id.genesis, HTTP: s.outward, Timeout: lookTimeout, Attempts: len(endpoints)})
	if err != nil {
		return false
	}
	status, err := from.NexusStatus(ctx)
	return err == nil && status.ChainID == s.id.genesis.ChainID && status.Cluster == cluster
}

// nodeAnswers reports whether a node of the chain does that is not inside this network.
func (s *Server) nodeAnswers(ctx context.Context) bool {
	from, err := sdk.New(sdk.Config{Nodes: s.cfg.RPC, Genesis: s.id.genesis, HTTP: s.outward, Timeout: lookTimeout, Attempts: len(s.cfg.RPC)})
	if err != nil {
		return false
	}
	status, err := from.Status(ctx)
	return err == nil && status.GenesisDigest == s.id.genesis.Digest()
}

// insideOnly reports whether endpoints are all addresses that are none of the internet, in so many
// digits: nobody can ask them, wherever it is.
func insideOnly(endpoints []string) bool {
	for _, text := range endpoints {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		ip, err := netip.ParseAddr(u.Hostname())
		if err != nil || web.IsPublic(ip) {
			return false
		}
	}
	return true
}
