package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func wantCounts(t *testing.T, f *fakeChain, settled, transactions int) {
	t.Helper()
	if s, n := f.counts(); s != settled || n != transactions {
		t.Errorf("%d claims settled in %d transactions, want %d in %d", s, n, settled, transactions)
	}
}

func TestCarriesWhatWaitsAndWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		for n := range uint64(20) {
			o.put(claim(n))
		}
		r, stop := carry(t, o, f)
		synctest.Wait()
		if _, n := f.counts(); n < 2 { // at most 16 in one
			t.Errorf("%d transactions", n)
		}
		settled, before := f.counts()
		if settled != 20 {
			t.Fatalf("%d of 20 claims settled", settled)
		}
		o.put(claim(100))
		synctest.Wait() // the long poll answers at once
		wantCounts(t, f, 21, before+1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy: %s", why)
		}
		pass(time.Hour) // what the outbox still lists is not posted again
		wantCounts(t, f, 21, before+1)
		stop()
	})
}

func TestClaimsOfAnItemGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		var replicas []chain.Claim
		for _, name := range []string{"one", "two"} {
			c := parts(1)
			c.Order.Policy.Policy = chain.PolicyNone{}
			id := c.Order.ID()
			c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = id, id, id
			c.Bid.Node, c.Receipt.Node = key(name).Public(), key(name).Public()
			c = signed(c)
			c.BidSig, c.ReceiptSig = key(name).Sign(crypto.DomainBid, c.Bid.Payload()), key(name).Sign(crypto.DomainUsage, c.Receipt.Payload())
			replicas = append(replicas, c)
		}
		o.put(replicas...)
		_, stop := carry(t, o, f)
		synctest.Wait()
		wantCounts(t, f, 2, 1)
		pass(time.Hour) // one is settled and one recorded: both are the chain's business now
		wantCounts(t, f, 2, 1)
		stop()
	})
}

func TestCrashAtAnyPointSettlesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		o.put(claim(1))

		// Between the submission and its verdict: the transaction is final, the
		// relay never hears of it.
		f.block = make(chan struct{})
		_, crash := carry(t, o, f)
		synctest.Wait()
		wantCounts(t, f, 1, 1)
		crash()
		f.change(func() { f.block = nil })
		_, stop := carry(t, o, f)
		pass(time.Hour)
		wantCounts(t, f, 1, 1)
		stop()

		// Before the submission.
		o.put(claim(2))
		f.change(func() { f.down = errBroken })
		_, crash = carry(t, o, f)
		pass(time.Minute)
		crash()
		f.change(func() { f.down = nil })
		_, stop = carry(t, o, f)
		pass(time.Minute)
		wantCounts(t, f, 2, 2)
		stop()
	})
}

func TestAnAnswerThatIsLostIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.failures = []error{errBroken}
		o.put(claim(1))
		r, stop := carry(t, o, f)
		synctest.Wait()
		if why := r.Missing(); !strings.Contains(why, errBroken.Error()) {
			t.Errorf("after a lost answer: %q", why)
		}
		pass(time.Minute)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy again: %s", why)
		}
		stop()
	})
}

func TestTwoRelaysAreHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		for n := range uint64(30) {
			o.put(claim(n))
		}
		_, stop1 := carry(t, o, f)
		_, stop2 := carry(t, o, f)
		pass(time.Hour)
		settled, transactions := f.counts()
		if settled != 30 {
			t.Errorf("%d of 30 claims settled", settled)
		}
		pass(time.Hour)
		if _, later := f.counts(); later != transactions {
			t.Errorf("they go on posting: %d transactions, then %d", transactions, later)
		}
		stop1()
		stop2()
	})
}

func TestARejectedClaimStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		bad := claim(3)
		f.refuse = func(c *chain.Claim) string {
			if c.Order.Nonce == 3 {
				return "the escrow holds too little"
			}
			return ""
		}
		for n := range uint64(6) {
			o.put(claim(n))
		}
		_, stop := carry(t, o, f)
		synctest.Wait()
		if settled, _ := f.counts(); settled != 5 {
			t.Errorf("%d of 5 good claims settled", settled)
		}
		pass(6 * time.Hour)
		tries := 0
		for _, keys := range f.txs {
			for _, k := range keys {
				if k == bad.Key() {
					tries++
				}
			}
		}
		if tries != 5 {
			t.Errorf("the refused claim was posted %d times, want 5 and then no more", tries)
		}
		stop()
	})
}

// TestALostClaimIsOver: one that counts as lost is not posted again, by this relay or by
// one that starts anew.
func TestALostClaimIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.lose = true
		o.put(claim(1))
		r, stop := carry(t, o, f)
		pass(6 * time.Hour)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy: %s", why)
		}
		stop()
		_, stop = carry(t, o, f)
		pass(6 * time.Hour)
		wantCounts(t, f, 1, 1)
		stop()
	})
}

// wantSettled is wantCounts where claims may share a transaction.
func wantSettled(t *testing.T, f *fakeChain, settled int) {
	t.Helper()
	if s, _ := f.counts(); s != settled {
		t.Errorf("%d claims settled, want %d", s, settled)
	}
}

// sealed is a claim that shows a key.
func sealed(nonce uint64) chain.Claim {
	c := parts(nonce)
	c.Order.Fair = true
	id := c.Order.ID()
	c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = id, id, id
	k := chain.OutputKey{byte(nonce)}
	c.OutputKey, c.Receipt.Sealed = &k, &chain.SealedOutput{KeyHash: k.Hash(id, c.Receipt.Node)}
	return signed(c)
}

// TestAClaimOfWhichNothingIsKnownHoldsUpNoOther: nor does one about which the chain is asked for long, and one that is
// not paid is asked about ever less often.
func TestAClaimOfWhichNothingIsKnownHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		failing, hanging, unpaid := sealed(1), sealed(2), sealed(3)
		asked := map[crypto.Digest]int{}
		f.looked = func(ctx context.Context, c *chain.Claim) error {
			f.change(func() { asked[c.Receipt.Order]++ })
			switch c.Receipt.Order {
			case failing.Receipt.Order:
				return errors.New("a node shows no proof")
			case hanging.Receipt.Order:
				<-ctx.Done()
				return context.Cause(ctx)
			case unpaid.Receipt.Order:
				return &sdk.UnpayableError{Why: "cost is 2, the escrow holds 1"}
			}
			return nil
		}
		o.put(failing, claim(4), sealed(5))
		r, stop := carry(t, o, f)
		pass(time.Second)
		wantSettled(t, f, 2)
		o.put(hanging, unpaid)
		o.put(claim(6))
		o.put(sealed(7))
		pass(2 * time.Minute)
		wantSettled(t, f, 4)
		o.put(claim(8))
		pass(time.Hour)
		wantSettled(t, f, 5)
		f.change(func() {
			if n := asked[unpaid.Receipt.Order]; n < 8 || n > 20 {
				t.Errorf("in an hour the chain was asked %d times about what it does not pay, want 8 to 20", n)
			}
		})
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy: %s", why)
		}
		stop()
	})
}

// TestALieAboutWhatIsSettledHoldsNoKeyBack: of a claim that shows a key the proof counts, before it is posted and after a
// transaction whose end is not known.
func TestALieAboutWhatIsSettledHoldsNoKeyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		c := sealed(1)
		f.lies = []chain.ClaimKey{c.Key()}
		f.failures = []error{errBroken}
		f.looked = func(_ context.Context, c *chain.Claim) error {
			if n, _ := f.counts(); n > 0 {
				return fmt.Errorf("asked: %w", sdk.ErrClaimed)
			}
			return nil
		}
		o.put(c)
		r, stop := carry(t, o, f)
		pass(time.Minute)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy: %s", why)
		}
		stop()
	})
}

// TestAShortClaimWindowIsNotWaitedOut: a claim is posted soon after it was looked at, and looked at soon again.
func TestAShortClaimWindowIsNotWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.unpaid = &sdk.UnpayableError{Why: "cost is 2, the escrow holds 1"}
		p := chain.DefaultParams()
		p.ClaimWindowMs = 40_000
		stop := begin(t, newRelay(t, p, o, f))
		o.put(sealed(1))
		pass(30 * time.Second)
		f.change(func() { f.unpaid = nil })
		pass(6 * time.Second)
		wantCounts(t, f, 1, 1)
		stop()
	})
}

// TestKeysAreNotShownForNothing: a claim that shows a key waits while the chain would not pay for it, and holds up no other.
func TestKeysAreNotShownForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.unpaid = &sdk.UnpayableError{Why: "cost is 2, the escrow holds 1"}
		o.put(sealed(1))
		o.put(claim(2))
		r, stop := carry(t, o, f)
		pass(time.Hour)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy: %s", why)
		}
		f.change(func() { f.unpaid = nil })
		pass(5 * time.Minute)
		wantCounts(t, f, 2, 2)
		f.change(func() { f.unpaid = fmt.Errorf("asked: %w", sdk.ErrClaimed) })
		o.put(sealed(3))
		pass(time.Minute)
		wantCounts(t, f, 2, 2)
		f.change(func() { f.unpaid = errors.New("no node of the chain answers") })
		o.put(sealed(4))
		pass(time.Minute)
		wantCounts(t, f, 2, 2)
		f.change(func() { f.unpaid = nil })
		pass(time.Minute)
		wantCounts(t, f, 3, 3)
		stop()
	})
}

func TestWorthlessClaimsCostFewFees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.refuse = func(*chain.Claim) string { return "the escrow holds too little" }
		for n := range uint64(1_000) {
			o.put(claim(n))
		}
		_, stop := carry(t, o, f)
		pass(time.Hour)
		if _, n := f.counts(); n < 9 || n > 30 {
			t.Errorf("%d transactions in an hour that bought nothing, want 9 to 30", n)
		}
		f.change(func() { f.refuse = nil })
		pass(10 * time.Minute)
		if settled, _ := f.counts(); settled < 700 {
			t.Errorf("%d claims settled once the chain takes them", settled)
		}
		stop()
	})
}

func TestWhatTheChainRefusedMayBeTakenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.refuse = func(*chain.Claim) string { return "the escrow holds too little" }
		o.put(claim(1))
		_, stop := carry(t, o, f)
		synctest.Wait()
		wantCounts(t, f, 0, 1)
		f.change(func() { f.refuse = nil })
		pass(time.Minute)
		wantCounts(t, f, 1, 2)
		stop()
	})
}

func TestARefusedTransactionIsPostedClaimByClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.refuseTx = func(claims []chain.Claim) error {
			if len(claims) > 1 {
				return rejectedTx(true)
			}
			if claims[0].Order.Nonce == 2 {
				return rejectedTx(true)
			}
			return nil
		}
		for n := range uint64(5) {
			o.put(claim(n))
		}
		_, stop := carry(t, o, f)
		pass(time.Hour)
		wantCounts(t, f, 4, 4)
		stop()
	})
}

func TestAnAccountWithoutBalanceLosesNoClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		f.balance = chain.Amount{}
		f.refuseTx = func([]chain.Claim) error {
			if f.balance.IsZero() {
				return rejectedTx(false)
			}
			return nil
		}
		o.put(claim(1))
		r, stop := carry(t, o, f)
		pass(24 * 2 * time.Minute)
		if why := r.Missing(); !strings.Contains(why, "nothing to pay fees with") {
			t.Errorf("health: %q", why)
		}
		f.change(func() { f.balance = chain.Hyper(1) })
		pass(time.Minute)
		wantCounts(t, f, 1, 1)
		stop()
	})
}

func TestForgedClaimsAreNotPosted(t *testing.T) {
	zkParts := func(proof string) chain.Claim {
		c := parts(1)
		c.Order.Policy.Policy = chain.PolicyZK{Kernel: "matmul-4", Inputs: []chain.FieldBytes{{1}, {2}}}
		id := c.Order.ID()
		c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = id, id, id
		c.Receipt.Outputs, c.Proof = []chain.FieldBytes{{3}}, []byte(proof)
		return signed(c)
	}
	with := func(change func(*chain.Claim)) chain.Claim {
		c := parts(1)
		change(&c)
		return signed(c)
	}
	broken := func(change func(*chain.Claim)) chain.Claim {
		c := claim(1)
		change(&c)
		return c
	}
	for name, make := range map[string]func() chain.Claim{
		"consumer's signature":      func() chain.Claim { return broken(func(c *chain.Claim) { c.OrderSig[0] ^= 1 }) },
		"cluster's signature":       func() chain.Claim { return broken(func(c *chain.Claim) { c.AcceptanceSig[0] ^= 1 }) },
		"bid's signature":           func() chain.Claim { return broken(func(c *chain.Claim) { c.BidSig[0] ^= 1 }) },
		"receipt's signature":       func() chain.Claim { return broken(func(c *chain.Claim) { c.ReceiptSig[0] ^= 1 }) },
		"attestation":               func() chain.Claim { return broken(func(c *chain.Claim) { c.Attestation[0] ^= 1 }) },
		"no attestation":            func() chain.Claim { return broken(func(c *chain.Claim) { c.Attestation = crypto.Signature{} }) },
		"more usage than signed":    func() chain.Claim { return broken(func(c *chain.Claim) { c.Receipt.Fuel++ }) },
		"bid of another order":      func() chain.Claim { return with(func(c *chain.Claim) { c.Bid.Order[0] ^= 1 }) },
		"receipt of another order":  func() chain.Claim { return with(func(c *chain.Claim) { c.Receipt.Order[0] ^= 1 }) },
		"receipt of another node":   func() chain.Claim { return with(func(c *chain.Claim) { c.Receipt.Node = key("other").Public() }) },
		"another cluster":           func() chain.Claim { return with(func(c *chain.Claim) { c.Acceptance.Cluster = key("other").Public() }) },
		"another chain":             func() chain.Claim { return with(func(c *chain.Claim) { c.Bid.ChainID = "elsewhere" }) },
		"work after the deadline":   func() chain.Claim { return with(func(c *chain.Claim) { c.Receipt.Ended = c.Order.Deadline + 1 }) },
		"work after the bid":        func() chain.Claim { return with(func(c *chain.Claim) { c.Bid.Expiry = c.Receipt.Started - 1 }) },
		"unknown exit":              func() chain.Claim { return with(func(c *chain.Claim) { c.Receipt.Exit = 99 }) },
		"a proof of something else": func() chain.Claim { return zkParts("a bad proof") },
	} {
		synctest.Test(t, func(t *testing.T) {
			o, f := newOutbox(), newChain()
			o.put(make())
			o.put(claim(2))
			_, stop := carry(t, o, f)
			pass(time.Hour)
			if settled, n := f.counts(); settled != 1 || n != 1 || len(f.txs[0]) != 1 {
				t.Errorf("%s: %d claims settled in %d transactions: %v", name, settled, n, f.txs)
			}
			stop()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		proven := zkParts("a good proof")
		proven.Attestation = crypto.Signature{} // a proof needs none
		o.put(proven)
		_, stop := carry(t, o, f)
		synctest.Wait()
		wantCounts(t, f, 1, 1)
		stop()
	})
}

func TestAForgeryDoesNotHideTheRealClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		forged := claim(1)
		forged.ReceiptSig[5] ^= 1
		o.put(forged)
		_, stop := carry(t, o, f)
		synctest.Wait()
		wantCounts(t, f, 0, 0)
		o.put(claim(1))
		synctest.Wait()
		wantCounts(t, f, 1, 1)
		stop()
	})
}

func TestClaimsOutOfTimeAreNotPosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		o.put(claim(1))
		pass(48 * time.Hour)
		_, stop := carry(t, o, f)
		pass(time.Hour)
		wantCounts(t, f, 0, 0)
		stop()
	})
}

func TestHostileOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		good := claim(1)
		raw := codec.Marshal(good)
		o.putRaw(crypto.Digest{1}, []byte("garbage"), nil, append(raw[:len(raw):len(raw)], 0), make([]byte, 1<<20))
		o.putRaw(crypto.Digest{2}, raw) // under another order's name
		o.putRaw(good.Order.ID(), make([][]byte, chain.MaxReplicas+1)...)
		o.put(good)
		o.items = append(o.items, o.items[0]) // a cursor that goes back
		r, stop := carry(t, o, f)
		pass(time.Minute)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" && !strings.Contains(why, "cursor") {
			t.Errorf("health: %q", why)
		}
		stop()
	})
}

func TestServerOutageIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		r, stop := carry(t, o, f)
		synctest.Wait()
		o.fail(errBroken)
		pass(time.Minute)
		if why := r.Missing(); !strings.Contains(why, errBroken.Error()) {
			t.Errorf("health: %q", why)
		}
		if o.reads > 60 {
			t.Errorf("%d reads of a broken outbox in a minute", o.reads)
		}
		first := claim(1)
		o.put(first)
		o.fail(nil)
		pass(time.Minute)
		wantCounts(t, f, 1, 1)
		if why := r.Missing(); why != "" {
			t.Errorf("not healthy again: %s", why)
		}
		// An order that leaves the outbox is forgotten, and a cluster that begins
		// anew with lower cursors is read from its start.
		o.remove(first.Order.ID())
		o.mu.Lock()
		o.cursor = 0
		o.mu.Unlock()
		o.put(claim(2))
		pass(time.Minute)
		wantCounts(t, f, 2, 2)
		stop()
	})
}

func TestConfigRefusesByField(t *testing.T) {
	good := config()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*relay.Config){
		"nexus":     func(c *relay.Config) { c.Nexus = nil },
		"nexus: ":   func(c *relay.Config) { c.Nexus = []string{"ftp://x"} },
		"rpc":       func(c *relay.Config) { c.RPC = nil },
		"rpc: ":     func(c *relay.Config) { c.RPC = []string{"no url"} },
		"cluster: ": func(c *relay.Config) { c.Cluster = "ab" },
		"batch":     func(c *relay.Config) { c.Batch = 17 },
		"http":      func(c *relay.Config) { c.HTTP = "0.0.0.0:1" },
		"log_level": func(c *relay.Config) { c.LogLevel = "loud" },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestRunReadsItsHome runs the real thing against servers that have nothing to
// carry, until it says that it is ready.
func TestRunReadsItsHome(t *testing.T) {
	payer := signer{key("payer")}
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/outbox", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait_ms") != "0" {
			<-r.Context().Done()
		}
		answer(w, api.Outbox{Items: []api.OutboxItem{}})
	})
	mux.HandleFunc("GET /v1/accounts/{address}", func(w http.ResponseWriter, r *http.Request) {
		address := chain.AddressOf(payer.AccountKey())
		if r.PathValue("address") != address.String() {
			t.Errorf("asked for account %s", r.PathValue("address"))
		}
		answer(w, api.Account{Address: address, Balance: chain.Hyper(1), Spendable: chain.Hyper(1)})
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	c := config()
	c.Home, c.Nexus, c.RPC = t.TempDir(), []string{server.URL}, []string{server.URL}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	genesis, err := json.Marshal(testGenesis())
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{relay.GenesisFile: string(genesis), relay.AccountKeyFile: payer.Hex() + "\n"} {
		if err := os.WriteFile(filepath.Join(c.Home, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx, c) }()
	waitHealthy(t, "http://"+c.HTTP+"/healthz", ended)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := os.Remove(filepath.Join(c.Home, relay.AccountKeyFile)); err != nil {
		t.Fatal(err)
	}
	if err := relay.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("without a key: %v", err)
	}
}

// waitHealthy polls as a supervisor does.
func waitHealthy(t *testing.T, url string, ended chan error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(time.Minute)
	for {
		resp, err := client.Get(url)
		if err == nil {
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ticker.C:
		case err := <-ended:
			t.Fatalf("Run: %v", err)
		case <-timeout:
			t.Fatalf("not healthy: %v", err)
		}
	}
}

func testGenesis() *chain.Genesis {
	owner := chain.AddressOf(crypto.AccountKeyOf(key("owner").Public()))
	g := &chain.Genesis{ChainID: testChain, TimeMs: 1, Devnet: true, InsecureKeys: true, Params: chain.DefaultParams()}
	for _, d := range chain.Distribution {
		amount, _ := chain.TotalSupply.ShareFloor(d.Percent, 100)
		a := chain.Allocation{Bucket: d.Bucket, Address: owner, Amount: amount}
		if d.Bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		if d.Bucket == chain.BucketValidators {
			g.Validators = []chain.GenesisValidator{{
				Name: "one", ConsensusKey: key("validator").Public(), NodeKey: key("validator node").Public(), Owner: owner, Stake: amount,
			}}
			continue
		}
		g.Allocations = append(g.Allocations, a)
	}
	return g
}
