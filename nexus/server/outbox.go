package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type outboxInput struct {
	After  uint64 `query:"after" doc:"cursor of the last item seen; 0 or left out: all that wait"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	WaitMs int    `query:"wait_ms" minimum:"0" maximum:"30000" doc:"for the next item, if there is none"`
	ReadInput
}

func (s *Server) registerOutbox(hapi huma.API) {
	op := getOperation("get-outbox", outboxPath, "Claims that wait to be posted to the chain")
	op.Description = "Anybody may post them; whoever does changes nothing but when they are paid. A job leaves once the chain has paid it."
	op.Errors = []int{http.StatusServiceUnavailable}
	huma.Register(hapi, op, s.outbox)
}

func (s *Server) outbox(ctx context.Context, in *outboxInput) (*body[api.Outbox], error) {
	timer := time.NewTimer(time.Duration(in.WaitMs) * time.Millisecond)
	defer timer.Stop()
	for {
		changed := s.replica.news.watchOutbox()
		out := s.readOutbox(in.After, in.Limit)
		if len(out.Items) > 0 || in.WaitMs == 0 {
			return &body[api.Outbox]{out}, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return &body[api.Outbox]{out}, nil
		case <-s.closing:
			return &body[api.Outbox]{out}, nil
		case <-ctx.Done():
			return nil, web.Busy("the request ended before its answer")
		}
	}
}

func (s *Server) readOutbox(after uint64, limit int) api.Outbox {
	out := api.Outbox{Items: []api.OutboxItem{}}
	var items []scheduler.OutboxItem
	s.replica.view(func(state *scheduler.State) { items = state.Outbox(after, limit) })
	for _, item := range items {
		s.signer.claims(item.Claims)
		claims := make([][]byte, len(item.Claims))
		for i := range item.Claims {
			claims[i] = codec.Marshal(item.Claims[i])
		}
		runs := make([][]byte, len(item.Runs))
		for i, m := range item.Runs {
			runs[i] = codec.Marshal(chain.Msgs{s.signer.run(m)})
		}
		out.Items = append(out.Items, api.OutboxItem{Cursor: api.Uint64(item.Cursor), Order: item.Order, Claims: claims, Runs: runs})
	}
	return out
}
