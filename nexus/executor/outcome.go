package executor

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Status says how a workload ended.
type Status uint8

// The zero Status is no status. Names are what String prints and never change.
const (
	// StatusOK: the program returned, or exited with code 0.
	StatusOK Status = iota + 1
	// StatusExited: the program exited with a code other than 0.
	StatusExited
	// StatusTrapped: the program broke a rule of its machine (unreachable
	// code, an access out of bounds, division by zero, an exhausted stack).
	StatusTrapped
	// StatusOutOfFuel: Limits.Fuel was used up.
	StatusOutOfFuel
	// StatusOutOfMemory: memory beyond Limits.MemoryBytes was refused, and
	// the program then failed (or never could start with less).
	StatusOutOfMemory
	// StatusTimedOut: Limits.WallTime passed.
	StatusTimedOut
	// StatusOutputLimit: a limit on output bytes, output files or log bytes
	// was reached. Detail names it.
	StatusOutputLimit
	// StatusCancelled: the caller's context ended.
	StatusCancelled
	// StatusRefused: the workload never started, because it is not one that
	// this executor runs. Detail names the rule.
	StatusRefused
	// StatusOutOfProcesses: a container's limit of processes was reached, and
	// it then failed, or went on and on.
	StatusOutOfProcesses
)

// String returns the status in lower case with underscores.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusExited:
		return "exited"
	case StatusTrapped:
		return "trapped"
	case StatusOutOfFuel:
		return "out_of_fuel"
	case StatusOutOfMemory:
		return "out_of_memory"
	case StatusTimedOut:
		return "timed_out"
	case StatusOutputLimit:
		return "output_limit"
	case StatusCancelled:
		return "cancelled"
	case StatusRefused:
		return "refused"
	case StatusOutOfProcesses:
		return "out_of_processes"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Ended reports whether the program came to an end of its own, so that its
// output stands.
func (s Status) Ended() bool { return s == StatusOK || s == StatusExited }

// Usage is what a workload used, whatever its status.
//
// Fuel is exact, and equal on every replica, whenever the program ended by
// itself. The engine writes its count down at calls, returns and unreachable;
// so after another trap the instructions since the last of these are missing
// (the same ones everywhere), and after StatusTimedOut and StatusCancelled,
// which no replica can repeat, Fuel is at least FuelPerMillisecond for each
// millisecond that the program ran without sleeping.
type Usage struct {
	Fuel            uint64 // instructions and host work, see Limits.Fuel
	PeakMemoryBytes uint64 // linear memory, which never shrinks; of a container all memory, files in /out and /tmp included
	OutputBytes     uint64 // the most that /out held at any time
	OutputFiles     uint64 // the most files and directories in /out at any time
	LogBytes        uint64 // written to stdout and stderr together
	WallMillis      uint64 // from the start of the program to its end, rounded up
	CPUMillis       uint64 // of a container: processor time of all its processes
	IOBytes         uint64 // of a container: read from and written to disks
}

// File is one regular file of /out.
type File struct {
	Path  string // relative to OutputDir, slashes, no "." or ".." element
	Bytes uint64
}

// Outcome is how a workload ended and what it used.
type Outcome struct {
	Status   Status
	ExitCode uint32 // the program's own, with StatusExited
	Detail   string // one line for people, at most 512 bytes; not part of a result
	Usage    Usage
	Memory   crypto.Digest // in ModeDeterministic, what the program left in its memory; zero: that is no result
	Files    []File        // ascending by Path; empty unless Status.Ended()
}

const maxDetail = 512

func clip(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	return s[:maxDetail-3] + "..."
}

// refusal is why a workload is not run: a sentence that names the rule and the
// value that broke it.
type refusal struct {
	reason string
	spent  time.Duration // by this machine, to find it out
}

func (r *refusal) Error() string { return r.reason }

func refusef(format string, args ...any) error {
	return &refusal{reason: fmt.Sprintf(format, args...)}
}
