package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// maxCompiling is how many blocks' code is compiled, or waits for that.
const maxCompiling = 16

// compiler compiles the code of contracts that a block has stored, before it is callable:
// so no vote waits for it. What it leaves out is compiled when it is first called.
type compiler struct {
	vm      *vm.Machine // nil: none
	work    sync.WaitGroup
	waiting atomic.Int32 // blocks
	turn    sync.Mutex   // one block at a time
	fault   func(error) error
}

// begin compiles what a block has stored, in a goroutine of its own, from a state that it
// closes in the end.
func (c *compiler) begin(receipts *chain.BlockReceipts, open func() (closableState, error)) error {
	stored := storedBy(receipts)
	if len(stored) == 0 || c.vm == nil {
		return nil
	}
	if c.waiting.Add(1) > maxCompiling {
		c.waiting.Add(-1)
		return nil
	}
	snapshot, err := open()
	if err != nil {
		c.waiting.Add(-1)
		return err
	}
	c.work.Go(func() {
		defer c.waiting.Add(-1)
		c.turn.Lock()
		defer c.turn.Unlock()
		if err := errors.Join(c.compile(stored, snapshot), snapshot.Close()); err != nil {
			_ = c.fault(fmt.Errorf("compiling contracts: %w", err)) // it stops the node
		}
	})
	return nil
}

// compile compiles some codes; a fault of the store becomes an error.
func (c *compiler) compile(stored []uint64, r state.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			fault, isFault := p.(*state.Fault)
			if !isFault {
				panic(p)
			}
			err = fault
		}
	}()
	for _, id := range stored {
		if code, ok := contract.CodeOf(r, id); ok {
			if err := c.vm.Compile(code.Program(r)); err != nil {
				return err
			}
		}
	}
	return nil
}

// storedBy returns the numbers of the codes that a block has stored.
func storedBy(receipts *chain.BlockReceipts) (codes []uint64) {
	for i := range receipts.Txs {
		for _, e := range receipts.Txs[i].Events {
			if stored, ok := e.(chain.CodeStored); ok {
				codes = append(codes, uint64(stored.Code))
			}
		}
	}
	return codes
}
