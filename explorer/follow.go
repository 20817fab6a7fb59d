package explorer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	queueBlocks  = 256      // fetched and not yet written
	queueBytes   = 32 << 20 // of those blocks, but for the last one fetched
	batchBlocks  = 128      // of one transaction
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
	watchEvery   = 2 * time.Second
	quietNode    = 15 * time.Second // an idle chain makes about one block a second
)

// follower keeps the index at the head of the chain. Each of its sessions
// follows one node, and the next session the next node.
type follower struct {
	nodes     []*sdk.Client // one node each
	turn      int           // of nodes
	index     *index
	retention uint64
	log       *slog.Logger
	queued    atomic.Int64 // bytes

	mu      sync.Mutex
	head    chain.Height  // the highest finalized one that a node told; guarded by mu
	contact bool          // a node has answered; guarded by mu
	trouble string        // why the last session ended; empty: it goes well; guarded by mu
	higher  chan struct{} // closed when head rises; guarded by mu
}

func newFollower(config *Config, x *index, log *slog.Logger) (*follower, error) {
	f := &follower{index: x, retention: config.RetentionBlocks, log: log, higher: make(chan struct{})}
	for _, url := range config.RPC {
		client, err := sdk.New(sdk.Config{Nodes: []string{url}, Attempts: 1})
		if err != nil {
			return nil, fmt.Errorf("explorer: %w", err)
		}
		f.nodes = append(f.nodes, client)
	}
	return f, nil
}

// state returns the chain's height as far as it is known, whether any node ever
// answered, and what is wrong.
func (f *follower) state() (head chain.Height, contact bool, trouble string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head, f.contact, f.trouble
}

// rise notes a finalized height.
func (f *follower) rise(height chain.Height) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if height <= f.head {
		return
	}
	f.head = height
	close(f.higher)
	f.higher = make(chan struct{})
}

// meet notes that a node has answered.
func (f *follower) meet() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contact = true
}

// reset forgets the head, which was of another chain.
func (f *follower) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = 0
}

func (f *follower) setTrouble(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = ""
	if err != nil {
		f.trouble = err.Error()
	}
}

// waitAbove returns once the head is above a height.
func (f *follower) waitAbove(ctx context.Context, height chain.Height) error {
	for {
		f.mu.Lock()
		head, higher := f.head, f.higher
		f.mu.Unlock()
		if head > height {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-higher:
		}
	}
}

// run follows the chain until ctx ends, through every trouble of its nodes. Its
// error is one of the index.
func (f *follower) run(ctx context.Context) error {
	backoff := firstBackoff
	for {
		before, _ := f.index.now()
		err := f.session(ctx, f.nodes[f.turn])
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errIndex) {
			return err
		}
		f.setTrouble(err)
		f.log.Warn("following the chain was interrupted", slog.Any("error", err))
		f.turn = (f.turn + 1) % len(f.nodes)
		if after, _ := f.index.now(); after.Height > before.Height {
			backoff = firstBackoff
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// errIndex says that the index itself cannot be written.
var errIndex = errors.New("explorer: the index cannot be written")

// session follows one node until something goes wrong.
func (f *follower) session(ctx context.Context, node *sdk.Client) error {
	if err := f.identify(ctx, node); err != nil {
		return err
	}
	start, _ := f.index.now()
	f.queued.Store(0)
	blocks := make(chan *fetched, queueBlocks)
	room := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.watch(ctx, node) })
	group.Go(func() error { return f.listen(ctx, node) })
	group.Go(func() error { return f.fetch(ctx, node, start.Height+1, blocks, room) })
	group.Go(func() error { return f.write(ctx, blocks, room) })
	return group.Wait()
}

// identify makes sure that the index is of the node's chain, and learns the
// head.
func (f *follower) identify(ctx context.Context, node *sdk.Client) error {
	status, err := node.Status(ctx)
	if err != nil {
		return err
	}
	f.meet()
	t, _ := f.index.now()
	if status.ChainID != t.ChainID || status.GenesisDigest != t.Genesis {
		if t.ChainID != "" {
			f.log.Warn("the node has another chain: the index is built again", slog.String("was", string(t.ChainID)), slog.String("is", string(status.ChainID)))
		}
		if err := f.index.wipe(ctx, status.ChainID, status.GenesisDigest); err != nil {
			return errors.Join(errIndex, err)
		}
		f.reset()
	}
	f.rise(status.Height)
	f.setTrouble(nil)
	return nil
}

// watch asks a node now and then whether it is there and goes on, and returns
// when it does not: an event stream says neither.
func (f *follower) watch(ctx context.Context, node *sdk.Client) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last chain.Height
	moved := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		status, err := node.Status(ctx)
		if err != nil {
			return err
		}
		f.rise(status.Height)
		if status.Height > last {
			last, moved = status.Height, time.Now()
		}
		if time.Since(moved) > quietNode {
			return fmt.Errorf("the node has finalized nothing above block %d for %s", last, quietNode)
		}
	}
}

// listen learns of new heights as they come.
func (f *follower) listen(ctx context.Context, node *sdk.Client) error {
	head, _, _ := f.state()
	cursor := api.CursorAfter(head)
	for event, err := range node.Events(ctx, sdk.EventFilter{Cursor: &cursor, Types: []string{api.EventBlock}}) {
		if err != nil {
			return err
		}
		f.rise(event.Height)
	}
	return errors.New("the event stream ended")
}

// block reads a block from a node or, if that no longer has it, from another.
// absent means that no node has it.
func (f *follower) block(ctx context.Context, node *sdk.Client, height chain.Height, detail string) (block api.Block, absent bool, err error) {
	block, err = node.Block(ctx, height, detail)
	if !isAbsent(err) {
		return block, false, err
	}
	for _, other := range f.nodes {
		if other == node {
			continue
		}
		if block, otherErr := other.Block(ctx, height, detail); otherErr == nil {
			return block, false, nil
		}
	}
	return api.Block{}, true, nil
}

// isAbsent reports whether a node answered that it does not have something, or
// no longer.
func isAbsent(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	return ok && (problem.Status == http.StatusNotFound || problem.Status == http.StatusGone)
}

// fetch reads blocks from next on, in order.
func (f *follower) fetch(ctx context.Context, node *sdk.Client, next chain.Height, out chan<- *fetched, room <-chan struct{}) error {
	for {
		if err := f.waitAbove(ctx, next-1); err != nil {
			return err
		}
		answer, absent, err := f.block(ctx, node, next, api.BlockEncoded)
		if err != nil {
			return err
		}
		if absent {
			return f.bridge(ctx, node, next)
		}
		block, err := decodeFetched(&answer, next)
		if err != nil {
			return err
		}
		for f.queued.Load() > queueBytes {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-room:
			}
		}
		f.queued.Add(int64(block.bytes))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case out <- block:
		}
		next++
	}
}

// errGap ends a session that recorded a gap; the next goes on after it.
var errGap = errors.New("the nodes no longer keep the next blocks")

// bridge finds the lowest height from next on that a node still has, and
// records what is between as a gap. Heights that are kept are a run up to the
// head, so that halving finds its begin.
func (f *follower) bridge(ctx context.Context, node *sdk.Client, next chain.Height) error {
	t, _ := f.index.now()
	if t.Height+1 != next {
		return errGap // what is fetched is written first
	}
	low := next // is absent
	high, _, _ := f.state()
	var first api.Block
	for low+1 <= high {
		middle := low + (high-low+1)/2
		answer, absent, err := f.block(ctx, node, middle, api.BlockHeader)
		switch {
		case err != nil:
			return fmt.Errorf("looking for the oldest block: %w", err)
		case absent:
			low = middle
		default:
			high, first = middle-1, answer
		}
	}
	if first.Header.Height != low+1 {
		return fmt.Errorf("%w, nor the newest, %d", errGap, low)
	}
	f.log.Warn("blocks are gone from every node: the index has a gap", slog.Uint64("first", uint64(next)), slog.Uint64("last", uint64(low)))
	if err := f.index.skip(ctx, low, first.Header.Parent); err != nil {
		return errors.Join(errIndex, err)
	}
	return fmt.Errorf("%w: %d to %d", errGap, next, low)
}

// write takes what is fetched, as much as there is at a time, into the index.
func (f *follower) write(ctx context.Context, in <-chan *fetched, room chan<- struct{}) error {
	for {
		var batch []*fetched
		select {
		case <-ctx.Done():
			return ctx.Err()
		case block := <-in:
			batch = append(batch, block)
		}
		for len(batch) < batchBlocks && len(in) > 0 {
			batch = append(batch, <-in)
		}
		err := f.index.append(ctx, batch, f.retention)
		if errors.Is(err, errOtherChain) {
			return errors.Join(err, f.rebuild(ctx))
		}
		if err != nil && ctx.Err() == nil {
			return errors.Join(errIndex, err)
		}
		if err != nil {
			return err
		}
		f.setTrouble(nil)
		for _, block := range batch {
			f.queued.Add(-int64(block.bytes))
		}
		select {
		case room <- struct{}{}:
		default: // the fetcher knows
		}
	}
}

// rebuild wipes an index that does not fit its chain: blocks are final, so that
// either the index is damaged or the chain is another one of the same genesis.
func (f *follower) rebuild(ctx context.Context) error {
	t, _ := f.index.now()
	if err := f.index.wipe(ctx, t.ChainID, t.Genesis); err != nil {
		return errors.Join(errIndex, err)
	}
	return nil
}
