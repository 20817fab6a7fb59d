package sdk_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// grownChain has five epochs behind it and blocks in the sixth.
func grownChain(t *testing.T, base chain.TimeMs) *fakeChain {
	c := newFakeChain(t)
	c.base = base
	for range 5 {
		c.seal()
		c.endEpoch()
	}
	c.seal(transferTx(t, 0, chain.Nano(1)))
	c.seal()
	return c
}

func TestClientFollowsTheEpochs(t *testing.T) {
	c := grownChain(t, 0)
	client := connect(t, c)
	a, err := client.VerifiedAccount(t.Context(), address(2))
	if err != nil || a.Balance() != chain.Nano(7) {
		t.Fatalf("%+v %v", a, err)
	}
	for _, height := range []chain.Height{1, 4, 10, 12} {
		if h, err := client.VerifiedHeader(t.Context(), height); err != nil || h.Height() != height {
			t.Errorf("block %d: %v", height, err)
		}
	}
	asked := 0
	c.set(func() {
		for _, r := range c.requests {
			if strings.Contains(r, "/v1/epochs/") {
				asked++
			}
		}
	})
	if asked != 4 { // epochs 2 to 5: genesis tells who is in the first two
		t.Errorf("%d ends of epochs were fetched, want 4", asked)
	}
}

func TestClientBeginsAtACheckpoint(t *testing.T) {
	c := grownChain(t, chain.TimeMs(time.Now().UnixMilli()))
	checkpoint, err := connect(t, c).VerifiedCheckpoint(t.Context(), 4)
	if err != nil || checkpoint.Epoch != 4 || checkpoint.Height != 8 {
		t.Fatalf("%s %v", checkpoint, err)
	}
	if last, err := connect(t, c).VerifiedCheckpoint(t.Context(), 0); err != nil || last.Epoch != 5 {
		t.Fatalf("%s %v", last, err)
	}
	server := httptest.NewServer(c)
	defer server.Close()
	open := func(g *chain.Genesis, checkpoint light.Checkpoint) (*sdk.Client, error) {
		return sdk.New(sdk.Config{Nodes: []string{server.URL}, Genesis: g, Checkpoint: &checkpoint, Attempts: 1})
	}
	old := checkpoint
	old.TimeMs -= chain.TimeMs(c.genesis.Params.UnbondDelayMs) + 60_000
	if _, err := open(c.genesis, old); !errors.Is(err, light.ErrStale) {
		t.Errorf("an old checkpoint: %v, want ErrStale", err)
	}
	client, err := open(c.genesis, checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.VerifiedAccount(t.Context(), address(2)); err != nil {
		t.Error(err)
	}
	if _, err := client.VerifiedHeader(t.Context(), 2); !errors.Is(err, light.ErrRefused) {
		t.Errorf("a header from before the checkpoint: %v", err)
	}
	checkpoint.Digest[0]++
	if client, err = open(c.genesis, checkpoint); err != nil {
		t.Fatal(err)
	}
	if _, err := client.VerifiedAccount(t.Context(), address(2)); !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), "confirming the checkpoint") {
		t.Errorf("a checkpoint that nobody has: %v", err)
	}
}

// A client that idled longer than stake takes to unbond goes on with nothing that it
// knew: whoever it trusted may have nothing to lose any more.
func TestClientThatIdledTooLongRefuses(t *testing.T) {
	const left = 4 * time.Second
	probe := newFakeChain(t)
	c := grownChain(t, chain.TimeMs(time.Now().Add(left).UnixMilli())-chain.TimeMs(probe.genesis.Params.UnbondingMs()))
	checkpoint, err := connect(t, c).VerifiedCheckpoint(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	defer server.Close()
	client, err := sdk.New(sdk.Config{Nodes: []string{server.URL}, Genesis: c.genesis, Checkpoint: &checkpoint, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.VerifiedAccount(t.Context(), address(2)); err != nil {
		t.Fatalf("in time: %v", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * left); ; {
		_, err := client.VerifiedAccount(t.Context(), address(2))
		if errors.Is(err, light.ErrExpired) && strings.Contains(err.Error(), "newer checkpoint") {
			break
		}
		select {
		case <-late:
			t.Fatalf("still trusts what has expired: %v", err)
		case <-tick.C:
		}
	}
	if _, err := connect(t, c).VerifiedAccount(t.Context(), address(2)); err != nil {
		t.Errorf("from genesis: %v", err)
	}
}

func TestLiesAboutEpochsAreRefused(t *testing.T) {
	c := grownChain(t, 0)
	for name, lie := range map[string]func(e *api.EpochEnd){
		"another weight":   func(e *api.EpochEnd) { e.Members[0].Weight++ },
		"nobody":           func(e *api.EpochEnd) { e.Members = nil },
		"not closing":      func(e *api.EpochEnd) { e.Header.Closing = false },
		"no certificate":   func(e *api.EpochEnd) { e.Certificate = nil },
		"a changed digest": func(e *api.EpochEnd) { e.Header.NextCommittee[0]++ },
		"another epoch":    func(e *api.EpochEnd) { *e = *c.epochEnd(1) },
		"a replay": func(e *api.EpochEnd) {
			asked := e.Epoch
			*e = *c.epochEnd(1)
			e.Epoch = asked
		},
	} {
		client := connect(t, c)
		c.set(func() {
			c.lie = func(body any) {
				if e, ok := body.(*api.EpochEnd); ok {
					lie(e)
				}
			}
		})
		if _, err := client.VerifiedHeader(t.Context(), 12); !errors.Is(err, light.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		c.set(func() { c.lie = nil })
		if _, err := client.VerifiedHeader(t.Context(), 12); err != nil {
			t.Errorf("%s: the truth after the lie: %v", name, err)
		}
	}
	// An epoch that nobody has reached.
	client := connect(t, c)
	c.set(func() {
		c.lie = func(body any) {
			if b, ok := body.(*api.Block); ok {
				b.Header.Epoch = 1 << 60
			}
		}
	})
	if _, err := client.VerifiedHeader(t.Context(), 12); !sdk.IsNotFound(err) {
		t.Errorf("an epoch far ahead: %v", err)
	}
}
