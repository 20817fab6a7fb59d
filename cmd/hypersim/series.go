package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"time"
)

// series is the seeds that one command runs.
type series struct {
	plan  plan
	first uint64
	seeds int
	span  time.Duration // no seed is begun after it; 0: all are run
}

const (
	shrinkAtMost  = 3 // failing seeds
	newsEvery     = 10 * time.Second
	shownOfTrace  = 25 // lines
	resolution    = 100 * time.Microsecond
	histogramSize = 600_000 // a minute
)

// histogram counts spans, to a tenth of a millisecond.
type histogram struct {
	counts []uint32
	n      int
	sum    time.Duration
	most   time.Duration
}

func (h *histogram) add(spans []time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint32, histogramSize)
	}
	for _, d := range spans {
		h.counts[min(int((d+resolution-1)/resolution), histogramSize-1)]++
		h.n++
		h.sum += d
		h.most = max(h.most, d)
	}
}

func (h *histogram) percentiles() percentiles {
	if h.n == 0 {
		return percentiles{}
	}
	return percentiles{
		P50: h.percentile(50), P99: h.percentile(99),
		Mean: inMs((h.sum / time.Duration(h.n)).Round(resolution)), Max: inMs(h.most.Round(resolution)),
	}
}

// percentile returns the least span that p of 100 do not exceed, rounded up.
func (h *histogram) percentile(p int) float64 {
	left := (h.n*p + 99) / 100
	for i, count := range h.counts {
		if left -= int(count); left <= 0 {
			return inMs(time.Duration(i) * resolution)
		}
	}
	return inMs(h.most)
}

func inMs(d time.Duration) float64 { return float64(d) / float64(ms) }

// run runs the seeds and writes to messages what failed, in the order of the
// seeds.
func (s series) run(ctx context.Context, messages io.Writer) report {
	start, news := time.Now(), time.Now()
	r := newReport(s)
	var finality, intervals, changes histogram
	complete := s.each(ctx, func(o outcome) {
		r.add(o)
		finality.add(o.finality)
		intervals.add(o.intervals)
		changes.add(o.changes)
		if o.failure != nil {
			f := s.failed(o)
			fmt.Fprint(messages, f.text())
			if len(r.Failures) < shrinkAtMost && s.plan.trace == nil {
				fmt.Fprint(messages, f.shrink(ctx, s.plan, o))
			}
			r.Failures = append(r.Failures, f)
		}
		if s.span > 0 && time.Since(news) >= newsEvery {
			news = time.Now()
			fmt.Fprintf(messages, "seeds %d to %d: %d views in %v, %d violations\n",
				s.first, o.seed, r.Views, time.Since(start).Round(time.Second), r.Violations)
		}
	})
	r.Interrupted = !complete
	r.Seconds = math.Round(1000*time.Since(start).Seconds()) / 1000
	r.ViewsPerHour = math.Round(float64(r.Views) / time.Since(start).Hours())
	r.Finality, r.Interval, r.EpochChange = finality.percentiles(), intervals.percentiles(), changes.percentiles()
	return r
}

func newReport(s series) report {
	return report{
		FirstSeed: s.first, Validators: s.plan.cast.validators, Crashed: s.plan.crashed, Faults: s.plan.faults.String(),
		Failures: []failed{}, Evidence: map[string]int{}, Offences: map[string]int{}, Lies: map[string]int{}, Blames: map[string]int{},
		Crashes: map[string]int{}, Stops: map[string]int{},
	}
}

// add adds a seed's outcome up.
func (r *report) add(o outcome) {
	r.Seeds++
	r.Views += uint64(o.views)
	r.Blocks += o.heights
	r.Epochs += uint64(o.epochs)
	r.Simulated += math.Round(o.simulated.Seconds())
	r.LogsLost += o.lost
	r.LogsLast += o.alone
	r.LogsOld += o.old
	r.Torn += o.torn
	if o.failure != nil {
		r.Violations++
	}
	for p, count := range o.crashes {
		if count > 0 {
			r.Crashes[point(p).String()] += count
		}
	}
	for offence, count := range o.cases { // order-free: sums
		r.Offences[string(offence)] += count
	}
	for _, sum := range []struct{ into, from map[string]int }{
		{r.Evidence, o.evidence}, {r.Lies, o.lies}, {r.Blames, o.blames}, {r.Stops, o.stops},
	} {
		for what, count := range sum.from { // order-free: sums
			sum.into[what] += count
		}
	}
	r.Packets.Sent += o.traffic.Sent
	r.Packets.Lost += o.traffic.Lost
	r.Packets.Cut += o.traffic.Cut
	r.Packets.Duplicated += o.traffic.Duplicated
	r.Packets.Late += o.traffic.Late
	r.Packets.Overtook += o.traffic.Overtook
}

// command is the command line that repeats a seed.
func (p plan) command(seed uint64) string {
	text := fmt.Sprintf("%s consensus --seed %d --validators %d --views %d --faults %s", programName, seed, p.cast.validators, p.views, p.faults)
	if p.storm != stormMax {
		text += fmt.Sprintf(" --storm %v", p.storm)
	}
	if p.atlas != nil {
		text += " --wan " + p.atlas.name
	}
	if p.crashed > 0 {
		text += fmt.Sprintf(" --crashed %d", p.crashed)
	}
	if p.mutation != "" {
		text += " --mutate " + string(p.mutation)
	}
	return text + " --trace"
}

// failed describes a seed that failed.
func (s series) failed(o outcome) failed {
	return failed{Seed: o.seed, Rule: string(o.failure.rule), Text: o.failure.String(), Command: s.plan.command(o.seed), Trace: []string{}}
}

func (f *failed) text() string {
	return fmt.Sprintf("seed %d: %s\n  again: %s\n", f.Seed, f.Text, f.Command)
}

// shrink adds a smaller plan that fails alike, and returns the text of it.
func (f *failed) shrink(ctx context.Context, p plan, o outcome) string {
	p, seed := shrink(ctx, p, o.seed, o.failure.rule)
	f.Smaller = p.command(seed)
	var tail tail
	p.trace = &tail
	if _, err := simulate(ctx, p, seed); err == nil {
		f.Trace = tail.lines
	}
	text := "  smaller: " + f.Smaller + "\n"
	for _, line := range f.Trace {
		text += "    " + line + "\n"
	}
	return text
}

// tail keeps the last lines of what is written to it, a line at a time.
type tail struct{ lines []string }

func (t *tail) Write(line []byte) (int, error) {
	if len(t.lines) == shownOfTrace {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// each calls take with the outcome of every seed, in the order of the seeds. At
// most two for each processor are under way or wait to be taken. It reports
// false if the context ended first.
func (s series) each(ctx context.Context, take func(outcome)) bool {
	type result struct {
		outcome outcome
		err     error
	}
	start := time.Now()
	var running []chan result
	for next := 0; ; {
		for ; next < s.seeds && len(running) < 2*runtime.GOMAXPROCS(0) && (s.span == 0 || time.Since(start) < s.span); next++ {
			done := make(chan result, 1)
			running = append(running, done)
			seed := s.first + uint64(next)
			go func() {
				o, err := simulate(ctx, s.plan, seed)
				done <- result{outcome: o, err: err}
			}()
		}
		if len(running) == 0 {
			return true
		}
		got := <-running[0]
		running = running[1:]
		if got.err != nil {
			for _, rest := range running {
				<-rest
			}
			return false
		}
		take(got.outcome)
	}
}
