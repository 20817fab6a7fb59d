package agent

import (
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// homeEvery is how often a node signs where it is at home, at most.
const homeEvery = time.Second

// askedHome says that this node is at home at the cluster that it is connected to. The cluster signs it as well, so
// that nobody is told to be where nobody knows it; and only what is said last counts.
func (s *session) askedHome(m *job.AskHome) {
	a, now := s.agent, time.Now()
	a.mu.Lock()
	early := a.stopping || now.Sub(a.homeSaid) < homeEvery
	if !early {
		a.homeSaid = now
	}
	a.mu.Unlock()
	if early {
		return // it is asked again
	}
	h := chain.NodeHome{ChainID: a.genesis.ChainID, Node: a.id, Cluster: m.Cluster, At: chain.TimeMs(now.UnixMilli())}
	a.log.Info("agent: this node is at home at its cluster", "cluster", m.Cluster.Short())
	s.send(job.AtHome{Home: h, Signature: a.key.Sign(crypto.DomainHome, chain.HomePayload(h))})
}
