package agent

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// The chain challenges what nodes declare of their hardware, and draws peers who measure it. A
// server only says where to look: that this node is challenged, or drawn, and with which seed, a
// finalized state proves. Without a node of the chain to ask nothing is run and nothing is measured.

const (
	// tooLate is how long after a challenge began nobody begins with it any more: the time that
	// was lost would count.
	tooLate = time.Minute
	// proofAgain is after how long the chain is asked again about a challenge of which a server
	// speaks.
	proofAgain = 3 * time.Second
)

// hardwareReader asks the chain for the state of a node's challenges; false: a finalized state has
// none.
type hardwareReader func(ctx context.Context, node crypto.PublicKey) (settlement.Hardware, bool, error)

// hardware is the hardwareReader of the chain.
func (m *market) hardware(ctx context.Context, node crypto.PublicKey) (settlement.Hardware, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	value, err := m.client.VerifiedState(ctx, settlement.HardwareKey(node))
	if err != nil {
		return settlement.Hardware{}, false, err
	}
	raw, there := value.Get()
	if !there {
		return settlement.Hardware{}, false, nil
	}
	h, err := settlement.DecodeHardware(raw)
	return h, true, err
}

// bench is the machine that a challenge finds, and the clock that measures others.
type bench struct {
	cores  int
	memory func() uint64 // MiB that are available
	run    func(t hardware.Task, lane uint64, stop func() bool) *hardware.Lane
	now    func() time.Time
	after  func(time.Duration) <-chan time.Time
}

func newBench() bench {
	return bench{cores: runtime.GOMAXPROCS(0), memory: availableMiB, run: hardware.Run, now: time.Now, after: time.After}
}

// taskOf is what a challenge asks of a node that leaves some memory to jobs; false: nothing.
func (a *Agent) taskOf(h *settlement.Hardware, heldMiB uint64) (hardware.Task, bool) {
	return hardware.TaskOf(h.Seed, h.Lanes, h.MemoryMiB-min(heldMiB, h.MemoryMiB), a.genesis.Params.HardwareLaneMiB)
}

// limit is within what time a task's roots have to be with those who measure it.
func (a *Agent) limit(t *hardware.Task) time.Duration {
	return time.Duration(t.LimitMs(a.genesis.Params.HardwareStepNs)) * time.Millisecond
}

// measure takes a server's word of a challenge.
func (s *session) measure(m *job.Measure) {
	a := s.agent
	switch {
	case m.Challenge.ChainID != a.genesis.ChainID:
		a.log.Warn("agent: refusing a hardware challenge of another chain", "chain", m.Challenge.ChainID)
	case a.hardware == nil:
		a.unproven.Do(func() {
			a.log.Error("agent: a server speaks of a hardware challenge, and rpc is empty: nobody else can say whether there is one, and this node is silent", "node", m.Challenge.Node.Short())
		})
	case m.Challenge.Node == a.id:
		a.challenged(s, m)
	default:
		a.drawn(s, m)
	}
}

// availableMiB is how much memory could be used now without anything else giving way: what the
// system says, and what the limits of the process's control groups leave.
func availableMiB() uint64 {
	least := uint64(1 << 20)
	if kib, ok := meminfo("MemAvailable:"); ok {
		least = kib >> 10
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.SplitSeq(string(own), "\n") {
		path, unified := strings.CutPrefix(line, "0::")
		if !unified {
			continue
		}
		for dir := filepath.Join("/sys/fs/cgroup", path); strings.HasPrefix(dir, "/sys/fs/cgroup"); dir = filepath.Dir(dir) {
			most, limited := groupBytes(filepath.Join(dir, "memory.max"))
			used, known := groupBytes(filepath.Join(dir, "memory.current"))
			if limited && known {
				least = min(least, (most-min(used, most))>>20)
			}
		}
	}
	return least
}

// meminfo reads a line of /proc/meminfo, in KiB.
func meminfo(name string) (kib uint64, ok bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == name {
			kib, err = strconv.ParseUint(fields[1], 10, 64)
			return kib, err == nil
		}
	}
	return 0, false
}

// groupBytes reads a number of a control group; false: there is none, or no limit.
func groupBytes(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
