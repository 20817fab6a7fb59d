package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type eventsInput struct {
	Account string `query:"account" maxLength:"90" doc:"of one consumer's jobs; left out: of everybody's"`
	Detail  bool   `query:"detail" doc:"with the whole job in each event"`
	ReadInput
}

func (s *Server) registerEvents(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: eventsPath,
		Summary: "Which jobs change, live, as server-sent events",
		Description: "Events named job, whose data is a JobEvent: each tells how the job is now, so that changes in between may be left out. " +
			"They begin with the first change after the answer's head. One named lost is the last: whoever reads too slowly lists the jobs and follows again.",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			api.ContentEventStream: {Schema: web.SchemaOf[api.JobEvent](hapi)},
		}}},
		Errors: []int{http.StatusServiceUnavailable},
	}, s.streamEvents)
}

func (s *Server) streamEvents(_ context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	var account chain.Address
	if in.Account != "" {
		var err error
		if account, err = chain.ParseAddress(in.Account); err != nil {
			return nil, web.Invalid("query.account", err)
		}
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		f := s.replica.news.follow(account)
		defer s.replica.news.unfollow(f)
		if err := s.sendEvents(hctx.Context(), w, f, in.Detail); err != nil {
			s.log.DebugContext(hctx.Context(), "event stream ended", "error", err)
		}
	}}, nil
}

// sendEvents writes events until the client goes or is too slow, or the server
// ends.
func (s *Server) sendEvents(ctx context.Context, w http.ResponseWriter, f *feed, detail bool) error {
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	if err := sendStep(w, []byte(": hypermesh events\n\n")); err != nil {
		return err
	}
	for sent := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return nil
		case <-heartbeat.C:
			if err := sendStep(w, []byte(": still here\n\n")); err != nil {
				return err
			}
			continue
		case <-f.ready:
		}
		list, lost := f.take()
		var piece []byte
		for _, id := range list {
			if e, ok := s.jobEvent(id, detail); ok {
				sent++
				var err error
				if piece, err = appendEvent(piece, strconv.FormatUint(sent, 10), api.EventJob, e); err != nil {
					return err
				}
			}
			if len(piece) >= eventPiece {
				if err := sendStep(w, piece); err != nil {
					return err
				}
				piece = piece[:0]
			}
		}
		if lost {
			return sendEvent(w, strconv.FormatUint(sent, 10), api.EventLost, struct{}{})
		}
		if err := sendStep(w, piece); err != nil {
			return err
		}
	}
}

// eventPiece is how many bytes of events are written together, and one more.
const eventPiece = 64 << 10

// jobEvent returns how a job is now.
func (s *Server) jobEvent(id crypto.Digest, detail bool) (e api.JobEvent, ok bool) {
	if detail {
		j, ok := s.jobJSON(id)
		return api.JobEvent{ID: id, Status: j.Status, ChangedMs: j.ChangedMs, Job: &j}, ok
	}
	s.replica.view(func(state *scheduler.State) {
		var j *scheduler.Job
		if j, ok = state.Job(id); ok {
			e = api.JobEvent{ID: id, Status: j.Status, ChangedMs: j.Changed}
		}
	})
	return e, ok
}
