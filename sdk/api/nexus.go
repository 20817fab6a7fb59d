package api

import (
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Limits of a Nexus server's API.
const (
	MaxJobRequestBytes = 256 << 10
	MaxJobsPage        = 100
)

// SignatureHeader carries, on DELETE /v1/jobs/{id}, the consumer's signature of
// CancelPayload under DomainCancel, in hexadecimal.
const SignatureHeader = "Hypermesh-Signature"

// StateAgeHeader says, on answers of a Nexus server to GET, how many milliseconds
// before the question a leader, confirmed by a majority, said what was newest, and
// the server has carried that out: what was carried out before is in the answer.
// The leader's state has an age too, as another may lead that it has not heard of.
const StateAgeHeader = "Hypermesh-State-Age-Ms"

// CancelPayload is what a consumer signs, under DomainCancel, to end a job.
func CancelPayload(id chain.ChainID, order crypto.Digest) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Order   crypto.Digest
	}{ChainID: id, Order: order})
}

// NexusStatus is GET /v1/status of a Nexus server.
type NexusStatus struct {
	ChainID chain.ChainID    `json:"chain_id"`
	Cluster crypto.PublicKey `json:"cluster" doc:"where consumers deposit escrow"`
	Server  crypto.PublicKey `json:"server" doc:"this server's node id"`
	Leader  crypto.PublicKey `json:"leader,omitzero" doc:"left out: none is known"`
	FeeBps  uint16           `json:"fee_bps" doc:"the cluster's fee, of a claim's cost, in 1/10,000"`
	NowMs   chain.TimeMs     `json:"now_ms" doc:"the cluster's clock"`
	Nodes   int              `json:"nodes" doc:"connected"`
	Jobs    int              `json:"jobs" doc:"not final"`
	Version string           `json:"version"`
}

// Work is what a job runs: {"type": "wasm", "data": {…}}.
type Work struct{ job.Work }

func workCases() []Case {
	return []Case{caseOf[job.Wasm]("wasm"), caseOf[job.Kernel]("kernel"), caseOf[job.Container]("container")}
}

// MarshalJSON writes the work with its name.
func (w Work) MarshalJSON() ([]byte, error) {
	switch w := w.Work.(type) {
	case job.Wasm:
		return marshalTagged("wasm", w)
	case job.Kernel:
		w.Inputs = listOf(w.Inputs)
		return marshalTagged("kernel", w)
	case job.Container:
		return marshalTagged("container", w)
	}
	return nil, fmt.Errorf("api: work is missing")
}

// UnmarshalJSON reads what MarshalJSON wrote. Its errors are *FieldError.
func (w *Work) UnmarshalJSON(data []byte) error {
	var t tagged
	if err := DecodeJSON(data, &t); err != nil {
		return err
	}
	switch t.Type {
	case "wasm":
		d, err := dataOf[job.Wasm](t)
		w.Work = d
		return err
	case "kernel":
		d, err := dataOf[job.Kernel](t)
		w.Work = d
		return err
	case "container":
		d, err := dataOf[job.Container](t)
		w.Work = d
		return err
	}
	return &FieldError{Location: "type", Message: fmt.Sprintf("work type %.40q is unknown", t.Type)}
}

// Spec says what a job is.
type Spec struct {
	Label      string         `json:"label" maxLength:"64" doc:"for people"`
	Work       Work           `json:"work"`
	InputBytes Uint64         `json:"input_bytes" doc:"size of all blobs of the work together"`
	Resources  job.Resources  `json:"resources" doc:"what a node must have free"`
	Limits     job.Limits     `json:"limits" doc:"a program is ended beyond them"`
	Region     string         `json:"region" maxLength:"32" doc:"required of the node; empty: any"`
	Scheduling job.Scheduling `json:"scheduling,omitzero" doc:"class, preemption, gangs and dependencies; left out: a standard job of its own"`
	OutputTo   []string       `json:"output_to,omitempty" maxItems:"8" doc:"age recipients (age1…) to whom the provider encrypts the output; left out: it is not encrypted"`
}

// SpecToJSON returns the specification as JSON has it.
func SpecToJSON(s job.Spec) Spec {
	return Spec{Label: s.Label, Work: Work{s.Work.Work}, InputBytes: Uint64(s.InputBytes), Resources: s.Resources, Limits: s.Limits, Region: s.Region, Scheduling: s.Scheduling, OutputTo: s.OutputTo}
}

// SpecFromJSON returns the specification of package job, or a *FieldError that
// names the first thing outside its bounds.
func SpecFromJSON(s Spec) (job.Spec, error) {
	out := job.Spec{
		Label: s.Label, Work: job.WorkField{Work: s.Work.Work}, InputBytes: uint64(s.InputBytes), Resources: s.Resources, Limits: s.Limits, Region: s.Region, Scheduling: s.Scheduling,
		OutputTo: s.OutputTo,
	}
	if err := out.Check(); err != nil {
		return job.Spec{}, &FieldError{Message: err.Error()}
	}
	return out, nil
}

// SubmitJobRequest is the body of POST /v1/jobs. The job's id is the order's,
// so submitting an order again changes nothing and answers the same.
type SubmitJobRequest struct {
	Order     Order            `json:"order"`
	Signature crypto.Signature `json:"order_signature" doc:"by the consumer, over the order"`
	Spec      Spec             `json:"spec" doc:"the order names its digest"`
}

// SignedJob is an order that its consumer signed, and what it asks for.
type SignedJob struct {
	order     chain.Order
	signature crypto.Signature
	spec      job.Spec
}

// Verify returns the signed job if order and specification are within their
// limits and belong together and the consumer signed the order. The error is a
// *FieldError.
func (r SubmitJobRequest) Verify() (SignedJob, error) {
	return r.VerifyWith(func(s crypto.Signed) bool { return crypto.VerifyBatch([]crypto.Signed{s}, 1)[0] })
}

// VerifyWith is Verify with another way to verify the signature, such as one
// that verifies those of many requests together.
func (r SubmitJobRequest) VerifyWith(verify func(crypto.Signed) bool) (SignedJob, error) {
	spec, err := SpecFromJSON(r.Spec)
	if err != nil {
		return SignedJob{}, within("spec", err)
	}
	order, err := OrderFromJSON(r.Order)
	if err != nil {
		return SignedJob{}, within("order", err)
	}
	if err := job.CheckOrder(&order, &spec); err != nil {
		return SignedJob{}, &FieldError{Location: "order", Message: err.Error()}
	}
	key, err := order.Consumer.Ed25519()
	if err != nil {
		return SignedJob{}, &FieldError{Location: "order.consumer", Message: err.Error()}
	}
	if err := key.Check(); err != nil {
		return SignedJob{}, &FieldError{Location: "order.consumer", Message: err.Error()}
	}
	if !verify(crypto.SignedBy(key, crypto.DomainOrder, order.Payload(), r.Signature)) {
		return SignedJob{}, &FieldError{Location: "order_signature", Message: "is not the consumer's signature of the order"}
	}
	return SignedJob{order: order, signature: r.Signature, spec: spec}, nil
}

// Order returns the order.
func (j *SignedJob) Order() chain.Order { return j.order }

// Signature returns the consumer's signature of the order.
func (j *SignedJob) Signature() crypto.Signature { return j.signature }

// Spec returns the specification.
func (j *SignedJob) Spec() job.Spec { return j.spec }

// StageRefuted is the stage of a run whose claim the chain refuted.
const StageRefuted = "refuted"

// JobRun is a job's assignment to one node.
type JobRun struct {
	Node        crypto.PublicKey  `json:"node_id"`
	Owner       chain.Address     `json:"owner"`
	Stage       string            `json:"stage" enum:"live,ended,lost,pledged,refuted"`
	SinceMs     chain.TimeMs      `json:"since_ms" doc:"of the stage"`
	PlacedMs    chain.TimeMs      `json:"placed_ms" doc:"when the node was given the work"`
	Prices      []UnitPrice       `json:"prices" doc:"of its bid"`
	Fixed       chain.Amount      `json:"fixed_nhyper" doc:"of its bid, for a proven statement"`
	Receipt     *UsageReceipt     `json:"receipt,omitempty" doc:"once it has ended"`
	ReceiptSig  *crypto.Signature `json:"receipt_signature,omitempty"`
	Output      crypto.Digest     `json:"output,omitzero" doc:"blob: the packed output directory. Of a sealed one the blob is the receipt's"`
	OutputKey   *chain.OutputKey  `json:"output_key,omitempty" doc:"of a sealed output, once the job is settled"`
	OutputBytes Uint64            `json:"output_bytes"`
	Detail      string            `json:"detail,omitempty" doc:"for people; why it was lost or refuted"`
}

// JobSettlement is what the chain paid for a job.
type JobSettlement struct {
	Txs           []crypto.Digest    `json:"settlement_tx"`
	Height        chain.Height       `json:"settlement_height"`
	Cost          chain.Amount       `json:"cost_nhyper" doc:"what the chain could not give back of refuted claims included"`
	Burned        chain.Amount       `json:"burned_nhyper"`
	Priority      chain.Amount       `json:"priority_nhyper" doc:"of cost_nhyper, the priority fee"`
	Providers     []crypto.PublicKey `json:"providers" doc:"nodes that were paid"`
	ProofVerified bool               `json:"proof_verified"`
}

// Job is GET /v1/jobs/{id}.
type Job struct {
	ID            crypto.Digest    `json:"job_id" doc:"the order's id"`
	Status        job.Status       `json:"status"`
	Reason        string           `json:"reason,omitempty" doc:"why it waits or failed"`
	Policy        string           `json:"policy" doc:"such as replicate(2 of 3)"`
	Consumer      chain.Address    `json:"consumer"`
	Order         Order            `json:"order"`
	OrderSig      crypto.Signature `json:"order_signature"`
	Acceptance    Acceptance       `json:"acceptance"`
	AcceptanceSig crypto.Signature `json:"acceptance_signature"`
	Spec          Spec             `json:"spec"`
	SubmittedMs   chain.TimeMs     `json:"submitted_ms"`
	ChangedMs     chain.TimeMs     `json:"changed_ms" doc:"of the status"`
	Runs          []JobRun         `json:"runs"`
	Result        crypto.Digest    `json:"result_digest,omitzero" doc:"once it is settling; of the runs whose result counts"`
	Output        crypto.Digest    `json:"output,omitzero" doc:"blob of that result"`
	Settlement    *JobSettlement   `json:"settlement,omitempty" doc:"once it is settled"`
	Leased        bool             `json:"leased,omitempty" doc:"the chain has its lease, or had it: what it holds is no longer in escrow"`
	Begun         bool             `json:"begun,omitempty" doc:"the chain has begun its runs under replicate: what it may cost is no longer in escrow"`
	Deal          *LeaseDeal       `json:"deal,omitempty" doc:"of an order with a term, once a node has it: whoever posts it opens the lease. GET /v1/jobs/{id} alone shows it"`
}

// JobReport is a job on one page: what jobs[] of a command's JSON has.
type JobReport struct {
	ID            crypto.Digest      `json:"job_id"`
	Policy        string             `json:"policy"`
	Status        job.Status         `json:"status"`
	Reason        string             `json:"reason,omitempty"`
	Exit          chain.ExitStatus   `json:"exit,omitzero" doc:"how the work of that result ended"`
	ExitCode      uint32             `json:"exit_code" doc:"the program's own, with exit failed"`
	Detail        string             `json:"detail,omitempty" doc:"for people: why it ended so, as a provider says"`
	Result        crypto.Digest      `json:"result_digest"`
	Output        string             `json:"output" doc:"blob id, or where a command put the files"`
	SettlementTx  []crypto.Digest    `json:"settlement_tx"`
	Height        chain.Height       `json:"settlement_height"`
	Cost          chain.Amount       `json:"cost_nhyper"`
	Burned        chain.Amount       `json:"burned_nhyper"`
	Priority      chain.Amount       `json:"priority_nhyper" doc:"of cost_nhyper, the priority fee"`
	Running       []crypto.PublicKey `json:"running,omitempty" doc:"nodes that run it now"`
	Refuted       []crypto.PublicKey `json:"refuted,omitempty" doc:"nodes whose claims for it the chain refuted: it was given to others as long as its deadline allowed"`
	Providers     []crypto.PublicKey `json:"providers"`
	ProofVerified bool               `json:"proof_verified"`
}

// Report returns the job on one page.
func (j *Job) Report() JobReport {
	out := JobReport{
		ID: j.ID, Policy: j.Policy, Status: j.Status, Reason: j.Reason, Result: j.Result,
		SettlementTx: []crypto.Digest{}, Providers: []crypto.PublicKey{},
	}
	if !j.Output.IsZero() {
		out.Output = j.Output.String()
	}
	for i := range j.Runs {
		if r := &j.Runs[i]; r.Receipt != nil && r.Receipt.Result == j.Result {
			out.Exit, out.ExitCode, out.Detail = r.Receipt.Exit, r.Receipt.ExitCode, r.Detail
		}
		if r := &j.Runs[i]; !j.Status.Final() && r.Stage == "live" {
			out.Running = append(out.Running, r.Node)
		}
		if r := &j.Runs[i]; r.Stage == StageRefuted {
			out.Refuted = append(out.Refuted, r.Node)
		}
	}
	if s := j.Settlement; s != nil {
		out.SettlementTx, out.Providers = listOf(s.Txs), listOf(s.Providers)
		out.Height, out.Cost, out.Burned, out.Priority, out.ProofVerified = s.Height, s.Cost, s.Burned, s.Priority, s.ProofVerified
	}
	return out
}

// JobList is GET /v1/jobs, the newest first.
type JobList struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next_cursor,omitempty" doc:"for ?cursor=; left out: there are no more"`
}

// What a ServerChange does.
const (
	AddServer          = "add"
	RemoveServer       = "remove"
	TransferLeadership = "transfer"
)

// ServerChange is the body of POST /v1/servers: the operator adds or removes a
// server, or hands the leadership over.
type ServerChange struct {
	Action    string           `json:"action" enum:"add,remove,transfer"`
	Server    crypto.PublicKey `json:"server,omitzero" doc:"with transfer, left out: whoever is the furthest"`
	Address   string           `json:"address,omitempty" doc:"UDP host:port of a server that is added"`
	Force     bool             `json:"force,omitempty" doc:"with remove: even if blobs that no majority of the others has are lost"`
	Index     Uint64           `json:"index" doc:"of the configuration that is changed, as GET says"`
	Term      Uint64           `json:"term" doc:"in which it is, as GET says"`
	Signature crypto.Signature `json:"signature" doc:"by the cluster's key"`
}

// ServerChangePayload is what the cluster's key signs, under DomainServers, to
// change a cluster's servers.
func ServerChangePayload(id chain.ChainID, cluster crypto.PublicKey, c *ServerChange) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Cluster crypto.PublicKey
		Action  string
		Server  crypto.PublicKey
		Address string
		Force   bool
		Index   uint64
		Term    uint64
	}{ChainID: id, Cluster: cluster, Action: c.Action, Server: c.Server, Address: c.Address, Force: c.Force, Index: uint64(c.Index), Term: uint64(c.Term)})
}

// ServerMember is one server of a cluster.
type ServerMember struct {
	ID      crypto.PublicKey `json:"server_id"`
	Address string           `json:"address" doc:"UDP host:port, as the server that is asked knows it"`
	Voter   bool             `json:"voter" doc:"false: it reads the log before it is made a member"`
	Leader  bool             `json:"leader"`
}

// ServerList is GET /v1/servers.
type ServerList struct {
	Index   Uint64         `json:"index" doc:"of the configuration in the log"`
	Term    Uint64         `json:"term"`
	Servers []ServerMember `json:"servers"`
}

// NexusNode is a provider's node as a cluster knows it.
type NexusNode struct {
	ID        crypto.PublicKey `json:"node_id"`
	Owner     chain.Address    `json:"owner"`
	Region    string           `json:"region"`
	Total     job.Resources    `json:"total"`
	Used      job.Resources    `json:"used"`
	Kernels   []string         `json:"kernels" doc:"zk kernels that it can prove"`
	Connected bool             `json:"connected"`
	Accepting bool             `json:"accepting" doc:"false: paused or draining"`
	Finished  Uint64           `json:"finished" doc:"assignments that it ended"`
	Lost      Uint64           `json:"lost" doc:"assignments that it lost"`
	Strikes   Uint64           `json:"strikes" doc:"assignments that it failed, less those that it ended since"`
	HeldUntil chain.TimeMs     `json:"held_until_ms,omitzero" doc:"it is given nothing before; left out: it is not held back"`
	HeldFor   string           `json:"held_for,omitempty" doc:"why it is held back"`
}

// NodeList is GET /v1/nodes.
type NodeList struct {
	Nodes []NexusNode `json:"nodes"`
	Next  string      `json:"next_cursor,omitempty" doc:"for ?cursor=; left out: there are no more"`
}

// QuoteRequest is the body of POST /v1/quotes: a dry run of the match.
type QuoteRequest struct {
	Spec        Spec              `json:"spec"`
	Policy      Policy            `json:"policy"`
	PriorityBps chain.PriorityFee `json:"priority_bps,omitempty" maximum:"10000" doc:"the order's priority fee, above what the work costs, in 1/10,000"`
}

// QuoteBid is what a node would bid.
type QuoteBid struct {
	Node   crypto.PublicKey `json:"node_id"`
	Owner  chain.Address    `json:"owner"`
	Prices []UnitPrice      `json:"prices"`
	Fixed  chain.Amount     `json:"fixed_nhyper"`
	Cost   chain.Amount     `json:"cost_nhyper" doc:"of the job at these prices, at its worst, with the priority fee"`
}

// Exclusion counts the nodes that one requirement excluded.
type Exclusion struct {
	Reason string `json:"reason"`
	Nodes  int    `json:"nodes"`
}

// Quote is the answer to a QuoteRequest.
type Quote struct {
	Cluster     crypto.PublicKey `json:"cluster"`
	Bids        []QuoteBid       `json:"bids" doc:"the best first"`
	Excluded    []Exclusion      `json:"excluded" doc:"who cannot take the job, and why"`
	MaxCost     chain.Amount     `json:"max_cost_nhyper" doc:"of all replicas that the policy may ask for, at their worst, fees included; 0: nobody can take it"`
	Priority    chain.Amount     `json:"priority_nhyper" doc:"of max_cost_nhyper, the priority fee"`
	HeadStartMs Uint64           `json:"head_start_ms" doc:"by which the priority fee puts the job before others of its class that wait"`
	Reason      string           `json:"reason,omitempty" doc:"why the job would wait"`
	Start       chain.TimeMs     `json:"expected_start_ms,omitzero" doc:"when it could begin: at once if enough bid, else when nodes have room, if running work takes all of its time limit and nothing comes that goes first; left out: as the cluster is, never, or those who have room do not want it"`
	Ahead       int              `json:"queued_ahead" doc:"queued jobs that would go first"`
	Nodes       int              `json:"nodes" doc:"that the cluster knows"`
	Looked      int              `json:"nodes_looked_at" doc:"of them to count who is excluded: if fewer than all, the counts are estimates of all"`
}

// Why says why the job would wait, and which requirement excluded how many nodes.
func (q *Quote) Why() string {
	why := q.Reason
	if q.Nodes == 0 {
		why += "; the cluster knows no node"
	}
	return strings.Join(append([]string{why}, q.Exclusions()...), "; ")
}

// Exclusions says of each requirement how many nodes it excluded.
func (q *Quote) Exclusions() []string {
	about := ""
	if q.Looked < q.Nodes {
		about = "about "
	}
	var out []string
	for _, e := range q.Excluded {
		out = append(out, fmt.Sprintf("%s%d of %d nodes: %s", about, e.Nodes, q.Nodes, e.Reason))
	}
	return out
}

// Outbox is GET /v1/outbox: jobs whose claims are to be posted to the chain, by
// ascending cursor.
type Outbox struct {
	Items []OutboxItem `json:"items"`
}

// OutboxItem is one job's claims. It leaves the outbox once the chain has paid
// them, or never will.
type OutboxItem struct {
	Cursor Uint64        `json:"cursor" doc:"for ?after="`
	Order  crypto.Digest `json:"order"`
	Claims [][]byte      `json:"claims" doc:"canonical bytes of each"`
	Runs   [][]byte      `json:"runs" doc:"under replicate: messages that are to be posted, canonical bytes of a list of each alone"`
}

// MaxVotes is how many votes a server lists at a time.
const MaxVotes = 1_000

// Votes is GET /v1/votes: what jurors who are connected to the server have to say.
type Votes struct {
	Messages [][]byte `json:"messages" maxItems:"1000" doc:"that are to be posted now, canonical bytes of a list of each alone"`
}

// UploadState is GET /v1/uploads/{digest}: how much of a blob a server has.
type UploadState struct {
	Digest   crypto.Digest `json:"digest"`
	Verified Uint64        `json:"verified_bytes" doc:"from the beginning; an upload goes on there"`
	Whole    bool          `json:"whole" doc:"that is all of it"`
}

// BlobStored is the answer to PUT /v1/blobs/{digest}.
type BlobStored struct {
	Digest crypto.Digest `json:"digest"`
	Bytes  Uint64        `json:"bytes"`
}

// The events of GET /v1/jobs/{id}/logs.
const (
	EventLog = "log" // data is JobLog
	EventEnd = "end" // data is Job; the stream's last
)

// The events of GET /v1/events.
const (
	EventJob  = "job"  // data is JobEvent
	EventLost = "lost" // the stream's last: more changed than it could hold, list the jobs and follow again
)

// JobEvent says that a job has changed: its status, or a run.
type JobEvent struct {
	ID        crypto.Digest `json:"job_id"`
	Status    job.Status    `json:"status"`
	ChangedMs chain.TimeMs  `json:"changed_ms" doc:"of the status"`
	Job       *Job          `json:"job,omitempty" doc:"with detail=true"`
}

// JobLog is a piece of what a running program wrote. Its SSE id is opaque:
// resume with Last-Event-ID. A server that has other ids begins with all that it
// keeps; Node, Begun and Offset tell what of it is there already.
type JobLog struct {
	Node   crypto.PublicKey `json:"node_id"`
	Begun  chain.TimeMs     `json:"begun_ms" doc:"when that node began the work: what is run again is another stream"`
	Stderr bool             `json:"stderr"`
	Offset Uint64           `json:"offset" doc:"of the data in its stream"`
	Data   []byte           `json:"data"`
	Missed uint64           `json:"-"` // bytes of that stream before it that are not kept any more, as package sdk counts them
}
