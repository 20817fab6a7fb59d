package settlement_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestDataThatComesOrGoes: the first panel's jurors lose nothing because the larger one finds data
// that they could not have, or no longer finds what they had; they do for what was wrong when they
// voted.
func TestDataThatComesOrGoes(t *testing.T) {
	const lost, paid = -5_000_000_000 / 4, fee // of a juror, of which each stakes the least
	for name, test := range map[string]struct {
		claimed       chain.Vote
		first, appeal func(int) *chain.Vote
		raised        bool
		want          [3]int64 // of the first panel; under raised, of the first juror alone
	}{
		"comes":                   {claimed: right, first: all(unavailable), appeal: all(right)},
		"comes, one had it":       {claimed: right, first: mostly(2, unavailable, right), appeal: all(right), want: [3]int64{0, 0, paid}},
		"comes, one lied":         {claimed: right, first: mostly(2, unavailable, wrong), appeal: all(right), want: [3]int64{0, 0, lost}},
		"comes, the claim lied":   {claimed: wrong, first: all(unavailable), appeal: all(right)},
		"comes, of no one result": {claimed: right, first: all(unavailable), appeal: all(unstable)},
		"goes":                    {claimed: right, first: all(right), appeal: all(unavailable)},
		"goes, one lacked it":     {claimed: right, first: mostly(2, right, unavailable), appeal: all(unavailable), want: [3]int64{0, 0, paid}},
		"was there":               {claimed: right, first: mostly(2, right, unavailable), appeal: all(right), want: [3]int64{paid, paid, lost}},
		"was never there":         {claimed: right, first: mostly(2, unavailable, right), appeal: all(unavailable), want: [3]int64{paid, paid, lost}},
		"comes, after silence":    {claimed: right, first: upTo(1, unavailable), appeal: all(right), raised: true},
		"goes, after silence":     {claimed: right, first: upTo(1, right), appeal: all(unavailable), raised: true},
		"silence, and a lie":      {claimed: right, first: upTo(1, wrong), appeal: all(right), raised: true, want: [3]int64{lost}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCourt(t, lotOf(t, false))
			id := c.post(c.claimOf(1, worth, test.claimed.Result))
			c.draw()
			c.challenge(challenger, id)
			c.draw()
			panel, _ := settlement.PanelAt(c.kv, settlement.PanelOf(id, false))
			var before [3]int64
			worth := func(i int) int64 {
				node := c.nodes[panel.Jurors[i].Node]
				return int64(c.worth(ownerOf(node), node))
			}
			for i := range before {
				before[i] = worth(i)
			}
			c.vote(settlement.PanelOf(id, false), test.first)
			if !test.raised {
				c.end(id, settlement.PanelOf(id, false))
				c.appeal(appellant, id)
			}
			c.draw()
			c.vote(settlement.PanelOf(id, true), test.appeal)
			c.checkClosed(id)
			for i, want := range test.want {
				if test.raised && i > 0 {
					break // replaced as it was silent
				}
				if got := worth(i) - before[i]; got != want {
					t.Errorf("juror %d: %d, want %d", i, got, want)
				}
			}
		})
	}
}

// TestAuditorOfDataThatComesLate: an auditor which could not have what the first panel could not
// have either loses nothing because the larger one could, and nobody gains by having withheld it.
func TestAuditorOfDataThatComesLate(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	before, provider, appealed := c.worth(ownerOf(node), node), c.worth(4, 40), c.worth(appellant)
	c.vote(panel, all(unavailable))
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(unavailable))
	c.appeal(appellant, id)
	c.draw()
	c.vote(settlement.PanelOf(id, true), all(right))
	c.checkClosed(id)
	if got := c.worth(ownerOf(node), node); got != before {
		t.Errorf("the auditor had %d, and has %d", before, got)
	}
	if got := c.worth(4, 40) - provider; got != paidToProvider {
		t.Errorf("the provider got %d, its pay is %d", got, paidToProvider)
	}
	if got := appealed - c.worth(appellant); got != 9*fee/2 {
		t.Errorf("the appellant lost %d", got)
	}
}

// TestUnbondedClusterIsClaimedOf: a claim of what a cluster accepted before it unbonded is taken: the slice comes out of
// the bond that is on its way back, and goes back there, or is lost, also where the rest of that bond is free by then.
func TestUnbondedClusterIsClaimedOf(t *testing.T) {
	for name, test := range map[string]struct {
		gone, late bool
	}{"and keeps its word": {}, "and shows no data": {gone: true}, "and is paid out before": {late: true}} {
		t.Run(name, func(t *testing.T) {
			c := newCourt(t, lotOf(t, false))
			bond := c.cluster().Bond
			c.must(settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
			owner := account(operator)
			at, origin := c.env.Now+chain.TimeMs(c.env.Params.ClusterUnbondMs()), slices.Concat(settlement.ClusterKey(key(cluster).Public()), owner[:])
			id := c.post(c.claimOf(1, worth, right.Result))
			rest, _ := bond.Sub(optimistic.Bond)
			if cl := c.cluster(); cl.Bond != optimistic.Bond || cl.Locked != cl.Bond || tokens.MaturingOf(c.kv, at, origin) != rest {
				t.Fatalf("%s is on its way, %+v", tokens.MaturingOf(c.kv, at, origin), cl)
			}
			if _, why := settlement.RegisterCluster(c.kv, &c.env, owner, c.registerCluster(operator)); why == nil {
				t.Fatal("it was registered anew over what is locked")
			}
			c.draw()
			want := bond
			switch {
			case test.gone:
				want = rest
				c.challenge(challenger, id)
				c.draw()
				c.vote(settlement.PanelOf(id, false), all(unavailable))
				c.expire()
			case test.late:
				c.block(uint64(at-c.env.Now), uint64(at-c.env.Now)) // the chain stood for so long
				tokens.ReleaseMatured(c.kv, c.env.Now, 10)
				want = optimistic.Bond
				c.expire()
			default:
				c.expire()
			}
			c.checkClosed(id)
			if got := tokens.MaturingOf(c.kv, at, origin); got != want || !c.cluster().Bond.IsZero() {
				t.Errorf("%s is on its way, want %s; %+v", got, want, c.cluster())
			}
			before := c.balance(operator)
			c.block(uint64(max(at, c.env.Now)-c.env.Now)+1, 0)
			tokens.ReleaseMatured(c.kv, c.env.Now, 10)
			if got := c.balance(operator).Nano() - before.Nano(); got != want.Nano() {
				t.Errorf("the operator has %d of it, want %s", got, want)
			}
			c.checkSupply()
		})
	}
}
