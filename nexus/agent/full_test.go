package agent_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestAFullStoreTakesNoWork: outputs that no server has taken stay, and count: work whose output might not fit beside them is
// declined by name, or waits if it was given all the same, until a server has taken one.
func TestAFullStoreTakesNoWork(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	config.DiskMiB = 16 // 8 for inputs and outputs
	a := start(t, config)
	p := s.session()
	text := strings.Repeat("kept\n", 150)
	first := p.assign(writer("f", text), 1, nil)
	done := p.finish(&first)

	id, size := s.put(writer("g", "also\n"))
	spec := wasmSpec(id, size)
	spec.Limits.OutputBytes = 7 << 20
	asks := func(auction uint64) job.BidReply {
		p.send(offer(auction, orderOf(&spec, auction), spec, 0))
		return await(p, func(r job.BidReply) bool { return r.Auction == auction })
	}
	if r := asks(2); !strings.Contains(r.Decline, "bytes of the store of inputs and outputs needed") || !strings.Contains(r.Decline, "are of finished jobs whose outputs no server has taken") {
		t.Errorf("with outputs that nobody took: %q", r.Decline)
	}
	second := assignmentOf(orderOf(&spec, 3), spec)
	p.send(job.Assign{List: []job.Assignment{second}})
	if reply := await[job.AssignReply](p, nil); reply.Refuse != "" {
		t.Fatalf("refused: %q", reply.Refuse)
	}
	if st := a.status(t); len(st.Unacked) != 1 {
		t.Errorf("%d results wait for the servers, want the first", len(st.Unacked))
	}
	if files := p.output(done); files["f"] != text {
		t.Errorf("the output that nobody took has %d bytes", len(files["f"]))
	}
	p.send(job.Ack{Order: first.Order.ID()})
	if files := p.output(p.finish(&second)); files["g"] != "also\n" {
		t.Errorf("what waited for room left %q", files)
	}
	p.send(job.Ack{Order: second.Order.ID()})
	a.waitFor(t, func(st agent.Status) bool { return len(st.Unacked) == 0 })
	if r := asks(4); r.Decline != "" {
		t.Errorf("with all outputs taken: %q", r.Decline)
	}
}
