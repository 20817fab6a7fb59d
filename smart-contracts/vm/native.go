package vm

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/cgo"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// wasmtime-go makes engines and modules, compiles and links wasmtime itself. Calls
// go to wasmtime's C interface at once: wasmtime-go's own way takes some fifty
// crossings into C and finalizers for each call, several times what the contract
// takes. Nothing but this file and native.c touches C.

// pointer is what one of wasmtime-go's objects stands for.
func pointer(object any) unsafe.Pointer {
	return reflect.ValueOf(object).Elem().FieldByName("_ptr").UnsafePointer()
}

// threadStack is how many bytes of native stack threads have at least.
func threadStack() uint64 { return uint64(C.native_thread_stack()) }

// keepMemories has the memories of an engine's contracts be used again.
func keepMemories(config *wasmtime.Config) {
	C.native_rooms((*C.wasm_config_t)(pointer(config)))
}

// failed takes a text of native.c's.
func failed(text *C.char) error {
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return errors.New(C.GoString(text))
}

// linker has the imports, for all calls.
type linker struct {
	engine *wasmtime.Engine
	of     *C.wasmtime_linker_t
	names  *C.exports
}

func newLinker(engine *wasmtime.Engine) (*linker, error) {
	l := &linker{engine: engine, of: C.wasmtime_linker_new((*C.wasm_engine_t)(pointer(engine)))}
	l.names = (*C.exports)(C.calloc(1, C.sizeof_exports))
	*l.names = C.exports{
		memory: C.CString("memory"), allocate: C.CString("allocate"), deallocate: C.CString("deallocate"),
		points: C.CString(meter.GlobalPoints), stack: C.CString(meter.GlobalStack), reason: C.CString(meter.GlobalReason),
	}
	for i, call := range meter.HostCalls() {
		bits := map[byte]C.uint8_t{0: 0, wasm.I32: 32, wasm.I64: 64}[call.Result]
		name := C.CString(call.Name)
		err := failed(C.native_import(l.of, name, C.uint8_t(i), C.uint8_t(call.Params), bits))
		C.free(unsafe.Pointer(name))
		if err != nil {
			l.close()
			return nil, fmt.Errorf("vm: linking %s: %w", call.Name, err)
		}
	}
	return l, nil
}

func (l *linker) close() {
	for _, name := range []*C.char{l.names.memory, l.names.allocate, l.names.deallocate, l.names.points, l.names.stack, l.names.reason} {
		C.free(unsafe.Pointer(name))
	}
	C.free(unsafe.Pointer(l.names))
	C.wasmtime_linker_delete(l.of)
}

// linked is a compiled module that is bound to the imports.
type linked struct {
	by     *linker
	module *wasmtime.Module
	of     *C.wasmtime_instance_pre_t
	params map[meter.Entry]int // of the entries that it has
}

// link takes the module over, if it does not fail.
func (l *linker) link(module *wasmtime.Module) (*linked, error) {
	out := &linked{by: l, module: module, params: map[meter.Entry]int{}}
	for _, export := range module.Exports() {
		entry := meter.Entry(export.Name())
		if of := export.Type().FuncType(); of != nil && entry.Known() {
			out.params[entry] = len(of.Params())
		}
	}
	if err := failed(C.native_link(l.of, (*C.wasmtime_module_t)(pointer(module)), &out.of)); err != nil {
		return nil, fmt.Errorf("vm: linking: %w", err)
	}
	return out, nil
}

func (l *linked) close() {
	C.wasmtime_instance_pre_delete(l.of)
	l.module.Close()
}

// native is a call's store and instance.
type native struct {
	of     *C.call
	handle cgo.Handle
}

// begin makes the instance for a call.
func (l *linker) begin(code *linked, r *run) (n native, err error) {
	limits := C.limits{
		memory_bytes: meter.MaxPages * wasm.PageBytes, points: C.int64_t(r.call.Points), stack_bytes: meter.StackBytes,
		ticks: C.uint64_t(r.machine.config.Patience/tick) + 1,
	}
	entry := string(r.call.Entry)
	n.handle = cgo.NewHandle(r)
	n.of = C.native_begin((*C.wasm_engine_t)(pointer(l.engine)), code.of, l.names,
		(*C.char)(unsafe.Pointer(unsafe.StringData(entry))), C.size_t(len(entry)), &limits, C.uintptr_t(n.handle))
	runtime.KeepAlive(entry)
	if err := n.failure(); err != nil {
		n.end()
		return native{}, fmt.Errorf("vm: instantiating: %w", err)
	}
	return n, nil
}

func (n *native) end() {
	if n.of != nil {
		C.native_end(n.of)
		n.handle.Delete()
		n.of = nil
	}
}

func (n *native) failure() error {
	if n.of.failure == nil {
		return nil
	}
	return errors.New(C.GoString(n.of.failure))
}

// memory is the contract's, until it runs again.
func (n *native) memory() []byte { return unsafe.Slice((*byte)(n.of.memory), n.of.size) }

func (n *native) points() int64        { return int64(n.of.points) }
func (n *native) setPoints(left int64) { n.of.points = C.int64_t(left) }

// function is one of the contract's.
type function C.int

// The functions of a contract.
const (
	allocate   function = C.FUNCTION_ALLOCATE
	deallocate function = C.FUNCTION_DEALLOCATE
	entry      function = C.FUNCTION_ENTRY
)

// maxArgs is how many parameters an import has at most.
const maxArgs = C.MAX_ARGS

// came is what a contract's function came to.
type came C.int

// The ways in which a function ends.
const (
	returned came = C.CALL_RETURNED
	stopped  came = C.CALL_STOPPED // by an import
	trapped  came = C.CALL_TRAPPED
	broken   came = C.CALL_FAILED // the engine has failed
)

// do calls one of the contract's functions with at most three arguments.
func (n *native) do(function function, args ...int32) (value int32, ends came) {
	var a [3]C.int32_t
	for i, arg := range args {
		a[i] = C.int32_t(arg)
	}
	ends = came(C.native_call(n.of, C.int(function), a[0], a[1], a[2], C.size_t(len(args))))
	return int32(n.of.value), ends
}

// trap is why the contract's function trapped.
func (n *native) trap() (code wasmtime.TrapCode, reason meter.Reason) {
	return wasmtime.TrapCode(n.of.trap), meter.Reason(n.of.reason)
}

// hypermeshImport runs an import of a call. It reports whether the contract goes on.
//
//export hypermeshImport
func hypermeshImport(c *C.call, number C.uint8_t) C.bool {
	var args [maxArgs]int32
	for i := range args {
		args[i] = int32(c.args[i])
	}
	value, goesOn := cgo.Handle(c.handle).Value().(*run).imported(int(number), args)
	c.value = C.int64_t(value)
	return C.bool(goesOn)
}
