package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// What becomes of a job on provider-1 of docs/DEPLOY.md while that host's network
// changes: kernel interfaces and addresses, real processes.

const providerHost, providerHome = "provider-1", deployHome + "/agent"

// agentStatus is what the agent of provider-1 says of itself.
func (d *deployment) agentStatus(t *testing.T) (s agent.Status) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), blockPatience)
	defer cancel()
	out, err := d.script(ctx, providerHost, "hypermesh agent status --json --home "+providerHome)
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitAgent waits until provider-1's status is as wanted.
func (d *deployment) awaitAgent(t *testing.T, what string, want func(agent.Status) bool) agent.Status {
	t.Helper()
	for deadline := time.Now().Add(blockPatience); time.Now().Before(deadline); {
		if s := d.agentStatus(t); want(s) { // the command itself takes its time
			return s
		}
	}
	t.Fatalf("provider-1 never %s: %+v", what, d.agentStatus(t))
	return agent.Status{}
}

// longJob starts a job of several seconds on provider-1, the other provider being
// paused, and returns once it runs there, with what waits for its end.
func (d *deployment) longJob(t *testing.T, name string) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*blockPatience)
	if _, err := d.script(ctx, "home-1", "hypermesh agent pause --home "+providerHome); err != nil {
		t.Fatal(err)
	}
	var out []byte
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		out, err = d.script(ctx, "laptop", `mkdir -p ~/`+name+`
printf 'width = 1000\nheight = 1000\n' > ~/`+name+`/params.txt
hypermesh job run ~/fractal.wasm --in ~/`+name+` --out ~/result-`+name+` --config ~/net.json --json`)
	})
	d.awaitAgent(t, "runs the job", func(s agent.Status) bool { return len(s.Running) == 1 && s.Free.Millicores < s.Total.Millicores })
	return func() {
		t.Helper()
		defer cancel()
		wg.Wait()
		if err != nil {
			t.Fatalf("the job: %v", err)
		}
		png, err := os.ReadFile(d.path("laptop", deployHome+"/result-"+name+"/fractal.png"))
		if err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) || !bytes.Contains(out, []byte(`"settled"`)) {
			t.Errorf("the job's output is %.8q, %v; its end %s", png, err, out)
		}
	}
}

// sessionsOf counts the sessions that the servers have seen of provider-1.
func (d *deployment) sessionsOf(t *testing.T, node string) (n int) {
	t.Helper()
	for _, s := range d.services {
		if s.unit != "hypermesh@nexus" {
			continue
		}
		log, err := os.ReadFile(s.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, `msg="agent connected"`) && strings.Contains(line, "node="+node) {
				n++
			}
		}
	}
	return n
}

// checkMove gives provider-1 another address while it works. Its sessions go on, and
// the job is settled.
func (d *deployment) checkMove(t *testing.T) {
	t.Helper()
	before := d.agentStatus(t)
	node := before.Node.Short()
	sessions := d.sessionsOf(t, node)
	wait := d.longJob(t, "move")
	d.in(t, d.prefix+providerHost, "ip addr del 192.0.2.51/24 dev eth0 && ip addr add 192.0.2.151/24 dev eth0")
	if s := d.agentStatus(t); len(s.Running) != 1 {
		t.Errorf("the job had ended before the address changed: %+v", s)
	}
	wait()
	after := d.agentStatus(t)
	for i, server := range after.Servers {
		if !server.Connected || server.SinceMs != before.Servers[i].SinceMs {
			t.Errorf("the session with %s did not last: %+v, before %+v", server.Server, server, before.Servers[i])
		}
	}
	if n := d.sessionsOf(t, node); n != sessions || sessions != len(after.Servers) {
		t.Errorf("the servers have seen %d sessions, before the move %d", n, sessions)
	}
}

// checkCut unplugs provider-1 while it works, for longer than a connection lives: the
// work goes on, its receipt waits on disk, and is handed over when the network is
// back.
func (d *deployment) checkCut(t *testing.T) {
	t.Helper()
	wait := d.longJob(t, "cut")
	began := time.Now()
	d.in(t, d.prefix+providerHost, "ip link set eth0 down")
	s := d.awaitAgent(t, "finishes the job and notices the cut", func(s agent.Status) bool {
		return len(s.Running) == 0 && len(s.Unacked) == 1 && !s.Servers[0].Connected && !s.Servers[1].Connected && !s.Servers[2].Connected
	})
	order := s.Unacked[0]
	t.Logf("after %.0f s without a network %s waits", time.Since(began).Seconds(), order.Short())
	d.in(t, d.prefix+providerHost, "ip link set eth0 up")
	d.awaitAgent(t, "hands its result over", func(s agent.Status) bool { return len(s.Unacked) == 0 && s.NotReadyAs == "" })
	wait()
}
