package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type logsInput struct {
	ID          string `path:"id" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"the order's id"`
	Follow      string `query:"follow" enum:"true,false" default:"true" doc:"false: what is kept now, and the end"`
	LastEventID string `header:"Last-Event-ID" maxLength:"32" pattern:"^([0-9]+-[0-9a-f]{8})?$" doc:"as EventSource sends it when it reconnects"`
}

func (s *Server) registerLogs(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "stream-logs", Method: http.MethodGet, Path: jobsPath + "/{id}" + logsSuffix,
		Summary: "What a job's programs write, live, as server-sent events",
		Description: "Events named log, whose data is a JobLog, and at the end one named end, whose data is the Job: once it is final, or has been settling for " +
			"some seconds. Each server keeps the newest 512 KiB of a job and has event ids of its own; after another's it begins with all that it keeps. node_id, begun_ms and " +
			"offset tell what is there already and what is missing.",
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
	seen, err := s.logs.number(in.LastEventID)
	if err != nil {
		return nil, web.Invalid("header.Last-Event-ID", err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		s.sendLogs(hctx.Context(), w, logReader{job: id, seen: seen, follow: in.Follow != "false"})
	}}, nil
}

// logReader is one reader of a job's output.
type logReader struct {
	job    crypto.Digest
	seen   uint64 // number of the last piece that it has
	follow bool
	ending <-chan time.Time // when it waits no longer for a job that settles
}

// settlingTime is for how long a follower of a job whose work is done waits for
// its settlement.
const settlingTime = 5 * time.Second

// sendLogs writes pieces until the job has ended, the client goes or is too
// slow, or the server ends.
func (s *Server) sendLogs(ctx context.Context, w http.ResponseWriter, to logReader) {
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	err := sendStep(w, []byte(": hypermesh logs\n\n"))
	for err == nil {
		changed, leave := s.replica.news.watchJob(to.job)
		more, ended, sendErr := s.sendPieces(w, &to)
		if err = sendErr; ended || err != nil {
			leave()
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
		case <-to.ending:
			to.follow = false
		case <-heartbeat.C:
			err = sendStep(w, []byte(": still here\n\n"))
		}
		leave()
	}
	if err != nil {
		s.log.DebugContext(ctx, "log stream ended", "job", to.job.Short(), "error", err)
	}
}

// sendPieces writes what is new, and the end if it has come. more is closed when
// there is something newer.
func (s *Server) sendPieces(w http.ResponseWriter, to *logReader) (more <-chan struct{}, ended bool, err error) {
	current, known := s.jobJSON(to.job)
	s.admitLogs(to.job)
	pieces, last, more := s.logs.after(to.job, to.seen)
	for i := range pieces {
		if err := sendEvent(w, s.logs.eventID(last-uint64(len(pieces)-1-i)), api.EventLog, pieces[i]); err != nil {
			return more, false, err
		}
	}
	to.seen = last
	if !known || current.Status.Final() || !to.follow {
		return more, true, sendEvent(w, s.logs.eventID(to.seen), api.EventEnd, current)
	}
	if current.Status != job.Settling {
		to.ending = nil // or no longer: its claim was refuted, and it runs again
	} else if to.ending == nil {
		to.ending = time.After(settlingTime)
	}
	return more, false, nil
}

func sendEvent(w http.ResponseWriter, id, name string, data any) error {
	piece, err := appendEvent(nil, id, name, data)
	if err != nil {
		return err
	}
	return sendStep(w, piece)
}

func appendEvent(to []byte, id, name string, data any) ([]byte, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("server: encoding an event: %w", err)
	}
	return fmt.Appendf(to, "id: %s\nevent: %s\ndata: %s\n\n", id, name, encoded), nil
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
