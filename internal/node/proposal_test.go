package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	theLeader = crypto.PublicKey{1}
	another   = crypto.PublicKey{2}
)

// fullBlock is a leader with a block too large to travel whole, and its
// transactions.
func fullBlock(t *testing.T) (leader, follower *rig, b consensus.Block, txs []chain.DecodedTx) {
	t.Helper()
	g := testGenesis(t)
	leader, follower = newRig(t, g), newRig(t, g)
	for from := 1; from <= 9; from++ {
		for nonce := range uint64(20) {
			txs = append(txs, transfer(t, from, nonce, user(70).address()))
		}
	}
	leader.submit(txs...)
	b = leader.propose(1, leader.genesisParent())
	if len(b.Payload) <= wholeBytes {
		t.Fatalf("a block of %d bytes", len(b.Payload))
	}
	return leader, follower, b, txs
}

// pack packs a block some time after its transactions were pushed.
func (r *rig) pack(b consensus.Block, old bool) []byte {
	if old {
		r.app.pool.gossip.pushedAt = time.Now().Add(-time.Hour)
	}
	return r.app.Pack(b.Digest, b.Payload)
}

func (r *rig) unpack(packed []byte, b consensus.Block) {
	r.Helper()
	got, err := r.app.Unpack(r.Context(), theLeader, packed)
	if err != nil {
		r.Fatal(err)
	}
	if got.Digest != b.Digest || got.Parent != b.Parent || got.Height != b.Height || got.Empty != b.Empty || !slices.Equal(got.Payload, b.Payload) {
		r.Fatal("another block came out")
	}
}

func TestAProposalCarriesIdsOfWhatPeersHold(t *testing.T) {
	leader, follower, b, txs := fullBlock(t)
	follower.submit(txs...)
	packed := leader.pack(b, true)
	if want := len(txs)*crypto.DigestSize + 1_000; len(packed) > want {
		t.Errorf("packed %d bytes into %d, want at most %d", len(b.Payload), len(packed), want)
	}
	follower.unpack(packed, b)
	if err := follower.verify(1, follower.genesisParent(), b); err != nil {
		t.Fatal(err)
	}
	if got := follower.app.pool.verifier.count.Load(); got != uint64(len(txs)) {
		t.Errorf("%d verifications of %d transactions", got, len(txs))
	}
}

func TestAProposalCarriesBodiesThatPeersMayLack(t *testing.T) {
	leader, follower, b, txs := fullBlock(t)
	packed := leader.pack(b, false) // all are fresh from clients
	if len(packed) <= len(b.Payload) {
		t.Errorf("packed %d bytes into %d", len(b.Payload), len(packed))
	}
	follower.unpack(packed, b)
	if err := follower.verify(1, follower.genesisParent(), b); err != nil {
		t.Fatal(err)
	}
	if got := follower.app.pool.verifier.count.Load(); got != uint64(len(txs)) {
		t.Errorf("%d verifications of %d transactions", got, len(txs))
	}
}

func TestASmallProposalTravelsWhole(t *testing.T) {
	g := testGenesis(t)
	leader, follower := newRig(t, g), newRig(t, g)
	leader.submit(transfer(t, 1, 0, user(70).address()))
	b := leader.propose(1, leader.genesisParent())
	packed := leader.pack(b, true)
	if extra := len(packed) - len(b.Payload); extra < 1 || extra > 8 {
		t.Errorf("%d bytes more", extra)
	}
	follower.unpack(packed, b)
}

// TestMissingTransactionsArePulled has a follower that lacks some, of which the
// leader delivers a part, and another peer the rest.
func TestMissingTransactionsArePulled(t *testing.T) {
	leader, follower, b, txs := fullBlock(t)
	follower.submit(txs[:100]...)
	var asked []crypto.PublicKey
	follower.app.pool.gossip.peers = func() gossipPeers { return gossipPeers{connected: []crypto.PublicKey{theLeader, another}, members: 2} }
	follower.app.pool.gossip.send = func(to crypto.PublicKey, message []byte) {
		kind, items, err := decodeGossip(message)
		if err != nil {
			t.Error(err)
		}
		if kind != gossipWant { // it announces what is new
			return
		}
		asked = append(asked, to)
		var bodies [][]byte
		for _, id := range items {
			tx, ok := leader.app.pool.Get(chain.TxID(id))
			if !ok {
				t.Errorf("asked for %x", id)
				continue
			}
			if to == another || tx.Tx().Body.Nonce < 10 {
				bodies = append(bodies, tx.Raw())
			}
		}
		for _, m := range encodeGossip(gossipBodies, bodies) {
			follower.app.pool.gossip.receive(to, m)
		}
	}
	follower.unpack(leader.pack(b, true), b)
	if !slices.Equal(asked, []crypto.PublicKey{theLeader, another}) {
		t.Errorf("asked %v", asked)
	}
}

// TestAWithheldProposalWaits: nobody delivers, and nobody is to blame.
func TestAWithheldProposalWaits(t *testing.T) {
	leader, follower, b, _ := fullBlock(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := follower.app.Unpack(ctx, theLeader, leader.pack(b, true)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a deadline exceeded", err)
	}
	// Whoever has the block gives it whole, and it is verified as any other.
	got, err := follower.app.Inspect(b.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.verify(1, follower.genesisParent(), got); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenPackedProposalsAreRefused(t *testing.T) {
	leader, follower, b, txs := fullBlock(t)
	follower.submit(txs...)
	packed := leader.pack(b, true)
	block := leader.app.decoded[b.Digest]
	compact := func(kind uint64, bare, ids []byte, bodies ...any) []byte {
		return codec.Marshal([]any{kind, bare, ids, append([]any{}, bodies...)})
	}
	var ids []byte
	for i := range txs {
		id := block.Txs()[i].ID()
		ids = append(ids, id[:]...)
	}
	if !slices.Equal(compact(2, block.Bare(), ids), packed) {
		t.Fatal("the test packs otherwise")
	}
	body := func(i int, raw []byte) any { return []any{uint64(i), raw} }
	other := transfer(t, 9, 33, user(70).address())
	otherID := other.ID()
	for what, packed := range map[string][]byte{
		"nothing":              nil,
		"half":                 packed[:len(packed)/2],
		"bytes after it":       append(slices.Clone(packed), 0),
		"another kind":         compact(3, block.Bare(), ids),
		"whole of kind 2":      codec.Marshal([]any{uint64(2), b.Payload}),
		"half an id":           compact(2, block.Bare(), ids[:len(ids)-1]),
		"one id less":          compact(2, block.Bare(), ids[crypto.DigestSize:]),
		"one id twice":         compact(2, block.Bare(), append(slices.Clone(ids), ids[:crypto.DigestSize]...)),
		"a body that is none":  compact(2, block.Bare(), otherID[:], body(0, []byte{1})),
		"another's body":       compact(2, block.Bare(), otherID[:], body(0, txs[0].Raw())),
		"a body that is here":  compact(2, block.Bare(), ids, body(0, []byte{1})),
		"another's body here":  compact(2, block.Bare(), ids, body(0, block.Txs()[1].Raw())),
		"a body beyond all":    compact(2, block.Bare(), ids, body(len(txs), txs[0].Raw())),
		"a body twice":         compact(2, block.Bare(), ids, body(3, txs[3].Raw()), body(3, txs[3].Raw())),
		"no bare block":        compact(2, b.Payload, ids),
		"more than its header": compact(2, block.Bare(), append(slices.Clone(ids), otherID[:]...), body(len(txs), other.Raw())),
	} {
		if _, err := follower.app.Unpack(t.Context(), theLeader, packed); err == nil || t.Context().Err() != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	follower.unpack(packed, b)
}
