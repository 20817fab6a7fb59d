package agent_test

import (
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

// field is the replicated runs that the chain of a test has.
type field struct {
	mu   sync.Mutex
	runs map[crypto.Digest]settlement.Runs
	at   chain.TimeMs
	err  error
}

func (f *field) ask(order crypto.Digest) (settlement.Runs, bool, chain.TimeMs, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, there := f.runs[order]
	return r, there, f.at, f.err
}

// forget has the chain have no runs of an order at a time, or no answer.
func (f *field) forget(order crypto.Digest, at chain.TimeMs, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, order)
	f.at, f.err = at, err
}

// put has the chain ask nodes to run an order, of which the one of the tests has a place.
func (f *field) put(order crypto.Digest, place int, stage settlement.RunStage, state settlement.RunState) {
	r := settlement.Runs{Stage: stage}
	for i := range place + 2 {
		node := crypto.PublicKey{byte(i + 1)}
		if i == place {
			node = nodeKey.Public()
		}
		r.Runs = append(r.Runs, settlement.Run{Bidder: settlement.Bidder{Node: node}, State: state})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs[order] = r
}

// replica is an agent whose chain has runs, or that has no chain to ask.
func replica(t *testing.T, f *field, s *server, config agent.Config) (p *peer, said *heard, r *running) {
	t.Helper()
	said = &heard{}
	config.Log = slog.New(slog.NewTextHandler(said, nil))
	a, err := agent.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		a.AskRuns(f.ask)
	}
	r = begin(t, a)
	return s.session(), said, r
}

// replicated is an assignment of a replica with a place.
func replicated(s *server, nonce uint64, place uint8) job.Assignment {
	id, size := s.put(program([]importFn{fdWrite}, "found", writeTo(constant(1), 0, 5)))
	spec := wasmSpec(id, size)
	order := orderOf(&spec, nonce)
	order.Policy.Policy = chain.PolicyReplicate{K: 2, N: 4, WindowMs: 60_000}
	as := assignmentOf(order, spec)
	as.Place = place
	return as
}

func (p *peer) gives(as job.Assignment) { p.send(job.Assign{List: []job.Assignment{as}}) }

// refuses waits until the node refuses an order, and says why.
func (p *peer) refuses(as *job.Assignment, want string) {
	p.server.t.Helper()
	order := as.Order.ID()
	if r := await(p, func(r job.AssignReply) bool { return r.Order == order && r.Refuse != "" }); !strings.Contains(r.Refuse, want) {
		p.server.t.Errorf("refused because %q, want %q", r.Refuse, want)
	}
}

func (p *peer) pledged(as *job.Assignment) job.Pledge {
	p.server.t.Helper()
	order := as.Order.ID()
	return await(p, func(m job.Pledge) bool { return m.Order == order })
}

// TestReplicasSignForTheirPlace: a replica is bound by its signature for the place that it was assigned with, and no
// other that its cluster might make of it.
func TestReplicasSignForTheirPlace(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	p, _, _ := replica(t, nil, s, home(t, g, s))
	for place := range uint8(3) {
		as := replicated(s, uint64(place), place)
		p.gives(as)
		pledge := p.pledged(&as)
		for other := range uint8(3) {
			payload := chain.RunPayload(g.ChainID, as.Order.ID(), pledge.Commitment, other)
			if signed := nodeKey.Public().Verify(crypto.DomainRun, payload, pledge.Signature); signed != (other == place) || pledge.Place != place {
				t.Errorf("assigned with place %d it says %d, and signs for %d: %v", place, pledge.Place, other, signed)
			}
		}
	}
}

// TestNoRunIsReusedForAnotherPlace: a run that ended for one place among the runs is none for another, also after its
// agent began anew; and one that goes on neither.
func TestNoRunIsReusedForAnotherPlace(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	p, _, r := replica(t, nil, s, config)
	as := replicated(s, 1, 1)
	other := as
	other.Place = 2
	p.gives(as)
	first := p.pledged(&as)
	p.gives(other)
	p.refuses(&other, "for another place")
	p.gives(as)
	if again := p.pledged(&as); again != first {
		t.Error("another receipt, so it ran twice")
	}
	r.stop()
	p, _, _ = replica(t, nil, s, config)
	p.gives(other)
	p.refuses(&other, "for another place")
}

// TestReceiptsAreShownWhenTheChainSaysSo: a server that asks for a pledged receipt before the chain has receipts shown
// does not get it.
func TestReceiptsAreShownWhenTheChainSaysSo(t *testing.T) {
	f := &field{runs: map[crypto.Digest]settlement.Runs{}}
	g := genesis()
	s := newServer(t, g)
	p, said, _ := replica(t, f, s, home(t, g, s))
	for i, late := range []bool{false, true} {
		as := replicated(s, uint64(i+1), 1)
		order := as.Order.ID()
		f.put(order, 1, settlement.StageRun, settlement.RunAsked)
		p.gives(as)
		pledge := p.pledged(&as)
		p.send(job.Show{Order: order})
		said.await(t, "refusing to show a receipt", i+1)
		p.gives(as)
		if again := p.pledged(&as); again != pledge { // and not its Done
			t.Fatalf("pledged %+v, and then %+v", pledge, again)
		}
		if late {
			f.put(order, 1, settlement.StagePanel, settlement.RunSilent)
		} else {
			f.put(order, 1, settlement.StageReveal, settlement.RunCommitted)
		}
		d := askShown(p, order)
		if chain.RunCommitment(d.Receipt.Digest(), nodeKey.Public(), d.Salt) != pledge.Commitment {
			t.Errorf("shows %+v, which it did not pledge", d)
		}
	}
}

// askShown asks for a receipt again and again, as a server does, until it is there.
func askShown(p *peer, order crypto.Digest) job.Done {
	p.server.t.Helper()
	return askUntil(p, job.Show{Order: order}, func(d job.Done) bool { return d.Receipt.Order == order })
}

// TestPledgedReceiptOutlivesTheClaimWindow: others may take a day for their runs; who is bound by then still has its
// receipt, until the chain says of a time at which none can begin that it has no runs of the order.
func TestPledgedReceiptOutlivesTheClaimWindow(t *testing.T) {
	f := &field{runs: map[crypto.Digest]settlement.Runs{}}
	g := genesis()
	s := newServer(t, g)
	p, said, r := replica(t, f, s, home(t, g, s))
	as := replicated(s, 1, 1)
	order := as.Order.ID()
	f.put(order, 1, settlement.StageRun, settlement.RunAsked)
	p.gives(as)
	p.pledged(&as)
	expires := as.Order.Deadline + chain.TimeMs(g.Params.ClaimWindowMs)
	later := time.UnixMilli(int64(expires) + 365*24*3_600_000)
	r.Sweep(later)
	f.put(order, 1, settlement.StageReveal, settlement.RunCommitted)
	if d := askShown(p, order); d.Salt == [32]byte{} {
		t.Error("what is shown was not pledged")
	}
	for _, says := range []struct {
		at  chain.TimeMs
		err error
	}{{expires + 1, errors.New("away")}, {expires, nil}} {
		f.forget(order, says.at, says.err)
		if r.Sweep(later); !r.Spooled(order) {
			t.Errorf("gone though the chain, of %d, says %v; runs may begin until %d", says.at, says.err, expires)
		}
	}
	said.await(t, "the chain cannot be asked about their runs", 1)
	f.forget(order, expires+1, nil)
	if r.Sweep(time.UnixMilli(int64(expires))); !r.Spooled(order) {
		t.Error("gone before the claim window ended")
	}
	if r.Sweep(later); r.Spooled(order) {
		t.Error("kept though the chain has no runs of the order")
	}
	said.await(t, "the chain has no runs of the order to which its receipt was pledged", 1)
}

// TestPledgedReceiptWithoutAChainToAsk: an agent that cannot ask keeps it for as long as the runs of its order last at most;
// what is not pledged goes with its claim window.
func TestPledgedReceiptWithoutAChainToAsk(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	p, said, r := replica(t, nil, s, home(t, g, s))
	as, plain := replicated(s, 1, 0), replicated(s, 2, 0)
	plain.Order.Policy.Policy = chain.PolicyNone{}
	plain = assignmentOf(plain.Order, plain.Spec)
	policy := as.Order.Policy.Policy.(chain.PolicyReplicate)
	order, other := as.Order.ID(), plain.Order.ID()
	p.gives(as)
	p.pledged(&as)
	p.gives(plain)
	await(p, func(d job.Done) bool { return d.Receipt.Order == other })
	window := chain.TimeMs(g.Params.ClaimWindowMs)
	last := as.Order.Deadline + window + r.RunsLast(policy)
	if rounds := as.Order.Deadline + window + chain.TimeMs(4*policy.WindowMs); last < rounds {
		t.Errorf("runs last until %d, with four rounds alone until %d", last, rounds)
	}
	if r.Sweep(time.UnixMilli(int64(max(as.Order.Deadline, plain.Order.Deadline)+window) + 1)); r.Spooled(other) || !r.Spooled(order) {
		t.Errorf("after the claim window: a claim is kept: %t, a pledged receipt: %t", r.Spooled(other), r.Spooled(order))
	}
	if r.Sweep(time.UnixMilli(int64(last))); !r.Spooled(order) {
		t.Error("gone while runs may last")
	}
	if r.Sweep(time.UnixMilli(int64(last) + 1)); r.Spooled(order) {
		t.Error("kept for ever")
	}
	said.await(t, "nobody asked for the pledged receipt", 1)
}

// TestARefusedPledgeIsKept: a server that wants nothing of a pledged receipt any more is not the chain, which may ask for it still: the node shows it
// then, also when its claim window is over, and after its agent began anew; and forgets it when the chain has no runs of the order.
func TestARefusedPledgeIsKept(t *testing.T) {
	f := &field{runs: map[crypto.Digest]settlement.Runs{}}
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	p, said, r := replica(t, f, s, config)
	as := replicated(s, 1, 1)
	order := as.Order.ID()
	f.put(order, 1, settlement.StageRun, settlement.RunAsked)
	p.gives(as)
	pledge := p.pledged(&as)
	p.send(job.Ack{Order: order, Refuse: "the job has ended"})
	said.await(t, "the servers do not take a pledged receipt", 1)
	if r.Spooled(order) {
		t.Error("servers are told of it again and again")
	}
	expires := as.Order.Deadline + chain.TimeMs(g.Params.ClaimWindowMs)
	later := time.UnixMilli(int64(expires) + 365*24*3_600_000)
	r.Sweep(later)
	r.stop()
	list, err := agent.ReadPledged(&config)
	if err != nil || len(list) != 1 || list[0].Attested() || list[0].Cluster != as.Order.Cluster ||
		chain.RunCommitment(list[0].Receipt.Digest(), nodeKey.Public(), list[0].Salt) != pledge.Commitment {
		t.Errorf("its owner would show %+v, %v", list, err)
	}
	p, _, r = replica(t, f, s, config)
	f.put(order, 1, settlement.StageReveal, settlement.RunCommitted)
	d := askShown(p, order)
	if chain.RunCommitment(d.Receipt.Digest(), nodeKey.Public(), d.Salt) != pledge.Commitment {
		t.Errorf("shows %+v, which it did not pledge", d)
	}
	f.forget(order, expires+1, nil)
	r.Sweep(later)
	if r.Given(order) {
		t.Error("kept though the chain has no runs of the order")
	}
}
