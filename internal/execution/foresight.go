package execution

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Foresight reads, between blocks, what the queues of the blocks to come will read of the
// disk, so that a reader that remembers has it in memory by then. Nothing depends on it. It is
// for one goroutine; the zero value is ready.
type Foresight struct{ ends settlement.EndsAhead }

// Look reads what is due soon after a state: by as much later than two blocks may be apart. What
// it looked at it does not look at again. It returns the number of entries, of which there are no
// more than a block does.
func (f *Foresight) Look(r state.Reader) (entries int, err error) {
	defer recoverFault(&err)
	head, err := HeadOf(r)
	if err != nil {
		return 0, err
	}
	params, err := ParamsOf(r)
	if err != nil {
		return 0, err
	}
	until := head.TimeMs + chain.TimeMs(2*params.IdleMs)
	return f.ends.Read(r, head.TimeMs, until, maxLeaseEnds, func(keys [][]byte) [][]byte {
		values := make([][]byte, len(keys))
		readAll(keys, func(i int) { values[i], _ = r.Get(keys[i]) })
		return values
	}), nil
}

// readers is how many of several keys are read at one time. What a block reads for its queues
// lies anywhere on the disk.
const readers = 4

// readAll reads each of some keys.
func readAll(keys [][]byte, read func(i int)) {
	parts := min(4*readers, len(keys))
	crypto.ForkJoin(parts, readers, func(part int) {
		for i := part; i < len(keys); i += parts {
			read(i)
		}
	})
}
