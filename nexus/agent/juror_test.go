package agent_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
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

// bind has the chain take a ballot.
func (b *bench) bind(panel crypto.Digest, commitment crypto.Digest) {
	b.change(panel, func(p *settlement.Panel) { p.Jurors[0].Commitment = commitment })
}

func (b *bench) change(panel crypto.Digest, f func(*settlement.Panel)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.panels[panel]
	p.Jurors = slices.Clone(p.Jurors)
	f(&p)
	b.panels[panel] = p
}

// draw seats the node of the tests, or another one, on the first panel about an order.
func (b *bench) draw(order crypto.Digest, node crypto.PublicKey) crypto.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := settlement.PanelOf(order, false)
	b.panels[id] = settlement.Panel{Subject: order, Seats: 3, Due: 1, Jurors: []settlement.Juror{{Node: node}}}
	return id
}

// judging is an agent whose chain has panels, or that has no chain to ask.
func judging(t *testing.T, b *bench) (*server, *peer, *heard) {
	t.Helper()
	g := genesis()
	s := newServer(t, g)
	p, said, _ := judgingAt(t, b, s, home(t, g, s))
	return s, p, said
}

// judgingAt begins such an agent.
func judgingAt(t *testing.T, b *bench, s *server, config agent.Config) (p *peer, said *heard, r *running) {
	t.Helper()
	said = &heard{}
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	a, err := agent.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if b != nil {
		a.AskPanels(b.ask)
	}
	r = begin(t, a)
	return s.session(), said, r
}

// judged is an order of a program, as another cluster shows it: no bid, and no acceptance.
func judged(s *server, nonce uint64) *job.Assignment {
	id, size := s.put(program([]importFn{fdWrite}, "found", writeTo(constant(1), 0, 5)))
	spec := wasmSpec(id, size)
	order := orderOf(&spec, nonce)
	return &job.Assignment{Order: order, OrderSig: consumerKey.Sign(crypto.DomainOrder, order.Payload()), Spec: spec}
}

// asks has the node vote, again and again as a server does, until its ballot is there.
func (p *peer) asks(m job.Judge) job.Ballot {
	p.server.t.Helper()
	return askUntil(p, m, func(b job.Ballot) bool { return b.Panel == m.Panel })
}

// askUntil sends a message again and again until the node gives what is wanted.
func askUntil[T job.Message](p *peer, m job.Message, want func(T) bool) T {
	p.server.t.Helper()
	ended := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			p.send(m)
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
		}
	})
	defer asking.Wait()
	defer close(ended)
	return await(p, want)
}

// opens has the node show its vote, again and again as a server does, until it is there.
func (p *peer) opens(m job.Judge) job.Opening {
	p.server.t.Helper()
	return askUntil(p, m, func(o job.Opening) bool { return o.Panel == m.Panel })
}

// checkBallot demands that a ballot is signed, for a panel.
func checkBallot(t *testing.T, b *job.Ballot, panel crypto.Digest) {
	t.Helper()
	payload := chain.VotePayload("hypermesh-test", panel, b.Commitment)
	if b.Panel != panel || !nodeKey.Public().Verify(crypto.DomainVote, payload, b.Signature) {
		t.Errorf("ballot %+v", b)
	}
}

// checkOpening demands that an opening is of a ballot.
func checkOpening(t *testing.T, o *job.Opening, b *job.Ballot) {
	t.Helper()
	if o.Panel != b.Panel || o.Node != b.Node || o.Testimony.Commitment(o.Panel, o.Node, o.Salt) != b.Commitment {
		t.Errorf("opening %+v of %+v", o, b)
	}
}

// TestJurorVotes: a node that sits on a panel runs the order and is bound to what it gives, the
// same when it is asked again. It shows its vote when the chain, if it can be asked, proves that
// it is time, and not before.
func TestJurorVotes(t *testing.T) {
	for name, b := range map[string]*bench{"with proof": {panels: map[crypto.Digest]settlement.Panel{}}, "on servers' word": nil} {
		t.Run(name, func(t *testing.T) {
			s, p, said := judging(t, b)
			as := judged(s, 1)
			ran := assignmentOf(orderOf(&as.Spec, 2), as.Spec) // the same work, as an assignment
			p.send(job.Assign{List: []job.Assignment{ran}})
			receipt := p.finish(&ran).Receipt
			order := as.Order.ID()
			panel := settlement.PanelOf(order, false)
			if b != nil {
				b.draw(order, nodeKey.Public())
			}
			m := job.Judge{Panel: panel, Order: order, Assignment: as}
			p.send(m)
			first := await[job.Ballot](p, nil)
			checkBallot(t, &first, panel)
			p.send(m)
			if again := await[job.Ballot](p, nil); again != first {
				t.Errorf("voted %+v, and then %+v", first, again)
			}
			if b != nil {
				b.bind(panel, first.Commitment)
				p.send(job.Judge{Panel: panel, Order: order, Open: true})
				said.await(t, "the chain does not say that it is time", 1)
				b.change(panel, func(p *settlement.Panel) { p.Revealing = true })
			}
			p.send(job.Judge{Panel: panel, Order: order, Open: true})
			shown := await[job.Opening](p, nil) // of which a first one would have come before
			checkOpening(t, &shown, &first)
			if want := chain.Work(receipt.Result, receipt.Usage); shown.Testimony.Finding != chain.FoundResult || shown.Testimony.Work != want {
				t.Errorf("shows %+v, the run gave %s", shown.Testimony, want.Short())
			}
		})
	}
}

// TestJurorWaitsForWhatItJudges: that what is judged cannot be had counts when half of the time
// to vote is over, and not because a server says so once.
func TestJurorWaitsForWhatItJudges(t *testing.T) {
	for _, c := range []struct {
		name     string
		patience uint64 // ms
	}{{"half is over", 1_000}, {"it is not", 3_600_000}} {
		t.Run(c.name, func(t *testing.T) {
			g := genesis()
			g.Params.CommitMs = 2 * c.patience
			s := newServer(t, g)
			p, _, _ := judgingAt(t, nil, s, home(t, g, s))
			lost, as := crypto.Digest{5}, judged(s, 1)
			panel, order := settlement.PanelOf(lost, false), as.Order.ID()
			if c.patience > 60_000 {
				p.send(job.Judge{Panel: panel, Order: lost})
				p.send(job.Judge{Panel: settlement.PanelOf(order, false), Order: order, Assignment: as})
				if b := await[job.Ballot](p, nil); b.Order != order {
					t.Errorf("voted on %s at once", b.Order.Short())
				}
				return
			}
			b := p.asks(job.Judge{Panel: panel, Order: lost})
			checkBallot(t, &b, panel)
			p.send(job.Judge{Panel: panel, Order: lost, Open: true})
			if o := await[job.Opening](p, nil); o.Testimony != (chain.Testimony{Finding: chain.FoundUnavailable}) {
				t.Errorf("voted %+v of what cannot be had", o.Testimony)
			}
			s.cancels.Store(true)
			as.Spec.Work.Work = job.Wasm{Module: crypto.Digest{6}, Deterministic: true} // which servers do not have
			as.Order.Spec = as.Spec.Digest()
			as.OrderSig = consumerKey.Sign(crypto.DomainOrder, as.Order.Payload())
			order = as.Order.ID()
			panel = settlement.PanelOf(order, false)
			p.asks(job.Judge{Panel: panel, Order: order, Assignment: as})
			p.send(job.Judge{Panel: panel, Order: order, Open: true})
			if o := await(p, func(o job.Opening) bool { return o.Panel == panel }); o.Testimony != (chain.Testimony{Finding: chain.FoundUnavailable}) {
				t.Errorf("voted %+v of what no server has", o.Testimony)
			}
		})
	}
}

// voteFiles lists what an agent keeps of votes.
func voteFiles(t *testing.T, config *agent.Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(config.Home, agent.VotesDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestVotesOutliveTheAgent: whenever an agent ends after it has sealed its vote, the next one gives the same
// seal, and shows the vote, though what was judged is gone; when the panel is over nothing is kept.
func TestVotesOutliveTheAgent(t *testing.T) {
	b := &bench{panels: map[crypto.Digest]settlement.Panel{}}
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	p, _, r := judgingAt(t, b, s, config)
	as := judged(s, 1)
	order := as.Order.ID()
	panel := b.draw(order, nodeKey.Public())
	first := p.asks(job.Judge{Panel: panel, Order: order, Assignment: as})
	r.stop() // the chain has not got the seal
	if len(voteFiles(t, &config)) != 1 {
		t.Fatalf("kept %v", voteFiles(t, &config))
	}
	p, _, r = judgingAt(t, b, s, config)
	if again := await(p, func(b job.Ballot) bool { return b.Panel == panel }); again != first { // unasked
		t.Fatalf("sealed %+v, and then %+v", first, again)
	}
	b.bind(panel, first.Commitment)
	r.stop() // the chain has it
	p, _, r = judgingAt(t, b, s, config)
	if again := p.asks(job.Judge{Panel: panel, Order: order}); again != first {
		t.Fatalf("sealed %+v, and then %+v", first, again)
	}
	b.change(panel, func(p *settlement.Panel) { p.Revealing = true })
	r.stop() // votes are to be shown
	p, _, r = judgingAt(t, b, s, config)
	shown := p.opens(job.Judge{Panel: panel, Order: order, Open: true})
	checkOpening(t, &shown, &first)
	if shown.Testimony.Finding != chain.FoundResult {
		t.Fatalf("shows %+v", shown.Testimony)
	}
	r.stop() // nobody has heard it
	p, _, r = judgingAt(t, b, s, config)
	if again := p.opens(job.Judge{Panel: panel, Order: order, Open: true}); again != shown {
		t.Fatalf("shows %+v, and then %+v", shown, again)
	}
	b.change(panel, func(p *settlement.Panel) { p.Jurors[0].Vote = &chain.Vote{Finding: chain.FoundResult} })
	r.stop() // it was shown
	judgingAt(t, b, s, config)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for begun := time.Now(); len(voteFiles(t, &config)) > 0; <-ticker.C {
		if time.Since(begun) > patience {
			t.Fatal("a vote on a panel that is over is kept")
		}
	}
}

// TestNoSealWithoutAFile: a vote that the disk does not take is not sealed, one that the disk has lost is
// named, and the node votes on.
func TestNoSealWithoutAFile(t *testing.T) {
	b := &bench{panels: map[crypto.Digest]settlement.Panel{}}
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	dir := filepath.Join(config.Home, agent.VotesDir)
	as := judged(s, 1)
	order := as.Order.ID()
	panel := b.draw(order, nodeKey.Public())
	bad := filepath.Join(dir, panel.String()+".vote")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(bad, []byte("torn"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p, said, r := judgingAt(t, b, s, config)
	said.await(t, "a vote does not read", 1)
	if files := voteFiles(t, &config); len(files) != 1 || files[0] != bad+".damaged" {
		t.Fatalf("kept %v", files)
	}
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	m := job.Judge{Panel: panel, Order: order, Assignment: as}
	p.send(m)
	said.await(t, "the vote cannot be kept", 1)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if first := p.asks(m); first.Panel != panel || len(voteFiles(t, &config)) != 1 {
		t.Errorf("sealed %+v, kept %v", first, voteFiles(t, &config))
	}
	r.stop()
}

// TestJurorRemembersNothing: a node that has lost its memory and its disk is asked again for the vote that
// the chain has it bound to, and shows the same; it is bound to nothing else.
func TestJurorRemembersNothing(t *testing.T) {
	b := &bench{panels: map[crypto.Digest]settlement.Panel{}}
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	p, _, r := judgingAt(t, b, s, config)
	as := judged(s, 1)
	order := as.Order.ID()
	panel := b.draw(order, nodeKey.Public())
	p.send(job.Judge{Panel: panel, Order: order, Assignment: as})
	first := await[job.Ballot](p, nil)
	b.bind(panel, first.Commitment)
	r.stop()
	if err := os.RemoveAll(filepath.Join(config.Home, agent.VotesDir)); err != nil {
		t.Fatal(err)
	}
	p, said, _ := judgingAt(t, b, s, config)
	b.change(panel, func(p *settlement.Panel) { p.Revealing = true })
	m := job.Judge{Panel: panel, Order: order, Open: true}
	p.send(m)
	said.await(t, "does not remember its vote", 1)
	m.Assignment = as
	p.send(m)
	again := await[job.Ballot](p, nil)
	if again != first {
		t.Errorf("bound to %+v, and then to %+v", first, again)
	}
	p.send(m)
	shown := await[job.Opening](p, nil)
	checkOpening(t, &shown, &first)
	other := judged(s, 2)
	panel = b.draw(other.Order.ID(), nodeKey.Public())
	b.bind(panel, crypto.Digest{1})
	p.send(job.Judge{Panel: panel, Order: other.Order.ID(), Assignment: other})
	said.await(t, "it does not give what this node is bound to", 1)
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

// TestPatienceBeginsWithASeat: what a server says of a panel before the chain has seated this node on
// it takes none of the time in which the node waits for what it judges.
func TestPatienceBeginsWithASeat(t *testing.T) {
	g := genesis()
	g.Params.CommitMs = 2 * uint64(patience/time.Millisecond)
	b := &bench{panels: map[crypto.Digest]settlement.Panel{}}
	s := newServer(t, g)
	p, _, r := judgingAt(t, b, s, home(t, g, s))
	as := judged(s, 1)
	order := as.Order.ID()
	m := job.Judge{Panel: settlement.PanelOf(order, false), Order: order}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.Now().Add(patience); !r.HeardEarlier(m.Panel, 2*patience); <-ticker.C {
		if time.Now().After(limit) {
			t.Fatal("the agent never asked whether it has a seat")
		}
		p.send(m) // nobody is drawn yet
	}
	b.draw(order, nodeKey.Public())
	p.send(m)
	m.Assignment = as
	first := p.asks(m)
	b.bind(m.Panel, first.Commitment)
	b.change(m.Panel, func(p *settlement.Panel) { p.Revealing = true })
	p.send(job.Judge{Panel: m.Panel, Order: order, Open: true})
	shown := await[job.Opening](p, nil)
	if checkOpening(t, &shown, &first); shown.Testimony.Finding != chain.FoundResult {
		t.Errorf("voted %+v as soon as it was drawn", shown.Testimony)
	}
}

// TestBallotsAreGivenAgain: a server that begins a session is told of the votes that the node gave.
func TestBallotsAreGivenAgain(t *testing.T) {
	s, p, _ := judging(t, nil)
	as := judged(s, 1)
	order := as.Order.ID()
	first := p.asks(job.Judge{Panel: settlement.PanelOf(order, false), Order: order, Assignment: as})
	p.conn.Close(transport.CloseShutdown, "the server begins anew")
	if again := await[job.Ballot](s.session(), nil); again != first {
		t.Errorf("voted %+v, and then %+v", first, again)
	}
}
