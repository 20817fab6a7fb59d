package server

import (
	"context"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

func (s *Server) registerVotes(hapi huma.API) {
	op := getOperation("get-votes", votesPath, "Votes of this server's agents that wait to be posted to the chain")
	op.Description = "Agents that the chain drew for panels vote on other nodes' work, and those that measure a challenged node say what is missing; an agent that is new to this cluster, and the cluster, say that it is at home here. Anybody may post what is here. Each server lists the votes of the agents " +
		"that are connected to it; one leaves the list once the chain has it."
	huma.Register(hapi, op, func(context.Context, *struct{}) (*body[api.Votes], error) {
		return &body[api.Votes]{api.Votes{Messages: s.votes()}}, nil
	})
}

// votes lists what is to be posted now of the words of agents.
func (s *Server) votes() [][]byte {
	out := slices.Concat(s.challenges.reports(s.id.genesis.ChainID, time.Now()), s.docket.votes(), s.homes.list(time.Now()))
	return out[:min(len(out), api.MaxVotes)]
}
