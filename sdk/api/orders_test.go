package api_test

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func ordersKey(n byte) crypto.PrivateKey {
	key, err := crypto.ParsePrivateKey(strings.Repeat(hex.EncodeToString([]byte{n}), 32))
	if err != nil {
		panic(err)
	}
	return key
}

// someOrders are orders of one consumer for two specifications.
func someOrders() api.Orders {
	key := ordersKey(7)
	var o api.Orders
	for i := range 2 {
		o.Specs = append(o.Specs, job.Spec{
			Label: "fixture", Work: job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}}}, InputBytes: uint64(1 + i),
			Resources: job.Resources{Millicores: 10, MemoryMiB: 1}, Limits: job.DefaultLimits(),
		})
	}
	for i := range 5 {
		order := chain.Order{
			ChainID: "fixture-1", Consumer: crypto.AccountKeyOf(key.Public()), Nonce: uint64(i), Cluster: key.Public(), Spec: o.Specs[i%2].Digest(),
			Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 1}}, MaxCost: chain.Nano(5), Deadline: 9,
		}
		o.List = append(o.List, api.SignedOrder{Order: order, Signature: key.Sign(crypto.DomainOrder, order.Payload())})
	}
	return o
}

func TestOrdersFixture(t *testing.T) {
	o := someOrders()
	verdicts := []api.OrderVerdict{{ID: o.List[0].Order.ID()}, {ID: o.List[1].Order.ID(), Rule: "quota", Reason: "too many"}}
	for name, raw := range map[string][]byte{"orders": o.Encode(), "order_verdicts": api.EncodeOrderVerdicts(verdicts)} {
		golden.CheckHex(t, "testdata/"+name+".hex", raw)
	}
	again, digests, err := api.DecodeOrders(o.Encode())
	if err != nil || string(again.Encode()) != string(o.Encode()) || len(digests) != 2 || digests[1] != o.Specs[1].Digest() {
		t.Errorf("%+v %v: %v", again, digests, err)
	}
	said, err := api.DecodeOrderVerdicts(api.EncodeOrderVerdicts(verdicts))
	if err != nil || !slices.Equal(said, verdicts) || said[0].Again() || !said[1].Again() {
		t.Errorf("%+v: %v", said, err)
	}
}

func TestOrdersBounds(t *testing.T) {
	for want, change := range map[string]func(*api.Orders){
		"orders: is empty":                     func(o *api.Orders) { o.List = nil },
		"specs: is empty":                      func(o *api.Orders) { o.Specs = nil },
		"513 elements":                         func(o *api.Orders) { o.List = slices.Repeat(o.List[:1], api.MaxOrders+1) },
		"specs[1]: no order names it":          func(o *api.Orders) { o.List = o.List[:1] },
		"specs[2]: no order names it, or it i": func(o *api.Orders) { o.Specs = append(o.Specs, o.Specs[0]) },
		"orders[3]: is of another consumer": func(o *api.Orders) {
			o.List[3].Order.Consumer = crypto.AccountKeyOf(ordersKey(8).Public())
		},
		"limit 1048576": func(o *api.Orders) {
			wasm := job.Wasm{Args: slices.Repeat([]string{strings.Repeat("x", 10_000)}, 110)}
			o.Specs[0].Work = job.WorkField{Work: wasm}
		},
	} {
		o := someOrders()
		change(&o)
		if _, _, err := api.DecodeOrders(o.Encode()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	o := someOrders()
	raw := o.Encode()
	for cut := range len(raw) {
		if _, _, err := api.DecodeOrders(raw[:cut]); err == nil {
			t.Fatalf("%d of %d bytes are taken", cut, len(raw))
		}
	}
}

func FuzzOrders(f *testing.F) {
	o := someOrders()
	f.Add(o.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, _, err := api.DecodeOrders(raw)
		if err == nil && string(o.Encode()) != string(raw) {
			t.Fatal("orders have two encodings")
		}
	})
}
