package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// open dials a server for a tunnel, as an agent does.
func (a *fakeAgent) open(ctx context.Context, server crypto.PublicKey, m job.Tunnel) {
	for _, addr := range a.c.nodeAddrs() {
		if addr.ID != server {
			continue
		}
		conn, err := a.endpoint.Dial(ctx, addr, job.TunnelProtocol)
		if err != nil {
			a.c.t.Errorf("dialing a tunnel: %v", err)
			return
		}
		stream, err := conn.OpenStream(ctx)
		if err == nil {
			err = transport.WriteMessage(stream, m.ID[:])
		}
		if err != nil {
			a.c.t.Errorf("opening a tunnel: %v", err)
			return
		}
		a.tunnel(stream)
	}
}

// submitContainer submits a job with a container.
func (c *cluster) submitContainer(i int) crypto.Digest {
	c.t.Helper()
	c.upload(i, blob.Sum([]byte(program)), program)
	spec := testSpec(program)
	spec.Work.Work = job.Container{Image: blob.Sum([]byte(program)), Processes: job.DefaultProcesses}
	request, id := signedJob(c.t, testOrder(chain.PolicyNone{}), spec)
	if status, body := c.post(i, "/v1/jobs", request); status != http.StatusOK {
		c.t.Fatalf("submitting: %d %s", status, body)
	}
	return id
}

// execCall is a request for a tunnel.
type execCall struct {
	id      crypto.Digest
	node    crypto.PublicKey
	expires time.Time
	by      crypto.PrivateKey
	upgrade string
}

// dial sends the request and returns the connection, if it was upgraded, and the
// status and the body otherwise.
func (c *cluster) dial(i int, x execCall) (conn net.Conn, from *bufio.Reader, status int, body string) {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.servers[i].HTTPAddr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	ms := chain.TimeMs(x.expires.UnixMilli())
	signature := x.by.Sign(crypto.DomainExecTicket, job.ExecTicketPayload(testChain, x.id, x.node, ms))
	if _, err := fmt.Fprintf(conn, "POST /v1/jobs/%s/exec?node=%s&expires_ms=%d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\nContent-Length: 0\r\n\r\n",
		x.id, x.node, ms, x.upgrade, api.SignatureHeader, signature); err != nil {
		c.t.Fatal(err)
	}
	from = bufio.NewReader(conn)
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return conn, from, response.StatusCode, ""
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close(), conn.Close()); err != nil {
		c.t.Fatal(err)
	}
	return nil, nil, response.StatusCode, string(text)
}

// A consumer is let through to the node that runs their container, by the server
// that is asked or by the leader, and what is said goes both ways until one ends.
func TestTunnels(t *testing.T) {
	c := newClusterWith(t, 3, func(cfg *server.Config) { cfg.Heartbeat *= 10 }) // 2 s: the one whom the agent is connected to leads on
	finish := make(chan struct{})
	leader := c.waitLeader()
	a := c.agent(0, func(a *fakeAgent) {
		a.only = leader + 1
		a.run = func(context.Context, job.Assignment) string { <-finish; return "done" }
		a.tunnel = func(s *transport.Stream) { // an echo with an end
			if _, err := io.Copy(struct{ io.Writer }{s}, io.LimitReader(s, 1<<20)); err != nil {
				return
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
		}
	})
	c.waitNodes(0, 1)
	id := c.submitContainer(0)
	until(t, "work", func() bool { return a.ran(id) == 1 })
	for i := range 3 {
		c.waitJob(i, id, job.Running)
		conn, from, status, body := c.dial(i, execCall{id, a.key.Public(), time.Now().Add(50 * time.Second), key(consumerKey), job.ExecProtocol})
		if conn == nil {
			t.Fatalf("server %d: %d %s", i, status, body)
		}
		said := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			if _, err := conn.Write(said); err != nil {
				t.Error(err)
			}
		}()
		heard, err := io.ReadAll(from)
		if err != nil || !bytes.Equal(heard, said) {
			t.Errorf("server %d: %d bytes of %d, %v", i, len(heard), len(said), err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	c.checkTunnelsRefused(leader, a, id)
	close(finish)
	c.waitJob(leader, id, job.Settling)
	_, _, status, body := c.dial(leader, execCall{id, a.key.Public(), time.Now().Add(50 * time.Second), key(consumerKey), job.ExecProtocol})
	if status != http.StatusConflict || !strings.Contains(body, "the job has ended: it is settling") {
		t.Errorf("a job that has ended: %d %s", status, body)
	}
}

func (c *cluster) checkTunnelsRefused(leader int, a *fakeAgent, id crypto.Digest) {
	t := c.t
	wasm := c.submit(leader, chain.PolicyNone{})
	until(t, "work", func() bool { return a.ran(wasm) == 1 })
	good := func() execCall {
		return execCall{id, a.key.Public(), time.Now().Add(50 * time.Second), key(consumerKey), job.ExecProtocol}
	}
	for name, h := range map[string]struct {
		change func(*execCall)
		status int
		want   string
	}{
		"another's":        {func(x *execCall) { x.by = key(99) }, http.StatusForbidden, "not the consumer's signature"},
		"the node's own":   {func(x *execCall) { x.by = a.key }, http.StatusForbidden, "not the consumer's signature"},
		"late":             {func(x *execCall) { x.expires = time.Now().Add(-time.Second) }, http.StatusForbidden, "expired at"},
		"for a long time":  {func(x *execCall) { x.expires = time.Now().Add(time.Hour) }, http.StatusForbidden, "limit 60000"},
		"unknown":          {func(x *execCall) { x.id = crypto.Digest{7} }, http.StatusNotFound, "is not known"},
		"wasm":             {func(x *execCall) { x.id = wasm }, http.StatusConflict, "a wasm job has no processes"},
		"another node":     {func(x *execCall) { x.node = key(agentKeys + 1).Public() }, http.StatusConflict, "does not run on node"},
		"no upgrade to it": {func(x *execCall) { x.upgrade = "websocket" }, http.StatusUpgradeRequired, "want hypermesh-exec/1"},
	} {
		x := good()
		h.change(&x)
		if conn, _, status, body := c.dial(leader, x); conn != nil || status != h.status || !strings.Contains(body, h.want) {
			t.Errorf("%s: %d %s, want %d with %q", name, status, body, h.status, h.want)
		}
	}
	// So many at a time, and a place that is given back is used again.
	var open []net.Conn
	for range 4 {
		conn, _, status, body := c.dial(leader, good())
		if conn == nil {
			t.Fatalf("%d %s", status, body)
		}
		open = append(open, conn)
	}
	if conn, _, status, body := c.dial(leader, good()); conn != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "4 commands run in this job now: limit 4") {
		t.Errorf("one more: %d %s", status, body)
	}
	for _, conn := range open {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	until(t, "a free place", func() bool {
		conn, _, _, _ := c.dial(leader, good())
		if conn == nil {
			return false
		}
		return conn.Close() == nil
	})
}

// Nobody is let through to a node that has gone, or that opens no way to it, and
// no other node opens one in its place.
func TestTunnelsToTheDead(t *testing.T) {
	c := newCluster(t, 1)
	finish := make(chan struct{})
	defer close(finish)
	a := c.agent(0, func(a *fakeAgent) {
		a.run = func(context.Context, job.Assignment) string { <-finish; return "done" }
	})
	thief := c.agent(1, func(a *fakeAgent) { a.declined = "not today" })
	c.waitNodes(0, 2)
	id := c.submitContainer(0)
	until(t, "work", func() bool { return a.ran(id) == 1 })
	thief.tunnel = func(*transport.Stream) {}
	thief.open(t.Context(), c.nodeAddrs()[0].ID, job.Tunnel{Order: id, ID: crypto.Digest{1}}) // it is cut off
	answered := make(chan string, 1)
	go func() {
		_, _, status, body := c.dial(0, execCall{id, a.key.Public(), time.Now().Add(50 * time.Second), key(consumerKey), job.ExecProtocol})
		answered <- fmt.Sprint(status, body)
	}()
	until(t, "a tunnel that is asked for", func() bool { return a.asked.Load() == 1 })
	if err := a.endpoint.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; !strings.HasPrefix(got, "503") || !strings.Contains(got, "has gone") {
		t.Errorf("a node that goes: %s", got)
	}
	_, _, status, body := c.dial(0, execCall{id, a.key.Public(), time.Now().Add(50 * time.Second), key(consumerKey), job.ExecProtocol})
	if status != http.StatusServiceUnavailable && status != http.StatusConflict || !strings.Contains(body, "is not connected") && !strings.Contains(body, "does not run on") {
		t.Errorf("a node that has gone: %d %s", status, body)
	}
}

// What a node sends twice is kept once, what came before this server knew of the
// work is kept, and what is begun again is another stream.
func TestLogsAreKeptOnce(t *testing.T) {
	c := newCluster(t, 1)
	finish := make(chan struct{})
	defer close(finish)
	a := c.agent(0, func(a *fakeAgent) {
		a.run = func(context.Context, job.Assignment) string { <-finish; return "done" }
	})
	c.waitNodes(0, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	say := func(begun chain.TimeMs, offset uint64, text string) {
		a.broadcast(job.Log{Order: id, Begun: begun, Offset: offset, Data: []byte(text)})
	}
	say(1, 0, "early ")
	for i := range 300 { // of other work, that it never gets
		a.broadcast(job.Log{Order: crypto.Digest{byte(i), byte(i >> 8), 1}, Data: make([]byte, 16<<10)})
	}
	if status, body := c.post(0, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("submitting: %d %s", status, body)
	}
	until(t, "work", func() bool { return a.ran(id) == 1 })
	say(1, 0, "early ")
	say(1, 6, "once ")
	say(1, 0, "early once and ")
	say(1, 20, "after a gap ")
	say(1, 4, "late")
	say(2, 0, "again")
	status, body := 0, []byte{}
	until(t, "all pieces", func() bool {
		status, body = c.do(0, http.MethodGet, "/v1/jobs/"+id.String()+"/logs?follow=false", nil, nil)
		return status != http.StatusOK || bytes.Contains(body, []byte(`"begun_ms":2`))
	})
	var heard []string
	for line := range strings.Lines(string(body)) {
		data, ok := strings.CutPrefix(line, "data: ")
		var piece api.JobLog
		if !ok || json.Unmarshal([]byte(data), &piece) != nil || piece.Data == nil {
			continue
		}
		heard = append(heard, fmt.Sprintf("%d@%d:%s", piece.Begun, piece.Offset, piece.Data))
	}
	if got := strings.Join(heard, "|"); got != "1@0:early |1@6:once |1@11:and |1@20:after a gap |2@0:again" {
		t.Errorf("kept %s", got)
	}
	if !bytes.Contains(body, []byte("event: end")) {
		t.Errorf("without following it has no end: %s", body)
	}
}
