package execution_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// deepOnes are operations that make others look at as much as they can: cold accounts,
// full lists, the largest records.
func deepOnes(p prepared) []operation {
	byDeep := func(name string, first int, want verdict, m chain.Msg) operation {
		return operation{name: name, want: want, txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasDeep)
			for i := range txs {
				txs[i] = w.txOf(deepKey(first+i), m)
			}
			return txs
		}}
	}
	elsewhere := validatorKey(3).Public()
	return slices.Concat(coldOnes(), largeOnes(), deepClaims(p), []operation{
		byDeep("withdraw_rewards/63 moves", gasDeep, either, chain.WithdrawRewards{Validator: deepAt()}),
		byDeep("undelegate/63 moves", gasDeep, accepted, chain.Undelegate{Validator: deepAt(), Amount: chain.Hyper(5)}),
		byDeep("withdraw_rewards/63 ripe moves", 0, accepted, chain.WithdrawRewards{Validator: deepAt()}),
		byDeep("undelegate/63 ripe moves", 0, accepted, chain.Undelegate{Validator: deepAt(), Amount: chain.Hyper(500)}),
		byDeep("redelegate/63 ripe moves", 0, accepted, chain.Redelegate{From: deepAt(), To: elsewhere, Amount: chain.Hyper(500)}),
		{name: "bond/full roll", on: fillRoll, txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(4, func(_ int, from key) chain.Msg { return w.bondOf(from) })
		}},
		{name: "report_evidence/255 at fault", on: accuse, want: either, txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(1, func(int, key) chain.Msg {
				return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(w.doubleVotes(0, 7))}
			})
		}},
		{name: "report_evidence/known", want: either, txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(16, func(int, key) chain.Msg { // of one: what the first says is known to the others
				return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(w.doubleVotes(0, 7))}
			})
		}},
	})
}

func coldOnes() []operation {
	several := func(n int) func(w *gasWorld) []*chain.VerifiedTx {
		return func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasUsers)
			for i := range txs {
				messages := make([]chain.Msg, n)
				for j := range messages {
					messages[j] = chain.Transfer{To: w.cold(), Amount: chain.Nano(1)}
				}
				txs[i] = w.txOf(w.users[i], messages...)
			}
			return txs
		}
	}
	return []operation{
		{name: "transfer/cold", cold: true, txs: several(1)},
		{name: "transfer/16 cold", cold: true, txs: several(chain.MaxMessages)},
	}
}

func largeOnes() []operation {
	endpoint := strings.Repeat("e", chain.MaxEndpoint-5)
	return []operation{
		oneOf("bond/large", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m := w.bondOf(from)
			m.Name = strings.Repeat("n", chain.MaxValidatorName)
			return m
		}),
		oneOf("register_provider/large", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m, _ := w.providerOf(from)
			m.Region = strings.Repeat("r", chain.MaxRegion)
			return m
		}),
		oneOf("register_cluster/large", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m, _ := w.clusterOf(from)
			m.Endpoints = nil
			for i := range chain.MaxEndpoints {
				m.Endpoints = append(m.Endpoints, fmt.Sprint("https://", i, endpoint)[:chain.MaxEndpoint])
			}
			return m
		}),
	}
}

// largeClaim is one of every resource, at a price of a unit.
func (w *gasWorld) largeClaim(policy chain.Policy, nonce uint64, node key, price uint64) chain.Claim {
	c := w.recentClaim(policy, nonce, node)
	c.Order.Caps, c.Receipt.Usage = nil, nil
	for _, r := range chain.Resources {
		c.Order.Caps = append(c.Order.Caps, chain.UnitPrice{Resource: r, Price: price})
		c.Receipt.Usage = append(c.Receipt.Usage, chain.Usage{Resource: r, Amount: 1_000, DurationMs: 3_600_000})
	}
	c.Bid.Prices = c.Order.Caps
	w.resign(&c, node)
	return c
}

// deepClaims are claims of all resources, of orders with many others, and out of escrows
// that many withdrawals have left.
func deepClaims(p prepared) []operation {
	full := func(w *gasWorld, i int) chain.Claim { return w.recentClaim(attested, uint64(7_000+i), p.nodes[63]) }
	return []operation{
		oneOf("claim/large", 32, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.Settle{Claims: []chain.Claim{w.largeClaim(attested, uint64(8_000+i), nodeA, 100)}}
		}),
		{name: "claim/order of 64", txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(32, func(i int, _ key) chain.Msg { return chain.Settle{Claims: []chain.Claim{full(w, i)}} })
		}, on: func(w *gasWorld, kv *state.Overlay) {
			for i := range 32 {
				o := full(w, i).Order
				book := settlement.Order{
					Consumer: o.ConsumerAddress(), Cluster: o.Cluster, Policy: o.Policy, MaxCost: o.MaxCost, Deadline: o.Deadline, Expires: o.Deadline + 1,
				}
				for _, node := range p.nodes[:settlement.MaxOrderClaims-1] {
					book.Assignments = append(book.Assignments, settlement.Assignment{Node: node.Public(), Next: 2})
				}
				state.Save(kv, settlement.OrderKey(o.ID()), book)
			}
		}},
		{name: "claim/16 withdrawals", txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(32, func(i int, _ key) chain.Msg {
				return chain.Settle{Claims: []chain.Claim{w.recentClaim(attested, uint64(6_000+i), nodeA)}}
			})
		}, on: func(w *gasWorld, kv *state.Overlay) {
			key := settlement.EscrowKey(consumer.address(), cluster.Public())
			e := settlement.EscrowOf(kv, consumer.address(), cluster.Public())
			part := chain.Nano(e.Balance.Nano() / settlement.MaxWithdrawals)
			for n := range settlement.MaxWithdrawals {
				at := w.now + chain.TimeMs(100_000+n)
				e.Withdrawals = append(e.Withdrawals, at)
				tokens.Mature(kv, at, key, tokens.Maturing{To: consumer.address(), Amount: part})
			}
			e.Balance = chain.Amount{}
			state.Save(kv, key, e)
		}},
	}
}

// fillRoll has as many validators stand for committees as may, those beside the world's
// with little stake.
func fillRoll(w *gasWorld, kv *state.Overlay) {
	template, _ := staking.ValidatorOf(kv, validatorKey(1).Public())
	count := []byte{staking.Prefix, 'i'}
	n, _ := state.Load[uint64](kv, count)
	for i := 0; n < staking.MaxRegistered; i++ {
		v := template
		v.ID = numbered('r', i).Public()
		v.ConsensusKey, v.NodeKey, v.Stake = v.ID, numbered('R', i).Public(), chain.Hyper(uint64(10_000+i))
		v.Shares, v.SelfShares, v.JailedUntil = v.Stake.Nano(), v.Stake.Nano(), 0
		state.Save(kv, staking.ValidatorKey(v.ID), v)
		state.Save(kv, append([]byte{staking.Prefix, 'l'}, v.ID[:]...), v.ID)
		n++
	}
	state.Save(kv, count, n)
}

// accuse convicts all validators but one of a fault that cost them next to nothing: the
// next conviction raises what all of them lose.
func accuse(_ *gasWorld, kv *state.Overlay) {
	_, members, _ := staking.CommitteeOf(kv, 1)
	for i := range members {
		m := &members[i]
		if m.ID == validatorKey(0).Public() {
			continue
		}
		v, _ := staking.ValidatorOf(kv, m.ID)
		v.Tombstoned = true
		state.Save(kv, staking.ValidatorKey(m.ID), v)
		state.Save(kv, append([]byte{staking.Prefix, 'f'}, m.ID[:]...), staking.Fault{
			Owner: m.Owner, Epoch: 1, View: 7, Last: 1, Weight: m.Weight, Total: uint64(len(members)) * m.Weight, RatePpm: 1,
		})
	}
}

// The work that blocks do for what was paid for before, each entry of a queue; and the
// close of an epoch, with as many validators as may be.
const (
	queueMatured  = "queue/matured"
	queueReleased = "queue/released"
	queueExpired  = "queue/expired"
	queueLease    = "queue/lease"
	queueChannel  = "queue/channel"
	epochClose    = "block/closing an epoch"
)

// queued measures the work of queues that are due, of so many entries each.
func (w *gasWorld) queued(d disk) map[string]float64 {
	const entries = 1_000
	fill := map[string]func(w *gasWorld, kv *state.Overlay){
		queueMatured: func(w *gasWorld, kv *state.Overlay) {
			for range entries {
				to := w.cold()
				tokens.Mature(kv, w.now, to[:], tokens.Maturing{To: to, Amount: chain.Nano(5)})
			}
		},
		queueReleased: func(w *gasWorld, kv *state.Overlay) {
			for i := range entries {
				id, to := validatorKey(i%gasValidators).Public(), w.cold()
				state.Save(kv, staking.QueueKey(ripe, id, to), uint64(5))
				pool, _ := state.Load[staking.Pool](kv, staking.UnbondingKey(id, ripe))
				pool.Shares, pool.Stake = pool.Shares+5, chain.Nano(pool.Stake.Nano()+5)
				state.Save(kv, staking.UnbondingKey(id, ripe), pool)
			}
		},
		queueExpired: func(w *gasWorld, kv *state.Overlay) {
			for i := range entries / 2 { // with a claim each, of a message of its own
				o := w.claim(attested, uint64(20_000+i), nodeA).Order
				id := o.ID()
				state.Save(kv, settlement.OrderKey(id), settlement.Order{
					Consumer: o.ConsumerAddress(), Cluster: o.Cluster, Policy: o.Policy, Expires: w.now,
					Assignments: []settlement.Assignment{{Node: nodeA.Public(), Next: 2}}, First: &settlement.Claim{Node: nodeA.Public()},
				})
				at := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 'x'}, uint64(w.now))
				kv.Set(append(at, id[:]...), []byte{})
			}
		},
	}
	fill[queueChannel] = func(w *gasWorld, kv *state.Overlay) { endChannels(w, kv, entries) }
	out := map[string]float64{}
	empty := w.measure(nil, accepted, 1<<30)
	for name, on := range fill { // order-free: each its own
		k := w.take(operation{name: name, on: on, txs: func(*gasWorld) []*chain.VerifiedTx { return nil }})
		count := float64(entries)
		if name == queueExpired {
			count /= 2
		}
		if k.deletes < int(count) {
			w.Fatalf("%s: %d records were deleted, want %.0f at least", name, k.deletes, count)
		}
		k.txs = 1
		out[name] = k.perTx(empty, d) / count
	}
	w.ahead = day
	k := w.take(operation{on: fillRoll, txs: func(*gasWorld) []*chain.VerifiedTx { return nil }})
	w.ahead = 0
	k.txs = 1
	out[epochClose] = k.perTx(empty, d)
	return out
}
