package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

const (
	followEvery  = 5 * time.Second
	claimsARound = 32
	chainTimeout = 10 * time.Second
)

// market is what the chain says of the node's work, with proof. Safe for
// concurrent use.
type market struct {
	client *sdk.Client
	bond   ownBond

	mu        sync.Mutex
	fees      map[crypto.PublicKey]uint16 // clusters', in 1/10,000
	why       string                      // why it is not known what was paid; empty: it is
	standings *standings
}

// newMarket returns nil if the config names no node to ask.
func newMarket(c *Config, genesis *chain.Genesis) (*market, error) {
	if len(c.RPC) == 0 {
		return nil, nil
	}
	client, err := sdk.New(sdk.Config{Nodes: c.RPC, Genesis: genesis, Timeout: chainTimeout, Attempts: 2 * len(c.RPC)})
	if err != nil {
		return nil, fmt.Errorf("agent: rpc: %w", err)
	}
	m := &market{client: client, fees: map[crypto.PublicKey]uint16{}}
	m.standings = newStandings(m.standingOf)
	return m, nil
}

// noted remembers why the chain cannot be asked, or that it can, and reports
// whether that is news.
func (m *market) noted(err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.why
	m.why = ""
	if err != nil {
		m.why = line(err.Error())
	}
	return (was == "") != (m.why == "")
}

// feeOf returns a cluster's fee as far as it is known.
func (m *market) feeOf(cluster crypto.PublicKey) uint16 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fees[cluster]
}

// learnFee asks for a cluster's fee, once.
func (m *market) learnFee(ctx context.Context, cluster crypto.PublicKey) error {
	m.mu.Lock()
	_, known := m.fees[cluster]
	m.mu.Unlock()
	if known || cluster.IsZero() {
		return nil
	}
	value, err := m.client.VerifiedState(ctx, settlement.ClusterKey(cluster))
	if err != nil {
		return err
	}
	fee := uint16(0)
	if raw, there := value.Get(); there {
		record, err := settlement.DecodeCluster(raw)
		if err != nil {
			return err
		}
		fee = record.FeeBps
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fees[cluster] = fee
	return nil
}

// claim returns the chain's state of the claim of a receipt; false: there is none yet.
func (m *market) claim(ctx context.Context, key chain.ClaimKey) (none settlement.Claim, known bool, err error) {
	value, err := m.client.VerifiedState(ctx, settlement.OrderKey(key.Order))
	if err != nil {
		return none, false, err
	}
	raw, there := value.Get()
	if !there {
		return none, false, nil
	}
	book, err := settlement.DecodeOrder(raw)
	if err != nil {
		return none, false, err
	}
	record, inside := book.ClaimOf(key.Node, key.Sequence)
	if !inside {
		if value, err = m.client.VerifiedState(ctx, settlement.ClaimKey(key)); err != nil {
			return none, false, err
		}
		if raw, there = value.Get(); !there {
			return none, false, nil
		}
		if record, err = settlement.DecodeClaim(raw); err != nil {
			return none, false, err
		}
	}
	return record, true, nil
}

// followClaims asks the chain from time to time what became of the jobs that
// are not paid yet. Without any it asks nothing.
func (a *Agent) followClaims(ctx context.Context) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for from := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		waiting := a.book.awaited()
		if a.market == nil || len(waiting) == 0 {
			a.expireClaims(waiting)
			continue
		}
		// A round takes the next ones, so that one that waits long does not hold up the others.
		if from >= len(waiting) {
			from = 0
		}
		part := waiting[from:min(from+claimsARound, len(waiting))]
		from += len(part)
		settled, err := a.askClaims(ctx, part)
		from -= settled
		if ctx.Err() != nil {
			return
		}
		if a.market.noted(err) {
			a.log.Warn("agent: asking the chain what was paid", "error", err)
		}
		if err == nil {
			a.expireClaims(part)
		}
	}
}

// askClaims enters what was paid, and counts it.
func (a *Agent) askClaims(ctx context.Context, waiting []bookLine) (settled int, err error) {
	for _, l := range waiting {
		if err := a.market.learnFee(ctx, l.Cluster); err != nil {
			return settled, err
		}
		record, known, err := a.market.claim(ctx, chain.ClaimKey{Order: l.Order, Node: a.id, Sequence: l.Number})
		if err != nil {
			return settled, err
		}
		if known && record.Final() {
			a.book.add(lineOf(l.Order, timeMs(time.Now()), &record))
			a.spool.settled(l.Order)
			settled++
		}
	}
	return settled, nil
}

// lineOf is the line of a claim of which no more will be paid: one that was lost may have
// been paid in part, or not at all.
func lineOf(order crypto.Digest, now chain.TimeMs, record *settlement.Claim) bookLine {
	if !record.Settled() && record.Paid.IsZero() {
		return bookLine{Kind: lineUnpaid, Order: order, AtMs: now}
	}
	return bookLine{Kind: linePaid, Order: order, AtMs: now, Amount: record.Paid}
}

// claimMargin is how long after its claim window a job's payment is given up:
// clocks differ, and blocks take their time.
const claimMargin = 10 * time.Minute

// expireClaims gives up those that nobody can claim any more.
func (a *Agent) expireClaims(waiting []bookLine) {
	now := timeMs(time.Now())
	for _, l := range waiting {
		if l.UntilMs+chain.TimeMs(claimMargin.Milliseconds()) < now {
			a.book.add(bookLine{Kind: lineUnpaid, Order: l.Order, AtMs: now})
		}
	}
}

// earnings is what the node has earned, is owed, and may still earn.
func (a *Agent) earnings() Earnings {
	e := a.book.sum(timeMs(time.Now()), a.market.feeOf)
	if a.market == nil {
		e.Unknown = "rpc is empty in config.toml: no node of the chain is asked what was paid"
	} else {
		a.market.mu.Lock()
		e.Unknown = a.market.why
		a.market.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tasks {
		if t.judging { // it is paid for what its panel finds
			continue
		}
		e.RunningJobs++
		if sum, ok := e.RunningMost.Add(a.mostFor(t)); ok {
			e.RunningMost = sum
		}
	}
	return e
}

// mostFor is the most that a running job can bring, after fees.
func (a *Agent) mostFor(t *task) chain.Amount {
	as := &t.assignment
	if as.Order.Term != nil {
		return chain.Amount{} // the chain pays it as it goes
	}
	most := as.Bid.Fixed
	if len(as.Bid.Prices) > 0 {
		worst, err := job.WorstCost(&as.Spec, as.Bid.Prices)
		if err != nil {
			return chain.Amount{}
		}
		most = worst
	}
	return lessFee(lessFee(most, a.genesis.Params.ProtocolFeeBps), a.market.feeOf(as.Order.Cluster))
}
