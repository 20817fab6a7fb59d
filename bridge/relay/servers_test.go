package relay_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fakeServer is a server of a cluster that knows some servers, and has a page of claims and
// some votes.
type fakeServer struct {
	*httptest.Server
	closing chan struct{}
}

func newServer(t *testing.T, items []api.OutboxItem, votes api.Votes, others ...string) *fakeServer {
	s := &fakeServer{closing: make(chan struct{})}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set(api.ServersHeader, "of two")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Log(err) // whoever asked is gone
		}
	}
	mux.HandleFunc("GET /v1/outbox", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "0" && len(items) > 0 {
			answer(w, api.Outbox{Items: items})
			return
		}
		wait, err := time.ParseDuration(r.URL.Query().Get("wait_ms") + "ms")
		if err != nil {
			t.Error(err)
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		case <-s.closing:
		}
		answer(w, api.Outbox{Items: []api.OutboxItem{}})
	})
	mux.HandleFunc("GET /v1/votes", func(w http.ResponseWriter, _ *http.Request) { answer(w, votes) })
	mux.HandleFunc("GET /v1/addresses", func(w http.ResponseWriter, _ *http.Request) {
		list := api.ServerAddresses{ChainID: testChain, Index: 1, SignedMs: 1}
		for i, url := range append([]string{s.URL}, others...) {
			list.Servers = append(list.Servers, api.ServerAddress{ID: key(string(rune('a' + i))).Public(), URL: url})
		}
		list.Signature = cluster.Sign(crypto.DomainAddresses, api.ServerAddressesPayload(cluster.Public(), &list))
		answer(w, list)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.end)
	return s
}

// end closes the server, once.
func (s *fakeServer) end() {
	select {
	case <-s.closing:
	default:
		close(s.closing)
		s.Close()
	}
}

// homeOf makes the home of a relay that was told of one server, and returns its config.
func homeOf(t *testing.T, server string) relay.Config {
	t.Helper()
	c := config()
	c.Home, c.Nexus, c.Cluster, c.Log = t.TempDir(), []string{server}, cluster.Public().String(), slog.New(slog.DiscardHandler)
	genesis, err := json.Marshal(testGenesis())
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{relay.GenesisFile: string(genesis), relay.AccountKeyFile: key("payer").Hex() + "\n"} {
		if err := os.WriteFile(filepath.Join(c.Home, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// carryAt runs a relay of a home on a fake chain until stop.
func carryAt(t *testing.T, c relay.Config, f *fakeChain) (stop func()) {
	t.Helper()
	deps, err := relay.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	deps.Chain = f
	r, err := relay.New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Carry(ctx) })
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

// until waits for a condition, for a minute and more.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestRelayLearnsOfServers has a relay that was told of one server carry the votes of
// another that joined, and its claims once the first is gone; and a relay that is started
// after that find it too.
func TestRelayLearnsOfServers(t *testing.T) {
	vote := chain.CommitVote{Panel: crypto.Digest{1}, Node: node.Public(), Commitment: crypto.Digest{2}}
	vote.Signature = node.Sign(crypto.DomainVote, chain.VotePayload(testChain, vote.Panel, vote.Commitment))
	paid := claim(1)
	items := []api.OutboxItem{{Cursor: 1, Order: paid.Order.ID(), Claims: [][]byte{codec.Marshal(paid)}}}
	joined := newServer(t, items, api.Votes{Messages: [][]byte{codec.Marshal(chain.Msgs{vote})}})
	first := newServer(t, nil, api.Votes{}, joined.URL)
	c := homeOf(t, first.URL)
	f := newChain()
	stop := carryAt(t, c, f)
	defer stop()
	until(t, "the vote that the server which joined has", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.votes == 1
	})
	first.end()
	settled := func(f *fakeChain) func() bool {
		return func() bool {
			n, _ := f.counts()
			return n == 1
		}
	}
	until(t, "the claim that it has", settled(f))
	stop()

	again := newChain()
	stop = carryAt(t, c, again)
	defer stop()
	until(t, "the claim after a restart", settled(again))
}
