package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A proposal travels packed (docs/adr/0019-compact-proposals.md): a small block
// whole, as [1, payload]; a larger one as [2, bare block, ids, bodies], where the ids
// are those of all transactions, one after the other, and the bodies [index,
// transaction] are of those that the peers may lack.
const (
	packedWhole   = 1
	packedCompact = 2
	// wholeBytes is the largest block that travels whole: what it would save to
	// leave something out, a pull would cost.
	wholeBytes = 32 << 10
)

var errPacked = errors.New("node: packed proposal is not canonical")

// Pack returns the form in which a proposal of this node travels.
func (a *application) Pack(digest crypto.Digest, payload []byte) []byte {
	a.mu.Lock()
	block := a.decoded[digest]
	a.mu.Unlock()
	if len(payload) > wholeBytes && block != nil {
		if packed := packCompact(block, a.pool.gossip.mayLack); len(packed) <= consensus.MaxPayloadBytes {
			return packed
		}
		// With all bodies it is too large: the peers pull what they lack.
		return packCompact(block, func(chain.TxID) bool { return false })
	}
	out := codec.AppendArray(make([]byte, 0, len(payload)+8), 2)
	return codec.AppendBytes(codec.AppendUint(out, packedWhole), payload)
}

func packCompact(block *chain.DecodedBlock, mayLack func(chain.TxID) bool) []byte {
	txs, bare := block.Txs(), block.Bare()
	ids := make([]byte, 0, len(txs)*crypto.DigestSize)
	var bodies []int
	size := 0
	for i := range txs {
		id := txs[i].ID()
		ids = append(ids, id[:]...)
		if mayLack(id) {
			bodies, size = append(bodies, i), size+len(txs[i].Raw())+16
		}
	}
	out := codec.AppendArray(make([]byte, 0, len(bare)+len(ids)+size+32), 4)
	out = codec.AppendUint(out, packedCompact)
	out = codec.AppendBytes(out, bare)
	out = codec.AppendBytes(out, ids)
	out = codec.AppendArray(out, len(bodies))
	for _, i := range bodies {
		out = codec.AppendUint(codec.AppendArray(out, 2), uint64(i))
		out = codec.AppendBytes(out, txs[i].Raw())
	}
	return out
}

// Unpack returns the block of a peer's packed proposal. It waits for transactions
// that are not here: they may be under way, and are pulled if not.
func (a *application) Unpack(ctx context.Context, from crypto.PublicKey, packed []byte) (consensus.Block, error) {
	r := codec.NewReader(packed)
	if r.Length(4) == 2 {
		kind, payload := r.Uint(), r.Bytes(len(packed))
		if kind != packedWhole || !r.Done() {
			return consensus.Block{}, errPacked
		}
		return a.Inspect(payload)
	}
	bare, ids, bodies, err := readCompact(packed)
	if err != nil {
		return consensus.Block{}, err
	}
	txs, err := a.gather(ctx, from, ids, bodies)
	if err != nil {
		return consensus.Block{}, err
	}
	block, err := chain.AssembleBlock(bare, txs)
	if err != nil {
		return consensus.Block{}, err
	}
	a.remember(block)
	return consensusBlock(block), nil
}

// readCompact reads the compact form; bodies are by their transactions' index.
func readCompact(packed []byte) (bare []byte, ids []chain.TxID, bodies map[int][]byte, err error) {
	r := codec.NewReader(packed)
	r.Array(4)
	kind := r.Uint()
	bare = r.Bytes(len(packed))
	raw := r.Bytes(chain.MaxBlockTxs * crypto.DigestSize)
	if kind != packedCompact || len(raw)%crypto.DigestSize != 0 {
		return nil, nil, nil, errPacked
	}
	ids = make([]chain.TxID, len(raw)/crypto.DigestSize)
	for i := range ids {
		ids[i] = chain.TxID(raw[i*crypto.DigestSize:])
	}
	n := r.Length(len(ids))
	bodies = make(map[int][]byte, n)
	next := uint64(0)
	for range n {
		r.Array(2)
		i := r.Uint()
		body := r.Bytes(chain.MaxTxBytes)
		if i < next || i >= uint64(len(ids)) {
			return nil, nil, nil, errPacked
		}
		bodies[int(i)], next = body, i+1
	}
	if !r.Done() {
		return nil, nil, nil, errPacked
	}
	return bare, ids, bodies, nil
}

// gather returns the transactions of a proposal by their ids.
func (a *application) gather(ctx context.Context, from crypto.PublicKey, ids []chain.TxID, bodies map[int][]byte) ([]chain.DecodedTx, error) {
	txs := make([]chain.DecodedTx, len(ids))
	var missing []chain.TxID
	var places []int
	for i, id := range ids {
		body, shown := bodies[i]
		if tx, ok := a.pool.Get(id); ok {
			// Who has it finds a wrong body as who has not: else a sentry that has it
			// would pass the proposal on, and be blamed.
			if shown && !bytes.Equal(body, tx.Raw()) {
				return nil, fmt.Errorf("node: packed proposal: transaction %d is not %s", i, id.Short())
			}
			txs[i] = tx.DecodedTx
			continue
		}
		if !shown {
			missing, places = append(missing, id), append(places, i)
			continue
		}
		tx, err := chain.DecodeTx(bytes.Clone(body))
		if err != nil {
			return nil, fmt.Errorf("node: packed proposal: transaction %d: %w", i, err)
		}
		if tx.ID() != id {
			return nil, fmt.Errorf("node: packed proposal: transaction %d is %s, not %s", i, tx.ID().Short(), id.Short())
		}
		txs[i] = tx
	}
	if len(missing) == 0 {
		return txs, nil
	}
	a.metrics.missing.Add(float64(len(missing)))
	found, err := a.pool.gossip.fetch(ctx, from, missing)
	if err != nil {
		return nil, err
	}
	for k, tx := range found {
		txs[places[k]] = tx.DecodedTx
	}
	return txs, nil
}
