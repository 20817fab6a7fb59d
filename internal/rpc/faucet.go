package rpc

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxFaucetClients bounds the client networks that the faucet remembers.
const maxFaucetClients = 4096

// faucetLimiter gives every client network a token bucket: an IPv4 address, or
// an IPv6 /64, which is what one customer has.
type faucetLimiter struct {
	config  FaucetConfig
	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter // guarded by mu
}

func newFaucetLimiter(config FaucetConfig) *faucetLimiter {
	return &faucetLimiter{config: config, clients: map[netip.Prefix]*rate.Limiter{}}
}

// allow takes a token of the client's bucket. A client that is not remembered
// when there is no room for it is refused.
func (l *faucetLimiter) allow(remote string, now time.Time) bool {
	client, ok := clientNetwork(remote)
	if !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.clients[client]
	if !ok {
		if len(l.clients) >= maxFaucetClients {
			l.forgetIdle(now)
		}
		if len(l.clients) >= maxFaucetClients {
			return false
		}
		bucket = rate.NewLimiter(rate.Every(l.config.Every), l.config.Burst)
		l.clients[client] = bucket
	}
	return bucket.AllowN(now, 1)
}

// forgetIdle forgets the buckets that are full again.
func (l *faucetLimiter) forgetIdle(now time.Time) {
	for client, bucket := range l.clients {
		if bucket.TokensAt(now) >= float64(l.config.Burst) {
			delete(l.clients, client)
		}
	}
}

func clientNetwork(remote string) (netip.Prefix, bool) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}, false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	network, err := addr.Prefix(bits)
	return network, err == nil
}

const maxFaucetBytes = 1 << 10

type faucetInput struct {
	remote  string
	RawBody []byte `contentType:"application/json"`
}

// Resolve implements huma.Resolver: it keeps the client's address.
func (in *faucetInput) Resolve(ctx huma.Context) []error {
	in.remote = ctx.RemoteAddr()
	return nil
}

func (s *service) registerFaucet(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "use-faucet", Method: http.MethodPost, Path: "/v1/faucet",
		Summary:          "Get HYPER; on a devnet only",
		RequestBody:      &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.FaucetRequest](hapi)}}},
		MaxBodyBytes:     maxFaucetBytes,
		BodyReadTimeout:  s.config.ReadTimeout,
		SkipValidateBody: true, // api.DecodeJSON does it
		Errors:           []int{http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, s.useFaucet)
}

func (s *service) useFaucet(ctx context.Context, in *faucetInput) (*body[api.FaucetResponse], error) {
	var request api.FaucetRequest
	if err := api.DecodeJSON(in.RawBody, &request); err != nil {
		return nil, web.InvalidBody(err)
	}
	limit := s.config.Faucet.MaxAmount
	switch {
	case request.Address.IsZero():
		return nil, web.InvalidBody(&api.FieldError{Location: "address", Message: "is missing or zero"})
	case request.Amount.IsZero():
		return nil, web.InvalidBody(&api.FieldError{Location: "amount_nhyper", Message: "is missing or zero"})
	case limit.Less(request.Amount):
		return nil, web.InvalidBody(&api.FieldError{Location: "amount_nhyper", Message: fmt.Sprintf("is %d, limit %d", request.Amount.Nano(), limit.Nano())})
	case !s.faucet.allow(in.remote, time.Now()):
		wait := max(1, int(s.config.Faucet.Every.Seconds()))
		return nil, huma.ErrorWithHeaders(
			web.NewProblem(http.StatusTooManyRequests, api.ProblemBusy, fmt.Sprintf("the faucet gives %d at once and then one every %s", s.config.Faucet.Burst, s.config.Faucet.Every)),
			http.Header{"Retry-After": {fmt.Sprint(wait)}})
	}
	id, err := s.node.Faucet(ctx, request.Address, request.Amount)
	if err != nil {
		return nil, s.answer(ctx, "paying from the faucet", err)
	}
	return &body[api.FaucetResponse]{api.FaucetResponse{TxID: id}}, nil
}
