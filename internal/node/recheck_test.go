package node

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// countedReader counts what is read.
type countedReader struct {
	state.Reader
	reads int
}

func (c *countedReader) Get(key []byte) ([]byte, bool) {
	c.reads++
	return c.Reader.Get(key)
}

// TestACommitChecksNotAllThatWaits: what a final block has the pool look at does not grow
// with what waits there, and no signature is looked at again.
func TestACommitChecksNotAllThatWaits(t *testing.T) {
	readsWith := func(each uint64) int {
		r := newRig(t, testGenesis(t))
		for from := 1; from <= 9; from++ {
			txs := make([]chain.DecodedTx, each)
			for nonce := range each {
				txs[nonce] = transfer(t, from, nonce, user(70).address())
			}
			r.submit(txs...)
		}
		verified := r.app.pool.verifier.count.Load()
		if txs, _ := r.app.pool.size(); txs != int(9*each) || verified != 9*each {
			t.Fatalf("%d wait, %d were verified, want %d", txs, verified, 9*each)
		}
		counted := &countedReader{Reader: r.app.pool.state}
		r.app.pool.state = counted
		r.app.pool.finalize(1, nil)
		if txs, _ := r.app.pool.size(); txs != int(9*each) || r.app.pool.verifier.count.Load() != verified {
			t.Errorf("after a block %d wait, and %d were verified, want %d", txs, r.app.pool.verifier.count.Load(), verified)
		}
		return counted.reads
	}
	few, many := readsWith(1), readsWith(60)
	if few == 0 || many != few {
		t.Errorf("a block has %d keys read beside 9 transactions, %d beside 540", few, many)
	}
}
