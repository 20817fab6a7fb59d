package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// leaseWorld is a network on which a consumer leases a node, and has the keys of all.
type leaseWorld struct {
	*testing.T
	net               *network
	target            *target
	cluster, provider crypto.PrivateKey
	id                chain.LeaseID
}

func newLeaseWorld(t *testing.T) *leaseWorld {
	w := &leaseWorld{T: t, net: startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer")}
	var err error
	if w.target, err = newTarget(w.net.describe(t), "alice"); err != nil {
		t.Fatal(err)
	}
	if err := w.target.client.EnsureEscrow(t.Context(), w.target.account, w.net.describe(t).Cluster, chain.Hyper(100)); err != nil {
		t.Fatal(err)
	}
	for path, key := range map[string]*crypto.PrivateKey{"nexus-0/cluster.key": &w.cluster, "agent-0/" + node.NodeKeyFile: &w.provider} {
		if *key, err = node.ReadKey(filepath.Join(w.net.dir, filepath.FromSlash(path))); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// deal writes a deal, signed by all three parties, that the node keeps so many millicores at
// 1 nHYPER each a second, paid out of an amount; and sets the lease's id if it opens one.
func (w *leaseWorld) deal(resizes crypto.Digest, millicores uint64, held chain.Amount) (path string) {
	w.Helper()
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	order := chain.Order{
		ChainID: w.net.describe(w.T).ChainID, Consumer: w.target.account.AccountKey(), Cluster: w.cluster.Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("service")), Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: prices, MaxCost: held,
		Deadline: chain.TimeMs(time.Now().Add(time.Minute).UnixMilli()),
		Term:     &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: millicores}}, Resizes: resizes, NoticeMs: 1_000},
	}
	id := order.ID()
	if resizes.IsZero() {
		w.id = chain.LeaseID{Node: w.provider.Public(), Order: id}
	}
	d := chain.LeaseDeal{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: order.ChainID, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: held},
		Bid:        chain.Bid{ChainID: order.ChainID, Order: id, Node: w.provider.Public(), Prices: prices, Expiry: order.Deadline},
	}
	var err error
	if d.OrderSig, err = w.target.account.Sign(crypto.DomainOrder, order.Payload()); err != nil {
		w.Fatal(err)
	}
	d.AcceptanceSig = w.cluster.Sign(crypto.DomainAcceptance, d.Acceptance.Payload())
	d.BidSig = w.provider.Sign(crypto.DomainBid, d.Bid.Payload())
	d.AwardSig = w.cluster.Sign(crypto.DomainAward, d.Bid.Payload())
	data, err := json.Marshal(api.DealToJSON(d))
	if err != nil {
		w.Fatal(err)
	}
	path = filepath.Join(w.TempDir(), "deal.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// lease returns a subcommand's arguments about the lease.
func (w *leaseWorld) lease(what string, args ...string) []string {
	return append([]string{"lease", what, "--config", w.net.path, "--json", "--node", w.id.Node.String(), "--order", w.id.Order.String()}, args...)
}

// do sends a message, and waits until the state that it made is proven.
func (w *leaseWorld) do(args ...string) {
	w.Helper()
	var sent sentResult
	out, err := hypermesh(w.T, append(args, "--yes")...)
	if err != nil || json.Unmarshal(out, &sent) != nil {
		w.Fatalf("%q: %v: %s", args, err, out)
	}
	if err := w.target.client.WaitHeight(w.Context(), sent.Height+1); err != nil {
		w.Fatal(err)
	}
}

func (w *leaseWorld) show() (line leaseLine) {
	w.Helper()
	out, err := hypermesh(w.T, w.lease("show")...)
	if err != nil || json.Unmarshal(out, &line) != nil {
		w.Fatalf("lease show: %v: %s", err, out)
	}
	return line
}

// waitEnd waits until the lease is gone.
func (w *leaseWorld) waitEnd() {
	w.Helper()
	for {
		v, err := w.target.client.VerifiedLease(w.Context(), w.id)
		if err != nil {
			w.Fatal(err)
		}
		if _, live := v.Get(); !live {
			return
		}
		if err := w.target.client.WaitHeight(w.Context(), v.Height()+2); err != nil {
			w.Fatal(err)
		}
	}
}

// TestLeaseCommands opens a lease on a running network, changes it in every way, and
// reads from proofs what became of it, until it is gone.
func TestLeaseCommands(t *testing.T) {
	endToEnd(t)
	w := newLeaseWorld(t)
	open := []string{"lease", "open", "--config", w.net.path, "--json", "--deal", w.deal(crypto.Digest{}, 1_000, chain.Hyper(10))}
	if w.show().Live {
		t.Fatal("a lease is there before it is opened")
	}
	w.do(open...)
	opened := w.show()
	if !opened.Live || opened.Held != chain.Hyper(10) || opened.Closing {
		t.Fatalf("opened %+v", opened)
	}
	if out, err := hypermesh(t, append(open, "--yes")...); err == nil {
		t.Errorf("the deal was used twice: %s", out)
	}
	w.do(w.lease("extend", "--amount", "5")...)
	if got := w.show(); got.Held != chain.Hyper(15) || got.Expires <= opened.Expires {
		t.Fatalf("extended to %+v", got)
	}
	w.do(w.lease("collect")...)
	if got := w.show(); got.PaidUntil <= opened.PaidUntil || !got.Held.Less(chain.Hyper(15)) {
		t.Fatalf("collected %+v", got)
	}
	w.do(w.lease("resize", "--deal", w.deal(w.id.Order, 3_000, chain.Hyper(1)))...)
	if got := w.show(); uint64(got.Rate) != 3*uint64(opened.Rate) || got.Terms == opened.Terms {
		t.Fatalf("resized to %+v", got)
	}
	w.do(w.lease("close", "--account", "provider-0")...)
	w.waitEnd()
	if out, err := hypermesh(t, "query", "supply", "--verify", "--rpc", w.net.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v: %s", err, out)
	}
}
