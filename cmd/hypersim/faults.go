package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/sim"
)

// faults is a set of things that go wrong.
type faults uint

const (
	faultLoss      faults = 1 << iota // packets are lost
	faultDelay                        // packets are late
	faultDuplicate                    // packets arrive twice
	faultReorder                      // packets overtake each other
	faultPartition                    // nodes are cut off from each other
	faultCrash                        // nodes die and forget what they did not sync
	faultSkew                         // clocks disagree, drift and jump
	faultDisk                         // disks are full, or fail to sync
	faultLostLog                      // logs are lost, or replaced by old copies
	faultEpoch                        // committees change every few blocks

	faultTwins       // two nodes run under one key
	faultEquivocate  // two proposals, two votes
	faultSilent      // a validator that never speaks
	faultWithhold    // votes that only some get
	faultImpersonate // votes in the name of others
	faultReplay      // old messages, also of old epochs
	faultForge       // false certificates, blocks and answers
	faultFlood       // a leader with dozens of proposals

	allFaults = faultFlood<<1 - 1
	// byzantine are the faults of validators that do not follow the protocol,
	// for the whole of a simulation. Most others come and go with storms.
	byzantine = faultTwins | faultEquivocate | faultSilent | faultWithhold | faultImpersonate | faultReplay | faultForge | faultFlood
	stormy    = faultLoss | faultDelay | faultDuplicate | faultReorder | faultPartition | faultCrash | faultSkew | faultDisk | faultLostLog | faultTwins
)

var faultNames = []struct {
	fault faults
	name  string
}{
	{faultLoss, "loss"},
	{faultDelay, "delay"},
	{faultDuplicate, "duplicate"},
	{faultReorder, "reorder"},
	{faultPartition, "partition"},
	{faultCrash, "crash"},
	{faultSkew, "skew"},
	{faultDisk, "disk"},
	{faultLostLog, "lostlog"},
	{faultEpoch, "epoch"},
	{faultTwins, "twins"},
	{faultEquivocate, "equivocate"},
	{faultSilent, "silent"},
	{faultWithhold, "withhold"},
	{faultImpersonate, "impersonate"},
	{faultReplay, "replay"},
	{faultForge, "forge"},
	{faultFlood, "flood"},
}

// parseFaults reads "all", "none" or names with commas between them.
func parseFaults(text string) (faults, error) {
	switch text {
	case "all":
		return allFaults, nil
	case "none":
		return 0, nil
	}
	set := faults(0)
	for name := range strings.SplitSeq(text, ",") {
		i := slices.IndexFunc(faultNames, func(f struct {
			fault faults
			name  string
		}) bool {
			return f.name == name
		})
		if i < 0 {
			return 0, fmt.Errorf("fault %q is unknown, want all, none, or of %s", name, strings.ReplaceAll(allFaults.list(), ",", ", "))
		}
		set |= faultNames[i].fault
	}
	return set, nil
}

// String returns the set as parseFaults reads it.
func (f faults) String() string {
	if f == allFaults {
		return "all"
	}
	if f == 0 {
		return "none"
	}
	return f.list()
}

func (f faults) list() string {
	var names []string
	for _, known := range faultNames {
		if f&known.fault != 0 {
			names = append(names, known.name)
		}
	}
	return strings.Join(names, ",")
}

// draw keeps each fault of the set with an even chance.
func (f faults) draw(rand *sim.Rand) faults { return f & faults(rand.Uint64()) }

const ms = time.Millisecond

// fairWeather is a data centre's network.
func fairWeather() sim.Weather {
	return sim.Weather{DelayMin: ms, DelayMax: 8 * ms, InOrder: true}
}

// weather is the network under the faults of the set.
func (f faults) weather(rand *sim.Rand) sim.Weather {
	w := fairWeather()
	if f&faultLoss != 0 {
		w.Loss = 20 + rand.Below(300)
	}
	if f&faultDelay != 0 {
		w.Late, w.LateMax = 20+rand.Below(300), rand.Between(10*ms, 800*ms)
	}
	if f&faultDuplicate != 0 {
		w.Duplicate = 20 + rand.Below(300)
	}
	w.InOrder = f&faultReorder == 0
	return w
}

// sides splits n nodes at random.
func sides(rand *sim.Rand, n int) []int {
	side := make([]int, n)
	for i := range side {
		side[i] = rand.Below(2)
	}
	return side
}
