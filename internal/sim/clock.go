package sim

import (
	"container/heap"
	"time"
)

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
	heap.Push(&c.agenda, happening{at: c.now + d, order: c.order, do: do})
}

// Step moves to the next happening and runs it. It reports false, and time
// stands still, if there is none.
func (c *Clock) Step() bool {
	if len(c.agenda) == 0 {
		return false
	}
	next := heap.Pop(&c.agenda).(happening)
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

// agenda is a heap by instant, then by order of scheduling.
type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = happening{}
	*a = (*a)[:len(*a)-1]
	return last
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
