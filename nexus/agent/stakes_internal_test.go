package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestNoBidBeyondTheBond: a node bids for no order that stakes more than is free of its bond beside what it runs, and that the
// chain has no stake of yet.
func TestNoBidBeyondTheBond(t *testing.T) {
	a := &Agent{market: &market{}, tasks: map[crypto.Digest]*task{}}
	order := func(p chain.Policy) *chain.Order { return &chain.Order{Policy: chain.PolicyField{Policy: p}} }
	staking := order(chain.PolicyReplicate{K: 2, N: 2, Stake: chain.Hyper(4)})
	declined := func(o *chain.Order, want string) {
		t.Helper()
		if why := a.unstaked(o, nil, time.Time{}); why != want && (want == "" || !strings.Contains(why, want)) {
			t.Errorf("%s: %q, want %q", o.Policy, why, want)
		}
	}
	declined(staking, "") // nobody was asked
	a.market.bond.set(chain.Hyper(10), true)
	declined(staking, "")
	declined(order(chain.PolicyOptimistic{Bond: chain.Hyper(11)}), "10 HYPER free of its bond")
	declined(order(chain.PolicyNone{}), "")
	hold := func(n byte, o *chain.Order, change func(*task)) {
		held := &task{assignment: job.Assignment{Order: *o}}
		if change != nil {
			change(held)
		}
		a.tasks[crypto.Digest{n}] = held
	}
	hold(1, staking, nil)
	hold(2, staking, func(t *task) { t.assignment.Place = 1 }) // the chain asked for it
	hold(3, staking, func(t *task) { t.judging = true })
	declined(staking, "")
	hold(4, staking, nil)
	declined(staking, "10 HYPER free of its bond, beside what it runs 2 HYPER")
	hold(5, staking, nil)
	declined(staking, "beside what it runs 0 HYPER")
	declined(order(chain.PolicyReplicate{K: 2, N: 2}), "stakes 1 HYPER") // whatever it says
	a.market.bond.set(chain.Amount{}, false)                             // it is not registered: servers say so
	declined(staking, "")
}
