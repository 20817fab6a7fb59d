// Command inmate does what its first argument says, for the tests of
// containers. What it must not be able to do it prints if it could.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	commands := map[string]func([]string){
		"see": see, "exit": exit, "loop": loop, "sleep": sleep, "memory": memory, "fork": fork, "threads": threads, "fill": fill, "files": files,
		"sparse": sparse, "tmp": tmp, "log": logs, "devices": devices, "mounts": mounts, "kernel": kernel, "network": network, "setuid": setuid,
		"calls": calls, "link": link, "serve": serve, "write": write, "cat": cat, "orphans": orphans, "count": count, "procs": procs, "family": family, "spill": spill, "read": read, "tick": tick, "env": environ, "terminal": terminal,
	}
	commands[os.Args[1]](os.Args[2:])
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "inmate:", err)
		os.Exit(9)
	}
}

// could prints what worked and should not have.
func could(what string, err error) {
	if err == nil {
		fmt.Println("could", what)
	}
}

func see(args []string) {
	wd, err := os.Getwd()
	must(err)
	fmt.Println(strings.Join(args, "|"), os.Getenv("A"), os.Getenv("B"), os.Getpid(), os.Getuid(), os.Getgid(), wd)
	in, err := os.ReadFile("/in/greeting")
	must(err)
	fmt.Println(string(in))
	must(os.MkdirAll("/out/d", 0o755))
	must(os.WriteFile("/out/d/f", []byte("made"), 0o600))
	could("write the root", os.WriteFile("/escaped", nil, 0o644))
	could("write /in", os.WriteFile("/in/greeting", nil, 0o644))
	could("write /in/new", os.WriteFile("/in/new", nil, 0o644))
	_, err = os.Stat("/sys/kernel")
	could("see /sys", err)
}

func exit(args []string) {
	code, err := strconv.Atoi(args[0])
	must(err)
	os.Exit(code)
}

func loop([]string) {
	for {
	}
}

func sleep([]string) {
	fmt.Println("asleep")
	time.Sleep(time.Hour)
}

func memory([]string) {
	var all [][]byte
	for {
		all = append(all, bytes.Repeat([]byte{1}, 1<<20))
	}
}

func fork([]string) {
	for {
		if cmd := exec.Command("/inmate", "fork"); cmd.Start() == nil {
			go cmd.Wait()
		}
	}
}

// threads starts processes until it is refused one, and fails.
func threads([]string) {
	for {
		must(exec.Command("/inmate", "sleep").Start())
	}
}

func fill([]string) {
	f, err := os.Create("/out/fill")
	must(err)
	for {
		_, err := f.Write(make([]byte, 64<<10))
		must(err)
	}
}

func files([]string) {
	for i := 0; ; i++ {
		must(os.WriteFile(fmt.Sprintf("/out/%d", i), nil, 0o600))
	}
}

func sparse([]string) {
	must(os.WriteFile("/out/s", nil, 0o600))
	must(os.Truncate("/out/s", 1<<40))
}

func tmp([]string) {
	f, err := os.Create("/tmp/fill")
	must(err)
	n, err := io.Copy(f, neverending{})
	fmt.Println(n, err)
	for i := 0; ; i++ {
		if err := os.WriteFile(fmt.Sprintf("/dev/shm/%d", i), make([]byte, 1<<20), 0o600); err != nil {
			fmt.Println("shm", i < 20)
			return
		}
	}
}

type neverending struct{}

func (neverending) Read(p []byte) (int, error) { return len(p), nil }

func logs([]string) {
	for {
		fmt.Println(strings.Repeat("x", 1<<10))
	}
}

func devices([]string) {
	entries, err := os.ReadDir("/dev")
	must(err)
	for _, e := range entries {
		switch e.Name() {
		case "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "shm", "core", "ptmx", "pts", "console", "mqueue":
		default:
			fmt.Println("could see /dev/" + e.Name())
		}
	}
	for _, dev := range []struct {
		name         string
		major, minor uint32
	}{{"mem", 1, 1}, {"kmsg", 1, 11}, {"sda", 8, 0}, {"vda", 254, 0}, {"loop", 7, 0}, {"fuse", 10, 229}, {"null", 1, 3}} {
		for _, dir := range []string{"/tmp", "/out", "/dev"} {
			path := filepath.Join(dir, "made-"+dev.name)
			err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(dev.major, dev.minor)))
			could("make "+path, err)
			err = unix.Mknod(path+"b", unix.S_IFBLK|0o666, int(unix.Mkdev(dev.major, dev.minor)))
			could("make "+path+"b", err)
		}
	}
	for _, path := range []string{"/dev/mem", "/dev/kmem", "/dev/port", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse"} {
		_, err := os.Open(path)
		could("open "+path, err)
	}
}

func mounts([]string) {
	could("mount proc", unix.Mount("proc", "/tmp", "proc", 0, ""))
	could("mount tmpfs", unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	could("bind", unix.Mount("/", "/tmp", "", unix.MS_BIND, ""))
	could("remount the root", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	could("remount /in", unix.Mount("", "/in", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	could("unmount /proc", unix.Unmount("/proc", 0))
	could("unmount a masked path", unix.Unmount("/proc/kcore", unix.MNT_DETACH))
	could("pivot", unix.PivotRoot("/tmp", "/tmp"))
	could("chroot", unix.Chroot("/tmp"))
	could("unshare users", unix.Unshare(unix.CLONE_NEWUSER))
	could("unshare mounts", unix.Unshare(unix.CLONE_NEWNS))
	_, err := unix.Open("/proc/1/ns/mnt", unix.O_RDONLY, 0)
	if fd, openErr := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0); openErr == nil {
		could("setns", unix.Setns(fd, unix.CLONE_NEWNS))
	}
	_ = err
	cmd := exec.Command("/inmate", "exit", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}
	could("clone into new namespaces", cmd.Run())
	_, _, errno := unix.Syscall(unix.SYS_FSOPEN, uintptr(unsafe.Pointer(unsafe.StringData("tmpfs\x00"))), 0, 0)
	could("fsopen", orNil(errno))
	_, _, errno = unix.Syscall(unix.SYS_OPEN_TREE, ^uintptr(99), uintptr(unsafe.Pointer(unsafe.StringData("/\x00"))), 1)
	could("open_tree", orNil(errno))
	for _, path := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/proc/self/oom_score_adj_", "/proc/1/root/etc/shadow_"} {
		could("write "+path, os.WriteFile(path, []byte("1"), 0o644))
	}
	up := strings.Repeat("../", 30)
	for _, path := range []string{"/" + up + "var", "/in/" + up + "root", "/proc/1/root/var", "/proc/1/cwd/../../var", "/out/" + up + "home/../var"} {
		_, err := os.Stat(path)
		could("see "+path, err)
	}
}

func orNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func kernel([]string) {
	buf := make([]byte, 4096)
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	could("read the kernel log", err)
	_, err = unix.Klogctl(10, nil)
	could("size the kernel log", err)
	for _, path := range []string{"/dev/kmsg", "/proc/kmsg", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/sys/kernel/debug", "/proc/modules"} {
		data, err := os.ReadFile(path)
		if len(data) > 0 {
			could("read "+path, err)
		}
	}
}

func network([]string) {
	interfaces, err := net.Interfaces()
	must(err)
	for _, i := range interfaces {
		if i.Name != "lo" {
			fmt.Println("could see interface", i.Name)
		}
	}
	for _, to := range []string{"127.0.0.1:" + os.Getenv("HOST_PORT"), "[::1]:" + os.Getenv("HOST_PORT"), "10.0.0.1:80"} {
		conn, err := net.DialTimeout("tcp", to, 300*time.Millisecond)
		could("dial "+to, err)
		if err == nil {
			conn.Close()
		}
	}
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	could("open a packet socket", err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	could("open a raw socket", err)
	_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	could("open a vsock", err)
	_, err = unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	could("open an alg socket", err)
	l, err := net.Listen("tcp", "127.0.0.1:0") // its own loopback is there
	must(err)
	conn, err := net.Dial("tcp", l.Addr().String())
	must(err)
	must(conn.Close())
}

func setuid([]string) {
	before := os.Geteuid()
	could("become another user", unix.Setresuid(before+1, before+1, before+1))
	info, err := os.Stat("/suid")
	must(err)
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		fmt.Println("could keep a set-user-id bit")
	}
	must(exec.Command("/inmate", "write", "/out/shell").Run())
	must(os.Chmod("/out/shell", 0o755|os.ModeSetuid))
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for _, line := range strings.Split(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(name, "Cap") && strings.Trim(value, "0") != "", name == "NoNewPrivs" && value != "1", name == "Seccomp" && value != "2":
			fmt.Println("could have", name, value)
		}
	}
	could("raise a limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	could("raise priority", unix.Setpriority(unix.PRIO_PROCESS, 0, -5))
	could("set the clock", unix.Settimeofday(&unix.Timeval{Sec: 1}))
	could("set the host's name", unix.Sethostname([]byte("x")))
	could("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF))
}

func calls([]string) {
	for name, call := range map[string][4]uintptr{
		"ptrace": {unix.SYS_PTRACE, unix.PTRACE_TRACEME}, "keyctl": {unix.SYS_KEYCTL, 0, ^uintptr(2)}, "add_key": {unix.SYS_ADD_KEY}, "request_key": {unix.SYS_REQUEST_KEY},
		"bpf": {unix.SYS_BPF, 0}, "perf_event_open": {unix.SYS_PERF_EVENT_OPEN}, "userfaultfd": {unix.SYS_USERFAULTFD}, "io_uring_setup": {unix.SYS_IO_URING_SETUP, 1},
		"init_module": {unix.SYS_INIT_MODULE}, "finit_module": {unix.SYS_FINIT_MODULE}, "kexec_load": {unix.SYS_KEXEC_LOAD}, "swapon": {unix.SYS_SWAPON},
		"open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT}, "name_to_handle_at": {unix.SYS_NAME_TO_HANDLE_AT}, "process_vm_readv": {unix.SYS_PROCESS_VM_READV},
		"process_vm_writev": {unix.SYS_PROCESS_VM_WRITEV}, "kcmp": {unix.SYS_KCMP}, "acct": {unix.SYS_ACCT}, "quotactl": {unix.SYS_QUOTACTL}, "iopl": {unix.SYS_IOPL, 3},
		"ioperm": {unix.SYS_IOPERM}, "modify_ldt": {unix.SYS_MODIFY_LDT}, "vhangup": {unix.SYS_VHANGUP}, "fanotify_init": {unix.SYS_FANOTIFY_INIT}, "move_pages": {unix.SYS_MOVE_PAGES},
		"pidfd_getfd": {unix.SYS_PIDFD_GETFD}, "move_mount": {unix.SYS_MOVE_MOUNT}, "mount_setattr": {unix.SYS_MOUNT_SETATTR}, "lookup_dcookie": {unix.SYS_LOOKUP_DCOOKIE},
		"nfsservctl": {unix.SYS_NFSSERVCTL}, "uselib": {unix.SYS_USELIB}, "personality": {unix.SYS_PERSONALITY, 0x0400000},
	} {
		_, _, errno := unix.Syscall(call[0], call[1], call[2], call[3])
		if errno != unix.EPERM {
			fmt.Println("could call", name, errno)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0); errno != unix.ENOSYS {
		fmt.Println("could call clone3", errno)
	}
}

func link(args []string) {
	switch args[0] {
	case "symbolic":
		must(os.Symlink("/etc/passwd", "/out/l"))
	case "fifo":
		must(unix.Mkfifo("/out/l", 0o644))
	case "hard":
		must(os.WriteFile("/out/a", []byte("same"), 0o600))
		must(os.Link("/out/a", "/out/b"))
	}
}

// serve answers HTTP on its loopback: ill after so many answers.
func serve(args []string) {
	well, err := strconv.Atoi(args[0])
	must(err)
	fmt.Println("serving")
	must(http.ListenAndServe("127.0.0.1:8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if well--; well < 0 {
			http.Error(w, "ill", http.StatusServiceUnavailable)
		}
	})))
}

// procs prints how many living processes there are beside it.
func procs([]string) {
	entries, err := os.ReadDir("/proc")
	must(err)
	n := -1
	for _, e := range entries {
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if _, notNumber := strconv.Atoi(e.Name()); notNumber == nil && err == nil && !strings.Contains(string(stat), ") Z ") {
			n++
		}
	}
	fmt.Print(n)
}

// spill writes so many KiB, and notes how many it could.
func spill(args []string) {
	n, err := strconv.Atoi(args[0])
	must(err)
	for i := range n {
		_, err := os.Stdout.Write(make([]byte, 1<<10))
		must(err)
		must(os.WriteFile("/tmp/spilled", []byte(strconv.Itoa(i+1)), 0o600))
	}
}

func read(args []string) {
	data, err := os.ReadFile(args[0])
	must(err)
	fmt.Print(string(data))
}

// tick prints numbered lines, and every tenth to the other stream as well.
func tick([]string) {
	for i := 0; ; i++ {
		fmt.Println("tick", i)
		if i%10 == 0 {
			fmt.Fprintln(os.Stderr, "tock", i)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// terminal tells what terminal it is in, repeats what is typed, and ends with
// Ctrl-C.
func terminal([]string) {
	heard := make(chan os.Signal, 8)
	signal.Notify(heard, unix.SIGWINCH, unix.SIGINT, unix.SIGHUP)
	size := func() string {
		w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		must(err)
		return fmt.Sprintf("%d x %d", w.Col, w.Row)
	}
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	must(err)
	fmt.Println(os.Getenv("TERM"), size(), group == unix.Getpgrp())
	fmt.Fprintln(os.Stderr, "to both")
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case s := <-heard:
			if s == unix.SIGINT {
				fmt.Println("interrupted")
				os.Exit(7)
			}
			fmt.Println(s, size())
		case line, more := <-lines:
			if !more {
				fmt.Println("the end")
				os.Exit(8)
			}
			fmt.Printf("typed %q\n", line)
		}
	}
}

func environ([]string) { fmt.Println(strings.Join(os.Environ(), "\n")) }

// family is orphans that stay with their parent.
func family([]string) {
	orphans(nil)
	fmt.Println("founded")
	time.Sleep(time.Hour)
}

// count appends a line to /out/runs and exits with the code given.
func count(args []string) {
	f, err := os.OpenFile("/out/runs", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(err)
	_, err = fmt.Fprintln(f, "run")
	must(err)
	must(f.Close())
	exit(args)
}

func write(args []string) { must(os.WriteFile(args[0], []byte("written"), 0o600)) }

func cat(args []string) {
	fmt.Println(strings.Join(args, " "))
	_, err := io.Copy(os.Stdout, os.Stdin)
	must(err)
	fmt.Fprintln(os.Stderr, "done")
	os.Exit(5)
}

// orphans leaves processes behind that ignore signals and hold its streams.
func orphans([]string) {
	for range 5 {
		must(exec.Command("/inmate", "loop").Start())
		cmd := exec.Command("/inmate", "sleep")
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(cmd.Start())
	}
}
