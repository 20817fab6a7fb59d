package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const description = `
The public API of a HyperMesh node. Everything that is answered is final unless it says otherwise.
Amounts are nHYPER (10^-9 HYPER) and times milliseconds since the Unix epoch. Integers above 2^53 are decimal strings.
Digests, keys and signatures are lower-case hexadecimal, addresses bech32m, other bytes base64. Errors are RFC 9457 problems.
With proof=true an answer carries a Merkle proof, the header whose state_root it leads to, and the certificate that shows the header final.
A header carries the root of its parent's state, so a proven value is as of height header.height - 1.
`

// service is the handlers.
type service struct {
	config  Config
	node    Node
	log     *slog.Logger
	cache   *eventCache
	faucet  *faucetLimiter
	asking  sync.Map      // client networks that ask a contract, which one does once at a time
	closing chan struct{} // closed when the event streams should end
}

// NewHandler returns the whole API as a handler, for a server other than
// Listen's. Metrics may be nil. Its event streams end with their requests.
func NewHandler(config Config, node Node, metrics http.Handler, log *slog.Logger) (http.Handler, error) {
	_, handler, err := newService(config, node, metrics, log)
	return handler, err
}

func newService(config Config, node Node, metrics http.Handler, log *slog.Logger) (*service, http.Handler, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, nil, err
	}
	s := &service{config: config, node: node, log: log, cache: newEventCache(node), closing: make(chan struct{})}
	mux := http.NewServeMux()
	hapi := web.NewAPI(humago.NewAdapter(mux, ""), "HyperMesh node", description)
	s.register(hapi)
	if config.Faucet != nil {
		s.faucet = newFaucetLimiter(*config.Faucet)
		s.registerFaucet(hapi)
	}
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	if err := web.Publish(mux, hapi, log); err != nil {
		return nil, nil, fmt.Errorf("rpc: %w", err)
	}
	return s, web.Recovered(log, s.limited(mux)), nil
}

func (s *service) register(hapi huma.API) {
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary,
			Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}}
	}
	huma.Register(hapi, get("health", "/healthz", "Is the node up and at the head of the chain?"), s.health)
	huma.Register(hapi, get("get-status", "/v1/status", "The node and its chain"), s.status)
	huma.Register(hapi, get("get-tx", "/v1/txs/{id}", "A transaction and what became of it"), s.tx)
	huma.Register(hapi, get("get-block", "/v1/blocks/{height}", "A finalized block"), s.block)
	huma.Register(hapi, get("get-account", "/v1/accounts/{address}", "An account, with a proof if asked"), s.account)
	huma.Register(hapi, get("get-state", "/v1/state/{key}", "A value of the state, with a proof if asked"), s.state)
	huma.Register(hapi, get("get-settlements", "/v1/settlements/{order}", "What claims of an order did on chain"), s.settlements)
	huma.Register(hapi, get("get-reputation", "/v1/reputation/{of}", "What settlements say of a node, or of an account"), s.reputation)
	huma.Register(hapi, get("get-validators", "/v1/validators", "The committee of an epoch"), s.validators)
	huma.Register(hapi, get("get-epoch", "/v1/epochs/{epoch}", "How an epoch ended, and who serves in the next"), s.epoch)
	huma.Register(hapi, get("get-params", "/v1/params", "The rules' numbers"), s.params)
	huma.Register(hapi, get("get-supply", "/v1/supply", "HYPER minted and burned, and where the rest is"), s.supply)
	s.registerContracts(hapi, get)
	s.registerSubmit(hapi)
	s.registerEvents(hapi)
}

// Body is an answer with a JSON body.
type body[T any] struct{ Body T }

func (s *service) health(ctx context.Context, _ *struct{}) (*body[api.Health], error) {
	status, err := s.node.Status(ctx)
	if err != nil {
		return nil, s.answer(ctx, "looking at the node", err)
	}
	if status.Syncing {
		return nil, web.Busy(fmt.Sprintf("syncing, at height %d", status.Height))
	}
	return &body[api.Health]{api.Health{Status: "ok"}}, nil
}

func (s *service) status(ctx context.Context, _ *struct{}) (*body[api.Status], error) {
	status, err := s.node.Status(ctx)
	if err != nil {
		return nil, s.answer(ctx, "reading the status", err)
	}
	return &body[api.Status]{status}, nil
}

type validatorsInput struct {
	Epoch uint64 `query:"epoch" doc:"0: the current one. Past ones are known for as long as evidence of them is taken"`
}

func (s *service) validators(ctx context.Context, in *validatorsInput) (*body[api.Validators], error) {
	validators, err := s.node.Validators(ctx, in.Epoch)
	if err != nil {
		return nil, s.answer(ctx, "reading the committee", err)
	}
	return &body[api.Validators]{validators}, nil
}

type supplyInput struct {
	Verify bool `query:"verify" doc:"recompute the parts from every record of the state"`
}

func (s *service) supply(ctx context.Context, in *supplyInput) (*body[api.Supply], error) {
	supply, err := s.node.Supply(ctx, in.Verify)
	if err != nil {
		return nil, s.answer(ctx, "reading the supply", err)
	}
	return &body[api.Supply]{supply}, nil
}

func (s *service) params(ctx context.Context, _ *struct{}) (*body[api.ChainParams], error) {
	params, err := s.node.Params(ctx)
	if err != nil {
		return nil, s.answer(ctx, "reading the parameters", err)
	}
	return &body[api.ChainParams]{params}, nil
}

type txInput struct {
	ID string `path:"id" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the transaction's id"`
}

func (s *service) tx(ctx context.Context, in *txInput) (*body[api.TxLookup], error) {
	id, err := crypto.ParseDigest(in.ID)
	if err != nil {
		return nil, web.Invalid("path.id", err)
	}
	found, err := s.node.Tx(ctx, id)
	if err != nil {
		return nil, s.answer(ctx, "looking for the transaction", err)
	}
	return &body[api.TxLookup]{found}, nil
}

type settlementsInput struct {
	Order string `path:"order" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the order's id, which is the job's"`
}

func (s *service) settlements(ctx context.Context, in *settlementsInput) (*body[api.Settlements], error) {
	order, err := crypto.ParseDigest(in.Order)
	if err != nil {
		return nil, web.Invalid("path.order", err)
	}
	found, err := s.node.Settlements(ctx, order)
	if err != nil {
		return nil, s.answer(ctx, "reading settlements", err)
	}
	return &body[api.Settlements]{found}, nil
}

type accountInput struct {
	Address string `path:"address" maxLength:"90" doc:"bech32m, hyper1…"`
	Proof   bool   `query:"proof" doc:"prove it, as of the latest state whose root is certified"`
}

func (s *service) account(ctx context.Context, in *accountInput) (*body[api.Account], error) {
	address, err := chain.ParseAddress(in.Address)
	if err != nil {
		return nil, web.Invalid("path.address", err)
	}
	account, err := s.node.Account(ctx, address, in.Proof)
	if err != nil {
		return nil, s.answer(ctx, "reading the account", err)
	}
	return &body[api.Account]{account}, nil
}

type stateInput struct {
	Key   string `path:"key" minLength:"2" maxLength:"512" pattern:"^([0-9a-f]{2})+$" doc:"hexadecimal, 1 to 256 bytes"`
	Proof bool   `query:"proof" doc:"prove it, as of the latest state whose root is certified"`
}

func (s *service) state(ctx context.Context, in *stateInput) (*body[api.State], error) {
	var key api.Hex
	if err := key.UnmarshalText([]byte(in.Key)); err != nil {
		return nil, web.Invalid("path.key", err)
	}
	if len(key) == 0 || len(key) > state.MaxKeyBytes {
		return nil, web.Invalid("path.key", fmt.Errorf("has %d bytes, want 1 to %d", len(key), state.MaxKeyBytes))
	}
	value, err := s.node.State(ctx, key, in.Proof)
	if err != nil {
		return nil, s.answer(ctx, "reading the state", err)
	}
	return &body[api.State]{value}, nil
}

type blockInput struct {
	Height string `path:"height" maxLength:"20" doc:"a number, or latest"`
	Detail string `query:"detail" enum:"full,header,encoded" default:"full" doc:"full: transactions decoded; header: header and certificate alone; encoded: canonical bytes of block and receipts"`
}

func (s *service) block(ctx context.Context, in *blockInput) (*body[api.Block], error) {
	height, _ := s.node.Finalized()
	if in.Height != "latest" {
		n, err := strconv.ParseUint(in.Height, 10, 64)
		if err != nil {
			return nil, web.Invalid("path.height", errors.New("is neither a 64-bit number nor latest"))
		}
		height = chain.Height(n)
	}
	found, err := s.node.Block(ctx, height)
	if err != nil {
		return nil, s.answer(ctx, "reading the block", err)
	}
	out, err := blockToJSON(found, in.Detail)
	if err != nil {
		return nil, s.answer(ctx, "reading the block", err)
	}
	return &body[api.Block]{out}, nil
}

func blockToJSON(b Block, detail string) (api.Block, error) {
	txs := b.Decoded.Txs()
	out := api.Block{
		Header: api.HeaderToJSON(*b.Decoded.Header()), Digest: b.Decoded.Digest(), TxCount: len(txs), Certificate: b.Certificate,
	}
	switch detail {
	case api.BlockEncoded:
		out.Raw, out.RawReceipts = b.Decoded.Raw(), b.Receipts.Encode()
		return out, nil
	case api.BlockHeader:
		return out, nil
	}
	if len(b.Receipts.Txs) != len(txs) {
		return out, fmt.Errorf("block %d has %d transactions and %d receipts", out.Header.Height, len(txs), len(b.Receipts.Txs))
	}
	out.BeginEvents, out.EndEvents = b.Receipts.Begin, b.Receipts.End
	out.Txs = make([]api.BlockTx, len(txs))
	for i := range txs {
		out.Txs[i] = api.BlockTx{TxID: txs[i].ID(), Tx: api.TxToJSON(*txs[i].Tx()), Receipt: b.Receipts.Txs[i]}
	}
	return out, nil
}

type submitInput struct {
	ContentType string `header:"Content-Type" doc:"application/json or application/cbor"`
	Accept      string `header:"Accept" doc:"application/cbor has the verdicts answered as the canonical array of [id, reason], the reason empty if the transaction was accepted"`
	RawBody     []byte `contentType:"application/cbor"`
}

// submitOutput is the answer, encoded as the client wants it.
type submitOutput struct {
	ContentType string `header:"Content-Type"`
	RetryAfter  string `header:"Retry-After" doc:"seconds; there if transactions were refused because too many wait"`
	Body        []byte
}

func (s *service) registerSubmit(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "submit-txs", Method: http.MethodPost, Path: "/v1/txs",
		Summary: "Submit 1 to 1,000 transactions",
		Description: "One verdict each, in order: whether it entered the mempool. As JSON an object, as CBOR the canonical array of the transactions' bytes, each a byte string. " +
			"Those refused as " + api.ReasonQueueFull + " would wait too long now: come again after Retry-After. If that is all of them, the answer is 503.",
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.SubmitRequest](hapi)}}},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			api.ContentJSON: {Schema: web.SchemaOf[api.SubmitResponse](hapi)},
			api.ContentCBOR: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
		// The server's own reader counts up to and refuses at this many.
		MaxBodyBytes:     api.MaxSubmitBytes + 1,
		BodyReadTimeout:  s.config.ReadTimeout,
		SkipValidateBody: true, // api.DecodeSubmission does it, for both forms
		Errors:           []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable},
	}, s.submit)
}

func (s *service) submit(ctx context.Context, in *submitInput) (*submitOutput, error) {
	media, _, err := mime.ParseMediaType(in.ContentType)
	if err != nil || media != api.ContentJSON && media != api.ContentCBOR {
		p := web.NewProblem(http.StatusUnsupportedMediaType, api.ProblemInvalid, "validation failed")
		p.Errors = []api.ProblemDetail{{Location: "header.Content-Type", Message: fmt.Sprintf("is %.60q, want %s or %s", in.ContentType, api.ContentJSON, api.ContentCBOR)}}
		return nil, p
	}
	s.node.Hold(ctx)
	list, err := api.DecodeSubmission(media, in.RawBody)
	if err != nil {
		return nil, web.InvalidBody(err)
	}
	verdicts, retryAfter, err := s.offer(ctx, list)
	if err != nil {
		return nil, err
	}
	if in.Accept == api.ContentCBOR {
		return &submitOutput{ContentType: api.ContentCBOR, RetryAfter: retryAfter, Body: api.EncodeVerdicts(verdicts)}, nil
	}
	out, err := json.Marshal(api.SubmitResponse{Verdicts: verdicts})
	if err != nil {
		return nil, s.answer(ctx, "encoding verdicts", err)
	}
	return &submitOutput{ContentType: api.ContentJSON, RetryAfter: retryAfter, Body: out}, nil
}

// offer offers what decoded to the node. If transactions were refused because too many
// wait, retryAfter is when to come again; if all were, that is the error.
func (s *service) offer(ctx context.Context, list []api.Submitted) (verdicts []api.Verdict, retryAfter string, err error) {
	verdicts = make([]api.Verdict, len(list))
	txs, at := make([]chain.DecodedTx, 0, len(list)), make([]int, 0, len(list))
	for i := range list {
		item := &list[i]
		verdicts[i].TxID = item.ID
		if item.Err != nil {
			verdicts[i].Reason = item.Err.Error()
			continue
		}
		txs, at = append(txs, item.Tx), append(at, i)
	}
	if len(txs) == 0 {
		return verdicts, "", nil
	}
	reasons, err := s.node.Submit(ctx, txs)
	if err != nil {
		return nil, "", s.answer(ctx, "submitting transactions", err)
	}
	if len(reasons) != len(txs) {
		return nil, "", s.answer(ctx, "submitting transactions", fmt.Errorf("%d verdicts for %d transactions", len(reasons), len(txs)))
	}
	early := 0
	for i, reason := range reasons {
		verdicts[at[i]].Accepted, verdicts[at[i]].Reason = reason == "", reason
		if strings.HasPrefix(reason, api.ReasonQueueFull) {
			early++
		}
	}
	switch early {
	case 0:
		return verdicts, "", nil
	case len(verdicts):
		return nil, "", s.answer(ctx, "submitting transactions", fmt.Errorf("%w: %s", ErrBusy, reasons[0]))
	}
	return verdicts, "1", nil
}
