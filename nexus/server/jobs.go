package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	// escrowWait is how long a submission waits for a deposit to show: a state
	// can be proven a block after it was made.
	escrowWait     = 5 * time.Second
	escrowPause    = 20 * time.Millisecond
	maxEscrowPause = 250 * time.Millisecond
)

// body is an answer with a JSON body.
type body[T any] struct{ Body T }

func getOperation(id, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary,
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}}
}

func (s *Server) register(hapi huma.API) {
	huma.Register(hapi, getOperation("health", healthPath, "Does the server have a leader to work with?"), s.health)
	huma.Register(hapi, getOperation("get-status", "/v1/status", "The server and its cluster"), s.status)
	huma.Register(hapi, getOperation("list-nodes", "/v1/nodes", "The cluster's provider nodes, by ascending id"), s.nodes)
	huma.Register(hapi, huma.Operation{
		OperationID: "quote", Method: http.MethodPost, Path: quotesPath, Summary: "Who would take a job, at which price, and what excludes the others",
		Description:  "A round of sealed bids that places nothing.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.QuoteRequest](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.quote)
}

func (s *Server) registerJobs(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "submit-job", Method: http.MethodPost, Path: jobsPath, Summary: "Submit a signed order",
		Description:  "Its blobs have to be uploaded before. Submitting an order again changes nothing and answers the same.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.SubmitJobRequest](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.submitJob)
	huma.Register(hapi, getOperation("get-job", jobsPath+"/{id}", "A job"), s.job)
	huma.Register(hapi, getOperation("list-jobs", jobsPath, "Jobs, the newest first"), s.jobs)
	huma.Register(hapi, huma.Operation{
		OperationID: "cancel-job", Method: http.MethodDelete, Path: jobsPath + "/{id}", Summary: "End a job on its consumer's request",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusForbidden, http.StatusServiceUnavailable},
	}, s.cancelJob)
}

func (s *Server) health(context.Context, *struct{}) (*body[api.Health], error) {
	leader := s.consensus.leader()
	switch {
	case leader.IsZero():
		return nil, web.Busy("no leader is known")
	case leader == s.self && s.current.Load() == nil:
		return nil, web.Busy("the leader is reading its log")
	}
	return &body[api.Health]{api.Health{Status: "ok"}}, nil
}

func (s *Server) status(ctx context.Context, _ *ReadInput) (*body[api.NexusStatus], error) {
	own, err := s.own(ctx, feeValid)
	if err != nil && !errors.Is(err, ErrNotRegistered) {
		return nil, s.answer(ctx, "asking the chain for the cluster's fee", err)
	}
	out := api.NexusStatus{
		ChainID: s.id.genesis.ChainID, Cluster: s.id.cluster.Public(), Server: s.self, Leader: s.consensus.leader(), FeeBps: own.FeeBps,
		NowMs: s.now(), Version: s.cfg.Version,
	}
	s.replica.view(func(state *scheduler.State) {
		out.Nodes = state.Connected()
		out.Jobs = state.OpenCount()
	})
	return &body[api.NexusStatus]{out}, nil
}

type nodesInput struct {
	Cursor string `query:"cursor" maxLength:"90" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	ReadInput
}

// nodes lists nodes by ascending id. The state is held up for the ids of all, and
// for the nodes of one page.
func (s *Server) nodes(_ context.Context, in *nodesInput) (*body[api.NodeList], error) {
	var after crypto.PublicKey
	if in.Cursor != "" {
		var err error
		if after, err = crypto.ParsePublicKey(in.Cursor); err != nil {
			return nil, web.Invalid("query.cursor", fmt.Errorf("cursor %.40q is not one of this list", in.Cursor))
		}
	}
	var ids []crypto.PublicKey
	s.replica.view(func(state *scheduler.State) {
		state.EachNode(func(n *scheduler.Node) {
			if in.Cursor == "" || n.ID.Compare(after) > 0 {
				ids = append(ids, n.ID)
			}
		})
	})
	slices.SortFunc(ids, crypto.PublicKey.Compare)
	out := api.NodeList{Nodes: []api.NexusNode{}}
	if len(ids) > in.Limit {
		ids = ids[:in.Limit]
		out.Next = ids[in.Limit-1].String()
	}
	s.replica.view(func(state *scheduler.State) {
		for _, id := range ids {
			if n, ok := state.Node(id); ok {
				out.Nodes = append(out.Nodes, nodeToJSON(n))
			}
		}
	})
	return &body[api.NodeList]{out}, nil
}

func nodeToJSON(n *scheduler.Node) api.NexusNode {
	return api.NexusNode{
		ID: n.ID, Owner: n.Owner, Region: n.Region, Total: n.Total, Used: n.Used, Kernels: append([]string{}, n.Kernels...),
		Connected: n.Connected, Accepting: n.Accepting, Finished: api.Uint64(n.Finished), Lost: api.Uint64(n.Lost),
		Strikes: api.Uint64(n.Strikes), HeldUntil: n.HeldUntil, HeldFor: n.HeldFor,
	}
}

type jobInput struct {
	ID string `path:"id" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the order's id"`
	ReadInput
}

func (s *Server) job(_ context.Context, in *jobInput) (*body[api.Job], error) {
	id, err := crypto.ParseDigest(in.ID)
	if err != nil {
		return nil, web.Invalid("path.id", err)
	}
	out, ok := s.jobJSON(id)
	if !ok {
		return nil, web.NotFound("job " + in.ID + " is not known")
	}
	return &body[api.Job]{out}, nil
}

// jobJSON returns a job as this server knows it.
func (s *Server) jobJSON(id crypto.Digest) (out api.Job, ok bool) {
	var acceptance chain.Acceptance
	var order chain.Order
	var award *scheduler.SignedBid
	s.replica.view(func(state *scheduler.State) {
		var j *scheduler.Job
		if j, ok = state.Job(id); ok {
			out, acceptance, order = jobToJSON(state, j), j.Acceptance, j.Order
			if run := j.Award(); run != nil {
				award = &scheduler.SignedBid{Bid: run.Bid, BidSig: run.BidSig}
			}
		}
	})
	if ok {
		out.AcceptanceSig = s.signer.acceptance(&acceptance)
	}
	if award != nil {
		out.Deal = s.dealOf(order, &out, award)
	}
	return out, ok
}

// jobToJSON returns a job without the signature of its acceptance.
func jobToJSON(state *scheduler.State, j *scheduler.Job) api.Job {
	out := api.Job{
		ID: j.ID(), Status: j.Status, Reason: state.Reason(j), Policy: j.Order.Policy.String(), Consumer: j.Consumer(),
		Order: api.OrderToJSON(j.Order), OrderSig: j.OrderSig, Acceptance: api.AcceptanceToJSON(j.Acceptance),
		Spec: api.SpecToJSON(j.Spec), SubmittedMs: j.Submitted, ChangedMs: j.Changed, Runs: make([]api.JobRun, len(j.Runs)), Leased: j.Leased, Begun: j.Covered() && !j.Leased,
	}
	for i := range j.Runs {
		out.Runs[i] = runToJSON(&j.Runs[i])
		if j.Status == job.Settled { // before, it is its node's until the chain has it
			out.Runs[i].OutputKey = j.Runs[i].Key
		}
	}
	if counted := j.Counted(); len(counted) > 0 {
		out.Result, out.Output = counted[0].Done.Receipt.Result, counted[0].Done.Output
	}
	if r := j.Settlement; r != nil {
		out.Settlement = &api.JobSettlement{
			Txs: append([]crypto.Digest{}, r.Txs...), Height: r.Height, Cost: r.Cost, Burned: r.Burned, Priority: r.Priority,
			Providers: append([]crypto.PublicKey{}, r.Nodes...), ProofVerified: r.Proof,
		}
	}
	return out
}

func runToJSON(r *scheduler.Run) api.JobRun {
	bid := api.BidToJSON(r.Bid)
	out := api.JobRun{
		Node: r.Node, Owner: r.Owner, Stage: r.Stage.String(), SinceMs: r.Since, PlacedMs: r.Placed, Prices: bid.Prices, Fixed: bid.Fixed, Detail: r.Reason,
	}
	if d := r.Done; d != nil {
		receipt, signature := api.ReceiptToJSON(d.Receipt), d.ReceiptSig
		out.Receipt, out.ReceiptSig, out.Output, out.OutputBytes, out.Detail = &receipt, &signature, d.Output, api.Uint64(d.OutputSize), d.Detail
	}
	return out
}

type jobsInput struct {
	Account string `query:"account" maxLength:"90" doc:"of one consumer; left out: everybody's"`
	Cursor  string `query:"cursor" maxLength:"90" doc:"next_cursor of the page before"`
	Limit   int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	ReadInput
}

func (s *Server) jobs(_ context.Context, in *jobsInput) (*body[api.JobList], error) {
	var account chain.Address
	if in.Account != "" {
		var err error
		if account, err = chain.ParseAddress(in.Account); err != nil {
			return nil, web.Invalid("query.account", err)
		}
	}
	before := uint64(0)
	if in.Cursor != "" {
		var err error
		if before, err = strconv.ParseUint(in.Cursor, 10, 64); err != nil || before == 0 {
			return nil, web.Invalid("query.cursor", fmt.Errorf("cursor %.40q is not one of this list", in.Cursor))
		}
	}
	out := api.JobList{Jobs: []api.Job{}}
	var acceptances []chain.Acceptance
	s.replica.view(func(state *scheduler.State) {
		last := uint64(0)
		state.Newest(account, before, func(j *scheduler.Job) bool {
			if len(out.Jobs) == in.Limit {
				out.Next = strconv.FormatUint(last, 10)
				return false
			}
			last = j.Arrival
			out.Jobs = append(out.Jobs, jobToJSON(state, j))
			acceptances = append(acceptances, j.Acceptance)
			return true
		})
	})
	for i := range acceptances {
		out.Jobs[i].AcceptanceSig = s.signer.acceptance(&acceptances[i])
	}
	return &body[api.JobList]{out}, nil
}

type requestInput struct {
	RawBody []byte `contentType:"application/json"`
}

func (s *Server) submitJob(ctx context.Context, in *requestInput) (*body[api.Job], error) {
	var request api.SubmitJobRequest
	if err := api.DecodeJSON(in.RawBody, &request); err != nil {
		return nil, web.InvalidBody(err)
	}
	signed, err := request.VerifyWith(s.verifier.verify)
	if err != nil {
		return nil, web.InvalidBody(err)
	}
	order, spec := signed.Order(), signed.Spec()
	id := order.ID()
	if _, ok := s.jobJSON(id); ok {
		known, err := s.newestJob(ctx, id) // this server may be behind
		return &body[api.Job]{known}, err
	}
	a := &application{submit: scheduler.Submit{Order: order, OrderSig: signed.Signature(), Spec: spec}, id: id}
	s.admit(ctx, []*application{a})
	if a.err == nil && a.took == nil { // it was this server
		if a.took = s.accepted(id); a.took == nil {
			a.err = errNoLeader
		}
	}
	if errors.Is(a.err, errNoEscrow) {
		return nil, web.Busy(a.err.Error())
	}
	if a.err != nil {
		return nil, s.answer(ctx, "submitting the job", a.err)
	}
	took := a.took
	s.log.Info("job accepted", "job", id.Short(), "policy", order.Policy.String(), "consumer", order.ConsumerAddress())
	return &body[api.Job]{api.Job{
		ID: id, Status: took.Status, Reason: took.Reason, Policy: order.Policy.String(), Consumer: order.ConsumerAddress(),
		Order: request.Order, OrderSig: request.Signature, Acceptance: api.AcceptanceToJSON(took.Acceptance), AcceptanceSig: took.AcceptanceSig,
		Spec: request.Spec, SubmittedMs: took.Submitted, ChangedMs: took.Changed, Runs: []api.JobRun{},
	}}, nil
}

// newestJob returns a job as a linearizable read shows it.
func (s *Server) newestJob(ctx context.Context, id crypto.Digest) (api.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := s.readers.await(ctx, s); err != nil {
		return api.Job{}, s.answer(ctx, "asking the leader for what is newest", err)
	}
	j, ok := s.jobJSON(id)
	if !ok {
		return api.Job{}, web.NotFound("job " + id.String() + " is not known")
	}
	return j, nil
}

type cancelInput struct {
	ID        string `path:"id" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the order's id"`
	Signature string `header:"Hypermesh-Signature" required:"true" minLength:"128" maxLength:"128" doc:"by the consumer, over the cancellation, in hexadecimal"`
}

func (s *Server) cancelJob(ctx context.Context, in *cancelInput) (*body[api.Job], error) {
	id, err := crypto.ParseDigest(in.ID)
	if err != nil {
		return nil, web.Invalid("path.id", err)
	}
	var signature crypto.Signature
	if err := signature.UnmarshalText([]byte(in.Signature)); err != nil {
		return nil, web.Invalid("header."+api.SignatureHeader, err)
	}
	known, ok := s.jobJSON(id)
	if !ok {
		if known, err = s.newestJob(ctx, id); err != nil { // who leads no longer may not know it
			return nil, err
		}
	}
	key := crypto.PublicKey(known.Order.Consumer.Key) // of 32 bytes: the order was checked
	if !key.Verify(crypto.DomainCancel, api.CancelPayload(s.id.genesis.ChainID, id), signature) {
		p := web.NewProblem(http.StatusForbidden, api.ProblemInvalid, "only the job's consumer may end it")
		p.Errors = []api.ProblemDetail{{Location: "header." + api.SignatureHeader, Message: "is not the consumer's signature of the cancellation"}}
		return nil, p
	}
	if err := s.openedMeanwhile(ctx, id); err != nil {
		return nil, err
	}
	if err := s.propose(scheduler.CancelJob{Order: id}); err != nil {
		return nil, s.answer(ctx, "cancelling the job", err)
	}
	out, ok := s.jobJSON(id)
	if !ok || out.Status != job.Cancelled && !out.Status.Final() {
		return nil, s.answer(ctx, "cancelling the job", errNoLeader)
	}
	return &body[api.Job]{out}, nil
}
