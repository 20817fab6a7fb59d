package vm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// TestCloseWaits: a machine that is closed while calls run ends them well, with what they
// ask in turn, and begins no other.
func TestCloseWaits(t *testing.T) {
	m, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	code := codeOf(t, source("(call $query_chain (local.get $msg))", msg))
	closed := make(chan struct{})
	w := newWorld()
	w.query = func(request []byte, limit uint64) ([]byte, uint64, error) {
		go func() {
			defer close(closed)
			m.Close()
		}()
		for err := error(nil); !errors.Is(err, vm.ErrClosed); err = m.Compile(code) {
			if err != nil {
				return nil, 0, err
			}
			runtime.Gosched()
		}
		o, err := m.Run(code, vm.Call{Entry: meter.Query, Args: [][]byte{[]byte("env"), request}, Points: limit, Depth: 1}, newWorld())
		select {
		case <-closed:
			t.Error("the machine is closed while a call runs")
		default:
		}
		return o.Data, o.Points, err
	}
	if o, err := m.Run(code, execute, w); err != nil || o.End != vm.Returned || string(o.Data) != "message" {
		t.Errorf("%v %q %s, %v", o.End, o.Data, o.Detail, err)
	}
	<-closed
	deep := execute
	deep.Depth = 1
	for _, call := range []vm.Call{execute, deep} {
		if o, err := m.Run(code, call, newWorld()); !errors.Is(err, vm.ErrClosed) {
			t.Errorf("a call at depth %d after the end: %v, %v", call.Depth, o.End, err)
		}
	}
}

// TestCloseTwice: a machine may be closed again, also while another closes it.
func TestCloseTwice(t *testing.T) {
	m, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Compile(codeOf(t, source(msg, "unreachable"))); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(m.Close)
	}
	all.Wait()
	m.Close()
	if _, err := m.Run(codeOf(t, source(msg, "unreachable")), execute, newWorld()); !errors.Is(err, vm.ErrClosed) {
		t.Error(err)
	}
}

// alone has a test be run as a process of its own.
const alone = "HYPERMESH_TEST_ALONE"

// inProcess runs a test of this package as a process of its own, after a command of the
// shell, and returns what it prints.
func inProcess(t *testing.T, test, before string) string {
	t.Helper()
	child := exec.Command("sh", "-c", before+` && exec "$0" -test.run "^$1\$"`, os.Args[0], test)
	child.Env = append(os.Environ(), alone+"=1")
	says, err := child.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", test, err)
	}
	return string(says)
}

// TestHostThatEnds: a host that ends the goroutine of a call is a fault, and no outcome.
// The engine is of no use to the thread afterwards: so it is in a process of its own.
func TestHostThatEnds(t *testing.T) {
	if os.Getenv(alone) == "" {
		if says := inProcess(t, t.Name(), "true"); !strings.Contains(says, "a host has ended") {
			t.Error(says)
		}
		return
	}
	m, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.query = func([]byte, uint64) ([]byte, uint64, error) {
		runtime.Goexit()
		return nil, 0, nil
	}
	call := execute
	call.Depth = 1
	o, err := m.Run(codeOf(t, source("(call $query_chain (local.get $msg))", "unreachable")), call, w)
	fmt.Println(o, err)
	os.Exit(0)
}

// TestSmallStacksAreRefused: with a stack that calls could go beyond there is no machine;
// with one that is just enough a contract goes down to its own limit, in a call that
// another waits for.
func TestSmallStacksAreRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the limit is Linux's")
	}
	if os.Getenv(alone) != "" {
		goesDown(t)
		return
	}
	for _, c := range []struct {
		kib  int
		want string
	}{{vm.ThreadBytes>>10 - 4, "refused: vm: threads have a stack of"}, {vm.ThreadBytes >> 10, "ended well"}} {
		if says := inProcess(t, t.Name(), fmt.Sprint("ulimit -S -s ", c.kib)); !strings.Contains(says, c.want) {
			t.Errorf("with %d KiB: %s", c.kib, says)
		}
	}
}

// goesDown prints what comes of a contract that calls itself for ever.
func goesDown(t *testing.T) {
	m, err := vm.New(vm.Config{})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	defer m.Close()
	code := codeOf(t, source("(call $query_chain (local.get $msg))", "(call $again (i32.const 0))"))
	w := newWorld()
	w.query = func(request []byte, limit uint64) ([]byte, uint64, error) {
		o, err := m.Run(code, vm.Call{Entry: meter.Query, Args: [][]byte{[]byte("env"), request}, Points: limit, Depth: 1}, newWorld())
		if err != nil || o.End != vm.Overflowed {
			return nil, 0, fmt.Errorf("%v %s, %w", o.End, o.Detail, err)
		}
		return []byte("down"), 10, nil
	}
	call := execute
	call.Points = 1 << 40
	if o, err := m.Run(code, call, w); err == nil && string(o.Data) == "down" {
		fmt.Println("ended well")
	} else {
		fmt.Println("not well:", o.End, o.Detail, err)
	}
}
