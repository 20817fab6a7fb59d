package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func TestFailover(t *testing.T) {
	c := newFakeChain(t)
	client := newClient(t, sdk.Config{Nodes: []string{dead(t), dead(t), server(t, c)}})
	for range 3 {
		if _, err := client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.count("GET /v1/status"); n != 3 {
		t.Fatalf("%d requests: the one that answered should be asked next", n)
	}
}

func TestBusyServersAreAskedAgain(t *testing.T) {
	c := newFakeChain(t)
	var busy atomic.Int64
	busy.Store(3)
	c.refuse = func(string) int {
		if busy.Add(-1) >= 0 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	client := connect(t, c)
	if _, err := client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.count("GET"); n != 4 {
		t.Fatalf("%d requests, want 4", n)
	}
	busy.Store(1 << 30)
	_, err := client.Status(t.Context())
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != 503 || p.Detail != "as the test wants" {
		t.Fatalf("%v is not the typed problem", err)
	}
	if n := c.count("GET"); n != 10 {
		t.Fatalf("%d requests, want 6 more: attempts are bounded", n)
	}
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	_, err := client.Tx(t.Context(), crypto.Digest{1})
	if !sdk.IsNotFound(err) || c.count("GET") != 1 {
		t.Fatalf("%v after %d requests", err, c.count("GET"))
	}
}

func TestFaucetIsAskedOnce(t *testing.T) {
	c := newFakeChain(t)
	c.refuse = func(string) int { return http.StatusServiceUnavailable }
	if _, err := connect(t, c).Faucet(t.Context(), address(1), chain.Nano(5)); err == nil {
		t.Fatal("no error")
	}
	if n := c.count("POST"); n != 1 {
		t.Fatalf("a request that may have had its effect was sent %d times", n)
	}
	// A server that was never reached is another matter.
	c.refuse = nil
	client := newClient(t, sdk.Config{Nodes: []string{dead(t), server(t, c)}})
	if id, err := client.Faucet(t.Context(), address(1), chain.Nano(5)); err != nil || id != (crypto.Digest{9}) {
		t.Fatal(id, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "params") {
			w.WriteHeader(http.StatusTeapot)
		}
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				return // the client has had enough
			}
		}
	})
	client := newClient(t, sdk.Config{Nodes: []string{server(t, endless)}})
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 8388608 bytes") {
		t.Fatal(err)
	}
	_, err := client.Params(t.Context())
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != http.StatusTeapot || len(p.Detail) > 400 {
		t.Fatal(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	bad := testGenesis()
	bad.Allocations = nil
	for name, config := range map[string]sdk.Config{
		"node URL \"localhost:1\"": {Nodes: []string{"localhost:1"}},
		"Nexus URL \"ftp://x\"":    {Nexus: []string{"ftp://x"}},
		"invalid":                  {Nodes: []string{"http://[::1"}},
		"node URL \"http://a?b\"":  {Nodes: []string{"http://a?b"}},
		"trust":                    {Genesis: bad},
		"negative":                 {Timeout: -1},
	} {
		if _, err := sdk.New(config); err == nil || !strings.Contains(err.Error(), name) && name != "invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := newClient(t, sdk.Config{})
	if _, err := client.Status(t.Context()); !errors.Is(err, sdk.ErrNoServer) {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"account":  second(client.VerifiedAccount(t.Context(), address(1))),
		"state":    second(client.VerifiedState(t.Context(), []byte{1})),
		"header":   second(client.VerifiedHeader(t.Context(), 1)),
		"receipts": second(client.VerifiedReceipts(t.Context(), 1)),
	} {
		if !errors.Is(err, sdk.ErrNoTrust) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSubmitInOneBatch(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	a, b := transferTx(t, 0, chain.Nano(1)), transferTx(t, 1, chain.Nano(1))
	verdicts, err := client.SubmitTxs(t.Context(), *a.Tx(), *b.Tx())
	if err != nil || len(verdicts) != 2 || verdicts[0].TxID != a.ID() || verdicts[1].TxID != b.ID() || !verdicts[1].Accepted {
		t.Fatalf("%+v %v", verdicts, err)
	}
	if _, err := client.SubmitTxs(t.Context()); err == nil {
		t.Error("nothing was submitted")
	}
	if _, err := client.SubmitRaw(t.Context(), make([][]byte, chain.MaxBatchTxs+1)); err == nil {
		t.Error("too much was submitted")
	}
	c.lie = func(body any) { body.(*api.SubmitResponse).Verdicts = nil }
	if _, err := client.SubmitTxs(t.Context(), *a.Tx()); err == nil {
		t.Error("a missing verdict was not noticed")
	}
}

func TestVerifiedAccount(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	c.seal(transferTx(t, 0, chain.Nano(1)))
	c.seal()
	a, err := client.VerifiedAccount(t.Context(), address(2))
	if err != nil {
		t.Fatal(err)
	}
	if a.Balance() != chain.Nano(7) || a.Spendable() != chain.Nano(7) || a.Height() != 1 || a.Header().Height() != 2 || a.Address() != address(2) {
		t.Fatalf("%+v", a)
	}
	if sender, err := client.VerifiedAccount(t.Context(), address(1)); err != nil || sender.Nonce() != 1 {
		t.Fatalf("%+v %v", sender, err)
	}
	if nobody, err := client.VerifiedAccount(t.Context(), address(77)); err != nil || !nobody.Balance().IsZero() || nobody.Nonce() != 0 {
		t.Fatalf("%+v %v", nobody, err)
	}
}

func TestLiesAboutAccountsAreRefused(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	c.seal(transferTx(t, 0, chain.Nano(1)))
	c.seal()
	for name, lie := range map[string]func(a *api.Account){
		"no proof":           func(a *api.Account) { a.Proof = nil },
		"another value":      func(a *api.Account) { a.Proof.Value[len(a.Proof.Value)-2]++ },
		"said absent":        func(a *api.Account) { a.Proof.Value, a.Proof.Present = nil, false },
		"another's proof":    func(a *api.Account) { a.Proof = c.prove([]byte("x")) },
		"another state root": func(a *api.Account) { a.Proof.Header.StateRoot[0]++ },
		"a forged certificate": func(a *api.Account) {
			a.Proof.Certificate.Bytes[len(a.Proof.Certificate.Bytes)-1]++
		},
		"no certificate": func(a *api.Account) { a.Proof.Certificate = api.Certificate{} },
		"another chain":  func(a *api.Account) { a.Proof.Header.ChainID = "other-test" },
	} {
		c.set(func() { c.lie = func(body any) { lie(body.(*api.Account)) } })
		if a, err := client.VerifiedAccount(t.Context(), address(2)); !errors.Is(err, light.ErrRefused) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	// What is not proven is not believed, so it may be anything.
	c.set(func() { c.lie = func(body any) { body.(*api.Account).Balance = chain.Hyper(1_000_000) } })
	if a, err := client.VerifiedAccount(t.Context(), address(2)); err != nil || a.Balance() != chain.Nano(7) {
		t.Errorf("%+v %v", a, err)
	}
}

func TestVerifiedStateBlocksAndReceipts(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	good, bad := transferTx(t, 0, chain.Nano(1)), transferTx(t, 1, chain.Nano(0))
	c.seal(good, bad)
	c.seal()
	value, err := client.VerifiedState(t.Context(), []byte("nothing here"))
	if got, ok := value.Get(); err != nil || ok || got != nil {
		t.Fatalf("%q %t %v", got, ok, err)
	}
	block, err := client.VerifiedBlock(t.Context(), 1)
	if err != nil || len(block.Txs()) != 2 || block.Header().Height() != 1 {
		t.Fatalf("%+v %v", block, err)
	}
	receipt, height, err := client.VerifiedReceipt(t.Context(), bad.ID())
	if err != nil || height != 1 || receipt.Accepted() {
		t.Fatalf("%+v %d %v", receipt, height, err)
	}
	c.set(func() {
		c.lie = func(body any) {
			if b, ok := body.(*api.Block); ok && b.RawReceipts != nil {
				b.RawReceipts[len(b.RawReceipts)-3]++
			}
		}
	})
	if _, _, err := client.VerifiedReceipt(t.Context(), good.ID()); !errors.Is(err, light.ErrRefused) {
		t.Error(err)
	}
	c.set(func() {
		c.lie = func(body any) {
			if b, ok := body.(*api.Block); ok {
				b.Header, b.Certificate = api.HeaderToJSON(*c.blocks[0].Header()), c.certificate(1)
			}
		}
	})
	if _, err := client.VerifiedHeader(t.Context(), 2); !errors.Is(err, light.ErrRefused) {
		t.Errorf("another height's block: %v", err)
	}
}

// VerifiedReceipts waits for the block that commits to them.
func TestVerifiedReceiptsWaitForTheNextBlock(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	tx := transferTx(t, 0, chain.Nano(1))
	c.seal(tx)
	done := make(chan error, 1)
	go func() {
		receipts, err := client.VerifiedReceipts(t.Context(), 1)
		if err == nil && len(receipts.All().Txs) != 1 {
			err = fmt.Errorf("%d receipts", len(receipts.All().Txs))
		}
		done <- err
	}()
	waitFor(t, c, "GET /v1/events")
	c.seal()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// waitFor blocks until a request was made.
func waitFor(t testing.TB, c *fakeChain, prefix string) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.count(prefix) == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s", prefix)
		}
	}
}

func TestEventsSurviveEveryBreak(t *testing.T) {
	c := newFakeChain(t)
	for i := range 5 {
		c.seal(transferTx(t, uint64(2*i), chain.Nano(1)), transferTx(t, uint64(2*i+1), chain.Nano(0)))
	}
	var want []string
	for h := 1; h <= 5; h++ {
		for _, e := range c.stream(h) {
			want = append(want, e.Cursor.String())
		}
	}
	for _, cut := range []int{1, 2, 3, 0} {
		c.set(func() { c.cut = cut })
		client := newClient(t, sdk.Config{Nodes: []string{server(t, c), dead(t), server(t, c)}})
		var got []string
		start := api.CursorAfter(0)
		for event, err := range client.Events(t.Context(), sdk.EventFilter{Cursor: &start}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, event.Cursor.String())
			if len(got) == len(want) {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("cut after %d: %v, want %v", cut, got, want)
		}
	}
}

func TestEventsWithoutCursorBeginNow(t *testing.T) {
	c := newFakeChain(t)
	c.seal()
	client := connect(t, c)
	got := make(chan api.StreamEvent, 1)
	go func() {
		for event, err := range client.Events(t.Context(), sdk.EventFilter{Types: []string{"block"}}) {
			if err != nil {
				t.Error(err)
			}
			got <- event
			return
		}
	}()
	waitFor(t, c, "GET /v1/events")
	c.seal()
	if event := <-got; event.Height != 2 {
		t.Fatalf("%+v", event)
	}
}

func TestEventsEndWithTheirReason(t *testing.T) {
	c := newFakeChain(t)
	c.refuse = func(path string) int {
		if path == "/v1/events" {
			return http.StatusGone
		}
		return 0
	}
	client := connect(t, c)
	cursor := api.CursorAfter(0)
	for _, err := range client.Events(t.Context(), sdk.EventFilter{Cursor: &cursor}) {
		if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != http.StatusGone {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range connect(t, newFakeChain(t)).Events(ctx, sdk.EventFilter{Cursor: &cursor}) {
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// A stream that says nothing at all is begun anew, elsewhere.
func TestQuietStreamIsLeft(t *testing.T) {
	c := newFakeChain(t)
	c.seal()
	mute := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	client := newClient(t, sdk.Config{Nodes: []string{server(t, mute), server(t, c)}, StreamQuiet: 20 * time.Millisecond})
	cursor := api.CursorAfter(0)
	for event, err := range client.Events(t.Context(), sdk.EventFilter{Cursor: &cursor}) {
		if err != nil || event.Height != 1 {
			t.Fatalf("%+v %v", event, err)
		}
		break
	}
}

func TestWaitFinal(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	good, bad := transferTx(t, 0, chain.Nano(1)), transferTx(t, 1, chain.Nano(0))
	if _, err := client.SubmitTxs(t.Context(), *good.Tx(), *bad.Tx()); err != nil {
		t.Fatal(err)
	}
	type result struct {
		found api.TxLookup
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := client.WaitFinal(t.Context(), good.ID(), 100)
		done <- result{found, err}
	}()
	waitFor(t, c, "GET /v1/events")
	c.seal()
	c.seal(good, bad)
	if r := <-done; r.err != nil || r.found.Height != 2 || !r.found.Receipt.Accepted() {
		t.Fatalf("%+v", r)
	}
	found, err := client.WaitFinal(t.Context(), bad.ID(), sdk.NoExpiry)
	if rejected, ok := errors.AsType[*sdk.RejectedError](err); !ok || !rejected.Included || found.Height != 2 || !strings.Contains(rejected.Error(), "transfer of zero") {
		t.Fatalf("%+v %v", found, err)
	}
	if _, err := client.WaitFinal(t.Context(), crypto.Digest{5}, 2); !errors.Is(err, sdk.ErrExpired) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := client.WaitFinal(ctx, crypto.Digest{5}, sdk.NoExpiry); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if n := c.count("GET /v1/txs/0500"); n > 3 {
		t.Fatalf("%d lookups in 10 ms: nothing may poll without waiting", n)
	}
}

func TestBuilder(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	c.seal(transferTx(t, 0, chain.Nano(1)))
	c.seal()
	b := client.NewBuilder(testKey(1), sdk.BuilderOptions{Tip: chain.PricePerGas(2), Memo: "rent"})
	var nonces []uint64
	for range 3 {
		tx, err := b.Build(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(4)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chain.DecodeTx(tx.Encode()); err != nil {
			t.Fatal(err)
		}
		body := tx.Body
		if body.ChainID != testChain || body.Sender != b.Sender() || body.Expiry != 2+sdk.DefaultExpiryHeights || body.MaxFee != chain.PricePerGas(14) || body.Tip != chain.PricePerGas(2) || body.Memo != "rent" || body.GasLimit.Units() == 0 {
			t.Fatalf("%+v", body)
		}
		nonces = append(nonces, body.Nonce)
	}
	if fmt.Sprint(nonces) != "[1 2 3]" || c.count("GET /v1/status") != 1 || c.count("GET /v1/accounts") != 1 {
		t.Fatalf("nonces %v, requests %v", nonces, c.requests)
	}
}

func TestBuilderCountsWhatWaits(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	waiting := transferTx(t, 0, chain.Nano(1))
	if _, err := client.SubmitTxs(t.Context(), *waiting.Tx()); err != nil {
		t.Fatal(err)
	}
	b := client.NewBuilder(testKey(1), sdk.BuilderOptions{})
	if _, err := b.Send(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(4)}); err != nil {
		t.Fatal(err)
	}
	if nonce := c.pool[1].Tx().Body.Nonce; nonce != 1 {
		t.Fatalf("nonce %d, want 1: one waits", nonce)
	}
	// What is refused gives its nonce back.
	c.set(func() { c.reject = "the pool is full" })
	_, err := b.Send(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(5)})
	if rejected, ok := errors.AsType[*sdk.RejectedError](err); !ok || rejected.Included || rejected.Reason != "the pool is full" {
		t.Fatal(err)
	}
	c.set(func() { c.reject = "" })
	if _, err := b.Send(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(6)}); err != nil {
		t.Fatal(err)
	}
	if nonce := c.pool[2].Tx().Body.Nonce; nonce != 2 {
		t.Fatalf("nonce %d, want 2", nonce)
	}
}

func TestBuilderWithFeePayer(t *testing.T) {
	c := newFakeChain(t)
	b := connect(t, c).NewBuilder(testKey(1), sdk.BuilderOptions{FeePayer: testKey(3), MaxFee: chain.PricePerGas(50), GasLimit: chain.GasUnits(123)})
	tx, err := b.Build(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(4)})
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if v := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1); v[0] == nil || tx.Body.Payer() != address(3) || tx.Body.MaxFee != chain.PricePerGas(50) || tx.Body.GasLimit != chain.GasUnits(123) {
		t.Fatalf("%+v", tx.Body)
	}
}

func TestBuilderKnowsItsChain(t *testing.T) {
	c := newFakeChain(t)
	c.lie = func(body any) {
		if s, ok := body.(*api.Status); ok {
			s.ChainID = "other-test"
		}
	}
	_, err := connect(t, c).NewBuilder(testKey(1), sdk.BuilderOptions{}).Build(t.Context(), chain.Transfer{To: address(2)})
	if err == nil || !strings.Contains(err.Error(), "other-test") {
		t.Fatal(err)
	}
}

func TestSendAndWait(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	b := client.NewBuilder(testKey(1), sdk.BuilderOptions{})
	done := make(chan error, 1)
	go func() {
		found, err := b.SendAndWait(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(1)})
		if err == nil && found.Height != 1 {
			err = fmt.Errorf("height %d", found.Height)
		}
		done <- err
	}()
	waitFor(t, c, "GET /v1/events")
	c.seal(c.pool...)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestADroppedTransactionEndsTheWait at once and by name, and not when it expires.
func TestADroppedTransactionEndsTheWait(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	b := client.NewBuilder(testKey(1), sdk.BuilderOptions{})
	done := make(chan error, 1)
	go func() {
		_, err := b.SendAndWait(t.Context(), chain.Transfer{To: address(2), Amount: chain.Nano(1)})
		done <- err
	}()
	waitFor(t, c, "GET /v1/events")
	c.drop(c.pool[0].ID(), api.Dropped{Reason: api.DropEvicted, Height: 3})
	err := <-done
	if dropped, ok := errors.AsType[*sdk.DroppedError](err); !ok || dropped.TxID != c.pool[0].ID() || dropped.Final() || errors.Is(err, sdk.ErrExpired) {
		t.Fatal(err)
	}
	if want := "after block 3: evicted; until its expiry another node may still include it"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not say %q", err, want)
	}
	c.drop(crypto.Digest{5}, api.Dropped{Reason: api.DropExpired})
	if _, err := client.WaitFinal(t.Context(), crypto.Digest{5}, sdk.NoExpiry); !errors.Is(err, sdk.ErrExpired) {
		t.Errorf("dropped for being expired: %v", err)
	}
	if n := c.count("GET /v1/accounts"); n != 1 {
		t.Fatalf("%d looks at the account", n)
	}
	if _, err := b.Build(t.Context(), chain.Transfer{To: address(2)}); err != nil || c.count("GET /v1/accounts") != 2 {
		t.Errorf("the builder did not ask for its nonce again: %v", err)
	}
}

// TestANodeThatForgotIsGivenTheTransactionAgain, such as one that was restarted: its
// mempool is in memory alone.
func TestANodeThatForgotIsGivenTheTransactionAgain(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	tx := transferTx(t, 0, chain.Nano(1))
	done := make(chan error, 1)
	go func() {
		_, err := client.WaitFinalOf(t.Context(), tx.Tx())
		done <- err
	}()
	waitFor(t, c, "GET /v1/events")
	if len(c.pool) != 1 || c.pool[0].ID() != tx.ID() {
		t.Fatalf("the node was given %d transactions", len(c.pool))
	}
	c.seal(tx)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.set(func() { c.reject = "nonce_too_low: nonce 0, the next is 1" })
	other := transferTx(t, 0, chain.Nano(2))
	if _, err := client.WaitFinalOf(t.Context(), other.Tx()); err == nil || !strings.Contains(err.Error(), "another may include it") || !strings.Contains(err.Error(), "nonce_too_low") {
		t.Fatal(err)
	}
}

// TestWhatIsFinalNeedsNoNodeToTakeIt: a node that is full refuses a transaction that has
// become final since it was looked for.
func TestWhatIsFinalNeedsNoNodeToTakeIt(t *testing.T) {
	c := newFakeChain(t)
	client := connect(t, c)
	tx := transferTx(t, 0, chain.Nano(1))
	c.refuse = func(path string) int {
		if path != "/v1/txs" {
			return 0
		}
		if len(c.blocks) == 0 {
			c.mu.Unlock()
			c.seal(tx)
			c.mu.Lock()
		}
		return http.StatusServiceUnavailable
	}
	if found, err := client.WaitFinalOf(t.Context(), tx.Tx()); err != nil || found.Height != 1 {
		t.Fatal(found, err)
	}
	other := transferTx(t, 1, chain.Nano(2))
	_, err := client.WaitFinalOf(t.Context(), other.Tx())
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != http.StatusServiceUnavailable {
		t.Fatal(err)
	}
}

// TestARefusalIsOverOnceTheNodeHasIt: a full node refuses a transaction, has it from a peer,
// and forgets it: it is given it again, and the refusal of before ends nothing.
func TestARefusalIsOverOnceTheNodeHasIt(t *testing.T) {
	for name, refuse := range map[string]func(c *fakeChain) int{
		"as a whole": func(*fakeChain) int { return http.StatusServiceUnavailable },
		"by name":    func(c *fakeChain) int { c.reject = "pool is full"; return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newFakeChain(t)
			client := connect(t, c)
			tx := transferTx(t, 0, chain.Nano(1))
			looks := 0
			c.refuse = func(path string) int {
				switch {
				case path == "/v1/txs" && looks == 1:
					return refuse(c)
				case path == "/v1/txs":
					c.reject = ""
				case strings.HasPrefix(path, "/v1/txs/"):
					switch looks++; looks {
					case 2:
						c.pool = []chain.DecodedTx{tx}
					case 3:
						c.pool, c.dropped = nil, nil
					}
				case path == "/v1/events" && looks == 2: // something is told of it
					c.dropped = map[chain.TxID]api.Dropped{tx.ID(): {Reason: api.DropEvicted}}
				case path == "/v1/events":
					c.mu.Unlock()
					c.seal(tx)
					c.mu.Lock()
				}
				return 0
			}
			if found, err := client.WaitFinalOf(t.Context(), tx.Tx()); err != nil || found.Height != 1 {
				t.Fatal(found, err)
			}
		})
	}
}

// TestTheDefaultExpiryIsATime at the fastest pace, and within what the chain takes.
func TestTheDefaultExpiryIsATime(t *testing.T) {
	if got := sdk.DefaultExpiryHeights * chain.FastestPaceMs; got != 120_000 {
		t.Errorf("a transaction expires %d ms after it is made, want two minutes", got)
	}
	const stale = 2_000 / chain.FastestPaceMs // heights that a builder may be behind
	if sdk.DefaultExpiryHeights < 10*stale || sdk.DefaultExpiryHeights > chain.MaxExpiryAhead {
		t.Errorf("%d heights, want at least %d and at most %d", sdk.DefaultExpiryHeights, 10*stale, chain.MaxExpiryAhead)
	}
}

func TestEstimateCoversProofs(t *testing.T) {
	plain := sdk.EstimateGas(chain.Settle{Claims: make([]chain.Claim, 2)})
	proven := sdk.EstimateGas(chain.Settle{Claims: []chain.Claim{{}, {Proof: []byte{1}}}})
	if batch := sdk.EstimateGas(chain.SettleBatch{}); !plain.Less(batch) || proven.Less(batch) {
		t.Errorf("a batch has %d gas, two claims of which one is proven %d", batch.Units(), proven.Units())
	}
	if !plain.Less(proven) || !sdk.EstimateGas(chain.Transfer{}).Less(plain) {
		t.Fatalf("%d %d", plain.Units(), proven.Units())
	}
}

func readAll(t testing.TB, r io.ReadCloser) ([]byte, error) {
	t.Helper()
	data, err := io.ReadAll(r)
	if closeErr := r.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	return data, err
}
