package server

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	blobProtocol = "hypermesh/nexus-blob/1"

	// lendTime is for how long a blob that has just come is kept, whether or not
	// a job names it yet.
	lendTime  = 10 * time.Minute
	pinEvery  = 5 * time.Second
	pinStep   = 512 // jobs looked at in one go
	maxLent   = 10_000
	findLimit = 2 * time.Minute
	// mendEvery is how often a server looks for blobs of jobs that it lacks, and
	// mendMost how many it fetches until it looks again.
	mendEvery = 3 * time.Second
	mendMost  = 256
)

// sourcesOf returns the stores of the other servers, first first.
func (s *Server) sourcesOf(first crypto.PublicKey) []blob.Source {
	var out []blob.Source
	for _, m := range s.roster.list() {
		switch m.ID {
		case s.self:
		case first:
			out = append([]blob.Source{source{pool: s.blobPool, id: m.ID}}, out...)
		default:
			out = append(out, source{pool: s.blobPool, id: m.ID})
		}
	}
	return out
}

// find has a blob in this server's store, or fetches it from another server.
func (s *Server) find(ctx context.Context, id crypto.Digest) (int64, error) {
	if length, err := s.blobs.Length(id); err == nil {
		return length, nil
	}
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	return s.blobs.Fetch(ctx, id, s.maxBlob(), s.sourcesOf(crypto.PublicKey{})...)
}

func (s *Server) maxBlob() int64 { return int64(s.cfg.MaxBlobMiB) * mebibyte }

// serveAgent answers an agent's request for a blob, fetching the blob from
// another server first if it is not here.
func (s *Server) serveAgent(ctx context.Context, stream *transport.Stream) {
	err := s.blobs.ServeOr(ctx, stream, func(ctx context.Context, id crypto.Digest) error {
		_, err := s.find(ctx, id)
		return err
	})
	if err != nil {
		s.log.Debug("blob not served to an agent", "node", stream.Conn().Remote().Short(), "error", err)
	}
}

// servePeer answers another server's request for a blob.
func (s *Server) servePeer(ctx context.Context, stream *transport.Stream) {
	if err := s.blobs.Serve(ctx, stream); err != nil {
		s.log.Debug("blob not served to a server", "server", stream.Conn().Remote().Short(), "error", err)
	}
}

// spread has a majority of servers hold a blob that this one has. The others
// are asked at the same time; those that are slower than the majority go on.
func (s *Server) spread(ctx context.Context, id crypto.Digest) error {
	configuration := s.roster.at() // before the list: one that changes meanwhile is asked again
	members := s.roster.list()
	missing := len(members) / 2 // besides this one
	if missing == 0 || s.pins.isSpread(id, configuration) {
		return nil
	}
	answers := make(chan error, len(members))
	others := 0
	for _, m := range members {
		if m.ID == s.self {
			continue
		}
		others++
		s.tasks.Go(func() { answers <- s.askToCopy(s.ctx, m.ID, id) })
	}
	var failures []error
	for range others {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-answers:
			if err != nil {
				failures = append(failures, err)
				continue
			}
		}
		if missing--; missing == 0 {
			s.pins.wasSpread(id, configuration)
			return nil
		}
	}
	return fmt.Errorf("server: no majority of servers holds blob %s: %w", id.Short(), errors.Join(failures...))
}

// askToCopy has another server fetch a blob from this one.
func (s *Server) askToCopy(ctx context.Context, to crypto.PublicKey, id crypto.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, outputTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, peerURL(to)+copyPath+id.String(), nil)
	if err != nil {
		return err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("asking server %s: %w", to.Short(), err)
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("server %s answered %s", to.Short(), answer.Status)
	}
	return nil
}

// copyBlob is what askToCopy asks for.
func (s *Server) copyBlob(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.pins.lend(id) // if it is here
	if _, err := s.blobs.Fetch(r.Context(), id, s.maxBlob(), s.sourcesOf(peerOf(r.Context()))...); err != nil {
		s.log.Warn("cannot copy a blob", "blob", id.Short(), "error", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	s.pins.lend(id)
	w.WriteHeader(http.StatusNoContent)
}

// pins keeps the blobs that jobs need from making room for others.
type pins struct {
	store *blob.Store

	mu     sync.Mutex
	lent   map[crypto.Digest]*list.Element // in line
	line   *list.List                      // of lending, the one that ends first first
	bytes  int64                           // of what is lent
	most   int64                           // of those: the rest of the store is for blobs that jobs need
	held   map[crypto.Digest]bool          // pinned in the store
	spread map[crypto.Digest]spreading     // when a majority said that it has it
}

// lending is until when a blob is kept.
type lending struct {
	id    crypto.Digest
	bytes int64
	until time.Time
}

// spreading is when the majority of a configuration said that it has a blob.
type spreading struct {
	at            time.Time
	configuration uint64 // raft's index of it
}

// newPins lends at most so many bytes of a store, but for one blob that is larger.
func newPins(store *blob.Store, most int64) *pins {
	p := &pins{store: store, most: most, lent: map[crypto.Digest]*list.Element{}, line: list.New(), held: map[crypto.Digest]bool{}, spread: map[crypto.Digest]spreading{}}
	for _, id := range store.Pinned() {
		p.held[id] = true
	}
	return p
}

// lend keeps a blob for a while, if it is here: what only may come would take the
// place of what came. Of too many the one that was lent the longest ago gives way.
func (p *pins) lend(id crypto.Digest) {
	length, err := p.store.Length(id)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.lent[id]; e != nil {
		p.giveBack(e)
	}
	p.bytes += length
	p.lent[id] = p.line.PushBack(lending{id: id, bytes: length, until: time.Now().Add(lendTime)})
	for len(p.lent) > maxLent || p.bytes > p.most && len(p.lent) > 1 {
		p.giveBack(p.line.Front())
	}
}

// giveBack ends a lending. The caller holds p.mu.
func (p *pins) giveBack(e *list.Element) {
	if l, ok := p.line.Remove(e).(lending); ok {
		delete(p.lent, l.id)
		p.bytes -= l.bytes
	}
}

// isSpread reports whether a majority of servers holds a blob, as it said a
// short while ago: each has lent it for lendTime, and pins it in the meantime if
// a job that names it is accepted. A majority of other servers is none of these.
func (p *pins) isSpread(id crypto.Digest, configuration uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.spread[id]
	return ok && s.configuration == configuration && time.Since(s.at) < lendTime/2
}

// wasSpread notes that a majority holds a blob.
func (p *pins) wasSpread(id crypto.Digest, configuration uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spread) >= maxLent {
		clear(p.spread)
	}
	p.spread[id] = spreading{at: time.Now(), configuration: configuration}
}

// keep pins what is wanted and lent, and unpins the rest.
func (p *pins) keep(wanted map[crypto.Digest]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.line.Front(); e != nil; e = p.line.Front() {
		if first, ok := e.Value.(lending); ok && time.Now().Before(first.until) {
			break
		}
		p.giveBack(e)
	}
	for id := range p.lent {
		wanted[id] = true
	}
	var failures []error
	for id := range wanted {
		if !p.held[id] {
			if err := p.store.Pin(id); err != nil {
				failures = append(failures, err)
				continue
			}
			p.held[id] = true
		}
	}
	for id := range p.held {
		if !wanted[id] {
			if err := p.store.Unpin(id); err != nil {
				failures = append(failures, err)
				continue
			}
			delete(p.held, id)
		}
	}
	return errors.Join(failures...)
}

// keepBlobs keeps the inputs and outputs of jobs that are not final, and what panels
// judge that are not over, until ctx ends.
func (s *Server) keepBlobs(ctx context.Context) {
	ticker := time.NewTicker(pinEvery)
	defer ticker.Stop()
	for {
		if err := s.keepOnce(); err != nil {
			s.log.Error("cannot keep the blobs of jobs", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) keepOnce() error {
	wanted := s.wantedBlobs()
	s.docket.blobs(wanted)
	return s.pins.keep(wanted)
}

// wantedBlobs returns the inputs and outputs of jobs that are not final.
func (s *Server) wantedBlobs() map[crypto.Digest]bool {
	wanted := map[crypto.Digest]bool{}
	for last, more := uint64(0), true; more; { // in steps: whoever changes the state waits meanwhile
		s.replica.view(func(state *scheduler.State) {
			n := 0
			more = !state.OpenAfter(last, func(j *scheduler.Job) bool {
				for _, id := range jobBlobs(j) {
					wanted[id] = true
				}
				last = j.Arrival
				n++
				return n < pinStep
			})
		})
	}
	return wanted
}

// mendBlobs fetches the blobs of jobs that are not final and that this server
// lacks, until ctx ends: it was away when they were spread, was slower than the
// majority, or its disk lost them. So the majority that an upload or an output
// waits for becomes all servers, and survives the loss of any of them one after
// the other.
func (s *Server) mendBlobs(ctx context.Context) {
	ticker := time.NewTicker(mendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		fetched := 0
		for id := range s.wantedBlobs() {
			if ctx.Err() != nil || fetched == mendMost {
				break
			}
			if s.blobs.Has(id) {
				continue
			}
			fetched++
			if _, err := s.find(ctx, id); err != nil && ctx.Err() == nil {
				s.log.Warn("a job's blob is not here, and cannot be had", "blob", id.Short(), "error", err)
			} else if err == nil {
				s.log.Info("a job's blob was missing here, and was fetched", "blob", id.Short())
			}
		}
	}
}

// jobBlobs returns the blobs that a job needs, or has made.
func jobBlobs(j *scheduler.Job) []crypto.Digest {
	out := j.Spec.Blobs()
	if !j.Input.IsZero() {
		out = append(out, j.Input)
	}
	for i := range j.Runs {
		if d := j.Runs[i].Done; d != nil && !d.Blob().IsZero() {
			out = append(out, d.Blob())
		}
	}
	return out
}

// inputs has every blob of a specification here and at a majority of servers.
// The error is a *inputError if one is nowhere, or is not of the size that the
// specification says.
func (s *Server) inputs(ctx context.Context, spec *job.Spec) error {
	var total uint64
	for _, id := range spec.Blobs() {
		s.pins.lend(id) // if it is here
		length, err := s.find(ctx, id)
		if errors.Is(err, blob.ErrNotFound) {
			return &inputError{fmt.Sprintf("blob %s has not been uploaded", id)}
		}
		if err != nil {
			return err
		}
		s.pins.lend(id)
		total += uint64(length)
		if err := s.spread(ctx, id); err != nil {
			return err
		}
	}
	if total != spec.InputBytes {
		return &inputError{fmt.Sprintf("input_bytes is %d, the blobs have %d", spec.InputBytes, total)}
	}
	return nil
}

// inputError says what is wrong with a specification's blobs.
type inputError struct{ text string }

func (e *inputError) Error() string { return e.text }
