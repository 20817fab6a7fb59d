package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// Config is the same on every replica of a cluster.
type Config struct {
	ChainID           chain.ChainID
	ClusterKey        crypto.PrivateKey
	Kernels           map[string]crypto.Digest // the verifying key that the chain pins of each
	ClaimWindowMs     uint64                   // the chain's parameter
	WithdrawalDelayMs uint64                   // the chain's parameter

	MaxJobs        int    // kept, final ones included
	MaxPerConsumer int    // of them of one consumer
	MaxSpecBytes   int    // of their specifications together
	MaxNodes       int    // known, connected or not
	MaxAccounts    int    // consumers with jobs that are kept
	MaxOutbox      int    // jobs whose claims wait for the chain
	MaxAttempts    int    // assignments of one job that may be lost or refused
	RetryMs        uint64 // between auctions of a job that found no taker
	FailureMs      uint64 // for which an owner whose node lost a job is not asked for it again; doubled each time
	RetentionMs    uint64 // for which a final job is kept
}

// DefaultConfig returns the bounds of a cluster on a chain.
func DefaultConfig(g *chain.Genesis, key crypto.PrivateKey) Config {
	kernels := map[string]crypto.Digest{}
	for _, k := range g.Kernels {
		kernels[k.Name] = k.VerifyingKey
	}
	return Config{
		ChainID: g.ChainID, ClusterKey: key, Kernels: kernels,
		ClaimWindowMs: g.Params.ClaimWindowMs, WithdrawalDelayMs: g.Params.WithdrawalDelayMs,
		MaxJobs: 100_000, MaxPerConsumer: 10_000, MaxSpecBytes: 256 << 20, MaxNodes: 10_000, MaxAccounts: 100_000, MaxOutbox: 10_000,
		MaxAttempts: 8, RetryMs: 1_000, FailureMs: 30_000, RetentionMs: 24 * 3600 * 1000,
	}
}

// Stage is how far an assignment is.
type Stage uint8

// The stages. A live assignment holds resources of its node.
const (
	Live       Stage = iota + 1 // sent to the node
	Ended                       // its signed end is here
	Lost                        // the node went away, refused or came too late
	stageCount = iota + 1
)

// String names the stage in lower case.
func (s Stage) String() string {
	names := [stageCount]string{"", "live", "ended", "lost"}
	if s == 0 || int(s) >= stageCount {
		return fmt.Sprintf("Stage(%d)", uint8(s))
	}
	return names[s]
}

// Run is a job's assignment to one node.
type Run struct {
	_      struct{} `cbor:",toarray"`
	Node   crypto.PublicKey
	Owner  chain.Address
	Bid    chain.Bid
	BidSig crypto.Signature
	Stage  Stage
	Since  chain.TimeMs
	Done   *job.Done // with Ended
	Reason string    // with Lost
}

// SettlementRecord is what the chain paid for a job.
type SettlementRecord struct {
	_      struct{} `cbor:",toarray"`
	Txs    []crypto.Digest
	Height chain.Height
	Cost   chain.Amount
	Burned chain.Amount
	Nodes  []crypto.PublicKey
	Proof  bool // a proof was verified
}

// Job is an accepted order on its way.
type Job struct {
	_             struct{} `cbor:",toarray"`
	Order         chain.Order
	OrderSig      crypto.Signature
	Acceptance    chain.Acceptance
	AcceptanceSig crypto.Signature
	Spec          job.Spec
	Status        job.Status
	Reason        string // why it waits or failed
	Submitted     chain.TimeMs
	Changed       chain.TimeMs // of the status
	Auction       uint64       // number of the open or last auction
	RetryAt       chain.TimeMs // of the next auction, while queued
	Runs          []Run
	Outbox        uint64 // cursor, once settling
	Settlement    *SettlementRecord
	Held          chain.TimeMs // until when a final job's cap stays outstanding; zero: it does not
}

// ID returns the order's id, which is the job's.
func (j *Job) ID() crypto.Digest { return j.Order.ID() }

// Node is an agent as the cluster knows it.
type Node struct {
	_         struct{} `cbor:",toarray"`
	ID        crypto.PublicKey
	Owner     chain.Address
	Region    string
	Total     job.Resources
	Used      job.Resources
	Kernels   []string
	Connected bool
	Accepting bool
	Finished  uint64 // assignments that it ended
	Lost      uint64 // assignments that it lost
}

// Account is a consumer at this cluster.
type Account struct {
	_           struct{} `cbor:",toarray"`
	Consumer    chain.Address
	Sequence    uint64 // of its last acceptance
	Outstanding chain.Amount
	Kept        uint64       // its jobs that the state holds
	Settled     chain.Height // of the newest settlement of its jobs
}

// State is a cluster's whole state. Make it with New or Restore.
type State struct {
	config   Config
	now      chain.TimeMs
	jobs     map[crypto.Digest]*Job
	nodes    map[crypto.PublicKey]*Node
	accounts map[chain.Address]*Account
	outbox   []crypto.Digest // orders whose claims are to be posted, by ascending cursor
	cursor   uint64          // of the newest outbox entry ever
	auctions uint64          // number of the newest auction ever
	open     []crypto.Digest // jobs that are not final, in order of arrival
	floor    uint64          // no acceptance of a forgotten account has a higher sequence

	// What follows from the above.
	held      []crypto.Digest // final jobs with Held, in no order
	specBytes int             // of the jobs' specifications together
}

// New returns the state of a cluster that has seen nothing.
func New(config Config) *State {
	return &State{
		config: config, jobs: map[crypto.Digest]*Job{}, nodes: map[crypto.PublicKey]*Node{}, accounts: map[chain.Address]*Account{},
	}
}

// Now returns the newest time that a command carried.
func (s *State) Now() chain.TimeMs { return s.now }

// Job returns a job; treat it as read-only.
func (s *State) Job(id crypto.Digest) (*Job, bool) {
	j, ok := s.jobs[id]
	return j, ok
}

// JobsOf returns a consumer's jobs, the newest first; treat them as read-only.
func (s *State) JobsOf(consumer chain.Address) []*Job {
	var out []*Job
	for _, j := range s.jobs { // order-free: sorted below
		if j.Order.ConsumerAddress() == consumer {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, newestFirst)
	return out
}

// Jobs returns all jobs, the newest first; treat them as read-only.
func (s *State) Jobs() []*Job {
	out := make([]*Job, 0, len(s.jobs))
	for _, j := range s.jobs { // order-free: sorted below
		out = append(out, j)
	}
	slices.SortFunc(out, newestFirst)
	return out
}

func newestFirst(a, b *Job) int {
	if a.Submitted != b.Submitted {
		if a.Submitted > b.Submitted {
			return -1
		}
		return 1
	}
	return a.ID().Compare(b.ID())
}

// Nodes returns the known nodes by ascending id; treat them as read-only.
func (s *State) Nodes() []*Node {
	out := make([]*Node, 0, len(s.nodes))
	for _, n := range s.nodes { // order-free: sorted below
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *Node) int { return a.ID.Compare(b.ID) })
	return out
}

// Outstanding returns the total of a consumer's caps that are not final.
func (s *State) Outstanding(consumer chain.Address) chain.Amount {
	if a := s.accounts[consumer]; a != nil {
		return a.Outstanding
	}
	return chain.Amount{}
}

// SettledAt returns the height of the newest settlement of a consumer's job that
// is known: an escrow read before it does not count.
func (s *State) SettledAt(consumer chain.Address) chain.Height {
	if a := s.accounts[consumer]; a != nil {
		return a.Settled
	}
	return 0
}

// view returns a node as matching sees it.
func (n *Node) view() match.Node {
	return match.Node{
		ID: n.ID, Owner: n.Owner, Connected: n.Connected, Accepting: n.Accepting, Region: n.Region, Kernels: n.Kernels,
		Millicores: n.Total.Millicores - n.Used.Millicores, MemoryMiB: n.Total.MemoryMiB - n.Used.MemoryMiB,
	}
}

// Request returns what a job with this specification asks of a node.
func Request(spec *job.Spec) match.Request {
	r := match.Request{Millicores: spec.Resources.Millicores, MemoryMiB: spec.Resources.MemoryMiB, Region: spec.Region}
	if k, ok := spec.Work.Work.(job.Kernel); ok {
		r.Kernel = string(k.Name)
	}
	return r
}

// Explain says how many nodes could take the work now, and what excludes the
// others: the dry run of a quote.
func (s *State) Explain(spec *job.Spec) (fit []crypto.PublicKey, excluded []match.Exclusion) {
	request := Request(spec)
	var views []match.Node
	for _, n := range s.Nodes() {
		v := n.view()
		views = append(views, v)
		if match.Check(&request, &v) == match.Fits {
			fit = append(fit, n.ID)
		}
	}
	_, excluded = match.Explain(&request, views)
	return fit, excluded
}

// maxDoublings bounds for how long an owner's failures count: the first for
// FailureMs, the last of MaxAttempts for hours.
const maxDoublings = 10

// request is what the job asks of its next node: others than its replicas'
// owners and than those who failed it a while ago, which is longer each time.
func (s *State) request(j *Job) match.Request {
	r := Request(&j.Spec)
	failures := map[chain.Address]int{}
	for i := range j.Runs {
		switch run := &j.Runs[i]; run.Stage {
		case Live, Ended:
			r.Replicas = append(r.Replicas, run.Owner)
		case Lost:
			excluded := s.config.FailureMs << min(failures[run.Owner], maxDoublings)
			failures[run.Owner]++
			if s.now < run.Since+chain.TimeMs(excluded) {
				r.Failures = append(r.Failures, run.Owner)
			}
		}
	}
	return r
}

// Due reports whether a Tick at that time would change anything: an auction to
// be tried again, a run that takes too long, a time that is over.
func (s *State) Due(now chain.TimeMs) bool {
	for _, id := range s.open {
		j := s.jobs[id]
		if s.over(j, now) || j.Status != job.Settling && j.hasOverdue(now) || j.waiting() && j.RetryAt <= now {
			return true
		}
	}
	for _, id := range s.held {
		if s.jobs[id].Held < now {
			return true
		}
	}
	for _, j := range s.jobs { // order-free: whether there is one
		if s.forgettable(j, now) {
			return true
		}
	}
	return false
}

// Open returns the jobs that are not final, in order of arrival; treat them as
// read-only.
func (s *State) Open() []*Job {
	out := make([]*Job, len(s.open))
	for i, id := range s.open {
		out[i] = s.jobs[id]
	}
	return out
}

// OutboxItem is a job whose claims are to be posted.
type OutboxItem struct {
	Cursor uint64
	Order  crypto.Digest
	Claims []chain.Claim
}

// Outbox returns up to limit items with a cursor above after.
func (s *State) Outbox(after uint64, limit int) []OutboxItem {
	var out []OutboxItem
	for _, id := range s.outbox {
		j := s.jobs[id]
		if j.Outbox <= after {
			continue
		}
		if len(out) == limit {
			break
		}
		out = append(out, OutboxItem{Cursor: j.Outbox, Order: id, Claims: s.claims(j)})
	}
	return out
}

// snapshot is the state's encoding: lists in a fixed order.
type snapshot struct {
	_        struct{} `cbor:",toarray"`
	Now      chain.TimeMs
	Jobs     []Job
	Nodes    []Node
	Accounts []Account
	Outbox   []crypto.Digest
	Open     []crypto.Digest
	Cursor   uint64
	Auctions uint64
	Floor    uint64
}

// Encode returns the canonical bytes of the whole state, for a raft snapshot.
func (s *State) Encode() []byte {
	snap := snapshot{Now: s.now, Outbox: s.outbox, Open: s.open, Cursor: s.cursor, Auctions: s.auctions, Floor: s.floor}
	for _, j := range s.Jobs() {
		snap.Jobs = append(snap.Jobs, *j)
	}
	for _, n := range s.Nodes() {
		snap.Nodes = append(snap.Nodes, *n)
	}
	for _, a := range s.accounts { // order-free: sorted below
		snap.Accounts = append(snap.Accounts, *a)
	}
	slices.SortFunc(snap.Accounts, func(a, b Account) int { return a.Consumer.Compare(b.Consumer) })
	return codec.Marshal(snap)
}

// Restore returns the state that Encode wrote.
func Restore(config Config, raw []byte) (*State, error) {
	var snap snapshot
	if err := codec.Unmarshal(raw, &snap, len(raw)); err != nil {
		return nil, fmt.Errorf("scheduler: snapshot: %w", err)
	}
	s := New(config)
	s.now, s.outbox, s.open, s.cursor, s.auctions, s.floor = snap.Now, snap.Outbox, snap.Open, snap.Cursor, snap.Auctions, snap.Floor
	for i := range snap.Jobs {
		j := &snap.Jobs[i]
		s.jobs[j.ID()] = j
		s.specBytes += len(j.Spec.Encode())
		if j.Held != 0 {
			s.held = append(s.held, j.ID())
		}
	}
	for i := range snap.Nodes {
		s.nodes[snap.Nodes[i].ID] = &snap.Nodes[i]
	}
	for i := range snap.Accounts {
		s.accounts[snap.Accounts[i].Consumer] = &snap.Accounts[i]
	}
	s.assertInvariants()
	return s, nil
}
