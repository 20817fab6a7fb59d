package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	votesEvery   = time.Second
	votesSoon    = 150 * time.Millisecond // where votes are listed, or a run began that may be checked
	votesAwaited = 20 * time.Second       // after that
	votesTimeout = 10 * time.Second
)

// carryAllVotes posts the votes that the servers list, as servers come and go, until ctx
// ends.
func (r *Relay) carryAllVotes(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	asked := map[string]context.CancelFunc{}
	defer func() {
		for _, cancel := range asked { // order-free: all
			cancel()
		}
	}()
	for ; ctx.Err() == nil; sleep(ctx, votesEvery) {
		servers := r.Votes.Nexus()
		for server, cancel := range asked { // order-free: each by itself
			if !slices.Contains(servers, server) {
				cancel()
				delete(asked, server)
			}
		}
		for _, server := range servers {
			if asked[server] == nil {
				within, cancel := context.WithCancel(ctx)
				asked[server] = cancel
				wg.Go(func() { r.carryVotes(within, server) })
			}
		}
	}
}

// carryVotes posts the votes that a server lists, until ctx ends. One that does not answer
// keeps no other from being asked: its agents tell all servers.
func (r *Relay) carryVotes(ctx context.Context, server string) {
	for failed := 0; ctx.Err() == nil; {
		list, err := r.votesOf(ctx, server)
		if err != nil {
			failed++
			r.Log.Debug("relay: votes cannot be read", "server", server, "error", err)
			sleep(ctx, max(votesEvery, pauseAfter(failed)))
			continue
		}
		failed = 0
		if pause := wastePause(int(r.vain.Load())); pause > 0 {
			r.Log.Warn("relay: the chain takes none of the votes that are listed", "transactions", r.vain.Load(), "pause", pause)
			sleep(ctx, pause)
		}
		if !r.takeVotes(&list) {
			r.Log.Warn("relay: no room for votes", "held", maxHeld)
		}
		if len(list.Messages) > 0 || time.Since(time.UnixMilli(r.begun.Load())) < votesAwaited {
			sleep(ctx, votesSoon)
		} else {
			sleep(ctx, votesEvery)
		}
	}
}

func (r *Relay) votesOf(ctx context.Context, server string) (api.Votes, error) {
	ctx, cancel := context.WithTimeout(ctx, votesTimeout)
	defer cancel()
	return r.Votes.Votes(ctx, server)
}

// takeVotes holds the votes that are worth posting. It is false if there is no room.
func (r *Relay) takeVotes(list *api.Votes) bool {
	var fresh []*entry
	for _, raw := range list.Messages[:min(len(list.Messages), api.MaxVotes)] {
		id := crypto.DomainClaim.Hash(raw)
		if r.book.known(id, 0) {
			continue
		}
		m, _, err := r.inspector.inspectRun(raw, time.Now())
		about, vote := voteOf(m)
		if err != nil || !vote {
			r.metrics.refused.Inc()
			r.book.refuse(id)
			r.Log.Warn("relay: refusing what is listed as a vote", "message", id.Short(), "reason", err)
			continue
		}
		fresh = append(fresh, &entry{id: id, order: about, run: m, vote: true, bytes: len(raw)})
	}
	room := min(len(fresh), r.book.roomForVotes())
	return r.book.add(fresh[:room]) && room == len(fresh)
}

// voteOf returns which panel, or challenged or moved node, a message is about, and false if it is about none.
func voteOf(m chain.Msg) (crypto.Digest, bool) {
	if m, ok := m.(chain.CommitVote); ok {
		return m.Panel, true
	}
	if m, ok := m.(chain.RevealVote); ok {
		return m.Panel, true
	}
	if m, ok := m.(chain.ReportHardware); ok {
		return crypto.Digest(m.Challenge.Node), true
	}
	if m, ok := m.(chain.AnnounceHome); ok {
		return crypto.Digest(m.Home.Node), true
	}
	return crypto.Digest{}, false
}
