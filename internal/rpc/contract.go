package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func (s *service) registerContracts(hapi huma.API, get func(id, path, summary string) huma.Operation) {
	huma.Register(hapi, get("get-contract", "/v1/contracts/{address}", "A contract, with a proof if asked"), s.contract)
	huma.Register(hapi, get("get-contract-state", "/v1/contracts/{address}/state/{key}", "What a contract keeps under a key of its own, with a proof if asked"), s.contractState)
	huma.Register(hapi, get("get-contract-code", "/v1/codes/{code}", "Code that contracts are made of, with a proof if asked"), s.contractCode)
	huma.Register(hapi, get("get-contract-schema", "/v1/codes/{code}/schema", "What the messages of a code's contracts look like, as the code says"), s.contractSchema)
	huma.Register(hapi, huma.Operation{
		OperationID: "query-contract", Method: http.MethodPost, Path: "/v1/contracts/{address}/query",
		Summary:      "Have a contract answer a query",
		Description:  "The body is the query, JSON for the contract to read. Nothing of it goes on the chain. A contract that does not answer is a problem that says why.",
		MaxBodyBytes: api.MaxContractQuery, BodyReadTimeout: s.config.ReadTimeout, SkipValidateBody: true,
		Errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.askContract)
}

type contractStateInput struct {
	Address string `path:"address" maxLength:"90" doc:"bech32m, hyper1…"`
	Key     string `path:"key" minLength:"2" maxLength:"512" pattern:"^([0-9a-f]{2})+$" doc:"the contract's own key, hexadecimal"`
	Proof   bool   `query:"proof" doc:"prove it, as of the latest state whose root is certified"`
}

func (s *service) contract(ctx context.Context, in *accountInput) (*body[api.Contract], error) {
	address, err := chain.ParseAddress(in.Address)
	if err != nil {
		return nil, web.Invalid("path.address", err)
	}
	found, err := s.node.Contract(ctx, address, in.Proof)
	if err != nil {
		return nil, s.answer(ctx, "reading the contract", err)
	}
	return &body[api.Contract]{found}, nil
}

func (s *service) contractState(ctx context.Context, in *contractStateInput) (*body[api.State], error) {
	address, err := chain.ParseAddress(in.Address)
	if err != nil {
		return nil, web.Invalid("path.address", err)
	}
	var key api.Hex
	if err := key.UnmarshalText([]byte(in.Key)); err != nil {
		return nil, web.Invalid("path.key", err)
	}
	if len(key) == 0 || len(key) > state.MaxKeyBytes {
		return nil, web.Invalid("path.key", fmt.Errorf("has %d bytes, want 1 to %d", len(key), state.MaxKeyBytes))
	}
	value, err := s.node.ContractState(ctx, address, key, in.Proof)
	if err != nil {
		return nil, s.answer(ctx, "reading the contract's state", err)
	}
	return &body[api.State]{value}, nil
}

type contractCodeInput struct {
	Code  uint64 `path:"code" minimum:"1" doc:"the code's number"`
	Proof bool   `query:"proof" doc:"prove it, as of the latest state whose root is certified"`
}

func (s *service) contractCode(ctx context.Context, in *contractCodeInput) (*body[api.ContractCode], error) {
	found, err := s.node.ContractCode(ctx, in.Code, in.Proof)
	if err != nil {
		return nil, s.answer(ctx, "reading the code", err)
	}
	return &body[api.ContractCode]{found}, nil
}

type contractSchemaInput struct {
	Code uint64 `path:"code" minimum:"1" doc:"the code's number"`
}

func (s *service) contractSchema(ctx context.Context, in *contractSchemaInput) (*body[api.ContractSchema], error) {
	found, err := s.node.ContractSchema(ctx, in.Code)
	if err != nil {
		return nil, s.answer(ctx, "reading the code's schema", err)
	}
	return &body[api.ContractSchema]{found}, nil
}

type askContractInput struct {
	remote  string
	Address string `path:"address" maxLength:"90" doc:"bech32m, hyper1…"`
	RawBody []byte `contentType:"application/json"`
}

// Resolve implements huma.Resolver: it keeps the client's address.
func (in *askContractInput) Resolve(ctx huma.Context) []error {
	in.remote = ctx.RemoteAddr()
	return nil
}

// asks notes that a client asks a contract, and is false if it does already. What comes from this
// machine itself is of many: a proxy has it so.
func (s *service) asks(remote string) (done func(), ok bool) {
	client, _ := clientNetwork(remote)
	if client.Addr().IsLoopback() {
		return func() {}, true
	}
	_, already := s.asking.LoadOrStore(client, true)
	return func() { s.asking.Delete(client) }, !already
}

func (s *service) askContract(ctx context.Context, in *askContractInput) (*body[api.ContractAnswer], error) {
	address, err := chain.ParseAddress(in.Address)
	if err != nil {
		return nil, web.Invalid("path.address", err)
	}
	done, ok := s.asks(in.remote)
	if !ok {
		return nil, web.Busy("a contract is being asked for this client already")
	}
	defer done()
	answer, err := s.node.AskContract(ctx, address, in.RawBody)
	if why, ok := errors.AsType[*ContractError](err); ok {
		return nil, web.NewProblem(http.StatusUnprocessableEntity, api.ProblemContract, why.Why)
	}
	if err != nil {
		return nil, s.answer(ctx, "asking the contract", err)
	}
	return &body[api.ContractAnswer]{answer}, nil
}
