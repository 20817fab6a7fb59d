package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// NewProblem makes a problem of one of package api's kinds.
func NewProblem(status int, kind, detail string) *api.Problem {
	return &api.Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// Invalid refuses one part of the request.
func Invalid(location string, err error) *api.Problem {
	p := NewProblem(http.StatusUnprocessableEntity, api.ProblemInvalid, "validation failed")
	p.Errors = []api.ProblemDetail{{Location: location, Message: err.Error()}}
	return p
}

// InvalidBody refuses the part of the body that a decoder of package api names.
func InvalidBody(err error) *api.Problem {
	field := &api.FieldError{Message: err.Error()}
	if found, ok := errors.AsType[*api.FieldError](err); ok {
		field = found
	}
	return Invalid(field.Within("body").Location, errors.New(field.Message))
}

// Busy refuses for now.
func Busy(detail string) error {
	return huma.ErrorWithHeaders(
		NewProblem(http.StatusServiceUnavailable, api.ProblemBusy, detail),
		http.Header{"Retry-After": {"1"}})
}

// NotFound says that there is no such thing.
func NotFound(detail string) *api.Problem {
	return NewProblem(http.StatusNotFound, api.ProblemNotFound, detail)
}

// Write sends a whole answer. A client that has gone is no failure of ours.
func Write(w http.ResponseWriter, r *http.Request, log *slog.Logger, body []byte) {
	if _, err := w.Write(body); err != nil {
		log.DebugContext(r.Context(), "client went away", slog.Any("error", err))
	}
}

// WriteJSON sends value. A content type that is set already stays.
func WriteJSON(w http.ResponseWriter, r *http.Request, log *slog.Logger, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("web: an answer does not encode: %v", err))
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", api.ContentJSON)
	}
	w.WriteHeader(status)
	Write(w, r, log, body)
}

// WriteProblem sends a problem.
func WriteProblem(w http.ResponseWriter, r *http.Request, log *slog.Logger, p *api.Problem) {
	w.Header().Set("Content-Type", api.ContentProblem)
	WriteJSON(w, r, log, p.Status, p)
}

// WriteBusy refuses for now, outside an operation of the OpenAPI document.
func WriteBusy(w http.ResponseWriter, r *http.Request, log *slog.Logger, detail string) {
	w.Header().Set("Retry-After", "1")
	WriteProblem(w, r, log, NewProblem(http.StatusServiceUnavailable, api.ProblemBusy, detail))
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

// Recovered turns a panic into a 500 and a log line. If the answer has begun,
// the connection is cut, so that the client does not take a part for the whole.
func Recovered(log *slog.Logger, next http.Handler) http.Handler {
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
			log.ErrorContext(r.Context(), "request panicked", slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			if noting.begun {
				panic(http.ErrAbortHandler)
			}
			WriteProblem(w, r, log, NewProblem(http.StatusInternalServerError, api.ProblemInternal, "internal error"))
		}()
		next.ServeHTTP(noting, r)
	})
}
