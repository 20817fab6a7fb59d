package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// HoursOpen reports whether work is accepted at a time by a config's hours.
func HoursOpen(list []string, t time.Time) (bool, error) {
	h, err := parseHours(list)
	return h.open(t), err
}

// Book is a book of earnings in a directory.
type Book struct{ *book }

// OpenBook opens a book.
func OpenBook(dir string) (Book, error) {
	b, err := openBook(dir, false, slog.New(slog.DiscardHandler))
	return Book{b}, err
}

// Finished enters a signed receipt that should bring so much before a cluster's
// fee.
func (b Book) Finished(order crypto.Digest, at chain.TimeMs, amount chain.Amount) {
	b.add(bookLine{Kind: lineFinished, Order: order, Number: 1, AtMs: at, UntilMs: at + 1000, Amount: amount})
	b.shorten(at)
}

// Paid enters what the chain paid.
func (b Book) Paid(order crypto.Digest, at chain.TimeMs, amount chain.Amount) {
	b.add(bookLine{Kind: linePaid, Order: order, AtMs: at, Amount: amount})
}

// Unpaid gives a payment up.
func (b Book) Unpaid(order crypto.Digest, at chain.TimeMs) {
	b.add(bookLine{Kind: lineUnpaid, Order: order, AtMs: at})
}

// Ended enters what the chain says of a claim that is final.
func (b Book) Ended(order crypto.Digest, at chain.TimeMs, record *settlement.Claim) {
	b.add(lineOf(order, at, record))
}

// Sum is what the book says, for clusters whose fee is so many 1/10,000.
func (b Book) Sum(at chain.TimeMs, bps uint16) Earnings {
	return b.sum(at, func(crypto.PublicKey) uint16 { return bps })
}

// Close closes the book.
func (b Book) Close() error { return b.close() }

// Journal is what the spool is kept in.
type Journal struct{ j *journal }

// OpenJournal opens one whose live records live returns.
func OpenJournal(path string, load func([]byte) error, live func() [][]byte) (*Journal, error) {
	j, err := openJournal(path, slog.New(slog.DiscardHandler), load)
	if err != nil {
		return nil, err
	}
	j.live = live
	return &Journal{j}, nil
}

// Append makes a record durable.
func (j *Journal) Append(record []byte) error { return j.j.append(record) }

// AppendLater has a record written with the next.
func (j *Journal) AppendLater(record []byte) { j.j.appendLater(record) }

// Close closes the journal.
func (j *Journal) Close() error { return j.j.close() }

// Drop closes the file as a crash would.
func (j *Journal) Drop() error { return j.j.file.Close() }

// CargoOf says what a blob of a job counts as.
func CargoOf(spec *job.Spec, id crypto.Digest) string { return cargoOf(spec, id).String() }

// Starts is when work begins.
type Starts struct{ *starts }

// NewStarts returns a gate as an agent has it.
func NewStarts() Starts { return Starts{newStarts()} }

// Enter waits for a turn.
func (s Starts) Enter(ctx context.Context) (leave func(), err error) { return s.enter(ctx) }

// Yield notes a message with so many offers.
func (s Starts) Yield(n int) { s.yield(n) }

// The bounds of Starts.
const (
	StartShare = startShare
	StartYield = startYield
	MaxYield   = maxYield
	ManyOffers = manyOffers
)

// LeaseState is what a test says that the chain has of a lease.
type LeaseState struct {
	Terms     crypto.Digest    // whose hold; zero: those of the order that opened it
	Resources []chain.Quantity // nil: what that order keeps, if the agent was given it
	Live      bool
	Expires   chain.TimeMs
	Height    chain.Height
	At        chain.TimeMs
}

// AskLeases has the agent ask a test about its leases, before it runs.
func (a *Agent) AskLeases(ask func(id chain.LeaseID) (LeaseState, error)) {
	a.leases = func(_ context.Context, id chain.LeaseID) (leaseState, error) {
		s, err := ask(id)
		if s.Terms.IsZero() {
			s.Terms = id.Order
		}
		a.mu.Lock()
		if t := a.tasks[s.Terms]; t != nil && s.Resources == nil {
			s.Resources = t.assignment.Order.Term.Resources
		}
		a.mu.Unlock()
		return leaseState{lease: settlement.Lease{Expires: s.Expires, Order: s.Terms, Resources: s.Resources}, live: s.Live, height: s.Height, at: s.At}, err
	}
}

// AskPayable has the agent ask a test whether claims would be paid, before it runs.
func (a *Agent) AskPayable(ask func(claim *chain.Claim) error) {
	a.payable = func(_ context.Context, claim *chain.Claim) error { return ask(claim) }
}

// AskPanels has the agent ask a test about panels, before it runs.
func (a *Agent) AskPanels(ask func(id crypto.Digest) (settlement.Panel, bool)) {
	a.panels = func(_ context.Context, id crypto.Digest) (panelState, error) {
		p, there := ask(id)
		return panelState{Panel: p, there: there}, nil
	}
}

// AskRuns has the agent ask a test about replicated runs, and at which time of the chain it says so, before it runs.
func (a *Agent) AskRuns(ask func(order crypto.Digest) (runs settlement.Runs, there bool, at chain.TimeMs, err error)) {
	a.runs = func(_ context.Context, order crypto.Digest) (out runsState, err error) {
		out.runs, out.there, out.at, err = ask(order)
		return out, err
	}
}

// HeardEarlier has all that the agent knows of a panel be older by so much; false: it does not know of
// the panel, or has not asked the chain about it.
func (a *Agent) HeardEarlier(panel crypto.Digest, by time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.jury.panels[panel]
	if known == nil || known.asking {
		return false
	}
	known.heard = known.heard.Add(-by)
	if !known.seated.IsZero() {
		known.seated = known.seated.Add(-by)
	}
	return true
}

// AskHardware has the agent ask a test about challenges, before it runs.
func (a *Agent) AskHardware(ask func(node crypto.PublicKey) (settlement.Hardware, bool)) {
	a.hardware = func(_ context.Context, node crypto.PublicKey) (settlement.Hardware, bool, error) {
		h, there := ask(node)
		return h, there, nil
	}
}

// Bench is what a test may change of the machine that is challenged, and of the clock that measures.
type Bench struct {
	Cores  int
	Memory func() uint64
	Run    func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane
	Now    func() time.Time
}

// SetBench changes what is there, before the agent runs.
func (a *Agent) SetBench(b Bench) { a.bench = b.bench() }

func (b Bench) bench() bench {
	out := newBench()
	if b.Cores > 0 {
		out.cores = b.Cores
	}
	if b.Memory != nil {
		out.memory = b.Memory
	}
	if b.Run != nil {
		out.run = b.Run
	}
	if b.Now != nil {
		out.now = b.Now
		out.after = func(time.Duration) <-chan time.Time { return time.After(20 * time.Millisecond) }
	}
	return out
}

// Measure is Benchmark on a bench.
func Measure(b Bench, params *chain.Params, millicores, memoryMiB uint64) (Benchmarked, error) {
	return b.bench().measure(context.Background(), params, millicores, memoryMiB)
}

// Standings is what an agent remembers of clusters, with a chain that answers as told.
type Standings struct{ m *market }

// NewStandings returns an empty memory.
func NewStandings(ask func(context.Context, crypto.PublicKey) (Standing, error)) Standings {
	return Standings{&market{standings: newStandings(ask)}}
}

// Offered has the agent hear of a cluster in an offer.
func (s Standings) Offered(cluster crypto.PublicKey) {
	if s.m.unheard(cluster) {
		s.m.hear(context.Background(), cluster, 0)
	}
}

// Hear asks for a cluster while bids are taken for so long.
func (s Standings) Hear(cluster crypto.PublicKey, closeMs uint64) {
	s.m.hear(context.Background(), cluster, closeMs)
}

// Refresh asks for all of them again.
func (s Standings) Refresh() error { return s.m.standings.lookAll(context.Background()) }

// Doubt is what is said of an order's cluster.
func (s Standings) Doubt(order *chain.Order) string { return s.m.doubt(order, 1) }

// Unheard reports whether a cluster would be asked for when an offer comes.
func (s Standings) Unheard(cluster crypto.PublicKey) bool { return s.m.unheard(cluster) }

// Sweep drops what nobody takes any more at a time.
func (a *Agent) Sweep(now time.Time) { a.sweep(context.Background(), now) }

// Spooled reports whether the end of an order's work is kept.
func (a *Agent) Spooled(order crypto.Digest) bool {
	_, there := a.spool.get(order)
	return there
}

// RunsLast is how much longer than its claim window runs of an order last at most.
func (a *Agent) RunsLast(p chain.PolicyReplicate) chain.TimeMs { return a.runsLast(p) }

// Given reports whether the receipt of an order's work can be shown.
func (a *Agent) Given(order crypto.Digest) bool {
	_, there := a.spool.given(order)
	return there
}
