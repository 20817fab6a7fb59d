package settlement_test

import (
	"encoding/binary"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

const (
	windowMs = 60_000
	tickMs   = 1_000
)

// optimistic is a policy whose bond covers 0.25 HYPER.
var optimistic = chain.PolicyOptimistic{WindowMs: windowMs, Bond: chain.Hyper(8)}

var (
	right       = chain.Vote{Finding: chain.FoundResult, Result: yieldOf("right", worth)}
	wrong       = chain.Vote{Finding: chain.FoundResult, Result: yieldOf("wrong", worth)}
	unavailable = chain.Vote{Finding: chain.FoundUnavailable}
	unstable    = chain.Vote{Finding: chain.FoundUnstable}
)

// worth is what the job of court takes, in hundredths as claimOf has them.
const worth = 60

func hundredthsUsed(n uint64) []chain.Usage {
	return []chain.Usage{{Resource: chain.CPU, Amount: 1_000 * n, DurationMs: hour}}
}

func yieldOf(result string, hundredths uint64) crypto.Digest {
	return yieldIn(result, hundredthsUsed(hundredths))
}

// Accounts 8 … 25 own one more node each, 71 … 88, so that a panel of appeal finds jurors.
const firstJudge, lastJudge = 8, 25

// court is a market with nodes enough for panels, whose blocks make draws.
type court struct {
	*market
	nodes map[crypto.PublicKey]byte
	lot   uint64 // changes what is drawn
}

func newCourt(t testing.TB, lot uint64) *court {
	t.Helper()
	c := &court{market: newMarket(t), nodes: map[crypto.PublicKey]byte{}, lot: lot}
	for n := byte(firstJudge); n <= lastJudge; n++ {
		c.must(tokens.Transfer(c.kv, account(2), chain.Transfer{To: account(n), Amount: chain.Hyper(200)}, start))
		c.register(n, n+63)
	}
	for n := byte(90); n <= 91; n++ { // who has no node, and so judges nothing
		c.must(tokens.Transfer(c.kv, account(2), chain.Transfer{To: account(n), Amount: chain.Hyper(50)}, start))
	}
	for n := range byte(100) {
		c.nodes[key(n).Public()] = n
	}
	c.deposit(consumer, chain.Hyper(1_000))
	return c
}

// block lets time pass by ms, of which the chain progressed by all but what it stood, and
// does what begins a block.
func (c *court) block(ms, stood uint64) chain.Events {
	c.env.Last, c.env.LastProgressMs = c.env.Now, c.env.ProgressMs
	c.env.ProgressMs += ms - stood
	c.pass(ms)
	c.env.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.lot), uint64(c.env.Height)))
	events, _ := settlement.RunDraws(c.kv, &c.env, 100)
	due, _ := settlement.RunDeadlines(c.kv, &c.env, 100)
	settlement.ExpireMarks(c.kv, &c.env, 100)
	events = append(events, due...)
	c.events = append(c.events, events...)
	return events
}

// blocks lets n blocks pass, a second each.
func (c *court) blocks(n int) (events chain.Events) {
	for range n {
		events = append(events, c.block(tickMs, 0)...)
	}
	return events
}

// claimOf is node 40's claim for a job, 0.0036 HYPER times hundredths, of the result of a yield.
func (c *court) claimOf(nonce uint64, hundredths uint64, yield crypto.Digest) chain.Claim {
	order := c.order(consumer, nonce, optimistic)
	order.MaxCost = chain.Nano(250_000_000)
	return c.claimBy(40, order, hundredths, yield)
}

// post posts a claim, and returns its order.
func (c *court) post(claim chain.Claim) crypto.Digest {
	c.Helper()
	events := c.settle(claim)
	if _, ok := events[len(events)-1].(chain.ClaimPending); !ok {
		c.Fatalf("got %+v, want claim_pending", events)
	}
	return claim.Order.ID()
}

func (c *court) open(id crypto.Digest) settlement.OpenClaim {
	c.Helper()
	o, ok := settlement.OpenClaimOf(c.kv, id)
	if !ok {
		c.Fatal("the claim is not in its window")
	}
	return o
}

func (c *court) challenge(by byte, id crypto.Digest) {
	c.Helper()
	c.must(settlement.Challenge(c.kv, &c.env, account(by), chain.Challenge{Order: id, Stake: chain.Hyper(10)}))
}

func (c *court) appeal(by byte, id crypto.Digest) {
	c.Helper()
	c.must(settlement.Appeal(c.kv, &c.env, account(by), chain.Appeal{Order: id, Stake: chain.Hyper(10)}))
}

// vote has the jurors of a panel commit and show; votes tells what juror i votes, nil:
// nothing.
func (c *court) vote(panel crypto.Digest, votes func(i int) *chain.Vote) chain.Events {
	c.Helper()
	p, ok := settlement.PanelAt(c.kv, panel)
	if !ok {
		c.Fatal("there is no such panel")
	}
	var events chain.Events
	take := func(more chain.Events, why *chain.Rejection) {
		c.Helper()
		if why != nil {
			c.Fatal(why.Reason())
		}
		events = append(events, more...)
	}
	silent := false
	for i, j := range p.Jurors {
		vote := votes(i)
		if vote == nil {
			silent = true
			continue
		}
		c.commit(panel, j.Node, shows(panel, p.Subject, *vote).Commitment(panel, j.Node, [32]byte{byte(i)}))
	}
	for silent { // and whoever takes their places
		c.block(c.env.Params.CommitMs+1, 0)
		p, ok := settlement.PanelAt(c.kv, panel)
		if silent = ok && p.DrawAt != 0; silent {
			c.draw()
			p, ok = settlement.PanelAt(c.kv, panel)
			silent = ok && !p.Revealing && p.Due != 0
		}
	}
	for i, j := range p.Jurors {
		if vote := votes(i); vote != nil {
			take(settlement.RevealVote(c.kv, &c.env, chain.RevealVote{Panel: panel, Node: j.Node, Testimony: shows(panel, p.Subject, *vote), Salt: [32]byte{byte(i)}}))
		}
	}
	c.events = append(c.events, events...)
	return events
}

func all(v chain.Vote) func(int) *chain.Vote { return func(int) *chain.Vote { return &v } }

func nothing(int) *chain.Vote { return nil }

// upTo votes v on the first n seats, and nothing on the rest.
func upTo(n int, v chain.Vote) func(int) *chain.Vote {
	return func(i int) *chain.Vote {
		if i < n {
			return &v
		}
		return nil
	}
}

// mostly votes v on the first n seats and the other on the rest.
func mostly(n int, v, other chain.Vote) func(int) *chain.Vote {
	return func(i int) *chain.Vote {
		if i < n {
			return &v
		}
		return &other
	}
}

// draw lets the blocks pass that a draw takes.
func (c *court) draw() { c.blocks(settlement.DrawDelay) }

// expire lets a window pass.
func (c *court) expire() { c.block(windowMs+1, 0) }

// worth is all that an account has: its balance, and the bonds of nodes.
func (c *court) worth(n byte, nodes ...byte) uint64 {
	sum := c.balance(n).Nano()
	for _, node := range nodes {
		p, _ := settlement.ProviderOf(c.kv, key(node).Public())
		sum += p.Bond.Nano()
	}
	return sum
}

// checkClosed demands that a claim is over, that nothing is locked and that value is
// conserved.
func (c *court) checkClosed(id crypto.Digest) chain.ClaimClosed {
	c.Helper()
	if _, open := settlement.OpenClaimOf(c.kv, id); open {
		c.Fatalf("the claim is still open: %s", c.open(id).Stage)
	}
	c.checkNothingLocked()
	c.checkSupply()
	var closed []chain.ClaimClosed
	paid := 0
	for _, e := range c.events {
		if e, ok := e.(chain.ClaimClosed); ok && e.Order == id {
			closed = append(closed, e)
		}
		if e, ok := e.(chain.ClaimSettled); ok && e.Order == id {
			paid++
		}
	}
	if book, claims, known := settlement.Settlement(c.kv, id); known && len(claims) != len(closed) || len(closed) == 0 {
		c.Fatalf("%d claims were closed %d times: %+v", len(claims), len(closed), book)
	}
	for i, e := range closed { // who is paid is the last
		if last := i == len(closed)-1; e.Paid && (!last || !e.Refunded.IsZero()) || paid > 1 || last && e.Paid != (paid == 1) {
			c.Fatalf("claim %d of %d was paid: %v, of %d, and %v went back", i+1, len(closed), e.Paid, paid, e.Refunded)
		}
	}
	return closed[len(closed)-1]
}

func (c *court) checkNothingLocked() {
	c.Helper()
	for k, value := range c.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		switch k[1] {
		case 'p':
			if p := state.Decode[settlement.Provider](k, value); !p.Locked.IsZero() {
				c.Fatalf("node %d has %v locked", c.nodes[crypto.PublicKey(k[2:])], p.Locked)
			}
		case 'c':
			if p := state.Decode[settlement.Cluster](k, value); !p.Locked.IsZero() {
				c.Fatalf("the cluster has %v locked", p.Locked)
			}
		case 'j', 'a', 'd', 't':
			c.Fatalf("a record of kind %q is left", k[1])
		}
	}
}

func (c *court) checkSupply() {
	c.Helper()
	if surplus := c.surplus(); surplus != 0 {
		c.Fatalf("holdings are %d more than what was minted and not burned", int64(surplus))
	}
	if err := c.market.locks(); err != nil && !c.locked {
		c.Fatal(err)
	}
}

// lotOf finds a lot with which the audit of claimOf(1, worth, …) is drawn, or is not.
func lotOf(t testing.TB, audited bool) uint64 {
	t.Helper()
	for lot := range uint64(1_000) {
		c := newCourt(t, lot)
		id := c.post(c.claimOf(1, worth, right.Result))
		c.draw()
		if (c.open(id).Audit == settlement.Asked) == audited {
			return lot
		}
	}
	t.Fatal("no lot found")
	return 0
}

func TestOptimisticClaimIsPaidAfterItsWindow(t *testing.T) {
	c := newCourt(t, lotOf(t, false))
	before := c.escrow(consumer).Balance
	id := c.post(c.claimOf(1, worth, right.Result))
	cost := chain.Nano(216_000_000)
	o := c.open(id)
	if got := before.Nano() - c.escrow(consumer).Balance.Nano(); got != cost.Nano() {
		t.Errorf("%d left the escrow, want %v", got, cost)
	}
	if o.Premium != chain.Nano(13_500_000) || o.Held != chain.Nano(202_500_000) {
		t.Errorf("premium %v and held %v", o.Premium, o.Held)
	}
	if got := tokens.AccountOf(c.kv, settlement.AuditFund).Balance; got != o.Premium {
		t.Errorf("the audits' fund has %v", got)
	}
	p, _ := settlement.ProviderOf(c.kv, key(40).Public())
	cl, _ := settlement.ClusterOf(c.kv, key(cluster).Public())
	if p.Locked != optimistic.Bond || cl.Locked != optimistic.Bond {
		t.Errorf("locked %v of the node, %v of the cluster", p.Locked, cl.Locked)
	}
	_, why := settlement.UnbondProvider(c.kv, &c.env, account(4), chain.UnbondProvider{Node: key(40).Public()})
	wantReason(t, why, "locked by jobs")
	_, why = settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()})
	wantReason(t, why, "locked by claims")
	c.wantRejected("sequence is 1, the next of node", c.claimOf(1, worth, right.Result))
	again := c.claimOf(1, worth, right.Result)
	again.Receipt.Sequence = 2
	c.wantRejected("is settled", again)
	elsewhere := c.claim(again.Order, 50, 1)
	elsewhere.Receipt.Usage[0].Amount = 1_000
	c.wantRejected("is settled", elsewhere)

	c.withdraw(consumer, c.escrow(consumer).Balance) // an escrow that is gone takes nothing from the claim
	owned := c.balance(4)
	c.draw()
	c.block(windowMs-settlement.DrawDelay*tickMs, 0)
	if c.open(id).Stage != settlement.InWindow {
		t.Error("the window ended early")
	}
	c.block(1, 0)
	closed := c.checkClosed(id)
	if closed.Verdict == nil || *closed.Verdict != right {
		t.Errorf("verdict %+v", closed.Verdict)
	}
	// 2 % protocol fee, half burned, 5 % for the cluster, the premium: the provider gets the rest.
	want := uint64(216_000_000 - 4_320_000 - 10_800_000 - 13_500_000)
	if got := c.balance(4).Nano() - owned.Nano(); got != want {
		t.Errorf("the provider got %d, want %d", got, want)
	}
	book, claims, ok := settlement.Settlement(c.kv, id)
	if !ok || book.Spent != cost || len(claims) != 1 || !claims[0].Settled() || claims[0].Cost != cost {
		t.Fatalf("order %+v, claims %+v", book, claims)
	}
	if parts := claims[0].Paid.Nano() + claims[0].Burned.Nano() + claims[0].Treasury.Nano() + claims[0].ClusterFee.Nano(); parts != cost.Nano() {
		t.Errorf("the parts are %d", parts)
	}
	_, why = settlement.Challenge(c.kv, &c.env, account(5), chain.Challenge{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "has no claim in its window")
}

// TestWindowStandsWhileTheChainStands: block time alone ends no window, and what is known
// of the order outlives its claim window as long as the claim is open.
func TestWindowStandsWhileTheChainStands(t *testing.T) {
	c := newCourt(t, lotOf(t, false))
	id := c.post(c.claimOf(1, worth, right.Result))
	c.draw()
	for range 5 {
		c.block(4*hour, 4*hour-1)
	}
	if c.open(id).Stage != settlement.InWindow {
		t.Fatal("the window ended while the chain stood")
	}
	if _, _, known := settlement.Settlement(c.kv, id); !known {
		t.Fatal("the order was forgotten before its claim")
	}
	c.challenge(5, id)
	c.draw()
	c.block(30*24*hour, 30*24*hour-1)
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
	c.block(hour-1, 0)
	if _, claims, known := settlement.Settlement(c.kv, id); !known || !claims[0].Settled() {
		t.Error("what became of the claim is not kept for an hour")
	}
	c.block(2, 0)
	if _, _, known := settlement.Settlement(c.kv, id); known {
		t.Error("the order is not forgotten")
	}
}

// shares of the bond of 8 HYPER, and half of it that is staked.
const (
	bond, stake, fee = 8_000_000_000, 4_000_000_000, 250_000_000
	charge           = 216_000_000
)

// change is by how much what the parties have changes.
type change struct{ consumer, provider, challenger, appellant int64 }

// dispute is how a claim is challenged, and what comes of it.
type dispute struct {
	result  crypto.Digest
	panel   func(int) *chain.Vote
	appeal  func(int) *chain.Vote // nil: nobody appeals
	raised  func(int) *chain.Vote // of the larger panel that judges unasked; nil: the first is not silent
	verdict *chain.Vote
	want    change
	cluster int64 // what the cluster's bond loses
}

const (
	challenger, appellant = 90, 91 // who have no node, and so judge nothing
	paidToProvider        = charge - charge*2/100 - charge*5/100 - charge/16
)

var disputes = map[string]dispute{
	"right": {
		result: right.Result, panel: all(right), verdict: &right,
		want: change{-charge, paidToProvider + (stake-3*fee)/2, -stake, 0},
	},
	"wrong": {
		result: wrong.Result, panel: all(right), verdict: &right,
		want: change{0, -bond, bond / 8, 0},
	},
	"wrong, by two of three": {
		result: wrong.Result, panel: mostly(2, right, wrong), verdict: &right,
		want: change{0, -bond, bond / 8, 0},
	},
	"unavailable": {
		result: right.Result, panel: all(unavailable), verdict: &unavailable,
		want: change{0, 0, bond / 8, 0}, cluster: bond,
	},
	"unstable": {
		result: right.Result, panel: all(unstable), verdict: &unstable,
		want: change{-charge, paidToProvider, -3 * fee, 0},
	},
	"split": { // who voted for the claim does not stand alone
		result: right.Result, panel: func(i int) *chain.Vote { return []*chain.Vote{&right, &wrong, &unstable}[i] },
		want: change{-charge, paidToProvider, -fee, 0},
	},
	"all make links up": {
		result: right.Result, panel: func(i int) *chain.Vote { return &noise[i] }, appeal: func(i int) *chain.Vote { return &noise[3+i] },
		want: change{-charge, paidToProvider, 0, 0},
	},
	"most make links up": {
		result: right.Result, panel: func(i int) *chain.Vote { return &noise[i] },
		appeal: func(i int) *chain.Vote {
			return []*chain.Vote{&right, &wrong, &wrong, &noise[6], &noise[7], &noise[8], &noise[9], &noise[10], &noise[11]}[i]
		},
		want: change{-charge, paidToProvider, 0, -3 * fee},
	},
	"silence": {
		result: right.Result, panel: nothing, raised: nothing,
		want: change{-charge / 16, 0, -fee, 0},
	},
	"silence about a wrong claim": {
		result: wrong.Result, panel: nothing, raised: nothing,
		want: change{-charge / 16, 0, -fee, 0},
	},
	"silence of most": {
		result: right.Result, panel: upTo(1, right), raised: upTo(4, right),
		want: change{-charge / 16, 0, -6 * fee, 0},
	},
	"silence, nine find it right": {
		result: right.Result, panel: upTo(1, right), raised: all(right), verdict: &right,
		want: change{-charge, paidToProvider + (stake-10*fee)/2, -stake, 0},
	},
	"silence, five find it wrong": {
		result: wrong.Result, panel: nothing, raised: upTo(5, right), verdict: &right,
		want: change{0, -bond, bond / 8, 0},
	},
	"silence, nine split": {
		result: right.Result, panel: nothing, raised: func(i int) *chain.Vote { return []*chain.Vote{&right, &wrong, &unstable}[min(i/3, 2)] },
		want: change{-charge, paidToProvider, -9 * fee, 0},
	},
	"one silent, two agree": {
		result: wrong.Result, panel: upTo(2, right), verdict: &right,
		want: change{0, -bond, bond / 8, 0},
	},
	"right, appeal in vain": {
		result: right.Result, panel: all(right), appeal: all(right), verdict: &right,
		want: change{-charge, paidToProvider + (stake-3*fee)/2 + (stake-9*fee)/2, -stake, -stake},
	},
	"wrong, appeal in vain": {
		result: wrong.Result, panel: all(right), appeal: all(right), verdict: &right,
		want: change{0, -bond, bond/8 + (stake-9*fee)/2, -stake},
	},
	"wrong, appeal that splits": {
		result: wrong.Result, panel: all(right), appeal: func(i int) *chain.Vote { return []*chain.Vote{&right, &wrong, &unstable}[min(i/4, 2)] }, verdict: &right,
		want: change{0, -bond, bond/8 + (stake-4*fee)/2, -stake},
	},
	"first panel wrong for the claim": {
		result: wrong.Result, panel: all(wrong), appeal: all(right), verdict: &right,
		want: change{0, -bond, bond / 8, bond / 16},
	},
	"first panel wrong against the claim": {
		result: right.Result, panel: all(wrong), appeal: mostly(6, right, wrong), verdict: &right,
		want: change{-charge, paidToProvider + (stake-6*fee-bond/16)/2, -stake, bond / 16},
	},
	"first panel split, appeal finds": {
		result: right.Result, panel: func(i int) *chain.Vote { return []*chain.Vote{&right, &wrong, &unstable}[i] }, appeal: all(right), verdict: &right,
		want: change{-charge, paidToProvider + (stake-10*fee-bond/16)/2, -stake, bond / 16},
	},
	"data that comes late": {
		result: right.Result, panel: all(unavailable), appeal: all(right), verdict: &right,
		want: change{-charge, paidToProvider, -9 * fee / 2, -9 * fee / 2},
	},
	"data that comes late, one had it": {
		result: right.Result, panel: mostly(2, unavailable, right), appeal: mostly(7, right, wrong), verdict: &right,
		want: change{-charge, paidToProvider, -4 * fee, -4 * fee},
	},
	"data that comes late, of a wrong claim": {
		result: wrong.Result, panel: all(unavailable), appeal: all(right), verdict: &right,
		want: change{0, -bond, bond / 8, bond / 16},
	},
	"data that is gone": {
		result: right.Result, panel: all(right), appeal: all(unavailable), verdict: &unavailable,
		want: change{0, 0, bond / 8, bond / 16}, cluster: bond,
	},
	"appeal finds that there is nothing to find": {
		result: right.Result, panel: all(wrong), appeal: all(unstable), verdict: &unstable,
		want: change{-charge, paidToProvider, 0, -9 * fee},
	},
}

func TestDisputes(t *testing.T) {
	lot := lotOf(t, false)
	for name, test := range disputes {
		t.Run(name, func(t *testing.T) { test.play(t, newCourt(t, lot)) })
	}
}

// standing is what the parties of a dispute have.
func (c *court) standing() change {
	return change{
		int64(c.worth(consumer) + c.held(consumer)), int64(c.worth(4, 40)), int64(c.worth(challenger)), int64(c.worth(appellant)),
	}
}

// play has a claim challenged, and perhaps appealed about, and compares what becomes of it.
func (test *dispute) play(t *testing.T, c *court) {
	before := c.standing()
	cl, _ := settlement.ClusterOf(c.kv, key(cluster).Public())
	id := c.post(c.claimOf(1, worth, test.result))
	c.draw()
	c.challenge(challenger, id)
	_, why := settlement.Challenge(c.kv, &c.env, account(7), chain.Challenge{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "challenged already")
	_, why = settlement.Appeal(c.kv, &c.env, account(appellant), chain.Appeal{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "before a panel")
	c.draw()
	c.vote(settlement.PanelOf(id, false), test.panel)
	if test.raised != nil {
		if o := c.open(id); !o.Raised || o.Stage != settlement.InAppeal {
			t.Fatalf("the claim is %s, raised: %v", o.Stage, o.Raised)
		}
		c.draw()
		c.vote(settlement.PanelOf(id, true), test.raised)
		test.compare(t, c, id, before, cl)
		return
	}
	c.end(id, settlement.PanelOf(id, false))
	if test.appeal != nil {
		c.block(windowMs-1, 0)
		c.appeal(appellant, id) // at the last millisecond
		_, why = settlement.Appeal(c.kv, &c.env, account(7), chain.Appeal{Order: id, Stake: chain.Hyper(10)})
		wantReason(t, why, "made already")
		c.draw()
		c.vote(settlement.PanelOf(id, true), test.appeal)
	} else {
		c.block(windowMs, 0)
		_, why = settlement.Appeal(c.kv, &c.env, account(appellant), chain.Appeal{Order: id, Stake: chain.Hyper(10)})
		wantReason(t, why, "not to be appealed about now")
		c.block(1, 0)
	}
	test.compare(t, c, id, before, cl)
}

// compare holds what became of a claim against what is wanted.
func (test *dispute) compare(t *testing.T, c *court, id crypto.Digest, before change, cl settlement.Cluster) {
	after, closed := c.standing(), c.checkClosed(id)
	if (closed.Verdict == nil) != (test.verdict == nil) || test.verdict != nil && *closed.Verdict != *test.verdict {
		t.Errorf("verdict %+v, want %+v", closed.Verdict, test.verdict)
	}
	got := change{after.consumer - before.consumer, after.provider - before.provider, after.challenger - before.challenger, after.appellant - before.appellant}
	if got != test.want {
		t.Errorf("got  %+v\nwant %+v", got, test.want)
	}
	clAfter, _ := settlement.ClusterOf(c.kv, key(cluster).Public())
	if lost := int64(cl.Bond.Nano()) - int64(clAfter.Bond.Nano()); lost != test.cluster {
		t.Errorf("the cluster lost %d, want %d", lost, test.cluster)
	}
	book, claims, _ := settlement.Settlement(c.kv, id)
	if len(claims) != 1 || (claims[0].Refuted != 0) == closed.Paid || claims[0].Settled() != closed.Paid {
		t.Errorf("claims %+v", claims)
	}
	if closed.Refunded.Nano()+book.Spent.Nano() != charge || book.Spent != claims[0].Cost || book.Closed != closed.Paid {
		t.Errorf("refunded %v, the order has %v spent and its claim %v, closed: %v", closed.Refunded, book.Spent, claims[0].Cost, book.Closed)
	}
}

// end lets a panel's deadlines pass that has not decided.
func (c *court) end(id, panel crypto.Digest) {
	if p, ok := settlement.PanelAt(c.kv, panel); ok && p.Due != 0 {
		c.block(c.env.Params.CommitMs+1, 0)
	}
	if p, ok := settlement.PanelAt(c.kv, panel); ok && p.Due != 0 {
		c.block(c.env.Params.RevealMs+1, 0)
	}
	if got := c.open(id).Stage; got != settlement.Judged {
		c.Fatalf("the claim is %s", got)
	}
}

// TestJurors: who has a part in a claim judges nothing about it, nor does anybody twice.
func TestJurors(t *testing.T) {
	for lot := range uint64(30) {
		c := newCourt(t, lot)
		id := c.post(c.claimOf(1, worth, right.Result))
		c.challenge(8, id) // who owns node 71
		c.draw()
		p, _ := settlement.PanelAt(c.kv, settlement.PanelOf(id, false))
		c.vote(settlement.PanelOf(id, false), all(wrong))
		c.appeal(9, id) // who owns node 72
		c.draw()
		a, _ := settlement.PanelAt(c.kv, settlement.PanelOf(id, true))
		if len(p.Jurors) != 3 || len(a.Jurors) != 9 {
			t.Fatalf("lot %d: %d and %d jurors", lot, len(p.Jurors), len(a.Jurors))
		}
		seen := map[chain.Address]bool{account(4): true, account(8): true, account(consumer): true, account(operator): true}
		for _, j := range p.Jurors {
			if seen[j.Owner] {
				t.Fatalf("lot %d: %s judges, and may not", lot, j.Owner.Short())
			}
			seen[j.Owner] = true
		}
		seen[account(9)] = true
		for _, j := range a.Jurors {
			if seen[j.Owner] {
				t.Fatalf("lot %d: %s judges an appeal, and may not", lot, j.Owner.Short())
			}
			seen[j.Owner] = true
		}
	}
}

// TestAuditRate: claims are audited at least as often as the argument of ADR 36 asks.
func TestAuditRate(t *testing.T) {
	const claims = 2_000
	c := newCourt(t, 1)
	o := settlement.OpenClaim{Held: chain.Nano(charge - charge/16), Premium: chain.Nano(charge / 16), Bond: optimistic.Bond}
	audited := 0
	for i := range uint64(claims) {
		if settlement.Audited(&o, crypto.DomainDraw.Hash(binary.BigEndian.AppendUint64(nil, i))) {
			audited++
		}
	}
	_ = c
	v, s := float64(charge), float64(bond)
	want := 2 * v / (v + s)
	if got := float64(audited) / claims; got < 0.8*want || got > 1.2*want {
		t.Errorf("%.4f of the claims were audited, want %.4f", got, want)
	}
	none := settlement.OpenClaim{Bond: optimistic.Bond}
	if settlement.Audited(&none, crypto.Digest{}) {
		t.Error("a claim of nothing is audited")
	}
}

// TestNobodyElseOnTheRoll: without anybody to draw, an audit is none, and a panel finds
// nothing.
func TestNobodyElseOnTheRoll(t *testing.T) {
	for lot := range uint64(200) {
		c := &court{market: newMarket(t), lot: lot}
		c.deposit(consumer, chain.Hyper(1_000))
		for n := byte(5); n <= 7; n++ {
			c.must(settlement.UnbondProvider(c.kv, &c.env, account(n), chain.UnbondProvider{Node: key(10 * n).Public()}))
		}
		id := c.post(c.claimOf(1, worth, right.Result))
		c.draw()
		if o := c.open(id); o.Audit != settlement.NoAudit {
			t.Fatalf("audit %d", o.Audit)
		}
		if o := c.open(id); o.Audits == 0 && lot < 199 {
			continue // the lot fell against an audit: try another
		}
		c.challenge(5, id)
		c.draw()
		c.block(tickMs, 0) // nobody was seated, and nobody is waited for
		c.draw()
		c.block(tickMs, 0)
		if closed := c.checkClosed(id); closed.Verdict != nil || closed.Paid {
			t.Errorf("%+v", closed)
		}
		return
	}
}

// TestOptimisticRefusals: what is wrong with a claim or a message is named, and changes
// nothing.
func TestOptimisticRefusals(t *testing.T) {
	c := newCourt(t, 1)
	for part, change := range map[string]func(*chain.Claim){
		"receipt is of order":                  func(x *chain.Claim) { x.Order.Nonce++ },
		"acceptance is of order":               func(x *chain.Claim) { x.Acceptance.Order[0]++ },
		"acceptance is by cluster":             func(x *chain.Claim) { x.Acceptance.Cluster[0]++ },
		"acceptance covers":                    func(x *chain.Claim) { x.Acceptance.Outstanding = chain.Amount{} },
		"bid is of order":                      func(x *chain.Claim) { x.Bid.Order[0]++ },
		"bid is by node":                       func(x *chain.Claim) { x.Bid.Node[0]++ },
		"receipt is of chain":                  func(x *chain.Claim) { x.Receipt.ChainID = "other-chain" },
		"sequence is 2":                        func(x *chain.Claim) { x.Receipt.Sequence = 2 },
		"has no attestation":                   func(x *chain.Claim) { x.Attestation = crypto.Signature{} },
		"work ended at":                        func(x *chain.Claim) { x.Receipt.Ended = x.Order.Deadline + 1 },
		"the bid expired":                      func(x *chain.Claim) { x.Receipt.Started = x.Bid.Expiry + 1 },
		"fixed price":                          func(x *chain.Claim) { x.Bid.Fixed = chain.Nano(1) },
		"price of CPU":                         func(x *chain.Claim) { x.Bid.Prices[0].Price++ },
		"no cap for it":                        func(x *chain.Claim) { x.Receipt.Usage[0].Resource = chain.GPU },
		"above the max cost":                   func(x *chain.Claim) { x.Receipt.Usage[0].Amount = 1_000_000 },
		`work ended with "time limit": nobody`: func(x *chain.Claim) { x.Receipt.Exit = chain.ExitTime },
		`work ended with "cancelled": nobody`:  func(x *chain.Claim) { x.Receipt.Exit = chain.ExitCancelled },
	} {
		claim := c.claimOf(1, worth, right.Result)
		claim.Bid.Prices = []chain.UnitPrice{claim.Bid.Prices[0]}
		change(&claim)
		if part == "receipt is of order" {
			claim.Acceptance.Order, claim.Bid.Order = claim.Order.ID(), claim.Order.ID()
		}
		c.wantRejected(part, claim)
	}
	poor := c.claimOf(2, worth, right.Result)
	poor.Order.Consumer = crypto.AccountKeyOf(key(other).Public())
	id := poor.Order.ID()
	poor.Acceptance.Order, poor.Bid.Order, poor.Receipt.Order = id, id, id
	c.wantRejected("the escrow holds", poor)
	large := func(nonce, bond uint64) chain.Claim {
		order := c.order(consumer, nonce, chain.PolicyOptimistic{WindowMs: windowMs, Bond: chain.Hyper(bond)})
		order.MaxCost = chain.Nano(250_000_000)
		return c.claim(order, 40, 1)
	}
	c.wantRejected("has 100 HYPER free of its bond, the job locks 101 HYPER", large(3, 101))
	c.wantRejected("cluster "+key(cluster).Public().Short()+" has 1000 HYPER free", large(4, 1_001))
	first := c.post(large(5, 60))
	c.wantRejected("has 40 HYPER free", large(6, 60))

	_, why := settlement.Challenge(c.kv, &c.env, account(5), chain.Challenge{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "has no claim in its window")
	_, why = settlement.Challenge(c.kv, &c.env, account(5), chain.Challenge{Order: first, Stake: chain.Nano(29_999_999_999)})
	wantReason(t, why, "30 HYPER is asked")
	before := c.balance(8)
	_, why = settlement.Challenge(c.kv, &c.env, account(8), chain.Challenge{Order: first, Stake: chain.Hyper(1_000)})
	if why != nil {
		t.Fatal(why.Reason())
	}
	if took := before.Nano() - c.balance(8).Nano(); took != chain.Hyper(30).Nano() {
		t.Errorf("%d nHYPER were taken of the challenger, 30 HYPER are asked", took)
	}
	second := c.post(c.claimOf(7, worth, right.Result))
	_, why = settlement.Challenge(c.kv, &c.env, account(99), chain.Challenge{Order: second, Stake: chain.Hyper(4)})
	wantReason(t, why, "can spend 0 HYPER")
	c.block(windowMs, 0) // to the last millisecond, which is too late
	_, why = settlement.Challenge(c.kv, &c.env, account(5), chain.Challenge{Order: second, Stake: chain.Hyper(10)})
	wantReason(t, why, "is over")
	_, why = settlement.Appeal(c.kv, &c.env, account(5), chain.Appeal{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "has no claim in its window")
}

// TestCheatingDoesNotPay is the arithmetic of ADR 36 with the package's own numbers: what a
// cheater expects of a wrong result that it is paid v for, if a share q of the roll, by
// bond, is its own or does not look, and it also challenges itself, appeals, and earns its
// own jurors' fees.
func TestCheatingDoesNotPay(t *testing.T) {
	choose := func(n, k int) float64 {
		c := 1.0
		for i := range k {
			c *= float64(n-i) / float64(i+1)
		}
		return c
	}
	// majority is the probability that more than half of n seats are among a share q.
	majority := func(n int, q float64) float64 {
		p := 0.0
		for k := n/2 + 1; k <= n; k++ {
			term := choose(n, k)
			for range k {
				term *= q
			}
			for range n - k {
				term *= 1 - q
			}
			p += term
		}
		return p
	}
	for _, q := range []float64{0, 0.1, 0.2, 0.25} {
		for _, cover := range []float64{32, 50, 100, 1_000, 1_000_000} {
			const v = 1.0
			s := cover * v
			rate := 2 * v / (v + s)
			caught := rate * (1 - q) * (1 - majority(9, q))
			// Of the slice at most the reward of a challenge, that of an appeal, and a share q of twelve fees come back.
			lost := s * (1 - 1.0/8 - 1.0/16 - q*12/32)
			if profit := (1-caught)*v - caught*lost; profit >= 0 {
				t.Errorf("with %.2f of the roll and a bond of %.0f v a cheater expects %.4f v", q, cover, profit)
			}
			if premium := 1.0 / 16; rate*s/32 > premium*v {
				t.Errorf("bond %.0f v: audits cost %.4f v, the premium is %.4f v", cover, rate*s/32, premium)
			}
		}
	}
}
