package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	cryptorand "crypto/rand"

	"github.com/bytecodealliance/wasmtime-go/v44"
)

// Config bounds what a Wasm spends on compiling. Zero fields take the value
// in brackets.
type Config struct {
	ModuleBytes   uint64        // largest module [32 MiB]
	FunctionBytes uint64        // largest body of one function [1 MiB]
	CompileTime   time.Duration // how long a Run waits for the compiler [3 min]
	CacheBytes    uint64        // compiled code that is kept [256 MiB]
	// Compiler is the command of a process that runs ServeCompiler, one for
	// each module. Empty: modules are compiled in this process, where nothing
	// ends a compilation; for modules that one trusts.
	Compiler []string
	// Nice is how much the threads that run programs give way to others, 0 to 19.
	Nice int
}

// maxModule is the largest Config.ModuleBytes and Config.FunctionBytes.
const maxModule = 1 << 31

func (c Config) withDefaults() Config {
	if c.ModuleBytes == 0 {
		c.ModuleBytes = 32 << 20
	}
	if c.FunctionBytes == 0 {
		c.FunctionBytes = 1 << 20
	}
	if c.CompileTime == 0 {
		c.CompileTime = 3 * time.Minute
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 256 << 20
	}
	return c
}

func (c Config) check() error {
	switch {
	case c.ModuleBytes > maxModule:
		return fmt.Errorf("executor: module_bytes is %d, at most %d", c.ModuleBytes, uint64(maxModule))
	case c.FunctionBytes > maxModule:
		return fmt.Errorf("executor: function_bytes is %d, at most %d", c.FunctionBytes, uint64(maxModule))
	case c.Nice < 0 || c.Nice > maxNice:
		return fmt.Errorf("executor: nice is %d, want 0 to %d", c.Nice, maxNice)
	case c.CompileTime < 0:
		return fmt.Errorf("executor: compile_time is %v", c.CompileTime)
	}
	return nil
}

// Wasm runs WebAssembly programs. Safe for concurrent use.
type Wasm struct {
	compiler *compiler
	machines *machines
	threads  *threads
}

// NewWasm returns an executor with an empty cache. Close it.
func NewWasm(config Config) (*Wasm, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	return &Wasm{newCompiler(config), newMachines(), newThreads(config.Nice)}, nil
}

// Close waits for compilations that still run and frees the cache. Runs must
// have ended; later ones fail.
func (w *Wasm) Close() {
	w.compiler.close()
	w.machines.close()
	w.threads.close()
}

// Run runs one program to its end, its limits, or the end of ctx. Whatever the
// program does is in the Outcome; an error says that the task was built
// wrongly (no output directory, one that is not empty, a limit of zero) or that
// the executor or its machine failed, and then there is no outcome.
func (w *Wasm) Run(ctx context.Context, task Task) (Outcome, error) {
	if err := task.check(); err != nil {
		return Outcome{}, err
	}
	outcome, err := w.run(ctx, &task)
	if err == nil {
		return outcome, nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return Outcome{Status: StatusRefused, Detail: clip(r.reason), Usage: uncompiled(r.spent, &task.Limits)}, nil
	}
	switch {
	case errors.Is(err, errCompileTime):
		spent := w.compiler.config.CompileTime
		detail := fmt.Sprintf("compiling took longer than %v", spent)
		return Outcome{Status: StatusTimedOut, Detail: detail, Usage: uncompiled(spent, &task.Limits)}, nil
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return Outcome{Status: StatusCancelled, Detail: clip(err.Error())}, nil
	}
	return Outcome{}, err
}

// uncompiled is the usage of a program that never began, because of how long it
// was compiled. The time is the program's: it is what its consumer made this
// machine do.
func uncompiled(spent time.Duration, limits *Limits) Usage {
	spent = min(spent, limits.WallTime)
	return Usage{
		Fuel:       min(uint64(spent)*fuelPerNano, limits.Fuel),
		WallMillis: uint64((spent + time.Millisecond - 1) / time.Millisecond),
	}
}

func (w *Wasm) run(ctx context.Context, task *Task) (outcome Outcome, err error) {
	if err := task.checkStrings(); err != nil {
		return Outcome{}, err
	}
	code, err := w.compiler.artifact(ctx, task)
	if err != nil {
		return Outcome{}, err
	}
	if code.minMemoryBytes > task.Limits.MemoryBytes {
		detail := fmt.Sprintf("module starts with %d bytes of memory, limit memory_bytes %d", code.minMemoryBytes, task.Limits.MemoryBytes)
		return Outcome{Status: StatusOutOfMemory, Detail: detail}, nil
	}
	born := uint64(virtualEpochNanos)
	if task.Mode == ModeLive {
		born = uint64(time.Now().UnixNano())
	}
	in, err := openInput(task.InputDir, virtualEpochNanos)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, in.disk.close()) }()
	out, err := openOutput(task.OutputDir, task.Limits, born)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, out.disk.close()) }()
	p := newProcess(task, in, out)
	if err := w.machines.use(code, func(m *machine, module *wasmtime.Module) error { return p.execute(ctx, m, module, w.threads) }); err != nil {
		return Outcome{}, err
	}
	return p.outcome()
}

func newProcess(task *Task, in, out *mount) *process {
	p := &process{
		mode:   task.Mode,
		digest: task.Digest,
		limits: task.Limits,
		args:   append([]string{ProgramName}, task.Args...),
		env:    task.Env,
		mounts: [2]*mount{in, out},
	}
	p.handles = []*handle{
		{rights: streamRights},
		{rights: streamRights, output: true, stream: task.Stdout},
		{rights: streamRights, output: true, stream: task.Stderr},
		{rights: allRights, node: in.root, preopen: "/in"},
		{rights: allRights, node: out.root, preopen: "/out"},
	}
	in.root.opens, out.root.opens = 1, 1
	switch task.Mode {
	case ModeDeterministic:
		p.clock, p.random = &virtualClock{p: p}, rand.NewChaCha8(task.Seed)
	case ModeLive:
		p.clock, p.random = &liveClock{p: p, start: time.Now()}, cryptorand.Reader
	}
	return p
}

// execute runs the program in a machine that nobody else uses meanwhile, so
// that an interruption reaches it and nobody else.
func (p *process) execute(ctx context.Context, m *machine, module *wasmtime.Module, on *threads) (err error) {
	p.store = wasmtime.NewStore(m.engine)
	defer p.store.Close()
	p.store.Limiter(int64(p.limits.MemoryBytes), maxTableElements, 1, maxTables, 1)
	p.store.SetEpochDeadline(1) // from the engine's epoch as it is now
	if err := p.store.SetFuel(p.limits.Fuel); err != nil {
		return fmt.Errorf("executor: setting fuel: %w", err)
	}
	m.running = p
	defer func() { m.running = nil }()
	started := time.Now()
	timed, cancel := context.WithTimeoutCause(ctx, p.limits.WallTime, errWallTime)
	defer cancel()
	p.ctx = timed
	if timed.Err() != nil { // an interruption need not come in time for a short program
		p.interrupted()
		return nil
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(timed, func() {
		m.engine.IncrementEpoch()
		close(interrupted)
	})
	on.do(func() { err = p.start(m.linker, module) })
	if !stop() {
		<-interrupted
	}
	took := time.Since(started)
	p.usage.WallMillis = uint64((took + time.Millisecond - 1) / time.Millisecond)
	if p.status == StatusTimedOut || p.status == StatusCancelled {
		busy := uint64(took-p.asleep) * fuelPerNano
		p.usage.Fuel = min(max(p.usage.Fuel, busy), p.limits.Fuel)
	}
	if err == nil && p.repeatable() { // after its time was taken: it is the host's
		on.do(func() { p.left, err = memoryDigest(ctx, p.memory.UnsafeData(p.store), digestBytes) })
	}
	return err
}

// start runs the program and notes how it ended and what it used. No code of
// the program runs before its memory is known, see screen.
func (p *process) start(linker *wasmtime.Linker, module *wasmtime.Module) error {
	instance, err := linker.Instantiate(p.store, module)
	if err != nil {
		return p.classify(err, false)
	}
	p.memory = instance.GetExport(p.store, "memory").Memory()
	for _, name := range []string{startExport, "_start"} {
		if f := instance.GetFunc(p.store, name); f != nil && err == nil {
			_, err = f.Call(p.store)
		}
	}
	p.usage.Fuel = p.fuelUsed()
	p.usage.PeakMemoryBytes = uint64(p.memory.DataSize(p.store))
	starved := instance.GetExport(p.store, refusedGlobal).Global().Get(p.store).I32() != 0
	return p.classify(err, starved)
}

// classify turns the end of the program into a status. err is what the engine
// said, starved whether growth of memory was refused before.
func (p *process) classify(err error, starved bool) error {
	if p.fault != nil {
		return p.fault
	}
	if err != nil && p.status == 0 {
		trap, ok := errors.AsType[*wasmtime.Trap](err)
		if !ok {
			return fmt.Errorf("executor: running a module: %w", err)
		}
		p.trapped(trap)
	}
	p.end(StatusOK, "")
	if starved && (p.status == StatusTrapped || p.status == StatusExited) {
		p.status = StatusOutOfMemory
		p.detail = fmt.Sprintf("limit memory_bytes of %d reached, then: %s", p.limits.MemoryBytes, p.ending())
	}
	if p.status == StatusOutOfFuel {
		p.usage.Fuel = p.limits.Fuel
		p.detail = fmt.Sprintf("limit fuel of %d reached", p.limits.Fuel)
	}
	return nil
}

func (p *process) ending() string {
	if p.exitCode != 0 {
		return fmt.Sprintf("exit code %d", p.exitCode)
	}
	return p.detail
}

var trapReasons = map[wasmtime.TrapCode]string{
	wasmtime.StackOverflow:          "call stack exhausted",
	wasmtime.MemoryOutOfBounds:      "memory access out of bounds",
	wasmtime.TableOutOfBounds:       "table access out of bounds",
	wasmtime.IndirectCallToNull:     "indirect call to null",
	wasmtime.BadSignature:           "indirect call of another type",
	wasmtime.IntegerOverflow:        "integer overflow",
	wasmtime.IntegerDivisionByZero:  "integer division by zero",
	wasmtime.BadConversionToInteger: "number does not fit in an integer",
	wasmtime.UnreachableCodeReached: "unreachable code reached",
}

func (p *process) trapped(trap *wasmtime.Trap) {
	code := trap.Code()
	switch {
	case code == nil:
		p.end(StatusTrapped, clip(trap.Message()))
		return
	case *code == wasmtime.OutOfFuel:
		p.end(StatusOutOfFuel, "")
		return
	case *code == wasmtime.Interrupt:
		p.interrupted()
		return
	case *code == wasmtime.StackOverflow:
		p.overflowed = true
	}
	reason, ok := trapReasons[*code]
	if !ok {
		reason = fmt.Sprintf("trap %d", *code)
	}
	if frames := trap.Frames(); len(frames) > 0 {
		if name := frames[0].FuncName(); name != nil {
			reason += " in " + strings.ToValidUTF8(*name, "?")
		}
	}
	p.end(StatusTrapped, clip(reason))
}

// outcome closes what the program left open, and publishes its output if it
// ended by itself.
func (p *process) outcome() (Outcome, error) {
	in, out := p.mounts[0], p.mounts[1]
	for _, h := range p.handles {
		if h != nil {
			p.release(h) // a failure is the mount's fault, read below
		}
	}
	if err := errors.Join(in.fault, out.fault); err != nil {
		return Outcome{}, err
	}
	p.usage.OutputBytes, p.usage.OutputFiles, p.usage.LogBytes = out.peakBytes, out.peakFiles, p.logged
	o := Outcome{Status: p.status, ExitCode: p.exitCode, Detail: p.detail, Usage: p.usage, Memory: p.left}
	if o.Status.Ended() {
		var err error
		if o.Files, err = out.disk.(*outputDisk).publish(out.root, "", nil); err != nil {
			return Outcome{}, err
		}
		slices.SortFunc(o.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	}
	return o, nil
}
