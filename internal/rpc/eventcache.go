package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxCachedEventBytes bounds the encoded events that are kept for the clients
// that are at the head of the chain.
const maxCachedEventBytes = 32 << 20

// encodedEvent is one event as the stream writes it.
type encodedEvent struct {
	index   uint32
	name    string
	txID    crypto.Digest // zero: no transaction's
	encoded []byte
}

// heightEvents is a height's events. The block's own, which is the first, is
// always there; all are encoded when somebody wants another.
type heightEvents struct {
	height chain.Height
	block  encodedEvent
	bytes  int // that it counts in the cache; guarded by eventCache.mu

	once    sync.Once
	outcome Outcome // until all are encoded
	list    []encodedEvent
	err     error
}

// outcomeBytes is what a transaction's receipt takes before its events are
// encoded, roughly.
const outcomeBytes = 512

// eventCache encodes a height's events once for all clients.
type eventCache struct {
	node    Node
	flight  singleflight.Group
	mu      sync.Mutex
	heights map[chain.Height]*heightEvents // guarded by mu
	order   []chain.Height                 // oldest first; guarded by mu
	bytes   int                            // guarded by mu
}

func newEventCache(node Node) *eventCache {
	return &eventCache{node: node, heights: map[chain.Height]*heightEvents{}}
}

func (c *eventCache) get(ctx context.Context, height chain.Height) (*heightEvents, error) {
	c.mu.Lock()
	found, ok := c.heights[height]
	c.mu.Unlock()
	if ok {
		return found, nil
	}
	// Whoever asks first works for the others, and so must not end with its
	// own client.
	ctx = context.WithoutCancel(ctx)
	made, err, _ := c.flight.Do(strconv.FormatUint(uint64(height), 10), func() (any, error) {
		outcome, err := c.node.Outcome(ctx, height)
		if err != nil {
			return nil, err
		}
		e := &encoder{outcome: &outcome}
		if err := e.block(); err != nil {
			return nil, err
		}
		events := &heightEvents{height: height, block: e.list[0], outcome: outcome}
		c.keep(events, len(events.block.encoded)+outcomeBytes*len(outcome.Receipts.Txs))
		return events, nil
	})
	if err != nil {
		return nil, fmt.Errorf("events of height %d: %w", height, err)
	}
	return made.(*heightEvents), nil
}

// all returns all events of a height.
func (c *eventCache) all(h *heightEvents) ([]encodedEvent, error) {
	h.once.Do(func() {
		e := &encoder{outcome: &h.outcome, list: []encodedEvent{h.block}}
		h.err = e.rest()
		h.list, h.outcome = e.list, Outcome{}
		bytes := 0
		for i := range e.list {
			bytes += len(e.list[i].encoded)
		}
		c.resize(h, bytes)
	})
	if h.err != nil {
		return nil, fmt.Errorf("events of height %d: %w", h.height, h.err)
	}
	return h.list, nil
}

func (c *eventCache) keep(h *heightEvents, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.heights[h.height]; ok {
		return
	}
	h.bytes = bytes
	c.heights[h.height] = h
	c.order = append(c.order, h.height)
	c.bytes += bytes
	c.shrink()
}

// resize counts a height anew.
func (c *eventCache) resize(h *heightEvents, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heights[h.height] != h {
		return
	}
	c.bytes += bytes - h.bytes
	h.bytes = bytes
	c.shrink()
}

// shrink forgets the oldest until the rest is within the bound. The caller
// holds c.mu.
func (c *eventCache) shrink() {
	for c.bytes > maxCachedEventBytes {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= c.heights[oldest].bytes
		delete(c.heights, oldest)
	}
}

// encoder numbers and encodes the events of one height.
type encoder struct {
	outcome *Outcome
	list    []encodedEvent
}

// rest encodes all events but the block's.
func (e *encoder) rest() error {
	receipts := &e.outcome.Receipts
	if err := e.chainEvents(receipts.Begin, crypto.Digest{}); err != nil {
		return err
	}
	for i := range receipts.Txs {
		r := &receipts.Txs[i]
		err := e.add(api.EventTx, r.TxID, api.TxEvent{
			Index: uint32(i), Accepted: r.Accepted(), Rejection: r.Rejection, GasUsed: r.GasUsed, Burned: r.Burned, Tip: r.Tip,
		})
		if err != nil {
			return err
		}
		if err := e.chainEvents(r.Events, r.TxID); err != nil {
			return err
		}
	}
	return e.chainEvents(receipts.End, crypto.Digest{})
}

func (e *encoder) block() error {
	h := &e.outcome.Header
	event := api.BlockEvent{
		Digest: e.outcome.Digest, Epoch: api.Uint64(h.Epoch), View: api.Uint64(h.View), Proposer: h.Proposer, TxCount: len(e.outcome.Receipts.Txs),
	}
	for i := range e.outcome.Receipts.Txs {
		r := &e.outcome.Receipts.Txs[i]
		gas, okGas := event.GasUsed.Add(r.GasUsed)
		burned, okBurned := event.Burned.Add(r.Burned)
		if !okGas || !okBurned {
			return fmt.Errorf("gas or burned fees of block %d do not fit", h.Height)
		}
		event.GasUsed, event.Burned = gas, burned
	}
	return e.add(api.EventBlock, crypto.Digest{}, event)
}

func (e *encoder) chainEvents(list chain.Events, txID crypto.Digest) error {
	for _, event := range list {
		if err := e.add(chain.EventName(event), txID, event); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) add(name string, txID crypto.Digest, data any) error {
	h := &e.outcome.Header
	index := uint32(len(e.list))
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding %s event %d: %w", name, index, err)
	}
	cursor := api.CursorAt(h.Height, index)
	whole, err := json.Marshal(api.StreamEvent{Cursor: cursor, Type: name, Height: h.Height, TimeMs: h.TimeMs, TxID: txID, Data: raw})
	if err != nil {
		return fmt.Errorf("encoding %s event %d: %w", name, index, err)
	}
	encoded := fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", cursor, name, whole)
	e.list = append(e.list, encodedEvent{index: index, name: name, txID: txID, encoded: encoded})
	return nil
}
