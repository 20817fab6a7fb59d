package agent_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// router stands between an agent and a server as a provider's router does: the
// server sees what it sends from, which move changes.
type router struct {
	t      *testing.T
	inside *net.UDPConn
	server netip.AddrPort

	mu      sync.Mutex
	agent   netip.AddrPort
	outside []*net.UDPConn // the last one sends
	seen    []netip.AddrPort
	cut     bool // nothing passes to the server
}

func newRouter(t *testing.T, server string) *router {
	t.Helper()
	inside, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	r := &router{t: t, inside: inside, server: netip.MustParseAddrPort(server)}
	r.move()
	go r.pump(inside, func(packet []byte, from netip.AddrPort) error {
		r.mu.Lock()
		r.agent = from
		out, cut := r.outside[len(r.outside)-1], r.cut
		r.mu.Unlock()
		if cut {
			return nil
		}
		_, err := out.WriteToUDPAddrPort(packet, r.server)
		return err
	})
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, conn := range append(r.outside, inside) {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// pump hands every packet that arrives on. A packet that cannot be sent is lost,
// as it is in a network.
func (r *router) pump(from *net.UDPConn, hand func([]byte, netip.AddrPort) error) {
	buf := make([]byte, 1<<16)
	for {
		n, source, err := from.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		if err := hand(buf[:n], source); err != nil && !strings.Contains(err.Error(), "closed") {
			r.t.Logf("a packet is lost: %v", err)
		}
	}
}

// move gives the agent another address. What still comes to the old one is lost.
func (r *router) move() {
	r.t.Helper()
	out, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outside = append(r.outside, out)
	r.seen = append(r.seen, out.LocalAddr().(*net.UDPAddr).AddrPort())
	go r.pump(out, func(packet []byte, _ netip.AddrPort) error {
		r.mu.Lock()
		agent, current := r.agent, r.outside[len(r.outside)-1] == out && !r.cut
		r.mu.Unlock()
		if !current || !agent.IsValid() {
			return nil
		}
		_, err := r.inside.WriteToUDPAddrPort(packet, agent)
		return err
	})
}

// setCut has nothing pass, or everything.
func (r *router) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
}

// TestTheAddressChangesMidJob moves the agent to another address while it fetches
// its input, while it works, and while its output is fetched: one session lasts
// throughout, and every byte arrives.
func TestTheAddressChangesMidJob(t *testing.T) {
	t.Parallel()
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	r := newRouter(t, s.endpoint.Addr().String())
	id, _, _ := strings.Cut(config.Servers[0], "@")
	config.Servers = []string{id + "@" + r.inside.LocalAddr().String()}
	config.BandwidthKiB = 512 // so that the input takes a second and a half
	a := start(t, config)
	p := s.session()
	since := a.status(t).Servers[0].SinceMs

	input, inputSize := s.put(bytes.Repeat([]byte("0123456789abcdef"), 768<<10/16))
	module, size := s.put(spinner())
	spec := wasmSpec(module, size+inputSize)
	w := spec.Work.Work.(job.Wasm)
	w.Input, spec.Work.Work = input, w
	fetching := assignmentOf(orderOf(&spec, 1), spec)
	p.send(job.Assign{List: []job.Assignment{fetching}})
	await[job.AssignReply](p, nil)
	r.move()
	p.finish(&fetching) // its input is no packed directory, which is found once it is there, whole

	working := p.assign(spinner(), 2, func(spec *job.Spec) { spec.Limits.Fuel = 1_000_000_000 })
	a.waitFor(t, func(s agent.Status) bool { return len(s.Running) == 1 })
	r.move()
	p.offer(3, 0) // a server's packet goes to the new address only once it has heard from there
	await[job.BidReply](p, nil)
	if d := p.finish(&working); d.Receipt.Exit != chain.ExitFuel {
		t.Errorf("the job ended with %s", d.Receipt.Exit)
	}

	written := p.assign(writer("result.txt", "all of it\n"), 4, nil)
	r.move()
	if log := await(p, func(l job.Log) bool { return l.Order == written.Order.ID() }); string(log.Data) != "all of it\n" {
		t.Errorf("log %q", log.Data)
	}
	d := p.finish(&written)
	if files := p.output(d); files["result.txt"] != "all of it\n" {
		t.Errorf("the output has %q", files)
	}
	st := a.status(t)
	if len(s.peers) != 0 || st.Servers[0].SinceMs != since || p.conn.Err() != nil {
		t.Errorf("the session did not last: %d more, %+v, %v", len(s.peers), st.Servers, p.conn.Err())
	}
	if len(slices.Compact(r.seen)) != 4 || !slices.Equal(st.Unacked, []crypto.Digest{fetching.Order.ID(), working.Order.ID(), written.Order.ID()}) {
		t.Errorf("moved %v; finished %v", r.seen, st.Unacked)
	}
}

// TestANetworkThatIsGoneEndsNothing lets no packet through for a while, less than
// what ends a connection: work goes on and its result arrives when packets do.
func TestANetworkThatIsGoneEndsNothing(t *testing.T) {
	t.Parallel()
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	r := newRouter(t, s.endpoint.Addr().String())
	id, _, _ := strings.Cut(config.Servers[0], "@")
	config.Servers = []string{id + "@" + r.inside.LocalAddr().String()}
	a := start(t, config)
	p := s.session()
	as := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = 1_000_000_000 })
	a.waitFor(t, func(s agent.Status) bool { return len(s.Running) == 1 && s.Blobs == 1 }) // its program is there
	r.setCut(true)
	a.waitFor(t, func(s agent.Status) bool { return len(s.Unacked) == 1 && len(s.Running) == 0 })
	r.setCut(false)
	if d := p.finish(&as); d.Receipt.Exit != chain.ExitFuel {
		t.Errorf("the job ended with %s", d.Receipt.Exit)
	}
	if len(s.peers) != 0 {
		t.Error("the session did not last")
	}
	p.send(job.Ack{Order: as.Order.ID()})
	a.waitFor(t, func(s agent.Status) bool { return len(s.Unacked) == 0 })
}
