package node

import (
	"bytes"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// gossipKind is what a message of gossip carries. A message is the array
// [kind, [item …]].
type gossipKind uint8

// The kinds; the numbers are part of the wire format.
const (
	gossipSpread gossipKind = iota + 1 // transactions that every member was sent
	gossipRelay                        // transactions that others may lack
	gossipHave                         // ids that may be pulled from the sender
	gossipWant                         // ids that the sender pulls
	gossipBodies                       // transactions that were pulled
)

// maxGossipItems bounds the items of a message: what fits of ids.
const maxGossipItems = maxGossip / (crypto.DigestSize + 2)

// encodeGossip packs items into messages within the channel's limit.
func encodeGossip(kind gossipKind, items [][]byte) [][]byte {
	const itemHead, messageHead = 5, 8
	var out [][]byte
	for len(items) > 0 {
		n, size := 0, messageHead
		for n < len(items) && n < maxGossipItems && (n == 0 || size+len(items[n])+itemHead <= maxGossip) {
			size += len(items[n]) + itemHead
			n++
		}
		message := codec.AppendArray(make([]byte, 0, size), 2)
		message = codec.AppendUint(message, uint64(kind))
		message = codec.AppendArray(message, n)
		for _, item := range items[:n] {
			message = codec.AppendBytes(message, item)
		}
		out, items = append(out, message), items[n:]
	}
	return out
}

// pulls reports whether a message is a pull or an answer to one: these have a channel
// of their own, so that a proposal's do not wait behind what is held up.
func pulls(message []byte) bool {
	r := codec.NewReader(message)
	r.Array(2)
	kind := gossipKind(r.Uint())
	return kind == gossipWant || kind == gossipBodies
}

// decodeGossip reads a message. The items of ids are of an id's length; those of
// transactions have memory of their own, so that one that stays does not keep the
// message.
func decodeGossip(message []byte) (gossipKind, [][]byte, error) {
	r := codec.NewReader(message)
	r.Array(2)
	kind := r.Uint()
	if kind < uint64(gossipSpread) || kind > uint64(gossipBodies) {
		return 0, nil, fmt.Errorf("gossip: message of %d bytes of kind %d", len(message), kind)
	}
	n := r.Length(min(maxGossipItems, len(message)))
	items := make([][]byte, n)
	for i := range items {
		if k := gossipKind(kind); k == gossipHave || k == gossipWant {
			if items[i] = r.Bytes(crypto.DigestSize); len(items[i]) != crypto.DigestSize {
				return 0, nil, fmt.Errorf("gossip: id %d of %d has %d bytes", i, n, len(items[i]))
			}
			continue
		}
		items[i] = bytes.Clone(r.Bytes(chain.MaxTxBytes))
	}
	if !r.Done() {
		return 0, nil, fmt.Errorf("gossip: message of %d bytes is not canonical", len(message))
	}
	return gossipKind(kind), items, nil
}
