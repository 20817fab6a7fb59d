package simulation

import (
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// Outcome is what an attack came to in one market, beside the same market in which the
// hand was honest. Money is in the worth of one job.
type Outcome struct {
	Seed   uint64  `json:"seed"`
	Tries  int     `json:"tries"`  // times that the hand cheated
	Profit float64 `json:"profit"` // of the hand, more than if it had been honest, for each try
	Harm   float64 `json:"harm"`   // what everybody else has less, for each try
	Caught int     `json:"caught"` // times that a bond of the hand's was cut
}

// Market is an attack under some terms, as a seed has it.
type Market struct {
	Cast   *Cast
	Attack *Attack
	Terms  Terms
	Broken Mutation
	Seed   uint64
}

// Play runs the market and its honest twin.
func (m Market) Play() Outcome { return m.outcome(m.run(m.Attack.play, nil)) }

// Trace is Play, and tells every event of the market with the attack.
func (m Market) Trace(say func(line string)) Outcome {
	return m.outcome(m.run(m.Attack.play, func(h chain.Height, e chain.Event) {
		text, err := json.Marshal(e)
		if err != nil {
			panic("simulation: an event without a form: " + err.Error())
		}
		say(fmt.Sprintf("%d %s %s", h, chain.EventName(e), text))
	}))
}

// outcome holds the market with the attack against its twin.
func (m Market) outcome(cheat *world) Outcome {
	out := Outcome{Seed: m.Seed, Tries: cheat.tries}
	for _, e := range cheat.caught {
		if cheat.byNode[e.Node].owner.hand {
			out.Caught++
		}
	}
	if out.Tries == 0 {
		return out
	}
	twin := m
	twin.Attack = m.Attack.honest()
	fair := twin.run(conduct{}, nil)
	worth := float64(jobWorth) * float64(out.Tries)
	out.Profit = float64(cheat.wealth(hands)-fair.wealth(hands)) / worth
	out.Harm = float64(fair.wealth(others)-cheat.wealth(others)) / worth
	return out
}

// honest is the same hand without its attack.
func (a *Attack) honest() *Attack {
	b := *a
	b.play, b.relay, b.broke = conduct{}, relay{}, false
	return &b
}

// run runs the market to its end.
func (m Market) run(play conduct, told func(chain.Height, chain.Event)) *world {
	w, a := newWorld(m, play), m.Attack
	w.told = told
	w.enlist(a)
	w.fund(w.owners[consumerAt], chain.Hyper(deposited))
	if !a.fresh {
		w.remember()
	}
	w.relay, w.broke = a.relay, a.broke
	if play.farms > 0 {
		w.farm(play.farms)
	}
	if play.spoofs {
		w.spoof()
	}
	for i := range m.Terms.Jobs {
		w.handsJob(a, i)
		if play.spoofs && w.excess(w.hand()[0]) {
			w.tries++
			w.handsJob(a, i)
		}
		for range max(a.crowd, 1) {
			w.othersJob(a)
		}
		w.block(blockMs)
	}
	w.settled()
	return w
}

// enlist says who is the hand, and who else cheats.
func (w *world) enlist(a *Attack) {
	for i := range a.nodes(w.terms) {
		n := w.nodes[i]
		n.owner.hand, n.conduct = true, w.play
	}
	for _, o := range w.owners[firstOwner+w.terms.Nodes:] {
		o.hand = true
	}
	w.owners[handsBuyer].hand = true
	w.cluster.hand = a.cluster
	for i, n := range w.nodes {
		if !n.owner.hand && (i*37)%100 < w.terms.Follow {
			n.asJuror = follows
		}
	}
	if a.rogues {
		for _, n := range w.nodes[len(w.nodes)-len(w.nodes)/5:] {
			n.asPrimary = guess
		}
	}
}

// fund deposits an amount into an owner's escrow.
func (w *world) fund(by *owner, amount chain.Amount) {
	w.must(settlement.Deposit(w.kv, &w.env, by.address, chain.Deposit{Cluster: w.cluster.key.Public(), Amount: amount}))
}

// remember gives every node its record: work under none that it was paid for.
func (w *world) remember() {
	if w.terms.Record == 0 {
		return
	}
	for _, n := range w.nodes {
		w.paid(w.owners[consumerAt], n, w.terms.Record)
	}
	w.settled()
	for _, o := range w.owners {
		o.got, o.spent = 0, 0
	}
	w.runs = 0
}

// paid has a node do work of a size under none.
func (w *world) paid(buyer *owner, n *node, size uint64) {
	terms, as := w.terms, n.conduct
	w.terms.Policy, n.conduct = None, conduct{}
	w.offer(w.newJob(buyer, n, size))
	w.terms, n.conduct = terms, as
}

// farm has the hand's consumer buy records of the hand's nodes.
func (w *world) farm(size uint64) {
	buyer := w.owners[handsBuyer]
	w.fund(buyer, chain.Hyper(deposited))
	for _, n := range w.hand() {
		before, got := n.owner.spent, buyer.got
		w.paid(buyer, n, size)
		n.owner.spent, buyer.got = before, got // nothing is run
	}
	w.settled()
}

// handsJob has the hand work, or buy.
func (w *world) handsJob(a *Attack, i int) {
	buyer, mine := w.owners[consumerAt], w.hand()
	if a.buys {
		buyer = w.owners[handsBuyer]
		if !a.broke {
			w.fund(buyer, w.terms.orderMost(buyer, max(a.size, 1)))
		}
	}
	var primary *node
	switch {
	case a.idle && w.play == (conduct{}):
		return
	case len(mine) > 0 && (!a.buys || a.sells):
		primary = mine[i%len(mine)]
	default:
		primary = w.bystander()
	}
	j := w.newJob(buyer, primary, max(a.size, 1))
	j.flaky, j.trivial, j.fair = w.play.flaky, w.play.trivial, w.play.picks && w.sure(j)
	if a.buys && (w.play != conduct{} || a.broke) {
		w.tries++
	}
	if w.play.withdraws {
		m := chain.Withdraw{Cluster: w.cluster.key.Public(), Amount: j.order.MaxCost}
		w.send(post{by: buyer, do: sent(m, settlement.Withdraw), own: true})
	}
	w.offer(j)
}

// othersJob has somebody else work; one in some of them wrongly, if somebody does.
func (w *world) othersJob(a *Attack) {
	n := w.bystander()
	if a.rogues && w.rand.Below(100) < w.terms.Wrong {
		n = w.nodes[len(w.nodes)-1-w.rand.Below(len(w.nodes)/5)]
	}
	w.offer(w.newJob(w.owners[consumerAt], n, 1))
}

// bystander draws a node that is honest and not the hand's.
func (w *world) bystander() *node {
	for {
		if n := w.nodes[w.rand.Below(w.terms.Nodes)]; !n.owner.hand && n.asPrimary == honest {
			return n
		}
	}
}
