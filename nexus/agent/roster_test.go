package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

func (s *server) addr() string { return s.endpoint.NodeAddr().String() }

// TestAnAgentLearnsOfServers tells an agent that is configured with one server of
// two more, and then that the first is gone: it is connected to these two, also
// after a restart while the first is dead, and to no server that it was told of
// and is no more.
func TestAnAgentLearnsOfServers(t *testing.T) {
	g := genesis()
	a, b, c, never := newServer(t, g), newServer(t, g), newServer(t, g), newServer(t, g)
	config := home(t, g, a)
	r := start(t, config)
	p := a.session()
	p.send(job.Roster{Index: 5, Servers: []string{a.addr(), b.addr(), never.addr()}})
	pb := b.session()
	gone := never.session()
	pb.send(job.Roster{Index: 9, Servers: []string{b.addr(), c.addr()}})
	c.session()
	<-gone.conn.Done()
	p.send(job.Roster{Index: 7, Servers: []string{a.addr(), never.addr()}}) // what a server says that was left behind
	connected := func(want ...*server) func(agent.Status) bool {
		return func(s agent.Status) bool {
			n := 0
			for _, server := range s.Servers {
				for _, w := range want {
					if server.Server == w.addr() && server.Connected {
						n++
					}
				}
			}
			return n == len(want) && s.NotReadyAs == ""
		}
	}
	r.waitFor(t, connected(a, b, c)) // a, which the configuration names, as long as it is there
	r.stop()
	if err := a.endpoint.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, config)
	b.session()
	c.session()
	r.waitFor(t, connected(b, c))
	r.stop()
	// Another configuration is the owner's word: what was told before is forgotten.
	config.Servers = []string{never.addr()}
	r = start(t, config)
	never.session()
	r.waitFor(t, func(s agent.Status) bool { return len(s.Servers) == 1 })
}

// TestRostersThatAreNone has a server send rosters that cannot be: the session
// ends, and the servers of the configuration are asked as before. So they are if
// the file does not read.
func TestRostersThatAreNone(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	r := start(t, config)
	many := make([]string, job.MaxServers+1)
	for i := range many {
		many[i] = s.addr()
	}
	for name, m := range map[string]job.Roster{
		"nobody": {Index: 1}, "too many": {Index: 1, Servers: many}, "twice the same": {Index: 1, Servers: many[:2]},
		"no address": {Index: 1, Servers: []string{"nexus.example"}}, "a long one": {Index: 1, Servers: []string{strings.Repeat("x", 5_000)}},
	} {
		p := s.session()
		if _, err := p.control.Write(framed(m)); err != nil {
			t.Fatal(err)
		}
		<-p.conn.Done()
		if err, want := p.conn.Err(), fmt.Sprintf("code %d", transport.CloseViolation); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: closed with %v", name, err)
		}
	}
	s.session()
	r.stop()
	if err := os.WriteFile(filepath.Join(config.Home, "servers.json"), []byte("{\"servers\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, config)
	s.session()
	r.waitFor(t, func(s agent.Status) bool { return len(s.Servers) == 1 && s.Servers[0].Connected })
}
