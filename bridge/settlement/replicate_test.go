package settlement_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

const nano = 1_000_000_000 // 1 nHYPER per unit·second, in 10⁻¹⁸ HYPER

// field is an order under PolicyReplicate and those who may run it: nodes 40, 41, 50, 60,
// 70 and, for panels, 80, 90 and 95 of owners 8 to 10.
type field struct {
	*market
	order    chain.Order
	id       crypto.Digest
	prices   map[byte]uint64
	receipts map[byte]chain.UsageReceipt
	seed     uint64
	gift     uint64 // what there was too much from the first check on, and one
	crowd    []byte // nodes of other owners, so that nine find seats
	made     int    // draws, as many of the dearest
	both     bool   // bids name a price of memory, too
}

func newField(t testing.TB, policy chain.PolicyReplicate) *field {
	t.Helper()
	m := newMarket(t)
	m.env.Params.JurorSlice, m.env.Params.CommitMs, m.env.Params.RevealMs = chain.Hyper(5), 30_000, 10_000
	for owner, node := range map[byte]byte{8: 80, 9: 90, 10: 95} {
		m.register(owner, node)
	}
	m.deposit(consumer, chain.Hyper(50))
	f := &field{market: m, prices: map[byte]uint64{}, receipts: map[byte]chain.UsageReceipt{}}
	f.use(m.order(consumer, 1, policy))
	return f
}

// gather registers nodes of twelve owners more, who do nothing but vote.
func (f *field) gather() {
	f.Helper()
	for owner := byte(11); owner <= 22; owner++ {
		node := owner - 11 + 61 // 61 … 69, 71 …
		if node >= 70 {
			node++
		}
		f.must(tokens.Transfer(f.kv, account(2), chain.Transfer{To: account(owner), Amount: chain.Hyper(200)}, f.env.Now))
		f.register(owner, node)
		f.crowd = append(f.crowd, node)
	}
}

func (f *field) use(order chain.Order) { f.order, f.id = order, order.ID() }

// staked leaves no run unchecked, as the nodes' records are empty. The others have a bidder check
// besides who is drawn from the roll.
var (
	staked   = twoOf3
	threeOf3 = chain.PolicyReplicate{K: 3, N: 3, Stake: chain.Hyper(20), WindowMs: 60_000}
	threeOf4 = chain.PolicyReplicate{K: 3, N: 4, Stake: chain.Hyper(20), WindowMs: 60_000}
)

func (f *field) begin(nodes ...byte) chain.BeginRun {
	m := chain.BeginRun{
		Order:      f.order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: f.id, Cluster: f.order.Cluster, Sequence: 1, Outstanding: f.order.MaxCost},
		Commitment: f.commitment(nodes[0]),
	}
	for _, n := range nodes {
		price, set := f.prices[n]
		if !set {
			price = nano
		}
		prices := []chain.UnitPrice{{Resource: chain.CPU, Price: price}}
		if f.both {
			prices = append(prices, chain.UnitPrice{Resource: chain.Memory, Price: price})
		}
		m.Slate = append(m.Slate, chain.SlateBid{Node: key(n).Public(), Prices: prices, Expiry: f.order.Deadline})
	}
	return m
}

// finds sets what a node finds. Without it all find the same.
func (f *field) finds(node byte, result string) {
	r := f.receipt(node)
	r.Result = crypto.DomainResult.Hash([]byte(result))
	f.receipts[node] = r
}

func (f *field) uses(node byte, durationMs, fuel uint64) {
	r := f.receipt(node)
	r.Usage, r.Fuel = []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: durationMs}}, fuel
	f.receipts[node] = r
}

func (f *field) receipt(node byte) chain.UsageReceipt {
	r, ok := f.receipts[node]
	if !ok {
		r = f.claim(f.order, node, 1).Receipt
	}
	traced(&r, f.place(node))
	return r
}

// place is how many were asked before a node.
func (f *field) place(node byte) uint8 {
	runs, _ := settlement.RunsOf(f.kv, f.id)
	return uint8(max(slices.IndexFunc(runs.Runs, func(run settlement.Run) bool { return run.Bidder.Node == key(node).Public() }), 0))
}

func (f *field) commitment(node byte) crypto.Digest {
	return chain.RunCommitment(f.receipt(node).Digest(), key(node).Public(), [32]byte{node})
}

func (f *field) commit(node byte) chain.CommitRun {
	return chain.CommitRun{ChainID: testChain, Order: f.id, Node: key(node).Public(), Commitment: f.commitment(node), Place: f.place(node)}
}

func (f *field) reveal(node byte) chain.RevealRun {
	return chain.RevealRun{Receipt: f.receipt(node), Salt: [32]byte{node}, Cluster: key(cluster).Public(), Attestation: crypto.Signature{1}}
}

// post executes a message whose signatures all verified.
func (m *market) submit(msg chain.Msg) (chain.Events, *chain.Rejection) {
	var events chain.Events
	var why *chain.Rejection
	switch msg := msg.(type) {
	case chain.BeginRun:
		events, why = settlement.BeginRun(m.kv, &m.env, msg, true)
	case chain.CommitRun:
		events, why = settlement.CommitRun(m.kv, &m.env, msg, true)
	case chain.RevealRun:
		events, why = settlement.RevealRun(m.kv, &m.env, msg, true)
	case chain.CollectRun:
		events, why = settlement.CollectRun(m.kv, &m.env, msg)
	case chain.CommitVote:
		events, why = settlement.CommitVote(m.kv, &m.env, msg)
	case chain.RevealVote:
		events, why = settlement.RevealVote(m.kv, &m.env, msg)
	default:
		m.Fatalf("a message of type %T", msg)
	}
	m.events = append(m.events, events...)
	return events, why
}

func (m *market) do(msg chain.Msg) chain.Events {
	m.Helper()
	events, why := m.submit(msg)
	if why != nil {
		m.Fatalf("%s: %s", chain.KindOf(msg), why.Reason())
	}
	return events
}

// refuses also checks that the message changed nothing.
func (m *market) refuses(part string, msg chain.Msg) {
	m.Helper()
	before := m.dump()
	if _, why := m.submit(msg); why == nil {
		m.Errorf("%s was taken, want %q", chain.KindOf(msg), part)
	} else if !strings.Contains(why.Reason(), part) {
		m.Errorf("%s was refused with %q, want %q in it", chain.KindOf(msg), why.Reason(), part)
	}
	if !bytes.Equal(before, m.dump()) {
		m.Errorf("a refused %s (%s) changed the state", chain.KindOf(msg), part)
	}
}

// step makes a block, some time after the one before.
func (f *field) step(ms uint64) chain.Events {
	f.env.LastProgressMs = f.env.ProgressMs // Last: time may have passed without a block
	f.env.Height++
	f.env.Now += chain.TimeMs(ms)
	f.env.ProgressMs += ms
	f.seed++
	f.env.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(nil, f.seed))
	settlement.ExpireOrders(f.kv, &f.env, 64)
	events, made := settlement.RunDraws(f.kv, &f.env, 64)
	f.made += made
	due, _ := settlement.RunDeadlines(f.kv, &f.env, 64)
	events = append(events, due...)
	f.events = append(f.events, events...)
	return events
}

// drawn makes blocks until a draw is made, and returns its events.
func (f *field) drawn() chain.Events {
	f.Helper()
	for range settlement.DrawDelay {
		if events := f.step(10); len(events) > 0 {
			return events
		}
	}
	f.Fatal("nothing was drawn")
	return nil
}

// drawnNodes is drawn, of nodes that are to run the order.
func (f *field) drawnNodes() (nodes []byte) {
	f.Helper()
	events := f.drawn()
	d, ok := events[0].(chain.RunsDrawn)
	if !ok {
		f.Fatalf("drew %s, want nodes", chain.EventName(events[0]))
	}
	for _, n := range d.Nodes {
		nodes = append(nodes, numberOf(n))
	}
	return nodes
}

// vouch has the node vote that the next block draws from the roll, and returns which it is.
func (f *field) vouch(vote func(byte) chain.Vote) byte {
	f.Helper()
	d, ok := f.drawn()[0].(chain.PanelDrawn)
	if !ok || len(d.Jurors) != 1 || d.Panel != settlement.RunsCheck(f.id) {
		f.Fatal("nobody was drawn from the roll")
	}
	f.judge(vote)
	return numberOf(d.Jurors[0])
}

func numberOf(node crypto.PublicKey) byte {
	return byte(slices.IndexFunc(keys[:], func(k crypto.PrivateKey) bool { return k.Public() == node }))
}

func (m *market) provider(node byte) settlement.Provider {
	p, _ := settlement.ProviderOf(m.kv, key(node).Public())
	return p
}

// paid returns what each node was paid for.
func (f *field) paid() map[byte]uint64 {
	out := map[byte]uint64{}
	for _, e := range f.events {
		if s, ok := e.(chain.ClaimSettled); ok && s.Order == f.id {
			if _, twice := out[numberOf(s.Node)]; twice {
				f.Errorf("node %d was paid twice", numberOf(s.Node))
			}
			out[numberOf(s.Node)] = s.Cost.Nano()
		}
	}
	return out
}

// over demands that nothing is left of the order but what is known of it: no stake, no
// queue, no runs.
func (f *field) over(finding chain.RunFinding, paid ...byte) {
	f.Helper()
	if _, still := settlement.RunsOf(f.kv, f.id); still {
		f.Error("there are runs still")
	}
	order, _, known := settlement.Settlement(f.kv, f.id)
	if !known || !order.Closed || order.Finding != finding {
		f.Errorf("order is closed %v, found %s; want %s", order.Closed, order.Finding, finding)
	}
	f.free()
	got := f.paid()
	if len(got) != len(paid) {
		f.Errorf("paid %v, want %v", got, paid)
	}
	for _, n := range paid {
		if _, ok := got[n]; !ok {
			f.Errorf("node %d was not paid: %v", n, got)
		}
	}
}

// free demands that nothing is staked or queued.
func (f *field) free() {
	f.Helper()
	for key, value := range f.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		switch key[1] {
		case 'd', 't', 'j', 'g':
			f.Errorf("there is a record of kind %c still", key[1])
		case 'p':
			if p := state.Decode[settlement.Provider](key, value); !p.Locked.IsZero() {
				f.Errorf("node %d has %s locked still", numberOf(crypto.PublicKey(key[2:])), p.Locked)
			}
		case 'c':
			if c := state.Decode[settlement.Cluster](key, value); !c.Locked.IsZero() {
				f.Errorf("the cluster has %s locked still", c.Locked)
			}
		case 'e':
			if e := settlement.EscrowOf(f.kv, chain.Address(key[2:2+len(chain.Address{})]), crypto.PublicKey(key[2+len(chain.Address{}):])); !e.Elsewhere.IsZero() {
				f.Errorf("%s of an escrow is elsewhere still", e.Elsewhere)
			}
		}
	}
}

// slashed lists the nodes that lost some of their bond.
func (f *field) slashed() map[byte]uint64 {
	out := map[byte]uint64{}
	for _, e := range f.events {
		if s, ok := e.(chain.BondSlashed); ok {
			out[numberOf(s.Node)] += s.Amount.Nano()
		}
	}
	return out
}

// lastPanel is the one that was drawn last.
func (f *field) lastPanel() (panel chain.PanelDrawn) {
	for _, e := range f.events {
		if d, ok := e.(chain.PanelDrawn); ok {
			panel = d
		}
	}
	return panel
}

// judge has every juror of the panel that is open vote.
func (f *field) judge(vote func(juror byte) chain.Vote) {
	f.Helper()
	panel := f.lastPanel()
	for _, n := range panel.Jurors {
		commitment := shows(panel.Panel, panel.Subject, vote(numberOf(n))).Commitment(panel.Panel, n, [32]byte{1})
		f.do(chain.CommitVote{
			Panel: panel.Panel, Node: n, Commitment: commitment,
			Signature: key(numberOf(n)).Sign(crypto.DomainVote, chain.VotePayload(testChain, panel.Panel, commitment)),
		})
	}
	for _, n := range panel.Jurors {
		f.do(chain.RevealVote{Panel: panel.Panel, Node: n, Testimony: shows(panel.Panel, panel.Subject, vote(numberOf(n))), Salt: [32]byte{1}})
	}
}

func found(result string) func(byte) chain.Vote { return foundIn(result, hour) }

// foundIn is what a juror votes whose run took so long.
func foundIn(result string, durationMs uint64) func(byte) chain.Vote {
	return func(byte) chain.Vote {
		yield := yieldIn(result, []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: durationMs}})
		return chain.Vote{Finding: chain.FoundResult, Result: yield}
	}
}

func found1(finding chain.Finding) func(byte) chain.Vote {
	return func(byte) chain.Vote { return chain.Vote{Finding: finding} }
}

func TestRunsThatAgreeArePaid(t *testing.T) {
	f := newField(t, threeOf4)
	f.prices[50], f.prices[60] = nano/2, nano/2
	f.do(f.begin(40, 41, 50, 60))
	if p, c := f.provider(40), f.cluster(); p.Locked != chain.Hyper(20) || c.Locked != chain.Hyper(20) {
		t.Errorf("the primary has %s locked, the cluster %s, want 20 HYPER", p.Locked, c.Locked)
	}
	f.refuses("takes no receipts now", f.reveal(40))
	nodes := f.drawnNodes()
	if len(nodes) != 1 || nodes[0] != 50 && nodes[0] != 60 {
		t.Fatalf("drew %v, want 50 or 60: 41 is of the primary's owner", nodes)
	}
	second := nodes[0]
	f.refuses("was not asked", f.commit(110-second))
	f.refuses("takes no receipts now", f.reveal(40))
	f.refuses("not what node", f.reveal(second))
	f.do(f.commit(second))
	f.do(f.commit(second)) // again: nothing
	f.refuses("takes no receipts now", f.reveal(40))
	third := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.do(f.reveal(40)) // again: nothing
	f.refuses("not known yet who is paid", chain.CollectRun{Order: f.id})
	f.do(f.reveal(second))
	f.over(chain.RunAgreed, 40, second, third)
	if paid := f.paid(); paid[40] != 3_600_000 || paid[second] != 1_800_000 || paid[third] != 3_600_000 {
		t.Errorf("paid %v: bidders by their bids, and who came from the roll as the primary", paid)
	}
	for _, msg := range []chain.Msg{f.begin(40, 50), f.commit(second), f.reveal(40), chain.CollectRun{Order: f.id}} {
		if _, why := f.submit(msg); why == nil {
			t.Errorf("%s was taken after the end", chain.KindOf(msg))
		}
	}
	if len(f.slashed()) != 0 {
		t.Errorf("slashed %v", f.slashed())
	}
}

// rich gives a node a record that leaves the floor alone to have it checked.
func (f *field) rich(node byte) {
	p := f.provider(node)
	p.Record.Add(f.env.Now, match.FactCompleted, chain.Hyper(1_000))
	p.Bond = chain.Hyper(1_000_000)
	state.Save(f.kv, settlement.ProviderKey(key(node).Public()), p)
}

func TestUncheckedRunIsItsPrimarysAlone(t *testing.T) {
	policy := staked
	policy.Stake = chain.Hyper(1_000)
	checked, longest, since := 0, 0, 0
	const jobs = 300
	f := newField(t, policy)
	for n := range uint64(jobs) {
		f.rich(40)
		order := f.market.order(consumer, n, policy)
		order.MaxCost = chain.Hyper(1)
		f.use(order)
		clear(f.receipts)
		f.rich(50)
		f.do(f.begin(40, 50))
		since++
		if _, unchecked := f.drawn()[0].(chain.RunsRevealing); unchecked {
			f.do(f.reveal(40))
			f.over(chain.RunUnchecked, 40)
			continue
		}
		checked++
		longest, since = max(longest, since), 0
		f.judge(found("right"))
		check, _ := settlement.PanelAt(f.kv, settlement.RunsCheck(f.id))
		f.do(f.reveal(40))
		f.over(chain.RunAgreed, 40, numberOf(check.Jurors[0].Node))
	}
	t.Logf("%d of %d were checked, at most %d in a row until one was", checked, jobs, longest)
	if checked < jobs*4/100 || checked > jobs*14/100 || longest > match.CheckWithin {
		t.Errorf("%d of %d were checked, %d in a row until one was", checked, jobs, longest)
	}
}

func TestLiarIsSlashedAfterThePanel(t *testing.T) {
	for name, primary := range map[string]bool{"the primary": true, "the check": false} {
		f := newField(t, staked)
		vote := found("right")
		if primary {
			f.finds(40, "wrong")
		} else {
			vote = found("wrong")
		}
		f.do(f.begin(40, 50, 60))
		check := f.vouch(vote)
		f.do(f.reveal(40))
		if len(f.paid()) != 0 || len(f.slashed()) != 0 {
			t.Fatalf("%s lies: paid %v, slashed %v before anybody judged", name, f.paid(), f.slashed())
		}
		third := f.drawnNodes()[0]
		f.do(f.commit(third))
		f.do(f.reveal(third))
		d, ok := f.drawn()[0].(chain.PanelDrawn)
		if !ok || len(d.Jurors) != 3 {
			t.Fatalf("%s lies: no panel of 3 was drawn", name)
		}
		if len(f.paid()) != 0 || len(f.slashed()) != 0 {
			t.Fatalf("%s lies: paid %v, slashed %v before the panel", name, f.paid(), f.slashed())
		}
		f.judge(found("right"))
		liar, lost, paid := byte(40), chain.Hyper(20).Nano(), check
		if !primary {
			liar, lost, paid = check, chain.Hyper(5).Nano(), 40
		}
		if s := f.slashed(); len(s) != 1 || s[liar] != lost {
			t.Errorf("%s lies: slashed %v, want %d of node %d", name, s, lost, liar)
		}
		f.do(chain.CollectRun{Order: f.id})
		f.over(chain.RunJudged, third, paid)
		if facts := f.provider(liar).Record.At(f.env.Now); facts.Slashed < match.One-1 {
			t.Errorf("the liar's record is %+v", facts)
		}
	}
}

// Two who lie alike are more than the one who does not: the panel decides, not they.
func TestMajorityThatLiesIsSlashed(t *testing.T) {
	for seed := range uint64(30) {
		f := newField(t, threeOf4)
		f.seed = seed * 1_000
		f.do(f.begin(40, 50, 60))
		f.finds(50, "wrong")
		f.finds(60, "wrong")
		f.do(f.commit(f.drawnNodes()[0]))
		check := f.vouch(found("right"))
		if check == 50 || check == 60 {
			continue
		}
		runs, _ := settlement.RunsOf(f.kv, f.id)
		f.do(f.reveal(40))
		f.do(f.reveal(numberOf(runs.Runs[1].Bidder.Node)))
		last := f.drawnNodes()[0]
		f.do(f.commit(last))
		f.do(f.reveal(last))
		f.drawn()
		f.judge(found("right"))
		if s := f.slashed(); len(s) != 2 || s[50] == 0 || s[60] == 0 {
			t.Errorf("slashed %v, want 50 and 60", s)
		}
		f.do(chain.CollectRun{Order: f.id})
		f.over(chain.RunJudged, 40, check)
		return
	}
	t.Fatal("a bidder was drawn from the roll each time")
}

// disagree brings two runs that disagree before a panel, and the check with neither.
func (f *field) disagree() {
	f.Helper()
	f.finds(50, "other")
	f.do(f.begin(40, 50))
	f.drawn()
	f.do(f.commit(50))
	f.vouch(found("third"))
	f.do(f.reveal(50))
	f.do(f.reveal(40))
	f.drawn() // nobody is left who could run it
}

func TestUnstableWorkCostsNobodyABond(t *testing.T) {
	split := func(juror byte) chain.Vote { return found(string(juror))(juror) }
	for name, c := range map[string]struct {
		vote    func(byte) chain.Vote
		finding chain.RunFinding
		paid    []byte
	}{
		"unstable": {found1(chain.FoundUnstable), chain.RunUnstable, []byte{40, 50}},
		"split":    {split, chain.RunUnstable, []byte{40, 50}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, threeOf3)
			f.uses(40, hour, 10)
			f.uses(50, hour/2, 10)
			f.disagree()
			f.judge(c.vote)
			f.do(chain.CollectRun{Order: f.id})
			f.over(c.finding, c.paid...)
			if len(f.slashed()) != 0 {
				t.Errorf("slashed %v", f.slashed())
			}
			for node, cost := range f.paid() {
				if cost != 1_800_000 {
					t.Errorf("node %d was paid %d, want the least of both", node, cost)
				}
			}
		})
	}
}

// A panel whose jurors all stay away finds nothing, and nobody who dissents is paid.
func TestSilentPanel(t *testing.T) {
	f := newField(t, threeOf3)
	f.disagree()
	for range 3 { // and those who are drawn in their places
		f.step(31_000)
		for range settlement.DrawDelay {
			f.step(10)
		}
	}
	for n := range f.slashed() {
		if n == 40 || n == 50 {
			t.Errorf("node %d was slashed, it is no juror", n)
		}
	}
	f.over(chain.RunUnjudged)
}

func TestNodesThatMissTheirTimeAreReplaced(t *testing.T) {
	f := newField(t, threeOf4)
	f.do(f.begin(40, 50, 60))
	first := f.drawnNodes()[0]
	f.step(59_000)
	if p := f.provider(first); p.Locked.IsZero() {
		t.Error("the stake is free before the deadline")
	}
	f.step(2_000)
	f.refuses("has committed already, or missed its time", f.commit(first))
	if p := f.provider(first); !p.Locked.IsZero() {
		t.Error("who missed its time has a stake locked still")
	}
	second := f.drawnNodes()[0]
	f.do(f.commit(second))
	third := f.vouch(found("right"))
	f.do(f.reveal(second))
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, second, third)
	if len(f.slashed()) != 0 {
		t.Errorf("slashed %v", f.slashed())
	}
}

// Who bids alone is checked by the roll.
func TestPrimaryAlone(t *testing.T) {
	f := newField(t, staked)
	f.do(f.begin(40))
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, check)
	f = newField(t, staked)
	f.finds(40, "wrong")
	f.do(f.begin(40))
	f.vouch(found("right"))
	f.do(f.reveal(40))
	f.drawn()
	f.judge(found("right"))
	if s := f.slashed(); s[40] == 0 {
		t.Errorf("slashed %v, want the primary", s)
	}
	f.over(chain.RunJudged)
}

// TestSilenceIsNoWayOut: who has committed and sees that it is checked gains nothing by
// showing nothing, and one that is late is heard until the panel has decided.
func TestSilenceIsNoWayOut(t *testing.T) {
	for name, late := range map[string]bool{"silent": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, staked)
			f.do(f.begin(40, 50, 60))
			check := f.vouch(found("right"))
			f.step(11_000) // the primary shows nothing
			third := f.drawnNodes()[0]
			f.do(f.commit(third))
			f.do(f.reveal(third))
			if len(f.paid()) != 0 {
				t.Fatal("somebody was paid while one is silent")
			}
			f.drawn()
			if late {
				f.do(f.reveal(40))
			}
			f.judge(found("right"))
			if s := f.slashed(); (s[40] == 0) != late || len(s) > 1 {
				t.Errorf("slashed %v", s)
			}
			f.do(chain.CollectRun{Order: f.id})
			if late {
				f.over(chain.RunJudged, 40, check)
			} else {
				f.over(chain.RunJudged, third, check)
			}
		})
	}
}

func TestCopiedCommitmentShowsNothing(t *testing.T) {
	f := newField(t, threeOf3)
	begun := f.begin(40, 50)
	f.do(begun)
	f.drawn()
	copied := f.commit(50)
	copied.Commitment = begun.Commitment
	f.do(copied)
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.refuses("not what node", f.reveal(50))
	stolen := f.reveal(40)
	stolen.Receipt.Node = key(50).Public()
	f.refuses("not what node", stolen)
	f.step(11_000) // silent
	f.drawn()
	f.judge(found("right"))
	if s := f.slashed(); s[50] == 0 || len(s) != 1 {
		t.Errorf("slashed %v, want the copier", s)
	}
	f.do(chain.CollectRun{Order: f.id})
	f.over(chain.RunJudged, 40, check)
}

// TestRunsEnd: whatever is left undone comes to an end, with every stake free, and is forgotten; but
// not because the order's claim window ends while it is not known who is paid.
func TestRunsEnd(t *testing.T) {
	for name, leave := range map[string]func(*field){
		"drawing":   func(f *field) { f.do(f.begin(40, 50)) },
		"running":   func(f *field) { f.do(f.begin(40, 50)); f.drawn() },
		"bound":     func(f *field) { f.do(f.begin(40, 50)); f.drawn(); f.do(f.commit(50)) },
		"revealing": func(f *field) { f.do(f.begin(40, 50)); f.drawn(); f.do(f.commit(50)); f.vouch(found("right")) },
		"judging":   func(f *field) { f.disagree() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, threeOf3)
			leave(f)
			f.env.Now += 10 * hour // while the chain stood
			f.step(1)
			if p, c := f.provider(40), f.cluster(); p.Locked != chain.Hyper(20) || c.Locked != chain.Hyper(20) {
				t.Fatalf("the primary has %s locked, the cluster %s, when the claim window is over", p.Locked, c.Locked)
			}
			for range 120 {
				f.step(31_000)
			}
			f.env.Now += 2 * hour
			f.step(1)
			f.free()
			if _, _, known := settlement.Settlement(f.kv, f.id); known {
				t.Error("the order is known still")
			}
		})
	}
	t.Run("owed", func(t *testing.T) {
		f := newField(t, threeOf3)
		f.disagree()
		f.judge(found("right"))
		f.env.Now += 10 * hour
		f.step(1)
		if len(f.paid()) != 0 {
			t.Fatal("paid before there was an hour to collect it")
		}
		f.step(hour)
		f.over(chain.RunJudged, 40)
		f.env.Now += 2 * hour
		f.step(1)
		if _, _, known := settlement.Settlement(f.kv, f.id); known {
			t.Error("the order is known still")
		}
	})
	t.Run("judged late", func(t *testing.T) {
		f := newField(t, threeOf3)
		f.disagree()
		f.env.Now += 10 * hour
		f.step(1)
		f.env.Now += hour - 100
		f.judge(found("right"))
		f.env.Now += 200
		f.step(1)
		f.do(chain.CollectRun{Order: f.id}) // who is owed has an hour for that
		f.over(chain.RunJudged, 40)
	})
}

// TestTheEndOfTheWindowSavesNoStake: accomplices who let a checked order's claim window pass, by
// being drawn and silent for as long as the order allows, are judged all the same.
func TestTheEndOfTheWindowSavesNoStake(t *testing.T) {
	policy := staked
	policy.WindowMs = 20 * hour
	f := newField(t, policy)
	f.register(operator, operators)
	f.finds(40, "wrong")
	f.do(f.begin(40, operators))
	f.vouch(found("right"))
	f.do(f.reveal(40))
	f.drawnNodes()
	for range 41 {
		f.step(hour / 2) // the order's window ends after nine hours
	}
	f.drawn()
	f.judge(found("right"))
	if s := f.slashed(); s[40] != chain.Hyper(20).Nano() {
		t.Errorf("slashed %v, want the primary", s)
	}
	f.over(chain.RunJudged)
}

// Nobody unbonds what is staked.
func TestStakedBondStays(t *testing.T) {
	f := newField(t, staked)
	f.do(f.begin(40, 50))
	if _, why := settlement.UnbondProvider(f.kv, &f.env, account(4), chain.UnbondProvider{Node: key(40).Public()}); why == nil || !strings.Contains(why.Reason(), "locked") {
		t.Errorf("unbonding: %v", why)
	}
	if _, why := settlement.UnbondProvider(f.kv, &f.env, account(5), chain.UnbondProvider{Node: key(50).Public()}); why != nil {
		t.Fatal(why.Reason())
	}
	if _, why := settlement.UnbondCluster(f.kv, &f.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}); why == nil || !strings.Contains(why.Reason(), "locked") {
		t.Errorf("unbonding the cluster: %v", why)
	}
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, check)
}
