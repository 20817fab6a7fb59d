package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestDeployPage runs docs/DEPLOY.md: each host of its table is a network
// namespace on one bridge, the one behind a router has a NAT namespace between,
// and the page's blocks run on the hosts that they name, in order. Two programs
// of the page have stand-ins: systemctl, whose services the test itself starts
// by their unit files, and scp, which copies between the hosts' directories.
func TestDeployPage(t *testing.T) {
	endToEnd(t)
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	text, err := os.ReadFile("../../docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := parsePage(string(text))
	if err != nil {
		t.Fatal(err)
	}
	d := newDeployment(t, page)
	for _, b := range page.blocks {
		d.runBlock(t, b)
	}
	d.checkServices(t)
	d.checkJob(t)
	d.checkMove(t)
	d.checkCut(t)
}

// deployPage is what the page says.
type deployPage struct {
	hosts  []deployHost
	blocks []deployBlock
}

// deployHost is a row of the page's table.
type deployHost struct {
	name   string
	addr   netip.Addr
	behind bool // a router
}

// deployBlock is a fenced block that runs on hosts, or a file of theirs.
type deployBlock struct {
	line  int
	hosts []string
	file  string // empty: text is a shell script
	text  string
}

var (
	hostRow   = regexp.MustCompile("^\\| `([a-z0-9-]+)` \\| ([0-9.]+)(, behind a router)? \\|")
	blockHead = regexp.MustCompile(`^# on: ([a-z0-9 -]+?)(, as root)?\n`)
	blockFile = regexp.MustCompile(`^# file: (/\S+)\n`)
)

// parsePage reads the table of hosts and the blocks of sh and ini. Each of these
// must say where it runs, or why it does not.
func parsePage(text string) (*deployPage, error) {
	page := &deployPage{}
	var all []string
	var kind string // of the block that line is in
	var body strings.Builder
	begun := 0
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && kind == "":
			kind, begun = fence, i+1
			body.Reset()
		case isFence:
			if err := page.addBlock(kind, body.String(), begun, all); err != nil {
				return nil, fmt.Errorf("line %d: %w", begun, err)
			}
			kind = ""
		case kind != "":
			body.WriteString(line + "\n")
		default:
			row := hostRow.FindStringSubmatch(line)
			if row == nil {
				continue
			}
			addr, err := netip.ParseAddr(row[2])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			page.hosts = append(page.hosts, deployHost{name: row[1], addr: addr, behind: row[3] != ""})
			all = append(all, row[1])
		}
	}
	if len(page.hosts) == 0 || len(page.blocks) == 0 || kind != "" {
		return nil, fmt.Errorf("%d hosts and %d blocks, inside a block: %v", len(page.hosts), len(page.blocks), kind != "")
	}
	return page, nil
}

func (p *deployPage) addBlock(kind, text string, line int, all []string) error {
	if kind != "sh" && kind != "ini" || strings.HasPrefix(text, "# not run: ") {
		return nil
	}
	head := blockHead.FindStringSubmatch(text)
	if head == nil {
		return errors.New("a block without # on: or # not run:")
	}
	b := deployBlock{line: line, hosts: strings.Fields(head[1]), text: text[len(head[0]):]}
	if head[1] == "every host" {
		b.hosts = all
	}
	for _, h := range b.hosts {
		if !slices.Contains(all, h) {
			return fmt.Errorf("host %q is not in the table", h)
		}
	}
	if kind == "ini" {
		file := blockFile.FindStringSubmatch(b.text)
		if file == nil {
			return errors.New("a file without # file:")
		}
		b.file = file[1]
	}
	p.blocks = append(p.blocks, b)
	return nil
}

// deployment is the page's machines.
type deployment struct {
	page   *deployPage
	root   string // root/HOST/… are the directories that the hosts do not share
	prefix string // of the namespaces

	mu       sync.Mutex // hosts of a block run at the same time
	services []*service
}

// service is a running unit.
type service struct {
	host, unit string
	cmd        *exec.Cmd
	done       chan struct{} // closed when it has ended, with err set
	err        error
	log        string
}

// ownDirs are the directories that each host has for itself, and sharedDir the
// one that all see.
var ownDirs = []string{"/var/lib", "/usr/local/bin"}

const (
	sharedDir = "/srv"
	unitDir   = "/etc/systemd/system" // read by the test alone
)

const deployHome = "/var/lib/hypermesh"

// The stand-ins. A unit that systemctl starts is left for the test to start.
const (
	standInSystemctl = `#!/bin/sh
case "$1 $2" in
  "daemon-reload ") ;;
  "enable --now") shift 2; printf '%s\n' "$@" >> ` + deployHome + `/.started ;;
  *) echo "systemctl $*: not known here" >&2; exit 1 ;;
esac
`
	standInSCP = `#!/bin/sh
host=${1%%.*}
exec cp --preserve=mode "$DEPLOY_ROOT/$host${1#*:}" "$2"
`
	// enterHost makes a host of a fresh mount and UTS namespace.
	enterHost = `set -e
name=$1; shift
hostname "$name"
for dir in $DEPLOY_DIRS; do mount --bind "$DEPLOY_ROOT/$name$dir" "$dir"; done
mount --bind "$DEPLOY_ROOT/shared" ` + sharedDir + `
mount --bind "$DEPLOY_ROOT/hosts" /etc/hosts
cd ` + deployHome + `
exec "$@"
`
)

func newDeployment(t *testing.T, page *deployPage) *deployment {
	t.Helper()
	d := &deployment{page: page, root: t.TempDir(), prefix: fmt.Sprintf("hypermesh-%08x-", rand.Uint32())}
	d.makeDirs(t)
	d.makeNetwork(t)
	t.Cleanup(func() { // before the namespaces go
		if t.Failed() {
			d.dumpLogs(t)
		}
		d.stop(t)
	})
	return d
}

// makeDirs makes what each host finds on its disk: the program, the stand-ins,
// and the consumer's program.
func (d *deployment) makeDirs(t *testing.T) {
	t.Helper()
	program, fractal := programs(t)
	hosts := "127.0.0.1 localhost\n"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(d.root, "shared"), 0o755))
	must(os.Mkdir(filepath.Join(d.root, "shared", "hypermesh"), 0o755))
	for _, h := range d.page.hosts {
		for _, dir := range append(ownDirs, deployHome, unitDir) {
			must(os.MkdirAll(d.path(h.name, dir), 0o755))
		}
		must(os.Link(program, d.path(h.name, "/usr/local/bin/hypermesh")))
		must(os.WriteFile(d.path(h.name, "/usr/local/bin/systemctl"), []byte(standInSystemctl), 0o755))
		must(os.WriteFile(d.path(h.name, "/usr/local/bin/scp"), []byte(standInSCP), 0o755))
		hosts += fmt.Sprintf("%s %s.example.net %s\n", h.addr, h.name, h.name)
	}
	must(os.WriteFile(filepath.Join(d.root, "hosts"), []byte(hosts), 0o644))
	must(os.Link(fractal, d.path("laptop", deployHome+"/fractal.wasm")))
}

// path is where a host's file is on this machine.
func (d *deployment) path(host, path string) string { return filepath.Join(d.root, host, path) }

// makeNetwork makes the namespaces. None of them is connected to anything but
// the others.
func (d *deployment) makeNetwork(t *testing.T) {
	t.Helper()
	hub := d.addNamespace(t, "hub")
	d.in(t, hub, "ip link add br0 type bridge && ip link set br0 up")
	for i, h := range d.page.hosts {
		ns := d.addNamespace(t, h.name)
		if h.behind {
			d.addRouter(t, hub, ns, h.addr)
			continue
		}
		d.connect(t, hub, ns, fmt.Sprintf("p%d", i), h.addr)
	}
}

// addNamespace makes a namespace, which the test's end removes.
func (d *deployment) addNamespace(t *testing.T, name string) string {
	t.Helper()
	ns := d.prefix + name
	command(t, "ip", "netns", "add", ns)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
			t.Errorf("removing %s: %v: %s", ns, err, out)
		}
	})
	d.in(t, ns, "ip link set lo up")
	return ns
}

// in runs a shell command in a namespace.
func (d *deployment) in(t *testing.T, ns, script string) {
	t.Helper()
	command(t, "ip", "netns", "exec", ns, "sh", "-ec", script)
}

// connect puts a namespace on the hub's bridge.
func (d *deployment) connect(t *testing.T, hub, ns, port string, addr netip.Addr) {
	t.Helper()
	command(t, "ip", "link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", port, "netns", hub)
	d.in(t, hub, "ip link set "+port+" master br0 up")
	d.in(t, ns, "ip addr add "+addr.String()+"/24 dev eth0 && ip link set eth0 up")
}

// routerAddr is the address that everybody sees of what is behind the router.
var routerAddr = netip.MustParseAddr("192.0.2.254")

// addRouter puts a namespace behind one that translates its address and lets
// nothing in that was not asked for.
func (d *deployment) addRouter(t *testing.T, hub, ns string, addr netip.Addr) {
	t.Helper()
	router := d.addNamespace(t, "router")
	d.connect(t, hub, router, "router", routerAddr)
	command(t, "ip", "link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", "lan0", "netns", router)
	four := addr.As4()
	four[3] = 1
	inside := netip.AddrFrom4(four)
	d.in(t, router, "ip addr add "+inside.String()+"/24 dev lan0 && ip link set lan0 up")
	d.in(t, router, `echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<EOF
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oif eth0 masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy drop
    ct state established,related accept
    iif lan0 oif eth0 accept
  }
}
EOF`)
	d.in(t, ns, "ip addr add "+addr.String()+"/24 dev eth0 && ip link set eth0 up && ip route add default via "+inside.String())
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// on returns a command that runs on a host.
func (d *deployment) on(ctx context.Context, host string, args ...string) *exec.Cmd {
	enter := []string{"netns", "exec", d.prefix + host, "unshare", "--uts", "sh", "-c", enterHost, "enter", host}
	cmd := exec.CommandContext(ctx, "ip", append(enter, args...)...)
	cmd.Env = []string{
		"HOME=" + deployHome, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"DEPLOY_ROOT=" + d.root, "DEPLOY_DIRS=" + strings.Join(ownDirs, " "),
	}
	cmd.WaitDelay = time.Second
	return cmd
}

// script runs a shell script on a host, as a login does, and returns its output.
func (d *deployment) script(ctx context.Context, host, text string) ([]byte, error) {
	cmd := d.on(ctx, host, "bash", "-lc", "set -euo pipefail\n"+text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("on %s: %w\n%s%s", host, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// blockPatience is how long one block may take on one host.
const blockPatience = 90 * time.Second

// runBlock runs a block on all of its hosts at the same time, and then starts
// the units that it asked for.
func (d *deployment) runBlock(t *testing.T, b deployBlock) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), blockPatience)
	defer cancel()
	errs := make([]error, len(b.hosts))
	var wg sync.WaitGroup
	for i, host := range b.hosts {
		wg.Go(func() {
			if b.file != "" {
				errs[i] = os.WriteFile(d.path(host, b.file), []byte(b.text), 0o644)
				return
			}
			_, err := d.script(ctx, host, b.text)
			errs[i] = errors.Join(err, d.startUnits(host))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("docs/DEPLOY.md:%d: %v", b.line, err)
	}
	t.Logf("docs/DEPLOY.md:%d on %s: %.1f s", b.line, strings.Join(b.hosts, " "), time.Since(began).Seconds())
}

// startUnits starts what a block enabled on a host.
func (d *deployment) startUnits(host string) error {
	path := d.path(host, deployHome+"/.started")
	list, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := errors.Join(err, os.Remove(path)); err != nil {
		return err
	}
	for _, unit := range strings.Fields(string(list)) {
		if err := d.startUnit(host, unit); err != nil {
			return fmt.Errorf("starting %s on %s: %w", unit, host, err)
		}
	}
	return nil
}

// startUnit runs a unit's command in its environment.
func (d *deployment) startUnit(host, unit string) error {
	template, instance, _ := strings.Cut(unit, "@")
	if instance != "" {
		template += "@"
	}
	text, err := os.ReadFile(d.path(host, unitDir+"/"+template+".service"))
	if err != nil {
		return err
	}
	var command, environment []string
	for line := range strings.Lines(strings.ReplaceAll(string(text), "%i", instance)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStart":
			command = strings.Fields(value)
		case "Environment":
			environment = append(environment, value)
		}
	}
	if len(command) == 0 || strings.Contains(strings.Join(command, " "), "%") {
		return fmt.Errorf("ExecStart is %q", command)
	}
	s := &service{host: host, unit: unit, done: make(chan struct{}), log: d.path(host, deployHome+"/"+unit+".log")}
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	s.cmd = d.on(context.Background(), host, command...)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = append(s.cmd.Env, environment...), log, log
	if err := errors.Join(s.cmd.Start(), log.Close()); err != nil {
		return err
	}
	go func() {
		defer close(s.done)
		s.err = s.cmd.Wait()
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services = append(d.services, s)
	return nil
}

// checkServices finds every host but the desk and the laptop with one service,
// which has not ended.
func (d *deployment) checkServices(t *testing.T) {
	t.Helper()
	count := map[string]int{"desk": 1, "laptop": 1}
	for _, s := range d.services {
		count[s.host]++
		select {
		case <-s.done:
			t.Errorf("%s on %s ended by itself: %v", s.unit, s.host, s.err)
		default:
		}
	}
	for _, h := range d.page.hosts {
		if count[h.name] != 1 {
			t.Errorf("%s has %d services", h.name, count[h.name])
		}
	}
}

// checkJob asks the cluster from the laptop for the page's one job: settled, and
// run by both providers, one of which every server sees at its router alone.
func (d *deployment) checkJob(t *testing.T) {
	t.Helper()
	var list struct {
		Jobs []api.Job `json:"jobs"`
	}
	d.ask(t, "https://nexus-2.example.net:7280/v1/jobs", &list)
	if len(list.Jobs) != 1 {
		t.Fatalf("the cluster has %d jobs, want 1", len(list.Jobs))
	}
	report := list.Jobs[0].Report()
	if report.Status.String() != "settled" || len(report.Providers) != 2 || report.Providers[0] == report.Providers[1] || report.Cost.IsZero() {
		t.Errorf("the job is %+v", report)
	}
	png, err := os.ReadFile(d.path("laptop", deployHome+"/result/fractal.png"))
	if err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("the output is %.8q, %v", png, err)
	}
	var status api.NexusStatus
	d.ask(t, "https://nexus-1.example.net:7280/v1/status", &status)
	if status.Nodes != 2 {
		t.Errorf("the cluster sees %d agents, want 2", status.Nodes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), blockPatience)
	defer cancel()
	for _, closed := range []string{"ip route get 192.168.1.20", "curl -s --connect-timeout 1 http://validator-1.example.net:7180/healthz"} {
		if out, err := d.script(ctx, "nexus-1", closed); err == nil {
			t.Errorf("%s from nexus-1: %s", closed, out)
		}
	}
	if out, err := d.script(ctx, "nexus-1", "ip route get 192.0.2.11"); err != nil {
		t.Errorf("a host that is reached: %s, %v", out, err)
	}
	for _, s := range d.services {
		if s.unit != "hypermesh@nexus" {
			continue
		}
		log, err := os.ReadFile(s.log)
		if err != nil || !bytes.Contains(log, []byte("from="+routerAddr.String()+":")) {
			t.Errorf("%s has no agent from behind the router: %v", s.host, err)
		}
	}
	t.Logf("job %s settled in block %d on %v", report.ID, report.Height, report.Providers)
}

// ask gets JSON on the laptop.
func (d *deployment) ask(t *testing.T, url string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), blockPatience)
	defer cancel()
	out, err := d.script(ctx, "laptop", "curl -fsS "+url)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%s: %v in %s", url, err, out)
	}
}

// stop ends every service as systemd does: first politely.
func (d *deployment) stop(t *testing.T) {
	t.Helper()
	for _, s := range slices.Backward(d.services) {
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	patience, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range d.services {
		select {
		case <-s.done:
			if s.err != nil && !t.Failed() {
				t.Errorf("%s on %s: %v", s.unit, s.host, s.err)
			}
			continue
		case <-patience.Done():
		}
		t.Errorf("%s on %s does not stop", s.unit, s.host)
		if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-s.done
	}
}

func (d *deployment) dumpLogs(t *testing.T) {
	t.Helper()
	for _, s := range d.services {
		data, err := os.ReadFile(s.log)
		if err != nil {
			t.Error(err)
			continue
		}
		const tail = 4 << 10
		t.Logf("%s on %s:\n%s", s.unit, s.host, data[max(0, len(data)-tail):])
	}
}

// TestDeployPageParses holds the page's form without running it, and shows that
// a block of unknown place is found.
func TestDeployPageParses(t *testing.T) {
	text, err := os.ReadFile("../../docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := parsePage(string(text))
	if err != nil {
		t.Fatal(err)
	}
	behind := slices.IndexFunc(page.hosts, func(h deployHost) bool { return h.behind })
	if len(page.hosts) < 12 || len(page.blocks) < 30 || behind < 0 {
		t.Errorf("%d hosts, %d blocks, host %d behind a router", len(page.hosts), len(page.blocks), behind)
	}
	const table = "| `a` | 192.0.2.1 | x |\n"
	for _, bad := range []string{
		table, table + "```sh\ntrue\n```\n", table + "```sh\n# on: b\ntrue\n```\n", table + "```sh\n# on: a\ntrue\n",
		table + "```ini\n# on: a\n[Unit]\n```\n", "```sh\n# on: every host\ntrue\n```\n", "| `a` | 192.0.2 | x |\n",
	} {
		if page, err := parsePage(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, page)
		}
	}
}
