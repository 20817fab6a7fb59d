package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// An agent may be connected to some of its cluster's servers alone. What another cluster brings for it in a hardware
// challenge is taken by the server that has it: one that has not hands it to the others in turn, over the servers' own
// transport, until one takes it. What comes that way is taken or refused, and handed to nobody: so each
// request from outside is at most one to each other server, one at a time.

const (
	askOther  = time.Second // of one other server
	maxPlaces = 4_096       // agents of which is known at which other server they were
	maxTold   = 64 << 10    // bytes of another server's answer
)

// places is at which other servers of the cluster agents were that are not here: those are asked first. Safe for
// concurrent use.
type places struct {
	mu sync.Mutex
	of map[crypto.PublicKey]crypto.PublicKey
}

// order puts the server that had an agent first, then the leader.
func (p *places) order(servers []crypto.PublicKey, agent, leader crypto.PublicKey) {
	p.mu.Lock()
	last := p.of[agent]
	p.mu.Unlock()
	for _, first := range []crypto.PublicKey{leader, last} {
		if i := slices.Index(servers, first); i > 0 {
			copy(servers[1:i+1], servers[:i])
			servers[0] = first
		}
	}
}

// found notes at which server an agent is.
func (p *places) found(agent, at crypto.PublicKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.of[agent]; p.of == nil || len(p.of) >= maxPlaces && !known {
		p.of = map[crypto.PublicKey]crypto.PublicKey{}
	}
	p.of[agent] = at
}

// others are the other servers of the cluster that vote.
func (s *Server) others() (list []crypto.PublicKey) {
	for _, m := range s.roster.list() {
		if m.ID != s.self {
			list = append(list, m.ID)
		}
	}
	return list
}

// errNowhere says that no server of the cluster takes that.
func errNowhere() error {
	return web.NotFound("no server of this cluster knows of that challenge and has whom it is for")
}

// handOn hands what another cluster brought in a hardware challenge, and this server cannot take, to the other servers of
// the cluster, and returns the answer of the one that takes it. What nobody drawn could say is handed to none, nor is what is not signed.
func (s *Server) handOn(ctx context.Context, m job.Message) ([]byte, error) {
	agent, drawn := s.challenges.awaited(m)
	servers := s.others()
	if !drawn || len(servers) == 0 {
		return nil, errNotHere
	}
	if !measuredBy(m).IsZero() {
		if signed, _ := signedIn(m); !s.verifier.verify(signed) {
			return nil, errNotSigned()
		}
	}
	s.places.order(servers, agent, s.consensus.leader())
	raw, reached := job.EncodeMessage(m), true
	for _, other := range servers {
		answer, err := s.handTo(ctx, other, raw)
		if err == nil {
			s.places.found(agent, other)
			return answer, nil
		}
		problem, said := errors.AsType[*api.Problem](err)
		if said && problem.Status != http.StatusServiceUnavailable {
			return nil, problem
		}
		if reached = reached && said; !said {
			s.log.Info("another server of the cluster takes nothing of a hardware challenge", "other", other.Short(), "error", err)
		}
	}
	if !reached {
		return nil, errNotHere
	}
	return nil, errNowhere()
}

// awaited reports whether somebody with a part in a challenge could say that to another, as far as is heard of challenges
// here, and for which agent it is. Nobody here need have a part in it.
func (d *challenges) awaited(m any) (agent crypto.PublicKey, drawn bool) {
	var id chain.HardwareChallenge
	var peer crypto.PublicKey
	switch m := m.(type) {
	case job.Measure:
		id, peer, agent = m.Challenge, m.Peer, m.Challenge.Node
	case job.LanesShown:
		id, peer, agent = m.Challenge, m.Peer, m.Peer
	case job.LaneQuestion:
		id, peer, agent = m.Challenge, m.Peer, m.Challenge.Node
	case job.LaneOpened:
		id, peer, agent = m.Challenge, m.Peer, m.Peer
	case job.Measured:
		id, peer, agent = m.Challenge, m.Verdict.Peer, m.Challenge.Node
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.known[id.Node]
	return agent, c != nil && slices.Contains(c.peers, peer)
}

// handTo hands what another cluster brought to another server of this one. The error is an *api.Problem if that has
// answered and does not take it.
func (s *Server) handTo(ctx context.Context, other crypto.PublicKey, raw []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askOther)
	defer cancel()
	said, err := json.Marshal(api.PeerMessage{Message: raw})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, peerURL(other)+peersPath, bytes.NewReader(said))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", api.ContentJSON)
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	told, err := io.ReadAll(io.LimitReader(answer.Body, maxTold))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		problem := &api.Problem{}
		if err := json.Unmarshal(told, problem); err != nil || problem.Status != answer.StatusCode {
			return nil, fmt.Errorf("server %s answered %s", other.Short(), answer.Status)
		}
		return nil, problem
	}
	var m api.PeerMessage
	if err := json.Unmarshal(told, &m); err != nil {
		return nil, fmt.Errorf("the answer of server %s: %w", other.Short(), err)
	}
	return m.Message, nil
}
