package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
)

// signalOne sends a signal to one process of a role.
func (n *network) signalOne(t *testing.T, role string, index int, s syscall.Signal) {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if p.Role == role && p.Index == index {
			if err := syscall.Kill(p.PID, s); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestServiceThroughNexus leases with service terms: the chain draws peers, who probe the node
// and find nothing. A consumer who says otherwise alone, or with one peer, gets nothing. Then
// the node's process stops: the epochs are repriced without anybody's word but the peers', and
// the consumer's escrow has the rebate; the consumer finds the same. When it goes on, no more is. Then the lease is resized: what was
// promised before, and its stake, stay beside what is promised now, also when the lease is over.
func TestServiceThroughNexus(t *testing.T) {
	endToEnd(t)
	k := newTicking(t, 4)
	asked := time.Now()
	id := k.request("--hold", "50", "--notice", "10s", "--availability", "60", "--service-epoch", "10s", "--start", "30s", "--penalty", "0.5", "--lease-stake", "10")
	k.awaitTick(id, asked)
	var shown leaseLine
	show := func() *serviceLine {
		shown = leaseLine{}
		if err := json.Unmarshal(k.lease(id, "show"), &shown); err != nil {
			t.Fatal(err)
		}
		return shown.Service
	}
	until(t, "peers are drawn", time.Minute, func() bool { s := show(); return s != nil && len(s.Peers) == 3 })
	// The service has to run from half a minute on. What is found of an epoch is reported soon after it.
	until(t, "epochs pass", 2*time.Minute, func() bool { return show().Epoch >= 6 })
	if s := show(); len(s.Missed) > 0 || s.Stake != chain.Hyper(10) {
		t.Fatalf("epochs %v of a service that runs were repriced, %s is staked", s.Missed, s.Stake)
	}
	k.lieAboutService(id, &shown)
	consumer := k.probe(id)
	before := k.escrow()
	provider := k.indexOf(t, "agent", id.Node)
	k.signalOne(t, "agent", provider, syscall.SIGSTOP)
	until(t, "an epoch is repriced", 3*time.Minute, func() bool { return len(show().Missed) > 0 })
	service := show()
	if back := k.escrow().Nano() - before.Nano(); back < chain.NanoPerHyper/4 {
		t.Errorf("%d nHYPER came back into escrow, want half of a penalty and more", back)
	}
	if taken := chain.Hyper(10).Nano() - service.Stake.Nano(); taken < chain.NanoPerHyper/2 {
		t.Errorf("%d nHYPER of the stake were taken, want a penalty", taken)
	}
	k.endProbe(consumer)
	k.signalOne(t, "agent", provider, syscall.SIGCONT)
	k.awaitTick(id, time.Now())
	k.resizeService(id)
	until(t, "both terms are known", time.Minute, func() bool { return show() != nil && shown.Former != nil })
	if former := shown.Former; former.Ended == 0 || len(former.Missed) < len(service.Missed) || shown.Service.Terms != former.Terms {
		t.Fatalf("after a resize %+v is known of the terms before, and %+v of those that hold", former, shown.Service)
	}
	k.lease(id, "close")
	until(t, "the lease is over", 2*time.Minute, func() bool { show(); return !shown.Live })
	if over := show(); over == nil || over.Ended == 0 || shown.Former == nil {
		t.Fatalf("after the end %+v is known of the service, and %+v of that before", over, shown.Former)
	}
	until(t, "as much is locked as is staked", time.Minute, func() bool { // the last epochs may be reported for a while
		over := show()
		p, ok := k.provider(id.Node)
		return ok && p.Locked == chain.Nano(over.Stake.Nano()+shown.Former.Stake.Nano())
	})
}

// resizeService resizes the lease, once in an hour.
func (k *ticking) resizeService(id chain.LeaseID) {
	const again = "the terms before may still be reported" // says the client, or the chain if the client is behind
	args := []string{"lease", "resize", "--config", k.path, "--yes", "--node", id.Node.String(), "--order", id.Order.String(), "--hold", "5", "--millicores", "500"}
	until(k.T, "the lease is resized", 2*time.Minute, func() bool { // its node has just come back
		code, _, stderr := invoke(k.T, args...)
		return code == 0 || strings.Contains(stderr, again)
	})
	if code, _, stderr := invoke(k.T, args...); code != exitFailed || !strings.Contains(stderr, again) {
		k.Errorf("a second resize in an hour: exit code %d, %s", code, stderr)
	}
}

// lieAboutService brings reports of an epoch that was kept: of the consumer's own, and of one
// peer that lies for it.
func (k *ticking) lieAboutService(id chain.LeaseID, shown *leaseLine) {
	t := k.T
	e := chain.ServiceEpoch{ChainID: k.target.genesis.ChainID, Lease: id, Terms: shown.Terms, Epoch: uint64(shown.Service.Epoch) - 2}
	report := func(by crypto.PrivateKey) chain.ServiceReport {
		r := chain.ServiceReport{Peer: by.Public(), Sent: 10}
		r.Signature = by.Sign(crypto.DomainService, chain.ServicePayload(e, r))
		return r
	}
	var liar crypto.PrivateKey
	for _, p := range k.describe(t).Processes {
		if p.Role == "agent" {
			key, err := node.ReadKey(p.Home + "/" + node.NodeKeyFile)
			if err != nil {
				t.Fatal(err)
			}
			if key.Public() == shown.Service.Peers[0] {
				liar = key
			}
		}
	}
	for why, reports := range map[string]chain.ServiceReports{
		"is not a peer":     {report(crypto.GenerateKey()), report(crypto.GenerateKey())},
		"1 of 3 peers":      {report(liar)},
		"is not a peer of ": {report(liar), report(crypto.GenerateKey())},
	} {
		_, err := k.target.client.NewBuilder(k.target.account, sdk.BuilderOptions{}).SendAndWait(t.Context(), chain.ReportMiss{Epoch: e, Reports: reports})
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("a lie was answered with %v, want a refusal: %s", err, why)
		}
	}
}

// probe has the consumer probe the lease, which finds that the service runs; nobody else may.
func (k *ticking) probe(id chain.LeaseID) *started {
	args := []string{"lease", "probe", "--config", k.path, "--json", "--node", id.Node.String(), "--order", id.Order.String()}
	if code, stdout, stderr := invoke(k.T, append(args, "--account", "bob")...); code != exitFailed || stdout != "" || !strings.Contains(stderr, "is not the lease's consumer") {
		k.Errorf("another's probe: exit code %d, %q, %s", code, stdout, stderr)
	}
	c := startHypermesh(k.T, args...)
	until(k.T, "the consumer's probe finds the service", 2*time.Minute, func() bool { return strings.Contains(c.stdout.String(), `"probe":"`+probeRuns+`"`) })
	return c
}

// endProbe waits until the consumer has reported an epoch of a service that is away, and ends its probing by
// Ctrl-C.
func (k *ticking) endProbe(c *started) {
	until(k.T, "the consumer finds an epoch missed", 3*time.Minute, func() bool { return strings.Contains(c.stdout.String(), `"finding":"availability"`) })
	if said := c.stdout.String(); !strings.Contains(said, `"probe":"`+probeUnanswered+`"`) {
		k.Errorf("no probe found the node away:\n%s", said)
	}
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		k.Fatal(err)
	}
	if code := c.wait(k.T); code != 0 {
		k.Errorf("after Ctrl-C: exit code %d, %s", code, c.stderr)
	}
}

// escrow is what the consumer has at the cluster.
func (k *ticking) escrow() chain.Amount {
	value, err := k.target.client.VerifiedState(k.Context(), settlement.EscrowKey(k.target.account.Address(), k.describe(k.T).Cluster))
	if err != nil {
		k.Fatal(err)
	}
	raw, ok := value.Get()
	if !ok {
		return chain.Amount{}
	}
	escrow, err := settlement.DecodeEscrow(raw)
	if err != nil {
		k.Fatal(err)
	}
	return escrow.Balance
}

func (k *ticking) provider(id crypto.PublicKey) (settlement.Provider, bool) {
	value, err := k.target.client.VerifiedState(k.Context(), settlement.ProviderKey(id))
	if err != nil {
		k.Fatal(err)
	}
	raw, ok := value.Get()
	if !ok {
		return settlement.Provider{}, false
	}
	p, err := settlement.DecodeProvider(raw)
	if err != nil {
		k.Fatal(err)
	}
	return p, true
}
