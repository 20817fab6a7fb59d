package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

func (s *Server) registerVotes(hapi huma.API) {
	op := getOperation("get-votes", votesPath, "Votes of this server's agents that wait to be posted to the chain")
	op.Description = "Agents that the chain drew for panels vote on other nodes' work. Anybody may post what is here. Each server lists the votes of the agents " +
		"that are connected to it; one leaves the list once the chain has it."
	huma.Register(hapi, op, func(context.Context, *struct{}) (*body[api.Votes], error) {
		return &body[api.Votes]{api.Votes{Messages: s.docket.votes()}}, nil
	})
}
