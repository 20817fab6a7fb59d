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
	"github.com/hypermesh/hypermesh/wallet"
)

// leaseDeal signs, as all three parties, that a node keeps so many millicores at 1 nHYPER
// each a second, paid out of an amount.
func leaseDeal(t *testing.T, n *network, consumer wallet.Account, resizes crypto.Digest, millicores uint64, held chain.Amount) chain.LeaseDeal {
	t.Helper()
	key := func(path ...string) crypto.PrivateKey {
		k, err := node.ReadKey(filepath.Join(append([]string{n.dir}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	cluster, provider := key("nexus-0", "cluster.key"), key("agent-0", node.NodeKeyFile)
	now := chain.TimeMs(time.Now().UnixMilli())
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	order := chain.Order{
		ChainID: n.describe(t).ChainID, Consumer: consumer.AccountKey(), Nonce: millicores, Cluster: cluster.Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("service")), Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: prices, MaxCost: held,
		Deadline: now + 60_000, Term: &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: millicores}}, Resizes: resizes, NoticeMs: 1_000},
	}
	id := order.ID()
	d := chain.LeaseDeal{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: order.ChainID, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: held},
		Bid:        chain.Bid{ChainID: order.ChainID, Order: id, Node: provider.Public(), Prices: prices, Expiry: order.Deadline},
	}
	var err error
	if d.OrderSig, err = consumer.Sign(crypto.DomainOrder, order.Payload()); err != nil {
		t.Fatal(err)
	}
	d.AcceptanceSig = cluster.Sign(crypto.DomainAcceptance, d.Acceptance.Payload())
	d.BidSig = provider.Sign(crypto.DomainBid, d.Bid.Payload())
	return d
}

// TestLeaseCommands opens a lease on a running network, changes it in every way, and
// reads from proofs what became of it, until it is gone and the escrow has the rest.
func TestLeaseCommands(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer")
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := target.client.EnsureEscrow(t.Context(), target.account, n.describe(t).Cluster, chain.Hyper(100)); err != nil {
		t.Fatal(err)
	}
	write := func(name string, d chain.LeaseDeal) string {
		data, err := json.Marshal(api.DealToJSON(d))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := leaseDeal(t, n, target.account, crypto.Digest{}, 1_000, chain.Hyper(10))
	id := []string{"--node", first.Bid.Node.String(), "--order", first.Order.ID().String()}
	do := func(what string, args ...string) {
		t.Helper()
		var sent sentResult
		out, err := hypermesh(t, append([]string{"lease", what, "--config", n.path, "--yes", "--json"}, args...)...)
		if err != nil || json.Unmarshal(out, &sent) != nil {
			t.Fatalf("lease %s: %v: %s", what, err, out)
		}
		if err := target.client.WaitHeight(t.Context(), sent.Height+1); err != nil { // a state is proven by the block after it
			t.Fatal(err)
		}
	}
	show := func() (line leaseLine) {
		t.Helper()
		out, err := hypermesh(t, append([]string{"lease", "show", "--config", n.path, "--json"}, id...)...)
		if err != nil || json.Unmarshal(out, &line) != nil {
			t.Fatalf("lease show: %v: %s", err, out)
		}
		return line
	}
	if show().Live {
		t.Fatal("a lease is there before it is opened")
	}
	path := write("deal.json", first)
	do("open", "--deal", path)
	opened := show()
	if !opened.Live || opened.Held != chain.Hyper(10) || opened.Closing {
		t.Fatalf("opened %+v", opened)
	}
	if out, err := hypermesh(t, "lease", "open", "--deal", path, "--config", n.path, "--yes"); err == nil {
		t.Errorf("the deal was used twice: %s", out)
	}
	do("extend", append(id, "--amount", "5")...)
	if got := show(); got.Held != chain.Hyper(15) || got.Expires <= opened.Expires {
		t.Fatalf("extended to %+v", got)
	}
	do("collect", id...)
	collected := show()
	if collected.PaidUntil <= opened.PaidUntil || !collected.Held.Less(chain.Hyper(15)) {
		t.Fatalf("collected %+v", collected)
	}
	do("resize", append(id, "--deal", write("bigger.json", leaseDeal(t, n, target.account, first.Order.ID(), 3_000, chain.Hyper(1))))...)
	if got := show(); uint64(got.Rate) != 3*uint64(opened.Rate) || got.Terms == opened.Terms {
		t.Fatalf("resized to %+v", got)
	}
	do("close", append(id, "--account", "provider-0")...)
	for live := true; live; { // until the notice of a second is over
		v, err := target.client.VerifiedLease(t.Context(), chain.LeaseID{Node: first.Bid.Node, Order: first.Order.ID()})
		if err != nil {
			t.Fatal(err)
		}
		if _, live = v.Get(); live {
			if err := target.client.WaitHeight(t.Context(), v.Height()+2); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v: %s", err, out)
	}
}
