package execution_test

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// What draws and deadlines take, the dearest of each.
const (
	queueDraw     = "queue/draw"              // a panel of nine
	queuePeers    = "queue/draw/peers"        // of a lease
	queueBreach   = "queue/deadline/breach"   // as many losses as are paid at one time, and more wait
	queueRuns     = "queue/deadline/runs"     // a panel finds all of sixteen runs wrong, and each slash moves a node on the roll
	queueOwed     = "queue/deadline/owed"     // sixteen runs and thirteen jurors are paid that nobody had paid: 13 shares of 18
	queueHardware = "queue/deadline/hardware" // a challenge that nobody posted anything of
)

// The nodes beside the world's own, which nobody has read for long: with as little free of
// their bonds as lets a juror in, or, three of four, with nothing.
const (
	rollCrowd = 100_000
	rollBond  = 1 << 33 // nHYPER: the least of its class
	rollClass = 34
)

// lostAtOnce is how many of those who lost by a breach are paid in one block.
const lostAtOnce = 16

// rolled is the i-th of them.
func rolled(i int) (node crypto.PublicKey) {
	binary.BigEndian.PutUint64(node[:], uint64(i%rollCrowd+1)*0x9e3779b97f4a7c15)
	return node
}

// rolledOwner is the account of its owner.
func rolledOwner(i int) chain.Address { return crowdOf(warm + i%rollCrowd) }

// poor returns another of them that has nothing free.
func (w *gasWorld) poor() int {
	w.more++
	i := int(uint64(w.more) * 0x9e3779b97f4a7c15 >> 20 % rollCrowd)
	if i%4 == 0 {
		i++
	}
	return i
}

// fillRolls has the nodes of the crowd stand on the roll of the store.
func (s *gasStore) fillRolls() {
	lens, ok := state.Load[[]uint64](s.state, []byte{settlement.Prefix, 'V'})
	if !ok || len(lens) <= rollClass || lens[rollClass] != 0 {
		s.Fatal("the world's own nodes are not on the roll, or have the bond of others")
	}
	const perBlock = 25_000
	for first := 0; first < rollCrowd; first += perBlock {
		s.change(2*first, 2*perBlock, func(k int) state.Change {
			i := k / 2
			node, seat := rolled(i), uint64(rollClass)<<56|uint64(i+1)
			if k%2 == 0 {
				return state.Change{Key: binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 'v'}, seat), Value: node[:]}
			}
			p := settlement.Provider{Owner: rolledOwner(i), Bond: chain.Nano(rollBond), Locked: chain.Nano(rollBond), Region: "eu", Millicores: 4_000, MemoryMiB: 4_096, Seat: seat}
			if i%4 == 0 {
				p.Locked = chain.Nano(rollBond - chain.DefaultParams().JurorSlice.Nano())
			}
			return saved(settlement.ProviderKey(node), p)
		})
	}
	lens[rollClass] = rollCrowd
	s.change(0, 1, func(int) state.Change { return saved([]byte{settlement.Prefix, 'V'}, lens) })
}

// saved is the change that saving a record makes.
func saved[T any](key []byte, record T) state.Change {
	kv := state.NewOverlay(state.NewMemoryBackend())
	state.Save(kv, key, record)
	return kv.Changes()[0]
}

// unique is a name that nothing has yet.
func (w *gasWorld) unique() crypto.Digest {
	w.more++
	return crypto.DomainOrder.Hash(binary.BigEndian.AppendUint64([]byte("unique"), uint64(w.more)))
}

// drawNext queues a draw for the next block.
func (w *gasWorld) drawNext(kv *state.Overlay, part byte, id crypto.Digest) {
	at := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 'd'}, uint64(w.height+1))
	kv.Set(append(append(at, part), id[:]...), []byte{})
}

// dueNext queues a deadline for the next block, and returns its time.
func (w *gasWorld) dueNext(kv *state.Overlay, part byte, id crypto.Digest) uint64 {
	head, err := execution.HeadOf(kv)
	if err != nil {
		w.Fatal(err)
	}
	at := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 't'}, head.ProgressMs)
	kv.Set(append(append(at, part), id[:]...), []byte{})
	return head.ProgressMs
}

// awaitPanels has claims wait for panels of appeal, which the next block draws.
func awaitPanels(w *gasWorld, kv *state.Overlay, entries int) {
	for range entries {
		id := w.unique()
		state.Save(kv, settlement.OpenClaimKey(id), settlement.OpenClaim{
			Claim: settlement.Claim{Node: nodeA.Public(), Provider: ownerA.address(), Sequence: 1}, Consumer: consumer.address(), Cluster: cluster.Public(),
			Bond: chain.Hyper(40), Stage: settlement.InAppeal, Draw: w.height + 1, Challenger: &settlement.Party{By: ownerB.address()},
			Policy: chain.PolicyField{Policy: chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(40)}},
		})
		w.drawNext(kv, 'a', id)
	}
}

// awaitPeers has leases wait for peers, which the next block draws.
func awaitPeers(w *gasWorld, kv *state.Overlay, entries int) {
	for range entries {
		id := chain.LeaseID{Node: rolled(w.poor()), Order: w.unique()}
		state.Save(kv, settlement.LeaseKey(id), settlement.Lease{
			Consumer: consumer.address(), Provider: ownerA.address(), Cluster: cluster.Public(), Order: id.Order, Since: w.now, Expires: w.now + day, Promised: true,
		})
		state.Save(kv, settlement.ServiceKey(id.Order), settlement.Service{Node: id.Node, Terms: gasTerms, Stake: gasTerms.Stake, Drawing: true})
		w.drawNext(kv, 's', id.Order)
	}
}

// divideBreaches has breaches be divided, of each of which more is lost than is paid in one
// block: the rest is carried over. It is the last time, in which losses are deleted.
func divideBreaches(w *gasWorld, kv *state.Overlay, entries int) {
	const losses = 2*lostAtOnce + 8
	for range entries {
		id := w.unique()
		due := w.dueNext(kv, 'y', id)
		state.Save(kv, settlement.BreachKey(crypto.PublicKey(id)), settlement.Breach{
			Held: chain.Hyper(1), Due: due, Division: &settlement.Division{Most: chain.Nano(1_000), Last: true},
		})
		for range losses {
			node, owner := w.unique(), w.cold()
			state.Save(kv, slices.Concat([]byte{settlement.Prefix, 'Y'}, id[:], node[:], owner[:]), chain.Nano(2_000))
		}
	}
}

// judgeRuns has panels decide by their deadline that all runs of an order are wrong, of nodes
// whose bonds are the least of their class.
func judgeRuns(w *gasWorld, kv *state.Overlay, entries int) {
	stake := chain.Nano(chain.DefaultParams().JurorSlice.Nano() / 2)
	policy := chain.PolicyField{Policy: chain.PolicyReplicate{K: chain.MaxReplicas, N: chain.MaxReplicas, Stake: stake, WindowMs: 60_000}}
	for range entries {
		id := w.unique()
		name := settlement.RunsPanel(id)
		panel := settlement.Panel{Of: 'g', Subject: id, Seats: 3, Slice: stake, Due: w.dueNext(kv, 'j', name), Revealing: true}
		vote := &chain.Vote{Finding: chain.FoundResult, Result: crypto.Digest{1}}
		for n := range 3 {
			i := w.poor()
			j := settlement.Juror{Node: rolled(i), Owner: rolledOwner(i), Staked: stake, Commitment: crypto.Digest{1}, Vote: vote}
			if n == 2 {
				j.Vote = nil // it does not show it in time
			}
			panel.Jurors = append(panel.Jurors, j)
		}
		state.Save(kv, settlement.PanelKey(name), panel)
		book := settlement.Order{Consumer: consumer.address(), Cluster: cluster.Public(), Policy: policy, MaxCost: chain.Hyper(1), Expires: w.now + day}
		runs := settlement.Runs{Stage: settlement.StagePanel, Checked: true, Rounds: 1}
		for range chain.MaxReplicas {
			i := w.poor()
			node := rolled(i)
			runs.Runs = append(runs.Runs, settlement.Run{
				Bidder: settlement.Bidder{Node: node}, Owner: rolledOwner(i), State: settlement.RunShown, Staked: true, Commitment: crypto.Digest{1},
			})
			state.Save(kv, settlement.ClaimKey(chain.ClaimKey{Order: id, Node: node, Sequence: 1}), settlement.Claim{
				Node: node, Provider: rolledOwner(i), Sequence: 1, Result: crypto.Digest{2}, Exit: chain.ExitOK, Pending: &settlement.Replica{},
			})
			book.Assignments = append(book.Assignments, settlement.Assignment{Node: node, Next: 2})
		}
		state.Save(kv, settlement.OrderKey(id), book)
		state.Save(kv, settlement.RunsKey(id), runs)
	}
}

// payOwed has runs be owed, and jurors, for so long that blocks pay them.
func payOwed(w *gasWorld, kv *state.Overlay, entries int) {
	policy := chain.PolicyField{Policy: chain.PolicyReplicate{K: chain.MaxReplicas, N: chain.MaxReplicas, Stake: chain.Hyper(1), WindowMs: 60_000}}
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	usage := []chain.Usage{{Resource: chain.CPU, Amount: 1, DurationMs: 1_000}}
	for range entries {
		id := w.unique()
		home := settlement.EscrowKey(consumer.address(), cluster.Public())
		escrow, _ := state.Load[settlement.Escrow](kv, home)
		held := chain.Nano(1_000)
		escrow.Elsewhere, _ = escrow.Elsewhere.Add(held)
		state.Save(kv, home, escrow)
		book := settlement.Order{
			Consumer: consumer.address(), Cluster: cluster.Public(), Policy: policy, MaxCost: held, Expires: w.now + day, Payees: chain.MaxReplicas,
		}
		runs := settlement.Runs{Stage: settlement.StageOwed, Checked: true, Rounds: 1, Held: held, Due: w.dueNext(kv, 'g', id)}
		for n := range chain.MaxReplicas {
			i := w.poor()
			node := rolled(i)
			runs.Runs = append(runs.Runs, settlement.Run{Bidder: settlement.Bidder{Node: node, Prices: prices}, Owner: rolledOwner(i), State: settlement.RunShown, Commitment: crypto.Digest{1}})
			runs.Owed = append(runs.Owed, uint8(n))
			state.Save(kv, settlement.ClaimKey(chain.ClaimKey{Order: id, Node: node, Sequence: 1}), settlement.Claim{
				Node: node, Provider: rolledOwner(i), Sequence: 1, Result: crypto.Digest{2}, Exit: chain.ExitOK, Pending: &settlement.Replica{Prices: prices, Usage: usage},
			})
			book.Assignments = append(book.Assignments, settlement.Assignment{Node: node, Next: 2})
		}
		for range 13 {
			runs.Jurors = append(runs.Jurors, rolledOwner(w.poor()))
		}
		state.Save(kv, settlement.OrderKey(id), book)
		state.Save(kv, settlement.RunsKey(id), runs)
	}
}

// endChallenges has challenges of hardware be over.
func endChallenges(w *gasWorld, kv *state.Overlay, entries int) {
	for range entries {
		node := rolled(w.poor())
		h := settlement.Hardware{Seed: crypto.Digest(node), Millicores: 4_000, Lanes: 4, MemoryMiB: 4_096, Due: w.dueNext(kv, 'u', crypto.Digest(node))}
		for range chain.MaxHardwarePeers {
			h.Peers = append(h.Peers, rolled(w.poor()))
		}
		state.Save(kv, settlement.HardwareKey(node), h)
	}
}

// forget has the database's cache of blocks full of others than those of the roll: what is
// measured is not what reading the same again takes.
func (w *gasWorld) forget() {
	for range 20_000 {
		if _, ok := w.reader.Get(tokens.AccountKey(w.cold())); !ok {
			w.Fatal("one of the crowd has no account")
		}
	}
}

// scattered measures ends of leases, draws and deadlines: each block another, as what they
// read is anywhere.
func (w *gasWorld) scattered(d disk) map[string]float64 {
	out := map[string]float64{}
	empty := w.measure(nil, accepted, 1<<30)
	patience := w.patience
	w.patience = 0
	defer func() { w.patience = patience }()
	for name, fill := range map[string]func(*gasWorld, *state.Overlay, int){
		queueLease: endLeases, queueDraw: awaitPanels, queuePeers: awaitPeers, queueBreach: divideBreaches, queueRuns: judgeRuns, queueOwed: payOwed, queueHardware: endChallenges,
	} { // order-free: each its own
		entries := 8
		if name == queueLease || name == queueHardware {
			entries = 400
		}
		for range 8 {
			w.forget()
			k := w.take(operation{
				name: name, on: func(w *gasWorld, kv *state.Overlay) { fill(w, kv, entries) }, txs: func(*gasWorld) []*chain.VerifiedTx { return nil },
			})
			want := entries
			if name == queueBreach {
				want *= 1 + lostAtOnce
			}
			if k.deletes < want {
				w.Fatalf("%s: %d records were deleted, want %d at least", name, k.deletes, want)
			}
			k.txs = 1
			out[name] = least(out, name, k.perTx(empty, d)/float64(entries))
		}
	}
	return out
}
