package execution_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
)

// TestEpochs closes epochs by the clock and follows the chain of committees.
func TestEpochs(t *testing.T) {
	w := newWorld(t)
	const epochMs = day
	for n := uint64(1); n <= 4; n++ {
		before := staking.EpochOf(w.state)
		h := w.header(epochMs - 1 - uint64(w.now-before.StartMs))
		if h.Closing || h.Epoch != n {
			t.Fatalf("epoch %d closes early: %+v", n, h)
		}
		w.block(epochMs - 1 - uint64(w.now-before.StartMs))
		last := w.header(1 + n)
		if !last.Closing || last.Committee != before.Committee || last.NextCommittee != before.Next {
			t.Fatalf("epoch %d: closing header %+v", n, last)
		}
		w.block(1 + n)
		after := staking.EpochOf(w.state)
		want := staking.Epoch{Number: before.Number + 1, StartHeight: w.height, StartMs: w.now, GenesisMs: genesisTime, Committee: before.Next, Next: after.Next}
		if after != want || after.Next == before.Next {
			t.Fatalf("after epoch %d: %+v, want %+v", n, after, want)
		}
		committee, members, ok := staking.CommitteeOf(w.state, after.Number+1)
		if !ok || committee.Digest() != after.Next || len(members) != 4 {
			t.Fatalf("committee of epoch %d: %v", after.Number+1, members)
		}
	}
}

func TestHeadersOfAnotherEpoch(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(h *chain.Header){
		"epoch 2, want 1":  func(h *chain.Header) { h.Epoch = 2 },
		"committee 00":     func(h *chain.Header) { h.Committee = [32]byte{} },
		"next committee 0": func(h *chain.Header) { h.NextCommittee = [32]byte{} },
		"closing is true":  func(h *chain.Header) { h.Closing = true },
		"closing is false": func(h *chain.Header) { h.TimeMs += day },
	} {
		h := w.header(1)
		change(h)
		_, err := w.x.Apply(w.state, h, staking.Extras{}, nil)
		if !errors.Is(err, execution.ErrInvalidBlock) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalidBlock with %q", err, name)
		}
	}
}
