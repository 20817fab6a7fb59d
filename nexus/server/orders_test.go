package server_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// manyOrders returns n signed orders of small jobs.
func manyOrders(t testing.TB, n int, change func(i int, o *chain.Order)) *api.Orders {
	t.Helper()
	spec := testSpec(program)
	spec.Resources.Millicores, spec.Resources.MemoryMiB, spec.Limits.MemoryBytes = 1, 1, 1<<20
	out := &api.Orders{Specs: []job.Spec{spec}}
	for i := range n {
		order := testOrder(chain.PolicyNone{})
		order.MaxCost = chain.Nano(1_000_000)
		change(i, &order)
		signed, err := sdk.Sign(order, spec, signer{key(consumerKey)})
		if err != nil {
			t.Fatal(err)
		}
		out.List = append(out.List, signed)
	}
	return out
}

func (c *cluster) submitOrders(i int, o *api.Orders) []api.OrderVerdict {
	c.t.Helper()
	status, body := c.patiently(func() (int, []byte) {
		return c.do(i, http.MethodPost, "/v1/orders", http.Header{"Content-Type": {api.ContentCBOR}}, bytes.NewReader(o.Encode()))
	})
	if status != http.StatusOK {
		c.t.Fatalf("submitting orders: %d %s", status, body)
	}
	verdicts, err := api.DecodeOrderVerdicts(body)
	if err != nil || len(verdicts) != len(o.List) {
		c.t.Fatalf("%d verdicts of %d orders: %v", len(verdicts), len(o.List), err)
	}
	for k := range verdicts {
		if verdicts[k].ID != o.List[k].Order.ID() {
			c.t.Fatalf("verdict %d is of another order", k)
		}
	}
	return verdicts
}

// TestNobodyLooksForBlobsForNothing submits orders for a specification whose blob nobody
// has: that it is missing, only who signed and has the escrow finds out.
func TestNobodyLooksForBlobsForNothing(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	o := manyOrders(t, 5, func(i int, o *chain.Order) {
		switch i {
		case 2:
			o.MaxCost = chain.Hyper(1_000_000)
		case 3:
			o.ChainID = "another-chain"
		}
	})
	o.List[0].Signature[3] ^= 1
	o.List[1].Signature[3] ^= 1
	for i, v := range c.submitOrders(0, o) {
		if want := []string{api.RuleSignature, api.RuleSignature, "escrow", "chain", api.RuleInputs}[i]; v.Rule != want {
			t.Errorf("order %d: %q: %s, want %q", i, v.Rule, v.Reason, want)
		}
	}
}

// TestOrdersAreAcceptedEachForItself submits orders of which some are wrong, at the
// leader and at a follower, twice: what is accepted is known to every server, and
// what is not to none.
func TestOrdersAreAcceptedEachForItself(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	c.upload(leader, blob.Sum([]byte(program)), program)
	for _, at := range []int{leader, (leader + 1) % 3} {
		o := manyOrders(t, 100, func(i int, o *chain.Order) {
			switch i {
			case 10:
				o.ChainID = "another-chain"
			case 20:
				o.Cluster = key(consumerKey).Public()
			case 30:
				o.Deadline = 1
			case 40:
				o.MaxCost = chain.Hyper(1_000)
			}
		})
		o.List[50].Signature[3] ^= 1
		o.List[60].Order.Spec = crypto.Digest{9} // and the signature is of another order
		want := map[int]string{10: "chain", 20: "cluster", 30: "deadline", 40: "escrow", 50: api.RuleSignature, 60: api.RuleForm}
		for range 2 { // the second time changes nothing
			for i, v := range c.submitOrders(at, o) {
				if v.Rule != want[i] || (v.Reason == "") != (v.Rule == "") {
					t.Errorf("order %d: %q: %s, want %q", i, v.Rule, v.Reason, want[i])
				}
			}
		}
		for i := range o.List {
			status, body := c.patiently(func() (int, []byte) {
				return c.do((at+2)%3, http.MethodGet, "/v1/jobs/"+o.List[i].Order.ID().String()+"?consistency=linearizable", nil, nil)
			})
			if _, refused := want[i]; (status == http.StatusNotFound) != refused || status != http.StatusOK && status != http.StatusNotFound {
				t.Errorf("order %d: %d %s", i, status, body)
			}
		}
	}
}

// TestOrdersWithoutTheirBlobs sees every order refused whose program nobody has
// uploaded, and the body refused that is none.
func TestOrdersWithoutTheirBlobs(t *testing.T) {
	c := newCluster(t, 1)
	for i, v := range c.submitOrders(c.waitLeader(), manyOrders(t, 3, func(int, *chain.Order) {})) {
		if v.Rule != api.RuleInputs {
			t.Errorf("order %d: %+v", i, v)
		}
	}
	header := http.Header{"Content-Type": {api.ContentCBOR}}
	if status, body := c.do(0, http.MethodPost, "/v1/orders", header, bytes.NewReader([]byte{0x82, 0x80, 0x80})); status != http.StatusUnprocessableEntity {
		t.Errorf("no orders: %d %s", status, body)
	}
	if status, body := c.do(0, http.MethodPost, "/v1/orders", header, bytes.NewReader(make([]byte, api.MaxOrdersBytes+1))); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too many bytes: %d %s", status, body)
	}
}

// TestABurstIsAcceptedBeforeItIsPlaced has auctions wait while many orders are
// submitted, for a bounded time, and then take turns.
func TestABurstIsAcceptedBeforeItIsPlaced(t *testing.T) {
	now := time.Now()
	a := server.NewAuctioneer(300, now)
	for _, x := range []struct {
		after     time.Duration
		admitting int64
		want      int
	}{
		{0, server.Burst, 0},
		{server.MaxHeldUp - 1, server.Burst, 0},
		{server.MaxHeldUp - 1, server.Burst - 1, server.RoundSize}, // few orders are no burst
		{server.MaxHeldUp, server.Burst, server.RoundSize},
	} {
		n, again := a.Next(now.Add(x.after), x.admitting)
		if n != x.want {
			t.Errorf("%d orders are submitted, after %v: %d auctions open, want %d", x.admitting, x.after, n, x.want)
		}
		if again <= 0 {
			t.Errorf("after %v: 300 wait, and nobody looks again", x.after)
		}
	}
	// A round was opened: beside a burst the next comes later, and without one only
	// as many as were answered, or all when those who were asked had their time.
	at := now.Add(server.MaxHeldUp)
	answer := a.Open(server.RoundSize, at)
	for _, x := range []struct {
		after     time.Duration
		admitting int64
		answered  int
		want      int
	}{
		{time.Millisecond, server.Burst, 0, 0},
		{time.Millisecond, 0, 0, 0},
		{time.Millisecond, 0, 5, 5},
		{time.Millisecond, server.Burst, 0, 0},
		{server.RoundPace, server.Burst, 0, 44},
	} {
		for range x.answered {
			answer()
		}
		if n, _ := a.Next(at.Add(x.after), x.admitting); n != x.want {
			t.Errorf("%v after a round, with %d submitted: %d auctions open, want %d", x.after, x.admitting, n, x.want)
		}
	}
}

// TestFollowersForgetWhatIsSettled has an agent end more assignments than it may
// hold: a server that does not lead acknowledges none, and yet keeps the session.
func TestFollowersForgetWhatIsSettled(t *testing.T) {
	if err := server.KeepDones(2*job.MaxHeld, func(int) bool { return true }); err != nil {
		t.Error(err)
	}
	if err := server.KeepDones(2*job.MaxHeld, func(int) bool { return false }); err == nil {
		t.Error("an agent holds more than it may")
	}
}
