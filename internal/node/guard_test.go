package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/store"
)

// guarded is a validator's home, of which only keys and logs are looked at.
type guarded struct {
	testing.TB
	home string
}

// start does what Open does with the keys, and returns whether they are fresh and
// which logs there are.
func (h *guarded) start(g *chain.Genesis, keys ...string) (fresh bool, epochs []consensus.Epoch) {
	h.Helper()
	st, err := store.OpenMemory(store.Options{})
	if err != nil {
		h.Fatal(err)
	}
	if err := commitGenesis(g, st); err != nil {
		h.Fatal(err)
	}
	d := Deps{Genesis: g, Store: st, Log: quiet()}
	d.Logs = h.logs()
	if err := d.openKeys(h.home, keys); err != nil {
		h.Fatal(err)
	}
	if len(d.ConsensusKeys) != len(keys) {
		h.Fatalf("%d keys of %d files", len(d.ConsensusKeys), len(keys))
	}
	epochs, err = d.Logs.Epochs()
	if err := errors.Join(err, d.Logs.Close(), st.Close()); err != nil {
		h.Fatal(err)
	}
	return d.Fresh, epochs
}

func (h *guarded) logs() *store.Logs {
	h.Helper()
	logs, err := store.OpenLogs(filepath.Join(h.home, dataDir))
	if err != nil {
		h.Fatal(err)
	}
	return logs
}

// run writes what a node in an epoch does.
func (h *guarded) run(epoch consensus.Epoch) {
	h.Helper()
	logs := h.logs()
	if err := errors.Join(logs.Append(epoch, [][]byte{[]byte("a vote")}), logs.Close()); err != nil {
		h.Fatal(err)
	}
}

func (h *guarded) lose() {
	h.Helper()
	if err := os.RemoveAll(filepath.Join(h.home, dataDir)); err != nil {
		h.Fatal(err)
	}
}

// TestUsedKeyIsNotFresh starts a validator again and again: as it was, after its
// data directory was lost, and on another chain.
func TestUsedKeyIsNotFresh(t *testing.T) {
	h := &guarded{TB: t, home: t.TempDir()}
	if _, err := MakeConsensusKey(h.home); err != nil {
		t.Fatal(err)
	}
	g, other := testGenesis(t), testGenesis(t)
	other.TimeMs++
	nothing := func() {}
	for i, step := range []struct {
		before func()
		chain  *chain.Genesis
		fresh  bool
		logs   int
	}{
		{nothing, g, true, 1},                 // begins the log of the first epoch
		{nothing, g, true, 1},                 // it ended before it wrote to it
		{func() { h.run(1) }, g, true, 1},     // its log says what it signed
		{func() { h.run(3) }, g, false, 2},    // it lived on, and lost its blocks
		{h.lose, g, false, 0},                 // and is lost
		{nothing, g, false, 0},                // for good
		{func() { h.run(7) }, g, false, 1},    // it joined a later epoch
		{h.lose, g, false, 0},                 // and lost that log
		{h.lose, other, true, 1},              // a chain on which the key was never used
		{func() { h.run(1) }, other, true, 1}, // and is now
	} {
		step.before()
		fresh, epochs := h.start(step.chain, ConsensusKeyFile)
		if fresh != step.fresh || len(epochs) != step.logs {
			t.Errorf("start %d: fresh %v with logs of epochs %v, want %v and %d", i, fresh, epochs, step.fresh, step.logs)
		}
	}
}

// TestAKeyFromElsewhereIsNotFresh restores a key from its backup into an empty
// home: it may have signed in any epoch, whatever the home knows.
func TestAKeyFromElsewhereIsNotFresh(t *testing.T) {
	h := &guarded{TB: t, home: t.TempDir()}
	if err := WriteKey(filepath.Join(h.home, ConsensusKeyFile), keyOf(0, 'c')); err != nil {
		t.Fatal(err)
	}
	g := testGenesis(t)
	for range 2 {
		if fresh, epochs := h.start(g, ConsensusKeyFile); fresh || len(epochs) != 0 {
			t.Errorf("fresh %v, with logs of epochs %v", fresh, epochs)
		}
	}
}

// TestASecondKeyLeavesTheLogsAlone brings another key into a home that has logs,
// which name the keys that they are complete for: the first one signs on.
func TestASecondKeyLeavesTheLogsAlone(t *testing.T) {
	h := &guarded{TB: t, home: t.TempDir()}
	g := testGenesis(t)
	_, err := MakeConsensusKey(h.home)
	if err := errors.Join(err, WriteKey(filepath.Join(h.home, "next.key"), keyOf(1, 'c'))); err != nil {
		t.Fatal(err)
	}
	h.start(g, ConsensusKeyFile)
	h.run(1)
	for range 2 {
		if fresh, epochs := h.start(g, ConsensusKeyFile, "next.key"); !fresh || len(epochs) != 1 {
			t.Errorf("with a second key: fresh %v with logs of epochs %v, want true and one", fresh, epochs)
		}
	}
	if _, err := os.Stat(filepath.Join(h.home, "next.signed")); err != nil {
		t.Errorf("the second key has no marker: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	home := t.TempDir()
	d := Deps{Genesis: testGenesis(t), Log: quiet()}
	if err := d.openKeys(home, []string{ConsensusKeyFile}); err != nil || len(d.ConsensusKeys) != 0 {
		t.Errorf("a home without keys: %v, %d keys; want an observer", err, len(d.ConsensusKeys))
	}
	if err := d.openKeys(home, []string{"next.key"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key file that is named and not there: %v", err)
	}
}
