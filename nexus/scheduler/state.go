package scheduler

import (
	"fmt"
	"math"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// Stage is how far an assignment is.
type Stage uint8

// The stages. A live assignment holds resources of its node.
const (
	Live       Stage = iota + 1 // sent to the node
	Ended                       // its signed end is here
	Lost                        // the node went away, refused or came too late, or was told to stop
	Pledged                     // under replicate: it is done, and bound to a receipt that it has not shown
	Refuted                     // under optimistic: the chain refuted its claim
	stageCount = iota + 1
)

// String names the stage in lower case.
func (s Stage) String() string {
	names := [stageCount]string{"", "live", "ended", "lost", "pledged", "refuted"}
	if s == 0 || int(s) >= stageCount {
		return fmt.Sprintf("Stage(%d)", uint8(s))
	}
	return names[s]
}

// Run is a job's assignment to one node.
type Run struct {
	_         struct{} `cbor:",toarray"`
	Node      crypto.PublicKey
	Owner     chain.Address
	Bid       chain.Bid
	BidSig    crypto.Signature
	Devices   []byte // numbers of the node's GPUs that it holds
	Stage     Stage
	Blameless bool // with Lost: the cluster ended it, through no fault of the node
	Since     chain.TimeMs
	Placed    chain.TimeMs
	Done      *job.Done // with Ended
	Reason    string    // with Lost and Refuted

	Commitment crypto.Digest // with Pledged, and with Ended after it
	CommitSig  crypto.Signature
	Key        *chain.OutputKey // with Ended, of a sealed output, once the node has shown it
}

// Place is room on a node that is kept for a job while its auction is open.
type Place struct {
	_       struct{} `cbor:",toarray"`
	Node    crypto.PublicKey
	Devices []byte // numbers of the node's GPUs that it holds
	Evict   bool   // nothing is held yet: runs that may be preempted would have to end
	Picked  *SignedBid
}

// SettlementRecord is what the chain paid for a job.
type SettlementRecord struct {
	_        struct{} `cbor:",toarray"`
	Txs      []crypto.Digest
	Height   chain.Height
	Cost     chain.Amount
	Burned   chain.Amount
	Priority chain.Amount // of Cost, the priority fee
	Nodes    []crypto.PublicKey
	Proof    bool // a proof was verified
}

// Job is an accepted order on its way.
type Job struct {
	_          struct{} `cbor:",toarray"`
	Order      chain.Order
	OrderSig   crypto.Signature
	Acceptance chain.Acceptance
	Spec       job.Spec
	Status     job.Status
	Reason     string          // why it failed, or waits; State.Reason says more of one that waits for capacity
	Arrival    uint64          // its number among all jobs ever
	Submitted  chain.TimeMs    //
	Changed    chain.TimeMs    // of the status
	Auction    uint64          // number of the open or last auction
	Places     []Place         // kept for the open auction
	Reserved   uint64          // places when the auction was opened
	RetryAt    chain.TimeMs    // of the next auction whatever happens, while waiting; 0: none is planned
	Backoff    bool            // until RetryAt capacity that comes free does not matter
	Declined   uint64          // auctions in a row that found too few bids
	Rushed     uint64          // auctions in a row that were held again at once
	Queued     bool            // no node had room for it
	Avoids     []chain.Address // owners that it may not be given to, while it is queued
	Parked     bool            // its consumer has as many active jobs as it may
	Started    bool            // it was assigned before: it is no longer one of its gang
	Blocked    crypto.Digest   // of the first member of a gang that is queued: the member that no node had room for; zero: there was one for each, and not for all
	Short      uint64          // of the same: places that were missing, less those that may have come since
	Waits      []crypto.Digest
	Input      crypto.Digest // once the order that it waits for as input has ended
	InputNode  crypto.PublicKey
	Runs       []Run
	Outbox     uint64      // cursor, once settling
	Slate      []SignedBid // under replicate: of its last auction, the primary's first
	OnChain    Replication // under replicate: what the chain said last; under optimistic: whether it has the claim
	Settlement *SettlementRecord
	Held       chain.TimeMs // until when a final job's cap stays outstanding; zero: it does not
	Leased     bool         // the chain has its lease, or had it: its cap is no longer in the escrow
	Spent      chain.Amount // of its cap, for claims that were refuted: what the chain could not give back

	// What follows from the above.
	id       crypto.Digest
	consumer chain.Address
	size     int // of the specification
	active   bool
	backed   bool   // it is in State.backed
	touched  uint64 // the newest entry that changed it
	timer    place  // in State.timers; zero: none
	group    *group
	inBack   bool     // in State.backoff
	counted  heldRoom // of Account.unopened

	resizes  *Job // the lease that it is to resize, while neither has ended
	resizing *Job // of a lease: who is to resize it
	resized  *Job // of a lease: who did last, whose resources it holds
}

// ID returns the order's id, which is the job's.
func (j *Job) ID() crypto.Digest { return j.id }

// Consumer returns the address of the order's consumer.
func (j *Job) Consumer() chain.Address { return j.consumer }

// Node is an agent as the cluster knows it.
type Node struct {
	_         struct{} `cbor:",toarray"`
	ID        crypto.PublicKey
	Owner     chain.Address
	Region    string
	Total     job.Resources
	Used      job.Resources // by live assignments and by places kept for auctions
	GPUKind   string
	Kernels   []string
	Connected bool
	Accepting bool
	Finished  uint64       // assignments that it ended
	Lost      uint64       // assignments that it lost
	Premium   uint64       // what its reputation on the chain adds to its factor, as of when it came last
	Record    *Capacity    // what the chain has of it: it is given no more; what runs there beyond that stays
	Slot      uint64       // in the index
	Strikes   uint64       // assignments that it failed, less those that it ended since
	HeldUntil chain.TimeMs // it is given nothing before; zero: it is not held back
	HeldFor   string       // why
	Returns   chain.TimeMs // until when the times that it came back are paid for: see comeBack

	// What follows from the jobs.
	devices   match.Devices // what is free of each
	jobs      []*Job        // with a live run or a place here, in order of arrival
	evictable int           // live runs of preemptible jobs
	preemptor *Job          // whose auction may end such runs here
	gained    bool          // it is in State.gained
	seen      uint64        // the newest sample that it is in
	counted   counted       // what State.census has of it
}

// Account is a consumer at this cluster.
type Account struct {
	_           struct{} `cbor:",toarray"`
	Consumer    chain.Address
	Sequence    uint64 // of its last acceptance, see nextSequence
	Outstanding chain.Amount
	Kept        uint64       // its jobs that the state holds
	Settled     chain.Height // of the newest settlement, or beginning under replicate, of its jobs
	Since       chain.TimeMs // what its escrow held before says nothing: caps that time let go could be spent until then
	Lapsed      chain.TimeMs // until when the times are made up for that leases held room which it did not open
	LapsedTo    chain.TimeMs // up to when such times are counted

	unopened  heldRoom
	active    int // jobs in auctions or running
	outbox    int // jobs whose claims wait for the chain
	specBytes int // of its jobs
	doneBytes int // of those with nothing due
	first     int // groups that a job of its is the first of
	parked    ordered[*Job]
	jobs      ordered[*Job] // that are kept, the newest first
	done      ordered[*Job] // that are final with nothing due, in order of arrival
}

// shapeCount is how often work of one shape came lately.
type shapeCount struct {
	_         struct{} `cbor:",toarray"`
	Resources job.Resources
	Count     uint64
}

// State is a cluster's whole state. Make it with New or Restore.
type State struct {
	config   Config
	now      chain.TimeMs
	jobs     map[crypto.Digest]*Job
	nodes    map[crypto.PublicKey]*Node
	accounts map[chain.Address]*Account
	cursor   uint64       // of the newest outbox entry ever
	misses   []Miss       // to be posted, by ascending cursor
	auctions uint64       // number of the newest auction ever
	arrivals uint64       // number of the newest job ever
	floor    uint64       // no acceptance of a forgotten account has a higher sequence
	settled  chain.Height // no settlement of a forgotten account is newer
	since    chain.TimeMs // nor is Since of one later
	shapes   []shapeCount // of work with GPUs

	settingsVersion uint64 // of config.Settings

	// What follows from the above.
	census     census
	specBytes  int           // of the jobs' specifications together
	done       ordered[*Job] // final, with nothing due, in order of arrival
	doneBytes  int           // of their specifications
	pastOrders map[crypto.Digest]*Past
	past       ordered[*Past] // by deadline
	pastOf     map[chain.Address]int
	all        ordered[*Job] // the newest first
	byStatus   [job.Cancelled + 1]int
	open       ordered[*Job]  // jobs that are not final, in order of arrival
	backed     ordered[*Job]  // those of them for which a part of the cluster's bond is promised, or locked
	outbox     ordered[*Job]  // jobs whose claims are to be posted, by ascending cursor
	timers     ordered[*Job]  // by when a Tick has something to do for it
	holds      ordered[*Node] // that are held back, by until when
	backoff    ordered[*Job]  // jobs that wait after an auction that failed, in order of arrival
	groups     map[groupKey]*group
	queue      ordered[*group] // by the rank of their first jobs
	gangs      map[gangKey]*gang
	dependents map[crypto.Digest]*ordered[*Job] // that wait for an order, in order of arrival
	slots      []*Node
	connected  int
	index      index
	samples    uint64
	popular    []match.Shape // from shapes

	// What the command under way has left to do.
	gained    []*Node    // something came free there
	freed     []*Account // a job of theirs is no longer active
	ended     []*Job     // others may wait for them
	displaced []*Job     // preempted
	explained int        // jobs of which it has been said what excluded which nodes

	entries uint64 // applied since the state was made or restored
	touched []*Job // by the newest of them
}

// New returns the state of a cluster that has seen nothing.
func New(config Config) *State {
	return &State{
		config: config, jobs: map[crypto.Digest]*Job{}, nodes: map[crypto.PublicKey]*Node{}, accounts: map[chain.Address]*Account{}, pastOrders: map[crypto.Digest]*Past{}, pastOf: map[chain.Address]int{},
		groups: map[groupKey]*group{}, gangs: map[gangKey]*gang{}, dependents: map[crypto.Digest]*ordered[*Job]{},
	}
}

// Now returns the newest time that a command carried.
func (s *State) Now() chain.TimeMs { return s.now }

// Job returns a job; treat it as read-only.
func (s *State) Job(id crypto.Digest) (*Job, bool) {
	j, ok := s.jobs[id]
	return j, ok
}

// newest is a job's place in a list of the newest first.
func (j *Job) newest() place { return place{arrival: ^j.Arrival} }

// Newest calls f for a consumer's jobs, or everybody's for the zero address, the
// newest first, until it returns false: those that arrived before the one with
// that number, or all of them for 0. Treat them as read-only.
func (s *State) Newest(consumer chain.Address, before uint64, f func(*Job) bool) {
	list := &s.all
	if !consumer.IsZero() {
		account := s.accounts[consumer]
		if account == nil {
			return
		}
		list = &account.jobs
	}
	if before == 0 {
		list.each(f)
		return
	}
	list.after(place{arrival: ^before}, f)
}

// Count returns how many jobs have a status.
func (s *State) Count(status job.Status) int { return s.byStatus[status] }

// OpenCount returns how many jobs are not final.
func (s *State) OpenCount() int { return s.open.n }

// Touched returns the jobs of which the newest entry changed the status or a
// run, until the next one; treat them as read-only.
func (s *State) Touched() []*Job { return s.touched }

// Nodes returns the known nodes by ascending id; treat them as read-only.
func (s *State) Nodes() []*Node {
	out := make([]*Node, 0, len(s.nodes))
	for _, n := range s.nodes { // order-free: sorted below
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *Node) int { return a.ID.Compare(b.ID) })
	return out
}

// Node returns a known node; treat it as read-only.
func (s *State) Node(id crypto.PublicKey) (*Node, bool) {
	n := s.nodes[id]
	return n, n != nil
}

// EachNode calls f for every known node, in no order that means anything; treat
// them as read-only.
func (s *State) EachNode(f func(*Node)) {
	for _, n := range s.slots {
		if n != nil {
			f(n)
		}
	}
}

// Connected returns how many nodes have a session.
func (s *State) Connected() int { return s.connected }

// Outstanding returns the total of a consumer's caps that are not final.
func (s *State) Outstanding(consumer chain.Address) chain.Amount {
	if a := s.accounts[consumer]; a != nil {
		return a.Outstanding
	}
	return chain.Amount{}
}

// Backed has each called with every job for which a part of the cluster's bond is promised, or locked; to be treated
// as read-only.
func (s *State) Backed(each func(j *Job)) {
	s.backed.each(func(j *Job) bool {
		each(j)
		return true
	})
}

// EscrowFrom returns as of which block, and of which time, what was read of a
// consumer's escrow counts: not before the newest settlement of a job of its that
// is known, nor from a time when caps that were let go since could still be spent.
// If what the consumer had here is forgotten, anybody's stand for its own.
func (s *State) EscrowFrom(consumer chain.Address) (chain.Height, chain.TimeMs) {
	if a := s.accounts[consumer]; a != nil {
		return a.Settled, a.Since
	}
	return s.settled, s.since
}

// Open returns the jobs that are not final, in order of arrival; treat them as
// read-only.
func (s *State) Open() []*Job {
	out := make([]*Job, 0, s.open.n)
	s.open.each(func(j *Job) bool {
		out = append(out, j)
		return true
	})
	return out
}

// OpenAfter calls f for the jobs that are not final and arrived after the one of
// a number, in order, until it returns false, and reports whether it came to the
// end. Treat them as read-only.
func (s *State) OpenAfter(arrival uint64, f func(*Job) bool) bool {
	return s.open.after(place{arrival: arrival}, f)
}

// OutboxItem is a job whose claims are to be posted, once the cluster has signed
// their acceptances and attestations.
type OutboxItem struct {
	Cursor uint64
	Order  crypto.Digest
	Claims []chain.Claim
	Runs   []chain.Msg // under replicate, and about service terms
	Seen   bool        // the chain was seen to have the claim, under optimistic
}

// Outbox returns up to limit items with a cursor above after.
func (s *State) Outbox(after uint64, limit int) []OutboxItem {
	var out []OutboxItem
	s.outbox.after(place{at: after, arrival: ^uint64(0)}, func(j *Job) bool {
		if len(out) == limit {
			return false
		}
		if !j.locked() {
			out = append(out, OutboxItem{Cursor: j.Outbox, Order: j.id, Claims: j.Claims(), Runs: j.Messages()})
		}
		return true
	})
	return s.withMisses(out, after, limit)
}

// Unsettled returns so many jobs at most whose claims the chain may have got, those that come after a cursor of the outbox,
// and the cursor after which others may be; 0: there are none. They are those of the outbox, and those whose node
// keeps the key of the output to itself and may post its claim alone.
func (s *State) Unsettled(after uint64, limit int) (list []OutboxItem, next uint64) {
	s.outbox.after(place{at: after, arrival: math.MaxUint64}, func(j *Job) bool {
		if claims := j.Claims(); len(claims) > 0 {
			list = append(list, OutboxItem{Cursor: j.Outbox, Order: j.id, Claims: claims, Seen: j.OnChain.Begun})
		}
		return len(list) < limit
	})
	if len(list) == limit {
		next = list[limit-1].Cursor
	}
	return list, next
}

// Due reports whether a Tick at that time would change anything: an auction to
// be tried again, a run that takes too long, a node that was held back long
// enough, a time that is over.
func (s *State) Due(now chain.TimeMs) bool {
	if s.holds.n > 0 {
		if at, _ := s.holds.first(); at.at <= uint64(now) {
			return true
		}
	}
	if s.timers.n == 0 {
		return false
	}
	at, _ := s.timers.first()
	return at.at <= uint64(now)
}

// Request returns what a job with this specification asks of a node.
func Request(spec *job.Spec) match.Request {
	r := match.Request{
		Millicores: spec.Resources.Millicores, MemoryMiB: spec.Resources.MemoryMiB, GPUs: spec.Resources.GPUs, GPUMilli: spec.Resources.GPUMilli,
		Region: spec.Region, GPUKind: spec.Scheduling.GPUKind,
	}
	if k, ok := spec.Work.Work.(job.Kernel); ok {
		r.Kernel = string(k.Name)
	}
	if _, ok := spec.Work.Work.(job.Container); ok {
		r.Kernel = job.KindContainer
	}
	return r
}
