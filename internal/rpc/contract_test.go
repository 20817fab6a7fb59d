package rpc_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func TestContracts(t *testing.T) {
	s := serve(t, devnetConfig())
	path := "/v1/contracts/" + address(1).String()
	if got := into[api.Contract](t, s.get(path)); got.Code != 3 || got.Label != "shop" || got.Proof != nil {
		t.Errorf("the contract: %+v", got)
	}
	if got := into[api.Contract](t, s.get(path+"?proof=true")); got.Proof == nil {
		t.Error("a contract without the proof that was asked for")
	}
	if got := into[api.State](t, s.get(path+"/state/6b?proof=true")); !got.Present || !strings.HasSuffix(string(got.Key), "k") || got.Proof == nil {
		t.Errorf("what it keeps: %+v", got)
	}
	if got := into[api.ContractCode](t, s.get("/v1/codes/3")); got.Code != 3 || got.Size != 99 {
		t.Errorf("the code: %+v", got)
	}
	if got := into[api.ContractSchema](t, s.get("/v1/codes/3/schema")); got.Code != 3 || string(got.Schema) != `{"execute":false}` {
		t.Errorf("the code's schema: %+v", got)
	}
	problem(t, s.get("/v1/codes/4/schema"), http.StatusNotFound)
	ask := func(to chain.Address, body string) answer {
		return s.do(http.MethodPost, "/v1/contracts/"+to.String()+"/query", api.ContentJSON, strings.NewReader(body))
	}
	if got := into[api.ContractAnswer](t, ask(address(1), `{"count":{}}`)); string(got.Data) != `answer to {"count":{}}` || got.GasUsed.Units() != 7 {
		t.Errorf("the answer: %+v", got)
	}
	if p := problem(t, ask(address(2), "{}"), http.StatusUnprocessableEntity); p.Type != api.ProblemContract || !strings.Contains(p.Detail, "no contract") {
		t.Errorf("a contract that is not there: %+v", p)
	}
	problem(t, ask(address(1), "busy"), http.StatusServiceUnavailable)
	problem(t, ask(address(1), strings.Repeat("x", api.MaxContractQuery+1)), http.StatusRequestEntityTooLarge)
	problem(t, s.get("/v1/contracts/"+address(2).String()), http.StatusNotFound)
	problem(t, s.get("/v1/codes/4"), http.StatusNotFound)
	for _, bad := range []string{"/v1/contracts/x", "/v1/contracts/x/state/6b", path + "/state/6", path + "/state/", "/v1/codes/0", "/v1/codes/x"} {
		if a := s.get(bad); a.status != http.StatusUnprocessableEntity && a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
}

// TestOneQuestionAClient: a client asks one contract at a time, with all the addresses that are
// likely his; this machine, and others, are not kept waiting by him.
func TestOneQuestionAClient(t *testing.T) {
	asks := rpc.Asks()
	done, ok := asks("[2001:db8::1]:1000")
	if !ok {
		t.Fatal("the first is refused")
	}
	for remote, may := range map[string]bool{
		"[2001:db8::1]:1001": false, "[2001:db8::ffff]:1": false, "[2001:db8:0:1::1]:1": true, "192.0.2.1:5": true, "127.0.0.1:1": true, "[::1]:1": true, "nobody": true,
	} {
		for range 2 {
			other, ok := asks(remote)
			if ok != may {
				t.Errorf("%s may ask: %v", remote, ok)
			}
			if ok {
				other()
			}
		}
	}
	if _, ok := asks("127.0.0.1:1"); !ok {
		t.Error("this machine asks once")
	}
	if _, ok := asks("127.0.0.1:2"); !ok {
		t.Error("this machine does not ask twice")
	}
	done()
	if _, ok := asks("[2001:db8::1]:1002"); !ok {
		t.Error("who has his answer may not ask again")
	}
}
