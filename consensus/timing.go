package consensus

import (
	"fmt"
	"slices"
)

// Timing is the core's patience. It never slows the good path.
type Timing struct {
	DeltaMin Micros // least estimate of one proposal's way to certification
	DeltaMax Micros // cap of the estimate and its growth
	Idle     Micros // how long a leader may wait after an empty block
	Retry    Micros // between repetitions in a view that was given up
	Skip     Micros // silence after which a leader is not waited for
	Fetch    Micros // between requests for one missing thing
}

// DefaultTiming suits validators on one continent and in one machine alike.
func DefaultTiming() Timing {
	return Timing{
		DeltaMin: 300_000,
		DeltaMax: 60_000_000,
		Idle:     1_000_000,
		Retry:    1_000_000,
		Skip:     5_000_000,
		Fetch:    250_000,
	}
}

func (t Timing) check() error {
	for _, f := range []struct {
		name string
		span Micros
	}{
		{"DeltaMin", t.DeltaMin}, {"DeltaMax", t.DeltaMax}, {"Idle", t.Idle},
		{"Retry", t.Retry}, {"Skip", t.Skip}, {"Fetch", t.Fetch},
	} {
		if f.span == 0 || f.span > maxSpan {
			return fmt.Errorf("consensus: timing: %s of %d µs, want 1 to %d", f.name, f.span, maxSpan)
		}
	}
	if t.DeltaMax < t.DeltaMin {
		return fmt.Errorf("consensus: timing: DeltaMax of %d µs is below DeltaMin of %d", t.DeltaMax, t.DeltaMin)
	}
	return nil
}

// maxSpan is an hour: far from any overflow.
const maxSpan Micros = 3_600_000_000

const (
	maxSamples = 64
	// sampleMargin is how much slower than two thirds of the views an honest
	// leader's may be.
	sampleMargin = 2
	// recentSamples is of how many last views the quickest is believed, up to
	// recentGrowth times DeltaMin: a machine that has become slow is known before a third
	// of the samples are of it, and no single leader can make it seem so.
	recentSamples, recentGrowth = 2, 8
	// graceViews is how many views behind the current one the last finalized
	// one is when all goes well: the finalize votes of a view travel during the
	// next.
	graceViews = 2
	// openViews is how many views may pass without finalization before leaders take
	// their time. When a traitor keeps its finalize votes back while others are away,
	// blocks are notarized and not finalized; each stays in memory and in the log.
	openViews = 64
	// The growth per further view without finalization, 5/4.
	growthNum, growthDen = 5, 4
)

// samples is the last spans from proposal to certification of finalized views.
type samples struct {
	ring [maxSamples]Micros
	n    int // ever added
}

func (s *samples) add(span Micros) {
	s.ring[s.n%maxSamples] = span
	s.n++
}

// upperThird returns the least span that two thirds of the samples do not
// exceed, or 0 without samples. Leaders of less than a third of the weight make
// less than a third of the samples, so that whatever they do to their own views,
// honest ones bound it; of a higher percentile Byzantine leaders would be
// masters.
func (s *samples) upperThird() Micros {
	held := min(s.n, maxSamples)
	if held == 0 {
		return 0
	}
	sorted := slices.Clone(s.ring[:held])
	slices.Sort(sorted)
	return sorted[(2*held-1)/3]
}

// leastRecent returns the least of the newest samples, or 0 if there are not enough.
func (s *samples) leastRecent() Micros {
	if s.n < recentSamples {
		return 0
	}
	least := never
	for i := range recentSamples {
		least = min(least, s.ring[(s.n-1-i)%maxSamples])
	}
	return least
}

// delta returns the current patience for one message round: liveness needs it
// to grow while views pass without finalization.
func (c *Core) delta() Micros {
	t := c.cfg.Timing
	recent := min(sampleMargin*c.samples.leastRecent(), recentGrowth*t.DeltaMin)
	d := min(max(t.DeltaMin, sampleMargin*c.samples.upperThird(), recent), t.DeltaMax)
	for gap := c.current - 1 - c.lastFinalized; gap > graceViews && d < t.DeltaMax; gap-- {
		d = min(d*growthNum/growthDen+1, t.DeltaMax)
	}
	return d
}

// arm sets the deadlines of a view just entered.
func (c *Core) arm() {
	c.retryAt, c.leaderAt, c.certifyAt = never, never, never
	c.proposeAt = c.now
	if c.current-1-c.lastFinalized > openViews {
		c.proposeAt += c.cfg.Timing.Skip / 2 // nobody takes the leader for inactive yet
	}
	if !c.signs || c.closed() {
		return
	}
	vs := c.at(c.current)
	if vs.nullified { // restored from the log
		c.retryAt = c.now
		return
	}
	leader := c.cfg.Committee.Leader(c.current)
	if c.inactive(leader) || vs.nullifies.has(leader) {
		c.expire()
		return
	}
	delta, idle := c.delta(), Micros(0)
	if known, empty := c.tip(); empty || !known { // who does not know has no reason to hurry the others
		idle = c.cfg.Timing.Idle
	}
	c.leaderAt = c.now + idle + 2*delta
	c.certifyAt = c.now + idle + 3*delta
}

// expire gives the current view up as soon as the rules are run.
func (c *Core) expire() { c.leaderAt, c.certifyAt = c.now, c.now }

// inactive reports whether the validator has been silent while a quorum was
// not.
func (c *Core) inactive(s Signer) bool {
	recent := func(i int) bool { return c.now-c.heard[i] <= c.cfg.Timing.Skip }
	if s == c.self && c.signs || recent(int(s)) {
		return false
	}
	weight := uint64(0)
	for i := range c.heard {
		if recent(i) || c.signs && Signer(i) == c.self {
			weight += c.cfg.Committee.Validator(Signer(i)).Weight
		}
	}
	return weight >= c.cfg.Committee.Quorum()
}

// tip reports whether the block to build on is known, and whether it is empty. One
// that entered the view by a finalization may not have the block yet.
func (c *Core) tip() (known, empty bool) {
	digest := c.finalDigest()
	above := c.since(c.lastFinalized)
	for i := len(above) - 1; i >= 0; i-- {
		if above[i].view < c.current && above[i].certify == certifyOK {
			digest = above[i].notarization.Statement.Proposal.Digest
			break
		}
	}
	if b := c.blocks[digest]; b != nil {
		return true, b.Empty
	}
	return digest == c.durable, digest == c.durable && c.durableEmpty
}

// timeOut nullifies the current view when its time has come, and repeats
// itself at a fixed pace while it lasts: one vote and one certificate per
// Retry, however long the standstill.
func (c *Core) timeOut() {
	if !c.signs {
		return
	}
	vs := c.at(c.current)
	if vs.nullified {
		if c.now >= c.retryAt {
			c.retryAt = c.now + c.cfg.Timing.Retry
			c.retry(vs)
		}
		return
	}
	if vs.finalized != nil || c.now < c.certifyAt && (vs.offered || c.now < c.leaderAt) {
		return
	}
	c.retryAt = c.now + c.cfg.Timing.Retry
	c.sign(nullifyStatement(c.round(c.current)))
}

func (c *Core) retry(vs *viewState) {
	own := c.signature(nullifyStatement(c.round(vs.view)))
	c.emit(Broadcast{Message: own})
	if c.entry != nil {
		c.emit(Broadcast{Message: c.entry})
	}
	c.count(own, true)
}
