package replica_test

import (
	"fmt"
	"testing"
)

// BenchmarkViews is the work of all validators together for one view, signatures
// included but each verified only once.
func BenchmarkViews(b *testing.B) {
	for _, validators := range []int{4, 40, 100} {
		b.Run(fmt.Sprint(validators), func(b *testing.B) {
			var all []int
			for i := range validators {
				all = append(all, i)
			}
			w := newWorld(b, validators, everyEpoch(all...))
			w.blocks = 1 << 30
			for _, n := range w.nodes {
				n.start()
			}
			w.run(100_000*ms, w.everybodyAt(2))
			clear(verified)
			b.ResetTimer()
			from := w.nodes[0].height()
			w.run(1_000_000_000*ms, w.everybodyAt(from+uint64(b.N)))
			b.ReportMetric(float64(b.N)/b.Elapsed().Hours(), "views/h")
			clear(verified)
		})
	}
}
