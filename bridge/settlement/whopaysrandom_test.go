package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// wrangle is an order under replicate all of whose parties go on, most of them to the point, and not with one voice.
type wrangle struct {
	*field
	rt      *rapid.T
	spares  bool // data comes and goes
	convict bool // the cluster breaks its word on the way
}

// TestDisputesOfRunsConserve has orders come to their panels, whose jurors find what they like, could not have the data or are silent, while the cluster
// may be convicted, the consumer withdraws and governance changes what jurors stake. Whoever is paid in the end, or not: nothing is gained or lost, the order
// costs no more than its max cost, of which nothing is left elsewhere, and no panel is paid by who lost by a convicted cluster.
func TestDisputesOfRunsConserve(t *testing.T) {
	happened := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]chain.PolicyReplicate{staked, threeOf3, threeOf4}).Draw(rt, "policy")
		policy.Stake = chain.Hyper(rapid.Uint64Range(0, 40).Draw(rt, "stake"))
		d := &wrangle{field: newField(t, policy), rt: rt, spares: rapid.Bool().Draw(rt, "data comes and goes"), convict: rapid.IntRange(0, 2).Draw(rt, "convicted") == 0}
		d.gather()
		d.env.Params.ClaimWindowMs, d.env.Params.WithdrawalDelayMs = 2*hour, 12*hour
		d.register(operator, operators)
		d.order.MaxCost = chain.Nano(rapid.Uint64Range(3_000_000, 30_000_000).Draw(rt, "max cost"))
		d.use(d.order)
		for _, n := range []byte{40, 50, 60, operators} {
			d.finds(n, d.any("a run finds", "right", "right", "right", "right", "right", "other"))
		}
		d.checkAccounts(rt)
		d.do(d.begin(40, 50, 60, operators))
		for steps := 0; ; steps++ {
			runs, open := settlement.RunsOf(d.kv, d.id)
			if !open {
				break
			}
			if steps > 100 {
				rt.Fatalf("the order never ends: it is in stage %d", runs.Stage)
			}
			d.aside()
			d.goOn(&runs)
			d.checkAccounts(rt)
		}
		d.step(13 * hour)
		for range 3 {
			d.step(1_000)
		}
		d.checkAccounts(rt)
		d.free()
		d.checkEnded(rt, []chain.Order{d.order})
		d.checkForfeits()
		for _, e := range d.events {
			happened[chain.EventName(e)]++
			if e, ok := e.(chain.RunEnded); ok {
				happened[e.Finding]++
			}
		}
	})
	t.Logf("%v", happened)
}

// checkForfeits demands that what a convicted cluster loses goes where the conviction sends it, all of it.
func (d *wrangle) checkForfeits() {
	convicted := false
	for i, e := range d.events {
		switch e := e.(type) {
		case chain.AcceptanceBroken:
			convicted = true
		case chain.BondSlashed:
			if e.Node != key(cluster).Public() || !convicted {
				continue
			}
			if next, ok := d.events[min(i+1, len(d.events)-1)].(chain.BondForfeited); !ok || next.Amount != e.Amount {
				d.rt.Fatalf("of %s that a convicted cluster lost not all is forfeited", e.Amount)
			}
		}
	}
}

func (d *wrangle) any(of string, list ...string) string {
	return rapid.SampledFrom(list).Draw(d.rt, of)
}

// often is true in so many of ten cases.
func (d *wrangle) often(what string, tenths int) bool {
	return rapid.IntRange(1, 10).Draw(d.rt, what) <= tenths
}

// aside is what happens beside.
func (d *wrangle) aside() {
	switch {
	case d.convict && d.often("now", 2):
		d.convict = false
		if e, why := settlement.ReportAcceptance(d.kv, &d.env, account(2), d.promised(other, 1), true); why == nil {
			d.events = append(d.events, e)
		}
	case d.often("withdraws", 1):
		if balance := d.escrow(consumer).Balance; !balance.IsZero() {
			d.withdraw(consumer, balance)
		}
	case d.often("governance", 1):
		d.env.Params.JurorSlice = chain.Hyper(rapid.Uint64Range(1, 60).Draw(d.rt, "juror slice"))
	}
}

// goOn has those do their part who have one at a stage.
func (d *wrangle) goOn(runs *settlement.Runs) {
	switch runs.Stage {
	case settlement.StageDraw, settlement.StagePanelDraw:
		d.step(10)
	case settlement.StageRun, settlement.StageReveal:
		for _, run := range runs.Runs {
			switch n := numberOf(run.Bidder.Node); {
			case run.State == settlement.RunAsked && d.often("commits", 9):
				d.do(d.commit(n))
			case run.State == settlement.RunCommitted && runs.Stage == settlement.StageReveal && d.often("shows", 9):
				d.do(d.reveal(n))
			}
		}
		if now, open := settlement.RunsOf(d.kv, d.id); open && now.Stage == runs.Stage {
			d.step(61_000)
		}
	case settlement.StageCheck, settlement.StagePanel:
		d.vote()
	case settlement.StageOwed:
		if d.often("collects", 8) {
			d.do(chain.CollectRun{Order: d.id})
		} else {
			d.env.Now += 10 * hour
			d.step(1)
		}
	}
}

// vote has the jurors of the panel that is open vote, but for some.
func (d *wrangle) vote() {
	drawn := d.lastPanel()
	panel, open := settlement.PanelAt(d.kv, drawn.Panel)
	switch {
	case !open || panel.DrawAt != 0 || len(panel.Jurors) == 0:
		d.step(10)
		return
	case panel.Revealing: // some are bound, and show nothing
		d.step(11_000)
		return
	}
	var shown []chain.RevealVote
	gone := d.spares && d.often("the data is gone", 5)
	for _, juror := range panel.Jurors {
		vote := found(d.any("a juror finds", "right", "right", "right", "right", "other", string(juror.Node[:4])))(0)
		switch {
		case gone && d.often("lacks it", 9):
			vote = found1(chain.FoundUnavailable)(0)
		case d.often("says that it is unstable", 1):
			vote = found1(chain.FoundUnstable)(0)
		}
		testimony := shows(drawn.Panel, d.id, vote)
		if d.often("is bound", 9) {
			commitment := testimony.Commitment(drawn.Panel, juror.Node, [32]byte{})
			d.try(chain.CommitVote{
				Panel: drawn.Panel, Node: juror.Node, Commitment: commitment,
				Signature: key(numberOf(juror.Node)).Sign(crypto.DomainVote, chain.VotePayload(testChain, drawn.Panel, commitment)),
			})
		}
		if d.often("shows it", 9) {
			shown = append(shown, chain.RevealVote{Panel: drawn.Panel, Node: juror.Node, Testimony: testimony})
		}
	}
	if now, _ := settlement.PanelAt(d.kv, drawn.Panel); !now.Revealing {
		d.step(31_000)
	}
	for _, m := range shown {
		d.try(m)
	}
}
