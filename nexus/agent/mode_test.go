package agent_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// reach returns the agent of a home as its owner's commands do.
func reach(t *testing.T, home string) *agent.Remote {
	t.Helper()
	r, err := agent.Reach(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func setMode(t *testing.T, r *agent.Remote, m agent.Mode) agent.Status {
	t.Helper()
	s, err := r.SetMode(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if s.Mode != m {
		t.Fatalf("told %+v, the agent says %+v", m, s.Mode)
	}
	return s
}

func inMs(d time.Duration) chain.TimeMs { return chain.TimeMs(time.Now().Add(d).UnixMilli()) }

// TestDrainWaitsForWorkAndItsHandover drains without a deadline: what runs ends by
// itself, and the node is drained when a server has taken the result.
func TestDrainWaitsForWorkAndItsHandover(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	as := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = 1_000_000_000 })
	if s := setMode(t, reach(t, config.Home), agent.Mode{Name: agent.ModeDraining}); s.Drained {
		t.Error("drained while a job runs or its result waits")
	}
	if l := await[job.Load](p, nil); l.Accepting {
		t.Errorf("Load %+v", l)
	}
	p.offer(2, 0)
	if r := await[job.BidReply](p, nil); r.Decline != "draining" {
		t.Errorf("an offer while draining: %+v", r)
	}
	if d := p.finish(&as); d.Receipt.Exit != chain.ExitFuel {
		t.Errorf("the job ended with %s", d.Receipt.Exit)
	}
	if a.status(t).Drained {
		t.Error("drained before a server took the result")
	}
	p.send(job.Ack{Order: as.Order.ID()})
	a.waitFor(t, func(s agent.Status) bool { return s.Drained && !s.Accepting && s.Closed == "draining" })
}

// TestDrainDeadlineGivesWorkUp has the deadline pass while a job runs: the job is
// refused, so that the cluster gives it to another node.
func TestDrainDeadlineGivesWorkUp(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	as := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = job.MaxFuel })
	setMode(t, reach(t, config.Home), agent.Mode{Name: agent.ModeDraining, DeadlineMs: inMs(300 * time.Millisecond)})
	r := await(p, func(r job.AssignReply) bool { return r.Refuse != "" })
	if r.Order != as.Order.ID() || !strings.Contains(r.Refuse, "drained") {
		t.Errorf("at the deadline: %+v", r)
	}
	a.waitFor(t, func(s agent.Status) bool { return s.Drained && s.Free == s.Total })
}

// TestModeOutlivesACrash leaves the home as a crash does, at any mode.
func TestModeOutlivesACrash(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	for _, m := range []agent.Mode{{Name: agent.ModePaused}, {Name: agent.ModeDraining, DeadlineMs: inMs(time.Hour)}, {Name: agent.ModeOpen}} {
		a := start(t, config)
		s.session()
		setMode(t, reach(t, config.Home), m)
		kept, err := os.ReadFile(filepath.Join(config.Home, "mode.json")) // at this moment the process might die
		if err != nil {
			t.Fatal(err)
		}
		a.stop()
		if err := os.WriteFile(filepath.Join(config.Home, "mode.json"), kept, 0o600); err != nil {
			t.Fatal(err)
		}
		a = start(t, config)
		if p := s.session(); p.hello.Accepting != (m.Name == agent.ModeOpen) || a.status(t).Mode != m {
			t.Errorf("after %+v: Hello accepts %v, mode %+v", m, p.hello.Accepting, a.status(t).Mode)
		}
		a.stop()
	}
	for _, damaged := range []string{"", "{", `{"mode":"party"}`, `{"mode":"open","deadline_ms":3}`} {
		if err := os.WriteFile(filepath.Join(config.Home, "mode.json"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		a := start(t, config)
		if p := s.session(); p.hello.Accepting {
			t.Errorf("a node whose mode is %q takes work", damaged)
		}
		a.stop()
	}
	if err := agent.SetMode(config.Home, agent.Mode{Name: agent.ModeOpen}); err != nil {
		t.Fatal(err)
	}
	start(t, config)
	if p := s.session(); !p.hello.Accepting {
		t.Error("a mode that was set while the agent was stopped does not count")
	}
	if err := agent.SetMode(config.Home, agent.Mode{Name: "party"}); err == nil {
		t.Error("mode party was set")
	}
}

// TestOnlyTheHomesOwnAgentIsReached leaves words of agents that are gone, or
// others'.
func TestOnlyTheHomesOwnAgentIsReached(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	if _, err := agent.Reach(t.Context(), config.Home); !errors.Is(err, agent.ErrNotRunning) {
		t.Errorf("before the first start: %v", err)
	}
	a := start(t, config)
	reach(t, config.Home)
	word := filepath.Join(config.Home, agent.AddressFile)
	address, err := os.ReadFile(word)
	if err != nil {
		t.Fatal(err)
	}
	other := home(t, g, s)
	for file, content := range map[string][]byte{agent.AddressFile: address, agent.TokenFile: []byte("x"), agent.NodeKeyFile: []byte(seedKey("other").Hex())} {
		if err := os.WriteFile(filepath.Join(other.Home, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := agent.Reach(t.Context(), other.Home); !errors.Is(err, agent.ErrNotRunning) {
		t.Errorf("another home's agent is taken for this one's: %v", err)
	}
	a.stop()
	if _, err := os.Stat(word); !os.IsNotExist(err) {
		t.Errorf("the word of the address outlives the agent: %v", err)
	}
	if err := os.WriteFile(word, address, 0o600); err != nil { // as after a crash
		t.Fatal(err)
	}
	if _, err := agent.Reach(t.Context(), config.Home); !errors.Is(err, agent.ErrNotRunning) {
		t.Errorf("after a crash: %v", err)
	}
}

func TestThePageIsForThisMachine(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	for host, want := range map[string]int{
		"localhost:7380": 200, "127.0.0.1": 200, "[::1]:80": 200, "evil.example": 403, "evil.example:7380": 403, "10.0.0.1:7380": 403,
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+a.HTTPAddr().String()+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if answer.StatusCode != want {
			t.Errorf("asked as %s: %d, want %d", host, answer.StatusCode, want)
		}
	}
}

// TestHoursEndBidsAndNoWork has the hours end while a job runs.
func TestHoursEndBidsAndNoWork(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	config.Hours = []string{"08:00-18:00"}
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Unix())
	config.Now = func() time.Time { return time.Unix(clock.Load(), 0).UTC() }
	start(t, config)
	p := s.session()
	if !p.hello.Accepting {
		t.Error("closed at noon")
	}
	as := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = 1_000_000_000 })
	clock.Add(8 * 3600)
	p.offer(2, 0)
	if r := await[job.BidReply](p, nil); !strings.Contains(r.Decline, "outside of the hours") {
		t.Errorf("an offer at eight in the evening: %+v", r)
	}
	if d := p.finish(&as); d.Receipt.Exit != chain.ExitFuel {
		t.Errorf("what ran when the hours ended, ended with %s", d.Receipt.Exit)
	}
	r := reach(t, config.Home)
	if s := setMode(t, r, agent.Mode{Name: agent.ModeOpen}); s.Accepting { // has it look at the clock
		t.Errorf("status %+v", s)
	}
	await(p, func(l job.Load) bool { return !l.Accepting })
	clock.Add(12 * 3600)
	setMode(t, r, agent.Mode{Name: agent.ModeOpen})
	await(p, func(l job.Load) bool { return l.Accepting })
}

// TestBandwidthIsKept moves a blob to the agent and back, each no faster than it
// may; without a limit the same takes a fraction.
func TestBandwidthIsKept(t *testing.T) {
	t.Parallel()
	const kib, size = 512, 768 << 10
	least := time.Duration(size-64<<10) * time.Second / (kib << 10)
	for _, limit := range []uint64{0, kib} {
		g := genesis()
		s := newServer(t, g)
		config := home(t, g, s)
		config.BandwidthKiB = limit
		start(t, config)
		p := s.session()
		input, inputSize := s.put(bytes.Repeat([]byte("0123456789abcdef"), size/16))
		began := time.Now()
		as := p.assign(exiter(0), 1, func(spec *job.Spec) {
			w := spec.Work.Work.(job.Wasm)
			w.Input = input
			spec.Work.Work, spec.InputBytes = w, spec.InputBytes+inputSize
		})
		p.finish(&as) // it is no packed directory, which is found once it is there
		in := time.Since(began)
		store, err := blob.Open(blob.Config{Dir: t.TempDir(), MaxBytes: 4 << 20, MaxBlobBytes: 4 << 20, Log: silent})
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if _, err := store.Fetch(context.Background(), input, 4<<20, p.conn); err != nil {
			t.Error(err)
		}
		out := time.Since(began)
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if limit > 0 && (in < least || out < least) {
			t.Errorf("at %d KiB/s %d KiB took %v in and %v out, want %v at least", limit, size>>10, in, out, least)
		}
		t.Logf("limit %d KiB/s: %d KiB in %v in, %v out", limit, size>>10, in, out)
	}
}

func TestGPUsAreOfferedByKind(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	config.GPUs, config.GPUKind = 2, "a100"
	start(t, config)
	p := s.session()
	if h := p.hello; h.GPUKind != "a100" || h.Total.GPUs != 2 || h.Free.GPUs != 2 {
		t.Errorf("Hello %+v", h)
	}
	for i, c := range []struct {
		gpus uint64
		kind string
		want string
	}{{1, "", ""}, {2, "a100", ""}, {1, "h100", "kind"}, {3, "a100", "gpus needed"}} {
		spec := wasmSpec(crypto.Digest{1}, 1)
		spec.Resources.GPUs, spec.Resources.GPUMilli, spec.Scheduling.GPUKind = c.gpus, job.GPUWhole, c.kind
		order := orderOf(&spec, uint64(i))
		order.Caps = append(order.Caps, chain.UnitPrice{Resource: chain.GPU, Price: 1 << 62})
		p.send(offer(0, order, spec, 0))
		r := await[job.BidReply](p, nil)
		price, priced := chain.PriceOf(r.Bid.Prices, chain.GPU)
		if c.want == "" && (r.Decline != "" || !priced || price < config.GPUPriceAtto) || c.want != "" && !strings.Contains(r.Decline, c.want) {
			t.Errorf("%d gpus of kind %q: %q, a gpu costs %d", c.gpus, c.kind, r.Decline, price)
		}
	}
}
