package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// fueledPortable is fueled, for no processor.
func fueledPortable(t testing.TB) *wasmtime.Engine {
	t.Helper()
	c := dialect()
	if err := c.SetTarget("pulley64"); err != nil {
		t.Fatal(err)
	}
	return wasmtime.NewEngineWithConfig(c)
}

// TestPortableCalls: whatever a contract does, it comes to the same, for the same points, without a
// processor of some sort.
func TestPortableCalls(t *testing.T) {
	native, portable := newMachine(t, vm.Config{}), opened(t)(vm.NewPortable(vm.Config{}))
	for _, c := range behaviours {
		code := codeOf(t, source(c.body, "unreachable"))
		want, err := native.Run(code, execute, newWorld())
		if err != nil {
			t.Fatal(err)
		}
		got, err := portable.Run(code, execute, newWorld())
		if err != nil || got.End != c.end || got.End != want.End || got.Points != want.Points || !bytes.Equal(got.Data, want.Data) || got.Detail != want.Detail {
			t.Errorf("%s: %v for %d points, %q %q, %v; natively %v for %d, %q %q", c.name, got.End, got.Points, got.Data, got.Detail, err, want.End, want.Points, want.Data, want.Detail)
		}
	}
}

// TestPortablePrograms is the same for random programs: results to the bit, memories, points, stack.
func TestPortablePrograms(t *testing.T) {
	native, portable := fueled(), fueledPortable(t)
	defer native.Close()
	defer portable.Close()
	for seed := range uint64(programs / 4) {
		code, params := newProgram(rand.New(rand.NewPCG(seed, 7)), false)
		metered, err := meter.Rewrite(code, meter.WeightsV1())
		if err != nil {
			t.Fatalf("seed %d: %v\n%x", seed, err, code)
		}
		if want, got := runProgram(t, native, metered, params), runProgram(t, portable, metered, params); got != want {
			t.Fatalf("seed %d: %+v without a processor, %+v with it\n%x", seed, got, want, code)
		}
	}
}

// TestWhatOneProcessorRefuses: code that the compiler for this processor refuses runs without it, to
// the same results.
func TestWhatOneProcessorRefuses(t *testing.T) {
	// Blocks of several values are of the dialect, and here not of this processor's compiler.
	const several = "(block (result i32 i32) (i32.const 5) (i32.const 6)) (if (i32.ne (i32.add) (i32.const 11)) (then unreachable)) (local.get $msg)"
	code, loads := counted(codeOf(t, source(several, "unreachable")))
	want, err := newMachine(t, vm.Config{}).Run(code, execute, newWorld())
	if err != nil || want.End != vm.Returned {
		t.Fatal(want, err)
	}
	*loads = 0
	dir := t.TempDir()
	for i := range 2 { // the second has it from disk
		said := new(bytes.Buffer)
		m := opened(t)(vm.NewRefusing(vm.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(said, nil))}))
		if err := m.Compile(code); err != nil || !m.Has(code.ID) {
			t.Fatal(err)
		}
		for range 2 {
			got, err := m.Run(code, execute, newWorld())
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
		if says := strings.Contains(said.String(), "does not compile for this processor") && strings.Contains(said.String(), code.ID.String()); says != (i == 0) {
			t.Errorf("it says %q", said)
		}
		other := codeOf(t, source("(local.get $env)", "unreachable"))
		if got, err := m.Run(other, execute, newWorld()); err != nil || string(got.Data) != "env" {
			t.Errorf("what it compiles: %v, %v", got, err)
		}
	}
	if *loads != 1 {
		t.Errorf("it is compiled %d times by two machines", *loads)
	}
}

// TestRefusedCode: code that nothing compiles is no fault of the node's: its calls fail, for all that
// they were given, and it is not compiled again for each.
func TestRefusedCode(t *testing.T) {
	said := new(bytes.Buffer)
	dir := t.TempDir()
	m := newMachine(t, vm.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(said, nil))})
	id := crypto.DomainBlob.Hash([]byte("it"))
	for name, text := range map[string][]byte{
		"no module":             []byte("(module"),
		"of another type":       {0, 'a', 's', 'm', 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 6, 1, 4, 0, 0x41, 1, 0x0b},
		"a number that is long": {0, 'a', 's', 'm', 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 0x02, 0xc0, 0x7f, 0x01, 0x0b, 0x0b},
	} {
		if err := vm.CompileText(m, id, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(said.String(), "refused by the compiler") || !strings.Contains(said.String(), id.String()) {
			t.Errorf("%s: it says %q", name, said)
		}
		said.Reset()
		loads := 0
		code := vm.Code{ID: id, Load: func() (*meter.Module, error) {
			loads++
			return nil, errors.New("it is compiled again")
		}}
		for i := range 4 {
			if i == 2 { // from now on it is read from disk
				vm.Forget(m, id)
			}
			call := execute
			call.Depth = i % 2
			o, err := m.Run(code, call, newWorld())
			if err != nil || o.End != vm.Refused || o.Points != call.Points || o.Data != nil || loads != 0 {
				t.Errorf("%s: %v for %d points, %v; loaded %d times", name, o.End, o.Points, err, loads)
			}
		}
		vm.Forget(m, id)
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		whole[len(whole)-1] ^= 1 // what was refused is said to have been compiled
		if err := os.WriteFile(files[0], whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if o, err := m.Run(code, execute, newWorld()); err == nil || loads != 1 {
			t.Errorf("%s: after its file was spoilt: %v, %v; loaded %d times", name, o.End, err, loads)
		}
	}
}

// TestWhatIsNoRefusal: what else fails where code is compiled, read and linked is a fault.
func TestWhatIsNoRefusal(t *testing.T) {
	m := newMachine(t, vm.Config{})
	if err := vm.KeepImage(m, crypto.Digest{1}, []byte("no native code")); err == nil || vm.Refuses(err) {
		t.Errorf("what is no native code: %v", err)
	}
	stranger, err := wasmtime.Wat2Wasm(`(module (import "env" "nobody" (func)))`)
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.CompileText(m, crypto.Digest{2}, stranger); err == nil || vm.Refuses(err) || m.Has(crypto.Digest{2}) {
		t.Errorf("an import that is not there: %v", err)
	}
	gone := errors.New("the disk is gone")
	code := vm.Code{ID: crypto.Digest{3}, Load: func() (*meter.Module, error) { return nil, gone }}
	if o, err := m.Run(code, execute, newWorld()); !errors.Is(err, gone) {
		t.Errorf("code that cannot be read: %v, %v", o, err)
	}
	if vm.Refuses(nil) || vm.Refuses(gone) {
		t.Error("nothing, or a disk, is a refusal")
	}
}
