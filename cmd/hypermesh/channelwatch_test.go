package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

// towerWorld is a channel on a chain that has nothing else, and a watch-tower that looks when it is told to.
type towerWorld struct {
	*testing.T
	dir          string
	signer       crypto.PrivateKey
	payer, payee chain.Address
	id           chain.ChannelID
	tick         chan time.Time

	mu    sync.Mutex // over what follows: the tower looks beside the test
	kv    *state.Overlay
	env   settlement.Env
	away  bool // the node of the chain
	posts []chain.Amount
	said  []string
}

func newTowerWorld(t *testing.T) *towerWorld {
	w := &towerWorld{
		T: t, dir: t.TempDir(), signer: crypto.GenerateKey(), payer: chain.Address{1}, payee: chain.Address{2}, tick: make(chan time.Time),
		kv: state.NewOverlay(state.NewMemoryBackend()), env: settlement.Env{ChainID: "tower-1", Height: 1, Now: 1, Params: chain.DefaultParams()},
	}
	if err := tokens.Genesis(w.kv, []chain.Allocation{{Address: w.payer, Amount: chain.Hyper(100)}}, chain.Amount{}); err != nil {
		t.Fatal(err)
	}
	opened := w.on(settlement.OpenChannel(w.kv, &w.env, w.payer, chain.OpenChannel{
		Payee: w.payee, Signer: w.signer.Public(), Amount: chain.Hyper(10), WindowMs: 60_000,
	}))
	w.id = opened.(chain.ChannelChanged).Channel
	return w
}

func (w *towerWorld) on(event chain.Event, why *chain.Rejection) chain.Event {
	w.Helper()
	if why != nil {
		w.Fatal(why.Reason())
	}
	return event
}

// voucher writes a voucher of a total, signed by a key, into the tower's directory.
func (w *towerWorld) voucher(file string, id chain.ChainID, total chain.Amount, by crypto.PrivateKey) chain.RedeemVoucher {
	w.Helper()
	v := chain.Voucher{ChainID: id, Channel: w.id, Total: total}
	m := chain.RedeemVoucher{Voucher: v, Signature: by.Sign(crypto.DomainVoucher, v.Payload())}
	data, err := json.Marshal(api.RedeemVoucher{Voucher: m.Voucher, Signature: m.Signature})
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, file), data, 0o600)
	}
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *towerWorld) tower() *watchTower {
	return &watchTower{
		chainID: w.env.ChainID, dir: w.dir,
		say: func(format string, args ...any) { w.said = append(w.said, fmt.Sprintf(format, args...)) }, // of a look, which has ended when it is read
		channel: func(_ context.Context, id chain.ChannelID) (settlement.Channel, bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.away {
				return settlement.Channel{}, false, errors.New("the node is away")
			}
			c, open := settlement.ChannelAt(w.kv, id)
			return c, open, nil
		},
		post: func(_ context.Context, m chain.RedeemVoucher) (chain.Height, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.posts = append(w.posts, m.Voucher.Total)
			if _, why := settlement.RedeemVoucher(w.kv, &w.env, m); why != nil {
				return 0, errors.New(why.Reason())
			}
			return w.env.Height, nil
		},
	}
}

// then does something, has the tower look once after it at least, and compares what it has posted so far.
func (w *towerWorld) then(do func(), posted ...chain.Amount) {
	w.Helper()
	w.mu.Lock()
	do()
	w.mu.Unlock()
	for range 2 { // the second is taken when the look of the first has ended
		w.tick <- time.Time{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if fmt.Sprint(w.posts) != fmt.Sprint(posted) {
		w.Errorf("posted %v, want %v", w.posts, posted)
	}
}

// TestATowerWatches goes on looking while nobody closes, while the node is away and when a voucher comes late: the
// payer, who closes a channel with an old voucher, keeps nothing that a newer one promised.
func TestATowerWatches(t *testing.T) {
	w := newTowerWorld(t)
	old := w.voucher("1.json", w.env.ChainID, chain.Hyper(2), w.signer)
	w.voucher("2.json", w.env.ChainID, chain.Hyper(7), w.signer)
	w.voucher("forged.json", w.env.ChainID, chain.Hyper(9), crypto.GenerateKey())
	w.voucher("beyond.json", w.env.ChainID, chain.Hyper(11), w.signer)
	w.voucher("foreign.json", "tower-2", chain.Hyper(8), w.signer)
	if err := os.WriteFile(filepath.Join(w.dir, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.tower().watch(ctx, w.tick)
	}()
	w.then(func() {}) // nobody closes it
	w.then(func() {
		w.away = true
		w.on(settlement.RedeemVoucher(w.kv, &w.env, old))
		w.on(settlement.CloseChannel(w.kv, &w.env, w.payer, chain.CloseChannel{Channel: w.id}))
	})
	w.then(func() { w.away = false }, chain.Hyper(7))
	w.then(func() { w.voucher("3.json", w.env.ChainID, chain.Nano(7_500_000_000), w.signer) }, chain.Hyper(7), chain.Nano(7_500_000_000))
	w.then(func() {
		w.env.ProgressMs += 60_001
		ended := settlement.EndChannels(w.kv, &w.env, 1)
		if len(ended) != 1 || ended[0].(chain.ChannelClosed).Refunded != chain.Nano(2_500_000_000) {
			t.Errorf("the channel ended with %+v", ended)
		}
		w.voucher("4.json", w.env.ChainID, chain.Hyper(8), w.signer)
	}, chain.Hyper(7), chain.Nano(7_500_000_000))
	stop()
	<-ended
	if paid := tokens.AccountOf(w.kv, w.payee).Balance; paid != chain.Nano(7_350_000_000) { // less the protocol's 2 %
		t.Errorf("the payee has %s", paid)
	}
	said := strings.Join(w.said, "\n")
	for _, want := range []string{"bad.json", "foreign.json: voucher is of chain", "the node is away", "redeemed 7 HYPER in all", "redeemed 7.5 HYPER in all"} {
		if !strings.Contains(said, want) {
			t.Errorf("it said nothing of %q:\n%s", want, said)
		}
	}
}
