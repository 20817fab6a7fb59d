package rpc

import (
	"fmt"
	"net/http"

	"golang.org/x/sync/semaphore"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	eventsPath = "/v1/events"
	healthPath = "/healthz"
)

// limited bounds how many requests and streams are served at a time, and how
// many bytes of bodies are held for them. Health is always answered.
func (s *service) limited(next http.Handler) http.Handler {
	requests := make(chan struct{}, s.config.MaxRequests)
	streams := make(chan struct{}, s.config.MaxSubscribers)
	bodies := semaphore.NewWeighted(int64(s.config.SubmitBytes))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == healthPath {
			next.ServeHTTP(w, r)
			return
		}
		slots, what, limit := requests, "requests", s.config.MaxRequests
		if r.URL.Path == eventsPath {
			slots, what, limit = streams, "event streams", s.config.MaxSubscribers
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			web.WriteBusy(w, r, s.log, fmt.Sprintf("%s served now: limit %d", what, limit))
			return
		}
		if r.ContentLength > api.MaxSubmitBytes {
			p := web.NewProblem(http.StatusRequestEntityTooLarge, api.ProblemLimit, "the body is too large")
			p.Errors = []api.ProblemDetail{{Location: "body", Message: fmt.Sprintf("has %d bytes, limit %d", r.ContentLength, api.MaxSubmitBytes)}}
			w.Header().Set("Connection", "close") // rather than read the rest
			web.WriteProblem(w, r, s.log, p)
			return
		}
		if held := heldBytes(r); held > 0 {
			if !bodies.TryAcquire(held) {
				web.WriteBusy(w, r, s.log, fmt.Sprintf("bytes of submissions in flight: limit %d", s.config.SubmitBytes))
				return
			}
			defer bodies.Release(held)
		}
		next.ServeHTTP(w, r)
	})
}

// heldBytes is what the body may take: all that is allowed if the client does
// not say.
func heldBytes(r *http.Request) int64 {
	if r.ContentLength < 0 {
		return api.MaxSubmitBytes
	}
	return r.ContentLength
}
