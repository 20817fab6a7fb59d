package agent_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// bench is the panels that the chain of a test has.
type bench struct {
	mu     sync.Mutex
	panels map[crypto.Digest]settlement.Panel
}

func (b *bench) ask(id crypto.Digest) (settlement.Panel, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, there := b.panels[id]
	return p, there
}

// draw seats the node of the tests, or another one, on the first panel about an order.
func (b *bench) draw(order crypto.Digest, node crypto.PublicKey) crypto.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := settlement.PanelOf(order, false)
	b.panels[id] = settlement.Panel{Subject: order, Seats: 3, Jurors: []settlement.Juror{{Node: node}}}
	return id
}

// judging is an agent whose chain has panels, or that has no chain to ask.
func judging(t *testing.T, b *bench) (*server, *peer, *heard) {
	t.Helper()
	g := genesis()
	s := newServer(t, g)
	said := &heard{}
	config := home(t, g, s)
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	a, err := agent.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if b != nil {
		a.AskPanels(b.ask)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s, s.session(), said
}

// judged is an order of a program, as another cluster shows it: no bid, and no acceptance.
func judged(s *server, nonce uint64) *job.Assignment {
	id, size := s.put(program([]importFn{fdWrite}, "found", writeTo(constant(1), 0, 5)))
	spec := wasmSpec(id, size)
	order := orderOf(&spec, nonce)
	return &job.Assignment{Order: order, OrderSig: consumerKey.Sign(crypto.DomainOrder, order.Payload()), Spec: spec}
}

// checkBallot demands that a ballot is signed, for a panel.
func checkBallot(t *testing.T, b *job.Ballot, panel crypto.Digest) {
	t.Helper()
	payload := chain.VotePayload("hypermesh-test", panel, b.Vote.Commitment(panel, nodeKey.Public(), b.Salt))
	if b.Panel != panel || !nodeKey.Public().Verify(crypto.DomainVote, payload, b.Signature) {
		t.Errorf("ballot %+v", b)
	}
}

// TestJurorVotes: a node that sits on a panel runs the order and votes for what it gives, the
// same when it is asked again; what cannot be had it finds unavailable.
func TestJurorVotes(t *testing.T) {
	for name, b := range map[string]*bench{"with proof": {panels: map[crypto.Digest]settlement.Panel{}}, "on servers' word": nil} {
		t.Run(name, func(t *testing.T) {
			s, p, _ := judging(t, b)
			draw := func(order crypto.Digest) crypto.Digest {
				if b != nil {
					return b.draw(order, nodeKey.Public())
				}
				return settlement.PanelOf(order, false)
			}
			as := judged(s, 1)
			ran := assignmentOf(orderOf(&as.Spec, 2), as.Spec) // the same work, as an assignment
			p.send(job.Assign{List: []job.Assignment{ran}})
			want := p.finish(&ran).Receipt.Result
			panel := draw(as.Order.ID())
			m := job.Judge{Panel: panel, Order: as.Order.ID(), Assignment: as}
			p.send(m)
			first := await[job.Ballot](p, nil)
			checkBallot(t, &first, panel)
			if first.Vote != (chain.Vote{Finding: chain.FoundResult, Result: want}) {
				t.Errorf("voted %+v, the job gives %s", first.Vote, want.Short())
			}
			p.send(m)
			if again := await[job.Ballot](p, nil); again != first {
				t.Errorf("voted %+v, and then %+v", first, again)
			}
			gone := draw(crypto.Digest{5})
			p.send(job.Judge{Panel: gone, Order: crypto.Digest{5}})
			none := await(p, func(b job.Ballot) bool { return b.Panel == gone })
			checkBallot(t, &none, gone)
			if none.Vote != (chain.Vote{Finding: chain.FoundUnavailable}) {
				t.Errorf("voted %+v of what cannot be had", none.Vote)
			}
		})
	}
}

// TestJurorIsNotFooled: a server cannot have a node run an order that no panel of that name
// judges, nor, with a node of the chain to ask, one that it does not judge itself, nor what
// is larger than it is.
func TestJurorIsNotFooled(t *testing.T) {
	b := &bench{panels: map[crypto.Digest]settlement.Panel{}}
	s, p, said := judging(t, b)
	as := judged(s, 1)
	order := as.Order.ID()
	p.send(job.Judge{Panel: settlement.PanelOf(crypto.Digest{1}, false), Order: order, Assignment: as})
	said.await(t, "judges another order", 1)
	p.send(job.Judge{Panel: settlement.PanelOf(order, true), Order: order, Assignment: as})
	said.await(t, "the chain has no such panel", 1)
	p.send(job.Judge{Panel: b.draw(order, clusterKey.Public()), Order: order, Assignment: as})
	said.await(t, "the chain asks this node for no vote", 1)
	large := judged(s, 3)
	large.Spec.Resources.MemoryMiB = 1 << 20
	large.Order.Spec = large.Spec.Digest()
	large.OrderSig = consumerKey.Sign(crypto.DomainOrder, large.Order.Payload())
	p.send(job.Judge{Panel: b.draw(large.Order.ID(), nodeKey.Public()), Order: large.Order.ID(), Assignment: large})
	said.await(t, "it needs", 1)
	forged := judged(s, 4)
	forged.OrderSig[3] ^= 1
	p.send(job.Judge{Panel: b.draw(forged.Order.ID(), nodeKey.Public()), Order: forged.Order.ID(), Assignment: forged})
	said.await(t, "signature of the order does not verify", 1)
	panel := b.draw(order, nodeKey.Public())
	p.send(job.Judge{Panel: panel, Order: order, Assignment: as})
	if first := await[job.Ballot](p, nil); first.Panel != panel {
		t.Errorf("voted on a panel that it does not sit on: %+v", first)
	}
}
