package sdk_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestPinCost: by the KiB that is begun and the period, within what the chain takes.
func TestPinCost(t *testing.T) {
	const most = 64 << 20
	for _, c := range []struct {
		native, periods uint64
		nano            uint64 // 0: there is no such pin
	}{
		{1, 1, 1_000_000}, {1024, 1, 1_000_000}, {1025, 1, 2_000_000}, {3_700_000, 7, 7 * 3_614_000_000}, {most, 30, 30 * 65_536_000_000},
		{most + 1, 1, 0}, {1, 0, 0}, {1, chain.MaxPinPeriods + 1, 0}, {1<<64 - 1, 1, 0}, {1, 1<<64 - 1, 0},
	} {
		cost, err := sdk.PinCost(&api.ContractCode{Native: api.Uint64(c.native)}, c.periods)
		if cost.Nano() != c.nano || (err != nil) != (c.nano == 0) {
			t.Errorf("%d bytes for %d periods: %s, %v, want %d nHYPER", c.native, c.periods, cost, err, c.nano)
		}
	}
}
