package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// TestPromisesAreBounded: the first of a sequence is remembered and shown against a second that
// differs, until as many others came after it as there is room for.
func TestPromisesAreBounded(t *testing.T) {
	accepted := func(sequence uint64, order byte) *chain.AcceptedOrder {
		return &chain.AcceptedOrder{Acceptance: chain.Acceptance{Sequence: sequence, Order: [32]byte{order}}}
	}
	p := settlement.NewPromises(2)
	for i, step := range []struct {
		a      *chain.AcceptedOrder
		broken bool
	}{
		{accepted(1, 1), false}, {accepted(1, 1), false}, {accepted(1, 2), true}, {accepted(2, 1), false}, {accepted(1, 3), true},
		{accepted(3, 1), false}, {accepted(1, 2), false}, {accepted(3, 2), true},
	} {
		first, broken := p.Note(step.a)
		if broken != step.broken || broken && (first.Acceptance.Sequence != step.a.Acceptance.Sequence || first.Acceptance.Order[0] != 1) {
			t.Errorf("step %d: %v, against %+v", i, broken, first.Acceptance)
		}
	}
}
