package executor

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Mode says where a program's clocks and randomness come from.
type Mode uint8

const (
	// ModeDeterministic gives every replica the same clocks and randomness.
	// Sleeping takes no time, it only moves the clocks.
	ModeDeterministic Mode = iota
	// ModeLive gives the machine's clocks and randomness.
	ModeLive
)

// Limits are the bounds of one run. All must be positive.
type Limits struct {
	// MemoryBytes bounds linear memory. Growth beyond it is refused, which
	// the program sees as the failure of memory.grow.
	MemoryBytes uint64
	// Fuel bounds work: one unit a WebAssembly instruction, for those that
	// move many bytes half a unit a byte, and for host calls what the table in
	// wasi.go says; see FuelPerMillisecond. At most MaxFuel.
	Fuel uint64
	// WallTime bounds the time from the program's start to its end.
	WallTime time.Duration
	// OutputBytes bounds what /out holds at any time.
	OutputBytes uint64
	// OutputFiles bounds the files and directories in /out at any time.
	OutputFiles uint64
	// LogBytes bounds stdout and stderr together.
	LogBytes uint64
}

// MaxFuel is the largest Limits.Fuel: with 2⁶² the engine's signed counter and
// the clocks that count fuel cannot overflow.
const MaxFuel = 1 << 62

// Bounds of what a Task may carry into a program.
const (
	maxArguments     = 1024
	maxArgumentBytes = 64 << 10 // arguments and environment, each, with a NUL after every string
	maxInputEntries  = 1 << 16
)

// ProgramName is a program's argument 0.
const ProgramName = "job"

// Task is one program to run.
type Task struct {
	// Module is a WebAssembly module that exports _start and memory. It must
	// not change any more: the compiler may read it after Run has returned.
	Module []byte
	// ID is a digest of Module by which compiled code is found again; the same
	// bytes always have the same one. Zero: Run hashes Module.
	ID crypto.Digest
	// Load returns the module if Module is nil and no compiled code is kept for
	// ID. Its error is one of Run.
	Load func() ([]byte, error)
	Args []string // after argument 0, which is ProgramName
	Env  []string // NAME=value; nothing is inherited
	Mode Mode
	// Seed is the whole randomness of ModeDeterministic. Replicas of one
	// order share it.
	Seed crypto.Digest
	// InputDir is seen as /in: regular files and directories only, at most
	// 65,536 of them, unchanged while the program runs. Empty means that /in
	// is empty.
	InputDir string
	// OutputDir is an existing empty directory that receives /out. While the
	// program runs (and after a crash of this process) it holds a directory
	// .staging-*.
	OutputDir string
	Limits    Limits
	// Digest asks for Outcome.Memory, which takes time after the run.
	Digest bool
	// Stdout and Stderr receive what the program writes, as it writes it. Nil
	// discards (and still counts).
	Stdout, Stderr io.Writer
}

// check refuses a task that its caller built wrongly.
func (t *Task) check() error {
	if t.Mode > ModeLive {
		return fmt.Errorf("executor: mode %d is unknown", t.Mode)
	}
	if t.OutputDir == "" {
		return errors.New("executor: no output directory")
	}
	l := t.Limits
	for _, limit := range []struct {
		name  string
		value uint64
		most  uint64
	}{
		{"memory_bytes", l.MemoryBytes, 1 << 32},
		{"fuel", l.Fuel, MaxFuel},
		{"wall_time", uint64(max(l.WallTime, 0)), 1 << 62},
		{"output_bytes", l.OutputBytes, 1 << 48},
		{"output_files", l.OutputFiles, 1 << 20},
		{"log_bytes", l.LogBytes, 1 << 40},
	} {
		if limit.value == 0 || limit.value > limit.most {
			return fmt.Errorf("executor: limit %s is %d, want 1 to %d", limit.name, limit.value, limit.most)
		}
	}
	return nil
}

// checkStrings refuses arguments or environment that a program cannot be given.
func (t *Task) checkStrings() error {
	if err := checkVector("args", t.Args, len(ProgramName)+1); err != nil {
		return err
	}
	for i, v := range t.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return refusef("env[%d] is not NAME=value", i)
		}
	}
	return checkVector("env", t.Env, 0)
}

func checkVector(field string, list []string, total int) error {
	if len(list) > maxArguments {
		return refusef("%s has %d elements, limit %d", field, len(list), maxArguments)
	}
	for i, s := range list {
		if strings.ContainsRune(s, 0) {
			return refusef("%s[%d] contains a NUL", field, i)
		}
		total += len(s) + 1
	}
	if total > maxArgumentBytes {
		return refusef("%s has %d bytes, limit %d", field, total, maxArgumentBytes)
	}
	return nil
}
