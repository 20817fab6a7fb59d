package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fetch gets what a panel judges, which this caller has claimed, if its cluster's turn is now
// and one of slots is free.
func (s *Server) fetch(ctx context.Context, h *hearing, sitting *Sitting, slots chan struct{}) {
	end, m := fetchPutOff, &job.Judge{Panel: h.panel, Order: sitting.Order}
	defer func() { s.docket.fetched(h, end, m) }()
	if m.Assignment = s.ownMaterial(sitting.Order); m.Assignment != nil && m.Check() == nil {
		s.log.Info("agents of this server are drawn to judge an order of its own", "order", sitting.Order.Short(), "panel", h.panel.Short())
		end = fetchGot
		return
	}
	asking, cancel := context.WithTimeout(ctx, lookTimeout)
	matter, err := s.chain.Matter(asking, sitting)
	cancel()
	if err != nil {
		s.log.Info("the chain cannot be asked what a panel judges", "panel", h.panel.Short(), "error", err)
		return
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		return
	}
	if !s.docket.begin(matter.Cluster, time.Now()) {
		return
	}
	defer func() { s.docket.end(matter.Cluster, time.Now()) }()
	half := time.Duration(s.id.genesis.Params.CommitMs) * time.Millisecond / 2
	fetching, cancel := context.WithTimeout(ctx, min(half, longestFetch))
	defer cancel()
	if m.Assignment, err = s.material(fetching, h, sitting.Order, &matter); err == nil {
		err = m.Check() // agents would leave whoever sends it
	}
	_, local := errors.AsType[*ownFault](err)
	_, silent := errors.AsType[*noAnswer](err)
	switch {
	case err == nil:
		s.log.Info("agents of this server are drawn to judge an order", "order", sitting.Order.Short(), "panel", h.panel.Short())
		end = fetchGot
	case ctx.Err() != nil:
	case local:
		s.log.Error("what a panel judges cannot be kept here", "order", sitting.Order.Short(), "panel", h.panel.Short(), "error", err)
		end = fetchFailed
	case silent && !s.reachesOthers(ctx, matter.Cluster):
		s.log.Warn("neither the cluster whose order a panel judges nor any other can be reached: is this server's way out open?",
			"order", sitting.Order.Short(), "panel", h.panel.Short(), "error", err)
		end = fetchFailed
	default:
		s.log.Warn("what a panel judges cannot be had from its cluster", "order", sitting.Order.Short(), "panel", h.panel.Short(), "error", err)
		end = fetchLacking
	}
}

// ownFault is why this server cannot have what another one may.
type ownFault struct{ err error }

func (e *ownFault) Error() string { return e.err.Error() }

func (e *ownFault) Unwrap() error { return e.err }

// noAnswer is why nothing is known of what a cluster has.
type noAnswer struct{ err error }

func (e *noAnswer) Error() string { return e.err.Error() }

func (e *noAnswer) Unwrap() error { return e.err }

// problemPrefix begins the types of problems that a cluster's server tells of, and nobody on the way.
const problemPrefix = "urn:hypermesh:"

var errOther = errors.New("the cluster shows something else than what the chain names")

// material gets an order and what it needs from its cluster, and checks it against what the
// chain says.
func (s *Server) material(ctx context.Context, h *hearing, order crypto.Digest, matter *Matter) (*job.Assignment, error) {
	if len(matter.Endpoints) == 0 {
		return nil, errors.New("the order's cluster names no endpoint")
	}
	from, err := sdk.New(sdk.Config{
		Nexus: matter.Endpoints, Genesis: s.id.genesis, HTTP: s.outward, Timeout: lookTimeout, Attempts: 2 * len(matter.Endpoints),
	})
	if err != nil {
		return nil, err
	}
	j, err := from.Job(ctx, order)
	if err != nil {
		problem, said := errors.AsType[*api.Problem](err)
		if said && strings.HasPrefix(problem.Type, problemPrefix) || !s.cfg.LocalPeers && insideOnly(matter.Endpoints) {
			return nil, err
		}
		return nil, &noAnswer{err}
	}
	spec, err := api.SpecFromJSON(j.Spec)
	if err != nil {
		return nil, err
	}
	o, err := api.OrderFromJSON(j.Order)
	if err != nil {
		return nil, err
	}
	if o.ID() != order || o.Spec != matter.Spec || spec.Digest() != matter.Spec {
		return nil, errOther
	}
	as := &job.Assignment{Order: o, OrderSig: j.OrderSig, Spec: spec}
	left := int64(spec.InputBytes)
	if most := s.maxBlob(); left > most {
		return nil, &ownFault{fmt.Errorf("input_bytes is %d, this server takes blobs of %d", left, most)}
	}
	blobs := spec.Blobs()
	if !s.docket.reserve(h, matter.Cluster, blobs, spec.InputBytes) {
		return nil, &ownFault{fmt.Errorf("there is no room for %d bytes beside what other panels judge", spec.InputBytes)}
	}
	for _, id := range blobs {
		length, err := s.borrow(ctx, id, left, from)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", id.Short(), err)
		}
		left -= length
	}
	return as, nil
}

// ownMaterial is that of an order of this cluster's; nil: it is not known here.
func (s *Server) ownMaterial(order crypto.Digest) (as *job.Assignment) {
	s.replica.view(func(state *scheduler.State) {
		if j, ok := state.Job(order); ok {
			as = &job.Assignment{Order: j.Order, OrderSig: j.OrderSig, Spec: j.Spec}
		}
	})
	return as
}

// borrow has the store get a blob of another cluster, keeps it for as long as agents may ask
// for it, and returns how large it is.
func (s *Server) borrow(ctx context.Context, id crypto.Digest, limit int64, from *sdk.Client) (int64, error) {
	if length, err := s.blobs.Length(id); err == nil {
		s.pins.lend(id)
		return length, nil
	}
	content, err := from.GetBlob(ctx, id, limit)
	if err != nil {
		return 0, err
	}
	watched := &readFaults{from: content}
	length, err := s.blobs.PutVerified(ctx, watched, id, limit)
	if err != nil && watched.err == nil && ctx.Err() == nil {
		err = &ownFault{err}
	}
	if err = errors.Join(err, content.Close()); err == nil {
		s.pins.lend(id)
	}
	return length, err
}

// readFaults notes why a reader ended early.
type readFaults struct {
	from io.Reader
	err  error
}

func (r *readFaults) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// outwardClient asks endpoints that others have registered: whatever their names resolve to,
// nothing of this machine or its network is asked, unless local says that the network is one
// of tests; no server sends it elsewhere, and none through a proxy.
func outwardClient(local bool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: web.PublicOnly}
	if local {
		dialer.Control = nil
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, MaxIdleConns: 64, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: lookTimeout, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

var errRedirect = errors.New("the endpoint sends elsewhere")
