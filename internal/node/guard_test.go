package node

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/store"
)

// TestUsedKeyDoesNotSignWithoutItsLog starts a validator again and again: as it
// was, after its data directory was lost, and after that.
func TestUsedKeyDoesNotSignWithoutItsLog(t *testing.T) {
	home := t.TempDir()
	data, marker := filepath.Join(home, dataDir), filepath.Join(home, signedFile)
	key := crypto.PrivateKeyFromSeed([32]byte{9})
	// start does what Open does with the key and the log, and reports whether the
	// node may sign.
	start := func(g *chain.Genesis) bool {
		t.Helper()
		d := Deps{Genesis: g, ConsensusKey: key, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		var err error
		if d.Logs, err = store.OpenLogs(data); err != nil {
			t.Fatal(err)
		}
		if err := d.guardKey(marker); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Logs.Open(1); err != nil {
			t.Fatal(err)
		}
		if err := d.markKey(marker); err != nil {
			t.Fatal(err)
		}
		if err := d.Logs.Close(); err != nil {
			t.Fatal(err)
		}
		return !d.ConsensusKey.IsZero()
	}
	lose := func() {
		t.Helper()
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
	}
	g, other := &chain.Genesis{ChainID: "guard-1"}, &chain.Genesis{ChainID: "guard-2"}
	for i, step := range []struct {
		before func()
		chain  *chain.Genesis
		signs  bool
	}{
		{func() {}, g, true},
		{func() {}, g, true},
		{lose, g, false},
		{func() {}, g, false},
		{lose, g, false},
		{lose, other, true}, // a chain on which the key was never used
		{func() {}, other, true},
	} {
		step.before()
		if got := start(step.chain); got != step.signs {
			t.Errorf("start %d: signs %v, want %v", i, got, step.signs)
		}
	}
}
