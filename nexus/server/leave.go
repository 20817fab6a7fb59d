package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Before a server is removed, those that stay fetch what it has and they lack: an
// upload and an output were promised to be at a majority, and a majority of fewer
// servers must have them before one that has them goes.

const (
	holdPath   = "/hold"
	pinnedPath = "/pinned"
	// silentQuery names the server that is not asked for blobs.
	silentQuery = "silent"
	// silentLimit bounds the fetching in one request while a server is silent.
	silentLimit = 5 * time.Second
	holdStep    = 4_096 // blobs asked for in one request
	// pinnedTimeout is for how long the server that leaves is asked: it may be dead.
	pinnedTimeout = 2 * time.Second
	// holdNamed is how many of the blobs that are missing an answer names.
	holdNamed = 8
)

// gather has a majority of the servers that stay hold every blob of a job that is
// not final, and every one that the server that leaves keeps. It returns those of
// which this did not come about, with how many have them.
func (s *Server) gather(ctx context.Context, leaves crypto.PublicKey, list []api.ServerMember) map[crypto.Digest]int {
	wanted := s.wantedBlobs()
	within, cancel := context.WithTimeout(ctx, pinnedTimeout)
	defer cancel()
	var silent crypto.PublicKey // asked for no blob
	if kept, err := s.askDigests(within, http.MethodGet, leaves, pinnedPath, nil); err != nil {
		s.log.Warn("what the server that leaves keeps cannot be asked: blobs of jobs alone are looked for", "server", leaves.Short(), "error", err)
		silent = leaves
	} else {
		for _, id := range kept {
			wanted[id] = true
		}
	}
	ids := make([]crypto.Digest, 0, len(wanted))
	for id := range wanted {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, crypto.Digest.Compare)
	holders, stay := make(map[crypto.Digest]int, len(ids)), 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range list {
		if !m.Voter || m.ID == leaves {
			continue
		}
		stay++
		wg.Go(func() {
			for part := range slices.Chunk(ids, holdStep) {
				lacks, err := s.haveHold(ctx, m.ID, part, silent)
				if err != nil {
					s.log.Warn("a server that stays cannot be asked to hold blobs", "server", m.ID.Short(), "error", err)
					return
				}
				mu.Lock()
				for _, id := range part {
					if !slices.Contains(lacks, id) {
						holders[id]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	missing := map[crypto.Digest]int{}
	for _, id := range ids {
		if holders[id] <= stay/2 {
			missing[id] = holders[id]
		}
	}
	return missing
}

// haveHold has a server fetch the blobs that it lacks, from all but one that does
// not answer, and returns those that it cannot have.
func (s *Server) haveHold(ctx context.Context, server crypto.PublicKey, ids []crypto.Digest, silent crypto.PublicKey) ([]crypto.Digest, error) {
	if server == s.self {
		return s.hold(ctx, ids, silent), nil
	}
	return s.askDigests(ctx, http.MethodPost, server, holdPath+"?"+silentQuery+"="+silent.String(), ids)
}

// hold fetches the blobs that this server lacks, and returns those that it cannot
// have.
func (s *Server) hold(ctx context.Context, ids []crypto.Digest, silent crypto.PublicKey) (lacks []crypto.Digest) {
	sources := slices.DeleteFunc(s.sourcesOf(crypto.PublicKey{}), func(from blob.Source) bool { return from == source{pool: s.blobPool, id: silent} })
	if !silent.IsZero() { // a fetch from that server may be under way, which this one would wait for
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, silentLimit)
		defer cancel()
	}
	for _, id := range ids {
		s.pins.lend(id)
		if s.blobs.Has(id) {
			continue
		}
		if _, err := s.blobs.Fetch(ctx, id, s.maxBlob(), sources...); err != nil {
			s.log.Warn("a blob cannot be had before a server leaves", "blob", id.Short(), "error", err)
			lacks = append(lacks, id)
			continue
		}
		s.pins.lend(id)
	}
	return lacks
}

// refuseToLose says which blobs would be lost, or nil.
func refuseToLose(leaves crypto.PublicKey, missing map[crypto.Digest]int) error {
	if len(missing) == 0 {
		return nil
	}
	var named []string
	for id, n := range missing {
		named = append(named, fmt.Sprintf("%s (%d of them have it)", id, n))
	}
	slices.Sort(named)
	more := ""
	if len(named) > holdNamed {
		more = fmt.Sprintf(" and %d more", len(named)-holdNamed)
		named = named[:holdNamed]
	}
	return conflict("server %s is not removed: no majority of those that stay has blob %s%s; try again when all of them run, or force it and lose them",
		leaves.Short(), strings.Join(named, ", "), more)
}

// askDigests sends another server a list of blobs, and returns the list that it
// answers.
func (s *Server) askDigests(ctx context.Context, method string, server crypto.PublicKey, path string, ids []crypto.Digest) ([]crypto.Digest, error) {
	req, err := http.NewRequestWithContext(ctx, method, peerURL(server)+path, bytes.NewReader(joined(ids)))
	if err != nil {
		return nil, err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, int64(maxDigests)+1))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("server %s answered %s", server.Short(), answer.Status)
	}
	return split(raw)
}

// maxDigests bounds the bytes of a list of blobs: a store has no more pins.
const maxDigests = 65_536 * len(crypto.Digest{})

func joined(ids []crypto.Digest) []byte {
	out := make([]byte, 0, len(ids)*len(crypto.Digest{}))
	for _, id := range ids {
		out = append(out, id[:]...)
	}
	return out
}

func split(raw []byte) ([]crypto.Digest, error) {
	if n := len(raw); n > maxDigests || n%len(crypto.Digest{}) != 0 {
		return nil, fmt.Errorf("a list of blobs of %d bytes", n)
	}
	var out []crypto.Digest
	for id := range slices.Chunk(raw, len(crypto.Digest{})) {
		out = append(out, crypto.Digest(id))
	}
	return out, nil
}

// holdBlobs answers another server's request to hold blobs.
func (s *Server) holdBlobs(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, int64(holdStep*len(crypto.Digest{})+1)))
	var ids []crypto.Digest
	if err == nil {
		ids, err = split(raw)
	}
	silent, badSilent := crypto.ParsePublicKey(r.URL.Query().Get(silentQuery))
	if err != nil || badSilent != nil || len(ids) > holdStep {
		http.Error(w, "not a list of blobs", http.StatusBadRequest)
		return
	}
	if _, err := w.Write(joined(s.hold(r.Context(), ids, silent))); err != nil {
		s.log.Info("answering which blobs are not here", "error", err)
	}
}

// tellPinned answers which blobs this server keeps.
func (s *Server) tellPinned(w http.ResponseWriter, _ *http.Request) {
	if _, err := w.Write(joined(s.blobs.Pinned())); err != nil {
		s.log.Info("answering which blobs are kept", "error", err)
	}
}
