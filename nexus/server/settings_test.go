package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// The first leader's file begins the settings of all; the operator's change is on
// every server, and after a restart, whatever their files say.
func TestSettingsAreTheSameOnEveryServer(t *testing.T) {
	n := 0
	c := newClusterWith(t, 3, func(cfg *server.Config) {
		n++
		cfg.AuctionWindow = time.Duration(n) * 10 * time.Millisecond // each says otherwise
		cfg.Retention, cfg.MaxOutbox = time.Duration(n)*time.Hour, n*100
	})
	c.waitLeader()
	same := func(version api.Uint64) job.Settings {
		t.Helper()
		var first api.ClusterSettings
		for i := range 3 {
			until(t, "settings everywhere", func() bool {
				got := get[api.ClusterSettings](c, i, "/v1/settings")
				if i == 0 {
					first = got
				}
				return got.Version == version && got == first
			})
		}
		return first.Settings
	}
	first := same(1)
	if by := first.AuctionWindowMs / 10; by < 1 || by > 3 || first.AuctionWindowMs != by*10 || first.RetentionMs != by*3_600_000 || first.MaxOutbox != int(by)*100 {
		t.Errorf("the first settings are %+v, no server's", first)
	}
	client, err := sdk.New(sdk.Config{Nexus: []string{c.url(0), c.url(1), c.url(2)}})
	if err != nil {
		t.Fatal(err)
	}
	change := func(k crypto.PrivateKey, to uint64) error {
		_, err := client.ChangeSettings(t.Context(), testChain, k, func(s *job.Settings) error {
			s.AuctionWindowMs, s.MaxOutbox = to, 1
			return nil
		})
		return err
	}
	if err := change(key(clusterKey), 7); err != nil {
		t.Fatal(err)
	}
	if got := same(2); got.AuctionWindowMs != 7 {
		t.Errorf("the settings are %+v", got)
	}
	if err := change(key(consumerKey), 8); err == nil || !strings.Contains(err.Error(), "only who has the cluster's key") {
		t.Errorf("another's key: %v", err)
	}
	if err := change(key(clusterKey), 0); err == nil || !strings.Contains(err.Error(), "auction_window_ms is 0, want 1 to 60000") {
		t.Errorf("out of range: %v", err)
	}
	old := api.SettingsChange{Version: 1, Settings: same(2)}
	old.Signature = key(clusterKey).Sign(crypto.DomainSettings, api.SettingsChangePayload(testChain, key(clusterKey).Public(), &old))
	if status, body := c.post(0, "/v1/settings", old); status != http.StatusConflict || !strings.Contains(string(body), "look again") {
		t.Errorf("an old version: %d %s", status, body)
	}
	leader := c.waitLeader()
	c.kill(leader)
	c.start(leader)
	c.waitLeader()
	if got := same(2); got.AuctionWindowMs != 7 {
		t.Errorf("after a restart the settings are %+v", got)
	}
}

// A quote says what the work costs and that it begins at once; once the room is
// taken, when it could begin at the latest; and of what no node offers, that.
func TestQuotesSayWhen(t *testing.T) {
	c := newCluster(t, 1)
	hold := make(chan struct{})
	c.agent(1, func(a *fakeAgent) {
		a.run = func(ctx context.Context, _ job.Assignment) string {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return "done"
		}
	})
	defer close(hold)
	c.waitNodes(0, 1)
	spec := testSpec(program)
	spec.Resources.Millicores = 4_000 // all of it
	quote := func(spec job.Spec) (q api.Quote) {
		t.Helper()
		client, err := sdk.New(sdk.Config{Nexus: []string{c.url(0)}})
		if err == nil {
			q, err = client.Quote(t.Context(), spec, chain.PolicyNone{}, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	now := chain.TimeMs(time.Now().UnixMilli())
	if q := quote(spec); len(q.Bids) != 1 || q.MaxCost.IsZero() || q.Start < now || q.Start > now+10_000 || q.Ahead != 0 || q.Nodes != 1 || q.Looked != 1 {
		t.Errorf("a free node: %+v", q)
	}
	c.upload(0, spec.Work.Work.(job.Wasm).Module, program)
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), spec)
	if status, body := c.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	j := c.waitJob(0, id, job.Running)
	ends := j.Runs[0].PlacedMs + chain.TimeMs(spec.Limits.WallMs)
	if q := quote(spec); len(q.Bids) != 0 || !q.MaxCost.IsZero() || q.Start != ends || q.Reason == "" || len(q.Excluded) != 1 || q.Excluded[0].Reason != "not enough free cpu" {
		t.Errorf("a node that works until %d: %+v", ends, q)
	}
	request, id = signedJob(t, testOrder(chain.PolicyNone{}), spec)
	c.post(0, "/v1/jobs", request)
	c.waitJob(0, id, job.Queued)
	if q := quote(spec); q.Ahead != 1 || q.Start != ends+chain.TimeMs(spec.Limits.WallMs) {
		t.Errorf("behind one that waits: %+v", q)
	}
	spec.Region = "mars"
	if q := quote(spec); q.Start != 0 || q.Excluded[0] != (api.Exclusion{Reason: "other region", Nodes: 1}) {
		t.Errorf("of what no node offers: %+v", q)
	}
}
