package executor

import (
	"fmt"
	"time"
)

// The part of the OCI runtime specification (1.0.2, config.md, config-linux.md)
// that bundles are written in.
type ociSpec struct {
	Version  string     `json:"ociVersion"`
	Process  ociProcess `json:"process"`
	Root     ociRoot    `json:"root"`
	Hostname string     `json:"hostname"`
	Mounts   []ociMount `json:"mounts"`
	Linux    ociLinux   `json:"linux"`
}

type ociProcess struct {
	User struct {
		UID int `json:"uid"`
		GID int `json:"gid"`
	} `json:"user"`
	Args            []string            `json:"args"`
	Env             []string            `json:"env"`
	Cwd             string              `json:"cwd"`
	Capabilities    map[string][]string `json:"capabilities"`
	Rlimits         []ociRlimit         `json:"rlimits"`
	NoNewPrivileges bool                `json:"noNewPrivileges"`
	OOMScoreAdj     int                 `json:"oomScoreAdj"`
	Terminal        bool                `json:"terminal,omitempty"`
	ConsoleSize     *ociConsoleSize     `json:"consoleSize,omitempty"`
}

type ociConsoleSize struct {
	Height uint16 `json:"height"`
	Width  uint16 `json:"width"`
}

type ociRlimit struct {
	Type string `json:"type"`
	Hard uint64 `json:"hard"`
	Soft uint64 `json:"soft"`
}

type ociRoot struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"readonly"`
}

type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

type ociLinux struct {
	UIDMappings   []ociMapping   `json:"uidMappings"`
	GIDMappings   []ociMapping   `json:"gidMappings"`
	Namespaces    []ociNamespace `json:"namespaces"`
	CgroupsPath   string         `json:"cgroupsPath"`
	Resources     ociResources   `json:"resources"`
	Seccomp       *ociSeccomp    `json:"seccomp"`
	MaskedPaths   []string       `json:"maskedPaths"`
	ReadonlyPaths []string       `json:"readonlyPaths"`
	Propagation   string         `json:"rootfsPropagation"`
}

type ociMapping struct {
	Container int `json:"containerID"`
	Host      int `json:"hostID"`
	Size      int `json:"size"`
}

type ociNamespace struct {
	Type string `json:"type"`
}

type ociResources struct {
	Devices []ociDevice `json:"devices"`
	Memory  ociMemory   `json:"memory"`
	CPU     ociCPU      `json:"cpu"`
	Pids    ociPids     `json:"pids"`
}

type ociDevice struct {
	Allow  bool   `json:"allow"`
	Access string `json:"access"`
}

type ociMemory struct {
	Limit int64  `json:"limit"`
	Swap  *int64 `json:"swap,omitempty"` // memory and swap together
}

type ociCPU struct {
	Quota  int64  `json:"quota"`  // µs of processor time in each period
	Period uint64 `json:"period"` // µs
}

type ociPids struct {
	Limit int64 `json:"limit"`
}

type ociSeccomp struct {
	DefaultAction string       `json:"defaultAction"`
	DefaultErrno  uint         `json:"defaultErrnoRet"`
	Architectures []string     `json:"architectures,omitempty"` // empty: the machine's
	Syscalls      []ociSyscall `json:"syscalls"`
}

type ociSyscall struct {
	Names  []string `json:"names"`
	Action string   `json:"action"`
	Errno  uint     `json:"errnoRet,omitempty"`
	Args   []ociArg `json:"args,omitempty"`
}

type ociArg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

// idRange is how many users and groups a container has.
const idRange = 1 << 16

const (
	cpuPeriodMicros = 100_000
	minQuotaMicros  = 1_000 // the kernel's least
	maxOpenFiles    = 4_096
	shmBytes        = 16 << 20
	devBytes        = 64 << 10
	maxTerminals    = 16 // of one container, its own programs' included
)

var namespaces = []ociNamespace{{"pid"}, {"network"}, {"ipc"}, {"uts"}, {"mount"}, {"cgroup"}, {"user"}}

// What of /proc tells of the machine or reaches it is not there, or not
// writable. There is no /sys.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/config.gz", "/proc/driver", "/proc/interrupts", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg",
		"/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// process returns how a program of the container is run: the container's own,
// or one that is run in it later.
func (b *box) process(args []string) ociProcess {
	none := []string{}
	p := ociProcess{
		Args: args, Env: b.env, Cwd: b.cwd, NoNewPrivileges: true, OOMScoreAdj: 500,
		Capabilities: map[string][]string{"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
		Rlimits: []ociRlimit{
			{"RLIMIT_CORE", 0, 0},
			{"RLIMIT_NOFILE", maxOpenFiles, maxOpenFiles},
			// Should nobody be left to look at the clock, as after a crash of the
			// agent, a process that computes is ended by the kernel all the same.
			{"RLIMIT_CPU", b.cpuSeconds(), b.cpuSeconds()},
		},
	}
	p.User.UID, p.User.GID = b.uid, b.gid
	return p
}

// cpuSeconds bounds the processor time of one process of the container.
func (b *box) cpuSeconds() uint64 {
	wall := uint64((b.task.Limits.WallTime + time.Second - 1) / time.Second)
	cores := (b.task.Millicores + 999) / 1_000
	return wall*cores + 60
}

// spec is the bundle's config.json for one run.
func (b *box) spec(groupPath string) *ociSpec {
	l := &b.task.Limits
	memory := int64(l.MemoryBytes)
	var swap *int64
	if b.owner.limitsSwap {
		swap = &memory
	}
	maps := []ociMapping{{0, b.owner.config.FirstID, idRange}}
	s := &ociSpec{
		Version: "1.0.2", Process: b.process(b.args), Root: ociRoot{b.path("rootfs"), true}, Hostname: "job", Mounts: b.mounts(),
		Linux: ociLinux{
			UIDMappings: maps, GIDMappings: maps, Namespaces: namespaces, CgroupsPath: groupPath, Seccomp: seccompProfile(),
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths, Propagation: "private",
			Resources: ociResources{
				Devices: []ociDevice{{Allow: false, Access: "rwm"}},
				Memory:  ociMemory{Limit: memory, Swap: swap},
				CPU:     ociCPU{Quota: max(int64(b.task.Millicores)*cpuPeriodMicros/1_000, minQuotaMicros), Period: cpuPeriodMicros},
				Pids:    ociPids{int64(b.task.Processes)},
			},
		},
	}
	return s
}

func (b *box) mounts() []ociMount {
	scratch := func(to string, bytes, files uint64, mode string, more ...string) ociMount {
		return ociMount{to, "tmpfs", "tmpfs", append([]string{"nosuid", "nodev", "mode=" + mode, fmt.Sprintf("size=%d", bytes), fmt.Sprintf("nr_inodes=%d", files)}, more...)}
	}
	dev := scratch("/dev", devBytes, 64, "0755", "strictatime", "noexec")
	dev.Options = append(dev.Options[:1:1], dev.Options[2:]...) // devices are what it is for
	return []ociMount{
		{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
		dev,
		{"/dev/pts", "devpts", "devpts", []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", fmt.Sprintf("max=%d", maxTerminals)}},
		scratch("/dev/shm", shmBytes, 1_024, "1777", "noexec"),
		scratch("/tmp", b.outBytes(), b.outFiles(), "1777"),
		{"/in", "bind", b.path("in"), []string{"rbind", "ro", "nosuid", "nodev"}},
		{"/out", "bind", b.path("out"), []string{"rbind", "rw", "nosuid", "nodev"}},
	}
}
