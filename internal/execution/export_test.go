package execution

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// What tests look at from inside.
var (
	NextBaseFee = nextBaseFee
	QueueGas    = queueGas
)

// CheckConserved checks changes of a state.
func CheckConserved(parent state.Reader, changes []state.Change) error {
	return checkConserved(parent, changes, func(i int) ([]byte, bool) { return parent.Get(changes[i].Key) })
}

// CheckLocks checks what a change makes of a state: as a block does, and as who looks at the whole.
func CheckLocks(parent state.Reader, change func(state.KV)) (block, whole error) {
	kv := state.NewOverlay(parent)
	change(kv)
	_, whole = Recompute(kv)
	return checkLocks(parent, kv, kv.Changes(), kv.Before), whole
}

// GasOfEmptyRange is what a transaction pays for looking where nothing is.
func GasOfEmptyRange() uint64 {
	table := GasTableV1()
	m := &meter{table: &table, limit: 1 << 20}
	kv := &meteredKV{kv: state.NewOverlay(state.NewMemoryBackend()), meter: m}
	for range kv.Iterate([]byte{1}, []byte{2}) {
		panic("an empty state has a record")
	}
	return m.used
}

// IntrinsicGas is what a transaction needs before its first message runs.
func IntrinsicGas(tx *chain.DecodedTx) uint64 {
	table := GasTableV1()
	return table.intrinsic(tx)
}

// GivenBack is what a transaction of one message, that said this, gets back of what it needed
// before that message ran.
func GivenBack(tx *chain.VerifiedTx, said chain.Events) uint64 {
	table := GasTableV1()
	if _, ok := tx.Tx().Body.Messages[0].(chain.Settle); ok {
		return table.settled(tx.ClaimsSigned(0), said)
	}
	return 0
}

// ShareOut is shareOut of queues in which so many entries are due, and returns how many of
// each were done.
func ShareOut(weights []uint64, most, due []int, budget uint64, turn int) []int {
	done, queues := make([]int, len(due)), make([]queue, len(due))
	for i := range due {
		queues[i] = queue{weights[i], most[i], func(limit int) (chain.Events, int) {
			n := min(limit, due[i]-done[i])
			done[i] += n
			return nil, n
		}}
	}
	shareOut(queues, budget, turn)
	return done
}
