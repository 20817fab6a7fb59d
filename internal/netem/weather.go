package netem

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Weather is how a link treats datagrams. Each draws for itself. The zero Weather
// is a perfect link.
type Weather struct {
	Delay     time.Duration // of every datagram, one way
	Jitter    time.Duration // the delay is uniform in Delay ± Jitter; at most Delay
	Loss      int           // datagrams of 1,000 that are lost
	Duplicate int           // datagrams of 1,000 that arrive twice, each with its own delay
	Late      int           // datagrams of 1,000 that are late
	LateBy    time.Duration // how much later a late one is, at most
	InOrder   bool          // datagrams of a link do not overtake each other
}

// Check returns an error that names the first field out of range.
func (w Weather) Check() error {
	if w.Delay < 0 || w.Delay > maxDelay {
		return fmt.Errorf("netem: Delay is %v, want 0 to %v", w.Delay, maxDelay)
	}
	if w.Jitter < 0 || w.Jitter > w.Delay {
		return fmt.Errorf("netem: Jitter is %v, want 0 to the delay of %v", w.Jitter, w.Delay)
	}
	if w.LateBy < 0 || w.LateBy > maxDelay {
		return fmt.Errorf("netem: LateBy is %v, want 0 to %v", w.LateBy, maxDelay)
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"Loss", w.Loss}, {"Duplicate", w.Duplicate}, {"Late", w.Late}} {
		if f.value < 0 || f.value > 1000 {
			return fmt.Errorf("netem: %s is %d of 1,000", f.name, f.value)
		}
	}
	return nil
}

const maxDelay = time.Minute

// dice draw the fates of one link's datagrams.
type dice struct{ rand *rand.Rand }

func newDice(seed, link uint64) *dice { return &dice{rand: rand.New(rand.NewPCG(seed, link))} }

// draws is what every throw takes, so that a change of the weather does not shift
// what later datagrams meet.
const draws = 6

// throw returns the delays of the copies that arrive: none, one or two.
func (d *dice) throw(w Weather) (delays [2]time.Duration, copies int) {
	var u [draws]float64
	for i := range u {
		u[i] = d.rand.Float64()
	}
	happens := func(i, perMille int) bool { return u[i]*1000 < float64(perMille) }
	delay := func(i int) time.Duration {
		return w.Delay - w.Jitter + time.Duration(u[i]*float64(2*w.Jitter+1))
	}
	if happens(0, w.Loss) {
		return delays, 0
	}
	delays[0], copies = delay(1), 1
	if happens(2, w.Late) {
		delays[0] += time.Duration(u[3] * float64(w.LateBy+1))
	}
	if happens(4, w.Duplicate) {
		delays[1], copies = delay(5), 2
	}
	return delays, copies
}
