package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// longProgram is countingProgram with two billion steps: some seconds of work.
var longProgram = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" +
	"\x0a\x1a\x01\x18\x01\x01\x7f\x41\xff\xff\xff\xff\x07\x21\x00\x03\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0b\x0b")

const wrongOutbox = 25

// TestWhatGoesWrong has, in a network of processes, the chain away, the way
// between agent and server cut, and requests that no client would send. What was
// accepted is paid once in the end.
func TestWhatGoesWrong(t *testing.T) {
	endToEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for name, value := range map[string]string{"NEXUS_MAX_OUTBOX": fmt.Sprint(wrongOutbox), "NEXUS_MAX_BLOB_MIB": "2", "NEXUS_NODE_GRACE": "30s"} {
		t.Setenv("HYPERMESH_"+name, value)
	}
	n := startDevnet(t, "--validators", "1", "--servers", "1", "--agents", "1", "--no-explorer")
	l := newLoad(t, ctx, n)
	cutOff := n.slowClient(t)
	n.chainAway(t, ctx, l)
	n.serverAway(t, ctx, l)
	n.badRequests(t, ctx)
	cutOff()
	l.submit(ctx)
	l.checkPaidOnce(t, ctx)
}

// signal sends a signal to the one process of a role.
func (n *network) signal(t *testing.T, role string, s syscall.Signal) {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if p.Role == role {
			if err := syscall.Kill(p.PID, s); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// chainAway stops the only validator: jobs within the escrow go on until so many
// claims wait as may, new ones are refused by that reason, and once the chain is
// back the outbox drains and work is accepted again.
func (n *network) chainAway(t *testing.T, ctx context.Context, l *jobLoad) {
	t.Helper()
	l.submit(ctx)
	n.signal(t, "validator", syscall.SIGSTOP)
	once, err := sdk.New(sdk.Config{Nexus: n.describe(t).Nexus, Attempts: 1, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	before := l.count()
	refusal := ""
	for refusal == "" && l.count() < before+3*wrongOutbox {
		order := l.order
		order.Nonce = rand.Uint64()
		request, err := sdk.SignOrder(order, l.spec, l.target.account)
		if err != nil {
			t.Fatal(err)
		}
		j, err := once.SubmitJob(ctx, request)
		if err != nil {
			refusal = err.Error()
			break
		}
		l.accepted = append(l.accepted, acceptedJob{id: j.ID, at: time.Now()})
		for j.Status < job.Settling && ctx.Err() == nil { // it runs although the chain is away
			if j, err = once.Job(ctx, j.ID); err != nil {
				t.Fatal(err)
			}
			shortly(ctx)
		}
	}
	n.signal(t, "validator", syscall.SIGCONT)
	if taken := l.count() - before; taken < wrongOutbox-1 || taken > wrongOutbox+1 || !strings.Contains(refusal, "wait for the chain to settle them, the limit") {
		t.Errorf("without the chain %d jobs were accepted, of at most %d, then: %s", taken, wrongOutbox, refusal)
	}
	back := time.Now()
	l.submit(ctx) // asks again until it is accepted
	t.Logf("%d jobs were accepted without the chain; accepting again %v after it is back", l.count()-before-1, time.Since(back))
}

// serverAway stops the server while the agent works, as a cut of the network does:
// the work ends, its receipt waits on the agent's disk, and is taken when the
// server is back, without a second run.
func (n *network) serverAway(t *testing.T, ctx context.Context, l *jobLoad) {
	t.Helper()
	module, size, err := l.target.client.PutBlob(ctx, bytes.NewReader(longProgram))
	if err != nil {
		t.Fatal(err)
	}
	order, spec := l.order, l.spec
	spec.Work, spec.InputBytes = job.WorkField{Work: job.Wasm{Module: module}}, uint64(size)
	spec.Limits.Fuel, spec.Limits.WallMs = 1<<40, 60_000
	order.Nonce, order.MaxCost = rand.Uint64(), chain.Hyper(10)
	request, err := sdk.SignOrder(order, spec, l.target.account)
	if err != nil {
		t.Fatal(err)
	}
	j, err := l.target.client.SubmitJob(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	l.accepted = append(l.accepted, acceptedJob{id: j.ID})
	status := func() (s agent.Status) {
		out, err := hypermesh(t, "agent", "status", "--json", "--home", filepath.Join(n.dir, "agent-0"))
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for len(status().Running) == 0 {
		if ctx.Err() != nil {
			t.Fatal("the job never runs")
		}
	}
	n.signal(t, "nexus", syscall.SIGSTOP)
	var unacked []crypto.Digest
	for len(unacked) == 0 && ctx.Err() == nil {
		unacked = status().Unacked
	}
	n.signal(t, "nexus", syscall.SIGCONT)
	if len(unacked) != 1 || unacked[0] != j.ID {
		t.Fatalf("without a server the agent has these receipts: %v", unacked)
	}
	for !j.Status.Final() && ctx.Err() == nil {
		if j, err = l.target.client.Job(ctx, j.ID); err != nil {
			t.Fatal(err)
		}
		shortly(ctx)
	}
	if j.Status != job.Settled || len(j.Runs) != 1 {
		t.Errorf("the job is %s (%s), after %d runs", j.Status, j.Reason, len(j.Runs))
	}
}

// badRequests sends what is refused by its field and limit, a body that is too
// large, and one that never comes.
func (n *network) badRequests(t *testing.T, ctx context.Context) {
	t.Helper()
	base := n.describe(t).Nexus[0]
	ask := func(method, path string, body io.Reader) (int, string) {
		req, err := http.NewRequestWithContext(ctx, method, base+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", api.ContentJSON)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		return answer.StatusCode, fmt.Sprint(string(text), err)
	}
	large := make([]byte, 3<<20)
	for _, c := range []struct {
		what, method, path string
		body               []byte
		status             int
		says               []string
	}{
		{"no JSON", http.MethodPost, "/v1/jobs", []byte("{"), http.StatusUnprocessableEntity, []string{"body"}},
		{"an unknown field", http.MethodPost, "/v1/jobs", []byte(`{"order":{},"bogus":1}`), http.StatusUnprocessableEntity, []string{"bogus"}},
		{"a huge job", http.MethodPost, "/v1/jobs", large, http.StatusRequestEntityTooLarge, []string{"limit"}},
		{"a huge upload", http.MethodPut, "/v1/blobs/" + crypto.Digest{1}.String(), large, http.StatusRequestEntityTooLarge, []string{"limit", fmt.Sprint(2 << 20)}},
	} {
		status, text := ask(c.method, c.path, bytes.NewReader(c.body))
		for _, says := range c.says {
			if status != c.status || !strings.Contains(text, says) {
				t.Errorf("%s: %d %s, want %d and %q", c.what, status, text, c.status, says)
			}
		}
	}
}

// slowClient begins an upload that never comes, and returns what waits until it is
// cut off.
func (n *network) slowClient(t *testing.T) (wait func()) {
	t.Helper()
	u, err := url.Parse(n.describe(t).Nexus[0])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := fmt.Fprintf(conn, "PUT /v1/blobs/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nslow", crypto.Digest{2}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := conn.SetReadDeadline(began.Add(75 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("a client that sends nothing more is kept for %v: %v", time.Since(began), err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// shortly waits a moment between two looks.
func shortly(ctx context.Context) {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
	}
}
