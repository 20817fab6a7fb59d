package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/node"
)

// The chaos tests break a running network of real processes, and want it whole
// again within 20 seconds of each fault's end: every node finalizes, all have the
// same state, the supply adds up, and nobody has signed twice. Not here but in the
// simulator: clocks that disagree (no process of a machine can be given another
// wall clock by honest means) and what a disk forgets at a power cut.

// chaosFault is something that happens to a network. do returns at its end.
type chaosFault struct {
	name string
	mean meanwhile
	do   func(t *testing.T, n *chaosNet)
}

// meanwhile says what the chain does while a fault lasts.
type meanwhile int

const (
	maybe  meanwhile = iota // the fault does not last
	goesOn                  // two thirds are left
	stands                  // they are not, so that nothing can be finalized but what was under way
)

// run lets faults happen one after the other to a network under load. A network
// that does not recover is not broken further.
func (n *chaosNet) run(t *testing.T, faults []chaosFault) {
	t.Helper()
	load := n.startLoad(t)
	for _, f := range faults {
		if !t.Run(f.name, func(t *testing.T) { n.runOne(t, load, f) }) {
			return
		}
	}
	load.checkBalance(t)
}

func (n *chaosNet) runOne(t *testing.T, load *chaosLoad, f chaosFault) {
	seen, began := load.count(), time.Now()
	watch := n.watch(t.Context())
	f.do(t, n)
	stall, risen := watch()
	lasted := time.Since(began)
	const underWay = 3 // blocks
	if f.mean == goesOn && risen == 0 || f.mean == stands && risen > underWay {
		t.Errorf("%d blocks were finalized while it lasted, %v", risen, lasted)
	}
	took := n.recovered(t)
	load.awaitMore(t)
	n.agree(t)
	median, slowest := load.finality(seen)
	t.Logf("recovered in %v after %v; %d blocks meanwhile, longest stall %v; %d transfers, finality %v, at most %v; %s",
		took, lasted.Round(time.Millisecond), risen, stall, load.count()-seen, median.Round(time.Millisecond), slowest.Round(time.Millisecond), n.describe())
}

// watch follows the highest finalized height until its result is called, which
// returns the longest time without a rise and the sum of rises.
func (n *chaosNet) watch(ctx context.Context) func() (time.Duration, int) {
	ctx, stop := context.WithCancel(ctx)
	var stall time.Duration
	var risen int
	done := make(chan struct{})
	last, since := n.highest(ctx), time.Now() // before the fault begins
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				stall = max(stall, time.Since(since)).Round(time.Millisecond)
				return
			}
			if h := n.highest(ctx); h > last {
				stall = max(stall, time.Since(since))
				risen += int(h - last)
				last, since = h, time.Now()
			}
		}
	}()
	return func() (time.Duration, int) {
		stop()
		<-done
		return stall, risen
	}
}

// lasts lets a fault last.
func lasts(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// disconnected takes nodes off the network, at their own end of the cable, and
// puts them back.
func disconnected(d time.Duration, which ...int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		for _, i := range which {
			command(t, "ip", "-n", n.nodes[i].ns, "link", "set", "eth0", "down")
		}
		lasts(t, d)
		for _, i := range which {
			command(t, "ip", "-n", n.nodes[i].ns, "link", "set", "eth0", "up")
		}
	}
}

// paused stops processes and lets them go on.
func paused(d time.Duration, which ...int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		for _, i := range which {
			n.nodes[i].signal(t, syscall.SIGSTOP)
		}
		lasts(t, d)
		for _, i := range which {
			n.nodes[i].signal(t, syscall.SIGCONT)
		}
	}
}

// stuttering gives a process a fifth of the time: a machine that is too slow.
func stuttering(d time.Duration, i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		for range int(d / (500 * time.Millisecond)) {
			n.nodes[i].signal(t, syscall.SIGSTOP)
			lasts(t, 400*time.Millisecond)
			n.nodes[i].signal(t, syscall.SIGCONT)
			lasts(t, 100*time.Millisecond)
		}
	}
}

// hanging has whatever a node writes wait: for so long a time, again and again, with
// as much as a sixth of it between.
func hanging(d, each time.Duration, i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		disk := n.nodes[i].disk
		if disk == "" {
			t.Skip("this machine has no loop devices")
		}
		for range int(d / each) {
			if err := freeze(disk, true); err != nil {
				t.Fatal(err)
			}
			lasts(t, each)
			if err := freeze(disk, false); err != nil {
				t.Fatal(err)
			}
			lasts(t, each/6)
		}
	}
}

// killed kills processes at the same time and starts them again after a while.
func killed(d time.Duration, which ...int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		for _, i := range which {
			n.nodes[i].signal(t, syscall.SIGKILL)
		}
		for _, i := range which {
			n.nodes[i].awaitEnd(t, 10*time.Second)
		}
		lasts(t, d)
		for _, i := range which {
			n.start(t, n.nodes[i])
		}
	}
}

// partitioned puts nodes on sides and heals.
func partitioned(d time.Duration, sides ...int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		n.relay.Partition(sides)
		lasts(t, d)
		n.relay.Partition(nil)
	}
}

// deafened has nodes send, but hear nobody.
func deafened(d time.Duration, which ...int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		cut := func(off bool) {
			for _, to := range which {
				for from := range n.nodes {
					if from != to {
						n.relay.Cut(from, to, off)
					}
				}
			}
		}
		cut(true)
		lasts(t, d)
		cut(false)
	}
}

// restarted stops every process politely and starts it again, one after the other.
func restarted(t *testing.T, n *chaosNet) {
	for _, v := range n.nodes {
		v.stop(t)
		n.start(t, v)
		n.recovered(t)
	}
}

// weathered gives all links a weather for a while. The chain goes on in it.
func weathered(d time.Duration, w netem.Weather) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		before := n.relay.TotalTraffic()
		n.relay.SetAllWeather(w)
		lasts(t, d)
		took := n.recovered(t)
		if after := n.relay.TotalTraffic(); after.Lost == before.Lost || w.Duplicate > 0 && after.Duplicated == before.Duplicated {
			t.Errorf("the weather was not bad: %+v after %+v", after, before)
		}
		t.Logf("in this weather every node finalizes a new block within %v", took)
		n.relay.SetAllWeather(netem.Weather{})
	}
}

// everybody is the indices of all nodes.
func everybody(count int) []int {
	all := make([]int, count)
	for i := range all {
		all[i] = i
	}
	return all
}

// TestChaosOfFour breaks a network of four validators, of which it can lose one.
func TestChaosOfFour(t *testing.T) {
	endToEnd(t)
	n := newChaosNet(t, chaosShape{validators: 4, disks: map[int]chaosDisk{
		1: {"data", inFile}, 2: {"data/chain", inMemory}, 3: {"data", inMemory},
	}})
	n.checkIsolation(t)
	n.run(t, []chaosFault{
		{"nothing", goesOn, func(t *testing.T, _ *chaosNet) { lasts(t, 3*time.Second) }},
		{"disconnect one for 10 s", goesOn, disconnected(10*time.Second, 1)},
		{"disconnect one for 25 s, longer than a connection lives", goesOn, disconnected(25*time.Second, 2)},
		{"one hears nobody for 10 s", goesOn, deafened(10*time.Second, 3)},
		{"pause one for 10 s", goesOn, paused(10*time.Second, 0)},
		{"one is too slow for 10 s", goesOn, stuttering(10*time.Second, 1)},
		{"one's disk hangs for 10 s", goesOn, hanging(10*time.Second, 10*time.Second, 1)},
		{"one's disk is slow for 10 s", goesOn, hanging(10*time.Second, 150*time.Millisecond, 1)},
		{"restart one after the other", goesOn, restarted},
		{"kill one", goesOn, killed(3*time.Second, 2)},
		{"kill one, which starts at once", maybe, killed(0, 1)},
		{"kill two", stands, killed(3*time.Second, 0, 3)},
		{"kill all", stands, killed(time.Second, everybody(4)...)},
		{"kill all again, which start at once", maybe, killed(0, everybody(4)...)},
		{"partition 2|2 for 10 s", stands, partitioned(10*time.Second, 0, 1, 0, 1)},
		{"partition 2|2 for 25 s", stands, partitioned(25*time.Second, 0, 0, 1, 1)},
		{"partition 1|3 for 45 s", goesOn, partitioned(45*time.Second, 1, 1, 0, 1)},
		{"100 ms ± 20 ms with 1 % loss", goesOn, weathered(15*time.Second, chaosWeather)},
		{"duplicates and reordering besides", goesOn, weathered(15*time.Second, chaosStorm)},
		{"full disk of the data", maybe, fullDisk(3, whileRunning)},
		{"full disk of the chain's store at the start", maybe, fullDisk(2, beforeStart)},
		{"the previous build", goesOn, previousBuild(0)},
	})
}

// TestChaosOfSeven breaks a network of seven, of which it can lose two.
func TestChaosOfSeven(t *testing.T) {
	endToEnd(t)
	n := newChaosNet(t, chaosShape{validators: 7, disks: map[int]chaosDisk{4: {"data", inFile}, 6: {"data", inMemory}}})
	n.run(t, []chaosFault{
		{"nothing", goesOn, func(t *testing.T, _ *chaosNet) { lasts(t, 3*time.Second) }},
		{"disconnect two for 10 s", goesOn, disconnected(10*time.Second, 1, 5)},
		{"pause two for 10 s", goesOn, paused(10*time.Second, 0, 3)},
		{"pause all for 3 s", stands, paused(3*time.Second, everybody(7)...)},
		{"kill two", goesOn, killed(3*time.Second, 2, 6)},
		{"kill all", stands, killed(time.Second, everybody(7)...)},
		{"partition 3|4 for 10 s", stands, partitioned(10*time.Second, 0, 1, 0, 1, 0, 1, 1)},
		{"three islands for 10 s", stands, partitioned(10*time.Second, 0, 0, 1, 1, 2, 2, 2)},
		{"one's disk hangs for 5 s", goesOn, hanging(5*time.Second, 5*time.Second, 4)},
		{"full disk of the data", maybe, fullDisk(6, whileRunning)},
		{"100 ms ± 20 ms with 1 % loss", goesOn, weathered(15*time.Second, chaosWeather)},
		{"duplicates and reordering besides", goesOn, weathered(15*time.Second, chaosStorm)},
		{"the previous build", goesOn, previousBuild(1)},
	})
}

// checkIsolation demands that the relay is the only way between nodes.
func (n *chaosNet) checkIsolation(t *testing.T) {
	t.Helper()
	const port = 9
	var at *net.UDPConn
	err := inNamespace(n.nodes[1].ns, func() (err error) {
		at, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{n.nodes[0].ns, n.hub} { // what the hub sends arrives, what a node sends does not
		err = errors.Join(err, inNamespace(from, func() error {
			c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: port})
			if err != nil {
				return err
			}
			_, err = c.Write([]byte(from))
			return errors.Join(err, c.Close())
		}))
	}
	var came []string
	var buf [64]byte
	err = errors.Join(err, at.SetReadDeadline(time.Now().Add(time.Second)))
	for {
		k, err := at.Read(buf[:])
		if err != nil {
			break
		}
		came = append(came, string(buf[:k]))
	}
	if err := errors.Join(err, at.Close()); err != nil || !slices.Equal(came, []string{n.hub}) {
		t.Errorf("%q came to node 1, %v; want what %s sent", came, err, n.hub)
	}
}

// The weathers of the chaos tests. In both, jitter alone lets datagrams overtake
// each other.
var (
	chaosWeather = netem.Weather{Delay: 100 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 10}
	chaosStorm   = netem.Weather{Delay: 100 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 10, Duplicate: 20, Late: 20, LateBy: 300 * time.Millisecond}
)

// fullDisk fills a node's disk while it runs, or before it starts, sees the node
// end with a message that says so, and starts it again once there is room. The
// database of a running node may live on in what it has reserved, for long.
func fullDisk(i int, when diskFills) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		v := n.nodes[i]
		if when == beforeStart {
			v.stop(t)
		}
		position := len(v.logSince(t, 0))
		ballast := filepath.Join(v.disk, "ballast")
		written, err := fill(ballast)
		if err != nil {
			t.Fatal(err)
		}
		if when == beforeStart {
			n.start(t, v)
		}
		v.awaitEnd(t, 20*time.Second)
		last := lastLine(v.logSince(t, position))
		t.Logf("with %d MiB of ballast node %d ended: %v: %s", written>>20, i, v.err, last)
		if exit, ok := errors.AsType[*exec.ExitError](v.err); !ok || exit.ExitCode() != exitFailed {
			t.Errorf("node %d: %v, want exit code %d", i, v.err, exitFailed)
		}
		if !strings.HasPrefix(last, "hypermesh: ") || !strings.Contains(last, "no space left on device") || !strings.Contains(last, v.disk) {
			t.Errorf("the last line does not name the disk: %s", last)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		n.start(t, v)
	}
}

type diskFills int

const (
	whileRunning diskFills = iota
	beforeStart
)

// fill appends to a file until its disk is full, and returns by how much.
func fill(path string) (written int, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 64<<10)
	for {
		k, err := f.Write(block)
		written += k
		switch {
		case errors.Is(err, syscall.ENOSPC) && len(block) > 1:
			block = block[:len(block)/2] // to the last byte
		case errors.Is(err, syscall.ENOSPC):
			return written, f.Close()
		case err != nil:
			return written, errors.Join(err, f.Close())
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// previousFile names the commit of the previous build: the latest whose formats,
// on the wire and on the disk, are those of this one.
const previousFile = "testdata/chaos/previous"

// previousProgram builds the program as it was.
var previousProgram = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile(previousFile)
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(string(text))
	dir, err := built()
	if err != nil {
		return "", err
	}
	tree := filepath.Join(dir, "previous")
	program := filepath.Join(dir, "hypermesh-previous")
	script := `mkdir "$1" && git -C ../.. archive "$2" | tar -x -C "$1" && cd "$1" && go build -o "$3" ./cmd/hypermesh && rm -r "$1"`
	if out, err := exec.Command("bash", "-euo", "pipefail", "-c", script, "build", tree, commit, program).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building commit %s: %w\n%s", commit, err, out)
	}
	return program, nil
})

// previousBuild runs one node on the previous build among the others, with a
// config file of that build, and then on this one again, with the file and the
// data that the other left.
func previousBuild(i int) func(*testing.T, *chaosNet) {
	return func(t *testing.T, n *chaosNet) {
		previous, err := previousProgram()
		if err != nil {
			t.Fatal(err)
		}
		v := n.nodes[i]
		current := v.program
		for _, program := range []string{previous, current} {
			v.stop(t)
			v.program = program
			if program == previous {
				if err := os.Remove(filepath.Join(v.home, configFile)); err != nil {
					t.Fatal(err)
				}
				v.init(t)
			}
			n.start(t, v)
			took := n.recovered(t)
			n.agree(t)
			t.Logf("node %d runs %s: all finalize within %v", i, filepath.Base(program), took)
		}
	}
}

// TestChaosFindsATwin runs one validator twice, with the same keys, and finds that
// the others hold evidence against it and go on: what the other chaos tests never
// see can be seen.
func TestChaosFindsATwin(t *testing.T) {
	endToEnd(t)
	// The twin's key was not made in its home: it votes from the second epoch on.
	n := newChaosNet(t, chaosShape{validators: 4, hosts: 5, params: map[string]any{"epoch_ms": 10_000}})
	n.startLoad(t)
	n.startTwin(t, n.nodes[2], n.nodes[4])
	honest := []*chaosNode{n.nodes[0], n.nodes[1], n.nodes[3]}
	n.awaitAccusation(t, honest)
	goal := n.highest(t.Context()) + 20
	for _, v := range honest {
		n.awaitHeight(t, v, goal, 20*time.Second)
	}
}

// startTwin runs on another host a node with the keys of one that runs already.
func (n *chaosNet) startTwin(t *testing.T, original, twin *chaosNode) {
	t.Helper()
	for _, key := range []string{node.NodeKeyFile, node.ConsensusKeyFile} {
		data, err := os.ReadFile(filepath.Join(original.home, key))
		if err == nil {
			err = os.WriteFile(filepath.Join(twin.home, key), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.guilty = true
	n.start(t, twin)
}

// awaitAccusation waits until one of some nodes holds evidence.
func (n *chaosNet) awaitAccusation(t *testing.T, among []*chaosNode) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for patience := time.After(time.Minute); ; {
		for _, v := range among {
			if found := v.accuses(t); len(found) > 0 {
				t.Logf("after %v node %d holds evidence: %s", time.Since(began), v.index, found[0])
				return
			}
		}
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal("nobody holds evidence after a minute")
		}
	}
}
