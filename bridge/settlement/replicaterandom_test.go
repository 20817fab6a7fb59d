package settlement_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestRunsInvariants has nodes, jurors, consumers and relays do random things about a few
// orders, most of them wrong: too early, too late, again, out of order, with a wrong salt,
// with another's commitment, not at all. After each step nothing is gained or lost and
// what is locked is what is at stake; in the end nothing is locked, nobody was paid twice
// or beyond what was ordered, and nobody lost a bond without a panel.
func TestRunsInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newField(t, staked)
		f.gather()
		f.deposit(other, chain.Hyper(50))
		f.env.Params.ClaimWindowMs, f.env.Params.WithdrawalDelayMs = 2*hour, 12*hour
		var orders []chain.Order
		for nonce := range rapid.Uint64Range(1, 3).Draw(rt, "orders") {
			k := rapid.Uint8Range(2, 3).Draw(rt, "k")
			policy := chain.PolicyReplicate{
				K: k, N: rapid.Uint8Range(k, 4).Draw(rt, "n"), Stake: chain.Hyper(rapid.Uint64Range(0, 40).Draw(rt, "stake")), WindowMs: 60_000,
			}
			f.anyFee(rt)
			order := f.market.order(rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "consumer"), nonce, policy)
			order.MaxCost = chain.Nano(rapid.Uint64Range(3_000_000, 20_000_000).Draw(rt, "max cost"))
			orders = append(orders, order)
		}
		everybody := []byte{40, 41, 50, 60, 70, 80, 90, 95}
		for _, n := range everybody {
			if rapid.IntRange(0, 3).Draw(rt, "record") == 0 {
				f.rich(n) // may go unchecked
			}
		}
		f.checkAccounts(rt) // rich is money from nowhere
		for range rapid.IntRange(1, 90).Draw(rt, "steps") {
			f.use(rapid.SampledFrom(orders).Draw(rt, "order"))
			f.anything(rt, rapid.SampledFrom(everybody).Draw(rt, "node"))
			f.checkAccounts(rt)
		}
		for n := range 200 { // panels run into their deadlines, and are drawn again
			f.step(61_000)
			if n%4 == 0 {
				f.checkAccounts(rt)
			}
		}
		f.env.Now += 8 * hour
		for range 12 {
			f.step(61_000)
		}
		f.free()
		f.checkEnded(rt, orders)
	})
}

// anything does one random thing about the order, mostly as a node.
func (f *field) anything(t *rapid.T, node byte) {
	clear(f.receipts)
	if rapid.IntRange(0, 4).Draw(t, "lies") == 0 {
		f.finds(node, rapid.SampledFrom([]string{"wrong", "other"}).Draw(t, "lie"))
	} else if node > 60 && rapid.Bool().Draw(t, "uses more") {
		f.uses(node, 2*hour, 1_000_000)
	}
	switch rapid.IntRange(0, 11).Draw(t, "step") {
	case 0, 1:
		slate := rapid.Permutation([]byte{40, 41, 50, 60, 70, 80}).Draw(t, "slate")
		f.try(f.begin(append([]byte{node}, slices.DeleteFunc(slate[:rapid.IntRange(0, 6).Draw(t, "bids")], func(n byte) bool { return n == node })...)...))
	case 2, 3:
		m := f.commit(node)
		if runs, begun := settlement.RunsOf(f.kv, f.id); begun && rapid.IntRange(0, 7).Draw(t, "copies") == 0 {
			m.Commitment = runs.Runs[0].Commitment
		}
		f.try(m)
	case 4, 5, 6:
		m := f.reveal(node)
		if rapid.IntRange(0, 7).Draw(t, "salted wrongly") == 0 {
			m.Salt[1] ^= 1
		}
		if rapid.IntRange(0, 3).Draw(t, "unattested") == 0 {
			m.Attestation = crypto.Signature{}
		}
		f.try(m)
	case 7:
		f.try(chain.CollectRun{Order: f.id})
	case 8:
		for range rapid.IntRange(1, 9).Draw(t, "blocks") {
			f.step(rapid.SampledFrom([]uint64{1, 1, 1, 11_000, 61_000}).Draw(t, "wait"))
		}
	case 9:
		who, amount := rapid.SampledFrom([]byte{consumer, other}).Draw(t, "who"), chain.Nano(rapid.Uint64Range(1, 60_000_000_000).Draw(t, "amount"))
		if e, why := settlement.Withdraw(f.kv, &f.env, account(who), chain.Withdraw{Cluster: key(cluster).Public(), Amount: amount}); why == nil {
			f.events = append(f.events, e)
		} else if e, why := settlement.Deposit(f.kv, &f.env, account(who), chain.Deposit{Cluster: key(cluster).Public(), Amount: amount}); why == nil {
			f.events = append(f.events, e)
		}
	case 10:
		f.unbondOrReturn(t, node)
	case 11:
		f.vote(t)
	}
}

// try posts a message of which it does not matter whether it is taken.
func (f *field) try(m chain.Msg) {
	if _, why := f.submit(m); why != nil {
		return
	}
}

func (f *field) unbondOrReturn(t *rapid.T, node byte) {
	p := f.provider(node)
	owner := byte(slices.IndexFunc(keys[:], func(k crypto.PrivateKey) bool { return chain.AddressOf(crypto.AccountKeyOf(k.Public())) == p.Owner }))
	if rapid.IntRange(0, 3).Draw(t, "unbond") == 0 {
		if e, why := settlement.UnbondProvider(f.kv, &f.env, p.Owner, chain.UnbondProvider{Node: key(node).Public()}); why == nil {
			f.events = append(f.events, e)
			return
		}
	}
	if e, why := settlement.RegisterProvider(f.kv, &f.env, p.Owner, f.registerProvider(owner, node)); why == nil {
		f.events = append(f.events, e)
	}
}

// vote has a juror of a panel that there is commit, or show its vote.
func (f *field) vote(t *rapid.T) {
	var panels []chain.PanelDrawn
	for _, e := range f.events {
		if d, ok := e.(chain.PanelDrawn); ok && len(d.Jurors) > 0 {
			panels = append(panels, d)
		}
	}
	if len(panels) == 0 {
		return
	}
	panel := rapid.SampledFrom(panels).Draw(t, "panel")
	lacks := rapid.IntRange(0, 3).Draw(t, "data cannot be had") == 0
	for _, juror := range panel.Jurors {
		vote := found(rapid.SampledFrom([]string{"right", "right", "right", "wrong"}).Draw(t, "vote"))(0)
		if lacks && rapid.IntRange(0, 9).Draw(t, "had it") > 0 {
			vote = found1(chain.FoundUnavailable)(0)
		}
		switch rapid.IntRange(0, 9).Draw(t, "finding") {
		case 0:
			vote = found1(chain.FoundUnstable)(0)
		case 1:
			vote = found1(chain.FoundUnavailable)(0)
		}
		if rapid.IntRange(0, 9).Draw(t, "stays away") > 0 {
			commitment := shows(panel.Panel, panel.Subject, vote).Commitment(panel.Panel, juror, [32]byte{1})
			f.try(chain.CommitVote{
				Panel: panel.Panel, Node: juror, Commitment: commitment,
				Signature: key(numberOf(juror)).Sign(crypto.DomainVote, chain.VotePayload(testChain, panel.Panel, commitment)),
			})
		}
		for _, vote := range []chain.Vote{vote, found("right")(0), found("wrong")(0), found1(chain.FoundUnavailable)(0)} {
			f.try(chain.RevealVote{Panel: panel.Panel, Node: juror, Testimony: shows(panel.Panel, panel.Subject, vote), Salt: [32]byte{1}})
		}
	}
}

// checkAccounts demands that value is conserved but for what rich gave, and that what is
// locked of each bond is what its runs and seats have at stake.
func (f *field) checkAccounts(t *rapid.T) {
	locked, everybody := map[crypto.PublicKey]chain.Amount{}, append([]byte{40, 41, 50, 60, 70, 80, 90, 95}, f.crowd...)
	add := func(node crypto.PublicKey, amount chain.Amount) {
		sum, ok := locked[node].Add(amount)
		if !ok {
			t.Fatal("stakes beyond every amount")
		}
		locked[node] = sum
	}
	for key, value := range f.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		switch key[1] {
		case 'g':
			order, _, _ := settlement.Settlement(f.kv, crypto.Digest(key[2:]))
			runs, stake := state.Decode[settlement.Runs](key, value), settlement.NodeSlice(order.Policy.Policy)
			for _, run := range runs.Runs {
				if run.Staked {
					add(run.Bidder.Node, stake)
				}
			}
			add(order.Cluster, runs.Slice)
		case 'j':
			panel := state.Decode[settlement.Panel](key, value)
			for _, juror := range panel.Jurors {
				add(juror.Node, juror.Staked)
			}
		}
	}
	if c := f.cluster(); c.Locked != locked[key(cluster).Public()] || c.Bond.Less(c.Locked) {
		t.Fatalf("the cluster has %s locked of %s, at stake is %s", c.Locked, c.Bond, locked[key(cluster).Public()])
	}
	for _, n := range everybody {
		p := f.provider(n)
		if p.Locked != locked[key(n).Public()] || p.Bond.Less(p.Locked) {
			t.Fatalf("node %d has %s locked of %s, at stake is %s", n, p.Locked, p.Bond, locked[key(n).Public()])
		}
	}
	f.checkLocks(t)
	if surplus := f.surplus(); f.gift == 0 {
		f.gift = surplus + 1
	} else if surplus+1 != f.gift {
		t.Fatalf("holdings changed by %d", int64(surplus+1-f.gift))
	}
}

// checkEnded looks at what came of the orders in the end.
func (f *field) checkEnded(t *rapid.T, orders []chain.Order) {
	spent := map[crypto.Digest]uint64{}
	owners := map[crypto.Digest][]chain.Address{}
	jurors, accused := map[crypto.PublicKey]bool{}, map[crypto.Digest]bool{}
	checked, vouched := map[crypto.Digest]bool{}, map[crypto.Digest]bool{}
	convicted := false
	for _, e := range f.events {
		switch e := e.(type) {
		case chain.AcceptanceBroken:
			convicted = true
		case chain.ClaimSettled:
			spent[e.Order] += e.Cost.Nano()
			if slices.Contains(owners[e.Order], e.Provider) {
				t.Fatalf("owner %s was paid twice for an order", e.Provider.Short())
			}
			owners[e.Order] = append(owners[e.Order], e.Provider)
		case chain.JurorsPaid:
			spent[e.Order] += e.Cost.Nano()
			if e.Cost.Nano() != e.Each.Nano()*uint64(len(e.Jurors)) {
				t.Fatalf("%d jurors got %s each, which cost %s", len(e.Jurors), e.Each, e.Cost)
			}
		case chain.PanelDrawn:
			for _, j := range e.Jurors {
				jurors[j] = true
			}
		case chain.PanelDecided:
			accused[e.Panel] = true
			vouched[e.Subject] = vouched[e.Subject] || e.Panel == settlement.RunsCheck(e.Subject) && e.Verdict != nil
		case chain.RunsRevealing:
			checked[e.Order] = e.Checked
		case chain.RunEnded:
			if e.Finding == chain.RunAgreed.String() && !vouched[e.Order] || e.Finding == chain.RunUnchecked.String() && checked[e.Order] {
				t.Fatalf("an order that is checked was found %s, and nobody of the roll has voted", e.Finding)
			}
		case chain.BondSlashed:
			judged := accused[settlement.RunsPanel(e.Subject)] || accused[settlement.RunsAppeal(e.Subject)]
			if e.Node == key(cluster).Public() {
				later := accused[settlement.RunsAppeal(e.Subject)] || vouched[e.Subject]  // or as much as the check, which could not have the data
				judged = accused[settlement.RunsPanel(e.Subject)] && (later || convicted) // of a convicted one three jurors are enough
			}
			if !judged && !jurors[e.Node] {
				t.Fatalf("node %d lost %s without a panel's verdict", numberOf(e.Node), e.Amount)
			}
		}
	}
	for _, o := range orders {
		policy := o.Policy.Policy.(chain.PolicyReplicate)
		if spent[o.ID()] > o.MaxCost.Nano() || len(owners[o.ID()]) > int(policy.K) {
			t.Fatalf("order of at most %s and %d runs cost %d for %d", o.MaxCost, policy.K, spent[o.ID()], len(owners[o.ID()]))
		}
	}
}
