package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// process is one running program as its host sees it. It belongs to the
// goroutine of one Run.
type process struct {
	mode   Mode
	digest bool
	ctx    context.Context // ends with the caller or at Limits.WallTime
	limits Limits
	args   []string // argument 0 included
	env    []string
	clock  clock
	random io.Reader

	store  *wasmtime.Store
	memory *wasmtime.Memory
	caller *wasmtime.Caller // during a host call
	cost   uint64           // of the running host call

	mounts  [2]*mount // /in and /out
	handles []*handle
	logged  uint64
	asleep  time.Duration // of real time, in host calls
	usage   Usage

	// The first of these to be set ends the program.
	status   Status
	exitCode uint32
	detail   string
	fault    error

	overflowed bool          // its call stack was exhausted
	left       crypto.Digest // Outcome.Memory
}

// errWallTime is the cause of a context that ended by Limits.WallTime.
var errWallTime = errors.New("executor: wall time used up")

// end notes how the program ends. The first reason stands.
func (p *process) end(status Status, detail string) {
	if p.status == 0 {
		p.status, p.detail = status, detail
	}
}

func (p *process) noteFault(err error) {
	if err != nil && p.fault == nil {
		p.fault = err
	}
}

// interrupted ends the program because its context did.
func (p *process) interrupted() {
	if errors.Is(context.Cause(p.ctx), errWallTime) {
		p.end(StatusTimedOut, fmt.Sprintf("limit wall_time of %v reached", p.limits.WallTime))
		return
	}
	p.end(StatusCancelled, context.Cause(p.ctx).Error())
}

// clock is where a process reads the time.
type clock interface {
	now() uint64          // ns since 1970
	elapsed() uint64      // ns since the process started
	sleep(ns uint64) bool // false when the process was interrupted
}

// virtualEpochNanos is when every deterministic program starts: 2026-01-01T00:00:00Z.
const virtualEpochNanos = 1_767_225_600_000_000_000

// virtualClock advances with the fuel used, and by what is slept.
type virtualClock struct {
	p     *process
	slept uint64
}

const maxVirtualSleep = 1 << 61

func (c *virtualClock) elapsed() uint64 { return c.p.fuelUsed()/fuelPerNano + c.slept }
func (c *virtualClock) now() uint64     { return virtualEpochNanos + c.elapsed() }

func (c *virtualClock) sleep(ns uint64) bool {
	c.slept = min(c.slept+min(ns, maxVirtualSleep), maxVirtualSleep)
	return true
}

// liveClock is the machine's.
type liveClock struct {
	p     *process
	start time.Time
}

func (c *liveClock) elapsed() uint64 { return uint64(time.Since(c.start)) }
func (c *liveClock) now() uint64     { return uint64(time.Now().UnixNano()) }

func (c *liveClock) sleep(ns uint64) bool {
	timer := time.NewTimer(time.Duration(min(ns, 1<<62)))
	defer timer.Stop()
	asleep := time.Now()
	defer func() { c.p.asleep += time.Since(asleep) }()
	select {
	case <-timer.C:
		return true
	case <-c.p.ctx.Done():
		return false
	}
}
