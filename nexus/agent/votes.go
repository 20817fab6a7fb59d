package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A vote is on the disk before its seal leaves the node: an agent that begins anew shows it though what was
// judged is gone by then. There is a file for each panel, and no more than panels are remembered; it
// goes when the panel is over.

const (
	// VotesDir is where an agent keeps its votes on panels, in its home.
	VotesDir     = "votes"
	voteSuffix   = ".vote"
	maxVoteBytes = 1 << 10
)

// keptVote is what a file of a vote has.
type keptVote struct {
	_       struct{} `cbor:",toarray"`
	ChainID chain.ChainID
	Order   crypto.Digest // that is judged
	At      chain.TimeMs  // when this node heard of the panel
	Height  chain.Height  // of a state in which it had its seat; 0: the chain was not asked
	Opening job.Opening
}

func (a *Agent) votePath(panel crypto.Digest) string {
	return filepath.Join(a.config.Home, VotesDir, panel.String()+voteSuffix)
}

// keepVote makes a vote durable.
func (a *Agent) keepVote(v *keptVote) error {
	if err := os.MkdirAll(filepath.Join(a.config.Home, VotesDir), 0o700); err != nil {
		return err
	}
	return writeFile(a.votePath(v.Opening.Panel), codec.Marshal(*v))
}

// readVotes remembers the votes that are on the disk. What is none is put aside, and named.
func (a *Agent) readVotes() error {
	dir := filepath.Join(a.config.Home, VotesDir)
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("agent: votes: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), voteSuffix)
		if !ok {
			continue // what was put aside, or never written to its end
		}
		path := filepath.Join(dir, f.Name())
		v, err := a.readVote(path, name)
		if err != nil {
			a.log.Error("agent: a vote does not read, putting it aside", "file", path, "reason", err)
			if err := os.Rename(path, path+damagedSuffix); err != nil {
				return fmt.Errorf("agent: votes: %w", err)
			}
			continue
		}
		a.mu.Lock()
		a.remember(v)
		a.mu.Unlock()
	}
	return nil
}

// readVote reads the vote on a panel.
func (a *Agent) readVote(path, panel string) (v keptVote, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return v, err
	}
	if info.Size() > maxVoteBytes {
		return v, fmt.Errorf("it has %d bytes, limit %d", info.Size(), maxVoteBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := codec.Unmarshal(data, &v, maxVoteBytes); err != nil {
		return v, err
	}
	switch {
	case v.Opening.Panel.String() != panel:
		return v, fmt.Errorf("it is of panel %s", v.Opening.Panel)
	case v.ChainID != a.genesis.ChainID:
		return v, fmt.Errorf("it is of chain %.32q, this node is of %q", v.ChainID, a.genesis.ChainID)
	case v.Opening.Node != a.id:
		return v, fmt.Errorf("it is by node %s", v.Opening.Node)
	}
	return v, nil
}

// remember has this node be bound to a vote, and returns its seal. The caller holds a.mu.
func (a *Agent) remember(v keptVote) job.Ballot {
	o := v.Opening
	b := job.Ballot{Order: v.Order, Panel: o.Panel, Node: a.id, Commitment: o.Testimony.Commitment(o.Panel, a.id, o.Salt)}
	b.Signature = a.key.Sign(crypto.DomainVote, chain.VotePayload(a.genesis.ChainID, b.Panel, b.Commitment))
	known := a.jury.of(o.Panel)
	known.ballot, known.opening, known.height = &b, &o, v.Height
	known.heard = time.UnixMilli(int64(v.At))
	return b
}

// seal makes a vote durable that this node has found.
func (a *Agent) seal(m *job.Judge, found chain.Testimony) (keptVote, error) {
	a.mu.Lock()
	known := *a.jury.of(m.Panel)
	a.mu.Unlock()
	v := keptVote{
		ChainID: a.genesis.ChainID, Order: m.Order, At: timeMs(known.heard), Height: known.height,
		Opening: job.Opening{Panel: m.Panel, Node: a.id, Testimony: found, Salt: a.voteSalt(m.Panel)},
	}
	if err := a.keepVote(&v); err != nil {
		return v, fmt.Errorf("the vote cannot be kept: %w", err)
	}
	return v, nil
}

// dropVote removes the file of a vote.
func (a *Agent) dropVote(panel crypto.Digest) {
	if err := removeIfThere(a.votePath(panel)); err != nil {
		a.log.Error("agent: a vote on a panel that is over stays on the disk", "panel", panel.Short(), "error", err)
	}
}

// endVotes forgets the votes on panels that are over: as the chain says, from no state that is older
// than the one in which this node had its seat, or because no panel lasts for so long.
func (a *Agent) endVotes(ctx context.Context) {
	a.mu.Lock()
	voted := make(map[crypto.Digest]summons)
	for id, s := range a.jury.panels {
		if s.ballot != nil {
			voted[id] = *s
		}
	}
	a.mu.Unlock()
	for id, s := range voted { // order-free: each for itself
		over := time.Since(s.heard) > a.panelLasts()
		if !over && a.panels != nil {
			p, err := a.panels(ctx, id)
			over = err == nil && p.height >= s.height && !p.awaits(a.id)
		}
		if over {
			a.mu.Lock()
			a.jury.forget(id)
			a.mu.Unlock()
			a.dropVote(id)
		}
	}
}
