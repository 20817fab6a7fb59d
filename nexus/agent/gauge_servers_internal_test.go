package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// measuring is a peer that measures a node with one lane, a MiB of whose memory jobs hold. What servers say is a test's.
type measuring struct {
	*gauge
	state settlement.Hardware
}

// endless is a connection that does not end.
type endless struct{}

func (endless) Err() error { return nil }

// newMeasuring has the node have shown its lane, and opened it.
func newMeasuring(t *testing.T) *measuring {
	t.Helper()
	g := &chain.Genesis{Params: chain.DefaultParams()}
	g.Params.HardwareStepNs, g.Params.HardwareLaneMiB = 1_000_000, 64
	a := &Agent{
		genesis: g, key: crypto.GenerateKey(), log: slog.New(slog.DiscardHandler), bench: newBench(), sessions: map[*session]struct{}{}, parted: 3,
	}
	m := &measuring{state: settlement.Hardware{Seed: crypto.Digest{3}, Lanes: 1, MemoryMiB: 4}}
	m.gauge = &gauge{
		agent: a, challenge: chain.HardwareChallenge{Node: crypto.PublicKey{9}, Seed: m.state.Seed}, began: a.bench.now(), parted: 3,
		openings: map[uint64]hardware.Opening{}, news: make(chan struct{}, 1), vouching: []lasting{endless{}},
	}
	task, _ := a.taskOf(&m.state, 1)
	lane := hardware.Run(task, 0, func() bool { return false })
	m.shown, m.came = &job.LanesShown{HeldMiB: 1, Roots: job.LaneRoots{lane.Roots()}}, m.began
	for i, o := range hardware.Open(task, []*hardware.Lane{lane}, m.nonce) {
		m.openings[uint64(i)] = o
	}
	return m
}

// says has servers say something every three seconds: how much memory jobs hold, and that the node is there.
func (m *measuring) says(ctx context.Context, held func(word int) (mib uint64, here bool)) {
	for word := 1; ; word++ {
		if sleep(ctx, askEvery); ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		mib, here := held(word)
		if m.heldMiB = max(m.heldMiB, mib); here {
			m.vouched++
		}
		m.wake()
		m.mu.Unlock()
	}
}

// TestWhatOneServerHasAnotherSpeaksOf: what a node shows may come through one server, and word of how much memory jobs hold of it, and
// that it was there, through another. It is measured as soon as both are here; it is silent only if its cluster says anew and again that
// jobs hold less than it says, and no server has gone that may have carried something.
func TestWhatOneServerHasAnotherSpeaksOf(t *testing.T) {
	for name, c := range map[string]struct {
		held   func(word int) (uint64, bool)
		parted uint64 // sessions that end
		want   *chain.HardwareVerdict
	}{
		"at once":                   {held: func(int) (uint64, bool) { return 1, true }},
		"with a later word":         {held: func(word int) (uint64, bool) { return uint64(word / 2), true }},
		"with the last word":        {held: func(word int) (uint64, bool) { return uint64(word / 3), true }},
		"from one that saw nothing": {held: func(word int) (uint64, bool) { return uint64(word / 3), false }},
		"never":                     {held: func(int) (uint64, bool) { return 0, true }, want: &chain.HardwareVerdict{Silent: true}},
		"never, and one has gone":   {held: func(int) (uint64, bool) { return 0, true }, parted: 1},
		"never, nor was it there":   {held: func(int) (uint64, bool) { return 0, false }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMeasuring(t)
				m.agent.parted += c.parted
				ctx, end := context.WithCancel(t.Context())
				var servers sync.WaitGroup
				servers.Go(func() { m.says(ctx, c.held) })
				got := m.find(ctx, &m.state)
				end()
				servers.Wait()
				if (got == nil) != (c.want == nil) || got != nil && (got.Silent != c.want.Silent || got.Missing != c.want.Missing) {
					t.Errorf("found %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// TestEachServerHasAnAnswer: a question that two servers bring is answered to both, as what one carries may be lost; not
// again to one that has just had it.
func TestEachServerHasAnAnswer(t *testing.T) {
	m := newMeasuring(t)
	a, peer := m.agent, crypto.GenerateKey()
	a.id = m.challenge.Node
	task, _ := a.taskOf(&m.state, 1)
	a.trial = &trial{
		challenge: m.challenge, state: settlement.Hardware{Peers: []crypto.PublicKey{peer.Public()}}, task: task, shown: m.shown, ended: 1,
		lanes: []*hardware.Lane{hardware.Run(task, 0, func() bool { return false })}, asked: map[crypto.PublicKey]*asked{}, answers: make(chan struct{}, 1),
	}
	q := job.LaneQuestion{Challenge: m.challenge, Peer: peer.Public()}
	q.Signature = peer.Sign(crypto.DomainQuestion, q.Payload())
	for i, x := range []struct {
		server byte
		want   bool
	}{{1, true}, {2, true}, {1, false}, {2, false}} {
		if list, why := a.answerOf(&q, crypto.PublicKey{x.server}); why != "" || len(list) > 0 != x.want {
			t.Errorf("the %d-th gets %d openings %s", i+1, len(list), why)
		}
	}
}
