package rpc

import (
	"context"
	"errors"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type reputationInput struct {
	Of string `path:"of" maxLength:"90" doc:"a node id, 64 hexadecimal digits, or an address, hyper1…"`
}

func (s *service) reputation(ctx context.Context, in *reputationInput) (*body[api.Reputation], error) {
	var found api.Reputation
	node, err := crypto.ParsePublicKey(in.Of)
	if err == nil {
		found, err = s.node.NodeReputation(ctx, node)
	} else {
		account, bad := chain.ParseAddress(in.Of)
		if bad != nil {
			return nil, web.Invalid("path.of", errors.New("is neither a node id nor an address"))
		}
		found, err = s.node.AccountReputation(ctx, account)
	}
	if err != nil {
		return nil, s.answer(ctx, "reading the reputation", err)
	}
	return &body[api.Reputation]{found}, nil
}
