package server

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

func hyper(n uint64) chain.Amount { return chain.Hyper(n) }

// TestWhatIsPromisedOfABond: orders get what is free beside what is promised; one consumer's, but for the first, no more than half of
// it, and no more all those that lock more than their worth makes them.
func TestWhatIsPromisedOfABond(t *testing.T) {
	one, two := chain.Address{1}, chain.Address{2}
	worth := func(n uint64) ask { return ask{slice: hyper(n), least: hyper(n), stake: hyper(n)} }
	large := func(n uint64) ask { return ask{slice: hyper(n), least: hyper(1), stake: hyper(n)} }
	bare := func(n uint64) ask { return ask{slice: hyper(n), least: hyper(n), stake: hyper(1)} }
	type given struct {
		to    chain.Address
		a     ask
		later bool
	}
	for name, test := range map[string]struct {
		locked uint64 // of 100
		given  []given
		to     chain.Address
		a      ask
		want   string
	}{
		"all that is free":               {40, nil, one, worth(60), ""},
		"more":                           {40, nil, one, worth(61), "of which 0 HYPER is promised"},
		"beside another's":               {40, []given{{two, worth(20), true}}, one, worth(40), ""},
		"more beside another's":          {40, []given{{two, worth(20), true}}, one, worth(41), "of which 20 HYPER is promised"},
		"a second one, half":             {40, []given{{one, worth(20), true}}, one, worth(10), ""},
		"a second one, more":             {40, []given{{one, worth(20), true}}, one, worth(11), "half of it for one consumer's"},
		"more than its worth, half":      {40, nil, one, large(30), ""},
		"more than its worth":            {40, nil, one, large(31), "more than they are worth, of which 0 HYPER"},
		"more than its worth, by two":    {40, []given{{two, large(20), true}}, one, large(11), "more than they are worth, of which 20 HYPER"},
		"beside more than its worth":     {40, []given{{two, large(30), true}}, one, worth(30), ""},
		"locked as far as is known":      {60, []given{{two, worth(60), false}}, one, worth(40), ""},
		"locked, and not known yet":      {0, []given{{two, worth(60), false}}, one, worth(41), "free of"},
		"one of both":                    {0, []given{{two, worth(60), false}, {two, worth(30), true}}, one, worth(11), "is promised"},
		"one of both, with enough":       {0, []given{{two, worth(60), false}, {two, worth(30), true}}, one, worth(10), ""},
		"locked by what is not given":    {50, []given{{two, worth(30), true}}, one, worth(21), "of which 30 HYPER is promised"},
		"of others' locks and the given": {50, []given{{two, worth(30), true}}, one, worth(20), ""},
		"half beyond the stake":          {40, nil, one, bare(31), ""},
		"more than half beyond it":       {40, nil, one, bare(32), "beyond their stakes, of which 0 HYPER is taken"},
		"beside what is beyond":          {40, []given{{two, bare(21), true}}, one, bare(21), ""},
		"more beside what is beyond":     {40, []given{{two, bare(21), true}}, one, bare(22), "beyond their stakes, of which 20 HYPER is taken"},
		"beside it, with a stake":        {40, []given{{two, bare(21), true}}, one, worth(39), ""},
	} {
		p := newPromises(&Own{Cluster: settlement.Cluster{Bond: hyper(100), Locked: hyper(test.locked)}, Height: 7})
		for _, g := range test.given {
			to := promised{consumer: g.to, from: 7}
			if g.later {
				to.from = 8
			}
			p.promise(&to, &g.a)
		}
		got := p.beyond(test.to, &test.a)
		if want := strings.TrimPrefix(test.want, "free of"); (got == "") != (test.want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// fixedBond is a reign whose cluster's bond was asked for just now.
func fixedBond(t *testing.T, record *Own) *reign {
	s := &Server{log: slog.New(slog.DiscardHandler), replica: &replica{state: scheduler.New(scheduler.Config{})}}
	s.ownRecord = ownCache{record: *record, known: true, asked: time.Now().Add(time.Hour)}
	return &reign{Server: s, ctx: t.Context(), auctions: map[uint64]*auction{}}
}

// TestBondsAreGivenOutOnce: whatever orders are decided together, and whoever of those who bid gets them, together they lock no more
// than is free of the cluster's bond, and of each node's; and what one must wait for others for alone is not refused.
func TestBondsAreGivenOutOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		locked := rapid.Uint64Range(0, 100).Draw(rt, "locked")
		record := Own{Cluster: settlement.Cluster{Bond: hyper(100), Locked: hyper(locked)}, Height: 7}
		r := fixedBond(t, &record)
		free := map[crypto.PublicKey]Provider{}
		for n := range byte(3) {
			free[crypto.PublicKey{n + 1}] = Provider{
				Free: hyper(rapid.Uint64Range(0, 40).Draw(rt, "free")), Owner: chain.Address{rapid.Byte().Draw(rt, "owner")%2 + 1}, Height: 7,
			}
		}
		var list []*auction
		bids := map[*auction]int{}
		for range rapid.IntRange(1, 8).Draw(rt, "auctions") {
			a := &auction{free: free, reasons: map[string]int{}}
			least := hyper(rapid.Uint64Range(1, 40).Draw(rt, "least"))
			a.ask = ask{slice: hyper(rapid.Uint64Range(least.Nano()/chain.Hyper(1).Nano(), 60).Draw(rt, "slice")), least: least, stake: hyper(rapid.Uint64Range(0, 20).Draw(rt, "stake"))}
			a.order.Nonce = rapid.Uint64Range(1, 3).Draw(rt, "consumer")
			a.order.Consumer = crypto.AccountKeyOf(crypto.PublicKey{byte(a.order.Nonce)})
			for node := range free { // order-free: a set
				a.bids = append(a.bids, scheduler.SignedBid{Bid: chain.Bid{Node: node}})
			}
			bids[a] = len(a.bids)
			list = append(list, a)
		}
		told, later := r.back(list)
		if len(told)+len(later) != len(list) || len(told) == 0 {
			rt.Fatalf("of %d %d are decided, %d later", len(list), len(told), len(later))
		}
		sum := chain.Amount{}
		staked, bare := map[crypto.PublicKey]chain.Amount{}, map[chain.Address]chain.Amount{}
		for _, a := range told {
			nobodyIsForgotten(rt, a)
			if len(a.bids) == 0 {
				alone := newPromises(&record).beyond(a.order.ConsumerAddress(), &a.ask) == ""
				for _, of := range free { // order-free: any
					if alone && !of.Free.Less(a.ask.stake) {
						rt.Fatalf("%+v is refused, and could begin alone", a.ask)
					}
				}
				continue
			}
			sum = more(sum, a.ask.slice)
			owners := map[chain.Address]bool{}
			for _, b := range a.bids {
				staked[b.Bid.Node] = more(staked[b.Bid.Node], a.ask.stake)
				owners[free[b.Bid.Node].Owner] = true
			}
			for owner := range owners { // order-free: each for itself
				bare[owner] = more(bare[owner], a.ask.bare())
			}
		}
		for owner, of := range bare { // order-free: each for itself
			if hyper(100 - locked).Less(more(of, of)) {
				rt.Fatalf("owner %s may get %s beyond their stakes, %d is free", owner.Short(), of, 100-locked)
			}
		}
		if hyper(100 - locked).Less(sum) {
			rt.Fatalf("%s is given out, %d is free", sum, 100-locked)
		}
		for node, stake := range staked { // order-free: each for itself
			if free[node].Free.Less(stake) {
				rt.Fatalf("%s has %s free, orders that may be given to it stake %s", node.Short(), free[node].Free, stake)
			}
		}
	})
}

// nobodyIsForgotten demands that whoever can stake what an order asks for may begin it, or check it, if anybody may begin it.
func nobodyIsForgotten(rt *rapid.T, a *auction) {
	staking := 0
	for _, of := range a.free { // order-free: counted
		if !of.Free.Less(a.ask.stake) {
			staking++
		}
	}
	if n := len(a.bids) + len(a.checks); n != 0 && n != staking {
		rt.Fatalf("of %d who could stake %d may begin and %d check", staking, len(a.bids), len(a.checks))
	}
}

// TestWhoHasItsShareMayCheck: the bids of an owner's nodes that have their share of the cluster's bond are for checks alone, until others of that
// owner's orders have ended; those of who cannot stake are for nothing. That orders cannot begin for want of a node's bond gives its owner no more, and
// takes nothing from others.
func TestWhoHasItsShareMayCheck(t *testing.T) {
	r := fixedBond(t, &Own{})
	one, two := chain.Address{1}, chain.Address{2}
	a := &auction{reasons: map[string]int{}, ask: ask{slice: hyper(20), least: hyper(20), stake: hyper(1)}, free: map[crypto.PublicKey]Provider{
		{1}: {Free: hyper(9), Owner: one}, {2}: {Free: hyper(9), Owner: one}, {3}: {Free: hyper(9), Owner: two}, {4}: {Owner: two},
	}}
	for n := range byte(4) {
		a.bids = append(a.bids, scheduler.SignedBid{Bid: chain.Bid{Node: crypto.PublicKey{n + 1}}})
	}
	of := func(list []scheduler.SignedBid) (nodes string) {
		for i := range list {
			nodes += string('0' + rune(list[i].Bid.Node[0]))
		}
		return nodes
	}
	keep := func(given int, idle bool, bids, checks string) {
		t.Helper()
		p := newPromises(&Own{Cluster: settlement.Cluster{Bond: hyper(100)}})
		for range given { // to the first owner's nodes
			to := &promised{from: 1, idle: idle}
			p.promise(to, &a.ask)
			p.give(crypto.PublicKey{9}, one, to, &a.ask)
		}
		if r.keepBids(a, p); of(a.bids) != bids || of(a.checks) != checks {
			t.Errorf("of %d orders: %q may begin it, %q check; want %q and %q", given, of(a.bids), of(a.checks), bids, checks)
		}
	}
	keep(1, false, "123", "")
	keep(2, false, "3", "12") // 38 HYPER beyond stakes: as much and twice 19 are not free beside
	keep(1, false, "312", "") // what was decided later is looked at anew
	keep(1, true, "312", "")
	keep(2, true, "3", "12")
	keep(6, true, "3", "12")
	keep(6, false, "", "312")
}

// TestManyAsksDoNotOverflow: what orders ask for may be beyond every amount together.
func TestManyAsksDoNotOverflow(t *testing.T) {
	p := &promises{}
	huge := ask{slice: chain.Nano(1 << 63), stake: chain.Nano(1 << 63)}
	for range 3 {
		p.promise(&promised{consumer: chain.Address{1}, from: 1}, &huge)
		p.give(crypto.PublicKey{1}, chain.Address{1}, &promised{from: 1}, &huge)
	}
	record := settlement.Cluster{Bond: hyper(100)}
	p.known, p.free, p.bond = true, record.Free(), record.Bond
	small := ask{slice: chain.Nano(1)}
	if p.beyond(chain.Address{2}, &small) == "" {
		t.Error("beside more than there is an order gets a part")
	}
}
