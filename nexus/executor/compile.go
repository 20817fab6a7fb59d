package executor

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// stackBytes bounds the call stack of a program. Threads of a process with an
// unlimited stack have 2 MiB, of which the host needs some.
const stackBytes = 1 << 20

// maxCompilations bounds how many modules are compiled at once, each on all
// cores.
const maxCompilations = 2

// newEngine returns an engine for the one dialect that this executor runs:
// WebAssembly 2.0 with canonical NaNs, counting fuel, interruptible. Compiled
// code may move only between engines made here.
func newEngine() *wasmtime.Engine {
	c := wasmtime.NewConfig()
	c.SetConsumeFuel(true)
	c.SetEpochInterruption(true)
	c.SetCraneliftNanCanonicalization(true)
	c.SetCraneliftOptLevel(wasmtime.OptLevelSpeed)
	c.SetMaxWasmStack(stackBytes)
	c.SetParallelCompilation(true)
	c.SetNativeUnwindInfo(false)
	c.SetWasmThreads(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmMemory64(false)
	c.SetWasmTailCall(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetGCSupport(false)
	c.SetWasmWideArithmetic(false)
	c.SetWasmComponentModel(false)
	return wasmtime.NewEngineWithConfig(c)
}

// artifact is a module ready to run: native code in the engine's serialized
// form. It never leaves the process.
type artifact struct {
	digest         crypto.Digest // of the module
	code           []byte
	minMemoryBytes uint64
}

// compiler turns modules into artifacts and keeps the recently used ones.
type compiler struct {
	config Config
	ctx    context.Context // of compilations; ends with close
	stop   context.CancelCauseFunc
	slots  chan struct{} // one for each compilation that runs
	wait   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	entries map[crypto.Digest]*entry
	recent  *list.List // of *entry that are done, the most recently used first
	bytes   uint64     // of the code in recent
}

// entry is one module being compiled, or compiled.
type entry struct {
	digest  crypto.Digest
	begun   chan struct{} // closed once the compiler has a slot for it
	done    chan struct{} // closed once artifact or err is set
	place   *list.Element
	product artifact
	err     error // a *refusal, or a failure of the engine
}

var (
	errClosed      = errors.New("executor: closed")
	errCompileTime = errors.New("executor: compile time used up")
)

func newCompiler(config Config) *compiler {
	ctx, stop := context.WithCancelCause(context.Background())
	return &compiler{
		config: config, ctx: ctx, stop: stop,
		slots:   make(chan struct{}, maxCompilations),
		entries: map[crypto.Digest]*entry{},
		recent:  list.New(),
	}
}

// close ends the compilations of helpers, and waits for those that cannot be
// ended.
func (c *compiler) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop(errClosed)
	c.wait.Wait()
}

// artifact compiles a module, or finds it compiled. Modules that are asked for
// twice at once are compiled once. The error is the context's cause,
// errCompileTime, a *refusal, or the engine's.
func (c *compiler) artifact(ctx context.Context, task *Task) (artifact, error) {
	e, err := c.find(task)
	if err != nil {
		return artifact{}, err
	}
	// The time that others' modules take is not this one's.
	begun, late := e.begun, (<-chan time.Time)(nil)
	for {
		select {
		case <-begun:
			timer := time.NewTimer(c.config.CompileTime)
			defer timer.Stop()
			begun, late = nil, timer.C
		case <-e.done:
			return e.product, e.err
		case <-ctx.Done():
			return artifact{}, context.Cause(ctx)
		case <-late:
			return artifact{}, errCompileTime
		}
	}
}

// find returns the entry of a task's module, which is read only if there is
// none or it is needed to tell which.
func (c *compiler) find(task *Task) (*entry, error) {
	id, wasm := task.ID, task.Module
	if wasm == nil && task.Load != nil {
		if e := c.known(id); e != nil {
			return e, nil
		}
		var err error
		if wasm, err = task.Load(); err != nil {
			return nil, fmt.Errorf("executor: reading the module: %w", err)
		}
	}
	if err := checkHeader(wasm, c.config.ModuleBytes); err != nil {
		return nil, err
	}
	if id.IsZero() {
		id = crypto.DomainBlob.Hash(wasm)
	}
	return c.entry(id, wasm)
}

// known returns a module's entry, or nil.
func (c *compiler) known(digest crypto.Digest) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[digest]
	if e != nil && e.place != nil {
		c.recent.MoveToFront(e.place)
	}
	return e
}

// entry finds a module's entry, or begins to compile it.
func (c *compiler) entry(digest crypto.Digest, wasm []byte) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if e, ok := c.entries[digest]; ok {
		if e.place != nil {
			c.recent.MoveToFront(e.place)
		}
		return e, nil
	}
	e := &entry{digest: digest, begun: make(chan struct{}), done: make(chan struct{})}
	c.entries[digest] = e
	c.wait.Go(func() {
		c.slots <- struct{}{}
		close(e.begun)
		e.product, e.err = c.compile(wasm)
		e.product.digest = e.digest
		<-c.slots
		c.keep(e)
		close(e.done)
	})
	return e, nil
}

// keep puts a compiled module into the cache and drops what no longer fits. A
// module that was refused is forgotten at once.
func (c *compiler) keep(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.err != nil {
		delete(c.entries, e.digest)
		return
	}
	e.place = c.recent.PushFront(e)
	c.bytes += uint64(len(e.product.code))
	for c.bytes > c.config.CacheBytes {
		old := c.recent.Remove(c.recent.Back()).(*entry)
		delete(c.entries, old.digest)
		c.bytes -= uint64(len(old.product.code))
	}
}

// compile compiles a module here or has a helper do it.
func (c *compiler) compile(wasm []byte) (artifact, error) {
	if err := context.Cause(c.ctx); err != nil {
		return artifact{}, err
	}
	if len(c.config.Compiler) > 0 {
		ctx, cancel := context.WithTimeoutCause(c.ctx, c.config.CompileTime, errCompileTime)
		defer cancel()
		return ask(ctx, c.config.Compiler, wasm, int(c.config.FunctionBytes))
	}
	engine := newEngine()
	defer engine.Close()
	return compile(engine, wasm, int(c.config.FunctionBytes))
}

func compile(engine *wasmtime.Engine, wasm []byte, functionBytes int) (artifact, error) {
	if err := wasmtime.ModuleValidate(engine, wasm); err != nil {
		return artifact{}, refusef("module is invalid: %v", err)
	}
	s, err := screen(wasm, functionBytes)
	if err != nil {
		return artifact{}, err
	}
	module, err := wasmtime.NewModule(engine, s.wasm)
	if err != nil {
		return artifact{}, refusef("module does not compile: %v", err)
	}
	defer module.Close()
	if err := checkTypes(module); err != nil {
		return artifact{}, err
	}
	code, err := module.Serialize()
	if err != nil {
		return artifact{}, fmt.Errorf("executor: keeping compiled code: %w", err)
	}
	return artifact{code: code, minMemoryBytes: s.minMemoryBytes}, nil
}

func checkTypes(module *wasmtime.Module) error {
	for _, im := range module.Imports() {
		if err := checkImport(*im.Name(), im.Type().FuncType()); err != nil {
			return err
		}
	}
	for _, ex := range module.Exports() {
		if ex.Name() != "_start" {
			continue
		}
		if ty := ex.Type().FuncType(); len(ty.Params())+len(ty.Results()) > 0 {
			return refusef("function _start has parameters or results")
		}
	}
	return nil
}
