package settlement_test

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// promised is an order that a cluster has accepted, and what it will be claimed to cost.
type promised struct {
	order chain.Order
	hours uint64 // of a core: an hour costs 3,600,000 nHYPER
}

const hourCosts = 3_600_000

// TestNoWithdrawalOutrunsAClaim: a cluster accepts orders only as far as the escrow's balance after a block covers them all at their max costs, and
// only such as end before a withdrawal made in a later block matures. Whatever the consumer withdraws and deposits then, and whenever each order is
// claimed, in any order and to the last millisecond of its window: it is paid.
func TestNoWithdrawalOutrunsAClaim(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		var open []promised
		outstanding, nonce := uint64(0), uint64(0)
		claim := func(at int) {
			p := open[at]
			open = append(open[:at], open[at+1:]...)
			c := m.claim(p.order, rapid.SampledFrom([]byte{40, 41, 50}).Draw(rt, "node"), 1)
			c.Receipt.Started, c.Receipt.Ended = p.order.Deadline-2, p.order.Deadline-1
			c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: p.hours * hour}}
			for _, e := range m.settle(c) {
				if _, paid := e.(chain.ClaimSettled); !paid {
					rt.Fatalf("an order that was covered is not paid: %+v", e)
				}
			}
			outstanding -= p.order.MaxCost.Nano()
		}
		// pass lets time pass, but first claims what would be over by then.
		pass := func(ms uint64) {
			until := uint64(m.env.Now) + ms
			slices.SortFunc(open, func(a, b promised) int { return cmp.Compare(b.order.Deadline, a.order.Deadline) })
			for i := len(open) - 1; i >= 0; i-- { // the first to be over first
				if end := uint64(open[i].order.Deadline) + window; end < until {
					m.pass(end - uint64(m.env.Now)) // the last millisecond
					claim(i)
				}
			}
			m.pass(until - uint64(m.env.Now))
		}
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				m.deposit(consumer, chain.Nano(rapid.SampledFrom([]uint64{1, hourCosts, 9 * hourCosts}).Draw(rt, "deposit")))
			case 1, 2:
				amount := m.escrow(consumer).Balance.Nano() / rapid.SampledFrom([]uint64{1, 1, 2, 7}).Draw(rt, "part")
				m.try(settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: key(cluster).Public(), Amount: chain.Nano(amount)}))
			case 3:
				most := rapid.Uint64Range(1, 4).Draw(rt, "hours")
				balance := m.escrow(consumer).Balance.Nano()
				if outstanding+most*hourCosts > balance {
					break // the cluster refuses it
				}
				nonce++
				order := m.order(consumer, nonce, none)
				order.MaxCost = chain.Nano(most * hourCosts)
				order.Deadline = m.env.Now + chain.TimeMs(rapid.SampledFrom([]uint64{1, hour, delay - window, delay - window}).Draw(rt, "deadline"))
				outstanding += most * hourCosts
				pass(1) // the escrow is read at a block's end: what is withdrawn is withdrawn in a later one
				open = append(open, promised{order, rapid.SampledFrom([]uint64{0, most, most}).Draw(rt, "used")})
			case 4:
				if len(open) > 0 {
					claim(rapid.IntRange(0, len(open)-1).Draw(rt, "which"))
				}
			default:
				pass(rapid.SampledFrom([]uint64{1, hour, 13 * hour, 30 * hour}).Draw(rt, "ms"))
			}
			m.checkConserved(rt)
		}
	})
}

// try enters what was done, if it was.
func (m *market) try(e chain.Event, why *chain.Rejection) {
	if why == nil {
		m.events = append(m.events, e)
	}
}

// TestFactsStay: the records of a node and of its consumer are what facts that were settled make of them, whatever is withdrawn, unbonded
// and registered again under another owner meanwhile.
func TestFactsStay(t *testing.T) {
	facts := map[chain.ExitStatus]match.Fact{chain.ExitOK: match.FactCompleted, chain.ExitTime: match.FactLate, chain.ExitFailed: match.FactFailed, chain.ExitMemory: match.FactFailed}
	exits := []chain.ExitStatus{chain.ExitOK, chain.ExitTime, chain.ExitFailed, chain.ExitMemory, chain.ExitCancelled}
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		var ofNode, ofConsumer match.Record
		owner, target := byte(4), key(cluster).Public()
		m.deposit(consumer, chain.Hyper(100))
		lease := m.deal(consumer, 1<<32, 40, 1_000, chain.Hyper(100)) // for years
		m.open(lease)
		check := func() {
			if got, want := m.known(40), ofNode.At(m.env.Now); got != want {
				rt.Fatalf("the node's facts are %+v, want %+v", got, want)
			}
			if got, want := m.knownConsumer(), ofConsumer.At(m.env.Now); got != want {
				rt.Fatalf("the consumer's facts are %+v, want %+v", got, want)
			}
		}
		for nonce := range rapid.Uint64Range(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				m.deposit(consumer, chain.Nano(rapid.Uint64Range(1, 20_000_000).Draw(rt, "deposit")))
			case 1:
				m.try(settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: target, Amount: m.escrow(consumer).Balance}))
			case 2:
				if _, why := settlement.UnbondProvider(m.kv, &m.env, account(owner), chain.UnbondProvider{Node: key(40).Public()}); why == nil {
					owner = rapid.SampledFrom([]byte{4, 5, 6}).Draw(rt, "owner")
					m.register(owner, 40)
				}
			case 3:
				m.pass(rapid.SampledFrom([]uint64{1, delay + 1, 40 * delay}).Draw(rt, "ms"))
			case 4:
				if events, why := settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: idOf(lease)}); why == nil {
					burned := events[0].(chain.LeasePaid).Burned
					ofNode.Add(m.env.Now, match.FactPaid, burned)
					ofConsumer.Add(m.env.Now, match.FactPaid, burned)
				}
			default:
				c := m.claim(m.order(consumer, nonce, none), 40, 1)
				c.Receipt.Exit = rapid.SampledFrom(exits).Draw(rt, "exit")
				for _, e := range m.settle(c) {
					settled, paid := e.(chain.ClaimSettled)
					if fact, known := facts[settled.Exit]; paid && known {
						ofNode.Add(m.env.Now, fact, settled.Burned)
						ofConsumer.Add(m.env.Now, fact, settled.Burned)
					}
				}
			}
			check()
		}
		m.try(settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: target, Amount: m.escrow(consumer).Balance}))
		m.pass(40 * delay)
		m.next(1 << 40) // nothing of the consumer's money is left, when the lease ends
		for _, e := range m.expire(1) {
			if paid, ok := e.(chain.LeasePaid); ok {
				ofNode.Add(m.env.Now, match.FactCompleted, paid.Burned)
				ofConsumer.Add(m.env.Now, match.FactCompleted, paid.Burned)
			}
		}
		check()
	})
}
