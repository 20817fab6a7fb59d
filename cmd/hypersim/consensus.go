package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/consensus"
)

const (
	maxSeeds = 10_000_000
	maxViews = 1_000_000
)

func consensusCommand() *cli.Command {
	return &cli.Command{
		Name:  "consensus",
		Usage: "validators in simulated time, with faults",
		Description: "Runs validators in simulated time, one network for each seed, and checks after every step that no two\n" +
			"honest ones finalize different blocks at a height, that none signs what it could be slashed for, and that\n" +
			"all go on when the faults are over. A seed that fails is printed with the command that repeats it.\n" +
			"Faults: " + allFaults.list() + ".\n" +
			"Example: hypersim consensus --seeds 200 --views 100 --faults loss,crash",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "first `SEED`; alone: the only one"},
			&cli.IntFlag{Name: "seeds", Value: 100, Usage: "`K` seeds, each a network of its own"},
			&cli.IntFlag{Name: "validators", Value: 4, Usage: "`N` validators of equal weight"},
			&cli.IntFlag{Name: "views", Value: 100, Usage: "`V` views for each seed, at least"},
			&cli.StringFlag{Name: "faults", Value: "all", Usage: "all, none, or a `LIST` with commas"},
			&cli.BoolFlag{Name: "trace", Usage: "print every event of one seed on standard output"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON on standard output"},
		},
		Action: runConsensus,
	}
}

// series is the seeds that one command runs.
type series struct {
	plan  plan
	first uint64
	seeds int
}

// readSeries reads and checks the flags.
func readSeries(c *cli.Context) (series, error) {
	wrong := func(format string, args ...any) (series, error) {
		return series{}, usagef(c.Command.Name+" ", format, args...)
	}
	s := series{first: c.Uint64("seed"), seeds: c.Int("seeds")}
	if c.IsSet("seed") && !c.IsSet("seeds") {
		s.seeds = 1
	}
	n, views := c.Int("validators"), c.Int("views")
	switch {
	case c.NArg() > 0:
		return wrong("%q is not expected", c.Args().First())
	case s.seeds < 1 || s.seeds > maxSeeds:
		return wrong("seeds is %d, want 1 to %d", s.seeds, maxSeeds)
	case s.first > math.MaxUint64-maxSeeds:
		return wrong("seed is %d, want at most %d", s.first, uint64(math.MaxUint64-maxSeeds))
	case n < 1 || n > consensus.MaxValidators:
		return wrong("validators is %d, want 1 to %d", n, consensus.MaxValidators)
	case views < 1 || views > maxViews:
		return wrong("views is %d, want 1 to %d", views, maxViews)
	case c.Bool("trace") && s.seeds != 1:
		return wrong("trace is of one seed: give --seed SEED")
	case c.Bool("trace") && c.Bool("json"):
		return wrong("trace and json both want standard output")
	}
	set, err := parseFaults(c.String("faults"))
	if err != nil {
		return wrong("faults: %v", err)
	}
	cast, err := newCast(n)
	if err != nil {
		return series{}, err
	}
	s.plan = plan{cast: cast, views: consensus.View(views), faults: set}
	if c.Bool("trace") {
		s.plan.trace = c.App.Writer
	}
	return s, nil
}

// report is what hypersim consensus --json prints.
type report struct {
	Views        uint64      `json:"views"` // of all seeds
	Seeds        int         `json:"seeds"`
	Violations   int         `json:"violations"` // seeds that failed
	ViewsPerHour float64     `json:"views_per_hour"`
	Finality     percentiles `json:"finality_ms"`
}

// percentiles are of simulated milliseconds, from a block's proposal to its
// finalization at each honest validator.
type percentiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

var errViolated = errors.New("the simulation found violations")

func runConsensus(c *cli.Context) error {
	s, err := readSeries(c)
	if err != nil {
		return err
	}
	r, err := s.run(c.Context, c.App.ErrWriter)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		if err := printJSON(c, r); err != nil {
			return err
		}
	case s.plan.trace == nil:
		fmt.Fprintf(c.App.Writer, "seeds           %d\nviews           %d\nviolations      %d\nviews per hour  %.0f\nfinality        %.1f ms median, %.1f ms p99, simulated\n",
			r.Seeds, r.Views, r.Violations, r.ViewsPerHour, r.Finality.P50, r.Finality.P99)
	}
	if r.Violations > 0 {
		return errViolated
	}
	return nil
}

// run runs all seeds and writes what failed to messages, in the order of the
// seeds.
func (s series) run(ctx context.Context, messages io.Writer) (report, error) {
	start := time.Now()
	r := report{Seeds: s.seeds}
	var finality []time.Duration
	err := s.each(ctx, func(o outcome) {
		r.Views += uint64(o.views)
		finality = append(finality, o.finality...)
		if o.failure != "" {
			r.Violations++
			fmt.Fprintf(messages, "seed %d: %s\n  again: %s\n", o.seed, o.failure, s.replay(o.seed))
		}
	})
	if err != nil {
		return report{}, fmt.Errorf("interrupted: %w", err)
	}
	r.ViewsPerHour = math.Round(float64(r.Views) / time.Since(start).Hours())
	slices.Sort(finality)
	r.Finality = percentiles{P50: percentile(finality, 50), P99: percentile(finality, 99)}
	return r, nil
}

// replay is the command line that repeats a seed.
func (s series) replay(seed uint64) string {
	return fmt.Sprintf("%s consensus --seed %d --validators %d --views %d --faults %s --trace",
		programName, seed, len(s.plan.cast.keys), s.plan.views, s.plan.faults)
}

// each calls take with the outcome of every seed, in the order of the seeds.
// At most two for each processor are under way or wait to be taken.
func (s series) each(ctx context.Context, take func(outcome)) error {
	type result struct {
		outcome outcome
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running []chan result
	next := 0
	for taken := range s.seeds {
		for ; next < s.seeds && next < taken+2*runtime.GOMAXPROCS(0); next++ {
			done := make(chan result, 1)
			running = append(running, done)
			seed := s.first + uint64(next)
			go func() {
				o, err := simulate(ctx, s.plan, seed)
				done <- result{outcome: o, err: err}
			}()
		}
		got := <-running[0]
		running = running[1:]
		if got.err != nil {
			cancel()
			for _, rest := range running {
				<-rest
			}
			return got.err
		}
		take(got.outcome)
	}
	return nil
}

// percentile returns the smallest of the sorted spans that p of 100 do not
// exceed, in milliseconds, or 0 if there are none.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := sorted[(len(sorted)*p+99)/100-1]
	return float64(at.Round(time.Microsecond)) / float64(ms)
}
