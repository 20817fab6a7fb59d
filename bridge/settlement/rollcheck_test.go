package settlement_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// operators is a node of the cluster's operator, which may bid, and is never drawn from the roll.
const operators = 51

// packed is an order whose primary claims a wrong result, and whose slate has one accomplice of
// another owner beside it, which claims the same.
func packed(t *testing.T) *field {
	f := newField(t, staked)
	f.register(operator, operators)
	f.finds(40, "wrong")
	f.finds(operators, "wrong")
	f.do(f.begin(40, operators))
	return f
}

// accomplice has the accomplice be drawn, and show what the primary shows.
func (f *field) accomplice() {
	f.Helper()
	if nodes := f.drawnNodes(); len(nodes) != 1 || nodes[0] != operators {
		f.Fatalf("drew %v", nodes)
	}
	f.do(f.commit(operators))
	f.do(f.reveal(operators))
}

// TestPackedSlate: accomplices alone on a slate do not pay each other: one of those who check
// comes from the roll, and a panel judges between them and it.
func TestPackedSlate(t *testing.T) {
	f := packed(t)
	check := f.vouch(found("right"))
	before := f.worth(check)
	f.do(f.reveal(40))
	f.accomplice()
	if len(f.paid()) != 0 {
		t.Fatal("accomplices were paid by each other's word")
	}
	f.drawn()
	f.judge(found("right"))
	if s := f.slashed(); s[40] != chain.Hyper(20).Nano() || s[operators] != chain.Hyper(20).Nano() || len(s) != 2 {
		t.Errorf("slashed %v, want all of the stakes of both", s)
	}
	f.over(chain.RunJudged)
	if got, share := f.worth(check)-before, chain.Hyper(10).Nano()/4; got != share {
		t.Errorf("who came from the roll got %d of what was lost, want %d", got, share)
	}
}

// worth is what a node's owner has, with the node's bond.
func (f *field) worth(node byte) uint64 {
	p := f.provider(node)
	return p.Bond.Nano() + tokens.AccountOf(f.kv, p.Owner).Balance.Nano()
}

// silence has all jurors of a panel and those who take their places be silent.
func (f *field) silence() {
	f.Helper()
	for range 3 {
		f.step(31_000)
		for range settlement.DrawDelay {
			if runs, open := settlement.RunsOf(f.kv, f.id); !open || runs.Stage != settlement.StageCheck && runs.Stage != settlement.StagePanel {
				return
			}
			f.step(10)
		}
	}
}

// TestSilencedCheck: an order whose check never came is not paid because its bidders agree: a
// panel judges it, and if that is silenced too nobody is paid.
func TestSilencedCheck(t *testing.T) {
	for name, silent := range map[string]bool{"and judged": false, "and its panel silenced": true} {
		t.Run(name, func(t *testing.T) {
			f := packed(t)
			f.drawn()
			f.silence()
			f.accomplice()
			f.do(f.reveal(40))
			if len(f.paid()) != 0 {
				t.Fatal("accomplices were paid by silencing the check")
			}
			f.drawn()
			if silent {
				f.silence()
				f.over(chain.RunUnjudged)
				return
			}
			f.judge(found("right"))
			f.over(chain.RunJudged)
			if s := f.slashed(); s[40] != chain.Hyper(20).Nano() || s[operators] != chain.Hyper(20).Nano() {
				t.Errorf("slashed %v", s)
			}
		})
	}
	t.Run("honest", func(t *testing.T) {
		f := newField(t, staked)
		f.register(operator, operators)
		f.do(f.begin(40, operators))
		f.drawn()
		f.silence()
		f.accomplice()
		f.do(f.reveal(40))
		f.drawn()
		f.judge(found("right"))
		f.do(chain.CollectRun{Order: f.id})
		f.over(chain.RunJudged, 40, operators)
	})
}

// TestCheckThatShowsNothing: a vote that is bound and not shown costs what a wrong one does, and
// is none.
func TestCheckThatShowsNothing(t *testing.T) {
	f := newField(t, staked)
	f.do(f.begin(40, 50))
	d, _ := f.drawn()[0].(chain.PanelDrawn)
	vote := found("right")(0)
	commitment := shows(d.Panel, f.id, vote).Commitment(d.Panel, d.Jurors[0], [32]byte{})
	check := numberOf(d.Jurors[0])
	f.do(chain.CommitVote{
		Panel: d.Panel, Node: d.Jurors[0], Commitment: commitment,
		Signature: key(check).Sign(crypto.DomainVote, chain.VotePayload(testChain, d.Panel, commitment)),
	})
	f.step(11_000)
	if s := f.slashed(); s[check] != chain.Hyper(5).Nano() {
		t.Errorf("slashed %v, want a quarter of what %d staked", s, check)
	}
	if runs, _ := settlement.RunsOf(f.kv, f.id); runs.Check != settlement.CheckSilent {
		t.Errorf("the check is in state %d", runs.Check)
	}
}

// TestRollOfBidders: on a network where there is nobody else, who bid checks.
func TestRollOfBidders(t *testing.T) {
	f := newField(t, staked)
	f.register(operator, operators)
	for _, n := range []byte{50, 60, 70, 80, 90, 95} {
		f.must(settlement.UnbondProvider(f.kv, &f.env, f.provider(n).Owner, chain.UnbondProvider{Node: key(n).Public()}))
	}
	f.do(f.begin(40, operators))
	f.accomplice()
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, operators)
}

// TestRollWhoseBondsAreLocked: nobody is paid by the bidders' word because the bonds of all others are
// locked when somebody is drawn from the roll: a panel judges, and if they still are nobody is paid.
func TestRollWhoseBondsAreLocked(t *testing.T) {
	for name, later := range map[string]bool{"for long": false, "until a panel is drawn": true} {
		t.Run(name, func(t *testing.T) {
			f := packed(t)
			f.gather()
			everybody := append([]byte{50, 60, 70, 80, 90, 95}, f.crowd...)
			f.lockBonds(everybody, chain.Hyper(96))
			f.accomplice()
			f.do(f.reveal(40))
			if len(f.paid()) != 0 {
				t.Fatal("accomplices were paid by each other's word")
			}
			if later {
				f.lockBonds(everybody, chain.Amount{})
			}
			f.drawn()
			if later {
				f.judge(found("right"))
				f.over(chain.RunJudged)
				return
			}
			f.step(10)
			f.lockBonds(everybody, chain.Amount{})
			f.over(chain.RunUnjudged)
		})
	}
}

// lockBonds has so much of the bonds of nodes be locked.
func (f *field) lockBonds(nodes []byte, amount chain.Amount) {
	for _, n := range nodes {
		p := f.provider(n)
		p.Locked = amount
		state.Save(f.kv, settlement.ProviderKey(key(n).Public()), p)
	}
}

// TestClusterSlice: a cluster locks no less than jurors stake, however little the runs do, and cannot
// begin an order for which it has not so much.
func TestClusterSlice(t *testing.T) {
	for _, c := range []struct{ stake, maxCost, slice uint64 }{{1, 10, 20}, {30, 10, 30}, {1, 2, 5}, {0, 0, 5}} {
		policy := staked
		policy.Stake = chain.Hyper(c.stake)
		f := newField(t, policy)
		f.order.MaxCost = chain.Hyper(c.maxCost)
		f.use(f.order)
		home := f.cluster()
		home.Locked = chain.Hyper(1_001 - c.slice)
		state.Save(f.kv, settlement.ClusterKey(key(cluster).Public()), home)
		f.refuses("free of its bond, the job locks", f.begin(40, 50))
		home.Locked = chain.Amount{}
		state.Save(f.kv, settlement.ClusterKey(key(cluster).Public()), home)
		f.do(f.begin(40, 50))
		if got := f.cluster().Locked; got != chain.Hyper(c.slice) {
			t.Errorf("an order of %d with a stake of %d locks %s, want %d", c.maxCost, c.stake, got, c.slice)
		}
	}
}

// TestUnbondedClusterBegins: what a cluster accepted begins after it unbonded, too: the slice comes out of
// the bond that is on its way back, and goes back there, or is lost.
func TestUnbondedClusterBegins(t *testing.T) {
	for name, c := range map[string]struct {
		lost chain.Amount
		vote chain.Vote
	}{
		"and keeps its word":   {vote: found("right")(0)},
		"and shows no data":    {lost: chain.Hyper(20), vote: chain.Vote{Finding: chain.FoundUnavailable}},
		"and somebody says so": {lost: chain.Hyper(1_000), vote: found("right")(0)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, staked)
			f.gather()
			f.must(settlement.UnbondCluster(f.kv, &f.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
			unbonded := f.env.Now
			onItsWay := func() chain.Amount {
				at, owner := unbonded+chain.TimeMs(f.env.Params.ClusterUnbondMs()), account(operator)
				return tokens.MaturingOf(f.kv, at, slices.Concat(settlement.ClusterKey(key(cluster).Public()), owner[:]))
			}
			f.do(f.begin(40, 50))
			if c := f.cluster(); c.Bond != chain.Hyper(20) || c.Locked != c.Bond || onItsWay() != chain.Hyper(980) {
				t.Fatalf("%s is on its way, %+v", onItsWay(), c)
			}
			if _, why := settlement.RegisterCluster(f.kv, &f.env, account(operator), f.registerCluster(operator)); why == nil {
				t.Fatal("it was registered anew over what is locked")
			}
			if c.lost == chain.Hyper(1_000) {
				if _, why := settlement.ReportAcceptance(f.kv, &f.env, account(7), f.promised(other, 1), true); why != nil {
					t.Fatal(why.Reason())
				}
			}
			f.vouch(func(byte) chain.Vote { return c.vote })
			f.do(f.reveal(40))
			if c.vote.Finding == chain.FoundUnavailable {
				if nodes := f.drawnNodes(); len(nodes) == 1 && nodes[0] == 50 {
					f.do(f.commit(50))
					f.do(f.reveal(50))
				}
				for range 2 { // three, and nine
					f.drawn()
					f.judge(found1(chain.FoundUnavailable))
				}
			}
			if left, _ := chain.Hyper(1_000).Sub(c.lost); onItsWay() != left || !f.cluster().Bond.IsZero() {
				t.Errorf("%s is on its way, want %s; %+v", onItsWay(), left, f.cluster())
			}
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestHiddenFromSome: jurors of whom some could not have a job's data, where most found a result, lose as
// much together as those lose whose runs are wrong, within bounds, also one who is alone.
func TestHiddenFromSome(t *testing.T) {
	right, lacks := found("right")(0), chain.Vote{Finding: chain.FoundUnavailable}
	for name, c := range map[string]struct {
		honest bool   // nobody's run is wrong
		stake  uint64 // of a run; a juror's is 20
		lack   int
		each   uint64 // twice what each of them loses, in HYPER; 0: 1/32 of a stake
	}{
		"four, and nobody lied":          {true, 20, 4, 0},
		"two, and nobody lied":           {true, 20, 2, 0},
		"one, and nobody lied":           {true, 20, 1, 0},
		"four, and two lied":             {false, 20, 4, 10},
		"four, and two lied for little":  {false, 5, 4, 5}, // who lost ten together
		"one alone, and two lied":        {false, 20, 1, 10},
		"one, and who lied had no stake": {false, 0, 1, 4}, // they lost two together, and staked one all the same
	} {
		t.Run(name, func(t *testing.T) {
			policy := staked
			policy.Stake = chain.Hyper(c.stake)
			f := newField(t, policy)
			f.register(operator, operators)
			f.gather()
			if !c.honest {
				f.finds(40, "wrong")
				f.finds(operators, "wrong")
			}
			f.do(f.begin(40, operators))
			f.vouch(found1(chain.FoundUnavailable))
			f.do(f.reveal(40))
			f.accomplice()
			f.drawn()
			f.judge(found1(chain.FoundUnavailable))
			f.drawn()
			votes := inTurn(append(times(c.lack, lacks), right)...)
			f.judge(votes)
			lost, n := f.slashed(), 0
			for _, node := range f.lastPanel().Jurors {
				if votes(numberOf(node)) != lacks {
					continue
				}
				n++
				want := chain.Hyper(20).Nano() / 32
				if c.each > 0 {
					want = chain.Hyper(c.each).Nano() / 2
				}
				if got := lost[numberOf(node)]; got != want {
					t.Errorf("one of them lost %d, want %d", got, want)
				}
			}
			if n != c.lack {
				t.Errorf("%d could not have the data", n)
			}
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestHiddenFromOne: a cluster that shows a job's data to the node that ran it and to two of three jurors costs the check what
// silence does, the third juror no more than a part of its stake, and itself as much as the check: nobody lied, so that nobody else loses.
func TestHiddenFromOne(t *testing.T) {
	policy := staked
	policy.Stake = chain.Amount{}
	f := newField(t, policy)
	f.register(operator, operators)
	f.gather()
	f.do(f.begin(40, operators))
	check := f.vouch(found1(chain.FoundUnavailable))
	f.do(f.reveal(40))
	f.accomplice()
	f.drawn()
	right, lacks := found("right")(0), chain.Vote{Finding: chain.FoundUnavailable}
	votes := inTurn(lacks, right)
	f.judge(votes)
	lost, panel := f.slashed(), f.lastPanel()
	if len(lost) != 3 || lost[check] != f.env.Params.JurorSlice.Nano()/10 || lost[cluster] != lost[check] { // they pay who had it
		t.Errorf("lost: %v", lost)
	}
	for _, juror := range panel.Jurors {
		if n := numberOf(juror); votes(n) == lacks {
			if got, most := lost[n], chain.Hyper(20).Nano()/32; got == 0 || got > most {
				t.Errorf("who could not have the data lost %d, want no more than %d", got, most)
			}
		}
	}
}

// TestQuietNine: three of nine take no slice, and no stake, where the others are silent.
func TestQuietNine(t *testing.T) {
	for shown, finding := range map[int]chain.RunFinding{3: chain.RunUnjudged, 4: chain.RunUnjudged, 5: chain.RunUnavailable} {
		f := shielded(t)
		f.judge(found1(chain.FoundUnavailable))
		f.drawn()
		f.someJudge(shown, func(i int) chain.Vote {
			if i < 3 {
				return chain.Vote{Finding: chain.FoundUnavailable}
			}
			return found("right")(0)
		})
		order, _, _ := settlement.Settlement(f.kv, f.id)
		if order.Finding != finding {
			t.Errorf("of %d votes came %s, want %s", shown, order.Finding, finding)
		}
		if taken := f.cluster().Bond != chain.Hyper(1_000); taken != (finding == chain.RunUnavailable) {
			t.Errorf("by %d votes the cluster has %s", shown, f.cluster().Bond)
		}
	}
}

// someJudge has so many of a panel vote, and the others be bound and show nothing.
func (f *field) someJudge(shown int, vote func(i int) chain.Vote) {
	f.Helper()
	panel := f.lastPanel()
	for i, n := range panel.Jurors {
		commitment := shows(panel.Panel, panel.Subject, vote(i)).Commitment(panel.Panel, n, [32]byte{1})
		f.do(chain.CommitVote{
			Panel: panel.Panel, Node: n, Commitment: commitment,
			Signature: key(numberOf(n)).Sign(crypto.DomainVote, chain.VotePayload(testChain, panel.Panel, commitment)),
		})
	}
	for i, n := range panel.Jurors[:shown] {
		f.do(chain.RevealVote{Panel: panel.Panel, Node: n, Testimony: shows(panel.Panel, panel.Subject, vote(i)), Salt: [32]byte{1}})
	}
	f.step(11_000)
}

// TestCheckIsPaidWithinTheMaxCost: the check is paid what the primary is paid, and both no more than
// the order may cost.
func TestCheckIsPaidWithinTheMaxCost(t *testing.T) {
	f := newField(t, staked)
	f.order.MaxCost = chain.Nano(5_000_001)
	f.use(f.order)
	f.do(f.begin(40, 50))
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, check)
	if paid := f.paid(); paid[40] != 2_500_000 || paid[check] != 2_500_000 {
		t.Errorf("paid %v, want a half of the max cost each", paid)
	}
	order, _, _ := settlement.Settlement(f.kv, f.id)
	if order.MaxCost.Less(order.Spent) {
		t.Errorf("spent %s of %s", order.Spent, order.MaxCost)
	}
}

// shielded is an order whose data the check could not have, and which a panel of three judges.
func shielded(t *testing.T) *field {
	f := packed(t)
	f.gather()
	f.vouch(found1(chain.FoundUnavailable))
	f.do(f.reveal(40))
	f.accomplice()
	f.drawn()
	return f
}

// TestPanelsOfRunsThatStakeNothingArePaidFor: a cluster that hides the data of an order of its own consumer from three jurors,
// and shows it to nine, loses nothing by that, nor do its runs: the order has paid for what the panels' draws weigh.
func TestPanelsOfRunsThatStakeNothingArePaidFor(t *testing.T) {
	policy := staked
	policy.Stake = chain.Amount{}
	f := newField(t, policy)
	f.register(operator, operators)
	f.gather()
	f.do(f.begin(40, operators))
	f.vouch(found1(chain.FoundUnavailable))
	f.do(f.reveal(40))
	f.accomplice()
	before := f.made
	f.drawn()
	f.judge(found1(chain.FoundUnavailable))
	f.drawn()
	f.judge(found("right"))
	f.do(chain.CollectRun{Order: f.id})
	f.over(chain.RunJudged, 40, operators)
	const draw, rounded = 10, 3 // parts of the dearest draw, and what of a panel of three's is rounded up to a whole one
	staking := policy
	staking.Stake = chain.Hyper(1)
	paid := settlement.QueuedByRuns(2, policy).Weight(draw, 0) - settlement.QueuedByRuns(2, staking).Weight(draw, 0)
	if made := uint64(f.made-before) * draw; made == 0 || made > paid+rounded {
		t.Errorf("the panels' draws weigh %d parts, the order paid for %d", made, paid)
	}
}

// inTurn has jurors vote one after the other as a list says, the last of which repeats.
func inTurn(votes ...chain.Vote) func(byte) chain.Vote {
	given := map[byte]chain.Vote{}
	return func(juror byte) chain.Vote {
		if _, known := given[juror]; !known {
			given[juror] = votes[min(len(given), len(votes)-1)]
		}
		return given[juror]
	}
}

func times(n int, vote chain.Vote) []chain.Vote {
	list := make([]chain.Vote, n)
	for i := range list {
		list[i] = vote
	}
	return list
}

// TestShielding: a cluster that shows nobody the data of its accomplices' jobs loses its slice,
// but not by the word of three jurors alone.
func TestShielding(t *testing.T) {
	right, garbage, lacks := found("right")(0), found("garbage")(0), chain.Vote{Finding: chain.FoundUnavailable}
	for name, c := range map[string]struct {
		first, larger []chain.Vote
		raised        bool
		lost          []byte // of their stakes or slice
		finding       chain.RunFinding
		paid          []byte
	}{
		"nobody has the data":               {times(3, lacks), times(9, lacks), true, []byte{cluster}, chain.RunUnavailable, []byte{40, operators}},
		"three lack it, nine have it":       {times(3, lacks), times(9, right), true, []byte{40, operators}, chain.RunJudged, nil},
		"two lack it, nine have it":         {append(times(2, lacks), right), times(9, right), true, []byte{40, operators}, chain.RunJudged, nil},
		"three are split, nine have it":     {[]chain.Vote{lacks, right, garbage}, times(9, right), true, []byte{40, operators}, chain.RunJudged, nil},
		"three are split, nine lack it":     {[]chain.Vote{lacks, right, garbage}, times(9, lacks), true, []byte{cluster}, chain.RunUnavailable, []byte{40, operators}},
		"nine are split, as many lack it":   {times(3, lacks), append(append(times(4, lacks), times(4, right)...), garbage), true, []byte{cluster}, chain.RunUnavailable, []byte{40, operators}},
		"nine are split, more have it":      {times(3, lacks), append(append(times(3, lacks), times(4, right)...), garbage), true, []byte{40, operators}, chain.RunJudged, nil},
		"one of three lacks it":             {append(times(2, right), lacks), nil, false, []byte{40, operators}, chain.RunJudged, nil},
		"of no one result":                  {times(3, lacks), times(9, chain.Vote{Finding: chain.FoundUnstable}), true, nil, chain.RunUnstable, []byte{40, operators}},
		"three are split, all had the data": {[]chain.Vote{right, garbage, found("more")(0)}, nil, false, nil, chain.RunUnstable, []byte{40, operators}},
	} {
		t.Run(name, func(t *testing.T) {
			f := shielded(t)
			f.judge(inTurn(c.first...))
			if runs, open := settlement.RunsOf(f.kv, f.id); open && runs.Stage == settlement.StagePanelDraw != c.raised {
				t.Fatalf("raised is %v", !c.raised)
			}
			if c.raised {
				if c := f.cluster(); c.Bond != chain.Hyper(1_000) || c.Locked != chain.Hyper(20) {
					t.Fatalf("the cluster has %s, %s of it locked, after the word of three", c.Bond, c.Locked)
				}
				if d, ok := f.drawn()[0].(chain.PanelDrawn); !ok || len(d.Jurors) != 9 || d.Panel != settlement.RunsAppeal(f.id) {
					t.Fatal("no panel of nine was drawn")
				}
				f.judge(inTurn(c.larger...))
			}
			lost := f.slashed()
			for _, n := range c.lost {
				if lost[n] != chain.Hyper(20).Nano() {
					t.Errorf("%d lost %d", n, lost[n])
				}
			}
			for _, n := range []byte{40, operators, cluster} {
				if c.finding == chain.RunUnstable && c.raised && n == cluster && lost[n] == 3*f.env.Params.JurorSlice.Nano()/10 {
					continue // who found it is paid by halves
				}
				if lost[n] != 0 && len(c.lost) == 0 || n == cluster && lost[n] != 0 && c.lost[0] != cluster || n != cluster && lost[n] != 0 && c.lost[0] == cluster {
					t.Errorf("%d lost %d", n, lost[n])
				}
			}
			if len(c.paid) > 0 {
				f.do(chain.CollectRun{Order: f.id})
			}
			f.over(c.finding, c.paid...)
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestDataThatComesLateToRuns: who could not have the data when others could not either loses
// nothing because nine could later.
func TestDataThatComesLateToRuns(t *testing.T) {
	f := shielded(t)
	f.judge(found1(chain.FoundUnavailable))
	f.drawn()
	f.judge(found("right"))
	for n, lost := range f.slashed() {
		if n != 40 && n != operators {
			t.Errorf("juror %d lost %d", n, lost)
		}
	}
	f.over(chain.RunJudged)
}

// disputed has an order run that the check votes about, and a panel of three drawn.
func (f *field) disputed(liars bool, check chain.Vote) byte {
	f.Helper()
	if liars {
		f.finds(40, "wrong")
		f.finds(operators, "wrong")
	}
	f.do(f.begin(40, operators))
	node := f.vouch(func(byte) chain.Vote { return check })
	f.do(f.reveal(40))
	f.accomplice()
	f.drawn()
	return node
}

// TestPanelsAreAlwaysPaid: where nobody's run is wrong, and data was there for some panel and not for jurors of one before, those who
// found it are paid, by halves by those jurors and by the cluster: neither gains by bringing that upon the other.
func TestPanelsAreAlwaysPaid(t *testing.T) {
	right, lacks, unstable := found("right")(0), chain.Vote{Finding: chain.FoundUnavailable}, chain.Vote{Finding: chain.FoundUnstable}
	for name, c := range map[string]struct {
		stake         uint64
		liars         bool
		check         chain.Vote
		first, larger []chain.Vote
		bear          int // of the first panel's jurors, or the check
	}{
		"the check could not have it":                       {20, false, lacks, times(3, right), nil, 1},
		"three could not have it":                           {20, false, lacks, times(3, lacks), times(9, right), 3},
		"two of three":                                      {20, false, lacks, append(times(2, lacks), right), times(9, right), 2},
		"three could not have it, and it is unstable":       {20, false, lacks, times(3, lacks), times(9, unstable), 3},
		"three could not have it, and who lied pays":        {20, true, lacks, times(3, lacks), times(9, right), 0},
		"three could not have it, and who lied has nothing": {0, true, lacks, times(3, lacks), times(9, right), 3},
	} {
		t.Run(name, func(t *testing.T) {
			policy := staked
			policy.Stake = chain.Hyper(c.stake)
			f := newField(t, policy)
			f.register(operator, operators)
			f.gather()
			check := f.disputed(c.liars, c.check)
			first, before := f.lastPanel(), f.cluster().Bond.Nano()
			f.judge(inTurn(c.first...))
			finders := first
			if c.larger != nil {
				f.drawn()
				finders = f.lastPanel()
			}
			worth := map[byte]uint64{}
			for _, juror := range finders.Jurors {
				worth[numberOf(juror)] = f.worth(numberOf(juror))
			}
			if c.larger != nil {
				f.judge(inTurn(c.larger...))
			}
			lost, each := f.slashed(), f.env.Params.JurorSlice.Nano()/10
			if got, want := before-f.cluster().Bond.Nano(), each*uint64(c.bear); got != want {
				t.Errorf("the cluster lost %d, want %d", got, want)
			}
			if c.larger == nil && lost[check] != each {
				t.Errorf("the check lost %d, want %d", lost[check], each)
			}
			bore := 0
			for _, juror := range first.Jurors {
				if n := numberOf(juror); c.larger != nil && lost[n] == each {
					bore++
				} else if lost[n] != 0 {
					t.Errorf("juror %d lost %d", n, lost[n])
				}
			}
			if c.larger != nil && bore != c.bear {
				t.Errorf("%d jurors bear a part, want %d", bore, c.bear)
			}
			for n, before := range worth {
				if c.larger != nil && f.worth(n) <= before {
					t.Errorf("juror %d of those who found it has %d, had %d", n, f.worth(n), before)
				}
			}
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestAConvictedClusterTakesNobodyWithIt: a cluster that broke its word has nothing left to lose by what it hides and whom it shows it to. So nobody
// gains by that, its operator's nodes on the roll least of all, no juror loses what its silence costs, but who was alone, and all
// of the slice is for those who lost by the cluster.
func TestAConvictedClusterTakesNobodyWithIt(t *testing.T) {
	right, lacks := found("right")(0), chain.Vote{Finding: chain.FoundUnavailable}
	for name, c := range map[string]struct {
		first, larger []chain.Vote
		finding       chain.RunFinding
		check         bool // loses what its silence costs
	}{
		"nine have what three had not":      {times(3, lacks), times(9, right), chain.RunJudged, false},
		"three have what the check had not": {times(3, right), nil, chain.RunJudged, true},
		"nobody has it":                     {times(3, lacks), times(9, lacks), chain.RunUnavailable, false},
		"three say that they have it not":   {times(3, lacks), nil, chain.RunUnavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, staked)
			f.register(operator, operators)
			f.gather()
			check := f.disputed(false, lacks)
			convict := func() {
				if _, why := settlement.ReportAcceptance(f.kv, &f.env, account(2), f.promised(other, 1), true); why != nil {
					t.Fatal(why.Reason())
				}
			}
			if c.larger == nil { // else when nine are asked already
				convict()
			}
			worth := map[byte]uint64{}
			judges := func() {
				for _, juror := range f.lastPanel().Jurors {
					worth[numberOf(juror)] = f.worth(numberOf(juror))
				}
			}
			judges()
			worth[check] = f.worth(check)
			f.judge(inTurn(c.first...))
			if c.larger != nil {
				convict()
				f.drawn()
				judges()
				f.judge(inTurn(c.larger...))
			}
			for n, before := range worth {
				want := before
				if n == check && c.check {
					want -= f.env.Params.JurorSlice.Nano() / 10
				}
				if got := f.worth(n); got != want {
					t.Errorf("juror %d has %d, want %d", n, got, want)
				}
			}
			forfeited := chain.Amount{}
			for _, e := range f.events {
				if b, ok := e.(chain.BondForfeited); ok {
					forfeited = b.Amount
				}
			}
			if left := f.cluster(); forfeited != chain.Hyper(20) || !left.Bond.IsZero() || !left.Locked.IsZero() {
				t.Errorf("%s of the slice was forfeited; the cluster has %s, %s of it locked", forfeited, left.Bond, left.Locked)
			}
			f.do(chain.CollectRun{Order: f.id})
			if order, _, _ := settlement.Settlement(f.kv, f.id); order.Finding != c.finding || len(f.paid()) != 2 {
				t.Errorf("found %s, want %s; paid %v", order.Finding, c.finding, f.paid())
			}
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestNoJurorBearsMoreThanTheCluster: what a juror's silence costs may have grown since an order locked its cluster's slice; what late data costs
// is borne by halves all the same.
func TestNoJurorBearsMoreThanTheCluster(t *testing.T) {
	f := newField(t, staked)
	f.register(operator, operators)
	f.gather()
	f.disputed(false, chain.Vote{Finding: chain.FoundUnavailable})
	f.env.Params.JurorSlice = chain.Hyper(100) // a tenth of it, for three, is more than the slice of 20
	before := f.cluster().Bond.Nano()
	first := f.lastPanel().Jurors
	f.judge(found1(chain.FoundUnavailable))
	f.drawn()
	f.judge(found("right"))
	lost, sum := f.slashed(), uint64(0)
	for _, juror := range first {
		sum += lost[numberOf(juror)]
	}
	if bore := before - f.cluster().Bond.Nano(); sum != bore || bore == 0 {
		t.Errorf("three jurors lost %d, the cluster %d", sum, bore)
	}
	if surplus := f.surplus(); surplus != 0 {
		t.Errorf("holdings changed by %d", int64(surplus))
	}
}

// TestSilencedLargerPanel: without the larger panel nobody is paid, and the cluster keeps its slice.
func TestSilencedLargerPanel(t *testing.T) {
	f := shielded(t)
	f.judge(found1(chain.FoundUnavailable))
	f.drawn()
	f.silence()
	f.over(chain.RunUnjudged)
	if c := f.cluster(); c.Bond != chain.Hyper(1_000) {
		t.Errorf("the cluster has %s left", c.Bond)
	}
}

// TestSliceOfAConvictedCluster: what a replicated order locks of the bond of a cluster that broke its
// word goes to those who lost by it when it is free, and is not the cluster's again.
func TestSliceOfAConvictedCluster(t *testing.T) {
	f := newField(t, staked)
	f.do(f.begin(40, 50))
	if _, why := settlement.ReportAcceptance(f.kv, &f.env, account(7), f.promised(other, 1), true); why != nil {
		t.Fatal(why.Reason())
	}
	if c := f.cluster(); c.Convicted == nil || c.Bond != chain.Hyper(20) || c.Locked != chain.Hyper(20) {
		t.Fatalf("%+v", c)
	}
	f.vouch(found("right"))
	f.do(f.reveal(40))
	if c := f.cluster(); !c.Bond.IsZero() || !c.Locked.IsZero() {
		t.Errorf("the cluster has %s, %s of it locked", c.Bond, c.Locked)
	}
	forfeited := chain.Amount{}
	for _, e := range f.events {
		if b, ok := e.(chain.BondForfeited); ok {
			forfeited = b.Amount
		}
	}
	if forfeited != chain.Hyper(20) || f.surplus() != 0 {
		t.Errorf("%s was forfeited, and %d came out of nowhere", forfeited, int64(f.surplus()))
	}
	next := f.market.order(consumer, 2, staked)
	f.use(next)
	f.refuses("has 0 HYPER free of its bond, the job locks 20", f.begin(60, 50))
}
