package rpc

import (
	"context"
	"errors"
	"strconv"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type epochInput struct {
	Epoch string `path:"epoch" maxLength:"20" doc:"a number from 1, or latest: the last one that has ended"`
}

func (s *service) epoch(ctx context.Context, in *epochInput) (*body[api.EpochEnd], error) {
	epoch := uint64(0)
	if in.Epoch != "latest" {
		n, err := strconv.ParseUint(in.Epoch, 10, 64)
		if err != nil || n == 0 {
			return nil, web.Invalid("path.epoch", errors.New("is neither a 64-bit number from 1 nor latest"))
		}
		epoch = n
	}
	end, err := s.node.Epoch(ctx, epoch)
	if err != nil {
		return nil, s.answer(ctx, "reading the end of the epoch", err)
	}
	return &body[api.EpochEnd]{end}, nil
}
