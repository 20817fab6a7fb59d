package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/consensus"
)

const (
	maxSeeds = 10_000_000
	maxViews = 1_000_000
	maxStorm = time.Minute
)

func consensusCommand() *cli.Command {
	return &cli.Command{
		Name:  "consensus",
		Usage: "validators in simulated time, with faults",
		Description: "Runs validators in simulated time, one network for each seed. Every node is the replica that a process runs;\n" +
			"clock, network, disk and application are simulated. After every step an independent witness checks the rules\n" +
			"of voting, that no two honest nodes finalize different blocks at a height, that nothing leaves a node before\n" +
			"it is on its disk, that no honest node signs what it could be slashed for, and that all go on when the faults\n" +
			"are over. A seed that fails is printed with the command that repeats it, and with a smaller one that fails alike.\n" +
			"Faults: " + allFaults.list() + ".\n" +
			"Examples: hypersim consensus --seeds 200 --views 100 --faults loss,crash\n" +
			"          hypersim consensus --wan cloud --validators 100 --crashed 30 --seeds 2 --views 200",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "first `SEED`; alone: the only one"},
			&cli.IntFlag{Name: "seeds", Value: 100, Usage: "`K` seeds, each a network of its own"},
			&cli.DurationFlag{Name: "for", Usage: "as many seeds as can be begun in this `TIME`, telling how it goes"},
			&cli.IntFlag{Name: "validators", Value: 4, Usage: "`N` validators at the beginning"},
			&cli.IntFlag{Name: "views", Value: 100, Usage: "`V` views for each seed, at least"},
			&cli.StringFlag{Name: "faults", Usage: "all, none, or a `LIST` with commas (default: all; with --wan: none)"},
			&cli.DurationFlag{Name: "storm", Value: stormMax, Usage: "the longest `TIME` that faults last without a pause"},
			&cli.StringFlag{Name: "wan", Usage: "round trips between regions in ms, as a CSV `FILE`; " + builtInAtlas + ": ten cloud regions"},
			&cli.IntFlag{Name: "crashed", Usage: "`N` validators that never start"},
			&cli.StringFlag{Name: "mutate", Usage: "break a `RULE` at honest nodes, so that the run must fail: " + mutationList()},
			&cli.BoolFlag{Name: "trace", Usage: "print every event of one seed on standard output"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON on standard output"},
		},
		Action: runConsensus,
	}
}

// readSeries reads and checks the flags.
func readSeries(c *cli.Context) (series, error) {
	wrong := func(format string, args ...any) (series, error) {
		return series{}, usagef(c.Command.Name+" ", format, args...)
	}
	s := series{first: c.Uint64("seed"), seeds: c.Int("seeds"), span: c.Duration("for")}
	if c.IsSet("seed") && !c.IsSet("seeds") {
		s.seeds = 1
	}
	n, views, crashed := c.Int("validators"), c.Int("views"), c.Int("crashed")
	switch {
	case c.NArg() > 0:
		return wrong("%q is not expected", c.Args().First())
	case s.seeds < 1 || s.seeds > maxSeeds:
		return wrong("seeds is %d, want 1 to %d", s.seeds, maxSeeds)
	case s.first > math.MaxUint64-maxSeeds:
		return wrong("seed is %d, want at most %d", s.first, uint64(math.MaxUint64-maxSeeds))
	case s.span < 0 || c.IsSet("for") && c.IsSet("seeds"):
		return wrong("for is %v, want a time, and no seeds beside it", s.span)
	case n < 1 || n > consensus.MaxValidators:
		return wrong("validators is %d, want 1 to %d", n, consensus.MaxValidators)
	case views < 1 || views > maxViews:
		return wrong("views is %d, want 1 to %d", views, maxViews)
	case crashed < 0 || 3*crashed >= n && crashed > 0:
		return wrong("crashed is %d of %d validators, want less than a third", crashed, n)
	case c.Duration("storm") < ms || c.Duration("storm") > maxStorm:
		return wrong("storm is %v, want 1ms to %v", c.Duration("storm"), maxStorm)
	case c.Bool("trace") && (s.seeds != 1 || s.span > 0):
		return wrong("trace is of one seed: give --seed SEED")
	case c.Bool("trace") && c.Bool("json"):
		return wrong("trace and json both want standard output")
	}
	if s.span > 0 {
		s.seeds = maxSeeds
	}
	return s.withPlan(c, wrong)
}

// withPlan reads the flags that say what each seed does.
func (s series) withPlan(c *cli.Context, wrong func(string, ...any) (series, error)) (series, error) {
	list := c.String("faults")
	if !c.IsSet("faults") {
		list = "all"
		if c.IsSet("wan") {
			list = "none"
		}
	}
	set, err := parseFaults(list)
	if err != nil {
		return wrong("faults: %v", err)
	}
	mutation, err := parseMutation(c.String("mutate"))
	if err != nil {
		return wrong("mutate: %v", err)
	}
	s.plan = newPlan(c.Int("validators"), consensus.View(c.Int("views")), set)
	s.plan.storm, s.plan.crashed, s.plan.mutation = c.Duration("storm"), c.Int("crashed"), mutation
	if c.IsSet("wan") {
		s.plan.busy = true
		if s.plan.atlas, err = openAtlas(c.String("wan")); err != nil {
			return wrong("wan: %v", err)
		}
	}
	if c.Bool("trace") {
		s.plan.trace = c.App.Writer
	}
	return s, nil
}

var errViolated = errors.New("the simulation found violations")

func runConsensus(c *cli.Context) error {
	s, err := readSeries(c)
	if err != nil {
		return err
	}
	r := s.run(c.Context, c.App.ErrWriter)
	switch {
	case c.Bool("json"):
		err = printJSON(c, r)
	case s.plan.trace == nil:
		_, err = fmt.Fprint(c.App.Writer, r.text())
	}
	if r.Interrupted {
		err = errors.Join(err, fmt.Errorf("interrupted: %w", context.Cause(c.Context)))
	}
	if r.Violations > 0 {
		err = errors.Join(err, errViolated)
	}
	return err
}

// report is what hypersim consensus --json prints.
type report struct {
	Views        uint64      `json:"views"` // of all seeds
	Seeds        int         `json:"seeds"`
	FirstSeed    uint64      `json:"first_seed"`
	Violations   int         `json:"violations"` // seeds that failed
	Failures     []failed    `json:"failures"`
	Interrupted  bool        `json:"interrupted"` // not all seeds were run
	Seconds      float64     `json:"seconds"`     // of real time
	ViewsPerHour float64     `json:"views_per_hour"`
	Finality     percentiles `json:"finality_ms"`
	Interval     percentiles `json:"block_interval_ms"`
	EpochChange  percentiles `json:"epoch_change_ms"` // from an epoch's last block to the first of the next

	Validators int     `json:"validators"`
	Crashed    int     `json:"crashed"`
	Faults     string  `json:"faults"`
	Simulated  float64 `json:"simulated_seconds"`
	Blocks     uint64  `json:"blocks"`
	Epochs     uint64  `json:"epochs"`

	Evidence map[string]int `json:"evidence"` // that honest nodes reported, by offence
	Offences map[string]int `json:"offences"` // that traitors committed
	Lies     map[string]int `json:"lies"`     // other messages of traitors, by kind
	Blames   map[string]int `json:"blames"`   // connections with traitors that honest nodes ended, by reason
	Crashes  map[string]int `json:"crashes"`  // by the point where
	Stops    map[string]int `json:"stops"`    // nodes that ended themselves, by error
	LogsLost int            `json:"logs_lost"`
	LogsLast int            `json:"logs_last_lost"` // that of the last epoch alone
	LogsOld  int            `json:"logs_old"`       // old copies restored
	Torn     int            `json:"torn_records"`
	Packets  packets        `json:"packets"`
}

type packets struct {
	Sent       int `json:"sent"`
	Lost       int `json:"lost"`
	Cut        int `json:"cut"`
	Duplicated int `json:"duplicated"`
	Late       int `json:"late"`
	Overtook   int `json:"overtook"`
}

// failed is a seed that failed.
type failed struct {
	Seed    uint64   `json:"seed"`
	Rule    string   `json:"rule"`
	Text    string   `json:"text"`
	Command string   `json:"command"`
	Smaller string   `json:"smaller"` // a command that fails alike; empty: none was looked for
	Trace   []string `json:"trace"`   // the last lines of its trace
}

// percentiles are of simulated milliseconds.
type percentiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
}

func (p percentiles) String() string {
	return fmt.Sprintf("%.1f ms median, %.1f ms p99, %.1f ms mean, simulated", p.P50, p.P99, p.Mean)
}

// text is the report for people.
func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seeds           %d, from %d\nviews           %d\nblocks          %d\nepochs          %d\nviolations      %d\nviews per hour  %.0f\n",
		r.Seeds, r.FirstSeed, r.Views, r.Blocks, r.Epochs, r.Violations, r.ViewsPerHour)
	fmt.Fprintf(&b, "finality        %s\nblock interval  %s\n", r.Finality, r.Interval)
	if r.EpochChange.Max > 0 {
		fmt.Fprintf(&b, "epoch change    %s\n", r.EpochChange)
	}
	for _, line := range []struct {
		name   string
		counts map[string]int
	}{{"crashes", r.Crashes}, {"stops", r.Stops}, {"evidence", r.Evidence}, {"offences", r.Offences}, {"lies", r.Lies}, {"blames", r.Blames}} {
		for i, what := range slices.Sorted(maps.Keys(line.counts)) {
			name := ""
			if i == 0 {
				name = line.name
			}
			fmt.Fprintf(&b, "%-15s %7d  %s\n", name, line.counts[what], what)
		}
	}
	if r.LogsLost+r.LogsLast+r.LogsOld+r.Torn > 0 {
		fmt.Fprintf(&b, "logs            %7d  lost\n                %7d  of the last epoch lost alone\n                %7d  old copies restored\n                %7d  records torn\n", r.LogsLost, r.LogsLast, r.LogsOld, r.Torn)
	}
	return b.String()
}
