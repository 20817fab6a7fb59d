package sdk

import (
	"context"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// CarryPeer takes a signed message of a peer that probes a lease, or of a part in a hardware challenge, encoded as
// agents and servers do, to the cluster of whom it is for, and returns the answer: that of the node to a probe;
// empty: it gave none in time, or there is none to give. A message is taken once; to say it again is harmless.
func (c *Client) CarryPeer(ctx context.Context, message []byte) ([]byte, error) {
	r, err := post(c.nexus, "/v1/peers", api.PeerMessage{Message: message})
	if err != nil {
		return nil, err
	}
	r.repeatable = true
	answer, err := ask[api.PeerMessage](ctx, c, r)
	return answer.Message, err
}
