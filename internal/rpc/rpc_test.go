package rpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func devnetConfig() rpc.Config { return rpc.Config{Faucet: &rpc.FaucetConfig{}} }

func TestEveryEndpointAnswers(t *testing.T) {
	s := serve(t, devnetConfig())
	tx := transfer(t, 0)
	s.node.seal(tx, transfer(t, 1))
	order := crypto.Digest{5}

	if got := into[api.Status](t, s.get("/v1/status")); got.ChainID != "hyper-test" {
		t.Errorf("status: %+v", got)
	}
	if got := into[api.Health](t, s.get("/healthz")); got.Status != "ok" {
		t.Errorf("health: %+v", got)
	}
	if got := into[api.TxLookup](t, s.get("/v1/txs/"+tx.ID().String())); got.Status != api.TxIncluded || got.Height != 1 || !got.Receipt.Accepted() {
		t.Errorf("tx: %+v", got)
	}
	if got := into[api.Account](t, s.get("/v1/accounts/"+address(3).String()+"?proof=true")); got.Address != address(3) || got.Balance != chain.Hyper(500_000_000) || got.Proof == nil {
		t.Errorf("account: %+v", got)
	}
	if got := into[api.State](t, s.get("/v1/state/0aff?proof=true")); got.Key.String() != "0aff" || string(got.Proof.Value) != "value" {
		t.Errorf("state: %+v", got)
	}
	if got := into[api.Settlements](t, s.get("/v1/settlements/"+order.String())); got.Cost != chain.Nano(8) || len(got.Settled) != 1 {
		t.Errorf("settlements: %+v", got)
	}
	if got := into[api.Validators](t, s.get("/v1/validators?epoch=2")); got.Epoch != 2 {
		t.Errorf("the committee of epoch 2 is %+v", got)
	}
	if got := into[api.Validators](t, s.get("/v1/validators")); got.Epoch != 1 || len(got.Validators) != 1 {
		t.Errorf("validators: %+v", got)
	}
	for path, want := range map[string]uint64{"latest": 7, "3": 3} {
		if got := into[api.EpochEnd](t, s.get("/v1/epochs/"+path)); got.Epoch != want || got.Members[0].Weight != 5 {
			t.Errorf("the end of epoch %s: %+v", path, got)
		}
	}
	if got := into[api.Supply](t, s.get("/v1/supply")); got.Total != chain.Nano(6) || got.Parts != nil {
		t.Errorf("supply: %+v", got)
	}
	if got := into[api.Supply](t, s.get("/v1/supply?verify=true")); got.Parts == nil || got.Parts.Sum != got.Total {
		t.Errorf("verified supply: %+v", got)
	}
	if got := into[api.ChainParams](t, s.get("/v1/params")); got.Params != chain.DefaultParams() {
		t.Errorf("params: %+v", got)
	}
	request := fmt.Sprintf(`{"address":%q,"amount_nhyper":5}`, address(4))
	if got := into[api.FaucetResponse](t, s.do("POST", "/v1/faucet", api.ContentJSON, strings.NewReader(request))); got.TxID != crypto.Digest(address(4)) {
		t.Errorf("faucet: %+v", got)
	}
	if got := s.get("/metrics"); string(got.body) != "height 3\n" {
		t.Errorf("metrics: %s", got.body)
	}
}

func TestBlocksInEachDetail(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.seal()
	s.node.seal(transfer(t, 0), transfer(t, 1))

	full := into[api.Block](t, s.get("/v1/blocks/2"))
	if full.TxCount != 2 || len(full.Txs) != 2 || full.Txs[0].Receipt.Events[0].(chain.Transferred).To != address(2) || len(full.BeginEvents) != 1 || full.Raw != nil {
		t.Errorf("full: %+v", full)
	}
	back, err := api.TxFromJSON(full.Txs[1].Tx)
	if err != nil || crypto.DomainTxID.Hash(back.Encode()) != full.Txs[1].TxID {
		t.Errorf("the decoded transaction has another id: %v", err)
	}
	if header := api.HeaderFromJSON(full.Header); header.Digest() != full.Digest {
		t.Error("the decoded header has another digest")
	}
	latest := into[api.Block](t, s.get("/v1/blocks/latest?detail=header"))
	if latest.Digest != full.Digest || latest.Txs != nil || latest.TxCount != 2 {
		t.Errorf("header: %+v", latest)
	}
	encoded := into[api.Block](t, s.get("/v1/blocks/2?detail=encoded"))
	decoded, err := chain.DecodeBlock(encoded.Raw, nil)
	if err != nil || decoded.Digest() != full.Digest {
		t.Errorf("encoded block: %v", err)
	}
	receipts, err := chain.DecodeBlockReceipts(encoded.RawReceipts)
	if err != nil || len(receipts.Txs) != 2 {
		t.Errorf("encoded receipts: %v", err)
	}
}

func TestSubmissionGivesOneVerdictEach(t *testing.T) {
	s := serve(t, devnetConfig())
	good, unlucky := transfer(t, 1), transfer(t, 13)
	body := api.EncodeSubmission([][]byte{good.Raw(), {0xff}, unlucky.Raw()})
	got := into[api.SubmitResponse](t, s.do("POST", "/v1/txs", "application/cbor", bytes.NewReader(body)))
	v := got.Verdicts
	if len(v) != 3 || !v[0].Accepted || v[0].TxID != good.ID() || v[1].Accepted || v[1].Reason == "" || v[2].Accepted || v[2].Reason != "nonce 13 is unlucky" {
		t.Fatalf("%+v", v)
	}
	asJSON, err := json.Marshal(map[string]any{"txs": []any{api.TxToJSON(*good.Tx()), map[string]any{"raw": api.Hex(unlucky.Raw())}}})
	if err != nil {
		t.Fatal(err)
	}
	got = into[api.SubmitResponse](t, s.do("POST", "/v1/txs", "application/json; charset=utf-8", bytes.NewReader(asJSON)))
	if v := got.Verdicts; len(v) != 2 || !v[0].Accepted || v[0].TxID != good.ID() || v[1].Accepted || v[1].TxID != unlucky.ID() {
		t.Fatalf("%+v", v)
	}
	if len(s.node.submitted) != 4 {
		t.Fatalf("%d transactions reached the node, want 4", len(s.node.submitted))
	}
}

func TestBadInputIsRefusedByName(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.seal()
	cases := []struct {
		method, path, contentType, body string
		status                          int
		location, message               string
	}{
		{"GET", "/v1/txs/abc", "", "", 422, "path.id", "64"},
		{"GET", "/v1/txs/" + strings.Repeat("g", 64), "", "", 422, "path.id", "match"},
		{"GET", "/v1/blocks/-1", "", "", 422, "path.height", "64-bit"},
		{"GET", "/v1/blocks/99999999999999999999", "", "", 422, "path.height", "64-bit"},
		{"GET", "/v1/blocks/1?detail=all", "", "", 422, "query.detail", "full, header, encoded"},
		{"GET", "/v1/accounts/hyper1xyz", "", "", 422, "path.address", "bech32m"},
		{"GET", "/v1/reputation/hyper1xyz", "", "", 422, "path.of", "neither"},
		{"GET", "/v1/accounts/" + address(1).String() + "?proof=maybe", "", "", 422, "query.proof", "boolean"},
		{"GET", "/v1/accounts/" + address(1).String() + "?prof=true", "", "", 422, "query.prof", "unknown"},
		{"GET", "/v1/state/zz", "", "", 422, "path.key", "match"},
		{"GET", "/v1/state/" + strings.Repeat("00", 257), "", "", 422, "path.key", "512"},
		{"GET", "/v1/settlements/12", "", "", 422, "path.order", "64"},
		{"GET", "/v1/epochs/0", "", "", 422, "path.epoch", "64-bit number from 1"},
		{"GET", "/v1/epochs/-1", "", "", 422, "path.epoch", "latest"},
		{"GET", "/v1/events?cursor=x", "", "", 422, "query.cursor", "height.index"},
		{"GET", "/v1/events?types=block,wat", "", "", 422, "query.types", "wat"},
		{"GET", "/v1/events?tx_id=12", "", "", 422, "query.tx_id", "64"},
		{"POST", "/v1/txs", "text/plain", "x", 415, "header.Content-Type", "application/cbor"},
		{"POST", "/v1/txs", "application/json", `{"txs":[]}`, 422, "body.txs", "1 to 1000"},
		{"POST", "/v1/txs", "application/json", `{"txs":[{"raw":"zz"}]}`, 422, "body.txs[0].raw", "invalid byte"},
		{"POST", "/v1/txs", "application/cbor", "\x00", 422, "body", "codec"},
		{"POST", "/v1/faucet", "application/json", `{"address":"hyper1","amount_nhyper":1}`, 422, "body.address", "bech32m"},
		{"POST", "/v1/faucet", "application/json", fmt.Sprintf(`{"address":%q}`, address(1)), 422, "body.amount_nhyper", "missing"},
		{"POST", "/v1/faucet", "application/json", `{"amount_nhyper":1}`, 422, "body.address", "missing"},
		{"POST", "/v1/faucet", "application/json", fmt.Sprintf(`{"address":%q,"amount_nhyper":"1000000000001"}`, address(1)), 422, "body.amount_nhyper", "limit 1000000000000"},
	}
	for _, c := range cases {
		p := problem(t, s.do(c.method, c.path, c.contentType, strings.NewReader(c.body)), c.status)
		if len(p.Errors) == 0 || p.Errors[0].Location != c.location || !strings.Contains(p.Errors[0].Message, c.message) {
			t.Errorf("%s %s %.40s: %+v, want %s … %s", c.method, c.path, c.body, p, c.location, c.message)
		}
	}
}

func TestMissingThings(t *testing.T) {
	s := serve(t, rpc.Config{})
	s.node.seal()
	s.node.seal()
	s.node.pruned = 1
	for path, want := range map[string]int{
		"/v1/txs/" + crypto.Digest{1}.String(): 404, "/v1/blocks/0": 404, "/v1/blocks/3": 404, "/v1/blocks/1": 410,
		"/v1/events?cursor=0": 410, "/v1/nothing": 404, "/": 404, "/docs": 404,
	} {
		problem(t, s.get(path), want)
	}
	problem(t, s.do("POST", "/v1/faucet", api.ContentJSON, strings.NewReader(`{}`)), 404) // no devnet
	problem(t, s.do("POST", "/v1/status", "", nil), 404)
}

func TestBodiesAreBounded(t *testing.T) {
	s := serve(t, devnetConfig())
	big := make([]byte, api.MaxSubmitBytes+1)
	p := problem(t, s.do("POST", "/v1/txs", api.ContentCBOR, bytes.NewReader(big)), 413)
	if len(p.Errors) != 1 || p.Errors[0].Location != "body" || !strings.Contains(p.Errors[0].Message, "limit 16777216") {
		t.Errorf("announced: %+v", p)
	}
	// A reader of unknown length is sent in chunks.
	problem(t, s.do("POST", "/v1/txs", api.ContentCBOR, struct{ *bytes.Reader }{bytes.NewReader(big)}), 413)
	problem(t, s.do("POST", "/v1/faucet", api.ContentJSON, bytes.NewReader(big[:4096])), 413)
}

func TestErrorsInsideAreNotTold(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.fail = errors.New("disk /var/secret is on fire")
	for _, path := range []string{"/v1/status", "/v1/validators", "/v1/params", "/v1/accounts/" + address(1).String(), "/v1/state/00"} {
		p := problem(t, s.get(path), 500)
		if strings.Contains(p.Error(), "secret") || p.Type != api.ProblemInternal {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if !strings.Contains(s.logs.String(), "secret") {
		t.Error("the log does not say what failed")
	}
	s.node.fail = fmt.Errorf("catching up: %w", rpc.ErrBusy)
	a := s.get("/v1/status")
	if problem(t, a, 503); a.header.Get("Retry-After") == "" {
		t.Error("busy without Retry-After")
	}
}

func TestPanicBecomesAProblem(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.explode = true
	p := problem(t, s.get("/v1/status"), 500)
	if strings.Contains(p.Error(), "explodes") || !strings.Contains(s.logs.String(), "explodes") {
		t.Errorf("%+v; log: %s", p, s.logs.String())
	}
	s.node.explode = false
	into[api.Status](t, s.get("/v1/status"))
}

func TestSyncingIsNotHealthy(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.status.Syncing = true
	problem(t, s.get("/healthz"), 503)
	into[api.Status](t, s.get("/v1/status"))
}

func TestRequestsAreBounded(t *testing.T) {
	s := serve(t, rpc.Config{MaxRequests: 1})
	s.node.hold, s.node.entered = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan answer, 1)
	go func() { done <- s.get("/v1/status") }()
	<-s.node.entered
	a := s.get("/v1/params")
	if p := problem(t, a, 503); !strings.Contains(p.Detail, "limit 1") || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
	close(s.node.hold)
	into[api.Status](t, <-done)
	into[api.ChainParams](t, s.get("/v1/params"))
}

func TestSubmissionsInFlightAreBounded(t *testing.T) {
	s := serve(t, rpc.Config{SubmitBytes: api.MaxSubmitBytes})
	// The first submission does not say how long it is, and stalls.
	first := newStalledBody()
	request := httptest.NewRequest("POST", "/v1/txs", first)
	request.Header.Set("Content-Type", api.ContentCBOR)
	recorder := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.handler.ServeHTTP(recorder, request)
	}()
	<-first.reading
	p := problem(t, s.do("POST", "/v1/txs", api.ContentCBOR, strings.NewReader("\x80")), 503)
	if !strings.Contains(p.Detail, "limit 16777216") {
		t.Errorf("%+v", p)
	}
	close(first.release)
	<-done
	problem(t, readAnswer(t, recorder.Result()), 422)
}

func TestVerdictsAreAnsweredInCBORIfTheClientWants(t *testing.T) {
	s := serve(t, devnetConfig())
	body := api.EncodeSubmission([][]byte{{1}, {2, 3}})
	plain := into[api.SubmitResponse](t, s.do("POST", "/v1/txs", api.ContentCBOR, bytes.NewReader(body)))
	request := httptest.NewRequest("POST", "/v1/txs", bytes.NewReader(body))
	request.Header.Set("Content-Type", api.ContentCBOR)
	request.Header.Set("Accept", api.ContentCBOR)
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, request)
	a := readAnswer(t, recorder.Result())
	got, err := api.DecodeVerdicts(a.body)
	if err != nil || a.status != 200 || a.header.Get("Content-Type") != api.ContentCBOR || !slices.Equal(got, plain.Verdicts) || len(got) != 2 || got[1].Reason == "" {
		t.Errorf("%d %s %v: %+v, in JSON %+v", a.status, a.header.Get("Content-Type"), err, got, plain.Verdicts)
	}
}

func TestWhoeverComesTooEarlyIsToldWhenToComeAgain(t *testing.T) {
	s := serve(t, devnetConfig())
	good, early := transfer(t, 1), transfer(t, 14)
	a := s.do("POST", "/v1/txs", api.ContentCBOR, bytes.NewReader(api.EncodeSubmission([][]byte{good.Raw(), early.Raw()})))
	v := into[api.SubmitResponse](t, a).Verdicts
	if a.header.Get("Retry-After") != "1" || len(v) != 2 || !v[0].Accepted || v[1].Accepted || !strings.HasPrefix(v[1].Reason, api.ReasonQueueFull) {
		t.Errorf("one of two: Retry-After %q, %+v", a.header.Get("Retry-After"), v)
	}
	a = s.do("POST", "/v1/txs", api.ContentCBOR, bytes.NewReader(api.EncodeSubmission([][]byte{early.Raw()})))
	if p := problem(t, a, 503); p.Type != api.ProblemBusy || a.header.Get("Retry-After") != "1" || !strings.Contains(p.Detail, api.ReasonQueueFull) {
		t.Errorf("all: Retry-After %q, %+v", a.header.Get("Retry-After"), p)
	}
	a = s.do("POST", "/v1/txs", api.ContentCBOR, bytes.NewReader(api.EncodeSubmission([][]byte{good.Raw()})))
	if _, there := a.header["Retry-After"]; there {
		t.Error("Retry-After where nothing was refused")
	}
}

func TestFaucetIsLimitedPerClient(t *testing.T) {
	s := serve(t, rpc.Config{Faucet: &rpc.FaucetConfig{Burst: 2, Every: 1 << 40}})
	request := fmt.Sprintf(`{"address":%q,"amount_nhyper":5}`, address(4))
	for range 2 {
		into[api.FaucetResponse](t, s.do("POST", "/v1/faucet", api.ContentJSON, strings.NewReader(request)))
	}
	a := s.do("POST", "/v1/faucet", api.ContentJSON, strings.NewReader(request))
	if p := problem(t, a, 429); !strings.Contains(p.Detail, "2 at once") || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
}

func TestOpenAPIDocument(t *testing.T) {
	s := serve(t, devnetConfig())
	a := s.get("/openapi.json")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, a.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	golden.Check(t, "testdata/openapi.json", pretty.Bytes())
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %s", doc.OpenAPI)
	}
	for _, want := range []string{
		"get /v1/status", "post /v1/txs", "get /v1/txs/{id}", "get /v1/blocks/{height}", "get /v1/accounts/{address}", "get /v1/state/{key}",
		"get /v1/settlements/{order}", "get /v1/reputation/{of}", "get /v1/validators", "get /v1/epochs/{epoch}", "get /v1/params", "get /v1/supply", "get /v1/events", "post /v1/faucet", "get /healthz",
	} {
		method, path, _ := strings.Cut(want, " ")
		if doc.Paths[path][method] == nil {
			t.Errorf("%s is not documented", want)
		}
	}
}

func TestListenRefusesAnOpenDoor(t *testing.T) {
	for listen, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "192.0.2.1:0": false, "example.com:0": false, "no port": false,
	} {
		server, err := rpc.Listen(rpc.Config{Listen: listen}, newFakeNode(t), nil, discard())
		if (err == nil) != ok && !strings.Contains(fmt.Sprint(err), "cannot assign") {
			t.Errorf("%s: %v", listen, err)
		}
		if err == nil {
			stop(t, server)
		} else if !ok && listen != "no port" && !strings.Contains(err.Error(), "insecure_http") {
			t.Errorf("%s: %v does not say what to do", listen, err)
		}
	}
	server, err := rpc.Listen(rpc.Config{Listen: "0.0.0.0:0", InsecureHTTP: true}, newFakeNode(t), nil, discard())
	if err != nil {
		t.Fatal(err)
	}
	stop(t, server)
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]rpc.Config{
		"tls_key":        {Listen: "127.0.0.1:0", TLSCert: "x"},
		"SubmitBytes":    {Listen: "127.0.0.1:0", SubmitBytes: 1},
		"MaxRequests":    {Listen: "127.0.0.1:0", MaxRequests: -1},
		"WriteTimeout":   {Listen: "127.0.0.1:0", WriteTimeout: -1},
		"certificate":    {Listen: "127.0.0.1:0", TLSCert: "nowhere.pem", TLSKey: "nowhere.pem"},
		"MaxSubscribers": {Listen: "127.0.0.1:0", MaxSubscribers: -1},
	} {
		if _, err := rpc.Listen(c, newFakeNode(t), nil, discard()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No number or duration of the configuration may be left without a default.
func TestEveryNumberHasADefault(t *testing.T) {
	for _, config := range []any{rpc.WithDefaults(rpc.Config{Faucet: &rpc.FaucetConfig{}}), *rpc.WithDefaults(rpc.Config{Faucet: &rpc.FaucetConfig{}}).Faucet} {
		for f, v := range reflect.ValueOf(config).Fields() {
			numbers := []reflect.Kind{reflect.Int, reflect.Int64, reflect.Struct}
			if slices.Contains(numbers, f.Type.Kind()) && v.IsZero() {
				t.Errorf("%s has no default", f.Name)
			}
		}
	}
}

func TestMethodsOverHTTPS(t *testing.T) {
	cert, key, roots := selfSigned(t)
	node := newFakeNode(t)
	server, err := rpc.Listen(rpc.Config{Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key}, node, nil, discard())
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, server)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: roots, ForceAttemptHTTP2: true}}
	response, err := client.Get("https://" + server.Addr().String() + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	if response.Proto != "HTTP/2.0" {
		t.Errorf("protocol %s", response.Proto)
	}
	into[api.Status](t, readAnswer(t, response))
	client.CloseIdleConnections()
	ended()
}
