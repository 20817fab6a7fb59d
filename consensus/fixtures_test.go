package consensus_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	testID   = "test-chain"
	genesis  = crypto.DomainGenesis.Hash([]byte("genesis"))
	ms       = consensus.Micros(1000)
	testTime = consensus.Timing{
		DeltaMin: 50 * ms, DeltaMax: 10_000 * ms, Idle: 150 * ms,
		Retry: 100 * ms, Skip: 1500 * ms, Fetch: 60 * ms,
	}
)

func testKey(i int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{0: byte(i + 1), 1: 7})
}

func testCommittee(t testing.TB, weights ...uint64) *consensus.Committee {
	t.Helper()
	var vs []consensus.Validator
	for i, w := range weights {
		vs = append(vs, consensus.Validator{Key: testKey(i).Public(), Weight: w, LeaderWeight: w})
	}
	c, err := consensus.NewCommittee(1, vs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// toyBlock is what the tests put into a payload.
type toyBlock struct {
	_      struct{} `cbor:",toarray"`
	Parent crypto.Digest
	View   consensus.View
	Salt   uint64
	Empty  bool
	Closes bool
}

func (b toyBlock) block() consensus.Block {
	payload := codec.Marshal(b)
	return consensus.Block{
		Digest: crypto.DomainHeader.Hash(payload), Parent: b.Parent, Empty: b.Empty, Closing: b.Closes, Payload: payload,
	}
}
