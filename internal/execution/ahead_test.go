package execution_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// told is a state that notes which keys it was told of, and which were read after.
type told struct {
	state.Reader
	ahead map[string]bool
	read  map[string]bool
}

func (s *told) Ahead(keys [][]byte) {
	for _, key := range keys {
		s.ahead[string(key)] = true
	}
}

func (s *told) Get(key []byte) ([]byte, bool) {
	if len(s.ahead) > 0 {
		s.read[string(key)] = true
	}
	return s.Reader.Get(key)
}

// A block's state is told of the accounts that its transactions read before the first of them is read,
// and a block of transactions of which one has no valid signatures is refused as before.
func TestAccountsAreNamedAhead(t *testing.T) {
	w := newWorld(t)
	rich, poor, sponsor, paid := keyOf(40), keyOf(41), keyOf(42), keyOf(43)
	w.block(1_000, w.tx(rich, chain.Transfer{To: poor.address(), Amount: chain.Hyper(1)}, chain.Transfer{To: sponsor.address(), Amount: chain.Hyper(9)}))
	body := w.body(poor, chain.Transfer{To: paid.address(), Amount: chain.Nano(1)})
	payer := sponsor.address()
	body.FeePayer = &payer
	s := &told{Reader: w.state, ahead: map[string]bool{}, read: map[string]bool{}}
	h := w.header(1_000)
	txs := []*chain.VerifiedTx{w.sign(body, poor, sponsor)}
	out, err := w.x.Apply(s, h, staking.Extras{}, txs)
	if err != nil || out.Receipts.Txs[0].Rejection != "" {
		t.Fatalf("%+v: %v", out.Receipts, err)
	}
	for _, k := range []key{poor, sponsor, paid} {
		key := string(tokens.AccountKey(k.address()))
		if !s.ahead[key] || !s.read[key] {
			t.Errorf("the account %x was named ahead: %v, and read after: %v", key, s.ahead[key], s.read[key])
		}
	}
	if len(s.ahead) != 3 {
		t.Errorf("%d accounts were named, want 3", len(s.ahead))
	}
	if _, err := w.x.Apply(s, h, staking.Extras{}, slices.Insert(txs, 0, nil)); err == nil {
		t.Error("a transaction without valid signatures stands in a block")
	}
}
