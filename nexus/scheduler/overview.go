package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Overview is the cluster at a glance: who waits behind whom, who has how much,
// and what is being auctioned. It shares nothing with the state.
type Overview struct {
	NowMs     chain.TimeMs
	Arrivals  uint64 // jobs ever
	Auctions  uint64 // ever
	Open      int    // jobs that are not final
	Looked    int    // of these, the oldest, that Classes and Consumers count
	MaxActive int    // of one consumer
	MaxKept   int    // of one consumer
	Classes   []ClassLoad
	Consumers []ConsumerLoad // in no order
	Next      []Waiting      // in the order in which capacity goes to them
	Bidding   []OpenRound    // the oldest jobs first
	Totals    Totals
	Nodes     []NodeView // the busiest first, those that are not connected last
}

// Totals is what there is of nodes, and of those that are connected together.
type Totals struct {
	Nodes     int
	Connected int
	Accepting int // of those that are connected
	Running   int // live runs
	Total     job.Resources
	Used      job.Resources
}

// ClassLoad is what there is of a class, the most urgent first.
type ClassLoad struct {
	Class    job.Class
	DelayMs  uint64 // by which it is put behind urgent work of the same time
	Queued   int    // waits for capacity
	Backing  int    // found too few bids, and waits to be auctioned again
	Held     int    // waits for orders before it, or the rest of its gang
	Parked   int    // its consumer has as many active jobs as it may
	Bidding  int
	Running  int
	Settling int
	Aged     int          // of Queued: has waited so long that it goes before urgent work that comes now
	Oldest   chain.TimeMs // when the one of Queued and Backing that has waited the longest was submitted; 0: there is none
}

// ConsumerLoad is what one consumer has here.
type ConsumerLoad struct {
	Consumer    chain.Address
	Queued      int // waits for capacity or bids
	Parked      int // waits for the consumer's own jobs to end
	Held        int
	Bidding     int
	Running     int
	Settling    int
	Active      int // in auctions or running; MaxActive bounds it
	Kept        int // jobs that the state holds; MaxKept bounds it
	Outstanding chain.Amount
	Used        job.Resources // by its live runs
}

// Waiting is a job that waits for capacity or bids.
type Waiting struct {
	Order     crypto.Digest
	Label     string
	Class     job.Class
	Consumer  chain.Address
	Submitted chain.TimeMs
	Aged      chain.TimeMs // from when on it goes before urgent work that comes
	Alike     int          // that ask the same of a node and wait behind it
	Retry     chain.TimeMs // when it is auctioned again, of one that backs off; 0: once there is capacity
	Resources job.Resources
	Reason    string
}

// OpenRound is an auction that is open.
type OpenRound struct {
	Order    crypto.Digest
	Label    string
	Class    job.Class
	Consumer chain.Address
	Auction  uint64
	Since    chain.TimeMs
	Want     int // takers
	Places   int // nodes on which room is kept
	Picked   bool
}

// NodeView is a node and what it has to do.
type NodeView struct {
	ID        crypto.PublicKey
	Owner     chain.Address
	Region    string
	Total     job.Resources
	Used      job.Resources
	GPUKind   string
	Kernels   int
	Connected bool
	Accepting bool
	Finished  uint64
	Lost      uint64
	Running   int // live runs
	Evictable int // of them, that may be preempted
	Places    int // kept for auctions
}

// The bounds of a look: it holds up whoever changes the state.
const (
	maxLooked  = 20_000
	maxReasons = 6 // each costs a look at every node
)

// Overview looks at the state, with so many entries of Next, Bidding and Nodes at
// most. It costs the same however many nodes there are.
func (s *State) Overview(rows int) Overview {
	o := Overview{
		NowMs: s.now, Arrivals: s.arrivals, Auctions: s.auctions, Open: s.open.n, MaxActive: s.config.MaxActive, MaxKept: s.config.MaxPerConsumer,
		Totals: Totals{
			Nodes: len(s.nodes), Connected: s.connected, Accepting: s.census.accepting, Running: s.census.live, Total: s.census.total, Used: s.census.used,
		},
	}
	for _, class := range []job.Class{job.Urgent, job.Standard, job.Spare} {
		o.Classes = append(o.Classes, ClassLoad{Class: class, DelayMs: s.config.delayMs(class)})
	}
	consumers := map[chain.Address]*ConsumerLoad{}
	s.open.each(func(j *Job) bool {
		o.Looked++
		c := consumers[j.consumer]
		if c == nil {
			account := s.accounts[j.consumer]
			c = &ConsumerLoad{Consumer: j.consumer, Active: account.active, Kept: int(account.Kept), Outstanding: account.Outstanding}
			consumers[j.consumer] = c
		}
		s.tally(j, o.class(j.Spec.Scheduling.Class), c)
		if j.Status == job.Bidding && len(o.Bidding) < rows {
			o.Bidding = append(o.Bidding, OpenRound{
				Order: j.id, Label: j.Spec.Label, Class: j.Spec.Scheduling.Class, Consumer: j.consumer, Auction: j.Auction, Since: j.Changed,
				Want: j.wanted(), Places: len(j.Places), Picked: j.picked(),
			})
		}
		return o.Looked < maxLooked
	})
	for _, c := range consumers { // order-free: the reader sorts
		o.Consumers = append(o.Consumers, *c)
	}
	o.Next = s.nextInLine(rows)
	s.census.busiest.each(func(n *Node) bool {
		if len(o.Nodes) < rows {
			o.Nodes = append(o.Nodes, n.overview())
		}
		return len(o.Nodes) < rows
	})
	return o
}

func (o *Overview) class(class job.Class) *ClassLoad {
	for i := range o.Classes {
		if o.Classes[i].Class == class {
			return &o.Classes[i]
		}
	}
	panic("scheduler: a job of class " + class.String())
}

// tally counts a job that is not final.
func (s *State) tally(j *Job, class *ClassLoad, c *ConsumerLoad) {
	switch {
	case j.Status == job.Bidding:
		class.Bidding++
		c.Bidding++
	case j.Status == job.Running:
		class.Running++
		c.Running++
	case j.Status == job.Settling:
		class.Settling++
		c.Settling++
	case j.Parked:
		class.Parked++
		c.Parked++
	case j.inBack:
		class.Backing++
		c.Queued++
		class.since(j)
	case j.group != nil:
		class.Queued++
		c.Queued++
		class.since(j)
		if s.rankOf(j).at <= uint64(s.now) {
			class.Aged++
		}
	default:
		class.Held++
		c.Held++
	}
	for i := range j.Runs {
		if j.Runs[i].Stage == Live {
			r := j.holds()
			c.Used.Millicores += r.Millicores
			c.Used.MemoryMiB += r.MemoryMiB
			c.Used.GPUs += r.GPUs
		}
	}
}

func (c *ClassLoad) since(j *Job) {
	if c.Oldest == 0 || j.Submitted < c.Oldest {
		c.Oldest = j.Submitted
	}
}

// nextInLine returns the first job of each group in the queue, and then jobs that
// back off.
func (s *State) nextInLine(rows int) []Waiting {
	var out []Waiting
	s.queue.each(func(g *group) bool {
		if len(out) == rows {
			return false
		}
		_, j := g.jobs.first()
		w := s.waits(j)
		w.Alike = g.jobs.n - 1
		if len(out) < maxReasons {
			w.Reason = s.Reason(j)
		}
		out = append(out, w)
		return true
	})
	s.backoff.each(func(j *Job) bool {
		if len(out) == rows {
			return false
		}
		w := s.waits(j)
		w.Retry, w.Reason = j.RetryAt, j.Reason
		out = append(out, w)
		return true
	})
	return out
}

func (s *State) waits(j *Job) Waiting {
	return Waiting{
		Order: j.id, Label: j.Spec.Label, Class: j.Spec.Scheduling.Class, Consumer: j.consumer, Submitted: j.Submitted,
		Aged: chain.TimeMs(s.rankOf(j).at), Resources: j.Spec.Resources,
	}
}

func (n *Node) overview() NodeView {
	out := NodeView{
		ID: n.ID, Owner: n.Owner, Region: n.Region, Total: n.Total, Used: n.Used, GPUKind: n.GPUKind, Kernels: len(n.Kernels),
		Connected: n.Connected, Accepting: n.Accepting, Finished: n.Finished, Lost: n.Lost, Evictable: n.evictable,
	}
	for _, j := range n.jobs {
		if j.liveOn(n.ID) != nil {
			out.Running++
		} else {
			out.Places++
		}
	}
	return out
}

// Arrivals returns how many jobs were ever accepted.
func (s *State) Arrivals() uint64 { return s.arrivals }

// Picked returns the nodes that have won an auction of the job and wait for the
// rest of its gang.
func (j *Job) Picked() []crypto.PublicKey {
	var out []crypto.PublicKey
	for i := range j.Places {
		if j.Places[i].Picked != nil {
			out = append(out, j.Places[i].Node)
		}
	}
	return out
}
