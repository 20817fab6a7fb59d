package executor_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

// Groups of a real hierarchy of version 2: processes are counted in a group and
// below it, processor time is read, a command's group ends alone, and a whole
// group ends and goes. What the controllers memory and pids hold is
// shown by testdata/version2: where version 1 has them, as in a hybrid layout, version 2 has none.
func TestGroupsOfVersion2(t *testing.T) {
	needContainers(t)
	mount := t.TempDir()
	if err := unix.Mount("none", mount, "cgroup2", 0, ""); err != nil {
		t.Skipf("no control groups of version 2 can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	name := "hypermesh-test-" + strconv.Itoa(os.Getpid())
	g, err := executor.UnifiedGroup(mount, name)
	if err != nil {
		t.Fatal(err)
	}
	below, err := g.Below("exec-1")
	if err != nil {
		t.Fatal(err)
	}
	begin := func(dir string) *exec.Cmd {
		fd, err := unix.Open(filepath.Join(mount, name, dir), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		if err := errors.Join(cmd.Start(), unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	own, command := begin(""), begin("exec-1")
	if pids, err := g.Processes(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if pids, err := below.Processes(); err != nil || len(pids) != 1 || pids[0] != command.Process.Pid {
		t.Errorf("processes of the command %v, %v", pids, err)
	}
	for deadline := time.Now().Add(10 * time.Second); g.CPU() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no processor time is counted")
		}
	}
	if err := errors.Join(below.Kill(), below.Remove()); err != nil {
		t.Errorf("ending the command: %v", err)
	}
	if err := command.Wait(); err == nil {
		t.Error("the command ended well")
	}
	if pids, err := g.Processes(); err != nil || len(pids) != 1 || pids[0] != own.Process.Pid {
		t.Errorf("processes beside the command %v, %v", pids, err)
	}
	if err := errors.Join(g.Kill(), g.Remove(), g.Remove()); err != nil {
		t.Errorf("ending the group: %v", err)
	}
	if err := own.Wait(); err == nil {
		t.Error("the group's process ended well")
	}
	if _, err := os.Stat(filepath.Join(mount, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is there: %v", err)
	}
}

// TestLimitsForTheRuntime reads what the runtime is told, in the words of the OCI's
// runtime specification, config-linux, of which it makes memory.max, memory.swap.max
// (swap less memory), cpu.max and pids.max of version 2, and what version 1 has for
// these. That processes are held to it is shown by the hostile containers, on the
// version that this machine has.
func TestLimitsForTheRuntime(t *testing.T) {
	task := &executor.ContainerTask{Millicores: 1_500, Processes: 40, Limits: executor.Limits{MemoryBytes: 64 << 20, WallTime: time.Minute}}
	const rest = `"cpu":{"quota":150000,"period":100000},"pids":{"limit":40}}`
	const devices = `{"devices":[{"allow":false,"access":"rwm"}],`
	for swap, want := range map[bool]string{
		true:  devices + `"memory":{"limit":67108864,"swap":67108864},` + rest,
		false: devices + `"memory":{"limit":67108864},` + rest,
	} {
		if got, err := executor.LimitsOf(task, swap); err != nil || got != want {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
	}
	task.Millicores = 1
	if got, err := executor.LimitsOf(task, true); err != nil || !strings.Contains(got, `"quota":1000,`) { // the kernel's least
		t.Errorf("%s, %v", got, err)
	}
}
