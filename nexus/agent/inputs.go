package agent

import (
	"errors"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/nexus/blob"
)

// The inputs of a lease are fetched once it is open: a bid binds from when it is signed, and an offer is no reason to
// fetch gigabytes for. What they take at the line's rate is asked for in the terms, before the bid. From then on it is
// the servers' doing that they are not here: a cluster that withholds them, or hands them out by drops, finds no miss in
// that, and the node's stake is not at its mercy.

// unnamedLineKiB is the rate, in KiB a second, at which inputs are expected on a line of which the owner names none.
const unnamedLineKiB = 1_024

// lineKiB is the rate at which inputs are expected, in KiB a second.
func (c *Config) lineKiB() uint64 {
	if c.BandwidthKiB == 0 {
		return unnamedLineKiB
	}
	return c.BandwidthKiB
}

// fetchMs is how long so many bytes take at that rate, rounded up.
func (c *Config) fetchMs(bytes uint64) uint64 {
	const second = uint64(time.Second / time.Millisecond)
	rate := c.lineKiB() << 10
	return bytes/rate*second + (bytes%rate*second+rate-1)/rate
}

// storeBytes is the room for inputs and outputs: half of disk_mib.
func (c *Config) storeBytes() uint64 { return c.DiskMiB << 20 / 2 }

// asks notes that servers are asked for inputs that take so long: after that it is for them to answer.
func (t *task) asks(takesMs uint64) {
	if t.withheld != nil {
		t.withheld.CompareAndSwap(0, uint64(timeMs(time.Now()))+takesMs)
	}
}

// refused notes why an input could not be had of servers that are connected: if none of them has it, that is theirs to
// answer from now on.
func (t *task) refused(err error) {
	if t.withheld != nil && errors.Is(err, blob.ErrNotFound) {
		t.withheld.Store(min(t.withheld.Load(), uint64(timeMs(time.Now()))))
	}
}

// fetched notes how asking for the inputs ended. Servers that gave up nothing are asked again; what this node's own disk
// did is its own to answer.
func (t *task) fetched(err error) {
	if t.withheld == nil {
		return
	}
	_, missing := errors.AsType[*missingError](err)
	if _, disk := errors.AsType[*os.PathError](err); !missing || disk {
		t.withheld.Store(0)
	}
}

// lacksInputs reports whether a lease's service does not run because its servers do not hand its inputs out.
func (t *task) lacksInputs(now time.Time) bool {
	if t.withheld == nil {
		return false
	}
	since := t.withheld.Load()
	return since > 0 && uint64(timeMs(now)) >= since
}
