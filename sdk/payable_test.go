package sdk_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// badNodes are nodes of one chain that say nothing one could go by, of a state whose time is as given.
func badNodes(t *testing.T, base chain.TimeMs) map[string]*fakeChain {
	lying := func(lie func(body any)) *fakeChain {
		c := grownChain(t, base)
		c.lie = lie
		return c
	}
	failing := grownChain(t, base)
	failing.refuse = func(string) int { return http.StatusInternalServerError }
	missing := grownChain(t, base)
	missing.refuse = func(path string) int {
		if strings.HasPrefix(path, "/v1/state/") {
			return http.StatusNotFound
		}
		return 0
	}
	return map[string]*fakeChain{
		"another value": lying(func(body any) {
			if s, ok := body.(*api.State); ok {
				s.Proof.Value, s.Proof.Present = []byte{1}, true
			}
		}),
		"no proof": lying(func(body any) {
			if s, ok := body.(*api.State); ok {
				s.Proof = nil
			}
		}),
		"no such committee": lying(func(body any) {
			if e, ok := body.(*api.EpochEnd); ok {
				e.Members = nil
			}
		}),
		"an epoch that nobody has seen": lying(func(body any) {
			if s, ok := body.(*api.State); ok {
				s.Proof.Header.Epoch += 1 << 20
			}
		}),
		"an answer of 500": failing, "an answer of 404": missing,
		"a state of long ago": grownChain(t, base-chain.TimeMs(time.Hour.Milliseconds())),
	}
}

// TestABadNodeHoldsNoKeyBack: what one node says that lies, errs or is behind does not count while another tells.
func TestABadNodeHoldsNoKeyBack(t *testing.T) {
	base := chain.TimeMs(time.Now().Add(-20 * time.Second).UnixMilli())
	good := grownChain(t, base)
	claim := &chain.Claim{Order: chain.Order{ChainID: testChain, Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Fair: true}}
	for name, bad := range badNodes(t, base) {
		client := newClient(t, sdk.Config{Nodes: []string{server(t, bad), dead(t), server(t, good)}, Genesis: good.genesis, Attempts: sdk.EachOnce})
		if err := client.CheckPayable(t.Context(), claim); !known(err) {
			t.Errorf("%s: %v, want that it is not paid", name, err)
		}
		alone := newClient(t, sdk.Config{Nodes: []string{server(t, bad)}, Genesis: good.genesis})
		if err := alone.CheckPayable(t.Context(), claim); err == nil || known(err) {
			t.Errorf("%s, with nobody beside: %v, want that nothing is known", name, err)
		}
		old := name == "a state of long ago" // which nobody but CheckPayable minds
		if _, err := newClient(t, sdk.Config{Nodes: []string{server(t, bad)}, Genesis: good.genesis}).VerifiedState(t.Context(), []byte("nothing")); (err == nil) != old {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestANodeThatHangsHoldsNoKeyBack, whether it says nothing at all or speaks of an epoch whose beginning it never shows.
func TestANodeThatHangsHoldsNoKeyBack(t *testing.T) {
	base := chain.TimeMs(time.Now().Add(-20 * time.Second).UnixMilli())
	good, silent, ahead := grownChain(t, base), grownChain(t, base), grownChain(t, base)
	ahead.lie = func(body any) {
		if s, ok := body.(*api.State); ok {
			s.Proof.Header.Epoch++
		}
	}
	claim := &chain.Claim{Order: chain.Order{ChainID: testChain, Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Fair: true}}
	nobody := newClient(t, sdk.Config{Nodes: []string{server(t, hanging(silent, "/")), server(t, hanging(silent, "/")), server(t, good)}, Genesis: good.genesis, Timeout: time.Hour})
	if err := nobody.CheckPayable(t.Context(), claim); !known(err) {
		t.Errorf("nodes that never answer: %v, want that it is not paid", err)
	}
	asked := hanging(ahead, "/v1/epochs/")
	next := newClient(t, sdk.Config{Nodes: []string{server(t, asked), server(t, good)}, Genesis: good.genesis, Timeout: 2 * time.Second, Attempts: 60})
	if err := next.CheckPayable(t.Context(), claim); !known(err) {
		t.Errorf("an epoch that nobody has seen: %v, want that it is not paid", err)
	}
	if n := asked.hung.Load(); n == 0 || n > 8 {
		t.Errorf("who never showed the end of an epoch was asked %d times", n)
	}
}

// hangs is a node that never answers what begins like that.
type hangs struct {
	node *fakeChain
	path string
	hung atomic.Int64
}

func hanging(node *fakeChain, path string) *hangs { return &hangs{node: node, path: path} }

func (h *hangs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, h.path) {
		h.hung.Add(1)
		<-r.Context().Done()
		return
	}
	h.node.ServeHTTP(w, r)
}

func known(err error) bool {
	_, is := errors.AsType[*sdk.UnpayableError](err)
	return is
}

// TestABadNodeIsAskedOnce, and one that is away for a while as often as ever.
func TestABadNodeIsAskedOnce(t *testing.T) {
	bad, busy := grownChain(t, 0), grownChain(t, 0)
	bad.lie = func(body any) {
		if s, ok := body.(*api.State); ok {
			s.Proof = nil
		}
	}
	refused := 0
	busy.refuse = func(path string) int {
		if strings.HasPrefix(path, "/v1/state/") && refused < 2 {
			refused++
			return http.StatusServiceUnavailable
		}
		return 0
	}
	client := newClient(t, sdk.Config{Nodes: []string{server(t, bad), server(t, busy)}, Genesis: bad.genesis})
	if _, err := client.VerifiedState(t.Context(), []byte("nothing")); err != nil {
		t.Fatal(err)
	}
	if n, m := bad.count("GET /v1/state/"), busy.count("GET /v1/state/"); n != 1 || m != 3 {
		t.Errorf("who lies was asked %d times, who was busy %d times, want 1 and 3", n, m)
	}
	busy.set(func() { busy.lie = bad.lie })
	if _, err := client.VerifiedState(t.Context(), []byte("nothing")); !errors.Is(err, light.ErrRefused) {
		t.Errorf("two that lie: %v, want ErrRefused", err)
	}
}
