package settlement_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestWhatAnOrderMayCostIsHeld: from its beginning to its end what an order may cost is not the consumer's to withdraw; one of a consumer
// that has less does not begin. What it did not cost is in the escrow when it is over, whoever is paid.
func TestWhatAnOrderMayCostIsHeld(t *testing.T) {
	f := newField(t, staked)
	f.use(f.market.order(other, 9, staked))
	f.deposit(other, chain.Nano(chain.Hyper(10).Nano()-1))
	f.refuses("the order may cost 10 HYPER, the escrow holds 9.999999999", f.begin(40, 50))
	f.deposit(other, chain.Nano(1))
	f.do(f.begin(40, 50))
	if e := f.escrow(other); !e.Balance.IsZero() || e.Elsewhere != chain.Hyper(10) {
		t.Fatalf("the escrow has %s, and elsewhere %s", e.Balance, e.Elsewhere)
	}
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.over(chain.RunAgreed, 40, check)
	if e := f.escrow(other); e.Balance.Nano() != chain.Hyper(10).Nano()-2*3_600_000 || !e.Elsewhere.IsZero() {
		t.Errorf("the escrow has %s, and elsewhere %s", e.Balance, e.Elsewhere)
	}
	f.use(f.market.order(other, 10, staked))
	f.deposit(other, chain.Nano(2*3_600_000))
	f.finds(40, "wrong")
	f.do(f.begin(40))
	f.vouch(found("right"))
	f.do(f.reveal(40))
	f.drawn()
	f.judge(found("right"))
	f.over(chain.RunJudged)
	if e := f.escrow(other); e.Balance != chain.Hyper(10) || !e.Elsewhere.IsZero() {
		t.Errorf("nobody was paid, and the escrow has %s, and elsewhere %s", e.Balance, e.Elsewhere)
	}
}

// TestNoConsumerOutrunsItsRuns: a consumer that withdraws all that it has before its order begins, and whose own node takes a day to do nothing,
// pays the others all the same.
func TestNoConsumerOutrunsItsRuns(t *testing.T) {
	policy := threeOf3
	policy.WindowMs = 24 * hour
	f := newField(t, policy)
	f.withdraw(consumer, f.escrow(consumer).Balance)
	f.do(f.begin(40, 50))
	if nodes := f.drawnNodes(); len(nodes) != 1 || nodes[0] != 50 {
		t.Fatalf("drew %v", nodes)
	}
	f.step(24*hour + 1)
	tokens.ReleaseMatured(f.kv, f.env.Now, 100)
	if e := f.escrow(consumer); len(e.Withdrawals) > 0 && !tokens.MaturingOf(f.kv, e.Withdrawals[0], settlement.EscrowKey(account(consumer), key(cluster).Public())).IsZero() {
		t.Fatal("the withdrawal has not matured")
	}
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.drawn()
	f.judge(found("right"))
	f.do(chain.CollectRun{Order: f.id})
	f.over(chain.RunJudged, 40, check)
}

// TestJurorsWhoAgreeOnNothingArePaid: where a panel finds nothing the consumer pays, out of what is left of the max cost, whoever voted for what a run
// gave or another found too; who stands alone, or says that it gives other results from run to run, may have run nothing.
func TestJurorsWhoAgreeOnNothingArePaid(t *testing.T) {
	right, third, garbage := found("right")(0), found("third")(0), found("garbage")(0)
	unstable, lone := chain.Vote{Finding: chain.FoundUnstable}, found("lone")(0)
	const run = 3_600_000 // of which a run gets 93 %
	for name, c := range map[string]struct {
		votes   []chain.Vote // the check found what nobody else did: third
		maxCost uint64
		paid    []int // which of them
		check   bool
		each    uint64
	}{
		"one found what a run gave":                 {[]chain.Vote{right, garbage, lone}, 100 * run, []int{0}, false, run * 93 / 100},
		"one, and one what the check found":         {[]chain.Vote{garbage, right, third}, 100 * run, []int{1, 2}, true, run * 93 / 100},
		"nobody found what another did":             {[]chain.Vote{garbage, lone, found("more")(0)}, 100 * run, nil, false, 0},
		"one says that it is unstable":              {[]chain.Vote{unstable, right, garbage}, 100 * run, []int{1}, false, run * 93 / 100},
		"all say so":                                {[]chain.Vote{unstable, unstable, unstable}, 100 * run, nil, false, 0},
		"and little is left":                        {[]chain.Vote{garbage, right, third}, 3 * run, []int{1, 2}, true, run / 3},
		"one could not have the data, nor the nine": {[]chain.Vote{right, garbage, {Finding: chain.FoundUnavailable}}, 100 * run, []int{0, 3, 4}, false, run * 93 / 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, threeOf3)
			f.gather()
			f.order.MaxCost = chain.Nano(c.maxCost)
			f.use(f.order)
			f.disagree()
			escrow, jurors := f.escrow(consumer), f.lastPanel().Jurors
			check, _ := settlement.PanelAt(f.kv, settlement.RunsCheck(f.id))
			before := map[crypto.PublicKey]uint64{}
			had := func(nodes ...crypto.PublicKey) {
				for _, n := range nodes {
					before[n] = f.worth(numberOf(n))
				}
			}
			had(append(slices.Clone(jurors), check.Jurors[0].Node)...)
			f.judge(inTurn(c.votes...))
			if runs, open := settlement.RunsOf(f.kv, f.id); open && runs.Stage == settlement.StagePanelDraw {
				f.drawn() // nine, of whom two found what a run gave, and no three the same
				had(f.lastPanel().Jurors...)
				jurors = append(jurors, f.lastPanel().Jurors...)
				f.judge(inTurn(right, right, unstable, unstable, garbageOf(1), garbageOf(2), garbageOf(3), garbageOf(4), garbageOf(5)))
			}
			f.do(chain.CollectRun{Order: f.id})
			f.over(chain.RunUnstable, 40, 50)
			spent, checks := uint64(0), check.Jurors[0].Node
			for i, n := range append(jurors, checks) {
				want := uint64(0)
				if slices.Contains(c.paid, i) || n == checks && c.check {
					want = c.each
				}
				spent += want
				if got := f.worth(numberOf(n)) - before[n]; got != want {
					t.Errorf("juror %d got %d, want %d", i, got, want)
				}
			}
			f.spent(spent, escrow.Balance.Nano()+c.maxCost)
		})
	}
}

// TestNobodyHasToCollect: whom a panel, or the runs and their check, leave owed is paid by a block when an hour has passed in which nobody had it
// done, also where that is jurors alone, and the consumer gets back what is left.
func TestNobodyHasToCollect(t *testing.T) {
	for name, c := range map[string]struct {
		votes   []chain.Vote
		finding chain.RunFinding
		paid    []byte
		jurors  int
	}{
		"the panel finds who was right": {times(3, found("right")(0)), chain.RunJudged, []byte{40}, 0},
		"it finds nothing":              {[]chain.Vote{found("right")(0), garbageOf(1), garbageOf(2)}, chain.RunUnstable, []byte{40, 50}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, threeOf3)
			f.gather()
			f.disagree()
			before := f.escrow(consumer).Balance.Nano() + f.order.MaxCost.Nano()
			f.judge(inTurn(c.votes...))
			f.step(hour - 1)
			if runs, open := settlement.RunsOf(f.kv, f.id); !open || runs.Stage != settlement.StageOwed || runs.Due == 0 {
				t.Fatalf("paid before the hour was over: %+v", runs)
			}
			f.step(2)
			f.over(c.finding, c.paid...)
			jurors := 0
			for _, e := range f.events {
				if e, ok := e.(chain.JurorsPaid); ok {
					jurors += len(e.Jurors)
				}
			}
			order, _, _ := settlement.Settlement(f.kv, f.id)
			if left := f.escrow(consumer).Balance.Nano(); jurors != c.jurors || before-left != order.Spent.Nano() {
				t.Errorf("%d jurors were paid; the consumer has %d of %d left, the order spent %s", jurors, left, before, order.Spent)
			}
			if surplus := f.surplus(); len(f.slashed()) == 0 && surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestWhatWasPaidLateIsKnown: whoever asks what became of an order that was paid after its claim window is told so for an hour.
func TestWhatWasPaidLateIsKnown(t *testing.T) {
	f := newField(t, threeOf3)
	f.disagree()
	f.judge(found("right"))
	f.env.Now += 10 * hour
	f.step(1)
	f.env.Now += hour - 10
	f.do(chain.CollectRun{Order: f.id})
	for _, at := range []chain.TimeMs{100, hour - 200} {
		f.env.Now += at
		f.step(1)
		f.over(chain.RunJudged, 40) // and whoever asks is told so
	}
	f.env.Now += 200
	f.step(1)
	if _, _, known := settlement.Settlement(f.kv, f.id); known {
		t.Error("the order is known still")
	}
}

// TestNoJurorWorksForNothing: what a juror gets where nobody was wrong does not depend on the run that asks least, or says least of what it used;
// nor on the others voting, nor on what the order pays for its place.
func TestNoJurorWorksForNothing(t *testing.T) {
	const run, maxCost = 3_600_000, 100 * 3_600_000
	right := found("right")
	memory := []chain.Usage{{Resource: chain.Memory, Amount: 1, DurationMs: hour}}
	for name, c := range map[string]struct {
		free  []byte // nodes that ask for nothing
		left  bool   // one run says nothing of the processor, and another of memory
		quiet bool   // one juror shows its vote, and no other
		fee   chain.PriorityFee
		each  uint64
	}{
		"all ask for the same":    {nil, false, false, 0, run * 93 / 100},
		"one asks for nothing":    {[]byte{50}, false, false, 0, run * 93 / 100},
		"all ask for nothing":     {[]byte{40, 50}, false, false, 0, maxCost / 3 * 93 / 100},
		"a priority fee":          {nil, false, false, chain.MaxPriorityFee, run * 93 / 100},
		"each says another thing": {nil, true, false, 0, run * 93 / 100},
		"one votes, and no other": {nil, false, true, 0, run * 93 / 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, threeOf3)
			f.gather()
			f.order.MaxCost = chain.Nano(maxCost)
			f.order.Caps = []chain.UnitPrice{{Resource: chain.CPU, Price: 2 * nano}, {Resource: chain.Memory, Price: 2 * nano}}
			f.order.PriorityBps = c.fee
			f.use(f.order)
			for _, n := range c.free {
				f.prices[n] = 0
			}
			f.both = c.left
			if c.left {
				r := f.receipt(50)
				r.Usage = memory
				f.receipts[50] = r
			}
			f.disagree()
			escrow := f.escrow(consumer).Balance.Nano()
			voted := f.lastPanel().Jurors[0]
			before := f.worth(numberOf(voted))
			finding, paid := chain.RunUnstable, []byte{40, 50}
			if c.quiet {
				finding, paid = chain.RunUnjudged, nil
				f.someJudge(1, func(int) chain.Vote { return right(0) })
			} else {
				f.judge(inTurn(right(0), garbageOf(1), garbageOf(2)))
			}
			f.do(chain.CollectRun{Order: f.id})
			f.over(finding, paid...)
			if got := f.worth(numberOf(voted)) - before; got != c.each {
				t.Errorf("who found what a run gave got %d, want %d", got, c.each)
			}
			spent := c.each
			for _, cost := range f.paid() {
				spent += cost
			}
			if left := f.escrow(consumer).Balance.Nano(); escrow+maxCost-left != spent {
				t.Errorf("the consumer paid %d, want %d", escrow+maxCost-left, spent)
			}
		})
	}
}

// TestNobodyRaisesForNothing: at a cluster that was convicted, and so has no slice to lose, what three jurors found is enough, where some say that
// the data cannot be had: they would lose nothing by it, and the nine after them would be paid by nobody. Whoever ran the job
// loses nothing by that either, since the cluster can have shown the data to it alone, and is paid by the consumer.
func TestNobodyRaisesForNothing(t *testing.T) {
	right, lacks := found("right")(0), chain.Vote{Finding: chain.FoundUnavailable}
	for name, c := range map[string]struct {
		votes   []chain.Vote
		finding chain.RunFinding
		paid    bool // the first juror
	}{
		"two lack it":                         {[]chain.Vote{right, lacks, lacks}, chain.RunUnavailable, true},
		"one lacks it, and none agree":        {[]chain.Vote{right, garbageOf(1), lacks}, chain.RunUnstable, true},
		"one lacks it, and two agree":         {[]chain.Vote{right, right, lacks}, chain.RunJudged, false},
		"one lacks it, and found what no run": {[]chain.Vote{garbageOf(1), garbageOf(2), lacks}, chain.RunUnstable, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, staked)
			f.register(operator, operators)
			f.gather()
			f.disputed(false, lacks)
			if _, why := settlement.ReportAcceptance(f.kv, &f.env, account(2), f.promised(other, 1), true); why != nil {
				t.Fatal(why.Reason())
			}
			juror := numberOf(f.lastPanel().Jurors[0])
			before := f.worth(juror)
			f.judge(inTurn(c.votes...))
			if runs, _ := settlement.RunsOf(f.kv, f.id); runs.Raised || runs.Stage != settlement.StageOwed {
				t.Fatalf("nine are asked: raised %t, stage %d", runs.Raised, runs.Stage)
			}
			f.do(chain.CollectRun{Order: f.id})
			if order, _, _ := settlement.Settlement(f.kv, f.id); order.Finding != c.finding {
				t.Errorf("found %s, want %s", order.Finding, c.finding)
			}
			if got := f.worth(juror); c.paid != (got > before) || got < before {
				t.Errorf("the first juror had %d, and has %d; paid: %t", before, got, c.paid)
			}
			if surplus := f.surplus(); surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// spent demands that an order cost what its runs were paid for and so much more, out of an escrow that had so much with what is held, and that
// nobody lost or made anything.
func (f *field) spent(more, had uint64) {
	f.Helper()
	for _, cost := range f.paid() {
		more += cost
	}
	order, _, _ := settlement.Settlement(f.kv, f.id)
	if left := f.escrow(consumer).Balance.Nano(); order.Spent.Nano() != more || order.MaxCost.Less(order.Spent) || had-left != more {
		f.Errorf("the order spent %s of %s, want %d; the escrow had %d, and has %d", order.Spent, order.MaxCost, more, had, left)
	}
	if surplus := f.surplus(); surplus != 0 || len(f.slashed()) > 0 {
		f.Errorf("holdings changed by %d, slashed %v", int64(surplus), f.slashed())
	}
}

// TestWhoCheckedIsPaidOnce: a check that is one of those who agree is paid as a run, and not as a juror besides, where a panel finds nothing.
func TestWhoCheckedIsPaidOnce(t *testing.T) {
	f := newField(t, threeOf4)
	f.gather()
	f.do(f.begin(40, 50, 60))
	dissenter := f.drawnNodes()[0]
	f.finds(dissenter, "wrong")
	f.do(f.commit(dissenter))
	check := f.vouch(found("right"))
	f.do(f.reveal(40))
	f.do(f.reveal(dissenter))
	third := f.drawnNodes()[0]
	f.do(f.commit(third))
	f.do(f.reveal(third))
	f.drawn()
	juror := f.lastPanel().Jurors[0]
	f.judge(inTurn(found("right")(0), garbageOf(1), garbageOf(2)))
	f.do(chain.CollectRun{Order: f.id})
	f.over(chain.RunUnstable, 40, check, third)
	for _, e := range f.events {
		if e, ok := e.(chain.JurorsPaid); ok && (len(e.Jurors) != 1 || e.Jurors[0] != f.provider(numberOf(juror)).Owner) {
			t.Errorf("%d jurors were paid, want the one who found what the runs gave", len(e.Jurors))
		}
	}
}

func garbageOf(n byte) chain.Vote { return found("garbage " + string('a'+rune(n)))(0) }
