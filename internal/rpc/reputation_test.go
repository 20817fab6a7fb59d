package rpc_test

import (
	"net/http"
	"testing"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// A path names a node or an account, and each is asked for as what it is.
func TestReputationOfNodeAndAccount(t *testing.T) {
	s := serve(t, devnetConfig())
	if got := into[api.Reputation](t, s.get("/v1/reputation/"+testKey(1).Public().String())); len(got.Nodes) != 1 || got.Nodes[0].Facts.Score != 7 {
		t.Errorf("node: %+v", got)
	}
	if got := into[api.Reputation](t, s.get("/v1/reputation/"+address(1).String())); got.Consumer == nil || got.Consumer.Score != 9 {
		t.Errorf("account: %+v", got)
	}
	if a := s.get("/v1/reputation/" + testKey(2).Public().String()); a.status != http.StatusNotFound {
		t.Errorf("an unknown node: %+v", a)
	}
}
