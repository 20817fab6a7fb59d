package agent_test

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestANodeSignsWhereItIsAtHome: asked again and again it does, for the cluster that asks, on its own chain.
func TestANodeSignsWhereItIsAtHome(t *testing.T) {
	y := newGym(t)
	m := y.join(nodeKey, agent.Bench{}, nil)
	cluster := crypto.PublicKey{7}
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var said []job.AtHome
	for len(said) < 2 {
		select {
		case got, open := <-m.peer.inbox:
			if !open {
				t.Fatal("the session has ended")
			}
			if home, ok := got.(job.AtHome); ok {
				said = append(said, home)
			}
		case <-ticker.C:
			m.peer.send(job.AskHome{Cluster: cluster})
		case <-patience.C:
			t.Fatal("in vain")
		}
	}
	for _, home := range said {
		h := home.Home
		if h.ChainID != y.challenge().ChainID || h.Node != nodeKey.Public() || h.Cluster != cluster || !h.Node.Verify(crypto.DomainHome, chain.HomePayload(h), home.Signature) {
			t.Errorf("said %+v", home)
		}
	}
}
