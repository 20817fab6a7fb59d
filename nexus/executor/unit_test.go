package executor_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confineEnv tells this program, started again, what the service's unit would
// let it do: numbers of system calls; capabilities that are taken away; writable
// directories; the error of other calls.
const confineEnv = "HYPERMESH_TEST_CONFINE"

// becomeConfined does so, if it was told to.
func becomeConfined() {
	if how := os.Getenv(confineEnv); how != "" {
		runtime.LockOSThread() // what follows is this thread's, and then the program's that it becomes
		err := errors.Join(os.Unsetenv(confineEnv), confine(strings.Split(how, ";")))
		panic(errors.Join(err, syscall.Exec("/proc/self/exe", os.Args, os.Environ())))
	}
}

func numbers(list string) (out []uint32) {
	for field := range strings.FieldsSeq(list) {
		n, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			panic(err)
		}
		out = append(out, uint32(n))
	}
	return out
}

func confine(how []string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	writable := strings.Fields(how[2])
	for _, dir := range writable {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	for _, dir := range append(writable, "/dev", "/proc", "/sys") {
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_RECURSIVE, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	for _, c := range numbers(how[1]) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return allowOnly(numbers(how[0]), numbers(how[3])[0])
}

// allowOnly refuses all other system calls with an error (seccomp(2)). A jump of the
// filter language reaches 255 instructions far, so each call has an answer of its
// own.
func allowOnly(calls []uint32, errno uint32) error {
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: load, K: 0}}
	for _, n := range calls {
		filter = append(filter, unix.SockFilter{Code: equal, Jf: 1, K: n}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	}
	filter = append(filter, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | errno})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// unit is the [Service] of the agent's unit with the exceptions for containers:
// what is set last counts.
func unit(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"hypermesh-agent.service", "containers.conf"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
				out[key] = value
			}
		}
	}
	return out
}

// expand is the names of a set of system calls, as systemd has them.
func expand(t *testing.T, set string) (names []string) {
	t.Helper()
	if !strings.HasPrefix(set, "@") {
		return []string{set}
	}
	text, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", set).Output()
	if err != nil {
		t.Fatalf("%s: %v", set, err)
	}
	for line := range strings.Lines(string(text)) {
		if name := strings.TrimSpace(line); name != "" && name != set && !strings.HasPrefix(name, "#") {
			names = append(names, expand(t, name)...)
		}
	}
	return names
}

// capabilities are numbered as in capabilities(7) and <linux/capability.h>.
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
	NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
	MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// forbidden is what settings forbid beside the filter (systemd.exec(5)).
var forbidden = map[string]string{
	"ProtectHostname": "sethostname setdomainname", "ProtectClock": "@clock", "ProtectKernelModules": "@module", "ProtectKernelLogs": "syslog",
	"RestrictNamespaces": "unshare setns clone3",
}

// TestContainersUnderTheUnit runs containers and commands in them under what the
// agent's unit and containers.conf leave: the system calls, the capabilities, no
// new privileges, and a file system that is read-only but for the directories of
// the agent. Beside systemd itself, it lacks what the unit does about devices,
// keyrings and address families.
func TestContainersUnderTheUnit(t *testing.T) {
	needContainers(t)
	header, err := os.ReadFile("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
	if _, missing := exec.LookPath("systemd-analyze"); err != nil || missing != nil || runtime.GOARCH != "amd64" {
		t.Skipf("needs systemd-analyze and the numbers of amd64's system calls: %v, %v", err, missing)
	}
	settings := unit(t)
	if settings["NoNewPrivileges"] != "true" || settings["ProtectSystem"] != "strict" || settings["RuntimeDirectory"] != "hypermesh" {
		t.Fatalf("the unit has changed: %v", settings)
	}
	var allowed []string
	for set := range strings.FieldsSeq(settings["SystemCallFilter"]) {
		allowed = append(allowed, expand(t, set)...)
	}
	for setting, sets := range forbidden {
		for set := range strings.FieldsSeq(sets) {
			if settings[setting] == "true" {
				names := expand(t, set)
				allowed = slices.DeleteFunc(allowed, func(name string) bool { return slices.Contains(names, name) })
			}
		}
	}
	var calls, drop []string
	for _, m := range regexp.MustCompile(`#define __NR_(\w+) (\d+)`).FindAllStringSubmatch(string(header), -1) {
		if slices.Contains(allowed, m[1]) {
			calls = append(calls, m[2])
		}
	}
	for number, name := range capabilities {
		if !slices.Contains(strings.Fields(settings["CapabilityBoundingSet"]), "CAP_"+name) {
			drop = append(drop, strconv.Itoa(number))
		}
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	if err := os.MkdirAll("/run/hypermesh", 0o711); err != nil {
		t.Fatal(err)
	}
	writable := []string{own, "/run/hypermesh", strings.TrimSpace(string(cache))}
	errno := map[string]unix.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS}[settings["SystemCallErrorNumber"]]
	how := []string{strings.Join(calls, " "), strings.Join(drop, " "), strings.Join(writable, " "), strconv.Itoa(int(errno))}
	cmd := exec.Command(os.Args[0], "-test.run", "^(TestContainerSeesItsTask|TestExec|TestExecInATerminal)$", "-test.count", "1", "-test.v", "-test.timeout", "1m")
	cmd.Env = append(os.Environ(), confineEnv+"="+strings.Join(how, ";"), "TMPDIR="+own)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestExec") || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%d system calls: %v\n%s", len(calls), err, out)
	}
}
