package simulation

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// ballot is what a juror found until it is shown.
type ballot struct {
	found  chain.Testimony
	salt   crypto.Digest
	bought bool
}

func (w *world) send(p post) {
	if p.after <= w.env.Height {
		p.after = w.env.Height + 1
	}
	w.pending = append(w.pending, p)
}

// act is a message, with the function of settlement that executes it.
type act func(w *world, from chain.Address) (chain.Events, *chain.Rejection)

// carried is a message whose inner signatures have verified.
func carried[M chain.Msg](m M, do func(state.KV, *settlement.Env, M, bool) (chain.Events, *chain.Rejection)) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) { return do(w.kv, &w.env, m, true) }
}

// voted is a message of a juror's, whose signature settlement verifies itself.
func voted[M chain.Msg](m M, do func(state.KV, *settlement.Env, M) (chain.Events, *chain.Rejection)) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) { return do(w.kv, &w.env, m) }
}

// sent is a message of an account's.
func sent[M chain.Msg](m M, do func(state.KV, *settlement.Env, chain.Address, M) (chain.Event, *chain.Rejection)) act {
	return func(w *world, from chain.Address) (chain.Events, *chain.Rejection) {
		event, why := do(w.kv, &w.env, from, m)
		if why != nil {
			return nil, why
		}
		return chain.Events{event}, nil
	}
}

// claimed is a claim whose signatures have verified.
func claimed(c chain.Claim) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) {
		return settlement.Settle(w.kv, &w.env, chain.Settle{Claims: []chain.Claim{c}}, []chain.Signing{chain.AllSigned}), nil
	}
}

// batched is a batch whose signatures have verified.
func batched(m chain.SettleBatch) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) {
		event, why := settlement.SettleBatch(w.kv, &w.env, m, true)
		if why != nil {
			return nil, why
		}
		return chain.Events{event}, nil
	}
}

// collected has those paid who are owed for an order, if they were not at once.
func collected(order crypto.Digest) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) {
		return settlement.CollectRun(w.kv, &w.env, chain.CollectRun{Order: order})
	}
}

// apply executes a message, as execution does once its signatures have verified.
func (w *world) apply(p post) chain.Events {
	events, why := p.do(w, p.by.address)
	if why != nil && p.again > 0 {
		p.again--
		w.send(p)
	}
	w.broken.applied(w, p.offers)
	return events
}

// heard has everybody answer to an event.
func (w *world) heard(event chain.Event) {
	if e, ok := event.(chain.RunsDrawn); ok {
		w.drawn(w.jobs[e.Order], e.Nodes)
	}
	if e, ok := event.(chain.RunsRevealing); ok {
		w.revealing(w.jobs[e.Order], e.Checked)
	}
	if e, ok := event.(chain.RunEnded); ok && e.Paid > 0 {
		w.send(post{by: w.jobs[e.Order].primary.owner, do: collected(e.Order)})
	}
	if e, ok := event.(chain.PanelDrawn); ok {
		w.seated(w.jobs[e.Subject], e)
	}
	if e, ok := event.(chain.PanelRevealing); ok {
		w.opened(e.Panel)
	}
	if e, ok := event.(chain.ClaimPending); ok {
		w.pendingClaim(w.jobs[e.Order])
	}
	if e, ok := event.(chain.ClaimJudged); ok {
		w.judged(w.jobs[e.Order], e.Verdict)
	}
	if e, ok := event.(chain.HardwareChallenged); ok {
		w.measured(e)
	}
	if e, ok := event.(chain.BondSlashed); ok {
		w.slashed(e)
	}
}

// drawn has the nodes that were drawn run a job, and commit.
func (w *world) drawn(j *job, nodes []crypto.PublicKey) {
	j.checked = true
	for _, id := range nodes {
		n := w.byNode[id]
		how := n.asReplica
		if n.allied && j.primary.owner.hand {
			how = backs
		}
		if how == absent {
			w.tried(n)
			continue
		}
		b := w.run(j, n, how)
		w.broken.copied(w, j, n)
		commitment := chain.RunCommitment(b.receipt.Digest(), n.id, b.salt)
		if b.copied {
			runs, _ := settlement.RunsOf(w.kv, j.id) // it has a primary
			commitment = runs.Runs[0].Commitment
		}
		m := chain.CommitRun{ChainID: chainID, Order: j.id, Node: n.id, Commitment: commitment, Place: w.place(j, n)}
		w.send(post{by: n.owner, do: carried(m, settlement.CommitRun)})
	}
}

// revealing has those who are bound show their receipts.
func (w *world) revealing(j *job, checked bool) {
	for _, n := range j.members {
		b := j.bound[n]
		if b.copied || checked && b.made && (n.hides || n.late) {
			continue
		}
		w.show(j, n)
	}
}

// show has a node show its receipt.
func (w *world) show(j *job, n *node) {
	b := j.bound[n]
	m := chain.RevealRun{Receipt: b.receipt, Salt: b.salt, Cluster: j.order.Cluster, Attestation: crypto.Signature{1}}
	w.send(post{by: n.owner, do: carried(m, settlement.RevealRun)})
}

// seated has jurors run a job again, and commit to their votes.
func (w *world) seated(j *job, e chain.PanelDrawn) {
	if w.votes[e.Panel] == nil {
		w.votes[e.Panel] = map[*node]*ballot{}
	}
	for _, n := range j.members {
		if n.late && j.bound[n].made {
			w.show(j, n)
		}
	}
	for _, id := range e.Jurors {
		n := w.byNode[id]
		found, votes := w.testify(j, n, e.Panel)
		bought := w.buys(j, n, e.Panel)
		if bought {
			found, votes = chain.Testimony{Finding: chain.FoundUnavailable}, true
		}
		if !votes {
			continue
		}
		b := &ballot{found: found, bought: bought}
		binary.BigEndian.PutUint64(b.salt[:], w.rand.Uint64())
		w.votes[e.Panel][n] = b
		commitment := found.Commitment(e.Panel, n.id, b.salt)
		m := chain.CommitVote{
			Panel: e.Panel, Node: n.id, Commitment: commitment,
			Signature: n.key.Sign(crypto.DomainVote, chain.VotePayload(chainID, e.Panel, commitment)),
		}
		w.send(post{by: n.owner, do: voted(m, settlement.CommitVote)})
	}
}

// testify is what a juror shows of what it found, and whether it votes.
func (w *world) testify(j *job, n *node, panel crypto.Digest) (chain.Testimony, bool) {
	how := n.asJuror
	at, _ := settlement.LinkOf(panel, j.id) // the panel judges it
	switch {
	case n.allied && w.play.frames:
		how = conspire
		if runs, _ := settlement.RunsOf(w.kv, j.id); runs.Stage == settlement.StageCheck { // there are none under optimistic
			w.tried(n)
		}
	case n.allied && j.primary.owner.hand:
		how = backs
	}
	if w.hidden(j) && how != backs {
		return chain.Testimony{Finding: chain.FoundUnavailable}, true
	}
	switch how {
	case absent:
		w.tried(n)
		return chain.Testimony{}, false
	case cries:
		w.tried(n)
		return chain.Testimony{Finding: chain.FoundUnavailable}, true
	case follows, repeats:
		if found, any := w.mostly(j, at, how); any {
			w.tried(n)
			return found, true
		}
		w.ran(j, n) // it checks runs of which nothing is shown yet
		how = honest
	case guess:
		w.tried(n)
	case honest:
		w.ran(j, n)
	case conspire, backs, copies:
	}
	return w.finds(j, n, how).testimony(at), true
}

// hidden reports whether the cluster shows a job to no juror.
func (w *world) hidden(j *job) bool {
	return w.play.withholds && j.buyer.hand || w.play.shields && j.primary.owner.hand
}

// buys reports whether the hand buys the vote of a juror, which decides a panel of three with
// another: for what a wrong one would cost it.
func (w *world) buys(j *job, n *node, panel crypto.Digest) bool {
	if n.owner.hand || !(w.play.bribes && j.primary.owner.hand || w.play.alarms && !j.primary.owner.hand) {
		return false
	}
	p, _ := settlement.PanelAt(w.kv, panel) // it was drawn in this block
	bought := 0
	for _, b := range w.votes[panel] { // order-free: they are counted
		if b.bought {
			bought++
		}
	}
	at := slices.IndexFunc(p.Jurors, func(s settlement.Juror) bool { return s.Node == n.id })
	if p.Seats != 3 || bought == 2 || at < 0 {
		return false
	}
	price := int64(p.Jurors[at].Staked.Nano() / 4)
	w.owners[handsBuyer].spent += price
	n.owner.spent -= price
	return true
}

// mostly is what a juror shows who runs nothing, and would vote for what a panel has found of a job, for
// what is claimed, or for what most of those say who have shown a result: it has no link of the run but
// one that a panel before has shown.
func (w *world) mostly(j *job, at chain.Link, how work) (chain.Testimony, bool) {
	made := binary.BigEndian.AppendUint64(nil, w.rand.Uint64())
	t := chain.Testimony{Finding: chain.FoundResult, Link: crypto.DomainLink.Hash(made)}
	if how == repeats && len(j.shown) > 0 {
		t = j.shown[len(j.shown)-1]
		return t, true
	}
	var begins chain.Trace
	var said bool
	if o, open := settlement.OpenClaimOf(w.kv, j.id); open {
		t.Work, begins, said = o.Work(), o.Begins, true
	} else {
		t.Work, begins, said = w.mostShown(j)
	}
	t.Other = begins.Runs
	if at.Strand == chain.StrandRuns {
		t.Other = begins.Panels
	}
	for _, n := range j.members {
		if g := j.bound[n].gave; w.broken == MutateLinks && said && g.vote().Result == chain.Yield(t.Work, begins) { // who said it has told everybody
			t = g.testimony(at)
		}
	}
	return t, said
}

// mostShown is what is shown of a job that most say, of those who have shown receipts and the check from the
// roll.
func (w *world) mostShown(j *job) (work crypto.Digest, begins chain.Trace, said bool) {
	_, claims, _ := settlement.Settlement(w.kv, j.id)
	check, _ := settlement.PanelAt(w.kv, settlement.RunsCheck(j.id))
	most := 0
	for i := range claims {
		n := 0
		for k := range claims {
			if claims[k].Yield() == claims[i].Yield() {
				n++
			}
		}
		if check.Verdict != nil && check.Verdict.Result == claims[i].Yield() {
			n++
		}
		if n > most {
			most, work, begins = n, chain.Work(claims[i].Result, claims[i].Pending.Usage), claims[i].Pending.Begins
		}
	}
	return work, begins, most > 0
}

// opened has the jurors of a panel show their votes.
func (w *world) opened(panel crypto.Digest) {
	p, _ := settlement.PanelAt(w.kv, panel)
	for i := range p.Jurors {
		n := w.byNode[p.Jurors[i].Node]
		if b := w.votes[panel][n]; b != nil && !n.seals {
			m := chain.RevealVote{Panel: panel, Node: n.id, Testimony: b.found, Salt: b.salt}
			w.jobs[p.Subject].shown = append(w.jobs[p.Subject].shown, b.found)
			w.send(post{by: n.owner, do: voted(m, settlement.RevealVote)})
		}
	}
}

// pendingClaim has the hand look at a claim in its window.
func (w *world) pendingClaim(j *job) {
	var by *owner
	switch {
	case w.play.frames && !j.primary.owner.hand:
		by = w.hand()[0].owner
		w.tries++
	case w.play.alarms && !j.primary.owner.hand:
		by = w.owners[handsBuyer]
		w.tries++
	case w.play.withholds && j.buyer.hand:
		by = j.buyer
	default:
		return
	}
	w.send(post{by: by, do: sent(chain.Challenge{Order: j.id, Stake: chain.Hyper(purse)}, settlement.Challenge)})
}

// judged has whoever was right, and did not get it, appeal.
func (w *world) judged(j *job, verdict *chain.Vote) {
	o, open := settlement.OpenClaimOf(w.kv, j.id)
	if !open || verdict == nil || j.flaky {
		return
	}
	right := w.finds(j, &node{}, honest).vote()
	var by *owner
	switch {
	case *verdict == right || verdict.Finding == chain.FoundUnavailable && w.hidden(j):
		return
	case verdict.Finding == chain.FoundUnavailable:
		by = w.cluster
	case o.Claimed() == right:
		by = j.primary.owner
	default:
		by = w.ownerAt(o.Challenger.By)
	}
	if by != nil && !by.hand {
		w.send(post{by: by, do: sent(chain.Appeal{Order: j.id, Stake: chain.Hyper(purse)}, settlement.Appeal)})
	}
}

func (w *world) ownerAt(a chain.Address) *owner {
	i := slices.IndexFunc(w.owners, func(o *owner) bool { return o.address == a })
	if i < 0 {
		return nil
	}
	return w.owners[i]
}

// slashed has a node that lost some of its bond add it again, or come back as another.
func (w *world) slashed(e chain.BondSlashed) {
	n, ok := w.byNode[e.Node]
	if !ok {
		return // the cluster's
	}
	w.caught = append(w.caught, e)
	w.broken.slashed(w, n, e)
	if !n.returns {
		w.send(post{by: n.owner, do: sent(chain.AddBond{Node: n.id, Amount: e.Amount}, settlement.AddBond), own: true})
		return
	}
	if n.retired {
		return
	}
	n.retired = true
	w.send(post{by: n.owner, do: sent(chain.UnbondProvider{Node: n.id}, settlement.UnbondProvider), again: maxBlocks, own: true})
	if at := len(w.nodes); firstOwner+at < len(w.owners) {
		another := &node{key: w.cast.nodes[at], owner: w.owners[firstOwner+at], conduct: n.conduct}
		another.id = another.key.Public()
		w.nodes = append(w.nodes, another)
		w.byNode[another.id] = another
		w.send(post{by: another.owner, do: sent(another.registration(), settlement.RegisterProvider), own: true})
	}
}

// hand lists the nodes of the hand that are in use.
func (w *world) hand() (list []*node) {
	for _, n := range w.nodes {
		if n.owner.hand && !n.retired {
			list = append(list, n)
		}
	}
	return list
}

// relay is what carries messages, for whoever does not post its own.
type relay struct {
	drops, replays, reorders bool
	seen                     []post
}

// patience is after how many blocks whoever hears nothing posts its own message.
const patience = 3

// delivered takes out what is posted in this block.
func (w *world) delivered() (due []post) {
	var wait []post
	for _, p := range w.pending {
		switch r := &w.relay; {
		case p.after > w.env.Height:
			wait = append(wait, p)
		case p.own:
			due = append(due, p)
		case r.drops && !p.by.hand:
			w.tries++
			p.after, p.own = w.env.Height+patience, true
			wait = append(wait, p)
		case r.reorders && !p.by.hand && w.rand.Below(2) == 0:
			w.tries++
			p.after = w.env.Height + chain.Height(1+w.rand.Below(2))
			wait = append(wait, p)
		default:
			due = append(due, p)
			if r.replays && p.by.hand {
				r.seen = append(r.seen, p)
			}
		}
	}
	w.pending = wait
	if w.relay.reorders {
		for i := range due {
			k := i + w.rand.Below(len(due)-i)
			due[i], due[k] = due[k], due[i]
		}
	}
	for n := len(w.relay.seen); n > 0 && w.relay.replays; n = 0 {
		for range 2 {
			w.tries++
			due = append(due, w.relay.seen[w.rand.Below(n)])
		}
	}
	return due
}
