package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// MaxTopRows bounds each list of a NexusTop.
const MaxTopRows = 200

// NexusTop is GET /v1/top: a cluster at a glance. Of every list it has the first
// rows; what was left out is counted beside it.
type NexusTop struct {
	NowMs     chain.TimeMs     `json:"now_ms" doc:"the server's clock"`
	ChainID   chain.ChainID    `json:"chain_id"`
	Cluster   crypto.PublicKey `json:"cluster"`
	Server    crypto.PublicKey `json:"server" doc:"who answers"`
	Leader    crypto.PublicKey `json:"leader,omitzero" doc:"left out: none is known"`
	Term      Uint64           `json:"term" doc:"raft's"`
	AgeMs     Uint64           `json:"age_ms" doc:"how old what is shown may be"`
	Version   string           `json:"version"`
	Servers   []TopServer      `json:"servers"`
	Rates     TopRates         `json:"rates"`
	OpenJobs  int              `json:"open_jobs" doc:"not final"`
	Looked    int              `json:"looked_jobs" doc:"of these, the oldest, that classes and consumers count"`
	Classes   []TopClass       `json:"classes" doc:"the most urgent first"`
	Next      []TopWaiting     `json:"next" doc:"first of each kind of request, in the order in which capacity goes to them; then those that wait for bids"`
	Consumers []TopConsumer    `json:"consumers" doc:"who uses the most first"`
	Others    int              `json:"other_consumers" doc:"with open jobs, that the list leaves out"`
	MaxActive int              `json:"max_active" doc:"jobs of one consumer in auctions or running; more wait"`
	MaxKept   int              `json:"max_kept" doc:"jobs of one consumer, final ones included"`
	Totals    TopTotals        `json:"totals" doc:"of all nodes"`
	Nodes     []TopNode        `json:"nodes" doc:"the busiest first"`
	Auctions  []TopAuction     `json:"auctions" doc:"that are open"`
	Closed    []TopClosed      `json:"closed" doc:"auctions, the newest first"`
}

// TopServer is a server of the cluster as the one that answers finds it.
type TopServer struct {
	ID      crypto.PublicKey `json:"server_id"`
	Leader  bool             `json:"leader"`
	Reached bool             `json:"reached" doc:"false: it did not say in time how far it is"`
	Applied Uint64           `json:"applied" doc:"index of the newest entry that it has carried out"`
}

// TopRates are how fast work comes and goes, by the cluster's clock.
type TopRates struct {
	PerS      TopRate   `json:"per_s" doc:"of the last ten seconds that are over"`
	History   []TopRate `json:"history" doc:"of each of the last 60 seconds, the oldest first"`
	WaitP50Ms Uint64    `json:"wait_p50_ms" doc:"from acceptance to the first placement, of the last 512 placed"`
	WaitP99Ms Uint64    `json:"wait_p99_ms"`
	Placed    int       `json:"waits" doc:"placements that these are of"`
}

// TopRate counts what happened in a time.
type TopRate struct {
	Accepted  float64 `json:"accepted" doc:"jobs"`
	Placed    float64 `json:"placed" doc:"assignments to nodes"`
	Completed float64 `json:"completed" doc:"jobs whose claims were made"`
}

// TopClass is the jobs of a class.
type TopClass struct {
	Class    job.Class    `json:"class"`
	DelayMs  Uint64       `json:"delay_ms" doc:"after so long a job goes before urgent ones that come then"`
	Queued   int          `json:"queued" doc:"waiting for capacity"`
	Backing  int          `json:"backing_off" doc:"found too few bids"`
	Held     int          `json:"held" doc:"waiting for orders before them, or the rest of their gang"`
	Parked   int          `json:"parked" doc:"waiting for jobs of the same consumer to end"`
	Bidding  int          `json:"bidding"`
	Running  int          `json:"running"`
	Settling int          `json:"settling"`
	Aged     int          `json:"aged" doc:"of those queued: go before urgent jobs that come now"`
	Oldest   chain.TimeMs `json:"oldest_ms" doc:"when the one that has waited the longest for capacity or bids came; 0: there is none"`
}

// TopWaiting is a job that waits for capacity or bids.
type TopWaiting struct {
	ID          crypto.Digest `json:"job_id"`
	Label       string        `json:"label"`
	Class       job.Class     `json:"class"`
	Consumer    chain.Address `json:"consumer"`
	SubmittedMs chain.TimeMs  `json:"submitted_ms"`
	AgedMs      chain.TimeMs  `json:"aged_ms" doc:"from when on it goes before urgent jobs that come"`
	RetryMs     chain.TimeMs  `json:"retry_ms" doc:"when it is auctioned again for want of bids; 0: once there is capacity"`
	Alike       int           `json:"alike" doc:"that ask the same and wait behind it"`
	Resources   job.Resources `json:"resources"`
	Reason      string        `json:"reason,omitempty"`
}

// TopConsumer is what a consumer has at the cluster.
type TopConsumer struct {
	Consumer    chain.Address `json:"consumer"`
	Active      int           `json:"active" doc:"in auctions or running, of max_active"`
	Queued      int           `json:"queued" doc:"waiting for capacity or bids"`
	Parked      int           `json:"parked" doc:"waiting for its own jobs to end"`
	Held        int           `json:"held"`
	Running     int           `json:"running"`
	Settling    int           `json:"settling"`
	Kept        int           `json:"kept" doc:"jobs that the cluster remembers, of max_kept"`
	Outstanding chain.Amount  `json:"outstanding_nhyper" doc:"caps of its jobs that are not final"`
	Used        job.Resources `json:"used" doc:"by its running work"`
	ShareBps    int           `json:"share_bps" doc:"of the millicores that running work of all uses, in 1/10,000"`
}

// TopTotals sums up the nodes.
type TopTotals struct {
	Nodes     int           `json:"nodes" doc:"known"`
	Connected int           `json:"connected"`
	Accepting int           `json:"accepting" doc:"of those connected"`
	Running   int           `json:"running" doc:"assignments"`
	Total     job.Resources `json:"total" doc:"of those connected"`
	Used      job.Resources `json:"used" doc:"of those connected; room that auctions keep included"`
}

// TopNode is a node and what it has to do.
type TopNode struct {
	ID        crypto.PublicKey `json:"node_id"`
	Owner     chain.Address    `json:"owner"`
	Region    string           `json:"region"`
	Connected bool             `json:"connected"`
	Accepting bool             `json:"accepting"`
	Total     job.Resources    `json:"total"`
	Used      job.Resources    `json:"used"`
	GPUKind   string           `json:"gpu_kind,omitempty"`
	Running   int              `json:"running" doc:"assignments"`
	Evictable int              `json:"preemptible" doc:"of them"`
	Places    int              `json:"places" doc:"kept for open auctions"`
	Bids      Uint64           `json:"bids" doc:"that it made since this server started"`
	Won       Uint64           `json:"won" doc:"of these bids"`
	Finished  Uint64           `json:"finished" doc:"assignments that it ended"`
	Lost      Uint64           `json:"lost" doc:"assignments that it lost: strikes against it in the score"`
}

// TopAuction is an auction that is open. Its bids are sealed: only their number
// is known, and only to the leader.
type TopAuction struct {
	ID       crypto.Digest `json:"job_id"`
	Label    string        `json:"label"`
	Class    job.Class     `json:"class"`
	Consumer chain.Address `json:"consumer"`
	Auction  Uint64        `json:"auction"`
	SinceMs  chain.TimeMs  `json:"since_ms"`
	Want     int           `json:"want" doc:"takers"`
	Places   int           `json:"places" doc:"nodes on which room is kept"`
	Bids     int           `json:"bids" doc:"valid ones so far; −1: this server does not lead"`
	Picked   bool          `json:"picked" doc:"decided; the rest of its gang is not"`
}

// TopClosed is an auction that is over.
type TopClosed struct {
	ID       crypto.Digest      `json:"job_id"`
	Label    string             `json:"label"`
	Class    job.Class          `json:"class"`
	Consumer chain.Address      `json:"consumer"`
	Auction  Uint64             `json:"auction"`
	AtMs     chain.TimeMs       `json:"at_ms"`
	WaitMs   Uint64             `json:"wait_ms" doc:"since the job was accepted"`
	Want     int                `json:"want"`
	Bids     int                `json:"bids"`
	Declined int                `json:"declined" doc:"nodes that were asked and did not want; known to who led"`
	Winners  []crypto.PublicKey `json:"winners" doc:"nodes that were given the work"`
	Price    chain.Amount       `json:"price_nhyper" doc:"the clearing price: what the dearest of the winners asks at its worst; they are paid as they bid"`
	Lowest   chain.Amount       `json:"lowest_nhyper" doc:"of all bids"`
	Highest  chain.Amount       `json:"highest_nhyper"`
	Reason   string             `json:"reason" doc:"why these nodes, or why none"`
}
