package execution_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/execution"
)

// TestQueuesShareABudget: whatever is due, all queues together stay within the budget but for
// the one entry that each may have, each gets its part, and none is left waiting while there
// is budget for it.
func TestQueuesShareABudget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(rt, "queues")
		list := func(what string, from, to int) []int {
			return rapid.SliceOfN(rapid.IntRange(from, to), n, n).Draw(rt, what)
		}
		most, due := list("most", 1, 1_000), list("due", 0, 3_000)
		weights := make([]uint64, n)
		for i, w := range list("weights", 1, 20_000) {
			weights[i] = uint64(w)
		}
		budget := rapid.Uint64Range(0, 30_000_000).Draw(rt, "budget")
		done := execution.ShareOut(weights, most, due, budget, rapid.IntRange(0, 100).Draw(rt, "turn"))
		var used, free, heaviest uint64
		for i := range done {
			used += uint64(done[i]) * weights[i]
			free += weights[i]
			heaviest = max(heaviest, weights[i])
			if want := min(due[i], most[i], max(1, int(budget/uint64(n)/weights[i]))); done[i] < want || done[i] > min(due[i], most[i]) {
				rt.Fatalf("queue %d did %d of %d entries, its part is %d", i, done[i], due[i], want)
			}
		}
		if used > budget+free {
			rt.Fatalf("queues worked for %d, the budget is %d", used, budget)
		}
		for i := range done {
			if done[i] < min(due[i], most[i]) && used+heaviest <= budget {
				rt.Fatalf("queue %d waits with %d of %d done, though %d of %d is left", i, done[i], due[i], budget-used, budget)
			}
		}
	})
}
