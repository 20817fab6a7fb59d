package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// problem decodes a problem, and fails the test if the answer is none.
func (c *cluster) problem(body []byte) (p api.Problem) {
	c.t.Helper()
	if err := json.Unmarshal(body, &p); err != nil || p.Title == "" {
		c.t.Errorf("no problem: %s (%v)", body, err)
	}
	return p
}

func TestBlobs(t *testing.T) {
	c := newCluster(t, 3)
	data := strings.Repeat("0123456789abcdef", 40_000) // three chunks
	id := blob.Sum([]byte(data))
	c.upload(1, id, data)
	c.upload(2, id, data) // once more, elsewhere
	for i := range 3 {
		if status, body := c.do(i, http.MethodGet, "/v1/blobs/"+id.String(), nil, nil); status != http.StatusOK || string(body) != data {
			t.Errorf("server %d: %d, %d bytes", i, status, len(body))
		}
	}
	if status, body := c.do(0, http.MethodHead, "/v1/blobs/"+id.String(), nil, nil); status != http.StatusOK || len(body) != 0 {
		t.Errorf("HEAD: %d", status)
	}
	part := http.Header{"Range": {"bytes=600000-600003"}}
	if status, body := c.do(0, http.MethodGet, "/v1/blobs/"+id.String(), part, nil); status != http.StatusPartialContent || string(body) != data[600_000:600_004] {
		t.Errorf("range: %d %q", status, body)
	}
	unsized := io.MultiReader(strings.NewReader(data)) // its length is not announced
	if status, body := c.do(0, http.MethodPut, "/v1/blobs/"+id.String(), nil, unsized); status != http.StatusCreated {
		t.Errorf("without a length: %d %s", status, body)
	}
	empty := blob.Sum(nil)
	c.upload(0, empty, "")
	if status, body := c.do(2, http.MethodGet, "/v1/blobs/"+empty.String(), nil, nil); status != http.StatusOK || len(body) != 0 {
		t.Errorf("the empty blob: %d %q", status, body)
	}
}

// TestBlobsNeedAMajority stops servers until an upload can no longer be kept.
func TestBlobsNeedAMajority(t *testing.T) {
	c := newCluster(t, 3)
	one := blob.Sum([]byte("one"))
	c.kill(2)
	c.waitLeader()
	c.upload(0, one, "one")
	if status, body := c.do(1, http.MethodGet, "/v1/blobs/"+one.String(), nil, nil); status != http.StatusOK || string(body) != "one" {
		t.Errorf("on the other server: %d %q", status, body)
	}
	c.kill(1)
	two := blob.Sum([]byte("two"))
	status, body := c.do(0, http.MethodPut, "/v1/blobs/"+two.String(), nil, strings.NewReader("two"))
	if status != http.StatusServiceUnavailable || !strings.Contains(c.problem(body).Detail, "majority") {
		t.Errorf("without a majority: %d %s", status, body)
	}
	until(t, "no leader", func() bool {
		status, _ := c.do(0, http.MethodGet, "/healthz", nil, nil)
		return status == http.StatusServiceUnavailable
	})
	request, _ := signedJob(t, testOrder(chain.PolicyNone{}), testSpec("one"))
	if status, body := c.post(0, "/v1/jobs", request); status != http.StatusServiceUnavailable {
		t.Errorf("a job without a leader: %d %s", status, body)
	}
}

func TestBadBlobs(t *testing.T) {
	c := newCluster(t, 1)
	good := blob.Sum([]byte("good"))
	large := strings.Repeat("x", 4<<20+1)
	for name, x := range map[string]struct {
		digest, body string
		unsized      bool
		status       int
		want         string
	}{
		"another":         {digest: good.String(), body: "bad", status: 422, want: "not those of blob"},
		"large":           {digest: good.String(), body: large, status: 413, want: "limit 4194304"},
		"large, unsized":  {digest: good.String(), body: large, unsized: true, status: 413, want: "limit 4194304"},
		"short digest":    {digest: "abcd", body: "good", status: 422, want: "path.digest"},
		"upper-case":      {digest: strings.ToUpper(good.String()), body: "good", status: 422, want: "path.digest"},
		"digest, slashes": {digest: "..%2f..%2fetc", body: "good", status: 422, want: "path.digest"},
	} {
		var body io.Reader = strings.NewReader(x.body)
		if x.unsized {
			body = io.MultiReader(body) // its length is not announced
		}
		ask := http.Header{"Expect": {"100-continue"}} // the answer may come before the body is sent
		status, answer := c.do(0, http.MethodPut, "/v1/blobs/"+x.digest, ask, body)
		if status != x.status || !strings.Contains(string(answer), x.want) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if status, body := c.do(0, http.MethodGet, "/v1/blobs/"+good.String(), nil, nil); status != http.StatusNotFound {
		t.Errorf("a blob that was refused: %d %s", status, body)
	}
}

func TestBadJobs(t *testing.T) {
	c := newCluster(t, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	good, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	changed := func(change func(o *chain.Order, s *job.Spec)) api.SubmitJobRequest {
		order, spec := testOrder(chain.PolicyNone{}), testSpec(program)
		change(&order, &spec)
		request, _ := signedJob(t, order, spec)
		return request
	}
	unsigned := good
	unsigned.Signature[0] ^= 1
	for name, x := range map[string]struct {
		request any
		status  int
		want    string
	}{
		"no object":     {[]int{1}, 422, "body"},
		"unknown field": {map[string]int{"surprise": 1}, 422, "body.surprise"},
		"empty":         {map[string]int{}, 422, "body."},
		"not signed":    {unsigned, 422, "body.order_signature"},
		"chain":         {changed(func(o *chain.Order, _ *job.Spec) { o.ChainID = "other-chain" }), 422, "body.order.chain_id"},
		"cluster":       {changed(func(o *chain.Order, _ *job.Spec) { o.Cluster = key(77).Public() }), 422, "body.order.cluster"},
		"past deadline": {changed(func(o *chain.Order, _ *job.Spec) { o.Deadline = 1 }), 422, "body.order.deadline_ms"},
		"no blob":       {changed(func(_ *chain.Order, s *job.Spec) { s.Work.Work = job.Wasm{Module: crypto.Digest{9}} }), 422, "has not been uploaded"},
		"input bytes":   {changed(func(_ *chain.Order, s *job.Spec) { s.InputBytes = 5 }), 422, "input_bytes is 5, the blobs have 21"},
		"zk key": {changed(func(o *chain.Order, s *job.Spec) {
			o.Policy.Policy = chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{1}}}
			s.Work.Work = job.Kernel{Name: "matmul-32", Inputs: []crypto.Digest{blob.Sum([]byte(program))}}
		}), 422, "body.order.policy"},
		"huge": {strings.Repeat("x", api.MaxJobRequestBytes+1), 413, "limit"},
	} {
		if status, body := c.post(0, "/v1/jobs", x.request); status != x.status || !strings.Contains(string(body), x.want) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for path, want := range map[string]int{
		"/v1/jobs/zz": 422, "/v1/jobs/" + crypto.Digest{7}.String(): 404, "/v1/jobs?account=x": 422, "/v1/jobs?cursor=x": 422, "/v1/jobs?limit=0": 422,
		"/v1/jobs?surprise=1": 422, "/v1/outbox?limit=101": 422, "/v1/outbox?wait_ms=30001": 422, "/v1/nowhere": 404, "/v1/blobs/" + crypto.Digest{7}.String(): 404,
	} {
		status, body := c.do(0, http.MethodGet, path, nil, nil)
		if status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
		c.problem(body)
	}
	for range 2 { // the second time it is there already
		if status, body := c.post(0, "/v1/jobs", good); status != http.StatusOK || !strings.Contains(string(body), id.String()) {
			t.Errorf("a good one: %d %s", status, body)
		}
	}
	for range 2 {
		more, _ := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
		if status, body := c.post(0, "/v1/jobs", more); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	first := get[api.JobList](c, 0, "/v1/jobs?limit=2")
	rest := get[api.JobList](c, 0, "/v1/jobs?limit=2&cursor="+first.Next)
	if len(first.Jobs) != 2 || len(rest.Jobs) != 1 || rest.Next != "" || rest.Jobs[0].ID != id {
		t.Errorf("pages: %d and %d jobs", len(first.Jobs), len(rest.Jobs))
	}
}

// TestEscrow asks for more than there is, and then without a chain.
func TestEscrow(t *testing.T) {
	c := newCluster(t, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	post := func() (int, string) {
		request, _ := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
		status, body := c.post(0, "/v1/jobs", request)
		return status, string(body)
	}
	c.chain.set(func() { c.chain.down = true })
	if status, body := post(); status != http.StatusServiceUnavailable || !strings.Contains(body, "the chain cannot be asked") {
		t.Errorf("an escrow that was never known: %d %s", status, body)
	}
	c.chain.set(func() { c.chain.down, c.chain.escrow = false, chain.Hyper(2) })
	if status, body := post(); status != http.StatusOK {
		t.Fatalf("one of two: %d %s", status, body)
	}
	c.chain.set(func() { c.chain.down = true })
	if status, body := post(); status != http.StatusOK {
		t.Errorf("two of two, as last known: %d %s", status, body)
	}
	c.chain.set(func() { c.chain.down = false })
	deposited := time.AfterFunc(100*time.Millisecond, func() { c.chain.set(func() { c.chain.escrow = chain.Hyper(3) }) })
	defer deposited.Stop()
	if status, body := post(); status != http.StatusOK {
		t.Errorf("three, once the deposit shows: %d %s", status, body)
	}
}

// TestStrangers speaks the session protocol badly, and sees who is sent away.
func TestStrangers(t *testing.T) {
	c := newCluster(t, 1)
	hello := func(n int, change func(*job.Hello)) job.Message {
		h := job.Hello{ChainID: testChain, Owner: address(ownerKeys + n), Total: job.Resources{Millicores: 1_000, MemoryMiB: 1_000}, Accepting: true}
		change(&h)
		return h
	}
	same := func(*job.Hello) {}
	frame := func(m job.Message) []byte {
		raw := job.EncodeMessage(m)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
	}
	receipt := chain.UsageReceipt{ChainID: testChain, Node: key(agentKeys + 3).Public(), Sequence: 1, Exit: chain.ExitOK}
	for name, x := range map[string]struct {
		wire []byte
		want string
	}{
		"no hello":      {frame(job.Load{}), "want a Hello"},
		"no message":    {[]byte{0, 0, 0, 2, 0xff, 0xff}, "message"},
		"huge":          {[]byte{0xff, 0xff, 0xff, 0xff}, "limit"},
		"other chain":   {frame(hello(0, func(h *job.Hello) { h.ChainID = "other-chain" })), "other-chain"},
		"other owner":   {frame(hello(1, same)), "belongs to"},
		"server's part": {append(frame(hello(0, same)), frame(job.Cancel{})...), "server's message"},
		"changed owner": {append(frame(hello(0, same)), frame(hello(1, same))...), "later Hello"},
		"others' end":   {append(frame(hello(0, same)), frame(job.Done{Receipt: receipt})...), "receipt by node"},
		"long region":   {frame(hello(0, func(h *job.Hello) { h.Region = strings.Repeat("x", 33) })), "region"},
	} {
		if got := c.speak(key(agentKeys), x.wire); !strings.Contains(got, x.want) {
			t.Errorf("%s: closed with %q", name, got)
		}
	}
	if nodes := get[api.NodeList](c, 0, "/v1/nodes").Nodes; slices.ContainsFunc(nodes, func(n api.NexusNode) bool { return n.Owner != address(ownerKeys) }) {
		t.Errorf("nodes: %+v", nodes)
	}
	c.agent(5, nil) // an honest one is served as before
	until(t, "the honest agent", func() bool {
		nodes := get[api.NodeList](c, 0, "/v1/nodes").Nodes
		return slices.ContainsFunc(nodes, func(n api.NexusNode) bool { return n.Owner == address(ownerKeys+5) && n.Connected })
	})
}

// speak sends bytes on a control stream and returns why the server closed the
// connection.
func (c *cluster) speak(k crypto.PrivateKey, wire []byte) string {
	c.t.Helper()
	endpoint, err := transport.Open(transport.Config{Key: k, Network: testGenesis(c.t).Digest(), Log: testLog(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := endpoint.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := endpoint.Dial(ctx, c.nodeAddrs()[0], job.Protocol)
	if err != nil {
		return err.Error()
	}
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		return err.Error()
	}
	if _, err := stream.Write(wire); err != nil {
		return err.Error()
	}
	select {
	case <-conn.Done():
	case <-ctx.Done():
		return "nothing"
	}
	closed, ok := errors.AsType[*transport.CloseError](conn.Err())
	if !ok {
		return fmt.Sprint(conn.Err())
	}
	return closed.Reason
}

// TestServersAreAmongThemselves dials the protocols that only servers speak.
func TestServersAreAmongThemselves(t *testing.T) {
	c := newCluster(t, 1)
	endpoint, err := transport.Open(transport.Config{Key: key(agentKeys), Network: testGenesis(t).Digest(), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, protocol := range []string{"hypermesh/nexus-raft/" + scheduler.Form, "hypermesh/nexus-peer/1", "hypermesh/nexus-blob/1"} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := endpoint.Dial(ctx, c.nodeAddrs()[0], protocol)
		cancel()
		if closed, ok := errors.AsType[*transport.CloseError](err); !ok || closed.Code != transport.CloseNotAdmitted {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

func TestDocumentAndMetrics(t *testing.T) {
	c := newCluster(t, 1)
	status, body := c.do(0, http.MethodGet, "/openapi.json", nil, nil)
	var document struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(body, &document); err != nil || status != http.StatusOK || document.OpenAPI != "3.1.0" {
		t.Fatalf("%d %s %v", status, body[:min(len(body), 200)], err)
	}
	for path, methods := range map[string][]string{
		"/v1/jobs": {"get", "post"}, "/v1/jobs/{id}": {"get", "delete"}, "/v1/jobs/{id}/logs": {"get"}, "/v1/jobs/{id}/exec": {"post"}, "/v1/blobs/{digest}": {"get", "put"},
		"/v1/quotes": {"post"}, "/v1/nodes": {"get"}, "/v1/status": {"get"}, "/v1/outbox": {"get"}, "/healthz": {"get"},
	} {
		for _, m := range methods {
			if document.Paths[path][m] == nil {
				t.Errorf("the document has no %s %s", m, path)
			}
		}
	}
	status, body = c.do(0, http.MethodGet, "/metrics", nil, nil)
	if status != http.StatusOK || !bytes.Contains(body, []byte("hypermesh_nexus_leader 1")) || !bytes.Contains(body, []byte(`hypermesh_nexus_jobs{status="queued"} 0`)) {
		t.Errorf("metrics: %d %s", status, body)
	}
	s := get[api.NexusStatus](c, 0, "/v1/status")
	if s.FeeBps != 150 || s.Cluster != key(clusterKey).Public() || s.Leader != s.Server || s.Version != "test" {
		t.Errorf("status: %+v", s)
	}
}

func TestConfigCheck(t *testing.T) {
	good := server.DefaultConfig()
	good.Servers, good.RPC = []string{key(1).Public().String() + "@127.0.0.1:7200"}, []string{"http://127.0.0.1:1"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*server.Config){
		"listen":                func(c *server.Config) { c.Listen = "nowhere" },
		"http \"0.0.0.0:1\" is": func(c *server.Config) { c.HTTP = "0.0.0.0:1" },
		"http \"x\"":            func(c *server.Config) { c.HTTP = "x" },
		"tls_cert":              func(c *server.Config) { c.TLSCert = "x" },
		"servers has 0":         func(c *server.Config) { c.Servers = nil },
		"servers has 2":         func(c *server.Config) { c.Servers = append(c.Servers, c.Servers[0]) },
		"twice":                 func(c *server.Config) { c.Servers = append(c.Servers, c.Servers[0], c.Servers[0]) },
		"servers: ":             func(c *server.Config) { c.Servers = []string{"x@y"} },
		"rpc names":             func(c *server.Config) { c.RPC = nil },
		"rpc \"x\"":             func(c *server.Config) { c.RPC = []string{"x"} },
		"auction_window":        func(c *server.Config) { c.AuctionWindow = 0 },
		"node_grace":            func(c *server.Config) { c.NodeGrace = 0 },
		"retention":             func(c *server.Config) { c.Retention = 0 },
		"heartbeat":             func(c *server.Config) { c.Heartbeat = 0 },
		"blob_mib":              func(c *server.Config) { c.BlobMiB = 0 },
		"max_blob_mib":          func(c *server.Config) { c.MaxBlobMiB = 5_000 },
		"max_agents":            func(c *server.Config) { c.MaxAgents = -1 },
		"max_outbox":            func(c *server.Config) { c.MaxOutbox = 100_001 },
	} {
		c := good
		c.Servers = slices.Clone(good.Servers)
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for field := range reflect.TypeFor[server.Config]().Fields() {
		tag := field.Tag.Get("toml")
		if tag == "" || tag != "-" && field.Tag.Get("usage") == "" {
			t.Errorf("field %s has no key or no usage", field.Name)
		}
	}
}
