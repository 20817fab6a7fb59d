// Package executor runs one workload under limits and counts what it used.
//
// Wasm is the executor of WebAssembly programs: WASI preview 1 (snapshot 01,
// the interface that wasip1 targets of Go, Rust and C compile to) on wasmtime.
// The preview 1 functions are this package's own, so that limits hold at the
// very write that would break them and a replica sees what every other replica
// sees. Containers is the executor of OCI images, which it unpacks and has an OCI
// runtime run in a sandbox of the kernel's. Kernels is the executor of zk
// kernels: it computes a statement and proves it. All share Status and Usage.
// docs/EXECUTORS.md has the whole, and what an engine behind the same seam keeps.
//
// Invariants:
//
//  1. A program reaches nothing but what its Task names: /in (read only), /out,
//     its arguments and its environment. No network, no host path, no inherited
//     stream, no symbolic or hard link. No name that a program chose reaches the
//     host's file system before the program has ended.
//     A container has a file system and a loopback besides, its own.
//  2. In ModeDeterministic everything a program can observe is a function of
//     (module, arguments, environment, names and bytes of the input, seed):
//     clocks count fuel, randomness is a stream of the seed, directories are
//     sorted, inode numbers and times do not come from the host, NaNs are
//     canonical. So are its outputs and its fuel, to the unit.
//  3. What a program does never becomes an error of Run: it becomes a Status.
//     An error means that the executor or its machine failed, and no result.
//  4. No limit is passed: neither memory, fuel, bytes nor files, also not for
//     the length of one call. Usage never exceeds Limits, but for WallMillis,
//     by the time that an interruption takes.
//  5. /out appears under Task.OutputDir only when the program ended by itself
//     (StatusOK or StatusExited), all of it or, on an error of Run, unusable.
//
// Two statuses depend on the machine and not on the program alone, and so are
// no result that replicas can compare: StatusTimedOut and StatusCancelled. The
// depth at which a call stack is exhausted (StatusTrapped) also depends on the
// processor's architecture.
//
// Failure modes: a full or broken disk under InputDir or OutputDir and an
// engine that cannot reserve address space are errors of Run. Programs run
// inside the calling process: wasmtime's compiler and its generated code are
// trusted to confine them, and a flaw there is a flaw of the process; whoever
// wants a second wall runs the agent's process in one. Compilation cannot be
// interrupted, and small modules can be made that take hours: strangers' modules
// are compiled by a process of their own, which is killed after CompileTime
// (Config.Compiler). Without it a caller whose context ends leaves, the compiler
// finishes into the cache, and Close waits for it.
//
// Concurrency: a Kernels makes one proof at a time, on its caller's goroutine;
// others wait. A Wasm serves any number of Runs at once. Each has a store and
// files of its own, an engine that no other Run uses meanwhile (machine.go), and
// runs on its caller's goroutine. Goroutines: one a
// compilation, of which two work at a time, and for a moment one that
// interrupts a Run whose context ended. Writers given as Stdout and Stderr are
// called from Run's goroutine; a slow one slows its program and nobody else.
//
// It does not choose limits, fetch modules or inputs, compute result digests,
// or price anything; and it caches compiled code in memory only, because code
// read back from disk would have to be trusted like the program that runs it.
package executor
