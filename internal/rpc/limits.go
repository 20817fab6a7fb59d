package rpc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"golang.org/x/sync/semaphore"

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
			s.refuse(w, r, fmt.Sprintf("%s served now: limit %d", what, limit))
			return
		}
		if r.ContentLength > api.MaxSubmitBytes {
			p := newProblem(http.StatusRequestEntityTooLarge, api.ProblemLimit, "the body is too large")
			p.Errors = []api.ProblemDetail{{Location: "body", Message: fmt.Sprintf("has %d bytes, limit %d", r.ContentLength, api.MaxSubmitBytes)}}
			w.Header().Set("Connection", "close") // rather than read the rest
			s.writeProblem(r.Context(), w, p)
			return
		}
		if held := heldBytes(r); held > 0 {
			if !bodies.TryAcquire(held) {
				s.refuse(w, r, fmt.Sprintf("bytes of submissions in flight: limit %d", s.config.SubmitBytes))
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

func (s *service) refuse(w http.ResponseWriter, r *http.Request, detail string) {
	w.Header().Set("Retry-After", "1")
	s.writeProblem(r.Context(), w, newProblem(http.StatusServiceUnavailable, api.ProblemBusy, detail))
}

// answered notes whether an answer has begun. Through Unwrap it leaves flushing
// and deadlines to the server's own writer.
type answered struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answered) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// recovered turns a panic into a 500 and a log line. If the answer has begun,
// the connection is cut, so that the client does not take a part for the whole.
func (s *service) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		noting := &answered{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); r.Context().Err() != nil || ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler) // the client has gone
			}
			s.log.ErrorContext(r.Context(), "request panicked", slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			if noting.begun {
				panic(http.ErrAbortHandler)
			}
			s.writeProblem(r.Context(), w, newProblem(http.StatusInternalServerError, api.ProblemInternal, "internal error"))
		}()
		next.ServeHTTP(noting, r)
	})
}
