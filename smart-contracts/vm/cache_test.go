package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// TestCompiledCodeIsKept: on disk from one machine to the next, for who has the
// key, as long as not a bit of it has changed.
func TestCompiledCodeIsKept(t *testing.T) {
	dir := t.TempDir()
	code := codeOf(t, source("(local.get $msg)", "unreachable"))
	loads := 0
	load := code.Load
	code.Load = func() (*meter.Module, error) {
		loads++
		return load()
	}
	runs := func(config vm.Config) {
		t.Helper()
		m, err := vm.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for range 2 {
			if o, err := m.Run(code, execute, newWorld()); err != nil || string(o.Data) != "message" {
				t.Fatalf("%v, %v", o, err)
			}
		}
		if !m.Has(code.ID) {
			t.Error("the code is not kept in memory")
		}
	}
	mine := vm.Config{Dir: dir, Key: [32]byte{1}}
	expect := func(want int, why string) {
		t.Helper()
		if loads != want {
			t.Errorf("%s: loaded %d times, want %d", why, loads, want)
		}
	}
	runs(mine)
	expect(1, "at first")
	runs(mine)
	expect(1, "from disk")
	runs(vm.Config{Dir: dir, Key: [32]byte{2}})
	expect(2, "of another node")
	runs(mine)
	expect(3, "after another node has written")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { b[0] ^= 1; return b },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return b[:10] },
		func([]byte) []byte { return nil },
	} {
		if err := os.WriteFile(files[0], spoil(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		runs(mine)
		expect(4+i, "spoilt")
	}
}

// TestMemoryHasRoomForSome: what there is no room for makes place, and is compiled
// anew when it is called again.
func TestMemoryHasRoomForSome(t *testing.T) {
	one, other := codeOf(t, source("(local.get $msg)", "unreachable")), codeOf(t, source("(local.get $env)", "unreachable"))
	m := newMachine(t, vm.Config{CacheBytes: 1})
	for _, c := range []vm.Code{one, other, one} {
		if _, err := m.Run(c, execute, newWorld()); err != nil || !m.Has(c.ID) {
			t.Errorf("%v", err)
		}
	}
	if m.Has(other.ID) {
		t.Error("more is kept than there is room for")
	}
}

// TestSmallModulesAreCounted: a module takes more than its native code, so that thousands of
// small ones are not kept as if they took nothing.
func TestSmallModulesAreCounted(t *testing.T) {
	m := newMachine(t, vm.Config{CacheBytes: 3 * vm.ModuleBytes})
	var codes []vm.Code
	for i := range 5 {
		code := codeOf(t, source(fmt.Sprintf("(drop (i32.const %d)) (local.get $msg)", i), "unreachable"))
		if err := m.Compile(code); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	kept := 0
	for _, code := range codes {
		if m.Has(code.ID) {
			kept++
		}
	}
	if kept == 0 || kept > 2 {
		t.Errorf("%d modules are kept, where three without any native code would have room", kept)
	}
}

// TestCompiledOnce: of many calls that ask for a code at once one has it compiled; if that
// fails, another tries it.
func TestCompiledOnce(t *testing.T) {
	m := newMachine(t, vm.Config{})
	code := codeOf(t, source("(local.get $msg)", "unreachable"))
	var loads atomic.Int32
	began, goOn := make(chan struct{}), make(chan struct{})
	load := code.Load
	code.Load = func() (*meter.Module, error) {
		if loads.Add(1) == 1 {
			close(began)
			<-goOn
			return nil, errors.New("a disk that fails")
		}
		return load()
	}
	var all sync.WaitGroup
	first := make(chan error, 1)
	all.Go(func() { first <- m.Compile(code) })
	<-began
	var ready sync.WaitGroup
	for range 8 {
		ready.Add(1)
		all.Go(func() {
			ready.Done()
			if o, err := m.Run(code, execute, newWorld()); err != nil || o.End != vm.Returned {
				t.Errorf("%v %s, %v", o.End, o.Detail, err)
			}
		})
	}
	ready.Wait()
	close(goOn)
	all.Wait()
	if err := <-first; err == nil || !strings.Contains(err.Error(), "a disk that fails") {
		t.Errorf("the call whose code could not be loaded: %v", err)
	}
	if n := loads.Load(); n != 2 {
		t.Errorf("the code was loaded %d times, want once that fails and once", n)
	}
}

// TestNothingIsCompiledTwice: what has been compiled stays on disk, however much that is and
// whatever becomes of it in memory, for this machine and those after it.
func TestNothingIsCompiledTwice(t *testing.T) {
	dir := t.TempDir()
	var codes []vm.Code
	var loads []*int
	for i := range 12 {
		code, n := counted(codeOf(t, source(fmt.Sprintf("(drop (i32.const %d)) (local.get $msg)", i), "unreachable")))
		codes, loads = append(codes, code), append(loads, n)
	}
	for range 2 {
		m := newMachine(t, vm.Config{Dir: dir, CacheBytes: 1})
		for range 2 {
			for i, code := range codes {
				if o, err := m.Run(code, execute, newWorld()); err != nil || o.End != vm.Returned {
					t.Fatalf("%v %s, %v", o.End, o.Detail, err)
				}
				if *loads[i] != 1 {
					t.Fatalf("code %d is compiled %d times", i, *loads[i])
				}
			}
		}
		m.Close()
	}
}

// TestReady: what is on disk is left there; what is not is compiled, and in memory where there is no
// disk.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	code, loads := counted(codeOf(t, source("(local.get $msg)", "unreachable")))
	for i, c := range []struct {
		dir  string
		has  bool
		want int
	}{{dir, true, 1}, {dir, false, 1}, {"", true, 2}} {
		m := newMachine(t, vm.Config{Dir: c.dir})
		if err := m.Ready(code); err != nil || m.Has(code.ID) != c.has || *loads != c.want {
			t.Errorf("%d: it is in memory: %v, compiled %d times, %v", i, m.Has(code.ID), *loads, err)
		}
		m.Close()
		if err := m.Ready(code); c.dir == "" && !errors.Is(err, vm.ErrClosed) {
			t.Errorf("%d: after the end: %v", i, err)
		}
	}
}

// TestDamageOnDiskIsFound: compiled code that a disk has lost, cut short or changed is compiled anew when it is looked
// at, once, and is there for the call; what is whole is left, and without a disk there is nothing to look at.
func TestDamageOnDiskIsFound(t *testing.T) {
	dir := t.TempDir()
	code, loads := counted(codeOf(t, source("(local.get $msg)", "unreachable")))
	if err := newMachine(t, vm.Config{Dir: dir}).Compile(code); err != nil || *loads != 1 {
		t.Fatal(err, *loads)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.native"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(whole)
	changed[len(changed)/2]++
	for i, c := range []struct {
		content []byte
		want    int
	}{{whole, 0}, {whole[:len(whole)-1], 1}, {whole[:32], 1}, {nil, 1}, {changed, 1}} {
		if err := os.WriteFile(names[0], c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		m := newMachine(t, vm.Config{Dir: dir})
		before := *loads
		for range 2 {
			if err := errors.Join(m.Ready(code), m.Check(code)); err != nil || *loads-before != c.want {
				t.Errorf("%d: compiled %d times, want %d; %v", i, *loads-before, c.want, err)
			}
		}
		if o, err := m.Run(code, execute, newWorld()); err != nil || o.End != vm.Returned || *loads-before != c.want {
			t.Errorf("%d: the call has compiled it: %d times in all, %v", i, *loads-before, err)
		}
		if err := os.Remove(names[0]); err != nil {
			t.Fatal(err)
		}
		if err := m.Check(code); err != nil || *loads-before != c.want+1 {
			t.Errorf("%d: gone while it is in memory: compiled %d times, %v", i, *loads-before, err)
		}
		m.Close()
		if err := m.Check(code); !errors.Is(err, vm.ErrClosed) {
			t.Errorf("%d: after the end: %v", i, err)
		}
	}
	before := *loads
	if err := newMachine(t, vm.Config{}).Check(code); err != nil || *loads != before {
		t.Errorf("without a disk: compiled %d times, %v", *loads-before, err)
	}
}

// TestWhoDoesNotPayKeepsNothing: what calls for which nobody pays have had loaded is kept beside, a little
// of it; of what is kept for others nothing goes for it, and nothing stays longer because of it.
func TestWhoDoesNotPayKeepsNothing(t *testing.T) {
	const room = 4*vm.ModuleBytes - 1 // three of these modules
	m := newMachine(t, vm.Config{CacheBytes: room, AskedBytes: room})
	var codes []vm.Code
	for i := range 12 {
		codes = append(codes, codeOf(t, source(fmt.Sprintf("(drop (i32.const %d)) (local.get $msg)", i), "unreachable")))
	}
	run := func(unpaid bool, codes ...vm.Code) {
		t.Helper()
		call := execute
		call.Unpaid = unpaid
		for _, code := range codes {
			if o, err := m.Run(code, call, newWorld()); err != nil || o.End != vm.Returned {
				t.Fatalf("%v %s, %v", o.End, o.Detail, err)
			}
		}
	}
	expect := func(why string, kept ...int) {
		t.Helper()
		for i, code := range codes {
			if m.Has(code.ID) != slices.Contains(kept, i) {
				t.Errorf("%s: code %d is in memory: %v", why, i, m.Has(code.ID))
			}
		}
	}
	run(false, codes[:3]...)
	run(true, codes[3:]...)
	expect("many are asked", 0, 1, 2, 9, 10, 11)
	run(true, codes[0])
	run(false, codes[3])
	expect("asking for the oldest does not keep it", 1, 2, 3, 9, 10, 11)
	run(false, codes[9])
	expect("what was asked for is called", 2, 3, 9, 10, 11)
	run(true, codes[4], codes[5])
	expect("what was asked for first goes, of what was", 2, 3, 9, 11, 4, 5)
	run(true, codes[11], codes[6])
	expect("and what was asked for last stays", 2, 3, 9, 11, 5, 6)
}

// TestSparseDataStaysSmall: native code is not as large as the memory that a module's data
// are spread over.
func TestSparseDataStaysSmall(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(source("(local.get $msg)", "unreachable"), `(memory (export "memory") 2)`, `(memory (export "memory") 512) (data (i32.const 16) "a") (data (i32.const 16777214) "a")`, 1)
	if err := newMachine(t, vm.Config{Dir: dir}).Compile(codeOf(t, text)); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.native"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if info, err := os.Stat(names[0]); err != nil || info.Size() > 1<<20 {
		t.Errorf("%d bytes are kept, %v", info.Size(), err)
	}
}

// counted is code that counts how often it is loaded, to be compiled.
func counted(code vm.Code) (vm.Code, *int) {
	loads, load := new(int), code.Load
	code.Load = func() (*meter.Module, error) {
		*loads++
		return load()
	}
	return code, loads
}

// TestAnotherMaker: what was compiled of another version's rewriting, by another release
// of the engine, for another processor, or was changed afterwards in another way, is not run.
func TestAnotherMaker(t *testing.T) {
	dir := t.TempDir()
	code, loads := counted(codeOf(t, source("(local.get $msg)", "unreachable")))
	for _, c := range []struct {
		pass, image byte
		engine      string
		want        int
	}{
		{meter.Version - 1, vm.ImageVersion, vm.EngineVersion, 1},
		{meter.Version - 1, vm.ImageVersion, vm.EngineVersion, 1},
		{meter.Version, vm.ImageVersion - 1, vm.EngineVersion, 2},
		{meter.Version, vm.ImageVersion, "44.0.1", 3},
		{meter.Version, vm.ImageVersion, vm.EngineVersion, 4},
		{meter.Version, vm.ImageVersion, vm.EngineVersion, 4},
	} {
		m := opened(t)(vm.NewMadeBy(vm.Config{Dir: dir}, c.pass, c.image, c.engine))
		if err := m.Compile(code); err != nil || *loads != c.want {
			t.Errorf("machine of %+v: loaded %d times; %v", c, *loads, err)
		}
	}
	m := newMachine(t, vm.Config{Dir: dir}) // which is the last by itself
	if err := m.Compile(code); err != nil || *loads != 4 {
		t.Errorf("loaded %d times, %v", *loads, err)
	}
	another := opened(t)(vm.NewPortable(vm.Config{Dir: dir})) // as if of another processor
	if err := another.Compile(code); err != nil || *loads != 5 {
		t.Errorf("for another processor: loaded %d times, %v", *loads, err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
		t.Errorf("what others made is left: %v, %v", names, err)
	}
}

// TestEngineVersion: the version that native code is kept under is the one that is linked.
func TestEngineVersion(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(headers(t), "wasmtime.h"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^#define WASMTIME_VERSION "(.*)"$`).FindSubmatch(header)
	if found == nil || string(found[1]) != vm.EngineVersion {
		t.Errorf("wasmtime is %q, the machine has it for %s", found, vm.EngineVersion)
	}
}

// TestDiskThatFails: a directory that can be neither read nor written is no fault. The
// code is compiled, and kept in memory.
func TestDiskThatFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(dir, "whole")
	code, loads := counted(codeOf(t, source("(local.get $msg)", "unreachable")))
	runs := func(dir string, want int) {
		t.Helper()
		m := newMachine(t, vm.Config{Dir: dir})
		for range 2 {
			if o, err := m.Run(code, execute, newWorld()); err != nil || o.End != vm.Returned || *loads != want {
				t.Errorf("%v %s, %v; loaded %d times, want %d", o.End, o.Detail, err, *loads, want)
			}
		}
	}
	runs(file, 1)
	runs(filepath.Join(file, "deeper"), 2)
	runs(whole, 3)
	names, err := filepath.Glob(filepath.Join(whole, "*.native"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	// A directory where the file was can be neither read nor replaced.
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(names[0], "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	runs(whole, 4)
	left, err := os.ReadDir(whole)
	if err != nil || len(left) != 1 {
		t.Errorf("a file that could not be kept is left: %v, %v", left, err)
	}
}

// TestUselessFilesGo: what was being written when the node went down is removed, and what no
// machine like this has made.
func TestUselessFilesGo(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"123.new", "other", "456.native", "456.0123456789abcdef.native"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newMachine(t, vm.Config{Dir: dir})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("%v, %v", left, err)
	}
}
