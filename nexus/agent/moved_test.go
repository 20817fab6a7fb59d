package agent_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestMovedBytesAreCounted runs a job and checks what it moved, to the byte where
// nothing else goes the same way; with and without a bound on bandwidth.
func TestMovedBytesAreCounted(t *testing.T) {
	for _, kib := range []uint64{0, 64 << 10} {
		g := genesis()
		s := newServer(t, g)
		config := home(t, g, s)
		config.BandwidthKiB = kib
		a := start(t, config)
		p := s.session()
		module := writer("result.txt", strings.Repeat("what it found\n", 2_000))
		assignment := p.assign(module, 1, nil)
		d := p.finish(&assignment)
		p.output(d)
		metrics := scrape(t, a)
		of := map[string]agent.Moved{}
		for _, m := range a.status(t).Moved {
			of[m.Cargo] = m
		}
		const requests = 1_000 // an outline and an answer, at most
		size, out := uint64(len(module)), d.OutputSize
		if m := of["inputs"]; m.In < size || m.In > size+requests || m.Out == 0 || m.Out > requests {
			t.Errorf("inputs of %d bytes: %+v", size, m)
		}
		if m := of["blobs"]; m.Out < out || m.Out > out+requests || m.In == 0 || m.In > requests {
			t.Errorf("an output of %d bytes: %+v", out, m)
		}
		if m := of["control"]; m.In == 0 || m.Out == 0 || m.In > 100<<10 || m.Out > 100<<10 {
			t.Errorf("control: %+v", m)
		}
		if m := of["images"]; m.In != 0 || m.Out != 0 || len(of) != 4 {
			t.Errorf("images: %+v", of)
		}
		if got := metrics[`cargo="inputs",direction="in"`]; got != of["inputs"].In {
			t.Errorf("/metrics says %d, the status %d", got, of["inputs"].In)
		}
		if len(metrics) != 8 {
			t.Errorf("/metrics has %v", metrics)
		}
	}
}

func TestCargoOfBlobs(t *testing.T) {
	image, input := crypto.Digest{1}, crypto.Digest{2}
	container := job.Spec{Work: job.WorkField{Work: job.Container{Image: image, Input: input}}}
	wasm := job.Spec{Work: job.WorkField{Work: job.Wasm{Module: image, Input: input}}}
	for _, c := range []struct {
		spec *job.Spec
		id   crypto.Digest
		want string
	}{{&container, image, "images"}, {&container, input, "inputs"}, {&wasm, image, "inputs"}, {&wasm, input, "inputs"}} {
		if got := agent.CargoOf(c.spec, c.id); got != c.want {
			t.Errorf("%+v, %s is %s, want %s", c.spec.Work.Work, c.id.Short(), got, c.want)
		}
	}
}

var movedLine = regexp.MustCompile(`(?m)^hypermesh_agent_moved_bytes_total\{(.*)\} (.*)$`)

// scrape returns the moved bytes by labels, as /metrics has them.
func scrape(t *testing.T, a *running) map[string]uint64 {
	t.Helper()
	text, err := a.get(t, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, line := range movedLine.FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(line[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		out[string(line[1])] = uint64(value)
	}
	return out
}
