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

// start does what Open does with the keys, and returns what it knows of them and
// which logs there are.
func (h *guarded) start(g *chain.Genesis, keys ...string) (Deps, []consensus.Epoch) {
	h.Helper()
	d := Deps{Genesis: g, Log: quiet(), Logs: h.logs()}
	if err := d.openKeys(h.home, keys); err != nil {
		h.Fatal(err)
	}
	if len(d.ConsensusKeys) != len(keys) {
		h.Fatalf("%d keys of %d files", len(d.ConsensusKeys), len(keys))
	}
	epochs, err := d.Logs.Epochs()
	if err := errors.Join(err, d.Logs.Close()); err != nil {
		h.Fatal(err)
	}
	return d, epochs
}

func (h *guarded) logs() *store.Logs {
	h.Helper()
	logs, err := store.OpenLogs(filepath.Join(h.home, dataDir))
	if err != nil {
		h.Fatal(err)
	}
	return logs
}

// run starts the node and does what it does in an epoch.
func (h *guarded) run(g *chain.Genesis, epoch consensus.Epoch) {
	h.Helper()
	d := Deps{Genesis: g, Log: quiet(), Logs: h.logs()}
	err := d.openKeys(h.home, []string{ConsensusKeyFile})
	if err == nil {
		err = markedLogs{d.Logs, d.marks}.Append(epoch, [][]byte{[]byte("a vote")})
	}
	if err := errors.Join(err, d.Logs.Close()); err != nil {
		h.Fatal(err)
	}
}

// drop takes the log of an epoch away.
func (h *guarded) drop(epoch consensus.Epoch) {
	h.Helper()
	logs := h.logs()
	if err := errors.Join(logs.Delete(epoch), logs.Close()); err != nil {
		h.Fatal(err)
	}
}

func (h *guarded) lose() {
	h.Helper()
	if err := os.RemoveAll(filepath.Join(h.home, dataDir)); err != nil {
		h.Fatal(err)
	}
}

// TestUsedKeyIsNotFresh starts a validator again and again: as it was, after
// logs were lost, and on another chain.
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
		begun  consensus.Epoch // 0: fresh
		logs   int
	}{
		{nothing, g, 0, 0},
		{nothing, g, 0, 0},                        // it ended before it wrote
		{func() { h.run(g, 1) }, g, 1, 1},         // its log says what it signed
		{func() { h.run(g, 2) }, g, 2, 2},         // it ended before it dropped the older one
		{func() { h.drop(2) }, g, 2, 1},           // and the newer one is lost alone
		{func() { h.run(g, 3) }, g, 3, 2},         // it lived on
		{h.lose, g, 3, 0},                         // and lost everything
		{nothing, g, 3, 0},                        // for good
		{func() { h.run(g, 7) }, g, 7, 1},         // it joined a later epoch
		{h.lose, g, 7, 0},                         // and lost that log
		{func() { h.run(g, 5) }, g, 7, 1},         // the number only rises
		{h.lose, other, 0, 0},                     // a chain on which the key was never used
		{func() { h.run(other, 1) }, other, 1, 1}, // and is now
		{func() { h.drop(1) }, other, 1, 0},       // and its log is lost
		{nothing, g, 7, 0},                        // it is back on the first chain
		{func() { h.run(g, 8) }, g, 8, 1},         // and lives on there
		{h.lose, other, 1, 0},                     // the other one is not forgotten either
		{nothing, g, 8, 0},
	} {
		step.before()
		d, epochs := h.start(step.chain, ConsensusKeyFile)
		if d.Begun != step.begun || d.Fresh != (step.begun == 0) || len(epochs) != step.logs {
			t.Errorf("start %d: epoch %d was begun, fresh %v, with logs of epochs %v, want %d and %d", i, d.Begun, d.Fresh, epochs, step.begun, step.logs)
		}
	}
}

// TestTheMarkerIsThereBeforeTheVote has the marker fail: the append does, so that
// nothing leaves the node, and the log that is there speaks at the next start.
func TestTheMarkerIsThereBeforeTheVote(t *testing.T) {
	h := &guarded{TB: t, home: t.TempDir()}
	if _, err := MakeConsensusKey(h.home); err != nil {
		t.Fatal(err)
	}
	g := testGenesis(t)
	d := Deps{Genesis: g, Log: quiet(), Logs: h.logs()}
	if err := d.openKeys(h.home, []string{ConsensusKeyFile}); err != nil {
		t.Fatal(err)
	}
	logs := markedLogs{d.Logs, d.marks}
	obstacle := filepath.Join(h.home, "consensus.signed.tmp")
	err := os.Mkdir(obstacle, 0o700)
	if err == nil {
		err = logs.Append(1, [][]byte{[]byte("a vote")})
	}
	if !errors.Is(err, store.ErrDisk) {
		t.Errorf("an append without its marker: %v", err)
	}
	if err := errors.Join(os.Remove(obstacle), d.Logs.Close()); err != nil {
		t.Fatal(err)
	}
	if d, _ := h.start(g, ConsensusKeyFile); d.Begun != 1 {
		t.Errorf("epoch %d was begun", d.Begun)
	}
	h.drop(1)
	if d, _ := h.start(g, ConsensusKeyFile); d.Begun != 1 || d.Fresh {
		t.Errorf("after the loss of the log epoch %d was begun, fresh %v", d.Begun, d.Fresh)
	}
}

// TestAKeyFromElsewhereIsNotFresh restores a key from its backup into an empty
// home, and over a key that was made there: it may have signed in any epoch,
// whatever the home knows.
func TestAKeyFromElsewhereIsNotFresh(t *testing.T) {
	for _, prepare := range []func(home string) error{
		func(string) error { return nil },
		func(home string) error {
			_, err := MakeConsensusKey(home)
			return errors.Join(err, os.Remove(filepath.Join(home, ConsensusKeyFile)))
		},
		func(home string) error {
			return os.WriteFile(filepath.Join(home, "consensus.signed"), []byte("unused\n"), 0o600)
		},
	} {
		h := &guarded{TB: t, home: t.TempDir()}
		if err := errors.Join(prepare(h.home), WriteKey(filepath.Join(h.home, ConsensusKeyFile), keyOf(0, 'c'))); err != nil {
			t.Fatal(err)
		}
		g := testGenesis(t)
		for range 2 {
			if d, epochs := h.start(g, ConsensusKeyFile); d.Fresh || d.Begun != 1 || len(epochs) != 0 {
				t.Errorf("fresh %v, epoch %d was begun, with logs of epochs %v", d.Fresh, d.Begun, epochs)
			}
		}
		g.TimeMs++
		if d, _ := h.start(g, ConsensusKeyFile); d.Fresh {
			t.Error("fresh on another chain, because this home knows what it did on one")
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
	h.run(g, 4)
	for range 2 {
		if d, epochs := h.start(g, ConsensusKeyFile, "next.key"); d.Begun != 4 || len(epochs) != 1 {
			t.Errorf("with a second key: epoch %d was begun, with logs of epochs %v, want 4 and one", d.Begun, epochs)
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
