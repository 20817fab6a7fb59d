package devnet

import (
	"encoding/json"
	"strconv"
	"strings"
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

// TestTokensAreWhereTheyWereSent: what is noted of each transfer is what its message asks for, and no token
// comes or goes.
func TestTokensAreWhereTheyWereSent(t *testing.T) {
	const senders, transfers = 7, 100
	b := &bench{options: BenchOptions{Token: []byte{1}}, token: token{have: make([]uint64, senders)}}
	at := map[string]int{}
	for i := range senders {
		b.senders = append(b.senders, wallet.NewAccount("sender", crypto.GenerateKey()))
		b.token.have[i] = tokenEach
		at[b.senders[i].Address().String()] = i
	}
	want := append([]uint64(nil), b.token.have...)
	for i := range transfers {
		var m struct {
			Transfer struct{ Recipient, Amount string }
		}
		if err := json.Unmarshal(b.message(i).(chain.ExecuteContract).Msg, &m); err != nil {
			t.Fatal(err)
		}
		amount, err := strconv.ParseUint(m.Transfer.Amount, 10, 64)
		to, known := at[m.Transfer.Recipient]
		if err != nil || !known || to == i%senders && (i/senders+1)%senders != 0 {
			t.Fatalf("transfer %d: %+v", i, m)
		}
		want[i%senders] -= amount
		want[to] += amount
		b.token.moved(i, senders)
	}
	sum := uint64(0)
	for i, have := range b.token.have {
		if sum += have; have != want[i] {
			t.Errorf("sender %d is noted with %d tokens, by the messages %d", i, have, want[i])
		}
	}
	if sum != b.supply() || !b.token.calls {
		t.Errorf("there are %d tokens of %d", sum, b.supply())
	}
}

// TestTokensGoWithNothingElse: a load is of one kind.
func TestTokensGoWithNothingElse(t *testing.T) {
	for _, o := range []BenchOptions{{Claims: 1}, {Accounts: 1}} {
		o.RPC, o.Rate, o.Seconds, o.Token = []string{"http://127.0.0.1:1"}, 1, 1, []byte{1}
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
