package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// snapshot is the state's encoding: lists in a fixed order, in parts, because
// the codec bounds the elements of an array.
type snapshot struct {
	_        struct{} `cbor:",toarray"`
	Now      chain.TimeMs
	Jobs     [][]Job // by arrival
	Nodes    [][]Node
	Accounts [][]Account
	Shapes   []shapeCount
	Cursor   uint64
	Auctions uint64
	Arrivals uint64
	Floor    uint64
	Settled  chain.Height
	Since    chain.TimeMs
	Past     [][]Past // by deadline
	Misses   []Miss
	Version  uint64 // of the settings
	Settings job.Settings
}

// Form is the version of what servers keep of the state: the encodings of Entry and of the snapshot, and what the state
// makes of them. Whoever changes one raises it: another program's log, read by this one, would give another state, or
// lose commands. A test holds it against testdata/form.golden.
const Form = "5"

const snapshotPart = 4_096 // elements

func inParts[T any](list []*T) [][]T {
	var parts [][]T
	for part := range slices.Chunk(list, snapshotPart) {
		copied := make([]T, len(part))
		for i, v := range part {
			copied[i] = *v
		}
		parts = append(parts, copied)
	}
	return parts
}

// Encode returns the canonical bytes of the whole state, for a raft snapshot.
// It panics if an invariant is broken.
func (s *State) Encode() []byte {
	s.Audit()
	jobs := make([]*Job, 0, len(s.jobs))
	for _, j := range s.jobs { // order-free: sorted below
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, byArrival)
	accounts := make([]*Account, 0, len(s.accounts))
	for _, a := range s.accounts { // order-free: sorted below
		accounts = append(accounts, a)
	}
	slices.SortFunc(accounts, func(a, b *Account) int { return a.Consumer.Compare(b.Consumer) })
	return codec.Marshal(snapshot{
		Now: s.now, Jobs: inParts(jobs), Nodes: inParts(s.Nodes()), Accounts: inParts(accounts), Shapes: s.shapes,
		Cursor: s.cursor, Auctions: s.auctions, Arrivals: s.arrivals, Floor: s.floor, Settled: s.settled, Since: s.since, Past: s.pastList(),
		Misses: s.misses, Version: s.settingsVersion, Settings: s.config.Settings,
	})
}

// Restore returns the state that Encode wrote.
func Restore(config Config, raw []byte) (*State, error) {
	var snap snapshot
	if err := codec.Unmarshal(raw, &snap, len(raw)); err != nil {
		return nil, fmt.Errorf("scheduler: snapshot: %w", err)
	}
	s := New(config)
	s.config.Settings, s.settingsVersion = snap.Settings, snap.Version
	s.now, s.shapes, s.cursor, s.auctions, s.arrivals = snap.Now, snap.Shapes, snap.Cursor, snap.Auctions, snap.Arrivals
	s.floor, s.settled, s.since, s.misses = snap.Floor, snap.Settled, snap.Since, snap.Misses
	s.learn()
	for _, part := range snap.Nodes {
		for i := range part {
			s.restoreNode(&part[i])
		}
	}
	for _, part := range snap.Accounts {
		for i := range part {
			s.accounts[part[i].Consumer] = &part[i]
		}
	}
	for _, part := range snap.Past {
		for i := range part {
			s.remember(&part[i])
		}
	}
	var jobs []*Job
	for _, part := range snap.Jobs {
		for i := range part {
			jobs = append(jobs, &part[i])
		}
	}
	slices.SortFunc(jobs, byArrival)
	known := make(map[crypto.Digest]*Job, len(jobs))
	for _, j := range jobs {
		j.id, j.consumer, j.size = j.Order.ID(), j.Order.ConsumerAddress(), len(j.Spec.Encode())
		known[j.id] = j
		if err := j.restoreResize(known); err != nil {
			return nil, err
		}
	}
	for _, j := range jobs {
		if err := s.restoreJob(j); err != nil {
			return nil, err
		}
	}
	for key, g := range s.groups { // order-free: each follows from its gang, all of whose members are here now
		if key.gang != (gangKey{}) {
			_, first := g.jobs.first()
			g.asks = s.asks(first)
		}
	}
	for _, n := range s.slots {
		if n != nil {
			s.reindex(n)
		}
	}
	s.Audit()
	return s, nil
}

func (s *State) restoreNode(n *Node) {
	for uint64(len(s.slots)) <= n.Slot {
		s.slots = append(s.slots, nil)
	}
	s.slots[n.Slot] = n
	s.nodes[n.ID] = n
	n.devices = slices.Repeat([]uint16{job.GPUWhole}, int(n.Total.GPUs))
	n.Used = job.Resources{} // its jobs take it again
	s.countNode(n)
	if n.Connected {
		s.connected++
	}
	if n.HeldUntil != 0 {
		s.holds.put(n.holdPlace(), n)
	}
}

// restoreJob derives what follows from a job.
func (s *State) restoreJob(j *Job) error {
	if s.accounts[j.consumer] == nil {
		return fmt.Errorf("scheduler: snapshot: job %s has no account", j.id.Short())
	}
	s.list(j)
	s.recount(0, j.Status)
	if j.Status.Final() {
		if j.Held == 0 {
			s.retire(j)
		}
		s.reschedule(j)
		s.countUnopened(j)
		return nil
	}
	s.open.put(place{arrival: j.Arrival}, j)
	if j.Outbox != 0 {
		s.post(j)
	}
	for i := range j.Runs {
		if run := &j.Runs[i]; run.Stage == Live {
			n := s.nodes[run.Node]
			s.census.live++
			s.take(n, j, run.Devices)
			if j.Spec.Scheduling.Preemptible {
				n.evictable++
			}
		}
	}
	places := j.Places
	j.Places = nil
	for _, p := range places {
		s.keep(j, ranked{node: s.nodes[p.Node], devices: p.Devices}, p.Evict)
		j.Places[len(j.Places)-1].Picked = p.Picked
	}
	for _, id := range j.Waits {
		s.depend(j, id)
	}
	s.joinGang(j)
	switch {
	case j.Parked:
		s.accounts[j.consumer].parked.put(s.rankOf(j), j)
	case j.Backoff:
		j.inBack = true
		s.backoff.put(place{arrival: j.Arrival}, j)
	case j.Queued:
		request, _ := s.request(j)
		request.Failures = j.Avoids // the time of some may be over, and the Tick that says so to come
		s.enqueue(j, &request, j.RetryAt)
	}
	s.changed(j)
	return nil
}

// Audit panics if an invariant of the package comment is broken, or if what is
// derived from the state is not what follows from it. It looks at everything.
func (s *State) Audit() {
	used := map[crypto.PublicKey]job.Resources{}
	outstanding := map[chain.Address]chain.Amount{}
	active, kept := map[chain.Address]int{}, map[chain.Address]uint64{}
	shares := map[chain.Address][3]int{} // in the outbox, bytes, bytes of those with nothing due
	specBytes, open, backed, queued, done, doneBytes := 0, 0, 0, 0, 0, 0
	var byStatus [len(s.byStatus)]int
	for id, j := range s.jobs { // order-free: each is judged alone, and sums commute
		kept[j.consumer]++
		share := shares[j.consumer]
		share[1] += j.size
		if j.Status == job.Settling {
			share[0]++
		} else if j.Status.Final() && j.Held == 0 {
			share[2] += j.size
		}
		shares[j.consumer] = share
		byStatus[j.Status]++
		specBytes += j.size
		if !j.Status.Final() {
			open++
		}
		if j.Backed() {
			backed++
		}
		if j.Status.Final() && j.Held == 0 {
			done++
			doneBytes += j.size
		}
		if j.group != nil {
			queued++
		}
		if j.active {
			active[j.consumer]++
		}
		if (!j.Status.Final() || j.Held != 0) && !j.Covered() {
			sum, ok := outstanding[j.consumer].Add(j.Order.MaxCost)
			if !ok {
				panic(fmt.Sprintf("scheduler: the caps of %s overflow", j.consumer))
			}
			outstanding[j.consumer] = sum
		}
		s.auditJob(id, j, used)
	}
	s.auditNodes(used)
	for consumer, a := range s.accounts { // order-free: each is judged alone
		if a.Outstanding != outstanding[consumer] || a.active != active[consumer] || a.Kept != kept[consumer] || a.jobs.n != int(a.Kept) {
			panic(fmt.Sprintf("scheduler: %s has %s outstanding, %d jobs and %d active, its jobs sum to %s, %d and %d",
				consumer, a.Outstanding, a.Kept, a.active, outstanding[consumer], kept[consumer], active[consumer]))
		}
		if has := [3]int{a.outbox, a.specBytes, a.doneBytes}; has != shares[consumer] {
			panic(fmt.Sprintf("scheduler: %s has shares of %v, counted %v", consumer, has, shares[consumer]))
		}
	}
	if byStatus != s.byStatus || s.all.n != len(s.jobs) {
		panic(fmt.Sprintf("scheduler: %d jobs are listed, by status %v, counted %d, %v", s.all.n, s.byStatus, len(s.jobs), byStatus))
	}
	if backed != s.backed.n {
		panic(fmt.Sprintf("scheduler: a part of the bond is promised for %d jobs, counted %d", s.backed.n, backed))
	}
	if specBytes != s.specBytes || open != s.open.n || s.timers.n != len(s.jobs) {
		panic(fmt.Sprintf("scheduler: %d bytes of specifications, %d open jobs and %d timers for %d jobs, counted %d, %d",
			s.specBytes, s.open.n, s.timers.n, len(s.jobs), specBytes, open))
	}
	if done != s.done.n || doneBytes != s.doneBytes || len(s.pastOrders) != s.past.n || s.past.n > s.config.MaxPast {
		panic(fmt.Sprintf("scheduler: %d jobs of %d bytes may give way, counted %d of %d; %d and %d orders are remembered, limit %d",
			s.done.n, s.doneBytes, done, doneBytes, s.past.n, len(s.pastOrders), s.config.MaxPast))
	}
	s.auditQueue(queued)
}

// auditJob checks one job, and adds what it holds.
func (s *State) auditJob(id crypto.Digest, j *Job, used map[crypto.PublicKey]job.Resources) {
	hold := func(node crypto.PublicKey) {
		u := used[node]
		r := j.holds()
		u.Millicores += r.Millicores
		u.MemoryMiB += r.MemoryMiB
		u.GPUMilli += usedGPU(&r)
		used[node] = u
	}
	owners := map[chain.Address]bool{}
	live, ended := 0, 0
	for i := range j.Runs {
		run := &j.Runs[i]
		if run.Stage == Lost {
			continue
		}
		if owners[run.Owner] {
			panic(fmt.Sprintf("scheduler: owner %s has job %s twice", run.Owner, id.Short()))
		}
		owners[run.Owner] = true
		if run.Stage == Refuted {
			continue
		}
		if run.Stage == Ended || run.Stage == Pledged {
			ended++
			continue
		}
		live++
		hold(run.Node)
	}
	_, most := j.replicas()
	if ended > most || live+ended > most || live > 0 && j.Status.Final() || len(j.Places) > 0 && j.Status != job.Bidding {
		panic(fmt.Sprintf("scheduler: job %s, which is %s, has %d live runs, %d ended ones and %d places", id.Short(), j.Status, live, ended, len(j.Places)))
	}
	for i := range j.Places {
		if !j.Places[i].Evict {
			hold(j.Places[i].Node)
		}
	}
	waits := 0
	for _, state := range []bool{j.group != nil, j.Parked, j.Backoff, len(j.Waits) > 0} {
		if state {
			waits++
		}
	}
	idle := j.Status == job.Queued && !j.ganged()
	if waits > 1 || idle && waits == 0 || waits == 1 && !j.waiting() || j.Queued != (j.group != nil) || j.Backoff != j.inBack {
		panic(fmt.Sprintf("scheduler: job %s, which is %s, waits in %d ways", id.Short(), j.Status, waits))
	}
	if at := (place{at: uint64(s.dueAt(j)), arrival: j.Arrival}); at != j.timer {
		panic(fmt.Sprintf("scheduler: job %s is due at %d, and seen to at %d", id.Short(), at.at, j.timer.at))
	}
}

// auditNodes checks all nodes, and what consumers hold of them for leases that are not open, against what jobs hold.
func (s *State) auditNodes(used map[crypto.PublicKey]job.Resources) {
	s.auditUnopened()
	connected, held, c := 0, 0, census{}
	for id, n := range s.nodes { // order-free: each is judged alone, and sums commute
		s.auditNode(id, n, used[id])
		c.add(n.count(), 1)
		for _, j := range n.jobs {
			if j.liveOn(id) != nil {
				c.live++
			}
		}
		if n.Connected {
			connected++
		}
		if n.HeldUntil != 0 {
			held++
		}
	}
	if has := s.census; has.accepting != c.accepting || has.live != c.live || has.total != c.total || has.used != c.used || has.busiest.n != len(s.nodes) {
		panic(fmt.Sprintf("scheduler: the census is %d, %d, %+v, %+v, %d, counted %d, %d, %+v, %+v, %d",
			has.accepting, has.live, has.total, has.used, has.busiest.n, c.accepting, c.live, c.total, c.used, len(s.nodes)))
	}
	if connected != s.connected || held != s.holds.n {
		panic(fmt.Sprintf("scheduler: %d nodes are connected and %d held back, counted %d and %d", s.connected, s.holds.n, connected, held))
	}
}

// auditNode checks one node against what its jobs hold.
func (s *State) auditNode(id crypto.PublicKey, n *Node, used job.Resources) {
	if n.counted != n.count() {
		panic(fmt.Sprintf("scheduler: node %s is counted as %+v, it is %+v", id.Short(), n.counted, n.count()))
	}
	shares := uint64(0)
	for _, d := range n.devices {
		shares += job.GPUWhole - uint64(d)
	}
	if used != n.Used || used.Millicores > n.Total.Millicores || used.MemoryMiB > n.Total.MemoryMiB || shares != used.GPUMilli {
		panic(fmt.Sprintf("scheduler: node %s uses %+v of %+v and %d of its devices, its jobs hold %+v", id.Short(), n.Used, n.Total, shares, used))
	}
	var entry summary
	if n.open() {
		entry = summary{free: n.free(), evict: n.free(), marks: marksOf(n)}
		if n.preemptor == nil {
			entry.evict = n.evicted()
		}
	}
	if s.slots[n.Slot] != n || s.index.levels[s.index.size+int(n.Slot)] != entry {
		panic(fmt.Sprintf("scheduler: the index does not know node %s", id.Short()))
	}
}

// auditQueue checks that nobody waits in the queue who could be placed: no node
// fits a job that needs only one.
func (s *State) auditQueue(queued int) {
	count := 0
	first := map[chain.Address]int{}
	s.queue.each(func(g *group) bool {
		count += g.jobs.n
		_, j := g.jobs.first()
		first[j.consumer]++
		if s.groups[g.key] != g {
			panic("scheduler: a group is queued twice")
		}
		for _, n := range s.slots {
			if n == nil || g.key.want > 1 || g.key.gang != (gangKey{}) {
				continue
			}
			view := n.view()
			reach := view
			if n.preemptor == nil {
				reach.Free = n.evicted()
			}
			if g.served(&view, &reach) {
				panic(fmt.Sprintf("scheduler: job %s waits, and node %s could take it", j.id.Short(), n.ID.Short()))
			}
		}
		return true
	})
	for consumer, a := range s.accounts { // order-free: each is judged alone
		if a.first != first[consumer] {
			panic(fmt.Sprintf("scheduler: %s has %d different requests, counted %d", consumer, first[consumer], a.first))
		}
	}
	if count != queued || s.queue.n != len(s.groups) {
		panic(fmt.Sprintf("scheduler: %d jobs are queued in %d groups, counted %d in %d", queued, len(s.groups), count, s.queue.n))
	}
}
