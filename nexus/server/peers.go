package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	peersPath = "/v1/peers"
	// guestPace is how long after a probe of a peer that is not here its next one is carried.
	guestPace    = 250 * time.Millisecond
	guestTimeout = 2 * time.Second // for a node's answer
	maxBrought   = 8               // servers that wait for one
)

// guestProbe is the last probe of a peer that is not here.
type guestProbe struct {
	nonce crypto.Digest
	at    time.Time
}

// guests is the probes that came from elsewhere and wait for nodes of this cluster.
type guests struct {
	mu      sync.Mutex
	waiting map[crypto.Digest][]chan job.ProbeReply // by nonce
}

func (s *Server) registerPeers(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "carry-peer", Method: http.MethodPost, Path: peersPath, Summary: "Take what nodes of other clusters say to one of this",
		Description: "The chain draws who probes a lease with service terms among the nodes of all clusters. Servers of other clusters bring what their agents,\n" +
			"and consumers what they themselves have signed. A probe is answered by the lease's node, or by nothing in time.\n" +
			"What a node whose hardware is challenged and the peers who measure it say to each other comes the same way, and is taken by the server\n" +
			"of the cluster to which whom it is for is connected, whichever is asked.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.PeerMessage](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.takePeer)
}

// takePeer takes what a peer of elsewhere has signed: what is about a lease as the leader, what is said in a hardware
// challenge for agents who are here, or at another server of the cluster.
func (s *Server) takePeer(ctx context.Context, in *requestInput) (*body[api.PeerMessage], error) {
	var request api.PeerMessage
	if err := api.DecodeJSON(in.RawBody, &request); err != nil {
		return nil, web.InvalidBody(err)
	}
	m, err := job.DecodeMessage(request.Message)
	if err != nil {
		return nil, web.Invalid("body.message", err)
	}
	if aboutHardware(m) {
		answer, err := s.takeAway(m, time.Now())
		if errors.Is(err, errNotHere) && peerOf(ctx).IsZero() {
			answer, err = s.handOn(ctx, m)
		}
		if errors.Is(err, errNotHere) {
			err = web.Busy(err.Error())
		}
		return &body[api.PeerMessage]{api.PeerMessage{Message: answer}}, err
	}
	r := s.current.Load()
	if r == nil {
		return nil, web.Busy("the cluster has no leader now")
	}
	if probe, ok := m.(job.Probe); ok {
		answer, err := r.guestProbe(ctx, &probe)
		return &body[api.PeerMessage]{api.PeerMessage{Message: answer}}, err
	}
	if report, ok := m.(job.PeerReport); ok {
		if !r.services.wants(&report, time.Now()) {
			return nil, web.NotFound("nothing is heard of that epoch, or not from this peer")
		}
		r.hearPeer(&report)
		return &body[api.PeerMessage]{api.PeerMessage{Message: []byte{}}}, nil
	}
	return nil, web.Invalid("body.message", fmt.Errorf("is a %T, want a probe, a report, or what is said in a hardware challenge", m))
}

// bringsHardware reports whether a request brings what is said in a hardware challenge. It leaves the body as it was.
func bringsHardware(r *http.Request) bool {
	raw, err := io.ReadAll(io.LimitReader(r.Body, api.MaxJobRequestBytes+1))
	r.Body = &readAgain{Reader: io.MultiReader(bytes.NewReader(raw), r.Body), Closer: r.Body}
	var request api.PeerMessage
	if err != nil || api.DecodeJSON(raw, &request) != nil {
		return false
	}
	m, err := job.DecodeMessage(request.Message)
	return err == nil && aboutHardware(m)
}

// readAgain is a body of which a part was read.
type readAgain struct {
	io.Reader
	io.Closer
}

// guestProbe has the lease's node answer a probe; the answer is empty if it gives none in time.
func (r *reign) guestProbe(ctx context.Context, m *job.Probe) ([]byte, error) {
	patience, ok := r.services.guest(m)
	if !ok {
		return nil, web.NotFound("this cluster has no lease of that name with service terms which the peer probes")
	}
	if !r.verifier.verify(crypto.SignedBy(m.Peer, crypto.DomainProbe, m.Payload(r.id.genesis.ChainID), m.Signature)) {
		return nil, web.Invalid("body.message", errors.New("the probe is not signed by its peer"))
	}
	now := time.Now()
	node := r.sessions.get(m.Lease.Node)
	if node == nil && now.Sub(r.began) < r.cfg.NodeGrace {
		return nil, web.Busy("the cluster has a leader since a moment, and the node has not come back to it yet")
	}
	carried := r.services.mayAsk(m, now)
	if !carried && !r.guests.awaited(m.Nonce) {
		return nil, web.Busy("the peer probes too often, or the probe was carried")
	}
	reply, answered := r.guests.ask(ctx, m, patience, func() {
		if carried && node != nil {
			node.send(*m)
		}
	})
	if !answered {
		return []byte{}, nil
	}
	return job.EncodeMessage(reply), nil
}

// guest reports whether somebody who is not here may probe a lease, the consumer too, and how long its
// node's answer is waited for.
func (s *services) guest(m *job.Probe) (patience time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.known[m.Lease.Order]
	if w == nil || !w.seen.Live || w.id != m.Lease {
		return 0, false
	}
	consumers := chain.AddressOf(crypto.AccountKeyOf(m.Peer)) == w.seen.Lease.Consumer
	ok = consumers || slices.Contains(w.seen.Service.Peers, m.Peer) || slices.Contains(w.seen.Service.Former, m.Peer)
	return min(time.Duration(w.seen.Service.Terms.EpochMs)*time.Millisecond/40, guestTimeout), ok
}

// mayAsk reports whether a probe of a peer is carried to the node now, and notes it. Each is carried once:
// a node answers only so many, and who says one again and again would have it answer nobody else.
func (s *services) mayAsk(m *job.Probe, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.known[m.Lease.Order]
	if w == nil {
		return false
	}
	last := w.asked[m.Peer]
	if last.nonce == m.Nonce || now.Sub(last.at) < guestPace {
		return false
	}
	if len(w.asked) > 4*chain.MaxServicePeers { // of peers before these
		clear(w.asked)
	}
	w.asked[m.Peer] = guestProbe{nonce: m.Nonce, at: now}
	return true
}

// awaited reports whether another server has brought a probe whose answer is waited for, and another may wait
// with it.
func (g *guests) awaited(nonce crypto.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.waiting[nonce])
	return n > 0 && n < maxBrought
}

// ask waits for the answer to a probe, which send sends.
func (g *guests) ask(ctx context.Context, m *job.Probe, patience time.Duration, send func()) (job.ProbeReply, bool) {
	answer := make(chan job.ProbeReply, 1)
	g.mu.Lock()
	g.waiting[m.Nonce] = append(g.waiting[m.Nonce], answer)
	g.mu.Unlock()
	defer g.leave(m.Nonce, answer)
	send()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case reply := <-answer:
		return reply, reply.Lease == m.Lease && reply.Peer == m.Peer
	case <-timer.C:
	case <-ctx.Done():
	}
	return job.ProbeReply{}, false
}

func (g *guests) leave(nonce crypto.Digest, answer chan job.ProbeReply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := slices.DeleteFunc(g.waiting[nonce], func(c chan job.ProbeReply) bool { return c == answer })
	if g.waiting[nonce] = left; len(left) == 0 {
		delete(g.waiting, nonce)
	}
}

// answer gives a node's answer to whoever waits for it.
func (g *guests) answer(m job.ProbeReply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.waiting[m.Nonce] {
		select {
		case c <- m:
		default: // it has one
		}
	}
}
