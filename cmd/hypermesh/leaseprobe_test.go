package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

// probeWorld is a consumer that probes a lease through a cluster that does as serve says.
type probeWorld struct {
	*testing.T
	*leaseProber
	node  crypto.PrivateKey
	lines strings.Builder
	heard []job.Message
	serve func(m job.Message) (job.Message, int) // nil: an empty answer
}

func newProbeWorld(t *testing.T) *probeWorld {
	w := &probeWorld{T: t, node: crypto.PrivateKeyFromSeed([32]byte{1})}
	account := wallet.NewAccount("consumer", crypto.PrivateKeyFromSeed([32]byte{2}))
	at := chain.TimeMs(time.Now().UnixMilli())
	seen := sdk.Promised{
		At: at, Live: true,
		Lease:   settlement.Lease{Consumer: account.Address(), Order: crypto.Digest{4}, Since: at - 100_000, Expires: at + 3_600_000, Promised: true},
		Service: settlement.Service{Terms: chain.ServiceTerms{EpochMs: 10_000, AvailabilityBps: 9_000, RebateBps: 1}},
	}
	w.leaseProber = newLeaseProber(&sender{genesis: &chain.Genesis{ChainID: "probe-1"}, account: account}, chain.LeaseID{Node: w.node.Public(), Order: crypto.Digest{3}}, &seen)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var body api.PeerMessage
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/peers" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		m, err := job.DecodeMessage(body.Message)
		if err != nil {
			t.Error(err)
		}
		w.heard = append(w.heard, m)
		answer, status := w.serve(m)
		if body.Message = []byte{}; answer != nil {
			body.Message = job.EncodeMessage(answer)
		}
		out.Header().Set("Content-Type", api.ContentJSON)
		out.WriteHeader(status)
		if err := json.NewEncoder(out).Encode(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	var err error
	if w.cluster, err = sdk.New(sdk.Config{Nexus: []string{server.URL}, Attempts: sdk.EachOnce}); err != nil {
		t.Fatal(err)
	}
	w.out, w.json = &w.lines, true
	return w
}

// said returns what was printed since, one line an element.
func (w *probeWorld) said() (lines []probeLine) {
	for text := range strings.Lines(w.lines.String()) {
		var line probeLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			w.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	w.lines.Reset()
	return lines
}

// TestProbesAreOfOwnLeases: no other key, no lease without terms, and none that is over is probed.
func TestProbesAreOfOwnLeases(t *testing.T) {
	w := newProbeWorld(t)
	if err := mayProbe(&w.seen, w.id, w.account.Address()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*sdk.Promised){
		"is not the lease's consumer, who is ": func(p *sdk.Promised) { p.Lease.Consumer = chain.Address{9} },
		"has no lease of order":                func(p *sdk.Promised) { *p = sdk.Promised{At: p.At} },
		"nothing is promised of lease":         func(p *sdk.Promised) { p.Live, p.Lease.Promised = false, false },
		", or it is over":                      func(p *sdk.Promised) { p.Live = false }, // its service went between two looks
		"the lease was over at ":               func(p *sdk.Promised) { p.At = p.Lease.Expires },
		"the lease was over":                   func(p *sdk.Promised) { p.Service.Over = &p.Lease },
	} {
		seen := w.seen
		change(&seen)
		if err := mayProbe(&seen, w.id, w.account.Address()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestProbeThroughCluster: what the node signed counts, and that it gives no answer; nothing else says
// anything of it.
func TestProbeThroughCluster(t *testing.T) {
	w := newProbeWorld(t)
	m := w.watch()
	reply := func(p job.Probe, by crypto.PrivateKey, serving bool) job.Message {
		r := job.ProbeReply{Lease: p.Lease, Peer: p.Peer, Nonce: p.Nonce, Serving: serving, Data: make([]byte, p.Bytes)}
		r.Signature = by.Sign(crypto.DomainProbe, r.Payload("probe-1"))
		return r
	}
	for i, c := range []struct {
		want        string
		serving, ok bool
		answer      func(p job.Probe) (job.Message, int)
	}{
		{probeRuns, true, true, func(p job.Probe) (job.Message, int) { return reply(p, w.node, true), http.StatusOK }},
		{probeAway, false, true, func(p job.Probe) (job.Message, int) { return reply(p, w.node, false), http.StatusOK }},
		{probeUnanswered, false, true, func(job.Probe) (job.Message, int) { return nil, http.StatusOK }},
		{probeUnknown, false, false, func(p job.Probe) (job.Message, int) { return reply(p, crypto.GenerateKey(), true), http.StatusOK }},
		{probeUnknown, false, false, func(p job.Probe) (job.Message, int) { return reply(p, crypto.GenerateKey(), false), http.StatusOK }},
		{probeUnknown, false, false, func(p job.Probe) (job.Message, int) { p.Nonce[0]++; return reply(p, w.node, true), http.StatusOK }},
		{probeUnknown, false, false, func(p job.Probe) (job.Message, int) { return p, http.StatusOK }},
		{probeUnknown, false, false, func(job.Probe) (job.Message, int) { return nil, http.StatusNotFound }},
		{probeUnknown, false, false, func(job.Probe) (job.Message, int) { return nil, http.StatusServiceUnavailable }},
	} {
		w.serve = func(m job.Message) (job.Message, int) { return c.answer(m.(job.Probe)) }
		probe := job.Probe{Lease: w.id, Peer: w.account.PrivateKey().Public(), Nonce: crypto.Digest{byte(i)}, Bytes: 1 << 10}
		serving, ok := w.ask(t.Context(), &m, &probe, 0)
		lines := w.said()
		if serving != c.serving || ok != c.ok || len(lines) != 1 || lines[0].Probe != c.want || lines[0].Epoch == nil || *lines[0].Epoch < 10 {
			t.Errorf("case %d: serving %t, counts %t, said %+v", i, serving, ok, lines)
		}
		if (lines[0].Said != "") != !c.ok {
			t.Errorf("case %d: the reason is %q", i, lines[0].Said)
		}
	}
}

// TestConsumersReports of missed epochs are signed by the consumer, said until the cluster has them, and again
// until nothing is heard of their epochs; each news of one is printed once.
func TestConsumersReports(t *testing.T) {
	w := newProbeWorld(t)
	status := http.StatusNotFound
	w.serve = func(job.Message) (job.Message, int) { return nil, status }
	e := chain.ServiceEpoch{ChainID: "probe-1", Lease: w.id, Terms: w.seen.Lease.Order}
	for e.Epoch = range maxSaidReports + 1 {
		w.found(job.PeerReport{Epoch: e, Report: chain.ServiceReport{Sent: 10}}, chain.MissedAvailability)
	}
	if lines := w.said(); len(lines) != maxSaidReports+1 || lines[1].Finding != "availability" || lines[1].Report.Sent != 10 {
		t.Fatalf("said %+v", lines)
	}
	if w.reports = w.reports[len(w.reports)-2:]; w.reports[0].Epoch.Epoch != maxSaidReports-1 {
		t.Fatalf("of more reports than are kept, epoch %d is before the last", w.reports[0].Epoch.Epoch)
	}
	w.reports[1].end = chain.TimeMs(time.Now().Add(time.Hour).UnixMilli()) // nothing is heard of it yet
	for range 2 {
		w.send(t.Context())
	}
	if lines := w.said(); len(lines) != 1 || !strings.Contains(lines[0].Said, "not taken") || len(w.heard) != 2 || len(w.waiting(false)) != 2 {
		t.Fatalf("said %+v, the cluster heard %d messages", lines, len(w.heard))
	}
	status = http.StatusOK
	for range 2 {
		w.send(t.Context())
	}
	if lines := w.said(); len(lines) != 1 || !strings.Contains(lines[0].Said, "a tip") || len(w.heard) != 4 || len(w.waiting(false)) != 1 {
		t.Fatalf("said %+v, the cluster heard %d messages", lines, len(w.heard))
	}
	if r, ok := w.heard[3].(job.PeerReport); !ok || r.Epoch.Epoch != maxSaidReports-1 {
		t.Errorf("the cluster heard %+v", w.heard[3])
	}
	behind, newer := w.seen, w.seen
	behind.At, behind.Service.Floor = behind.At-1, 1<<40
	newer.Service.Judged = []uint64{maxSaidReports - 1}
	if w.learn(&behind) || len(w.reports) != 2 || w.learn(&newer) || len(w.reports) != 1 || len(w.said()) != 1 {
		t.Errorf("%d reports are kept", len(w.reports))
	}
	newer.At = newer.Lease.Expires + 1
	if !w.learn(&newer) || w.gone || len(w.reports) != 1 {
		t.Error("the lease is not over, or its last epochs cannot be reported")
	}
	newer.Live = false
	if !w.learn(&newer) || !w.gone || len(w.reports) != 0 {
		t.Error("something is to be reported of a lease that is no more")
	}
}

// resizedProbe probes a lease through a resize after 29.9 s, on a clock of its own, and finds nothing all the time; each second it
// hears of the chain.
type resizedProbe struct {
	*leaseProber
	old, resized sdk.Promised
}

// probeOn probes for so many seconds.
func (r *resizedProbe) probeOn(t *testing.T, seconds int, seen sdk.Promised) {
	for range seconds {
		r.prober.Turn(t.Context())
		if seen.At = chain.TimeMs(time.Now().UnixMilli()); r.learn(&seen) {
			t.Fatal("the lease is over")
		}
		r.prober.Conclude()
	}
}

// reported lists what waits to be taken by the cluster, of some terms.
func (r *resizedProbe) reported(terms crypto.Digest) (epochs []uint64) {
	for _, w := range r.waiting(true) {
		if w.Epoch.Terms == terms {
			epochs = append(epochs, w.Epoch.Epoch)
		}
	}
	return epochs
}

func newResizedProbe(t *testing.T) *resizedProbe {
	account := wallet.NewAccount("consumer", crypto.PrivateKeyFromSeed([32]byte{2}))
	since := chain.TimeMs(time.Now().UnixMilli()) + 1_000
	r := &resizedProbe{old: sdk.Promised{
		At: since, Live: true,
		Lease:   settlement.Lease{Consumer: account.Address(), Order: crypto.Digest{3}, Since: since, Expires: since + 3_600_000, Promised: true},
		Service: settlement.Service{Terms: chain.ServiceTerms{EpochMs: 10_000, AvailabilityBps: 9_000, RebateBps: 1}},
	}}
	r.leaseProber = newLeaseProber(&sender{genesis: &chain.Genesis{ChainID: "probe-1"}, account: account}, chain.LeaseID{Order: crypto.Digest{3}}, &r.old)
	r.out = io.Discard
	r.prober.Ask = func(context.Context, *job.Watch, *job.Probe, time.Duration) (serving, ok bool) { return false, true }
	r.probeOn(t, 31, r.old)
	r.resized = r.old
	r.old.Lease.Expires, r.old.At = since+29_900, since+30_000
	r.old.Service.Over = &r.old.Lease
	r.resized.At, r.resized.Former = since+30_000, &r.old
	r.resized.Lease.Order, r.resized.Lease.Since = crypto.Digest{9}, r.old.Lease.Expires
	return r
}

// TestTheConsumerReportsTermsBeforeAResize: their last epochs, also the one that the resize cuts short, are said as
// long as the chain has those terms, and the new ones are probed from their first epoch on.
func TestTheConsumerReportsTermsBeforeAResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResizedProbe(t)
		if r.learn(&r.resized) || r.watch().Until != r.old.Lease.Expires {
			t.Fatalf("after the resize %+v is probed", r.watch())
		}
		r.turnTerms()
		if got := r.reported(crypto.Digest{3}); !slices.Equal(got, []uint64{0, 1, 2}) {
			t.Fatalf("epochs %v of the old terms are reported", got)
		}
		r.probeOn(t, 11, r.resized)
		if got := r.reported(crypto.Digest{9}); !slices.Equal(got, []uint64{0}) || len(r.reported(crypto.Digest{3})) != 3 {
			t.Fatalf("epochs %v of the new terms are reported, %v of the old ones", got, r.reported(crypto.Digest{3}))
		}
		r.resized.Former = nil
		r.probeOn(t, 1, r.resized)
		if left := r.reported(crypto.Digest{3}); len(left) != 0 || len(r.reported(crypto.Digest{9})) != 1 {
			t.Errorf("epochs %v can be reported no more", left)
		}
	})
}

// TestNothingIsPromisedAfterAResize: the probing ends, and the last epochs are said.
func TestNothingIsPromisedAfterAResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResizedProbe(t)
		r.resized.Live = false
		if !r.learn(&r.resized) || r.gone {
			t.Fatal("the probing goes on, or nothing can be reported")
		}
		r.turnTerms()
		r.prober.Conclude()
		if got := r.reported(crypto.Digest{3}); !slices.Equal(got, []uint64{0, 1, 2}) {
			t.Errorf("epochs %v are reported", got)
		}
		r.resized.Former = nil
		if !r.learn(&r.resized) || !r.gone || len(r.reported(crypto.Digest{3})) != 0 {
			t.Error("something is to be reported of terms that the chain has forgotten")
		}
	})
}
