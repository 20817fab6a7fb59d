package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type logsInput struct {
	ID          string `path:"id" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the order's id"`
	LastEventID string `header:"Last-Event-ID" maxLength:"20" pattern:"^[0-9]*$" doc:"as EventSource sends it when it reconnects"`
}

func (s *Server) registerLogs(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "stream-logs", Method: http.MethodGet, Path: jobsPath + "/{id}" + logsSuffix,
		Summary: "What a job's programs write, live, as server-sent events",
		Description: "Events named log, whose data is a JobLog, and at the end one named end, whose data is the Job. Each server numbers " +
			"the pieces itself and keeps the newest 512 KiB of a job.",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			api.ContentEventStream: {Schema: web.SchemaOf[api.JobLog](hapi)},
		}}},
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.streamLogs)
}

func (s *Server) streamLogs(_ context.Context, in *logsInput) (*huma.StreamResponse, error) {
	id, err := crypto.ParseDigest(in.ID)
	if err != nil {
		return nil, web.Invalid("path.id", err)
	}
	if _, ok := s.jobJSON(id); !ok {
		return nil, web.NotFound("job " + in.ID + " is not known")
	}
	seen := uint64(0)
	if in.LastEventID != "" {
		if seen, err = strconv.ParseUint(in.LastEventID, 10, 64); err != nil || seen > 1<<62 {
			return nil, web.Invalid("header.Last-Event-ID", fmt.Errorf("is %.20q, want a number of this stream", in.LastEventID))
		}
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		s.sendLogs(hctx.Context(), w, id, seen)
	}}, nil
}

// sendLogs writes pieces until the job has ended, the client goes or is too
// slow, or the server ends.
func (s *Server) sendLogs(ctx context.Context, w http.ResponseWriter, id crypto.Digest, seen uint64) {
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	err := sendStep(w, []byte(": hypermesh logs\n\n"))
	for err == nil {
		changed, leave := s.replica.news.watchJob(id)
		job, known := s.jobJSON(id)
		pieces, last, more := s.logs.after(id, seen)
		for i := range pieces {
			if err == nil {
				err = sendEvent(w, last-uint64(len(pieces)-1-i), api.EventLog, pieces[i])
			}
		}
		seen = last
		if err == nil && (!known || job.Status.Final()) {
			leave()
			err = sendEvent(w, seen, api.EventEnd, job)
			break
		}
		select {
		case <-ctx.Done():
			leave()
			return
		case <-s.closing:
			leave()
			return
		case <-changed:
		case <-more:
		case <-heartbeat.C:
			err = sendStep(w, []byte(": still here\n\n"))
		}
		leave()
	}
	if err != nil {
		s.log.DebugContext(ctx, "log stream ended", "job", id.Short(), "error", err)
	}
}

func sendEvent(w http.ResponseWriter, id uint64, name string, data any) error {
	piece, err := appendEvent(nil, id, name, data)
	if err != nil {
		return err
	}
	return sendStep(w, piece)
}

func appendEvent(to []byte, id uint64, name string, data any) ([]byte, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("server: encoding an event: %w", err)
	}
	return fmt.Appendf(to, "id: %d\nevent: %s\ndata: %s\n\n", id, name, encoded), nil
}

// sendStep writes to a client that must take each piece within a time.
func sendStep(w http.ResponseWriter, piece []byte) error {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
		return fmt.Errorf("server: write deadline: %w", err)
	}
	if _, err := w.Write(piece); err != nil {
		return err
	}
	return control.Flush()
}
