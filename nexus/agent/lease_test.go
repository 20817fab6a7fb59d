package agent_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// leaser is what the chain says of a node's leases.
type leaser struct {
	mu    sync.Mutex
	state agent.LeaseState
	down  bool
	asked int
}

func (l *leaser) ask(chain.LeaseID) (agent.LeaseState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.down {
		return agent.LeaseState{}, errors.New("the chain is away")
	}
	return l.state, nil
}

func (l *leaser) say(change func(*leaser)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// live is a lease that lasts for so long from now.
func live(height chain.Height, lasts time.Duration) func(*leaser) {
	return func(l *leaser) {
		l.state = agent.LeaseState{Live: true, Height: height, Expires: chain.TimeMs(time.Now().Add(lasts).UnixMilli())}
	}
}

// heard is a log that a test waits for lines of.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) count(line string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Count(h.text.String(), line)
}

func (h *heard) await(t *testing.T, line string, times int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.Now().Add(patience); h.count(line) < times; <-ticker.C {
		if time.Now().After(limit) {
			t.Fatalf("%q was not logged %d times", line, times)
		}
	}
}

// leasing is an agent whose chain is a test.
func leasing(t *testing.T, config agent.Config, l *leaser) *running {
	t.Helper()
	a, err := agent.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	a.AskLeases(l.ask)
	return begin(t, a)
}

// kept is an agent that keeps a lease, whose service has begun, for an hour.
type kept struct {
	*running
	server *server
	peer   *peer
	config agent.Config
	chain  *leaser
	said   *heard
	lease  job.Assignment
}

func keeping(t *testing.T) *kept {
	t.Helper()
	g := genesis()
	s := newServer(t, g)
	k := &kept{server: s, config: home(t, g, s), chain: &leaser{}, said: &heard{}, lease: leaseOf(s)}
	k.config.Log = slog.New(slog.NewTextHandler(k.said, nil))
	k.chain.say(live(2, time.Hour))
	k.running = leasing(t, k.config, k.chain)
	k.peer = s.session()
	k.peer.send(job.Assign{List: []job.Assignment{k.lease}})
	await[job.Log](k.peer, nil)
	return k
}

// again ends the agent and begins another in its home.
func (k *kept) again(t *testing.T) {
	t.Helper()
	k.stop()
	k.running = leasing(t, k.config, k.chain)
	k.peer = k.server.session()
}

// free waits until so many thousandths of a core are.
func (k *kept) free(t *testing.T, want uint64) {
	t.Helper()
	k.waitFor(t, func(st agent.Status) bool { return st.Free.Millicores == want })
}

// leaseOf is an assignment of a lease of a program that writes and then runs for ever.
func leaseOf(s *server) job.Assignment {
	code := bytes.Join([][]byte{writeTo(constant(1), 0, 4), {0x03, 0x40, 0x0c, 0, 0x0b}}, nil)
	id, size := s.put(program([]importFn{fdWrite}, "here", code))
	spec := wasmSpec(id, size)
	spec.Work = job.WorkField{Work: job.Wasm{Module: id}}
	order := orderOf(&spec, 1)
	order.Term = &chain.Term{Resources: job.Kept(&spec), NoticeMs: 1_000}
	return assignmentOf(order, spec)
}

// TestServiceOfALease begins when the chain has the lease and not before, is begun again by a
// process that comes after, without any server's word, and ends with the lease.
func TestServiceOfALease(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	said := &heard{}
	config := home(t, g, s)
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	l := &leaser{state: agent.LeaseState{Height: 1}}
	r := leasing(t, config, l)
	p := s.session()
	as := leaseOf(s)
	p.send(job.Assign{List: []job.Assignment{as}})
	if reply := await[job.AssignReply](p, nil); reply.Refuse != "" {
		t.Fatal(reply.Refuse)
	}
	r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 1 })
	for len(p.inbox) > 0 {
		if m, ok := (<-p.inbox).(job.Log); ok {
			t.Fatalf("it wrote %q before the lease is open", m.Data)
		}
	}
	l.say(live(2, time.Hour))
	wrote := func(p *peer) {
		t.Helper()
		if m := await[job.Log](p, nil); !strings.HasPrefix(string(m.Data), "here") {
			t.Fatalf("it wrote %q", m.Data)
		}
	}
	wrote(p)
	p.send(job.Cancel{Order: as.Order.ID(), Reason: "the server would have it end"})
	said.await(t, "a server would end a lease", 1)
	r.stop()
	r = leasing(t, config, l)
	p = s.session()
	if len(p.hello.Running) != 1 || p.hello.Running[0] != as.Order.ID() {
		t.Fatalf("it came back with %v", p.hello.Running)
	}
	wrote(p)
	l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 1} }) // a node that is behind
	asked := l.asked
	r.waitFor(t, func(st agent.Status) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.asked > asked+1
	})
	if said.count("a leased service ended") > 0 {
		t.Fatal("it ended by a state that was older than one that was seen")
	}
	l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 9} })
	r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 })
	r.stop()
	leasing(t, config, l)
	if p = s.session(); len(p.hello.Running) != 0 {
		t.Fatalf("what is over came back: %v", p.hello.Running)
	}
}

// TestServiceEndsWhenItIsNotPaid, by the clock, though nobody can say so; and begins again
// when it turns out that the lease was extended.
func TestServiceEndsWhenItIsNotPaid(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	said := &heard{}
	config := home(t, g, s)
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	l := &leaser{}
	live(2, 4*time.Second)(l)
	end := time.UnixMilli(int64(l.state.Expires))
	leasing(t, config, l)
	p := s.session()
	p.send(job.Assign{List: []job.Assignment{leaseOf(s)}})
	await[job.Log](p, nil)
	l.say(func(l *leaser) { l.down = true })
	said.await(t, "a leased service ended with its lease", 1)
	if early := time.Until(end); early > 0 {
		t.Fatalf("it ended %v before its lease", early)
	}
	l.say(func(l *leaser) { l.down = false })
	l.say(live(3, time.Hour))
	await[job.Log](p, nil)
}

// TestLeaseThatIsNotOpened is let go when the chain says that it is too late, and not because
// a server says so before.
func TestLeaseThatIsNotOpened(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	l := &leaser{state: agent.LeaseState{Height: 1}}
	said := &heard{}
	config := home(t, g, s)
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	r := leasing(t, config, l)
	p := s.session()
	for name, end := range map[string]func(as *job.Assignment){
		"it is too late": func(as *job.Assignment) {
			l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 2, At: as.Order.Deadline + 1} })
		},
		"its bid expired": func(as *job.Assignment) {
			if as.Bid.Expiry >= as.Order.Deadline {
				t.Fatal("the bid outlives the order")
			}
			l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 2, At: as.Bid.Expiry + 1} })
		},
		"a server cancels it": func(as *job.Assignment) {
			p.send(job.Cancel{Order: as.Order.ID(), Reason: "the consumer wants it no more"})
			said.await(t, "a lease is kept for as long as it can be opened", 1)
			l.say(live(2, time.Hour)) // as it was when the server did not know
			await[job.Log](p, nil)
			l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 3} })
		},
	} {
		l.say(func(l *leaser) { l.state = agent.LeaseState{Height: 1} })
		as := leaseOf(s)
		p.send(job.Assign{List: []job.Assignment{as}})
		r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 1 })
		end(&as)
		r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 })
		t.Log(name)
	}
}

// TestBidsForLeases: by the price table for what is kept, and none if the chain cannot be
// asked.
func TestBidsForLeases(t *testing.T) {
	if job.MinLeaseMs != settlement.MinLeaseMs {
		t.Fatalf("the least of a lease is %d ms here, %d on the chain", job.MinLeaseMs, settlement.MinLeaseMs)
	}
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	for _, asks := range []bool{true, false} {
		var r *running
		if asks {
			r = leasing(t, config, &leaser{})
		} else {
			r = start(t, config)
		}
		p := s.session()
		as := leaseOf(s)
		p.send(offer(1, as.Order, as.Spec, 200))
		reply := await[job.BidReply](p, nil)
		if asks && (reply.Decline != "" || len(reply.Bid.Prices) != 2) || !asks && !strings.Contains(reply.Decline, "rpc is empty") {
			t.Errorf("asks %v: %+v", asks, reply)
		}
		r.stop()
	}
}

// resizeOf is an assignment that resizes a lease to so many thousandths of a core, spoiled by
// change.
func resizeOf(as *job.Assignment, nonce, millicores uint64, change func(*chain.Order, *job.Spec)) job.Assignment {
	spec := as.Spec
	spec.Resources.Millicores = millicores
	order := orderOf(&spec, nonce)
	order.Term = &chain.Term{Resources: job.Kept(&spec), NoticeMs: 1_000, Resizes: as.Order.ID()}
	if change != nil {
		change(&order, &spec)
		order.Spec, order.Term.Resources = spec.Digest(), job.Kept(&spec)
	}
	return assignmentOf(order, spec)
}

// TestResizedLease: the node bids for the difference alone, refuses by name what it cannot do,
// and has the service begin again within the new limits once the chain says so, also after a
// start.
func TestResizedLease(t *testing.T) {
	k := keeping(t)
	as, whole := k.lease, k.status(t).Total
	resize := func(nonce, millicores uint64, change func(*chain.Order, *job.Spec)) job.Assignment {
		return resizeOf(&as, nonce, millicores, change)
	}
	large := resize(7, whole.Millicores, nil) // more than is free, not more than there is with the lease
	for i, x := range []struct {
		name string
		as   job.Assignment
		says string
	}{
		{"all there is", large, ""},
		{"too large", resize(8, whole.Millicores+1, nil), "no room"},
		{"no lease", resize(9, 500, func(o *chain.Order, _ *job.Spec) { o.Term.Resizes[0]++ }), "no such lease"},
		{"another's", resize(10, 500, func(o *chain.Order, _ *job.Spec) { o.Consumer.Key[0]++ }), "another consumer's"},
		{"other work", resize(11, 500, func(_ *chain.Order, s *job.Spec) { s.Limits.OutputBytes++ }), "more than its cores"},
	} {
		k.peer.send(offer(uint64(i+1), x.as.Order, x.as.Spec, 200))
		reply := await[job.BidReply](k.peer, nil)
		if x.says == "" && reply.Decline != "" || !strings.Contains(reply.Decline, x.says) {
			t.Errorf("%s: it says %q, want %q", x.name, reply.Decline, x.says)
		}
	}
	k.peer.send(job.Assign{List: []job.Assignment{large}})
	k.free(t, 0)
	if k.said.count("was resized") > 0 {
		t.Fatal("it was resized before the chain has it")
	}
	terms := func(height chain.Height, order job.Assignment) {
		k.chain.say(live(height, time.Hour))
		k.chain.say(func(l *leaser) { l.state.Terms = order.Order.ID() })
	}
	terms(3, large)
	k.said.await(t, "was resized", 1)
	await[job.Log](k.peer, nil)
	small := resize(12, 500, nil)
	k.peer.send(job.Assign{List: []job.Assignment{small}})
	terms(4, small)
	k.said.await(t, "was resized", 2)
	k.free(t, whole.Millicores-500)
	k.said.await(t, "another order has resized the lease since", 1)
	k.again(t)
	k.free(t, whole.Millicores-500)
	late := resize(13, 700, nil)
	k.peer.send(job.Assign{List: []job.Assignment{late}})
	k.free(t, whole.Millicores-700)
	k.chain.say(func(l *leaser) { l.state.Height, l.state.At = 5, late.Order.Deadline+1 }) // nobody posts it
	k.free(t, whole.Millicores-500)
	k.chain.say(func(l *leaser) { l.state = agent.LeaseState{Height: 9} })
	k.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 })
	k.free(t, whole.Millicores)
}

// TestResizedLeaseComesBack with the size that it has, beside what has taken its room since.
func TestResizedLeaseComesBack(t *testing.T) {
	k := keeping(t)
	small := resizeOf(&k.lease, 7, 300, nil)
	k.peer.send(job.Assign{List: []job.Assignment{small}})
	k.chain.say(func(l *leaser) { l.state.Terms, l.state.Height = small.Order.ID(), 3 })
	k.said.await(t, "was resized", 1)
	rest := k.lease.Spec
	rest.Resources.Millicores = k.status(t).Total.Millicores - 300
	order := orderOf(&rest, 8)
	order.Term = &chain.Term{Resources: job.Kept(&rest), NoticeMs: 1_000}
	k.peer.send(job.Assign{List: []job.Assignment{assignmentOf(order, rest)}})
	k.free(t, 0)
	k.stop()
	ended := k.said.count("no longer kept") // as the agent stopped
	k.again(t)
	k.free(t, 0)
	wrote := map[string]bool{}
	for len(wrote) < 2 {
		wrote[await[job.Log](k.peer, nil).Order.String()] = true
	}
	if k.said.count("no longer kept") > ended || k.said.count("was resized") != 1 {
		t.Error("one of two leases gave way to the size that the other had")
	}
}

// TestResizeWaitsForRoom: an order that resizes a lease, and for which there is no room when it
// comes, is refused and yet done once the chain has it and there is some: the node's bid stands.
func TestResizeWaitsForRoom(t *testing.T) {
	k := keeping(t)
	whole := k.status(t).Total.Millicores
	other := k.lease.Spec
	other.Resources.Millicores = whole - k.lease.Spec.Resources.Millicores
	other.Limits.Fuel, other.Limits.WallMs = job.MaxFuel, 3_600_000
	taken := assignmentOf(orderOf(&other, 8), other)
	k.peer.send(job.Assign{List: []job.Assignment{taken}})
	k.free(t, 0)
	large := resizeOf(&k.lease, 9, whole, nil)
	k.peer.send(job.Assign{List: []job.Assignment{large}})
	await(k.peer, func(m job.AssignReply) bool {
		return m.Order == large.Order.ID() && strings.Contains(m.Refuse, "no room")
	})
	k.chain.say(func(l *leaser) { l.state.Terms, l.state.Height = large.Order.ID(), 3 })
	k.said.await(t, "there is no room for it yet", 1)
	k.peer.send(job.Cancel{Order: taken.Order.ID(), Reason: "it makes room"})
	k.said.await(t, "was resized", 1)
	k.free(t, 0)
	k.chain.say(func(l *leaser) { l.state = agent.LeaseState{Height: 9} })
	k.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 && st.Free.Millicores == whole })
}

// TestAResizeThatNoServerBrought: whoever has a node's bid and the cluster's award may have the chain resize a lease by an order
// that the node was never given. From then on the node keeps what the chain says that is paid for: less at once, more as soon as
// there is room, also after a start.
func TestAResizeThatNoServerBrought(t *testing.T) {
	k := keeping(t)
	whole, had := k.status(t).Total.Millicores, k.lease.Spec.Resources
	by := func(height chain.Height, order byte, millicores uint64) {
		k.chain.say(func(l *leaser) {
			l.state.Height, l.state.Terms = height, crypto.Digest{order}
			l.state.Resources = []chain.Quantity{{Resource: chain.CPU, Amount: millicores}, {Resource: chain.Memory, Amount: had.MemoryMiB}}
		})
	}
	by(3, 1, 10)
	k.said.await(t, "its service begins again", 1)
	k.free(t, whole-10)
	k.again(t)
	k.free(t, whole-10)
	other := k.lease.Spec
	other.Resources.Millicores = whole - 10
	other.Limits.Fuel, other.Limits.WallMs = job.MaxFuel, 3_600_000
	taken := assignmentOf(orderOf(&other, 8), other)
	k.peer.send(job.Assign{List: []job.Assignment{taken}})
	k.free(t, 0)
	by(4, 2, had.Millicores)
	k.said.await(t, "there is no room for it yet", 1)
	k.peer.send(job.Cancel{Order: taken.Order.ID(), Reason: "it makes room"})
	k.free(t, whole-had.Millicores)
	k.chain.say(func(l *leaser) { l.state = agent.LeaseState{Height: 9} })
	k.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 && st.Free.Millicores == whole })
}

// TestResizesThatCross: an order that keeps what a lease has holds nothing more; if another makes the lease smaller before the chain
// has that one, and something takes the room, the lease is not made larger without any.
func TestResizesThatCross(t *testing.T) {
	k := keeping(t)
	whole, had := k.status(t).Total.Millicores, k.lease.Spec.Resources.Millicores
	small, back := resizeOf(&k.lease, 7, 10, nil), resizeOf(&k.lease, 8, had, nil)
	k.peer.send(job.Assign{List: []job.Assignment{small, back}})
	k.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 3 })
	k.chain.say(func(l *leaser) { l.state.Terms, l.state.Height = small.Order.ID(), 3 })
	k.said.await(t, "its service begins again", 1)
	k.free(t, whole-10)
	other := k.lease.Spec
	other.Resources.Millicores = whole - 10
	other.Limits.Fuel, other.Limits.WallMs = job.MaxFuel, 3_600_000
	taken := assignmentOf(orderOf(&other, 9), other)
	k.peer.send(job.Assign{List: []job.Assignment{taken}})
	k.free(t, 0)
	k.chain.say(func(l *leaser) { l.state.Terms, l.state.Height = back.Order.ID(), 4 })
	k.said.await(t, "there is no room for it yet", 1)
	if k.said.count("its service begins again") != 1 {
		t.Error("a lease was made larger, and there is no room")
	}
	k.peer.send(job.Cancel{Order: taken.Order.ID(), Reason: "it makes room"})
	k.said.await(t, "its service begins again", 2)
	k.free(t, whole-had)
	k.chain.say(func(l *leaser) { l.state = agent.LeaseState{Height: 9} })
	k.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 0 && st.Free.Millicores == whole })
}

// TestTermsThatNobodyKeeps: a node agrees to no service terms by which a miss would be certain: a service that runs as soon as the
// chain has its lease, or its resize, and a rate of sending that the owner did not name.
func TestTermsThatNobodyKeeps(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	config.LeaseStakeHyper, config.LeaseThroughputKiB = 1, 100
	leasing(t, config, &leaser{})
	p := s.session()
	if config.LeaseStart == 0 {
		t.Fatal("a service has no time to begin, unless the owner names one")
	}
	least := uint64(config.LeaseStart.Milliseconds()) + 1 // a few bytes are fetched
	for i, x := range []struct {
		change func(t *chain.ServiceTerms)
		says   string
	}{
		{func(*chain.ServiceTerms) {}, ""},
		{func(t *chain.ServiceTerms) { t.StartMs-- }, "lease_start"},
		{func(t *chain.ServiceTerms) { t.StartMs = 0 }, "lease_start"},
		{func(t *chain.ServiceTerms) { t.ThroughputKiB++ }, "lease_throughput_kib"},
		{func(t *chain.ServiceTerms) { t.Stake = chain.Nano(chain.NanoPerHyper + 1) }, "lease_stake_hyper"},
	} {
		terms := chain.ServiceTerms{EpochMs: 10_000, AvailabilityBps: 9_000, StartMs: least, ThroughputKiB: 100, RebateBps: 10_000, Stake: chain.Hyper(1)}
		x.change(&terms)
		as := leaseOf(s)
		as.Order.Term.Service = &terms
		p.send(offer(uint64(i+1), as.Order, as.Spec, 200))
		if reply := await[job.BidReply](p, nil); x.says == "" && reply.Decline != "" || !strings.Contains(reply.Decline, x.says) {
			t.Errorf("%+v: it says %q, want %q", terms, reply.Decline, x.says)
		}
	}
}

// TestTermsLeaveTimeForTheInputs: a bid binds, and the inputs are fetched after it. Terms by which the service runs before they can be
// here get none, nor do those whose inputs the store has no room for.
func TestTermsLeaveTimeForTheInputs(t *testing.T) {
	for name, x := range map[string]struct {
		bandwidthKiB uint64
		inputBytes   uint64
		spareMs      int64 // beyond lease_start
		says         string
	}{
		"time enough":            {128, 16 << 20, 128_000, ""},
		"too little":             {128, 16 << 20, 127_999, "bandwidth_kib"},
		"a byte more":            {128, 16<<20 + 1, 128_000, "bandwidth_kib"},
		"a faster line":          {16_384, 16 << 20, 1_000, ""},
		"a line without a limit": {0, 16 << 20, 16_000, ""},
		"no time on such a line": {0, 16 << 20, 15_999, "bandwidth_kib"},
		"half of the store":      {0, 128 << 20, 128_000, ""},
		"more than that":         {0, 128<<20 + 1, 1_000_000, "disk_mib"},
	} {
		t.Run(name, func(t *testing.T) {
			g := genesis()
			s := newServer(t, g)
			config := home(t, g, s)
			config.LeaseStakeHyper, config.BandwidthKiB = 1, x.bandwidthKiB
			leasing(t, config, &leaser{})
			p := s.session()
			as := leaseOf(s)
			as.Spec.InputBytes = x.inputBytes
			order := withTerm(orderOf(&as.Spec, 1), &as.Spec)
			order.Term.Service = &chain.ServiceTerms{
				EpochMs: 10_000, AvailabilityBps: 9_000, StartMs: uint64(config.LeaseStart.Milliseconds() + x.spareMs), RebateBps: 10_000, Penalty: chain.Hyper(1), Stake: chain.Hyper(1),
			}
			p.send(offer(1, order, as.Spec, 200))
			if reply := await[job.BidReply](p, nil); x.says == "" && reply.Decline != "" || !strings.Contains(reply.Decline, x.says) {
				t.Errorf("it says %q, want %q", reply.Decline, x.says)
			}
		})
	}
}

// TestWithheldInputsMissNothing: servers that have not what a lease runs, or say nothing when they are asked for it, make its node
// miss nothing. Before the lease is open, and the inputs are asked for, its service does not run.
func TestWithheldInputsMissNothing(t *testing.T) {
	for name, withhold := range map[string]func(s *server) func(){
		"none has it":   func(*server) func() { return func() {} },
		"none says any": func(s *server) func() { s.gate = make(chan struct{}); return func() { close(s.gate) } },
	} {
		t.Run(name, func(t *testing.T) {
			g := genesis()
			s := newServer(t, g)
			defer withhold(s)()
			s.cancels.Store(true)
			l := &leaser{state: agent.LeaseState{Height: 1}}
			r := leasing(t, home(t, g, s), l)
			p := s.session()
			as := leaseOf(newServer(t, g)) // which the agent does not know
			p.send(job.Assign{List: []job.Assignment{as}})
			r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 1 })
			serves := func() bool {
				t.Helper()
				p.send(job.Probe{Lease: chain.LeaseID{Node: nodeKey.Public(), Order: as.Order.ID()}, Peer: crypto.PublicKey{1}})
				return await[job.ProbeReply](p, nil).Serving
			}
			if serves() {
				t.Error("it serves before the lease is open")
			}
			l.say(live(2, time.Hour))
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for limit := time.Now().Add(patience); !serves(); <-ticker.C {
				if time.Now().After(limit) {
					t.Fatal("inputs that the servers withhold make their node miss what it promised")
				}
			}
		})
	}
}

// TestAProgramThatEndsMissesNothing: a consumer whose program ends by itself, or fails, finds no miss in that: the node kept its
// promise. Before the program was begun it has not.
func TestAProgramThatEndsMissesNothing(t *testing.T) {
	for name, x := range map[string]struct {
		code []byte // a program's
		says string
	}{
		"ends":  {nil, "ended by itself"},
		"traps": {[]byte{0x00}, "failed, and is begun again"},
	} {
		t.Run(name, func(t *testing.T) {
			g := genesis()
			s := newServer(t, g)
			said, l := &heard{}, &leaser{state: agent.LeaseState{Height: 1}}
			config := home(t, g, s)
			config.Log = slog.New(slog.NewTextHandler(said, nil))
			r := leasing(t, config, l)
			p := s.session()
			id, size := s.put(program(nil, "", x.code))
			as := leaseOf(s)
			as.Spec.Work, as.Spec.InputBytes = job.WorkField{Work: job.Wasm{Module: id}}, size
			as = assignmentOf(withTerm(orderOf(&as.Spec, 1), &as.Spec), as.Spec)
			p.send(job.Assign{List: []job.Assignment{as}})
			r.waitFor(t, func(st agent.Status) bool { return len(st.Running) == 1 })
			serves := func() bool {
				t.Helper()
				p.send(job.Probe{Lease: chain.LeaseID{Node: nodeKey.Public(), Order: as.Order.ID()}, Peer: crypto.PublicKey{1}})
				return await[job.ProbeReply](p, nil).Serving
			}
			if serves() {
				t.Error("it serves before the lease is open")
			}
			l.say(live(2, time.Hour))
			said.await(t, x.says, 1)
			if !serves() {
				t.Error("a program that ends makes its node miss what it promised")
			}
		})
	}
}

// withTerm makes an order one for a lease.
func withTerm(order chain.Order, spec *job.Spec) chain.Order {
	order.Term = &chain.Term{Resources: job.Kept(spec), NoticeMs: 1_000}
	return order
}
