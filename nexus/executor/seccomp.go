package executor

import "strings"

// allowedCalls are the system calls of a container: what programs need for
// files, memory, processes, threads, signals, time, and talking on the loopback.
// What is not here fails with EPERM. Left out on purpose is whatever changes
// the machine or looks out of the sandbox: mounts and namespaces (mount, umount2,
// pivot_root, move_mount, fsopen, open_tree, unshare, setns, chroot), other
// processes' memory (ptrace, process_vm_*, kcmp, pidfd_getfd), the kernel's own
// (bpf, perf_event_open, init_module, kexec_load, syslog, userfaultfd,
// io_uring_*, lookup_dcookie, modify_ldt, iopl, ioperm), keys (add_key,
// request_key, keyctl), handles of files (name_to_handle_at, open_by_handle_at),
// and the machine's clock and state (settimeofday, clock_settime, adjtimex,
// reboot, swapon, acct, quotactl, sethostname).
const allowedCalls = `
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek close close_range
open openat openat2 creat dup dup2 dup3 fcntl fcntl64 ioctl flock fsync fdatasync sync_file_range syncfs sync
stat fstat lstat newfstatat stat64 fstat64 lstat64 fstatat64 statx statfs fstatfs statfs64 fstatfs64 access faccessat faccessat2
getdents getdents64 readlink readlinkat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat chown32 fchown32 lchown32 umask utime utimes utimensat futimesat
truncate ftruncate truncate64 ftruncate64 fallocate fadvise64 fadvise64_64 readahead copy_file_range sendfile sendfile64 splice tee vmsplice
getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
chdir fchdir getcwd inotify_init inotify_init1 inotify_add_watch inotify_rm_watch memfd_create
pipe pipe2 poll ppoll select pselect6 _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy
brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 munlock mlockall munlockall membarrier remap_file_pages
pkey_alloc pkey_free pkey_mprotect shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl ipc
mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal
rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigsuspend rt_sigreturn sigreturn sigaltstack sigaction sigprocmask pause alarm
getpid getppid gettid getpgid getpgrp setpgid getsid setsid getuid geteuid getgid getegid getresuid getresgid getgroups
getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setgroups32
capget capset prctl arch_prctl set_tid_address set_thread_area get_thread_area set_robust_list get_robust_list rseq
futex futex_waitv futex_wait futex_wake futex_requeue restart_syscall seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
sched_rr_get_interval sched_getattr sched_setattr getpriority setpriority ioprio_get ioprio_set getcpu
getrlimit setrlimit ugetrlimit prlimit64 getrusage times sysinfo uname getrandom
clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64 nanosleep gettimeofday time
getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
socketpair bind listen accept accept4 connect getsockname getpeername sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt getsockopt shutdown socketcall
ppoll_time64 pselect6_time64 recvmmsg_time64 futex_time64 utimensat_time64 timerfd_settime64 timerfd_gettime64 rt_sigtimedwait_time64 sched_rr_get_interval_time64
`

// newNamespaces are the flags of clone that make namespaces (clone(2)).
const newNamespaces = 0x7e020000

// Address families that a container may open sockets of (socket(2)); netlink
// serves the listing of interfaces, of which there is one.
var socketFamilies = []uint64{1, 2, 10, 16} // unix, IPv4, IPv6, netlink

// Personalities that change nothing that matters (personality(2)): none, the
// same without randomized addresses, and the question.
var personalities = []uint64{0, 0x0040000, 0xffffffff}

const (
	errnoPerm  = 1
	errnoNosys = 38
)

// seccompProfile is the allow-list as the runtime takes it (OCI runtime
// specification, "Seccomp").
func seccompProfile() *ociSeccomp {
	p := &ociSeccomp{
		DefaultAction: "SCMP_ACT_ERRNO", DefaultErrno: errnoPerm, Architectures: nil,
		Syscalls: []ociSyscall{
			{Names: strings.Fields(allowedCalls), Action: "SCMP_ACT_ALLOW"},
			{Names: []string{"clone"}, Action: "SCMP_ACT_ALLOW", Args: []ociArg{{Index: 0, Value: newNamespaces, ValueTwo: 0, Op: "SCMP_CMP_MASKED_EQ"}}},
			// Its flags are in memory, where no filter sees them; who gets this
			// answer takes clone.
			{Names: []string{"clone3"}, Action: "SCMP_ACT_ERRNO", Errno: errnoNosys},
		},
	}
	for _, family := range socketFamilies {
		p.Syscalls = append(p.Syscalls, ociSyscall{Names: []string{"socket"}, Action: "SCMP_ACT_ALLOW", Args: []ociArg{{Index: 0, Value: family, Op: "SCMP_CMP_EQ"}}})
	}
	for _, value := range personalities {
		p.Syscalls = append(p.Syscalls, ociSyscall{Names: []string{"personality"}, Action: "SCMP_ACT_ALLOW", Args: []ociArg{{Index: 0, Value: value, Op: "SCMP_CMP_EQ"}}})
	}
	return p
}
