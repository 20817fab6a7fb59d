package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func (s *Server) registerOrders(hapi huma.API) {
	binary := func(what string) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{api.ContentCBOR: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: what}}}
	}
	huma.Register(hapi, huma.Operation{
		OperationID: "submit-orders", Method: http.MethodPost, Path: ordersPath, Summary: "Submit many signed orders of one consumer",
		Description: "At most 512 orders and a MiB, with the specifications that they name, each once. Blobs have to be uploaded before. Each order is accepted or refused for itself; " +
			"an answer without a rule says that it is durable. Submitting an order again changes nothing. GET /v1/jobs/{id} shows the cluster's signed acceptance.",
		RequestBody:  &huma.RequestBody{Content: binary("Canonical CBOR: [[specification, …], [[order, signature], …]], in the forms that are hashed and signed.")},
		Responses:    map[string]*huma.Response{"200": {Description: "OK", Content: binary("Canonical CBOR: [[id, rule, reason], …] in the order of the request; an empty rule: accepted.")}},
		MaxBodyBytes: api.MaxOrdersBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.submitOrders)
}

type ordersInput struct {
	RawBody []byte `contentType:"application/cbor"`
}

type ordersOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (s *Server) submitOrders(ctx context.Context, in *ordersInput) (*ordersOutput, error) {
	orders, digests, err := api.DecodeOrders(in.RawBody)
	if err != nil {
		return nil, web.InvalidBody(err)
	}
	list := s.checkOrders(ctx, &orders, digests)
	s.admit(ctx, list)
	verdicts := make([]api.OrderVerdict, len(list))
	accepted := 0
	for i, a := range list {
		verdicts[i].ID = a.id
		if a.err == nil {
			accepted++
			continue
		}
		verdicts[i].Rule, verdicts[i].Reason = s.verdict(ctx, a.err)
	}
	s.log.Info("orders accepted", "accepted", accepted, "orders", len(list))
	return &ordersOutput{ContentType: api.ContentCBOR, Body: api.EncodeOrderVerdicts(verdicts)}, nil
}

// verdict says which rule an order broke.
func (s *Server) verdict(ctx context.Context, err error) (rule, reason string) {
	if rejected, ok := errors.AsType[*scheduler.Rejection](err); ok {
		return rejected.Rule, short(rejected.Text)
	}
	if wrong, ok := errors.AsType[*inputError](err); ok {
		return api.RuleInputs, short(wrong.text)
	}
	if !errors.Is(err, errNoLeader) {
		s.log.WarnContext(ctx, "order not accepted", "error", err)
	}
	return api.RuleBusy, "the cluster cannot take it now; it may a little later"
}

// application is an order on its way to be accepted.
type application struct {
	submit scheduler.Submit
	id     crypto.Digest
	err    error     // why it is not accepted: a *scheduler.Rejection, a *inputError, or it may be later
	took   *accepted // what the leader says of it, if that is another server
}

// checkOrders makes applications of orders: those that do not hold have their
// error. What orders have in common is looked at once, and their signatures are
// verified together.
func (s *Server) checkOrders(ctx context.Context, o *api.Orders, digests []crypto.Digest) []*application {
	specs := make(map[crypto.Digest]int, len(digests))
	faults := make([]error, len(digests))
	for i := range o.Specs {
		specs[digests[i]] = i
		if err := o.Specs[i].Check(); err != nil {
			faults[i] = &scheduler.Rejection{Rule: api.RuleForm, Text: err.Error()}
		}
	}
	list := make([]*application, len(o.List))
	var claims []crypto.Signed
	var claimed []*application
	for i := range o.List {
		order := &o.List[i].Order
		payload := order.Payload()
		a := &application{id: crypto.DomainOrder.Hash(payload)}
		list[i] = a
		at, ok := specs[order.Spec]
		if !ok {
			a.err = &scheduler.Rejection{Rule: api.RuleForm, Text: fmt.Sprintf("specification %s is not among those of the request", order.Spec)}
			continue
		}
		if a.err = faults[at]; a.err != nil {
			continue
		}
		a.submit = scheduler.Submit{Order: *order, OrderSig: o.List[i].Signature, Spec: o.Specs[at]}
		key, err := checkApplication(&a.submit, digests[at])
		if err != nil {
			a.err = &scheduler.Rejection{Rule: api.RuleForm, Text: err.Error()}
			continue
		}
		claims = append(claims, crypto.SignedBy(key, crypto.DomainOrder, payload, a.submit.OrderSig))
		claimed = append(claimed, a)
	}
	for i, valid := range crypto.VerifyBatch(claims, 1) {
		if !valid {
			claimed[i].err = &scheduler.Rejection{Rule: api.RuleSignature, Text: "the signature is not the consumer's of the order"}
		}
	}
	return list
}

// inputsTimeout bounds the search for the blobs of one request.
const inputsTimeout = 30 * time.Second

// gatherInputs looks for the blobs of orders, once for each specification, and returns
// those orders whose blobs are at a majority, or are not looked for: who signs with a
// new key pays nothing for it, so that what the consumer's escrow does not cover is
// left to the scheduler, which refuses it whatever its blobs are.
func (s *Server) gatherInputs(ctx context.Context, list []*application) []*application {
	ctx, cancel := context.WithTimeout(ctx, inputsTimeout)
	defer cancel()
	looked := map[crypto.Digest]error{}
	var open []*application
	for _, a := range list {
		if !a.submit.Escrow.Less(a.submit.Order.MaxCost) {
			err, known := looked[a.submit.Order.Spec]
			if !known {
				err = s.inputs(ctx, &a.submit.Spec)
				looked[a.submit.Order.Spec] = err
			}
			a.err = err
		}
		if a.err == nil {
			open = append(open, a)
		}
	}
	return open
}

// checkApplication returns the key that has to have signed the order, if the
// order is within its bounds and the specification is its own.
func checkApplication(c *scheduler.Submit, digest crypto.Digest) (crypto.PublicKey, error) {
	if err := c.Order.Check(); err != nil {
		return crypto.PublicKey{}, err
	}
	if err := job.CheckTogether(&c.Order, &c.Spec, digest); err != nil {
		return crypto.PublicKey{}, err
	}
	key, err := c.Order.Consumer.Ed25519()
	if err != nil {
		return crypto.PublicKey{}, err
	}
	return key, key.Check()
}

// admit has orders of one consumer accepted, those that have no error yet and whose
// blobs can be had. Their signatures were verified.
func (s *Server) admit(ctx context.Context, list []*application) {
	s.admitting.Add(int64(len(list)))
	defer s.admitting.Add(-int64(len(list)))
	var open []*application
	for _, a := range list {
		if a.err != nil {
			continue // its form may be no order's
		}
		order := &a.submit.Order
		unjudged := job.CheckJudged(order, &a.submit.Spec, &s.id.genesis.Params)
		switch {
		case order.ChainID != s.id.genesis.ChainID:
			a.err = &scheduler.Rejection{Rule: "chain", Text: fmt.Sprintf("is %s, this is %s", order.ChainID, s.id.genesis.ChainID)}
		case order.Cluster != s.id.cluster.Public():
			a.err = &scheduler.Rejection{Rule: "cluster", Text: fmt.Sprintf("is %s, this is %s", order.Cluster, s.id.cluster.Public())}
		case unjudged != nil:
			a.err = &scheduler.Rejection{Rule: "spec", Text: unjudged.Error()}
		default:
			open = append(open, a)
		}
	}
	if len(open) == 0 {
		return
	}
	escrow, err := s.enoughEscrow(ctx, open)
	if err != nil {
		s.log.WarnContext(ctx, "the chain cannot be asked for an escrow", "error", err)
		for _, a := range open {
			a.err = errNoEscrow
		}
		return
	}
	for _, a := range open {
		a.submit.Escrow, a.submit.Height, a.submit.TimeMs = escrow.Balance, escrow.Height, escrow.TimeMs
	}
	if open = s.back(ctx, s.gatherInputs(ctx, open)); len(open) > 0 {
		s.submit(ctx, open)
	}
}

// back returns the orders that could begin if nothing of bonds were promised for others. The others have their error. One
// that is submitted again may have locked what is missing itself; one whose escrow does not cover it is not accepted.
func (s *Server) back(ctx context.Context, list []*application) (open []*application) {
	known := make([]bool, len(list))
	s.replica.view(func(state *scheduler.State) {
		for i, a := range list {
			_, known[i] = state.Job(a.id)
		}
	})
	for i, a := range list {
		o := &a.submit.Order
		if !known[i] && !a.submit.Escrow.Less(o.MaxCost) {
			if why := s.cannotBack(ctx, s.askOf(o.Policy.Policy, o.MaxCost)); why != "" {
				a.err = &scheduler.Rejection{Rule: "policy", Text: why}
				continue
			}
		}
		open = append(open, a)
	}
	return open
}

// errNoEscrow says that the chain cannot be asked.
var errNoEscrow = errors.New("the chain cannot be asked for the escrow now, and it was not known a short while ago")

// enoughEscrow returns what the orders' consumer has in escrow. If it does not
// cover all of them, or is older than what the state knows to have been spent, or to
// have been spendable, since, it waits a little for what cannot be proven yet. What the chain said a while ago does as
// long as it covers the orders: see escrowFresh.
func (s *Server) enoughEscrow(ctx context.Context, list []*application) (Escrow, error) {
	consumer := list[0].submit.Order.ConsumerAddress()
	var caps chain.Amount
	fits, latest := true, &list[0].submit.Order
	for _, a := range list {
		sum, ok := caps.Add(a.submit.Order.MaxCost)
		caps, fits = sum, fits && ok
		if latest.Deadline < a.submit.Order.Deadline {
			latest = &a.submit.Order
		}
	}
	limit := time.Now().Add(escrowWait)
	covers := func(escrow Escrow) bool {
		var outstanding chain.Amount
		var settled chain.Height
		var since chain.TimeMs
		s.replica.view(func(state *scheduler.State) {
			outstanding = state.Outstanding(consumer)
			settled, since = state.EscrowFrom(consumer)
		})
		needed, ok := outstanding.Add(caps)
		return escrow.Height >= settled && escrow.TimeMs >= since && (!ok || !fits || !escrow.Balance.Less(needed))
	}
	for wait := escrowPause; ; wait = min(2*wait, maxEscrowPause) {
		escrow, err := s.escrowOf(ctx, consumer, func(e Escrow) bool { return covers(e) && s.config.Liable(latest, e.TimeMs) })
		if err != nil {
			return Escrow{}, err
		}
		if covers(escrow) || time.Now().After(limit) {
			return escrow, nil
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return Escrow{}, context.Cause(ctx)
		}
	}
}

// submit has raft carry out the submissions of one consumer, wherever the leader
// is. An error is a *scheduler.Rejection or wraps errNoLeader.
//
// While the leadership changes it tries again for a while: an order names
// itself, so that it is accepted once however often it is submitted.
func (s *Server) submit(ctx context.Context, list []*application) {
	from := list[0].submit.Order.ConsumerAddress()
	raws := make([][]byte, len(list))
	waits := make([]<-chan outcome, len(list))
	limit := time.Now().Add(leaderWait)
	for i, a := range list {
		if a.err = s.replica.suspects.check(a.submit); a.err == nil {
			raws[i], a.err = encodeCommand(a.submit)
		}
		if a.err == nil {
			a.err = errNoLeader
		}
	}
	for tries := 0; tries == 0 || ctx.Err() == nil && time.Now().Before(limit); tries++ {
		if tries > 1 {
			pause(ctx, leaderWaitRetry)
		}
		lane := s.forwards // waits for a leader, which may be this server
		if tries == 0 && s.current.Load() != nil {
			lane = s.batches
		}
		left := 0
		for i, a := range list {
			if waits[i] = nil; errors.Is(a.err, errNoLeader) {
				waits[i] = lane.queueFor(from, raws[i])
			}
		}
		for i, a := range list {
			if waits[i] == nil {
				continue
			}
			o := <-waits[i]
			if a.err, a.took = o.err, o.took; errors.Is(a.err, errNoLeader) {
				left++
			}
		}
		if left == 0 {
			return
		}
	}
}
