package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// TestDiskHasRoomForSome: files are removed, the first that were written first, but not
// the one that was written last, and nothing that is no native code.
func TestDiskHasRoomForSome(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	files := func() (names []string, bytes uint64) {
		found, err := filepath.Glob(filepath.Join(dir, "*.native"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			bytes += uint64(info.Size())
		}
		return found, bytes
	}
	var room uint64
	written := map[string]bool{}
	for i, answer := range []string{"$msg", "$env", "$info"} {
		if err := newMachine(t, vm.Config{Dir: dir, DirBytes: room}).Compile(codeOf(t, source("(local.get "+answer+")", "unreachable"))); err != nil {
			t.Fatal(err)
		}
		names, bytes := files()
		for _, name := range names {
			if !written[name] {
				at := time.Unix(1000, 0) // older than what comes
				if err := os.Chtimes(name, at, at); err != nil {
					t.Fatal(err)
				}
			}
			written[name] = true
		}
		if room = bytes * 2; i == 0 {
			room = bytes + bytes/2 // for one, and not for two
		}
		if i < 2 && len(written) != i+1 {
			t.Fatalf("%d files were written of %d", len(written), i+1)
		}
		if i == 1 && len(names) != 1 {
			t.Errorf("%d files are kept, there is room for one", len(names))
		}
	}
	if names, _ := files(); len(names) != 2 || len(written) != 3 {
		t.Errorf("%d files are kept of %d, there is room for two", len(names), len(written))
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// TestDiskIsLookedAtSeldom: who has counted the files does not go through them at each write,
// of which there may be as many as anybody pays for; who begins anew counts them all.
func TestDiskIsLookedAtSeldom(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.native")
	compile := func(m *vm.Machine, answer string) {
		t.Helper()
		if err := m.Compile(codeOf(t, source("(local.get "+answer+")", "unreachable"))); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, vm.Config{Dir: dir, DirBytes: 64 << 20})
	compile(m, "$msg")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, 1<<30), os.Chtimes(large, time.Unix(1000, 0), time.Unix(1000, 0))); err != nil {
		t.Fatal(err)
	}
	if compile(m, "$env"); !there(large) {
		t.Error("the second write has gone through all files")
	}
	if compile(newMachine(t, vm.Config{Dir: dir, DirBytes: 64 << 20}), "$info"); there(large) {
		t.Error("a new machine has not counted what there was")
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*.native")); err != nil || len(names) != 3 {
		t.Errorf("%d files are kept of 3, %v", len(names), err)
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
// of the engine, or was changed afterwards in another way, is not run.
func TestAnotherMaker(t *testing.T) {
	dir := t.TempDir()
	code, loads := counted(codeOf(t, source("(local.get $msg)", "unreachable")))
	for i, c := range []struct {
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
		m := newMachine(t, vm.Config{Dir: dir})
		if i < 4 { // the last two are what a machine is by itself
			vm.MadeBy(m, c.pass, c.image, c.engine)
		}
		if err := m.Compile(code); err != nil || *loads != c.want {
			t.Errorf("machine %d: loaded %d times, want %d; %v", i, *loads, c.want, err)
		}
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

// TestUnfinishedFilesGo: what was being written when the node went down is removed.
func TestUnfinishedFilesGo(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"123.new", "other", "456.native"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newMachine(t, vm.Config{Dir: dir})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[0].Name() != "456.native" || left[1].Name() != "other" {
		t.Errorf("%v, %v", left, err)
	}
}
