package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// answer turns an error of the node into a problem.
func (s *service) answer(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return web.NotFound(err.Error())
	case errors.Is(err, ErrPruned):
		return web.NewProblem(http.StatusGone, api.ProblemPruned, err.Error())
	case errors.Is(err, ErrBusy):
		return web.Busy(err.Error())
	case ctx.Err() != nil:
		return web.NewProblem(http.StatusServiceUnavailable, api.ProblemBusy, "the request ended before its answer")
	}
	s.log.ErrorContext(ctx, "request failed", slog.String("doing", doing), slog.Any("error", err))
	return web.NewProblem(http.StatusInternalServerError, api.ProblemInternal, "internal error while "+doing)
}
