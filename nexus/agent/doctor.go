package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Fine    Severity = "ok"
	Warning Severity = "warning" // it works, and could work better
	Broken  Severity = "broken"  // no work, or no pay, until it is mended
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Found    string   `json:"found"`
	Mend     string   `json:"mend,omitempty"` // what to do about it
}

const (
	checkTimeout  = 6 * time.Second
	skewWarning   = time.Second
	skewBroken    = 10 * time.Second
	wantUDPBuffer = 7_500_000
	wantFiles     = 4_096
)

// doctor collects findings.
type doctor struct {
	config   *Config
	key      crypto.PrivateKey // zero: cannot be read
	genesis  *chain.Genesis    // nil: cannot be read
	findings []Finding
}

func (d *doctor) ok(check, format string, args ...any) {
	d.findings = append(d.findings, Finding{Check: check, Severity: Fine, Found: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(check string, severity Severity, found, mend string) {
	d.findings = append(d.findings, Finding{Check: check, Severity: severity, Found: line(found), Mend: mend})
}

// Diagnose looks at everything that an agent needs, whether it runs or not, and
// says what is wrong and how to mend it. It changes nothing.
func Diagnose(ctx context.Context, config Config) []Finding {
	d := &doctor{config: &config}
	if err := config.Check(); err != nil {
		d.bad("config", Broken, err.Error(), "correct it in "+filepath.Join(config.Home, "config.toml"))
	} else {
		d.ok("config", "%d servers, owner %s", len(config.Servers), config.Owner)
	}
	d.checkHome()
	d.checkMachine()
	d.checkDisk()
	d.checkSystem()
	d.checkPrograms()
	if d.genesis != nil && !d.key.IsZero() {
		d.checkServers(ctx)
	}
	d.checkChain(ctx)
	d.checkRunning(ctx)
	return d.findings
}

// checkHome looks at the files that the agent cannot do without, and at who else
// can read them.
func (d *doctor) checkHome() {
	path := filepath.Join(d.config.Home, NodeKeyFile)
	key, err := readKey(path)
	switch info, statErr := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		d.bad("node key", Broken, path+" is missing", "hypermesh agent init makes it; if the node was registered, put its backup back instead")
	case err != nil:
		d.bad("node key", Broken, err.Error(), "put a backup of the key back: 64 hexadecimal digits")
	case statErr == nil && info.Mode().Perm()&0o077 != 0:
		d.key = key
		d.bad("node key", Broken, fmt.Sprintf("%s can be read by others (mode %04o)", path, info.Mode().Perm()), "chmod 600 "+path)
	default:
		d.key = key
		d.ok("node key", "%s, for its owner alone", key.Public())
	}
	path = d.config.GenesisPath()
	genesis, err := readGenesis(path)
	if err != nil {
		d.bad("genesis", Broken, err.Error(), "copy the network's genesis file there: it says which chain to trust")
	} else {
		d.genesis = genesis
		d.ok("genesis", "chain %s, digest %s", genesis.ChainID, genesis.Digest())
	}
	if _, err := readMode(d.config.Home); err != nil {
		d.bad("mode", Warning, err.Error(), "hypermesh agent resume, or pause, writes it anew")
	}
}

// checkMachine compares what is sold with what there is.
func (d *doctor) checkMachine() {
	cores := uint64(runtime.NumCPU())
	if d.config.Millicores > cores*1_000 {
		d.bad("cpu", Warning, fmt.Sprintf("millicores is %d, this machine has %d cores", d.config.Millicores, cores), "sell no more than there is, or work will be slow and end at its time limit")
	} else {
		d.ok("cpu", "%d of %d millicores are sold", d.config.Millicores, cores*1_000)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		d.bad("memory", Warning, err.Error(), "look at /proc/meminfo")
		return
	}
	total := info.Totalram * uint64(info.Unit) >> 20
	if d.config.MemoryMiB > total {
		d.bad("memory", Broken, fmt.Sprintf("memory_mib is %d, this machine has %d", d.config.MemoryMiB, total), "lower memory_mib: the system would end the agent, or something else")
	} else {
		d.ok("memory", "%d of %d MiB are sold", d.config.MemoryMiB, total)
	}
}

// checkDisk asks for room for what disk_mib promises, and for a directory that
// can be written.
func (d *doctor) checkDisk() {
	dir := d.config.path(d.config.WorkDir, "work")
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir) // it is made at the first start
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		d.bad("disk", Broken, fmt.Sprintf("%s cannot be written: %v", dir, err), "give it to the agent's user: chown, or another work_dir")
		return
	}
	var fsInfo unix.Statfs_t
	if err := unix.Statfs(dir, &fsInfo); err != nil {
		d.bad("disk", Warning, err.Error(), "look at the disk of "+dir)
		return
	}
	free := fsInfo.Bavail * uint64(fsInfo.Bsize) >> 20
	have := free + usedMiB(dir)
	if have < d.config.DiskMiB {
		d.bad("disk", Broken, fmt.Sprintf("disk_mib is %d, %s has room for %d", d.config.DiskMiB, dir, have), "make room, lower disk_mib, or name another disk in work_dir")
	} else {
		d.ok("disk", "%d MiB are free at %s, disk_mib is %d", free, dir, d.config.DiskMiB)
	}
}

// usedMiB is what the agent's own files take already.
func usedMiB(dir string) uint64 {
	var bytes int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // it went away meanwhile, or has no size
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return uint64(bytes) >> 20
}

// checkSystem looks at the limits of the system.
func (d *doctor) checkSystem() {
	for _, name := range []string{"rmem_max", "wmem_max"} {
		text, err := os.ReadFile("/proc/sys/net/core/" + name)
		size, parsed := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		mend := fmt.Sprintf("as root: sysctl -w net.core.%s=%d, and the same line in /etc/sysctl.d to keep it", name, wantUDPBuffer)
		switch {
		case err != nil || parsed != nil:
			d.bad("udp buffers", Warning, errors.Join(err, parsed).Error(), mend)
		case size < wantUDPBuffer:
			d.bad("udp buffers", Warning, fmt.Sprintf("net.core.%s is %d bytes: bursts of inputs and outputs lose packets", name, size), mend)
		default:
			d.ok("udp buffers", "net.core.%s is %d bytes", name, size)
		}
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		d.bad("open files", Warning, err.Error(), "look at ulimit -n")
	} else if files.Max < wantFiles {
		d.bad("open files", Warning, fmt.Sprintf("a process may open %d files", files.Max), fmt.Sprintf("raise the limit to %d: LimitNOFILE= in the unit, or /etc/security/limits.conf", wantFiles))
	} else {
		d.ok("open files", "a process may open %d", files.Max)
	}
	d.checkContainers()
}

// checkContainers looks for what container jobs need. Without it, the agent runs
// WebAssembly and kernels alone.
func (d *doctor) checkContainers() {
	const mend = "to take container jobs: apt-get install runc, and run the agent as root where it may make control groups (docs/EXECUTORS.md); WebAssembly jobs need none of this"
	err := executor.CheckContainers(d.config.ContainerRuntime)
	switch {
	case err == nil && d.config.Containers:
		d.ok("containers", "%s runs them", d.config.ContainerRuntime)
	case err == nil:
		d.ok("containers", "%s could run them; containers = true offers them", d.config.ContainerRuntime)
	case d.config.Containers:
		d.bad("containers", Broken, err.Error(), mend)
	default:
		d.ok("containers", "none are offered: containers is false")
	}
}

// checkPrograms looks for the price program and the kernels' proving keys.
func (d *doctor) checkPrograms() {
	if len(d.config.PriceProgram) > 0 {
		path, err := exec.LookPath(d.config.PriceProgram[0])
		if err != nil {
			d.bad("price program", Broken, err.Error(), "every offer is declined until price_program names a program that runs, or nothing")
		} else {
			d.ok("price program", "%s", path)
		}
	}
	for _, name := range d.config.Kernels {
		dir := d.config.path(d.config.KeyDir, "proving-keys")
		found, err := filepath.Glob(filepath.Join(dir, name+"-*"))
		if err != nil || len(found) == 0 {
			d.bad("kernel "+name, Broken, "no proving key in "+dir, "put the network's proving keys there, or take the kernel out of kernels")
		} else {
			d.ok("kernel "+name, "%s", found[0])
		}
	}
}

// checkServers dials each server as the agent does.
func (d *doctor) checkServers(ctx context.Context) {
	endpoint, err := transport.Open(transport.Config{Key: d.key, Network: d.genesis.Digest(), Log: d.config.logger()})
	if err != nil {
		d.bad("servers", Broken, err.Error(), "the system gives no UDP socket: look at its firewall and limits")
		return
	}
	for _, text := range d.config.Servers {
		if addr, err := transport.ParseNodeAddr(text); err == nil { // else the config's check says so
			d.checkServer(ctx, endpoint, addr)
		}
	}
	if err := endpoint.Close(); err != nil {
		d.bad("servers", Warning, err.Error(), "closing the socket failed; try again")
	}
}

func (d *doctor) checkServer(ctx context.Context, endpoint *transport.Endpoint, addr transport.NodeAddr) {
	name := "server " + addr.ID.Short()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	conn, err := endpoint.Dial(ctx, addr, job.Protocol)
	if err == nil {
		conn.Close(transport.CloseDone, "the doctor has seen enough")
		d.ok(name, "%s answers over QUIC in %d ms", addr.Addr, time.Since(began).Milliseconds())
		return
	}
	mend := "nothing came back: is the server up, and does a firewall let UDP out to " + addr.Addr + "? (TCP alone is not enough)"
	if _, wrong := errors.AsType[*transport.IdentityError](err); wrong {
		mend = "somebody else answers there: compare NODEID@HOST:PORT in servers with what the cluster publishes"
	} else if _, lookup := errors.AsType[*net.DNSError](err); lookup {
		mend = "the name cannot be looked up: compare it with what the cluster publishes, and check DNS"
	} else if errors.Is(err, transport.ErrProtocol) {
		mend = "the server is of another chain: compare the digest of your genesis with the cluster's"
	} else if _, closed := errors.AsType[*transport.CloseError](err); closed {
		mend = "the server turns this node away: read its reason"
	}
	d.bad(name, Broken, err.Error(), mend)
}

// checkChain asks nodes for the time, and for what the chain knows of this node.
func (d *doctor) checkChain(ctx context.Context) {
	if len(d.config.RPC) == 0 {
		severity, why := Warning, "clock, registration and payments are not looked at"
		if d.genesis != nil && d.genesis.Params.HardwareEveryMs > 0 {
			severity, why = Broken, why+", and when the chain challenges this node's hardware it is silent, which costs a part of its bond"
		}
		d.bad("chain", severity, "rpc is empty in config.toml: "+why, `rpc = ["https://node.example:7180"]`)
		return
	}
	for _, url := range d.config.RPC {
		d.checkClock(ctx, url)
	}
	if d.genesis == nil || d.key.IsZero() {
		return
	}
	m, err := newMarket(d.config, d.genesis)
	if err != nil {
		d.bad("registration", Broken, err.Error(), "correct rpc in config.toml")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*checkTimeout)
	defer cancel()
	value, err := m.client.VerifiedState(ctx, settlement.ProviderKey(d.key.Public()))
	if err != nil {
		d.bad("registration", Broken, "the chain cannot be asked with proof: "+err.Error(), "name a node that is up, and of the chain of your genesis, in rpc")
		return
	}
	raw, there := value.Get()
	d.checkRegistration(raw, there)
	h, open, err := m.hardware(ctx, d.key.Public())
	switch {
	case err != nil:
		d.bad("hardware", Warning, "the chain cannot be asked whether this node is challenged: "+err.Error(), "name another node of the chain in rpc")
	case open && h.Open() && len(h.Words) > 0:
		d.bad("hardware", Broken, fmt.Sprintf("the node is challenged since %s, and %d of %d nodes that measure it miss something", timeOf(h.Since).Format(time.DateTime), len(h.Words), len(h.Peers)),
			"hypermesh agent hardware says what this machine shows; once the challenge is judged, hypermesh agent declare")
	case open && h.Open():
		d.ok("hardware", "the node is challenged since %s to show %d cores and %d MiB", timeOf(h.Since).Format(time.DateTime), h.Lanes, h.MemoryMiB)
	default:
		d.ok("hardware", "the chain asks for nothing now")
	}
}

// checkRegistration looks at the chain's record of this node.
func (d *doctor) checkRegistration(raw []byte, there bool) {
	const register = "hypermesh agent register, on the machine that has the owner's wallet (docs/PROVIDER.md, Pairing)"
	record, err := settlement.DecodeProvider(raw)
	least := d.genesis.Params.ProviderBond
	switch {
	case !there:
		d.bad("registration", Broken, "the chain does not know this node: nobody can pay it", register)
	case err != nil:
		d.bad("registration", Broken, err.Error(), "this program is older than the chain: get a newer one")
	case record.UnbondedMs != 0:
		d.bad("registration", Broken, "the node's bond was taken back: nobody can pay it", register)
	case record.Owner.String() != d.config.Owner:
		d.bad("registration", Broken, fmt.Sprintf("the chain pays %s for this node, owner is %s", record.Owner, d.config.Owner), "correct owner in config.toml, or unbond the node and register it anew")
	case record.Bond.Less(least):
		d.bad("registration", Warning, fmt.Sprintf("the bond is %s, of at least %s: a part was slashed", record.Bond, least), "find out which results were wrong; unbond and register anew to fill it up")
	case d.genesis.Params.HardwareEveryMs > 0 && (d.config.Millicores < record.Millicores || d.config.MemoryMiB < record.MemoryMiB):
		d.bad("registration", Warning, fmt.Sprintf("the chain has %d millicores and %d MiB of this node, %d and %d are sold here: when the chain challenges its hardware the rest will be missing, and cost a part of the bond",
			record.Millicores, record.MemoryMiB, d.config.Millicores, d.config.MemoryMiB), "raise millicores and memory_mib to what the machine has, or declare less: hypermesh agent declare")
	case record.Millicores != d.config.Millicores || record.MemoryMiB != d.config.MemoryMiB || record.Region != d.config.Region:
		d.ok("registration", "owned by %s, bond %s; it was registered with %d millicores and %d MiB in %q, and offers something else now, which it may", record.Owner, record.Bond, record.Millicores, record.MemoryMiB, record.Region)
	default:
		d.ok("registration", "owned by %s, bond %s", record.Owner, record.Bond)
	}
}

// checkClock compares this machine's clock with what a node's answer is dated
// with, which is whole seconds.
func (d *doctor) checkClock(ctx context.Context, url string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	const unreachable = "is the URL right, and the node up?"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/v1/status", nil)
	if err != nil {
		d.bad("node "+url, Broken, err.Error(), unreachable)
		return
	}
	sent := time.Now()
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		d.bad("node "+url, Broken, err.Error(), unreachable)
		return
	}
	came := time.Now()
	if err := answer.Body.Close(); err != nil {
		d.bad("node "+url, Warning, err.Error(), unreachable)
	}
	dated, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil || answer.StatusCode != http.StatusOK {
		d.bad("node "+url, Broken, fmt.Sprintf("it answers %s", answer.Status), "this is no node of the chain: "+unreachable)
		return
	}
	d.ok("node "+url, "answers in %d ms", came.Sub(sent).Milliseconds())
	// The node's clock read from dated to a second later, at a time from sent to came.
	skew := max(dated.Sub(came), sent.Sub(dated.Add(time.Second)), 0)
	const mend = "timedatectl set-ntp true: bids, receipts and deadlines are dated with this machine's clock"
	switch {
	case skew > skewBroken:
		d.bad("clock", Broken, fmt.Sprintf("it differs from that of %s by %v or more", url, skew.Round(time.Second)), mend)
	case skew > skewWarning:
		d.bad("clock", Warning, fmt.Sprintf("it differs from that of %s by %v or more", url, skew.Round(time.Second)), mend)
	default:
		d.ok("clock", "as that of %s, to a second", url)
	}
}

// checkRunning asks the agent itself, if it runs.
func (d *doctor) checkRunning(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	remote, err := Reach(ctx, d.config.Home)
	if errors.Is(err, ErrNotRunning) {
		d.bad("agent", Warning, "no agent runs in this home", "hypermesh agent up --home "+d.config.Home)
		return
	}
	if err != nil {
		d.bad("agent", Warning, err.Error(), "look at its log; restart it")
		return
	}
	s, err := remote.Status(ctx)
	switch {
	case err != nil:
		d.bad("agent", Warning, err.Error(), "look at its log; restart it")
	case s.NotReadyAs != "":
		d.bad("agent", Broken, "it runs and is not ready: "+s.NotReadyAs, "mend what else is broken here; its log says more")
	case s.Mode.Name != ModeOpen:
		d.bad("agent", Warning, "it runs and takes no work: "+s.Closed, "hypermesh agent resume")
	case s.Closed != "":
		d.ok("agent", "it runs, %s", s.Closed)
	default:
		d.ok("agent", "it runs and takes work; %d jobs run, %d results wait for the servers", len(s.Running), len(s.Unacked))
	}
}
