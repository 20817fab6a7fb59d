package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Reads are answered by whichever server is asked: from what it has heard of, or
// linearizably, by a read index (Ongaro, "Consensus: Bridging Theory and
// Practice", 2014, §6.4). The leader notes the index of the newest command that is
// decided, has a majority confirm that it still leads, and the server that was
// asked answers once it has carried out that command too. Questions that come
// while a majority is asked share the next round.

const (
	consistencyQuery = "consistency"
	linearizable     = "linearizable"
	maxAgeQuery      = "max_age_ms"
	readTimeout      = 5 * time.Second
)

// ReadInput is embedded in the input of an operation: how a read may be asked for; routed sees to it.
type ReadInput struct {
	Leader      bool   `query:"leader" doc:"ask the leader, who knows first"`
	Consistency string `query:"consistency" enum:"stale,linearizable" default:"stale" doc:"stale: as this server has heard; linearizable: nothing that was answered to anybody before is missing"`
	MaxAgeMs    int    `query:"max_age_ms" minimum:"0" maximum:"3600000" doc:"refuse a state that is older, with 503; left out: any age"`
}

// readAs sees to what a read asks for, and reports whether it was refused.
func (s *Server) readAs(w http.ResponseWriter, r *http.Request) (refused bool) {
	came := time.Now()
	query := r.URL.Query()
	if query.Get(consistencyQuery) == linearizable {
		ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
		defer cancel()
		if err := s.readers.await(ctx, s); err != nil {
			s.log.Info("no linearizable read", "error", err)
			web.WriteBusy(w, r, s.log, "no leader could confirm what is newest")
			return true
		}
	}
	limit, err := strconv.Atoi(query.Get(maxAgeQuery)) // what is no number is refused by its handler
	limited := err == nil && limit >= 0
	age := s.age(came)
	if limited && age > time.Duration(limit)*time.Millisecond {
		ctx, cancel := context.WithTimeout(r.Context(), ageWait)
		if err := s.readers.await(ctx, s); err != nil {
			s.log.Debug("how old the state is cannot be asked", "error", err)
		}
		cancel()
		age = s.age(came)
	}
	w.Header().Set(api.StateAgeHeader, strconv.FormatInt(age.Milliseconds(), 10))
	if limited && age > time.Duration(limit)*time.Millisecond {
		web.WriteBusy(w, r, s.log, fmt.Sprintf("what this server shows may be %d ms old", age.Milliseconds()))
		return true
	}
	return false
}

const (
	// longAgo is the age of the state of a server that has heard from no leader.
	longAgo = 24 * time.Hour
	// ageWait is for how long a read that sets a limit to the age waits for the
	// leader to be asked again, and ageEvery how often it is asked anyway.
	ageWait  = time.Second
	ageEvery = time.Second
)

// shown is since when what this server shows was the newest: it carried out the
// entry that a leader, asked at a time, said was the newest. That a leader beats
// says nothing: its beats overtake the entries that a slow server still lacks.
type shown struct {
	mu    sync.Mutex
	since time.Time
	asked time.Time // the oldest answer that is not carried out yet
	index uint64    // of that answer; 0: there is none
}

// told takes a leader's answer to a question that was asked at a time.
func (k *shown) told(asked time.Time, index, applied uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reach(applied)
	switch {
	case index <= applied:
		k.since, k.index = asked, 0
	case k.index == 0: // the first is kept: it is reached before those that follow
		k.asked, k.index = asked, index
	}
}

func (k *shown) reach(applied uint64) {
	if k.index != 0 && k.index <= applied {
		k.since, k.index = k.asked, 0
	}
}

func (k *shown) at(applied uint64) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reach(applied)
	return k.since
}

// keepAge asks the leader for what is newest, and the leader a majority whether it
// is that, until ctx ends.
func (s *Server) keepAge(ctx context.Context) {
	ticker := time.NewTicker(ageEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		within, cancel := context.WithTimeout(ctx, ageEvery)
		if err := s.readers.await(within, s); err != nil && ctx.Err() == nil {
			s.log.Debug("how old the state is cannot be asked", "error", err)
		}
		cancel()
	}
}

// age returns how old what this server shows may be: it shows everything that was
// carried out, by whomever, so long before a request came. The leader's state has
// an age like any other's: until it hears from a majority again, another may lead
// and have carried out more. Alone it knows.
func (s *Server) age(came time.Time) time.Duration {
	if members := s.roster.list(); s.current.Load() != nil && len(members) == 1 && members[0].ID == s.self {
		return 0
	}
	since := s.shown.at(s.replica.news.newest())
	if since.IsZero() {
		return longAgo
	}
	return max(0, min(longAgo, came.Sub(since)))
}

// readers shares rounds among those who read.
type readers struct {
	mu      sync.Mutex
	running bool
	next    *readRound // of those who came since the running round began
}

type readRound struct {
	done  chan struct{}
	index uint64
	err   error
}

// await waits until the server shows all that was answered before.
func (r *readers) await(ctx context.Context, s *Server) error {
	r.mu.Lock()
	round := r.next
	if round == nil {
		round = &readRound{done: make(chan struct{})}
		r.next = round
	}
	if !r.running {
		r.running = true
		s.tasks.Go(func() { r.run(s) })
	}
	r.mu.Unlock()
	select {
	case <-round.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if round.err != nil {
		return round.err
	}
	return s.replica.news.awaitEntry(ctx, round.index)
}

// run holds rounds until nobody waits for one.
func (r *readers) run(s *Server) {
	for {
		r.mu.Lock()
		round := r.next
		r.next, r.running = nil, round != nil
		r.mu.Unlock()
		if round == nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, readTimeout)
		asked := time.Now()
		round.index, round.err = s.readIndex(ctx)
		cancel()
		if round.err == nil {
			s.shown.told(asked, round.index, s.replica.news.newest())
		}
		close(round.done)
	}
}

// readIndex returns an index that is not below that of any command that was
// answered before.
func (s *Server) readIndex(ctx context.Context) (uint64, error) {
	leader, _ := s.awaitLeader(ctx)
	switch {
	case leader.IsZero():
		return 0, errNoLeader
	case leader == s.self:
		return s.ownIndex(ctx)
	}
	return s.askIndex(ctx, leader)
}

// ownIndex is readIndex of the leader. It knows all that leaders before it
// decided, because it acts as one only after a barrier, and all that it decided
// itself. That holds in the term of its reign only: a server that lost the
// leadership and leads again may not have noticed yet, and lack what the leader
// between has answered, while a majority confirms that it leads.
func (s *Server) ownIndex(ctx context.Context) (uint64, error) {
	reign := s.current.Load()
	if reign == nil {
		return 0, errNoLeader
	}
	index, err := reign.decided()
	if err != nil {
		return 0, err
	}
	if err := s.consensus.confirm(ctx, reign, s.consensus.acks.ask()); err != nil {
		return 0, err
	}
	return index, nil
}

// decided returns an index that is not below that of any decided command. Those
// that are carried out here are not enough: a follower may have heard that one is
// decided, carried it out and shown it before the leader has. An error wraps
// errNoLeader.
func (r *reign) decided() (uint64, error) {
	decided, news := r.consensus.raft.CommitIndex(), &r.replica.news
	for i := decided; i > max(news.newest(), r.idle.Load()); i-- {
		var entry raft.Log
		err := r.consensus.log.GetLog(i, &entry)
		switch {
		case errors.Is(err, raft.ErrLogNotFound):
			return news.newest(), nil // it is in a snapshot, of what was carried out
		case err != nil:
			return 0, fmt.Errorf("%w: entry %d of %d decided ones: %w", errNoLeader, i, decided, err)
		case entry.Type == raft.LogCommand:
			return i, nil
		}
	}
	r.idle.Store(decided)
	return news.newest(), nil
}

func (s *Server) askIndex(ctx context.Context, leader crypto.PublicKey) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL(leader)+indexPath, nil)
	if err != nil {
		return 0, err
	}
	return s.askNumber(req)
}

// tellIndex is what askIndex asks for.
func (s *Server) tellIndex(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	index, err := s.ownIndex(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if _, err := w.Write(strconv.AppendUint(nil, index, 10)); err != nil {
		s.log.Info("answering a read index", "error", err)
	}
}
