package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// TestMemoriesAreNew: a call finds zeros wherever its contract has put nothing,
// whatever ran before it and however much of its memory that has used.
func TestMemoriesAreNew(t *testing.T) {
	m := newMachine(t, vm.Config{})
	// Every 8 bytes from the second page on are zero; then every step bytes are set.
	const body = `(drop (memory.grow (i32.const %d)))
		(local.set $i (i32.const 65536))
		(loop $look
			(if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
			(local.set $i (i32.add (local.get $i) (i32.const 8)))
			(br_if $look (i32.lt_u (local.get $i) (i32.mul (memory.size) (i32.const 65536)))))
		(local.set $i (i32.const 65536))
		(loop $use
			(i64.store (local.get $i) (i64.const -1))
			(local.set $i (i32.add (local.get $i) (i32.const %d)))
			(br_if $use (i32.lt_u (local.get $i) (i32.mul (memory.size) (i32.const 65536)))))
		(local.get $msg)`
	var codes []vm.Code
	for _, c := range []struct{ pages, step int }{
		{0, 8}, {1, 8}, {1, 4096}, {3, 50_000}, {40, 8}, {40, 200_000}, {120, 300_000}, {200, 8}, {200, 1 << 20}, {500, 1 << 19},
	} {
		codes = append(codes, codeOf(t, source(fmt.Sprintf(body, c.pages, c.step), "unreachable")))
	}
	call := execute
	call.Points = 1 << 40
	var all sync.WaitGroup
	for worker := range 3 {
		all.Go(func() {
			for i := range 8 * len(codes) {
				o, err := m.Run(codes[(i*7+i/len(codes)+worker)%len(codes)], call, newWorld())
				if err != nil || o.End != vm.Returned {
					t.Errorf("worker %d, call %d: %v %s, %v", worker, i, o.End, o.Detail, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestMemoriesEnd: right behind its last page a contract traps, also in a memory
// that was larger in the call before.
func TestMemoriesEnd(t *testing.T) {
	m := newMachine(t, vm.Config{})
	large := codeOf(t, source("(drop (memory.grow (i32.const 30))) (i32.store (i32.const 2097148) (i32.const 1))"+msg, "unreachable"))
	small := codeOf(t, source("(i32.store (i32.const 131072) (i32.const 1))"+msg, "unreachable"))
	unaligned := codeOf(t, source("(i32.store (i32.const 131069) (i32.const 1))"+msg, "unreachable"))
	last := codeOf(t, source("(i32.store (i32.const 131068) (i32.const 1))"+msg, "unreachable"))
	far := codeOf(t, source("(i32.store offset=4294967295 (i32.const -1) (i32.const 1))"+msg, "unreachable"))
	for range 5 {
		for _, c := range []struct {
			code vm.Code
			end  vm.End
		}{{large, vm.Returned}, {small, vm.Trapped}, {unaligned, vm.Trapped}, {last, vm.Returned}, {far, vm.Trapped}} {
			if o, err := m.Run(c.code, execute, newWorld()); err != nil || o.End != c.end {
				t.Errorf("%v %s, %v; want %v", o.End, o.Detail, err, c.end)
			}
		}
	}
}

// TestRooms runs testdata/rooms_test.c: what is kept of a memory, and that none is used
// again of which the kernel has refused a part.
func TestRooms(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memories are used again on Linux alone")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "rooms")
	compiler := strings.Fields(output(t, here, "go", "env", "CC"))
	build := exec.Command(compiler[0], append(compiler[1:], "-g", "-pthread", "-I"+here, "-o", program, filepath.Join(here, "testdata", "rooms_test.c"))...)
	if says, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, says)
	}
	if says, err := exec.Command(program).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, says)
	}
}
