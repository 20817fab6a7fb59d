package netem

import "time"

// Link numbers the link of a relay of n nodes, as Fates wants it.
func Link(n, from, to int) uint64 { return uint64(from*n + to) }

// Fates returns the delays of the copies of a link's first datagrams.
func Fates(seed, link uint64, w Weather, count int) [][]time.Duration {
	d := newDice(seed, link)
	out := make([][]time.Duration, count)
	for i := range out {
		delays, copies := d.throw(w)
		out[i] = delays[:copies:copies]
	}
	return out
}
