package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/simulation"
)

const (
	maxMarketSeeds = 100_000
	turningName    = "turning"
	marketSeeds    = 16 // of the table in docs/ECONOMICS.md
	turningSeeds   = 5
)

func marketCommand() *cli.Command {
	terms := simulation.Defaults(simulation.None)
	return &cli.Command{
		Name:  "market",
		Usage: "what cheating earns: agents with money over the chain's settlement",
		Description: "Runs markets of honest and cheating providers, jurors, consumers, clusters and relays over the settlement that the chain\n" +
			"executes, block by block, with its draws, panels, windows and slashes. Each market is run twice with the same seed, once\n" +
			"with the attack and once with its hand honest. What is printed is what the hand has more in the end for each time that it\n" +
			"cheated, in the worth of one job, with the 95 % confidence interval over the seeds. After every block the holdings must\n" +
			"be what was minted and not burned. The exit code is 1 if an attack pays that is not known to, or one is never tried.\n" +
			"Attacks: " + attackList() + ";\nand " + turningName + ": what checks cost and how soon they find a node in a hundred that turns.\n" +
			"Policies: " + policyList() + ".\n" +
			"Examples: hypersim market --attack colluding --share 33 --seeds 200\n" +
			"          hypersim market --attack lazy --policy optimistic --seed 7 --trace",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "first `SEED`; alone: the only one"},
			&cli.IntFlag{Name: "seeds", Value: marketSeeds, Usage: "`K` seeds, each a market of its own"},
			&cli.StringFlag{Name: "attack", Value: "all", Usage: "all, or a `LIST` with commas"},
			&cli.StringFlag{Name: "policy", Value: "all", Usage: "all, or a `LIST` with commas; those that an attack is not about are left out"},
			&cli.IntFlag{Name: "nodes", Value: terms.Nodes, Usage: "`N` providers' nodes, of equal bonds and different owners"},
			&cli.IntFlag{Name: "bidders", Value: terms.Bidders, Usage: "`N` nodes that bid for an order under replicate"},
			&cli.IntFlag{Name: "jobs", Usage: "`M` jobs of the hand, and as many of others or more (default: 40; under replicate 80, under optimistic 160)"},
			&cli.IntFlag{Name: "share", Value: terms.Share, Usage: "`PERCENT` of the nodes that colluders have"},
			&cli.Uint64Flag{Name: "stake", Value: terms.Stake, Usage: "`N` max costs that an order under replicate has each run stake; it stakes 1 HYPER at least"},
			&cli.Uint64Flag{Name: "bond", Value: terms.Bond, Usage: "`N` max costs that a claim under optimistic has at stake"},
			&cli.IntFlag{Name: "slack", Value: terms.Slack, Usage: "max cost of an order, in `PERCENT` of what it should cost"},
			&cli.Uint64Flag{Name: "record", Value: terms.Record, Usage: "`N` jobs that every node was paid for before"},
			&cli.IntFlag{Name: "wrong", Value: terms.Wrong, Usage: "`PERCENT` of others' results that are wrong, for attacks of jurors"},
			&cli.IntFlag{Name: "follow", Value: terms.Follow, Usage: "`PERCENT` of the others who, as jurors, vote without a run"},
			&cli.IntFlag{Name: "cost", Value: terms.Cost, Usage: "`PERCENT` of a job's worth that a run costs"},
			&cli.IntFlag{Name: "priority", Value: terms.Priority, Usage: "`BPS` that the hand's own orders pay above what they cost"},
			&cli.StringFlag{Name: "mutate", Usage: "take a `RULE` away, so that attacks pay: " + ruleList()},
			&cli.BoolFlag{Name: "trace", Usage: "print every event of one attack, policy and seed on standard output"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON on standard output, with the outcome of each seed"},
			&cli.BoolFlag{Name: "markdown", Usage: "print the tables of docs/ECONOMICS.md"},
		},
		Action: runMarket,
	}
}

func attackList() string {
	var names []string
	for i := range simulation.Attacks {
		names = append(names, simulation.Attacks[i].Name)
	}
	return strings.Join(names, ", ")
}

func policyList() string {
	var names []string
	for _, p := range simulation.Policies {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

func ruleList() string {
	var names []string
	for _, m := range simulation.Mutations {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// bazaar is what one command runs.
type bazaar struct {
	cast   *simulation.Cast
	first  uint64
	seeds  int
	broken simulation.Mutation
}

// stall is a cell that is to be run.
type stall struct {
	attack *simulation.Attack
	terms  simulation.Terms
}

// marketReport is what hypersim market --json prints.
type marketReport struct {
	Cells   []simulation.Cell    `json:"cells"`
	Turning []simulation.Turning `json:"turning,omitempty"`
	Stopped bool                 `json:"stopped,omitempty"` // interrupted: some seeds are missing
}

func runMarket(c *cli.Context) error {
	wrong := func(format string, args ...any) error { return usagef(c.Command.Name+" ", format, args...) }
	broken, err := simulation.ParseMutation(c.String("mutate"))
	if err != nil {
		return wrong("mutate: %v", err)
	}
	b := bazaar{first: c.Uint64("seed"), seeds: c.Int("seeds"), broken: broken}
	if c.IsSet("seed") && !c.IsSet("seeds") {
		b.seeds = 1
	}
	stalls, turning, err := readStalls(c)
	switch {
	case err != nil:
		return wrong("%v", err)
	case c.NArg() > 0:
		return wrong("%q is not expected", c.Args().First())
	case b.seeds < 1 || b.seeds > maxMarketSeeds:
		return wrong("seeds is %d, want 1 to %d", b.seeds, maxMarketSeeds)
	case b.first > math.MaxUint32:
		return wrong("seed is %d, want at most %d", b.first, uint32(math.MaxUint32))
	case c.Bool("markdown") && (c.Bool("json") || c.Bool("trace") || !allMarkets(c)):
		return wrong("markdown is of all attacks at their terms: it goes with seed and seeds alone")
	case c.Bool("trace") && (len(stalls) != 1 || b.seeds != 1 || c.Bool("json")):
		return wrong("trace is of one attack, policy and seed: give --attack, --policy and --seed alone")
	}
	b.cast = simulation.NewCast(simulation.MaxNodes)
	switch {
	case c.Bool("trace"):
		return b.trace(c, stalls[0])
	case c.Bool("markdown"):
		text, err := b.markdown(c.Context)
		if err == nil {
			_, err = fmt.Fprint(c.App.Writer, text)
		}
		return err
	}
	return b.report(c, stalls, turning)
}

// allMarkets reports whether no flag chooses markets.
func allMarkets(c *cli.Context) bool {
	return !slices.ContainsFunc(c.LocalFlagNames(), func(name string) bool { return !slices.Contains([]string{"seed", "seeds", "markdown"}, name) })
}

// readStalls reads which cells are to be run; turning says whether checks are measured too.
func readStalls(c *cli.Context) (stalls []stall, turning bool, err error) {
	policies := simulation.Policies
	if text := c.String("policy"); text != "all" {
		policies = nil
		for name := range strings.SplitSeq(text, ",") {
			if !slices.Contains(simulation.Policies, simulation.Policy(name)) {
				return nil, false, fmt.Errorf("policy %q is unknown, want some of %s", name, policyList())
			}
			policies = append(policies, simulation.Policy(name))
		}
	}
	names := []string{turningName}
	for i := range simulation.Attacks {
		names = append(names, simulation.Attacks[i].Name)
	}
	if text := c.String("attack"); text != "all" {
		names = strings.Split(text, ",")
	}
	for _, name := range names {
		if name == turningName {
			turning = true
			continue
		}
		attack, ok := simulation.Find(name)
		if !ok {
			return nil, false, fmt.Errorf("attack %q is unknown, want some of %s", name, attackList())
		}
		for _, p := range policies {
			if slices.Contains(attack.Policies, p) {
				stalls = append(stalls, stall{&attack, termsOf(c, p)})
			}
		}
	}
	terms := termsOf(c, simulation.None)
	if err := terms.Check(); err != nil {
		return nil, false, err
	}
	if len(stalls) == 0 && !turning {
		return nil, false, fmt.Errorf("attack %s is not about policy %s", c.String("attack"), c.String("policy"))
	}
	return stalls, turning, nil
}

func termsOf(c *cli.Context, p simulation.Policy) simulation.Terms {
	t := simulation.Defaults(p)
	if c.IsSet("jobs") {
		t.Jobs = c.Int("jobs")
	}
	t.Nodes, t.Bidders, t.Share, t.Slack = c.Int("nodes"), c.Int("bidders"), c.Int("share"), c.Int("slack")
	t.Stake, t.Bond, t.Record = c.Uint64("stake"), c.Uint64("bond"), c.Uint64("record")
	t.Wrong, t.Follow, t.Cost, t.Priority = c.Int("wrong"), c.Int("follow"), c.Int("cost"), c.Int("priority")
	return t
}

// spread does some things side by side until the context ends. What is done does not depend
// on how many are at it.
func spread(ctx context.Context, n int, do func(i int)) {
	var group sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
}

func (b *bazaar) market(s stall, seed uint64) simulation.Market {
	return simulation.Market{Cast: b.cast, Attack: s.attack, Terms: s.terms, Broken: b.broken, Seed: seed}
}

// play runs cells, seed by seed, so that an interrupt leaves each with some.
func (b *bazaar) play(ctx context.Context, stalls []stall) []simulation.Cell {
	outcomes := make([]*simulation.Outcome, len(stalls)*b.seeds)
	spread(ctx, len(outcomes), func(i int) {
		s := stalls[i%len(stalls)]
		o := b.market(s, b.first+uint64(i/len(stalls))).Play()
		outcomes[i] = &o
	})
	cells := make([]simulation.Cell, len(stalls))
	for k, s := range stalls {
		var list []simulation.Outcome
		for i := k; i < len(outcomes); i += len(stalls) {
			if outcomes[i] != nil {
				list = append(list, *outcomes[i])
			}
		}
		cells[k] = simulation.Sum(s.attack, s.terms, list)
	}
	return cells
}

// turn measures checks.
func (b *bazaar) turn(ctx context.Context, seeds int) (list []simulation.Turning) {
	found := make([]*simulation.Turning, seeds)
	spread(ctx, seeds, func(i int) {
		t := simulation.Turn(b.cast, simulation.TwoOfThree, b.first+uint64(i))
		found[i] = &t
	})
	for _, t := range found {
		if t != nil {
			list = append(list, *t)
		}
	}
	return list
}

// report runs what was asked for and prints it.
func (b *bazaar) report(c *cli.Context, stalls []stall, turning bool) error {
	var r marketReport
	if len(stalls) > 0 {
		r.Cells = b.play(c.Context, stalls)
	}
	if turning && c.Context.Err() == nil {
		r.Turning = b.turn(c.Context, min(b.seeds, turningSeeds))
	}
	r.Stopped = c.Context.Err() != nil
	var err error
	if c.Bool("json") {
		err = printJSON(c, r)
	} else {
		_, err = fmt.Fprint(c.App.Writer, r.text())
	}
	if r.Stopped {
		return errors.Join(err, errors.New("interrupted: some seeds are missing"))
	}
	return errors.Join(err, r.surprises())
}

// surprises says which attacks pay that are not known to.
func (r *marketReport) surprises() error {
	var list []string
	for i := range r.Cells {
		cell := &r.Cells[i]
		attack, _ := simulation.Find(cell.Attack)
		if cell.Sign() == simulation.Pays && !slices.Contains(attack.Pays, cell.Terms.Policy) {
			list = append(list, fmt.Sprintf("%s under %s", cell.Attack, cell.Terms.Policy))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("what should not pay does: %s", strings.Join(list, "; "))
}

func (r *marketReport) text() string {
	var text strings.Builder
	if len(r.Cells) > 0 {
		fmt.Fprintf(&text, "%-15s %-14s %6s %8s %7s %18s %9s  %s\n", "attack", "policy", "seeds", "tries", "caught", "profit of a try", "of others", "it")
	}
	for i := range r.Cells {
		cell := &r.Cells[i]
		fmt.Fprintf(&text, "%-15s %-14s %6d %8d %7d %18s %9.2f  %s\n",
			cell.Attack, cell.Terms.Policy, cell.Seeds, cell.Tries, cell.Caught, cell, 0-cell.Harm, cell.Sign())
	}
	if len(r.Turning) > 0 {
		fmt.Fprintln(&text, turningLine(r.Turning))
	}
	return text.String()
}

// turningLine says what checks cost, and how soon they find.
func turningLine(list []simulation.Turning) string {
	jobs, runs := 0, 0
	var after []int
	missed := 0
	for _, t := range list {
		jobs, runs = jobs+t.Jobs, runs+t.Runs
		if after = append(after, t.After); t.After == 0 {
			missed++
		}
	}
	slices.Sort(after)
	line := fmt.Sprintf("%d markets of 100 nodes under %s, of which one turns: %d jobs, %.3f runs for each; it is caught after %d jobs in the median, %d at most",
		len(list), simulation.TwoOfThree, jobs, float64(runs)/float64(jobs), after[len(after)/2], after[len(after)-1])
	if missed > 0 {
		line += fmt.Sprintf(", and %d times not at all", missed)
	}
	return line + "."
}

// trace prints what happens in one market.
func (b *bazaar) trace(c *cli.Context, s stall) error {
	var broken error
	o := b.market(s, b.first).Trace(func(line string) {
		if broken == nil {
			_, broken = fmt.Fprintln(c.App.Writer, line)
		}
	})
	if broken != nil {
		return broken
	}
	_, err := fmt.Fprintf(c.App.Writer, "%d tries, profit of a try %+.3f, caught %d times\n", o.Tries, o.Profit, o.Caught)
	return err
}
