package sim

import "time"

// Clock is simulated time with an agenda. Instants are spans since the world's
// beginning.
type Clock struct {
	now    time.Duration
	order  uint64 // of scheduling
	agenda agenda
}

type happening struct {
	at    time.Duration
	order uint64
	do    func()
}

func (h *happening) before(other *happening) bool {
	return h.at < other.at || h.at == other.at && h.order < other.order
}

// NewClock returns a clock at instant 0 with nothing on its agenda.
func NewClock() *Clock { return &Clock{} }

// Now returns the instant of the happening that runs, or of the last that ran.
func (c *Clock) Now() time.Duration { return c.now }

// After schedules do in d, which must not be negative.
func (c *Clock) After(d time.Duration, do func()) {
	if d < 0 {
		panic("sim: a happening in the past: " + d.String())
	}
	c.order++
	c.agenda.push(happening{at: c.now + d, order: c.order, do: do})
}

// Step moves to the next happening and runs it. It reports false, and time
// stands still, if there is none.
func (c *Clock) Step() bool {
	if len(c.agenda) == 0 {
		return false
	}
	next := c.agenda.pop()
	c.now = next.at
	next.do()
	return true
}

// RunUntil runs everything that happens up to the instant, and moves to it.
func (c *Clock) RunUntil(at time.Duration) {
	for len(c.agenda) > 0 && c.agenda[0].at <= at {
		c.Step()
	}
	c.now = max(c.now, at)
}

// agenda is a binary heap by instant, then by order of scheduling.
type agenda []happening

func (a *agenda) push(h happening) {
	*a = append(*a, h)
	s := *a
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(&s[parent]) {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = h
}

func (a *agenda) pop() happening {
	s := *a
	first, last := s[0], s[len(s)-1]
	s[len(s)-1] = happening{}
	s = s[:len(s)-1]
	*a = s
	if len(s) == 0 {
		return first
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].before(&s[child]) {
			child++
		}
		if !s[child].before(&last) {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = last
	return first
}

// Life is one run of a process, from its start to its end or crash.
type Life struct {
	clock *Clock
	over  bool
}

// NewLife begins a life.
func (c *Clock) NewLife() *Life { return &Life{clock: c} }

// After schedules do in d, unless the life is over by then.
func (l *Life) After(d time.Duration, do func()) {
	l.clock.After(d, func() {
		if !l.over {
			do()
		}
	})
}

// End ends the life; nothing that it scheduled happens any more.
func (l *Life) End() { l.over = true }

// Over reports whether the life has ended.
func (l *Life) Over() bool { return l.over }

// Watch is a machine's own clock.
type Watch struct {
	clock *Clock
	since time.Duration // the world's instant from which it has run as it runs
	shown time.Duration // what it showed then
	drift int64         // microseconds that it gains in a second
}

// NewWatch returns a watch that shows the world's time.
func (c *Clock) NewWatch() *Watch { return &Watch{clock: c, since: c.now, shown: c.now} }

// maxDrift keeps a watch running forward.
const maxDrift = 500_000

// Now returns what the watch shows.
func (w *Watch) Now() time.Duration {
	passed := w.clock.now - w.since
	return w.shown + passed + time.Duration(int64(passed/time.Microsecond)*w.drift/1_000_000)*time.Microsecond
}

// Until returns how long the world has to wait until the watch shows the
// instant, if it does not jump; 0 if it is past.
func (w *Watch) Until(at time.Duration) time.Duration {
	left := at - w.Now()
	if left <= 0 {
		return 0
	}
	// Rounded up twice, because Now rounds down.
	return time.Duration(int64(left/time.Microsecond+2)*1_000_000/(1_000_000+w.drift)+1) * time.Microsecond
}

// Drift has the watch gain so many microseconds in a second, from −500,000 to
// 500,000, from now on.
func (w *Watch) Drift(microsPerSecond int) {
	if microsPerSecond < -maxDrift || microsPerSecond > maxDrift {
		panic("sim: a watch that drifts by more than half")
	}
	w.shown, w.since, w.drift = w.Now(), w.clock.now, int64(microsPerSecond)
}

// Jump moves the watch by d, forward or back.
func (w *Watch) Jump(d time.Duration) { w.shown += d }
