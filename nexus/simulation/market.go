package simulation

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// market places a trace's tasks by the scheduler: every machine is a node of an
// owner of its own, all bid the same prices, at once, and what decides is where
// the work fits.
type market struct {
	*replay
	state  *scheduler.State
	nodes  []crypto.PublicKey
	byNode map[crypto.PublicKey]int
	orders []crypto.Digest // by task
	byJob  map[crypto.Digest]int
}

const (
	chainID    chain.ChainID = "simulation-1"
	endless                  = 1 << 50 // ms
	auditEvery               = 1_000   // tasks
)

// digest names a thing of a simulation.
func digest(kind string, n int) crypto.Digest {
	return crypto.DomainNexusTie.Hash(fmt.Appendf(nil, "simulation %s %d", kind, n))
}

func clusterKey() crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{1}) }

func consumerKey(n int) crypto.AccountKey {
	return crypto.AccountKeyOf(crypto.PrivateKeyFromSeed([32]byte{2, byte(n), byte(n >> 8)}).Public())
}

// schedulerConfig has bounds for a simulation of some jobs.
func schedulerConfig(nodes, jobs int) scheduler.Config {
	c := scheduler.DefaultConfig(&chain.Genesis{ChainID: chainID, Params: chain.DefaultParams()}, clusterKey().Public())
	c.WithdrawalDelayMs = 2 * endless
	c.MaxNodes, c.MaxJobs, c.MaxPerConsumer, c.MaxActive, c.MaxOutbox = max(c.MaxNodes, nodes), jobs, jobs, jobs, jobs
	c.MaxOutboxOf, c.MaxSpecBytes, c.MaxSpecBytesOf = jobs, jobs*job.MaxSpecBytes, jobs*job.MaxSpecBytes
	return c
}

var allPrices = []chain.UnitPrice{
	{Resource: chain.CPU, Price: 1_000_000_000}, {Resource: chain.Memory, Price: 100_000_000}, {Resource: chain.Network, Price: 1_000_000_000},
	{Resource: chain.GPU, Price: 1_000_000_000_000},
}

func newMarket(r *replay) *market {
	trace := r.options.Trace
	config := schedulerConfig(len(trace.Machines), len(trace.Tasks))
	if r.options.Sample > 0 {
		config.Sample = r.options.Sample
	}
	m := &market{
		replay: r, state: scheduler.New(config), byNode: map[crypto.PublicKey]int{}, byJob: map[crypto.Digest]int{},
		orders: make([]crypto.Digest, len(trace.Tasks)),
	}
	for i := range trace.Machines {
		machine := &trace.Machines[i]
		node := crypto.PublicKey(digest("node", i))
		m.nodes = append(m.nodes, node)
		m.byNode[node] = i
		m.apply(scheduler.NodeUp{Node: node, Hello: job.Hello{
			ChainID: chainID, Owner: chain.Address(digest("owner", i)), GPUKind: machine.Kind, Accepting: true,
			Total: job.Resources{Millicores: machine.Millicores, MemoryMiB: machine.MemoryMiB, GPUs: uint64(machine.Devices)},
		}})
	}
	return m
}

// apply carries out a command and, at once, everything that follows.
func (m *market) apply(c scheduler.Command) {
	commands := []scheduler.Command{c}
	for len(commands) > 0 {
		now := chain.TimeMs(1 + m.clock.Now()/second)
		effects, errs := m.state.Apply(scheduler.Entry{TimeMs: now, Commands: commands})
		for i, err := range errs {
			if err != nil {
				m.violated("%T is refused: %v", commands[i], err)
			}
		}
		commands = nil
		for _, e := range effects {
			switch e := e.(type) {
			case scheduler.OpenAuction:
				closing := scheduler.CloseAuction{Order: e.Order, Auction: e.Auction}
				for _, node := range e.Candidates {
					closing.Bids = append(closing.Bids, scheduler.SignedBid{Bid: chain.Bid{ChainID: chainID, Order: e.Order, Node: node, Prices: allPrices, Expiry: endless}})
				}
				commands = append(commands, closing)
			case scheduler.SendAssign:
				m.put(m.byJob[e.Assignment.Order.ID()], spot{machine: m.byNode[e.Node], devices: e.Assignment.Devices})
			case scheduler.Post:
				item := m.state.Outbox(e.Cursor-1, 1)[0]
				commands = append(commands, scheduler.Confirmed{Order: item.Order})
			case scheduler.SendAck:
				if e.Refuse != "" {
					m.violated("an end is refused: %s", e.Refuse)
				}
			case scheduler.SendCancel:
				m.violated("task %d is ended: %s", m.byJob[e.Order], e.Reason)
			}
		}
	}
}

func (m *market) arrive(task int) {
	t := &m.options.Trace.Tasks[task]
	limits := job.DefaultLimits()
	limits.MemoryBytes, limits.WallMs = 1<<20, min(t.Works, job.MaxWallMs)
	spec := job.Spec{
		Work: job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}}}, InputBytes: 1, Limits: limits,
		Resources:  job.Resources{Millicores: t.Millicores, MemoryMiB: t.MemoryMiB, GPUs: t.Devices, GPUMilli: t.ShareMilli},
		Scheduling: job.Scheduling{GPUKind: t.Kind},
	}
	order := chain.Order{
		ChainID: chainID, Consumer: consumerKey(0), Nonce: m.options.Seed<<32 | uint64(task), Cluster: clusterKey().Public(), Spec: spec.Digest(),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: allPrices, MaxCost: chain.Hyper(1_000), Deadline: endless,
	}
	m.orders[task] = order.ID()
	m.byJob[m.orders[task]] = task
	m.apply(scheduler.Submit{Order: order, Spec: spec, Escrow: chain.Hyper(1_000 * uint64(len(m.orders))), TimeMs: endless})
	if task%auditEvery == 0 {
		m.state.Audit()
	}
}

func (m *market) leave(task, machine int) {
	j, ok := m.state.Job(m.orders[task])
	if !ok {
		m.violated("the job of task %d is forgotten", task)
		return
	}
	now := chain.TimeMs(1 + m.clock.Now()/second)
	outcome := job.Outcome{Exit: chain.ExitOK, WallMs: m.options.Trace.Tasks[task].Works}
	assignment := job.Assignment{Order: j.Order, Bid: chain.Bid{Node: m.nodes[machine]}, Spec: j.Spec, Sequence: 1}
	m.apply(scheduler.Finished{Done: job.Done{Receipt: assignment.Receipt(&outcome, now, now)}})
}

// end checks that nobody waits for whom there is room.
func (m *market) end() {
	m.state.Audit()
	for _, j := range m.state.Open() {
		task := m.byJob[j.ID()]
		if _, placed := m.model.placed[task]; !placed && m.model.somewhere(&m.options.Trace.Tasks[task]) {
			m.violated("task %s waits, and a machine has room for it: %s", m.options.Trace.Tasks[task].Name, m.state.Reason(j))
		}
	}
}
