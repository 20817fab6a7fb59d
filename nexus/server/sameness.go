package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// All servers of a cluster have the same cluster.key: it signs what they accept, and
// its public half decides which orders their state takes. Raft would carry entries
// between servers that have different ones, and their states would part. So no
// server says anything of raft to another before it has asked for the other's
// key, and one that has another than the majority stops.

const (
	clusterPath = "/cluster"
	sameEvery   = 2 * time.Second
)

// clusterError says that another server has another cluster.key.
type clusterError struct {
	server, own, other crypto.PublicKey
}

// Error names both clusters and what to do.
func (e *clusterError) Error() string {
	return fmt.Sprintf("server: %s has another %s than this server: its cluster is %s, this one's is %s; copy the file from a server that is right",
		e.server, ClusterKeyFile, e.other, e.own)
}

// checkCluster asks another server for its cluster, and returns a *clusterError if
// that is another. A build that does not tell is believed.
func (s *Server) checkCluster(ctx context.Context, id crypto.PublicKey) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL(id)+clusterPath, nil)
	if err != nil {
		return err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 2*crypto.PublicKeySize))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("server %s answered %s", id.Short(), answer.Status)
	}
	other, err := crypto.ParsePublicKey(string(text))
	if err != nil {
		return fmt.Errorf("server %s names its cluster: %w", id.Short(), err)
	}
	if own := s.id.cluster.Public(); other != own {
		return &clusterError{server: id, own: own, other: other}
	}
	return nil
}

// tellCluster is what checkCluster asks for.
func (s *Server) tellCluster(w http.ResponseWriter, _ *http.Request) {
	if _, err := io.WriteString(w, s.id.cluster.Public().String()); err != nil {
		s.log.Info("answering a cluster", "error", err)
	}
}

// compareClusters asks the other servers until each has answered or ctx ends. It
// returns an error if this server and those that may still agree with it are no
// majority.
func (s *Server) compareClusters(ctx context.Context) error {
	agree := map[crypto.PublicKey]bool{}
	for {
		members := s.roster.list()
		differ, waiting := error(nil), 0
		others := 0
		for _, m := range members {
			if m.ID == s.self || agree[m.ID] {
				continue
			}
			within, cancel := context.WithTimeout(ctx, sameEvery)
			err := s.checkCluster(within, m.ID)
			cancel()
			if wrong, ok := errors.AsType[*clusterError](err); ok {
				differ, others = wrong, others+1
				s.log.Error("a server has another cluster.key", "other", m.ID.Short(), "error", wrong)
			} else if err != nil {
				waiting++
			}
			agree[m.ID] = err == nil
		}
		if ctx.Err() != nil {
			return nil
		}
		member := len(s.consensus.raft.GetConfiguration().Configuration().Servers) > 0 // until it is one, it waits to be refused by name
		if member && others > 0 && len(members)-others <= len(members)/2 {
			return differ
		}
		if waiting+others == 0 {
			return nil
		}
		if pause(ctx, sameEvery); ctx.Err() != nil {
			return nil
		}
	}
}
