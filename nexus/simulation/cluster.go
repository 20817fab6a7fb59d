package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// ClusterOptions say what a simulated cluster does.
type ClusterOptions struct {
	Agents int
	Jobs   int
	Seed   uint64
	Rate   int         // jobs a second
	Churn  bool        // agents fail, are cut off and come back
	Stop   func() bool // asked now and then: true ends the run, which is then violated; nil: never
}

// ClusterReport is what came of a simulated cluster. Times are simulated.
type ClusterReport struct {
	Agents     int      `json:"agents"`
	Jobs       int      `json:"jobs"`
	Seed       uint64   `json:"seed"`
	Rate       int      `json:"rate_per_s"`
	Accepted   int      `json:"accepted"`
	Refused    int      `json:"refused"`
	Settled    int      `json:"settled"`
	Failed     int      `json:"failed"`
	Placements int      `json:"placements"` // assignments, of which some are lost
	Lost       int      `json:"lost"`       // of them
	Declined   int      `json:"declined"`   // auctions that found too few bids
	Entries    int      `json:"entries"`    // of the log
	Commands   int      `json:"commands"`   // in them
	Violations []string `json:"violations"` // of the package's invariants, the first of them

	PlaceP50 float64 `json:"placed_p50_ms"` // from the submission to the first assignment
	PlaceP99 float64 `json:"placed_p99_ms"`
	PlaceMax float64 `json:"placed_max_ms"`
	Used     float64 `json:"cpu_used"` // share of the processors of connected agents, on average while jobs come
	Crashes  int     `json:"crashes"`
	Cuts     int     `json:"cuts"`
	Seconds  float64 `json:"simulated_seconds"`
	StateKiB int     `json:"snapshot_kib"` // of the state, at its end
}

// What the world around the scheduler takes.
const (
	entryEvery    = 5 * time.Millisecond // from a command to its entry: others join it
	window        = 50 * time.Millisecond
	patience      = 4 * window // for bids that do not come
	tickEvery     = time.Second
	grace         = 10 * time.Second // until an agent that went is given up
	delayMin      = 2 * time.Millisecond
	delayMax      = 60 * time.Millisecond
	settleMin     = 500 * time.Millisecond
	settleMax     = 4 * time.Second
	patienceMs    = 480_000 // a job's deadline
	settled       = 60_000  // ms for which a settled job is kept
	meanUptime    = time.Hour
	meanAway      = 2 * time.Minute
	consumers     = 64
	auditsOfAll   = 5
	maxViolations = 10
	stopEvery     = 1_024
)

// cluster is a world around a scheduler.
type cluster struct {
	options ClusterOptions
	clock   *sim.Clock
	rand    *sim.Rand
	state   *scheduler.State
	agents  []*agent
	byNode  map[crypto.PublicKey]*agent
	specs   []job.Spec
	keys    []crypto.AccountKey
	cluster crypto.PublicKey

	inbox   []scheduler.Command
	waiting bool // an entry is on its way
	came    map[crypto.Digest]time.Duration
	paid    map[crypto.Digest]bool
	waits   []time.Duration
	coming  int
	used    float64
	samples int
	report  ClusterReport
}

// agent is a simulated provider's node.
type agent struct {
	node    crypto.PublicKey
	owner   chain.Address
	total   job.Resources
	free    job.Resources
	delay   time.Duration // one way
	factor  uint64        // of its prices, in percent
	up      bool
	life    uint64 // counts its crashes
	session uint64 // counts its connections
	running map[crypto.Digest]*task
	ended   map[crypto.Digest]job.Done
}

// task is an assignment at an agent.
type task struct {
	resources job.Resources
	life      uint64
}

// RunCluster runs a simulated cluster until every job has come to its end.
func RunCluster(o ClusterOptions) ClusterReport {
	config := schedulerConfig(o.Agents, o.Jobs)
	config.RetentionMs = settled
	c := &cluster{
		options: o, clock: sim.NewClock(), rand: sim.NewRand(o.Seed), state: scheduler.New(config),
		byNode: map[crypto.PublicKey]*agent{}, came: map[crypto.Digest]time.Duration{}, paid: map[crypto.Digest]bool{},
		cluster: clusterKey().Public(), coming: o.Jobs,
		report: ClusterReport{Agents: o.Agents, Jobs: o.Jobs, Seed: o.Seed, Rate: o.Rate, Violations: []string{}},
	}
	for i := range consumers {
		c.keys = append(c.keys, consumerKey(i))
	}
	c.specs = workloads()
	c.start()
	for steps := 0; c.coming > 0 || c.report.Settled+c.report.Failed < c.report.Accepted; steps++ {
		if o.Stop != nil && steps%stopEvery == 0 && o.Stop() {
			c.violated("interrupted")
			return c.report
		}
		if !c.clock.Step() {
			c.violated("%d of %d jobs never ended", c.report.Accepted-c.report.Settled-c.report.Failed, c.report.Accepted)
			break
		}
	}
	c.finish()
	return c.report
}

// workloads are the kinds of jobs that come, one as often as the other.
func workloads() []job.Spec {
	var out []job.Spec
	for i, r := range []job.Resources{
		{Millicores: 250, MemoryMiB: 128}, {Millicores: 500, MemoryMiB: 256}, {Millicores: 1_000, MemoryMiB: 512}, {Millicores: 1_000, MemoryMiB: 2_048},
		{Millicores: 2_000, MemoryMiB: 1_024}, {Millicores: 2_000, MemoryMiB: 4_096}, {Millicores: 4_000, MemoryMiB: 2_048}, {Millicores: 4_000, MemoryMiB: 8_192},
	} {
		limits := job.DefaultLimits()
		limits.MemoryBytes = 64 << 20
		out = append(out, job.Spec{
			Label: fmt.Sprintf("simulated %d", i), Work: job.WorkField{Work: job.Wasm{Module: digest("module", i)}},
			InputBytes: 1 << 20, Resources: r, Limits: limits, Scheduling: job.Scheduling{Class: job.Class(i % 3)},
		})
	}
	return out
}

func (c *cluster) violated(format string, args ...any) {
	if len(c.report.Violations) < maxViolations {
		c.report.Violations = append(c.report.Violations, fmt.Sprintf(format, args...))
	}
}

// start connects the agents and plans the jobs.
func (c *cluster) start() {
	for i := range c.options.Agents {
		cores := []uint64{4, 8, 8, 16}[c.rand.Below(4)]
		a := &agent{
			node: crypto.PublicKey(digest("node", i)), owner: chain.Address(digest("owner", i)), delay: c.rand.Between(delayMin, delayMax)/2 + time.Millisecond,
			total: job.Resources{Millicores: 1_000 * cores, MemoryMiB: 2_048 * cores}, factor: uint64(50 + c.rand.Below(50)),
			running: map[crypto.Digest]*task{}, ended: map[crypto.Digest]job.Done{},
		}
		a.free = a.total
		c.agents = append(c.agents, a)
		c.byNode[a.node] = a
		c.connect(a)
		if c.options.Churn {
			c.plan(a)
		}
	}
	c.clock.After(tickEvery, c.tick)
	c.clock.After(tickEvery, func() { c.arrive(0) }) // once the agents are there
}

func (c *cluster) now() chain.TimeMs { return chain.TimeMs(1 + c.clock.Now()/time.Millisecond) }

// propose puts a command into the next entry of the log.
func (c *cluster) propose(commands ...scheduler.Command) {
	c.inbox = append(c.inbox, commands...)
	if !c.waiting && len(c.inbox) > 0 {
		c.waiting = true
		c.clock.After(entryEvery, c.apply)
	}
}

// apply carries out an entry.
func (c *cluster) apply() {
	c.waiting = false
	batch := c.inbox[:min(len(c.inbox), scheduler.MaxCommands)]
	rest := c.inbox[len(batch):]
	c.inbox = nil
	c.propose(rest...)
	effects, errs := c.state.Apply(scheduler.Entry{TimeMs: c.now(), Commands: batch})
	c.report.Entries++
	c.report.Commands += len(batch)
	for i, command := range batch {
		c.answer(command, errs[i])
	}
	for _, e := range effects {
		c.execute(e)
	}
}

// answer is what whoever proposed a command learns.
func (c *cluster) answer(command scheduler.Command, err error) {
	switch command := command.(type) {
	case scheduler.NodeUp, scheduler.NodeDown, scheduler.NodeLoad, scheduler.Refused, scheduler.Finished, scheduler.CancelJob, scheduler.SetSettings, scheduler.Tick, scheduler.LeaseSeen,
		scheduler.MadePledge, scheduler.Observed, scheduler.FoundMiss, scheduler.ClosedMiss, scheduler.Revealed:
		if err != nil {
			c.violated("%T is refused: %v", command, err)
		}
	case scheduler.Submit:
		if err != nil {
			c.report.Refused++
			if r, _ := errors.AsType[*scheduler.Rejection](err); r == nil || r.Rule != "full" {
				c.violated("an order is refused: %v", err)
			}
			return
		}
		c.report.Accepted++
	case scheduler.Confirmed:
		c.report.Settled++
	case scheduler.CloseAuction:
		if j, ok := c.state.Job(command.Order); ok && j.Backoff {
			c.report.Declined++
		}
	}
}

// execute does what the leader would.
func (c *cluster) execute(e scheduler.Effect) {
	switch e := e.(type) {
	case scheduler.OpenAuction:
		c.hold(e)
	case scheduler.SendAssign:
		c.assign(e)
	case scheduler.SendCancel:
		a := c.byNode[e.Node]
		c.reach(a, func() { a.drop(e.Order) })
	case scheduler.SendAck:
		a := c.byNode[e.Node]
		c.reach(a, func() { delete(a.ended, e.Order) })
	case scheduler.Post:
		item := c.state.Outbox(e.Cursor-1, 1)[0]
		if c.paid[item.Order] {
			c.violated("job %s is paid twice", item.Order.Short())
		}
		c.paid[item.Order] = true
		c.clock.After(c.rand.Between(settleMin, settleMax), func() {
			c.propose(scheduler.Confirmed{Order: item.Order})
		})
	}
}

// reach has something happen at an agent, if its session lasts until then.
func (c *cluster) reach(a *agent, do func()) {
	session := a.session
	c.clock.After(a.delay, func() {
		if a.up && a.session == session {
			do()
		}
	})
}

// hold asks the candidates for bids and closes the auction as a leader does: when
// all have answered, when its window is over and there are bids enough, or when
// they will not come.
func (c *cluster) hold(e scheduler.OpenAuction) {
	intime, silent, last := 0, false, time.Duration(0)
	for _, node := range e.Candidates {
		a := c.byNode[node]
		answer := 2 * a.delay
		last = max(last, answer)
		silent = silent || !a.up
		if a.up && answer <= window {
			intime++
		}
	}
	closes := last
	switch {
	case (silent || last > window) && intime >= e.Want:
		closes = window
	case silent:
		closes = patience
	}
	closing := scheduler.CloseAuction{Order: e.Order, Auction: e.Auction, Bids: make([]scheduler.SignedBid, 0, len(e.Candidates))}
	for _, node := range e.Candidates {
		if a := c.byNode[node]; a.up && 2*a.delay <= closes {
			closing.Bids = append(closing.Bids, scheduler.SignedBid{Bid: chain.Bid{
				ChainID: chainID, Order: e.Order, Node: node, Prices: prices[a.factor], Expiry: c.now() + patienceMs,
			}})
		}
	}
	c.clock.After(closes, func() { c.propose(closing) })
}

// prices are what a node asks that asks so many percent of the caps.
var prices = func() (out [101][]chain.UnitPrice) {
	for factor := range out {
		for _, p := range allPrices[:3] {
			out[factor] = append(out[factor], chain.UnitPrice{Resource: p.Resource, Price: p.Price * uint64(factor) / 100})
		}
	}
	return out
}()

// assign gives an agent its work.
func (c *cluster) assign(e scheduler.SendAssign) {
	id := e.Assignment.Order.ID()
	c.report.Placements++
	if came, first := c.came[id]; first {
		c.waits = append(c.waits, c.clock.Now()-came)
		delete(c.came, id)
	}
	a := c.byNode[e.Node]
	c.reach(a, func() {
		if _, again := a.running[id]; again {
			return
		}
		if _, again := a.ended[id]; again {
			return
		}
		r := e.Assignment.Spec.Resources
		if a.free.Millicores < r.Millicores || a.free.MemoryMiB < r.MemoryMiB {
			c.violated("agent %s is given more than it has", a.node.Short())
			return
		}
		a.free.Millicores -= r.Millicores
		a.free.MemoryMiB -= r.MemoryMiB
		t := &task{resources: r, life: a.life}
		a.running[id] = t
		began := c.now()
		c.clock.After(c.rand.Between(time.Second, 179*time.Second), func() { c.end(a, t, &e.Assignment, began) })
	})
}

// end is the end of a task, unless the agent crashed or was told to stop.
func (c *cluster) end(a *agent, t *task, as *job.Assignment, began chain.TimeMs) {
	id := as.Order.ID()
	if a.running[id] != t {
		return
	}
	a.drop(id)
	outcome := job.Outcome{Exit: chain.ExitOK, WallMs: uint64(c.now() - began), PeakMemoryBytes: 1 << 20}
	done := job.Done{Receipt: as.Receipt(&outcome, began, c.now())}
	a.ended[id] = done
	if a.up {
		c.clock.After(a.delay, func() { c.propose(scheduler.Finished{Done: done}) })
	}
}

// drop ends what an agent runs of an order.
func (a *agent) drop(id crypto.Digest) {
	if t := a.running[id]; t != nil {
		a.free.Millicores += t.resources.Millicores
		a.free.MemoryMiB += t.resources.MemoryMiB
		delete(a.running, id)
	}
}

// connect begins a session.
func (c *cluster) connect(a *agent) {
	a.up = true
	a.session++
	session := a.session
	c.clock.After(a.delay, func() {
		if a.session != session || !a.up {
			return
		}
		h := job.Hello{ChainID: chainID, Owner: a.owner, Region: "eu", Total: a.total, Accepting: true}
		for id := range a.running { // order-free: sorted below
			h.Running = append(h.Running, id)
		}
		for id := range a.ended { // order-free: sorted below
			h.Finished = append(h.Finished, id)
		}
		slices.SortFunc(h.Running, crypto.Digest.Compare)
		slices.SortFunc(h.Finished, crypto.Digest.Compare)
		c.propose(scheduler.NodeUp{Node: a.node, Hello: h})
		for _, id := range h.Finished {
			c.propose(scheduler.Finished{Done: a.ended[id]})
		}
	})
}

// plan has an agent go at some time: it crashes and forgets what it ran, or it
// is cut off and works on.
func (c *cluster) plan(a *agent) {
	c.clock.After(c.rand.Between(0, 2*meanUptime), func() {
		a.up = false
		session := a.session
		if c.rand.Chance(300) {
			c.report.Crashes++
			a.life++
			a.free = a.total
			clear(a.running)
		} else {
			c.report.Cuts++
		}
		c.clock.After(grace, func() {
			if a.session == session {
				c.propose(scheduler.NodeDown{Node: a.node})
			}
		})
		c.clock.After(c.rand.Between(0, 2*meanAway), func() {
			c.connect(a)
			c.plan(a)
		})
	})
}

// arrive submits the i-th job, and plans the next.
func (c *cluster) arrive(i int) {
	spec := &c.specs[c.rand.Below(len(c.specs))]
	order := chain.Order{
		ChainID: chainID, Consumer: c.keys[c.rand.Below(consumers)], Nonce: uint64(i), Cluster: c.cluster, Spec: spec.Digest(),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: allPrices[:3], MaxCost: chain.Hyper(1), Deadline: c.now() + patienceMs,
	}
	c.came[order.ID()] = c.clock.Now()
	c.coming--
	c.propose(scheduler.Submit{Order: order, Spec: *spec, Escrow: chain.Hyper(uint64(c.options.Jobs)), TimeMs: c.now()})
	if i+1 < c.options.Jobs {
		mean := time.Second / time.Duration(c.options.Rate)
		c.clock.After(c.rand.Between(0, 2*mean), func() { c.arrive(i + 1) })
	}
}

// tick lets time pass for the state, and looks at how busy the agents are.
func (c *cluster) tick() {
	if c.state.Due(c.now()) {
		c.propose(scheduler.Tick{})
	}
	c.clock.After(tickEvery, c.tick)
	if c.coming == 0 {
		c.countFailed()
		return
	}
	total, used := uint64(0), uint64(0)
	for _, a := range c.agents {
		if a.up {
			total += a.total.Millicores
			used += a.total.Millicores - a.free.Millicores
		}
	}
	c.used += share(used, total)
	c.samples++
	if every := max(1, c.options.Jobs/c.options.Rate/auditsOfAll); c.samples%every == 0 {
		c.state.Audit()
	}
}

// countFailed counts the jobs that ended without payment: nothing else tells.
func (c *cluster) countFailed() {
	open := len(c.state.Open())
	c.report.Failed = c.report.Accepted - c.report.Settled - open
}

func (c *cluster) finish() {
	c.state.Audit()
	c.report.StateKiB = len(c.state.Encode()) >> 10
	c.report.Seconds = c.clock.Now().Seconds()
	c.report.Used = c.used / float64(max(1, c.samples))
	for _, n := range c.state.Nodes() {
		c.report.Lost += int(n.Lost)
	}
	if c.report.Accepted+c.report.Refused != c.options.Jobs {
		c.violated("%d jobs are accepted and %d refused of %d", c.report.Accepted, c.report.Refused, c.options.Jobs)
	}
	slices.Sort(c.waits)
	if n := len(c.waits); n > 0 {
		inMs := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		c.report.PlaceP50, c.report.PlaceP99, c.report.PlaceMax = inMs(c.waits[(n+1)/2-1]), inMs(c.waits[(n*99+99)/100-1]), inMs(c.waits[n-1])
	}
}
