package devnet

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

// TestTheWindowHasLoadBeforeIt: what is offered is offered for as long as the window and
// the time before it, and what is counted is what falls into the window.
func TestTheWindowHasLoadBeforeIt(t *testing.T) {
	o := BenchOptions{Rate: 300, Seconds: 4}
	if got, want := o.transactions(), 300*5; got != want {
		t.Errorf("%d are offered, want %d", got, want)
	}
	for at, want := range map[time.Duration]bool{
		0: false, leadIn: false, leadIn + 1: true, leadIn + 4*time.Second: true, leadIn + 4*time.Second + 1: false,
	} {
		if got := o.inWindow(at); got != want {
			t.Errorf("what comes at %v counts: %v, want %v", at, got, want)
		}
	}
}

// TestMarketsNoncesAreNotUsedTwice: a sender that opened a market goes on after what that took.
func TestMarketsNoncesAreNotUsedTwice(t *testing.T) {
	b := &bench{options: BenchOptions{Rate: 3, Seconds: 2}, nonce: 5, used: []uint64{2, 1, 0}, status: api.Status{ChainID: "bench"}}
	for range b.used {
		b.senders = append(b.senders, wallet.NewAccount("sender", crypto.GenerateKey()))
	}
	if err := b.sign(); err != nil {
		t.Fatal(err)
	}
	for i, raw := range b.raws {
		tx, err := chain.DecodeTx(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tx.Tx().Body.Nonce, uint64(5+i/3+2-i%3); got != want {
			t.Errorf("transaction %d has nonce %d, want %d", i, got, want)
		}
	}
}
