package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// PruneOptions say what Prune leaves and how fast it goes.
type PruneOptions struct {
	// KeepVersions is for how many heights back, the latest included, versions of
	// the state tree that were written stay: at least 1.
	KeepVersions uint64
	// NodesPerSecond is how many nodes are deleted per second at most; 0 is no
	// limit.
	NodesPerSecond int
}

// Pruned is what one Prune did.
type Pruned struct {
	Versions uint64 // whose nodes were looked at
	Nodes    uint64 // deleted
}

// pruneChunk is how many deletions share a batch.
const pruneChunk = 1000

// Prune deletes the tree's nodes that only versions older than the last
// KeepVersions need: a scan forward over what each version made stale, from
// where the last one ended. The versions before the last two blocks that ended
// epochs stay as well, and all after them. It may run beside Commit, and after a crash it
// starts again where it was. A context that ends it is no error.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	if o.KeepVersions == 0 {
		return Pruned{}, errors.New("store: KeepVersions is 0, want at least 1")
	}
	tip, ok := s.Latest()
	if !ok || uint64(tip.Height) < o.KeepVersions {
		return Pruned{}, nil
	}
	p := pruner{s: s, keep: uint64(tip.Height) - o.KeepVersions + 1}
	if closings := s.closings.Load(); closings != nil {
		p.keep = min(p.keep, (*closings)[0]-1)
	}
	p.limiter = rate.NewLimiter(rate.Inf, pruneChunk)
	if o.NodesPerSecond > 0 {
		p.limiter.SetLimit(rate.Limit(o.NodesPerSecond))
	}
	err := p.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		return p.done, fmt.Errorf("store: pruning: %w", err)
	}
	return p.done, nil
}

// PrunedBefore returns the first version of the tree that is still whole.
func (s *Store) PrunedBefore() (uint64, error) {
	from, _, err := s.number(metaKey(metaPruned))
	return from, err
}

type pruner struct {
	s       *Store
	keep    uint64 // first version to keep
	limiter *rate.Limiter
	done    Pruned
}

func (p *pruner) run(ctx context.Context) error {
	from, err := p.s.PrunedBefore()
	if err != nil {
		return err
	}
	begun := uint64(0)
	lower, upper := heightKey(tableStale, chain.Height(from)), heightKey(tableStale, chain.Height(p.keep+1))
	for it, err := range scan(p.s.db, lower, upper) {
		if err != nil {
			return err
		}
		list, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		version := binary.BigEndian.Uint64(it.Key()[1:])
		if err := p.part(ctx, bytes.Clone(it.Key()), bytes.Clone(list)); err != nil {
			return fmt.Errorf("version %d: %w", version, err)
		}
		if version != begun {
			begun = version
			p.done.Versions++
		}
	}
	return nil
}

// part deletes a part of what a version made stale. From its beginning on the
// versions before are gone.
func (p *pruner) part(ctx context.Context, key, list []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	version := binary.BigEndian.Uint64(key[1:])
	if err := p.s.disk.call(func() error {
		return p.s.db.Set(metaKey(metaPruned), numberBytes(version), pebble.NoSync)
	}); err != nil {
		return err
	}
	chunk := make([][]byte, 0, pruneChunk)
	for node, err := range state.NodeKeys(list) {
		if err != nil {
			return err
		}
		if chunk = append(chunk, node); len(chunk) == pruneChunk {
			if err := p.nodes(ctx, chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	if err := p.nodes(ctx, chunk); err != nil {
		return err
	}
	return p.s.disk.call(func() error { return p.s.db.Delete(key, pebble.NoSync) })
}

// nodes deletes some nodes, at the rate that is allowed.
func (p *pruner) nodes(ctx context.Context, keys [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.limiter.WaitN(ctx, len(keys)); err != nil {
		return err
	}
	b := p.s.db.NewBatch()
	for _, key := range keys {
		if err := b.Delete(append([]byte{tableNode}, key...), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	p.done.Nodes += uint64(len(keys))
	return errors.Join(p.s.disk.call(func() error { return b.Commit(pebble.NoSync) }), b.Close())
}
