package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// output runs a command in a directory.
func output(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

// headers is where wasmtime's are.
func headers(t testing.TB) string {
	t.Helper()
	return filepath.Join(output(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bytecodealliance/wasmtime-go/v44"), "build", "include")
}

// TestDeclarations: what native.h says of wasmtime's C interface is what its own
// headers say. A compiler that reads both refuses what differs.
func TestDeclarations(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const same = `
#include <wasmtime.h>
#include "native.h"
_Static_assert(sizeof(wasmtime_func_t) == FUNC_BYTES, "");
_Static_assert(sizeof(wasmtime_instance_t) == INSTANCE_BYTES, "");
_Static_assert(sizeof(wasmtime_memory_t) == MEMORY_BYTES, "");
_Static_assert(sizeof(wasmtime_global_t) == GLOBAL_BYTES, "");
_Static_assert(sizeof(wasmtime_extern_t) == EXTERN_BYTES, "");
_Static_assert(sizeof(wasmtime_val_t) == VAL_BYTES, "");
_Static_assert(sizeof(wasmtime_val_raw_t) == RAW_BYTES, "");
_Static_assert(sizeof(wasm_byte_vec_t) == VECTOR_BYTES && sizeof(wasm_valtype_vec_t) == VECTOR_BYTES, "");
_Static_assert(offsetof(wasm_byte_vec_t, data) == VECTOR_BYTES / 2 && offsetof(wasm_valtype_vec_t, data) == VECTOR_BYTES / 2, "");
_Static_assert(offsetof(wasmtime_extern_t, of) == UNION_OFFSET && offsetof(wasmtime_val_t, of) == UNION_OFFSET, "");
_Static_assert(sizeof(wasmtime_linear_memory_t) == LINEAR_BYTES && sizeof(wasmtime_memory_creator_t) == CREATOR_BYTES, "");
_Static_assert(offsetof(wasmtime_linear_memory_t, get_memory) == 8 && offsetof(wasmtime_linear_memory_t, grow_memory) == 16, "");
_Static_assert(offsetof(wasmtime_linear_memory_t, finalizer) == 24 && offsetof(wasmtime_memory_creator_t, new_memory) == 8, "");
_Static_assert(sizeof(wasmtime_extern_kind_t) == 1 && sizeof(wasmtime_valkind_t) == 1 && sizeof(wasmtime_trap_code_t) == 1, "");
_Static_assert(WASMTIME_EXTERN_FUNC == KIND_FUNC && WASMTIME_EXTERN_GLOBAL == KIND_GLOBAL && WASMTIME_EXTERN_MEMORY == KIND_MEMORY, "");
_Static_assert(WASMTIME_I32 == KIND_I32 && WASMTIME_I64 == KIND_I64 && WASM_I32 == KIND_I32 && WASM_I64 == KIND_I64, "");
`
	compiles := func(text string) (string, bool) {
		file := filepath.Join(t.TempDir(), "both.c")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		compiler := strings.Fields(output(t, here, "go", "env", "CC"))
		says, err := exec.Command(compiler[0], append(compiler[1:], "-fsyntax-only", "-I"+headers(t), "-I"+here, file)...).CombinedOutput()
		return string(says), err == nil
	}
	if says, ok := compiles(same); !ok {
		t.Error(says)
	}
	if _, ok := compiles(same + "\nvoid wasmtime_store_delete(int);\n"); ok {
		t.Error("a declaration that differs is not refused")
	}
}

// TestImportsInEachOther: an import that gives the contract bytes calls its
// allocate, which may call an import. That ends before the native stack does.
func TestImportsInEachOther(t *testing.T) {
	m := newMachine(t, vm.Config{})
	const first = `(func $allocate (export "allocate") (param $n i32) (result i32) (local $r i32)`
	for _, c := range []struct {
		deep string // how often allocate calls an import in itself
		end  vm.End
	}{{"0", vm.Returned}, {"1", vm.Returned}, {"1000000", vm.Misused}} {
		text := strings.Replace(source("(global.set $deep (i32.const "+c.deep+")) "+key+value+"(call $db_write (i32.const 16) (i32.const 32)) (drop (call $db_read (i32.const 16)))"+msg, "unreachable"),
			first, `(global $deep (mut i32) (i32.const 0)) `+first+`
			(if (global.get $deep) (then (global.set $deep (i32.sub (global.get $deep) (i32.const 1))) (drop (call $db_read (i32.const 16)))))`, 1)
		call := execute
		call.Points = 1 << 40
		o, err := m.Run(codeOf(t, text), call, newWorld())
		if err != nil || o.End != c.end {
			t.Errorf("%s times: %v %s, %v; want %v", c.deep, o.End, o.Detail, err, c.end)
		}
	}
}
