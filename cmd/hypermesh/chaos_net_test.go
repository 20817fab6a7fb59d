package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

// chaosNet is a chain of real validator processes, each in a network namespace of
// its own. Their namespaces hang by veth pairs on one bridge whose ports are
// isolated: what validators say to each other goes through the relay, which stands
// in the bridge's namespace. The test asks each validator over its loopback.
type chaosNet struct {
	dir     string
	prefix  string // of the namespaces
	hub     string // the namespace of bridge and relay
	relay   *netem.Relay
	genesis *chain.Genesis
	nodes   []*chaosNode
	holders []wallet.Account // of the buckets: community, foundation, sale
	rest    wallet.Account   // has the other buckets, less the stakes
	guilty  bool             // somebody has signed what excludes each other, and is to
	starter chan startRequest
}

// chaosNode is one of its hosts, with the process that runs there, if any.
type chaosNode struct {
	index    int
	ns       string
	home     string
	owner    wallet.Account
	id       crypto.PublicKey // of the node
	key      crypto.PublicKey // of its votes
	peers    []string         // arguments
	args     []string         // arguments besides
	observes bool             // has no consensus key
	log      string
	disk     string // the directory that is a small disk, if any
	http     *http.Client
	client   *sdk.Client // asks this node alone
	program  string

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended, with err set
	err  error
}

type startRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// chaosShape says which chain to make.
type chaosShape struct {
	validators int
	hosts      int               // with those that are no validators at first; 0: validators
	params     map[string]any    // of genesis.json, in place of a devnet's
	disks      map[int]chaosDisk // by host
	sentries   map[int][]int     // by validator: the hosts that stand before it
}

// sentryFor returns the validators that a host stands before.
func (s chaosShape) sentryFor(host int) (validators []int) {
	for v, hosts := range s.sentries {
		if slices.Contains(hosts, host) {
			validators = append(validators, v)
		}
	}
	return validators
}

// chaosDisk is a small disk for a part of a node's home.
type chaosDisk struct {
	part string
	kind diskKind
}

type diskKind int

const (
	inMemory diskKind = iota // tmpfs
	inFile                   // ext4 on a loop device, which can be made to wait
)

var chaosNets atomic.Int32 // made by this process

// chaosSeed is of the relays. What they do to the i-th datagram of a link follows
// from it; when a process sends its i-th does not.
var chaosSeed = flag.Uint64("chaos-seed", 1, "seed of the chaos tests' bad weather")

const (
	chaosListen = 7100
	chaosHTTP   = 7180
	chaosName   = "chaos-" // PID-N-: begins the names of namespaces and of directories with mounts
)

// newChaosNet makes the hosts and starts the validators.
func newChaosNet(t *testing.T, shape chaosShape) *chaosNet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	sweepChaos(t)
	shape.hosts = max(shape.hosts, shape.validators)
	n := &chaosNet{prefix: fmt.Sprintf("%s%d-%d-", chaosName, os.Getpid(), chaosNets.Add(1)), starter: make(chan startRequest)}
	n.dir = filepath.Join(t.TempDir(), n.prefix+"dir")
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", *chaosSeed)
	go n.starts()
	t.Cleanup(func() { close(n.starter) })
	n.makeNetwork(t, shape)
	n.makeHomes(t, shape)
	t.Cleanup(func() {
		n.stopAll(t)
		if t.Failed() {
			n.dumpLogs(t)
		}
	})
	for _, v := range n.nodes {
		if v.index < shape.validators || len(shape.sentryFor(v.index)) > 0 {
			n.start(t, v)
		}
	}
	for _, v := range n.nodes[:shape.validators] {
		n.awaitHeight(t, v, 1, 30*time.Second)
	}
	return n
}

// sweepChaos removes what tests left that were killed.
func sweepChaos(t *testing.T) {
	t.Helper()
	gone := func(name string) bool {
		rest, ours := strings.CutPrefix(name, chaosName)
		pid, _, _ := strings.Cut(rest, "-")
		id, err := strconv.Atoi(pid)
		return ours && err == nil && errors.Is(syscall.Kill(id, 0), syscall.ESRCH)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		at := strings.Fields(line)[1]
		if !strings.HasPrefix(at, "/run/netns/") && slices.ContainsFunc(strings.Split(at, "/"), gone) {
			if err := freeze(at, false); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
				t.Errorf("a disk of an earlier test, %s: %v", at, err)
			}
			command(t, "umount", "--lazy", at)
		}
	}
	list, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 0 && gone(f[0]) {
			command(t, "ip", "netns", "del", f[0])
		}
	}
}

// makeNetwork makes the namespaces and the relay.
func (n *chaosNet) makeNetwork(t *testing.T, shape chaosShape) {
	t.Helper()
	hubAddr := netip.AddrFrom4([4]byte{10, 77, 0, 254})
	n.hub = n.addNamespace(t, "hub")
	command(t, "ip", "-n", n.hub, "link", "add", "br0", "type", "bridge")
	command(t, "ip", "-n", n.hub, "addr", "add", hubAddr.String()+"/24", "dev", "br0")
	command(t, "ip", "-n", n.hub, "link", "set", "br0", "up")
	var listens []netip.AddrPort
	for i := range shape.hosts {
		ns, port := n.addNamespace(t, fmt.Sprint(i)), fmt.Sprintf("p%d", i)
		addr := netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)})
		command(t, "ip", "link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", port, "netns", n.hub)
		command(t, "ip", "-n", n.hub, "link", "set", port, "master", "br0", "up")
		command(t, "ip", "-n", n.hub, "link", "set", port, "type", "bridge_slave", "isolated", "on")
		command(t, "ip", "-n", ns, "addr", "add", addr.String()+"/24", "dev", "eth0")
		command(t, "ip", "-n", ns, "link", "set", "eth0", "up")
		listens = append(listens, netip.AddrPortFrom(addr, chaosListen))
		n.nodes = append(n.nodes, &chaosNode{index: i, ns: ns, home: filepath.Join(n.dir, fmt.Sprintf("node-%d", i)), log: filepath.Join(n.dir, fmt.Sprintf("node-%d.log", i))})
	}
	err := inNamespace(n.hub, func() (err error) {
		n.relay, err = netem.Open(netem.Config{Seed: *chaosSeed, At: hubAddr, Nodes: listens})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.relay.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (n *chaosNet) addNamespace(t *testing.T, name string) string {
	t.Helper()
	ns := n.prefix + name
	command(t, "ip", "netns", "add", ns)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
			t.Errorf("removing %s: %v: %s", ns, err, out)
		}
	})
	command(t, "ip", "-n", ns, "link", "set", "lo", "up")
	return ns
}

// inNamespace calls do on a thread of a namespace; sockets that it makes belong
// there for ever.
func inNamespace(ns string, do func() error) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		failed <- func() error {
			f, err := os.Open("/run/netns/" + ns)
			if err != nil {
				return err
			}
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("entering %s: %w", ns, err)
			}
			return do()
		}()
	}()
	return <-failed
}

// makeHomes makes genesis and homes with the program's own commands.
func (n *chaosNet) makeHomes(t *testing.T, shape chaosShape) {
	t.Helper()
	program, _ := programs(t)
	must := func(args ...string) {
		t.Helper()
		command(t, program, args...)
	}
	for _, name := range []string{"community", "foundation", "sale"} {
		n.holders = append(n.holders, wallet.NewAccount(name, crypto.GenerateKey()))
	}
	n.rest = wallet.NewAccount("rest", crypto.GenerateKey())
	rest := n.rest.Address().String()
	path := filepath.Join(n.dir, node.GenesisFile)
	must("genesis", "init", "--genesis", path, "--chain-id", "chaos-1", "--devnet", "--team", rest, "--validators", rest,
		"--community", n.holders[0].Address().String(), "--foundation", n.holders[1].Address().String(), "--sale", n.holders[2].Address().String())
	setParams(t, path, shape.params)
	for _, v := range n.nodes {
		v.program = program
		if disk, ok := shape.disks[v.index]; ok {
			n.mountDisk(t, v, disk)
		}
		v.observes = len(shape.sentryFor(v.index)) > 0
		made := v.init(t)
		v.id, v.owner = made.NodeID, wallet.NewAccount("owner", crypto.GenerateKey())
		if made.ConsensusKey != nil {
			v.key = *made.ConsensusKey
		}
		if v.index < shape.validators {
			endpoint := v.endpoint()
			if len(shape.sentries[v.index]) > 0 {
				endpoint = ""
			}
			must("genesis", "add-validator", "--genesis", path, "--name", fmt.Sprintf("validator-%d", v.index), "--node-key", v.id.String(),
				"--consensus-key", v.key.String(), "--owner", v.owner.Address().String(), "--stake", "1000000", "--endpoint", endpoint)
		}
	}
	var err error
	if n.genesis, err = node.ReadGenesisFile(path); err != nil {
		t.Fatal(err)
	}
	for _, v := range n.nodes {
		if err := os.Symlink(path, filepath.Join(v.home, node.GenesisFile)); err != nil {
			t.Fatal(err)
		}
		v.peers = n.peersOf(v, shape)
		n.connect(t, v)
	}
}

// peersOf returns the arguments that name a node's peers. Nobody but its sentries
// knows where a validator behind sentries is.
func (n *chaosNet) peersOf(v *chaosNode, shape chaosShape) (args []string) {
	at := func(peer int) string { return fmt.Sprintf("%s@%s", n.nodes[peer].id, n.relay.Addr(v.index, peer)) }
	if sentries := shape.sentries[v.index]; len(sentries) > 0 {
		for _, i := range sentries {
			args = append(args, "--sentry", at(i))
		}
		return args
	}
	for _, i := range shape.sentryFor(v.index) {
		args = append(args, "--sentry-for", n.nodes[i].id.String())
	}
	for _, peer := range n.nodes {
		if peer != v && len(shape.sentries[peer.index]) == 0 {
			args = append(args, "--peers", at(peer.index))
		}
	}
	return args
}

// init has a node's program make its home, but for the keys that are there.
func (v *chaosNode) init(t *testing.T) (made initResult) {
	t.Helper()
	args := []string{"node", "init", "--home", v.home, fmt.Sprintf("--validator=%t", !v.observes), "--listen", fmt.Sprintf("0.0.0.0:%d", chaosListen), "--http", fmt.Sprintf("127.0.0.1:%d", chaosHTTP), "--json"}
	out, err := exec.Command(v.program, args...).Output()
	if err == nil {
		err = json.Unmarshal(out, &made)
	}
	if err != nil {
		t.Fatalf("%s %v: %v", v.program, args, err)
	}
	return made
}

// setParams changes parameters of a genesis file.
func setParams(t *testing.T, path string, params map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var g map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&g); err != nil {
		t.Fatal(err)
	}
	all := g["params"].(map[string]any)
	for name, value := range params {
		if _, ok := all[name]; !ok {
			t.Fatalf("genesis has no parameter %q", name)
		}
		all[name] = value
	}
	if data, err = json.Marshal(g); err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What each kind of disk holds, in MiB: enough for a node's data with what the
// database reserves ahead.
var chaosDiskMiB = [...]int{inMemory: 256, inFile: 1024}

// mountDisk gives a part of a node's home a small disk. A machine without loop
// devices has none in a file.
func (n *chaosNet) mountDisk(t *testing.T, v *chaosNode, disk chaosDisk) {
	t.Helper()
	at := filepath.Join(v.home, disk.part)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	switch disk.kind {
	case inMemory:
		command(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", chaosDiskMiB[inMemory]), n.prefix+"disk", at)
	case inFile:
		image := filepath.Join(n.dir, fmt.Sprintf("disk-%d", v.index))
		command(t, "truncate", "--size", fmt.Sprintf("%dM", chaosDiskMiB[inFile]), image)
		command(t, "mkfs.ext4", "-q", image)
		if out, err := exec.Command("mount", "-o", "loop", image, at).CombinedOutput(); err != nil {
			t.Logf("no loop device: %v: %s", err, out)
			return
		}
	}
	v.disk = at
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("unmounting %s: %v: %s", at, err, out)
		}
	})
}

// freeze has whoever writes to the disk of a directory wait until it thaws.
func freeze(dir string, on bool) error {
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878 // linux/fs.h
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	what := uint(fiThaw)
	if on {
		what = fiFreeze
	}
	return errors.Join(unix.IoctlSetInt(int(f.Fd()), what, 0), f.Close())
}

// connect makes the clients that ask a node over its loopback.
func (n *chaosNet) connect(t *testing.T, v *chaosNode) {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		err = inNamespace(v.ns, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", chaosHTTP))
			return err
		})
		return conn, err
	}
	v.http = &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 8}}
	t.Cleanup(v.http.CloseIdleConnections)
	var err error
	v.client, err = sdk.New(sdk.Config{
		Nodes: []string{v.url()}, Genesis: n.genesis, HTTP: v.http, Attempts: 2, Timeout: 5 * time.Second, StreamQuiet: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// endpoint is where a node says that it is reached. Only the relay gets there.
func (v *chaosNode) endpoint() string { return fmt.Sprintf("10.77.0.%d:%d", 1+v.index, chaosListen) }

func (v *chaosNode) url() string { return fmt.Sprintf("http://node-%d", v.index) }

// starts starts processes on one thread that lives as long as the test: a child
// gets its parent-death signal when the thread ends that made it.
func (n *chaosNet) starts() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range n.starter {
		r.done <- r.cmd.Start()
	}
}

// start starts a node's process.
func (n *chaosNet) start(t *testing.T, v *chaosNode) {
	t.Helper()
	log, err := os.OpenFile(v.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"netns", "exec", v.ns, v.program, "node", "run", "--home", v.home}, slices.Concat(v.peers, v.args)...)
	v.cmd = exec.Command("ip", args...)
	v.cmd.Stdout, v.cmd.Stderr = log, log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	v.done = make(chan struct{})
	request := startRequest{cmd: v.cmd, done: make(chan error)}
	n.starter <- request
	if err := errors.Join(<-request.done, log.Close()); err != nil {
		t.Fatal(err)
	}
	cmd, done := v.cmd, v.done
	go func() {
		defer close(done)
		v.err = cmd.Wait()
	}()
}

// signal sends a signal to a node's process, which must be running.
func (v *chaosNode) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := v.cmd.Process.Signal(s); err != nil {
		t.Fatalf("node %d: %v: %v", v.index, s, err)
	}
}

// awaitEnd waits until a node's process has ended.
func (v *chaosNode) awaitEnd(t *testing.T, patience time.Duration) {
	t.Helper()
	select {
	case <-v.done:
	case <-time.After(patience):
		t.Fatalf("node %d has not ended within %v", v.index, patience)
	}
}

// kill ends a node's process at once.
func (v *chaosNode) kill(t *testing.T) {
	t.Helper()
	v.signal(t, syscall.SIGKILL)
	v.awaitEnd(t, 10*time.Second)
}

func (v *chaosNode) running() bool {
	if v.done == nil {
		return false
	}
	select {
	case <-v.done:
		return false
	default:
		return true
	}
}

// stop ends a node's process as systemd does.
func (v *chaosNode) stop(t *testing.T) {
	t.Helper()
	v.signal(t, syscall.SIGTERM)
	v.awaitEnd(t, 20*time.Second)
	if v.err != nil {
		t.Errorf("node %d: %v", v.index, v.err)
	}
}

// stopAll ends what runs at the test's end.
func (n *chaosNet) stopAll(t *testing.T) {
	t.Helper()
	for _, v := range n.nodes {
		if v.running() {
			err := errors.Join(v.cmd.Process.Signal(syscall.SIGCONT), v.cmd.Process.Signal(syscall.SIGTERM))
			if err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
		}
	}
	patience := time.After(20 * time.Second)
	for _, v := range n.nodes {
		if v.done == nil {
			continue
		}
		select {
		case <-v.done:
			continue
		case <-patience:
		}
		t.Errorf("node %d does not stop", v.index)
		if err := v.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-v.done
	}
}

func (n *chaosNet) dumpLogs(t *testing.T) {
	t.Helper()
	for _, v := range n.nodes {
		data, err := os.ReadFile(v.log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		const tail = 6 << 10
		t.Logf("node %d:\n%s", v.index, data[max(0, len(data)-tail):])
	}
}

// logSince returns what a node's processes have written after a position.
func (v *chaosNode) logSince(t *testing.T, position int) string {
	t.Helper()
	data, err := os.ReadFile(v.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[min(position, len(data)):])
}

// get returns what a node answers to a plain GET.
func (v *chaosNode) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := v.http.Do(request)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.200s", path, response.Status, body.Bytes())
	}
	return body.Bytes(), nil
}

// height returns a node's finalized height, 0 if it does not answer within a
// second.
func (v *chaosNode) height(ctx context.Context) chain.Height {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	data, err := v.get(ctx, "/v1/status")
	if err != nil {
		return 0
	}
	var status struct {
		Height chain.Height `json:"height"`
	}
	if err := json.Unmarshal(data, &status); err != nil {
		return 0
	}
	return status.Height
}

// awaitHeight waits until a node has finalized a height, and returns how long it
// took.
func (n *chaosNet) awaitHeight(t *testing.T, v *chaosNode, height chain.Height, patience time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	last := chain.Height(0)
	for {
		last = max(last, v.height(ctx))
		if last >= height {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-v.done:
			t.Errorf("node %d ended at height %d, before %d: %v", v.index, last, height, v.err)
			return time.Since(began)
		case <-ctx.Done():
			t.Errorf("node %d is at height %d after %v, want %d", v.index, last, patience, height)
			return time.Since(began)
		}
	}
}
