package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// PruneOptions say what Prune leaves and how fast it goes.
type PruneOptions struct {
	// KeepVersions is for how many heights back at most, the latest included, versions
	// of the state tree that were written stay: at least 1. There are fewer if what only
	// they need comes to a quarter of Store.PointBytes.
	KeepVersions uint64
	// KeepStates is before how many of the last points the state stays, for those who
	// join: 1 or 2; 0 means 2.
	KeepStates int
	// KeepBlocks is for how many heights back at most, the latest included, blocks stay,
	// with receipts, certificates and indexes; 0 keeps all. There are fewer if they come
	// to more than Store.PointBytes. Those since the first point that KeepStates names
	// stay in any case, and all as long as there is none: who joins begins at one.
	KeepBlocks uint64
	// Index returns what Txs and Orders of a block were when it was committed;
	// needed with KeepBlocks.
	Index func(block []byte) ([]crypto.Digest, []OrderEntry, error)
	// NodesPerSecond is how many records are deleted per second at most; 0 is no
	// limit. With a limit the pruner also gives way to the database's own work, and
	// rests after each part of the tables that it has rewritten as long as that took.
	NodesPerSecond int
}

// Pruned is what one Prune did.
type Pruned struct {
	Versions uint64 // whose nodes were looked at
	Nodes    uint64 // deleted
	Blocks   uint64 // deleted
}

const (
	// pruneChunk is how many deletions share a batch.
	pruneChunk = 1000
	// goneLeafBytes and goneNodeBytes are about how much the deleted record of a leaf took, and
	// of a page or a node above.
	goneLeafBytes = 200
	goneNodeBytes = 600
	// Tables of the tree are rewritten once a reclaimPart-th of them, and no less
	// than reclaimBytes, is deleted.
	reclaimPart  = 5
	reclaimBytes = 1 << 20
	// reclaimSlices is in about how many parts: what is rewritten is there twice
	// until it is done.
	reclaimSlices = 16
	// maxKeepStates is before how many points the state stays at most.
	maxKeepStates = 2
	// versionsPart of PointBytes is what only old versions need.
	versionsPart = 4
)

// Prune deletes the tree's nodes that no version needs which is to stay: those of
// the last KeepVersions heights, and those before the last points. It is a scan
// forward over what each version made stale, from where the last one ended; what the
// state before a point still needs is held under the name of that state until it is
// given up. A point is none any more before the first node of its state goes. It may
// run beside Commit, and after a crash it starts again where it was. A context that
// ends it is no error.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	switch {
	case o.KeepVersions == 0:
		return Pruned{}, errors.New("store: KeepVersions is 0, want at least 1")
	case o.KeepStates < 0 || o.KeepStates > maxKeepStates:
		return Pruned{}, fmt.Errorf("store: KeepStates is %d, want 0 to %d", o.KeepStates, maxKeepStates)
	case o.KeepBlocks > 0 && o.Index == nil:
		return Pruned{}, errors.New("store: KeepBlocks without Index")
	}
	mark, _ := s.TreeMark()
	tip, ok := s.Latest()
	if !ok {
		return Pruned{}, nil
	}
	p := pruner{s: s, index: o.Index, limiter: rate.NewLimiter(rate.Inf, pruneChunk)}
	if o.NodesPerSecond > 0 {
		p.limiter.SetLimit(rate.Limit(o.NodesPerSecond))
	}
	err := p.plan(tip, mark, o)
	if err == nil {
		err = p.run(ctx)
	}
	if err == nil {
		err = p.oldBlocks(ctx)
	}
	if err == nil {
		err = p.reclaim(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		return p.done, fmt.Errorf("store: pruning: %w", err)
	}
	return p.done, nil
}

// plan finds out what is to stay, and gives up the points that are not. The tip and
// the version that the tables hold are those of before.
func (p *pruner) plan(tip Tip, mark state.Mark, o PruneOptions) error {
	keep := o.KeepStates
	if keep == 0 {
		keep = maxKeepStates
	}
	points, err := p.s.points(tip.Height)
	if err != nil {
		return err
	}
	old := points[:max(0, len(points)-keep)]
	for _, height := range points[len(old):] {
		p.states = append(p.states, uint64(height)-1)
	}
	if len(old) > 0 {
		w := writer{b: p.s.db.NewBatch()}
		for _, height := range old {
			w.delete(heightKey(tablePoint, height))
		}
		if err := p.apply(w); err != nil {
			return err
		}
	}
	if p.keep, err = p.s.versionsWithin(p.s.PointBytes() / versionsPart); err != nil {
		return err
	}
	// The state before a point that is not among those read is of the mark's version or
	// a later one, or of the tip's: it stays, though others were written since.
	p.keep = min(max(p.keep, below(tip, o.KeepVersions)), mark.Version, uint64(tip.Height))
	if o.KeepBlocks == 0 || len(p.states) == 0 {
		return nil
	}
	p.blocks = min(mark.Version, p.states[0])
	p.unwanted = min(below(tip, o.KeepBlocks), p.keep) // of the versions that stay, so do the blocks, if there is room
	made, err := p.s.madeAt(tip.Height)
	p.made = made - min(made, p.s.PointBytes())
	return err
}

// versionsWithin returns the first version of the tree such that what only it and
// later ones but the last need comes to no more than some bytes.
func (s *Store) versionsWithin(most uint64) (first uint64, err error) {
	it, err := s.db.NewIter(boundsOf(tableStale))
	if err != nil {
		return 0, named(err)
	}
	sum := uint64(0)
	for ok := it.Last(); ok && err == nil; ok = it.Prev() {
		var list []byte
		if list, err = it.ValueAndErr(); err != nil {
			break
		}
		if first = binary.BigEndian.Uint64(it.Key()[1:]); sum > most {
			break
		}
		for node, errNode := range state.NodeKeys(list) {
			if err = errNode; err != nil {
				break
			}
			sum += goneBytes(node)
		}
		if sum <= most {
			first = 0
		}
	}
	return first, joinRead(err, it)
}

// goneBytes is about how much a node took.
func goneBytes(node []byte) uint64 {
	if state.IsLeafKey(node) {
		return goneLeafBytes
	}
	return goneNodeBytes
}

// below returns the first of the last n heights, 0 if there are not so many.
func below(tip Tip, n uint64) uint64 {
	if uint64(tip.Height) < n {
		return 0
	}
	return uint64(tip.Height) - n + 1
}

// PrunedBefore returns the first version from which on all that were written are
// whole. Of earlier ones those are that are before points.
func (s *Store) PrunedBefore() (uint64, error) {
	from, _, err := s.number(metaKey(metaPruned))
	return from, err
}

type pruner struct {
	s      *Store
	keep   uint64   // first version to keep
	states []uint64 // versions to keep before it, ascending
	index  func([]byte) ([]crypto.Digest, []OrderEntry, error)
	// Of the blocks before the first, those go that are before unwanted or beyond
	// which no more than made bytes of blocks were made.
	blocks, unwanted, made uint64
	limiter                *rate.Limiter
	done                   Pruned
}

func (p *pruner) run(ctx context.Context) error {
	from, err := p.s.PrunedBefore()
	if err != nil {
		return err
	}
	if err := p.released(ctx); err != nil {
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
		if err := p.s.disk.call(func() error {
			return p.s.db.Set(metaKey(metaPruned), numberBytes(version), pebble.NoSync)
		}); err != nil {
			return err
		}
		if err := p.part(ctx, version, bytes.Clone(it.Key()), bytes.Clone(list)); err != nil {
			return fmt.Errorf("version %d: %w", version, err)
		}
		if version != begun {
			begun = version
			p.done.Versions++
		}
	}
	return nil
}

// released prunes what was held for states that are not kept any more.
func (p *pruner) released(ctx context.Context) error {
	for from := uint64(0); ; {
		held, some, err := p.firstHeld(from)
		if err != nil || !some {
			return err
		}
		from = held + 1
		if slices.Contains(p.states, held) {
			continue
		}
		for it, err := range scan(p.s.db, heightKey(tableHeld, chain.Height(held)), heightKey(tableHeld, chain.Height(held+1))) {
			if err != nil {
				return err
			}
			list, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			key := bytes.Clone(it.Key())
			if len(key) != 1+8+8+4 {
				return fmt.Errorf("%w: name of a list that is held: %x", ErrCorrupt, key)
			}
			if err := p.part(ctx, binary.BigEndian.Uint64(key[9:]), key, bytes.Clone(list)); err != nil {
				return err
			}
		}
	}
}

// firstHeld returns the first state at or after a version for which nodes are held.
func (p *pruner) firstHeld(from uint64) (uint64, bool, error) {
	for it, err := range scan(p.s.db, heightKey(tableHeld, chain.Height(from)), []byte{tableHeld + 1}) {
		if err != nil {
			return 0, false, err
		}
		if len(it.Key()) < 9 {
			return 0, false, fmt.Errorf("%w: name of a list that is held: %x", ErrCorrupt, it.Key())
		}
		return binary.BigEndian.Uint64(it.Key()[1:]), true, nil
	}
	return 0, false, nil
}

// holder returns the last state to keep that needs a node which a version made
// stale.
func (p *pruner) holder(node []byte, stale uint64) (uint64, bool) {
	made := binary.BigEndian.Uint64(node)
	for _, state := range slices.Backward(p.states) {
		if made <= state && state < stale {
			return state, true
		}
	}
	return 0, false
}

// part deletes of a list of nodes that a version made stale those that nothing
// needs, and then the list, of which it holds the rest.
func (p *pruner) part(ctx context.Context, version uint64, key, list []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	held := map[uint64][]byte{}
	chunk := make([][]byte, 0, pruneChunk)
	for node, err := range state.NodeKeys(list) {
		if err != nil {
			return err
		}
		if by, ok := p.holder(node, version); ok {
			held[by] = append(held[by], node...)
			continue
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
	w := writer{b: p.s.db.NewBatch()}
	for _, by := range p.states {
		if nodes := held[by]; nodes != nil {
			// state ‖ version ‖ number of the part, or what it was named before
			w.set(append(heightKey(tableHeld, chain.Height(by)), key[len(key)-12:]...), nodes)
		}
	}
	w.delete(key)
	return p.apply(w)
}

// nodes deletes some nodes, at the rate that is allowed.
func (p *pruner) nodes(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return ctx.Err()
	}
	if err := p.yield(ctx); err != nil {
		return err
	}
	if err := p.limiter.WaitN(ctx, len(keys)); err != nil {
		return err
	}
	b := p.s.db.NewBatch()
	w := writer{b: b}
	garbage := uint64(0)
	for _, key := range keys {
		w.delete(append([]byte{tableNode}, key...))
		garbage += goneBytes(key)
	}
	p.done.Nodes += uint64(len(keys))
	p.s.garbage.Add(int64(garbage))
	return p.apply(w)
}

// reclaim gives the room of deleted nodes back to the disk once they are a part of
// the tree's tables that matters. The deletions alone do not: they would wait above
// tables that nothing else leads into.
func (p *pruner) reclaim(ctx context.Context) error {
	used, err := p.s.db.EstimateDiskUsage([]byte{tableNode}, []byte{tableState + 1})
	if err != nil {
		return err
	}
	garbage := p.s.garbage.Load()
	if garbage < reclaimBytes || uint64(garbage) < used/reclaimPart {
		return nil
	}
	bounds, err := p.s.slices(used / reclaimSlices)
	if err != nil {
		return err
	}
	for i := range len(bounds) - 1 {
		if err := p.yield(ctx); err != nil {
			return err
		}
		began := time.Now()
		if err := p.s.disk.call(func() error { return p.s.db.Compact(ctx, bounds[i], bounds[i+1], false) }); err != nil {
			return err
		}
		rest := min(time.Since(began), maxRest)
		if err := p.s.awaitRemoval(ctx, used/reclaimSlices); err != nil {
			return err
		}
		if err := p.rest(ctx, rest); err != nil {
			return err
		}
	}
	p.s.garbage.Add(-garbage)
	return nil
}

const (
	// maxRest is the longest rest after a part of the tables.
	maxRest = 2 * time.Second
	// maxYield is for how long at most one chunk of deletions gives way, so that
	// pruning comes to an end under any load: 50,000 nodes a second.
	maxYield  = 20 * time.Millisecond
	yieldPoll = 5 * time.Millisecond
)

// limited reports whether blocks are made beside the pruner.
func (p *pruner) limited() bool { return p.limiter.Limit() != rate.Inf }

// yield waits while the database flushes or compacts, but not for long: a commit that
// needs the disk then waits for it anyway.
func (p *pruner) yield(ctx context.Context) error {
	if !p.limited() {
		return ctx.Err()
	}
	for waited := time.Duration(0); waited < maxYield; waited += yieldPoll {
		m, err := p.s.metrics()
		if err != nil {
			return err
		}
		if m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0 {
			break
		}
		if err := p.rest(ctx, yieldPoll); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rest waits, if blocks are made beside the pruner.
func (p *pruner) rest(ctx context.Context, d time.Duration) error {
	if !p.limited() {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pruner) apply(w writer) error {
	if w.err != nil {
		return errors.Join(w.err, w.b.Close())
	}
	if err := p.s.disk.call(func() error { return w.b.Commit(pebble.NoSync) }); err != nil {
		return err // the batch may still be in use
	}
	return w.b.Close()
}

// removalWait is how long at most the files that a compaction replaced are waited for,
// and how often it is looked after them. A reader may hold them for longer.
const (
	removalWait = 5 * time.Second
	removalPoll = 10 * time.Millisecond
)

// awaitRemoval waits until of files that were replaced no more than some bytes are
// still there.
func (s *Store) awaitRemoval(ctx context.Context, bytes uint64) error {
	ticker := time.NewTicker(removalPoll)
	defer ticker.Stop()
	for end := time.Now().Add(removalWait); time.Now().Before(end); {
		m, err := s.metrics()
		if err != nil {
			return err
		}
		if m.Table.Local.ObsoleteSize+m.Table.Local.ZombieSize <= bytes {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// slices cuts the tables of the tree and of the flat state into parts of about a
// number of bytes, and returns the keys between them, ascending.
func (s *Store) slices(bytesEach uint64) ([][]byte, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, err
	}
	bottom := levels[len(levels)-1]
	bounds := [][]byte{{tableNode}}
	size := uint64(0)
	for i := range bottom {
		at := bottom[i].Smallest.UserKey
		if size += bottom[i].Size; size >= bytesEach && bytes.Compare(at, bounds[len(bounds)-1]) > 0 && at[0] <= tableState {
			bounds = append(bounds, bytes.Clone(at))
			size = 0
		}
	}
	return append(bounds, []byte{tableState + 1}), nil
}

// oldBlocks deletes blocks, the oldest first, each whole. The genesis block's tip
// stays, which says what chain this is, and so do the ends of epochs.
func (p *pruner) oldBlocks(ctx context.Context) error {
	gone := chain.Height(0)
	for it, err := range scan(p.s.db, heightKey(tableBlock, 1), heightKey(tableBlock, chain.Height(p.blocks))) {
		if err != nil {
			return err
		}
		number, err := numberOf(it.Key()[1:])
		if err != nil {
			return err
		}
		if made, err := p.s.madeAt(chain.Height(number)); err != nil {
			return err
		} else if number >= p.unwanted && made > p.made {
			break
		}
		block, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := p.block(ctx, chain.Height(number), block); err != nil {
			return fmt.Errorf("block %d: %w", number, err)
		}
		gone = chain.Height(number)
	}
	if gone == 0 {
		return ctx.Err()
	}
	w := writer{b: p.s.db.NewBatch()}
	for _, table := range blockTables { // lets the database drop tables whole
		w.deleteRange(heightKey(table, 1), heightKey(table, gone+1))
	}
	return errors.Join(p.apply(w), ctx.Err())
}

// blockTables are those that have a record of each block.
var blockTables = []byte{tableHeader, tableBlock, tableCertificate, tableReceipts, tableTip}

func (w *writer) deleteRange(from, to []byte) {
	if w.err == nil {
		w.err = w.b.DeleteRange(from, to, nil)
	}
}

func (p *pruner) block(ctx context.Context, height chain.Height, block []byte) error {
	txs, orders, err := p.index(block)
	if err != nil {
		return err
	}
	tip, ok, err := p.s.Tip(height)
	if err != nil || !ok {
		return errors.Join(fmt.Errorf("%w: it has no tip", ErrCorrupt), err)
	}
	b := p.s.db.NewBatch()
	w := writer{b: b}
	deleted := 6
	remove := func(key []byte) {
		w.delete(key)
		deleted++
	}
	for _, table := range blockTables {
		w.delete(heightKey(table, height))
	}
	w.delete(digestKey(tableDigest, tip.Digest))
	for _, id := range txs {
		remove(digestKey(tableTx, id))
	}
	for _, o := range orders {
		remove(appendPosition(digestKey(tableOrder, o.Order), Position{height, o.TxIndex}))
	}
	for rest := deleted; rest > 0; rest -= pruneChunk {
		if err := p.limiter.WaitN(ctx, min(rest, pruneChunk)); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	p.done.Blocks++
	return p.apply(w)
}
