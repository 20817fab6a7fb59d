package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

func newProblem(status int, kind, detail string) *api.Problem {
	return &api.Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// invalid refuses one part of the request.
func invalid(location string, err error) *api.Problem {
	p := newProblem(http.StatusUnprocessableEntity, api.ProblemInvalid, "validation failed")
	p.Errors = []api.ProblemDetail{{Location: location, Message: err.Error()}}
	return p
}

// invalidBody refuses the part of the body that a decoder of package api names.
func invalidBody(err error) *api.Problem {
	field := &api.FieldError{Message: err.Error()}
	if found, ok := errors.AsType[*api.FieldError](err); ok {
		field = found
	}
	return invalid(field.Within("body").Location, errors.New(field.Message))
}

func busy(detail string) error {
	return huma.ErrorWithHeaders(
		newProblem(http.StatusServiceUnavailable, api.ProblemBusy, detail),
		http.Header{"Retry-After": {"1"}})
}

// answer turns an error of the node into a problem.
func (s *service) answer(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, api.ProblemNotFound, err.Error())
	case errors.Is(err, ErrPruned):
		return newProblem(http.StatusGone, api.ProblemPruned, err.Error())
	case errors.Is(err, ErrBusy):
		return busy(err.Error())
	case ctx.Err() != nil:
		return newProblem(http.StatusServiceUnavailable, api.ProblemBusy, "the request ended before its answer")
	}
	s.log.ErrorContext(ctx, "request failed", slog.String("doing", doing), slog.Any("error", err))
	return newProblem(http.StatusInternalServerError, api.ProblemInternal, "internal error while "+doing)
}
