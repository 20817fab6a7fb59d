package agent_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// In these tests a step may take a thousand times as long as it does on any machine: nothing is too
// late but by a clock that the test sets.
const (
	declaredLanes = 4
	laneMiB       = 64
)

var peerKeys = []crypto.PrivateKey{seedKey("peer one"), seedKey("peer two")}

// gym is a challenged node and its peers, the server that carries what they say to each other, and
// the chain that they ask.
type gym struct {
	t      *testing.T
	server *server
	state  settlement.Hardware
	member map[crypto.PublicKey]*member
	carry  func(job.Message) bool // nil: all of it is
	bids   chan job.BidReply      // nil: nobody waits for them

	mu   sync.Mutex
	gone bool // the chain has no such challenge
	said []job.Measured
}

// member is an agent that has a part in a challenge.
type member struct {
	agent *agent.Agent
	log   *heard
	peer  *peer
	stop  func()
}

func hardwareGenesis() *chain.Genesis {
	g := genesis()
	g.Params.HardwareStepNs, g.Params.HardwareLaneMiB = 1_000_000, laneMiB
	return g
}

func newGym(t *testing.T) *gym {
	t.Helper()
	y := &gym{t: t, server: newServer(t, hardwareGenesis()), member: map[crypto.PublicKey]*member{}}
	y.state = settlement.Hardware{
		Seed: crypto.Digest{3}, Lanes: declaredLanes, MemoryMiB: declaredLanes * laneMiB, Since: chain.TimeMs(time.Now().UnixMilli()), Due: 1 << 40,
		Peers: []crypto.PublicKey{peerKeys[0].Public(), peerKeys[1].Public()},
	}
	return y
}

// ask is what the chain says of a node.
func (y *gym) ask(node crypto.PublicKey) (settlement.Hardware, bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.gone || node != nodeKey.Public() {
		return settlement.Hardware{}, false
	}
	return y.state, true
}

// join begins an agent.
func (y *gym) join(key crypto.PrivateKey, b agent.Bench, change func(*agent.Config)) *member {
	y.t.Helper()
	config := home(y.t, hardwareGenesis(), y.server)
	config.Millicores, config.MemoryMiB = declaredLanes*chain.LaneMillicores, 512
	m := &member{log: &heard{}}
	config.Log = slog.New(slog.NewTextHandler(m.log, nil))
	if change != nil {
		change(&config)
	}
	if err := os.WriteFile(filepath.Join(config.Home, agent.NodeKeyFile), []byte(key.Hex()+"\n"), 0o600); err != nil {
		y.t.Fatal(err)
	}
	var err error
	if m.agent, err = agent.Open(config); err != nil {
		y.t.Fatal(err)
	}
	m.agent.AskHardware(y.ask)
	m.agent.SetBench(b)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.agent.Run(ctx); err != nil {
			y.t.Errorf("Run: %v", err)
		}
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
	y.t.Cleanup(m.stop)
	m.peer = y.server.session()
	y.member[key.Public()] = m
	return m
}

func (y *gym) challenge() chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: "hypermesh-test", Node: nodeKey.Public(), Seed: y.state.Seed}
}

// serve carries messages as servers do, and tells of the challenge again and again, until the test
// ends.
func (y *gym) serve(m job.Measure) {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	y.t.Cleanup(func() {
		close(ended)
		wg.Wait()
	})
	for _, from := range y.member { // order-free: all of them
		wg.Go(func() {
			ticker := time.NewTicker(200 * time.Millisecond)
			defer ticker.Stop()
			from.peer.send(m)
			for {
				select {
				case got, open := <-from.peer.inbox:
					if !open {
						return
					}
					y.pass(got)
				case <-ticker.C:
					from.peer.send(m)
				case <-ended:
					return
				}
			}
		})
	}
}

func (y *gym) pass(got any) {
	if reply, bid := got.(job.BidReply); bid && y.bids != nil {
		y.bids <- reply
	}
	m, ok := got.(job.Message)
	if !ok || y.carry != nil && !y.carry(m) {
		return
	}
	to := func(node crypto.PublicKey) {
		if agent := y.member[node]; agent != nil {
			agent.peer.send(m)
		}
	}
	if _, shown := m.(job.LanesShown); shown {
		to(peerKeys[0].Public())
		to(peerKeys[1].Public())
	}
	if q, question := m.(job.LaneQuestion); question {
		to(q.Challenge.Node)
	}
	if o, opened := m.(job.LaneOpened); opened {
		to(o.Peer)
	}
	if said, measured := m.(job.Measured); measured {
		y.mu.Lock()
		y.said = append(y.said, said)
		y.mu.Unlock()
	}
}

// found waits for the verdict of each peer, which it has signed.
func (y *gym) found(want chain.HardwareVerdict) {
	y.t.Helper()
	for _, key := range peerKeys {
		limit := time.Now().Add(patience)
		for {
			y.mu.Lock()
			i := slices.IndexFunc(y.said, func(m job.Measured) bool { return m.Verdict.Peer == key.Public() })
			var got job.Measured
			if i >= 0 {
				got = y.said[i]
			}
			y.mu.Unlock()
			if i < 0 {
				if time.Now().After(limit) {
					y.t.Fatal("a peer says nothing")
				}
				time.Sleep(5 * time.Millisecond)
				continue
			}
			v := got.Verdict
			if got.Challenge != y.challenge() || v.Missing != want.Missing || v.Silent != want.Silent ||
				!key.Public().Verify(crypto.DomainHardware, chain.HardwarePayload(got.Challenge, v), v.Signature) {
				y.t.Errorf("a peer found %+v, want %d missing, silent %v", v, want.Missing, want.Silent)
			}
			break
		}
	}
}

func (y *gym) peers(b agent.Bench) (list []*member) {
	for _, key := range peerKeys {
		list = append(list, y.join(key, b, nil))
	}
	return list
}

// TestHardwareIsShown: a node that has what it declares shows it, and its peers say nothing. While
// it does, it bids for nothing.
func TestHardwareIsShown(t *testing.T) {
	y := newGym(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	node := y.join(nodeKey, agent.Bench{Run: func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane {
		once.Do(func() { close(begun) })
		<-goOn
		return hardware.Run(t, lane, stop)
	}}, nil)
	peers := y.peers(agent.Bench{})
	y.bids = make(chan job.BidReply, 16)
	y.serve(job.Measure{Challenge: y.challenge(), Here: true})
	<-begun
	spec := wasmSpec(crypto.Digest{1}, 1)
	node.peer.send(offer(1, orderOf(&spec, 1), spec, 1_000))
	if reply := <-y.bids; reply.Decline != "showing the chain its hardware" {
		t.Errorf("a node that shows its hardware answers %q", reply.Decline)
	}
	close(goOn)
	for _, p := range peers {
		p.log.await(t, "a node showed its hardware", 1)
	}
	(&running{Agent: node.agent}).waitFor(t, func(s agent.Status) bool {
		return s.Hardware != nil && s.Hardware.Shown == declaredLanes && s.Hardware.Asked == 2 && s.Hardware.Note == "is over" && s.Closed == "" && s.Free == s.Total
	})
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(y.said) > 0 {
		t.Errorf("of a node that has shown all: %+v", y.said)
	}
}

// TestWhatDoesNotShowUpIsMissing: of a node that declares twice its cores half is missing, and of
// one that has half of the memory, or runs out of it, half of the lanes.
func TestWhatDoesNotShowUpIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		bench  agent.Bench
		change func(*agent.Config)
		want   uint64
	}{
		"cores that the owner does not give":  {change: func(c *agent.Config) { c.Millicores /= 2 }, want: declaredLanes / 2},
		"memory that the owner does not give": {change: func(c *agent.Config) { c.MemoryMiB = declaredLanes / 2 * laneMiB }, want: declaredLanes / 2},
		"memory that the machine has not":     {bench: agent.Bench{Memory: func() uint64 { return declaredLanes / 4 * laneMiB }}, want: declaredLanes / 4 * 3},
		"lanes that do not end": {bench: agent.Bench{Run: func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane {
			if lane >= 3 {
				return nil
			}
			return hardware.Run(t, lane, stop)
		}}, want: 1},
		"a lane that is not run": {bench: agent.Bench{Run: func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane {
			if lane == 1 {
				t.Seed[9]++ // half of the work is none
			}
			return hardware.Run(t, lane, stop)
		}}, want: declaredLanes},
	} {
		t.Run(name, func(t *testing.T) {
			y := newGym(t)
			y.join(nodeKey, c.bench, c.change)
			y.peers(agent.Bench{})
			y.serve(job.Measure{Challenge: y.challenge(), Here: true})
			y.found(chain.HardwareVerdict{Missing: c.want})
		})
	}
}

// TestWhoIsSilent: who shows nothing in the time that its lanes may take is silent, and so is who
// answers something else, or nothing to a question; of one that was not there nobody says anything.
func TestWhoIsSilent(t *testing.T) {
	for name, c := range map[string]struct {
		carry func(y *gym, late *atomic.Bool, m job.Message) bool
		here  bool
	}{
		"nothing": {func(_ *gym, late *atomic.Bool, m job.Message) bool {
			if _, shown := m.(job.LanesShown); shown {
				late.Store(true)
				return false
			}
			return true
		}, true},
		"too late": {func(_ *gym, late *atomic.Bool, m job.Message) bool {
			if _, shown := m.(job.LanesShown); shown {
				late.Store(true)
			}
			return true
		}, true},
		"other work": {func(y *gym, _ *atomic.Bool, m job.Message) bool {
			if shown, ok := m.(job.LanesShown); ok && shown.HeldMiB == 0 {
				shown.HeldMiB = 1
				shown.Signature = nodeKey.Sign(crypto.DomainShown, shown.Payload())
				y.pass(shown)
				return false
			}
			return true
		}, true},
		"not there": {func(_ *gym, late *atomic.Bool, m job.Message) bool {
			_, shown := m.(job.LanesShown)
			late.CompareAndSwap(false, shown)
			return !shown
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			y := newGym(t)
			var late atomic.Bool
			y.join(nodeKey, agent.Bench{}, nil)
			peers := y.peers(agent.Bench{Now: func() time.Time {
				if late.Load() {
					return time.Now().Add(time.Hour)
				}
				return time.Now()
			}})
			y.carry = func(m job.Message) bool { return c.carry(y, &late, m) }
			y.serve(job.Measure{Challenge: y.challenge(), Here: c.here})
			if c.here {
				y.found(chain.HardwareVerdict{Silent: true})
				return
			}
			for _, p := range peers {
				p.log.await(t, "nothing is known of a node", 1)
			}
			y.mu.Lock()
			defer y.mu.Unlock()
			if len(y.said) > 0 {
				t.Errorf("of a node that was not there: %+v", y.said)
			}
		})
	}
}

// TestAServerThatWasAwayMakesNobodySilent: what it would have carried is lost with it, and nothing is known of the
// node, though it shows itself to the server that begins anew.
func TestAServerThatWasAwayMakesNobodySilent(t *testing.T) {
	y := newGym(t)
	var late atomic.Bool
	p := y.join(peerKeys[0], agent.Bench{Now: func() time.Time {
		if late.Load() {
			return time.Now().Add(time.Hour)
		}
		return time.Now()
	}}, nil)
	m := job.Measure{Challenge: y.challenge(), Here: true}
	p.peer.send(m)
	p.log.await(t, "drawn to measure a node's hardware", 1)
	p.peer.conn.Close(transport.CloseShutdown, "restarting")
	again := y.server.session()
	again.send(m)
	late.Store(true)
	p.log.await(t, "nothing is known of a node", 1)
	if p.log.count("agent: measured a node's hardware") > 0 {
		t.Error("a peer says something")
	}
}

// TestNoServerBurnsAProcessor: a server has a node run and measure nothing that a finalized state
// does not ask of it, nor answer whom it does not name, nor two questions of one peer; and without
// a node of the chain to ask nothing is run.
func TestNoServerBurnsAProcessor(t *testing.T) {
	y := newGym(t)
	y.gone = true
	var runs atomic.Int64
	run := func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane {
		runs.Add(1)
		return hardware.Run(t, lane, stop)
	}
	node, peer := y.join(nodeKey, agent.Bench{Run: run}, nil), y.join(peerKeys[0], agent.Bench{Run: run}, nil)
	m := job.Measure{Challenge: y.challenge(), Here: true}
	node.peer.send(m)
	peer.peer.send(m)
	node.log.await(t, "refusing a hardware challenge: the chain does not say", 1)
	peer.log.await(t, "refusing to measure a node", 1)
	other := m
	other.Challenge.ChainID = "another-1"
	node.peer.send(other)
	node.log.await(t, "refusing a hardware challenge of another chain", 1)
	if runs.Load() != 0 {
		t.Fatalf("%d lanes were run on a server's word", runs.Load())
	}
	y.mu.Lock()
	y.gone = false
	y.mu.Unlock()
	var shown job.LanesShown
	for shown.Roots == nil { // the chain is asked again after a while, and the server speaks of another seed
		lie := m
		lie.Challenge.Seed[5]++
		node.peer.send(lie)
		select {
		case got := <-node.peer.inbox:
			shown, _ = got.(job.LanesShown)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if shown.Challenge != y.challenge() || runs.Load() != declaredLanes {
		t.Errorf("shown %+v after %d lanes", shown.Challenge, runs.Load())
	}
	ask := func(key crypto.PrivateKey, nonce byte) job.LaneQuestion {
		q := job.LaneQuestion{Challenge: y.challenge(), Peer: key.Public(), Nonce: crypto.Digest{nonce}}
		q.Signature = key.Sign(crypto.DomainQuestion, q.Payload())
		return q
	}
	node.peer.send(ask(seedKey("nobody"), 1))
	node.log.await(t, "it is no peer of the challenge", 1)
	unsigned := ask(peerKeys[0], 1)
	unsigned.Nonce[1]++
	node.peer.send(unsigned)
	node.log.await(t, "it is not signed", 1)
	node.peer.send(ask(peerKeys[0], 2))
	opened := await[job.LaneOpened](node.peer, nil)
	if opened.Nonce != (crypto.Digest{2}) || !nodeKey.Public().Verify(crypto.DomainOpened, opened.Payload(), opened.Signature) {
		t.Errorf("opened %+v", opened.Challenge)
	}
	node.peer.send(ask(peerKeys[0], 3))
	node.log.await(t, "it has asked another one before", 1)
	if runs.Load() != declaredLanes {
		t.Errorf("%d lanes were run", runs.Load())
	}
}

// TestWithoutAChainNothingIsRun: a node that can ask nobody meets no challenge, and says why.
func TestWithoutAChainNothingIsRun(t *testing.T) {
	g := hardwareGenesis()
	s := newServer(t, g)
	p, said, _ := judgingAt(t, nil, s, home(t, g, s))
	p.send(job.Measure{Challenge: chain.HardwareChallenge{ChainID: "hypermesh-test", Node: nodeKey.Public()}, Here: true})
	said.await(t, "rpc is empty", 1)
}

// TestAChallengeEndsWithTheAgent: lanes that run end when the agent does.
func TestAChallengeEndsWithTheAgent(t *testing.T) {
	y := newGym(t)
	begun := make(chan struct{}, declaredLanes)
	node := y.join(nodeKey, agent.Bench{Run: func(_ hardware.Task, _ uint64, stop func() bool) *hardware.Lane {
		begun <- struct{}{}
		for !stop() {
			time.Sleep(time.Millisecond)
		}
		return nil
	}}, nil)
	node.peer.send(job.Measure{Challenge: y.challenge(), Here: true})
	<-begun
	node.stop() // it returns
}

// TestBenchmark: a machine may declare what it shows: lanes in time, which there is memory for.
func TestBenchmark(t *testing.T) {
	params := hardwareGenesis().Params
	params.HardwareLaneMiB = 1
	for name, c := range map[string]struct {
		bench      agent.Bench
		millicores uint64
		want       agent.Benchmarked
	}{
		"all":    {millicores: 4_500, want: agent.Benchmarked{Fitting: 4, InTime: 4, Millicores: 4_500, MemoryMiB: 100}},
		"memory": {bench: agent.Bench{Memory: func() uint64 { return 1 }}, millicores: 4_000, want: agent.Benchmarked{Fitting: 1, InTime: 1, Millicores: 1_000, MemoryMiB: 25}},
		"one is late": {bench: agent.Bench{Run: func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane {
			if lane == 2 {
				return nil
			}
			return hardware.Run(t, lane, stop)
		}, Cores: 4}, millicores: 4_000, want: agent.Benchmarked{Fitting: 4, InTime: 3, Millicores: 3_000, MemoryMiB: 75}},
	} {
		got, err := agent.Measure(c.bench, &params, c.millicores, 100)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.want.Lanes = 4; got.Lanes != 4 || got.Fitting != c.want.Fitting || got.InTime != c.want.InTime || got.Millicores != c.want.Millicores || got.MemoryMiB != c.want.MemoryMiB {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if _, err := agent.Measure(agent.Bench{}, &params, 999, 100); err == nil {
		t.Error("a part of a core was measured")
	}
}
