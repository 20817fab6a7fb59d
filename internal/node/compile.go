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
	waiting []due         // in the order of the blocks
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
	c.add(contract.PinPeriod(now), codesOf(receipts)...)
}

// add has some codes compiled, in a period, behind those that wait: numbers are few bytes, and none is left out.
func (c *compiler) add(period uint64, codes ...uint64) {
	if c.vm == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if period > c.period {
		c.period = period
		c.waiting = append(c.waiting, due{period: period})
	}
	for _, code := range codes {
		c.waiting = append(c.waiting, due{code: code})
	}
	if len(c.waiting) == 0 || c.idle != nil || c.stopped {
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
	if c.stopped || len(c.waiting) == 0 {
		close(c.idle)
		c.idle, c.waiting = nil, nil
		return due{}, false
	}
	d, c.waiting = c.waiting[0], c.waiting[1:]
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
	snapshot, err := c.open()
	if err != nil {
		return err
	}
	codes := contract.ByLoad(snapshot)
	head, err := execution.HeadOf(snapshot)
	if err := errors.Join(err, snapshot.Close()); err != nil {
		return err
	}
	c.add(contract.PinPeriod(head.TimeMs), codes...)
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if idle == nil {
		return ctx.Err()
	}
	select {
	case <-idle:
	case <-ctx.Done(): // stop ends the rest
	}
	return ctx.Err()
}

// one compiles code, and has it in memory if it counts as kept there or is pinned. If the machine fails, that is left to who calls it: nobody may ever do so. Code
// that no compiler takes is no failure of it.
func (c *compiler) one(id uint64) (err error) {
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
	if code, ok := contract.CodeOf(snapshot, id); ok {
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
	}
	return nil
}

// codesOf returns the numbers of the codes that a block has stored or pinned.
func codesOf(receipts *chain.BlockReceipts) (codes []uint64) {
	for i := range receipts.Txs {
		for _, e := range receipts.Txs[i].Events {
			if stored, ok := e.(chain.CodeStored); ok {
				codes = append(codes, uint64(stored.Code))
			}
			if pinned, ok := e.(chain.CodePinned); ok {
				codes = append(codes, uint64(pinned.Code))
			}
		}
	}
	return codes
}
