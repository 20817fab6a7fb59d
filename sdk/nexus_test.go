package sdk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fakeNexus keeps blobs and jobs in memory.
type fakeNexus struct {
	t        testing.TB
	mux      *http.ServeMux
	blobs    map[string][]byte
	jobs     []api.Job
	statuses []job.Status // that a job goes through, one a look
	cutLogs  bool
	fail     int // so many uploads end in the middle
}

func newFakeNexus(t testing.TB) *fakeNexus {
	n := &fakeNexus{t: t, mux: http.NewServeMux(), blobs: map[string][]byte{}}
	n.mux.HandleFunc("PUT /v1/blobs/{digest}", n.putBlob)
	n.mux.HandleFunc("GET /v1/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		data, ok := n.blobs[r.PathValue("digest")]
		if !ok {
			sendProblem(n.t, w, http.StatusNotFound)
			return
		}
		if _, err := w.Write(data); err != nil {
			n.t.Log(err)
		}
	})
	n.mux.HandleFunc("POST /v1/jobs", n.submit)
	n.mux.HandleFunc("GET /v1/jobs", n.list)
	n.mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		status := n.statuses[0]
		if len(n.statuses) > 1 {
			n.statuses = n.statuses[1:]
		}
		id, err := crypto.ParseDigest(r.PathValue("id"))
		if err != nil {
			n.t.Error(err)
		}
		n.send(w, api.Job{ID: id, Status: status, Policy: "none", Spec: api.SpecToJSON(spec()), Order: api.OrderToJSON(order())})
	})
	n.mux.HandleFunc("DELETE /v1/jobs/{id}", n.cancel)
	n.mux.HandleFunc("GET /v1/jobs/{id}/logs", n.logs)
	n.mux.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		n.send(w, api.NodeList{Nodes: []api.NexusNode{{Region: "eu"}}})
	})
	n.mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		n.send(w, api.NexusStatus{ChainID: testChain})
	})
	n.mux.HandleFunc("POST /v1/quotes", func(w http.ResponseWriter, r *http.Request) {
		var q api.QuoteRequest
		n.read(r, &q)
		n.send(w, api.Quote{Reason: q.Policy.String(), MaxCost: chain.Nano(5)})
	})
	return n
}

func (n *fakeNexus) read(r *http.Request, v any) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Error(err)
	}
	if err := api.DecodeJSON(data, v); err != nil {
		n.t.Error(err)
	}
}

func (n *fakeNexus) send(w http.ResponseWriter, body any) {
	if err := json.NewEncoder(w).Encode(body); err != nil {
		n.t.Error(err)
	}
}

func (n *fakeNexus) putBlob(w http.ResponseWriter, r *http.Request) {
	if n.fail > 0 {
		n.fail--
		sendProblem(n.t, w, http.StatusServiceUnavailable)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Error(err)
	}
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil || int64(len(data)) != r.ContentLength {
		n.t.Errorf("%v, %d of %d bytes", err, len(data), r.ContentLength)
	}
	n.blobs[id.String()] = data
	n.send(w, api.BlobStored{Digest: id, Bytes: api.Uint64(len(data))})
}

func (n *fakeNexus) submit(w http.ResponseWriter, r *http.Request) {
	var request api.SubmitJobRequest
	n.read(r, &request)
	signed, err := request.Verify()
	if err != nil {
		n.t.Error(err)
	}
	o := signed.Order()
	n.send(w, api.Job{ID: o.ID(), Status: job.Queued, Order: request.Order, Spec: request.Spec})
}

func (n *fakeNexus) list(w http.ResponseWriter, r *http.Request) {
	page := api.JobList{Jobs: []api.Job{}}
	from := 0
	if c := r.URL.Query().Get("cursor"); c != "" {
		if _, err := fmt.Sscan(c, &from); err != nil {
			n.t.Error(err)
		}
	}
	page.Jobs = append(page.Jobs, n.jobs[from:min(from+2, len(n.jobs))]...)
	if from+2 < len(n.jobs) {
		page.Next = fmt.Sprint(from + 2)
	}
	n.send(w, page)
}

func (n *fakeNexus) cancel(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("id"))
	if err != nil {
		n.t.Error(err)
	}
	var signature crypto.Signature
	if err := signature.UnmarshalText([]byte(r.Header.Get(api.SignatureHeader))); err != nil {
		n.t.Error(err)
	}
	if !testKey(1).Public().Verify(crypto.DomainCancel, api.CancelPayload(testChain, id), signature) {
		n.t.Error("the cancellation is not signed")
	}
	n.send(w, api.Job{ID: id, Status: job.Cancelled, Order: api.OrderToJSON(order()), Spec: api.SpecToJSON(spec())})
}

func (n *fakeNexus) logs(w http.ResponseWriter, r *http.Request) {
	begin := 0
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if _, err := fmt.Sscan(id, &begin); err != nil {
			n.t.Error(err)
		}
	}
	for i := begin; i < 4; i++ {
		data, err := json.Marshal(api.JobLog{Offset: api.Uint64(i), Data: []byte{byte('a' + i)}})
		if err != nil {
			n.t.Error(err)
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: log\ndata: %s\n\n", i+1, data); err != nil {
			return
		}
		if n.cutLogs && i == begin {
			return
		}
	}
	if _, err := fmt.Fprint(w, "event: end\ndata: {}\n\n"); err != nil {
		n.t.Log(err)
	}
}

func spec() job.Spec {
	return job.Spec{
		Work: job.WorkField{Work: job.Wasm{Module: crypto.Digest{3}, Deterministic: true}}, InputBytes: 10,
		Resources: job.Resources{Millicores: 1000, MemoryMiB: 512}, Limits: job.DefaultLimits(),
	}
}

func order() chain.Order {
	return chain.Order{
		ChainID: testChain, Consumer: testKey(1).AccountKey(), Cluster: testKey(3).Public(), Policy: chain.PolicyField{Policy: chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}},
		Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 7}}, MaxCost: chain.Hyper(1), Deadline: 99,
	}
}

func nexusClient(t testing.TB, n *fakeNexus) *sdk.Client {
	t.Helper()
	return newClient(t, sdk.Config{Nexus: []string{server(t, n.mux)}})
}

func TestBlobsThere(t *testing.T) {
	n := newFakeNexus(t)
	n.fail = 2
	client := nexusClient(t, n)
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 1 << 20} {
		content := bytes.Repeat([]byte{7}, size)
		id, bytesPut, err := client.PutBlob(t.Context(), bytes.NewReader(content))
		if err != nil || bytesPut != int64(size) {
			t.Fatal(err)
		}
		r, err := client.GetBlob(t.Context(), id, int64(size))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(t, r); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	if _, err := client.GetBlob(t.Context(), crypto.Digest{1}, 10); !sdk.IsNotFound(err) {
		t.Fatal(err)
	}
}

func TestOtherBytesAreRefused(t *testing.T) {
	n := newFakeNexus(t)
	client := nexusClient(t, n)
	content := bytes.Repeat([]byte{7}, 300<<10)
	id, _, err := client.PutBlob(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(content)
	changed[1000] ^= 1
	for name, served := range map[string][]byte{"changed": changed, "short": content[:299<<10], "long": append(bytes.Clone(content), 0), "none": nil} {
		n.blobs[id.String()] = served
		r, err := client.GetBlob(t.Context(), id, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(t, r); !errors.Is(err, sdk.ErrBlob) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.blobs[id.String()] = content
	r, err := client.GetBlob(t.Context(), id, int64(len(content))-1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t, r); !errors.Is(err, sdk.ErrBlob) || len(got) >= len(content) {
		t.Errorf("above the limit: %d bytes, %v", len(got), err)
	}
}

// The format is package blob's: its frozen ids are ours.
func TestBlobIDsAreThoseOfTheStore(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("..", "nexus", "blob", "testdata", "ids.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(golden)), "\n")
	if len(lines) < 5 {
		t.Fatalf("%d frozen ids", len(lines))
	}
	for _, line := range lines {
		var size int
		var want string
		if _, err := fmt.Sscan(line, &size, &want); err != nil {
			t.Fatal(err)
		}
		content := make([]byte, size)
		if _, err := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(content); err != nil {
			t.Fatal(err)
		}
		id, n, err := sdk.BlobID(bytes.NewReader(content))
		if err != nil || id.String() != want || n != int64(size) {
			t.Errorf("%d bytes: %s %v, want %s", size, id, err, want)
		}
	}
}

func TestJobs(t *testing.T) {
	n := newFakeNexus(t)
	client := nexusClient(t, n)
	request, err := sdk.SignOrder(order(), spec(), testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	submitted, err := client.SubmitJob(t.Context(), request)
	if err != nil || submitted.Status != job.Queued {
		t.Fatalf("%+v %v", submitted, err)
	}
	cancelled, err := client.CancelJob(t.Context(), submitted.ID, testKey(1), testChain)
	if err != nil || cancelled.Status != job.Cancelled {
		t.Fatalf("%+v %v", cancelled, err)
	}
	bad := order()
	bad.Policy.Policy = chain.PolicyZK{Kernel: "matmul-32", Inputs: make([]chain.FieldBytes, 1)}
	if _, err := sdk.SignOrder(bad, spec(), testKey(1)); err == nil {
		t.Error("an order that does not fit its specification was signed")
	}
	for i := range 5 {
		n.jobs = append(n.jobs, api.Job{ID: crypto.Digest{byte(i + 1)}, Status: job.Settled, Order: api.OrderToJSON(order()), Spec: api.SpecToJSON(spec())})
	}
	var seen []byte
	for j, err := range client.Jobs(t.Context(), address(1)) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, j.ID[0])
	}
	if fmt.Sprint(seen) != "[1 2 3 4 5]" {
		t.Fatalf("%v", seen)
	}
}

func TestWatchJob(t *testing.T) {
	n := newFakeNexus(t)
	n.statuses = []job.Status{job.Queued, job.Queued, job.Running, job.Settling, job.Settling, job.Settled}
	var seen []string
	for j, err := range nexusClient(t, n).WatchJob(t.Context(), crypto.Digest{1}) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, j.Status.String())
	}
	if fmt.Sprint(seen) != "[queued running settling settled]" {
		t.Fatal(seen)
	}
}

func TestLogsResume(t *testing.T) {
	n := newFakeNexus(t)
	n.cutLogs = true
	var text []byte
	for entry, err := range nexusClient(t, n).Logs(t.Context(), crypto.Digest{1}, true) {
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, entry.Data...)
	}
	if string(text) != "abcd" {
		t.Fatalf("%q", text)
	}
}

func TestNodesQuotesAndStatus(t *testing.T) {
	client := nexusClient(t, newFakeNexus(t))
	if nodes, err := client.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].Region != "eu" {
		t.Errorf("%+v %v", nodes, err)
	}
	if q, err := client.Quote(t.Context(), spec(), chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, 0); err != nil || q.Reason != "replicate(2 of 3)" || q.MaxCost != chain.Nano(5) {
		t.Errorf("%+v %v", q, err)
	}
	if s, err := client.NexusStatus(t.Context()); err != nil || s.ChainID != testChain {
		t.Errorf("%+v %v", s, err)
	}
}

// Servers that keep different pieces, one after the other, give every byte once,
// and say how many are lost.
func TestLogsAreHeardOnce(t *testing.T) {
	pieces := func(list ...api.JobLog) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("follow") != "true" {
				t.Errorf("asked with %s", r.URL.RawQuery)
			}
			w.Header().Set("Content-Type", api.ContentEventStream)
			for i, piece := range list {
				data, err := json.Marshal(piece)
				if err != nil {
					t.Error(err)
				}
				name := api.EventLog
				if piece.Data == nil {
					name = api.EventEnd
				}
				if _, err := fmt.Fprintf(w, "id: %d-x\nevent: %s\ndata: %s\n\n", i, name, data); err != nil {
					return
				}
			}
		}
	}
	first, second := http.NewServeMux(), http.NewServeMux()
	first.HandleFunc("GET /v1/jobs/{id}/logs", pieces(api.JobLog{Data: []byte("abc")}, api.JobLog{Offset: 3, Data: []byte("de")}, api.JobLog{Stderr: true, Data: []byte("E")}))
	second.HandleFunc("GET /v1/jobs/{id}/logs", pieces(api.JobLog{Offset: 2, Data: []byte("cdef")}, api.JobLog{Stderr: true, Data: []byte("E")},
		api.JobLog{Offset: 10, Data: []byte("k")}, api.JobLog{Begun: 1, Data: []byte("A")}, api.JobLog{}))
	client := newClient(t, sdk.Config{Nexus: []string{server(t, first), server(t, second)}})
	var heard []string
	for piece, err := range client.Logs(t.Context(), crypto.Digest{1}, true) {
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, fmt.Sprintf("%v %d+%d %s", piece.Stderr, piece.Offset, piece.Missed, piece.Data))
	}
	if got := strings.Join(heard, "|"); got != "false 0+0 abc|false 3+0 de|true 0+0 E|false 5+0 f|false 10+4 k|false 0+0 A" {
		t.Errorf("heard %s", got)
	}
}
