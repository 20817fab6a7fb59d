package server

import (
	"context"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Kill ends a server as SIGKILL would: nobody is told, nothing is handed over.
// Run must be under way, and returns.
func (s *Server) Kill(ctx context.Context) error {
	err := s.endpoint.Close()
	if stopped := s.consensus.raft.Shutdown().Error(); stopped != nil {
		return stopped
	}
	return err
}

// SnapshotNow has raft take a snapshot.
func (s *Server) SnapshotNow() error { return s.consensus.raft.Snapshot().Error() }

// NewSDKChain returns the chain of the given nodes.
func NewSDKChain(nodes []string, genesis *chain.Genesis, cluster crypto.PrivateKey) (Chain, error) {
	return newSDKChain(nodes, identity{genesis: genesis, cluster: cluster})
}
