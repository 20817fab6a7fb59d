package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// codeCompiler is the machine, as far as it compiles.
type codeCompiler interface {
	// Compile has code compiled, or read from disk, and kept in memory.
	Compile(code contract.Program) error
	// Ready has it compiled and kept on disk, if it is not.
	Ready(code contract.Program) error
	// Check has it compiled anew if what is on disk is not what was written.
	Check(code contract.Program) error
	// Pin has it in memory until a period of pins begins, beside what is kept otherwise.
	Pin(code contract.Program, until uint64) error
	// Unpin says which of those periods it is.
	Unpin(period uint64)
	Close()
}

// compiler compiles the code of contracts that a block has stored, before it is callable, and
// all that the state lists before the node votes: so no vote waits for it.
type compiler struct {
	vm    codeCompiler // nil: none
	open  func() (closableState, error)
	fault func(error) error
	log   *slog.Logger
	work  sync.WaitGroup

	mu      sync.Mutex
	period  uint64        // of pins, of the last block
	pins    []due         // in the order of the blocks, before all that waits
	waiting []uint64      // codes to be compiled, in the order of the blocks
	idle    chan struct{} // closed when none waits any more, nil then
	stopped bool
}

// due is what is to be done.
type due struct {
	code   uint64 // to be compiled, and pinned
	period uint64 // or, without one, that has begun
}

// begin has compiled, one after the other, what a block of some time has stored, has in memory what it has pinned,
// and lets go what is pinned no more. That waits for what blocks before have pinned: code that stays pinned does not go first.
func (c *compiler) begin(now chain.TimeMs, receipts *chain.BlockReceipts) {
	stored, pinned := codesOf(receipts)
	c.add(contract.PinPeriod(now), stored, pinned)
}

// add has some codes compiled, in a period, behind those that wait: numbers are few bytes, and none is left out. What is
// pinned has been compiled, and does not wait for ten minutes of code: calls of it are free ten blocks later.
func (c *compiler) add(period uint64, stored, pinned []uint64) {
	if c.vm == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if period > c.period {
		c.period = period
		c.pins = append(c.pins, due{period: period})
	}
	for _, code := range pinned {
		c.pins = append(c.pins, due{code: code})
	}
	c.waiting = append(c.waiting, stored...)
	if len(c.pins)+len(c.waiting) == 0 || c.idle != nil || c.stopped {
		return
	}
	c.idle = make(chan struct{})
	c.work.Go(func() {
		for d, ok := c.next(); ok; d, ok = c.next() {
			if d.code == 0 {
				c.vm.Unpin(d.period)
			} else if err := c.one(d.code); err != nil {
				_ = c.fault(fmt.Errorf("compiling code %d of contracts: %w", d.code, err)) // it stops the node
			}
		}
	})
}

func (c *compiler) next() (d due, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped || len(c.pins)+len(c.waiting) == 0:
		close(c.idle)
		c.idle, c.pins, c.waiting = nil, nil, nil
		return due{}, false
	case len(c.pins) > 0:
		d, c.pins = c.pins[0], c.pins[1:]
	default:
		d.code, c.waiting = c.waiting[0], c.waiting[1:]
	}
	return d, true
}

// stop ends what goes on, and begins no more.
func (c *compiler) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.work.Wait()
}

// all has everything compiled that the state lists, and returns when it is, or ctx ends. Most of it
// is on disk, where nobody looks at it, but for a node that has joined, or has a new machine. What counts as kept in
// memory is read, and comes last, and what is pinned is too.
func (c *compiler) all(ctx context.Context) error {
	if c.vm == nil {
		return nil
	}
	var codes []uint64
	var now chain.TimeMs
	err := c.read(func(snapshot state.Reader) (err error) {
		codes = contract.ByLoad(snapshot)
		head, err := execution.HeadOf(snapshot)
		now = head.TimeMs
		return err
	})
	if err != nil {
		return err
	}
	c.add(contract.PinPeriod(now), codes, nil)
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done(): // stop ends the rest
			return ctx.Err()
		}
	}
	c.check(codes)
	return ctx.Err()
}

// check has what is on disk of some codes held to what was written, beside all else: a call of what a disk has lost
// would wait for a compiler. What counts as kept in memory was read.
func (c *compiler) check(codes []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.work.Go(func() {
		for _, id := range codes {
			if c.hasStopped() {
				return
			}
			if err := c.checkOne(id); err != nil {
				_ = c.fault(fmt.Errorf("looking at compiled code %d of contracts: %w", id, err)) // it stops the node
			}
		}
	})
}

func (c *compiler) hasStopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

func (c *compiler) checkOne(id uint64) error {
	return c.read(func(snapshot state.Reader) error {
		code, ok := contract.CodeOf(snapshot, id)
		if !ok || code.InMemory(snapshot).Kept {
			return nil
		}
		if failed := c.vm.Check(code.Program(snapshot)); failed != nil {
			c.log.Error("compiled code of contracts is damaged on disk, and could not be written anew: its first call compiles it", slog.Uint64("code", id), slog.Any("error", failed))
		}
		return nil
	})
}

// one compiles code, and has it in memory if it counts as kept there or is pinned. If the machine fails, that is left to who calls it: nobody may ever do so. Code
// that no compiler takes is no failure of it.
func (c *compiler) one(id uint64) error {
	return c.read(func(snapshot state.Reader) error {
		code, ok := contract.CodeOf(snapshot, id)
		if !ok {
			return nil
		}
		compile, is := c.vm.Ready, code.InMemory(snapshot)
		if is.Kept {
			compile = c.vm.Compile
		}
		program := code.Program(snapshot)
		failed := compile(program)
		if failed == nil {
			failed = c.vm.Pin(program, is.PinnedTo)
		}
		if failed != nil {
			c.log.Error("code of contracts could not be compiled; a call of it would stop this node", slog.Uint64("code", id), slog.Any("error", failed))
		}
		return nil
	})
}

// read has f read the state as it is now. A fault of the store is its error.
func (c *compiler) read(f func(state.Reader) error) (err error) {
	snapshot, err := c.open()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			fault, isFault := p.(*state.Fault)
			if !isFault {
				panic(p)
			}
			err = fault
		}
		err = errors.Join(err, snapshot.Close())
	}()
	return f(snapshot)
}

// codesOf returns the numbers of the codes that a block has stored, and of those that it has pinned.
func codesOf(receipts *chain.BlockReceipts) (stored, pinned []uint64) {
	for i := range receipts.Txs {
		for _, e := range receipts.Txs[i].Events {
			if e, ok := e.(chain.CodeStored); ok {
				stored = append(stored, uint64(e.Code))
			}
			if e, ok := e.(chain.CodePinned); ok {
				pinned = append(pinned, uint64(e.Code))
			}
		}
	}
	return stored, pinned
}
